//! Kademlia with smart records, as a behaviour of a swarm.
//!
//! [`Behaviour`] wraps a `kad::Behaviour` over a [`SmartRecordStore`]. It adds what the store alone
//! cannot do: reads that check, join and repair; writes of a writer's whole space; keeping spaces
//! alive in the network; paced replication; and validation off the swarm's task. A [`Client`] sends
//! it commands.
//!
//! * `operations`: the operations under way; hands the result of one part to the next. Its parts:
//!   `reading` and `sending` carry out reads and writes over the network; `writing` signs and
//!   stores; `admitting` stores records of other peers; `watches` notifies subscribers; `replicate`
//!   chooses the record to replicate next.
//! * `follow_up`: asks replicas whether they show a write. `network`: requests to peers and their
//!   outcomes. `env`: state that all parts share. `alarm`: the timer for deadlines of the store's
//!   clock.
//! * `rollback`: detects withheld updates. `holders`: the peers found closest to a key. `repairs`:
//!   limits repeated repairs of the same peer. `own`: the writer's spaces and the values that are
//!   kept alive; `kept`: the kept documents among them. `deadlines`: a queue of keys by time.
//!   `budget`: work for other peers. These are pure, as are reads and writes themselves
//!   (see [`query`](crate::query)).
//! * `worker`: validation off the swarm's task. `inbound`: why records are refused unread.
//!   `waiting`: messages that are handled later. `remotes`: addresses of connected peers.
//!   `subnets`: which peers share a subnet. `routing`: which peers and addresses stay in the
//!   routing table.
//!
//! **Invariants.** No answer of a peer is trusted. The number and duration of all operations are
//! bounded. The behaviour starts no queries of Kademlia, so all their events are the user's.
//!
//! **Spec.** `docs/design.md`, sections "Behaviour and client" and "What libp2p-kad does with a
//! store".

mod admitting;
mod alarm;
mod budget;
mod builder;
mod config;
mod deadlines;
mod env;
mod event;
mod follow_up;
mod holders;
mod inbound;
mod kept;
mod network;
mod operations;
mod own;
mod reading;
mod remotes;
mod repairs;
mod replicate;
mod rollback;
mod routing;
mod sending;
mod subnets;
mod waiting;
mod watches;
mod worker;
mod writing;

use std::{
    collections::{HashSet, VecDeque},
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, channel::mpsc};
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad as kad;
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, ConnectionId,
    FromSwarm, NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
    derive_prelude::{Either, Endpoint, Multiaddr, PortUse},
};

use self::{
    alarm::Alarm,
    budget::{HANDSHAKE, MESSAGE, Source},
    env::Env,
    inbound::TooMuchWork,
    operations::Operations,
    waiting::{Held, Waiting},
};
pub use self::{
    builder::Builder,
    config::{BehaviourConfig, Validation},
    event::{BehaviourCounters, Event},
    inbound::InboundRefusal,
    worker::{AsyncValidator, Executor},
};
use crate::{
    client::{Client, Command, WeakClient},
    meter::Timed,
    outbound::Handler,
    pulse::Pulse,
    store::{Events, SmartRecordStore},
};
use smart_record_core::Writer;

/// Kademlia with smart records: a [`NetworkBehaviour`] for the user's swarm.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_kad as kad;
/// use libp2p_smart_record::behaviour::Behaviour;
///
/// let keypair = Keypair::generate_ed25519();
/// let (behaviour, client) = Behaviour::new(keypair, kad::PROTOCOL_NAME);
/// // `behaviour` goes into a swarm, alone or with others by `#[derive(NetworkBehaviour)]`; `client` to the app.
/// # let _ = (behaviour, client);
/// ```
///
/// Kademlia itself (peers, mode, queries of the user) is available through
/// [`kad_mut`](Self::kad_mut).
///
/// A node serves others once it has a confirmed external address, or its mode is set. Nobody can
/// confirm that of the first node of a network, so it needs
/// `kad_mut().set_mode(Some(kad::Mode::Server))`.
///
/// At most three addresses of a peer stay in the routing table, of at most 330 bytes in total,
/// because replies have to fit into Kademlia's packets. The address of the connection is preferred,
/// then addresses of the widest reach. Loopback and link-local addresses stay only for a peer that
/// was met there. A peer without a usable address is removed from the routing table.
pub struct Behaviour {
    env: Env,
    writer: Writer,
    client: WeakClient,
    operations: Operations,
    /// `None` after the last client was dropped.
    commands: Option<mpsc::Receiver<Command>>,
    store_events: Events,
    /// Peers to be disconnected.
    closing: VecDeque<PeerId>,
    /// Those, and those whose connections have not closed yet.
    leaving: HashSet<PeerId>,
    /// Messages to Kademlia that are handled when there is work for them.
    waiting: Waiting<Message>,
    /// When that is looked at again at the latest.
    look_at: Duration,
    alarm: Alarm,
    /// Tells calls of clients that the swarm is polled.
    pulse: Pulse,
}

impl Behaviour {
    /// Returns a behaviour with an in-memory store for smart records under `/sr/…` and all
    /// defaults, and its client, which writes as `keypair`'s peer.
    pub fn new(keypair: Keypair, protocol: StreamProtocol) -> (Self, Client) {
        Self::builder(keypair).with_protocol(protocol).build()
    }

    /// Returns a builder.
    pub fn builder(keypair: Keypair) -> Builder {
        Builder::new(keypair)
    }

    /// The wrapped Kademlia.
    pub const fn kad(&self) -> &kad::Behaviour<SmartRecordStore> {
        &self.env.kad
    }

    /// The wrapped Kademlia, for adding addresses, setting the mode, bootstrapping, and queries of
    /// your own.
    pub const fn kad_mut(&mut self) -> &mut kad::Behaviour<SmartRecordStore> {
        &mut self.env.kad
    }

    /// Adds a peer to the routing table at this address, as `kad_mut().add_address` does. If the
    /// bucket is full, a peer beyond the [share](BehaviourConfig::subnet_share) of its subnet gives
    /// way.
    pub fn add_address(&mut self, peer: &PeerId, address: Multiaddr) {
        self.env.add_peer(peer, address);
    }

    /// The store.
    pub fn store_mut(&mut self) -> &mut SmartRecordStore {
        self.env.kad.store_mut()
    }

    /// The identity that the behaviour's clients write as.
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// A client that does not keep the behaviour's spaces alive, for what is built on top of the
    /// behaviour.
    pub fn client(&self) -> WeakClient {
        self.client.clone()
    }

    /// The settings.
    pub const fn config(&self) -> &BehaviourConfig {
        &self.env.config
    }

    /// Counters since the behaviour was created.
    pub fn counters(&self) -> BehaviourCounters {
        self.env.counters.get()
    }

    /// Number of unanswered requests of reads and writes, including those in the background.
    pub fn requests(&self) -> usize {
        self.env.net.requests().len()
    }

    /// Number of operations of clients that are under way, those in the background too: reads,
    /// writes, and repairs of what a client's read has found.
    pub fn operations(&self) -> usize {
        self.operations.busy()
    }

    /// The metrics that the behaviour reports to, if it was built [with](Builder::with_metrics)
    /// them. What is built on top of the behaviour can add a [`Source`](crate::metrics::Source) of
    /// its own.
    #[cfg(feature = "metrics")]
    pub const fn metrics(&self) -> Option<&crate::metrics::Metrics> {
        self.env.meter.metrics()
    }

    /// Does one unit of the behaviour's own work, if there is any.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { env, operations, .. } = self;
        if operations.advance_waiting(env) {
            return Poll::Ready(());
        }
        if let Poll::Ready(Some(event)) = self.store_events.poll_next_unpin(cx) {
            operations.on_store_event(&event);
            env.events.push_back(Event::Store(event));
            return Poll::Ready(());
        }
        if operations.poll_off_task(env, cx).is_ready() {
            return Poll::Ready(());
        }
        operations.count_postponed(env);
        if operations.has_capacity(env) {
            if operations.poll_handles(env, cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(commands) = &mut self.commands
                && let Poll::Ready(command) = commands.poll_next_unpin(cx)
            {
                match command {
                    Some(command) => operations.on_command(env, command),
                    // The last handle may have been dropped with the last client.
                    None if operations.poll_handles(env, cx).is_ready() => {}
                    None => {
                        self.commands = None;
                        operations.on_clients_gone(env);
                    }
                }
                return Poll::Ready(());
            }
        }
        if operations.on_time(env) {
            return Poll::Ready(());
        }
        operations.reply_to_close();
        let look_at = (!self.waiting.is_empty()).then_some(self.look_at);
        let wake_at = operations.next_deadline().into_iter().chain(look_at).min();
        if let Poll::Ready(event) = env.net.poll(cx, wake_at) {
            operations.on_network_event(env, event);
            return Poll::Ready(());
        }
        let now = env.now();
        if self.alarm.was_set_back(now) {
            operations.on_clock_set_back(env, now);
        }
        if operations.start_due(env, now) {
            return Poll::Ready(());
        }
        if self.alarm.has_fired(cx) {
            if let Err(error) = env.kad.store_mut().collect_some() {
                tracing::warn!(%error, "expired records could not be collected");
            }
            return Poll::Ready(());
        }
        self.alarm.set(operations.next_at(env), now, cx)
    }

    /// Handles a message to Kademlia, or lets it wait.
    fn on_message(&mut self, peer: PeerId, connection: ConnectionId, message: Message) {
        if self.leaving.contains(&peer) {
            return;
        }
        let (source, now) = (self.env.remotes.source(peer, connection), self.env.net.now());
        let held = Held { source, peer, connection, message, since: now };
        if !self.waiting.has(&source) && self.env.budget.has_work_for(&source, now) {
            return self.handle(held);
        }
        if self.env.budget.is_far_over(&source, now) {
            return self.disconnect(peer);
        }
        if let Some(gone) = self.waiting.hold(held) {
            self.disconnect(gone);
        }
        self.env.count(|c| &mut c.messages_held, 1);
        self.count_waiting();
    }

    /// Handles a message that has waited. Returns whether there was one.
    fn handle_next(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let (budget, now) = (&mut self.env.budget, self.env.net.now());
        let mut next = self.waiting.next(|source, _| budget.has_work_for(source, now));
        if next.is_none() {
            let is_old = |held: &Held<_>| now.saturating_sub(held.since) >= PATIENCE;
            next = self
                .waiting
                .next(|_, held| held.is_none_or(|held| is_old(held) && budget.takes_spare(now)));
        }
        let Some(held) = next else {
            if self.look_at <= now {
                self.look_at = now.saturating_add(LOOK_AFTER);
            }
            return false;
        };
        self.count_waiting();
        self.handle(held);
        true
    }

    fn count_waiting(&mut self) {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.env.counters.change(|counters| counters.messages_waiting = waiting);
    }

    fn handle(&mut self, held: Held<Message>) {
        let Held { source, peer, connection, message, .. } = held;
        let Env { kad, remotes, .. } = &mut self.env;
        // Kademlia asks the store while it handles the message of this peer.
        remotes.on_message(&peer, connection);
        kad.store_mut().asked_by(Some(remotes.asker(peer, connection)));
        kad.on_connection_handler_event(peer, connection, message);
        kad.store_mut().asked_by(None);
        self.charge(peer, &source);
    }

    /// Counts the work of a message to Kademlia, and disconnects its sender if it asks for far too
    /// much.
    fn charge(&mut self, peer: PeerId, source: &Source) {
        let now = self.env.net.now();
        let work = self.env.kad.store_mut().take_served().saturating_add(MESSAGE);
        self.env.budget.charge(source, work, now);
        self.env.count_work();
        if self.env.budget.is_far_over(source, now) {
            self.disconnect(peer);
        }
    }

    /// Disconnects a peer, and handles none of its messages any more.
    fn disconnect(&mut self, peer: PeerId) {
        let is_connected = self.env.remotes.of(&peer).is_some();
        if is_connected && self.leaving.insert(peer) {
            self.closing.push_back(peer);
            self.waiting.forget(&peer);
            self.count_waiting();
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(peer_id) = self.closing.pop_front() {
                tracing::debug!(peer = %peer_id, "disconnected: it asks for too much work");
                self.env.count(|c| &mut c.disconnected, 1);
                self.env.events.push_back(Event::Disconnected { peer: peer_id });
                let connection = CloseConnection::All;
                return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
            }
            if let Some(event) = self.env.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.env.kad.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(mut event)) => {
                    match &event {
                        kad::Event::RoutingUpdated { peer, is_new_peer, .. } => {
                            self.env.trim(*peer);
                            if *is_new_peer {
                                self.env.tell_neighbours();
                            }
                        }
                        kad::Event::RoutablePeer { peer, address }
                        | kad::Event::PendingRoutablePeer { peer, address } => {
                            self.env.on_routable(peer, address);
                        }
                        _ => {}
                    }
                    self.operations.on_kad_event(&mut self.env, &mut event);
                    return Poll::Ready(ToSwarm::GenerateEvent(Event::Kad(event)));
                }
                // Events were handled above, so this maps nothing.
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(Event::Kad).map_in(Either::Left));
                }
                Poll::Pending => self.env.remotes.forget_closed(),
            }
            match self.env.net.outbound.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(ended)) => {
                    if let Some(event) = self.env.net.on_ended(ended) {
                        self.operations.on_network_event(&mut self.env, event);
                    }
                    continue;
                }
                Poll::Ready(other) => {
                    // Events were handled above, so this maps nothing.
                    let other = other.map_out(|_| Event::ClientsGone).map_in(Either::Right);
                    return Poll::Ready(other);
                }
                Poll::Pending => {}
            }
            if self.handle_next() {
                continue;
            }
            // Loops, because own work may have queued requests.
            if self.poll_own(cx).is_pending() && self.env.events.is_empty() {
                if self.operations.store_next_piece(&mut self.env) {
                    // Lets other tasks run first.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

type Kad = kad::Behaviour<SmartRecordStore>;
/// What a connection tells Kademlia: a request of its peer, for the most part.
type Message = THandlerOutEvent<Kad>;

/// Messages that have waited for this long are handled even if others have used less work, as far
/// as there is work for that. Well below the ten seconds for which peers wait for an answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long messages wait at least when there is no work for them.
const LOOK_AFTER: Duration = Duration::from_millis(2);

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = ConnectionHandlerSelect<THandler<Kad>, Handler>;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let now = self.env.net.now();
        if self.env.budget.is_far_over(&Source::of_address(Some(remote_addr)), now) {
            self.env.count(|c| &mut c.connections_refused, 1);
            return Err(ConnectionDenied::new(TooMuchWork));
        }
        self.env.kad.handle_pending_inbound_connection(connection_id, local_addr, remote_addr)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let Env { kad, net, .. } = &mut self.env;
        let (id, local, remote) = (connection_id, local_addr, remote_addr);
        let kad = kad.handle_established_inbound_connection(id, peer, local, remote)?;
        let outbound =
            net.outbound.handle_established_inbound_connection(id, peer, local, remote)?;
        Ok(kad.select(outbound))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        maybe_peer: Option<PeerId>,
        addresses: &[Multiaddr],
        effective_role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Env { kad, net, .. } = &mut self.env;
        let (id, peer, role) = (connection_id, maybe_peer, effective_role);
        let mut all = kad.handle_pending_outbound_connection(id, peer, addresses, role)?;
        all.extend(net.outbound.handle_pending_outbound_connection(id, peer, addresses, role)?);
        Ok(all)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let Env { kad, net, .. } = &mut self.env;
        let (id, role) = (connection_id, role_override);
        let kad = kad.handle_established_outbound_connection(id, peer, addr, role, port_use)?;
        let outbound =
            net.outbound.handle_established_outbound_connection(id, peer, addr, role, port_use)?;
        Ok(kad.select(outbound))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.env.remotes.on_swarm_event(&event);
        if let FromSwarm::ConnectionEstablished(established) = &event
            && established.endpoint.is_listener()
        {
            let now = self.env.net.now();
            let (peer, connection) = (established.peer_id, established.connection_id);
            let source = self.env.remotes.source(peer, connection);
            self.env.budget.charge(&source, HANDSHAKE, now);
        }
        if let FromSwarm::ConnectionEstablished(established) = &event {
            // What is closed does not include it.
            self.leaving.remove(&established.peer_id);
        }
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.leaving.remove(&closed.peer_id);
            self.waiting.forget(&closed.peer_id);
            self.count_waiting();
        }
        self.env.net.outbound.on_swarm_event(event);
        self.env.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let begun = self.env.meter.begin();
        match event {
            Either::Left(message) => self.on_message(peer, connection, message),
            Either::Right(event) => {
                self.env.net.outbound.on_connection_handler_event(peer, connection, event);
            }
        }
        self.env.meter.end(Timed::Hold, begun);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.pulse.beat(cx);
        let begun = self.env.meter.begin();
        // Whatever is validated on the task, no signature is verified twice.
        let signatures = self.store_mut().signatures();
        let (polled, _) = signatures.during(Duration::MAX, || self.poll_all(cx));
        self.env.meter.end(Timed::Hold, begun);
        polled
    }
}

smart_record_core::impl_debug! { Behaviour: |behaviour| local: behaviour.env.local, config: behaviour.env.config }
