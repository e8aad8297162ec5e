//! Servers come and go.

use crate::scenario::{Scenario, hours};

pub(super) fn scenario() -> Scenario {
    Scenario::new("churn", "half of the servers are gone after two hours, and come back later")
        .servers(30)
        .churn(hours(2))
        .lasts(hours(6))
}
