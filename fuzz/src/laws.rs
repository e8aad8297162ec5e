//! Laws that hold in every namespace for any bytes.

use libp2p_smart_record::{Fault, Namespace, RecordKey, Timestamp, ValidationError};

/// A namespace, a key and an instant.
#[derive(Clone, Copy)]
pub struct Laws<'a> {
    pub namespace: &'a Namespace,
    pub key: &'a RecordKey,
    pub now: Timestamp,
    /// Whether values combine, instead of one being selected.
    pub combines: bool,
}

impl std::fmt::Debug for Laws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Laws").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Laws<'_> {
    /// Checks all laws for these values.
    pub fn check(&self, values: &[&[u8]]) {
        values.iter().for_each(|value| self.check_one(value));
        self.check_selection(values);
        self.check_join(values);
    }

    /// Checks that every function accepts an accepted value, and the rest of it after collecting.
    fn check_one(&self, value: &[u8]) {
        let Self { key, now, .. } = *self;
        if self.validate(value, now).is_err() {
            return;
        }
        assert_eq!(self.select(&[value, value]), Ok(0));
        let whole = self.consolidate(&[value]).expect("what is valid consolidates");
        assert!(self.combines || whole == value);
        self.check_lifetime(&whole);
        let Namespace::Value(validator) = self.namespace else {
            return;
        };
        assert_eq!(validator.revalidate(key, value, now), Ok(()));
        assert!(validator.contains(key, value, value));
        if let Some(rest) = validator.collect(key, value, now) {
            self.validate(&rest, now).expect("what is left is valid");
            assert_eq!(validator.collect(key, &rest, now), None);
            assert!(validator.contains(key, value, &rest));
        }
    }

    /// When a value expires, if it is valid and states an expiry.
    fn validate(&self, value: &[u8], now: Timestamp) -> Result<Option<Timestamp>, ValidationError> {
        match self.namespace {
            Namespace::Spaces(rules) => {
                rules.validate(self.key, value, now).map(|record| record.retain_until())
            }
            Namespace::Value(validator) => {
                validator.validate(self.key, value, now).map(|validity| validity.expires_at)
            }
        }
    }

    fn select(&self, values: &[&[u8]]) -> Result<usize, ValidationError> {
        match self.namespace {
            Namespace::Spaces(rules) => rules.select(self.key, values),
            Namespace::Value(validator) => validator.select(self.key, values),
        }
    }

    fn consolidate(&self, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        match self.namespace {
            Namespace::Spaces(rules) => rules.consolidate(self.key, values),
            Namespace::Value(validator) => validator.consolidate(self.key, values),
        }
    }

    /// Checks that a consolidated value is valid until it expires.
    fn check_lifetime(&self, value: &[u8]) {
        let validate = |at| self.validate(value, at);
        let expires_at = match validate(self.now) {
            Ok(expires_at) => expires_at,
            // Over a limit, consolidating may have kept expired parts, because it does not know the
            // time.
            Err(error) => {
                return assert!(self.combines && error.fault() == Fault::Expired, "{error}");
            }
        };
        if let Some(at) = expires_at {
            assert!(at > self.now, "valid at {}, and expired at {at}", self.now);
            let before = Timestamp::from_millis(at.as_millis() - 1);
            assert!(validate(before).is_ok(), "invalid before {at}");
            assert_eq!(validate(at).map_err(|error| error.fault()), Err(Fault::Expired), "at {at}");
        }
    }

    /// Checks that no value is better than the selected one, and that it is the first of equal
    /// ones.
    fn check_selection(&self, values: &[&[u8]]) {
        let select = |values: &[&[u8]]| self.select(values);
        let Ok(best) = select(values) else {
            assert!(values.iter().all(|value| select(&[value]).is_err()));
            return;
        };
        let winner = values[best];
        for (at, value) in values.iter().enumerate() {
            assert_eq!(select(&[winner, value]), Ok(0));
            assert!(at >= best || select(&[value, winner]) == Ok(1));
        }
        let reversed: Vec<&[u8]> = values.iter().rev().copied().collect();
        let other = reversed[select(&reversed).expect("there is one that is good")];
        assert_eq!(select(&[other, winner]), Ok(0));
    }

    /// Checks that joining again adds nothing, and that the order does not matter where values
    /// combine.
    fn check_join(&self, values: &[&[u8]]) {
        let join = |values: &[&[u8]]| self.consolidate(values);
        let Ok(whole) = join(values) else {
            assert!(values.iter().all(|value| join(&[value]).is_err()));
            return;
        };
        let same = Ok(whole.clone());
        assert_eq!(join(&[&whole]), same);
        for value in values {
            assert_eq!(join(&[&whole, value]), same);
            assert!(!self.combines || join(&[value, &whole]) == same);
            // A contained value adds nothing. Where one value is selected, it may take the place of
            // one that it contains as well: both say the same, and other fields decide.
            let says_the_same = |other| !self.combines && self.contains(other, value);
            let adds = |other| join(&[value, other]) != join(&[value]) && !says_the_same(other);
            let mut contained = values.iter().filter(|other| self.contains(value, other));
            assert!(!contained.any(|other| adds(other)));
        }
        if self.combines {
            let reversed: Vec<&[u8]> = values.iter().rev().copied().collect();
            assert_eq!(join(&reversed), same);
        }
    }

    /// Whether both are valid and `whole` contains `part`.
    fn contains(&self, whole: &[u8], part: &[u8]) -> bool {
        let is_valid = |value| self.validate(value, self.now).is_ok();
        match self.namespace {
            Namespace::Spaces(_) => false,
            Namespace::Value(validator) => {
                is_valid(whole) && is_valid(part) && validator.contains(self.key, whole, part)
            }
        }
    }
}
