//! `smart-record key`: files with the key of a writer.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use libp2p::identity::Keypair;
use serde_json::json;

#[derive(Subcommand)]
pub enum Command {
    /// Makes a fresh Ed25519 key, and prints the peer id that belongs to it.
    Generate {
        /// The file to write, which must not exist yet; only its owner may read it.
        file: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: Command) -> Result<ExitCode> {
    let Command::Generate { file, json } = command;
    let keypair = Keypair::generate_ed25519();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(&file).with_context(|| {
        format!("{} could not be made; keys are never overwritten", file.display())
    })?;
    opened.write_all(&keypair.to_protobuf_encoding()?)?;
    let peer = keypair.public().to_peer_id().to_string();
    if json {
        println!("{}", json!({ "peer": peer, "file": file.display().to_string() }));
    } else {
        println!("{peer}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a key that [`run`] has written.
pub fn read(file: &Path) -> Result<Keypair> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| {
        format!("{name} could not be read; `smart-record key generate {name}` makes one")
    })?;
    Keypair::from_protobuf_encoding(&bytes)
        .with_context(|| format!("{name} is not a file of `smart-record key generate`"))
}
