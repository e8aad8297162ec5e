//! Replays: under another key, of a lower sequence, of the same with another signature.

use super::*;

#[test]
fn a_replay_under_another_key() {
    let elsewhere = Forgery::by(&alice(), payload(b"/notes/b", b"evil", 10)).encode();
    let reason = refused(elsewhere.clone(), Fault::Invalid);
    assert!(reason.to_string().contains("/notes/b"), "{reason}");
    let rules = SignedRecordValidator::default();
    assert!(rules.validate(&"/notes/b".into(), &elsewhere, at(NOW)).is_ok());
}

#[test]
fn a_rollback() {
    let (key, old, new) = (key(), record_of(&alice(), "old", 4).encode(), honest());
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.put(&key, new.clone());
    replica.put(&key, old);
    assert_eq!(replica.refusals(), [ValidationError::Stale]);
    assert_eq!(replica.get(&key), Some(new.clone()));
    // The newer one again is no news, and no refusal.
    replica.put(&key, new.clone());
    assert_eq!(replica.events(), []);
    // And an update goes through.
    let newer = record_of(&alice(), "newer", 6).encode().to_vec();
    replica.put(&key, newer.clone());
    assert_eq!(replica.get(&key), Some(newer));
}

#[test]
fn the_same_sequence_twice_has_one_winner() {
    let key = key();
    let (a, b) = (record_of(&alice(), "a", 5), record_of(&alice(), "b", 5));
    let best = std::cmp::max_by_key(&a, &b, |record| record.rank().hash());
    for order in [[&a, &b], [&b, &a]] {
        let mut replica = Replica::with(registry(SignedRecordValidator::default()));
        for record in order {
            replica.put(&key, record.encode());
        }
        assert_eq!(replica.get(&key).unwrap(), best.encode());
    }
}

#[test]
fn a_second_signature_of_the_same_does_not_flap() {
    // Of a key whose signatures differ from one time to the next, or can be changed by others.
    let author = Author::ecdsa();
    let payload = payload(KEY.as_bytes(), b"x", 5);
    let one = Forgery::by(&author, payload);
    let mut other = one.clone();
    other.signature = negated_s(&one.signature);
    let (one, other) = (one.encode(), other.encode());
    assert_ne!(one, other);
    let rules = SignedRecordValidator::default();
    let [a, b] = [&one, &other].map(|value| rules.read(&key(), value, at(NOW)).unwrap());
    assert_eq!(a.rank().hash(), b.rank().hash());
    let least = std::cmp::min(&one, &other);
    for order in [[&one, &other, &one], [&other, &one, &other]] {
        let mut replica = Replica::with(registry(rules.clone()));
        for value in order {
            replica.put(&key(), value.clone());
        }
        assert_eq!(replica.get(&key()).as_ref(), Some(least));
    }
}

/// The other good ECDSA signature of the same: `(r, n - s)`, in DER.
fn negated_s(der: &[u8]) -> Vec<u8> {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let r_len = usize::from(der[3]);
    let (r, s) = (&der[4..4 + r_len], &der[4 + r_len + 2..]);
    let mut wide = [0; 33];
    wide[33 - s.len()..].copy_from_slice(s);
    let (mut negated, mut borrow) = ([0; 32], 0);
    for n in (0..32).rev() {
        let digit = i16::from(N[n]) - i16::from(wide[n + 1]) - borrow;
        borrow = i16::from(digit < 0);
        negated[n] = digit.rem_euclid(256) as u8;
    }
    let integer = |bytes: &[u8]| {
        let first = bytes.iter().position(|b| *b != 0).unwrap();
        let sign = if bytes[first] >= 0x80 { &[0][..] } else { &[] };
        let bytes = [sign, &bytes[first..]].concat();
        [&[2, bytes.len() as u8][..], &bytes].concat()
    };
    let body = [integer(r), integer(&negated)].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}
