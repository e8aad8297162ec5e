//! Rows in memory.
//!
//! Rows are grouped by record and then ordered by space, so rows that are looked up together are
//! close together, and the heads of a few large boards stay in the processor's cache.
//!
//! **Invariants.** The expiry index holds exactly the rows that have a `due_at`. The usage is that
//! of the rows. Each record has at least one row.

mod spaces;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libp2p_identity::PeerId;

use self::spaces::Spaces;
use super::storage::{
    Change, InvalidRow, OtherPeer, Part, PartId, Parts, RecordId, RowCheck, SpaceId, Storage,
    StorageError, Tally, TallyId, Usage,
};
use smart_record_core::Timestamp;

/// Storage in memory. Its content is lost when the process ends.
#[derive(Default)]
pub struct MemoryStorage {
    records: BTreeMap<RecordId, Rows>,
    due: BTreeSet<(Timestamp, PartId)>,
    usage: Usage,
    tallies: BTreeMap<TallyId, Tally>,
    notes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The rows of one record.
#[derive(Default)]
struct Rows {
    head: Option<Row>,
    spaces: Spaces<Row>,
}

/// An optional instant takes twice as much memory as an instant, so there are flags instead.
struct Row {
    /// The bytes of the part, and its digest, if it has one.
    bytes: Box<[u8]>,
    due_at: Timestamp,
    expires_at: Timestamp,
    stored_at: Timestamp,
    is_due: bool,
    expires: bool,
    has_digest: bool,
}

impl Row {
    fn new(part: Part<'static>) -> Self {
        let Part { bytes, due_at, expires_at, stored_at, digest } = part;
        let bytes = match digest {
            Some(digest) => [&bytes[..], &digest].concat(),
            None => bytes.into_owned(),
        };
        Self {
            bytes: bytes.into_boxed_slice(),
            due_at: due_at.unwrap_or(Timestamp::EPOCH),
            expires_at: expires_at.unwrap_or(Timestamp::EPOCH),
            stored_at,
            is_due: due_at.is_some(),
            expires: expires_at.is_some(),
            has_digest: digest.is_some(),
        }
    }

    fn due_at(&self) -> Option<Timestamp> {
        self.is_due.then_some(self.due_at)
    }

    /// The bytes of the part, and its digest.
    fn content(&self) -> (&[u8], Option<[u8; 32]>) {
        match self.bytes.split_last_chunk() {
            Some((bytes, digest)) if self.has_digest => (bytes, Some(*digest)),
            _ => (&self.bytes, None),
        }
    }

    fn part(&self) -> Part<'_> {
        let (bytes, digest) = self.content();
        Part {
            bytes: Cow::Borrowed(bytes),
            due_at: self.due_at(),
            expires_at: self.expires.then_some(self.expires_at),
            stored_at: self.stored_at,
            digest,
        }
    }
}

impl Rows {
    fn get(&self, space: &SpaceId) -> Option<&Row> {
        match *space {
            SpaceId::HEAD => self.head.as_ref(),
            _ => self.spaces.get(space),
        }
    }

    fn insert(&mut self, space: SpaceId, row: Row) -> Option<Row> {
        match space {
            SpaceId::HEAD => self.head.replace(row),
            _ => self.spaces.insert(space, row),
        }
    }

    fn remove(&mut self, space: &SpaceId) -> Option<Row> {
        match *space {
            SpaceId::HEAD => self.head.take(),
            _ => self.spaces.remove(space),
        }
    }

    fn is_empty(&self) -> bool {
        self.head.is_none() && self.spaces.is_empty()
    }

    /// The rows from `from` on, in ascending order.
    fn range(&self, from: SpaceId) -> impl Iterator<Item = (SpaceId, &Row)> {
        let head = self.head.as_ref().filter(|_| from == SpaceId::HEAD);
        let head = head.map(|row| (SpaceId::HEAD, row));
        head.into_iter().chain(self.spaces.range(from).map(|(space, row)| (*space, row)))
    }

    /// The last space at or before `up_to`.
    fn last(&self, up_to: &SpaceId) -> Option<SpaceId> {
        let space = self.spaces.last(up_to).copied();
        space.or(self.head.as_ref().map(|_| SpaceId::HEAD))
    }
}

impl MemoryStorage {
    fn set(&mut self, id: PartId, part: Part<'static>) {
        let is_head = id.space == SpaceId::HEAD;
        self.usage.add(is_head, part.bytes.len());
        let due_at = part.due_at;
        let old = self.records.entry(id.record).or_default().insert(id.space, Row::new(part));
        if let Some(old) = &old {
            self.usage.subtract(is_head, old.content().0.len());
        }
        let was_due_at = old.and_then(|old| old.due_at());
        if was_due_at != due_at {
            self.forget_due(id, was_due_at);
            self.due.extend(due_at.map(|due_at| (due_at, id)));
        }
    }

    fn remove(&mut self, id: PartId) {
        let Some(rows) = self.records.get_mut(&id.record) else {
            return;
        };
        let row = rows.remove(&id.space);
        if rows.is_empty() {
            self.records.remove(&id.record);
        }
        if let Some(row) = row {
            self.forget_due(id, row.due_at());
            self.usage.subtract(id.space == SpaceId::HEAD, row.content().0.len());
        }
    }

    fn forget_due(&mut self, id: PartId, due_at: Option<Timestamp>) {
        if let Some(due_at) = due_at {
            self.due.remove(&(due_at, id));
        }
    }
}

impl Storage for MemoryStorage {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        let row = self.records.get(&id.record).and_then(|rows| rows.get(&id.space));
        Ok(row.map(Row::part))
    }

    fn scan(&self, from: &PartId) -> Parts<'_> {
        let PartId { record, space } = *from;
        let rest = self.records.range(record..).flat_map(move |(id, rows)| {
            let from = if *id == record { space } else { SpaceId::HEAD };
            rows.range(from).map(|(space, row)| Ok((id.part(space), row.part())))
        });
        Box::new(rest)
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        let mut records = self.records.range(..=up_to.record).rev();
        let last = records.find_map(|(id, rows)| {
            let up_to = if *id == up_to.record { &up_to.space } else { &SpaceId::MAX };
            rows.last(up_to).map(|space| id.part(space))
        });
        Ok(last)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        Ok(self.due.range(..=(now, PartId::MAX)).take(max).map(|(_, id)| *id).collect())
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        Ok(self.tallies.get(id).copied().unwrap_or_default())
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        Ok(self.notes.iter().map(|(name, note)| (name.clone(), note.clone())).collect())
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        for change in changes {
            match change {
                Change::Set(id, part) => self.set(id, part),
                Change::Remove(id) => self.remove(id),
                Change::Tally(id, tally) if tally == Tally::default() => {
                    self.tallies.remove(&id);
                }
                Change::Tally(id, tally) => {
                    self.tallies.insert(id, tally);
                }
                Change::Note(name, Some(note)) => {
                    self.notes.insert(name, note);
                }
                Change::Note(name, None) => {
                    self.notes.remove(&name);
                }
            }
        }
        Ok(())
    }

    /// Does nothing, because nothing is durable.
    fn commit(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    /// Accepts any peer and checks nothing, because nothing survives it.
    fn attach(&mut self, _: PeerId, _: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        Ok(())
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        Vec::new()
    }
}

smart_record_core::impl_debug! { MemoryStorage: |storage| usage: storage.usage }
