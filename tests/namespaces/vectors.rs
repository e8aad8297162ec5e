//! The vectors of `docs/wire.md` that need a replica: `tests/vectors/replica/puts.json`.

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{RecordKey, built_in, signed::SignedRecordValidator};
use smart_record_testing::{at, vectors};

use crate::replica::{Replica, value};

/// The replica that holds signed records in `notes`.
fn replica() -> Replica {
    Replica::with(built_in().with("notes", SignedRecordValidator::default()).unwrap())
}

#[test]
fn a_replica_does_what_the_vectors_say() {
    for case in vectors::read(&vectors::path("replica/puts.json")) {
        let (key, mut replica) = (RecordKey::new(vectors::bytes(&case, "key")), replica());
        // The time that has passed while lifetimes were handed over: they are instants there.
        let mut passed = Duration::from_millis(1);
        for (n, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            replica.clock.set(at(step["at"].as_u64().unwrap()));
            let place = format!("{}, step {n}", case["name"]);
            if step["put"].is_null() {
                let begun = Instant::now();
                let found = replica.store.get(&kad::RecordKey::new(&key));
                if let Some(ttl) = step["ttl"].as_u64().map(Duration::from_secs) {
                    let end = found.as_ref().and_then(|record| record.expires).unwrap();
                    // Kademlia sends the whole seconds that are left.
                    let next = Instant::now() + ttl + Duration::from_secs(1);
                    assert!(begun + ttl <= end + passed && end < next, "{place}");
                }
                let expected = step["get"].is_string().then(|| vectors::bytes(step, "get"));
                assert_eq!(found.as_deref().map(value), expected, "{place}");
                continue;
            }
            let mut record =
                kad::Record::new(kad::RecordKey::new(&key), vectors::bytes(step, "put"));
            let ttl = step["ttl"].as_u64().map(Duration::from_secs);
            let begun = Instant::now();
            record.expires = ttl.map(|ttl| begun + ttl);
            replica.put_record(record);
            passed += begun.elapsed();
            let faults: Vec<_> = replica.refusals().iter().map(|r| r.fault().as_str()).collect();
            let expected = step["refused"]["fault"].as_str();
            assert_eq!(faults, Vec::from_iter(expected), "{place}");
        }
    }
}
