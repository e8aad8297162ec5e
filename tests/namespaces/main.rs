//! Records of every namespace, good and forged, at all doors: the validator, the join or the selection, and a store as Kademlia
//! uses it. What needs no store is tested beside the rules and the formats.

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
