//! Signed, with a sequence number: the highest one wins.
//!
//! `validity` is `{sequence: n}`.
//!
//! **Invariants.** The order is by version, then by sequence number, then by CID. A store refuses a
//! lower record than the one it has as stale. There is no expiry, so the record lives as long as
//! the DHT keeps it.
//!
//! **Spec.** The libp2p record module: of several records, the highest sequence wins.

use ipld_core::ipld::Ipld;

use super::{Description, IprsError, IprsRecord, Record, Scheme, cbor::map, scheme::claims};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// The scheme of records of which the one with the highest sequence number wins.
#[derive(Clone, Copy, Debug, Default)]
pub struct SequenceNumber;

impl SequenceNumber {
    /// Creates a record with this sequence number.
    pub fn record(value: impl Into<Ipld>, sequence: u64) -> Record {
        let validity = map([("sequence", Ipld::Integer(sequence.into()))]);
        Record::new(Self.description().cid(), value, validity)
    }

    /// The sequence number of a record; `None` if it is of another scheme.
    pub fn of(record: &IprsRecord) -> Option<u64> {
        let is_own = record.scheme() == Self.description().cid();
        is_own.then(|| read(record.record()).ok()).flatten()
    }
}

fn read(record: &Record) -> Result<u64, IprsError> {
    claims(record, |fields| fields.integer("sequence"))
}

impl Scheme for SequenceNumber {
    fn description(&self) -> Description {
        Description::new("sequence-number")
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        Ok(vec![read(record)?])
    }

    fn validate(&self, _: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }
}
