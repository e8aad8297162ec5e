//! Limits.

use super::*;

#[test]
fn a_key_too_long() {
    let rules = SignedRecordValidator::default();
    for (len, fits) in [(256, true), (257, false)] {
        let key = RecordKey::new(format!("/notes/{}", "k".repeat(len - 7)));
        let value = Forgery::by(&alice(), payload(key.as_bytes(), b"x", 1)).encode();
        let validity = rules.validate(&key, &value, at(NOW));
        assert_eq!(validity.is_ok(), fits);
        let fault = validity.err().map(|error| error.fault());
        assert_eq!(fault, (!fits).then_some(Fault::LimitExceeded));
        let unsigned = UnsignedRecord::new(key, "x", 1);
        assert_eq!(unsigned.sign(&alice().0, rules.limits()).is_ok(), fits);
    }
}

#[test]
fn the_largest_record_is_below_the_bound_on_its_bytes() {
    // The value, the key, and the author with the longest signature in the tests.
    let limits = SignedRecordLimits::default();
    let key = format!("/notes/{}", "k".repeat(249));
    for author in Author::all_types() {
        let content = UnsignedRecord::new(&*key, vec![1; 6_144], u64::MAX).until(Timestamp::MAX);
        let record = content.sign(&author.0, &limits).unwrap();
        SignedRecord::decode(record.encode(), &limits).unwrap();
    }
}
