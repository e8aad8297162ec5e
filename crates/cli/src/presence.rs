//! `smart-record presence`: announces a client at a node in this process, and finds clients.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Subcommand;
use futures::StreamExt;
use libp2p::{PeerId, identity::Keypair};
use libp2p_smart_record::{
    Clock, SystemClock,
    presence::{Announcer, ExchangeKey, PresenceKey, PresenceLimits},
    presence_publisher::{LocalNode, PresencePublisher, PublisherConfig, PublisherState, find},
};

use crate::{
    content,
    failure::{self, Failure},
    keys,
    network::{NetworkArguments, answered, lifetime},
    output::{Format, progress},
    stop::Stop,
};

#[derive(Subcommand)]
pub enum Command {
    /// Announces a client at a node, keeps the announcement alive until the command is stopped, and
    /// withdraws it.
    ///
    /// Two keys sign an announcement: that of the client and that of the node at which it can be
    /// reached. This command has both: --key is the client's, --node-key the node's. The nodes of
    /// --connect only store the announcement, because there is no protocol to ask another node for
    /// a signature. For a client whose node is another process, write an app with the library's
    /// `NodeSigner`.
    Announce(Announce),
    /// Shows the nodes at which a client is present.
    Find {
        /// The client's peer id.
        client: PeerId,
        #[command(flatten)]
        network: NetworkArguments,
    },
}

#[derive(clap::Args)]
pub struct Announce {
    /// The client's X25519 public key, in hexadecimal.
    #[arg(long, value_parser = exchange_key)]
    presence_key: ExchangeKey,
    /// The node's X25519 public key, in hexadecimal.
    #[arg(long, value_parser = exchange_key)]
    handshake_key: ExchangeKey,
    /// The file of the node's key, from `smart-record key generate`. Without it a fresh key is
    /// used.
    #[arg(long, value_name = "FILE")]
    node_key: Option<PathBuf>,
    /// How long the announcement can be found if the command ends without withdrawing it, as in a
    /// crash.
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    #[command(flatten)]
    network: NetworkArguments,
}

fn exchange_key(text: &str) -> Result<ExchangeKey, String> {
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let bytes = bytes.ok_or("not hexadecimal")?;
    ExchangeKey::try_from(&bytes[..]).map_err(|error| error.to_string())
}

pub async fn run(command: Command, format: Format) -> Result<ExitCode> {
    match command {
        Command::Announce(arguments) => announce(arguments, format).await,
        Command::Find { client, network } => look(client, network, format).await,
    }
}

async fn announce(arguments: Announce, format: Format) -> Result<ExitCode> {
    let Announce { presence_key, handshake_key, node_key, ttl, network } = arguments;
    let mut stop = Stop::new()?;
    let client = network.keypair()?;
    let host = node_key.as_deref().map_or_else(|| Ok(Keypair::generate_ed25519()), keys::read)?;
    let node = network.join_as(host.clone()).await?;
    let limits = PresenceLimits::default();
    let key = PresenceKey::of(client.public().to_peer_id());
    let announcer = Announcer::new(key, client, limits.clone())?;
    let signer = LocalNode::new(host, handshake_key, limits);
    let config = PublisherConfig::default().with_ttl(ttl);
    let (mut publisher, task) =
        PresencePublisher::new(node.client().clone(), announcer, signer, presence_key, config);
    tokio::spawn(task);
    let mut is_announced = false;
    loop {
        let next = async {
            match is_announced {
                true => publisher.next().await,
                false => progress("announcing", publisher.next()).await,
            }
        };
        tokio::select! {
            state = next => match state {
                Some(PublisherState::Announced { announcement, peers }) => {
                    is_announced |= !peers.is_empty();
                    if peers.is_empty() {
                        failure::warn(format.is_json(), "no peer acknowledged it yet; trying again");
                    } else {
                        let rows = || content::announcements([&announcement], SystemClock.now());
                        format.rows(|| content::announcement(&announcement), rows)?;
                    }
                }
                Some(PublisherState::Failed { error, retry_in }) => {
                    let message = format!("{error}; trying again in {} s", retry_in.as_secs());
                    failure::warn(format.is_json(), &message);
                }
                Some(PublisherState::GaveUp { error }) => return Err(error.into()),
                _ => return Ok(ExitCode::SUCCESS),
            },
            _ = stop.asked() => break,
        }
    }
    tokio::select! {
        withdrawn = progress("withdrawing", publisher.withdraw()) => drop(withdrawn?),
        _ = stop.asked() => return Err(Failure::StoppedTwice.into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(client: PeerId, network: NetworkArguments, format: Format) -> Result<ExitCode> {
    let node = network.join().await?;
    let (key, limits) = (PresenceKey::of(client), PresenceLimits::default());
    let found = progress("looking", find(node.client(), &key, &limits)).await;
    let found = answered(&node, found).await??;
    if found.is_empty() {
        return Err(Failure::NotFound(key.to_string()).into());
    }
    if format.is_json() {
        for announcement in &found {
            format.line(|| content::announcement(announcement), String::new)?;
        }
    } else {
        format.rows(Default::default, || content::announcements(&found, SystemClock.now()))?;
    }
    Ok(ExitCode::SUCCESS)
}
