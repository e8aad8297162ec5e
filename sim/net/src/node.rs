//! A real node: a swarm with our behaviour and identify, as `smart-record-host` builds it without
//! its transports.

use std::{
    fmt::{self, Debug, Formatter},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use either::Either;
use futures::{StreamExt, future::poll_fn};
use libp2p_core::{Multiaddr, Transport};
use libp2p_identify as identify;
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad as kad;
use libp2p_smart_record::{
    Clock, Position, RecordKey, Registry, Timestamp, Writer,
    behaviour::{self, Behaviour, BehaviourConfig, Validation},
    client::Client,
    store::{SmartRecordStore, StoreConfig},
};
use libp2p_swarm::{Config, NetworkBehaviour, StreamProtocol, Swarm, SwarmEvent};
use smart_record_sim_clock as clock;

use crate::{
    executor::{Executor, Spawner},
    foreign::{ForeignStore, Lie},
    network::{HostId, Network},
    storage::{Disk, DiskStorage, StorageFault},
    trace::Trace,
    transport::{HostTransport, address},
};

/// Protocol of the simulated network.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-record-sim/kad/1.0.0");

/// As in `smart-record-host`.
const IDLE: Duration = Duration::from_secs(60);

/// Faults planted in nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// In their storage.
    pub storage: Option<StorageFault>,
    /// Requests with a record that servers send are lost: a replication that skips.
    pub loses_records: bool,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node of ours.
    Ours,
    /// A node of ours that nobody can dial, behind a NAT, though it says that it is a server.
    Nat,
    /// Kademlia with the store of libp2p, which keeps the last PUT.
    Plain,
    /// A node that lies.
    Liar(Lie),
    /// A node that lies, and whose id is closer to the key of this board than those of all others.
    /// All of one board are in one network of 24 bits.
    Sybil(u32, Lie),
}

impl Kind {
    /// What it says that is not true.
    const fn lie(self) -> Option<Lie> {
        match self {
            Self::Liar(lie) | Self::Sybil(_, lie) => Some(lie),
            Self::Ours | Self::Nat | Self::Plain => None,
        }
    }
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Index of its host.
    pub host: HostId,
    /// Whether it serves the DHT.
    pub mode: kad::Mode,
    /// What it is.
    pub kind: Kind,
    /// Settings of its behaviour.
    pub behaviour: BehaviourConfig,
    /// Settings of its store.
    pub store: StoreConfig,
    /// Time between Kademlia's own lookups that refresh the routing table.
    pub bootstrap_every: Duration,
    /// Whether it looks for neighbours. If not, each of Kademlia's lookups for them, one for each
    /// bucket, is ended with its first requests: Kademlia begins them by itself.
    pub bootstraps: bool,
    /// Whether it validates off its task.
    pub is_off_task: bool,
    /// Faults.
    pub planted: Planted,
}

/// The wall clock of a node: milliseconds by which it is ahead of the right time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SkewedClock(Arc<AtomicI64>);

impl SkewedClock {
    pub(crate) fn set_lead(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let millis = u64::try_from(clock::wall_clock().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(millis.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(crate) struct NodeBehaviour {
    dht: Either<Behaviour, kad::Behaviour<ForeignStore>>,
    identify: identify::Behaviour,
}

impl NodeBehaviour {
    /// The behaviour of a node of ours.
    pub(crate) fn records(&mut self) -> Option<&mut Behaviour> {
        self.dht.as_mut().left()
    }

    fn add_address(&mut self, peer: &PeerId, address: Multiaddr) {
        match &mut self.dht {
            Either::Left(records) => records.add_address(peer, address),
            Either::Right(kad) => {
                kad.add_address(peer, address);
            }
        }
    }

    /// Ends Kademlia's lookups for neighbours.
    fn end_bootstraps(&mut self) {
        let end = |mut query: kad::QueryMut<'_>| {
            if matches!(query.info(), kad::QueryInfo::Bootstrap { .. }) {
                query.finish();
            }
        };
        match &mut self.dht {
            Either::Left(records) => records.kad_mut().iter_queries_mut().for_each(end),
            Either::Right(kad) => kad.iter_queries_mut().for_each(end),
        }
    }

    fn protocol_names(&self) -> &[StreamProtocol] {
        match &self.dht {
            Either::Left(records) => records.kad().protocol_names(),
            Either::Right(kad) => kad.protocol_names(),
        }
    }
}

type NodeSwarm = Swarm<NodeBehaviour>;

struct Shared {
    swarm: NodeSwarm,
    /// Of the task that polls it.
    waker: Option<Waker>,
    bootstraps: bool,
    /// Findings of `Withheld` events since they were last taken.
    withheld: Vec<String>,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) spawner: Spawner,
    /// Of a node of ours.
    pub(crate) client: Option<Client>,
    shared: Arc<Mutex<Shared>>,
}

impl Debug for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peer", &self.peer).finish_non_exhaustive()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Starts a process of the node.
    pub(crate) fn start(
        executor: &Executor,
        network: &Network,
        trace: &Trace,
        keypair: &Keypair,
        setup: &Setup,
        disk: &Disk,
        clock: &SkewedClock,
    ) -> Self {
        let peer = keypair.public().to_peer_id();
        let spawner = executor.start();
        let (dht, client) = match setup.kind {
            Kind::Ours | Kind::Nat => {
                let (records, client) = ours(keypair, setup, disk, clock, &spawner);
                (Either::Left(records), Some(client))
            }
            Kind::Plain | Kind::Liar(_) | Kind::Sybil(..) => {
                let lie = setup.kind.lie();
                let store = ForeignStore::new(peer, lie, clock.clone(), &setup.store);
                let mut config = kad::Config::new(PROTOCOL);
                config.set_periodic_bootstrap_interval(Some(setup.bootstrap_every));
                let mut kad = kad::Behaviour::with_config(peer, store, config);
                kad.set_mode(Some(setup.mode));
                (Either::Right(kad), None)
            }
        };
        let agent = identify::Config::new("/smart-record-sim/1.0.0".to_owned(), keypair.public())
            .with_cache_size(0);
        let behaviour = NodeBehaviour { dht, identify: identify::Behaviour::new(agent) };
        let loses_records = setup.planted.loses_records;
        let transport = HostTransport::new(network.clone(), setup.host, peer, loses_records);
        let config = Config::with_executor(spawner.clone()).with_idle_connection_timeout(IDLE);
        let mut swarm = Swarm::new(transport.boxed(), behaviour, peer, config);
        if setup.mode == kad::Mode::Server {
            swarm.listen_on(address(setup.host.ip())).expect("the address is that of the host");
        }
        let shared =
            Shared { swarm, waker: None, bootstraps: setup.bootstraps, withheld: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        spawner.spawn(run(Arc::clone(&shared), setup.host, trace.clone()));
        Self { peer, spawner, client, shared }
    }

    /// Acts on the swarm, and has it polled.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut NodeSwarm) -> T) -> T {
        let mut shared = lock(&self.shared);
        let result = act(&mut shared.swarm);
        if let Some(waker) = &shared.waker {
            waker.wake_by_ref();
        }
        result
    }

    /// Looks at the swarm.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut NodeSwarm) -> T) -> T {
        look(&mut lock(&self.shared).swarm)
    }

    /// Makes another node known to this one.
    pub(crate) fn add(&self, peer: PeerId, host: HostId) {
        self.with(|swarm| swarm.behaviour_mut().add_address(&peer, address(host.ip())));
    }

    /// Begins to look for neighbours.
    pub(crate) fn bootstrap(&self) {
        // Without a known peer there is nothing to do.
        let _ = self.with(|swarm| match &mut swarm.behaviour_mut().dht {
            Either::Left(records) => records.kad_mut().bootstrap(),
            Either::Right(kad) => kad.bootstrap(),
        });
    }

    /// Sends a value to these peers, if the node is not ours.
    pub(crate) fn put_to(&self, key: &RecordKey, value: Vec<u8>, peers: Vec<PeerId>) {
        self.with(|swarm| {
            if let Either::Right(kad) = &mut swarm.behaviour_mut().dht {
                let record = kad::Record::new(kad::RecordKey::new(key), value);
                kad.put_record_to(record, peers.into_iter(), kad::Quorum::All);
            }
        });
    }

    /// The newest update of a space that it keeps, if it does not lie.
    pub(crate) fn newest(&self, key: &RecordKey, writer: &Writer) -> Option<Position> {
        let record = self.look(|swarm| match &mut swarm.behaviour_mut().dht {
            Either::Left(records) => records.store_mut().record(key).ok()?,
            Either::Right(kad) => kad.store_mut().last_put(key),
        });
        record?.space(writer)?.newest()
    }

    /// Takes what its behaviour has reported as withheld.
    pub(crate) fn take_withheld(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).withheld)
    }
}

/// The behaviour of a node of ours.
fn ours(
    keypair: &Keypair,
    setup: &Setup,
    disk: &Disk,
    clock: &SkewedClock,
    spawner: &Spawner,
) -> (Behaviour, Client) {
    let storage = DiskStorage::open(disk, setup.planted.storage);
    let store = SmartRecordStore::with_storage(
        keypair.public().to_peer_id(),
        Registry::default(),
        setup.store.clone(),
        storage,
        clock.clone(),
    );
    let store = store.expect("the disk is that of this node");
    let mut kad = store.kad_config(PROTOCOL);
    kad.set_periodic_bootstrap_interval(Some(setup.bootstrap_every));
    let mut behaviour = setup.behaviour.clone();
    if setup.is_off_task {
        behaviour = behaviour.with_validation(Validation::OffTask);
    }
    let tasks = spawner.clone();
    let builder = Behaviour::builder(keypair.clone())
        .with_store(store)
        .expect("the store is that of this node")
        .with_kad_config(kad)
        .with_config(behaviour)
        .with_executor(move |work| tasks.spawn(work));
    let (mut records, client) = builder.build();
    records.kad_mut().set_mode(Some(setup.mode));
    (records, client)
}

/// Polls the swarm.
async fn run(shared: Arc<Mutex<Shared>>, host: HostId, trace: Trace) {
    poll_fn(|cx| {
        let mut shared = lock(&shared);
        if !shared.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            shared.waker = Some(cx.waker().clone());
        }
        if !shared.bootstraps {
            shared.swarm.behaviour_mut().end_bootstraps();
        }
        while let Poll::Ready(Some(event)) = shared.swarm.poll_next_unpin(cx) {
            on_event(&mut shared, host, event, &trace);
        }
        Poll::<()>::Pending
    })
    .await;
}

fn on_event(
    shared: &mut Shared,
    host: HostId,
    event: SwarmEvent<NodeBehaviourEvent>,
    trace: &Trace,
) {
    let node = host.0;
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
            let role = if endpoint.is_dialer() { "dialed" } else { "accepted" };
            trace.line(format_args!("{node} {role} {peer_id}"));
        }
        SwarmEvent::ConnectionClosed { peer_id, cause, .. } => {
            let why = cause.map_or("closed".to_owned(), |cause| cause.to_string());
            trace.line(format_args!("{node} lost {peer_id}: {why}"));
        }
        SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
            trace.line(format_args!("{node} did not reach {peer_id:?}: {error}"));
        }
        SwarmEvent::Behaviour(NodeBehaviourEvent::Identify(identify::Event::Received {
            peer_id,
            info,
            ..
        })) => {
            let behaviour = shared.swarm.behaviour_mut();
            if info.protocols.iter().any(|it| behaviour.protocol_names().contains(it)) {
                for address in info.listen_addrs {
                    behaviour.add_address(&peer_id, address);
                }
            }
        }
        SwarmEvent::Behaviour(NodeBehaviourEvent::Dht(event)) => {
            on_record_event(
                shared,
                node,
                event.map_right(behaviour::Event::Kad).into_inner(),
                trace,
            );
        }
        _ => {}
    }
}

fn on_record_event(shared: &mut Shared, node: u32, event: behaviour::Event, trace: &Trace) {
    match event {
        // Often and long; each message is in the trace.
        behaviour::Event::Kad(_) => {}
        behaviour::Event::Withheld { key, writers } => {
            trace.line(format_args!("{node} misses {writers:?} under {key}"));
            let (count, first) = (writers.len(), writers.first());
            shared.withheld.push(format!("{count} spaces of {key}: first {first:?}"));
        }
        other => trace.line(format_args!("{node} {other:?}")),
    }
}
