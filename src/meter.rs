//! Measurements: counters that others may look at, durations and amounts.
//!
//! **Invariants.** Without the feature `metrics` it is nothing: no clock is read, nothing is locked, nothing is shared.
//! With it, that also holds for durations and amounts that nobody has asked for.

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
type Place<T> = Arc<Mutex<T>>;
#[cfg(not(feature = "metrics"))]
type Place<T> = Mutex<T>;

/// A value that its owner changes, and that a [`Meter`] shows as it is now.
#[derive(Debug, Default)]
pub(crate) struct Shared<T>(Place<T>);

impl<T: Clone> Shared<T> {
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
        self.change_through_shared(change);
        #[cfg(not(feature = "metrics"))]
        change(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
    }

    /// As [`change`](Self::change), where there is no exclusive reference.
    pub(crate) fn change_through_shared(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// A client has asked.
    Client,
    /// A writer that wants to know what it has said before.
    Resume,
    /// A record that is to be sent: what others have of it, and who they are.
    Sending,
    /// A watched key.
    Watch,
    /// A stored record has its turn.
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

/// Something that takes time.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody wants to know"))]
pub(crate) enum Timed {
    /// A read, with all of its lookups.
    Read(Purpose),
    /// A write, as long as the client waits for it, and whether it was made.
    Publish { is_done: bool },
    /// One event that the swarm's task hands to the behaviour, or one poll of it.
    Hold,
    /// Validating one record off the swarm's task.
    Validation,
    /// Validating and joining one record into the store.
    StoreWrite,
    /// Handing what was changed to the storage to keep.
    Commit,
}

/// Something of which there are more or fewer.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody wants to know"))]
pub(crate) enum Amount {
    /// The lookups of a read.
    Lookups(Purpose, usize),
    /// The bytes of an answer.
    AnswerBytes(usize),
    /// The peers that took a repair.
    RepairedPeers(usize),
    /// The peers that took an own space that was sent again.
    RefreshedPeers(usize),
}

/// When something began, if anybody wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(#[cfg(feature = "metrics")] Option<Instant>);

/// Takes measurements.
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

    /// There was so much of something.
    pub(crate) fn note(&self, amount: Amount) {
        if let Some(metrics) = &self.0 {
            metrics.noted(amount);
        }
    }

    /// Shows these numbers as they are whenever somebody looks.
    pub(crate) fn show<T: Source>(&self, numbers: &Shared<T>) {
        if let Some(metrics) = &self.0 {
            metrics.add_source(numbers.0.clone());
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[allow(clippy::unused_self, reason = "with the feature there is something to do")]
impl Meter {
    pub(crate) const fn is_on(&self) -> bool {
        false
    }

    pub(crate) const fn begin(&self) -> Begun {
        Begun()
    }

    pub(crate) const fn end(&self, _: Timed, _: Begun) {}

    pub(crate) const fn note(&self, _: Amount) {}

    pub(crate) const fn show<T>(&self, _: &Shared<T>) {}
}
