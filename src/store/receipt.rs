//! Values whose time runs since they were first received.
//!
//! **Invariants.** A replica lets such a value live until its TTL has passed since the replica first received it,
//! or until the lifetime that came with it has, whichever is earlier. Being sent again while it lives changes
//! nothing. A value whose lifetime was cut short by whoever brought it first may come back, but its time ends
//! when it would have; so nobody can suppress a value by bringing it with a short lifetime. What has expired is
//! remembered for [`receipt_memory`](super::StoreConfig::receipt_memory), in its row: neither it nor anything
//! worse comes in until then.
//!
//! **Spec.** IPRS, "Signed, expiring after a Time-To-Live".

use std::time::Duration;

use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    key::RecordKey,
    proto::storage::{Receipt, Value},
    time::Timestamp,
    validator::{ValidationError, Validator, Validity},
};

/// A stored value that is not a smart record.
pub(super) struct Kept {
    pub(super) key: Bytes,
    pub(super) stored: Value,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) forget_at: Option<Timestamp>,
}

impl Kept {
    pub(super) fn lives_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }

    /// Whether it is only remembered.
    pub(super) fn is_remembered_at(&self, now: Timestamp) -> bool {
        !self.lives_at(now)
            && self.stored.receipt.is_some()
            && self.forget_at.is_some_and(|at| at > now)
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
        if let Some(first_seen_at) = self.first_seen_at(&identity(validity, value)) {
            let ttl = validity.ttl_since_receipt.unwrap_or_default();
            let expired_at = first_seen_at.saturating_add(ttl);
            return if now < expired_at {
                Ok(())
            } else {
                Err(ValidationError::Expired { expired_at })
            };
        }
        if validator.consolidate(key, &[value, &self.stored.value])? == self.stored.value {
            return Err(ValidationError::Stale);
        }
        Ok(())
    }
}

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
