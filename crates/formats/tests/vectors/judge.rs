//! Compares the files with the behaviour of the library.

pub mod iprs;
mod pk;
pub mod presence;
pub mod records;
pub mod signed;
mod sr;

use serde_json::{Value, json};
use smart_record_core::{RecordKey, ValidationError, Validator};
use smart_record_testing::vectors::bytes;

use crate::{forms::hex, read};

/// Checks each case of a file, and names the one that fails.
fn each(file: &str, judge: impl Fn(&Value)) {
    for case in read(file) {
        let name = case["name"].as_str().unwrap().to_owned();
        println!("{file}: {name}");
        judge(&case);
    }
}

/// What a replica keeps of a good value and the one that it holds, as the store decides it; `None`
/// if the value is stale.
pub fn put_over(
    validator: &dyn Validator,
    key: &RecordKey,
    value: &[u8],
    held: &[u8],
) -> Option<Vec<u8>> {
    let kept = validator.consolidate(key, &[value, held]).unwrap();
    (kept == value || validator.contains(key, &kept, value)).then_some(kept)
}

/// Puts the good value of a case where a replica holds another one, if the case has one. Returns
/// whether the value is stale.
fn is_stale(validator: &dyn Validator, case: &Value) -> bool {
    if case["held"].is_null() {
        return false;
    }
    let (key, value) = (RecordKey::new(bytes(case, "key")), bytes(case, "value"));
    let kept = put_over(validator, &key, &value, &bytes(case, "held"));
    let is_stale = kept.is_none();
    assert_eq!(json!(kept.map(hex)), case["kept"]);
    let refusal = json!({"fault": "stale", "reason": "stale"});
    assert_eq!(case["refused"], if is_stale { refusal } else { Value::Null });
    is_stale
}

/// Checks that a selection takes the stated value, in several orders, or none.
fn choices(
    file: &str,
    select: impl Fn(&Value, &RecordKey, &[&[u8]]) -> Result<usize, ValidationError>,
) {
    each(file, |case| {
        let key = RecordKey::new(bytes(case, "key"));
        let values = all_bytes(case, "values");
        let select = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
            select(case, &key, &values).ok()
        };
        assert_eq!(json!(select(&values)), case["best"]);
        let best = select(&values).map(|best| &values[best]);
        for order in orders(&values) {
            assert_eq!(select(&order).map(|found| &order[found]), best);
        }
    });
}

/// All of these in several orders: as they are, each rotated, and back to front.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let rotated = (0..items.len().max(1)).map(|by| {
        let mut order = items.to_vec();
        order.rotate_left(by);
        order
    });
    let mut orders: Vec<_> = rotated.collect();
    let reversed: Vec<_> =
        orders.iter().map(|order| order.iter().rev().cloned().collect()).collect();
    orders.extend(reversed);
    orders
}

/// Several byte strings in hexadecimal digits.
fn all_bytes(case: &Value, field: &str) -> Vec<Vec<u8>> {
    let values = case[field].as_array().unwrap();
    values.iter().map(|value| unhex(value.as_str().unwrap())).collect()
}

pub fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
}
