//! The rules of smart records: signed, mergeable, expiring records, without a network.
//!
//! Under one key many peers write, each to its own signed space; every piece has a lifetime; replicas merge
//! instead of overwriting; and nothing forged, expired, replayed or rolled back gets in. Everything here is a pure
//! function of its arguments: no clock, no I/O, no randomness; `now` is an argument.

#![warn(unreachable_pub)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod clock;
pub mod dag_cbor;
mod debug;
pub mod key;
pub mod node;
mod proto;
pub mod record;
pub mod settings;
pub mod shard;
pub mod time;
pub mod validator;

pub use crate::{clock::*, key::*, node::*, record::*, shard::*, time::*, validator::*};
