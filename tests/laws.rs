//! The laws that replicas live by: the order and the encodings of nodes, the join of records, what a reader
//! sees of them, and that delivery in any order, in any pieces and through any store comes to the same.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    Cid, Clock, Dict, Fault, Float, Kind, Limits, List, Node, Predicate, RecordKey, Registry,
    SignedUpdate, SmartRecord, SmartRecordStore, SmartRecordValidator, SpaceSigner, StoreConfig,
    Timestamp, Update, UpdateKind, ValidationError, Validator, View, Writer,
    node::{DocumentLimits, NodeError, codec},
    record::{Open, Seq},
    store::MemoryStorage,
};
use proptest::{collection::vec, option, prelude::*, test_runner::FileFailurePersistence};
use prost::Message;

/// The time at which all histories begin.
const T0: u64 = 1_700_000_000_000;
/// All histories, lifetimes included, are over this long after [`T0`].
const SPAN: u64 = 4_000;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

fn at(offset: u64) -> Timestamp {
    Timestamp::from_millis(T0 + offset)
}

fn key() -> RecordKey {
    RecordKey::new("/sr/laws")
}

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// Order, choice and repetition from a number, so that a failing case can be told by it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.roll(i + 1));
        }
    }
}

// ---------------------------------------------------------------- documents

fn float(finite: bool) -> BoxedStrategy<Float> {
    let number = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(1.0),
        proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL,
    ]
    .prop_map(|v| Float::new(v).unwrap());
    if finite {
        return number.boxed();
    }
    prop_oneof![
        4 => number,
        1 => Just(Float::INFINITY),
        1 => Just(Float::NEG_INFINITY)
    ]
    .boxed()
}

fn link() -> impl Strategy<Value = Cid> {
    (0_u8..3, any::<bool>()).prop_map(|(n, v0)| {
        let hash = cid::multihash::Multihash::<64>::wrap(0x12, &[n; 32]).unwrap();
        if v0 { Cid::new_v0(hash).unwrap() } else { Cid::new_v1(0x55, hash) }
    })
}

/// A node of a kind of the future: field 30, `content` as its bytes.
fn opaque(content: &[u8]) -> Kind {
    let mut bytes = vec![0xf2, 0x01, u8::try_from(content.len()).unwrap()];
    bytes.extend_from_slice(content);
    let data = Ipld::Map(BTreeMap::from([("Opaque".to_owned(), Ipld::Bytes(bytes))]));
    Node::from_ipld(data).unwrap().kind
}

fn leaf(finite: bool) -> BoxedStrategy<Kind> {
    prop_oneof![
        any::<bool>().prop_map(Kind::from),
        (0_i64..4).prop_map(Kind::from),
        any::<i64>().prop_map(Kind::from),
        float(finite).prop_map(Kind::from),
        // "/" is what JSON escapes with.
        prop_oneof![Just("/"), Just("a"), Just("b"), Just(""), Just("ä\"\n")].prop_map(Kind::from),
        vec(any::<u8>(), 0..3).prop_map(Kind::from),
        link().prop_map(Kind::from),
        vec(0_u8..2, 0..2).prop_map(|content| opaque(&content)),
    ]
    .boxed()
}

/// Keys from few, so that documents meet.
fn dict_key(finite: bool) -> BoxedStrategy<Kind> {
    prop_oneof![
        6 => prop_oneof![Just("a"), Just("b"), Just("c"), Just("/")].prop_map(Kind::from),
        1 => leaf(finite),
        1 => vec(leaf(finite), 0..3).prop_map(|v| Kind::from(v.into_iter().collect::<List>())),
    ]
    .boxed()
}

fn node(finite: bool, lifetime: BoxedStrategy<Option<u64>>) -> BoxedStrategy<Node> {
    let with_lifetime = move |kind: BoxedStrategy<Kind>| {
        (kind, lifetime.clone()).prop_map(|(kind, lifetime)| Node {
            kind,
            expires_at: lifetime.map(Timestamp::from_millis),
        })
    };
    let inner = with_lifetime.clone();
    with_lifetime(leaf(finite))
        .prop_recursive(3, 16, 4, move |child| {
            let list = vec(child.clone(), 0..4).prop_map(List::from_iter).boxed();
            let dict = vec((dict_key(finite), child), 0..4).prop_map(Dict::from_iter).boxed();
            let predicate =
                (prop_oneof![Just("t"), Just("u"), Just("")], list.clone(), dict.clone()).prop_map(
                    |(tag, positional, named)| Predicate { tag: tag.to_owned(), positional, named },
                );
            inner(
                prop_oneof![
                    list.prop_map(Kind::from),
                    dict.prop_map(Kind::from),
                    predicate.prop_map(Kind::from),
                ]
                .boxed(),
            )
        })
        .boxed()
}

fn any_lifetime() -> BoxedStrategy<Option<u64>> {
    prop_oneof![
        2 => Just(None),
        2 => (0_u64..3).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
    ]
    .boxed()
}

fn document(finite: bool, lifetime: BoxedStrategy<Option<u64>>) -> BoxedStrategy<Dict> {
    vec((dict_key(finite), node(finite, lifetime)), 0..4).prop_map(Dict::from_iter).boxed()
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The encoding of a node as the value of a pair.
fn encoded(node: &Node) -> Vec<u8> {
    codec::encode(&[("k", node.clone())].into_iter().collect())
}

fn without_lifetimes(node: &Node) -> Node {
    Node::new(match &node.kind {
        Kind::List(list) => list.iter().map(without_lifetimes).collect::<List>().into(),
        Kind::Dict(dict) => Kind::from(bare_dict(dict)),
        Kind::Predicate(p) => Kind::from(Predicate {
            tag: p.tag.clone(),
            positional: p.positional.iter().map(without_lifetimes).collect(),
            named: bare_dict(&p.named),
        }),
        leaf => leaf.clone(),
    })
}

fn bare_dict(dict: &Dict) -> Dict {
    dict.iter().map(|(key, node)| (key.clone(), without_lifetimes(node))).collect()
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn nodes_are_totally_ordered(
        a in node(false, any_lifetime()),
        b in node(false, any_lifetime()),
        c in node(false, any_lifetime()),
        lifetimes in vec(option::of(0_u64..3), 3),
    ) {
        // Beside three unlike nodes, three of one content, which differ in lifetimes alone.
        let like = |lifetime: Option<u64>| Node {
            kind: a.kind.clone(),
            expires_at: lifetime.map(Timestamp::from_millis),
        };
        let nodes = [a.clone(), b, c, like(lifetimes[0]), like(lifetimes[1]), like(lifetimes[2]),
            without_lifetimes(&a)];
        for x in &nodes {
            for y in &nodes {
                prop_assert_eq!(x.cmp(y), y.cmp(x).reverse());
                prop_assert_eq!(x.cmp(y) == Ordering::Equal, x == y);
                prop_assert_eq!(x == y, encoded(x) == encoded(y));
                prop_assert!(x != y || hash_of(x) == hash_of(y));
                // Lifetimes count only between nodes of the same content.
                let by_content = without_lifetimes(x).cmp(&without_lifetimes(y));
                prop_assert_eq!(x.cmp_content(y), by_content);
                if by_content != Ordering::Equal {
                    prop_assert_eq!(x.cmp(y), by_content);
                }
                for z in &nodes {
                    prop_assert!(!(x <= y && y <= z) || x <= z, "{:?} {:?} {:?}", x, y, z);
                }
            }
        }
    }

    #[test]
    fn a_list_is_a_set(nodes in vec(node(false, any_lifetime()), 0..6), seed: u64) {
        // Some once more with another lifetime: of the two the later one counts, whichever comes first.
        let again = nodes.iter().map(|node| Node {
            expires_at: node.expires_at.map(|at| Timestamp::from_millis(at.as_millis() / 2)),
            kind: node.kind.clone(),
        });
        let nodes: Vec<Node> = nodes.iter().cloned().chain(again).collect();
        let list: List = nodes.iter().cloned().collect();
        let mut shuffled = nodes.clone();
        Dice(seed).shuffle(&mut shuffled);
        let again: List = nodes.iter().chain(&shuffled).cloned().collect();
        prop_assert_eq!(&again, &list);
        for pair in list.iter().collect::<Vec<_>>().windows(2) {
            prop_assert_eq!(pair[0].cmp_content(pair[1]), Ordering::Less);
        }
        for node in &nodes {
            prop_assert!(list.contains(node));
        }
    }

    #[test]
    fn the_encoding_is_faithful_and_the_only_one(
        document in document(false, any_lifetime()),
        flip: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let bytes = codec::encode(&document);
        let limits = DocumentLimits::default();
        prop_assert_eq!(codec::decode(&bytes, limits), Ok(document.clone()));
        // What decodes at all encodes to the same bytes: there is no second form of anything.
        if !bytes.is_empty() {
            let mut damaged = bytes.clone();
            damaged[flip.index(bytes.len())] ^= 1 << bit;
            if let Ok(other) = codec::decode(&damaged, limits) {
                prop_assert_ne!(&other, &document);
                prop_assert_eq!(codec::encode(&other), damaged);
            }
        }
    }

    #[test]
    fn json_keeps_all_but_lifetimes(document in document(false, any_lifetime())) {
        let text = document.to_json().to_string();
        prop_assert_eq!(text.parse::<Dict>(), Ok(bare_dict(&document)));
        let node = Node::new(document.clone());
        prop_assert_eq!(Node::from_json(&node.to_json()), Ok(without_lifetimes(&node)));
    }

    #[test]
    fn ipld_keeps_everything(
        document in document(false, any_lifetime()),
        finite in document(true, any_lifetime()),
    ) {
        prop_assert_eq!(Dict::from_ipld(document.to_ipld()), Ok(document));
        prop_assert_eq!(Dict::from_dag_json(&finite.to_dag_json().unwrap()), Ok(finite.clone()));
        prop_assert_eq!(Dict::from_dag_cbor(&finite.to_dag_cbor().unwrap()), Ok(finite));
    }
}

#[test]
fn a_node_of_an_unknown_kind_hides_no_second_lifetime() {
    // `expires_at: 5`, a field of the future, and `expires_at: 5` again. If the tail passed for a part of the
    // unknown content, the node could not be written with any other lifetime, and it could stand as a key.
    let unknown = [0xf2, 0x01, 1, b'x'];
    let value = [&[0x08, 5][..], &unknown, &[0x08, 5]].concat();
    let key = encoded_key("k");
    let pair = [&[0x0a, key.len() as u8][..], &key, &[0x12, value.len() as u8], &value].concat();
    let document = [&[0x0a, pair.len() as u8][..], &pair].concat();
    assert_eq!(codec::decode(&document, DocumentLimits::default()), Err(NodeError::NotCanonical));
}

/// The encoding of a String node.
fn encoded_key(text: &str) -> Vec<u8> {
    [&[0x2a, text.len() as u8][..], text.as_bytes()].concat()
}

// ---------------------------------------------------------------- histories

/// What a writer that keeps the rules does next.
#[derive(Clone, Debug)]
enum Act {
    Merge(Dict, u64),
    Replace(Dict, u64),
    Withdraw,
}

/// An update of a writer that keeps no rules, times after [`T0`].
#[derive(Clone, Debug)]
struct Raw {
    seq: u64,
    expires_at: u64,
    retained: u64,
    replace: bool,
    document: Dict,
}

#[derive(Clone, Debug)]
enum History {
    /// How long after the one before, and what.
    Lawful(Vec<(u64, Act)>),
    Lawless(Vec<Raw>),
}

fn small_document() -> BoxedStrategy<Dict> {
    document(false, option::of((0..SPAN).prop_map(|offset| T0 + offset)).boxed())
}

fn acts() -> BoxedStrategy<Vec<(u64, Act)>> {
    let ttl = || prop_oneof![1_u64..50, 1_u64..2_000];
    let act = prop_oneof![
        5 => (small_document(), ttl()).prop_map(|(d, ttl)| Act::Merge(d, ttl)),
        2 => (small_document(), ttl()).prop_map(|(d, ttl)| Act::Replace(d, ttl)),
        1 => Just(Act::Withdraw),
    ];
    vec((prop_oneof![Just(0), 0_u64..300], act), 1..6).boxed()
}

fn raw() -> impl Strategy<Value = Raw> {
    (
        // Few enough to be equal often.
        prop_oneof![0_u64..3, 0..SPAN * 1_000],
        0..SPAN / 2,
        0..SPAN / 2,
        prop::bool::weighted(0.3),
        small_document(),
    )
        .prop_map(|(seq, expires_at, retained, replace, document)| Raw {
            seq,
            expires_at,
            retained,
            replace,
            document,
        })
}

fn lawful() -> BoxedStrategy<History> {
    acts().prop_map(History::Lawful).boxed()
}

fn lawless() -> BoxedStrategy<History> {
    vec(raw(), 1..6).prop_map(History::Lawless).boxed()
}

fn histories(each: BoxedStrategy<History>) -> impl Strategy<Value = Vec<History>> {
    vec(each, 2..=4)
}

fn any_history() -> BoxedStrategy<History> {
    prop_oneof![lawful(), lawless()].boxed()
}

type Updates = Vec<(Writer, SignedUpdate)>;

struct Author {
    signer: SpaceSigner,
    now: u64,
}

impl Author {
    fn new(seed: u8) -> Self {
        // Withdrawals of what the signer does not know are kept for `max_ttl`: keep that within the span.
        let limits = Limits::default().with_max_ttl(Duration::from_millis(SPAN / 2));
        Self { signer: SpaceSigner::new(key(), keypair(seed), limits), now: 0 }
    }

    fn act(&mut self, after: u64, act: &Act) -> (Writer, SignedUpdate) {
        self.now += after;
        let (now, ttl) = (at(self.now), Duration::from_millis);
        let update = match act {
            Act::Merge(document, t) => self.signer.merge(document.clone(), now, ttl(*t)),
            Act::Replace(document, t) => self.signer.replace(document.clone(), now, ttl(*t)),
            Act::Withdraw => self.signer.withdraw(now),
        };
        (self.signer.writer(), update.unwrap())
    }
}

fn sign_raw(seed: u8, raw: &Raw) -> (Writer, SignedUpdate) {
    let update = Update {
        seq: Seq::from_micros(T0 * 1_000 + raw.seq),
        expires_at: at(raw.expires_at),
        retain_until: at(raw.expires_at + raw.retained),
        kind: if raw.replace { UpdateKind::Replace } else { UpdateKind::Merge },
        document: raw.document.clone(),
    };
    let keypair = keypair(seed);
    let writer = Writer::from(&keypair.public());
    (writer, update.sign(&key(), &keypair, &Limits::default()).unwrap())
}

fn updates_of(seed: u8, history: &History) -> Updates {
    match history {
        History::Lawful(acts) => {
            let mut author = Author::new(seed);
            acts.iter().map(|(after, act)| author.act(*after, act)).collect()
        }
        History::Lawless(raws) => raws.iter().map(|raw| sign_raw(seed, raw)).collect(),
    }
}

fn all_updates(histories: &[History]) -> Updates {
    (1..).zip(histories).flat_map(|(seed, history)| updates_of(seed, history)).collect()
}

fn record_of<'a>(updates: impl IntoIterator<Item = &'a (Writer, SignedUpdate)>) -> SmartRecord {
    let mut record = SmartRecord::new(key());
    for (writer, update) in updates {
        record.insert(writer.clone(), update.clone());
    }
    record
}

fn joined(a: &SmartRecord, b: &SmartRecord) -> SmartRecord {
    let mut joined = a.clone();
    joined.join(b.clone()).unwrap();
    joined
}

/// Limits that nearly every history exceeds, without making any update too large.
fn small_limits() -> Limits {
    Limits::default()
        .with_updates_per_space(3)
        .with_space_bytes(2_048 + 250)
        .with_spaces_per_record(2)
}

fn truncated(mut record: SmartRecord, limits: &Limits) -> SmartRecord {
    record.truncate(limits);
    record
}

fn collected(mut record: SmartRecord, now: Timestamp) -> SmartRecord {
    record.collect(now);
    record
}

/// Deals the updates onto three records, some to several.
fn deal(updates: &Updates, dice: &mut Dice) -> [SmartRecord; 3] {
    let mut hands: [Updates; 3] = Default::default();
    let mut order = updates.clone();
    dice.shuffle(&mut order);
    for update in order {
        let first = dice.roll(3);
        hands[first].push(update.clone());
        if dice.roll(3) == 0 {
            hands[(first + 1) % 3].push(update);
        }
    }
    hands.map(|hand| record_of(&hand))
}

/// Packets that hold all of the updates together: in any order, grouped and cut up anyhow, some twice.
fn packets(updates: &Updates, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut order = updates.clone();
    dice.shuffle(&mut order);
    while !order.is_empty() {
        let group: Updates = order.split_off(order.len() - 1 - dice.roll(order.len().min(4)));
        let size = [1, 100, 300, 1_000, 15_000][dice.roll(5)];
        packets.extend(record_of(&group).chunks(size));
        // Any other update as well may come along once more.
        let stale = updates[dice.roll(updates.len())].clone();
        packets.push(record_of([&stale]).encode());
    }
    for _ in 0..packets.len() / 2 {
        packets.push(packets[dice.roll(packets.len())].clone());
    }
    dice.shuffle(&mut packets);
    packets
}

#[derive(Clone, Debug)]
struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    fn at(offset: u64) -> Self {
        Self(Arc::new(AtomicU64::new(T0 + offset)))
    }

    fn set(&self, offset: u64) {
        self.0.store(T0 + offset, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}

fn replica(limits: Limits, clock: &ManualClock) -> SmartRecordStore {
    let registry = Registry::empty().with("sr", SmartRecordValidator::new(limits, Open)).unwrap();
    SmartRecordStore::with_storage(
        keypair(200).public().to_peer_id(),
        registry,
        StoreConfig::default(),
        MemoryStorage::default(),
        clock.clone(),
    )
}

/// Delivers a packet as Kademlia does one from a stranger.
fn put(store: &mut SmartRecordStore, packet: Vec<u8>) {
    let record = kad::Record::new(kad::RecordKey::from(&key()), packet);
    store.put(record).unwrap();
}

/// The record that a store holds, none counting as an empty one.
fn stored(store: &SmartRecordStore) -> SmartRecord {
    store.record(&key()).unwrap().unwrap_or_else(|| SmartRecord::new(key()))
}

fn assert_nothing_expired(node: &Node, now: Timestamp) -> Result<(), TestCaseError> {
    let children: Vec<&Node> = match &node.kind {
        Kind::List(list) => list.iter().collect(),
        Kind::Dict(dict) => dict.iter().map(|(_, node)| node).collect(),
        Kind::Predicate(p) => p.positional.iter().chain(p.named.iter().map(|(_, n)| n)).collect(),
        _ => Vec::new(),
    };
    // A container lives while anything in it does; all else by its own time.
    if children.is_empty() {
        let lives = node.expires_at.is_some_and(|at| at > now);
        prop_assert!(lives, "at {}: {} until {:?}", now, node, node.expires_at);
    }
    for child in children {
        assert_nothing_expired(child, now)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn join_is_a_semilattice(histories in histories(any_history()), seed: u64) {
        let updates = all_updates(&histories);
        let [a, b, c] = deal(&updates, &mut Dice(seed));
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        let all = joined(&joined(&a, &b), &c);
        prop_assert_eq!(joined(&all, &b), all.clone());
        prop_assert_eq!(all, record_of(&updates));
    }

    #[test]
    fn limits_are_a_part_of_the_join(histories in histories(any_history()), seed: u64) {
        let limits = small_limits();
        let cut = |record| truncated(record, &limits);
        let updates = all_updates(&histories);
        let [a, b, c] = deal(&updates, &mut Dice(seed));
        let all = cut(record_of(&updates));
        // Before, between, after, in any grouping.
        let (ca, cb, cc) = (cut(a.clone()), cut(b.clone()), cut(c.clone()));
        prop_assert_eq!(cut(joined(&ca, &cb)), cut(joined(&cb, &ca)));
        prop_assert_eq!(cut(joined(&ca, &cb)), cut(joined(&a, &b)));
        prop_assert_eq!(&cut(joined(&cut(joined(&ca, &cb)), &cc)), &all);
        prop_assert_eq!(&cut(joined(&ca, &cut(joined(&cb, &cc)))), &all);
        prop_assert_eq!(&cut(joined(&joined(&a, &cb), &c)), &all);
        prop_assert_eq!(&cut(joined(&all, &cb)), &all);
        prop_assert_eq!(&cut(all.clone()), &all);
        // The newest stay while those above them leave room, and not one less.
        for (writer, space) in all.spaces() {
            let whole = record_of(&updates);
            let (mut bytes, mut kept) = (0, Vec::new());
            for update in whole.space(writer).unwrap().updates().collect::<Vec<_>>().into_iter().rev() {
                if kept.len() == 3 || bytes >= 250 {
                    break;
                }
                bytes += update.as_bytes().len();
                kept.insert(0, update.clone());
            }
            // The newest replace, which is the first if there is one, stays besides.
            if let Some(first) = whole.space(writer).unwrap().updates().next()
                && first.kind() == UpdateKind::Replace
                && kept.first() != Some(first)
            {
                kept.insert(0, first.clone());
            }
            prop_assert_eq!(space.updates().cloned().collect::<Vec<_>>(), kept);
        }
        prop_assert!(all.spaces().len() <= limits.spaces_per_record());
        for (_, space) in all.spaces() {
            let merges = || space.updates().filter(|u| u.kind() == UpdateKind::Merge);
            let bytes: usize = merges().map(|u| u.as_bytes().len()).sum();
            prop_assert!(merges().count() <= limits.updates_per_space());
            prop_assert!(bytes <= limits.space_bytes());
        }
    }

    #[test]
    fn collecting_changes_no_view(
        histories in histories(any_history()),
        times in vec(0..SPAN, 3),
    ) {
        let record = record_of(&all_updates(&histories));
        let mut times = times;
        times.sort_unstable();
        let (early, late) = (at(times[0]), at(times[2]));
        let once = collected(record.clone(), early);
        prop_assert_eq!(once.view(late), record.view(late));
        prop_assert_eq!(once.view(early), record.view(early));
        // Collecting twice is collecting at the later time.
        let twice = collected(collected(once, at(times[1])), late);
        prop_assert_eq!(&twice, &collected(record.clone(), late));
        prop_assert_eq!(twice.view(late), record.view(late));
        for (_, space) in twice.spaces() {
            for update in space.updates() {
                prop_assert!(update.retain_until() > late);
            }
        }
    }

    #[test]
    fn nothing_expired_is_ever_visible(
        histories in histories(any_history()),
        offsets in vec(0..SPAN, 8),
    ) {
        let record = record_of(&all_updates(&histories));
        for now in offsets.into_iter().map(at) {
            for (_, space) in &record.view(now) {
                prop_assert!(space.expires_at > now);
                for (_, node) in &space.document {
                    assert_nothing_expired(node, now)?;
                }
            }
        }
        prop_assert!(record.view(at(SPAN + SPAN)).is_empty());
    }

    #[test]
    fn any_delivery_gives_the_same_record(
        histories in histories(any_history()),
        seed: u64,
        now in 0..SPAN,
    ) {
        let updates = all_updates(&histories);
        let expected = record_of(&updates);
        let mut dice = Dice(seed);
        for limits in [Limits::default(), small_limits()] {
            let mut received = SmartRecord::new(key());
            for packet in packets(&updates, &mut dice) {
                let part = SmartRecord::decode(&key(), packet, &limits).unwrap();
                received.join(part).unwrap();
                received.truncate(&limits);
            }
            let expected = truncated(expected.clone(), &limits);
            prop_assert_eq!(&received, &expected);
            prop_assert_eq!(received.encode(), expected.encode());
            prop_assert_eq!(received.view(at(now)), expected.view(at(now)));

            // A store takes in nothing that has expired, be it from a writer that breaks the rules.
            let (live, expired): (Updates, Updates) =
                updates.iter().cloned().partition(|(_, u)| u.retain_until() > at(now));
            let clock = ManualClock::at(now);
            let mut store = replica(limits.clone(), &clock);
            let mut packets = packets(&live, &mut dice);
            packets.extend(expired.iter().map(|update| record_of([update]).encode()));
            dice.shuffle(&mut packets);
            for packet in packets {
                put(&mut store, packet);
            }
            let expected = truncated(record_of(&live), &limits);
            prop_assert_eq!(&stored(&store), &expected);
            prop_assert_eq!(store.view(&key()).unwrap(), expected.view(at(now)));
        }
    }

    #[test]
    fn stores_agree_though_time_goes_by(
        histories in histories(lawful()),
        seed: u64,
        pauses in vec(0_u64..200, 1..20),
    ) {
        // Each replica hears everything in another order, at other times, and collects when it likes.
        let updates = all_updates(&histories);
        let limits = Limits::default().with_updates_per_space(3);
        let mut dice = Dice(seed);
        for _ in 0..2 {
            let clock = ManualClock::at(0);
            let mut store = replica(limits.clone(), &clock);
            let mut now = 0;
            for packet in packets(&updates, &mut dice) {
                put(&mut store, packet);
                now += pauses[dice.roll(pauses.len())] / 4;
                clock.set(now);
                if dice.roll(3) == 0 {
                    store.collect().unwrap();
                }
            }
            let expected = collected(truncated(record_of(&updates), &limits), at(now));
            prop_assert_eq!(&stored(&store), &expected);
            prop_assert_eq!(store.view(&key()).unwrap(), expected.view(at(now)));
        }
    }

    #[test]
    fn what_was_withdrawn_never_comes_back(
        before in acts(),
        after in option::of(acts()),
        pause in 0_u64..300,
        seed: u64,
    ) {
        let mut author = Author::new(1);
        let mut write = |acts: &[(u64, Act)]| -> Updates {
            acts.iter().map(|(after, act)| author.act(*after, act)).collect()
        };
        let old = write(&before);
        let withdrawal = write(&[(pause, Act::Withdraw)]).remove(0);
        let new = write(&after.unwrap_or_default());
        let withdrawn_at = withdrawal.1.seq().issued_at().as_millis() - T0;

        let mut dice = Dice(seed);
        let clock = ManualClock::at(withdrawn_at);
        let mut store = replica(Limits::default(), &clock);
        let mut record = SmartRecord::new(key());
        // The withdrawal arrives somewhere among the old updates; from then on they only come again.
        let mut seen = old.clone();
        dice.shuffle(&mut seen);
        seen.truncate(dice.roll(seen.len() + 1));
        seen.push(withdrawal.clone());
        for (writer, update) in seen.iter().chain(&new) {
            record.insert(writer.clone(), update.clone());
            put(&mut store, record_of([&(writer.clone(), update.clone())]).encode());
        }
        let expected = record_of(&new);
        let mut now = withdrawn_at;
        while now < SPAN + 500 {
            clock.set(now);
            // The replica that missed the withdrawal does not tire.
            let late = old[dice.roll(old.len())].clone();
            put(&mut store, record_of([&late]).encode());
            put(&mut store, record_of(&old).encode());
            // A pure replica takes in what has not expired, as the store does.
            for (writer, update) in &old {
                if update.retain_until() > at(now) {
                    record.insert(writer.clone(), update.clone());
                }
            }
            prop_assert_eq!(record.view(at(now)), expected.view(at(now)), "at {}", now);
            prop_assert_eq!(store.view(&key()).unwrap(), expected.view(at(now)), "at {}", now);
            match dice.roll(3) {
                0 => { record.collect(at(now)); }
                1 => { store.collect().unwrap(); }
                _ => {}
            }
            now += 1 + dice.roll(400) as u64;
        }
        prop_assert!(stored(&store).spaces().len() == 0);
    }

    #[test]
    fn a_rule_breaker_harms_only_itself(
        honest in lawful(),
        villain in lawless(),
        now in 0..SPAN,
        seed: u64,
    ) {
        let (honest, villain) = (updates_of(1, &honest), updates_of(2, &villain));
        let writer = honest[0].0.clone();
        let alone = record_of(&honest);
        let both = record_of(honest.iter().chain(&villain));
        let seen = |view: &View| view.get(&writer.peer_id()).cloned();
        prop_assert_eq!(seen(&both.view(at(now))), seen(&alone.view(at(now))));
        prop_assert_eq!(both.space(&writer), alone.space(&writer));

        let clock = ManualClock::at(now);
        let mut store = replica(Limits::default(), &clock);
        let updates: Updates = honest.iter().chain(&villain).cloned().collect();
        for packet in packets(&updates, &mut Dice(seed)) {
            put(&mut store, packet);
        }
        // Its updates in the other's space, as if the other had signed them.
        let forged: Updates = villain.iter().map(|(_, u)| (writer.clone(), u.clone())).collect();
        let forged = record_of(&forged).encode();
        put(&mut store, forged.clone());
        prop_assert_eq!(seen(&store.view(&key()).unwrap()), seen(&alone.view(at(now))));
        let (held, expected) = (stored(&store), collected(alone.clone(), at(now)));
        prop_assert_eq!(held.space(&writer), expected.space(&writer));

        prop_assert!(SmartRecord::decode(&key(), forged.clone(), &Limits::default()).is_err());
        let validator = SmartRecordValidator::default();
        let good = alone.encode();
        prop_assert_eq!(validator.consolidate(&key(), &[&forged, &good]), Ok(good));
        prop_assert!(validator.consolidate(&key(), &[&forged]).is_err());
    }

    #[test]
    fn a_record_survives_its_encoding(histories in histories(any_history()), max in 0_usize..2_000) {
        let record = record_of(&all_updates(&histories));
        let limits = Limits::default();
        prop_assert_eq!(&SmartRecord::decode(&key(), record.encode(), &limits).unwrap(), &record);
        let mut whole = SmartRecord::new(key());
        for chunk in record.chunks(max) {
            let part = SmartRecord::decode(&key(), chunk.clone(), &limits).unwrap();
            let updates: usize = part.spaces().map(|(_, space)| space.updates().len()).sum();
            prop_assert!(chunk.len() <= max || updates == 1);
            whole.join(part).unwrap();
        }
        prop_assert_eq!(whole, record);
    }

    #[test]
    fn the_container_has_no_say(histories in histories(any_history()), seed: u64, now in 0..SPAN) {
        let updates = all_updates(&histories);
        let record = record_of(&updates);
        let mut dice = Dice(seed);
        let value = mirror::disorderly(&updates, &mut dice);
        let limits = Limits::default();
        prop_assert_eq!(&SmartRecord::decode(&key(), value.clone(), &limits).unwrap(), &record);
        let validator = SmartRecordValidator::default();
        prop_assert_eq!(validator.consolidate(&key(), &[&value]).unwrap(), record.encode());
        let tidy = record_of(updates.iter().filter(|(_, u)| u.retain_until() > at(now)));
        let clock = ManualClock::at(now);
        let mut store = replica(limits, &clock);
        put(&mut store, value);
        prop_assert_eq!(stored(&store), tidy);
    }

    #[test]
    fn consolidating_is_joining(histories in histories(any_history()), seed: u64) {
        let limits = small_limits();
        let validator = SmartRecordValidator::new(limits.clone(), Open);
        let key = key();
        let join = |values: &[&[u8]]| validator.consolidate(&key, values).unwrap();
        let mut dice = Dice(seed);
        let updates = all_updates(&histories);
        let records = deal(&updates, &mut dice).map(|r| joined(&r, &record_of([&updates[0]])));
        let [a, b, c] = &records.clone().map(|record| record.encode());
        prop_assert_eq!(join(&[a, b]), join(&[b, a]));
        prop_assert_eq!(join(&[&join(&[a, b]), c]), join(&[a, &join(&[b, c])]));
        prop_assert_eq!(join(&[a, b, c]), join(&[c, &join(&[b, a])]));
        prop_assert_eq!(join(&[a, a]), join(&[a]));
        prop_assert_eq!(join(&[&join(&[a, b]), b]), join(&[a, b]));
        // Rubbish and strangers' values change nothing.
        prop_assert_eq!(join(&[b"rubbish", a, b""]), join(&[a]));
        let expected = truncated(joined(&joined(&records[0], &records[1]), &records[2]), &limits);
        prop_assert_eq!(join(&[a, b, c]), expected.encode());
    }

    #[test]
    fn selecting_does_not_depend_on_the_order(histories in histories(any_history()), seed: u64) {
        let validator = SmartRecordValidator::default();
        let mut dice = Dice(seed);
        let updates = all_updates(&histories);
        let state = |value: &[u8]| SmartRecord::decode(&key(), value.to_vec(), &Limits::default());
        let mut values: Vec<Vec<u8>> = deal(&updates, &mut dice)
            .iter()
            .filter(|record| record.spaces().len() > 0)
            .map(SmartRecord::encode)
            .collect();
        values.push(b"rubbish".to_vec());
        let best = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            validator.select(&key(), &values).unwrap()
        };
        let first = best(&values);
        let chosen = values[first].clone();
        prop_assert!(state(&chosen).is_ok());
        // A tie goes to the lowest index, be the bytes the same or only what they say.
        values.push(chosen.clone());
        prop_assert_eq!(best(&values), first);
        let same = state(&chosen).unwrap();
        let its_updates: Updates = same
            .spaces()
            .flat_map(|(w, space)| space.updates().map(|u| (w.clone(), u.clone())))
            .collect();
        values.push(mirror::disorderly(&its_updates, &mut dice));
        prop_assert_eq!(best(&values), first);
        for _ in 0..3 {
            dice.shuffle(&mut values);
            let best = best(&values);
            prop_assert_eq!(&state(&values[best]).unwrap(), &same);
            let lowest = values.iter().position(|v| state(v).as_ref() == Ok(&same));
            prop_assert_eq!(Some(best), lowest);
        }
        // Choosing the better of two again and again finds the same: the order is total.
        let winner = values.iter().cloned().reduce(|a, b| {
            let pair = [a, b];
            let best = validator.select(&key(), &[&pair[0], &pair[1]]).unwrap_or(0);
            pair[best].clone()
        });
        prop_assert_eq!(state(&winner.unwrap()), Ok(same));
    }
}

/// The other signature that ECDSA allows of the same bytes, which anyone can make: `s` becomes `n - s`.
fn twin_signature(der: &[u8]) -> Vec<u8> {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let s_at = 4 + usize::from(der[3]);
    let s = &der[s_at + 2..];
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().rev().zip(s.iter().rev()) {
        *to = *from;
    }
    let mut borrow = 0;
    let mut twin: Vec<u8> = (0..32)
        .rev()
        .map(|i| {
            let difference = i16::from(N[i]) - i16::from(padded[i]) - borrow;
            borrow = i16::from(difference < 0);
            difference.rem_euclid(256) as u8
        })
        .collect();
    while twin.len() > 1 && twin[twin.len() - 1] == 0 {
        twin.pop();
    }
    if twin[twin.len() - 1] >= 0x80 {
        twin.push(0);
    }
    twin.reverse();
    let mut inner = der[2..s_at].to_vec();
    inner.extend([0x02, twin.len() as u8]);
    inner.extend(twin);
    [&[0x30, inner.len() as u8][..], &inner].concat()
}

#[test]
fn of_two_good_signatures_every_replica_keeps_the_same() {
    let keypair = Keypair::generate_ecdsa();
    let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
    let one = signer.merge(Dict::new(), at(0), Duration::from_secs(60)).unwrap();
    let other = SignedUpdate::decode(
        &key(),
        &signer.writer(),
        one.as_bytes().to_vec().into(),
        twin_signature(one.signature()).into(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(one.position(), other.position());
    assert_ne!(one, other);
    let pair = [(signer.writer(), one), (signer.writer(), other)];
    let least = pair.iter().min_by_key(|(_, u)| u.signature().to_vec()).unwrap();
    let reversed = [pair[1].clone(), pair[0].clone()];
    for order in [&pair, &reversed] {
        let record = record_of(order);
        assert_eq!(record, record_of([least]));
        let clock = ManualClock::at(0);
        let mut store = replica(Limits::default(), &clock);
        for update in order {
            put(&mut store, record_of([update]).encode());
        }
        assert_eq!(stored(&store), record);
    }
}

#[test]
fn there_is_nothing_to_select_from_nothing() {
    let validator = SmartRecordValidator::default();
    assert_eq!(validator.select(&key(), &[]), Err(ValidationError::NoValue));
    assert_eq!(validator.consolidate(&key(), &[]), Err(ValidationError::NoValue));
    let fault = |values: &[&[u8]]| validator.select(&key(), values).map_err(|e| e.fault());
    assert_eq!(fault(&[b"rubbish", b""]), Err(Fault::Malformed));
}

/// The containers of `proto/smart_record.proto`, written anew, with room for fields of the future.
mod mirror {
    use super::{Dice, Message, Updates};

    #[derive(Clone, PartialEq, Message)]
    struct SmartRecord {
        #[prost(message, repeated, tag = "1")]
        spaces: Vec<Space>,
        #[prost(string, tag = "15")]
        future: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Space {
        #[prost(bytes = "vec", tag = "1")]
        public_key: Vec<u8>,
        #[prost(message, repeated, tag = "2")]
        updates: Vec<SignedUpdate>,
        #[prost(uint64, tag = "9")]
        future: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct SignedUpdate {
        #[prost(bytes = "vec", tag = "1")]
        update: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        signature: Vec<u8>,
        #[prost(bytes = "vec", tag = "400")]
        future: Vec<u8>,
    }

    /// A container of the updates in which nothing is where it should be.
    pub(super) fn disorderly(updates: &Updates, dice: &mut Dice) -> Vec<u8> {
        let mut order: Updates = updates.clone();
        for _ in 0..dice.roll(4) {
            order.push(updates[dice.roll(updates.len())].clone());
        }
        dice.shuffle(&mut order);
        let mut spaces: Vec<Space> = Vec::new();
        for (writer, update) in order {
            let update = SignedUpdate {
                update: update.as_bytes().to_vec(),
                signature: update.signature().to_vec(),
                future: vec![7; dice.roll(3)],
            };
            let known = spaces.iter().position(|s| s.public_key == writer.as_bytes());
            match known.filter(|_| dice.roll(2) == 0) {
                Some(at) => spaces[at].updates.push(update),
                None => spaces.push(Space {
                    public_key: writer.as_bytes().to_vec(),
                    updates: vec![update],
                    future: dice.roll(3) as u64,
                }),
            }
            if dice.roll(4) == 0 {
                spaces.push(Space { public_key: writer.as_bytes().to_vec(), ..Space::default() });
            }
        }
        dice.shuffle(&mut spaces);
        let future = "x".repeat(dice.roll(5));
        SmartRecord { spaces, future }.encode_to_vec()
    }
}
