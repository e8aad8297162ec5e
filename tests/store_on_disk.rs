//! The tests of the store once more, with storage on disk where `tests/store.rs` has storage in memory.

#![cfg(feature = "redb")]

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
#[path = "store/contract.rs"]
mod contract;
#[path = "store/cost.rs"]
mod cost;
#[path = "store/redb/device.rs"]
#[allow(dead_code, reason = "this disk does not fail")]
mod device;
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
#[path = "store/refusals.rs"]
mod refusals;
#[path = "store/removal.rs"]
mod removal;
#[path = "store/redb/reopened.rs"]
#[allow(dead_code, reason = "it is reopened when it is told to")]
mod reopened;
#[path = "store/slices.rs"]
mod slices;
#[path = "store/tallies.rs"]
mod tallies;

#[path = "support/clock.rs"]
mod clock;

use common::*;
use device::Device;
use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};
use reopened::{Reopened, Reopens};

type TestStorage = Reopened;

/// A storage whose thread writes whatever is committed at once, so that it does while the tests go on.
fn new_storage() -> TestStorage {
    let durability = Durability::Group { window: Duration::ZERO, max_bytes: 1 << 24 };
    Reopened::new(RedbConfig::default().with_durability(durability), Reopens::WhenTold)
}

fn reopen(storage: &mut TestStorage) {
    storage.reopen();
}
