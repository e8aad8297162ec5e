//! Cryptographic freshness: forged, stale and future beacons.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, RecordKey,
    iprs::{
        AdvanceError, Ancestry, Beacon, BeaconCitation, BeaconError, ChainBeacon, Freshness, Ipld,
        IprsRecord, IprsValidator, Scheme, SequenceNumber,
    },
};

use super::*;

const THRESHOLD: u64 = 3;

fn authority() -> Keypair {
    Keypair::ed25519_from_bytes([5; 32]).unwrap()
}

fn beacon_key() -> RecordKey {
    key_of(&authority(), "beacon")
}

/// The beacon's records of the first `n` rounds.
fn rounds(n: u8) -> Vec<IprsRecord> {
    let mut rounds: Vec<IprsRecord> = Vec::new();
    for i in 0..n {
        let random = vec![i ^ 0xa5; 32];
        let record = match rounds.last() {
            None => Ancestry::first(random),
            Some(parent) => Ancestry::child(random, parent).unwrap(),
        };
        rounds.push(record.sign(&beacon_key(), &authority()).unwrap());
    }
    rounds
}

fn beacon(rounds: &[IprsRecord]) -> ChainBeacon {
    let mut beacon = ChainBeacon::new(&rounds[0]).unwrap();
    for record in &rounds[1..] {
        assert_eq!(beacon.advance(record), Ok(true));
    }
    beacon
}

fn cited(record: &IprsRecord, round: u64) -> BeaconCitation {
    BeaconCitation { round, value: record.cid() }
}

fn knowing(rounds: &[IprsRecord]) -> (IprsValidator, Freshness) {
    let freshness = Freshness::new(beacon(rounds), THRESHOLD);
    (validator().with_scheme(freshness.clone()), freshness)
}

#[test]
fn a_record_is_fresh_up_to_the_threshold_and_stale_beyond() {
    let rounds = rounds(10);
    let (validator, freshness) = knowing(&rounds);
    for (round, is_fresh) in [(9, true), (7, true), (6, true), (5, false), (0, false)] {
        let record = sign(freshness.record("x", cited(&rounds[round], round as u64)));
        if is_fresh {
            accepted_by(&validator, &key(), record.as_bytes(), NOW);
        } else {
            refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Stale);
        }
    }
}

#[test]
fn a_forged_beacon_value_is_refused() {
    let rounds = rounds(10);
    let (validator, freshness) = knowing(&rounds);
    // Another round's value, another author's record, and an arbitrary value.
    let foreign = Ancestry::first("x").sign(&beacon_key(), &mallory()).unwrap();
    let other = sign(SequenceNumber::record("x", 1));
    for value in [&rounds[8], &foreign, &other] {
        let record = sign(freshness.record("x", cited(value, 9)));
        refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Invalid);
    }
    let raw = libp2p_smart_record::Cid::new_v1(0x55, *rounds[9].cid().hash());
    let record = sign(freshness.record("x", BeaconCitation { round: 9, value: raw }));
    refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Invalid);
}

#[test]
fn an_old_value_under_a_new_round_is_refused() {
    // Changes that would keep an old record fresh.
    let rounds = rounds(10);
    let (validator, freshness) = knowing(&rounds);
    let record = sign(freshness.record("x", cited(&rounds[2], 8)));
    refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Invalid);
}

#[test]
fn a_beacon_value_from_the_future_is_unsupported_until_the_round_is_known() {
    let rounds = rounds(11);
    let (behind, freshness) = knowing(&rounds[..10]);
    let record = sign(freshness.record("x", cited(&rounds[10], 10)));
    refused_by(&behind, &key(), record.as_bytes(), NOW, Fault::Unsupported);
    let forged = sign(freshness.record("x", cited(&rounds[9], u64::MAX)));
    refused_by(&behind, &key(), forged.as_bytes(), NOW, Fault::Unsupported);
    let (knows, _) = knowing(&rounds);
    accepted_by(&knows, &key(), record.as_bytes(), NOW);
    refused_by(&knows, &key(), forged.as_bytes(), NOW, Fault::Unsupported);
}

/// An admitted record survives a restart, whatever the beacon knows by then.
#[cfg(feature = "redb")]
#[test]
fn a_beacon_that_is_behind_after_a_restart_removes_nothing() {
    use libp2p_kad::store::RecordStore;
    use libp2p_smart_record::{
        Registry,
        store::{RedbConfig, RedbStorage, SmartRecordStore, StoreConfig},
    };

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let local = authority().public().to_peer_id();
    let open = |validator: IprsValidator| {
        let registry = Registry::default().with("iprs", validator).unwrap();
        let storage = RedbStorage::open(&path, local, &RedbConfig::default()).unwrap();
        let clock = ManualClock::at(at(NOW));
        SmartRecordStore::with_storage(local, registry, StoreConfig::default(), storage, clock)
            .unwrap()
    };
    let rounds = rounds(20);
    let (knows, freshness) = knowing(&rounds[..10]);
    let record = sign(freshness.record("x", cited(&rounds[9], 9)));
    open(knows).write(&key(), record.as_bytes()).unwrap();
    // An unknown round, and one past the threshold.
    for known in [2, 20] {
        let mut store = open(knowing(&rounds[..known]).0);
        assert!(store.get(&libp2p_kad::RecordKey::new(&key())).is_some());
        let _ = store.write(&RecordKey::new("/sr/elsewhere"), b"nothing");
        assert_eq!(store.counters().rows_discarded, 0);
    }
}

#[test]
fn another_beacon_or_threshold_is_another_scheme() {
    let ours = rounds(2);
    let (validator, freshness) = knowing(&ours);
    let theirs = Ancestry::first("theirs").sign(&key_of(&mallory(), "beacon"), &mallory()).unwrap();
    let their_beacon = ChainBeacon::new(&theirs).unwrap();
    let other_beacon = Freshness::new(their_beacon, THRESHOLD);
    let other_threshold = Freshness::new(beacon(&ours), THRESHOLD + 1);
    for other in [&other_beacon, &other_threshold] {
        assert_ne!(other.description().cid(), freshness.description().cid());
        let record = sign(other.record("x", cited(&ours[1], 1)));
        refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Unsupported);
    }
    // The same beacon at another round is the same.
    let ahead = Freshness::new(beacon(&rounds(9)), THRESHOLD);
    assert_eq!(ahead.description(), freshness.description());
}

#[test]
fn a_validity_without_a_beacon_is_malformed() {
    let rounds = rounds(2);
    let (validator, freshness) = knowing(&rounds);
    let record = sign(freshness.record("x", cited(&rounds[1], 1)));
    let round = ("round", Ipld::Integer(1));
    let value = ("beacon", Ipld::Link(rounds[1].cid()));
    for validity in [
        map([]),
        map([round.clone()]),
        map([value.clone()]),
        map([round, value, ("extra", Ipld::Null)]),
    ] {
        let value = with_validity(&record, validity);
        refused_by(&validator, &key(), &value, NOW, Fault::Malformed);
    }
}

#[test]
fn a_beacon_forgets_what_is_beyond_its_window() {
    let rounds = rounds(10);
    let mut beacon = beacon(&rounds).with_window(4);
    assert_eq!(beacon.age(&cited(&rounds[6], 6)), Ok(3));
    let too_old = BeaconError::TooOld { round: 5, oldest: 6 };
    assert_eq!(beacon.age(&cited(&rounds[5], 5)), Err(too_old));
    let too_old = AdvanceError::TooOld { round: 5, oldest: 6 };
    assert_eq!(beacon.advance(&rounds[5]), Err(too_old));
    // For the scheme, the record is stale.
    let freshness = Freshness::new(beacon, 9);
    let record = sign(freshness.record("x", cited(&rounds[5], 5)));
    let validator = validator().with_scheme(freshness);
    refused_by(&validator, &key(), record.as_bytes(), NOW, Fault::Stale);
}
