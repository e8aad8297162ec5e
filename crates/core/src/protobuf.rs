//! Protobuf helpers: the error of a decoder, and a reader of fields without a schema.

use prost::encoding::{self, WireType};

/// Why bytes are not a protobuf message, as the decoder reports it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProtobufError(String);

impl ProtobufError {
    /// Wraps the error of a decoder.
    pub fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Appends a length-delimited field to a message.
pub(crate) fn put_field(tag: u32, field: &[u8], message: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, message);
    encoding::encode_varint(u64::try_from(field.len()).unwrap_or(u64::MAX), message);
    message.extend_from_slice(field);
}

/// The length-delimited fields of a message, up to the first field of another wire type.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, wire_type) = encoding::decode_key(&mut self.0).ok()?;
        if wire_type != WireType::LengthDelimited {
            return None;
        }
        let len = encoding::decode_varint(&mut self.0).ok()?;
        let (field, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some((tag, field))
    }
}
