//! The command line of libp2p-smart-record.

#![forbid(unsafe_code)]

mod demo;
mod failure;
mod inspect;
mod keys;
mod network;
mod node;
mod output;
mod presence;
mod records;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Signed, mergeable, expiring records on a libp2p Kademlia DHT.
#[derive(Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 nothing found, 4 nobody reached, 130 demo interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a DHT in this process and shows what smart records do: merge, withdraw, expire, refuse forgeries
    /// and survive the loss of nodes.
    Demo(demo::Arguments),
    /// Runs a node of the DHT until Ctrl-C, and prints its addresses.
    Node(serve::Arguments),
    /// Merges a document into our space of a record.
    Put(records::Put),
    /// Reads what each writer says under a key.
    Get(records::Read),
    /// Prints a record whenever it changes, until Ctrl-C.
    Watch(records::Read),
    /// Withdraws all that our space of a record says.
    Withdraw(records::Read),
    /// Shows what is in a file with a record.
    Inspect(inspect::Arguments),
    /// Where clients can be reached.
    #[command(subcommand)]
    Presence(presence::Command),
    /// Keys to write with.
    #[command(subcommand)]
    Key(keys::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Node(arguments) => serve::run(arguments).await,
        Command::Put(arguments) => records::put(arguments).await,
        Command::Get(arguments) => records::get(arguments).await,
        Command::Watch(arguments) => records::watch(arguments).await,
        Command::Withdraw(arguments) => records::withdraw(arguments).await,
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Presence(command) => presence::run(command).await,
        Command::Key(command) => keys::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            failure::Failure::code(&error)
        }
    }
}
