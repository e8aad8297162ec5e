//! The answers to a read, and whether they cover the record.
//!
//! [`RecordReader`] makes a reading of them. It is not told which peers are the closest, and does
//! not say which holders may show more. So this module decides both as `query/{lookup,covered}.rs`
//! do, by what [`Coverage`] says. A reading is complete if it is by both.
//!
//! **Departs from the real code** in that a holder has shown something new if it has covered
//! something new, and in that a record has as many spaces as were found.
//!
//! [`RecordReader`]: libp2p_smart_record::query::RecordReader

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_smart_record::{SmartRecord, Timestamp};
use smart_record_core::{Arcs, Coverage};

/// Number of peers that have to cover a place, as [`BehaviourConfig::complete_at`] has it.
///
/// [`BehaviourConfig::complete_at`]: libp2p_smart_record::behaviour::BehaviourConfig::complete_at
const COMPLETE_AT: usize = 2;
/// How often a holder is asked, as [`BehaviourConfig::read_rounds`] has it.
///
/// [`BehaviourConfig::read_rounds`]: libp2p_smart_record::behaviour::BehaviourConfig::read_rounds
const ROUNDS: usize = 16;

/// What a holder says that it has shown.
#[derive(Debug, Default)]
struct Claim {
    arcs: Arcs,
    digest: [u8; 32],
    overclaims: bool,
    is_silent: bool,
    asked: usize,
}

impl Claim {
    fn has_shown_all(&self, joined: Option<[u8; 32]>) -> bool {
        self.arcs.is_ring() || joined == Some(self.digest)
    }

    fn shown(&self, joined: Option<[u8; 32]>) -> Cow<'_, Arcs> {
        match self.has_shown_all(joined) {
            true => Cow::Owned(Arcs::ring()),
            false => Cow::Borrowed(&self.arcs),
        }
    }
}

/// All answers to a read.
#[derive(Debug)]
pub(crate) struct Answers {
    values: Vec<(PeerId, Bytes)>,
    holders: BTreeSet<PeerId>,
    empty: BTreeSet<PeerId>,
    claims: BTreeMap<PeerId, Claim>,
    /// The closest peers, whether or not they have answered.
    closest: BTreeSet<PeerId>,
    /// Number of the closest peers that were asked, if known.
    asked: Option<usize>,
    /// What was found, of the node itself and of this many values. `None`: nothing yet.
    joined: Option<SmartRecord>,
    joined_values: usize,
    digest: Option<[u8; 32]>,
}

impl Answers {
    /// No answers, of a reader that has this itself.
    pub(crate) fn new(own: Option<SmartRecord>) -> Self {
        Self {
            values: Vec::new(),
            holders: BTreeSet::new(),
            empty: BTreeSet::new(),
            claims: BTreeMap::new(),
            closest: BTreeSet::new(),
            asked: None,
            joined: own,
            joined_values: 0,
            digest: None,
        }
    }

    pub(crate) fn add(&mut self, peer: PeerId, value: Bytes) {
        if let Some(coverage) = Coverage::of_answer(&value) {
            let claim =
                self.claims.entry(peer).or_insert_with(|| Claim { asked: 1, ..Claim::default() });
            let before = claim.arcs.clone();
            claim.arcs.add(coverage.arcs().iter().copied());
            claim.digest = coverage.digest;
            claim.overclaims = claim.arcs == before && !claim.arcs.is_ring();
        }
        self.holders.insert(peer);
        self.values.push((peer, value));
        self.digest = None;
    }

    pub(crate) fn add_empty(&mut self, peer: PeerId) {
        self.empty.insert(peer);
    }

    /// Handles a holder that did not answer when it was asked again.
    pub(crate) fn on_no_answer(&mut self, peer: &PeerId) {
        if let Some(claim) = self.claims.get_mut(peer) {
            claim.is_silent = true;
        }
    }

    pub(crate) fn set_closest(&mut self, closest: BTreeSet<PeerId>) {
        self.closest = closest;
    }

    pub(crate) fn set_asked(&mut self, asked: usize) {
        self.asked = Some(asked);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &(PeerId, Bytes)> {
        self.values.iter()
    }

    /// The closest peers that have nothing.
    pub(crate) fn empty(&self) -> impl Iterator<Item = PeerId> {
        self.empty.intersection(&self.closest).copied()
    }

    pub(crate) fn has_heard(&self, peer: &PeerId) -> bool {
        self.holders.contains(peer) || self.empty.contains(peer)
    }

    /// Whether a holder says what it covers, so that it joins what it is sent.
    pub(crate) fn joins(&self, peer: &PeerId) -> bool {
        self.claims.contains_key(peer)
    }

    /// Whether all that was found fits into a packet of this size.
    pub(crate) fn is_small(&self, packet: usize) -> bool {
        let is_whole = |(peer, value): &(PeerId, Bytes)| {
            value.len() <= packet && self.claims.get(peer).is_none_or(|it| it.arcs.is_ring())
        };
        self.values.iter().all(is_whole)
            || self.joined.as_ref().is_some_and(|joined| joined.encode().len() <= packet)
    }

    /// Joins what was found, if that says more than what its holders cover.
    pub(crate) fn join(&mut self, now: Timestamp, decode: impl Fn(&Bytes) -> Option<SmartRecord>) {
        if self.digest.is_some() || self.claims.values().all(|claim| claim.arcs.is_ring()) {
            return;
        }
        for (_, value) in &self.values[self.joined_values..] {
            match (decode(value), &mut self.joined) {
                (Some(found), Some(joined)) => {
                    // Keys are the same.
                    let _ = joined.join(found);
                }
                (found, joined) => *joined = joined.take().or(found),
            }
        }
        self.joined_values = self.values.len();
        self.digest = self.joined.as_ref().map(|joined| joined.digest(now));
    }

    fn needed(&self) -> usize {
        COMPLETE_AT.min(self.asked.unwrap_or(self.closest.len())).max(1)
    }

    /// Whether enough of the closest peers have covered all of the record.
    pub(crate) fn is_covered(&self) -> bool {
        let (n, empty) =
            (self.needed(), self.empty().filter(|it| !self.holders.contains(it)).count());
        let waited_for = |claims: &[&Claim]| {
            let overclaiming = claims.iter().filter(|claim| claim.overclaims).count();
            let shows = claims.len() - overclaiming;
            shows.max(usize::from(overclaiming > empty)).min(n)
        };
        let covered = |claims: &[&Claim], n| {
            let shown: Vec<_> = claims.iter().map(|claim| claim.shown(self.digest)).collect();
            Arcs::shared(shown.iter().map(AsRef::as_ref), n)
        };
        let all: Vec<_> = self.claims.values().collect();
        let of_closest = self.claims.iter().filter(|(peer, _)| self.closest.contains(peer));
        let of_closest: Vec<_> = of_closest.map(|(_, claim)| claim).collect();
        let needed = waited_for(&of_closest).max(n.saturating_sub(empty));
        covered(&of_closest, needed).and(&covered(&all, waited_for(&all))).is_ring()
    }

    /// Whether another round is needed.
    pub(crate) fn wants_round(&self) -> bool {
        !self.is_covered() && !self.unfinished(&BTreeSet::new()).is_empty()
    }

    /// The closest holders that may show more, without those that are late; without any, others.
    pub(crate) fn unfinished(&self, late: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let is_one = |(peer, claim): &(&PeerId, &Claim)| {
            let may_answer = !claim.overclaims && !claim.is_silent && claim.asked < ROUNDS;
            may_answer && !claim.has_shown_all(self.digest) && !late.contains(peer)
        };
        let unfinished = self.claims.iter().filter(is_one).map(|(peer, _)| *peer);
        let (closest, others): (Vec<_>, Vec<_>) =
            unfinished.partition(|peer| self.closest.contains(peer));
        if closest.is_empty() { others } else { closest }
    }

    /// Begins another round, in which these holders are asked.
    pub(crate) fn begin_round(&mut self, holders: &[PeerId]) {
        for peer in holders {
            if let Some(claim) = self.claims.get_mut(peer) {
                claim.asked += 1;
            }
        }
    }
}
