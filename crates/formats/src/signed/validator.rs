//! The validator of signed records. It checks the envelope, the writer and the content.
//!
//! **Invariants.** Cheap checks come first: size, form, key, policy, times, then the signature,
//! then the content. `select` takes the highest [`Rank`](crate::signed::Rank), so replicas agree. A
//! store that has a record refuses those of a lower rank as stale.
//!
//! **Spec.** `proto/signed_record.proto`; the order of checks is that of the libp2p record module:
//! form, signature, content.

use std::{cmp::Reverse, sync::Arc};

use bytes::Bytes;

use crate::signed::{SignedRecord, SignedRecordLimits, UnverifiedSignedRecord};
use smart_record_core::{
    Admission, Malformed, NamespaceItem, Open, RecordKey, Timestamp, ValidationError, Validator,
    Validity, Writer,
};

type Check = dyn Fn(&SignedRecord, Timestamp) -> Result<Validity, ValidationError> + Send + Sync;

/// Validator of the signed records of a namespace: its limits, its writers and its content checks.
///
/// ```
/// use smart_record_core::{KeyOwner, Malformed, Registry};
/// use smart_record_formats::signed::{SignedRecordLimits, SignedRecordValidator};
///
/// // `/notes/<peer id>/…` is text of that peer.
/// let notes = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner)
///     .with_check(|record| match std::str::from_utf8(record.value()) {
///         Ok(_) => Ok(()),
///         Err(error) => Err(Malformed::other(error).into()),
///     });
/// let registry = Registry::default().with("notes", notes)?;
/// # let _ = registry;
/// # Ok::<(), smart_record_core::NamespaceError>(())
/// ```
#[derive(Clone)]
pub struct SignedRecordValidator {
    limits: SignedRecordLimits,
    admission: Arc<dyn Admission>,
    checks: Vec<Arc<Check>>,
}

impl Default for SignedRecordValidator {
    /// Uses the default limits and admits every writer and every value. The last writer wins.
    fn default() -> Self {
        Self::new(SignedRecordLimits::default(), Open)
    }
}

impl SignedRecordValidator {
    /// Creates a validator with these limits and this policy that admits every value.
    pub fn new(limits: SignedRecordLimits, admission: impl Admission) -> Self {
        Self { limits, admission: Arc::new(admission), checks: Vec::new() }
    }

    /// Adds a check of the content. It sees the whole record: its value, author and sequence. Its
    /// result must depend on the record only, or replicas do not agree.
    #[must_use]
    pub fn with_check(
        mut self,
        check: impl Fn(&SignedRecord) -> Result<(), ValidationError> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Arc::new(move |record, _| check(record).map(|()| Validity::forever())));
        self
    }

    /// Adds a validator of the values that the records contain. A record expires no later than the
    /// validator says of its value. Only its `validate` is used, for stored records too.
    #[must_use]
    pub fn with_inner(mut self, inner: impl Validator + 'static) -> Self {
        self.checks
            .push(Arc::new(move |record, now| inner.validate(record.key(), record.value(), now)));
        self
    }

    /// The limits.
    pub const fn limits(&self) -> &SignedRecordLimits {
        &self.limits
    }

    /// Decodes the record in a value, if a replica would admit it under `key` at `now`.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<SignedRecord, ValidationError> {
        self.admit(key, value, now).map(|(record, _)| record)
    }

    /// As [`read`](Self::read). Returns also the validity, for a store.
    pub fn admit(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(SignedRecord, Validity), ValidationError> {
        let unverified = self.open(key, value)?;
        self.check_times(unverified.claim(), now)?;
        let record = unverified.verify()?;
        let validity = self.check_content(&record, now)?;
        Ok((record, validity))
    }

    /// Checks that a replica would admit a record under its own key at `now`. It does not check the
    /// signature again: that of a [`SignedRecord`] is good.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn check(
        &self,
        record: &SignedRecord,
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.check_writer(record.key(), record.public_key(), record.value().len())?;
        self.check_times(record, now)?;
        self.check_content(record, now)
    }

    /// Checks what does not need a record: the sizes and the policy.
    pub fn check_writer(
        &self,
        key: &RecordKey,
        writer: &Writer,
        value_bytes: usize,
    ) -> Result<(), ValidationError> {
        self.limits.check_parts(key, value_bytes)?;
        Ok(self.admission.admit(key, writer)?)
    }

    /// Decodes the record in a value and checks everything except time, signature and content.
    fn open(
        &self,
        key: &RecordKey,
        value: &[u8],
    ) -> Result<UnverifiedSignedRecord, ValidationError> {
        if value.is_empty() {
            return Err(Malformed::Empty.into());
        }
        let unverified =
            UnverifiedSignedRecord::decode(Bytes::copy_from_slice(value), &self.limits)?;
        let claim = unverified.claim();
        if claim.key() != key {
            return Err(ValidationError::Invalid(format!("a record of {}", claim.key())));
        }
        self.admission.admit(key, claim.public_key())?;
        Ok(unverified)
    }

    fn check_times(&self, record: &SignedRecord, now: Timestamp) -> Result<(), ValidationError> {
        self.limits.check_lead(record.sequence(), now)?;
        match record.expires_at().filter(|at| *at <= now) {
            Some(expired_at) => Err(ValidationError::Expired { expired_at }),
            None => Ok(()),
        }
    }

    fn check_content(
        &self,
        record: &SignedRecord,
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let mut expires_at = record.expires_at();
        let mut ttl = None;
        for check in &self.checks {
            let content = check(record, now)?;
            expires_at = expires_at.into_iter().chain(content.expires_at).min();
            ttl = ttl.into_iter().chain(content.ttl_since_receipt).min();
        }
        let mut validity = expires_at.map_or(Validity::forever(), Validity::until);
        if ttl.is_some() {
            validity.ttl_since_receipt = ttl;
            validity.identity = Some(record.rank().hash());
        }
        Ok(validity)
    }
}

impl NamespaceItem for SignedRecordValidator {}

impl Validator for SignedRecordValidator {
    /// Accepts any key that is not too long and that the policy has a writer for.
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        self.limits.check_parts(key, 0)?;
        Ok(self.admission.check_key(key)?)
    }

    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.admit(key, value, now).map(|(_, validity)| validity)
    }

    /// Selects the record of the highest [`Rank`](crate::signed::Rank). Values that are not records
    /// of this key by an admitted writer are skipped. Time and content are not checked:
    /// [`validate`](Validator::validate) does that.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        let mut first_error = None;
        let mut claims = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match self.open(key, value) {
                Ok(unverified) => claims.push((index, unverified)),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        // Best first, the lowest index first among equals. The first with a good signature is the
        // answer, so usually only one signature is verified.
        claims.sort_by_cached_key(|(index, claim)| (Reverse(claim.claim().rank().clone()), *index));
        for (index, claim) in claims {
            match claim.verify() {
                Ok(_) => return Ok(index),
                Err(error) => {
                    first_error.get_or_insert(error.into());
                }
            }
        }
        Err(first_error.unwrap_or(ValidationError::NoValue))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    /// Whether both values are the same record, with the same signature or with another one.
    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        let content = |value| self.open(key, value).map(|r| r.claim().rank().of_content()).ok();
        content(whole).is_some_and(|whole| content(part) == Some(whole))
    }
}

smart_record_core::impl_debug! {
    SignedRecordValidator: |rules| limits: rules.limits, admission: rules.admission, checks: rules.checks.len()
}
