//! Task of a service: scans stored records, runs checks and publishes findings.
//!
//! **Invariants.** One scan, [`concurrency`](ServiceConfig::concurrency) checks and a few writes
//! run at a time. Findings never push other updates of the node out of its space. A check whose tag
//! panics has the outcome `Unknown`. The sweep of the store advances however many records change
//! meanwhile.

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
    check_queue::CheckQueue,
    config::ServiceConfig,
    counters::ServiceCounters,
    finding::{self, FINDINGS, Finding, encoded_len},
    publish_queue::PublishQueue,
    request::{Requests, requests},
    scan::ScanQueue,
    tag::{Outcome, SmartTag},
};
use libp2p_smart_record::{
    Clock, Kind, Namespace, Predicate, RecordKey, Registry, SmartRecord, Timestamp, Writer,
    client::{Client, ClientError, Publication, WeakClient},
    store::{self, StoreEvent, storage::RecordId},
};

/// Pause after each scan. A scan of a large record takes the swarm's task some milliseconds, so
/// scans take a small part of its time, however many records change.
const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// Longest sleep of the timer, because the clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Most bytes of the node's space with findings in it, if the space also holds other data: less
/// than half of what a space may hold.
const SHARED_SPACE_BYTES: usize = 3 * 1_024;
/// Most updates of such a space: half of what a space may hold.
const SHARED_SPACE_UPDATES: usize = 32;

type ScannedRecord = (RecordKey, Result<Option<SmartRecord>, ClientError>);
type SweepStep = Result<Option<(RecordId, RecordKey)>, ClientError>;
type WriteResult = (RecordKey, Vec<Finding>, Result<Publication, ServiceError>);

pub(super) struct ServiceSetup {
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

pub(super) struct ServiceTask {
    setup: ServiceSetup,
    local: PeerId,
    checks: CheckQueue,
    scans: ScanQueue,
    scanning: Option<BoxFuture<'static, ScannedRecord>>,
    /// When the last scan began.
    scanned_at: Timestamp,
    /// When the next scan may begin.
    scan_at: Timestamp,
    sweeping: Option<BoxFuture<'static, SweepStep>>,
    running_checks: FuturesUnordered<BoxFuture<'static, (Predicate, Outcome)>>,
    publishing: PublishQueue,
    writes: FuturesUnordered<BoxFuture<'static, WriteResult>>,
    last_now: Timestamp,
    timer: Delay,
    timer_at: Option<Timestamp>,
}

impl ServiceTask {
    pub(super) fn new(setup: ServiceSetup) -> Self {
        let now = setup.clock.now();
        Self {
            local: setup.writer.peer_id(),
            checks: CheckQueue::new(setup.config.clone()),
            scans: ScanQueue::new(setup.config.scan_interval(), setup.config.sweep_interval(), now),
            scanning: None,
            scanned_at: now,
            scan_at: now,
            sweeping: None,
            running_checks: FuturesUnordered::new(),
            publishing: PublishQueue::new(&setup.config),
            writes: FuturesUnordered::new(),
            last_now: now,
            timer: Delay::new(Duration::ZERO),
            timer_at: None,
            setup,
        }
    }

    fn emit(&mut self, event: ServiceEvent) {
        tracing::debug!(?event, "service");
        self.count(|counters| match event {
            ServiceEvent::Published { .. } => &mut counters.published,
            ServiceEvent::Refused { .. } => &mut counters.refused,
            ServiceEvent::Unknown { .. } => &mut counters.unknown,
            ServiceEvent::Failed { .. } => &mut counters.failed,
        });
        // A full or closed channel loses the event.
        let _ = self.setup.events.try_send(event);
    }

    fn count(&self, which: impl FnOnce(&mut ServiceCounters) -> &mut u64) {
        let mut counters = self.setup.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let count = which(&mut counters);
        *count = count.saturating_add(1);
    }

    /// Does one thing, if there is one to do. Returns an error when the service ends.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServiceEnded>> {
        match Pin::new(&mut self.setup.stored).poll_next(cx) {
            Poll::Ready(Some(event)) => {
                self.on_store_event(event);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(None) => return Poll::Ready(Err(ServiceEnded)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Some((request, outcome))) = self.running_checks.poll_next_unpin(cx) {
            self.on_outcome(&request, outcome);
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(Some(written)) = self.writes.poll_next_unpin(cx) {
            return Poll::Ready(self.on_written(written));
        }
        if let Some(scanning) = &mut self.scanning
            && let Poll::Ready((key, stored)) = scanning.poll_unpin(cx)
        {
            self.scanning = None;
            return Poll::Ready(self.on_scanned(&key, stored));
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

    /// Begins one thing that is due. Returns whether there was one.
    fn begin(&mut self, now: Timestamp) -> Result<bool, ServiceEnded> {
        if now < self.last_now {
            self.on_clock_set_back(now);
        }
        self.last_now = now;
        if let Some((request, tag)) = self.checks.next(now) {
            self.begin_check(request, tag);
            return Ok(true);
        }
        if let Some((key, found)) = self.publishing.next(now) {
            self.begin_write(key, found, now)?;
            return Ok(true);
        }
        if self.scanning.is_none()
            && self.scan_at <= now
            && let Some(key) = self.scans.take(now)
        {
            self.scanned_at = now;
            self.count(|counters| &mut counters.scans);
            let (client, local) = (self.client()?, self.local);
            self.scanning = Some(
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

    /// Handles a clock that was set back: nothing waits for longer than it would from `now`.
    fn on_clock_set_back(&mut self, now: Timestamp) {
        self.checks.on_clock_set_back(now);
        self.publishing.on_clock_set_back(now);
        self.scans.on_clock_set_back(now);
        self.scan_at = self.scan_at.min(now.saturating_add(SCAN_PAUSE));
        self.scanned_at = self.scanned_at.min(now);
    }

    /// Waits until the next thing is due.
    fn sleep(&mut self, now: Timestamp, cx: &mut Context<'_>) -> Poll<Result<(), ServiceEnded>> {
        if self.timer_at.is_some() && self.timer.poll_unpin(cx).is_ready() {
            self.timer_at = None;
        }
        let scan_at = self.scans.next_at(now);
        let next = [
            self.checks.next_at(now),
            self.publishing.next_at(now),
            scan_at.filter(|_| self.scanning.is_none()).map(|at| at.max(self.scan_at)),
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

    /// When the sweep continues; `None` while it looks for the next record.
    fn sweep_at(&self) -> Option<Timestamp> {
        self.scans.sweep_at().filter(|_| self.sweeping.is_none())
    }

    fn client(&self) -> Result<Client, ServiceEnded> {
        self.setup.client.upgrade().ok_or(ServiceEnded)
    }

    fn on_store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored { key, writers, .. } if !writers.is_empty() => {
                self.request_scan(key)
            }
            StoreEvent::Evicted { key } => self.forget(&key),
            _ => {}
        }
    }

    /// Schedules a scan of a record, if the service can answer in it.
    fn request_scan(&mut self, key: RecordKey) {
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

    /// Forgets a record that is no longer stored.
    fn forget(&mut self, key: &RecordKey) {
        self.checks.forget_record(key);
        self.publishing.retain(key, |_| false);
    }

    fn on_scanned(
        &mut self,
        key: &RecordKey,
        stored: Result<Option<SmartRecord>, ClientError>,
    ) -> Result<(), ServiceEnded> {
        let now = self.setup.clock.now();
        self.scan_at = now.saturating_add(SCAN_PAUSE);
        let record = match stored {
            Ok(Some(record)) => record,
            Ok(None) => {
                self.forget(key);
                return Ok(());
            }
            Err(ClientError::Stopped) => return Err(ServiceEnded),
            Err(error) => {
                tracing::warn!(%error, %key, "failed to scan a record");
                return Ok(());
            }
        };
        let view = record.view(now);
        let config = &self.setup.config;
        let (of_writer, bytes) = (config.max_of_writer(), config.max_request_bytes());
        let Requests { accepted, mut refused } =
            requests(&view, &self.setup.tags, of_writer, bytes);
        let own = view.get(&self.local);
        let published: Vec<_> = own
            .into_iter()
            .flat_map(|space| finding::in_document(&space.document, space.expires_at))
            .collect();
        let result = self.checks.on_record(key, accepted, &published, now);
        let checks = &self.checks;
        self.publishing.retain(key, |request| !checks.askers(key, request).is_empty());
        if let Some(until) = published.iter().map(|found| found.expires_at).max() {
            self.publishing.on_published(key, until, now);
        }
        // A write since the scan began is a change, which causes another scan.
        if !self.publishing.was_written_since(key, self.scanned_at) {
            result.known.into_iter().for_each(|found| self.publish(key, found, now));
        }
        refused.extend(result.refused);
        for (writer, reason) in refused {
            self.emit(ServiceEvent::Refused { key: key.clone(), writer, reason });
        }
        Ok(())
    }

    fn on_swept(&mut self, next: SweepStep) -> Result<(), ServiceEnded> {
        let now = self.setup.clock.now();
        let next = match next {
            Ok(next) => next.map(|(id, key)| (id, Some(key).filter(|key| self.may_answer_in(key)))),
            Err(ClientError::Stopped) => return Err(ServiceEnded),
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
        self.running_checks.push(check.boxed());
    }

    fn on_outcome(&mut self, request: &Predicate, outcome: Outcome) {
        let now = self.setup.clock.now();
        let outcome = match outcome {
            Outcome::Found(found) => {
                let found = found.without_lifetimes();
                // A longer finding does not fit into an update.
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
            self.emit(ServiceEvent::Unknown { request: request.clone() });
        }
        for (key, found) in self.checks.on_outcome(request, outcome, now) {
            self.publish(&key, found, now);
        }
    }

    /// Schedules the publication of a finding, together with others in the same record.
    fn publish(&mut self, key: &RecordKey, found: Finding, now: Timestamp) {
        let askers = self.checks.askers(key, &found.request);
        if self.publishing.add(key, found, askers, now).is_err() {
            let error = ServiceError::TooManyRecords;
            self.emit(ServiceEvent::Failed { key: key.clone(), error });
        }
    }

    fn begin_write(
        &mut self,
        key: RecordKey,
        found: Vec<Finding>,
        now: Timestamp,
    ) -> Result<(), ServiceEnded> {
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

    fn on_written(&mut self, (key, found, written): WriteResult) -> Result<(), ServiceEnded> {
        self.publishing.on_written(&key, self.setup.clock.now());
        match written {
            Ok(Publication { peers, .. }) => {
                for finding in found {
                    let peers = peers.clone();
                    self.emit(ServiceEvent::Published { key: key.clone(), finding, peers });
                }
            }
            Err(ServiceError::Client(ClientError::Stopped)) => return Err(ServiceEnded),
            Err(error) => self.emit(ServiceEvent::Failed { key, error }),
        }
        Ok(())
    }
}

/// The stored record, joined with this node's space if the record has no place for it.
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
        // Both have the same key, so the join succeeds.
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
    // Without another replica, those who come to this one find it.
    let published = client.publish(key.clone(), document, ttl).await;
    Ok(published.or_else(ClientError::into_publication)?)
}

/// The behaviour, its store or its last client is gone.
struct ServiceEnded;

impl Future for ServiceTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.step(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ServiceEnded)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
