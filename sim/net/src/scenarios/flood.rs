//! A flood of spaces of ever new writers.

use crate::{
    checks::Check,
    scenario::{Fault, Scenario, hours, minutes},
};

pub(super) fn scenario() -> Scenario {
    Scenario::new("flood", "three thousand new writers flood a board whose own writers have stamps")
        .stamp_bits(19)
        .at(minutes(40), Fault::Flood(1_000))
        .at(minutes(50), Fault::Flood(1_000))
        .at(hours(1), Fault::Flood(1_000))
        .without(
            Check::Withheld,
            "what was evicted is reported once its record has places again and has not heard of it",
        )
        .lasts(hours(3) + minutes(10))
}
