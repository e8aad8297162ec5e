//! A read from the network: which peers it asks, and when the answers are enough.
//!
//! **Invariants.** Pure: answers, failures and the time come in, requests go out. Every read ends:
//! the lookup asks a bounded number of peers, and a sliced record is read in a bounded number of
//! rounds. Silence is never taken for an answer.
//!
//! **Spec.** `docs/design.md`, sections "Lookups" and "Behaviour and client".

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_core::{Timestamp, ValidationError};
use smart_record_lookup::{
    self as search, Failure, Named, NetworkSize, RequestId, Requests, Subnet,
};

use super::{
    joined::Answer,
    lookup::{ReadPolicy, RecordLookup},
};

/// Number of holders of a sliced record that are asked at the same time in further rounds, as many
/// as a lookup waits for. A guess.
const REPEATED: usize = 6;
/// While this many answers are being checked off the task, no further peer is asked: more than the
/// closest peers give in a round. A guess.
const MAX_CHECKING: usize = 32;

/// Which of the closest peers a read asks before it can settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// All of them. What follows depends on which peers are the closest and on what each has.
    All,
    /// This number, if the record is small enough to be shown in one answer. The others are asked
    /// in the background.
    Enough(usize),
}

impl Breadth {
    /// One more than a majority of the closest, so that what a majority stores is found although a
    /// peer among them does not have it yet. With 20 closest peers these are 12, two groups of six.
    pub(crate) const fn majority(closest: usize) -> Self {
        Self::Enough((closest / 2).saturating_add(2))
    }
}

/// A read under way.
#[derive(Debug)]
pub(crate) struct Read {
    answers: RecordLookup,
    search: search::Lookup,
    breadth: Breadth,
    has_settled: bool,
    /// Holders to be asked again in this round; then, those with a request under way.
    again: VecDeque<PeerId>,
    repeated: BTreeSet<PeerId>,
    /// Holders that were asked again and are late. They are not asked once more before they answer.
    late: BTreeSet<PeerId>,
    /// Number of answers being checked off the task.
    checking: usize,
    /// Whether no further round is needed.
    has_all_rounds: bool,
    /// Whether a request ended without an answer.
    met_silence: bool,
    /// Whether the read has ended early: by its policy, or at the deadline.
    has_ended: bool,
}

impl Read {
    pub(crate) const fn new(
        answers: RecordLookup,
        search: search::Lookup,
        breadth: Breadth,
    ) -> Self {
        Self {
            answers,
            search,
            breadth,
            has_settled: false,
            again: VecDeque::new(),
            repeated: BTreeSet::new(),
            late: BTreeSet::new(),
            checking: 0,
            has_all_rounds: false,
            met_silence: false,
            has_ended: false,
        }
    }

    pub(crate) const fn answers(&self) -> &RecordLookup {
        &self.answers
    }

    pub(crate) const fn answers_mut(&mut self) -> &mut RecordLookup {
        &mut self.answers
    }

    pub(crate) const fn search(&self) -> &search::Lookup {
        &self.search
    }

    /// Adds the closest peers found to an estimate of the network's size. A read that has ended
    /// early has not found them.
    pub(crate) fn measure(&self, size: &mut NetworkSize, now: Duration) {
        if !self.has_ended {
            self.search.measure(size, now);
        }
    }

    /// Returns the next peer to ask for the record now.
    pub(crate) fn next(
        &mut self,
        requests: &mut Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> Option<(RequestId, PeerId)> {
        if self.has_ended || self.checking >= MAX_CHECKING {
            return None;
        }
        if self.expects_enough(size) {
            return None;
        }
        self.begin_round(requests, size, now);
        if let Some(next) = self.search.next(requests, size, now) {
            return Some(next);
        }
        if self.repeated.len() >= REPEATED {
            return None;
        }
        let peer = *self.again.front()?;
        let id = requests.begin(peer, self.search.target().distance_of(&peer), now)?;
        self.again.pop_front();
        self.repeated.insert(peer);
        Some((id, peer))
    }

    /// The number of answers with which the read settles before all of the closest peers have
    /// answered, if it can.
    fn enough(&self) -> Option<usize> {
        let Breadth::Enough(enough) = self.breadth else {
            return None;
        };
        // What is large is not covered by one answer of each, and costs more to look at.
        let is_whole = self.answers.policy() == ReadPolicy::Settled
            && self.answers.is_small()
            && self.answers.is_covered();
        is_whole.then_some(enough)
    }

    /// Whether the read will settle if the answers arrive that it waits for.
    fn expects_enough(&self, size: &NetworkSize) -> bool {
        let waits = |enough| {
            self.checking > 0 && self.search.has_answers(enough, size)
                || self.search.expects_answers(enough, size)
        };
        !self.has_settled && self.enough().is_some_and(waits)
    }

    /// Whether the read has settled and still asks some of the closest peers: it is not known yet
    /// which peers are the closest and what each of them lacks.
    pub(crate) fn asks_on(&self, requests: &Requests, size: &NetworkSize, now: Duration) -> bool {
        self.has_settled && !self.has_ended && !self.search.is_settled(requests, size, now)
    }

    /// Starts another round once all requests of the last one have ended or are late.
    fn begin_round(&mut self, requests: &Requests, size: &NetworkSize, now: Duration) {
        let is_round_over = self.again.is_empty() && self.repeated.is_empty();
        if self.has_all_rounds || self.checking > 0 || !is_round_over {
            return;
        }
        if !self.search.is_settled(requests, size, now) {
            return;
        }
        self.answers.set_asked(self.search.asked_closest());
        if !self.answers.wants_round() {
            self.has_all_rounds = true;
            return;
        }
        let again = self.answers.unfinished(&self.late);
        // If all are late, their answers are waited for.
        if !again.is_empty() {
            self.answers.begin_round(&again);
            self.again = again.into();
        }
    }

    /// Adds the peers that an answer names. Its record is then to be [checked](Self::on_checking)
    /// and [added](Self::on_checked_answer), or [marked as missing](Self::on_nothing).
    pub(crate) fn on_answer(
        &mut self,
        peer: &PeerId,
        subnets: BTreeSet<Subnet>,
        closer: impl IntoIterator<Item = Named>,
    ) {
        if !self.repeated.remove(peer) && !self.late.remove(peer) {
            self.search.on_answer(peer, subnets, closer);
        }
    }

    /// Handles an answer without a record.
    pub(crate) fn on_nothing(&mut self, peer: PeerId) {
        self.answers.on_empty([peer]);
    }

    /// Handles the start of a check off the task.
    pub(crate) const fn on_checking(&mut self) {
        self.checking = self.checking.saturating_add(1);
    }

    /// Handles the end of a check off the task.
    pub(crate) const fn on_checked(&mut self) {
        self.checking = self.checking.saturating_sub(1);
    }

    /// Adds a checked answer. `expires_at` is the expiry that the holder states. Returns whether it
    /// was news.
    pub(crate) fn on_checked_answer(
        &mut self,
        peer: PeerId,
        answer: Result<Answer, ValidationError>,
        expires_at: Option<Timestamp>,
    ) -> bool {
        let before = self.answers.news_count();
        self.has_ended |= self.answers.on_answer(peer, answer, expires_at);
        self.answers.news_count() > before
    }

    pub(crate) fn on_failure(&mut self, peer: &PeerId, failure: Failure) {
        self.met_silence |= failure == Failure::Silent;
        if self.repeated.remove(peer) || self.late.remove(peer) {
            self.answers.on_no_answer(peer);
        } else {
            self.search.on_failure(peer, failure);
        }
    }

    pub(crate) fn on_late(&mut self, peer: &PeerId) {
        if self.repeated.remove(peer) {
            self.late.insert(*peer);
        } else {
            self.search.on_late(peer);
        }
    }

    /// Handles the loss of all answers being checked off the task. Returns whether there were any.
    /// Their content is unknown, so the read is not complete.
    pub(crate) fn on_all_lost(&mut self) -> bool {
        let had_some = self.checking > 0;
        self.checking = 0;
        if had_some {
            self.answers.end_early();
        }
        had_some
    }

    /// Ends the read because no caller waits for it.
    pub(crate) fn end_early(&mut self) {
        self.has_ended = true;
        self.answers.end_early();
    }

    /// Ends the read at its deadline.
    pub(crate) fn time_out(&mut self) {
        self.has_ended = true;
        // Answers still being checked come too late.
        self.checking = 0;
        self.answers.time_out();
    }

    /// Whether the answers satisfy the policy.
    pub(crate) fn is_settled(
        &mut self,
        requests: &Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> bool {
        if self.checking > 0 {
            return false;
        }
        self.answers.set_closest(self.search.closest_known(size).into_iter().collect());
        if self.has_ended {
            return true;
        }
        if self.has_settled || self.enough().is_some_and(|it| self.search.has_answers(it, size)) {
            self.has_settled = true;
            return true;
        }
        self.begin_round(requests, size, now);
        self.has_settled = self.has_all_rounds
            && (self.search.is_over(size)
                || self.answers.policy() != ReadPolicy::All && self.search.has_quorum());
        if self.has_settled && !self.search.has_quorum() {
            if self.met_silence { self.answers.time_out() } else { self.answers.end_early() }
        }
        self.has_settled
    }

    /// Whether no request is left to send or to wait for.
    pub(crate) fn is_over(&self, size: &NetworkSize) -> bool {
        self.checking == 0 && (self.has_ended || self.has_all_rounds && self.search.is_over(size))
    }
}

#[cfg(test)]
mod tests {
    use smart_record_core::{RecordKey, Registry};
    use smart_record_lookup::{LookupConfig, LookupKind, Place};

    use super::*;
    use crate::query::lookup::Bounds;

    /// A read of `/sr/a` that starts from these peers.
    fn read(peers: impl IntoIterator<Item = PeerId>) -> Read {
        let key = RecordKey::new("/sr/a");
        let bounds = Bounds {
            closest: 20,
            complete_at: 2,
            patience: 1,
            chunk_bytes: 15 * 1_024,
            rounds: 4,
            repair_chunks: 2,
            record_bytes: 4 * 1_024 * 1_024,
        };
        let place = Place::of_key(key.as_bytes());
        let lookup = RecordLookup::new(key, ReadPolicy::All, bounds, &Registry::default()).unwrap();
        let (local, config) = (PeerId::random(), LookupConfig::default());
        let peers = peers.into_iter().map(|peer| (peer, BTreeSet::new()));
        let search = search::Lookup::new(place, LookupKind::Value, local, config, peers);
        Read::new(lookup, search, Breadth::All)
    }

    /// On its way to the closest a lookup asks others, and some of the closest may be silent.
    #[test]
    fn only_the_closest_that_the_lookup_knows_make_a_read_complete() {
        let place = Place::of_key(b"/sr/a");
        let mut peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(24).collect();
        peers.sort_by_key(|peer| place.distance_of(peer));
        let mut read = read(peers.clone());
        let (requests, size) = (Requests::default(), NetworkSize::default());
        for (peers, is_covered) in [(&peers[20..], false), (&peers[..2], true)] {
            peers.iter().for_each(|peer| read.on_nothing(*peer));
            read.is_settled(&requests, &size, Duration::ZERO);
            assert_eq!(read.answers().is_covered(), is_covered);
        }
    }

    #[test]
    fn a_read_asks_nobody_while_too_many_of_its_answers_wait_to_be_checked() {
        let now = Duration::ZERO;
        let mut read = read([(); 4].map(|()| PeerId::random()));
        let (mut requests, size) = (Requests::default(), NetworkSize::default());
        (0..MAX_CHECKING).for_each(|_| read.on_checking());
        assert!(read.next(&mut requests, &size, now).is_none());
        read.on_checked();
        assert!(read.next(&mut requests, &size, now).is_some());
    }
}
