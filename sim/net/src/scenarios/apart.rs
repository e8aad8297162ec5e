//! A partition of a day, and healing.

use crate::scenario::{Fault, Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("apart", "two fifths of the nodes are apart for a day, and come back")
        .at(hours(1), Fault::Partition(0.4))
        .at(hours(25), Fault::Heal)
        // A day would take too long at the usual pace.
        .writes_every(hours(1))
        .reads_every(minutes(20))
        // What was written on one side lives when the other sees it.
        .ttl(hours(6))
        .lasts(hours(27) + minutes(20))
}
