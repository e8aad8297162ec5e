//! Tests of real swarms over TCP, one for each documented property.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod behaviour;
mod boards;
mod dht;
mod driven;
mod iprs;
mod key_value;
mod manager;
#[cfg(feature = "metrics")]
mod metrics;
mod network;
mod nodes;
mod owners;
mod partition;
mod peer;
mod presence;
mod presence_publisher;
mod reader;
mod readme;
#[path = "../support/slow.rs"]
mod slow;
mod traps;
