//! The conformance suite, on disk.

use super::{
    reopened::{Reopened, Reopens},
    *,
};

#[test]
fn redb_storage_conforms() {
    for durability in MODES {
        conformance::run(64, || open_on(&Device::default(), durability).unwrap());
    }
}

#[test]
fn redb_storage_conforms_while_groups_are_being_written() {
    // With an empty window the thread writes whenever it can.
    let window = Duration::ZERO;
    let durability = Durability::Group { window, max_bytes: 1 << 20 };
    conformance::run(64, || open_on(&Device::default(), durability).unwrap());
}

#[test]
fn redb_storage_conforms_when_it_is_reopened() {
    for durability in MODES {
        for reopens in [Reopens::AtCommits, Reopens::AtChanges] {
            conformance::run(12, || Reopened::new(config(durability), reopens));
        }
    }
}
