//! Cache of replies: a record that fits into one reply, and is asked for more than once, is not
//! encoded for every GET.
//!
//! **Invariants.** A cached reply is used only while encoding the record again would give the same:
//! until the record is written to or something in it expires. If the clock was set back, it is
//! encoded again. After a failed write nothing is cached until a write succeeds, because the effect
//! of the failed write is not certain. The cached bytes are bounded. Only what was encoded twice of
//! late is cached: what is asked for once in a while costs no second copy, and takes no place.
//!
//! **Spec.** `docs/performance.md`.

use std::collections::HashMap;

use libp2p_kad::{Record, RecordKey as KadKey};

use super::storage::RecordId;
use crate::clock::instant;
use smart_record_core::{AskerTag, Timestamp};

/// How many bytes of keys and values are cached. When there are more, the cache is cleared.
const MAX_BYTES: usize = 4 * 1_024 * 1_024;

/// How many records are remembered as encoded of late.
const ENCODED: usize = 256;

#[derive(Debug)]
pub(super) struct ReplyCache {
    by_key: HashMap<KadKey, CachedReply>,
    keys: HashMap<RecordId, KadKey>,
    bytes: usize,
    is_in_doubt: bool,
    /// Records that were encoded of late, each at a place by its id.
    encoded: [u64; ENCODED],
}

impl Default for ReplyCache {
    fn default() -> Self {
        let (by_key, keys) = (HashMap::new(), HashMap::new());
        Self { by_key, keys, bytes: 0, is_in_doubt: false, encoded: [0; ENCODED] }
    }
}

/// A reply that was encoded.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) record: Record,
    /// Whether it is a smart record, which is sent with the tag of the peer that asks.
    pub(super) is_smart: bool,
    pub(super) expires_at: Option<Timestamp>,
    /// When the reply changes; `None` if nothing in it expires.
    pub(super) until: Option<Timestamp>,
}

#[derive(Debug)]
struct CachedReply {
    reply: Encoded,
    made_at: Timestamp,
}

fn cost(record: &Record) -> usize {
    record.value.len().saturating_add(record.key.as_ref().len())
}

impl ReplyCache {
    /// A copy of a reply that is still current, and whether it is a smart record.
    pub(super) fn get(&self, key: &KadKey, now: Timestamp) -> Option<(Record, bool)> {
        let CachedReply { reply: Encoded { record, is_smart, expires_at, until }, made_at } =
            self.by_key.get(key)?;
        if *made_at > now || until.is_some_and(|until| until <= now) {
            return None;
        }
        // It may get a tag.
        let mut value = Vec::with_capacity(record.value.len().saturating_add(AskerTag::BYTES));
        value.extend_from_slice(&record.value);
        // The wall clock may have been set, so the remaining lifetime is computed again.
        let expires = expires_at.and_then(|at| instant(at, now));
        let Record { key, publisher, .. } = record;
        Some((Record { key: key.clone(), value, publisher: *publisher, expires }, *is_smart))
    }

    /// Caches a reply that was encoded, if that was not the first time of late.
    pub(super) fn on_encoded(&mut self, id: RecordId, reply: &Encoded, made_at: Timestamp) {
        if self.is_in_doubt || !self.is_encoded_again(id) {
            return;
        }
        self.forget(id);
        let record = &reply.record;
        if self.bytes.saturating_add(cost(record)) > MAX_BYTES {
            self.clear();
        }
        self.bytes = self.bytes.saturating_add(cost(record));
        self.keys.insert(id, record.key.clone());
        self.by_key.insert(record.key.clone(), CachedReply { reply: reply.clone(), made_at });
    }

    /// Remembers that a record was encoded. Returns whether it had been before, and none of the
    /// records with the same place since.
    fn is_encoded_again(&mut self, id: RecordId) -> bool {
        // An id is a distance: near records differ in its last bytes.
        let [.., a, b, c, d, e, f, g, h, place] = id.0;
        let id = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let known = self.encoded.get_mut(usize::from(place));
        known.is_some_and(|known| std::mem::replace(known, id) == id)
    }

    fn clear(&mut self) {
        self.by_key.clear();
        self.keys.clear();
        self.bytes = 0;
    }

    /// Handles the outcome of a write.
    pub(super) fn on_write(&mut self, is_good: bool) {
        if !is_good {
            self.clear();
        }
        self.is_in_doubt = !is_good;
    }

    pub(super) fn forget(&mut self, id: RecordId) {
        let answer = self.keys.remove(&id).and_then(|key| self.by_key.remove(&key));
        if let Some(answer) = answer {
            self.bytes = self.bytes.saturating_sub(cost(&answer.reply.record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_twice_of_late_is_cached() {
        let (mut cache, now) = (ReplyCache::default(), Timestamp::from_millis(1));
        let key = |n: u8| KadKey::new(&[n]);
        let mut encode = |n: u8, place: u8| {
            let mut id = [n; 32];
            id[31] = place;
            let record = Record::new(key(n), vec![n]);
            let reply = Encoded { record, is_smart: false, expires_at: None, until: None };
            cache.on_encoded(RecordId(id), &reply, now);
            cache.get(&key(n), now).map(|(record, _)| record.value)
        };
        assert_eq!(encode(1, 0), None, "the first time");
        assert_eq!(encode(2, 1), None);
        assert_eq!(encode(1, 0), Some(vec![1]));
        // Another record has taken its place.
        assert_eq!(encode(3, 1), None);
        assert_eq!(encode(2, 1), None);
        assert_eq!(encode(2, 1), Some(vec![2]));
    }
}
