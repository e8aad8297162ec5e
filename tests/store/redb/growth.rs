//! The file does not outgrow what is in it.

use super::*;

/// How much larger the file may be than what it holds, and what it needs anyway: see `docs/design.md`.
const FACTOR: u64 = 4;
const BASE: u64 = 2 << 20;

#[test]
fn a_file_under_churn_stays_within_a_factor_of_its_contents() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let bounds = StoreConfig::default().with_max_bytes(2 << 20);
        let storage = open_on(&device, durability).unwrap();
        let mut store =
            SmartRecordStore::with_storage(local(), registry(), bounds, storage, clock.clone());
        let mut largest = 0;
        for n in 0..6_000_u64 {
            // Values of all sizes; some expire, some are renewed, most are evicted.
            let mut record = Record::new(
                kad_key(format!("/any/{}", n % 3_500)),
                vec![n as u8; (n * 37 % 2_000) as usize],
            );
            record.expires = Some(Instant::now() + Duration::from_secs(n * 13 % 500));
            let _ = store.put(record);
            clock.advance(Duration::from_millis(100));
            largest = largest.max(device.len());
        }
        drop(store);
        let (usage, len) =
            (store_on(&device, durability, &clock).usage().bytes as u64, device.len());
        println!("{durability:?}: {usage} bytes of rows, file {len}, at most {largest}");
        assert!(largest <= (2 << 20) * FACTOR + BASE);
    }
}
