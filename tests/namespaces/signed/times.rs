//! Expiry, and sequences from the future.

use super::*;

#[test]
fn an_expired_record() {
    let until = |millis: u64| {
        let content = UnsignedRecord::new(KEY, "mortal", 10).until(at(millis));
        content.sign(&alice().0, &SignedRecordLimits::default()).unwrap().encode().to_vec()
    };
    let rules = SignedRecordValidator::default;
    let reason = refused_by(rules(), until(NOW), Fault::Expired, Seen::ByValidateOnly);
    assert_eq!(reason, ValidationError::Expired { expired_at: at(NOW) });
    refused_by(rules(), until(0), Fault::Expired, Seen::ByValidateOnly);
    accepted(until(NOW + 1));
    assert_eq!(
        rules().validate(&key(), &until(NOW + 1), at(NOW)),
        Ok(Validity::until(at(NOW + 1)))
    );
}

#[test]
fn a_record_ends_when_it_said() {
    let content = UnsignedRecord::new(KEY, "mortal", 10).until(at(NOW + 10));
    let mortal = content.sign(&alice().0, &SignedRecordLimits::default()).unwrap();
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.put(&key(), mortal.encode());
    replica.clock.set(at(NOW + 9));
    assert!(replica.get(&key()).is_some());
    replica.clock.set(at(NOW + 10));
    assert_eq!(replica.get(&key()), None);
}

#[test]
fn a_sequence_from_the_future() {
    // Otherwise a writer that takes the greatest sequence wins for ever.
    let edge = (NOW + 5 * 60 * 1_000) * 1_000;
    let at_sequence =
        |sequence| Forgery::by(&mallory(), payload(KEY.as_bytes(), b"x", sequence)).encode();
    accepted(at_sequence(edge));
    let rules = SignedRecordValidator::default;
    for sequence in [edge + 1_000, u64::MAX] {
        let value = at_sequence(sequence);
        refused_by(rules(), value, Fault::LimitExceeded, Seen::ByValidateOnly);
    }
    let limits = SignedRecordLimits::default().with_max_clock_skew(Duration::MAX);
    accepted_by(SignedRecordValidator::new(limits, Open), at_sequence(u64::MAX));
}
