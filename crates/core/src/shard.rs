//! Sharded keys: one topic spread over many keys.
//!
//! A replica keeps at most [`spaces_per_record`](crate::Limits::spaces_per_record) spaces under a
//! key, and the same twenty peers hold all of them. A [`ShardedKey`] spreads the writers of a topic
//! over `2^bits` keys, each held by different peers. A [`ShardedRecord`] combines the records read
//! under these keys.
//!
//! **Invariants.** A writer has one shard of a topic, which depends on the topic and its peer id
//! only. Its spaces under the keys of other shards are not part of the topic. Different topics and
//! different shard counts have different keys.
//!
//! **Spec.** `docs/design.md`, section "Sharded keys".

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use crate::{
    key::RecordKey,
    record::{LimitExceeded, Limits, SmartRecord, Space, View, Writer},
    time::Timestamp,
};

/// The key segment that marks a shard.
const SEGMENT: &str = "shard";

/// A topic whose writers are spread over `2^bits` keys by a hash of their peer ids.
///
/// All writers and readers of a topic must use the same number of bits. The number is part of the
/// keys, so a peer with another number finds no writers instead of half of them. Choose it so that
/// the number of writers divided by `2^bits` is at most three quarters of
/// [`Limits::spaces_per_record`]: then the fullest shard has room too. To let a topic grow, add one
/// bit, which splits each shard in two. During the change readers read both.
///
/// ```
/// use std::time::Duration;
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Limits, RecordKey, ShardedKey, ShardedRecord, SpaceSigner, Timestamp};
///
/// let topic = ShardedKey::new(RecordKey::new("/sr/rooms/stadium"), 4, &Limits::default())?;
/// assert_eq!(topic.keys().len(), 16);
/// assert_eq!(topic.keys().next(), Some(RecordKey::new("/sr/rooms/stadium/shard/16/0")));
///
/// // Write: under the writer's own key.
/// let keypair = Keypair::generate_ed25519();
/// let writer = keypair.public().to_peer_id();
/// let key = topic.key_for(&writer);
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
/// signer.merge(r#"{"seat": 7}"#.parse()?, now, Duration::from_secs(600))?;
///
/// // Read one writer: its key. Read all: the records under every key.
/// let mut board = ShardedRecord::new(topic);
/// board.join(signer.record(now))?;
/// assert!(board.view(now).get(&writer).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardedKey {
    topic: RecordKey,
    bits: u8,
}

/// Why a topic cannot be sharded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// More bits than [`ShardedKey::MAX_BITS`].
    #[error("{got} bits, more than {max}")]
    TooManyBits {
        /// The number of bits requested.
        got: u8,
        /// [`ShardedKey::MAX_BITS`].
        max: u8,
    },
    /// The topic is not a key with a namespace.
    #[error("the topic {topic} has no namespace")]
    NoNamespace {
        /// The topic.
        topic: RecordKey,
    },
    /// The longest key of a shard is too long.
    #[error("the longest key of a shard: {0}")]
    Key(LimitExceeded),
}

impl From<LimitExceeded> for ShardError {
    fn from(error: LimitExceeded) -> Self {
        Self::Key(error)
    }
}

/// The key of a record is not a shard of the topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is not the key of a shard of {topic}")]
pub struct NotAShard {
    /// The topic.
    pub topic: RecordKey,
    /// The key of the record.
    pub key: RecordKey,
}

impl ShardedKey {
    /// The largest number of bits: 65,536 keys, enough for fifty million writers with the default
    /// limits.
    pub const MAX_BITS: u8 = 16;

    /// A topic of `2^bits` shards under the keys `<topic>/shard/<2^bits>/<number>`, with decimal
    /// numbers.
    ///
    /// # Errors
    /// [`ShardError`] if `bits` is more than [`MAX_BITS`](Self::MAX_BITS), the topic has no
    /// namespace, or a key is longer than `limits` allow. Keys are up to 18 bytes longer than the
    /// topic.
    pub fn new(topic: RecordKey, bits: u8, limits: &Limits) -> Result<Self, ShardError> {
        if bits > Self::MAX_BITS {
            return Err(ShardError::TooManyBits { got: bits, max: Self::MAX_BITS });
        }
        if topic.namespace().is_none() {
            return Err(ShardError::NoNamespace { topic });
        }
        let sharded = Self { topic, bits };
        limits.check_key(&sharded.key_at(sharded.count().saturating_sub(1)))?;
        Ok(sharded)
    }

    /// The topic.
    pub const fn topic(&self) -> &RecordKey {
        &self.topic
    }

    /// The number of hash bits that select the shard: there are `2^bits` keys.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The key under which a peer writes. The first bits of `sha256(sha256(topic) ‖ peer id)`
    /// select it, so writers that share a shard of one topic are spread anew in another.
    pub fn key_for(&self, writer: &PeerId) -> RecordKey {
        self.key_at(self.shard_of(writer))
    }

    /// All keys, in numerical order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = RecordKey> {
        (0..self.count()).map(|shard| self.key_at(shard))
    }

    /// Whether a key is one of the [`keys`](Self::keys).
    pub fn contains(&self, key: &RecordKey) -> bool {
        let number = key.as_bytes().strip_prefix(&self.prefix()[..]);
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        // Refuses other forms of the number, such as leading zeros.
        number.is_some_and(|shard| shard < self.count() && self.key_at(shard) == *key)
    }

    fn shard_of(&self, writer: &PeerId) -> u32 {
        let hash = Sha256::new().chain_update(self.topic.digest()).chain_update(writer.to_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = hash;
        // With zero bits all 32 are shifted out, so there is one shard.
        let unused = u32::BITS.saturating_sub(u32::from(self.bits));
        u32::from_be_bytes([a, b, c, d]).checked_shr(unused).unwrap_or(0)
    }

    /// The number of shards.
    const fn count(&self) -> u32 {
        // `bits` is at most `MAX_BITS`, which is less than 32.
        1_u32.wrapping_shl(self.bits as u32)
    }

    fn key_at(&self, shard: u32) -> RecordKey {
        let mut key = self.prefix();
        key.extend_from_slice(shard.to_string().as_bytes());
        RecordKey::new(key)
    }

    fn prefix(&self) -> Vec<u8> {
        [self.topic.as_bytes(), format!("/{SEGMENT}/{}/", self.count()).as_bytes()].concat()
    }
}

/// The records read under the keys of a sharded topic, combined.
///
/// See [`ShardedKey`] for an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedRecord {
    key: ShardedKey,
    shards: BTreeMap<RecordKey, SmartRecord>,
}

impl ShardedRecord {
    /// A topic without records.
    pub const fn new(key: ShardedKey) -> Self {
        Self { key, shards: BTreeMap::new() }
    }

    /// The sharded key of the topic.
    pub const fn key(&self) -> &ShardedKey {
        &self.key
    }

    /// Joins a record read under one of the keys, or a part of one. Skips the spaces of writers
    /// that belong to another shard, so that each writer appears once. Returns the number of spaces
    /// skipped.
    ///
    /// # Errors
    /// [`NotAShard`] if the key of the record is not one of the topic's keys.
    pub fn join(&mut self, record: SmartRecord) -> Result<usize, NotAShard> {
        let key = record.key();
        if !self.key.contains(key) {
            return Err(NotAShard { topic: self.key.topic.clone(), key: key.clone() });
        }
        let known = self.shards.entry(key.clone());
        let known = known.or_insert_with(|| SmartRecord::new(key.clone()));
        let mut left_out = 0_usize;
        for (writer, space) in record.spaces() {
            if self.key.key_for(&writer.peer_id()) == *key {
                known.join_space(writer.clone(), space.clone());
            } else {
                left_out = left_out.saturating_add(1);
            }
        }
        Ok(left_out)
    }

    /// The record joined so far under one of the keys.
    pub fn shard(&self, key: &RecordKey) -> Option<&SmartRecord> {
        self.shards.get(key)
    }

    /// The spaces of all writers, shard by shard.
    pub fn spaces(&self) -> impl Iterator<Item = (&Writer, &Space)> {
        self.shards.values().flat_map(SmartRecord::spaces)
    }

    /// The view of all shards at `now`, as of one record.
    pub fn view(&self, now: Timestamp) -> View {
        self.spaces()
            .filter_map(|(writer, space)| Some((writer.clone(), space.view(now)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(bits: u8) -> ShardedKey {
        ShardedKey::new("/sr/rooms/lobby".into(), bits, &Limits::default()).unwrap()
    }

    fn peer(byte: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x12, 0x20], &[byte; 32][..]].concat()).unwrap()
    }

    /// The expected values were computed with Python's hashlib.
    #[test]
    fn the_shards_of_writers_are_stable() {
        for (writer, shards) in VECTORS {
            for (bits, shard) in [0, 1, 4, 10, 16].into_iter().zip(shards) {
                let expected = format!("/sr/rooms/lobby/shard/{}/{shard}", 1_u32 << bits);
                assert_eq!(topic(bits).key_for(&peer(writer)), RecordKey::new(expected));
            }
        }
    }

    const VECTORS: [(u8, [u16; 5]); 5] = [
        (0, [0, 0, 6, 436, 27_950]),
        (1, [0, 0, 2, 151, 9720]),
        (2, [0, 0, 3, 230, 14_731]),
        (7, [0, 0, 0, 55, 3538]),
        (255, [0, 1, 11, 739, 47_342]),
    ];

    #[test]
    fn only_its_own_keys_belong_to_a_topic() {
        let keys: Vec<_> = topic(4).keys().collect();
        assert_eq!(keys.len(), 16);
        assert!(keys.iter().all(|key| topic(4).contains(key)));
        for bits in [0, 3, 5, 16] {
            assert!(!keys.iter().any(|key| topic(bits).contains(key)));
        }
        for key in [
            "/sr/rooms/lobby",
            "/sr/rooms/lobby/shard/16/",
            "/sr/rooms/lobby/shard/16/16",
            "/sr/rooms/lobby/shard/16/01",
            "/sr/rooms/lobby/shard/16/+1",
            "/sr/rooms/lobby/shard/16/-1",
            "/sr/rooms/lobby/shard/16/1/",
            "/sr/rooms/lobby/shard/16/99999",
            "/sr/rooms/other/shard/16/1",
        ] {
            assert!(!topic(4).contains(&key.into()), "{key}");
        }
    }

    #[test]
    fn what_would_not_work_is_refused() {
        let limits = Limits::default();
        let sharded = |topic: &str, bits| ShardedKey::new(topic.into(), bits, &limits);
        assert_eq!(sharded("/sr/a", 17), Err(ShardError::TooManyBits { got: 17, max: 16 }));
        assert_eq!(sharded("/sr/a", 16).unwrap().keys().len(), 65_536);
        assert_eq!(sharded("/sr/a", 0).unwrap().keys().len(), 1);
        assert_eq!(sharded("/sr", 1), Err(ShardError::NoNamespace { topic: "/sr".into() }));
        let longest = format!("/sr/{}", "k".repeat(256 - 4 - "/shard/65536/65535".len()));
        assert!(sharded(&longest, 16).is_ok());
        assert!(matches!(sharded(&format!("{longest}k"), 16), Err(ShardError::Key(_))));
        assert!(sharded(&format!("{longest}k"), 4).is_ok());
    }
}
