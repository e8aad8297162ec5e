//! The accessors of a record, and its errors.

use super::*;

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
fn nothing_to_select_from() {
    let rules = SignedRecordValidator::default();
    assert_eq!(rules.select(&key(), &[]), Err(ValidationError::NoValue));
    let honest = honest();
    assert_eq!(rules.select(&key(), &[&honest, &honest]), Ok(0), "a tie goes to the first");
}
