//! A write over queries of Kademlia.
//!
//! **Invariants.** Pure, except that `next_record` reads the monotonic clock for Kademlia's expiry.
//! A peer counts if it took every chunk. A peer that did not take a chunk is not sent the next.
//! Chunks are sent one after the other, so a large record causes no burst.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Bare Kademlia".

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, GetClosestPeersError, GetClosestPeersResult, PutRecordError, PutRecordResult,
};
use smart_record_core::{Registry, Timestamp};
use web_time::Instant;

use crate::query::{RecordPut, in_turns};

/// A record that is being sent.
#[derive(Debug)]
pub(super) struct KadPut {
    pub(super) content: RecordPut,
    /// Number of chunks sent so far.
    sent: usize,
    peers: Vec<PeerId>,
}

impl KadPut {
    /// With no recipients, a query finds them.
    pub(super) fn new(mut content: RecordPut, peers: Vec<PeerId>, registry: &Registry) -> Self {
        content.chunks = in_turns(&content.key, &content.chunks, registry);
        Self { content, sent: 0, peers }
    }

    /// Sets the recipients from the result of Kademlia's query for the closest peers.
    pub(super) fn on_closest(&mut self, result: &GetClosestPeersResult, local: PeerId) {
        let peers = match result {
            Ok(ok) => &ok.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        // Kademlia would wait forever for an answer of the local peer.
        self.peers = peers.iter().map(|peer| peer.peer_id).filter(|peer| *peer != local).collect();
    }

    /// Returns the next chunk and its recipients, if any are left.
    fn next(&mut self) -> Option<(Bytes, Vec<PeerId>)> {
        if self.peers.is_empty() {
            return None;
        }
        let chunk = self.content.chunks.get(self.sent)?.clone();
        self.sent = self.sent.saturating_add(1);
        Some((chunk, self.peers.clone()))
    }

    /// As [`next`](Self::next), for a query of Kademlia.
    pub(super) fn next_record(&mut self, now: Timestamp) -> Option<(kad::Record, Vec<PeerId>)> {
        let (chunk, peers) = self.next()?;
        let left = self.content.lifetime(now);
        let record = kad::Record {
            key: kad::RecordKey::new(&self.content.key),
            value: chunk.to_vec(),
            // A peer named as publisher would not receive what others write.
            publisher: None,
            expires: left.and_then(|left| Instant::now().checked_add(left)),
        };
        Some((record, peers))
    }

    /// Whether all chunks were sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent >= self.content.chunks.len()
    }

    /// Handles the result of Kademlia's query that sent the last chunk.
    pub(super) fn on_put(&mut self, result: &PutRecordResult) {
        if let Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        ) = result
        {
            self.took(success);
        }
    }

    /// Keeps only these recipients, which took the last chunk.
    pub(super) fn took(&mut self, peers: &[PeerId]) {
        self.peers.retain(|peer| peers.contains(peer));
    }

    /// The recipients that took every chunk so far.
    pub(super) fn peers(&self) -> &[PeerId] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(peers: &[PeerId]) -> KadPut {
        let chunks = vec![Bytes::from("1"), Bytes::from("2")];
        let content = RecordPut::new("/sr/a".into(), chunks, None);
        KadPut::new(content, peers.to_vec(), &Registry::default())
    }

    #[test]
    fn a_peer_counts_if_it_took_every_chunk() {
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(3).collect();
        let mut put = put(&peers);
        assert_eq!(put.next(), Some((Bytes::from("1"), peers.clone())));
        put.took(&peers[1..]);
        assert_eq!(put.next(), Some((Bytes::from("2"), peers[1..].to_vec())));
        put.took(&[peers[0], peers[2]]);
        assert_eq!((put.next(), put.is_sent()), (None, true));
        assert_eq!(put.peers(), [peers[2]]);
    }

    #[test]
    fn without_recipients_nothing_is_sent() {
        let mut put = put(&[PeerId::random()]);
        assert!(put.next().is_some());
        put.took(&[]);
        assert_eq!((put.next(), put.is_sent()), (None, false));
    }
}
