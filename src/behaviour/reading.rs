//! Reads, carried out over the network.
//!
//! **Invariants.** A read is told once when it is settled, and once more at its end if it has
//! learnt something since. It ends, whatever is answered: when the peers have been asked, when its
//! policy is satisfied, when nobody waits for it any more, or at its deadline. One that ends before
//! enough of the closest have answered says nothing about what there is not.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::KBucketKey;
use smart_record_lookup::{self as search, LookupConfig, LookupKind, Place};

use super::{
    env::Env,
    event::Event,
    holders::Closest,
    network::{OperationId, RequestOutcome},
    watches::Watches,
    worker::{AnswerVerdict, ReadAnswer, Worker},
};
use crate::{
    client::{Reply, latest},
    meter::{Amount, Begun, Purpose, Timed},
    outbound::{Failure, Record, Request},
    query::{Read, ReadOptions, ReadPolicy, Reading, RecordLookup, Withheld},
};
use smart_record_core::{Malformed, RecordKey, Timestamp, ValidationError};

/// How long a read goes on in the background after it was told. A guess: longer than any request
/// that is under way then may take.
const BACKGROUND: Duration = Duration::from_secs(10);

/// From how many peers of the routing table a search starts. A guess: where identify has filled the
/// table with clients, some servers are among them.
const START: usize = 64;

/// The reads that are under way.
#[derive(Default)]
pub(super) struct Reads {
    under_way: BTreeMap<u64, Operation>,
    next_id: u64,
}

/// A read that is under way.
struct Operation {
    read: Read,
    reader: Reader,
    deadline: Duration,
    /// It was settled, and that was told.
    is_told: bool,
    /// Something was learnt since.
    has_news: bool,
    span: tracing::Span,
    begun: Begun,
}

/// What a read has come to.
pub(super) struct Ended {
    pub(super) lookup: RecordLookup,
    pub(super) reader: Reader,
    pub(super) withheld: Vec<Withheld>,
    /// The closest peers, sorted by distance.
    pub(super) closest: Closest,
    /// Those of the closest that did not answer.
    pub(super) silent: Vec<PeerId>,
    pub(super) span: tracing::Span,
}

/// Whom a read is for.
pub(super) enum Reader {
    Client(ReadOptions, Reply<Reading>),
    Stream(ReadOptions, latest::LatestSender<Reading>),
    /// An own space that is to be written to for the first time.
    Resume,
    /// A sending, which has to know whom it goes to and what they have.
    Sending(u64),
    Watch,
    Replication,
    /// Whoever it was for has been told.
    Told {
        is_client: bool,
    },
}

impl Reader {
    /// Whether it counts against what clients may have under way.
    pub(super) const fn is_client(&self) -> bool {
        matches!(
            self,
            Self::Client(..) | Self::Stream(..) | Self::Resume | Self::Told { is_client: true }
        )
    }

    const fn purpose(&self) -> Purpose {
        match self {
            Self::Client(..) | Self::Stream(..) | Self::Told { .. } => Purpose::Client,
            Self::Resume => Purpose::Resume,
            Self::Sending(_) => Purpose::Sending,
            Self::Watch => Purpose::Watch,
            Self::Replication => Purpose::Replication,
        }
    }

    /// Nothing is registered for the key.
    fn refuse(self, env: &mut Env, key: RecordKey, error: ValidationError) {
        match self {
            Self::Client(_, reply) => reply.send(Err(error.into())),
            Self::Replication => env.events.push_back(Event::Replicated { key }),
            // The stream ends; the others are begun only where something is.
            Self::Stream(..)
            | Self::Resume
            | Self::Sending(_)
            | Self::Watch
            | Self::Told { .. } => {}
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Client(_, reply) => reply.is_gone(),
            Self::Stream(_, sender) => sender.is_closed(),
            _ => false,
        }
    }

    fn span(&self, key: &RecordKey) -> tracing::Span {
        let parent = match self {
            Self::Client(_, reply) => reply.span().id(),
            _ => None,
        };
        tracing::debug_span!(parent: parent, "read", %key, purpose = self.purpose().as_str())
    }

    fn options(&self, env: &Env) -> ReadOptions {
        let config = &env.config;
        let (policy, deadline) = match self {
            Self::Client(options, _) | Self::Stream(options, _) => return *options,
            Self::Watch => (config.watch_policy(), config.watch_deadline()),
            _ => (ReadPolicy::Settled, config.read_deadline()),
        };
        ReadOptions::new(policy, deadline)
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
    ) -> Option<Ended> {
        let (now, options) = (env.now(), reader.options(env));
        let begun = env.meter.begin();
        let span = reader.span(&key);
        let _in_span = span.clone().entered();
        let store = env.kad.store_mut();
        let begun_lookup =
            RecordLookup::begin(store, key.clone(), options.policy(), env.bounds, now);
        let mut lookup = match begun_lookup {
            Ok(lookup) => lookup,
            Err(error) => {
                reader.refuse(env, key, error);
                return None;
            }
        };
        if matches!(reader, Reader::Watch) {
            watches.recall(&mut lookup, now);
        }
        env.count(|c| &mut c.lookups, 1);
        let read = Read::new(lookup, search(env, &key, LookupKind::Value));
        let deadline = env.net.now().saturating_add(options.deadline());
        let operation =
            Operation { read, reader, deadline, is_told: false, has_news: false, span, begun };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.under_way.insert(id, operation);
        self.go_on(env, id)
    }

    /// How many there are for such readers.
    pub(super) fn count(&self, is_one: impl Fn(&Reader) -> bool) -> usize {
        self.under_way.values().filter(|operation| is_one(&operation.reader)).count()
    }

    /// What a read has found so far.
    pub(super) fn found(&self, id: u64) -> Option<&RecordLookup> {
        self.under_way.get(&id).map(|operation| operation.read.answers())
    }

    /// Shows whoever wants to see more than the end what a read has found so far.
    pub(super) fn show(&self, env: &Env, id: u64) {
        if let Some(Operation { read, reader: Reader::Stream(_, sender), .. }) =
            self.under_way.get(&id)
        {
            let lookup = read.answers().clone();
            let reading = lookup.into_reading(&[], Vec::new(), env.now());
            let is_complete = false;
            sender.send(Reading { silent: read.search().silent(), is_complete, ..reading });
        }
    }

    /// When the first deadline comes.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.under_way.values().map(|operation| operation.deadline).min()
    }

    /// Ends a read whose deadline has come.
    pub(super) fn on_time(&mut self, env: &mut Env, now: Duration) -> Option<Ended> {
        let mut late = self.under_way.iter_mut().filter(|(_, operation)| operation.deadline <= now);
        let (id, operation) = late.next()?;
        let id = *id;
        operation.read.time_out();
        self.go_on(env, id)
    }

    /// A request of a read has come to something. Returns whether that was news.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        worker: Option<&mut Worker>,
        id: u64,
        peer: PeerId,
        outcome: RequestOutcome,
    ) -> bool {
        let Some(operation) = self.under_way.get_mut(&id) else {
            return false;
        };
        let _in_span = operation.span.clone().entered();
        if let Some(failure) = outcome.failure() {
            operation.read.on_failure(&peer, failure);
        }
        match outcome {
            RequestOutcome::Answered(answer) => {
                operation.read.on_answer(&peer, answer.closer.iter().map(|closer| closer.peer));
                match answer.record {
                    Some(record) => operation.on_found(env, worker, id, peer, record),
                    None => {
                        tracing::trace!(%peer, "has nothing");
                        operation.read.on_nothing(peer);
                        false
                    }
                }
            }
            RequestOutcome::Failed(Failure::Invalid(error)) => {
                let error = ValidationError::from(Malformed::other(error));
                operation.on_said(peer, Err(error), None)
            }
            RequestOutcome::Failed(error) => {
                tracing::debug!(%peer, %error, "no answer");
                false
            }
            RequestOutcome::Late => {
                tracing::trace!(%peer, "is late");
                operation.read.on_late(&peer);
                false
            }
            RequestOutcome::Silent => {
                tracing::debug!(%peer, "is silent");
                false
            }
        }
    }

    /// An answer has been checked elsewhere. Returns whether that was news.
    pub(super) fn on_verdict(&mut self, verdict: AnswerVerdict) -> bool {
        let AnswerVerdict { read, peer, expires_at, said } = verdict;
        let Some(operation) = self.under_way.get_mut(&read) else {
            return false;
        };
        let _in_span = operation.span.clone().entered();
        operation.read.on_checked();
        operation.on_said(peer, said, expires_at)
    }

    /// What checks answers elsewhere has come to its end: those that it had are lost. Returns the
    /// reads that had some there.
    pub(super) fn on_no_verdicts(&mut self) -> Vec<u64> {
        let mut lost = Vec::new();
        for (id, operation) in &mut self.under_way {
            if operation.read.on_all_lost() {
                lost.push(*id);
            }
        }
        lost
    }

    /// Nobody writes any more: what own spaces say already need not be known. Returns the reads
    /// that this ends.
    pub(super) fn stop_resuming(&mut self) -> Vec<u64> {
        let resuming =
            self.under_way.iter_mut().filter(|(_, it)| matches!(it.reader, Reader::Resume));
        let ended = resuming.map(|(id, operation)| {
            operation.read.end_early();
            *id
        });
        ended.collect()
    }

    /// Asks whom it has to ask, and tells what the read has come to if it is settled now, or over.
    pub(super) fn go_on(&mut self, env: &mut Env, id: u64) -> Option<Ended> {
        let operation = self.under_way.get_mut(&id)?;
        let _in_span = operation.span.clone().entered();
        if !operation.is_told && operation.reader.is_gone() {
            operation.read.end_early();
        }
        let name = OperationId::Read(id);
        let read = &mut operation.read;
        let key = Bytes::copy_from_slice(read.answers().key().as_bytes());
        env.net.send(name, |requests, size, now| {
            let (id, peer) = read.next(requests, size, now)?;
            Some((id, peer, Request::GetValue { key: key.clone() }))
        });
        let now = env.net.now();
        let is_settled = read.is_settled(env.net.requests(), &env.net.size, now);
        if read.is_over(&env.net.size) {
            env.net.give_up(name);
            let operation = self.under_way.remove(&id)?;
            operation.read.measure(&mut env.net.size, now);
            let is_worth_telling = !operation.is_told || operation.has_news;
            return is_worth_telling.then(|| operation.end(env));
        }
        env.net.wait_for_room(name);
        if !is_settled || operation.is_told {
            return None;
        }
        operation.is_told = true;
        operation.has_news = false;
        operation.deadline = now.saturating_add(BACKGROUND);
        let is_client = operation.reader.is_client();
        let reader = std::mem::replace(&mut operation.reader, Reader::Told { is_client });
        Some(operation.tell(env, reader))
    }
}

impl Operation {
    /// An answer has come with a record in it. Returns whether that was news.
    fn on_found(
        &mut self,
        env: &mut Env,
        worker: Option<&mut Worker>,
        id: u64,
        peer: PeerId,
        record: Record,
    ) -> bool {
        let now = env.now();
        env.meter.note(Amount::AnswerBytes(record.value.len()));
        let lookup = self.read.answers();
        let expires_at = record.ttl.map(|ttl| now.saturating_add(ttl));
        let mut value = record.value;
        if let Some(worker) = worker {
            let key = lookup.key().clone();
            let known = lookup.joined().known_of(&value);
            match worker.answers.give(ReadAnswer { read: id, peer, key, value, expires_at, known })
            {
                Ok(()) => {
                    self.read.on_checking();
                    return false;
                }
                Err((answer, _)) => value = answer.value,
            }
        }
        let said = lookup.joined().check(lookup.key(), value, now);
        self.on_said(peer, said, expires_at)
    }

    fn on_said(
        &mut self,
        peer: PeerId,
        said: Result<crate::query::Said, ValidationError>,
        expires_at: Option<Timestamp>,
    ) -> bool {
        match &said {
            Err(error) => tracing::debug!(%peer, %error, "a bad answer"),
            Ok(_) => tracing::trace!(%peer, "a good answer"),
        }
        // Even what is no news may show that a peer is behind.
        self.has_news = true;
        self.read.on_said(peer, said, expires_at)
    }

    /// What the read has come to at its end.
    fn end(mut self, env: &mut Env) -> Ended {
        let reader = std::mem::replace(&mut self.reader, Reader::Told { is_client: false });
        self.tell(env, reader)
    }

    /// What the read has come to by now.
    fn tell(&mut self, env: &mut Env, reader: Reader) -> Ended {
        let search = self.read.search();
        let lookup = self.read.answers().clone();
        let is_first = !matches!(reader, Reader::Told { .. });
        if is_first {
            env.meter.end(Timed::Read(reader.purpose()), self.begun);
            env.meter.note(Amount::Lookups(reader.purpose(), lookup.lookups()));
            env.count(|c| &mut c.reads, 1);
            // The first was counted when it began.
            env.count(|c| &mut c.lookups, lookup.lookups().saturating_sub(1));
            env.tell_implausible(lookup.key(), search);
        }
        let now = env.now();
        let record = lookup.joined().record();
        let mut withheld = record.map(|record| env.known.meet(record, now)).unwrap_or_default();
        // Nobody is accused of withholding what was not asked for to the end, or may stand in
        // another slice.
        let tells_absence = lookup.is_complete() && !lookup.may_be_sliced();
        withheld.retain(|withheld| {
            is_first && lookup.was_heard() && (tells_absence || withheld.found.is_some())
        });
        if !withheld.is_empty() {
            env.count(|c| &mut c.withheld, withheld.len());
            tracing::debug!(writers = withheld.len(), "less was found than was seen before");
            let (key, writers) = (lookup.key().clone(), withheld.clone());
            env.events.push_back(Event::Withheld { key, writers });
        }
        let closest = Closest::of(search, &env.net.size);
        let silent = search.silent();
        Ended { lookup, reader, withheld, closest, silent, span: self.span.clone() }
    }
}

/// A search for the peers closest to a key, from those in the routing table.
pub(super) fn search(env: &mut Env, key: &RecordKey, wanted: LookupKind) -> search::Lookup {
    let target = KBucketKey::new(key.as_bytes().to_vec());
    let start = env.kad.get_closest_local_peers(&target).map(KBucketKey::into_preimage);
    let start: Vec<_> = start.take(START).collect();
    env.net.size.forget_old(env.net.now());
    let config = LookupConfig::default().with_closest(env.bounds.closest);
    search::Lookup::new(Place::of_key(key.as_bytes()), wanted, env.local, config, start)
}
