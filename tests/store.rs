//! The store: libp2p's contract for value records, every storage against a model, bounds, collection, slices,
//! replication, refusals and failures of the storage.

#[path = "store/ages.rs"]
mod ages;
#[path = "store/bounds.rs"]
mod bounds;
#[path = "store/checked.rs"]
mod checked;
#[path = "store/collection.rs"]
mod collection;
#[path = "store/common.rs"]
mod common;
#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/cost.rs"]
mod cost;
#[path = "store/events.rs"]
mod events;
#[path = "store/failures.rs"]
mod failures;
#[path = "store/given_out.rs"]
mod given_out;
#[path = "store/probe.rs"]
mod probe;
#[path = "store/quotas.rs"]
mod quotas;
#[cfg(feature = "redb")]
#[path = "store/redb.rs"]
mod redb;
#[path = "store/refusals.rs"]
mod refusals;
#[path = "store/removal.rs"]
mod removal;
#[path = "store/slices.rs"]
mod slices;
#[path = "store/tallies.rs"]
mod tallies;

#[path = "support/clock.rs"]
mod clock;

use common::*;

type TestStorage = MemoryStorage;

fn new_storage() -> TestStorage {
    MemoryStorage::default()
}

/// What is in memory cannot be closed and opened again.
fn reopen(_: &mut TestStorage) {}
