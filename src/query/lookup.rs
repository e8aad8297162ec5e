//! The answers of a read: gathers them, decides when they are enough, and determines what each peer
//! lacks.
//!
//! **Invariants.** Pure, except that `begin` reads the store. An invalid answer changes nothing but
//! the list of refused peers. Only the peers closest to the key are repaired. After an early end it
//! is not known which peers these are, so only peers that already had the record are.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{GetRecordError, GetRecordOk, GetRecordResult};

use super::{
    covered::Claims,
    dropped::{DroppedSpaces, TakenPlaces, order_of, ordered_place},
    joined::{Answer, CheckedAnswer, JoinedAnswers, beyond},
    outcome::{Reading, Snapshot, Withheld},
    refused::RefusedAnswers,
    versions::Shown,
};
use crate::store::{SmartRecordStore, StoredValue, storage::RecordId};
use smart_record_core::{
    Arcs, Fault, RecordKey, Registry, RingArc, SmartRecord, Space, SpaceRules, Timestamp,
    ValidationError, Writer,
};

/// Condition for the result of a read to be returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadPolicy {
    /// The peers closest to the key are known, more than half of them have answered, and silent
    /// ones of those that were asked have had their time: 12 of the 20 closest, if the record fits
    /// into one answer and was covered. The others are asked in the background. Peers answer with
    /// slices of a large record, so they are asked again until every part of it was covered by
    /// [`complete_at`](crate::behaviour::BehaviourConfig::complete_at) of them, at most
    /// [`read_rounds`](crate::behaviour::BehaviourConfig::read_rounds) times.
    ///
    /// Such a read finds every write that a majority of the closest peers has acknowledged and
    /// stored, because the two groups have a peer in common.
    #[default]
    Settled,
    /// As [`Settled`](Self::Settled), and each of the closest peers has answered, has failed, or
    /// has been silent for two more seconds.
    All,
    /// This number of valid answers. Refused answers and peers without the record do not count.
    Replies(usize),
    /// This number of consecutive valid answers without news.
    WithoutNews(usize),
}

/// Maximum number of answers per round: twelve times the 20 closest peers, and at most 4 MB of
/// packets.
const MAX_ANSWERS: usize = 256;

/// Chunks that the same peers lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    pub(crate) peers: Vec<PeerId>,
    pub(crate) chunks: Vec<Bytes>,
}

/// Bounds of a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Number of the closest peers.
    pub(crate) closest: usize,
    /// Number of peers that have to cover a place of the ring of ranks.
    pub(crate) complete_at: usize,
    /// Number of answers in a row without anything new after which a holder that claims more is
    /// not waited for.
    pub(crate) patience: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) rounds: usize,
    pub(crate) repair_chunks: usize,
    /// Maximum size of a record.
    pub(crate) record_bytes: usize,
}

/// How much of a record was covered.
#[derive(Clone, Debug)]
struct Extent {
    /// The digest of what was found, unless no holder says that it has as many spaces.
    digest: Option<[u8; 32]>,
    /// The places that enough peers have covered.
    covered: Arcs,
    /// The last place at which a space that is missing was not evicted for want of room. `None`:
    /// there is room at all.
    last: Option<u64>,
    /// Whether a space was shown that would have a place now, but had none when it was shown.
    misses: bool,
    /// Whether holders may have no place for one more withdrawn space: half of the places are
    /// taken, and there is a bound in bytes too.
    dismisses_withdrawn: bool,
}

/// What costs hashes of the content that was found. It is computed once, until the content changes.
#[derive(Clone, Debug, Default)]
struct Hashed {
    /// The digest, and until when it stays the same.
    digest: OnceLock<([u8; 32], Option<Timestamp>)>,
    places: OnceLock<Places>,
}

#[derive(Clone, Copy, Debug)]
struct Places {
    /// See [`Extent::last`].
    last: Option<u64>,
    taken: TakenPlaces,
}

/// The state of a read.
#[derive(Clone, Debug)]
pub(crate) struct RecordLookup {
    key: RecordKey,
    policy: ReadPolicy,
    bounds: Bounds,
    joined: JoinedAnswers,
    shown: Shown,
    claims: Claims,
    /// The place of the ring that is enough, if it is not all of it.
    wanted: Option<u64>,
    /// Number of the closest peers that were asked, if known.
    asked: Option<usize>,
    /// When the last answer was checked.
    checked_at: Timestamp,
    /// What is known of the coverage, from all answers so far.
    extent: OnceLock<Extent>,
    hashed: Hashed,
    refused: BTreeMap<PeerId, ValidationError>,
    empty: BTreeSet<PeerId>,
    answers: usize,
    without_news: usize,
    rounds: usize,
    /// Whether it ended before all of the closest peers were asked.
    ended_early: bool,
    timed_out: bool,
    /// Number of holders that claimed more than they showed.
    overclaimed: usize,
    /// Number of answers in this round, valid or not.
    answers_in_round: usize,
    /// Number of answers with news.
    news: usize,
    /// What this node has stored.
    here: Option<CheckedAnswer>,
    /// What was found when it was passed on to be stored.
    passed_on: Option<CheckedAnswer>,
    /// The latest expiry that holders state for the best value; `None` if one of them states none.
    expires_at: Option<Timestamp>,
}

impl RecordLookup {
    pub(crate) fn new(
        key: RecordKey,
        policy: ReadPolicy,
        bounds: Bounds,
        registry: &Registry,
    ) -> Result<Self, ValidationError> {
        Ok(Self {
            joined: JoinedAnswers::new(registry, &key)?,
            shown: Shown::new(key.clone(), bounds.record_bytes),
            claims: Claims::default(),
            wanted: None,
            asked: None,
            checked_at: Timestamp::EPOCH,
            extent: OnceLock::new(),
            hashed: Hashed::default(),
            key,
            policy,
            bounds,
            refused: BTreeMap::new(),
            empty: BTreeSet::new(),
            answers: 0,
            without_news: 0,
            rounds: 1,
            ended_early: false,
            timed_out: false,
            overclaimed: 0,
            answers_in_round: 0,
            news: 0,
            here: None,
            passed_on: None,
            expires_at: Some(Timestamp::EPOCH),
        })
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    pub(crate) fn joined(&self) -> &JoinedAnswers {
        &self.joined
    }

    /// Returns a read that starts from what this node has stored.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key.
    pub(crate) fn begin(
        store: &SmartRecordStore,
        key: RecordKey,
        policy: ReadPolicy,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<Self, ValidationError> {
        let mut lookup = Self::new(key, policy, bounds, store.registry())?;
        let local = match &lookup.joined {
            JoinedAnswers::Record(rules, ..) => {
                // The clock may have been set back since it was stored.
                let latest = now.saturating_add(rules.limits().max_clock_skew());
                store.record(&lookup.key).map(|record| {
                    if let Some(mut record) = record {
                        record.forget_after(latest);
                        lookup.on_local(record);
                    }
                })
            }
            JoinedAnswers::Value(..) => store.value(&lookup.key).map(|value| {
                if let Some(StoredValue { value, expires_at, .. }) = value {
                    lookup.on_known_value(&value, expires_at, now);
                    lookup.here = Some(CheckedAnswer::Value(value));
                }
            }),
        };
        if let Err(error) = local {
            // Other peers may have it.
            tracing::warn!(%error, key = %lookup.key, "the local copy could not be read");
        }
        Ok(lookup)
    }

    /// Adds what this node has stored.
    fn on_local(&mut self, record: SmartRecord) {
        self.on_known(&record);
        self.here = Some(CheckedAnswer::Record(record));
    }

    /// Adds what Kademlia has found in the local store.
    pub(crate) fn on_here(&mut self, shown: CheckedAnswer, expires_at: Option<Timestamp>) {
        // Values that cannot be compared are ignored.
        let _ = self.take(&shown, expires_at);
        self.here = Some(shown);
    }

    pub(crate) const fn set_rounds(&mut self, rounds: usize) {
        self.bounds.rounds = rounds;
    }

    pub(crate) const fn set_complete_at(&mut self, peers: usize) {
        self.bounds.complete_at = peers;
    }

    /// Sets the only writer whose space has to be covered.
    pub(crate) fn want(&mut self, writer: &Writer) {
        self.wanted = Some(RingArc::place(&writer.rank(&self.key)));
    }

    /// Sets the number of the closest peers that were asked.
    pub(crate) fn set_asked(&mut self, asked: usize) {
        if self.asked.replace(asked) != Some(asked) {
            self.extent = OnceLock::new();
        }
    }

    /// Adds what this node knows but has not stored.
    pub(crate) fn on_known(&mut self, record: &SmartRecord) {
        self.on_content();
        self.joined.join(record);
    }

    /// As [`on_known`](Self::on_known), with what is known of spaces without a place.
    pub(crate) fn on_known_answers(&mut self, answers: &JoinedAnswers) {
        self.on_content();
        self.joined.join_answers(answers);
    }

    /// Handles a change of what was found.
    fn on_content(&mut self) {
        (self.extent, self.hashed) = (OnceLock::new(), Hashed::default());
    }

    pub(crate) const fn policy(&self) -> ReadPolicy {
        self.policy
    }

    /// Number of answers with news.
    pub(crate) const fn news_count(&self) -> usize {
        self.news
    }

    pub(crate) fn has_here(&self) -> bool {
        self.here.is_some()
    }

    /// Marks what was found as passed on to be stored.
    pub(crate) fn pass_on(&mut self) {
        self.passed_on = self.joined.content();
    }

    /// Whether this value was passed on to be stored.
    pub(crate) fn has_passed_on(&self, value: &Bytes) -> bool {
        matches!(&self.passed_on, Some(CheckedAnswer::Value(passed_on)) if passed_on == value)
    }

    /// The spaces that were found, and neither stored by this node nor passed on.
    pub(crate) fn news(&self) -> Option<SmartRecord> {
        let joined = self.joined.record()?;
        // What was passed on includes what is stored.
        let news = match self.passed_on.as_ref().or(self.here.as_ref()) {
            Some(CheckedAnswer::Record(here)) => beyond(joined, here),
            _ => joined.clone(),
        };
        (news.spaces().len() > 0).then_some(news)
    }

    /// A peer that has answered with the newest update of this space.
    pub(crate) fn source_of(&self, writer: &Writer) -> Option<PeerId> {
        let newest = self.joined.record()?.space(writer)?.newest()?;
        self.shown.holders_of(writer, newest).next()
    }

    /// How many bytes of answers are held, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.shown.bytes().saturating_add(self.joined.dropped().map_or(0, DroppedSpaces::bytes))
    }

    /// A peer that has answered with a value.
    pub(crate) fn source(&self) -> Option<PeerId> {
        self.shown.holders().next().copied()
    }

    /// As [`on_known`](Self::on_known), for a value.
    pub(crate) fn on_known_value(
        &mut self,
        value: &[u8],
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let shown = self.joined.check(&self.key, Bytes::copy_from_slice(value), now);
        if let Ok(answer) = shown {
            // Values that cannot be compared are ignored.
            let _ = self.take(&answer.shown, expires_at);
        }
    }

    /// Adds the valid content of an answer. Returns whether it was news.
    fn take(
        &mut self,
        shown: &CheckedAnswer,
        expires_at: Option<Timestamp>,
    ) -> Result<bool, ValidationError> {
        self.extent = OnceLock::new();
        let is_news = self.joined.take(&self.key, shown)?;
        if is_news {
            self.on_content();
        }
        let is_best = self.joined.is(shown);
        if is_news && is_best {
            self.expires_at = expires_at;
        } else if is_news || is_best {
            self.expires_at = self.expires_at.zip(expires_at).map(|(a, b)| a.max(b));
        }
        Ok(is_news)
    }

    /// Adds a checked answer. `expires_at` is the expiry that the holder states. Returns whether
    /// the answers are now enough.
    pub(crate) fn on_answer(
        &mut self,
        peer: PeerId,
        answer: Result<Answer, ValidationError>,
        expires_at: Option<Timestamp>,
    ) -> bool {
        self.extent = OnceLock::new();
        self.answers_in_round = self.answers_in_round.saturating_add(1);
        let taken = answer.and_then(|answer| {
            let is_news = self.take(&answer.shown, expires_at)?;
            Ok((answer, is_news))
        });
        match taken {
            Ok((Answer { shown, coverage, at }, is_news)) => {
                self.answers = self.answers.saturating_add(1);
                self.without_news = if is_news { 0 } else { self.without_news.saturating_add(1) };
                self.news = self.news.saturating_add(usize::from(is_news));
                self.checked_at = self.checked_at.max(at);
                let until = self.hashed.digest.get().and_then(|(_, until)| *until);
                if until.is_some_and(|until| until <= self.checked_at) {
                    self.hashed.digest = OnceLock::new();
                }
                let is_new = self.shown.add(peer, shown);
                if let Some(coverage) = coverage
                    && self.claims.add(peer, &coverage, is_new, self.bounds.patience)
                {
                    self.overclaimed = self.overclaimed.saturating_add(1);
                }
            }
            Err(error) => {
                self.refused.entry(peer).or_insert(error);
            }
        }
        let enough = match self.policy {
            _ if self.answers_in_round >= MAX_ANSWERS => true,
            ReadPolicy::Settled | ReadPolicy::All => false,
            ReadPolicy::Replies(n) => self.answers >= n,
            ReadPolicy::WithoutNews(n) => self.without_news >= n,
        };
        self.ended_early |= enough;
        enough
    }

    /// Handles a result of a query of Kademlia, except for answers, which have to be checked first.
    pub(crate) fn on_progress(&mut self, result: &GetRecordResult) {
        match result {
            Ok(GetRecordOk::FinishedWithNoAdditionalRecord { cache_candidates }) => {
                self.on_empty(cache_candidates.values().copied());
            }
            Err(GetRecordError::NotFound { closest_peers, .. }) => {
                self.on_empty(closest_peers.iter().copied());
            }
            Err(GetRecordError::Timeout { .. }) => self.time_out(),
            _ => {}
        }
    }

    /// Adds peers that have no record.
    pub(crate) fn on_empty(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.extent = OnceLock::new();
        self.empty.extend(peers);
    }

    /// Handles a holder that did not answer when it was asked again.
    pub(crate) fn on_no_answer(&mut self, peer: &PeerId) {
        self.extent = OnceLock::new();
        self.claims.on_no_answer(peer);
    }

    /// Marks an end before all of the closest peers were asked.
    pub(crate) fn end_early(&mut self) {
        self.ended_early = true;
    }

    /// Marks an end at the deadline.
    pub(crate) fn time_out(&mut self) {
        self.timed_out = true;
        self.end_early();
    }

    /// All refused answers, if there are any.
    pub(crate) fn refusals(&self) -> Option<RefusedAnswers> {
        RefusedAnswers::all(self.refused.iter().map(|(peer, reason)| (*peer, reason.clone())))
    }

    /// Whether the deadline passed before any peer had answered.
    pub(crate) fn has_failed(&self) -> bool {
        self.timed_out && !self.has_answers() && self.refused.is_empty()
    }

    /// Ends a round in which all peers were asked. Returns whether another has begun.
    pub(crate) fn on_round(&mut self) -> bool {
        let again = self.wants_round() && self.rounds < self.bounds.rounds;
        if again {
            let unfinished: Vec<_> = self.unfinished().collect();
            self.begin_round(&unfinished);
        }
        again
    }

    /// Whether another round is needed: peers answer with slices of a large record, so they are
    /// asked until enough of them have covered it, or nobody is left who may show more.
    pub(crate) fn wants_round(&self) -> bool {
        !self.ended_early && !self.is_covered() && self.unfinished().next().is_some()
    }

    /// Begins another round, in which these holders are asked.
    pub(crate) fn begin_round(&mut self, holders: &[PeerId]) {
        holders.iter().for_each(|peer| self.claims.on_asked(peer));
        self.rounds = self.rounds.saturating_add(1);
        self.answers_in_round = 0;
    }

    /// Whether what is wanted was covered.
    pub(crate) fn is_covered(&self) -> bool {
        match (&self.joined, self.wanted) {
            (JoinedAnswers::Value(..), _) => true,
            (JoinedAnswers::Record(..), None) => self.covered().is_ring(),
            (JoinedAnswers::Record(..), Some(place)) => self.covered().has(place),
        }
    }

    /// The holders that may show more if they are asked again.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = PeerId> {
        self.claims.unfinished(self.extent().digest, self.bounds.rounds)
    }

    /// The places of the ring of ranks that enough peers have covered. Of a value, all or none.
    fn covered(&self) -> &Arcs {
        &self.extent().covered
    }

    fn extent(&self) -> &Extent {
        self.extent.get_or_init(|| self.measure(true))
    }

    /// Determines how much was covered. If it `compares` what was found with what holders say that
    /// they have, and one of them has as many spaces, it costs two hashes for each space when that
    /// has changed.
    fn measure(&self, compares: bool) -> Extent {
        let n = self.needed();
        let closest = self.closest_seen(None);
        let is_empty = |peer: &&&PeerId| self.empty.contains(**peer) && !self.shown.is_holder(peer);
        let empty = closest.iter().filter(is_empty).count();
        let JoinedAnswers::Record(rules, joined, dropped) = &self.joined else {
            let shown = closest.iter().filter(|peer| self.shown.is_holder(peer)).count();
            let is_enough = self.has_answers() && shown.saturating_add(empty) >= n;
            let covered = if is_enough { Arcs::ring() } else { Arcs::new() };
            let (last, misses, dismisses_withdrawn) = (None, false, false);
            return Extent { digest: None, covered, last, misses, dismisses_withdrawn };
        };
        let is_retained = |space: &Space| space.retain_until() > Some(self.checked_at);
        let spaces = joined.spaces().filter(|(_, space)| is_retained(space)).count();
        let may_agree = compares && self.claims.has_spaces(spaces);
        let digest = may_agree.then(|| self.digest(joined));
        let covered = match dropped.is_whole() {
            true => self.claims.covered(digest, empty, n),
            false => Arcs::new(),
        };
        let withdrawn = joined.spaces().filter(|(_, space)| space.is_withdrawn()).count();
        let max = rules.limits().withdrawn_per_record();
        let dismisses_withdrawn = withdrawn.saturating_mul(2) >= max;
        let Some(Places { last, taken }) = compares.then(|| self.places(rules, joined)) else {
            return Extent { digest, covered, last: None, misses: true, dismisses_withdrawn };
        };
        let misses = dropped.misses_any(taken);
        Extent { digest, covered, last, misses, dismisses_withdrawn }
    }

    /// The digest of what was found.
    fn digest(&self, joined: &SmartRecord) -> [u8; 32] {
        let digest = self.hashed.digest.get_or_init(|| {
            let updates = joined.spaces().flat_map(|(_, space)| space.updates());
            let ends = updates.map(|update| update.retain_until());
            let until = ends.filter(|end| *end > self.checked_at).min();
            (joined.digest(self.checked_at), until)
        });
        digest.0
    }

    /// The highest places of the spaces of each kind, if so many were found that holders evict
    /// those of higher places.
    fn places(&self, rules: &SpaceRules, joined: &SmartRecord) -> Places {
        *self.hashed.places.get_or_init(|| {
            let (open, withdrawn): (Vec<_>, Vec<_>) =
                joined.spaces().partition(|(_, space)| !space.is_withdrawn());
            let limits = rules.limits();
            let is_full = open.len() >= limits.spaces_per_record();
            let is_large = || self.joined.exceeds(self.bounds.record_bytes / 2);
            let first_evicted = |spaces: &[(&Writer, &Space)], is_full: bool| {
                let order = |(writer, space): &(&Writer, &Space)| {
                    ordered_place(order_of(space, writer.rank(&self.key), limits.min_stamp_bits()))
                };
                spaces.iter().filter(|_| is_full).map(order).max()
            };
            let open = first_evicted(&open, is_full || is_large());
            let withdrawn_are_full = withdrawn.len() >= limits.withdrawn_per_record();
            let withdrawn = first_evicted(&withdrawn, withdrawn_are_full);
            // If all that were found have work, one without may have no slot anywhere.
            let last = open.map(|(Reverse(work), place)| if work == 0 { place } else { 0 });
            Places { last, taken: TakenPlaces { open: open.filter(|_| is_full), withdrawn } }
        })
    }

    /// Number of peers that have to cover a place, no more than there are.
    fn needed(&self) -> usize {
        let seen = self.shown.holders().chain(&self.empty).chain(self.refused.keys());
        let seen = || seen.collect::<BTreeSet<_>>().len();
        let asked = if self.ended_early { usize::MAX } else { self.asked.unwrap_or_else(seen) };
        self.bounds.complete_at.min(asked).max(1)
    }

    /// Whether enough peers have covered the space of a writer, so that what they have not shown of
    /// it they do not have. Never of one that a full record may have no slot for, that was shown
    /// and had none, or that may have been withdrawn where there is no slot for a withdrawal.
    pub(crate) fn tells(&self, writer: &Writer) -> bool {
        let (Some(record), Some(dropped)) = (self.joined.record(), self.joined.dropped()) else {
            return false;
        };
        let place = RingArc::place(&writer.rank(&self.key));
        // What has a slot in the join has one at each holder, whatever its place.
        let has_slot = record.space(writer).is_some_and(|space| !space.is_withdrawn());
        let is_beyond = !has_slot && self.extent().last.is_some_and(|last| place > last);
        let may_be_dismissed = self.extent().dismisses_withdrawn && record.space(writer).is_none();
        self.has_answers()
            && !is_beyond
            && !may_be_dismissed
            && !dropped.has(&self.key, writer)
            && self.covered().has(place)
    }

    /// Whether the read has settled, and at least `peers` peers had to cover the space of a writer
    /// and did.
    pub(crate) fn has_covered(&self, writer: &Writer, peers: usize) -> bool {
        let place = RingArc::place(&writer.rank(&self.key));
        let is_dropped = self.joined.dropped().is_some_and(|it| it.has(&self.key, writer));
        self.bounds.complete_at >= peers
            && self.has_settled()
            && !is_dropped
            && self.covered().has(place)
    }

    /// Whether what was found fits into one packet.
    pub(crate) fn is_small(&self) -> bool {
        !self.joined.exceeds(self.bounds.chunk_bytes)
    }

    /// Whether a holder among the closest may lack something that is not known of it.
    pub(crate) fn has_unseen(&self) -> bool {
        if self.joined.record().is_none() {
            return false;
        }
        let is_plain_and_large = || self.joined.exceeds(self.bounds.chunk_bytes);
        self.closest_seen(None).into_iter().filter(|peer| self.shown.is_holder(peer)).any(|peer| {
            match self.claims.get(peer) {
                Some(claim) => !claim.has_shown_all(self.extent().digest),
                None => is_plain_and_large(),
            }
        })
    }

    /// Number of holders that claimed more than they showed, and are not waited for.
    pub(crate) const fn overclaimed(&self) -> usize {
        self.overclaimed
    }

    /// Whether the read has ended as it should: all of the closest peers were asked, and someone
    /// has answered.
    pub(crate) fn has_settled(&self) -> bool {
        !self.ended_early && self.has_answers()
    }

    /// Number of lookups so far.
    pub(crate) const fn lookups(&self) -> usize {
        self.rounds
    }

    /// Whether any peer has given a valid answer, or answered that it has no record.
    pub(crate) fn has_answers(&self) -> bool {
        self.answers > 0 || !self.empty.is_empty()
    }

    /// Whether enough of the closest peers have answered, and every part of the record was covered
    /// by enough of them.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_settled() && self.covered().is_ring() && !self.extent().misses
    }

    /// Whether a peer has answered, be it with nothing or with what was refused.
    pub(crate) fn has_heard(&self, peer: &PeerId) -> bool {
        self.shown.is_holder(peer) || self.empty.contains(peer) || self.refused.contains_key(peer)
    }

    /// Whether a peer says what its answers cover.
    pub(crate) fn says_coverage(&self, peer: &PeerId) -> bool {
        self.claims.get(peer).is_some()
    }

    /// The valid content of a peer's answers, as far as it is remembered.
    pub(crate) fn shown(&self, peer: &PeerId) -> Option<CheckedAnswer> {
        self.shown.answer(peer)
    }

    /// The closest of the other peers that have answered, sorted by distance. A peer that has given
    /// an invalid answer may still be one of them.
    fn closest_seen(&self, local: Option<&PeerId>) -> Vec<&PeerId> {
        let distance = |peer: &PeerId| RecordId::new(peer, &self.key);
        let seen = self.shown.holders().chain(&self.empty).chain(self.refused.keys());
        let seen: BTreeSet<_> = seen.filter(|peer| Some(*peer) != local).collect();
        let mut seen: Vec<_> = seen.into_iter().collect();
        seen.sort_by_cached_key(|peer| distance(peer));
        seen.truncate(self.bounds.closest);
        seen
    }

    /// Whether this node is one of the closest to the key of a record that was found. After an
    /// early end the closest peers are unknown.
    pub(crate) fn is_close(&self, local: &PeerId) -> bool {
        let distance = |peer: &PeerId| RecordId::new(peer, &self.key);
        let seen = self.closest_seen(Some(local));
        let last = seen.get(self.bounds.closest.saturating_sub(1));
        let is_close = last.is_none_or(|last| distance(local) < distance(last));
        is_close && !self.ended_early && !self.joined.is_empty()
    }

    /// The repairs: what to send to those of the closest peers that are behind, have an expired
    /// copy, or have no record. A peer that does not `join` what it is sent may keep the last PUT,
    /// so it is also sent what it has shown.
    pub(crate) fn repairs(&self, local: &PeerId, joins: impl Fn(&PeerId) -> bool) -> Vec<Repair> {
        if self.joined.is_empty() {
            return Vec::new();
        }
        let mut repairs: Vec<Repair> = Vec::new();
        // What fits into one packet goes out whole: a plain holder has then all that was known.
        let fits = !self.joined.exceeds(self.bounds.chunk_bytes);
        let mut all: Option<Vec<Bytes>> = None;
        let place = |writer: &Writer| RingArc::place(&writer.rank(&self.key));
        let spaces = self.joined.record().into_iter().flat_map(SmartRecord::spaces);
        let places: BTreeMap<_, _> = spaces.map(|(writer, _)| (writer, place(writer))).collect();
        for peer in self.closest_seen(Some(local)) {
            let claim = self.claims.get(peer);
            if claim.is_some_and(|claim| claim.has(self.extent().digest)) {
                continue;
            }
            // A peer that says nothing of its answers is a plain one, and has one packet.
            let covered = claim.map(|claim| &claim.arcs);
            let tells = |writer: &Writer| match covered {
                Some(covered) => places.get(writer).is_some_and(|place| covered.has(*place)),
                None => fits,
            };
            let shown = self.shown.answer(peer);
            if shown.is_none() && self.shown.is_holder(peer) {
                // What it has is not remembered.
                continue;
            }
            let is_behind =
                |error: &ValidationError| matches!(error.fault(), Fault::Expired | Fault::Stale);
            if shown.is_none()
                && (self.ended_early || self.refused.get(peer).is_some_and(|e| !is_behind(e)))
            {
                continue;
            }
            let lacking = |shown: Option<&CheckedAnswer>| {
                let bytes = self.bounds.chunk_bytes;
                let mut chunks = self.joined.lacking(&self.key, shown, tells, bytes);
                chunks.truncate(self.bounds.repair_chunks);
                chunks
            };
            let chunks = match shown.as_ref().map(|shown| lacking(Some(shown))) {
                Some(chunks) if chunks.is_empty() => continue,
                Some(chunks) if !fits => {
                    let plain = shown.as_ref().filter(|_| !joins(peer));
                    let all = |shown| self.joined.renewed(shown, self.bounds.chunk_bytes);
                    plain.and_then(all).unwrap_or(chunks)
                }
                _ => all.get_or_insert_with(|| lacking(None)).clone(),
            };
            if chunks.is_empty() {
                continue;
            }
            match repairs.iter_mut().find(|repair| repair.chunks == chunks) {
                Some(repair) => repair.peers.push(*peer),
                None => repairs.push(Repair { peers: vec![*peer], chunks }),
            }
        }
        repairs
    }

    /// Expiry of copies of the value, if the value does not state its own.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.filter(|at| *at > Timestamp::EPOCH)
    }

    /// Returns the result so far, which is not complete. It is not compared with what holders say
    /// that they have, so it costs no hashes and may be taken after each answer.
    pub(crate) fn into_interim(self, now: Timestamp) -> Reading {
        let extent = self.extent.get().cloned().unwrap_or_else(|| self.measure(false));
        let interim = Self { extent: extent.into(), ..self };
        Reading { is_complete: false, ..interim.into_reading(&[], Vec::new(), now) }
    }

    /// Returns the result of the read.
    pub(crate) fn into_reading(
        self,
        repairs: &[Repair],
        withheld: Vec<Withheld>,
        now: Timestamp,
    ) -> Reading {
        let (is_complete, expires_at) = (self.is_complete(), self.expires_at());
        let (has_settled, Extent { digest, covered, .. }) =
            (self.has_settled(), self.extent().clone());
        let sent = |peer: &PeerId| repairs.iter().any(|repair| repair.peers.contains(peer));
        let stale = self.shown.holders().copied().filter(|peer| sent(peer)).collect();
        let empty = self.empty.iter().copied().filter(|peer| !self.shown.is_holder(peer)).collect();
        Reading {
            namespace: self.joined.namespace(),
            dropped: self.joined.dropped().cloned().unwrap_or_default(),
            snapshot: Snapshot::new(self.key, self.joined, now),
            holders: self.shown.holders().copied().collect(),
            stale,
            empty,
            silent: Vec::new(),
            refused: self.refused.into_iter().collect(),
            withheld,
            is_complete,
            has_settled,
            covered,
            digest,
            claims: self.claims,
            shown: self.shown,
            here: self.here,
            expires_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use smart_record_core::{Coverage, Limits, Open, SpaceSigner, Validator, Validity};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const BOUNDS: Bounds = Bounds {
        closest: 20,
        complete_at: 2,
        patience: 1,
        chunk_bytes: 15 * 1_024,
        rounds: 4,
        repair_chunks: 2,
        record_bytes: 4 * 1_024 * 1_024,
    };

    fn signer() -> SpaceSigner {
        SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), Limits::default())
    }

    fn board(writers: usize, bytes: usize) -> SmartRecord {
        let mut board = SmartRecord::new("/sr/a".into());
        for _ in 0..writers {
            let mut signer = signer();
            let document = [("x", "x".repeat(bytes))].into_iter().collect();
            signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
            board.join(signer.record(NOW)).unwrap();
        }
        board
    }

    struct Test(RecordLookup);

    impl Test {
        fn new(policy: ReadPolicy) -> Self {
            Self::with_registry(policy, &Registry::default())
        }

        fn with_registry(policy: ReadPolicy, registry: &Registry) -> Self {
            Self(RecordLookup::new("/sr/a".into(), policy, BOUNDS, registry).unwrap())
        }

        fn answer(&mut self, peer: PeerId, value: &[u8]) -> bool {
            let value = Bytes::copy_from_slice(value);
            let answer = self.0.joined().check(self.0.key(), value, NOW);
            self.0.on_answer(peer, answer, None)
        }

        /// The answer of a holder of `all` with a part of it, which covers these arcs.
        fn says(&mut self, peer: PeerId, part: Vec<u8>, all: &SmartRecord, arcs: &[RingArc]) {
            let mut value = part;
            let spaces = u32::try_from(all.spaces().len()).unwrap();
            let coverage = Coverage::new(arcs.iter().copied(), spaces, all.digest(NOW));
            coverage.append_to(&mut value);
            self.answer(peer, &value);
        }

        fn repairs(&self) -> (Vec<PeerId>, bool) {
            let local = PeerId::random();
            let (repairs, is_close) = (self.0.repairs(&local, |_| false), self.0.is_close(&local));
            (repairs.into_iter().flat_map(|repair| repair.peers).collect(), is_close)
        }
    }

    fn peers(n: usize) -> Vec<PeerId> {
        std::iter::repeat_with(PeerId::random).take(n).collect()
    }

    #[test]
    fn a_peer_with_an_expired_copy_is_repaired_and_one_with_garbage_is_not() {
        let board = board(1, 1);
        let mut test = Test::new(ReadPolicy::All);
        let peers = peers(BOUNDS.closest + 1);
        let mut by_distance = peers.clone();
        by_distance.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
        let farthest = by_distance.pop().unwrap();
        let [good, expired, liar, rest @ ..] = &by_distance[..] else { panic!() };
        test.answer(*good, &board.encode());
        let old = ValidationError::Expired { expired_at: NOW };
        test.0.on_answer(*expired, Err(old), None);
        test.answer(*liar, b"garbage");
        for peer in rest {
            test.answer(*peer, &board.encode());
        }
        // There are 20 closer peers.
        test.0.on_empty([farthest]);
        test.0.on_round();
        assert_eq!(test.repairs().0, [*expired]);
    }

    #[test]
    fn only_valid_answers_count_and_invalid_ones_change_nothing() {
        let board = board(1, 1);
        for (policy, good) in [(ReadPolicy::Replies(2), 2), (ReadPolicy::WithoutNews(2), 3)] {
            let mut test = Test::new(policy);
            for peer in peers(10) {
                assert!(!test.answer(peer, b"garbage"));
            }
            assert!(!test.0.has_answers() && !test.0.has_failed());
            let enough = peers(good).into_iter().map(|peer| test.answer(peer, &board.encode()));
            let enough: Vec<_> = enough.collect();
            assert_eq!(enough.iter().position(|enough| *enough), Some(good - 1));
            assert_eq!(test.0.joined().record(), Some(&board));
            assert!(!test.0.is_complete());
        }
        let mut all = Test::new(ReadPolicy::All);
        assert!(peers(30).into_iter().all(|peer| !all.answer(peer, &board.encode())));
        assert!(!all.0.is_complete(), "nobody says what it covers");
        all.says(PeerId::random(), board.encode(), &board, &[]);
        assert!(!all.0.is_complete(), "one is not enough");
        all.says(PeerId::random(), board.encode(), &board, &[RingArc::RING]);
        assert!(all.0.is_complete());
    }

    #[test]
    fn a_sliced_record_is_read_until_enough_have_covered_it_or_the_rounds_run_out() {
        let (peers, board) = (peers(2), board(60, 600));
        let slices: Vec<_> = board.chunks(8 * 1_024).collect();
        assert!(slices.len() > 4);
        // Four rounds of one slice each are too few, and of two slices enough.
        for (step, is_complete) in [(1, false), (2, true)] {
            let mut test = Test::new(ReadPolicy::All);
            let mut rounds = 0;
            for slices in slices.chunks(step) {
                rounds += 1;
                for peer in &peers {
                    for slice in slices {
                        test.says(*peer, slice.clone(), &board, &[]);
                    }
                }
                if !test.0.on_round() {
                    break;
                }
            }
            assert_eq!((rounds <= 4, test.0.is_complete()), (true, is_complete));
            assert_eq!(test.0.unfinished().count(), 0);
            let reading = test.0.into_reading(&[], Vec::new(), NOW);
            assert_eq!(reading.missing() == 0.0, is_complete);
            let writer = board.spaces().next().unwrap().0;
            assert_eq!(reading.is_complete_for(writer), is_complete);
        }
    }

    #[test]
    fn one_holder_of_two_has_covered_half_and_a_peer_that_shows_nothing_new_is_given_up() {
        let ([one, other], board) = ([(); 2].map(|()| PeerId::random()), board(30, 600));
        let slices: Vec<_> = board.chunks(8 * 1_024).collect();
        let half = RingArc { first: 0, last: u64::MAX / 2 };
        let mut test = Test::new(ReadPolicy::All);
        test.says(one, slices[0].clone(), &board, &[RingArc::RING]);
        test.says(other, slices[1].clone(), &board, &[half]);
        assert!(test.0.on_round() && !test.0.is_complete());
        let reading = test.0.clone().into_reading(&[], Vec::new(), NOW);
        assert_eq!((reading.missing(), reading.coverage(&other).unwrap().share), (0.5, 0.5));
        assert_eq!(reading.coverage(&one).unwrap().spaces, 30);
        test.says(other, slices[1].clone(), &board, &[half]);
        assert_eq!((test.0.on_round(), test.0.overclaimed()), (false, 1), "nothing new");
        assert!(!test.0.is_complete(), "one alone");
    }

    #[test]
    fn answers_without_news_cost_no_hashes() {
        let (board, peers) = (board(30, 1), peers(3));
        let mut test = Test::new(ReadPolicy::All);
        let whole = |test: &mut Test, peer| test.says(peer, board.encode(), &board, &[]);
        whole(&mut test, peers[0]);
        assert_eq!(test.0.extent().digest, Some(board.digest(NOW)));
        whole(&mut test, peers[1]);
        assert!(test.0.extent.get().is_none(), "another holder may change what was covered");
        assert!(test.0.hashed.digest.get().is_some() && test.0.hashed.places.get().is_some());
        // What has expired is not in the digest any more.
        let later = NOW.saturating_add(Duration::from_secs(49 * 3_600));
        let shown = CheckedAnswer::Record(board.clone());
        test.0.on_answer(peers[2], Ok(Answer { shown, coverage: None, at: later }), None);
        assert!(test.0.hashed.digest.get().is_none());
        // News is hashed.
        test.0.extent();
        test.answer(peers[2], &self::board(1, 1).encode());
        assert!(test.0.hashed.places.get().is_none());
    }

    #[test]
    fn an_interim_result_is_not_compared_with_what_holders_have() {
        let (board, peers) = (board(30, 600), peers(2));
        let mut test = Test::new(ReadPolicy::All);
        for peer in &peers {
            test.says(*peer, board.encode(), &board, &[RingArc { first: 0, last: u64::MAX / 2 }]);
        }
        let interim = test.0.clone().into_interim(NOW);
        assert_eq!((interim.digest, interim.missing(), interim.is_complete()), (None, 0.5, false));
        assert_eq!(interim.snapshot.record(), Some(&board));
        let reading = test.0.into_reading(&[], Vec::new(), NOW);
        assert_eq!((reading.digest, reading.missing()), (Some(board.digest(NOW)), 0.0));
    }

    #[test]
    fn a_first_write_waits_for_its_own_space_alone() {
        let (peers, board) = (peers(2), board(30, 600));
        let slices: Vec<_> = board.chunks(8 * 1_024).collect();
        let (writer, _) = board.spaces().next().unwrap();
        let place = RingArc::place(&writer.rank(board.key()));
        let mut test = Test::new(ReadPolicy::Settled);
        test.0.want(writer);
        test.0.set_asked(2);
        let own = RingArc { first: place, last: place };
        test.says(peers[0], slices[0].clone(), &board, &[own]);
        assert!(!test.0.tells(writer) && test.0.on_round());
        test.says(peers[1], slices[1].clone(), &board, &[own]);
        assert!(test.0.tells(writer) && !test.0.on_round() && !test.0.is_complete());
        let reading = test.0.into_reading(&[], Vec::new(), NOW);
        assert!(reading.is_complete_for(writer));
    }

    #[test]
    fn a_full_record_covers_nothing_by_itself_and_accuses_nobody_beyond_its_last_place() {
        let mut signers: Vec<_> = std::iter::repeat_with(signer).take(5).collect();
        let place = |signer: &SpaceSigner| RingArc::place(&signer.writer().rank(&"/sr/a".into()));
        signers.sort_by_key(place);
        let [_, within, last, evicted, withdrawn] = &mut signers[..] else { panic!() };
        withdrawn.withdraw(NOW).unwrap();
        let (within, beyond) = (within.writer().clone(), evicted.writer().clone());
        let found = [RingArc { first: 0, last: place(last) }];
        let mut board = SmartRecord::new("/sr/a".into());
        for n in [0, 1, 2, 4] {
            let document = [("x", "x")].into_iter().collect();
            if n < 4 {
                signers[n].merge(document, NOW, Duration::from_secs(60)).unwrap();
            }
            board.join(signers[n].record(NOW)).unwrap();
        }
        let limits = Limits::default().with_spaces_per_record(3);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        for (arcs, is_complete) in [(found, false), ([RingArc::RING], true)] {
            let mut test = Test::with_registry(ReadPolicy::All, &registry);
            // It agrees with nobody, so the arcs alone count.
            let mut more = board.clone();
            more.join(self::board(1, 1)).unwrap();
            for peer in peers(2) {
                test.says(peer, board.encode(), &more, &arcs);
            }
            assert_eq!(test.0.joined().record().unwrap().spaces().len(), 4);
            assert_eq!(test.0.is_complete(), is_complete);
            assert!(test.0.tells(&within));
            assert!(!test.0.tells(&beyond), "there is no place for it");
        }
    }

    #[test]
    fn a_full_record_of_spaces_with_work_accuses_nobody_of_those_that_it_lacks() {
        let limits = Limits::default().with_spaces_per_record(3).with_min_stamp_bits(4);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        for (stamped, is_told) in [(0, true), (2, true), (3, false)] {
            let mut signers: Vec<_> = std::iter::repeat_with(signer).take(4).collect();
            signers.sort_by_key(|signer| signer.writer().rank(&"/sr/a".into()));
            let missing = signers.remove(0).writer().clone();
            let mut board = SmartRecord::new("/sr/a".into());
            for (n, signer) in signers.iter_mut().enumerate() {
                if n < stamped {
                    signer.set_stamp(signer.stamp_search(4, NOW).step(1 << 16));
                }
                let document = [("x", "x")].into_iter().collect();
                signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
                board.join(signer.record(NOW)).unwrap();
            }
            let mut test = Test::with_registry(ReadPolicy::All, &registry);
            for peer in peers(2) {
                test.says(peer, board.encode(), &board, &[RingArc::RING]);
            }
            assert!(test.0.is_complete());
            assert_eq!(test.0.tells(&missing), is_told, "{stamped} of 3 have work");
            // Whoever has a slot may be shown older than it is.
            assert!(signers.iter().all(|signer| test.0.tells(&signer.writer())));
        }
    }

    #[test]
    fn of_a_slice_only_what_it_covers_shows_what_is_lacking() {
        let (all, behind) = (board(40, 600), [(); 2].map(|()| PeerId::random()));
        let mut had = SmartRecord::new(all.key().clone());
        let mut ranked: Vec<_> = all.spaces().collect();
        ranked.sort_by_key(|(writer, _)| writer.rank(all.key()));
        for (writer, space) in &ranked[..5] {
            had.join_space(Writer::clone(writer), Space::clone(space));
        }
        let place = |n: usize| RingArc::place(&ranked[n].0.rank(all.key()));
        let mut test = Test::new(ReadPolicy::All);
        test.says(PeerId::random(), all.encode(), &all, &[RingArc::RING]);
        // It says that there is nothing between the fifth space and the eighth.
        let arc = RingArc { first: 0, last: place(7) };
        test.says(behind[0], had.encode(), &had, &[arc]);
        test.says(behind[1], had.encode(), &had, &[]);
        let repairs = test.0.repairs(&PeerId::random(), |_| true);
        let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
        assert_eq!(peers[..], behind[..1]);
        let sent = SmartRecord::decode(all.key(), chunks[0].clone(), &Limits::default()).unwrap();
        let lacking: BTreeSet<_> = ranked[5..8].iter().map(|(writer, _)| *writer).collect();
        assert_eq!(sent.spaces().map(|(writer, _)| writer).collect::<BTreeSet<_>>(), lacking);
        assert!(test.0.has_unseen(), "the other may lack anything");
    }

    #[test]
    fn only_the_closest_peers_that_are_behind_or_empty_are_repaired() {
        let (one, other) = (board(1, 1), board(1, 1));
        let mut both = one.clone();
        both.join(other).unwrap();
        let mut test = Test::new(ReadPolicy::All);
        let mut seen = peers(62);
        seen.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
        let (far, near) = (seen.pop().unwrap(), seen.remove(0));
        for (n, peer) in seen.iter().enumerate() {
            match n % 3 {
                0 => drop(test.answer(*peer, &both.encode())),
                1 => drop(test.answer(*peer, &one.encode())),
                _ => test.0.on_empty([*peer]),
            }
        }
        let (mut repaired, _) = test.repairs();
        repaired.sort_by_key(|peer| RecordId::new(peer, test.0.key()));
        let lacking = seen[..20].iter().enumerate().filter(|(n, _)| n % 3 > 0);
        assert_eq!(repaired, lacking.map(|(_, peer)| *peer).collect::<Vec<_>>());
        let is_close = |local| test.0.is_close(&local);
        assert!(is_close(near) && !is_close(far));
    }

    #[test]
    fn of_what_fits_into_a_packet_all_is_sent_to_who_is_behind() {
        let (one, other) = (board(1, 1), board(1, 1));
        let mut both = one.clone();
        both.join(other).unwrap();
        let [newest, behind, empty] = [(); 3].map(|()| PeerId::random());
        let mut test = Test::new(ReadPolicy::All);
        test.answer(newest, &both.encode());
        test.answer(behind, &one.encode());
        test.0.on_empty([empty]);
        let repairs = test.0.repairs(&PeerId::random(), |_| false);
        let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
        assert!(peers.contains(&behind) && peers.contains(&empty));
        assert_eq!(chunks[..], [Bytes::from(both.encode())]);
    }

    #[test]
    fn of_a_large_record_who_may_keep_the_last_put_is_sent_what_it_has_shown_too() {
        let (mut signer, slice, rest) = (signer(), board(9, 600), board(20, 600));
        let mut say = |text: &str| {
            let document = [("x", text)].into_iter().collect();
            signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
            let mut said = slice.clone();
            said.join(signer.record(NOW)).unwrap();
            (said, signer.record(NOW))
        };
        let ((shown, _), (new, own)) = (say("old"), say("new"));
        let [behind, newest] = [(); 2].map(|()| PeerId::random());
        let mut test = Test::new(ReadPolicy::All);
        test.answer(behind, &shown.encode());
        test.answer(newest, &rest.encode());
        test.answer(newest, &own.encode());
        let sent = |joins: bool| {
            let repairs = test.0.repairs(&PeerId::random(), |_| joins);
            let [Repair { peers, chunks }] = &repairs[..] else { panic!("{repairs:?}") };
            assert_eq!((&peers[..], chunks.len()), (&[behind][..], 1));
            SmartRecord::decode(&"/sr/a".into(), chunks[0].clone(), &Limits::default()).unwrap()
        };
        assert_eq!((sent(true), sent(false)), (own, new));
    }

    #[test]
    fn after_an_early_end_empty_peers_are_not_repaired() {
        let (one, other) = (board(1, 1), board(1, 1));
        let mut both = one.clone();
        both.join(other).unwrap();
        let [newest, stale, empty] = [(); 3].map(|()| PeerId::random());
        let mut test = Test::new(ReadPolicy::All);
        test.answer(newest, &both.encode());
        test.answer(stale, &one.encode());
        test.0.on_empty([empty]);
        let (mut repaired, is_close) = test.repairs();
        repaired.sort_unstable();
        let mut expected = vec![stale, empty];
        expected.sort_unstable();
        assert_eq!((repaired, is_close), (expected, true), "only these peers are known");
        test.0.end_early();
        assert_eq!(test.repairs(), (vec![stale], false));
    }

    #[test]
    fn spaces_that_are_not_stored_locally_are_news() {
        let (here, theirs) = (board(3, 1), board(2, 1));
        let mut test = Test::new(ReadPolicy::All);
        test.0.on_local(here.clone());
        assert_eq!(test.0.news(), None);
        let mut whole = here.clone();
        whole.join(theirs.clone()).unwrap();
        let peer = PeerId::random();
        test.answer(peer, &whole.encode());
        assert_eq!(test.0.news(), Some(theirs.clone()));
        for (writer, _) in theirs.spaces() {
            assert_eq!(test.0.source_of(writer), Some(peer));
        }
        let mut knowing = Test::new(ReadPolicy::WithoutNews(1));
        knowing.0.on_known(&whole);
        assert_eq!(knowing.0.news(), Some(whole.clone()), "known but not stored");
        assert!(knowing.answer(peer, &whole.encode()), "no news to the read");
    }

    #[test]
    fn the_number_of_answers_per_round_is_bounded() {
        let mut test = Test::new(ReadPolicy::All);
        let enough = peers(MAX_ANSWERS).into_iter().map(|peer| test.answer(peer, b"garbage"));
        let enough: Vec<_> = enough.collect();
        assert_eq!(enough.iter().position(|enough| *enough), Some(MAX_ANSWERS - 1));
        assert!(!test.0.is_complete());
    }

    /// Accepts any bytes and prefers the greatest.
    struct Greatest;

    impl Validator for Greatest {
        fn validate(
            &self,
            _: &RecordKey,
            _: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            Ok(Validity::forever())
        }

        fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
            smart_record_core::best_index(values)
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }
    }

    #[test]
    fn a_value_expires_no_later_than_with_the_holders_of_the_best_value() {
        let registry = Registry::empty().with("great", Greatest).unwrap();
        let mut lookup =
            RecordLookup::new("/great/a".into(), ReadPolicy::All, BOUNDS, &registry).unwrap();
        let at = |seconds| Some(NOW.saturating_add(Duration::from_secs(seconds)));
        let mut kept_until = |value: &'static str, expires_at| {
            let shown = lookup.joined().check(lookup.key(), value.into(), NOW);
            lookup.on_answer(PeerId::random(), shown, expires_at);
            lookup.expires_at()
        };
        assert_eq!(kept_until("a", at(40)), at(40));
        assert_eq!(kept_until("c", at(10)), at(10));
        assert_eq!(kept_until("c", at(20)), at(20));
        assert_eq!(kept_until("b", at(30)), at(20));
        assert_eq!(kept_until("c", None), None, "one holder states no expiry");
        assert_eq!(kept_until("c", at(50)), None);
    }
}
