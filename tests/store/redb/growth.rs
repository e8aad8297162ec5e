//! Bounds the growth of the file by the data that it has held.

use super::*;

/// How many times larger the file may be than the largest amount of data it has held plus its
/// minimum size: see `docs/design.md`.
const FACTOR: u64 = 6;
const BASE: u64 = 2 << 20;

/// The largest size of the file, and the largest amount of data in it.
#[derive(Clone, Copy, Debug, Default)]
struct Largest {
    file: u64,
    stored: u64,
}

impl Largest {
    fn look(&mut self, device: &Device, store: &SmartRecordStore) {
        self.file = self.file.max(device.len());
        self.stored = self.stored.max(store.usage().bytes as u64);
    }

    fn check(&self) {
        assert!(self.file <= self.stored * FACTOR + BASE, "{self:?}");
    }
}

#[test]
fn a_file_under_churn_stays_within_a_factor_of_the_most_that_was_in_it() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let bounds = StoreConfig::default().with_max_bytes(2 << 20);
        let mut store = store_within(bounds, &device, durability, &clock);
        let mut largest = Largest::default();
        for n in 0..6_000_u64 {
            // Values of all sizes; some expire, some are renewed, most are evicted.
            let mut record = Record::new(
                kad_key(format!("/any/{}", n % 3_500)),
                vec![n as u8; (n * 37 % 2_000) as usize],
            );
            record.expires = Some(Instant::now() + Duration::from_secs(n * 13 % 500));
            let _ = store.put(record);
            clock.advance(Duration::from_millis(100));
            largest.look(&device, &store);
        }
        println!("{durability:?}: {largest:?}, at last {:?}", store.usage());
        largest.check();
        drop(store);
        largest.file = device.len();
        largest.check();
    }
}

#[test]
fn what_has_expired_leaves_room_in_the_file_for_what_comes() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, durability, &clock);
        let mut largest = Largest::default();
        for round in 0..8 {
            for n in 0..500 {
                // Under other keys each time, so that the rows have other places.
                let key = kad_key(format!("/any/{round}/{n}"));
                let mut record = Record::new(key, vec![n as u8; n * 37 % 5_000]);
                record.expires = Some(Instant::now() + HOUR);
                store.put(record).unwrap();
                largest.look(&device, &store);
            }
            assert_eq!(store.usage().records, 500);
            clock.advance(2 * HOUR);
            assert_eq!(store.collect(), Ok(500));
            assert_eq!(store.usage(), Usage::default());
            largest.look(&device, &store);
            largest.check();
            println!("{durability:?}, round {round}: {largest:?}, now {}", device.len());
        }
    }
}
