//! A run: the nodes of a scenario, its plan, and the checks at every step.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Formatter},
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_timer::Delay;
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad as kad;
use libp2p_smart_record::{
    Clock, Limits, RecordKey, Seq, SmartRecord, SpaceSigner, StampSearch, Writer,
    client::{Client, ClientError},
    store::storage::RecordId,
};
use smart_record_sim_clock as clock;
use smart_record_sim_entropy::Random;

use crate::{
    checks::{Acknowledged, Check, Read, ShownSpace, SpaceTruth, Violation, check_read},
    executor::Executor,
    network::{HostId, Network, Traffic},
    node::{Kind, Node, Setup, SkewedClock},
    scenario::{Act, Plan, Scenario, minutes},
    storage::Disk,
    trace::Trace,
};

/// Time between checks.
const STEP: Duration = minutes(1);

/// After it has started, was cut off or was silent, a node has this time to find its way.
const SETTLES: Duration = minutes(2);

/// Time between a write and looking who has it.
const IS_SENT: Duration = Duration::from_secs(3);

/// Keeps what the world draws apart from what its plan does.
const WORLD: u64 = 1 << 32;

/// Number of nodes that a node knows when it starts.
const KNOWN: u64 = 3;

/// What the tasks of clients report.
#[derive(Debug)]
enum Outcome {
    Written { writer: u32, began: Duration, write: Acknowledged },
    Sent { writer: u32, space: Writer, write: Acknowledged },
    NotWritten { writer: u32, why: String },
    Read { read: Read, took: Duration },
    NotRead { reader: u32, why: String },
}

type Outcomes = Arc<Mutex<Vec<Outcome>>>;

fn push(outcomes: &Outcomes, outcome: Outcome) {
    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
}

/// A place in the network, with or without a process.
struct Place {
    setup: Setup,
    keypair: Keypair,
    peer: PeerId,
    id: kad::KBucketKey<PeerId>,
    disk: Disk,
    clock: SkewedClock,
    running: Option<Node>,
    /// When it last started, or its links changed.
    disturbed: Duration,
    is_silent: bool,
}

/// How long operations took.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// The time within which this percentage of the operations ended.
    #[must_use]
    pub fn within(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let rank = (times.len() * percent).div_ceil(100);
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// What is counted in an hour, or from the start on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hour {
    /// Bytes that all servers sent.
    pub sent: u64,
    /// Connections of all nodes.
    pub connections: u64,
    /// Requests of all nodes.
    pub requests: u64,
}

/// Figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Nodes.
    pub nodes: u32,
    /// Virtual time.
    pub lasted: Duration,
    /// Writes that were begun, and those that a majority kept.
    pub writes: [u64; 2],
    /// How long the writes took, also those that were not acknowledged in time.
    pub write_times: Times,
    /// Reads that were begun, that had a result, and that were complete.
    pub reads: [u64; 3],
    /// How long the reads took that had a result.
    pub read_times: Times,
    /// Connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Traffic of all servers.
    pub servers: Traffic,
    /// What was counted in each hour.
    pub hours: Vec<Hour>,
    /// Number of servers.
    pub server_count: u32,
    /// Most bytes that one server sent.
    pub most_sent: u64,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What must not be, without what the scenario exempts.
    pub violations: Vec<Violation>,
    /// What the scenario exempts.
    pub exempted: Vec<Violation>,
    /// Hash of the trace.
    pub hash: String,
    /// Figures.
    pub figures: Figures,
}

/// A run.
pub struct World {
    scenario: Scenario,
    executor: Executor,
    network: Network,
    trace: Trace,
    random: Random,
    begin: Duration,
    places: Vec<Place>,
    truths: BTreeMap<u32, BTreeMap<PeerId, SpaceTruth>>,
    writes: BTreeMap<u32, u64>,
    outcomes: Outcomes,
    violations: Vec<Violation>,
    skew: u64,
    figures: Figures,
}

impl Debug for World {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("scenario", &self.scenario.name).finish_non_exhaustive()
    }
}

fn board_key(board: u32) -> RecordKey {
    RecordKey::new(format!("/sr/boards/{board}"))
}

fn draw_key(random: &mut Random) -> Keypair {
    let mut secret = [0; 32];
    for chunk in secret.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    Keypair::ed25519_from_bytes(secret).expect("32 bytes are a key")
}

/// Draws keys until one is closer to a key than all others but sybils: what a sybil does.
fn key_near(key: &RecordKey, others: &[Place], random: &mut Random) -> Keypair {
    let honest = others.iter().filter(|place| !matches!(place.setup.kind, Kind::Sybil(..)));
    let nearest = honest.map(|place| RecordId::new(&place.peer, key)).min();
    loop {
        let drawn = draw_key(random);
        let distance = RecordId::new(&drawn.public().to_peer_id(), key);
        if nearest.is_none_or(|nearest| distance < nearest) {
            return drawn;
        }
    }
}

impl World {
    /// The network of a scenario, in which nothing runs yet.
    ///
    /// # Panics
    /// Not with keys of 32 bytes.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed.wrapping_add(WORLD));
        let network = Network::new(scenario.links.clone(), random.split(), trace.clone());
        let place = |node: u32, others: &[Place], random: &mut Random| {
            let (host, kind) = (scenario.host(node), scenario.kind(node));
            network.add_host(host);
            let keypair = match kind {
                Kind::Sybil(board, _) => key_near(&board_key(board), others, random),
                _ => draw_key(random),
            };
            let is_server = node < scenario.servers;
            network.set_reachable(host, is_server && kind != Kind::Nat);
            let mut planted = scenario.planted;
            planted.loses_records &= is_server;
            let mode = if is_server { kad::Mode::Server } else { kad::Mode::Client };
            Place {
                setup: Setup {
                    host,
                    mode,
                    kind,
                    behaviour: scenario.behaviour.clone(),
                    store: scenario.store.clone(),
                    bootstrap_every: scenario.bootstrap_every,
                    bootstraps: !scenario.has_tables,
                    is_off_task: node.is_multiple_of(3),
                    planted,
                },
                peer: keypair.public().to_peer_id(),
                id: keypair.public().to_peer_id().into(),
                keypair,
                disk: Disk::default(),
                clock: SkewedClock::default(),
                running: None,
                disturbed: Duration::ZERO,
                is_silent: false,
            }
        };
        let mut places = Vec::new();
        for node in 0..scenario.nodes() {
            let next = place(node, &places, &mut random);
            places.push(next);
        }
        Self {
            executor: Executor::default(),
            network,
            trace,
            random,
            begin: clock::now(),
            places,
            truths: BTreeMap::new(),
            writes: BTreeMap::new(),
            outcomes: Outcomes::default(),
            violations: Vec::new(),
            skew: 0,
            figures: Figures::default(),
            scenario,
        }
    }

    /// Runs a plan to its end. `step` is called once for each hour of virtual time.
    #[must_use]
    pub fn run(mut self, plan: &Plan, mut step: impl FnMut(&Self)) -> Report {
        let (mut check_at, mut before) = (STEP, Hour::default());
        let lasts = self.scenario.lasts;
        let mut run_to = |world: &mut Self, at| {
            while check_at <= at {
                world.run_to(check_at);
                world.check();
                if check_at.as_secs().is_multiple_of(3_600) {
                    let now = world.counted();
                    world.figures.hours.push(Hour {
                        sent: now.sent - before.sent,
                        connections: now.connections - before.connections,
                        requests: now.requests - before.requests,
                    });
                    before = now;
                    step(world);
                }
                check_at += STEP;
            }
            world.run_to(at);
        };
        for (at, act) in plan.steps.iter().filter(|(at, _)| *at <= lasts) {
            run_to(&mut self, *at);
            self.act(act);
        }
        run_to(&mut self, lasts);
        self.check_equal(plan.last_fault());
        self.finish()
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        clock::now().saturating_sub(self.begin)
    }

    /// What was found until now.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    fn run_to(&mut self, at: Duration) {
        self.executor.run_until(self.begin + at);
        self.take_outcomes();
    }

    fn find(&mut self, check: Check, what: String) {
        let at = self.elapsed();
        self.trace.line(format_args!("FOUND {check}: {what}"));
        self.violations.push(Violation { check, at, what });
    }

    fn act(&mut self, act: &Act) {
        if !matches!(act, Act::Read(..) | Act::Write(_)) {
            self.trace.line(format_args!("{act:?}"));
        }
        match act {
            Act::Start(node) => self.start(*node),
            Act::Kill(node) => self.kill(*node),
            Act::RestartAll => {
                let running = |place: &Place| place.running.is_some();
                let nodes: Vec<u32> = (0..)
                    .zip(&self.places)
                    .filter(|(_, place)| running(place))
                    .map(|(node, _)| node)
                    .collect();
                nodes.iter().for_each(|node| self.kill(*node));
                nodes.iter().for_each(|node| self.start(*node));
            }
            Act::Partition(others) => {
                for node in others {
                    self.network.set_side(self.scenario.host(*node), 1);
                }
                self.disturb(|_| true);
            }
            Act::Heal => {
                for place in &self.places {
                    self.network.set_side(place.setup.host, 0);
                }
                self.disturb(|_| true);
            }
            Act::Silence(nodes) => {
                for node in nodes {
                    self.silence(*node, true);
                }
            }
            Act::Wake => {
                for node in 0..self.scenario.nodes() {
                    if self.place(node).is_some_and(|place| place.is_silent) {
                        self.silence(node, false);
                    }
                }
            }
            Act::Clocks(leads) => {
                for (node, lead) in leads {
                    self.skew = self.skew.max(lead.unsigned_abs());
                    if let Some(place) = self.place(*node) {
                        place.clock.set_lead(*lead);
                    }
                }
            }
            Act::StopWriters => {
                for writer in 0..self.scenario.all_writers() {
                    let node = self.scenario.writer(writer);
                    self.kill(node);
                    if node < self.scenario.servers {
                        self.start(node);
                    }
                }
            }
            Act::Join(nodes) => nodes.iter().for_each(|node| self.start(*node)),
            Act::Flood(spaces) => self.flood(*spaces),
            Act::Write(writer) => self.write(*writer),
            Act::Read(reader, board) => self.read(*reader, *board),
        }
    }

    fn place(&mut self, node: u32) -> Option<&mut Place> {
        self.places.get_mut(node as usize)
    }

    fn disturb(&mut self, is_it: impl Fn(u32) -> bool) {
        let now = self.elapsed();
        for (node, place) in (0..).zip(&mut self.places) {
            if is_it(node) {
                place.disturbed = now;
            }
        }
    }

    fn silence(&mut self, node: u32, is_silent: bool) {
        self.network.set_silent(self.scenario.host(node), is_silent);
        if let Some(place) = self.place(node) {
            place.is_silent = is_silent;
        }
        self.disturb(|it| it == node);
    }

    fn kill(&mut self, node: u32) {
        let running = self.place(node).and_then(|place| place.running.take());
        if let Some(running) = running {
            self.executor.kill(&running.spawner);
        }
    }

    fn start(&mut self, node: u32) {
        if self.place(node).is_none_or(|place| place.running.is_some()) {
            return;
        }
        let known = if self.scenario.has_tables { self.table(node) } else { self.few(node) };
        let Some(place) = self.places.get_mut(node as usize) else { return };
        let started = Node::start(
            &self.executor,
            &self.network,
            &self.trace,
            &place.keypair,
            &place.setup,
            &place.disk,
            &place.clock,
        );
        known.into_iter().for_each(|(peer, host)| started.add(peer, host));
        if place.setup.bootstraps {
            started.bootstrap();
        }
        place.running = Some(started);
        self.disturb(|it| it == node);
    }

    /// Those of the first servers that a node may know when it starts.
    fn others(&self, node: u32, servers: u32) -> impl Iterator<Item = &Place> {
        let own = self.scenario.host(node);
        let servers = self.places.iter().take(servers as usize);
        servers.filter(move |place| place.setup.host != own && !place.is_silent)
    }

    /// A few of the servers of ours that are up.
    fn few(&mut self, node: u32) -> Vec<(PeerId, HostId)> {
        let others = self.others(node, self.scenario.servers);
        let are_up: Vec<_> = others
            .filter(|place| place.running.is_some() && place.setup.kind == Kind::Ours)
            .map(|place| (place.peer, place.setup.host))
            .collect();
        let draw = |_| are_up.get(self.random.below(are_up.len() as u64) as usize).copied();
        (0..KNOWN).filter_map(draw).collect()
    }

    /// As many of the servers that are there from the start on as a node's routing table has room
    /// for.
    fn table(&self, node: u32) -> Vec<(PeerId, HostId)> {
        let Some(own) = self.places.get(node as usize) else { return Vec::new() };
        let servers = self.scenario.servers - self.scenario.late_servers;
        let distance = |place: &Place| own.id.distance(&place.id);
        let mut others: Vec<_> = self.others(node, servers).collect();
        // The last bits of a distance are as good as drawn, and the same for both of a pair: mostly
        // both have each other or neither the other, as when they have met.
        others.sort_by_cached_key(|place| distance(place).0.low_u64());
        let mut buckets = BTreeMap::<_, usize>::new();
        others.retain(|place| {
            let peers = buckets.entry(distance(place).ilog2()).or_default();
            *peers += 1;
            *peers <= kad::K_VALUE.get()
        });
        others.into_iter().map(|place| (place.peer, place.setup.host)).collect()
    }

    fn write(&mut self, writer: u32) {
        let number = self.writes.entry(writer).or_default();
        *number += 1;
        let text = match self.scenario.text_bytes {
            0 => String::new(),
            bytes => format!(", \"text\": \"{}\"", "x".repeat(bytes)),
        };
        let document = (!number.is_multiple_of(5)).then(|| format!("{{\"n\": {number}{text}}}"));
        let stamp_bits = if *number == 1 { self.scenario.stamp_bits } else { 0 };
        let (node, board) = (self.scenario.writer(writer), writer / self.scenario.writers);
        let (began, ttl, is_kept) = (self.elapsed(), self.scenario.ttl, self.scenario.is_kept);
        let Some(place) = self.places.get(node as usize) else { return };
        let truth = self.truths.entry(board).or_default().entry(place.peer).or_default();
        truth.begun = began;
        let Some(running) = &place.running else { return };
        let Some(client) = running.client.clone() else { return };
        self.figures.writes[0] += 1;
        let (clock, outcomes) = (place.clock.clone(), Arc::clone(&self.outcomes));
        let begin = self.begin;
        running.spawner.spawn(async move {
            let key = board_key(board);
            stamp(&client, &key, stamp_bits, &clock).await;
            match write(&client, &key, document, ttl, is_kept, begin).await {
                Ok(write) => {
                    push(&outcomes, Outcome::Written { writer, began, write: write.clone() });
                    Delay::new(IS_SENT).await;
                    let space = client.writer().clone();
                    push(&outcomes, Outcome::Sent { writer, space, write });
                }
                Err(error) => {
                    push(&outcomes, Outcome::NotWritten { writer, why: error.to_string() });
                }
            }
        });
    }

    fn read(&mut self, reader: u32, board: u32) {
        let node = self.scenario.reader(reader);
        let Some(place) = self.places.get(node as usize) else { return };
        let Some(running) = &place.running else { return };
        let Some(client) = running.client.clone() else { return };
        self.figures.reads[0] += 1;
        let outcomes = Arc::clone(&self.outcomes);
        let (began, clock) = (self.elapsed(), place.clock.clone());
        let began_at = clock::now();
        running.spawner.spawn(async move {
            let outcome = match client.get(board_key(board)).await {
                Ok(reading) => {
                    let shown = |(writer, space): (&libp2p_smart_record::Writer, _)| {
                        let space: &libp2p_smart_record::SpaceView = space;
                        ShownSpace {
                            writer: writer.peer_id(),
                            seq: space.seq,
                            expires_at: space.expires_at.as_millis(),
                            document: space.document.to_string(),
                        }
                    };
                    let read = Read {
                        reader: node,
                        board,
                        began,
                        now: clock.now().as_millis(),
                        is_complete: reading.is_complete(),
                        spaces: reading.view().iter().map(shown).collect(),
                    };
                    Outcome::Read { read, took: clock::now().saturating_sub(began_at) }
                }
                Err(error) => Outcome::NotRead { reader: node, why: error.to_string() },
            };
            push(&outcomes, outcome);
        });
    }

    /// Sends spaces of new writers to the servers closest to the key of the first board.
    fn flood(&mut self, spaces: u32) {
        let key = board_key(0);
        let node = self.scenario.flooder();
        let now = self.places[node as usize].clock.now();
        let mut record = SmartRecord::new(key.clone());
        for n in 0..spaces {
            let keypair = draw_key(&mut self.random);
            let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
            let document = format!("{{\"spam\": {n}}}");
            let document = document.parse().expect("the documents of scenarios are JSON");
            signer.replace(document, now, self.scenario.ttl).expect("it is within the limits");
            record.join(signer.record(now)).expect("the keys are the same");
        }
        let closest = self.closest(&key, node);
        let peers: Vec<_> = closest.iter().map(|place| place.peer).collect();
        let Some(flooder) = &self.places[node as usize].running else { return };
        for place in &closest {
            flooder.add(place.peer, place.setup.host);
        }
        for chunk in record.chunks(self.scenario.store.chunk_bytes()) {
            flooder.put_to(&key, chunk, peers.clone());
        }
    }

    fn take_outcomes(&mut self) {
        let outcomes =
            std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        for outcome in outcomes {
            match outcome {
                Outcome::Written { writer, began, write } => {
                    self.figures.write_times.0.push(write.at.saturating_sub(began));
                    self.trace.line(format_args!("writer {writer} since {began:?}: {write:?}"));
                    let truth = self.truth(writer);
                    truth.written.insert(write.seq, write.document);
                }
                Outcome::Sent { writer, space, write } => self.on_sent(writer, &space, write),
                Outcome::NotWritten { writer, why } => {
                    self.trace.line(format_args!("writer {writer} failed: {why}"));
                }
                Outcome::Read { read, took } => {
                    self.figures.read_times.0.push(took);
                    self.on_read(&read);
                }
                Outcome::NotRead { reader, why } => {
                    self.trace.line(format_args!("{reader} did not read: {why}"));
                }
            }
        }
    }

    /// Looks which of the closest servers have a write. It counts if it is a majority.
    fn on_sent(&mut self, writer: u32, space: &Writer, write: Acknowledged) {
        let key = board_key(writer / self.scenario.writers);
        let closest = self.closest(&key, self.scenario.writer(writer));
        let asked = closest.len();
        let has_it = |place: &&Place| {
            let newest = place.running.as_ref().and_then(|node| node.newest(&key, space));
            newest.is_some() && newest >= write.position
        };
        let holders: Vec<_> = closest.into_iter().filter(has_it).map(|place| place.peer).collect();
        self.trace.line(format_args!("writer {writer}: {} of {asked} have it", holders.len()));
        if 2 * holders.len() > asked {
            self.figures.writes[1] += 1;
            let at = self.elapsed();
            self.truth(writer).acknowledged.push(Acknowledged { at, holders, ..write });
        }
    }

    fn truth(&mut self, writer: u32) -> &mut SpaceTruth {
        let (node, board) = (self.scenario.writer(writer), writer / self.scenario.writers);
        let peer = self.places[node as usize].peer;
        self.truths.entry(board).or_default().entry(peer).or_default()
    }

    fn on_read(&mut self, read: &Read) {
        let spaces = read.spaces.len();
        self.figures.reads[1] += 1;
        self.figures.reads[2] += u64::from(read.is_complete);
        let complete = if read.is_complete { "complete" } else { "incomplete" };
        self.trace.line(format_args!("{} reads {} {complete}: {spaces}", read.reader, read.board));
        let none = BTreeMap::new();
        let truths = self.truths.get(&read.board).unwrap_or(&none);
        let settled = |place: &Place| {
            place.running.is_some() && !place.is_silent && place.disturbed + SETTLES <= read.began
        };
        let reader = &self.places[read.reader as usize];
        let is_connected = |peer: &PeerId| {
            let holder = self.places.iter().find(|place| place.peer == *peer);
            holder.is_some_and(|holder| {
                holder.setup.kind == Kind::Ours
                    && settled(holder)
                    && settled(reader)
                    && !self.network.is_cut(holder.setup.host, reader.setup.host)
            })
        };
        for (check, what) in check_read(read, truths, self.skew, is_connected) {
            self.find(check, what);
        }
    }

    /// Checks what holds at every step.
    fn check(&mut self) {
        let config = &self.scenario.store;
        let mut found = Vec::new();
        for place in &self.places {
            let Some(node) = &place.running else { continue };
            let host = place.setup.host.0;
            for withheld in node.take_withheld() {
                found.push((Check::Withheld, format!("{host} misses {withheld}")));
            }
            let looked = node.look(|swarm| {
                let records = swarm.behaviour_mut().records()?;
                Some((records.store_mut().usage(), records.operations()))
            });
            let Some((usage, operations)) = looked else { continue };
            let most = place.setup.behaviour.max_operations();
            if usage.bytes > config.max_bytes()
                || usage.records > config.max_records()
                || operations > most
            {
                found.push((Check::Bounds, format!("{host} has {usage:?}, {operations}")));
            }
        }
        for (check, what) in found {
            self.find(check, what);
        }
    }

    /// The servers closest to a key that a node reaches, with at most as many of a network as
    /// lookups take.
    fn closest(&self, key: &RecordKey, from: u32) -> Vec<&Place> {
        let from = self.scenario.host(from);
        let servers = self.places.iter().take(self.scenario.servers as usize);
        let mut servers: Vec<_> = servers
            .filter(|place| place.running.is_some() && place.setup.kind != Kind::Nat)
            .filter(|place| !self.network.is_cut(from, place.setup.host))
            .collect();
        servers.sort_by_key(|place| RecordId::new(&place.peer, key));
        let share = self.scenario.behaviour.subnet_share();
        let mut taken = BTreeMap::<[u8; 3], usize>::new();
        servers.retain(|place| {
            let taken = taken.entry(place.setup.host.network()).or_default();
            *taken += 1;
            *taken <= share
        });
        servers.truncate(kad::K_VALUE.get());
        servers
    }

    /// Checks that the servers closest to each key have the same.
    fn check_equal(&mut self, last_fault: Duration) {
        let interval = self.scenario.behaviour.replication_interval().unwrap_or(Duration::MAX);
        if self.elapsed() < last_fault.saturating_add(interval.saturating_mul(2)) {
            return;
        }
        for board in 0..self.scenario.boards {
            let key = board_key(board);
            let mut holders = BTreeMap::<String, Vec<u32>>::new();
            for place in self.closest(&key, 0) {
                let Some(node) = &place.running else { continue };
                let record = node
                    .look(|swarm| Some(swarm.behaviour_mut().records()?.store_mut().record(&key)));
                let Some(record) = record else { continue };
                let now = place.clock.now();
                let shown = match record {
                    Ok(Some(mut record)) => {
                        record.collect(now);
                        record
                            .spaces()
                            .map(|(writer, space)| format!("{writer} {:?};", space.newest()))
                            .collect()
                    }
                    Ok(None) => String::new(),
                    Err(error) => error.to_string(),
                };
                holders.entry(shown).or_default().push(place.setup.host.0);
            }
            if holders.len() > 1 {
                self.find(Check::Equal, format!("of board {board}: {holders:?}"));
            }
        }
    }

    /// The traffic of all servers, and the most bytes that one of them sent.
    fn traffic_of_servers(&self) -> (Traffic, u64) {
        let mut all = Traffic::default();
        let mut most = 0;
        for server in 0..self.scenario.servers {
            let traffic = self.network.traffic(self.scenario.host(server));
            all.sent += traffic.sent;
            all.received += traffic.received;
            all.messages += traffic.messages;
            all.dials += traffic.dials;
            most = most.max(traffic.sent);
        }
        (all, most)
    }

    /// What was counted from the start on.
    fn counted(&self) -> Hour {
        Hour {
            sent: self.traffic_of_servers().0.sent,
            connections: self.network.connections(),
            requests: self.network.requests(),
        }
    }

    fn finish(mut self) -> Report {
        let hours = self.elapsed().as_secs_f64() / 3_600.0;
        let (all, most) = self.traffic_of_servers();
        if most as f64 > self.scenario.traffic as f64 * hours {
            self.find(Check::Traffic, format!("a server has sent {most} bytes in {hours:.1} h"));
        }
        self.figures.nodes = self.scenario.nodes();
        self.figures.lasted = self.elapsed();
        self.figures.connections = self.network.connections();
        self.figures.requests = self.network.requests();
        self.figures.servers = all;
        self.figures.server_count = self.scenario.servers;
        self.figures.most_sent = most;
        let is_exempt = |violation: &Violation| {
            self.scenario.exempt.iter().any(|(check, _)| *check == violation.check)
        };
        let (exempted, violations) =
            self.violations.into_iter().partition(|violation| is_exempt(violation));
        let report =
            Report { violations, exempted, hash: self.trace.hash(), figures: self.figures };
        for place in &mut self.places {
            if let Some(running) = place.running.take() {
                self.executor.kill(&running.spawner);
            }
        }
        report
    }
}

/// Gives a writer a stamp for today.
async fn stamp(client: &Client, key: &RecordKey, bits: u8, clock: &SkewedClock) {
    if bits > 0 {
        let seq = Seq::next(None, clock.now());
        let mut search = StampSearch::new(client.writer().rank(key), seq, bits);
        let stamp = iter::repeat_with(|| search.step(1_000)).flatten().next();
        // A client that has stopped does not write either.
        let _ = client.set_stamp(key.clone(), stamp).await;
    }
}

/// Writes a document, or withdraws the space. A document that is kept does not expire, because it
/// is signed anew.
async fn write(
    client: &Client,
    key: &RecordKey,
    document: Option<String>,
    ttl: Duration,
    is_kept: bool,
    begin: Duration,
) -> Result<Acknowledged, ClientError> {
    let result = match &document {
        Some(document) => {
            let document = document.parse().expect("the documents of scenarios are JSON");
            if is_kept {
                let handle = client.keep(key.clone(), document, ttl).await?;
                let publication = handle.publication().clone();
                handle.detach();
                Ok(publication)
            } else {
                client.replace(key.clone(), document, ttl).await
            }
        }
        None => client.withdraw(key.clone()).await,
    };
    // Without an acknowledgement it is sent again later.
    let publication = result.or_else(ClientError::into_publication)?;
    let update = publication.update();
    let expires_at = update.map_or(0, |update| update.expires_at.as_millis());
    Ok(Acknowledged {
        at: clock::now().saturating_sub(begin),
        seq: update.map_or_else(Seq::default, |update| update.position.seq),
        position: update.map(|update| update.position),
        document,
        expires_at: if is_kept { u64::MAX } else { expires_at },
        holders: Vec::new(),
    })
}
