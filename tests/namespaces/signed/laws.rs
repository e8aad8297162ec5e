//! The laws of the order in replicas.

use proptest::{collection::vec, option, prelude::*, test_runner::FileFailurePersistence};

use super::*;

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
    fn replicas_agree_whatever_comes_in_which_order(
        (values, shuffled) in vec(some_value(), 1..6)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
    ) {
        let hear = |values: Vec<Vec<u8>>| {
            let mut replica = Replica::with(registry(SignedRecordValidator::default()));
            for value in values {
                replica.put(&key(), value);
            }
            replica.get(&key())
        };
        prop_assert_eq!(hear(values), hear(shuffled));
    }
}
