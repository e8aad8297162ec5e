//! Task of a publisher: announces, renews, and withdraws at the end.
//!
//! **Invariants.** The network is asked for earlier announcements before anything is signed, and
//! again if an earlier signature was made while the clock was too fast.
//!
//! **Spec.** `docs/design.md`, sections "Signing" and "Presence from an app".

use std::{pin::pin, time::Duration};

use futures::{
    channel::oneshot,
    future::{Either, select},
};
use futures_timer::Delay;
use libp2p_identity::PeerId;

use super::{PublisherConfig, PublisherError, PublisherState, Stop, signer::Bounded};
use crate::{
    client::{Client, ClientError, Publication, latest},
    schedule::{Due, LONGEST_WAIT, Retry, SHORTEST_INTERVAL, half_life},
};
use smart_record_core::Timestamp;
use smart_record_formats::presence::{
    Announcement, Announcer, ExchangeKey, PresenceRecord, PresenceValidator,
};

pub(super) struct PublisherTask {
    client: Client,
    announcer: Announcer,
    signer: Bounded,
    presence_key: ExchangeKey,
    config: PublisherConfig,
    states: latest::LatestSender<PublisherState>,
    /// Whether the network was asked for earlier announcements.
    is_resumed: bool,
    retry: Retry,
}

impl PublisherTask {
    pub(super) fn new(
        client: Client,
        announcer: Announcer,
        signer: Bounded,
        presence_key: ExchangeKey,
        config: PublisherConfig,
        states: latest::LatestSender<PublisherState>,
    ) -> Self {
        let retry = Retry::default();
        Self { client, announcer, signer, presence_key, config, states, is_resumed: false, retry }
    }

    /// Runs until the publisher stops it or is dropped, or the behaviour is gone.
    pub(super) async fn run(mut self, stop: oneshot::Receiver<Stop>) {
        let reply = match select(pin!(self.keep_alive()), stop).await {
            Either::Left(_) => return,
            Either::Right((reply, _)) => reply,
        };
        let withdrawn = self.withdraw().await;
        match reply {
            // The caller may have dropped its end.
            Ok(reply) => drop(reply.send(withdrawn)),
            Err(oneshot::Canceled) => {
                if let Err(error) = withdrawn {
                    tracing::warn!(%error, key = %self.announcer.key(), "presence was not withdrawn");
                }
            }
        }
    }

    /// Returns when the behaviour is gone or an error is permanent.
    async fn keep_alive(&mut self) {
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
                        self.retry.succeeded();
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
            self.wait(delay).await;
        }
    }

    /// Looks up earlier announcements in the network, unless that was done. After an incomplete
    /// read the announcer assumes the longest possible earlier announcement.
    async fn resume(&mut self) {
        if self.is_resumed && !self.announcer.is_ahead(self.now()) {
            return;
        }
        let key = self.announcer.key().as_record_key().clone();
        let reading = self.client.get(key.clone()).await;
        self.is_resumed = true;
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                tracing::debug!(%error, %key, "earlier announcements could not be read");
                return;
            }
        };
        let rules = PresenceValidator::new(self.announcer.limits().clone());
        let record = match reading.snapshot.value() {
            Some(value) => rules.read(&key, value, reading.snapshot.at).ok(),
            None => Some(PresenceRecord::new(self.announcer.key().clone())),
        };
        let learnt = match record {
            Some(record) if reading.is_complete() => self.announcer.resume(&record),
            Some(record) => self.announcer.learn(&record),
            None => Ok(()),
        };
        if let Err(error) = learnt {
            tracing::debug!(%error, %key, "earlier announcements could not be read");
        }
        if reading.is_complete() {
            self.announcer.forget_future(self.now());
        }
    }

    async fn announce(&mut self) -> Result<(Announcement, Vec<PeerId>), PublisherError> {
        self.resume().await;
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
        self.resume().await;
        let now = self.now();
        self.announcer.withdraw(&self.signer.public_key(), now)?;
        let publication = self.put().await?;
        tracing::debug!(key = %self.announcer.key(), peers = publication.peers.len(), "withdrawn");
        Ok(publication)
    }

    async fn put(&self) -> Result<Publication, PublisherError> {
        let value = self.announcer.record(self.now()).encode();
        let put = self.client.put(self.announcer.key().as_record_key().clone(), value).await;
        // It is put again if nobody has taken it.
        Ok(put.or_else(ClientError::into_publication)?)
    }

    /// Waits for `delay`. Returns early if the clock is set back so far that replicas refuse the
    /// last announcement.
    async fn wait(&self, delay: Duration) {
        let mut due = Due::after(self.now(), delay);
        let was_ahead = self.announcer.is_ahead(self.now());
        loop {
            let now = self.now();
            due.cap(now);
            let left = due.at().saturating_since(now);
            if left.is_zero() || !was_ahead && self.announcer.is_ahead(now) {
                return;
            }
            Delay::new(left.min(LONGEST_WAIT)).await;
        }
    }

    fn now(&self) -> Timestamp {
        self.config.clock().now()
    }

    fn renew_after(&self) -> Duration {
        let key = self.announcer.key().as_record_key();
        half_life(key, &self.client.peer_id(), self.config.ttl())
    }

    /// Returns the delay before the next attempt, and counts one more failure.
    fn retry_delay(&mut self) -> Duration {
        let first = self.config.retry_delay().max(SHORTEST_INTERVAL);
        self.retry.failed(first, self.renew_after())
    }
}
