//! IPRS: signed records with validity schemes.
//!
//! A record names its validity scheme. Five schemes are built in:
//!
//! | scheme | valid | of two records in a version, the better is |
//! |---|---|---|
//! | [`DatetimeRange`] | within a range of datetimes | the one that lives longer |
//! | [`TtlSinceReceipt`] | for a time after a replica first receives it | neither; raise the version |
//! | [`Ancestry`] | always | the one further down the chain |
//! | [`Freshness`] | while the beacon's value that it cites is recent | the one citing the later round |
//! | [`SequenceNumber`] | always | the one with the higher number |
//!
//! An implementation of [`Scheme`] adds another source of trust or time. The [`IprsValidator`]
//! holds the schemes that a node knows.
//!
//! **Invariants.** An [`IprsRecord`] is signed by its author for its key. Each record and each
//! scheme has a CID. Records under a key have a total order, the same on every node and at any
//! time: by version, then by the scheme's CID, then by the scheme's order. Only records with the
//! same CID are equal.
//!
//! **Spec.**
//! [IPRS](https://github.com/ipfs/specs/tree/274181d0d63e790865e6002d6cf21c8e02007bb9/iprs-interplanetary-record-system)

mod ancestry;
mod beacon;
mod cbor;
mod chain;
mod datetime;
mod error;
mod freshness;
mod record;
mod scheme;
mod sequence;
mod ttl;
mod validator;

#[doc(no_inline)]
pub use ipld_core::ipld::Ipld;

pub(crate) use self::scheme::scheme_of;
pub use self::validator::IprsValidator;
pub use self::{
    ancestry::Ancestry,
    beacon::{AdvanceError, ChainBeacon},
    chain::{Chain, ChainError, FalseClaim, Fork, Lineage, Relation},
    datetime::DatetimeRange,
    error::IprsError,
    freshness::{Beacon, BeaconCitation, BeaconError, Freshness},
    record::{IprsRecord, Record, SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, UnverifiedIprsRecord},
    scheme::{Description, Scheme},
    sequence::SequenceNumber,
    ttl::TtlSinceReceipt,
};

/// The namespace of IPRS records.
pub const NAMESPACE: &str = "iprs";
