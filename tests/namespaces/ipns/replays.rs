//! Rollback: an old, valid record of the same name after a newer one.

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, Record as KadRecord, store::RecordStore};
use libp2p_smart_record::{
    Fault, Validator,
    ipns::{Eol, IpnsBuilder, IpnsValidator},
};
use prost::Message;

use super::*;

/// Checks that the first wins over the second, in `select` and in a node, in either order.
fn wins(winner: &[u8], loser: &[u8]) {
    let owner = ed25519(1);
    let key = key(&owner);
    assert_eq!(IpnsValidator.select(&key, &[winner, loser]), Ok(0));
    assert_eq!(IpnsValidator.select(&key, &[loser, winner]), Ok(1));
    assert_eq!(IpnsValidator.select(&key, &[loser, winner, loser, winner]), Ok(1));
    assert_eq!(IpnsValidator.consolidate(&key, &[loser, winner]), Ok(winner.to_vec()));

    let mut node = node();
    assert_eq!(node.faults(&key, loser), []);
    assert_eq!(node.faults(&key, winner), []);
    assert_eq!(node.faults(&key, loser), [Fault::Stale]);
    assert_eq!(node.get(&key).as_deref(), Some(winner));
    // A second PUT changes nothing, but is not refused.
    assert_eq!(node.faults(&key, winner), []);
    assert_eq!(node.get(&key).as_deref(), Some(winner));
}

#[test]
fn a_lower_sequence() {
    let owner = ed25519(1);
    let eol = "2023-11-15T22:13:20Z";
    for (higher, lower) in [(1, 0), (8, 7), (256, 255), (u64::MAX, u64::MAX - 1), (u64::MAX, 0)] {
        wins(&numbered(&owner, higher, eol), &numbered(&owner, lower, eol));
        // A later EOL does not help.
        let later = numbered(&owner, lower, "2099-01-01T00:00:00Z");
        wins(&numbered(&owner, higher, eol), &later);
    }
}

#[test]
fn an_earlier_end_with_the_same_sequence() {
    let owner = ed25519(1);
    for (later, earlier) in [
        ("2023-11-16T00:00:00Z", "2023-11-15T00:00:00Z"),
        ("2023-11-15T00:00:00.000000002Z", "2023-11-15T00:00:00.000000001Z"),
        // The instant decides, not its text.
        ("2023-11-15T00:00:00.1Z", "2023-11-15T00:00:00.09Z"),
        ("2023-11-15T00:00:00Z", "2023-11-15T23:00:00+23:30"),
    ] {
        wins(&numbered(&owner, 7, later), &numbered(&owner, 7, earlier));
    }
}

#[test]
fn the_greater_bytes_with_the_same_sequence_and_end() {
    let owner = ed25519(1);
    let fields = fields();
    let mut values = ["/ipfs/a", "/ipfs/b", "/ipfs/aa"].map(|value| {
        let data = fields.clone().with("Value", cbor::bytes(value.as_bytes()));
        v2(&owner, data.encode()).encode_to_vec()
    });
    values.sort();
    wins(&values[2], &values[1]);
    wins(&values[1], &values[0]);
}

/// What a stranger can make of a record: unknown fields before and after it, fields twice, in
/// another order and in a longer form.
fn changed_around(record: &[u8]) -> Vec<Vec<u8>> {
    let entry = Entry::decode(record).unwrap();
    let signature = Entry { signature_v2: entry.signature_v2.clone(), ..Entry::default() };
    let rest = Entry { signature_v2: None, ..entry };
    vec![
        [record, &[0x50, 1]].concat(),
        [&[0x50, 1], record].concat(),
        [record, &[0x52, 3, 0xff, 0xff, 0xff]].concat(),
        [record, &signature.encode_to_vec()].concat(),
        [rest.encode_to_vec(), signature.encode_to_vec()].concat(),
        [signature.encode_to_vec(), rest.encode_to_vec()].concat(),
        [record, &[0xd2, 0x80, 0x00, 0]].concat(),
    ]
}

#[test]
fn case_18_the_same_signed_data_with_other_bytes_around_it_is_the_same_record() {
    for owner in all_types() {
        let key = key(&owner);
        for entry in [v1_and_v2(&owner), v2(&owner, fields().encode())] {
            let good = entry.encode_to_vec();
            for changed in changed_around(&good).into_iter().filter(|changed| *changed != good) {
                for (values, best) in [([&*good, &*changed], 0), ([&*changed, &*good], 1)] {
                    assert_eq!(IpnsValidator.select(&key, &values), Ok(best));
                }
                assert!(IpnsValidator.contains(&key, &good, &changed));
                assert!(IpnsValidator.contains(&key, &changed, &good));

                // What a stranger has changed replaces nothing, and nobody is called stale.
                let mut node = node();
                for value in [&good, &changed, &good] {
                    assert_eq!(node.faults(&key, value), []);
                    assert_eq!(node.get(&key).as_ref(), Some(&good));
                }
                // A node to which the stranger came first: the owner is heard again.
                let mut node = super::node();
                for (value, kept) in [(&changed, &changed), (&good, &good), (&changed, &good)] {
                    assert_eq!(node.faults(&key, value), []);
                    assert_eq!(node.get(&key).as_ref(), Some(kept));
                }
            }
        }
    }
}

#[test]
fn case_18_what_version_1_adds_is_not_signed_and_makes_no_other_record() {
    // As in Go, the form without these fields is the one that stays.
    let owner = ed25519(1);
    let key = key(&owner);
    let (both, lone) =
        (v1_and_v2(&owner).encode_to_vec(), v2(&owner, fields().encode()).encode_to_vec());
    assert_eq!(IpnsValidator.select(&key, &[&both, &lone]), Ok(1));
    let mut node = node();
    for (value, kept) in [(&both, &both), (&lone, &lone), (&both, &lone)] {
        assert_eq!(node.faults(&key, value), []);
        assert_eq!(node.get(&key).as_ref(), Some(kept));
    }
    // Other data is another record.
    let other = v2(&owner, fields().with("_x", cbor::uint(1)).encode()).encode_to_vec();
    assert!(!IpnsValidator.contains(&key, &other, &lone));
}

/// A record, and a copy that says the same in greater bytes, as anybody can make it.
fn and_a_copy(owner: &Keypair) -> [Vec<u8>; 2] {
    let eol: Eol = "2099-01-01T00:00:00Z".parse().unwrap();
    let signed = IpnsBuilder::new("/ipfs/bafkqaaa", 7, eol).sign(owner, at(NOW)).unwrap();
    let entry = Entry::decode(signed.as_bytes()).unwrap();
    let copy = Entry { signature_v1: Some(vec![0xff; 64]), ..entry.clone() };
    [entry, copy].map(|entry| entry.encode_to_vec())
}

#[test]
fn a_copy_with_another_signature_of_version_1_does_not_take_the_node_s_own_place() {
    let owner = ed25519(1);
    let [own, copy] = and_a_copy(&owner);
    let mut node = node();
    node.store.write(&key(&owner), &own).unwrap();
    let local = node.store.local_peer();
    let usage = node.store.writer_usage(&local).unwrap();
    assert_eq!(usage.count, 1);
    node.put(&key(&owner), copy.clone());
    assert_eq!(node.get(&key(&owner)).as_ref(), Some(&copy), "its bytes are greater");
    assert_eq!(node.store.writer_usage(&local).unwrap().count, 1, "it is still the node's own");
    // A value that says something else is not.
    node.put(&key(&owner), numbered(&owner, 8, "2099-01-01T00:00:00Z"));
    assert_eq!(node.store.writer_usage(&local).unwrap().count, 0);
}

#[test]
fn a_copy_with_another_signature_of_version_1_does_not_shorten_the_lifetime() {
    let owner = ed25519(1);
    let [record, copy] = and_a_copy(&owner);
    let mut node = node();
    node.put(&key(&owner), record);
    let mut record = KadRecord::new(kad::RecordKey::new(&key(&owner)), copy.clone());
    record.expires = Some(Instant::now() + Duration::from_secs(1));
    node.store.put(record).unwrap();
    assert_eq!(node.get(&key(&owner)), Some(copy), "its bytes are greater");
    node.clock.advance(Duration::from_secs(3_600));
    assert!(node.get(&key(&owner)).is_some());
}
