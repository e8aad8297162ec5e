//! Presence records.

use serde_json::{Value, json};
use smart_record_core::{RecordKey, Validator};
use smart_record_formats::presence::{
    PresenceKey, PresenceLimits, PresenceRecord, PresenceValidator,
};
use smart_record_testing::{at, vectors::bytes};

use super::{all_bytes, choices, each, orders};
use crate::{forms::hex, reasons};

fn key_of(case: &Value) -> RecordKey {
    RecordKey::new(bytes(case, "key"))
}

fn now_of(case: &Value) -> smart_record_core::Timestamp {
    at(case["now"].as_u64().unwrap())
}

/// The join of the values of a case, in this order or as given.
pub fn join(case: &Value, order: &[Vec<u8>]) -> Option<PresenceRecord> {
    let key = key_of(case);
    let all = all_bytes(case, "values");
    let read = |value: &Vec<u8>| PresenceValidator::default().read(&key, value, now_of(case)).ok();
    let values = if order.is_empty() { &all } else { order };
    let joined = values.iter().filter_map(read).reduce(|mut joined, record| {
        joined.join(record).unwrap();
        joined.truncate(&PresenceLimits::default());
        joined
    });
    joined.filter(|record| !record.is_empty())
}

/// The views of the join at these times.
pub fn views(case: &Value, times: &[i64]) -> Value {
    let record = join(case, &[]).expect("something good");
    let view = |now: &i64| {
        let seen = record.view(at((*now).cast_unsigned())).map(|announcement| {
            json!({
                "node": announcement.node().to_string(),
                "client": announcement.client().to_string(),
                "handshake_key": hex(announcement.handshake_key().as_bytes()),
                "presence_key": hex(announcement.presence_key().as_bytes()),
                "created_at": announcement.created_at().as_millis(),
                "expires_at": announcement.expires_at().as_millis(),
                "retain_until": announcement.retain_until().as_millis(),
            })
        });
        // Ordered by the bytes of the text, like the values of a record.
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by_key(|announcement| announcement["node"].to_string());
        json!({ "now": now, "announcements": seen })
    };
    times.iter().map(view).collect()
}

fn judge(case: &Value) {
    let key = key_of(case);
    let values = all_bytes(case, "values");
    if !case["refused"].is_null() {
        let error =
            PresenceValidator::default().validate(&key, &values[0], now_of(case)).unwrap_err();
        assert_eq!(case["refused"]["fault"], json!(error.fault().as_str()), "{error}");
        assert_eq!(case["refused"]["reason"], json!(reason(&key, &values[0], case)), "{error}");
        return;
    }
    for order in orders(&values) {
        let record = join(case, &order).map(|record| hex(record.encode()));
        assert_eq!(json!(record), case["record"]);
    }
    let times: Vec<_> = case["views"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["now"].as_i64().unwrap())
        .collect();
    assert_eq!(views(case, &times), case["views"]);
    // A single join gives the same result, except for expired entries.
    let joined = join(case, &[]).unwrap().encode();
    assert!(PresenceValidator::default().validate(&key, &joined, now_of(case)).is_ok());
}

/// The reason of a refusal.
fn reason(key: &RecordKey, value: &[u8], case: &Value) -> &'static str {
    let limits = PresenceLimits::default();
    if key.as_bytes().len() > limits.key_bytes() {
        return "key-bytes";
    }
    let Ok(key) = PresenceKey::parse(key) else { return "key" };
    match PresenceRecord::decode(&key, value.to_vec(), &limits) {
        Err(error) => reasons::presence(&error),
        Ok(record) if record.retain_until().is_some_and(|at| at <= now_of(case)) => "expired",
        Ok(_) => "clock-skew",
    }
}

#[test]
fn records_and_joins() {
    each("presence/records", judge);
    each("presence/joins", judge);
}

#[test]
fn selections() {
    choices("presence/choices", |_, key, values| PresenceValidator::default().select(key, values));
}
