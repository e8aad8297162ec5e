//! All nodes are restarted at once.

use crate::scenario::{Fault, Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("restart", "all processes end at once and start again, with what they stored")
        .at(hours(1), Fault::RestartAll)
        .at(hours(2), Fault::RestartAll)
        .lasts(hours(4) + minutes(20))
}
