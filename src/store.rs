//! A record store for [`kad::Behaviour`](libp2p_kad::Behaviour) that validates and merges each
//! write.
//!
//! [`SmartRecordStore`] replaces libp2p's `MemoryStore`. It stores only valid data and returns only
//! data that has not expired. Its rows are in a [`Storage`], by default in memory.
//!
//! **Invariants.** A refused remote write is acknowledged as if it had been stored, because an
//! error blocks the connection in Kademlia; the refusal shows in [`StoreEvent`]s and [`Counters`].
//! A refused local write is an error. It is also logged as a warning with the reason and what to do
//! about it, because Kademlia reports only `MaxRecords` or `ValueTooLarge` to its caller. Nothing
//! expired is returned. Rows and bytes stay within [`StoreConfig`], and what is protected there is
//! never evicted.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "What libp2p-kad does with a store".

mod advice;
mod candidates;
mod collect;
mod config;
mod cursors;
mod digests;
mod event;
mod eviction_index;
mod eviction_memory;
mod kad;
mod memory;
mod plan;
mod provided;
mod quota;
mod read;
mod receipt;
mod recheck;
mod record_candidates;
#[cfg(feature = "redb")]
mod redb;
mod replication;
mod reply;
mod reply_cache;
mod room;
mod rows;
mod served;
mod shares;
mod source;
mod stamped;
pub mod storage;
mod table;
mod validated;
mod value;
mod write;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_swarm::StreamProtocol;

#[cfg(feature = "redb")]
pub use self::redb::{Durability, OpenError, OpenOptions, RedbConfig, RedbStorage};
use self::{
    candidates::EvictionCandidates,
    event::EventLog,
    eviction_memory::EvictionMemory,
    plan::WritePlan,
    provided::Providers,
    quota::Protection,
    recheck::RowVerifier,
    record_candidates::RecordCandidates,
    replication::ReplicatedValue,
    reply::Replies,
    served::Served,
    source::Source,
    storage::{Change, RecordId, Storage},
    table::Table,
};
pub(crate) use self::{
    config::{PACKET_BYTES, VALUE_WORK},
    validated::Pieces,
};
pub use self::{
    config::{Quota, StoreConfig},
    cursors::Asker,
    event::{Counters, Events, Origin, StoreEvent},
    memory::MemoryStorage,
    read::StoredValue,
    storage::{
        error::{OtherPeer, RowFault, StorageError},
        usage::Usage,
    },
    validated::ValidatedRecord,
    write::{WriteError, WriteReport},
};
use crate::{
    clock::SystemClock,
    meter::{Meter, Observed, Timed},
};
use smart_record_core::{
    AcceptAny, Clock, EvictionOrder, Limits, Namespace, RecordKey, Registry, SignatureMemory,
};

/// A record store for Kademlia whose records are validated, merged and expired.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_kad as kad;
/// use libp2p_smart_record::store::SmartRecordStore;
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
/// [`SmartRecordStore::subscribe`] gives the events of the store, refused writes among them:
///
/// ```
/// # let local_peer = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
/// use libp2p_smart_record::{RecordKey, store::{SmartRecordStore, StoreEvent, WriteError}};
///
/// let mut store = SmartRecordStore::new(local_peer);
/// let mut events = store.subscribe();
/// assert!(store.write(&RecordKey::new("/sr/lobby"), b"garbage").is_err());
/// assert!(matches!(events.try_next(), Some(StoreEvent::Refused { .. })));
/// assert_eq!(store.counters().refused_total(), 1);
/// ```
pub struct SmartRecordStore {
    config: StoreConfig,
    registry: Registry,
    clock: Arc<dyn Clock>,
    table: Table,
    /// Finds the spaces of a record that can be evicted.
    candidates: EvictionCandidates,
    /// Finds the records that can be evicted.
    records: RecordCandidates,
    memory: EvictionMemory,
    news: EventLog,
    providers: Providers,
    meter: Meter,
    /// How much was stored at the last commit, for metrics.
    committed: Observed<Usage>,
    replies: Replies,
    /// The signatures that were found good.
    signatures: SignatureMemory,
    /// How many rows of earlier sessions were checked.
    checked: Arc<AtomicU64>,
    served: Served,
    /// The values that Kademlia's replication job was given in its last run.
    snapshot: Mutex<HashMap<RecordId, ReplicatedValue>>,
    /// Whether anything was applied since the last commit.
    has_changed: bool,
    /// How many due parts the write under way may still collect.
    may_collect: usize,
    /// The source of the write under way.
    source: Source,
}

impl SmartRecordStore {
    /// A store in memory for smart records under `/sr/…`, with all defaults. Keys of other
    /// namespaces, and keys without one, are refused; see [`drop_in`](Self::drop_in).
    ///
    /// `local` is the peer of the [`kad::Behaviour`](libp2p_kad::Behaviour) that will own the
    /// store. This is not checked here, because Kademlia does not tell the store;
    /// [`Builder::with_store`](crate::behaviour::Builder::with_store) checks it.
    pub fn new(local: PeerId) -> Self {
        Self::with_registry(local, Registry::default(), StoreConfig::default())
    }

    /// A store in memory that replaces libp2p's [`MemoryStore`](libp2p_kad::store::MemoryStore).
    /// Keys of any form hold plain values, as in `MemoryStore`. Keys under `/sr/…` hold smart
    /// records, which are validated and merged.
    ///
    /// The same as in `MemoryStore`, for plain keys: values are not checked and have up to 65 KiB
    /// less one byte, the last write wins, publisher and lifetime are kept as Kademlia gives them,
    /// and provider records are kept by a `MemoryStore` inside.
    ///
    /// Different from `MemoryStore`:
    ///
    /// * The store holds 16,384 records and 64 MiB ([`StoreConfig`]) instead of 1,024 records. When
    ///   it is full it refuses new records as `MemoryStore` does, unless it knows who sends them
    ///   ([`asked_by`](Self::asked_by)): see [`StoreConfig`].
    /// * An expired record is not returned, even before Kademlia has removed it.
    /// * The empty key is refused.
    /// * A refused remote write is acknowledged; see [`put`](libp2p_kad::store::RecordStore::put)
    ///   of this store.
    ///
    /// A plain value is not authenticated: any peer can overwrite it. To validate the built-in
    /// namespaces as well, use [`with_registry`](Self::with_registry) with `built_in()`, or another
    /// registry, and the same [fallback](smart_record_core::Namespaces::with_fallback).
    ///
    /// ```
    /// use libp2p_identity::Keypair;
    /// use libp2p_kad::{self as kad, store::RecordStore};
    /// use libp2p_smart_record::store::SmartRecordStore;
    ///
    /// let local_peer = Keypair::generate_ed25519().public().to_peer_id();
    /// let mut kad = kad::Behaviour::new(local_peer, SmartRecordStore::drop_in(local_peer));
    /// let (key, value) = (kad::RecordKey::new(b"foo"), b"bar".to_vec());
    /// kad.put_record(kad::Record::new(key.clone(), value.clone()), kad::Quorum::One)?;
    /// assert!(kad.store_mut().get(&key).is_some_and(|record| record.value == value));
    /// # Ok::<(), kad::store::Error>(())
    /// ```
    pub fn drop_in(local: PeerId) -> Self {
        let registry = Registry::default().with_fallback(AcceptAny::default());
        Self::with_registry(local, registry, StoreConfig::default())
    }

    /// A store in memory for the records of these namespaces.
    pub fn with_registry(local: PeerId, registry: Registry, config: StoreConfig) -> Self {
        let (storage, clock) = (Box::new(MemoryStorage::default()), Arc::new(SystemClock));
        let signatures = SignatureMemory::new(config.signature_memory());
        Self::over(local, registry, config, storage, clock, signatures)
    }

    /// A store over any storage, with any clock. It restores what the storage holds of an earlier
    /// process: the records, each part checked by the registry's rules when it is first read, and
    /// the provider records of the local node. Provider records that cannot be read are counted
    /// among the storage's failures.
    ///
    /// # Errors
    /// [`OtherPeer`] if the storage belongs to another peer than `local`.
    pub fn with_storage(
        local: PeerId,
        registry: Registry,
        config: StoreConfig,
        mut storage: impl Storage,
        clock: impl Clock,
    ) -> Result<Self, OtherPeer> {
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let signatures = SignatureMemory::new(config.signature_memory());
        let rules = RowVerifier {
            local,
            registry: registry.clone(),
            clock: clock.clone(),
            signatures: signatures.clone(),
            checked: Arc::default(),
        };
        let checked = rules.checked.clone();
        storage.attach(local, Arc::new(rules))?;
        let store = Self::over(local, registry, config, Box::new(storage), clock, signatures);
        Ok(Self { checked, ..store })
    }

    fn over(
        local: PeerId,
        registry: Registry,
        config: StoreConfig,
        storage: Box<dyn Storage>,
        clock: Arc<dyn Clock>,
        signatures: SignatureMemory,
    ) -> Self {
        let (max, is_durable) = (config.max_remembered(), storage.is_durable());
        let memory = EvictionMemory::new(max, is_durable, clock.now());
        let mut store = Self {
            committed: Observed::new(storage.usage()),
            table: Table::new(local, storage, Protection::new(local, config.protected())),
            candidates: EvictionCandidates::default(),
            records: RecordCandidates::new(&config, registry.clone()),
            memory,
            news: EventLog::default(),
            registry,
            clock,
            providers: Providers::new(local, config.providers().clone()),
            has_changed: false,
            may_collect: 0,
            source: Source::UNKNOWN,
            meter: Meter::default(),
            replies: Replies::default(),
            signatures,
            checked: Arc::default(),
            served: Served::default(),
            config,
            snapshot: Mutex::default(),
        };
        store.restore_notes();
        if let Err(error) = store.records.prepare(&store.table, usize::MAX) {
            store.news.read_failed(&error);
        }
        store
    }

    /// A configuration of Kademlia that agrees with this store: records live as long as an update
    /// under `/sr/…` can, the lifetimes of inbound records are kept, and writes reach the store
    /// before they are acknowledged.
    ///
    /// You may change everything in it except `set_record_filtering` and `set_record_ttl(None)`.
    ///
    /// Give `kad::Behaviour::add_address` at most three addresses of a peer, 330 bytes in
    /// total. They are part of each reply, and with more of them a reply does not fit into
    /// Kademlia's packet. [`Behaviour`](crate::behaviour::Behaviour) limits them by itself.
    pub fn kad_config(&self, protocol: StreamProtocol) -> libp2p_kad::Config {
        let key = RecordKey::new(format!("/{}/", Registry::SMART_RECORDS));
        match self.registry.resolve(&key) {
            Ok(Namespace::Spaces(rules)) => self.config.kad_config(protocol, rules.limits()),
            _ => self.config.kad_config(protocol, &Limits::default()),
        }
    }

    /// Subscribes to the events from now on. Each subscriber has a queue of
    /// [`max_events`](StoreConfig::max_events); events beyond that are lost, and counted.
    pub fn subscribe(&mut self) -> Events {
        self.news.subscribe(self.config.max_events())
    }

    /// Counters of what the store has done.
    pub fn counters(&self) -> Counters {
        self.count_checked();
        self.news.counters.get()
    }

    /// Sets how many signatures and rows were checked until now.
    fn count_checked(&self) {
        let rows = self.checked.load(Ordering::Relaxed);
        self.news.set_checked(self.signatures.counts(), rows);
    }

    /// How much is stored.
    pub fn usage(&self) -> Usage {
        self.table.storage.usage()
    }

    /// Exports the store's counters, usage and timings to `metrics`. Not needed for the store of a
    /// behaviour, which exports it by itself; see
    /// [`Metrics::add_source`](crate::metrics::Metrics::add_source) for two stores.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_metrics(mut self, metrics: &crate::metrics::Metrics) -> Self {
        self.measure_with(Meter::of(metrics));
        self
    }

    pub(crate) fn measure_with(&mut self, meter: Meter) {
        meter.show(&self.news.counters);
        meter.show(&self.committed);
        self.meter = meter;
    }

    /// The peer that the store belongs to.
    pub const fn local_peer(&self) -> PeerId {
        self.table.local
    }

    pub(crate) const fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The memory of the signatures that the store has found good. Use it where values are verified
    /// for the store, so that it does not verify them again.
    pub fn signatures(&self) -> SignatureMemory {
        self.signatures.clone()
    }

    /// Whether what other peers write is refused at once, because the storage is behind.
    pub(crate) fn is_behind(&self) -> bool {
        self.table.storage.is_behind()
    }

    /// Takes the work that was done for other peers since the last call: what they have written and
    /// read.
    pub(crate) fn take_served(&self) -> Duration {
        let work = self.served.take();
        if !work.is_zero() {
            self.count_checked();
        }
        work
    }

    /// The clock of the store.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    /// The rules of each namespace.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Applies the changes of a plan and of its tallies. Remembers what it evicts, and forgets what
    /// has returned.
    fn apply(&mut self, mut plan: WritePlan) -> Result<(), StorageError> {
        let (evicted, returned) = (std::mem::take(&mut plan.evicted), plan.returned);
        let mut changes = plan.into_changes(&*self.table.storage)?;
        // The memory is changed when nothing can fail any more but the change itself, which puts
        // back what was forgotten for it.
        changes.extend(returned.and_then(|id| self.memory.forget(id)));
        if !evicted.is_empty() {
            changes.extend(self.memory.remember(evicted, &self.registry, self.clock.now()));
        }
        self.change(changes)
    }

    /// Applies changes. All changes of rows go through here.
    fn change(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.candidates.on_change();
        for change in &changes {
            if let Change::Set(id, _) | Change::Remove(id) = change {
                self.replies.on_change(*id);
            }
        }
        let headless = self.records.on_change(&self.table, &changes);
        let applied = self.table.storage.apply(changes);
        if applied.is_ok() {
            if let Err(error) = self.records.on_removed(&self.table, headless) {
                self.records.forget();
                self.news.read_failed(&error);
            }
            self.replies.on_write(true);
            self.has_changed = true;
        } else {
            self.records.forget();
            self.memory.on_commit(false);
        }
        applied
    }

    /// Commits the changes applied since the last commit.
    fn commit(&mut self) -> Result<(), StorageError> {
        if !std::mem::take(&mut self.has_changed) {
            return Ok(());
        }
        let begun = self.meter.begin();
        let committed = self.table.storage.commit();
        self.meter.end(Timed::Commit, begun);
        self.providers.on_commit(committed.is_ok());
        self.memory.on_commit(committed.is_ok());
        let dropped = self.memory.take_dropped();
        self.news.count(|c| &mut c.remembered_dropped, dropped);
        let remembered = u64::try_from(self.memory.len()).unwrap_or(u64::MAX);
        self.news.counters.change(|c| c.remembered = remembered);
        if committed.is_err() {
            // Evicted rows may be back, and written rows gone.
            self.candidates = EvictionCandidates::default();
            self.records.forget();
            self.replies.on_write(false);
        }
        let usage = self.table.storage.usage();
        self.committed.change(|committed| *committed = usage);
        self.news.on_commit(committed.is_ok());
        committed
    }

    /// Handles the writing of a space that is open, with its place in the order of eviction.
    fn notice_open(&mut self, record: RecordId, order: EvictionOrder) {
        self.candidates.notice_open(record, order);
        self.records.notice_work(record, order.work());
    }

    /// Forgets the digest and the eviction state of the spaces of a record.
    fn forget_places(&mut self, record: RecordId) {
        self.replies.forget(record);
        self.candidates.forget(record);
    }
}

/// Locks a mutex, poisoned or not: no panic leaves its map half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

smart_record_core::impl_debug! { SmartRecordStore: |store| local: store.table.local, usage: store.usage() }
