//! The test vectors of `docs/wire.md`: `tests/vectors/{sr,pk,iprs,presence,signed,replica}/*.json`.
//!
//! [`make`] makes them, from fixed keys and times. `UPDATE_VECTORS=1 cargo test -p
//! smart-record-formats --test vectors` writes the files; without it the test compares the files
//! with the output. [`judge`] compares the files with the behaviour of the library. Those of
//! `replica` need a node: `tests/namespaces/vectors.rs`, `src/outbound/message.rs`.
//! `tests/vectors/README.md` describes their form.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod forms;
mod judge;
mod make;
mod reasons;

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;
use smart_record_testing::vectors;

/// The directories of these vectors. Each has only files that are made here.
const DIRECTORIES: [&str; 6] = ["sr", "pk", "iprs", "presence", "signed", "replica"];

fn path(file: &str) -> PathBuf {
    vectors::path(&format!("{file}.json"))
}

/// The vectors in a file.
fn read(file: &str) -> Vec<Value> {
    vectors::read(&path(file))
}

/// Version 1 of the wire form is frozen, so cases are added and none is changed or removed. What
/// describes them may change.
fn check_frozen(file: &str, made: &[Value]) {
    let kept = fs::read(path(file)).unwrap_or_else(|_| b"[]".to_vec());
    let is_same = |a: &Value, b: &Value| {
        let fields = |case: &Value| {
            let mut fields = case.as_object().unwrap().clone();
            fields.retain(|name, _| !["about", "section"].contains(&name.as_str()));
            fields
        };
        fields(a) == fields(b)
    };
    for case in serde_json::from_slice::<Vec<Value>>(&kept).unwrap() {
        let is_made = made.iter().any(|other| is_same(&case, other));
        assert!(is_made, "{file}: the frozen case {} is changed or gone", case["name"]);
    }
}

#[test]
fn the_files_are_what_is_made() {
    let made = make::files();
    let text = |cases: &Vec<Value>| serde_json::to_string_pretty(cases).unwrap() + "\n";
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        for (file, cases) in &made {
            check_frozen(file, cases);
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            fs::write(path(file), text(cases)).unwrap();
        }
    }
    for (file, cases) in &made {
        let kept = fs::read_to_string(path(file)).unwrap_or_default();
        assert!(
            kept == text(cases),
            "{file} is out of date: set UPDATE_VECTORS=1 and run this once"
        );
        let names: BTreeSet<_> = cases.iter().map(|case| case["name"].to_string()).collect();
        assert_eq!(names.len(), cases.len(), "{file}: a name stands twice");
    }
    let there = DIRECTORIES.iter().flat_map(|directory| {
        fs::read_dir(vectors::path(directory)).unwrap().map(|entry| entry.unwrap().path())
    });
    let expected: BTreeSet<_> = made.iter().map(|(file, _)| path(file)).collect();
    assert_eq!(there.collect::<BTreeSet<_>>(), expected);
}

/// The sections, files, faults and reasons that vectors name are in `docs/wire.md`.
#[test]
fn the_document_has_what_vectors_name() {
    let wire = fs::read_to_string(vectors::path("../../docs/wire.md")).unwrap();
    let row = |refusal: &Value| {
        let name = |field: &str| refusal[field].as_str().unwrap().to_owned();
        format!("\n| `{}` | `{}` |", name("fault"), name("reason"))
    };
    for (file, cases) in make::files() {
        assert!(wire.contains(&format!("`{file}`")), "{file} is not mentioned");
        for case in cases {
            let section = case["section"].as_str().unwrap();
            let heading = |level: &str| wire.contains(&format!("\n{level} {section} "));
            let is_there = heading("###") || wire.contains(&format!("\n## {section}. "));
            assert!(is_there, "{file}: section {section} of {}", case["name"]);
            let refused = &case["refused"];
            let refused = refused.as_array().map_or(std::slice::from_ref(refused), Vec::as_slice);
            for refusal in refused.iter().filter(|refusal| !refusal.is_null()) {
                assert!(wire.contains(&row(refusal)), "{file}: {refusal} of {}", case["name"]);
            }
        }
    }
}
