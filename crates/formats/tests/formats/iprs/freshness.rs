//! Cryptographic freshness: how it passes, and the built-in beacon.

use std::sync::{Arc, RwLock};

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
fn freshness_passes_as_the_beacon_moves_on() {
    let rounds = rounds(10);
    let shared = Arc::new(RwLock::new(beacon(&rounds[..2])));
    let freshness = Freshness::new(shared.clone(), THRESHOLD);
    let validator = validator().with_scheme(freshness.clone());
    let newest = shared.read().unwrap().newest();
    let record = sign(freshness.record("x", newest));
    let fault = || validator.validate(&key(), record.as_bytes(), at(NOW)).err().map(|e| e.fault());
    for (round, expected) in [(1, None), (4, None), (5, Some(Fault::Stale))] {
        for record in &rounds[2..=round] {
            shared.write().unwrap().advance(record).unwrap();
        }
        assert_eq!(fault(), expected, "round {round}");
    }
}

#[test]
fn the_later_round_is_the_better_record_whatever_the_beacon_says() {
    let rounds = rounds(10);
    let (validator, freshness) = knowing(&rounds[..5]);
    let [old, new] = [3, 4].map(|n| sign(freshness.record("x", cited(&rounds[n], n as u64))));
    assert_eq!(validator.select(&key(), &[old.as_bytes(), new.as_bytes()]), Ok(1));
    let (later, _) = knowing(&rounds);
    assert_eq!(later.select(&key(), &[old.as_bytes(), new.as_bytes()]), Ok(1));
}

// The built-in beacon

#[test]
fn a_beacon_moves_on_one_round_at_a_time() {
    let rounds = rounds(5);
    let mut beacon = beacon(&rounds[..2]);
    assert_eq!(beacon.advance(&rounds[3]), Err(AdvanceError::Gap { round: 3, newest: 1 }));
    // A known round changes nothing.
    assert_eq!(beacon.advance(&rounds[0]), Ok(false));
    assert_eq!(beacon.advance(&rounds[1]), Ok(false));
    assert_eq!(beacon.newest(), cited(&rounds[1], 1));
    assert_eq!(beacon.advance(&rounds[2]), Ok(true));
    assert_eq!(beacon.advance(&rounds[3]), Ok(true));
    assert_eq!(beacon.age(&cited(&rounds[0], 0)), Ok(3));
    assert_eq!(beacon.id(), rounds[0].cid());
}

#[test]
fn a_beacon_s_authority_cannot_show_two_histories() {
    let rounds = rounds(5);
    let mut beacon = beacon(&rounds[..3]);
    let other = |parent: &IprsRecord| {
        Ancestry::child("other", parent).unwrap().sign(&beacon_key(), &authority()).unwrap()
    };
    // Another round 2, and a round 3 that follows on another round 2.
    let other_2 = other(&rounds[1]);
    assert_eq!(beacon.advance(&other_2), Err(AdvanceError::Fork { round: 2 }));
    assert_eq!(beacon.advance(&other(&other_2)), Err(AdvanceError::Fork { round: 3 }));
    let other_0 = Ancestry::first("other").sign(&beacon_key(), &authority()).unwrap();
    assert_eq!(beacon.advance(&other_0), Err(AdvanceError::Fork { round: 0 }));
    assert_eq!(beacon.advance(&rounds[3]), Ok(true));
}

#[test]
fn a_beacon_listens_to_its_authority_only() {
    let rounds = rounds(3);
    let mut beacon = beacon(&rounds[..2]);
    let next = || Ancestry::child("x", &rounds[1]).unwrap();
    let forged = next().sign(&beacon_key(), &mallory()).unwrap();
    assert_eq!(beacon.advance(&forged), Err(AdvanceError::OtherBeacon));
    let elsewhere = next().sign(&key_of(&authority(), "y"), &authority()).unwrap();
    assert_eq!(beacon.advance(&elsewhere), Err(AdvanceError::OtherBeacon));
    let other = SequenceNumber::record("x", 1).sign(&beacon_key(), &authority()).unwrap();
    assert!(matches!(beacon.advance(&other), Err(AdvanceError::Record(_))));
    assert!(matches!(ChainBeacon::new(&rounds[1]), Err(AdvanceError::NotFirst { round: 1 })));
    assert!(ChainBeacon::new(&other).is_err());
    // A first round is trusted only if its CID identifies the beacon.
    assert!(ChainBeacon::resume(rounds[0].cid(), &rounds[0]).is_ok());
    let resumed = ChainBeacon::resume(rounds[1].cid(), &rounds[0]);
    assert_eq!(resumed.err(), Some(AdvanceError::OtherBeacon));
}

#[test]
fn a_beacon_can_begin_at_a_checkpoint() {
    let rounds = rounds(10);
    let mut late = ChainBeacon::resume(rounds[0].cid(), &rounds[7]).unwrap();
    assert_eq!(late.id(), beacon(&rounds).id());
    late.advance(&rounds[8]).unwrap();
    assert_eq!(late.age(&cited(&rounds[7], 7)), Ok(1));
    let too_old = BeaconError::TooOld { round: 6, oldest: 7 };
    assert_eq!(late.age(&cited(&rounds[6], 6)), Err(too_old));
}
