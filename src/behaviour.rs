//! Kademlia with smart records as a behaviour of a swarm, and what a [`Client`] asks of it.
//!
//! [`Behaviour`] wraps a `kad::Behaviour` over a [`SmartRecordStore`] and does what the store alone cannot: reads that
//! check, join and repair; writes of a writer's whole space; keeping spaces in the network; paced replication; and
//! validation off the swarm's task.
//!
//! * `known`: who withholds. `repairs`: who was sent what was lacking. Pure, as are reads and writes themselves, see
//!   [`query`](crate::query).
//! * `own`: the writer's spaces. `replicate`: whose turn it is. `watches`. `turns`: what
//!   is to be done when. Pure.
//! * `inbound`, `worker`: who may send how much; validation elsewhere. `addresses`: which of a peer are passed on.
//! * `reading`, `writing`, `upkeep`, `admitting`: these carried out with Kademlia.
//!
//! **Invariants.** Nothing that a peer answers is believed. Whatever is waiting or under way is bounded in number. Queries of
//! the behaviour's own do not show in its events; those of the user do.
//!
//! **Spec.** `docs/design.md`, sections "Behaviour and client" and "What libp2p-kad does with a store".

mod addresses;
mod admitting;
mod builder;
mod config;
mod event;
mod inbound;
mod known;
mod own;
mod reading;
mod repairs;
mod replicate;
mod turns;
mod upkeep;
mod watches;
mod worker;
mod writing;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt, channel::mpsc};
use futures_timer::Delay;
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{self as libp2p_kad, QueryId};
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, StreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
    derive_prelude::{Endpoint, Multiaddr, PortUse},
};

use self::{
    addresses::Remotes,
    inbound::Inbound,
    known::Known,
    own::OwnSpaces,
    reading::{Read, Reader},
    repairs::Repairs,
    replicate::Replicate,
    watches::Watches,
    worker::Worker,
    writing::{Sending, Waiting},
};
pub use self::{
    builder::Builder,
    config::{BehaviourConfig, Validation},
    event::{BehaviourCounters, Event},
    inbound::InboundRefusal,
    worker::{AsyncValidator, Executor},
};
use crate::{
    client::{Client, ClientError, Command},
    clock::Clock,
    key::RecordKey,
    meter::{Meter, Shared, Timed},
    query::Bounds,
    record::SmartRecord,
    store::{Events, SmartRecordStore},
    time::Timestamp,
    validator::Registry,
};

/// Kademlia with smart records: a [`NetworkBehaviour`] for a swarm of the user's.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_kad as kad;
/// use libp2p_smart_record::Behaviour;
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
    kad: libp2p_kad::Behaviour<SmartRecordStore>,
    local: PeerId,
    config: BehaviourConfig,
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    registry: Registry,
    /// `None` when the last client is gone.
    commands: Option<mpsc::Receiver<Command>>,
    store_events: Events,
    /// What the queries are for that were begun here.
    queries: HashMap<QueryId, Task>,
    lookups: HashMap<u64, Read>,
    spreads: HashMap<u64, Sending>,
    next_id: u64,
    own: OwnSpaces,
    /// What waits until the network has told what an own space says already.
    waiting: BTreeMap<RecordKey, Waiting>,
    /// What was read and is to be stored, in pieces.
    to_keep: VecDeque<SmartRecord>,
    known: Known,
    repairs: Repairs,
    replicate: Option<Replicate>,
    watches: Watches,
    remotes: Remotes,
    inbound: Option<(Inbound, Worker)>,
    last_refusal: Option<(PeerId, InboundRefusal)>,
    events: VecDeque<Event>,
    counters: Shared<BehaviourCounters>,
    meter: Meter,
    /// The time when upkeep was done last, to notice that the clock was set back.
    latest_poll: Timestamp,
    timer: Delay,
    timer_at: Option<Timestamp>,
}

/// What a query is for.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// A lookup asks for answers.
    Lookup(u64),
    /// A spread looks for the peers closest to its key.
    Closest(u64),
    /// A spread sends a chunk.
    Put(u64),
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
    pub const fn kad(&self) -> &libp2p_kad::Behaviour<SmartRecordStore> {
        &self.kad
    }

    /// Kademlia: add addresses, set the mode, bootstrap, begin queries of your own.
    pub const fn kad_mut(&mut self) -> &mut libp2p_kad::Behaviour<SmartRecordStore> {
        &mut self.kad
    }

    /// The store.
    pub fn store_mut(&mut self) -> &mut SmartRecordStore {
        self.kad.store_mut()
    }

    /// The settings.
    pub const fn config(&self) -> &BehaviourConfig {
        &self.config
    }

    /// How often what has happened.
    pub fn counters(&self) -> BehaviourCounters {
        self.counters.get()
    }

    fn count(&mut self, counter: impl FnOnce(&mut BehaviourCounters) -> &mut u64, by: usize) {
        self.counters.change(|counters| event::count(counter(counters), by));
    }

    fn next_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Whether a client's command can be begun.
    fn has_capacity(&self) -> bool {
        let reads = self.lookups.values().filter(|read| read.reader.is_client());
        let writes = self.spreads.values().filter(|sending| sending.sender.is_client());
        let waiting = self.waiting.values().map(|waiting| waiting.writes.len());
        let busy =
            waiting.fold(reads.count().saturating_add(writes.count()), usize::saturating_add);
        busy < self.config.max_operations()
    }

    fn on_command(&mut self, command: Command) {
        if command.is_canceled() {
            return;
        }
        match command {
            Command::Write { key, write, reply } => self.begin_write(key, write, reply),
            Command::Put { key, value, reply } => self.put(key, value, reply),
            Command::Read { key, policy, reply } => {
                let policy = policy.unwrap_or(self.config.read_policy());
                self.begin_read(key, policy, Reader::Client(reply));
            }
            Command::Watch { key, sender } => self.watch(key, sender),
            Command::Stored { key, writer, reply } => {
                let store = self.kad.store_mut();
                let record = match writer {
                    Some(writer) => store.record_of(&key, [&writer]),
                    None => store.record(&key),
                };
                reply.send(record.map_err(ClientError::from));
            }
            Command::NextStored { after, reply } => {
                let next = self.kad.store_mut().next_record(after);
                reply.send(next.map_err(ClientError::from));
            }
        }
    }

    /// Takes care of an event of Kademlia; gives it back if it is the user's.
    fn on_kad_event(&mut self, event: libp2p_kad::Event) -> Option<libp2p_kad::Event> {
        match event {
            libp2p_kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                let Some(task) = self.queries.get(&id).copied() else {
                    return Some(libp2p_kad::Event::OutboundQueryProgressed {
                        id,
                        result,
                        stats,
                        step,
                    });
                };
                if step.last {
                    self.queries.remove(&id);
                }
                match task {
                    Task::Lookup(lookup) => self.on_lookup_progress(lookup, result, step.last),
                    Task::Closest(spread) => self.on_closest_peers(spread, result),
                    Task::Put(spread) => self.on_put(spread, &result),
                }
                None
            }
            libp2p_kad::Event::InboundRequest { request } => {
                let request = self.admit_request(request);
                Some(libp2p_kad::Event::InboundRequest { request })
            }
            libp2p_kad::Event::RoutingUpdated { peer, is_new_peer, .. } => {
                self.trim_addresses(peer);
                if is_new_peer {
                    self.on_new_peer(peer);
                }
                Some(event)
            }
            event => Some(event),
        }
    }

    /// Where it is shown what the behaviour does, if it was built [with](Builder::with_metrics) that. What is built on top of it
    /// can be shown there, too, as a [`Source`](crate::metrics::Source).
    #[cfg(feature = "metrics")]
    pub const fn metrics(&self) -> Option<&crate::metrics::Metrics> {
        self.meter.metrics()
    }

    /// One thing to do besides Kademlia, if there is one.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Some(event)) = self.store_events.poll_next_unpin(cx) {
            self.on_store_event(event);
            return Poll::Ready(());
        }
        if let Some((_, worker)) = &mut self.inbound
            && let Poll::Ready(Some(checked)) = worker.done.poll_next_unpin(cx)
        {
            self.on_checked(checked);
            return Poll::Ready(());
        }
        if let Some((_, worker)) = &mut self.inbound
            && let Poll::Ready(verdict) = worker.poll_verdict(cx)
        {
            match verdict {
                Some(verdict) => self.on_verdict(verdict),
                None => self.on_no_verdicts(),
            }
            return Poll::Ready(());
        }
        if self.has_capacity()
            && let Some(commands) = &mut self.commands
            && let Poll::Ready(command) = commands.poll_next_unpin(cx)
        {
            match command {
                Some(command) => self.on_command(command),
                None => self.on_clients_gone(),
            }
            return Poll::Ready(());
        }
        self.poll_upkeep(cx)
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.kad.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    if let Some(event) = self.on_kad_event(event) {
                        return Poll::Ready(ToSwarm::GenerateEvent(Event::Kad(event)));
                    }
                    continue;
                }
                // There are no events left for this to change.
                Poll::Ready(other) => return Poll::Ready(other.map_out(Event::Kad)),
                Poll::Pending => {}
            }
            // What was begun here has Kademlia do something.
            if self.poll_own(cx).is_pending() && self.events.is_empty() {
                if self.keep_a_piece() {
                    // Others have their turn first.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler =
        <libp2p_kad::Behaviour<SmartRecordStore> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.kad.handle_pending_inbound_connection(connection_id, local_addr, remote_addr)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local_addr: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection_id, peer, local_addr, remote_addr)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        maybe_peer: Option<PeerId>,
        addresses: &[Multiaddr],
        effective_role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.kad.handle_pending_outbound_connection(
            connection_id,
            maybe_peer,
            addresses,
            effective_role,
        )
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(
            connection_id,
            peer,
            addr,
            role_override,
            port_use,
        )
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.remotes.on_swarm_event(&event);
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let begun = self.meter.begin();
        self.kad.on_connection_handler_event(peer, connection, event);
        self.meter.end(Timed::Hold, begun);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let begun = self.meter.begin();
        let polled = self.poll_all(cx);
        self.meter.end(Timed::Hold, begun);
        polled
    }
}

crate::impl_debug! {
    Behaviour: |behaviour| local: behaviour.local, lookups: behaviour.lookups.len(), spreads: behaviour.spreads.len()
}
