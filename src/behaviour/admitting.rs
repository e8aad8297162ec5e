//! What is stored here of what others say: what they send, when it is validated off the swarm's task, and what was read.
//!
//! **Invariants.** Both kinds of inbound writes are handled, records and provider records. Whatever is refused is
//! counted. If someone is to be asked, nothing of others is stored unasked, whether it was sent or read.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll, ready},
};

use futures::StreamExt;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, InboundRequest, store::RecordStore};

use super::{
    env::Env,
    event::Event,
    inbound::{Inbound, InboundRefusal},
    worker::{Job, Verdict, Worker},
};
use crate::{
    clock::wall_clock,
    query::{Joined, Lookup, chunks},
    store::Checked,
};
use smart_record_core::{RecordKey, SmartRecord, Timestamp};

/// How many spaces are stored at a time: well below a millisecond's worth.
const PIECE: usize = 32;
/// How many such pieces may wait: 32 boards of the most spaces that there can be.
const MAX_PIECES: usize = 1_024;

/// What of others is to be stored here.
pub(super) struct Admission {
    /// `None`: what they send is validated on the task, by the store.
    off_task: Option<(Inbound, Worker)>,
    last_refusal: Option<(PeerId, InboundRefusal)>,
    /// What was read and is to be stored, in pieces.
    to_keep: VecDeque<SmartRecord>,
}

impl Admission {
    pub(super) const fn new(off_task: Option<(Inbound, Worker)>) -> Self {
        Self { off_task, last_refusal: None, to_keep: VecDeque::new() }
    }

    /// Who checks answers elsewhere, if there is someone.
    pub(super) fn worker(&mut self) -> Option<&mut Worker> {
        self.off_task.as_mut().map(|(_, worker)| worker)
    }

    /// Stores the next record that has been validated.
    pub(super) fn poll_checked(&mut self, env: &mut Env, cx: &mut Context<'_>) -> Poll<()> {
        let Some((inbound, worker)) = &mut self.off_task else {
            return Poll::Pending;
        };
        let Some(checked) = ready!(worker.done.poll_next_unpin(cx)) else {
            return Poll::Pending;
        };
        inbound.leave();
        env.insert(checked);
        Poll::Ready(())
    }

    /// The next verdict about an answer; `None`, once: there will be none any more.
    pub(super) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        self.worker().map_or(Poll::Pending, |worker| worker.poll_verdict(cx))
    }

    /// Takes the record out of a request, if it is ours to store. What is left is told to the user, the same whether
    /// validation is off the task or not.
    pub(super) fn on_request(&mut self, env: &mut Env, request: InboundRequest) -> InboundRequest {
        if self.off_task.is_none() {
            return request;
        }
        match request {
            InboundRequest::PutRecord { source, connection, record } => {
                if let Some(record) = record {
                    let admitted = self.admit_record(env, source, record);
                    self.note_refusal(env, source, admitted);
                }
                InboundRequest::PutRecord { source, connection, record: None }
            }
            InboundRequest::AddProvider { record } => {
                if let Some(record) = record {
                    // Kademlia has made sure that this is who has sent it.
                    let source = record.provider;
                    let admitted = self.admit_provider(env, record);
                    self.note_refusal(env, source, admitted);
                }
                InboundRequest::AddProvider { record: None }
            }
            request => request,
        }
    }

    fn admit_record(
        &mut self,
        env: &Env,
        source: PeerId,
        record: kad::Record,
    ) -> Result<(), InboundRefusal> {
        let now = env.now();
        let Some((inbound, worker)) = &mut self.off_task else {
            return Ok(());
        };
        inbound.admit(source, now)?;
        inbound.enter()?;
        let job = Job {
            source,
            key: RecordKey::new(record.key.to_vec()),
            value: record.value,
            publisher: record.publisher,
            expires_at: record.expires.map(|at| wall_clock(at, now)),
        };
        tracing::trace!(%source, key = %job.key, bytes = job.value.len(), "an inbound record");
        if worker.give(job) {
            return Ok(());
        }
        inbound.leave();
        Err(InboundRefusal::Stopped)
    }

    /// Whether someone is asked before anything of others is stored.
    fn is_asking(&self) -> bool {
        self.off_task.as_ref().is_some_and(|(_, worker)| worker.asks)
    }

    /// Has someone asked about what this node has read from `source`, and would store. With no room in the queue it is not
    /// stored; another read will find it again.
    fn ask_about(
        &mut self,
        source: PeerId,
        key: &RecordKey,
        value: &[u8],
        expires_at: Option<Timestamp>,
    ) {
        let Some((inbound, worker)) = &mut self.off_task else {
            return;
        };
        if inbound.enter().is_err() {
            return tracing::debug!(%key, "what was read is not kept: the queue is full");
        }
        let job =
            Job { source, key: key.clone(), value: value.to_vec(), publisher: None, expires_at };
        if !worker.give(job) {
            inbound.leave();
        }
    }

    fn admit_provider(
        &mut self,
        env: &mut Env,
        record: kad::ProviderRecord,
    ) -> Result<(), InboundRefusal> {
        let now = env.now();
        if let Some((inbound, _)) = &mut self.off_task {
            inbound.admit(record.provider, now)?;
        }
        if let Err(error) = env.kad.store_mut().add_provider(record) {
            tracing::debug!(?error, "a provider record was not stored");
        }
        Ok(())
    }

    fn note_refusal(
        &mut self,
        env: &mut Env,
        source: PeerId,
        admitted: Result<(), InboundRefusal>,
    ) {
        let refusal = admitted.err().map(|reason| (source, reason));
        let Some((source, reason)) = refusal else {
            if self.last_refusal.is_some_and(|(last, _)| last == source) {
                self.last_refusal = None;
            }
            return;
        };
        env.count(|c| c.inbound_refused.entry(reason).or_default(), 1);
        tracing::debug!(%source, reason = reason.as_str(), "an inbound record was refused unread");
        if self.last_refusal != refusal {
            self.last_refusal = refusal;
            env.events.push_back(Event::InboundRefused { source, reason });
        }
    }

    /// Stores here what was found if we have some of it, or are a server among the closest ourselves.
    pub(super) fn keep(&mut self, env: &mut Env, lookup: &Lookup, is_close: bool) {
        let now = env.now();
        let key = lookup.key();
        let is_ours = is_close && env.kad.mode() == kad::Mode::Server;
        match lookup.joined() {
            Joined::Record(..) if lookup.has_here() || is_ours => {
                if let Some(news) = lookup.news() {
                    self.keep_record(env, lookup, news);
                }
            }
            Joined::Value(_, Some(value)) => {
                let here = env.kad.store_mut().value(key).ok().flatten().map(|here| here.value);
                if (here.is_some() || is_ours) && here.as_ref() != Some(value) {
                    self.keep_value(env, lookup, value, now);
                }
            }
            _ => {}
        }
    }

    fn keep_record(&mut self, env: &mut Env, lookup: &Lookup, news: SmartRecord) {
        if !self.is_asking() {
            return self.keep_verified(env, news);
        }
        let mut by_source: BTreeMap<PeerId, SmartRecord> = BTreeMap::new();
        for (writer, space) in news.spaces() {
            // What nobody has said now was asked about when it was said.
            if let Some(source) = lookup.source_of(writer) {
                let part = by_source.entry(source);
                let part = part.or_insert_with(|| SmartRecord::new(news.key().clone()));
                part.join_space(writer.clone(), space.clone());
            }
        }
        for (source, part) in by_source {
            for chunk in chunks(&part, env.bounds.chunk_bytes) {
                self.ask_about(source, lookup.key(), &chunk, None);
            }
        }
    }

    fn keep_value(&mut self, env: &mut Env, lookup: &Lookup, value: &[u8], now: Timestamp) {
        let (key, expires_at) = (lookup.key(), lookup.expires_at());
        if !self.is_asking() {
            let checked = Checked::new(&env.registry, key.clone(), value, now);
            env.insert(checked.with_origin(None, expires_at));
        } else if let Some(source) = lookup.source() {
            self.ask_about(source, key, value, expires_at);
        }
    }

    /// Stores a record, at once if it is small; else piece by piece, so that other tasks have their turn in between.
    fn keep_verified(&mut self, env: &mut Env, news: SmartRecord) {
        if news.spaces().len() <= PIECE {
            return env.insert(Checked::verified(news));
        }
        let key = news.key().clone();
        let mut piece = SmartRecord::new(key.clone());
        for (writer, space) in news.into_spaces() {
            piece.join_space(writer, space);
            if piece.spaces().len() >= PIECE {
                let whole = std::mem::replace(&mut piece, SmartRecord::new(key.clone()));
                self.to_keep.push_back(whole);
            }
        }
        if piece.spaces().len() > 0 {
            self.to_keep.push_back(piece);
        }
        while self.to_keep.len() > MAX_PIECES {
            // Another read will find it again.
            self.to_keep.pop_front();
        }
    }

    /// Whether all of what was read is stored.
    pub(super) fn has_kept_all(&self) -> bool {
        self.to_keep.is_empty()
    }

    /// Stores the next piece of what was read. Returns whether there was one.
    pub(super) fn keep_a_piece(&mut self, env: &mut Env) -> bool {
        let Some(piece) = self.to_keep.pop_front() else {
            return false;
        };
        env.insert(Checked::verified(piece));
        true
    }
}
