//! Replays: under another key, of a lower sequence, and of the same record with another signature.

use smart_record_testing::keys::other_signature;

use super::*;

#[test]
fn a_replay_under_another_key() {
    let elsewhere = Forgery::by(&alice(), payload(b"/notes/b", b"evil", 10)).encode();
    let reason = refused(elsewhere.clone(), Fault::Invalid);
    assert!(reason.to_string().contains("/notes/b"), "{reason}");
    let rules = SignedRecordValidator::default();
    assert!(rules.validate(&"/notes/b".into(), &elsewhere, at(NOW)).is_ok());
}

#[test]
fn a_rollback() {
    let (key, old, new) = (key(), record_of(&alice(), "old", 4).encode(), honest());
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.put(&key, new.clone());
    replica.put(&key, old);
    assert_eq!(replica.refusals(), [ValidationError::Stale]);
    assert_eq!(replica.get(&key), Some(new.clone()));
    // The newer one again changes nothing, and is not refused.
    replica.put(&key, new.clone());
    assert_eq!(replica.events(), []);
    // An update is accepted.
    let newer = record_of(&alice(), "newer", 6).encode().to_vec();
    replica.put(&key, newer.clone());
    assert_eq!(replica.get(&key), Some(newer));
}

#[test]
fn the_same_sequence_twice_has_one_winner() {
    let key = key();
    let (a, b) = (record_of(&alice(), "a", 5), record_of(&alice(), "b", 5));
    let best = std::cmp::max_by_key(&a, &b, |record| record.rank().hash());
    for order in [[&a, &b], [&b, &a]] {
        let mut replica = Replica::with(registry(SignedRecordValidator::default()));
        for record in order {
            replica.put(&key, record.encode());
        }
        assert_eq!(replica.get(&key).unwrap(), best.encode());
    }
}

#[test]
fn a_second_signature_of_the_same_does_not_flap() {
    // For key types whose signatures differ each time, or can be changed by others.
    let author = Author::ecdsa();
    let payload = payload(KEY.as_bytes(), b"x", 5);
    let one = Forgery::by(&author, payload);
    let mut other = one.clone();
    other.signature = other_signature(&one.signature);
    let (one, other) = (one.encode(), other.encode());
    assert_ne!(one, other);
    let rules = SignedRecordValidator::default();
    let [a, b] = [&one, &other].map(|value| rules.read(&key(), value, at(NOW)).unwrap());
    assert_eq!(a.rank().hash(), b.rank().hash());
    let least = std::cmp::min(&one, &other);
    for order in [[&one, &other, &one], [&other, &one, &other]] {
        let mut replica = Replica::with(registry(rules.clone()));
        for value in order {
            replica.put(&key(), value.clone());
        }
        assert_eq!(replica.refusals(), []);
        assert_eq!(replica.get(&key()).as_ref(), Some(least));
    }
}
