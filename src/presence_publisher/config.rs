//! How an announcement is kept alive.

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
    /// How long an announcement holds; it is renewed at about half of that. So it is how long one is found who has gone
    /// without withdrawing. Defaults to an hour, a guess.
    ttl, with_ttl: Duration;
    /// How long the node has for countersigning. Defaults to 10 seconds, a guess.
    sign_timeout, with_sign_timeout: Duration;
    /// After how long one that failed, or that nobody took, is tried again; twice as long with each further failure, at most
    /// until it would be renewed. Defaults to 5 seconds, a guess.
    retry_delay, with_retry_delay: Duration;
}

impl PublisherConfig {
    /// The clock. Defaults to the machine's.
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
