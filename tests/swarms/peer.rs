//! A peer for tests: the behaviour beside identify and ping in a swarm over TCP, run as a task.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    allow_block_list::{self, BlockedPeers},
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    kad, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_smart_record::{
    Clock, Dict, RecordKey, Registry, SmartRecord, SystemClock,
    behaviour::{AsyncValidator, Behaviour, BehaviourConfig, Builder, Event, Executor},
    client::{Client, ClientError, Publication},
    query::WritePolicy,
    store::{MemoryStorage, Origin, SmartRecordStore, StoreConfig},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use smart_record_testing_swarms::{PROTOCOL, listening_at};

/// The default of libp2p.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
pub struct Composed {
    pub ping: ping::Behaviour,
    pub smart: Behaviour,
    /// Closes connections to blocked peers and denies new ones.
    pub blocked: allow_block_list::Behaviour<BlockedPeers>,
    /// Looked at after the behaviour. Without limits at first.
    pub limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
}

type Task = Box<dyn FnOnce(&mut Swarm<Composed>) + Send>;

/// A running peer. Dropping it stops it.
pub struct Peer {
    pub id: PeerId,
    pub address: Multiaddr,
    pub client: Client,
    pub keypair: Keypair,
    events: mpsc::UnboundedReceiver<Event>,
    connected: watch::Receiver<BTreeSet<PeerId>>,
    frozen: watch::Sender<bool>,
    tasks: mpsc::UnboundedSender<Task>,
    handle: JoinHandle<()>,
}

/// Setup of a peer.
pub struct Setup {
    pub keypair: Keypair,
    pub config: BehaviourConfig,
    pub store: StoreConfig,
    pub registry: Registry,
    pub clock: Arc<dyn Fn() -> libp2p_smart_record::Timestamp + Send + Sync>,
    pub asks: Option<Box<dyn AsyncValidator>>,
    /// Further setup of the builder.
    pub tweak: Box<dyn FnOnce(Builder) -> Builder + Send>,
    pub executor: Option<Executor>,
    /// Where it listens, and where its connections come from.
    pub ip: Ipv4Addr,
    /// Whether it adds peers that identify themselves to its routing table.
    pub learns: bool,
}

/// A clock that is a function.
struct FnClock(Arc<dyn Fn() -> libp2p_smart_record::Timestamp + Send + Sync>);

impl std::fmt::Debug for FnClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FnClock")
    }
}

impl Clock for FnClock {
    fn now(&self) -> libp2p_smart_record::Timestamp {
        (self.0)()
    }
}

struct Asks(Box<dyn AsyncValidator>);

impl AsyncValidator for Asks {
    fn validate<'a>(
        &'a self,
        key: &'a RecordKey,
        value: &'a [u8],
        source: PeerId,
    ) -> futures::future::BoxFuture<'a, Result<(), libp2p_smart_record::ValidationError>> {
        self.0.validate(key, value, source)
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            keypair: Keypair::generate_ed25519(),
            config: quiet(),
            store: StoreConfig::default(),
            registry: Registry::default(),
            clock: Arc::new(|| SystemClock.now()),
            asks: None,
            tweak: Box::new(|builder| builder),
            executor: None,
            ip: Ipv4Addr::LOCALHOST,
            learns: true,
        }
    }
}

/// Settings without periodic work during a test.
pub fn quiet() -> BehaviourConfig {
    let hours = Duration::from_secs(24 * 3_600);
    BehaviourConfig::default()
        .with_topology_delay(hours)
        .with_refresh_interval(hours)
        .with_replication_interval(None)
        .with_watch_interval(hours)
        // Writes return once all peers have acknowledged.
        .with_write_policy(WritePolicy::All)
}

impl Setup {
    pub fn with_config(config: BehaviourConfig) -> Self {
        Self { config, ..Self::default() }
    }

    pub fn at(mut self, clock: &(impl Clock + Clone)) -> Self {
        let clock = clock.clone();
        self.clock = Arc::new(move || clock.now());
        self
    }

    pub async fn start(self) -> Peer {
        let Self { keypair, config, store, registry, clock, asks, tweak, executor, ip, learns } =
            self;
        let id = keypair.public().to_peer_id();
        let storage = MemoryStorage::default();
        let store =
            SmartRecordStore::with_storage(id, registry, store, storage, FnClock(clock)).unwrap();
        let mut builder = Behaviour::builder(keypair.clone())
            .with_store(store)
            .unwrap()
            .with_protocol(PROTOCOL)
            .with_config(config);
        if let Some(executor) = executor {
            builder = builder.with_executor(executor);
        }
        if let Some(asks) = asks {
            builder = builder.with_async_validator(Asks(asks));
        }
        let (mut smart, client) = tweak(builder).build();
        smart.kad_mut().set_mode(Some(kad::Mode::Server));
        let agent = identify::Config::new("/test/1.0.0".to_owned(), keypair.public());
        let composed = Composed {
            ping: ping::Behaviour::default(),
            smart,
            blocked: allow_block_list::Behaviour::default(),
            limits: connection_limits::Behaviour::new(ConnectionLimits::default()),
            identify: identify::Behaviour::new(agent),
        };
        let (swarm, address) =
            listening_at(ip, keypair.clone(), composed, CONNECTION_TIMEOUT).await;
        let (outbox, events) = mpsc::unbounded_channel();
        let (tasks, inbox) = mpsc::unbounded_channel();
        let (connections, connected) = watch::channel(BTreeSet::new());
        let (frozen, is_frozen) = watch::channel(false);
        let handle = tokio::spawn(run(swarm, learns, inbox, outbox, connections, is_frozen));
        Peer { id, address, client, keypair, events, connected, frozen, tasks, handle }
    }
}

async fn run(
    mut swarm: Swarm<Composed>,
    learns: bool,
    mut tasks: mpsc::UnboundedReceiver<Task>,
    events: mpsc::UnboundedSender<Event>,
    connections: watch::Sender<BTreeSet<PeerId>>,
    mut is_frozen: watch::Receiver<bool>,
) {
    while is_frozen.wait_for(|is_frozen| !is_frozen).await.is_ok() {
        tokio::select! {
            // Commands run only when the swarm has nothing left to do.
            biased;
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(ComposedEvent::Smart(event)) => {
                    let _ = events.send(event);
                }
                SwarmEvent::Behaviour(ComposedEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) if learns => {
                    for address in info.listen_addrs {
                        swarm.behaviour_mut().smart.kad_mut().add_address(&peer_id, address);
                    }
                }
                SwarmEvent::ConnectionEstablished { .. } | SwarmEvent::ConnectionClosed { .. } => {
                    connections.send_replace(swarm.connected_peers().copied().collect());
                }
                _ => {}
            },
            task = tasks.recv() => match task {
                Some(task) => task(&mut swarm),
                None => return,
            },
            _ = is_frozen.changed() => {}
        }
    }
}

/// The publication of a write, acknowledged or not.
pub fn made(written: Result<Publication, ClientError>) -> Publication {
    written.or_else(ClientError::into_publication).unwrap()
}

impl Peer {
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Runs a function on the swarm.
    pub async fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Swarm<Composed>) -> R + Send + 'static,
    ) -> R {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |swarm| {
            let _ = reply.send(f(swarm));
        });
        assert!(self.tasks.send(task).is_ok(), "the peer runs");
        answer.await.unwrap()
    }

    pub async fn smart<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Behaviour) -> R + Send + 'static,
    ) -> R {
        self.with(move |swarm| f(&mut swarm.behaviour_mut().smart)).await
    }

    pub async fn add(&self, peer: PeerId, address: Multiaddr) {
        self.smart(move |smart| {
            smart.kad_mut().add_address(&peer, address);
        })
        .await;
    }

    /// The record in the peer's own store.
    pub async fn stored(&self, key: &RecordKey) -> Option<SmartRecord> {
        let key = key.clone();
        self.smart(move |smart| smart.store_mut().record(&key).unwrap()).await
    }

    /// Stores a record at the peer directly.
    pub async fn store(&self, record: &SmartRecord) {
        let (key, value) = (record.key().clone(), record.encode());
        self.smart(move |smart| {
            let now = SystemClock.now();
            let checked = libp2p_smart_record::store::ValidatedRecord::new(
                &Registry::default(),
                key,
                &value,
                now,
            );
            smart.store_mut().insert(checked, Origin::Remote).unwrap();
        })
        .await;
    }

    /// Freezes or thaws the peer. A frozen peer accepts what the operating system accepts for it,
    /// and answers nothing.
    pub fn freeze(&self, is_frozen: bool) {
        self.frozen.send_replace(is_frozen);
    }

    /// Wakes the swarm's task, for instance after a clock was moved.
    pub async fn wake(&self) {
        self.smart(|_| ()).await;
    }

    /// Waits for the next event for which `wanted` returns a value.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the peer runs");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Waits until the stored record satisfies `done`.
    pub async fn until_stored(
        &mut self,
        key: &RecordKey,
        done: impl Fn(&SmartRecord) -> bool,
    ) -> SmartRecord {
        loop {
            if let Some(record) = self.stored(key).await
                && done(&record)
            {
                return record;
            }
            self.until(|event| matches!(event, Event::Store(_)).then_some(())).await;
        }
    }

    /// Waits until the connected peers satisfy a condition.
    pub async fn until_connected(&mut self, done: impl FnMut(&BTreeSet<PeerId>) -> bool) {
        self.connected.wait_for(done).await.expect("the peer runs");
    }

    /// Stops the peer's task and keeps the client.
    pub fn stop(self) -> Client {
        self.client.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// A silent peer: connections to it are accepted and never answered.
pub struct Silent(std::net::TcpListener);

impl Silent {
    pub fn start() -> Self {
        Self(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn address(&self) -> Multiaddr {
        let port = self.0.local_addr().unwrap().port();
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }
}

/// Adds all peers to each other's routing tables.
pub async fn mesh(peers: &[&Peer]) {
    for a in peers {
        for b in peers {
            if a.id != b.id {
                a.add(b.id, b.address.clone()).await;
            }
        }
    }
}

pub fn key() -> RecordKey {
    RecordKey::new("/sr/behaviour/board")
}

pub fn says(text: &str) -> Dict {
    [("text", text)].into_iter().collect()
}

pub const MINUTE: Duration = Duration::from_secs(60);

/// The texts in a view, sorted.
pub fn texts(view: &libp2p_smart_record::View) -> Vec<String> {
    let mut texts: Vec<_> = view
        .iter()
        .filter_map(|(_, space)| Some(space.document.get("text")?.to_string()))
        .map(|text| text.trim_matches('"').to_owned())
        .collect();
    texts.sort_unstable();
    texts
}
