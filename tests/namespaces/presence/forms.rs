//! Encodings that are not canonical, and invalid keys.

use libp2p_identity::Keypair;
use libp2p_smart_record::{Fault, Limit, RecordKey, Validator, presence::PresenceKey};
use prost::{Message, encoding::encode_varint};

use super::*;

#[test]
fn an_honest_announcement_is_accepted() {
    accepted(&Draft::at(1).encode());
    accepted(&Draft::withdrawn(1).encode());
    accepted(&records(&[Draft::at(1), Draft::withdrawn(2), Draft::at(3)]));
}

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
            // Cut between the two: the rest is the client's entry for one node.
            accepted(cut);
            continue;
        }
        assert!(validator().validate(&key(), cut, now()).is_err(), "{len}");
        assert!(validator().read(&key(), cut, now()).is_err(), "{len}");
    }
    assert!(value.starts_with(&first));
}

/// An unknown field, and an empty known field.
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
    // Both have signed it, so only its form is wrong.
    for extra in extra_fields() {
        let draft = Draft::at(1);
        let message = [draft.message.encode_to_vec(), extra].concat();
        let sign = |keypair: Keypair, payload_type| {
            let envelope = bound(draft.domain, payload_type, draft.key.as_bytes(), &message);
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
    exceeded(&refused_under(&key, &value, Fault::LimitExceeded), Limit::KEY_BYTES);
}
