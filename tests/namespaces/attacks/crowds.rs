//! Thousands of writers on one key.

use std::sync::OnceLock;

use libp2p_smart_record::{
    Fault, Limit, LimitExceeded, SpaceRules, ValidationError,
    store::{StoreEvent, Usage},
};

use super::*;

const WRITERS: u64 = 3_000;
const SPACES: usize = 1_024;

/// The spaces of all writers, the lowest rank first. Signed once, for all tests.
fn crowd() -> &'static [Space] {
    static CROWD: OnceLock<Vec<Space>> = OnceLock::new();
    CROWD.get_or_init(|| {
        let mut spaces: Vec<_> = (0..WRITERS)
            .map(|n| {
                let author = Author::ed25519(n);
                (author.writer().rank(&key()), author.says(&Update::saying(1)))
            })
            .collect();
        spaces.sort_by_key(|(rank, _)| *rank);
        spaces.into_iter().map(|(_, space)| space).collect()
    })
}

/// The canonical record of the lowest ranks.
fn expected() -> Vec<u8> {
    let mut spaces = crowd()[..SPACES].to_vec();
    spaces.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    encode(spaces)
}

/// Sends the spaces to a replica in this order, as many at once as a packet holds.
fn heard(order: impl Iterator<Item = &'static Space>) -> Usage {
    let order: Vec<_> = order.cloned().collect();
    let mut replica = Replica::new();
    let mut most = 0;
    let (mut refused, mut told) = (0, 0);
    for packet in order.chunks(100) {
        for event in replica.hears(packet.to_vec()) {
            match event {
                StoreEvent::Refused { reason, .. } => {
                    assert_eq!(reason, too_many());
                    told += 1;
                }
                StoreEvent::Stored { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        let usage = replica.store.usage();
        assert_eq!(usage.records, 1);
        most = most.max(usage.bytes);
        refused = replica.store.counters().refused_total();
    }
    assert_eq!(replica.stored().unwrap(), expected());
    // Each of the others was either refused or dropped again.
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&Fault::LimitExceeded), Some(&refused).filter(|n| **n > 0));
    assert_eq!(told, refused);
    let others = WRITERS - SPACES as u64;
    assert_eq!(refused + counters.spaces_evicted, others);
    assert_eq!(counters.admitted, SPACES as u64 + counters.spaces_evicted);
    assert_eq!(counters.events_lost, 0);

    // Never more than the rows of this many spaces, all of one size except for the signature of the
    // numbers, and their head.
    let row = crowd().iter().map(prost::Message::encoded_len).max().unwrap() + Usage::ROW;
    assert!(most <= SPACES * row + Usage::ROW + 64, "{most}");
    replica.store.usage()
}

fn too_many() -> ValidationError {
    LimitExceeded {
        limit: Limit::SPACES_PER_RECORD,
        got: Some(SPACES as u64 + 1),
        max: SPACES as u64,
    }
    .into()
}

#[test]
fn of_a_crowd_the_lowest_ranks_stay_when_they_come_first() {
    heard(crowd().iter());
}

#[test]
fn of_a_crowd_the_lowest_ranks_stay_when_they_come_last() {
    heard(crowd().iter().rev());
}

#[test]
fn of_a_crowd_the_lowest_ranks_stay_when_they_come_in_between() {
    // A stride coprime to the number of writers visits all of them.
    let len = crowd().len();
    let scattered = (0..len).map(|n| &crowd()[n * 1_009 % len]);
    heard(scattered);
}

#[test]
fn of_a_crowd_the_join_keeps_the_lowest_ranks() {
    let parts: Vec<_> = crowd().chunks(700).map(|part| encode(part.to_vec())).collect();
    let parts: Vec<&[u8]> = parts.iter().rev().map(Vec::as_slice).collect();
    assert_eq!(consolidate(&parts).unwrap(), expected());
}

#[test]
fn a_record_has_at_most_1024_spaces() {
    let rules = SpaceRules::default();
    let whole = encode(crowd()[..SPACES].to_vec());
    assert!(rules.validate(&key(), &whole, at(NOW)).is_ok());
    let over = encode(crowd()[..=SPACES].to_vec());
    assert_eq!(rules.validate(&key(), &over, at(NOW)), Err(too_many()));
    // If parts can be dropped, the surplus is dropped and not the record.
    assert_eq!(consolidate(&[&over]).unwrap(), expected());
    let mut replica = Replica::new();
    replica.put(&key(), over);
    assert_eq!(replica.refusals(), [too_many()]);
    assert_eq!(replica.stored().unwrap(), expected());
}

#[test]
fn a_forged_low_rank_displaces_nobody() {
    let mut replica = Replica::new();
    let (low, rest) = crowd()[..=SPACES].split_first().unwrap();
    for packet in rest.chunks(100) {
        replica.hears(packet.to_vec());
    }
    let before = replica.stored();
    let mut forged = low.clone();
    forged.updates[0].signature[40] ^= 1;
    let events = replica.hears([forged]);
    assert_eq!(reasons(&events)[0].fault(), Fault::Invalid);
    assert_eq!(replica.stored(), before);
    // The real one does.
    assert_eq!(reasons(&replica.hears([low.clone()])), []);
    assert_eq!(replica.stored().unwrap(), expected());
}

#[test]
fn those_who_have_expired_take_nobody_s_place() {
    let mut replica = Replica::new();
    for packet in crowd()[..SPACES].chunks(100) {
        replica.hears(packet.to_vec());
    }
    replica.clock.set(at(NOW + TTL));
    let late = Author::ed25519(WRITERS + 1);
    let update =
        Update { seq: (NOW + TTL) * 1_000, expires_at: NOW + 2 * TTL, ..Update::saying(1) };
    assert_eq!(reasons(&replica.hears([late.says(&update)])), []);
    assert_eq!(replica.stored().unwrap(), encode([late.says(&update)]));
}

#[test]
fn one_writer_under_many_keys_stays_within_the_store() {
    use libp2p_smart_record::{
        Registry,
        store::{MemoryStorage, SmartRecordStore, StoreConfig},
    };
    let local = alice().peer_id();
    let config = StoreConfig::default().with_max_records(50);
    let clock = ManualClock::at(at(0));
    clock.set(at(NOW));
    let storage = MemoryStorage::default();
    let mut store =
        SmartRecordStore::with_storage(local, Registry::default(), config, storage, clock).unwrap();
    for n in 0..200 {
        let key = format!("/sr/{n}");
        let update = mallory().sign_under(key.as_str(), &Update::saying(1));
        let value = encode([mallory().space([update])]);
        let _ = store.write(&key.as_str().into(), &value);
        assert!(store.usage().records <= 50);
    }
    assert_eq!(store.usage().records, 50);
    let counters = store.counters();
    let refused = counters.refused.get(&Fault::LimitExceeded).copied();
    assert_eq!(refused.unwrap_or(0) + counters.records_evicted, 150);
}
