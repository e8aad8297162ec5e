//! Records in a store of one's own, without a network.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::Keypair;
use libp2p_kad::store::RecordStore;
use web_time::Instant;

use super::backend::{Answer, Found, Holder, RecordBackend};
use crate::store::{Quota, SmartRecordStore, StoreConfig, WriteError};
use smart_record_core::{RecordKey, Registry};

/// Keeps records in a [`SmartRecordStore`] that is not part of a DHT. A clone is the same store.
#[derive(Clone, Debug)]
pub struct StoreBackend {
    store: Arc<Mutex<SmartRecordStore>>,
}

impl StoreBackend {
    /// Records in memory, within the bounds of [`StoreConfig::default`], but of any age: nobody else has them, who
    /// would send them again. What does not fit any more is refused. The registry has the manager's rules.
    pub fn new(registry: Registry) -> Self {
        // Nobody ever hears of this peer; a store wants one to order its records.
        let local = Keypair::generate_ed25519().public().to_peer_id();
        let config = StoreConfig::default().with_max_age(Duration::MAX);
        // All that is put is the local node's own.
        let all = Quota { count: usize::MAX, bytes: usize::MAX };
        let config = config.with_protected_quota(all);
        Self::over(SmartRecordStore::with_registry(local, registry, config))
    }

    /// Records in this store, whose registry has the manager's rules.
    pub fn over(store: SmartRecordStore) -> Self {
        Self { store: Arc::new(Mutex::new(store)) }
    }

    /// The store. Whoever holds it holds up the manager.
    pub fn store(&self) -> MutexGuard<'_, SmartRecordStore> {
        // A store has no state that a panic could leave half-changed: its storage applies a write as a whole.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordBackend for StoreBackend {
    type Error = WriteError;

    async fn fetch(&self, key: &RecordKey) -> Result<Found, Self::Error> {
        let store = self.store();
        let answer = store.get(&libp2p_kad::RecordKey::new(key)).map(|record| Answer {
            holder: Holder::Local,
            value: Bytes::copy_from_slice(&record.value),
            lifetime: record.expires.map(|at| at.saturating_duration_since(Instant::now())),
        });
        Ok(Found { answers: answer.into_iter().collect(), ..Found::default() })
    }

    async fn put(&self, key: &RecordKey, value: Bytes) -> Result<usize, Self::Error> {
        self.store().write(key, &value)?;
        Ok(0)
    }
}
