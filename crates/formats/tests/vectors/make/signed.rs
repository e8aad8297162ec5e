//! Signed records: good, refused and selected.

use serde_json::{Value, json};
use smart_record_core::{Timestamp, Validator};
use smart_record_formats::signed::{
    SignedRecord, SignedRecordLimits, SignedRecordValidator, UnsignedRecord,
};
use smart_record_testing::{
    NOW,
    envelope::{envelope, field, varint},
    forge::Author,
    keys::other_signature,
    signed::{DOMAIN, Forgery, KEY, PAYLOAD_TYPE, key, payload},
};

use super::{case, choice, put_over, refused};
use crate::{
    forms::hex,
    judge::{self, signed::good},
};

fn alice() -> Author {
    Author::ed25519(1)
}

fn value(name: &str, about: &str, value: &[u8]) -> Value {
    case(
        name,
        "14",
        about,
        [("key", json!(hex(KEY))), ("now", json!(NOW)), ("value", json!(hex(value)))],
    )
}

/// The case with a policy.
fn by_policy(mut case: Value) -> Value {
    case["policy"] = json!("key-owner");
    case
}

/// A value that is put where another one is held.
fn over(name: &str, about: &str, bytes: &[u8], held: &[u8]) -> Value {
    put_over(value(name, about, bytes), held, |case| {
        case["good"] = good(case).unwrap();
        judge::put_over(&SignedRecordValidator::default(), &key(), bytes, held)
    })
}

fn yes(name: &str, about: &str, record: &SignedRecord) -> Value {
    let mut case = value(name, about, record.as_bytes());
    case["key"] = json!(hex(record.key().as_bytes()));
    case["good"] = good(&case).unwrap();
    case
}

fn no(name: &str, about: &str, bytes: &[u8], fault: &str, reason: &str) -> Value {
    let mut case = value(name, about, bytes);
    case["refused"] = refused(fault, reason);
    case
}

fn sign(author: &Author, record: UnsignedRecord) -> SignedRecord {
    let limits = SignedRecordLimits::default();
    record.sign(&author.0, &limits).unwrap()
}

fn says(value: impl Into<Vec<u8>>, sequence: u64) -> UnsignedRecord {
    UnsignedRecord::new(KEY, value.into(), sequence)
}

pub fn records() -> Vec<Value> {
    let alice = alice();
    let mut cases: Vec<_> = Author::all_types()
        .iter()
        .zip(["ed25519", "secp256k1", "ecdsa", "rsa"])
        .map(|(author, name)| {
            yes(
                &format!("of-{name}"),
                "An author with a key of this type.",
                &sign(author, says("hello", 1)),
            )
        })
        .collect();
    let forged = |payload: Vec<u8>| Forgery::by(&alice, payload);
    let plain = || payload(KEY.as_bytes(), b"hello", 1);
    let malformed = |name: &str, about: &str, bytes: &[u8], reason: &str| {
        no(name, about, bytes, "malformed", reason)
    };
    let whole = forged(plain()).encode();
    let until = |at: u64| [plain(), varint(4, at)].concat();
    let with = |change: fn(&mut Forgery)| {
        let mut forgery = Forgery::by(&Author::ed25519(1), payload(KEY.as_bytes(), b"hello", 1));
        change(&mut forgery);
        forgery.encode()
    };
    let reordered = {
        let Forgery { payload, public_key, payload_type, signature } = forged(plain());
        [field(2, &payload_type), field(1, &public_key), field(3, &payload), field(5, &signature)]
            .concat()
    };
    let unsigned = {
        let Forgery { payload, public_key, payload_type, .. } = forged(plain());
        [field(1, &public_key), field(2, &payload_type), field(3, &payload)].concat()
    };
    let other_type = {
        let mut forgery = forged(plain());
        forgery.payload_type = b"/libp2p-signed-record/other".to_vec();
        forgery.signature =
            alice.0.sign(&envelope(DOMAIN, &forgery.payload_type, &forgery.payload)).unwrap();
        forgery.encode()
    };
    let other_domain = {
        let mut forgery = forged(plain());
        forgery.signature =
            alice.0.sign(&envelope(b"libp2p-other", PAYLOAD_TYPE, &forgery.payload)).unwrap();
        forgery.encode()
    };
    let ahead = |micros: u64| says("hello", (NOW + 300_000) * 1_000 + micros);
    let long_key = |len: usize| {
        let key = format!("/notes/{}", "k".repeat(len - 7));
        let bytes = Forgery::by(&alice, payload(key.as_bytes(), b"x", 1)).encode();
        (key, bytes)
    };
    let (own, bob) = (format!("/notes/{}/a", alice.peer_id()), Author::ed25519(2));
    let [first, second] = [1, 2].map(|n| sign(&alice, says("x", n)).encode());
    let one = Forgery::by(&Author::ecdsa(), payload(KEY.as_bytes(), b"x", 1));
    let twin = Forgery { signature: other_signature(&one.signature), ..one.clone() };
    let (one, twin) = (one.encode(), twin.encode());
    let (key_256, of_256) = long_key(256);
    let (key_257, of_257) = long_key(257);
    let under = |mut case: Value, key: &str| {
        case["key"] = json!(hex(key));
        case
    };
    cases.extend([
        yes(
            "empty",
            "No value, and the sequence 0: both are not written.",
            &sign(&alice, says("", 0)),
        ),
        yes(
            "until",
            "It says when it expires.",
            &sign(&alice, says("hello", 1).until(Timestamp::from_millis(NOW + 1))),
        ),
        yes("6144-bytes", "The largest value.", &sign(&alice, says(vec![7; 6_144], 1))),
        yes(
            "skew-300000",
            "Five minutes ahead, to the last microsecond.",
            &sign(&alice, ahead(999)),
        ),
        no(
            "skew-300001",
            "A millisecond more.",
            sign(&alice, ahead(1_000)).as_bytes(),
            "limit",
            "clock-skew",
        ),
        no(
            "sequence-greatest",
            "Nobody can own a key for ever.",
            sign(&alice, says("", u64::MAX)).as_bytes(),
            "limit",
            "clock-skew",
        ),
        no("expired", "It expires now.", &forged(until(NOW)).encode(), "expired", "expired"),
        no(
            "expired-at-0",
            "The default of an optional field is written.",
            &forged(until(0)).encode(),
            "expired",
            "expired",
        ),
        no(
            "6145-bytes",
            "One byte more.",
            &forged(payload(KEY.as_bytes(), &[7; 6_145], 1)).encode(),
            "limit",
            "content-bytes",
        ),
        no("8705-bytes", "More than any envelope.", &[7; 8_705], "limit", "value-bytes"),
        {
            let mut case = under(value("key-256", "The longest key.", &of_256), &key_256);
            case["good"] = good(&case).unwrap();
            case
        },
        under(no("key-257", "One byte more.", &of_257, "limit", "key-bytes"), &key_257),
        no(
            "other-key",
            "A record of another key.",
            &forged(payload(b"/notes/b", b"hello", 1)).encode(),
            "invalid",
            "other-key",
        ),
        no(
            "signature",
            "Signed by another.",
            &with(|forgery| forgery.signature[0] ^= 1),
            "invalid",
            "signature",
        ),
        no("domain", "Signed in another domain.", &other_domain, "invalid", "signature"),
        malformed("payload-type", "Another payload type.", &other_type, "payload-type"),
        malformed("truncated", "The last byte is missing.", &whole[..whole.len() - 1], "protobuf"),
        malformed(
            "payload-no-message",
            "A payload that is no message.",
            &forged(vec![0x08]).encode(),
            "protobuf",
        ),
        malformed(
            "unknown-field",
            "A field more in the envelope.",
            &[&whole[..], &field(6, b"")].concat(),
            "not-canonical",
        ),
        malformed(
            "unknown-field-inside",
            "A field more in the record.",
            &forged([plain(), field(9, b"")].concat()).encode(),
            "not-canonical",
        ),
        malformed("reordered", "Fields in another order.", &reordered, "not-canonical"),
        malformed(
            "sequence-written",
            "The sequence 0 is not written.",
            &forged([field(1, KEY.as_bytes()), field(2, b"x"), varint(3, 0)].concat()).encode(),
            "not-canonical",
        ),
        malformed(
            "public-key",
            "No public key.",
            &with(|forgery| forgery.public_key = vec![1]),
            "public-key",
        ),
        no(
            "key-type",
            "A key of a type that there is not.",
            &with(|forgery| forgery.public_key = vec![8, 4, 0x12, 0]),
            "unsupported",
            "key-type",
        ),
        no(
            "signature-bytes",
            "A signature of 1,025 bytes.",
            &with(|forgery| forgery.signature = vec![1; 1_025]),
            "limit",
            "signature-bytes",
        ),
        no("empty-value", "No bytes.", &[], "malformed", "empty"),
        no("signature-missing", "No signature.", &unsigned, "invalid", "signature"),
        no(
            "key-empty",
            "No key in the record.",
            &forged([field(2, b"hello"), varint(3, 1)].concat()).encode(),
            "invalid",
            "other-key",
        ),
        {
            let record = sign(&alice, UnsignedRecord::new(own.clone(), "hello", 1));
            let mut case = under(value("key-owner", "The owner.", record.as_bytes()), &own);
            case["good"] = good(&case).unwrap();
            by_policy(case)
        },
        {
            let record = sign(&bob, UnsignedRecord::new(own.clone(), "hello", 1));
            let about = "Someone else than the owner.";
            by_policy(under(no("not-owner", about, record.as_bytes(), "policy", "not-owner"), &own))
        },
        by_policy(no("no-owner", "A key that is nobody's.", &whole, "policy", "no-owner")),
        over("over-lesser", "A better record takes the place.", &second, &first),
        over("over-better", "A worse record is stale.", &first, &second),
        over("over-same", "The same record.", &first, &first),
        over("over-greater-signature", "The same record: the lesser signature.", &twin, &one),
        over("over-lesser-signature", "The same the other way round.", &one, &twin),
    ]);
    cases
}

pub fn choices() -> Vec<Value> {
    let (alice, bob) = (alice(), Author::ed25519(2));
    let [one, two] = [1, 2].map(|n| sign(&alice, says("x", n)).encode());
    let texts = ["a", "b", "c"].map(|text| sign(&alice, says(text, 1)).encode());
    let of_bob = sign(&bob, says("x", 1)).encode();
    let until = sign(&alice, says("x", 1).until(Timestamp::from_millis(1))).encode();
    let author = Author::ecdsa();
    let forgery = Forgery::by(&author, payload(KEY.as_bytes(), b"x", 1));
    let twin = Forgery { signature: other_signature(&forgery.signature), ..forgery.clone() };
    let mut damaged = Forgery::by(&alice, payload(KEY.as_bytes(), b"x", 9));
    damaged.signature[9] ^= 1;
    let choice = |name: &str, about: &str, values: &[&[u8]]| {
        let rules = SignedRecordValidator::default();
        choice([name, "14", about], &key(), values, |key, values| rules.select(key, values))
    };
    vec![
        choice("sequence", "The higher one.", &[&one, &two]),
        choice("hash", "Of one sequence, the greater hash.", &[&texts[0], &texts[1], &texts[2]]),
        choice("author", "The author is a part of it.", &[&one, &of_bob]),
        choice("expiry", "So is the expiry; times are not looked at.", &[&one, &until]),
        choice(
            "lesser-signature",
            "Of one record, the lesser signature.",
            &[&forgery.encode(), &twin.encode()],
        ),
        choice("same", "Of the same, the first.", &[&one, &one]),
        choice(
            "bad-is-left-out",
            "What is not good does not count.",
            &[&damaged.encode()[..], b"rubbish", &one],
        ),
        choice("nothing-good", "There is no choice.", &[&damaged.encode()[..], b"rubbish"]),
    ]
}
