//! Remote addresses of connections.

use std::collections::HashMap;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::FromSwarm;

use super::budget::Source;
use crate::store::Asker;

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

    /// The remote address of a connected peer.
    pub(super) fn of(&self, peer: &PeerId) -> Option<&Multiaddr> {
        self.0.get(peer)
    }

    /// The source of a peer's requests.
    pub(super) fn source(&self, peer: PeerId) -> Source {
        Source::new(peer, self.0.get(&peer))
    }

    /// A peer that asks for records.
    pub(super) fn asker(&self, peer: PeerId) -> Asker {
        Asker::new(peer, self.0.get(&peer))
    }
}
