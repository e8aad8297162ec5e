//! What is under way in a behaviour: events come in, and what has ended in one part goes on in the next.
//!
//! **Invariants.** Of each kind only so many are under way at a time. The parts do not call one another: a read does not know what
//! is done with what it has found, nor a write who looks up and sends.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p_identity::Keypair;
use libp2p_kad as kad;

use super::{
    admitting::Admission,
    env::Env,
    event::Event,
    network::{NetworkEvent, OperationId, RequestOutcome},
    reading::{Ended, Reader, Reads},
    replicate::Replicate,
    sending::{SendPurpose, Sends, Step},
    watches::Watches,
    writing::{Next, Writes},
};
use crate::{
    client::{ClientError, Command, Ending, Reply},
    query::{ReadOptions, Reading, RecordPut},
    store::StoreEvent,
};
use smart_record_core::{RecordKey, Timestamp};

/// Reads, sendings, and those for whom they are made.
pub(super) struct Operations {
    reads: Reads,
    sends: Sends,
    writes: Writes,
    watches: Watches,
    replicate: Option<Replicate>,
    admission: Admission,
    /// Who waits until nothing is under way that clients have begun.
    closing: Vec<Reply<()>>,
    /// The ends of the handles that clients have.
    handles: FuturesUnordered<Ending>,
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
        }
    }

    /// Whether a client's command can be begun.
    pub(super) fn has_capacity(&self, env: &Env) -> bool {
        self.busy() < env.config.max_operations()
    }

    /// How much is under way that clients have begun.
    fn busy(&self) -> usize {
        let busy = self.reads.count(Reader::is_client);
        let busy = busy.saturating_add(self.sends.count(SendPurpose::is_client));
        busy.saturating_add(self.writes.waiting())
    }

    /// Tells those who wait for it that nothing is under way any more.
    pub(super) fn tell_idle(&mut self) {
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
                self.carry_out(env, next);
            }
            Command::Put(key, value, keeper, reply) => {
                let next = Next::of(reply, self.writes.put(env, key, value, keeper));
                self.carry_out(env, next);
            }
            Command::Handle(ending) => self.handles.push(ending),
            Command::Read(key, options, reply) => {
                let options = options.unwrap_or_else(|| read_options(env));
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

    /// Does what follows from the end of a handle. Returns pending if none has ended that was not seen to.
    pub(super) fn poll_handles(&mut self, env: &mut Env, cx: &mut Context<'_>) -> Poll<()> {
        // Without a handle there is none that could end.
        let Poll::Ready(Some((key, keeper, end))) = self.handles.poll_next_unpin(cx) else {
            return Poll::Pending;
        };
        let next = self.writes.on_handle_ended(env, key, keeper, end);
        self.carry_out(env, next);
        Poll::Ready(())
    }

    /// The last client is gone.
    pub(super) fn on_clients_gone(&mut self, env: &mut Env) {
        self.writes.clear();
        self.watches.clear();
        for id in self.reads.stop_resuming() {
            self.go_on(env, OperationId::Read(id));
        }
        env.events.push_back(Event::ClientsGone);
    }

    /// Takes care of an event of Kademlia, before the user is told of it.
    pub(super) fn on_kad_event(&mut self, env: &mut Env, event: &mut kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => self.admission.on_request(env, request),
            kad::Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
                env.holders.on_new_peer(peer, env.bounds.closest);
                self.writes.on_new_peer(env, *peer);
            }
            _ => {}
        }
    }

    /// Takes care of what requests and peers have come to.
    pub(super) fn on_news(&mut self, env: &mut Env, news: NetworkEvent) {
        match news {
            NetworkEvent::Evict(peer) => {
                if let Some(entry) = env.kad.remove_peer(&peer) {
                    tracing::debug!(%peer, "answers no more and leaves the routing table");
                    env.count(|c| &mut c.evicted, 1);
                    env.net.on_evicted(peer, entry.node.value.into_vec());
                }
            }
            NetworkEvent::Request { id, operation, peer, outcome } => {
                env.count(|c| &mut c.silent, usize::from(matches!(outcome, RequestOutcome::Late)));
                if matches!(outcome, RequestOutcome::Answered(_)) {
                    for address in env.net.readmit(&peer) {
                        env.kad.add_address(&peer, address);
                    }
                }
                match operation {
                    OperationId::Read(read) => {
                        let worker = self.admission.worker();
                        if self.reads.on_outcome(env, worker, read, peer, outcome) {
                            self.tell_watchers(env, read);
                        }
                        self.go_on(env, operation);
                    }
                    OperationId::Send(send) => {
                        let step = self.sends.on_outcome(env, send, id, peer, outcome);
                        self.take_step(env, step);
                    }
                }
            }
        }
    }

    /// Has those go on that wait for room, as far as there is some.
    pub(super) fn take_turns(&mut self, env: &mut Env) {
        while let Some(operation) = env.net.next_turn() {
            self.go_on(env, operation);
        }
    }

    /// Ends something whose deadline has come. Returns whether there was one.
    pub(super) fn on_time(&mut self, env: &mut Env) -> bool {
        let now = env.net.now();
        if self.reads.next_at().is_some_and(|at| at <= now) {
            let ended = self.reads.on_time(env, now);
            self.end_reads(env, ended);
            return true;
        }
        if self.sends.next_at().is_some_and(|at| at <= now) {
            let step = self.sends.on_time(env, now);
            self.take_step(env, step);
            return true;
        }
        false
    }

    /// When the next deadline comes, by the time of the [network](super::network::Network::now).
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.reads.next_at().into_iter().chain(self.sends.next_at()).min()
    }

    fn go_on(&mut self, env: &mut Env, operation: OperationId) {
        match operation {
            OperationId::Read(id) => {
                let ended = self.reads.go_on(env, id);
                self.end_reads(env, ended);
            }
            OperationId::Send(id) => {
                let step = self.sends.go_on(env, id);
                self.take_step(env, step);
            }
        }
    }

    fn take_step(&mut self, env: &mut Env, step: Option<Step>) {
        match step {
            Some(Step::Read(id, key)) => self.begin_read(env, key, Reader::Sending(id)),
            Some(Step::Tell(reply, result)) => {
                if let Err(ClientError::NotAcknowledged(publication)) = &result {
                    self.writes.on_not_acknowledged(&publication.key, env.now());
                }
                reply.send(result);
            }
            None => {}
        }
    }

    fn begin_read(&mut self, env: &mut Env, key: RecordKey, reader: Reader) {
        let ended = self.reads.begin(env, &self.watches, key, reader);
        self.end_reads(env, ended);
    }

    /// Tells those who wait for a read, or watch its key, what it has found so far.
    fn tell_watchers(&mut self, env: &Env, id: u64) {
        self.reads.show(env, id);
        if let Some(lookup) = self.reads.found(id) {
            self.watches.on_found(env, lookup);
        }
    }

    pub(super) fn on_store_event(&mut self, event: &StoreEvent) {
        if let StoreEvent::Stored { key, writers, .. } = event {
            self.watches.touch(key, writers);
        }
    }

    /// Goes on with what was validated off the task.
    pub(super) fn poll_off_task(&mut self, env: &mut Env, cx: &mut Context<'_>) -> Poll<()> {
        let Some(worker) = self.admission.worker() else {
            return Poll::Pending;
        };
        if let Poll::Ready(checked) = worker.records.poll(cx) {
            checked.into_iter().for_each(|checked| env.insert(checked));
            return Poll::Ready(());
        }
        match ready!(worker.answers.poll(cx)) {
            Some(verdict) => {
                let id = verdict.read;
                if self.reads.on_verdict(verdict) {
                    self.tell_watchers(env, id);
                }
                self.go_on(env, OperationId::Read(id));
            }
            None => {
                for id in self.reads.on_no_verdicts() {
                    self.go_on(env, OperationId::Read(id));
                }
            }
        }
        Poll::Ready(())
    }

    /// Stores the next piece of what was read. Returns whether there was one.
    pub(super) fn keep_a_piece(&mut self, env: &mut Env) -> bool {
        self.admission.keep_a_piece(env)
    }

    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        self.writes.on_clock_set_back(now);
        self.watches.on_clock_set_back(now);
    }

    /// Does one thing that is due. Returns whether there was one.
    pub(super) fn do_due(&mut self, env: &mut Env, now: Timestamp) -> bool {
        // Once all of what was read is stored.
        if self.admission.has_kept_all() && self.watches.show_touched(env) {
            return true;
        }
        self.watches.expire(now);
        if self.may_refresh(env)
            && let Some(next) = self.writes.refresh(env, now)
        {
            self.carry_out(env, next);
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
        if self.may_ask(env)
            && let Some(key) = self.watches.due(now)
        {
            self.begin_read(env, key, Reader::Watch);
            return true;
        }
        false
    }

    /// When something is due next. What waits for something else to end is looked at again when that has.
    pub(super) fn next_at(&self, env: &Env) -> Option<Timestamp> {
        let own = self.writes.next_at().filter(|_| self.may_refresh(env));
        let replicate = self.replicate.as_ref().filter(|_| self.may_replicate(env));
        let replicate = replicate.map(Replicate::next_at);
        let next = [own, self.watches.next_at(self.may_ask(env)), replicate];
        next.into_iter().flatten().min()
    }

    fn may_refresh(&self, env: &Env) -> bool {
        let busy = self.sends.count(|sender| matches!(sender, SendPurpose::Refresh));
        busy.saturating_add(self.writes.renewing()) < env.quarter()
    }

    fn may_ask(&self, env: &Env) -> bool {
        self.reads.count(|reader| matches!(reader, Reader::Watch)) < env.quarter()
    }

    fn may_replicate(&self, env: &Env) -> bool {
        let busy = self.reads.count(|reader| matches!(reader, Reader::Replication));
        busy < env.quarter() && self.sends.repairing() < env.quarter()
    }

    fn carry_out(&mut self, env: &mut Env, next: impl IntoIterator<Item = Next>) {
        for next in next {
            match next {
                Next::Resume(key) => self.begin_read(env, key, Reader::Resume),
                Next::Send(record_put, sender) => {
                    let step = self.sends.begin(env, record_put, sender);
                    self.take_step(env, step);
                }
            }
        }
    }

    fn end_reads(&mut self, env: &mut Env, ended: impl IntoIterator<Item = Ended>) {
        ended.into_iter().for_each(|ended| self.end_read(env, ended));
    }

    /// Repairs, keeps here what was found, and hands it to whoever wanted it.
    fn end_read(&mut self, env: &mut Env, ended: Ended) {
        let Ended { lookup, reader, withheld, closest, silent, span } = ended;
        let _in_span = span.entered();
        let now = env.now();
        let key = lookup.key().clone();
        if lookup.is_complete() {
            let is_small = !lookup.joined().exceeds(env.bounds.chunk_bytes);
            let record = lookup.joined().record().filter(|_| is_small).cloned();
            env.holders.set(key.clone(), closest.clone(), record, env.net.now());
        }
        let (repairs, is_close) = lookup.repairs(&env.local);
        repairs.iter().flat_map(|it| &it.peers).for_each(|peer| env.holders.on_behind(peer));
        self.sends.repair(env, &lookup, &repairs);
        self.admission.keep(env, &lookup, is_close);
        if let Reader::Sending(id) = reader {
            let step = self.sends.on_read(env, id, &lookup, closest);
            return self.take_step(env, step);
        }
        let is_large = lookup.may_be_sliced();
        let has_failed = lookup.has_failed();
        let lookups = lookup.lookups();
        let lifetime_ends_at = lookup.expires_at();
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
        match reader {
            Reader::Client(_, reply) if has_failed => reply.send(Err(ClientError::TimedOut)),
            Reader::Client(_, reply) => reply.send(Ok(reading)),
            Reader::Stream(_, sender) => sender.send(reading),
            Reader::Resume => {
                let next = self.writes.on_resumed(env, &reading);
                self.carry_out(env, next);
            }
            Reader::Watch => {
                let found = (!has_failed).then_some(&reading.snapshot);
                let value = reading.snapshot.value();
                let ends_at =
                    value.and_then(|value| env.end_of(&key, value, lifetime_ends_at, now));
                self.watches.on_asked(&key, found, ends_at, now);
            }
            Reader::Replication => self.end_replication(env, key, is_large),
            Reader::Sending(_) | Reader::Told { .. } => {}
        }
    }

    /// A stored record has been compared with what others have, and they have been sent what they lack. Of a record that
    /// others show in slices only it cannot be told what they lack: they are sent all of it.
    fn end_replication(&mut self, env: &mut Env, key: RecordKey, is_large: bool) {
        let stored = env.kad.store_mut().record(&key);
        let whole = stored.ok().flatten().filter(|_| is_large);
        match whole {
            Some(record) => {
                let record_put = RecordPut::of(&record, env.bounds.chunk_bytes);
                let step = self.sends.begin(env, record_put, SendPurpose::Replication);
                self.take_step(env, step);
            }
            None => env.events.push_back(Event::Replicated { key }),
        }
    }
}

/// How reads that say nothing of it are carried out.
fn read_options(env: &Env) -> ReadOptions {
    ReadOptions::new(env.config.read_policy(), env.config.read_deadline())
}
