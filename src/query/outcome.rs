//! What a read has come to.
//!
//! **Invariants.** A snapshot is a value: it does not change with what is learnt later.

use std::collections::BTreeMap;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::joined::{JoinedAnswers, Said, contains};
use smart_record_core::{
    Namespace, Position, RecordKey, Seq, SmartRecord, Timestamp, ValidationError, View, Writer,
};

/// A record as it was known at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Of the record.
    pub key: RecordKey,
    /// What was known of it.
    pub content: Content,
    /// The instant.
    pub at: Timestamp,
}

/// What was known under a key, as its namespace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A smart record: all spaces that were known of it, perhaps none.
    Record(SmartRecord),
    /// A value of another namespace: the best that was known, or what several said together. `None`
    /// if there was none.
    Value(Option<Bytes>),
}

impl Snapshot {
    /// What is known, without what may go at `now`.
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

    /// The smart record; `None` for other namespaces.
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

    /// What a smart record said then; for other namespaces nothing.
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

/// A writer of whom less was found than was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// Whose space it is.
    pub writer: PeerId,
    /// The newest update that was seen before, and that would still be kept.
    pub known: Seq,
    /// The newest that was found now.
    pub found: Option<Seq>,
}

/// What a read has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reading {
    /// All good answers together, with what this node knew itself.
    pub snapshot: Snapshot,
    /// The peers who gave a good answer.
    pub holders: Vec<PeerId>,
    /// Those of the holders closest to the key who were behind. A [`Behaviour`](crate::behaviour::Behaviour) sends them what they lack,
    /// unless that was in vain a short while ago.
    pub stale: Vec<PeerId>,
    /// Who of those that were asked had nothing; at most as many as are the closest to a key. A behaviour sends them the
    /// record as those who were behind, if all of the closest have been asked.
    pub empty: Vec<PeerId>,
    /// Those of the closest that did not answer in time. Those that could not be reached are not among the closest.
    pub silent: Vec<PeerId>,
    /// The peers whose answers were no good, and what was wrong with them.
    pub refused: Vec<(PeerId, ValidationError)>,
    /// The writers of whom less was found than has been seen before: it was withheld, or rolled back. A writer of whom
    /// nothing was found is among them only if the read was complete, and the record is not larger than one answer.
    pub withheld: Vec<Withheld>,
    /// Until when a copy of a value may be kept that does not say so itself: the latest end that its holders set to it. `None` if
    /// one of them sets none, and for smart records.
    pub expires_at: Option<Timestamp>,
    pub(crate) is_complete: bool,
    pub(crate) said: BTreeMap<PeerId, Said>,
    /// What this node had stored.
    pub(crate) here: Option<Said>,
    pub(crate) namespace: Namespace,
}

impl Reading {
    /// What a smart record said when it was read.
    pub fn view(&self) -> View {
        self.snapshot.view()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_empty()
    }

    /// Whether any other peer has answered, be it that it has nothing. If not, all that there is is what this node
    /// knew itself.
    pub fn has_reached_anyone(&self) -> bool {
        !(self.holders.is_empty() && self.empty.is_empty() && self.refused.is_empty())
    }

    /// Whether all peers closest to the key that could be reached have been asked, and at least one of them has given a
    /// good answer or said that it has nothing; a large record, until nothing new arrived.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The peers whose answers had this update in them.
    pub fn holders_of(&self, writer: &Writer, position: Position) -> Vec<PeerId> {
        self.holders_by(|said| match said {
            Said::Record(record) => {
                record.space(writer).is_some_and(|space| space.get(position).is_some())
            }
            Said::Value(_) => false,
        })
    }

    /// The peers whose answers had all updates of this record, or newer ones in their place.
    pub fn holders_of_record(&self, record: &SmartRecord) -> Vec<PeerId> {
        self.holders_by(|said| matches!(said, Said::Record(said) if contains(said, record)))
    }

    /// What each holder has, of a record that is not a smart record; `None` is this node.
    pub fn values(&self) -> impl Iterator<Item = (Option<PeerId>, &Bytes)> {
        let here = self.here.iter().map(|said| (None, said));
        let said = self.said.iter().map(|(peer, said)| (Some(*peer), said));
        here.chain(said).filter_map(|(holder, said)| match said {
            Said::Value(value) => Some((holder, value)),
            Said::Record(_) => None,
        })
    }

    /// The peers whose answers said all that this value says: the same, or where values combine, one that contains it.
    pub fn holders_of_value(&self, value: &[u8]) -> Vec<PeerId> {
        let key = &self.snapshot.key;
        self.holders_by(|said| match (said, &self.namespace) {
            (Said::Value(said), Namespace::Value(validator)) => {
                said == value || validator.contains(key, said, value)
            }
            _ => false,
        })
    }

    fn holders_by(&self, has_it: impl Fn(&Said) -> bool) -> Vec<PeerId> {
        self.said.iter().filter(|(_, said)| has_it(said)).map(|(peer, _)| *peer).collect()
    }
}
