//! Arguments and checks that all network commands share: how they join, with which key, and whether
//! a peer answered.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use libp2p::{Multiaddr, StreamProtocol, identity::Keypair, kad};
use libp2p_smart_record::{
    ZeroLifetime,
    behaviour::BehaviourConfig,
    client::ClientError,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_host::{Host, HostBuilder};

use crate::{failure::Failure, keys};

/// Interval between two lookups of a watched key, for a user who looks on.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct NetworkArguments {
    /// The address of a node to join through, as `smart-record node` prints it, ending in
    /// `/p2p/<peer id>`. May be repeated.
    #[arg(long, short, value_name = "ADDRESS", value_parser = keys::address)]
    pub connect: Vec<Multiaddr>,
    /// The file of the signing key, from `smart-record key generate`. Without it a fresh key is
    /// used; `withdraw` requires it.
    #[arg(long, short, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The protocol of the DHT. Nodes with the same protocol form one DHT.
    #[arg(long, default_value = "/smart-record/kad/1.0.0", value_parser = protocol)]
    protocol: StreamProtocol,
}

fn protocol(text: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(text.to_owned()).map_err(|_| "must begin with /".to_owned())
}

/// A lifetime of a record.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    ZeroLifetime::check(ttl).map_err(|error| error.to_string())?;
    Ok(ttl)
}

impl NetworkArguments {
    /// The signing key.
    pub fn keypair(&self) -> Result<Keypair, Failure> {
        self.key.as_deref().map_or_else(|| Ok(Keypair::generate_ed25519()), keys::read)
    }

    /// Joins the network as a client, which other nodes do not send records to.
    pub async fn join(&self) -> Result<Host> {
        self.join_as(self.keypair()?).await
    }

    /// As [`join`](Self::join), with this key.
    pub async fn join_as(&self, keypair: Keypair) -> Result<Host> {
        if self.connect.is_empty() {
            return Err(Failure::NoAddress.into());
        }
        let peer = keypair.public().to_peer_id();
        let store = SmartRecordStore::with_registry(
            peer,
            libp2p_smart_record::built_in(),
            StoreConfig::default(),
        );
        Ok(self.builder(keypair, store)?.with_mode(kad::Mode::Client).start().await?)
    }

    /// A builder of a node in this network.
    pub fn builder(&self, keypair: Keypair, store: SmartRecordStore) -> Result<HostBuilder> {
        let builder = HostBuilder::with_keypair(keypair)
            .with_store(store)?
            .with_config(BehaviourConfig::default().with_watch_interval(WATCH_INTERVAL))
            .with_protocol(self.protocol.clone());
        Ok(self.connect.iter().cloned().fold(builder, HostBuilder::bootstrap))
    }
}

/// Fails if no peer is connected: without peers, "nothing found" has no meaning.
pub async fn check_reached(node: &Host) -> Result<()> {
    if node.peers().await?.is_empty() {
        return Err(Failure::Unreachable.into());
    }
    Ok(())
}

/// Fails if a read has reached no peer. Returns other errors of the read.
pub async fn answered<T>(
    node: &Host,
    read: Result<T, ClientError>,
) -> Result<Result<T, ClientError>> {
    if matches!(read, Ok(_) | Err(ClientError::Unreachable)) {
        check_reached(node).await?;
    }
    match read {
        Err(ClientError::Unreachable) => Err(Failure::NoAnswer.into()),
        read => Ok(read),
    }
}
