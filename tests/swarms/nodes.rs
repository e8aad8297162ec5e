//! Nodes with a `kad::Behaviour` in which only the store was replaced, and what most tests do with
//! them.

use std::time::Duration;

use libp2p::{
    identity::Keypair,
    kad::{self, store::MemoryStore},
};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceSigner, SystemClock,
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::without_coverage;
use smart_record_testing_swarms as swarms;
pub use smart_record_testing_swarms::{NodeError, PROTOCOL, connect, within};

pub type Node = swarms::Node<SmartRecordStore>;

/// Queries of a node with a store of this crate.
pub trait Stored {
    /// The whole record in this node's store.
    async fn stored(&self, key: &RecordKey) -> Result<Option<SmartRecord>, NodeError>;
}

impl Stored for Node {
    async fn stored(&self, key: &RecordKey) -> Result<Option<SmartRecord>, NodeError> {
        let key = key.clone();
        self.store(move |store| store.record(&key).unwrap()).await
    }
}

/// Answers without what they say of their coverage.
pub fn records<T>(found: Vec<(T, Vec<u8>)>) -> Vec<(T, Vec<u8>)> {
    let record = |(from, answer): (T, Vec<u8>)| (from, without_coverage(&answer).to_vec());
    found.into_iter().map(record).collect()
}

/// A node with the default registry and configuration.
pub async fn start() -> Node {
    start_with(Registry::default(), StoreConfig::default(), |_| {}).await
}

/// A node with its own setup of store and Kademlia.
pub async fn start_with(
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    start_at(SystemClock, registry, config, tweak).await
}

/// A node with its own clock.
pub async fn start_at(
    clock: impl Clock,
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    start_as(Keypair::generate_ed25519(), clock, registry, config, tweak).await
}

/// A node with a given keypair.
pub async fn start_as(
    keypair: Keypair,
    clock: impl Clock,
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    let local = keypair.public().to_peer_id();
    let storage = MemoryStorage::default();
    let store = SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap();
    let mut config = store.kad_config(PROTOCOL);
    tweak(&mut config);
    Node::start(keypair, store, config).await
}

/// A node with libp2p's `MemoryStore`, which validates nothing.
pub async fn start_plain(config: kad::Config) -> swarms::Node<MemoryStore> {
    let keypair = Keypair::generate_ed25519();
    let store = MemoryStore::new(keypair.public().to_peer_id());
    swarms::Node::start(keypair, store, config).await
}

/// Two nodes that know each other.
pub async fn pair() -> (Node, Node) {
    let (a, b) = (start().await, start().await);
    connect(&a, &b).await;
    (a, b)
}

/// A new writer under a key.
pub fn signer(key: &RecordKey) -> SpaceSigner {
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    signer.resume(&SmartRecord::new(key.clone()));
    signer
}

/// Adds an update `text`, which lives for ten minutes, and returns the writer's space.
pub fn says(signer: &mut SpaceSigner, text: &str) -> SmartRecord {
    let document: Dict = [("text", text)].into_iter().collect();
    let now = SystemClock.now();
    signer.merge(document, now, Duration::from_secs(600)).expect("a good update");
    signer.record(now)
}
