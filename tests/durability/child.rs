//! The child process: a store on disk that writes without end, and a storage backend that reports
//! its steps.

use std::{
    collections::BTreeSet,
    env,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SpaceSigner, SystemClock,
    store::{Durability, RedbConfig, RedbStorage, SmartRecordStore, StoreConfig},
};
use redb::{StorageBackend, backends::FileBackend};

use smart_record_testing::keys::keypair;

use super::BOARDS;

const FILE: &str = "DURABILITY_FILE";
const ORDER: &str = "DURABILITY_ORDER";
/// A commit begins with a write and ends with the second sync: see `docs/design.md`, section "On
/// disk". Changes of the file's length before and after that are not part of it.
const SYNCS: u64 = 2;
/// The maximum number of acknowledged writes in group mode until the next commit has ended. So the
/// updates of a round fit into its boards, however fast the machine is.
const WRITES_PER_COMMIT: u64 = 50;

/// Where a child stops.
#[derive(Clone, Copy)]
pub enum Stop {
    /// In the commit after this many, before, in the middle of or after one of its steps, or the
    /// last sync.
    Inside { commits: u64, step: u64, part: u64 },
    /// At this step of opening a file.
    Opening(u64),
    /// This long after it has begun to create the file. There the child ends itself.
    Making(u64),
}

/// The task of a child.
pub struct Order {
    pub mode: String,
    pub round: u64,
    /// The number of its first update.
    pub first: u64,
    pub stop: Option<Stop>,
}

impl Order {
    fn to_text(&self) -> String {
        let Self { mode, round, first, stop } = self;
        let stop = match stop {
            None => String::new(),
            Some(Stop::Inside { commits, step, part }) => format!("inside {commits} {step} {part}"),
            Some(Stop::Opening(step)) => format!("opening {step}"),
            Some(Stop::Making(moment)) => format!("making {moment}"),
        };
        format!("{mode} {round} {first} {stop}")
    }

    fn of_text(text: &str) -> Self {
        let words: Vec<_> = text.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let stop = words.get(3).map(|kind| match *kind {
            "inside" => Stop::Inside { commits: number(4), step: number(5), part: number(6) },
            "opening" => Stop::Opening(number(4)),
            _ => Stop::Making(number(4)),
        });
        Self { mode: words[0].to_owned(), round: number(1), first: number(2), stop }
    }
}

pub fn start(file: &Path, order: &Order) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child::child", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(FILE, file.as_os_str()), (ORDER, order.to_text().as_ref())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub fn local() -> PeerId {
    keypair(u64::MAX).public().to_peer_id()
}

pub fn board(round: u64, n: u64) -> RecordKey {
    RecordKey::new(format!("/sr/{round}/{}", n % BOARDS))
}

/// Whether an update lives for long and so has to be found.
pub fn lives(n: u64) -> bool {
    n % 4 != 3
}

fn config(mode: &str) -> RedbConfig {
    RedbConfig::default().with_durability(match mode {
        "group" => Durability::Group { window: Duration::from_millis(10), max_bytes: 1 << 24 },
        _ => Durability::Immediate,
    })
}

pub fn open(path: &Path, mode: &str) -> SmartRecordStore {
    store(RedbStorage::open(path, local(), &config(mode)).unwrap())
}

fn open_watched(path: &Path, mode: &str, watch: &Arc<Watch>) -> SmartRecordStore {
    let (path, watch) = (path.to_owned(), watch.clone());
    let open = move || {
        let file = File::options().read(true).write(true).open(&path)?;
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Watched { file, watch: watch.clone() })
    };
    store(RedbStorage::open_backend(open, local(), &config(mode)).unwrap())
}

fn store(storage: RedbStorage) -> SmartRecordStore {
    let bounds = StoreConfig::default();
    SmartRecordStore::with_storage(local(), Registry::default(), bounds, storage, SystemClock)
        .unwrap()
}

/// In a single write, so that the line is complete or absent.
fn say(line: &str) {
    let mut out = io::stdout();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Runs the child, if this process is one: writes update after update, each to a new space. Every
/// fourth one expires soon.
#[test]
fn child() {
    let variable = |name| env::var(name).ok();
    let (Some(file), Some(order)) = (variable(FILE), variable(ORDER)) else {
        return;
    };
    let (file, Order { mode, round, first, stop }) = (PathBuf::from(file), Order::of_text(&order));
    if let Some(Stop::Making(moment)) = stop {
        end_while_making(&file, moment);
        let _store = open(&file, &mode);
        return say("open");
    }
    let watch = Arc::new(Watch::new(stop));
    let mut store = open_watched(&file, &mode, &watch);
    watch.is_open();
    for n in first.. {
        let (key, now) = (board(round, n), SystemClock.now());
        let ttl = Duration::from_millis(if lives(n) { 3_600_000 } else { 40 });
        let mut signer = SpaceSigner::new(key.clone(), keypair(n), Limits::default());
        let document: Dict = [("n", n.to_string())].into_iter().collect();
        signer.merge(document, now, ttl).unwrap();
        let value = signer.record(now).encode();
        store.write(&key, &value).unwrap();
        say(&format!("wrote {n}"));
        match &*mode {
            "group" => watch.await_turn(),
            _ => assert!(!watch.is_inside(), "what is acknowledged is committed"),
        }
    }
}

/// Ends the process a moment after a temporary file is created beside `file`. Those of earlier
/// deaths stay there.
fn end_while_making(file: &Path, moment: u64) {
    let folder = file.parent().unwrap().to_owned();
    let temporary = move || {
        let paths = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let is_one = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tmp"))
        };
        paths.filter(is_one).collect::<BTreeSet<_>>()
    };
    let earlier = temporary();
    thread::spawn(move || {
        let made = loop {
            if let Some(made) = temporary().difference(&earlier).next() {
                break made.clone();
            }
        };
        (0..moment).for_each(|_| drop(made.metadata()));
        std::process::abort();
    });
}

/// The progress of a storage backend.
struct Watch {
    state: Mutex<State>,
    commit_ended: Condvar,
    stop: Option<Stop>,
}

#[derive(Default)]
struct State {
    is_open: bool,
    /// Steps and syncs since the opening of the file began, or since the last commit ended.
    steps: u64,
    syncs: u64,
    /// How many commits have ended since the file was opened.
    commits: u64,
    /// How many writes were acknowledged since the last commit ended.
    writes: u64,
}

impl Watch {
    fn new(stop: Option<Stop>) -> Self {
        Self { state: Mutex::default(), commit_ended: Condvar::new(), stop }
    }

    fn is_open(&self) {
        *self.state.lock().unwrap() = State { is_open: true, ..State::default() };
        say("open");
    }

    fn is_inside(&self) -> bool {
        self.state.lock().unwrap().steps > 0
    }

    /// Waits for the end of a commit if there has been none for many writes.
    fn await_turn(&self) {
        let mut state = self.state.lock().unwrap();
        state.writes += 1;
        drop(
            self.commit_ended.wait_while(state, |state| state.writes >= WRITES_PER_COMMIT).unwrap(),
        );
    }

    /// Takes a step that changes the file. Or takes none, half or all of it and stops there.
    fn step(&self, kind: Step, take: impl FnOnce(u64) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if state.is_open && state.steps == 0 {
            if kind != Step::Write {
                drop(state);
                return take(2);
            }
            say("begins a commit");
        }
        let (is_open, steps, commits) = (state.is_open, state.steps, state.commits);
        let is_sync = kind == Step::Sync;
        let is_last = is_sync && state.syncs + 1 == SYNCS;
        state.steps += 1;
        drop(state);
        let stop = match self.stop {
            Some(Stop::Inside { commits: after, step, part })
                if is_open && commits == after && (steps == step || is_last) =>
            {
                Some(part)
            }
            Some(Stop::Opening(step)) if !is_open && steps == step => Some(step % 3),
            _ => None,
        };
        let Some(part) = stop else {
            take(2)?;
            if is_sync {
                self.on_sync();
            }
            return Ok(());
        };
        if part > 0 {
            take(part)?;
        }
        say("stops");
        loop {
            thread::park();
        }
    }

    fn on_sync(&self) {
        let mut state = self.state.lock().unwrap();
        state.syncs += 1;
        if state.is_open && state.syncs == SYNCS {
            *state = State { is_open: true, commits: state.commits + 1, ..State::default() };
            say("ends a commit");
            self.commit_ended.notify_all();
        }
    }
}

/// An operation on a file.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Write,
    SetLen,
    Sync,
}

/// A file with a [`Watch`] on its operations.
#[derive(Debug)]
struct Watched {
    file: FileBackend,
    watch: Arc<Watch>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch.step(Step::SetLen, |_| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.step(Step::Sync, |_| self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch.step(Step::Write, |halves| {
            let (part, _) = data.split_at(data.len() * halves as usize / 2);
            self.file.write(offset, part)
        })
    }
}
