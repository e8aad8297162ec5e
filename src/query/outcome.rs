//! The result of a read.
//!
//! **Invariants.** A snapshot is immutable: later answers do not change it.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    covered::Claims,
    dropped::DroppedSpaces,
    joined::{CheckedAnswer, JoinedAnswers, contains},
    refused::RefusedAnswers,
    versions::Shown,
};
use smart_record_core::{
    Arcs, Namespace, Position, RecordKey, RingArc, Seq, SmartRecord, Timestamp, ValidationError,
    View, Writer,
};

/// A record as known at one instant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Key of the record.
    pub key: RecordKey,
    /// The known content.
    pub content: Content,
    /// The instant of the snapshot.
    pub at: Timestamp,
    /// The view, once it is known, and its instant.
    view: OnceLock<(Timestamp, View)>,
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.content, self.at) == (&other.key, &other.content, other.at)
    }
}

impl Eq for Snapshot {}

/// The known content of a key, depending on its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A smart record with all known spaces, possibly none.
    Record(SmartRecord),
    /// A value: the best that was known, or the combination of several. `None` if there was none.
    Value(Option<Bytes>),
}

impl Snapshot {
    /// Returns the known content without expired updates.
    pub(crate) fn new(key: RecordKey, joined: JoinedAnswers, now: Timestamp) -> Self {
        let content = match joined {
            JoinedAnswers::Record(_, mut record, _) => {
                record.collect(now);
                Content::Record(record)
            }
            JoinedAnswers::Value(_, value) => Content::Value(value),
        };
        Self::of(key, content, now)
    }

    pub(crate) const fn of(key: RecordKey, content: Content, at: Timestamp) -> Self {
        Self { key, content, at, view: OnceLock::new() }
    }

    /// Returns a record without expired updates, with its view at `at`.
    pub(crate) fn viewed(record: SmartRecord, view: View, at: Timestamp) -> Self {
        let snapshot = Self::of(record.key().clone(), Content::Record(record), at);
        Self { view: (at, view).into(), ..snapshot }
    }

    /// The smart record; `None` for values.
    pub const fn record(&self) -> Option<&SmartRecord> {
        match &self.content {
            Content::Record(record) => Some(record),
            Content::Value(_) => None,
        }
    }

    /// The value; `None` if there was none, and for smart records.
    pub const fn value(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Value(value) => value.as_ref(),
            Content::Record(_) => None,
        }
    }

    /// The view of a smart record at the instant of the snapshot; empty for values. It is made
    /// once for the instant, and not anew if the content is changed. In a snapshot of a
    /// [`Watch`](crate::client::Watch) it is there already, and shares with the last one what has
    /// not changed.
    pub fn view(&self) -> View {
        let view = || self.record().map(|record| record.view(self.at)).unwrap_or_default();
        let (at, known) = self.view.get_or_init(|| (self.at, view()));
        if *at == self.at { known.clone() } else { view() }
    }

    /// Whether nothing was known.
    pub fn is_empty(&self) -> bool {
        match &self.content {
            Content::Record(record) => record.spaces().len() == 0,
            Content::Value(value) => value.is_none(),
        }
    }
}

/// A writer of which a read found less than was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The writer.
    pub writer: PeerId,
    /// `seq` of the newest update that was seen before and should still be retained.
    pub known: Seq,
    /// `seq` of the newest update that the read found, if any.
    pub found: Option<Seq>,
}

/// Coverage stated by a holder of a smart record. It is unsigned: nothing proves it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HolderCoverage {
    /// How many spaces it has.
    pub spaces: u32,
    /// The share of the ring of ranks of which it has shown all that it has, from 0 to 1.
    pub share: f64,
}

/// The result of a read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reading {
    /// The valid answers joined with what this node knew itself.
    pub snapshot: Snapshot,
    /// The peers that gave a valid answer.
    pub holders: Vec<PeerId>,
    /// The closest holders that are behind. A [`Behaviour`](crate::behaviour::Behaviour) repairs
    /// them, unless a recent repair had no effect.
    pub stale: Vec<PeerId>,
    /// The peers that answered that they have no record, at most as many as are closest to a key. A
    /// behaviour sends them the record if all of the closest have been asked.
    pub empty: Vec<PeerId>,
    /// The closest peers that did not answer in time. Unreachable peers do not count as closest.
    pub silent: Vec<PeerId>,
    /// The peers whose answers were refused, with the reason.
    pub refused: Vec<(PeerId, ValidationError)>,
    /// The holders of a smart record whose answers had updates that are too far ahead of this
    /// node's clock, which were left out. If they are more than one or two, the clock is behind,
    /// and what was written last is missing, though the reading may be
    /// [complete](Self::is_complete).
    pub ahead_of_clock: Vec<PeerId>,
    /// The writers of which less was found than was seen before, although
    /// [enough](crate::behaviour::BehaviourConfig::complete_at) peers have covered their spaces:
    /// their updates were withheld or rolled back. It accuses no peer.
    ///
    /// What is found is compared with what had been seen when the read began. An update of another
    /// writer that was seen a moment before that may be reported while it is still on its way to
    /// most holders.
    ///
    /// Left out are spaces that a full record may have no place for, withdrawn ones of which
    /// nothing was found, and, where half of the places of withdrawn ones are taken, all others of
    /// which nothing was found, for they may have been withdrawn: replicas evict these by rules of
    /// their own. A space that was evicted is reported if its record has places again when it is
    /// read, but has not heard of it since.
    pub withheld: Vec<Withheld>,
    /// Expiry of copies of a value that does not state its own: the latest that its holders state.
    /// `None` if a holder states none, and for smart records.
    pub expires_at: Option<Timestamp>,
    /// The writers of which enough holders have shown an update from the future by this clock.
    pub(crate) ahead: BTreeSet<PeerId>,
    pub(crate) is_complete: bool,
    /// Whether enough of the closest peers have answered.
    pub(crate) has_settled: bool,
    /// The places of the ring of ranks that enough peers have covered.
    pub(crate) covered: Arcs,
    /// The digest of what was found, if it may be that of a holder.
    pub(crate) digest: Option<[u8; 32]>,
    pub(crate) claims: Claims,
    /// The spaces that the record has no place for.
    pub(crate) dropped: DroppedSpaces,
    pub(crate) shown: Arc<Shown>,
    /// What this node had stored.
    pub(crate) here: Option<CheckedAnswer>,
    pub(crate) namespace: Namespace,
}

impl Reading {
    /// The view of a smart record when it was read; empty for values.
    pub fn view(&self) -> View {
        self.snapshot.view()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_empty()
    }

    /// Whether any other peer has answered, even without a record. If not, the result is only what
    /// this node knew itself.
    pub fn has_reached_anyone(&self) -> bool {
        !(self.holders.is_empty() && self.empty.is_empty() && self.refused.is_empty())
    }

    /// All refused answers, if there are any. Their text tells each class of reasons once.
    pub fn refusals(&self) -> Option<RefusedAnswers> {
        RefusedAnswers::all(self.refused.iter().cloned())
    }

    /// The refused answers, if nothing was found and these are the reason: what is under the key is
    /// unknown. `None` if more peers have answered that they have no record; then there is nothing.
    pub fn refusal(&self) -> Option<RefusedAnswers> {
        let refused = self.refused.iter().filter(|_| self.is_empty()).cloned();
        RefusedAnswers::decisive(refused, self.empty.len())
    }

    /// Whether nothing is missing: the peers closest to the key are known and enough of them have
    /// answered (more than half in reads of a [`Behaviour`](crate::behaviour::Behaviour), at least
    /// one in reads over Kademlia's queries), and every part of the record was covered by
    /// [`complete_at`](crate::behaviour::BehaviourConfig::complete_at) of them, or by all that were
    /// asked if they are fewer (over Kademlia's queries: that have answered). Of a value, that many
    /// have shown one or said that they have none.
    ///
    /// A peer covers the part of a record of which it says that it has shown all that it has. One
    /// that has no record covers everything, but each holder that has one has to show it. One that
    /// is not among the closest may be behind: what it shows is joined, and covers nothing. A peer
    /// of another implementation says nothing about its answers and covers nothing: a smart record
    /// that is held only by such peers is read, and is not complete unless that many of the closest
    /// have no record.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The share of the record that was not covered by enough peers, from 0 to 1: about the share
    /// of the writers that may be missing. If it is 0 and the reading is not complete, too few of
    /// the closest peers have answered, or a space was shown when the record had no slot for it and
    /// has one now.
    pub fn missing(&self) -> f64 {
        self.covered.rest()
    }

    /// As [`is_complete`](Self::is_complete), for the space of one writer. It is not complete for a
    /// space that was shown and that the record had no place for, nor for one of which that many
    /// holders have shown an update that is from the future by this clock.
    pub fn is_complete_for(&self, writer: &Writer) -> bool {
        let key = &self.snapshot.key;
        let place = RingArc::place(&writer.rank(key));
        let is_known = !self.dropped.has(key, writer) && !self.ahead.contains(&writer.peer_id());
        self.has_settled && self.covered.has(place) && is_known
    }

    /// Coverage stated by a holder of a smart record. `None` if it states none, as peers of other
    /// implementations.
    pub fn coverage(&self, holder: &PeerId) -> Option<HolderCoverage> {
        let claim = self.claims.get(holder)?;
        let share = claim.shown(self.digest).share();
        Some(HolderCoverage { spaces: claim.spaces, share })
    }

    /// The peers whose answers contained this update.
    pub fn holders_of(&self, writer: &Writer, position: Position) -> Vec<PeerId> {
        self.shown.holders_of(writer, position).collect()
    }

    /// The peers whose answers contained all updates of this record, or newer ones that replace
    /// them.
    pub fn holders_of_record(&self, record: &SmartRecord) -> Vec<PeerId> {
        self.holders_by(
            |shown| matches!(shown, CheckedAnswer::Record(shown) if contains(shown, record)),
        )
    }

    /// The value of each holder; `None` stands for this node. Empty for smart records.
    pub fn values(&self) -> impl Iterator<Item = (Option<PeerId>, &Bytes)> {
        let here = self.here.iter().filter_map(|shown| match shown {
            CheckedAnswer::Value(value) => Some((None, value)),
            CheckedAnswer::Record(_) => None,
        });
        let value = |peer: &PeerId| Some((Some(*peer), self.shown.value(peer)?));
        here.chain(self.shown.holders().filter_map(value))
    }

    /// The peers whose answers contained this value: the same value, or a combination that includes
    /// it.
    pub fn holders_of_value(&self, value: &[u8]) -> Vec<PeerId> {
        let key = &self.snapshot.key;
        self.holders_by(|shown| match (shown, &self.namespace) {
            (CheckedAnswer::Value(shown), Namespace::Value(validator)) => {
                shown == value || validator.contains(key, shown, value)
            }
            _ => false,
        })
    }

    /// Whether a better value than this one was found, which does not include it.
    pub(crate) fn replaces_value(&self, value: &Bytes) -> bool {
        match (self.snapshot.value(), &self.namespace) {
            (Some(best), Namespace::Value(validator)) => {
                best != value && !validator.contains(&self.snapshot.key, best, value)
            }
            _ => false,
        }
    }

    fn holders_by(&self, has_it: impl Fn(&CheckedAnswer) -> bool) -> Vec<PeerId> {
        let has_it = |peer: &PeerId| self.shown.answer(peer).is_some_and(|shown| has_it(&shown));
        self.shown.holders().copied().filter(has_it).collect()
    }
}
