//! Expired records, the last valid instant, dates in many forms.

use libp2p_smart_record::{
    Fault, ValidationError, Validator,
    ipns::{Eol, IpnsError, IpnsRecord, IpnsValidator},
};
use prost::Message;

use super::*;

fn until(validity: &[u8]) -> Vec<u8> {
    let data = fields().with("Validity", cbor::bytes(validity)).encode();
    v2(&ed25519(1), data).encode_to_vec()
}

#[test]
fn an_expired_record() {
    let owner = ed25519(1);
    for eol in [
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:19.999999999Z",
        "2000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ] {
        let value = until(eol.as_bytes());
        let key = key(&owner);
        let record = IpnsRecord::decode(&name(&owner), value.clone()).unwrap();
        let expired = IpnsError::Expired { eol: eol.parse().unwrap() };
        assert_eq!(record.check_expiry(at(NOW)), Err(expired));
        let expired_at = record.eol().expires_at();
        let error = ValidationError::Expired { expired_at };
        assert_eq!(IpnsValidator.validate(&key, &value, at(NOW)), Err(error));
        let mut node = node();
        assert_eq!(node.faults(&key, &value), [Fault::Expired]);
        assert_eq!(node.get(&key), None);
    }
}

#[test]
fn the_last_instant() {
    let owner = ed25519(1);
    let key = key(&owner);
    for (eol, last_millis) in [
        ("2023-11-14T22:13:21Z", NOW + 999),
        // A nanosecond past the millisecond, so the record is valid for this millisecond.
        ("2023-11-14T22:13:21.000000001Z", NOW + 1_000),
        ("2023-11-14T22:13:20.999999999Z", NOW + 999),
        ("2023-11-14T22:13:20.999000000Z", NOW + 998),
    ] {
        let value = until(eol.as_bytes());
        let valid_at = |millis| IpnsValidator.validate(&key, &value, at(millis)).is_ok();
        assert!(valid_at(last_millis), "{eol}");
        assert!(!valid_at(last_millis + 1), "{eol}");

        let mut node = node();
        node.clock.set(at(last_millis));
        assert_eq!(node.faults(&key, &value), []);
        assert_eq!(node.get(&key).as_ref(), Some(&value));
        node.clock.set(at(last_millis + 1));
        assert_eq!(node.get(&key), None);
        assert_eq!(node.faults(&key, &value), [Fault::Expired]);
    }
}

#[test]
fn a_distant_end() {
    // Any EOL is accepted, although nodes keep records for 48 hours.
    for (eol, millis) in [
        ("2123-11-14T22:13:20Z", 4_855_673_600_000),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_800_000),
    ] {
        let record = accepted(&ed25519(1), &until(eol.as_bytes()));
        assert_eq!(record.eol().expires_at(), at(millis));
    }
}

#[test]
fn dates_as_they_are_written() {
    for (written, same) in [
        // Go drops trailing zeros, JavaScript does not.
        ("2023-11-15T22:13:20.5Z", "2023-11-15T22:13:20.500000000Z"),
        ("2023-11-15T22:13:20.000000001Z", "2023-11-15T22:13:20.000000001Z"),
        ("2023-11-15T22:13:20.000Z", "2023-11-15T22:13:20Z"),
        // Other forms that RFC 3339 allows.
        ("2023-11-16T00:13:20+02:00", "2023-11-15T22:13:20Z"),
        ("2023-11-15T19:43:20.25-02:30", "2023-11-15T22:13:20.25Z"),
        ("2023-11-15T22:13:20-00:00", "2023-11-15T22:13:20Z"),
        ("2023-11-15T22:13:20.1234567891Z", "2023-11-15T22:13:20.123456789Z"),
    ] {
        let record = accepted(&ed25519(1), &until(written.as_bytes()));
        assert_eq!(Ok(record.eol()), same.parse::<Eol>());
    }
}

#[test]
fn what_is_not_a_date() {
    for validity in [
        &b""[..],
        b"soon",
        b"1700086400",
        b"2023-11-15",
        b"2023-11-15T22:13:20",
        b"2023-11-15 22:13:20Z",
        b"2023-11-15T22:13:20,5Z",
        b"2023-11-31T22:13:20Z",
        b"2023-11-15T25:13:20Z",
        b"12023-11-15T22:13:20Z",
        b"10000-01-01T00:00:00Z",
        b"9999-12-31T23:59:59-01:00",
        b"2023-11-15T22:13:20Z\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let value = until(validity);
        refused(&ed25519(1), &value, Fault::Malformed);
        let error = IpnsRecord::decode(&name(&ed25519(1)), value).unwrap_err();
        assert!(matches!(error, IpnsError::Eol(_)), "{error:?}");
    }
}
