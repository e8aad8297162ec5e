//! The content of a write in chunks, and a write over queries of Kademlia.
//!
//! **Invariants.** Pure, except that `begin` writes to the store, and `next_record` reads the
//! monotonic clock for Kademlia's expiry. A peer counts if it took every chunk. A peer that did not
//! take a chunk is not sent the next. Chunks are sent one after the other, so a large record causes
//! no burst.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, GetClosestPeersError, GetClosestPeersResult, PutRecordError, PutRecordResult,
};
use smart_record_core::{Fault, LimitExceeded, RecordKey, SmartRecord, Timestamp, ValidationError};
use web_time::Instant;

use super::joined::chunks;
use crate::store::{
    Origin, SmartRecordStore, StoreConfig, ValidatedRecord, WriteError, WriteReport,
};

/// Minimum lifetime sent: less than a second would be encoded as zero, which means no expiry.
const SHORTEST: Duration = Duration::from_secs(1);

/// A record to be sent to peers.
#[derive(Debug)]
pub(crate) struct RecordPut {
    pub(crate) key: RecordKey,
    chunks: VecDeque<Bytes>,
    /// Expiry of the copies, if the value does not state its own.
    pub(crate) expires_at: Option<Timestamp>,
    peers: Vec<PeerId>,
    /// The record, if it is a smart record.
    record: Option<SmartRecord>,
}

impl RecordPut {
    pub(crate) fn new(key: RecordKey, chunks: Vec<Bytes>, expires_at: Option<Timestamp>) -> Self {
        Self { key, chunks: chunks.into(), expires_at, peers: Vec::new(), record: None }
    }

    /// Returns a smart record in chunks.
    pub(crate) fn of(record: &SmartRecord, chunk_bytes: usize) -> Self {
        let chunks = chunks(record, chunk_bytes);
        let record_put = Self::new(record.key().clone(), chunks, record.retain_until());
        Self { record: Some(record.clone()), ..record_put }
    }

    /// The chunks still to be sent.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        self.chunks.iter().cloned().collect()
    }

    /// The record, if it is a smart record.
    pub(crate) const fn record(&self) -> Option<&SmartRecord> {
        self.record.as_ref()
    }

    /// Stores the valid part as a local write, and prepares it to be sent.
    ///
    /// # Errors
    /// [`WriteError`] if no part is valid, if the newest update of a single space is refused, or if
    /// no packet can carry it.
    pub(crate) fn begin(
        store: &mut SmartRecordStore,
        checked: ValidatedRecord,
    ) -> Result<Self, WriteError> {
        let max = store.config().chunk_bytes();
        let key = checked.key().clone();
        let (record, value) = (checked.record().cloned(), checked.value().cloned());
        if let Some(len) = value.as_ref().map(Bytes::len).filter(|len| *len > max) {
            let limit = LimitExceeded::new(StoreConfig::CHUNK_BYTES, len, max);
            return Err(ValidationError::from(limit).into());
        }
        let is_one_space = record.as_ref().is_some_and(|record| record.spaces().len() == 1);
        let WriteReport { stored, refused, .. } = store.insert(checked, Origin::Local)?;
        if stored == 0 && is_one_space {
            // The newest update was refused, so the write fails although earlier updates are known.
            // A board of many writers is sent for its valid parts.
            let mut reasons = refused.into_iter().map(|(_, reason)| reason);
            if let Some(reason) = reasons.find(|reason| reason.fault() != Fault::Expired) {
                return Err(reason.into());
            }
        }
        Ok(match record {
            Some(record) => Self::of(&record, max),
            None => {
                let expires_at = store.value(&key)?.and_then(|stored| stored.expires_at);
                Self::new(key, value.into_iter().collect(), expires_at)
            }
        })
    }

    pub(crate) fn to(mut self, peers: Vec<PeerId>) -> Self {
        self.peers = peers;
        self
    }

    /// Number of chunks still to be sent.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Sets the recipients from the result of Kademlia's query for the closest peers.
    pub(crate) fn on_closest(&mut self, result: &GetClosestPeersResult, local: PeerId) {
        let peers = match result {
            Ok(ok) => &ok.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        // Kademlia would wait forever for an answer of the local peer.
        self.peers = peers.iter().map(|peer| peer.peer_id).filter(|peer| *peer != local).collect();
    }

    /// Returns the next chunk and its recipients, if any are left.
    pub(crate) fn next(&mut self) -> Option<(Bytes, Vec<PeerId>)> {
        if self.peers.is_empty() {
            return None;
        }
        Some((self.chunks.pop_front()?, self.peers.clone()))
    }

    /// As [`next`](Self::next), for a query of Kademlia.
    pub(crate) fn next_record(&mut self, now: Timestamp) -> Option<(kad::Record, Vec<PeerId>)> {
        let (chunk, peers) = self.next()?;
        let left = self.expires_at.map(|at| at.saturating_since(now).max(SHORTEST));
        let record = kad::Record {
            key: kad::RecordKey::new(&self.key),
            value: chunk.to_vec(),
            // A peer named as publisher would not receive what others write.
            publisher: None,
            expires: left.and_then(|left| Instant::now().checked_add(left)),
        };
        Some((record, peers))
    }

    /// Handles the result of Kademlia's query that sent the last chunk.
    pub(crate) fn on_put(&mut self, result: &PutRecordResult) {
        if let Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        ) = result
        {
            self.took(success);
        }
    }

    /// Keeps only these recipients, which took the last chunk.
    pub(crate) fn took(&mut self, peers: &[PeerId]) {
        self.peers.retain(|peer| peers.contains(peer));
    }

    /// The recipients that took every chunk.
    pub(crate) fn into_peers(self) -> Vec<PeerId> {
        self.peers
    }

    pub(crate) fn peers(&self) -> &[PeerId] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_counts_if_it_took_every_chunk() {
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(3).collect();
        let chunks = vec![Bytes::from("1"), Bytes::from("2")];
        let mut record_put = RecordPut::new("/sr/a".into(), chunks, None).to(peers.clone());
        assert_eq!(record_put.next(), Some((Bytes::from("1"), peers.clone())));
        record_put.took(&peers[1..]);
        assert_eq!(record_put.next(), Some((Bytes::from("2"), peers[1..].to_vec())));
        record_put.took(&[peers[0], peers[2]]);
        assert_eq!(record_put.next(), None);
        assert_eq!(record_put.into_peers(), [peers[2]]);
    }

    #[test]
    fn without_recipients_nothing_is_sent() {
        let chunks = vec![Bytes::from("1"), Bytes::from("2")];
        let mut record_put =
            RecordPut::new("/sr/a".into(), chunks, None).to(vec![PeerId::random()]);
        assert!(record_put.next().is_some());
        record_put.took(&[]);
        assert_eq!(record_put.next(), None);
    }
}
