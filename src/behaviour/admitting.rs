//! Local storage of records from other peers: inbound records that are validated off the swarm's
//! task, and records found by reads.
//!
//! **Invariants.** Both kinds of inbound writes are handled, records and provider records. Every
//! refusal is counted. If there is an [`AsyncValidator`](super::AsyncValidator), no record of
//! another peer is stored without its consent, whether inbound or read.

use std::collections::{BTreeMap, VecDeque};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, InboundRequest, store::RecordStore};

use super::{
    env::Env,
    event::Event,
    inbound::InboundRefusal,
    worker::{InboundRecord, Worker},
};
use crate::{
    clock::wall_clock,
    query::{JoinedAnswers, RecordLookup, chunks},
    rate::RateLimit,
    store::ValidatedRecord,
};
use smart_record_core::{RecordKey, SmartRecord, Timestamp};

/// Number of spaces stored at a time: takes well below a millisecond.
const PIECE: usize = 32;
/// Maximum number of waiting pieces: 32 boards of maximum size.
const MAX_PIECES: usize = 1_024;

/// Records of other peers that are to be stored.
pub(super) struct Admission {
    /// `None`: the store validates inbound records on the task.
    off_task: Option<OffTask>,
    /// Records found by reads that are to be stored, in pieces.
    unstored: VecDeque<SmartRecord>,
}

type Admitted = Result<(), InboundRefusal>;

/// State of validation off the task.
pub(super) struct OffTask {
    sources: RateLimit<PeerId>,
    worker: Worker,
    last_refusal: Option<(PeerId, InboundRefusal)>,
}

impl Admission {
    pub(super) const fn new(off_task: Option<OffTask>) -> Self {
        Self { off_task, unstored: VecDeque::new() }
    }

    /// The worker that validates answers to reads, if any.
    pub(super) fn worker(&mut self) -> Option<&mut Worker> {
        self.off_task.as_mut().map(|off_task| &mut off_task.worker)
    }

    /// Takes the record out of an inbound request if validation is off the task. The rest of the
    /// request is emitted to the user, the same in both cases.
    pub(super) fn on_request(&mut self, env: &mut Env, request: &mut InboundRequest) {
        let Some(off_task) = &mut self.off_task else {
            return;
        };
        let (source, admitted) = match request {
            InboundRequest::PutRecord { source, record, .. } => {
                let Some(record) = record.take() else { return };
                (*source, off_task.admit_record(*source, record, env.now()))
            }
            InboundRequest::AddProvider { record } => {
                let Some(record) = record.take() else { return };
                // Kademlia has checked that the provider is the sender.
                (record.provider, off_task.admit_provider(env, record))
            }
            _ => return,
        };
        off_task.note(env, source, admitted);
    }

    /// The worker, if an async validator decides about records of other peers.
    fn asks(&mut self) -> Option<&mut Worker> {
        self.worker().filter(|worker| worker.asks)
    }

    /// Stores a found record locally if the store already holds some of it, or this node is a
    /// server among the closest to the key. Returns whether it does.
    pub(super) fn store_found(
        &mut self,
        env: &mut Env,
        lookup: &RecordLookup,
        is_close: bool,
    ) -> bool {
        let now = env.now();
        let key = lookup.key();
        let is_ours = is_close && env.kad.mode() == kad::Mode::Server;
        match lookup.joined() {
            JoinedAnswers::Record(..) if lookup.has_here() || is_ours => {
                if let Some(news) = lookup.news() {
                    self.store_record(env, lookup, news);
                }
                true
            }
            JoinedAnswers::Value(_, Some(value)) => {
                let here = env.kad.store_mut().value(key).ok().flatten().map(|here| here.value);
                let is_wanted = here.is_some() || is_ours;
                if is_wanted && here.as_ref() != Some(value) && !lookup.has_passed_on(value) {
                    self.store_value(env, lookup, value, now);
                }
                is_wanted
            }
            _ => false,
        }
    }

    fn store_record(&mut self, env: &mut Env, lookup: &RecordLookup, news: SmartRecord) {
        let Some(worker) = self.asks() else {
            return self.store_verified(env, news);
        };
        let mut by_source: BTreeMap<PeerId, SmartRecord> = BTreeMap::new();
        for (writer, space) in news.spaces() {
            // The validator has already decided about what came from no answer of this read.
            if let Some(source) = lookup.source_of(writer) {
                let part = by_source.entry(source);
                let part = part.or_insert_with(|| SmartRecord::new(news.key().clone()));
                part.join_space(writer.clone(), space.clone());
            }
        }
        for (source, part) in by_source {
            for chunk in chunks(&part, env.bounds.chunk_bytes) {
                ask_about(worker, source, lookup.key(), &chunk, None);
            }
        }
    }

    fn store_value(&mut self, env: &mut Env, lookup: &RecordLookup, value: &[u8], now: Timestamp) {
        let (key, expires_at) = (lookup.key(), lookup.expires_at());
        let Some(worker) = self.asks() else {
            let checked = ValidatedRecord::new(&env.registry, key.clone(), value, now);
            return env.insert(checked.with_origin(None, expires_at));
        };
        if let Some(source) = lookup.source() {
            ask_about(worker, source, key, value, expires_at);
        }
    }

    /// Stores a small record at once, and a large one piece by piece so that other tasks can run in
    /// between.
    fn store_verified(&mut self, env: &mut Env, news: SmartRecord) {
        if news.spaces().len() <= PIECE {
            return env.insert(ValidatedRecord::verified(news));
        }
        let key = news.key().clone();
        let mut piece = SmartRecord::new(key.clone());
        for (writer, space) in news.into_spaces() {
            piece.join_space(writer, space);
            if piece.spaces().len() >= PIECE {
                let whole = std::mem::replace(&mut piece, SmartRecord::new(key.clone()));
                self.unstored.push_back(whole);
            }
        }
        if piece.spaces().len() > 0 {
            self.unstored.push_back(piece);
        }
        while self.unstored.len() > MAX_PIECES {
            // Another read will find it again.
            self.unstored.pop_front();
        }
    }

    /// Whether all records found by reads are stored.
    pub(super) fn has_stored_all(&self) -> bool {
        self.unstored.is_empty()
    }

    /// Stores the next piece of a record found by a read. Returns whether there was one.
    pub(super) fn store_next_piece(&mut self, env: &mut Env) -> bool {
        let Some(piece) = self.unstored.pop_front() else {
            return false;
        };
        env.insert(ValidatedRecord::verified(piece));
        true
    }
}

impl OffTask {
    pub(super) const fn new(sources: RateLimit<PeerId>, worker: Worker) -> Self {
        Self { sources, worker, last_refusal: None }
    }

    fn admit(&mut self, source: PeerId, now: Timestamp) -> Admitted {
        self.sources.admit(source, now).map_err(|_| InboundRefusal::RateLimited)
    }

    fn admit_record(&mut self, source: PeerId, record: kad::Record, now: Timestamp) -> Admitted {
        self.admit(source, now)?;
        let job = InboundRecord {
            source,
            key: RecordKey::new(record.key.to_vec()),
            value: record.value,
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
        };
        tracing::trace!(%source, key = %job.key, bytes = job.value.len(), "inbound record");
        self.worker.records.give(job).map_err(|(_, reason)| reason)
    }

    fn admit_provider(&mut self, env: &mut Env, record: kad::ProviderRecord) -> Admitted {
        self.admit(record.provider, env.now())?;
        if let Err(error) = env.kad.store_mut().add_provider(record) {
            tracing::debug!(?error, "a provider record was not stored");
        }
        Ok(())
    }

    /// Counts a refusal, and emits an event once per run of refusals with the same reason.
    fn note(&mut self, env: &mut Env, source: PeerId, admitted: Admitted) {
        let Err(reason) = admitted else {
            self.last_refusal.take_if(|(last, _)| *last == source);
            return;
        };
        env.count(|c| c.inbound_refused.entry(reason).or_default(), 1);
        tracing::debug!(%source, reason = reason.as_str(), "an inbound record was refused");
        if self.last_refusal.replace((source, reason)) != Some((source, reason)) {
            env.events.push_back(Event::InboundRefused { source, reason });
        }
    }
}

/// Hands a record that was read from `source` to the async validator. If the queue is full the
/// record is dropped; another read will find it again.
fn ask_about(
    worker: &mut Worker,
    source: PeerId,
    key: &RecordKey,
    value: &[u8],
    expires_at: Option<Timestamp>,
) {
    let (value, publisher) = (value.to_vec(), None);
    let job = InboundRecord { source, key: key.clone(), value, publisher, expires_at };
    if let Err((_, reason)) = worker.records.give(job) {
        tracing::debug!(%key, reason = reason.as_str(), "a record found by a read was not stored");
    }
}
