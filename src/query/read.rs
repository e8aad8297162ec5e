//! A read from the network: whom it asks, and when what was answered is enough.
//!
//! **Invariants.** Pure: answers, failures and the time come in, requests go out. It ends, whatever
//! is answered: the search asks a bounded number of peers, and a record in slices is asked for in a
//! bounded number of rounds. Silence is never taken for an answer.
//!
//! **Spec.** `docs/design.md`, sections "Lookups" and "Behaviour and client".

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_core::{Timestamp, ValidationError};
use smart_record_lookup::{self as search, Failure, NetworkSize, RequestId, Requests};

use super::{
    joined::Said,
    lookup::{ReadPolicy, RecordLookup},
};

/// How many holders of a record in slices are asked again at a time, as many as a search waits for.
/// A guess.
const REPEATED: usize = 6;

/// A read that is under way.
#[derive(Debug)]
pub(crate) struct Read {
    answers: RecordLookup,
    search: search::Lookup,
    /// Holders of slices that are to be asked again in this round, and those that are waited for.
    again: VecDeque<PeerId>,
    repeated: BTreeSet<PeerId>,
    /// How many answers are being checked elsewhere.
    checking: usize,
    /// No further round would bring anything.
    has_all_rounds: bool,
    /// Somebody was silent for too long.
    met_silence: bool,
    /// The policy is satisfied before the closest are known, or the time is up.
    has_ended: bool,
}

impl Read {
    pub(crate) const fn new(answers: RecordLookup, search: search::Lookup) -> Self {
        Self {
            answers,
            search,
            again: VecDeque::new(),
            repeated: BTreeSet::new(),
            checking: 0,
            has_all_rounds: false,
            met_silence: false,
            has_ended: false,
        }
    }

    pub(crate) const fn answers(&self) -> &RecordLookup {
        &self.answers
    }

    pub(crate) const fn search(&self) -> &search::Lookup {
        &self.search
    }

    /// Adds what it has found to an estimate of the network's size. One that has ended early has not
    /// found the closest peers.
    pub(crate) fn measure(&self, size: &mut NetworkSize, now: Duration) {
        if !self.has_ended {
            self.search.measure(size, now);
        }
    }

    /// Next peer to ask for the record, if one is to be asked now.
    pub(crate) fn next(
        &mut self,
        requests: &mut Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> Option<(RequestId, PeerId)> {
        if self.has_ended {
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

    /// Holders are asked again, once all of a round have answered or had their time.
    fn begin_round(&mut self, requests: &Requests, size: &NetworkSize, now: Duration) {
        let is_round_over = self.again.is_empty() && self.repeated.is_empty();
        if self.has_all_rounds || self.checking > 0 || !is_round_over {
            return;
        }
        if self.search.is_settled(requests, size, now) {
            if self.answers.on_round() {
                self.again = self.answers.holders().collect();
            }
            self.has_all_rounds = self.again.is_empty();
        }
    }

    /// Takes note of an answer and of the peers that it names. What it holds is to be
    /// [checked](Self::on_checking) and [said](Self::on_said), if it is not
    /// [nothing](Self::on_nothing).
    pub(crate) fn on_answer(&mut self, peer: &PeerId, closer: impl IntoIterator<Item = PeerId>) {
        if !self.repeated.remove(peer) {
            self.search.on_answer(peer, closer);
        }
    }

    /// Takes note that a peer has nothing under the key.
    pub(crate) fn on_nothing(&mut self, peer: PeerId) {
        self.answers.on_empty([peer]);
    }

    /// Takes note that an answer is being checked elsewhere.
    pub(crate) const fn on_checking(&mut self) {
        self.checking = self.checking.saturating_add(1);
    }

    /// Takes note of what a check elsewhere has come to, or that there will be none.
    pub(crate) const fn on_checked(&mut self) {
        self.checking = self.checking.saturating_sub(1);
    }

    /// Takes note of an answer after it was checked. `expires_at` is what the holder says about it.
    /// Returns whether it was news.
    pub(crate) fn on_said(
        &mut self,
        peer: PeerId,
        said: Result<Said, ValidationError>,
        expires_at: Option<Timestamp>,
    ) -> bool {
        let before = self.answers.news_count();
        self.has_ended |= self.answers.on_answer(peer, said, expires_at);
        self.answers.news_count() > before
    }

    pub(crate) fn on_failure(&mut self, peer: &PeerId, failure: Failure) {
        self.met_silence |= failure == Failure::Silent;
        if !self.repeated.remove(peer) {
            self.search.on_failure(peer, failure);
        }
    }

    pub(crate) fn on_late(&mut self, peer: &PeerId) {
        if !self.repeated.remove(peer) {
            self.search.on_late(peer);
        }
    }

    /// The answers that are being checked elsewhere are lost. Returns whether there were any;
    /// anything may have been in them.
    pub(crate) fn on_all_lost(&mut self) -> bool {
        let had_some = self.checking > 0;
        self.checking = 0;
        if had_some {
            self.answers.end_early();
        }
        had_some
    }

    /// Asks nobody any more: nobody waits for it.
    pub(crate) fn end_early(&mut self) {
        self.has_ended = true;
        self.answers.end_early();
    }

    /// Asks nobody any more: the time is up.
    pub(crate) fn time_out(&mut self) {
        self.has_ended = true;
        // What is checked elsewhere comes too late.
        self.checking = 0;
        self.answers.time_out();
    }

    /// Whether what was answered is enough for its policy.
    pub(crate) fn is_settled(
        &mut self,
        requests: &Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> bool {
        if self.checking > 0 {
            return false;
        }
        if self.has_ended {
            return true;
        }
        self.begin_round(requests, size, now);
        let has_settled = self.has_all_rounds
            && (self.search.is_over(size)
                || self.answers.policy() != ReadPolicy::All && self.search.has_quorum());
        if has_settled && !self.search.has_quorum() {
            if self.met_silence { self.answers.time_out() } else { self.answers.end_early() }
        }
        has_settled
    }

    /// Whether nothing more will be asked or answered.
    pub(crate) fn is_over(&self, size: &NetworkSize) -> bool {
        self.checking == 0 && (self.has_ended || self.has_all_rounds && self.search.is_over(size))
    }
}
