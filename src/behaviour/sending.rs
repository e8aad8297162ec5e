//! Sending of records to the peers closest to their keys, and repairs of peers that are behind.
//! `operation`: a single send operation. `content`: what it sends.
//!
//! **Invariants.** Records are sent without publisher, so that writers receive what others write.
//! The number of repairs is bounded, and so is their rate per peer. A write returns once: when
//! enough peers have acknowledged it, when no peer is left, or at its deadline.

mod content;
mod operation;

use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::PeerId;
use smart_record_lookup::RequestId;

pub(super) use self::operation::{SendPurpose, Step};
use self::{
    content::{known, whole, written},
    operation::{Sending, Target},
};
use super::{
    env::Env,
    follow_up::FollowUp,
    holders::Closest,
    network::{OperationId, RequestOutcome},
    repairs::Repairs,
    worker::{AnswerVerdict, Worker},
};
use crate::{
    client::{ProgressSender, ReplicaState},
    query::{CheckedAnswer, Delivery, RecordLookup, RecordPut, Repair, WritePolicy},
};

/// All send operations under way, and the recent repairs.
pub(super) struct Sends {
    under_way: BTreeMap<u64, Sending>,
    next_id: u64,
    repairs: Repairs,
}

/// Recipients of a record.
pub(super) enum Recipients<'a> {
    /// The peers closest to its key, whoever these are.
    Closest,
    /// The peers closest to its key, as a read has just found them.
    Read(&'a RecordLookup, Closest),
    Peers(Vec<PeerId>),
}

impl Sends {
    pub(super) fn new() -> Self {
        Self { under_way: BTreeMap::new(), next_id: 0, repairs: Repairs::new() }
    }

    /// Starts to send a record.
    pub(super) fn begin(
        &mut self,
        env: &mut Env,
        record_put: RecordPut,
        sender: SendPurpose,
        recipients: Recipients<'_>,
    ) -> Option<Step> {
        let span = sender.span(&record_put);
        let _in_span = span.clone().entered();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let mut sender = sender;
        let (deadline, follow_up) = match &mut sender {
            SendPurpose::Client(_, publication, deadline) => {
                let progress = ProgressSender::default();
                publication.receiver = progress.receiver();
                (*deadline, Some(FollowUp::new(progress, publication.content.clone())))
            }
            // Nobody waits for it: it may read first, and send many chunks.
            _ => {
                let limit = env.config.read_deadline().saturating_add(operation::BACKGROUND);
                (env.net.now().saturating_add(limit), None)
            }
        };
        let mut sending = Sending {
            delivery: Delivery::new(&record_put.key),
            target: Target::Read,
            content: record_put,
            sender,
            follow_up,
            deadline,
            span,
        };
        let known = match recipients {
            Recipients::Read(lookup, closest) => {
                self.under_way.insert(id, sending);
                return self.on_read(env, id, lookup, closest);
            }
            Recipients::Peers(replicas) => {
                let closest = Closest { answered: replicas.len(), replicas };
                Some((closest, sending.content.chunks.clone(), false))
            }
            Recipients::Closest => {
                known(env, &mut sending.content).map(|(closest, chunks)| (closest, chunks, true))
            }
        };
        match known {
            Some((closest, chunks, is_guess)) => sending.send_to(env, closest, &chunks, is_guess),
            None => {
                // A value is sent once it is known that nothing better is there.
                let is_value = sending.content.record().is_none();
                let joining =
                    if is_value { Vec::new() } else { env.holders.joining(&sending.content.key) };
                let all = whole(env, &mut sending.content, None);
                let chunks = all.unwrap_or_else(|| sending.content.chunks.clone());
                let peers = sending.delivery.add_recipients(joining, &chunks, &env.registry);
                sending.note(peers, ReplicaState::Sent);
                sending.deliver(env, OperationId::Send(id));
            }
        }
        let read = matches!(sending.target, Target::Read).then(|| sending.read(id));
        self.under_way.insert(id, sending);
        read.or_else(|| self.advance(env, id))
    }

    /// Sends the repairs that follow from a read, perhaps a client's.
    pub(super) fn repair(
        &mut self,
        env: &mut Env,
        lookup: &RecordLookup,
        repairs: &[Repair],
        is_client: bool,
    ) {
        if repairs.is_empty() {
            return;
        }
        let now = env.now();
        let expires_at = match lookup.joined().record() {
            Some(record) => record.retain_until(),
            // Who keeps a value sends the time until its own end (`docs/wire.md`, section 2.1).
            None => match env.kad.store_mut().value(lookup.key()) {
                Ok(Some(kept)) if repairs.iter().all(|it| *it.chunks == [kept.value.clone()]) => {
                    kept.expires_at
                }
                _ => lookup.expires_at(),
            },
        };
        let Some(known) = lookup.joined().content().map(|known| self.repairs.content(&known))
        else {
            return;
        };
        let is_slice = !lookup.is_small();
        for Repair { peers, chunks } in repairs {
            if self.repairing() >= env.quarter() {
                // Another read will find the same.
                env.count(|c| &mut c.repairs_postponed, peers.len());
                continue;
            }
            let key = lookup.key();
            let mut admitted = peers.clone();
            admitted.retain(|peer| {
                let shown = lookup.shown(peer).map(|shown| self.repairs.content(&shown));
                self.repairs.admit(key, *peer, &known, shown.as_ref(), is_slice, now)
            });
            let put_off = peers.len().saturating_sub(admitted.len());
            env.count(|c| &mut c.repairs_postponed, put_off);
            if !admitted.is_empty() {
                let record_put = RecordPut::new(key.clone(), chunks.clone(), expires_at);
                // With given peers, there is neither a read nor a reply.
                let sender = SendPurpose::Repair { is_client };
                let _ = self.begin(env, record_put, sender, Recipients::Peers(admitted));
            }
        }
    }

    /// Sends what this node has written under a key to those of the closest peers that have
    /// answered the read for the write only after it was sent. They were not sent it, or had
    /// something that it replaces.
    pub(super) fn send_late(
        &mut self,
        env: &mut Env,
        lookup: &RecordLookup,
        closest: &Closest,
        late: &BTreeMap<PeerId, bool>,
        is_client: bool,
    ) {
        let mut replicas = closest.replicas.clone();
        replicas.retain(|peer| late.contains_key(peer));
        if replicas.is_empty() {
            return;
        }
        let Some(mut written) = written(env, lookup.key()) else {
            return;
        };
        // If it fits into a packet with all that was known, it was sent to them all the same.
        if whole(env, &mut written, lookup.joined().record()).is_some() {
            replicas.retain(|peer| late.get(peer) == Some(&true));
        }
        if replicas.is_empty() {
            return;
        }
        if self.repairing() >= env.quarter() {
            // Another read will find the same.
            return env.count(|c| &mut c.repairs_postponed, replicas.len());
        }
        let recipients = Recipients::Read(lookup, Closest { answered: replicas.len(), replicas });
        // It has been read, and nobody waits for a reply.
        let _ = self.begin(env, written, SendPurpose::Repair { is_client }, recipients);
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
        mut closest: Closest,
    ) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        if let SendPurpose::Client(_, publication, _) = &mut sending.sender {
            publication.refused = lookup.refusals();
        }
        if let Err(stale) = sending.content.combine(lookup.joined(), env.now()) {
            env.net.cancel_all(OperationId::Send(id));
            return self.under_way.remove(&id)?.refuse(stale);
        }
        let all = whole(env, &mut sending.content, lookup.joined().record());
        if all.is_none() {
            // A late peer may keep only the last PUT. It is sent the write if it still answers.
            let may_be_sent = |peer: &PeerId| lookup.has_heard(peer) || env.holders.joins(peer);
            closest.replicas.retain(may_be_sent);
            for peer in &closest.replicas {
                // A holder that may keep only the last PUT is sent its own content along with the
                // write.
                if let Some(CheckedAnswer::Record(had)) = lookup.shown(peer)
                    && !env.holders.joins(peer)
                    && let Some(both) = sending.content.together(env.kad.store_mut(), [&had])
                {
                    let recipients = vec![*peer];
                    let chunks = [both].into();
                    let peers = sending.delivery.add_recipients(recipients, &chunks, &env.registry);
                    sending.note(peers, ReplicaState::Sent);
                }
            }
        }
        let chunks = all.unwrap_or_else(|| sending.content.chunks.clone());
        sending.send_to(env, closest, &chunks, false);
        self.advance(env, id)
    }

    /// Handles the outcome of a request.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        worker: Option<&mut Worker>,
        id: u64,
        request: RequestId,
        peer: PeerId,
        outcome: RequestOutcome,
    ) {
        let Some(sending) = self.under_way.get_mut(&id) else {
            return;
        };
        let _in_span = sending.span.clone().entered();
        let follow_up = sending.follow_up.as_mut().filter(|it| it.is_asking(request));
        if let Some(follow_up) = follow_up {
            let (operation, key) = (OperationId::Send(id), &sending.content.key);
            follow_up.on_outcome(env, worker, operation, key, request, outcome);
        } else {
            sending.on_delivered(env, peer, outcome);
        }
    }

    /// Handles the verdict on the answer to a follow-up that was checked off the task.
    pub(super) fn on_verdict(&mut self, env: &mut Env, id: u64, verdict: AnswerVerdict) {
        let Some(sending) = self.under_way.get_mut(&id) else {
            return;
        };
        let _in_span = sending.span.clone().entered();
        if let Some(follow_up) = &mut sending.follow_up {
            follow_up.on_verdict(env, &sending.content.key, verdict);
        }
    }

    /// Handles the end of the worker: its answers are lost. Returns the send operations that had
    /// answers there.
    pub(super) fn on_no_verdicts(&mut self) -> Vec<u64> {
        let sendings = self.under_way.iter_mut();
        let lost = sendings.filter_map(|(id, sending)| {
            let had_some = sending.follow_up.as_mut().is_some_and(FollowUp::on_no_verdicts);
            had_some.then_some(*id)
        });
        lost.collect()
    }

    /// Sends the next requests, and ends the send operation if nothing is left to do.
    pub(super) fn advance(&mut self, env: &mut Env, id: u64) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        let name = OperationId::Send(id);
        sending.deliver(env, name);
        if let Some(follow_up) = &mut sending.follow_up {
            follow_up.ask(env, name, &sending.content.key);
        }
        let mut step = None;
        if let Target::Known { answering, is_guess } = sending.target {
            let taken = sending.delivery.taken().len();
            let has_majority = taken >= WritePolicy::Majority.needed(answering);
            if sending.delivery.is_over() && is_guess && !has_majority {
                // The guessed peers do not take it, so the closest are looked up again.
                env.holders.forget(&sending.content.key);
                sending.target = Target::Read;
                return Some(sending.read(id));
            }
            let is_over = sending.delivery.is_over();
            let is_enough = taken > 0 && taken >= env.config.write_policy().needed(answering);
            if is_over || is_enough {
                step = sending.reply(env.net.now());
            }
            if is_over && sending.follow_up.as_ref().is_none_or(FollowUp::is_over) {
                env.net.cancel_all(name);
                let sent = self.under_way.remove(&id).and_then(|sending| sending.end(env));
                return step.or(sent);
            }
        }
        if sending.has_requests() {
            env.net.wait_for_slot(name);
        }
        step
    }
}
