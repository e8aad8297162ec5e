//! The command line between separate processes.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn smart_record(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-record"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    smart_record(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let run = run(arguments);
    assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// A node that runs; it is killed when it is dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(others: &[&Self]) -> Self {
        let mut arguments = vec!["node"];
        for other in others {
            arguments.extend(["--connect", &other.address]);
        }
        let mut child = smart_record(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

const KEY: &str = "/sr/cli/board";

fn names(address: &str) -> Vec<String> {
    let read = json(&["get", KEY, "--connect", address, "--json"]);
    let spaces = read["spaces"].as_array().unwrap();
    let name = |space: &Value| space["document"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<_> = spaces.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn processes_put_read_withdraw_and_survive_the_loss_of_a_node() {
    let a = Running::start(&[]);
    let b = Running::start(&[&a]);
    let c = Running::start(&[&a, &b]);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("ada.key");
    let key = key.to_str().unwrap();
    let generated = json(&["key", "generate", key, "--json"]);
    let ada = r#"{"name": "ada"}"#;
    let put = json(&["put", KEY, ada, "--key", key, "--connect", &a.address, "--json"]);
    assert_eq!(put["writer"], generated["peer"]);
    json(&["put", KEY, r#"{"name": "bob"}"#, "--connect", &b.address, "--json"]);
    assert_eq!(names(&c.address), ["ada", "bob"]);

    drop(a);
    assert_eq!(names(&c.address), ["ada", "bob"], "after the loss of a node");

    json(&["withdraw", KEY, "--key", key, "--connect", &c.address, "--json"]);
    assert_eq!(names(&b.address), ["bob"]);

    let table = run(&["get", KEY, "--connect", &b.address]);
    assert!(String::from_utf8_lossy(&table.stdout).contains(r#"{"name": "bob"}"#));
    let nothing = run(&["get", "/sr/cli/nothing", "--connect", &b.address]);
    assert_eq!(nothing.status.code(), Some(3), "nothing found");
}

#[test]
fn failures_say_what_to_do_and_have_codes() {
    let nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    for (arguments, code, hint) in [
        (&["get", KEY][..], 2, "--connect"),
        (&["withdraw", KEY, "--connect", nobody], 2, "--key"),
        (&["get", KEY, "--connect", nobody], 4, "--connect"),
        (&["put", KEY, r#"{"a": 1}"#, "--connect", nobody], 4, "--connect"),
        (&["put", KEY, "[1]", "--connect", nobody], 2, "object"),
        (&["put", KEY, "{}", "--key", "/nowhere", "--connect", nobody], 1, "key generate"),
        (&["inspect", "/nowhere", "--under", KEY], 1, "/nowhere"),
    ] {
        let run = run(arguments);
        let log = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {log}");
        assert!(log.contains(hint), "{arguments:?}: {log}");
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = run(&["key", "generate", file.path().to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(std::fs::read(file.path()).unwrap(), b"");
}

#[test]
fn a_client_is_present_until_its_process_is_interrupted() {
    let node = Running::start(&[]);
    let hex = "09".repeat(32);
    let mut announce = smart_record(&["presence", "announce", "--connect", &node.address]);
    announce.args(["--presence-key", &hex, "--handshake-key", &hex, "--json"]);
    let mut child = announce.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();
    let client = announced["client"].as_str().unwrap();
    let find = ["presence", "find", client, "--connect", &node.address, "--json"];
    assert_eq!(json(&find), announced);

    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    assert!(child.wait().unwrap().success());
    assert_eq!(run(&find).status.code(), Some(3), "it was withdrawn");
}
