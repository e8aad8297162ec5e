//! The joined content of several answers.
//!
//! **Invariants.** Pure. Only valid content is added: signed, for this key, not expired. Content
//! that is already present is not verified again. A record never exceeds its limits. What any
//! answer has withdrawn or replaced is not shown, whatever the order of the answers and whether or
//! not the record has a place for the withdrawal ([`DroppedSpaces`]). Up to its limits the result
//! does not depend on the order; of a full record, which spaces stay is the same once the same
//! answers have come again.
//!
//! **Spec.** `docs/design.md`, sections "Join" and "Validators".

use std::{
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::dropped::{Dropped, DroppedSpaces};
use smart_record_core::{
    AskerTag, Coverage, EncodedSpace, Namespace, RecordKey, Registry, SmartRecord, Space,
    SpaceRules, Timestamp, ValidationError, Validator, Writer,
};

/// The valid content of answers longer than this is copied, because a single space would keep the
/// whole buffer alive. A packet of Kademlia is shorter.
const LONG: usize = 16 * 1_024;

/// The known content of a record, and the rules for adding more: a smart record is joined; a value
/// is consolidated or selected.
#[derive(Clone)]
pub(crate) enum JoinedAnswers {
    Record(SpaceRules, SmartRecord, DroppedSpaces),
    Value(Arc<dyn Validator>, Option<Bytes>),
}

/// A checked answer of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its valid content.
    pub(crate) shown: CheckedAnswer,
    /// What it says that it covers: no arcs if a part of it was refused unread.
    pub(crate) coverage: Option<Coverage>,
    /// For whom it is, if it says so.
    pub(crate) asker: Option<AskerTag>,
    /// The writers of which it has an update that is from the future by this clock.
    pub(crate) ahead: BTreeSet<PeerId>,
    /// When it was checked.
    pub(crate) at: Timestamp,
}

/// What has changed by adding content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// Whether it was news.
    pub(crate) is_news: bool,
    /// The writers whose spaces are not as they were.
    pub(crate) writers: Vec<Writer>,
    /// The spaces that the record has no place for, as far as that was not known.
    pub(crate) dropped: Vec<(Writer, Dropped)>,
    pub(crate) lifetime: LifetimeChange,
}

/// How the unsigned lifetime that comes with a value changes that of the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum LifetimeChange {
    /// The known value is the better one. So it is for smart records, which have none.
    #[default]
    Kept,
    /// The new value is the better one, or the only one.
    Replaced,
    /// The known value says all that the new one says, be it in other bytes, or they were combined:
    /// it is extended, and not shortened.
    Extended,
}

/// The valid content of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckedAnswer {
    Record(SmartRecord),
    Value(Bytes),
}

impl LifetimeChange {
    /// When the better value expires. `known` is the expiry of the known value, `stated` that which
    /// comes with the new one. `None` is never.
    pub(crate) fn end(
        self,
        known: Option<Timestamp>,
        stated: Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self {
            Self::Kept => known,
            Self::Replaced => stated,
            Self::Extended => known.zip(stated).map(|(known, stated)| known.max(stated)),
        }
    }
}

impl JoinedAnswers {
    /// Returns empty content for a key.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key.
    pub(crate) fn new(registry: &Registry, key: &RecordKey) -> Result<Self, ValidationError> {
        Ok(match registry.resolve(key)?.clone() {
            Namespace::Spaces(rules) => {
                Self::Record(rules, SmartRecord::new(key.clone()), DroppedSpaces::default())
            }
            Namespace::Value(validator) => Self::Value(validator, None),
        })
    }

    /// Returns the part that is useful for checking an answer: of a record, the spaces of the
    /// writers in the answer.
    pub(crate) fn relevant_to(&self, value: &Bytes) -> Self {
        let Self::Record(rules, joined, _) = self else {
            return self.clone();
        };
        let mut known = SmartRecord::new(joined.key().clone());
        for encoded in EncodedSpace::all(value) {
            // Malformed spaces are refused by the check. A writer may occur many times.
            let public_key = encoded.public_key();
            if known.space_of_key(public_key).is_none()
                && let Some((writer, space)) = joined.space_of_key(public_key)
            {
                known.join_space(writer.clone(), space.clone());
            }
        }
        Self::Record(rules.clone(), known, DroppedSpaces::default())
    }

    /// Returns an answer with its valid content. Content that is already known is not verified
    /// again.
    ///
    /// # Errors
    /// [`ValidationError`] if none of it is valid.
    pub(crate) fn check(
        &self,
        key: &RecordKey,
        value: Bytes,
        now: Timestamp,
    ) -> Result<Answer, ValidationError> {
        let (mut asker, mut ahead) = (None, BTreeSet::new());
        let (shown, coverage) = match self {
            Self::Record(rules, known, _) => {
                let is_long = value.len() > LONG;
                let coverage = Coverage::of_answer(&value);
                asker = AskerTag::of_answer(&value);
                let (mut record, refusals) = rules.read_knowing(known, value, now)?;
                if is_long {
                    record = copy(&record);
                }
                ahead.extend(refusals.ahead_of_clock());
                // What was not read was not shown. The digest still tells whether it was found.
                let coverage = coverage.map(|it| match refusals.is_unread() {
                    true => Coverage::new([], it.spaces, it.digest),
                    false => it,
                });
                (CheckedAnswer::Record(record), coverage)
            }
            Self::Value(_, Some(known)) if *known == value => (CheckedAnswer::Value(value), None),
            Self::Value(validator, _) => {
                validator.validate(key, &value, now)?;
                (CheckedAnswer::Value(value), None)
            }
        };
        Ok(Answer { shown, coverage, asker, ahead, at: now })
    }

    /// Adds the valid content of an answer.
    ///
    /// # Errors
    /// [`ValidationError`] if it is a value that cannot be compared with the one that is known.
    pub(crate) fn take(
        &mut self,
        key: &RecordKey,
        shown: &CheckedAnswer,
    ) -> Result<Change, ValidationError> {
        match (self, shown) {
            (Self::Record(rules, joined, dropped), CheckedAnswer::Record(shown)) => {
                Ok(take_record(rules, joined, dropped, shown))
            }
            (Self::Value(validator, best), CheckedAnswer::Value(shown)) => {
                let (better, lifetime) = match best {
                    Some(best) if best == shown => (best.clone(), LifetimeChange::Extended),
                    Some(best) => {
                        // The known value comes first, so it wins a tie.
                        let better = validator.consolidate(key, &[best, shown])?;
                        let lifetime = match () {
                            () if validator.contains(key, best, shown) => LifetimeChange::Extended,
                            () if better == *shown => LifetimeChange::Replaced,
                            () if better == *best => LifetimeChange::Kept,
                            () => LifetimeChange::Extended,
                        };
                        (better.into(), lifetime)
                    }
                    None => (shown.clone(), LifetimeChange::Replaced),
                };
                let is_news = best.as_ref() != Some(&better);
                *best = Some(better);
                Ok(Change { is_news, lifetime, ..Change::default() })
            }
            _ => Ok(Change::default()),
        }
    }

    /// Joins a valid record, within the limits.
    pub(crate) fn join(&mut self, record: &SmartRecord) -> Change {
        match self {
            Self::Record(rules, joined, dropped) => take_record(rules, joined, dropped, record),
            Self::Value(..) => Change::default(),
        }
    }

    /// Joins the record that other answers have together, within the limits. Does nothing for
    /// values. Returns the writers whose spaces are not as they were.
    pub(crate) fn join_answers(&mut self, other: &Self) -> Vec<Writer> {
        let Self::Record(_, record, dropped) = other else {
            return Vec::new();
        };
        let mut changed = self.hide(dropped);
        changed.extend(self.join(record).writers);
        changed
    }

    /// Drops what is hidden by these spaces, which were dropped elsewhere. Returns the writers of
    /// which something was dropped. It costs a hash for each of the spaces.
    pub(crate) fn hide_some(&mut self, spaces: &[(Writer, Dropped)]) -> Vec<Writer> {
        let Self::Record(_, record, dropped) = self else {
            return Vec::new();
        };
        let key = record.key().clone();
        let mut hidden = Vec::new();
        for (writer, space) in spaces {
            if dropped.hide(&key, writer, *space)
                && let Some(replace) = dropped.replace(&key, writer)
                && record.forget_before(writer, replace) > 0
            {
                hidden.push(writer.clone());
            }
        }
        hidden
    }

    /// As [`hide_some`](Self::hide_some), for all that was dropped elsewhere. If anything in
    /// `other` is new, it costs a hash for each space of the record.
    pub(crate) fn hide(&mut self, other: &DroppedSpaces) -> Vec<Writer> {
        let Self::Record(_, record, dropped) = self else {
            return Vec::new();
        };
        if !dropped.join(other) {
            return Vec::new();
        }
        let key = record.key().clone();
        let writers = record.spaces().map(|(writer, _)| writer.clone());
        let replaced = writers.filter_map(|it| Some((dropped.replace(&key, &it)?, it)));
        let mut hidden: Vec<_> = replaced.collect();
        hidden.retain(|(replace, writer)| record.forget_before(writer, *replace) > 0);
        hidden.into_iter().map(|(_, writer)| writer).collect()
    }

    /// What is known of the spaces that the record has no place for.
    pub(crate) fn dropped(&self) -> Option<&DroppedSpaces> {
        match self {
            Self::Record(_, _, dropped) => Some(dropped),
            Self::Value(..) => None,
        }
    }

    /// Forgets the known value. Does nothing for smart records.
    pub(crate) fn forget_value(&mut self) {
        if let Self::Value(_, known) = self {
            *known = None;
        }
    }

    /// Removes expired updates of a record.
    pub(crate) fn collect(&mut self, now: Timestamp) {
        if let Self::Record(_, record, dropped) = self {
            record.collect(now);
            dropped.collect(now);
        }
    }

    /// The namespace of the key.
    pub(crate) fn namespace(&self) -> Namespace {
        match self {
            Self::Record(rules, ..) => rules.clone().into(),
            Self::Value(validator, _) => Namespace::Value(validator.clone()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Record(_, record, _) => record.spaces().len() == 0,
            Self::Value(_, value) => value.is_none(),
        }
    }

    /// The spaces of these writers; `None` for values.
    pub(crate) fn spaces_of(&self, writers: &[Writer]) -> Option<SmartRecord> {
        let record = self.record()?;
        let mut spaces = SmartRecord::new(record.key().clone());
        for writer in writers {
            if let Some(space) = record.space(writer) {
                spaces.join_space(writer.clone(), space.clone());
            }
        }
        Some(spaces)
    }

    /// The content; `None` if it is an unknown value.
    pub(crate) fn content(&self) -> Option<CheckedAnswer> {
        match self {
            Self::Record(_, record, _) => Some(CheckedAnswer::Record(record.clone())),
            Self::Value(_, value) => value.clone().map(CheckedAnswer::Value),
        }
    }

    pub(crate) fn record(&self) -> Option<&SmartRecord> {
        match self {
            Self::Record(_, record, _) => Some(record),
            Self::Value(..) => None,
        }
    }

    /// Whether the encoded content exceeds `bytes`.
    pub(crate) fn exceeds(&self, bytes: usize) -> bool {
        match self {
            Self::Record(_, record, _) => record
                .spaces()
                .try_fold(0_usize, |len, (writer, space)| {
                    let len = len.saturating_add(space.encoded_len(writer)).saturating_add(4);
                    // Stops as soon as the limit is exceeded.
                    (len <= bytes).then_some(len)
                })
                .is_none(),
            Self::Value(_, value) => value.as_ref().is_some_and(|value| value.len() > bytes),
        }
    }

    /// What a holder is to be sent, in chunks; empty if it lacks nothing. `tells`: whether it has
    /// shown all that it has of a writer. Of others, it lacks only what is newer than what it has
    /// shown.
    ///
    /// A record that fits into one chunk is sent as a whole, because a holder may keep the last PUT
    /// instead of joining it with what it has.
    pub(crate) fn lacking(
        &self,
        key: &RecordKey,
        shown: Option<&CheckedAnswer>,
        tells: impl Fn(&Writer) -> bool,
        chunk_bytes: usize,
    ) -> Vec<Bytes> {
        match (self, shown) {
            (Self::Record(_, joined, _), None) => chunks(joined, chunk_bytes),
            (Self::Record(_, joined, _), Some(CheckedAnswer::Record(shown))) => {
                let lacking = lacking(joined, shown, tells);
                let is_sent_whole = lacking.spaces().len() > 0 && !self.exceeds(chunk_bytes);
                chunks(if is_sent_whole { joined } else { &lacking }, chunk_bytes)
            }
            (Self::Value(validator, Some(best)), shown) => {
                let has_it = matches!(shown, Some(CheckedAnswer::Value(shown)) if validator.contains(key, shown, best));
                if has_it { Vec::new() } else { vec![best.clone()] }
            }
            _ => Vec::new(),
        }
    }

    /// Returns the spaces that a peer has shown, as they are known, if they fit into one packet:
    /// the repair of a peer that may keep the last PUT.
    pub(crate) fn renewed(&self, shown: &CheckedAnswer, chunk_bytes: usize) -> Option<Vec<Bytes>> {
        let (Self::Record(_, joined, _), CheckedAnswer::Record(shown)) = (self, shown) else {
            return None;
        };
        let mut renewed = shown.clone();
        for (writer, _) in shown.spaces() {
            if let Some(space) = joined.space(writer) {
                renewed.join_space(writer.clone(), space.clone());
            }
        }
        Some(chunks(&renewed, chunk_bytes)).filter(|chunks| chunks.len() == 1)
    }
}

/// Leaves out the validator, which need not be `Debug`.
impl fmt::Debug for JoinedAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(_, record, _) => f.debug_tuple("Record").field(record).finish(),
            Self::Value(_, value) => f.debug_tuple("Value").field(value).finish(),
        }
    }
}

impl CheckedAnswer {
    /// Hash that identifies the content.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Record(record) => {
                for (writer, space) in record.spaces() {
                    writer.as_bytes().hash(&mut hasher);
                    space.newest().hash(&mut hasher);
                    space.updates().len().hash(&mut hasher);
                }
            }
            Self::Value(value) => value.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// The chunks in which a record is sent.
pub(crate) fn chunks(record: &SmartRecord, chunk_bytes: usize) -> Vec<Bytes> {
    if record.spaces().len() == 0 {
        return Vec::new();
    }
    record.chunks(chunk_bytes).map(Bytes::from).collect()
}

/// Joins a valid record, within the limits.
fn take_record(
    rules: &SpaceRules,
    joined: &mut SmartRecord,
    dropped: &mut DroppedSpaces,
    shown: &SmartRecord,
) -> Change {
    let key = joined.key().clone();
    let mut before = Vec::new();
    for (writer, space) in shown.spaces() {
        let had = joined.space(writer);
        // What is known costs no hash.
        if had.is_some_and(|had| covers(had, space)) {
            continue;
        }
        let Some(space) = dropped.admit(&key, writer, space) else { continue };
        if !had.is_some_and(|had| covers(had, &space)) {
            before.push((writer, had.cloned()));
            joined.join_space(writer.clone(), space.into_owned());
        }
    }
    if before.is_empty() {
        return Change::default();
    }
    let gone = joined.truncate(rules.limits());
    for (writer, _) in &before {
        if let Some(newest) = joined.space(writer).and_then(Space::newest) {
            dropped.on_placed(&key, writer, newest);
        }
    }
    let dropped = dropped.add(&key, &gone, rules.limits());
    let has_changed = before.iter().any(|(writer, had)| joined.space(writer) != had.as_ref());
    let is_news = !dropped.is_empty() || has_changed;
    let before = before.into_iter().map(|(writer, _)| writer.clone());
    let writers = before.chain(gone.into_iter().map(|(writer, _)| writer)).collect();
    Change { is_news, writers, dropped, lifetime: LifetimeChange::Kept }
}

/// The same in bytes of its own.
fn copy(record: &SmartRecord) -> SmartRecord {
    let mut copy = SmartRecord::new(record.key().clone());
    for (writer, space) in record.spaces() {
        let key = Writer::decode(Bytes::copy_from_slice(writer.as_bytes()));
        // What is encoded here can be decoded.
        if let (Ok(writer), Ok(space)) = (key, Space::decode_trusted(space.encode(writer))) {
            copy.join_space(writer, space);
        }
    }
    copy
}

/// The spaces of which `record` has updates that `other` lacks.
pub(crate) fn beyond(record: &SmartRecord, other: &SmartRecord) -> SmartRecord {
    lacking(record, other, |_| true)
}

/// The spaces of which `record` has updates that `other` lacks if it `tells` all of the writer, and
/// otherwise a newer state than it.
fn lacking(
    record: &SmartRecord,
    other: &SmartRecord,
    tells: impl Fn(&Writer) -> bool,
) -> SmartRecord {
    let mut more = SmartRecord::new(record.key().clone());
    for (writer, space) in record.spaces() {
        let is_lacking = match other.space(writer) {
            None => tells(writer),
            Some(had) if tells(writer) => !covers(had, space),
            Some(had) => had.newest() < space.newest(),
        };
        if is_lacking {
            more.join_space(writer.clone(), space.clone());
        }
    }
    more
}

/// Whether joining `part` into `whole` would add nothing.
pub(crate) fn contains(whole: &SmartRecord, part: &SmartRecord) -> bool {
    part.spaces().all(|(writer, space)| whole.space(writer).is_some_and(|had| covers(had, space)))
}

/// Whether joining `other` into `space` would add nothing.
fn covers(space: &Space, other: &Space) -> bool {
    if space == other {
        return true;
    }
    let mut joined = space.clone();
    joined.join(other.clone());
    joined.newest() == space.newest()
        && joined.updates().len() == space.updates().len()
        && joined.updates().zip(space.updates()).all(|(a, b)| a.position() == b.position())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use smart_record_core::{Limits, Open, RingArc, SignatureMemory, SpaceSigner, Validity};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn key() -> RecordKey {
        RecordKey::new("/sr/a")
    }

    /// Two successive states of a new writer's space.
    fn says() -> (SmartRecord, SmartRecord) {
        let mut signer = SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
        let mut say = |text: &str| {
            let document = [("text", text)].into_iter().collect();
            signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
            signer.record(NOW)
        };
        (say("first"), say("then"))
    }

    fn joined(registry: &Registry, records: &[&SmartRecord]) -> JoinedAnswers {
        let mut joined = JoinedAnswers::new(registry, &key()).unwrap();
        for record in records {
            take(&mut joined, record.encode(), NOW).unwrap();
        }
        joined
    }

    fn take(
        joined: &mut JoinedAnswers,
        value: impl Into<Bytes>,
        now: Timestamp,
    ) -> Result<bool, ValidationError> {
        let value = value.into();
        let known = joined.relevant_to(&value);
        let shown = known.check(&key(), value.clone(), now);
        assert_eq!(shown, joined.check(&key(), value, now), "the useful part suffices");
        Ok(joined.take(&key(), &shown?.shown)?.is_news)
    }

    #[test]
    fn the_result_is_independent_of_order_and_within_the_limits() {
        let limits = Limits::default().with_spaces_per_record(2);
        let small = SpaceRules::new(limits, Open);
        let small = Registry::empty().with("sr", small).unwrap();
        let all: Vec<_> = (0..4).flat_map(|_| <[_; 2]>::from(says())).collect();
        let forth: Vec<_> = all.iter().collect();
        let back: Vec<_> = all.iter().rev().collect();
        for (registry, spaces) in [(&Registry::default(), 4), (&small, 2)] {
            let result = joined(registry, &forth);
            assert_eq!(result.record(), joined(registry, &back).record());
            assert_eq!(result.record().unwrap().spaces().len(), spaces);
        }
    }

    #[test]
    fn what_was_withdrawn_stays_hidden_whatever_the_order_and_whatever_has_a_place() {
        let limits = Limits::default().with_spaces_per_record(2).with_withdrawn_per_record(2);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        let signer = || SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
        let mut signers: Vec<_> = std::iter::repeat_with(signer).take(5).collect();
        signers.sort_by_key(|signer| signer.writer().rank(&key()));
        let mut victim = signers.pop().unwrap();
        let text = |text: &str| [("text", text)].into_iter().collect();
        victim.merge(text("a secret"), NOW, Duration::from_secs(60)).unwrap();
        let said = victim.record(NOW);
        let withdrawn = {
            let mut signer = victim.clone();
            signer.withdraw(NOW).unwrap();
            signer.record(NOW)
        };
        let replaced = {
            victim.replace(text("other"), NOW, Duration::from_secs(60)).unwrap();
            victim.record(NOW)
        };
        for (last, is_withdrawn) in [(withdrawn, true), (replaced, false)] {
            // Others of lower ranks, that fill the places of its kind.
            let mut others = SmartRecord::new(key());
            for signer in &mut signers {
                match is_withdrawn {
                    true => signer.withdraw(NOW).unwrap(),
                    false => signer.merge(text("x"), NOW, Duration::from_secs(60)).unwrap(),
                };
                others.join(signer.record(NOW)).unwrap();
            }
            let mut results = Vec::new();
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let answers = order.map(|n: usize| [&said, &last, &others][n]);
                let result = joined(&registry, &answers);
                let record = result.record().unwrap();
                assert!(record.space(&victim.writer()).is_none(), "there is no place for it");
                assert!(result.dropped().unwrap().has(&key(), &victim.writer()));
                // Nor later, when there is one.
                let mut later = result.clone();
                if let JoinedAnswers::Record(_, record, _) = &mut later {
                    *record = SmartRecord::new(key());
                }
                assert_eq!(take(&mut later, said.encode(), NOW), Ok(false), "{order:?}");
                assert_eq!(later.record().unwrap().view(NOW).len(), 0, "{order:?}");
                results.push(record.clone());
            }
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn what_has_no_place_is_news_once() {
        let limits = Limits::default().with_withdrawn_per_record(1);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        let mut withdrawals: Vec<_> = std::iter::repeat_with(|| {
            let mut signer =
                SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
            signer.withdraw(NOW).unwrap();
            (signer.writer().rank(&key()), signer.record(NOW))
        })
        .take(2)
        .collect();
        withdrawals.sort_by_key(|(rank, _)| *rank);
        let mut all = joined(&registry, &[&withdrawals[0].1]);
        let mut is_news = || take(&mut all, withdrawals[1].1.encode(), NOW);
        assert_eq!((is_news(), is_news()), (Ok(true), Ok(false)));
    }

    #[test]
    fn known_content_is_no_news_and_invalid_answers_change_nothing() {
        let (registry, (first, then)) = (Registry::default(), says());
        let mut known = joined(&registry, &[&then]);
        let before = known.clone();
        let mut is_news = |record: &SmartRecord| take(&mut known, record.encode(), NOW);
        assert_eq!((is_news(&then), is_news(&first)), (Ok(false), Ok(false)));
        assert_eq!(is_news(&says().0), Ok(true));
        let mut known = before.clone();
        let late = NOW.saturating_add(Duration::from_secs(49 * 3_600));
        assert!(take(&mut known, says().0.encode(), late).is_err(), "expired");
        assert!(take(&mut known, "junk", NOW).is_err());
        assert_eq!(known.record(), before.record());
    }

    #[test]
    fn what_a_holder_lacks_is_exact_for_a_whole_record_and_partial_for_a_slice() {
        let (registry, (first, then), other) = (Registry::default(), says(), says().0);
        let all = joined(&registry, &[&then, &other]);
        let sent = |shown: Option<&SmartRecord>, whole, chunk_bytes| {
            let shown = shown.map(|shown| CheckedAnswer::Record(shown.clone()));
            let chunks = all.lacking(&key(), shown.as_ref(), |_| whole, chunk_bytes);
            chunks.iter().fold(SmartRecord::new(key()), |mut sent, chunk| {
                let part = SmartRecord::decode(&key(), chunk.clone(), &Limits::default());
                sent.join(part.unwrap()).unwrap();
                sent
            })
        };
        let (all, nothing) = (all.record().unwrap(), SmartRecord::new(key()));
        let packet = 15 * 1_024;
        let too_small = all.encode().len() - 1;
        for bytes in [too_small, packet] {
            for whole in [true, false] {
                assert_eq!(sent(None, whole, bytes), *all);
                assert_eq!(sent(Some(all), whole, bytes), nothing);
            }
            assert_eq!(sent(Some(&other), false, bytes), nothing);
        }
        assert_eq!(sent(Some(&then), true, too_small), other);
        assert_eq!(sent(Some(&first), true, too_small), *all);
        let behind = sent(Some(&first), false, too_small);
        assert_eq!(behind, then, "the other may be in another slice");
        // A holder that keeps the last PUT would lose what it has shown.
        assert_eq!(sent(Some(&then), true, packet), *all);
        assert_eq!(sent(Some(&first), false, packet), *all);
    }

    /// Prefers the longest value; an empty value is stale.
    struct Longest;

    impl Validator for Longest {
        fn validate(
            &self,
            _: &RecordKey,
            value: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            if value.is_empty() { Err(ValidationError::Stale) } else { Ok(Validity::forever()) }
        }

        fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
            smart_record_core::best_index(values.iter().map(|value| value.len()))
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }
    }

    #[test]
    fn the_best_value_stays_and_holders_of_others_lack_it() {
        let mut best = JoinedAnswers::Value(Arc::new(Longest), None);
        let mut take = |value: &'static str| take(&mut best, value, NOW);
        assert_eq!(
            ["bb", "aa", "b", "ccc"].map(&mut take),
            [Ok(true), Ok(false), Ok(false), Ok(true)]
        );
        assert!(take("").is_err());
        let lacking = |shown: &'static str| {
            let shown = CheckedAnswer::Value(Bytes::from(shown));
            best.lacking(&key(), Some(&shown), |_| true, 1_024)
        };
        assert_eq!(lacking("bb"), [Bytes::from("ccc")]);
        assert!(lacking("ccc").is_empty());
    }

    #[test]
    fn the_encoded_length_is_compared_with_a_limit() {
        let registry = Registry::default();
        let records: Vec<_> = (0..10).map(|_| says().0).collect();
        let all = joined(&registry, &records.iter().collect::<Vec<_>>());
        let len = all.record().unwrap().encode().len();
        assert!(all.exceeds(len / 2) && all.exceeds(len - 1) && !all.exceeds(len + 40));
        let mut value = JoinedAnswers::Value(Arc::new(Longest), Some(Bytes::from("abc")));
        assert!(value.exceeds(2) && !value.exceeds(3));
        value.forget_value();
        assert!(!value.exceeds(0));
    }

    #[test]
    fn an_answer_of_which_a_part_was_refused_unread_covers_nothing() {
        let registry = Registry::default();
        let nothing = joined(&registry, &[]);
        let check = |value: &[u8]| nothing.check(&key(), Bytes::copy_from_slice(value), NOW);
        let mut board = SmartRecord::new(key());
        std::iter::repeat_with(|| says().0).take(40).for_each(|it| board.join(it).unwrap());
        let coverage =
            |arcs: &[RingArc]| Coverage::new(arcs.iter().copied(), 40, board.digest(NOW));
        let mut answer = board.encode();
        coverage(&[RingArc::RING]).append_to(&mut answer);
        assert_eq!(check(&answer).unwrap().coverage, Some(coverage(&[RingArc::RING])));
        // There is no time for all of it.
        let memory = SignatureMemory::new(0);
        let (limited, _) = memory.during(Duration::from_millis(1), || check(&answer));
        let limited = limited.unwrap();
        let CheckedAnswer::Record(shown) = limited.shown else { panic!() };
        assert!((1..40).contains(&shown.spaces().len()));
        assert_eq!(limited.coverage, Some(coverage(&[])));
        // Too many bad signatures in front of it.
        let mut forged = SmartRecord::new(key());
        std::iter::repeat_with(|| says().0).take(20).for_each(|it| forged.join(it).unwrap());
        let forged = forged.encode();
        let mut forged = EncodedSpace::all(&forged).fold(Vec::new(), |mut all, space| {
            let at = space.as_bytes().windows(5).position(|window| window == b"first").unwrap();
            let mut bytes = space.as_bytes().to_vec();
            bytes[at] = b'F';
            prost::encoding::bytes::encode(1, &bytes, &mut all);
            all
        });
        forged.extend(&answer);
        assert_eq!(check(&forged).unwrap().coverage, Some(coverage(&[])));
    }

    #[test]
    fn a_space_does_not_keep_the_long_answer_that_it_came_in() {
        let registry = Registry::default();
        let joined = joined(&registry, &[]);
        for (junk, is_copied) in [(0, false), (20 * 1_024, true)] {
            let record = says().0;
            // A field that nobody knows.
            let mut answer = record.encode();
            let mut tail = vec![0xfa, 0x01];
            prost::encoding::encode_varint(junk, &mut tail);
            tail.resize(tail.len() + usize::try_from(junk).unwrap(), 0);
            answer.extend(tail);
            let answer = Bytes::from(answer);
            let said = joined.check(&key(), answer.clone(), NOW).unwrap();
            let CheckedAnswer::Record(said) = said.shown else { panic!() };
            assert_eq!(said, record);
            let (writer, space) = said.spaces().next().unwrap();
            let range = answer.as_ptr_range();
            let bytes = space.updates().next().unwrap().as_bytes();
            for bytes in [bytes, writer.as_bytes()] {
                assert_eq!(!range.contains(&bytes.as_ptr()), is_copied);
            }
        }
    }

    #[test]
    fn equal_content_has_the_same_fingerprint() {
        let (first, then) = says();
        let of = |record: &SmartRecord| CheckedAnswer::Record(record.clone()).fingerprint();
        assert_eq!(of(&first), of(&first));
        assert_ne!(of(&first), of(&then));
        assert_ne!(of(&first), of(&says().0));
        let of = |value: &'static str| CheckedAnswer::Value(Bytes::from(value)).fingerprint();
        assert!(of("a") == of("a") && of("a") != of("b"));
    }
}
