//! A build refuses keys of disabled types as unsupported. All other keys behave as before.
//! `scripts/check` runs this without the features; the vectors are those of `docs/wire.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

use serde_json::Value;
use smart_record_core::{
    Fault, RecordKey, SmartRecord, SpaceRules, Timestamp, ValidationError, Writer, WriterError,
};

/// The key types by number, and whether this build supports them.
const TYPES: [bool; 4] =
    [cfg!(feature = "rsa"), true, cfg!(feature = "secp256k1"), cfg!(feature = "ecdsa")];

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/vectors/sr/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    let hex = case[field].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
}

/// Whether the type of a key is disabled.
fn is_left_out(key: &[u8]) -> bool {
    key.first() == Some(&8)
        && key.get(1).is_some_and(|n| TYPES.get(usize::from(*n)) == Some(&false))
}

#[test]
fn keys_are_refused_as_what_they_are() {
    for case in vectors("keys") {
        let key = bytes(&case, "public_key");
        let decoded = Writer::decode(key.clone().into());
        if is_left_out(&key) {
            assert_eq!(decoded, Err(WriterError::Unsupported(key[1].into())), "{}", case["name"]);
            continue;
        }
        match decoded {
            Ok(writer) => assert_eq!(writer.peer_id().to_string(), case["peer_id"]),
            Err(error) => {
                let fault = ValidationError::from(error).fault();
                assert_eq!(fault.as_str(), case["refused"]["fault"], "{}", case["name"]);
            }
        }
    }
}

#[test]
fn signatures_of_the_types_there_are_get_the_same_answer() {
    let mut judged = 0;
    for case in vectors("signatures") {
        if let Ok(writer) = Writer::decode(bytes(&case, "public_key").into()) {
            let (preimage, signature) = (bytes(&case, "preimage"), bytes(&case, "signature"));
            let verified = writer.verify_bytes(&preimage, &signature);
            assert_eq!(verified.is_ok(), case["good"], "{}", case["name"]);
            judged += 1;
        }
    }
    assert!(judged > 20, "{judged}");
}

#[test]
fn a_record_of_a_type_that_is_left_out_is_unsupported_and_takes_no_other_with_it() {
    let rules = SpaceRules::default();
    let cases = vectors("updates");
    let of = |name: &str| {
        let case = cases.iter().find(|case| case["name"] == format!("of-{name}")).unwrap();
        (RecordKey::new(bytes(case, "key")), bytes(case, "record"))
    };
    let now = Timestamp::from_millis(1_700_000_000_000);
    let (key, ed25519) = of("ed25519");
    for (name, key_type) in [("rsa", 0), ("secp256k1", 2), ("ecdsa", 3)] {
        let (_, value) = of(name);
        let alone = rules.validate(&key, &value, now).map_err(|error| error.fault());
        let decoded = SmartRecord::decode(&key, value.clone(), rules.limits());
        assert_eq!(decoded.is_ok(), TYPES[key_type]);
        match TYPES[key_type] {
            true => assert!(alone.is_ok()),
            false => assert_eq!(alone, Err(Fault::Unsupported)),
        }
        let both = rules.read(&key, &[value, ed25519.clone()].concat(), now).unwrap();
        assert_eq!(both.spaces().len(), 1 + usize::from(TYPES[key_type]));
    }
}
