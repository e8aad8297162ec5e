//! The command line of libp2p-smart-record.
//!
//! Each command is a module; `records` reads and `writing` writes, with what `signing` signs. They
//! share `network` (joining the DHT), `content` and `output` (what is shown), `failure` (how
//! commands fail), `files` (writing them), `keys` (keys, in files and as text), `lifetimes` and
//! `stop` (signals). `metrics` serves those of a node.
//!
//! **Invariants.** Standard output has results alone, with `--json` one JSON value per line.
//! Failures, warnings, progress, logs and panics go to standard error. Each failure has a kind, an
//! exit code and, where there is one, a hint.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "sums of sizes in memory, and counts of the demo"
)]

mod content;
mod demo;
mod failure;
mod files;
mod inspect;
mod key_file;
mod keys;
mod lifetimes;
mod metrics;
mod missing;
mod network;
mod output;
mod presence;
mod records;
mod resolve;
mod serve;
mod signing;
mod stop;
mod writing;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{failure::FailureReport, output::Format};

/// Signed, mergeable, expiring records on a libp2p Kademlia DHT.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true, after_help = failure::HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Prints JSON: results on standard output, one value per line; a failure on standard error.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a DHT in this process and shows smart records at work: merging, withdrawing, expiry,
    /// refused forgeries and the loss of nodes.
    Demo(demo::Arguments),
    /// Runs a node of the DHT until it is stopped, and prints its addresses.
    Node(serve::Arguments),
    /// Signs and publishes: a document of a smart record, what an IPNS name points to, an IPRS
    /// record, or a public key.
    Publish(writing::Publish),
    /// Sends a record of any kind that is signed already.
    Put(writing::Put),
    /// Reads the record of a key.
    Get(records::Get),
    /// Shows what an IPNS name points to.
    Resolve(resolve::Arguments),
    /// Prints a record at each change, until it is stopped.
    Watch(records::Read),
    /// Withdraws everything in our space of a record. Nodes keep the withdrawal until all that it
    /// hides has expired: 48h at most.
    Withdraw(writing::Withdraw),
    /// Shows all details of a record: writers, lifetimes, sizes and holders.
    Inspect(inspect::Arguments),
    /// Announces a client at a node, or finds clients.
    #[command(subcommand)]
    Presence(presence::Command),
    /// Creates and shows signing keys.
    #[command(subcommand)]
    Key(keys::Command),
}

/// Log of a node unless `RUST_LOG` sets another: what libp2p warns about concerns single peers.
const WARNINGS: &str =
    "error,libp2p_smart_record=warn,smart_record_host=warn,smart_record_services=warn";

#[tokio::main]
async fn main() -> ExitCode {
    output::report_panics();
    let Arguments { command, json } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::arguments(&error),
    };
    // The operator of a node sees what to look into; a program reads JSON from standard error.
    let default = if matches!(command, Command::Node(_)) && !json { WARNINGS } else { "error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(output::LogWriter)
        .init();
    match run(command, Format::choose(json)).await {
        Ok(code) => code,
        Err(error) => FailureReport::of(&error).print(json),
    }
}

async fn run(command: Command, format: Format) -> Result<ExitCode> {
    #[cfg(unix)]
    files::report_size_limit()?;
    match command {
        Command::Demo(arguments) => demo::run(arguments, format).await,
        Command::Node(arguments) => serve::run(arguments, format).await,
        Command::Publish(arguments) => writing::publish(arguments, format).await,
        Command::Put(arguments) => writing::put(arguments, format).await,
        Command::Get(arguments) => records::get(arguments, format).await,
        Command::Resolve(arguments) => resolve::run(arguments, format).await,
        Command::Watch(arguments) => records::watch(arguments, format).await,
        Command::Withdraw(arguments) => writing::withdraw(arguments, format).await,
        Command::Inspect(arguments) => inspect::run(arguments, format).await,
        Command::Presence(command) => presence::run(command, format).await,
        Command::Key(command) => keys::run(command, format),
    }
}
