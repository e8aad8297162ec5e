//! Memory of evictions: what was evicted comes back as it was or newer, never older alone.
//!
//! Without it, evicting a space would undo what its writer has withdrawn or overwritten: a copy of
//! an older update, which anybody may have kept, would be stored again.
//!
//! **Invariants.** The memory belongs to the store and is never sent. An entry is for one space or
//! value, so no entry can refuse anything of another writer or key. The number of entries is
//! bounded. When there are too many, those of parts that had been stored for the shortest time go
//! first: a flood can push out its own entries, and others only after it has been stored for as
//! long as they were. A time in which a part was not stored does not count. Entries are changed in
//! the same step as the rows that they are about, so they are as durable as these.
//!
//! **Spec.** `docs/design.md`, section "Memory of evictions".

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    rows,
    storage::{Change, Part, PartId, SpaceId, StorageError},
};
use crate::proto::storage::{Evicted, Head, Value, head::Body};
use smart_record_core::{Position, RecordKey, Registry, Seq, Space, Timestamp};

const PREFIX: &[u8] = b"evicted/";

/// How many entries are looked at for expired ones for each evicted part when the memory is full,
/// and how many in one step at most. How many of these are removed in one step. Guesses: a full
/// memory is seen once in 3,000 evictions, and a step takes no more than a tenth of a millisecond.
const SWEPT: usize = 32;
const MAX_SWEPT: usize = 1_024;
const REMOVED: usize = 64;
/// How many notes of no use one write removes.
const TIDIED: usize = 256;

/// The name of an entry: a half of the SHA-256 of its record and space.
type EntryId = [u8; 16];

/// A place in the order of the updates of a space: a [`Position`] with the first 8 bytes of the
/// hash. The rest decides nothing unless a writer signs two updates of one `seq` for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Mark {
    seq: u64,
    hash: u64,
}

impl From<Position> for Mark {
    fn from(position: Position) -> Self {
        let hash = position.hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self { seq: position.seq.as_micros(), hash }
    }
}

/// What is remembered of an evicted part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Last {
    Space {
        newest: Mark,
        /// The newest replace, which hides everything before it; the least mark if there was none.
        replace: Mark,
    },
    /// The order key of a value.
    Value(Box<[u8]>),
}

/// An evicted part of a record.
#[derive(Clone, Debug)]
pub(super) struct Departed {
    id: PartId,
    stored_at: Timestamp,
    until: Option<Timestamp>,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Space(Mark, Mark),
    Value(RecordKey, Bytes),
}

impl Departed {
    /// The part in a row that is about to be evicted. `None` if there is nothing to remember of
    /// it: it is the head of a smart record, or damaged.
    pub(super) fn of(id: PartId, part: &Part<'_>) -> Option<Self> {
        let content = if id.space == SpaceId::HEAD {
            match rows::decode_head(part).ok()? {
                Head { key, body: Some(Body::Value(Value { value, .. })), .. } => {
                    Content::Value(RecordKey::new(key), value)
                }
                _ => return None,
            }
        } else {
            let space = rows::read_space(part).ok()?;
            let replace = space.newest_replace().map(Mark::from).unwrap_or_default();
            Content::Space(space.newest()?.into(), replace)
        };
        let until = part.expires_at.max(part.due_at);
        Some(Self { id, stored_at: part.stored_at, until, content })
    }
}

/// An entry: an evicted part.
#[derive(Clone, Debug)]
struct Entry {
    /// Milliseconds for which it had been stored, without the times in which it was not.
    stored_for: u64,
    until: Timestamp,
    last: Last,
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let mut evicted = Evicted {
            stored_for: self.stored_for,
            until: self.until.as_millis(),
            ..Evicted::default()
        };
        match &self.last {
            Last::Space { newest, replace } => {
                (evicted.newest_seq, evicted.newest_hash) = (newest.seq, newest.hash);
                (evicted.replace_seq, evicted.replace_hash) = (replace.seq, replace.hash);
            }
            Last::Value(key) => evicted.order_key = Some(Bytes::copy_from_slice(key)),
        }
        evicted.encode_to_vec()
    }

    fn decode(note: &[u8]) -> Result<Self, StorageError> {
        let evicted = Evicted::decode(note).map_err(StorageError::damaged)?;
        let last = match &evicted.order_key {
            Some(key) => Last::Value(key[..].into()),
            None => Last::Space {
                newest: Mark { seq: evicted.newest_seq, hash: evicted.newest_hash },
                replace: Mark { seq: evicted.replace_seq, hash: evicted.replace_hash },
            },
        };
        Ok(Self {
            stored_for: evicted.stored_for,
            until: Timestamp::from_millis(evicted.until),
            last,
        })
    }

    fn stored_since(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(Duration::from_millis(self.stored_for))
    }

    /// Adds what was known of the part before it came back in part and was evicted again. The time
    /// for which it has been stored since then already has the earlier one in it.
    fn join(&mut self, earlier: Self) {
        self.stored_for = self.stored_for.max(earlier.stored_for);
        self.until = self.until.max(earlier.until);
        match (&mut self.last, earlier.last) {
            (
                Last::Space { newest, replace },
                Last::Space { newest: newest_before, replace: replace_before },
            ) => {
                *newest = newest_before.max(*newest);
                *replace = replace_before.max(*replace);
            }
            (Last::Value(key), Last::Value(before)) if before > *key => *key = before,
            _ => {}
        }
    }
}

/// What a space has to satisfy to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct RememberedSpace {
    /// The instant since which it would be stored now, had it been stored for as long as it was
    /// without a break.
    pub(super) stored_since: Timestamp,
    newest: Mark,
    replace: Mark,
}

impl RememberedSpace {
    /// Whether updates of which this is the greatest `seq` cannot come back, whatever they are.
    pub(super) fn is_after(&self, newest: Option<Seq>) -> bool {
        newest.is_none_or(|seq| seq.as_micros() < self.newest.seq)
    }

    /// Drops from a space what was hidden when it was evicted. Returns how many updates, or `None`
    /// if the rest may not come back.
    pub(super) fn admits(&self, space: &mut Space) -> Option<usize> {
        let dropped = space.retain(|position| Mark::from(position) >= self.replace);
        let is_new = space.newest().is_some_and(|newest| Mark::from(newest) >= self.newest);
        is_new.then_some(dropped)
    }

    /// Whether this is all that is known of a space.
    pub(super) fn is(&self, space: &Space) -> bool {
        let mark = |position: Option<Position>| position.map(Mark::from).unwrap_or_default();
        (self.newest, self.replace) == (mark(space.newest()), mark(space.newest_replace()))
    }

    /// Whether the space itself hides all that was hidden, so that the memory is not needed any
    /// more.
    pub(super) fn is_made_up_by(&self, space: &Space) -> bool {
        let replace = space.newest_replace().map(Mark::from).unwrap_or_default();
        replace >= self.replace
    }
}

/// What the store remembers of its evictions.
#[derive(Debug, Default)]
pub(super) struct EvictionMemory {
    max: usize,
    /// When the store was opened.
    opened_at: Timestamp,
    /// Whether entries are written to the storage.
    is_durable: bool,
    entries: HashMap<EntryId, Entry>,
    /// The entries in the order in which they go: by how long the part had been stored.
    order: BTreeSet<(u64, EntryId)>,
    /// Where the search for expired entries goes on.
    swept: (u64, EntryId),
    /// The entries removed since the last commit, which are needed again if it fails.
    removed: Vec<(EntryId, Entry)>,
    /// Notes in the storage that are of no use.
    untidy: Vec<EntryId>,
    /// How many entries were dropped because there were too many.
    dropped: usize,
}

fn entry_id(id: PartId) -> EntryId {
    let hash = Sha256::new().chain_update(id.record.0).chain_update(id.space.0).finalize();
    let mut half = EntryId::default();
    half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    half
}

fn name(id: &EntryId) -> Vec<u8> {
    [PREFIX, id].concat()
}

impl EvictionMemory {
    pub(super) fn new(max: usize, is_durable: bool, opened_at: Timestamp) -> Self {
        Self { max, is_durable, opened_at, ..Self::default() }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes the number of entries that were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// Restores an entry from a note, if it is one that has not expired.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if it cannot be decoded.
    pub(super) fn restore(
        &mut self,
        name: &[u8],
        note: &[u8],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let id = name.strip_prefix(PREFIX).and_then(|id| EntryId::try_from(id).ok());
        if let Some(id) = id {
            let entry = Entry::decode(note)?;
            if entry.until > now {
                self.insert(id, entry);
            } else {
                self.untidy.push(id);
            }
        }
        Ok(())
    }

    /// Removes restored entries beyond the maximum, which may have been greater.
    pub(super) fn end_restoring(&mut self, now: Timestamp) {
        let mut removed = BTreeSet::new();
        self.shrink(0, now, &mut removed);
        self.untidy.extend(removed);
        (self.removed, self.dropped) = (Vec::new(), 0);
    }

    /// Changes of the storage for notes of which there is no entry, a few at a time. What is lost
    /// with a failed commit is found when the store is opened again.
    pub(super) fn tidy(&mut self) -> Vec<Change> {
        let at = self.untidy.len().saturating_sub(TIDIED);
        let notes = self.untidy.split_off(at).into_iter().map(|id| self.note(id));
        notes.collect()
    }

    /// The change of the storage for an entry as it is now.
    fn note(&self, id: EntryId) -> Change {
        Change::Note(name(&id), self.entries.get(&id).map(Entry::encode))
    }

    /// Handles the outcome of a commit. After a failed one the rows may be as before or as after
    /// it. So what was removed is remembered again, and what is remembered stays: an entry about a
    /// row that is there refuses nothing that the row does not. There may then be more entries than
    /// the maximum until the next eviction.
    pub(super) fn on_commit(&mut self, is_good: bool) {
        let removed = std::mem::take(&mut self.removed);
        if !is_good {
            self.dropped = 0;
            removed.into_iter().for_each(|(id, entry)| self.remember_entry(id, entry));
        }
    }

    /// What is remembered of a space.
    pub(super) fn space(&self, id: PartId, now: Timestamp) -> Option<RememberedSpace> {
        match self.get(id, now)? {
            entry @ Entry { last: Last::Space { newest, replace }, .. } => Some(RememberedSpace {
                stored_since: entry.stored_since(now),
                newest: *newest,
                replace: *replace,
            }),
            _ => None,
        }
    }

    /// What is remembered of a value: since when it would be stored, as of a
    /// [space](RememberedSpace), and its order key.
    pub(super) fn value(&self, id: PartId, now: Timestamp) -> Option<(Timestamp, &[u8])> {
        match self.get(id, now)? {
            entry @ Entry { last: Last::Value(key), .. } => Some((entry.stored_since(now), key)),
            _ => None,
        }
    }

    fn get(&self, id: PartId, now: Timestamp) -> Option<&Entry> {
        // Most stores never evict.
        if self.entries.is_empty() {
            return None;
        }
        self.entries.get(&entry_id(id)).filter(|entry| entry.until > now)
    }

    /// Remembers evicted parts. Returns the changes of the storage.
    pub(super) fn remember(
        &mut self,
        departed: Vec<Departed>,
        registry: &Registry,
        now: Timestamp,
    ) -> Vec<Change> {
        let mut touched = BTreeSet::new();
        for Departed { id, stored_at, until, content } in departed {
            let last = match content {
                Content::Space(newest, replace) => Last::Space { newest, replace },
                Content::Value(key, value) => match registry.order_key(&key, &value) {
                    Some(order_key) => Last::Value(order_key.as_bytes().into()),
                    None => continue,
                },
            };
            let Some(until) = until.filter(|until| *until > now) else {
                continue;
            };
            // A row of an earlier format does not say when it was stored: at least since then.
            let stored_at = Some(stored_at).filter(|at| *at > Timestamp::EPOCH);
            let stored_for = now.saturating_since(stored_at.unwrap_or(self.opened_at)).as_millis();
            let stored_for = u64::try_from(stored_for).unwrap_or(u64::MAX);
            let id = entry_id(id);
            self.remember_entry(id, Entry { stored_for, until, last });
            touched.insert(id);
        }
        let swept = touched.len().saturating_mul(SWEPT).min(MAX_SWEPT);
        self.shrink(swept, now, &mut touched);
        if !self.is_durable {
            return Vec::new();
        }
        touched.into_iter().map(|id| self.note(id)).collect()
    }

    /// Forgets a part that has come back. Returns the change of the storage.
    pub(super) fn forget(&mut self, id: PartId) -> Option<Change> {
        let id = entry_id(id);
        self.take(id)?;
        self.is_durable.then(|| Change::Note(name(&id), None))
    }

    fn remember_entry(&mut self, id: EntryId, mut entry: Entry) {
        if let Some(earlier) = self.remove(id) {
            entry.join(earlier);
        }
        self.insert(id, entry);
    }

    /// Removes entries beyond the maximum: expired ones among the next `swept`, or those of the
    /// parts that had been stored for the shortest time. Adds what it removes to `touched`.
    fn shrink(&mut self, swept: usize, now: Timestamp, touched: &mut BTreeSet<EntryId>) {
        if self.entries.len() <= self.max {
            return;
        }
        let from = (Bound::Excluded(self.swept), Bound::Unbounded);
        let (mut seen, mut expired) = (None, Vec::new());
        for (at, place) in self.order.range(from).take(swept).enumerate() {
            if self.entries.get(&place.1).is_none_or(|entry| entry.until <= now) {
                expired.push(place.1);
            }
            let is_last = expired.len() >= REMOVED || at.saturating_add(1) == swept;
            seen = is_last.then_some(*place);
            if is_last {
                break;
            }
        }
        // At the end of the order it begins again.
        self.swept = seen.unwrap_or_default();
        for id in expired {
            self.take(id);
            touched.insert(id);
        }
        while self.entries.len() > self.max
            && let Some((_, id)) = self.order.first().copied()
        {
            self.take(id);
            touched.insert(id);
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Removes an entry, until a commit fails.
    fn take(&mut self, id: EntryId) -> Option<()> {
        let entry = self.remove(id)?;
        self.removed.push((id, entry));
        Some(())
    }

    fn insert(&mut self, id: EntryId, entry: Entry) {
        self.order.insert((entry.stored_for, id));
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: EntryId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.order.remove(&(entry.stored_for, id));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::storage::RecordId;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const HOUR: u64 = 3_600_000;

    fn after(millis: u64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + millis)
    }

    /// An evicted space that was stored at `NOW` and is remembered for an hour.
    fn departed(n: u64) -> Departed {
        let mark = Mark { seq: n, hash: n };
        Departed {
            id: RecordId([1; 32]).part(SpaceId::at(n + 1)),
            stored_at: NOW,
            until: Some(after(HOUR)),
            content: Content::Space(mark, Mark::default()),
        }
    }

    fn remember(memory: &mut EvictionMemory, spaces: std::ops::Range<u64>, millis: u64) {
        let departed = spaces.map(departed).collect();
        memory.remember(departed, &Registry::empty(), after(millis));
    }

    #[test]
    fn a_large_eviction_looks_at_few_entries_of_a_full_memory() {
        let mut memory = EvictionMemory::new(10_000, false, NOW);
        remember(&mut memory, 0..10_000, 2_000);
        let from = *memory.order.iter().nth(1_000).unwrap();
        for (evicted, steps) in [(1, SWEPT), (2, 2 * SWEPT), (5_000, MAX_SWEPT)] {
            memory.swept = from;
            // They had been stored for a shorter time, and go first.
            remember(&mut memory, 20_000..20_000 + evicted, 1_000);
            let seen = (Bound::Excluded(from), Bound::Included(memory.swept));
            assert_eq!(memory.order.range(seen).count(), steps, "{evicted}");
            assert_eq!(memory.len(), 10_000);
        }
    }

    #[test]
    fn the_time_of_a_row_that_does_not_say_when_it_was_stored_counts_from_the_opening() {
        let mut memory = EvictionMemory::new(1, false, after(1_000));
        let old = Departed { stored_at: Timestamp::EPOCH, ..departed(1) };
        memory.remember(vec![old, departed(2)], &Registry::empty(), after(2_000));
        assert!(memory.space(departed(2).id, NOW).is_some(), "it was stored for two seconds");
        assert!(memory.space(departed(1).id, NOW).is_none());
    }

    #[test]
    fn after_a_failed_commit_the_notes_and_the_entries_are_the_same() {
        let mut memory = EvictionMemory::new(2, true, NOW);
        remember(&mut memory, 0..2, 1_000);
        memory.on_commit(true);
        // One goes for one that was stored for longer, and one comes back.
        remember(&mut memory, 2..3, 2_000);
        let back = (0..2).find(|n| memory.forget(departed(*n).id).is_some());
        assert!(back.is_some());
        assert_eq!((memory.len(), memory.dropped), (1, 1));
        memory.on_commit(false);
        assert_eq!((memory.len(), memory.take_dropped()), (3, 0));
        assert!((0..3).all(|n| memory.space(departed(n).id, NOW).is_some()));
        // The next eviction leaves as many as there may be.
        remember(&mut memory, 3..4, 3_000);
        memory.on_commit(true);
        assert_eq!((memory.len(), memory.take_dropped()), (2, 2));
    }

    #[test]
    fn what_is_restored_has_not_expired_and_is_no_more_than_may_be() {
        let mut memory = EvictionMemory::new(10, true, NOW);
        let all = (0..10).map(departed).collect();
        let notes = memory.remember(all, &Registry::empty(), after(1_000));
        for (now, tidied, left) in [(NOW, 6, 4), (after(HOUR), 10, 0)] {
            let mut restored = EvictionMemory::new(4, true, NOW);
            for note in &notes {
                let Change::Note(name, Some(note)) = note else { panic!() };
                restored.restore(name, note, now).unwrap();
            }
            restored.end_restoring(now);
            let gone = restored.tidy();
            assert!(gone.iter().all(|change| matches!(change, Change::Note(_, None))));
            assert_eq!((gone.len(), restored.len(), restored.tidy().len()), (tidied, left, 0));
        }
    }
}
