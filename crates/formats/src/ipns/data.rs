//! The signed part of a record: a map in DAG-CBOR.
//!
//! **Invariants.** DAG-CBOR has one form for each value, and no other form is accepted. So signed
//! data means the same to all readers. Unknown fields are checked for their form and otherwise
//! ignored.
//!
//! **Spec.** [Extensible data](https://specs.ipfs.tech/ipns/ipns-record/#extensible-data-dag-cbor),
//! [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/).

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Eol, IpnsError, present};
use crate::proto::ipns as proto;
use smart_record_core::{cid_from_bytes, dag_cbor};

pub(super) const VALUE: &str = "Value";
pub(super) const VALIDITY: &str = "Validity";
pub(super) const VALIDITY_TYPE: &str = "ValidityType";
pub(super) const SEQUENCE: &str = "Sequence";
pub(super) const TTL: &str = "TTL";

/// The only validity type: valid until a date.
pub(super) const VALID_UNTIL_EOL: i32 = proto::ipns_entry::ValidityType::Eol as i32;

/// Whether the specification defines a field of this name.
pub(super) fn is_reserved(field: &str) -> bool {
    [VALUE, VALIDITY, VALIDITY_TYPE, SEQUENCE, TTL].contains(&field)
}

/// The fields of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) value: Vec<u8>,
    /// The EOL as received.
    pub(super) validity: Vec<u8>,
    pub(super) eol: Eol,
    pub(super) sequence: u64,
    /// Nanoseconds. The specification requires it, but boxo accepts records without it if they
    /// have no fields of version 1.
    pub(super) ttl: Option<u64>,
}

impl Data {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IpnsError> {
        // Not by `dag_cbor`, which gives an `Ipld`: this map has fields of three kinds, none of
        // which reserves memory for a length that is only claimed.
        let mut fields: BTreeMap<String, Field> =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|e| IpnsError::DagCbor(e.to_string()))?;
        let validity_type = int(fields.remove(VALIDITY_TYPE), VALIDITY_TYPE)?;
        if validity_type != i128::from(VALID_UNTIL_EOL) {
            return Err(IpnsError::ValidityType(validity_type));
        }
        let validity = bytes_of(fields.remove(VALIDITY), VALIDITY)?;
        Ok(Self {
            value: bytes_of(fields.remove(VALUE), VALUE)?,
            eol: Eol::parse(&validity)?,
            validity,
            sequence: uint(fields.remove(SEQUENCE), SEQUENCE)?,
            ttl: match fields.remove(TTL) {
                None => None,
                ttl => Some(uint(ttl, TTL)?),
            },
        })
    }

    /// Checks the copies outside of the signed data, for readers of version 1, against it.
    ///
    /// If the value or the signature of version 1 is present, an absent copy counts as its default,
    /// and all copies must agree. Otherwise nobody reads them, and they are not checked. That is
    /// the rule of the specification, as boxo reads it.
    pub(super) fn check_copies(&self, entry: &proto::IpnsEntry) -> Result<(), IpnsError> {
        if present(&entry.value).is_none() && present(&entry.signature_v1).is_none() {
            return Ok(());
        }
        let bytes = |copy: &Option<Bytes>, original: &[u8]| match copy {
            Some(copy) => copy == original,
            None => original.is_empty(),
        };
        let number = |copy: Option<u64>, original| original == Some(copy.unwrap_or_default());
        let agreements = [
            (VALUE, bytes(&entry.value, &self.value)),
            (VALIDITY, bytes(&entry.validity, &self.validity)),
            // The default is the only validity type.
            (VALIDITY_TYPE, entry.validity_type.is_none_or(|t| t == VALID_UNTIL_EOL)),
            (SEQUENCE, number(entry.sequence, Some(self.sequence))),
            (TTL, number(entry.ttl, self.ttl)),
        ];
        match agreements.into_iter().find(|(_, agrees)| !agrees) {
            Some((field, _)) => Err(IpnsError::Disagreement { field }),
            None => Ok(()),
        }
    }
}

/// The fields that the specification does not define.
pub(super) fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, Ipld>, IpnsError> {
    match dag_cbor::from_slice(bytes).map_err(|e| IpnsError::DagCbor(e.to_string()))? {
        Ipld::Map(mut fields) => {
            fields.retain(|field, _| !is_reserved(field));
            Ok(fields)
        }
        _ => Err(IpnsError::DagCbor("not a map".to_owned())),
    }
}

fn int(value: Option<Field>, field: &'static str) -> Result<i128, IpnsError> {
    match value {
        Some(Field::Int(value)) => Ok(value),
        _ => Err(IpnsError::Field { field }),
    }
}

fn uint(value: Option<Field>, field: &'static str) -> Result<u64, IpnsError> {
    u64::try_from(int(value, field)?).map_err(|_| IpnsError::Field { field })
}

fn bytes_of(value: Option<Field>, field: &'static str) -> Result<Vec<u8>, IpnsError> {
    match value {
        Some(Field::Bytes(value)) => Ok(value),
        _ => Err(IpnsError::Field { field }),
    }
}

/// A value of one of the two types that the specification's fields have. Any other value is read to
/// its end but not kept, so nothing is allocated for data that is not verified yet.
enum Field {
    Int(i128),
    Bytes(Vec<u8>),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value of DAG-CBOR")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Int(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Field, E> {
        Ok(Field::Int(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Field, E> {
        Ok(Field::Int(value))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Field, E> {
        Ok(Field::Bytes(value.to_vec()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_none<E: Error>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<Field>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, Field>()?.is_some() {}
        Ok(Field::Other)
    }

    /// A link.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, link: D) -> Result<Field, D::Error> {
        link.deserialize_bytes(LinkVisitor)
    }
}

struct LinkVisitor;

impl Visitor<'_> for LinkVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CID")
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Field, E> {
        cid_from_bytes(value).map(|_| Field::Other).ok_or_else(|| E::custom("a link is not a CID"))
    }
}
