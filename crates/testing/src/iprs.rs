//! Forged IPRS records, with an encoder and a signer of their own.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use smart_record_core::RecordKey;

use crate::{
    envelope::sign,
    keys::{ed25519, other_signature},
};

/// The owner of the keys.
pub fn alice() -> Keypair {
    ed25519(1)
}

/// The attacker.
pub fn mallory() -> Keypair {
    ed25519(2)
}

/// A key of this owner.
pub fn key_of(owner: &Keypair, name: &str) -> RecordKey {
    RecordKey::new(format!("/iprs/{}/{name}", owner.public().to_peer_id()))
}

/// Alice's key in most tests.
pub fn key() -> RecordKey {
    key_of(&alice(), "x")
}

/// Decodes a map.
pub fn parse(bytes: &[u8]) -> BTreeMap<String, Ipld> {
    match serde_ipld_dagcbor::from_slice(bytes).unwrap() {
        Ipld::Map(map) => map,
        other => panic!("{other:?}"),
    }
}

/// Encodes a map.
pub fn encode(map: &BTreeMap<String, Ipld>) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(&Ipld::Map(map.clone())).unwrap()
}

/// A map.
pub fn map<const N: usize>(fields: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, data)| (name.to_owned(), data)).collect())
}

/// The signature of a record object of any form.
pub fn signature(keypair: &Keypair, key: &RecordKey, object: &[u8]) -> Vec<u8> {
    sign(keypair, "libp2p-iprs", "/libp2p-iprs/record", key.as_bytes(), object)
}

/// A changed record object with Alice's valid signature, under a key.
pub fn tampered_under(
    key: &RecordKey,
    block: &[u8],
    change: impl FnOnce(&mut BTreeMap<String, Ipld>),
) -> Vec<u8> {
    let mut object = parse(block);
    change(&mut object);
    let signature = signature(&alice(), key, &encode(&object));
    let outer = [("record", Ipld::Map(object)), ("signature", Ipld::Bytes(signature))];
    serde_ipld_dagcbor::to_vec(&map(outer)).unwrap()
}

/// A record of an ECDSA author with the second valid signature.
pub fn twin(record: &[u8]) -> Vec<u8> {
    let mut outer = parse(record);
    let signature = match &outer["signature"] {
        Ipld::Bytes(signature) => other_signature(signature),
        other => panic!("{other:?}"),
    };
    outer.insert("signature".to_owned(), Ipld::Bytes(signature));
    encode(&outer)
}
