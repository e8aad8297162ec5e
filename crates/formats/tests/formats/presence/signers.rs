//! Signatures.

use super::*;

#[test]
fn a_changed_byte_anywhere() {
    let value = Draft::at(1).encode();
    for i in 0..value.len() {
        for bit in [1, 0x80] {
            let mut changed = value.clone();
            changed[i] ^= bit;
            assert!(validator().validate(&key(), &changed, now()).is_err(), "byte {i}");
            assert!(validator().read(&key(), &changed, now()).is_err(), "byte {i}");
        }
    }
}

#[test]
fn a_flood_of_forgeries_costs_what_sixteen_do() {
    let limits = PresenceLimits::default().with_record_bytes(64 * 1_024).with_nodes_per_client(64);
    let rules = PresenceValidator::new(limits);
    let forged =
        |n| Draft::at(n).made(1).signed_by(Some((mallory(), BY_CLIENT)), Some((node(n), BY_NODE)));
    let good = |n| Draft::at(n);
    let flood = |count: u8| {
        let forgeries = (1..=count).map(forged);
        records(&forgeries.chain([good(100)]).collect::<Vec<_>>())
    };
    // Fifteen bad signatures do not affect the rest. After sixteen the rest is refused unverified.
    let read = rules.read(&key(), &flood(15), now()).unwrap();
    assert_eq!(read.entries().len(), 1);
    assert!(rules.read(&key(), &flood(16), now()).is_err());
    // The other values are not affected, although their entries are older.
    for order in [[0, 1], [1, 0]] {
        let values = [flood(30), records(&[good(1).made(-1), good(101)])];
        let values = order.map(|i| &values[i][..]);
        let joined = rules.consolidate(&key(), &values).unwrap();
        assert_eq!(joined, records(&[good(1).made(-1), good(101)]));
    }
}
