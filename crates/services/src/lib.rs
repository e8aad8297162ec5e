//! Smart services: a node checks requests in the records that it stores, and publishes signed
//! findings in its own space of the same record.
//!
//! A request is a predicate with a tag that the service knows, anywhere in a writer's document. The
//! two requests of Go smart records are built in, [`connectivity`] and [`dialable`]; a [`SmartTag`]
//! adds others. [`findings`] reads what services have found.
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
//! // `records` and `service.dialer` go into the swarm, in a `#[derive(NetworkBehaviour)]` struct.
//! spawn(service.task);
//! # }
//! ```
//!
//! # What a request costs others
//!
//! Anyone who can write to a record can make a service dial. So a service dials only addresses that
//! [`DialPolicy`] allows: by default TCP or QUIC at a global IP address and an unprivileged port.
//!
//! *Dials.* A request causes one dial (at most two if it has a name) at each service that stores
//! its record, and another one after three quarters of the finding's life ([`ServiceConfig::ttl`],
//! 30 minutes), as long as a record makes it. With services at all 20 replicas of a key these are
//! 20 dials every 22 minutes. The same request in other records, by other writers, or made again
//! causes no further dial at a service that remembers it. A dial is a handshake of a few hundred
//! bytes and ends within five seconds. The swarm's idle timeout closes the connection.
//!
//! *Writes.* Publishing findings takes a lookup or two and an update for each replica. Findings of
//! a record are written together. A known finding is written into every record that asks for it.
//!
//! | | in total | for a writer | of a host | at once |
//! |---|---|---|---|---|
//! | checks | 1 a second | 1 a minute | | 16, 8 for a writer |
//! | dials | | | 1 a minute | 4 |
//! | writes | 1 in two seconds | 1 a minute | | 16, 8 for a writer |
//!
//! Findings live in at most 512 records at a time ([`ServiceConfig::max_records`]), some 30 of them
//! for the requests of a single writer.
//!
//! **Invariants.** A service answers requests and never findings, neither its own nor those of
//! others, so there are no loops. It writes only to its own space, and does not push other updates
//! of its node out of it. All queues, caches and running work are bounded ([`ServiceConfig`]).
//!
//! **Spec.** `docs/design.md`, section "Smart services".

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod check_queue;
mod config;
mod counters;
mod dialer;
mod filter;
mod finding;
mod publish_queue;
mod reachability;
mod request;
mod request_table;
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
    task::{ServiceSetup, ServiceTask},
};
use libp2p_smart_record::{Predicate, RecordKey, behaviour::Behaviour, client::ClientError};

/// A service, in the parts that its swarm needs.
#[must_use = "the dialer goes into the swarm, the task has to be spawned"]
pub struct Service {
    /// Goes into the swarm, beside the [`Behaviour`]. Without reachability it does nothing and may
    /// be dropped.
    pub dialer: Dialer,
    /// Events of the service; may be dropped.
    pub events: ServiceEvents,
    /// Has to be spawned. It ends with the behaviour, or with the first action after the last
    /// [`Client`](libp2p_smart_record::client::Client) is gone: a service does not count as one.
    pub task: BoxFuture<'static, ()>,
}

/// An event of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEvent {
    /// A finding was published.
    Published {
        /// The key of the record.
        key: RecordKey,
        /// The finding.
        finding: Finding,
        /// The other peers that acknowledged it.
        peers: Vec<PeerId>,
    },
    /// A request was refused. Emitted at each scan of its record.
    Refused {
        /// The key of the record.
        key: RecordKey,
        /// The writer of the request.
        writer: PeerId,
        /// The reason.
        reason: RequestRefusal,
    },
    /// A check ended without a finding.
    Unknown {
        /// The request.
        request: Predicate,
    },
    /// Findings could not be published. The next ones follow when their requests are checked again.
    Failed {
        /// The key of the record.
        key: RecordKey,
        /// The reason.
        error: ServiceError,
    },
}

/// Why a finding could not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The write failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Findings live in [`max_records`](ServiceConfig::max_records) other records.
    #[error("too many other records have findings")]
    TooManyRecords,
    /// The node's space of the record holds other data, and findings must not push that out.
    #[error("other data in the node's space leaves no room for findings")]
    NoRoom,
}

/// Stream of the events of a service; it ends with the service. While
/// [`max_events`](ServiceConfig::max_events) events wait, further ones are lost.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct ServiceEvents {
    inbox: mpsc::Receiver<ServiceEvent>,
    counters: Arc<Mutex<ServiceCounters>>,
}

impl ServiceEvents {
    /// Counters of the service. They include lost events.
    pub fn counters(&self) -> ServiceCounters {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Builder of a [`Service`].
#[derive(Default)]
#[must_use = "call `build`"]
pub struct ServiceBuilder {
    policy: Option<DialPolicy>,
    resolver: Option<Arc<dyn Resolve>>,
    tags: Vec<Box<dyn SmartTag>>,
    config: ServiceConfig,
}

impl Service {
    /// A builder of a service that answers nothing yet.
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

    /// Resolves names, so that addresses with names may be dialled at those of their IP addresses
    /// that the policy allows.
    pub fn with_resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Answers requests with another tag. Of two tags with the same name the first counts.
    pub fn with_tag(mut self, tag: impl SmartTag) -> Self {
        self.tags.push(Box::new(tag));
        self
    }

    /// Sets the settings.
    pub fn with_config(mut self, config: ServiceConfig) -> Self {
        self.config = config;
        self
    }

    /// Builds the service of the node that has this behaviour. It reads and writes with a client of
    /// the behaviour.
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
        let setup = ServiceSetup {
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
        Service { dialer, events, task: ServiceTask::new(setup).boxed() }
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
