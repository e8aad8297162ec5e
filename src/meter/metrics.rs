//! Metrics for Prometheus, in the manner of `libp2p-metrics` (feature `metrics`).
//!
//! A [`Metrics`] puts itself into a registry of `prometheus-client`, under the prefix `smart_record`. A
//! [`Behaviour`](crate::behaviour::Behaviour) or a [`SmartRecordStore`](crate::store::SmartRecordStore) that is given it measures by itself:
//!
//! * *Counters and what is stored* are read when they are scraped, from where the behaviour and the store have them. Others have theirs shown as a [`Source`];
//!   the services that are built for the behaviour do.
//! * *Histograms* are filled where things happen: how long reads take and how many lookups, how long a client waits for
//!   a write, how many peers took what was sent again, how large answers are, how long the swarm's task is held,
//!   validation, writes and commits of the store.
//!
//! Kademlia's own events are for `libp2p-metrics`.
//!
//! ```
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{behaviour::Behaviour, metrics::Metrics};
//! use prometheus_client::{encoding::text::encode, registry::Registry};
//!
//! let mut registry = Registry::default();
//! let metrics = Metrics::new(&mut registry);
//! let (behaviour, client) =
//!     Behaviour::builder(Keypair::generate_ed25519()).with_metrics(&metrics).build();
//!
//! let mut scraped = String::new();
//! encode(&mut scraped, &registry)?;
//! assert!(scraped.contains("smart_record_reads_total 0"));
//! # let _ = (behaviour, client);
//! # Ok::<(), std::fmt::Error>(())
//! ```
//!
//! **Invariants.** The number of time series is bounded: no label is a key, a peer, or anything else that a stranger
//! chooses. Names and units are as OpenMetrics has them: base units, `_total` for counters. A counter never goes down.
//!
//! **Spec.** [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).

mod collector;
mod instruments;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    metrics::MetricType,
    registry::{Registry, Unit},
};

use self::{collector::Sources, instruments::Instruments};
use super::{Amount, Timed};

/// What is measured of a behaviour and its store. A clone is the same.
///
/// Given to several behaviours or stores, it shows what they have done together. For each of them by itself, take one for
/// each, registered with a label of its own ([`Registry::sub_registry_with_label`]).
#[derive(Clone, Debug)]
pub struct Metrics {
    instruments: Arc<Instruments>,
    sources: Sources,
}

impl Metrics {
    /// Registers everything under the prefix `smart_record`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("smart_record");
        let sources = Sources::default();
        registry.register_collector(Box::new(sources.clone()));
        Self { instruments: Arc::new(Instruments::new(registry)), sources }
    }

    /// Shows the samples of a source, read at each scrape, until nobody else holds it. Then its gauges are 0, and what its
    /// counters have counted stays.
    ///
    /// Samples of the same name and label are added up. A source that is added again is shown once. One that is shown by two
    /// `Metrics` is held by both, so neither lets it go: its memory stays, and its gauges go on to show.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering::Relaxed}};
    /// use libp2p_smart_record::metrics::{Metrics, Sample, Source};
    /// # use prometheus_client::{encoding::text::encode, registry::Registry};
    ///
    /// #[derive(Debug, Default)]
    /// struct Visits(AtomicU64);
    ///
    /// impl Source for Visits {
    ///     fn samples(&self) -> Vec<Sample> {
    ///         vec![Sample::counter("visits", "Visits to rooms", self.0.load(Relaxed))]
    ///     }
    /// }
    ///
    /// # let mut registry = Registry::default();
    /// # let metrics = Metrics::new(&mut registry);
    /// let visits = Arc::new(Visits::default());
    /// metrics.add_source(visits.clone());
    /// visits.0.fetch_add(2, Relaxed);
    /// # let mut scraped = String::new();
    /// # encode(&mut scraped, &registry)?;
    /// assert!(scraped.contains("smart_record_visits_total 2"));
    /// # Ok::<(), std::fmt::Error>(())
    /// ```
    pub fn add_source(&self, source: Arc<dyn Source>) {
        self.sources.follow(source);
    }

    pub(super) fn took(&self, what: Timed, duration: Duration) {
        self.instruments.took(what, duration);
    }

    pub(super) fn noted(&self, amount: Amount) {
        self.instruments.noted(amount);
    }
}

/// Something that has numbers to show. A mutex around one is one, too.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The numbers as they are now. Called at each scrape, which waits for it: it must not block.
    fn samples(&self) -> Vec<Sample>;
}

impl<S: Source> Source for Mutex<S> {
    fn samples(&self) -> Vec<Sample> {
        self.lock().unwrap_or_else(PoisonError::into_inner).samples()
    }
}

/// The name and the value of a label. Both are fixed when the program is built, so the number of series is bounded.
type Label = (&'static str, &'static str);

/// A number, and under which name it is shown.
#[derive(Clone, Debug)]
pub struct Sample {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    unit: Option<Unit>,
    label: Option<Label>,
    value: u64,
}

impl Sample {
    /// A number that only grows. `_total` is added to its name.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricType::Counter, unit: None, label: None, value }
    }

    /// A number that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind: MetricType::Gauge, ..Self::counter(name, help, value) }
    }

    /// Sets the unit, which is added to the name. By default there is none.
    #[must_use]
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Sets the label. By default there is none. Of the samples of one name, all have it or none.
    #[must_use]
    pub const fn with_label(mut self, name: &'static str, value: &'static str) -> Self {
        self.label = Some((name, value));
        self
    }
}
