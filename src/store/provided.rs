//! Provider records. Those of the local node are as durable as the storage.
//!
//! **Invariants.** Kademlia is served from libp2p's `MemoryStore`. The notes in the storage are
//! only used to fill it when the store is made. A note that could not be written is written with
//! the next successful write. Provider records of other nodes are not stored, because those nodes
//! announce them again; they take no room from those of the local node.
//!
//! **Spec.** `proto/storage.proto`.

use std::collections::BTreeMap;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{
    ProviderRecord, RecordKey as KadKey,
    store::{Error, MemoryStore, MemoryStoreConfig, RecordStore},
};
use prost::Message;

use super::{
    SmartRecordStore,
    event::StoreEvent,
    storage::{Change, StorageError},
};
use crate::{
    clock::{instant, wall_clock},
    proto::storage::Provider,
};
use smart_record_core::Timestamp;

const PREFIX: &[u8] = b"provider/";

/// Provider records, and the notes of those of the local node.
pub(super) struct Providers {
    own: MemoryStore,
    others: MemoryStore,
    max_per_key: usize,
    /// Notes that may not be in the storage, because a write failed.
    notes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    are_applied: bool,
}

impl Providers {
    pub(super) fn new(local: PeerId, config: MemoryStoreConfig) -> Self {
        let max_per_key = config.max_providers_per_key;
        let own = MemoryStore::with_config(local, config.clone());
        let others = MemoryStore::with_config(local, config);
        Self { own, others, max_per_key, notes: BTreeMap::new(), are_applied: false }
    }

    /// Adds a record, of the local node if it `is_own`.
    pub(super) fn add(&mut self, record: ProviderRecord, is_own: bool) -> Result<(), Error> {
        if is_own { self.own.add_provider(record) } else { self.others.add_provider(record) }
    }

    /// Removes a record, of the local node if it `is_own`.
    pub(super) fn remove(&mut self, key: &KadKey, provider: &PeerId, is_own: bool) {
        let kad = if is_own { &mut self.own } else { &mut self.others };
        kad.remove_provider(key, provider);
    }

    /// The records under a key, that of the local node first.
    pub(super) fn under(&self, key: &KadKey) -> Vec<ProviderRecord> {
        let mut records = self.own.providers(key);
        records.extend(self.others.providers(key));
        records.truncate(self.max_per_key);
        records
    }

    /// The records of the local node.
    pub(super) fn own(&self) -> <MemoryStore as RecordStore>::ProvidedIter<'_> {
        self.own.provided()
    }

    /// Handles the outcome of a commit.
    pub(super) fn on_commit(&mut self, is_good: bool) {
        if std::mem::take(&mut self.are_applied) && is_good {
            self.notes.clear();
        }
    }
}

fn name(key: &KadKey) -> Vec<u8> {
    [PREFIX, key.as_ref()].concat()
}

impl SmartRecordStore {
    /// Restores what the notes of the earlier process say: its provider records, and its evictions.
    pub(super) fn restore_notes(&mut self) {
        let notes = match self.table.storage.notes() {
            Ok(notes) => notes,
            Err(error) => return self.news.read_failed(&error),
        };
        let now = self.clock.now();
        for (name, note) in notes {
            let Some(key) = name.strip_prefix(PREFIX) else {
                if let Err(error) = self.memory.restore(&name, &note, now) {
                    self.news.read_failed(&error);
                }
                continue;
            };
            match Provider::decode(Bytes::from(note)) {
                Ok(provider) => self.restore_provider(KadKey::new(&key), provider, now),
                Err(error) => self.news.read_failed(&StorageError::damaged(error)),
            }
        }
        self.memory.end_restoring(now);
    }

    fn restore_provider(&mut self, key: KadKey, provider: Provider, now: Timestamp) {
        let expires_at = provider.expires_at.map(Timestamp::from_millis);
        if expires_at.is_some_and(|at| at <= now) {
            return self.forget_provider(&key);
        }
        let addresses = provider.addresses.into_iter();
        let addresses = addresses.filter_map(|bytes| bytes.to_vec().try_into().ok()).collect();
        let mut record = ProviderRecord::new(key, self.table.local, addresses);
        record.expires = expires_at.and_then(|at| instant(at, now));
        // The configuration may allow fewer of them now.
        if let Err(error) = self.providers.add(record, true) {
            tracing::warn!(%error, "a provider record is left out");
        }
    }

    /// Writes the note of a local provider record, if the `MemoryStore` has accepted it.
    pub(super) fn keep_provider(&mut self, record: &ProviderRecord) {
        if !self.providers.own.providers(&record.key).contains(record) {
            return;
        }
        let now = self.clock.now();
        let provider = Provider {
            addresses: record.addresses.iter().map(|address| address.to_vec().into()).collect(),
            expires_at: record.expires.map(|at| wall_clock(at, now).as_millis()),
        };
        self.note(name(&record.key), Some(provider.encode_to_vec()));
    }

    /// Removes the note of a local provider record.
    pub(super) fn forget_provider(&mut self, key: &KadKey) {
        self.note(name(key), None);
    }

    fn note(&mut self, name: Vec<u8>, note: Option<Vec<u8>>) {
        self.providers.notes.insert(name, note);
        self.providers.are_applied = false;
        if let Err(error) = self.catch_up_on_notes().and_then(|()| self.commit()) {
            self.news.emit(&StoreEvent::StorageFailed { error });
        }
    }

    /// Applies the notes that may not be in the storage, and removes some of no use. They count as
    /// stored after the next successful commit.
    pub(super) fn catch_up_on_notes(&mut self) -> Result<(), StorageError> {
        let mut changes = self.memory.tidy();
        let notes = self.providers.notes.iter();
        changes.extend(notes.map(|(name, note)| Change::Note(name.clone(), note.clone())));
        if changes.is_empty() {
            return Ok(());
        }
        self.change(changes)?;
        self.providers.are_applied = true;
        Ok(())
    }
}
