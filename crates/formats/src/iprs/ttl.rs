//! Signed, expiring a time-to-live after receipt.
//!
//! `validity` is `{ttl: ms}`. The TTL starts when a replica first receives the record, by its own
//! clock, as in DNS. So author and replica need no common clock. The scheme states the duration.
//! The store ([`Validity::ttl_since_receipt`]) remembers the start, also for a while after the end,
//! so sending the record again to the same replica does not restart it. The remaining time travels
//! with the record as Kademlia's lifetime (whole seconds, rounded down), so replication does not
//! extend it.
//!
//! **Invariants.** The TTL is at least a millisecond. The order is by version, then by CID. Nothing
//! in two records tells which is newer, so the author raises the version.
//!
//! The remaining time is not proven: Kademlia's lifetime is the sender's claim. A peer that sends a
//! record to a replica which has never received it can give it up to the whole TTL there. An author
//! who needs a definite end uses [`DatetimeRange`](super::DatetimeRange) or
//! [`Freshness`](super::Freshness).
//!
//! **Spec.** IPRS, "Signed, expiring after a Time-To-Live".

use std::time::Duration;

use ipld_core::ipld::Ipld;

use super::{Description, IprsError, IprsRecord, Record, Scheme, cbor::map, scheme::claims};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// The scheme of records that are valid for a duration after they are first received.
///
/// A store remembers a received record for `StoreConfig::receipt_memory`, or for the TTL if that is
/// longer. During that time neither the record nor a worse one starts again there. The limits:
///
/// * nothing is remembered for longer than 30 days, so a longer TTL may start again after that;
/// * a record that is evicted because the store is full, or removed with
///   `SmartRecordStore::forget`, is forgotten: its TTL starts again if the record is received
///   again. The same holds for every replica that has never had the record, and for a store in
///   memory after a restart.
#[derive(Clone, Copy, Debug, Default)]
pub struct TtlSinceReceipt;

impl TtlSinceReceipt {
    /// Creates a record that is valid for `ttl` (whole milliseconds) after it is first received.
    ///
    /// # Errors
    /// [`IprsError::Contradiction`] if `ttl` is less than a millisecond.
    pub fn record(value: impl Into<Ipld>, ttl: Duration) -> Result<Record, IprsError> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let validity = map([("ttl", Ipld::Integer(millis.into()))]);
        let record = Record::new(Self.description().cid(), value, validity);
        read(&record)?;
        Ok(record)
    }
}

fn read(record: &Record) -> Result<Duration, IprsError> {
    match claims(record, |fields| fields.integer("ttl"))? {
        0 => Err(IprsError::Contradiction("the TTL is zero")),
        millis => Ok(Duration::from_millis(millis)),
    }
}

impl Scheme for TtlSinceReceipt {
    fn description(&self) -> Description {
        Description::new("ttl-since-receipt")
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        read(record).map(|_| Vec::new())
    }

    /// Returns a validity that starts at receipt. The record alone is always valid.
    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::since_receipt(read(record.record())?))
    }
}
