//! A third of the servers does not answer.

use crate::scenario::{Fault, Scenario, hours, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("silence", "a third of the servers falls silent for two hours")
        .at(hours(1), Fault::Silence(1.0 / 3.0))
        .at(hours(3), Fault::Wake)
        .lasts(hours(5) + minutes(20))
}
