//! Storage of rows in a file, with the embedded database redb.
//!
//! Applied changes are kept in memory, over a view of the file, until a thread has written them.
//! The user chooses how long that may take: see [`Durability`].
//!
//! **Invariants.** Applied changes are visible at once. A damaged row is never returned, nor a row
//! of an earlier session that the current rules refuse. Whatever the disk does, there is no panic
//! and no invalid data, and the amount of data that waits for the disk is bounded. When the disk
//! works again, so does the storage.
//!
//! **Spec.** `docs/design.md`, section "On disk".

mod config;
mod disk;
mod draft;
mod fault;
mod format;
mod opening;
mod overlay;
mod recheck;
mod view;
mod writer;

use std::{
    iter::{self, Peekable},
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use libp2p_identity::PeerId;
use tracing::Span;

pub use self::{
    config::{Durability, RedbConfig},
    opening::{OpenError, OpenOptions},
};
use self::{
    disk::{Disk, Opener},
    fault::not_opened,
    format::{DueKey, Row, Session, part_len, read_row},
    opening::opener,
    overlay::{Changes, Overlay},
    recheck::Recheck,
    view::{Found, Rows, View},
    writer::{Group, WriterHandle},
};
use super::{
    lock,
    storage::{
        Change, InvalidRow, OtherPeer, Part, PartId, Parts, RowCheck, SpaceId, Storage,
        StorageError, Tally, TallyId, Usage,
    },
};
use smart_record_core::Timestamp;

/// Storage of a store's rows in one file.
///
/// Dropping it writes all pending changes, and blocks until that is done.
pub struct RedbStorage {
    owner: PeerId,
    durability: Durability,
    session: Session,
    shared: Arc<WriterHandle>,
    thread: Option<JoinHandle<()>>,
    overlay: Overlay,
    /// The changes applied since the last commit.
    uncommitted: Changes,
    uncommitted_bytes: usize,
    /// The number of the next commit.
    commit: u64,
    /// The error of a failed commit, as long as its effect on the file is not known.
    in_doubt: Option<StorageError>,
    usage: Usage,
    /// The usage at the last commit.
    committed_usage: Usage,
    /// The number of a view, and an entry of its expiry index. All rows of earlier entries are
    /// outdated by the overlay.
    due_from: Mutex<(u64, DueKey)>,
    recheck: Recheck,
}

impl RedbStorage {
    /// The memory of a change besides its bytes: its id, three times, and pointers.
    const CHANGE: usize = 256;

    /// Opens the storage of the peer `local` in a file, which is created if it does not exist. It
    /// is created by this call alone: a file that is gone later, with its disk for instance, is an
    /// error until it is back.
    ///
    /// # Errors
    /// [`OpenError`], which names the file, with the source [`Locked`](StorageError::Locked) if it
    /// is already open, here or in another process, [`OtherPeer`](StorageError::OtherPeer) if it
    /// belongs to another peer, [`OtherFormat`](StorageError::OtherFormat),
    /// [`OtherDatabase`](StorageError::OtherDatabase), [`EmptyFile`](StorageError::EmptyFile) or
    /// [`ForeignFile`](StorageError::ForeignFile) if this version cannot read it, or the error of
    /// the disk. A file that is refused is left as it is, byte for byte.
    pub fn open(
        path: impl AsRef<Path>,
        local: PeerId,
        config: &RedbConfig,
    ) -> Result<Self, OpenError> {
        let path = path.as_ref();
        // Logs of the thread name the file.
        let span = tracing::warn_span!("storage", file = ?path);
        opening::create(path)
            .and_then(|()| Self::open_by(span, opener(path.to_owned()), local, config))
            .map_err(|source| OpenError { path: path.to_owned(), source })
    }

    /// Opens the storage of the peer `local` on a backend. `open` is called now, and again after
    /// each failure. For disks that are not a file, and for tests with failing disks.
    ///
    /// # Errors
    /// The `source` of the error of [`open`](Self::open).
    pub fn open_backend<B: ::redb::StorageBackend>(
        mut open: impl FnMut() -> std::io::Result<B> + Send + 'static,
        local: PeerId,
        config: &RedbConfig,
    ) -> Result<Self, StorageError> {
        let open: Opener = Box::new(move |builder, writes| {
            draft::open(builder, open()?, writes).map_err(not_opened)
        });
        Self::open_by(Span::none(), open, local, config)
    }

    fn open_by(
        span: Span,
        opener: Opener,
        local: PeerId,
        config: &RedbConfig,
    ) -> Result<Self, StorageError> {
        let mut disk = Disk::open(opener, config.cache_bytes(), local)?;
        let session = disk.session();
        let (view, usage) = disk.view()?;
        let durability = config.durability();
        let (shared, thread) = writer::spawn(span, disk, view, usage, durability)?;
        Ok(Self {
            owner: local,
            durability,
            session,
            shared,
            thread: Some(thread),
            overlay: Overlay::default(),
            uncommitted: Changes::default(),
            uncommitted_bytes: 0,
            commit: 1,
            in_doubt: None,
            usage,
            committed_usage: usage,
            due_from: Mutex::new((0, [0; 40])),
            recheck: Recheck::new(config.max_rechecked()),
        })
    }

    /// Drops from memory what has been written to the file.
    fn settle(&mut self) {
        let news = self.shared.news();
        if !news.written.is_empty() {
            // Rows that the overlay outdated may now be current in the view.
            *lock(&self.due_from) = (0, [0; 40]);
        }
        for written in news.written {
            self.overlay.retire(&written.changes, written.commit);
        }
        if self.overlay.is_empty() {
            self.usage = news.usage;
            self.committed_usage = news.usage;
        }
    }

    /// Returns the result of reading a view. If the read failed, the database will be opened again.
    fn read<T>(&self, view: &View, read: Result<T, StorageError>) -> Result<T, StorageError> {
        match read {
            Err(StorageError::Closed) => {
                self.shared.view_failed(view.number);
                Err(self.shared.failure().unwrap_or(StorageError::Closed))
            }
            Err(error @ (StorageError::Io(_) | StorageError::Full)) => {
                self.shared.view_failed(view.number);
                Err(error)
            }
            read => read,
        }
    }

    /// The length of a row's part, valid or not.
    fn len_of(&self, id: &PartId) -> Result<Option<usize>, StorageError> {
        match self.overlay.row(id) {
            Some(row) => Ok(row.map(Row::len)),
            None => {
                let view = self.shared.view();
                self.read(&view, view.row(id, part_len))
            }
        }
    }

    /// The rows in a range. If it `checks`, rows of earlier sessions are returned only if they are
    /// valid.
    fn merged(&self, range: RangeInclusive<PartId>, checks: bool) -> Parts<'_> {
        if range.is_empty() {
            return Box::new(iter::empty());
        }
        Box::new(Merged {
            storage: self,
            overlay: self.overlay.rows(range.clone()).peekable(),
            disk: Reading::NotBegun(range),
            view: self.shared.view(),
            checks,
        })
    }

    /// The session and the part in a row; `None` if the row is damaged.
    fn row_of(&self, id: &PartId, value: &[u8]) -> Option<(Option<Session>, Part<'static>)> {
        let row = read_row(id, value);
        if row.is_none() {
            self.recheck.damaged(*id, part_len(value));
        }
        row
    }

    /// The part in a row of the file, if it may be returned.
    fn part_of(
        &self,
        view: &View,
        id: &PartId,
        value: &[u8],
    ) -> Result<Option<Part<'static>>, StorageError> {
        let Some((session, part)) = self.row_of(id, value) else {
            return Ok(None);
        };
        if session == Some(self.session) {
            return Ok(Some(part));
        }
        self.recheck.pass(id, part, || {
            let head = id.record.head();
            match self.overlay.row(&head) {
                _ if head == *id => Ok(None),
                Some(row) => Ok(row.map(|row| owned(row.part()))),
                None => {
                    let head = view.row(&head, |value| read_row(&head, value))?;
                    Ok(head.flatten().map(|(_, part)| part))
                }
            }
        })
    }

    fn set_row(&mut self, id: PartId, part: Option<&Part<'_>>, len_in_file: Option<usize>) {
        let is_head = id.space == SpaceId::HEAD;
        let old = self.overlay.row(&id).map_or(len_in_file, |row| row.map(Row::len));
        if let Some(old) = old {
            self.usage.subtract(is_head, old);
        }
        if let Some(part) = part {
            self.usage.add(is_head, part.bytes.len());
            self.weigh(part.bytes.len());
        } else {
            self.weigh(0);
        }
        let row = part.map(|part| Row::new(&id, part, self.session));
        self.recheck.forget(&id);
        self.overlay.set_row(id, row.clone(), self.commit);
        self.uncommitted.rows.insert(id, row);
    }

    fn weigh(&mut self, bytes: usize) {
        self.uncommitted_bytes =
            self.uncommitted_bytes.saturating_add(bytes).saturating_add(Self::CHANGE);
    }
}

fn owned(part: Part<'_>) -> Part<'static> {
    Part { bytes: part.bytes.into_owned().into(), ..part }
}

impl Storage for RedbStorage {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        if let Some(row) = self.overlay.row(id) {
            return Ok(row.map(Row::part));
        }
        let view = self.shared.view();
        let value = self.read(&view, view.row(id, <[u8]>::to_vec))?;
        let part = value.map_or(Ok(None), |value| self.part_of(&view, id, &value));
        self.read(&view, part)
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.merged(range, true)
    }

    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.merged(range, false)
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        let view = self.shared.view();
        let in_file = view.last(up_to, |id| self.overlay.row(id).is_none());
        let in_file = self.read(&view, in_file)?;
        let in_memory =
            self.overlay.rows(..=*up_to).rev().find(|(_, row)| row.is_some()).map(|(id, _)| id);
        Ok(in_file.max(in_memory))
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let view = self.shared.view();
        let mut due_from = lock(&self.due_from);
        if due_from.0 != view.number {
            *due_from = (view.number, [0; 40]);
        }
        let mut due: Vec<_> = self.overlay.due(now).take(max).collect();
        let (mut found, mut skipped) = (0_usize, None);
        let from = due_from.1;
        let read = view.due(&from, now, |key, due_at, ids| {
            for id in ids.iter().filter(|id| self.overlay.row(id).is_none()) {
                due.push((due_at, *id));
                found = found.saturating_add(1);
            }
            if found == 0 {
                skipped = Some(key);
            }
            found < max
        });
        self.read(&view, read)?;
        if let Some(skipped) = skipped {
            due_from.1 = skipped;
        }
        due.sort_unstable();
        due.truncate(max);
        Ok(due.into_iter().map(|(_, id)| id).collect())
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        if let Some(tally) = self.overlay.tally(id) {
            return Ok(tally);
        }
        let view = self.shared.view();
        self.read(&view, view.tally(id))
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        let view = self.shared.view();
        let mut notes = self.read(&view, view.notes())?;
        for (name, note) in self.overlay.notes() {
            match note {
                Some(note) => notes.insert(name.clone(), note.clone()),
                None => notes.remove(name),
            };
        }
        Ok(notes.into_iter().collect())
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        match self.durability {
            Durability::Group { max_bytes, .. } => self.shared.is_behind(max_bytes),
            Durability::Immediate => false,
        }
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        if let Some(failure) = &self.in_doubt {
            self.shared.settle_doubt()?;
            // These changes were computed before the effect of the failed commit was known.
            let failure = failure.clone();
            self.in_doubt = None;
            self.settle();
            return Err(failure);
        }
        if let Durability::Group { max_bytes, .. } = self.durability {
            self.shared.wait_for_room(max_bytes)?;
        }
        self.settle();
        // Everything that can fail is done before the first change.
        let lens = changes
            .iter()
            .map(|change| match change {
                Change::Set(id, _) | Change::Remove(id) => self.len_of(id),
                Change::Tally(..) | Change::Note(..) => Ok(None),
            })
            .collect::<Result<Vec<_>, _>>()?;
        for (change, len) in changes.into_iter().zip(lens) {
            match change {
                Change::Set(id, part) => self.set_row(id, Some(&part), len),
                Change::Remove(id) => self.set_row(id, None, len),
                Change::Tally(id, tally) => {
                    self.weigh(0);
                    self.overlay.set_tally(id, tally, self.commit);
                    self.uncommitted.tallies.insert(id, tally);
                }
                Change::Note(name, note) => {
                    self.weigh(note.as_ref().map_or(0, Vec::len));
                    self.overlay.set_note(name.clone(), note.clone(), self.commit);
                    self.uncommitted.notes.insert(name, note);
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        if self.uncommitted.is_empty() {
            return Ok(());
        }
        let commit = self.commit;
        self.commit = commit.saturating_add(1);
        let group = Group {
            changes: std::mem::take(&mut self.uncommitted),
            usage: self.usage,
            commit,
            bytes: std::mem::take(&mut self.uncommitted_bytes),
        };
        self.shared.hand_over(group, self.durability);
        if self.durability == Durability::Immediate {
            if let Err(error) = self.shared.wait_for(commit) {
                self.overlay.clear();
                self.usage = self.committed_usage;
                self.in_doubt = Some(error.clone());
                return Err(error);
            }
            self.settle();
        }
        self.committed_usage = self.usage;
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        OtherPeer::check(self.owner, local)?;
        self.recheck.set(check);
        Ok(())
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.recheck.take_rejected()
    }
}

impl Drop for RedbStorage {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // The thread has logged its failures.
            drop(thread.join());
        }
    }
}

smart_record_core::impl_debug! {
    RedbStorage: |storage| durability: storage.durability, usage: storage.usage
}

/// The rows of the file, replaced by those of the overlay where it has any.
struct Merged<'a, O: Iterator> {
    storage: &'a RedbStorage,
    overlay: Peekable<O>,
    disk: Reading,
    view: Arc<View>,
    /// Whether to check rows of earlier sessions.
    checks: bool,
}

/// The state of reading the file.
enum Reading {
    NotBegun(RangeInclusive<PartId>),
    Next(Found, Box<Rows>),
    Ended,
}

impl<'a, O: Iterator<Item = (PartId, Option<&'a Row>)>> Merged<'a, O> {
    /// Reads the next row of the file.
    fn advance(&mut self) -> Result<(), StorageError> {
        let rows = match std::mem::replace(&mut self.disk, Reading::Ended) {
            Reading::NotBegun(range) => Some(Box::new(self.view.scan(range)?)),
            Reading::Next(_, rows) => Some(rows),
            Reading::Ended => None,
        };
        if let Some(mut rows) = rows
            && let Some(found) = rows.next_row()?
        {
            self.disk = Reading::Next(found, rows);
        }
        Ok(())
    }

    fn try_next(&mut self) -> Result<Option<(PartId, Part<'a>)>, StorageError> {
        loop {
            if let Reading::NotBegun(_) = self.disk {
                self.advance()?;
            }
            let in_memory = self.overlay.peek().map(|(id, _)| *id);
            let (in_file, value) = match &mut self.disk {
                Reading::Next((id, value), _) => (Some(*id), std::mem::take(value)),
                _ => (None, Vec::new()),
            };
            if in_memory.is_some() && (in_file.is_none() || in_memory <= in_file) {
                if in_memory == in_file {
                    self.advance()?;
                } else if let Reading::Next((_, place), _) = &mut self.disk {
                    *place = value;
                }
                if let Some((id, Some(row))) = self.overlay.next() {
                    return Ok(Some((id, row.part())));
                }
                continue;
            }
            let Some(id) = in_file else {
                return Ok(None);
            };
            let part = match self.checks {
                true => self.storage.part_of(&self.view, &id, &value),
                false => Ok(self.storage.row_of(&id, &value).map(|(_, part)| part)),
            };
            self.advance()?;
            if let Some(part) = part? {
                return Ok(Some((id, part)));
            }
        }
    }
}

impl<'a, O: Iterator<Item = (PartId, Option<&'a Row>)>> Iterator for Merged<'a, O> {
    type Item = Result<(PartId, Part<'a>), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next();
        self.storage.read(&self.view, next).transpose()
    }
}
