//! A store on disk that is killed at any instant has kept its promises when it is opened again.
//!
//! The test starts itself as a child process that writes without end, and kills it with SIGKILL.
//! The child reports what has happened: its main thread that a write is acknowledged, its storage
//! backend where a commit begins and ends. The test follows these reports, not the time. Every
//! other child is killed inside a commit: its backend stops there until it is killed. The others
//! are killed a moment after a commit, whatever they are doing. In every fourth round children are
//! killed while they open the file of a killed child, or create a file.
//!
//! 200 kills by default; `KILLS=1000 cargo test --all-features --test durability` for more.

#![cfg(feature = "redb")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod child;

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    io::{BufRead, BufReader},
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use child::{Order, Stop, board, lives, local, open, start};
use libp2p_smart_record::{
    Clock, Dict, Limits, SpaceSigner, SystemClock, Timestamp,
    store::{
        RedbConfig, RedbStorage, SmartRecordStore, Usage,
        storage::{PartId, RecordId, SpaceId, Storage, Tally, TallyId},
    },
};
use smart_record_testing::keys::keypair;

/// How many records the writers share.
const BOARDS: u64 = 5;
/// How many update numbers each child has.
const NUMBERS: u64 = 1_000_000;
/// For how many rounds updates have to be found. Older ones expire, or the store would become full
/// and evict acknowledged updates.
const KEPT_ROUNDS: u64 = 20;

/// When a child is killed.
#[derive(Clone, Copy)]
enum Instants {
    /// This long after it has finished this many commits.
    After(u64, Duration),
    /// Where it stops.
    Stopped(Stop),
}

/// What a child has reported before it was killed.
struct Killed {
    /// The numbers of its updates.
    numbers: Range<u64>,
    was_open: bool,
    has_stopped: bool,
    acknowledged: Vec<u64>,
    /// How many commits its storage backend has finished, and whether it is in one.
    commits: u64,
    is_inside: bool,
}

impl Killed {
    fn new(numbers: Range<u64>) -> Self {
        Self {
            numbers,
            was_open: false,
            has_stopped: false,
            acknowledged: Vec::new(),
            commits: 0,
            is_inside: false,
        }
    }

    fn hear(&mut self, line: &str) {
        match line {
            "open" => self.was_open = true,
            "begins a commit" => self.is_inside = true,
            "ends a commit" => {
                self.is_inside = false;
                self.commits += 1;
            }
            "stops" => self.has_stopped = true,
            _ => self
                .acknowledged
                .extend(line.strip_prefix("wrote ").map(|n| n.parse::<u64>().unwrap())),
        }
    }

    fn is_ripe(&self, when: Instants) -> bool {
        match when {
            Instants::After(commits, _) => self.commits >= commits && !self.acknowledged.is_empty(),
            // Opening the file takes fewer steps than that.
            Instants::Stopped(Stop::Opening(_)) => self.has_stopped || self.was_open,
            Instants::Stopped(_) => self.has_stopped,
        }
    }
}

/// A file, and its expected content.
struct Subject {
    mode: &'static str,
    file: PathBuf,
    /// The unexpired rows of the last rounds, as found after each. They were acknowledged, or have
    /// reached the file and were seen there.
    rounds: VecDeque<BTreeMap<PartId, Vec<u8>>>,
}

impl Subject {
    fn new(mode: &'static str, file: PathBuf) -> Self {
        Self { mode, file, rounds: VecDeque::new() }
    }

    /// Runs the `nth` child of a round until an instant, and kills it.
    fn run_and_kill(&self, round: u64, nth: u64, when: Instants) -> Killed {
        let mut killed = Killed::new(nth * NUMBERS..(nth + 1) * NUMBERS);
        let stop = match when {
            Instants::After(..) => None,
            Instants::Stopped(stop) => Some(stop),
        };
        let first = killed.numbers.start;
        let mut child = start(&self.file, &Order { mode: self.mode.into(), round, first, stop });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        while !killed.is_ripe(when) {
            killed.hear(&lines.next().expect("the child ended by itself"));
        }
        if let Instants::After(_, pause) = when {
            let begun = Instant::now();
            while begun.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it reported before it was killed.
        lines.for_each(|line| killed.hear(&line));
        killed
    }

    /// Runs a child that creates the file and ends itself in the meantime. Returns whether it has.
    fn make_and_die(&self, round: u64, moment: u64) -> bool {
        let stop = Some(Stop::Making(moment));
        let order = Order { mode: self.mode.into(), round, first: 0, stop };
        let mut child = start(&self.file, &order);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let was_made = lines.filter(|line| line == "open").count() > 0;
        child.wait().unwrap();
        !was_made
    }

    /// Opens the file after the kills of a round, and checks its content. Returns how many updates
    /// of the round were found.
    fn check(&mut self, round: u64, kills: &[Killed], promise: Promise) -> usize {
        let mut store = open(&self.file, self.mode);
        let found = stored(&store, round);
        for Killed { numbers, acknowledged, .. } in kills {
            let found: Vec<_> = found.iter().copied().filter(|n| numbers.contains(n)).collect();
            promise(acknowledged, &found);
        }
        // All boards of this round and of the last ones can be written to.
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

    /// Reads all rows without the store, which would hide invalid and expired ones.
    fn check_rows(&mut self, round: u64, expired: Timestamp, found: &[u64]) {
        let mut storage = RedbStorage::open(&self.file, local(), &RedbConfig::default()).unwrap();
        let mut rows = BTreeMap::new();
        let mut usage = Usage::default();
        for row in storage.scan(PartId::ALL) {
            let (id, part) = row.unwrap();
            // What had expired has been removed from the file, and is not only hidden.
            assert!(part.expires_at.is_none_or(|at| at > expired), "{id:?} is back");
            usage.records += usize::from(id.space == SpaceId::HEAD);
            usage.bytes += part.bytes.len() + Usage::ROW;
            rows.insert(id, part.bytes.into_owned());
        }
        // No row was skipped, and all that is counted exists.
        assert_eq!(storage.take_rejected(), [], "round {round}: damaged rows");
        assert_eq!(storage.usage(), usage, "round {round}");
        let tally = Tally { count: usage.records as u64, bytes: usage.bytes as u64 };
        assert_eq!(storage.tally(&TallyId::namespace("sr")).unwrap(), tally, "round {round}");
        assert!(usage.records as u64 <= KEPT_ROUNDS * BOARDS);
        // Nothing of the last rounds is missing or changed.
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

/// The numbers of the updates of a round that are in the store, in ascending order.
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

/// Asserts which of the acknowledged updates are among the found ones.
type Promise = fn(acknowledged: &[u64], found: &[u64]);

/// How a round begins: with a kill inside a commit, or a moment after one.
fn while_writing(mode: &str, round: u64) -> Instants {
    let commits = match mode {
        "group" => 1 + round % 4,
        _ => 1 + round * 31 % 64,
    };
    let step = round / 2;
    match round % 2 {
        0 => Instants::After(commits, Duration::from_micros(round * 7_919 % 3_000)),
        _ => Instants::Stopped(Stop::Inside { commits, step: step % 17, part: step % 3 }),
    }
}

/// A file that children have begun to create, and how many of them have died of it. If a child
/// completes the file first, another file is tried.
fn half_made(mode: &'static str, dir: &Path, round: u64) -> (Subject, usize) {
    for attempt in 0..1_000 {
        let new = Subject::new(mode, dir.join(format!("new-{round}-{attempt}")));
        if new.make_and_die(round, (round + 37 * attempt) % 100) {
            let again = new.make_and_die(round, round % 100);
            return (new, 1 + usize::from(again));
        }
    }
    panic!("none was killed while it made the file");
}

fn kill_again_and_again(mode: &'static str, promise: Promise) {
    let rounds = env::var("KILLS").map_or(200, |kills| kills.parse::<u64>().unwrap()) / 2;
    let dir = tempfile::tempdir().unwrap();
    let mut subject = Subject::new(mode, dir.path().join("store"));
    drop(open(&subject.file, mode));
    let (mut kills, mut inside, mut total, mut kept) = (0, 0, 0, 0);
    let (mut while_made, mut while_recovered) = (0, 0);
    for round in 0..rounds {
        let mut killed = vec![subject.run_and_kill(round, 0, while_writing(mode, round))];
        if round % 4 == 3 {
            // The file was not opened in the meantime, so it has to be recovered, twice from an
            // interrupted recovery.
            let opening = |n| Instants::Stopped(Stop::Opening((round / 4 + n) % 8));
            killed.extend((1..=2).map(|n| subject.run_and_kill(round, n, opening(n - 1))));
            while_recovered += killed.iter().filter(|killed| !killed.was_open).count();
            // The same with a file that does not exist yet. After such a kill it is absent or
            // complete.
            let (mut new, deaths) = half_made(mode, dir.path(), round);
            new.check(round, &[], promise);
            while_made += deaths;
            kills += deaths;
        }
        let found = subject.check(round, &killed, promise);
        let of_round: usize = killed.iter().map(|killed| killed.acknowledged.len()).sum();
        assert!(of_round > 0 && found > 0, "round {round}: {of_round} acknowledged, {found} found");
        total += of_round;
        kept += found;
        inside += killed.iter().filter(|killed| killed.was_open && killed.is_inside).count();
        kills += killed.len();
    }
    println!(
        "{mode}: {kills} kills, {inside} inside a commit, {while_recovered} while recovering, {while_made} while \
         making the file; {total} writes acknowledged, {kept} found after reopening"
    );
    assert!(inside as u64 >= rounds / 2 && inside > 0, "{inside} kills fell inside a commit");
    assert!(while_recovered as u64 >= rounds / 4, "{while_recovered} kills fell inside a recovery");
    assert!(while_made as u64 >= rounds / 4, "{while_made} kills fell inside making the file");
}

#[test]
fn nothing_acknowledged_is_lost_in_immediate_mode() {
    kill_again_and_again("immediate", |acknowledged, found| {
        for n in acknowledged.iter().filter(|n| lives(**n)) {
            assert!(found.contains(n), "{n} was acknowledged");
        }
    });
}

/// The maximum loss is tested by `a_write_survives_a_loss_of_power_one_window_later`, in
/// `tests/store/redb/waiting.rs`.
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
