//! What a store gives out is valid under its own rules, whatever else is stored: case 31.

use super::*;

/// A store whose records have room for this many spaces.
fn store_with_room_for(
    spaces: usize,
    config: StoreConfig,
    storage: impl Storage,
    clock: &ManualClock,
) -> SmartRecordStore {
    store_within(Limits::default().with_spaces_per_record(spaces), config, storage, clock)
}

fn store_within(
    limits: Limits,
    config: StoreConfig,
    storage: impl Storage,
    clock: &ManualClock,
) -> SmartRecordStore {
    let rules = SpaceRules::new(limits, Open);
    let registry = Registry::empty().with("sr", rules).unwrap();
    SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone()).unwrap()
}

/// No update is hashed for an answer: the digests of the rows are used as they are, until an update
/// has expired.
#[test]
fn an_answer_is_summed_up_by_the_digests_of_the_rows() {
    let key = RecordKey::new("/sr/board");
    for slice_bytes in [300, 8 * 1_024] {
        let (mut shared, clock) = (Shared::default(), clock());
        let config = StoreConfig::default().with_slice_bytes(slice_bytes);
        let mut store = store_with_room_for(5, config, shared.share(), &clock);
        for writer in 0..3 {
            let ttl = HOUR * (1 + u32::try_from(writer).unwrap());
            store.write(&key, &one_space(&key, writer, 10, ttl)).unwrap();
        }
        let rows: Vec<_> = shared
            .scan(RecordId::new(&local(), &key).parts())
            .map(Result::unwrap)
            .filter(|(id, _)| id.space != SpaceId::HEAD)
            .map(|(id, part)| (id, Part { bytes: part.bytes.into_owned().into(), ..part }))
            .collect();
        assert_eq!(rows.len(), 3);
        let digest = |store: &mut SmartRecordStore| {
            asked(store);
            let answer = store.get(&kad_key(&key)).unwrap().value.clone();
            Coverage::of_answer(&answer).unwrap().digest
        };
        let of_rows = SmartRecord::digest_of(rows.iter().map(|(_, part)| part.digest.unwrap()));
        assert_eq!(store.record(&key).unwrap().unwrap().digest(clock.now()), of_rows);
        let marked = |(n, (id, part)): (u8, &(PartId, Part<'static>))| {
            Change::Set(*id, Part { digest: Some([n; 32]), ..part.clone() })
        };
        shared.apply((0..).zip(&rows).map(marked).collect()).unwrap();
        assert_eq!(digest(&mut store), SmartRecord::digest_of([[0; 32], [1; 32], [2; 32]]));
        let unknown = |(id, part): &(PartId, Part<'static>)| {
            Change::Set(*id, Part { digest: None, ..part.clone() })
        };
        shared.apply(rows.iter().map(unknown).collect()).unwrap();
        let mut store = store_with_room_for(5, StoreConfig::default(), shared.share(), &clock);
        assert_eq!(digest(&mut store), of_rows, "computed where it is not known");
    }
}

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(T0))
}

/// The writers of a board in ascending order of their ranks.
fn by_rank(key: &RecordKey, mut writers: Vec<u64>) -> Vec<u64> {
    writers.sort_by_key(|writer| Writer::from(&keypair(*writer).public()).rank(key));
    writers
}

fn peers(writers: &[u64]) -> BTreeSet<PeerId> {
    writers.iter().copied().map(peer).collect()
}

fn writers(record: &SmartRecord) -> BTreeSet<PeerId> {
    record.spaces().map(|(writer, _)| writer.peer_id()).collect()
}

/// The spaces in values from several GETs or from replication. Each value has to be valid.
fn joined(
    store: &SmartRecordStore,
    key: &RecordKey,
    now: Timestamp,
    values: impl IntoIterator<Item = Vec<u8>>,
) -> BTreeSet<PeerId> {
    let mut joined = SmartRecord::new(key.clone());
    for value in values {
        store.registry().validate(key, &value, now).unwrap();
        joined.join(decode(key, &value)).unwrap();
    }
    writers(&joined)
}

/// The writers whose spaces a store gives out, the same for each way of reading.
fn given_out(
    store: &mut SmartRecordStore,
    key: &RecordKey,
    clock: &ManualClock,
) -> BTreeSet<PeerId> {
    asked(store);
    let store = &*store;
    let now = clock.now();
    let Some(record) = store.record(key).unwrap() else {
        assert!(store.get(&kad_key(key)).is_none());
        assert_eq!((store.records().count(), store.view(key).unwrap().len()), (0, 0));
        return BTreeSet::new();
    };
    store.registry().validate(key, &record.encode(), now).unwrap();
    assert_eq!(store.view(key).unwrap(), record.view(now));
    let spaces = writers(&record);
    // As many slices as two laps can have.
    let slices = (0..2 * spaces.len() + 3).map(|_| store.get(&kad_key(key)).unwrap().value.clone());
    assert_eq!(joined(store, key, now, slices), spaces, "slices");
    let chunks = store.records().map(|record| record.value.clone());
    assert_eq!(joined(store, key, now, chunks), spaces, "chunks");
    spaces
}

/// Those of the writers whose spaces are stored, given out or not.
fn stored(store: &SmartRecordStore, key: &RecordKey, writers: &[u64]) -> BTreeSet<PeerId> {
    let is_stored = |peer: &PeerId| store.record_of(key, [peer]).unwrap().is_some();
    peers(writers).into_iter().filter(is_stored).collect()
}

/// The input found by the fuzz target `store`, and the same at other keys, so that the protected
/// writers have every rank.
#[test]
fn case_31_four_writers_under_one_key_of_whom_two_are_protected() {
    let [a, b, c, d] = [1, u64::MAX, 3, 4];
    for n in 0..16 {
        let key = RecordKey::new(format!("/sr/{n}"));
        let clock = clock();
        let config = StoreConfig::default().with_protected([peer(a)]);
        let mut store = store_with_room_for(3, config, new_storage(), &clock);
        let mut plain = store_with_room_for(3, StoreConfig::default(), new_storage(), &clock);
        for writer in [a, b, c, d] {
            let mut signer = signer(&key, writer, Limits::default());
            signer.merge(Dict::new(), clock.now(), HOUR).unwrap();
            let value = signer.record(clock.now()).encode();
            put(&mut store, &key, value.clone());
            put(&mut plain, &key, value);
        }
        let order = by_rank(&key, vec![a, b, c, d]);
        assert_eq!(given_out(&mut store, &key, &clock), peers(&order[..3]));
        assert_eq!(given_out(&mut plain, &key, &clock), peers(&order[..3]), "whoever is protected");
        assert_eq!(stored(&store, &key, &order), peers(&order), "and all are kept");
        let all: Vec<_> = order.iter().copied().map(peer).collect();
        let of_all = store.record_of(&key, &all).unwrap().unwrap();
        store.registry().validate(&key, &of_all.encode(), clock.now()).unwrap();
    }
}

#[test]
fn case_31_slices_and_chunks_of_a_full_board_beside_which_others_are_protected() {
    let everybody: Vec<_> = (0..60).collect();
    for slice_bytes in [300, 700, 2_000, 100_000] {
        let (key, clock) = (RecordKey::new("/sr/crowd"), clock());
        let config = StoreConfig::default()
            .with_protected((0..20).map(peer))
            .with_slice_bytes(slice_bytes)
            .with_chunk_bytes(1_000);
        let mut store = store_with_room_for(12, config, new_storage(), &clock);
        for writer in &everybody {
            put(&mut store, &key, one_space(&key, *writer, 10, HOUR));
        }
        let order = by_rank(&key, everybody.clone());
        assert_eq!(given_out(&mut store, &key, &clock), peers(&order[..12]), "{slice_bytes} bytes");
        assert!(stored(&store, &key, &everybody).is_superset(&peers(&everybody[..20])));
    }
}

#[test]
fn case_31_a_protected_space_without_a_place_has_one_once_others_have_gone() {
    for collects in [false, true] {
        let (key, clock) = (RecordKey::new("/sr/crowd"), clock());
        let order = by_rank(&key, (0..6).collect());
        let config = StoreConfig::default().with_protected(order[3..].iter().copied().map(peer));
        let mut store = store_with_room_for(3, config.clone(), new_storage(), &clock);
        let ttl = |place: usize| Duration::from_secs(60 * (1 + place as u64));
        for (place, writer) in order.iter().enumerate() {
            put(&mut store, &key, one_space(&key, *writer, 10, ttl(place)));
        }
        for first in 0..order.len() {
            let place = first..order.len().min(first + 3);
            assert_eq!(
                given_out(&mut store, &key, &clock),
                peers(&order[place]),
                "{first} have gone"
            );
            clock.advance(Duration::from_secs(60));
            if collects {
                store.collect().unwrap();
            }
        }
        assert_eq!(given_out(&mut store, &key, &clock), BTreeSet::new());
    }
}

#[test]
fn case_31_a_storage_that_was_filled_with_wider_limits() {
    let (key, clock, storage) = (RecordKey::new("/sr/crowd"), clock(), Shared::default());
    let everybody: Vec<_> = (0..10).collect();
    let order = by_rank(&key, everybody.clone());
    for (spaces, kept) in [(8, 8), (3, 8), (10, 8)] {
        storage.reopen();
        let config = StoreConfig::default();
        let mut store = store_with_room_for(spaces, config, storage.share(), &clock);
        if spaces == 8 {
            for writer in &everybody {
                put(&mut store, &key, one_space(&key, *writer, 10, HOUR));
            }
        }
        assert_eq!(given_out(&mut store, &key, &clock), peers(&order[..spaces.min(kept)]));
        assert_eq!(stored(&store, &key, &everybody), peers(&order[..kept]));
    }
}

/// Protected ones, and those of wider limits.
#[test]
fn case_31_more_withdrawn_spaces_than_a_record_has_places_for() {
    let (key, clock, storage) = (RecordKey::new("/sr/crowd"), clock(), Shared::default());
    let everybody: Vec<_> = (0..10).collect();
    let config = StoreConfig::default().with_protected([peer(0), peer(1)]);
    for places in [8, 3, 10] {
        storage.reopen();
        let limits = Limits::default().with_withdrawn_per_record(places);
        let mut store = store_within(limits, config.clone(), storage.share(), &clock);
        if places == 8 {
            for writer in &everybody {
                let mut signer = signer(&key, *writer, Limits::default());
                signer.withdraw(clock.now()).unwrap();
                put(&mut store, &key, signer.record(clock.now()).encode());
            }
        }
        assert_eq!(given_out(&mut store, &key, &clock).len(), places);
        assert_eq!(stored(&store, &key, &everybody), peers(&everybody), "{places} places");
    }
}

/// All rows are read once, for the digest.
#[test]
fn case_31_a_slice_of_a_full_board_costs_what_it_holds() {
    for protected in [0, 10] {
        let (key, clock) = (RecordKey::new("/sr/crowd"), clock());
        let probe = Probe::default();
        let state = probe.state();
        let config = StoreConfig::default().with_slice_bytes(1_000);
        let config = config.with_protected((0..protected).map(peer));
        let mut store = store_with_room_for(100, config, probe, &clock);
        for writer in 0..150 {
            put(&mut store, &key, one_space(&key, writer, 10, HOUR));
        }
        asked(&mut store);
        let slices = 80;
        let costs = (0..slices).map(|_| {
            state.read.take();
            store.get(&kad_key(&key)).unwrap();
            state.read.take().0
        });
        let looked_through: Vec<_> = costs.map(|rows| rows > 20).collect();
        // A lap has about twenty slices.
        assert!(looked_through[0] && !looked_through[1..].contains(&true), "{protected}");
        // What changes is read alone.
        put(&mut store, &key, one_space(&key, 1, 20, HOUR));
        state.read.take();
        store.get(&kad_key(&key)).unwrap();
        assert!(state.read.take().0 <= 20);
    }
}
