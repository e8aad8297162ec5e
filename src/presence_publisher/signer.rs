//! Countersigning by the node, in this process or over any connection.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, Either, FutureExt, ready, select};
use futures_timer::Delay;
use libp2p_identity::{Keypair, PublicKey};

use super::PublisherError;
use crate::clock::SystemClock;
use smart_record_core::Clock;
use smart_record_formats::presence::{
    AnnounceError, Announcement, ClientSignedAnnouncement, ExchangeKey, PresenceLimits,
};

/// Provides the node's signature of an announcement.
///
/// For a node in another process, send it [`ClientSignedAnnouncement::encode`] and decode its reply
/// with [`Announcement::decode`]. The node decodes with [`ClientSignedAnnouncement::decode`],
/// decides whether it hosts the client, and signs with [`ClientSignedAnnouncement::countersign`].
pub trait NodeSigner: Send + Sync + 'static {
    /// The node's identity.
    fn public_key(&self) -> PublicKey;

    /// The node's X25519 public key.
    fn handshake_key(&self) -> ExchangeKey;

    /// Has the node countersign. The caller applies a timeout.
    fn countersign(
        &self,
        half: ClientSignedAnnouncement,
    ) -> BoxFuture<'_, Result<Announcement, NodeSignerError>>;
}

/// Errors of a [`NodeSigner`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeSignerError {
    /// The node must not sign this announcement.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// The node does not host the client.
    #[error("the node does not host the client: {reason}")]
    Refused {
        /// Reason given by the node.
        reason: String,
    },
    /// The node cannot be reached, or its answer cannot be decoded.
    #[error("the node cannot be reached: {reason}")]
    Unreachable {
        /// Reason given by the connection.
        reason: String,
    },
}

/// A node in this process. It signs every announcement that a node may sign.
#[derive(Clone, Debug)]
pub struct LocalNode {
    keypair: Keypair,
    handshake_key: ExchangeKey,
    limits: PresenceLimits,
    clock: Arc<dyn Clock>,
}

impl LocalNode {
    /// Returns the node with this key pair and X25519 public key. `limits` are those of the
    /// replicas in the DHT.
    pub fn new(keypair: Keypair, handshake_key: ExchangeKey, limits: PresenceLimits) -> Self {
        Self { keypair, handshake_key, limits, clock: Arc::new(SystemClock) }
    }

    /// Sets the clock. Defaults to the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl NodeSigner for LocalNode {
    fn public_key(&self) -> PublicKey {
        self.keypair.public()
    }

    fn handshake_key(&self) -> ExchangeKey {
        self.handshake_key
    }

    fn countersign(
        &self,
        half: ClientSignedAnnouncement,
    ) -> BoxFuture<'_, Result<Announcement, NodeSignerError>> {
        let now = self.clock.now();
        let signed = half.countersign(&self.keypair, self.handshake_key, now, &self.limits);
        ready(signed.map_err(NodeSignerError::from)).boxed()
    }
}

/// A signer with a timeout, whose result is checked against the request.
pub(super) struct Bounded {
    signer: Box<dyn NodeSigner>,
    timeout: Duration,
}

impl Bounded {
    pub(super) fn new(signer: impl NodeSigner, timeout: Duration) -> Self {
        Self { signer: Box::new(signer), timeout }
    }

    pub(super) fn public_key(&self) -> PublicKey {
        self.signer.public_key()
    }

    pub(super) fn handshake_key(&self) -> ExchangeKey {
        self.signer.handshake_key()
    }

    pub(super) async fn countersign(
        &self,
        half: &ClientSignedAnnouncement,
    ) -> Result<Announcement, PublisherError> {
        let signing = self.signer.countersign(half.clone());
        let announcement = match select(signing, Delay::new(self.timeout)).await {
            Either::Left((signed, _)) => signed?,
            Either::Right(_) => {
                return Err(PublisherError::NodeTimedOut { waited: self.timeout });
            }
        };
        if announcement.completes(half) {
            Ok(announcement)
        } else {
            Err(PublisherError::OtherAnnouncement)
        }
    }
}
