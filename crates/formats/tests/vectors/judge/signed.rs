//! Signed records.

use serde_json::{Value, json};
use smart_record_core::{RecordKey, Validator};
use smart_record_formats::signed::{SignedRecord, SignedRecordLimits, SignedRecordValidator};
use smart_record_testing::{
    at,
    vectors::{bytes, text},
};

use super::{all_bytes, each, orders};
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

#[test]
fn records() {
    each("signed/records", |case| {
        let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
        let now = at(case["now"].as_u64().unwrap());
        let rules = SignedRecordValidator::default();
        match rules.validate(&key, &value, now) {
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
fn choices() {
    each("signed/choices", |case| {
        let key = RecordKey::new(bytes(case, "key"));
        let values = all_bytes(case, "values");
        let best = &values[usize::try_from(case["best"].as_u64().unwrap()).unwrap()];
        let select = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
            SignedRecordValidator::default().select(&key, &values).unwrap()
        };
        assert_eq!(json!(select(&values)), case["best"]);
        for order in orders(&values) {
            assert_eq!(&order[select(&order)], best);
        }
    });
}
