//! What every command that goes to the network has in common: how it gets in, as whom, and how long it waits.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use libp2p::{Multiaddr, StreamProtocol, identity::Keypair, kad};
use libp2p_smart_record::{
    Registry, SmartRecordStore, StoreConfig,
    behaviour::BehaviourConfig,
    host::{Node, NodeBuilder},
};

use crate::{failure::Failure, keys};

/// How often a watched key is looked up: somebody looks on.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Network {
    /// A node to begin with, as `smart-record node` prints it: it ends in `/p2p/<peer id>`. May be given again.
    #[arg(long, short, value_name = "ADDRESS")]
    pub connect: Vec<Multiaddr>,
    /// The file of the key to write with, from `smart-record key generate`; without it a fresh one.
    #[arg(long, short, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The protocol of the DHT; all who are to meet need the same.
    #[arg(long, default_value = "/smart-record/kad/1.0.0", value_parser = protocol)]
    protocol: StreamProtocol,
    /// Prints JSON on standard output, one value a line.
    #[arg(long)]
    pub json: bool,
}

fn protocol(text: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(text.to_owned()).map_err(|_| "has to begin with /".to_owned())
}

impl Network {
    /// The key to write with.
    pub fn keypair(&self) -> Result<Keypair> {
        self.key.as_deref().map_or_else(|| Ok(Keypair::generate_ed25519()), keys::read)
    }

    /// Joins the network for a while: others are not sent here.
    pub async fn join(&self) -> Result<Node> {
        if self.connect.is_empty() {
            return Err(Failure::NoAddress.into());
        }
        self.start(self.keypair()?, kad::Mode::Client, &[]).await
    }

    pub async fn start(
        &self,
        keypair: Keypair,
        mode: kad::Mode,
        listen: &[Multiaddr],
    ) -> Result<Node> {
        // A place for a store in a file: `SmartRecordStore::with_storage`.
        let peer = keypair.public().to_peer_id();
        let store =
            SmartRecordStore::with_registry(peer, Registry::built_in(), StoreConfig::default());
        let mut builder = NodeBuilder::with_keypair(keypair)
            .with_store(store)
            .with_config(BehaviourConfig::default().with_watch_interval(WATCH_INTERVAL))
            .with_protocol(self.protocol.clone())
            .with_mode(mode);
        for address in listen {
            builder = builder.listen_on(address.clone());
        }
        for address in &self.connect {
            builder = builder.bootstrap(address.clone());
        }
        builder.start().await.context("the node could not be started")
    }
}

/// Fails if nobody could be reached, so that "there is nothing" is said only by those who could know.
pub async fn check_reached(node: &Node) -> Result<()> {
    if node.peers().await?.is_empty() {
        return Err(Failure::Unreachable.into());
    }
    Ok(())
}
