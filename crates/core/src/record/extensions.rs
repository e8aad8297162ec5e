//! Extension fields: fields of an update reserved for later versions.
//!
//! An update may have the fields 16 to 31, of which 16 is the [stamp](super::Stamp). A version that
//! does not know a field keeps and sends it verbatim. The signature covers it. A field with any
//! other unknown number is refused.
//!
//! **Invariants.** Fields have ascending numbers, each at most once. Together they take at most
//! [`Extensions::MAX_BYTES`].
//!
//! **Spec.** `docs/wire.md`, section "Extension fields".

use std::{collections::BTreeMap, ops::RangeInclusive};

use bytes::Bytes;
use prost::encoding;

use super::limits::{Limit, LimitExceeded};
use crate::protobuf::Fields;

/// The extension fields of an update: a map from field number to bytes.
///
/// ```
/// use smart_record_core::Extensions;
///
/// let extensions = Extensions::new().with(31, *b"more")?;
/// assert_eq!(extensions.get(31), Some(&b"more"[..]));
/// assert!(Extensions::new().with(15, *b"more").is_err());
/// # Ok::<(), smart_record_core::ExtensionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Extensions(BTreeMap<u32, Bytes>);

/// Why bytes are not extension fields, or a field cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// The fields together are too large.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are not extension fields in their canonical form.
    #[error("not the canonical encoding of extension fields")]
    NotCanonical,
    /// The number is not that of an extension field.
    #[error("field {0} is not an extension field; those have the numbers 16 to 31")]
    Number(u32),
}

impl Extensions {
    /// The numbers of extension fields.
    pub const NUMBERS: RangeInclusive<u32> = 16..=31;
    /// The maximum size of all fields in bytes, tags and lengths included.
    pub const MAX_BYTES: usize = 512;

    /// No fields.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets the bytes of a field, which may be empty. Field 16 is the [`Stamp`](crate::Stamp), and
    /// 17 to 31 are reserved for later versions of the wire form: whoever implements none of these
    /// signs no update with them.
    ///
    /// # Errors
    /// [`ExtensionError`] if `number` is not one of [`NUMBERS`](Self::NUMBERS), or the fields would
    /// take more than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn with(mut self, number: u32, bytes: impl Into<Vec<u8>>) -> Result<Self, ExtensionError> {
        if !Self::NUMBERS.contains(&number) {
            return Err(ExtensionError::Number(number));
        }
        self.0.insert(number, bytes.into().into());
        Self::check_len(self.encode().len())?;
        Ok(self)
    }

    /// The bytes of a field.
    pub fn get(&self, number: u32) -> Option<&[u8]> {
        self.0.get(&number).map(|bytes| &bytes[..])
    }

    /// The field numbers and bytes, in ascending order of numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.0.iter().map(|(number, bytes)| (*number, &bytes[..]))
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The encoded fields, as at the end of an update.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for (number, bytes) in &self.0 {
            encoding::bytes::encode(*number, bytes, &mut fields);
        }
        fields
    }

    /// Decodes the bytes after the known fields of an update.
    pub(super) fn decode(rest: &[u8]) -> Result<Self, ExtensionError> {
        let fields = Fields(rest).filter(|(number, _)| Self::NUMBERS.contains(number));
        let fields = Self(fields.map(|(n, bytes)| (n, Bytes::copy_from_slice(bytes))).collect());
        // This comparison checks numbers, order, duplicates and shortest form at once.
        if fields.encode() != rest {
            return Err(ExtensionError::NotCanonical);
        }
        Self::check_len(rest.len())?;
        Ok(fields)
    }

    fn check_len(len: usize) -> Result<(), LimitExceeded> {
        Limit::EXTENSION_BYTES.check(len, Self::MAX_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An encoded field.
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        encoding::bytes::encode(number, &bytes.to_vec(), &mut field);
        field
    }

    #[test]
    fn fields_come_back_as_they_were() {
        let extensions =
            Extensions::new().with(31, *b"z").unwrap().with(16, *b"").unwrap().with(20, *b"b");
        let extensions = extensions.unwrap();
        let bytes = extensions.encode();
        assert_eq!(bytes, [field(16, b""), field(20, b"b"), field(31, b"z")].concat());
        assert_eq!(Extensions::decode(&bytes), Ok(extensions.clone()));
        assert_eq!(extensions.get(16), Some(&b""[..]));
        assert_eq!(extensions.get(17), None);
    }

    #[test]
    fn other_forms_are_refused() {
        let (a, b) = (field(16, b"a"), field(17, b"b"));
        let mut padded = a.clone();
        padded.splice(2..3, [0x81, 0x00]);
        for bad in [
            [&b[..], &a].concat(),
            [&a[..], &a].concat(),
            field(6, b"a"),
            field(15, b"a"),
            field(32, b"a"),
            [&a[..], &field(32, b"a")].concat(),
            // Field 16 as a varint, as four bytes, and with a length that is not shortest.
            vec![0x80, 0x01, 0x01],
            vec![0x85, 0x01, 1, 2, 3, 4],
            padded,
            // Truncated.
            a[..a.len() - 1].to_vec(),
        ] {
            assert_eq!(Extensions::decode(&bad), Err(ExtensionError::NotCanonical), "{bad:x?}");
        }
    }

    #[test]
    fn together_they_take_512_bytes() {
        // The tag and the length take two bytes each.
        let half = Extensions::new().with(16, [0; 252]).unwrap();
        let full = half.clone().with(17, [0; 252]).unwrap();
        assert_eq!(full.encode().len(), 512);
        assert_eq!(Extensions::decode(&full.encode()), Ok(full));
        let limit = LimitExceeded::new(Limit::EXTENSION_BYTES, 513, 512);
        assert_eq!(half.with(17, [0; 253]), Err(limit.clone().into()));
        let over = [field(16, &[0; 252]), field(17, &[0; 253])].concat();
        assert_eq!(Extensions::decode(&over), Err(limit.into()));
    }
}
