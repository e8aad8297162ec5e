//! Records in the DHT, through a running `kad::Behaviour` in which only the store was replaced.
//!
//! [`Dht`] is an asynchronous handle without a swarm: it hands what it is asked for through a channel to a [`DhtDriver`], which
//! lives where the user polls the swarm. A [`Client`](crate::client::Client) of a [`Behaviour`](crate::behaviour::Behaviour) does more: it repairs,
//! keeps alive, watches, and notices who withholds.
//!
//! **Invariants.** Neither side panics or hangs when the other is dropped. Commands that wait and operations that run are bounded
//! in number, and each operation in time. A read that nobody waits for any more is ended; a put goes on.
//!
//! **Spec.** `docs/design.md`, sections "Behaviour and client" and "What libp2p-kad does with a store".

mod driver;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    SinkExt,
    channel::{mpsc, oneshot},
    lock::Mutex,
};
use libp2p_identity::PeerId;
use libp2p_kad::K_VALUE;
use smart_record_core::{Fault, RecordKey, settings};

pub use self::driver::{DhtCommand, DhtDriver};
use self::driver::{QUEUE, Request};
use crate::{query::Reading, store::WriteError};

/// Writes and reads records through a bare `kad::Behaviour<SmartRecordStore>`. A clone is the same handle.
///
/// ```no_run
/// # use std::time::Duration;
/// # use libp2p::{Swarm, futures::StreamExt, kad, swarm::SwarmEvent};
/// # use libp2p_smart_record::{dht::Dht, store::SmartRecordStore, *};
/// # async fn run(mut swarm: Swarm<kad::Behaviour<SmartRecordStore>>, mut signer: SpaceSigner) -> Result<(), Box<dyn std::error::Error>> {
/// let (dht, mut driver) = Dht::new();
/// // Where the swarm is polled:
/// tokio::spawn(async move {
///     loop {
///         tokio::select! {
///             Some(command) = driver.next() => driver.run(command, swarm.behaviour_mut()),
///             event = swarm.select_next_some() => if let SwarmEvent::Behaviour(event) = event {
///                 driver.on_event(&event, swarm.behaviour_mut());
///             }
///         }
///     }
/// });
/// // Anywhere:
/// let now = SystemClock.now();
/// signer.merge(r#"{"name": "ada"}"#.parse()?, now, Duration::from_secs(600))?;
/// let peers = dht.put(signer.key().clone(), signer.record(now).encode()).await?;
/// let reading = dht.get("/sr/rooms/lobby").await?;
/// # Ok(())
/// # }
/// ```
///
/// Configure Kademlia with [`SmartRecordStore::kad_config`](crate::store::SmartRecordStore::kad_config). The node that puts a record
/// keeps it alive by Kademlia's replication for as long as it runs, or until the record expires.
#[derive(Clone, Debug)]
pub struct Dht {
    // One sender for all: each clone of one would add a place to the queue.
    commands: Arc<Mutex<mpsc::Sender<DhtCommand>>>,
}

/// The settings of a [`DhtDriver`].
#[derive(Clone, Debug)]
pub struct DhtConfig {
    replicas: NonZeroUsize,
    read_rounds: usize,
    timeout: Duration,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self { replicas: K_VALUE, read_rounds: 16, timeout: Duration::from_secs(60) }
    }
}

settings! { DhtConfig:
    /// How many of the peers closest to a key are sent what is put: the replication factor of the `kad::Config`, from which it
    /// cannot be read. Defaults to Kademlia's own, 20, which is also the most.
    replicas, with_replicas: NonZeroUsize;
    /// How many lookups a read of a large record takes at most. Defaults to 16: a board of 200 KB takes a handful.
    read_rounds, with_read_rounds: usize;
    /// How long a read or a put takes at most, whatever peers do. A read then comes to what was found until then. Defaults to 60
    /// seconds, as Kademlia gives to each query.
    timeout, with_timeout: Duration;
}

/// Why the DHT could not be asked, or did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DhtError {
    /// The driver was dropped, or dropped the question: nobody polls the swarm any more.
    #[error("the driver of the DHT has stopped")]
    DriverStopped,
    /// Nobody answered in time, or not all of a record could be sent in time.
    #[error("the time was up before the peers had answered")]
    TimedOut,
    /// The rules of its namespace refuse the key or the record, or the store of this node has no room for it.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The record is stored on this node, but no other peer took all of it.
    #[error("no other peer took the record")]
    NotReplicated,
}

impl DhtError {
    /// The class of the refusal; `None` if nothing was refused.
    pub const fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused(error) => error.fault(),
            Self::DriverStopped | Self::TimedOut | Self::NotReplicated => None,
        }
    }
}

impl Dht {
    /// A handle and its driver, with all defaults.
    pub fn new() -> (Self, DhtDriver) {
        Self::with_config(DhtConfig::default())
    }

    /// A handle and its driver.
    pub fn with_config(config: DhtConfig) -> (Self, DhtDriver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { commands: Arc::new(Mutex::new(sender)) }, DhtDriver::new(receiver, config))
    }

    /// Puts the bytes of a record that is signed already: a smart record, usually what
    /// [`SpaceSigner::record`](smart_record_core::SpaceSigner::record) says, or a value of another
    /// namespace. Stores it here, looks up the peers closest to its key once, and sends each of
    /// them all of it, a smart record in as many chunks as it takes. Returns the peers that took
    /// all of it.
    ///
    /// An acknowledgement does not prove storage: replicas acknowledge records that they refuse. [`get`](Self::get) tells who
    /// has what, with [`Reading::holders_of`].
    ///
    /// # Errors
    /// [`DhtError::Refused`] if nothing of it is good, the latest of a single space is refused, or no packet carries the value
    /// ([`StoreConfig::chunk_bytes`](crate::store::StoreConfig::chunk_bytes)),
    /// [`DhtError::NotReplicated`] if no other peer took all of it, and as [`get`](Self::get).
    pub async fn put(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Vec<PeerId>, DhtError> {
        let (key, value) = (key.into(), value.into());
        self.ask(|reply| Request::Put { key, value, reply }).await
    }

    /// Reads a record from all peers closest to the key and from this node: each answer by the rules of its namespace, all good
    /// ones together. A record of which a peer shows but a slice is looked up again until nothing new arrives.
    ///
    /// Nothing is stored here, nobody is repaired and nothing remembered, so [`Reading::stale`] and [`Reading::withheld`] are
    /// empty.
    ///
    /// # Errors
    /// [`DhtError::Refused`] if nothing is registered for the key or it has not the form of its namespace's keys,
    /// [`DhtError::TimedOut`] if nobody answered in time, and [`DhtError::DriverStopped`].
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Reading, DhtError> {
        let key = key.into();
        self.ask(|reply| Request::Get { key, reply }).await
    }

    /// Sends a value to these peers, and stores it here if `here`, to be kept for `lifetime` at most. Whether they take it is not
    /// waited for.
    #[cfg(feature = "signed")]
    pub(crate) async fn send_to(
        &self,
        key: RecordKey,
        value: Bytes,
        lifetime: Duration,
        here: bool,
        peers: Vec<PeerId>,
    ) -> Result<(), DhtError> {
        self.send(Request::Send { key, value, lifetime, here, peers }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, DhtError>>) -> Request,
    ) -> Result<T, DhtError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await?;
        answer.await.map_err(|_| DhtError::DriverStopped)?
    }

    async fn send(&self, request: Request) -> Result<(), DhtError> {
        let mut commands = self.commands.lock().await;
        commands.send(DhtCommand(request)).await.map_err(|_| DhtError::DriverStopped)
    }
}
