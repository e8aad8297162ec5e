//! Forgeries: the wrong signer, content or record.

use libp2p_core::SignedEnvelope;
use libp2p_smart_record::{
    AllowList, Fault, KeyOwner, Limits, PolicyRefusal, RecordKey, SpaceRules, ValidationError,
};
use prost::Message;

use super::*;

#[test]
fn writers_of_all_key_types_are_welcome() {
    for author in Author::all_types() {
        accepted(author.says(&Update::saying(1)));
    }
}

#[test]
fn a_wrong_signer_is_refused() {
    for owner in Author::all_types() {
        // Mallory's signature in the owner's space.
        let bad = owner.space([mallory().sign(&Update::saying(1))]);
        let reason = refused(bad, Fault::Invalid);
        assert!(matches!(reason, ValidationError::Invalid(_)));
    }
    // One of the same type, whose signature parses.
    let bad = Author::ecdsa().space([Author::secp256k1().sign(&Update::saying(1))]);
    refused(bad, Fault::Invalid);
}

#[test]
fn an_update_moved_to_another_key_is_refused() {
    for other in ["/sr/rooms/other", "/sr/rooms/lobby/", "/sr/rooms/lobb", ""] {
        for author in Author::all_types() {
            let bad = author.space([author.sign_under(other, &Update::saying(1))]);
            refused(bad, Fault::Invalid);
        }
    }
}

#[test]
fn a_byte_cannot_wander_between_key_and_update() {
    // The key's length is signed, so `key ‖ update` cannot be cut at another place. The update `U`
    // signed under `key ‖ x` would otherwise vouch for `x ‖ U` under `key`; with `x` a tag and
    // a number, both parse.
    let update = Update::saying(1).encode_to_vec();
    let seq_len = varint(1, NOW * 1_000).len();
    let (seq, rest) = update.split_at(seq_len);
    let long_key = [KEY.as_bytes(), seq].concat();
    let mut moved = alice().sign_bytes(&RecordKey::new(long_key), rest.to_vec());
    moved.update = update;
    refused(alice().space([moved]), Fault::Invalid);
}

#[test]
fn a_signature_of_another_protocol_is_refused() {
    let update = Update::saying(1).encode_to_vec();
    for (domain, payload_type) in [
        ("libp2p-peer-record", "/libp2p-smart-record/update"),
        ("libp2p-smart-record", "/libp2p/routing-state-record"),
        ("", ""),
    ] {
        let message = bound(domain, payload_type, KEY.as_bytes(), &update);
        let signature = alice().0.sign(&message).unwrap();
        let update = update.clone();
        refused(alice().space([SignedUpdate { update, signature }]), Fault::Invalid);
    }
    // A signature of the bare update is not valid either.
    let signature = alice().0.sign(&update).unwrap();
    refused(alice().space([SignedUpdate { update, signature }]), Fault::Invalid);
}

#[test]
fn a_signature_of_the_same_writer_s_other_update_is_refused() {
    let mut bad = alice().sign(&Update::saying(1));
    bad.signature = alice().sign(&Update::saying(3)).signature;
    refused(alice().space([bad]), Fault::Invalid);
}

/// Flips bits of every byte. An accepted value must be what was signed: all of it if there is one
/// update. If there are several, a flip may hide one, for example by turning its field into an
/// unknown one, since any part of a record is a record.
fn flip_every_byte(spaces: Vec<Space>, masks: &[u8]) {
    let original = encode(spaces.clone());
    let rules = SpaceRules::default();
    rules.validate(&key(), &original, at(NOW)).unwrap();
    let record = read(&original);
    let updates: usize = spaces.iter().map(|space| space.updates.len()).sum();
    let (mut taken, mut refused) = (0, 0);
    for position in 0..original.len() {
        for mask in masks {
            let flip = format!("byte {position} ^ {mask:#x}");
            let mut value = original.clone();
            value[position] ^= mask;
            let is_valid = rules.validate(&key(), &value, at(NOW)).is_ok();
            taken += usize::from(is_valid);
            refused += usize::from(!is_valid);
            let mut replica = Replica::new();
            replica.put(&key(), value.clone());
            let joined = consolidate(&[&value]).unwrap_or_default();
            for state in [replica.stored(), Some(joined).filter(|v| !v.is_empty())] {
                let Some(state) = state.map(|state| read(&state)) else {
                    assert!(!is_valid, "{flip}");
                    continue;
                };
                if updates == 1 {
                    assert!(is_valid, "{flip}");
                    assert_eq!(state.view(at(NOW)), record.view(at(NOW)), "{flip}");
                }
                for (writer, space) in state.spaces() {
                    let original = record.space(writer).unwrap();
                    for update in space.updates() {
                        assert!(original.updates().any(|other| other == update), "{flip}");
                    }
                }
            }
        }
    }
    assert!(refused > taken, "{refused} refused, {taken} taken");
}

#[test]
fn a_flipped_byte_is_never_taken_for_something_else() {
    let masks: Vec<u8> = (0..8).map(|bit| 1 << bit).chain([0xff]).collect();
    flip_every_byte(vec![alice().says(&Update::saying(1))], &masks);
}

#[test]
fn a_flipped_byte_in_a_crowd_is_never_taken_for_something_else() {
    let (_, neighbour) = neighbour();
    let update = alice().sign(&Update::saying(1));
    let newer = alice().sign(&Update::saying(3).after(1));
    flip_every_byte(vec![alice().space([update, newer]), neighbour], &[1, 0x80]);
}

#[test]
fn a_flipped_byte_is_never_taken_with_other_key_types() {
    for author in Author::all_types() {
        flip_every_byte(vec![author.says(&Update::saying(1))], &[0x10]);
    }
}

#[test]
fn a_truncated_record_is_refused() {
    let whole = encode([alice().says(&Update::saying(1))]);
    let rules = SpaceRules::default();
    let mut replica = Replica::new();
    for len in 0..whole.len() {
        let error = rules.validate(&key(), &whole[..len], at(NOW)).unwrap_err();
        assert_eq!(error.fault(), Fault::Malformed, "{len} bytes: {error}");
        replica.put(&key(), &whole[..len]);
        assert_eq!(replica.refusals(), [error]);
    }
    assert!(replica.is_empty());
}

#[test]
fn the_owner_of_a_key_keeps_others_out() {
    let rules = SpaceRules::new(Limits::default(), KeyOwner);
    let (bob, _) = neighbour();
    let key = RecordKey::new(format!("/sr/{}/status", bob.peer_id()));
    let say =
        |author: &Author| author.space([author.sign_under(key.as_bytes(), &Update::saying(1))]);
    let reason = refused_under(
        &key,
        &rules,
        say(&mallory()),
        (bob.clone(), say(&bob)),
        Fault::RefusedByPolicy,
        Seen::Always,
    );
    let owner = bob.peer_id();
    assert_eq!(reason, PolicyRefusal::NotOwner { owner }.into());
}

#[test]
fn a_key_without_owner_is_nobody_s() {
    let rules = SpaceRules::new(Limits::default(), KeyOwner);
    let value = encode([mallory().says(&Update::saying(1))]);
    assert_eq!(rules.validate(&key(), &value, at(NOW)), Err(PolicyRefusal::NoOwner.into()));
}

#[test]
fn who_is_not_on_the_list_stays_out() {
    let (bob, space) = neighbour();
    let list: AllowList = [bob.peer_id()].into_iter().collect();
    let reason = refused_under(
        &key(),
        &SpaceRules::new(Limits::default(), list),
        mallory().says(&Update::saying(1)),
        (bob, space),
        Fault::RefusedByPolicy,
        Seen::Always,
    );
    assert_eq!(reason, PolicyRefusal::NotListed.into());
}

#[test]
fn a_listed_writer_s_name_does_not_open_the_door() {
    // Policies check the claimed writer. The signature still has to be that writer's.
    let listed = alice();
    let (bob, space) = neighbour();
    let list: AllowList = [bob.peer_id(), listed.peer_id()].into_iter().collect();
    refused_under(
        &key(),
        &SpaceRules::new(Limits::default(), list),
        listed.space([mallory().sign(&Update::saying(1))]),
        (bob, space),
        Fault::Invalid,
        Seen::Always,
    );
}

const DOMAIN: &str = "libp2p-smart-record";
const PAYLOAD_TYPE: &[u8] = b"/libp2p-smart-record/update";

/// Keys whose lengths take one byte and two.
fn short_and_long_keys() -> [RecordKey; 2] {
    [key(), RecordKey::new(format!("/sr/{}", "x".repeat(200)))]
}

fn payload(key: &RecordKey, update: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    prost::encoding::encode_varint(key.as_bytes().len() as u64, &mut payload);
    payload.extend_from_slice(key.as_bytes());
    payload.extend_from_slice(update);
    payload
}

#[test]
fn libp2p_s_own_envelope_verifies_what_is_signed_here() {
    use libp2p_smart_record::{Dict, SpaceSigner};
    for author in Author::all_types() {
        for key in short_and_long_keys() {
            let mut signer = SpaceSigner::new(key.clone(), author.0.clone(), Limits::default());
            let document: Dict = [("k", 1)].into_iter().collect();
            let ttl = std::time::Duration::from_millis(TTL);
            let update = signer.merge(document, at(NOW), ttl).unwrap();
            let envelope = |payload: Vec<u8>| {
                let envelope = Envelope {
                    public_key: author.public_key(),
                    payload_type: PAYLOAD_TYPE.to_vec(),
                    payload,
                    signature: update.signature().to_vec(),
                };
                SignedEnvelope::from_protobuf_encoding(&envelope.encode_to_vec()).unwrap()
            };
            let payload = payload(&key, update.as_bytes());
            let good = envelope(payload.clone());
            let (said, by) = good.payload_and_signing_key(DOMAIN.into(), PAYLOAD_TYPE).unwrap();
            assert_eq!((said, by), (&payload[..], &author.0.public()));
            // This detects a check that always succeeds.
            assert!(!envelope([&payload[..], b"x"].concat()).verify(DOMAIN.into()));
            assert!(!good.verify("libp2p-smart-records".into()));
        }
    }
}

#[test]
fn what_libp2p_s_own_envelope_signs_is_taken_here() {
    for author in Author::all_types() {
        for key in short_and_long_keys() {
            let update = Update::saying(1).encode_to_vec();
            let payload = payload(&key, &update);
            let envelope =
                SignedEnvelope::new(&author.0, DOMAIN.into(), PAYLOAD_TYPE.to_vec(), payload)
                    .unwrap();
            let envelope = Envelope::decode(&envelope.into_protobuf_encoding()[..]).unwrap();
            let signature = envelope.signature;
            let (bob, _) = neighbour();
            let other = bob.space([bob.sign_under(key.as_bytes(), &Update::saying(2))]);
            accepted_under(
                &key,
                &SpaceRules::default(),
                author.space([SignedUpdate { update, signature }]),
                other,
            );
        }
    }
}
