//! The interface between a store and the storage of its rows.
//!
//! The unit of storage is the *part*: the head of a record, or one of its spaces. The head has the
//! key of the record; for a value of another kind than a smart record it also has the value. A
//! write touches one space, a read is a scan, and collecting costs as much as there is expired
//! data.
//!
//! **Invariants.** Parts are ordered by the record's XOR distance from the local peer, then by the
//! rank of the space, the head first. In a record with too many spaces, the last space is the first
//! to be evicted.
//!
//! **Spec.** `docs/design.md`, section "Store".

pub(super) mod error;
pub(super) mod fields;
pub(super) mod usage;

use std::{borrow::Cow, fmt, ops::RangeInclusive, sync::Arc};

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

pub(super) use self::{
    error::{OtherPeer, RowFault, StorageError},
    usage::Usage,
};
use smart_record_core::{RecordKey, RingArc, Timestamp};

/// Id of a record: its XOR distance from the local peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 32]);

/// Id of a space within its record: its rank `sha256(key ‖ writer)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub [u8; 32]);

impl SpaceId {
    /// The head of the record. Not a space.
    pub const HEAD: Self = Self([0; 32]);
    /// The greatest id.
    pub const MAX: Self = Self([0xff; 32]);

    /// The least id at a place of the ring of ranks.
    pub(super) fn at(place: u64) -> Self {
        let mut id = [0; 32];
        for (byte, of_place) in id.iter_mut().zip(place.to_be_bytes()) {
            *byte = of_place;
        }
        Self(id)
    }

    /// The place on the ring of ranks.
    pub(super) const fn place(self) -> u64 {
        RingArc::place(&self.0)
    }

    /// The previous id.
    pub(super) fn before(self) -> Option<Self> {
        step(self.0, |byte| byte.overflowing_sub(1)).map(Self)
    }
}

/// The next or the previous id, as a big-endian number.
fn step(mut id: [u8; 32], by_one: impl Fn(u8) -> (u8, bool)) -> Option<[u8; 32]> {
    for byte in id.iter_mut().rev() {
        let (next, carry) = by_one(*byte);
        *byte = next;
        if !carry {
            return Some(id);
        }
    }
    None
}

/// Id of a part of a record.
#[derive(Clone, Copy, Debug, Hash, PartialOrd, PartialEq, Eq, Ord)]
pub struct PartId {
    /// The record.
    pub record: RecordId,
    /// The space, or [`SpaceId::HEAD`].
    pub space: SpaceId,
}

impl PartId {
    /// The least id.
    pub const MIN: Self = Self { record: RecordId([0; 32]), space: SpaceId::HEAD };
    /// The greatest id.
    pub const MAX: Self = Self { record: RecordId([0xff; 32]), space: SpaceId::MAX };
    /// All ids.
    pub const ALL: RangeInclusive<Self> = Self::MIN..=Self::MAX;
}

impl RecordId {
    /// The id of `key`'s record in the store of the peer `local`.
    pub fn new(local: &PeerId, key: &RecordKey) -> Self {
        Self::at(&Self::place(local), key)
    }

    /// The digest of a peer, from which the distances of keys are measured.
    pub(super) fn place(local: &PeerId) -> [u8; 32] {
        Sha256::digest(local.to_bytes()).into()
    }

    /// The id of `key`'s record in the store of the peer whose digest is `place`.
    pub(super) fn at(place: &[u8; 32], key: &RecordKey) -> Self {
        let mut distance = key.digest();
        for (byte, other) in distance.iter_mut().zip(place) {
            *byte ^= other;
        }
        Self(distance)
    }

    /// The next id.
    pub(super) fn after(self) -> Option<Self> {
        step(self.0, |byte| byte.overflowing_add(1)).map(Self)
    }

    /// The id of the record's head.
    pub const fn head(self) -> PartId {
        self.part(SpaceId::HEAD)
    }

    /// The id of a part of the record.
    pub const fn part(self, space: SpaceId) -> PartId {
        PartId { record: self, space }
    }

    /// The ids of all parts of the record.
    pub const fn parts(self) -> RangeInclusive<PartId> {
        self.head()..=self.part(SpaceId::MAX)
    }
}

fn short(f: &mut fmt::Formatter<'_>, id: &[u8; 32]) -> fmt::Result {
    id.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
}

/// Shows the first four bytes.
impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, &self.0)
    }
}

/// Shows the first four bytes.
impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, &self.0)
    }
}

/// The row of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The bytes, which are opaque to the storage.
    pub bytes: Cow<'a, [u8]>,
    /// When part of it can be collected. The expiry index lists the part under this instant.
    pub due_at: Option<Timestamp>,
    /// When all of it has expired.
    pub expires_at: Option<Timestamp>,
    /// When the part was first stored here: it stays the same when the part is written again. Of
    /// one that has come back after an eviction, later by as long as it was not stored.
    pub stored_at: Timestamp,
    /// Of a space the [digest](smart_record_core::Space::digest) of all updates in the bytes, so
    /// that an answer need not hash them. `None`: it is computed each time.
    pub digest: Option<[u8; 32]>,
}

/// A change of one row, tally or note. The enum is exhaustive, because a storage has to apply every
/// kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes the row, whether it exists or not.
    Set(PartId, Part<'static>),
    /// Removes the row, if it exists.
    Remove(PartId),
    /// Sets a tally. A tally of zero takes no room.
    Tally(TallyId, Tally),
    /// Writes a note; `None` removes it.
    Note(Vec<u8>, Option<Vec<u8>>),
}

/// Id of a tally of a writer or a namespace: the first half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyId(pub [u8; 16]);

/// How much a writer or a namespace has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many rows; for a namespace, how many records.
    pub count: u64,
    /// The bytes of the rows, plus [`Usage::ROW`] for each.
    pub bytes: u64,
}

/// A stored row that was found to be invalid when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRow {
    /// The id of the row.
    pub id: PartId,
    /// The part in it; `None` if it cannot be decoded.
    pub part: Option<Part<'static>>,
    /// The size of the part in bytes, or an estimate.
    pub bytes: usize,
    /// Why it is invalid.
    pub fault: RowFault,
    /// The valid rest of it.
    pub rest: Option<Part<'static>>,
}

/// The result of checking a row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowVerdict {
    /// The row is valid.
    Good,
    /// The row has expired and was not verified. It may be given out, because readers skip what has
    /// expired, but it is checked again the next time.
    Expired,
    /// Only the given part of the row is valid.
    Partly(Part<'static>, RowFault),
    /// The row is a space whose record has no head that can be read, so it cannot be verified. It
    /// is not returned, and stays: it is checked again the next time.
    Headless,
    /// The row is invalid.
    Bad(RowFault),
}

/// Checks rows that an earlier process has written, perhaps under other rules.
pub trait RowCheck: Send + Sync + 'static {
    /// Checks a row. If it is a space, `head` is the head of its record, if there is one.
    fn check(&self, id: &PartId, part: &Part<'_>, head: Option<&Part<'_>>) -> RowVerdict;
}

/// Names and values of notes, in ascending order of the names.
pub type Notes = Vec<(Vec<u8>, Vec<u8>)>;

/// An iterator over parts in ascending order.
pub type Parts<'a> = Box<dyn Iterator<Item = Result<(PartId, Part<'a>), StorageError>> + 'a>;

/// Ordered storage of parts, with an index by expiry. It also holds tallies, of which there may be
/// as many as parts, and notes: one for each provider record of the local node, and for each
/// eviction that is remembered ([`StoreConfig::max_remembered`](crate::store::StoreConfig)).
///
/// Applied changes are visible at once; committed changes are durable. A storage on disk may write
/// applied changes as late as the commit.
pub trait Storage: Send + 'static {
    /// Returns a part.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError>;

    /// Returns the parts in a range, in ascending order; none if it ends before it begins.
    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_>;

    /// As [`scan`](Self::scan), but without checking the parts, for parts that will be removed.
    /// Defaults to `scan`.
    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.scan(range)
    }

    /// Returns the id of the last part at or before `up_to`.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError>;

    /// Returns at most `max` parts that are due at `now`, the earliest first. The cost must be
    /// proportional to what it returns.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError>;

    /// Returns a tally, zero if it was never set.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError>;

    /// Whether what is committed is there after a restart. If not, the store writes no notes that
    /// only matter then.
    fn is_durable(&self) -> bool;

    /// Returns all notes, in ascending order of their names.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    fn notes(&self) -> Result<Notes, StorageError>;

    /// Applies all of these changes, in this order, or none.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be applied.
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError>;

    /// Commits the changes applied since the last commit. How durable they are then depends on the
    /// storage.
    ///
    /// # Errors
    /// [`StorageError`] if it fails; then the changes applied since the last commit are gone.
    fn commit(&mut self) -> Result<(), StorageError>;

    /// How much is stored: the parts, without tallies and notes.
    fn usage(&self) -> Usage;

    /// Attaches the storage to a store: called once, before anything else. `local` is the peer from
    /// which distances are measured. The storage calls `check` for each part that was written
    /// before it was opened, before it returns the part for the first time. A storage that nothing
    /// survives has nothing to do.
    ///
    /// # Errors
    /// [`OtherPeer`] if the storage belongs to another peer.
    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer>;

    /// Whether the storage is behind, so that applying changes would have to wait. A store then
    /// refuses what other peers write.
    fn is_behind(&self) -> bool;

    /// Takes the rows that were found to be invalid since the last call. They are no longer
    /// returned, but stay stored until they are removed.
    fn take_rejected(&mut self) -> Vec<InvalidRow>;
}
