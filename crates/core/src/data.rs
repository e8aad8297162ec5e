//! Deserializer of IPLD data from untrusted sources, for any codec.
//!
//! **Invariants.** Memory is proportional to the input, whatever lengths it claims. A duplicate key
//! in a map is refused, and a link whose bytes are not the only form of its CID. The codec bounds
//! the depth.
//!
//! **Spec.** [IPLD data model](https://ipld.io/docs/data-model/).

use std::{collections::BTreeMap, fmt};

use ipld_core::ipld::Ipld;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::text::cid_from_bytes;

/// IPLD data read from any codec.
pub(crate) struct Data(pub(crate) Ipld);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor).map(Self)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Ipld;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value of IPLD data")
    }

    fn visit_none<E: Error>(self) -> Result<Ipld, E> {
        Ok(Ipld::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Ipld, E> {
        Ok(Ipld::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Ipld, E> {
        Ok(Ipld::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Ipld, E> {
        Ok(Ipld::Integer(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Ipld, E> {
        Ok(Ipld::Integer(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Ipld, E> {
        Ok(Ipld::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Ipld, E> {
        Ok(Ipld::String(value.to_owned()))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Ipld, E> {
        Ok(Ipld::Bytes(value.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ipld, A::Error> {
        // Reserves nothing: `size_hint` is not trusted.
        let mut list = Vec::new();
        while let Some(Data(element)) = seq.next_element()? {
            list.push(element);
        }
        Ok(Ipld::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ipld, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, Data(value))) = map.next_entry::<String, Data>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a key stands twice in a map"));
            }
        }
        Ok(Ipld::Map(fields))
    }

    /// A link.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, link: D) -> Result<Ipld, D::Error> {
        link.deserialize_bytes(LinkVisitor)
    }
}

struct LinkVisitor;

impl Visitor<'_> for LinkVisitor {
    type Value = Ipld;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CID")
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Ipld, E> {
        cid_from_bytes(value).map(Ipld::Link).ok_or_else(|| E::custom("a link is not a CID"))
    }
}
