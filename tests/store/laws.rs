//! The laws of joining, tested through a store. Delivery in any order, in any pieces and in any
//! container gives the join of all updates, for writers that keep the rules and for those that do
//! not. The laws of the join itself are tested with the rules.

use libp2p_smart_record::{Extensions, Kind, Node, Seq, SignedUpdate, Update, UpdateKind, View};
use proptest::test_runner::TestRng;
use prost::Message;
use smart_record_testing::{
    envelope::{field, varint},
    forge,
    keys::other_signature,
};

use super::*;

type Updates = Vec<(Writer, SignedUpdate)>;

/// All histories, including lifetimes, end within this time after [`T0`].
const SPAN: u64 = 4_000;

fn at(offset: u64) -> Timestamp {
    Timestamp::from_millis(T0 + offset)
}

fn key() -> RecordKey {
    RecordKey::new("/sr/laws")
}

/// Random order, choice and repetition.
fn dice() -> impl Strategy<Value = Dice> {
    Just(()).prop_perturb(|(), rng| Dice(rng))
}

#[derive(Debug)]
struct Dice(TestRng);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        (self.0.next_u64() % sides as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.roll(i + 1));
        }
    }
}

/// A document with few keys, so that documents overlap, and nodes that expire at any time.
fn document() -> impl Strategy<Value = Dict> {
    let node = (0_i64..4, option::of(0..SPAN))
        .prop_map(|(n, end)| Node { kind: Kind::from(n), expires_at: end.map(at) });
    vec((0_i64..3, node), 0..4).prop_map(|pairs| pairs.into_iter().collect())
}

/// The next step of a writer that keeps the rules: the time since the previous one, a kind, a
/// document and its lifetime.
type Act = (u64, u8, Dict, u64);

const WITHDRAW: u8 = 0;
const REPLACE: [u8; 2] = [1, 2];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    vec((0_u64..300, 0_u8..8, document(), prop_oneof![1_u64..50, 1_u64..2_000]), 1..6)
}

fn done(seed: u64, acts: Vec<Act>) -> Updates {
    // A withdrawal of updates that the signer does not know is retained for `max_ttl`, which has to
    // be within the span.
    let limits = Limits::default().with_max_ttl(Duration::from_millis(SPAN / 2));
    let mut signer = signer(&key(), seed, limits);
    let mut passed = 0;
    let update = |(pause, kind, document, ttl)| {
        passed += pause;
        let (now, ttl) = (at(passed), Duration::from_millis(ttl));
        let update = match kind {
            WITHDRAW => signer.withdraw(now),
            _ if REPLACE.contains(&kind) => signer.replace(document, now, ttl),
            _ => signer.merge(document, now, ttl),
        };
        (signer.writer(), update.unwrap())
    };
    acts.into_iter().map(update).collect()
}

/// The updates of a writer that keeps the rules.
fn lawful(seed: u64) -> BoxedStrategy<Updates> {
    acts().prop_map(move |acts| done(seed, acts)).boxed()
}

/// The updates of a writer that keeps no rules.
fn lawless(seed: u64) -> BoxedStrategy<Updates> {
    // Few values, so that they are often equal.
    let seq = prop_oneof![0_u64..3, 0..SPAN * 1_000];
    let update = (seq, 0..SPAN / 2, 0..SPAN / 2, prop::bool::weighted(0.3), document());
    vec(update, 1..6)
        .prop_map(move |updates| {
            let (keypair, limits) = (keypair(seed), Limits::default());
            let sign = |(seq, end, retained, replace, document)| {
                let update = Update {
                    seq: Seq::from_micros(T0 * 1_000 + seq),
                    expires_at: at(end),
                    retain_until: at(end + retained),
                    kind: if replace { UpdateKind::Replace } else { UpdateKind::Merge },
                    document,
                    extensions: Extensions::new(),
                };
                let signed = update.sign(&key(), &keypair, &limits).unwrap();
                (Writer::from(&keypair.public()), signed)
            };
            updates.into_iter().map(sign).collect()
        })
        .boxed()
}

/// The updates of two to four writers.
fn updates(each: fn(u64) -> BoxedStrategy<Updates>) -> impl Strategy<Value = Updates> {
    (2_u64..=4)
        .prop_flat_map(move |writers| (1..=writers).map(each).collect::<Vec<_>>())
        .prop_map(|updates| updates.concat())
}

fn any_writer(seed: u64) -> BoxedStrategy<Updates> {
    prop_oneof![lawful(seed), lawless(seed)].boxed()
}

fn record_of<'a>(updates: impl IntoIterator<Item = &'a (Writer, SignedUpdate)>) -> SmartRecord {
    let mut record = SmartRecord::new(key());
    for (writer, update) in updates {
        record.insert(writer.clone(), update.clone()).unwrap();
    }
    record
}

/// Packets that together hold all of the updates: in any order, grouped and cut at random, some
/// twice.
fn packets(updates: &Updates, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut order = updates.clone();
    dice.shuffle(&mut order);
    while !order.is_empty() {
        let group = order.split_off(order.len() - 1 - dice.roll(order.len().min(4)));
        let size = [1, 100, 300, 1_000, 15_000][dice.roll(5)];
        packets.extend(record_of(&group).chunks(size));
        // Any other update may come once more with it.
        packets.push(record_of([&updates[dice.roll(updates.len())]]).encode());
    }
    for _ in 0..packets.len() / 2 {
        packets.push(packets[dice.roll(packets.len())].clone());
    }
    dice.shuffle(&mut packets);
    packets
}

/// A container of the updates in random order, with unknown fields.
fn disorderly(updates: &Updates, dice: &mut Dice) -> Vec<u8> {
    let mut order = updates.clone();
    order.extend((0..dice.roll(4)).map(|_| updates[dice.roll(updates.len())].clone()));
    dice.shuffle(&mut order);
    let mut spaces: Vec<_> = order
        .iter()
        .flat_map(|(writer, update)| {
            let update = forge::SignedUpdate {
                update: update.as_bytes().to_vec(),
                signature: update.signature().to_vec(),
            };
            let update = [update.encode_to_vec(), field(400, &[7])].concat();
            let public_key = field(1, writer.as_bytes());
            let space = [field(2, &update), public_key.clone(), varint(9, 1)].concat();
            [field(1, &space), field(1, &public_key)]
        })
        .collect();
    spaces.push(field(15, b"future"));
    dice.shuffle(&mut spaces);
    spaces.concat()
}

fn replica(limits: Limits, now: u64) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(at(now));
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    let (config, storage) = (StoreConfig::default(), new_storage());
    let store =
        SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone()).unwrap();
    (store, clock)
}

/// The record that a store holds; an empty one if there is none.
fn stored(store: &SmartRecordStore) -> SmartRecord {
    store.record(&key()).unwrap().unwrap_or_else(|| SmartRecord::new(key()))
}

fn truncated(mut record: SmartRecord, limits: &Limits) -> SmartRecord {
    record.truncate(limits);
    record
}

fn collected(mut record: SmartRecord, now: u64) -> SmartRecord {
    record.collect(at(now));
    record
}

/// Limits that nearly every history exceeds, but no single update.
fn small_limits() -> Limits {
    Limits::default()
        .with_updates_per_space(3)
        .with_space_bytes(2_048 + 250)
        .with_spaces_per_record(2)
}

/// A record without the spaces that stay as their withdrawal, although their writers have written
/// again: these have no place as they are, and whether their withdrawal stays depends on what was
/// heard last.
fn decided(record: &SmartRecord, whole: &SmartRecord) -> SmartRecord {
    let mut decided = SmartRecord::new(key());
    for (writer, space) in record.spaces() {
        let is_withdrawn = whole.space(writer).is_some_and(|whole| whole.is_withdrawn());
        if !space.is_withdrawn() || is_withdrawn {
            decided.join_space(writer.clone(), space.clone());
        }
    }
    decided
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 96,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_delivery_to_a_store_gives_the_same_record(
        updates in updates(any_writer),
        mut dice in dice(),
        now in 0..SPAN,
    ) {
        // The store admits nothing that has expired, also from a writer that breaks the rules.
        let (live, expired): (Updates, Updates) =
            updates.into_iter().partition(|(_, update)| update.retain_until() > at(now));
        for limits in [Limits::default(), small_limits()] {
            let (mut store, _) = replica(limits.clone(), now);
            let mut packets = packets(&live, &mut dice);
            packets.extend(expired.iter().map(|update| record_of([update]).encode()));
            dice.shuffle(&mut packets);
            // A space that is dropped for one that is withdrawn later comes back the second time.
            for packet in packets.iter().chain(&packets) {
                put(&mut store, &key(), packet.clone());
            }
            let whole = record_of(&live);
            let expected = decided(&truncated(whole.clone(), &limits), &whole);
            let stored = stored(&store);
            prop_assert_eq!(store.view(&key()).unwrap(), stored.view(at(now)));
            prop_assert_eq!(decided(&stored, &whole), expected);
        }
    }

    #[test]
    fn stores_agree_though_time_goes_by(
        updates in updates(lawful),
        mut dice in dice(),
        pauses in vec(0_u64..200, 1..20),
    ) {
        // Each replica receives everything in another order, at other times, and collects at random
        // times.
        let limits = Limits::default().with_updates_per_space(3);
        for _ in 0..2 {
            let (mut store, clock) = replica(limits.clone(), 0);
            let mut now = 0;
            for packet in packets(&updates, &mut dice) {
                put(&mut store, &key(), packet);
                now += pauses[dice.roll(pauses.len())] / 4;
                clock.set(at(now));
                if dice.roll(3) == 0 {
                    store.collect().unwrap();
                }
            }
            let expected = collected(truncated(record_of(&updates), &limits), now);
            prop_assert_eq!(&stored(&store), &expected);
            prop_assert_eq!(store.view(&key()).unwrap(), expected.view(at(now)));
        }
    }

    #[test]
    fn what_was_withdrawn_never_comes_back_to_a_store(
        before in acts(),
        pause in 0_u64..300,
        after in option::of(acts()),
        mut dice in dice(),
    ) {
        let withdrawal = (pause, WITHDRAW, Dict::new(), 1);
        let withdrawn = before.len();
        let updates =
            done(1, [before, vec![withdrawal], after.unwrap_or_default()].concat());
        let (old, new) = updates.split_at(withdrawn);
        let mut now = new[0].1.seq().issued_at().as_millis() - T0;
        let (mut store, clock) = replica(Limits::default(), now);
        // It arrives somewhere among the old updates; after it only they come again.
        let mut seen = old.to_vec();
        dice.shuffle(&mut seen);
        seen.truncate(dice.roll(seen.len() + 1));
        for update in seen.iter().chain(new) {
            put(&mut store, &key(), record_of([update]).encode());
        }
        let expected = record_of(new);
        while now < SPAN + 500 {
            clock.set(at(now));
            // The replica that missed it goes on sending.
            put(&mut store, &key(), record_of([&old[dice.roll(old.len())]]).encode());
            put(&mut store, &key(), record_of(old).encode());
            prop_assert_eq!(store.view(&key()).unwrap(), expected.view(at(now)), "at {}", now);
            if dice.roll(3) == 0 {
                store.collect().unwrap();
            }
            now += 1 + dice.roll(400) as u64;
        }
        prop_assert!(stored(&store).spaces().len() == 0);
    }

    #[test]
    fn a_rule_breaker_harms_only_itself_in_a_store(
        honest in lawful(1),
        villain in lawless(2),
        mut dice in dice(),
        now in 0..SPAN,
    ) {
        let writer = honest[0].0.clone();
        let alone = record_of(&honest);
        let (mut store, _) = replica(Limits::default(), now);
        for packet in packets(&[honest, villain.clone()].concat(), &mut dice) {
            put(&mut store, &key(), packet);
        }
        // Its updates in the space of the other writer, as if that writer had signed them.
        let own = villain[0].0.as_bytes();
        let mut forged = record_of(&villain).encode();
        let place = forged.windows(own.len()).position(|window| window == own).unwrap();
        forged.splice(place..place + own.len(), writer.as_bytes().iter().copied());
        put(&mut store, &key(), forged);
        let seen = |view: &View| view.get(&writer.peer_id()).cloned();
        prop_assert_eq!(seen(&store.view(&key()).unwrap()), seen(&alone.view(at(now))));
        let (held, expected) = (stored(&store), collected(alone, now));
        prop_assert_eq!(held.space(&writer), expected.space(&writer));
    }

    #[test]
    fn the_container_has_no_say_in_a_store(
        updates in updates(any_writer),
        mut dice in dice(),
        now in 0..SPAN,
    ) {
        let tidy = record_of(updates.iter().filter(|(_, u)| u.retain_until() > at(now)));
        let (mut store, _) = replica(Limits::default(), now);
        put(&mut store, &key(), disorderly(&updates, &mut dice));
        prop_assert_eq!(stored(&store), tidy);
    }
}

#[test]
fn of_two_good_signatures_every_store_keeps_the_same() {
    let mut signer = SpaceSigner::new(key(), Keypair::generate_ecdsa(), Limits::default());
    let one = signer.merge(Dict::new(), at(0), Duration::from_secs(60)).unwrap();
    let other = SignedUpdate::decode(
        &key(),
        &signer.writer(),
        one.as_bytes().to_vec().into(),
        other_signature(one.signature()).into(),
        &Limits::default(),
    )
    .unwrap();
    let pair = [(signer.writer(), one), (signer.writer(), other)];
    let least = pair.iter().min_by_key(|(_, update)| update.signature()).unwrap();
    for order in [[&pair[0], &pair[1]], [&pair[1], &pair[0]]] {
        let (mut store, _) = replica(Limits::default(), 0);
        for update in order {
            put(&mut store, &key(), record_of([update]).encode());
        }
        assert_eq!(stored(&store), record_of([least]));
    }
}
