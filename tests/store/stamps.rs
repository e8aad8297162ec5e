//! Stamps: which spaces of a full board stay, whatever arrives in whatever order.

use libp2p_smart_record::{EvictionOrder, Extensions, MinWork, SignedUpdate, Space, Stamp};

use super::*;

/// The least bits that count.
const MIN_BITS: u8 = 2;

fn store_with_room_for(spaces: usize, config: StoreConfig) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let limits = Limits::default().with_spaces_per_record(spaces).with_min_stamp_bits(MIN_BITS);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    let storage = new_storage();
    let store = SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone());
    (store.unwrap(), clock)
}

fn board() -> RecordKey {
    RecordKey::new("/sr/board")
}

/// The space of a writer, with a stamp of so many bits if there are any.
fn stamped(writer: u64, bits: u8, ttl: Duration) -> SpaceSigner {
    let now = Timestamp::from_millis(T0);
    let mut signer = signer(&board(), writer, Limits::default());
    stamp(&mut signer, bits, now);
    signer.merge(text(5), now, ttl).unwrap();
    signer
}

fn stamp(signer: &mut SpaceSigner, bits: u8, now: Timestamp) {
    signer.set_stamp(signer.stamp_search(bits, now).step(1 << 20));
}

fn encoded(signer: &SpaceSigner) -> Vec<u8> {
    signer.record(Timestamp::from_millis(T0)).encode()
}

fn order(writer: &Writer, space: &Space) -> EvictionOrder {
    space.eviction_order(writer.rank(&board()), MIN_BITS)
}

fn order_of(signer: &SpaceSigner) -> EvictionOrder {
    order(&signer.writer(), signer.space())
}

/// The places of the spaces that are given out, in the order in which they stay.
fn orders(store: &SmartRecordStore) -> Vec<EvictionOrder> {
    let record = store.record(&board()).unwrap().unwrap();
    let mut orders: Vec<_> = record.spaces().map(|(writer, space)| order(writer, space)).collect();
    orders.sort_unstable();
    orders
}

#[test]
fn the_least_work_goes_first_however_many_there_are() {
    const PLACES: usize = 70;
    const WRITERS: u64 = 400;
    for protected in [0, 5] {
        let config = StoreConfig::default().with_protected((1_000..1_000 + protected).map(peer));
        let (mut store, _) = store_with_room_for(PLACES, config);
        for writer in 1_000..1_000 + protected {
            put(&mut store, &board(), encoded(&stamped(writer, 0, HOUR)));
        }
        let mut model = BTreeSet::new();
        // More with work than are known in their order at once. A bit is none.
        let bits = |n: u64| [0, 1, 3, 2, 4, 3, 2, 5][n as usize % 8];
        for n in 0..WRITERS {
            let signer = stamped(n, bits(n), HOUR);
            put(&mut store, &board(), encoded(&signer));
            model.insert(order_of(&signer));
            if model.len() > PLACES {
                model.pop_last();
            }
        }
        let stored: BTreeSet<_> = (0..WRITERS)
            .filter_map(|n| store.record_of(&board(), [&peer(n)]).unwrap())
            .flat_map(|record| {
                record.spaces().map(|(writer, space)| order(writer, space)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(stored, model);
        assert!(model.last().unwrap().work() > 0);
        assert_eq!(orders(&store), model.into_iter().collect::<Vec<_>>());
        // One without work is refused before it is verified.
        let late = store.write(&board(), &encoded(&stamped(5_000, 0, HOUR)));
        assert!(matches!(
            late,
            Err(WriteError::Refused(ValidationError::LimitExceeded(limit)))
                if limit.limit == Limit::SPACES_PER_RECORD
        ));
    }
}

#[test]
fn a_space_that_loses_its_work_goes_like_one_without() {
    for by_expiry in [false, true] {
        let (mut store, clock) = store_with_room_for(4, StoreConfig::default());
        let minute = Duration::from_secs(60);
        let mut signers: Vec<_> = (0..4).map(|n| stamped(n, 4, HOUR)).collect();
        let mut loser = stamped(9, 6, minute);
        loser.set_stamp(None);
        if by_expiry {
            // What is left of it has no stamp.
            loser.merge(text(6), clock.now(), HOUR).unwrap();
        }
        signers.pop();
        for signer in signers.iter().chain([&loser]) {
            put(&mut store, &board(), encoded(signer));
        }
        // So that those with work are known in their order.
        let newcomer = stamped(20, 3, HOUR);
        assert!(store.write(&board(), &encoded(&newcomer)).is_err());
        if by_expiry {
            clock.advance(2 * minute);
            store.collect().unwrap();
        } else {
            loser.replace(text(7), clock.now(), HOUR).unwrap();
            put(&mut store, &board(), encoded(&loser));
        }
        assert_eq!(orders(&store).last().unwrap().work(), 0);
        put(&mut store, &board(), encoded(&newcomer));
        let peer = loser.writer().peer_id();
        assert_eq!(store.record_of(&board(), [&peer]).unwrap(), None, "{by_expiry}");
        assert_eq!(orders(&store).last(), Some(&order_of(&newcomer)));
    }
}

#[test]
fn a_space_that_gets_a_stamp_is_not_evicted_for_itself() {
    // Room for two small spaces, and not for a large one beside a small one.
    let (mut store, clock) =
        store_with_room_for(9, StoreConfig::default().with_max_record_bytes(2_000));
    let mut signers: Vec<_> = (0..3).map(|n| stamped(n, 0, HOUR)).collect();
    signers.sort_by_key(order_of);
    let mut last = signers.pop().unwrap();
    for signer in [&last, &signers[0]] {
        put(&mut store, &board(), encoded(signer));
    }
    assert_eq!(orders(&store), [order_of(&signers[0]), order_of(&last)]);
    // It would be the first to go as it was. As it is, the other one is.
    stamp(&mut last, 4, clock.now());
    last.merge(text(900), clock.now(), HOUR).unwrap();
    put(&mut store, &board(), encoded(&last));
    assert_eq!(orders(&store), [order_of(&last)]);
    // It stays when another one comes that has a lower rank and no work.
    put(&mut store, &board(), encoded(&signers[1]));
    assert_eq!(orders(&store), [order_of(&last)]);
}

#[test]
fn beside_protected_spaces_those_with_the_most_work_are_given_out() {
    for slice_bytes in [300, 100_000] {
        let config =
            StoreConfig::default().with_protected((10..14).map(peer)).with_slice_bytes(slice_bytes);
        let (mut store, _) = store_with_room_for(4, config);
        let bits = |n: u64| if n.is_multiple_of(2) { 3 } else { 0 };
        let signers: Vec<_> = (0..4).chain(10..14).map(|n| stamped(n, bits(n), HOUR)).collect();
        for signer in &signers {
            put(&mut store, &board(), encoded(signer));
        }
        let mut expected: Vec<_> = signers.iter().map(order_of).collect();
        expected.sort_unstable();
        expected.truncate(4);
        assert_eq!(orders(&store), expected);
        asked(&mut store);
        let mut joined = SmartRecord::new(board());
        let mut covered = Arcs::new();
        for _ in 0..12 {
            let value = store.get(&kad_key(board())).unwrap().into_owned().value;
            let coverage = Coverage::of_answer(&value).unwrap();
            assert_eq!(coverage.spaces, 4);
            covered.add(coverage.arcs().iter().copied());
            joined.join(decode(&board(), &value)).unwrap();
        }
        assert!(covered.is_ring());
        let mut shown: Vec<_> = joined.spaces().map(|(w, space)| order(w, space)).collect();
        shown.sort_unstable();
        assert_eq!(shown, expected, "slices");
        let chunks = store.records().map(|record| record.into_owned().value);
        let chunks: usize = chunks.map(|value| decode(&board(), &value).spaces().len()).sum();
        assert_eq!(chunks, 4);
    }
}

#[test]
fn a_minimum_of_work_holds_for_each_update() {
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let rules = SpaceRules::new(Limits::default(), MinWork::new(4, Open));
    let registry = Registry::empty().with("sr", rules).unwrap();
    let config = StoreConfig::default();
    let storage = new_storage();
    let store = SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone());
    let mut store = store.unwrap();
    let mut signer = stamped(1, 3, HOUR);
    assert!(matches!(
        store.write(&board(), &encoded(&signer)),
        Err(WriteError::Refused(error)) if error.fault() == Fault::RefusedByPolicy
    ));
    assert_eq!(store.counters().too_little_work, 1);
    stamp(&mut signer, 4, clock.now());
    signer.merge(text(6), clock.now(), HOUR).unwrap();
    let report = store.write(&board(), &encoded(&signer)).unwrap();
    assert_eq!((report.stored, report.refused.len()), (1, 1));
    signer.withdraw(clock.now()).unwrap();
    assert_eq!(store.write(&board(), &encoded(&signer)).unwrap().stored, 1);
    assert!(
        store.record(&board()).unwrap().unwrap().space(&signer.writer()).unwrap().is_withdrawn()
    );
}

/// An update with a stamp of these bits, or without one.
#[derive(Clone, Debug)]
struct Act {
    writer: u64,
    seq: u64,
    replaces: bool,
    bits: u8,
}

fn act() -> impl Strategy<Value = Act> {
    let replaces = prop::bool::weighted(0.2);
    (0_u64..6, 0_u64..6, replaces, prop_oneof![Just(0), 1_u8..4])
        .prop_map(|(writer, seq, replaces, bits)| Act { writer, seq, replaces, bits })
}

fn signed(act: &Act) -> (Writer, SignedUpdate) {
    use libp2p_smart_record::{Seq, StampSearch, Update, UpdateKind};
    let keypair = keypair(act.writer);
    let writer = Writer::from(&keypair.public());
    let seq = Seq::from_micros(T0 * 1_000 + act.seq);
    let mut extensions = Extensions::new();
    if act.bits > 0 {
        let stamp = StampSearch::new(writer.rank(&board()), seq, act.bits).step(1 << 16);
        extensions = extensions.with(Stamp::FIELD, stamp.unwrap().encode()).unwrap();
    }
    let expires_at = Timestamp::from_millis(T0 + 60_000);
    let kind = if act.replaces { UpdateKind::Replace } else { UpdateKind::Merge };
    let document = text(usize::from(act.bits));
    let update = Update { seq, expires_at, retain_until: expires_at, kind, document, extensions };
    (writer, update.sign(&board(), &keypair, &Limits::default()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The law of the core, for stores: once a store has heard the same spaces, it holds the same.
    #[test]
    fn which_spaces_a_store_holds_is_the_same_once_it_has_heard_the_same(
        acts in vec(act(), 1..16),
        order in any::<u64>(),
    ) {
        let updates: Vec<_> = acts.iter().map(signed).collect();
        let mut whole = SmartRecord::new(board());
        for (writer, update) in &updates {
            whole.insert(writer.clone(), update.clone()).unwrap();
        }
        let (mut store, _) = store_with_room_for(3, StoreConfig::default());
        let shuffled = |n: usize| {
            let at = |i: usize| {
                let seed = (i as u64 + 1).wrapping_mul(order | 1).rotate_left(n as u32 * 7 + 13);
                seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            };
            let mut indices: Vec<_> = (0..n).collect();
            indices.sort_by_key(|i| at(*i));
            indices
        };
        for i in shuffled(updates.len()) {
            let (writer, update) = &updates[i];
            let mut alone = SmartRecord::new(board());
            alone.insert(writer.clone(), update.clone()).unwrap();
            put(&mut store, &board(), alone.encode());
        }
        let spaces: Vec<_> = whole.spaces().collect();
        for _ in 0..2 {
            for i in shuffled(spaces.len()) {
                let mut alone = SmartRecord::new(board());
                alone.join_space(Writer::clone(spaces[i].0), Space::clone(spaces[i].1));
                put(&mut store, &board(), alone.encode());
            }
        }
        let mut expected = whole.clone();
        let limits = Limits::default().with_spaces_per_record(3);
        expected.truncate(&limits.with_min_stamp_bits(MIN_BITS));
        prop_assert_eq!(store.record(&board()).unwrap(), Some(expected));
    }
}
