//! Allocations for untrusted input: memory is proportional to its size.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

use std::alloc::System;

use libp2p_identity::Keypair;
use smart_record_core::{Dict, RecordKey, Timestamp, Validator};
use smart_record_formats::iprs::{Ipld, IprsValidator};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Total number of allocated bytes, including those that were freed.
fn reserved(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    region.change().bytes_allocated
}

/// Nested lists, each of which claims to be very long.
fn nested_lists(levels: usize) -> Vec<u8> {
    [0x9a, 0xff, 0xff, 0xff, 0xff].repeat(levels)
}

/// There is only one test, so that no other allocates at the same time.
#[test]
fn lengths_that_are_only_claimed_reserve_nothing() {
    let key = RecordKey::new(format!(
        "/iprs/{}/x",
        Keypair::ed25519_from_bytes([1; 32]).unwrap().public().to_peer_id()
    ));
    // The data model's own reader allocates more, which shows that this test measures allocations.
    let naive = reserved(|| {
        assert!(serde_ipld_dagcbor::from_slice::<Ipld>(&nested_lists(100)).is_err());
    });
    assert!(naive > 50 * 1_024 * 1_024, "{naive} bytes");
    println!("Ipld's own reader reserves {naive} bytes for {}", nested_lists(100).len());
    let validator = IprsValidator::default();
    for hostile in [
        nested_lists(1),
        nested_lists(100),
        // A map, bytes and text that claim to be long.
        [0xba, 0xff, 0xff, 0xff, 0xff].to_vec(),
        [0x5a, 0xff, 0xff, 0xff, 0xff].to_vec(),
        [0x7a, 0xff, 0xff, 0xff, 0xff].to_vec(),
        // A record whose value is such a list.
        [&b"\xa2\x66record\xa1\x65value"[..], &nested_lists(100)].concat(),
    ] {
        let bound = 16 * 1_024 + 64 * hostile.len();
        let by_validator = reserved(|| {
            assert!(validator.validate(&key, &hostile, Timestamp::EPOCH).is_err());
        });
        assert!(by_validator < bound, "{by_validator} bytes for {}", hostile.len());
        let by_document = reserved(|| assert!(Dict::from_dag_cbor(&hostile).is_err()));
        assert!(by_document < bound, "{by_document} bytes for {}", hostile.len());
    }
}
