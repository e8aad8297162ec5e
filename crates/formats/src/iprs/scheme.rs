//! Validity schemes: how a record's validity is calculated, and which of two is better.
//!
//! **Invariants.** A scheme is known by the CID of its [`Description`], so two schemes that differ in a parameter
//! differ in their CID. `order` looks at the two records alone.
//!
//! **Spec.** [IPRS, "The
//! Interface"](https://github.com/ipfs/specs/tree/274181d0d63e790865e6002d6cf21c8e02007bb9/iprs-interplanetary-record-system):
//! Validator, Order, Marshal, Unmarshal.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{IprsError, IprsRecord, UnverifiedIprsRecord, cbor};
use crate::{
    time::Timestamp,
    validator::{ValidationError, Validity},
};

/// A validity scheme: the four functions of the spec.
///
/// It is here that users bring in their own trust and time: a scheme may know of authorities, counters or
/// clocks other than `now`. What it needs to know of a record stands in [`Record::validity`](super::Record).
///
/// ```
/// use std::cmp::Ordering;
/// use smart_record_core::{Timestamp, ValidationError, Validity};
/// use smart_record_formats::iprs::{Description, Ipld, IprsRecord, Record, Scheme};
///
/// /// Records are valid for ever; the one with the longer text is better.
/// #[derive(Debug)]
/// struct Longest;
///
/// fn len(record: &IprsRecord) -> usize {
///     record.block().len()
/// }
///
/// impl Scheme for Longest {
///     fn description(&self) -> Description {
///         Description::new("com.example.longest")
///     }
///
///     fn validate(&self, _: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
///         Ok(Validity::forever())
///     }
///
///     fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering {
///         len(a).cmp(&len(b)).then(a.cid().cmp(&b.cid()))
///     }
/// }
/// # let _ = (Longest, Record::new(Longest.description().cid(), "value", Ipld::Null));
/// ```
pub trait Scheme: Send + Sync + fmt::Debug + 'static {
    /// What the scheme is, with its parameters; the CID of this is the scheme's.
    fn description(&self) -> Description;

    /// The CID of the description. It is asked for with every record; a scheme may keep it instead of hashing anew.
    fn cid(&self) -> Cid {
        self.description().cid()
    }

    /// Whether the record may be used at `now`. The signature has been checked.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    fn validate(&self, record: &IprsRecord, now: Timestamp) -> Result<Validity, ValidationError>;

    /// Which of two records of this scheme is better: the greater one. A total order, the same at any time and
    /// on every machine, in which only records with the same CID are equal.
    fn order(&self, a: &IprsRecord, b: &IprsRecord) -> Ordering;

    /// The form in which a record of this scheme travels. By default its wire form in DAG-CBOR.
    ///
    /// A form of one's own begins with the scheme's CID in binary, by which the reader finds the scheme.
    fn marshal(&self, record: &IprsRecord) -> Vec<u8> {
        record.as_bytes().to_vec()
    }

    /// Reads what [`Scheme::marshal`] wrote, and checks all that needs neither the time nor the signature. The
    /// size of `bytes` has been checked.
    ///
    /// # Errors
    /// [`IprsError`] if it is not a record of this scheme.
    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        UnverifiedIprsRecord::decode(bytes)
    }
}

/// What a scheme is: its name and its parameters, as an IPLD object of its own.
///
/// A name of one's own is best one that nobody else uses, for instance a domain name turned round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    name: String,
    parameters: BTreeMap<String, Ipld>,
}

impl Description {
    /// A scheme without parameters.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), parameters: BTreeMap::new() }
    }

    /// Adds a parameter that is a number.
    #[must_use]
    pub fn with_integer(self, name: impl Into<String>, value: u64) -> Self {
        self.with(name, Ipld::Integer(value.into()))
    }

    /// Adds a parameter that is a link.
    #[must_use]
    pub fn with_link(self, name: impl Into<String>, value: Cid) -> Self {
        self.with(name, Ipld::Link(value))
    }

    /// Adds a parameter that is bytes.
    #[must_use]
    pub fn with_bytes(self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.with(name, Ipld::Bytes(value.into()))
    }

    fn with(mut self, name: impl Into<String>, value: Ipld) -> Self {
        self.parameters.insert(name.into(), value);
        self
    }

    /// The DAG-CBOR block `{name, parameters, type: "iprs-scheme"}`.
    pub fn block(&self) -> Vec<u8> {
        let data = cbor::map([
            ("name", Ipld::String(self.name.clone())),
            ("parameters", Ipld::Map(self.parameters.clone())),
            ("type", Ipld::String("iprs-scheme".to_owned())),
        ]);
        #[expect(
            clippy::expect_used,
            reason = "64-bit numbers, links, bytes and strings have a form in DAG-CBOR"
        )]
        cbor::encode(&data).expect("an encoding")
    }

    /// The CID of that block: the scheme's.
    pub fn cid(&self) -> Cid {
        cbor::cid_of(&self.block())
    }
}

/// Reads a record in DAG-CBOR that must be one of `scheme`, whose claims `claims` reads.
pub(super) fn unmarshal<C>(
    scheme: Cid,
    bytes: &[u8],
    claims: impl FnOnce(&Ipld) -> Result<C, IprsError>,
) -> Result<UnverifiedIprsRecord, IprsError> {
    let unverified = UnverifiedIprsRecord::decode(bytes)?;
    let record = unverified.record();
    if record.scheme != scheme {
        return Err(IprsError::OtherScheme(Box::new(record.scheme)));
    }
    claims(&record.validity)?;
    Ok(unverified)
}

/// The order of the built-in schemes: by version, then by what the scheme goes by, then by hash.
pub(super) fn order_by<C: Ord>(
    a: &IprsRecord,
    b: &IprsRecord,
    claims: impl Fn(&Ipld) -> Result<C, IprsError>,
) -> Ordering {
    let rank = |record: &IprsRecord| {
        (record.version(), claims(&record.record().validity).ok(), record.cid())
    };
    rank(a).cmp(&rank(b))
}

/// The CID of the scheme of a record in whatever form its scheme gives it. The size of `bytes` has been checked.
pub(crate) fn scheme_of(bytes: &[u8]) -> Result<Cid, IprsError> {
    // A binary CID begins with its version; a record in DAG-CBOR, as a map, with something greater.
    if bytes.first() == Some(&1) {
        return Cid::read_bytes(bytes).map_err(|_| IprsError::Expected("the CID of a scheme"));
    }
    Ok(UnverifiedIprsRecord::decode(bytes)?.record().scheme)
}
