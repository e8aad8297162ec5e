//! The task of a service: looks at what is stored, has it checked, and publishes what was found.
//!
//! **Invariants.** Only so much is under way at a time: one look, [`concurrency`](ServiceConfig::concurrency) checks, some writes.
//! The service never pushes what others of this node say in the same space out of it. A tag that panics has found nothing.
//! Going through the store goes on however many records change meanwhile.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    channel::mpsc,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use futures_timer::Delay;
use libp2p_identity::PeerId;

use super::{
    ServiceError, ServiceEvent,
    agenda::Agenda,
    config::ServiceConfig,
    counters::ServiceCounters,
    finding::{self, FINDINGS, Finding, encoded_len},
    outbox::Outbox,
    request::{Requests, requests},
    scan::Scans,
    tag::{Outcome, SmartTag},
};
use libp2p_smart_record::{
    Clock, Kind, Namespace, Predicate, RecordKey, Registry, SmartRecord, Timestamp, Writer,
    client::{Client, ClientError, Publication, WeakClient},
    store::{self, StoreEvent, storage::RecordId},
};

/// How long after a record was looked through the next is. Reading a large one takes the swarm's task some milliseconds, so it
/// is held for a small part of the time, however many change.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// The timer never sleeps for longer, because a clock can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How many bytes a space has in all with findings in it, if it says something else as well: less than half of what there is
/// room for.
const SHARED_SPACE_BYTES: usize = 3 * 1_024;
/// And how many updates: half of those.
const SHARED_SPACE_UPDATES: usize = 32;

type Stored = (RecordKey, Result<Option<SmartRecord>, ClientError>);
type Next = Result<Option<(RecordId, RecordKey)>, ClientError>;
type Written = (RecordKey, Vec<Finding>, Result<Publication, ServiceError>);

pub(super) struct Setup {
    pub(super) client: WeakClient,
    pub(super) writer: Writer,
    pub(super) tags: Vec<Box<dyn SmartTag>>,
    pub(super) config: ServiceConfig,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stored: store::Events,
    pub(super) events: mpsc::Sender<ServiceEvent>,
    pub(super) counters: Arc<Mutex<ServiceCounters>>,
}

pub(super) struct Task {
    setup: Setup,
    local: PeerId,
    agenda: Agenda,
    scans: Scans,
    looking: Option<BoxFuture<'static, Stored>>,
    /// When the last look began, and when the next may.
    looked_at: Timestamp,
    look_at: Timestamp,
    sweeping: Option<BoxFuture<'static, Next>>,
    checks: FuturesUnordered<BoxFuture<'static, (Predicate, Outcome)>>,
    outbox: Outbox,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
    last_now: Timestamp,
    timer: Delay,
    timer_at: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(setup: Setup) -> Self {
        let now = setup.clock.now();
        Self {
            local: setup.writer.peer_id(),
            agenda: Agenda::new(setup.config.clone()),
            scans: Scans::new(setup.config.scan_interval(), setup.config.sweep_interval(), now),
            looking: None,
            looked_at: now,
            look_at: now,
            sweeping: None,
            checks: FuturesUnordered::new(),
            outbox: Outbox::new(&setup.config),
            writes: FuturesUnordered::new(),
            last_now: now,
            timer: Delay::new(Duration::ZERO),
            timer_at: None,
            setup,
        }
    }

    fn tell(&mut self, event: ServiceEvent) {
        tracing::debug!(?event, "service");
        self.count(|counters| match event {
            ServiceEvent::Published { .. } => &mut counters.published,
            ServiceEvent::Refused { .. } => &mut counters.refused,
            ServiceEvent::Unknown { .. } => &mut counters.unknown,
            ServiceEvent::Failed { .. } => &mut counters.failed,
        });
        // Whoever does not listen, or does not keep up, loses it.
        let _ = self.setup.events.try_send(event);
    }

    fn count(&self, which: impl FnOnce(&mut ServiceCounters) -> &mut u64) {
        let mut counters = self.setup.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let count = which(&mut counters);
        *count = count.saturating_add(1);
    }

    /// One thing to do, if there is one; an error at the end.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        match Pin::new(&mut self.setup.stored).poll_next(cx) {
            Poll::Ready(Some(event)) => {
                self.on_store_event(event);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(None) => return Poll::Ready(Err(Ended)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Some((request, outcome))) = self.checks.poll_next_unpin(cx) {
            self.on_outcome(&request, outcome);
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(Some(written)) = self.writes.poll_next_unpin(cx) {
            return Poll::Ready(self.on_written(written));
        }
        if let Some(looking) = &mut self.looking
            && let Poll::Ready((key, stored)) = looking.poll_unpin(cx)
        {
            self.looking = None;
            return Poll::Ready(self.on_looked(&key, stored));
        }
        if let Some(sweeping) = &mut self.sweeping
            && let Poll::Ready(next) = sweeping.poll_unpin(cx)
        {
            self.sweeping = None;
            return Poll::Ready(self.on_swept(next));
        }
        let now = self.setup.clock.now();
        match self.begin(now) {
            Ok(false) => self.sleep(now, cx),
            Ok(true) => Poll::Ready(Ok(())),
            Err(ended) => Poll::Ready(Err(ended)),
        }
    }

    /// Begins something that is due; says whether there was something.
    fn begin(&mut self, now: Timestamp) -> Result<bool, Ended> {
        if now < self.last_now {
            self.on_clock_set_back(now);
        }
        self.last_now = now;
        if let Some((request, tag)) = self.agenda.next(now) {
            self.begin_check(request, tag);
            return Ok(true);
        }
        if let Some((key, found)) = self.outbox.next(now) {
            self.begin_write(key, found, now)?;
            return Ok(true);
        }
        if self.looking.is_none()
            && self.look_at <= now
            && let Some(key) = self.scans.take(now)
        {
            self.looked_at = now;
            self.count(|counters| &mut counters.looks);
            let (client, local) = (self.client()?, self.local);
            self.looking = Some(
                async move {
                    let stored = stored_with_own(client, &key, local).await;
                    (key, stored)
                }
                .boxed(),
            );
            return Ok(true);
        }
        if self.sweep_at().is_some_and(|at| at <= now) {
            let (client, after) = (self.client()?, self.scans.swept());
            self.sweeping = Some(async move { client.next_stored(after).await }.boxed());
            return Ok(true);
        }
        Ok(false)
    }

    /// The clock was set back: nothing waits for longer than it would have from now on.
    fn on_clock_set_back(&mut self, now: Timestamp) {
        self.agenda.on_clock_set_back(now);
        self.outbox.on_clock_set_back(now);
        self.scans.on_clock_set_back(now);
        self.look_at = self.look_at.min(now.saturating_add(LOOK_PAUSE));
        self.looked_at = self.looked_at.min(now);
    }

    /// Waits for the next thing that is due.
    fn sleep(&mut self, now: Timestamp, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.timer_at.is_some() && self.timer.poll_unpin(cx).is_ready() {
            self.timer_at = None;
        }
        let look_at = self.scans.next_at(now);
        let next = [
            self.agenda.next_at(now),
            self.outbox.next_at(now),
            look_at.filter(|_| self.looking.is_none()).map(|at| at.max(self.look_at)),
            self.sweep_at(),
        ];
        let next = next.into_iter().flatten().min();
        let sleep = next.map_or(LONGEST_SLEEP, |at| at.saturating_since(now));
        let sleep = sleep.clamp(Duration::from_millis(1), LONGEST_SLEEP);
        let wake_at = now.saturating_add(sleep);
        if self.timer_at.is_none_or(|at| at > wake_at) {
            self.timer_at = Some(wake_at);
            self.timer.reset(sleep);
            if self.timer.poll_unpin(cx).is_ready() {
                self.timer_at = None;
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// When the sweep goes on; while it looks for the next record, not at any time.
    fn sweep_at(&self) -> Option<Timestamp> {
        self.scans.sweep_at().filter(|_| self.sweeping.is_none())
    }

    fn client(&self) -> Result<Client, Ended> {
        self.setup.client.upgrade().ok_or(Ended)
    }

    fn on_store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored { key, writers, .. } if !writers.is_empty() => self.look_into(key),
            StoreEvent::Evicted { key } => self.forget(&key),
            _ => {}
        }
    }

    /// Has a record looked through soon, if the service could answer in it.
    fn look_into(&mut self, key: RecordKey) {
        if self.may_answer_in(&key) {
            self.scans.add(key, self.setup.clock.now());
        }
    }

    fn may_answer_in(&self, key: &RecordKey) -> bool {
        match self.setup.registry.resolve(key) {
            Ok(Namespace::Spaces(rules)) => rules.check_writer(key, &self.setup.writer).is_ok(),
            _ => false,
        }
    }

    /// The record is not stored here any more.
    fn forget(&mut self, key: &RecordKey) {
        self.agenda.forget_record(key);
        self.outbox.keep(key, |_| false);
    }

    fn on_looked(
        &mut self,
        key: &RecordKey,
        stored: Result<Option<SmartRecord>, ClientError>,
    ) -> Result<(), Ended> {
        let now = self.setup.clock.now();
        self.look_at = now.saturating_add(LOOK_PAUSE);
        let record = match stored {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.forget(key);
                return Ok(());
            }
            Err(ClientError::Stopped) => return Err(Ended),
            Err(error) => {
                tracing::warn!(%error, %key, "a record could not be looked through");
                return Ok(());
            }
        };
        let view = record.view(now);
        let config = &self.setup.config;
        let (of_writer, bytes) = (config.max_of_writer(), config.max_request_bytes());
        let Requests { asked, mut refused } = requests(&view, &self.setup.tags, of_writer, bytes);
        let own = view.get(&self.local);
        let published: Vec<_> = own
            .into_iter()
            .flat_map(|space| finding::in_document(&space.document, space.expires_at))
            .collect();
        let looked = self.agenda.on_record(key, asked, &published, now);
        let agenda = &self.agenda;
        self.outbox.keep(key, |request| !agenda.askers(key, request).is_empty());
        if let Some(until) = published.iter().map(|found| found.expires_at).max() {
            self.outbox.on_published(key, until, now);
        }
        // If it was written meanwhile, that is a change, and it is looked through again.
        if !self.outbox.was_written_since(key, self.looked_at) {
            looked.known.into_iter().for_each(|found| self.publish(key, found, now));
        }
        refused.extend(looked.refused);
        for (writer, reason) in refused {
            self.tell(ServiceEvent::Refused { key: key.clone(), writer, reason });
        }
        Ok(())
    }

    fn on_swept(&mut self, next: Next) -> Result<(), Ended> {
        let now = self.setup.clock.now();
        let next = match next {
            Ok(next) => next.map(|(id, key)| (id, Some(key).filter(|key| self.may_answer_in(key)))),
            Err(ClientError::Stopped) => return Err(Ended),
            Err(_) => None,
        };
        self.scans.on_swept(next, now);
        Ok(())
    }

    fn begin_check(&self, request: Predicate, tag: usize) {
        let Some(tag) = self.setup.tags.get(tag) else {
            return;
        };
        let begin = AssertUnwindSafe(|| tag.check(&request));
        let check = std::panic::catch_unwind(begin)
            .unwrap_or_else(|_| std::future::ready(Outcome::Unknown).boxed());
        let check = AssertUnwindSafe(check).catch_unwind();
        let timeout = self.setup.config.check_timeout();
        let check = async move {
            let outcome = match select(check, Delay::new(timeout)).await {
                Either::Left((outcome, _)) => outcome.unwrap_or(Outcome::Unknown),
                Either::Right(_) => Outcome::Unknown,
            };
            (request, outcome)
        };
        self.checks.push(check.boxed());
    }

    fn on_outcome(&mut self, request: &Predicate, outcome: Outcome) {
        let now = self.setup.clock.now();
        let outcome = match outcome {
            Outcome::Found(found) => {
                let found = found.without_lifetimes();
                // One that does not fit into an update cannot be published.
                if encoded_len(&found) > self.setup.config.max_request_bytes().saturating_mul(2) {
                    Outcome::Unknown
                } else {
                    Outcome::Found(found)
                }
            }
            outcome => outcome,
        };
        self.count(|counters| match outcome {
            Outcome::Later(_) => &mut counters.put_off,
            _ => &mut counters.checks,
        });
        if outcome == Outcome::Unknown {
            self.tell(ServiceEvent::Unknown { request: request.clone() });
        }
        for (key, found) in self.agenda.on_outcome(request, outcome, now) {
            self.publish(&key, found, now);
        }
    }

    /// Has a finding published soon, with others in the same record.
    fn publish(&mut self, key: &RecordKey, found: Finding, now: Timestamp) {
        let askers = self.agenda.askers(key, &found.request);
        if self.outbox.add(key, found, askers, now).is_err() {
            let error = ServiceError::TooManyRecords;
            self.tell(ServiceEvent::Failed { key: key.clone(), error });
        }
    }

    fn begin_write(
        &mut self,
        key: RecordKey,
        found: Vec<Finding>,
        now: Timestamp,
    ) -> Result<(), Ended> {
        let client = self.client()?;
        let last = found.iter().map(|found| found.expires_at).max().unwrap_or(now);
        let (ttl, writer) = (last.saturating_since(now), self.setup.writer.clone());
        let write = async move {
            let written = write(client, &writer, &key, &found, now, ttl).await;
            (key, found, written)
        };
        self.writes.push(write.boxed());
        Ok(())
    }

    fn on_written(&mut self, (key, found, written): Written) -> Result<(), Ended> {
        self.outbox.on_written(&key, self.setup.clock.now());
        match written {
            Ok(Publication { peers, .. }) => {
                for finding in found {
                    let peers = peers.clone();
                    self.tell(ServiceEvent::Published { key: key.clone(), finding, peers });
                }
            }
            Err(ServiceError::Client(ClientError::Stopped)) => return Err(Ended),
            Err(error) => self.tell(ServiceEvent::Failed { key, error }),
        }
        Ok(())
    }
}

/// A stored record, and the own space beside it where the record has no place for that.
async fn stored_with_own(
    client: Client,
    key: &RecordKey,
    local: PeerId,
) -> Result<Option<SmartRecord>, ClientError> {
    let own = client.stored_of(key.clone(), local).await?;
    let Some(mut record) = client.stored(key.clone()).await? else {
        return Ok(own);
    };
    if let Some(own) = own {
        // Both are of this key.
        drop(record.join(own));
    }
    Ok(Some(record))
}

async fn write(
    client: Client,
    writer: &Writer,
    key: &RecordKey,
    found: &[Finding],
    now: Timestamp,
    ttl: Duration,
) -> Result<Publication, ServiceError> {
    let document = finding::document(found);
    let record = client.stored_of(key.clone(), writer.peer_id()).await?;
    if let Some(space) = record.as_ref().and_then(|record| record.space(writer)) {
        let says = space.view(now).map(|view| view.document).unwrap_or_default();
        if says.iter().any(|(name, _)| *name != Kind::from(FINDINGS)) {
            let len = libp2p_smart_record::codec::encode(&document).len();
            let bytes =
                space.updates().map(|u| u.as_bytes().len()).fold(len, usize::saturating_add);
            if bytes > SHARED_SPACE_BYTES || space.updates().len() >= SHARED_SPACE_UPDATES {
                return Err(ServiceError::NoRoom);
            }
        }
    }
    Ok(client.publish(key.clone(), document, ttl).await?)
}

/// The behaviour, its store or its last client is gone.
struct Ended;

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.step(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Ended)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
