//! The writers leave, and their records move to new servers.

use crate::scenario::{Fault, Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("orphans", "the writers leave, and then a third more servers come")
        .servers(36)
        .late_servers(12)
        // Readers repair. Here the servers are alone.
        .readers(0)
        .ttl(hours(8))
        .at(hours(1), Fault::StopWriters)
        .at(hours(1) + minutes(30), Fault::Join)
        .lasts(hours(3) + minutes(50))
}
