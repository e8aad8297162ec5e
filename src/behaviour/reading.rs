//! Reads, carried out with Kademlia.
//!
//! **Invariants.** A read ends, whatever is answered: when its peers have been asked, when its policy is satisfied, when
//! nobody waits for it any more, or when Kademlia's query times out. One that ends before all were asked says nothing
//! about what there is not.

use std::collections::HashMap;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordOk, QueryId, QueryResult};

use super::{
    env::Env,
    event::Event,
    watches::Watches,
    worker::{Answer, Verdict, Worker},
};
use crate::{
    client::Reply,
    clock::wall_clock,
    meter::{Amount, Begun, Purpose, Timed},
    query::{Lookup, ReadPolicy, Reading, Withheld},
};
use smart_record_core::{Malformed, RecordKey, ValidationError};

/// The reads that are under way, by the query of their latest round.
#[derive(Default)]
pub(super) struct Reads(HashMap<QueryId, Read>);

/// A read that is under way.
struct Read {
    lookup: Lookup,
    reader: Reader,
    /// How many answers are being checked elsewhere.
    verdicts: usize,
    /// The peers have been asked.
    is_over: bool,
    span: tracing::Span,
    begun: Begun,
}

/// A read that has ended.
pub(super) struct Ended {
    pub(super) lookup: Lookup,
    pub(super) reader: Reader,
    pub(super) withheld: Vec<Withheld>,
    pub(super) span: tracing::Span,
}

/// Whom a read is for.
pub(super) enum Reader {
    Client(ReadPolicy, Reply<Reading>),
    /// An own space that is to be written to for the first time.
    Resume,
    Watch,
    Replication,
}

impl Reader {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..) | Self::Resume)
    }

    const fn purpose(&self) -> Purpose {
        match self {
            Self::Client(..) => Purpose::Client,
            Self::Resume => Purpose::Resume,
            Self::Watch => Purpose::Watch,
            Self::Replication => Purpose::Replication,
        }
    }

    /// Nothing is registered for the key.
    fn refuse(self, env: &mut Env, key: RecordKey, error: ValidationError) {
        match self {
            Self::Client(_, reply) => reply.send(Err(error.into())),
            Self::Replication => env.events.push_back(Event::Replicated { key }),
            // They are begun only where something is.
            Self::Resume | Self::Watch => {}
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Client(_, reply) if reply.is_gone())
    }

    fn span(&self, key: &RecordKey) -> tracing::Span {
        let parent = match self {
            Self::Client(_, reply) => reply.span().id(),
            _ => None,
        };
        tracing::debug_span!(parent: parent, "read", %key, purpose = self.purpose().as_str())
    }

    const fn policy(&self) -> ReadPolicy {
        match self {
            Self::Client(policy, _) => *policy,
            _ => ReadPolicy::All,
        }
    }
}

impl Reads {
    /// Begins a read. One of a watched key goes on from what is known of that.
    pub(super) fn begin(
        &mut self,
        env: &mut Env,
        watches: &Watches,
        key: RecordKey,
        reader: Reader,
    ) {
        let (now, policy) = (env.now(), reader.policy());
        let begun = env.meter.begin();
        let span = reader.span(&key);
        let _in_span = span.clone().entered();
        let store = env.kad.store_mut();
        let mut lookup = match Lookup::begin(store, key.clone(), policy, env.bounds, now) {
            Ok(lookup) => lookup,
            Err(error) => return reader.refuse(env, key, error),
        };
        if matches!(reader, Reader::Watch) {
            watches.recall(&mut lookup, now);
        }
        let read = Read { lookup, reader, verdicts: 0, is_over: false, span, begun };
        self.ask(env, read);
    }

    fn ask(&mut self, env: &mut Env, read: Read) {
        let query = env.kad.get_record(kad::RecordKey::new(read.lookup.key()));
        env.count(|c| &mut c.lookups, 1);
        tracing::trace!("asks the peers closest to the key");
        self.0.insert(query, read);
    }

    /// Whether a query is one of these reads.
    pub(super) fn has(&self, query: &QueryId) -> bool {
        self.0.contains_key(query)
    }

    /// How many there are for such readers.
    pub(super) fn count(&self, is_one: impl Fn(&Reader) -> bool) -> usize {
        self.0.values().filter(|read| is_one(&read.reader)).count()
    }

    /// A query has got on. Returns the read if that was its end.
    pub(super) fn on_progress(
        &mut self,
        env: &mut Env,
        worker: Option<&mut Worker>,
        id: QueryId,
        result: QueryResult,
        is_last: bool,
    ) -> Option<Ended> {
        let read = self.0.get_mut(&id)?;
        let _in_span = read.span.clone().entered();
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                // Without a peer it is our own copy, of which the lookup has the whole.
                let is_enough = found
                    .peer
                    .is_some_and(|peer| read.on_found(env, worker, id, peer, found.record));
                read.end_if(env, &id, is_enough);
            }
            QueryResult::GetRecord(result) => read.lookup.on_progress(&result),
            _ => {}
        }
        read.is_over |= is_last;
        self.end_round(env, id)
    }

    /// An answer has been checked elsewhere. Returns the read if that was its end.
    pub(super) fn on_verdict(&mut self, env: &mut Env, verdict: Verdict) -> Option<Ended> {
        let Verdict { read: id, peer, expires_at, said } = verdict;
        let read = self.0.get_mut(&id)?;
        let _in_span = read.span.clone().entered();
        tell_answer(&peer, said.as_ref().err());
        read.verdicts = read.verdicts.saturating_sub(1);
        let is_enough = read.lookup.on_answer(peer, said, expires_at);
        read.end_if(env, &id, is_enough);
        self.end_round(env, id)
    }

    /// What checks answers elsewhere has come to its end: those that it had are lost. Returns the reads of which that was the end.
    pub(super) fn on_no_verdicts(&mut self, env: &mut Env) -> Vec<Ended> {
        let waiting = self.0.iter_mut().filter(|(_, read)| read.verdicts > 0);
        let waiting: Vec<_> = waiting
            .map(|(id, read)| {
                read.verdicts = 0;
                // There may have been anything in them.
                read.lookup.end_early();
                *id
            })
            .collect();
        waiting.into_iter().filter_map(|id| self.end_round(env, id)).collect()
    }

    /// Nobody writes any more: what own spaces say already need not be known.
    pub(super) fn stop_resuming(&mut self, env: &mut Env) {
        let resuming = self.0.iter_mut().filter(|(_, read)| matches!(read.reader, Reader::Resume));
        resuming.for_each(|(id, read)| read.end_if(env, id, true));
    }

    /// Begins the next round, or ends the read, once the peers have been asked and their answers checked.
    fn end_round(&mut self, env: &mut Env, id: QueryId) -> Option<Ended> {
        let read = self.0.get(&id)?;
        if !read.is_over || read.verdicts > 0 {
            return None;
        }
        let mut read = self.0.remove(&id)?;
        let _in_span = read.span.clone().entered();
        if read.reader.is_gone() || !read.lookup.on_round() {
            return Some(read.end(env));
        }
        read.is_over = false;
        self.ask(env, read);
        None
    }
}

impl Read {
    /// An answer has come. Returns whether that is enough.
    fn on_found(
        &mut self,
        env: &Env,
        worker: Option<&mut Worker>,
        id: QueryId,
        peer: PeerId,
        record: kad::Record,
    ) -> bool {
        let now = env.now();
        env.meter.note(Amount::AnswerBytes(record.value.len()));
        let lookup = &mut self.lookup;
        if record.key != kad::RecordKey::new(lookup.key()) {
            // Kademlia does not compare them.
            let error = ValidationError::from(Malformed::other("an answer of another key"));
            tracing::debug!(%peer, %error, "a bad answer");
            return lookup.on_answer(peer, Err(error), None);
        }
        let expires_at = record.expires.map(|at| wall_clock(at, now));
        let mut value = Bytes::from(record.value);
        if let Some(worker) = worker {
            let key = lookup.key().clone();
            let known = lookup.joined().known_of(&value);
            match worker.answers.give(Answer { read: id, peer, key, value, expires_at, known }) {
                Ok(()) => {
                    self.verdicts = self.verdicts.saturating_add(1);
                    return false;
                }
                Err((answer, _)) => value = answer.value,
            }
        }
        let said = lookup.joined().check(lookup.key(), value, now);
        tell_answer(&peer, said.as_ref().err());
        lookup.on_answer(peer, said, expires_at)
    }

    /// Asks nobody any more if that is enough, or nobody waits for it.
    fn end_if(&mut self, env: &mut Env, id: &QueryId, is_enough: bool) {
        if !self.is_over
            && (is_enough || self.reader.is_gone())
            && let Some(mut query) = env.kad.query_mut(id)
        {
            self.lookup.end_early();
            query.finish();
        }
    }

    fn end(self, env: &mut Env) -> Ended {
        let Self { lookup, reader, span, begun, .. } = self;
        env.meter.end(Timed::Read(reader.purpose()), begun);
        env.meter.note(Amount::Lookups(reader.purpose(), lookup.lookups()));
        env.count(|c| &mut c.reads, 1);
        let now = env.now();
        let record = lookup.joined().record();
        let mut withheld = record.map(|record| env.known.meet(record, now)).unwrap_or_default();
        // Nobody is accused of withholding what was not asked for to the end, or may stand in another slice.
        let tells_absence = lookup.is_complete() && !lookup.may_be_sliced();
        withheld
            .retain(|withheld| lookup.was_heard() && (tells_absence || withheld.found.is_some()));
        if !withheld.is_empty() {
            env.count(|c| &mut c.withheld, withheld.len());
            tracing::debug!(writers = withheld.len(), "less was found than was seen before");
            let (key, writers) = (lookup.key().clone(), withheld.clone());
            env.events.push_back(Event::Withheld { key, writers });
        }
        Ended { lookup, reader, withheld, span }
    }
}

/// Tells what became of an answer.
fn tell_answer(peer: &PeerId, error: Option<&ValidationError>) {
    match error {
        Some(error) => tracing::debug!(%peer, %error, "a bad answer"),
        None => tracing::trace!(%peer, "a good answer"),
    }
}
