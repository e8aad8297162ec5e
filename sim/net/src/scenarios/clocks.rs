//! Clocks are off.

use crate::scenario::{Fault, Scenario, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("clocks", "each clock is up to two minutes ahead or behind")
        // Any two differ by less than the five minutes that the limits allow.
        .at(minutes(1), Fault::Clocks(minutes(2)))
}
