//! What is under way in a behaviour: events come in, and what has ended in one part goes on in the next.
//!
//! **Invariants.** Of each kind only so many are under way at a time. The parts do not call one another: a read does not know what
//! is done with what it has found, nor a write who looks up and sends.

use std::task::{Context, Poll, ready};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p_identity::Keypair;
use libp2p_kad as kad;

use super::{
    admitting::Admission,
    env::Env,
    event::Event,
    reading::{Ended, Reader, Reads},
    replicate::Replicate,
    sending::{Sender, Spreads},
    watches::Watches,
    writing::{Next, Writes},
};
use crate::{
    client::{ClientError, Command, Ending},
    query::Spread,
    store::StoreEvent,
};
use smart_record_core::{RecordKey, Timestamp};

/// Reads, spreads, and those for whom they are made.
pub(super) struct Operations {
    reads: Reads,
    spreads: Spreads,
    writes: Writes,
    watches: Watches,
    replicate: Option<Replicate>,
    admission: Admission,
    /// The ends of the handles that clients have.
    handles: FuturesUnordered<Ending>,
}

impl Operations {
    pub(super) fn new(env: &Env, keypair: Keypair, admission: Admission) -> Self {
        let replication = env.config.replication_interval();
        Self {
            reads: Reads::default(),
            spreads: Spreads::new(),
            writes: Writes::new(keypair, &env.config),
            watches: Watches::new(env.config.watch_interval()),
            replicate: replication.map(|every| Replicate::new(every, env.now())),
            admission,
            handles: FuturesUnordered::new(),
        }
    }

    /// Whether a client's command can be begun.
    pub(super) fn has_capacity(&self, env: &Env) -> bool {
        let busy = self.reads.count(Reader::is_client);
        let busy = busy.saturating_add(self.spreads.count(Sender::is_client));
        busy.saturating_add(self.writes.waiting()) < env.config.max_operations()
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
            Command::Read(key, policy, reply) => {
                let policy = policy.unwrap_or(env.config.read_policy());
                self.reads.begin(env, &self.watches, key, Reader::Client(policy, reply));
            }
            Command::Watch(key, sender) => self.watches.watch(env, key, sender),
            Command::Look(look) => look(env.kad.store_mut()),
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
        self.reads.stop_resuming(env);
        self.watches.clear();
        env.events.push_back(Event::ClientsGone);
    }

    /// Takes care of an event of Kademlia; gives it back if it is the user's.
    pub(super) fn on_kad_event(&mut self, env: &mut Env, event: kad::Event) -> Option<kad::Event> {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, step, .. } if self.reads.has(&id) => {
                let worker = self.admission.worker();
                let ended = self.reads.on_progress(env, worker, id, result, step.last);
                self.end_reads(env, ended);
                None
            }
            kad::Event::OutboundQueryProgressed { id, result, .. } if self.spreads.has(&id) => {
                self.spreads.on_result(env, &id, result);
                None
            }
            kad::Event::InboundRequest { mut request } => {
                self.admission.on_request(env, &mut request);
                Some(kad::Event::InboundRequest { request })
            }
            kad::Event::RoutingUpdated { peer, is_new_peer: true, .. } => {
                self.writes.on_new_peer(env, peer);
                Some(event)
            }
            event => Some(event),
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
        let ended = match ready!(worker.answers.poll(cx)) {
            Some(verdict) => self.reads.on_verdict(env, verdict).into_iter().collect(),
            None => self.reads.on_no_verdicts(env),
        };
        self.end_reads(env, ended);
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
                self.reads.begin(env, &self.watches, key, Reader::Replication);
            }
            return true;
        }
        if self.may_ask(env)
            && let Some(key) = self.watches.due(now)
        {
            self.reads.begin(env, &self.watches, key, Reader::Watch);
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
        let busy = self.spreads.count(|sender| matches!(sender, Sender::Refresh));
        busy.saturating_add(self.writes.renewing()) < env.quarter()
    }

    fn may_ask(&self, env: &Env) -> bool {
        self.reads.count(|reader| matches!(reader, Reader::Watch)) < env.quarter()
    }

    fn may_replicate(&self, env: &Env) -> bool {
        let busy = self.reads.count(|reader| matches!(reader, Reader::Replication));
        busy < env.quarter() && self.spreads.repairing() < env.quarter()
    }

    fn carry_out(&mut self, env: &mut Env, next: impl IntoIterator<Item = Next>) {
        for next in next {
            match next {
                Next::Resume(key) => self.reads.begin(env, &self.watches, key, Reader::Resume),
                Next::Send(spread, sender) => self.spreads.begin(env, spread, sender),
            }
        }
    }

    fn end_reads(&mut self, env: &mut Env, ended: impl IntoIterator<Item = Ended>) {
        ended.into_iter().for_each(|ended| self.end_read(env, ended));
    }

    /// Repairs, keeps here what was found, and hands it to whoever wanted it.
    fn end_read(&mut self, env: &mut Env, ended: Ended) {
        let Ended { lookup, reader, withheld, span } = ended;
        let _in_span = span.entered();
        let now = env.now();
        let (repairs, is_close) = lookup.repairs(&env.local);
        self.spreads.repair(env, &lookup, &repairs);
        self.admission.keep(env, &lookup, is_close);
        let key = lookup.key().clone();
        let is_large = lookup.may_be_sliced();
        let has_failed = lookup.has_failed();
        let lookups = lookup.lookups();
        let lifetime_ends_at = lookup.expires_at();
        let reading = lookup.into_reading(&repairs, withheld, now);
        env.count(|c| &mut c.bad_answers, reading.refused.len());
        tracing::debug!(
            lookups,
            holders = reading.holders.len(),
            stale = reading.stale.len(),
            empty = reading.empty.len(),
            refused = reading.refused.len(),
            has_failed,
            "read"
        );
        match reader {
            Reader::Client(_, reply) if has_failed => reply.send(Err(ClientError::TimedOut)),
            Reader::Client(_, reply) => reply.send(Ok(reading)),
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
        }
    }

    /// A stored record has been compared with what others have, and they have been sent what they lack. Of a record that
    /// others show in slices only it cannot be told what they lack: they are sent all of it.
    fn end_replication(&mut self, env: &mut Env, key: RecordKey, is_large: bool) {
        let stored = env.kad.store_mut().record(&key);
        let whole = stored.ok().flatten().filter(|_| is_large);
        match whole {
            Some(record) => self.spreads.begin(
                env,
                Spread::of(&record, env.bounds.chunk_bytes),
                Sender::Replication,
            ),
            None => env.events.push_back(Event::Replicated { key }),
        }
    }
}
