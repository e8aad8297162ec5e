//! Requests of our own: the transport, how many there are and for how long, and which operation
//! each is for.
//!
//! **Invariants.** The time is monotonic and has nothing to do with the store's clock. Each request
//! ends with one [`RequestOutcome`] that is not [`Late`](RequestOutcome::Late), unless its operation
//! is [given up](Network::give_up). An operation that finds no room for a request lines up, and has
//! its turn whenever room becomes free, however it does; nobody who came later is served before it.
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

/// Of how many peers addresses are remembered that answers have told. A guess: what fifty lookups
/// name.
const ADDRESS_BOOK: usize = 2_048;
/// How many peers that have left the routing table are remembered. A guess: more than it loses in
/// an hour.
const EVICTED: usize = 1_024;
/// The timer never sleeps for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Requests to peers in Kademlia's protocol.
pub(super) struct Network {
    pub(super) outbound: Outbound,
    pub(super) size: NetworkSize,
    requests: Requests,
    askers: BTreeMap<RequestId, OperationId>,
    /// Operations with requests to make, in the order in which they have lined up.
    waiting: VecDeque<OperationId>,
    /// How many of them, from the front, have had their turn in vain since room became free.
    passed: usize,
    /// The operation whose turn it is.
    served: Option<OperationId>,
    /// Where peers are met, as two guides have told.
    addresses: LruCache<PeerId, Vec<(PeerId, Vec<Multiaddr>)>>,
    /// The addresses of peers that have left the routing table.
    evicted: LruCache<PeerId, Vec<Multiaddr>>,
    started: Instant,
    /// The time of a test. It passes by being looked at, a microsecond at a time.
    #[cfg(test)]
    test_time: Option<std::cell::Cell<Duration>>,
    timer: Delay,
    wake_at: Option<Duration>,
}

/// Name of a read or a sending that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OperationId {
    Read(u64),
    Send(u64),
}

/// What has become of a request.
#[derive(Debug)]
pub(super) enum RequestOutcome {
    Answered(Response),
    Failed(Failure),
    /// It was not answered in its time.
    Silent,
    /// It is past its time, and may still be answered.
    Late,
}

/// Something that a request or a peer has come to.
#[derive(Debug)]
pub(super) enum NetworkEvent {
    Request {
        id: RequestId,
        operation: OperationId,
        peer: PeerId,
        outcome: RequestOutcome,
    },
    /// The peer answers no more.
    Evict(PeerId),
}

impl Network {
    pub(super) fn new(local: PeerId, protocol: StreamProtocol) -> Self {
        Self {
            outbound: Outbound::new(local, protocol),
            size: NetworkSize::default(),
            requests: Requests::default(),
            askers: BTreeMap::new(),
            waiting: VecDeque::new(),
            passed: 0,
            served: None,
            addresses: LruCache::new(ADDRESS_BOOK),
            evicted: LruCache::new(EVICTED),
            started: Instant::now(),
            #[cfg(test)]
            test_time: None,
            timer: Delay::new(Duration::ZERO),
            wake_at: Some(Duration::ZERO),
        }
    }

    /// The time since this began.
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

    /// Sends the requests that an operation has to make now: `next` says to whom, and what. While
    /// others wait for room, the operation lines up behind them. At its [turn](Self::next_turn) it
    /// makes one.
    pub(super) fn send(
        &mut self,
        operation: OperationId,
        mut next: impl FnMut(
            &mut Requests,
            &NetworkSize,
            Duration,
        ) -> Option<(RequestId, PeerId, Request)>,
    ) {
        let is_served = self.served == Some(operation);
        if !is_served && !self.waiting.is_empty() {
            return self.line_up(operation);
        }
        let now = self.now();
        while let Some((id, peer, request)) = next(&mut self.requests, &self.size, now) {
            self.askers.insert(id, operation);
            let addresses = self.addresses_of(&peer);
            tracing::trace!(%peer, "asks");
            self.outbound.send(id, peer, addresses, request);
            if is_served {
                self.served = None;
                return self.line_up(operation);
            }
        }
    }

    /// An operation has more requests to make. It waits for room, unless it has some under way:
    /// then it goes on when these end.
    pub(super) fn wait_for_room(&mut self, operation: OperationId) {
        if self.askers.values().any(|asker| *asker == operation) {
            return;
        }
        if self.served.take_if(|served| *served == operation).is_some() {
            // It keeps its place.
            self.waiting.insert(self.passed.min(self.waiting.len()), operation);
            self.passed = self.passed.saturating_add(1);
        } else {
            self.line_up(operation);
        }
    }

    /// The next operation that waits for room and may find some. It leaves the line.
    pub(super) fn next_turn(&mut self) -> Option<OperationId> {
        let has_place = self.requests.has_place();
        self.served = has_place.then(|| self.waiting.remove(self.passed)).flatten();
        self.served
    }

    fn line_up(&mut self, operation: OperationId) {
        if !self.waiting.contains(&operation) {
            self.waiting.push_back(operation);
        }
    }

    /// Ends all requests of an operation.
    pub(super) fn give_up(&mut self, operation: OperationId) {
        self.waiting.retain(|waiting| *waiting != operation);
        self.passed = 0;
        let ids = self.askers.iter().filter(|(_, asker)| **asker == operation);
        for id in ids.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.askers.remove(&id);
            self.requests.cancel(id);
            self.outbound.cancel(id);
        }
    }

    /// Takes note of the end of a request.
    pub(super) fn on_ended(&mut self, ended: Ended) -> Option<NetworkEvent> {
        let Ended { id, peer, result } = ended;
        self.passed = 0;
        let (operation, now) = (self.askers.remove(&id)?, self.now());
        let outcome = match result {
            Ok(answer) => {
                // Another request may have displaced it just now.
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

    /// Takes note of addresses that a guide has told. What it told earlier does not count any more;
    /// what another one told last does, so that no single liar hides where a peer is met.
    fn learn_addresses(&mut self, guide: PeerId, closer: &[Closer]) {
        for Closer { peer, addresses } in closer.iter().filter(|it| !it.addresses.is_empty()) {
            let mut told = self.addresses.remove(peer).unwrap_or_default();
            told.retain(|(other, _)| *other != guide);
            told.truncate(1);
            told.insert(0, (guide, addresses.clone()));
            self.addresses.insert(*peer, told);
        }
    }

    fn addresses_of(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        let told = self.addresses.get(peer).into_iter().flatten();
        told.flat_map(|(_, addresses)| addresses).cloned().collect()
    }

    /// A peer has left the routing table, where it had these addresses.
    pub(super) fn on_evicted(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.evicted.insert(peer, addresses);
    }

    /// The addresses with which a peer that answers is to be put back into the routing table; none
    /// if it has not left it.
    pub(super) fn readmit(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        self.evicted.remove(peer).unwrap_or_default()
    }

    /// What has come about because time has passed, or of peers. Wakes the task when there is more,
    /// and at `wake_at`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        wake_at: Option<Duration>,
    ) -> Poll<NetworkEvent> {
        let now = self.now();
        while let Some(finding) = self.requests.poll(now) {
            if let Some(news) = self.on_finding(finding) {
                return Poll::Ready(news);
            }
        }
        let wake_at = self.requests.next_at().into_iter().chain(wake_at).min();
        if self.wake_at != wake_at {
            self.wake_at = wake_at;
            let sleep = wake_at.map_or(LONGEST_SLEEP, |at| at.saturating_sub(now));
            self.timer.reset(sleep.min(LONGEST_SLEEP));
        }
        if self.timer.poll_unpin(cx).is_ready() {
            // Nothing waits until then, so the next poll sets the timer, which stays ready until it
            // is set.
            self.wake_at = Some(Duration::ZERO);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn on_finding(&mut self, finding: LookupEvent) -> Option<NetworkEvent> {
        self.passed = 0;
        let (id, peer, operation, outcome) = match finding {
            LookupEvent::Late(id, peer) => (id, peer, *self.askers.get(&id)?, RequestOutcome::Late),
            LookupEvent::Over(id, peer) => {
                self.outbound.cancel(id);
                (id, peer, self.askers.remove(&id)?, RequestOutcome::Silent)
            }
            LookupEvent::Evict(peer) => return Some(NetworkEvent::Evict(peer)),
        };
        Some(NetworkEvent::Request { id, operation, peer, outcome })
    }
}

impl RequestOutcome {
    /// What a failure says about the peer; `None` if this is none.
    pub(super) fn failure(&self) -> Option<lookup::Failure> {
        match self {
            Self::Failed(failure) => Some(failure.into()),
            Self::Silent => Some(lookup::Failure::Silent),
            Self::Answered(_) | Self::Late => None,
        }
    }
}
