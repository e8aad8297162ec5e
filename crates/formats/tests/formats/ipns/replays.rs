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

/// Not all fields are signed: records of the same data contain each other, and one of them is
/// selected all the same.
#[test]
fn of_records_of_the_same_data_the_same_one_is_kept_whatever_the_order() {
    let owner = ed25519(1);
    let whole = v1_and_v2(&owner);
    let mut changed = whole.clone();
    changed.signature_v1 = Some(vec![0xff; 64].into());
    let (whole, changed) = (whole.encode_to_vec(), changed.encode_to_vec());
    let key = key(&owner);
    for (a, b) in [(&whole, &changed), (&changed, &whole)] {
        assert!(IpnsValidator.contains(&key, a, b));
        assert_eq!(IpnsValidator.consolidate(&key, &[a, b]), Ok(changed.clone()));
    }
}
