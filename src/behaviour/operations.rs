//! Operations of a behaviour: events come in, and the result of one part goes to the next.
//!
//! **Invariants.** The number of concurrent operations of each kind is bounded. No part starts an
//! operation of another: a read does not know what its result is used for, and a write does not
//! know how it is looked up and sent.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad as kad;

use super::{
    admitting::Admission,
    env::Env,
    event::Event,
    inbound::InboundRefusal,
    network::{NetworkEvent, OperationId, RequestOutcome},
    reading::{ReadResult, Reader, Reads},
    replicate::Replicate,
    sending::{Recipients, SendPurpose, Sends, Step},
    watches::Watches,
    writing::{Next, Writes},
};
use crate::{
    client::{ClientError, Command, Ending, Reply},
    meter::Purpose,
    query::{Reading, RecordPut},
    store::StoreEvent,
};
use smart_record_core::{RecordKey, Timestamp};

/// All operations under way.
pub(super) struct Operations {
    reads: Reads,
    sends: Sends,
    writes: Writes,
    watches: Watches,
    replicate: Option<Replicate>,
    admission: Admission,
    /// Replies to `close`, which wait until no client operation is under way.
    closing: Vec<Reply<()>>,
    /// Futures that resolve when a client's handle ends.
    handles: FuturesUnordered<Ending>,
    /// Whether answers hold so much that no operation can start.
    is_held_back: bool,
}

impl Operations {
    pub(super) fn new(env: &Env, keypair: Keypair, admission: Admission) -> Self {
        let replication = env.config.replication_interval();
        Self {
            reads: Reads::default(),
            sends: Sends::new(),
            writes: Writes::new(keypair, &env.config),
            watches: Watches::new(&env.config),
            replicate: replication.map(|every| Replicate::new(every, env.now())),
            admission,
            closing: Vec::new(),
            handles: FuturesUnordered::new(),
            is_held_back: false,
        }
    }

    /// Whether another client command can start.
    pub(super) fn has_capacity(&self, env: &Env) -> bool {
        self.busy() < env.config.max_operations() && self.has_memory(env)
    }

    /// Whether another read may start, by the answers that those under way hold.
    fn has_memory(&self, env: &Env) -> bool {
        let held = self.reads.bytes();
        held == 0 || held < env.config.max_read_bytes()
    }

    /// Counts what was postponed since it was last called.
    pub(super) fn count_postponed(&mut self, env: &mut Env) {
        let postponed = self.watches.take_postponed();
        if postponed > 0 {
            env.count(|c| &mut c.notifications_postponed, postponed);
        }
        let is_held_back = !self.has_memory(env);
        if is_held_back && !self.is_held_back {
            env.count(|c| &mut c.reads_held_back, 1);
        }
        self.is_held_back = is_held_back;
    }

    /// Number of client operations under way.
    pub(super) fn busy(&self) -> usize {
        let busy = self.reads.count(Reader::is_client);
        let busy = busy.saturating_add(self.sends.count(SendPurpose::is_client));
        busy.saturating_add(self.writes.waiting())
    }

    /// Replies to `close` if no client operation is under way.
    pub(super) fn reply_to_close(&mut self) {
        if !self.closing.is_empty() && self.busy() == 0 {
            self.closing.drain(..).for_each(|reply| reply.send(Ok(())));
        }
    }

    pub(super) fn on_command(&mut self, env: &mut Env, command: Command) {
        if command.is_canceled() {
            return;
        }
        match command {
            Command::Write(key, write, reply) => {
                let next = self.writes.begin(env, key, write, reply);
                self.run_next(env, next);
            }
            Command::Put(key, value, keeper, reply) => {
                let deadline = env.write_deadline();
                let next = Next::of(reply, deadline, self.writes.put(env, key, value, keeper));
                self.run_next(env, next);
            }
            Command::Stamp(key, stamp, reply) => {
                self.writes.set_stamp(&key, stamp, env.now());
                reply.send(Ok(()));
            }
            Command::Handle(ending) => self.handles.push(ending),
            Command::Read(key, options, reply) => {
                self.begin_read(env, key, Reader::Client(options, reply));
            }
            Command::Stream(key, options, sender) => {
                self.begin_read(env, key, Reader::Stream(options, sender));
            }
            Command::Watch(key, sender) => self.watches.watch(env, key, sender),
            Command::Close(reply) => self.closing.push(reply),
            Command::WithStore(look) => look(env.kad.store_mut()),
        }
    }

    /// Handles the end of a client's handle. Returns pending if no handle has ended.
    pub(super) fn poll_handles(&mut self, env: &mut Env, cx: &mut Context<'_>) -> Poll<()> {
        // `FuturesUnordered` is ready with `None` while it is empty.
        let Poll::Ready(Some((key, keeper, end))) = self.handles.poll_next_unpin(cx) else {
            return Poll::Pending;
        };
        let next = self.writes.on_handle_ended(env, key, keeper, end);
        self.run_next(env, next);
        Poll::Ready(())
    }

    /// Handles the drop of the last client.
    pub(super) fn on_clients_gone(&mut self, env: &mut Env) {
        self.writes.clear();
        self.watches.clear();
        for id in self.reads.stop_resuming() {
            self.advance(env, OperationId::Read(id));
        }
        env.events.push_back(Event::ClientsGone);
    }

    /// Handles an event of Kademlia, before it is emitted to the user.
    pub(super) fn on_kad_event(&mut self, env: &mut Env, event: &mut kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => {
                self.admission.on_request(env, request);
            }
            kad::Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
                env.holders.on_new_peer(peer, env.bounds.closest);
                self.writes.on_new_peer(env, *peer);
            }
            _ => {}
        }
    }

    /// Handles an event of a request or a peer.
    pub(super) fn on_network_event(&mut self, env: &mut Env, event: NetworkEvent) {
        match event {
            NetworkEvent::Evict(peer) => {
                if let Some(entry) = env.kad.remove_peer(&peer) {
                    tracing::debug!(%peer, "removed from the routing table: it does not answer");
                    env.count(|c| &mut c.evicted, 1);
                    env.net.on_evicted(peer, entry.node.value.into_vec());
                    env.tell_neighbours();
                }
            }
            NetworkEvent::Retry(peer, addresses) => {
                // Somebody may have put it back meanwhile.
                if !env.is_known(&peer) {
                    env.net.outbound.dial(peer, addresses);
                }
            }
            NetworkEvent::Request { id, operation, peer, outcome } => {
                env.count(|c| &mut c.silent, usize::from(matches!(outcome, RequestOutcome::Late)));
                if matches!(outcome, RequestOutcome::Answered(_)) {
                    for address in env.net.readmit(&peer) {
                        env.add_peer(&peer, address);
                    }
                }
                let worker = self.admission.worker();
                match operation {
                    OperationId::Read(read) => {
                        if self.reads.on_outcome(env, worker, read, peer, outcome) {
                            self.show_interim(env, read);
                        }
                    }
                    OperationId::Send(send) => {
                        self.sends.on_outcome(env, worker, send, id, peer, outcome);
                    }
                }
                self.advance(env, operation);
            }
        }
    }

    /// Advances the next operation that waits for a request slot, if one is free. Returns whether
    /// there was one.
    pub(super) fn advance_waiting(&mut self, env: &mut Env) -> bool {
        let next = env.net.next_turn();
        next.into_iter().for_each(|operation| self.advance(env, operation));
        next.is_some()
    }

    /// Handles one operation whose deadline has passed. Returns whether there was one.
    pub(super) fn on_time(&mut self, env: &mut Env) -> bool {
        let now = env.net.now();
        if self.reads.next_at().is_some_and(|at| at <= now) {
            let ended = self.reads.on_time(env, now);
            self.end_reads(env, ended);
            return true;
        }
        if self.watches.notify_due(env.now(), now) {
            return true;
        }
        if self.sends.next_at().is_some_and(|at| at <= now) {
            let step = self.sends.on_time(env, now);
            self.run_step(env, step);
            return true;
        }
        false
    }

    /// The next deadline, in the time of the [network](super::network::Network::now).
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let next = [self.reads.next_at(), self.sends.next_at(), self.watches.next_notification()];
        next.into_iter().flatten().min()
    }

    fn advance(&mut self, env: &mut Env, operation: OperationId) {
        match operation {
            OperationId::Read(id) => {
                let ended = self.reads.advance(env, id);
                self.end_reads(env, ended);
            }
            OperationId::Send(id) => {
                let step = self.sends.advance(env, id);
                self.run_step(env, step);
            }
        }
    }

    fn run_step(&mut self, env: &mut Env, step: Option<Step>) {
        match step {
            Some(Step::Read { id, key, is_client }) => {
                self.begin_read(env, key, Reader::Sending { id, is_client });
            }
            Some(Step::Reply(reply, result)) => {
                match &result {
                    Ok(written) => self.writes.on_sent(&written.key, true, env.now()),
                    Err(ClientError::NotAcknowledged(written)) => {
                        self.writes.on_sent(&written.key, false, env.now());
                    }
                    Err(_) => {}
                }
                reply.send(result);
            }
            Some(Step::Sent { key, is_acknowledged }) => {
                self.writes.on_sent(&key, is_acknowledged, env.now())
            }
            None => {}
        }
    }

    fn begin_read(&mut self, env: &mut Env, key: RecordKey, reader: Reader) {
        let ended = self.reads.begin(env, &self.watches, key, reader);
        self.end_reads(env, ended);
    }

    /// Shows the interim result of a read to its stream and to watchers of its key.
    fn show_interim(&mut self, env: &Env, id: u64) {
        self.reads.show(env, id);
        if let Some(lookup) = self.reads.found(id) {
            self.watches.on_found(env, lookup);
        }
    }

    pub(super) fn on_store_event(&mut self, event: &StoreEvent) {
        if let StoreEvent::Stored { key, writers, .. } = event {
            self.watches.mark_changed(key, writers);
        }
    }

    /// Handles the next result of validation off the task.
    pub(super) fn poll_off_task(&mut self, env: &mut Env, cx: &mut Context<'_>) -> Poll<()> {
        let Some(worker) = self.admission.worker() else {
            return Poll::Pending;
        };
        if let Poll::Ready(checked) = worker.records.poll(cx) {
            checked.into_iter().for_each(|checked| self.admission.on_checked(env, checked));
            return Poll::Ready(());
        }
        match ready!(worker.answers.poll(cx)) {
            Some(verdict) => {
                let operation = verdict.operation;
                match operation {
                    OperationId::Read(id) => {
                        if self.reads.on_verdict(env, id, verdict) {
                            self.show_interim(env, id);
                        }
                    }
                    OperationId::Send(id) => self.sends.on_verdict(env, id, verdict),
                }
                self.advance(env, operation);
            }
            None => {
                let lost = self.reads.on_no_verdicts().into_iter().map(OperationId::Read);
                let lost =
                    lost.chain(self.sends.on_no_verdicts().into_iter().map(OperationId::Send));
                lost.for_each(|operation| self.advance(env, operation));
            }
        }
        Poll::Ready(())
    }

    /// Counts and tells that a message was refused unread.
    pub(super) fn on_refused(&mut self, env: &mut Env, source: PeerId, reason: InboundRefusal) {
        self.admission.note(env, source, Err(reason));
    }

    /// Stores the next piece of a record found by a read. Returns whether there was one.
    pub(super) fn store_next_piece(&mut self, env: &mut Env) -> bool {
        self.admission.store_next_piece(env)
    }

    pub(super) fn on_clock_set_back(&mut self, env: &Env, now: Timestamp) {
        self.writes.on_clock_set_back(now);
        self.watches.on_clock_set_back(now, env.net.now());
    }

    /// Starts one operation that is due. Returns whether there was one.
    pub(super) fn start_due(&mut self, env: &mut Env, now: Timestamp) -> bool {
        // Watchers are notified once all pieces of a read record are stored.
        if self.admission.has_stored_all() && self.watches.show_changed(env) {
            return true;
        }
        self.watches.expire(now, env.net.now());
        if self.may_refresh(env)
            && let Some(next) = self.writes.refresh(env, now)
        {
            self.run_next(env, next);
            return true;
        }
        if self.may_replicate(env)
            && let Some(replicate) = &mut self.replicate
            && let Some(turn) = replicate.take_turn(env, now)
        {
            if let Some(key) = turn {
                env.count(|c| &mut c.replications, 1);
                self.begin_read(env, key, Reader::Replication);
            }
            return true;
        }
        if self.may_look_up(env)
            && let Some(key) = self.watches.due(now)
        {
            self.begin_read(env, key, Reader::Watch);
            return true;
        }
        false
    }

    /// When the next operation is due. Operations without a free slot are left out; the end of
    /// another operation wakes the task.
    pub(super) fn next_at(&self, env: &Env) -> Option<Timestamp> {
        let own = self.writes.next_at().filter(|_| self.may_refresh(env));
        let replicate = self.replicate.as_ref().filter(|_| self.may_replicate(env));
        let replicate = replicate.map(Replicate::next_at);
        let next = [own, self.watches.next_at(self.may_look_up(env)), replicate];
        next.into_iter().flatten().min()
    }

    fn may_refresh(&self, env: &Env) -> bool {
        let busy = self.sends.count(|sender| matches!(sender, SendPurpose::Refresh));
        busy.saturating_add(self.writes.renewing()) < env.quarter()
    }

    fn may_look_up(&self, env: &Env) -> bool {
        self.reads.count(|reader| reader.purpose() == Purpose::Watch) < env.quarter()
            && self.has_memory(env)
    }

    fn may_replicate(&self, env: &Env) -> bool {
        let busy = self.reads.count(|reader| reader.purpose() == Purpose::Replication);
        busy < env.quarter() && self.sends.repairing() < env.quarter() && self.has_memory(env)
    }

    fn run_next(&mut self, env: &mut Env, next: impl IntoIterator<Item = Next>) {
        for next in next {
            match next {
                Next::Resume(key) => self.begin_read(env, key, Reader::Resume),
                Next::Send(record_put, sender) => {
                    let step = self.sends.begin(env, record_put, sender, Recipients::Closest);
                    self.run_step(env, step);
                }
            }
        }
    }

    fn end_reads(&mut self, env: &mut Env, ended: impl IntoIterator<Item = ReadResult>) {
        ended.into_iter().for_each(|ended| self.end_read(env, ended));
    }

    /// Handles the end of a read: repairs peers, stores what was found, and hands the result to the
    /// reader.
    fn end_read(&mut self, env: &mut Env, ended: ReadResult) {
        let ReadResult { id, since, lookup, reader, withheld, closest, .. } = ended;
        let ReadResult { asks_on, late, silent, has_asked, span, .. } = ended;
        let _in_span = span.entered();
        let now = env.now();
        let key = lookup.key().clone();
        self.watches.on_read_ended(&key, lookup.joined(), now, env.net.now());
        lookup.joining().for_each(|(peer, joins)| env.holders.on_shown(*peer, joins));
        if lookup.has_settled() && !asks_on {
            let is_small = !lookup.joined().exceeds(env.bounds.chunk_bytes);
            let record = lookup.joined().record().filter(|_| is_small).cloned();
            let has_own = lookup.has_covered(&env.writer, env.bounds.complete_at);
            env.holders.set(key.clone(), closest.clone(), record, has_own, since);
        }
        // Until all were asked, it is not known which peers are the closest and what they lack.
        let is_close = !asks_on && lookup.is_close(&env.local);
        if self.admission.store_found(env, &lookup, is_close) {
            self.reads.on_passed_on(id);
        }
        if let Reader::Sending { id, .. } = reader {
            // No repairs: every peer lacks what is about to be sent.
            let step = self.sends.on_read(env, id, &lookup, closest);
            return self.run_step(env, step);
        }
        if reader.has_returned_to_write() {
            self.sends.send_late(env, &lookup, &closest, &late, reader.is_client());
        }
        // A write sends what is known to all of them.
        let is_sent = asks_on || reader.has_returned_to_write();
        let repairs = match is_sent {
            true => Vec::new(),
            false => lookup.repairs(&env.local, |peer| env.holders.joins(peer)),
        };
        let behind = repairs.iter().flat_map(|repair| &repair.peers);
        let plain = behind.filter(|peer| !lookup.says_coverage(peer));
        plain.for_each(|peer| env.holders.on_behind(peer));
        if !reader.is_for_write() {
            self.sends.repair(env, &lookup, &repairs, reader.is_client());
        }
        let has_unseen = lookup.has_unseen();
        let has_failed = lookup.has_failed();
        let lookups = lookup.lookups();
        let read = matches!(reader, Reader::Resume).then(|| lookup.clone());
        let reading = Reading { silent, ..lookup.into_reading(&repairs, withheld, now) };
        tracing::debug!(
            lookups,
            holders = reading.holders.len(),
            stale = reading.stale.len(),
            empty = reading.empty.len(),
            refused = reading.refused.len(),
            silent = reading.silent.len(),
            has_failed,
            "read"
        );
        // Nobody has said that there is nothing.
        let is_unknown = has_asked && reading.is_empty() && !reading.has_reached_anyone();
        let refusal = reading.refusal();
        match reader {
            Reader::Client(_, reply) if has_failed && reading.is_empty() => {
                reply.send(Err(ClientError::TimedOut));
            }
            Reader::Client(_, reply) if is_unknown => reply.send(Err(ClientError::Unreachable)),
            Reader::Client(_, reply) => reply.send(match refusal {
                Some(refused) => Err(refused.into()),
                None => Ok(reading),
            }),
            Reader::Stream(_, sender) => sender.send(reading),
            Reader::Resume => {
                let resumed = self.writes.on_resumed(env, &reading);
                if let Some(lookup) = read.as_ref().filter(|_| resumed.is_empty()) {
                    self.sends.repair(env, lookup, &repairs, true);
                }
                for (record_put, sender) in resumed {
                    let recipients = match &read {
                        Some(lookup) => Recipients::Read(lookup, closest.clone()),
                        None => Recipients::Closest,
                    };
                    let step = self.sends.begin(env, record_put, sender, recipients);
                    self.run_step(env, step);
                }
            }
            Reader::Watch => {
                let is_known = !has_failed && !is_unknown && refusal.is_none();
                let found = is_known.then_some(&reading.snapshot);
                self.watches.on_looked_up(&key, found, reading.expires_at, now, env.net.now());
            }
            Reader::Replication => self.end_replication(env, key, has_unseen),
            Reader::Sending { .. } | Reader::Returned { .. } => {}
        }
    }

    /// Handles the end of a replication read. If it is not known what its replicas lack, they are
    /// sent all of the record.
    fn end_replication(&mut self, env: &mut Env, key: RecordKey, has_unseen: bool) {
        let stored = env.kad.store_mut().record(&key);
        let whole = stored.ok().flatten().filter(|_| has_unseen);
        match whole {
            Some(record) => {
                let record_put = RecordPut::of(&record, env.bounds.chunk_bytes);
                let step = self.sends.begin(
                    env,
                    record_put,
                    SendPurpose::Replication,
                    Recipients::Closest,
                );
                self.run_step(env, step);
            }
            None => env.events.push_back(Event::Replicated { key }),
        }
    }
}
