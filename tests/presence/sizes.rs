//! Too large, or too many: both sides of each bound.

use libp2p_smart_record::{
    Fault, PresenceValidator, Validator,
    presence::{Entry, PresenceLimits},
    record::Limit,
};
use prost::Message;

use crate::forge::*;

#[test]
fn an_oversized_record() {
    let value = records(&[Draft::at(1), Draft::at(2), Draft::at(3)]);
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(600);
        let validator = PresenceValidator::new(limits.with_record_bytes(max));
        validator.validate(&key(), &value, now())
    };
    let error = fits(value.len() - 1).unwrap_err();
    exceeded(&error, Limit::VALUE_BYTES);
    // All three stay if one more of the largest size would fit besides.
    fits(value.len() + 700).unwrap();
    // Garbage is refused for its size before anybody looks at it.
    exceeded(&refused(&vec![0xff; 8 * 1_024 + 1], Fault::LimitExceeded), Limit::VALUE_BYTES);
    refused(&vec![0xff; 8 * 1_024], Fault::Malformed);
}

#[test]
fn an_oversized_announcement() {
    let value = |draft: &Draft, len| record([draft.value_of(vec![0xff; len])]).encode_to_vec();
    let error = refused(&value(&Draft::at(1), 2_817), Fault::LimitExceeded);
    exceeded(&error, PresenceLimits::ANNOUNCEMENT_BYTES);
    refused(&value(&Draft::at(1), 2_816), Fault::Malformed);
}

#[test]
fn identities_that_are_too_large() {
    // What counts is the largest that an announcement of these two can get.
    let [_, _, _, rsa] = all_types();
    let value = Draft::of(&client(), &rsa).encode();
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        PresenceValidator::new(limits).validate(&key(), &value, now())
    };
    let least = (0..2_816).find(|max| fits(*max).is_ok()).unwrap();
    assert!(least > Draft::of(&client(), &rsa).value().encode_to_vec().len());
    exceeded(&fits(least - 1).unwrap_err(), PresenceLimits::ANNOUNCEMENT_BYTES);
}

#[test]
fn what_an_announcement_counts_is_never_less_than_its_length() {
    for client in all_types() {
        for node in all_types().iter().chain([&node(9)]) {
            if client.public() == node.public() {
                continue;
            }
            let draft = Draft::of(&client, node).with(|m| {
                m.creation_date = i64::MAX - 2;
                m.expiration_date = i64::MAX - 1;
                m.retain_until = Some(i64::MAX);
            });
            let value = draft.value();
            let framed = Record { values: vec![value.clone()], ..Record::default() }.encoded_len();
            let fits = |max| {
                let limits = PresenceLimits::default().with_announcement_bytes(max);
                Entry::decode(&key_of(&client), value.value.clone(), &limits).is_ok()
            };
            assert!(fits(2_816));
            assert!(!fits(framed - 1), "{framed}");
        }
    }
}

#[test]
fn an_oversized_signature() {
    let draft = Draft::at(1);
    // Of an Ed25519 key of 36 bytes, 72 are looked at.
    for (len, fault) in [(73, Fault::LimitExceeded), (72, Fault::Invalid)] {
        let signed = Signed { client_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
        let signed = Signed { node_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
    }
}

#[test]
fn too_many_nodes() {
    let drafts: Vec<_> = (1..=9).map(|n| Draft::at(n).made(-i64::from(n))).collect();
    accepted(&records(&drafts[..8]));
    let nine = records(&drafts);
    let error = refused_under(&key(), &nine, Fault::LimitExceeded);
    exceeded(&error, PresenceLimits::NODES_PER_CLIENT);
    // In two pieces the newest eight stay, whatever comes first.
    for pieces in [[&drafts[..5], &drafts[5..]], [&drafts[5..], &drafts[..5]]] {
        let (mut replica, _) = replica();
        for piece in pieces {
            replica.write(&key(), &records(piece)).unwrap();
        }
        assert_eq!(stored(&replica, &key()).unwrap(), records(&drafts[..8]));
    }
}

#[test]
fn more_large_announcements_than_fit() {
    // Each counts at its largest, so they stop before the record is full; then bytes, not nodes, are the limit.
    let [_, _, _, rsa] = all_types();
    let large = Draft::of(&client(), &rsa);
    let limits = |record_bytes| {
        PresenceLimits::default().with_announcement_bytes(1_600).with_record_bytes(record_bytes)
    };
    let validate = |record_bytes, drafts: &[Draft]| {
        let validator = PresenceValidator::new(limits(record_bytes));
        validator.validate(&key(), &records(drafts), now())
    };
    let both = [large.clone().made(1), Draft::at(1)];
    let least = (0..8_192).find(|max| validate(*max, &both).is_ok()).unwrap();
    assert!(least > records(&both).len());
    // The second stays while the first comes to less than what is left beside another of the largest size.
    let weight = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(max);
        Entry::decode(&key_of(&client()), both[0].value().value, &limits).is_ok()
    };
    let weight = (0..1_600).find(|max| weight(*max)).unwrap();
    let head = key_of(&client()).as_str().len() + id(&client()).to_string().len() + 16;
    assert_eq!(least, weight + 1 + 1_600 + head);
    exceeded(&validate(least - 1, &both).unwrap_err(), Limit::VALUE_BYTES);
    validate(least - 1, &both[..1]).unwrap();
}
