//! Both sides of each size limit, and encodings that are not canonical.

use super::*;

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
