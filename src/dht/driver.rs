//! The driver of a [`Dht`](super::Dht): performs reads and puts with Kademlia where the swarm is
//! polled.
//!
//! **Invariants.** An operation has one Kademlia query at a time. It ends with its last query or at
//! its deadline.

use std::collections::HashMap;
#[cfg(feature = "signed")]
use std::time::Duration;

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
}

#[derive(Debug)]
struct Operation {
    work: Work,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Work {
    Get(Box<RecordReader>, Reply<Reading>),
    Put(KadPut, Reply<Vec<PeerId>>),
}

impl DhtDriver {
    pub(super) fn new(commands: mpsc::Receiver<DhtCommand>, config: DhtConfig) -> Self {
        Self { commands, config, operations: HashMap::new() }
    }

    /// Returns the next command, to be passed to [`run`](Self::run); `None` when no handle is left.
    /// Waits while the maximum number of operations is running.
    ///
    /// Cancel safe. A future does not notice the end of an operation: call this again after each
    /// call of another method, as a loop around `select!` does.
    pub async fn next(&mut self) -> Option<DhtCommand> {
        let deadline = self.operations.values().filter_map(|operation| operation.deadline).min();
        let is_full = self.operations.len() >= OPERATIONS;
        let command = async {
            if is_full { std::future::pending().await } else { self.commands.next().await }
        };
        let Some(deadline) = deadline else {
            return command.await;
        };
        let time_up = Delay::new(deadline.saturating_duration_since(Instant::now()));
        match select(std::pin::pin!(command), time_up).await {
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
        match request {
            Request::Get { reply, .. } if reply.is_canceled() => {}
            Request::Get { key, reply } => match RecordReader::with_stored(kad.store_mut(), key) {
                Ok(reader) => {
                    let reader = reader.with_rounds(self.config.read_rounds());
                    self.begin(Work::Get(Box::new(reader), reply), kad);
                }
                Err(error) => answer(reply, Err(WriteError::from(error).into())),
            },
            Request::Put { key, value, reply } => {
                let store = kad.store_mut();
                let checked =
                    ValidatedRecord::new(store.registry(), key, &value, store.clock().now());
                match RecordPut::begin(store, checked) {
                    Ok(content) => {
                        self.begin(Work::Put(KadPut::new(content, Vec::new()), reply), kad);
                    }
                    Err(error) => answer(reply, Err(error.into())),
                }
            }
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
                    let put = KadPut::new(RecordPut::new(key, vec![value], expires_at), peers);
                    // No caller waits for the result.
                    self.begin(Work::Put(put, oneshot::channel().0), kad);
                }
            }
            Request::TimeUp => self.end_late(kad),
        }
    }

    /// Processes an event of Kademlia. Pass every event of the behaviour.
    pub fn on_event(&mut self, event: &kad::Event, kad: &mut kad::Behaviour<SmartRecordStore>) {
        let kad::Event::OutboundQueryProgressed { id, result, step, stats } = event else {
            return;
        };
        let Some(Operation { work, deadline }) = self.operations.remove(id) else {
            return;
        };
        match (work, result) {
            (Work::Get(mut reader, reply), QueryResult::GetRecord(result)) => {
                let now = kad.store_mut().clock().now();
                let next = reader.on_progress(result, step.last, now);
                if next == ReadStep::Finish || reply.is_canceled() {
                    if let Some(mut query) = kad.query_mut(id) {
                        query.finish();
                    }
                    return end_read(*reader, reply, stats.num_requests() > 0, kad.store_mut());
                }
                let query = if next == ReadStep::LookUpAgain { ask(&reader, kad) } else { *id };
                let work = Work::Get(reader, reply);
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
        let deadline = Instant::now().checked_add(self.config.timeout());
        let query = match work {
            Work::Get(ref reader, _) => ask(reader, kad),
            Work::Put(put, reply) if !put.peers().is_empty() => {
                return self.send(put, reply, deadline, kad);
            }
            Work::Put(ref put, _) => {
                let key = put.content.key.as_bytes().to_vec();
                kad.get_n_closest_peers(key, self.config.replicas())
            }
        };
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
                Work::Get(mut reader, reply) => {
                    reader.time_out();
                    end_read(*reader, reply, true, kad.store_mut());
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
