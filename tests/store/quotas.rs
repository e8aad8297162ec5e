//! Quotas and protection from eviction.

use super::*;
use libp2p_smart_record::{Admission, PolicyRefusal};

const FREE: Quota = Quota { count: usize::MAX, bytes: usize::MAX };

/// The limits in the refusals since the last call.
fn refusals(heard: &mut Events) -> Vec<Limit> {
    let limits = events(heard).into_iter().filter_map(|event| match event {
        StoreEvent::Refused { reason: ValidationError::LimitExceeded(l), .. } => Some(l.limit),
        StoreEvent::Refused { reason, .. } => panic!("{reason}"),
        _ => None,
    });
    limits.collect()
}

fn boards(n: usize) -> Vec<RecordKey> {
    let mut keys: Vec<_> = (0..n).map(|i| RecordKey::new(format!("/sr/{i}"))).collect();
    let local = local();
    keys.sort_by_cached_key(|key| RecordId::new(&local, key));
    keys
}

fn writers(store: &SmartRecordStore, key: &RecordKey) -> BTreeSet<PeerId> {
    let record = store.record(key).unwrap();
    record.iter().flat_map(|r| r.spaces().map(|(w, _)| w.peer_id()).collect::<Vec<_>>()).collect()
}

/// Those of the writers whose spaces are stored, also beside a full record.
fn stored(
    store: &SmartRecordStore,
    key: &RecordKey,
    writers: impl Iterator<Item = u64>,
) -> BTreeSet<PeerId> {
    let is_stored = |peer: &PeerId| store.record_of(key, [peer]).unwrap().is_some();
    writers.map(peer).filter(is_stored).collect()
}

/// The space of one writer with an invalid signature.
fn forged(key: &RecordKey, writer: u64) -> Vec<u8> {
    let mut value = one_space(key, writer, 10, HOUR);
    let last = value.len() - 1;
    value[last - 3] ^= 1;
    value
}

#[test]
fn a_writer_stays_within_its_quota() {
    let keys = boards(8);
    let one = one_space(&keys[0], 1, 100, HOUR).len() + Usage::ROW;
    for (quota, limit) in [
        (Quota { count: 3, ..FREE }, StoreConfig::WRITER_SPACES),
        (Quota { bytes: 3 * one + 20, ..FREE }, StoreConfig::WRITER_BYTES),
    ] {
        let (mut store, clock) = open_store(StoreConfig::default().with_writer_quota(quota));
        let mut heard = store.subscribe();
        for key in &keys[..3] {
            put(&mut store, key, one_space(key, 1, 100, HOUR));
        }
        assert_eq!(refusals(&mut heard), []);
        put(&mut store, &keys[3], one_space(&keys[3], 1, 100, HOUR));
        assert_eq!(refusals(&mut heard), [limit]);
        // No signature is checked: a forged one is refused for the same reason.
        put(&mut store, &keys[4], forged(&keys[4], 1));
        assert_eq!(refusals(&mut heard), [limit]);
        // Other writers are not affected.
        put(&mut store, &keys[3], one_space(&keys[3], 2, 100, HOUR));
        assert_eq!(refusals(&mut heard), []);
        assert_eq!(store.writer_usage(&peer(1)).unwrap().count, 3);
        assert_eq!(store.writer_usage(&peer(2)).unwrap().count, 1);
        // Spaces that are forgotten or have expired are no longer charged.
        store.forget(&keys[0]).unwrap();
        put(&mut store, &keys[4], one_space(&keys[4], 1, 100, HOUR));
        assert_eq!(refusals(&mut heard), []);
        clock.advance(2 * HOUR);
        store.collect().unwrap();
        assert_eq!(store.writer_usage(&peer(1)).unwrap(), Tally::default());
    }
}

#[test]
fn nobody_can_fill_another_s_quota() {
    let keys = boards(4);
    let quota = Quota { count: 1, ..FREE };
    let (mut store, _) = open_store(StoreConfig::default().with_writer_quota(quota));
    for key in &keys {
        put(&mut store, key, forged(key, 1));
    }
    assert_eq!(store.writer_usage(&peer(1)).unwrap(), Tally::default());
    put(&mut store, &keys[3], one_space(&keys[3], 1, 10, HOUR));
    assert_eq!(writers(&store, &keys[3]), [peer(1)].into());
}

#[test]
fn of_a_record_with_too_many_bytes_the_lowest_ranks_stay() {
    let key = RecordKey::new("/sr/board");
    let mut by_rank: Vec<_> = (0..12).collect();
    by_rank.sort_by_key(|n| Writer::from(&keypair(*n).public()).rank(&key));
    let row = one_space(&key, 0, 500, HOUR).len() + Usage::ROW;
    for order in [by_rank.clone(), by_rank.iter().rev().copied().collect()] {
        let config = StoreConfig::default().with_max_record_bytes(5 * row);
        let (mut store, _) = open_store(config);
        let mut heard = store.subscribe();
        for writer in order {
            put(&mut store, &key, one_space(&key, writer, 500, HOUR));
        }
        let kept: BTreeSet<_> = by_rank[..5].iter().map(|n| peer(*n)).collect();
        assert_eq!(writers(&store, &key), kept);
        // No signature of a writer without room is checked.
        refusals(&mut heard);
        put(&mut store, &key, forged(&key, by_rank[11]));
        assert_eq!(refusals(&mut heard), [StoreConfig::RECORD_BYTES]);
    }
}

#[test]
fn of_a_full_namespace_the_nearest_stay() {
    let keys = by_distance(12);
    let other = boards(3);
    let all: BTreeMap<_, _> = keys.iter().map(|key| (key.clone(), vec![7; 100])).collect();
    let row = 100 + 32 + Usage::ROW;
    for quota in [Quota { count: 4, ..FREE }, Quota { bytes: 4 * row, ..FREE }] {
        for nearest_first in [false, true] {
            let config = StoreConfig::default().with_namespace_quota("any", quota);
            let (mut store, _) = open_store(config);
            let mut heard = store.subscribe();
            for key in &other {
                put(&mut store, key, one_space(key, 1, 10, HOUR));
            }
            let mut order: Vec<_> = all.keys().cloned().collect();
            order.sort_by_key(|key| RecordId::new(&local(), key));
            if !nearest_first {
                order.reverse();
            }
            for key in &order {
                put(&mut store, key, all[key].clone());
            }
            // A flood of the namespace neither keeps nearer records of it out nor affects other
            // namespaces.
            for (n, key) in keys.iter().enumerate() {
                assert_eq!(store.get(&kad_key(key)).is_some(), n < 4, "{n}");
            }
            assert!(other.iter().all(|key| store.get(&kad_key(key)).is_some()));
            assert_eq!(store.namespace_usage("any").unwrap().count, 4);
            assert_eq!(store.namespace_usage("sr").unwrap().count, 3);
            if nearest_first {
                let limit = if quota.count == 4 {
                    StoreConfig::NAMESPACE_RECORDS
                } else {
                    StoreConfig::NAMESPACE_BYTES
                };
                assert_eq!(refusals(&mut heard), [limit; 8]);
            }
        }
    }
}

/// A validator is called only if there may be room.
#[test]
fn a_full_store_checks_no_signatures() {
    let keys = boards(4);
    let (mut store, _) = open_store(StoreConfig::default().with_max_records(2));
    for key in &keys[..2] {
        put(&mut store, key, one_space(key, 1, 10, HOUR));
    }
    let mut heard = store.subscribe();
    for key in &keys[2..] {
        put(&mut store, key, forged(key, 2));
    }
    assert_eq!(refusals(&mut heard), [StoreConfig::STORE_RECORDS; 2]);
    // The same for values. `Number` would refuse this one as invalid.
    let far = (0..).map(|n| RecordKey::new(format!("/number/{n}")));
    let mut far = far.filter(|k| RecordId::new(&local(), k) > RecordId::new(&local(), &keys[1]));
    put(&mut store, &far.next().unwrap(), b"not a number".to_vec());
    assert_eq!(refusals(&mut heard), [StoreConfig::STORE_RECORDS]);
}

#[test]
fn the_protected_are_not_evicted_and_find_room() {
    let keys = boards(40);
    let (near, far) = keys.split_at(20);
    for by_bytes in [false, true] {
        let config = StoreConfig::default().with_protected([peer(1)]);
        let row = one_space(&keys[0], 1, 100, HOUR).len() + 32 + 2 * Usage::ROW;
        let config = match by_bytes {
            true => config.with_max_bytes(10 * row),
            false => config.with_max_records(10),
        };
        let (mut store, _) = open_store(config);
        // Others are evicted for the protected writers although these are the farthest, the local
        // peer among them.
        for key in &near[..15] {
            put(&mut store, key, one_space(key, 2, 100, HOUR));
        }
        for (n, key) in far[..5].iter().enumerate() {
            let writer = if n % 2 == 0 { 1 } else { u64::MAX };
            put(&mut store, key, one_space(key, writer, 100, HOUR));
        }
        let before: Vec<_> = far[..5].iter().map(|key| store.record(key).unwrap()).collect();
        assert!(before.iter().all(Option::is_some));
        // Nearer ones evict only each other.
        for key in near {
            put(&mut store, key, one_space(key, 3, 100, HOUR));
        }
        let after: Vec<_> = far[..5].iter().map(|key| store.record(key).unwrap()).collect();
        assert_eq!(after, before);
        assert!(!writers(&store, &near[0]).is_empty());
        // Protected spaces are bounded as well.
        let mut heard = store.subscribe();
        for key in &far[5..] {
            put(&mut store, key, one_space(key, 1, 100, HOUR));
        }
        let refused = refusals(&mut heard);
        let limit = if by_bytes { StoreConfig::STORE_BYTES } else { StoreConfig::STORE_RECORDS };
        assert!(!refused.is_empty() && refused.iter().all(|l| *l == limit), "{refused:?}");
        assert!(near.iter().all(|key| writers(&store, key).is_empty()));
        assert!(store.usage().records <= 10 && store.usage().bytes <= 10 * row);
    }
}

#[test]
fn of_a_shared_record_only_what_is_not_protected_goes() {
    let keys = boards(3);
    let config = StoreConfig::default().with_protected([peer(1)]).with_max_records(2);
    let (mut store, _) = open_store(config.clone());
    for writer in [1, 2, 3] {
        put(&mut store, &keys[2], one_space(&keys[2], writer, 50, HOUR));
    }
    put(&mut store, &keys[1], one_space(&keys[1], 2, 50, HOUR));
    // Removing one record makes room; removing a part of the farthest, of which something has to
    // stay, would not.
    put(&mut store, &keys[0], one_space(&keys[0], 2, 50, HOUR));
    assert_eq!(writers(&store, &keys[2]).len(), 3);
    assert!(writers(&store, &keys[1]).is_empty());
    assert_eq!(writers(&store, &keys[0]), [peer(2)].into());

    // If one record takes all the room, its own other spaces are evicted.
    let (mut store, _) = open_store(config.with_max_bytes(6_000));
    for writer in 2..40 {
        put(&mut store, &keys[2], one_space(&keys[2], writer, 500, HOUR));
    }
    put(&mut store, &keys[2], one_space(&keys[2], 1, 1_500, HOUR));
    assert!(writers(&store, &keys[2]).contains(&peer(1)));
    assert!(store.usage().bytes <= 6_000);
}

#[test]
fn the_protected_stand_beside_a_full_record() {
    let limits = Limits::default().with_spaces_per_record(4);
    let rules = SpaceRules::new(limits.clone(), Open);
    let registry = Registry::empty().with("sr", rules).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let config = StoreConfig::default().with_protected((100..110).map(peer));
    let storage = new_storage();
    let mut store =
        SmartRecordStore::with_storage(local(), registry, config, storage, clock).unwrap();
    let key = RecordKey::new("/sr/crowd");
    let mut crowd = SmartRecord::new(key.clone());
    for writer in 0..30 {
        let protected = 100 + writer / 3;
        for writer in [writer, protected] {
            put(&mut store, &key, one_space(&key, writer, 10, HOUR));
        }
        crowd.join(decode(&key, &one_space(&key, writer, 10, HOUR))).unwrap();
        crowd.truncate(&limits);
        let lowest = crowd.spaces().map(|(w, _)| w.peer_id());
        let expected = lowest.chain((100..=protected).map(peer)).collect();
        assert_eq!(stored(&store, &key, (0..30).chain(100..110)), expected);
    }
}

#[test]
fn a_changed_list_of_the_protected_counts_at_once() {
    let limits = Limits::default().with_spaces_per_record(4);
    let rules = SpaceRules::new(limits, Open);
    let key = RecordKey::new("/sr/crowd");
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let storage = Shared::default();
    for (round, protected) in [0..3, 5..9, 0..0].into_iter().enumerate() {
        let others = 100 * (round as u64 + 1);
        let registry = Registry::empty().with("sr", rules.clone()).unwrap();
        let config = StoreConfig::default().with_protected(protected.clone().map(peer));
        let (storage, clock) = (storage.share(), clock.clone());
        let mut store =
            SmartRecordStore::with_storage(local(), registry, config, storage, clock).unwrap();
        for writer in protected.clone().chain(others..others + 40) {
            put(&mut store, &key, one_space(&key, writer, 10, HOUR));
        }
        let kept = stored(&store, &key, (0..9).chain(100..400));
        let listed: BTreeSet<_> = protected.map(peer).collect();
        assert!(kept.is_superset(&listed));
        assert_eq!(kept.difference(&listed).count(), 4);
    }
}

#[test]
fn what_the_local_node_wrote_is_its_own() {
    let keys = by_distance(6);
    let (mut store, _) = open_store(StoreConfig::default().with_max_records(3));
    let kept = |store: &SmartRecordStore, key: &RecordKey| store.get(&kad_key(key)).is_some();
    store.write(&keys[5], b"own").unwrap();
    assert_eq!(store.writer_usage(&local()).unwrap().count, 1);
    for key in &keys[..5] {
        put(&mut store, key, b"value".to_vec());
    }
    assert!(kept(&store, &keys[5]) && kept(&store, &keys[0]) && !kept(&store, &keys[4]));
    // The same value from another peer changes nothing. A different one replaces it and is not the
    // local node's own.
    put(&mut store, &keys[5], b"own".to_vec());
    assert_eq!(store.writer_usage(&local()).unwrap().count, 1);
    put(&mut store, &keys[5], b"another's".to_vec());
    assert_eq!(store.writer_usage(&local()).unwrap(), Tally::default());
    put(&mut store, &keys[2], b"value".to_vec());
    assert!(!kept(&store, &keys[5]) && kept(&store, &keys[2]));
    // It is bounded by its own quota.
    let quota = Quota { count: 2, ..FREE };
    let (mut store, _) = open_store(StoreConfig::default().with_protected_quota(quota));
    assert!(store.write(&keys[0], b"own").is_ok() && store.write(&keys[1], b"own").is_ok());
    let refused = store.write(&keys[2], b"own").unwrap_err();
    assert!(matches!(
        refused,
        WriteError::Refused(ValidationError::LimitExceeded(LimitExceeded {
            limit: StoreConfig::WRITER_SPACES,
            ..
        }))
    ));
}

/// Refuses no writer, and counts its calls.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicUsize>);

impl Admission for Counting {
    fn admit(&self, _: &RecordKey, _: &Writer) -> Result<(), PolicyRefusal> {
        self.0.fetch_add(1, SeqCst);
        Ok(())
    }

    fn min_work(&self, _: &RecordKey) -> u8 {
        0
    }

    fn check_key(&self, _: &RecordKey) -> Result<(), PolicyRefusal> {
        Ok(())
    }
}

#[test]
fn eviction_does_not_walk_past_the_protected_each_time() {
    // Hundreds of protected records beyond, and a full store that evicts on each put.
    let config = StoreConfig::default().with_protected([peer(1)]).with_max_records(420);
    let (mut store, state, _) = probed(config);
    let keys = boards(1_000);
    for key in &keys[600..] {
        put(&mut store, key, one_space(key, 1, 10, HOUR));
    }
    for key in keys[..600].iter().rev() {
        put(&mut store, key, one_space(key, 2, 10, HOUR));
    }
    assert_eq!(store.usage().records, 420);
    // The first walk is over. From here on a put costs the same as it would without them.
    state.reset();
    let mut near: Vec<_> = (0..20_000).map(|n| RecordKey::new(format!("/sr/more/{n}"))).collect();
    let local = local();
    near.sort_by_cached_key(|key| RecordId::new(&local, key));
    let puts = 40;
    for key in near[..puts].iter().rev() {
        put(&mut store, key, one_space(key, 3, 10, HOUR));
    }
    let gets = state.gets.load(SeqCst) / puts;
    assert!(gets < 40, "{gets} reads for each put");
    assert!(near[..5].iter().all(|key| store.record(key).unwrap().is_some()));
    assert!(keys[600..].iter().all(|key| store.record(key).unwrap().is_some()));
}

#[test]
fn a_full_board_does_not_walk_past_the_protected_each_time() {
    let limits = Limits::default().with_spaces_per_record(4);
    let counting = Counting::default();
    let rules = SpaceRules::new(limits, counting.clone());
    let registry = Registry::empty().with("sr", rules).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let config = StoreConfig::default().with_protected((0..300).map(peer));
    let probe = Probe::default();
    let state = probe.state();
    let mut store =
        SmartRecordStore::with_storage(local(), registry, config, probe, clock).unwrap();
    let key = RecordKey::new("/sr/crowd");
    for writer in 0..400 {
        put(&mut store, &key, one_space(&key, writer, 10, HOUR));
    }
    state.reset();
    let puts = 50;
    for writer in 1_000..1_000 + puts as u64 {
        put(&mut store, &key, one_space(&key, writer, 10, HOUR));
    }
    assert_eq!(counting.0.load(SeqCst), 400 + puts);
    let gets = state.gets.load(SeqCst) / puts;
    assert!(gets < 40, "{gets} reads for each put");
    assert_eq!(stored(&store, &key, (0..400).chain(1_000..1_050)).len(), 304);
}
