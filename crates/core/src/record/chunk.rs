//! Chunks and slices: pieces of large records. Any subset of a record is a record.
//!
//! **Invariants.** A chunk is an encoded `SmartRecord` of at most the given size. A larger single
//! update gets a chunk of its own. A space that fits into a chunk stays whole. A larger space is
//! split, newest updates first, so that its first chunk has the newest.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use prost::Message;

use crate::{proto::smart_record as proto, protobuf::put_field};

/// The tag of `SmartRecord.spaces`.
const SPACES: u32 = 1;

/// A record of bounded size that is filled with encoded spaces.
#[derive(Clone, Debug)]
pub struct Slice {
    max: usize,
    bytes: Vec<u8>,
}

impl Slice {
    /// An empty record of at most `max` bytes, with room reserved for `capacity` of them.
    pub fn new(max: usize, capacity: usize) -> Self {
        Self { max, bytes: Vec::with_capacity(capacity.min(max)) }
    }

    /// Whether nothing was added.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number of bytes left.
    pub const fn room(&self) -> usize {
        self.max.saturating_sub(self.bytes.len())
    }

    /// The encoded record.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an encoded space if it fits. Returns whether it did.
    pub fn push(&mut self, space: &[u8]) -> bool {
        let fits = framed_len(space.len()) <= self.room();
        if fits {
            self.append(space);
        }
        fits
    }

    /// Adds as many updates of a space as fit, after the `sent` newest; at least one if the record
    /// is empty. Begins again if the space has no more than that, because it has changed. Returns
    /// how many of the newest have then been sent, and `None` after the last.
    pub fn push_part(&mut self, space: &[u8], sent: usize) -> Option<usize> {
        // Our own encoding decodes. If it did not, the space would be skipped.
        let space = proto::Space::decode(space).ok()?;
        let sent = if sent < space.updates.len() { sent } else { 0 };
        let mut part = proto::Space { public_key: space.public_key.clone(), updates: Vec::new() };
        let mut size = part.encoded_len();
        for update in space.updates.iter().rev().skip(sent) {
            let with = size.saturating_add(framed_len(update.encoded_len()));
            let only = self.is_empty() && part.updates.is_empty();
            if !only && framed_len(with) > self.room() {
                break;
            }
            size = with;
            part.updates.push(update.clone());
        }
        part.updates.reverse();
        if !part.updates.is_empty() {
            self.append(&part.encode_to_vec());
        }
        let sent = sent.saturating_add(part.updates.len());
        (sent < space.updates.len()).then_some(sent)
    }

    fn append(&mut self, space: &[u8]) {
        put_field(SPACES, space, &mut self.bytes);
    }
}

/// The length of a field of `len` bytes with its one-byte tag and its length prefix.
pub(super) fn framed_len(len: usize) -> usize {
    let varint = prost::encoding::encoded_len_varint(u64::try_from(len).unwrap_or(u64::MAX));
    len.saturating_add(varint).saturating_add(1)
}

/// Iterator that packs encoded spaces into records of bounded size.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Chunks, Limits, RecordKey, SpaceSigner, Timestamp};
///
/// let (key, now) = (RecordKey::new("/sr/lobby"), Timestamp::from_millis(1_700_000_000_000));
/// let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
/// signer.merge([("n", 1)].into_iter().collect(), now, std::time::Duration::from_secs(60))?;
/// let record = signer.record(now);
/// let spaces = record.spaces().map(|(writer, space)| space.encode(writer));
/// let chunks: Vec<_> = Chunks::new(spaces, 1_024).collect();
/// assert_eq!(chunks, [record.encode()]);
/// # Ok::<(), smart_record_core::SignError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chunks<B, I> {
    spaces: I,
    max: usize,
    /// The space that did not fit whole into the last chunk, and how many of its updates were sent.
    rest: Option<(B, usize)>,
}

impl<B: AsRef<[u8]>, I: Iterator<Item = B>> Chunks<B, I> {
    /// Packs the spaces into chunks of at most `max` bytes. A larger single update gets a chunk of
    /// its own.
    pub const fn new(spaces: I, max: usize) -> Self {
        Self { spaces, max, rest: None }
    }
}

impl<B: AsRef<[u8]>, I: Iterator<Item = B>> Iterator for Chunks<B, I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Slice::new(self.max, 0);
        while let Some((space, sent)) =
            self.rest.take().or_else(|| self.spaces.next().map(|space| (space, 0)))
        {
            let bytes = space.as_ref();
            if sent == 0 && chunk.push(bytes) {
                continue;
            }
            if sent == 0 && !chunk.is_empty() && framed_len(bytes.len()) <= self.max {
                self.rest = Some((space, 0));
                break;
            }
            if let Some(sent) = chunk.push_part(bytes, sent) {
                self.rest = Some((space, sent));
                break;
            }
        }
        (!chunk.is_empty()).then_some(chunk.bytes)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn space(writer: u8, updates: &[usize]) -> Bytes {
        proto::Space {
            public_key: vec![writer; 36].into(),
            updates: updates
                .iter()
                .map(|len| proto::SignedUpdate {
                    update: vec![writer; *len].into(),
                    signature: vec![writer; 64].into(),
                })
                .collect(),
        }
        .encode_to_vec()
        .into()
    }

    fn updates(chunk: &[u8]) -> Vec<(u8, usize)> {
        proto::SmartRecord::decode(chunk)
            .unwrap()
            .spaces
            .iter()
            .flat_map(|s| s.updates.iter().map(|u| (s.public_key[0], u.update.len())))
            .collect()
    }

    #[test]
    fn a_space_with_fewer_updates_than_were_sent_is_sent_from_the_beginning() {
        let before = space(1, &[300, 300, 300]);
        let mut slice = Slice::new(500, 500);
        assert_eq!(slice.push_part(&before, 1), Some(2));
        // It was replaced in the meantime, by less.
        for after in [&[310, 320][..], &[320]] {
            let mut slice = Slice::new(500, 500);
            let left = slice.push_part(&space(1, after), 2);
            assert_eq!(left, (after.len() > 1).then_some(1));
            assert_eq!(updates(&slice.into_bytes()), [(1, 320)]);
        }
    }

    #[test]
    fn everything_is_sent_once_in_chunks_that_fit() {
        let spaces = [
            space(1, &[100]),
            space(2, &[400, 401, 402, 403]),
            space(3, &[10]),
            space(4, &[2_000]),
            space(5, &[11, 12]),
        ];
        let all: Vec<_> = spaces
            .iter()
            .flat_map(|s| {
                let s = proto::Space::decode(s.clone()).unwrap();
                let writer = s.public_key[0];
                s.updates.into_iter().map(move |u| (writer, u.update.len()))
            })
            .collect();
        for max in [0, 1, 100, 180, 181, 600, 1_000, 2_200, 100_000] {
            let chunks: Vec<_> = Chunks::new(spaces.iter(), max).collect();
            let sent: Vec<_> = chunks.iter().flat_map(|chunk| updates(chunk)).collect();
            // The newest updates of a split space come first.
            let sorted = |mut updates: Vec<_>| {
                updates.sort_unstable();
                updates
            };
            assert_eq!(sorted(sent), sorted(all.clone()), "max {max}");
            for chunk in &chunks {
                assert!(chunk.len() <= max || updates(chunk).len() == 1, "max {max}");
            }
        }
        assert_eq!(Chunks::new(spaces.iter(), 100_000).count(), 1);
        let mut split = Chunks::new(spaces[1..2].iter(), 600);
        assert_eq!(updates(&split.next().unwrap()), [(2, 403)]);
    }
}
