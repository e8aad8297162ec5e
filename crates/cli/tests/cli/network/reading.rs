//! Reads in which nothing could be good, and reads in which some answers were refused.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, Limits, RecordKey, SpaceSigner, SystemClock, Timestamp,
    ipns::{IpnsBuilder, IpnsName},
    iprs::{IprsValidator, SequenceNumber},
    presence::{Announcer, ExchangeKey, PresenceKey, PresenceLimits},
};
use serde_json::Value;
use smart_record_testing::{ipns, keys::ed25519, process::lines};

use crate::local::{HOSTILE, is_safe};

use super::{
    ADA, KEY, NOBODY, Running, failure, json, run, smart_record, start_node,
    strangers::{GET_VALUE, plain, refusing},
    text,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// The time in ten minutes, by a clock that is right.
fn ahead() -> Timestamp {
    SystemClock.now().saturating_add(Duration::from_secs(600))
}

/// A smart record that says this, signed at a time.
fn record(key: &RecordKey, at: Timestamp) -> Vec<u8> {
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    signer.merge(ADA.parse().unwrap(), at, HOUR).unwrap();
    signer.record(at).encode()
}

/// The presence record of a client, signed at a time.
fn presence(client: &Keypair, at: Timestamp) -> (PresenceKey, Vec<u8>) {
    let key = PresenceKey::of(client.public().to_peer_id());
    let record = presence_under(&key, client, at);
    (key, record)
}

fn presence_under(key: &PresenceKey, client: &Keypair, at: Timestamp) -> Vec<u8> {
    let (limits, node) = (PresenceLimits::default(), ed25519(2));
    let exchange = ExchangeKey::try_from([9; 32]).unwrap();
    let mut announcer = Announcer::new(key.clone(), client.clone(), limits.clone()).unwrap();
    let half = announcer.announce(&node.public(), exchange, exchange, at, HOUR).unwrap();
    announcer.accept(half.countersign(&node, exchange, at, &limits).unwrap()).unwrap();
    announcer.record(at).encode()
}

/// The failure of a read whose standard error has nothing else.
fn refused(arguments: &[&str]) -> (Value, String) {
    let failure = failure(arguments);
    assert_eq!(failure["exit_code"], 5, "{arguments:?}: {failure}");
    let message = failure["message"].as_str().unwrap().to_owned();
    assert!(message.contains("refused"), "{arguments:?}: {failure}");
    (failure, message)
}

#[test]
fn case_15_answers_from_ahead_of_this_clock_are_told_by_every_command_that_reads() {
    let client = ed25519(1);
    let peer = client.public().to_peer_id().to_string();
    let smart = RecordKey::new(KEY);
    let (key, announced) = presence(&client, ahead());
    let node = plain(&[(&smart, &record(&smart, ahead())), (key.as_record_key(), &announced)]);
    let presence = key.to_string();
    for command in [
        &["get", KEY][..],
        &["watch", KEY],
        &["inspect", KEY],
        &["get", &presence],
        &["presence", "find", &peer],
    ] {
        let (failure, message) = refused(&[command, &["--connect", &node.address]].concat());
        assert_eq!(failure["kind"], "clock", "{command:?}: {failure}");
        assert!(message.contains(" s ahead of this clock"), "{message}");
        let hint = failure["hint"].as_str().unwrap();
        assert!(hint.contains("is the clock of this machine right?"), "{hint}");
    }
    let shown = run(&["get", KEY, "--connect", &node.address]);
    let log = text(&shown.stderr);
    assert!(log.contains("ahead of this clock") && log.contains("hint: is the clock"), "{log}");
}

#[test]
fn case_15_each_other_reason_for_which_all_answers_are_refused_is_told() {
    let owner = ed25519(1);
    let name = IpnsName::from(owner.public().to_peer_id());
    let forged = ipns::numbered(&ed25519(2), 3, "2123-11-15T22:13:20Z");
    let expired = ipns::numbered(&owner, 3, "2023-11-15T22:13:20Z");
    for (value, told, hint) in [
        (&b"garbage"[..], "malformed", "give other nodes"),
        (&forged, "the signature is not that of", "give other nodes"),
        (&expired, "expired at 2023-11-15", "has to publish it again"),
        (&[0; 11 * 1_024], "more than the limit of 10240 bytes", "give other nodes"),
    ] {
        let node = plain(&[(&name.key(), value)]);
        let key = format!("/ipns/{name}");
        for command in [["get", &key], ["inspect", &key], ["watch", &key], ["resolve", &key]] {
            let (failure, message) =
                refused(&[&command[..], &["--connect", &node.address]].concat());
            assert_eq!(failure["kind"], "refused", "{command:?}: {failure}");
            assert!(message.contains(told), "{message}");
            assert!(failure["hint"].as_str().unwrap().contains(hint), "{failure}");
        }
    }
}

#[test]
fn case_15_nothing_nobody_silence_and_a_wrong_key_are_not_the_same() {
    let (_node, address) = start_node(&[], &[]);
    let peer = NOBODY.rsplit('/').next().unwrap();
    let presence = format!("/presence/{peer}/");
    let of = |key: &'static str, code: u8, kind: &'static str, more: &[&str]| {
        for command in [&["get", key][..], &["inspect", key]] {
            let failure = failure(&[command, more].concat());
            assert_eq!((&failure["kind"], &failure["exit_code"]), (&kind.into(), &code.into()));
            assert!(!failure["hint"].as_str().unwrap().is_empty());
        }
    };
    of("/sr/cli/nothing", 3, "not-found", &["--connect", &address]);
    of("/sr/cli/nothing", 4, "unreachable", &["--connect", NOBODY]);
    let elsewhere = ["--protocol", "/elsewhere/kad/1.0.0", "--connect", &address];
    of("/sr/cli/nothing", 6, "silent", &elsewhere);
    of("/ipns/nobody", 2, "arguments", &["--connect", &address]);
    for (more, code) in
        [(&["--connect", &address][..], 3), (&["--connect", NOBODY], 4), (&elsewhere, 6)]
    {
        let found = failure(&[&["presence", "find", peer], more].concat());
        assert_eq!(found["exit_code"], code, "{found}");
        let got = failure(&[&["get", &presence], more].concat());
        assert_eq!(got["exit_code"], code, "{got}");
    }
}

#[test]
fn a_read_with_good_answers_warns_of_those_that_were_refused() {
    let (_node, address) = start_node(&[], &[]);
    json(&["publish", KEY, ADA, "--connect", &address]);
    let liar = plain(&[(&RecordKey::new(KEY), b"garbage")]);
    let both = ["--connect", &address, "--connect", &liar.address];
    let got = run(&[&["get", KEY, "--json"], &both[..]].concat());
    assert!(got.status.success(), "{}", text(&got.stderr));
    let found: Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(found["spaces"][0]["document"]["name"], "ada");
    assert_eq!(found["refused"][0]["fault"], "malformed");
    assert_eq!(found["complete"], false);
    assert_eq!(found["missing"], 1.0);
    let warnings = text(&got.stderr);
    let warnings = warnings.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let [refused, missing] = warnings.collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(refused["kind"], "warning");
    assert_eq!(missing["kind"], "warning");
    assert!(refused["message"].as_str().unwrap().starts_with("1 answer was refused: malformed"));
    assert_eq!(missing["message"], "not complete: 100 % was not shown by enough peers");
    let inspected = run(&[&["inspect", KEY], &both[..]].concat());
    assert!(inspected.status.success());
    assert!(text(&inspected.stderr).contains("warning: 1 answer was refused"));
    assert!(text(&inspected.stderr).contains("warning: not complete: 100 %"));
}

/// What `watch` prints first on standard output, and before that on standard error.
fn watched(key: &str, nodes: &[&str]) -> (String, String) {
    let mut watch = smart_record(&[&["watch", key], nodes].concat());
    watch.stderr(std::process::Stdio::piped());
    let mut watch = Running::spawn(watch);
    let log = lines(watch.child.stderr.take().unwrap());
    let shown = watch.line();
    watch.kill();
    (shown, log.recv().unwrap())
}

#[test]
fn what_is_missing_is_told_by_every_command_that_reads() {
    const MISSING: &str = "not complete: 100 % was not shown by enough peers";
    let (client, now) = (ed25519(1), SystemClock.now());
    let peer = client.public().to_peer_id();
    let smart = RecordKey::new(KEY);
    let (announced_under, announced) = presence(&client, now);
    let name = IpnsName::from(peer);
    let named = ipns::numbered(&client, 3, "2123-11-15T22:13:20Z");
    let holder = plain(&[
        (&smart, &record(&smart, now)),
        (announced_under.as_record_key(), &announced),
        (&name.key(), &named),
    ]);
    let (_empty, at_empty) = start_node(&[], &[]);
    let silent = refusing(GET_VALUE);
    let (peer, name, announced_under) =
        (peer.to_string(), format!("/ipns/{name}"), announced_under.to_string());
    let some = ["--connect", &holder.address, "--connect", &silent.address];
    let none = ["--connect", &at_empty, "--connect", &silent.address];
    for command in [
        ["get", KEY],
        ["get", &name],
        ["get", &announced_under],
        ["inspect", KEY],
        ["inspect", &name],
        ["resolve", &name],
    ]
    .iter()
    .map(|command| &command[..])
    .chain([&["presence", "find", &peer][..]])
    {
        let found = run(&[command, &some].concat());
        let log = text(&found.stderr);
        assert!(found.status.success() && !found.stdout.is_empty(), "{command:?}: {log}");
        assert_eq!(log, format!("warning: {MISSING}\n"), "{command:?}");

        let nothing = failure(&[command, &none].concat());
        assert_eq!((&nothing["kind"], &nothing["exit_code"]), (&"not-found".into(), &3.into()));
        assert!(nothing["message"].as_str().unwrap().ends_with(MISSING), "{command:?}: {nothing}");
        assert!(nothing["hint"].as_str().unwrap().starts_with("try again"), "{nothing}");
        assert_eq!((&nothing["complete"], &nothing["missing"]), (&false.into(), &1.0.into()));

        let nothing = failure(&[command, &["--connect", &at_empty]].concat());
        assert!(!nothing["message"].as_str().unwrap().contains("complete"), "{nothing}");
        assert!(nothing["hint"].as_str().unwrap().starts_with("check the key"), "{nothing}");
        assert_eq!((&nothing["complete"], &nothing["missing"]), (&true.into(), &0.0.into()));
    }
    for key in [KEY, &name, &announced_under] {
        let (shown, log) = watched(key, &some);
        assert!(!shown.starts_with("nothing under"), "{shown}");
        assert_eq!(log, format!("warning: {MISSING}"));
        let (shown, log) = watched(key, &none);
        assert!(shown.starts_with("nothing under"), "{shown}");
        assert_eq!(log, format!("warning: {MISSING}"));
    }
}

#[test]
fn case_4_what_strangers_wrote_is_escaped_by_each_command_that_reads() {
    let (owner, now) = (ed25519(1), SystemClock.now());
    let peer = owner.public().to_peer_id();
    let until = now.saturating_add(HOUR);
    let smart = RecordKey::new(format!("/sr/{HOSTILE}"));
    let mut signer = SpaceSigner::new(smart.clone(), owner.clone(), Limits::default());
    signer.merge([(HOSTILE, HOSTILE)].into_iter().collect(), now, HOUR).unwrap();
    let said = signer.record(now).encode();
    let name = IpnsName::from(peer);
    let path = format!("/ipfs/bafkqaaa/{HOSTILE}");
    let named = IpnsBuilder::new(path, 1, until).sign(&owner, now).unwrap();
    let iprs = RecordKey::new(format!("/iprs/{peer}/{HOSTILE}"));
    let signed = SequenceNumber::record(HOSTILE, 3).sign(&iprs, &owner).unwrap();
    let signed = IprsValidator::default().marshal(&signed).unwrap();
    let present = PresenceKey::with_path(peer, HOSTILE);
    let announced = presence_under(&present, &owner, now);
    let node = plain(&[
        (&smart, &said),
        (&name.key(), named.as_bytes()),
        (&iprs, &signed),
        (present.as_record_key(), &announced),
    ]);
    let name = format!("/ipns/{name}");
    let keys = [smart, iprs, present.as_record_key().clone()].map(|key| key.to_string());
    for key in keys.iter().chain([&name]) {
        for json in [&[][..], &["--json"]] {
            for command in ["get", "inspect"] {
                let read = [&[command, key, "--connect", &node.address], json].concat();
                let (shown, log) = (run(&read), text(&run(&read).stderr));
                let lines = text(&shown.stdout);
                assert!(shown.status.success() && !lines.is_empty(), "{read:?}: {log}");
                assert!(is_safe(&lines) && is_safe(&log), "{read:?}: {lines:?} {log:?}");
            }
            let mut watch =
                smart_record(&[&["watch", key, "--connect", &node.address], json].concat());
            watch.stderr(std::process::Stdio::null());
            let line = Running::spawn(watch).line();
            assert!(is_safe(&line), "{key}: {line:?}");
        }
    }
    for json in [&[][..], &["--json"]] {
        let resolved = run(&[&["resolve", &name, "--connect", &node.address], json].concat());
        assert!(resolved.status.success() && is_safe(&text(&resolved.stdout)));
    }
}

#[test]
fn case_4_what_strangers_wrote_is_escaped_in_the_log() {
    const HOSTILE: &str = "a\u{9b}31m\u{202e}b\u{1b}]0;c\u{7}\n1";
    let owner = ed25519(1);
    let name = IpnsName::from(owner.public().to_peer_id());
    let record = ipns::numbered(&owner, 3, HOSTILE);
    let key = RecordKey::new(format!("/sr/{HOSTILE}"));
    let node = plain(&[(&name.key(), &record), (&key, HOSTILE.as_bytes())]);
    for key in [format!("/ipns/{name}"), format!("/sr/{HOSTILE}")] {
        let mut command = smart_record(&["get", &key, "--connect", &node.address]);
        let log = text(&command.env("RUST_LOG", "trace").output().unwrap().stderr);
        assert!(log.contains("invalid answer") && log.contains("error: "), "{log}");
        for line in log.lines() {
            assert_eq!(libp2p_smart_record::printable(line).to_string(), line);
        }
    }
}

#[test]
fn case_15_a_publication_tells_of_what_was_refused_when_the_space_was_read() {
    let smart = RecordKey::new(KEY);
    for (value, told) in [
        (
            &record(&smart, ahead())[..],
            "s ahead of this clock; is the clock of this machine right?",
        ),
        (b"garbage", "1 answer was refused: malformed"),
    ] {
        let node = plain(&[(&smart, value)]);
        let published = run(&["publish", KEY, ADA, "--connect", &node.address]);
        let log = text(&published.stderr);
        assert!(published.status.success(), "{log}");
        assert!(log.starts_with("warning: 1 answer was refused") && log.contains(told), "{log}");
    }
}

#[test]
fn one_liar_among_peers_without_a_record_does_not_hide_that_there_is_nothing() {
    let (_a, at_a) = start_node(&[], &[]);
    let (_b, at_b) = start_node(&[], &[]);
    let liar = plain(&[(&RecordKey::new(KEY), b"garbage")]);
    let all = ["--connect", &at_a, "--connect", &at_b, "--connect", &liar.address];
    let nothing = run(&[&["get", KEY], &all[..]].concat());
    let log = text(&nothing.stderr);
    assert_eq!(nothing.status.code(), Some(3), "{log}");
    assert!(log.contains("warning: 1 answer was refused"), "{log}");
}
