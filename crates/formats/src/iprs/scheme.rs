//! Validity schemes: whether a record is valid, and which of two is better.
//!
//! **Invariants.** The CID of its [`Description`] identifies a scheme, so two schemes that differ
//! in a parameter differ in their CID. A record's rank depends on the record alone.
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
/// Users add their own sources of trust and time here: a scheme may use authorities, counters or
/// clocks other than `now`. [`Record::validity`] contains the data that it needs from a record.
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
    /// The name and the parameters of the scheme. The CID of the description is the CID of the
    /// scheme.
    fn description(&self) -> Description;

    /// The rank of a record within its version. Ranks are compared as lists. The greater rank is
    /// the better; between equal ranks the CID of the record decides.
    ///
    /// It also checks everything that needs neither the time nor the signature: a record without a
    /// rank is not of this scheme. It depends on the record alone, so it is the same at any time
    /// and on every machine.
    ///
    /// # Errors
    /// [`IprsError`] if the record lacks the data that this scheme needs.
    fn rank(&self, record: &Record) -> Result<Vec<u64>, IprsError>;

    /// Checks that the record is valid at `now`. The caller has checked its rank and its signature.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    fn validate(&self, record: &IprsRecord, now: Timestamp) -> Result<Validity, ValidationError>;

    /// Encodes a record of this scheme for the network. Defaults to its wire form in DAG-CBOR.
    ///
    /// Any other form starts with the scheme's CID in binary, so that the reader can find the
    /// scheme.
    fn marshal(&self, record: &IprsRecord) -> Vec<u8> {
        record.as_bytes().to_vec()
    }

    /// Decodes the output of [`Scheme::marshal`]. The caller has checked the size of `bytes`.
    ///
    /// # Errors
    /// [`IprsError`] if it is not a record in the scheme's form.
    fn unmarshal(&self, bytes: &[u8]) -> Result<UnverifiedIprsRecord, IprsError> {
        UnverifiedIprsRecord::decode(bytes)
    }
}

/// Description of a scheme: its name and its parameters, an IPLD object.
///
/// Use a name that nobody else uses, for example a reversed domain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    name: String,
    parameters: BTreeMap<String, Ipld>,
}

impl Description {
    /// Creates a description without parameters.
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

    /// The CID of the block, which is the CID of the scheme.
    pub fn cid(&self) -> Cid {
        cbor::cid_of(&self.block())
    }
}

/// Reads the claims in a record's `validity`, a map. It is an error if `read` leaves a field.
pub(super) fn claims<C>(
    record: &Record,
    read: impl FnOnce(&mut Fields) -> Result<C, IprsError>,
) -> Result<C, IprsError> {
    let mut fields = Fields::of(record.validity.clone(), "validity: a map")?;
    let claims = read(&mut fields)?;
    fields.finish()?;
    Ok(claims)
}

/// The CID of the scheme of an encoded record, in any scheme's form. The caller has checked the
/// size of `bytes`.
pub(crate) fn scheme_of(bytes: &[u8]) -> Result<Cid, IprsError> {
    // A binary CID starts with its version, 1. A record in DAG-CBOR is a map, which starts with a
    // greater byte.
    if bytes.first() == Some(&1) {
        return Cid::read_bytes(bytes)
            .ok()
            .filter(|cid| bytes.starts_with(&cid.to_bytes()))
            .ok_or(IprsError::Expected("the CID of a scheme"));
    }
    Ok(UnverifiedIprsRecord::decode(bytes)?.record().scheme)
}
