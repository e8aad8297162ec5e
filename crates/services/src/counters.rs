//! What a service has done, in numbers.
//!
//! **Invariants.** They only grow.

#[cfg(feature = "metrics")]
use libp2p_smart_record::metrics::{Sample, Source};

/// Counters of a [`Service`](super::Service) since it was built. With the feature `metrics`, a service of a behaviour that is
/// given a `Metrics` is shown by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceCounters {
    /// Records looked through for requests.
    pub scans: u64,
    /// Checks made, those that were put off not among them.
    pub checks: u64,
    /// Checks that have come to nothing.
    pub unknown: u64,
    /// Checks that were put off: nothing was done, and they are tried again.
    pub put_off: u64,
    /// Requests not checked, counted each time that their record is looked through.
    pub refused: u64,
    /// Findings published.
    pub published: u64,
    /// Writes of findings that have failed, and findings for which there was no room.
    pub failed: u64,
}

#[cfg(feature = "metrics")]
impl Source for ServiceCounters {
    fn samples(&self) -> Vec<Sample> {
        // Each field is named, so that none is forgotten.
        let Self { scans, checks, unknown, put_off, refused, published, failed } = self;
        let counts = [
            ("service_scans", "Records scanned for requests", scans),
            ("service_checks", "Checks made for requests", checks),
            ("service_unknown", "Checks that have come to nothing", unknown),
            ("service_put_off", "Checks that were put off", put_off),
            ("service_refused", "Requests not checked, at each look", refused),
            ("service_published", "Findings published", published),
            ("service_failed", "Findings that could not be published", failed),
        ];
        counts.map(|(name, help, count)| Sample::counter(name, help, *count)).into()
    }
}
