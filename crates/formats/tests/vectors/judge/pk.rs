//! Public keys as values of the DHT.

use serde_json::json;
use smart_record_core::{RecordKey, Timestamp, ValidationError, Validator, Writer};
use smart_record_formats::pk::PublicKeyValidator;
use smart_record_testing::vectors::bytes;

use super::each;
use crate::reasons;

#[test]
fn records() {
    each("pk/records", |case| {
        let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
        match PublicKeyValidator.validate(&key, &value, Timestamp::EPOCH) {
            Ok(_) => {
                assert!(case["refused"].is_null());
                let owner = Writer::decode(value.into()).unwrap().peer_id();
                assert_eq!(case["peer_id"], json!(owner.to_string()));
            }
            Err(error) => {
                assert_eq!(case["refused"]["fault"], json!(error.fault().as_str()), "{error}");
                let reason = match &error {
                    ValidationError::Invalid(_) => "other-key",
                    error => reasons::reason(error),
                };
                assert_eq!(case["refused"]["reason"], json!(reason), "{error}");
            }
        }
    });
}
