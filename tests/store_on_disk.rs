//! The tests of the store once more, with storage on disk where `tests/store.rs` has storage in memory.

#![cfg(feature = "redb")]

#[path = "store/ages.rs"]
mod ages;
#[path = "store/bounds.rs"]
mod bounds;
#[path = "store/collection.rs"]
mod collection;
#[path = "store/common.rs"]
mod common;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/redb/device.rs"]
#[allow(dead_code, reason = "nothing fails here")]
mod device;
#[path = "store/events.rs"]
mod events;
#[path = "store/probe.rs"]
#[allow(dead_code, reason = "nothing fails here")]
mod probe;
#[path = "store/quotas.rs"]
mod quotas;
#[path = "store/refusals.rs"]
mod refusals;
#[path = "store/removal.rs"]
mod removal;
#[path = "store/slices.rs"]
mod slices;

#[path = "support/clock.rs"]
mod clock;

use common::*;
use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};

type SmartRecordStore<S = RedbStorage> = libp2p_smart_record::SmartRecordStore<S>;

/// A storage whose thread writes whatever is committed at once, so that it does while the tests go on.
fn new_storage() -> RedbStorage {
    let durability = Durability::Group { window: Duration::ZERO, max_bytes: 1 << 24 };
    let config = RedbConfig::default().with_durability(durability);
    let device = device::Device::default();
    RedbStorage::open_backend(move || Ok(device.clone()), local(), &config).unwrap()
}
