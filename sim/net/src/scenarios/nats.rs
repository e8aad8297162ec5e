//! Servers behind NATs.

use crate::{
    node::Kind,
    scenario::{Scenario, minutes},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new("nats", "a third of those that say that they are servers cannot be dialled")
        .servers(36)
        .others(12, Kind::Nat)
        .lasts(minutes(130))
}
