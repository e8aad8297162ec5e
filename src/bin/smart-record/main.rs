//! The command line of libp2p-smart-record.

#![forbid(unsafe_code)]

mod demo;
mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Signed, mergeable, expiring records on a libp2p Kademlia DHT.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a DHT in this process and shows what smart records do: merge, withdraw, expire, refuse forgeries
    /// and survive the loss of nodes.
    Demo(demo::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
