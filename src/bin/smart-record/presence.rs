//! `smart-record presence`: announces a client at a node in this process, and finds clients.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Subcommand;
use futures::StreamExt;
use libp2p::{PeerId, identity::Keypair, kad};
use libp2p_smart_record::{
    presence::{Announcement, Announcer, ExchangeKey, PresenceKey, PresenceLimits},
    presence_publisher::{LocalNode, PresencePublisher, PublisherConfig, PublisherState, find},
};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    network::{Network, check_reached},
    output,
};

#[derive(Subcommand)]
pub enum Command {
    /// Announces the client with --key at a node that runs in this process, until Ctrl-C; then withdraws it.
    Announce {
        /// The client's X25519 public key, in hexadecimal.
        #[arg(long, value_parser = exchange_key)]
        presence_key: ExchangeKey,
        /// The node's X25519 public key, in hexadecimal.
        #[arg(long, value_parser = exchange_key)]
        handshake_key: ExchangeKey,
        /// How long it is found after an end without Ctrl-C.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        #[command(flatten)]
        network: Network,
    },
    /// Says at which nodes a client is present.
    Find {
        /// The client's peer id.
        client: PeerId,
        #[command(flatten)]
        network: Network,
    },
}

fn exchange_key(text: &str) -> Result<ExchangeKey, String> {
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let bytes = bytes.ok_or("not hexadecimal")?;
    ExchangeKey::try_from(&bytes[..]).map_err(|error| error.to_string())
}

pub async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Announce { presence_key, handshake_key, ttl, network } => {
            announce(presence_key, handshake_key, ttl, network).await
        }
        Command::Find { client, network } => look(client, network).await,
    }
}

async fn announce(
    presence_key: ExchangeKey,
    handshake_key: ExchangeKey,
    ttl: Duration,
    network: Network,
) -> Result<ExitCode> {
    if network.connect.is_empty() {
        return Err(Failure::NoAddress.into());
    }
    let (client, host) = (network.keypair()?, Keypair::generate_ed25519());
    let node = network.start(host.clone(), kad::Mode::Client, &[]).await?;
    let limits = PresenceLimits::default();
    let key = PresenceKey::of(client.public().to_peer_id());
    let announcer = Announcer::new(key, client, limits.clone())?;
    let signer = LocalNode::new(host, handshake_key, limits);
    let config = PublisherConfig::default().with_ttl(ttl);
    let (mut publisher, task) =
        PresencePublisher::new(node.client().clone(), announcer, signer, presence_key, config);
    tokio::spawn(task);
    loop {
        tokio::select! {
            state = publisher.next() => match state {
                Some(PublisherState::Announced { announcement, peers }) => {
                    if peers.is_empty() {
                        eprintln!("nobody took it yet; it is tried again");
                    } else {
                        show(&announcement, network.json);
                    }
                }
                Some(PublisherState::Failed { error, retry_in }) => {
                    eprintln!("{error}; tried again in {} s", retry_in.as_secs());
                }
                Some(PublisherState::GaveUp { error }) => return Err(error.into()),
                _ => return Ok(ExitCode::SUCCESS),
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    output::progress("withdrawing", publisher.withdraw()).await.context("it was not withdrawn")?;
    Ok(ExitCode::SUCCESS)
}

async fn look(client: PeerId, network: Network) -> Result<ExitCode> {
    let node = network.join().await?;
    let (key, limits) = (PresenceKey::of(client), PresenceLimits::default());
    let found = output::progress("looking", find(node.client(), &key, &limits)).await?;
    check_reached(&node).await?;
    if found.is_empty() {
        return Err(Failure::NotFound(key.to_string()).into());
    }
    found.iter().for_each(|announcement| show(announcement, network.json));
    Ok(ExitCode::SUCCESS)
}

fn show(announcement: &Announcement, json: bool) {
    let hex = |key: ExchangeKey| -> String {
        key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let found: Value = json!({
        "client": announcement.client().to_string(),
        "node": announcement.node().to_string(),
        "expires_at": announcement.expires_at().to_string(),
        "presence_key": hex(announcement.presence_key()),
        "handshake_key": hex(announcement.handshake_key()),
    });
    if json {
        println!("{found}");
    } else {
        let (client, node) = (announcement.client(), announcement.node());
        println!("{client} is at {node} until {}", announcement.expires_at());
    }
}
