//! The tests of `tests/store/main.rs`, with storage on disk instead of in memory.

#![cfg(feature = "redb")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod store {
    use crate::{TestStorage, new_storage, reopen};
    use common::*;

    mod ages;
    mod bounds;
    mod collection;
    mod common;
    mod contract;
    mod cost;
    mod events;
    mod evictions;
    mod failures;
    mod given_out;
    mod probe;
    mod quotas;
    mod refusals;
    mod removal;
    mod shares;
    mod slices;
    mod stamps;
    mod tallies;
    mod validated;
    pub mod redb {
        use device::Device;
        use libp2p_smart_record::store::{RedbConfig, RedbStorage};

        use super::*;

        #[allow(dead_code, reason = "this disk does not fail")]
        mod device;
        #[allow(dead_code, reason = "it is reopened when it is told to")]
        pub mod reopened;
    }
}

use std::time::Duration;

use libp2p_smart_record::store::{Durability, RedbConfig};
use store::redb::reopened::{Reopened, Reopens};

type TestStorage = Reopened;

/// A storage whose thread writes each commit at once, while the test goes on.
fn new_storage() -> TestStorage {
    let durability = Durability::Group { window: Duration::ZERO, max_bytes: 1 << 24 };
    Reopened::new(RedbConfig::default().with_durability(durability), Reopens::WhenTold)
}

fn reopen(storage: &mut TestStorage) {
    storage.reopen();
}
