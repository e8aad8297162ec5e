//! The command without a network.

use crate::command::{NOBODY, failure, json, run, smart_record, text};
#[cfg(unix)]
use crate::command::{limited, start_node};
use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, Dict, Extensions, Limits, RecordKey, Seq, SmartRecord, SystemClock, Update, UpdateKind,
    Writer,
    ipns::Eol,
    iprs::{IprsValidator, SequenceNumber},
    printable,
};
use serde_json::Value;
use smart_record_testing::{ipns::*, keys::ed25519};
use std::time::Duration;

#[test]
fn the_demo_keeps_its_promises() {
    let run = run(&["demo", "--nodes", "5", "--writers", "3", "--json"]);
    let (out, log) = (text(&run.stdout), text(&run.stderr));
    assert!(run.status.success(), "{log}");
    // One object and nothing else; progress goes to standard error.
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["nodes"], 5);
    assert_eq!(summary["writers"], 3);
    assert_eq!(summary["spaces_read"], 3);
    assert_eq!(summary["spaces_after_loss"], 2, "one of three has withdrawn");
    assert_eq!(summary["converged"], true);
    assert!(summary["attacks_sent"].as_u64().unwrap() >= 7);
    assert_eq!(summary["attacks_accepted"], 0);
    assert_eq!(summary["expired_visible"], 0);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    let refused = log.lines().filter(|line| line.starts_with("✓ refused: ")).count();
    assert_eq!(refused as u64, summary["attacks_sent"].as_u64().unwrap(), "{log}");
}

#[test]
fn the_demo_prints_a_table() {
    let run = run(&["demo", "--nodes", "3", "--writers", "2"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let out = text(&run.stdout);
    for column in ["writer", "seq", "expires in", "document"] {
        assert!(out.contains(column), "{out}");
    }
    assert!(out.contains(r#"{"name": "writer 1", "seat": 1}"#), "{out}");
}

/// What `inspect` shows of an IPNS record in a file: the JSON, and the text.
fn inspected(owner: &Keypair, record: &[u8]) -> (Value, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), record).unwrap();
    let key = format!("/ipns/{}", owner.public().to_peer_id());
    let arguments = ["inspect", file.path().to_str().unwrap(), "--under", &key];
    let shown = run(&arguments);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    (json(&arguments), text(&shown.stdout))
}

#[test]
fn cases_4_and_8_the_value_of_an_ipns_record_is_a_path_on_one_line() {
    let owner = ed25519(1);
    for (value, path, shown) in [
        (&[1, 0x55, 0, 0][..], "/ipfs/bafkqaaa", "/ipfs/bafkqaaa"),
        (b"", "/ipfs/bafkqaaa", "/ipfs/bafkqaaa"),
        (
            b"/ipfs/bafkqaaa/\x1b]0;evil\x07\t0\t1",
            "/ipfs/bafkqaaa/\x1b]0;evil\x07\t0\t1",
            r"/ipfs/bafkqaaa/\x1b]0;evil\x07\x090\x091",
        ),
        (b"/ipfs/x\x1b]0;evil\x07\n", r"/ipfs/x\x1b]0;evil\x07\x0a", r"/ipfs/x\x1b]0;evil\x07\x0a"),
        (b"\xff", r"\xff", r"\xff"),
    ] {
        let data = fields()
            .with("Value", cbor::bytes(value))
            .with("Validity", cbor::bytes(b"2123-11-15T22:13:20Z"));
        let (json, text) = inspected(&owner, &record(&owner, &data));
        assert_eq!(json["value"], path);
        let lines: Vec<_> = text.lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect();
        assert_eq!(lines[1][3..], [shown], "{text}");
        assert!(text.chars().all(|c| !c.is_control() || "\t\n".contains(c)), "{text:?}");
    }
}

/// Characters of each kind that a terminal acts upon or does not show.
pub const HOSTILE: &str = "a\u{9b}31mb\u{202e}c\u{7f}\u{1b}]0;d\u{7}\t0\n1\u{85}\u{2028}\u{200b}";

pub fn is_safe(shown: &str) -> bool {
    let is_safe = |line: &str| line.split('\t').all(|cell| printable(cell).to_string() == cell);
    shown.lines().all(is_safe)
}

#[test]
fn case_4_what_strangers_wrote_is_escaped_in_rows_and_in_json() {
    let (owner, now) = (ed25519(1), SystemClock.now());
    let peer = owner.public().to_peer_id();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();

    let iprs = RecordKey::new(format!("/iprs/{peer}/a").as_bytes());
    let record = SequenceNumber::record(HOSTILE, 3).sign(&iprs, &owner).unwrap();
    let iprs_bytes = IprsValidator::default().marshal(&record).unwrap();

    let smart = RecordKey::from("/sr/a");
    let until = now.saturating_add(Duration::from_secs(3_600));
    let mut document = Dict::new();
    document.insert(HOSTILE, HOSTILE);
    let update = Update {
        seq: Seq::next(None, now),
        expires_at: until,
        retain_until: until,
        kind: UpdateKind::Merge,
        document,
        extensions: Extensions::new(),
    };
    let update = update.sign(&smart, &owner, &Limits::default()).unwrap();
    let mut record = SmartRecord::new(smart.clone());
    record.insert(Writer::from(&owner.public()), update).unwrap();

    for (key, bytes) in [(iprs.to_string(), iprs_bytes), (smart.to_string(), record.encode())] {
        std::fs::write(file, bytes).unwrap();
        let shown = run(&["inspect", file, "--under", &key]);
        let lines = text(&shown.stdout);
        assert!(shown.status.success() && is_safe(&lines), "{lines:?}");
        assert_eq!(lines.lines().count(), 2, "a heading and one row: {lines:?}");
        let shown = text(&run(&["inspect", file, "--under", &key, "--json"]).stdout);
        assert!(is_safe(&shown), "{shown:?}");
        let json: Value = serde_json::from_str(&shown).unwrap();
        let said = [&json["value"], &json["spaces"][0]["document"][HOSTILE]];
        assert!(said.contains(&&HOSTILE.into()), "{json}");
    }

    for json in [&[][..], &["--json"]] {
        for arguments in [["inspect", HOSTILE, "--under", "/sr/a"], ["put", "/sr/a", HOSTILE, "-c"]]
        {
            let more = if arguments[0] == "put" { &[NOBODY][..] } else { &[] };
            let failed = text(&run(&[&arguments[..], more, json].concat()).stderr);
            assert!(is_safe(&failed) && failed.contains("failed to read"), "{failed:?}");
        }
    }
}

#[test]
fn case_4_wrong_arguments_are_echoed_without_control_or_bidi_characters() {
    for arguments in [
        &[HOSTILE][..],
        &["get", "/sr/a", HOSTILE],
        &["get", HOSTILE, "--connect", NOBODY],
        &["get", "/sr/a", "--connect", HOSTILE],
        &["get", "/sr/a", "--protocol", HOSTILE],
        &["publish", "/sr/a", HOSTILE, "--connect", NOBODY],
        &["publish", "/sr/a", "{}", "--ttl", HOSTILE],
        &["publish", "/iprs/self/a", "1", "--scheme", HOSTILE],
        &["presence", "find", HOSTILE],
        &["demo", "--nodes", HOSTILE],
        &["resolve", HOSTILE, "--connect", NOBODY],
        &["key", "show", HOSTILE],
        &["inspect", HOSTILE],
    ] {
        for json in [&[][..], &["--json"]] {
            let failed = run(&[arguments, json].concat());
            let told = text(&failed.stderr);
            assert!(!failed.status.success() && is_safe(&told), "{arguments:?}: {told:?}");
            assert!(!told.is_empty() && failed.stdout.is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn case_7_a_ttl_beyond_the_eol_is_shown_as_what_is_left() {
    let owner = ed25519(1);
    let eol = Eol::from(SystemClock.now().saturating_add(Duration::from_secs(3_600))).to_string();
    let data = fields()
        .with("Validity", cbor::bytes(eol.as_bytes()))
        .with("TTL", cbor::uint(7_200_000_000_000));
    let (json, _) = inspected(&owner, &record(&owner, &data));
    assert!(json["ttl_seconds"].as_u64().unwrap() <= 3_600, "{json}");
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, hint) in [
        (&["demo", "--nodes", "2"][..], "3..=64"),
        (&["demo", "--writers", "1"], "2..=63"),
        (&["demo", "--nodes", "4", "--writers", "4"], "at most --writers 3"),
        (&["demo", "--nodes", "many"], "invalid"),
        (&["dmo"], "demo"),
        (&["publish", "/sr/a", "--connect", NOBODY], "DOCUMENT"),
        (&["publish", "/sr/a", "[1]", "--connect", NOBODY], "object"),
        (
            &["publish", "/sr/a", r#"{"a":18446744073709551616}"#, "--connect", NOBODY],
            "64 signed bits",
        ),
        (&["publish", "/sr/a", "{}", "--ttl", "soon", "--connect", NOBODY], "--ttl"),
        // A lifetime of zero is the same error as in the library.
        (&["publish", "/sr/a", "{}", "--ttl", "0s", "--connect", NOBODY], "the lifetime is zero"),
        (&["publish", "/sr/a", "{}", "--ttl", "9us", "--connect", NOBODY], "the lifetime is zero"),
        (&["presence", "announce", "--ttl", "0s", "--connect", NOBODY], "the lifetime is zero"),
        (&["publish", "/ipns/a", "{}", "--connect", NOBODY], "k51"),
        (&["put", "/sr/a", "--connect", NOBODY], "FILE"),
        (&["get", "/rooms/lobby", "--connect", NOBODY], "/sr/"),
        (&["get", "/sr/lobby", "--connect", "/ip4/127.0.0.1/tcp/1"], "/p2p/"),
        (&["node", "--sync"], "--store"),
        (&["inspect", "Cargo.toml"], "--under"),
        (&[], "Usage"),
    ] {
        let run = run(arguments);
        let log = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {log}");
        assert!(log.contains(hint), "{arguments:?}: {log}");
    }
}

#[test]
fn case_11_and_13_an_iprs_value_is_read_strictly_because_it_is_about_to_be_signed() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let key = key.to_str().unwrap();
    json(&["key", "generate", key]);
    let publish = |value| {
        let on = ["--sequence", "1", "--key", key, "--connect", NOBODY];
        failure(&[&["publish", "/iprs/self/a", value], &on[..]].concat())
    };
    for (value, message) in [
        (r#"{"a":1,"a":2}"#, "stands twice"),
        ("[18446744073709551616]", "18446744073709551616 is not an integer of 64 bits"),
        ("[-9223372036854775809]", "-9223372036854775809 is not an integer of 64 bits"),
        ("[-0]", "-0 is not an integer"),
        (r#"{"/":"/ipfs/bafkqaaa"}"#, "expected a link"),
        (r#"{"/":"https://x.example/ipfs/bafkqaaa"}"#, "expected a link"),
        (r#"{"/":"bafkqaaa","a":1}"#, "no key beside"),
        (r#"{"/":{"bytes":"AA","more":1}}"#, "expected"),
    ] {
        let failed = publish(value);
        assert_eq!(failed["exit_code"], 2, "{value}: {failed}");
        assert!(failed["message"].as_str().unwrap().contains(message), "{value}: {failed}");
    }
    for value in ["18446744073709551615", r#"{"/":"bafkqaaa"}"#, r#"[{"/":{"bytes":"AA"}},-0.5]"#] {
        assert_eq!(publish(value)["kind"], "unreachable", "{value}");
    }
}

#[test]
fn with_json_a_failure_is_one_object_on_standard_error() {
    for (arguments, kind, code, hint) in [
        (&["get", "/sr/a"][..], "arguments", 2, "--connect"),
        (&["withdraw", "/sr/a", "--connect", NOBODY], "arguments", 2, "--key"),
        (&["dmo"], "arguments", 2, "help"),
        (&["demo", "--nodes", "4", "--writers", "4"], "arguments", 2, "--nodes"),
        (&["get", "/sr/a", "--connect", NOBODY], "unreachable", 4, "--connect"),
        (&["watch", "/sr/a", "--connect", NOBODY], "unreachable", 4, "--connect"),
        (&["inspect", "/sr/a", "--connect", NOBODY], "unreachable", 4, "--connect"),
        (&["publish", "/sr/a", "{}", "--connect", NOBODY], "unreachable", 4, "--connect"),
        (
            &["publish", "/sr/a", "{}", "--ttl", "90days", "--connect", NOBODY],
            "refused",
            5,
            "--ttl",
        ),
        (&["inspect", "Cargo.toml", "--under", "/sr/a"], "refused", 5, "--under"),
        (&["inspect", "/nowhere", "--under", "/sr/a"], "failed", 1, "name"),
        (&["put", "/sr/a", "/nowhere", "--connect", NOBODY], "failed", 1, "name"),
        (&["publish", "/sr/a", "{}", "--key", "/nowhere"], "failed", 1, "key generate"),
        (&["key", "show", "Cargo.toml"], "failed", 1, "key generate"),
        (&["node", "--listen", "/ip4/203.0.113.1/tcp/0"], "failed", 1, "--listen"),
        (&["node", "--store", "/nowhere/at/all"], "failed", 1, "its folder"),
    ] {
        let failure = failure(arguments);
        assert_eq!(failure["kind"], kind, "{arguments:?}: {failure}");
        assert_eq!(failure["exit_code"], code, "{arguments:?}: {failure}");
        assert!(!failure["message"].as_str().unwrap().is_empty(), "{arguments:?}");
        assert!(failure["hint"].as_str().unwrap().contains(hint), "{arguments:?}: {failure}");
    }
}

#[test]
fn help_goes_to_standard_output_and_lists_the_exit_codes() {
    for arguments in [&["--help"][..], &["demo", "--help"]] {
        let run = run(arguments);
        assert!(run.status.success());
        assert!(text(&run.stdout).contains("Usage: smart-record"));
    }
    let help = text(&run(&["--help"]).stdout);
    for code in
        ["0    done", "1    failed", "2    wrong", "3    nothing", "4    no peer", "5    refused"]
    {
        assert!(help.contains(code), "{help}");
    }
}

#[test]
fn the_help_and_the_refusal_say_that_nothing_lives_longer_than_48_hours() {
    for command in ["publish", "withdraw", "node"] {
        let help = text(&run(&[command, "--help"]).stdout);
        assert!(help.contains("48h"), "{command}: {help}");
    }
    let failed = failure(&["publish", "/sr/a", "{}", "--ttl", "90days", "--connect", NOBODY]);
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("2160 h, more than the limit of 48 h"), "{message}");
}

#[test]
fn the_help_says_which_key_signs_for_the_node() {
    let help = text(&run(&["presence", "announce", "--help"]).stdout);
    assert!(help.contains("--node-key the node's"), "{help}");
}

#[test]
fn a_key_is_never_overwritten() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure = failure(&["key", "generate", file.path().to_str().unwrap()]);
    assert_eq!(failure["exit_code"], 1);
    assert_eq!(std::fs::read(file.path()).unwrap(), b"");
}

#[cfg(unix)]
#[test]
fn case_10_a_key_that_cannot_be_written_leaves_nothing_and_is_made_later() {
    let folder = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    let [key, store] = ["ada.key", "store"].map(|name| folder.path().join(name));
    let [key, store] = [&key, &store].map(|file| file.to_str().unwrap());
    for arguments in [&["key", "generate", key][..], &["node", "--store", store]] {
        let failed = limited(0, arguments);
        let log = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{arguments:?}: {log}");
        assert!(log.contains("failed to create the key file"), "{log}");
        assert!(log.contains("hint: free space"), "{log}");
        assert_eq!(names(), 0, "{arguments:?}");
    }
    json(&["key", "generate", key]);

    // There is room for the key of a store, but not for the store.
    let failed = limited(1, &["node", "--store", store]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    start_node(&[], &["--store", store]);
}

#[test]
fn a_key_file_is_readable_by_its_owner_only_and_shows_the_generated_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ada.key");
    let file = file.to_str().unwrap();
    let made = json(&["key", "generate", file]);
    assert_eq!(json(&["key", "show", file]), made);
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(file).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
    }
}

#[test]
fn a_closed_output_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ada.key");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = smart_record(&["key", "generate", file.to_str().unwrap()]);
    let run = command.stdout(writer).output().unwrap();
    assert!(run.status.success());
    assert_eq!(text(&run.stderr), "");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let both = writer.try_clone().unwrap();
    let mut demo = smart_record(&["demo", "--nodes", "3", "--writers", "2"]);
    let status = demo.stdout(writer).stderr(both).status().unwrap();
    assert!(status.success(), "neither of its outputs was read: {status}");
}
