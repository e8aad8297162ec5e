//! Keys of every type, the same in every run, and a clock that a test moves.

pub use crate::clock::ManualClock;

use libp2p_identity::{Keypair, ecdsa, secp256k1};
use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    Fault, RecordKey, SmartRecordStore, StoreConfig, StoreEvent, Timestamp,
    store::{Events, MemoryStorage},
};

/// The time at which everything happens, unless a test moves the clock: 2023-11-14T22:13:20Z.
pub const NOW: u64 = 1_700_000_000_000;

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn ed25519(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn rsa() -> Keypair {
    let mut der = *include_bytes!("../vectors/rsa-2048.pk8");
    Keypair::rsa_from_pkcs8(&mut der).unwrap()
}

/// One of each type of key: Ed25519, secp256k1, ECDSA, RSA.
pub fn all_types() -> [Keypair; 4] {
    let secp256k1_key = secp256k1::SecretKey::try_from_bytes([5; 32]).unwrap();
    let ecdsa_key = ecdsa::SecretKey::try_from_bytes([5; 32]).unwrap();
    [
        ed25519(1),
        secp256k1::Keypair::from(secp256k1_key).into(),
        ecdsa::Keypair::from(ecdsa_key).into(),
        rsa(),
    ]
}

/// A record node of an IPFS-style DHT: a store as Kademlia uses it.
pub struct Node {
    pub store: SmartRecordStore,
    pub clock: ManualClock,
    events: Events,
}

impl Node {
    pub fn new() -> Self {
        let clock = ManualClock::at(at(NOW));
        let mut store = SmartRecordStore::with_storage(
            ed25519(255).public().to_peer_id(),
            libp2p_smart_record::ipfs(),
            StoreConfig::default(),
            MemoryStorage::default(),
            clock.clone(),
        );
        let events = store.subscribe();
        Self { store, clock, events }
    }

    /// Stores what a stranger has sent. Returns the refusals.
    pub fn put(&mut self, key: &RecordKey, value: &[u8]) -> Vec<Fault> {
        let record = kad::Record::new(kad::RecordKey::new(key), value.to_vec());
        self.store.put(record).unwrap();
        std::iter::from_fn(|| self.events.try_next())
            .filter_map(|event| match event {
                StoreEvent::Refused { reason, .. } => Some(reason.fault()),
                _ => None,
            })
            .collect()
    }

    /// What the next one to ask gets.
    pub fn get(&self, key: &RecordKey) -> Option<Vec<u8>> {
        self.store.get(&kad::RecordKey::new(key)).map(|record| record.into_owned().value)
    }
}
