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

use std::{cmp::Ordering, sync::LazyLock};

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{
    Description, IprsError, IprsRecord, Record, Scheme, UnverifiedIprsRecord,
    cbor::{self, Fields, map},
    scheme::{order_by, unmarshal},
};
use crate::{
    time::Timestamp,
    validator::{ValidationError, Validity},
};

/// The scheme of records that form a chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ancestry;

impl Ancestry {
    /// The first record of a chain.
    pub fn first(value: impl Into<Ipld>) -> Record {
        let validity = map([("height", Ipld::Integer(0))]);
        Record::new(Self.cid(), value, validity)
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
        let record = Record::new(Self.cid(), value, validity);
        Ok(record.with_version(parent.version()))
    }
}

/// The place in its chain that a record claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) height: u64,
    pub(super) parent: Option<Cid>,
}

impl Place {
    pub(super) fn of(record: &IprsRecord) -> Result<Self, IprsError> {
        if record.scheme() != Ancestry.cid() {
            return Err(IprsError::OtherScheme(Box::new(record.scheme())));
        }
        Self::read(&record.record().validity)
    }

    fn read(validity: &Ipld) -> Result<Self, IprsError> {
        let mut fields = Fields::of(validity.clone(), "validity: a map")?;
        let place =
            Self { height: fields.integer("height")?, parent: fields.optional_link("parent")? };
        fields.finish()?;
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

    fn cid(&self) -> Cid {
        static CID: LazyLock<Cid> = LazyLock::new(|| Ancestry.description().cid());
        *CID
    }

    fn validate(&self, record: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
        Place::of(record)?;
        Ok(Validity::forever())
    }

    fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering {
        order_by(a, b, |validity| Place::read(validity).map(|place| place.height))
    }

    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        unmarshal(self.cid(), bytes, Place::read)
    }
}
