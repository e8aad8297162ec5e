//! Values whose time runs since they were first received.
//!
//! **Invariants.** A replica lets such a value live until its TTL has passed since the replica first received it,
//! or until the lifetime that came with it has, whichever is earlier. Being sent again while it lives changes
//! nothing. A value whose lifetime was cut short by whoever brought it first may come back, but its time ends
//! when it would have; so nobody can suppress a value by bringing it with a short lifetime. What has expired is
//! remembered in its row for [`receipt_memory`](super::StoreConfig::receipt_memory) since it was received, or its
//! TTL if that is longer (30 days at most): neither it nor anything worse comes in until then.
//!
//! What replaces a remembered value is better, and its row stays for as long as that of the replaced one would have.
//! So the one row is enough to remember all that was ever in it: whatever of it comes again is worse than what is
//! there, and stale.
//!
//! **Spec.** IPRS, "Signed, expiring after a Time-To-Live".

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Origin;
use crate::proto::storage::{Receipt, Value};
use smart_record_core::{RecordKey, Timestamp, ValidationError, Validator, Validity};

/// A stored value that is not a smart record.
pub(super) struct Kept {
    pub(super) key: Bytes,
    pub(super) stored: Value,
    pub(super) expires_at: Option<Timestamp>,
}

impl Kept {
    pub(super) fn lives_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether this value, come again, can change nothing: it lives, and what it says is all that counts.
    pub(super) fn is_same(&self, value: &[u8], origin: Origin, now: Timestamp) -> bool {
        self.lives_at(now)
            && self.stored.value == value
            && self.stored.expiry_is_signed
            && self.stored.receipt.is_none()
            && self.stored.publisher.is_empty()
            && (self.stored.is_local || origin != Origin::Local)
    }

    /// Until when the row stays for the sake of what is or was in it.
    pub(super) fn remember_until(&self) -> Option<Timestamp> {
        self.stored.remember_until.map(Timestamp::from_millis)
    }

    /// Whether it is only remembered.
    pub(super) fn is_remembered_at(&self, now: Timestamp) -> bool {
        !self.lives_at(now) && self.remember_until().is_some_and(|at| at > now)
    }

    /// Since when a value of this identity is known, if it is this one.
    pub(super) fn first_seen_at(&self, identity: &[u8; 32]) -> Option<Timestamp> {
        let receipt = self.stored.receipt.as_ref()?;
        let is_same = receipt.identity == identity[..];
        is_same.then_some(Timestamp::from_millis(receipt.first_seen_at))
    }

    /// Whether a value may come in although this one, which has expired, is remembered.
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
        // What does not live by its receipt may come back; that what it has replaced is remembered is no fault
        // of its own.
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

/// Nothing is remembered for longer, however long it may live: a row that is kept for a value that nobody sends any more
/// is room that nobody else has, and whoever fills a store with such rows need do it only once. A guess.
const LONGEST_MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// When a value was first received, and how long it lives from then on.
pub(super) struct Received {
    pub(super) first_seen_at: Timestamp,
    pub(super) identity: [u8; 32],
    pub(super) ttl: Duration,
}

impl Received {
    pub(super) fn ends_at(&self) -> Timestamp {
        self.first_seen_at.saturating_add(self.ttl)
    }

    /// Until when it has to be remembered: for `memory`, but not for less than its TTL, or its time could start
    /// anew before it is over.
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

/// By what a value is recognised when it comes again.
pub(super) fn identity(validity: Validity, value: &[u8]) -> [u8; 32] {
    validity.identity.unwrap_or_else(|| Sha256::digest(value).into())
}
