//! Files that are not what a command wants: each is told as what it is and stays byte for byte, at
//! every argument that takes one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use smart_record_testing::redb2;

use crate::command::{NOBODY, failure, smart_record, start_node, text};
#[cfg(unix)]
use crate::command::{json, limited, unprivileged};

/// Names and contents of the files in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A folder with one file of each wrong kind.
fn wrong_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("letter"), "to a friend ".repeat(99)).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    redb2::write(&path("redb2"));
    folder
}

#[test]
fn case_21_a_store_of_another_kind_is_told_by_its_name_and_untouched() {
    let folder = wrong_files();
    let before = contents(folder.path());
    for (name, told, hint) in [
        ("empty", "the file is empty", "remove it"),
        ("letter", "not a storage of records", "a new name"),
        ("folder", "is a directory", "another file"),
        ("redb2", "of another version: file format 2 of redb", "the version that made it"),
        ("nowhere/store", "No such file or directory", "the name"),
    ] {
        let file = folder.path().join(name);
        let failure = failure(&["node", "--store", file.to_str().unwrap()]);
        assert_eq!(failure["exit_code"], 1, "{failure}");
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(told) && message.contains(name), "{failure}");
        assert!(failure["hint"].as_str().unwrap().contains(hint), "{failure}");
        assert!(contents(folder.path()) == before, "{name}: a file was changed or left behind");
    }
}

#[test]
fn case_21_a_store_without_its_key_is_told_by_its_owner_and_gets_no_other_key() {
    let folder = tempfile::tempdir().unwrap();
    let [store, key] = ["store", "store.key"].map(|name| folder.path().join(name));
    drop(start_node(&[], &["--store", store.to_str().unwrap()]));
    std::fs::remove_file(&key).unwrap();
    let before = contents(folder.path());
    let failure = failure(&["node", "--store", store.to_str().unwrap()]);
    assert!(failure["message"].as_str().unwrap().contains("belongs to peer"), "{failure}");
    assert!(failure["hint"].as_str().unwrap().contains("--key"), "{failure}");
    assert!(contents(folder.path()) == before);
}

#[test]
fn two_processes_that_make_a_store_at_the_same_time_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    let all: Vec<_> = (0..4)
        .map(|_| {
            let mut command = smart_record(&["node", "--json", "--store", store]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut told = Vec::new();
    let mut runs = Vec::new();
    for mut child in all {
        // Either it prints its address, or it ends.
        let out = smart_record_testing::process::lines(child.stdout.take().unwrap());
        match out.recv() {
            Ok(_) => runs.push(child),
            Err(_) => told.push(text(&child.wait_with_output().unwrap().stderr)),
        }
    }
    for mut child in runs {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(told.len() < 4, "one of them has it: {told:?}");
    assert!(told.iter().all(|told| told.contains("another process")), "{told:?}");
    let names: Vec<_> = contents(folder.path()).into_keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    start_node(&[], &["--store", store]);
}

#[test]
fn a_file_that_is_no_key_is_told_at_every_argument_that_takes_one() {
    let folder = wrong_files();
    let before = contents(folder.path());
    for (name, told) in [
        ("empty", "empty"),
        ("letter", "no key"),
        ("folder", "s a directory"),
        ("redb2", "no key"),
        ("nowhere", "No such file"),
    ] {
        let file = folder.path().join(name);
        let file = file.to_str().unwrap();
        for command in [
            &["key", "show", file][..],
            &["node", "--key", file],
            &["node", "--network-key", file],
            &["publish", "/sr/a", "{}", "--key", file, "--connect", NOBODY],
            &["withdraw", "/sr/a", "--key", file, "--connect", NOBODY],
        ] {
            let failure = failure(command);
            let message = failure["message"].as_str().unwrap();
            assert!(message.contains(name) && !failure["hint"].is_null(), "{failure}");
            assert!(message.contains(told), "{command:?}: {failure}");
        }
    }
    assert!(contents(folder.path()) == before);
}

#[test]
fn a_file_that_is_no_record_is_told_where_one_is_read() {
    let folder = wrong_files();
    let before = contents(folder.path());
    for (name, told) in [
        ("letter", "not a valid record"),
        ("folder", "s a directory"),
        ("redb2", "not a valid record"),
        ("nowhere", "No such file"),
    ] {
        let file = folder.path().join(name);
        let failure = failure(&["inspect", file.to_str().unwrap(), "--under", "/sr/a"]);
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(told) && message.contains(name), "{failure}");
    }
    #[cfg(unix)]
    for command in
        [&["inspect", "/dev/zero", "--under", "/sr/a"][..], &["key", "show", "/dev/zero"]]
    {
        let failure = failure(command);
        assert!(failure["message"].as_str().unwrap().contains("longer than"), "{failure}");
    }
    assert!(contents(folder.path()) == before);
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_or_written_is_told_and_stays() {
    use std::os::unix::fs::PermissionsExt;

    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let [store, key, new] = ["store", "store.key", "new"].map(|name| folder.path().join(name));
    drop(start_node(&[], &["--store", store.to_str().unwrap()]));
    // They may be read and not written, and nothing may be added.
    for path in [&store, &key] {
        mode(path, 0o444);
    }
    mode(folder.path(), 0o555);
    let before = contents(folder.path());
    for (command, told) in [
        (&["node", "--store", store.to_str().unwrap()][..], "permission denied"),
        (&["node", "--store", new.to_str().unwrap()], "failed to create the key file"),
        (&["key", "generate", new.to_str().unwrap()], "failed to create the key file"),
    ] {
        let run = unprivileged(command);
        let log = text(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{command:?}: {log}");
        assert!(log.contains(told) && log.contains("permission"), "{command:?}: {log}");
    }
    mode(&key, 0o000);
    let run = unprivileged(&["key", "show", key.to_str().unwrap()]);
    let log = text(&run.stderr);
    assert!(log.contains("ermission denied") && log.contains("hint: check"), "{log}");
    mode(&key, 0o400);
    mode(folder.path(), 0o755);
    assert!(contents(folder.path()) == before);
    mode(&store, 0o644);
    start_node(&[], &["--store", store.to_str().unwrap()]);
}

#[cfg(unix)]
#[test]
fn case_10_a_store_on_a_full_disk_is_told_and_what_it_holds_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = store.to_str().unwrap();
    let (node, address) = start_node(&[], &["--store", store, "--sync"]);
    json(&["publish", "/sr/a", r#"{"name": "ada"}"#, "--connect", &address]);
    drop(node);
    let files = contents(folder.path()).into_keys().collect::<Vec<_>>();
    for blocks in [0, 1, 8, 16] {
        let failed = limited(blocks, &["node", "--store", store]);
        let log = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{blocks}: {log}");
        assert!(log.contains("the disk is full") && log.contains("hint: free space"), "{log}");
        assert_eq!(contents(folder.path()).into_keys().collect::<Vec<_>>(), files);
    }
    let (_node, address) = start_node(&[], &["--store", store]);
    let shown = json(&["get", "/sr/a", "--connect", &address]);
    assert!(shown.to_string().contains("ada"), "{shown}");
}
