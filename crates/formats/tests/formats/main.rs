//! Tests of the formats without a network: laws, vectors of other implementations, and records of
//! honest users.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod ipns;
mod iprs;
mod pk;
mod presence;
mod signed;
