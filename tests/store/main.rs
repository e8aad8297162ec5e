//! The store: libp2p's contract for value records, the conformance of storages, bounds, collection,
//! slices, replication, refusals and failures of the storage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod ages;
mod bounds;
mod collection;
mod common;
mod conformance;
mod contract;
mod cost;
mod events;
mod evictions;
mod failures;
mod given_out;
mod laws;
mod probe;
mod quotas;
#[cfg(feature = "redb")]
mod redb;
mod refusals;
mod removal;
mod seam;
mod shares;
mod slices;
mod stamps;
mod tallies;
mod validated;

use common::*;

type TestStorage = MemoryStorage;

fn new_storage() -> TestStorage {
    MemoryStorage::default()
}

/// A storage in memory cannot be closed and opened again.
fn reopen(_: &mut TestStorage) {}
