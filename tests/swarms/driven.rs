//! A node with a bare `kad::Behaviour` and the driver of a [`Dht`] in the loop that polls its
//! swarm.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    identity::Keypair,
    kad::{self, store::RecordStore},
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_smart_record::{
    Registry,
    dht::{Dht, DhtConfig, DhtDriver},
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_testing_swarms as swarms;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::nodes::PROTOCOL;

pub type Kad = kad::Behaviour<SmartRecordStore>;
/// A function to be run on the task that polls the swarm.
type Task = Box<dyn FnOnce(&mut Kad) + Send>;

/// Kademlia as a server, with a configuration changed by `tweak`.
pub fn kad(local: PeerId, registry: Registry, tweak: fn(&mut kad::Config)) -> Kad {
    let store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
    let mut config = store.kad_config(PROTOCOL);
    tweak(&mut config);
    let mut kad = kad::Behaviour::with_config(local, store, config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

/// A listening swarm and its address.
pub async fn swarm(
    keypair: Keypair,
    registry: Registry,
    tweak: fn(&mut kad::Config),
) -> (Swarm<Kad>, Multiaddr) {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair| kad(keypair.public().to_peer_id(), registry, tweak))
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    (swarm, address)
}

/// Adds a peer to Kademlia that accepts connections and answers nothing.
pub async fn add_silent(kad: &mut Kad) -> (PeerId, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    kad.add_address(&peer, address);
    (peer, listener)
}

/// Polls the swarm until the driver has handled an event for which `is_wanted` holds.
pub async fn drive_until(
    swarm: &mut Swarm<Kad>,
    driver: &mut DhtDriver,
    mut is_wanted: impl FnMut(&kad::Event, &Kad) -> bool,
) {
    loop {
        let SwarmEvent::Behaviour(event) = swarm.select_next_some().await else { continue };
        driver.on_event(&event, swarm.behaviour_mut());
        if is_wanted(&event, swarm.behaviour()) {
            return;
        }
    }
}

/// A node whose swarm runs as a task.
pub struct Driven {
    pub dht: Dht,
    pub peer: PeerId,
    address: Multiaddr,
    tasks: mpsc::UnboundedSender<Task>,
    task: JoinHandle<()>,
}

impl Driven {
    pub async fn start(
        keypair: Keypair,
        registry: Registry,
        config: DhtConfig,
        tweak: fn(&mut kad::Config),
    ) -> Self {
        let (mut swarm, address) = swarm(keypair, registry, tweak).await;
        let (dht, mut driver) = Dht::with_config(config);
        let (tasks, mut inbox) = mpsc::unbounded_channel::<Task>();
        let peer = *swarm.local_peer_id();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(task) = inbox.recv() => task(swarm.behaviour_mut()),
                    Some(command) = driver.next() => driver.run(command, swarm.behaviour_mut()),
                    event = swarm.select_next_some() => {
                        if let SwarmEvent::Behaviour(event) = event {
                            driver.on_event(&event, swarm.behaviour_mut());
                        }
                    }
                }
            }
        });
        Self { dht, peer, address, tasks, task }
    }

    /// Adds this node and another to each other's routing tables.
    pub async fn meet<S: RecordStore + Send>(&self, other: &swarms::Node<S>) {
        let (peer, address) = (other.peer(), other.address());
        self.kad(move |kad| kad.add_address(&peer, address)).await;
        other.add(self.peer, self.address.clone()).await.unwrap();
    }

    /// Runs a function on the node's Kademlia.
    pub async fn kad<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Kad) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let task = move |kad: &mut Kad| drop(reply.send(f(kad)));
        self.tasks.send(Box::new(task)).ok().unwrap();
        answer.await.unwrap()
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.task.abort();
    }
}
