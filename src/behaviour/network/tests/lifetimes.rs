//! Lifetimes that holders state of watched values.

use futures::StreamExt;
use smart_record_core::{Timestamp, ValidationError, Validator, Validity};

use super::*;
use crate::client::Watch;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A value is a rank, and the number of seconds after `NOW` until which it is valid, if not zero.
struct Dated;

impl Validator for Dated {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let until = u32::from(value[1]);
        let expired_at = NOW.saturating_add(until * S);
        match until {
            0 => Ok(Validity::forever()),
            _ if expired_at <= now => Err(ValidationError::Expired { expired_at }),
            _ => Ok(Validity::until(expired_at)),
        }
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        smart_record_core::best_index(values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

/// A node that watches a value, which is not known yet.
fn watching() -> (Node, ManualClock, Watch) {
    let (clock, config) = (ManualClock::at(NOW), BehaviourConfig::default());
    let registry = Registry::empty().with("dated", Dated).unwrap();
    let mut node = Node::with_registry(registry, clock.clone(), 3, config);
    let client = node.client.clone();
    let watch = async move { client.watch("/dated/a").await };
    let watch = watch.boxed_local().now_or_never().unwrap().unwrap();
    node.poll();
    (node, clock, watch)
}

/// An answer with this value for so many seconds.
fn dated(value: [u8; 2], ttl: u32) -> Result<Response, Failure> {
    let record = Record { value: value.to_vec().into(), publisher: None, ttl: Some(ttl * S) };
    Ok(Response { record: Some(record), ..Response::default() })
}

/// What the subscriber is told next: a value, or that there is none.
fn told(node: &mut Node, watch: &mut Watch) -> Option<Option<Vec<u8>>> {
    node.pass(S);
    let snapshot = watch.next().now_or_never().flatten()?;
    Some(snapshot.value().map(|value| value.to_vec()))
}

#[test]
fn a_holder_shortens_no_lifetime_of_a_watched_value() {
    // What the fastest holder shows, and what the subscriber is told of it.
    for (shown, news) in [([5, 0], None), ([4, 0], None), ([6, 0], Some(vec![6, 0]))] {
        let (mut node, clock, mut watch) = watching();
        for _ in 0..3 {
            assert!(node.end(is_get, dated([5, 0], 100)).is_some());
        }
        assert_eq!(told(&mut node, &mut watch), Some(Some(vec![5, 0])));
        let _get = node.get_key("/dated/a", 60 * S);
        assert!(node.end(is_get, dated(shown, 1)).is_some());
        assert_eq!(told(&mut node, &mut watch), news.clone().map(Some), "{shown:?}");
        clock.advance(2 * S);
        // Only the better value takes its own lifetime along.
        assert_eq!(told(&mut node, &mut watch), news.map(|_| None), "{shown:?}");
        clock.advance(99 * S);
        let is_gone = told(&mut node, &mut watch) == Some(None);
        assert_eq!(is_gone, shown != [6, 0], "the lifetime that was known ends: {shown:?}");
    }
}

#[test]
fn a_value_that_has_expired_during_a_lookup_is_not_shown_to_watchers_again() {
    let (mut node, clock, mut watch) = watching();
    assert!(node.end(is_get, dated([5, 5], 100)).is_some());
    assert_eq!(told(&mut node, &mut watch), Some(Some(vec![5, 5])));
    clock.advance(6 * S);
    assert_eq!(told(&mut node, &mut watch), Some(None));
    while node.answer(is_get) {}
    assert_eq!(told(&mut node, &mut watch), None);
}

#[test]
fn what_a_watch_learns_during_its_lookup_is_not_replaced_by_something_worse() {
    let (mut node, _clock, mut watch) = watching();
    assert!(node.end(is_get, dated([5, 0], 100)).is_some());
    let value = [6, 0];
    node.behaviour.store_mut().write(&"/dated/a".into(), &value).unwrap();
    assert_eq!(told(&mut node, &mut watch), Some(Some(vec![6, 0])));
    while node.answer(is_get) {}
    assert_eq!(told(&mut node, &mut watch), None);
}
