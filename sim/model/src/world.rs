//! The network: its nodes, its messages, and the queue of what happens next.
//!
//! **Invariants.** One thread and one queue. What happens at the same time happens in the order in
//! which it was decided. All that is drawn comes from one seed, so a run is its seed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    net::Ipv4Addr,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad as kad;
use libp2p_smart_record::{
    Clock, RecordKey, Registry, SignatureMemory, Timestamp,
    store::{StoreConfig, ValidatedRecord},
};
use smart_record_lookup::{LookupConfig, Place, RequestId, Subnet};
use smart_record_sim_entropy::Random;

use crate::{
    asker::{Asker, OpId, Purpose},
    churn::{self, Sessions},
    ids::{FORGET, Ids, NodeId, Partition, Point, hash},
    link,
    measure::Measures,
    node::{CLIENTS, KeyId, Kind, Node, Rules, Store, id, point},
    time::{HOUR, ModelClock, Time, duration, time},
    writer::Writer,
};

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    pub(crate) sessions: Option<Sessions>,
    /// Of a hundred servers.
    pub(crate) silent_percent: u64,
    pub(crate) plain_percent: u64,
    /// The clocks of nodes are off by up to this, either way.
    pub(crate) skew_ms: u64,
    /// Whether peers have subnets, which costs time.
    pub(crate) has_subnets: bool,
    /// Whether sybils name only each other. Otherwise they name whom they know.
    pub(crate) sybils_lie: bool,
    pub(crate) refresh: Time,
    pub(crate) replicate: Option<Time>,
    /// Within this time nodes that were there before the start have their first turn of
    /// replication; `None`: within the interval.
    pub(crate) first_turn: Option<Time>,
    /// Of lookups that a client waits for.
    pub(crate) parallelism: usize,
    pub(crate) store: StoreConfig,
    /// Whether clients forget what they know of peers between two operations, to save memory.
    pub(crate) clients_forget: bool,
}

impl Config {
    pub(crate) fn new(seed: u64, servers: usize) -> Self {
        let defaults = libp2p_smart_record::behaviour::BehaviourConfig::default();
        Self {
            seed,
            servers,
            sessions: None,
            silent_percent: 0,
            plain_percent: 0,
            skew_ms: 0,
            has_subnets: false,
            sybils_lie: false,
            refresh: time(defaults.refresh_interval()),
            replicate: defaults.replication_interval().map(time),
            first_turn: None,
            parallelism: LookupConfig::default().parallelism(),
            store: StoreConfig::default(),
            clients_forget: false,
        }
    }
}

/// A key, in all forms in which it is needed.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) key: RecordKey,
    pub(crate) kad: kad::RecordKey,
    pub(crate) place: Place,
    pub(crate) point: Point,
    /// Where its turns begin.
    pub(crate) offset: u8,
}

/// What is sent to a peer.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Get,
    Put(Bytes),
}

/// Its answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) named: Vec<NodeId>,
    pub(crate) value: Option<Bytes>,
}

/// A request of an operation of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) asker: NodeId,
    pub(crate) op: OpId,
    pub(crate) id: RequestId,
    pub(crate) key: KeyId,
    pub(crate) to: NodeId,
}

#[derive(Debug)]
enum Event {
    Arrive(Request, Message, Time),
    Answer(Request, Answer),
    /// The requests of a node have to be looked at.
    Poll(NodeId),
    /// The deadline of an operation.
    Deadline(NodeId, OpId),
    /// A turn of a node's replication.
    Turn(NodeId),
    /// A writer has to send again.
    Due(usize),
    Join,
    Leave(NodeId),
    Forget(NodeId),
}

impl Event {
    /// What distinguishes it in the trace.
    fn number(&self) -> u64 {
        match self {
            Self::Arrive(request, ..) => 1 + (u64::from(request.to) << 4),
            Self::Answer(request, answer) => {
                let value = answer.value.iter().flatten();
                let value = value.fold(0, |sum: u64, byte| sum.wrapping_mul(31) ^ u64::from(*byte));
                hash(value, 2 + (u64::from(request.asker) << 4) + (answer.named.len() as u64))
            }
            Self::Poll(asker) => 3 + (u64::from(*asker) << 4),
            Self::Deadline(asker, op) => 4 + (u64::from(asker ^ op) << 4),
            Self::Turn(node) => 5 + (u64::from(*node) << 4),
            Self::Due(writer) => 6 + ((*writer as u64) << 4),
            Self::Join => 7,
            Self::Leave(node) => 8 + (u64::from(*node) << 4),
            Self::Forget(node) => 9 + (u64::from(*node) << 4),
        }
    }
}

#[derive(Debug)]
struct Queued {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// How many values that were checked are remembered.
const CHECKED: usize = 20_000;

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) now: Time,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) handled: u64,
    /// A hash of all that has happened.
    pub(crate) trace: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_peer: HashMap<PeerId, NodeId>,
    pub(crate) ids: Ids,
    pub(crate) partition: Partition,
    pub(crate) askers: BTreeMap<NodeId, Box<Asker>>,
    /// When the connection of two nodes was last used.
    connections: HashMap<(NodeId, NodeId), Time>,
    /// How many there may be before the idle ones are forgotten.
    forget_connections_at: usize,
    pub(crate) keys: Vec<Key>,
    key_ids: BTreeMap<RecordKey, KeyId>,
    /// The nodes that were ever sent something under a key, and are up.
    pub(crate) sent_to: Vec<BTreeSet<NodeId>>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) rules: Rules,
    /// The verdicts on signatures, of all nodes together.
    pub(crate) verdicts: SignatureMemory,
    checked: HashMap<(KeyId, Bytes), ValidatedRecord>,
    pub(crate) random: Random,
    pub(crate) measures: Measures,
    clients: u64,
    joined: u64,
    sybils: Vec<NodeId>,
    pub(crate) sybil_subnets: u64,
}

impl World {
    /// A network of servers that have been there for long.
    pub(crate) fn new(config: Config) -> Self {
        let mut random = Random::new(config.seed);
        let mut nodes: Vec<_> =
            (0..config.servers).map(|n| Node::new(config.seed, n as u64, true)).collect();
        for node in &mut nodes {
            node.kind = kind(&config, node.salt);
        }
        let clock = ModelClock::default();
        let rules = Rules {
            registry: Registry::default(),
            store: config.store.clone(),
            clock,
            skew_ms: config.skew_ms,
            forgets: false,
        };
        let by_peer = (0..).zip(&nodes).map(|(id, node)| (node.peer, id)).collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            handled: 0,
            trace: 0,
            ids: Ids::from_nodes(&nodes),
            nodes,
            by_peer,
            partition: Partition::default(),
            askers: BTreeMap::new(),
            connections: HashMap::new(),
            forget_connections_at: 1_024,
            keys: Vec::new(),
            key_ids: BTreeMap::new(),
            sent_to: Vec::new(),
            writers: Vec::new(),
            rules,
            verdicts: SignatureMemory::new(256 << 20),
            checked: HashMap::new(),
            measures: Measures::default(),
            clients: CLIENTS,
            joined: 1 << 32,
            sybils: Vec::new(),
            sybil_subnets: 1,
            random: random.split(),
            config,
        };
        if let Some(sessions) = world.config.sessions {
            for node in 0..world.config.servers {
                let rest = sessions.draw_rest(&mut world.random);
                world.at(rest, Event::Leave(id(node)));
            }
            world.plan_join(sessions);
        }
        world
    }

    fn at(&mut self, at: Time, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Queued { at: at.max(self.now), number: self.queued, event }));
    }

    pub(crate) fn poll_at(&mut self, at: Time, asker: NodeId) {
        self.at(at, Event::Poll(asker));
    }

    pub(crate) fn deadline_at(&mut self, at: Time, asker: NodeId, op: OpId) {
        self.at(at, Event::Deadline(asker, op));
    }

    pub(crate) fn due_at(&mut self, at: Time, writer: usize) {
        self.at(at, Event::Due(writer));
    }

    pub(crate) fn turn_at(&mut self, at: Time, node: NodeId) {
        self.at(at, Event::Turn(node));
    }

    /// The time of a clock that is right.
    pub(crate) fn wall_clock(&self) -> Timestamp {
        self.rules.clock.now()
    }

    /// The time of the clock of a node.
    pub(crate) fn clock_of(&self, id: NodeId) -> Timestamp {
        let skew = self.rules.skew(self.nodes[id as usize].salt);
        self.rules.clock.off_by(skew).now()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        duration(self.now)
    }

    /// Lets everything happen until then.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= until) {
            let Some(Reverse(Queued { at, event, .. })) = self.queue.pop() else { break };
            self.set_time(at);
            self.handled += 1;
            self.handle(event);
        }
        self.set_time(until);
    }

    fn set_time(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.rules.clock.set(self.now);
        // What reads the clock by itself reads the same one.
        let limit = smart_record_sim_clock::now();
        let ahead = duration(self.now).saturating_sub(smart_record_sim_clock::elapsed());
        smart_record_sim_clock::advance(limit.saturating_add(ahead));
    }

    fn handle(&mut self, event: Event) {
        self.trace = hash(self.trace, self.now ^ event.number() << 40);
        match event {
            Event::Arrive(request, message, back) => self.on_message(request, message, back),
            Event::Answer(request, answer) => self.on_answer(request, answer),
            Event::Poll(asker) => self.on_poll(asker),
            Event::Deadline(asker, op) => self.on_deadline(asker, op),
            Event::Turn(node) => self.on_turn(node),
            Event::Due(writer) => self.on_due(writer),
            Event::Join => self.on_join(),
            Event::Leave(node) => self.on_leave(node),
            Event::Forget(node) => self.ids.remove(self.nodes[node as usize].place, node),
        }
    }

    // Nodes.

    fn plan_join(&mut self, sessions: Sessions) {
        let pause = churn::pause(&mut self.random, sessions.mean(), self.config.servers);
        self.at(self.now + pause, Event::Join);
    }

    fn on_join(&mut self) {
        let Some(sessions) = self.config.sessions else { return };
        self.plan_join(sessions);
        self.joined += 1;
        let mut node = Node::new(self.config.seed, self.joined, true);
        node.kind = kind(&self.config, node.salt);
        let stays = sessions.draw(&mut self.random);
        let id = self.add(node);
        self.at(self.now + stays, Event::Leave(id));
    }

    /// Adds a server that has just started, or a client.
    pub(crate) fn add(&mut self, mut node: Node) -> NodeId {
        node.joined_at = self.now;
        let id = id(self.nodes.len());
        self.by_peer.insert(node.peer, id);
        if node.is_server {
            self.ids.insert(node.place, id);
        }
        self.nodes.push(node);
        id
    }

    pub(crate) fn add_client(&mut self) -> NodeId {
        self.clients += 1;
        self.add(Node::new(self.config.seed, self.clients, false))
    }

    pub(crate) fn add_sybil(&mut self, node: Node) {
        let id = self.add(Node { kind: Kind::Sybil, ..node });
        self.sybils.push(id);
    }

    /// A node leaves without a word, and what it stored is gone.
    pub(crate) fn on_leave(&mut self, id: NodeId) {
        let node = &mut self.nodes[id as usize];
        if node.left_at.is_some() {
            return;
        }
        node.left_at = Some(self.now);
        node.store = Default::default();
        let turns = std::mem::take(&mut node.turns);
        self.askers.remove(&id);
        for key in turns.keys.into_values() {
            self.sent_to[key as usize].remove(&id);
        }
        self.at(self.now + FORGET, Event::Forget(id));
    }

    /// All servers restart with empty stores: storage in memory. Operations under way end.
    pub(crate) fn restart_all(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_server && node.left_at.is_none()) {
            node.store = Default::default();
            node.turns = Default::default();
        }
        let nodes = &self.nodes;
        self.askers.retain(|id, _| !nodes[*id as usize].is_server);
        self.sent_to.iter_mut().for_each(BTreeSet::clear);
    }

    /// The servers that are up and closest to a key, the closest first.
    pub(crate) fn closest(&self, key: KeyId, count: usize) -> Vec<NodeId> {
        let point = self.keys[key as usize].point;
        self.ids.closest(&self.nodes, point, count, |_, node| node.is_up())
    }

    // Keys.

    pub(crate) fn key(&mut self, key: &str) -> KeyId {
        let key = RecordKey::new(key);
        if let Some(id) = self.key_ids.get(&key) {
            return *id;
        }
        let id = id(self.keys.len());
        let digest = key.digest();
        self.keys.push(Key {
            kad: kad::RecordKey::new(&key),
            place: Place::of_key(key.as_bytes()),
            point: point(&digest),
            offset: digest[0],
            key: key.clone(),
        });
        self.key_ids.insert(key, id);
        self.sent_to.push(BTreeSet::new());
        id
    }

    // Messages.

    /// Sends a request. It is lost if it cannot arrive.
    pub(crate) fn send(&mut self, request: Request, message: Message) {
        let Request { asker, to, key, .. } = request;
        let size = link::FRAME_BYTES
            + self.keys[key as usize].key.as_bytes().len() as u64
            + match &message {
                Message::Get => 0,
                Message::Put(value) => value.len() as u64,
            };
        let (from, other) = (&self.nodes[asker as usize], &self.nodes[to as usize]);
        let is_lost = !other.is_up()
            || other.kind == Kind::Silent
            || self.partition.is_on() && from.side != other.side;
        let used = self.connections.get(&pair(asker, to));
        let is_connected = used.is_some_and(|at| self.now <= at + link::IDLE);
        let whole = link::exchange(from, other, is_connected);
        if is_lost {
            // Who is gone is dialled in vain.
            self.nodes[asker as usize].traffic.sent += if is_connected { size } else { 0 };
            return;
        }
        self.transfer(asker, to, size);
        if !is_connected {
            self.measures.connections += 1;
            self.used(asker, to);
            self.transfer(asker, to, link::CONNECT_BYTES);
            self.transfer(to, asker, link::CONNECT_BYTES);
        }
        let half = whole / 2;
        self.at(self.now + whole - half, Event::Arrive(request, message, half));
    }

    /// Notes that the connection of two nodes was used, from whichever side.
    pub(crate) fn used(&mut self, a: NodeId, b: NodeId) {
        if self.connections.len() >= self.forget_connections_at {
            let idle = self.now.saturating_sub(link::IDLE);
            self.connections.retain(|_, at| *at >= idle);
            self.forget_connections_at = (2 * self.connections.len()).max(1_024);
        }
        self.connections.insert(pair(a, b), self.now);
    }

    fn transfer(&mut self, from: NodeId, to: NodeId, bytes: u64) {
        self.nodes[from as usize].traffic.sent += bytes;
        self.nodes[to as usize].traffic.received += bytes;
        self.measures.bytes += bytes;
    }

    fn on_message(&mut self, request: Request, message: Message, back: Time) {
        let Request { asker, to, key, .. } = request;
        if !self.nodes[to as usize].is_up() {
            return;
        }
        self.measures.messages += 1;
        let of_key = &self.keys[key as usize];
        let answer = match message {
            Message::Get => {
                let (kad, point) = (of_key.kad.clone(), of_key.point);
                let Node { peer, salt, .. } = self.nodes[asker as usize];
                let value = self.nodes[to as usize].get(&kad, peer, salt);
                Answer { named: self.names(to, asker, point), value }
            }
            Message::Put(value) => {
                self.store(to, key, &value);
                Answer { named: Vec::new(), value: Some(value) }
            }
        };
        let bytes = link::FRAME_BYTES
            + self.keys[key as usize].key.as_bytes().len() as u64
            + answer.value.as_ref().map_or(0, |value| value.len() as u64)
            + answer.named.len() as u64 * link::NAMED_BYTES;
        self.transfer(to, asker, bytes);
        self.at(self.now + back, Event::Answer(request, answer));
    }

    /// The peers that a peer names when it is asked.
    fn names(&self, to: NodeId, asker: NodeId, point: Point) -> Vec<NodeId> {
        let mut named = if self.nodes[to as usize].kind == Kind::Sybil && self.config.sybils_lie {
            let mut sybils = self.sybils.clone();
            sybils.sort_unstable_by_key(|id| self.nodes[*id as usize].place ^ point);
            sybils
        } else {
            self.ids.known_to(&self.nodes, to, point, self.partition, self.now)
        };
        named.retain(|id| *id != asker && *id != to);
        named.truncate(crate::ids::K);
        named
    }

    /// Stores a value at a node.
    pub(crate) fn store(&mut self, to: NodeId, key: KeyId, value: &Bytes) {
        let checked = self.check(to, key, value);
        if matches!(self.nodes[to as usize].store, Store::Empty) {
            self.tell_neighbours(to);
        }
        let node = &mut self.nodes[to as usize];
        node.put(&self.rules, &checked, value);
        self.sent_to[key as usize].insert(to);
        if node.kind == Kind::Ours {
            self.has_key(to, key);
        }
    }

    /// Tells a new store which peers are closest to its node, so that the replicas of a large
    /// record begin their slices in different parts of it.
    fn tell_neighbours(&mut self, id: NodeId) {
        if self.nodes[id as usize].kind != Kind::Ours {
            return;
        }
        let place = self.nodes[id as usize].place;
        let known = self.ids.known_to(&self.nodes, id, place, self.partition, self.now);
        let digest = |id: NodeId| {
            let mut digest = [0; 32];
            digest[..16].copy_from_slice(&self.nodes[id as usize].place.to_be_bytes());
            digest
        };
        let digests = known.into_iter().map(digest).collect();
        self.nodes[id as usize].ours(&self.rules).set_neighbours(digests);
    }

    /// Checks a value that a node is sent: once for all, if their clocks are the same.
    fn check(&mut self, to: NodeId, key: KeyId, value: &Bytes) -> ValidatedRecord {
        if let Some(checked) = self.checked.get(&(key, value.clone())) {
            return checked.clone();
        }
        let now = self.clock_of(to);
        let of_key = self.keys[key as usize].key.clone();
        let registry = &self.rules.registry;
        let check = || ValidatedRecord::new(registry, of_key, value, now);
        let (checked, _) = self.verdicts.during(Duration::MAX, check);
        if self.checked.len() >= CHECKED {
            self.checked.clear();
        }
        if self.config.skew_ms == 0 {
            self.checked.insert((key, value.clone()), checked.clone());
        }
        checked
    }

    /// The subnets of a peer, if they count.
    pub(crate) fn subnets(&self, node: NodeId) -> BTreeSet<Subnet> {
        if !self.config.has_subnets {
            return BTreeSet::new();
        }
        let node = &self.nodes[node as usize];
        let number = match node.kind {
            Kind::Sybil => 0x0a00_0000 + ((node.salt % self.sybil_subnets) << 8),
            _ => 0x1400_0000 + (hash(node.salt, 5) % (1 << 28)),
        };
        let address = Ipv4Addr::from(number as u32);
        BTreeSet::from([Subnet::new(address.into(), 24, 48)])
    }

    /// Starts an operation of a node.
    pub(crate) fn begin(&mut self, asker: NodeId, key: KeyId, purpose: Purpose) {
        self.begin_op(asker, key, purpose);
    }

    /// Mean bytes that a server has sent and received in an hour.
    pub(crate) fn traffic_per_hour(&self, since: Time) -> f64 {
        let of = |node: &Node| (node.traffic.sent + node.traffic.received) as f64;
        let servers = self.nodes.iter().filter(|node| node.is_server);
        let all: f64 = servers.map(of).sum();
        let hours = (self.now - since) as f64 / HOUR as f64;
        all / hours / self.config.servers as f64
    }

    pub(crate) fn reset_traffic(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.traffic = Default::default());
    }
}

/// Two nodes, in order.
fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

/// How a server behaves, by its salt.
fn kind(config: &Config, salt: u64) -> Kind {
    let drawn = hash(salt, 3) % 100;
    if drawn < config.silent_percent {
        Kind::Silent
    } else if drawn < config.silent_percent + config.plain_percent {
        Kind::Plain
    } else {
        Kind::Ours
    }
}
