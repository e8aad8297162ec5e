//! Reads over the network.
//!
//! **Invariants.** A read returns a result when it is settled, and another at its end if it has
//! asked further peers or answers have arrived since. Every read ends: when all peers have been
//! asked, when its policy is satisfied, when its caller is gone, or at its deadline. A read that
//! ends before enough of the closest peers have answered proves no absence.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::KBucketKey;
use smart_record_lookup::{self as search, LookupConfig, LookupKind, Place};

use super::{
    config::BehaviourConfig,
    env::Env,
    event::Event,
    holders::Closest,
    network::{OperationId, RequestOutcome},
    rollback::SeenBefore,
    watches::Watches,
    worker::{AnswerVerdict, PeerAnswer, Worker},
};
use crate::{
    client::{Reply, latest},
    meter::{Amount, Begun, Purpose, Timed},
    outbound::{Failure, Record, Request},
    query::{Answer, Breadth, Read, ReadOptions, ReadPolicy, Reading, RecordLookup, Withheld},
};
use smart_record_core::{Malformed, RecordKey, Timestamp, ValidationError, Writer};

/// Maximum duration of a read in the background, after it has returned. A guess: longer than any
/// request under way may take.
const BACKGROUND: Duration = Duration::from_secs(10);

/// Maximum number of peers of the routing table that a search starts from. A guess: where identify
/// has added clients to the table, some servers are among them.
const START: usize = 64;

/// Number of requests at a time of a lookup that no client waits for: fewer than for clients,
/// because each more at a time costs requests, and these lookups are most of the traffic. From the
/// model in `docs/scale.md`.
const UPKEEP_PARALLELISM: usize = 6;

/// All reads under way.
#[derive(Default)]
pub(super) struct Reads {
    under_way: BTreeMap<u64, Operation>,
    next_id: u64,
}

/// A read under way.
struct Operation {
    read: Read,
    reader: Reader,
    deadline: Duration,
    /// Whether it has settled and returned.
    has_returned: bool,
    /// Whether its end is to have a result: an answer has arrived since, be it that a peer has
    /// nothing, or further peers were to be asked.
    has_news: bool,
    /// The peers that have answered since, and whether that was news.
    late: BTreeMap<PeerId, bool>,
    span: tracing::Span,
    begun: Begun,
    /// What had been seen of the record when it began.
    seen: SeenBefore,
    /// When it began.
    since: Duration,
}

/// The result of a read, when it is settled or at its end.
pub(super) struct ReadResult {
    pub(super) id: u64,
    /// When the read began.
    pub(super) since: Duration,
    pub(super) lookup: RecordLookup,
    pub(super) reader: Reader,
    pub(super) withheld: Vec<Withheld>,
    /// The closest peers, sorted by distance.
    pub(super) closest: Closest,
    /// Whether the read goes on with further peers among the closest.
    pub(super) asks_on: bool,
    /// The peers that have answered since the read returned, and whether that was news.
    pub(super) late: BTreeMap<PeerId, bool>,
    /// The closest peers that did not answer in time.
    pub(super) silent: Vec<PeerId>,
    /// Whether any peer was asked.
    pub(super) has_asked: bool,
    pub(super) span: tracing::Span,
}

/// Recipient of the result of a read.
pub(super) enum Reader {
    Client(ReadOptions, Reply<Reading>),
    Stream(ReadOptions, latest::LatestSender<Reading>),
    /// The first write to an own space.
    Resume,
    /// A send operation, which needs the closest peers and what they have.
    Sending {
        id: u64,
        is_client: bool,
    },
    Watch,
    Replication,
    /// The recipient has got its result; the read goes on in the background.
    Returned {
        purpose: Purpose,
        is_client: bool,
    },
}

impl Reader {
    /// Whether the result is for a write, which sends the record itself.
    pub(super) const fn is_for_write(&self) -> bool {
        matches!(self.purpose(), Purpose::Resume | Purpose::Sending)
    }

    /// Whether the read has returned to a write, which has sent the record since.
    pub(super) const fn has_returned_to_write(&self) -> bool {
        matches!(self, Self::Returned { .. }) && self.is_for_write()
    }

    /// Whether the read counts towards the client operations: a client has started it, or an
    /// operation that it serves.
    pub(super) const fn is_client(&self) -> bool {
        match self {
            Self::Client(..) | Self::Stream(..) | Self::Resume => true,
            Self::Sending { is_client, .. } | Self::Returned { is_client, .. } => *is_client,
            Self::Watch | Self::Replication => false,
        }
    }

    /// What it is or was for.
    pub(super) const fn purpose(&self) -> Purpose {
        match self {
            Self::Client(..) | Self::Stream(..) => Purpose::Client,
            Self::Returned { purpose, .. } => *purpose,
            Self::Resume => Purpose::Resume,
            Self::Sending { .. } => Purpose::Sending,
            Self::Watch => Purpose::Watch,
            Self::Replication => Purpose::Replication,
        }
    }

    const fn returned(&self) -> Self {
        Self::Returned { purpose: self.purpose(), is_client: self.is_client() }
    }

    /// Refuses a read because nothing is registered for the key.
    fn refuse(self, env: &mut Env, key: RecordKey, error: ValidationError) {
        match self {
            Self::Client(_, reply) => reply.send(Err(error.into())),
            Self::Replication => env.events.push_back(Event::Replicated { key }),
            // The stream ends. The others start only for registered keys.
            Self::Stream(..)
            | Self::Resume
            | Self::Sending { .. }
            | Self::Watch
            | Self::Returned { .. } => {}
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

    /// Which peers are asked before the read settles.
    const fn breadth(&self, closest: usize) -> Breadth {
        match self {
            Self::Client(..) | Self::Stream(..) | Self::Watch => Breadth::majority(closest),
            Self::Resume | Self::Sending { .. } | Self::Replication | Self::Returned { .. } => {
                Breadth::All
            }
        }
    }

    /// What certainty is asked for, and how long it may take.
    fn options(&self, config: &BehaviourConfig) -> (ReadPolicy, Duration) {
        let read_deadline = config.read_deadline();
        match self {
            Self::Client(options, _) | Self::Stream(options, _) => (
                options.policy().unwrap_or(config.read_policy()),
                options.deadline().unwrap_or(read_deadline),
            ),
            Self::Watch => (config.watch_policy(), config.watch_deadline()),
            // A write waits for it.
            Self::Resume => (ReadPolicy::Settled, read_deadline.min(config.write_deadline())),
            _ => (ReadPolicy::Settled, read_deadline),
        }
    }
}

impl Reads {
    /// Starts a read. A read for a watch starts from what the watch knows.
    pub(super) fn begin(
        &mut self,
        env: &mut Env,
        watches: &Watches,
        key: RecordKey,
        reader: Reader,
    ) -> Option<ReadResult> {
        let (now, (policy, deadline)) = (env.now(), reader.options(&env.config));
        let (begun, seen) = (env.meter.begin(), env.known.seen(&key));
        let span = reader.span(&key);
        let _in_span = span.clone().entered();
        let store = env.kad.store_mut();
        let begun_lookup = RecordLookup::begin(store, key.clone(), policy, env.bounds, now);
        let mut lookup = match begun_lookup {
            Ok(lookup) => lookup,
            Err(error) => {
                reader.refuse(env, key, error);
                return None;
            }
        };
        match &reader {
            Reader::Watch => watches.recall(&mut lookup, now),
            // The rest of the record is of no use to it.
            Reader::Resume => lookup.want(&env.writer),
            Reader::Client(options, _) | Reader::Stream(options, _) => {
                options.complete_at().into_iter().for_each(|peers| lookup.set_complete_at(peers));
            }
            Reader::Sending { .. } | Reader::Replication | Reader::Returned { .. } => {}
        }
        env.count(|c| &mut c.lookups, 1);
        let breadth = reader.breadth(env.bounds.closest);
        let read = Read::new(lookup, search(env, &key, reader.is_client()), breadth);
        let operation = Operation {
            read,
            reader,
            deadline: env.net.now().saturating_add(deadline),
            has_returned: false,
            has_news: false,
            late: BTreeMap::new(),
            span,
            begun,
            seen,
            since: env.net.now(),
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.under_way.insert(id, operation);
        self.advance(env, id)
    }

    /// Number of reads with a matching reader.
    pub(super) fn count(&self, is_one: impl Fn(&Reader) -> bool) -> usize {
        self.under_way.values().filter(|operation| is_one(&operation.reader)).count()
    }

    /// How many bytes of answers the reads hold, roughly.
    pub(super) fn bytes(&self) -> usize {
        let bytes = self.under_way.values().map(|operation| operation.read.answers().bytes());
        bytes.fold(0, usize::saturating_add)
    }

    /// The interim result of a read.
    pub(super) fn found(&self, id: u64) -> Option<&RecordLookup> {
        self.under_way.get(&id).map(|operation| operation.read.answers())
    }

    /// Sends the interim result of a read to its stream, if it has one.
    pub(super) fn show(&self, env: &Env, id: u64) {
        if let Some(Operation { read, reader: Reader::Stream(_, sender), .. }) =
            self.under_way.get(&id)
        {
            let interim = read.answers().clone().into_interim(env.now());
            sender.send(Reading { silent: read.search().silent(), ..interim });
        }
    }

    /// The next deadline.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.under_way.values().map(|operation| operation.deadline).min()
    }

    /// Ends one read whose deadline has passed.
    pub(super) fn on_time(&mut self, env: &mut Env, now: Duration) -> Option<ReadResult> {
        let mut late = self.under_way.iter_mut().filter(|(_, operation)| operation.deadline <= now);
        let (id, operation) = late.next()?;
        let id = *id;
        operation.read.time_out();
        self.advance(env, id)
    }

    /// Handles the outcome of a request. Returns whether it brought news.
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
                let subnets = env.subnets_of(&peer);
                let named = env.subnets.named(&answer.closer, &env.remotes);
                operation.read.on_answer(&peer, subnets, named);
                match answer.record {
                    Some(record) => operation.on_found(env, worker, id, peer, record),
                    None => {
                        tracing::trace!(%peer, "peer has no record");
                        operation.read.on_nothing(peer);
                        // It is repaired.
                        operation.note(peer, false);
                        false
                    }
                }
            }
            RequestOutcome::Failed(Failure::Invalid(error)) => {
                let error = ValidationError::from(Malformed::other(error));
                operation.on_checked_answer(env, peer, Err(error), None)
            }
            RequestOutcome::Failed(error) => {
                tracing::debug!(%peer, %error, "request failed");
                false
            }
            RequestOutcome::Late => {
                tracing::trace!(%peer, "answer is late");
                operation.read.on_late(&peer);
                false
            }
            RequestOutcome::Silent => {
                tracing::debug!(%peer, "no answer in time");
                false
            }
        }
    }

    /// Handles the verdict on an answer that was checked off the task. Returns whether it was news.
    pub(super) fn on_verdict(&mut self, env: &mut Env, id: u64, verdict: AnswerVerdict) -> bool {
        let AnswerVerdict { peer, expires_at, answer, .. } = verdict;
        let Some(operation) = self.under_way.get_mut(&id) else {
            return false;
        };
        let _in_span = operation.span.clone().entered();
        operation.read.on_checked();
        operation.on_checked_answer(env, peer, answer, expires_at)
    }

    /// Handles the end of the worker: its answers are lost. Returns the reads that had answers
    /// there.
    pub(super) fn on_no_verdicts(&mut self) -> Vec<u64> {
        let mut lost = Vec::new();
        for (id, operation) in &mut self.under_way {
            if operation.read.on_all_lost() {
                lost.push(*id);
            }
        }
        lost
    }

    /// Ends the reads for first writes, because no client is left. Returns their ids.
    pub(super) fn stop_resuming(&mut self) -> Vec<u64> {
        let resuming =
            self.under_way.iter_mut().filter(|(_, it)| matches!(it.reader, Reader::Resume));
        let ended = resuming.map(|(id, operation)| {
            operation.read.end_early();
            *id
        });
        ended.collect()
    }

    /// Sends the next requests of a read. Returns its result if it has just settled, or is over.
    pub(super) fn advance(&mut self, env: &mut Env, id: u64) -> Option<ReadResult> {
        let operation = self.under_way.get_mut(&id)?;
        let _in_span = operation.span.clone().entered();
        if !operation.has_returned && operation.reader.is_gone() {
            operation.read.end_early();
        }
        let name = OperationId::Read(id);
        let read = &mut operation.read;
        let key = Bytes::copy_from_slice(read.answers().key().as_bytes());
        let now = env.net.now();
        // A settled read goes on with the peers that it has not asked yet.
        read.is_settled(env.net.requests(), &env.net.size, now);
        env.net.send(name, |requests, size, now| {
            let (id, peer) = read.next(requests, size, now)?;
            Some((id, peer, Request::GetValue { key: key.clone() }))
        });
        let is_settled = read.is_settled(env.net.requests(), &env.net.size, now);
        if read.is_over(&env.net.size) {
            env.net.cancel_all(name);
            let operation = self.under_way.remove(&id)?;
            operation.read.measure(&mut env.net.size, now);
            let has_result = !operation.has_returned || operation.has_news;
            return has_result.then(|| operation.end(env, id));
        }
        env.net.wait_for_slot(name);
        if !is_settled || operation.has_returned {
            return None;
        }
        operation.has_returned = true;
        operation.deadline = now.saturating_add(BACKGROUND);
        let returned = operation.reader.returned();
        let reader = std::mem::replace(&mut operation.reader, returned);
        let result = operation.result(env, id, reader);
        // Until all were asked nobody is repaired, so the end has a result even if no other peer
        // answers.
        operation.has_news = result.asks_on;
        Some(result)
    }

    /// Notes that what a read has found was passed on to be stored. Its next result has what was
    /// found since.
    pub(super) fn on_passed_on(&mut self, id: u64) {
        if let Some(operation) = self.under_way.get_mut(&id) {
            operation.read.answers_mut().pass_on();
        }
    }
}

impl Operation {
    /// Handles an answer with a record. Returns whether it was news.
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
        let (key, value) = (lookup.key().clone(), record.value);
        let known = lookup.joined().relevant_to(&value);
        let operation = OperationId::Read(id);
        let answer = PeerAnswer { operation, peer, key, value, expires_at, known };
        let signatures = env.kad.store_mut().signatures();
        match answer.check(worker, &signatures, now) {
            Some(AnswerVerdict { answer, .. }) => {
                self.on_checked_answer(env, peer, answer, expires_at)
            }
            None => {
                self.read.on_checking();
                false
            }
        }
    }

    fn on_checked_answer(
        &mut self,
        env: &mut Env,
        peer: PeerId,
        answer: Result<Answer, ValidationError>,
        expires_at: Option<Timestamp>,
    ) -> bool {
        match &answer {
            Err(error) => {
                env.count(|c| &mut c.bad_answers, 1);
                tracing::debug!(%peer, %error, "invalid answer");
            }
            Ok(_) => tracing::trace!(%peer, "valid answer"),
        }
        let is_news = self.read.on_checked_answer(peer, answer, expires_at);
        // An answer without news may show that a peer is behind.
        self.note(peer, is_news);
        is_news
    }

    /// Records that a peer has answered.
    fn note(&mut self, peer: PeerId, is_news: bool) {
        self.has_news = true;
        if self.has_returned {
            *self.late.entry(peer).or_default() |= is_news;
        }
    }

    /// Returns the result of a read that is over.
    fn end(mut self, env: &mut Env, id: u64) -> ReadResult {
        let returned = self.reader.returned();
        let reader = std::mem::replace(&mut self.reader, returned);
        self.result(env, id, reader)
    }

    /// Returns the result of a read as of now.
    fn result(&mut self, env: &mut Env, id: u64, reader: Reader) -> ReadResult {
        let search = self.read.search();
        let lookup = self.read.answers().clone();
        let is_first = !matches!(reader, Reader::Returned { .. });
        if is_first {
            env.meter.end(Timed::Read(reader.purpose()), self.begun);
            env.meter.note(Amount::Lookups(reader.purpose(), lookup.lookups()));
            env.count(|c| &mut c.reads, 1);
            env.count(|c| &mut c.overclaimed, lookup.overclaimed());
            env.count(|c| &mut c.incomplete, usize::from(!lookup.is_complete()));
            let has_too_many = lookup.joined().dropped().is_some_and(|it| !it.is_whole());
            env.count(|c| &mut c.dropped_forgotten, usize::from(has_too_many));
            // The first lookup was counted at its start.
            env.count(|c| &mut c.lookups, lookup.lookups().saturating_sub(1));
            env.report_crowds(lookup.key(), search);
        }
        let now = env.now();
        let record = lookup.joined().record();
        let is_upkeep = reader.purpose() == Purpose::Replication;
        // What enough holders do not show is withheld, and nothing else.
        let tells = |writer: &Writer| is_first && lookup.tells(writer);
        let withheld =
            record.map(|record| env.known.observe(record, is_upkeep, &self.seen, tells, now));
        let withheld = withheld.unwrap_or_default();
        env.count_known();
        if !withheld.is_empty() {
            env.count(|c| &mut c.withheld, withheld.len());
            tracing::debug!(
                writers = withheld.len(),
                "the read found older or fewer updates than were seen before"
            );
            let (key, writers) = (lookup.key().clone(), withheld.clone());
            env.events.push_back(Event::Withheld { key, writers });
        }
        let closest = Closest::of(search, &env.net.size);
        let (silent, has_asked) = (search.silent(), search.asked() > 0);
        let asks_on = self.read.asks_on(env.net.requests(), &env.net.size, env.net.now());
        ReadResult {
            id,
            since: self.since,
            lookup,
            reader,
            withheld,
            closest,
            asks_on,
            late: std::mem::take(&mut self.late),
            silent,
            has_asked,
            span: self.span.clone(),
        }
    }
}

/// Returns a lookup of the peers closest to a key, which starts from those in the routing table.
fn search(env: &mut Env, key: &RecordKey, is_client: bool) -> search::Lookup {
    let target = KBucketKey::new(key.as_bytes().to_vec());
    let start = env.kad.get_closest_local_peers(&target).map(KBucketKey::into_preimage);
    let start: Vec<_> = start.take(START).collect();
    let start: Vec<_> = start.into_iter().map(|peer| (peer, env.subnets_of(&peer))).collect();
    env.net.size.forget_old(env.net.now());
    let config = LookupConfig::default().with_closest(env.bounds.closest);
    let config = config.with_per_subnet(env.subnets.share);
    let config = if is_client { config } else { config.with_parallelism(UPKEEP_PARALLELISM) };
    let (place, wanted) = (Place::of_key(key.as_bytes()), LookupKind::Value);
    search::Lookup::new(place, wanted, env.local, config, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_does_not_ask_for_is_as_configured() {
        let s = Duration::from_secs;
        let config = BehaviourConfig::default();
        let config = config.with_read_deadline(s(7)).with_write_deadline(s(3));
        let config = config.with_watch_deadline(s(5)).with_watch_policy(ReadPolicy::All);
        assert_eq!(Reader::Watch.options(&config), (ReadPolicy::All, s(5)));
        let options =
            |options: ReadOptions| Reader::Stream(options, latest::channel().0).options(&config);
        assert_eq!(options(ReadOptions::default()), (config.read_policy(), s(7)));
        assert_eq!(options(ReadPolicy::All.into()), (ReadPolicy::All, s(7)));
        let short = ReadOptions::default().with_deadline(s(1));
        assert_eq!(options(short), (config.read_policy(), s(1)));
        assert_eq!(Reader::Resume.options(&config).1, s(3), "a write waits for it");
        let sending = Reader::Sending { id: 0, is_client: true };
        assert_eq!(sending.options(&config).1, s(7));
        assert!(sending.returned().is_client() && sending.returned().purpose() == Purpose::Sending);
    }
}
