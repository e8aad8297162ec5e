//! Times that are too early or too late, and lifetimes that are too long.

use libp2p_smart_record::{Fault, Limit, LimitExceeded, ValidationError};

use super::*;

const SKEW: u64 = 5 * 60 * 1_000;
const MAX_TTL: u64 = 48 * 60 * 60 * 1_000;

fn over(limit: Limit, got: u64, max: u64) -> ValidationError {
    let got = Some(got);
    LimitExceeded { limit, got, max }.into()
}

fn issued_at(micros: u64) -> Update {
    Update { seq: micros, ..Update::saying(1) }
}

fn until(expires_at: u64, retain_until: Option<u64>) -> Update {
    Update { expires_at, retain_until, ..Update::saying(1) }
}

#[test]
fn a_seq_from_the_far_future_is_refused() {
    // A clock counts whole milliseconds, a seq microseconds.
    let last_good = (NOW + SKEW) * 1_000 + 999;
    accepted(alice().says(&issued_at(last_good)));
    let first_bad = alice().says(&issued_at(last_good + 1));
    let reason = refused_now(first_bad.clone(), Fault::LimitExceeded);
    assert_eq!(reason, over(Limit::CLOCK_SKEW, SKEW + 1, SKEW));

    let reason = refused_now(alice().says(&issued_at(u64::MAX)), Fault::LimitExceeded);
    let lead = u64::MAX / 1_000 - NOW;
    assert_eq!(reason, over(Limit::CLOCK_SKEW, lead, SKEW));

    // It is no longer the future a millisecond later.
    let mut replica = Replica::new();
    replica.hears([first_bad.clone()]);
    assert!(replica.is_empty());
    replica.clock.set(at(NOW + 1));
    assert_eq!(reasons(&replica.hears([first_bad])), []);
    assert_eq!(replica.view().len(), 1);
}

#[test]
fn a_seq_from_the_future_does_not_shut_its_own_writer_out_for_ever() {
    // The worst case within the limit: a writer whose clock was ahead by all of it.
    let mut replica = Replica::new();
    let ahead = alice().says(&Update {
        expires_at: NOW + SKEW + TTL,
        ..issued_at((NOW + SKEW) * 1_000).replacing()
    });
    replica.hears([ahead]);
    let events = replica.hears([alice().says(&Update::saying(3))]);
    assert_eq!(reasons(&events), [ValidationError::Stale]);
    replica.clock.set(at(NOW + SKEW + 1));
    let later = Update { expires_at: NOW + SKEW + TTL, ..issued_at((NOW + SKEW + 1) * 1_000) };
    assert_eq!(reasons(&replica.hears([alice().says(&later)])), []);
}

#[test]
fn too_long_a_lifetime_is_refused() {
    // Counted from the time of issue to the time until which replicas keep the update, spelled out
    // or not.
    let late = NOW + MAX_TTL;
    accepted(alice().says(&until(late, None)));
    accepted(alice().says(&until(NOW, Some(late))));
    for bad in [until(late + 1, None), until(NOW, Some(late + 1))] {
        let reason = refused(alice().says(&bad), Fault::LimitExceeded);
        assert_eq!(reason, over(Limit::TTL, MAX_TTL + 1, MAX_TTL));
    }
    for bad in [until(u64::MAX, None), until(0, Some(u64::MAX))] {
        let reason = refused(alice().says(&bad), Fault::LimitExceeded);
        assert_eq!(reason, over(Limit::TTL, u64::MAX - NOW, MAX_TTL));
    }
}

#[test]
fn a_lifetime_cannot_be_stretched_with_a_backdated_seq() {
    let backdated = Update { seq: 0, ..Update::saying(1) };
    let reason = refused(alice().says(&backdated), Fault::LimitExceeded);
    assert_eq!(reason, over(Limit::TTL, NOW + TTL, MAX_TTL));
}

#[test]
fn a_lifetime_counts_from_the_seq_even_if_that_is_ahead() {
    // So the maximum retention is the sum of the skew and the lifetime.
    let ahead = Update { expires_at: NOW + SKEW + MAX_TTL, ..issued_at((NOW + SKEW) * 1_000) };
    accepted(alice().says(&ahead));
    let longer = Update { expires_at: NOW + SKEW + MAX_TTL + 1, ..ahead };
    refused(alice().says(&longer), Fault::LimitExceeded);
}

#[test]
fn what_has_expired_is_refused() {
    let long_ago = (NOW - 1_000) * 1_000;
    let old =
        |expires_at, retain_until| Update { seq: long_ago, ..until(expires_at, retain_until) };
    accepted(alice().says(&old(NOW + 1, None)));
    accepted(alice().says(&old(NOW - 500, Some(NOW + 1))));
    for expired_at in [NOW, NOW - 1, 1, 0] {
        let expired_at = at(expired_at);
        let bad = old(expired_at.as_millis(), None);
        let reason = refused_now(alice().says(&bad), Fault::Expired);
        assert_eq!(reason, ValidationError::Expired { expired_at });
    }
    let expired_at = at(NOW);
    let reason = refused_now(alice().says(&old(NOW - 500, Some(NOW))), Fault::Expired);
    assert_eq!(reason, ValidationError::Expired { expired_at });
}

#[test]
fn what_expires_in_the_store_is_gone_to_the_millisecond() {
    let mut replica = Replica::new();
    let update = alice().says(&Update::saying(1));
    replica.hears([update.clone()]);
    replica.clock.set(at(NOW + TTL - 1));
    assert_eq!(replica.view().len(), 1);
    replica.clock.set(at(NOW + TTL));
    assert!(replica.view().is_empty());
    assert_eq!(replica.stored(), None);
    // A replay is refused as expired, and leaves nothing behind.
    let events = replica.hears([update]);
    let expired_at = at(NOW + TTL);
    assert_eq!(reasons(&events), [ValidationError::Expired { expired_at }]);
    assert!(replica.is_empty());
}
