//! Half of the servers are not ours.

use crate::{
    node::Kind,
    scenario::{Scenario, minutes},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new("mixed", "half of the servers are of libp2p alone, and keep the last PUT")
        .others(12, Kind::Plain)
        .lasts(minutes(130))
}
