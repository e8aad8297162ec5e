//! The storage on disk.

use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};

use super::*;

mod conforming;
mod device;
mod earlier;
mod failing;
mod growth;
mod mending;
mod opening;
mod rechecking;
mod reopened;
mod waiting;

use device::Device;

const GROUP: Durability =
    Durability::Group { window: Duration::from_millis(100), max_bytes: 16 << 20 };
const MODES: [Durability; 2] = [Durability::Immediate, GROUP];

fn config(durability: Durability) -> RedbConfig {
    RedbConfig::default().with_durability(durability).with_cache_bytes(1 << 20)
}

fn key(n: usize) -> RecordKey {
    RecordKey::new(format!("/any/{n}"))
}

/// Tries until it succeeds: a storage opens its file again only after a pause.
fn until_it_works<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "it never works again");
        // Leaves the core to the thread that is waited for.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open_on(device: &Device, durability: Durability) -> Result<RedbStorage, StorageError> {
    let device = device.clone();
    RedbStorage::open_backend(move || Ok(device.clone()), local(), &config(durability))
}

fn clock() -> ManualClock {
    ManualClock::at(Timestamp::from_millis(T0))
}

fn store_on(device: &Device, durability: Durability, clock: &ManualClock) -> SmartRecordStore {
    store_within(StoreConfig::default(), device, durability, clock)
}

/// A store with bounds of its own.
fn store_within(
    bounds: StoreConfig,
    device: &Device,
    durability: Durability,
    clock: &ManualClock,
) -> SmartRecordStore {
    let storage = open_on(device, durability).unwrap();
    SmartRecordStore::with_storage(local(), registry(), bounds, storage, clock.clone()).unwrap()
}
