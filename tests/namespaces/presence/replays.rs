//! Replays: of old announcements, under other keys, and after a withdrawal.

use libp2p_smart_record::{Fault, ValidationError, Validator};
use prost::Message;

use super::*;

#[test]
fn a_rollback_at_one_node() {
    let (old, new) = (Draft::at(1), Draft::at(1).made(1));
    let both = [&old.encode()[..], &new.encode()];
    let (mut replica, _) = replica();
    replica.write(&key(), &new.encode()).unwrap();
    assert_eq!(replica.write(&key(), &old.encode()), Err(ValidationError::Stale.into()));
    assert_eq!(stored(&replica, &key()), Some(new.encode()));
    assert_eq!(validator().consolidate(&key(), &both).unwrap(), new.encode());
    assert_eq!(validator().select(&key(), &both), Ok(1));
    // Also not beside a newer entry.
    replica.write(&key(), &records(&[old, Draft::at(2)])).unwrap();
    assert_eq!(stored(&replica, &key()), Some(records(&[new, Draft::at(2)])));
}

#[test]
fn a_replay_under_another_client_s_key() {
    let theirs = key_of(&mallory());
    let error = refused_under(theirs.as_record_key(), &Draft::at(1).encode(), Fault::Malformed);
    says(&error, "key");
    // With all unsigned fields adjusted.
    let mut record = Draft::at(1).under(theirs.as_str()).record();
    record.key = theirs.to_string();
    record.id1 = id(&mallory()).to_string();
    record.values[0].value = Draft::at(1).signed().encode_to_vec();
    let error = refused_under(theirs.as_record_key(), &record.encode_to_vec(), Fault::Invalid);
    says(&error, "the client is");
}

#[test]
fn a_replay_at_another_node() {
    let draft = Draft::at(1);
    let mut value = draft.value();
    value.id2 = Draft::at(2).value().id2;
    says(&refused(&record([value]).encode_to_vec(), Fault::Malformed), "id2");
    // Signed by the other node, but not again by the client.
    let other = Draft::at(2);
    let signed = Signed { client_signature: draft.signed().client_signature, ..other.signed() };
    let value = other.value_of(signed.encode_to_vec());
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "of the client");
}

#[test]
fn a_resurrection_after_a_withdrawal() {
    let old = Draft::at(1).living(HOUR);
    let gone = Draft::withdrawn(1).made(1).living(HOUR);
    let (mut replica, clock) = replica();
    replica.write(&key(), &old.encode()).unwrap();
    assert_eq!(seen(&stored(&replica, &key()).unwrap(), 0), [id(&node(1))]);
    replica.write(&key(), &gone.encode()).unwrap();
    for _ in 0..2 {
        assert!(seen(&stored(&replica, &key()).unwrap(), 1).is_empty());
        assert_eq!(replica.write(&key(), &old.encode()), Err(ValidationError::Stale.into()));
        clock.advance(millis(HOUR - 1));
    }
    // The withdrawal is retained until everything that it hides may be dropped.
    clock.advance(millis(2));
    assert_eq!(stored(&replica, &key()), None);
    let error = replica.write(&key(), &old.encode()).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn a_half_signed_announcement_completed_after_the_withdrawal() {
    let kept = Draft::at(1).living(HOUR);
    let gone = Draft::withdrawn(1).made(1).living(HOUR);
    let (mut replica, _) = replica();
    replica.write(&key(), &gone.encode()).unwrap();
    assert_eq!(replica.write(&key(), &kept.encode()), Err(ValidationError::Stale.into()));
    assert_eq!(stored(&replica, &key()), Some(gone.encode()));
}
