//! Writers, updates and boards for the measurements.

use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, VerifyingKey};
use libp2p_identity::{Keypair, PeerId};
use libp2p_smart_record::{
    Dict, Extensions, Limits, Open, RecordKey, Registry, Seq, SignedUpdate, SmartRecord,
    SpaceRules, Timestamp, Update, UpdateKind, Writer,
    store::{MemoryStorage, SmartRecordStore, StoreConfig, storage::Storage},
};

use smart_record_testing::ManualClock;

pub const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub const HOUR: Duration = Duration::from_secs(60 * 60);
/// The length of the measured updates, in bytes.
pub const UPDATE: usize = 256;

pub fn keypair(n: u64) -> Keypair {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_be_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap()
}

pub fn board_key(n: u64) -> RecordKey {
    RecordKey::new(format!("/sr/boards/{n:08}"))
}

/// An update of exactly [`UPDATE`] bytes.
pub fn update(key: &RecordKey, keypair: &Keypair, seq: u64, ttl: Duration) -> SignedUpdate {
    let now = NOW.saturating_add(Duration::from_millis(seq));
    let make = |len: usize| Update {
        seq: Seq::next(None, now),
        expires_at: NOW.saturating_add(ttl),
        retain_until: NOW.saturating_add(ttl),
        kind: UpdateKind::Merge,
        document: Dict::from_iter([("text", "x".repeat(len))]),
        extensions: Extensions::new(),
    };
    let overhead = make(128).encode().len() - 128;
    let update = make(UPDATE - overhead).sign(key, keypair, &Limits::default()).unwrap();
    assert_eq!(update.as_bytes().len(), UPDATE);
    update
}

/// A record of one update.
pub fn value(key: &RecordKey, keypair: &Keypair, seq: u64, ttl: Duration) -> Vec<u8> {
    record(key, [(keypair, update(key, keypair, seq, ttl))]).encode()
}

pub fn record<'a>(
    key: &RecordKey,
    updates: impl IntoIterator<Item = (&'a Keypair, SignedUpdate)>,
) -> SmartRecord {
    let mut record = SmartRecord::new(key.clone());
    for (keypair, update) in updates {
        record.insert(writer(keypair), update).unwrap();
    }
    record
}

pub fn writer(keypair: &Keypair) -> Writer {
    Writer::decode(keypair.public().encode_protobuf().into()).unwrap()
}

/// A board of these writers, with one update each.
pub fn board(key: &RecordKey, writers: std::ops::Range<u64>) -> SmartRecord {
    let keypairs: Vec<_> = writers.map(keypair).collect();
    record(key, keypairs.iter().map(|k| (k, update(key, k, 0, HOUR))))
}

pub fn local() -> PeerId {
    keypair(u64::MAX).public().to_peer_id()
}

/// A store whose bounds are never reached.
pub fn store() -> SmartRecordStore {
    store_over(MemoryStorage::default(), ManualClock::at(NOW))
}

pub fn store_over(storage: impl Storage, clock: ManualClock) -> SmartRecordStore {
    store_of(local(), storage, clock)
}

/// A store that belongs to this peer.
pub fn store_of(local: PeerId, storage: impl Storage, clock: ManualClock) -> SmartRecordStore {
    let config = StoreConfig::default().with_max_records(1 << 30).with_max_bytes(1 << 40);
    let limits = Limits::default().with_spaces_per_record(1 << 20);
    let rules = SpaceRules::new(limits, Open);
    let registry = Registry::empty().with(Registry::SMART_RECORDS, rules).unwrap();
    SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap()
}

/// A signature to be verified without anything around it.
pub struct Bare {
    key: VerifyingKey,
    message: Vec<u8>,
    signature: Signature,
}

impl Bare {
    /// The bytes that are signed for an update, by RFC 0002.
    pub fn new(key: &RecordKey, keypair: &Keypair, update: &SignedUpdate) -> Self {
        let mut message = Vec::new();
        let mut payload = Vec::new();
        prost::encoding::encode_varint(key.as_bytes().len() as u64, &mut payload);
        payload.extend_from_slice(key.as_bytes());
        payload.extend_from_slice(update.as_bytes());
        let (domain, payload_type) = ("libp2p-smart-record", "/libp2p-smart-record/update");
        for part in [domain.as_bytes(), payload_type.as_bytes(), &payload] {
            prost::encoding::encode_varint(part.len() as u64, &mut message);
            message.extend_from_slice(part);
        }
        let point = keypair.public().try_into_ed25519().unwrap().to_bytes();
        Self {
            key: VerifyingKey::from_bytes(&point).unwrap(),
            message,
            signature: Signature::from_slice(update.signature()).unwrap(),
        }
    }

    pub fn verify(&self) {
        self.key.verify_strict(&self.message, &self.signature).unwrap();
    }

    /// As [`verify`](Self::verify), with the decompression of the public key, as for a writer who
    /// is seen for the first time.
    pub fn verify_anew(&self) {
        let key = VerifyingKey::from_bytes(self.key.as_bytes()).unwrap();
        key.verify_strict(&self.message, &self.signature).unwrap();
    }
}

/// The time it takes to apply a function to each item.
pub fn time<T>(items: impl IntoIterator<Item = T>, mut f: impl FnMut(T)) -> Duration {
    let start = Instant::now();
    for item in items {
        f(item);
    }
    start.elapsed()
}

/// As [`time`], in processor time of this thread: a few milliseconds are often interrupted by what
/// else runs on the machine, and a ratio of two such times would be of the interruptions.
pub fn busy_time<T>(items: impl IntoIterator<Item = T>, mut f: impl FnMut(T)) -> Duration {
    let start = thread_time();
    for item in items {
        f(item);
    }
    thread_time().saturating_sub(start)
}

/// The processor time of this thread, because other threads need the processor as well.
#[cfg(unix)]
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// This system does not tell it.
#[cfg(not(unix))]
pub fn thread_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}
