//! Who countersigns for the node: in this process, or behind whatever connection there is to it.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, Either, FutureExt, ready, select};
use futures_timer::Delay;
use libp2p_identity::{Keypair, PublicKey};

use super::PublisherError;
use crate::clock::SystemClock;
use smart_record_core::Clock;
use smart_record_formats::presence::{
    AnnounceError, Announcement, ExchangeKey, HalfSigned, PresenceLimits,
};

/// The node's half of an announcement.
///
/// For a node that is another process, send it [`HalfSigned::encode`] and read what comes back with
/// [`Announcement::decode`]; the node reads with [`HalfSigned::decode`], decides whether it hosts the client, and
/// signs with [`HalfSigned::countersign`].
pub trait NodeSigner: Send + Sync + 'static {
    /// The node's identity.
    fn public_key(&self) -> PublicKey;

    /// The node's X25519 public key.
    fn handshake_key(&self) -> ExchangeKey;

    /// Has the node countersign. It may take its time; whoever asks bounds it.
    fn countersign(&self, half: HalfSigned)
    -> BoxFuture<'_, Result<Announcement, NodeSignerError>>;
}

/// Why a node has not countersigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeSignerError {
    /// It must not sign this.
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    /// It does not host the client.
    #[error("the node does not host the client: {reason}")]
    Refused {
        /// In the node's words.
        reason: String,
    },
    /// It cannot be reached, or its answer not be understood.
    #[error("the node cannot be reached: {reason}")]
    Unreachable {
        /// In the connection's words.
        reason: String,
    },
}

/// The node is this process: it signs with its key whatever it is given that a node may sign.
#[derive(Clone, Debug)]
pub struct LocalNode {
    keypair: Keypair,
    handshake_key: ExchangeKey,
    limits: PresenceLimits,
    clock: Arc<dyn Clock>,
}

impl LocalNode {
    /// The node with this key pair and X25519 public key; `limits` are those of the DHT's replicas.
    pub fn new(keypair: Keypair, handshake_key: ExchangeKey, limits: PresenceLimits) -> Self {
        Self { keypair, handshake_key, limits, clock: Arc::new(SystemClock) }
    }

    /// Sets the clock. It is the machine's otherwise.
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
        half: HalfSigned,
    ) -> BoxFuture<'_, Result<Announcement, NodeSignerError>> {
        let now = self.clock.now();
        let signed = half.countersign(&self.keypair, self.handshake_key, now, &self.limits);
        ready(signed.map_err(NodeSignerError::from)).boxed()
    }
}

/// A signer that is not waited for without end, and whose answer is compared with the question.
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
        half: &HalfSigned,
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
