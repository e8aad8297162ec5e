//! What a store asks of the thing that keeps its rows.
//!
//! The unit of storage is the *part*: the head of a record (its key; for a value of another kind than a smart
//! record also the value), or one space of it. A write touches one space, a read is a scan, and collection
//! costs what has expired.
//!
//! **Invariants.** Parts are ordered by the record's XOR distance from the local peer, then by the rank of
//! the space, the head first. So the last part belongs to the record that is farthest away, the first to be
//! evicted, and of a record with too many spaces the last is the first to go.
//!
//! **Spec.** `docs/design.md`, section "Store".

pub(super) mod error;
pub(super) mod usage;

use std::{borrow::Cow, fmt, sync::Arc};

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

pub(super) use self::{
    error::{OtherPeer, RowFault, StorageError},
    usage::Usage,
};
use smart_record_core::{RecordKey, Timestamp};

/// A record, named by its XOR distance from the local peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 32]);

/// A space within its record, named by its rank `sha256(key ‖ writer)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub [u8; 32]);

impl SpaceId {
    /// Not a space, but the head of the record.
    pub const HEAD: Self = Self([0; 32]);
    /// The last there can be.
    pub const MAX: Self = Self([0xff; 32]);

    /// The one before.
    pub(super) fn before(self) -> Option<Self> {
        step(self.0, |byte| byte.overflowing_sub(1)).map(Self)
    }
}

/// The next or the previous id, counted as a big-endian number.
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

/// A part of a record.
#[derive(Clone, Copy, Debug, Hash, PartialOrd, PartialEq, Eq, Ord)]
pub struct PartId {
    /// Of which record.
    pub record: RecordId,
    /// Which space of it, or its head.
    pub space: SpaceId,
}

impl PartId {
    /// Before every part.
    pub const MIN: Self = Self { record: RecordId([0; 32]), space: SpaceId::HEAD };
    /// After every part.
    pub const MAX: Self = Self { record: RecordId([0xff; 32]), space: SpaceId::MAX };
}

impl RecordId {
    /// The id of `key`'s record in the store of the peer `local`.
    pub fn new(local: &PeerId, key: &RecordKey) -> Self {
        Self::at(&Self::place(local), key)
    }

    /// Where a peer stands among the digests of keys.
    pub(super) fn place(local: &PeerId) -> [u8; 32] {
        Sha256::digest(local.to_bytes()).into()
    }

    /// The id of `key`'s record in the store of the peer at `place`.
    pub(super) fn at(place: &[u8; 32], key: &RecordKey) -> Self {
        let mut distance = key.digest();
        for (byte, other) in distance.iter_mut().zip(place) {
            *byte ^= other;
        }
        Self(distance)
    }

    /// The one before.
    pub(super) fn before(self) -> Option<Self> {
        step(self.0, |byte| byte.overflowing_sub(1)).map(Self)
    }

    /// The one after.
    pub(super) fn after(self) -> Option<Self> {
        step(self.0, |byte| byte.overflowing_add(1)).map(Self)
    }

    /// The head of the record.
    pub const fn head(self) -> PartId {
        self.part(SpaceId::HEAD)
    }

    /// A part of the record.
    pub const fn part(self, space: SpaceId) -> PartId {
        PartId { record: self, space }
    }
}

fn short(f: &mut fmt::Formatter<'_>, id: &[u8; 32]) -> fmt::Result {
    id.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
}

/// By its beginning, which tells records apart.
impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, &self.0)
    }
}

/// By its beginning, which tells spaces apart.
impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(f, &self.0)
    }
}

/// The row of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its bytes, of which the storage need not know anything.
    pub bytes: Cow<'a, [u8]>,
    /// When there is something in it to collect; under this instant the part stands in the expiry index.
    pub due_at: Option<Timestamp>,
    /// When the last of it expires.
    pub expires_at: Option<Timestamp>,
}

/// A change of one row. It is exhaustive, because a storage has to carry out every kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes the row, new or not.
    Set(PartId, Part<'static>),
    /// Removes the row, if it is there.
    Remove(PartId),
    /// Sets a tally; one of nothing takes no room.
    Tally(TallyId, Tally),
    /// Writes a note, or removes it.
    Note(Vec<u8>, Option<Vec<u8>>),
}

/// Who or what a tally is kept for, named by the first half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyId(pub [u8; 16]);

/// How much someone or something has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    /// Rows.
    pub count: u64,
    /// The bytes of these rows, [`Usage::ROW`] added for each.
    pub bytes: u64,
}

/// A row that a storage has found to be bad on reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which.
    pub id: PartId,
    /// What was in it; `None` if that cannot be told.
    pub part: Option<Part<'static>>,
    /// How many bytes that is, or seems to be.
    pub bytes: usize,
    /// Why.
    pub fault: RowFault,
    /// What is good of it.
    pub rest: Option<Part<'static>>,
}

/// What a check says about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is good.
    Good,
    /// It has expired, and nobody has looked whether it was good. It may be given out, because who reads it hides
    /// what has expired, but it is to be checked again the next time.
    Expired,
    /// Only a part of it is.
    Partly(Part<'static>, RowFault),
    /// Nothing of it is.
    Bad(RowFault),
}

/// Looks at rows that an earlier process has written: they may be older than the rules of this one.
pub trait RowCheck: Send + Sync + 'static {
    /// What is to be thought of a row; for one that is not a head, `head` is that of its record, if there is one.
    fn check(&self, id: &PartId, part: &Part<'_>, head: Option<&Part<'_>>) -> Verdict;
}

/// Notes by their names, in ascending order.
pub type Notes = Vec<(Vec<u8>, Vec<u8>)>;

/// An iterator over parts in ascending order.
pub type Parts<'a> = Box<dyn Iterator<Item = Result<(PartId, Part<'a>), StorageError>> + 'a>;

/// Keeps the parts of records, in order, with an index by expiry; and beside them tallies, of which there may be
/// as many as parts, and notes, which are few.
///
/// What is applied is visible at once; what is committed is kept. A storage that writes to a disk may put off
/// the former's writing until the latter.
pub trait Storage: Send + 'static {
    /// A part.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError>;

    /// The parts from `from` on, in ascending order.
    fn scan(&self, from: &PartId) -> Parts<'_>;

    /// As [`scan`](Self::scan), for parts that are to be removed: none of them is checked for that. By default it is the
    /// same.
    fn scan_unchecked(&self, from: &PartId) -> Parts<'_> {
        self.scan(from)
    }

    /// The last part at or before `up_to`.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError>;

    /// At most `max` parts that are due at `now`, the longest due first. This must not cost more than what it
    /// returns.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError>;

    /// A tally; nothing if it was never set.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError>;

    /// All notes, in the order of their names.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    fn notes(&self) -> Result<Notes, StorageError>;

    /// Makes all of these changes, in this order, or none.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be made.
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError>;

    /// Makes what has been applied last as long as the storage promises that anything does.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot; then nothing that was applied since the last commit is there any more.
    fn commit(&mut self) -> Result<(), StorageError>;

    /// How much is stored: the parts, without tallies and notes.
    fn usage(&self) -> Usage;

    /// Hands the storage to a store: called once, before anything else. `local` is the peer by
    /// whose distance the parts are ordered; `check` is asked about each part that was written
    /// before the storage was opened, before it is given out for the first time. By default any
    /// peer will do, and no part is older than the storage.
    ///
    /// # Errors
    /// [`OtherPeer`] if the parts belong to another peer.
    fn attach(&mut self, _local: PeerId, _check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        Ok(())
    }

    /// The rows that were found to be bad since this was last asked. They are no longer given out, but they are
    /// there until someone removes them. By default there are none.
    fn take_rejected(&mut self) -> Vec<Rejected> {
        Vec::new()
    }
}
