//! The scenarios, a file each.

mod churn;
mod clocks;
mod orphans;
mod partition;
mod restart;
mod rough;
mod silence;
mod steady;

use crate::scenario::Scenario;

/// All scenarios.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        steady::scenario(),
        churn::scenario(),
        partition::scenario(),
        silence::scenario(),
        restart::scenario(),
        clocks::scenario(),
        orphans::scenario(),
        rough::scenario(),
    ]
}
