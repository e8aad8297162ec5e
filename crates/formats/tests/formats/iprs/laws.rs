//! The laws of the order, and round trips of the encoding.

use super::*;

use std::{cmp::Ordering, collections::BTreeSet};

use proptest::{collection, prelude::*, test_runner::FileFailurePersistence};

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::with_cases(128)
    }
}

fn freshness() -> Freshness {
    let first = Ancestry::first("beacon").sign(&key(), &alice()).unwrap();
    Freshness::new(ChainBeacon::new(&first).unwrap(), 3)
}

fn all_schemes() -> IprsValidator {
    validator().with_scheme(freshness()).with_admission(Open)
}

/// A record of any scheme, from so few values that many are equal.
fn record() -> impl Strategy<Value = Record> {
    let schemes = prop_oneof![
        (0..3_u64).prop_map(|n| SequenceNumber::record("x", n)),
        (1..3_u64).prop_map(|n| TtlSinceReceipt::record("x", secs(n)).unwrap()),
        (0..3_u64, 3..6_u64)
            .prop_map(|(from, to)| DatetimeRange::record("x", at(from), at(to)).unwrap()),
        Just(DatetimeRange::record("x", at(0), at(u64::MAX)).unwrap()),
        Just(Ancestry::first("x")),
        (0..3_u8).prop_map(|n| {
            let mut parent = sign(Ancestry::first("x"));
            for _ in 0..n {
                parent = sign(Ancestry::child("x", &parent).unwrap());
            }
            Ancestry::child("x", &parent).unwrap()
        }),
        (0..3_u64).prop_map(|round| {
            let value = sign(SequenceNumber::record("x", 1)).cid();
            freshness().record("x", BeaconCitation { round, value })
        }),
    ];
    (schemes, 0..2_u64, 0..2_u8).prop_map(|(record, version, value)| Record {
        value: Ipld::Integer(value.into()),
        ..record.with_version(version)
    })
}

fn signed() -> impl Strategy<Value = IprsRecord> {
    (record(), any::<bool>()).prop_map(|(record, by_alice)| {
        let keypair = if by_alice { alice() } else { mallory() };
        record.sign(&key(), &keypair).unwrap()
    })
}

/// Any data that DAG-CBOR can encode.
fn data() -> impl Strategy<Value = Ipld> {
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        any::<i64>().prop_map(|n| Ipld::Integer(n.into())),
        any::<u64>().prop_map(|n| Ipld::Integer(n.into())),
        // Minus zero becomes zero.
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| Ipld::Float(f + 0.0)),
        ".{0,8}".prop_map(Ipld::String),
        collection::vec(any::<u8>(), 0..40).prop_map(Ipld::Bytes),
        any::<u64>().prop_map(|n| Ipld::Link(sign(SequenceNumber::record("x", n)).cid())),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Ipld::List),
            collection::btree_map(".{0,12}", inner, 0..4).prop_map(Ipld::Map),
        ]
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_order_is_total(a in signed(), b in signed(), c in signed()) {
        let validator = all_schemes();
        let order = |a: &IprsRecord, b: &IprsRecord| validator.order(a, b);
        for (a, b) in [(&a, &b), (&b, &c), (&a, &c), (&a, &a)] {
            prop_assert_eq!(order(a, b), order(b, a).reverse());
            prop_assert_eq!(order(a, b) == Ordering::Equal, a.cid() == b.cid());
        }
        if order(&a, &b).is_le() && order(&b, &c).is_le() {
            prop_assert!(order(&a, &c).is_le());
        }
        if order(&a, &b).is_ge() && order(&b, &c).is_ge() {
            prop_assert!(order(&a, &c).is_ge());
        }
    }

    #[test]
    fn each_scheme_s_own_order_is_total(records in collection::vec(signed(), 12)) {
        let freshness = freshness();
        let schemes: [&dyn Scheme; 5] =
            [&SequenceNumber, &TtlSinceReceipt, &DatetimeRange, &Ancestry, &freshness];
        let validator = all_schemes();
        for scheme in schemes {
            let cid = scheme.description().cid();
            let rank = |r: &IprsRecord| (r.version(), scheme.rank(r.record()).unwrap(), r.cid());
            let order = |a: &IprsRecord, b: &IprsRecord| rank(a).cmp(&rank(b));
            let own: Vec<_> = records.iter().filter(|r| r.scheme() == cid).collect();
            for a in &own {
                for b in &own {
                    prop_assert_eq!(order(a, b), order(b, a).reverse());
                    prop_assert_eq!(order(a, b).is_eq(), a.cid() == b.cid());
                    // It is the validator's order.
                    prop_assert_eq!(order(a, b), validator.order(a, b));
                    for c in &own {
                        if order(a, b).is_le() && order(b, c).is_le() {
                            prop_assert!(order(a, c).is_le());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn select_does_not_depend_on_the_order_of_the_values(
        (records, shuffled) in collection::vec(signed(), 1..8)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        junk in collection::vec(any::<u8>(), 0..40),
    ) {
        let validator = all_schemes();
        let best = |records: &[IprsRecord], junk_first: bool| {
            let mut values: Vec<&[u8]> = records.iter().map(IprsRecord::as_bytes).collect();
            values.insert(if junk_first { 0 } else { values.len() }, &junk);
            let index = validator.select(&key(), &values).unwrap();
            let first = values.iter().position(|value| *value == values[index]);
            assert_eq!(first, Some(index), "the first of equal ones");
            assert_eq!(validator.consolidate(&key(), &values).unwrap(), values[index]);
            values[index].to_vec()
        };
        let expected = best(&records, false);
        prop_assert_eq!(&best(&shuffled, true), &expected);
        // It is the greatest.
        let read = validator.decode(&key(), &expected).unwrap();
        prop_assert!(records.iter().all(|r| validator.order(r, &read).is_le()));
        // Selection from parts first gives the same result.
        let (left, right) = shuffled.split_at(shuffled.len() / 2);
        if !left.is_empty() {
            let halves = [best(left, false), best(right, true)];
            let values: Vec<&[u8]> = halves.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(&validator.consolidate(&key(), &values).unwrap(), &expected);
        }
    }

    #[test]
    fn what_is_written_is_read(record in record(), value in data(), version in any::<u64>()) {
        let validator = all_schemes();
        let record = Record { value, ..record }.with_version(version);
        let signed = sign(record.clone());
        prop_assert_eq!(signed.record(), &record);
        let bytes = validator.marshal(&signed).unwrap();
        let read = validator.decode(&key(), &bytes).unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(read.cid(), signed.cid());
        prop_assert_eq!(validator.marshal(&read).unwrap(), bytes);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(all_schemes().validate(&key(), &bytes, at(NOW)).is_err());
    }

    #[test]
    fn no_changed_bytes_are_accepted(
        signed in signed(),
        changes in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let validator = all_schemes();
        let mut bytes = signed.as_bytes().to_vec();
        for (index, byte) in changes {
            let len = bytes.len();
            bytes[index.index(len)] = byte;
        }
        let read = validator.decode(&key(), &bytes);
        prop_assert_eq!(read.is_ok(), bytes == signed.as_bytes());
    }

    #[test]
    fn a_chain_is_a_set(
        parents in collection::vec(any::<prop::sample::Index>(), 1..12),
        seed in any::<prop::sample::Index>(),
        absent in any::<prop::sample::Index>(),
    ) {
        // A tree: each record's parent is any earlier one.
        let mut tree = vec![sign(Ancestry::first("root"))];
        for (n, parent) in parents.iter().enumerate() {
            let parent = parent.get(&tree).clone();
            tree.push(sign(Ancestry::child(n.to_string(), &parent).unwrap()));
        }
        let absent = absent.index(tree.len());
        let mut known = tree.clone();
        known.remove(absent);
        let mut one = Chain::new(key());
        let mut other = Chain::new(key());
        let start = seed.index(known.len().max(1));
        for record in &known {
            one.insert(record.clone()).unwrap();
        }
        for record in known[start..].iter().chain(&known[..start]).chain(&known).rev() {
            other.insert(record.clone()).unwrap();
        }
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.lies(), []);

        // Every relation that the chain reports holds in the whole tree. Otherwise it reports
        // `Unknown`.
        let mut whole = one.clone();
        whole.insert(tree[absent].clone()).unwrap();
        prop_assert!(whole.missing().is_empty());
        use Relation::{Ancestor, Descendant, Same, Unknown};
        for a in &tree {
            for b in &tree {
                let (partly, truth) =
                    (one.relation(a.cid(), b.cid()), whole.relation(a.cid(), b.cid()));
                match partly {
                    Unknown { missing } => {
                        prop_assert_eq!(missing, BTreeSet::from([tree[absent].cid()]));
                    }
                    known => prop_assert_eq!(&known, &truth),
                }
                match truth {
                    Same => prop_assert_eq!(a.cid(), b.cid()),
                    Descendant => prop_assert!(validator().order(a, b).is_gt()),
                    Ancestor => prop_assert!(validator().order(a, b).is_lt()),
                    _ => {}
                }
            }
        }
    }
}
