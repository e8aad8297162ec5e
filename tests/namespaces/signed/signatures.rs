//! Forged, swapped, misplaced and unusual signatures and keys.

use super::*;

#[test]
fn what_the_forger_makes_would_pass_if_it_were_true() {
    // Otherwise the attacks below would prove nothing.
    accepted(Forgery::saying(&mallory()).encode());
    let unsigned = UnsignedRecord::new(KEY, "evil", 10);
    let signed = unsigned.sign(&mallory().0, &SignedRecordLimits::default()).unwrap();
    assert_eq!(Forgery::saying(&mallory()).encode(), signed.encode());
}

#[test]
fn a_forged_signature() {
    let mut forgery = Forgery::saying(&alice());
    forgery.signature[40] ^= 1;
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn no_signature() {
    let forgery = Forgery { signature: Vec::new(), ..Forgery::saying(&alice()) };
    // A canonical message has no empty field.
    let encoded = forgery.encode();
    refused(encoded[..encoded.len() - 2].to_vec(), Fault::Invalid);
    refused(encoded, Fault::Malformed);
}

#[test]
fn a_swapped_author() {
    let public_key = alice().public_key();
    refused(Forgery { public_key, ..Forgery::saying(&mallory()) }.encode(), Fault::Invalid);
}

#[test]
fn a_changed_value() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload = payload(KEY.as_bytes(), b"more", 10);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_raised_sequence() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload = payload(KEY.as_bytes(), b"evil", 11);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_removed_expiry() {
    let dying = [payload(KEY.as_bytes(), b"evil", 10), varint(4, NOW + 1)].concat();
    let mut forgery = Forgery::by(&alice(), dying);
    forgery.payload = payload(KEY.as_bytes(), b"evil", 10);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_signature_of_another_domain() {
    let mut forgery = Forgery::saying(&alice());
    let message = envelope(b"libp2p-smart-record", PAYLOAD_TYPE, &forgery.payload);
    forgery.signature = alice().0.sign(&message).unwrap();
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn an_envelope_of_something_else() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload_type = vec![3, 1];
    let message = envelope(DOMAIN, &forgery.payload_type, &forgery.payload);
    forgery.signature = alice().0.sign(&message).unwrap();
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    // With the neutral element as public key and as R, and S = 0, the equation holds for every
    // message.
    let mut forgery = Forgery::saying(&alice());
    let mut neutral = [0; 32];
    neutral[0] = 1;
    forgery.public_key = [&[0x08, 0x01, 0x12, 0x20][..], &neutral].concat();
    forgery.signature = [neutral, [0; 32]].concat();
    let message = envelope(DOMAIN, PAYLOAD_TYPE, &forgery.payload);
    let public_key = libp2p_identity::PublicKey::try_decode_protobuf(&forgery.public_key).unwrap();
    assert!(public_key.verify(&message, &forgery.signature), "not an attack");
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_public_key_of_another_type() {
    let mut forgery = Forgery::saying(&alice());
    forgery.public_key[1] = 0;
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn a_public_key_in_another_form() {
    let mut forgery = Forgery::saying(&alice());
    // The fields in reverse order.
    forgery.public_key = [&forgery.public_key[2..], &forgery.public_key[..2]].concat();
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn all_types_of_keys_sign() {
    for author in Author::all_types() {
        let record = record_of(&author, "from me", 6);
        assert_eq!(record.author(), author.peer_id());
        accepted(record.encode().to_vec());
    }
}
