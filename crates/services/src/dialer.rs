//! Dials addresses for a service, in the user's own swarm.
//!
//! **Invariants.** A dial is made only if a service asks for it, to one IP address, without the
//! addresses of other behaviours, from a fresh port. The number of dials is bounded. The swarm is
//! not told the peer; the dialer compares the peer that answers. A named peer would let strangers
//! make Kademlia's queries fail: a failed dial counts against the named peer in every query under
//! way. For the same reason the dialer closes no connection, whichever peer answers: Kademlia may
//! already use it. The swarm's idle timeout closes it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    convert::Infallible,
    error::Error,
    io,
    net::IpAddr,
    sync::{self, Arc, PoisonError},
    task::{Context, Poll},
};

use futures::{
    SinkExt, StreamExt,
    channel::{mpsc, oneshot},
    lock::Mutex,
};
use libp2p_core::{
    ConnectedPoint, Endpoint, Multiaddr,
    multiaddr::Protocol,
    transport::{PortUse, TransportError},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, DialError, DialFailure, ExpiredListenAddr,
    ExternalAddrExpired, FromSwarm, NetworkBehaviour, NewListenAddr, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
    behaviour::{ConnectionEstablished, ExternalAddrConfirmed},
    dial_opts::DialOpts,
    dummy,
};

/// Most requests in the dialer's queue; the sender of a further one waits.
const MAX_QUEUED: usize = 16;

/// Outcome of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialOutcome {
    /// The peer answered.
    Reached,
    /// No peer or another peer answered.
    Failed,
    /// This node could not or must not try, which says nothing about the address.
    Unknown,
    /// Too many dials are pending.
    Busy,
}

struct DialRequest {
    peer: PeerId,
    /// Without the peer id.
    address: Multiaddr,
    /// Whether a new connection is required, even if one exists.
    is_fresh: bool,
    reply: oneshot::Sender<DialOutcome>,
}

struct PendingDial {
    peer: PeerId,
    reply: oneshot::Sender<DialOutcome>,
}

/// Dials addresses for a [`Service`](super::Service): a [`NetworkBehaviour`] that goes into the
/// swarm beside [`Behaviour`](libp2p_smart_record::behaviour::Behaviour). It emits no events and
/// dials only for the service.
pub struct Dialer {
    requests: mpsc::Receiver<DialRequest>,
    max_pending: usize,
    dials: HashMap<ConnectionId, PendingDial>,
    /// Outbound connections, with peer and dialled address.
    connections: HashMap<ConnectionId, (PeerId, Multiaddr)>,
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
    listening: HashSet<Multiaddr>,
    external: HashSet<Multiaddr>,
    own: OwnIps,
}

/// IP addresses of the swarm: listening and external.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnIps(Arc<sync::Mutex<BTreeSet<IpAddr>>>);

impl OwnIps {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&ip.to_canonical())
    }

    fn set(&self, ips: BTreeSet<IpAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ips;
    }
}

/// The IP address of an address; `None` for a relayed one.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// Handle to a [`Dialer`].
#[derive(Clone)]
pub(super) struct DialHandle {
    requests: Arc<Mutex<mpsc::Sender<DialRequest>>>,
    own: OwnIps,
}

impl DialHandle {
    /// Whether this is one of the swarm's own IP addresses.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(ip)
    }

    /// Dials a peer at an address. Without `is_fresh`, an existing connection that was dialled
    /// there counts.
    pub(super) async fn dial(
        &self,
        peer: PeerId,
        address: Multiaddr,
        is_fresh: bool,
    ) -> DialOutcome {
        let (reply, answer) = oneshot::channel();
        let request = DialRequest { peer, address, is_fresh, reply };
        if self.requests.lock().await.send(request).await.is_err() {
            return DialOutcome::Unknown;
        }
        answer.await.unwrap_or(DialOutcome::Unknown)
    }
}

impl Dialer {
    pub(super) fn new(max_pending: usize) -> (Self, DialHandle) {
        let (sender, requests) = mpsc::channel(MAX_QUEUED);
        let own = OwnIps::default();
        let dialer = Self {
            requests,
            max_pending,
            dials: HashMap::new(),
            connections: HashMap::new(),
            actions: VecDeque::new(),
            listening: HashSet::new(),
            external: HashSet::new(),
            own: own.clone(),
        };
        (dialer, DialHandle { requests: Arc::new(Mutex::new(sender)), own })
    }

    fn on_request(&mut self, request: DialRequest) {
        let DialRequest { peer, address, is_fresh, reply } = request;
        if reply.is_canceled() {
            return;
        }
        let is_connected = || self.connections.values().any(|c| c.0 == peer && c.1 == address);
        if !is_fresh && is_connected() {
            return reply_with(reply, DialOutcome::Reached);
        }
        if self.dials.len() >= self.max_pending {
            return reply_with(reply, DialOutcome::Busy);
        }
        let opts = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
        self.dials.insert(opts.connection_id(), PendingDial { peer, reply });
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn on_established(&mut self, connection: ConnectionId, peer: PeerId, point: &ConnectedPoint) {
        if let Some(dial) = self.dials.remove(&connection) {
            let is_it = dial.peer == peer;
            reply_with(dial.reply, if is_it { DialOutcome::Reached } else { DialOutcome::Failed });
        }
        if let ConnectedPoint::Dialer { address, .. } = point {
            let is_peer = |part: &Protocol<'_>| matches!(part, Protocol::P2p(_));
            let address = address.iter().take_while(|part| !is_peer(part)).collect();
            self.connections.insert(connection, (peer, address));
        }
    }

    fn on_own_addresses(&self) {
        self.own.set(self.listening.iter().chain(&self.external).filter_map(ip_of).collect());
    }
}

fn reply_with(reply: oneshot::Sender<DialOutcome>, dialled: DialOutcome) {
    // The requester may have given up.
    let _ = reply.send(dialled);
}

/// The outcome that a failure stands for.
fn outcome_of(error: &DialError) -> DialOutcome {
    match error {
        DialError::WrongPeerId { .. } => DialOutcome::Failed,
        DialError::Transport(errors) => {
            if errors.iter().all(|(_, error)| is_local(error)) {
                DialOutcome::Unknown
            } else {
                DialOutcome::Failed
            }
        }
        // The local peer, a refusal by another behaviour, or the end of the swarm.
        _ => DialOutcome::Unknown,
    }
}

/// Whether the cause is local: a missing transport or network.
fn is_local(error: &TransportError<io::Error>) -> bool {
    let TransportError::Other(error) = error else {
        return true;
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let ours = [
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::NetworkDown,
            io::ErrorKind::AddrNotAvailable,
            io::ErrorKind::AddrInUse,
        ];
        if kind.is_some_and(|kind| ours.contains(&kind)) {
            return true;
        }
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

impl NetworkBehaviour for Dialer {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => self.on_established(connection_id, peer_id, endpoint),
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.connections.remove(&connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, error, .. }) => {
                if let Some(dial) = self.dials.remove(&connection_id) {
                    tracing::debug!(%error, "a dial for a service failed");
                    reply_with(dial.reply, outcome_of(error));
                }
            }
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) => {
                self.listening.insert(addr.clone());
                self.on_own_addresses();
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) => {
                self.listening.remove(addr);
                self.on_own_addresses();
            }
            FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }) => {
                self.external.insert(addr.clone());
                self.on_own_addresses();
            }
            FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr }) => {
                self.external.remove(addr);
                self.on_own_addresses();
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            match self.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.on_request(request),
                // The service has ended, or nothing is requested.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

libp2p_smart_record::impl_debug! { Dialer: |dialer| dials: dialer.dials.len() }

#[cfg(test)]
mod tests {
    use libp2p_core::transport::ListenerId;

    use super::*;

    fn failed(error: io::Error) -> DialOutcome {
        let address = Multiaddr::empty();
        outcome_of(&DialError::Transport(vec![(address, TransportError::Other(error))]))
    }

    #[test]
    fn the_swarms_own_ip_addresses_are_known_without_those_of_relays() {
        let (mut dialer, handle) = Dialer::new(1);
        let at = |address: &str| address.parse::<Multiaddr>().unwrap();
        let [listening, mapped] = ["/ip4/1.2.3.4/tcp/4001", "/ip6/::ffff:1.2.3.5/tcp/4001"].map(at);
        let relay = format!("/ip4/5.6.7.8/tcp/4001/p2p/{}/p2p-circuit", PeerId::random());
        let listener_id = ListenerId::next();
        for addr in [&listening, &at(&relay)] {
            let new = NewListenAddr { listener_id, addr };
            dialer.on_swarm_event(FromSwarm::NewListenAddr(new));
        }
        let confirmed = ExternalAddrConfirmed { addr: &mapped };
        dialer.on_swarm_event(FromSwarm::ExternalAddrConfirmed(confirmed));
        let own = || ["1.2.3.4", "1.2.3.5", "5.6.7.8"].map(|ip| handle.is_own(ip.parse().unwrap()));
        assert_eq!(own(), [true, true, false]);
        let expired = ExpiredListenAddr { listener_id, addr: &listening };
        dialer.on_swarm_event(FromSwarm::ExpiredListenAddr(expired));
        let expired = ExternalAddrExpired { addr: &mapped };
        dialer.on_swarm_event(FromSwarm::ExternalAddrExpired(expired));
        assert_eq!(own(), [false; 3]);
    }

    #[test]
    fn a_failure_with_a_local_cause_does_not_count_against_the_address() {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
        for kind in [ConnectionRefused, HostUnreachable, TimedOut] {
            assert_eq!(failed(io::Error::from(kind)), DialOutcome::Failed, "{kind:?}");
        }
        let unreachable = || io::Error::from(NetworkUnreachable);
        assert_eq!(failed(unreachable()), DialOutcome::Unknown);
        assert_eq!(failed(io::Error::other(io::Error::other(unreachable()))), DialOutcome::Unknown);
        let unsupported = TransportError::MultiaddrNotSupported(Multiaddr::empty());
        let unsupported = DialError::Transport(vec![(Multiaddr::empty(), unsupported)]);
        assert_eq!(outcome_of(&unsupported), DialOutcome::Unknown);
        let address = Multiaddr::empty();
        assert_eq!(outcome_of(&DialError::LocalPeerId { address }), DialOutcome::Unknown);
        assert_eq!(outcome_of(&DialError::NoAddresses), DialOutcome::Unknown);
    }
}
