//! Rows of earlier sessions, read with other rules or after damage.

use ::redb::{Database, ReadableTable, TableDefinition};
use libp2p_smart_record::{
    AllowList, Registry, Space, SpaceRules,
    store::{RowFault, StoreConfig},
};

use super::{device::Faults, *};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// A board of five writers and a value, written by an earlier process.
fn earlier(device: &Device, clock: &ManualClock) -> (RecordKey, RecordKey) {
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    let mut store = store_on(device, Durability::Immediate, clock);
    for writer in 1..=5 {
        store.write(&board, &one_space(&board, writer, 10, HOUR)).unwrap();
    }
    store.write(&value, b"value").unwrap();
    (board, value)
}

fn reopen(
    device: &Device,
    clock: &ManualClock,
    registry: Registry,
    config: RedbConfig,
) -> SmartRecordStore {
    reopen_with(device, clock, registry, config, StoreConfig::default())
}

fn reopen_with(
    device: &Device,
    clock: &ManualClock,
    registry: Registry,
    config: RedbConfig,
    store: StoreConfig,
) -> SmartRecordStore {
    let device = device.clone();
    let storage = RedbStorage::open_backend(move || Ok(device.clone()), local(), &config).unwrap();
    SmartRecordStore::with_storage(local(), registry, store, storage, clock.clone()).unwrap()
}

fn immediate() -> RedbConfig {
    config(Durability::Immediate)
}

fn writers(store: &SmartRecordStore, key: &RecordKey) -> Vec<PeerId> {
    let record = store.record(key).unwrap();
    let mut writers: Vec<_> =
        record.iter().flat_map(|r| r.spaces()).map(|(w, _)| w.peer_id()).collect();
    // Each way to read a record gives the same.
    let mut answered: Vec<_> = store
        .get(&kad_key(key))
        .iter()
        .flat_map(|record| {
            decode(key, &record.value).spaces().map(|(w, _)| w.peer_id()).collect::<Vec<_>>()
        })
        .collect();
    let mut replicated: Vec<_> = store
        .records()
        .filter(|record| record.key == libp2p_kad::RecordKey::new(key))
        .flat_map(|record| {
            decode(key, &record.value).spaces().map(|(w, _)| w.peer_id()).collect::<Vec<_>>()
        })
        .collect();
    for list in [&mut writers, &mut answered, &mut replicated] {
        list.sort();
    }
    assert_eq!(writers, answered);
    assert_eq!(writers, replicated);
    writers
}

fn peers(seeds: &[u64]) -> Vec<PeerId> {
    let mut peers: Vec<_> = seeds.iter().map(|seed| peer(*seed)).collect();
    peers.sort();
    peers
}

/// Writes another record, so that the store removes invalid rows.
fn write_elsewhere(store: &mut SmartRecordStore) {
    store.write(&RecordKey::new("/any/elsewhere"), b"something").unwrap();
}

fn discarded(heard: &mut Events) -> Vec<RowFault> {
    events(heard)
        .into_iter()
        .filter_map(|event| match event {
            StoreEvent::Discarded { fault, .. } => Some(fault),
            _ => None,
        })
        .collect()
}

/// Changes rows without the storage.
fn alter(device: &Device, change: impl Fn(&[u8], &mut Vec<u8>) -> bool) {
    let db = Database::builder().create_with_backend(device.clone()).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        let mut table = transaction.open_table(ROWS).unwrap();
        let rows = table.iter().unwrap().map(Result::unwrap);
        let rows: Vec<_> =
            rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect();
        for (key, mut value) in rows {
            if change(&key, &mut value) {
                table.insert(&key[..], &value[..]).unwrap();
            }
        }
    }
    transaction.commit().unwrap();
}

/// The checksum of a row.
fn checksum(key: &[u8], rest: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize().to_le_bytes()
}

/// Makes a file one of format 2: sessions are numbers of four bytes, and rows do not say when their
/// parts were stored, and have no digests.
fn to_format_2(device: &Device) {
    alter(device, |key, value| {
        assert_eq!(value[8] & 24, 24);
        value[4..8].copy_from_slice(&1_u32.to_le_bytes());
        let digest = if value[8] & 32 == 0 { 0 } else { 32 };
        value[8] &= !(24 | 32);
        value.drain(9..17);
        let stored_at = 9 + 8 * (value[8] & 3).count_ones() as usize;
        value.drain(stored_at..stored_at + 8 + digest);
        let sum = checksum(key, &value[4..]);
        value[..4].copy_from_slice(&sum);
        true
    });
    let db = Database::builder().create_with_backend(device.clone()).unwrap();
    let transaction = db.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(TableDefinition::<&str, &[u8]>::new("meta")).unwrap();
        meta.insert("format", &2_u32.to_le_bytes()[..]).unwrap();
        meta.insert("session", &1_u32.to_le_bytes()[..]).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_format_2_is_converted_and_loses_nothing() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let (board, value) = earlier(&device, &clock);
        let before = reopen(&device, &clock, registry(), immediate());
        let (usage, record) = (before.usage(), before.record(&board).unwrap());
        drop(before);
        to_format_2(&device);
        for _ in 0..2 {
            let mut store = reopen(&device, &clock, registry(), config(durability));
            assert_eq!((store.usage(), store.record(&board).unwrap()), (usage, record.clone()));
            assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
            assert_eq!(store.collect(), Ok(0));
            assert_eq!(store.counters().rows_discarded, 0);
            // Such a row is replaced as any other.
            store.write(&value, b"value").unwrap();
        }
        // Everything expires in its time.
        clock.advance(2 * HOUR);
        let mut store = reopen(&device, &clock, registry(), config(durability));
        assert!(store.record(&board).unwrap().is_none());
        store.collect().unwrap();
        assert_eq!(store.usage().records, 1);
    }
}

/// Heads of format 2 do not count withdrawn spaces.
#[test]
fn a_file_of_format_2_keeps_what_is_withdrawn() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let mut alice = signer(&board, 1, Limits::default());
    alice.merge(text(10), clock.now(), HOUR).unwrap();
    alice.withdraw(clock.now()).unwrap();
    let mut store = store_on(&device, Durability::Immediate, &clock);
    store.write(&board, &one_space(&board, 2, 10, HOUR)).unwrap();
    store.write(&board, &alice.record(clock.now()).encode()).unwrap();
    let before = store.record(&board).unwrap().unwrap();
    drop(store);
    to_format_2(&device);
    let mut store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.record(&board).unwrap().unwrap(), before);
    store.write(&board, &one_space(&board, 3, 10, HOUR)).unwrap();
    drop(store);
    // Now it is one of this format.
    let store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.record(&board).unwrap().unwrap().spaces().len(), 3);
    assert_eq!(store.counters().rows_discarded, 0);
}

#[test]
fn what_is_good_stays_however_little_is_remembered() {
    for remembered in [0, 1, 1_000] {
        let (device, clock) = (Device::default(), clock());
        let (board, value) = earlier(&device, &clock);
        let config = immediate().with_max_rechecked(remembered);
        let mut store = reopen(&device, &clock, registry(), config);
        for _ in 0..3 {
            assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
            assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
            write_elsewhere(&mut store);
        }
        assert_eq!(store.counters().rows_discarded, 0);
    }
}

#[test]
fn who_may_not_write_any_more_is_not_read_any_more() {
    let (device, clock) = (Device::default(), clock());
    let (board, value) = earlier(&device, &clock);
    let allowed: AllowList = [1, 2].map(peer).into_iter().collect();
    let rules = || SpaceRules::new(Limits::default(), allowed.clone());
    // Only boards are registered.
    let registry = || Registry::empty().with("sr", rules()).unwrap();
    let mut store = reopen(&device, &clock, registry(), immediate());
    let mut heard = store.subscribe();
    let before = store.usage();
    assert_eq!(writers(&store, &board), peers(&[1, 2]));
    assert!(store.get(&kad_key(&value)).is_none());
    // They are reported, and removed, at the next write.
    let own = one_space(&board, 1, 20, HOUR);
    let _ = store.write(&board, &own);
    let told = discarded(&mut heard);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().all(|fault| matches!(fault, RowFault::Invalid(_))));
    assert_eq!(store.counters().rows_discarded, 4);
    assert!(store.usage().bytes < before.bytes);
    drop(store);

    // They do not come back with the old rules.
    let mut store = reopen(&device, &clock, super::registry(), immediate());
    assert_eq!(writers(&store, &board), peers(&[1, 2]));
    assert!(store.get(&kad_key(&value)).is_none());
    // The counts are right: an emptied board is removed as a whole.
    clock.advance(2 * HOUR);
    store.collect().unwrap();
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn another_list_of_the_protected_and_another_of_who_may_write_lose_nobody_else() {
    // A writer that may not write any more is removed before or after the others write again.
    for rewrites in [false, true] {
        let (device, clock) = (Device::default(), clock());
        let (board, _) = earlier(&device, &clock);
        let allowed: AllowList = [2].map(peer).into_iter().collect();
        let rules = SpaceRules::new(Limits::default(), allowed);
        let registry = Registry::empty().with("sr", rules).unwrap();
        let registry = registry.with_fallback(AcceptAny::default());
        let protects = StoreConfig::default().with_protected([peer(9)]);
        let mut store = reopen_with(&device, &clock, registry, immediate(), protects);
        if rewrites {
            store.write(&board, &one_space(&board, 2, 20, HOUR)).unwrap();
        }
        assert_eq!(writers(&store, &board), peers(&[2]));
        write_elsewhere(&mut store);
        assert_eq!(writers(&store, &board), peers(&[2]));
        drop(store);
        let mut store = reopen(&device, &clock, super::registry(), immediate());
        assert_eq!(writers(&store, &board), peers(&[2]));
        clock.advance(2 * HOUR);
        store.collect().unwrap();
        assert_eq!(store.namespace_usage("sr").unwrap(), Tally::default());
    }
}

/// A full namespace, written by an earlier process. All of it except the spaces of writer 1 is due
/// and refused by the current rules, and other values are due before it. Returns the store, and its
/// keys from the nearest to the farthest.
fn full_of_what_is_refused() -> (SmartRecordStore, ManualClock, Vec<RecordKey>) {
    let (device, clock) = (Device::default(), clock());
    let mut keys: Vec<_> = (0..6).map(|n| RecordKey::new(format!("/sr/{n}"))).collect();
    keys.sort_by_key(|key| RecordId::new(&local(), key));
    let mut store = store_on(&device, Durability::Immediate, &clock);
    // As many as a write collects on its way.
    for n in 0..32 {
        let mut record = Record::new(kad_key(format!("/any/{n}")), b"value".to_vec());
        record.expires = Some(Instant::now() + Duration::from_secs(60));
        store.put(record).unwrap();
    }
    // A part of each is due soon, so that these rows are read. Not all of it, because rows that
    // have expired as a whole are not checked.
    for key in &keys[1..5] {
        for writer in 2..=4 {
            let mut signer = signer(key, writer, Limits::default());
            signer.merge(text(10), clock.now(), Duration::from_secs(600)).unwrap();
            signer.merge(text(500), clock.now(), 24 * HOUR).unwrap();
            store.write(key, &signer.record(clock.now()).encode()).unwrap();
        }
    }
    for key in [&keys[2], &keys[5]] {
        store.write(key, &one_space(key, 1, 10, 24 * HOUR)).unwrap();
    }
    let full = store.namespace_usage("sr").unwrap();
    drop(store);
    clock.advance(HOUR);
    let allowed: AllowList = [1].map(peer).into_iter().collect();
    let registry = Registry::empty().with("sr", SpaceRules::new(Limits::default(), allowed));
    let registry = registry.unwrap().with_fallback(AcceptAny::default());
    let quota = Quota { count: full.count as usize, bytes: full.bytes as usize };
    let config = StoreConfig::default().with_namespace_quota("sr", quota);
    let store = reopen_with(&device, &clock, registry, immediate(), config);
    (store, clock, keys)
}

#[test]
fn what_the_rules_refuse_makes_room_before_anything_good_goes() {
    let (mut store, clock, keys) = full_of_what_is_refused();
    // A valid space in the same record as refused ones grows.
    let grown = one_space(&keys[2], 1, 300, 24 * HOUR);
    store.write(&keys[2], &grown).unwrap();
    assert_eq!(store.counters().records_evicted, 0);
    assert_eq!(writers(&store, &keys[2]), peers(&[1]));
    assert_eq!(writers(&store, &keys[5]), peers(&[1]));
    // The counts are right: an emptied board is removed as a whole.
    clock.advance(48 * HOUR);
    store.collect().unwrap();
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn what_the_rules_refuse_makes_room_for_a_newcomer() {
    let (mut store, _, keys) = full_of_what_is_refused();
    store.forget(&keys[5]).unwrap();
    // It is farther than all stored records, so nothing valid is evicted for it.
    store.write(&keys[5], &one_space(&keys[5], 1, 300, 24 * HOUR)).unwrap();
    assert_eq!(store.counters().records_evicted, 0);
    assert_eq!(writers(&store, &keys[2]), peers(&[1]));
}

/// Damages all heads.
fn damage_heads(device: &Device) {
    alter(device, |key, value| {
        let is_head = key.len() == 32;
        if is_head {
            *value.last_mut().unwrap() ^= 0x10;
        }
        is_head
    });
}

#[test]
fn spaces_whose_head_was_damaged_outlive_who_came_after_it() {
    let (device, clock) = (Device::default(), clock());
    let (board, _) = earlier(&device, &clock);
    damage_heads(&device);
    let mut store = reopen(&device, &clock, registry(), immediate());
    let short = Duration::from_secs(60);
    store.write(&board, &one_space(&board, 6, 10, short)).unwrap();
    assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5, 6]));
    clock.advance(2 * short);
    store.collect().unwrap();
    assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
    drop(store);
    let store = reopen(&device, &clock, registry(), immediate());
    assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
}

/// A board of five writers, of which the first has withdrawn what it wrote first, and that copy.
fn withdrawn(device: &Device, clock: &ManualClock) -> (RecordKey, Vec<u8>) {
    let (board, _) = earlier(device, clock);
    let mut signer = signer(&board, 1, Limits::default());
    signer.merge(text(10), clock.now(), HOUR).unwrap();
    let copy = signer.record(clock.now()).encode();
    signer.withdraw(clock.now()).unwrap();
    let mut store = store_on(device, Durability::Immediate, clock);
    store.write(&board, &signer.record(clock.now()).encode()).unwrap();
    (board, copy)
}

#[test]
fn spaces_whose_head_was_damaged_are_hidden_until_the_next_write_under_their_key() {
    // Who reads them before that, and who writes elsewhere, loses nothing.
    for (reads, is_checked) in [(false, false), (true, false), (false, true), (true, true)] {
        let (device, clock) = (Device::default(), clock());
        let (board, copy) = withdrawn(&device, &clock);
        damage_heads(&device);
        let mut store = reopen(&device, &clock, registry(), immediate());
        if reads {
            assert_eq!(writers(&store, &board), []);
            assert!(store.record_of(&board, &[peer(1), peer(2)]).unwrap().is_none());
            write_elsewhere(&mut store);
            store.collect().unwrap();
            assert_eq!(writers(&store, &board), []);
        }
        // An older copy of what is stored.
        if is_checked {
            let copy = ValidatedRecord::new(&registry(), board.clone(), &copy, clock.now());
            let _ = store.insert(copy, Origin::Remote);
        } else {
            put(&mut store, &board, copy);
        }
        assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
        assert_eq!(store.view(&board).unwrap().len(), 4, "one is withdrawn");
        // The head of the value, and that of the board if a write elsewhere has removed it.
        assert!(store.counters().rows_discarded <= if reads { 2 } else { 1 });
        drop(store);
        let store = reopen(&device, &clock, registry(), immediate());
        assert_eq!(store.view(&board).unwrap().len(), 4);
        assert_eq!(store.counters().rows_discarded, 0);
    }
}

#[test]
fn a_space_whose_head_was_damaged_can_be_forgotten() {
    let (device, clock) = (Device::default(), clock());
    let (board, _) = earlier(&device, &clock);
    damage_heads(&device);
    let mut store = reopen(&device, &clock, registry(), immediate());
    store.forget_space(&board, &Writer::from(&keypair(1).public())).unwrap();
    assert_eq!(writers(&store, &board), peers(&[2, 3, 4, 5]));
}

#[test]
fn a_head_that_cannot_be_read_for_once_costs_no_space() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let mut store = store_on(&device, Durability::Immediate, &clock);
    // So many that the head and the last of them are in different pages.
    for writer in 1..=40 {
        store.write(&board, &one_space(&board, writer, 800, HOUR)).unwrap();
    }
    drop(store);
    let rank = |writer: &u64| Writer::from(&keypair(*writer).public()).rank(&board);
    let last = peer((1..=40).max_by_key(rank).unwrap());
    let mut failed = 0;
    loop {
        let uncached = immediate().with_cache_bytes(0);
        let mut store = reopen(&device, &clock, registry(), uncached);
        device.fail(Faults { reads_left: Some(failed), ..Faults::NONE });
        let read = store.record_of(&board, &[last]);
        device.mend();
        assert!(read != Ok(None), "{failed}: hidden without an error");
        until_it_works(|| store.write(&RecordKey::new("/any/elsewhere"), b"something").ok());
        let record = until_it_works(|| store.record(&board).ok()).unwrap();
        assert_eq!(record.spaces().len(), 40, "{failed}");
        assert_eq!(store.counters().rows_discarded, 0, "{failed}");
        if read.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 1, "the row and the head are read one after the other: {failed}");
}

#[test]
fn what_is_due_without_a_head_is_evicted_and_stands_in_nobody_s_way() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let mut store = store_on(&device, Durability::Immediate, &clock);
    let short = Duration::from_secs(60);
    let (mut older, mut newest) = (Vec::new(), Vec::new());
    // More than are collected at once.
    for writer in 1..=300 {
        let mut signer = signer(&board, writer, Limits::default());
        // Only the first of these is due soon.
        signer.merge([("first", 1_i64)].into_iter().collect(), clock.now(), short).unwrap();
        signer.merge(text(1), clock.now(), HOUR).unwrap();
        older.push(signer.record(clock.now()).encode());
        signer.merge(text(2), clock.now(), HOUR).unwrap();
        newest.push(signer.record(clock.now()).encode());
        store.write(&board, newest.last().unwrap()).unwrap();
    }
    let mut later = Record::new(kad_key("/any/a"), b"value".to_vec());
    later.expires = Some(Instant::now() + 2 * short);
    drop(store);
    damage_heads(&device);
    let mut store = reopen(&device, &clock, registry(), immediate());
    store.put(later).unwrap();
    clock.advance(3 * short);
    store.collect().unwrap();
    assert_eq!((store.usage(), store.counters().spaces_evicted), (Usage::default(), 300));
    // They come back as they were, and not older.
    for (older, newest) in older.iter().zip(&newest).take(10) {
        assert!(store.write(&board, older).is_err());
        store.write(&board, newest).unwrap();
    }
    // What has expired as a whole is collected as ever.
    drop(store);
    damage_heads(&device);
    let mut store = reopen(&device, &clock, registry(), immediate());
    clock.advance(HOUR);
    store.collect().unwrap();
    assert_eq!((store.usage(), store.counters().spaces_evicted), (Usage::default(), 0));
}

/// Counts the checked values.
#[derive(Debug)]
struct Counting(AcceptAny, Arc<AtomicUsize>);

impl Validator for Counting {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.1.fetch_add(1, SeqCst);
        self.0.validate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        self.0.select(key, values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        Some(&self.0)
    }
}

#[test]
fn what_has_expired_goes_without_being_checked() {
    let (device, clock) = (Device::default(), clock());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    for n in 0..100 {
        let mut record = Record::new(kad_key(format!("/any/{n}")), b"value".to_vec());
        record.expires = Some(Instant::now() + Duration::from_secs(60));
        store.put(record).unwrap();
    }
    drop(store);
    clock.advance(HOUR);
    let checked = Arc::new(AtomicUsize::new(0));
    let counting = Counting(AcceptAny::default(), checked.clone());
    let mut store = reopen(&device, &clock, registry().with_fallback(counting), immediate());
    assert_eq!(store.collect().unwrap(), 100);
    assert_eq!(checked.load(SeqCst), 0);
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn stricter_limits_leave_what_is_within_them() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let mut signer = SpaceSigner::new(board.clone(), keypair(1), Limits::default());
    for n in 0..10 {
        signer.merge(text(n), clock.now(), HOUR).unwrap();
    }
    let value = signer.record(clock.now()).encode();
    store_on(&device, Durability::Immediate, &clock).write(&board, &value).unwrap();
    let limits = Limits::default().with_updates_per_space(3);
    let rules = SpaceRules::new(limits, Open);
    let registry = Registry::empty().with("sr", rules).unwrap();
    let mut store = reopen(&device, &clock, registry, immediate());
    let updates = |store: &SmartRecordStore| {
        let record = store.record(&board).unwrap().unwrap();
        record.spaces().map(|(_, space): (_, &Space)| space.updates().len()).sum::<usize>()
    };
    assert_eq!(updates(&store), 3);
    let _ = store.write(&RecordKey::new("/sr/b"), b"nothing");
    assert_eq!(store.counters().rows_discarded, 1);
    assert_eq!(updates(&store), 3);
}

#[test]
fn a_forged_row_is_never_served() {
    let (device, clock) = (Device::default(), clock());
    let (board, _) = earlier(&device, &clock);
    // Rows with valid checksums but without valid signatures: a bit is flipped in each signature or
    // update.
    let mut storage = open_on(&device, Durability::Immediate).unwrap();
    let id = RecordId::new(&local(), &board);
    let rows: Vec<_> = storage
        .scan(id.parts())
        .map(|row| row.unwrap())
        .filter(|(id, _)| id.space != SpaceId::HEAD)
        .map(|(id, part)| (id, Part { bytes: part.bytes.into_owned().into(), ..part }))
        .collect();
    for (n, (id, mut part)) in rows.into_iter().enumerate() {
        let bytes = part.bytes.to_mut();
        let at = bytes.len() - 1 - n * 20;
        bytes[at] ^= 1;
        storage.apply(vec![Change::Set(id, part)]).unwrap();
    }
    storage.commit().unwrap();
    drop(storage);
    let mut store = reopen(&device, &clock, registry(), immediate());
    let mut heard = store.subscribe();
    assert_eq!(writers(&store, &board), []);
    write_elsewhere(&mut store);
    assert_eq!(discarded(&mut heard).len(), 5);
    assert!(store.get(&kad_key(&board)).is_none());
    // The place is free again.
    store.write(&board, &one_space(&board, 1, 10, HOUR)).unwrap();
    assert_eq!(writers(&store, &board), peers(&[1]));
}

#[test]
fn a_row_with_the_digest_of_another_gets_its_own() {
    let (device, clock) = (Device::default(), clock());
    let (board, _) = earlier(&device, &clock);
    let mut storage = open_on(&device, Durability::Immediate).unwrap();
    let first = storage.scan(RecordId::new(&local(), &board).parts()).nth(1).unwrap();
    let (id, part) = first.map(|(id, part)| (id, part.bytes.into_owned())).unwrap();
    let forged = storage.get(&id).unwrap().map(|row| Part {
        bytes: part.into(),
        digest: Some([7; 32]),
        ..row
    });
    let forged = forged.map(|forged| Change::Set(id, forged)).into_iter();
    storage.apply(forged.collect()).unwrap();
    storage.commit().unwrap();
    drop(storage);
    let mut store = reopen(&device, &clock, registry(), immediate());
    let mut heard = store.subscribe();
    for is_discarded in [false, true] {
        let answer = store.get(&kad_key(&board)).unwrap().value.clone();
        let record = store.record(&board).unwrap().unwrap();
        let coverage = Coverage::of_answer(&answer).unwrap();
        assert_eq!((coverage.spaces, coverage.digest), (5, record.digest(clock.now())));
        if !is_discarded {
            write_elsewhere(&mut store);
            assert_eq!(discarded(&mut heard), [RowFault::Damaged]);
        }
    }
}

#[test]
fn a_row_whose_times_were_changed_gets_its_own() {
    let (end, far) = (T0 + HOUR.as_millis() as u64, T0 + 9 * HOUR.as_millis() as u64);
    let [end, far] = [end, far].map(|at| Some(Timestamp::from_millis(at)));
    let times = [(None, None), (None, end), (end, None), (far, far), (end, far)];
    let times = times.into_iter().flat_map(|times| [(times, false), (times, true)]);
    for ((due_at, expires_at), is_late) in times {
        let (device, clock) = (Device::default(), clock());
        let (board, _) = earlier(&device, &clock);
        let mut storage = open_on(&device, Durability::Immediate).unwrap();
        let first = storage.scan(RecordId::new(&local(), &board).parts()).nth(1).unwrap();
        let (id, part) = first.unwrap();
        assert_eq!((part.due_at, part.expires_at), (end, end));
        let bytes = part.bytes.into_owned().into();
        let digest = part.digest;
        let forged = Part { bytes, due_at, expires_at, stored_at: part.stored_at, digest };
        storage.apply(vec![Change::Set(id, forged)]).unwrap();
        storage.commit().unwrap();
        drop(storage);
        let mut store = reopen(&device, &clock, registry(), immediate());
        let mut heard = store.subscribe();
        if !is_late {
            assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
            write_elsewhere(&mut store);
            assert_eq!(discarded(&mut heard), [RowFault::Damaged]);
            assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
        }
        clock.advance(2 * HOUR);
        assert_eq!(writers(&store, &board), [], "{due_at:?}, {expires_at:?}");
        // What was put right is due now.
        store.collect().unwrap();
        store.collect().unwrap();
        assert!(rows_of(&device, store, &board).is_empty(), "{due_at:?}, {expires_at:?}");
    }
}

/// The rows of a record that are in the file when the store is closed.
fn rows_of(device: &Device, store: SmartRecordStore, key: &RecordKey) -> Vec<PartId> {
    drop(store);
    let (storage, id) =
        (open_on(device, Durability::Immediate).unwrap(), RecordId::new(&local(), key));
    storage.scan_unchecked(id.parts()).map(|row| row.unwrap().0).collect()
}

#[test]
fn a_damaged_row_is_an_error_and_not_data() {
    let (device, clock) = (Device::default(), clock());
    let (board, value) = earlier(&device, &clock);
    for (is_head, left) in [(false, vec![]), (true, vec![])] {
        alter(&device, |key, value| {
            if (key.len() == 32) != is_head {
                return false;
            }
            let at = value.len() - 3;
            value[at] ^= 0x10;
            true
        });
        let mut store = reopen(&device, &clock, registry(), immediate());
        let mut heard = store.subscribe();
        assert_eq!(writers(&store, &board), left);
        assert_eq!(store.get(&kad_key(&value)).is_none(), is_head);
        write_elsewhere(&mut store);
        let told = discarded(&mut heard);
        assert!(!told.is_empty() && told.iter().all(|fault| *fault == RowFault::Damaged));
        // Writes there go on.
        for writer in 1..=5 {
            store.write(&board, &one_space(&board, writer, 10, HOUR)).unwrap();
        }
        store.write(&value, b"value").unwrap();
        assert_eq!(writers(&store, &board), peers(&[1, 2, 3, 4, 5]));
    }
}

#[test]
fn a_damaged_row_goes_when_it_is_due_too() {
    let (device, clock) = (Device::default(), clock());
    earlier(&device, &clock);
    alter(&device, |_, value| {
        *value.last_mut().unwrap() ^= 1;
        true
    });
    clock.advance(2 * HOUR);
    let mut store = reopen(&device, &clock, registry(), immediate());
    while store.usage().bytes > 0 && store.counters().rows_discarded < 100 {
        store.collect().unwrap();
        let _ = store.records().count();
    }
    assert_eq!(store.usage(), Usage::default());
}
