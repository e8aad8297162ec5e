//! Histories of several writers, some of which break the rules, and the records made from them.

use super::*;

/// The next action of a writer that obeys the rules.
#[derive(Clone, Debug)]
pub enum Act {
    Merge(Dict, u64),
    Replace(Dict, u64),
    Withdraw,
}

/// An update of a writer that breaks the rules. Times are relative to [`T0`].
#[derive(Clone, Debug)]
pub struct Raw {
    pub seq: u64,
    pub expires_at: u64,
    pub retained: u64,
    pub replace: bool,
    pub document: Dict,
    pub extensions: Extensions,
    /// The bits of its stamp; none if 0.
    pub work: u8,
}

#[derive(Clone, Debug)]
pub enum History {
    /// The delay after the previous action, and the action.
    Lawful(Vec<(u64, Act)>),
    Lawless(Vec<Raw>),
}

pub fn small_document() -> BoxedStrategy<Dict> {
    document(false, option::of((0..SPAN).prop_map(|offset| T0 + offset)).boxed())
}

pub fn acts() -> BoxedStrategy<Vec<(u64, Act)>> {
    let ttl = || prop_oneof![1_u64..50, 1_u64..2_000];
    let act = prop_oneof![
        5 => (small_document(), ttl()).prop_map(|(d, ttl)| Act::Merge(d, ttl)),
        2 => (small_document(), ttl()).prop_map(|(d, ttl)| Act::Replace(d, ttl)),
        1 => Just(Act::Withdraw),
    ];
    vec((prop_oneof![Just(0), 0_u64..300], act), 1..6).boxed()
}

pub fn raw() -> impl Strategy<Value = Raw> {
    (
        // Few values, so that equal ones are frequent.
        prop_oneof![0_u64..3, 0..SPAN * 1_000],
        0..SPAN / 2,
        0..SPAN / 2,
        prop::bool::weighted(0.3),
        small_document(),
        extensions(),
    )
        .prop_map(|(seq, expires_at, retained, replace, document, extensions)| Raw {
            seq,
            expires_at,
            retained,
            replace,
            document,
            extensions,
            work: 0,
        })
}

/// An update that may have a stamp, and leaves out others seldom.
pub fn stamped() -> BoxedStrategy<History> {
    let raw = (raw(), prop_oneof![Just(0), 1_u8..5], prop::bool::weighted(0.2));
    let raw = raw.prop_map(|(raw, work, replace)| Raw { work, replace, ..raw });
    vec(raw, 1..6).prop_map(History::Lawless).boxed()
}

/// Mostly no fields.
pub fn extensions() -> impl Strategy<Value = Extensions> {
    let field = (Extensions::NUMBERS, vec(any::<u8>(), 0..4));
    vec(field, 0..3).prop_map(|fields| {
        fields.into_iter().fold(Extensions::new(), |all, (n, bytes)| all.with(n, bytes).unwrap())
    })
}

pub fn lawful() -> BoxedStrategy<History> {
    acts().prop_map(History::Lawful).boxed()
}

pub fn lawless() -> BoxedStrategy<History> {
    vec(raw(), 1..6).prop_map(History::Lawless).boxed()
}

pub fn histories(each: BoxedStrategy<History>) -> impl Strategy<Value = Vec<History>> {
    vec(each, 2..=4)
}

pub fn any_history() -> BoxedStrategy<History> {
    prop_oneof![lawful(), lawless()].boxed()
}

pub type Updates = Vec<(Writer, SignedUpdate)>;

pub struct Author {
    pub signer: SpaceSigner,
    pub now: u64,
}

impl Author {
    pub fn new(seed: u8) -> Self {
        // Withdrawals by a signer with an incomplete history are retained for `max_ttl`, so it must
        // be within the span.
        let limits = Limits::default().with_max_ttl(Duration::from_millis(SPAN / 2));
        let mut signer = SpaceSigner::new(key(), keypair(seed), limits);
        signer.resume(&SmartRecord::new(key()));
        Self { signer, now: 0 }
    }

    pub fn act(&mut self, after: u64, act: &Act) -> (Writer, SignedUpdate) {
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

pub fn sign_raw(seed: u8, raw: &Raw) -> (Writer, SignedUpdate) {
    let update = Update {
        seq: Seq::from_micros(T0 * 1_000 + raw.seq),
        expires_at: at(raw.expires_at),
        retain_until: at(raw.expires_at + raw.retained),
        kind: if raw.replace { UpdateKind::Replace } else { UpdateKind::Merge },
        document: raw.document.clone(),
        extensions: raw.extensions.clone(),
    };
    let keypair = keypair(seed);
    let writer = Writer::from(&keypair.public());
    let mut update = update;
    if raw.work > 0 {
        let search = StampSearch::new(writer.rank(&key()), update.seq, raw.work).step(1 << 16);
        let stamp = search.unwrap().encode();
        update.extensions = Extensions::new().with(Stamp::FIELD, stamp).unwrap();
    }
    (writer, update.sign(&key(), &keypair, &Limits::default()).unwrap())
}

pub fn updates_of(seed: u8, history: &History) -> Updates {
    match history {
        History::Lawful(acts) => {
            let mut author = Author::new(seed);
            acts.iter().map(|(after, act)| author.act(*after, act)).collect()
        }
        History::Lawless(raws) => raws.iter().map(|raw| sign_raw(seed, raw)).collect(),
    }
}

pub fn all_updates(histories: &[History]) -> Updates {
    (1..).zip(histories).flat_map(|(seed, history)| updates_of(seed, history)).collect()
}

pub fn record_of<'a>(updates: impl IntoIterator<Item = &'a (Writer, SignedUpdate)>) -> SmartRecord {
    let mut record = SmartRecord::new(key());
    for (writer, update) in updates {
        record.insert(writer.clone(), update.clone()).unwrap();
    }
    record
}

pub fn joined(a: &SmartRecord, b: &SmartRecord) -> SmartRecord {
    let mut joined = a.clone();
    joined.join(b.clone()).unwrap();
    joined
}

/// Limits that nearly every history exceeds, but no single update.
pub fn small_limits() -> Limits {
    Limits::default()
        .with_updates_per_space(3)
        .with_space_bytes(2_048 + 250)
        .with_spaces_per_record(2)
        .with_min_stamp_bits(2)
}

/// The limits of a space alone: any number of spaces stays.
pub fn limits_of_spaces() -> Limits {
    small_limits().with_spaces_per_record(1_024)
}

/// Updates and limits for laws of truncation. How many spaces stay is a part of the join only where
/// none is withdrawn.
pub fn limited(updates: Updates) -> [(Limits, Updates); 2] {
    let open = updates.iter().filter(|(_, update)| !update.is_withdrawal()).cloned().collect();
    [(limits_of_spaces(), updates), (small_limits(), open)]
}

pub fn truncated(mut record: SmartRecord, limits: &Limits) -> SmartRecord {
    record.truncate(limits);
    record
}

/// A record without the spaces that stay as their withdrawal, although their writers have written
/// again: these have no place as they are, and whether their withdrawal stays depends on what was
/// heard last.
pub fn decided(record: &SmartRecord, whole: &SmartRecord) -> SmartRecord {
    let mut decided = SmartRecord::new(key());
    for (writer, space) in record.spaces() {
        let is_withdrawn = whole.space(writer).is_some_and(|whole| whole.is_withdrawn());
        if !space.is_withdrawn() || is_withdrawn {
            decided.join_space(writer.clone(), space.clone());
        }
    }
    decided
}

pub fn collected(mut record: SmartRecord, now: Timestamp) -> SmartRecord {
    record.collect(now);
    record
}

/// Distributes the updates over three records, some to several.
pub fn deal(updates: &Updates, dice: &mut Dice) -> [SmartRecord; 3] {
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

/// Packets that together hold all updates: in any order, grouped and split at random, some twice.
pub fn packets(updates: &Updates, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut order = updates.clone();
    dice.shuffle(&mut order);
    while !order.is_empty() {
        let group: Updates = order.split_off(order.len() - 1 - dice.roll(order.len().min(4)));
        let size = [1, 100, 300, 1_000, 15_000][dice.roll(5)];
        packets.extend(record_of(&group).chunks(size));
        // Any other update may be repeated too.
        let stale = updates[dice.roll(updates.len())].clone();
        packets.push(record_of([&stale]).encode());
    }
    for _ in 0..packets.len() / 2 {
        packets.push(packets[dice.roll(packets.len())].clone());
    }
    dice.shuffle(&mut packets);
    packets
}

pub fn assert_nothing_expired(node: &Node, now: Timestamp) -> Result<(), TestCaseError> {
    let children: Vec<&Node> = node.kind.children().collect();
    // A container lives while any node in it lives; other nodes live until their own expiry.
    if children.is_empty() {
        let lives = node.expires_at.is_some_and(|at| at > now);
        prop_assert!(lives, "at {}: {} until {:?}", now, node, node.expires_at);
    }
    for child in children {
        assert_nothing_expired(child, now)?;
    }
    Ok(())
}
