//! Settings of a presence publisher.

use std::{sync::Arc, time::Duration};

use crate::clock::SystemClock;
use smart_record_core::{Clock, settings};

/// The settings of a [`PresencePublisher`](super::PresencePublisher).
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    ttl: Duration,
    sign_timeout: Duration,
    retry_delay: Duration,
    clock: Arc<dyn Clock>,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60 * 60),
            sign_timeout: Duration::from_secs(10),
            retry_delay: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        }
    }
}

settings! { PublisherConfig:
    /// Lifetime of an announcement, which is renewed at about half of it. A client that leaves
    /// without withdrawing is found for up to this time. Defaults to an hour, a guess. With two,
    /// 100,000 clients cost each of 10,000 servers 16 MB of traffic an hour (`docs/scale.md`).
    ttl, with_ttl: Duration;
    /// How long the node may take to countersign. Defaults to 10 seconds, a guess.
    sign_timeout, with_sign_timeout: Duration;
    /// Delay before the retry of an announcement that failed or that no peer took. It doubles with
    /// each further failure, up to the time of the next renewal. Defaults to 5 seconds, a guess.
    retry_delay, with_retry_delay: Duration;
}

impl PublisherConfig {
    /// The clock. Defaults to the system clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sets [`clock`](Self::clock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}
