//! The task of a service: looks at what is stored, has it checked, and publishes what was found.
//!
//! **Invariants.** Only so much is under way at a time: one look, [`concurrency`](ServiceConfig::concurrency) checks, [`WRITES`] writes.
//! The service never pushes what others of this node say in the same space out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
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
    finding::{self, FINDINGS, Finding},
    request::{Requests, encoded_len, requests, without_lifetimes},
    scan::Scans,
    tag::{Outcome, SmartTag},
};
use crate::{
    client::{Client, ClientError, Publication, WeakClient},
    clock::Clock,
    key::RecordKey,
    node::{Kind, Predicate},
    record::{SmartRecord, Writer},
    store::{self, StoreEvent, storage::RecordId},
    time::Timestamp,
    validator::Validator,
};

/// How many writes are under way at a time.
const WRITES: usize = 4;
/// How long after a record was looked through the next is. Reading a large one takes the swarm's task some milliseconds, so it
/// is held for a small part of the time, however many change.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// With so many waiting to be looked through, going through the store waits, too.
const FEW: usize = 16;
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
    pub(super) validator: Arc<dyn Validator>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stored: store::Events,
    pub(super) events: mpsc::Sender<ServiceEvent>,
}

pub(super) struct Task {
    setup: Setup,
    local: PeerId,
    agenda: Agenda,
    scans: Scans,
    looking: Option<BoxFuture<'static, Stored>>,
    look_at: Timestamp,
    sweeping: Option<BoxFuture<'static, Next>>,
    swept: Option<RecordId>,
    sweep_at: Timestamp,
    checks: FuturesUnordered<BoxFuture<'static, (Predicate, Outcome)>>,
    /// What is to be published, and when.
    pending: BTreeMap<RecordKey, (Timestamp, Vec<Finding>)>,
    writing: BTreeSet<RecordKey>,
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
    timer: Delay,
    timer_at: Option<Timestamp>,
}

impl Task {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            local: setup.writer.peer_id(),
            agenda: Agenda::new(setup.config.clone()),
            scans: Scans::new(setup.config.scan_interval()),
            looking: None,
            look_at: setup.clock.now(),
            sweeping: None,
            swept: None,
            sweep_at: setup.clock.now(),
            checks: FuturesUnordered::new(),
            pending: BTreeMap::new(),
            writing: BTreeSet::new(),
            writes: FuturesUnordered::new(),
            timer: Delay::new(Duration::ZERO),
            timer_at: None,
            setup,
        }
    }

    fn tell(&mut self, event: ServiceEvent) {
        tracing::debug!(?event, "service");
        // Whoever does not listen, or does not keep up, loses it.
        let _ = self.setup.events.try_send(event);
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
        if let Some((request, tag)) = self.agenda.next(now) {
            self.begin_check(request, tag);
            return Ok(true);
        }
        if let Some(key) = self.due_write(now) {
            self.begin_write(key, now)?;
            return Ok(true);
        }
        // A clock that was set back does not put it off for long.
        self.look_at = self.look_at.min(now.saturating_add(LOOK_PAUSE));
        if self.looking.is_none()
            && self.look_at <= now
            && let Some(key) = self.scans.take(now)
        {
            let client = self.client()?;
            self.looking = Some(
                async move {
                    let stored = client.stored(key.clone()).await;
                    (key, stored)
                }
                .boxed(),
            );
            return Ok(true);
        }
        self.sweep_at = self.sweep_at.min(now.saturating_add(self.setup.config.sweep_interval()));
        if self.may_sweep() && self.sweep_at <= now {
            let (client, after) = (self.client()?, self.swept);
            self.sweeping = Some(async move { client.next_stored(after).await }.boxed());
            return Ok(true);
        }
        Ok(false)
    }

    /// Waits for the next thing that is due.
    fn sleep(&mut self, now: Timestamp, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.timer_at.is_some() && self.timer.poll_unpin(cx).is_ready() {
            self.timer_at = None;
        }
        let may_write = self.writes.len() < WRITES;
        let writes = self.pending.iter().filter(|(key, _)| !self.writing.contains(*key));
        let next = [
            self.agenda.next_at(now),
            writes.map(|(_, (at, _))| *at).min().filter(|_| may_write),
            self.scans.next_at().filter(|_| self.looking.is_none()).map(|at| at.max(self.look_at)),
            Some(self.sweep_at).filter(|_| self.may_sweep()),
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

    fn may_sweep(&self) -> bool {
        self.sweeping.is_none() && self.scans.len() < FEW
    }

    fn client(&self) -> Result<Client, Ended> {
        self.setup.client.upgrade().ok_or(Ended)
    }

    fn on_store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored { key, writers, .. } if !writers.is_empty() => self.look_into(key),
            StoreEvent::Evicted { key } => self.agenda.forget_record(&key),
            _ => {}
        }
    }

    /// Has a record looked through soon, if the service could answer in it.
    fn look_into(&mut self, key: RecordKey) {
        let rules = self.setup.validator.smart_record(&key);
        if rules.is_some_and(|rules| rules.check_writer(&key, &self.setup.writer).is_ok()) {
            self.scans.add(key, self.setup.clock.now());
        }
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
                self.agenda.forget_record(key);
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
        looked.known.into_iter().for_each(|found| self.publish(key.clone(), found, now));
        refused.extend(looked.refused);
        for (writer, reason) in refused {
            self.tell(ServiceEvent::Refused { key: key.clone(), writer, reason });
        }
        Ok(())
    }

    fn on_swept(&mut self, next: Next) -> Result<(), Ended> {
        let now = self.setup.clock.now();
        match next {
            Ok(Some((id, key))) => {
                self.swept = Some(id);
                self.sweep_at = now;
                self.look_into(key);
            }
            Err(ClientError::Stopped) => return Err(Ended),
            Ok(None) | Err(_) => {
                self.swept = None;
                self.sweep_at = now.saturating_add(self.setup.config.sweep_interval());
            }
        }
        Ok(())
    }

    fn begin_check(&self, request: Predicate, tag: usize) {
        let Some(tag) = self.setup.tags.get(tag) else {
            return;
        };
        let (check, timeout) = (tag.check(&request), self.setup.config.check_timeout());
        let check = async move {
            let outcome = match select(check, Delay::new(timeout)).await {
                Either::Left((outcome, _)) => outcome,
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
                let found = without_lifetimes(&found);
                // One that does not fit into an update cannot be published.
                if encoded_len(&found) > self.setup.config.max_request_bytes().saturating_mul(2) {
                    Outcome::Unknown
                } else {
                    Outcome::Found(found)
                }
            }
            outcome => outcome,
        };
        if outcome == Outcome::Unknown {
            self.tell(ServiceEvent::Unknown { request: request.clone() });
        }
        for (key, found) in self.agenda.on_outcome(request, outcome, now) {
            self.publish(key, found, now);
        }
    }

    /// Has a finding published soon, with others in the same record.
    fn publish(&mut self, key: RecordKey, found: Finding, now: Timestamp) {
        let at = now.saturating_add(self.setup.config.write_delay());
        let (_, pending) = self.pending.entry(key).or_insert_with(|| (at, Vec::new()));
        pending.retain(|other| other.request != found.request);
        pending.push(found);
    }

    fn due_write(&self, now: Timestamp) -> Option<RecordKey> {
        if self.writes.len() >= WRITES {
            return None;
        }
        let is_due = |(key, (at, _)): &(&RecordKey, &(Timestamp, Vec<Finding>))| {
            *at <= now && !self.writing.contains(*key)
        };
        self.pending.iter().find(is_due).map(|(key, _)| key.clone())
    }

    fn begin_write(&mut self, key: RecordKey, now: Timestamp) -> Result<(), Ended> {
        let client = self.client()?;
        let (_, mut found) = self.pending.remove(&key).unwrap_or((now, Vec::new()));
        found.retain(|found| found.expires_at > now);
        let rest = found.split_off(finding::fit_into_an_update(&found).min(found.len()));
        if !rest.is_empty() {
            self.pending.insert(key.clone(), (now, rest));
        }
        let Some(last) = found.iter().map(|found| found.expires_at).max() else {
            return Ok(());
        };
        let (ttl, writer) = (last.saturating_since(now), self.setup.writer.clone());
        self.writing.insert(key.clone());
        let write = async move {
            let written = write(client, &writer, &key, &found, now, ttl).await;
            (key, found, written)
        };
        self.writes.push(write.boxed());
        Ok(())
    }

    fn on_written(&mut self, (key, found, written): Written) -> Result<(), Ended> {
        self.writing.remove(&key);
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

async fn write(
    client: Client,
    writer: &Writer,
    key: &RecordKey,
    found: &[Finding],
    now: Timestamp,
    ttl: Duration,
) -> Result<Publication, ServiceError> {
    let document = finding::document(found);
    let record = client.stored(key.clone()).await?;
    if let Some(space) = record.as_ref().and_then(|record| record.space(writer)) {
        let says = space.view(now).map(|view| view.document).unwrap_or_default();
        if says.iter().any(|(name, _)| *name != Kind::from(FINDINGS)) {
            let len = crate::node::codec::encode(&document).len();
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
