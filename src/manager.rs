//! The record manager: publishes and gets signed records, over a store of one's own or over the
//! DHT.
//!
//! A [`RecordManager`] signs what it publishes, checks everything that it gets, and of several
//! records takes the one with the highest sequence. Which keys it may write and read, and what may
//! stand there, say the [`SignedRecordValidator`]s that it is given for namespaces. Where records
//! are kept says its [`RecordBackend`]: a store of one's own ([`StoreBackend`]), or the DHT,
//! through a [`Client`](crate::client::Client), or, for a swarm with Kademlia alone, a
//! [`Dht`](crate::dht::Dht).
//!
//! To announce that one provides something, Kademlia has provider records of its own: use
//! `kad::Behaviour::start_providing` and `get_providers`.
//!
//! **Invariants.** Nothing that a backend answers is believed. A manager never signs two records of a key with
//! the same sequence, nor hands out a record after a better one of the same key that has not expired.
//!
//! **Spec.** The record manager of the libp2p record module; `docs/design.md`, "Behaviour and client" (what a read corrects).

mod backend;
mod client;
mod dht;
mod keep;
mod known;
mod local;
mod survey;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use libp2p_identity::Keypair;

pub use self::{
    backend::{Answer, Correction, Found, Holder, RecordBackend},
    keep::KeptRecord,
    local::StoreBackend,
};
use self::{known::Known, survey::Survey};
use crate::clock::SystemClock;
use smart_record_core::{
    Clock, Namespaces, RecordKey, Timestamp, ValidationError, Validator, Writer,
};
use smart_record_formats::signed::{
    SignRecordError, SignedRecord, SignedRecordValidator, UnsignedRecord,
};

/// Publishes and gets signed records. A clone is the same manager.
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
    known: Mutex<Known>,
}

impl<B> Clone for RecordManager<B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

/// A record after it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// As it was signed.
    pub record: SignedRecord,
    /// How many other peers have taken it. Whether they keep it nobody knows: a replica that refuses a
    /// record does not say so.
    pub peers: usize,
}

/// What a lookup has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupOutcome {
    /// The best record.
    pub best: Option<SignedRecord>,
    /// Those who answered with something else than a good record, and what is wrong with it.
    pub refused: Vec<(Holder, ValidationError)>,
    /// Those who had a lesser record, or none; they are sent the best.
    pub behind: Vec<Holder>,
}

/// Why a manager could not do what it was asked for. `E` is the backend's own error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError<E> {
    /// The manager has no rules for this key.
    #[error("no rules of signed records for {0}")]
    Unregistered(RecordKey),
    /// The key, or the record to be put, is against the rules of its namespace.
    #[error(transparent)]
    Refused(#[from] ValidationError),
    /// The record could not be signed.
    #[error(transparent)]
    Sign(#[from] SignRecordError),
    /// There is no sequence above the highest one that is known.
    #[error("there is no higher sequence left for {0}")]
    SequenceExhausted(RecordKey),
    /// All that was found is older than what was put or got before and has not expired: someone withholds records
    /// or replays old ones.
    #[error("{key}: found sequence {found}, but {known} is known")]
    RolledBack {
        /// Of the records.
        key: RecordKey,
        /// The highest sequence that was met before.
        known: u64,
        /// The highest sequence that was found now.
        found: u64,
    },
    /// Nothing good was found, although a record that was put or got before has not expired by its own word: someone
    /// withholds it, or all who had it have gone or dropped it, as nodes of a DHT do with what nobody puts again.
    #[error("{key}: nothing found, but sequence {known} is known")]
    Withheld {
        /// Of the records.
        key: RecordKey,
        /// The highest sequence that was met before.
        known: u64,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(E),
}

impl<B: RecordBackend> RecordManager<B> {
    /// A manager that signs with `keypair`, goes by the rules of each namespace, and keeps records in `backend`.
    ///
    /// Register the same rules with the backend's store. The author need not be the peer of that
    /// store: a record says who has signed it, and one node may serve several authors.
    pub fn new(keypair: Keypair, rules: Namespaces<SignedRecordValidator>, backend: B) -> Self {
        Self::with_clock(keypair, rules, backend, SystemClock)
    }

    /// A manager with a clock of the user's.
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

    /// Where the records are kept.
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// Signs `value` and puts it under `key`, with a sequence above any that is known here or found there. It is put once:
    /// replicas drop it 48 hours later, or at its own end if that comes first. [`keep`](Self::keep) keeps it alive.
    ///
    /// Once the backend has been asked, dropping the future does not undo the put.
    ///
    /// # Errors
    /// [`ManagerError`]. If it is of the backend, the record may have been put all the same.
    pub async fn publish(
        &self,
        key: impl Into<RecordKey>,
        value: impl Into<Bytes>,
    ) -> Result<Published, ManagerError<B::Error>> {
        self.sign_and_put(key.into(), value.into(), None).await
    }

    /// As [`publish`](Self::publish), but the record expires at an instant.
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
        // Before anyone is asked.
        rules.check_writer(&key, &author, value.len())?;
        let found = self.survey(rules, &key).await?;
        let sequence = self
            .known()
            .reserve(&key, found.best_sequence(), self.now(), rules.limits())
            .ok_or_else(|| ManagerError::SequenceExhausted(key.clone()))?;
        let record = UnsignedRecord { key, value, sequence, expires_at }
            .sign(&self.inner.keypair, rules.limits())?;
        self.put(record).await
    }

    /// Puts a record that is signed already, one's own or another's: to send it on, or to keep it
    /// alive.
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
        // If something better was met meanwhile, that stays known.
        let _ = self.known().meet(&record, validity.ends_at(now), now, rules.limits());
        Ok(Published { record: record.with_received_at(now), peers })
    }

    /// The value of the best record under `key`.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn get(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<Vec<u8>>, ManagerError<B::Error>> {
        Ok(self.get_record(key).await?.map(|record| record.value().to_vec()))
    }

    /// The best record under `key`, and when it was received here first.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn get_record(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<Option<SignedRecord>, ManagerError<B::Error>> {
        Ok(self.lookup(key).await?.best)
    }

    /// Whether there is a record under `key`.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn has_record(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<bool, ManagerError<B::Error>> {
        Ok(self.get_record(key).await?.is_some())
    }

    /// Looks up the best record under `key`, keeps it here, sends it to those who are behind, and tells what
    /// was wrong with other answers.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn lookup(
        &self,
        key: impl Into<RecordKey>,
    ) -> Result<LookupOutcome, ManagerError<B::Error>> {
        let key = key.into();
        let rules = self.rules(&key)?;
        let mut survey = self.survey(rules, &key).await?;
        let now = self.now();
        let Some((best, expires_at)) = survey.best.take() else {
            let known = self.known().living(&key, now, rules.limits());
            return match known {
                Some(known) => Err(ManagerError::Withheld { key, known }),
                None => {
                    Ok(LookupOutcome { best: None, refused: survey.refused, behind: survey.behind })
                }
            };
        };
        let met = self.known().meet(&best, expires_at, now, rules.limits());
        let received_at = met.map_err(|known| ManagerError::RolledBack {
            key: key.clone(),
            known,
            found: best.sequence(),
        })?;
        if !survey.behind.is_empty() {
            let correction = Correction {
                key,
                value: best.encode(),
                lifetime: survey.lifetime(&best, now),
                holders: survey.behind.clone(),
            };
            self.inner.backend.correct(correction).await;
        }
        let best = Some(best.with_received_at(received_at));
        Ok(LookupOutcome { best, refused: survey.refused, behind: survey.behind })
    }

    /// Asks the backend, checks all answers and selects the best.
    async fn survey(
        &self,
        rules: &SignedRecordValidator,
        key: &RecordKey,
    ) -> Result<Survey, ManagerError<B::Error>> {
        let found = self.inner.backend.fetch(key).await.map_err(ManagerError::Backend)?;
        Ok(Survey::of(found, rules, key, self.now()))
    }

    fn rules(&self, key: &RecordKey) -> Result<&SignedRecordValidator, ManagerError<B::Error>> {
        let rules = self.inner.rules.resolve(key);
        let rules = rules.map_err(|_| ManagerError::Unregistered(key.clone()))?;
        rules.check_key(key)?;
        Ok(rules)
    }
}

impl<B> RecordManager<B> {
    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No panic can have left it half-changed.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves out the clock, which need not be `Debug`; the backend is of a type parameter, which `impl_debug!` does not know.
impl<B: fmt::Debug> fmt::Debug for RecordManager<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordManager")
            .field("author", &self.inner.keypair.public().to_peer_id())
            .field("backend", &self.inner.backend)
            .finish_non_exhaustive()
    }
}
