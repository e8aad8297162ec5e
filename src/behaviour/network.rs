//! Requests of our own: the transport, how many there are and for how long, and which operation
//! each is for.
//!
//! **Invariants.** The time is monotonic and has nothing to do with the store's clock. Each request
//! ends with one [`RequestOutcome`] that is not [`Late`](RequestOutcome::Late), unless its operation is [given
//! up](Network::give_up).
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

/// Of how many peers addresses are remembered that answers have told. A guess: what fifty lookups
/// name.
const ADDRESS_BOOK: usize = 2_048;
/// The timer never sleeps for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Requests to peers in Kademlia's protocol.
pub(super) struct Network {
    pub(super) outbound: Outbound,
    pub(super) size: NetworkSize,
    requests: Requests,
    askers: BTreeMap<RequestId, OperationId>,
    addresses: LruCache<PeerId, Vec<Multiaddr>>,
    started: Instant,
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
    /// The peer answers again, and was met at these addresses.
    Readmit(PeerId, Vec<Multiaddr>),
}

impl Network {
    pub(super) fn new(local: PeerId, protocol: StreamProtocol) -> Self {
        Self {
            outbound: Outbound::new(local, protocol),
            size: NetworkSize::default(),
            requests: Requests::default(),
            askers: BTreeMap::new(),
            addresses: LruCache::new(ADDRESS_BOOK),
            started: Instant::now(),
            timer: Delay::new(Duration::ZERO),
            wake_at: Some(Duration::ZERO),
        }
    }

    /// The time since this began.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Sends all requests that an operation has to make now: `next` says to whom, and what.
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
            self.askers.insert(id, operation);
            let addresses = self.addresses.get(&peer).cloned().unwrap_or_default();
            tracing::trace!(%peer, "asks");
            self.outbound.send(id, peer, addresses, request);
        }
    }

    /// Whether an operation has requests under way.
    pub(super) fn is_asking(&self, operation: OperationId) -> bool {
        self.askers.values().any(|asker| *asker == operation)
    }

    /// Ends all requests of an operation.
    pub(super) fn give_up(&mut self, operation: OperationId) {
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
        let (operation, now) = (self.askers.remove(&id)?, self.now());
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

    /// A peer leaves the routing table with these addresses.
    pub(super) fn remember(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.addresses.insert(peer, addresses);
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
            self.wake_at = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn on_finding(&mut self, finding: LookupEvent) -> Option<NetworkEvent> {
        let (id, peer, operation, outcome) = match finding {
            LookupEvent::Late(id, peer) => (id, peer, *self.askers.get(&id)?, RequestOutcome::Late),
            LookupEvent::Over(id, peer) => {
                self.outbound.cancel(id);
                (id, peer, self.askers.remove(&id)?, RequestOutcome::Silent)
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
    /// What a failure says about the peer; `None` if this is none.
    pub(super) fn failure(&self) -> Option<lookup::Failure> {
        match self {
            Self::Failed(failure) => Some(failure.into()),
            Self::Silent => Some(lookup::Failure::Silent),
            Self::Answered(_) | Self::Late => None,
        }
    }
}
