//! Task of a node: its swarm and the requests to it.
//!
//! **Invariants.** It ends after the last client, and not before: when what clients have begun is
//! over, and after two seconds at most. A peer that the node was told to join through is dialled
//! until it was connected once, and again whenever nobody can be reached.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{FutureExt, StreamExt, channel::mpsc};
use libp2p::{
    Multiaddr, PeerId, Swarm, autonat,
    core::{ConnectedPoint, transport::ListenerId},
    dcutr, identify, kad,
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    HostError, HostStatus, Reachability,
    backoff::{Backoff, jitter},
    limits::Standing,
    parts::{HostBehaviour, HostEvent},
};
use libp2p_smart_record::behaviour::{Behaviour, Event};

/// How long the node stays after its last client is gone, for what is under way: what dropped
/// handles withdraw, for instance. A guess: as long as one silent peer takes.
const AFTER_CLIENTS: Duration = Duration::from_secs(2);
/// Wait for a further listen address. The addresses of a machine become known one by one, and
/// nothing marks the last. A guess; they come at once.
const NEXT_ADDRESS: Duration = Duration::from_millis(100);

/// Wait for the first address of a machine that may have none of its kind. A guess.
const FIRST_ADDRESS: Duration = Duration::from_secs(1);

/// Maximum number of servers that are remembered. A guess: one is enough to store records, and not
/// all are lost at once.
const SERVERS: usize = 256;

/// A function that the node's task runs on its swarm.
pub(super) type SwarmRequest = Box<dyn FnOnce(&mut HostTask) + Send>;

/// A relay that the node is reached through.
struct UsedRelay {
    /// Ends in `/p2p-circuit`.
    address: Multiaddr,
    listener: Option<ListenerId>,
    attempts: Backoff,
}

impl UsedRelay {
    fn peer(&self) -> Option<PeerId> {
        self.address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        })
    }
}

/// Most further dials through a relay for hole punching. A guess: with growing pauses, the last is
/// made after some seven seconds, when both peers have long been told their addresses.
const HOLE_PUNCHING_RETRIES: u8 = 3;

/// Further dials through a relay, so that hole punching begins again.
///
/// The peers exchange the addresses at which others see them. `libp2p-dcutr` takes these when a
/// relayed connection is made. If one of the peers does not know its own by then, hole punching
/// fails at once, and only another relayed connection begins it again.
struct HolePunching {
    attempts: Backoff,
    left: u8,
}

/// Task of a node: the swarm and its connections.
pub(super) struct HostTask {
    pub(super) swarm: Swarm<HostBehaviour>,
    /// Connections of each peer, oldest first.
    connections: HashMap<PeerId, Vec<(ConnectionId, ConnectedPoint)>>,
    /// Addresses of the peers to join through.
    entries: HashMap<PeerId, (Vec<Multiaddr>, Backoff)>,
    relays: Vec<UsedRelay>,
    /// Connected peers with which hole punching has failed.
    hole_punching: HashMap<PeerId, HolePunching>,
    reachability: Reachability,
    /// Whether autonat decides if the node is a server.
    follows_reachability: bool,
    /// Servers of the DHT that the node has met and can reach, as far as is known.
    servers: HashSet<PeerId>,
    /// Connected peers that do not serve the DHT.
    others: HashSet<PeerId>,
    /// Connected peers that this node serves as a relay, and how many times.
    served: HashMap<PeerId, usize>,
}

impl HostTask {
    pub(super) fn new(swarm: Swarm<HostBehaviour>, follows_reachability: bool) -> Self {
        Self {
            swarm,
            connections: HashMap::new(),
            entries: HashMap::new(),
            relays: Vec::new(),
            hole_punching: HashMap::new(),
            reachability: Reachability::Unknown,
            follows_reachability,
            servers: HashSet::new(),
            others: HashSet::new(),
            served: HashMap::new(),
        }
    }

    pub(super) fn records(&mut self) -> &mut Behaviour {
        &mut self.swarm.behaviour_mut().records
    }

    pub(super) fn connections(&self, peer: &PeerId) -> &[(ConnectionId, ConnectedPoint)] {
        self.connections.get(peer).map_or(&[], Vec::as_slice)
    }

    /// The addresses on which the node listens and that others can dial.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        self.swarm.listeners().filter(|address| can_be_dialled(address)).cloned().collect()
    }

    pub(super) fn status(&mut self) -> HostStatus {
        let inbound = self.swarm.behaviour().limits.inbound();
        let peers = self.connections.len();
        let records = self.records();
        let known = records.kad_mut().kbuckets().map(|bucket| bucket.num_entries()).sum();
        let is_server = records.kad().mode() == kad::Mode::Server;
        let reachability = self.reachability.clone();
        HostStatus { peers, inbound, known, is_server, reachability }
    }

    /// Adds a peer to join through.
    pub(super) fn join_through(&mut self, peer: PeerId, address: Multiaddr) {
        self.records().add_address(&peer, address.clone());
        let new = || (Vec::new(), Backoff::new(Instant::now()));
        self.entries.entry(peer).or_insert_with(new).0.push(address);
    }

    /// Adds a relay that the node is to be reached through.
    pub(super) fn be_reached_through(&mut self, relay: Multiaddr) {
        let address = relay.with(Protocol::P2pCircuit);
        let attempts = Backoff::new(Instant::now());
        self.relays.push(UsedRelay { address, listener: None, attempts });
    }

    /// Listens on an address and returns once it does. If the address stands for all addresses of
    /// the machine, returns once it listens on all of them, or after a second if there is none.
    pub(super) async fn listen(&mut self, address: Multiaddr) -> Result<(), HostError> {
        let is_for_all = address.iter().any(|part| match part {
            Protocol::Ip4(ip) => ip.is_unspecified(),
            Protocol::Ip6(ip) => ip.is_unspecified(),
            _ => false,
        });
        let listener = self.swarm.listen_on(address.clone())?;
        let now = Instant::now();
        let mut settled_at = if is_for_all { now.checked_add(FIRST_ADDRESS) } else { None };
        let mut has_address = false;
        loop {
            let event = self.swarm.select_next_some();
            let event = match settled_at {
                None => event.await,
                Some(at) => match timeout_at(at, event).await {
                    Ok(event) => event,
                    Err(_) => {
                        if !has_address {
                            tracing::warn!(%address, "the machine has no address to listen on; waits for one");
                        }
                        return Ok(());
                    }
                },
            };
            match event {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                    self.on_new_address(address);
                    if !is_for_all {
                        return Ok(());
                    }
                    has_address = true;
                    settled_at = Instant::now().checked_add(NEXT_ADDRESS);
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. }
                    if listener_id == listener =>
                {
                    let reason = reason.err().map(|error| error.to_string());
                    return Err(HostError::Transport(reason.unwrap_or_default()));
                }
                event => self.on_event(event),
            }
        }
    }

    pub(super) async fn run(mut self, inbox: mpsc::Receiver<SwarmRequest>) {
        let mut inbox = inbox.fuse();
        loop {
            self.attempt();
            let due_at = self.attempts().filter_map(Backoff::due_at).min();
            let due = async {
                match due_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let mut due = std::pin::pin!(due.fuse());
            futures::select! {
                request = inbox.next() => if let Some(request) = request {
                    request(&mut self);
                },
                () = due => {}
                event = self.swarm.select_next_some().fuse() => match event {
                    SwarmEvent::Behaviour(HostEvent::Records(Event::ClientsGone)) => break,
                    event => self.on_event(event),
                }
            }
        }
        // What clients have begun is finished. What takes longer ends with the node.
        let now = Instant::now();
        let ends_at = now.checked_add(AFTER_CLIENTS).unwrap_or(now);
        while self.records().operations() > 0
            && let Some(event) = before(ends_at, self.swarm.select_next_some()).await
        {
            self.on_event(event);
        }
    }

    fn attempts(&self) -> impl Iterator<Item = &Backoff> {
        let entries = self.entries.values().map(|(_, attempts)| attempts);
        let relays = self.relays.iter().map(|relay| &relay.attempts);
        let hole_punching = self.hole_punching.values().map(|punching| &punching.attempts);
        entries.chain(relays).chain(hole_punching)
    }

    /// Makes the attempts that are due.
    fn attempt(&mut self) {
        let now = Instant::now();
        for (peer, (addresses, attempts)) in &mut self.entries {
            if attempts.begin(now) {
                let options = DialOpts::peer_id(*peer)
                    .addresses(addresses.clone())
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .extend_addresses_through_behaviour()
                    .build();
                match self.swarm.dial(options) {
                    // The end of a dial is an event, also of one that others have begun.
                    Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                    Err(error) => {
                        tracing::warn!(%peer, %error, "not dialled; tries again");
                        attempts.failed(now, jitter());
                    }
                }
            }
        }
        for (peer, hole_punching) in &mut self.hole_punching {
            if hole_punching.attempts.begin(now)
                && let Some(address) = dialled_through_relay(&self.connections, peer)
            {
                let options = DialOpts::peer_id(*peer)
                    .addresses(vec![address])
                    .condition(PeerCondition::Always)
                    .build();
                if let Err(error) = self.swarm.dial(options) {
                    tracing::debug!(%peer, %error, "not dialled through the relay again");
                }
            }
        }
        for relay in &mut self.relays {
            if relay.attempts.begin(now) {
                match self.swarm.listen_on(relay.address.clone()) {
                    Ok(listener) => relay.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!(relay = %relay.address, %error, "the relay cannot be used; tries again");
                        relay.attempts.failed(now, jitter());
                    }
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<HostEvent>) {
        match event {
            SwarmEvent::Behaviour(HostEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.on_identified(peer_id, info),
            SwarmEvent::Behaviour(HostEvent::Autonat(autonat::Event::StatusChanged {
                new,
                ..
            })) => self.on_reachability(new),
            SwarmEvent::Behaviour(HostEvent::Relay(event)) => self.on_relay_event(&event),
            SwarmEvent::Behaviour(HostEvent::HolePunching(dcutr::Event {
                remote_peer_id: peer,
                result: Err(_),
            })) => self.on_hole_punching_failed(peer),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let is_from_other = endpoint.is_listener();
                let with_peer = self.connections.entry(peer_id).or_default();
                with_peer.push((connection_id, endpoint));
                tracing::debug!(peer = %peer_id, connections = with_peer.len(), "connected");
                if let Some((_, attempts)) = self.entries.get_mut(&peer_id) {
                    attempts.succeeded(Instant::now());
                }
                self.make_room(is_from_other);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                tracing::debug!(peer = %peer_id, connections = num_established, "disconnected");
                if num_established == 0 {
                    self.connections.remove(&peer_id);
                    self.hole_punching.remove(&peer_id);
                    self.others.remove(&peer_id);
                    self.served.remove(&peer_id);
                } else if let Some(with_peer) = self.connections.get_mut(&peer_id) {
                    with_peer.retain(|(connection, _)| *connection != connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "not connected");
                self.on_unreachable(peer);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listens");
                let mut relays = self.relays.iter_mut();
                if let Some(relay) = relays.find(|relay| relay.listener == Some(listener_id)) {
                    relay.attempts.succeeded(Instant::now());
                }
                self.on_new_address(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let mut relays = self.relays.iter_mut();
                if let Some(relay) = relays.find(|relay| relay.listener == Some(listener_id)) {
                    let pause = relay.attempts.failed(Instant::now(), jitter());
                    let (relay, reason) = (&relay.address, reason.err());
                    tracing::warn!(%relay, ?reason, ?pause, "the relay is lost or does not answer; tries again");
                }
            }
            _ => {}
        }
    }

    fn on_hole_punching_failed(&mut self, peer: PeerId) {
        if dialled_through_relay(&self.connections, &peer).is_none() {
            return;
        }
        let new = || HolePunching { attempts: Backoff::none(), left: HOLE_PUNCHING_RETRIES };
        let hole_punching = self.hole_punching.entry(peer).or_insert_with(new);
        if let Some(left) = hole_punching.left.checked_sub(1) {
            hole_punching.left = left;
            hole_punching.attempts.failed(Instant::now(), jitter());
        }
    }

    fn on_new_address(&mut self, address: Multiaddr) {
        // A relay tells its clients at which addresses it can be reached.
        if self.swarm.behaviour().relay.is_enabled() && can_be_dialled(&address) {
            self.swarm.add_external_address(address);
        }
    }

    /// Notes whom this node serves as a relay.
    fn on_relay_event(&mut self, event: &relay::Event) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id: peer, renewed: false }
            | relay::Event::CircuitReqAccepted { src_peer_id: peer, .. } => {
                let services = self.served.entry(*peer).or_default();
                *services = services.saturating_add(1);
            }
            relay::Event::ReservationClosed { src_peer_id: peer }
            | relay::Event::ReservationTimedOut { src_peer_id: peer }
            | relay::Event::CircuitClosed { src_peer_id: peer, .. } => {
                if let Some(services) = self.served.get_mut(peer) {
                    *services = services.saturating_sub(1);
                    if *services == 0 {
                        self.served.remove(peer);
                    }
                }
            }
            _ => {}
        }
    }

    /// Closes a connection if there are too many from others, or to others.
    fn make_room(&mut self, from_others: bool) {
        let Self { swarm, served, entries, relays, .. } = self;
        let HostBehaviour { limits, records, .. } = swarm.behaviour_mut();
        let kad = records.kad_mut();
        let standing = |peer: &PeerId| {
            let is_relay = || relays.iter().any(|relay| relay.peer() == Some(*peer));
            let bucket = kad.kbucket(*peer);
            if bucket.is_some_and(|it| it.iter().any(|entry| entry.node.key.preimage() == peer))
                || entries.contains_key(peer)
                || is_relay()
            {
                Standing::Known
            } else if served.contains_key(peer) {
                Standing::Served
            } else {
                Standing::Stranger
            }
        };
        if let Some(connection) = limits.crowded_out(from_others, standing) {
            tracing::debug!(%connection, "closed, for there are too many");
            self.swarm.close_connection(connection);
        }
    }

    fn on_unreachable(&mut self, peer: PeerId) {
        if !self.connections.contains_key(&peer) && self.servers.remove(&peer) {
            self.warn_among_clients();
        }
        if !self.connections.is_empty() {
            if let Some((_, attempts)) = self.entries.get_mut(&peer) {
                retry(attempts);
            }
            return;
        }
        // Nobody is connected: all of them are tried again.
        let pause = self.entries.values_mut().filter_map(|(_, attempts)| retry(attempts)).min();
        if let Some(pause) = pause {
            tracing::warn!(%peer, ?pause, "no peer can be reached; tries again");
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let records = &mut self.swarm.behaviour_mut().records;
        let kad = records.kad();
        // Only peers that speak the protocol are of use to Kademlia.
        let is_of_use = info.protocols.iter().any(|it| kad.protocol_names().contains(it));
        let addresses = info.listen_addrs.len();
        tracing::debug!(%peer, is_of_use, addresses, "a peer has identified itself");
        if is_of_use {
            // The behaviour keeps a few of the claimed addresses.
            for address in info.listen_addrs {
                records.add_address(&peer, address);
            }
            self.others.remove(&peer);
            if self.servers.len() < SERVERS {
                self.servers.insert(peer);
            }
        } else {
            self.servers.remove(&peer);
            if self.others.insert(peer) {
                self.warn_among_clients();
            }
        }
    }

    /// Warns if this node is a client that knows no server, and so are all that it is connected
    /// with.
    fn warn_among_clients(&mut self) {
        let kad = self.records().kad();
        let (mode, protocols) = (kad.mode(), kad.protocol_names().to_vec());
        let peers = self.others.len();
        if mode == kad::Mode::Client
            && self.servers.is_empty()
            && peers > 0
            && peers == self.connections.len()
        {
            tracing::warn!(
                ?protocols,
                peers,
                "this node and all that it is connected with are clients of the DHT, or of \
                 another network: nobody stores records"
            );
        }
    }

    fn on_reachability(&mut self, status: autonat::NatStatus) {
        self.reachability = match status {
            autonat::NatStatus::Public(address) => Reachability::Public(address),
            autonat::NatStatus::Private => Reachability::Private,
            autonat::NatStatus::Unknown => Reachability::Unknown,
        };
        if !self.follows_reachability {
            return;
        }
        let mode = match &self.reachability {
            Reachability::Public(address) => {
                tracing::info!(%address, "other nodes can reach this node: it is a server");
                kad::Mode::Server
            }
            Reachability::Private => {
                tracing::warn!("no other node can reach this node: it is a client");
                kad::Mode::Client
            }
            Reachability::Unknown => return,
        };
        self.records().kad_mut().set_mode(Some(mode));
    }
}

/// The result of `work` if it comes before a time. A [`timeout_at`] alone never ends a loop whose
/// work is always ready.
async fn before<T>(at: Instant, work: impl Future<Output = T>) -> Option<T> {
    if Instant::now() >= at {
        return None;
    }
    timeout_at(at, work).await.ok()
}

/// The address at which this node has dialled a peer through a relay, if all connections with it
/// are relayed.
fn dialled_through_relay(
    connections: &HashMap<PeerId, Vec<(ConnectionId, ConnectedPoint)>>,
    peer: &PeerId,
) -> Option<Multiaddr> {
    let endpoints = || connections.get(peer).into_iter().flatten().map(|(_, endpoint)| endpoint);
    if !endpoints().all(ConnectedPoint::is_relayed) {
        return None;
    }
    endpoints()
        .find(|endpoint| endpoint.is_dialer())
        .map(ConnectedPoint::get_remote_address)
        .cloned()
}

/// Schedules another attempt unless one is scheduled.
fn retry(attempts: &mut Backoff) -> Option<Duration> {
    attempts.due_at().is_none().then(|| attempts.failed(Instant::now(), jitter()))
}

/// Whether an address on which the node listens can be dialled as it is: a link-local address of
/// IPv6 needs the name of an interface, which differs from machine to machine.
fn can_be_dialled(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip6(ip)) => !ip.is_unicast_link_local() && !ip.is_unspecified(),
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_that_come_without_a_pause_do_not_outlast_the_time() {
        let at = |millis| Instant::now() + Duration::from_millis(millis);
        assert_eq!(before(at(60_000), std::future::ready(1)).await, Some(1));
        assert_eq!(before(at(10), std::future::pending::<()>()).await, None);
        let ends_at = at(10);
        while before(ends_at, std::future::ready(())).await.is_some() {}
        assert!(Instant::now() >= ends_at);
    }

    /// Case 22.
    #[test]
    fn an_address_that_needs_the_name_of_an_interface_cannot_be_dialled() {
        for (address, can) in [
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip6/fe80::1/udp/1/quic-v1", false),
            ("/ip6/::/tcp/1", false),
            ("/ip4/0.0.0.0/tcp/1", false),
            ("/ip6/fd00::2/tcp/1", true),
            ("/ip6/::1/udp/1/quic-v1", true),
            ("/ip4/127.0.0.1/tcp/1", true),
        ] {
            assert_eq!(can_be_dialled(&address.parse().unwrap()), can, "{address}");
        }
    }
}
