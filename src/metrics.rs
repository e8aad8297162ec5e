//! Metrics for Prometheus, in the manner of `libp2p-metrics` (feature `metrics`).
//!
//! A [`Metrics`] puts itself into a registry of `prometheus-client`, under the prefix `smart_record`. A [`Behaviour`] or a
//! [`SmartRecordStore`] that is given it measures by itself:
//!
//! * *Counters and what is stored* are read when they are scraped, from where
//!   [`Behaviour::counters`], [`SmartRecordStore::counters`] and [`SmartRecordStore::usage`] have them, so they are never behind;
//!   those of [`services`](crate::services) that were built for the behaviour among it.
//! * *Histograms* are filled where things happen: how long reads take and how many lookups, how long a client waits for
//!   a write, how large answers are, how long the swarm's task is held, validation, writes and commits of the store.
//! * *Events* are counted if the program hands them on with [`Recorder::record`]; that tells who wrote, and how many
//!   peers took what was sent again. Kademlia's own events are for `libp2p-metrics`.
//!
//! ```
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{Behaviour, metrics::{Metrics, Recorder}};
//! use prometheus_client::{encoding::text::encode, registry::Registry};
//!
//! let mut registry = Registry::default();
//! let metrics = Metrics::new(&mut registry);
//! let (behaviour, client) =
//!     Behaviour::builder(Keypair::generate_ed25519()).with_metrics(&metrics).build();
//! // In the swarm's loop, for each event of the behaviour: `metrics.record(&event)`.
//! # let event = libp2p_smart_record::behaviour::Event::ClientsGone;
//! metrics.record(&event);
//!
//! let mut scraped = String::new();
//! encode(&mut scraped, &registry)?;
//! assert!(scraped.contains("smart_record_reads_total 0"));
//! # let _ = (behaviour, client);
//! # Ok::<(), std::fmt::Error>(())
//! ```
//!
//! **Invariants.** The number of time series is bounded: no label is a key, a peer, or anything else that a stranger
//! chooses. Names and units are as OpenMetrics has them: base units, `_total` for counters.
//!
//! **Spec.** [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).

mod collector;
mod instruments;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;

use self::{
    collector::{Collector, Sources},
    instruments::Instruments,
};
#[cfg(doc)]
use crate::{behaviour::Behaviour, store::SmartRecordStore};
use crate::{
    behaviour::Event,
    meter::{Purpose, Timed},
    store::StoreEvent,
};

/// What is measured of a behaviour and its store. A clone is the same.
///
/// Given to several behaviours or stores, it shows what they have done together. For each of them by itself, take one for
/// each, registered with a label of its own ([`Registry::sub_registry_with_label`]).
#[derive(Clone, Debug)]
pub struct Metrics {
    instruments: Arc<Instruments>,
    sources: Sources,
}

/// Takes note of events, as the trait of the same name in `libp2p-metrics`.
pub trait Recorder<E> {
    /// Takes note of an event.
    fn record(&self, event: &E);
}

impl Metrics {
    /// Registers everything under the prefix `smart_record`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("smart_record");
        let sources = Sources::default();
        registry.register_collector(Box::new(Collector::new(sources.clone())));
        Self { instruments: Arc::new(Instruments::new(registry)), sources }
    }

    pub(crate) const fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn took(&self, what: Timed, duration: Duration) {
        self.instruments.took(what, duration);
    }

    pub(crate) fn looked_up(&self, purpose: Purpose, lookups: usize) {
        self.instruments.looked_up(purpose, lookups);
    }

    pub(crate) fn answered(&self, bytes: usize) {
        self.instruments.answered(bytes);
    }
}

impl Recorder<Event> for Metrics {
    fn record(&self, event: &Event) {
        match event {
            Event::Store(event) => self.record(event),
            event => self.instruments.record(event),
        }
    }
}

impl Recorder<StoreEvent> for Metrics {
    fn record(&self, event: &StoreEvent) {
        self.instruments.record_store(event);
    }
}
