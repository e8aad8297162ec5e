//! Metrics for Prometheus, in the manner of `libp2p-metrics` (feature `metrics`).
//!
//! [`Metrics::new`] registers all metrics in a registry of `prometheus-client`. A
//! [`Behaviour`](crate::behaviour::Behaviour) or
//! [`SmartRecordStore`](crate::store::SmartRecordStore) that is given a [`Metrics`] measures by
//! itself:
//!
//! * *Counters and store sizes* are read from their owners at each scrape. A [`Source`] adds
//!   others; services that are built for the behaviour add theirs.
//! * *Histograms* are filled at each event: duration and lookups of reads, the time that a client
//!   waits for a write, the peers that acknowledge what is sent again, the size of answers, the
//!   time that the swarm's task is held, and the duration of validation, writes and commits of the
//!   store.
//!
//! `libp2p-metrics` covers Kademlia's own events.
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
//! **Invariants.** The number of time series is bounded: no label is a key, a peer, or anything
//! else that a stranger chooses. Names and units follow OpenMetrics: base units, `_total` for
//! counters. A counter never goes down.
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

/// Metrics of a behaviour and its store. A clone is the same.
///
/// Several behaviours or stores that are given the same `Metrics` are added up. For metrics of each
/// of them, register one `Metrics` for each under its own label
/// ([`Registry::sub_registry_with_label`]).
#[derive(Clone, Debug)]
pub struct Metrics {
    instruments: Arc<Instruments>,
    sources: Sources,
}

impl Metrics {
    /// Registers all metrics under the prefix `smart_record`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("smart_record");
        let sources = Sources::default();
        registry.register_collector(Box::new(sources.clone()));
        Self { instruments: Arc::new(Instruments::new(registry)), sources }
    }

    /// Adds a source, which is read at each scrape until its last other owner drops it. From then
    /// on its gauges are 0, and its counters keep their last values.
    ///
    /// Samples with the same name and label are added up. A source that is added again counts once.
    /// Two `Metrics` that are given the same source keep it alive: its memory is not freed and its
    /// gauges keep their values.
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

/// A source of samples. A mutex around a source is a source.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The current samples. Called at each scrape, which waits for it: it must not block.
    fn samples(&self) -> Vec<Sample>;
}

impl<S: Source> Source for Mutex<S> {
    fn samples(&self) -> Vec<Sample> {
        self.lock().unwrap_or_else(PoisonError::into_inner).samples()
    }
}

/// Name and value of a label. Both are fixed at compile time, so the number of series is bounded.
type Label = (&'static str, &'static str);

/// A number with its name.
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
    /// A number that only grows. Its name gets the suffix `_total`.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, kind: MetricType::Counter, unit: None, label: None, value }
    }

    /// A number that grows and falls.
    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind: MetricType::Gauge, ..Self::counter(name, help, value) }
    }

    /// Sets the unit, which is appended to the name. By default there is none.
    #[must_use]
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Sets the label. By default there is none. Of the samples with one name, all have a label or
    /// none has.
    #[must_use]
    pub const fn with_label(mut self, name: &'static str, value: &'static str) -> Self {
        self.label = Some((name, value));
        self
    }
}
