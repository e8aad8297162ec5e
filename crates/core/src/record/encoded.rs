//! Spaces in their wire form, walked without being decoded: most of what a replica hears it has stored already, byte
//! for byte, and finds that out here.
//!
//! **Invariants.** Nothing is believed. What does not look like a space has no public key and no updates.
//!
//! **Spec.** `proto/smart_record.proto`.

use bytes::Bytes;

use super::{
    incoming::Incoming,
    writer::{Writer, WriterError},
};
use crate::{key::RecordKey, protobuf::Fields};

/// `SmartRecord.spaces`, `Space.public_key`, `Space.updates`, `SignedUpdate.update` and `SignedUpdate.signature`.
const RECORD_SPACES: u32 = 1;
const SPACE_PUBLIC_KEY: u32 = 1;
const SPACE_UPDATES: u32 = 2;
const SIGNED_UPDATE: u32 = 1;
const SIGNED_SIGNATURE: u32 = 2;

/// A space in its wire form, as a record carries it and a store keeps it; see [`Space::encode`](super::Space::encode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedSpace<'a>(&'a [u8]);

impl<'a> EncodedSpace<'a> {
    /// The space that is said to be in these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first space of an encoded record, and what follows it; `None` if it does not begin with one.
    pub fn split_first(record: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields(record);
        let (tag, space) = fields.next()?;
        (tag == RECORD_SPACES).then_some((Self(space), fields.0))
    }

    /// The bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The public key with which it begins; nothing if it does not begin with one. It need not be one.
    pub fn public_key(self) -> &'a [u8] {
        match Fields(self.0).next() {
            Some((SPACE_PUBLIC_KEY, key)) => key,
            _ => &[],
        }
    }

    /// Whose it says it is.
    ///
    /// # Errors
    /// [`WriterError`] if its public key is not one.
    pub fn writer(self) -> Result<Writer, WriterError> {
        Writer::decode(Bytes::copy_from_slice(self.public_key()))
    }

    /// As [`Writer::rank`], of the writer whose it says it is.
    pub fn rank(self, key: &RecordKey) -> [u8; 32] {
        Writer::rank_of(self.public_key(), key)
    }

    /// How many updates are in it.
    pub fn update_count(self) -> usize {
        self.updates().count()
    }

    /// Whether all of these updates are known to be in it, byte for byte; of those that were verified, it is not looked
    /// into. `false` may also mean that it cannot be read.
    pub fn holds(self, incoming: &Incoming) -> bool {
        let Incoming::Unverified(updates) = incoming else {
            return false;
        };
        updates.iter().all(|update| {
            let fields =
                [(SIGNED_UPDATE, &update.update[..]), (SIGNED_SIGNATURE, &update.signature[..])];
            self.updates().any(|signed| Fields(signed).eq(fields))
        })
    }

    fn updates(self) -> impl Iterator<Item = &'a [u8]> {
        Fields(self.0).filter(|(tag, _)| *tag == SPACE_UPDATES).map(|(_, update)| update)
    }
}
