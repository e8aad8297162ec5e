//! Deserializer from nodes to Rust values.
//!
//! **Invariants.** Text and bytes are borrowed, not copied. Nodes that the type does not read are
//! ignored.
//!
//! **Spec.** The table of the parent module.

use ipld_core::cid::serde::CID_SERDE_PRIVATE_IDENTIFIER;
use serde::{
    Deserializer,
    de::{
        Error, IntoDeserializer, Unexpected, Visitor,
        value::{
            BorrowedStrDeserializer, BytesDeserializer, MapAccessDeserializer, MapDeserializer,
            SeqDeserializer,
        },
    },
    forward_to_deserialize_any,
};

use super::SerdeError;
use crate::node::{Dict, Kind, Node};

/// Deserializes a value from a kind.
#[derive(Clone, Copy)]
pub(super) enum FromKind<'de> {
    Dict(&'de Dict),
    /// A kind other than a Dict.
    Other(&'de Kind),
}

impl<'de> From<&'de Kind> for FromKind<'de> {
    fn from(kind: &'de Kind) -> Self {
        match kind {
            Kind::Dict(dict) => Self::Dict(dict),
            other => Self::Other(other),
        }
    }
}

impl<'de> From<&'de Node> for FromKind<'de> {
    fn from(node: &'de Node) -> Self {
        Self::from(&node.kind)
    }
}

impl<'de> IntoDeserializer<'de, SerdeError> for FromKind<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The key of a struct field. A key that is not a String names no field.
struct FieldName<'de>(&'de Kind);

impl<'de> IntoDeserializer<'de, SerdeError> for FieldName<'de> {
    type Deserializer = BorrowedStrDeserializer<'de, SerdeError>;

    fn into_deserializer(self) -> Self::Deserializer {
        BorrowedStrDeserializer::new(match self.0 {
            Kind::String(name) => name,
            _ => "a key that is not a String",
        })
    }
}

fn pairs<'de>(
    dict: &'de Dict,
) -> MapDeserializer<'de, impl Iterator<Item = (FromKind<'de>, FromKind<'de>)>, SerdeError> {
    MapDeserializer::new(dict.iter().map(|(key, node)| (key.into(), node.into())))
}

impl<'de> Deserializer<'de> for FromKind<'de> {
    type Error = SerdeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        let kind = match self {
            Self::Dict(dict) => return pairs(dict).deserialize_any(visitor),
            Self::Other(kind) => kind,
        };
        match kind {
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => visitor.visit_i64(*value),
            Kind::Float(value) => visitor.visit_f64(value.get()),
            Kind::String(text) => visitor.visit_borrowed_str(text),
            Kind::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Kind::Link(cid) => {
                visitor.visit_newtype_struct(BytesDeserializer::new(&cid.to_bytes()))
            }
            Kind::List(_) | Kind::Set(_) => {
                SeqDeserializer::new(kind.children().map(Self::from)).deserialize_any(visitor)
            }
            _ => Err(SerdeError::UnsupportedKind(kind.name())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self {
            Self::Other(Kind::Link(_)) if name == CID_SERDE_PRIVATE_IDENTIFIER => {
                self.deserialize_any(visitor)
            }
            _ if name == CID_SERDE_PRIVATE_IDENTIFIER => {
                Err(Error::invalid_type(Unexpected::Other("a node of another kind"), &"a Link"))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self {
            Self::Dict(dict) => {
                let fields = dict.iter().map(|(key, node)| (FieldName(key), Self::from(node)));
                MapDeserializer::new(fields).deserialize_any(visitor)
            }
            Self::Other(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self {
            Self::Dict(dict) if dict.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(pairs(dict)))
            }
            Self::Other(Kind::String(variant)) => {
                visitor.visit_enum(BorrowedStrDeserializer::new(variant))
            }
            _ => Err(Error::invalid_type(
                Unexpected::Other("a node of another form"),
                &"a String or a Dict of one pair",
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}
