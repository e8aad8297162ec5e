//! Links are bad.

use crate::{
    network::Links,
    scenario::{Scenario, hours},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "rough",
        "one packet in fifty is lost, one message in a thousand ends its connection",
    )
    .links(Links { loss: 0.02, resets: 0.001, ..Links::default() })
    .lasts(hours(3))
}
