//! What tests of several packages share and no swarm is needed for.
//!
//! The messages are declared anew from `proto/`, and what is signed from RFC 0002, so that the tests do not believe the code that
//! they test.

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
pub mod signed;
pub mod vectors;

pub use clock::{ManualClock, NOW, at};
