//! Validation off the swarm's task.
//!
//! What others send is validated here, and what they answer to reads is checked.
//!
//! **Invariants.** The worker has no access to the store: it makes [`Checked`] values, and the behaviour inserts them.
//! It ends with the behaviour. A validator that panics takes only the record with it that it was asked about. What waits is
//! bounded in number.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, channel::mpsc, future::BoxFuture};
use libp2p_identity::PeerId;
use libp2p_kad::QueryId;

use crate::{
    meter::{Meter, Timed},
    query::{Joined, Said},
    store::Checked,
};
use smart_record_core::Clock;
use smart_record_core::{RecordKey, Registry, Timestamp, ValidationError};

/// Decides about records that the registry has found to be good, and may ask someone for it: a database, another peer,
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

/// An answer to a read, to be checked.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which read.
    pub(super) read: QueryId,
    pub(super) peer: PeerId,
    pub(super) key: RecordKey,
    pub(super) value: Bytes,
    pub(super) expires_at: Option<Timestamp>,
    /// What need not be verified again.
    pub(super) known: Joined,
}

/// What has become of an answer.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) read: QueryId,
    pub(super) peer: PeerId,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) said: Result<Said, ValidationError>,
}

/// The behaviour's end.
pub(super) struct Worker {
    jobs: mpsc::UnboundedSender<Job>,
    pub(super) done: mpsc::UnboundedReceiver<Checked>,
    answers: mpsc::UnboundedSender<Answer>,
    verdicts: mpsc::UnboundedReceiver<Verdict>,
    /// How many answers are being checked.
    answering: usize,
    max_answering: usize,
    has_ended: bool,
    /// Whether someone is asked about what is otherwise good.
    pub(super) asks: bool,
}

/// What a worker needs to know.
pub(super) struct Setup {
    pub(super) registry: Registry,
    pub(super) asks: Option<Arc<dyn AsyncValidator>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) concurrency: usize,
    pub(super) meter: Meter,
    /// How many answers to reads may wait.
    pub(super) max_answering: usize,
}

impl Worker {
    /// Starts a worker, by default on a thread of its own.
    pub(super) fn start(setup: Setup, executor: Option<Executor>) -> Self {
        // None is longer than its queue, which is counted.
        let (jobs, inbox) = mpsc::unbounded();
        let (outbox, done) = mpsc::unbounded();
        let (answers, answer_inbox) = mpsc::unbounded();
        let (verdict_outbox, verdicts) = mpsc::unbounded();
        let (asks, max_answering) = (setup.asks.is_some(), setup.max_answering);
        let setup = Arc::new(setup);
        // Side by side, so that answers do not wait for those who are asked about records.
        let reading = read(setup.clone(), answer_inbox, verdict_outbox);
        let work = futures::future::join(run(setup, inbox, outbox), reading).map(drop).boxed();
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
        let (answering, has_ended) = (0, false);
        Self { jobs, done, answers, verdicts, answering, max_answering, has_ended, asks }
    }

    /// Hands over an answer to be checked; gives its value back if there is no room for it, or nobody to do it.
    pub(super) fn read(&mut self, answer: Answer) -> Result<(), Bytes> {
        if self.answering >= self.max_answering {
            return Err(answer.value);
        }
        self.answers.unbounded_send(answer).map_err(|error| error.into_inner().value)?;
        self.answering = self.answering.saturating_add(1);
        Ok(())
    }

    /// The next verdict about an answer; `None`, once: there will be none any more.
    pub(super) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        if self.has_ended {
            return Poll::Pending;
        }
        let verdict = ready!(self.verdicts.poll_next_unpin(cx));
        self.answering = self.answering.saturating_sub(1);
        self.has_ended = verdict.is_none();
        Poll::Ready(verdict)
    }

    /// Hands a job over. Returns whether there is still a worker to do it.
    pub(super) fn give(&self, job: Job) -> bool {
        self.jobs.unbounded_send(job).is_ok()
    }
}

async fn read(
    setup: Arc<Setup>,
    inbox: mpsc::UnboundedReceiver<Answer>,
    outbox: mpsc::UnboundedSender<Verdict>,
) {
    inbox
        .for_each(|answer| {
            let Answer { read, peer, key, value, expires_at, known } = answer;
            let now = setup.clock.now();
            let check = || known.check(&key, value, now);
            let said = std::panic::catch_unwind(AssertUnwindSafe(check))
                .unwrap_or_else(|_| Err(panicked()));
            let _ = outbox.unbounded_send(Verdict { read, peer, expires_at, said });
            std::future::ready(())
        })
        .await;
}

fn panicked() -> ValidationError {
    ValidationError::Unsupported("the validator panicked".to_owned())
}

async fn run(
    setup: Arc<Setup>,
    inbox: mpsc::UnboundedReceiver<Job>,
    outbox: mpsc::UnboundedSender<Checked>,
) {
    let setup = &setup;
    let concurrency = setup.concurrency.max(1);
    inbox
        .map(|job| {
            let key = job.key.clone();
            async move {
                let checked = AssertUnwindSafe(check(setup, job)).catch_unwind().await;
                checked.unwrap_or_else(|_| Checked::refused(key, panicked()))
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
    let begun = setup.meter.begin();
    let checked = Checked::new(&setup.registry, key.clone(), &value, setup.clock.now());
    setup.meter.end(Timed::Validation, begun);
    let asked = match &setup.asks {
        Some(asks) if checked.has_good() => asks.validate(&key, &value, source).await,
        _ => Ok(()),
    };
    match asked {
        Ok(()) => checked.with_origin(publisher, expires_at),
        Err(reason) => Checked::refused(key, reason),
    }
}
