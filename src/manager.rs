//! Record manager: publishes and gets signed records, over a local store or over the DHT.
//!
//! A [`RecordManager`] signs what it publishes, validates everything it gets, and selects the
//! record with the highest sequence. One [`SignedRecordValidator`] per namespace decides which keys
//! the manager may read and write and which records are valid. The [`RecordBackend`] stores the
//! records: a local store ([`StoreBackend`]), or the DHT through a
//! [`Client`](crate::client::Client) or, for a swarm with a plain `kad::Behaviour`, a
//! [`Dht`](crate::dht::Dht).
//!
//! Provider records are a feature of Kademlia itself: use `kad::Behaviour::start_providing` and
//! `get_providers`.
//!
//! **Invariants.** Every answer of a backend is validated. A manager never signs two records of a
//! key with the same sequence, and never returns a record after a better, unexpired one of the same
//! key.
//!
//! **Spec.** The record manager of the libp2p record module; `docs/design.md`, "Behaviour and
//! client" (what a read corrects).

mod backend;
mod client;
mod dht;
mod fetch;
mod keep;
mod local;
mod sequences;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use libp2p_identity::Keypair;

pub use self::{
    backend::{BackendAnswers, Correction, HeldValue, Holder, RecordBackend},
    keep::KeptRecord,
    local::StoreBackend,
};
use self::{fetch::FetchOutcome, sequences::HighestSequences};
use crate::{clock::SystemClock, query::RefusedAnswers};
use smart_record_core::{
    Clock, Namespaces, RecordKey, Timestamp, ValidationError, Validator, Writer, ZeroLifetime,
};
use smart_record_formats::signed::{
    SignRecordError, SignedRecord, SignedRecordValidator, UnsignedRecord,
};

/// Publishes and gets signed records. Clones share their state.
///
/// ```
/// use libp2p_identity::Keypair;
/// use libp2p_smart_record::{
///     Namespaces, Registry, manager::{RecordManager, StoreBackend}, signed::SignedRecordValidator,
/// };
///
/// # futures::executor::block_on(async {
/// let rules = SignedRecordValidator::default();
/// let backend = StoreBackend::new(Registry::default().with("notes", rules.clone())?);
/// let rules = Namespaces::empty().with("notes", rules)?;
/// let manager = RecordManager::new(Keypair::generate_ed25519(), rules, backend);
///
/// manager.publish("/notes/test-key", "test-value").await?;
/// assert_eq!(manager.get("/notes/test-key").await?, Some(b"test-value".to_vec()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct RecordManager<B> {
    inner: Arc<Inner<B>>,
}

struct Inner<B> {
    keypair: Keypair,
    rules: Namespaces<SignedRecordValidator>,
    backend: B,
    clock: Arc<dyn Clock>,
    known: Mutex<HighestSequences>,
}

impl<B> Clone for RecordManager<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// Result of a successful put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The signed record.
    pub record: SignedRecord,
    /// Number of other peers that acknowledged it. An acknowledgement does not prove storage:
    /// replicas acknowledge records they refuse.
    pub peers: usize,
}

/// Result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupOutcome {
    /// The best record.
    pub best: Option<SignedRecord>,
    /// Holders that answered with an invalid record, with the errors.
    pub refused: Vec<(Holder, ValidationError)>,
    /// Holders that had a worse record or none; they are sent the best one.
    pub behind: Vec<Holder>,
}

/// Errors of a [`RecordManager`]. `E` is the backend's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError<E> {
    /// The manager has no rules for the key, or the key or the record violates them.
    #[error(transparent)]
    Refused(#[from] ValidationError),
    /// The lifetime is zero.
    #[error(transparent)]
    ZeroLifetime(#[from] ZeroLifetime),
    /// The record could not be signed.
    #[error(transparent)]
    Sign(#[from] SignRecordError),
    /// No sequence above the highest known one is left.
    #[error("no higher sequence is left for {0}")]
    SequenceExhausted(RecordKey),
    /// Only records older than a known, unexpired one were found: a holder withholds records or
    /// replays old ones.
    #[error("{key}: found sequence {found}, but {known} is known")]
    RolledBack {
        /// Key of the record.
        key: RecordKey,
        /// Highest sequence put or got before the lookup began.
        known: u64,
        /// Highest sequence found now.
        found: u64,
    },
    /// No valid record was found although a known one has not expired: a holder withholds it, or
    /// all holders have left or dropped it, as DHT nodes drop records that are not put again.
    #[error("{key}: nothing found, but sequence {known} is known")]
    Withheld {
        /// Key of the record.
        key: RecordKey,
        /// Highest sequence put or got before the lookup began.
        known: u64,
    },
    /// No valid record was found, and the answers were refused, so what is under the key is
    /// unknown. If more holders have no record than were refused, there is none, which is no error.
    #[error("nothing valid was found: {0}")]
    AnswersRefused(RefusedAnswers<Holder>),
    /// The backend failed.
    #[error(transparent)]
    Backend(E),
}

impl<B: RecordBackend> RecordManager<B> {
    /// Returns a manager that signs with `keypair`, applies the rules of each namespace, and stores
    /// records in `backend`.
    ///
    /// Register the same rules with the backend's store. The author need not be the peer of that
    /// store: a record names its author, and one node may serve several authors.
    pub fn new(keypair: Keypair, rules: Namespaces<SignedRecordValidator>, backend: B) -> Self {
        Self::with_clock(keypair, rules, backend, SystemClock)
    }

    /// Returns a manager with the given clock.
    pub fn with_clock(
        keypair: Keypair,
        rules: Namespaces<SignedRecordValidator>,
        backend: B,
        clock: impl Clock,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                keypair,
                rules,
                backend,
                clock: Arc::new(clock),
                known: Mutex::default(),
            }),
        }
    }

    /// The backend that stores the records.
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// Signs `value` and puts it once under `key`, with a sequence above every known and every
    /// found one. Replicas drop it after 48 hours, or at its expiry if that is earlier.
    /// [`keep`](Self::keep) keeps it alive.
    ///
    /// Dropping the future after the backend was called does not undo the put.
    ///
    /// # Errors
    /// [`ManagerError`]. After [`ManagerError::Backend`] the record may still have been put.
    pub async fn publish(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Published, ManagerError<B::Error>> {
        self.sign_and_put(key.into(), value.into(), None).await
    }

    /// As [`publish`](Self::publish), with an expiry of the record.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_until(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
        expires_at: Timestamp,
    ) -> Result<Published, ManagerError<B::Error>> {
        self.sign_and_put(key.into(), value.into(), Some(expires_at)).await
    }

    async fn sign_and_put(
        &self,
        key: RecordKey,
        value: Bytes,
        expires_at: Option<Timestamp>,
    ) -> Result<Published, ManagerError<B::Error>> {
        let rules = self.rules(&key)?;
        let author = Writer::from(&self.inner.keypair.public());
        // Checked before the backend is called.
        rules.check_writer(&key, &author, value.len())?;
        let found = self.fetch(rules, &key).await?;
        let sequence = self
            .known()
            .reserve(&key, found.best_sequence(), self.now(), rules.limits())
            .ok_or_else(|| ManagerError::SequenceExhausted(key.clone()))?;
        let record = UnsignedRecord { key, value, sequence, expires_at }
            .sign(&self.inner.keypair, rules.limits())?;
        self.put(record).await
    }

    /// Puts a signed record of this or another author, to forward it or to keep it alive.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn put(&self, record: SignedRecord) -> Result<Published, ManagerError<B::Error>> {
        let now = self.now();
        let rules = self.rules(record.key())?;
        let validity = rules.check(&record, now)?;
        let peers = self
            .inner
            .backend
            .put(record.key(), record.encode())
            .await
            .map_err(ManagerError::Backend)?;
        // A better record seen in the meantime stays remembered.
        let _ = self.known().meet(&record, validity.ends_at(now), now, rules.limits());
        Ok(Published { record: record.with_received_at(now), peers })
    }

    /// Returns the value of the best record under `key`.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn get(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<Vec<u8>>, ManagerError<B::Error>> {
        Ok(self.get_record(key).await?.map(|record| record.value().to_vec()))
    }

    /// Returns the best record under `key`, with the time when this manager first received it.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn get_record(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<SignedRecord>, ManagerError<B::Error>> {
        Ok(self.lookup(key).await?.best)
    }

    /// Returns whether there is a record under `key`.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn has_record(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<bool, ManagerError<B::Error>> {
        Ok(self.get_record(key).await?.is_some())
    }

    /// Looks up the best record under `key`, stores it locally, sends it to the holders that are
    /// behind, and reports invalid answers. A better record that this manager meets while it looks,
    /// as by [`publish`](Self::publish), is not missed by this lookup.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn lookup(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<LookupOutcome, ManagerError<B::Error>> {
        let key = key.into();
        let rules = self.rules(&key)?;
        let before = self.known().living(&key, self.now(), rules.limits());
        let mut fetched = self.fetch(rules, &key).await?;
        let now = self.now();
        let before = before.filter(|met| !met.has_expired(now));
        let Some((best, expires_at)) = fetched.best.take() else {
            let known = self.known().living(&key, now, rules.limits());
            if let Some((before, _)) = before.zip(known) {
                return Err(ManagerError::Withheld { key, known: before.content.0 });
            }
            let FetchOutcome { refused, behind, missing, .. } = fetched;
            if let Some(refused) = RefusedAnswers::decisive(refused.iter().cloned(), missing) {
                return Err(ManagerError::AnswersRefused(refused));
            }
            return Ok(LookupOutcome { best: None, refused, behind });
        };
        let met = self.known().meet(&best, expires_at, now, rules.limits());
        let content = best.rank().of_content();
        let received_at = match (met, before) {
            (Ok(first), _) => first,
            (Err(_), Some(before)) if before.content > content => {
                let (known, found) = (before.content.0, best.sequence());
                return Err(ManagerError::RolledBack { key, known, found });
            }
            // The holders may not have had the better one when they answered.
            (Err(_), before) => {
                let known = before.filter(|before| before.content == content);
                let received_at = known.map_or(now, |before| before.first);
                let best = Some(best.with_received_at(received_at));
                return Ok(LookupOutcome { best, refused: fetched.refused, behind: Vec::new() });
            }
        };
        if !fetched.behind.is_empty() {
            let correction = Correction {
                key,
                value: best.encode(),
                lifetime: fetched.lifetime(&best, now),
                holders: fetched.behind.clone(),
            };
            self.inner.backend.correct(correction).await;
        }
        let best = Some(best.with_received_at(received_at));
        Ok(LookupOutcome { best, refused: fetched.refused, behind: fetched.behind })
    }

    /// Calls the backend, validates all answers and selects the best record.
    async fn fetch(
        &self,
        rules: &SignedRecordValidator,
        key: &RecordKey,
    ) -> Result<FetchOutcome, ManagerError<B::Error>> {
        let found = self.inner.backend.fetch(key).await.map_err(ManagerError::Backend)?;
        Ok(FetchOutcome::of(found, rules, key, self.now()))
    }

    fn rules(&self, key: &RecordKey) -> Result<&SignedRecordValidator, ManagerError<B::Error>> {
        let rules = self.inner.rules.resolve(key)?;
        rules.check_key(key)?;
        Ok(rules)
    }
}

impl<B> RecordManager<B> {
    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn known(&self) -> MutexGuard<'_, HighestSequences> {
        // A panic cannot leave the state inconsistent.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Omits the clock, which need not be `Debug`. `impl_debug!` does not support the type parameter of
/// the backend.
impl<B: fmt::Debug> fmt::Debug for RecordManager<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordManager")
            .field("author", &self.inner.keypair.public().to_peer_id())
            .field("backend", &self.inner.backend)
            .finish_non_exhaustive()
    }
}
