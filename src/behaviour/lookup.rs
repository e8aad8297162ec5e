//! A read: gathers answers, decides when there are enough, and says who lacks what.
//!
//! **Invariants.** Pure: the answers and `now` come in, decisions go out. An answer that is no good, of whatever kind,
//! changes nothing but the list of those who gave one. Nobody outside the peers closest to the key is written to.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use prost::bytes::Bytes;

use super::{
    config::ReadPolicy,
    joined::{Joined, Said},
    known::Withheld,
};
use crate::{
    key::RecordKey,
    record::{Position, SmartRecord, View, Writer},
    store::storage::RecordId,
    time::Timestamp,
    validator::{ValidationError, Validator},
};

/// A record as it was known at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Of the record.
    pub key: RecordKey,
    /// For a smart record all that was known of it; `None` for other kinds.
    pub record: Option<SmartRecord>,
    /// The value, for records of other kinds: the best that was known, or what several said together. `None` if there
    /// was none, and for smart records.
    pub value: Option<Bytes>,
    /// The instant.
    pub at: Timestamp,
}

impl Snapshot {
    /// What a smart record said then; of other kinds nothing.
    pub fn view(&self) -> View {
        self.record.as_ref().map(|record| record.view(self.at)).unwrap_or_default()
    }

    /// Whether nothing was known.
    pub fn is_empty(&self) -> bool {
        self.value.is_none() && self.record.as_ref().is_none_or(|r| r.spaces().len() == 0)
    }
}

/// What a read has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reading {
    /// All good answers together, with what this node knew itself.
    pub snapshot: Snapshot,
    /// The peers who gave a good answer.
    pub holders: Vec<PeerId>,
    /// Those of the holders closest to the key who were behind; they are sent what they lack.
    pub stale: Vec<PeerId>,
    /// The peers closest to the key who had nothing; they are sent the record.
    pub empty: Vec<PeerId>,
    /// The peers whose answers were no good, and what was wrong with them.
    pub refused: Vec<(PeerId, ValidationError)>,
    /// The writers of whom less was found than has been seen before: it was withheld, or rolled back.
    pub withheld: Vec<Withheld>,
    said: BTreeMap<PeerId, Said>,
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

    /// What each holder answered, of a record that is not a smart record.
    pub fn values(&self) -> impl Iterator<Item = (PeerId, &Bytes)> {
        self.said.iter().filter_map(|(peer, said)| match said {
            Said::Value(value) => Some((*peer, value)),
            Said::Record(_) => None,
        })
    }

    /// The peers whose answers had this update in them.
    pub fn holders_of(&self, writer: &Writer, position: Position) -> Vec<PeerId> {
        let has_it = |said: &Said| match said {
            Said::Record(record) => {
                record.space(writer).is_some_and(|space| space.get(position).is_some())
            }
            Said::Value(_) => false,
        };
        self.said.iter().filter(|(_, said)| has_it(said)).map(|(peer, _)| *peer).collect()
    }

    /// The peers whose answers had these bytes.
    pub fn holders_of_value(&self, value: &[u8]) -> Vec<PeerId> {
        let has_it = |said: &Said| matches!(said, Said::Value(said) if said == value);
        self.said.iter().filter(|(_, said)| has_it(said)).map(|(peer, _)| *peer).collect()
    }
}

/// What peers are to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    pub(super) peers: Vec<PeerId>,
    pub(super) chunks: Vec<Bytes>,
}

/// The bounds that a lookup goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How many peers are the closest.
    pub(super) closest: usize,
    /// An answer of more than this may be a slice.
    pub(super) slice_bytes: usize,
    pub(super) chunk_bytes: usize,
    pub(super) rounds: usize,
    pub(super) repair_chunks: usize,
}

/// A read that is under way.
#[derive(Debug)]
pub(super) struct Lookup {
    key: RecordKey,
    policy: ReadPolicy,
    bounds: Bounds,
    joined: Joined,
    said: BTreeMap<PeerId, Said>,
    refused: BTreeMap<PeerId, ValidationError>,
    empty: BTreeSet<PeerId>,
    answers: usize,
    without_news: usize,
    news_in_round: bool,
    rounds: usize,
    ended_early: bool,
    /// The latest end that holders of the value set to it, if none of them has set none.
    expires_at: Option<Timestamp>,
}

impl Lookup {
    pub(super) fn new(
        key: RecordKey,
        policy: ReadPolicy,
        bounds: Bounds,
        validator: &dyn Validator,
    ) -> Self {
        Self {
            joined: Joined::new(validator, &key),
            key,
            policy,
            bounds,
            said: BTreeMap::new(),
            refused: BTreeMap::new(),
            empty: BTreeSet::new(),
            answers: 0,
            without_news: 0,
            news_in_round: false,
            rounds: 1,
            ended_early: false,
            expires_at: Some(Timestamp::EPOCH),
        }
    }

    pub(super) fn key(&self) -> &RecordKey {
        &self.key
    }

    pub(super) fn joined(&self) -> &Joined {
        &self.joined
    }

    /// Takes note of what this node has itself.
    pub(super) fn on_local(&mut self, record: &SmartRecord) {
        self.joined.join(record);
    }

    /// As [`on_local`](Self::on_local), of a value that is not a smart record.
    pub(super) fn on_local_value(
        &mut self,
        value: &[u8],
        expires_at: Option<Timestamp>,
        validator: &dyn Validator,
        now: Timestamp,
    ) {
        if self.joined.take(validator, &self.key, value, now).is_ok() {
            self.expires_at = self.expires_at.zip(expires_at).map(|(a, b)| a.max(b));
        }
    }

    /// Takes note of an answer. `expires_at` is what the holder says about it. Returns whether that is enough.
    pub(super) fn on_answer(
        &mut self,
        peer: PeerId,
        value: &[u8],
        expires_at: Option<Timestamp>,
        validator: &dyn Validator,
        now: Timestamp,
    ) -> bool {
        match self.joined.take(validator, &self.key, value, now) {
            Ok((said, is_news)) => {
                self.answers = self.answers.saturating_add(1);
                self.without_news = if is_news { 0 } else { self.without_news.saturating_add(1) };
                self.news_in_round |= is_news;
                self.expires_at = self.expires_at.zip(expires_at).map(|(a, b)| a.max(b));
                match self.said.get_mut(&peer) {
                    Some(earlier) => earlier.and(said),
                    None => {
                        self.said.insert(peer, said);
                    }
                }
            }
            Err(error) => self.on_bad_answer(peer, error),
        }
        let enough = match self.policy {
            ReadPolicy::All => false,
            ReadPolicy::Replies(n) => self.answers >= n,
            ReadPolicy::WithoutNews(n) => self.without_news >= n,
        };
        self.ended_early |= enough;
        enough
    }

    /// Takes note of an answer that is not even one to the question.
    pub(super) fn on_bad_answer(&mut self, peer: PeerId, error: ValidationError) {
        self.refused.entry(peer).or_insert(error);
    }

    /// Takes note of those who had nothing.
    pub(super) fn on_empty(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.empty.extend(peers);
    }

    /// The peers have been asked. Whether to ask them again: so it is for a record of which each of them gives but a
    /// slice, until nothing new arrives.
    pub(super) fn on_round(&mut self) -> bool {
        let again = self.news_in_round
            && self.may_be_incomplete()
            && !self.ended_early
            && self.rounds < self.bounds.rounds;
        if again {
            self.rounds = self.rounds.saturating_add(1);
            self.news_in_round = false;
        }
        again
    }

    /// Whether there may be more than what has been shown. The slices of a large record have several sizes, the least
    /// an eighth of the largest; but those of two replicas are not the same.
    fn may_be_incomplete(&self) -> bool {
        let Joined::Record(joined) = &self.joined else {
            return false;
        };
        let len = self.joined.encoded_len();
        let show_all = |said: &Said| matches!(said, Said::Record(said) if said == joined);
        let agreed = self.said.len() > 1 && self.said.values().all(show_all);
        len > self.bounds.slice_bytes / 8 && !(agreed && len <= self.bounds.slice_bytes)
    }

    /// Whether the record is larger than what one answer holds. If it is not, each answer was all that its holder has.
    pub(super) fn may_be_sliced(&self) -> bool {
        matches!(self.joined, Joined::Record(_))
            && self.joined.encoded_len() > self.bounds.slice_bytes
    }

    /// How many lookups of Kademlia it has taken so far.
    pub(super) const fn lookups(&self) -> usize {
        self.rounds
    }

    /// Who has given an answer that is no good, and what was wrong with it.
    pub(super) fn refusal(&self, peer: &PeerId) -> Option<&ValidationError> {
        self.refused.get(peer)
    }

    /// How many peers have answered anything.
    pub(super) fn replies(&self) -> usize {
        self.answers.saturating_add(self.refused.len()).saturating_add(self.empty.len())
    }

    /// Whom to send what, and whether this node is one of the closest itself.
    pub(super) fn repairs(&self, local: &PeerId, validator: &dyn Validator) -> (Vec<Repair>, bool) {
        if self.joined.is_empty() {
            return (Vec::new(), false);
        }
        let distance = |peer: &PeerId| RecordId::new(peer, &self.key);
        let mut seen: Vec<_> = self.said.keys().chain(&self.empty).collect();
        seen.retain(|peer| *peer != local);
        seen.sort_by_cached_key(|peer| distance(peer));
        let is_close = match seen.get(self.bounds.closest.saturating_sub(1)) {
            Some(last) => distance(local) < distance(last),
            None => true,
        };
        seen.truncate(self.bounds.closest);
        // After an early end it is not known whether those who have nothing are among the closest, unless a holder
        // is farther away.
        let farthest_holder = self.said.keys().map(distance).max();
        let whole = !self.may_be_sliced();
        let mut repairs: Vec<Repair> = Vec::new();
        let mut all: Option<Vec<Bytes>> = None;
        for peer in seen {
            let said = self.said.get(peer);
            if said.is_none() && self.ended_early && Some(distance(peer)) > farthest_holder {
                continue;
            }
            let lacking = || {
                let bytes = self.bounds.chunk_bytes;
                let mut chunks = self.joined.lacking(validator, &self.key, said, whole, bytes);
                chunks.truncate(self.bounds.repair_chunks);
                chunks
            };
            let chunks = match said {
                Some(_) => lacking(),
                None => all.get_or_insert_with(lacking).clone(),
            };
            if chunks.is_empty() {
                continue;
            }
            match repairs.iter_mut().find(|repair| repair.chunks == chunks) {
                Some(repair) => repair.peers.push(*peer),
                None => repairs.push(Repair { peers: vec![*peer], chunks }),
            }
        }
        (repairs, is_close)
    }

    /// Until when a copy of the value may be kept that does not say so itself.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.filter(|at| *at > Timestamp::EPOCH)
    }

    /// What the read has come to.
    pub(super) fn into_reading(
        self,
        repairs: &[Repair],
        withheld: Vec<Withheld>,
        now: Timestamp,
    ) -> Reading {
        let sent = |peer: &PeerId| repairs.iter().any(|repair| repair.peers.contains(peer));
        let stale = self.said.keys().copied().filter(|peer| sent(peer)).collect();
        let empty =
            self.empty.iter().copied().filter(|peer| !self.said.contains_key(peer)).collect();
        Reading {
            snapshot: self.joined.into_snapshot(self.key, now),
            holders: self.said.keys().copied().collect(),
            stale,
            empty,
            refused: self.refused.into_iter().collect(),
            withheld,
            said: self.said,
        }
    }
}
