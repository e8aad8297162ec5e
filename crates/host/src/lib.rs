//! A ready node: a swarm with TCP, QUIC, Noise, Yamux, identify and the [`Behaviour`], as a tokio
//! task.
//!
//! A [`Host`] is a node of the DHT.
//!
//! **Invariants.** The task ends when the last [`Client`] is dropped, including the one in the
//! [`Host`].

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod builder;
mod resolver;
mod task;

use futures::{SinkExt, channel::mpsc, channel::oneshot};
use libp2p::{Multiaddr, PeerId, TransportError, identity::Keypair, swarm::ConnectionId};
use tokio::task::JoinHandle;

use self::task::{HostTask, SwarmRequest};
pub use self::{builder::HostBuilder, resolver::SystemResolver};
use libp2p_smart_record::{behaviour::Behaviour, client::Client};

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The transport could not be set up, or listening on an address failed.
    #[error("failed to set up the transport: {0}")]
    Transport(String),
    /// The address of a bootstrap peer does not end in `/p2p/<peer id>`.
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

    /// The addresses on which the node listens.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, HostError> {
        self.ask(|host| host.swarm.listeners().cloned().collect()).await
    }

    /// The connected peers.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerId>, HostError> {
        self.ask(|host| host.swarm.connected_peers().copied().collect()).await
    }

    /// The connections with a peer, oldest first. A connection that is opened again has another id.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn connections(&self, peer: PeerId) -> Result<Vec<ConnectionId>, HostError> {
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
    /// are dropped.
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
