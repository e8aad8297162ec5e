//! Attacks on smart records, one test each: bad signatures, replays, damaged, oversized and
//! malformed values.
//!
//! Each is tried on the validator (the exact reason), on the join (the bad part is left out, its
//! neighbour stays) and on the store as Kademlia uses it: a remote PUT returns `Ok`, stores nothing
//! bad, keeps the neighbour, and reports the reason in an event and a counter. See `refused` and
//! `accepted`.

mod crowds;
mod documents;
mod extensions;
mod forgeries;
mod garbage;
mod replays;
mod signatures;
mod sizes;
mod times;

use libp2p_smart_record::{
    Fault, RecordKey, Registry, SpaceRules, ValidationError, View,
    store::{Origin, StoreEvent},
};
use smart_record_testing::{ManualClock, envelope::bound, forge::*};

use crate::replica::{self, reasons};

/// A replica for tests of the usual key.
struct Replica(replica::Replica);

impl std::ops::Deref for Replica {
    type Target = replica::Replica;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Replica {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Replica {
    fn new() -> Self {
        Self::with(Registry::default())
    }

    fn with(registry: Registry) -> Self {
        Self(replica::Replica::with(registry))
    }

    /// PUTs under the usual key. Returns the events.
    fn hears(&mut self, spaces: impl IntoIterator<Item = Space>) -> Vec<StoreEvent> {
        self.put(&key(), encode(spaces));
        self.events()
    }

    /// The stored record under the usual key, encoded.
    fn stored(&self) -> Option<Vec<u8>> {
        let record = self.store.record(&key()).unwrap();
        record.map(|record| record.encode())
    }

    fn view(&self) -> View {
        self.store.view(&key()).unwrap()
    }
}

/// Whether the fault depends on the time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// No: the join leaves the part out as well.
    Always,
    /// Yes: the join, which has no clock, keeps the part.
    WithAClock,
}

/// Passes a bad space to every entry point, alone and beside a good one. All must refuse it for the
/// same reason, which is returned, and the neighbour must be kept.
#[track_caller]
fn refused(bad: Space, fault: Fault) -> ValidationError {
    refused_under(&key(), &SpaceRules::default(), bad, neighbour(), fault, Seen::Always)
}

/// [`refused`] for a fault that depends on the time.
#[track_caller]
fn refused_now(bad: Space, fault: Fault) -> ValidationError {
    refused_under(&key(), &SpaceRules::default(), bad, neighbour(), fault, Seen::WithAClock)
}

/// [`refused`] with rules that are not the default.
#[track_caller]
fn refused_under(
    key: &RecordKey,
    rules: &SpaceRules,
    bad: Space,
    (author, good): (Author, Space),
    fault: Fault,
    seen: Seen,
) -> ValidationError {
    let alone = encode([bad.clone()]);
    let both = encode([bad.clone(), good.clone()]);
    let neighbour = encode([good]);

    // The validator. The neighbour has to be good, or the rest of the test proves nothing.
    assert!(rules.validate(key, &neighbour, at(NOW)).is_ok());
    let reason = rules.validate(key, &alone, at(NOW)).expect_err("the attack succeeds");
    assert_eq!(reason.fault(), fault, "{reason}");
    let beside = rules.validate(key, &both, at(NOW));
    if fault == Fault::Expired {
        // An expired part is accepted beside others.
        assert!(beside.is_ok());
    } else {
        assert_eq!(beside, Err(reason.clone()));
    }

    // The join.
    for values in [&[&both[..]][..], &[&alone, &neighbour], &[&neighbour, &alone]] {
        let joined = rules.consolidate(key, values).unwrap();
        assert_eq!(joined == neighbour, seen == Seen::Always);
    }
    if seen == Seen::Always {
        assert!(rules.consolidate(key, &[&alone]).is_err());
    }

    // The store.
    let registry = || Registry::default().with("sr", rules.clone()).unwrap();
    let mut replica = Replica::with(registry());
    replica.put(key, alone);
    assert!(replica.is_empty(), "something bad is stored");
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));

    let mut replica = Replica::with(registry());
    replica.put(key, both);
    let events = replica.events();
    assert_eq!(reasons(&events), std::slice::from_ref(&reason));
    assert!(
        events.contains(&StoreEvent::Stored {
            key: key.clone(),
            writers: vec![author.peer_id()],
            origin: Origin::Remote,
        }),
        "{events:?}"
    );
    let stored = replica.store.record(key).unwrap().unwrap();
    assert_eq!(stored.encode(), neighbour, "the neighbour is lost");
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&fault), Some(&1));
    assert_eq!(counters.refused_total(), 1);
    assert_eq!(counters.admitted, 1);
    reason
}

/// The good side of a limit: every entry point accepts the space, together with its neighbour.
#[track_caller]
fn accepted(good: Space) {
    accepted_under(&key(), &SpaceRules::default(), good, neighbour().1);
}

/// [`accepted`] with rules that are not the default.
#[track_caller]
fn accepted_under(key: &RecordKey, rules: &SpaceRules, good: Space, other: Space) {
    let updates = (good.updates.len() + other.updates.len()) as u64;
    let mut spaces = [good, other];
    spaces.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let both = encode(spaces);
    rules.validate(key, &both, at(NOW)).unwrap();
    assert_eq!(rules.consolidate(key, &[&both]).unwrap(), both);
    let registry = Registry::default().with("sr", rules.clone()).unwrap();
    let mut replica = Replica::with(registry);
    replica.put(key, both.clone());
    assert_eq!(replica.refusals(), []);
    let stored = replica.store.record(key).unwrap().unwrap();
    assert_eq!(stored.encode(), both);
    assert_eq!(replica.store.counters().admitted, updates);
    assert_eq!(replica.store.counters().refused_total(), 0);
}
