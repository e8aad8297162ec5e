//! What a service has done, in numbers.
//!
//! **Invariants.** They only grow.

/// Counters of a [`Service`](super::Service) since it was built. With the feature `metrics`, a service of a behaviour that is
/// given a `Metrics` is shown by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceCounters {
    /// Records looked through for requests.
    pub looks: u64,
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
