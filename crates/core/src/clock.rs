//! The clock interface for code that calls the rules.
//!
//! **Invariants.** The rules take `now` as an argument and never call a clock.

use std::{fmt::Debug, sync::Arc};

use crate::time::Timestamp;

/// A source of the current time.
///
/// A store reads its clock once per call and passes the time on. Tests use a clock that they
/// advance.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The current time, in Unix milliseconds.
    fn now(&self) -> Timestamp;
}

impl<C: Clock> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}
