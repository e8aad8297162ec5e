//! How long calls wait: for the window of a group, and for a disk that hangs.

use super::{device::Faults, *};

/// The allowed time, besides its window, until a group is in a file in memory.
const SLACK: Duration = Duration::from_millis(100);

/// What a call that waits for nothing may take on a busy machine. Less than a hold for each of many
/// calls would take: the fewest here are twenty.
const LOAD: Duration = Durability::MAX_HOLD.saturating_mul(16);

/// How often a time limit is tried, because the machine may be busy.
const TRIES: usize = 100;

const HANGS: Faults = Faults { syncs_hang: true, ..Faults::NONE };

/// Whether a value survives a loss of power now, which loses everything that is not synced.
fn survives(device: &Device, key: &RecordKey) -> bool {
    let after = store_on(&device.after_power_loss(|_| 0), Durability::Immediate, &clock());
    after.get(&kad_key(key)).is_some()
}

/// Waits, sync by sync, until a value survives a loss of power.
fn until_it_survives(device: &Device, key: &RecordKey) {
    loop {
        let syncs = device.syncs();
        if survives(device, key) {
            return;
        }
        let is_synced = device.await_syncs(syncs, Duration::from_secs(60));
        assert!(is_synced, "nothing is ever written");
    }
}

/// Tries until a write reached the disk little later than its window plus the time it takes without
/// one. It must never reach the disk before its window.
fn takes_a_window(window: Duration, mut attempt: impl FnMut(Duration) -> Duration) {
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let (without, took) = (attempt(Duration::ZERO), attempt(window));
        assert!(took >= window, "after {took:?}, with a window of {window:?}");
        shortest = shortest.min(took.saturating_sub(without));
        if shortest <= window + SLACK {
            return;
        }
    }
    panic!("at the soonest after {shortest:?}, with a window of {window:?}");
}

#[test]
fn a_write_survives_a_loss_of_power_one_window_later() {
    for window in [50, 400].map(Duration::from_millis) {
        takes_a_window(window, |window| {
            let (device, clock) = (Device::default(), clock());
            let durability = Durability::Group { window, max_bytes: 1 << 20 };
            let mut store = store_on(&device, durability, &clock);
            let begun = Instant::now();
            store.write(&key(1), b"value").unwrap();
            until_it_survives(&device, &key(1));
            begun.elapsed()
        });
    }
}

#[test]
fn further_writes_do_not_put_off_a_group() {
    let window = Duration::from_millis(200);
    takes_a_window(window, |window| {
        let (device, clock) = (Device::default(), clock());
        // So large that it never causes a write.
        let durability = Durability::Group { window, max_bytes: usize::MAX };
        let mut store = store_on(&device, durability, &clock);
        let (begun, mut syncs) = (Instant::now(), device.syncs());
        store.write(&key(0), b"value").unwrap();
        for n in 1.. {
            store.write(&key(1 + n % 10), &n.to_le_bytes()).unwrap();
            if device.syncs() > syncs {
                syncs = device.syncs();
                if survives(&device, &key(0)) {
                    break;
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{n} writes put it off");
        }
        begun.elapsed()
    });
}

#[test]
fn what_waits_is_written_when_the_store_is_dropped() {
    let (device, clock) = (Device::default(), clock());
    let window = Duration::from_secs(3_600);
    let mut store = store_on(&device, Durability::Group { window, max_bytes: 1 << 20 }, &clock);
    let syncs = device.syncs();
    store.write(&key(1), b"value").unwrap();
    assert_eq!(device.syncs(), syncs);
    drop(store);
    let store = store_on(&device, Durability::Immediate, &clock);
    assert!(store.get(&libp2p_kad::RecordKey::new(&key(1))).is_some());
}

/// Little room, and no window.
const NARROW: Durability = Durability::Group { window: Duration::ZERO, max_bytes: 100_000 };

/// How long a call took, and its result.
fn timed<T>(call: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let given = call();
    (begun.elapsed(), given)
}

/// Repairs the disk when the test ends in any way, because dropping a storage waits for it.
struct Mends(Device);

impl Drop for Mends {
    fn drop(&mut self) {
        self.0.mend();
    }
}

/// A disk that hangs, with a store for which too much is pending. The values 0 to 39 are in the
/// file and expire after a minute; those from 40 on are in memory. Returns how many values there
/// are.
fn hanging(device: &Device, clock: &ManualClock) -> (SmartRecordStore, Mends, usize) {
    // Nothing of the file is cached.
    let (opened, config) = (device.clone(), config(NARROW).with_cache_bytes(0));
    let storage = RedbStorage::open_backend(move || Ok(opened.clone()), local(), &config).unwrap();
    let config = StoreConfig::default();
    let mut store =
        SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone())
            .unwrap();
    for n in 0..40 {
        let mut record = Record::new(kad_key(key(n).as_bytes()), vec![0; 1_000]);
        record.expires = Some(Instant::now() + Duration::from_secs(60));
        store.put(record).unwrap();
    }
    until_it_survives(device, &key(39));
    let mends = Mends(device.clone());
    device.fail(HANGS);
    let mut n = 40;
    // All of this happens while a sync hangs.
    let error = loop {
        let (held, written) = timed(|| store.write(&key(n), &[0; 1_000]));
        match written {
            Ok(_) => assert!(held < LOAD, "held for {held:?} with room left"),
            Err(error) => break error,
        }
        assert!(store.get(&libp2p_kad::RecordKey::new(&key(n))).is_some());
        n += 1;
    };
    assert_eq!(error, WriteError::Storage(StorageError::QueueFull));
    // A change takes 256 bytes besides its own.
    assert!((90..=160).contains(&n), "{n} writes");
    assert!(device.await_hang(Duration::ZERO));
    (store, mends, n)
}

#[test]
fn a_disk_that_hangs_holds_an_own_write_once_and_reads_and_strangers_not_at_all() {
    let (device, clock) = (Device::default(), clock());
    let (mut store, _mends, n) = hanging(&device, &clock);
    let busy = StorageError::QueueFull;
    let held_once = |what: &str, held: Duration| {
        println!("{what}: held for {held:?}");
        assert!(held >= Durability::MAX_HOLD, "{what}: held for {held:?}");
        assert!(held < Durability::MAX_HOLD + LOAD, "{what}: held for {held:?}");
    };

    let (held, answers) = timed(|| {
        (0..n).filter(|n| store.get(&libp2p_kad::RecordKey::new(&key(*n))).is_some()).count()
    });
    assert_eq!(answers, n, "in the file and in memory");
    assert!(held < LOAD, "{n} reads: {held:?}");
    let (held, records) = timed(|| store.records().count());
    assert_eq!(records, n);
    assert!(held < LOAD, "a scan: {held:?}");

    let (held, written) = timed(|| store.write(&key(n), b"value"));
    assert_eq!(written, Err(WriteError::Storage(busy.clone())));
    held_once("a value", held);

    // However many spaces it changes.
    let board = RecordKey::new("/sr/a");
    let twenty: Vec<u8> = (1..=20).flat_map(|n| one_space(&board, n, 10, HOUR)).collect();
    let (held, written) = timed(|| store.write(&board, &twenty));
    assert_eq!(written, Err(WriteError::Storage(busy.clone())));
    held_once("twenty spaces", held);

    let (held, put) = timed(|| store.put(Record::new(kad_key(key(n).as_bytes()), vec![0])));
    assert!(put.is_ok(), "a stranger learns nothing of it");
    assert!(held < LOAD, "a stranger's value: held for {held:?}");
    assert_eq!(store.counters().behind, 1, "it is refused at once");

    let (held, forgotten) = timed(|| store.forget(&key(50)));
    assert_eq!(forgotten, Err(busy.clone()));
    held_once("a removal", held);

    let provider = ProviderRecord::new(kad_key("/any/provided"), local(), Vec::new());
    let (held, _) = timed(|| store.add_provider(provider));
    assert!(held < Durability::MAX_HOLD + LOAD, "a provider: held for {held:?}");

    // Or collects.
    clock.advance(Duration::from_secs(61));
    let (held, written) = timed(|| store.write(&key(n), b"value"));
    assert_eq!(written, Err(WriteError::Storage(busy.clone())));
    held_once("a value after forty have expired", held);
    let (held, collected) = timed(|| store.collect());
    assert_eq!(collected, Err(busy));
    held_once("a collection", held);

    device.mend();
    until_it_works(|| store.write(&key(n), b"value").ok());
    assert_eq!(store.collect(), Ok(8));
    assert_eq!(store.records().count(), n - 39);
}

#[test]
fn a_write_that_waits_goes_on_as_soon_as_there_is_room() {
    let board = RecordKey::new("/sr/a");
    let twenty: Vec<u8> = (1..=20).flat_map(|n| one_space(&board, n, 10, HOUR)).collect();
    let waited = (0..TRIES).any(|_| {
        let (device, clock) = (Device::default(), clock());
        let (mut store, _mends, _) = hanging(&device, &clock);
        let mending = device.clone();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let mender = std::thread::spawn(move || {
            // It cannot be observed from outside that the write waits, only that it has ended.
            let _ = ended.recv_timeout(Durability::MAX_HOLD / 5);
            mending.mend();
        });
        let (held, written) = timed(|| store.write(&board, &twenty));
        drop(end);
        mender.join().unwrap();
        // On a busy machine the disk may be repaired too late, or before it is written to.
        let is_held = held >= Durability::MAX_HOLD / 10 && held < Durability::MAX_HOLD;
        written.is_ok() && is_held
    });
    assert!(waited);
}

#[test]
fn committing_to_a_disk_that_hangs_waits_for_nothing() {
    let device = Device::default();
    let mut storage = open_on(&device, NARROW).unwrap();
    let _mends = Mends(device.clone());
    device.fail(HANGS);
    let mut longest = Duration::ZERO;
    let refused = (0..=u8::MAX).find_map(|n| {
        let part = Part {
            bytes: vec![n; 1_000].into(),
            due_at: None,
            expires_at: None,
            stored_at: Timestamp::EPOCH,
            digest: None,
        };
        let id = RecordId([n; 32]).head();
        let (held, applied) = timed(|| storage.apply(vec![Change::Set(id, part)]));
        if let Err(error) = applied {
            return Some((held, error));
        }
        let (held, committed) = timed(|| storage.commit());
        assert_eq!(committed, Ok(()));
        longest = longest.max(held);
        None
    });
    assert!(longest < LOAD, "a commit was held for {longest:?}");
    let (held, error) = refused.expect("it takes whatever it is given");
    assert_eq!(error, StorageError::QueueFull);
    assert!((Durability::MAX_HOLD..Durability::MAX_HOLD + LOAD).contains(&held), "{held:?}");
}
