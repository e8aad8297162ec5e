//! Compares the files with the behaviour of the library.

pub mod iprs;
pub mod presence;
pub mod records;
pub mod signed;
mod sr;

use serde_json::{Value, json};
use smart_record_core::{RecordKey, ValidationError};
use smart_record_testing::vectors::bytes;

use crate::read;

/// Checks each case of a file, and names the one that fails.
fn each(file: &str, judge: impl Fn(&Value)) {
    for case in read(file) {
        let name = case["name"].as_str().unwrap().to_owned();
        println!("{file}: {name}");
        judge(&case);
    }
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
    values.iter().map(|hex| unhex(hex.as_str().unwrap())).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
}
