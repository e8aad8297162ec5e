//! The store as Kademlia sees it.
//!
//! **Invariants.** Each method does what `docs/design.md`, section "What libp2p-kad does with a store", says is
//! safe with libp2p-kad 0.49; the tests in `tests/swarms/traps.rs` show each between two nodes.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::borrow::Cow;

use libp2p_identity::PeerId;
use libp2p_kad::{
    ProviderRecord, Record, RecordKey as KadKey,
    store::{self, RecordStore},
};

use super::{
    SmartRecordStore, StoreConfig,
    event::{Origin, StoreEvent},
    write::{Meta, WriteError},
};
use crate::clock::wall_clock;
use smart_record_core::{LimitExceeded, Namespace, RecordKey, Timestamp, ValidationError};

impl RecordStore for SmartRecordStore {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, Record>> + 'a>;
    type ProvidedIter<'a> = <store::MemoryStore as RecordStore>::ProvidedIter<'a>;

    /// A slice of the record that fits into a reply, the whole if it is small. Each call moves on to the
    /// next slice.
    fn get(&self, key: &KadKey) -> Option<Cow<'_, Record>> {
        let now = self.clock.now();
        if let Some(record) = self.replies.get(key, now) {
            return Some(Cow::Owned(record));
        }
        match self.answer(&RecordKey::new(key.to_vec()), now) {
            Ok(record) => record.map(Cow::Owned),
            Err(error) => {
                self.news.read_failed(&error);
                None
            }
        }
    }

    /// Stores what is good of the record. A remote write is never refused with an error; see the events.
    /// A write is a local one if its publisher is the local peer, which Kademlia never lets through from
    /// outside. A local record that is too large for one packet is refused, unless nothing about it is checked
    /// ([`AcceptAny`](smart_record_core::AcceptAny)): put a smart record piece by piece, as
    /// [`SmartRecord::chunks`](smart_record_core::SmartRecord::chunks) gives them.
    fn put(&mut self, record: Record) -> store::Result<()> {
        let is_local = record.publisher == Some(self.table.local);
        let now = self.clock.now();
        let meta = Meta {
            origin: if is_local { Origin::Local } else { Origin::Remote },
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
        };
        let key = RecordKey::new(record.key.to_vec());
        let (len, max) = (record.value.len(), self.config.chunk_bytes());
        if is_local && len > max && !self.is_unchecked(&key, &record.value, now) {
            // Kademlia would send it as it is, and every remote would fail to read the packet.
            let limit = LimitExceeded::new(StoreConfig::CHUNK_BYTES, len, max);
            self.refuse(&key, Origin::Local, None, limit.into(), 1);
            return Err(store::Error::ValueTooLarge);
        }
        match self.write_with(&key, &record.value, meta) {
            Err(error) if is_local => Err(kad_error(&error)),
            _ => Ok(()),
        }
    }

    /// Removes what has expired, and a value of another kind than a smart record unless it was renewed
    /// after Kademlia saw it expire. See [`SmartRecordStore::forget`] for the unconditional form.
    fn remove(&mut self, key: &KadKey) {
        let removed = self.remove_expired(&RecordKey::new(key.to_vec()));
        if let Err(error) = removed.and_then(|()| self.commit()) {
            self.news.emit(&StoreEvent::StorageFailed { error });
        }
    }

    /// All that lives, a large record in several of the same key.
    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.all_records())
    }

    fn add_provider(&mut self, record: ProviderRecord) -> store::Result<()> {
        let own = (record.provider == self.table.local).then(|| record.clone());
        self.providers.kad.add_provider(record).inspect_err(|error| {
            if let Some(ProviderRecord { key, .. }) = &own {
                let key = RecordKey::new(key.to_vec());
                let advice = "raise the bounds of `StoreConfig::providers`";
                tracing::warn!(%key, reason = %error, advice, "this node's own provider record is refused");
            }
        })?;
        if let Some(own) = own {
            self.keep_provider(&own);
        }
        Ok(())
    }

    fn providers(&self, key: &KadKey) -> Vec<ProviderRecord> {
        self.providers.kad.providers(key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.providers.kad.provided()
    }

    fn remove_provider(&mut self, key: &KadKey, provider: &PeerId) {
        self.providers.kad.remove_provider(key, provider);
        if *provider == self.table.local {
            self.forget_provider(key);
        }
    }
}

impl SmartRecordStore {
    /// Whether a value is one that is kept as libp2p's `MemoryStore` keeps it, too large or not.
    fn is_unchecked(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> bool {
        match self.registry.resolve(key) {
            Ok(Namespace::Value(validator)) => {
                validator.validate(key, value, now).is_ok_and(|validity| validity.keeps_publisher)
            }
            _ => false,
        }
    }
}

/// The nearest that Kademlia has a word for; it has none for "invalid". The event says more.
fn kad_error(error: &WriteError) -> store::Error {
    match error {
        WriteError::Refused(ValidationError::LimitExceeded(LimitExceeded { limit, .. }))
            if !StoreConfig::ROOM.contains(limit) =>
        {
            store::Error::ValueTooLarge
        }
        _ => store::Error::MaxRecords,
    }
}
