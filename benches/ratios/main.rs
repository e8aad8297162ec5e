//! The figures that this crate promises. Most are ratios to a reference, measured in the same run.
//!
//! `cargo bench --all-features --bench ratios` prints a line for each: the median of several
//! rounds, the quartiles around it, and the goal. With `-- board` these are the figures whose names
//! contain `board`, with `-- --json` an object of JSON for each: see `docs/performance.md`.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

mod figures;
mod fixtures;
mod harness;
mod large;
mod network;
mod small;

use std::process::ExitCode;

use harness::Harness;

fn main() -> ExitCode {
    if large::is_child() {
        large::child();
        return ExitCode::SUCCESS;
    }
    let harness = Harness::with_args(std::env::args().skip(1));
    let (mut harness, updates) = match harness.and_then(|it| Ok((it, large::updates()?))) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if updates != 1_000_000 {
        eprintln!("UPDATES: {updates} instead of 1000000");
    }
    small::run(&mut harness);
    large::run(&mut harness, updates);
    network::run(&mut harness);
    harness.finish();
    ExitCode::SUCCESS
}
