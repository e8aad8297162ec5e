//! Validation off the swarm's task.
//!
//! Validates inbound records, and answers to reads and to follow-ups of writes.
//!
//! **Invariants.** The worker has no access to the store: it makes [`ValidatedRecord`] values, and
//! the behaviour inserts them. It ends with the behaviour. A validator that panics affects only the
//! record it was validating. The queues are bounded.

use std::{
    future::ready,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, channel::mpsc, future::BoxFuture};
use libp2p_identity::PeerId;

use super::{
    budget::Reserved, config::BehaviourConfig, inbound::InboundRefusal, network::OperationId,
};
use crate::{
    meter::{Meter, Timed},
    query::{Answer, JoinedAnswers},
    store::{Asker, ValidatedRecord},
};
use smart_record_core::{Clock, RecordKey, Registry, SignatureMemory, Timestamp, ValidationError};

/// Decides about storing records that are valid by the rules of the registry, and may query a
/// database, another peer or a service. Only with
/// [`Validation::OffTask`](super::Validation::OffTask).
///
/// Applies to inbound records and to records found by this node's own reads, each as a whole. It
/// does not affect the results of reads, and is not asked about this node's own writes.
///
/// Use an [`Admission`](smart_record_core::Admission) for what depends on key and writer alone: it
/// applies to single spaces, to reads and to own writes too. This one exists because it may wait.
///
/// The implementation has to apply its own timeout: until it returns, the record occupies a slot of
/// the queue.
pub trait AsyncValidator: Send + Sync + 'static {
    /// Decides whether this record may be stored. `source` is the peer that sent it or answered a
    /// read with it.
    ///
    /// # Errors
    /// [`ValidationError`] if the record may not be stored.
    fn validate<'a>(
        &'a self,
        key: &'a RecordKey,
        value: &'a [u8],
        source: PeerId,
    ) -> BoxFuture<'a, Result<(), ValidationError>>;
}

/// Maximum work of the signatures in an answer: more than those of a packet of Kademlia take,
/// whatever their type. The rest of a longer answer is refused unread.
const ANSWER_WORK: Duration = Duration::from_millis(40);

/// Spawns a future.
pub type Executor = Box<dyn FnOnce(BoxFuture<'static, ()>) + Send>;

/// An inbound record to be validated.
#[derive(Debug)]
pub(super) struct InboundRecord {
    pub(super) source: PeerId,
    pub(super) key: RecordKey,
    pub(super) value: Vec<u8>,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
    /// `None` for what this node has read.
    pub(super) asker: Option<Asker>,
    /// `None` for what this node has read.
    pub(super) reserved: Option<Reserved>,
}

/// A validated inbound record.
#[derive(Debug)]
pub(super) struct CheckedRecord {
    pub(super) record: ValidatedRecord,
    pub(super) reserved: Option<Reserved>,
    /// The work that its signatures took.
    pub(super) work: Duration,
}

/// A peer's answer with a record, to be checked.
#[derive(Debug)]
pub(super) struct PeerAnswer {
    /// The operation that has asked for it.
    pub(super) operation: OperationId,
    pub(super) peer: PeerId,
    pub(super) key: RecordKey,
    pub(super) value: Bytes,
    pub(super) expires_at: Option<Timestamp>,
    /// Content that need not be verified again.
    pub(super) known: JoinedAnswers,
}

/// Result of validating an answer.
#[derive(Debug)]
pub(super) struct AnswerVerdict {
    pub(super) operation: OperationId,
    pub(super) peer: PeerId,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) answer: Result<Answer, ValidationError>,
}

/// Queue to the worker, and the results that come back.
pub(super) struct Queue<T, R> {
    to: mpsc::UnboundedSender<T>,
    back: mpsc::UnboundedReceiver<R>,
    /// Number of items sent without a result yet.
    waiting: usize,
    max: usize,
    has_ended: bool,
}

impl<T, R> Queue<T, R> {
    /// Returns a queue of at most `max` items, and the worker's ends of it.
    fn new(max: usize) -> (Self, mpsc::UnboundedReceiver<T>, mpsc::UnboundedSender<R>) {
        // Neither channel is longer than `max`, because waiting items are counted.
        let ((to, inbox), (results, back)) = (mpsc::unbounded(), mpsc::unbounded());
        (Self { to, back, waiting: 0, max, has_ended: false }, inbox, results)
    }

    /// Sends an item. Returns it with the reason if the queue is full or the worker has ended.
    pub(super) fn give(&mut self, item: T) -> Result<(), (T, InboundRefusal)> {
        if self.waiting >= self.max {
            return Err((item, InboundRefusal::QueueFull));
        }
        let given = self.to.unbounded_send(item);
        given.map_err(|error| (error.into_inner(), InboundRefusal::Stopped))?;
        self.waiting = self.waiting.saturating_add(1);
        Ok(())
    }

    /// Whether at least half of the queue is in use.
    pub(super) const fn is_crowded(&self) -> bool {
        self.waiting >= self.max.div_ceil(2)
    }

    /// Polls for the next result. Returns `None` once, when the worker has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        if self.has_ended {
            return Poll::Pending;
        }
        let next = std::task::ready!(self.back.poll_next_unpin(cx));
        self.waiting = self.waiting.saturating_sub(1);
        self.has_ended = next.is_none();
        Poll::Ready(next)
    }
}

/// The behaviour's end of the queues.
pub(super) struct Worker {
    pub(super) records: Queue<InboundRecord, CheckedRecord>,
    pub(super) answers: Queue<PeerAnswer, AnswerVerdict>,
    /// Whether there is an async validator.
    pub(super) asks: bool,
}

/// Dependencies and settings of a worker.
pub(super) struct WorkerSetup {
    pub(super) registry: Registry,
    pub(super) signatures: SignatureMemory,
    pub(super) asks: Option<Arc<dyn AsyncValidator>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: BehaviourConfig,
    pub(super) meter: Meter,
}

impl Worker {
    /// Starts a worker, on a thread of its own unless an executor is given.
    pub(super) fn start(setup: WorkerSetup, executor: Option<Executor>) -> Self {
        let max = setup.config.inbound_queue();
        let (records, inbox, results) = Queue::new(max);
        let (answers, answer_inbox, verdicts) = Queue::new(max);
        let asks = setup.asks.is_some();
        let work = async move {
            let (setup, concurrency) = (&setup, setup.config.inbound_concurrency());
            let records = serve(inbox, results, concurrency, |job| validate(setup, job));
            let answers = serve(answer_inbox, verdicts, 1, |answer| ready(check(setup, answer)));
            // Concurrently, so that answers do not wait for the async validator.
            futures::join!(records, answers);
        };
        let work = work.boxed();
        match executor {
            Some(executor) => executor(work),
            None => {
                let name = "smart-record-validation".to_owned();
                let spawned = thread::Builder::new()
                    .name(name)
                    .spawn(move || futures::executor::block_on(work));
                if let Err(error) = spawned {
                    // All inbound records are then refused.
                    tracing::error!(%error, "the validation thread could not be started");
                }
            }
        }
        Self { records, answers, asks }
    }
}

/// Processes all items, `concurrency` at a time.
async fn serve<T, W: Future>(
    inbox: mpsc::UnboundedReceiver<T>,
    results: mpsc::UnboundedSender<W::Output>,
    concurrency: usize,
    work: impl FnMut(T) -> W,
) {
    let done = inbox.map(work).buffer_unordered(concurrency.max(1));
    // If the receiver is gone, the inbox has ended too.
    done.map(|done| results.unbounded_send(done)).for_each(|_| ready(())).await;
}

impl PeerAnswer {
    /// Gives the answer to the worker. If there is none, or its queue is full, checks it here and
    /// returns the verdict.
    pub(super) fn check(
        self,
        worker: Option<&mut Worker>,
        signatures: &SignatureMemory,
        now: Timestamp,
    ) -> Option<AnswerVerdict> {
        let Some(worker) = worker else {
            return Some(self.check_here(signatures, now));
        };
        let given = worker.answers.give(self);
        given.err().map(|(answer, _)| answer.check_here(signatures, now))
    }

    fn check_here(self, signatures: &SignatureMemory, now: Timestamp) -> AnswerVerdict {
        let Self { operation, peer, key, value, expires_at, known } = self;
        let (answer, _) = signatures.during(ANSWER_WORK, || known.check(&key, value, now));
        AnswerVerdict { operation, peer, expires_at, answer }
    }
}

fn check(setup: &WorkerSetup, answer: PeerAnswer) -> AnswerVerdict {
    let PeerAnswer { operation, peer, expires_at, .. } = answer;
    let check = || answer.check_here(&setup.signatures, setup.clock.now());
    std::panic::catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
        let answer = Err(panicked());
        AnswerVerdict { operation, peer, expires_at, answer }
    })
}

async fn validate(setup: &WorkerSetup, job: InboundRecord) -> CheckedRecord {
    let (key, reserved) = (job.key.clone(), job.reserved);
    let validated = AssertUnwindSafe(validate_and_ask(setup, job)).catch_unwind().await;
    let (record, work) = validated.unwrap_or_else(|_| {
        let work = reserved.map_or(Duration::ZERO, |reserved| reserved.work());
        (ValidatedRecord::refused(key, panicked()), work)
    });
    CheckedRecord { record, reserved, work }
}

fn panicked() -> ValidationError {
    ValidationError::Unsupported("the validator panicked".to_owned())
}

async fn validate_and_ask(setup: &WorkerSetup, job: InboundRecord) -> (ValidatedRecord, Duration) {
    let InboundRecord { source, key, value, publisher, expires_at, asker, .. } = job;
    let begun = setup.meter.begin();
    let check = || ValidatedRecord::new(&setup.registry, key.clone(), &value, setup.clock.now());
    let (checked, work) = setup.signatures.during(Duration::MAX, check);
    setup.meter.end(Timed::Validation, begun);
    let asked = match &setup.asks {
        Some(asks) if checked.has_good() => asks.validate(&key, &value, source).await,
        _ => Ok(()),
    };
    let checked = match asked {
        Ok(()) => checked.with_origin(publisher, expires_at).brought_by(asker),
        Err(reason) => ValidatedRecord::refused(key, reason),
    };
    (checked, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_within_a_limit_of_work() {
        use crate::SystemClock;
        use libp2p_identity::Keypair;
        use smart_record_core::{Limits, SmartRecord, SpaceSigner};

        let key = RecordKey::new("/sr/a");
        let mut record = SmartRecord::new(key.clone());
        for _ in 0..130 {
            let keypair = Keypair::generate_ecdsa();
            let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
            let (document, ttl) = ([("a", 1)].into_iter().collect(), Duration::from_secs(3_600));
            signer.merge(document, SystemClock.now(), ttl).unwrap();
            record.join(signer.record(SystemClock.now())).unwrap();
        }
        let (registry, config) = (Registry::default(), BehaviourConfig::default());
        let setup = WorkerSetup {
            registry: registry.clone(),
            signatures: SignatureMemory::new(1_024 * 1_024),
            asks: None,
            clock: Arc::new(SystemClock),
            config,
            meter: Meter::default(),
        };
        let known = JoinedAnswers::new(&registry, &key).unwrap();
        let (peer, value) = (PeerId::random(), Bytes::from(record.encode()));
        let answer = PeerAnswer {
            operation: OperationId::Read(0),
            peer,
            key,
            value,
            expires_at: None,
            known,
        };
        assert!(check(&setup, answer).answer.is_ok());
        let counts = setup.signatures.counts();
        assert!(counts.verified < 125 && counts.unread > 0, "{counts:?}");
    }

    #[test]
    fn what_is_validated_off_the_task_keeps_its_source() {
        use crate::store::{MemoryStorage, Origin, SmartRecordStore, StoreConfig};
        use smart_record_core::AcceptAny;
        use smart_record_testing::ManualClock;

        let registry = Registry::empty().with_fallback(AcceptAny::default());
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let setup = WorkerSetup {
            registry: registry.clone(),
            signatures: SignatureMemory::new(1),
            asks: None,
            clock: Arc::new(clock.clone()),
            config: BehaviourConfig::default(),
            meter: Meter::default(),
        };
        let config = StoreConfig::default().with_max_records(3);
        let (local, storage) = (PeerId::random(), MemoryStorage::default());
        let store = SmartRecordStore::with_storage(local, registry, config, storage, clock.clone());
        let mut store = store.unwrap();
        let mut bring = |key: &str, network: Option<u8>| {
            clock.advance(Duration::from_secs(1));
            let source = PeerId::random();
            let address = network.map(|n| format!("/ip4/203.0.{n}.7/tcp/1").parse().unwrap());
            let asker = address.map(|address| Asker::new(source, Some(&address)));
            let (key, value) = (RecordKey::new(key), b"value".to_vec());
            let (publisher, expires_at, reserved) = (None, None, None);
            let job = InboundRecord { source, key, value, publisher, expires_at, asker, reserved };
            let checked = futures::executor::block_on(validate(&setup, job));
            store.insert(checked.record, Origin::Remote).is_ok()
        };
        assert!(bring("a", Some(1)) && bring("b", Some(1)) && bring("c", Some(1)));
        // Another network has a share of its own, and so has what this node reads.
        assert!(bring("d", Some(2)));
        assert!(!bring("e", Some(1)) && !bring("f", Some(2)));
        assert!(bring("g", None));
        assert_eq!(store.counters().records_evicted, 2);
    }

    #[test]
    fn a_full_queue_refuses_new_items() {
        let (mut queue, mut inbox, results) = Queue::new(2);
        assert_eq!((queue.give(1), queue.give(2)), (Ok(()), Ok(())));
        assert_eq!(queue.give(3), Err((3, InboundRefusal::QueueFull)));
        assert_eq!(inbox.try_recv(), Ok(1));
        assert_eq!(
            queue.give(3),
            Err((3, InboundRefusal::QueueFull)),
            "the first item is still being processed"
        );
        results.unbounded_send("done").unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(queue.poll(&mut cx), Poll::Ready(Some("done")));
        assert_eq!(queue.give(3), Ok(()));
        drop((inbox, results));
        assert_eq!(queue.poll(&mut cx), Poll::Ready(None));
        assert_eq!(queue.poll(&mut cx), Poll::Pending, "once");
        assert_eq!(queue.give(4), Err((4, InboundRefusal::Stopped)));
    }
}
