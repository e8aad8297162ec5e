//! Rings of sybils around two keys.

use crate::{
    Lie,
    node::Kind,
    scenario::{Scenario, minutes},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "sybils",
        "ten sybils of a network deny one board, and ten of another withhold parts of a second",
    )
    .servers(44)
    .others(10, Kind::Sybil(0, Lie::Denies))
    .others(10, Kind::Sybil(1, Lie::Withholds))
    .lasts(minutes(130))
}
