//! Signed records.

use serde_json::{Value, json};
use smart_record_core::{KeyOwner, RecordKey, Validator};
use smart_record_formats::signed::{SignedRecord, SignedRecordLimits, SignedRecordValidator};
use smart_record_testing::{
    at,
    vectors::{bytes, text},
};

use super::{choices, each, is_stale};
use crate::{
    forms::{hex, millis},
    reasons,
};

/// The expected fields of a good value.
pub fn good(case: &Value) -> Option<Value> {
    let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
    let now = at(case["now"].as_u64().unwrap());
    let record = SignedRecordValidator::default().read(&key, &value, now).ok()?;
    Some(json!({
        "author": record.author().to_string(),
        "value": hex(record.value()),
        "sequence": record.sequence(),
        "expires_at": millis(record.expires_at()),
        "hash": hex(record.rank().hash()),
    }))
}

fn rules_of(case: &Value) -> SignedRecordValidator {
    match case["policy"].as_str() {
        None => SignedRecordValidator::default(),
        Some("key-owner") => SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner),
        Some(other) => panic!("{other}"),
    }
}

#[test]
fn records() {
    each("signed/records", |case| {
        let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
        let now = at(case["now"].as_u64().unwrap());
        let rules = rules_of(case);
        match rules.validate(&key, &value, now) {
            Ok(_) if is_stale(&rules, case) => (),
            Ok(validity) => {
                assert!(case["refused"].is_null());
                assert_eq!(good(case).as_ref(), Some(&case["good"]));
                assert_eq!(millis(validity.expires_at), case["good"]["expires_at"]);
            }
            Err(error) => {
                assert_eq!(case["refused"]["fault"], json!(error.fault().as_str()), "{error}");
                let expected = text(&case["refused"], "reason");
                let limits = SignedRecordLimits::default();
                let found = match SignedRecord::decode(value, &limits) {
                    _ if bytes(case, "value").is_empty() => "empty",
                    Err(error) => reasons::signed(&error),
                    Ok(record) if *record.key() != key => "other-key",
                    Ok(_) => reasons::reason(&error),
                };
                assert_eq!(found, expected, "{error}");
            }
        }
    });
}

#[test]
fn selections() {
    choices("signed/choices", |_, key, values| {
        SignedRecordValidator::default().select(key, values)
    });
}
