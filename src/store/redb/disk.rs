//! The file: opening it, writing to it, and opening it again after a failure.
//!
//! **Invariants.** A write is one transaction: it is applied as a whole or not at all. After any
//! failure the database is closed, because redb refuses everything from then on. It is opened again
//! when it is next used, but not before a pause that doubles with each failure.

use std::time::{Duration, Instant};

use ::redb::{Builder, Database, ReadableDatabase, ReadableTable, TableHandle, WriteTransaction};
use libp2p_identity::PeerId;

use super::{
    draft::Writes,
    fault::{failed, guarded, not_opened},
    format::{
        DUE, EARLIER_FORMAT, FORMAT, Header, META, NOTES, ROWS, Row, RowKey, Session, TALLIES,
        due_key, meta, note_value, part_len, read_usage, tally_value, usage_value,
    },
    overlay::Changes,
    view::View,
};
use crate::store::storage::{OtherPeer, SpaceId, StorageError, Tally, Usage};

/// Opens the database with the settings in the builder.
pub(super) type Opener =
    Box<dyn FnMut(&mut Builder, Writes) -> Result<Database, StorageError> + Send>;

pub(super) struct Disk {
    opener: Opener,
    cache_bytes: usize,
    owner: PeerId,
    session: Session,
    db: Option<Database>,
    views: u64,
    pause: Pause,
}

/// The time after a failure in which the file is not opened again.
#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Option<Instant>,
    /// The failure.
    after: StorageError,
}

impl Pause {
    const SHORTEST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(5);

    const fn none() -> Self {
        Self { length: Self::SHORTEST, until: None, after: StorageError::Closed }
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    fn lengthen(&mut self, after: StorageError) {
        self.after = after;
        self.until = Instant::now().checked_add(self.length);
        self.length = self.length.saturating_mul(2).min(Self::LONGEST);
    }
}

impl Disk {
    /// Opens or creates the file, and begins a new session.
    pub(super) fn open(
        opener: Opener,
        cache_bytes: usize,
        owner: PeerId,
    ) -> Result<Self, StorageError> {
        let pause = Pause::none();
        let session = Session::draw()?;
        let mut disk = Self { opener, cache_bytes, owner, session, db: None, views: 0, pause };
        let (db, ()) = disk.open_database(|db| begin_session(db, &owner, session))?;
        disk.db = Some(db);
        Ok(disk)
    }

    /// The session, which identifies the rows that were written since the file was opened.
    pub(super) const fn session(&self) -> Session {
        self.session
    }

    /// Opens the file again, if it is the same file and nothing else has opened it since.
    fn reopen(&mut self) -> Result<Database, StorageError> {
        let expected = (self.owner, self.session);
        let (db, ()) = self.open_database(|db| {
            let table = db.begin_read().map_err(failed)?.open_table(META).map_err(not_opened)?;
            let session = table.get(meta::SESSION).map_err(failed)?;
            let session = session.and_then(|it| it.value().try_into().ok()).map(Session);
            match owner_of(&table)?.zip(session) {
                Some(found) if found == expected => Ok(()),
                Some(_) => Err(StorageError::Locked),
                None => Err(StorageError::ForeignFile),
            }
        })?;
        Ok(db)
    }

    /// Opens the database, with the result of `check`. A file that the check refuses stays as it
    /// is: it is checked on a draft first.
    fn open_database<T>(
        &mut self,
        check: impl Fn(&Database) -> Result<T, StorageError>,
    ) -> Result<(Database, T), StorageError> {
        let mut open = |writes| {
            let mut builder = Builder::new();
            builder.set_cache_size(self.cache_bytes);
            let db = guarded(|| (self.opener)(&mut builder, writes))?;
            match guarded(|| check(&db)) {
                Ok(checked) => Ok((db, checked)),
                Err(error) => {
                    close(db);
                    Err(error)
                }
            }
        };
        let (draft, _) = open(Writes::Forgotten)?;
        close(draft);
        open(Writes::Kept)
    }

    /// A view of the current content of the file, and the usage that is stored in it.
    pub(super) fn view(&mut self) -> Result<(View, Usage), StorageError> {
        self.with_database(|db, number| Ok((View::new(db, number)?, stored_usage(db)?)))
    }

    /// Writes changes and the usage after them. Returns a view with these changes.
    pub(super) fn write(&mut self, changes: &Changes, usage: Usage) -> Result<View, StorageError> {
        self.with_database(|db, number| {
            write(db, changes, usage)?;
            View::new(db, number)
        })
    }

    /// Runs an operation on the database. Opens the database first if it is closed and the pause is
    /// over. Closes it if the operation fails.
    fn with_database<T>(
        &mut self,
        run: impl FnOnce(&Database, u64) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let db = match self.db.take() {
            Some(db) => Ok(db),
            None if !self.pause.is_over() => return Err(self.pause.after.clone()),
            None => self.reopen(),
        };
        self.views = self.views.saturating_add(1);
        let number = self.views;
        let result = db.and_then(|db| match guarded(|| run(&db, number)) {
            Ok(done) => {
                self.db = Some(db);
                Ok(done)
            }
            Err(error) => {
                close(db);
                Err(error)
            }
        });
        match &result {
            Ok(_) => self.pause = Pause::none(),
            Err(error) => self.pause.lengthen(error.clone()),
        }
        result
    }

    /// Closes the database. The next use opens it again.
    pub(super) fn close(&mut self) {
        if let Some(db) = self.db.take() {
            close(db);
        }
    }

    /// When the next attempt is allowed, after a failure.
    pub(super) const fn paused_until(&self) -> Option<Instant> {
        self.pause.until
    }

    /// Allows the next attempt at once.
    pub(super) const fn end_pause(&mut self) {
        self.pause.until = None;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

fn close(db: Database) {
    if let Err(error) = guarded(|| db.close().map_err(failed)) {
        tracing::debug!(%error, "closing the database");
    }
}

fn stored_usage(db: &Database) -> Result<Usage, StorageError> {
    let table = db.begin_read().map_err(failed)?.open_table(META).map_err(failed)?;
    let value = ReadableTable::get(&table, meta::USAGE).map_err(failed)?;
    value
        .and_then(|value| read_usage(value.value()))
        .ok_or_else(|| StorageError::damaged("the usage"))
}

fn begin_write(db: &Database) -> Result<WriteTransaction, StorageError> {
    let mut transaction = db.begin_write().map_err(failed)?;
    // Without quick repair, opening after a crash reads the whole file.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Checks owner and format of the file, and writes the session. A new file gets its owner, and one
/// of an earlier format becomes one of today's.
fn begin_session(db: &Database, owner: &PeerId, session: Session) -> Result<(), StorageError> {
    let transaction = begin_write(db)?;
    let tables: Vec<_> = transaction.list_tables().map_err(failed)?.collect();
    let is_new = tables.is_empty();
    if !is_new && !tables.iter().any(|table| table.name() == META.name()) {
        return Err(StorageError::ForeignFile);
    }
    {
        let mut table = transaction.open_table(META).map_err(not_opened)?;
        match number(&table, meta::FORMAT)? {
            None if !is_new => return Err(StorageError::ForeignFile),
            Some(found) if found != FORMAT && found != EARLIER_FORMAT => {
                return Err(StorageError::OtherFormat { found, known: FORMAT });
            }
            _ => {}
        }
        if let Some(stored) = owner_of(&table)? {
            OtherPeer::check(stored, *owner)?;
        }
        let usage = table.get(meta::USAGE).map_err(failed)?.map(|usage| read_usage(usage.value()));
        let usage = match usage.flatten() {
            Some(usage) => usage,
            // A new file, or one whose stored usage is damaged.
            None => counted(&transaction)?,
        };
        for (name, value) in [
            (meta::FORMAT, &FORMAT.to_le_bytes()[..]),
            (meta::OWNER, &owner.to_bytes()),
            (meta::SESSION, &session.0),
            (meta::USAGE, &usage_value(usage)),
        ] {
            table.insert(name, value).map_err(failed)?;
        }
    }
    transaction.open_table(ROWS).map_err(not_opened)?;
    transaction.open_table(DUE).map_err(not_opened)?;
    transaction.open_table(TALLIES).map_err(not_opened)?;
    transaction.open_table(NOTES).map_err(not_opened)?;
    transaction.commit().map_err(failed)
}

fn number(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<u32>, StorageError> {
    let Some(value) = table.get(name).map_err(failed)? else {
        return Ok(None);
    };
    let bytes = value.value().try_into();
    bytes.map(|bytes| Some(u32::from_le_bytes(bytes))).map_err(StorageError::damaged)
}

fn owner_of(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<PeerId>, StorageError> {
    let Some(value) = table.get(meta::OWNER).map_err(failed)? else {
        return Ok(None);
    };
    PeerId::from_bytes(value.value()).map(Some).map_err(StorageError::damaged)
}

/// Computes the usage from the rows.
fn counted(transaction: &WriteTransaction) -> Result<Usage, StorageError> {
    let rows = transaction.open_table(ROWS).map_err(not_opened)?;
    let mut usage = Usage::default();
    for row in rows.iter().map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        let id = RowKey::decode(key.value());
        usage.add(id.is_some_and(|id| id.space == SpaceId::HEAD), part_len(value.value()));
    }
    Ok(usage)
}

fn write(db: &Database, changes: &Changes, usage: Usage) -> Result<(), StorageError> {
    let transaction = begin_write(db)?;
    {
        let mut rows = transaction.open_table(ROWS).map_err(failed)?;
        let mut due = transaction.open_table(DUE).map_err(failed)?;
        for (id, row) in &changes.rows {
            let key = RowKey::new(id);
            let old = match row {
                Some(row) => rows.insert(key.as_bytes(), row.value()),
                None => rows.remove(key.as_bytes()),
            };
            let old = old.map_err(failed)?.and_then(|old| Header::decode(old.value()));
            let old = old.and_then(|header| header.due_at());
            let new = row.as_ref().and_then(Row::due_at);
            if old == new {
                continue;
            }
            if let Some(old) = old {
                due.remove(&due_key(old, id)).map_err(failed)?;
            }
            if let Some(new) = new {
                due.insert(&due_key(new, id), ()).map_err(failed)?;
            }
        }
        let mut tallies = transaction.open_table(TALLIES).map_err(failed)?;
        for (id, tally) in &changes.tallies {
            if *tally == Tally::default() {
                tallies.remove(&id.0).map_err(failed)?;
            } else {
                tallies.insert(&id.0, &tally_value(id, *tally)).map_err(failed)?;
            }
        }
        let mut notes = transaction.open_table(NOTES).map_err(failed)?;
        for (name, note) in &changes.notes {
            match note {
                Some(note) => {
                    notes.insert(&name[..], &note_value(name, note)[..]).map_err(failed)?;
                }
                None => {
                    notes.remove(&name[..]).map_err(failed)?;
                }
            }
        }
        let mut meta_table = transaction.open_table(META).map_err(failed)?;
        meta_table.insert(meta::USAGE, &usage_value(usage)[..]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}
