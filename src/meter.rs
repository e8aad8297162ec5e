//! Measurements: counters that a scrape reads, durations and amounts.
//!
//! **Invariants.** Without the feature `metrics` nothing is measured: no clock is read, nothing is
//! locked or shared. With the feature but without a `Metrics`, no duration and
//! no amount is measured.

#[cfg(feature = "metrics")]
pub mod metrics;

#[cfg(feature = "metrics")]
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

#[cfg(feature = "metrics")]
use web_time::Instant;

#[cfg(feature = "metrics")]
use self::metrics::{Metrics, Source};

#[cfg(feature = "metrics")]
type ObservedCell<T> = Arc<Mutex<T>>;
#[cfg(not(feature = "metrics"))]
type ObservedCell<T> = Mutex<T>;

/// A value that its owner changes and that a [`Meter`] can show.
#[derive(Debug, Default)]
pub(crate) struct Observed<T>(ObservedCell<T>);

impl<T: Clone> Observed<T> {
    pub(crate) fn new(value: T) -> Self {
        let place = Mutex::new(value);
        #[cfg(feature = "metrics")]
        let place = Arc::new(place);
        Self(place)
    }

    pub(crate) fn get(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut T)) {
        #[cfg(feature = "metrics")]
        self.change_by_ref(change);
        #[cfg(not(feature = "metrics"))]
        change(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
    }

    /// As [`change`](Self::change), without an exclusive reference.
    pub(crate) fn change_by_ref(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Purpose of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// A client's call.
    Client,
    /// Learning what this node has written before, to sign next.
    Resume,
    /// A record that is to be sent: what others have of it, and who they are.
    Sending,
    /// A watched key.
    Watch,
    /// Replication of a stored record.
    Replication,
}

impl Purpose {
    /// All there are.
    #[cfg(feature = "metrics")]
    const ALL: [Self; 5] =
        [Self::Client, Self::Resume, Self::Sending, Self::Watch, Self::Replication];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Resume => "resume",
            Self::Sending => "sending",
            Self::Watch => "watch",
            Self::Replication => "replication",
        }
    }
}

/// A duration that is measured.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "read with `metrics` only"))]
pub(crate) enum Timed {
    /// A read, with all of its lookups.
    Read(Purpose),
    /// A write, as long as the client waits for it, and whether it succeeded.
    Publish { is_done: bool },
    /// One event that the swarm's task hands to the behaviour, or one poll of it.
    Hold,
    /// Validating one record off the swarm's task.
    Validation,
    /// Validating and joining one record into the store.
    StoreWrite,
    /// Committing changes to the storage.
    Commit,
}

/// An amount that is measured.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "read with `metrics` only"))]
pub(crate) enum Amount {
    /// Lookups of a read.
    Lookups(Purpose, usize),
    /// Bytes of an answer.
    AnswerBytes(usize),
    /// Peers that acknowledged a repair.
    RepairedPeers(usize),
    /// Peers that acknowledged an own space that was sent again.
    RefreshedPeers(usize),
}

/// Start of a duration; empty if it is not measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(#[cfg(feature = "metrics")] Option<Instant>);

/// Records measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(#[cfg(feature = "metrics")] Option<Metrics>);

#[cfg(feature = "metrics")]
impl Meter {
    pub(crate) fn of(metrics: &Metrics) -> Self {
        Self(Some(metrics.clone()))
    }

    pub(crate) const fn metrics(&self) -> Option<&Metrics> {
        self.0.as_ref()
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun(self.0.as_ref().map(|_| Instant::now()))
    }

    pub(crate) fn end(&self, what: Timed, begun: Begun) {
        if let (Some(metrics), Some(begun)) = (&self.0, begun.0) {
            metrics.took(what, begun.elapsed());
        }
    }

    /// Records an amount.
    pub(crate) fn note(&self, amount: Amount) {
        if let Some(metrics) = &self.0 {
            metrics.noted(amount);
        }
    }

    /// Shows the current numbers at each scrape.
    pub(crate) fn show<T: Source>(&self, numbers: &Observed<T>) {
        if let Some(metrics) = &self.0 {
            metrics.add_source(numbers.0.clone());
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[allow(clippy::unused_self, reason = "the signatures are those with the feature")]
impl Meter {
    pub(crate) const fn is_on(&self) -> bool {
        false
    }

    pub(crate) const fn begin(&self) -> Begun {
        Begun()
    }

    pub(crate) const fn end(&self, _: Timed, _: Begun) {}

    pub(crate) const fn note(&self, _: Amount) {}

    pub(crate) const fn show<T>(&self, _: &Observed<T>) {}
}
