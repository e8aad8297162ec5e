//! The validator of the namespace `ipns`.
//!
//! **Invariants.** Selection depends on no clock and not on the order of the values.
//!
//! **Spec.**
//! [IPNS record and protocol](https://specs.ipfs.tech/ipns/ipns-record/#record-verification). The
//! order is that of [boxo](https://github.com/ipfs/boxo/blob/main/ipns/validation.go).

use std::cmp::Reverse;

use bytes::Bytes;
use prost::Message;

use crate::{
    ipns::{IpnsError, IpnsName, IpnsRecord, data::Data},
    proto::ipns as proto,
};
use smart_record_core::{
    Malformed, OrderKey, RecordKey, Timestamp, ValidationError, Validator, Validity, best_of,
};

/// Validates IPNS records under `/ipns/<peer id>`.
///
/// A record is valid until its EOL. The best record has the highest sequence number, then the
/// latest EOL, then the greatest bytes. That is the order of boxo, so the nodes of an IPFS-style
/// DHT agree on it. The JavaScript implementation has no rule for the last case.
///
/// Only the data of a record is signed, so anybody can change what is around it. Records of the
/// same data are the same record: each [contains](Validator::contains) the other. Which of them is
/// kept is decided by the fields of the specification, in their order. Of records that have these
/// in common, the one with nothing else is best. So unknown fields never replace a record.
///
/// Like any resolver, it cannot tell whether a newer record is withheld. A reader that has seen a
/// record should not accept one with a lower [`IpnsRecord::sequence`] later.
#[derive(Clone, Copy, Debug, Default)]
pub struct IpnsValidator;

impl IpnsValidator {
    /// Decodes the record in a value, if a replica would admit it under `key` at `now`.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<IpnsRecord, ValidationError> {
        let record = self.decode(key, value)?;
        record.check_expiry(now)?;
        Ok(record)
    }

    /// Decodes the record in a value and checks everything except expiry.
    ///
    /// # Errors
    /// [`ValidationError`] if the key does not belong to a name, or the value is not a record of
    /// that name.
    pub fn decode(&self, key: &RecordKey, value: &[u8]) -> Result<IpnsRecord, ValidationError> {
        Ok(IpnsRecord::decode(&name_of(key)?, Bytes::copy_from_slice(value))?)
    }
}

fn name_of(key: &RecordKey) -> Result<IpnsName, ValidationError> {
    Ok(IpnsName::try_from(key).map_err(Malformed::other)?)
}

impl Validator for IpnsValidator {
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        name_of(key).map(drop)
    }

    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        Ok(Validity::until(self.read(key, value, now)?.eol().expires_at()))
    }

    /// Selects the best record. Values that are not records of the name are skipped.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_of(values, |value| {
            let record = self.decode(key, value)?;
            let fields = record.entry.encode_to_vec();
            Ok((record.sequence(), record.eol(), fields, Reverse((value.len(), value))))
        })
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    /// Sequence and EOL, which decide before the bytes do.
    fn order_key(&self, _: &RecordKey, value: &[u8]) -> Option<OrderKey> {
        let data = Data::decode(&proto::IpnsEntry::decode(value).ok()?.data?).ok()?;
        // The sign bit is inverted, so that the order of the bytes is that of the numbers.
        let eol = data.eol.unix_nanos() ^ i128::MIN;
        OrderKey::new(&[&data.sequence.to_be_bytes()[..], &eol.to_be_bytes()].concat()).ok()
    }

    /// Whether the two values have the same signed data.
    fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        let data = |value| proto::IpnsEntry::decode(value).ok()?.data;
        data(whole).is_some_and(|whole| data(part) == Some(whole))
    }
}

impl From<IpnsError> for ValidationError {
    fn from(error: IpnsError) -> Self {
        match error {
            IpnsError::Limit(limit) => limit.into(),
            IpnsError::PublicKey(error) => error.into(),
            IpnsError::Expired { eol } => Self::Expired { expired_at: eol.expires_at() },
            IpnsError::ValidityType(_) => Self::Unsupported(error.to_string()),
            IpnsError::NoSignature
            | IpnsError::KeyMismatch { .. }
            | IpnsError::Signature(_)
            | IpnsError::Disagreement { .. } => Self::Invalid(error.to_string()),
            error => Malformed::other(error).into(),
        }
    }
}
