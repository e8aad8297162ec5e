//! Kademlia with smart records as a behaviour of a swarm, and what a [`Client`] asks of it.
//!
//! [`Behaviour`] wraps a `kad::Behaviour` over a [`SmartRecordStore`] and does what the store alone cannot: reads that
//! check, join and repair; writes of a writer's whole space; keeping spaces in the network; paced replication; and
//! validation off the swarm's task.
//!
//! * `operations`: what is under way, and what goes on where something has ended. Its parts: `reading` and `sending` carry out over
//!   the network what is decided elsewhere; `writing` signs and stores; `admitting` stores what others say; `watches`; `replicate`.
//! * `follow_up`: what becomes of a write afterwards. `network`: requests to peers, and what has become of them. `env`: what each part is handed. `alarm`: the timer of the store's
//!   clock.
//! * `rollback`: who withholds. `holders`: who was found to be closest to a key. `repairs`: who was sent what was lacking. `own`: the
//!   writer's spaces and the values that are kept; `kept`: what of them is kept. `deadlines`: what is to be done when. `inbound`: who may
//!   send how much. Pure, as are reads and writes themselves, see [`query`](crate::query).
//! * `worker`: validation elsewhere. `remotes`: where peers are met, and which of their addresses are passed on.
//!
//! **Invariants.** Nothing that a peer answers is believed. Whatever is waiting or under way is bounded in number and in time. The
//! behaviour begins no queries of Kademlia, so all their events are the user's.
//!
//! **Spec.** `docs/design.md`, sections "Behaviour and client" and "What libp2p-kad does with a store".

mod admitting;
mod alarm;
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
mod sending;
mod watches;
mod worker;
mod writing;

use std::task::{Context, Poll};

use futures::{StreamExt, channel::mpsc};
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad as kad;
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerSelect, ConnectionId, FromSwarm,
    NetworkBehaviour, StreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    derive_prelude::{Either, Endpoint, Multiaddr, PortUse},
};

use self::{alarm::Alarm, env::Env, operations::Operations, remotes::Remotes};
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
    store::{Events, SmartRecordStore},
};
use smart_record_core::Writer;

/// Kademlia with smart records: a [`NetworkBehaviour`] for a swarm of the user's.
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
/// What concerns Kademlia itself, its peers, mode and other queries, is done through [`kad_mut`](Self::kad_mut).
///
/// Of the addresses that are added for a peer three stay, and no more than about 300 bytes of them: replies have to fit into
/// Kademlia's packets. Which: that by which we are connected, then those of the widest reach; loopback and link-local ones only
/// of a peer that was met there. A peer with none that is any good does not stay in the routing table.
pub struct Behaviour {
    env: Env,
    writer: Writer,
    client: WeakClient,
    operations: Operations,
    /// `None` when the last client is gone.
    commands: Option<mpsc::Receiver<Command>>,
    store_events: Events,
    remotes: Remotes,
    alarm: Alarm,
}

impl Behaviour {
    /// A behaviour with a store in memory for smart records under `/sr/…`, all defaults, and its client, which writes
    /// as `keypair`'s peer.
    pub fn new(keypair: Keypair, protocol: StreamProtocol) -> (Self, Client) {
        Self::builder(keypair).with_protocol(protocol).build()
    }

    /// Sets up a behaviour.
    pub fn builder(keypair: Keypair) -> Builder {
        Builder::new(keypair)
    }

    /// Kademlia.
    pub const fn kad(&self) -> &kad::Behaviour<SmartRecordStore> {
        &self.env.kad
    }

    /// Kademlia: add addresses, set the mode, bootstrap, begin queries of your own.
    pub const fn kad_mut(&mut self) -> &mut kad::Behaviour<SmartRecordStore> {
        &mut self.env.kad
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

    /// How often what has happened.
    pub fn counters(&self) -> BehaviourCounters {
        self.env.counters.get()
    }

    /// Number of requests of reads and writes, those in the background too, that peers have not answered yet.
    pub fn requests(&self) -> usize {
        self.env.net.requests().len()
    }

    /// Where it is shown what the behaviour does, if it was built [with](Builder::with_metrics) that. What is built on top of it
    /// can be shown there, too, as a [`Source`](crate::metrics::Source).
    #[cfg(feature = "metrics")]
    pub const fn metrics(&self) -> Option<&crate::metrics::Metrics> {
        self.env.meter.metrics()
    }

    /// One thing to do besides Kademlia, if there is one.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { env, operations, .. } = self;
        operations.take_turns(env);
        if let Poll::Ready(Some(event)) = self.store_events.poll_next_unpin(cx) {
            operations.on_store_event(&event);
            env.events.push_back(Event::Store(event));
            return Poll::Ready(());
        }
        if operations.poll_off_task(env, cx).is_ready() {
            return Poll::Ready(());
        }
        if operations.has_capacity(env) {
            if operations.poll_handles(env, cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(commands) = &mut self.commands
                && let Poll::Ready(command) = commands.poll_next_unpin(cx)
            {
                match command {
                    Some(command) => operations.on_command(env, command),
                    // The last handle may have gone with the last client.
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
        operations.tell_idle();
        if let Poll::Ready(news) = env.net.poll(cx, operations.next_deadline()) {
            operations.on_news(env, news);
            return Poll::Ready(());
        }
        let now = env.now();
        if self.alarm.was_set_back(now) {
            operations.on_clock_set_back(now);
        }
        if operations.do_due(env, now) {
            return Poll::Ready(());
        }
        if self.alarm.has_rung(cx) {
            if let Err(error) = env.kad.store_mut().collect_some() {
                tracing::warn!(%error, "what has expired could not be collected");
            }
            return Poll::Ready(());
        }
        self.alarm.set(operations.next_at(env), now, cx)
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.env.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.env.kad.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(mut event)) => {
                    if let kad::Event::RoutingUpdated { peer, .. } = event {
                        self.remotes.trim(&mut self.env, peer);
                    }
                    self.operations.on_kad_event(&mut self.env, &mut event);
                    return Poll::Ready(ToSwarm::GenerateEvent(Event::Kad(event)));
                }
                // There are no events left for this to change.
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(Event::Kad).map_in(Either::Left));
                }
                Poll::Pending => {}
            }
            match self.env.net.outbound.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(ended)) => {
                    if let Some(news) = self.env.net.on_ended(ended) {
                        self.operations.on_news(&mut self.env, news);
                    }
                    continue;
                }
                Poll::Ready(other) => {
                    // There are no events left for this to change.
                    let other = other.map_out(|_| Event::ClientsGone).map_in(Either::Right);
                    return Poll::Ready(other);
                }
                Poll::Pending => {}
            }
            // What was begun here is to be sent.
            if self.poll_own(cx).is_pending() && self.env.events.is_empty() {
                if self.operations.keep_a_piece(&mut self.env) {
                    // Others have their turn first.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

type Kad = kad::Behaviour<SmartRecordStore>;

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = ConnectionHandlerSelect<THandler<Kad>, Handler>;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
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
        self.remotes.on_swarm_event(&event);
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
        let Env { kad, net, .. } = &mut self.env;
        match event {
            Either::Left(event) => kad.on_connection_handler_event(peer, connection, event),
            Either::Right(event) => {
                net.outbound.on_connection_handler_event(peer, connection, event);
            }
        }
        self.env.meter.end(Timed::Hold, begun);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let begun = self.env.meter.begin();
        let polled = self.poll_all(cx);
        self.env.meter.end(Timed::Hold, begun);
        polled
    }
}

smart_record_core::impl_debug! { Behaviour: |behaviour| local: behaviour.env.local, config: behaviour.env.config }
