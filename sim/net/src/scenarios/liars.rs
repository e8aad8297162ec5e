//! Some servers lie.

use crate::{
    Lie,
    node::Kind,
    scenario::{Scenario, minutes},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "liars",
        "three servers lie about large boards, and readings are complete at four",
    )
    // Four are not among the closest, and lack what is new.
    .servers(24)
    .others(1, Kind::Liar(Lie::Withholds))
    .others(1, Kind::Liar(Lie::RollsBack))
    .others(1, Kind::Liar(Lie::Boasts))
    .complete_at(4)
    // A slice shows one or two of twelve spaces, as one of the default size does of a board of
    // a hundred such writers.
    .boards(2, 12)
    .text_bytes(1_000)
    .slices(2 * 1_024, 4 * 1_024)
    .lasts(minutes(130))
}
