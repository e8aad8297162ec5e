//! Signing on the command line: IPNS names, public keys and IPRS.

use libp2p::identity::Keypair;
use libp2p_smart_record::ipns::IpnsName;
use serde_json::Value;

use super::{NOBODY, failure, json, key_file, run, start_node, strangers::plain, text};

const FIRST: &str = "/ipfs/bafkqaaa";
const THEN: &str = "/ipfs/bafkqaalb";

/// A node, a key file, and commands with both.
struct Bench {
    _node: super::Running,
    address: String,
    _folder: tempfile::TempDir,
    key: String,
    peer: String,
}

impl Bench {
    fn start() -> Self {
        let (_node, address) = start_node(&[], &[]);
        let (_folder, key) = key_file();
        let peer = json(&["key", "generate", &key])["peer"].as_str().unwrap().to_owned();
        Self { _node, address, _folder, key, peer }
    }

    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--key", &self.key, "--connect", &self.address]].concat()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        json(&self.with(arguments))
    }

    fn failure(&self, arguments: &[&str]) -> Value {
        failure(&self.with(arguments))
    }
}

#[test]
fn a_name_is_published_and_resolved_and_its_next_number_comes_from_the_network() {
    let bench = Bench::start();
    let name = IpnsName::from(bench.peer.parse::<libp2p::PeerId>().unwrap());
    let key = format!("/ipns/{name}");
    let put = bench.json(&["publish", "/ipns/self", FIRST, "--lifetime", "24h", "--ttl", "90s"]);
    assert_eq!(
        (&put["key"], &put["seq"], &put["value"]),
        (&key.as_str().into(), &"0".into(), &FIRST.into())
    );
    assert_eq!(put["ttl_seconds"], 90);

    // The same again keeps its number and lives longer; another value has the next.
    let again = bench.json(&["publish", &key, FIRST]);
    assert_eq!(again["seq"], "0");
    assert!(again["expires_at"].as_str().unwrap() > put["expires_at"].as_str().unwrap());
    assert_eq!(again["ttl_seconds"], 300);
    assert_eq!(bench.json(&["publish", &bench.peer_key(), THEN])["seq"], "1");
    assert_eq!(bench.json(&["publish", &key, THEN, "--sequence", "9"])["seq"], "9");
    assert_eq!(bench.json(&["publish", &key, FIRST])["seq"], "10");

    for typed in [&key[..], &name.to_string(), &bench.peer, "self", "/ipns/self"] {
        let shown = run(&bench.with(&["resolve", typed]));
        assert_eq!(text(&shown.stdout), format!("{FIRST}\n"), "{typed}: {}", text(&shown.stderr));
    }
    let resolved = bench.json(&["resolve", &format!("{key}/a/b")]);
    assert_eq!(resolved["path"], format!("{FIRST}/a/b"));
    assert_eq!((&resolved["seq"], &resolved["names"][0]), (&"10".into(), &key.as_str().into()));

    let older = bench.failure(&["publish", &key, THEN, "--sequence", "4"]);
    assert_eq!(older["exit_code"], 5);
    assert!(older["message"].as_str().unwrap().contains("sequence 10"), "{older}");
}

impl Bench {
    fn peer_key(&self) -> String {
        format!("/ipns/{}", self.peer)
    }
}

#[test]
fn names_that_point_to_names_are_followed_and_circles_are_told() {
    let (a, b) = (Bench::start(), Bench::start());
    let (of_a, of_b) = (a.peer_key(), b.peer_key());
    json(&["publish", &of_b, FIRST, "--key", &b.key, "--connect", &a.address]);
    let put = a.json(&["publish", &of_a, &format!("{of_b}/docs")]);
    assert_eq!(a.json(&["resolve", &of_a])["path"], format!("{FIRST}/docs"));
    let one = a.json(&["resolve", &of_a, "--recursive=false"]);
    assert_eq!(one["path"], put["value"]);

    json(&["publish", &of_b, &of_a, "--key", &b.key, "--connect", &a.address]);
    let circle = a.failure(&["resolve", &of_a]);
    assert_eq!(circle["exit_code"], 5);
    assert!(circle["message"].as_str().unwrap().contains("more than 32 names"), "{circle}");
    // A name of DNS stays as it is.
    a.json(&["publish", &of_a, "/ipns/example.com"]);
    assert_eq!(a.json(&["resolve", &of_a])["path"], "/ipns/example.com");
}

#[test]
fn without_what_there_is_the_number_has_to_be_given() {
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let publish =
        |more: &[&str]| [&["publish", "/ipns/self", FIRST, "--key", &key], more].concat().join(" ");
    let run = |more: &[&str]| failure(&publish(more).split(' ').collect::<Vec<_>>());
    assert_eq!(run(&["--connect", NOBODY])["exit_code"], 4);
    // What was refused may have any number.
    let shown = json(&["key", "show", &key]);
    let owner: libp2p::PeerId = shown["peer"].as_str().unwrap().parse().unwrap();
    let liar = plain(&[(&IpnsName::from(owner).key(), b"garbage")]);
    let refused = run(&["--connect", &liar.address]);
    assert_eq!(refused["exit_code"], 5, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("malformed"), "{refused}");
    let given = publish(&["--connect", &liar.address, "--sequence", "3"]);
    assert_eq!(json(&given.split(' ').collect::<Vec<_>>())["seq"], "3");
}

#[test]
fn what_cannot_be_signed_is_told_with_a_way_out() {
    let bench = Bench::start();
    let other = IpnsName::from(&Keypair::generate_ed25519().public());
    let greatest = i64::MAX.to_string();
    let beyond = (u64::try_from(i64::MAX).unwrap() + 1).to_string();
    for (arguments, code, told, hint) in [
        (&["publish", "/ipns/self", "bafkqaaa"][..], 2, "not a content path", "/ipfs/CID"),
        (&["publish", "/ipns/self"], 2, "PATH is missing", "--help"),
        (&["publish", "/ipns/self", FIRST, "--sequence", &beyond], 5, "2^63 - 1", "--sequence"),
        (
            &["publish", "/ipns/self", FIRST, "--sequence", "18446744073709551616"],
            2,
            "--sequence",
            "help",
        ),
        (
            &["publish", "/ipns/self", FIRST, "--lifetime", "60s", "--ttl", "1h"],
            5,
            "the ttl is longer",
            "--lifetime longer",
        ),
        (
            &["publish", "/ipns/self", FIRST, "--lifetime", "2001-01-01T00:00:00Z"],
            5,
            "expired",
            "in the future",
        ),
        (&["publish", &format!("/ipns/{other}"), FIRST], 2, "is not a key of", "self"),
        (&["publish", &format!("/iprs/{}/a", other.peer_id()), "1"], 2, "is not a key of", "self"),
        (&["publish", "/ipns/self", FIRST, "--replace"], 2, "--replace", "replaces"),
        (
            &["publish", "/ipns/self", FIRST, "--version", "1"],
            2,
            "--version means nothing",
            "--help",
        ),
        (&["publish", "/sr/a", "{}", "--sequence", "1"], 2, "--sequence means nothing", "--help"),
        (&["publish", "/pk/self", "--ttl", "1h"], 2, "--ttl means nothing", "--help"),
        (&["publish", "/pk/self", "00"], 2, "not a public key", "get"),
        (&["publish", "/iprs/self/a", "hello"], 2, "not DAG-JSON", "hello"),
        (
            &["publish", "/iprs/self/a", "1", "--scheme", "datetime-range"],
            2,
            "has an end",
            "--lifetime",
        ),
        (&["publish", "/presence/self/", "{}"], 2, "nothing is published", "presence announce"),
    ] {
        let failed = bench.failure(arguments);
        assert_eq!(failed["exit_code"], code, "{arguments:?}: {failed}");
        assert!(failed["message"].as_str().unwrap().contains(told), "{arguments:?}: {failed}");
        assert!(failed["hint"].as_str().unwrap().contains(hint), "{arguments:?}: {failed}");
    }
    bench.json(&["publish", "/ipns/self", FIRST, "--sequence", &greatest]);
    // No number is left.
    assert_eq!(bench.failure(&["publish", "/ipns/self", THEN])["exit_code"], 5);
    for key in ["/ipns/self", "/pk/self", "/iprs/self/a"] {
        let missing = failure(&["publish", key, FIRST, "--connect", NOBODY]);
        assert_eq!(missing["exit_code"], 2, "{missing}");
        assert!(missing["hint"].as_str().unwrap().contains("--key"), "{missing}");
    }
}

#[test]
fn case_11_a_key_that_stands_twice_in_what_is_published_is_refused() {
    let bench = Bench::start();
    for (to, value, told) in [
        ("/sr/a", r#"{"a":1,"a":2}"#, r#"the key "a" stands twice"#),
        ("/sr/a", r#"{"a":[{"b":1,"b":2}]}"#, "twice"),
        ("/iprs/self/a", r#"{"a":1,"a":2}"#, "stands twice"),
        ("/iprs/self/a", r#"[{"b":{"a":1,"a":1}}]"#, "stands twice"),
    ] {
        let failed = bench.failure(&["publish", to, value]);
        assert_eq!(failed["exit_code"], 2, "{value}: {failed}");
        assert!(failed["message"].as_str().unwrap().contains(told), "{value}: {failed}");
    }
}

#[test]
fn a_public_key_is_published_by_its_owner_and_by_whoever_has_it() {
    let bench = Bench::start();
    let put = bench.json(&["publish", "/pk/self"]);
    assert_eq!(put["peer"], bench.peer.as_str());
    let (got, hex) = (bench.json(&["get", "/pk/self"]), put["public_key"].as_str().unwrap());
    assert_eq!(got["public_key"], hex);
    let (_node, elsewhere) = start_node(&[], &[]);
    let key = got["key"].as_str().unwrap();
    json(&["publish", key, hex, "--connect", &elsewhere]);
    assert_eq!(json(&["get", key, "--connect", &elsewhere])["public_key"], hex);
    let other = Keypair::generate_ed25519().public().to_peer_id();
    let wrong = failure(&["publish", &format!("/pk/{other}"), hex, "--connect", &elsewhere]);
    assert_eq!(wrong["exit_code"], 5, "{wrong}");
}

#[test]
fn iprs_records_of_each_scheme_are_published_and_replace_each_other() {
    let bench = Bench::start();
    let publish = |value: &str, more: &[&str]| {
        bench.json(&[&["publish", "/iprs/self/a", value], more].concat());
        let got = bench.json(&["get", "/iprs/self/a"]);
        assert_eq!(got["value"], serde_json::from_str::<Value>(value).unwrap());
        (got["scheme"].clone(), got["version"].clone(), got["seq"].clone())
    };
    let of = |scheme: &str, version: u64, seq: Option<&str>| -> (Value, Value, Value) {
        (scheme.into(), version.into(), seq.into())
    };
    assert_eq!(publish(r#""hello""#, &[]), of("sequence-number", 0, Some("0")));
    assert_eq!(publish(r#"{"a":[1,null]}"#, &[]), of("sequence-number", 0, Some("1")));
    assert_eq!(publish("2", &["--sequence", "7"]), of("sequence-number", 0, Some("7")));
    assert_eq!(publish("3", &["--lifetime", "1h"]), of("datetime-range", 1, None));
    assert_eq!(publish("4", &["--lifetime", "30m"]), of("datetime-range", 2, None));
    assert_eq!(publish("5", &["--ttl", "1h"]), of("ttl-since-receipt", 3, None));
    assert_eq!(publish("6", &["--scheme", "ancestry"]), of("ancestry", 4, None));
    assert_eq!(publish("7", &[]), of("ancestry", 4, None), "the next of the chain");
    assert_eq!(publish("8", &["--version", "9"]), of("ancestry", 9, None));
    let older = bench.failure(&["publish", "/iprs/self/a", "9", "--sequence", "8"]);
    assert!(older["message"].as_str().unwrap().contains("version 9"), "{older}");
}

#[test]
fn the_help_of_publish_and_resolve_has_examples() {
    for (command, example) in [
        ("publish", "smart-record publish /ipns/self /ipfs/"),
        ("resolve", "smart-record resolve k51"),
    ] {
        let help = text(&run(&[command, "--help"]).stdout);
        assert!(help.contains("Examples:") && help.contains(example), "{help}");
    }
}
