//! Compactions: a full space, an update for which it has no room, and what its writer signs
//! instead.

use std::time::Duration;

use serde_json::{Value, json};
use smart_record_core::{Limits, RecordKey, SmartRecord, SpaceSigner};
use smart_record_testing::{at, forge::NOW};

use super::{
    case,
    records::{KEY, alice},
    views::typed_dict,
};
use crate::forms::{hex, view};

/// Limits under which a space has room for every update of a case.
fn wide_limits() -> Limits {
    Limits::default().with_updates_per_space(1_000).with_space_bytes(1 << 20)
}

fn signer(limits: Limits) -> SpaceSigner {
    let key = RecordKey::new(KEY);
    let mut signer = SpaceSigner::new(key.clone(), alice().0, limits);
    signer.resume(&SmartRecord::new(key));
    signer
}

/// The documents of a space, each with its lifetime in milliseconds. There is no room for the last.
fn compaction(name: &str, about: &str, documents: &[(String, u64)], times: &[u64]) -> Value {
    let now = at(NOW);
    let (mut narrow, mut wide) = (signer(Limits::default()), signer(wide_limits()));
    let sign = |signer: &mut SpaceSigner, (text, ttl): &(String, u64)| {
        signer.merge(typed_dict(text), now, Duration::from_millis(*ttl)).unwrap()
    };
    let (last, earlier) = documents.split_last().unwrap();
    for document in earlier {
        assert_eq!(sign(&mut narrow, document), sign(&mut wide, document));
    }
    let before = narrow.record(now).encode();
    let mut update = SmartRecord::new(RecordKey::new(KEY));
    update.insert(wide.writer(), sign(&mut wide, last)).unwrap();
    sign(&mut narrow, last);
    let after = narrow.record(now);
    let views = times.iter().map(|ms| view(NOW + ms, &after.view(at(NOW + ms))));
    let fields = [
        ("key", json!(hex(KEY))),
        ("now", json!(NOW)),
        ("before", json!(hex(before))),
        ("update", json!(hex(update.encode()))),
        ("after", json!(hex(after.encode()))),
        ("views", views.collect()),
    ];
    case(name, "6.6", about, fields)
}

pub fn compactions() -> Vec<Value> {
    let small = |n: u64| (format!(r#"{{"n": {n}, "k{}": {{"@": 50, "/": {n}}}}}"#, n % 3), 100 + n);
    // Four keys of large values, a Dict and a Set.
    let large = |n: u64| {
        let (key, until, value) = (n % 4, 20 * n, format!("{n}{}", "x".repeat(1_450)));
        let dict = format!(r#"{{"{n}": {{"@": {until}, "/": [{n}]}}}}"#);
        let set = format!(r#"{{"/": {{"set": [{n}]}}}}"#);
        (format!(r#"{{"d": {dict}, "k{key}": "{value}", "s": {set}}}"#), 100 + n)
    };
    let opaque = (r#"{"new": {"@": 60, "/": {"/": {"opaque": "f20101aa"}}}}"#.to_owned(), 100);
    let with_opaque = std::iter::once(opaque).chain((1..65).map(small)).collect::<Vec<_>>();
    vec![
        compaction(
            "opaque",
            "An opaque node is carried over, with its lifetime.",
            &with_opaque,
            &[0, 59, 60],
        ),
        compaction(
            "updates-65",
            "A space of 64 updates, and one more: its content fits into one update.",
            &(0..65).map(small).collect::<Vec<_>>(),
            &[0, 50, 163, 164],
        ),
        compaction(
            "too-large-for-one",
            "A space without room for another 1,500 bytes: its content is divided into a replace \
             and merges.",
            &(0..6).map(large).collect::<Vec<_>>(),
            &[0, 20, 60, 101, 103, 105],
        ),
    ]
}
