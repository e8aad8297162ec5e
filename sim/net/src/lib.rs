//! Real nodes in virtual time, over a network in memory: `docs/scale.md`.
//!
//! A run is made of a [`Scenario`](scenario::Scenario), a seed, and nothing else. The same seed
//! gives the same trace in each process, because
//!
//! * time is that of `smart-record-sim-clock`, for libp2p and for the product;
//! * randomness is that of `smart-record-sim-entropy`, hash maps included;
//! * all tasks run on one thread, in the order in which they were woken ([`executor`]).
//!
//! Only the first run of a process is determined by its seed: later ones find hash maps whose seeds
//! have been drawn. So there is one run a process.

pub mod checks;
mod connection;
pub mod executor;
mod foreign;
mod mailbox;
pub mod network;
pub mod node;
pub mod scenario;
pub mod scenarios;
pub mod shrink;
mod storage;
pub mod trace;
mod transport;
pub mod world;

pub use self::{foreign::Lie, storage::StorageFault};
