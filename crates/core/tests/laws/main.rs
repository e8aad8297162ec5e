//! The laws that replicas obey: the order and the encodings of nodes, the join and the views of
//! records, and delivery in any order and in any pieces with the same result. The tests of the
//! store check delivery through a store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod coverage;
mod documents;
mod edges;
mod histories;
mod order;
mod records;
mod shards;

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use proptest::{collection::vec, option, prelude::*, test_runner::FileFailurePersistence};
use prost::Message;
use smart_record_core::{
    Cid, Dict, DocumentLimits, EncodedSpace, Extensions, Fault, Float, Kind, Limit, Limits, List,
    Node, NodeError, Open, Predicate, RecordKey, SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, Seq,
    Set, SignedUpdate, SmartRecord, Space, SpaceRules, SpaceSigner, Stamp, StampSearch, Timestamp,
    Update, UpdateError, UpdateKind, ValidationError, View, Writer, codec,
};

/// The start time of all histories.
const T0: u64 = 1_700_000_000_000;
/// The span after [`T0`] within which all histories end, lifetimes included.
const SPAN: u64 = 4_000;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

fn at(offset: u64) -> Timestamp {
    Timestamp::from_millis(T0 + offset)
}

fn key() -> RecordKey {
    RecordKey::new("/sr/laws")
}

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// Seeded random choices, so that the seed reproduces a failing case.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.roll(i + 1));
        }
    }
}

use documents::*;
use histories::*;
