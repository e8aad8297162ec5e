//! A node that reads and writes: its requests, and its operations under way.
//!
//! What decides is real: [`Lookup`] and [`Requests`] (whom to ask next, how long to wait, when the
//! closest peers are known), [`RecordReader`] (what the answers say together),
//! [`SmartRecord::chunks`].
//!
//! **Departs from the real code**, where this module does what is private there
//! (`query/{read,delivery}.rs`, `behaviour/{reading,sending,operations}.rs`): it follows the same
//! rules for the default policies, but a write within a minute of another looks up again, a peer
//! that answers late is not sent a write once more, a large record is sent whole to who lacks part
//! of it, no repair is put off, and there is no limit of operations under way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordError, GetRecordOk, PeerRecord};
use libp2p_smart_record::{
    SmartRecord,
    query::{Reading, RecordReader},
};
use smart_record_lookup::{
    Failure, Lookup, LookupConfig, LookupEvent, LookupKind, Named, NetworkSize, RequestId, Requests,
};

use crate::{
    answers::Answers,
    ids::{K, NodeId},
    node::{KeyId, Kind, Store},
    time::{MILLISECOND, SECOND, Time, time},
    world::{Answer, Message, Request, World},
};

/// Id of an operation of a node.
pub(crate) type OpId = u32;

/// After this time a read returns what it has, and a write who has taken it.
const DEADLINE: Time = 10 * SECOND;
/// How long a read goes on after it has returned.
const READ_BACKGROUND: Time = 10 * SECOND;
/// How long a write goes on after it has returned.
const BACKGROUND: Time = 30 * SECOND;
/// Holders that are asked at the same time in further rounds.
const REPEATED: usize = 6;
/// With this many answers a client's read of a small record returns.
const ENOUGH: usize = K / 2 + 2;
/// Size of the pieces in which a record is sent.
pub(crate) const CHUNK: usize = 15 * 1_024;
/// Pieces of a record that a repair has at most.
const REPAIR_CHUNKS: usize = 32;
/// Number of peers that are asked whether they show a client's write, and how long after it has
/// returned.
const CHECKED: usize = 2;
const CHECK: Time = 100 * MILLISECOND;

/// Why an operation was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client reads.
    Get,
    /// A writer sends its space, new or again.
    Write { writer: usize, is_new: bool },
    /// The turn of a stored record.
    Replicate,
    /// A client watches.
    Watch,
}

/// Number of requests at a time of a lookup that no client waits for.
const UPKEEP_PARALLELISM: usize = 6;

/// State of a node that asks others.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    requests: Requests,
    size: NetworkSize,
    ops: BTreeMap<OpId, Op>,
    next_op: OpId,
    by_request: BTreeMap<RequestId, (OpId, NodeId, Part)>,
    /// Those of the closest peers that join what they are sent, of keys that it has written.
    joiners: BTreeMap<KeyId, Vec<PeerId>>,
    /// When the requests are looked at next.
    poll_at: Option<Time>,
}

/// The part of an operation that a request is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Read,
    Send,
    Check,
}

#[derive(Debug)]
struct Op {
    key: KeyId,
    purpose: Purpose,
    begun: Time,
    read: Option<Box<Read>>,
    sending: Sending,
    has_returned: bool,
    /// Of what is sent.
    deadline: Time,
}

/// A read under way, as in `query/read.rs`.
#[derive(Debug)]
struct Read {
    lookup: Lookup,
    answers: Answers,
    /// Whether it may return before all of the closest peers were asked.
    returns_early: bool,
    again: VecDeque<PeerId>,
    repeated: BTreeSet<PeerId>,
    late: BTreeSet<PeerId>,
    has_settled: bool,
    has_all_rounds: bool,
    /// Whether it has ended at its deadline.
    has_ended: bool,
    /// Whether it ended before enough of the closest peers had answered, so that it proves nothing.
    is_early: bool,
    has_returned: bool,
    deadline: Time,
}

/// Pieces that are being sent.
#[derive(Debug, Default)]
struct Sending {
    /// Who was sent something.
    peers: BTreeSet<PeerId>,
    /// To whom which piece goes next.
    queue: VecDeque<(PeerId, Arc<[Bytes]>, usize)>,
    under_way: BTreeMap<PeerId, (Arc<[Bytes]>, usize)>,
    taken: Vec<NodeId>,
    /// How many have to take it before the write returns, once the closest peers are known.
    needed: Option<usize>,
    /// Who is asked whether it shows the write, and from when on.
    checks: Vec<PeerId>,
    check_at: Time,
    checking: usize,
    is_acknowledged: bool,
}

impl World {
    fn asker(&mut self, id: NodeId) -> Box<Asker> {
        self.askers.remove(&id).unwrap_or_default()
    }

    pub(crate) fn begin_op(&mut self, id: NodeId, key: KeyId, purpose: Purpose) {
        let mut asker = self.asker(id);
        asker.size.forget_old(self.elapsed());
        let of_key = &self.keys[key as usize];
        let start = self.ids.known_to(&self.nodes, id, of_key.point, self.partition, self.now);
        let start: Vec<Named> = start.into_iter().map(|node| self.named(node)).collect();
        let node = &self.nodes[id as usize];
        let is_upkeep = match purpose {
            Purpose::Get | Purpose::Write { is_new: true, .. } => false,
            Purpose::Write { is_new: false, .. } | Purpose::Replicate | Purpose::Watch => true,
        };
        let parallelism = if is_upkeep { UPKEEP_PARALLELISM } else { self.config.parallelism };
        let config = LookupConfig::default().with_parallelism(parallelism);
        let own = match &node.store {
            Store::Ours(_) => node.record(&self.rules, &of_key.key),
            Store::Empty | Store::Plain(_) => None,
        };
        let read = Read {
            lookup: Lookup::new(of_key.place, LookupKind::Value, node.peer, config, start),
            answers: Answers::new(own),
            returns_early: matches!(purpose, Purpose::Get | Purpose::Watch),
            again: VecDeque::new(),
            repeated: BTreeSet::new(),
            late: BTreeSet::new(),
            has_settled: false,
            has_all_rounds: false,
            has_ended: false,
            is_early: false,
            has_returned: false,
            deadline: self.now + DEADLINE,
        };
        let mut sending = Sending::default();
        if let Purpose::Write { writer, .. } = purpose {
            // Who joins is sent it before it is known what others have.
            let joiners = asker.joiners.get(&key).cloned().unwrap_or_default();
            let own = self.content(writer, None).0;
            sending.add(joiners, &own);
        }
        let op_id = asker.next_op;
        asker.next_op += 1;
        let deadline = self.now + if is_upkeep { DEADLINE + BACKGROUND } else { DEADLINE };
        let op = Op {
            key,
            purpose,
            begun: self.now,
            read: Some(Box::new(read)),
            sending,
            has_returned: is_upkeep,
            deadline,
        };
        asker.ops.insert(op_id, op);
        self.deadline_at(self.now + DEADLINE, id, op_id);
        if is_upkeep {
            self.deadline_at(deadline, id, op_id);
        }
        self.advance(id, &mut asker, [op_id]);
        self.end_turn(id, asker);
    }

    fn named(&self, node: NodeId) -> Named {
        (self.nodes[node as usize].peer, self.subnets(node))
    }

    /// Puts a node's state back, and plans when it is looked at next.
    fn end_turn(&mut self, id: NodeId, mut asker: Box<Asker>) {
        if self.config.clients_forget && asker.ops.is_empty() && !self.nodes[id as usize].is_server
        {
            return;
        }
        let next = asker.requests.next_at().map(|at| time(at).max(self.now));
        if let Some(next) = next
            && asker.poll_at.is_none_or(|at| next < at)
        {
            asker.poll_at = Some(next);
            self.poll_at(next, id);
        }
        self.askers.insert(id, asker);
    }

    pub(crate) fn on_poll(&mut self, id: NodeId) {
        let Some(mut asker) = self.askers.remove(&id) else { return };
        if asker.poll_at.is_some_and(|at| at <= self.now) {
            asker.poll_at = None;
        }
        let now = self.elapsed();
        while let Some(event) = asker.requests.poll(now) {
            match event {
                LookupEvent::Late(request, peer) => {
                    let Some((op_id, _, part)) = asker.by_request.get(&request) else { continue };
                    let op = asker.ops.get_mut(op_id);
                    if let Some(read) = op.and_then(|op| op.read.as_mut())
                        && *part == Part::Read
                    {
                        read.on_late(&peer);
                    }
                }
                LookupEvent::Over(request, peer) => {
                    let Some((op_id, _, part)) = asker.by_request.remove(&request) else {
                        continue;
                    };
                    self.measures.silences += 1;
                    let Some(op) = asker.ops.get_mut(&op_id) else { continue };
                    match (part, &mut op.read) {
                        (Part::Read, Some(read)) => read.on_failure(&peer, Failure::Silent),
                        (Part::Read, None) => {}
                        (Part::Send, _) => {
                            op.sending.under_way.remove(&peer);
                        }
                        (Part::Check, _) => op.sending.on_checked(),
                    }
                }
                LookupEvent::Evict(_) => {}
            }
        }
        // A slot may be free.
        let all: Vec<_> = asker.ops.keys().copied().collect();
        self.advance(id, &mut asker, all);
        self.end_turn(id, asker);
    }

    pub(crate) fn on_deadline(&mut self, id: NodeId, op_id: OpId) {
        let Some(mut asker) = self.askers.remove(&id) else { return };
        if let Some(op) = asker.ops.get_mut(&op_id)
            && let Some(read) = &mut op.read
            && read.deadline <= self.now
        {
            (read.has_ended, read.is_early) = (true, true);
            self.measures.timed_out += u64::from(!read.has_returned);
            self.advance(id, &mut asker, [op_id]);
        }
        if let Some(op) = asker.ops.get_mut(&op_id)
            && op.deadline <= self.now
        {
            if op.has_returned {
                op.sending.stop();
            } else {
                self.return_write(id, op_id, op);
            }
        }
        self.advance(id, &mut asker, [op_id]);
        self.end_turn(id, asker);
    }

    pub(crate) fn on_answer(&mut self, request: Request, answer: Answer) {
        let Request { asker: id, op: op_id, id: request_id, to, .. } = request;
        let Some(mut asker) = self.askers.remove(&id) else { return };
        let part = asker.by_request.remove(&request_id).map(|(_, _, part)| part);
        let counts = asker.requests.on_answer(request_id, self.elapsed()).is_some();
        let (Some(part), true) = (part, counts) else {
            return self.end_turn(id, asker);
        };
        self.used(id, to);
        let peer = self.nodes[to as usize].peer;
        if let Some(op) = asker.ops.get_mut(&op_id) {
            if let (Purpose::Watch, Some(value)) = (op.purpose, &answer.value) {
                self.on_watched(op.key, value);
            }
            match (part, &mut op.read) {
                (Part::Read, Some(read)) => {
                    let named = answer.named.iter().map(|node| self.named(*node));
                    read.on_answer(&peer, self.subnets(to), named.collect());
                    match answer.value {
                        Some(value) => read.answers.add(peer, value),
                        None => read.answers.add_empty(peer),
                    }
                }
                (Part::Read, None) => {}
                (Part::Send, _) => op.sending.on_taken(peer, to),
                (Part::Check, _) => op.sending.on_checked(),
            }
        }
        let all: Vec<_> = match asker.requests.has_slot() {
            // Others wait for a slot only where there are many.
            true if asker.requests.len() < 32 => vec![op_id],
            _ => asker.ops.keys().copied().collect(),
        };
        self.advance(id, &mut asker, all);
        self.end_turn(id, asker);
    }

    /// Sends what can be sent, and ends what has ended.
    fn advance(&mut self, id: NodeId, asker: &mut Asker, ops: impl IntoIterator<Item = OpId>) {
        for op_id in ops {
            let Some(mut op) = asker.ops.remove(&op_id) else { continue };
            if op.read.is_some() {
                self.look(id, asker, op_id, &mut op);
            }
            self.deliver(id, asker, op_id, &mut op);
            if op.sending.is_enough() && !op.has_returned {
                self.return_write(id, op_id, &mut op);
                self.deliver(id, asker, op_id, &mut op);
            }
            if op.read.is_some() || !op.sending.is_over() {
                asker.ops.insert(op_id, op);
            } else if let Purpose::Write { writer, is_new } = op.purpose {
                if !is_new {
                    self.measures.refreshed.add(self.now - op.begun);
                }
                if !op.sending.is_acknowledged {
                    self.on_written(writer, &op.sending.taken);
                }
            }
        }
    }

    /// Continues a read.
    fn look(&mut self, id: NodeId, asker: &mut Asker, op_id: OpId, op: &mut Op) {
        let (now, wall_clock) = (self.elapsed(), self.clock_of(id));
        let Some(mut read) = op.read.take() else { return };
        let key = self.keys[op.key as usize].key.clone();
        let decode = |value: &Bytes| self.rules.decode(&key, value);
        let decode = |value: &Bytes| self.verdicts.during(Duration::MAX, || decode(value)).0;
        read.answers.join(wall_clock, decode);
        let Asker { requests, size, .. } = asker;
        read.is_settled(requests, size, now);
        let mut asked = Vec::new();
        while let Some((request, peer)) = read.next(requests, size, now) {
            asked.push((request, peer));
        }
        for (request, peer) in asked {
            self.ask(id, asker, op_id, op.key, request, (peer, Part::Read), Message::Get);
        }
        let Asker { requests, size, .. } = &mut *asker;
        if read.is_settled(requests, size, now) && !read.has_returned {
            read.has_returned = true;
            read.deadline = self.now + READ_BACKGROUND;
            self.deadline_at(read.deadline, id, op_id);
            self.return_read(id, asker, op, &read);
        }
        if read.is_over(&asker.size) {
            self.end_read(id, asker, op, &read);
        } else {
            op.read = Some(read);
        }
    }

    /// Sends a request.
    #[expect(clippy::too_many_arguments, reason = "all of it is the request")]
    fn ask(
        &mut self,
        id: NodeId,
        asker: &mut Asker,
        op: OpId,
        key: KeyId,
        request: RequestId,
        (peer, part): (PeerId, Part),
        message: Message,
    ) {
        let Some(to) = self.by_peer.get(&peer).copied() else { return };
        asker.by_request.insert(request, (op, to, part));
        self.measures.requests += 1;
        self.send(Request { asker: id, op, id: request, key, to }, message);
    }

    /// What the answers to a read are together.
    fn reading(&self, id: NodeId, key: KeyId, read: &Read) -> Option<Reading> {
        let (node, of_key, now) =
            (&self.nodes[id as usize], &self.keys[key as usize], self.clock_of(id));
        let reader = match &node.store {
            Store::Ours(store) => RecordReader::with_stored(store, of_key.key.clone()),
            Store::Empty | Store::Plain(_) => {
                RecordReader::new(&self.rules.registry, of_key.key.clone())
            }
        };
        // Rounds are those of the answers.
        let mut reader = reader.ok()?.for_peer(&node.peer).with_rounds(1);
        for (peer, value) in read.answers.values() {
            let record = kad::Record {
                key: of_key.kad.clone(),
                value: value.to_vec(),
                publisher: None,
                expires: None,
            };
            let found = Ok(GetRecordOk::FoundRecord(PeerRecord { peer: Some(*peer), record }));
            self.verdicts.during(Duration::MAX, || reader.on_progress(&found, false, now));
        }
        let closest_peers = read.answers.empty().collect();
        let ended = Err(GetRecordError::NotFound { key: of_key.kad.clone(), closest_peers });
        reader.on_progress(&ended, !read.is_early, now);
        Some(reader.into_reading(now))
    }

    /// Handles the return of a read: checks it, or begins to send what it was for.
    fn return_read(&mut self, id: NodeId, asker: &mut Asker, op: &mut Op, read: &Read) {
        match op.purpose {
            Purpose::Replicate => return,
            Purpose::Watch => {
                self.measures.watches += 1;
                return;
            }
            Purpose::Get | Purpose::Write { .. } => {}
        }
        let Some(reading) = self.reading(id, op.key, read) else { return };
        let Purpose::Write { writer, .. } = op.purpose else {
            self.measures.reads.add(self.now - op.begun);
            let is_complete = !read.is_early && read.answers.is_covered() && reading.is_complete();
            self.measures.complete += u64::from(is_complete);
            self.check_reading(id, op.key, op.begun, &reading, is_complete);
            return;
        };
        let closest = read.lookup.closest(&asker.size);
        self.store_found(id, op.key, read, &closest, &reading);
        let mut replicas = read.lookup.replicas(&asker.size);
        let joiners = asker.joiners.entry(op.key).or_default();
        let (chunks, is_whole) = self.content(writer, Some(&reading));
        if !is_whole {
            // A late peer may keep only the last PUT.
            replicas.retain(|peer| read.answers.has_heard(peer) || joiners.contains(peer));
        }
        joiners.clone_from(&replicas);
        joiners.retain(|peer| read.answers.joins(peer));
        op.sending.add(replicas, &chunks);
        op.sending.needed = Some(majority(closest.len()));
    }

    /// Handles the end of a read that is not for a write: stores what was found, and repairs.
    fn end_read(&mut self, id: NodeId, asker: &mut Asker, op: &mut Op, read: &Read) {
        if !read.has_ended {
            read.lookup.measure(&mut asker.size, self.elapsed());
        }
        self.measures.lookups.add(read.lookup.asked() as u64);
        if matches!(op.purpose, Purpose::Write { .. }) {
            return;
        }
        op.sending.needed = Some(0);
        let Some(reading) = self.reading(id, op.key, read) else { return };
        let closest = read.lookup.closest(&asker.size);
        self.store_found(id, op.key, read, &closest, &reading);
        let (chunks, peers) = self.repairs(id, &closest, read, &reading);
        self.measures.repaired += peers.len() as u64;
        op.sending.add(peers, &chunks);
    }

    /// A server that is one of the closest to a key keeps what it has read.
    fn store_found(
        &mut self,
        id: NodeId,
        key: KeyId,
        read: &Read,
        closest: &[PeerId],
        reading: &Reading,
    ) {
        let node = &self.nodes[id as usize];
        let target = read.lookup.target();
        let last = closest.get(K - 1).map(|peer| target.distance_of(peer));
        let is_close = last.is_none_or(|last| target.distance_of(&node.peer) < last);
        let stores = node.is_server && node.kind == Kind::Ours && !read.is_early;
        if !stores || !is_close || reading.is_empty() {
            return;
        }
        let Some(found) = reading.snapshot.record() else { return };
        let key_bytes = &self.keys[key as usize].key;
        if node.record(&self.rules, key_bytes).as_ref() != Some(found) {
            let value = found.encode().into();
            self.store(id, key, &value);
        }
    }

    /// What is sent to which of the closest peers that lack it.
    fn repairs(
        &self,
        id: NodeId,
        closest: &[PeerId],
        read: &Read,
        reading: &Reading,
    ) -> (Arc<[Bytes]>, Vec<PeerId>) {
        let nothing = (Arc::from([]), Vec::new());
        let Some(record) = reading.snapshot.record().filter(|_| !reading.is_empty()) else {
            return nothing;
        };
        let has: BTreeSet<_> = reading.holders_of_record(record).into_iter().collect();
        let spaces = record.spaces().len();
        let local = self.nodes[id as usize].peer;
        let agrees = |peer: &PeerId| {
            let coverage = reading.coverage(peer);
            coverage.is_some_and(|it| it.spaces as usize == spaces && it.share >= 1.0)
        };
        // After an early end it is not known which peers are the closest.
        let is_known = |peer: &PeerId| !read.is_early || reading.holders.contains(peer);
        let lacks = |peer: &&PeerId| {
            **peer != local && is_known(peer) && !has.contains(*peer) && !agrees(peer)
        };
        let peers: Vec<_> = closest.iter().take(K).filter(lacks).copied().collect();
        if peers.is_empty() {
            return nothing;
        }
        (pieces(record, REPAIR_CHUNKS), peers)
    }

    /// What a writer sends, and whether it is all that is known: if it fits into one packet. Or
    /// else it is its space.
    fn content(&mut self, writer: usize, reading: Option<&Reading>) -> (Arc<[Bytes]>, bool) {
        let now = self.clock_of(self.writers[writer].node);
        let own = self.writers[writer].signer.record(now);
        let mut all = own.clone();
        if let Some(found) = reading.and_then(|reading| reading.snapshot.record()) {
            // Keys are the same.
            let _ = all.join(found.clone());
        }
        all.collect(now);
        let all = all.encode();
        match all.len() <= CHUNK {
            true => (Arc::from([Bytes::from(all)]), true),
            false => (pieces(&own, usize::MAX), false),
        }
    }

    fn deliver(&mut self, id: NodeId, asker: &mut Asker, op_id: OpId, op: &mut Op) {
        let now = self.elapsed();
        let Op { sending, key, .. } = op;
        let place = self.keys[*key as usize].place;
        let mut waiting = VecDeque::new();
        while let Some((peer, chunks, number)) = sending.queue.pop_front() {
            let Some(request) = asker.requests.begin(peer, place.distance_of(&peer), now) else {
                waiting.push_back((peer, chunks, number));
                continue;
            };
            let chunk = chunks[number].clone();
            sending.under_way.insert(peer, (chunks, number));
            self.measures.puts += 1;
            self.ask(id, asker, op_id, *key, request, (peer, Part::Send), Message::Put(chunk));
        }
        sending.queue = waiting;
        while sending.check_at <= self.now
            && let Some(peer) = sending.checks.pop()
            && let Some(request) = asker.requests.begin(peer, place.distance_of(&peer), now)
        {
            sending.checking += 1;
            self.ask(id, asker, op_id, *key, request, (peer, Part::Check), Message::Get);
        }
    }

    /// Tells a writer who has taken what it has written. The write goes on in the background.
    fn return_write(&mut self, id: NodeId, op_id: OpId, op: &mut Op) {
        op.has_returned = true;
        op.deadline = self.now + BACKGROUND;
        self.deadline_at(op.deadline, id, op_id);
        let Purpose::Write { writer, .. } = op.purpose else { return };
        self.measures.writes.add(self.now - op.begun);
        let Sending { taken, checks, check_at, is_acknowledged, .. } = &mut op.sending;
        if taken.is_empty() {
            return;
        }
        *is_acknowledged = true;
        let peers = taken.iter().map(|node| self.nodes[*node as usize].peer);
        *checks = peers.take(CHECKED).collect();
        *check_at = self.now + CHECK;
        self.deadline_at(*check_at, id, op_id);
        let taken = taken.clone();
        self.on_written(writer, &taken);
    }
}

impl Read {
    fn on_answer(
        &mut self,
        peer: &PeerId,
        subnets: BTreeSet<smart_record_lookup::Subnet>,
        named: Vec<Named>,
    ) {
        if !self.repeated.remove(peer) && !self.late.remove(peer) {
            self.lookup.on_answer(peer, subnets, named);
        }
    }

    fn on_failure(&mut self, peer: &PeerId, failure: Failure) {
        if self.repeated.remove(peer) || self.late.remove(peer) {
            self.answers.on_no_answer(peer);
        } else {
            self.lookup.on_failure(peer, failure);
        }
    }

    fn on_late(&mut self, peer: &PeerId) {
        if self.repeated.remove(peer) {
            self.late.insert(*peer);
        } else {
            self.lookup.on_late(peer);
        }
    }

    /// Whether it may settle before all of the closest peers have answered.
    fn may_be_enough(&self) -> bool {
        self.returns_early && self.answers.is_small(CHUNK) && self.answers.is_covered()
    }

    fn next(
        &mut self,
        requests: &mut Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> Option<(RequestId, PeerId)> {
        let expects_enough =
            !self.has_settled && self.lookup.expects_answers(ENOUGH, size) && self.may_be_enough();
        if self.has_ended || expects_enough {
            return None;
        }
        self.begin_round(requests, size, now);
        if let Some(next) = self.lookup.next(requests, size, now) {
            return Some(next);
        }
        let peer = *self.again.front().filter(|_| self.repeated.len() < REPEATED)?;
        let request = requests.begin(peer, self.lookup.target().distance_of(&peer), now)?;
        self.again.pop_front();
        self.repeated.insert(peer);
        Some((request, peer))
    }

    fn begin_round(&mut self, requests: &Requests, size: &NetworkSize, now: Duration) {
        let is_round_over = self.again.is_empty() && self.repeated.is_empty();
        if self.has_all_rounds || !is_round_over || !self.lookup.is_settled(requests, size, now) {
            return;
        }
        self.answers.set_asked(self.lookup.asked_closest());
        if !self.answers.wants_round() {
            self.has_all_rounds = true;
            return;
        }
        let again = self.answers.unfinished(&self.late);
        self.answers.begin_round(&again);
        self.again = again.into();
    }

    fn is_settled(&mut self, requests: &Requests, size: &NetworkSize, now: Duration) -> bool {
        if self.has_ended {
            return true;
        }
        self.answers.set_closest(self.lookup.closest_known(size).into_iter().collect());
        if self.has_settled || self.lookup.has_answers(ENOUGH, size) && self.may_be_enough() {
            self.has_settled = true;
            return true;
        }
        self.begin_round(requests, size, now);
        let has_quorum = self.lookup.has_quorum();
        let is_settled = self.has_all_rounds && (self.lookup.is_over(size) || has_quorum);
        self.is_early = is_settled && !has_quorum;
        self.has_settled = is_settled;
        is_settled
    }

    fn is_over(&self, size: &NetworkSize) -> bool {
        self.has_ended || self.has_all_rounds && self.lookup.is_over(size)
    }
}

impl Sending {
    /// Adds who is sent these pieces, unless it was sent some before.
    fn add(&mut self, peers: Vec<PeerId>, chunks: &Arc<[Bytes]>) {
        for peer in peers {
            if !chunks.is_empty() && self.peers.insert(peer) {
                self.queue.push_back((peer, chunks.clone(), 0));
            }
        }
    }

    fn on_taken(&mut self, peer: PeerId, node: NodeId) {
        let Some((chunks, number)) = self.under_way.remove(&peer) else { return };
        if number + 1 < chunks.len() {
            self.queue.push_back((peer, chunks, number + 1));
        } else {
            self.taken.push(node);
        }
    }

    fn on_checked(&mut self) {
        self.checking = self.checking.saturating_sub(1);
    }

    /// Whether a write may return.
    fn is_enough(&self) -> bool {
        let has_enough = |needed| self.taken.len() >= needed && !self.taken.is_empty();
        let is_sent = self.queue.is_empty() && self.under_way.is_empty();
        self.needed.is_some_and(|needed| has_enough(needed) || is_sent)
    }

    fn is_over(&self) -> bool {
        let is_sent = self.needed.is_some() && self.queue.is_empty() && self.under_way.is_empty();
        is_sent && self.checks.is_empty() && self.checking == 0
    }

    /// Sends and waits for nothing more.
    fn stop(&mut self) {
        self.queue.clear();
        self.under_way.clear();
        self.checks.clear();
        self.checking = 0;
        self.needed = self.needed.or(Some(0));
    }
}

/// `WritePolicy::Majority`.
fn majority(closest: usize) -> usize {
    (closest / 2 + 1).max(3).min(closest)
}

fn pieces(record: &SmartRecord, most: usize) -> Arc<[Bytes]> {
    record.chunks(CHUNK).take(most).map(Bytes::from).collect()
}
