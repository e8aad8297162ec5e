//! Smart services in real swarms over TCP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod bounds;
mod filter;
#[cfg(feature = "metrics")]
mod metrics;
mod reachability;
mod server;
mod tags;
