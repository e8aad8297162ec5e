//! Selection of the peers and addresses that stay in the routing table.
//!
//! **Invariants.** A peer in a full bucket is replaced only if it is beyond the share of its
//! subnet, and only by a peer that is within its share and can stay.
//!
//! **Spec.** [`addresses`](crate::addresses); `docs/design.md`, "Subnets".

use std::collections::BTreeSet;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_kad::{K_VALUE, RoutingUpdate};
use smart_record_lookup::Subnet;

use super::{env::Env, subnets::Place};
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

    /// Whether a peer is in the routing table.
    pub(super) fn is_known(&mut self, peer: &PeerId) -> bool {
        let bucket = self.kad.kbucket(*peer);
        bucket.is_some_and(|bucket| bucket.iter().any(|entry| entry.node.key.preimage() == peer))
    }

    /// The subnet of a connected peer, or those of the addresses of one in the routing table.
    pub(super) fn subnets_of(&mut self, peer: &PeerId) -> BTreeSet<Subnet> {
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
        if !self.insert_peer(peer, &address) {
            self.kad.add_address(peer, address);
        }
    }

    /// Handles a connected peer that Kademlia has not inserted.
    pub(super) fn on_routable(&mut self, peer: &PeerId, address: &Multiaddr) {
        // Kademlia inserts into any bucket that is not full.
        if !self.config.inserts_manually() {
            self.insert_peer(peer, address);
        }
    }

    /// Inserts a peer, if need be in the place of a surplus one. Returns whether it is inserted.
    fn insert_peer(&mut self, peer: &PeerId, address: &Multiaddr) -> bool {
        let len = self.kad.kbucket(*peer).map_or(0, |bucket| bucket.num_entries());
        // A smaller bucket may be full as well. To try it with a full one, Kademlia dials another
        // peer.
        if len < K_VALUE.get()
            && self.kad.add_address(peer, address.clone()) == RoutingUpdate::Success
        {
            return true;
        }
        let Some(surplus) = self.surplus_for(peer, address) else {
            return false;
        };
        tracing::debug!(%surplus, %peer, "gives way in the routing table");
        self.count(|c| &mut c.displaced, 1);
        self.kad.remove_peer(&surplus);
        // While it waits for the place of another peer, it is given no free one.
        let pending = self.kad.remove_peer(peer);
        let known = pending.into_iter().flat_map(|entry| entry.node.value.into_vec());
        for address in known.chain([address.clone()]) {
            self.kad.add_address(peer, address);
        }
        true
    }

    /// The peer that leaves the full bucket of another so that this one finds room at an address.
    fn surplus_for(&mut self, peer: &PeerId, address: &Multiaddr) -> Option<PeerId> {
        let Self { kad, remotes, subnets, .. } = self;
        // Whoever cannot stay displaces nobody.
        let address = address.clone().with_p2p(*peer).ok()?;
        addresses::best([address.clone()], remotes.of(peer)).first()?;
        let place = |peer: &PeerId, subnets| {
            let is_connected = remotes.of(peer).is_some();
            Place { peer: *peer, subnets, is_connected }
        };
        let newcomer = place(peer, subnets.of_peer(peer, remotes, [&address]));
        let bucket = kad.kbucket(*peer)?;
        let entries = bucket.iter().map(|entry| {
            let peer = entry.node.key.preimage();
            place(peer, subnets.of_peer(peer, remotes, entry.node.value.iter()))
        });
        let entries: Vec<_> = entries.collect();
        let is_new = entries.iter().all(|entry| entry.peer != *peer);
        subnets.surplus(&entries, &newcomer).filter(|_| is_new)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use libp2p_kad::{self as kad, KBucketKey};

    use super::*;
    use crate::behaviour::{Behaviour, BehaviourConfig};

    /// A behaviour with buckets of this size, and ids of peers that share its largest one.
    fn behaviour(size: usize, config: BehaviourConfig) -> (Behaviour, Vec<PeerId>) {
        let keypair = Keypair::generate_ed25519();
        let local = KBucketKey::from(keypair.public().to_peer_id());
        let mut kad_config = kad::Config::new(kad::PROTOCOL_NAME);
        kad_config.set_kbucket_size(size.try_into().unwrap());
        let builder = Behaviour::builder(keypair).with_kad_config(kad_config).with_config(config);
        let ids = std::iter::repeat_with(PeerId::random)
            .filter(|id| local.distance(&KBucketKey::from(*id)).ilog2() == Some(255));
        (builder.build().0, ids.take(size + 4).collect())
    }

    fn at(address: &str) -> Multiaddr {
        address.parse().unwrap()
    }

    fn fill(behaviour: &mut Behaviour, ids: &[PeerId]) {
        for id in ids {
            behaviour.add_address(id, at("/ip4/1.2.3.4/tcp/1"));
        }
    }

    fn known(behaviour: &mut Behaviour) -> Vec<PeerId> {
        let buckets = behaviour.kad_mut().kbuckets();
        let entries = buckets.map(|it| it.iter().map(|e| *e.node.key.preimage()).collect());
        entries.collect::<Vec<Vec<_>>>().concat()
    }

    #[test]
    fn a_newcomer_that_cannot_stay_displaces_nobody() {
        for size in [20, 8] {
            let (mut behaviour, ids) = behaviour(size, BehaviourConfig::default());
            fill(&mut behaviour, &ids[..size]);
            let newcomer = ids[size];
            let other = format!("/ip4/5.6.7.8/tcp/1/p2p/{}", ids[size + 1]);
            for address in ["/ip4/5.6.7.8", "/ip4/5.6.7.8/tcp/0", &other, "/ip4/1.2.3.9/tcp/1"] {
                behaviour.add_address(&newcomer, at(address));
                assert_eq!(known(&mut behaviour), ids[..size], "{address}");
            }
            behaviour.add_address(&newcomer, at("/ip4/5.6.7.8/tcp/1"));
            assert!(known(&mut behaviour).contains(&newcomer));
            assert_eq!((known(&mut behaviour).len(), behaviour.counters().displaced), (size, 1));
        }
    }

    #[test]
    fn a_bucket_with_room_does_not_switch_the_rule_off() {
        for size in [20, 8] {
            let (mut behaviour, ids) = behaviour(size, BehaviourConfig::default());
            fill(&mut behaviour, &ids[..size - 1]);
            // It had no room when Kademlia said so.
            let newcomers = [size, size + 1, size + 2].map(|n| ids[n]);
            for (n, id) in newcomers.iter().enumerate() {
                behaviour.env.on_routable(id, &at(&format!("/ip4/5.6.{n}.8/tcp/1")));
                assert!(known(&mut behaviour).contains(id), "{n}");
            }
            assert_eq!(behaviour.counters().displaced, 2);
        }
    }

    #[test]
    fn only_the_application_inserts_if_it_says_so() {
        let config = BehaviourConfig::default().with_inserts_manually(true);
        let (mut behaviour, ids) = behaviour(20, config);
        fill(&mut behaviour, &ids[..20]);
        behaviour.env.on_routable(&ids[20], &at("/ip4/5.6.7.8/tcp/1"));
        assert_eq!(known(&mut behaviour), ids[..20]);
        behaviour.add_address(&ids[20], at("/ip4/5.6.7.8/tcp/1"));
        assert!(known(&mut behaviour).contains(&ids[20]));
    }
}
