//! Validation off the swarm's task.
//!
//! **Invariants.** The worker has no access to the store: it makes [`Checked`] values, and the behaviour inserts them.
//! It ends with the behaviour. A validator that panics takes only the record with it that it was asked about.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, thread};

use futures::{FutureExt, StreamExt, channel::mpsc, future::BoxFuture};
use libp2p_identity::PeerId;

use crate::{
    clock::Clock,
    key::RecordKey,
    time::Timestamp,
    validator::{Checked, ValidationError, Validator},
};

/// Decides about records that a [`Validator`] has found to be good, and may ask someone for it: a database, another peer,
/// a service. Only with [`Validation::OffTask`](super::Validation::OffTask).
///
/// It decides about what is stored here, whether others send it or this node comes across it in reads of its own. What a
/// read answers it does not decide.
///
/// It has to set itself a time limit: until it answers, the record has a place in the queue.
pub trait AsyncValidator: Send + Sync + 'static {
    /// Whether this record, which `source` has sent, or has answered a read with, may be stored.
    ///
    /// # Errors
    /// [`ValidationError`] if not.
    fn validate<'a>(
        &'a self,
        key: &'a RecordKey,
        value: &'a [u8],
        source: PeerId,
    ) -> BoxFuture<'a, Result<(), ValidationError>>;
}

/// Runs a future to its end, somewhere else.
pub type Executor = Box<dyn FnOnce(BoxFuture<'static, ()>) + Send>;

/// An inbound record to be validated.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) source: PeerId,
    pub(super) key: RecordKey,
    pub(super) value: Vec<u8>,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
}

/// The behaviour's end.
pub(super) struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    pub(super) done: mpsc::UnboundedReceiver<Checked>,
    /// Whether someone is asked about what is otherwise good.
    pub(super) asks: bool,
}

/// What a worker needs to know.
pub(super) struct Setup {
    pub(super) validator: Arc<dyn Validator>,
    pub(super) asks: Option<Arc<dyn AsyncValidator>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) concurrency: usize,
}

impl Worker {
    /// Starts a worker, by default on a thread of its own.
    pub(super) fn start(setup: Setup, executor: Option<Executor>) -> Self {
        // Neither is longer than the queue, which the behaviour counts.
        let (jobs, inbox) = mpsc::unbounded();
        let (outbox, done) = mpsc::unbounded();
        let asks = setup.asks.is_some();
        let work = run(setup, inbox, outbox).boxed();
        match executor {
            Some(executor) => executor(work),
            None => {
                let name = "smart-record-validation".to_owned();
                let spawned = thread::Builder::new()
                    .name(name)
                    .spawn(move || futures::executor::block_on(work));
                if let Err(error) = spawned {
                    // Then all that comes in is refused.
                    tracing::error!(%error, "no thread for validation");
                }
            }
        }
        Self { jobs, done, asks }
    }

    /// Hands a job over. Returns whether there is still a worker to do it.
    pub(super) fn give(&self, job: Job) -> bool {
        self.jobs.unbounded_send(job).is_ok()
    }
}

async fn run(
    setup: Setup,
    inbox: mpsc::UnboundedReceiver<Job>,
    outbox: mpsc::UnboundedSender<Checked>,
) {
    let setup = &setup;
    let concurrency = setup.concurrency.max(1);
    inbox
        .map(|job| {
            let key = job.key.clone();
            async move {
                AssertUnwindSafe(check(setup, job)).catch_unwind().await.unwrap_or_else(|_| {
                    let reason = "the validator panicked".to_owned();
                    Checked::refused(key, ValidationError::Unsupported(reason))
                })
            }
        })
        .buffer_unordered(concurrency)
        // If nobody listens any more, the inbox has ended too.
        .for_each(|checked| {
            let _ = outbox.unbounded_send(checked);
            std::future::ready(())
        })
        .await;
}

async fn check(setup: &Setup, job: Job) -> Checked {
    let Job { source, key, value, publisher, expires_at } = job;
    let checked = Checked::new(&*setup.validator, key.clone(), &value, setup.clock.now());
    let asked = match &setup.asks {
        Some(asks) if checked.has_good() => asks.validate(&key, &value, source).await,
        _ => Ok(()),
    };
    match asked {
        Ok(()) => checked.with_origin(publisher, expires_at),
        Err(reason) => Checked::refused(key, reason),
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
