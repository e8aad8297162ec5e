//! Where `now` comes from: an interface for those who use the rules. The rules take `now` as an argument and never call it.

use std::{fmt::Debug, sync::Arc};

use crate::time::Timestamp;

/// Tells the time.
///
/// Whoever keeps records asks its clock once for each call and hands the answer down. Tests put in a clock of their own.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The time now, in Unix milliseconds.
    fn now(&self) -> Timestamp;
}

impl<C: Clock> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}
