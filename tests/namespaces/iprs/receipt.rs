//! The TTL since receipt, in a store with a test clock and between nodes.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    RecordKey, Registry, Timestamp, ValidationError, Validator, Validity, best_index,
    iprs::{IprsRecord, SequenceNumber, TtlSinceReceipt},
    store::{
        MemoryStorage, OtherPeer, SmartRecordStore, StorageError, StoreConfig, Usage, WriteError,
        storage::{Change, InvalidRow, Part, PartId, Parts, RowCheck, Storage, Tally, TallyId},
    },
};

use super::*;

const MINUTE: u64 = 60_000;
const MEMORY: u64 = 48 * 60 * MINUTE;

/// A record that lives for a minute.
fn minute() -> IprsRecord {
    sign(TtlSinceReceipt::record("hello", secs(60)).unwrap())
}

/// A record of an ECDSA author and its copy with the other valid signature: the lesser signature
/// first.
fn twins(record: Record) -> (RecordKey, IprsRecord, IprsRecord) {
    let keypair = Keypair::generate_ecdsa();
    let key = key_of(&keypair, "x");
    let one = record.sign(&key, &keypair).unwrap();
    let other = IprsRecord::decode(&key, twin(one.as_bytes()), IprsRecord::MAX_BYTES).unwrap();
    assert_ne!(one, other);
    if one.signature() < other.signature() { (key, one, other) } else { (key, other, one) }
}

/// Puts a record from another peer as Kademlia does, with this lifetime.
fn put(store: &mut SmartRecordStore, record: &IprsRecord, ttl: Option<u64>) {
    let mut put = kad::Record::new(kad::RecordKey::new(record.key()), record.as_bytes().to_vec());
    put.expires = ttl.map(|ttl| Instant::now() + secs(ttl));
    store.put(put).unwrap();
}

/// Checks the remaining lifetime of a record that was put or returned after `begun`. It may be
/// shorter by the time since then, because the clock is read twice, and by rounding.
fn assert_expires_after(record: &kad::Record, expected: Duration, begun: Instant) {
    let left = record.expires.unwrap() - Instant::now();
    let passed = begun.elapsed() + Duration::from_millis(2);
    assert!(left <= expected && left + passed >= expected, "{left:?}");
}

fn lives(store: &SmartRecordStore) -> bool {
    store.get(&libp2p_kad::RecordKey::new(&key())).is_some()
}

fn expired_at(millis: u64) -> Result<(), WriteError> {
    Err(ValidationError::Expired { expired_at: at(millis) }.into())
}

fn write(store: &mut SmartRecordStore, record: &IprsRecord) -> Result<(), WriteError> {
    store.write(record.key(), record.as_bytes()).map(drop)
}

#[test]
fn the_time_runs_from_receipt_by_the_receiver_s_clock() {
    // Independent of its clock.
    for start in [NOW, 0, NOW * 2] {
        let (mut store, clock) = open_store(validator());
        clock.set(at(start));
        put(&mut store, &minute(), None);
        clock.set(at(start + MINUTE - 1_000));
        assert!(lives(&store));
        // With less than a second left it would be sent without a lifetime.
        clock.set(at(start + MINUTE - 999));
        assert!(!lives(&store));
        clock.set(at(start + MINUTE));
        assert!(!lives(&store));
        assert_eq!(store.records().count(), 0);
    }
}

#[test]
fn being_sent_again_does_not_start_the_time_anew() {
    let (mut store, clock) = open_store(validator());
    put(&mut store, &minute(), None);
    for passed in [1, 30, 58] {
        clock.set(at(NOW + passed * 1_000));
        for ttl in [None, Some(1), Some(60), Some(48 * 3_600)] {
            put(&mut store, &minute(), ttl);
            assert!(write(&mut store, &minute()).is_ok());
            let begun = Instant::now();
            let record = store.get(&libp2p_kad::RecordKey::new(&key())).unwrap();
            assert_expires_after(&record, secs(60 - passed), begun);
        }
    }
    assert_eq!((store.counters().values, store.counters().known), (1, 24));
    clock.set(at(NOW + MINUTE));
    put(&mut store, &minute(), None);
    assert!(!lives(&store));
}

#[test]
fn an_expired_value_does_not_come_back_while_it_is_remembered() {
    let (mut store, clock) = open_store(validator());
    put(&mut store, &minute(), None);
    for passed in [MINUTE, 2 * MINUTE, MEMORY - 1] {
        clock.set(at(NOW + passed));
        assert_eq!(write(&mut store, &minute()), expired_at(NOW + MINUTE));
        // Kademlia's job and a collection do not make the store forget either.
        store.remove(&libp2p_kad::RecordKey::new(&key()));
        assert_eq!(store.collect().unwrap(), 0);
        assert!(!lives(&store));
        assert_eq!(store.records().count(), 0);
    }
    clock.set(at(NOW + MEMORY));
    assert_eq!(store.collect().unwrap(), 1);
    assert_eq!(store.usage(), Usage::default());
    assert_eq!(write(&mut store, &minute()), Ok(()));
    assert!(lives(&store));
}

#[test]
fn how_long_a_value_is_remembered_is_the_user_s_choice() {
    let clock = ManualClock::at(at(NOW));
    let mut store = SmartRecordStore::with_storage(
        alice().public().to_peer_id(),
        registry(validator()),
        StoreConfig::default().with_receipt_memory(secs(90)),
        MemoryStorage::default(),
        clock.clone(),
    )
    .unwrap();
    write(&mut store, &minute()).unwrap();
    clock.set(at(NOW + 89_999));
    assert_eq!(write(&mut store, &minute()), expired_at(NOW + MINUTE));
    clock.set(at(NOW + 90_000));
    assert_eq!(write(&mut store, &minute()), Ok(()));
    // Never for less than it lives.
    clock.set(at(NOW + 90_000 + MINUTE - 1));
    assert_eq!(store.collect().unwrap(), 0);
}

#[test]
fn nothing_worse_takes_the_place_of_what_has_expired() {
    let version = |n| sign(TtlSinceReceipt::record("hello", secs(60)).unwrap().with_version(n));
    let (mut store, clock) = open_store(validator());
    write(&mut store, &version(1)).unwrap();
    write(&mut store, &version(2)).unwrap();
    clock.set(at(NOW + MINUTE));
    assert!(!lives(&store));
    // The older one was still valid for as long as the newer one.
    assert_eq!(write(&mut store, &version(1)), Err(ValidationError::Stale.into()));
    assert_eq!(write(&mut store, &version(0)), Err(ValidationError::Stale.into()));
    let other_scheme = sign(SequenceNumber::record("hello", 1));
    assert_eq!(write(&mut store, &other_scheme), Err(ValidationError::Stale.into()));
    // A better record has its own minute.
    assert_eq!(write(&mut store, &version(3)), Ok(()));
    clock.set(at(NOW + 2 * MINUTE - 1_000));
    assert!(lives(&store));
    clock.set(at(NOW + 2 * MINUTE));
    assert_eq!(write(&mut store, &version(3)), expired_at(NOW + 2 * MINUTE));
}

#[test]
fn the_lifetime_that_comes_with_a_value_can_only_shorten_its_time() {
    for (ttl, expected) in [(Some(20), 20), (Some(59), 59), (Some(61), 60), (None, 60)] {
        let (mut store, clock) = open_store(validator());
        let begun = Instant::now();
        put(&mut store, &minute(), ttl);
        let record = store.get(&libp2p_kad::RecordKey::new(&key())).unwrap().into_owned();
        assert_expires_after(&record, secs(expected), begun);
        // Sending it again with a longer lifetime prolongs nothing.
        put(&mut store, &minute(), None);
        clock.set(at(NOW + expected * 1_000));
        assert!(!lives(&store));
    }
}

#[test]
fn nobody_can_suppress_a_value_by_bringing_it_with_a_short_lifetime() {
    let (mut store, clock) = open_store(validator());
    put(&mut store, &minute(), Some(2));
    clock.set(at(NOW + 2_000));
    assert!(!lives(&store));
    // The author puts it again. It has the time that is left since it was first received.
    put(&mut store, &minute(), None);
    assert!(lives(&store));
    clock.set(at(NOW + MINUTE - 1_000));
    assert!(lives(&store));
    clock.set(at(NOW + MINUTE));
    assert!(!lives(&store));
    assert_eq!(write(&mut store, &minute()), expired_at(NOW + MINUTE));
}

#[test]
fn another_signature_of_the_same_record_does_not_start_the_time_anew() {
    let record = TtlSinceReceipt::record("hello", secs(60)).unwrap();
    let (key, lesser, greater) = twins(record);
    let (mut store, clock) = open_store(validator());
    write(&mut store, &greater).unwrap();
    clock.set(at(NOW + MINUTE / 2));
    // All replicas keep the lesser signature, so it is stored.
    assert_eq!(store.write(&key, lesser.as_bytes()).unwrap().stored, 1);
    assert_eq!(stored(&store, &key).unwrap(), lesser.as_bytes());
    // The greater one again changes nothing, and is not refused.
    assert_eq!(store.write(&key, greater.as_bytes()).unwrap().known, 1);
    assert_eq!(stored(&store, &key).unwrap(), lesser.as_bytes());
    clock.set(at(NOW + MINUTE));
    assert_eq!(stored(&store, &key), None);
    for twin in [&lesser, &greater] {
        assert_eq!(write(&mut store, twin), expired_at(NOW + MINUTE));
    }
}

#[test]
fn a_ttl_without_end_is_bounded_by_what_comes_with_it() {
    let record = sign(TtlSinceReceipt::record("hello", Duration::MAX).unwrap());
    let (mut store, clock) = open_store(validator());
    put(&mut store, &record, Some(48 * 3_600));
    clock.set(at(NOW + MEMORY - 2_000));
    assert!(lives(&store));
    clock.set(at(NOW + MEMORY));
    assert!(!lives(&store));
    // It is not kept for ever, neither live nor remembered.
    clock.set(at(NOW + 30 * 24 * 60 * MINUTE - 1));
    assert_eq!(store.collect().unwrap(), 0);
    clock.set(at(NOW + 30 * 24 * 60 * MINUTE));
    assert_eq!(store.collect().unwrap(), 1);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_ttl_longer_than_the_memory_does_not_start_anew_after_it() {
    let hours = |n: u64| n * 60 * MINUTE;
    let record = sign(TtlSinceReceipt::record("hello", secs(100 * 3_600)).unwrap());
    let (mut store, clock) = open_store(validator());
    // Kademlia's own lifetime comes with it, and again when it has passed.
    put(&mut store, &record, Some(48 * 3_600));
    clock.set(at(NOW + hours(99)));
    assert!(!lives(&store));
    put(&mut store, &record, Some(48 * 3_600));
    assert!(lives(&store));
    clock.set(at(NOW + hours(100)));
    assert!(!lives(&store));
    assert_eq!(store.collect().unwrap(), 1);
    // It is remembered for as long as it could live.
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn what_takes_its_place_does_not_make_a_store_forget_a_value() {
    let version =
        |n, ttl| sign(TtlSinceReceipt::record("hello", secs(ttl)).unwrap().with_version(n));
    let old = version(1, 100 * 3_600);
    // One whose time does not run since receipt, one that is remembered for less, and both.
    let other = || sign(SequenceNumber::record("hello", 1).with_version(2));
    for newer in [vec![other()], vec![version(2, 60)], vec![other(), version(3, 60)]] {
        let (mut store, clock) = open_store(validator());
        put(&mut store, &old, Some(60));
        for record in &newer {
            put(&mut store, record, Some(60));
        }
        for passed in [MINUTE, MEMORY, MEMORY + MINUTE, 100 * 60 * MINUTE - 1] {
            clock.set(at(NOW + passed));
            assert!(!lives(&store));
            assert_eq!(store.collect().unwrap(), 0);
            assert_eq!(write(&mut store, &old), Err(ValidationError::Stale.into()), "{passed}");
        }
        clock.set(at(NOW + 100 * 60 * MINUTE));
        assert_eq!(store.collect().unwrap(), 1);
    }
}

#[test]
fn what_is_remembered_does_not_keep_out_what_has_replaced_it() {
    let newer = sign(SequenceNumber::record("hello", 1).with_version(2));
    let (mut store, clock) = open_store(validator());
    put(&mut store, &minute(), None);
    put(&mut store, &newer, Some(60));
    clock.set(at(NOW + MINUTE));
    assert!(!lives(&store));
    // Its author publishes it again; it is no value whose time runs since receipt.
    put(&mut store, &newer, Some(60));
    assert!(lives(&store));
    assert_eq!(write(&mut store, &minute()), Err(ValidationError::Stale.into()));
}

/// A storage that survives its store.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<MemoryStorage>>);

fn owned(part: &Part<'_>) -> Part<'static> {
    Part {
        bytes: part.bytes.to_vec().into(),
        due_at: part.due_at,
        expires_at: part.expires_at,
        stored_at: part.stored_at,
        digest: part.digest,
    }
}

impl Storage for Shared {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        Ok(self.0.lock().unwrap().get(id)?.as_ref().map(owned))
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        let inner = self.0.lock().unwrap();
        let parts: Vec<_> =
            inner.scan(range).map(|part| part.map(|(id, part)| (id, owned(&part)))).collect();
        Box::new(parts.into_iter())
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        self.0.lock().unwrap().last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        self.0.lock().unwrap().due(now, max)
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.0.lock().unwrap().apply(changes)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        self.0.lock().unwrap().tally(id)
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.0.lock().unwrap().notes()
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.0.lock().unwrap().commit()
    }

    fn usage(&self) -> Usage {
        self.0.lock().unwrap().usage()
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.0.lock().unwrap().attach(local, check)
    }

    fn is_behind(&self) -> bool {
        self.0.lock().unwrap().is_behind()
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.0.lock().unwrap().take_rejected()
    }
}

#[test]
fn a_restart_does_not_start_the_time_anew() {
    let (storage, clock) = (Shared::default(), ManualClock::at(at(NOW)));
    let open = || {
        SmartRecordStore::with_storage(
            alice().public().to_peer_id(),
            registry(validator()),
            StoreConfig::default(),
            storage.clone(),
            clock.clone(),
        )
        .unwrap()
    };
    put(&mut open(), &minute(), None);
    clock.set(at(NOW + MINUTE / 2));
    let mut store = open();
    put(&mut store, &minute(), None);
    assert!(lives(&store));
    clock.set(at(NOW + MINUTE));
    let mut store = open();
    assert!(!lives(&store));
    let again = store.write(&key(), minute().as_bytes()).map(drop);
    assert_eq!(again, expired_at(NOW + MINUTE));
}

/// A user-defined validator with a TTL since receipt: values are texts that live for a minute.
struct Minute;

impl Validator for Minute {
    fn validate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::since_receipt(secs(60)))
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

#[test]
fn any_validator_can_let_the_time_run_from_receipt() {
    let clock = ManualClock::at(at(NOW));
    let mut store = SmartRecordStore::with_storage(
        alice().public().to_peer_id(),
        Registry::empty().with("minute", Minute).unwrap(),
        StoreConfig::default(),
        MemoryStorage::default(),
        clock.clone(),
    )
    .unwrap();
    let key = RecordKey::new("/minute/x");
    store.write(&key, b"b").unwrap();
    clock.set(at(NOW + MINUTE / 2));
    store.write(&key, b"b").unwrap();
    clock.set(at(NOW + MINUTE));
    assert_eq!(store.write(&key, b"b").map(drop), expired_at(NOW + MINUTE));
    assert_eq!(store.write(&key, b"a"), Err(ValidationError::Stale.into()));
    store.write(&key, b"c").unwrap();
    assert_eq!(stored(&store, &key).unwrap(), b"c");
}
