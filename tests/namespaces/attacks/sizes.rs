//! Sizes and counts: both sides of every limit.

use std::time::Duration;

use libp2p_smart_record::{
    Fault, Limit, LimitExceeded, Limits, Malformed, Open, RecordKey, Registry, SpaceRules,
    UpdateError, ValidationError, WriterError,
};
use prost::Message;

use super::{
    replays::{converges, orders},
    *,
};

fn over(limit: Limit, got: u64, max: u64) -> ValidationError {
    let got = Some(got);
    LimitExceeded { limit, got, max }.into()
}

#[test]
fn a_key_is_at_most_256_bytes() {
    let rules = SpaceRules::default();
    for (len, fits) in [(256, true), (257, false)] {
        let key = RecordKey::new(format!("/sr/{}", "x".repeat(len - 4)));
        let value =
            encode([alice().space([alice().sign_under(key.as_bytes(), &Update::saying(1))])]);
        let expected = over(Limit::KEY_BYTES, 257, 256);
        let mut replica = Replica::new();
        replica.put(&key, value.clone());
        if fits {
            assert!(rules.validate(&key, &value, at(NOW)).is_ok());
            assert_eq!(rules.consolidate(&key, &[&value]).unwrap(), value);
            assert_eq!(replica.refusals(), []);
            assert_eq!(replica.store.view(&key).unwrap().len(), 1);
        } else {
            assert_eq!(rules.validate(&key, &value, at(NOW)), Err(expected.clone()));
            assert_eq!(rules.consolidate(&key, &[&value]), Err(expected.clone()));
            assert_eq!(replica.refusals(), [expected]);
            assert!(replica.is_empty());
            let counters = replica.store.counters();
            assert_eq!(counters.refused.get(&Fault::LimitExceeded), Some(&1));
        }
    }
}

#[test]
fn an_update_is_at_most_2048_bytes() {
    let largest = Update::of_len(2_048);
    assert_eq!(largest.encoded_len(), 2_048);
    accepted(alice().says(&largest));
    let reason = refused(alice().says(&Update::of_len(2_049)), Fault::LimitExceeded);
    assert_eq!(reason, over(Limit::UPDATE_BYTES, 2_049, 2_048));
    refused(alice().says(&Update::of_len(60_000)), Fault::LimitExceeded);
}

#[test]
fn a_signature_is_at_most_1024_bytes() {
    for author in Author::all_types() {
        let with = |len| {
            let mut update = author.sign(&Update::saying(1));
            update.signature.resize(len, 0);
            author.space([update])
        };
        // Up to the limit it is decoded, and found bad.
        for len in [0, 1, 63, 65, 257, 1_024] {
            refused(with(len), Fault::Invalid);
        }
        let reason = refused(with(1_025), Fault::LimitExceeded);
        assert_eq!(reason, over(Limit::SIGNATURE_BYTES, 1_025, 1_024));
    }
}

#[test]
fn a_public_key_is_at_most_1152_bytes() {
    // Type RSA with invalid key data.
    let with = |len: usize| {
        let mut space = alice().says(&Update::saying(1));
        space.public_key = [&varint(1, 0)[..], &field(2, &vec![0; len - 5])].concat();
        assert_eq!(space.public_key.len(), len);
        space
    };
    let reason = refused(with(1_152), Fault::Malformed);
    assert!(matches!(reason, ValidationError::Malformed(Malformed::Writer(WriterError::Key(_)))));
    let reason = refused(with(1_153), Fault::LimitExceeded);
    assert_eq!(reason, over(Limit::PUBLIC_KEY_BYTES, 1_153, 1_152));
}

/// Whether the space holds exactly these updates.
fn holds(state: &[u8], updates: &[SignedUpdate]) -> bool {
    state == encode([alice().space_of(updates.to_vec())])
}

#[test]
fn a_space_keeps_its_newest_64_updates() {
    let updates: Vec<_> = (0..65).map(|n| alice().sign(&Update::saying(1).after(n))).collect();
    let (oldest, newest) = updates.split_first().unwrap();

    // 64 fit.
    let mut replica = Replica::new();
    replica.hears([alice().space_of(newest.to_vec())]);
    assert!(holds(&replica.stored().unwrap(), newest));
    // An older one is refused, a newer one replaces the oldest.
    let events = replica.hears([alice().space([oldest.clone()])]);
    assert_eq!(reasons(&events), [ValidationError::Stale]);
    let mut replica = Replica::new();
    for update in &updates[..64] {
        replica.hears([alice().space([update.clone()])]);
    }
    assert!(holds(&replica.stored().unwrap(), &updates[..64]));
    replica.hears([alice().space([updates[64].clone()])]);
    assert!(holds(&replica.stored().unwrap(), newest));
    assert_eq!(replica.store.counters().superseded, 1);

    // All at once, backwards, and in the join.
    let mut backwards = updates.clone();
    backwards.reverse();
    for order in [updates.clone(), backwards] {
        let mut replica = Replica::new();
        replica.hears([alice().space_of(order.clone())]);
        assert!(holds(&replica.stored().unwrap(), newest));
        let joined = consolidate(&[&encode([alice().space_of(order)])]).unwrap();
        assert!(holds(&joined, newest));
    }
}

#[test]
fn a_space_keeps_its_newest_8_kib() {
    // An update is kept while the newer ones take less than 8 KiB - 2 KiB.
    for (third, fourth_stays) in [(2_047, true), (2_048, false)] {
        let sizes = [2_048, third, 2_048, 2_048];
        let updates: Vec<_> = (0..4)
            .zip(sizes)
            .map(|(n, size)| alice().sign(&Update::of_len(size).after(n)))
            .collect();
        let spaces: Vec<_> = updates.iter().map(|update| alice().space([update.clone()])).collect();
        let state = converges(&spaces);
        let stay = if fourth_stays { &updates[..] } else { &updates[1..] };
        assert!(holds(&state, stay), "third {third}");
        let bytes: usize = stay.iter().map(|update| update.update.len()).sum();
        assert!(bytes <= 8 * 1_024);
    }
}

#[test]
fn an_old_update_cannot_creep_back_into_a_full_space() {
    // After the large ones are dropped by age, a small older one must not fill the gap on one
    // replica only.
    let large: Vec<_> = (1..4).map(|n| alice().sign(&Update::of_len(2_048).after(n))).collect();
    let small = alice().sign(&Update::saying(1));
    let all: Vec<_> =
        [small].into_iter().chain(large.clone()).map(|update| alice().space([update])).collect();
    assert!(holds(&converges(&all), &large));
}

#[test]
fn limits_of_zero_still_hold() {
    // These limits are not sensible: they mean that nothing is accepted.
    let none = Limits::default;
    for limits in [
        none().with_spaces_per_record(0),
        none().with_updates_per_space(0),
        none().with_update_bytes(0),
        none().with_key_bytes(0),
        none().with_max_ttl(Duration::ZERO),
    ] {
        let rules = SpaceRules::new(limits.clone(), Open);
        let value = encode([alice().says(&Update::saying(1))]);
        assert!(rules.validate(&key(), &value, at(NOW)).is_err());
        let registry = Registry::default().with("sr", rules).unwrap();
        let mut replica = Replica::with(registry);
        replica.put(&key(), value);
        assert_eq!(replica.refusals().len(), 1, "{limits:?}");
        assert!(replica.is_empty(), "{limits:?}");
    }
}

#[test]
fn sizes_are_checked_before_signatures() {
    // The signature has the wrong length: if it were verified, the fault would be another.
    let mut huge = alice().sign(&Update::of_len(2_049));
    huge.signature = Vec::new();
    refused(alice().space([huge]), Fault::LimitExceeded);
    let mut deep = alice()
        .sign(&Update::of(node::just((0..20).fold(node::int(1), |inner, _| node::list(&[inner])))));
    deep.signature = Vec::new();
    refused(alice().space([deep]), Fault::LimitExceeded);
    let mut kind = alice().sign(&Update { kind: 9, ..Update::saying(1) });
    kind.signature = Vec::new();
    refused(alice().space([kind]), Fault::Unsupported);
    let mut text = alice().sign(&Update::of(node::just(node::float(f64::NAN))));
    text.signature = Vec::new();
    let reason = refused(alice().space([text]), Fault::Malformed);
    assert!(matches!(
        reason,
        ValidationError::Malformed(Malformed::Update { error: UpdateError::Document(_), .. })
    ));
}

#[test]
fn all_orders_of_three_are_six() {
    // The convergence tests depend on this.
    assert_eq!(orders(&[1, 2, 3]).len(), 6);
}
