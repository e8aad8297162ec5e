//! Signed, expiring a time-to-live after receipt.
//!
//! `validity` is `{ttl: ms}`. The time runs from when a replica first receives the record, by its own clock, as
//! with DNS; author and replica need not agree on what time it is. The scheme only says how long; the store
//! ([`Validity::ttl_since_receipt`]) remembers since when, also for a while after the end, so that a record that
//! is sent again to the same replica does not start anew. What is left of the time travels with the record as
//! Kademlia's lifetime (whole seconds, rounded down), so that a record does not gain time by being replicated.
//!
//! **Invariants.** At least a millisecond. The order is by version, then by CID: nothing in two records says
//! which is the newer, so the author raises the version.
//!
//! What is not proven: Kademlia's lifetime is the sender's word. Whoever brings a record to a replica that has
//! never seen it can let it live up to its whole TTL there. An author who needs an end takes
//! [`DatetimeRange`](super::DatetimeRange) or [`Freshness`](super::Freshness).
//!
//! **Spec.** IPRS, "Signed, expiring after a Time-To-Live".

use std::time::Duration;

use ipld_core::ipld::Ipld;

use super::{Description, IprsError, IprsRecord, Record, Scheme, cbor::map, scheme::claims};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// The scheme of records that are valid for a time after they are first received.
///
/// A store remembers what it has received for `StoreConfig::receipt_memory`, or for the
/// TTL if that is longer, and in that time neither the record nor a worse one starts anew there. The bounds:
///
/// * nothing is remembered for longer than 30 days, so a TTL beyond that may start anew after them;
/// * a record that is evicted because the store is full, or removed with
///   `SmartRecordStore::forget`, is forgotten, and its time starts anew if it comes
///   again; so it does at every replica that has never had it, and after a restart of one that stores in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct TtlSinceReceipt;

impl TtlSinceReceipt {
    /// A record that is valid for `ttl` (whole milliseconds) after it is first received.
    ///
    /// # Errors
    /// [`IprsError::Contradiction`] if that is no time at all.
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
        0 => Err(IprsError::Contradiction("a TTL of nothing")),
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

    /// Always valid, as far as the record alone can tell.
    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::since_receipt(read(record.record())?))
    }
}
