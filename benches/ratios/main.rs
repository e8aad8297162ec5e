//! The figures that this crate promises. Each is a ratio to a reference, measured in the same run.
//!
//! `cargo bench --all-features --bench ratios` prints a line for each, `name value unit (goal …)`;
//! `cargo bench --all-features --bench ratios -- board` only those whose names contain `board`.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

mod fixtures;
mod harness;
mod large;
mod network;
mod small;

use harness::Harness;

fn main() {
    if large::is_child() {
        return large::child();
    }
    let mut harness = Harness::from_args();
    small::run(&mut harness);
    large::run(&mut harness);
    network::run(&mut harness);
    harness.finish();
}
