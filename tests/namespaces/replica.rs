//! A replica: a store in memory as Kademlia uses it, with a clock that the test sets.

use libp2p_kad::{self as kad, Record as KadRecord, store::RecordStore};
use libp2p_smart_record::{
    Fault, RecordKey, Registry, ValidationError,
    store::{Events, MemoryStorage, Origin, SmartRecordStore, StoreConfig, StoreEvent},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair, without_coverage};

pub struct Replica {
    pub store: SmartRecordStore,
    pub clock: ManualClock,
    events: Events,
}

impl Replica {
    /// A replica with these namespaces, at [`NOW`].
    pub fn with(registry: Registry) -> Self {
        let clock = ManualClock::at(at(NOW));
        let mut store = SmartRecordStore::with_storage(
            keypair(1_000_000).public().to_peer_id(),
            registry,
            // Values larger than a packet are tried too.
            StoreConfig::default().with_value_work(std::time::Duration::MAX),
            MemoryStorage::default(),
            clock.clone(),
        )
        .unwrap();
        let events = store.subscribe();
        Self { store, clock, events }
    }

    /// A PUT from another peer, which must never fail.
    pub fn put(&mut self, key: &RecordKey, value: impl AsRef<[u8]>) {
        self.put_record(KadRecord::new(kad::RecordKey::new(key), value.as_ref().to_vec()));
    }

    /// As `put`, of a record with a lifetime or a publisher.
    pub fn put_record(&mut self, record: KadRecord) {
        assert!(self.store.put(record).is_ok(), "a remote PUT fails");
    }

    /// As `put`. Returns the reason of the refusal.
    pub fn faults(&mut self, key: &RecordKey, value: impl AsRef<[u8]>) -> Vec<Fault> {
        self.put(key, value);
        self.refusals().iter().map(ValidationError::fault).collect()
    }

    /// The answer to the next GET.
    pub fn get(&self, key: &RecordKey) -> Option<Vec<u8>> {
        stored(&self.store, key)
    }

    pub fn events(&mut self) -> Vec<StoreEvent> {
        std::iter::from_fn(|| self.events.try_next()).collect()
    }

    pub fn refusals(&mut self) -> Vec<ValidationError> {
        reasons(&self.events())
    }

    pub fn is_empty(&self) -> bool {
        self.store.usage().records == 0 && self.store.usage().bytes == 0
    }
}

/// The record in the answer of a store to a GET.
pub fn stored(store: &SmartRecordStore, key: &RecordKey) -> Option<Vec<u8>> {
    store.get(&kad::RecordKey::new(key)).map(|record| value(&record))
}

/// The value of an answer, without what stands in answers only.
pub fn value(answer: &kad::Record) -> Vec<u8> {
    without_coverage(&answer.value).to_vec()
}

/// The reasons of the refusals among these events.
pub fn reasons(events: &[StoreEvent]) -> Vec<ValidationError> {
    events
        .iter()
        .filter_map(|event| match event {
            StoreEvent::Refused { reason, origin, .. } => {
                assert_eq!(*origin, Origin::Remote);
                Some(reason.clone())
            }
            _ => None,
        })
        .collect()
}
