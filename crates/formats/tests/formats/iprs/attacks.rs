//! Times and damaged records.

use super::*;

fn hello() -> IprsRecord {
    sign(SequenceNumber::record("hello", 7))
}

#[test]
fn no_changed_bit_is_accepted() {
    let record = hello();
    for i in 0..record.as_bytes().len() * 8 {
        let mut value = record.as_bytes().to_vec();
        value[i / 8] ^= 1 << (i % 8);
        assert!(validator().validate(&key(), &value, at(NOW)).is_err(), "bit {i}");
        // It is never the best.
        let values = [&value[..], record.as_bytes()];
        assert_eq!(validator().select(&key(), &values), Ok(1), "bit {i}");
    }
}

#[test]
fn the_beginning_and_the_end_of_time_are_no_bounds() {
    let record = sign(DatetimeRange::record("x", at(0), at(u64::MAX)).unwrap());
    assert_eq!(record.record().validity, map([]));
    for now in [0, NOW, u64::MAX] {
        let validity = validator().validate(&key(), record.as_bytes(), at(now)).unwrap();
        assert_eq!(validity.expires_at, None);
    }
}

#[test]
fn the_order_does_not_ask_whether_a_record_has_expired() {
    // Otherwise the best record would change over time, at a different moment for each reader.
    let expired = sign(DatetimeRange::record("x", at(0), at(1)).unwrap().with_version(1));
    let good = sign(DatetimeRange::record("x", at(0), at(u64::MAX)).unwrap());
    assert_eq!(validator().select(&key(), &[good.as_bytes(), expired.as_bytes()]), Ok(1));
    // Within a version, the record that lives longer is the better.
    let longer = sign(DatetimeRange::record("x", at(0), at(2)).unwrap().with_version(1));
    assert_eq!(validator().select(&key(), &[longer.as_bytes(), expired.as_bytes()]), Ok(0));
}
