//! The half of the backend that lives with the swarm.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    channel::{mpsc, oneshot},
};
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, GetRecordError, GetRecordOk, PutRecordError, QueryId, QueryInfo, QueryResult,
    Quorum, store::RecordStore,
};
use web_time::Instant;

use super::DhtError;
use crate::{
    key::RecordKey,
    manager::backend::{Answer, Correction, Found, Holder},
    store::SmartRecordStore,
};

/// How many commands wait for the driver; whoever has one more waits with it. A guess.
pub(super) const QUEUE: usize = 64;
/// How many queries run at a time; more commands wait in the queue. A guess.
const QUERIES: usize = 64;
/// After so many answers a lookup ends: twelve times what it takes to ask the 20 closest peers, and at most 4
/// MB of packets.
const ANSWERS: usize = 256;
/// No copy that was read is kept for longer, whatever its holders say: the lifetime that Kademlia gives a
/// record by default.
const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);
/// With less than a second left, a record would go out with a lifetime of zero, which means none.
const SHORTEST: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<Result<T, DhtError>>;

/// Something that the driver is to do. Dropping it undone is an error for whoever asked.
#[derive(Debug)]
#[must_use = "give it to `DhtDriver::run`"]
pub struct DhtCommand(pub(super) Request);

#[derive(Debug)]
pub(super) enum Request {
    Fetch { key: RecordKey, reply: Reply<Found> },
    Store { key: RecordKey, value: Bytes, reply: Reply<usize> },
    Correct(Correction),
}

/// Does in a `kad::Behaviour` what a [`DhtBackend`](super::DhtBackend) asks for.
///
/// It lives where the swarm is polled: see the example there.
pub struct DhtDriver {
    commands: mpsc::Receiver<DhtCommand>,
    queries: HashMap<QueryId, Query>,
}

enum Query {
    Fetch { key: kad::RecordKey, found: Found, reply: Reply<Found> },
    Store { quorum: usize, reply: Reply<usize> },
    Correct,
}

impl DhtDriver {
    pub(super) fn new(commands: mpsc::Receiver<DhtCommand>) -> Self {
        Self { commands, queries: HashMap::new() }
    }

    /// The next command, to be given to [`run`](Self::run); `None` when no backend is left. While as many
    /// queries run as may, it waits.
    ///
    /// Dropping the future loses nothing. It does not notice that a query has ended: make a new one after
    /// each call of another method, as a loop around `select!` does.
    pub async fn next(&mut self) -> Option<DhtCommand> {
        if self.queries.len() >= QUERIES {
            return std::future::pending().await;
        }
        self.commands.next().await
    }

    /// Does what was asked for. Poll the swarm after it.
    pub fn run(
        &mut self,
        DhtCommand(request): DhtCommand,
        kad: &mut kad::Behaviour<SmartRecordStore>,
    ) {
        match request {
            Request::Fetch { key, reply } => {
                if reply.is_canceled() {
                    return;
                }
                let key = kad::RecordKey::new(&key);
                let id = kad.get_record(key.clone());
                self.queries.insert(id, Query::Fetch { key, found: Found::default(), reply });
            }
            Request::Store { key, value, reply } => {
                // First to our own store, which says more about a refusal than Kademlia can.
                if let Err(error) = kad.store_mut().write(&key, &value) {
                    return answer(reply, Err(error.into()));
                }
                let record = kad::Record::new(kad::RecordKey::new(&key), value.to_vec());
                match kad.put_record(record, Quorum::All) {
                    Ok(id) => {
                        let quorum = match kad.query(&id).map(|query| query.info().clone()) {
                            Some(QueryInfo::PutRecord { quorum, .. }) => quorum,
                            _ => NonZeroUsize::MIN,
                        };
                        let quorum = quorum.get();
                        self.queries.insert(id, Query::Store { quorum, reply });
                    }
                    Err(error) => {
                        // It has just been stored, so it cannot be refused.
                        tracing::debug!(?error, "a record could not be put");
                        answer(reply, Err(DhtError::NotReplicated));
                    }
                }
            }
            Request::Correct(correction) => self.correct(correction, kad),
        }
    }

    fn correct(&mut self, correction: Correction, kad: &mut kad::Behaviour<SmartRecordStore>) {
        let lifetime = correction.lifetime.map_or(LONGEST, |left| left.min(LONGEST));
        if lifetime < SHORTEST {
            return;
        }
        let record = kad::Record {
            key: kad::RecordKey::new(&correction.key),
            value: correction.value.to_vec(),
            // We are not its publisher, who would be asked to keep it alive.
            publisher: None,
            expires: Instant::now().checked_add(lifetime),
        };
        let mut peers: Vec<PeerId> = Vec::with_capacity(correction.holders.len());
        let mut is_missing_here = false;
        for holder in correction.holders {
            match holder {
                Holder::Local => is_missing_here = true,
                Holder::Peer(peer) => peers.push(peer),
            }
        }
        if is_missing_here && let Err(error) = kad.store_mut().put(record.clone()) {
            tracing::debug!(?error, "a record was not kept");
        }
        if !peers.is_empty() {
            let id = kad.put_record_to(record, peers.into_iter(), Quorum::All);
            self.queries.insert(id, Query::Correct);
        }
    }

    /// Takes note of what Kademlia says. Every event of the behaviour has to come here.
    pub fn on_event(&mut self, event: &kad::Event, kad: &mut kad::Behaviour<SmartRecordStore>) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else {
            return;
        };
        match (self.queries.remove(id), result) {
            (Some(Query::Fetch { key, mut found, reply }), QueryResult::GetRecord(result)) => {
                let timed_out = matches!(result, Err(GetRecordError::Timeout { .. }));
                note(result, &key, &mut found);
                if step.last {
                    if found.answers.iter().all(|answer| answer.holder != Holder::Local) {
                        found.missing.push(Holder::Local);
                    }
                    let nothing = timed_out && found.answers.is_empty();
                    return answer(
                        reply,
                        if nothing { Err(DhtError::TimedOut) } else { Ok(found) },
                    );
                }
                let is_done = reply.is_canceled() || found.answers.len() >= ANSWERS;
                if is_done && let Some(mut query) = kad.query_mut(id) {
                    query.finish();
                }
                self.queries.insert(*id, Query::Fetch { key, found, reply });
            }
            (Some(Query::Store { quorum, reply }), QueryResult::PutRecord(result)) => {
                answer(
                    reply,
                    match result {
                        Ok(_) => Ok(quorum),
                        Err(
                            PutRecordError::QuorumFailed { success, .. }
                            | PutRecordError::Timeout { success, .. },
                        ) => match success.len() {
                            0 => Err(DhtError::NotReplicated),
                            peers => Ok(peers),
                        },
                    },
                );
            }
            // A correction has ended, well or not.
            _ => {}
        }
    }
}

fn note(result: &kad::GetRecordResult, key: &kad::RecordKey, found: &mut Found) {
    match result {
        // Kademlia does not compare the key of a reply with the key asked for. What comes in after the lookup
        // was told to end is not counted.
        Ok(GetRecordOk::FoundRecord(kad::PeerRecord { peer, record }))
            if record.key == *key && found.answers.len() < ANSWERS =>
        {
            found.answers.push(Answer {
                holder: peer.map_or(Holder::Local, Holder::Peer),
                value: Bytes::copy_from_slice(&record.value),
                lifetime: record.expires.map(|at| at.saturating_duration_since(Instant::now())),
            });
        }
        Ok(GetRecordOk::FinishedWithNoAdditionalRecord { cache_candidates }) => {
            found.missing.extend(cache_candidates.values().copied().map(Holder::Peer));
        }
        _ => {}
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T, DhtError>) {
    // Whoever asked may have lost interest.
    let _ = reply.send(result);
}

crate::impl_debug! { DhtDriver: |driver| queries: driver.queries.len() }
