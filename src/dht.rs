//! Reads and writes records through a plain `kad::Behaviour` whose store is a
//! [`SmartRecordStore`](crate::store::SmartRecordStore).
//!
//! [`Dht`] is an asynchronous handle. It sends commands through a channel to a [`DhtDriver`], which
//! runs where the application polls the swarm. A [`Client`](crate::client::Client) of a
//! [`Behaviour`](crate::behaviour::Behaviour) does more: it repairs replicas, keeps records alive,
//! watches keys, and detects withheld records.
//!
//! **Invariants.** Neither side panics or hangs when the other is dropped, or not polled. The
//! numbers of queued commands and running operations are bounded, and so is the duration of each
//! operation. A read whose caller is gone is ended; a put continues.
//!
//! **Spec.** `docs/design.md`, sections "Behaviour and client" and "What libp2p-kad does with a
//! store".

mod driver;
mod put;

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
use crate::{
    pulse::{NotPolled, Pulse},
    query::{Reading, RefusedAnswers},
    store::WriteError,
};

/// Writes and reads records through a plain `kad::Behaviour<SmartRecordStore>`. Clones share one
/// driver.
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
/// Configure Kademlia with
/// [`SmartRecordStore::kad_config`](crate::store::SmartRecordStore::kad_config). Kademlia's
/// replication on the node that puts a record keeps the record alive as long as the node runs, or
/// until the record expires.
#[derive(Clone, Debug)]
pub struct Dht {
    // One shared sender: each clone of a sender would add a slot to the queue.
    commands: Arc<Mutex<mpsc::Sender<DhtCommand>>>,
    pulse: Pulse,
}

/// The settings of a [`DhtDriver`].
#[derive(Clone, Debug)]
pub struct DhtConfig {
    replicas: NonZeroUsize,
    read_rounds: usize,
    timeout: Duration,
    poll_timeout: Duration,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            replicas: K_VALUE,
            read_rounds: crate::query::RecordReader::ROUNDS,
            timeout: Duration::from_secs(60),
            poll_timeout: Duration::from_secs(10),
        }
    }
}

settings! { DhtConfig:
    /// Number of peers closest to a key that a put sends the record to: the replication factor of
    /// the `kad::Config`, which cannot be read from there. Defaults to 20, Kademlia's own value and
    /// the maximum.
    replicas, with_replicas: NonZeroUsize;
    /// Maximum number of lookups per read of a large record. Defaults to 32: a board of 200 KB
    /// takes some ten.
    read_rounds, with_read_rounds: usize;
    /// Maximum duration of a read or a put. A read then returns what it has found so far. Defaults
    /// to 60 seconds, Kademlia's own query timeout.
    timeout, with_timeout: Duration;
    /// How long a call waits for the driver to be polled, before it fails with
    /// [`DhtError::NotPolled`]. Defaults to ten seconds. With zero, it waits without end.
    poll_timeout, with_poll_timeout: Duration;
}

/// Errors of [`Dht`] calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DhtError {
    /// The driver was dropped, or dropped the command: the swarm is no longer polled.
    #[error("the driver of the DHT has stopped")]
    DriverStopped,
    /// Nobody has polled [`DhtDriver::next`] for [`poll_timeout`](DhtConfig::poll_timeout) while
    /// the call waited: its task is blocked, or awaits the call itself. Poll driver and swarm in a
    /// task of their own. A put may still be done later, when the driver is polled again.
    #[error(
        "nobody polls the driver of the DHT while the call waits; poll it in a task of its own"
    )]
    NotPolled,
    /// No peer answered in time, or not all of a record could be sent in time.
    #[error("the operation timed out")]
    TimedOut,
    /// No peer could be reached, and this node holds nothing under the key: what others hold is
    /// unknown. A node without any peer in its routing table is alone and reads its own store.
    #[error("no peer could be reached, so what is under the key is unknown")]
    Unreachable,
    /// Peers answered, and what they showed was refused. This node holds nothing, so what is under
    /// the key is unknown. See [`Reading::refusal`].
    #[error("nothing valid was found: {0}")]
    AnswersRefused(RefusedAnswers),
    /// The rules of the key's namespace refuse the key or the record, or the local store has no
    /// room for it.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The record is stored on this node, but no other peer took all of it.
    #[error("no other peer took the record")]
    NotReplicated,
}

impl DhtError {
    /// The class of the refusal; `None` if nothing was refused.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused(error) => error.fault(),
            Self::AnswersRefused(refused) => refused.fault(),
            Self::DriverStopped
            | Self::NotPolled
            | Self::TimedOut
            | Self::Unreachable
            | Self::NotReplicated => None,
        }
    }
}

impl From<NotPolled> for DhtError {
    fn from(NotPolled: NotPolled) -> Self {
        Self::NotPolled
    }
}

impl From<RefusedAnswers> for DhtError {
    fn from(refused: RefusedAnswers) -> Self {
        Self::AnswersRefused(refused)
    }
}

impl Dht {
    /// Returns a handle and its driver, with default settings.
    pub fn new() -> (Self, DhtDriver) {
        Self::with_config(DhtConfig::default())
    }

    /// Returns a handle and its driver.
    pub fn with_config(config: DhtConfig) -> (Self, DhtDriver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pulse = Pulse::new(config.poll_timeout());
        let driver = DhtDriver::new(receiver, config, pulse.clone());
        (Self { commands: Arc::new(Mutex::new(sender)), pulse }, driver)
    }

    /// Puts the bytes of a signed record: a smart record, usually from
    /// [`SpaceSigner::record`](smart_record_core::SpaceSigner::record), or a value of another
    /// namespace. Stores it locally, reads the key, looks up the peers closest to it, and sends all
    /// of it to each of them, a smart record in as many chunks as needed. Returns the peers that
    /// acknowledged all of it.
    ///
    /// Peers with another implementation keep the last record that they are sent. So what the read
    /// and the own store have of a smart record is sent along if all of it fits into one packet,
    /// and a value is sent with what it combines with. A larger smart record is sent alone: such a
    /// peer then loses what others have written there. A [`Client`](crate::client::Client) sends it
    /// what it had.
    ///
    /// The read takes half of the [`timeout`](DhtConfig::timeout) at most. What it has found by
    /// then is sent along.
    ///
    /// An acknowledgement does not prove storage: replicas acknowledge records they refuse. To see
    /// who holds what, call [`get`](Self::get) and [`Reading::holders_of`].
    ///
    /// Readers over Kademlia's own queries, as those of a `Dht`, get no answer of more than 16 KiB,
    /// with the addresses of up to 20 peers in it. A smart record is shown in slices that fit
    /// beside three addresses of each peer, a value as it is. So a value of more than 8 KiB
    /// ([`StoreConfig::slice_bytes`](crate::store::StoreConfig::slice_bytes)) may be readable for
    /// none of them among many peers, although it is taken. A
    /// [`Behaviour`](crate::behaviour::Behaviour) reads answers of up to 256 KiB.
    ///
    /// # Errors
    /// [`DhtError::Refused`] if no part of the record is valid, the latest update of a single space
    /// is refused, something better than the value is found
    /// ([`ValidationError::Stale`](smart_record_core::ValidationError::Stale); nothing is sent), or
    /// the value does not fit into one packet
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

    /// Reads a record from all peers closest to the key and from this node. Validates each answer
    /// by the rules of the namespace and combines the valid ones. Repeats the lookup of a record
    /// that peers show in slices until two of them have covered every part of it.
    ///
    /// Stores, repairs and remembers nothing, so [`Reading::stale`] and [`Reading::withheld`] are
    /// empty.
    ///
    /// # Errors
    /// [`DhtError::Refused`] if the key has no registered namespace or is not a valid key of its
    /// namespace, [`DhtError::TimedOut`] if no peer answered in time, [`DhtError::Unreachable`] if
    /// peers are known, none was reached and this node holds nothing, [`DhtError::AnswersRefused`]
    /// if nothing valid was found and not more peers have said that there is nothing than gave
    /// answers that were refused, [`DhtError::DriverStopped`] and [`DhtError::NotPolled`].
    pub async fn get(&self, key: impl Into<RecordKey>) -> Result<Reading, DhtError> {
        let key = key.into();
        self.ask(|reply| Request::Get { key, reply }).await
    }

    /// Sends a value to these peers, and stores it locally if `here`, for `lifetime` at most. Does
    /// not wait for acknowledgements.
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
        self.pulse.wait_for(answer).await?.map_err(|_| DhtError::DriverStopped)?
    }

    async fn send(&self, request: Request) -> Result<(), DhtError> {
        let send = async {
            let mut commands = self.commands.lock().await;
            commands.send(DhtCommand(request)).await.map_err(|_| DhtError::DriverStopped)
        };
        self.pulse.wait_for(send).await?
    }
}
