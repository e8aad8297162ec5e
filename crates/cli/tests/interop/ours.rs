//! Nodes of ours: the command `node` as a server, a ready node as a client; and a plain node that
//! sends and reads anything.

use std::{process::Command, time::Duration};

use libp2p::{Multiaddr, PeerId, identity::Keypair, kad, kad::store::MemoryStore};
use libp2p_smart_record::{
    RecordKey,
    client::Publication,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_host::{Host, HostBuilder};
use smart_record_testing::process::Running;
use smart_record_testing_swarms::Node;

use crate::foreign::{Outcome, PROTOCOL, multihash, peer_of, plain};

/// Longest wait for what comes without an answer, far above what it takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a process of its own, and its address.
pub fn server(others: &[&str]) -> (Running, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-record"));
    command.args(["node", "--protocol", PROTOCOL.as_ref()]);
    command.args(others.iter().flat_map(|other| ["--connect", other]));
    let node = Running::spawn(command);
    let address = node.line();
    (node, address)
}

/// The peer id of the key in a file, as the command shows it.
pub fn peer_of_key(file: &str) -> Outcome<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-record"));
    let shown = command.args(["key", "show", file]).output().unwrap();
    match shown.status.success() {
        true => Ok(String::from_utf8(shown.stdout).unwrap().trim().to_owned()),
        false => Err(String::from_utf8_lossy(&shown.stderr).trim().to_owned()),
    }
}

/// A client that knows the peer at this address alone.
pub async fn client(address: &str) -> Host {
    let keypair = Keypair::generate_ed25519();
    let store = SmartRecordStore::with_registry(
        keypair.public().to_peer_id(),
        libp2p_smart_record::built_in(),
        StoreConfig::default(),
    );
    let builder = HostBuilder::with_keypair(keypair).with_store(store).unwrap();
    let builder = builder.with_protocol(PROTOCOL).with_mode(kad::Mode::Client);
    builder.bootstrap(address.parse().unwrap()).start().await.unwrap()
}

/// Writes a value by our client, and fails if the peer has not acknowledged it.
pub async fn put(client: &Host, peer: PeerId, key: &RecordKey, value: Vec<u8>) -> Outcome {
    let publication = client.client().put(key.clone(), value).await;
    acknowledged(publication.map_err(|error| error.to_string())?, peer).await
}

async fn acknowledged(publication: Publication, peer: PeerId) -> Outcome {
    let progress = publication.finished().await;
    match progress.acknowledged().any(|by| by == peer) {
        true => Ok(()),
        false => Err(format!("not acknowledged: {:?}", progress.replicas)),
    }
}

/// Reads by our client; fails unless this is found.
pub async fn expect(client: &Host, key: &RecordKey, value: &[u8]) -> Outcome {
    let reading = client.client().get(key.clone()).await.map_err(|error| error.to_string())?;
    let found = match reading.snapshot.record() {
        Some(record) => Some(record.encode()),
        None => reading.snapshot.value().map(|value| value.to_vec()),
    };
    match found.as_deref() == Some(value) {
        true => Ok(()),
        false => Err(format!("found {found:?}, refused {:?}", reading.refused)),
    }
}

/// A plain client that sends anything, and knows the peer at this address alone.
pub struct Prober {
    node: Node<MemoryStore>,
    peer: PeerId,
    address: Multiaddr,
}

impl Prober {
    pub async fn at(address: &str) -> Self {
        let node = plain(false).await;
        let (peer, address) = peer_of(address);
        node.add(peer, address.clone()).await.unwrap();
        Self { node, peer, address }
    }

    /// Its own id.
    pub fn id(&self) -> PeerId {
        self.node.peer()
    }

    /// Sends a value. An acknowledgement, or the lack of one, says nothing.
    pub async fn send(&self, key: &RecordKey, value: &[u8]) {
        let _ = self.node.put_to(self.peer, key, value.to_vec()).await;
    }

    /// Provides some content through the peer, and waits until the peer gives the provider record:
    /// it is sent without an answer.
    pub async fn provide(&self, content: &[u8]) -> Outcome {
        let provided = self.node.provide(&multihash(content)).await;
        provided.map_err(|error| error.to_string())?;
        self.finds_provider(content, self.node.peer()).await
    }

    /// Waits until the peer gives this provider of some content.
    pub async fn finds_provider(&self, content: &[u8], provider: PeerId) -> Outcome {
        // Another node, because the provider knows itself.
        let reader = plain(false).await;
        reader.add(self.peer, self.address.clone()).await.unwrap();
        let hash = multihash(content);
        let found = async {
            while !reader.providers(&hash).await.unwrap_or_default().contains(&provider) {}
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.map_err(|_| "the provider record is not found".to_owned())
    }

    /// What the peer itself gives under a key.
    pub async fn kept(&self, key: &RecordKey) -> Option<Vec<u8>> {
        let found = self.node.lookup(key).await.unwrap_or_default();
        found.into_iter().find(|(from, _)| *from == Some(self.peer)).map(|(_, value)| value)
    }
}
