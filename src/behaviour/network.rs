//! Requests of this node to peers: transport, number, timeouts, and the operation each belongs to.
//!
//! **Invariants.** Time is monotonic and independent of the store's clock. Each request ends with
//! one [`RequestOutcome`] other than [`Late`](RequestOutcome::Late), unless its operation is
//! [cancelled](Network::cancel_all). An operation without a free request slot is queued and
//! advanced when a slot becomes free, for whatever reason. The queue is first in, first out, with
//! one request a turn.
//!
//! **Spec.** `docs/design.md`, sections "Lookups" and "Requests of our own".

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;
use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::StreamProtocol;
use smart_record_lookup::{self as lookup, LookupEvent, NetworkSize, RequestId, Requests};
use web_time::Instant;

use crate::outbound::{Closer, Ended, Failure, Outbound, Request, Response};

/// Maximum number of peers whose addresses, as named in answers, are remembered. A guess: the
/// number that fifty lookups name.
const ADDRESS_BOOK: usize = 2_048;
/// Maximum number of evicted peers whose addresses are remembered. A guess: more than the routing
/// table loses within an hour.
const EVICTED: usize = 1_024;
/// Time between two dials of evicted peers, which have their turns one by one. A guess: six dials
/// an hour cost little, and one that succeeds is enough for parts of a network that were apart.
const RETRY: Duration = Duration::from_secs(10 * 60);
/// Maximum sleep of the timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Requests to peers in Kademlia's protocol.
pub(super) struct Network {
    pub(super) outbound: Outbound,
    pub(super) size: NetworkSize,
    requests: Requests,
    operation_of: BTreeMap<RequestId, OperationId>,
    /// Operations that wait for a free request slot, in the order of their turns.
    queue: VecDeque<OperationId>,
    /// Number of operations at the front of the queue that found no slot since one became free.
    skipped: usize,
    /// The operation whose turn it is.
    current: Option<OperationId>,
    /// Addresses of peers as named by the two latest guides.
    addresses: LruCache<PeerId, Vec<(PeerId, Vec<Multiaddr>)>>,
    /// Addresses of peers evicted from the routing table.
    evicted: LruCache<PeerId, Vec<Multiaddr>>,
    /// When the evicted peer that has waited for longest is dialled.
    retry_at: Duration,
    started: Instant,
    /// Simulated time. Each call of `now` adds a microsecond.
    #[cfg(test)]
    test_time: Option<std::cell::Cell<Duration>>,
    timer: Delay,
    wake_at: Option<Duration>,
}

/// Id of a read or a send operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OperationId {
    Read(u64),
    Send(u64),
}

/// Outcome of a request.
#[derive(Debug)]
pub(super) enum RequestOutcome {
    Answered(Response),
    Failed(Failure),
    /// No answer until the request was over.
    Silent,
    /// Past its time; may still be answered.
    Late,
}

/// An event of a request or a peer.
#[derive(Debug)]
pub(super) enum NetworkEvent {
    Request {
        id: RequestId,
        operation: OperationId,
        peer: PeerId,
        outcome: RequestOutcome,
    },
    /// The peer no longer answers and is to leave the routing table.
    Evict(PeerId),
    /// An evicted peer is to be dialled at these addresses.
    Retry(PeerId, Vec<Multiaddr>),
}

impl Network {
    pub(super) fn new(local: PeerId, protocol: StreamProtocol) -> Self {
        Self {
            outbound: Outbound::new(local, protocol),
            size: NetworkSize::default(),
            requests: Requests::default(),
            operation_of: BTreeMap::new(),
            queue: VecDeque::new(),
            skipped: 0,
            current: None,
            addresses: LruCache::new(ADDRESS_BOOK),
            evicted: LruCache::new(EVICTED),
            retry_at: Duration::ZERO,
            started: Instant::now(),
            #[cfg(test)]
            test_time: None,
            timer: Delay::new(Duration::ZERO),
            wake_at: Some(Duration::ZERO),
        }
    }

    /// Time since creation.
    pub(super) fn now(&self) -> Duration {
        #[cfg(test)]
        if let Some(time) = &self.test_time {
            time.set(time.get() + Duration::from_micros(1));
            return time.get();
        }
        self.started.elapsed()
    }

    pub(super) const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Sends the requests of an operation that can be sent now. `next` returns the next one. If
    /// others are queued, the operation is queued behind them. At its [turn](Self::next_turn) it
    /// sends one request.
    pub(super) fn send(
        &mut self,
        operation: OperationId,
        mut next: impl FnMut(
            &mut Requests,
            &NetworkSize,
            Duration,
        ) -> Option<(RequestId, PeerId, Request)>,
    ) {
        let has_turn = self.current == Some(operation);
        if !has_turn && !self.queue.is_empty() {
            // It may be queued already, and have other requests now than at its last turn.
            self.skipped = 0;
            return self.enqueue(operation);
        }
        let now = self.now();
        while let Some((id, peer, request)) = next(&mut self.requests, &self.size, now) {
            self.operation_of.insert(id, operation);
            let addresses = self.addresses_of(&peer);
            tracing::trace!(%peer, "asks");
            self.outbound.send(id, peer, addresses, request);
            if has_turn {
                self.current = None;
                return self.enqueue(operation);
            }
        }
    }

    /// Queues an operation that has further requests, unless some of its requests are under way: it
    /// then advances when these end.
    pub(super) fn wait_for_slot(&mut self, operation: OperationId) {
        if self.operation_of.values().any(|owner| *owner == operation) {
            return;
        }
        if self.current.take_if(|current| *current == operation).is_some() {
            // It found no slot and keeps its place.
            self.queue.insert(self.skipped.min(self.queue.len()), operation);
            self.skipped = self.skipped.saturating_add(1);
        } else {
            self.enqueue(operation);
        }
    }

    /// Removes the next operation from the queue whose turn it is, if a request slot may be free
    /// for it.
    pub(super) fn next_turn(&mut self) -> Option<OperationId> {
        let has_slot = self.requests.has_slot();
        self.current = has_slot.then(|| self.queue.remove(self.skipped)).flatten();
        self.current
    }

    fn enqueue(&mut self, operation: OperationId) {
        if !self.queue.contains(&operation) {
            self.queue.push_back(operation);
        }
    }

    /// Cancels all requests of an operation.
    pub(super) fn cancel_all(&mut self, operation: OperationId) {
        self.queue.retain(|queued| *queued != operation);
        self.skipped = 0;
        let ids = self.operation_of.iter().filter(|(_, owner)| **owner == operation);
        for id in ids.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.operation_of.remove(&id);
            self.requests.cancel(id);
            self.outbound.cancel(id);
        }
    }

    /// Handles the end of a request.
    pub(super) fn on_ended(&mut self, ended: Ended) -> Option<NetworkEvent> {
        let Ended { id, peer, result } = ended;
        self.skipped = 0;
        let (operation, now) = (self.operation_of.remove(&id)?, self.now());
        let outcome = match result {
            Ok(answer) => {
                // Counts here even if another request has displaced it just now.
                self.requests.on_answer(id, now);
                self.learn_addresses(peer, &answer.closer);
                RequestOutcome::Answered(answer)
            }
            Err(failure) => {
                self.requests.on_failure(id, lookup::Failure::from(&failure), now);
                RequestOutcome::Failed(failure)
            }
        };
        Some(NetworkEvent::Request { id, operation, peer, outcome })
    }

    /// Remembers the addresses of the peers named in an answer: of each, those from the two latest
    /// guides, so that a single liar cannot replace the true ones.
    fn learn_addresses(&mut self, guide: PeerId, closer: &[Closer]) {
        for Closer { peer, addresses } in closer.iter().filter(|it| !it.addresses.is_empty()) {
            let mut named = self.addresses.remove(peer).unwrap_or_default();
            named.retain(|(other, _)| *other != guide);
            named.truncate(1);
            named.insert(0, (guide, addresses.clone()));
            self.addresses.insert(*peer, named);
        }
    }

    fn addresses_of(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        let named = self.addresses.get(peer).into_iter().flatten();
        named.flat_map(|(_, addresses)| addresses).cloned().collect()
    }

    /// Remembers the addresses of a peer that has left the routing table.
    pub(super) fn on_evicted(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.evicted.is_empty() {
            self.retry_at = self.now().saturating_add(RETRY);
        }
        self.evicted.insert(peer, addresses);
    }

    /// Returns the addresses with which a peer that answers returns to the routing table; none if
    /// it was not evicted.
    pub(super) fn readmit(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        self.evicted.remove(peer).unwrap_or_default()
    }

    /// Returns the next event that is due because time has passed. Wakes the task for the next one,
    /// and at `wake_at`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wake_at: Option<Duration>,
    ) -> Poll<NetworkEvent> {
        let now = self.now();
        while let Some(finding) = self.requests.poll(now) {
            if let Some(event) = self.on_finding(finding) {
                return Poll::Ready(event);
            }
        }
        if now >= self.retry_at
            && let Some((peer, addresses)) = self.evicted.remove_lru()
        {
            self.retry_at = now.saturating_add(RETRY);
            self.evicted.insert(peer, addresses.clone());
            return Poll::Ready(NetworkEvent::Retry(peer, addresses));
        }
        let retry_at = (!self.evicted.is_empty()).then_some(self.retry_at);
        let wake_at = self.requests.next_at().into_iter().chain(wake_at).chain(retry_at).min();
        if self.wake_at != wake_at {
            self.wake_at = wake_at;
            let sleep = wake_at.map_or(LONGEST_SLEEP, |at| at.saturating_sub(now));
            self.timer.reset(sleep.min(LONGEST_SLEEP));
        }
        if self.timer.poll_unpin(cx).is_ready() {
            // Makes the next poll reset the timer, which is ready until then.
            self.wake_at = Some(Duration::ZERO);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn on_finding(&mut self, finding: LookupEvent) -> Option<NetworkEvent> {
        self.skipped = 0;
        let (id, peer, operation, outcome) = match finding {
            LookupEvent::Late(id, peer) => {
                (id, peer, *self.operation_of.get(&id)?, RequestOutcome::Late)
            }
            LookupEvent::Over(id, peer) => {
                self.outbound.cancel(id);
                (id, peer, self.operation_of.remove(&id)?, RequestOutcome::Silent)
            }
            LookupEvent::Evict(peer) => return Some(NetworkEvent::Evict(peer)),
        };
        Some(NetworkEvent::Request { id, operation, peer, outcome })
    }
}

impl RequestOutcome {
    /// What a failed request says about the peer; `None` if it did not fail.
    pub(super) fn failure(&self) -> Option<lookup::Failure> {
        match self {
            Self::Failed(failure) => Some(failure.into()),
            Self::Silent => Some(lookup::Failure::Silent),
            Self::Answered(_) | Self::Late => None,
        }
    }
}
