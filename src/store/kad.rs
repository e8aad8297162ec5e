//! The store's implementation of Kademlia's `RecordStore`.
//!
//! **Invariants.** Each method does what is safe with libp2p-kad 0.49 according to
//! `docs/design.md`, section "What libp2p-kad does with a store". The tests in
//! `tests/swarms/traps.rs` show each case between two nodes.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::{borrow::Cow, time::Duration};

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

    /// Returns a small record as a whole, or a slice of a large one that fits into a reply: the
    /// next one for the peer that [asks](SmartRecordStore::asked_by), or any if that is unknown. A
    /// smart record comes with its [`Coverage`](smart_record_core::Coverage), and with the
    /// [`AskerTag`](smart_record_core::AskerTag) of the peer that asks.
    fn get(&self, key: &KadKey) -> Option<Cow<'_, Record>> {
        let now = self.clock.now();
        if let Some(record) = self.replies.get(key, now) {
            self.served.read(record.value.len(), Duration::ZERO);
            return Some(Cow::Owned(record));
        }
        // What an earlier process has stored is verified when it is first read.
        let (answer, signatures) = self.signatures.during(Duration::MAX, || self.answer(key, now));
        let record = answer.unwrap_or_else(|error| {
            self.news.read_failed(&error);
            None
        });
        self.served.read(record.as_ref().map_or(0, |record| record.value.len()), signatures);
        record.map(Cow::Owned)
    }

    /// Stores the valid parts of the record. A remote write never returns an error; its refusal is
    /// an event. A write is local if its publisher is the local peer; Kademlia never passes on such
    /// a record from another peer. A local record that is too large for one packet is refused,
    /// unless its namespace is unchecked ([`AcceptAny`](smart_record_core::AcceptAny)). Put a large
    /// smart record in the pieces that
    /// [`SmartRecord::chunks`](smart_record_core::SmartRecord::chunks) gives.
    fn put(&mut self, record: Record) -> store::Result<()> {
        let is_local = record.publisher == Some(self.table.local);
        let now = self.clock.now();
        let origin = if is_local { Origin::Local } else { Origin::Remote };
        let meta = Meta {
            origin,
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
            source: self.source_of(origin),
        };
        let key = RecordKey::new(record.key.to_vec());
        let (len, max) = (record.value.len(), self.config.chunk_bytes());
        if is_local && len > max && !self.is_unchecked(&key, &record.value, now) {
            // Kademlia would send it unchanged, and no peer could read the packet.
            let limit = LimitExceeded::new(StoreConfig::CHUNK_BYTES, len, max);
            self.refuse(&key, Origin::Local, None, limit.into(), 1);
            return Err(store::Error::ValueTooLarge);
        }
        match self.write_with(&key, &record.value, meta) {
            Err(error) if is_local => Err(kad_error(&error)),
            _ => Ok(()),
        }
    }

    /// Removes the expired parts of a smart record. Removes a value of another kind unless it was
    /// renewed after Kademlia saw it expire. See [`SmartRecordStore::forget`] for the unconditional
    /// form.
    fn remove(&mut self, key: &KadKey) {
        let removed = self.remove_expired(&RecordKey::new(key.to_vec()));
        if let Err(error) = removed.and_then(|()| self.commit()) {
            self.news.emit(&StoreEvent::StorageFailed { error });
        }
    }

    /// Returns all records that have not expired, a large one as several records with the same key.
    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.all_records())
    }

    fn add_provider(&mut self, record: ProviderRecord) -> store::Result<()> {
        let own = (record.provider == self.table.local).then(|| record.clone());
        self.providers.add(record, own.is_some()).inspect_err(|error| {
            if let Some(ProviderRecord { key, .. }) = &own {
                self.news.count(|c| &mut c.own_providers_refused, 1);
                let key = RecordKey::new(key.to_vec());
                let advice = "raise the bounds of `StoreConfig::providers`";
                tracing::warn!(%key, reason = %error, advice, "this node's own provider record is refused");
            } else {
                self.news.count(|c| &mut c.providers_refused, 1);
            }
        })?;
        if let Some(own) = own {
            self.keep_provider(&own);
        }
        Ok(())
    }

    fn providers(&self, key: &KadKey) -> Vec<ProviderRecord> {
        self.providers.under(key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.providers.own()
    }

    fn remove_provider(&mut self, key: &KadKey, provider: &PeerId) {
        let is_own = *provider == self.table.local;
        self.providers.remove(key, provider, is_own);
        if is_own {
            self.forget_provider(key);
        }
    }
}

impl SmartRecordStore {
    /// Whether a value is unchecked, and so stored as in libp2p's `MemoryStore`, whatever its size.
    fn is_unchecked(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> bool {
        match self.registry.resolve(key) {
            Ok(Namespace::Value(validator)) => {
                validator.validate(key, value, now).is_ok_and(|validity| validity.keeps_publisher)
            }
            _ => false,
        }
    }
}

/// The closest error that Kademlia has. It has none for "invalid"; the event has the reason.
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
