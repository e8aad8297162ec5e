//! The interface of clocks, for those who use the rules.
//!
//! **Invariants.** The rules take `now` as an argument and never call a clock.

use std::{fmt::Debug, sync::Arc};

use crate::time::Timestamp;

/// Tells the time.
///
/// A store asks its clock once for each call and hands the answer down. Tests use a clock that they
/// move.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The time now, in Unix milliseconds.
    fn now(&self) -> Timestamp;
}

impl<C: Clock> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}
