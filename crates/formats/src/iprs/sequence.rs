//! Signed, with a sequence number: the highest one wins.
//!
//! `validity` is `{sequence: n}`.
//!
//! **Invariants.** The order is by version, then by sequence number, then by CID. A store refuses what is lower
//! than what it has as stale. There is no expiry, so the record lives as long as the DHT keeps it.
//!
//! **Spec.** The libp2p record module: of several records, the highest sequence wins.

use std::{cmp::Ordering, sync::LazyLock};

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

/// The scheme of records of which the one with the highest sequence number is valid.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceNumber;

impl SequenceNumber {
    /// A record with this sequence number.
    pub fn record(value: impl Into<Ipld>, sequence: u64) -> Record {
        let validity = map([("sequence", Ipld::Integer(sequence.into()))]);
        Record::new(Self.cid(), value, validity)
    }

    /// The sequence number of a record of this scheme; of others, nothing.
    pub fn of(record: &IprsRecord) -> Option<u64> {
        let is_own = record.scheme() == Self.cid();
        is_own.then(|| read(&record.record().validity).ok()).flatten()
    }
}

fn read(validity: &Ipld) -> Result<u64, IprsError> {
    let mut fields = Fields::of(validity.clone(), "validity: a map")?;
    let sequence = fields.integer("sequence")?;
    fields.finish()?;
    Ok(sequence)
}

impl Scheme for SequenceNumber {
    fn description(&self) -> Description {
        Description::new("sequence-number")
    }

    fn cid(&self) -> Cid {
        static CID: LazyLock<Cid> = LazyLock::new(|| SequenceNumber.description().cid());
        *CID
    }

    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        read(&record.record().validity)?;
        Ok(Validity::forever())
    }

    fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering {
        order_by(a, b, read)
    }

    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        unmarshal(self.cid(), bytes, read)
    }
}
