//! A partition, and healing.

use crate::scenario::{Fault, Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("partition", "two fifths of the nodes are apart for two hours, and come back")
        .at(hours(1), Fault::Partition(0.4))
        .at(hours(3), Fault::Heal)
        .lasts(hours(5) + minutes(20))
}
