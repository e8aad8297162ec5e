//! Keeps a client's presence announcement alive, and finds the announcements of others.
//!
//! A [`PresencePublisher`] announces a client at a node: it has the node countersign, puts the
//! record into the DHT, renews it well before it expires, and withdraws it at the end. A
//! [`NodeSigner`] provides the node's signature, so node and client may be one process or two.
//! [`find`] returns the current announcements of a client.
//!
//! ```no_run
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{
//!     client::Client, presence::{Announcer, ExchangeKey, PresenceKey, PresenceLimits},
//!     presence_publisher::{LocalNode, PresencePublisher, PublisherConfig, find},
//! };
//!
//! # async fn run(
//! #     client: Client, node: Keypair, handshake_key: ExchangeKey, presence_key: ExchangeKey,
//! #     spawn: fn(futures::future::BoxFuture<'static, ()>),
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let keypair = Keypair::generate_ed25519();
//! let key = PresenceKey::of(keypair.public().to_peer_id());
//! let announcer = Announcer::new(key.clone(), keypair, PresenceLimits::default())?;
//! let signer = LocalNode::new(node, handshake_key, PresenceLimits::default());
//! let config = PublisherConfig::default().with_ttl(Duration::from_secs(600));
//! let (publisher, task) =
//!     PresencePublisher::new(client.clone(), announcer, signer, presence_key, config);
//! spawn(Box::pin(task));
//!
//! for announcement in find(&client, &key, &PresenceLimits::default()).await? {
//!     println!("{} is at {}", announcement.client(), announcement.node());
//! }
//! publisher.withdraw().await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Invariants.** A countersigned announcement is put only if it is the one the client has signed.
//! Nothing is put after the withdrawal. Each wait for the node or the network is bounded. There is
//! a pause before each retry, whatever the settings.
//!
//! **Spec.** `docs/design.md`, section "Presence from an app".

mod config;
mod signer;
mod task;

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, channel::oneshot};
use libp2p_identity::PeerId;

pub use self::{
    config::PublisherConfig,
    signer::{LocalNode, NodeSigner, NodeSignerError},
};
use self::{signer::Bounded, task::PublisherTask};
use crate::client::{Client, ClientError, Publication, latest};
use smart_record_core::{Fault, Limit, ValidationError};
use smart_record_formats::presence::{
    AnnounceError, Announcement, Announcer, ExchangeKey, PresenceError, PresenceKey,
    PresenceLimits, PresenceValidator,
};

type Stop = oneshot::Sender<Result<Publication, PublisherError>>;

/// Keeps the announcement of a client at a node alive. Stream of its states; a slow reader misses
/// intermediate states.
///
/// Dropping it withdraws the announcement if its task still runs. [`withdraw`](Self::withdraw)
/// waits for that and returns the result.
#[derive(Debug)]
#[must_use = "the announcement is withdrawn when this is dropped"]
pub struct PresencePublisher {
    states: latest::LatestReceiver<PublisherState>,
    stop: oneshot::Sender<Stop>,
}

/// State of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum PublisherState {
    /// The announcement was put into the DHT.
    Announced {
        /// The announcement, signed by both client and node.
        announcement: Announcement,
        /// Other peers that acknowledged it. If there are none, the put is retried soon.
        peers: Vec<PeerId>,
    },
    /// The announcement failed; an earlier announcement may still be valid.
    Failed {
        /// The error.
        error: PublisherError,
        /// Delay before the next attempt.
        retry_in: Duration,
    },
    /// The announcement failed permanently. The task has ended; this is the last state. An earlier
    /// announcement is valid until it expires.
    GaveUp {
        /// The error.
        error: PublisherError,
    },
}

/// Errors of a [`PresencePublisher`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublisherError {
    /// Replicas would refuse the announcement, or the client's key cannot sign.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The node did not countersign.
    #[error(transparent)]
    Node(#[from] NodeSignerError),
    /// The node did not answer in time.
    #[error("the node did not countersign within {waited:?}")]
    NodeTimedOut {
        /// Time that it had.
        waited: Duration,
    },
    /// The node signed something other than what it was given.
    #[error("the node signed something other than it was given")]
    OtherAnnouncement,
    /// The record could not be put.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The publisher's task has ended.
    #[error("the publisher's task has ended")]
    Stopped,
}

impl PublisherError {
    /// Whether a retry cannot succeed: replicas would refuse what the settings ask for (such as a
    /// lifetime that is zero or too long), the client's key cannot sign, or the registry has no
    /// rules for presence. A clock that was too fast earlier is not permanent: see
    /// [`Announcer::is_ahead`].
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Announce(AnnounceError::Refused(PresenceError::Limit(exceeded))) => {
                exceeded.limit != Limit::CLOCK_SKEW
            }
            Self::Announce(_) => true,
            Self::Client(error) => error.fault() == Some(Fault::Unsupported),
            _ => false,
        }
    }
}

impl PresencePublisher {
    /// Returns a publisher and its task, which has to be spawned. The task ends when the
    /// announcement is withdrawn, the client's behaviour is gone, or the announcement has failed
    /// permanently; see [`PublisherState::GaveUp`].
    ///
    /// The task first looks up the client's earlier announcements in the network; see
    /// [`Announcer::resume`] and [`Announcer::learn`]. The registry of the behaviour needs the
    /// rules of presence records, as in [`built_in`](smart_record_formats::built_in).
    pub fn new(
        client: Client,
        announcer: Announcer,
        signer: impl NodeSigner,
        presence_key: ExchangeKey,
        config: PublisherConfig,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, states) = latest::channel();
        let (stop, stopped) = oneshot::channel();
        let signer = Bounded::new(signer, config.sign_timeout());
        let task = PublisherTask::new(client, announcer, signer, presence_key, config, sender);
        (Self { states, stop }, task.run(stopped))
    }

    /// Withdraws the announcement and ends the task.
    ///
    /// # Errors
    /// [`PublisherError`] if the withdrawal could not be put; the announcement is then valid until
    /// it expires. It is no error if no other peer took the withdrawal: see [`Publication::peers`].
    pub async fn withdraw(self) -> Result<Publication, PublisherError> {
        let (reply, answer) = oneshot::channel();
        self.stop.send(reply).map_err(|_| PublisherError::Stopped)?;
        answer.await.map_err(|_| PublisherError::Stopped)?
    }
}

impl Stream for PresencePublisher {
    type Item = PublisherState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.states.poll_next_unpin(cx)
    }
}

/// Returns the current announcements of a client, ordered by the peer id of the node. An empty
/// result is no error.
///
/// # Errors
/// [`ClientError::TimedOut`] if no peer answered in time, [`ClientError::Unreachable`] if no peer
/// could be asked and this node holds nothing itself, [`ClientError::AnswersRefused`] if no answer
/// was valid, [`ClientError::Refused`] if what was found breaks these limits, and
/// [`ClientError::Stopped`].
pub async fn find(
    client: &Client,
    key: &PresenceKey,
    limits: &PresenceLimits,
) -> Result<Vec<Announcement>, ClientError> {
    let reading = client.get(key.as_record_key().clone()).await?;
    if reading.is_empty() && !reading.has_reached_anyone() {
        return Err(ClientError::Unreachable);
    }
    let snapshot = reading.snapshot;
    let rules = PresenceValidator::new(limits.clone());
    let read = snapshot.value().map(|value| rules.read(key.as_record_key(), value, snapshot.at));
    match read.transpose() {
        Ok(record) => {
            let view = record.iter().flat_map(|record| record.view(snapshot.at));
            Ok(view.cloned().collect())
        }
        // The last announcement has expired since.
        Err(ValidationError::Expired { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
