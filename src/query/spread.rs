//! A write: sends the chunks of a record to peers, and counts who took all of them.
//!
//! **Invariants.** Pure. A peer counts if it took every chunk; one that did not take a chunk is not sent the next. Chunks
//! go one after the other, so that a large record is no burst.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::{key::RecordKey, time::Timestamp};

/// A record on its way to peers.
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) key: RecordKey,
    chunks: VecDeque<Bytes>,
    /// When the copies expire, if the value does not say so itself.
    pub(crate) expires_at: Option<Timestamp>,
    peers: Vec<PeerId>,
}

impl Spread {
    pub(crate) fn new(key: RecordKey, chunks: Vec<Bytes>, expires_at: Option<Timestamp>) -> Self {
        Self { key, chunks: chunks.into(), expires_at, peers: Vec::new() }
    }

    pub(crate) fn to(mut self, peers: Vec<PeerId>) -> Self {
        self.set_peers(peers);
        self
    }

    pub(crate) fn set_peers(&mut self, peers: Vec<PeerId>) {
        self.peers = peers;
    }

    /// How many chunks are left to be sent.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// The next chunk and who gets it, if there is one and anyone is left.
    pub(crate) fn next(&mut self) -> Option<(Bytes, Vec<PeerId>)> {
        if self.peers.is_empty() {
            return None;
        }
        Some((self.chunks.pop_front()?, self.peers.clone()))
    }

    /// These peers took the last chunk.
    pub(crate) fn took(&mut self, peers: &[PeerId]) {
        self.peers.retain(|peer| peers.contains(peer));
    }

    /// Who took all of it.
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
        let mut spread = Spread::new("/sr/a".into(), chunks, None).to(peers.clone());
        assert_eq!(spread.next(), Some((Bytes::from("1"), peers.clone())));
        spread.took(&peers[1..]);
        assert_eq!(spread.next(), Some((Bytes::from("2"), peers[1..].to_vec())));
        spread.took(&[peers[0], peers[2]]);
        assert_eq!(spread.next(), None);
        assert_eq!(spread.into_peers(), [peers[2]]);
    }

    #[test]
    fn when_nobody_is_left_nothing_is_sent() {
        let chunks = vec![Bytes::from("1"), Bytes::from("2")];
        let mut spread = Spread::new("/sr/a".into(), chunks, None).to(vec![PeerId::random()]);
        assert!(spread.next().is_some());
        spread.took(&[]);
        assert_eq!(spread.next(), None);
    }
}
