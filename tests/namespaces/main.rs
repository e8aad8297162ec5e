//! Good and forged records of every namespace, passed to each entry point: the validator, the join
//! or the selection, and a store as Kademlia uses it. Tests that need no store are in the crates of
//! the core and the formats.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod attacks;
mod ipns;
mod iprs;
mod pk;
mod presence;
mod replica;
mod signed;
mod vectors;
mod wrapped;
