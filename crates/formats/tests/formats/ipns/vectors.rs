//! Records of other implementations, with their expected results. Their origin:
//! `tests/vectors/ipns/ORIGIN.md`.

use smart_record_testing::vectors::{bytes, npm_ipns};

use super::*;

use serde_json::Value;

#[test]
fn records_of_the_npm_package_ipns_are_judged_as_it_does() {
    let vectors = npm_ipns();
    let count = |accepted| vectors.iter().filter(|v| v["accepted"] == accepted).count();
    assert!(count(true) >= 18 && count(false) >= 28, "{} vectors", vectors.len());
    for vector in vectors {
        let text = |field: &str| vector[field].as_str().unwrap();
        let (key, value) = (RecordKey::new(bytes(&vector, "key")), bytes(&vector, "record"));
        let verdict = IpnsValidator.validate(&key, &value, at(NOW));
        assert_eq!(
            Value::Bool(verdict.is_ok()),
            vector["accepted"],
            "{}: {verdict:?}",
            text("what")
        );
        if let Err(error) = verdict {
            let expired = text("what").ends_with("expired");
            assert_eq!(error.fault() == Fault::Expired, expired, "{}: {error}", text("what"));
            continue;
        }
        let name = IpnsName::try_from(&key).unwrap();
        let record = IpnsRecord::decode(&name, value).unwrap();
        assert_eq!(record.value(), text("value").as_bytes());
        assert_eq!(record.sequence().to_string(), text("sequence"));
        assert_eq!(record.ttl(Timestamp::EPOCH).unwrap().as_nanos().to_string(), text("ttl"));
        assert_eq!(Ok(record.eol()), text("validity").parse());
    }
}

#[test]
fn of_the_records_of_a_name_the_highest_sequence_is_selected() {
    let vectors: Vec<_> = npm_ipns().into_iter().filter(|v| v["accepted"] == true).collect();
    let records = |key: &Value| -> Vec<_> {
        let of_key = vectors.iter().filter(|v| v["key"] == *key);
        of_key.map(|v| bytes(v, "record")).collect()
    };
    for vector in &vectors {
        let key = RecordKey::new(bytes(vector, "key"));
        let records = records(&vector["key"]);
        let values: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let best = IpnsValidator.select(&key, &values).unwrap();
        let best = IpnsValidator.decode(&key, values[best]).unwrap();
        assert_eq!(best.sequence(), u64::MAX);
    }
}
