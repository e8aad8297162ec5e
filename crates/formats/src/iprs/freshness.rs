//! Signed, with cryptographic freshness: a record cites a recent value of a beacon, which nobody
//! could predict.
//!
//! `validity` is `{beacon: CID, round: n}`: the value that the beacon had in that round. It proves
//! that the record was signed after that round began. A reader asks its own [`Beacon`] whether the
//! value is genuine and how many rounds old it is. No clock is read.
//!
//! **Invariants.** A record is fresh while the cited value is at most `threshold` rounds old, by
//! the reader's beacon. The order is by version, then by round, then by CID. It does not use the
//! beacon, so it never changes.
//!
//! A record that cites a round which the reader's beacon has not reached is refused as unsupported.
//! The record may be a forgery, or it may be genuine and the reader behind. Records do not expire
//! in a store as rounds pass: the store keeps a record for as long as the DHT does, and readers
//! refuse it as stale.
//!
//! **Spec.** IPRS, "Signed, with cryptographic freshness".

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{Description, IprsError, IprsRecord, Record, Scheme, cbor::map, scheme::claims};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// A source of unpredictable values, one for each round.
///
/// A validator calls it during validation, so it has to answer from local data. To advance a beacon
/// while a validator holds it, share it: `Arc<RwLock<B>>` is a beacon if `B` is.
pub trait Beacon: Send + Sync + fmt::Debug + 'static {
    /// The identity of the beacon. It never changes and is a parameter of the scheme.
    fn id(&self) -> Cid;

    /// The number of rounds that have begun since the cited one; 0 for the newest.
    ///
    /// # Errors
    /// [`BeaconError`] if the value is not genuine, or the beacon does not know the round.
    fn age(&self, cited: &BeaconCitation) -> Result<u64, BeaconError>;
}

/// A cited value of a beacon. Ordered by round, then by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BeaconCitation {
    /// The round.
    pub round: u64,
    /// The CID of the beacon's value in that round.
    pub value: Cid,
}

/// Why a beacon does not vouch for a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// The beacon had another value in that round.
    #[error("a forged value of round {round} of the beacon")]
    Forged {
        /// The round.
        round: u64,
    },
    /// The beacon does not know the round yet.
    #[error("round {round} of the beacon is unknown, the newest known is {newest}")]
    Future {
        /// The round.
        round: u64,
        /// The newest round known.
        newest: u64,
    },
    /// The beacon no longer remembers a round that old.
    #[error("round {round} of the beacon is too old, the oldest known is {oldest}")]
    TooOld {
        /// The round.
        round: u64,
        /// The oldest round that the beacon remembers.
        oldest: u64,
    },
}

/// The scheme of records that are valid while the beacon value they cite is recent.
#[derive(Clone, Debug)]
pub struct Freshness {
    beacon: Arc<dyn Beacon>,
    threshold: u64,
}

impl Freshness {
    /// Creates the scheme. Records are fresh while the value they cite is at most `threshold`
    /// rounds old.
    pub fn new(beacon: impl Beacon, threshold: u64) -> Self {
        Self { beacon: Arc::new(beacon), threshold }
    }

    /// Creates a record that cites this value.
    pub fn record(&self, value: impl Into<Ipld>, cited: BeaconCitation) -> Record {
        let validity = map([
            ("beacon", Ipld::Link(cited.value)),
            ("round", Ipld::Integer(cited.round.into())),
        ]);
        Record::new(self.description().cid(), value, validity)
    }
}

fn read(record: &Record) -> Result<BeaconCitation, IprsError> {
    claims(record, |fields| {
        Ok(BeaconCitation { round: fields.integer("round")?, value: fields.link("beacon")? })
    })
}

impl Scheme for Freshness {
    /// The parameters are the beacon and the threshold.
    fn description(&self) -> Description {
        Description::new("cryptographic-freshness")
            .with_link("beacon", self.beacon.id())
            .with_integer("threshold", self.threshold)
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        Ok(vec![read(record)?.round])
    }

    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        match self.beacon.age(&read(record.record())?) {
            Ok(age) if age <= self.threshold => Ok(Validity::forever()),
            Ok(_) | Err(BeaconError::TooOld { .. }) => Err(ValidationError::Stale),
            Err(error @ BeaconError::Forged { .. }) => {
                Err(ValidationError::Invalid(error.to_string()))
            }
            Err(error @ BeaconError::Future { .. }) => {
                Err(ValidationError::Unsupported(error.to_string()))
            }
        }
    }
}

impl<B: Beacon + ?Sized> Beacon for Arc<B> {
    fn id(&self) -> Cid {
        (**self).id()
    }

    fn age(&self, cited: &BeaconCitation) -> Result<u64, BeaconError> {
        (**self).age(cited)
    }
}

impl<B: Beacon> Beacon for RwLock<B> {
    fn id(&self) -> Cid {
        self.read().unwrap_or_else(PoisonError::into_inner).id()
    }

    fn age(&self, cited: &BeaconCitation) -> Result<u64, BeaconError> {
        self.read().unwrap_or_else(PoisonError::into_inner).age(cited)
    }
}
