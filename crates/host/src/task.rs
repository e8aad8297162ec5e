//! Task of a node: its swarm and the requests to it.
//!
//! **Invariants.** It ends after the last client, and not before: when what clients have begun is
//! over, and after two seconds at most.

use std::{collections::HashMap, convert::Infallible, future::poll_fn, task::Poll, time::Duration};

use futures::{FutureExt, StreamExt, channel::mpsc};
use libp2p::{
    Multiaddr, PeerId, Swarm, identify,
    multiaddr::Protocol,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::HostError;
use libp2p_smart_record::behaviour::{Behaviour, Event};
use smart_record_services::Dialer;

/// How long the node stays after its last client is gone, for what is under way: what dropped
/// handles withdraw, for instance. A guess: as long as one silent peer takes.
const AFTER_CLIENTS: Duration = Duration::from_secs(2);
/// Wait for a further listen address. The addresses of a machine become known one by one, and
/// nothing marks the last. A guess; they come at once.
const NEXT_ADDRESS: Duration = Duration::from_millis(100);

#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "HostEvent")]
pub(super) struct HostBehaviour {
    pub(super) records: Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) dialer: Toggle<Dialer>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for a moment")]
pub(super) enum HostEvent {
    Records(Event),
    Identify(identify::Event),
}

impl From<Event> for HostEvent {
    fn from(event: Event) -> Self {
        Self::Records(event)
    }
}

impl From<identify::Event> for HostEvent {
    fn from(event: identify::Event) -> Self {
        Self::Identify(event)
    }
}

impl From<Infallible> for HostEvent {
    fn from(event: Infallible) -> Self {
        match event {}
    }
}

/// A function that the node's task runs on its swarm.
pub(super) type SwarmRequest = Box<dyn FnOnce(&mut HostTask) + Send>;

/// Task of a node: the swarm and its connections.
pub(super) struct HostTask {
    pub(super) swarm: Swarm<HostBehaviour>,
    /// Connections of each peer, oldest first.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
}

impl HostTask {
    pub(super) fn new(swarm: Swarm<HostBehaviour>) -> Self {
        Self { swarm, connections: HashMap::new() }
    }

    pub(super) fn records(&mut self) -> &mut Behaviour {
        &mut self.swarm.behaviour_mut().records
    }

    pub(super) fn connections(&self, peer: &PeerId) -> &[ConnectionId] {
        self.connections.get(peer).map_or(&[], Vec::as_slice)
    }

    /// Listens on an address and returns once it does. If the address stands for all addresses of
    /// the machine, returns once it listens on all of them.
    pub(super) async fn listen(&mut self, address: Multiaddr) -> Result<(), HostError> {
        let is_for_all = address.iter().any(|part| match part {
            Protocol::Ip4(ip) => ip.is_unspecified(),
            Protocol::Ip6(ip) => ip.is_unspecified(),
            _ => false,
        });
        let listener = self.swarm.listen_on(address)?;
        let mut settled_at: Option<Instant> = None;
        loop {
            let event = self.swarm.select_next_some();
            let event = match settled_at {
                None => event.await,
                Some(at) => match timeout_at(at, event).await {
                    Ok(event) => event,
                    Err(_) => return Ok(()),
                },
            };
            match event {
                SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == listener => {
                    if !is_for_all {
                        return Ok(());
                    }
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
            futures::select! {
                request = inbox.next() => if let Some(request) = request {
                    request(&mut self);
                },
                event = self.swarm.select_next_some().fuse() => match event {
                    SwarmEvent::Behaviour(HostEvent::Records(Event::ClientsGone)) => break,
                    event => self.on_event(event),
                }
            }
        }
        // What takes longer ends with the node.
        let _ = timeout(AFTER_CLIENTS, self.finish()).await;
    }

    /// Waits until nothing is under way that clients have begun.
    async fn finish(&mut self) {
        poll_fn(|cx| {
            while let Poll::Ready(Some(event)) = self.swarm.poll_next_unpin(cx) {
                self.on_event(event);
            }
            if self.records().operations() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn on_event(&mut self, event: SwarmEvent<HostEvent>) {
        match event {
            SwarmEvent::Behaviour(HostEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.on_identified(peer_id, info),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                let with_peer = self.connections.entry(peer_id).or_default();
                with_peer.push(connection_id);
                tracing::debug!(peer = %peer_id, connections = with_peer.len(), "connected");
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                tracing::debug!(peer = %peer_id, connections = num_established, "disconnected");
                if num_established == 0 {
                    self.connections.remove(&peer_id);
                } else if let Some(with_peer) = self.connections.get_mut(&peer_id) {
                    with_peer.retain(|connection| *connection != connection_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                tracing::debug!(%peer, %error, "not connected");
            }
            _ => {}
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let kad = self.records().kad_mut();
        // Only peers that speak the protocol are of use to Kademlia.
        let is_of_use = info.protocols.iter().any(|it| kad.protocol_names().contains(it));
        let addresses = info.listen_addrs.len();
        tracing::debug!(%peer, is_of_use, addresses, "a peer has identified itself");
        if is_of_use {
            // The behaviour keeps a few of the claimed addresses.
            for address in info.listen_addrs {
                kad.add_address(&peer, address);
            }
        }
    }
}
