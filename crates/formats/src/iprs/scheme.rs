//! Validity schemes: how a record's validity is calculated, and which of two is better.
//!
//! **Invariants.** A scheme is known by the CID of its [`Description`], so two schemes that differ in a parameter
//! differ in their CID. A record's rank depends on the record alone.
//!
//! **Spec.** [IPRS, "The
//! Interface"](https://github.com/ipfs/specs/tree/274181d0d63e790865e6002d6cf21c8e02007bb9/iprs-interplanetary-record-system):
//! Validator, Order, Marshal, Unmarshal.

use std::{collections::BTreeMap, fmt};

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::{
    IprsError, IprsRecord, Record, UnverifiedIprsRecord,
    cbor::{self, Fields},
};
use smart_record_core::{Timestamp, ValidationError, Validity};

/// A validity scheme: the four functions of the spec.
///
/// It is here that users bring in their own trust and time: a scheme may know of authorities, counters or
/// clocks other than `now`. What it needs to know of a record stands in [`Record::validity`].
///
/// ```
/// use smart_record_core::{Timestamp, ValidationError, Validity};
/// use smart_record_formats::iprs::{Description, Ipld, IprsError, IprsRecord, Record, Scheme};
///
/// /// Records of texts, valid for ever; the longer text is better.
/// #[derive(Debug)]
/// struct Longest;
///
/// impl Scheme for Longest {
///     fn description(&self) -> Description {
///         Description::new("com.example.longest")
///     }
///
///     fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError> {
///         match &record.value {
///             Ipld::String(text) => Ok(vec![text.len() as u64]),
///             _ => Err(IprsError::Expected("a text")),
///         }
///     }
///
///     fn validate(&self, _: &IprsRecord, _: Timestamp) -> Result<Validity, ValidationError> {
///         Ok(Validity::forever())
///     }
/// }
/// # let _ = (Longest, Record::new(Longest.description().cid(), "value", Ipld::Null));
/// ```
pub trait Scheme: Send + Sync + fmt::Debug + 'static {
    /// What the scheme is, with its parameters; the CID of this is the scheme's.
    fn description(&self) -> Description;

    /// The rank of a record within its version. Ranks are compared as lists: the greater is the better, and of equal
    /// ones the CID of the record decides.
    ///
    /// It is also the check of all that needs neither the time nor the signature: a record without a rank is not one of
    /// this scheme. It depends on the record alone, and so is the same at any time and on every machine.
    ///
    /// # Errors
    /// [`IprsError`] if the record does not say what this scheme goes by.
    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError>;

    /// Whether the record may be used at `now`. It has a rank, and its signature has been checked.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    fn validate(&self, record: &IprsRecord, now: Timestamp) -> Result<Validity, ValidationError>;

    /// The form in which a record of this scheme travels. By default its wire form in DAG-CBOR.
    ///
    /// A form of one's own begins with the scheme's CID in binary, by which the reader finds the scheme.
    fn marshal(&self, record: &IprsRecord) -> Vec<u8> {
        record.as_bytes().to_vec()
    }

    /// Reads what [`Scheme::marshal`] wrote. The size of `bytes` has been checked.
    ///
    /// # Errors
    /// [`IprsError`] if it is not a record in the scheme's form.
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

/// Reads the claims in a record's `validity`: a map of which `read` leaves nothing.
pub(super) fn claims<C>(
    record: &Record,
    read: impl FnOnce(&mut Fields) -> Result<C, IprsError>,
) -> Result<C, IprsError> {
    let mut fields = Fields::of(record.validity.clone(), "validity: a map")?;
    let claims = read(&mut fields)?;
    fields.finish()?;
    Ok(claims)
}

/// The CID of the scheme of a record in whatever form its scheme gives it. The size of `bytes` has been checked.
pub(crate) fn scheme_of(bytes: &[u8]) -> Result<Cid, IprsError> {
    // A binary CID begins with its version; a record in DAG-CBOR, as a map, with something greater.
    if bytes.first() == Some(&1) {
        return Cid::read_bytes(bytes).map_err(|_| IprsError::Expected("the CID of a scheme"));
    }
    Ok(UnverifiedIprsRecord::decode(bytes)?.record().scheme)
}
