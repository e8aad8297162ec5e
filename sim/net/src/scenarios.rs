//! The scenarios, a file each.

mod apart;
mod churn;
mod clocks;
mod crowd;
mod flood;
mod liars;
mod mixed;
mod nats;
mod orphans;
mod partition;
mod presence;
mod restart;
mod rough;
mod silence;
mod steady;
mod sybils;

use crate::scenario::Scenario;

/// All scenarios.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        steady::scenario(),
        churn::scenario(),
        partition::scenario(),
        apart::scenario(),
        silence::scenario(),
        restart::scenario(),
        clocks::scenario(),
        orphans::scenario(),
        rough::scenario(),
        liars::scenario(),
        sybils::scenario(),
        mixed::scenario(),
        nats::scenario(),
        crowd::scenario(),
        flood::scenario(),
        presence::scenario(),
    ]
}
