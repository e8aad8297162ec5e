//! Valid announcements at the wrong time.

use libp2p_smart_record::{Fault, Limit, ValidationError, Validator};

use super::*;

const MAX_TTL: i64 = 48 * HOUR;

#[test]
fn an_expired_announcement() {
    let draft = Draft::at(1).made(-TTL);
    let error = refused_under(&key(), &draft.encode(), Fault::Expired);
    assert_eq!(error, ValidationError::Expired { expired_at: now() });
    assert!(validator().read(&key(), &draft.encode(), now()).is_err());
    accepted(&Draft::at(1).made(1 - TTL).encode());
    // It is accepted beside a live one, but no view shows it, and no replica keeps it.
    let both = records(&[draft, Draft::at(2)]);
    validator().validate(&key(), &both, now()).unwrap();
    assert_eq!(validator().consolidate(&key(), &[&both]).unwrap(), both);
    let (mut replica, _) = replica();
    replica.write(&key(), &both).unwrap();
    assert_eq!(stored(&replica, &key()), Some(Draft::at(2).encode()));
    // A retained announcement need not be visible.
    let kept = Draft::at(1).made(-TTL).with(|m| m.retain_until = Some(NOW + 1));
    accepted(&kept.encode());
    assert!(seen(&kept.encode(), 0).is_empty());
}

#[test]
fn an_announcement_from_the_future() {
    accepted(&Draft::at(1).made(SKEW).encode());
    let future = Draft::at(1).made(SKEW + 1);
    exceeded(&refused_under(&key(), &future.encode(), Fault::LimitExceeded), Limit::CLOCK_SKEW);
    assert!(validator().read(&key(), &future.encode(), now()).is_err());
    // Also beside a good one. A reader keeps the good one.
    let both = records(&[Draft::at(2), future]);
    refused_under(&key(), &both, Fault::LimitExceeded);
    let read = validator().read(&key(), &both, now()).unwrap();
    assert_eq!(read.encode(), Draft::at(2).encode());
}

#[test]
fn an_announcement_that_lives_too_long() {
    accepted(&Draft::at(1).living(MAX_TTL).encode());
    accepted(&Draft::at(1).with(|m| m.retain_until = Some(NOW + MAX_TTL)).encode());
    for draft in [
        Draft::at(1).living(MAX_TTL + 1),
        Draft::at(1).with(|m| m.retain_until = Some(NOW + MAX_TTL + 1)),
        Draft::at(1).living(i64::MAX - NOW),
        Draft::withdrawn(1).living(MAX_TTL + 1),
    ] {
        exceeded(&refused(&draft.encode(), Fault::LimitExceeded), Limit::TTL);
    }
}

#[test]
fn dates_out_of_order() {
    accepted(&Draft::at(1).made(-1).living(2).encode());
    for draft in [
        Draft::at(1).living(0),
        Draft::at(1).living(-1),
        Draft::at(1).with(|m| m.retain_until = Some(m.expiration_date - 1)),
        Draft::at(1).with(|m| m.creation_date = -1),
        Draft::at(1).with(|m| m.expiration_date = i64::MIN),
        Draft::at(1).with(|m| m.retain_until = Some(-1)),
    ] {
        says(&refused(&draft.encode(), Fault::Malformed), "dates");
    }
    // Encoded although it equals the default.
    let draft = Draft::at(1).with(|m| m.retain_until = Some(m.expiration_date));
    says(&refused(&draft.encode(), Fault::Malformed), "canonical");
}
