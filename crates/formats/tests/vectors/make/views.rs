//! Spaces as readers see them: merged documents, without expired nodes.

use serde_json::Value;
use smart_record_core::{Dict, DocumentLimits, codec};
use smart_record_testing::forge::{NOW, Update, encode};

use super::{
    just,
    records::{Case, HOUR, alice},
};
use crate::judge::unhex;

pub fn views() -> Vec<Value> {
    let alice = alice();
    let fold =
        |name: &str, section: &str, about: &str, documents: &[(&str, u64)], times: &[u64]| {
            let updates = documents.iter().zip(0..).map(|((text, ttl), n)| {
                // All are retained equally long, so only the document expires.
                let update = Update {
                    seq: NOW * 1_000 + n,
                    expires_at: NOW + ttl,
                    retain_until: Some(NOW + HOUR),
                    ..Update::of(typed(text))
                };
                alice.sign(&update)
            });
            let value = encode([alice.space_of(updates.collect())]);
            let times: Vec<_> = times.iter().map(|after| NOW + after).collect();
            Case::new(name, section, about, &[value]).viewed(&times)
        };
    let hidden_more_briefly = {
        let update = |n: u64, ttl: u64| {
            let text = format!(r#"{{"k": {n}}}"#);
            alice.sign(&Update {
                seq: NOW * 1_000 + n,
                expires_at: NOW + ttl,
                ..Update::of(typed(&text))
            })
        };
        let value = encode([alice.space([update(1, 100), update(2, 10)])]);
        let about = "What hid an older value does not count any more: the older value is back, \
                     because the writer has broken rule 2 of 6.6.";
        Case::new("newer-retained-more-briefly", "8.1", about, &[value])
            .viewed(&[NOW + 9, NOW + 10])
    };
    let pair = |older: &str, newer: &str| [(older.to_owned(), 100), (newer.to_owned(), 200)];
    let mut cases = Vec::new();
    for (name, about, older, newer) in merges() {
        let documents = pair(older, newer);
        let documents: Vec<_> = documents.iter().map(|(text, ttl)| (&text[..], *ttl)).collect();
        cases.push(fold(
            &format!("merge-{name}"),
            "8.2",
            about,
            &documents,
            &[0, 99, 100, 150, 199, 200],
        ));
    }
    for (name, _, older, newer) in merges() {
        if ["set", "dict", "predicate"].contains(&name) {
            cases.push(fold(
                &format!("older-{name}-lives-longer"),
                "8.2",
                "The lifetime is the later one, also where that is the older.",
                &[(older, 200), (newer, 100)],
                &[99, 100, 199, 200],
            ));
        }
    }
    cases.extend([
        hidden_more_briefly,
        fold("three", "8.2", "Oldest first.", &[(r#"{"a": 1, "b": 1}"#, 100), (r#"{"b": 2, "c": 2}"#, 300), (r#"{"c": 3}"#, 200)], &[0, 100, 200, 300]),
        fold("overwritten-stays-so", "8.2", "What overwrote it has expired before.", &[(r#"{"a": 1}"#, 200), (r#"{"a": 2}"#, 100)], &[99, 100, 199]),
        fold("own-lifetime", "8.1", "A node that expires before its parent.", &[(r#"{"a": {"@": 50, "/": 1}, "b": 2}"#, 100)], &[49, 50, 99, 100]),
        fold("own-lifetime-too-late", "8.1", "A node does not outlive its parent.", &[(r#"{"a": {"@": 500, "/": {"b": {"@": 900, "/": 1}}}}"#, 100)], &[99, 100]),
        fold("lifetime-of-the-past", "8.1", "A node that had expired when it was written.", &[(r#"{"a": {"@": -1, "/": 1}, "b": 2}"#, 100)], &[0]),
        fold("empty-containers", "8.3", "They live by their own lifetimes.", &[(r#"{"s": {"/": {"set": []}}, "l": [], "d": {}}"#, 100)], &[99, 100]),
        fold("empty-document", "8.4", "The space is seen until it expires.", &[("{}", 100)], &[99, 100]),
        fold("list-closes-up", "8.3", "An element that has expired is left out, and the others move up.", &[(r#"{"l": [1, {"@": 50, "/": 2}, 3, {"@": 50, "/": 4}]}"#, 100)], &[49, 50]),
        fold("list-ends-its-elements", "8.3", "What is in a container lives no longer than it.", &[(r#"{"l": {"@": 20, "/": [1]}}"#, 100)], &[19, 20]),
        fold("container-outlived-by-merge", "8.3", "A Dict that is merged lives for the later of both.", &[(r#"{"d": {"x": 1}}"#, 50), (r#"{"d": {"y": 2}}"#, 100)], &[49, 50, 100]),
        fold(
            "set-elements-become-one",
            "8.3",
            "Elements that have the same content once something in them has expired.",
            &[(r#"{"s": {"/": {"set": [[1, {"@": 30, "/": 2}], {"@": 60, "/": [1]}]}}}"#, 100)],
            &[29, 30, 60, 99],
        ),
        fold(
            "set-elements-change-places",
            "8.3",
            "Elements whose order changes once something in them has expired.",
            &[(r#"{"s": {"/": {"set": [[{"@": 30, "/": 1}, 5], [3]]}}}"#, 100)],
            &[29, 30],
        ),
        fold(
            "predicate-arguments-become-one",
            "8.3",
            "The same in the positional part of a Predicate.",
            &[(r#"{"p": {"/": {"predicate": {"tag": "t", "positional": [[{"@": 30, "/": 1}], []], "named": {}}}}}"#, 100)],
            &[29, 30],
        ),
        fold("set-lifetimes-place-by-place", "7.3", "Equal elements whose insides live for different times.", &[(r#"{"s": {"/": {"set": [[{"@": 30, "/": 1}, {"@": 80, "/": 2}]]}}}"#, 100), (r#"{"s": {"/": {"set": [[{"@": 80, "/": 1}, {"@": 30, "/": 2}]]}}}"#, 100)], &[29, 30, 80]),
        fold("set-of-dicts", "7.3", "The same with Dicts.", &[(r#"{"s": {"/": {"set": [{"a": {"@": 30, "/": 1}, "b": 2}]}}}"#, 50), (r#"{"s": {"/": {"set": [{"a": 1, "b": {"@": 20, "/": 2}}]}}}"#, 100)], &[19, 30, 50, 99]),
        fold("set-of-predicates", "7.3", "The same with Predicates.", &[(r#"{"s": {"/": {"set": [{"/": {"predicate": {"tag": "t", "positional": [{"@": 30, "/": 1}], "named": {"n": 1}}}}]}}}"#, 50), (r#"{"s": {"/": {"set": [{"/": {"predicate": {"tag": "t", "positional": [1], "named": {"n": {"@": 20, "/": 1}}}}}]}}}"#, 100)], &[19, 30, 50, 99]),
        fold("set-of-dicts-newer-later", "7.3", "With Dicts, the other way round.", &[(r#"{"s": {"/": {"set": [{"a": 1, "b": {"@": 20, "/": 2}}]}}}"#, 50), (r#"{"s": {"/": {"set": [{"a": {"@": 30, "/": 1}, "b": 2}]}}}"#, 100)], &[19, 30, 50, 99]),
        fold("set-of-predicates-newer-later", "7.3", "With Predicates, the other way round.", &[(r#"{"s": {"/": {"set": [{"/": {"predicate": {"tag": "t", "positional": [1], "named": {"n": {"@": 20, "/": 1}}}}}]}}}"#, 50), (r#"{"s": {"/": {"set": [{"/": {"predicate": {"tag": "t", "positional": [{"@": 30, "/": 1}], "named": {"n": 1}}}}]}}}"#, 100)], &[19, 30, 50, 99]),
    ]);
    cases
}

/// Documents of one space: the name, the description, the older document, the newer.
fn merges() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    const T: &str =
        r#"{"p": {"/": {"predicate": {"tag": "t", "positional": [1, 2], "named": {"a": 1}}}}}"#;
    vec![
        ("leaf", "A leaf is overwritten.", r#"{"a": 1}"#, r#"{"a": 2}"#),
        (
            "same-leaf",
            "Also by the same: the newer lifetime counts.",
            r#"{"a": 1}"#,
            r#"{"a": {"@": 50, "/": 1}}"#,
        ),
        ("dict", "Dicts unite.", r#"{"d": {"a": 1, "b": 1}}"#, r#"{"d": {"b": 2, "c": 2}}"#),
        (
            "deep-dict",
            "At any depth.",
            r#"{"d": {"e": {"a": 1}}}"#,
            r#"{"d": {"e": {"b": 2}, "f": 3}}"#,
        ),
        (
            "set",
            "Sets unite.",
            r#"{"s": {"/": {"set": [1, 2]}}}"#,
            r#"{"s": {"/": {"set": [2, 3]}}}"#,
        ),
        ("list", "A List is replaced as a whole.", r#"{"l": [1, 2]}"#, r#"{"l": [2, 3]}"#),
        (
            "same-list",
            "Also by the same.",
            r#"{"l": [1, {"@": 50, "/": 2}]}"#,
            r#"{"l": [{"@": 20, "/": 1}, 2]}"#,
        ),
        ("list-over-set", "Another kind.", r#"{"x": {"/": {"set": [1]}}}"#, r#"{"x": [2]}"#),
        ("set-over-list", "Another kind.", r#"{"x": [1]}"#, r#"{"x": {"/": {"set": [2]}}}"#),
        ("leaf-over-dict", "Another kind.", r#"{"x": {"a": 1}}"#, r#"{"x": 1}"#),
        ("dict-over-leaf", "Another kind.", r#"{"x": 1}"#, r#"{"x": {"a": 1}}"#),
        ("int-over-float", "1 and 1.0 are of different kinds.", r#"{"x": 1.0}"#, r#"{"x": 1}"#),
        (
            "predicate",
            "Predicates of one tag unite.",
            T,
            r#"{"p": {"/": {"predicate": {"tag": "t", "positional": [2, 3], "named": {"b": 2}}}}}"#,
        ),
        (
            "predicate-of-another-tag",
            "Others are overwritten.",
            T,
            r#"{"p": {"/": {"predicate": {"tag": "u", "positional": [3], "named": {}}}}}"#,
        ),
        (
            "opaque",
            "Opaque nodes are not looked into: the newer overwrites the older.",
            r#"{"x": {"/": {"opaque": "f20101aa"}}}"#,
            r#"{"x": {"/": {"opaque": "f20101bb"}}}"#,
        ),
        (
            "set-of-opaque",
            "As elements of Sets they unite, in the order of their bytes.",
            r#"{"s": {"/": {"set": [{"/": {"opaque": "fa0100"}}, {"/": {"opaque": "f20101aa"}}]}}}"#,
            r#"{"s": {"/": {"set": [{"/": {"opaque": "800200"}}, {"/": {"opaque": "f20101aa"}}]}}}"#,
        ),
        (
            "keys-of-other-kinds",
            "Keys are equal by kind and content.",
            r#"{"/": {"dict": [[1, "int"], [1.0, "float"], ["1", "text"]]}}"#,
            r#"{"/": {"dict": [[1, "newer"]]}}"#,
        ),
    ]
}

/// A document from JSON in which `{"@": 5, "/": x}` is the node `x` that expires 5 ms after
/// [`NOW`].
fn typed(text: &str) -> Vec<u8> {
    smart_record_core::codec::encode(&typed_dict(text))
}

pub fn typed_dict(text: &str) -> Dict {
    let value: Value = serde_json::from_str(text).unwrap();
    let smart_record_core::Kind::Dict(dict) = typed_node(&value).kind else { panic!("{text}") };
    dict
}

fn typed_node(value: &Value) -> smart_record_core::Node {
    use smart_record_core::{Kind, List, Node, Predicate, Set};

    let dict = |object: &serde_json::Map<String, Value>| -> Dict {
        object.iter().map(|(key, value)| (key.as_str(), typed_node(value))).collect()
    };
    match value {
        Value::Array(values) => Node::new(values.iter().map(typed_node).collect::<List>()),
        Value::Object(object) if object.contains_key("@") => {
            let at = NOW.saturating_add_signed(object["@"].as_i64().unwrap());
            typed_node(&object["/"]).expires_at(smart_record_testing::at(at))
        }
        Value::Object(object) => match object.get("/").and_then(Value::as_object) {
            None => Node::new(dict(object)),
            Some(inner) => match inner.iter().next().unwrap() {
                (name, Value::Array(values)) if name == "set" => {
                    Node::new(values.iter().map(typed_node).collect::<Set>())
                }
                (name, Value::Array(pairs)) if name == "dict" => Node::new(
                    pairs
                        .iter()
                        .map(|pair| (typed_node(&pair[0]).kind, typed_node(&pair[1])))
                        .collect::<Dict>(),
                ),
                (name, predicate) if name == "predicate" => {
                    let positional = predicate["positional"].as_array().unwrap();
                    Node::new(Kind::Predicate(Predicate {
                        tag: predicate["tag"].as_str().unwrap().to_owned(),
                        positional: positional.iter().map(typed_node).collect(),
                        named: dict(predicate["named"].as_object().unwrap()),
                    }))
                }
                (name, Value::String(hex)) if name == "opaque" => {
                    let document = codec::decode(&just(&unhex(hex)), DocumentLimits::default());
                    document.unwrap().into_iter().next().unwrap().1
                }
                other => panic!("{other:?}"),
            },
        },
        leaf => Node::from_json(leaf).unwrap(),
    }
}
