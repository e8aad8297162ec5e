//! What tests of several packages share and no swarm is needed for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

pub mod process;
