//! The command in several processes.

mod names;
mod reading;
mod serving;
#[cfg(unix)]
mod stopping;
mod storing;
mod strangers;
mod typing;
mod values;
mod writing;

#[cfg(unix)]
use crate::command::limited;
use crate::command::{NOBODY, Running, failure, json, run, smart_record, start_node, text};
use serde_json::Value;

const KEY: &str = "/sr/cli/board";
const ADA: &str = r#"{"name": "ada"}"#;
const BOB: &str = r#"{"name": "bob"}"#;

/// Names of the writers of [`KEY`], sorted.
fn names(address: &str) -> Vec<String> {
    let read = json(&["get", KEY, "--connect", address]);
    let spaces = read["spaces"].as_array().unwrap();
    let name = |space: &Value| space["document"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<_> = spaces.iter().map(name).collect();
    names.sort();
    names
}

/// The peer id at the end of an address.
fn peer(address: &str) -> &str {
    address.rsplit('/').next().unwrap()
}

/// A path for a key file that does not exist, in a folder that is deleted with it.
fn key_file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ada.key").to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn processes_put_read_withdraw_and_survive_the_loss_of_a_node() {
    let (a, at_a) = start_node(&[], &[]);
    let (_b, at_b) = start_node(&[&at_a], &[]);
    let (_c, at_c) = start_node(&[&at_a, &at_b], &[]);
    let (_folder, key) = key_file();
    let generated = json(&["key", "generate", &key]);
    let put = json(&["publish", KEY, ADA, "--key", &key, "--connect", &at_a]);
    assert_eq!(put["writer"], generated["peer"]);
    json(&["publish", KEY, BOB, "--connect", &at_b]);
    assert_eq!(names(&at_c), ["ada", "bob"]);

    a.kill();
    assert_eq!(names(&at_c), ["ada", "bob"], "after the loss of a node");

    json(&["withdraw", KEY, "--key", &key, "--connect", &at_c]);
    assert_eq!(names(&at_b), ["bob"]);

    let nothing = failure(&["get", "/sr/cli/nothing", "--connect", &at_b]);
    assert_eq!((&nothing["kind"], &nothing["exit_code"]), (&"not-found".into(), &3.into()));
}

#[test]
fn a_read_repairs_before_it_ends() {
    let (a, at_a) = start_node(&[], &[]);
    let (_b, at_b) = start_node(&[], &[]);
    json(&["publish", KEY, ADA, "--connect", &at_a]);
    json(&["get", KEY, "--connect", &at_a, "--connect", &at_b]);
    a.kill();
    assert_eq!(names(&at_b), ["ada"]);
}

#[test]
fn json_has_writer_document_lifetime_and_holders() {
    let (_node, address) = start_node(&[], &[]);
    let put = json(&["publish", KEY, ADA, "--ttl", "10m", "--confirm", "--connect", &address]);
    assert_eq!((&put["key"], &put["namespace"]), (&KEY.into(), &"sr".into()));
    assert_eq!(put["peers"], Value::from(vec![peer(&address)]));
    assert_eq!(put["confirmed"], put["peers"]);
    assert_eq!(put["chunks"], 1);
    assert_eq!(put["document"], serde_json::from_str::<Value>(ADA).unwrap());

    let get = json(&["get", KEY, "--connect", &address]);
    let space = &get["spaces"][0];
    for field in ["writer", "seq", "expires_at"] {
        assert_eq!(space[field], put[field], "{field}");
    }
    assert_eq!(space["document"], serde_json::from_str::<Value>(ADA).unwrap());
    assert_eq!(get["peers"], put["peers"]);
    assert_eq!(get["withheld"], Value::Array(vec![]));
}

#[test]
fn inspect_shows_a_record_in_the_network_and_in_a_file() {
    let (_node, address) = start_node(&[], &[]);
    let (folder, key) = key_file();
    json(&["key", "generate", &key]);
    json(&["publish", KEY, ADA, "--key", &key, "--connect", &address]);
    json(&["publish", KEY, r#"{"seat": 1}"#, "--key", &key, "--connect", &address]);
    let put = json(&["publish", KEY, BOB, "--connect", &address]);

    let mut inspected = json(&["inspect", KEY, "--connect", &address]);
    assert_eq!(inspected["peers"], Value::from(vec![peer(&address)]));
    let spaces = inspected["spaces"].as_array().unwrap().clone();
    assert_eq!(spaces.len(), 2);
    let bob = spaces.iter().find(|space| space["writer"] == put["writer"]).unwrap();
    let ada = spaces.iter().find(|space| space["writer"] != put["writer"]).unwrap();
    assert_eq!((&bob["seq"], &bob["expires_at"]), (&put["seq"], &put["expires_at"]));
    assert_eq!(
        (bob["updates"].as_array().unwrap().len(), bob["document"]["name"].as_str()),
        (1, Some("bob"))
    );
    assert_eq!(ada["updates"].as_array().unwrap().len(), 2);
    assert_eq!(ada["document"], serde_json::json!({ "name": "ada", "seat": 1 }));
    let all: u64 = spaces.iter().map(|space| space["bytes"].as_u64().unwrap()).sum();
    assert!(all < inspected["bytes"].as_u64().unwrap(), "with the keys of the writers");

    let file = folder.path().join("record");
    let file = file.to_str().unwrap();
    json(&["get", KEY, "--output", file, "--connect", &address]);
    let in_file = json(&["inspect", file, "--under", KEY]);
    let fields = inspected.as_object_mut().unwrap();
    assert_eq!(fields["complete"], true);
    assert_eq!(fields["missing"], 0.0);
    assert_eq!(fields["coverage"][0]["spaces"], 2);
    assert_eq!(fields["coverage"][0]["share"], 1.0);
    for field in ["complete", "missing", "coverage", "peers", "stale", "empty", "refused"] {
        fields.remove(field).unwrap();
    }
    assert_eq!(in_file, inspected);
    let elsewhere = failure(&["inspect", file, "--under", "/sr/cli/elsewhere"]);
    assert_eq!(elsewhere["kind"], "refused");

    let shown = run(&["inspect", KEY, "--connect", &address]);
    let shown = text(&shown.stdout);
    for part in ["bytes", "has it", put["seq"].as_str().unwrap()] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn work_is_spent_and_shown() {
    let (_node, address) = start_node(&[], &[]);
    let (_folder, key) = key_file();
    json(&["key", "generate", &key]);
    let publish = ["publish", KEY, ADA, "--key", &key, "--connect", &address, "--work"];
    let published = run(&[&publish[..], &["10"]].concat());
    assert!(published.status.success() && published.stderr.is_empty(), "no progress in a pipe");
    json(&["publish", KEY, r#"{"seat": 1}"#, "--key", &key, "--connect", &address]);
    json(&["publish", KEY, BOB, "--connect", &address]);
    let inspected = json(&["inspect", KEY, "--connect", &address]);
    let spaces = inspected["spaces"].as_array().unwrap();
    let work = |name| spaces.iter().find(|space| space["document"]["name"] == name).unwrap();
    let (ada, bob) = (work("ada"), work("bob"));
    assert_eq!((&ada["work"], &bob["work"]), (&10.into(), &0.into()));
    let of_updates: Vec<_> =
        ada["updates"].as_array().unwrap().iter().map(|u| &u["work"]).collect();
    assert_eq!(of_updates, [10, 0]);
    let shown = text(&run(&["inspect", KEY, "--connect", &address]).stdout);
    let writer = ada["writer"].as_str().unwrap();
    let row = shown.lines().find(|line| line.starts_with(writer)).unwrap();
    assert_eq!(row.split('\t').nth(4), Some("10"), "{shown}");
    let get = json(&["get", KEY, "--connect", &address]);
    let got = get["spaces"].as_array().unwrap().iter().find(|space| space["writer"] == writer);
    assert_eq!(got.unwrap()["work"], 10);

    for bits in ["0", "41", "x"] {
        let refused = failure(&[&publish[..], &[bits]].concat());
        assert_eq!(refused["exit_code"], 2, "{bits}");
    }
    let of_value = ["publish", "/pk/self", "--key", &key, "--connect", &address, "--work", "10"];
    let refused = failure(&of_value);
    assert!(refused["message"].as_str().unwrap().contains("--work means nothing"), "{refused}");
}

#[cfg(unix)]
#[test]
fn case_10_a_record_that_cannot_be_written_leaves_the_file_as_it_was() {
    let (_node, address) = start_node(&[], &[]);
    json(&["publish", KEY, ADA, "--connect", &address]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    std::fs::write(&file, "old").unwrap();
    let get = ["get", KEY, "--output", file.to_str().unwrap(), "--connect", &address];
    let failed = limited(0, &get);
    let log = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{log}");
    assert!(log.contains("failed to write") && log.contains("hint: free space"), "{log}");
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    json(&get);
    assert_ne!(std::fs::read(&file).unwrap(), b"old");
}

#[test]
fn a_pipe_gets_one_line_for_each_writer() {
    let (_node, address) = start_node(&[], &[]);
    let put = json(&["publish", KEY, BOB, "--connect", &address]);
    let run = run(&["get", KEY, "--connect", &address]);
    let out = text(&run.stdout);
    let columns: Vec<_> = out.trim_end().split('\t').collect();
    assert_eq!(columns.len(), 4, "{out}");
    assert_eq!(columns[..2], [put["writer"].as_str().unwrap(), put["seq"].as_str().unwrap()]);
    assert_eq!(columns[3], BOB);
}

#[test]
fn a_command_with_another_protocol_gets_a_hint() {
    let (_node, address) = start_node(&[], &[]);
    let client = NOBODY.rsplit('/').next().unwrap();
    for command in [&["get", KEY][..], &["publish", KEY, ADA], &["presence", "find", client]] {
        let elsewhere = ["--protocol", "/elsewhere/kad/1.0.0", "--connect", &address];
        let failure = failure(&[command, &elsewhere[..]].concat());
        assert_eq!((&failure["kind"], &failure["exit_code"]), (&"silent".into(), &6.into()));
        assert!(failure["hint"].as_str().unwrap().contains("--protocol"), "{failure}");
    }
}

#[test]
fn a_node_that_reaches_no_peer_warns_and_serves() {
    let mut command = smart_record(&["node", "--json", "--connect", NOBODY]);
    command.stderr(std::process::Stdio::piped());
    let mut node = Running::spawn(command);
    let started: Value = serde_json::from_str(&node.line()).unwrap();
    let address = started["address"].as_str().unwrap();
    assert!(address.ends_with(started["peer"].as_str().unwrap()));
    let warning =
        smart_record_testing::process::lines(node.child.stderr.take().unwrap()).recv().unwrap();
    let warning: Value = serde_json::from_str(&warning).unwrap();
    assert_eq!(warning["kind"], "warning");
    json(&["publish", KEY, ADA, "--connect", address]);
    assert_eq!(names(address), ["ada"]);
}

#[test]
fn a_node_serves_after_its_output_is_closed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = smart_record(&["node", "--connect", NOBODY]);
    command.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    drop(reader);
    let mut child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The warning follows the addresses.
    let mut log = smart_record_testing::process::lines(child.stderr.take().unwrap()).into_iter();
    assert!(log.any(|line| line.contains("can reach this node")), "no warning");
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_watch_shows_the_record_and_each_change() {
    let (_node, address) = start_node(&[], &[]);
    let watch = Running::spawn(smart_record(&["watch", KEY, "--json", "--connect", &address]));
    let spaces = || -> Vec<Value> {
        let seen: Value = serde_json::from_str(&watch.line()).unwrap();
        seen["spaces"].as_array().unwrap().clone()
    };
    assert_eq!(spaces(), Vec::<Value>::new());
    let put = json(&["publish", KEY, ADA, "--connect", &address]);
    let seen = spaces();
    assert_eq!((seen.len(), &seen[0]["writer"]), (1, &put["writer"]));
    json(&["publish", KEY, BOB, "--connect", &address]);
    assert_eq!(spaces().len(), 2);
}
