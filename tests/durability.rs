//! Killed at any instant, a store on disk reopens with what it has promised.
//!
//! The test starts itself again as a child that writes without end and reports each write once it is acknowledged,
//! and kills it with SIGKILL: while it writes, and in every fourth round while it opens what such a kill has left, or
//! makes a file. 200 rounds by default; `KILLS=1000 cargo test --all-features --test durability` for more.

#![cfg(feature = "redb")]

#[path = "support/writers.rs"]
mod writers;

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{BufRead, BufReader, Write},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use libp2p_identity::PeerId;
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecordStore, SpaceSigner, StoreConfig,
    SystemClock, Timestamp,
    store::{
        Durability, RedbConfig, RedbStorage, Usage,
        storage::{PartId, RecordId, SpaceId, Storage, Tally, TallyId},
    },
};
use writers::keypair;

const FILE: &str = "DURABILITY_FILE";
const MODE: &str = "DURABILITY_MODE";
const ROUND: &str = "DURABILITY_ROUND";
const FIRST: &str = "DURABILITY_FIRST";
/// How many records the writers share.
const BOARDS: u64 = 5;
/// Each child has so many numbers for its updates.
const NUMBERS: u64 = 1_000_000;
/// For how many rounds updates have to be there. Older ones go, or the store would be full some day and evict what
/// it has acknowledged.
const KEPT_ROUNDS: u64 = 20;

fn local() -> PeerId {
    keypair(u64::MAX).public().to_peer_id()
}

fn durability(mode: &str) -> Durability {
    match mode {
        "group" => Durability::Group { window: Duration::from_millis(30), max_bytes: 1 << 24 },
        _ => Durability::Immediate,
    }
}

fn open(path: &Path, mode: &str) -> SmartRecordStore {
    let config = RedbConfig::default().with_durability(durability(mode));
    let storage = RedbStorage::open(path, local(), &config).unwrap();
    let bounds = StoreConfig::default();
    SmartRecordStore::with_storage(local(), Registry::default(), bounds, storage, SystemClock)
}

fn board(round: u64, n: u64) -> RecordKey {
    RecordKey::new(format!("/sr/{round}/{}", n % BOARDS))
}

/// One write, so that the line is whole or not there.
fn say(line: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What the child does, if this process is one: writes update after update, each to a space of its own, every
/// fourth one of them to expire soon.
#[test]
fn child() {
    let variable = |name| env::var(name).ok();
    let (Some(file), Some(mode), Some(round), Some(first)) =
        (variable(FILE), variable(MODE), variable(ROUND), variable(FIRST))
    else {
        return;
    };
    let (round, first): (u64, u64) = (round.parse().unwrap(), first.parse().unwrap());
    say("opening");
    let mut store = open(Path::new(&file), &mode);
    say("open");
    for n in first.. {
        let (key, now) = (board(round, n), SystemClock.now());
        let ttl = Duration::from_millis(if lives(n) { 3_600_000 } else { 40 });
        let mut signer = SpaceSigner::new(key.clone(), keypair(n), Limits::default());
        let document: Dict = [("n", n.to_string())].into_iter().collect();
        signer.merge(document, now, ttl).unwrap();
        let value = signer.record(now).encode();
        store.write(&key, &value).unwrap();
        say(&format!("wrote {n}"));
    }
}

/// Whether an update lives for long, so that it has to be there.
fn lives(n: u64) -> bool {
    n % 4 != 3
}

/// When a child is killed.
#[derive(Clone, Copy)]
enum Instants {
    /// So long after so many of its writes were acknowledged.
    Writing(u64, Duration),
    /// So long after it began to open the file.
    Opening(Duration),
}

/// What a child has said before it was killed.
struct Killed {
    /// The numbers that it had for its updates.
    numbers: Range<u64>,
    began_to_open: bool,
    was_open: bool,
    acknowledged: Vec<u64>,
}

impl Killed {
    fn hear(&mut self, line: &str) {
        match line {
            "opening" => self.began_to_open = true,
            "open" => self.was_open = true,
            _ => self
                .acknowledged
                .extend(line.strip_prefix("wrote ").map(|n| n.parse::<u64>().unwrap())),
        }
    }

    fn is_ripe(&self, when: Instants) -> bool {
        match when {
            Instants::Writing(writes, _) => {
                self.was_open && self.acknowledged.len() as u64 >= writes
            }
            Instants::Opening(_) => self.began_to_open,
        }
    }

    fn while_opening(&self) -> bool {
        self.began_to_open && !self.was_open
    }
}

fn start(file: &Path, mode: &str, round: u64, first: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(FILE, file.as_os_str()), (MODE, mode.as_ref())])
        .envs([(ROUND, round.to_string()), (FIRST, first.to_string())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A file, and what has to be in it.
struct Subject {
    mode: &'static str,
    file: PathBuf,
    /// What lives of the last rounds, as it was found after each: it was acknowledged, or it has reached the file
    /// all the same and been seen there.
    rounds: VecDeque<BTreeMap<PartId, Vec<u8>>>,
}

impl Subject {
    fn new(mode: &'static str, file: PathBuf) -> Self {
        Self { mode, file, rounds: VecDeque::new() }
    }

    /// Lets the `nth` child of a round run until an instant that has nothing to do with what it is at, and kills it.
    fn run_and_kill(&self, round: u64, nth: u64, when: Instants) -> Killed {
        let numbers = nth * NUMBERS..(nth + 1) * NUMBERS;
        let mut child = start(&self.file, self.mode, round, numbers.start);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut killed =
            Killed { numbers, began_to_open: false, was_open: false, acknowledged: Vec::new() };
        while !killed.is_ripe(when) {
            killed.hear(&lines.next().expect("the child ended by itself"));
        }
        let (Instants::Writing(_, pause) | Instants::Opening(pause)) = when;
        let begun = Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed.
        lines.for_each(|line| killed.hear(&line));
        killed
    }

    /// Opens the file after the kills of a round, and looks at what is in it. Returns how many updates of the round
    /// were read.
    fn check(&mut self, round: u64, kills: &[Killed], promise: Promise) -> usize {
        let mut store = open(&self.file, self.mode);
        let found = stored(&store, round);
        for Killed { numbers, acknowledged, .. } in kills {
            let found: Vec<_> = found.iter().copied().filter(|n| numbers.contains(n)).collect();
            promise(acknowledged, &found);
        }
        // Everything of this round, whatever of the last ones is left, can be written to again.
        assert_eq!(store.counters().storage_failures, 0);
        let expired = SystemClock.now();
        store.collect().unwrap();
        let mut signer =
            SpaceSigner::new(board(round, 0), keypair(u64::MAX - 1), Limits::default());
        let now = SystemClock.now();
        signer.merge(Dict::default(), now, Duration::from_secs(60)).unwrap();
        store.write(&board(round, 0), &signer.record(now).encode()).unwrap();
        assert_eq!(store.counters().rows_discarded, 0, "round {round}: a bad row");
        if self.rounds.len() as u64 == KEPT_ROUNDS {
            self.rounds.pop_front();
            let old = round - KEPT_ROUNDS;
            (0..BOARDS).for_each(|n| store.forget(&board(old, n)).unwrap());
        }
        drop(store);
        self.check_rows(round, expired, &found);
        found.len()
    }

    /// Reads all rows, without the store, which would hide what is bad or has expired.
    fn check_rows(&mut self, round: u64, expired: Timestamp, found: &[u64]) {
        let mut storage = RedbStorage::open(&self.file, local(), &RedbConfig::default()).unwrap();
        let mut rows = BTreeMap::new();
        let mut usage = Usage::default();
        for row in storage.scan(&PartId::MIN) {
            let (id, part) = row.unwrap();
            // What had expired is gone from the file, and not only hidden.
            assert!(part.expires_at.is_none_or(|at| at > expired), "{id:?} is back");
            usage.records += usize::from(id.space == SpaceId::HEAD);
            usage.bytes += part.bytes.len() + Usage::ROW;
            rows.insert(id, part.bytes.into_owned());
        }
        // No row was passed over, and all that is counted is there.
        assert_eq!(storage.take_rejected(), [], "round {round}: damaged rows");
        assert_eq!(storage.usage(), usage, "round {round}");
        let tally = Tally { count: usage.records as u64, bytes: usage.bytes as u64 };
        assert_eq!(storage.tally(&TallyId::namespace("sr")).unwrap(), tally, "round {round}");
        assert!(usage.records as u64 <= KEPT_ROUNDS * BOARDS);
        // Nothing of the last rounds has gone or changed.
        for (id, bytes) in self.rounds.iter().flatten() {
            assert_eq!(rows.get(id), Some(bytes), "round {round}: {id:?} of an earlier one");
        }
        let of_round = found.iter().filter(|n| lives(**n)).map(|n| {
            let (key, writer) = (board(round, *n), keypair(*n).public());
            let rank = libp2p_smart_record::Writer::from(&writer).rank(&key);
            let id = RecordId::new(&local(), &key).part(SpaceId(rank));
            (id, rows.get(&id).expect("what was read is in a row").clone())
        });
        self.rounds.push_back(of_round.collect());
    }
}

/// The updates of a round that are in the store, by their numbers, in ascending order.
fn stored(store: &SmartRecordStore, round: u64) -> Vec<u64> {
    let mut found = Vec::new();
    for n in 0..BOARDS {
        let Some(record) = store.record(&board(round, n)).unwrap() else {
            continue;
        };
        for (_, space) in record.spaces() {
            for update in space.updates() {
                let number = update.document().iter().next().unwrap().1.to_string();
                found.push(number.trim_matches('"').parse().unwrap());
            }
        }
    }
    found.sort_unstable();
    found
}

/// What of the acknowledged updates has to be among those that are found.
type Promise = fn(acknowledged: &[u64], found: &[u64]);

/// Up to 20 ms, more of them short than long.
fn while_opening(n: u64) -> Instants {
    let hundredth = n * 37 % 100;
    Instants::Opening(Duration::from_micros(2 * hundredth * hundredth))
}

fn kill_again_and_again(mode: &'static str, promise: Promise) {
    let rounds = env::var("KILLS").map_or(200, |kills| kills.parse::<u64>().unwrap()) / 2;
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Subject::new(mode, dir.path().join("store"));
    let (mut kills, mut total, mut kept) = (0, 0, 0);
    let (mut while_made, mut while_recovered) = (0, 0);
    for round in 0..rounds {
        let pause = Duration::from_micros(round * 7_919 % 3_000);
        let mut killed =
            vec![subject.run_and_kill(round, 0, Instants::Writing(round * 31 % 127, pause))];
        if round % 4 == 3 {
            // Nobody else has opened the file meanwhile: it has to recover, twice from an interrupted recovery.
            killed
                .extend((1..=2).map(|n| subject.run_and_kill(round, n, while_opening(round + n))));
            while_recovered += killed.iter().filter(|killed| killed.while_opening()).count();
            // And a file that is not there yet, nor is it after such a kill, or not whole.
            let mut new = Subject::new(mode, dir.path().join(format!("new-{round}")));
            let of_new: Vec<_> =
                (0..2).map(|n| new.run_and_kill(round, n, while_opening(round + 2 * n))).collect();
            while_made += of_new.iter().filter(|killed| killed.while_opening()).count();
            new.check(round, &of_new, promise);
            kills += of_new.len();
        }
        total += killed.iter().map(|killed| killed.acknowledged.len()).sum::<usize>();
        kept += subject.check(round, &killed, promise);
        kills += killed.len();
    }
    println!(
        "{mode}: {kills} kills, {while_recovered} while recovering, {while_made} while making the file; {total} writes acknowledged, {kept} read"
    );
    let least = 2 * rounds as usize;
    assert!(total > least && kept > least, "{total} acknowledged, {kept} read");
    if rounds >= 100 {
        assert!(while_recovered > 0, "none was killed while it recovered the file");
        assert!(while_made > 0, "none was killed while it made the file");
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_immediate_mode() {
    kill_again_and_again("immediate", |acknowledged, found| {
        for n in acknowledged.iter().filter(|n| lives(**n)) {
            assert!(found.contains(n), "{n} was acknowledged");
        }
    });
}

/// How much that is at most: `a_write_survives_a_loss_of_power_one_window_later`, in `tests/store/redb/waiting.rs`.
#[test]
fn what_is_lost_in_group_mode_is_the_end() {
    kill_again_and_again("group", |acknowledged, found| {
        let lost = acknowledged.iter().find(|n| lives(**n) && !found.contains(n));
        if let Some(first) = lost {
            let later = found.iter().find(|n| *n > first);
            assert_eq!(later, None, "{first} was lost");
        }
    });
}
