//! Real swarms over TCP, and what most tests do with them.

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use crate::clock::ManualClock;
use std::time::Duration;

use libp2p::{identity::Keypair, kad};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SmartRecordStore, SpaceSigner,
    StoreConfig, SystemClock, store::MemoryStorage,
};

#[path = "node.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
pub mod node;

pub use node::{Node, PROTOCOL};

/// Nothing here takes nearly as long, on a busy machine either; a test that hangs should say so.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Fails the test if `work` hangs.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("the test hangs")
}

/// A node with the default registry and configuration.
pub async fn start() -> Node {
    start_with(Registry::default(), StoreConfig::default(), |_| {}).await
}

/// A node whose store and Kademlia are set up in a special way.
pub async fn start_with(
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    start_at(SystemClock, registry, config, tweak).await
}

/// A node with a clock of its own.
pub async fn start_at(
    clock: impl Clock,
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    start_as(Keypair::generate_ed25519(), clock, registry, config, tweak).await
}

/// A node that is a certain peer.
pub async fn start_as(
    keypair: Keypair,
    clock: impl Clock,
    registry: Registry,
    config: StoreConfig,
    tweak: impl FnOnce(&mut kad::Config),
) -> Node {
    let local = keypair.public().to_peer_id();
    let storage = MemoryStorage::default();
    let store = SmartRecordStore::with_storage(local, registry, config, storage, clock);
    let mut config = store.kad_config(PROTOCOL);
    tweak(&mut config);
    Node::start(keypair, store, config).await.expect("a node")
}

/// Makes two nodes known to each other.
pub async fn connect<S, T>(a: &Node<S>, b: &Node<T>)
where
    S: kad::store::RecordStore + Send + 'static,
    T: kad::store::RecordStore + Send + 'static,
{
    a.add(b.peer(), b.address()).await.expect("a runs");
    b.add(a.peer(), a.address()).await.expect("b runs");
}

/// Two nodes that know each other.
pub async fn pair() -> (Node, Node) {
    let (a, b) = (start().await, start().await);
    connect(&a, &b).await;
    (a, b)
}

/// A fresh writer under a key, which has never written before.
pub fn signer(key: &RecordKey) -> SpaceSigner {
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    signer.resume(&SmartRecord::new(key.clone()));
    signer
}

/// What the writer's space says with one update more, `text`, which lives for ten minutes.
pub fn says(signer: &mut SpaceSigner, text: &str) -> SmartRecord {
    let document: Dict = [("text", text)].into_iter().collect();
    let now = SystemClock.now();
    signer.merge(document, now, Duration::from_secs(600)).expect("a good update");
    signer.record(now)
}
