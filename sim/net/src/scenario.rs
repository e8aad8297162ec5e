//! What happens in a run: a scenario, and the plan that a seed makes of it.

use std::{collections::BTreeSet, time::Duration};

use libp2p_smart_record::{behaviour::BehaviourConfig, store::StoreConfig};
use smart_record_sim_entropy::Random;

use crate::{
    checks::Check,
    network::{HostId, Links},
    node::{Kind, Planted},
};

/// A duration in hours.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3_600)
}

/// A duration in minutes.
#[must_use]
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// Something that befalls the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// This share of the nodes does not reach the others.
    Partition(f64),
    /// The partition is over.
    Heal,
    /// This share of the servers without clients is silent: all that they send and are sent is
    /// swallowed.
    Silence(f64),
    /// The silent ones are heard again.
    Wake,
    /// All processes end at once and start again. What they have stored survives.
    RestartAll,
    /// Each clock is up to this far ahead or behind.
    Clocks(Duration),
    /// Writers that are clients of the DHT leave; those that are servers restart and write no more.
    StopWriters,
    /// The servers that were not there yet start.
    Join,
    /// A client of the DHT sends this many spaces of new writers to the servers closest to the key
    /// of the first board.
    Flood(u32),
}

/// The number of the network of the sybils of the first board.
const SYBILS: u32 = 17_000;

/// A scenario. It is made by its builder methods, so that it reads like its description.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Number of servers.
    pub servers: u32,
    /// Number of boards: keys of records.
    pub boards: u32,
    /// Writers of each board.
    pub writers: u32,
    /// Number of nodes that read. They are clients of the DHT.
    pub readers: u32,
    /// How long it lasts.
    pub lasts: Duration,
    /// Time between the writes of a writer. The first time it publishes, and each fifth time it
    /// withdraws.
    pub writes_every: Duration,
    /// Whether all writers are clients of the DHT, and each writes once and keeps that alive.
    /// Otherwise every other one is a client.
    pub is_kept: bool,
    /// Time between the reads of a reader.
    pub reads_every: Duration,
    /// Lifetime of what is written.
    pub ttl: Duration,
    /// Length of a text in each document, in bytes.
    pub text_bytes: usize,
    /// Bits of the stamp that each writer has; 0: none.
    pub stamp_bits: u8,
    /// Median of the times for which a server without clients is up; it is down for a quarter of
    /// that.
    pub churn: Option<Duration>,
    /// Servers that are not there before [`Fault::Join`].
    pub late_servers: u32,
    /// What the last servers are, from the last on. The others are ours, and so are all that write
    /// or read.
    pub others: Vec<(u32, Kind)>,
    /// What befalls the network, and when.
    pub faults: Vec<(Duration, Fault)>,
    /// The checks that do not apply, and why.
    pub exempt: Vec<(Check, &'static str)>,
    /// The links.
    pub links: Links,
    /// The settings of all nodes of ours.
    pub behaviour: BehaviourConfig,
    /// The settings of their stores.
    pub store: StoreConfig,
    /// Time between Kademlia's own lookups that refresh the routing table.
    pub bootstrap_every: Duration,
    /// Whether nodes start with a full routing table, and do not look for neighbours. It has
    /// servers of all kinds, whether they are up or not.
    pub has_tables: bool,
    /// Faults planted in all nodes.
    pub planted: Planted,
    /// Most bytes that a server may send in an hour, on average over the run.
    pub traffic: u64,
}

impl Scenario {
    /// A scenario of 24 servers in which 4 boards of 3 writers are kept and 4 readers read for four
    /// hours. Kademlia refreshes its table every hour, not every 5 minutes as by default: in a
    /// network of this size that takes most of the machine's time, and reads and writes meet all
    /// servers anyway.
    #[must_use]
    pub fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            servers: 24,
            boards: 4,
            writers: 3,
            readers: 4,
            lasts: hours(4),
            writes_every: minutes(20),
            is_kept: false,
            reads_every: minutes(5),
            ttl: hours(2),
            text_bytes: 0,
            stamp_bits: 0,
            churn: None,
            late_servers: 0,
            others: Vec::new(),
            faults: Vec::new(),
            exempt: Vec::new(),
            links: Links::default(),
            behaviour: BehaviourConfig::default(),
            store: StoreConfig::default(),
            bootstrap_every: hours(1),
            has_tables: false,
            planted: Planted::default(),
            traffic: 20_000_000,
        }
    }

    /// Sets the number of servers.
    #[must_use]
    pub const fn servers(mut self, servers: u32) -> Self {
        self.servers = servers;
        self
    }

    /// Sets how many of the servers are not there before [`Fault::Join`].
    #[must_use]
    pub const fn late_servers(mut self, servers: u32) -> Self {
        self.late_servers = servers;
        self
    }

    /// Sets the links.
    #[must_use]
    pub fn links(mut self, links: Links) -> Self {
        self.links = links;
        self
    }

    /// This many of the servers are of another kind.
    #[must_use]
    pub fn others(mut self, count: u32, kind: Kind) -> Self {
        self.others.push((count, kind));
        self
    }

    /// Sets the boards, and the writers of each.
    #[must_use]
    pub const fn boards(mut self, boards: u32, writers: u32) -> Self {
        (self.boards, self.writers) = (boards, writers);
        self
    }

    /// Sets the length of a text in each document.
    #[must_use]
    pub const fn text_bytes(mut self, bytes: usize) -> Self {
        self.text_bytes = bytes;
        self
    }

    /// Each writer has a stamp of this many bits.
    #[must_use]
    pub const fn stamp_bits(mut self, bits: u8) -> Self {
        self.stamp_bits = bits;
        self
    }

    /// Sets the size of slices and of chunks.
    #[must_use]
    pub fn slices(mut self, slice_bytes: usize, chunk_bytes: usize) -> Self {
        self.store = self.store.with_slice_bytes(slice_bytes).with_chunk_bytes(chunk_bytes);
        self
    }

    /// Sets how many have to cover a part of a board so that a reading is complete.
    #[must_use]
    pub fn complete_at(mut self, peers: usize) -> Self {
        self.behaviour = self.behaviour.with_complete_at(peers);
        self
    }

    /// Sets the time between the writes of a writer.
    #[must_use]
    pub const fn writes_every(mut self, every: Duration) -> Self {
        self.writes_every = every;
        self
    }

    /// All writers are clients of the DHT, and each writes once and keeps that alive.
    #[must_use]
    pub const fn kept(mut self) -> Self {
        self.is_kept = true;
        self
    }

    /// Sets the time between the reads of a reader.
    #[must_use]
    pub const fn reads_every(mut self, every: Duration) -> Self {
        self.reads_every = every;
        self
    }

    /// Sets how many nodes read.
    #[must_use]
    pub const fn readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }

    /// Sets how long it lasts.
    #[must_use]
    pub const fn lasts(mut self, lasts: Duration) -> Self {
        self.lasts = lasts;
        self
    }

    /// Sets the lifetime of what is written.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Servers come and go; half of them are gone after this time.
    #[must_use]
    pub const fn churn(mut self, median: Duration) -> Self {
        self.churn = Some(median);
        self
    }

    /// Adds something that befalls the network.
    #[must_use]
    pub fn at(mut self, at: Duration, fault: Fault) -> Self {
        self.faults.push((at, fault));
        self
    }

    /// A check does not apply.
    #[must_use]
    pub fn without(mut self, check: Check, why: &'static str) -> Self {
        self.exempt.push((check, why));
        self
    }

    /// Number of writers of all boards.
    #[must_use]
    pub const fn all_writers(&self) -> u32 {
        self.boards * self.writers
    }

    /// Number of nodes. First come the servers, of which the first write; then the writers that are
    /// clients of the DHT; then the readers; then the one that floods.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        let floods = self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Flood(_)));
        self.flooder() + u32::from(floods)
    }

    /// The node that floods.
    #[must_use]
    pub const fn flooder(&self) -> u32 {
        self.reader(self.readers)
    }

    /// What a node is.
    #[must_use]
    pub fn kind(&self, node: u32) -> Kind {
        if node == self.flooder() {
            return Kind::Plain;
        }
        let mut first = self.servers;
        for (count, kind) in &self.others {
            let last = first;
            first = first.saturating_sub(*count);
            if node >= self.writing_servers() && (first..last).contains(&node) {
                return *kind;
            }
        }
        Kind::Ours
    }

    /// The host of a node.
    #[must_use]
    pub fn host(&self, node: u32) -> HostId {
        match self.kind(node) {
            Kind::Sybil(board, _) => HostId::in_network(SYBILS + board, self.servers - 1 - node),
            _ => HostId(node),
        }
    }

    /// The servers of ours that do not write.
    fn idle_servers(&self) -> impl Iterator<Item = u32> {
        let servers = self.writing_servers()..self.servers;
        servers.filter(|node| self.kind(*node) == Kind::Ours)
    }

    /// The node of a writer, by its number among all writers.
    #[must_use]
    pub const fn writer(&self, number: u32) -> u32 {
        match (self.is_kept, number.is_multiple_of(2)) {
            (true, _) => self.servers + number,
            (false, true) => number / 2,
            (false, false) => self.servers + number / 2,
        }
    }

    /// The node of a reader.
    #[must_use]
    pub const fn reader(&self, number: u32) -> u32 {
        self.servers + self.all_writers() - self.writing_servers() + number
    }

    /// Number of servers that write.
    #[must_use]
    pub const fn writing_servers(&self) -> u32 {
        if self.is_kept { 0 } else { self.all_writers().div_ceil(2) }
    }

    /// Time at which all nodes have started: a second for each, and five minutes at least. A node
    /// that looks for neighbours connects to hundreds, and the connections last for more than a
    /// minute, so they would take most of the memory if thousands of nodes started within minutes.
    #[must_use]
    pub fn is_up_after(&self) -> Duration {
        let of_starts = if self.has_tables { 0 } else { self.nodes() };
        minutes(5).max(Duration::from_secs(of_starts.into()))
    }
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A node starts.
    Start(u32),
    /// Its process ends.
    Kill(u32),
    /// Nodes are on the other side of a partition.
    Partition(Vec<u32>),
    /// All are on one side.
    Heal,
    /// These nodes are silent.
    Silence(Vec<u32>),
    /// All are heard.
    Wake,
    /// All processes end and start again.
    RestartAll,
    /// Clocks are that many milliseconds ahead.
    Clocks(Vec<(u32, i64)>),
    /// Nobody writes any more.
    StopWriters,
    /// Servers start that were not there.
    Join(Vec<u32>),
    /// The flooder sends that many spaces.
    Flood(u32),
    /// A writer writes.
    Write(u32),
    /// A reader reads this board.
    Read(u32, u32),
}

impl Act {
    /// Whether it befalls the network, so that a smaller plan may do without it.
    #[must_use]
    pub const fn is_fault(&self) -> bool {
        !matches!(self, Self::Start(_) | Self::Write(_) | Self::Read(..))
    }
}

/// What happens at which time, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<(Duration, Act)>,
}

/// Draws a subset of about this share.
fn subset(nodes: impl Iterator<Item = u32>, share: f64, random: &mut Random) -> Vec<u32> {
    nodes.filter(|_| random.unit() < share).collect()
}

impl Plan {
    /// The plan that a seed makes of a scenario. Faults whose number among the faults is in
    /// `skipped` are left out.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64, skipped: &BTreeSet<usize>) -> Self {
        let mut seeds = Random::new(seed);
        let mut steps = Vec::new();
        let nodes = scenario.nodes();
        let is_up = scenario.is_up_after();
        let late = scenario.servers.saturating_sub(scenario.late_servers)..scenario.servers;
        for node in (0..nodes).filter(|node| !late.contains(node)) {
            steps.push((is_up.mul_f64(f64::from(node) / f64::from(nodes)), Act::Start(node)));
        }
        for &(at, fault) in &scenario.faults {
            let mut random = seeds.split();
            steps.push((at, Self::act(scenario, fault, &mut random)));
        }
        if let Some(median) = scenario.churn {
            for node in scenario.idle_servers() {
                Self::come_and_go(scenario, node, median, &mut seeds.split(), &mut steps);
            }
        }
        let stops = scenario.faults.iter().find(|(_, fault)| *fault == Fault::StopWriters);
        let until = stops.map_or(scenario.lasts, |(at, _)| at.saturating_sub(minutes(2)));
        let begin = is_up + minutes(5);
        for writer in 0..scenario.all_writers() {
            let every = scenario.writes_every;
            let mut at = begin + every.mul_f64(seeds.unit());
            while at < until {
                steps.push((at, Act::Write(writer)));
                if scenario.is_kept {
                    break;
                }
                at += every;
            }
        }
        for reader in 0..scenario.readers {
            let mut random = seeds.split();
            let mut at = begin + scenario.reads_every.mul_f64(random.unit());
            while at < scenario.lasts {
                let board = random.below(scenario.boards.into()) as u32;
                steps.push((at, Act::Read(reader, board)));
                at += scenario.reads_every;
            }
        }
        // Stable: what is at the same time stays in this order.
        steps.sort_by_key(|(at, _)| *at);
        let mut faults = 0..;
        steps.retain(|(_, act)| {
            !act.is_fault() || !faults.next().is_some_and(|number| skipped.contains(&number))
        });
        Self { steps }
    }

    fn act(scenario: &Scenario, fault: Fault, random: &mut Random) -> Act {
        match fault {
            Fault::Partition(share) => Act::Partition(subset(0..scenario.nodes(), share, random)),
            Fault::Heal => Act::Heal,
            Fault::Silence(share) => Act::Silence(subset(scenario.idle_servers(), share, random)),
            Fault::Wake => Act::Wake,
            Fault::StopWriters => Act::StopWriters,
            Fault::Join => {
                let first = scenario.servers.saturating_sub(scenario.late_servers);
                Act::Join((first..scenario.servers).collect())
            }
            Fault::RestartAll => Act::RestartAll,
            Fault::Flood(spaces) => Act::Flood(spaces),
            Fault::Clocks(most) => {
                let most = most.as_millis() as u64;
                let mut lead = || random.below(2 * most + 1).cast_signed() - most.cast_signed();
                Act::Clocks((0..scenario.nodes()).map(|node| (node, lead())).collect())
            }
        }
    }

    /// Times for which a server is up have a heavy tail: they are log-normal, as the sessions of
    /// public networks roughly are, with half of them shorter than the median and a few far longer.
    fn come_and_go(
        scenario: &Scenario,
        node: u32,
        median: Duration,
        random: &mut Random,
        steps: &mut Vec<(Duration, Act)>,
    ) {
        // The last faults leave time to become equal.
        let until = scenario.lasts.saturating_sub(hours(2) + minutes(20));
        let mut at = scenario.is_up_after();
        loop {
            at += median.mul_f64(log_normal(random));
            if at >= until {
                return;
            }
            steps.push((at, Act::Kill(node)));
            at += (median / 4).mul_f64(log_normal(random));
            steps.push((at.min(until), Act::Start(node)));
            if at >= until {
                return;
            }
        }
    }

    /// Number of faults.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.steps.iter().filter(|(_, act)| act.is_fault()).count()
    }

    /// Time of the last fault or start.
    #[must_use]
    pub fn last_fault(&self) -> Duration {
        let disturbs = |act: &Act| !matches!(act, Act::Write(_) | Act::Read(..));
        self.steps.iter().rev().find(|(_, act)| disturbs(act)).map_or(Duration::ZERO, |(at, _)| *at)
    }
}

/// A number with a log-normal distribution of median 1.
fn log_normal(random: &mut Random) -> f64 {
    // The sum of twelve is near enough to a normal distribution, and the same on every machine.
    let normal: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    // A power by multiplication: functions of the C library differ between machines.
    let base = if normal < 0.0 { 1.0 / 2.7 } else { 2.7 };
    let (mut power, mut rest) = (1.0, normal.abs());
    while rest >= 1.0 {
        power *= base;
        rest -= 1.0;
    }
    power * (1.0 + rest * (base - 1.0))
}
