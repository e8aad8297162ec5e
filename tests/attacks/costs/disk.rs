//! Writes to a node whose disk is slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    Registry, Timestamp,
    store::{
        MemoryStorage, OtherPeer, SmartRecordStore, StorageError, StoreConfig, StoreEvent, Usage,
        storage::{
            Change, InvalidRow, Notes, Part, PartId, Parts, RowCheck, Storage, Tally, TallyId,
        },
    },
};
use smart_record_testing::{
    ManualClock, at,
    forge::{NOW, Update, alice, encode, key},
    keys::keypair,
};

/// Storage that may be behind. It counts what is applied.
struct Slow {
    rows: MemoryStorage,
    is_behind: Arc<AtomicBool>,
    applied: Arc<AtomicUsize>,
}

impl Storage for Slow {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.rows.get(id)
    }

    fn scan(&self, from: &PartId) -> Parts<'_> {
        self.rows.scan(from)
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        self.rows.last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        self.rows.due(now, max)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        self.rows.tally(id)
    }

    fn notes(&self) -> Result<Notes, StorageError> {
        self.rows.notes()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.applied.fetch_add(1, SeqCst);
        self.rows.apply(changes)
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.rows.commit()
    }

    fn usage(&self) -> Usage {
        self.rows.usage()
    }

    fn is_behind(&self) -> bool {
        self.is_behind.load(SeqCst)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.rows.attach(local, check)
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.rows.take_rejected()
    }
}

#[test]
fn a_slow_disk_does_not_hold_the_task_of_who_writes() {
    let (is_behind, applied) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let storage = Slow {
        rows: MemoryStorage::default(),
        is_behind: is_behind.clone(),
        applied: Arc::clone(&applied),
    };
    let (local, clock) = (keypair(9).public().to_peer_id(), ManualClock::at(at(NOW)));
    let (registry, config) = (Registry::default(), StoreConfig::default());
    let mut store =
        SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap();
    let mut events = store.subscribe();
    let value = encode([alice().says(&Update::saying(1))]);
    let put = |store: &mut SmartRecordStore| {
        store.put(Record::new(kad::RecordKey::new(&key()), value.clone()))
    };
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(put(&mut store).is_ok(), "an error would block the connection");
    }
    println!("writes while the disk is behind: {:?} each", begun.elapsed() / 1_000);
    let counters = store.counters();
    assert_eq!((applied.load(SeqCst), counters.behind), (0, 1_000));
    assert_eq!((counters.signatures_verified, counters.storage_failures), (0, 0));
    assert_eq!(events.try_next(), Some(StoreEvent::Behind { key: key() }));

    // The node's own writes are not refused.
    assert_eq!(store.write(&key(), &value).unwrap().stored, 1);
    is_behind.store(false, SeqCst);
    put(&mut store).unwrap();
    assert_eq!(store.counters().known, 1);
}
