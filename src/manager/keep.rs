//! Signed records that are kept alive: signed anew, with a higher sequence, well before they
//! expire.
//!
//! **Invariants.** Due times depend on the manager's clock alone. Whatever its `ttl`, a record is
//! put again before replicas drop it for its age.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_timer::Delay;
use smart_record_core::{RecordKey, Timestamp, ZeroLifetime};

use super::{ManagerError, Published, RecordBackend, RecordManager};
use crate::schedule::{Due, LONGEST_WAIT, Retry, half_life};

/// Longest lifetime used to plan renewals: replicas drop a record 48 hours after it was last sent
/// ([`StoreConfig::max_age`](crate::store::StoreConfig::max_age)).
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Delay before the first retry of a failed renewal. A guess.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// A signed record that is kept alive: see [`RecordManager::keep`].
///
/// Poll [`run`](Self::run), or call [`renew`](Self::renew) at [`renew_at`](Self::renew_at); nothing
/// is renewed otherwise. After it is dropped, the record lives until its `ttl` is over. Signed
/// records cannot be withdrawn.
#[must_use = "it is signed anew by `run` or `renew` only"]
pub struct KeptRecord<B> {
    manager: RecordManager<B>,
    key: RecordKey,
    value: Bytes,
    ttl: Duration,
    published: Published,
    due: Due,
    retry: Retry,
}

impl<B: RecordBackend> RecordManager<B> {
    /// Signs `value` and puts it under `key` as [`publish`](RecordManager::publish) does, for
    /// `ttl`, to be signed anew before it expires. So `ttl` is how long the record outlives this
    /// process.
    ///
    /// Whatever the `ttl`, the record is signed anew at least every 12 hours, because replicas drop
    /// it 48 hours after it was last sent.
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
        let (manager, retry) = (self.clone(), Retry::default());
        Ok(KeptRecord { manager, key, value, ttl, published, due, retry })
    }

    async fn put_for(
        &self,
        key: &RecordKey,
        value: &Bytes,
        ttl: Duration,
    ) -> Result<Published, ManagerError<B::Error>> {
        ZeroLifetime::check(ttl)?;
        let expires_at = self.now().saturating_add(ttl);
        self.publish_until(key.clone(), value.clone(), expires_at).await
    }

    fn renewal(&self, key: &RecordKey, ttl: Duration) -> Due {
        let author = self.inner.keypair.public().to_peer_id();
        Due::after(self.now(), half_life(key, &author, ttl.min(LONGEST_LIFE)))
    }
}

impl<B: RecordBackend> KeptRecord<B> {
    /// Result of the last put.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// Time of the next renewal.
    pub const fn renew_at(&self) -> Timestamp {
        self.due.at()
    }

    /// Replaces the kept value.
    ///
    /// # Errors
    /// As [`RecordManager::publish`]. On an error the previous value stays kept.
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

    /// Signs the record anew and puts it if that is due. Returns whether it was. After a failure it
    /// is due again after a short delay.
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
                let next = self.manager.renewal(&self.key, self.ttl).at().saturating_since(now);
                self.due = Due::after(now, self.retry.failed(FIRST_RETRY, next));
                Err(error)
            }
        }
    }

    /// Renews the record whenever that is due. Returns only if retrying would not help: the
    /// namespace refuses the record, it cannot be signed, or the backend [has
    /// stopped](RecordBackend::has_stopped). Another backend error is logged as a warning and
    /// retried with growing delays.
    ///
    /// Cancel safe: a due renewal is performed when this is called again.
    pub async fn run(&mut self) -> ManagerError<B::Error> {
        loop {
            match self.renew().await {
                Err(ManagerError::Backend(error)) if !B::has_stopped(&error) => {
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
        self.retry.succeeded();
    }
}

/// Omits the backend, which need not be `Debug`, and the value.
impl<B> fmt::Debug for KeptRecord<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptRecord")
            .field("key", &self.key)
            .field("ttl", &self.ttl)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}
