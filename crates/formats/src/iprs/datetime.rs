//! Signed, valid within a datetime range.
//!
//! `validity` is `{notBefore?: ms, notAfter?: ms}`, Unix milliseconds. An absent bound means that
//! the range is unbounded on that side.
//!
//! **Invariants.** A record is valid while `notBefore <= now < notAfter`, for the bounds that are
//! present. The order is that of the spec's example: by version, then by `notAfter`, unbounded
//! last; then by `notBefore`, then by CID. So to replace an old record, an author raises the
//! version or sets a later `notAfter`. If the new record has a higher version but expires earlier,
//! the old one can be replayed after the new one has expired.
//!
//! Trust is in the author's key, and time is that of the clocks of author and reader. There is no
//! tolerance for clock skew, so an author should allow for it.
//!
//! **Spec.** IPRS, "Signed, valid within a datetime range".

use ipld_core::ipld::Ipld;

use super::{Description, IprsError, IprsRecord, Record, Scheme, scheme::claims};
use smart_record_core::{Limit, LimitExceeded, Timestamp, ValidationError, Validity};

/// The scheme of records that are valid within a datetime range.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatetimeRange;

const NOT_BEFORE: &str = "notBefore";
const NOT_AFTER: &str = "notAfter";

impl DatetimeRange {
    /// Limit of the milliseconds until a record is valid. It is not [`Limit::CLOCK_SKEW`], because
    /// a record that is not valid yet does not mean that a clock is wrong.
    pub const NOT_YET_VALID: Limit = Limit::new("the time until the record is valid", "ms");

    /// Creates a record that is valid from `not_before` ([`Timestamp::EPOCH`]: unbounded) until
    /// just before `not_after` ([`Timestamp::MAX`]: unbounded).
    ///
    /// # Errors
    /// [`IprsError::Contradiction`] if the range is empty.
    pub fn record(
        value: impl Into<Ipld>,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Record, IprsError> {
        let range = Range { not_before, not_after };
        range.check()?;
        let bounds =
            [(NOT_BEFORE, not_before, Timestamp::EPOCH), (NOT_AFTER, not_after, Timestamp::MAX)];
        let bounded = bounds.into_iter().filter(|(_, at, unbounded)| at != unbounded);
        let fields =
            bounded.map(|(name, at, _)| (name.to_owned(), Ipld::Integer(at.as_millis().into())));
        Ok(Record::new(Self.description().cid(), value, Ipld::Map(fields.collect())))
    }
}

#[derive(Clone, Copy)]
struct Range {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Range {
    fn read(record: &Record) -> Result<Self, IprsError> {
        let (not_before, not_after) = claims(record, |fields| {
            Ok((fields.optional_integer(NOT_BEFORE)?, fields.optional_integer(NOT_AFTER)?))
        })?;
        if not_before == Some(0) || not_after == Some(u64::MAX) {
            // An unbounded side has one form: the absent field.
            return Err(IprsError::NotCanonical);
        }
        let range = Self {
            not_before: Timestamp::from_millis(not_before.unwrap_or(0)),
            not_after: not_after.map_or(Timestamp::MAX, Timestamp::from_millis),
        };
        range.check()?;
        Ok(range)
    }

    fn check(self) -> Result<(), IprsError> {
        if self.not_before < self.not_after {
            return Ok(());
        }
        Err(IprsError::Contradiction("the range is empty"))
    }
}

impl Scheme for DatetimeRange {
    fn description(&self) -> Description {
        Description::new("datetime-range")
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        let range = Range::read(record)?;
        Ok(vec![range.not_after.as_millis(), range.not_before.as_millis()])
    }

    fn validate(&self, record: &IprsRecord, now: Timestamp) -> Result<Validity, ValidationError> {
        let range = Range::read(record.record())?;
        if now < range.not_before {
            return Err(ValidationError::LimitExceeded(LimitExceeded {
                limit: Self::NOT_YET_VALID,
                got: Some(range.not_before.as_millis().saturating_sub(now.as_millis())),
                max: 0,
            }));
        }
        if range.not_after != Timestamp::MAX && range.not_after <= now {
            return Err(ValidationError::Expired { expired_at: range.not_after });
        }
        Ok(match range.not_after {
            Timestamp::MAX => Validity::forever(),
            not_after => Validity::until(not_after),
        })
    }
}
