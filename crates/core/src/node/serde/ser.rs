//! Serializer from Rust values to nodes.
//!
//! **Invariants.** `None` has no kind. The container decides whether it is left out.
//!
//! **Spec.** The table of the parent module.

use cid::Cid;
use ipld_core::cid::serde::CID_SERDE_PRIVATE_IDENTIFIER;
use serde::{
    Serialize, Serializer,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::SerdeError;
use crate::node::{Dict, Float, Kind, List};

/// Serializes a value to a kind, and `None` to nothing.
#[derive(Clone, Copy)]
pub(super) struct ToKind;

type Variant = Option<&'static str>;
type Outcome = Result<Option<Kind>, SerdeError>;

/// Serializes a value that cannot be left out.
fn present<T: Serialize + ?Sized>(value: &T, place: &'static str) -> Result<Kind, SerdeError> {
    value.serialize(ToKind)?.ok_or(SerdeError::NoForm(place))
}

/// Wraps the content of a variant of an enum; content outside a variant is unchanged.
fn within(variant: Variant, content: impl Into<Kind>) -> Outcome {
    Ok(Some(match variant {
        Some(variant) => Dict::from([(variant, content.into())]).into(),
        None => content.into(),
    }))
}

fn int(value: impl TryInto<i64> + ToString + Copy) -> Outcome {
    let int = value.try_into().map_err(|_| SerdeError::OutOfRange(value.to_string()))?;
    Ok(Some(Kind::Int(int)))
}

macro_rules! serialize_ints {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, value: $type) -> Outcome {
            int(value)
        })*
    };
}

impl Serializer for ToKind {
    type Ok = Option<Kind>;
    type Error = SerdeError;
    type SerializeSeq = Elements;
    type SerializeTuple = Elements;
    type SerializeTupleStruct = Elements;
    type SerializeTupleVariant = Elements;
    type SerializeMap = Pairs;
    type SerializeStruct = Pairs;
    type SerializeStructVariant = Pairs;

    serialize_ints!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, value: bool) -> Outcome {
        Ok(Some(value.into()))
    }

    fn serialize_f32(self, value: f32) -> Outcome {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Outcome {
        Ok(Some(Float::new(value).ok_or(SerdeError::NotANumber)?.into()))
    }

    fn serialize_char(self, value: char) -> Outcome {
        Ok(Some(value.to_string().into()))
    }

    fn serialize_str(self, value: &str) -> Outcome {
        Ok(Some(value.into()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Outcome {
        Ok(Some(value.into()))
    }

    fn serialize_none(self) -> Outcome {
        Ok(None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Outcome {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Outcome {
        Err(SerdeError::NoForm("()"))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Outcome {
        Err(SerdeError::NoForm(name))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Outcome {
        Ok(Some(variant.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Outcome {
        let kind = value.serialize(self)?;
        match kind {
            Some(Kind::Bytes(bytes)) if name == CID_SERDE_PRIVATE_IDENTIFIER => {
                let cid = Cid::try_from(bytes).map_err(serde::ser::Error::custom)?;
                Ok(Some(cid.into()))
            }
            kind => Ok(kind),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Outcome {
        within(Some(variant), present(value, "None in a variant")?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements, SerdeError> {
        Ok(Elements::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements, SerdeError> {
        Ok(Elements::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements, SerdeError> {
        Ok(Elements::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements, SerdeError> {
        Ok(Elements { variant: Some(variant), ..Elements::default() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Pairs, SerdeError> {
        Ok(Pairs::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Pairs, SerdeError> {
        Ok(Pairs::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Pairs, SerdeError> {
        Ok(Pairs { variant: Some(variant), ..Pairs::default() })
    }
}

/// Serializer of a sequence.
#[derive(Default)]
pub(super) struct Elements {
    variant: Variant,
    list: List,
}

macro_rules! serialize_elements {
    ($($trait:ident::$name:ident),*) => {
        $(impl $trait for Elements {
            type Ok = Option<Kind>;
            type Error = SerdeError;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
                self.list.push(present(value, "None in a sequence")?);
                Ok(())
            }

            fn end(self) -> Outcome {
                within(self.variant, self.list)
            }
        })*
    };
}

serialize_elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// Serializer of a map or a struct.
#[derive(Default)]
pub(super) struct Pairs {
    variant: Variant,
    dict: Dict,
    key: Option<Kind>,
}

impl Pairs {
    fn insert<T: Serialize + ?Sized>(&mut self, key: Kind, value: &T) -> Result<(), SerdeError> {
        let Some(value) = value.serialize(ToKind)? else { return Ok(()) };
        match self.dict.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(SerdeError::DuplicateKey(key)),
        }
    }
}

impl SerializeMap for Pairs {
    type Ok = Option<Kind>;
    type Error = SerdeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), SerdeError> {
        self.key = Some(present(key, "None as a key")?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SerdeError> {
        let key = self.key.take().ok_or(SerdeError::NoForm("a value without a key"))?;
        self.insert(key, value)
    }

    fn end(self) -> Outcome {
        within(self.variant, self.dict)
    }
}

macro_rules! serialize_fields {
    ($($trait:ident),*) => {
        $(impl $trait for Pairs {
            type Ok = Option<Kind>;
            type Error = SerdeError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), SerdeError> {
                self.insert(name.into(), value)
            }

            fn end(self) -> Outcome {
                within(self.variant, self.dict)
            }
        })*
    };
}

serialize_fields!(SerializeStruct, SerializeStructVariant);
