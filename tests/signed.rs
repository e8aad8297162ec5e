//! Signed records: attacks on them, one test each, the bounds on both sides, and the laws of their order.
//!
//! Each attack is tried on the reader and the validator (the reason), on the selection (the honest record
//! wins) and on a store as Kademlia uses it (a remote PUT returns `Ok`, changes nothing, and tells why). What
//! happens between a manager and the network is in `manager.rs`.

#[path = "support/forge.rs"]
#[allow(dead_code, reason = "the attacks on smart records use the rest")]
mod forge;
#[path = "signed/vectors.rs"]
mod vectors;

use std::time::Duration;

use forge::{Author, NOW, Replica, alice, at, field, mallory, varint};
use libp2p_smart_record::{
    AcceptAny, AllowList, Fault, KeyOwner, Malformed, RecordKey, Registry, SignedRecord,
    SignedRecordValidator, Timestamp, UnsignedRecord, ValidationError, Validator, Validity,
    record::Open,
    signed::{SignedRecordError, SignedRecordLimits},
    store::Origin,
};
use libp2p_smart_record::{StoreEvent, WriteError};
use proptest::{collection::vec, option, prelude::*};

const KEY: &str = "/notes/a";

/// A record that can be anything, encoded by hand from `proto/signed_record.proto` and RFC 0002.
#[derive(Clone)]
struct Forgery {
    /// The protobuf field numbers and what they hold.
    payload: Vec<u8>,
    public_key: Vec<u8>,
    payload_type: Vec<u8>,
    signature: Vec<u8>,
}

const DOMAIN: &[u8] = b"libp2p-signed-record";
const PAYLOAD_TYPE: &[u8] = b"/libp2p-signed-record/record";

fn payload(key: &[u8], value: &[u8], sequence: u64) -> Vec<u8> {
    [field(1, key), field(2, value), varint(3, sequence)].concat()
}

fn message(domain: &[u8], payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [domain, payload_type, payload] {
        prost::encoding::encode_varint(part.len() as u64, &mut message);
        message.extend_from_slice(part);
    }
    message
}

impl Forgery {
    fn by(author: &Author, payload: Vec<u8>) -> Self {
        let signature = author.0.sign(&message(DOMAIN, PAYLOAD_TYPE, &payload)).unwrap();
        let public_key = author.public_key();
        Self { payload, public_key, payload_type: PAYLOAD_TYPE.to_vec(), signature }
    }

    /// Says "evil" with a sequence above the honest one.
    fn saying(author: &Author) -> Self {
        Self::by(author, payload(KEY.as_bytes(), b"evil", 10))
    }

    fn encode(&self) -> Vec<u8> {
        [
            field(1, &self.public_key),
            field(2, &self.payload_type),
            field(3, &self.payload),
            field(5, &self.signature),
        ]
        .concat()
    }
}

fn key() -> RecordKey {
    RecordKey::new(KEY)
}

fn record_of(author: &Author, value: &str, sequence: u64) -> SignedRecord {
    UnsignedRecord::new(KEY, value.to_owned(), sequence)
        .sign(&author.0, &SignedRecordLimits::default())
        .unwrap()
}

/// What everybody has before the attack.
fn honest() -> Vec<u8> {
    record_of(&alice(), "honest", 5).encode().to_vec()
}

fn registry(rules: SignedRecordValidator) -> Registry {
    Registry::empty().with("notes", rules).unwrap()
}

/// What a replica answers.
fn stored(replica: &Replica, key: &RecordKey) -> Option<Vec<u8>> {
    use libp2p_kad::store::RecordStore;
    replica.store.get(&key.into()).map(|record| record.value.clone())
}

/// Whether `select` can see what is wrong, which has no clock and does not look at the content.
#[derive(PartialEq)]
enum Seen {
    BySelect,
    ByValidateOnly,
}

#[track_caller]
fn refused_by(
    rules: SignedRecordValidator,
    bad: Vec<u8>,
    fault: Fault,
    seen: Seen,
) -> ValidationError {
    let (key, honest) = (key(), honest());
    assert_eq!(rules.validate(&key, &honest, at(NOW)), Ok(Validity::forever()));
    let reason = rules.validate(&key, &bad, at(NOW)).expect_err("the attack succeeds");
    assert_eq!(reason.fault(), fault, "{reason}");
    assert_eq!(rules.read(&key, &bad, at(NOW)), Err(reason.clone()));

    if seen == Seen::BySelect {
        assert_eq!(rules.select(&key, &[&bad, &honest]), Ok(1));
        assert_eq!(rules.select(&key, &[&honest, &bad]), Ok(0));
        assert_eq!(rules.select(&key, &[&bad]), Err(reason.clone()));
    }

    let mut replica = Replica::with(registry(rules));
    replica.put(&key, bad.clone());
    assert!(replica.is_empty(), "something bad is stored");
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));
    replica.put(&key, honest.clone());
    assert_eq!(replica.refusals(), []);
    replica.put(&key, bad);
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));
    assert_eq!(stored(&replica, &key), Some(honest), "the honest record is lost");
    assert_eq!(replica.store.counters().refused.get(&fault), Some(&2));
    reason
}

#[track_caller]
fn refused(bad: Vec<u8>, fault: Fault) -> ValidationError {
    refused_by(SignedRecordValidator::default(), bad, fault, Seen::BySelect)
}

/// The good side of a bound: a replica takes it in the place of the honest one.
#[track_caller]
fn accepted_by(rules: SignedRecordValidator, good: Vec<u8>) {
    let (key, honest) = (key(), honest());
    rules.validate(&key, &good, at(NOW)).unwrap();
    assert_eq!(rules.select(&key, &[&honest, &good]), Ok(1));
    let mut replica = Replica::with(registry(rules));
    replica.put(&key, honest);
    replica.put(&key, good.clone());
    assert_eq!(replica.refusals(), []);
    assert_eq!(stored(&replica, &key), Some(good));
}

#[track_caller]
fn accepted(good: Vec<u8>) {
    accepted_by(SignedRecordValidator::default(), good);
}

// ------------------------------------------------------------------ who signed

#[test]
fn what_the_forger_makes_would_pass_if_it_were_true() {
    // Otherwise the attacks below would show nothing.
    accepted(Forgery::saying(&mallory()).encode());
    let unsigned = UnsignedRecord::new(KEY, "evil", 10);
    let signed = unsigned.sign(&mallory().0, &SignedRecordLimits::default()).unwrap();
    assert_eq!(Forgery::saying(&mallory()).encode(), signed.encode());
}

#[test]
fn a_forged_signature() {
    let mut forgery = Forgery::saying(&alice());
    forgery.signature[40] ^= 1;
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn no_signature() {
    let forgery = Forgery { signature: Vec::new(), ..Forgery::saying(&alice()) };
    // A message does not hold an empty field.
    let encoded = forgery.encode();
    refused(encoded[..encoded.len() - 2].to_vec(), Fault::Invalid);
    refused(encoded, Fault::Malformed);
}

#[test]
fn a_swapped_author() {
    let public_key = alice().public_key();
    refused(Forgery { public_key, ..Forgery::saying(&mallory()) }.encode(), Fault::Invalid);
}

#[test]
fn a_changed_value() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload = payload(KEY.as_bytes(), b"more", 10);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_raised_sequence() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload = payload(KEY.as_bytes(), b"evil", 11);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_removed_expiry() {
    let dying = [payload(KEY.as_bytes(), b"evil", 10), varint(4, NOW + 1)].concat();
    let mut forgery = Forgery::by(&alice(), dying);
    forgery.payload = payload(KEY.as_bytes(), b"evil", 10);
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_signature_of_another_domain() {
    let mut forgery = Forgery::saying(&alice());
    let message = message(b"libp2p-smart-record", PAYLOAD_TYPE, &forgery.payload);
    forgery.signature = alice().0.sign(&message).unwrap();
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn an_envelope_of_something_else() {
    let mut forgery = Forgery::saying(&alice());
    forgery.payload_type = vec![3, 1];
    let message = message(DOMAIN, &forgery.payload_type, &forgery.payload);
    forgery.signature = alice().0.sign(&message).unwrap();
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn ed25519_signatures_are_checked_strictly() {
    // The neutral element as public key and as R, and S = 0, are a good signature of everything by the rules
    // that others use.
    let mut forgery = Forgery::saying(&alice());
    let mut neutral = [0; 32];
    neutral[0] = 1;
    forgery.public_key = [&[0x08, 0x01, 0x12, 0x20][..], &neutral].concat();
    forgery.signature = [neutral, [0; 32]].concat();
    let message = message(DOMAIN, PAYLOAD_TYPE, &forgery.payload);
    let public_key = libp2p_identity::PublicKey::try_decode_protobuf(&forgery.public_key).unwrap();
    assert!(public_key.verify(&message, &forgery.signature), "not an attack");
    refused(forgery.encode(), Fault::Invalid);
}

#[test]
fn a_public_key_of_another_type() {
    let mut forgery = Forgery::saying(&alice());
    forgery.public_key[1] = 0;
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn a_public_key_in_another_form() {
    let mut forgery = Forgery::saying(&alice());
    // The fields in the other order.
    forgery.public_key = [&forgery.public_key[2..], &forgery.public_key[..2]].concat();
    refused(forgery.encode(), Fault::Malformed);
}

#[test]
fn all_types_of_keys_sign() {
    for author in Author::all_types() {
        let record = record_of(&author, "from me", 6);
        assert_eq!(record.author(), author.peer_id());
        accepted(record.encode().to_vec());
    }
}

// --------------------------------------------------------------- replay, rollback

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
    replica.put(&key, old.to_vec());
    assert_eq!(replica.refusals(), [ValidationError::Stale]);
    assert_eq!(stored(&replica, &key), Some(new.clone()));
    // The newer one again is no news, and no refusal.
    replica.put(&key, new.clone());
    assert_eq!(replica.events(), []);
    // And an update goes through.
    let newer = record_of(&alice(), "newer", 6).encode().to_vec();
    replica.put(&key, newer.clone());
    assert_eq!(stored(&replica, &key), Some(newer));
}

#[test]
fn the_same_sequence_twice_has_one_winner() {
    let key = key();
    let (a, b) = (record_of(&alice(), "a", 5), record_of(&alice(), "b", 5));
    let best = std::cmp::max_by_key(&a, &b, |record| record.rank().hash());
    for order in [[&a, &b], [&b, &a]] {
        let mut replica = Replica::with(registry(SignedRecordValidator::default()));
        for record in order {
            replica.put(&key, record.encode().to_vec());
        }
        assert_eq!(stored(&replica, &key).unwrap(), best.encode());
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
        assert_eq!(stored(&replica, &key()).as_ref(), Some(least));
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

// ------------------------------------------------------------------------- times

#[test]
fn an_expired_record() {
    let until = |millis: u64| {
        let content = UnsignedRecord::new(KEY, "mortal", 10).until(at(millis));
        content.sign(&alice().0, &SignedRecordLimits::default()).unwrap().encode().to_vec()
    };
    let rules = SignedRecordValidator::default;
    let reason = refused_by(rules(), until(NOW), Fault::Expired, Seen::ByValidateOnly);
    assert_eq!(reason, ValidationError::Expired { expired_at: at(NOW) });
    refused_by(rules(), until(0), Fault::Expired, Seen::ByValidateOnly);
    accepted(until(NOW + 1));
    assert_eq!(
        rules().validate(&key(), &until(NOW + 1), at(NOW)),
        Ok(Validity::until(at(NOW + 1)))
    );
}

#[test]
fn a_record_ends_when_it_said() {
    let content = UnsignedRecord::new(KEY, "mortal", 10).until(at(NOW + 10));
    let mortal = content.sign(&alice().0, &SignedRecordLimits::default()).unwrap();
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.put(&key(), mortal.encode().to_vec());
    replica.clock.set(NOW + 9);
    assert!(stored(&replica, &key()).is_some());
    replica.clock.set(NOW + 10);
    assert_eq!(stored(&replica, &key()), None);
}

#[test]
fn a_sequence_from_the_future() {
    // Else whoever takes the highest there is has the last word for ever.
    let edge = (NOW + 5 * 60 * 1_000) * 1_000;
    let at_sequence =
        |sequence| Forgery::by(&mallory(), payload(KEY.as_bytes(), b"x", sequence)).encode();
    accepted(at_sequence(edge));
    let rules = SignedRecordValidator::default;
    for sequence in [edge + 1_000, u64::MAX] {
        let value = at_sequence(sequence);
        refused_by(rules(), value, Fault::LimitExceeded, Seen::ByValidateOnly);
    }
    let limits = SignedRecordLimits::default().with_max_clock_skew(Duration::MAX);
    accepted_by(SignedRecordValidator::new(limits, Open), at_sequence(u64::MAX));
}

// ------------------------------------------------------------------- sizes, forms

#[test]
fn a_value_too_large() {
    let of = |len| Forgery::by(&mallory(), payload(KEY.as_bytes(), &vec![b'x'; len], 10)).encode();
    accepted(of(6_144));
    refused(of(6_145), Fault::LimitExceeded);
    let rules = SignedRecordLimits::default().with_value_bytes(6);
    let rules = || SignedRecordValidator::new(rules.clone(), Open);
    accepted_by(rules(), of(6));
    refused_by(rules(), of(7), Fault::LimitExceeded, Seen::BySelect);
    let unsigned = UnsignedRecord::new(KEY, "7 bytes", 1);
    assert!(unsigned.sign(&alice().0, rules().limits()).is_err(), "nobody signs it either");
}

#[test]
fn a_key_too_long() {
    let rules = SignedRecordValidator::default();
    for (len, fits) in [(256, true), (257, false)] {
        let key = RecordKey::new(format!("/notes/{}", "k".repeat(len - 7)));
        let value = Forgery::by(&alice(), payload(key.as_bytes(), b"x", 1)).encode();
        let validity = rules.validate(&key, &value, at(NOW));
        assert_eq!(validity.is_ok(), fits);
        let fault = validity.err().map(|error| error.fault());
        assert_eq!(fault, (!fits).then_some(Fault::LimitExceeded));
        let unsigned = UnsignedRecord::new(key, "x", 1);
        assert_eq!(unsigned.sign(&alice().0, rules.limits()).is_ok(), fits);
    }
}

#[test]
fn a_signature_too_long() {
    for (len, fault) in [(1_024, Fault::Invalid), (1_025, Fault::LimitExceeded)] {
        let forgery = Forgery { signature: vec![1; len], ..Forgery::saying(&alice()) };
        refused(forgery.encode(), fault);
    }
}

#[test]
fn a_public_key_too_long() {
    for (len, fault) in [(1_152, Fault::Malformed), (1_153, Fault::LimitExceeded)] {
        let forgery = Forgery { public_key: vec![1; len], ..Forgery::saying(&alice()) };
        refused(forgery.encode(), fault);
    }
}

#[test]
fn more_bytes_than_any_record_has_are_not_parsed() {
    let max = SignedRecordLimits::default().encoded_bytes();
    refused(vec![0xff; max], Fault::Malformed);
    refused(vec![0xff; max + 1], Fault::LimitExceeded);
}

#[test]
fn the_largest_record_is_below_the_bound_on_its_bytes() {
    // The value, the key, and the author with the longest signature that libp2p signs in tests.
    let limits = SignedRecordLimits::default();
    let key = format!("/notes/{}", "k".repeat(249));
    for author in Author::all_types() {
        let content = UnsignedRecord::new(&*key, vec![1; 6_144], u64::MAX).until(Timestamp::MAX);
        let record = content.sign(&author.0, &limits).unwrap();
        SignedRecord::decode(record.encode(), &limits).unwrap();
    }
}

#[test]
fn a_truncated_record() {
    let whole = Forgery::saying(&mallory()).encode();
    let rules = SignedRecordValidator::default();
    for len in 0..whole.len() {
        let reason = rules.validate(&key(), &whole[..len], at(NOW)).unwrap_err();
        assert!(matches!(reason.fault(), Fault::Malformed | Fault::Invalid), "{len}: {reason}");
    }
    refused(whole[..whole.len() - 1].to_vec(), Fault::Malformed);
    refused(Vec::new(), Fault::Malformed);
}

#[test]
fn extra_fields_in_the_envelope() {
    let mut encoded = Forgery::saying(&mallory()).encode();
    encoded.extend(field(9, b"extra"));
    refused(encoded, Fault::Malformed);
}

#[test]
fn extra_fields_in_the_payload() {
    let payload = [payload(KEY.as_bytes(), b"evil", 10), varint(9, 1)].concat();
    refused(Forgery::by(&mallory(), payload).encode(), Fault::Malformed);
}

#[test]
fn a_field_twice() {
    let payload = [payload(KEY.as_bytes(), b"evil", 10), varint(3, 11)].concat();
    refused(Forgery::by(&mallory(), payload).encode(), Fault::Malformed);
    let forgery = Forgery::saying(&mallory()).encode();
    refused([&forgery[..], &forgery].concat(), Fault::Malformed);
}

#[test]
fn fields_in_another_order() {
    let payload = [field(2, b"evil"), field(1, KEY.as_bytes()), varint(3, 10)].concat();
    refused(Forgery::by(&mallory(), payload).encode(), Fault::Malformed);
    let forgery = Forgery::saying(&mallory());
    let encoded = [
        field(2, &forgery.payload_type),
        field(1, &forgery.public_key),
        field(3, &forgery.payload),
        field(5, &forgery.signature),
    ];
    refused(encoded.concat(), Fault::Malformed);
}

#[test]
fn a_default_value_spelled_out() {
    let payload = [field(1, KEY.as_bytes()), field(2, b"evil"), varint(3, 0)].concat();
    refused(Forgery::by(&mallory(), payload).encode(), Fault::Malformed);
}

#[test]
fn a_number_in_a_longer_form() {
    let mut payload = payload(KEY.as_bytes(), b"evil", 10);
    payload.pop();
    payload.extend([0x8a, 0x00]);
    refused(Forgery::by(&mallory(), payload).encode(), Fault::Malformed);
}

#[test]
fn garbage() {
    refused(b"not a record at all".to_vec(), Fault::Malformed);
}

// ------------------------------------------------------------------- permissions

#[test]
fn an_author_who_is_not_on_the_list() {
    let list: AllowList = [alice().peer_id()].into_iter().collect();
    let rules = || SignedRecordValidator::new(SignedRecordLimits::default(), list.clone());
    refused_by(
        rules(),
        Forgery::saying(&mallory()).encode(),
        Fault::RefusedByPolicy,
        Seen::BySelect,
    );
    accepted_by(rules(), Forgery::saying(&alice()).encode());
}

#[test]
fn a_key_that_belongs_to_another() {
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner);
    let key = RecordKey::new(format!("/notes/{}/a", alice().peer_id()));
    let by = |author: &Author| Forgery::by(author, payload(key.as_bytes(), b"x", 1)).encode();
    assert!(rules.validate(&key, &by(&alice()), at(NOW)).is_ok());
    let reason = rules.validate(&key, &by(&mallory()), at(NOW)).unwrap_err();
    assert_eq!(reason.fault(), Fault::RefusedByPolicy);
}

#[test]
fn the_policy_is_asked_before_the_signature() {
    let list: AllowList = [alice().peer_id()].into_iter().collect();
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), list);
    let unsigned = Forgery { signature: vec![0; 64], ..Forgery::saying(&mallory()) };
    refused_by(rules, unsigned.encode(), Fault::RefusedByPolicy, Seen::BySelect);
}

#[test]
fn an_unregistered_namespace() {
    let registry = registry(SignedRecordValidator::default());
    for key in ["/other/a", "notes", "/notes"] {
        let key = RecordKey::new(key);
        let value = Forgery::by(&alice(), payload(key.as_bytes(), b"x", 1)).encode();
        let reason = registry.validate(&key, &value, at(NOW)).unwrap_err();
        assert_eq!(reason.fault(), Fault::Unsupported);
        assert!(registry.signed_record(&key).is_none());
    }
}

#[test]
fn one_namespace_s_permission_is_not_another_s() {
    let limits = SignedRecordLimits::default;
    let list: AllowList = [mallory().peer_id()].into_iter().collect();
    let registry = Registry::empty()
        .with("notes", SignedRecordValidator::new(limits(), KeyOwner))
        .and_then(|r| r.with("staff", SignedRecordValidator::new(limits(), list)))
        .unwrap();
    let by = |author: &Author, key: &str| {
        let value = Forgery::by(author, payload(key.as_bytes(), b"x", 1)).encode();
        registry.validate(&key.into(), &value, at(NOW)).map_err(|error| error.fault())
    };
    assert!(by(&mallory(), "/staff/a").is_ok());
    assert_eq!(by(&alice(), "/staff/a"), Err(Fault::RefusedByPolicy));
    assert_eq!(by(&mallory(), "/notes/a"), Err(Fault::RefusedByPolicy));
}

// ----------------------------------------------------------------------- content

#[test]
fn content_that_the_user_refuses() {
    let rules = || {
        SignedRecordValidator::default().with_check(|record| match record.value() {
            b"evil" => Err(Malformed::other("evil").into()),
            _ => Ok(()),
        })
    };
    let bad = Forgery::saying(&alice()).encode();
    refused_by(rules(), bad, Fault::Malformed, Seen::ByValidateOnly);
    accepted_by(rules(), record_of(&alice(), "good", 6).encode().to_vec());
}

#[test]
fn content_is_not_looked_at_before_the_signature() {
    let rules = SignedRecordValidator::default()
        .with_check(|record| panic!("shown a record that {} did not sign", record.author()));
    let mut forgery = Forgery::saying(&alice());
    forgery.signature[0] ^= 1;
    assert!(rules.validate(&key(), &forgery.encode(), at(NOW)).is_err());
}

/// Values end with a digit: in how many milliseconds they expire.
struct Mortal;

impl Validator for Mortal {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let left = u64::from(value.last().unwrap() - b'0');
        Ok(Validity::until(at(now.as_millis() + left)))
    }

    fn select(&self, _: &RecordKey, _: &[&[u8]]) -> Result<usize, ValidationError> {
        unreachable!("the sequence decides");
    }
}

#[test]
fn an_inner_validator_judges_the_value_and_may_end_it_sooner() {
    let rules = SignedRecordValidator::default().with_inner(Mortal).with_inner(AcceptAny::up_to(5));
    let validity = |value: &str, until: Option<u64>| {
        let mut content = UnsignedRecord::new(KEY, value.to_owned(), 1);
        content.expires_at = until.map(at);
        let record = content.sign(&alice().0, &SignedRecordLimits::default()).unwrap();
        let validity = rules.validate(&key(), &record.encode(), at(NOW));
        assert_eq!(rules.check(&record, at(NOW)), validity);
        validity.map_err(|error| error.fault())
    };
    assert_eq!(validity("4", None), Ok(Validity::until(at(NOW + 4))));
    assert_eq!(validity("4", Some(NOW + 3)), Ok(Validity::until(at(NOW + 3))));
    assert_eq!(validity("4", Some(NOW + 5)), Ok(Validity::until(at(NOW + 4))));
    assert_eq!(validity("123454", None), Err(Fault::LimitExceeded));
}

// -------------------------------------------------------------------- the record

#[test]
fn a_record_says_what_was_signed() {
    let content = UnsignedRecord::new(KEY, "hello", 7).until(at(NOW));
    let limits = SignedRecordLimits::default();
    let record = content.clone().sign(&alice().0, &limits).unwrap();
    let read = SignedRecord::decode(record.encode(), &limits).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.content(), &content);
    assert_eq!((read.key(), read.value(), read.sequence()), (&key(), &b"hello"[..], 7));
    assert_eq!((read.author(), read.expires_at()), (alice().peer_id(), Some(at(NOW))));
    assert_eq!(read.received_at(), None);
    let received = read.clone().with_received_at(at(1));
    assert_eq!(received.received_at(), Some(at(1)));
    assert_eq!(received, read, "when it came is no part of it");
}

#[test]
fn errors_name_what_is_wrong() {
    let limits = SignedRecordLimits::default();
    let decode = |value: Vec<u8>| SignedRecord::decode(value, &limits).unwrap_err();
    let forgery = Forgery::saying(&alice());
    let with_type = |payload_type| Forgery { payload_type, ..forgery.clone() }.encode();
    assert_eq!(decode(with_type(vec![3, 1])), SignedRecordError::PayloadType);
    let with_signature = |signature| Forgery { signature, ..forgery.clone() }.encode();
    assert!(matches!(decode(with_signature(vec![0; 64])), SignedRecordError::Signature(_)));
    let padded = [forgery.encode(), field(9, b"")].concat();
    assert_eq!(decode(padded), SignedRecordError::NotCanonical);
    assert!(matches!(decode(vec![0xff]), SignedRecordError::Protobuf(_)));
}

#[test]
fn a_local_write_says_why_it_is_refused() {
    let mut replica = Replica::with(registry(SignedRecordValidator::default()));
    replica.store.write(&key(), &honest()).unwrap();
    let old = record_of(&alice(), "old", 4).encode();
    let error = replica.store.write(&key(), &old).unwrap_err();
    assert_eq!(error, WriteError::Refused(ValidationError::Stale));
    let events = replica.events();
    assert!(
        matches!(
            &events[..],
            [
                StoreEvent::Stored { origin: Origin::Local, .. },
                StoreEvent::Refused { reason: ValidationError::Stale, .. }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn nothing_to_select_from() {
    let rules = SignedRecordValidator::default();
    assert_eq!(rules.select(&key(), &[]), Err(ValidationError::NoValue));
    let honest = honest();
    assert_eq!(rules.select(&key(), &[&honest, &honest]), Ok(0), "a tie goes to the first");
}

// -------------------------------------------------------------------------- laws

fn some_record() -> impl Strategy<Value = SignedRecord> {
    (0..3_u64, vec(any::<u8>(), 0..4), 0..4_u64, option::of(any::<u64>())).prop_map(
        |(author, value, sequence, expires_at)| {
            let mut content = UnsignedRecord::new(KEY, value, sequence);
            content.expires_at = expires_at.map(Timestamp::from_millis);
            let author = [Author::ed25519(1), Author::ed25519(2), Author::secp256k1()]
                [author as usize]
                .clone();
            content.sign(&author.0, &SignedRecordLimits::default()).unwrap()
        },
    )
}

/// A record, or something that only looks like one.
fn some_value() -> impl Strategy<Value = Vec<u8>> {
    (some_record(), option::weighted(0.3, any::<prop::sample::Index>())).prop_map(
        |(record, flip)| {
            let mut value = record.encode().to_vec();
            if let Some(flip) = flip {
                let index = flip.index(value.len());
                value[index] ^= 1;
            }
            value
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn encoding_and_decoding_come_back(
        value in vec(any::<u8>(), 0..200),
        path in vec(any::<u8>(), 0..200),
        sequence in any::<u64>(),
        expires_at in option::of(any::<u64>()),
    ) {
        let limits = SignedRecordLimits::default();
        let key = RecordKey::from_parts("notes", path).unwrap();
        let mut content = UnsignedRecord::new(key, value, sequence);
        content.expires_at = expires_at.map(Timestamp::from_millis);
        let record = content.clone().sign(&alice().0, &limits).unwrap();
        let read = SignedRecord::decode(record.encode(), &limits).unwrap();
        prop_assert_eq!(read.content(), &content);
        prop_assert_eq!(read.rank(), record.rank());
        prop_assert_eq!(read, record);
    }

    #[test]
    fn select_does_not_depend_on_the_order(
        (values, shuffled) in vec(some_value(), 1..8)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
    ) {
        let rules = SignedRecordValidator::default();
        let pick = |values: &[Vec<u8>]| {
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let index = rules.select(&key(), &values).ok()?;
            let first = values.iter().position(|value| *value == values[index]);
            assert_eq!(first, Some(index), "a tie goes to the first");
            Some(values[index].to_vec())
        };
        let best = pick(&values);
        prop_assert_eq!(&best, &pick(&shuffled));
        let ranked = values
            .iter()
            .filter_map(|value| {
                SignedRecord::decode(value.clone(), rules.limits()).ok()
            })
            .filter(|record| *record.key() == key())
            .max_by(|a, b| a.rank().cmp(b.rank()));
        prop_assert_eq!(best, ranked.map(|record| record.encode().to_vec()));
    }

    #[test]
    fn the_order_is_total_and_equal_only_for_the_same(a in some_record(), b in some_record()) {
        prop_assert_eq!(a.rank() == b.rank(), a.encode() == b.encode());
        prop_assert_eq!(a.rank().cmp(b.rank()), b.rank().cmp(a.rank()).reverse());
        if a.sequence() != b.sequence() {
            prop_assert_eq!(a.rank().cmp(b.rank()), a.sequence().cmp(&b.sequence()));
        }
    }

    #[test]
    fn replicas_agree_whatever_comes_in_which_order(
        (values, shuffled) in vec(some_value(), 1..6)
            .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle()))
    ) {
        let hear = |values: Vec<Vec<u8>>| {
            let mut replica = Replica::with(registry(SignedRecordValidator::default()));
            for value in values {
                replica.put(&key(), value);
            }
            stored(&replica, &key())
        };
        prop_assert_eq!(hear(values), hear(shuffled));
    }

    #[test]
    fn no_bytes_make_it_panic(value in vec(any::<u8>(), 0..300)) {
        let rules = SignedRecordValidator::default();
        prop_assert!(rules.validate(&key(), &value, at(NOW)).is_err());
    }

    #[test]
    fn no_changed_byte_passes(index in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut value = honest();
        let index = index.index(value.len());
        value[index] ^= by;
        let rules = SignedRecordValidator::default();
        prop_assert!(rules.validate(&key(), &value, at(NOW)).is_err());
    }
}
