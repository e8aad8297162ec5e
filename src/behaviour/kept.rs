//! Documents or values that are kept alive under one key.
//!
//! Each handle of a client keeps its own document or value. Those detached from their handles are
//! combined into one.
//!
//! **Invariants.** Pure. The last write to a part of the space owns that part: it is removed from
//! other kept documents. There is at most one document or value per handle, and one for all
//! detached ones.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{
    client::KeepId,
    schedule::{Due, Retry},
};
use smart_record_core::{
    Dict, KeptDocument, Namespace, RecordKey, Registry, SignError, SignedUpdate, SpaceSigner,
    Timestamp, ZeroLifetime,
};

/// Delay before the first retry of a failed renewal. A guess.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(30);
/// The longest delay of a retry.
const LAST_RETRY: Duration = Duration::from_secs(3_600);

/// Id of the handle; `None` for what was detached.
type Keeper = Option<KeepId>;

/// Kept documents of one own space, and the time of their renewal.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptDocuments {
    documents: BTreeMap<Keeper, KeptDocument>,
    renewal: Option<Due>,
    retry: Retry,
}

impl KeptDocuments {
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn has(&self, keeper: KeepId) -> bool {
        self.documents.contains_key(&Some(keeper))
    }

    /// Time of the next renewal, to be changed.
    pub(super) const fn renewal_mut(&mut self) -> Option<&mut Due> {
        self.renewal.as_mut()
    }

    pub(super) fn renewal_at(&self) -> Option<Timestamp> {
        self.renewal.map(Due::at)
    }

    /// Merges `document` into the document of a handle.
    pub(super) fn keep(
        &mut self,
        keeper: KeepId,
        document: Dict,
        ttl: Duration,
    ) -> Result<(), ZeroLifetime> {
        let own = self.documents.remove(&Some(keeper));
        self.publish(&document);
        let kept = match own {
            Some(own) => own.and(document, ttl),
            None => KeptDocument::new(document, ttl)?,
        };
        self.documents.insert(Some(keeper), kept);
        Ok(())
    }

    /// Removes the parts that a published, not kept, document overwrites.
    pub(super) fn publish(&mut self, document: &Dict) {
        let left = std::mem::take(&mut self.documents).into_iter();
        let left = left.filter_map(|(keeper, kept)| Some((keeper, kept.without(document)?)));
        self.documents = left.collect();
        self.renewal.take_if(|_| self.documents.is_empty());
    }

    /// Moves the document of a handle to the detached document.
    pub(super) fn detach(&mut self, keeper: KeepId) {
        if let Some(kept) = self.documents.remove(&Some(keeper)) {
            let detached = match self.documents.remove(&None) {
                Some(detached) => detached.join(kept),
                None => kept,
            };
            self.documents.insert(None, detached);
        }
    }

    /// Removes the document of a handle and returns it.
    pub(super) fn remove(&mut self, keeper: KeepId) -> Option<KeptDocument> {
        let removed = self.documents.remove(&Some(keeper));
        self.renewal.take_if(|_| self.documents.is_empty());
        removed
    }

    /// Removes all documents.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Signs all documents anew.
    pub(super) fn renew(
        &self,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        KeptDocument::renew(self.documents.values(), signer, now)
    }

    /// Schedules a retry with growing delays after a failure, no later than the regular renewal and
    /// at least once an hour: a stamp may be good from midnight on.
    pub(super) fn on_renewed(&mut self, now: Timestamp, is_done: bool) {
        if is_done {
            return self.retry.succeeded();
        }
        let delay = self.retry.failed(FIRST_RETRY, LAST_RETRY);
        if let Some(due) = &mut self.renewal {
            due.hasten(now, delay);
        }
    }

    /// Schedules the next renewal. `half_life` maps the shortest lifetime to the delay.
    pub(super) fn plan(&mut self, now: Timestamp, half_life: impl Fn(Duration) -> Duration) {
        let shortest = self.documents.values().map(KeptDocument::ttl).min();
        self.renewal = shortest.map(|ttl| Due::after(now, half_life(ttl)));
    }

    /// Withdraws the document of a handle, and nothing else.
    pub(super) fn withdraw(
        &mut self,
        keeper: KeepId,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let removed = self.remove(keeper);
        self.renew_without(removed, signer, now)
    }

    /// Signs all documents anew, without what a removed one said and nobody has overwritten.
    pub(super) fn renew_without(
        &self,
        removed: Option<KeptDocument>,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        match removed {
            Some(kept) => kept.withdraw(self.documents.values(), signer, now),
            // It was overwritten or withdrawn with the whole space.
            None => self.renew(signer, now),
        }
    }
}

/// Kept values of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptValues(BTreeMap<Keeper, Bytes>);

impl KeptValues {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keep(&mut self, keeper: KeepId, value: Bytes) {
        self.0.insert(Some(keeper), value);
    }

    pub(super) fn detach(&mut self, keeper: KeepId, key: &RecordKey, registry: &Registry) {
        if let Some(value) = self.0.remove(&Some(keeper)) {
            let all = match self.0.remove(&None) {
                Some(detached) => united(registry, key, &[&value, &detached]).unwrap_or(value),
                None => value,
            };
            self.0.insert(None, all);
        }
    }

    pub(super) fn remove(&mut self, keeper: KeepId) {
        self.0.remove(&Some(keeper));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the combination of all kept values, which is to be sent again. Removes values that
    /// are no longer valid or worse than another one.
    pub(super) fn living(
        &mut self,
        key: &RecordKey,
        registry: &Registry,
        now: Timestamp,
    ) -> Option<Bytes> {
        let Ok(Namespace::Value(validator)) = registry.resolve(key) else {
            return None;
        };
        self.0.retain(|_, value| validator.validate(key, value, now).is_ok());
        // Newest first: the newest wins a tie.
        let values: Vec<_> = self.0.values().rev().map(|value| &value[..]).collect();
        let all = united(registry, key, &values)?;
        self.0.retain(|_, value| validator.contains(key, &all, value));
        Some(all)
    }
}

fn united(registry: &Registry, key: &RecordKey, values: &[&[u8]]) -> Option<Bytes> {
    registry.consolidate(key, values).ok().map(Bytes::from)
}
