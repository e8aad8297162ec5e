//! The validator of presence records.
//!
//! **Invariants.** A valid value is canonical, all its entries have the required signatures, none
//! is from the future, and at least one is still retained; the others may be past `retain_until`.
//! Only `validate`, `read` and `collect` use the time.
//!
//! **Spec.** `docs/design.md`, section "Validators"; [`crate::presence`].

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::presence::{
    self, PresenceEntry, PresenceError, PresenceKey, PresenceLimits, PresenceRecord,
};
use smart_record_core::{
    Limit, Malformed, RecordKey, Timestamp, ValidationError, Validator, Validity, WriterError,
    best_of,
};

/// Validator of presence records, for the namespace `presence` or any other that a user chooses.
///
/// ```
/// use smart_record_formats::presence::{PresenceKey, PresenceValidator};
/// use smart_record_core::Registry;
///
/// let registry = Registry::default().with(PresenceKey::NAMESPACE, PresenceValidator::default())?;
/// # let _ = registry;
/// # Ok::<(), smart_record_core::NamespaceError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PresenceValidator {
    limits: PresenceLimits,
}

impl PresenceValidator {
    /// Creates a validator with these limits.
    pub const fn new(limits: PresenceLimits) -> Self {
        Self { limits }
    }

    /// The limits.
    pub const fn limits(&self) -> &PresenceLimits {
        &self.limits
    }

    /// Reads the entries that a replica would admit at `now`. It leaves out those that are forged,
    /// expired, from the future or over a limit. Use it for the values that the network returns;
    /// join the results with [`PresenceRecord::join`], and read them with [`PresenceRecord::view`].
    ///
    /// # Errors
    /// [`ValidationError`] if no entry is left: the first reason.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<PresenceRecord, ValidationError> {
        let key = self.parse(key)?;
        Ok(PresenceRecord::salvage(&key, [value], Some(now), &self.limits)?)
    }

    fn parse(&self, key: &RecordKey) -> Result<PresenceKey, ValidationError> {
        Limit::KEY_BYTES.check(key.as_bytes().len(), self.limits.key_bytes())?;
        Ok(PresenceKey::parse(key).map_err(PresenceError::from)?)
    }

    fn decode(&self, key: &PresenceKey, value: &[u8]) -> Result<PresenceRecord, PresenceError> {
        PresenceRecord::decode(key, Bytes::copy_from_slice(value), &self.limits)
    }
}

impl Validator for PresenceValidator {
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        self.parse(key).map(drop)
    }

    /// Checks that every entry is good. Entries past `retain_until` are accepted beside others.
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let record = self.decode(&self.parse(key)?, value)?;
        Ok(Validity::bounded_until(record.check_time(now, &self.limits)?))
    }

    /// Selects a record for callers that do not consolidate: the one with the newest entry, then
    /// with the most entries, then with the greatest hash of the bytes. A value that is not a
    /// presence record is never selected.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        let key = self.parse(key)?;
        best_of(values, |value| {
            let record = self.decode(&key, value)?;
            let newest = record.entries().map(PresenceEntry::created_at).max();
            let hash: [u8; 32] = Sha256::digest(value).into();
            Ok((newest, record.entries().len(), hash))
        })
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    fn signature_work(&self, key: &RecordKey, value: &[u8]) -> Duration {
        self.parse(key).map_or(Duration::ZERO, |key| {
            PresenceRecord::signature_work(&key, Bytes::copy_from_slice(value), &self.limits)
        })
    }

    /// Joins the good entries of these values, in canonical form. Bad entries are left out. It is
    /// an error if no entry is good.
    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        if values.is_empty() {
            return Err(ValidationError::NoValue);
        }
        let key = self.parse(key)?;
        let values = values.iter().copied();
        Ok(PresenceRecord::salvage(&key, values, None, &self.limits)?.encode())
    }

    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        self.parse(key).is_ok_and(|key| {
            presence::contains(&key, whole, part, &self.limits).unwrap_or_default()
        })
    }

    fn collect(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        presence::collect(&self.parse(key).ok()?, value, now, &self.limits)
    }
}

impl From<PresenceError> for ValidationError {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::Limit(limit) => limit.into(),
            PresenceError::Expired { expired_at } => Self::Expired { expired_at },
            PresenceError::Identity { error: WriterError::Limit(limit), .. } => limit.into(),
            PresenceError::UnknownKind(_)
            | PresenceError::Identity { error: WriterError::Unsupported(_), .. } => {
                Self::Unsupported(error.to_string())
            }
            PresenceError::Signature { .. }
            | PresenceError::MissingSignature { .. }
            | PresenceError::OtherParty { .. }
            | PresenceError::SameParty => Self::Invalid(error.to_string()),
            error => Malformed::other(error).into(),
        }
    }
}
