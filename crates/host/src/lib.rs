//! A ready swarm for those who have none: TCP and QUIC, Noise, Yamux, identify and the [`Behaviour`], as a task.
//!
//! A [`Host`] is a node of the DHT. `builder` sets it up, `task` runs it, `resolver` looks up
//! names.
//!
//! **Invariants.** The task ends when the last [`Client`] is gone, that in the [`Host`] among them.

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

use self::task::{HostTask, Request};
pub use self::{builder::HostBuilder, resolver::SystemResolver};
use libp2p_smart_record::{behaviour::Behaviour, client::Client};

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
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

impl Host {
    /// A node with a fresh key, a store in memory and all defaults, that listens nowhere.
    pub fn builder() -> HostBuilder {
        HostBuilder::with_keypair(Keypair::generate_ed25519())
    }

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
        self.ask(|host| host.swarm.listeners().cloned().collect()).await
    }

    /// With whom it is connected.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerId>, HostError> {
        self.ask(|host| host.swarm.connected_peers().copied().collect()).await
    }

    /// The connections with a peer, the oldest first. One that was opened again is another one.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn connections(&self, peer: PeerId) -> Result<Vec<ConnectionId>, HostError> {
        self.ask(move |host| host.connections(&peer).to_vec()).await
    }

    /// Runs a function on the behaviour, where the swarm is polled: for what is asked of Kademlia itself, of the store, or
    /// of the counters. Keep it short; the node does nothing else meanwhile.
    ///
    /// # Errors
    /// [`HostError::Stopped`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Behaviour) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        self.ask(|host| work(host.records())).await
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
        work: impl FnOnce(&mut HostTask) -> T + Send + 'static,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        let request: Request = Box::new(move |host| {
            // Whoever asked may have lost interest.
            let _ = reply.send(work(host));
        });
        let mut requests = self.requests.clone();
        requests.send(request).await.map_err(|_| HostError::Stopped)?;
        answer.await.map_err(|_| HostError::Stopped)
    }
}

libp2p_smart_record::impl_debug! { Host: |node| peer: node.peer }
