//! Requests to single peers in Kademlia's protocol.
//!
//! [`Outbound`] is a behaviour beside a `kad::Behaviour`. It sends GET_VALUE and PUT_VALUE requests
//! and reports how each has ended. Kademlia's queries cannot replace it: they cannot ask a given
//! peer, have one timeout for all peers, and apply the packet limit of inbound requests to answers.
//!
//! * `message`: requests and answers, and their wire form. Pure.
//! * `deliveries`: which requests wait for a dial, and which connection carries which. Pure.
//! * `handler`: the streams of a connection.
//!
//! **Invariants.** Has no clock. Each request ends with one [`Ended`], or is
//! [cancelled](Outbound::cancel) when [`smart_record_lookup::Requests`] reports that its time is
//! over, so no request waits for a silent peer. `Requests` also bounds the requests under way to
//! 64; a connection has at most [eight streams](handler). The 64 requests hold less than 50 MiB:
//! for each, the packet of an answer, its decoded form, and its value. Inbound streams are not
//! accepted; Kademlia serves them.
//!
//! **Spec.** [Kademlia DHT](https://github.com/libp2p/specs/blob/master/kad-dht/README.md).
//! `docs/design.md`, section "Requests of our own".

mod deliveries;
mod handler;
mod message;
#[cfg(test)]
mod tests;

use std::task::{Context, Poll};

use libp2p_core::{
    Endpoint, Multiaddr,
    transport::{PortUse, TransportError},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, DialError, ExternalAddresses, FromSwarm, ListenAddresses,
    NetworkBehaviour, StreamProtocol, ToSwarm,
};
use smart_record_lookup::{self as lookup, RequestId};

use self::{
    deliveries::Deliveries,
    handler::{Command, CommandOutcome},
};
pub(crate) use self::{
    deliveries::Ended,
    handler::Handler,
    message::{Closer, InvalidAnswer, Record, Request, Response},
};
use crate::addresses::without_peer;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// A behaviour of this node denied the connection, for example because of connection limits.
    /// The peer is not at fault.
    #[error("this node denied the connection")]
    Denied,
    /// No address of the peer is known that a transport of this node can dial. The peer is not at
    /// fault.
    #[error("no address is known that this node can dial")]
    NoAddress,
    /// No peer, or another one, answered at the peer's addresses, or the connection was closed
    /// twice.
    #[error("the peer cannot be reached at its addresses")]
    Unreachable,
    /// The peer does not speak the protocol: it is a client, or belongs to another DHT.
    #[error("the peer does not serve this DHT")]
    Unsupported,
    /// The peer closed the stream, or did not negotiate it within ten seconds.
    #[error("the stream was closed before the answer")]
    Closed,
    /// The peer's answer is not valid for the request.
    #[error(transparent)]
    Invalid(#[from] InvalidAnswer),
}

impl From<&Failure> for lookup::Failure {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Denied | Failure::NoAddress => Self::Denied,
            Failure::Unreachable => Self::Unreachable,
            Failure::Unsupported => Self::Unsupported,
            // A peer that closes a stream is reachable. Go closes it to refuse a record.
            Failure::Closed | Failure::Invalid(_) => Self::Invalid,
        }
    }
}

impl From<&DialError> for Failure {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Denied { .. } | DialError::Aborted => Self::Denied,
            DialError::NoAddresses | DialError::DialPeerConditionFalse(_) => Self::NoAddress,
            DialError::Transport(errors)
                if errors.iter().all(|(_, error)| {
                    matches!(error, TransportError::MultiaddrNotSupported(_))
                }) =>
            {
                Self::NoAddress
            }
            DialError::Transport(_)
            | DialError::LocalPeerId { .. }
            | DialError::WrongPeerId { .. } => Self::Unreachable,
        }
    }
}

/// Requests to single peers in Kademlia's protocol. See the [module](self).
pub(crate) struct Outbound {
    protocol: StreamProtocol,
    local: PeerId,
    deliveries: Deliveries,
    listened: ListenAddresses,
    external: ExternalAddresses,
}

impl Outbound {
    /// Returns a behaviour for the local peer and the protocol of its Kademlia.
    pub(crate) fn new(local: PeerId, protocol: StreamProtocol) -> Self {
        Self {
            protocol,
            local,
            deliveries: Deliveries::default(),
            listened: ListenAddresses::default(),
            external: ExternalAddresses::default(),
        }
    }

    /// Sends a request to a peer. Without a connection, the peer is dialled at these addresses and
    /// at those that other behaviours know. The id must not be that of another request under way.
    pub(crate) fn send(
        &mut self,
        id: RequestId,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        request: Request,
    ) {
        self.deliveries.send(id, peer, addresses, request);
    }

    /// Dials a peer at these addresses.
    pub(crate) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.deliveries.dial(peer, addresses);
    }

    /// Cancels a request and its stream. It is not reported any more. Does nothing if it has ended.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.deliveries.cancel(id);
    }

    /// The requests that have not ended.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> Vec<(RequestId, PeerId, Request)> {
        self.deliveries.pending()
    }

    /// Ends a request with this result of its peer.
    #[cfg(test)]
    pub(crate) fn end(&mut self, id: RequestId, result: Result<Response, Failure>) {
        self.deliveries.on_outcome(id, result);
    }

    /// Whether an address is one of the local peer's.
    fn is_own(&self, address: &Multiaddr) -> bool {
        let address = without_peer(address);
        self.listened.iter().chain(self.external.iter()).any(|own| without_peer(own) == address)
    }

    fn handler(&self, remote: &Multiaddr) -> Handler {
        Handler::new(self.protocol.clone(), self.local, remote.clone())
    }
}

impl NetworkBehaviour for Outbound {
    type ConnectionHandler = Handler;
    type ToSwarm = Ended;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(remote))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(peer) = peer else {
            return Ok(Vec::new());
        };
        let mut addresses = self.deliveries.on_dial(connection, peer);
        addresses.retain(|address| !self.is_own(address));
        // As Kademlia has them, or the swarm dials the same address twice.
        Ok(addresses.into_iter().filter_map(|address| address.with_p2p(peer).ok()).collect())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.listened.on_swarm_event(&event);
        self.external.on_swarm_event(&event);
        match event {
            // Not when the handler is made, because a later behaviour may still deny the
            // connection.
            FromSwarm::ConnectionEstablished(established) => {
                self.deliveries.on_established(established.connection_id, established.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.deliveries.on_closed(closed.connection_id, closed.peer_id);
            }
            FromSwarm::DialFailure(failed) => {
                if let Some(peer) = failed.peer_id {
                    self.deliveries.on_dial_failure(failed.connection_id, peer, failed.error);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, outcome: CommandOutcome) {
        self.deliveries.on_outcome(outcome.id, outcome.result);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Ended, Command>> {
        self.deliveries.next_event().map_or(Poll::Pending, Poll::Ready)
    }
}

smart_record_core::impl_debug! { Outbound: |outbound| protocol: outbound.protocol, deliveries: outbound.deliveries }
