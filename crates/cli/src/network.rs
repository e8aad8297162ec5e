//! Arguments and checks that all network commands share: how they join, with which key, and whether
//! a peer answered.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use libp2p::{Multiaddr, StreamProtocol, identity::Keypair, kad, pnet::PreSharedKey};
use libp2p_smart_record::{
    RecordKey,
    client::ClientError,
    query::Reading,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_host::{Host, HostBuilder};

use crate::{failure::Failure, files, keys};

/// How long a command waits at its end for what goes on in the background: further replicas of a
/// write, and repairs.
const AFTER: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct NetworkArguments {
    /// The address of a node to join through, as `smart-record node` prints it, ending in
    /// `/p2p/<peer id>`; it may have a name (/dns4/example.org/tcp/4001/p2p/…). May be repeated.
    #[arg(long, short, value_name = "ADDRESS", value_parser = keys::address)]
    pub connect: Vec<Multiaddr>,
    /// The file of the signing key, from `smart-record key generate` or `ipfs key export`, or in
    /// PEM (PKCS #8). Without it a fresh key is used, except where one has to be known.
    #[arg(long, short, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The protocol of the DHT. Nodes with the same protocol form one DHT.
    #[arg(long, default_value = "/smart-record/kad/1.0.0", value_parser = protocol)]
    protocol: StreamProtocol,
    /// Joins the private network of the key in this file, which has the form of IPFS's `swarm.key`:
    /// the lines `/key/swarm/psk/1.0.0/` and `/base16/`, and 64 hexadecimal digits. TCP only.
    #[arg(long, value_name = "FILE")]
    network_key: Option<PathBuf>,
}

/// The key of a private network.
fn network_key(file: &Path) -> Result<PreSharedKey, Failure> {
    let name = file.display().to_string();
    let text = files::read(file).map_err(|source| Failure::File {
        file: name.clone(),
        verb: "read",
        source,
    })?;
    let text = String::from_utf8(text).ok().filter(|text| text.is_ascii());
    let key = text.and_then(|text| text.parse().ok());
    key.ok_or_else(|| Failure::Arguments {
        message: format!("the file {name} contains no key of a private network"),
        hint: "it has three lines: /key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits",
    })
}

fn protocol(text: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(text.to_owned()).map_err(|_| "must begin with /".to_owned())
}

impl NetworkArguments {
    /// The signing key.
    pub fn keypair(&self) -> Result<Keypair, Failure> {
        self.key.as_deref().map_or_else(|| Ok(Keypair::generate_ed25519()), keys::read)
    }

    /// Parses the key of a record, in which `self` may stand for the peer id of `--key`.
    pub fn record_key(&self, text: &str) -> Result<RecordKey, Failure> {
        match keys::after_self(text) {
            Some((before, after)) => {
                let file = self.key.as_deref().ok_or(Failure::NoKey)?;
                let owner = keys::read(file)?.public().to_peer_id();
                keys::parse(&format!("{before}{owner}{after}"))
            }
            None => keys::parse(text),
        }
    }

    /// Checks that there is an address to join through.
    pub const fn check_address(&self) -> Result<(), Failure> {
        if self.connect.is_empty() { Err(Failure::NoAddress) } else { Ok(()) }
    }

    /// Joins the network as a client, which other nodes do not send records to.
    pub async fn join(&self) -> Result<Host> {
        self.join_as(self.keypair()?).await
    }

    /// As [`join`](Self::join), with this key.
    pub async fn join_as(&self, keypair: Keypair) -> Result<Host> {
        self.check_address()?;
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
        let mut builder = HostBuilder::with_keypair(keypair)
            .with_store(store)?
            .with_protocol(self.protocol.clone());
        if let Some(file) = &self.network_key {
            builder = builder.with_private_network(network_key(file)?);
        }
        Ok(self.connect.iter().cloned().fold(builder, HostBuilder::bootstrap))
    }
}

/// Waits a little for what goes on in the background. What takes longer ends with this process.
pub async fn finish(node: &Host) {
    let _ = tokio::time::timeout(AFTER, node.client().close()).await;
}

/// Fails if no peer is connected: without peers, "nothing found" has no meaning.
pub async fn check_reached(node: &Host) -> Result<()> {
    if node.peers().await?.is_empty() {
        return Err(Failure::Unreachable.into());
    }
    Ok(())
}

/// The result of a read, if a peer has answered, be it that there is nothing.
pub async fn answered(
    key: &RecordKey,
    node: &Host,
    read: Result<Reading, ClientError>,
) -> Result<Reading> {
    match read {
        Ok(reading) if reading.has_reached_anyone() => Ok(reading),
        Ok(_) | Err(ClientError::Unreachable | ClientError::TimedOut) => {
            check_reached(node).await?;
            Err(Failure::NoAnswer.into())
        }
        Err(ClientError::AnswersRefused(refused)) => {
            Err(Failure::AnswersRefused { key: keys::show(key), refused }.into())
        }
        Err(error) => Err(error).with_context(|| format!("failed to read {}", keys::show(key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_key_of_a_private_network_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("swarm.key");
        let digits = "0f".repeat(32);
        for bad in ["", "no key", "/key/swarm/psk/1.0.0/\n/base16/\n", &"é".repeat(32)] {
            std::fs::write(&file, format!("/key/swarm/psk/1.0.0/\n/base16/\n{bad}")).unwrap();
            let error = network_key(&file).unwrap_err();
            assert!(matches!(error, Failure::Arguments { .. }), "{error}");
            assert!(error.to_string().contains("swarm.key"), "{error}");
        }
        std::fs::write(&file, format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n")).unwrap();
        assert_eq!(network_key(&file).unwrap(), PreSharedKey::new([15; 32]));
        let error = network_key(&folder.path().join("none")).unwrap_err();
        assert!(matches!(error, Failure::File { .. }), "{error}");
    }
}
