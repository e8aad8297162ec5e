//! Nothing befalls the network.

use crate::scenario::Scenario;

pub(super) fn scenario() -> Scenario {
    Scenario::new("steady", "boards are written and read, and nothing befalls the network")
}
