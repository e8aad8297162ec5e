//! The thread that owns the file.
//!
//! **Invariants.** Changes reach the file in the order in which they were handed over. Only
//! [`WriterHandle::wait_for`], [`WriterHandle::wait_for_room`] and [`WriterHandle::settle_doubt`]
//! wait for the file. In mode `Group` a failed group is kept and tried again. In mode `Immediate`
//! it is dropped. Before it ends, the thread tries once more to write what is left.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tracing::Span;

use super::{config::Durability, disk::Disk, overlay::Changes, view::View};
use crate::store::{
    lock,
    storage::{StorageError, Usage},
};

/// State shared by the thread and the storage.
pub(super) struct WriterHandle {
    state: Mutex<State>,
    /// Signals work for the thread.
    to_do: Condvar,
    /// Signals progress of the thread.
    done: Condvar,
}

struct State {
    waiting: Group,
    /// Since when the first change has been waiting.
    since: Option<Instant>,
    hurry: bool,
    closing: bool,
    /// The view cannot be read; the database has to be opened again.
    view_failed: bool,
    /// A write has failed, and its effect on the file is not known.
    in_doubt: bool,
    /// How many times the file was opened again, or the attempt failed.
    looks: u64,
    view: Arc<View>,
    /// The usage of the view.
    usage: Usage,
    written: VecDeque<Written>,
    /// The last commit that was written, and the last that failed.
    last_written: u64,
    last_failed: u64,
    /// How many bytes were handed over and are not in the file.
    unwritten_bytes: usize,
    /// Why pending changes are not in the file.
    failure: Option<StorageError>,
    has_ended: bool,
}

/// Changes, the usage after them, and the number of their last commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) changes: Changes,
    pub(super) usage: Usage,
    pub(super) commit: u64,
    pub(super) bytes: usize,
}

impl Group {
    fn extend(&mut self, later: Self) {
        if !later.changes.is_empty() {
            self.changes.extend(later.changes);
            self.usage = later.usage;
            self.commit = later.commit;
            self.bytes = self.bytes.saturating_add(later.bytes);
        }
    }
}

/// Changes that have reached the file, and the number of their last commit.
pub(super) struct Written {
    pub(super) changes: Changes,
    pub(super) commit: u64,
}

/// What the thread has done since the storage last asked.
pub(super) struct WriterProgress {
    pub(super) written: VecDeque<Written>,
    pub(super) usage: Usage,
}

impl WriterHandle {
    pub(super) fn view(&self) -> Arc<View> {
        lock(&self.state).view.clone()
    }

    /// Why pending changes are not in the file, if writing failed.
    pub(super) fn failure(&self) -> Option<StorageError> {
        lock(&self.state).failure.clone()
    }

    /// Takes the changes written since the last call.
    pub(super) fn news(&self) -> WriterProgress {
        let mut state = lock(&self.state);
        WriterProgress { written: std::mem::take(&mut state.written), usage: state.usage }
    }

    /// Hands over changes to be written, at once or in a group.
    pub(super) fn hand_over(&self, group: Group, durability: Durability) {
        let mut state = lock(&self.state);
        let waiting_bytes = state.waiting.bytes.saturating_add(group.bytes);
        state.unwritten_bytes = state.unwritten_bytes.saturating_add(group.bytes);
        state.waiting.extend(group);
        let hurry = match durability {
            Durability::Immediate => true,
            Durability::Group { max_bytes, .. } => waiting_bytes >= max_bytes / 4,
        };
        if state.since.is_none() || (hurry && !state.hurry) {
            state.since.get_or_insert_with(Instant::now);
            state.hurry |= hurry;
            self.to_do.notify_one();
        }
    }

    /// Waits until a commit has been written or has failed.
    pub(super) fn wait_for(&self, commit: u64) -> Result<(), StorageError> {
        let mut state = lock(&self.state);
        loop {
            if state.last_written >= commit {
                return Ok(());
            }
            if state.last_failed >= commit || state.has_ended {
                return Err(state.failure.clone().unwrap_or(StorageError::Closed));
            }
            state = self.done.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Waits, up to [`Durability::MAX_HOLD`], until at most `max_bytes` are pending. There is then
    /// room until the next commit.
    pub(super) fn wait_for_room(&self, max_bytes: usize) -> Result<(), StorageError> {
        let mut state = lock(&self.state);
        let mut left = Durability::MAX_HOLD;
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.has_ended {
                return Err(StorageError::Closed);
            }
            if state.unwritten_bytes <= max_bytes {
                return Ok(());
            }
            if left.is_zero() {
                return Err(StorageError::QueueFull);
            }
            let begun = Instant::now();
            state = wait(&self.done, state, left);
            left = left.saturating_sub(begun.elapsed());
        }
    }

    /// Whether [`wait_for_room`](Self::wait_for_room) would wait.
    pub(super) fn is_behind(&self, max_bytes: usize) -> bool {
        let state = lock(&self.state);
        state.failure.is_none() && !state.has_ended && state.unwritten_bytes > max_bytes
    }

    /// Waits, up to [`Durability::MAX_HOLD`], until the effect of a failed write is known. It is
    /// known once the file has been opened again.
    pub(super) fn settle_doubt(&self) -> Result<(), StorageError> {
        let mut state = lock(&self.state);
        if !state.in_doubt {
            return Ok(());
        }
        let looks = state.looks;
        state.view_failed = true;
        self.to_do.notify_one();
        let mut left = Durability::MAX_HOLD;
        while state.in_doubt && state.looks == looks && !state.has_ended {
            if left.is_zero() {
                return Err(StorageError::QueueFull);
            }
            let begun = Instant::now();
            state = wait(&self.done, state, left);
            left = left.saturating_sub(begun.elapsed());
        }
        match state.in_doubt {
            true => Err(state.failure.clone().unwrap_or(StorageError::Closed)),
            false => Ok(()),
        }
    }

    /// Reports that this view cannot be read, so that the database is opened again.
    pub(super) fn view_failed(&self, number: u64) {
        let mut state = lock(&self.state);
        if state.view.number == number {
            state.view_failed = true;
            self.to_do.notify_one();
        }
    }

    /// Makes the thread write what it can, and end.
    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.to_do.notify_one();
    }
}

fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
    at_most: Duration,
) -> MutexGuard<'a, State> {
    match condition.wait_timeout(state, at_most) {
        Ok((state, _)) => state,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

/// Starts the thread.
pub(super) fn spawn(
    span: Span,
    disk: Disk,
    view: View,
    usage: Usage,
    durability: Durability,
) -> Result<(Arc<WriterHandle>, thread::JoinHandle<()>), StorageError> {
    let shared = Arc::new(WriterHandle {
        state: Mutex::new(State {
            waiting: Group::default(),
            since: None,
            hurry: false,
            closing: false,
            view_failed: false,
            in_doubt: false,
            looks: 0,
            view: Arc::new(view),
            usage,
            written: VecDeque::new(),
            last_written: 0,
            last_failed: 0,
            unwritten_bytes: 0,
            failure: None,
            has_ended: false,
        }),
        to_do: Condvar::new(),
        done: Condvar::new(),
    });
    let writer = Writer { shared: shared.clone(), disk, durability, unwritten: Group::default() };
    let thread = thread::Builder::new()
        .name("smart-record-disk".to_owned())
        .spawn(move || span.in_scope(|| writer.run()))?;
    Ok((shared, thread))
}

struct Writer {
    shared: Arc<WriterHandle>,
    disk: Disk,
    durability: Durability,
    /// Changes that were taken over and are not in the file.
    unwritten: Group,
}

impl Writer {
    fn run(mut self) {
        loop {
            let (closing, view_failed) = self.take_work();
            if closing {
                self.disk.end_pause();
            }
            if view_failed {
                self.disk.close();
            }
            if !self.unwritten.changes.is_empty() {
                self.write();
            } else if view_failed {
                self.look_again();
            }
            if closing {
                return;
            }
        }
    }

    /// Waits for work, and takes over the changes to be written.
    fn take_work(&mut self) -> (bool, bool) {
        let shared = self.shared.clone();
        let mut state = lock(&shared.state);
        loop {
            let now = Instant::now();
            let waited = state.since.map(|since| now.saturating_duration_since(since));
            let until_due = match self.durability {
                _ if state.hurry => waited.map(|_| Duration::ZERO),
                Durability::Immediate => waited.map(|_| Duration::ZERO),
                Durability::Group { window, .. } => {
                    waited.map(|waited| window.saturating_sub(waited))
                }
            };
            let until_retry = (!self.unwritten.changes.is_empty()).then(|| {
                let until = self.disk.paused_until();
                until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
            });
            let is_due = until_due.is_some_and(|left| left.is_zero());
            if is_due || state.closing {
                state.since = None;
                state.hurry = false;
                self.unwritten.extend(std::mem::take(&mut state.waiting));
            }
            let retries = until_retry.is_some_and(|left| left.is_zero());
            if is_due || retries || state.closing || state.view_failed {
                return (state.closing, std::mem::take(&mut state.view_failed));
            }
            let next = until_due.into_iter().chain(until_retry).min();
            state = match next {
                Some(left) => wait(&shared.to_do, state, left),
                None => shared.to_do.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
    }

    fn write(&mut self) {
        let result = self.disk.write(&self.unwritten.changes, self.unwritten.usage);
        let mut state = lock(&self.shared.state);
        match result {
            Ok(view) => {
                let Group { changes, usage, commit, bytes } = std::mem::take(&mut self.unwritten);
                state.view = Arc::new(view);
                state.usage = usage;
                state.last_written = commit;
                state.unwritten_bytes = state.unwritten_bytes.saturating_sub(bytes);
                state.failure = None;
                state.written.push_back(Written { changes, commit });
            }
            Err(error) => {
                tracing::warn!(%error, "writing failed");
                state.failure = Some(error);
                if self.durability == Durability::Immediate {
                    state.in_doubt = true;
                    let dropped = std::mem::take(&mut self.unwritten);
                    state.last_failed = dropped.commit;
                    state.unwritten_bytes = state.unwritten_bytes.saturating_sub(dropped.bytes);
                }
            }
        }
        self.shared.done.notify_all();
    }

    /// Opens the database again for readers.
    fn look_again(&mut self) {
        let seen = self.disk.view();
        let mut state = lock(&self.shared.state);
        state.looks = state.looks.wrapping_add(1);
        match seen {
            Ok((view, usage)) => {
                state.view = Arc::new(view);
                state.usage = usage;
                if std::mem::take(&mut state.in_doubt) {
                    state.failure = None;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "opening again failed");
                if state.in_doubt {
                    state.failure = Some(error);
                }
            }
        }
        drop(state);
        self.shared.done.notify_all();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.unwritten.changes.is_empty() {
            tracing::error!(bytes = self.unwritten.bytes, "acknowledged writes are lost");
        }
        lock(&self.shared.state).has_ended = true;
        self.shared.done.notify_all();
    }
}
