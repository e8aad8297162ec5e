//! Public keys as values of the DHT.

use libp2p_identity::{Keypair, PeerId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use smart_record_testing::keys::{self, all_types, ed25519};

use super::{case, refused, rsa};
use crate::forms::hex;

fn encoded(keypair: &Keypair) -> Vec<u8> {
    keypair.public().encode_protobuf()
}

fn of(name: &str, about: &str, path: &[u8], value: &[u8]) -> Value {
    let key = [b"/pk/", path].concat();
    case(name, "2", about, [("key", json!(hex(key))), ("value", json!(hex(value)))])
}

fn no(mut case: Value, fault: &str, reason: &str) -> Value {
    case["refused"] = refused(fault, reason);
    case
}

fn good(mut case: Value, peer_id: PeerId) -> Value {
    case["peer_id"] = json!(peer_id.to_string());
    case
}

pub fn records() -> Vec<Value> {
    let path = |keypair: &Keypair| keypair.public().to_peer_id().to_bytes();
    let names = ["ed25519", "secp256k1", "ecdsa", "rsa"];
    let mut cases: Vec<_> = all_types()
        .iter()
        .zip(names)
        .map(|(keypair, name)| {
            let case = of(name, "The key of its peer id.", &path(keypair), &encoded(keypair));
            good(case, keypair.public().to_peer_id())
        })
        .collect();
    let (alice, rsa_key) = (ed25519(1), keys::rsa());
    let value = encoded(&alice);
    let hashed = [&[0x12, 0x20][..], &Sha256::digest(&value)].concat();
    let inlined = {
        let value = rsa::of_len(43);
        ([&[0, 43][..], &value].concat(), value)
    };
    let text = alice.public().to_peer_id().to_string();
    let cid = [&[0x01, 0x72][..], &path(&alice)].concat();
    let other = |name: &str, about: &str, path: &[u8], value: &[u8]| {
        no(of(name, about, path, value), "invalid", "other-key")
    };
    let malformed = |name: &str, about: &str, value: &[u8]| {
        no(of(name, about, &path(&alice), value), "malformed", "public-key")
    };
    cases.extend([
        other("other-key", "The key of another peer id.", &path(&ed25519(2)), &value),
        other(
            "other-key-of-hash",
            "The same of a hash.",
            &path(&rsa_key),
            &encoded(&keys::ecdsa()),
        ),
        other("text", "The path is the text of the peer id.", text.as_bytes(), &value),
        other("cid", "The path is the peer id as a CID.", &cid, &value),
        other("hash-of-short-key", "The path is the hash of a key of 36 bytes.", &hashed, &value),
        other("inlined-long-key", "The path is a key of 43 bytes.", &inlined.0, &inlined.1),
        other("trailing", "A byte after the peer id.", &[&path(&alice)[..], &[0]].concat(), &value),
        other("no-path", "The path is empty.", b"", &value),
        other("long-path", "A key of more than 256 bytes.", &[0; 300], &value),
        malformed("empty", "No bytes.", b""),
        malformed("bare", "The 32 bytes of the key alone.", &value[4..]),
        malformed("trailing-value", "A byte after the key.", &[&value[..], &[0]].concat()),
        no(
            of("type-4", "A type that there is not.", &path(&alice), &[0x08, 4, 0x12, 0]),
            "unsupported",
            "key-type",
        ),
        no(
            of("1153-bytes", "Longer than any public key.", &path(&alice), &[0; 1_153]),
            "limit",
            "public-key-bytes",
        ),
    ]);
    cases
}
