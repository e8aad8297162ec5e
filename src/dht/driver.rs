//! The driver of a [`Dht`](super::Dht): performs reads and puts with Kademlia where the swarm is
//! polled.
//!
//! **Invariants.** An operation has one Kademlia query at a time. It ends with its last query or at
//! its deadline. A put sends nothing before it has read the key.

use std::{collections::HashMap, future::poll_fn, pin::pin, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
    future::{Either, select},
};
use futures_timer::Delay;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, PutRecordPhase, QueryId, QueryInfo, QueryResult, Quorum};
use smart_record_core::RecordKey;
use web_time::Instant;

use super::{DhtConfig, DhtError, put::KadPut};
#[cfg(feature = "signed")]
use crate::store::Origin;
use crate::{
    pulse::Pulse,
    query::{ReadStep, Reading, RecordPut, RecordReader},
    store::{SmartRecordStore, ValidatedRecord, WriteError},
};

/// Maximum number of queued commands; further calls wait. A guess.
pub(super) const QUEUE: usize = 64;
/// Maximum number of concurrent operations; further commands stay in the queue. A guess.
const OPERATIONS: usize = 64;

type Reply<T> = oneshot::Sender<Result<T, DhtError>>;

/// A command for the driver. Dropping it fails the call that sent it.
#[derive(Debug)]
#[must_use = "give it to `DhtDriver::run`"]
pub struct DhtCommand(pub(super) Request);

#[derive(Debug)]
pub(super) enum Request {
    Get {
        key: RecordKey,
        reply: Reply<Reading>,
    },
    Put {
        key: RecordKey,
        value: Bytes,
        reply: Reply<Vec<PeerId>>,
    },
    #[cfg(feature = "signed")]
    Send {
        key: RecordKey,
        value: Bytes,
        lifetime: Duration,
        here: bool,
        peers: Vec<PeerId>,
    },
    /// The deadline of an operation has passed.
    TimeUp,
}

/// Performs the commands of a [`Dht`](super::Dht) in a `kad::Behaviour`.
///
/// It runs where the swarm is polled: see the example at [`Dht`](super::Dht).
#[derive(Debug)]
pub struct DhtDriver {
    commands: mpsc::Receiver<DhtCommand>,
    config: DhtConfig,
    operations: HashMap<QueryId, Operation>,
    /// Tells calls that the driver is polled.
    pulse: Pulse,
}

#[derive(Debug)]
struct Operation {
    work: Work,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Work {
    Read(Box<RecordReader>, Purpose),
    Put(KadPut, Reply<Vec<PeerId>>),
}

/// What a read is for.
#[derive(Debug)]
enum Purpose {
    Get(Reply<Reading>),
    /// A put, which sends what is there, too.
    Put(RecordPut, Reply<Vec<PeerId>>),
}

impl DhtDriver {
    pub(super) fn new(
        commands: mpsc::Receiver<DhtCommand>,
        config: DhtConfig,
        pulse: Pulse,
    ) -> Self {
        Self { commands, config, operations: HashMap::new(), pulse }
    }

    /// Returns the next command, to be passed to [`run`](Self::run); `None` when no handle is left.
    /// Waits while the maximum number of operations is running.
    ///
    /// Cancel safe. A future does not notice the end of an operation: call this again after each
    /// call of another method, as a loop around `select!` does.
    pub async fn next(&mut self) -> Option<DhtCommand> {
        let pulse = self.pulse.clone();
        let mut next = pin!(self.next_command());
        poll_fn(|cx| {
            pulse.beat(cx);
            next.as_mut().poll(cx)
        })
        .await
    }

    async fn next_command(&mut self) -> Option<DhtCommand> {
        let deadline = self.operations.values().filter_map(|operation| operation.deadline).min();
        let is_full = self.operations.len() >= OPERATIONS;
        let command = async {
            if is_full { std::future::pending().await } else { self.commands.next().await }
        };
        let Some(deadline) = deadline else {
            return command.await;
        };
        let time_up = Delay::new(deadline.saturating_duration_since(Instant::now()));
        match select(pin!(command), time_up).await {
            Either::Left((command, _)) => command,
            Either::Right(((), _)) => Some(DhtCommand(Request::TimeUp)),
        }
    }

    /// Performs a command. Poll the swarm after it.
    pub fn run(
        &mut self,
        DhtCommand(request): DhtCommand,
        kad: &mut kad::Behaviour<SmartRecordStore>,
    ) {
        self.pulse.note();
        match request {
            Request::Get { reply, .. } if reply.is_canceled() => {}
            Request::Get { key, reply } => match RecordReader::with_stored(kad.store_mut(), key) {
                Ok(reader) => {
                    let reader = reader.with_rounds(self.config.read_rounds());
                    self.begin(Work::Read(Box::new(reader), Purpose::Get(reply)), kad);
                }
                Err(error) => answer(reply, Err(WriteError::from(error).into())),
            },
            Request::Put { key, value, reply } => match prepare(kad.store_mut(), key, &value) {
                Ok((reader, content)) => {
                    let reader = reader.with_rounds(self.config.read_rounds());
                    let purpose = Purpose::Put(content, reply);
                    self.begin(Work::Read(Box::new(reader), purpose), kad);
                }
                Err(error) => answer(reply, Err(error.into())),
            },
            #[cfg(feature = "signed")]
            Request::Send { key, value, lifetime, here, peers } => {
                let now = kad.store_mut().clock().now();
                let expires_at = Some(now.saturating_add(lifetime));
                if here {
                    let store = kad.store_mut();
                    let checked = ValidatedRecord::new(store.registry(), key.clone(), &value, now);
                    let checked = checked.with_origin(None, expires_at);
                    if let Err(error) = store.insert(checked, Origin::Remote) {
                        tracing::debug!(%error, "a record was not stored");
                    }
                }
                if !peers.is_empty() {
                    let content = RecordPut::new(key, vec![value], expires_at);
                    let put = KadPut::new(content, peers, kad.store_mut().registry());
                    // No caller waits for the result.
                    self.begin(Work::Put(put, oneshot::channel().0), kad);
                }
            }
            Request::TimeUp => self.end_late(kad),
        }
    }

    /// Processes an event of Kademlia. Pass every event of the behaviour.
    pub fn on_event(&mut self, event: &kad::Event, kad: &mut kad::Behaviour<SmartRecordStore>) {
        self.pulse.note();
        let kad::Event::OutboundQueryProgressed { id, result, step, stats } = event else {
            return;
        };
        let Some(Operation { work, deadline }) = self.operations.remove(id) else {
            return;
        };
        match (work, result) {
            (Work::Read(mut reader, purpose), QueryResult::GetRecord(result)) => {
                let now = kad.store_mut().clock().now();
                let next = reader.on_progress(result, step.last, now);
                if next == ReadStep::Finish || purpose.has_enough(&reader, kad.store_mut()) {
                    if let Some(mut query) = kad.query_mut(id) {
                        query.finish();
                    }
                    let has_asked = stats.num_requests() > 0;
                    return match purpose {
                        Purpose::Get(reply) => end_read(*reader, reply, has_asked, kad.store_mut()),
                        Purpose::Put(content, reply) => self.put(&reader, content, reply, kad),
                    };
                }
                let query = if next == ReadStep::LookUpAgain { ask(&reader, kad) } else { *id };
                let work = Work::Read(reader, purpose);
                self.operations.insert(query, Operation { work, deadline });
            }
            (Work::Put(mut put, reply), QueryResult::GetClosestPeers(result)) => {
                put.on_closest(result, kad.store_mut().local_peer());
                self.send(put, reply, deadline, kad);
            }
            (Work::Put(mut put, reply), QueryResult::PutRecord(result)) => {
                put.on_put(result);
                self.send(put, reply, deadline, kad);
            }
            // Queries of this driver have no other results.
            _ => {}
        }
    }

    fn begin(&mut self, work: Work, kad: &mut kad::Behaviour<SmartRecordStore>) {
        let timeout = self.config.timeout();
        match work {
            Work::Read(ref reader, ref purpose) => {
                let timeout = match purpose {
                    Purpose::Get(_) => timeout,
                    Purpose::Put(..) => half(timeout),
                };
                let deadline = Instant::now().checked_add(timeout);
                let query = ask(reader, kad);
                self.operations.insert(query, Operation { work, deadline });
            }
            Work::Put(put, reply) => {
                self.send(put, reply, Instant::now().checked_add(timeout), kad);
            }
        }
    }

    /// Looks up the recipients of a put, joined with what was read, unless something better than a
    /// value was found. For this and for sending there is half of the time.
    fn put(
        &mut self,
        reader: &RecordReader,
        mut content: RecordPut,
        reply: Reply<Vec<PeerId>>,
        kad: &mut kad::Behaviour<SmartRecordStore>,
    ) {
        let (found, store) = (reader.joined(), kad.store_mut());
        if let Err(stale) = content.combine(found, store.clock().now()) {
            return answer(reply, Err(WriteError::from(stale).into()));
        }
        if let Some(all) = content.together(store, found.record()) {
            content.chunks = [all].into();
        }
        let key = content.key.as_bytes().to_vec();
        let query = kad.get_n_closest_peers(key, self.config.replicas());
        let work = Work::Put(KadPut::new(content, Vec::new(), kad.store_mut().registry()), reply);
        let deadline = Instant::now().checked_add(half(self.config.timeout()));
        self.operations.insert(query, Operation { work, deadline });
    }

    /// Sends the next chunk, or ends the put.
    fn send(
        &mut self,
        mut put: KadPut,
        reply: Reply<Vec<PeerId>>,
        deadline: Option<Instant>,
        kad: &mut kad::Behaviour<SmartRecordStore>,
    ) {
        let now = kad.store_mut().clock().now();
        let Some((record, peers)) = put.next_record(now) else {
            return end_put(&put, reply);
        };
        let query = kad.put_record_to(record, peers.into_iter(), Quorum::All);
        self.operations.insert(query, Operation { work: Work::Put(put, reply), deadline });
    }

    /// Ends the operations whose deadline has passed.
    fn end_late(&mut self, kad: &mut kad::Behaviour<SmartRecordStore>) {
        let now = Instant::now();
        let is_late = |operation: &mut Operation| operation.deadline.is_some_and(|at| at <= now);
        let late: Vec<_> = self.operations.extract_if(|_, operation| is_late(operation)).collect();
        for (id, Operation { work, .. }) in late {
            match work {
                Work::Read(mut reader, Purpose::Get(reply)) => {
                    reader.time_out();
                    end_read(*reader, reply, true, kad.store_mut());
                }
                // It is sent with what was found in time.
                Work::Read(reader, Purpose::Put(content, reply)) => {
                    self.put(&reader, content, reply, kad);
                }
                Work::Put(put, reply) if !put.is_sent() => {
                    answer(reply, Err(DhtError::TimedOut));
                }
                Work::Put(mut put, reply) => {
                    let query = kad.query(&id);
                    put.took(query.as_ref().map_or(&[], |query| took(query.info())));
                    end_put(&put, reply);
                }
            }
            if let Some(mut query) = kad.query_mut(&id) {
                query.finish();
            }
        }
    }
}

impl Purpose {
    /// Whether a read need not go on. What does not fit into a packet is not sent along with a put.
    fn has_enough(&self, reader: &RecordReader, store: &SmartRecordStore) -> bool {
        match self {
            Self::Get(reply) => reply.is_canceled(),
            Self::Put(..) => reader.joined().exceeds(store.config().chunk_bytes()),
        }
    }
}

/// Stores a record, and returns a reader of its key and what is to be sent.
fn prepare(
    store: &mut SmartRecordStore,
    key: RecordKey,
    value: &Bytes,
) -> Result<(RecordReader, RecordPut), WriteError> {
    let checked = ValidatedRecord::new(store.registry(), key, value, store.clock().now());
    let content = RecordPut::begin(store, checked)?;
    Ok((RecordReader::with_stored(store, content.key.clone())?, content))
}

/// Starts a lookup of the reader's key.
fn ask(reader: &RecordReader, kad: &mut kad::Behaviour<SmartRecordStore>) -> QueryId {
    kad.get_record(kad::RecordKey::new(reader.key()))
}

fn end_read(
    reader: RecordReader,
    reply: Reply<Reading>,
    has_asked: bool,
    store: &SmartRecordStore,
) {
    if reader.has_failed() {
        return answer(reply, Err(DhtError::TimedOut));
    }
    let reading = reader.into_reading(store.clock().now());
    if has_asked && reading.is_empty() && !reading.has_reached_anyone() {
        return answer(reply, Err(DhtError::Unreachable));
    }
    answer(reply, reading.refusal().map_or(Ok(reading), |refused| Err(refused.into())));
}

fn end_put(put: &KadPut, reply: Reply<Vec<PeerId>>) {
    let peers = put.peers().to_vec();
    answer(reply, if peers.is_empty() { Err(DhtError::NotReplicated) } else { Ok(peers) });
}

/// Peers that acknowledged the put of a query.
fn took(query: &QueryInfo) -> &[PeerId] {
    match query {
        QueryInfo::PutRecord { phase: PutRecordPhase::PutRecord { success, .. }, .. } => success,
        _ => &[],
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, DhtError>) {
    // The caller may have dropped its end.
    let _ = reply.send(result);
}

/// Half of the time of a put is for its read, half for sending.
fn half(time: Duration) -> Duration {
    time.checked_div(2).unwrap_or(time)
}
