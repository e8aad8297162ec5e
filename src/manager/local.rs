//! Backend over a local store, without a network.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::Keypair;
use libp2p_kad::store::RecordStore;
use web_time::Instant;

use super::backend::{BackendAnswers, Correction, HeldValue, Holder, RecordBackend};
use crate::store::{Quota, SmartRecordStore, StoreConfig, WriteError};
use smart_record_core::{RecordKey, Registry};

/// Keeps records in a [`SmartRecordStore`] that is not part of a DHT. Clones share one store.
#[derive(Clone, Debug)]
pub struct StoreBackend {
    store: Arc<Mutex<SmartRecordStore>>,
}

impl StoreBackend {
    /// Returns a backend in memory with the bounds of [`StoreConfig::default`], except that records
    /// of any age are kept: no other node would send them again. Records that do not fit are
    /// refused. Pass a registry with the manager's rules.
    pub fn new(registry: Registry) -> Self {
        // This peer id is never published; a store needs one to order its records.
        let local = Keypair::generate_ed25519().public().to_peer_id();
        let config = StoreConfig::default().with_max_age(Duration::MAX);
        // Every record put here belongs to the local node.
        let all = Quota { count: usize::MAX, bytes: usize::MAX };
        let config = config.with_protected_quota(all);
        Self::over(SmartRecordStore::with_registry(local, registry, config))
    }

    /// Returns a backend over `store`, whose registry must have the manager's rules.
    pub fn over(store: SmartRecordStore) -> Self {
        Self { store: Arc::new(Mutex::new(store)) }
    }

    /// The store. The manager blocks while the guard is held.
    pub fn store(&self) -> MutexGuard<'_, SmartRecordStore> {
        // A panic cannot leave the store inconsistent: its storage applies a write as a whole.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordBackend for StoreBackend {
    type Error = WriteError;

    async fn fetch(&self, key: &RecordKey) -> Result<BackendAnswers, Self::Error> {
        let store = self.store();
        let answer = store.get(&libp2p_kad::RecordKey::new(key)).map(|record| HeldValue {
            holder: Holder::Local,
            value: Bytes::copy_from_slice(&record.value),
            lifetime: record.expires.map(|at| at.saturating_duration_since(Instant::now())),
        });
        Ok(BackendAnswers { answers: answer.into_iter().collect(), ..BackendAnswers::default() })
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, Self::Error> {
        self.store().write(key, &value)?;
        Ok(0)
    }

    fn has_stopped(_: &Self::Error) -> bool {
        false
    }

    /// Does nothing: this node is the only holder.
    async fn correct(&self, _: Correction) {}
}
