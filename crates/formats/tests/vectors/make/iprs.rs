//! IPRS: schemes, good and refused records, and selection.

use std::time::Duration;

use libp2p_identity::Keypair;
use serde_json::{Value, json};
use smart_record_core::{Cid, RecordKey, Timestamp, Validator};
use smart_record_formats::iprs::{
    Ancestry, BeaconCitation, DatetimeRange, Description, Ipld, IprsRecord, IprsValidator, Record,
    Scheme, SequenceNumber, TtlSinceReceipt,
};
use smart_record_testing::{
    NOW,
    iprs::{key_of, map, signature, tampered_under, twin},
    keys::{all_types, ecdsa, ed25519},
};

use super::{case, choice, put_over, refused};
use crate::{
    forms::hex,
    judge::{
        self,
        iprs::{beacon_of, good},
    },
};

fn alice() -> Keypair {
    ed25519(1)
}

pub fn key() -> RecordKey {
    key_of(&alice(), "x")
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn sign(record: Record) -> IprsRecord {
    record.sign(&key(), &alice()).unwrap()
}

/// The descriptions of the built-in schemes.
pub fn schemes() -> Vec<Value> {
    let scheme = |description: &Description, name: &str, about: &str| {
        let cid = description.cid();
        case(
            name,
            "12.4",
            about,
            [
                ("block", json!(hex(description.block()))),
                ("cid", json!(cid.to_string())),
                ("cid_bytes", json!(hex(cid.to_bytes()))),
            ],
        )
    };
    let fresh = |beacon: Cid, threshold| {
        Description::new("cryptographic-freshness")
            .with_link("beacon", beacon)
            .with_integer("threshold", threshold)
    };
    let first = rounds(1)[0].cid();
    vec![
        scheme(&DatetimeRange.description(), "datetime-range", "No parameters."),
        scheme(&TtlSinceReceipt.description(), "ttl-since-receipt", "No parameters."),
        scheme(&Ancestry.description(), "ancestry-chain", "No parameters."),
        scheme(&SequenceNumber.description(), "sequence-number", "No parameters."),
        scheme(
            &fresh(first, 2),
            "cryptographic-freshness",
            "The beacon of iprs/records, threshold 2.",
        ),
        scheme(
            &fresh(first, 1_000),
            "cryptographic-freshness-1000",
            "Another threshold is another scheme.",
        ),
    ]
}

/// The first rounds of a beacon.
fn rounds(count: u8) -> Vec<IprsRecord> {
    let authority = ed25519(9);
    let key = key_of(&authority, "beacon");
    let mut rounds = vec![Ancestry::first(vec![0_u8; 4]).sign(&key, &authority).unwrap()];
    while rounds.len() < usize::from(count) {
        let last = rounds.last().unwrap();
        let next = Ancestry::child(vec![rounds.len() as u8; 4], last).unwrap();
        rounds.push(next.sign(&key, &authority).unwrap());
    }
    rounds
}

fn value(name: &str, section: &str, about: &str, key: &RecordKey, value: &[u8]) -> Value {
    case(
        name,
        section,
        about,
        [("key", json!(hex(key.as_bytes()))), ("now", json!(NOW)), ("value", json!(hex(value)))],
    )
}

fn accepted(name: &str, section: &str, about: &str, record: &IprsRecord) -> Value {
    let mut case = value(name, section, about, record.key(), record.as_bytes());
    case["good"] = good(&case).unwrap();
    case
}

fn no(name: &str, section: &str, about: &str, bytes: &[u8], fault: &str, reason: &str) -> Value {
    let mut case = value(name, section, about, &key(), bytes);
    case["refused"] = refused(fault, reason);
    case
}

/// Values that are put where others are held.
fn over_others() -> Vec<Value> {
    let author = ecdsa();
    let key = key_of(&author, "motd");
    let [one, two] =
        [1, 2].map(|n| SequenceNumber::record("x", n).sign(&key, &author).unwrap().encode());
    let twin = twin(&one);
    let over = |name: &str, about: &str, bytes: &[u8], held: &[u8]| {
        put_over(value(name, "12.5", about, &key, bytes), held, |case| {
            case["good"] = good(case).unwrap();
            judge::put_over(&IprsValidator::default(), &key, bytes, held)
        })
    };
    vec![
        over("over-lesser", "A better record takes the place.", &two, &one),
        over("over-better", "A worse record is stale.", &one, &two),
        over("over-same", "The same record.", &one, &one),
        over("over-greater-signature", "The same record: the lesser signature.", &twin, &one),
        over("over-lesser-signature", "The same the other way round.", &one, &twin),
    ]
}

pub fn records() -> Vec<Value> {
    let mut cases = good_records();
    cases.extend(over_others());
    cases.extend(refused_records());
    cases.extend(refused_validities());
    cases.extend(citing_a_beacon());
    cases
}

fn good_records() -> Vec<Value> {
    let first = sign(Ancestry::first("first"));
    let child = sign(Ancestry::child("child", &first).unwrap());
    let range =
        |from: u64, until: u64| sign(DatetimeRange::record("x", at(from), at(until)).unwrap());
    let cid: Cid = "bafkqaddimvwgy3zao5xxe3debi".parse().unwrap();
    let everything = map([
        ("null", Ipld::Null),
        ("bool", Ipld::Bool(true)),
        ("least", Ipld::Integer(-(1 << 64))),
        ("greatest", Ipld::Integer((1 << 64) - 1)),
        ("float", Ipld::Float(0.1)),
        ("text", Ipld::String("ä".to_owned())),
        ("bytes", Ipld::Bytes(vec![0, 255])),
        ("link", Ipld::Link(cid)),
        ("list", Ipld::List(vec![Ipld::Integer(1), Ipld::List(Vec::new())])),
        ("a longer name", map([])),
    ]);
    let mut cases: Vec<_> = all_types()
        .iter()
        .zip(["ed25519", "secp256k1", "ecdsa", "rsa"])
        .map(|(author, name)| {
            let record = SequenceNumber::record("hello", 1).sign(&key_of(author, "motd"), author);
            let about = "An author with a key of this type.";
            accepted(&format!("of-{name}"), "12.3", about, &record.unwrap())
        })
        .collect();
    let yes = |name: &str, about: &str, record: &IprsRecord| accepted(name, "12.4", about, record);
    cases.extend([
        yes("sequence", "The least version and sequence.", &sign(SequenceNumber::record("x", 0))),
        yes(
            "sequence-greatest",
            "The greatest.",
            &sign(SequenceNumber::record("x", u64::MAX).with_version(u64::MAX)),
        ),
        yes("range", "It is valid from now on.", &range(NOW, NOW + 1)),
        yes("range-without-begin", "Unbounded at the beginning.", &range(0, NOW + 1)),
        yes("range-without-end", "Unbounded at the end.", &range(NOW, u64::MAX)),
        yes("range-without-both", "Unbounded at both.", &range(0, u64::MAX)),
        yes(
            "ttl",
            "For a millisecond after it is received.",
            &sign(TtlSinceReceipt::record("x", Duration::from_millis(1)).unwrap()),
        ),
        yes("first", "The first of a chain.", &first),
        yes("child", "The second.", &child),
        accepted(
            "any-value",
            "12.2",
            "A value of every type.",
            &sign(SequenceNumber::record(everything, 1)),
        ),
        accepted("8192-bytes", "12.3", "The largest value.", &of_len(8_192)),
        accepted(
            "keys-by-bytes",
            "12.2",
            "Keys of two bytes each, in the order of their bytes.",
            &sign(SequenceNumber::record(map([("bb", Ipld::Null), ("ä", Ipld::Null)]), 1)),
        ),
        accepted(
            "deepest",
            "12.2",
            "As many levels as there are: 127, the maps of the record included.",
            &sign(SequenceNumber::record(nested(125, Ipld::Integer(1)), 1)),
        ),
        accepted(
            "deepest-with-link",
            "12.2",
            "The same with a link in the innermost array: it is no level.",
            &sign(SequenceNumber::record(nested(125, Ipld::Link(cid)), 1)),
        ),
        accepted(
            "deepest-with-map",
            "12.2",
            "The same with an empty map in the innermost array.",
            &sign(SequenceNumber::record(nested(124, map([])), 1)),
        ),
    ]);
    cases
}

/// A record of this many bytes.
fn of_len(len: usize) -> IprsRecord {
    let record = |bytes: usize| sign(SequenceNumber::record(vec![7_u8; bytes], 1));
    let rest = record(len / 2).as_bytes().len() - len / 2;
    let record = record(len - rest);
    assert_eq!(record.as_bytes().len(), len);
    record
}

/// Nested lists.
fn nested(levels: usize, innermost: Ipld) -> Ipld {
    (0..levels).fold(innermost, |inner, _| Ipld::List(vec![inner]))
}

/// A value with a changed object and a good signature.
fn tampered(change: impl FnOnce(&mut std::collections::BTreeMap<String, Ipld>)) -> Vec<u8> {
    tampered_under(&key(), sign(SequenceNumber::record("x", 1)).block(), change)
}

/// A value of these encoded parts with a good signature.
fn raw(object: &[u8]) -> Vec<u8> {
    let signature = signature(&alice(), &key(), object);
    // a2, "record", object, "signature", 58 40, signature
    [b"\xa2\x66record", object, b"\x69signature\x58\x40", &signature].concat()
}

fn refused_records() -> Vec<Value> {
    let good = sign(SequenceNumber::record("x", 1));
    let (block, bytes) = (good.block(), good.as_bytes());
    let elsewhere = SequenceNumber::record("x", 1).sign(&key_of(&alice(), "y"), &alice()).unwrap();
    let of_bob = SequenceNumber::record("x", 1).sign(&key(), &ed25519(2)).unwrap();
    let cbor =
        |name: &str, about: &str, bytes: &[u8]| no(name, "12.2", about, bytes, "malformed", "cbor");
    let of = |name: &str, about: &str, bytes: &[u8], reason: &str| {
        no(name, "12.3", about, bytes, "malformed", reason)
    };
    let replace = |from: &[u8], to: &[u8]| {
        let place = block.windows(from.len()).position(|window| window == from).unwrap();
        let mut object = block.to_vec();
        object.splice(place..place + from.len(), to.iter().copied());
        raw(&object)
    };
    assert_eq!(raw(block), bytes, "what is made by hand is what the library makes");
    let float = |bits: u64| [&[0xfb][..], &bits.to_be_bytes()].concat();
    let with_value = |value: &[u8]| replace(b"\x65value\x61x", &[b"\x65value", value].concat());
    let too_deep = {
        let mut lists = vec![0x81; 125];
        lists.push(0x80);
        with_value(&lists)
    };
    vec![
        cbor("empty", "No bytes.", &[]),
        cbor("truncated", "The last byte is missing.", &bytes[..bytes.len() - 1]),
        cbor("trailing", "A byte after it.", &[bytes, &[0]].concat()),
        cbor(
            "version-padded",
            "A number that is not the shortest.",
            &replace(b"\x67version\x00", b"\x67version\x18\x00"),
        ),
        cbor("integer-padded-2", "255 in two bytes.", &with_value(&[0x19, 0, 0xff])),
        cbor("integer-padded-4", "65,535 in four bytes.", &with_value(&[0x1a, 0, 0, 0xff, 0xff])),
        cbor(
            "integer-padded-8",
            "2^32 - 1 in eight bytes.",
            &with_value(&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        ),
        cbor("bytes-padded-4", "A length in four bytes.", &with_value(&[0x5a, 0, 0, 0, 1, 0])),
        cbor("list-padded", "A length of a list in a byte more.", &with_value(&[0x98, 1, 0])),
        cbor("map-padded", "A length of a map in a byte more.", &with_value(&[0xb8, 0])),
        cbor("false-padded", "The simple value of false in a byte more.", &with_value(&[0xf8, 20])),
        cbor("simple-32", "Another simple value.", &with_value(&[0xf8, 32])),
        cbor("text-padded", "A length that is not the shortest.", &with_value(b"\x78\x01x")),
        cbor("indefinite-list", "A list without a length.", &with_value(&[0x9f, 0xff])),
        cbor("indefinite-text", "A text without a length.", &with_value(b"\x7f\x61x\xff")),
        cbor("float-16", "A float of two bytes.", &with_value(&[0xf9, 0x3c, 0x00])),
        cbor("float-32", "A float of four bytes.", &with_value(&[0xfa, 0x3f, 0x80, 0x00, 0x00])),
        cbor("nan", "NaN.", &with_value(&float(0x7ff8_0000_0000_0000))),
        cbor("infinity", "Infinity.", &with_value(&float(0x7ff0_0000_0000_0000))),
        cbor("negative-zero", "Negative zero.", &with_value(&float(1 << 63))),
        cbor("undefined", "The simple value 23.", &with_value(&[0xf7])),
        cbor("tag-1", "Another tag than 42.", &with_value(&[0xc1, 0x01])),
        cbor(
            "integer-65-bits",
            "2^64, as a big number.",
            &with_value(&[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        cbor(
            "tag-padded",
            "The tag 42 in two bytes.",
            &with_value(&[0xd9, 0x00, 0x2a, 0x45, 0x00, 0x01, 0x55, 0x00, 0x00]),
        ),
        cbor(
            "link-without-zero",
            "A link without the zero before the CID.",
            &with_value(&[0xd8, 0x2a, 0x44, 0x01, 0x55, 0x00, 0x00]),
        ),
        cbor(
            "link-of-text",
            "The tag 42 on a text.",
            &with_value(&[0xd8, 0x2a, 0x65, 0x00, 0x01, 0x55, 0x00, 0x00]),
        ),
        cbor(
            "link-trailing",
            "A link with a byte after the CID.",
            &with_value(&[0xd8, 0x2a, 0x46, 0x00, 0x01, 0x55, 0x00, 0x00, 0x00]),
        ),
        cbor(
            "link-codec-65-bits",
            "A codec of more than 64 bits.",
            &with_value(&[&[0xd8, 0x2a, 0x4e, 0x00, 0x01][..], &[0xff; 9], &[0x02, 0, 0]].concat()),
        ),
        cbor(
            "begins-with-built-in-scheme",
            "It begins with the CID of a scheme that has no form of its own.",
            &[&SequenceNumber.description().cid().to_bytes()[..], &[0]].concat(),
        ),
        cbor(
            "keys-unsorted",
            "Shorter keys first.",
            &with_value(&[0xa2, 0x62, b'a', b'a', 0x00, 0x61, b'b', 0x00]),
        ),
        cbor(
            "keys-sorted-by-characters",
            "The length is that of the bytes: ä has two.",
            &with_value(&[0xa2, 0x62, 0xc3, 0xa4, 0x00, 0x62, b'b', b'b', 0x00]),
        ),
        cbor(
            "keys-twice",
            "A key twice.",
            &with_value(&[0xa2, 0x61, b'a', 0x00, 0x61, b'a', 0x00]),
        ),
        cbor("key-no-text", "A key that is a number.", &with_value(&[0xa1, 0x00, 0x00])),
        cbor("not-utf-8", "A text that is none.", &with_value(&[0x61, 0xff])),
        cbor("too-deep", "128 levels.", &too_deep),
        no("not-a-map", "12.3", "A list.", &[0x80], "malformed", "field"),
        of("begins-with-1", "Neither DAG-CBOR nor the CID of a scheme.", &[0x01, 0x71], "field"),
        of("one", "The number 1, which is no CID either.", &[0x01], "field"),
        of(
            "begins-with-padded-cid",
            "A CID in a longer form.",
            &[&[0x01][..], &[0xff; 9], &[0x02, 0, 0]].concat(),
            "field",
        ),
        no(
            "own-form",
            "12.3",
            "It begins with the CID of a scheme that is not known.",
            &[&Description::new("com.example").cid().to_bytes()[..], b"x"].concat(),
            "unsupported",
            "unknown-scheme",
        ),
        of(
            "begins-with-65-byte-digest",
            "A CID with a digest of 65 bytes.",
            &[&[0x01, 0x71, 0x13, 65][..], &[7; 65]].concat(),
            "field",
        ),
        of(
            "begins-with-cut-digest",
            "A CID with a digest of 32 bytes, of which one is missing.",
            &[&[0x01, 0x71, 0x12, 32][..], &[7; 31]].concat(),
            "field",
        ),
        no(
            "own-form-of-64-bytes",
            "12.3",
            "It begins with the CID of another scheme, with the longest digest.",
            &[&[0x01, 0x71, 0x13, 64][..], &[7; 64]].concat(),
            "unsupported",
            "unknown-scheme",
        ),
        no(
            "own-form-too-large",
            "12.3",
            "The limit of bytes is judged first, whatever the form.",
            &[&Description::new("com.example").cid().to_bytes()[..], &[7; 8_192 - 35]].concat(),
            "limit",
            "value-bytes",
        ),
        of("no-record", "The signature alone.", b"\xa1\x69signature\x40", "field"),
        of(
            "no-author",
            "A field is missing.",
            &tampered(|object| drop(object.remove("author"))),
            "field",
        ),
        of(
            "version-negative",
            "A version below 0.",
            &tampered(|object| drop(object.insert("version".into(), Ipld::Integer(-1)))),
            "field",
        ),
        of(
            "version-true",
            "A version that is true.",
            &tampered(|object| drop(object.insert("version".into(), Ipld::Bool(true)))),
            "field",
        ),
        of(
            "scheme-no-link",
            "A scheme that is no link.",
            &tampered(|object| drop(object.insert("scheme".into(), Ipld::Null))),
            "field",
        ),
        of(
            "another-field",
            "A field more.",
            &tampered(|object| drop(object.insert("more".into(), Ipld::Null))),
            "unknown-field",
        ),
        of(
            "another-field-outside",
            "A field more beside the record.",
            &[b"\xa3\x64more\xf6", &bytes[1..]].concat(),
            "unknown-field",
        ),
        of(
            "author-no-key",
            "An author that is no public key.",
            &tampered(|object| drop(object.insert("author".into(), Ipld::Bytes(vec![1])))),
            "public-key",
        ),
        no(
            "author-of-unknown-type",
            "12.3",
            "An author with a key of a type that there is not.",
            &tampered(|object| {
                drop(object.insert("author".into(), Ipld::Bytes(vec![8, 4, 0x12, 0])))
            }),
            "unsupported",
            "key-type",
        ),
        no(
            "unknown-scheme",
            "12.4",
            "A scheme that is not built in.",
            sign(Record::new(Description::new("com.example").cid(), "x", Ipld::Null)).as_bytes(),
            "unsupported",
            "unknown-scheme",
        ),
        no(
            "moved",
            "12.3",
            "Signed for another key.",
            elsewhere.as_bytes(),
            "invalid",
            "signature",
        ),
        no(
            "not-owner",
            "12.1",
            "Of another author than the owner of the key.",
            of_bob.as_bytes(),
            "policy",
            "not-owner",
        ),
        no(
            "scheme-version-0",
            "12.4",
            "A scheme that is a CID of version 0.",
            &tampered(|object| {
                let cid = Cid::try_from(&[&[0x12, 0x20][..], &[0; 32]].concat()[..]).unwrap();
                drop(object.insert("scheme".into(), Ipld::Link(cid)));
            }),
            "unsupported",
            "unknown-scheme",
        ),
        no(
            "signature-bytes",
            "4.2",
            "A signature of 1,025 bytes.",
            &[b"\xa2\x66record", block, b"\x69signature\x59\x04\x01", &[1; 1_025]].concat(),
            "limit",
            "signature-bytes",
        ),
        no(
            "too-large",
            "12.3",
            "More than 8,192 bytes.",
            sign(SequenceNumber::record(vec![7_u8; 8_100], 1)).as_bytes(),
            "limit",
            "value-bytes",
        ),
        no(
            "8193-bytes",
            "12.3",
            "A byte more than the largest.",
            of_len(8_193).as_bytes(),
            "limit",
            "value-bytes",
        ),
    ]
}

/// Records whose validity does not fit their scheme.
fn refused_validities() -> Vec<Value> {
    let of = |scheme: Cid, validity: Ipld| sign(Record::new(scheme, "x", validity)).encode();
    let no = |name: &str, about: &str, bytes: &[u8], fault: &str, reason: &str| {
        no(name, "12.4", about, bytes, fault, reason)
    };
    let number = |n: i128| Ipld::Integer(n);
    let [range, ttl, chain, sequence] = [
        DatetimeRange.description().cid(),
        TtlSinceReceipt.description().cid(),
        Ancestry.description().cid(),
        SequenceNumber.description().cid(),
    ];
    let block = Ipld::Link(sign(Ancestry::first("x")).cid());
    let cid = |bytes: &[u8]| Ipld::Link(Cid::try_from(bytes).unwrap());
    let inline = Ipld::Link("bafkqaddimvwgy3zao5xxe3debi".parse().unwrap());
    let raw = cid(&[&[0x01, 0x55, 0x12, 0x20][..], &[0; 32]].concat());
    let version_0 = cid(&[&[0x12, 0x20][..], &[0; 32]].concat());
    let of_parent = |parent| of(chain, map([("height", number(1)), ("parent", parent)]));
    vec![
        no("sequence-missing", "No sequence.", &of(sequence, map([])), "malformed", "field"),
        no(
            "sequence-negative",
            "A sequence below 0.",
            &of(sequence, map([("sequence", number(-1))])),
            "malformed",
            "field",
        ),
        no(
            "sequence-and-more",
            "A field more.",
            &of(sequence, map([("sequence", number(1)), ("x", number(1))])),
            "malformed",
            "unknown-field",
        ),
        no("validity-null", "No map.", &of(sequence, Ipld::Null), "malformed", "field"),
        no(
            "ttl-0",
            "No time at all.",
            &of(ttl, map([("ttl", number(0))])),
            "malformed",
            "contradiction",
        ),
        no(
            "range-empty",
            "It ends when it begins.",
            &of(range, map([("notBefore", number(5)), ("notAfter", number(5))])),
            "malformed",
            "contradiction",
        ),
        no(
            "range-begin-0",
            "Unbounded has one form.",
            &of(range, map([("notBefore", number(0))])),
            "malformed",
            "not-canonical",
        ),
        no(
            "range-end-greatest",
            "Unbounded has one form.",
            &of(range, map([("notAfter", number((1 << 64) - 1))])),
            "malformed",
            "not-canonical",
        ),
        no(
            "range-end-0",
            "An absent notBefore is 0.",
            &of(range, map([("notAfter", number(0))])),
            "malformed",
            "contradiction",
        ),
        no(
            "range-begin-greatest",
            "An absent notAfter is 2^64 - 1.",
            &of(range, map([("notBefore", number((1 << 64) - 1))])),
            "malformed",
            "contradiction",
        ),
        no(
            "range-not-yet",
            "It begins a millisecond from now.",
            &of(range, map([("notBefore", number(i128::from(NOW) + 1))])),
            "limit",
            "not-yet",
        ),
        no(
            "range-over",
            "It ends now.",
            &of(range, map([("notAfter", number(NOW.into()))])),
            "expired",
            "expired",
        ),
        no(
            "height-without-parent",
            "A height of 1 and no parent.",
            &of(chain, map([("height", number(1))])),
            "malformed",
            "contradiction",
        ),
        no(
            "parent-without-height",
            "A height of 0 and a parent.",
            &of(chain, map([("height", number(0)), ("parent", block)])),
            "malformed",
            "contradiction",
        ),
        no(
            "parent-no-block",
            "A parent that is no DAG-CBOR block.",
            &of_parent(inline),
            "malformed",
            "contradiction",
        ),
        no(
            "parent-raw",
            "A parent with the codec raw.",
            &of_parent(raw),
            "malformed",
            "contradiction",
        ),
        no(
            "parent-version-0",
            "A parent that is a CID of version 0.",
            &of_parent(version_0),
            "malformed",
            "contradiction",
        ),
    ]
}

/// A beacon that has had five rounds, 0 to 4.
fn beacon() -> (Vec<IprsRecord>, Value) {
    let rounds = rounds(5);
    let values: Vec<_> = rounds.iter().map(|round| hex(round.cid().to_bytes())).collect();
    (rounds, json!({ "rounds": values, "threshold": 2 }))
}

/// Records of the freshness scheme.
fn citing_a_beacon() -> Vec<Value> {
    let (rounds, beacon) = beacon();
    let (_, fresh) = beacon_of(&json!({ "beacon": beacon }));
    let cite = |name: &str, about: &str, round: u64, value: usize| {
        let record = sign(fresh.record("x", BeaconCitation { round, value: rounds[value].cid() }));
        let mut case = super::iprs::value(name, "12.4", about, record.key(), record.as_bytes());
        case["beacon"] = beacon.clone();
        case
    };
    let good = |mut case: Value| {
        case["good"] = good(&case).unwrap();
        case
    };
    let no = |mut case: Value, fault: &str, reason: &str| {
        case["refused"] = refused(fault, reason);
        case
    };
    vec![
        good(cite("cites-newest", "The newest round.", 4, 4)),
        good(cite("cites-oldest", "Two rounds old.", 2, 2)),
        no(cite("cites-too-old", "Three rounds old.", 1, 1), "stale", "stale"),
        no(
            cite("cites-forged", "Another value than that of the round.", 4, 3),
            "invalid",
            "forged",
        ),
        no(
            cite("cites-future", "A round that has not begun.", 5, 4),
            "unsupported",
            "future-round",
        ),
    ]
}

/// A choice among records that cite a round that is too old, the newest, and one that is unknown.
fn rounds_are_not_judged() -> Value {
    let (rounds, beacon) = beacon();
    let (_, fresh) = beacon_of(&json!({ "beacon": beacon }));
    let cite = |round: u64| {
        let value = rounds[usize::try_from(round).unwrap().min(4)].cid();
        sign(fresh.record("x", BeaconCitation { round, value })).encode()
    };
    let about = "A round that is unknown, too old or forged is chosen all the same.";
    let values = [cite(0), cite(4), cite(5)];
    let values: Vec<&[u8]> = values.iter().map(|value| &value[..]).collect();
    let rules = IprsValidator::default().with_scheme(fresh);
    let mut case = choice(["rounds-are-not-judged", "12.5", about], &key(), &values, |k, v| {
        rules.select(k, v)
    });
    case["beacon"] = beacon;
    case
}

pub fn choices() -> Vec<Value> {
    let sequence = |n, version| sign(SequenceNumber::record("x", n).with_version(version)).encode();
    let range = |from: u64, until: u64| {
        sign(DatetimeRange::record("x", at(from), at(until)).unwrap()).encode()
    };
    let ttl =
        |text: &str| sign(TtlSinceReceipt::record(text, Duration::from_secs(60)).unwrap()).encode();
    let first = sign(Ancestry::first("first"));
    let child = sign(Ancestry::child("child", &first).unwrap());
    let forks = ["left", "right"].map(|text| sign(Ancestry::child(text, &first).unwrap()).encode());
    let author = ecdsa();
    let motd = key_of(&author, "motd");
    let of_ecdsa = SequenceNumber::record("x", 1).sign(&motd, &author).unwrap().encode();
    let mirrored = twin(&of_ecdsa);
    let choice = |name: &str, about: &str, key: &RecordKey, values: &[&[u8]]| {
        let select =
            |key: &RecordKey, values: &[&[u8]]| IprsValidator::default().select(key, values);
        choice([name, "12.5", about], key, values, select)
    };
    let under = key();
    vec![
        choice(
            "sequence",
            "The higher one.",
            &under,
            &[&sequence(9, 0), &sequence(10, 0), &sequence(2, 0)],
        ),
        choice("version", "It decides first.", &under, &[&sequence(9, 0), &sequence(1, 1)]),
        choice(
            "version-across-schemes",
            "Also across schemes.",
            &under,
            &[&sequence(9, 1), &range(0, u64::MAX)],
        ),
        choice(
            "version-before-scheme",
            "The higher version of the scheme with the lesser CID.",
            &under,
            &[&sequence(1, 1), &ttl("x")],
        ),
        choice(
            "scheme",
            "Of one version, the CID of the scheme.",
            &under,
            &[&sequence(9, 0), &range(0, 1), &ttl("x"), first.as_bytes()],
        ),
        choice("range-end", "The one that ends later.", &under, &[&range(5, 9), &range(1, 10)]),
        choice(
            "range-unbounded",
            "Unbounded is last.",
            &under,
            &[&range(5, u64::MAX - 1), &range(5, u64::MAX)],
        ),
        choice(
            "range-begin",
            "Then the one that begins later.",
            &under,
            &[&range(5, 9), &range(6, 9), &range(0, 9)],
        ),
        choice(
            "ttl",
            "Nothing but the CID of the record.",
            &under,
            &[&ttl("a"), &ttl("b"), &ttl("c")],
        ),
        choice("height", "The longer chain.", &under, &[child.as_bytes(), first.as_bytes()]),
        choice("fork", "Of equal heights, the CID of the record.", &under, &[&forks[0], &forks[1]]),
        choice(
            "lesser-signature",
            "Of one record, the lesser signature.",
            &motd,
            &[&of_ecdsa, &mirrored],
        ),
        choice("same", "Of the same, the first.", &under, &[&sequence(1, 0), &sequence(1, 0)]),
        choice(
            "bad-is-left-out",
            "What is not good does not count.",
            &under,
            &[b"rubbish", &sequence(1, 0)],
        ),
        choice("nothing-good", "There is no choice.", &under, &[b"rubbish", b""]),
        rounds_are_not_judged(),
    ]
}
