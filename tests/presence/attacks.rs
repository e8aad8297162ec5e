//! Attacks on presence records, one test each. Each is tried on the validator, the reader, the join, the
//! selection and a replica; see `refused` in `forge.rs`.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, PresenceValidator, RecordKey, ValidationError, Validator,
    presence::{
        AnnounceError, Announcement, Entry, HalfSigned, PresenceError, PresenceKey, PresenceLimits,
    },
    record::{Limit, LimitExceeded},
};
use prost::{Message, encoding::encode_varint};

use crate::forge::*;

const SKEW: i64 = 300_000;
const MAX_TTL: i64 = 48 * HOUR;

fn says(error: &ValidationError, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
}

fn exceeded(error: &ValidationError, limit: Limit) {
    assert!(
        matches!(error, ValidationError::LimitExceeded(LimitExceeded { limit: l, .. }) if *l == limit),
        "{error}"
    );
}

#[test]
fn an_honest_announcement_is_accepted() {
    accepted(&Draft::at(1).encode());
    accepted(&Draft::withdrawn(1).encode());
    accepted(&records(&[Draft::at(1), Draft::withdrawn(2), Draft::at(3)]));
}

// ------------------------------------------------- replays

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
    // Nor beside what is news.
    replica.write(&key(), &records(&[old, Draft::at(2)])).unwrap();
    assert_eq!(stored(&replica, &key()), Some(records(&[new, Draft::at(2)])));
}

#[test]
fn a_replay_under_another_client_s_key() {
    let theirs = key_of(&mallory());
    let error = refused_under(theirs.as_record_key(), &Draft::at(1).encode(), Fault::Malformed);
    says(&error, "key");
    // With all that is not signed made to fit.
    let mut record = Draft::at(1).under(theirs.as_str()).record();
    record.key = theirs.to_string();
    record.id1 = id(&mallory()).to_string();
    record.values[0].value = Draft::at(1).signed().encode_to_vec();
    let error = refused_under(theirs.as_record_key(), &record.encode_to_vec(), Fault::Invalid);
    says(&error, "the client is");
}

#[test]
fn a_replay_under_another_path() {
    for path in [format!("/presence/{}/chat", id(&client())), format!("/here/{}/", id(&client()))] {
        let other = PresenceKey::parse(&RecordKey::new(path)).unwrap();
        let mut record = record([Draft::at(1).value()]);
        record.key = other.to_string();
        let separator = if other.as_str().ends_with('/') { "" } else { "/" };
        record.values[0].id2 = format!("{other}{separator}{}", id(&node(1)));
        let value = record.encode_to_vec();
        let error = validator().validate(other.as_record_key(), &value, now()).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid);
        says(&error, "the signature is not that of the client");
        assert!(validator().read(other.as_record_key(), &value, now()).is_err());
    }
}

#[test]
fn a_replay_at_another_node() {
    let draft = Draft::at(1);
    let mut value = draft.value();
    value.id2 = Draft::at(2).value().id2;
    says(&refused(&record([value]).encode_to_vec(), Fault::Malformed), "id2");
    // Signed again by the other node, but not by the client.
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
    // When the withdrawal may go, so may what it hides.
    clock.advance(millis(2));
    assert_eq!(stored(&replica, &key()), None);
    let error = replica.write(&key(), &old.encode()).unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn a_resurrection_beside_a_live_announcement() {
    // The withdrawal has expired and so has what it hid; a neighbour that lives does not revive it.
    let old = Draft::at(1).living(TTL);
    let value = records(&[old, Draft::at(2).living(HOUR)]);
    let later = at(NOW + TTL);
    validator().validate(&key(), &value, later).unwrap();
    assert_eq!(seen(&value, TTL), [id(&node(2))]);
    let read = validator().read(&key(), &value, later).unwrap();
    assert_eq!(read.entries().len(), 1);
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

// ------------------------------------------------- times

#[test]
fn an_expired_announcement() {
    let draft = Draft::at(1).made(-TTL);
    let error = refused_under(&key(), &draft.encode(), Fault::Expired);
    assert_eq!(error, ValidationError::Expired { expired_at: now() });
    assert!(validator().read(&key(), &draft.encode(), now()).is_err());
    accepted(&Draft::at(1).made(1 - TTL).encode());
    // One that lives carries it along, but nobody sees it.
    accepted(&records(&[draft, Draft::at(2)]));
    // Kept is not the same as present.
    let kept = Draft::at(1).made(-TTL).with(|m| m.retain_until = Some(NOW + 1));
    accepted(&kept.encode());
    assert!(seen(&kept.encode(), 0).is_empty());
}

#[test]
fn an_announcement_from_the_future() {
    accepted(&Draft::at(1).made(SKEW).encode());
    let future = Draft::at(1).made(SKEW + 1);
    exceeded(&refused_under(&key(), &future.encode(), Fault::LimitExceeded), Limit::ClockSkew);
    assert!(validator().read(&key(), &future.encode(), now()).is_err());
    // Beside a good one as well; a reader takes the good one.
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
        exceeded(&refused(&draft.encode(), Fault::LimitExceeded), Limit::Ttl);
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
    // Written out although it is the same.
    let draft = Draft::at(1).with(|m| m.retain_until = Some(m.expiration_date));
    says(&refused(&draft.encode(), Fault::Malformed), "canonical");
}

// ------------------------------------------------- who signs

#[test]
fn swapped_keys() {
    let mut signed = Draft::at(1).signed();
    let swapped = Draft::at(1).with(|m| {
        std::mem::swap(&mut m.handshake_key, &mut m.presence_key);
    });
    signed.message = swapped.message.encode_to_vec();
    let value = swapped.value_of(signed.encode_to_vec());
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "of the client");
}

#[test]
fn swapped_identities() {
    let draft = Draft::at(1).with(|m| {
        std::mem::swap(&mut m.node_identity, &mut m.client_identity);
    });
    says(&refused(&draft.encode(), Fault::Invalid), "the client is");
}

#[test]
fn swapped_signatures() {
    let signed = Draft::at(1).signed();
    let swapped = Signed {
        client_signature: signed.node_signature.clone(),
        node_signature: signed.client_signature.clone(),
        ..signed
    };
    let value = Draft::at(1).value_of(swapped.encode_to_vec());
    refused(&record([value]).encode_to_vec(), Fault::Invalid);
}

#[test]
fn half_signed_by_the_client() {
    let draft = Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None);
    says(&refused(&draft.encode(), Fault::Invalid), "the node has not signed");
}

#[test]
fn half_signed_by_the_node() {
    let draft = Draft::at(1).signed_by(None, Some((node(1), BY_NODE)));
    says(&refused(&draft.encode(), Fault::Invalid), "the client has not signed");
}

#[test]
fn signed_by_nobody() {
    let draft = Draft::at(1).signed_by(None, None);
    says(&refused(&draft.encode(), Fault::Invalid), "has not signed");
}

#[test]
fn signed_twice_by_the_client() {
    for payload_type in [BY_CLIENT, BY_NODE] {
        let draft =
            Draft::at(1).signed_by(Some((client(), BY_CLIENT)), Some((client(), payload_type)));
        says(&refused(&draft.encode(), Fault::Invalid), "not that of the node");
    }
}

#[test]
fn signed_twice_by_the_node() {
    for payload_type in [BY_CLIENT, BY_NODE] {
        let draft = Draft::at(1).signed_by(Some((node(1), payload_type)), Some((node(1), BY_NODE)));
        says(&refused(&draft.encode(), Fault::Invalid), "not that of the client");
    }
}

#[test]
fn a_client_that_is_its_own_node() {
    let draft = Draft::of(&client(), &client());
    says(&refused(&draft.encode(), Fault::Invalid), "the same peer");
}

#[test]
fn signed_twice_in_different_ways() {
    // Both are good; all replicas keep the same, so that they do not send each other the two for ever.
    let draft = Draft::at(1);
    let other = draft.value_of(draft.signed_again(200).encode_to_vec());
    let other = record([other]).encode_to_vec();
    accepted(&other);
    let pair = [draft.encode(), other];
    assert_ne!(pair[0], pair[1]);
    let kept = pair.iter().min_by_key(|v| Record::decode(&v[..]).unwrap().values[0].value.clone());
    for order in [[0, 1], [1, 0]] {
        let (mut replica, _) = replica();
        for i in order {
            replica.write(&key(), &pair[i]).unwrap();
        }
        assert_eq!(stored(&replica, &key()).as_ref(), kept);
    }
}

#[test]
fn signed_for_another_purpose() {
    let good = || (Some((client(), BY_CLIENT)), Some((node(1), BY_NODE)));
    for (by_client, by_node) in [
        (Some((client(), BY_NODE)), good().1),
        (Some((client(), WITHDRAWAL)), good().1),
        (good().0, Some((node(1), BY_CLIENT))),
        (good().0, Some((node(1), WITHDRAWAL))),
    ] {
        refused(&Draft::at(1).signed_by(by_client, by_node).encode(), Fault::Invalid);
    }
    let mut draft = Draft::at(1);
    draft.domain = "libp2p-smart-record";
    refused(&draft.encode(), Fault::Invalid);
}

#[test]
fn signed_by_a_stranger() {
    let draft = Draft::at(1).signed_by(Some((mallory(), BY_CLIENT)), Some((node(1), BY_NODE)));
    says(&refused(&draft.encode(), Fault::Invalid), "of the client");
    let draft = Draft::at(1).signed_by(Some((client(), BY_CLIENT)), Some((node(2), BY_NODE)));
    says(&refused(&draft.encode(), Fault::Invalid), "of the node");
}

#[test]
fn a_changed_byte_anywhere() {
    let value = Draft::at(1).encode();
    for i in 0..value.len() {
        for bit in [1, 0x80] {
            let mut changed = value.clone();
            changed[i] ^= bit;
            assert!(validator().validate(&key(), &changed, now()).is_err(), "byte {i}");
            assert!(validator().read(&key(), &changed, now()).is_err(), "byte {i}");
        }
    }
}

#[test]
fn a_node_of_small_order_signs_anything() {
    // With this key the equation of Ed25519 holds for every message; `verify_strict` does not fall for it.
    let point = [&[1][..], &[0; 31]].concat();
    let identity = [&[0x08, 0x01, 0x12, 0x20][..], &point].concat();
    let draft = Draft::at(1).with(|m| {
        use sha2::Digest;
        m.fingerprint = sha2::Sha256::digest(&identity).to_vec();
        m.node_identity = identity;
    });
    let node_signature = [point, vec![0; 32]].concat();
    let signed = Signed { node_signature, ..draft.signed() };
    let value = draft.value_of(signed.encode_to_vec());
    let error = refused(&record([value]).encode_to_vec(), Fault::Invalid);
    says(&error, "of the node");
}

#[test]
fn values_of_another_client() {
    // In the client's own record, and with what is not signed made to fit.
    let theirs = Draft::of(&mallory(), &node(1));
    let value = records(&[Draft::at(2), theirs.clone()]);
    refused_under(&key(), &value, Fault::Invalid);
    let read = validator().read(&key(), &value, now()).unwrap();
    assert_eq!(read.encode(), Draft::at(2).encode());
    let mut value = Draft::at(1).value();
    value.value = theirs.signed().encode_to_vec();
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "the client is");
}

// ------------------------------------------------- withdrawals

#[test]
fn a_withdrawal_by_the_node() {
    let draft = Draft::withdrawn(1).signed_by(Some((node(1), WITHDRAWAL)), None);
    says(&refused(&draft.encode(), Fault::Invalid), "of the client");
    let draft = Draft::withdrawn(1).signed_by(None, Some((node(1), WITHDRAWAL)));
    says(&refused(&draft.encode(), Fault::Invalid), "the client has not signed");
}

#[test]
fn a_withdrawal_with_the_node_s_signature() {
    let draft =
        Draft::withdrawn(1).signed_by(Some((client(), WITHDRAWAL)), Some((node(1), WITHDRAWAL)));
    says(&refused(&draft.encode(), Fault::Malformed), "where there should be none");
}

#[test]
fn a_half_signed_announcement_made_a_withdrawal() {
    let half = Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None);
    let withdrawal = Draft::withdrawn(1);
    let signed = Signed { client_signature: half.signed().client_signature, ..withdrawal.signed() };
    let value = withdrawal.value_of(signed.encode_to_vec());
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "of the client");
    let draft = Draft::withdrawn(1).signed_by(Some((client(), BY_CLIENT)), None);
    says(&refused(&draft.encode(), Fault::Invalid), "of the client");
}

#[test]
fn a_mixture_of_announcement_and_withdrawal() {
    for draft in [
        Draft::withdrawn(1).with(|m| m.handshake_key = vec![8; 32]),
        Draft::withdrawn(1).with(|m| m.presence_key = vec![8; 32]),
        Draft::withdrawn(1).with(|m| m.retain_until = Some(m.expiration_date + 1)),
    ] {
        says(&refused(&draft.encode(), Fault::Malformed), "a mixture");
    }
}

#[test]
fn an_unknown_kind() {
    let draft = Draft::at(1).with(|m| m.kind = 2);
    refused(&draft.encode(), Fault::Unsupported);
}

// ------------------------------------------------- what is in it

#[test]
fn a_wrong_fingerprint() {
    use sha2::{Digest, Sha256};
    for fingerprint in [
        Vec::new(),
        Sha256::digest(client().public().encode_protobuf()).to_vec(),
        Sha256::digest(id(&node(1)).to_bytes()).to_vec(),
        Sha256::digest(node(1).public().encode_protobuf())[..31].to_vec(),
    ] {
        let draft = Draft::at(1).with(|m| m.fingerprint = fingerprint);
        says(&refused(&draft.encode(), Fault::Malformed), "fingerprint");
    }
}

#[test]
fn keys_that_are_none() {
    let low_order = [&[1][..], &[0; 31]].concat();
    for bad in [Vec::new(), vec![0; 32], low_order, vec![8; 31], vec![8; 33]] {
        let draft = Draft::at(1).with(|m| m.handshake_key = bad.clone());
        says(&refused(&draft.encode(), Fault::Malformed), "the key of the node");
        let draft = Draft::at(1).with(|m| m.presence_key = bad);
        says(&refused(&draft.encode(), Fault::Malformed), "the key of the client");
    }
}

#[test]
fn identities_that_are_none() {
    for bad in [Vec::new(), vec![8; 40], id(&node(1)).to_bytes()] {
        let draft = Draft::at(1).with(|m| m.node_identity = bad.clone());
        says(&refused(&draft.encode(), Fault::Malformed), "the identity of the node");
        let draft = Draft::at(1).with(|m| m.client_identity = bad);
        says(&refused(&draft.encode(), Fault::Malformed), "the identity of the client");
    }
}

#[test]
fn an_identity_in_another_encoding() {
    // The fields of the public key in the other order: the same key, another fingerprint.
    let canonical = node(1).public().encode_protobuf();
    let reordered = [&canonical[2..], &canonical[..2]].concat();
    let draft = Draft::at(1).with(|m| {
        use sha2::Digest;
        m.fingerprint = sha2::Sha256::digest(&reordered).to_vec();
        m.node_identity = reordered;
    });
    says(&refused(&draft.encode(), Fault::Malformed), "canonical");
}

#[test]
fn what_is_not_signed_is_changed() {
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 8] = [
        ("key", |r| r.key.push('x')),
        ("id1", |r| r.id1 = id(&mallory()).to_string()),
        ("updateDate", |r| r.update_date += 1),
        ("updateDate", |r| r.update_date = 0),
        ("id2", |r| r.values[0].id2.push('x')),
        ("id2", |r| r.values[0].id2 = id(&node(1)).to_string()),
        ("expirationDate", |r| r.values[0].expiration_date += 1),
        ("creationDate", |r| {
            r.values[0].creation_date += 1;
            r.update_date += 1;
        }),
    ];
    for (field, change) in changes {
        let mut record = Draft::at(1).record();
        change(&mut record);
        says(&refused(&record.encode_to_vec(), Fault::Malformed), field);
    }
}

// ------------------------------------------------- form

#[test]
fn no_values() {
    assert!(validator().validate(&key(), &[], now()).is_err());
    says(&refused(&record([]).encode_to_vec(), Fault::Malformed), "without a value");
}

#[test]
fn a_truncated_record() {
    let value = records(&[Draft::at(1), Draft::at(2)]);
    let first = Record {
        values: record([Draft::at(1).value(), Draft::at(2).value()]).values[..1].to_vec(),
        ..record([Draft::at(1).value()])
    };
    let first = first.encode_to_vec();
    for len in 0..value.len() {
        let cut = &value[..len];
        if cut == first {
            // Cut between the two: what is left is what the client said of one node.
            accepted(cut);
            continue;
        }
        assert!(validator().validate(&key(), cut, now()).is_err(), "{len}");
        assert!(validator().read(&key(), cut, now()).is_err(), "{len}");
    }
    assert!(value.starts_with(&first));
}

#[test]
fn a_truncated_announcement() {
    let draft = Draft::at(1);
    let whole = draft.signed().encode_to_vec();
    for len in 0..whole.len() {
        let value = record([draft.value_of(whole[..len].to_vec())]).encode_to_vec();
        assert!(validator().validate(&key(), &value, now()).is_err(), "{len}");
        assert!(validator().read(&key(), &value, now()).is_err(), "{len}");
    }
}

/// A field that no message has, and one that they have, but empty.
fn extra_fields() -> [Vec<u8>; 3] {
    let mut unknown = Vec::new();
    encode_varint(100 << 3, &mut unknown);
    encode_varint(1, &mut unknown);
    let mut empty = Vec::new();
    encode_varint((1 << 3) | 2, &mut empty);
    encode_varint(0, &mut empty);
    let mut unknown_bytes = Vec::new();
    encode_varint((100 << 3) | 2, &mut unknown_bytes);
    encode_varint(1, &mut unknown_bytes);
    unknown_bytes.push(7);
    [unknown, empty, unknown_bytes]
}

#[test]
fn extra_fields_in_the_record() {
    for extra in extra_fields() {
        let value = [Draft::at(1).encode(), extra].concat();
        refused(&value, Fault::Malformed);
    }
}

#[test]
fn extra_fields_in_a_value() {
    for extra in extra_fields() {
        let inner = [Draft::at(1).value().encode_to_vec(), extra].concat();
        let mut value = Record { values: Vec::new(), ..Draft::at(1).record() }.encode_to_vec();
        encode_varint((4 << 3) | 2, &mut value);
        encode_varint(inner.len() as u64, &mut value);
        value.extend_from_slice(&inner);
        says(&refused(&value, Fault::Malformed), "canonical");
    }
}

#[test]
fn extra_fields_in_the_signed_announcement() {
    for extra in extra_fields() {
        let draft = Draft::at(1);
        let value = draft.value_of([draft.signed().encode_to_vec(), extra].concat());
        says(&refused(&record([value]).encode_to_vec(), Fault::Malformed), "canonical");
    }
}

#[test]
fn extra_fields_in_the_message() {
    // Signed by both, so that nothing but its form is wrong.
    for extra in extra_fields() {
        let draft = Draft::at(1);
        let message = [draft.message.encode_to_vec(), extra].concat();
        let sign = |keypair: Keypair, payload_type| {
            let envelope = envelope(draft.domain, payload_type, draft.key.as_bytes(), &message);
            keypair.sign(&envelope).unwrap()
        };
        let signed = Signed {
            client_signature: sign(client(), BY_CLIENT),
            node_signature: sign(node(1), BY_NODE),
            message: message.clone(),
        };
        let value = draft.value_of(signed.encode_to_vec());
        says(&refused(&record([value]).encode_to_vec(), Fault::Malformed), "canonical");
    }
}

#[test]
fn duplicated_values_of_a_node() {
    let value = Draft::at(1).value();
    let twice = record([value.clone(), value.clone()]).encode_to_vec();
    says(&refused(&twice, Fault::Malformed), "canonical");
    let older = record([value, Draft::at(1).made(-1).value()]).encode_to_vec();
    says(&refused(&older, Fault::Malformed), "canonical");
}

#[test]
fn values_in_another_order() {
    let mut record = record([Draft::at(1).value(), Draft::at(2).value()]);
    accepted(&record.encode_to_vec());
    record.values.reverse();
    says(&refused(&record.encode_to_vec(), Fault::Malformed), "canonical");
}

#[test]
fn random_bytes() {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for len in (0..600).step_by(7) {
        let noise: Vec<_> = (0..len).map(|_| next()).collect();
        assert!(validator().validate(&key(), &noise, now()).is_err());
        assert!(validator().read(&key(), &noise, now()).is_err());
        // In the place of what is signed.
        let value = record([Draft::at(1).value_of(noise)]).encode_to_vec();
        assert!(validator().validate(&key(), &value, now()).is_err());
    }
}

// ------------------------------------------------- keys

#[test]
fn keys_that_name_no_client() {
    let value = Draft::at(1).encode();
    for key in [
        format!("/presence/{}", id(&client())),
        "/presence//".to_owned(),
        "/presence/nobody/".to_owned(),
        format!("/presence/ {}/", id(&client())),
        format!("/presence/{}/", "1".repeat(100)),
    ] {
        refused_under(&RecordKey::new(key), &value, Fault::Malformed);
    }
}

#[test]
fn a_key_that_is_too_long() {
    let path = |len: usize| {
        let bare = PresenceKey::of(id(&client())).as_str().len();
        let key = PresenceKey::with_path(id(&client()), &"x".repeat(len - bare));
        let draft = Draft::at(1).under(key.as_str());
        let mut record = draft.record();
        record.key = key.to_string();
        record.values[0].id2 = format!("{key}/{}", id(&node(1)));
        (key.as_record_key().clone(), record.encode_to_vec())
    };
    let (key, value) = path(256);
    validator().validate(&key, &value, now()).unwrap();
    let (key, value) = path(257);
    exceeded(&refused_under(&key, &value, Fault::LimitExceeded), Limit::KeyBytes);
}

// ------------------------------------------------- sizes

#[test]
fn an_oversized_record() {
    let value = records(&[Draft::at(1), Draft::at(2), Draft::at(3)]);
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(600);
        let validator = PresenceValidator::new(limits.with_record_bytes(max));
        validator.validate(&key(), &value, now())
    };
    let error = fits(value.len() - 1).unwrap_err();
    exceeded(&error, Limit::ValueBytes);
    // All three stay if one more of the largest size would fit besides.
    fits(value.len() + 700).unwrap();
    // Garbage is refused for its size before anybody looks at it.
    exceeded(&refused(&vec![0xff; 8 * 1_024 + 1], Fault::LimitExceeded), Limit::ValueBytes);
    refused(&vec![0xff; 8 * 1_024], Fault::Malformed);
}

#[test]
fn an_oversized_announcement() {
    let value = |draft: &Draft, len| record([draft.value_of(vec![0xff; len])]).encode_to_vec();
    let error = refused(&value(&Draft::at(1), 2_817), Fault::LimitExceeded);
    exceeded(&error, Limit::AnnouncementBytes);
    refused(&value(&Draft::at(1), 2_816), Fault::Malformed);
}

#[test]
fn identities_that_are_too_large() {
    // What counts is the largest that an announcement of these two can get.
    let [_, _, _, rsa] = all_types();
    let value = Draft::of(&client(), &rsa).encode();
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        PresenceValidator::new(limits).validate(&key(), &value, now())
    };
    let least = (0..2_816).find(|max| fits(*max).is_ok()).unwrap();
    assert!(least > Draft::of(&client(), &rsa).value().encode_to_vec().len());
    exceeded(&fits(least - 1).unwrap_err(), Limit::AnnouncementBytes);
}

#[test]
fn what_an_announcement_counts_is_never_less_than_its_length() {
    for client in all_types() {
        for node in all_types().iter().chain([&node(9)]) {
            if client.public() == node.public() {
                continue;
            }
            let draft = Draft::of(&client, node).with(|m| {
                m.creation_date = i64::MAX - 2;
                m.expiration_date = i64::MAX - 1;
                m.retain_until = Some(i64::MAX);
            });
            let value = draft.value();
            let framed = Record { values: vec![value.clone()], ..Record::default() }.encoded_len();
            let fits = |max| {
                let limits = PresenceLimits::default().with_announcement_bytes(max);
                Entry::decode(&key_of(&client), value.value.clone().into(), &limits).is_ok()
            };
            assert!(fits(2_816));
            assert!(!fits(framed - 1), "{framed}");
        }
    }
}

#[test]
fn an_oversized_signature() {
    let draft = Draft::at(1);
    // Of an Ed25519 key of 36 bytes, 72 are looked at.
    for (len, fault) in [(73, Fault::LimitExceeded), (72, Fault::Invalid)] {
        let signed = Signed { client_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
        let signed = Signed { node_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
    }
}

#[test]
fn too_many_nodes() {
    let drafts: Vec<_> = (1..=9).map(|n| Draft::at(n).made(-i64::from(n))).collect();
    accepted(&records(&drafts[..8]));
    let nine = records(&drafts);
    let error = refused_under(&key(), &nine, Fault::LimitExceeded);
    exceeded(&error, Limit::NodesPerClient);
    // In two pieces the newest eight stay, whatever comes first.
    for pieces in [[&drafts[..5], &drafts[5..]], [&drafts[5..], &drafts[..5]]] {
        let (mut replica, _) = replica();
        for piece in pieces {
            replica.write(&key(), &records(piece)).unwrap();
        }
        assert_eq!(stored(&replica, &key()).unwrap(), records(&drafts[..8]));
    }
}

#[test]
fn more_large_announcements_than_fit() {
    // Each counts at its largest, so they stop before the record is full; then bytes, not nodes, are the limit.
    let [_, _, _, rsa] = all_types();
    let large = Draft::of(&client(), &rsa);
    let limits = |record_bytes| {
        PresenceLimits::default().with_announcement_bytes(1_600).with_record_bytes(record_bytes)
    };
    let validate = |record_bytes, drafts: &[Draft]| {
        let validator = PresenceValidator::new(limits(record_bytes));
        validator.validate(&key(), &records(drafts), now())
    };
    let both = [large.clone().made(1), Draft::at(1)];
    let least = (0..8_192).find(|max| validate(*max, &both).is_ok()).unwrap();
    assert!(least > records(&both).len());
    // The second stays while the first comes to less than what is left beside another of the largest size.
    let weight = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        Entry::decode(&key_of(&client()), both[0].value().value.into(), &limits).is_ok()
    };
    let weight = (0..1_600).find(|max| weight(*max)).unwrap();
    let head = key_of(&client()).as_str().len() + id(&client()).to_string().len() + 16;
    assert_eq!(least, weight + 1 + 1_600 + head);
    exceeded(&validate(least - 1, &both).unwrap_err(), Limit::ValueBytes);
    validate(least - 1, &both[..1]).unwrap();
}

// ------------------------------------------------- the parties before each other

fn half() -> Vec<u8> {
    Draft::at(1).signed_by(Some((client(), BY_CLIENT)), None).signed().encode_to_vec()
}

fn decode_half(bytes: Vec<u8>) -> Result<HalfSigned, PresenceError> {
    HalfSigned::decode(&key_of(&client()), bytes.into(), validator().limits())
}

#[test]
fn a_node_signs_only_what_the_client_has_signed() {
    assert!(decode_half(half()).is_ok());
    let forged = Draft::at(1).signed_by(Some((mallory(), BY_CLIENT)), None);
    assert!(matches!(
        decode_half(forged.signed().encode_to_vec()),
        Err(PresenceError::Signature { .. })
    ));
    let unsigned = Draft::at(1).signed_by(None, None);
    assert!(matches!(
        decode_half(unsigned.signed().encode_to_vec()),
        Err(PresenceError::HalfSigned { .. })
    ));
    // Neither a finished announcement nor a withdrawal is half signed, nor the other way round.
    assert!(matches!(
        decode_half(Draft::at(1).signed().encode_to_vec()),
        Err(PresenceError::SurplusSignature { .. })
    ));
    assert_eq!(decode_half(Draft::withdrawn(1).signed().encode_to_vec()), Err(PresenceError::Kind));
    let decode = |bytes: Vec<u8>| {
        Announcement::decode(&key_of(&client()), bytes.into(), validator().limits())
    };
    assert!(matches!(decode(half()), Err(PresenceError::HalfSigned { .. })));
    assert_eq!(decode(Draft::withdrawn(1).signed().encode_to_vec()), Err(PresenceError::Kind));
    assert!(decode(Draft::at(1).signed().encode_to_vec()).is_ok());
}

#[test]
fn a_node_signs_only_for_itself_its_own_key_and_its_own_time() {
    let own = exchange_key(8);
    let sign = |node: &Keypair, handshake, now, limits: &PresenceLimits| {
        decode_half(half()).unwrap().countersign(node, handshake, now, limits)
    };
    let limits = PresenceLimits::default();
    let signed = sign(&node(1), own, now(), &limits).unwrap();
    assert_eq!(signed.encode(), Draft::at(1).signed().encode_to_vec());

    assert!(matches!(
        sign(&node(2), own, now(), &limits),
        Err(AnnounceError::Refused(PresenceError::OtherParty { .. }))
    ));
    let other = sign(&node(1), exchange_key(9), now(), &limits);
    assert_eq!(other, Err(AnnounceError::HandshakeKey));
    let refused = |result| {
        let Err(AnnounceError::Refused(error)) = result else { panic!("{result:?}") };
        ValidationError::from(error).fault()
    };
    assert_eq!(refused(sign(&node(1), own, at(NOW + TTL), &limits)), Fault::Expired);
    assert!(sign(&node(1), own, at(NOW + TTL - 1), &limits).is_ok());
    let early = at(NOW - SKEW - 1);
    assert_eq!(refused(sign(&node(1), own, early, &limits)), Fault::LimitExceeded);
    assert!(sign(&node(1), own, at(NOW - SKEW), &limits).is_ok());
    let strict = limits.with_max_ttl(millis(TTL - 1));
    assert_eq!(refused(sign(&node(1), own, now(), &strict)), Fault::LimitExceeded);
}
