//! Records in the DHT, through a running `kad::Behaviour`.
//!
//! The backend has no swarm: it hands its questions through a channel to a [`DhtDriver`], which lives where
//! the user polls the swarm.
//!
//! **Invariants.** Neither side panics or hangs when the other is dropped. Commands that wait and queries that
//! run are bounded in number. A lookup that nobody waits for any more is ended; a put goes on.
//!
//! **Spec.** `docs/design.md`, "What libp2p-kad does with a store".

mod driver;

use std::sync::Arc;

use bytes::Bytes;
use futures::{
    SinkExt,
    channel::{mpsc, oneshot},
    lock::Mutex,
};

pub use self::driver::{DhtCommand, DhtDriver};
use self::driver::{QUEUE, Request};
use super::backend::{Correction, Found, RecordBackend};
use crate::{key::RecordKey, store::WriteError};

/// Keeps records in the DHT: the handle. A clone is the same.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use libp2p::{Swarm, futures::StreamExt, identity::Keypair, kad, swarm::SwarmEvent};
/// # use libp2p_smart_record::*;
/// # async fn run(mut swarm: Swarm<kad::Behaviour<SmartRecordStore>>, keypair: Keypair, registry: Arc<Registry>) {
/// let (backend, mut driver) = DhtBackend::new();
/// let manager = RecordManager::new(keypair, registry, backend);
/// // Where the swarm is polled:
/// loop {
///     tokio::select! {
///         Some(command) = driver.next() => driver.run(command, swarm.behaviour_mut()),
///         event = swarm.select_next_some() => if let SwarmEvent::Behaviour(event) = event {
///             driver.on_event(&event, swarm.behaviour_mut());
///         }
///     }
/// }
/// # }
/// ```
///
/// Use it with a store whose registry is the manager's, and with
/// [`SmartRecordStore::kad_config`](crate::SmartRecordStore::kad_config). The node that puts a record keeps it
/// alive by replication for as long as it runs, or until the record expires; a copy that was read lives no
/// longer than those of its holders.
#[derive(Clone, Debug)]
pub struct DhtBackend {
    // One sender for all: each clone of one would add a place to the queue.
    commands: Arc<Mutex<mpsc::Sender<DhtCommand>>>,
}

/// Why the DHT could not be asked, or did not take a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DhtError {
    /// The driver was dropped, or dropped the question: nobody polls the swarm any more.
    #[error("the driver of the DHT has stopped")]
    DriverStopped,
    /// Nobody answered in time.
    #[error("the lookup timed out")]
    TimedOut,
    /// The store of this node refused the record.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// The record is stored on this node, but no other peer took it.
    #[error("no other peer took the record")]
    NotReplicated,
}

impl DhtBackend {
    /// A backend and its driver.
    pub fn new() -> (Self, DhtDriver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { commands: Arc::new(Mutex::new(sender)) }, DhtDriver::new(receiver))
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

impl RecordBackend for DhtBackend {
    type Error = DhtError;

    async fn fetch(&self, key: &RecordKey) -> Result<Found, DhtError> {
        let key = key.clone();
        self.ask(|reply| Request::Fetch { key, reply }).await
    }

    async fn store(&self, key: &RecordKey, value: Bytes) -> Result<usize, DhtError> {
        let key = key.clone();
        self.ask(|reply| Request::Store { key, value, reply }).await
    }

    /// The local copy is kept in the node's own store; what is sent to peers is not waited for.
    async fn correct(&self, correction: Correction) {
        if let Err(error) = self.send(Request::Correct(correction)).await {
            tracing::debug!(%error, "a correction was lost");
        }
    }
}
