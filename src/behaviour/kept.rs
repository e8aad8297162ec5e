//! What is kept alive under one key: documents of an own space, or values.
//!
//! Each handle of a client keeps something of its own. What was detached from its handle is kept together, as one.
//!
//! **Invariants.** Pure. Of the documents in a space each has what was written last: what is written over a part of
//! another takes its place there. Each handle keeps one document or value, and all that are detached one more.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::{client::KeepId, schedule::Due};
use smart_record_core::{
    Dict, KeptDocument, Namespace, RecordKey, Registry, SignError, SignedUpdate, SpaceSigner,
    Timestamp,
};

/// After how long a renewal that has failed is tried again for the first time. A guess.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The handle that keeps something; `None`: it is detached.
type Keeper = Option<KeepId>;

/// The documents that are kept in one own space, and when they are signed anew.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptDocuments {
    documents: BTreeMap<Keeper, KeptDocument>,
    renewal: Option<Due>,
    /// How many times in a row they could not be signed anew.
    failures: u32,
}

impl KeptDocuments {
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn has(&self, keeper: KeepId) -> bool {
        self.documents.contains_key(&Some(keeper))
    }

    /// When it is signed anew, to be changed.
    pub(super) const fn renewal_mut(&mut self) -> Option<&mut Due> {
        self.renewal.as_mut()
    }

    pub(super) fn renewal_at(&self) -> Option<Timestamp> {
        self.renewal.map(Due::at)
    }

    /// Merges `document` into what a handle keeps.
    pub(super) fn keep(&mut self, keeper: KeepId, document: Dict, ttl: Duration) {
        let own = self.documents.remove(&Some(keeper));
        self.publish(&document);
        let kept = match own {
            Some(own) => own.and(document, ttl),
            None => KeptDocument::new(document, ttl),
        };
        self.documents.insert(Some(keeper), kept);
    }

    /// Something was published that is not kept.
    pub(super) fn publish(&mut self, document: &Dict) {
        let left = std::mem::take(&mut self.documents).into_iter();
        let left = left.filter_map(|(keeper, kept)| Some((keeper, kept.without(document)?)));
        self.documents = left.collect();
        self.renewal.take_if(|_| self.documents.is_empty());
    }

    /// What a handle keeps stays when the handle is gone.
    pub(super) fn detach(&mut self, keeper: KeepId) {
        if let Some(kept) = self.documents.remove(&Some(keeper)) {
            let detached = match self.documents.remove(&None) {
                Some(detached) => detached.join(kept),
                None => kept,
            };
            self.documents.insert(None, detached);
        }
    }

    /// A handle keeps nothing any more. Returns what it kept.
    pub(super) fn remove(&mut self, keeper: KeepId) -> Option<KeptDocument> {
        let removed = self.documents.remove(&Some(keeper));
        self.renewal.take_if(|_| self.documents.is_empty());
        removed
    }

    /// Nothing is kept any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Signs all of it anew.
    pub(super) fn renew(
        &self,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        KeptDocument::renew(self.documents.values(), signer, now)
    }

    /// After a renewal that has failed they are due again soon, later each time, at last when they would be anyway.
    pub(super) fn on_renewed(&mut self, now: Timestamp, is_done: bool) {
        let delay = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = if is_done { 0 } else { self.failures.saturating_add(1) };
        if let Some(due) = self.renewal.as_mut().filter(|_| !is_done) {
            due.hasten(now, delay);
        }
    }

    /// Plans the next renewal; `half_life` says after how much of the shortest lifetime that is.
    pub(super) fn plan(&mut self, now: Timestamp, half_life: impl Fn(Duration) -> Duration) {
        let shortest = self.documents.values().map(KeptDocument::ttl).min();
        self.renewal = shortest.map(|ttl| Due::after(now, half_life(ttl)));
    }

    /// Withdraws what a handle has kept, and nothing else.
    pub(super) fn withdraw(
        &mut self,
        keeper: KeepId,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        match self.remove(keeper) {
            Some(kept) => kept.withdraw(self.documents.values(), signer, now),
            // It was overwritten, or withdrawn with the whole space.
            None => self.renew(signer, now),
        }
    }
}

/// The values that are kept under one key.
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

    /// What is to be sent again: all of them together. What is not valid any more, or worse than another, is not kept any
    /// longer.
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
        // The newest first: where nothing else decides, it wins.
        let values: Vec<_> = self.0.values().rev().map(|value| &value[..]).collect();
        let all = united(registry, key, &values)?;
        self.0.retain(|_, value| validator.contains(key, &all, value));
        Some(all)
    }
}

fn united(registry: &Registry, key: &RecordKey, values: &[&[u8]]) -> Option<Bytes> {
    registry.consolidate(key, values).ok().map(Bytes::from)
}
