//! The behaviour and its client in real swarms over TCP: each promise has a test of its own.

#![allow(clippy::unwrap_used)]

#[path = "support/clock.rs"]
mod clock;
#[path = "support/swarms.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod swarms;

#[path = "behaviour/addresses.rs"]
mod addresses;
#[path = "behaviour/admission.rs"]
mod admission;
#[path = "behaviour/clients.rs"]
mod clients;
#[path = "behaviour/liars.rs"]
mod liars;
#[path = "behaviour/managers.rs"]
mod managers;
#[path = "behaviour/peer.rs"]
#[allow(dead_code, reason = "the test of a partition uses the rest")]
mod peer;
#[path = "behaviour/repairs.rs"]
mod repairs;
#[path = "behaviour/sharded.rs"]
mod sharded;
#[path = "behaviour/upkeep.rs"]
mod upkeep;
#[path = "behaviour/values.rs"]
mod values;
