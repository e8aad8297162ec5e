//! A ready node: a swarm with the [`Behaviour`] and what else a node needs, as a tokio task.
//!
//! A [`Host`] is a node of the DHT.
//!
//! | it has | for |
//! |---|---|
//! | TCP and QUIC, Noise and TLS, Yamux | connections with libp2p in any language |
//! | names in addresses (`/dns`, `/dns4`, `/dns6`, `/dnsaddr`) | addresses that outlive a machine |
//! | identify | others learn that it serves the DHT, and at which addresses; without it nobody does |
//! | ping | JavaScript nodes take no peer into their routing table that does not answer a ping |
//! | [limits of connections](ConnectionLimits), by the files that the process may have open | strangers that connect and stay silent cannot shut it off |
//! | [attempts](HostBuilder::bootstrap) to join, with growing pauses | nodes start in any order |
//! | dials through relays, and hole punching | it reaches nodes behind a NAT |
//! | AutoNAT, an [option](HostBuilder::with_autonat) | a node that nobody can reach becomes a client |
//! | relays, an [option](HostBuilder::with_relay), and to [be one](HostBuilder::as_relay) | nodes behind a NAT can be reached |
//! | a private network, an [option](HostBuilder::with_private_network) | strangers cannot connect |
//!
//! Connections on which nothing happens are closed after a minute.
//!
//! **Invariants.** The task ends when the last [`Client`] is dropped, including the one in the
//! [`Host`].

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod backoff;
mod builder;
mod counters;
mod handshakes;
mod limits;
mod parts;
mod resolver;
mod task;
mod transport;

use futures::{SinkExt, channel::mpsc, channel::oneshot};
use libp2p::{
    Multiaddr, PeerId, TransportError, core::ConnectedPoint, identity::Keypair, swarm::ConnectionId,
};
use tokio::task::JoinHandle;

pub use self::{
    builder::HostBuilder,
    counters::{ConnectionLimit, HostCounters},
    limits::ConnectionLimits,
    resolver::SystemResolver,
};
use self::{
    counters::SharedCounters,
    task::{HostTask, SwarmRequest},
};
use libp2p_smart_record::{behaviour::Behaviour, client::Client};

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The transport could not be set up, or listening on an address failed.
    #[error("failed to set up the transport: {0}")]
    Transport(String),
    /// The address of a bootstrap peer or a relay does not end in `/p2p/<peer id>`.
    #[error("the address {0} does not end in /p2p/<peer id>")]
    NoPeer(Multiaddr),
    /// The future was polled outside of a tokio runtime.
    #[error("a node needs a tokio runtime")]
    NoRuntime,
    /// The node's task has ended.
    #[error("the node has stopped")]
    Stopped,
}

impl From<TransportError<std::io::Error>> for HostError {
    fn from(error: TransportError<std::io::Error>) -> Self {
        Self::Transport(error.to_string())
    }
}

/// Whether other nodes can reach this one, as far as they have told it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reachability {
    /// Nobody has checked it, as without [`HostBuilder::with_autonat`].
    Unknown,
    /// At this address.
    Public(Multiaddr),
    /// They cannot, because of a NAT or a firewall.
    Private,
}

/// What a node does at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostStatus {
    /// Connected peers.
    pub peers: usize,
    /// Connections that others have made.
    pub inbound: usize,
    /// Peers in the routing table.
    pub known: usize,
    /// Whether it serves others: stores their records and answers their requests.
    pub is_server: bool,
    /// Whether others can reach it.
    pub reachability: Reachability,
}

/// A running node of the DHT, on tokio.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use smart_record_host::Host;
///
/// let node = Host::builder().listen_on("/ip4/0.0.0.0/tcp/0".parse()?).start().await?;
/// println!("{:?}", node.addresses().await?);
/// println!("{:?}", node.client().view("/sr/rooms/lobby").await?);
/// # Ok(())
/// # }
/// ```
pub struct Host {
    client: Client,
    peer: PeerId,
    requests: mpsc::Sender<SwarmRequest>,
    counters: SharedCounters,
    task: JoinHandle<()>,
}

impl Host {
    /// A builder of a node with a fresh key, a store in memory and default settings, that listens
    /// nowhere.
    pub fn builder() -> HostBuilder {
        HostBuilder::with_keypair(Keypair::generate_ed25519())
    }

    /// The client, which is cheap to clone.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The peer id.
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The addresses on which the node listens, and those through its relays, as others can dial
    /// them. Without link-local addresses of IPv6: they need the name of an interface of the
    /// dialing machine.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, HostError> {
        self.ask(|host| host.addresses()).await
    }

    /// What the node does at the moment.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn status(&self) -> Result<HostStatus, HostError> {
        self.ask(HostTask::status).await
    }

    /// Counters of what the limits of the node refuse. Those of its behaviour, store and service
    /// are not among them.
    pub fn counters(&self) -> HostCounters {
        self.counters.get()
    }

    /// The connected peers.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerId>, HostError> {
        self.ask(|host| host.swarm.connected_peers().copied().collect()).await
    }

    /// The connections with a peer, oldest first: their ids, and who has made them at which
    /// addresses. A connection that is opened again has another id.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn connections(
        &self,
        peer: PeerId,
    ) -> Result<Vec<(ConnectionId, ConnectedPoint)>, HostError> {
        self.ask(move |host| host.connections(&peer).to_vec()).await
    }

    /// Runs a function on the behaviour, for access to Kademlia, the store or the counters. It runs
    /// on the swarm's task and blocks the node, so keep it short.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Behaviour) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        self.ask(|host| work(host.records())).await
    }

    /// Drops the handle and waits until the task ends, which it does once all clones of the client
    /// are dropped, and what they have begun is over: what dropped handles withdraw, for instance.
    /// That takes two seconds at most; what takes longer is given up.
    pub async fn ended(self) {
        let Self { client, requests, task, .. } = self;
        drop((client, requests));
        // A cancelled task has ended as well.
        let _ = task.await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HostTask) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        let request: SwarmRequest = Box::new(move |host| {
            // The caller may have given up.
            let _ = reply.send(work(host));
        });
        let mut requests = self.requests.clone();
        requests.send(request).await.map_err(|_| HostError::Stopped)?;
        answer.await.map_err(|_| HostError::Stopped)
    }
}

libp2p_smart_record::impl_debug! { Host: |node| peer: node.peer }
