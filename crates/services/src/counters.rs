//! Counters of a service.
//!
//! **Invariants.** Counters only grow.

#[cfg(feature = "metrics")]
use libp2p_smart_record::metrics::{Sample, Source};

/// Counters of a [`Service`](super::Service) since it was built. With the feature `metrics`, the
/// `Metrics` of the behaviour show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceCounters {
    /// Records scanned for requests.
    pub scans: u64,
    /// Checks made, without those that were put off.
    pub checks: u64,
    /// Checks without a finding.
    pub unknown: u64,
    /// Checks that were put off.
    pub put_off: u64,
    /// Requests that were refused, counted at each scan of their record.
    pub refused: u64,
    /// Findings published.
    pub published: u64,
    /// Writes of findings that failed, and findings that were dropped for lack of room.
    pub failed: u64,
}

#[cfg(feature = "metrics")]
impl Source for ServiceCounters {
    fn samples(&self) -> Vec<Sample> {
        // Every field is named, so a new one that is not shown does not compile.
        let Self { scans, checks, unknown, put_off, refused, published, failed } = self;
        let counts = [
            ("service_scans", "Records scanned for requests", scans),
            ("service_checks", "Checks made for requests", checks),
            ("service_unknown", "Checks without a finding", unknown),
            ("service_put_off", "Checks that were put off", put_off),
            ("service_refused", "Requests refused, counted at each scan", refused),
            ("service_published", "Findings published", published),
            ("service_failed", "Findings that could not be published", failed),
        ];
        counts.map(|(name, help, count)| Sample::counter(name, help, *count)).into()
    }
}
