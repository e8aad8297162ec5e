//! Presence: good and refused records, and joins.

use libp2p_identity::Keypair;
use prost::Message;
use serde_json::{Value, json};
use smart_record_core::{Validator, Writer};
use smart_record_formats::presence::PresenceValidator;
use smart_record_testing::{
    envelope::{field, sign, varint},
    keys::{self, all_types, ecdsa, other_signature},
    presence::{
        BY_CLIENT, BY_NODE, Draft, HOUR, NOW, Record, Signed, TTL, WITHDRAWAL, WITHDRAWN, client,
        id, key, mallory, node, path_of, record, records as several,
    },
};

use super::{case, choice, refused, rsa};
use crate::{
    forms::hex,
    judge::{
        presence::{join, views},
        unhex,
    },
};

const MAX_TTL: i64 = 48 * HOUR;
const SKEW: i64 = 300_000;

fn value(name: &str, section: &str, about: &str, key: &[u8], value: &[u8]) -> Value {
    case(
        name,
        section,
        about,
        [("key", json!(hex(key))), ("now", json!(NOW)), ("values", json!([hex(value)]))],
    )
}

/// The case with the join of the values, and its views at these times.
fn seen(mut case: Value, times: &[i64]) -> Value {
    case["record"] = json!(join(&case, &[]).map(|record| hex(record.encode())));
    case["views"] = views(&case, times);
    case
}

fn good(name: &str, section: &str, about: &str, bytes: &[u8]) -> Value {
    seen(value(name, section, about, key().as_bytes(), bytes), &[NOW])
}

/// A record that a replica refuses as a whole.
fn no(name: &str, about: &str, bytes: &[u8], fault: &str, reason: &str) -> Value {
    refuse(value(name, "13.3", about, key().as_bytes(), bytes), fault, reason)
}

fn refuse(mut case: Value, fault: &str, reason: &str) -> Value {
    case["refused"] = refused(fault, reason);
    case
}

pub fn records() -> Vec<Value> {
    let mut cases = good_records();
    cases.extend(weights());
    cases.extend(refused_records());
    cases.extend(refused_messages());
    cases.extend(times());
    cases
}

fn good_records() -> Vec<Value> {
    let mut cases: Vec<_> = all_types()
        .iter()
        .zip(["ed25519", "secp256k1", "ecdsa", "rsa"])
        .map(|(of, name)| {
            let draft = Draft::of(&client(), of);
            good(
                &format!("node-{name}"),
                "13.2",
                "A node with a key of this type.",
                &draft.encode(),
            )
        })
        .collect();
    let with_path = |name: &str, about: &str, path: &str| {
        let path = format!("{}{path}", path_of(&client()));
        let draft = Draft::at(1).under(&path);
        let mut signed = draft.value();
        signed.id2 = format!("{path}/{}", id(&node(1)));
        let bytes = Record { key: path.clone(), ..record([signed]) }.encode_to_vec();
        seen(value(name, "13.1", about, path.as_bytes(), &bytes), &[NOW])
    };
    let of_ecdsa = {
        let client = &all_types()[2];
        let record = record_of(client, &Draft::of(client, &node(1)));
        seen(
            value(
                "client-ecdsa",
                "13.1",
                "A client whose id is a hash.",
                path_of(client).as_bytes(),
                &record,
            ),
            &[NOW],
        )
    };
    cases.extend([
        of_ecdsa,
        good(
            "three-nodes",
            "13.2",
            "Values in the order of id2.",
            &several(&[Draft::at(1), Draft::at(2), Draft::at(3)]),
        ),
        good(
            "eight-nodes",
            "13.3",
            "As many as there may be.",
            &several(&(1..9).map(Draft::at).collect::<Vec<_>>()),
        ),
        good("withdrawn", "13.2", "A withdrawal is not seen.", &Draft::withdrawn(1).encode()),
        good(
            "both",
            "13.5",
            "One announced, one withdrawn.",
            &several(&[Draft::at(1), Draft::withdrawn(2)]),
        ),
        good(
            "retained",
            "13.2",
            "Retained for longer than it lives.",
            &Draft::at(1).with(|m| m.retain_until = Some(NOW + HOUR)).encode(),
        ),
        with_path("longer-path", "A path without a slash at its end.", "chat"),
        with_path("path-not-ascii", "A path with a letter of two bytes.", "\u{fc}ber"),
    ]);
    cases
}

/// A withdrawal under a path of the client's key. Its node has a public key of `len` bytes, which
/// is no key that could sign.
fn weighing(path: &str, len: usize) -> Draft {
    let key = format!("{}{path}", path_of(&client()));
    Draft::withdrawn(1).under(&key).with(|m| {
        m.node_identity = rsa::of_len(len);
        m.fingerprint = rsa::digest(&m.node_identity).to_vec();
    })
}

/// The value of a draft under a path, and its weight by 13.4.
fn value_under(draft: &Draft) -> (smart_record_testing::presence::Value, usize) {
    let (m, mut value) = (&draft.message, draft.value());
    let slash = if draft.key.ends_with('/') { "" } else { "/" };
    let node = Writer::decode(m.node_identity.clone().into()).unwrap().peer_id();
    value.id2 = format!("{}{slash}{node}", draft.key);
    let identities = m.client_identity.len() + m.node_identity.len();
    let weight = value.id2.len() + 192 + 2 * identities + 2 * 36;
    (value, weight)
}

/// The largest weight.
fn weights() -> [Value; 2] {
    let of = |name: &str, about: &str, path_bytes: usize| {
        let draft = weighing(&"x".repeat(path_bytes), 1_152);
        let (signed, weight) = value_under(&draft);
        let bytes = Record { key: draft.key.clone(), ..record([signed]) }.encode_to_vec();
        (value(name, "13.3", about, draft.key.as_bytes(), &bytes), weight)
    };
    let path_bytes = 66;
    let (largest, weight) = of("weight-2816", "The largest weight.", path_bytes);
    assert_eq!(weight, 2_816);
    let (heavier, weight) = of("weight-2817", "One more.", path_bytes + 1);
    assert_eq!(weight, 2_817);
    [seen(largest, &[NOW]), refuse(heavier, "limit", "announcement-bytes")]
}

/// The room of a record. Two entries weigh as much as there is, or one less.
fn rooms() -> [Value; 2] {
    let of = |name: &str, about: &str, path: &str, less: usize| {
        let oldest = weighing(path, 100);
        let newer = |n: i64, len: usize| weighing(path, len).made(n);
        let room = 8_192 - 2_816 - oldest.key.len() - id(&client()).to_string().len() - 16;
        let (_, least) = value_under(&newer(1, 100));
        let rest = (room - less - 2 * least) / 2;
        // Of different lengths, so they are different nodes.
        let newest = [newer(1, 92 + rest / 2), newer(2, 108 + rest - rest / 2)];
        let weight: usize = newest.iter().map(|draft| value_under(draft).1).sum();
        assert_eq!(weight, room - less);
        let values = [&oldest, &newest[0], &newest[1]].map(|draft| {
            let record = record([value_under(draft).0]);
            Record { key: draft.key.clone(), ..record }.encode_to_vec()
        });
        let mut case = value(name, "13.4", about, oldest.key.as_bytes(), &[]);
        case["values"] = values.iter().map(|value| json!(hex(value))).collect();
        seen(case, &[NOW + 2])
    };
    [
        of("room-left", "A third entry stays where two weigh one less than the room.", "", 1),
        of("room-taken", "It does not where they weigh as much as the room.", "x", 0),
    ]
}

fn refused_records() -> Vec<Value> {
    let bytes = Draft::at(1).encode();
    let changed = |change: fn(&mut Record)| {
        let mut record = record([Draft::at(1).value()]);
        change(&mut record);
        record.encode_to_vec()
    };
    let disagrees = |name: &str, about: &str, change: fn(&mut Record)| {
        no(name, about, &changed(change), "malformed", "disagrees")
    };
    let not_canonical = |name: &str, about: &str, bytes: &[u8]| {
        no(name, about, bytes, "malformed", "not-canonical")
    };
    let two = record([Draft::at(1).value(), Draft::at(2).value()]);
    let mut unsorted = two.clone();
    unsorted.values.reverse();
    let mut twice = record([Draft::at(1).value()]);
    twice.values.push(twice.values[0].clone());
    let nine = several(&(1..10).map(Draft::at).collect::<Vec<_>>());
    let with_key = |name: &str, about: &str, key: &dyn AsRef<[u8]>, fault: &str, reason: &str| {
        refuse(value(name, "13.1", about, key.as_ref(), &bytes), fault, reason)
    };
    let id = id(&client()).to_string();
    let of_nobody = "/presence/11/";
    let nobody = Record {
        key: of_nobody.to_owned(),
        id1: "11".to_owned(),
        ..record([Draft::at(1).under(of_nobody).value()])
    };
    let nobody = nobody.encode_to_vec();
    let too_heavy = {
        let client = keys::rsa();
        let values = (1..8).map(|n| Draft::of(&client, &node(n)).value());
        let bytes = record_under(&client, values).encode_to_vec();
        let about = "Fewer than 8,192 bytes and 8 values, but joining drops one of them.";
        let case = value("too-heavy", "13.3", about, path_of(&client).as_bytes(), &bytes);
        refuse(case, "limit", "value-bytes")
    };
    vec![
        too_heavy,
        no("empty", "No bytes.", &[], "malformed", "empty"),
        no(
            "no-values",
            "A record without a value.",
            &changed(|record| record.values.clear()),
            "malformed",
            "empty",
        ),
        no(
            "truncated",
            "The last byte is missing.",
            &bytes[..bytes.len() - 1],
            "malformed",
            "protobuf",
        ),
        not_canonical("unknown-field", "A field more.", &[&bytes[..], &varint(9, 1)].concat()),
        not_canonical("unsorted", "Values in another order.", &unsorted.encode_to_vec()),
        not_canonical("twice", "A value twice.", &twice.encode_to_vec()),
        disagrees("other-key", "The key of the record.", |record| record.key.push('x')),
        disagrees("other-id1", "The client.", |record| record.id1.push('x')),
        disagrees("other-update-date", "The latest creation date.", |record| {
            record.update_date += 1
        }),
        disagrees("update-date-negative", "A date before 1970.", |record| record.update_date = -1),
        disagrees("other-id2", "The subkey.", |record| record.values[0].id2.push('x')),
        disagrees("other-creation-date", "The creation date of a value.", |record| {
            record.values[0].creation_date += 1;
            record.update_date += 1;
        }),
        disagrees("other-expiration-date", "The expiration date of a value.", |record| {
            record.values[0].expiration_date += 1
        }),
        no("nine-nodes", "One more than there may be.", &nine, "limit", "nodes"),
        with_key(
            "key-without-slash",
            "The slash after the client id has to be there.",
            &format!("/presence/{id}"),
            "malformed",
            "key",
        ),
        refuse(
            value(
                "key-of-empty-id",
                "13.3",
                "The client id is that of no public key.",
                of_nobody.as_bytes(),
                &nobody,
            ),
            "invalid",
            "other-party",
        ),
        with_key("key-without-client", "No peer id.", &"/presence/lobby/", "malformed", "key"),
        with_key(
            "key-not-utf-8",
            "A path that is no text.",
            &[path_of(&client()).as_bytes(), b"\xff"].concat(),
            "malformed",
            "key",
        ),
        with_key(
            "key-of-short-hash",
            "The client id is a hash of two bytes, which no public key has.",
            &"/presence/ThTa6/",
            "malformed",
            "key",
        ),
        with_key(
            "key-too-long",
            "257 bytes.",
            &format!("/presence/{id}/{}", "k".repeat(256 - 10 - id.len())),
            "limit",
            "key-bytes",
        ),
    ]
}

fn refused_messages() -> Vec<Value> {
    let (a, b) = (client(), node(1));
    let of = |name: &str, about: &str, draft: Draft, fault: &str, reason: &str| {
        no(name, about, &draft.encode(), fault, reason)
    };
    let with =
        |change: fn(&mut smart_record_testing::presence::Announcement)| Draft::at(1).with(change);
    let signed = |client: Option<(Keypair, &'static str)>,
                  node: Option<(Keypair, &'static str)>| {
        Draft::at(1).signed_by(client, node)
    };
    let raw = |name: &str, about: &str, change: fn(Vec<u8>) -> Vec<u8>| {
        let draft = Draft::at(1);
        let value = draft.value_of(change(draft.signed().encode_to_vec()));
        no(name, about, &record([value]).encode_to_vec(), "malformed", "not-canonical")
    };
    // An announcement with something after it.
    let with_bytes = |name: &str, about: &str, rest: &[u8]| {
        let value = extended(&Draft::at(1), rest);
        no(name, about, &record([value]).encode_to_vec(), "malformed", "not-canonical")
    };
    let low = |bytes: [u8; 32]| {
        let low = bytes.to_vec();
        Draft::at(1).with(|m| m.presence_key = low)
    };
    // 2^255 - 19 and something.
    let prime = |more: i16| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = ((0xed + more) as u8, 0x7f);
        bytes
    };
    let [order_8, other_of_order_8] = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|digits| unhex(digits).try_into().unwrap());
    let mut one_with_sign = [0; 32];
    (one_with_sign[0], one_with_sign[31]) = (1, 0x80);
    let with_signed = |change: fn(&mut Signed)| {
        let draft = Draft::at(1);
        let mut signed = draft.signed();
        change(&mut signed);
        record([draft.value_of(signed.encode_to_vec())]).encode_to_vec()
    };
    let long_signature = with_signed(|signed| signed.node_signature = vec![1; 36 + 36 + 1]);
    let long_of_client = with_signed(|signed| signed.client_signature = vec![1; 36 + 36 + 1]);
    let heavy = {
        let client = keys::rsa();
        let draft = Draft::of(&client, &b).with(|m| {
            m.node_identity = rsa::with_bits(&[1; 1_116]);
            m.fingerprint = rsa::digest(&m.node_identity).to_vec();
        });
        refuse(
            value(
                "announcement-bytes",
                "13.3",
                "Its identities weigh too much, however short it is.",
                path_of(&client).as_bytes(),
                &record_of(&client, &draft),
            ),
            "limit",
            "announcement-bytes",
        )
    };
    let rsa_key = |n: usize| keys::rsa().public().encode_protobuf()[..n].to_vec();
    vec![
        raw("signed-unknown-field", "A field more beside the signatures.", |bytes| {
            [bytes, field(9, b"")].concat()
        }),
        with_bytes("kind-2-31", "A kind of 2^31, in five bytes.", &varint(9, 1 << 31)),
        with_bytes("kind-2-32", "Its lower 32 bits are 0.", &varint(9, 1 << 32)),
        of(
            "kind-negative",
            "A kind in ten bytes.",
            with(|m| m.kind = -1),
            "unsupported",
            "announcement-kind",
        ),
        of(
            "kind-2",
            "A kind that there is not.",
            with(|m| m.kind = 2),
            "unsupported",
            "announcement-kind",
        ),
        of(
            "other-client",
            "Of another client than the key names.",
            Draft::of(&mallory(), &b).under(&path_of(&a)),
            "invalid",
            "other-party",
        ),
        of(
            "same-party",
            "A client that is its own node.",
            Draft::of(&a, &a),
            "invalid",
            "same-party",
        ),
        of(
            "fingerprint",
            "The fingerprint of another key.",
            with(|m| m.fingerprint[0] ^= 1),
            "malformed",
            "fingerprint",
        ),
        of(
            "node-no-key",
            "An identity that is no public key.",
            Draft::at(1).with(|m| m.node_identity = rsa_key(9)),
            "malformed",
            "public-key",
        ),
        of(
            "node-of-unknown-type",
            "A key of a type that there is not.",
            with(|m| m.node_identity = vec![8, 4, 0x12, 0]),
            "unsupported",
            "key-type",
        ),
        of(
            "ends-when-made",
            "It ends when it was made.",
            with(|m| m.expiration_date = m.creation_date),
            "malformed",
            "dates",
        ),
        of(
            "date-negative",
            "A date before 1970.",
            with(|m| m.creation_date = -1),
            "malformed",
            "dates",
        ),
        of(
            "retained-too-briefly",
            "Retained until before it ends.",
            with(|m| m.retain_until = Some(m.expiration_date - 1)),
            "malformed",
            "dates",
        ),
        of(
            "retain-until-equal",
            "It is not written when it is the expiration date.",
            with(|m| m.retain_until = Some(m.expiration_date)),
            "malformed",
            "not-canonical",
        ),
        of("ttl", "More than 48 hours.", Draft::at(1).living(MAX_TTL + 1), "limit", "ttl"),
        of(
            "ttl-of-retain-until",
            "What counts is retain_until.",
            with(|m| m.retain_until = Some(m.creation_date + MAX_TTL + 1)),
            "limit",
            "ttl",
        ),
        of(
            "key-short",
            "A handshake key of 31 bytes.",
            with(|m| m.handshake_key.truncate(31)),
            "malformed",
            "exchange-key",
        ),
        of(
            "key-missing",
            "No presence key.",
            with(|m| m.presence_key.clear()),
            "malformed",
            "exchange-key",
        ),
        of(
            "key-prime",
            "0 in another form: 2^255 - 19.",
            low(prime(0)),
            "malformed",
            "exchange-key",
        ),
        of("key-prime-and-1", "1 in another form.", low(prime(1)), "malformed", "exchange-key"),
        of(
            "key-prime-less-1",
            "A key of low order: 2^255 - 20.",
            low(prime(-1)),
            "malformed",
            "exchange-key",
        ),
        of("key-zero", "A key of low order: 0.", low([0; 32]), "malformed", "exchange-key"),
        of(
            "key-one-with-highest-bit",
            "1, with the highest bit.",
            low(one_with_sign),
            "malformed",
            "exchange-key",
        ),
        of(
            "key-of-order-8",
            "A key of low order: of order 8.",
            low(order_8),
            "malformed",
            "exchange-key",
        ),
        of(
            "other-key-of-order-8",
            "The other key of order 8.",
            low(other_of_order_8),
            "malformed",
            "exchange-key",
        ),
        of(
            "withdrawal-with-presence-key",
            "A withdrawal with the client's key alone.",
            Draft::withdrawn(1).with(|m| m.presence_key = vec![9; 32]),
            "malformed",
            "mixture",
        ),
        of(
            "withdrawal-with-key",
            "A withdrawal with a key.",
            Draft::withdrawn(1).with(|m| m.handshake_key = vec![8; 32]),
            "malformed",
            "mixture",
        ),
        of(
            "withdrawal-retained",
            "A withdrawal with retain_until.",
            Draft::withdrawn(1).with(|m| m.retain_until = Some(m.expiration_date + 1)),
            "malformed",
            "mixture",
        ),
        of(
            "unsigned-by-node",
            "The client's signature alone.",
            signed(Some((a.clone(), BY_CLIENT)), None),
            "invalid",
            "half-signed",
        ),
        of(
            "unsigned-by-client",
            "The node's signature alone.",
            signed(None, Some((b.clone(), BY_NODE))),
            "invalid",
            "half-signed",
        ),
        of(
            "withdrawal-by-both",
            "A withdrawal that the node has signed, too.",
            Draft::withdrawn(1)
                .signed_by(Some((a.clone(), WITHDRAWAL)), Some((b.clone(), WITHDRAWAL))),
            "malformed",
            "surplus-signature",
        ),
        of(
            "withdrawal-unsigned",
            "A withdrawal without a signature.",
            Draft::withdrawn(1).signed_by(None, None),
            "invalid",
            "half-signed",
        ),
        of(
            "signed-by-other",
            "Signed by another client.",
            signed(Some((mallory(), BY_CLIENT)), Some((b.clone(), BY_NODE))),
            "invalid",
            "signature",
        ),
        of(
            "node-signs-as-client",
            "The payload types are not the same.",
            signed(Some((a.clone(), BY_CLIENT)), Some((b, BY_CLIENT))),
            "invalid",
            "signature",
        ),
        of(
            "withdrawal-signed-as-announcement",
            "The same for a withdrawal.",
            Draft::withdrawn(1).signed_by(Some((a, BY_CLIENT)), None),
            "invalid",
            "signature",
        ),
        heavy,
        no(
            "signature-too-long",
            "37 bytes more than the public key.",
            &long_signature,
            "limit",
            "signature-bytes",
        ),
        no(
            "signature-of-client-as-long-as-allowed",
            "36 bytes more than the public key.",
            &with_signed(|signed| signed.client_signature = vec![1; 36 + 36]),
            "invalid",
            "signature",
        ),
        no(
            "signature-of-client-too-long",
            "The same of the client's.",
            &long_of_client,
            "limit",
            "signature-bytes",
        ),
    ]
}

fn times() -> Vec<Value> {
    let at = |mut case: Value, now: i64| {
        case["now"] = json!(now);
        case
    };
    let retained = || Draft::at(1).with(|m| m.retain_until = Some(NOW + HOUR));
    vec![
        good("skew-300000", "13.3", "Five minutes ahead.", &Draft::at(1).made(SKEW).encode()),
        no(
            "skew-300001",
            "A millisecond more.",
            &Draft::at(1).made(SKEW + 1).encode(),
            "limit",
            "clock-skew",
        ),
        good(
            "ttl-48-hours",
            "13.3",
            "As long as there is.",
            &Draft::at(1).living(MAX_TTL).encode(),
        ),
        at(
            no(
                "expired",
                "It is over when retain_until is now.",
                &Draft::at(1).encode(),
                "expired",
                "expired",
            ),
            NOW + TTL,
        ),
        seen(
            at(
                value(
                    "expires-next",
                    "13.5",
                    "A millisecond before.",
                    key().as_bytes(),
                    &Draft::at(1).encode(),
                ),
                NOW + TTL - 1,
            ),
            &[NOW + TTL - 1],
        ),
        seen(
            at(
                value(
                    "retained-when-read",
                    "13.3",
                    "Read when it is not seen any more, and still retained.",
                    key().as_bytes(),
                    &retained().encode(),
                ),
                NOW + TTL,
            ),
            &[NOW + TTL],
        ),
        seen(
            value(
                "retained-unseen",
                "13.5",
                "Retained, and not seen any more.",
                key().as_bytes(),
                &retained().encode(),
            ),
            &[NOW, NOW + TTL - 1, NOW + TTL],
        ),
    ]
}

pub fn joins() -> Vec<Value> {
    let values = |name: &str, section: &str, about: &str, values: &[Vec<u8>], times: &[i64]| {
        let mut case = value(name, section, about, key().as_bytes(), &[]);
        case["values"] = values.iter().map(|value| json!(hex(value))).collect();
        seen(case, times)
    };
    let later = |n: u8, after: i64| Draft::at(n).made(after);
    let again = {
        let draft = Draft::at(1);
        record([draft.value_of(draft.signed_again(200).encode_to_vec())]).encode_to_vec()
    };
    let bad = Draft::at(1)
        .made(5)
        .signed_by(Some((mallory(), "/libp2p-presence/announcement/client")), None);
    let bad = record([bad.value(), Draft::at(2).value()]).encode_to_vec();
    let rsa = keys::rsa();
    let large: Vec<_> =
        (1..9).map(|n| record_of(&rsa, &Draft::of(&rsa, &node(n)).made(n.into()))).collect();
    let large = {
        let about = "Of large values fewer stay: six, because of their weight.";
        let mut case = value("large", "13.4", about, path_of(&rsa).as_bytes(), &[]);
        case["values"] = large.iter().map(|value| json!(hex(value))).collect();
        seen(case, &[NOW + 9])
    };
    let over = {
        let drafts = [Draft::at(1).living(5), Draft::at(2).living(HOUR)];
        let about = "The same, read when one of the two has expired.";
        let mut case = value("expired-before", "13.3", about, key().as_bytes(), &several(&drafts));
        case["now"] = json!(NOW + 5);
        seen(case, &[NOW + 5])
    };
    let disagreeing = {
        let mut value = Draft::at(2).value();
        value.expiration_date += 1;
        record([Draft::at(1).value(), value]).encode_to_vec()
    };
    let many: Vec<_> = (1..12).map(|n| later(n, n.into()).encode()).collect();
    // A value that is dated later than what is signed in it, and later than the other.
    let misdated = {
        let mut value = Draft::at(2).value();
        value.creation_date += 7;
        record([Draft::at(1).value(), value]).encode_to_vec()
    };
    let not_canonical = |value: smart_record_testing::presence::Value| {
        record([value, Draft::at(2).value()]).encode_to_vec()
    };
    let signed_and_more = {
        let draft = Draft::at(1);
        draft.value_of([draft.signed().encode_to_vec(), field(9, b"")].concat())
    };
    let nine = {
        let expired = later(1, 5).living(5);
        let rest = (2..10).map(Draft::at);
        several(&std::iter::once(expired).chain(rest).collect::<Vec<_>>())
    };
    let forged =
        |n: u8| Draft::withdrawn(n).made(5).signed_by(Some((mallory(), WITHDRAWAL)), None).value();
    let forgeries = record((2..17).map(forged).chain([Draft::at(1).value()])).encode_to_vec();
    let of_ecdsa = Draft::of(&client(), &ecdsa());
    let other_signed = {
        let mut signed = of_ecdsa.signed();
        signed.node_signature = other_signature(&signed.node_signature);
        record([of_ecdsa.value_of(signed.encode_to_vec())]).encode_to_vec()
    };
    let signed_twice = {
        let of_client = [of_ecdsa.signed(), of_ecdsa.signed_again(200)];
        let mut by_client = of_client.map(|signed| signed.client_signature);
        let node = of_ecdsa.signed().node_signature;
        let mut by_node = [other_signature(&node), node];
        by_client.sort();
        by_node.sort();
        let of = |client_signature: &[u8], node_signature: &[u8]| {
            let (client_signature, node_signature) =
                (client_signature.to_vec(), node_signature.to_vec());
            let signed = Signed { client_signature, node_signature, ..of_ecdsa.signed() };
            record([of_ecdsa.value_of(signed.encode_to_vec())]).encode_to_vec()
        };
        [of(&by_client[0], &by_node[1]), of(&by_client[1], &by_node[0])]
    };
    let withdrawals: Vec<_> = (1..9)
        .map(|n| {
            let draft = Draft::of(&rsa, &node(n)).made(n.into()).with(|m| {
                m.kind = WITHDRAWN;
                m.handshake_key.clear();
                m.presence_key.clear();
            });
            record_of(&rsa, &draft.signed_by(Some((rsa.clone(), WITHDRAWAL)), None))
        })
        .collect();
    let withdrawals = {
        let about = "A withdrawal weighs as much as an announcement: six stay.";
        let mut case = value("withdrawn-large", "13.4", about, path_of(&rsa).as_bytes(), &[]);
        case["values"] = withdrawals.iter().map(|value| json!(hex(value))).collect();
        seen(case, &[NOW + 9])
    };
    let beside_expired = {
        let about = "Nine nodes, of which the newest has expired: a reader takes the eight others.";
        let of_two = Draft::at(2).encode();
        let mut case = value("expired-beside-eight", "13.3", about, key().as_bytes(), &[]);
        case["values"] = json!([hex(nine), hex(of_two)]);
        case["now"] = json!(NOW + 10);
        seen(case, &[NOW + 10])
    };
    vec![
        beside_expired,
        withdrawals,
        values(
            "update-date-of-bad-value",
            "13.2",
            "updateDate is the latest creationDate, also of a value that is bad.",
            &[misdated, Draft::at(3).encode()],
            &[NOW],
        ),
        values(
            "signed-not-canonical-beside-good",
            "13.2",
            "A SignedAnnouncement that is not canonical takes no other value with it.",
            &[not_canonical(signed_and_more), Draft::at(3).encode()],
            &[NOW],
        ),
        values(
            "message-not-canonical-beside-good",
            "13.2",
            "The same for an AnnouncementMessage.",
            &[not_canonical(extended(&Draft::at(1), &varint(10, 0))), Draft::at(3).encode()],
            &[NOW],
        ),
        values(
            "bad-signatures-15",
            "13.3",
            "15 bad signatures of newer values. The good value is taken.",
            &[forgeries, Draft::at(20).encode()],
            &[NOW],
        ),
        values(
            "two-node-signatures",
            "4.3",
            "Of one message and one signature of the client, the lesser signature of the node.",
            &[of_ecdsa.encode(), other_signed],
            &[NOW],
        ),
        values(
            "two-signatures-of-each",
            "13.4",
            "The lesser signature of the client decides, then that of the node.",
            &signed_twice,
            &[NOW],
        ),
        values(
            "two-nodes",
            "13.4",
            "Each has an entry of its own.",
            &[Draft::at(1).encode(), Draft::at(2).encode()],
            &[NOW],
        ),
        values(
            "renewed",
            "13.4",
            "The later one stays.",
            &[later(1, 0).encode(), later(1, 1).living(HOUR).encode()],
            &[NOW + 1, NOW + TTL + 1],
        ),
        values(
            "shorter-renewal",
            "13.4",
            "Also if it ends before.",
            &[later(1, 0).living(HOUR).encode(), later(1, 1).living(1_000).encode()],
            &[NOW + 1, NOW + 1_001],
        ),
        values(
            "withdrawn",
            "13.4",
            "A withdrawal hides what was announced before.",
            &[Draft::at(1).encode(), Draft::withdrawn(1).made(1).encode()],
            &[NOW + 1],
        ),
        values(
            "withdrawn-and-back",
            "13.4",
            "And not what is announced after it.",
            &[later(1, 2).encode(), Draft::withdrawn(1).made(1).encode()],
            &[NOW + 2],
        ),
        values(
            "same-date",
            "13.4",
            "Of one creation date, the greater hash.",
            &[
                Draft::at(1).encode(),
                Draft::at(1).living(HOUR).encode(),
                Draft::withdrawn(1).encode(),
            ],
            &[NOW],
        ),
        values(
            "two-signatures",
            "4.3",
            "Of one message, the lesser signatures.",
            &[Draft::at(1).encode(), again],
            &[NOW],
        ),
        values(
            "bad-is-left-out",
            "13.3",
            "A bad value takes no good one with it, for a reader.",
            &[bad, Draft::at(1).encode()],
            &[NOW + 5],
        ),
        values(
            "too-large-beside-good",
            "13.3",
            "A record of more than 8,192 bytes is left out as a whole.",
            &[several(&(1..25).map(|n| later(n, 1)).collect::<Vec<_>>()), later(1, 0).encode()],
            &[NOW],
        ),
        values(
            "8192-bytes",
            "13.3",
            "The largest record, of more values than stay.",
            &[of_len(8_192), later(30, 0).encode()],
            &[NOW],
        ),
        values(
            "8193-bytes",
            "13.3",
            "A byte more, and it is left out as a whole.",
            &[of_len(8_193), later(30, 0).encode()],
            &[NOW],
        ),
        values("eleven-nodes", "13.4", "The eight newest stay.", &many, &[NOW + 12]),
        large,
        values(
            "expired-beside",
            "13.3",
            "What has expired is left out.",
            &[several(&[Draft::at(1).living(5), Draft::at(2).living(HOUR)])],
            &[NOW, NOW + 5],
        ),
        over,
        values(
            "disagreeing-beside-good",
            "13.3",
            "A value whose dates disagree takes no other with it, for a reader.",
            &[disagreeing, Draft::at(3).encode()],
            &[NOW],
        ),
    ]
    .into_iter()
    .chain(rooms())
    .collect()
}

/// A record of this many bytes: 22 withdrawals, one of them of a node with a long key.
fn of_len(len: usize) -> Vec<u8> {
    let of = |long: usize| {
        let (value, _) = value_under(&weighing("", long).made(1));
        record((2..23).map(|n| Draft::withdrawn(n).value()).chain([value])).encode_to_vec()
    };
    let rest = of(1_000).len() - 1_000;
    of(len - rest)
}

/// The record that is selected by an implementation that does not join.
pub fn choices() -> Vec<Value> {
    let of = |drafts: &[&Draft]| several(&drafts.iter().copied().cloned().collect::<Vec<_>>());
    let (one, two) = (Draft::at(1), Draft::at(2));
    let later = Draft::at(3).made(1);
    let bad = {
        let value = later.value_of(b"rubbish".to_vec());
        record([one.value(), value]).encode_to_vec()
    };
    let expired = of(&[&Draft::at(1).living(1)]);
    let more_of_lesser_hash = {
        let with = |n: u8| of(&[&Draft::at(n), &later]);
        let hash = rsa::digest(&of(&[&later]));
        (10..).map(with).find(|more| rsa::digest(more) < hash).unwrap()
    };
    let choice = |name: &str, about: &str, values: &[Vec<u8>]| {
        let rules = PresenceValidator::default();
        let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
        choice([name, "13.5", about], &key(), &values, |key, values| rules.select(key, values))
    };
    vec![
        choice("latest", "The latest updateDate decides.", &[of(&[&one, &two]), of(&[&later])]),
        choice(
            "more-of-lesser-hash",
            "Also if their hash is the lesser.",
            &[of(&[&later]), more_of_lesser_hash],
        ),
        choice("more", "Then more values.", &[of(&[&later]), of(&[&one, &later])]),
        choice(
            "hash",
            "Then the greater hash of the value.",
            &[of(&[&one]), of(&[&two]), of(&[&Draft::withdrawn(1)])],
        ),
        choice("same", "Of the same, the first.", &[of(&[&one]), of(&[&one])]),
        choice(
            "bad-value",
            "A record with a bad value is left out as a whole.",
            &[bad.clone(), of(&[&one])],
        ),
        choice("times-are-left-out", "What has expired is chosen all the same.", &[expired]),
        choice("nothing-good", "There is no choice.", &[bad, Vec::new()]),
    ]
}

/// A value whose message has something after it, and good signatures.
fn extended(draft: &Draft, rest: &[u8]) -> smart_record_testing::presence::Value {
    let mut signed = draft.signed();
    signed.message.extend_from_slice(rest);
    let sign = |by: &Option<(Keypair, &str)>| {
        let (by, payload_type) = by.as_ref().unwrap();
        sign(by, draft.domain, payload_type, draft.key.as_bytes(), &signed.message)
    };
    signed.client_signature = sign(&draft.by_client);
    signed.node_signature = sign(&draft.by_node);
    draft.value_of(signed.encode_to_vec())
}

/// A record of another client than the usual one.
fn record_under(
    client: &Keypair,
    values: impl IntoIterator<Item = smart_record_testing::presence::Value>,
) -> Record {
    Record { key: path_of(client), id1: id(client).to_string(), ..record(values) }
}

fn record_of(client: &Keypair, draft: &Draft) -> Vec<u8> {
    record_under(client, [draft.value()]).encode_to_vec()
}
