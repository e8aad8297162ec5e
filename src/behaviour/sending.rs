//! Sending of records to the peers closest to their keys, and repairs of peers that are behind.
//!
//! **Invariants.** Records are sent without publisher, so that writers receive what others write.
//! The number of repairs is bounded, and so is their rate per peer. A write returns once: when
//! enough peers have acknowledged it, when no peer is left, or at its deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_lookup::{self as lookup, LookupKind, RequestId};

use super::{
    env::Env,
    event::Event,
    follow_up::FollowUp,
    holders::Closest,
    network::{OperationId, RequestOutcome},
    reading::search,
    repairs::Repairs,
};
use crate::{
    client::{ClientError, ProgressSender, Publication, ReplicaState, Reply},
    meter::Amount,
    outbound::{Record, Request},
    query::{CheckedAnswer, Delivery, JoinedAnswers, RecordLookup, RecordPut, Repair, WritePolicy},
};
use smart_record_core::{Namespace, RecordKey, SmartRecord};

/// Maximum duration of a send operation in the background, after the write has returned. A guess:
/// longer than the chunks of a large board take.
const BACKGROUND: Duration = Duration::from_secs(30);
/// Minimum lifetime sent: less than a second would be encoded as zero, which means no expiry.
const SHORTEST: Duration = Duration::from_secs(1);

/// All send operations under way, and the recent repairs.
pub(super) struct Sends {
    under_way: BTreeMap<u64, Sending>,
    next_id: u64,
    repairs: Repairs,
}

/// Purpose of a send operation.
pub(super) enum SendPurpose {
    Client(Reply<Publication>, Publication),
    Repair,
    Refresh,
    Replication,
    /// The client has got its result; the send operation goes on in the background.
    Returned,
}

/// A send operation under way.
struct Sending {
    content: RecordPut,
    delivery: Delivery,
    target: Target,
    /// Requests of the lookup; all others deliver.
    searching: BTreeSet<RequestId>,
    sender: SendPurpose,
    /// Follow-up of a client's write.
    follow_up: Option<FollowUp>,
    deadline: Duration,
    span: tracing::Span,
}

/// Recipients of a send operation.
#[derive(Debug)]
enum Target {
    /// A read will determine them.
    Read,
    /// A lookup will determine them.
    Search(lookup::Lookup),
    /// They are known. `answering`: the number of them that have answered recently. `is_guess`:
    /// they come from an earlier read or write.
    Known { answering: usize, is_guess: bool },
}

/// Next step of a send operation.
pub(super) enum Step {
    /// Read the key for this send operation.
    Read(u64, RecordKey),
    /// Reply to the client.
    Reply(Reply<Publication>, Result<Publication, ClientError>),
}

impl SendPurpose {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..) | Self::Returned)
    }

    fn span(&self, record_put: &RecordPut) -> tracing::Span {
        let (key, chunks) = (&record_put.key, record_put.len());
        let (parent, purpose) = match self {
            Self::Client(reply, _) => (reply.span().id(), None),
            Self::Repair => (None, Some("repair")),
            Self::Refresh => (None, Some("refresh")),
            Self::Replication => (None, Some("replication")),
            Self::Returned => (None, None),
        };
        tracing::debug_span!(parent: parent, "put", %key, chunks, purpose)
    }

    /// Whether it repairs other peers.
    const fn is_repair(&self) -> bool {
        matches!(self, Self::Repair | Self::Replication)
    }
}

impl Sends {
    pub(super) fn new() -> Self {
        Self { under_way: BTreeMap::new(), next_id: 0, repairs: Repairs::new() }
    }

    /// Starts to send a record to its peers or, if it has none, to the peers closest to the key.
    pub(super) fn begin(
        &mut self,
        env: &mut Env,
        record_put: RecordPut,
        sender: SendPurpose,
    ) -> Option<Step> {
        let span = sender.span(&record_put);
        let _in_span = span.clone().entered();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = env.net.now().saturating_add(env.config.write_deadline());
        let (sender, follow_up) = match sender {
            SendPurpose::Client(reply, mut publication) => {
                let progress = ProgressSender::default();
                publication.receiver = progress.receiver();
                let follow_up = FollowUp::new(progress, publication.content.clone());
                (SendPurpose::Client(reply, publication), Some(follow_up))
            }
            sender => (sender, None),
        };
        let mut sending = Sending {
            delivery: Delivery::new(record_put.key.clone(), record_put.expires_at),
            target: Target::Read,
            searching: BTreeSet::new(),
            content: record_put,
            sender,
            follow_up,
            deadline,
            span,
        };
        let peers = sending.content.peers().to_vec();
        let known = env.holders.known(&sending.content.key, env.net.now());
        match known {
            _ if !peers.is_empty() => {
                let chunks = sending.content.chunks().into();
                let closest = Closest { answered: peers.len(), replicas: peers };
                sending.send_to(closest, &chunks, false);
            }
            Some((closest, record)) => {
                let chunks = whole(env, &sending.content, record.as_ref());
                sending.send_to(closest, &chunks, true);
            }
            None => {
                sending.target = target(env, &sending.content);
                let joining = env.holders.joining(&sending.content.key);
                let chunks = whole(env, &sending.content, None);
                let peers = sending.delivery.add_recipients(joining, &chunks);
                sending.note(peers, ReplicaState::Sent);
                sending.deliver(env, OperationId::Send(id));
            }
        }
        let key = &sending.content.key;
        let read = matches!(sending.target, Target::Read).then(|| Step::Read(id, key.clone()));
        self.under_way.insert(id, sending);
        read.or_else(|| self.advance(env, id))
    }

    /// Sends the repairs that follow from a read.
    pub(super) fn repair(&mut self, env: &mut Env, lookup: &RecordLookup, repairs: &[Repair]) {
        let now = env.now();
        let expires_at = match lookup.joined().record() {
            Some(record) => record.retain_until(),
            None => lookup.expires_at(),
        };
        for Repair { peers, chunks } in repairs {
            if self.repairing() >= env.quarter() {
                // Another read will find the same.
                env.count(|c| &mut c.repairs_postponed, peers.len());
                continue;
            }
            let sent = fingerprint(chunks);
            let key = lookup.key();
            let mut admitted = peers.clone();
            admitted.retain(|peer| {
                let had = lookup.shown(peer).map_or(0, CheckedAnswer::fingerprint);
                self.repairs.admit(key, *peer, had, sent, now)
            });
            let put_off = peers.len().saturating_sub(admitted.len());
            env.count(|c| &mut c.repairs_postponed, put_off);
            if !admitted.is_empty() {
                let record_put = RecordPut::new(key.clone(), chunks.clone(), expires_at);
                // With given peers, there is neither a read nor a reply.
                let _ = self.begin(env, record_put.to(admitted), SendPurpose::Repair);
            }
        }
    }

    /// Number of send operations with a matching purpose.
    pub(super) fn count(&self, is_one: impl Fn(&SendPurpose) -> bool) -> usize {
        self.under_way.values().filter(|sending| is_one(&sending.sender)).count()
    }

    /// Number of repairs under way.
    pub(super) fn repairing(&self) -> usize {
        self.count(SendPurpose::is_repair)
    }

    /// The next deadline.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.under_way.values().map(Sending::next_at).min()
    }

    /// Handles one send operation that is due: its deadline has passed, or a check of the follow-up
    /// is due.
    pub(super) fn on_time(&mut self, env: &mut Env, now: Duration) -> Option<Step> {
        let mut due = self.under_way.iter_mut().filter(|(_, sending)| sending.next_at() <= now);
        let (id, sending) = due.next()?;
        let id = *id;
        if sending.deadline > now {
            return self.advance(env, id);
        }
        if matches!(sending.sender, SendPurpose::Client(..)) {
            return sending.reply(now);
        }
        sending.delivery.stop();
        sending.follow_up = None;
        sending.target = Target::Known { answering: 0, is_guess: false };
        self.advance(env, id)
    }

    /// Handles the result of the read for a send operation.
    pub(super) fn on_read(
        &mut self,
        env: &mut Env,
        id: u64,
        lookup: &RecordLookup,
        closest: Closest,
    ) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let chunks = whole(env, &sending.content, lookup.joined().record());
        if lookup.joined().exceeds(env.bounds.chunk_bytes) {
            for peer in &closest.replicas {
                // A holder that may keep only the last PUT is sent its own content along with the
                // write.
                if let Some(CheckedAnswer::Record(had)) = lookup.shown(peer)
                    && !env.holders.joins(peer)
                    && let Some(both) = together(env, &sending.content, [had])
                {
                    let peers = sending.delivery.add_recipients(vec![*peer], &[both].into());
                    sending.note(peers, ReplicaState::Sent);
                }
            }
        }
        sending.send_to(closest, &chunks, false);
        self.advance(env, id)
    }

    /// Handles the outcome of a request.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        id: u64,
        request: RequestId,
        peer: PeerId,
        outcome: RequestOutcome,
    ) -> Option<Step> {
        let is_late = matches!(outcome, RequestOutcome::Late);
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        let follow_up = sending.follow_up.as_mut().filter(|it| it.is_asking(request));
        if let Some(follow_up) = follow_up {
            follow_up.on_outcome(env, &sending.delivery, request, outcome);
        } else if !sending.searching.contains(&request) {
            sending.on_delivered(peer, outcome, env.net.now());
        } else if let Target::Search(search) = &mut sending.target {
            match &outcome {
                RequestOutcome::Answered(answer) => {
                    search.on_answer(&peer, answer.closer.iter().map(|closer| closer.peer));
                }
                RequestOutcome::Late => search.on_late(&peer),
                RequestOutcome::Failed(_) | RequestOutcome::Silent => {
                    outcome.failure().into_iter().for_each(|why| search.on_failure(&peer, why));
                }
            }
        }
        if !is_late {
            sending.searching.remove(&request);
        }
        self.advance(env, id)
    }

    /// Sends the next requests, and ends the send operation if nothing is left to do.
    pub(super) fn advance(&mut self, env: &mut Env, id: u64) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        let name = OperationId::Send(id);
        sending.search(env, name);
        sending.deliver(env, name);
        if let Some(follow_up) = &mut sending.follow_up {
            follow_up.ask(env, name, sending.delivery.key());
        }
        let mut step = None;
        if let Target::Known { answering, is_guess } = sending.target {
            let taken = sending.delivery.taken().len();
            let has_majority = taken >= WritePolicy::Majority.needed(answering);
            if sending.delivery.is_over() && is_guess && !has_majority {
                // The guessed peers do not take it, so the closest are looked up again.
                env.holders.forget(sending.delivery.key());
                sending.target = target(env, &sending.content);
                if matches!(sending.target, Target::Read) {
                    return Some(Step::Read(id, sending.content.key.clone()));
                }
                return self.advance(env, id);
            }
            let is_over = sending.delivery.is_over();
            let is_enough = taken > 0 && taken >= env.config.write_policy().needed(answering);
            if is_over || is_enough {
                step = sending.reply(env.net.now());
            }
            if is_over && sending.follow_up.as_ref().is_none_or(FollowUp::is_over) {
                env.net.cancel_all(name);
                self.under_way.remove(&id).into_iter().for_each(|sending| sending.end(env));
                return step;
            }
        }
        if sending.has_requests() {
            env.net.wait_for_slot(name);
        }
        step
    }
}

impl Sending {
    /// Looks up the closest peers, if a lookup determines them.
    fn search(&mut self, env: &mut Env, name: OperationId) {
        let Self { target: Target::Search(search), searching, delivery, .. } = self else {
            return;
        };
        let key = Bytes::copy_from_slice(delivery.key().as_bytes());
        env.net.send(name, |requests, size, now| {
            let (id, peer) = search.next(requests, size, now)?;
            searching.insert(id);
            Some((id, peer, Request::FindNode { key: key.clone() }))
        });
        if !search.is_settled(env.net.requests(), &env.net.size, env.net.now()) {
            return;
        }
        let now = env.net.now();
        search.measure(&mut env.net.size, now);
        env.report_implausible(delivery.key(), search);
        let closest = Closest::of(search, &env.net.size);
        env.holders.set(delivery.key().clone(), closest.clone(), None, now);
        self.send_to(closest, &self.content.chunks().into(), false);
    }

    fn deliver(&mut self, env: &mut Env, name: OperationId) {
        let now = env.now();
        let delivery = &mut self.delivery;
        let left = delivery.expires_at().map(|at| at.saturating_since(now).max(SHORTEST));
        let key = Bytes::copy_from_slice(delivery.key().as_bytes());
        env.net.send(name, |requests, _, now| {
            let (id, peer, value) = delivery.next(requests, now)?;
            tracing::trace!(%peer, bytes = value.len(), "sending a chunk");
            // A peer named as publisher would not receive what others write.
            let record = Record { value, publisher: None, ttl: left };
            Some((id, peer, Request::PutValue { key: key.clone(), record }))
        });
    }

    /// Sets the recipients.
    fn send_to(&mut self, closest: Closest, chunks: &Arc<[Bytes]>, is_guess: bool) {
        self.target = Target::Known { answering: closest.answered, is_guess };
        let peers = self.delivery.add_recipients(closest.replicas, chunks);
        self.note(peers, ReplicaState::Sent);
    }

    fn on_delivered(&mut self, peer: PeerId, outcome: RequestOutcome, now: Duration) {
        let state = match outcome {
            RequestOutcome::Answered(_) => {
                tracing::trace!(%peer, "chunk acknowledged");
                if !self.delivery.on_taken(peer) {
                    return;
                }
                if let Some(follow_up) = &mut self.follow_up {
                    follow_up.on_acknowledged(peer, now);
                }
                ReplicaState::Acknowledged
            }
            RequestOutcome::Late => return,
            RequestOutcome::Failed(ref error) => {
                tracing::debug!(%peer, %error, "chunk not acknowledged");
                self.delivery.on_failure(&peer);
                match outcome.failure() {
                    Some(lookup::Failure::Invalid | lookup::Failure::Unsupported) => {
                        ReplicaState::Refused
                    }
                    _ => ReplicaState::Silent,
                }
            }
            RequestOutcome::Silent => {
                self.delivery.on_failure(&peer);
                ReplicaState::Silent
            }
        };
        self.note([peer], state);
    }

    fn note(&self, peers: impl IntoIterator<Item = PeerId>, state: ReplicaState) {
        if let Some(follow_up) = &self.follow_up {
            follow_up.report(peers, state);
        }
    }

    /// Whether it has further requests to send.
    fn has_requests(&self) -> bool {
        matches!(self.target, Target::Search(_))
            || self.delivery.has_next()
            || self.follow_up.as_ref().is_some_and(FollowUp::is_due)
    }

    /// When the deadline or the next check of the follow-up is due.
    fn next_at(&self) -> Duration {
        let check = self.follow_up.as_ref().and_then(FollowUp::next_at);
        check.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Returns the reply to the client, if it has not got one yet. The send operation then goes on
    /// in the background.
    fn reply(&mut self, now: Duration) -> Option<Step> {
        if !matches!(self.sender, SendPurpose::Client(..)) {
            return None;
        }
        let sender = std::mem::replace(&mut self.sender, SendPurpose::Returned);
        let SendPurpose::Client(reply, publication) = sender else {
            return None;
        };
        self.deadline = now.saturating_add(BACKGROUND);
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "published");
        if let Some(follow_up) = &mut self.follow_up {
            follow_up.begin(&peers, now);
        }
        let publication = Publication { peers, ..publication };
        let result = match publication.peers.is_empty() {
            true => Err(ClientError::NotAcknowledged(Box::new(publication))),
            false => Ok(publication),
        };
        Some(Step::Reply(reply, result))
    }

    fn end(self, env: &mut Env) {
        let key = self.delivery.key().clone();
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "sent");
        match self.sender {
            SendPurpose::Repair => {
                env.count(|c| &mut c.repairs, peers.len());
                if !peers.is_empty() {
                    env.meter.note(Amount::RepairedPeers(peers.len()));
                    env.events.push_back(Event::Repaired { key, peers });
                }
            }
            SendPurpose::Refresh => {
                env.count(|c| &mut c.refreshes, 1);
                env.meter.note(Amount::RefreshedPeers(peers.len()));
                env.events.push_back(Event::Refreshed { key, peers });
            }
            SendPurpose::Replication => env.events.push_back(Event::Replicated { key }),
            // The client has got its reply.
            SendPurpose::Client(..) | SendPurpose::Returned => {}
        }
    }
}

/// How the recipients are determined. Spaces are read first, because what others have is sent
/// along.
fn target(env: &mut Env, record_put: &RecordPut) -> Target {
    match env.registry.resolve(&record_put.key) {
        Ok(Namespace::Spaces(_)) => Target::Read,
        _ => {
            env.count(|c| &mut c.lookups, 1);
            Target::Search(search(env, &record_put.key, LookupKind::Closest))
        }
    }
}

/// What is sent: the whole known record if it fits into one packet, otherwise what was written.
fn whole(env: &mut Env, record_put: &RecordPut, read: Option<&SmartRecord>) -> Arc<[Bytes]> {
    let stored = env.kad.store_mut().record(&record_put.key).ok().flatten();
    match together(env, record_put, read.into_iter().chain(&stored)) {
        Some(all) => [all].into(),
        None => record_put.chunks().into(),
    }
}

/// The written record joined with what else is known. `None` if it is no smart record, or does not
/// fit into one packet.
fn together<'a>(
    env: &Env,
    record_put: &RecordPut,
    known: impl IntoIterator<Item = &'a SmartRecord>,
) -> Option<Bytes> {
    let mut all = JoinedAnswers::new(&env.registry, &record_put.key).ok()?;
    all.join(record_put.record()?);
    known.into_iter().for_each(|known| all.join(known));
    all.collect(env.now());
    let is_small = !all.exceeds(env.bounds.chunk_bytes);
    all.record().filter(|_| is_small).map(SmartRecord::encode).map(Bytes::from)
}

/// Hash that identifies what is sent.
fn fingerprint(chunks: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunks.hash(&mut hasher);
    hasher.finish()
}
