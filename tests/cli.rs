//! The command line, run as users run it.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use serde_json::Value;

fn smart_record(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smart-record")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_demo_keeps_its_promises() {
    let run = smart_record(&["demo", "--nodes", "5", "--writers", "3", "--json"]);
    let (out, log) = (text(&run.stdout), text(&run.stderr));
    assert!(run.status.success(), "{log}");
    // One object and nothing else; what happens meanwhile goes to standard error.
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
fn the_demo_shows_a_table_to_people() {
    let run = smart_record(&["demo", "--nodes", "3", "--writers", "2"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let out = text(&run.stdout);
    for column in ["writer", "seq", "expires in", "document"] {
        assert!(out.contains(column), "{out}");
    }
    assert!(out.contains(r#"{"name": "writer 1", "seat": 1}"#), "{out}");
}

#[test]
fn wrong_arguments_are_explained() {
    for (arguments, hint) in [
        (&["demo", "--nodes", "2"][..], "3..=64"),
        (&["demo", "--writers", "1"], "2..=63"),
        (&["demo", "--nodes", "4", "--writers", "4"], "at most --writers 3"),
        (&["demo", "--nodes", "many"], "invalid"),
        (&["dmo"], "demo"),
        (&[], "Usage"),
    ] {
        let run = smart_record(arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        let log = text(&run.stderr);
        assert!(log.contains(hint), "{arguments:?}: {log}");
    }
}

#[test]
fn help_goes_to_standard_output() {
    for arguments in [&["--help"][..], &["demo", "--help"]] {
        let run = smart_record(arguments);
        assert!(run.status.success());
        assert!(text(&run.stdout).contains("Usage: smart-record"));
    }
}
