//! Makes the vectors, from fixed keys and times.

mod answers;
mod compactions;
pub mod coverage;
mod documents;
mod iprs;
mod joins;
mod keys;
mod pk;
mod presence;
mod records;
mod replica;
mod rsa;
mod shards;
mod signed;
mod stamps;
mod views;

use serde_json::{Map, Value, json};
use smart_record_core::{RecordKey, ValidationError};

use crate::forms::hex;

pub use self::documents::just;

/// The files, without `.json`, and the cases in each.
pub fn files() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("sr/keys", keys::keys()),
        ("sr/signatures", keys::signatures()),
        ("sr/documents", documents::documents()),
        ("sr/order", documents::order()),
        ("sr/updates", [records::updates(), stamps::minima()].concat()),
        ("sr/extensions", records::extensions()),
        ("sr/containers", records::containers()),
        ("sr/joins", joins::joins()),
        ("sr/limits", [joins::limits(), stamps::limits()].concat()),
        ("sr/compactions", compactions::compactions()),
        ("sr/views", views::views()),
        ("sr/choices", joins::choices()),
        ("sr/ranks", shards::ranks()),
        ("sr/stamps", stamps::stamps()),
        ("sr/coverage", coverage::coverage()),
        ("sr/shards", shards::shards()),
        ("pk/records", pk::records()),
        ("iprs/schemes", iprs::schemes()),
        ("iprs/records", iprs::records()),
        ("iprs/choices", iprs::choices()),
        ("presence/records", presence::records()),
        ("presence/joins", presence::joins()),
        ("presence/choices", presence::choices()),
        ("signed/records", signed::records()),
        ("signed/choices", signed::choices()),
        ("replica/answers", answers::answers()),
        ("replica/puts", replica::puts()),
    ]
}

/// A case: its name, its section of `docs/wire.md`, its description, and its fields.
fn case<const N: usize>(
    name: &str,
    section: &str,
    about: &str,
    fields: [(&str, Value); N],
) -> Value {
    let mut case = Map::from_iter([
        ("name".to_owned(), json!(name)),
        ("section".to_owned(), json!(section)),
        ("about".to_owned(), json!(about)),
    ]);
    case.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(case)
}

/// A case of values of which one is selected, or none is good.
fn choice(
    [name, section, about]: [&str; 3],
    key: &RecordKey,
    values: &[&[u8]],
    select: impl FnOnce(&RecordKey, &[&[u8]]) -> Result<usize, ValidationError>,
) -> Value {
    let hexes: Vec<_> = values.iter().map(hex).collect();
    let best = select(key, values).ok();
    let fields =
        [("key", json!(hex(key.as_bytes()))), ("values", json!(hexes)), ("best", json!(best))];
    case(name, section, about, fields)
}

/// A good value that is put where a replica holds another one: `kept` is what it keeps, or the
/// value is stale. `put` returns what is kept.
fn put_over(
    mut case: Value,
    held: &[u8],
    put: impl FnOnce(&mut Value) -> Option<Vec<u8>>,
) -> Value {
    case["held"] = json!(hex(held));
    match put(&mut case) {
        Some(kept) => case["kept"] = json!(hex(kept)),
        None => {
            case.as_object_mut().unwrap().remove("good");
            case["refused"] = refused("stale", "stale");
        }
    }
    case
}

/// A refusal.
fn refused(fault: &str, reason: &str) -> Value {
    json!({ "fault": fault, "reason": reason })
}
