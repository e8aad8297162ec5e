//! Exchange of signed records with other implementations of signed envelopes: py-libp2p, through
//! files, and rust-libp2p.

use super::*;

use std::{fs, path::PathBuf};

use libp2p_core::SignedEnvelope;
use serde_json::{Value, json};
use smart_record_testing::vectors::{self, bytes, text};

fn path(name: &str) -> PathBuf {
    vectors::path("py-libp2p").join(name)
}

fn read(name: &str) -> Vec<Value> {
    vectors::read(&path(name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content(vector: &Value) -> UnsignedRecord {
    let sequence = vector["sequence"].as_u64().unwrap();
    let mut content =
        UnsignedRecord::new(RecordKey::new(bytes(vector, "key")), bytes(vector, "value"), sequence);
    content.expires_at = vector["expires_at"].as_u64().map(Timestamp::from_millis);
    content
}

#[test]
fn records_that_py_libp2p_has_signed() {
    let limits = SignedRecordLimits::default();
    for vector in read("signed-records.json") {
        let record = SignedRecord::decode(bytes(&vector, "envelope"), &limits)
            .unwrap_or_else(|error| panic!("{error}: {vector}"));
        assert_eq!(record.content(), &content(&vector));
        assert_eq!(record.author().to_base58(), text(&vector, "author"));
    }
}

#[test]
fn envelopes_of_py_libp2p_that_are_no_records() {
    for vector in read("refused-records.json") {
        let envelope = bytes(&vector, "envelope");
        // They are valid envelopes.
        SignedEnvelope::from_protobuf_encoding(&envelope).unwrap();
        let limits = SignedRecordLimits::default();
        assert!(SignedRecord::decode(envelope, &limits).is_err(), "{}", text(&vector, "what"));
    }
}

#[test]
fn public_keys_of_py_libp2p() {
    for vector in read("public-keys.json") {
        let writer = Writer::decode(bytes(&vector, "value").into()).unwrap();
        assert_eq!(writer.peer_id().to_base58(), text(&vector, "peer_id"));
        assert_eq!(bytes(&vector, "key"), [b"/pk/", &writer.peer_id().to_bytes()[..]].concat());
    }
}

/// The records that `tests/interop/py/vectors.py check` verifies with py-libp2p. After an intended
/// change of the wire form, run this once with `UPDATE_VECTORS=1`.
#[test]
fn records_for_py_libp2p_are_current() {
    let limits = SignedRecordLimits::default();
    // Key types with deterministic signatures that py-libp2p knows.
    let ours: Vec<Value> = [Author::ed25519(1), Author::secp256k1(), Author::rsa()]
        .iter()
        .flat_map(|author| {
            let key = RecordKey::from_parts("notes", author.peer_id().to_base58()).unwrap();
            let plain = UnsignedRecord::new(key.clone(), "hello", 1);
            let full =
                UnsignedRecord::new(key, (0..=255).collect::<Vec<u8>>(), 1_700_000_000_000_000)
                    .until(Timestamp::from_millis(1_800_000_000_000));
            let empty = UnsignedRecord::new("/notes/", "", 0);
            [plain, full, empty].map(|content| (author, content.sign(&author.0, &limits).unwrap()))
        })
        .map(|(author, record)| {
            json!({
                "author": author.peer_id().to_base58(),
                "key": hex(record.key().as_bytes()),
                "value": hex(record.value()),
                "sequence": record.sequence(),
                "expires_at": record.expires_at().map(Timestamp::as_millis),
                "envelope": hex(&record.encode()),
            })
        })
        .collect();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&ours).unwrap() + "\n";
        fs::write(path("ours.json"), text).unwrap();
    }
    assert_eq!(read("ours.json"), ours);
}

#[test]
fn rust_libp2p_reads_our_envelopes() {
    let limits = SignedRecordLimits::default();
    for author in Author::all_types() {
        let record = UnsignedRecord::new("/notes/a", "hello", 1).sign(&author.0, &limits).unwrap();
        let envelope = SignedEnvelope::from_protobuf_encoding(&record.encode()).unwrap();
        let domain = String::from_utf8(DOMAIN.to_vec()).unwrap();
        let (said, key) = envelope.payload_and_signing_key(domain, PAYLOAD_TYPE).unwrap();
        assert_eq!(key, &author.0.public());
        assert_eq!(said, payload(b"/notes/a", b"hello", 1));
    }
}

#[test]
fn we_read_the_envelopes_of_rust_libp2p() {
    for author in Author::all_types() {
        let domain = String::from_utf8(DOMAIN.to_vec()).unwrap();
        let payload = payload(b"/notes/a", b"hello", 1);
        let envelope =
            SignedEnvelope::new(&author.0, domain, PAYLOAD_TYPE.to_vec(), payload).unwrap();
        let record =
            SignedRecord::decode(envelope.into_protobuf_encoding(), &SignedRecordLimits::default())
                .unwrap();
        assert_eq!(record.value(), b"hello");
        assert_eq!(record.author(), author.peer_id());
    }
}
