//! A ready swarm for those who have none: TCP and QUIC, Noise, Yamux, identify and the [`Behaviour`], as a task.
//!
//! The type is [`host::Node`](Node), a node of the DHT; [`crate::Node`] is a node of a document.
//!
//! **Invariants.** The task ends when the last [`Client`] is gone, that in the [`Node`] among them.

use std::{convert::Infallible, fmt, io, net::IpAddr, time::Duration};

use futures::{
    SinkExt, StreamExt,
    channel::{mpsc, oneshot},
    future::{BoxFuture, FutureExt},
};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, identify,
    identity::Keypair,
    kad,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use libp2p_swarm::StreamProtocol;
use tokio::task::JoinHandle;

use crate::{
    behaviour::{Behaviour, BehaviourConfig, Builder, Event},
    client::Client,
    meter::Meter,
    services::{Dialer, Resolve, ServiceBuilder},
    store::{MemoryStorage, SmartRecordStore, Storage},
};

/// How long a connection is kept on which nothing happens: long enough for a lookup to come back to a peer.
const IDLE: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "HostEvent")]
struct Composed<S: Storage> {
    records: Behaviour<S>,
    identify: identify::Behaviour,
    dialer: Toggle<Dialer>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for a moment")]
enum HostEvent {
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

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The transport could not be set up, or an address not be listened on.
    #[error("the transport could not be set up: {0}")]
    Transport(String),
    /// An address of a bootstrap peer does not end in `/p2p/<peer id>`.
    #[error("{0} does not name the peer: it should end in /p2p/<peer id>")]
    NoPeer(Multiaddr),
    /// The node's task has ended.
    #[error("the node has stopped")]
    Stopped,
}

impl From<TransportError<std::io::Error>> for HostError {
    fn from(error: TransportError<std::io::Error>) -> Self {
        Self::Transport(error.to_string())
    }
}

/// What is asked of the node's task.
type Request<S> = Box<dyn FnOnce(&mut Swarm<Composed<S>>) + Send>;

/// A running node of the DHT, on tokio.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use libp2p_smart_record::host::Node;
///
/// let node = Node::builder().listen_on("/ip4/0.0.0.0/tcp/0".parse()?).start().await?;
/// println!("{:?}", node.addresses().await?);
/// println!("{:?}", node.client().view("/sr/rooms/lobby").await?);
/// # Ok(())
/// # }
/// ```
pub struct Node<S: Storage = MemoryStorage> {
    client: Client,
    peer: PeerId,
    requests: mpsc::Sender<Request<S>>,
    task: JoinHandle<()>,
}

/// Sets up a [`Node`].
#[must_use = "call `start`"]
pub struct NodeBuilder<S: Storage = MemoryStorage> {
    keypair: Keypair,
    records: Builder<S>,
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    mode: Option<kad::Mode>,
    meter: Meter,
    service: Option<ServiceBuilder>,
}

impl Node {
    /// A node with a fresh key, a store in memory and all defaults, that listens nowhere.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::with_keypair(Keypair::generate_ed25519())
    }
}

impl<S: Storage> Node<S> {
    /// The client; clone it freely.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Who the node is.
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, HostError> {
        self.ask(|swarm| swarm.listeners().cloned().collect()).await
    }

    /// With whom it is connected.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerId>, HostError> {
        self.ask(|swarm| swarm.connected_peers().copied().collect()).await
    }

    /// Runs a function on the behaviour, where the swarm is polled: for what is asked of Kademlia itself, of the store, or
    /// of the counters. Keep it short; the node does nothing else meanwhile.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Behaviour<S>) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        self.ask(|swarm| work(&mut swarm.behaviour_mut().records)).await
    }

    /// Gives up the handle and waits for the task to end, which it does when all clones of the client are gone.
    pub async fn ended(self) {
        let Self { client, requests, task, .. } = self;
        drop((client, requests));
        // If it was cancelled it has ended, too.
        let _ = task.await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Swarm<Composed<S>>) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        let request: Request<S> = Box::new(move |swarm| {
            // Whoever asked may have lost interest.
            let _ = reply.send(work(swarm));
        });
        let mut requests = self.requests.clone();
        requests.send(request).await.map_err(|_| HostError::Stopped)?;
        answer.await.map_err(|_| HostError::Stopped)
    }
}

impl NodeBuilder {
    /// A node with this key.
    pub fn with_keypair(keypair: Keypair) -> Self {
        Self {
            records: Behaviour::builder(keypair.clone()),
            keypair,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mode: None,
            meter: Meter::default(),
            service: None,
        }
    }
}

impl<S: Storage> NodeBuilder<S> {
    /// The store, in the place of one in memory for smart records: of other records, or in a file. It has to be of the keypair's
    /// peer.
    pub fn with_store<T: Storage>(self, store: SmartRecordStore<T>) -> NodeBuilder<T> {
        let Self { keypair, records, listen, external, bootstrap, mode, meter, service } = self;
        let records = records.with_store(store);
        NodeBuilder { keypair, records, listen, external, bootstrap, mode, meter, service }
    }

    /// Has `metrics` show what the node does, its events among it.
    #[cfg(feature = "metrics")]
    pub fn with_metrics(mut self, metrics: &crate::metrics::Metrics) -> Self {
        self.records = self.records.with_metrics(metrics);
        self.meter = Meter::of(metrics);
        self
    }

    /// The settings of the behaviour.
    pub fn with_config(mut self, config: BehaviourConfig) -> Self {
        self.records = self.records.with_config(config);
        self
    }

    /// The protocol of the DHT. Defaults to that of the IPFS DHT.
    pub fn with_protocol(mut self, protocol: StreamProtocol) -> Self {
        self.records = self.records.with_protocol(protocol);
        self
    }

    /// Listens on an address, TCP or QUIC. May be called again for more.
    pub fn listen_on(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// An address at which others reach the node. Without one, and without
    /// [`with_mode`](Self::with_mode), the node is a client until identify has found one out.
    pub fn with_external_address(mut self, address: Multiaddr) -> Self {
        self.external.push(address);
        self
    }

    /// Whether the node answers others, whatever is known of its addresses.
    pub fn with_mode(mut self, mode: kad::Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// A peer by which the node finds the others; the address ends in `/p2p/<peer id>`. May be called again.
    pub fn bootstrap(mut self, address: Multiaddr) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// Has the node offer a service: see [`services`](crate::services). Its events are not to be had here.
    pub fn with_service(mut self, service: ServiceBuilder) -> Self {
        self.service = Some(service);
        self
    }

    /// Starts the node, and returns once it listens.
    ///
    /// # Errors
    /// [`HostError`] if an address is no good.
    pub async fn start(self) -> Result<Node<S>, HostError> {
        let Self { keypair, records, listen, external, bootstrap, mode, meter, service } = self;
        let peer = keypair.public().to_peer_id();
        let (mut records, client) = records.build();
        if mode.is_some() {
            records.kad_mut().set_mode(mode);
        }
        for address in bootstrap {
            let Some(Protocol::P2p(peer)) = address.iter().last() else {
                return Err(HostError::NoPeer(address));
            };
            records.kad_mut().add_address(&peer, address);
        }
        let agent = concat!("libp2p-smart-record/", env!("CARGO_PKG_VERSION"));
        let agent = identify::Config::new("/ipfs/0.1.0".to_owned(), keypair.public())
            .with_agent_version(agent.to_owned());
        let service = service.map(|service| service.build(&mut records, &client));
        let (dialer, work) = service.map(|service| (service.dialer, service.task)).unzip();
        let identify = identify::Behaviour::new(agent);
        let composed = Composed { records, identify, dialer: Toggle::from(dialer) };
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_quic()
            .with_behaviour(|_| composed)
            .map_err(|error| HostError::Transport(error.to_string()))?
            .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
            .build();
        external.into_iter().for_each(|address| swarm.add_external_address(address));
        for address in listen {
            let listener = swarm.listen_on(address)?;
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == listener => {
                        break;
                    }
                    SwarmEvent::ListenerClosed { listener_id, reason, .. }
                        if listener_id == listener =>
                    {
                        let reason = reason.err().map(|error| error.to_string());
                        return Err(HostError::Transport(reason.unwrap_or_default()));
                    }
                    event => on_event(&mut swarm, event, &meter),
                }
            }
        }
        let (requests, inbox) = mpsc::channel(1);
        tracing::info!(%peer, addresses = ?swarm.listeners().collect::<Vec<_>>(), "listens");
        let task = tokio::spawn(run(swarm, inbox, meter));
        if let Some(work) = work {
            // It ends with the swarm.
            tokio::spawn(work);
        }
        Ok(Node { client, peer, requests, task })
    }
}

async fn run<S: Storage>(
    mut swarm: Swarm<Composed<S>>,
    inbox: mpsc::Receiver<Request<S>>,
    meter: Meter,
) {
    let mut inbox = inbox.fuse();
    loop {
        futures::select! {
            request = inbox.next() => if let Some(request) = request {
                request(&mut swarm);
            },
            event = swarm.select_next_some().fuse() => match event {
                SwarmEvent::Behaviour(HostEvent::Records(Event::ClientsGone)) => {
                    meter.event(&Event::ClientsGone);
                    return;
                }
                event => on_event(&mut swarm, event, &meter),
            }
        }
    }
}

fn on_event<S: Storage>(
    swarm: &mut Swarm<Composed<S>>,
    event: SwarmEvent<HostEvent>,
    meter: &Meter,
) {
    match event {
        SwarmEvent::Behaviour(HostEvent::Records(event)) => meter.event(&event),
        SwarmEvent::Behaviour(HostEvent::Identify(identify::Event::Received {
            peer_id,
            info,
            ..
        })) => {
            let kad = swarm.behaviour_mut().records.kad_mut();
            // Only those who speak the protocol are of use to Kademlia.
            let is_of_use = info.protocols.iter().any(|it| kad.protocol_names().contains(it));
            let addresses = info.listen_addrs.len();
            tracing::debug!(peer = %peer_id, is_of_use, addresses, "a peer has identified itself");
            if is_of_use {
                for address in info.listen_addrs {
                    kad.add_address(&peer_id, address);
                }
            }
        }
        SwarmEvent::ConnectionEstablished { peer_id, num_established, .. } => {
            tracing::debug!(peer = %peer_id, connections = num_established, "connected");
        }
        SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
            tracing::debug!(peer = %peer_id, connections = num_established, "disconnected");
        }
        SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
            tracing::debug!(%peer, %error, "not connected");
        }
        _ => {}
    }
}

/// Resolves names as the machine does, for a [service](NodeBuilder::with_service) that is to dial addresses with names in
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        // A port has to be named, and is ignored.
        let host = (name.to_owned(), 0);
        async move { Ok(tokio::net::lookup_host(host).await?.map(|found| found.ip()).collect()) }
            .boxed()
    }
}

impl<S: Storage> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: Storage> fmt::Debug for NodeBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder").field("listen", &self.listen).finish_non_exhaustive()
    }
}
