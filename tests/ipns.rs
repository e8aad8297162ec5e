//! The namespace `ipns`: attacks, one test each; laws; records made by others.
//!
//! Each attack is tried on the decoder, on the validator (validate and select) and on a store as Kademlia uses it.

#[path = "support/clock.rs"]
mod clock;
#[path = "ipns/copies.rs"]
mod copies;
#[path = "ipns/data.rs"]
mod data;
#[path = "ipns/forge.rs"]
mod forge;
#[path = "support/keys.rs"]
mod keys;
#[path = "ipns/laws.rs"]
mod laws;
#[path = "ipns/owners.rs"]
mod owners;
#[path = "ipns/replays.rs"]
mod replays;
#[path = "ipns/signatures.rs"]
mod signatures;
#[path = "ipns/signing.rs"]
mod signing;
#[path = "ipns/sizes.rs"]
mod sizes;
#[path = "ipns/times.rs"]
mod times;
#[path = "ipns/vectors.rs"]
mod vectors;
