//! Signed, based on ancestry: each record links to the one before it, as commits do.
//!
//! `validity` is `{height: n, parent?: CID}`. The first record of a chain has height 0 and no parent, a child one
//! more than its parent.
//!
//! **Invariants.** The order is by version, then by height, then by CID, and needs only the two records. So, as
//! long as authors keep to the rules (a child's height is one more than its parent's, its version not less), a
//! descendant beats its ancestors, the longer branch of a fork the shorter, and of two that are equally long the
//! same one wins everywhere.
//!
//! **What is proven.** That the author gave the record this height and this parent: both are signed, and a CID
//! cannot be made to fit another record. That there is no parent where there should be one, or the other way
//! round, is refused. *Not* proven by one record alone: that the parent exists, and that the height is true. A
//! lying height wins the order, and one near the end of the numbers leaves no room above it; but only who may
//! write under the key can lie, and an author who did gets out of it by raising the version. With the ancestors
//! at hand a [`Chain`](super::Chain) finds the lie, and says which ancestors are missing where it cannot tell.
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
    /// The first record of a chain.
    pub fn first(value: impl Into<Ipld>) -> Record {
        let validity = map([("height", Ipld::Integer(0))]);
        Record::new(Self.description().cid(), value, validity)
    }

    /// The next record of a chain, of the same version as its parent.
    ///
    /// # Errors
    /// [`IprsError`] if the parent is not of a chain, or has the last height there is.
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

/// The place in its chain that a record claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: u64,
    pub(super) parent: Option<Cid>,
}

impl Place {
    /// The place of a record of whatever scheme.
    pub(super) fn of(record: &IprsRecord) -> Result<Self, IprsError> {
        if record.scheme() != Ancestry.description().cid() {
            return Err(IprsError::OtherScheme(Box::new(record.scheme())));
        }
        Self::read(record.record())
    }

    /// The place of a record that is known to be of this scheme.
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
