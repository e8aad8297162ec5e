//! Signed records that are kept alive: signed anew, with a higher sequence, well before they expire.
//!
//! **Invariants.** When something is due follows from the manager's clock alone. Whatever the lifetime, a record is put again
//! before a replica would drop it for its age.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_timer::Delay;
use smart_record_core::{RecordKey, Timestamp};

use super::{ManagerError, Published, RecordBackend, RecordManager};
use crate::schedule::{Due, half_life};

/// No record is signed anew less often, however long it lives: replicas drop what is not sent again for 48 hours
/// ([`StoreConfig::max_age`](crate::store::StoreConfig::max_age)).
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// After how long a renewal that came to nothing is tried again the first time. A guess.
const RETRY: Duration = Duration::from_secs(10);
/// The clock is looked at this often at least, because timers may stand still while the machine sleeps.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A signed record that is kept alive: see [`RecordManager::keep`].
///
/// Nothing happens by itself: [`run`](Self::run) has to be polled, or [`renew`](Self::renew) be called when
/// [`renew_at`](Self::renew_at) has come. Dropping it ends that, and the record lives until its `ttl` is over; nothing
/// withdraws a signed record.
#[must_use = "it is signed anew by `run` or `renew` only"]
pub struct KeptRecord<B> {
    manager: RecordManager<B>,
    key: RecordKey,
    value: Bytes,
    ttl: Duration,
    published: Published,
    due: Due,
    /// How many renewals in a row have come to nothing.
    failures: u32,
}

impl<B: RecordBackend> RecordManager<B> {
    /// Signs `value` and puts it under `key` as [`publish`](RecordManager::publish) does, for `ttl`, to be signed anew before it expires. So
    /// `ttl` is for how long the record outlives us.
    ///
    /// However long `ttl` is, the record is signed anew at least once in 12 hours, because replicas drop what is not sent
    /// again for 48 hours.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use libp2p_smart_record::{client::Client, manager::RecordManager};
    /// # async fn run(manager: RecordManager<Client>) -> Result<(), Box<dyn std::error::Error>> {
    /// let hour = Duration::from_secs(3_600);
    /// let mut kept = manager.keep("/notes/status", "open", hour).await?;
    /// tokio::spawn(async move { eprintln!("no longer kept: {}", kept.run().await) });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`publish`](RecordManager::publish).
    pub async fn keep(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
        ttl: Duration,
    ) -> Result<KeptRecord<B>, ManagerError<B::Error>> {
        let (key, value) = (key.into(), value.into());
        let published = self.put_for(&key, &value, ttl).await?;
        let due = self.renewal(&key, ttl);
        Ok(KeptRecord { manager: self.clone(), key, value, ttl, published, due, failures: 0 })
    }

    async fn put_for(
        &self,
        key: &RecordKey,
        value: &Bytes,
        ttl: Duration,
    ) -> Result<Published, ManagerError<B::Error>> {
        let expires_at = self.now().saturating_add(ttl);
        self.publish_until(key.clone(), value.clone(), expires_at).await
    }

    fn renewal(&self, key: &RecordKey, ttl: Duration) -> Due {
        let author = self.inner.keypair.public().to_peer_id();
        Due::after(self.now(), half_life(key, &author, ttl.min(LONGEST_LIFE)))
    }
}

impl<B: RecordBackend> KeptRecord<B> {
    /// What was put last.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// When it is to be signed anew.
    pub const fn renew_at(&self) -> Timestamp {
        self.due.at()
    }

    /// Puts another value in the place of the one that was kept.
    ///
    /// # Errors
    /// As [`RecordManager::publish`]. What was kept before goes on to be.
    pub async fn update(
        &mut self,
        value: impl Into<Bytes>,
    ) -> Result<&Published, ManagerError<B::Error>> {
        let value = value.into();
        self.published = self.manager.put_for(&self.key, &value, self.ttl).await?;
        self.value = value;
        self.put_again();
        Ok(&self.published)
    }

    /// Signs it anew and puts it, if that is due; says whether it was. After a failure it is due again a little later.
    ///
    /// # Errors
    /// As [`RecordManager::publish`].
    pub async fn renew(&mut self) -> Result<bool, ManagerError<B::Error>> {
        let now = self.manager.now();
        self.due.cap(now);
        if self.due.at() > now {
            return Ok(false);
        }
        match self.manager.put_for(&self.key, &self.value, self.ttl).await {
            Ok(published) => {
                self.published = published;
                self.put_again();
                Ok(true)
            }
            Err(error) => {
                let delay =
                    RETRY.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
                self.failures = self.failures.saturating_add(1);
                let next = self.manager.renewal(&self.key, self.ttl);
                self.due = Due::after(now, delay.min(next.at().saturating_since(now)));
                Err(error)
            }
        }
    }

    /// Signs it anew whenever that is due. Returns when trying again would not help: its namespace refuses the record, or
    /// it cannot be signed. A backend that fails is tried again with growing delays, and a warning.
    ///
    /// Dropping the future loses nothing: what was due then is due when it is run again.
    pub async fn run(&mut self) -> ManagerError<B::Error> {
        loop {
            match self.renew().await {
                Err(ManagerError::Backend(error)) => {
                    tracing::warn!(%error, key = %self.key, "a kept record could not be put");
                }
                Err(error) => return error,
                Ok(_) => {}
            }
            let left = self.due.at().saturating_since(self.manager.now());
            Delay::new(left.min(LONGEST_WAIT)).await;
        }
    }

    fn put_again(&mut self) {
        self.due = self.manager.renewal(&self.key, self.ttl);
        self.failures = 0;
    }
}

/// Leaves out the backend, which need not be `Debug`, and the value.
impl<B> fmt::Debug for KeptRecord<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRecord")
            .field("key", &self.key)
            .field("ttl", &self.ttl)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
