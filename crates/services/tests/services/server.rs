//! A test node that offers a service, as a swarm over TCP in a task. Without a service it is an
//! ordinary node.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId,
    identity::Keypair,
    kad,
    multiaddr::Protocol,
    ping,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_smart_record::{
    Dict, Node, Predicate, RecordKey, Registry, SmartRecord,
    behaviour::{Behaviour, BehaviourConfig},
    client::{Client, ClientError},
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_services::{
    DialPolicy, Dialer, Finding, Service, ServiceBuilder, ServiceConfig, ServiceEvent,
    ServiceEvents, findings,
};
use smart_record_testing_swarms::{PROTOCOL, listening_with};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub const MINUTE: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
struct Composed {
    ping: ping::Behaviour,
    records: Behaviour,
    dialer: Dialer,
}

/// A running node, which stops when it is dropped.
pub struct Server {
    pub id: PeerId,
    /// Ends with the peer id.
    pub address: Multiaddr,
    pub client: Client,
    pub events: ServiceEvents,
    dials: mpsc::UnboundedSender<(DialOpts, oneshot::Sender<()>)>,
    incoming: mpsc::UnboundedReceiver<()>,
    failures: mpsc::UnboundedReceiver<Option<PeerId>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A policy that allows loopback addresses, without rates.
pub fn open() -> DialPolicy {
    DialPolicy::default()
        .with_private_addresses(true)
        .with_host_interval(Duration::ZERO)
        .with_timeout(Duration::from_millis(1_500))
}

/// Settings without rates, and with short delays.
pub fn eager() -> ServiceConfig {
    ServiceConfig::default()
        .with_check_interval(Duration::ZERO)
        .with_writer_interval(Duration::ZERO)
        .with_write_interval(Duration::ZERO)
        .with_scan_interval(Duration::from_millis(10))
        .with_write_delay(Duration::from_millis(10))
}

/// A service for reachability without rates.
pub fn reachability() -> ServiceBuilder {
    Service::builder().with_reachability(open()).with_config(eager())
}

/// Settings without periodic work during a test.
fn quiet() -> BehaviourConfig {
    let hours = Duration::from_secs(24 * 3_600);
    BehaviourConfig::default()
        .with_topology_delay(hours)
        .with_refresh_interval(hours)
        .with_replication_interval(None)
}

impl Server {
    /// A node that knows these others.
    pub async fn start(service: ServiceBuilder, others: &[&Server]) -> Self {
        Self::start_with(service, others, None).await
    }

    /// A node that stores this record before the service begins.
    pub async fn start_with(
        service: ServiceBuilder,
        others: &[&Server],
        stored: Option<SmartRecord>,
    ) -> Self {
        Self::start_in(Registry::default(), service, others, stored).await
    }

    /// A node with its own registry.
    pub async fn start_in(
        registry: Registry,
        service: ServiceBuilder,
        others: &[&Server],
        stored: Option<SmartRecord>,
    ) -> Self {
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let store = SmartRecordStore::with_registry(id, registry, StoreConfig::default());
        let (mut records, client) = Behaviour::builder(keypair.clone())
            .with_store(store)
            .unwrap()
            .with_protocol(PROTOCOL)
            .with_config(quiet())
            .build();
        records.kad_mut().set_mode(Some(kad::Mode::Server));
        for other in others {
            records.kad_mut().add_address(&other.id, other.address.clone());
        }
        if let Some(record) = stored {
            records.store_mut().write(record.key(), &record.encode()).unwrap();
        }
        let Service { dialer, events, task, .. } = service.build(&mut records);
        let composed = Composed { ping: ping::Behaviour::default(), records, dialer };
        let (mut swarm, address) =
            listening_with(keypair, composed, 2 * smart_record_testing_swarms::PATIENCE).await;
        let address = address.with(Protocol::P2p(id));
        let (dials, mut to_dial) = mpsc::unbounded_channel::<(DialOpts, oneshot::Sender<()>)>();
        let (outbox, incoming) = mpsc::unbounded_channel();
        let (failed, failures) = mpsc::unbounded_channel();
        let run = async move {
            let mut waiting: Option<oneshot::Sender<()>> = None;
            loop {
                let event = tokio::select! {
                    event = swarm.select_next_some() => event,
                    Some((opts, reply)) = to_dial.recv() => {
                        swarm.dial(opts).unwrap();
                        waiting = Some(reply);
                        continue;
                    }
                };
                match event {
                    SwarmEvent::IncomingConnection { .. } => {
                        let _ = outbox.send(());
                    }
                    SwarmEvent::OutgoingConnectionError { peer_id, .. } => {
                        let _ = failed.send(peer_id);
                    }
                    SwarmEvent::ConnectionEstablished { .. } => {
                        if let Some(reply) = waiting.take() {
                            let _ = reply.send(());
                        }
                    }
                    _ => {}
                }
            }
        };
        let tasks = [tokio::spawn(run), tokio::spawn(task)];
        Self { id, address, client, events, dials, incoming, failures, tasks }
    }

    /// A node without a service.
    pub async fn plain(others: &[&Server]) -> Self {
        Self::start(Service::builder(), others).await
    }

    /// Connects to another node.
    pub async fn connect(&self, other: &Server) {
        let (reply, done) = oneshot::channel();
        self.dials.send((DialOpts::from(other.address.clone()), reply)).unwrap();
        done.await.unwrap();
    }

    /// Number of incoming connections since the last call.
    pub fn incoming(&mut self) -> usize {
        std::iter::from_fn(|| self.incoming.try_recv().ok()).count()
    }

    /// The peer that the next failed dial names.
    pub async fn failure(&mut self) -> Option<PeerId> {
        self.failures.recv().await.unwrap()
    }

    /// Publishes requests.
    pub async fn asks(&self, requests: impl IntoIterator<Item = Predicate>) {
        self.says(key(), asking(requests), 5 * MINUTE).await;
    }

    /// Publishes a document, also where nobody else is there to take it.
    pub async fn says(&self, key: RecordKey, document: Dict, ttl: Duration) {
        let published = self.client.publish(key, document, ttl).await;
        published.or_else(ClientError::into_publication).unwrap();
    }

    pub async fn event(&mut self) -> ServiceEvent {
        self.events.next().await.expect("the service runs")
    }

    /// The next finding that the service publishes.
    pub async fn published(&mut self) -> Finding {
        loop {
            if let ServiceEvent::Published { finding, .. } = self.event().await {
                return finding;
            }
        }
    }

    /// The findings in the network, each with its writer.
    pub async fn reads(&self) -> Vec<(PeerId, Finding)> {
        let view = self.client.view(key()).await.unwrap();
        findings(&view).map(|(writer, finding)| (writer.peer_id(), finding)).collect()
    }
}

/// Accepts the waiting connections of a listener and returns their number.
pub async fn connections(listener: &TcpListener) -> u64 {
    // Connections are accepted in order, so this one comes after all that wait.
    let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut others = 0;
    while listener.accept().await.unwrap().1 != own.local_addr().unwrap() {
        others += 1;
    }
    others
}

pub fn key() -> RecordKey {
    RecordKey::new("/sr/services/board")
}

/// A document with these requests in it.
pub fn asking(requests: impl IntoIterator<Item = Predicate>) -> Dict {
    let requests: libp2p_smart_record::Set = requests.into_iter().map(Node::from).collect();
    Dict::from([("please", requests)])
}

/// `tag(address=A)`
pub fn about(tag: &str, address: &Multiaddr) -> Predicate {
    Predicate::new(tag).with_named("address", address.to_string())
}
