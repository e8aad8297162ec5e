//! Stamps: optional proof of work of an update, and the order in which spaces are evicted.
//!
//! Keys are free, so nothing else makes a crowd of writers dearer than one. A stamp is found by
//! trying nonces until a hash over the space, the day and the nonce begins with enough zero bits.
//! It counts for all updates that the writer signs under the key with a `seq` of that day, in UTC.
//! So no clock decides whether it is good, and it can be made ahead.
//!
//! **Invariants.** A stamp that is not good is no stamp: the update stays valid. Checking one takes
//! one hash of one block, whatever the key and its type. Work decides which spaces stay when a
//! record has too many, and nothing else.
//!
//! **Spec.** `docs/wire.md`, section "Stamps".

use std::{cmp::Reverse, fmt};

use prost::encoding::{self, WireType};
use sha2::{Digest, Sha256};

use super::seq::Seq;

/// What is hashed begins with this, so that the hash is none of anything else.
const DOMAIN: &[u8; 11] = b"smart-stamp";
const DAY: u64 = 24 * 60 * 60 * 1_000_000;
/// The number of `Update.seq`.
const UPDATE_SEQ: u32 = 1;

/// A proof of work for the updates of one day in a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    bits: u8,
    nonce: [u8; 8],
}

impl Stamp {
    /// The number of its extension field.
    pub const FIELD: u32 = 16;
    /// The length of its extension field in bytes.
    pub const BYTES: usize = 9;

    /// The bytes of its extension field: the claimed bits, then the nonce.
    pub fn encode(self) -> Vec<u8> {
        [&[self.bits][..], &self.nonce].concat()
    }

    /// The stamp in an extension field; `None` if the field has another length.
    pub fn decode(field: &[u8]) -> Option<Self> {
        let (bits, nonce) = field.split_first()?;
        Some(Self { bits: *bits, nonce: nonce.try_into().ok()? })
    }

    /// The bits of work that it claims.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The bits of work that it proves for an update with this `seq` in the space of this
    /// [rank](super::Writer::rank): those that it claims, or none if its hash does not begin with
    /// as many zero bits. Costs one hash.
    pub fn work(self, rank: &[u8; 32], seq: Seq) -> u8 {
        let hash = hash(rank, day_of(seq), self.nonce);
        if leading_zeros(&hash) >= u32::from(self.bits) { self.bits } else { 0 }
    }
}

/// The day of a `seq` since the Unix epoch. It is less than 2^28.
fn day_of(seq: Seq) -> u32 {
    u32::try_from(seq.as_micros() / DAY).unwrap_or(u32::MAX)
}

/// 55 bytes are hashed, which SHA-256 takes in one block.
fn hash(rank: &[u8; 32], day: u32, nonce: [u8; 8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(DOMAIN).chain_update(rank);
    hash.chain_update(day.to_be_bytes()).chain_update(nonce).finalize().into()
}

fn leading_zeros(hash: &[u8; 32]) -> u32 {
    let mut zeros = 0_u32;
    for byte in hash {
        zeros = zeros.saturating_add(byte.leading_zeros());
        if *byte != 0 {
            break;
        }
    }
    zeros
}

/// The bits of work that an encoded update proves; zero if it has no good stamp of at least
/// `min_bits`. Costs no hash if it has none at all, or one that claims less.
pub(super) fn work_of(update: &[u8], rank: &[u8; 32], min_bits: u8) -> u8 {
    let claimed = claimed(update).filter(|(_, stamp)| stamp.bits >= min_bits);
    claimed.map_or(0, |(seq, stamp)| stamp.work(rank, seq))
}

/// The `seq` and the stamp of an encoded update, if it has a field of the form of one.
fn claimed(mut update: &[u8]) -> Option<(Seq, Stamp)> {
    let mut seq = 0;
    while !update.is_empty() {
        let (number, wire_type) = encoding::decode_key(&mut update).ok()?;
        let value = encoding::decode_varint(&mut update).ok()?;
        match wire_type {
            WireType::Varint if number == UPDATE_SEQ => seq = value,
            WireType::Varint => {}
            WireType::LengthDelimited => {
                let (field, rest) = update.split_at_checked(usize::try_from(value).ok()?)?;
                update = rest;
                if number == Stamp::FIELD {
                    return Some((Seq::from_micros(seq), Stamp::decode(field)?));
                }
            }
            _ => return None,
        }
    }
    None
}

/// The stamps of a signer: the one that was set last, and the one before. So the stamp of the next
/// day can be set while that of today is in use.
///
/// ```
/// use smart_record_core::{Seq, StampSearch, Stamps, Timestamp};
///
/// let rank = [7; 32];
/// let [today, tomorrow] = [1_700_000_000_000, 1_700_086_400_000].map(Timestamp::from_millis);
/// let mut stamps = Stamps::default();
/// for day in [today, tomorrow] {
///     stamps.set(StampSearch::new(rank, Seq::next(None, day), 4).step(1_000));
/// }
/// assert_eq!(stamps.work(&rank, Seq::next(None, today)), 4);
/// assert_eq!(stamps.work(&rank, Seq::next(None, tomorrow)), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamps {
    last: Option<Stamp>,
    before: Option<Stamp>,
}

impl Stamps {
    /// No stamps.
    pub const fn new() -> Self {
        Self { last: None, before: None }
    }

    /// Sets a stamp. The one that was set before it stays, and an earlier one goes. `None`: both
    /// go.
    pub fn set(&mut self, stamp: Option<Stamp>) {
        if stamp.is_none() || stamp != self.last {
            self.before = self.last.filter(|_| stamp.is_some());
            self.last = stamp;
        }
    }

    /// The one that proves the most work for an update with this `seq` in the space of this
    /// [rank](super::Writer::rank), if any is good. Costs two hashes.
    pub fn best(&self, rank: &[u8; 32], seq: Seq) -> Option<Stamp> {
        let stamps = self.last.into_iter().chain(self.before);
        let good = stamps.filter(|stamp| stamp.work(rank, seq) > 0);
        good.max_by_key(|stamp| stamp.bits)
    }

    /// The bits of work that the [best](Self::best) one proves; zero if none is good.
    pub fn work(&self, rank: &[u8; 32], seq: Seq) -> u8 {
        self.best(rank, seq).map_or(0, Stamp::bits)
    }
}

/// The place of a space in the order in which spaces that are not withdrawn leave a record with too
/// many of them: the greatest leaves first. The less work leaves first; of equal work, the higher
/// rank. Less work than [`Limits::min_stamp_bits`](crate::Limits::min_stamp_bits) is none here.
///
/// ```
/// use smart_record_core::EvictionOrder;
///
/// let (low, high) = ([1; 32], [2; 32]);
/// assert!(EvictionOrder::new(0, high) > EvictionOrder::new(0, low));
/// assert!(EvictionOrder::new(0, low) > EvictionOrder::new(20, high));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvictionOrder {
    work: Reverse<u8>,
    rank: [u8; 32],
}

impl EvictionOrder {
    /// The place of a space of this [rank](super::Writer::rank) and this work, as far as it counts.
    pub const fn new(work: u8, rank: [u8; 32]) -> Self {
        Self { work: Reverse(work), rank }
    }

    /// The place of a space of these encoded updates. A stamp of less than `min_bits` is none.
    pub(super) fn of<'a>(
        updates: impl Iterator<Item = &'a [u8]>,
        rank: [u8; 32],
        min_bits: u8,
    ) -> Self {
        let work = updates.map(|update| work_of(update, &rank, min_bits)).max();
        Self::new(work.unwrap_or(0), rank)
    }

    /// The bits of work that count.
    pub const fn work(&self) -> u8 {
        self.work.0
    }

    /// The rank.
    pub const fn rank(&self) -> &[u8; 32] {
        &self.rank
    }
}

impl fmt::Debug for EvictionOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits, ", self.work.0)?;
        self.rank.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A search for a stamp, in steps: it can be left between two of them, and shows how far it is.
///
/// ```
/// use smart_record_core::{RecordKey, Seq, StampSearch, Timestamp, Writer};
/// # let keypair = libp2p_identity::Keypair::generate_ed25519();
///
/// let rank = Writer::from(&keypair.public()).rank(&RecordKey::new("/sr/lobby"));
/// let seq = Seq::next(None, Timestamp::from_millis(1_700_000_000_000));
/// let mut search = StampSearch::new(rank, seq, 10);
/// let stamp = loop {
///     if let Some(stamp) = search.step(100) {
///         break stamp;
///     }
///     println!("{} of about {} tries", search.tried(), search.expected());
/// };
/// assert_eq!(stamp.work(&rank, seq), 10);
/// ```
#[derive(Clone, Debug)]
pub struct StampSearch {
    rank: [u8; 32],
    day: u32,
    bits: u8,
    tried: u64,
}

impl StampSearch {
    /// A search for a stamp of this many bits for the updates of the day of `seq`, in UTC, in the
    /// space of this [rank](super::Writer::rank). It takes `2^bits` tries on average.
    pub fn new(rank: [u8; 32], seq: Seq, bits: u8) -> Self {
        Self { rank, day: day_of(seq), bits, tried: 0 }
    }

    /// Makes at most `tries` tries, of one hash each: 0.08 ms for a thousand on a core with SHA
    /// instructions. Returns the stamp once it is found.
    pub fn step(&mut self, tries: u64) -> Option<Stamp> {
        for _ in 0..tries {
            let nonce = self.tried.to_be_bytes();
            self.tried = self.tried.saturating_add(1);
            let zeros = leading_zeros(&hash(&self.rank, self.day, nonce));
            if zeros >= u32::from(self.bits) {
                return Some(Stamp { bits: self.bits, nonce });
            }
        }
        None
    }

    /// How many tries were made.
    pub const fn tried(&self) -> u64 {
        self.tried
    }

    /// How many tries it takes on average.
    pub const fn expected(&self) -> u64 {
        match 1_u64.checked_shl(self.bits as u32) {
            Some(expected) => expected,
            None => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANK: [u8; 32] = [7; 32];

    fn at(micros: u64) -> Seq {
        Seq::from_micros(micros)
    }

    #[test]
    fn a_stamp_counts_for_a_day_and_a_space() {
        let (first, last) = (at(3 * DAY), at(4 * DAY - 1));
        let mut search = StampSearch::new(RANK, first, 12);
        assert_eq!(search.step(0), None);
        let stamp = std::iter::repeat_with(|| search.step(64)).flatten().next().unwrap();
        assert!(search.tried() > 0);
        assert_eq!(search.expected(), 4_096);
        assert_eq!([first, last].map(|seq| stamp.work(&RANK, seq)), [12, 12]);
        assert_eq!([at(3 * DAY - 1), at(4 * DAY)].map(|seq| stamp.work(&RANK, seq)), [0, 0]);
        assert_eq!(stamp.work(&[8; 32], first), 0);
        assert_eq!(Stamp { bits: 60, ..stamp }.work(&RANK, first), 0, "it claims too much");
        assert_eq!(Stamp { bits: 3, ..stamp }.work(&RANK, first), 3, "it claims less");
        assert_eq!(Stamp::decode(&stamp.encode()), Some(stamp));
        assert_eq!(stamp.encode().len(), Stamp::BYTES);
        for field in [&stamp.encode()[1..], &[stamp.encode(), vec![0]].concat(), &[]] {
            assert_eq!(Stamp::decode(field), None);
        }
    }

    #[test]
    fn zeros_are_counted_over_the_whole_hash() {
        for (byte, zeros) in [(0x80, 8), (0x01, 15)] {
            let mut hash = [0xff; 32];
            (hash[0], hash[1]) = (0, byte);
            assert_eq!(leading_zeros(&hash), zeros);
        }
        assert_eq!(leading_zeros(&[0; 32]), 256);
        assert_eq!(StampSearch::new(RANK, at(0), 64).expected(), u64::MAX);
        assert!(day_of(at(u64::MAX)) < 1 << 28);
    }
}
