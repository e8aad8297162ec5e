//! A put on its way through Kademlia's queries.
//!
//! **Invariants.** Pure, but for the instant that Kademlia wants of a record. A peer counts if it
//! took every chunk; one that did not take a chunk is not sent the next. Chunks go one after the
//! other, so that a large record is no burst.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Bare Kademlia".

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, GetClosestPeersError, GetClosestPeersResult, PutRecordError, PutRecordResult,
};
use smart_record_core::Timestamp;
use web_time::Instant;

use crate::query::RecordPut;

/// A record on its way to peers.
#[derive(Debug)]
pub(super) struct KadPut {
    pub(super) content: RecordPut,
    /// How many chunks were sent.
    sent: usize,
    peers: Vec<PeerId>,
}

impl KadPut {
    /// It goes to these peers, or if there are none to those that a query finds.
    pub(super) const fn new(content: RecordPut, peers: Vec<PeerId>) -> Self {
        Self { content, sent: 0, peers }
    }

    /// It goes to the peers that a query of Kademlia has found to be the closest.
    pub(super) fn on_closest(&mut self, result: &GetClosestPeersResult, local: PeerId) {
        let peers = match result {
            Ok(ok) => &ok.peers,
            Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        // Kademlia would wait for an answer of our own for ever.
        self.peers = peers.iter().map(|peer| peer.peer_id).filter(|peer| *peer != local).collect();
    }

    /// The next chunk and who gets it, if there is one and anyone is left.
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
            // Whoever is named as publisher does not receive what others write.
            publisher: None,
            expires: left.and_then(|left| Instant::now().checked_add(left)),
        };
        Some((record, peers))
    }

    /// Whether all chunks were sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent >= self.content.chunks.len()
    }

    /// Takes note of who has taken the last chunk, as a query of Kademlia has it.
    pub(super) fn on_put(&mut self, result: &PutRecordResult) {
        if let Err(
            PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. },
        ) = result
        {
            self.on_taken(success);
        }
    }

    /// These peers took the last chunk.
    pub(super) fn on_taken(&mut self, peers: &[PeerId]) {
        self.peers.retain(|peer| peers.contains(peer));
    }

    /// Who took all that was sent.
    pub(super) fn peers(&self) -> &[PeerId] {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(peers: &[PeerId]) -> KadPut {
        let chunks = vec![Bytes::from("1"), Bytes::from("2")];
        KadPut::new(RecordPut::new("/sr/a".into(), chunks, None), peers.to_vec())
    }

    #[test]
    fn a_peer_counts_if_it_took_every_chunk() {
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(3).collect();
        let mut put = put(&peers);
        assert_eq!(put.next(), Some((Bytes::from("1"), peers.clone())));
        put.on_taken(&peers[1..]);
        assert_eq!(put.next(), Some((Bytes::from("2"), peers[1..].to_vec())));
        put.on_taken(&[peers[0], peers[2]]);
        assert_eq!((put.next(), put.is_sent()), (None, true));
        assert_eq!(put.peers(), [peers[2]]);
    }

    #[test]
    fn when_nobody_is_left_nothing_is_sent() {
        let mut put = put(&[PeerId::random()]);
        assert!(put.next().is_some());
        put.on_taken(&[]);
        assert_eq!((put.next(), put.is_sent()), (None, false));
    }
}
