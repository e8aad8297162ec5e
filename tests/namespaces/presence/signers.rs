//! Missing, wrong and forged signatures.

use libp2p_smart_record::Fault;
use prost::Message;

use super::*;

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
    // Both are good. All replicas keep the same one, so they do not replace each other's for ever.
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
fn a_node_of_small_order_signs_anything() {
    // With this key the equation of Ed25519 holds for every message.
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
    // In the client's own record, and with the unsigned fields adjusted.
    let theirs = Draft::of(&mallory(), &node(1));
    let value = records(&[Draft::at(2), theirs.clone()]);
    refused_under(&key(), &value, Fault::Invalid);
    let read = validator().read(&key(), &value, now()).unwrap();
    assert_eq!(read.encode(), Draft::at(2).encode());
    let mut value = Draft::at(1).value();
    value.value = theirs.signed().encode_to_vec();
    says(&refused(&record([value]).encode_to_vec(), Fault::Invalid), "the client is");
}
