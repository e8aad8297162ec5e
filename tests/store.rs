//! The store: libp2p's contract for value records, every storage against a model, bounds, collection, slices,
//! replication, refusals and failures of the storage.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{
    self as kad, ProviderRecord, Record,
    store::{MemoryStore, RecordStore},
};
use libp2p_smart_record::{
    AcceptAny, Clock, Dict, Fault, Limits, Malformed, RecordKey, Registry, SmartRecord,
    SmartRecordStore, SmartRecordValidator, SpaceSigner, StoreConfig, StoreEvent, Timestamp,
    ValidationError, Validator, Validity, WriteError, best_index,
    record::{Limit, LimitExceeded, Open},
    store::{
        Events, MemoryStorage, Origin, StorageError, Usage,
        storage::{Change, Part, PartId, Parts, RecordId, SpaceId, Storage},
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};

/// The time at which every test begins.
const T0: u64 = 1_700_000_000_000;

const HOUR: Duration = Duration::from_secs(3_600);

fn keypair(seed: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

fn peer(seed: u64) -> PeerId {
    keypair(seed).public().to_peer_id()
}

/// The peer whose store it is.
fn local() -> PeerId {
    peer(u64::MAX)
}

fn kad_key(key: impl AsRef<[u8]>) -> kad::RecordKey {
    kad::RecordKey::new(&key)
}

#[derive(Clone, Debug)]
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(T0)))
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}

/// Smart records under `/sr/`, numbers under `/number/`, anything else under any other key.
fn registry() -> Registry {
    Registry::default().with("number", Number).unwrap().with_fallback(AcceptAny::default())
}

fn open_store(config: StoreConfig) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::new();
    let storage = MemoryStorage::default();
    let store = SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone());
    (store, clock)
}

fn events(events: &mut Events) -> Vec<StoreEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

fn text(bytes: usize) -> Dict {
    [("text", "x".repeat(bytes))].into_iter().collect()
}

/// The encoding of one space with one update, which merges `bytes` bytes of text.
fn one_space(key: &RecordKey, writer: u64, bytes: usize, ttl: Duration) -> Vec<u8> {
    let mut signer = SpaceSigner::new(key.clone(), keypair(writer), Limits::default());
    let update = signer.merge(text(bytes), Timestamp::from_millis(T0), ttl).unwrap();
    let mut record = SmartRecord::new(key.clone());
    record.insert(signer.writer(), update);
    record.encode()
}

/// Writes as Kademlia does what a stranger sent.
fn put<S: Storage>(store: &mut SmartRecordStore<S>, key: &RecordKey, value: Vec<u8>) {
    store.put(Record::new(kad::RecordKey::from(key), value)).unwrap();
}

fn decode(key: &RecordKey, value: &[u8]) -> SmartRecord {
    SmartRecord::decode(key, value.to_vec(), &Limits::default()).unwrap()
}

/// Keys of value records in ascending order of distance from the local peer.
fn by_distance(n: usize) -> Vec<RecordKey> {
    let mut keys: Vec<_> = (0..n).map(|i| RecordKey::new(format!("/any/{i}"))).collect();
    keys.sort_by_key(|key| RecordId::new(&local(), key));
    keys
}

// ------------------------------------------------- the contract of libp2p's store

/// What both stores must do, each test given a way to make an empty store of a peer.
mod contract {
    use super::*;

    fn value_record(n: u64) -> Record {
        let mut record = Record::new(kad_key(format!("key {n}")), vec![n as u8; n as usize]);
        record.publisher = (n % 2 == 1).then(|| peer(n));
        record.expires =
            (!n.is_multiple_of(3)).then(|| Instant::now() + Duration::from_secs(10 * n));
        record
    }

    /// Equal, but for what is lost when an instant becomes wall-clock milliseconds and back.
    fn assert_same(found: Option<Cow<'_, Record>>, expected: &Record) {
        let found = found.expect("a record");
        let apart = match (found.expires, expected.expires) {
            (Some(a), Some(b)) => a.max(b) - a.min(b),
            (a, b) => {
                assert_eq!(a, b);
                Duration::ZERO
            }
        };
        assert!(apart <= Duration::from_millis(2), "{apart:?} apart");
        let expires = expected.expires;
        assert_eq!(&Record { expires, ..found.into_owned() }, expected);
    }

    pub(super) fn put_get_remove<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        for n in 0..12 {
            let record = value_record(n);
            assert!(store.get(&record.key).is_none());
            store.put(record.clone()).unwrap();
            assert_same(store.get(&record.key), &record);
        }
        assert_eq!(store.records().count(), 12);
        for n in 0..12 {
            let record = value_record(n);
            assert_same(store.records().find(|r| r.key == record.key), &record);
            store.remove(&record.key);
            assert!(store.get(&record.key).is_none());
            store.remove(&record.key);
        }
        assert_eq!(store.records().count(), 0);
    }

    pub(super) fn the_last_put_stays<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        // The longer and the shorter, with and without lifetime, by one publisher and another.
        for n in [3, 8, 1, 6, 5, 5] {
            let record = Record { key: kad_key("one"), ..value_record(n) };
            store.put(record.clone()).unwrap();
            assert_same(store.get(&record.key), &record);
        }
        assert_eq!(store.records().count(), 1);
    }

    pub(super) fn too_large_a_value<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        let mut record = Record::new(kad_key("large"), vec![1; 65 * 1_024]);
        record.publisher = Some(local());
        let error = store.put(record.clone()).unwrap_err();
        assert!(matches!(error, kad::store::Error::ValueTooLarge));
        assert!(store.get(&record.key).is_none());
        record.value.pop();
        store.put(record.clone()).unwrap();
        assert_same(store.get(&record.key), &record);
    }

    fn provider(key: &str, of: u64) -> ProviderRecord {
        ProviderRecord::new(kad_key(key), peer(of), Vec::new())
    }

    pub(super) fn providers<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        let (a, b) = (provider("k", 1), provider("k", 2));
        for record in [&a, &b, &a] {
            store.add_provider(record.clone()).unwrap();
        }
        assert_eq!(store.providers(&a.key), vec![a.clone(), b.clone()]);
        assert_eq!(store.providers(&kad_key("other")), vec![]);
        store.remove_provider(&a.key, &a.provider);
        assert_eq!(store.providers(&a.key), vec![b.clone()]);
        store.remove_provider(&a.key, &b.provider);
        assert_eq!(store.providers(&a.key), vec![]);
        assert_eq!(store.provided().count(), 0);
    }

    pub(super) fn provided<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        let own = ProviderRecord::new(kad_key("k"), local(), Vec::new());
        store.add_provider(provider("k", 1)).unwrap();
        store.add_provider(own.clone()).unwrap();
        let provided: Vec<_> = store.provided().map(Cow::into_owned).collect();
        assert_eq!(provided, vec![own.clone()]);
        store.remove_provider(&own.key, &own.provider);
        assert_eq!(store.provided().count(), 0);
        assert_eq!(store.providers(&own.key).len(), 1);
    }

    pub(super) fn update_provider<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        for of in [1, u64::MAX] {
            let mut record = provider("k", of);
            store.add_provider(record.clone()).unwrap();
            record.expires = Some(Instant::now());
            store.add_provider(record.clone()).unwrap();
            let kept = store.providers(&record.key);
            assert_eq!(kept.iter().filter(|r| **r == record).count(), 1);
        }
        assert_eq!(store.providers(&kad_key("k")).len(), 2);
        let provided: Vec<_> = store.provided().map(Cow::into_owned).collect();
        assert!(provided.len() == 1 && provided[0].expires.is_some());
    }

    pub(super) fn max_providers_per_key<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        let max = kad::K_VALUE.get() as u64;
        for of in 0..max {
            store.add_provider(provider("k", of)).unwrap();
        }
        // One too many is passed over without an error.
        store.add_provider(provider("k", max)).unwrap();
        let kept: Vec<_> = (0..max).map(|of| provider("k", of)).collect();
        assert_eq!(store.providers(&kad_key("k")), kept);
    }

    pub(super) fn max_provided_keys<S: RecordStore>(make: impl Fn(PeerId) -> S) {
        let mut store = make(local());
        for n in 0..1_024 {
            store.add_provider(provider(&n.to_string(), 1)).unwrap();
        }
        let error = store.add_provider(provider("more", 1)).unwrap_err();
        assert!(matches!(error, kad::store::Error::MaxProvidedKeys));
        store.add_provider(provider("0", 2)).unwrap();
    }
}

macro_rules! on_both_stores {
    ($($test:ident),* $(,)?) => {
        mod libp2p_memory_store {
            $(#[test]
            fn $test() {
                super::contract::$test(libp2p_kad::store::MemoryStore::new);
            })*
        }
        mod with_fallback {
            $(#[test]
            fn $test() {
                super::contract::$test(super::with_fallback_only);
            })*
        }
    };
}

on_both_stores! {
    put_get_remove,
    the_last_put_stays,
    too_large_a_value,
    providers,
    provided,
    update_provider,
    max_providers_per_key,
    max_provided_keys,
}

fn with_fallback_only(local: PeerId) -> SmartRecordStore {
    let registry = Registry::empty().with_fallback(AcceptAny::default());
    SmartRecordStore::with_registry(local, registry, StoreConfig::default())
}

#[test]
fn the_bounds_of_providers_are_the_user_s() {
    let providers = kad::store::MemoryStoreConfig {
        max_provided_keys: 1,
        max_providers_per_key: 1,
        ..Default::default()
    };
    let (mut store, _) = open_store(StoreConfig::default().with_providers(providers));
    let provider = |key: &str, of| ProviderRecord::new(kad_key(key), peer(of), Vec::new());
    store.add_provider(provider("a", 1)).unwrap();
    store.add_provider(provider("a", 2)).unwrap();
    assert_eq!(store.providers(&kad_key("a")), vec![provider("a", 1)]);
    assert!(store.add_provider(provider("b", 1)).is_err());
}

// ------------------------------------------------- every storage against a model

/// What every [`Storage`] must do, whatever it keeps its rows in.
mod conformance {
    use super::*;

    type Row = (Vec<u8>, Option<u64>, Option<u64>);
    type Model = BTreeMap<PartId, Row>;

    #[derive(Clone, Debug)]
    pub(super) enum Op {
        Apply(Vec<(PartId, Option<Row>)>),
        Get(PartId),
        Scan(PartId),
        Last(PartId),
        Due(u64, usize),
    }

    /// Few ids, so that they meet, the first and the last there can be among them.
    fn id() -> impl Strategy<Value = PartId> {
        let byte = || prop_oneof![Just(0), Just(1), Just(2), Just(0xff)];
        let id = |first: u8| {
            if first == 0xff { [0xff; 32] } else { [first; 32] }
        };
        (byte(), byte())
            .prop_map(move |(record, space)| RecordId(id(record)).part(SpaceId(id(space))))
    }

    fn row() -> impl Strategy<Value = Row> {
        let time = || option::of(prop_oneof![0_u64..6, Just(u64::MAX)]);
        (vec(any::<u8>(), 0..20), time(), time())
    }

    pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => vec((id(), option::of(row())), 0..6).prop_map(Op::Apply),
            1 => id().prop_map(Op::Get),
            1 => id().prop_map(Op::Scan),
            1 => id().prop_map(Op::Last),
            1 => (prop_oneof![0_u64..7, Just(u64::MAX)], 0_usize..8).prop_map(|(t, n)| Op::Due(t, n)),
        ];
        vec(op, 1..40)
    }

    fn part(row: &Row) -> Part<'static> {
        Part {
            bytes: Cow::Owned(row.0.clone()),
            due_at: row.1.map(Timestamp::from_millis),
            expires_at: row.2.map(Timestamp::from_millis),
        }
    }

    pub(super) fn check<S: Storage>(storage: &mut S, ops: &[Op]) -> Result<(), TestCaseError> {
        let mut model = Model::new();
        for op in ops {
            match op {
                Op::Apply(changes) => {
                    // In order: of several changes of one row the last one counts.
                    for (id, row) in changes {
                        match row {
                            Some(row) => model.insert(*id, row.clone()),
                            None => model.remove(id),
                        };
                    }
                    let changes = changes.iter().map(|(id, row)| match row {
                        Some(row) => Change::Set(*id, part(row)),
                        None => Change::Remove(*id),
                    });
                    storage.apply(changes.collect()).unwrap();
                }
                Op::Get(id) => {
                    prop_assert_eq!(storage.get(id).unwrap(), model.get(id).map(part));
                }
                Op::Scan(from) => {
                    let found: Vec<_> = storage.scan(from).map(Result::unwrap).collect();
                    let rows = model.range(from..).map(|(id, row)| (*id, part(row)));
                    prop_assert_eq!(found, rows.collect::<Vec<_>>());
                }
                Op::Last(up_to) => {
                    let last = model.range(..=up_to).next_back().map(|(id, _)| *id);
                    prop_assert_eq!(storage.last(up_to).unwrap(), last);
                }
                Op::Due(now, max) => {
                    let found = storage.due(Timestamp::from_millis(*now), *max).unwrap();
                    let times: Vec<_> = found.iter().map(|id| model[id].1.unwrap()).collect();
                    let mut due: Vec<_> = model.values().filter_map(|row| row.1).collect();
                    due.retain(|at| at <= now);
                    due.sort_unstable();
                    due.truncate(*max);
                    prop_assert_eq!(times, due, "the longest due first");
                    let distinct: BTreeSet<_> = found.iter().collect();
                    prop_assert_eq!(distinct.len(), found.len());
                }
            }
            let usage = Usage {
                records: model.keys().filter(|id| id.space == SpaceId::HEAD).count(),
                bytes: model.values().map(|row| row.0.len() + Usage::ROW).sum(),
            };
            prop_assert_eq!(storage.usage(), usage);
        }
        let all: Vec<_> = storage.scan(&PartId::MIN).map(Result::unwrap).collect();
        let rows = model.iter().map(|(id, row)| (*id, part(row)));
        prop_assert_eq!(all, rows.collect::<Vec<_>>());
        Ok(())
    }

    /// Runs the suite on storages that `make` makes, all of them empty.
    pub(super) fn run<S: Storage>(cases: u32, make: impl Fn() -> S) {
        let config = ProptestConfig {
            cases,
            failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
                "proptest-regressions",
            ))),
            source_file: Some(file!()),
            ..ProptestConfig::default()
        };
        TestRunner::new(config).run(&ops(), |ops| check(&mut make(), &ops)).unwrap();
    }
}

#[test]
fn memory_storage_conforms() {
    conformance::run(512, MemoryStorage::default);
}

#[test]
fn parts_are_ordered_by_distance_then_rank() {
    // The XOR of two keys' ids is that of their digests, whichever peer looks.
    let (a, b) = (RecordKey::new("a"), RecordKey::new("b"));
    let xor =
        |x: [u8; 32], y: [u8; 32]| -> Vec<u8> { x.iter().zip(y).map(|(x, y)| x ^ y).collect() };
    for of in [local(), peer(1)] {
        let (x, y) = (RecordId::new(&of, &a).0, RecordId::new(&of, &b).0);
        assert_eq!(xor(x, y), xor(a.digest(), b.digest()));
        // And it is Kademlia's own distance.
        let (kad_peer, kad_a, kad_b) = (
            kad::KBucketKey::from(of),
            kad::KBucketKey::from(a.as_bytes().to_vec()),
            kad::KBucketKey::from(b.as_bytes().to_vec()),
        );
        let (da, db) = (kad_peer.distance(&kad_a), kad_peer.distance(&kad_b));
        assert_eq!(x.cmp(&y), da.cmp(&db));
    }
    let id = RecordId([5; 32]);
    assert!(PartId::MIN <= id.head() && id.head() < id.part(SpaceId([1; 32])));
    assert!(id.part(SpaceId::MAX) < RecordId([6; 32]).head());
    assert!(id.part(SpaceId::MAX) < PartId::MAX);
}

/// A storage that counts what it is asked, and fails on command.
#[derive(Default)]
struct Probe {
    inner: MemoryStorage,
    state: Arc<ProbeState>,
}

#[derive(Default)]
struct ProbeState {
    gets: AtomicUsize,
    scans: AtomicUsize,
    fail_reads: AtomicBool,
    fail_due: AtomicBool,
    /// How many more times `apply` works.
    applies_left: AtomicUsize,
    fail_applies: AtomicBool,
}

impl ProbeState {
    fn reset(&self) {
        self.gets.store(0, SeqCst);
        self.scans.store(0, SeqCst);
    }

    fn fail_applies_after(&self, applies: usize) {
        self.applies_left.store(applies, SeqCst);
        self.fail_applies.store(true, SeqCst);
    }

    fn mend(&self) {
        for switch in [&self.fail_reads, &self.fail_due, &self.fail_applies] {
            switch.store(false, SeqCst);
        }
    }

    fn check(switch: &AtomicBool) -> Result<(), StorageError> {
        if switch.load(SeqCst) {
            return Err(StorageError("on command".to_owned()));
        }
        Ok(())
    }
}

impl Storage for Probe {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.state.gets.fetch_add(1, SeqCst);
        ProbeState::check(&self.state.fail_reads)?;
        self.inner.get(id)
    }

    fn scan(&self, from: &PartId) -> Parts<'_> {
        self.state.scans.fetch_add(1, SeqCst);
        match ProbeState::check(&self.state.fail_reads) {
            Ok(()) => self.inner.scan(from),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        ProbeState::check(&self.state.fail_reads)?;
        self.inner.last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        ProbeState::check(&self.state.fail_due)?;
        self.inner.due(now, max)
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        if self.state.fail_applies.load(SeqCst) {
            let left = self.state.applies_left.load(SeqCst);
            self.state.applies_left.store(left.saturating_sub(1), SeqCst);
            if left == 0 {
                return Err(StorageError("on command".to_owned()));
            }
        }
        self.inner.apply(changes)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

fn probed(config: StoreConfig) -> (SmartRecordStore<Probe>, Arc<ProbeState>, ManualClock) {
    let (probe, clock) = (Probe::default(), ManualClock::new());
    let state = probe.state.clone();
    let store = SmartRecordStore::with_storage(local(), registry(), config, probe, clock.clone());
    (store, state, clock)
}

// ------------------------------------------------- bounds

fn kept(store: &SmartRecordStore, keys: &[RecordKey]) -> Vec<bool> {
    keys.iter().map(|key| store.get(&key.into()).is_some()).collect()
}

#[test]
fn room_is_made_from_the_far_end() {
    let keys = by_distance(5);
    let (mut store, _) = open_store(StoreConfig::default().with_max_records(3));
    let mut heard = store.subscribe();
    for key in &keys[1..4] {
        put(&mut store, key, b"value".to_vec());
    }
    assert!(matches!(events(&mut heard)[..], [_, _, _]));

    // Farther than all: refused, and nothing goes.
    let error = store.write(&keys[4], b"value").unwrap_err();
    let full = ValidationError::LimitExceeded(LimitExceeded {
        limit: Limit::StoreRecords,
        got: Some(4),
        max: 3,
    });
    assert_eq!(error, WriteError::Refused(full.clone()));
    let refused = |origin| StoreEvent::Refused {
        key: keys[4].clone(),
        writer: None,
        origin,
        reason: full.clone(),
        count: 1,
    };
    assert_eq!(events(&mut heard), [refused(Origin::Local)]);
    put(&mut store, &keys[4], b"value".to_vec());
    assert_eq!(events(&mut heard), [refused(Origin::Remote)]);
    assert_eq!(kept(&store, &keys), [false, true, true, true, false]);

    // Nearer than some: the farthest goes.
    put(&mut store, &keys[0], b"value".to_vec());
    assert_eq!(kept(&store, &keys), [true, true, true, false, false]);
    let stored =
        StoreEvent::Stored { key: keys[0].clone(), writers: Vec::new(), origin: Origin::Remote };
    let evicted = StoreEvent::Evicted { key: keys[3].clone() };
    assert_eq!(events(&mut heard), [evicted, stored]);
    assert_eq!(store.counters().records_evicted, 1);

    // What is there may be overwritten though the store is full.
    put(&mut store, &keys[2], b"other".to_vec());
    assert_eq!(store.get(&(&keys[2]).into()).unwrap().value, b"other");
    assert_eq!(store.usage().records, 3);
}

#[test]
fn what_has_expired_goes_first() {
    let keys = by_distance(4);
    let (mut store, clock) = open_store(StoreConfig::default().with_max_records(3));
    let mut heard = store.subscribe();
    for (key, seconds) in keys.iter().zip([10, 1_000, 1_000]) {
        let mut record = Record::new(kad::RecordKey::from(key), b"value".to_vec());
        record.expires = Some(Instant::now() + Duration::from_secs(seconds));
        store.put(record).unwrap();
    }
    clock.advance(Duration::from_secs(11));
    // The newcomer is the farthest of all, and yet there is room.
    put(&mut store, &keys[3], b"value".to_vec());
    assert_eq!(kept(&store, &keys), [false, true, true, true]);
    assert!(!events(&mut heard).iter().any(|e| matches!(e, StoreEvent::Evicted { .. })));
    assert_eq!(store.counters().collected, 1);
    assert_eq!(store.usage().records, 3);
}

#[test]
fn bytes_are_bounded_too() {
    let keys = by_distance(4);
    let row = 1_000 + Usage::ROW + 32;
    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(3 * row));
    let mut heard = store.subscribe();
    for key in &keys[1..] {
        put(&mut store, key, vec![1; 1_000]);
    }
    assert_eq!(kept(&store, &keys), [false, true, true, true]);
    put(&mut store, &keys[0], vec![1; 1_000]);
    assert_eq!(kept(&store, &keys), [true, true, true, false]);
    let error = store.write(&keys[3], &[1; 1_000]).unwrap_err();
    assert!(matches!(
        error,
        WriteError::Refused(ValidationError::LimitExceeded(LimitExceeded {
            limit: Limit::StoreBytes,
            ..
        }))
    ));
    assert_eq!(store.counters().refused.get(&Fault::LimitExceeded), Some(&1));
    assert!(events(&mut heard).contains(&StoreEvent::Evicted { key: keys[3].clone() }));
}

#[test]
fn no_byte_more_than_the_bound() {
    // One record after the other, with a bound around all that they take, one byte apart.
    let keys = [RecordKey::new("/sr/a"), RecordKey::new("/any/b")];
    let values = [one_space(&keys[0], 1, 100, HOUR), vec![7; 300]];
    for (key, value) in keys.iter().zip(values) {
        let (mut store, _) = open_store(StoreConfig::default());
        put(&mut store, key, value.clone());
        let needed = store.usage().bytes;
        let mut fitted = 0;
        for max in needed - 40..=needed + 40 {
            let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(max));
            put(&mut store, key, value.clone());
            let used = store.usage().bytes;
            assert!(used <= max, "{used} of {max} bytes used for {key}");
            fitted += usize::from(used > 0);
        }
        assert!(fitted > 0);
    }
}

#[test]
fn a_full_store_takes_what_makes_it_smaller() {
    // A board, and a value, that take nearly all there is. Writing less in their place needs no room.
    let key = RecordKey::new("/sr/a");
    let (mut signer, now) =
        (SpaceSigner::new(key.clone(), keypair(1), Limits::default()), Timestamp::from_millis(T0));
    let update = signer.merge(text(1_000), now, HOUR).unwrap();
    let withdrawal = signer.withdraw(now).unwrap();
    let encode = |update| {
        let mut record = SmartRecord::new(key.clone());
        record.insert(signer.writer(), update);
        record.encode()
    };
    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(1_500));
    store.write(&key, &encode(update)).unwrap();
    assert_eq!(store.view(&key).unwrap().len(), 1);
    store.write(&key, &encode(withdrawal)).unwrap();
    assert!(store.view(&key).unwrap().is_empty());

    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(1_500));
    let key = RecordKey::new("/any/a");
    store.write(&key, &[1; 1_200]).unwrap();
    store.write(&key, &[2; 1_100]).unwrap();
    assert_eq!(store.get(&(&key).into()).unwrap().value, [2; 1_100]);
    // What does not fit does not cost the record its old value.
    assert!(store.write(&key, &[3; 1_600]).is_err());
    assert_eq!(store.get(&(&key).into()).unwrap().value, [2; 1_100]);
}

#[test]
fn no_flood_exceeds_the_bounds() {
    let flood = vec((0_u64..12, 0_u64..6, 0_usize..900, 1_u64..60, 0_u64..3_000), 1..80);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let (max_records, max_bytes) = (5, 4_000);
    runner
        .run(&flood, |flood| {
            let config =
                StoreConfig::default().with_max_records(max_records).with_max_bytes(max_bytes);
            let (mut store, clock) = open_store(config);
            for (key, writer, size, ttl, pause) in flood {
                let ttl = Duration::from_secs(ttl);
                if key % 2 == 0 {
                    let key = RecordKey::new(format!("/sr/{key}"));
                    let value = one_space(&key, writer, size, ttl);
                    put(&mut store, &key, value);
                } else {
                    let mut record = Record::new(kad_key(format!("/any/{key}")), vec![1; size]);
                    record.expires = Some(Instant::now() + ttl);
                    store.put(record).unwrap();
                }
                let usage = store.usage();
                prop_assert!(usage.records <= max_records, "{usage:?}");
                prop_assert!(usage.bytes <= max_bytes, "{usage:?}");
                clock.advance(Duration::from_millis(pause));
            }
            clock.advance(HOUR);
            store.collect().unwrap();
            prop_assert_eq!(store.usage(), Usage::default());
            Ok(())
        })
        .unwrap();
}

#[test]
fn of_too_many_spaces_the_lowest_ranks_stay() {
    let limits = Limits::default().with_spaces_per_record(4);
    let registry =
        Registry::empty().with("sr", SmartRecordValidator::new(limits.clone(), Open)).unwrap();
    let clock = ManualClock::new();
    let config = StoreConfig::default();
    let storage = MemoryStorage::default();
    let mut store =
        SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone());
    let key = RecordKey::new("/sr/crowd");
    let mut all = SmartRecord::new(key.clone());
    for writer in 0..20 {
        let value = one_space(&key, writer, 10, Duration::from_secs(60 + writer));
        all.join(decode(&key, &value)).unwrap();
        put(&mut store, &key, value);
    }
    all.truncate(&limits);
    assert_eq!(store.record(&key).unwrap().unwrap(), all);
    assert!(store.counters().spaces_evicted > 0);
    assert!(store.counters().refused[&Fault::LimitExceeded] > 0);
    // The expired take no one's place.
    clock.advance(Duration::from_secs(120));
    let mut signer = SpaceSigner::new(key.clone(), keypair(99), limits);
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let mut late = SmartRecord::new(key.clone());
    late.insert(signer.writer(), update);
    store.write(&key, &late.encode()).unwrap();
    assert_eq!(store.record(&key).unwrap(), Some(late));
}

// ------------------------------------------------- collection

#[test]
fn collection_costs_what_has_expired() {
    let gets = |live: u64| {
        let (mut store, state, clock) = probed(StoreConfig::default());
        for n in 0..live {
            let key = RecordKey::new(format!("/sr/{}", n % 50));
            put(&mut store, &key, one_space(&key, n, 1, HOUR));
        }
        for n in 0..10 {
            let key = RecordKey::new(format!("/sr/short-lived/{n}"));
            put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(60)));
        }
        clock.advance(Duration::from_secs(61));
        state.reset();
        assert_eq!(store.collect().unwrap(), 10);
        assert_eq!(state.scans.load(SeqCst), 0);
        assert_eq!(store.counters().admitted, live + 10);
        assert_eq!(store.counters().collected, 10);
        let left: usize = (0..50)
            .filter_map(|n| store.record(&RecordKey::new(format!("/sr/{n}"))).unwrap())
            .map(|record| record.spaces().len())
            .sum();
        assert_eq!(left, live as usize);
        state.gets.load(SeqCst)
    };
    assert_eq!(gets(50), gets(2_000));
}

#[test]
fn writes_collect_on_their_way() {
    let (mut store, clock) = open_store(StoreConfig::default());
    for n in 0..10 {
        let key = RecordKey::new(format!("/sr/{n}"));
        put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(60)));
    }
    clock.advance(Duration::from_secs(60));
    for n in 0..10 {
        // Not yet collected, and yet not to be seen.
        assert!(store.get(&kad_key(format!("/sr/{n}"))).is_none());
    }
    assert_eq!(store.records().count(), 0);
    assert_eq!(store.usage().records, 10);
    put(&mut store, &RecordKey::new("/any/a"), b"value".to_vec());
    assert_eq!(store.usage().records, 1);
}

// ------------------------------------------------- slices and chunks

/// A board of many small spaces of about 200 KB.
fn large_board(
    store: &mut SmartRecordStore,
    ttl: impl Fn(u64) -> Duration,
) -> (RecordKey, SmartRecord) {
    let key = RecordKey::new("/sr/board");
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..500 {
        let value = one_space(&key, writer, 250, ttl(writer));
        board.join(decode(&key, &value)).unwrap();
    }
    for chunk in board.chunks(15 * 1_024) {
        put(store, &key, chunk);
    }
    assert_eq!(store.record(&key).unwrap().as_ref(), Some(&board));
    (key, board)
}

/// Joins GET after GET until nothing is missing; says how many it took.
fn read_whole(store: &SmartRecordStore, board: &SmartRecord, max_gets: usize) -> usize {
    let key = board.key();
    let mut read = SmartRecord::new(key.clone());
    for gets in 1..=max_gets {
        let record = store.get(&key.into()).expect("a slice");
        assert!(record.value.len() <= 8 * 1_024, "{} bytes", record.value.len());
        assert_eq!(record.publisher, None);
        assert_eq!(record.key, kad::RecordKey::from(key));
        read.join(decode(key, &record.value)).unwrap();
        if &read == board {
            return gets;
        }
    }
    panic!("not read within {max_gets} gets");
}

#[test]
fn a_large_board_is_read_slice_by_slice() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (_, board) = large_board(&mut store, |_| HOUR);
    let size = board.encode().len();
    assert!(size > 190_000, "{size} bytes");
    let slices = size.div_ceil(8 * 1_024);
    // Spaces stay whole, which leaves a few hundred bytes of each slice empty.
    read_whole(&store, &board, slices + 3);
    // And again, from wherever the first reader left off.
    read_whole(&store, &board, slices + 3);
}

#[test]
fn replicas_begin_at_places_of_their_own() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (key, board) = large_board(&mut store, |_| HOUR);
    let mut beginnings = BTreeSet::new();
    for replica in 0..8 {
        let mut store = SmartRecordStore::with_storage(
            peer(1_000 + replica),
            registry(),
            StoreConfig::default(),
            MemoryStorage::default(),
            ManualClock::new(),
        );
        for chunk in board.chunks(15 * 1_024) {
            put(&mut store, &key, chunk);
        }
        beginnings.insert(store.get(&(&key).into()).unwrap().value.clone());
    }
    assert!(beginnings.len() >= 6, "{} of 8 slices differ", beginnings.len());
}

#[test]
fn small_records_are_returned_whole_each_time() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/small");
    let mut record = SmartRecord::new(key.clone());
    for writer in 0..20 {
        let value = one_space(&key, writer, 250, HOUR);
        record.join(decode(&key, &value)).unwrap();
        put(&mut store, &key, value);
    }
    let size = record.encode().len();
    assert!((7_000..8_000).contains(&size), "{size} bytes");
    for _ in 0..3 {
        // The spaces come in the order of their ranks.
        let value = store.get(&(&key).into()).unwrap().value.clone();
        assert_eq!(value.len(), size);
        assert_eq!(decode(&key, &value), record);
    }
}

/// A space of many small updates, the `i`th of which lives for `ttl(i)`.
fn long_space(key: &RecordKey, updates: u32, ttl: impl Fn(u32) -> Duration) -> SmartRecord {
    let mut signer = SpaceSigner::new(key.clone(), keypair(5), Limits::default());
    let mut record = SmartRecord::new(key.clone());
    for i in 0..updates {
        let document = [(i, "x".repeat(40))].into_iter().collect();
        let update = signer.merge(document, Timestamp::from_millis(T0), ttl(i)).unwrap();
        record.insert(signer.writer(), update);
    }
    record
}

fn put_in_chunks(store: &mut SmartRecordStore, record: &SmartRecord) {
    for chunk in record.chunks(15 * 1_024) {
        put(store, record.key(), chunk);
    }
    assert_eq!(store.record(record.key()).unwrap().as_ref(), Some(record));
}

#[test]
fn a_space_larger_than_a_slice_is_split() {
    let (mut store, _) = open_store(StoreConfig::default());
    let record = long_space(&RecordKey::new("/sr/long"), 64, |_| HOUR);
    assert!(record.encode().len() > 8 * 1_024);
    put_in_chunks(&mut store, &record);
    assert_eq!(read_whole(&store, &record, 2), 2);
    assert_eq!(read_whole(&store, &record, 2), 2);
}

#[test]
fn a_cursor_into_a_space_that_shrank_hides_nothing() {
    // Most of the space expires after the first slice; the rest must be found, collected or not.
    for collect in [false, true] {
        for others in [0, 30] {
            let (mut store, clock) = open_store(StoreConfig::default());
            let key = RecordKey::new("/sr/shrinking");
            let mut record =
                long_space(&key, 64, |i| if i < 60 { Duration::from_secs(60) } else { HOUR });
            for writer in 100..100 + others {
                let value = one_space(&key, writer, 10, HOUR);
                record.join(decode(&key, &value)).unwrap();
            }
            put_in_chunks(&mut store, &record);
            for gets in 0..4 {
                // Move the cursor to several places, in the long space and elsewhere.
                let (mut store, clock) = (clone_of(&record), clock.clone());
                for _ in 0..gets {
                    store.0.get(&(&key).into()).unwrap();
                }
                store.1.advance(Duration::from_secs(61));
                if collect {
                    assert_eq!(store.0.collect().unwrap(), 60);
                }
                let mut left = record.clone();
                left.collect(store.1.now());
                read_whole(&store.0, &left, 2);
                drop(clock);
            }
            clock.advance(Duration::from_secs(61));
            assert!(store.get(&(&key).into()).is_some());
        }
    }
}

/// A store that holds this record.
fn clone_of(record: &SmartRecord) -> (SmartRecordStore, ManualClock) {
    let (mut store, clock) = open_store(StoreConfig::default());
    put_in_chunks(&mut store, record);
    (store, clock)
}

#[test]
fn a_cursor_survives_spaces_that_vanish() {
    let (mut store, clock) = open_store(StoreConfig::default());
    // Every third space lives for a minute, every third for two.
    let (key, board) = large_board(&mut store, |writer| match writer % 3 {
        0 => Duration::from_secs(60),
        1 => Duration::from_secs(120),
        _ => HOUR,
    });
    for (n, collect) in [(3, false), (5, true), (2, false)] {
        for _ in 0..n {
            assert!(store.get(&(&key).into()).is_some());
        }
        clock.advance(Duration::from_secs(61));
        if collect {
            store.collect().unwrap();
        }
        let mut left = board.clone();
        left.collect(clock.now());
        let slices = left.encode().len().div_ceil(8 * 1_024);
        read_whole(&store, &left, slices + 4);
    }
    // With the last space goes the cursor; what comes later under the key is found.
    clock.advance(2 * HOUR);
    assert!(store.get(&(&key).into()).is_none());
    store.collect().unwrap();
    assert!(store.get(&(&key).into()).is_none());
    assert_eq!(store.usage(), Usage::default());
    let mut signer = SpaceSigner::new(key.clone(), keypair(5), Limits::default());
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let mut late = SmartRecord::new(key.clone());
    late.insert(signer.writer(), update);
    put(&mut store, &key, late.encode());
    assert_eq!(store.get(&(&key).into()).unwrap().value, late.encode());
}

#[test]
fn records_go_out_in_chunks_of_one_key() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let (key, board) = large_board(&mut store, |writer| Duration::from_secs(60 + writer));
    let small = RecordKey::new("/sr/small");
    put(&mut store, &small, one_space(&small, 1, 10, Duration::from_secs(600)));
    let value = RecordKey::new("/any/value");
    let mut any = Record::new(kad::RecordKey::from(&value), b"value".to_vec());
    any.publisher = Some(peer(3));
    any.expires = Some(Instant::now() + Duration::from_secs(100));
    store.put(any).unwrap();
    clock.advance(Duration::from_secs(30));

    let before = Instant::now();
    let records: Vec<Record> = store.records().map(Cow::into_owned).collect();
    let of = |key: &RecordKey| -> Vec<&Record> {
        records.iter().filter(|r| r.key == kad::RecordKey::from(key)).collect()
    };
    // Each of the same key next to each other, each within its size, all of them the whole.
    let chunks = of(&key);
    assert!(chunks.len() >= board.encode().len() / (15 * 1_024));
    assert!(chunks.len() <= board.encode().len() / (15 * 1_024) + 2);
    let mut whole = SmartRecord::new(key.clone());
    for chunk in &chunks {
        assert!(chunk.value.len() <= 15 * 1_024);
        assert_eq!(chunk.publisher, None);
        // The last space expires 559 seconds after the beginning.
        let left = chunk.expires.unwrap() - before;
        assert!((528..=530).contains(&left.as_secs()), "{left:?}");
        whole.join(decode(&key, &chunk.value)).unwrap();
    }
    assert_eq!(whole, board);
    assert!(matches!(of(&small)[..], [record] if record.publisher.is_none()));
    assert!(matches!(of(&value)[..], [record] if record.publisher == Some(peer(3))));
    assert_eq!(records.len(), chunks.len() + 2);

    // Of the board only what lives, of the value nothing: less than a second is left of it.
    clock.advance(Duration::from_millis(69_900));
    let mut left = board.clone();
    left.collect(clock.now());
    assert!(left.spaces().len() < 470);
    let mut whole = SmartRecord::new(key.clone());
    for record in store.records() {
        assert_ne!(record.key, kad::RecordKey::from(&value));
        if record.key == kad::RecordKey::from(&key) {
            whole.join(decode(&key, &record.value)).unwrap();
        }
    }
    assert_eq!(whole, left);
    assert!(store.get(&(&value).into()).is_none());
    clock.advance(HOUR);
    assert_eq!(store.records().count(), 0);
}

#[test]
fn the_lifetime_on_the_wire_is_the_signed_one() {
    let (mut store, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    let mut record =
        Record::new(kad::RecordKey::from(&key), one_space(&key, 1, 10, Duration::from_secs(600)));
    // What the sender says of lifetime and publisher has no weight.
    record.expires = Some(Instant::now() + Duration::from_secs(5));
    record.publisher = Some(peer(9));
    let before = Instant::now();
    store.put(record).unwrap();
    for found in [store.get(&(&key).into()).unwrap(), store.records().next().unwrap()] {
        let left = found.expires.unwrap() - before;
        assert!((600..602).contains(&left.as_secs()), "{left:?}");
        assert_eq!(found.publisher, None);
    }
}

// ------------------------------------------------- removing

fn put_value(store: &mut SmartRecordStore, key: &str, seconds: u64) {
    let mut record = Record::new(kad_key(key), b"value".to_vec());
    record.expires = Some(Instant::now() + Duration::from_secs(seconds));
    store.put(record).unwrap();
}

#[test]
fn a_renewed_value_outlives_the_job_that_saw_it_expire() {
    // Kademlia's job takes a snapshot, and much later removes what has expired in it.
    for renewed_after in [5, 11] {
        let (mut store, clock) = open_store(StoreConfig::default());
        put_value(&mut store, "/any/a", 10);
        assert_eq!(store.records().count(), 1);
        clock.advance(Duration::from_secs(renewed_after));
        put_value(&mut store, "/any/a", 100);
        clock.advance(Duration::from_secs(12 - renewed_after));
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_some());
        // A plain remove, which the user asks for, removes.
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_none());
        assert_eq!(store.usage(), Usage::default());
    }
}

#[test]
fn a_plain_remove_removes_a_value() {
    let (mut store, _) = open_store(StoreConfig::default());
    for seen_by_job in [false, true] {
        put_value(&mut store, "/any/a", 10);
        if seen_by_job {
            assert_eq!(store.records().count(), 1);
        }
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_none());
    }
}

#[test]
fn remove_takes_nothing_that_lives_from_a_smart_record() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    put(&mut store, &key, one_space(&key, 1, 10, Duration::from_secs(60)));
    put(&mut store, &key, one_space(&key, 2, 10, HOUR));
    let before = store.record(&key).unwrap();
    store.remove(&(&key).into());
    assert_eq!(store.record(&key).unwrap(), before);
    clock.advance(Duration::from_secs(61));
    store.remove(&(&key).into());
    assert_eq!(store.record(&key).unwrap().unwrap().spaces().len(), 1);
    assert_eq!(store.counters().collected, 1);
    store.remove(&kad_key("/sr/nothing"));
}

#[test]
fn forget_deletes_anything() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (key, _) = large_board(&mut store, |_| HOUR);
    store.get(&(&key).into()).unwrap();
    put_value(&mut store, "/any/a", 10);
    store.forget(&key).unwrap();
    assert!(store.get(&(&key).into()).is_none());
    assert_eq!(store.record(&key).unwrap(), None);
    assert_eq!(store.usage().records, 1);
    store.forget(&RecordKey::new("/any/a")).unwrap();
    store.forget(&RecordKey::new("/any/never")).unwrap();
    assert_eq!(store.usage(), Usage::default());
}

// ------------------------------------------------- refusals

#[test]
fn only_the_local_user_is_told_no() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let foreign = RecordKey::new("/sr/elsewhere");
    let key = RecordKey::new("/sr/a");
    let expired = one_space(&key, 1, 1, Duration::from_secs(1));
    clock.advance(Duration::from_secs(2));
    let cases = [
        (b"garbage".to_vec(), Fault::Malformed),
        (Vec::new(), Fault::Malformed),
        // Of another key: the signature does not fit.
        (one_space(&foreign, 1, 1, HOUR), Fault::Invalid),
        (expired, Fault::Expired),
    ];
    for (value, fault) in cases {
        let mut record = Record::new(kad::RecordKey::from(&key), value);
        for (publisher, origin) in [
            (Some(local()), Origin::Local),
            (Some(peer(1)), Origin::Remote),
            (None, Origin::Remote),
        ] {
            record.publisher = publisher;
            let answer = store.put(record.clone());
            assert_eq!(answer.is_err(), origin == Origin::Local);
            let told = events(&mut heard);
            assert!(
                matches!(&told[..], [StoreEvent::Refused { key: k, origin: o, reason, .. }]
                    if *k == key && *o == origin && reason.fault() == fault),
                "{told:?}"
            );
        }
        assert_eq!(store.usage(), Usage::default());
    }
    assert_eq!(store.counters().refused_total(), 12);
    assert_eq!(store.counters().refused[&Fault::Malformed], 6);
    assert_eq!(store.counters().admitted, 0);
}

#[test]
fn an_unknown_namespace_is_refused() {
    let mut store = SmartRecordStore::new(local());
    for key in ["/other/a", "no namespace", "/"] {
        let error = store.write(&RecordKey::new(key), b"value").unwrap_err();
        assert!(matches!(error, WriteError::Refused(ValidationError::Unsupported(_))));
        put(&mut store, &RecordKey::new(key), b"value".to_vec());
    }
    assert_eq!(store.usage(), Usage::default());
    assert_eq!(store.counters().refused[&Fault::Unsupported], 6);
}

#[test]
fn the_good_part_of_a_write_stays() {
    let (mut store, _) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let (key, foreign) = (RecordKey::new("/sr/a"), RecordKey::new("/sr/b"));
    let good = one_space(&key, 1, 10, HOUR);
    // Containers can be strung together: this is one of two spaces, the second with a signature that does
    // not fit the key, between two good ones.
    let value =
        [good.clone(), one_space(&foreign, 2, 10, HOUR), one_space(&key, 3, 10, HOUR)].concat();
    let report = store.write(&key, &value).unwrap();
    assert_eq!((report.stored, report.known), (2, 0));
    assert!(matches!(&report.refused[..],
        [(Some(writer), ValidationError::Invalid(_))] if *writer == peer(2)));
    let mut expected = decode(&key, &good);
    expected.join(decode(&key, &one_space(&key, 3, 10, HOUR))).unwrap();
    assert_eq!(store.record(&key).unwrap(), Some(expected));
    let told = events(&mut heard);
    let mut writers = vec![peer(1), peer(3)];
    writers.sort_unstable();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&StoreEvent::Stored {
        key: key.clone(),
        writers,
        origin: Origin::Local
    }));

    // Once more: known now, nothing new, and so no news.
    let report = store.write(&key, &value).unwrap();
    assert_eq!((report.stored, report.known, report.refused.len()), (0, 2, 1));
    let told = events(&mut heard);
    assert!(matches!(&told[..], [StoreEvent::Refused { .. }]), "{told:?}");
    assert_eq!(store.counters().known, 2);
    assert_eq!(store.counters().admitted, 2);
}

#[test]
fn what_was_replaced_is_stale() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    let mut signer = SpaceSigner::new(key.clone(), keypair(1), Limits::default());
    let encode = |signer: &SpaceSigner, update| {
        let mut record = SmartRecord::new(key.clone());
        record.insert(signer.writer(), update);
        record.encode()
    };
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let old = encode(&signer, update);
    store.write(&key, &old).unwrap();
    let update = signer.withdraw(clock.now()).unwrap();
    let withdrawal = encode(&signer, update);
    store.write(&key, &withdrawal).unwrap();
    assert_eq!(store.write(&key, &old), Err(ValidationError::Stale.into()));
    assert_eq!(store.record(&key).unwrap(), Some(decode(&key, &withdrawal)));
    assert_eq!(store.counters().superseded, 1);
}

/// A value is a number in text, up to 1,000; the greatest is the best.
struct Number;

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Validator for Number {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        match number(value) {
            Some(..=1_000) => Ok(Validity::until(Timestamp::from_millis(T0 + 60_000))),
            Some(_) => Err(ValidationError::Invalid("too great".to_owned())),
            None => Err(Malformed::other("not a number").into()),
        }
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter().map(|value| number(value)))
    }
}

#[test]
fn a_custom_validator_decides_what_is_better() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let key = RecordKey::new("/number/a");
    let value = |store: &SmartRecordStore| store.get(&(&key).into()).map(|r| r.value.clone());
    let report = store.write(&key, b"5").unwrap();
    assert_eq!((report.stored, report.known), (1, 0));
    let report = store.write(&key, b"5").unwrap();
    assert_eq!((report.stored, report.known), (0, 1));
    assert_eq!(store.write(&key, b"4"), Err(ValidationError::Stale.into()));
    assert_eq!(value(&store).unwrap(), b"5");
    store.write(&key, b"7").unwrap();
    assert_eq!(value(&store).unwrap(), b"7");
    // Invalid though greater, and no number at all.
    assert!(store.write(&key, b"1001").is_err());
    assert!(store.write(&key, b"eight").is_err());
    // The same from a stranger, with whatever lifetime and publisher, is known and changes nothing.
    let mut record = Record::new(kad::RecordKey::from(&key), b"7".to_vec());
    record.publisher = Some(peer(1));
    record.expires = Some(Instant::now() + Duration::from_secs(2));
    store.put(record).unwrap();
    assert_eq!(store.counters().known, 2);
    assert_eq!(store.get(&(&key).into()).unwrap().publisher, None);
    assert_eq!(store.counters().values, 2);
    let faults: Vec<_> = events(&mut heard)
        .iter()
        .filter_map(|event| match event {
            StoreEvent::Refused { reason, .. } => Some(reason.fault()),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [Fault::Stale, Fault::Invalid, Fault::Malformed]);
    // Its own word says when it expires, to the last millisecond; then a worse one is welcome.
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(value(&store).unwrap(), b"7");
    clock.advance(Duration::from_millis(1));
    assert_eq!(value(&store), None);
    assert_eq!(store.records().count(), 0);
    assert!(matches!(
        store.write(&key, b"1"),
        Err(WriteError::Refused(ValidationError::Expired { .. }))
    ));
}

// ------------------------------------------------- failures of the storage

#[test]
fn a_failed_write_leaves_what_was_there() {
    let (mut store, state, clock) = probed(StoreConfig::default());
    let mut heard = store.subscribe();
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    put(&mut store, &board, one_space(&board, 1, 10, Duration::from_secs(60)));
    put(&mut store, &value, b"old".to_vec());
    events(&mut heard);
    let before = (store.record(&board).unwrap(), store.usage());
    let check = |store: &SmartRecordStore<Probe>| {
        assert_eq!((store.record(&board).unwrap(), store.usage()), before);
        assert_eq!(store.get(&(&value).into()).unwrap().value, b"old");
    };

    state.fail_applies_after(0);
    let more = one_space(&board, 2, 10, HOUR);
    assert!(matches!(store.write(&board, &more), Err(WriteError::Storage(_))));
    assert!(matches!(store.write(&value, b"new"), Err(WriteError::Storage(_))));
    // A stranger learns nothing of it; the local user does.
    put(&mut store, &board, more.clone());
    let mut own = Record::new(&value, b"new".to_vec());
    own.publisher = Some(local());
    assert!(store.put(own).is_err());
    store.remove(&(&value).into());
    assert!(store.forget(&value).is_err());
    let told = events(&mut heard);
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|e| matches!(e, StoreEvent::StorageFailed { .. })));
    assert_eq!(store.counters().storage_failures, 5);
    check(&store);

    // Nor can anything be collected: what has expired is hidden all the same.
    clock.advance(Duration::from_secs(61));
    assert!(store.collect().is_err());
    assert_eq!(store.record(&board).unwrap(), None);
    assert!(store.get(&(&board).into()).is_none());
    assert_eq!(store.usage(), before.1);

    state.mend();
    assert_eq!(store.collect(), Ok(1));
    store.write(&board, &more).unwrap();
    assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &more)));
    store.remove(&(&value).into());
    assert!(store.get(&(&value).into()).is_none());
}

#[test]
fn a_failed_read_is_no_answer_and_no_loss() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    let first = one_space(&board, 1, 10, HOUR);
    put(&mut store, &board, first.clone());
    put(&mut store, &value, b"old".to_vec());
    let usage = store.usage();
    for switch in [&state.fail_reads, &state.fail_due] {
        switch.store(true, SeqCst);
        let failures = store.counters().storage_failures;
        let reads_fail = state.fail_reads.load(SeqCst);
        assert_eq!(store.get(&(&board).into()).is_none(), reads_fail);
        assert_eq!(store.record(&board).is_err(), reads_fail);
        assert_eq!(store.view(&board).is_err(), reads_fail);
        assert_eq!(store.records().count(), if reads_fail { 0 } else { 2 });
        put(&mut store, &board, one_space(&board, 2, 10, HOUR));
        put(&mut store, &value, b"new".to_vec());
        // Two writes; and of the reads, those of Kademlia, which are not told of it.
        let reads = if reads_fail { 2 } else { 0 };
        assert_eq!(store.counters().storage_failures, failures + 2 + reads);
        state.mend();
        assert_eq!(store.usage(), usage);
        assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &first)));
        assert_eq!(store.get(&(&value).into()).unwrap().value, b"old");
    }
}

#[test]
fn a_write_that_fails_halfway_tells_of_the_first_half() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let mut heard = store.subscribe();
    let key = RecordKey::new("/sr/a");
    let first = one_space(&key, 1, 10, HOUR);
    let value = [first.clone(), one_space(&key, 2, 10, HOUR)].concat();
    state.fail_applies_after(1);
    assert!(matches!(store.write(&key, &value), Err(WriteError::Storage(_))));
    state.mend();
    // One space is there, and whoever follows the events knows.
    let stored = store.record(&key).unwrap().unwrap();
    let writers: Vec<_> = stored.spaces().map(|(writer, _)| writer.peer_id()).collect();
    assert_eq!(writers.len(), 1);
    let told = events(&mut heard);
    let stored = StoreEvent::Stored { key: key.clone(), writers, origin: Origin::Local };
    assert!(told.contains(&stored), "{told:?}");
    assert_eq!(store.counters().admitted, 1);
    assert_eq!(store.counters().storage_failures, 1);
    store.write(&key, &value).unwrap();
    assert_eq!(store.record(&key).unwrap().unwrap().spaces().len(), 2);
}

// ------------------------------------------------- events

#[test]
fn the_queue_of_events_is_bounded() {
    let (mut store, _) = open_store(StoreConfig::default().with_max_events(10));
    let mut slow = store.subscribe();
    let mut quick = store.subscribe();
    let gone = store.subscribe();
    drop(gone);
    for n in 0..25 {
        put(&mut store, &RecordKey::new(format!("/any/{n}")), b"value".to_vec());
        assert!(quick.try_next().is_some());
    }
    assert_eq!(store.counters().events_lost, 15);
    // The first ones are kept, in their order.
    let told = events(&mut slow);
    assert_eq!(told.len(), 10);
    for (n, event) in told.iter().enumerate() {
        assert!(matches!(event, StoreEvent::Stored { key, .. }
            if *key == RecordKey::new(format!("/any/{n}"))));
    }
    assert_eq!(events(&mut quick), []);
    // There is room again.
    put(&mut store, &RecordKey::new("/any/a"), b"value".to_vec());
    assert_eq!(events(&mut slow).len(), 1);
    assert_eq!(store.counters().events_lost, 15);
}

#[test]
fn a_store_can_stand_in_for_libp2p_s() {
    // Both types, in one place, behind the trait that Kademlia asks for.
    fn value_of<S: RecordStore>(mut store: S) -> Option<Vec<u8>> {
        store.put(Record::new(kad_key("k"), b"v".to_vec())).unwrap();
        store.get(&kad_key("k")).map(|record| record.value.clone())
    }
    let expected = value_of(MemoryStore::new(local()));
    assert_eq!(value_of(with_fallback_only(local())), expected);
    // Without the fallback it holds what it can vouch for, and nothing else.
    assert_eq!(value_of(SmartRecordStore::new(local())), None);
}
