//! Smart services in real swarms over TCP: each promise has a test of its own.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/clock.rs"]
mod clock;
#[path = "../../../tests/support/swarms.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod swarms;

#[path = "services/bounds.rs"]
mod bounds;
#[path = "services/filter.rs"]
mod filter;
#[path = "services/reachability.rs"]
mod reachability;
#[path = "services/server.rs"]
mod server;
#[path = "services/tags.rs"]
mod tags;
