//! One validator for several users: a store and a record manager, say.

use std::sync::Arc;

use super::{ValidationError, Validator, Validity};
use crate::{key::RecordKey, time::Timestamp};

impl<V: Validator + ?Sized> Validator for Arc<V> {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        (**self).validate(key, value, now)
    }

    fn revalidate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        (**self).revalidate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        (**self).select(key, values)
    }

    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        (**self).consolidate(key, values)
    }

    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        (**self).contains(key, whole, part)
    }

    fn collect(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        (**self).collect(key, value, now)
    }
}
