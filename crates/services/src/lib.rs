//! Smart services: a node that checks what is asked in the records that it stores, and writes what it has found into its own
//! space of the same record, signed by itself.
//!
//! A writer asks with a predicate whose tag the service knows, anywhere in its document. Built in are the two of Go smart
//! records, [`connectivity`] and [`dialable`]; a [`SmartTag`] adds others. What was found is read with [`findings`].
//!
//! ```no_run
//! use libp2p_identity::Keypair;
//! use libp2p::kad;
//! use libp2p_smart_record::behaviour::Behaviour;
//! use smart_record_services::{DialPolicy, Service};
//!
//! # fn run(spawn: fn(futures::future::BoxFuture<'static, ()>)) {
//! let (mut records, client) = Behaviour::new(Keypair::generate_ed25519(), kad::PROTOCOL_NAME);
//! let service = Service::builder().with_reachability(DialPolicy::default()).build(&mut records);
//! // `records` and `service.dialer` go into the swarm by `#[derive(NetworkBehaviour)]`, and
//! spawn(service.task);
//! # }
//! ```
//!
//! # What a request costs others
//!
//! Whoever can write to a record can have a service dial. So an address is dialled only if [`DialPolicy`] allows it: by default TCP or
//! QUIC at a global IP address and an unprivileged port. One request is *one dial* (of a name, at most two) at each service that
//! stores its record, and one more whenever three quarters of the finding's life ([`ServiceConfig::ttl`], 30 minutes) are over,
//! as long as it is there: with services at all of the 20 replicas of a key, 20 dials every 22 minutes. The same request in other
//! records, by other writers, or made again, costs no further dial at the same service while it is remembered. Whatever is asked, a service makes no more
//! than one check a second in the long run, one a minute for the same writer, and dials the same host once a minute; at once, 16, 8
//! and 4. A dial is a handshake of a few hundred bytes, and it is over within five seconds. A connection that comes of it is left to
//! the swarm's idle timeout.
//!
//! What findings cost the network is writes: each is a lookup or two, and an update for each of the replicas. Findings of the same
//! record go out together. A finding that is known already is written into each further record that asks for it, so writes have rates
//! as checks have: one in two seconds in the long run, one a minute for the same writer; at once, 16 and 8. And findings live in no
//! more than 512 records at a time ([`ServiceConfig::max_records`]), of which one writer keeps up some 30 by himself.
//!
//! **Invariants.** A service answers requests, never findings: neither its own nor those of others, so there are no loops. It writes to
//! its own space only, and does not push out of it what else its node says there; nobody but itself can write there. What is
//! remembered, waits to be looked through, checked or written, and is under way is bounded ([`ServiceConfig`]).
//!
//! **Spec.** `docs/design.md`, section "Smart services".

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod agenda;
mod config;
mod counters;
mod dialer;
mod filter;
mod finding;
mod outbox;
mod reachability;
mod request;
mod scan;
mod tag;
mod task;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{FutureExt, Stream, StreamExt, channel::mpsc, future::BoxFuture};
use libp2p_identity::PeerId;

pub use self::{
    config::ServiceConfig,
    counters::ServiceCounters,
    dialer::Dialer,
    filter::{AddressRefusal, DialPolicy},
    finding::{FINDINGS, Finding, findings},
    reachability::{Resolve, connectivity, dialable},
    tag::{Outcome, RequestRefusal, SmartTag},
};
use self::{
    reachability::Reachability,
    task::{Setup, Task},
};
use libp2p_smart_record::{Predicate, RecordKey, behaviour::Behaviour, client::ClientError};

/// A service: the parts of it, for whoever has the swarm.
#[must_use = "the dialer goes into the swarm, the task has to be spawned"]
pub struct Service {
    /// Goes into the swarm, beside the [`Behaviour`]. Without reachability it has nothing to do, and may be dropped.
    pub dialer: Dialer,
    /// What happens; may be dropped.
    pub events: ServiceEvents,
    /// Has to be spawned. It ends with the behaviour, or with the next thing that it has to do
    /// after the last [`Client`](libp2p_smart_record::client::Client) is gone: a service does not
    /// count as one.
    pub task: BoxFuture<'static, ()>,
}

/// What happened in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEvent {
    /// A finding was published.
    Published {
        /// Of the record.
        key: RecordKey,
        /// What was found.
        finding: Finding,
        /// The other peers that took it.
        peers: Vec<PeerId>,
    },
    /// A request is not checked. Told each time that the record is looked through.
    Refused {
        /// Of the record.
        key: RecordKey,
        /// Who asks.
        writer: PeerId,
        /// Why.
        reason: RequestRefusal,
    },
    /// A check has come to nothing.
    Unknown {
        /// What was asked.
        request: Predicate,
    },
    /// Findings could not be published; the next ones come when the requests are checked again.
    Failed {
        /// Of the record.
        key: RecordKey,
        /// Why.
        error: ServiceError,
    },
}

/// Why a finding could not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It could not be written.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Findings live in as many records as [`max_records`](ServiceConfig::max_records) allows.
    #[error("findings live in too many other records")]
    TooManyRecords,
    /// This node says something else in its space of the record, and findings must not push that out.
    #[error("what this node says in the record leaves no room for findings")]
    NoRoom,
}

/// What happens in a service, as a stream; it ends with the service. Events that are not taken are lost, all but the first
/// [`max_events`](ServiceConfig::max_events).
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct ServiceEvents {
    inbox: mpsc::Receiver<ServiceEvent>,
    counters: Arc<Mutex<ServiceCounters>>,
}

impl ServiceEvents {
    /// What the service has done so far, events that were lost among it.
    pub fn counters(&self) -> ServiceCounters {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Sets up a [`Service`].
#[derive(Default)]
#[must_use = "call `build`"]
pub struct ServiceBuilder {
    policy: Option<DialPolicy>,
    resolver: Option<Arc<dyn Resolve>>,
    tags: Vec<Box<dyn SmartTag>>,
    config: ServiceConfig,
}

impl Service {
    /// A service that answers nothing yet.
    pub fn builder() -> ServiceBuilder {
        ServiceBuilder::default()
    }
}

impl ServiceBuilder {
    /// Answers [`connectivity`] and [`dialable`].
    pub fn with_reachability(mut self, policy: DialPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Lets addresses with names in them be dialled, at what they resolve to if the policy allows that.
    pub fn with_resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Answers requests of one's own. Of two with the same tag, the first counts.
    pub fn with_tag(mut self, tag: impl SmartTag) -> Self {
        self.tags.push(Box::new(tag));
        self
    }

    /// The settings.
    pub fn with_config(mut self, config: ServiceConfig) -> Self {
        self.config = config;
        self
    }

    /// The service of the node that has this behaviour. It writes as the behaviour's clients do.
    pub fn build(self, records: &mut Behaviour) -> Service {
        let Self { policy, resolver, mut tags, config } = self;
        let store = records.store_mut();
        let (clock, registry, stored) =
            (store.clock(), store.registry().clone(), store.subscribe());
        let max_pending = policy.as_ref().map_or(0, DialPolicy::max_pending);
        let (dialer, dial) = Dialer::new(max_pending);
        if let Some(policy) = policy {
            let local = records.writer().peer_id();
            tags.extend(Reachability::new(policy, local, dial, resolver, clock.clone()).tags());
        }
        let (events, inbox) = mpsc::channel(config.max_events());
        let counters = Arc::<Mutex<ServiceCounters>>::default();
        #[cfg(feature = "metrics")]
        if let Some(metrics) = records.metrics() {
            metrics.add_source(counters.clone());
        }
        let setup = Setup {
            client: records.client(),
            writer: records.writer().clone(),
            tags,
            config,
            registry,
            clock,
            stored,
            events,
            counters: counters.clone(),
        };
        let events = ServiceEvents { inbox, counters };
        Service { dialer, events, task: Task::new(setup).boxed() }
    }
}

impl Stream for ServiceEvents {
    type Item = ServiceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ServiceEvent>> {
        self.inbox.poll_next_unpin(cx)
    }
}

libp2p_smart_record::impl_debug! { Service: |service| dialer: service.dialer }

libp2p_smart_record::impl_debug! {
    ServiceBuilder: |builder| tags: builder.tags.iter().map(|tag| tag.tag()).collect::<Vec<_>>()
}
