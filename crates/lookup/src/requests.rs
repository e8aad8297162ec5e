//! The running requests of a node, from all its lookups.
//!
//! **Invariants.** At most [`max`](RequestsConfig::max) requests are running, at most
//! [`max_per_peer`](RequestsConfig::max_per_peer) to one peer. Each ends: it is answered, fails, or
//! is over. A late request is reported once, and ends no later than
//! [`grace`](RequestsConfig::grace) after that.
//!
//! **Spec.** `docs/design.md`, section "Lookups".

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_core::settings;

use crate::{
    distance::Distance,
    history::{Heard, HistoryConfig, PeerHistory},
};

/// The settings of [`Requests`].
#[derive(Clone, Debug)]
pub struct RequestsConfig {
    max: usize,
    max_per_peer: usize,
    grace: Duration,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        Self { max: 64, max_per_peer: 8, grace: Duration::from_secs(2) }
    }
}

settings! { RequestsConfig:
    /// Maximum number of running requests of the node. Defaults to 64, a guess: ten lookups at full
    /// width.
    max, with_max: usize;
    /// Maximum number of running requests to one peer. Defaults to 8: rust-libp2p's servers
    /// silently drop the 33rd stream of a connection, and the application's own queries need some.
    max_per_peer, with_max_per_peer: usize;
    /// How long the answer to a late request still counts. Defaults to two seconds, a guess.
    grace, with_grace: Duration;
}

/// Id of a request, unique within a [`Requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Reason of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The request was over before the peer had answered: [`LookupEvent::Over`].
    Silent,
    /// The peer cannot be reached, or the connection broke. Counts as silence.
    Unreachable,
    /// The peer's answer violates the protocol. The peer is alive.
    Invalid,
    /// The peer does not support the protocol: it is a client.
    Unsupported,
    /// This node did not send the request, because of a connection limit or a missing address. Says
    /// nothing about the peer.
    Denied,
}

/// An event about a request or a peer. Exhaustive, because whoever runs the requests has to handle
/// every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupEvent {
    /// The request is late. Its answer still counts within the grace period.
    Late(RequestId, PeerId),
    /// The request is over. Close its stream.
    Over(RequestId, PeerId),
    /// The peer no longer answers. Remove it from the routing table, until it answers again. Told
    /// with each further silence, because others may have put it back.
    Evict(PeerId),
}

/// All requests of a node, and its memory of peers.
#[derive(Debug)]
pub struct Requests {
    config: RequestsConfig,
    history: PeerHistory,
    under_way: BTreeMap<RequestId, UnderWay>,
    per_peer: BTreeMap<PeerId, usize>,
    findings: VecDeque<LookupEvent>,
    next_id: u64,
}

#[derive(Debug)]
struct UnderWay {
    peer: PeerId,
    distance: Distance,
    sent_at: Duration,
    /// Answers received when it was sent.
    heard: Heard,
    late_at: Option<Duration>,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new(RequestsConfig::default(), HistoryConfig::default())
    }
}

impl Requests {
    /// Returns a state without requests and history.
    pub fn new(config: RequestsConfig, history: HistoryConfig) -> Self {
        Self {
            config,
            history: PeerHistory::new(history),
            under_way: BTreeMap::new(),
            per_peer: BTreeMap::new(),
            findings: VecDeque::new(),
            next_id: 0,
        }
    }

    /// History of the peers' answers.
    pub const fn history(&self) -> &PeerHistory {
        &self.history
    }

    /// Number of running requests.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether no request is running.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether a request to this peer is under way.
    pub fn is_asking(&self, peer: &PeerId) -> bool {
        self.per_peer.contains_key(peer)
    }

    /// Whether a request to this peer can begin now.
    pub fn has_room(&self, peer: &PeerId) -> bool {
        let to_peer = self.per_peer.get(peer).copied().unwrap_or(0);
        to_peer < self.config.max_per_peer && self.has_slot()
    }

    /// Whether a request to a peer that has none can begin now.
    pub fn has_slot(&self) -> bool {
        self.under_way.len() < self.config.max
            || self.under_way.values().any(|request| request.late_at.is_some())
    }

    /// Begins a request to a peer at this distance from its target, if there is
    /// [room](Self::has_room). If the node is at its limit, the request that has been late for
    /// longest ends.
    pub fn begin(&mut self, peer: PeerId, distance: Distance, now: Duration) -> Option<RequestId> {
        if !self.has_room(&peer) {
            return None;
        }
        if self.under_way.len() >= self.config.max {
            let late = self.under_way.iter().filter_map(|(id, it)| Some((it.late_at?, *id)));
            let (_, oldest) = late.min()?;
            self.displace(oldest, now);
        }
        let id = RequestId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let to_peer = self.per_peer.entry(peer).or_insert(0);
        *to_peer = to_peer.saturating_add(1);
        let heard = self.history.heard();
        self.under_way.insert(id, UnderWay { peer, distance, sent_at: now, heard, late_at: None });
        Some(id)
    }

    /// Records an answer. Returns its round trip, or `None` if the request no longer counts.
    pub fn on_answer(&mut self, id: RequestId, now: Duration) -> Option<Duration> {
        let UnderWay { peer, distance, sent_at, .. } = self.take(id)?;
        let took = now.saturating_sub(sent_at);
        self.history.on_answer(peer, &distance, took, now);
        Some(took)
    }

    /// Records a failure. Returns whether the request still counted.
    pub fn on_failure(&mut self, id: RequestId, failure: Failure, now: Duration) -> bool {
        let Some(request) = self.take(id) else {
            return false;
        };
        match failure {
            Failure::Silent | Failure::Unreachable => self.on_silence(&request, now),
            Failure::Invalid | Failure::Unsupported | Failure::Denied => {}
        }
        true
    }

    /// Ends a request whose answer is no longer needed. Does not affect the history of the peer.
    pub fn cancel(&mut self, id: RequestId) {
        self.take(id);
    }

    /// Returns the next finding, if any. The cost is linear in the number of running requests.
    pub fn poll(&mut self, now: Duration) -> Option<LookupEvent> {
        if let Some(finding) = self.findings.pop_front() {
            return Some(finding);
        }
        let due = self.under_way.iter().map(|(id, request)| (self.due_at(request), *id)).min();
        let (_, id) = due.filter(|(at, _)| *at <= now)?;
        let request = self.under_way.get_mut(&id)?;
        if request.late_at.is_none() {
            request.late_at = Some(now);
            return Some(LookupEvent::Late(id, request.peer));
        }
        self.give_up(id, now);
        self.findings.pop_front()
    }

    /// Time by which [`poll`](Self::poll) has to be called next.
    pub fn next_at(&self) -> Option<Duration> {
        if !self.findings.is_empty() {
            return Some(Duration::ZERO);
        }
        self.under_way.values().map(|request| self.due_at(request)).min()
    }

    /// Time when a request becomes late, or over. Uses the current patience, because other peers
    /// may have answered since it was sent.
    fn due_at(&self, request: &UnderWay) -> Duration {
        let UnderWay { peer, distance, sent_at, late_at, .. } = request;
        match late_at {
            Some(at) => at.saturating_add(self.config.grace),
            // Its time was used up by an earlier request.
            None if self.history.is_silent(peer, *sent_at) => *sent_at,
            None => sent_at.saturating_add(self.history.patience(peer, distance)),
        }
    }

    fn give_up(&mut self, id: RequestId, now: Duration) {
        if let Some(request) = self.take(id) {
            self.findings.push_back(LookupEvent::Over(id, request.peer));
            self.on_silence(&request, now);
        }
    }

    /// Gives up a late request for another one, before it is known whether its peer is silent.
    fn displace(&mut self, id: RequestId, now: Duration) {
        if let Some(UnderWay { peer, heard, .. }) = self.take(id) {
            self.findings.push_back(LookupEvent::Over(id, peer));
            self.history.on_displaced(peer, heard, now);
        }
    }

    fn on_silence(&mut self, request: &UnderWay, now: Duration) {
        if self.history.on_silence(request.peer, request.heard, now) {
            self.findings.push_back(LookupEvent::Evict(request.peer));
        }
    }

    fn take(&mut self, id: RequestId) -> Option<UnderWay> {
        let request = self.under_way.remove(&id)?;
        if let Some(to_peer) = self.per_peer.get_mut(&request.peer) {
            *to_peer = to_peer.saturating_sub(1);
            if *to_peer == 0 {
                self.per_peer.remove(&request.peer);
            }
        }
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::Place;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn begin(requests: &mut Requests, peer: PeerId, now: Duration) -> Option<RequestId> {
        requests.begin(peer, Place::of_key(b"/sr/a").distance_of(&peer), now)
    }

    #[test]
    fn a_request_past_its_time_is_late_once_still_counts_and_then_is_over() {
        let mut requests = Requests::default();
        let (a, b) = (PeerId::random(), PeerId::random());
        let [first, second] = [a, b].map(|peer| begin(&mut requests, peer, S).unwrap());
        assert_eq!(requests.next_at(), Some(2 * S), "the first patience");
        assert_eq!(requests.poll(1_999 * MS), None);
        assert_eq!(requests.poll(2 * S), Some(LookupEvent::Late(first, a)));
        assert_eq!(requests.poll(2 * S), Some(LookupEvent::Late(second, b)));
        assert_eq!(requests.poll(3 * S), None, "told once");
        assert_eq!(requests.on_answer(second, 3 * S), Some(2 * S), "it still counts");
        assert_eq!(requests.poll(4 * S), Some(LookupEvent::Over(first, a)));
        assert_eq!(requests.on_answer(first, 4 * S), None, "not any more");
        assert!(requests.is_empty() && requests.per_peer.is_empty());
    }

    #[test]
    fn waiting_becomes_shorter_when_others_have_answered_quickly() {
        let mut requests = Requests::default();
        let slow = PeerId::random();
        begin(&mut requests, slow, S).unwrap();
        for _ in 0..3 {
            let id = begin(&mut requests, PeerId::random(), S).unwrap();
            requests.on_answer(id, S + 10 * MS);
        }
        assert_eq!(requests.next_at(), Some(S + 200 * MS));
    }

    #[test]
    fn a_node_and_a_peer_have_only_so_many_requests() {
        let mut requests = Requests::default();
        let peer = PeerId::random();
        let ids: Vec<_> = std::iter::from_fn(|| begin(&mut requests, peer, S)).collect();
        assert_eq!(ids.len(), 8);
        let others: Vec<_> =
            std::iter::from_fn(|| begin(&mut requests, PeerId::random(), S)).take(100).collect();
        assert_eq!((others.len(), requests.len()), (56, 64));
        requests.cancel(ids[0]);
        assert!(requests.has_room(&peer));
        assert!(begin(&mut requests, PeerId::random(), S).is_some());
    }

    #[test]
    fn in_a_full_node_the_longest_late_give_way() {
        let config = RequestsConfig::default().with_max(2);
        let mut requests = Requests::new(config, HistoryConfig::default());
        let (a, b, c) = (PeerId::random(), PeerId::random(), PeerId::random());
        let first = begin(&mut requests, a, S).unwrap();
        begin(&mut requests, b, S + MS).unwrap();
        assert_eq!(begin(&mut requests, c, 2 * S - MS), None, "nobody is late");
        assert_eq!(requests.poll(2 * S), Some(LookupEvent::Late(first, a)));
        assert!(begin(&mut requests, c, 2 * S).is_some());
        assert_eq!(requests.poll(2 * S), Some(LookupEvent::Over(first, a)));
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn a_request_that_gives_way_to_another_is_no_reason_to_evict_its_peer() {
        let config = RequestsConfig::default().with_max(2);
        let mut requests = Requests::new(config, HistoryConfig::default());
        let (slow, other) = (PeerId::random(), PeerId::random());
        let mut told = 0;
        for n in 0..60 {
            let now = n * 3 * S;
            let late = begin(&mut requests, slow, now).unwrap();
            let answered = begin(&mut requests, other, now).unwrap();
            requests.on_answer(answered, now + S);
            let waits = begin(&mut requests, other, now + S).unwrap();
            assert_eq!(requests.poll(now + 2 * S), Some(LookupEvent::Late(late, slow)));
            let next = begin(&mut requests, other, now + 2 * S).unwrap();
            let findings = std::iter::from_fn(|| requests.poll(now + 2 * S));
            told += findings.filter(|it| matches!(it, LookupEvent::Evict(_))).count();
            [waits, next].into_iter().for_each(|id| requests.cancel(id));
            assert!(requests.history().is_silent(&slow, now + 2 * S), "it is asked last");
        }
        assert_eq!(told, 0);
    }

    #[test]
    fn who_was_silent_is_late_from_the_start_and_counts_if_it_answers() {
        let mut requests = Requests::default();
        let (silent, other) = (PeerId::random(), PeerId::random());
        let id = begin(&mut requests, silent, S).unwrap();
        let answered = begin(&mut requests, other, S).unwrap();
        requests.on_answer(answered, S + MS);
        assert!(requests.on_failure(id, Failure::Unreachable, S + MS));
        let id = begin(&mut requests, silent, 2 * S).unwrap();
        assert_eq!(requests.poll(2 * S), Some(LookupEvent::Late(id, silent)));
        assert_eq!(requests.on_answer(id, 3 * S), Some(S));
        let id = begin(&mut requests, silent, 4 * S).unwrap();
        assert_eq!(requests.poll(4 * S), None);
        requests.cancel(id);
    }

    #[test]
    fn what_this_node_denied_and_clients_and_garbage_are_not_silence() {
        let mut requests = Requests::default();
        let (peer, other) = (PeerId::random(), PeerId::random());
        for second in 0..100 {
            let now = second * S;
            let id = begin(&mut requests, other, now).unwrap();
            requests.on_answer(id, now);
            for failure in [Failure::Denied, Failure::Unsupported, Failure::Invalid] {
                let id = begin(&mut requests, peer, now).unwrap();
                assert!(requests.on_failure(id, failure, now));
            }
            assert_eq!(requests.poll(now), None);
            assert!(!requests.history().is_silent(&peer, now));
        }
    }

    #[test]
    fn an_evicted_peer_is_reported_with_each_silence_until_it_answers() {
        let mut requests = Requests::default();
        let (silent, other) = (PeerId::random(), PeerId::random());
        let mut told = Vec::new();
        for second in 0..70 {
            let now = second * S;
            let id = begin(&mut requests, other, now).unwrap();
            requests.on_answer(id, now);
            if second % 10 == 0 {
                let id = begin(&mut requests, silent, now).unwrap();
                if second == 60 {
                    requests.on_answer(id, now);
                }
            }
            told.extend(std::iter::from_fn(|| requests.poll(now)).filter_map(|finding| {
                matches!(finding, LookupEvent::Evict(_)).then_some((second, finding))
            }));
        }
        assert!(told.iter().all(|(_, finding)| *finding == LookupEvent::Evict(silent)));
        let told: Vec<_> = told.into_iter().map(|(second, _)| second).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0] >= 30 && told[2] < 60, "{told:?}");
    }
}
