//! Values of smart records.

use serde_json::{Value, json};
use smart_record_core::{
    KeyOwner, Limits, MinWork, Open, RecordKey, Registry, SmartRecord, SpaceRules, Timestamp,
    ValidationError,
};
use smart_record_testing::{at, vectors::bytes};

use super::{all_bytes, choices, each, orders};
use crate::{forms, reasons::reason};

/// The limits of a case. The default is used for a limit that it does not name.
pub fn limits_of(case: &Value) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in case["limits"].as_object().into_iter().flatten() {
        let value: usize = value.as_u64().unwrap().try_into().unwrap();
        limits = match &name[..] {
            "min_stamp_bits" => limits.with_min_stamp_bits(value.try_into().unwrap()),
            "updates_per_space" => limits.with_updates_per_space(value),
            "space_bytes" => limits.with_space_bytes(value),
            "update_bytes" => limits.with_update_bytes(value),
            "spaces_per_record" => limits.with_spaces_per_record(value),
            "withdrawn_per_record" => limits.with_withdrawn_per_record(value),
            other => panic!("{other}"),
        };
    }
    limits
}

fn rules_of(case: &Value) -> SpaceRules {
    let limits = limits_of(case);
    match case["policy"].as_str() {
        None => SpaceRules::new(limits, Open),
        Some("key-owner") => SpaceRules::new(limits, KeyOwner),
        Some("least-work") => {
            let bits = case["least_work"].as_u64().unwrap().try_into().unwrap();
            SpaceRules::new(limits, MinWork::new(bits, Open))
        }
        Some(other) => panic!("{other}"),
    }
}

fn now_of(case: &Value) -> Option<Timestamp> {
    case["now"].as_u64().map(at)
}

/// The join of the values of a case, in this order or as given.
pub fn join(case: &Value, order: &[Vec<u8>]) -> Option<SmartRecord> {
    let (rules, key) = (rules_of(case), RecordKey::new(bytes(case, "key")));
    let all = all_bytes(case, "values");
    let mut joined = SmartRecord::new(key.clone());
    for value in if order.is_empty() { &all } else { order } {
        // A key of another namespace has no smart record.
        if Registry::default().resolve(&key).is_err() {
            return None;
        }
        if let Ok((record, _)) = rules.read_partial(&key, value, now_of(case)) {
            joined.join(record).unwrap();
            joined.truncate(rules.limits());
        }
    }
    (joined.spaces().len() > 0).then_some(joined)
}

/// The refusals of a value, in the form of a case.
fn refusals(case: &Value, value: &[u8]) -> Vec<Value> {
    let (rules, key) = (rules_of(case), RecordKey::new(bytes(case, "key")));
    let entry =
        |error: &ValidationError| json!({"fault": error.fault().as_str(), "reason": reason(error)});
    let sifted = Registry::default()
        .resolve(&key)
        .and_then(|_| rules.read_partial(&key, value, now_of(case)));
    match sifted {
        Err(error) => vec![entry(&error)],
        Ok((_, refusals)) => refusals
            .into_entries()
            .map(|refused| {
                let mut entry = entry(&refused.reason);
                if let Some(writer) = refused.writer {
                    entry["peer_id"] = json!(writer.to_string());
                    entry["count"] = json!(refused.count);
                }
                entry
            })
            .collect(),
    }
}

fn judge(case: &Value) {
    let expected = case["record"].as_str();
    let (rules, key) = (rules_of(case), RecordKey::new(bytes(case, "key")));
    let values = all_bytes(case, "values");
    for order in orders(&values) {
        let record = join(case, &order);
        assert_eq!(record.as_ref().map(|r| forms::hex(r.encode())).as_deref(), expected);
        // Without a time, consolidation gives the same result.
        if case["now"].is_null() {
            let all: Vec<&[u8]> = order.iter().map(|value| &value[..]).collect();
            let joined = rules.consolidate(&key, &all).ok();
            assert_eq!(joined.map(forms::hex).as_deref(), expected);
        }
    }
    if let [value] = &values[..] {
        let expected = case["refused"].as_array().cloned().unwrap_or_default();
        let refused = refusals(case, value);
        assert_eq!(refused.len(), expected.len(), "{refused:?}");
        assert!(expected.iter().all(|entry| refused.contains(entry)), "{refused:?}");
        if let (Some(now), true) = (now_of(case), expected.is_empty()) {
            let record = rules.validate(&key, value, now).unwrap();
            assert_eq!(Some(record), join(case, &[]));
        }
    } else {
        assert!(case["refused"].is_null());
    }
    let Some(record) = join(case, &[]) else { return };
    for expected in case["views"].as_array().into_iter().flatten() {
        let now = expected["now"].as_u64().unwrap();
        assert_eq!(&forms::view(now, &record.view(at(now))), expected);
        // Dropping entries that are no longer retained changes no view.
        let mut collected = record.clone();
        collected.collect(at(now));
        assert_eq!(&forms::view(now, &collected.view(at(now))), expected);
    }
    // Pieces of any size give the same result.
    for max in [1, 400, 15 * 1_024] {
        let mut whole = SmartRecord::new(key.clone());
        for chunk in record.chunks(max) {
            whole.join(SmartRecord::decode(&key, chunk, rules.limits()).unwrap()).unwrap();
        }
        assert_eq!(whole, record);
    }
}

#[test]
fn values_of_smart_records() {
    let files = ["updates", "extensions", "containers", "joins", "limits", "views"];
    for file in files {
        each(&format!("sr/{file}"), judge);
    }
}

/// What a writer signs in place of an update for which its space has no room is all that is left of
/// the space, and says the same.
#[test]
fn compactions() {
    each("sr/compactions", |case| {
        let key = RecordKey::new(bytes(case, "key"));
        let read = |field: &str| {
            SmartRecord::decode(&key, bytes(case, field), &Limits::default()).unwrap()
        };
        let (before, update, after) = (read("before"), read("update"), read("after"));
        let mut unbounded = before.clone();
        unbounded.join(update).unwrap();
        let mut bounded = unbounded.clone();
        bounded.truncate(&Limits::default());
        assert_ne!(bounded, unbounded, "there is room for the update");
        let mut joined = before;
        joined.join(after.clone()).unwrap();
        joined.truncate(&Limits::default());
        assert_eq!(joined, after);
        for expected in case["views"].as_array().unwrap() {
            let now = expected["now"].as_u64().unwrap();
            let seen = |record: &SmartRecord| forms::view(now, &record.view(at(now)));
            assert_eq!(&seen(&after), expected);
            let without_seq = |mut view: Value| {
                for space in view["spaces"].as_array_mut().unwrap() {
                    space["seq"].take();
                }
                view
            };
            assert_eq!(without_seq(seen(&unbounded)), without_seq(seen(&after)));
        }
    });
}

#[test]
fn choices_without_joining() {
    choices("sr/choices", |_, key, values| SpaceRules::default().select(key, values));
}
