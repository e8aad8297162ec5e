//! Attacks on records, one test each.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, Limit, LimitExceeded, Open, RecordKey, ValidationError, Validator,
    iprs::{
        Ancestry, DatetimeRange, Ipld, IprsError, IprsRecord, Record, Scheme, SequenceNumber,
        TtlSinceReceipt,
    },
    store::WriteError,
};

use super::*;

fn hello() -> IprsRecord {
    sign(SequenceNumber::record("hello", 7))
}

fn stale() -> WriteError {
    ValidationError::Stale.into()
}

// Replays

#[test]
fn a_lower_sequence_number_is_stale() {
    let (mut store, _) = open_store(validator());
    let sequence = |n| sign(SequenceNumber::record("hello", n));
    store.write(&key(), sequence(7).as_bytes()).unwrap();
    for lower in [0, 6] {
        assert_eq!(store.write(&key(), sequence(lower).as_bytes()), Err(stale()));
    }
    assert_eq!(store.write(&key(), sequence(7).as_bytes()).unwrap().known, 1);
    store.write(&key(), sequence(8).as_bytes()).unwrap();
    assert_eq!(store.write(&key(), sequence(7).as_bytes()), Err(stale()));
    store.write(&key(), sequence(u64::MAX).as_bytes()).unwrap();
    assert_eq!(stored(&store, &key()).unwrap(), sequence(u64::MAX).as_bytes());
}

#[test]
fn a_lower_version_is_stale_whatever_its_scheme() {
    let (mut store, _) = open_store(validator());
    let best = SequenceNumber::record("hello", 0).with_version(2);
    store.write(&key(), sign(best.clone()).as_bytes()).unwrap();
    let forever = DatetimeRange::record("x", at(0), at(u64::MAX)).unwrap();
    for old in [
        SequenceNumber::record("old", u64::MAX),
        forever,
        TtlSinceReceipt::record("old", secs(u64::MAX)).unwrap(),
        Ancestry::first("old"),
    ] {
        let old = sign(old.with_version(1));
        assert_eq!(store.write(&key(), old.as_bytes()), Err(stale()));
    }
    // This is how an author changes the scheme.
    for (version, new) in [
        (3, TtlSinceReceipt::record("new", secs(1)).unwrap()),
        (4, Ancestry::first("new")),
        (5, DatetimeRange::record("new", at(NOW), at(NOW + 1)).unwrap()),
        (6, SequenceNumber::record("new", 0)),
    ] {
        assert_eq!(
            store.write(&key(), sign(new.with_version(version)).as_bytes()).unwrap().stored,
            1
        );
    }
}

#[test]
fn a_record_under_another_key_of_the_same_author_is_forged() {
    let record = hello();
    for other in ["y", "", "x/"] {
        refused_by(&validator(), &key_of(&alice(), other), record.as_bytes(), NOW, Fault::Invalid);
    }
    // Also in another namespace, if it has the same validator.
    let elsewhere = RecordKey::new(format!("/other/{}/x", alice().public().to_peer_id()));
    let reason = validator().validate(&elsewhere, record.as_bytes(), at(NOW)).unwrap_err();
    assert_eq!(reason.fault(), Fault::Invalid);
}

#[test]
fn a_record_under_the_key_of_somebody_else_is_refused() {
    let theirs = key_of(&mallory(), "x");
    refused_by(&validator(), &theirs, hello().as_bytes(), NOW, Fault::RefusedByPolicy);
    let nobody_s = RecordKey::new("/iprs/x");
    refused_by(&validator(), &nobody_s, hello().as_bytes(), NOW, Fault::RefusedByPolicy);
    // If everyone may write, the signature still binds the key.
    let open = validator().with_admission(Open);
    refused_by(&open, &theirs, hello().as_bytes(), NOW, Fault::Invalid);
    refused_by(&open, &nobody_s, hello().as_bytes(), NOW, Fault::Invalid);
}

#[test]
fn a_signature_made_for_another_protocol_is_forged() {
    let record = hello();
    for (domain, payload_type) in [
        ("libp2p-smart-record", "/libp2p-smart-record/update"),
        ("libp2p-iprs", "/libp2p-smart-record/update"),
        ("libp2p-smart-record", "/libp2p-iprs/record"),
        ("libp2p-iprs", ""),
    ] {
        let message = bound(domain, payload_type, key().as_bytes(), record.block());
        let mut outer = parse(record.as_bytes());
        outer.insert("signature".to_owned(), Ipld::Bytes(alice().sign(&message).unwrap()));
        refused(&encode(&outer), Fault::Invalid);
    }
}

// Authors

#[test]
fn mallory_cannot_write_under_alice_s_key() {
    let record = SequenceNumber::record("hello", 8).sign(&key(), &mallory()).unwrap();
    refused(record.as_bytes(), Fault::RefusedByPolicy);
    accepted_by(&validator().with_admission(Open), &key(), record.as_bytes(), NOW);
}

#[test]
fn a_swapped_author_is_forged() {
    // Mallory's record with Alice's name on it, and Alice's with Mallory's.
    let mallory_s = SequenceNumber::record("hello", 8).sign(&key(), &mallory()).unwrap();
    for (record, author) in [(&mallory_s, alice()), (&hello(), mallory())] {
        let mut outer = parse(record.as_bytes());
        if let Some(Ipld::Map(object)) = outer.get_mut("record") {
            let author = author.public().encode_protobuf();
            object.insert("author".to_owned(), Ipld::Bytes(author));
        }
        let open = validator().with_admission(Open);
        refused_by(&open, &key(), &encode(&outer), NOW, Fault::Invalid);
    }
}

#[test]
fn a_swapped_signature_is_forged() {
    let other = sign(SequenceNumber::record("hello", 8));
    let mut outer = parse(hello().as_bytes());
    for signature in [other.signature().to_vec(), vec![0; 64], vec![], vec![0; 1_024]] {
        outer.insert("signature".to_owned(), Ipld::Bytes(signature));
        refused(&encode(&outer), Fault::Invalid);
    }
    outer.insert("signature".to_owned(), Ipld::Bytes(vec![0; 1_025]));
    refused(&encode(&outer), Fault::LimitExceeded);
}

#[test]
fn an_author_that_is_no_key_is_refused() {
    for author in [vec![], vec![0; 36], [&[8, 1, 18, 32][..], &[0xff; 32]].concat()] {
        let value = tampered(&hello(), |object| {
            object.insert("author".to_owned(), Ipld::Bytes(author));
        });
        refused(&value, Fault::Malformed);
    }
    let value = tampered(&hello(), |object| {
        object.insert("author".to_owned(), Ipld::Bytes(vec![0; 1_153]));
    });
    refused(&value, Fault::LimitExceeded);
}

#[test]
fn a_key_of_another_type_is_another_author() {
    for keypair in [Keypair::generate_secp256k1(), Keypair::generate_ecdsa(), rsa()] {
        let record = SequenceNumber::record("hello", 8).sign(&key(), &keypair).unwrap();
        refused(record.as_bytes(), Fault::RefusedByPolicy);
    }
}

// Bytes

#[test]
fn a_truncated_record_is_malformed() {
    let record = hello();
    for len in 0..record.as_bytes().len() {
        refused(&record.as_bytes()[..len], Fault::Malformed);
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_before_it_is_read() {
    let overhead = sign(SequenceNumber::record(vec![0; 4_096], 1)).as_bytes().len() - 4_096;
    let of_len = |len: usize| sign(SequenceNumber::record(vec![0; len - overhead], 1));
    let (fits, too_large) = (of_len(8_192), of_len(8_193));
    assert_eq!(fits.as_bytes().len(), 8_192);
    accepted(fits.as_bytes());
    let limit = LimitExceeded { limit: Limit::VALUE_BYTES, got: Some(8_193), max: 8_192 };
    assert_eq!(refused(too_large.as_bytes(), Fault::LimitExceeded), limit.clone().into());
    assert_eq!(refused(&[0xff; 8_193], Fault::LimitExceeded), limit.clone().into());
    let read = IprsRecord::decode(&key(), too_large.encode(), IprsRecord::MAX_BYTES);
    assert_eq!(read, Err(IprsError::Limit(limit)));

    let generous = validator().with_max_bytes(8_193);
    accepted_by(&generous, &key(), too_large.as_bytes(), NOW);
}

#[test]
fn a_key_that_is_too_long_is_refused() {
    let name_of = |len: usize| "n".repeat(len - key_of(&alice(), "").as_bytes().len());
    for (len, fault) in [(256, None), (257, Some(Fault::LimitExceeded))] {
        let key = key_of(&alice(), &name_of(len));
        assert_eq!(key.as_bytes().len(), len);
        let record = SequenceNumber::record("hello", 1).sign(&key, &alice()).unwrap();
        match fault {
            None => accepted_by(&validator(), &key, record.as_bytes(), NOW),
            Some(fault) => {
                refused_by(&validator(), &key, record.as_bytes(), NOW, fault);
                let generous = validator().with_max_key_bytes(len);
                accepted_by(&generous, &key, record.as_bytes(), NOW);
            }
        }
    }
}

#[test]
fn garbage_is_malformed() {
    // A null, a number, a text, a list, an empty map, a list and a map that claim to be huge, a
    // string without an end, a tag without a CID, a half float, an undefined, a break.
    let garbage: &[&[u8]] = &[
        b"",
        b"\xf6",
        b"\x17",
        b"\x61a",
        b"\x80",
        b"\xa0",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5f\x41a\xff",
        b"\xd8\x2a\x41\x00",
        b"\xf9\x00\x00",
        b"\xf7",
        b"\xff",
        // An invalid CID with a valid start.
        b"\x01",
        b"\x01\x71\x12\x20",
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for value in garbage {
        refused(value, Fault::Malformed);
    }
}

#[test]
fn a_record_nested_too_deeply_is_malformed() {
    let nested = |levels: usize| {
        let mut value = Ipld::Null;
        for _ in 0..levels {
            value = Ipld::List(vec![value]);
        }
        SequenceNumber::record(value, 1)
    };
    accepted(sign(nested(100)).as_bytes());
    assert!(nested(300).sign(&key(), &alice()).is_err());
    let deep = [&[0x81; 8_000][..], &[0xf6]].concat();
    refused(&deep, Fault::Malformed);
}

#[test]
fn extra_fields_are_malformed() {
    let record = hello();
    // In the record object, although Alice signed it.
    let value = tampered(&record, |object| {
        object.insert("extra".to_owned(), Ipld::Null);
    });
    refused(&value, Fault::Malformed);
    // Around it.
    let mut outer = parse(record.as_bytes());
    outer.insert("extra".to_owned(), Ipld::Null);
    refused(&encode(&outer), Fault::Malformed);
}

#[test]
fn extra_fields_in_the_validity_are_malformed() {
    let parent = sign(Ancestry::first("one"));
    let records = [
        SequenceNumber::record("x", 1),
        TtlSinceReceipt::record("x", secs(1)).unwrap(),
        DatetimeRange::record("x", at(1), at(NOW + 1)).unwrap(),
        Ancestry::first("x"),
        Ancestry::child("x", &parent).unwrap(),
    ];
    for record in records.map(sign) {
        let Ipld::Map(mut validity) = record.record().validity.clone() else { unreachable!() };
        accepted(&with_validity(&record, Ipld::Map(validity.clone())));
        validity.insert("extra".to_owned(), Ipld::Integer(1));
        refused(&with_validity(&record, Ipld::Map(validity)), Fault::Malformed);
    }
}

#[test]
fn missing_fields_are_malformed() {
    let record = hello();
    for field in ["author", "scheme", "validity", "value", "version"] {
        let value = tampered(&record, |object| {
            object.remove(field).unwrap();
        });
        refused(&value, Fault::Malformed);
    }
    for field in ["record", "signature"] {
        let mut outer = parse(record.as_bytes());
        outer.remove(field).unwrap();
        refused(&encode(&outer), Fault::Malformed);
    }
}

#[test]
fn fields_of_another_type_are_malformed() {
    let record = hello();
    let wrong = [
        ("author", Ipld::String("alice".to_owned())),
        ("scheme", Ipld::Bytes(record.scheme().to_bytes())),
        ("version", Ipld::Integer(-1)),
        ("version", Ipld::Float(1.0)),
        ("version", Ipld::Null),
        ("validity", Ipld::Null),
        ("validity", map([])),
        ("validity", map([("sequence", Ipld::Integer(-1))])),
        ("validity", map([("sequence", Ipld::String("7".to_owned()))])),
    ];
    for (field, data) in wrong {
        let value = tampered(&record, |object| {
            object.insert(field.to_owned(), data);
        });
        refused(&value, Fault::Malformed);
    }
}

/// The wire form around an invalid object, with Alice's signature.
fn around(object: &[u8]) -> Vec<u8> {
    let signature = signature(&alice(), &key(), object);
    [b"\xa2\x66record", object, b"\x69signature\x58\x40", &signature].concat()
}

#[test]
fn other_encodings_of_a_record_are_malformed() {
    let record = hello();
    assert_eq!(around(record.block()), record.as_bytes());
    let replaced = |from: &[u8], to: &[u8]| {
        let block = record.block();
        let i = block.windows(from.len()).position(|window| window == from).unwrap();
        around(&[&block[..i], to, &block[i + from.len()..]].concat())
    };
    // The value in a longer text head, in pieces; the version in two bytes, as a float; the map
    // without an end.
    refused(&replaced(b"\x65hello", b"\x78\x05hello"), Fault::Malformed);
    refused(&replaced(b"\x65hello", b"\x7f\x65hello\xff"), Fault::Malformed);
    refused(&replaced(b"version\x00", b"version\x18\x00"), Fault::Malformed);
    refused(&replaced(b"version\x00", b"version\xfb\0\0\0\0\0\0\0\0"), Fault::Malformed);
    let open_ended = [b"\xbf", &record.block()[1..], b"\xff"].concat();
    refused(&around(&open_ended), Fault::Malformed);
    // The fields in another order: `value` last, and alphabetical.
    let value = b"\x65value\x65hello";
    let rest = &record.block()[1 + value.len()..];
    refused(&around(&[b"\xa5", rest, value].concat()), Fault::Malformed);
    // A field twice.
    refused(&around(&[b"\xa6", &value[..], value, rest].concat()), Fault::Malformed);
    // The signature first; something after the end.
    let signature = [b"\x69signature\x58\x40", record.signature()].concat();
    let swapped = [b"\xa2", &signature[..], b"\x66record", record.block()].concat();
    refused(&swapped, Fault::Malformed);
    refused(&[record.as_bytes(), b"\x00"].concat(), Fault::Malformed);
    // The scheme's CID before it, as in the form of other schemes.
    refused(&[&record.scheme().to_bytes(), record.as_bytes()].concat(), Fault::Malformed);
}

// Schemes

#[test]
fn an_unknown_scheme_is_unsupported() {
    let unknown = sign(SequenceNumber::record("about", 1)).cid();
    let record = sign(Record::new(unknown, "hello", map([("sequence", Ipld::Integer(7))])));
    refused(record.as_bytes(), Fault::Unsupported);
    // Also with its own encoding.
    refused(&[&unknown.to_bytes()[..], b"whatever"].concat(), Fault::Unsupported);
    assert!(validator().marshal(&record).is_err());
    let none = libp2p_smart_record::iprs::IprsValidator::empty();
    refused_by(&none, &key(), hello().as_bytes(), NOW, Fault::Unsupported);
}

#[test]
fn a_swapped_scheme_is_forged() {
    // A record that lives for a second would live for ever if the scheme could be changed.
    let record = sign(TtlSinceReceipt::record("hello", secs(1)).unwrap());
    let mut outer = parse(record.as_bytes());
    if let Some(Ipld::Map(object)) = outer.get_mut("record") {
        let scheme = SequenceNumber.description().cid();
        object.insert("scheme".to_owned(), Ipld::Link(scheme));
        object.insert("validity".to_owned(), map([("sequence", Ipld::Integer(7))]));
    }
    refused(&encode(&outer), Fault::Invalid);
}

#[test]
fn a_record_with_the_validity_of_another_scheme_is_malformed() {
    let records = [
        SequenceNumber::record("x", 1),
        TtlSinceReceipt::record("x", secs(1)).unwrap(),
        DatetimeRange::record("x", at(1), at(2)).unwrap(),
        Ancestry::first("x"),
    ]
    .map(sign);
    for record in &records {
        for other in records.iter().filter(|other| other.scheme() != record.scheme()) {
            refused(&with_validity(record, other.record().validity.clone()), Fault::Malformed);
        }
    }
}

// Times

#[test]
fn a_record_expires_at_the_end_of_its_range() {
    let record = sign(DatetimeRange::record("x", at(NOW), at(NOW + 1_000)).unwrap());
    for good in [NOW, NOW + 999] {
        accepted_by(&validator(), &key(), record.as_bytes(), good);
    }
    for late in [NOW + 1_000, u64::MAX] {
        let reason = refused_by(&validator(), &key(), record.as_bytes(), late, Fault::Expired);
        assert_eq!(reason, ValidationError::Expired { expired_at: at(NOW + 1_000) });
    }
    let validity = validator().validate(&key(), record.as_bytes(), at(NOW)).unwrap();
    assert_eq!(validity.expires_at, Some(at(NOW + 1_000)));
}

#[test]
fn a_record_from_the_future_is_refused_until_its_range_begins() {
    let record = sign(DatetimeRange::record("x", at(NOW), at(u64::MAX)).unwrap());
    let reason = refused_by(&validator(), &key(), record.as_bytes(), NOW - 1, Fault::LimitExceeded);
    let limit = LimitExceeded { limit: DatetimeRange::NOT_YET_VALID, got: Some(1), max: 0 };
    assert_eq!(reason, limit.into());
    accepted_by(&validator(), &key(), record.as_bytes(), NOW);
}

#[test]
fn a_record_that_is_not_valid_yet_because_the_clock_was_set_back_is_not_replaced_by_an_older_one() {
    let older = sign(DatetimeRange::record("old", at(NOW - 9_000), at(NOW + 9_000)).unwrap());
    let newer = sign(DatetimeRange::record("new", at(NOW), at(NOW + 99_000)).unwrap());
    let (mut store, clock) = open_store(validator());
    clock.set(at(NOW + 500));
    store.write(&key(), newer.as_bytes()).unwrap();
    clock.set(at(NOW - 500));
    assert_eq!(store.write(&key(), older.as_bytes()), Err(ValidationError::Stale.into()));
    assert_eq!(stored(&store, &key()).as_deref(), Some(newer.as_bytes()));
}

#[test]
fn a_range_that_contradicts_itself_is_malformed() {
    for (from, to) in [(NOW, NOW), (NOW + 1, NOW), (u64::MAX, u64::MAX), (0, 0)] {
        assert!(DatetimeRange::record("x", at(from), at(to)).is_err());
    }
    assert!(DatetimeRange::record("x", at(NOW), at(NOW + 1)).is_ok());
    let record = sign(DatetimeRange::record("x", at(1), at(2)).unwrap());
    let bound = |name, millis: u64| (name, Ipld::Integer(millis.into()));
    for validity in [
        map([bound("notBefore", NOW), bound("notAfter", NOW)]),
        map([bound("notAfter", 0)]),
        // Unbounded in another form.
        map([bound("notBefore", 0)]),
        map([bound("notAfter", u64::MAX)]),
    ] {
        refused(&with_validity(&record, validity), Fault::Malformed);
    }
}

#[test]
fn a_ttl_of_nothing_is_malformed() {
    assert!(TtlSinceReceipt::record("x", std::time::Duration::from_micros(999)).is_err());
    let record = sign(TtlSinceReceipt::record("x", std::time::Duration::from_millis(1)).unwrap());
    validator().validate(&key(), record.as_bytes(), at(NOW)).unwrap();
    refused(&with_validity(&record, map([("ttl", Ipld::Integer(0))])), Fault::Malformed);
}

#[test]
fn all_types_of_keys_sign() {
    for keypair in [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        Keypair::generate_ecdsa(),
        rsa(),
    ] {
        let key = key_of(&keypair, "x");
        let record = SequenceNumber::record("hello", 1).sign(&key, &keypair).unwrap();
        assert_eq!(*record.author(), libp2p_smart_record::Writer::from(&keypair.public()));
        accepted_by(&validator(), &key, record.as_bytes(), NOW);
        assert_eq!(validator().decode(&key, record.as_bytes()), Ok(record));
    }
}
