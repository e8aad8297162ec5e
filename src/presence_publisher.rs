//! Presence from an app: an announcement that is kept alive, and finding those of others.
//!
//! A [`PresencePublisher`] announces a client at a node, has the node countersign, puts the record into the DHT, does so
//! again well before it expires, and withdraws it in the end. The node's half of the signature comes from a
//! [`NodeSigner`], so node and client may be one process or two. [`find`] says where a client is present.
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
//! **Invariants.** What a node gives back is put only if it is what the client has signed. Nothing is put after the
//! withdrawal. Each wait for somebody else is bounded. Whatever the settings are, it pauses before it tries again.
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
use self::{signer::Bounded, task::Task};
use crate::client::{Client, ClientError, Publication, latest};
use smart_record_core::{Fault, Limit};
use smart_record_formats::presence::{
    AnnounceError, Announcement, Announcer, ExchangeKey, PresenceError, PresenceKey,
    PresenceLimits, PresenceValidator,
};

type Stop = oneshot::Sender<Result<Publication, PublisherError>>;

/// Keeps the announcement of a client at a node alive, as a stream of how that goes. One who is slow misses what was in
/// between.
///
/// When it is dropped, the announcement is withdrawn as far as its task still runs; [`withdraw`](Self::withdraw) waits for
/// that and says how it went.
#[derive(Debug)]
#[must_use = "the announcement is withdrawn when this is dropped"]
pub struct PresencePublisher {
    states: latest::Receiver<PublisherState>,
    stop: oneshot::Sender<Stop>,
}

/// How keeping an announcement alive goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum PublisherState {
    /// The announcement was put into the DHT.
    Announced {
        /// As both have signed it.
        announcement: Announcement,
        /// The other peers that took it. With none it is tried again soon.
        peers: Vec<PeerId>,
    },
    /// It could not be; an earlier announcement may still hold.
    Failed {
        /// Why.
        error: PublisherError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// It could not be, and trying again would not help: the task has ended, which is the last that is told. An earlier
    /// announcement holds until it expires.
    GaveUp {
        /// Why.
        error: PublisherError,
    },
}

/// Why a client could not be announced, or the announcement not be withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublisherError {
    /// Replicas would refuse it, or the client's key cannot sign.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The node has not countersigned.
    #[error(transparent)]
    Node(#[from] NodeSignerError),
    /// The node has not answered in time.
    #[error("the node has not countersigned within {waited:?}")]
    NodeTimedOut {
        /// How long it had.
        waited: Duration,
    },
    /// The node gave back something else than it was to sign.
    #[error("the node has signed something else than it was given")]
    OtherAnnouncement,
    /// It could not be put.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The publisher's task has ended.
    #[error("the publisher's task has ended")]
    Stopped,
}

impl PublisherError {
    /// Whether it would be the same the next time: replicas would refuse what the settings ask for, such as a lifetime that
    /// is too long or none at all, the client's key cannot sign, or the registry has no rules for presence. A clock that was
    /// far ahead before is not permanent: see [`Announcer::is_ahead`].
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
    /// A publisher and its task, which has to be spawned: it ends once the announcement is withdrawn, the client's
    /// behaviour is gone, or it is clear that there is nothing to be announced; see [`PublisherState::GaveUp`].
    ///
    /// What the network holds of the client's earlier announcements is looked up first; see [`Announcer::resume`] and
    /// [`Announcer::learn`]. The
    /// registry of the behaviour needs the rules of presence records, as [`built_in`](smart_record_formats::built_in)
    /// has them.
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
        let task = Task::new(client, announcer, signer, presence_key, config, sender);
        (Self { states, stop }, task.run(stopped))
    }

    /// Withdraws the announcement, and ends the task.
    ///
    /// # Errors
    /// [`PublisherError`] if the withdrawal could not be put; the announcement then holds until it expires. That no other peer
    /// was there to take it is no error: see [`Publication::peers`].
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

/// Where a client is present now, and with which keys; ordered by the peer id of the node. Nowhere is no error.
///
/// # Errors
/// [`ClientError::TimedOut`] if nobody answered in time, [`ClientError::Unreachable`] if nobody could be asked and this node
/// knows nothing itself, and [`ClientError::Stopped`].
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
    // A value of which nothing is left that is good says nothing.
    let record =
        snapshot.value().and_then(|value| rules.read(key.as_record_key(), value, snapshot.at).ok());
    Ok(record.map(|record| record.view(snapshot.at).cloned().collect()).unwrap_or_default())
}
