//! Attacks by those who mean harm, each with its cost. Every test fails without the rule that it is
//! about. `cargo test --all-features --test attacks -- --nocapture` prints the costs;
//! `docs/security.md` lists them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

#[cfg(feature = "redb")]
mod at_rest;
mod costs;
mod reads;
#[path = "../support/slow.rs"]
mod slow;
mod stamps;
mod stores;
mod withdrawals;
