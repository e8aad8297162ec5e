//! Killed at any instant, a store on disk reopens with what it has promised.
//!
//! The test starts itself again as a child that writes without end and reports each write once it is acknowledged,
//! and kills it with SIGKILL. 200 times by default; `KILLS=1000 cargo test --all-features --test durability` for
//! more.

#![cfg(feature = "redb")]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecordStore, SpaceSigner, StoreConfig,
    SystemClock,
    store::{
        Durability, RedbConfig, RedbStorage,
        storage::{PartId, Storage},
    },
};

const FILE: &str = "DURABILITY_FILE";
const MODE: &str = "DURABILITY_MODE";
const ROUND: &str = "DURABILITY_ROUND";
const WINDOW: Duration = Duration::from_millis(30);
/// How many records the writers share.
const BOARDS: u64 = 5;

fn keypair(seed: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

fn local() -> PeerId {
    keypair(u64::MAX).public().to_peer_id()
}

fn durability(mode: &str) -> Durability {
    match mode {
        "group" => Durability::Group { window: WINDOW, max_bytes: 1 << 24 },
        _ => Durability::Immediate,
    }
}

fn open(path: &Path, mode: &str) -> SmartRecordStore<RedbStorage> {
    let config = RedbConfig::default().with_durability(durability(mode));
    let storage = RedbStorage::open(path, local(), &config).unwrap();
    let bounds = StoreConfig::default();
    SmartRecordStore::with_storage(local(), Registry::default(), bounds, storage, SystemClock)
}

fn board(round: u64, n: u64) -> RecordKey {
    RecordKey::new(format!("/sr/{round}/{}", n % BOARDS))
}

fn millis() -> u64 {
    SystemClock.now().as_millis()
}

/// What the child does, if this process is one: writes update after update, each to a space of its own, every
/// fourth one of them to expire soon.
#[test]
fn child() {
    let (Ok(file), Ok(mode), Ok(round)) = (env::var(FILE), env::var(MODE), env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let mut store = open(Path::new(&file), &mode);
    let mut out = std::io::stdout();
    for n in 0.. {
        let (key, now) = (board(round, n), SystemClock.now());
        let ttl = Duration::from_millis(if n % 4 == 3 { 40 } else { 3_600_000 });
        let mut signer = SpaceSigner::new(key.clone(), keypair(n), Limits::default());
        let document: Dict = [("n", n.to_string())].into_iter().collect();
        signer.merge(document, now, ttl).unwrap();
        let value = signer.record(now).encode();
        store.write(&key, &value).unwrap();
        // One write, so that the line is whole or not there.
        out.write_all(format!("\nwrote {n} {} {}\n", millis(), now.as_millis()).as_bytes())
            .unwrap();
        out.flush().unwrap();
    }
}

/// A write that the child has acknowledged.
struct Acknowledged {
    n: u64,
    at: u64,
}

fn start(file: &Path, mode: &str, round: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .envs([(FILE, file.as_os_str()), (MODE, mode.as_ref())])
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child run until `writes` of its writes are acknowledged and a little longer, and kills it.
fn run_and_kill(file: &Path, mode: &str, round: u64, writes: u64) -> (Vec<Acknowledged>, u64) {
    let mut child = start(file, mode, round);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let read = |line: std::io::Result<String>, acknowledged: &mut Vec<Acknowledged>| {
        if let Some(rest) = line.unwrap().strip_prefix("wrote ") {
            let mut numbers = rest.split(' ').map(|number| number.parse().unwrap());
            acknowledged
                .push(Acknowledged { n: numbers.next().unwrap(), at: numbers.next().unwrap() });
        }
    };
    if writes > 0 {
        for line in lines.by_ref() {
            read(line, &mut acknowledged);
            if acknowledged.len() as u64 >= writes {
                break;
            }
        }
    }
    // An instant that has nothing to do with what the child is at.
    let pause = Duration::from_micros(round * 7_919 % 3_000);
    let begun = Instant::now();
    while begun.elapsed() < pause {
        std::hint::spin_loop();
    }
    let killed_at = millis();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it was killed.
    for line in lines {
        read(line, &mut acknowledged);
    }
    (acknowledged, killed_at)
}

/// The updates of a round that are in the store, by their numbers, with the time of the first expiry.
fn stored(store: &SmartRecordStore<RedbStorage>, round: u64) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    for n in 0..BOARDS {
        let Some(record) = store.record(&board(round, n)).unwrap() else {
            continue;
        };
        for (_, space) in record.spaces() {
            for update in space.updates() {
                let number = update.document().iter().next().unwrap().1.to_string();
                let number = number.trim_matches('"').parse().unwrap();
                found.insert(number, update.retain_until().as_millis());
            }
        }
    }
    found
}

fn kills() -> u64 {
    env::var("KILLS").map_or(200, |kills| kills.parse().unwrap())
}

fn kill_again_and_again(mode: &str, check: impl Fn(&[Acknowledged], &BTreeMap<u64, u64>, u64)) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let (mut total, mut kept) = (0, 0);
    for round in 0..kills() / 2 {
        // Some are killed while they open the file.
        let writes = round * 31 % 127;
        let (acknowledged, killed_at) = run_and_kill(&file, mode, round, writes);
        total += acknowledged.len();
        let mut store = open(&file, mode);
        let found = stored(&store, round);
        check(&acknowledged, &found, killed_at);
        kept += found.len();
        // Everything of this round, whatever of the last ones is left, can be written to again.
        assert_eq!(store.counters().storage_failures, 0);
        let expired = millis();
        store.collect().unwrap();
        let mut signer =
            SpaceSigner::new(board(round, 0), keypair(u64::MAX - 1), Limits::default());
        let now = SystemClock.now();
        signer.merge(Dict::default(), now, Duration::from_secs(60)).unwrap();
        store.write(&board(round, 0), &signer.record(now).encode()).unwrap();
        assert_eq!(store.counters().rows_discarded, 0, "round {round}: a bad row");
        // Older rounds go, or the store would be full some day and evict what it has acknowledged.
        if let Some(old) = round.checked_sub(20) {
            (0..BOARDS).for_each(|n| store.forget(&board(old, n)).unwrap());
        }
        assert!(store.usage().records <= 21 * BOARDS as usize);
        drop(store);
        // What had expired is gone from the file, and not only hidden.
        let storage = RedbStorage::open(&file, local(), &RedbConfig::default()).unwrap();
        for row in storage.scan(&PartId::MIN) {
            let (id, part) = row.unwrap();
            assert!(part.expires_at.is_none_or(|at| at.as_millis() > expired), "{id:?} is back");
        }
    }
    println!("{mode}: {} kills, {total} writes acknowledged, {kept} read", kills() / 2);
    assert!(total as u64 > kills() && kept as u64 > kills(), "{total} acknowledged, {kept} read");
}

/// Whether an update lives for long, so that it has to be there.
fn lives(n: u64) -> bool {
    n % 4 != 3
}

#[test]
fn nothing_acknowledged_is_lost_in_immediate_mode() {
    kill_again_and_again("immediate", |acknowledged, found, _| {
        for Acknowledged { n, .. } in acknowledged.iter().filter(|write| lives(write.n)) {
            assert!(found.contains_key(n), "{n} was acknowledged");
        }
    });
}

#[test]
fn at_most_the_window_is_lost_in_group_mode() {
    kill_again_and_again("group", |acknowledged, found, killed_at| {
        let mut lost =
            acknowledged.iter().filter(|write| lives(write.n) && !found.contains_key(&write.n));
        let Some(first) = lost.next() else {
            return;
        };
        // What is lost is the end of it: later updates are not there without earlier ones.
        let later = found.keys().filter(|n| **n > first.n).count();
        assert_eq!(later, 0, "{} was lost, later ones were not", first.n);
        // The window, and what the disk of a busy machine may take to write a group.
        let age = killed_at.saturating_sub(first.at);
        assert!(age <= WINDOW.as_millis() as u64 + 1_000, "lost after {age} ms");
    });
}
