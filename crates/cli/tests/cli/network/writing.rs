//! Writes that nobody keeps, and writes of something older than what there is.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    AllowList, Clock, Limits, MinWork, Open, RecordKey, Registry, SpaceRules, SystemClock,
    ipns::{IpnsBuilder, IpnsName},
    iprs::{IprsValidator, SequenceNumber},
};

use super::{
    ADA, KEY, NOBODY, Running, failure, json, key_file, run, smart_record, start_node,
    strangers::{PUT_VALUE, plain, refusing, with_rules},
    text,
};

/// A file with these bytes.
fn file_of(bytes: &[u8]) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let name = file.path().to_str().unwrap().to_owned();
    (file, name)
}

fn numbered(owner: &Keypair, sequence: u64) -> Vec<u8> {
    let now = SystemClock.now();
    let until = now.saturating_add(Duration::from_secs(3_600));
    IpnsBuilder::new("/ipfs/bafkqaaa", sequence, until)
        .sign(owner, now)
        .unwrap()
        .as_bytes()
        .to_vec()
}

#[test]
fn case_5_what_is_older_than_what_there_is_is_refused_and_the_same_bytes_are_not() {
    let owner = Keypair::generate_ed25519();
    let name = IpnsName::from(&owner.public());
    let key = format!("/ipns/{name}");
    let [old, new] = [7, 8].map(|sequence| numbered(&owner, sequence));
    let ((_a, old), (_b, same)) = (file_of(&old), file_of(&new));
    let (_ours, at_ours) = start_node(&[], &[]);
    // A plain node keeps the last PUT, so it must not even be sent the old one.
    let theirs = plain(&[]);
    for address in [&at_ours, &theirs.address] {
        let put = |file: &str| ["put", &key, file, "--connect", address].map(str::to_owned);
        json(&put(&same).each_ref().map(String::as_str));
        json(&put(&same).each_ref().map(String::as_str));
        let refused = failure(&put(&old).each_ref().map(String::as_str));
        assert_eq!((&refused["kind"], &refused["exit_code"]), (&"refused".into(), &5.into()));
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("older than what there is"), "{message}");
        assert!(message.contains("sequence 8"), "{message}");
        assert!(!refused["hint"].as_str().unwrap().contains("--protocol"), "{refused}");
        assert_eq!(json(&["get", &key, "--connect", address])["seq"], "8");
    }
}

#[test]
fn case_5_an_older_iprs_record_is_refused_too() {
    let author = Keypair::generate_ed25519();
    let key = format!("/iprs/{}/a", author.public().to_peer_id());
    let [(_a, old), (_b, new)] = [2, 3].map(|sequence| {
        let record = SequenceNumber::record("hello", sequence);
        let record = record.sign(&RecordKey::new(key.as_str()), &author).unwrap();
        file_of(&IprsValidator::default().marshal(&record).unwrap())
    });
    let (_node, address) = start_node(&[], &[]);
    json(&["put", &key, &new, "--connect", &address]);
    let refused = failure(&["put", &key, &old, "--connect", &address]);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("older") && message.contains("sequence 3"), "{message}");
    assert_eq!(refused["exit_code"], 5);
}

#[test]
fn case_5_an_older_version_is_refused_within_a_minute_of_the_read_that_it_is_signed_after() {
    let (_ours, at_ours) = start_node(&[], &[]);
    let theirs = plain(&[]);
    for address in [&at_ours, &theirs.address] {
        let (_folder, key) = key_file();
        json(&["key", "generate", &key]);
        let with = ["--key", &key, "--connect", address];
        let publish = ["publish", "/iprs/self/a"];
        json(&[&publish[..], &["1", "--version", "5"], &with].concat());
        // The sequence comes from a read, so the write is within a minute of it.
        let refused = failure(&[&publish[..], &["2", "--version", "4"], &with].concat());
        assert_eq!(refused["exit_code"], 5, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("version 5"), "{refused}");
        assert_eq!(json(&[&["get", "/iprs/self/a"], &with[..]].concat())["version"], 5);
    }
}

/// A node that keeps nothing of anybody, although it acknowledges all.
fn keeps_nothing() -> super::strangers::Stranger {
    let nobody = SpaceRules::new(Limits::default(), AllowList::from_iter([]));
    with_rules(Registry::empty().with("sr", nobody).unwrap())
}

#[test]
fn a_write_that_no_peer_keeps_is_a_failure_of_every_command_that_writes() {
    let node = keeps_nothing();
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let public_key = Keypair::generate_ed25519().public();
    let (_public_key, public_key_file) = file_of(&public_key.encode_protobuf());
    let public_key = format!("/pk/{}", public_key.to_peer_id());
    let read = Keypair::generate_ed25519();
    let (_file, record) = file_of(&numbered(&read, 1));
    let name = format!("/ipns/{}", IpnsName::from(&read.public()));
    let hex = "09".repeat(32);
    for command in [
        &["publish", KEY, ADA][..],
        &["publish", KEY, ADA, "--replace"],
        &["publish", "/ipns/self", "/ipfs/bafkqaaa", "--sequence", "1"],
        &["publish", "/pk/self"],
        &["publish", "/iprs/self/a", "1", "--sequence", "1"],
        &["withdraw", KEY],
        &["put", &name, &record],
        &["put", &public_key, &public_key_file],
        &["presence", "announce", "--presence-key", &hex, "--handshake-key", &hex],
    ] {
        let failed = failure(&[command, &["--key", &key, "--connect", &node.address]].concat());
        assert_eq!(failed["exit_code"], 5, "{command:?}: {failed}");
        let message = failed["message"].as_str().unwrap();
        assert!(message.contains("no peer keeps the record"), "{command:?}: {failed}");
        assert!(!failed["hint"].as_str().unwrap().contains("--protocol"), "{failed}");
    }
}

#[test]
fn what_was_published_where_work_is_demanded_is_withdrawn_with_work() {
    let rules = SpaceRules::new(Limits::default(), MinWork::new(10, Open));
    let node = with_rules(Registry::empty().with("sr", rules).unwrap());
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let with = ["--key", &key, "--connect", &node.address];
    let (publish, withdraw, work) = (["publish", KEY, ADA], ["withdraw", KEY], ["--work", "10"]);
    let without = |command: &[&str]| {
        let failed = failure(&[command, &with].concat());
        assert_eq!(failed["exit_code"], 5, "{failed}");
        assert!(failed["hint"].as_str().unwrap().contains("--work"), "{failed}");
    };
    without(&publish);
    json(&[&publish[..], &with, &work].concat());
    without(&withdraw);
    assert_eq!(json(&["get", KEY, "--connect", &node.address])["spaces"][0]["work"], 10);
    let withdrawn = run(&[&withdraw[..], &with, &work].concat());
    assert!(withdrawn.status.success() && withdrawn.stderr.is_empty(), "no warning");
    assert_eq!(failure(&["get", KEY, "--connect", &node.address])["kind"], "not-found");

    // No stamp is looked for in vain.
    let of_value = failure(&[&["withdraw", "/ipns/self", "--work", "40"], &with[..]].concat());
    assert_eq!(of_value["exit_code"], 2, "{of_value}");
}

#[test]
fn a_refusal_by_a_peer_that_closes_the_stream_is_told_as_one() {
    let node = refusing(PUT_VALUE);
    for command in [&["publish", KEY, ADA][..], &["publish", KEY, ADA, "--confirm"]] {
        let failed = failure(&[command, &["--connect", &node.address]].concat());
        assert_eq!((&failed["kind"], &failed["exit_code"]), (&"refused".into(), &5.into()));
        assert!(failed["message"].as_str().unwrap().contains("was refused by the peers"));
    }
}

#[test]
fn records_that_break_a_rule_are_refused_before_they_are_sent() {
    let (_node, address) = start_node(&[], &[]);
    let owner = Keypair::generate_ed25519();
    let peer = owner.public().to_peer_id();
    let public_key = Keypair::generate_ed25519().public().encode_protobuf();
    let expired = smart_record_testing::ipns::numbered(&owner, 1, "2023-11-15T22:13:20Z");
    for (key, value, told) in [
        (format!("/pk/{peer}"), &public_key[..], "the public key is that of"),
        (format!("/ipns/{peer}"), &expired, "expired at"),
        (format!("/ipns/{peer}"), &[0; 11 * 1_024], "more than the limit"),
        (format!("/iprs/{peer}/a"), b"x", "malformed"),
        (KEY.to_owned(), b"x", "malformed"),
    ] {
        let (_file, file) = file_of(value);
        let failed = failure(&["put", &key, &file, "--connect", &address]);
        assert_eq!(failed["exit_code"], 5, "{failed}");
        assert!(failed["message"].as_str().unwrap().contains(told), "{failed}");
    }
}

#[test]
fn a_write_among_silent_peers_and_among_none_is_not_taken_for_one_that_was_refused() {
    let (_node, address) = start_node(&[], &[]);
    let elsewhere = ["--protocol", "/elsewhere/kad/1.0.0", "--connect", &address];
    let silent = failure(&[&["publish", KEY, ADA], &elsewhere[..]].concat());
    assert_eq!((&silent["kind"], &silent["exit_code"]), (&"silent".into(), &6.into()), "{silent}");
    let nobody = failure(&["publish", KEY, ADA, "--connect", NOBODY]);
    assert_eq!((&nobody["kind"], &nobody["exit_code"]), (&"unreachable".into(), &4.into()));
}

#[cfg(unix)]
#[test]
fn a_withdrawal_of_presence_that_nobody_takes_is_a_failure() {
    let (node, address) = start_node(&[], &[]);
    let hex = "09".repeat(32);
    let mut announce = smart_record(&["presence", "announce", "--connect", &address]);
    announce.args(["--presence-key", &hex, "--handshake-key", &hex]);
    announce.stderr(std::process::Stdio::null());
    let announce = Running::spawn(announce);
    announce.line();
    node.kill();
    let code = announce.stop(rustix::process::Signal::INT);
    assert!(matches!(code, Some(4 | 6)), "{code:?}");
}

#[test]
fn a_confirmed_write_names_its_holders() {
    let (_node, address) = start_node(&[], &[]);
    let shown = run(&["publish", KEY, ADA, "--confirm", "--connect", &address]);
    assert!(text(&shown.stdout).contains("acknowledged by 1 peer; held by 1"));
}
