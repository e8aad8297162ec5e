//! Selection.

use super::*;

use prost::Message;

#[test]
fn one_of_equal_records_is_the_first() {
    let owner = ed25519(1);
    let value = v1_and_v2(&owner).encode_to_vec();
    assert_eq!(IpnsValidator.select(&key(&owner), &[&value, &value, &value]), Ok(0));
    assert_eq!(IpnsValidator.select(&key(&owner), &[]), Err(ValidationError::NoValue));
}

#[test]
fn a_forged_record_of_a_higher_sequence_is_passed_over() {
    let (owner, stranger) = (ed25519(1), ed25519(66));
    let good = numbered(&owner, 7, "2023-11-15T22:13:20Z");
    let forged = numbered(&stranger, u64::MAX, "2099-01-01T00:00:00Z");
    assert_eq!(IpnsValidator.select(&key(&owner), &[&forged, &good]), Ok(1));
    assert_eq!(IpnsValidator.consolidate(&key(&owner), &[&forged, &good, b"x"]), Ok(good));
}

#[test]
fn an_expired_record_still_shows_that_a_lower_one_is_old() {
    let owner = ed25519(1);
    let expired = numbered(&owner, 9, "2023-11-14T00:00:00Z");
    let older = numbered(&owner, 8, "2023-11-15T22:13:20Z");
    assert_eq!(IpnsValidator.select(&key(&owner), &[&older, &expired]), Ok(1));
}
