//! Records made by others, and what their makers say of them. Where they come from: `tests/vectors/ipns/ORIGIN.md`.

use libp2p_smart_record::{Fault, IpnsName, IpnsRecord, IpnsValidator, RecordKey, Validator};
use serde_json::Value;

use crate::keys::*;

fn unhex(text: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks_exact(2).map(digits).collect()
}

/// The vectors of the npm package `ipns`: those of this repository, or newer ones that the environment
/// variable `IPNS_VECTORS` points to.
fn vectors() -> Vec<Value> {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/ipns/npm-ipns.json").into();
    let path = std::env::var_os("IPNS_VECTORS").unwrap_or(kept);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn records_of_the_npm_package_ipns_are_judged_as_it_does() {
    let vectors = vectors();
    let count = |accepted| vectors.iter().filter(|v| v["accepted"] == accepted).count();
    assert!(count(true) >= 18 && count(false) >= 28, "{} vectors", vectors.len());
    for vector in vectors {
        let text = |field: &str| vector[field].as_str().unwrap();
        let (key, value) = (RecordKey::new(unhex(text("key"))), unhex(text("record")));
        let verdict = IpnsValidator.validate(&key, &value, at(NOW));
        assert_eq!(
            Value::Bool(verdict.is_ok()),
            vector["accepted"],
            "{}: {verdict:?}",
            text("what")
        );
        let mut node = Node::new();
        assert_eq!(node.put(&key, &value).is_empty(), verdict.is_ok());
        if let Err(error) = verdict {
            let expired = text("what").ends_with("expired");
            assert_eq!(error.fault() == Fault::Expired, expired, "{}: {error}", text("what"));
            continue;
        }
        assert_eq!(node.get(&key), Some(value.clone()));
        let name = IpnsName::try_from(&key).unwrap();
        let record = IpnsRecord::decode(&name, value).unwrap();
        assert_eq!(record.value(), text("value").as_bytes());
        assert_eq!(record.sequence().to_string(), text("sequence"));
        assert_eq!(record.ttl().unwrap().as_nanos().to_string(), text("ttl"));
        assert_eq!(Ok(record.eol()), text("validity").parse());
    }
}

#[test]
fn of_the_records_of_a_name_the_highest_sequence_is_selected() {
    let vectors: Vec<_> = vectors().into_iter().filter(|v| v["accepted"] == true).collect();
    let records = |key: &Value| -> Vec<_> {
        let of_key = vectors.iter().filter(|v| v["key"] == *key);
        of_key.map(|v| unhex(v["record"].as_str().unwrap())).collect()
    };
    for vector in &vectors {
        let key = RecordKey::new(unhex(vector["key"].as_str().unwrap()));
        let records = records(&vector["key"]);
        let values: Vec<_> = records.iter().map(Vec::as_slice).collect();
        let best = IpnsValidator.select(&key, &values).unwrap();
        let best = IpnsValidator.decode(&key, values[best]).unwrap();
        assert_eq!(best.sequence(), u64::MAX);
    }
}
