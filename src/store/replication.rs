//! What Kademlia's replication job is given, and what it may remove.
//!
//! **Invariants.** Nothing expired is returned. A value that the job removes as expired stays if it
//! was renewed in the meantime.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::{borrow::Cow, collections::VecDeque, time::Duration};

use libp2p_kad::Record;

use super::{
    SmartRecordStore, StorageError, lock,
    reply::{LEAST_TTL, value_record},
    rows,
    storage::{Part, PartId, RecordId},
};
use crate::{clock::instant, proto::storage::head::Body};
use smart_record_core::{Chunks, RecordKey, Timestamp};

/// A value as it was given to Kademlia's replication job. The job calls `remove` if the value has
/// expired by the time the job sends it, even if it was renewed in the meantime.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplicatedValue {
    expires_at: Timestamp,
    taken_at: Timestamp,
    /// Whether the value has been renewed since.
    pub(super) superseded: bool,
}

impl ReplicatedValue {
    /// How long a run of the job may take: until the next run, one hour later by default. A run
    /// takes long because it has at most 100 concurrent queries, and queries to peers that are gone
    /// time out.
    const JOB: Duration = Duration::from_secs(60 * 60);

    fn explains_removal_at(self, now: Timestamp) -> bool {
        self.superseded
            && self.expires_at.saturating_sub(LEAST_TTL) <= now
            && now.saturating_since(self.taken_at) <= Self::JOB
    }
}

impl SmartRecordStore {
    /// All records that have not expired, each small enough for Kademlia's packet. A large one is
    /// returned as several records with the same key.
    pub(super) fn all_records(&self) -> impl Iterator<Item = Cow<'_, Record>> {
        let now = self.clock.now();
        {
            let mut snapshot = lock(&self.snapshot);
            snapshot.retain(|_, seen| now.saturating_since(seen.taken_at) <= ReplicatedValue::JOB);
            if snapshot.len() > self.config.max_records() {
                // Many have been removed since. Dropping these bounds the map to twice the number
                // of records.
                snapshot.retain(|id, _| {
                    self.table.storage.get(&id.head()).is_ok_and(|head| head.is_some())
                });
            }
        }
        let mut next = Some(PartId::MIN);
        let mut queue = VecDeque::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(record) = queue.pop_front() {
                    return Some(Cow::Owned(record));
                }
                let (head, part) = match self.table.storage.scan(next?..=PartId::MAX).next()? {
                    Ok(row) => row,
                    Err(error) => {
                        self.news.read_failed(&error);
                        return None;
                    }
                };
                next = head.record.after().map(RecordId::head);
                if let Err(error) = self.gather(head.record, &part, now, &mut queue) {
                    self.news.read_failed(&error);
                }
            }
        })
    }

    fn gather(
        &self,
        id: RecordId,
        head: &Part<'_>,
        now: Timestamp,
        queue: &mut VecDeque<Record>,
    ) -> Result<(), StorageError> {
        let head_expires_at = head.expires_at;
        let head = rows::decode_head(head)?;
        let key = RecordKey::new(head.key);
        match head.body {
            Some(Body::Value(stored)) => {
                if let Some(record) = value_record(&key, &stored, head_expires_at, now) {
                    if let Some(at) = head_expires_at {
                        let seen =
                            ReplicatedValue { expires_at: at, taken_at: now, superseded: false };
                        // An earlier job may still be running.
                        lock(&self.snapshot).entry(id).or_insert(seen);
                    }
                    queue.push_back(record);
                }
            }
            _ => {
                let mut expires_at = None;
                let mut spaces = Vec::new();
                for row in self.given_out(&key, id, self.table.board(id)?, now) {
                    let (_, part) = row?;
                    expires_at = expires_at.max(part.expires_at);
                    spaces.push(part.bytes);
                }
                let expires = expires_at.and_then(|at| instant(at, now));
                let chunks = Chunks::new(spaces.into_iter(), self.config.chunk_bytes());
                queue.extend(chunks.map(|value| Record {
                    key: libp2p_kad::RecordKey::new(&key),
                    value,
                    publisher: None,
                    expires,
                }));
            }
        }
        Ok(())
    }

    /// Handles Kademlia's `remove`. Kademlia may call it long after it saw a record expire. So only
    /// the expired parts of a smart record are removed, and a value that was renewed in the
    /// meantime stays.
    pub(super) fn remove_expired(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        let now = self.clock.now();
        let id = self.table.record_id(key);
        let seen = lock(&self.snapshot).remove(&id);
        if self.live_value(id, now)?.is_none() {
            return self.collect_due(now, 256).map(drop);
        }
        match seen {
            Some(seen) if seen.explains_removal_at(now) => Ok(()),
            _ => self.drop_record(id),
        }
    }
}
