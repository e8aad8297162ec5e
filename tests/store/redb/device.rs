//! A disk that fails on command.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use ::redb::StorageBackend;

/// A disk in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct Device(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// The content after a loss of power.
    durable: Vec<u8>,
    /// The content that is read.
    current: Vec<u8>,
    /// The writes since the last sync.
    unsynced: Vec<Write>,
    faults: Faults,
    syncs: usize,
    /// How many syncs are hanging at the moment.
    hanging: usize,
}

enum Write {
    Bytes(u64, Vec<u8>),
    Len(u64),
}

/// Faults of the disk.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub reads: bool,
    /// How many more reads succeed.
    pub reads_left: Option<usize>,
    pub writes: bool,
    pub syncs: bool,
    /// How many more syncs succeed.
    pub syncs_left: Option<usize>,
    /// How many more bytes can be written before the disk breaks in the middle of a write.
    pub bytes_left: Option<usize>,
    /// The maximum size of the file.
    pub capacity: Option<u64>,
    /// Whether syncs hang.
    pub syncs_hang: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        reads: false,
        reads_left: None,
        writes: false,
        syncs: false,
        syncs_left: None,
        bytes_left: None,
        capacity: None,
        syncs_hang: false,
    };
}

fn broken<T>() -> io::Result<T> {
    Err(io::Error::other("on command"))
}

impl Device {
    pub fn fail(&self, faults: Faults) {
        self.0.0.lock().unwrap().faults = faults;
        self.0.1.notify_all();
    }

    pub fn mend(&self) {
        self.fail(Faults::default());
    }

    pub fn len(&self) -> u64 {
        self.0.0.lock().unwrap().current.len() as u64
    }

    pub fn syncs(&self) -> usize {
        self.0.0.lock().unwrap().syncs
    }

    /// Waits until there have been more than this many syncs. Returns whether there have.
    pub fn await_syncs(&self, more_than: usize, at_most: Duration) -> bool {
        self.wait_while(at_most, |state| state.syncs <= more_than)
    }

    /// Waits until a sync hangs. Returns whether one does.
    pub fn await_hang(&self, at_most: Duration) -> bool {
        self.wait_while(at_most, |state| state.hanging == 0)
    }

    fn wait_while(&self, at_most: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let state = self.0.0.lock().unwrap();
        let waited = self.0.1.wait_timeout_while(state, at_most, |state| holds(state));
        !waited.unwrap().1.timed_out()
    }

    /// Changes the content of the disk without the database.
    pub fn tamper(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.0.lock().unwrap();
        change(&mut state.current);
        state.durable = state.current.clone();
    }

    /// The disk after a loss of power. `keeps` returns how much of each write since the last sync
    /// has arrived.
    pub fn after_power_loss(&self, mut keeps: impl FnMut(usize) -> usize) -> Self {
        let state = self.0.0.lock().unwrap();
        let mut left = state.durable.clone();
        for write in &state.unsynced {
            match write {
                Write::Bytes(at, bytes) => {
                    let kept = keeps(bytes.len()).min(bytes.len());
                    put(&mut left, *at, &bytes[..kept]);
                }
                Write::Len(len) => {
                    if keeps(1) > 0 {
                        left.resize(*len as usize, 0);
                    }
                }
            }
        }
        let state = State { current: left.clone(), durable: left, ..State::default() };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }
}

fn put(disk: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let (start, end) = (at as usize, at as usize + bytes.len());
    if disk.len() < end {
        disk.resize(end, 0);
    }
    disk[start..end].copy_from_slice(bytes);
}

impl StorageBackend for Device {
    fn len(&self) -> io::Result<u64> {
        Ok(Self::len(self))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        if state.faults.reads || state.faults.reads_left == Some(0) {
            return broken();
        }
        state.faults.reads_left = state.faults.reads_left.map(|left| left - 1);
        let end = offset as usize + out.len();
        let Some(bytes) = state.current.get(offset as usize..end) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        if state.faults.writes {
            return broken();
        }
        if state.faults.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.current.resize(len as usize, 0);
        state.unsynced.push(Write::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        state.hanging += 1;
        self.0.1.notify_all();
        while state.faults.syncs_hang {
            state = self.0.1.wait(state).unwrap();
        }
        state.hanging -= 1;
        if state.faults.syncs || state.faults.writes || state.faults.syncs_left == Some(0) {
            return broken();
        }
        state.faults.syncs_left = state.faults.syncs_left.map(|left| left - 1);
        state.syncs += 1;
        self.0.1.notify_all();
        let state = &mut *state;
        for write in state.unsynced.drain(..) {
            match write {
                Write::Bytes(at, bytes) => put(&mut state.durable, at, &bytes),
                Write::Len(len) => state.durable.resize(len as usize, 0),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.0.lock().unwrap();
        if state.faults.writes {
            return broken();
        }
        let mut data = data;
        let mut tears = false;
        if let Some(left) = &mut state.faults.bytes_left {
            tears = *left < data.len();
            data = &data[..data.len().min(*left)];
            *left -= data.len();
        }
        put(&mut state.current, offset, data);
        state.unsynced.push(Write::Bytes(offset, data.to_vec()));
        if tears {
            return broken();
        }
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("len", &self.len()).finish()
    }
}
