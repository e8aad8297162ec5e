//! A store with low limits: after each step the bounds hold, the tallies match a scan, and answers
//! are valid.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use libp2p_smart_record::store::{MemoryStorage, Usage};
use libp2p_smart_record_fuzz::small_store::{SmallStore, Step};

fuzz_target!(|steps: Vec<Step>| {
    let mut small = SmallStore::over(MemoryStorage::default());
    for step in steps.iter().take(24) {
        small.run(step);
        small.check();
    }
    small.clock.advance(Duration::from_secs(1_000_000));
    small.store.collect().expect("memory does not fail");
    assert_eq!(small.store.usage(), Usage::default());
});
