//! Remote addresses of connections.

use std::collections::HashMap;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::FromSwarm;

use super::budget::Source;
use crate::{addresses::ip_of, store::Asker};

/// Remote address of each connected peer. One with an IP address stays rather than one without.
#[derive(Debug, Default)]
pub(super) struct Remotes(HashMap<PeerId, Multiaddr>);

impl Remotes {
    pub(super) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let remote = established.endpoint.get_remote_address();
                let has_ip = |address| ip_of(address).is_some();
                let replaces = self.0.get(&established.peer_id).is_none_or(|old| {
                    match (has_ip(old), has_ip(remote)) {
                        // Relays and names say nothing about where the peer is.
                        (false, true) => true,
                        (true, false) => false,
                        // A peer that dialled this node need not listen on that address.
                        _ => established.endpoint.is_dialer(),
                    }
                });
                if replaces {
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

#[cfg(test)]
mod tests {
    use libp2p_core::{Endpoint, connection::ConnectedPoint, transport::PortUse};
    use libp2p_swarm::{ConnectionId, behaviour::ConnectionEstablished};

    use super::*;

    #[test]
    fn a_remote_with_an_ip_address_is_not_replaced_by_one_without() {
        let (mut remotes, peer_id) = (Remotes::default(), PeerId::random());
        let mut connect = |address: &str, is_dialer: bool| {
            let address: Multiaddr = address.replace("ID", &peer_id.to_string()).parse().unwrap();
            let endpoint = if is_dialer {
                let (role_override, port_use) = (Endpoint::Dialer, PortUse::Reuse);
                ConnectedPoint::Dialer { address, role_override, port_use }
            } else {
                ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: address }
            };
            let established = ConnectionEstablished {
                peer_id,
                connection_id: ConnectionId::new_unchecked(1),
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            };
            remotes.on_swarm_event(&FromSwarm::ConnectionEstablished(established));
            remotes.of(&peer_id).unwrap().to_string()
        };
        assert_eq!(connect("/dns4/example.org/tcp/1", true), "/dns4/example.org/tcp/1");
        assert_eq!(connect("/ip4/1.2.3.4/tcp/1", false), "/ip4/1.2.3.4/tcp/1");
        for without in ["/dns4/example.org/tcp/1", "/ip4/5.6.7.8/tcp/1/p2p/ID/p2p-circuit"] {
            assert_eq!(connect(without, true), "/ip4/1.2.3.4/tcp/1");
        }
        assert_eq!(connect("/p2p/ID", false), "/ip4/1.2.3.4/tcp/1");
        assert_eq!(connect("/ip4/1.2.3.5/tcp/1", true), "/ip4/1.2.3.5/tcp/1");
    }
}
