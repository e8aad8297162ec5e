//! The content.

use super::*;

#[test]
fn content_is_not_looked_at_before_the_signature() {
    let rules = SignedRecordValidator::default()
        .with_check(|record| panic!("shown a record that {} did not sign", record.author()));
    let mut forgery = Forgery::saying(&alice());
    forgery.signature[0] ^= 1;
    assert!(rules.validate(&key(), &forgery.encode(), at(NOW)).is_err());
}

/// Values end with a digit: the number of milliseconds after which they expire.
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

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
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
