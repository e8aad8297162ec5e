//! The signed fields of an announcement, and the unsigned ones beside it.

use libp2p_smart_record::Fault;
use prost::Message;

use super::*;

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
    // The fields of the public key in reverse order: the same key, another fingerprint.
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
