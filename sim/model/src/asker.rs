//! A node that reads and writes: its requests, and its operations under way.
//!
//! What decides is real: [`Lookup`] and [`Requests`] (whom to ask next, how long to wait, when the
//! closest peers are known), [`RecordReader`] (what the answers say together, whether a large
//! record is complete), [`SmartRecord::chunks`].
//!
//! **Departs from the real code**, where this module does what is private there
//! (`query/{read,delivery}.rs`, `behaviour/{sending,operations}.rs`): it follows the same rules for
//! the default policies, but it follows up no write, remembers no holders between two operations,
//! sends a large record whole to who lacks part of it, puts off no repair, and has no limit of
//! operations under way.

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
    query::{ReadStep, Reading, RecordReader},
};
use smart_record_lookup::{
    Failure, Lookup, LookupConfig, LookupEvent, LookupKind, Named, NetworkSize, RequestId, Requests,
};

use crate::{
    ids::{K, NodeId},
    link,
    node::{KeyId, Kind},
    time::{SECOND, Time, time},
    world::{Answer, Message, Request, World},
};

/// Id of an operation of a node.
pub(crate) type OpId = u32;

/// After this time a read returns what it has, and a write who has taken it.
const DEADLINE: Time = 10 * SECOND;
/// How long a write goes on after that.
const BACKGROUND: Time = 30 * SECOND;
/// Rounds of a read, as [`BehaviourConfig::read_rounds`] has them.
///
/// [`BehaviourConfig::read_rounds`]: libp2p_smart_record::behaviour::BehaviourConfig::read_rounds
const ROUNDS: usize = 16;
/// Holders that are asked at the same time in further rounds.
const REPEATED: usize = 6;
/// With this many answers a client's read of a small record returns.
const ENOUGH: usize = K / 2 + 2;
/// Size of the pieces in which a record is sent.
pub(crate) const CHUNK: usize = 15 * 1_024;
/// Answers of at least this size are taken for a slice of a larger record.
const SLICE: usize = 6 * 1_024;
/// Pieces of a record that a repair has at most.
const REPAIR_CHUNKS: usize = 32;

/// Why an operation was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client reads.
    Get,
    /// A writer sends its space, new or again.
    Write { writer: usize, is_new: bool },
    /// The turn of a stored record.
    Replicate,
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
    by_request: BTreeMap<RequestId, (OpId, NodeId)>,
    /// When each connection was last used.
    connected: BTreeMap<NodeId, Time>,
    /// When the requests are looked at next.
    poll_at: Option<Time>,
}

#[derive(Debug)]
struct Op {
    key: KeyId,
    purpose: Purpose,
    begun: Time,
    stage: Stage,
    has_returned: bool,
    deadline: Time,
}

#[derive(Debug)]
enum Stage {
    Looking(Box<Looking>),
    Sending(Sending),
}

#[derive(Debug)]
struct Looking {
    lookup: Lookup,
    reader: RecordReader,
    holders: BTreeSet<PeerId>,
    empty: Vec<PeerId>,
    /// Whether an answer may be a part of what its holder has.
    is_sliced: bool,
    again: VecDeque<PeerId>,
    repeated: BTreeSet<PeerId>,
    has_all_rounds: bool,
    is_over: bool,
}

/// Pieces that are being sent.
#[derive(Debug, Default)]
struct Sending {
    chunks: Arc<[Bytes]>,
    /// To whom which piece goes next.
    queue: VecDeque<(PeerId, usize)>,
    under_way: BTreeMap<PeerId, usize>,
    taken: Vec<NodeId>,
    /// How many have to take it before the write returns.
    needed: usize,
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
        let local = self.nodes[id as usize].peer;
        let parallelism = match purpose {
            Purpose::Get | Purpose::Write { is_new: true, .. } => self.config.parallelism,
            Purpose::Write { is_new: false, .. } | Purpose::Replicate => UPKEEP_PARALLELISM,
        };
        let config = LookupConfig::default().with_parallelism(parallelism);
        let lookup = Lookup::new(of_key.place, LookupKind::Value, local, config, start);
        let (node, rules) = (&mut self.nodes[id as usize], &self.rules);
        let reader = match &node.store {
            crate::node::Store::Ours(store) => RecordReader::with_stored(store, of_key.key.clone()),
            _ => RecordReader::new(&rules.registry, of_key.key.clone()),
        };
        let Ok(reader) = reader else { return };
        let looking = Looking {
            lookup,
            reader: reader.with_rounds(ROUNDS),
            holders: BTreeSet::new(),
            empty: Vec::new(),
            is_sliced: false,
            again: VecDeque::new(),
            repeated: BTreeSet::new(),
            has_all_rounds: false,
            is_over: false,
        };
        let op_id = asker.next_op;
        asker.next_op += 1;
        let deadline = self.now + DEADLINE;
        let op = Op {
            key,
            purpose,
            begun: self.now,
            stage: Stage::Looking(Box::new(looking)),
            has_returned: false,
            deadline,
        };
        asker.ops.insert(op_id, op);
        self.deadline_at(deadline, id, op_id);
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
        let mut touched = BTreeSet::new();
        while let Some(event) = asker.requests.poll(now) {
            match event {
                LookupEvent::Late(request, peer) => {
                    let Some((op_id, _)) = asker.by_request.get(&request) else { continue };
                    touched.insert(*op_id);
                    let op = asker.ops.get_mut(op_id).map(|op| &mut op.stage);
                    if let Some(Stage::Looking(looking)) = op
                        && !looking.repeated.remove(&peer)
                    {
                        looking.lookup.on_late(&peer);
                    }
                }
                LookupEvent::Over(request, peer) => {
                    let Some((op_id, _)) = asker.by_request.remove(&request) else { continue };
                    touched.insert(op_id);
                    self.measures.silences += 1;
                    if let Some(op) = asker.ops.get_mut(&op_id) {
                        op.on_failure(&peer, Failure::Silent);
                    }
                }
                LookupEvent::Evict(_) => {}
            }
        }
        // A slot may be free.
        let all: Vec<_> = asker.ops.keys().copied().collect();
        touched.extend(all);
        self.advance(id, &mut asker, touched);
        self.end_turn(id, asker);
    }

    pub(crate) fn on_deadline(&mut self, id: NodeId, op_id: OpId) {
        let Some(mut asker) = self.askers.remove(&id) else { return };
        if let Some(op) = asker.ops.get_mut(&op_id)
            && op.deadline <= self.now
        {
            match &mut op.stage {
                Stage::Looking(looking) => {
                    looking.is_over = true;
                    if !op.has_returned {
                        self.measures.timed_out += 1;
                    }
                    self.advance(id, &mut asker, [op_id]);
                }
                Stage::Sending(_) => {
                    let op = asker.ops.remove(&op_id);
                    if let Some(mut op) = op {
                        self.return_write(&mut op);
                    }
                }
            }
        }
        self.end_turn(id, asker);
    }

    pub(crate) fn on_answer(&mut self, request: Request, answer: Answer) {
        let Request { asker: id, op: op_id, id: request_id, to, .. } = request;
        let Some(mut asker) = self.askers.remove(&id) else { return };
        let is_known = asker.by_request.remove(&request_id).is_some();
        if !is_known || asker.requests.on_answer(request_id, self.elapsed()).is_none() {
            return self.end_turn(id, asker);
        }
        asker.connected.insert(to, self.now);
        let peer = self.nodes[to as usize].peer;
        let now = self.clock_of(id);
        if let Some(op) = asker.ops.get_mut(&op_id) {
            match &mut op.stage {
                Stage::Looking(looking) if !answer.is_ack => {
                    if !looking.repeated.remove(&peer) {
                        let named = answer.named.iter().map(|node| self.named(*node));
                        let named: Vec<_> = named.collect();
                        let subnets = self.subnets(to);
                        looking.lookup.on_answer(&peer, subnets, named);
                    }
                    match answer.value {
                        Some(value) => {
                            looking.is_sliced |= value.len() >= SLICE;
                            looking.holders.insert(peer);
                            let record = kad::Record {
                                key: self.keys[op.key as usize].kad.clone(),
                                value: value.into(),
                                publisher: None,
                                expires: None,
                            };
                            let found = PeerRecord { peer: Some(peer), record };
                            let found = Ok(GetRecordOk::FoundRecord(found));
                            let reader = &mut looking.reader;
                            let verdicts = &self.verdicts;
                            let add = || reader.on_progress(&found, false, now);
                            verdicts.during(Duration::MAX, add);
                        }
                        None => looking.empty.push(peer),
                    }
                }
                Stage::Sending(sending) if answer.is_ack => sending.on_taken(peer, to),
                _ => {}
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
            let mut goes_on = true;
            while goes_on {
                goes_on = match &mut op.stage {
                    Stage::Looking(_) => self.look(id, asker, op_id, &mut op),
                    Stage::Sending(_) => {
                        self.deliver(id, asker, op_id, &mut op);
                        false
                    }
                };
            }
            let is_over = match &op.stage {
                Stage::Looking(_) => false,
                Stage::Sending(sending) => sending.queue.is_empty() && sending.under_way.is_empty(),
            };
            if is_over {
                self.return_write(&mut op);
            } else {
                asker.ops.insert(op_id, op);
            }
        }
    }

    /// Continues a read. Returns whether it has become something else.
    fn look(&mut self, id: NodeId, asker: &mut Asker, op_id: OpId, op: &mut Op) -> bool {
        let now = self.elapsed();
        let wall_clock = self.clock_of(id);
        let Stage::Looking(looking) = &mut op.stage else { return false };
        let is_client = op.purpose == Purpose::Get;
        if is_client
            && !op.has_returned
            && !looking.is_sliced
            && looking.lookup.has_answers(ENOUGH, &asker.size)
        {
            op.has_returned = true;
            self.measures.reads.add(self.now - op.begun);
        }
        loop {
            let Asker { requests, size, .. } = &mut *asker;
            let may_be_enough = is_client && !op.has_returned && !looking.is_sliced;
            let expects = may_be_enough && looking.lookup.expects_answers(ENOUGH, size);
            let next = match expects || looking.is_over {
                true => None,
                false => looking.lookup.next(requests, size, now),
            };
            let next = next.or_else(|| {
                let has_room = looking.repeated.len() < REPEATED && !looking.is_over;
                let peer = *looking.again.front().filter(|_| has_room)?;
                let request =
                    requests.begin(peer, looking.lookup.target().distance_of(&peer), now)?;
                looking.again.pop_front();
                looking.repeated.insert(peer);
                Some((request, peer))
            });
            if let Some((request, peer)) = next {
                self.ask(id, asker, op_id, op.key, request, peer, Message::Get);
                continue;
            }
            let is_round_over = looking.again.is_empty() && looking.repeated.is_empty();
            let is_settled = looking.lookup.is_settled(requests, size, now) && is_round_over;
            if (is_settled && !looking.has_all_rounds) || looking.is_over {
                let key = self.keys[op.key as usize].kad.clone();
                let empty = std::mem::take(&mut looking.empty);
                let ended = Err(GetRecordError::NotFound { key, closest_peers: empty });
                let step = looking.reader.on_progress(&ended, true, wall_clock);
                if step == ReadStep::LookUpAgain && !looking.is_over {
                    looking.again = looking.holders.iter().copied().collect();
                    self.measures.rounds += 1;
                    continue;
                }
                looking.has_all_rounds = true;
            }
            break;
        }
        let is_enough = looking.has_all_rounds && looking.lookup.has_quorum();
        if is_client && !op.has_returned && (is_enough || looking.is_over) {
            op.has_returned = true;
            self.measures.reads.add(self.now - op.begun);
        }
        let is_settled = looking.has_all_rounds
            && looking.lookup.is_settled(&asker.requests, &asker.size, now)
            || looking.is_over;
        if is_settled {
            self.end_read(id, asker, op);
        }
        is_settled
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
        peer: PeerId,
        message: Message,
    ) {
        let Some(to) = self.by_peer.get(&peer).copied() else { return };
        asker.by_request.insert(request, (op, to));
        let used = asker.connected.get(&to).copied();
        let is_connected = used.is_some_and(|at| self.now - at <= link::IDLE);
        if !is_connected && asker.connected.len() > 256 {
            let idle = self.now.saturating_sub(link::IDLE);
            asker.connected.retain(|_, at| *at >= idle);
        }
        self.measures.requests += 1;
        self.send(Request { asker: id, op, id: request, key, to }, message, is_connected);
    }

    /// Handles the end of a read: stores what was found, and turns it into what follows.
    fn end_read(&mut self, id: NodeId, asker: &mut Asker, op: &mut Op) {
        let now = self.clock_of(id);
        let sending = Stage::Sending(Sending::default());
        let Stage::Looking(looking) = std::mem::replace(&mut op.stage, sending) else { return };
        let Looking { lookup, reader, .. } = *looking;
        lookup.measure(&mut asker.size, self.elapsed());
        self.measures.lookups.add(lookup.asked() as u64);
        let reading = reader.into_reading(now);
        let closest = lookup.closest(&asker.size);
        if op.purpose == Purpose::Get {
            self.measures.complete += u64::from(reading.is_complete());
            self.check_reading(id, op.key, op.begun, &reading);
        }
        self.store_found(id, op.key, &lookup, &closest, &reading);
        let (chunks, peers, needed) = match op.purpose {
            Purpose::Get | Purpose::Replicate => {
                let (chunks, peers) = self.repairs(id, &closest, &reading);
                self.measures.repaired += peers.len() as u64;
                (chunks, peers, usize::MAX)
            }
            Purpose::Write { writer, .. } => {
                let replicas = lookup.replicas(&asker.size);
                let chunks = self.content(writer, &reading);
                (chunks, replicas, majority(closest.len()))
            }
        };
        let queue = match chunks.is_empty() {
            true => VecDeque::new(),
            false => peers.into_iter().map(|peer| (peer, 0)).collect(),
        };
        op.stage = Stage::Sending(Sending {
            chunks,
            queue,
            under_way: BTreeMap::new(),
            taken: Vec::new(),
            needed,
        });
        op.deadline = op.begun + DEADLINE + BACKGROUND;
    }

    /// A server that is one of the closest to a key keeps what it has read.
    fn store_found(
        &mut self,
        id: NodeId,
        key: KeyId,
        lookup: &Lookup,
        closest: &[PeerId],
        reading: &Reading,
    ) {
        let node = &self.nodes[id as usize];
        let last = closest.get(K - 1).map(|peer| lookup.target().distance_of(peer));
        let own = lookup.target().distance_of(&node.peer);
        let is_close = last.is_none_or(|last| own < last);
        if !node.is_server || node.kind != Kind::Ours || !is_close || reading.is_empty() {
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
        let lacks = |peer: &&PeerId| **peer != local && !has.contains(*peer) && !agrees(peer);
        let peers: Vec<_> = closest.iter().take(K).filter(lacks).copied().collect();
        if peers.is_empty() {
            return nothing;
        }
        (pieces(record, REPAIR_CHUNKS), peers)
    }

    /// What a writer sends: all that is known if it fits into one packet, or else its space.
    fn content(&mut self, writer: usize, reading: &Reading) -> Arc<[Bytes]> {
        let now = self.clock_of(self.writers[writer].node);
        let own = self.writers[writer].signer.record(now);
        let mut all = own.clone();
        if let Some(found) = reading.snapshot.record() {
            // Keys are the same.
            let _ = all.join(found.clone());
        }
        all.collect(now);
        let all = all.encode();
        if all.len() <= CHUNK { Arc::from([Bytes::from(all)]) } else { pieces(&own, usize::MAX) }
    }

    fn deliver(&mut self, id: NodeId, asker: &mut Asker, op_id: OpId, op: &mut Op) {
        let now = self.elapsed();
        let Stage::Sending(sending) = &mut op.stage else { return };
        let place = self.keys[op.key as usize].place;
        let mut waiting = VecDeque::new();
        while let Some((peer, number)) = sending.queue.pop_front() {
            let requests = &mut asker.requests;
            let Some(request) = requests.begin(peer, place.distance_of(&peer), now) else {
                waiting.push_back((peer, number));
                continue;
            };
            sending.under_way.insert(peer, number);
            let chunk = sending.chunks[number].clone();
            self.measures.puts += 1;
            self.ask(id, asker, op_id, op.key, request, peer, Message::Put(chunk));
        }
        sending.queue = waiting;
        if sending.taken.len() >= sending.needed {
            self.return_write(op);
        }
    }

    /// Tells a writer who has taken what it has written.
    fn return_write(&mut self, op: &mut Op) {
        let (Purpose::Write { writer, is_new }, Stage::Sending(sending)) = (op.purpose, &op.stage)
        else {
            return;
        };
        if std::mem::replace(&mut op.has_returned, true) {
            return;
        }
        if is_new {
            self.measures.writes.add(self.now - op.begun);
        }
        let taken = sending.taken.clone();
        self.on_written(writer, &taken);
    }
}

impl Op {
    fn on_failure(&mut self, peer: &PeerId, failure: Failure) {
        match &mut self.stage {
            Stage::Looking(looking) => {
                if !looking.repeated.remove(peer) {
                    looking.lookup.on_failure(peer, failure);
                }
            }
            Stage::Sending(sending) => {
                sending.under_way.remove(peer);
            }
        }
    }
}

impl Sending {
    fn on_taken(&mut self, peer: PeerId, node: NodeId) {
        let Some(number) = self.under_way.remove(&peer) else { return };
        if number + 1 < self.chunks.len() {
            self.queue.push_back((peer, number + 1));
        } else {
            self.taken.push(node);
        }
    }
}

/// `WritePolicy::Majority`.
fn majority(closest: usize) -> usize {
    (closest / 2 + 1).max(3).min(closest)
}

fn pieces(record: &SmartRecord, most: usize) -> Arc<[Bytes]> {
    record.chunks(CHUNK).take(most).map(Bytes::from).collect()
}
