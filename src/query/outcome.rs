//! The result of a read.
//!
//! **Invariants.** A snapshot is immutable: later answers do not change it.

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    joined::{CheckedAnswer, JoinedAnswers, contains},
    refused::RefusedAnswers,
    versions::Shown,
};
use smart_record_core::{
    Namespace, Position, RecordKey, Seq, SmartRecord, Timestamp, ValidationError, View, Writer,
};

/// A record as known at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Key of the record.
    pub key: RecordKey,
    /// The known content.
    pub content: Content,
    /// The instant of the snapshot.
    pub at: Timestamp,
}

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
            JoinedAnswers::Record(_, mut record) => {
                record.collect(now);
                Content::Record(record)
            }
            JoinedAnswers::Value(_, value) => Content::Value(value),
        };
        Self { key, content, at: now }
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

    /// The view of a smart record at the instant of the snapshot; empty for values.
    pub fn view(&self) -> View {
        self.record().map(|record| record.view(self.at)).unwrap_or_default()
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
    /// The writers of which less was found than was seen before: their updates were withheld or
    /// rolled back. A writer of which nothing was found is included only if the read was complete
    /// and the record fits into one answer.
    pub withheld: Vec<Withheld>,
    /// Expiry of copies of a value that does not state its own: the latest that its holders state.
    /// `None` if a holder states none, and for smart records.
    pub expires_at: Option<Timestamp>,
    pub(crate) is_complete: bool,
    pub(crate) shown: Shown,
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

    /// Whether the peers closest to the key are known and enough of them have answered: more than
    /// half in reads of a [`Behaviour`](crate::behaviour::Behaviour), at least one in reads over
    /// Kademlia's queries. A large record was read until nothing new arrived.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
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
