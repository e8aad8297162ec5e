//! Presence of many clients.

use crate::scenario::{Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("presence", "each of 300 clients keeps a record alive under a key of its own")
        // So each has a third of the records.
        .servers(60)
        .boards(300, 1)
        .kept()
        // Signed anew five times.
        .ttl(hours(1))
        .readers(8)
        .reads_every(minutes(2))
        .lasts(hours(3))
}
