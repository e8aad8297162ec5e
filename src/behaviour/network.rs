//! Requests of this node to peers: transport, number, timeouts, and the operation each belongs to.
//!
//! **Invariants.** Time is monotonic and independent of the store's clock. Each request ends with
//! one [`RequestOutcome`] other than [`Late`](RequestOutcome::Late), unless its operation is [given
//! up](Network::cancel_all).
//!
//! **Spec.** `docs/design.md`, sections "Lookups" and "Requests of our own".

use std::{
    collections::BTreeMap,
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

use crate::outbound::{Ended, Failure, Outbound, Request, Response};

/// Maximum number of peers whose addresses, as named in answers, are remembered. A guess: the
/// number that fifty lookups name.
const ADDRESS_BOOK: usize = 2_048;
/// Maximum sleep of the timer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Requests to peers in Kademlia's protocol.
pub(super) struct Network {
    pub(super) outbound: Outbound,
    pub(super) size: NetworkSize,
    requests: Requests,
    operation_of: BTreeMap<RequestId, OperationId>,
    addresses: LruCache<PeerId, Vec<Multiaddr>>,
    started: Instant,
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
    /// The peer answers again and returns to the routing table with these addresses.
    Readmit(PeerId, Vec<Multiaddr>),
}

impl Network {
    pub(super) fn new(local: PeerId, protocol: StreamProtocol) -> Self {
        Self {
            outbound: Outbound::new(local, protocol),
            size: NetworkSize::default(),
            requests: Requests::default(),
            operation_of: BTreeMap::new(),
            addresses: LruCache::new(ADDRESS_BOOK),
            started: Instant::now(),
            timer: Delay::new(Duration::ZERO),
            wake_at: Some(Duration::ZERO),
        }
    }

    /// Time since creation.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Sends all requests of an operation that can be sent now. `next` returns the next one.
    pub(super) fn send(
        &mut self,
        operation: OperationId,
        mut next: impl FnMut(
            &mut Requests,
            &NetworkSize,
            Duration,
        ) -> Option<(RequestId, PeerId, Request)>,
    ) {
        let now = self.now();
        while let Some((id, peer, request)) = next(&mut self.requests, &self.size, now) {
            self.operation_of.insert(id, operation);
            let addresses = self.addresses.get(&peer).cloned().unwrap_or_default();
            tracing::trace!(%peer, "asks");
            self.outbound.send(id, peer, addresses, request);
        }
    }

    /// Whether an operation has requests under way.
    pub(super) fn is_asking(&self, operation: OperationId) -> bool {
        self.operation_of.values().any(|owner| *owner == operation)
    }

    /// Cancels all requests of an operation.
    pub(super) fn cancel_all(&mut self, operation: OperationId) {
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
        let (operation, now) = (self.operation_of.remove(&id)?, self.now());
        let outcome = match result {
            Ok(answer) => {
                self.requests.on_answer(id, now)?;
                for closer in &answer.closer {
                    if !closer.addresses.is_empty() {
                        self.addresses.insert(closer.peer, closer.addresses.clone());
                    }
                }
                RequestOutcome::Answered(answer)
            }
            Err(failure) => {
                self.requests.on_failure(id, lookup::Failure::from(&failure), now);
                RequestOutcome::Failed(failure)
            }
        };
        Some(NetworkEvent::Request { id, operation, peer, outcome })
    }

    /// Remembers the addresses of a peer that leaves the routing table.
    pub(super) fn remember(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.addresses.insert(peer, addresses);
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
        let wake_at = self.requests.next_at().into_iter().chain(wake_at).min();
        if self.wake_at != wake_at {
            self.wake_at = wake_at;
            let sleep = wake_at.map_or(LONGEST_SLEEP, |at| at.saturating_sub(now));
            self.timer.reset(sleep.min(LONGEST_SLEEP));
        }
        if self.timer.poll_unpin(cx).is_ready() {
            self.wake_at = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn on_finding(&mut self, finding: LookupEvent) -> Option<NetworkEvent> {
        let (id, peer, operation, outcome) = match finding {
            LookupEvent::Late(id, peer) => {
                (id, peer, *self.operation_of.get(&id)?, RequestOutcome::Late)
            }
            LookupEvent::Over(id, peer) => {
                self.outbound.cancel(id);
                (id, peer, self.operation_of.remove(&id)?, RequestOutcome::Silent)
            }
            LookupEvent::Evict(peer) => return Some(NetworkEvent::Evict(peer)),
            LookupEvent::Readmit(peer) => {
                let addresses = self.addresses.get(&peer).cloned().unwrap_or_default();
                return Some(NetworkEvent::Readmit(peer, addresses));
            }
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
