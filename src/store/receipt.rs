//! Values whose time runs since they were first received.
//!
//! **Invariants.** A replica keeps such a value until its TTL has passed since the replica first
//! received it, or until the lifetime that was sent with it has passed, whichever is earlier.
//! Receiving it again in that time changes nothing. A value that was first sent with a short
//! lifetime may come back, but it ends at the same time as it would have with a long one, so nobody
//! can suppress a value by sending it with a short lifetime. An expired value is remembered in its
//! row for [`receipt_memory`](super::StoreConfig::receipt_memory) since it was received, or for its
//! TTL if that is longer (30 days at most). Until then, neither it nor a worse value is stored.
//!
//! A value that replaces a remembered one is better, and its row is kept at least as long as that
//! of the replaced one. So one row is enough to remember all values that were ever in it: any of
//! them, received again, is worse than the stored one and stale.
//!
//! **Spec.** IPRS, "Signed, expiring after a Time-To-Live".

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Origin, source::Arrival};
use crate::proto::storage::{Receipt, Value};
use smart_record_core::{RecordKey, Timestamp, ValidationError, Validator, Validity};

/// A stored value that is not a smart record.
pub(super) struct Kept {
    pub(super) key: Bytes,
    pub(super) stored: Value,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) arrival: Arrival,
}

impl Kept {
    pub(super) fn lives_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether receiving this value again changes nothing: the stored one has not expired, is
    /// equal, and its signed expiry decides.
    pub(super) fn is_same(&self, value: &[u8], origin: Origin, now: Timestamp) -> bool {
        self.lives_at(now)
            && self.stored.value == value
            && self.stored.expiry_is_signed
            && self.stored.receipt.is_none()
            && self.stored.publisher.is_empty()
            && (self.stored.is_local || origin != Origin::Local)
    }

    /// Until when the row is kept for the values that are or were in it.
    pub(super) fn remember_until(&self) -> Option<Timestamp> {
        self.stored.remember_until.map(Timestamp::from_millis)
    }

    /// Whether it has expired and is only remembered.
    pub(super) fn is_remembered_at(&self, now: Timestamp) -> bool {
        !self.lives_at(now) && self.remember_until().is_some_and(|at| at > now)
    }

    /// When the value was first received, if it has this identity.
    pub(super) fn first_seen_at(&self, identity: &[u8; 32]) -> Option<Timestamp> {
        let receipt = self.stored.receipt.as_ref()?;
        let is_same = receipt.identity == identity[..];
        is_same.then_some(Timestamp::from_millis(receipt.first_seen_at))
    }

    /// Checks whether a value may be stored although this one has expired and is remembered.
    pub(super) fn admits(
        &self,
        validator: &dyn Validator,
        key: &RecordKey,
        value: &[u8],
        validity: Validity,
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        if let Some(ttl) = validity.ttl_since_receipt
            && let Some(first_seen_at) = self.first_seen_at(&identity(validity, value))
        {
            let expired_at = first_seen_at.saturating_add(ttl);
            return if now < expired_at {
                Ok(())
            } else {
                Err(ValidationError::Expired { expired_at })
            };
        }
        let stored = &self.stored.value[..];
        // A value without a TTL since receipt may come back. It is only remembered because of a
        // value that it replaced.
        let may_return = || {
            validity.ttl_since_receipt.is_none()
                && (value == stored || validator.contains(key, stored, value))
        };
        if validator.consolidate(key, &[value, stored])? == stored && !may_return() {
            return Err(ValidationError::Stale);
        }
        Ok(())
    }
}

/// The upper bound of remembering a value, however long its TTL. A row that is kept for a value
/// that nobody sends any more takes room from others, and one flood of such values would take it
/// for as long. A guess.
const LONGEST_MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// When a value was first received, and its TTL since then.
pub(super) struct Received {
    pub(super) first_seen_at: Timestamp,
    pub(super) identity: [u8; 32],
    pub(super) ttl: Duration,
}

impl Received {
    pub(super) fn ends_at(&self) -> Timestamp {
        self.first_seen_at.saturating_add(self.ttl)
    }

    /// Until when it is remembered: for `memory`, but at least for its TTL, so that its time cannot
    /// restart before it has ended.
    pub(super) fn remember_until(&self, memory: Duration) -> Timestamp {
        self.first_seen_at.saturating_add(memory.max(self.ttl.min(LONGEST_MEMORY)))
    }

    pub(super) fn into_wire(self) -> Receipt {
        Receipt {
            first_seen_at: self.first_seen_at.as_millis(),
            identity: Bytes::copy_from_slice(&self.identity),
        }
    }
}

/// The identity by which a value is recognised when it is received again.
pub(super) fn identity(validity: Validity, value: &[u8]) -> [u8; 32] {
    validity.identity.unwrap_or_else(|| Sha256::digest(value).into())
}
