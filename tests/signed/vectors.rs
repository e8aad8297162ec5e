//! Signed records to and from other implementations of signed envelopes: py-libp2p, through files, and
//! rust-libp2p's own.

use std::{fs, path::PathBuf};

use libp2p_core::SignedEnvelope;
use libp2p_smart_record::{
    RecordKey, SignedRecord, Timestamp, UnsignedRecord, Writer, signed::SignedRecordLimits,
};
use serde_json::{Value, json};

use crate::{DOMAIN, PAYLOAD_TYPE, forge::Author};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/vectors/py-libp2p", name].iter().collect()
}

fn vectors(name: &str) -> Vec<Value> {
    let vectors: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap();
    assert!(!vectors.is_empty());
    vectors
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    let hex = text(value, field);
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
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
    for vector in vectors("signed-records.json") {
        let record = SignedRecord::decode(bytes(&vector, "envelope"), &limits)
            .unwrap_or_else(|error| panic!("{error}: {vector}"));
        assert_eq!(record.content(), &content(&vector));
        assert_eq!(record.author().to_base58(), text(&vector, "author"));
    }
}

#[test]
fn envelopes_of_py_libp2p_that_are_no_records() {
    for vector in vectors("refused-records.json") {
        let envelope = bytes(&vector, "envelope");
        // They are envelopes all the same.
        SignedEnvelope::from_protobuf_encoding(&envelope).unwrap();
        let limits = SignedRecordLimits::default();
        assert!(SignedRecord::decode(envelope, &limits).is_err(), "{}", text(&vector, "what"));
    }
}

#[test]
fn public_keys_of_py_libp2p() {
    for vector in vectors("public-keys.json") {
        let writer = Writer::decode(bytes(&vector, "value").into()).unwrap();
        assert_eq!(writer.peer_id().to_base58(), text(&vector, "peer_id"));
        assert_eq!(bytes(&vector, "key"), [b"/pk/", &writer.peer_id().to_bytes()[..]].concat());
    }
}

/// What `scripts/vectors/py_libp2p.py check` lets py-libp2p verify. If a change of the wire form is meant, run
/// this once with `UPDATE_VECTORS=1`.
#[test]
fn records_for_py_libp2p_are_current() {
    let limits = SignedRecordLimits::default();
    // Those whose signatures are the same each time, and of types that py-libp2p knows.
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
    assert_eq!(vectors("ours.json"), ours);
}

#[test]
fn rust_libp2p_reads_our_envelopes() {
    let limits = SignedRecordLimits::default();
    for author in Author::all_types() {
        let record = UnsignedRecord::new("/notes/a", "hello", 1).sign(&author.0, &limits).unwrap();
        let envelope = SignedEnvelope::from_protobuf_encoding(&record.encode()).unwrap();
        let domain = String::from_utf8(DOMAIN.to_vec()).unwrap();
        let (payload, key) = envelope.payload_and_signing_key(domain, PAYLOAD_TYPE).unwrap();
        assert_eq!(key, &author.0.public());
        assert_eq!(payload, crate::payload(b"/notes/a", b"hello", 1));
    }
}

#[test]
fn we_read_the_envelopes_of_rust_libp2p() {
    for author in Author::all_types() {
        let domain = String::from_utf8(DOMAIN.to_vec()).unwrap();
        let payload = crate::payload(b"/notes/a", b"hello", 1);
        let envelope =
            SignedEnvelope::new(&author.0, domain, PAYLOAD_TYPE.to_vec(), payload).unwrap();
        let record =
            SignedRecord::decode(envelope.into_protobuf_encoding(), &SignedRecordLimits::default())
                .unwrap();
        assert_eq!(record.value(), b"hello");
        assert_eq!(record.author(), author.peer_id());
    }
}
