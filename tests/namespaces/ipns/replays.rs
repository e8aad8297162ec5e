//! Rollback: an old, valid record of the same name after a newer one.

use libp2p_smart_record::{Fault, Validator, ipns::IpnsValidator};
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
    // An unsigned field does not make it a different record.
    let good = v2(&owner, fields.encode()).encode_to_vec();
    wins(&[&good[..], &[0x50, 1]].concat(), &good);
}
