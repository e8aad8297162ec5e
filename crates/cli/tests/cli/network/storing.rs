//! Nodes that keep their records in a file.

use super::{ADA, KEY, failure, json, key_file, names, peer, start_node};

#[test]
fn a_killed_node_serves_again_from_its_file_as_the_same_peer() {
    let (_folder, file) = key_file();
    let store = ["--store", &file, "--sync"];
    let (node, before) = start_node(&[], &store);
    json(&["publish", KEY, ADA, "--connect", &before]);
    node.kill();

    let (_node, after) = start_node(&[], &store);
    assert_eq!(peer(&after), peer(&before));
    assert_eq!(names(&after), ["ada"]);
}

#[cfg(unix)]
#[test]
fn a_stopped_node_writes_what_waits() {
    let (_folder, file) = key_file();
    let store = ["--store", &file];
    let (node, address) = start_node(&[], &store);
    json(&["publish", KEY, ADA, "--connect", &address]);
    assert_eq!(node.stop(rustix::process::Signal::TERM), Some(0));

    let (_node, address) = start_node(&[], &store);
    assert_eq!(names(&address), ["ada"]);
}

#[test]
fn a_store_belongs_to_one_process_and_one_key() {
    let (folder, store) = key_file();
    let (node, _) = start_node(&[], &["--store", &store]);
    let locked = failure(&["node", "--store", &store]);
    assert!(locked["hint"].as_str().unwrap().contains("another process"), "{locked}");
    drop(node);

    let other = folder.path().join("other.key");
    let other = other.to_str().unwrap();
    json(&["key", "generate", other]);
    let foreign = failure(&["node", "--store", &store, "--key", other]);
    assert!(foreign["hint"].as_str().unwrap().contains("--key"), "{foreign}");
}
