//! Spaces in their wire form, read without decoding. Most incoming updates are already stored byte
//! for byte, and this module finds them cheaply.
//!
//! **Invariants.** The input is untrusted. Bytes that are not a space have no public key and no
//! updates.
//!
//! **Spec.** `proto/smart_record.proto`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::{
    extensions::Extensions,
    incoming::{Incoming, is_empty_replace},
    stamp::EvictionOrder,
    writer::{Writer, WriterError, decoding_work, verification_work},
};
use crate::{
    key::RecordKey,
    proto::smart_record as proto,
    protobuf::Fields,
    signatures::{hashing, times},
};

/// `SmartRecord.spaces`, `Space.public_key`, `Space.updates`, `SignedUpdate.update` and
/// `SignedUpdate.signature`.
const RECORD_SPACES: u32 = 1;
const SPACE_PUBLIC_KEY: u32 = 1;
const SPACE_UPDATES: u32 = 2;
const SIGNED_UPDATE: u32 = 1;
const SIGNED_SIGNATURE: u32 = 2;
/// A signed update has more bytes than this, whatever the type of its key.
const LEAST_SIGNED: usize = 64;

/// A space in its wire form, as in a record and in a store. See
/// [`Space::encode`](super::Space::encode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedSpace<'a>(&'a [u8]);

impl<'a> EncodedSpace<'a> {
    /// A view of these bytes as a space. The bytes are not checked.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The first space of an encoded record, and the bytes after it. `None` if the record does not
    /// begin with a space.
    pub fn split_first(record: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields(record);
        let (tag, space) = fields.next()?;
        (tag == RECORD_SPACES).then_some((Self(space), fields.0))
    }

    /// The spaces of an encoded record, up to the first field that is not length-delimited.
    pub fn all(record: &'a [u8]) -> impl Iterator<Item = Self> {
        Fields(record).filter(|(tag, _)| *tag == RECORD_SPACES).map(|(_, space)| Self(space))
    }

    /// The bytes.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The public key field at the start; empty if there is none. It may be invalid.
    pub fn public_key(self) -> &'a [u8] {
        match Fields(self.0).next() {
            Some((SPACE_PUBLIC_KEY, key)) => key,
            _ => &[],
        }
    }

    /// The writer that the space names.
    ///
    /// # Errors
    /// [`WriterError`] if its public key is invalid.
    pub fn writer(self) -> Result<Writer, WriterError> {
        Writer::decode(Bytes::copy_from_slice(self.public_key()))
    }

    /// The [`Writer::rank`] of the writer that the space names.
    pub fn rank(self, key: &RecordKey) -> [u8; 32] {
        Writer::rank_of(self.public_key(), key)
    }

    /// The number of updates.
    pub fn update_count(self) -> usize {
        self.updates().count()
    }

    /// Whether the space is withdrawn, as [`Space::is_withdrawn`](super::Space::is_withdrawn).
    /// Bytes that cannot be read are not.
    pub fn is_withdrawn(self) -> bool {
        let mut updates = self.updates();
        let (Some(only), None) = (updates.next(), updates.next()) else {
            return false;
        };
        matches!(Fields(only).next(), Some((SIGNED_UPDATE, update)) if is_withdrawal(update))
    }

    /// Its place in the order of eviction, as
    /// [`Space::eviction_order`](super::Space::eviction_order).
    pub fn eviction_order(self, rank: [u8; 32], min_bits: u8) -> EvictionOrder {
        let updates = self.updates().filter_map(|signed| match Fields(signed).next() {
            Some((SIGNED_UPDATE, update)) => Some(update),
            _ => None,
        });
        EvictionOrder::of(updates, rank, min_bits)
    }

    /// An upper bound of the work of decoding the public key and verifying the updates once each,
    /// in a record whose spaces have at most `max_updates`. Bytes that are too short for a signed
    /// update are not counted: they can only be bad, and at most
    /// [16](crate::MAX_BAD_SIGNATURES) bad ones are verified.
    pub fn work(self, max_updates: usize) -> Duration {
        let count = self.signed_count().min(max_updates);
        self.decoding_work().saturating_add(times(self.signature_work(), count))
    }

    /// The work of decoding the public key.
    pub fn decoding_work(self) -> Duration {
        decoding_work(self.public_key())
    }

    /// An upper bound of the work of verifying one of the updates; see
    /// [`verification_work`](crate::verification_work).
    pub fn signature_work(self) -> Duration {
        match verification_work(self.public_key(), self.0.len()) {
            Duration::ZERO => Duration::ZERO,
            work => work.saturating_add(hashing(self.0.len())),
        }
    }

    /// The number of updates that are long enough to be signed.
    pub fn signed_count(self) -> usize {
        self.updates().filter(|update| update.len() > LEAST_SIGNED).count()
    }

    /// Whether all incoming updates are in the space, byte for byte. Always `false` for verified
    /// updates, which are not compared, and for bytes that cannot be read.
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

/// Whether an encoded update is a replace with an empty document.
fn is_withdrawal(update: &[u8]) -> bool {
    // An update without a document has at most four other fields and the extension fields.
    update.len() <= 64 + Extensions::MAX_BYTES
        && proto::Update::decode(update).is_ok_and(|update| is_empty_replace(&update))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn space(public_key: Vec<u8>, updates: usize, bytes: usize) -> Vec<u8> {
        let update = proto::SignedUpdate { update: vec![1; bytes].into(), ..Default::default() };
        let updates = vec![update; updates];
        proto::Space { public_key: public_key.into(), updates }.encode_to_vec()
    }

    #[test]
    fn what_is_refused_before_it_is_verified_is_no_work() {
        let max = Limits::default().updates_per_space();
        let of = |space: &[u8]| EncodedSpace::new(space).work(max);
        // RSA: the data has the stated length.
        let rsa = |data: usize| {
            let mut key = vec![8, 0, 0x12];
            prost::encoding::encode_varint(data as u64, &mut key);
            [key, vec![1; data]].concat()
        };
        assert_eq!(of(&space(rsa(8_000), 3_500, 0)), Duration::ZERO, "too long a key");
        assert_eq!(of(&space(rsa(8_000), 100, 100)), Duration::ZERO, "too long a key");
        assert_eq!(of(&space(vec![8, 9, 0x12, 1, 1], 100, 100)), Duration::ZERO, "no such type");
        assert_eq!(of(&space(vec![1; 36], 100, 100)), Duration::ZERO, "no key");
        let decoding = Duration::from_micros(10);
        assert_eq!(of(&space(rsa(1_000), 3_500, 0)), decoding, "empty updates");
        let [few, many] = [max, 10 * max].map(|count| space(rsa(1_000), count, 100));
        let work = |space| EncodedSpace::new(space).signature_work();
        assert_eq!(of(&few), decoding + times(work(&few), max));
        assert_eq!(of(&many), decoding + times(work(&many), max), "more than a space has");
        assert!(of(&few) > Duration::from_millis(10));
    }
}
