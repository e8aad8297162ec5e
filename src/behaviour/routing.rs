//! Which peers and addresses stay in the routing table.
//!
//! **Invariants.** A peer leaves a full bucket for another only if it is beyond the share of its
//! subnet, and the other is not.
//!
//! **Spec.** [`addresses`](crate::addresses); `docs/design.md`, "Subnets".

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_kad::K_VALUE;
use smart_record_lookup::Subnet;

use super::env::Env;
use crate::addresses;

impl Env {
    /// Removes surplus addresses of a peer from the routing table.
    pub(super) fn trim(&mut self, peer: PeerId) {
        let Some(bucket) = self.kad.kbucket(peer) else {
            return;
        };
        let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
        let all = entry.iter().flat_map(|entry| entry.node.value.iter()).cloned();
        let all: Vec<Multiaddr> = all.collect();
        let kept = addresses::best(all.iter().cloned(), self.remotes.of(&peer));
        for address in all.iter().filter(|address| !kept.contains(address)) {
            // Removing the last address removes the peer.
            self.kad.remove_address(&peer, address);
        }
    }

    /// The subnet of a connected peer, or of one in the routing table.
    pub(super) fn subnet_of(&mut self, peer: &PeerId) -> Option<Subnet> {
        let Self { kad, remotes, subnets, .. } = self;
        let bucket = kad.kbucket(*peer).filter(|_| remotes.of(peer).is_none());
        let entry = bucket
            .as_ref()
            .and_then(|bucket| bucket.iter().find(|entry| entry.node.key.preimage() == peer));
        let addresses = entry.iter().flat_map(|entry| entry.node.value.iter());
        subnets.of_peer(peer, remotes, addresses)
    }

    /// Adds a peer to the routing table at this address. If its bucket is full, a peer beyond the
    /// share of its subnet leaves it.
    pub(super) fn add_peer(&mut self, peer: &PeerId, address: Multiaddr) {
        self.make_place(peer, &address);
        self.kad.add_address(peer, address);
    }

    /// Handles a connected peer that Kademlia has no place for.
    pub(super) fn on_full_bucket(&mut self, peer: &PeerId, address: &Multiaddr) {
        let bucket = self.kad.kbucket(*peer);
        // Otherwise Kademlia would have inserted it.
        self.inserts_manually |= bucket.is_some_and(|it| it.num_entries() < K_VALUE.get());
        if !self.inserts_manually && self.make_place(peer, address) {
            self.kad.add_address(peer, address.clone());
        }
    }

    /// Removes a peer beyond the share of its subnet from a full bucket, for one that is within its
    /// share. Returns whether one has left.
    fn make_place(&mut self, peer: &PeerId, address: &Multiaddr) -> bool {
        let Self { kad, remotes, subnets, .. } = self;
        let newcomer = subnets.of_peer(peer, remotes, [address]);
        let Some(bucket) = kad.kbucket(*peer) else {
            return false;
        };
        let entries = bucket.iter().map(|entry| {
            let peer = *entry.node.key.preimage();
            (peer, subnets.of_peer(&peer, remotes, entry.node.value.iter()))
        });
        let entries: Vec<_> = entries.collect();
        let is_wanted = entries.len() >= K_VALUE.get() && entries.iter().all(|(it, _)| it != peer);
        let surplus = subnets.surplus(&entries, newcomer).filter(|_| is_wanted);
        if let Some(surplus) = surplus {
            tracing::debug!(%surplus, %peer, "gives way in the routing table");
            self.count(|c| &mut c.displaced, 1);
            self.kad.remove_peer(&surplus);
        }
        surplus.is_some()
    }
}
