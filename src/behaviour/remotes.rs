//! Remote addresses of connections.
//!
//! **Invariants.** A request counts for the address of the connection that has carried it.

use std::collections::HashMap;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::{ConnectionId, FromSwarm};

use super::budget::Source;
use crate::{addresses::ip_of, store::Asker};

/// Remote addresses of the connected peers.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    peers: HashMap<PeerId, Vec<Remote>>,
    /// Closed connections whose requests may still have to be handled.
    closed: Vec<(PeerId, Remote)>,
    messages: u64,
}

/// A connection.
#[derive(Clone, Debug)]
struct Remote {
    connection: ConnectionId,
    address: Multiaddr,
    is_dialer: bool,
    /// The number of its last message.
    last_message: u64,
}

impl Remotes {
    pub(super) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let remote = Remote {
                    connection: established.connection_id,
                    address: established.endpoint.get_remote_address().clone(),
                    is_dialer: established.endpoint.is_dialer(),
                    last_message: 0,
                };
                self.peers.entry(established.peer_id).or_default().push(remote);
            }
            FromSwarm::AddressChange(change) => {
                let remotes = self.peers.get_mut(&change.peer_id).into_iter().flatten();
                for remote in remotes.filter(|it| it.connection == change.connection_id) {
                    remote.address = change.new.get_remote_address().clone();
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                let peer = closed.peer_id;
                let Some(remotes) = self.peers.get_mut(&peer) else { return };
                let of = |remote: &mut Remote| remote.connection == closed.connection_id;
                let gone = remotes.extract_if(.., of).map(|remote| (peer, remote));
                self.closed.extend(gone);
                if remotes.is_empty() {
                    self.peers.remove(&peer);
                }
            }
            _ => {}
        }
    }

    /// Notes that a message has arrived.
    pub(super) fn on_message(&mut self, peer: &PeerId, connection: ConnectionId) {
        self.messages = self.messages.saturating_add(1);
        let remotes = self.peers.get_mut(peer).into_iter().flatten();
        for remote in remotes.filter(|it| it.connection == connection) {
            remote.last_message = self.messages;
        }
    }

    /// Notes that all requests of closed connections have been handled.
    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
    }

    /// The remote address of a connected peer: where it was dialled, if it was. A peer that dialled
    /// this node need not listen on the address of its connection. One with an IP address comes
    /// before names and relays, which do not tell where the peer is.
    pub(super) fn of(&self, peer: &PeerId) -> Option<&Multiaddr> {
        let remotes = self.peers.get(peer)?.iter().rev();
        let rank = |remote: &&Remote| (ip_of(&remote.address).is_some(), remote.is_dialer);
        remotes.max_by_key(rank).map(|remote| &remote.address)
    }

    /// The source of a peer's requests over a connection.
    pub(super) fn source(&self, peer: PeerId, connection: ConnectionId) -> Source {
        Source::new(peer, self.address(&peer, connection))
    }

    /// The source of a peer's last message.
    pub(super) fn source_of_last(&self, peer: PeerId) -> Source {
        let last = self.all(&peer).max_by_key(|remote| remote.last_message);
        Source::new(peer, last.map(|remote| &remote.address))
    }

    /// A peer that asks for records, or brings them, over a connection.
    pub(super) fn asker(&self, peer: PeerId, connection: ConnectionId) -> Asker {
        Asker::new(peer, self.address(&peer, connection))
    }

    fn address(&self, peer: &PeerId, connection: ConnectionId) -> Option<&Multiaddr> {
        let remote = self.all(peer).find(|remote| remote.connection == connection)?;
        Some(&remote.address)
    }

    fn all(&self, peer: &PeerId) -> impl Iterator<Item = &Remote> {
        let closed = self.closed.iter().filter(move |(of, _)| of == peer);
        self.peers.get(peer).into_iter().flatten().chain(closed.map(|(_, remote)| remote))
    }
}

#[cfg(test)]
mod tests {
    use libp2p_core::{ConnectedPoint, Endpoint, transport::PortUse};
    use libp2p_swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    use super::*;

    fn inbound(address: &str) -> ConnectedPoint {
        let send_back_addr = address.parse().unwrap();
        ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr }
    }

    fn outbound(address: &str) -> ConnectedPoint {
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::New);
        ConnectedPoint::Dialer { address: address.parse().unwrap(), role_override, port_use }
    }

    fn open(remotes: &mut Remotes, peer_id: PeerId, id: usize, endpoint: &ConnectedPoint) {
        remotes.on_swarm_event(&FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id: ConnectionId::new_unchecked(id),
            endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    #[test]
    fn a_request_counts_for_the_connection_that_has_carried_it() {
        let (mut remotes, peer) = (Remotes::default(), PeerId::random());
        let direct = inbound("/ip4/203.0.113.7/tcp/1");
        let relayed = inbound(&format!("/p2p/{peer}"));
        let dialled = outbound("/ip4/198.51.100.7/tcp/1");
        for (id, endpoint) in [&direct, &relayed, &dialled].into_iter().enumerate() {
            open(&mut remotes, peer, id, endpoint);
        }
        let at = |endpoint: &ConnectedPoint| Source::new(peer, Some(endpoint.get_remote_address()));
        let of = |remotes: &Remotes, id| remotes.source(peer, ConnectionId::new_unchecked(id));
        assert_eq!([0, 1, 2].map(|id| of(&remotes, id)), [&direct, &relayed, &dialled].map(at));
        assert_eq!(remotes.of(&peer), Some(dialled.get_remote_address()));
        for (id, endpoint) in [(1, &relayed), (0, &direct)] {
            remotes.on_message(&peer, ConnectionId::new_unchecked(id));
            assert_eq!(remotes.source_of_last(peer), at(endpoint));
        }
        // A request may be handled after its connection has closed.
        for (id, endpoint) in [&direct, &relayed, &dialled].into_iter().enumerate() {
            remotes.on_swarm_event(&FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id: peer,
                connection_id: ConnectionId::new_unchecked(id),
                endpoint,
                cause: None,
                remaining_established: 2 - id,
            }));
        }
        assert_eq!((of(&remotes, 0), remotes.source_of_last(peer)), (at(&direct), at(&direct)));
        assert_eq!(remotes.of(&peer), None);
        remotes.forget_closed();
        assert_eq!(of(&remotes, 0), Source::new(peer, None));
    }

    #[test]
    fn of_several_remotes_one_with_an_ip_address_counts_and_the_last_that_was_dialled() {
        let (mut remotes, peer) = (Remotes::default(), PeerId::random());
        let mut connect = |id, endpoint: &ConnectedPoint| {
            open(&mut remotes, peer, id, endpoint);
            remotes.of(&peer).unwrap().to_string()
        };
        let name = "/dns4/example.org/tcp/1";
        assert_eq!(connect(0, &outbound(name)), name);
        assert_eq!(connect(1, &inbound("/ip4/1.2.3.4/tcp/1")), "/ip4/1.2.3.4/tcp/1");
        let circuit = format!("/ip4/5.6.7.8/tcp/1/p2p/{peer}/p2p-circuit");
        for (id, without) in [(2, name), (3, circuit.as_str())] {
            assert_eq!(connect(id, &outbound(without)), "/ip4/1.2.3.4/tcp/1");
        }
        assert_eq!(connect(4, &inbound(&format!("/p2p/{peer}"))), "/ip4/1.2.3.4/tcp/1");
        assert_eq!(connect(5, &outbound("/ip4/1.2.3.5/tcp/1")), "/ip4/1.2.3.5/tcp/1");
    }
}
