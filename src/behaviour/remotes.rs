//! Remote addresses of connections, and pruning of peers' addresses in the routing table.
//!
//! **Spec.** [`addresses`](crate::addresses).

use std::collections::HashMap;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::FromSwarm;

use super::env::Env;
use crate::{addresses, store::Asker};

/// Remote address of each connected peer.
#[derive(Debug, Default)]
pub(super) struct Remotes(HashMap<PeerId, Multiaddr>);

impl Remotes {
    pub(super) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let remote = established.endpoint.get_remote_address();
                // A peer that dialled this node need not listen on that address.
                if established.endpoint.is_dialer() || !self.0.contains_key(&established.peer_id) {
                    self.0.insert(established.peer_id, remote.clone());
                }
            }
            FromSwarm::ConnectionClosed(closed) if closed.remaining_established == 0 => {
                self.0.remove(&closed.peer_id);
            }
            _ => {}
        }
    }

    /// A peer that asks for records.
    pub(super) fn asker(&self, peer: PeerId) -> Asker {
        Asker::new(peer, self.0.get(&peer))
    }

    /// Removes surplus addresses of a peer from the routing table.
    pub(super) fn trim(&self, env: &mut Env, peer: PeerId) {
        let Some(bucket) = env.kad.kbucket(peer) else {
            return;
        };
        let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
        let all = entry.iter().flat_map(|entry| entry.node.value.iter()).cloned();
        let all: Vec<Multiaddr> = all.collect();
        let kept = addresses::best(all.iter().cloned(), self.0.get(&peer));
        for address in all.iter().filter(|address| !kept.contains(address)) {
            // Removing the last address removes the peer.
            env.kad.remove_address(&peer, address);
        }
    }
}
