//! Chunks: splits large records. Any subset of a record is a record.
//!
//! **Invariants.** A chunk is an encoded `SmartRecord` of at most the given size. A larger single
//! update gets a chunk of its own. A space that fits into a chunk stays whole. A larger space is
//! split, newest updates first, so that its first chunk has the newest.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use prost::Message;

use crate::proto::smart_record as proto;

/// The tag of `SmartRecord.spaces`.
const SPACES: u32 = 1;

/// Collects encoded spaces up to a maximum size.
struct Chunk {
    max: usize,
    bytes: Vec<u8>,
}

impl Chunk {
    fn new(max: usize, capacity: usize) -> Self {
        Self { max, bytes: Vec::with_capacity(capacity.min(max)) }
    }

    const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds an encoded space if it fits.
    fn push(&mut self, space: &[u8]) -> bool {
        let fits = self.fits(space.len());
        if fits {
            self.append(space);
        }
        fits
    }

    /// Adds as many updates of the space as fit, newest first, after the first `sent`; at least one
    /// if the chunk is empty. Returns the new number of updates sent.
    fn push_part(&mut self, space: &proto::Space, sent: usize) -> usize {
        let mut part = proto::Space { public_key: space.public_key.clone(), updates: Vec::new() };
        let mut size = part.encoded_len();
        for update in space.updates.iter().rev().skip(sent) {
            let with = size.saturating_add(framed_len(update.encoded_len()));
            let only = self.is_empty() && part.updates.is_empty();
            if !only && !self.fits(with) {
                break;
            }
            size = with;
            part.updates.push(update.clone());
        }
        part.updates.reverse();
        if !part.updates.is_empty() {
            self.append(&part.encode_to_vec());
        }
        sent.saturating_add(part.updates.len())
    }

    fn fits(&self, space_len: usize) -> bool {
        self.bytes.len().saturating_add(framed_len(space_len)) <= self.max
    }

    fn append(&mut self, space: &[u8]) {
        prost::encoding::encode_key(
            SPACES,
            prost::encoding::WireType::LengthDelimited,
            &mut self.bytes,
        );
        let len = u64::try_from(space.len()).unwrap_or(u64::MAX);
        prost::encoding::encode_varint(len, &mut self.bytes);
        self.bytes.extend_from_slice(space);
    }
}

/// The length of a field of `len` bytes with its one-byte tag and its length prefix.
fn framed_len(len: usize) -> usize {
    let varint = prost::encoding::encoded_len_varint(u64::try_from(len).unwrap_or(u64::MAX));
    len.saturating_add(varint).saturating_add(1)
}

/// Iterator that packs encoded spaces into records of bounded size. The caller gives each space a
/// marker.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Chunks, Limits, RecordKey, SpaceSigner, Timestamp};
///
/// let (key, now) = (RecordKey::new("/sr/lobby"), Timestamp::from_millis(1_700_000_000_000));
/// let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
/// signer.merge([("n", 1)].into_iter().collect(), now, std::time::Duration::from_secs(60))?;
/// let record = signer.record(now);
/// let spaces = record.spaces().map(|(writer, space)| (writer, space.encode(writer)));
/// let chunks: Vec<_> = Chunks::new(spaces, 1_024).collect();
/// assert_eq!(chunks, [record.encode()]);
/// # Ok::<(), smart_record_core::SignError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chunks<T, B, I> {
    spaces: I,
    max: usize,
    capacity: usize,
    /// The marker of the first space, if only a part of it is to be sent.
    resume: Option<T>,
    /// The number of updates of the next space already sent, counted from the newest.
    sent: usize,
    /// The space that did not fit whole into the last chunk.
    rest: Option<(T, B)>,
}

impl<T: PartialEq, B: AsRef<[u8]>, I: Iterator<Item = (T, B)>> Chunks<T, B, I> {
    /// Packs the spaces into chunks of at most `max` bytes. A larger single update gets a chunk of
    /// its own.
    pub const fn new(spaces: I, max: usize) -> Self {
        Self { spaces, max, capacity: 0, resume: None, sent: 0, rest: None }
    }

    /// Reserves this many bytes for each chunk, up to the maximum size. By default a chunk grows as
    /// needed.
    #[must_use]
    pub const fn with_capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Skips the `sent` newest updates of the space with the marker `space`, if it is the first
    /// space.
    #[must_use]
    pub fn resume(mut self, space: T, sent: usize) -> Self {
        self.resume = Some(space);
        self.sent = sent;
        self
    }

    /// The start of the next chunk: the marker of a space and the number of its updates already
    /// sent. `None` at the end.
    pub fn position(&self) -> Option<(&T, usize)> {
        self.rest.as_ref().map(|(mark, _)| (mark, self.sent))
    }
}

impl<T: PartialEq, B: AsRef<[u8]>, I: Iterator<Item = (T, B)>> Iterator for Chunks<T, B, I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut chunk = Chunk::new(self.max, self.capacity);
        while let Some((mark, space)) = self.rest.take().or_else(|| self.spaces.next()) {
            if self.resume.take().is_some_and(|first| first != mark) {
                self.sent = 0;
            }
            let whole = self.sent == 0;
            let bytes = space.as_ref();
            if whole && chunk.push(bytes) {
                continue;
            }
            if whole && !chunk.is_empty() && framed_len(bytes.len()) <= self.max {
                self.rest = Some((mark, space));
                break;
            }
            // Our own encoding decodes. If it did not, the space would be skipped.
            let Ok(wire) = proto::Space::decode(bytes) else {
                self.sent = 0;
                continue;
            };
            self.sent = chunk.push_part(&wire, self.sent);
            if self.sent < wire.updates.len() {
                self.rest = Some((mark, space));
                break;
            }
            self.sent = 0;
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

    fn marked(spaces: &[Bytes]) -> impl Iterator<Item = ((), Bytes)> {
        spaces.iter().map(|space| ((), space.clone()))
    }

    #[test]
    fn everything_is_sent_once_in_chunks_that_fit() {
        let spaces = vec![
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
            let chunks: Vec<_> = Chunks::new(marked(&spaces), max).collect();
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
        assert_eq!(Chunks::new(marked(&spaces), 100_000).count(), 1);
        let mut split = Chunks::new(marked(&spaces[1..2]), 600);
        assert_eq!(updates(&split.next().unwrap()), [(2, 403)]);
    }
}
