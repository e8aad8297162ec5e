//! The accessors of a record, and its errors.

use super::*;

#[test]
fn a_local_write_says_why_it_is_refused() {
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.store.write(&key(), &honest()).unwrap();
    let old = record_of(&alice(), "old", 4).encode();
    let error = replica.store.write(&key(), &old).unwrap_err();
    assert_eq!(error, WriteError::Refused(ValidationError::Stale));
    let events = replica.events();
    assert!(
        matches!(
            &events[..],
            [
                StoreEvent::Stored { origin: Origin::Local, .. },
                StoreEvent::Refused { reason: ValidationError::Stale, .. }
            ]
        ),
        "{events:?}"
    );
}
