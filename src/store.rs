//! A record store for [`kad::Behaviour`](libp2p_kad::Behaviour) that validates and merges on the spot.
//!
//! [`SmartRecordStore`] takes the place of libp2p's `MemoryStore`. What it has stored is always valid; what it
//! answers is what lives. It keeps its rows in a [`Storage`], by default in memory.
//!
//! **Invariants.** A remote write that is refused is answered as if it had been stored, because Kademlia wedges
//! the connection otherwise; the refusal shows in [`StoreEvent`]s and [`Counters`]. Nothing expired is ever
//! returned. Rows and bytes stay within [`StoreConfig`], and what is protected there is never evicted.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "What libp2p-kad does with a store".

mod answers;
mod checked;
mod collect;
mod config;
mod event;
mod horizon;
mod kad;
mod memory;
mod plan;
mod provided;
mod quota;
mod read;
mod receipt;
mod recheck;
#[cfg(feature = "redb")]
mod redb;
mod room;
mod rows;
pub mod storage;
mod value;
mod victims;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as libp2p_kad, store::MemoryStore};
use libp2p_swarm::StreamProtocol;

pub(crate) use self::read::wall_clock;
#[cfg(feature = "redb")]
pub use self::redb::{Durability, RedbConfig, RedbStorage};
use self::{
    answers::Answers,
    event::Subscribers,
    provided::Unnoted,
    quota::Protection,
    read::{Cursor, Seen},
    recheck::Rules,
    storage::{Change, RecordId},
    victims::Horizons,
};
pub use self::{
    checked::Checked,
    config::{Quota, StoreConfig},
    event::{Counters, Events, Origin, StoreEvent},
    memory::MemoryStorage,
    read::StoredValue,
    storage::{RowFault, Storage, StorageError, Usage},
    write::{WriteError, WriteReport},
};
use crate::{
    clock::{Clock, SystemClock},
    key::RecordKey,
    meter::{Meter, Shared, Timed},
    record::Limits,
    validator::{Namespace, Registry},
};

/// A record store for Kademlia whose records are validated, merged and expired.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_kad as kad;
/// use libp2p_smart_record::SmartRecordStore;
///
/// let local_peer = Keypair::generate_ed25519().public().to_peer_id();
/// let store = SmartRecordStore::new(local_peer);
/// let config = store.kad_config(kad::PROTOCOL_NAME);
/// let behaviour = kad::Behaviour::with_config(local_peer, store, config);
/// # let _ = behaviour;
/// ```
///
/// # Events
///
/// Refusals and news reach the user through [`SmartRecordStore::subscribe`]:
///
/// ```
/// # let local_peer = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
/// use libp2p_smart_record::{RecordKey, SmartRecordStore, StoreEvent, WriteError};
///
/// let mut store = SmartRecordStore::new(local_peer);
/// let mut events = store.subscribe();
/// assert!(store.write(&RecordKey::new("/sr/lobby"), b"garbage").is_err());
/// assert!(matches!(events.try_next(), Some(StoreEvent::Refused { .. })));
/// assert_eq!(store.counters().refused_total(), 1);
/// ```
pub struct SmartRecordStore {
    local: PeerId,
    /// The digest of the local peer.
    place: [u8; 32],
    config: StoreConfig,
    registry: Registry,
    clock: Arc<dyn Clock>,
    storage: Box<dyn Storage>,
    providers: MemoryStore,
    subscribers: Subscribers,
    counters: Shared<Counters>,
    meter: Meter,
    /// How much was stored at the last commit, for those who look from outside.
    committed: Shared<Usage>,
    /// Where the next slice of a large record begins.
    cursors: Mutex<HashMap<RecordId, Cursor>>,
    answers: Mutex<Answers>,
    /// The values that were handed to Kademlia's replication job the last time.
    snapshot: Mutex<HashMap<RecordId, Seen>>,
    protection: Protection,
    /// Whether anything was applied since the last commit.
    has_changed: bool,
    /// What was evicted since the last commit.
    evicted: Vec<RecordKey>,
    /// Notes that may not have been written, because the storage has failed.
    unnoted: Unnoted,
    /// Where to look for what may go.
    horizons: Mutex<Horizons>,
}

impl SmartRecordStore {
    /// A store in memory for smart records under `/sr/…`, with all defaults.
    pub fn new(local: PeerId) -> Self {
        Self::with_registry(local, Registry::default(), StoreConfig::default())
    }

    /// A store in memory for the records of these namespaces.
    pub fn with_registry(local: PeerId, registry: Registry, config: StoreConfig) -> Self {
        Self::with_storage(local, registry, config, MemoryStorage::default(), SystemClock)
    }

    /// A store over any storage, with any clock. What the storage keeps of an earlier process is there again: its
    /// records, each part checked by the registry's rules when it is first read, and the provider records of the local
    /// node. What of the latter cannot be read is counted among the storage's failures.
    pub fn with_storage(
        local: PeerId,
        registry: Registry,
        config: StoreConfig,
        mut storage: impl Storage,
        clock: impl Clock,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let rules = Rules { local, registry: registry.clone(), clock: clock.clone() };
        storage.set_check(Arc::new(rules));
        let mut store = Self {
            committed: Shared::new(storage.usage()),
            place: RecordId::place(&local),
            local,
            registry,
            clock,
            storage: Box::new(storage),
            providers: MemoryStore::with_config(local, config.providers().clone()),
            protection: Protection::new(local, config.protected()),
            has_changed: false,
            evicted: Vec::new(),
            unnoted: Unnoted::default(),
            horizons: Mutex::default(),
            config,
            subscribers: Subscribers::default(),
            counters: Shared::default(),
            meter: Meter::default(),
            cursors: Mutex::default(),
            answers: Mutex::default(),
            snapshot: Mutex::default(),
        };
        store.restore_providers();
        store
    }

    /// A configuration of Kademlia that agrees with this store: records live as long as an update under
    /// `/sr/…` can, inbound lifetimes are kept, and writes reach the store before they are answered.
    ///
    /// Change in it what you like except `set_record_filtering` and `set_record_ttl(None)`.
    ///
    /// Besides, give `kad::Behaviour::add_address` no more than three addresses of a peer, some 300 bytes of them: they go into each
    /// reply, which otherwise does not fit into Kademlia's packet. [`Behaviour`](crate::Behaviour) sees to that by itself.
    pub fn kad_config(&self, protocol: StreamProtocol) -> libp2p_kad::Config {
        let key = RecordKey::new(format!("/{}/", Registry::SMART_RECORDS));
        match self.registry.resolve(&key) {
            Ok(Namespace::Spaces(rules)) => self.config.kad_config(protocol, rules.limits()),
            _ => self.config.kad_config(protocol, &Limits::default()),
        }
    }

    /// The events from now on. Each subscriber has room for
    /// [`max_events`](StoreConfig::max_events) that it has not taken yet.
    pub fn subscribe(&mut self) -> Events {
        self.subscribers.subscribe(self.config.max_events())
    }

    /// How often what has happened.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        self.storage.usage()
    }

    /// Has `metrics` show the store's counters, how much it stores, and how long its work takes.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_metrics(mut self, metrics: &crate::metrics::Metrics) -> Self {
        self.measure_with(Meter::of(metrics));
        self
    }

    pub(crate) fn measure_with(&mut self, meter: Meter) {
        meter.show(&self.counters);
        meter.show(&self.committed);
        self.meter = meter;
    }

    pub(crate) const fn local(&self) -> PeerId {
        self.local
    }

    pub(crate) const fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The clock that it goes by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// What is registered for which namespace.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    fn record_id(&self, key: &RecordKey) -> RecordId {
        RecordId::at(&self.place, key)
    }

    /// Changes rows: the only way to do so.
    fn change(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        let answers = self.answers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for change in &changes {
            if let Change::Set(id, _) | Change::Remove(id) = change {
                answers.forget(id.record);
            }
        }
        let applied = self.storage.apply(changes);
        if applied.is_ok() {
            answers.on_write(true);
            self.has_changed = true;
        }
        applied
    }

    /// Makes what was applied last.
    fn commit(&mut self) -> Result<(), StorageError> {
        if !std::mem::take(&mut self.has_changed) {
            return Ok(());
        }
        let evicted = std::mem::take(&mut self.evicted);
        let begun = self.meter.begin();
        let committed = self.storage.commit();
        self.meter.end(Timed::Commit, begun);
        self.unnoted.on_commit(committed.is_ok());
        if committed.is_err() {
            // What was evicted may be back, and what was written gone.
            *lock(&self.horizons) = Horizons::default();
            lock(&self.answers).on_write(false);
        }
        let usage = self.storage.usage();
        self.committed.change(|committed| *committed = usage);
        committed?;
        for key in evicted {
            self.emit(&StoreEvent::Evicted { key });
        }
        Ok(())
    }

    /// Takes note of a failure where there is no way to tell a subscriber.
    fn read_failed(&self, error: &StorageError) {
        self.counters.change_through_shared(|c| event::count(&mut c.storage_failures, 1));
        tracing::warn!(%error, "a read failed");
    }

    fn count(&mut self, counter: impl FnOnce(&mut Counters) -> &mut u64, by: usize) {
        self.counters.change(|counters| event::count(counter(counters), by));
    }

    fn emit(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Stored { key, writers, .. } => {
                tracing::debug!(%key, writers = writers.len(), "stored");
            }
            StoreEvent::Refused { key, reason, count, .. } => {
                self.count(|c| c.refused.entry(reason.fault()).or_default(), *count);
                tracing::debug!(%key, %reason, count, "refused");
            }
            StoreEvent::Evicted { key } => {
                self.count(|c| &mut c.records_evicted, 1);
                tracing::debug!(%key, "evicted");
            }
            StoreEvent::Discarded { key, fault } => {
                self.count(|c| &mut c.rows_discarded, 1);
                tracing::warn!(key = key.as_ref().map(tracing::field::display), %fault, "discarded");
            }
            StoreEvent::StorageFailed { error } => {
                self.count(|c| &mut c.storage_failures, 1);
                tracing::warn!(%error, "storage failed");
            }
        }
        let lost = self.subscribers.send(event);
        if lost > 0 {
            self.count(|c| &mut c.events_lost, lost);
        }
    }
}

/// Locks a map that no panic can have left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

crate::impl_debug! { SmartRecordStore: |store| local: store.local, usage: store.usage() }
