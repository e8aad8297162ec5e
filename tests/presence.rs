//! Presence: announcing, the attacks, the laws of joining, the store, and two swarms.

#![allow(clippy::unwrap_used)]

#[path = "presence/announcing.rs"]
mod announcing;
#[path = "presence/attacks.rs"]
mod attacks;
#[path = "presence/forge.rs"]
mod forge;
#[path = "support/keys.rs"]
#[allow(dead_code, reason = "the tests of pk and ipns use the rest")]
mod keys;
#[path = "presence/laws.rs"]
mod laws;
#[path = "presence/network.rs"]
mod network;
#[path = "presence/store.rs"]
mod store;
#[path = "support/swarms.rs"]
#[allow(dead_code, reason = "the tests of traps use the rest")]
mod swarms;
