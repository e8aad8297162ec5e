//! The answers of a read: gathers them, decides when they are enough, and determines what each peer
//! lacks.
//!
//! **Invariants.** Pure, except that `begin` reads the store. An invalid answer changes nothing but
//! the list of refused peers. Only the peers closest to the key are repaired. After an early end it
//! is not known which peers these are, so only peers that already had the record are.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    cell::LazyCell,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{GetRecordError, GetRecordOk, GetRecordResult};

use super::{
    covered::Claims,
    dropped::{DroppedSpaces, TakenPlaces},
    hashed::{HashedSpaces, Summary},
    joined::{Answer, Change, CheckedAnswer, JoinedAnswers, beyond},
    outcome::{Reading, Snapshot, Withheld},
    refused::RefusedAnswers,
    versions::Shown,
};
use crate::store::{SmartRecordStore, StoredValue, storage::RecordId};
use smart_record_core::{
    Arcs, AskerTag, Fault, RecordKey, Registry, RingArc, SmartRecord, Space, SpaceRules, Timestamp,
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

/// Maximum number of writers that are remembered of a holder that has shown updates of them from
/// the future: as many as a record has.
const MAX_AHEAD: usize = 1_024;
/// What one of them takes, roughly.
const AHEAD: usize = 100;

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
    /// Whether holders may evict spaces for want of bytes.
    is_large: bool,
    /// Whether a space was shown that would have a place now, but had none when it was shown.
    misses: bool,
    /// Whether holders may have no place for one more withdrawn space: half of the places are
    /// taken, and there is a bound in bytes too.
    dismisses_withdrawn: bool,
}

/// Where spaces of each kind have no place any more.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// See [`Extent::last`].
    last: Option<u64>,
    /// See [`Extent::is_large`].
    is_large: bool,
    taken: TakenPlaces,
}

/// The state of a read.
#[derive(Clone, Debug)]
pub(crate) struct RecordLookup {
    key: RecordKey,
    policy: ReadPolicy,
    bounds: Bounds,
    joined: JoinedAnswers,
    /// Shared with results, which outlive the read.
    shown: Arc<Shown>,
    claims: Claims,
    /// For whom answers to this node are, if its id is known.
    asker: Option<AskerTag>,
    /// The holders that say for whom their answers are, and whether that is this node.
    joining: BTreeMap<PeerId, bool>,
    /// The place of the ring that is enough, if it is not all of it.
    wanted: Option<u64>,
    /// Number of the closest peers that were asked, if known.
    asked: Option<usize>,
    /// The closest peers, whether or not they have answered, if known.
    closest: Option<BTreeSet<PeerId>>,
    /// When the last answer was checked.
    checked_at: Timestamp,
    /// What is known of the coverage, from all answers so far.
    extent: OnceLock<Extent>,
    hashed: HashedSpaces,
    /// What the last answer with news has changed.
    last_change: Change,
    refused: BTreeMap<PeerId, ValidationError>,
    /// The holders whose answers had updates from the future by this clock, and their writers.
    ahead: BTreeMap<PeerId, BTreeSet<PeerId>>,
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
    /// The latest expiry that holders state for the best value; `None` if one of them states none,
    /// and for smart records.
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
            shown: Arc::new(Shown::new(key.clone(), bounds.record_bytes)),
            claims: Claims::default(),
            asker: None,
            joining: BTreeMap::new(),
            wanted: None,
            asked: None,
            closest: None,
            checked_at: Timestamp::EPOCH,
            extent: OnceLock::new(),
            hashed: HashedSpaces::default(),
            last_change: Change::default(),
            key,
            policy,
            bounds,
            refused: BTreeMap::new(),
            ahead: BTreeMap::new(),
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
            expires_at: None,
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
        lookup.set_asker(&store.local_peer());
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

    /// Sets the closest peers, whether or not they have answered. Without them, these are the
    /// closest of those that have.
    pub(crate) fn set_closest(&mut self, closest: BTreeSet<PeerId>) {
        if self.closest.as_ref() != Some(&closest) {
            self.closest = Some(closest);
            self.extent = OnceLock::new();
        }
    }

    /// Adds what this node knows but has not stored.
    pub(crate) fn on_known(&mut self, record: &SmartRecord) {
        let changed = self.joined.join(record).writers;
        self.on_content(changed);
    }

    /// As [`on_known`](Self::on_known), with what is known of spaces without a place.
    pub(crate) fn on_known_answers(&mut self, answers: &JoinedAnswers) {
        let changed = self.joined.join_answers(answers);
        self.on_content(changed);
    }

    /// Handles a change of what was found of these writers.
    fn on_content(&mut self, changed: impl IntoIterator<Item = Writer>) {
        self.extent = OnceLock::new();
        self.hashed.on_change(changed);
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
        let dropped = self.joined.dropped().map_or(0, DroppedSpaces::bytes);
        let ahead = self.ahead.values().map(BTreeSet::len).fold(0, usize::saturating_add);
        let parts = [dropped, self.hashed.bytes(), ahead.saturating_mul(AHEAD)];
        parts.into_iter().fold(self.shown.bytes(), usize::saturating_add)
    }

    /// What the last answer with news has changed.
    pub(crate) const fn last_change(&self) -> &Change {
        &self.last_change
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
        let change = self.joined.take(&self.key, shown)?;
        let is_news = change.is_news;
        self.on_content(change.writers.iter().cloned());
        self.expires_at = change.lifetime.end(self.expires_at, expires_at);
        if is_news {
            self.last_change = change;
        }
        Ok(is_news)
    }

    /// Sets for whom the answers are.
    pub(crate) fn set_asker(&mut self, local: &PeerId) {
        self.asker = Some(AskerTag::of(local));
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
            Ok((Answer { shown, coverage, asker, ahead, at }, is_news)) => {
                if !ahead.is_empty() {
                    let known = self.ahead.entry(peer).or_default();
                    known.extend(ahead.into_iter().take(MAX_AHEAD.saturating_sub(known.len())));
                }
                self.answers = self.answers.saturating_add(1);
                self.without_news = if is_news { 0 } else { self.without_news.saturating_add(1) };
                self.news = self.news.saturating_add(usize::from(is_news));
                self.checked_at = self.checked_at.max(at);
                let is_new = Arc::make_mut(&mut self.shown).add(peer, shown);
                let is_for_us = asker.zip(self.asker).map(|(asker, us)| asker == us);
                self.joining.extend(is_for_us.map(|joins| (peer, joins)));
                // What was for another was put there as it was, and says nothing of this holder.
                if let Some(coverage) = coverage.filter(|_| is_for_us != Some(false))
                    && self.claims.add(peer, &coverage, is_new, self.bounds.patience)
                {
                    self.overclaimed = self.overclaimed.saturating_add(1);
                }
            }
            Err(error) => {
                if error.is_ahead_of_clock() {
                    self.ahead.entry(peer).or_default();
                }
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
            self.begin_round(&self.unfinished(&BTreeSet::new()));
        }
        again
    }

    /// Whether another round is needed: peers answer with slices of a large record, so they are
    /// asked until enough of them have covered it, or nobody is left who may show more.
    pub(crate) fn wants_round(&self) -> bool {
        let may_show_more = || !self.unfinished(&BTreeSet::new()).is_empty();
        !self.ended_early && !self.is_covered() && may_show_more()
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

    /// The closest holders that may show more if they are asked again, without those that are late.
    /// If there are none, the others: what they show may be new, although it hardly makes the
    /// reading complete.
    pub(crate) fn unfinished(&self, late: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let unfinished = self.claims.unfinished(self.extent().digest, self.bounds.rounds);
        let unfinished = unfinished.filter(|peer| !late.contains(peer));
        let closest = self.closest();
        let (closest, others): (Vec<_>, Vec<_>) =
            unfinished.partition(|peer| closest.contains(peer));
        if closest.is_empty() { others } else { closest }
    }

    /// The places of the ring of ranks that enough peers have covered. Of a value, all or none.
    fn covered(&self) -> &Arcs {
        &self.extent().covered
    }

    fn extent(&self) -> &Extent {
        self.extent.get_or_init(|| self.measure(true))
    }

    /// Determines how much was covered. If it `compares` what was found with what holders say that
    /// they have, it costs hashes of the spaces that have changed.
    fn measure(&self, compares: bool) -> Extent {
        let n = self.needed();
        let closest = self.closest();
        let is_empty = |peer: &&PeerId| self.empty.contains(*peer) && !self.shown.is_holder(peer);
        let empty = closest.iter().filter(is_empty).count();
        let JoinedAnswers::Record(rules, joined, dropped) = &self.joined else {
            let shown = closest.iter().filter(|peer| self.shown.is_holder(peer)).count();
            let is_enough = self.has_answers() && shown.saturating_add(empty) >= n;
            let covered = if is_enough { Arcs::ring() } else { Arcs::new() };
            return Extent {
                digest: None,
                covered,
                last: None,
                is_large: false,
                misses: false,
                dismisses_withdrawn: false,
            };
        };
        let is_retained = |space: &Space| space.retain_until() > Some(self.checked_at);
        let spaces = joined.spaces().filter(|(_, space)| is_retained(space)).count();
        let may_agree = compares && self.claims.has_spaces(spaces);
        let digest = may_agree.then(|| self.hashed.digest(joined, rules.limits(), self.checked_at));
        // Whoever was refused for its time has a record, and has shown nothing of it.
        let has_shown = |peer: &PeerId| self.shown.is_holder(peer) || !closest.contains(peer);
        let unseen = self.ahead.keys().filter(|peer| !has_shown(peer)).count();
        let covered = match dropped.is_whole() && (unseen < n || unseen < empty) {
            true => self.claims.covered(digest, &closest, empty, n),
            false => Arcs::new(),
        };
        let withdrawn = joined.spaces().filter(|(_, space)| space.is_withdrawn()).count();
        let max = rules.limits().withdrawn_per_record();
        let dismisses_withdrawn = withdrawn.saturating_mul(2) >= max;
        let Some(Places { last, is_large, taken }) = compares.then(|| self.places(rules, joined))
        else {
            let (last, is_large, misses) = (None, false, true);
            return Extent { digest, covered, last, is_large, misses, dismisses_withdrawn };
        };
        let misses = dropped.misses_any(taken);
        Extent { digest, covered, last, is_large, misses, dismisses_withdrawn }
    }

    /// The highest places of the spaces of each kind, if so many were found that holders evict
    /// those of higher places.
    fn places(&self, rules: &SpaceRules, joined: &SmartRecord) -> Places {
        let limits = rules.limits();
        let Summary { open, withdrawn, bytes } =
            self.hashed.summary(joined, limits, self.checked_at);
        let is_full = open.count >= limits.spaces_per_record();
        let is_large = bytes > self.bounds.record_bytes / 2;
        // If all that were found have work, one without may have no slot anywhere.
        let last = open.last.filter(|_| is_full || is_large);
        let last = last.map(|(Reverse(work), place)| if work == 0 { place } else { 0 });
        let withdrawn_are_full = withdrawn.count >= limits.withdrawn_per_record();
        let withdrawn = withdrawn.last.filter(|_| withdrawn_are_full);
        let taken = TakenPlaces { open: open.last.filter(|_| is_full), withdrawn };
        Places { last, is_large, taken }
    }

    /// Number of peers that have to cover a place, no more than there are.
    fn needed(&self) -> usize {
        let seen = self.shown.holders().chain(&self.empty).chain(self.refused.keys());
        let seen = || seen.collect::<BTreeSet<_>>().len();
        let seen = || seen().min(self.bounds.closest);
        let known = || self.closest.as_ref().map(BTreeSet::len);
        let asked = if self.ended_early {
            usize::MAX
        } else {
            self.asked.or_else(known).unwrap_or_else(seen)
        };
        self.bounds.complete_at.min(asked).max(1)
    }

    /// Whether as many of the closest holders that say what they cover as have to cover a place, or
    /// all of them, have shown an update of a writer that is from the future by this clock. Then
    /// the space is not known. Others may have kept what somebody has put there: its signature is
    /// not verified.
    fn is_ahead(&self, writer: &PeerId) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        let closest = self.closest();
        let claims = |peer: &PeerId| self.claims.get(peer).is_some() && closest.contains(peer);
        let claiming = self.shown.holders().filter(|peer| claims(peer)).count();
        let shows =
            |(peer, them): &(&PeerId, &BTreeSet<PeerId>)| them.contains(writer) && claims(peer);
        self.ahead.iter().filter(shows).count() >= self.needed().min(claiming).max(1)
    }

    /// Whether enough peers have covered the space of a writer, so that what they have not shown of
    /// it they do not have. Never of one that a full record may have no slot for, that was shown
    /// and had none, or that may have been withdrawn where there is no slot for a withdrawal.
    pub(crate) fn tells(&self, writer: &Writer) -> bool {
        let (Some(record), Some(dropped)) = (self.joined.record(), self.joined.dropped()) else {
            return false;
        };
        let place = RingArc::place(&writer.rank(&self.key));
        // What has a slot in the join has one at each holder, whatever its place, unless holders
        // evict it for want of bytes.
        let has_slot = !self.extent().is_large
            && record.space(writer).is_some_and(|space| !space.is_withdrawn());
        let is_beyond = !has_slot && self.extent().last.is_some_and(|last| place > last);
        let may_be_dismissed = self.extent().dismisses_withdrawn && record.space(writer).is_none();
        self.has_answers()
            && !is_beyond
            && !may_be_dismissed
            && !dropped.has(&self.key, writer)
            && !self.is_ahead(&writer.peer_id())
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
            && !self.is_ahead(&writer.peer_id())
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

    /// Whether a peer says what its answers to this node cover.
    pub(crate) fn says_coverage(&self, peer: &PeerId) -> bool {
        self.claims.get(peer).is_some()
    }

    /// The holders that are known to have made their answers themselves, because these were for
    /// this node, or not to. The first join what they are sent; the others keep the last PUT.
    pub(crate) fn joining(&self) -> impl Iterator<Item = (&PeerId, bool)> {
        self.joining.iter().map(|(peer, joins)| (peer, *joins))
    }

    /// The valid content of a peer's answers, as far as it is remembered.
    pub(crate) fn shown(&self, peer: &PeerId) -> Option<CheckedAnswer> {
        self.shown.answer(peer)
    }

    /// The peers whose answers make the reading complete.
    fn closest(&self) -> Cow<'_, BTreeSet<PeerId>> {
        let seen = || self.closest_seen(None).into_iter().copied().collect();
        self.closest.as_ref().map_or_else(|| Cow::Owned(seen()), Cow::Borrowed)
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
    /// so it is also sent what it has shown; last, if it may join after all, because it says what
    /// it covers.
    pub(crate) fn repairs(&self, local: &PeerId, joins: impl Fn(&PeerId) -> bool) -> Vec<Repair> {
        if self.joined.is_empty() {
            return Vec::new();
        }
        let mut repairs: Vec<Repair> = Vec::new();
        // What fits into one packet goes out whole: a plain holder has then all that was known.
        let fits = !self.joined.exceeds(self.bounds.chunk_bytes);
        let mut all: Option<Vec<Bytes>> = None;
        let place = |writer: &Writer| RingArc::place(&writer.rank(&self.key));
        // A hash for each space, if anybody may lack something.
        let places: LazyCell<BTreeMap<_, _>, _> = LazyCell::new(|| {
            let spaces = self.joined.record().into_iter().flat_map(SmartRecord::spaces);
            spaces.map(|(writer, _)| (writer, place(writer))).collect()
        });
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
                    match plain.and_then(all) {
                        Some(renewed) if claim.is_some() => {
                            chunks.into_iter().chain(renewed).collect()
                        }
                        renewed => renewed.unwrap_or(chunks),
                    }
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
    pub(crate) const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Returns the result so far, which is not complete. It is not compared with what holders say
    /// that they have, so it costs no hashes and may be taken after each answer.
    pub(crate) fn into_interim(self, now: Timestamp) -> Reading {
        let extent = self.extent.get().cloned().unwrap_or_else(|| self.measure(false));
        let interim = Self { extent: extent.into(), ..self };
        let reading = interim.into_reading(&[], Vec::new(), now);
        // Whoever keeps it keeps no copy of what was dropped.
        let dropped = DroppedSpaces::default();
        Reading { is_complete: false, has_settled: false, dropped, ..reading }
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
        // An interim result makes nothing of it.
        let named = self.ahead.values().filter(|_| has_settled).flatten();
        let named = named.copied().collect::<BTreeSet<_>>();
        let ahead = named.into_iter().filter(|writer| self.is_ahead(writer)).collect();
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
            ahead_of_clock: self.ahead.into_keys().collect(),
            ahead,
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
