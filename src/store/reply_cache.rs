//! Cache of replies: a record that fits into one reply is encoded once, not for every GET.
//!
//! **Invariants.** A cached reply is used only while encoding the record again would give the same:
//! until the record is written to or something in it expires. If the clock was set back, it is
//! encoded again. After a failed write nothing is cached until a write succeeds, because the effect
//! of the failed write is not certain. The cached bytes are bounded.
//!
//! **Spec.** `docs/performance.md`.

use std::collections::HashMap;

use libp2p_kad::{Record, RecordKey as KadKey};

use super::storage::RecordId;
use crate::clock::instant;
use smart_record_core::{AskerTag, Timestamp};

/// How many bytes of keys and values are cached. When there are more, the cache is cleared.
const MAX_BYTES: usize = 4 * 1_024 * 1_024;

#[derive(Debug, Default)]
pub(super) struct ReplyCache {
    by_key: HashMap<KadKey, CachedReply>,
    keys: HashMap<RecordId, KadKey>,
    bytes: usize,
    is_in_doubt: bool,
}

#[derive(Debug)]
struct CachedReply {
    record: Record,
    expires_at: Option<Timestamp>,
    made_at: Timestamp,
    /// When the reply changes; `None` if nothing in it expires.
    until: Option<Timestamp>,
}

fn cost(record: &Record) -> usize {
    record.value.len().saturating_add(record.key.as_ref().len())
}

impl ReplyCache {
    pub(super) fn get(&self, key: &KadKey, now: Timestamp) -> Option<Record> {
        let answer = self.by_key.get(key)?;
        let is_current = answer.made_at <= now && answer.until.is_none_or(|until| now < until);
        // The wall clock may have been set, so the remaining lifetime is computed again.
        let expires = answer.expires_at.and_then(|at| instant(at, now));
        is_current.then(|| {
            let Record { key, value, publisher, .. } = &answer.record;
            // It may get a tag.
            let mut copy = Vec::with_capacity(value.len().saturating_add(AskerTag::BYTES));
            copy.extend_from_slice(value);
            Record { key: key.clone(), value: copy, publisher: *publisher, expires }
        })
    }

    pub(super) fn insert(
        &mut self,
        id: RecordId,
        record: Record,
        expires_at: Option<Timestamp>,
        made_at: Timestamp,
        until: Option<Timestamp>,
    ) {
        if self.is_in_doubt {
            return;
        }
        self.forget(id);
        let bytes = self.bytes.saturating_add(cost(&record));
        if bytes > MAX_BYTES {
            *self = Self::default();
        }
        self.bytes = self.bytes.saturating_add(cost(&record));
        self.keys.insert(id, record.key.clone());
        self.by_key.insert(record.key.clone(), CachedReply { record, expires_at, made_at, until });
    }

    /// Handles the outcome of a write.
    pub(super) fn on_write(&mut self, is_good: bool) {
        if !is_good {
            *self = Self::default();
        }
        self.is_in_doubt = !is_good;
    }

    pub(super) fn forget(&mut self, id: RecordId) {
        let answer = self.keys.remove(&id).and_then(|key| self.by_key.remove(&key));
        if let Some(answer) = answer {
            self.bytes = self.bytes.saturating_sub(cost(&answer.record));
        }
    }
}
