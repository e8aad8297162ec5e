//! The storage on disk.

use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};

use super::*;

#[path = "redb/conforming.rs"]
mod conforming;
#[path = "redb/device.rs"]
mod device;

use device::Device;

const MODES: [Durability; 2] = [Durability::Immediate, Durability::group()];

fn config(durability: Durability) -> RedbConfig {
    RedbConfig::default().with_durability(durability).with_cache_bytes(1 << 20)
}

fn open_on(device: &Device, durability: Durability) -> Result<RedbStorage, StorageError> {
    let device = device.clone();
    RedbStorage::open_backend(move || Ok(device.clone()), local(), &config(durability))
}
