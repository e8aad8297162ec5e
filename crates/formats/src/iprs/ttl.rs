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

use std::{cmp::Ordering, sync::LazyLock, time::Duration};

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{
    Description, IprsError, IprsRecord, Record, Scheme, UnverifiedIprsRecord,
    cbor::{Fields, map},
    scheme::{order_by, unmarshal},
};
use crate::{
    time::Timestamp,
    validator::{ValidationError, Validity},
};

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
        read(&validity)?;
        Ok(Record::new(Self.cid(), value, validity))
    }
}

fn read(validity: &Ipld) -> Result<Duration, IprsError> {
    let mut fields = Fields::of(validity.clone(), "validity: a map")?;
    let millis = fields.integer("ttl")?;
    fields.finish()?;
    if millis == 0 {
        return Err(IprsError::Contradiction("a TTL of nothing"));
    }
    Ok(Duration::from_millis(millis))
}

impl Scheme for TtlSinceReceipt {
    fn description(&self) -> Description {
        Description::new("ttl-since-receipt")
    }

    fn cid(&self) -> Cid {
        static CID: LazyLock<Cid> = LazyLock::new(|| TtlSinceReceipt.description().cid());
        *CID
    }

    /// Always valid, as far as the record alone can tell.
    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::since_receipt(read(&record.record().validity)?))
    }

    fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering {
        order_by(a, b, |_| Ok(()))
    }

    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        unmarshal(self.cid(), bytes, read)
    }
}
