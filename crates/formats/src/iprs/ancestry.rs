//! Signed, based on ancestry: each record links to the one before it, like a commit.
//!
//! `validity` is `{height: n, parent?: CID}`. The first record of a chain has height 0 and no
//! parent. A child's height is one more than its parent's.
//!
//! **Invariants.** The order is by version, then by height, then by CID, and depends on the two
//! records only. As long as authors follow the rules (a child's height is one more than its
//! parent's, its version not lower), a descendant beats its ancestors and the longer branch of a
//! fork beats the shorter. Of two branches of the same length, the same one wins everywhere.
//!
//! **What is proven.** The author gave the record this height and this parent: both are signed, and
//! a CID fits one record only. A record with a height above 0 and no parent, or a parent at height
//! 0, is refused. One record alone does *not* prove that the parent exists or that the height is
//! true. A false height wins the order, and one near the maximum leaves no room above it. But only
//! a writer admitted under the key can do this, and its author recovers by raising the version.
//! With the ancestors, a [`Chain`](super::Chain) detects the false height, and names the missing
//! ancestors if it cannot tell.
//!
//! **Spec.** IPRS, "Signed, based on ancestry (chain)".

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{
    Description, IprsError, IprsRecord, Record, Scheme,
    cbor::{self, map},
    scheme::claims,
};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// The scheme of records that form a chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ancestry;

impl Ancestry {
    /// Creates the first record of a chain.
    pub fn first(value: impl Into<Ipld>) -> Record {
        let validity = map([("height", Ipld::Integer(0))]);
        Record::new(Self.description().cid(), value, validity)
    }

    /// Creates the next record of a chain, with the version of its parent.
    ///
    /// # Errors
    /// [`IprsError`] if the parent is not of a chain, or has the greatest height.
    pub fn child(value: impl Into<Ipld>, parent: &IprsRecord) -> Result<Record, IprsError> {
        let place = Place::of(parent)?;
        let height = place
            .height
            .checked_add(1)
            .ok_or(IprsError::Contradiction("the chain has the greatest height"))?;
        let validity =
            map([("height", Ipld::Integer(height.into())), ("parent", Ipld::Link(parent.cid()))]);
        Ok(Record::new(parent.scheme(), value, validity).with_version(parent.version()))
    }
}

/// The position in its chain that a record claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: u64,
    pub(super) parent: Option<Cid>,
}

impl Place {
    /// Reads the position of a record, after a check that the record is of this scheme.
    pub(super) fn of(record: &IprsRecord) -> Result<Self, IprsError> {
        if record.scheme() != Ancestry.description().cid() {
            return Err(IprsError::OtherScheme(Box::new(record.scheme())));
        }
        Self::read(record.record())
    }

    /// Reads the position of a record that is known to be of this scheme.
    pub(super) fn read(record: &Record) -> Result<Self, IprsError> {
        let place = claims(record, |fields| {
            Ok(Self { height: fields.integer("height")?, parent: fields.optional_link("parent")? })
        })?;
        if place.parent.is_some() != (place.height > 0) {
            return Err(IprsError::Contradiction(
                "a height without a parent, or a parent without a height",
            ));
        }
        if place.parent.is_some_and(|parent| !cbor::is_block_cid(&parent)) {
            return Err(IprsError::Contradiction("the parent is not a record"));
        }
        Ok(place)
    }
}

impl Scheme for Ancestry {
    fn description(&self) -> Description {
        Description::new("ancestry-chain")
    }

    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
        Ok(vec![Place::read(record)?.height])
    }

    fn validate(&self, _: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }
}
