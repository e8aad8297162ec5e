//! The task of a publisher: announces, waits, announces again, and withdraws in the end.

use std::{pin::pin, time::Duration};

use futures::{
    channel::oneshot,
    future::{Either, select},
};
use futures_timer::Delay;
use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::{PublisherConfig, PublisherError, PublisherState, Stop, signer::Bounded};
use crate::{
    client::{Client, ClientError, Publication, latest},
    presence::{Announcement, Announcer, ExchangeKey},
    time::Timestamp,
    validator::PresenceValidator,
};

/// The wall clock is looked at this often at least, because timers may stand still while the machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Nothing is renewed more often, however short its life is.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Nor is anything tried again at once.
const SHORTEST_RETRY: Duration = Duration::from_millis(10);

pub(super) struct Task {
    client: Client,
    announcer: Announcer,
    signer: Bounded,
    presence_key: ExchangeKey,
    config: PublisherConfig,
    states: latest::Sender<PublisherState>,
    /// How many times in a row it has come to nothing.
    failures: u32,
}

impl Task {
    pub(super) const fn new(
        client: Client,
        announcer: Announcer,
        signer: Bounded,
        presence_key: ExchangeKey,
        config: PublisherConfig,
        states: latest::Sender<PublisherState>,
    ) -> Self {
        Self { client, announcer, signer, presence_key, config, states, failures: 0 }
    }

    /// Runs until the publisher says to stop or is dropped, or the behaviour is gone.
    pub(super) async fn run(mut self, stop: oneshot::Receiver<Stop>) {
        let reply = match select(pin!(self.keep_alive()), stop).await {
            Either::Left(_) => return,
            Either::Right((reply, _)) => reply,
        };
        let withdrawn = self.withdraw().await;
        match reply {
            // Whoever asked may have lost interest.
            Ok(reply) => drop(reply.send(withdrawn)),
            Err(oneshot::Canceled) => {
                if let Err(error) = withdrawn {
                    tracing::warn!(%error, key = %self.announcer.key(), "presence was not withdrawn");
                }
            }
        }
    }

    /// Returns when the behaviour is gone, or trying again would not help.
    async fn keep_alive(&mut self) {
        self.resume().await;
        loop {
            let (state, delay) = match self.announce().await {
                Err(PublisherError::Client(ClientError::Stopped)) => return,
                Err(error) if error.is_permanent() => {
                    return self.states.send(PublisherState::GaveUp { error });
                }
                Ok((announcement, peers)) => {
                    let delay = if peers.is_empty() {
                        self.retry_delay()
                    } else {
                        self.failures = 0;
                        self.renew_after()
                    };
                    (PublisherState::Announced { announcement, peers }, delay)
                }
                Err(error) => {
                    let retry_in = self.retry_delay();
                    (PublisherState::Failed { error, retry_in }, retry_in)
                }
            };
            match &state {
                PublisherState::Announced { announcement, peers } => {
                    let (key, node) = (self.announcer.key(), announcement.node());
                    tracing::debug!(%key, %node, peers = peers.len(), "announced");
                }
                PublisherState::Failed { error, retry_in } => {
                    tracing::warn!(key = %self.announcer.key(), %error, ?retry_in, "not announced");
                }
                PublisherState::GaveUp { error } => {
                    tracing::warn!(key = %self.announcer.key(), %error, "gave up announcing");
                }
            }
            self.states.send(state);
            self.wait(self.now().saturating_add(delay)).await;
        }
    }

    /// Looks up what the network holds of earlier announcements. If that is nothing the announcer goes by the longest there
    /// may have been: who has it may just not have been reached.
    async fn resume(&mut self) {
        let key = self.announcer.key().as_record_key().clone();
        let snapshot = match self.client.get(key.clone()).await {
            Ok(reading) => reading.snapshot,
            Err(error) => {
                tracing::debug!(%error, %key, "earlier announcements are not known");
                return;
            }
        };
        let rules = PresenceValidator::new(self.announcer.limits().clone());
        let record = snapshot.value.and_then(|value| rules.read(&key, &value, snapshot.at).ok());
        if let Some(record) = record
            && let Err(error) = self.announcer.resume(&record)
        {
            tracing::debug!(%error, %key, "earlier announcements are not known");
        }
    }

    async fn announce(&mut self) -> Result<(Announcement, Vec<PeerId>), PublisherError> {
        let (node, handshake_key) = (self.signer.public_key(), self.signer.handshake_key());
        let (now, ttl) = (self.now(), self.config.ttl());
        let half = self.announcer.announce(&node, handshake_key, self.presence_key, now, ttl)?;
        let announcement = self.signer.countersign(&half).await?;
        let accepted = self.announcer.accept(announcement.clone());
        accepted.map_err(|_| PublisherError::OtherAnnouncement)?;
        let peers = self.put().await?.peers;
        Ok((announcement, peers))
    }

    async fn withdraw(&mut self) -> Result<Publication, PublisherError> {
        let now = self.now();
        self.announcer.withdraw(&self.signer.public_key(), now)?;
        let publication = self.put().await?;
        tracing::debug!(key = %self.announcer.key(), peers = publication.peers.len(), "withdrawn");
        Ok(publication)
    }

    async fn put(&self) -> Result<Publication, PublisherError> {
        let value = self.announcer.record(self.now()).encode();
        Ok(self.client.put(self.announcer.key().as_record_key().clone(), value).await?)
    }

    async fn wait(&self, until: Timestamp) {
        loop {
            let left = until.saturating_since(self.now());
            if left.is_zero() {
                return;
            }
            Delay::new(left.min(LONGEST_WAIT)).await;
        }
    }

    fn now(&self) -> Timestamp {
        self.config.clock().now()
    }

    /// Up to a quarter before half of its life, so that clients that were started together, or found the network again
    /// together, do not all come at once. Which part of it is a hash of the key, so no randomness is needed.
    #[expect(clippy::arithmetic_side_effects, reason = "divided by constants, which are not zero")]
    fn renew_after(&self) -> Duration {
        let hash: [u8; 32] = Sha256::digest(self.announcer.key().as_str()).into();
        let [byte, ..] = hash;
        let half = self.config.ttl() / 2;
        half.saturating_sub((half / 4).saturating_mul(u32::from(byte)) / 256).max(SHORTEST_LIFE)
    }

    /// When to try again, after one failure more.
    fn retry_delay(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let delay = self.config.retry_delay().max(SHORTEST_RETRY);
        delay.saturating_mul(factor).min(self.renew_after())
    }
}
