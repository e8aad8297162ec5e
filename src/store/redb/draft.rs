//! A draft of a file: writes to it stay in memory, so a file can be inspected before it is opened.
//!
//! Opening a database changes it: redb marks it as open in its header, and repairs it. So a draft
//! is opened first, to find out whether the file is a store.
//!
//! **Invariants.** The file itself is not written to. A draft reads as the file would after the
//! same writes.

use std::{collections::BTreeMap, io, ops::Bound, sync::Mutex};

use ::redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

use crate::store::lock;

/// Destination of the writes to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// They are kept in memory, and forgotten when the database is closed.
    Forgotten,
    /// They reach the file.
    Kept,
}

/// Opens the database on a backend, which is initialised if it is empty.
pub(super) fn open(
    builder: &Builder,
    backend: impl StorageBackend,
    writes: Writes,
) -> Result<Database, DatabaseError> {
    match writes {
        Writes::Kept => builder.create_with_backend(backend),
        Writes::Forgotten => builder.create_with_backend(Draft::new(backend)),
    }
}

/// A backend with writes that have not reached it.
#[derive(Debug)]
struct Draft<B> {
    beneath: B,
    state: Mutex<DraftState>,
}

#[derive(Debug)]
struct DraftState {
    /// `None`: as beneath, which may change until it is locked.
    len: Option<u64>,
    /// Up to where the backend beneath is visible.
    visible: u64,
    /// Bytes by offset. No two overlap.
    writes: BTreeMap<u64, Vec<u8>>,
}

impl<B: StorageBackend> Draft<B> {
    const fn new(beneath: B) -> Self {
        let state = DraftState { len: None, visible: u64::MAX, writes: BTreeMap::new() };
        Self { beneath, state: Mutex::new(state) }
    }

    fn len_of(&self, state: &DraftState) -> io::Result<u64> {
        state.len.map_or_else(|| self.beneath.len(), Ok)
    }
}

impl DraftState {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.cut(offset, end(offset, bytes.len()));
        self.writes.insert(offset, bytes.to_vec());
    }

    /// Forgets what was written in a range.
    fn cut(&mut self, from: u64, to: u64) {
        let ahead = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
        // The last one before the range may reach into it, and beyond it.
        if let Some((at, bytes)) = self.writes.range_mut(..from).next_back() {
            let keeps = ahead(from.saturating_sub(*at)).min(bytes.len());
            let beyond = bytes.split_off(keeps);
            let beyond = beyond.get(ahead(to.saturating_sub(from))..).unwrap_or_default();
            if !beyond.is_empty() {
                let beyond = beyond.to_vec();
                self.writes.insert(to, beyond);
            }
        }
        while let Some((at, _)) = self.writes.range(from..to).next() {
            let at = *at;
            let bytes = self.writes.remove(&at).unwrap_or_default();
            let beyond = bytes.get(ahead(to.saturating_sub(at))..).unwrap_or_default();
            if !beyond.is_empty() {
                self.writes.insert(to, beyond.to_vec());
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = Some(len);
        self.visible = self.visible.min(len);
        self.cut(len, u64::MAX);
    }

    /// Puts what was written over `out`, the bytes from `offset` on.
    fn put_over(&self, offset: u64, out: &mut [u8]) {
        let before = self.writes.range(..offset).next_back();
        let within = self.writes.range(offset..end(offset, out.len()));
        for (at, bytes) in before.into_iter().chain(within) {
            let ahead = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
            let (to, from) = (ahead(at.saturating_sub(offset)), ahead(offset.saturating_sub(*at)));
            let to = out.iter_mut().skip(to);
            to.zip(bytes.iter().skip(from)).for_each(|(to, from)| *to = *from);
        }
    }
}

fn end(offset: u64, len: usize) -> u64 {
    offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX))
}

type Locked<T> = Result<T, BackendError>;

impl<B: StorageBackend> StorageBackend for Draft<B> {
    fn len(&self) -> io::Result<u64> {
        self.len_of(&lock(&self.state))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = lock(&self.state);
        if end(offset, out.len()) > self.len_of(&state)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let visible = self.beneath.len()?.min(state.visible).saturating_sub(offset);
        let visible = usize::try_from(visible).unwrap_or(usize::MAX);
        let (beneath, beyond) = out.split_at_mut(visible.min(out.len()));
        beyond.fill(0);
        if !beneath.is_empty() {
            self.beneath.read(offset, beneath)?;
        }
        state.put_over(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.state).set_len(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        if end(offset, bytes.len()) > self.len_of(&state)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.write(offset, bytes);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.beneath.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.beneath.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.beneath.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.beneath.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.beneath.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.beneath.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.beneath.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use ::redb::backends::InMemoryBackend;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let write = (0_u64..64, prop::collection::vec(1_u8.., 1..24));
        let step = prop_oneof![
            write.prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0_u64..96).prop_map(Step::SetLen),
        ];
        prop::collection::vec(step, 0..24)
    }

    fn apply(backend: &impl StorageBackend, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let len = backend.len().unwrap().max(end(*at, bytes.len()));
                    backend.set_len(len).unwrap();
                    backend.write(*at, bytes).unwrap();
                }
                Step::SetLen(len) => backend.set_len(*len).unwrap(),
            }
        }
    }

    fn content(backend: &impl StorageBackend) -> Vec<u8> {
        let mut content = vec![0xff; backend.len().unwrap() as usize];
        backend.read(0, &mut content).unwrap();
        content
    }

    proptest! {
        #[test]
        fn a_draft_reads_as_the_file_would_and_leaves_it_alone(before in steps(), after in steps()) {
            let (file, expected) = (InMemoryBackend::new(), InMemoryBackend::new());
            apply(&file, &before);
            apply(&expected, &before);
            let untouched = content(&file);
            let draft = Draft::new(file);
            apply(&draft, &after);
            apply(&expected, &after);
            let whole = content(&expected);
            prop_assert_eq!(content(&draft), &whole[..]);
            for from in 0..whole.len() {
                let mut part = vec![0xff; (whole.len() - from).min(7)];
                draft.read(from as u64, &mut part).unwrap();
                prop_assert_eq!(&part, &whole[from..from + part.len()]);
            }
            prop_assert!(draft.read(whole.len() as u64, &mut [0]).is_err());
            prop_assert_eq!(content(&draft.beneath), untouched);
        }
    }
}
