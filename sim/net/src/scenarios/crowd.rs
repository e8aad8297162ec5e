//! A crowd reads a large board.

use crate::scenario::{Scenario, minutes};

pub(super) fn scenario() -> Scenario {
    Scenario::new("crowd", "twelve readers read a board of several slices every two minutes")
        .boards(1, 16)
        .text_bytes(1_500)
        .readers(12)
        .reads_every(minutes(2))
        .lasts(minutes(130))
}
