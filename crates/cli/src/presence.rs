//! `smart-record presence`: announces a client at a node in this process, and finds clients.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Subcommand;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, SystemClock,
    presence::{
        Announcement, Announcer, ExchangeKey, PresenceKey, PresenceLimits, PresenceValidator,
    },
    presence_publisher::{
        LocalNode, PresencePublisher, PublisherConfig, PublisherError, PublisherState,
    },
    query::ReadPolicy,
};

use smart_record_host::Host;

use crate::{
    content::{self, ContentKind},
    failure::{self, Failure},
    keys,
    lifetimes::{self, Lifetime},
    network::{NetworkArguments, answered, check_reached, finish},
    output::{Format, progress},
    records,
    stop::Stop,
    writing,
};

/// Pauses before the looks for an announcement that was acknowledged.
const CHECKS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3)];

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
        /// The client's peer id, or `self` for that of --key.
        client: String,
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
    /// crash: a duration, or a date.
    #[arg(long, default_value = "1h", value_parser = lifetimes::parse)]
    ttl: Lifetime,
    #[command(flatten)]
    network: NetworkArguments,
}

fn exchange_key(text: &str) -> Result<ExchangeKey, String> {
    let bytes = keys::unhex(text).ok_or("not hexadecimal")?;
    ExchangeKey::try_from(&bytes[..]).map_err(|error| error.to_string())
}

pub async fn run(command: Command, format: Format) -> Result<ExitCode> {
    match command {
        Command::Announce(arguments) => announce(arguments, format).await,
        Command::Find { client, network } => look(&client, &network, format).await,
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
    let config = PublisherConfig::default().with_ttl(ttl.left()?);
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
                    if peers.is_empty() {
                        failure::warn(format.is_json(), "no peer acknowledged it yet; trying again");
                    } else {
                        if !is_announced {
                            check_kept(&node, &announcement, peers.len()).await?;
                            is_announced = true;
                        }
                        let rows = || content::announcements([&announcement], SystemClock.now());
                        format.rows(|| content::announcement(&announcement), rows)?;
                    }
                }
                Some(PublisherState::Failed { error, retry_in }) => {
                    let message = format!("{error}; trying again in {} s", retry_in.as_secs());
                    failure::warn(format.is_json(), &message);
                }
                Some(PublisherState::GaveUp { error }) => return Err(error.into()),
                _ => return Err(PublisherError::Stopped.into()),
            },
            _ = stop.asked() => break,
        }
    }
    let withdrawn = async {
        let publication = publisher.withdraw().await?;
        let key = publication.key.clone();
        // Without a peer that has it, there is nothing to withdraw.
        if is_announced {
            writing::kept(&key, Ok(publication), false, &node, format).await?;
        } else {
            finish(&node).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        withdrawn = progress("withdrawing", withdrawn) => withdrawn
            .context("failed to withdraw the announcement, which can be found until it expires")?,
        _ = stop.asked() => return Err(Failure::StoppedTwice.into()),
    }
    if !is_announced {
        check_reached(&node).await?;
        return Err(Failure::NotTaken.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if no peer shows what some have acknowledged. They may check it before they store it.
async fn check_kept(node: &Host, announcement: &Announcement, acknowledged: usize) -> Result<()> {
    let key = PresenceKey::of(announcement.client());
    let key = key.as_record_key();
    for pause in CHECKS {
        tokio::time::sleep(pause).await;
        let read = node.client().get_with(key.clone(), ReadPolicy::All).await;
        let reading = answered(key, node, read).await?;
        let holds = |value: &[u8]| {
            let record = PresenceValidator::default().read(key, value, reading.snapshot.at);
            record.is_ok_and(|record| record.view(reading.snapshot.at).any(|it| it == announcement))
        };
        let mut values = reading.values().filter(|(peer, _)| peer.is_some());
        if values.any(|(_, value)| holds(value)) || !reading.is_complete() {
            return Ok(());
        }
    }
    Err(Failure::NotKept { key: keys::show(key), acknowledged }.into())
}

async fn look(client: &str, network: &NetworkArguments, format: Format) -> Result<ExitCode> {
    let key = network.record_key(&format!("/{}/{client}/", PresenceKey::NAMESPACE))?;
    let node = network.join().await?;
    let (reading, found) = records::find(&key, &node, format, |content, at| {
        let ContentKind::Presence(record) = content.kind else { return None };
        let found: Vec<Announcement> = record.view(at).cloned().collect();
        (!found.is_empty()).then_some(found)
    })
    .await?;
    if format.is_json() {
        for announcement in &found {
            format.line(|| content::announcement(announcement), String::new)?;
        }
    } else {
        format.rows(Default::default, || content::announcements(&found, reading.snapshot.at))?;
    }
    finish(&node).await;
    Ok(ExitCode::SUCCESS)
}
