//! What is printed can be typed again, wherever such a thing is typed.

use serde_json::Value;

use super::{ADA, KEY, NOBODY, json, key_file, run, smart_record, start_node, text};

/// Stands for what is typed.
const STANDS_FOR: &str = "<>";

/// Arguments, in which [`STANDS_FOR`] stands for what is typed.
type Door = &'static [&'static str];

const KEYS: &[Door] = &[
    &["get", "<>"],
    &["watch", "<>"],
    &["inspect", "<>"],
    &["inspect", "Cargo.toml", "--under", "<>"],
    &["put", "<>", "Cargo.toml"],
];
const PEERS: &[Door] = &[
    &["presence", "find", "<>"],
    &["resolve", "<>"],
    &["get", "/ipns/<>"],
    &["get", "/pk/<>"],
    &["get", "/iprs/<>/a"],
    &["get", "/presence/<>/"],
    &["get", KEY, "--connect", "/ip4/127.0.0.1/tcp/1/p2p/<>"],
];
const ADDRESSES: &[Door] = &[
    &["get", KEY, "--connect", "<>"],
    &["publish", KEY, ADA, "--connect", "<>"],
    &["put", KEY, "Cargo.toml", "--connect", "<>"],
    &["withdraw", KEY, "--connect", "<>"],
    &["inspect", KEY, "--connect", "<>"],
    &["resolve", "self", "--connect", "<>"],
    &[
        "presence",
        "find",
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "--connect",
        "<>",
    ],
];
const LIFETIMES: &[Door] = &[
    &["publish", KEY, ADA, "--ttl", "<>"],
    &["publish", KEY, ADA, "--lifetime", "<>"],
    &["publish", "/ipns/self", "/ipfs/bafkqaaa", "--sequence", "1", "--lifetime", "<>"],
    &["publish", "/iprs/self/a", "1", "--sequence", "1", "--lifetime", "<>"],
];

/// Fails if a door takes this for a wrong argument.
fn is_taken(doors: &[Door], typed: &str, key: &str) {
    for door in doors {
        let mut arguments: Vec<String> =
            door.iter().map(|part| part.replace(STANDS_FOR, typed)).collect();
        if !door.contains(&"--connect") {
            arguments.extend(["--connect".to_owned(), NOBODY.to_owned()]);
        }
        let mut command = smart_record(&[]);
        let output = command.args(&arguments).args(["--key", key]).output().unwrap();
        let (code, log) = (output.status.code(), text(&output.stderr));
        assert!(code != Some(2), "{arguments:?}: {log}");
    }
}

/// All texts under these names, at any depth.
fn all<'a>(json: &'a Value, names: &[&str], found: &mut Vec<&'a str>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                if names.contains(&name.as_str()) {
                    found.extend(value.as_str());
                    found.extend(value.as_array().into_iter().flatten().filter_map(Value::as_str));
                }
                all(value, names, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, names, found)),
        _ => {}
    }
}

#[test]
fn what_is_printed_can_be_typed_wherever_such_a_thing_is_typed() {
    let (_node, address) = start_node(&[], &[]);
    let (_folder, key) = key_file();
    let peer = json(&["key", "generate", &key]);
    let with =
        |arguments: &[&str]| json(&[arguments, &["--key", &key, "--connect", &address]].concat());
    let printed = [
        peer,
        with(&["publish", KEY, ADA]),
        with(&["publish", r"/sr/caf\xe9\\", ADA]),
        with(&["publish", "/ipns/self", "/ipfs/bafkqaaa"]),
        with(&["publish", "/pk/self"]),
        with(&["publish", "/iprs/self/a b", r#"{"/": {"bytes": "AAE"}}"#, "--lifetime", "1h"]),
        with(&["get", KEY]),
        with(&["inspect", KEY]),
        with(&["get", "/ipns/self"]),
        with(&["inspect", "/iprs/self/a b"]),
        with(&["resolve", "self"]),
    ];
    let of = |names: &[&str]| {
        let mut found = Vec::new();
        printed.iter().for_each(|json| all(json, names, &mut found));
        found.sort_unstable();
        found.dedup();
        assert!(!found.is_empty(), "{names:?}");
        found
    };
    of(&["key", "names"]).into_iter().for_each(|it| is_taken(KEYS, it, &key));
    of(&["peer", "writer", "peers"]).into_iter().for_each(|it| is_taken(PEERS, it, &key));
    of(&["expires_at"]).into_iter().for_each(|it| is_taken(LIFETIMES, it, &key));
    is_taken(ADDRESSES, &address, &key);
    for seconds in ["300", "3600"] {
        is_taken(LIFETIMES, seconds, &key);
    }
}

/// The cells of the first row of a command's output.
fn cells(address: &str, arguments: &[&str]) -> Vec<String> {
    let shown = run(&[arguments, &["--connect", address]].concat());
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let line = text(&shown.stdout).lines().next().unwrap().to_owned();
    line.split('\t').map(str::to_owned).collect()
}

#[test]
fn values_and_lifetimes_in_the_rows_of_get_can_be_published() {
    let (_node, address) = start_node(&[], &[]);
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let document = r#"{"é": {"/": {"set": [1, "a\\b", {"/": {"bytes": "AAE"}}]}}, "l": [[], {}]}"#;
    for (to, value) in [
        (KEY, document),
        ("/ipns/self", r"/ipfs/bafkqaaa/a\x1b\\b"),
        ("/iprs/self/a", r#"{"a": [null, {"/": "bafkqaaa"}]}"#),
    ] {
        let publish = |value: &str| {
            json(&["publish", to, value, "--key", &key, "--connect", &address]);
        };
        let content = || {
            let got = json(&["get", to, "--key", &key, "--connect", &address]);
            [&got["value"], &got["spaces"][0]["document"]].map(Value::clone)
        };
        publish(value);
        let (got, before) = (cells(&address, &["get", to, "--key", &key]), content());
        publish(got.last().unwrap());
        let again = cells(&address, &["get", to, "--key", &key]);
        assert_eq!((got.last(), before), (again.last(), content()));
        if to != "/iprs/self/a" {
            let left = &got[got.len() - 2];
            is_taken(LIFETIMES, left, &key);
        }
    }
}
