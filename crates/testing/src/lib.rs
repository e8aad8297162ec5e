//! Test support without swarms, for several packages.
//!
//! The messages are declared anew from `proto/`, and the signed bytes from RFC 0002, so that tests
//! do not depend on the code that they test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

pub mod clock;
pub mod envelope;
pub mod forge;
pub mod ipns;
pub mod iprs;
pub mod keys;
pub mod metrics;
pub mod presence;
pub mod process;
pub mod redb2;
pub mod signed;
pub mod vectors;

pub use clock::{ManualClock, NOW, at};

/// Says that a part of a test does not run on this machine. Tests do not capture it.
pub fn skipped(why: &str) {
    use std::io::Write;

    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "skipped in part: {test}: {why}");
}

/// An answer to a GET without what it says of itself: the record alone.
pub fn without_coverage(answer: &[u8]) -> &[u8] {
    let mut field = Vec::new();
    if let Some(coverage) = smart_record_core::Coverage::of_answer(answer) {
        coverage.append_to(&mut field);
    }
    if let Some(asker) = smart_record_core::AskerTag::of_answer(answer) {
        asker.append_to(&mut field);
    }
    answer.strip_suffix(&field[..]).unwrap_or(answer)
}
