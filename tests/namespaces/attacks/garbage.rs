//! Values that are not records.

use libp2p_smart_record::{
    Fault, Malformed, SpaceRules, UpdateError, ValidationError, WriterError,
};
use proptest::prelude::*;

use super::*;

/// Checks that every entry point refuses a value. Returns the reason.
fn refused_value(value: &[u8]) -> ValidationError {
    let rules = SpaceRules::default();
    let error = rules.validate(&key(), value, at(NOW)).unwrap_err();
    assert!(rules.consolidate(&key(), &[value]).is_err());
    assert!(rules.select(&key(), &[value]).is_err());
    let mut replica = Replica::new();
    replica.put(&key(), value);
    assert!(replica.is_empty());
    assert_eq!(replica.stored(), None);
    // Beside a good value it changes nothing.
    let good = encode([neighbour().1]);
    assert_eq!(rules.consolidate(&key(), &[value, &good]).unwrap(), good);
    assert_eq!(rules.select(&key(), &[value, &good]), Ok(1));
    error
}

#[test]
fn an_empty_value_is_refused() {
    let empty = ValidationError::Malformed(Malformed::Empty);
    assert_eq!(refused_value(&[]), empty);
    let mut replica = Replica::new();
    replica.put(&key(), Vec::new());
    assert_eq!(replica.refusals(), [empty]);
    assert_eq!(replica.store.counters().refused.get(&Fault::Malformed), Some(&1));
}

#[test]
fn spaces_without_updates_are_refused() {
    let empty = ValidationError::Malformed(Malformed::Empty);
    assert_eq!(refused_value(&encode([alice().space([])])), empty);
    let many: Vec<_> = (0..100).map(|n| Author::ed25519(n).space([])).collect();
    assert_eq!(refused_value(&encode(many)), empty);
    assert_eq!(refused_value(&[0x0a, 0x00]), empty);
}

#[test]
fn a_space_without_a_key_is_refused() {
    let mut space = alice().says(&Update::saying(1));
    space.public_key = Vec::new();
    let reason = refused(space, Fault::Malformed);
    assert!(matches!(reason, ValidationError::Malformed(Malformed::Writer(WriterError::Key(_)))));
}

#[test]
fn an_empty_update_is_refused() {
    // No update at all: it expired at the epoch.
    let nothing = SignedUpdate::default();
    let expired_at = at(0);
    let reason = refused_unsigned(nothing);
    assert_eq!(reason, ValidationError::Expired { expired_at });
    // An update without a signature, and a signature without an update.
    let mut unsigned = alice().sign(&Update::saying(1));
    unsigned.signature.clear();
    refused(alice().space([unsigned]), Fault::Invalid);
    let mut bare = alice().sign(&Update::saying(1));
    bare.update.clear();
    let reason = refused_unsigned(bare);
    assert_eq!(reason, ValidationError::Expired { expired_at });
}

/// An expired and unsigned value is refused as expired, which is the cheaper check.
fn refused_unsigned(update: SignedUpdate) -> ValidationError {
    refused(alice().space([update]), Fault::Expired)
}

#[test]
fn groups_within_groups_do_not_overflow_the_stack() {
    // Field 3, start of a group, repeated: a stack overflow for recursive protobuf readers.
    let groups = vec![0x1b; 60_000];
    let reason = refused_value(&groups);
    assert!(matches!(reason, ValidationError::Malformed(Malformed::Container(_))));
    // In place of an update, and in place of a node of an unknown kind.
    let update = alice().sign_bytes(&key(), vec![0x3b; 2_000]);
    let reason = refused(alice().space([update]), Fault::Malformed);
    assert!(matches!(
        reason,
        ValidationError::Malformed(Malformed::Update { error: UpdateError::Protobuf(_), .. })
    ));
    let node = node::just(vec![0x5b; 1_800]);
    refused(alice().says(&Update::of(node)), Fault::Malformed);
    // Also with closed groups.
    let closed = [vec![0x5b; 900], vec![0x5c; 900]].concat();
    refused(alice().says(&Update::of(node::just(closed))), Fault::Malformed);
}

#[test]
fn lengths_that_lie_are_refused() {
    for value in [
        &[0x0a, 0x7f][..],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x0a, 0x02, 0x12, 0x7f],
        &[0x00],
        &[0x80],
        &[0x0c],
        &[0x07],
    ] {
        let reason = refused_value(value);
        assert!(matches!(reason, ValidationError::Malformed(Malformed::Container(_))), "{reason}");
    }
}

#[test]
fn values_of_other_protocols_are_refused() {
    for value in [&b"hello"[..], b"{\"seq\": 1}", b"\x00\x01\x02\x03", b"/ipfs/bafy"] {
        assert_eq!(refused_value(value).fault(), Fault::Malformed);
    }
}

#[test]
fn a_packet_of_nothings_takes_no_neighbour_with_it() {
    // As many spaces as fit into a packet, two bytes each.
    let (bob, good) = neighbour();
    let value = [encode([good.clone()]), [0x0a, 0x00].repeat(7_500)].concat();
    let mut replica = Replica::new();
    replica.put(&key(), value);
    assert_eq!(replica.stored().unwrap(), encode([good]));
    let stored = replica.events().into_iter().any(|event| {
        matches!(event, libp2p_smart_record::store::StoreEvent::Stored { writers, .. }
            if writers == [bob.peer_id()])
    });
    assert!(stored, "the news is lost among the refusals");
    assert_eq!(replica.store.counters().events_lost, 0);
    assert_eq!(replica.store.counters().refused_total(), 0);
}

#[test]
fn a_packet_of_refusals_takes_no_neighbour_with_it() {
    // Four bytes each: an empty update in a space without a key. There are more than the buffer of
    // a subscriber holds.
    let (_, good) = neighbour();
    let many = 3_750;
    let bad = [0x0a, 0x02, 0x12, 0x00].repeat(many);
    let mut replica = Replica::new();
    replica.put(&key(), [encode([good.clone()]), bad].concat());
    assert_eq!(replica.stored().unwrap(), encode([good]));
    // They give one event, so they do not displace others.
    let events = replica.events();
    assert_eq!(events.len(), 2, "{events:?}");
    let counters = replica.store.counters();
    assert_eq!(counters.refused_total(), many as u64);
    assert_eq!(counters.events_lost, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn random_bytes_are_refused(value in prop::collection::vec(any::<u8>(), 0..300)) {
        refused_value(&value);
    }

    #[test]
    fn random_parts_are_refused(
        public_key in prop_oneof![
            Just(alice().public_key()),
            Just(Author::secp256k1().public_key()),
            Just(Author::ecdsa().public_key()),
            Just(Author::rsa().public_key()),
            prop::collection::vec(any::<u8>(), 0..100),
        ],
        update in prop_oneof![
            any::<i64>().prop_map(|n| alice().sign(&Update::saying(n)).update),
            prop::collection::vec(any::<u8>(), 0..100),
        ],
        signature in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let updates = vec![SignedUpdate { update, signature }];
        refused_value(&encode([Space { public_key, updates }]));
    }

    #[test]
    fn random_documents_are_canonical_or_refused(document in prop::collection::vec(any::<u8>(), 0..40)) {
        // The signature is good, so the result depends on the document alone.
        let update = alice().sign(&Update::of(document));
        let space = alice().space([update.clone()]);
        match validate([space.clone()]) {
            Ok(_) => {
                let read = signed(&alice(), &update);
                let again = libp2p_smart_record::codec::encode(&read.document());
                prop_assert_eq!(again, Update::of_bytes(&update.update).document);
                accepted(space);
            }
            Err(error) => {
                let fault = error.fault();
                prop_assert!(matches!(fault, Fault::Malformed | Fault::LimitExceeded));
                refused(space, fault);
            }
        }
    }
}
