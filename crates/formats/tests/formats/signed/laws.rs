//! The laws of the order: it is total and independent of the order of arrival.

use super::*;

use proptest::{collection::vec, option, prelude::*, test_runner::FileFailurePersistence};

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource(
            "proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

fn some_record() -> impl Strategy<Value = SignedRecord> {
    (0..3_u64, vec(any::<u8>(), 0..4), 0..4_u64, option::of(any::<u64>())).prop_map(
        |(author, value, sequence, expires_at)| {
            let mut content = UnsignedRecord::new(KEY, value, sequence);
            content.expires_at = expires_at.map(Timestamp::from_millis);
            let author = [Author::ed25519(1), Author::ed25519(2), Author::secp256k1()]
                [author as usize]
                .clone();
            content.sign(&author.0, &SignedRecordLimits::default()).unwrap()
        },
    )
}

/// A record, or bytes that only look like one.
fn some_value() -> impl Strategy<Value = Vec<u8>> {
    (some_record(), option::weighted(0.3, any::<prop::sample::Index>())).prop_map(
        |(record, flip)| {
            let mut value = record.encode().to_vec();
            if let Some(flip) = flip {
                let index = flip.index(value.len());
                value[index] ^= 1;
            }
            value
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn encoding_and_decoding_come_back(
        value in vec(any::<u8>(), 0..200),
        path in vec(any::<u8>(), 0..200),
        sequence in any::<u64>(),
        expires_at in option::of(any::<u64>()),
    ) {
        let limits = SignedRecordLimits::default();
        let key = RecordKey::from_parts("notes", path).unwrap();
        let mut content = UnsignedRecord::new(key, value, sequence);
        content.expires_at = expires_at.map(Timestamp::from_millis);
        let record = content.clone().sign(&alice().0, &limits).unwrap();
        let read = SignedRecord::decode(record.encode(), &limits).unwrap();
        prop_assert_eq!(read.content(), &content);
        prop_assert_eq!(read.rank(), record.rank());
        prop_assert_eq!(read, record);
    }

    #[test]
    fn select_does_not_depend_on_the_order(
        (values, shuffled) in vec(some_value(), 1..8)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
    ) {
        let rules = SignedRecordValidator::default();
        let pick = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let index = rules.select(&key(), &values).ok()?;
            let first = values.iter().position(|value| *value == values[index]);
            assert_eq!(first, Some(index), "a tie goes to the first");
            Some(values[index].to_vec())
        };
        let best = pick(&values);
        prop_assert_eq!(&best, &pick(&shuffled));
        let ranked = values
            .iter()
            .filter_map(|value| {
                SignedRecord::decode(value.clone(), rules.limits()).ok()
            })
            .filter(|record| *record.key() == key())
            .max_by(|a, b| a.rank().cmp(b.rank()));
        prop_assert_eq!(best, ranked.map(|record| record.encode().to_vec()));
    }

    #[test]
    fn the_order_is_total_and_equal_only_for_the_same(a in some_record(), b in some_record()) {
        prop_assert_eq!(a.rank() == b.rank(), a.encode() == b.encode());
        prop_assert_eq!(a.rank().cmp(b.rank()), b.rank().cmp(a.rank()).reverse());
        if a.sequence() != b.sequence() {
            prop_assert_eq!(a.rank().cmp(b.rank()), a.sequence().cmp(&b.sequence()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(value in vec(any::<u8>(), 0..300)) {
        let rules = SignedRecordValidator::default();
        prop_assert!(rules.validate(&key(), &value, at(NOW)).is_err());
    }

    #[test]
    fn no_changed_byte_passes(index in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut value = honest();
        let index = index.index(value.len());
        value[index] ^= by;
        let rules = SignedRecordValidator::default();
        prop_assert!(rules.validate(&key(), &value, at(NOW)).is_err());
    }
}
