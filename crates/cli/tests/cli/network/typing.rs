//! What is printed can be typed again, wherever such a thing is typed.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;

use super::{ADA, KEY, NOBODY, failure, json, key_file, run, smart_record, start_node, text};

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
    &["watch", KEY, "--connect", "<>"],
    &["resolve", "self", "--connect", "<>"],
    &["node", "--connect", "<>"],
    &["node", "--listen", "<>"],
    &["node", "--external", "<>"],
    &["node", "--relay", "<>"],
    &ANNOUNCE,
    &[
        "presence",
        "find",
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "--connect",
        "<>",
    ],
];
const HEX: &str = "0909090909090909090909090909090909090909090909090909090909090909";
const ANNOUNCE: [&str; 8] =
    ["presence", "announce", "--presence-key", HEX, "--handshake-key", HEX, "--connect", "<>"];
const LIFETIMES: &[Door] = &[
    &["publish", KEY, ADA, "--ttl", "<>"],
    &["publish", KEY, ADA, "--lifetime", "<>"],
    &["publish", "/ipns/self", "/ipfs/bafkqaaa", "--sequence", "1", "--lifetime", "<>"],
    &["publish", "/ipns/self", "/ipfs/bafkqaaa", "--sequence", "1", "--ttl", "<>"],
    &["publish", "/iprs/self/a", "1", "--version", "1", "--lifetime", "<>"],
    &["publish", "/iprs/self/a", "1", "--version", "1", "--ttl", "<>"],
    &["presence", "announce", "--presence-key", HEX, "--handshake-key", HEX, "--ttl", "<>"],
];

/// Fails if a door takes this for a wrong argument. Those that do not say which node they join
/// through join through `node`.
fn is_taken(doors: &[Door], typed: &str, key: &str, node: &str) {
    for door in doors {
        let mut arguments: Vec<String> =
            door.iter().map(|part| part.replace(STANDS_FOR, typed)).collect();
        if !door.contains(&"--connect") {
            arguments.extend(["--connect".to_owned(), node.to_owned()]);
        }
        let mut command = smart_record(&[]);
        command.args(&arguments).args(["--key", key]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Some run until they are stopped.
        let mut printed = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut printed).unwrap();
        if !printed.is_empty() {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
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
    of(&["key", "names"]).into_iter().for_each(|it| is_taken(KEYS, it, &key, NOBODY));
    of(&["peer", "writer", "peers"]).into_iter().for_each(|it| is_taken(PEERS, it, &key, NOBODY));
    of(&["expires_at"]).into_iter().for_each(|it| is_taken(LIFETIMES, it, &key, &address));
    is_taken(ADDRESSES, &address, &key, NOBODY);
    for seconds in ["300", "3600"] {
        is_taken(LIFETIMES, seconds, &key, &address);
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
            let publish = ["publish", to, value, "--lifetime", "1h"];
            json(&[&publish[..], &["--key", &key, "--connect", &address]].concat());
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
        let left = &got[got.len() - 2];
        is_taken(LIFETIMES, left, &key, &address);
    }
}

#[test]
fn a_path_after_a_name_is_typed_as_it_is_printed() {
    let (_node, address) = start_node(&[], &[]);
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let with = |arguments: &[&str]| -> Vec<String> {
        let all = [arguments, &["--key", &key, "--connect", &address]].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let words = |arguments: &[String]| -> Value {
        json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    words(&with(&["publish", "/ipns/self", "/ipfs/bafkqaaa"]));
    let resolve = with(&["resolve", r"self/a\x1b\\b"]);
    assert_eq!(words(&resolve)["path"], "/ipfs/bafkqaaa/a\u{1b}\\b");
    let shown = run(&resolve.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(text(&shown.stdout), "/ipfs/bafkqaaa/a\\x1b\\\\b\n");
}

#[test]
fn a_client_is_found_as_self_or_by_its_id() {
    let (_node, address) = start_node(&[], &[]);
    let (_folder, key) = key_file();
    let peer = json(&["key", "generate", &key]);
    for client in ["self", peer["peer"].as_str().unwrap()] {
        let none = failure(&["presence", "find", client, "--key", &key, "--connect", &address]);
        assert_eq!(none["exit_code"], 3, "{none}");
    }
    for nobody in ["selfish", "nobody"] {
        let wrong = failure(&["presence", "find", nobody, "--key", &key, "--connect", &address]);
        assert_eq!(wrong["exit_code"], 2, "{wrong}");
    }
    let no_key = failure(&["presence", "find", "self", "--connect", &address]);
    assert!(no_key["hint"].as_str().unwrap().contains("--key"), "{no_key}");
}
