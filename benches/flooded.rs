//! What writers get of a node while a thousand peers of one network flood it, over TCP.
//!
//! ```sh
//! cargo bench --bench flooded              # 20 seconds with and without the flood
//! MEASURED_SECONDS=5 cargo bench --bench flooded
//! ```
//!
//! The node is a process on one core and the flooders are one on another; without the flood the
//! second core is kept busy too. Twenty writers, each in a network of its own, put an update of
//! their space after each other. The flooders share one address and put 16 bad P-256 signatures at
//! a time, each of them new, as soon as what was sent before is answered or has timed out. They
//! dial the node again when it disconnects them. Fails if writers get less than half of what they
//! get without the flood, or wait for more than a second. Cores are assigned with `taskset`, if
//! there is one.
//!
//! Nobody is inserted into the node's routing table. It dials all others, because all have to have
//! the addresses that they listen at, and loopback addresses are in no subnet. So it would know a
//! thousand peers, and Kademlia acknowledges and discards what is put to a node that knows more
//! than 37 peers between itself and the key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a measurement stops at the first error"
)]

use std::{
    env,
    io::{self, BufRead, BufReader, Lines, Write},
    net::Ipv4Addr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    identity::Keypair,
    kad::{self, Quorum, Record, store::MemoryStore},
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_smart_record::{
    Clock, Limits, RecordKey, SpaceSigner, SystemClock,
    behaviour::{Behaviour, BehaviourConfig, Validation},
};
use smart_record_testing::forge::{Author, Space, Update, encode};
use smart_record_testing_swarms::{PROTOCOL, listening_at};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinSet,
};

const ROLE: &str = "FLOODED_ROLE";
const WRITERS: u8 = 20;
const FLOODERS: usize = 1_000;
/// How many PUTs each flooder has under way.
const AT_ONCE: usize = 4;
const TTL: Duration = Duration::from_secs(3_600);
/// After this long an answer is late.
const IN_TIME: Duration = Duration::from_secs(1);

fn main() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match env::var(ROLE).as_deref() {
        Ok("node") => runtime().block_on(node()),
        Ok("flooders") => runtime().block_on(flooders()),
        Ok("busy") => loop {
            std::hint::spin_loop();
        },
        _ => runtime().block_on(compare()),
    }
}

async fn compare() {
    let seconds = env::var("MEASURED_SECONDS").map_or(20, |n| n.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let [without, with] = [measure("busy", time).await, measure("flooders", time).await];
    let ratio = with.stored as f64 / without.stored as f64;
    for (what, figures) in [("without", &without), ("with", &with)] {
        let Figures { stored, answered, in_time, slowest, node, processor } = figures;
        let [of_node, of_others, of_writers] = processor;
        println!(
            "{what:8} the flood: {:.0} updates a second, {stored} stored of {answered} answered, \
             {in_time} within a second, the slowest after {:.0} ms; seconds of processor: node \
             {of_node:.1}, flooders {of_others:.1}, writers {of_writers:.1}; {node}",
            *stored as f64 / time.as_secs_f64(),
            slowest.as_secs_f64() * 1e3
        );
    }
    println!("stored under the flood: {ratio:.2} of what is stored without (goal 0.50)");
    assert!(ratio >= 0.5, "less than half");
    assert_eq!(with.in_time, with.answered, "answered late");
}

struct Figures {
    /// Updates of writers that the node has stored.
    stored: u64,
    answered: usize,
    in_time: usize,
    slowest: Duration,
    /// What the node says about the flood.
    node: String,
    /// Seconds of processor time: the node, the flooders, the writers.
    processor: [f64; 3],
}

/// Writers write for this long, beside a process of this role.
async fn measure(beside: &str, time: Duration) -> Figures {
    let mut node = Process::start("node", 0);
    let address: Multiaddr = node.line().parse().unwrap();
    let mut beside = Process::start(beside, 1);
    let is_flood = beside.is_flood;
    if is_flood {
        beside.tell(&address.to_string());
        for _ in 0..FLOODERS {
            node.tell(&beside.line());
        }
        assert_eq!(beside.line(), "all are connected");
    }
    let writers = join_all(
        (0..WRITERS)
            .map(async |n| plain(Keypair::generate_ed25519(), Ipv4Addr::new(127, 8, n, 1)).await),
    )
    .await;
    let peer = peer_of(&address);
    let mut connected = Vec::new();
    for (mut swarm, address) in writers {
        node.tell(&address.to_string());
        connected_to(&mut swarm, peer).await;
        connected.push(swarm);
    }
    if is_flood {
        beside.tell("flood");
    }
    let processor = || [node.processor(), beside.processor(), processor_of("self")];
    let begun = processor();
    let until = Instant::now() + time;
    let writing = connected.into_iter().enumerate().map(|(n, swarm)| {
        tokio::spawn(write(swarm, RecordKey::new(format!("/sr/flooded/{n}")), peer, until))
    });
    let mut answers = Vec::new();
    for writer in writing.collect::<Vec<_>>() {
        answers.extend(writer.await.unwrap());
    }
    let ended = processor();
    let (stored, node) = node.counts();
    Figures {
        stored,
        answered: answers.len(),
        in_time: answers.iter().filter(|time| **time <= IN_TIME).count(),
        slowest: answers.into_iter().max().unwrap(),
        node,
        processor: std::array::from_fn(|n| ended[n] - begun[n]),
    }
}

/// A child process, which ends with this.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    is_flood: bool,
}

impl Process {
    fn start(role: &str, core: usize) -> Self {
        let program = env::current_exe().unwrap();
        let start = |mut command: Command| {
            command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
        };
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", &core.to_string()]).arg(&program);
        let mut child = start(pinned).or_else(|_| start(Command::new(&program))).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines(), is_flood: role == "flooders" }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        self.output.next().unwrap().unwrap()
    }

    fn processor(&self) -> f64 {
        processor_of(&self.child.id().to_string())
    }

    /// How many updates a node has stored, and what it has done about the flood.
    fn counts(&mut self) -> (u64, String) {
        self.tell("count");
        let line = self.line();
        let (stored, rest) = line.split_once(' ').unwrap();
        (stored.parse().unwrap(), rest.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of processor time that a process has used, where the system says so.
fn processor_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let ticks = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

fn say(line: &str) {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}

/// Dials each address that it is told, and says what it has stored when it is asked.
async fn node() {
    let keypair = Keypair::generate_ed25519();
    let config =
        BehaviourConfig::default().with_validation(Validation::OffTask).with_inserts_manually(true);
    let builder = Behaviour::builder(keypair.clone()).with_protocol(PROTOCOL).with_config(config);
    let (mut behaviour, _client) = builder.build();
    behaviour.kad_mut().set_mode(Some(kad::Mode::Server));
    let (mut swarm, address) = listening(keypair, behaviour, Ipv4Addr::LOCALHOST).await;
    say(&address.to_string());
    let mut orders = orders();
    loop {
        tokio::select! {
            _ = swarm.select_next_some() => {}
            Some(order) = orders.recv() => match order.as_str() {
                "count" => {
                    let store = swarm.behaviour_mut().kad_mut().store_mut().counters();
                    let counters = swarm.behaviour().counters();
                    say(&format!(
                        "{} work {} ms, {} updates refused as bad, messages {} held and {} \
                         waiting, {} peers disconnected, {} connections refused, {:?}",
                        store.admitted,
                        counters.work_ms,
                        store.refused_total(),
                        counters.messages_held,
                        counters.messages_waiting,
                        counters.disconnected,
                        counters.connections_refused,
                        counters.inbound_refused,
                    ));
                }
                address => swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap(),
            },
        }
    }
}

/// A thousand peers of one address.
async fn flooders() {
    let mut orders = orders();
    let address: Multiaddr = orders.recv().await.unwrap().parse().unwrap();
    let mut connected = JoinSet::new();
    for _ in 0..FLOODERS {
        let (mut swarm, own) =
            plain(Keypair::generate_ed25519(), Ipv4Addr::new(127, 9, 0, 1)).await;
        say(&own.to_string());
        let node = peer_of(&address);
        connected.spawn(async move {
            connected_to(&mut swarm, node).await;
            swarm
        });
    }
    let swarms = connected.join_all().await;
    say("all are connected");
    let spaces = signed();
    orders.recv().await.unwrap();
    for (n, swarm) in swarms.into_iter().enumerate() {
        tokio::spawn(flood(swarm, n, address.clone(), spaces.clone()));
    }
    std::future::pending::<()>().await;
}

/// Spaces of P-256 keys.
fn signed() -> Vec<Space> {
    let now = SystemClock.now().as_millis();
    let expires_at = now + TTL.as_millis() as u64;
    let update = Update { seq: now * 1_000, expires_at, ..Update::saying(1) };
    (0..16).map(|_| Author(Keypair::generate_ecdsa()).says(&update)).collect()
}

/// Sends records without end, whose signatures are all new and all bad.
async fn flood(
    mut swarm: Swarm<kad::Behaviour<MemoryStore>>,
    n: usize,
    address: Multiaddr,
    spaces: Vec<Space>,
) {
    let node = peer_of(&address);
    let key = RecordKey::new(format!("/sr/flood/{n}"));
    let mut sent = (n as u64) << 32;
    let mut put = |swarm: &mut Swarm<kad::Behaviour<MemoryStore>>| {
        let forged = spaces.iter().cloned().map(|mut space| {
            sent += 1;
            let signature = &mut space.updates[0].signature;
            let end = signature.len() - 8;
            signature[end..].copy_from_slice(&sent.to_be_bytes());
            space
        });
        put_to(swarm, &key, encode(forged), node);
    };
    (0..AT_ONCE).for_each(|_| put(&mut swarm));
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { step, .. })
                if step.last =>
            {
                if !swarm.is_connected(&node) {
                    let _ = swarm.dial(dialed(&address));
                    connected_or_refused(&mut swarm).await;
                }
                put(&mut swarm);
            }
            _ => {}
        }
    }
}

/// Puts one update of a space after the other. Returns how long each took that was acknowledged.
async fn write(
    mut swarm: Swarm<kad::Behaviour<MemoryStore>>,
    key: RecordKey,
    node: PeerId,
    until: Instant,
) -> Vec<Duration> {
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    let mut answers = Vec::new();
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let now = SystemClock.now();
        signer.replace([("n", n)].into_iter().collect(), now, TTL).unwrap();
        let begun = Instant::now();
        put_to(&mut swarm, &key, signer.record(now).encode(), node);
        let answer = async {
            loop {
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
                    result: kad::QueryResult::PutRecord(result),
                    ..
                }) = swarm.select_next_some().await
                {
                    return result.is_ok();
                }
            }
        };
        if answer.await {
            answers.push(begun.elapsed());
        }
    }
    answers
}

fn put_to(
    swarm: &mut Swarm<kad::Behaviour<MemoryStore>>,
    key: &RecordKey,
    value: Vec<u8>,
    node: PeerId,
) {
    let record = Record::new(kad::RecordKey::new(key), value);
    swarm.behaviour_mut().put_record_to(record, [node].into_iter(), Quorum::One);
}

async fn connected_to(swarm: &mut Swarm<kad::Behaviour<MemoryStore>>, node: PeerId) {
    while !swarm.is_connected(&node) {
        swarm.select_next_some().await;
    }
}

/// Waits until a dial has succeeded or failed.
async fn connected_or_refused(swarm: &mut Swarm<kad::Behaviour<MemoryStore>>) {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. }
            | SwarmEvent::OutgoingConnectionError { .. } => return,
            _ => {}
        }
    }
}

/// A peer that checks nothing, and its address.
async fn plain(keypair: Keypair, ip: Ipv4Addr) -> (Swarm<kad::Behaviour<MemoryStore>>, Multiaddr) {
    let peer = keypair.public().to_peer_id();
    let config = kad::Config::new(PROTOCOL);
    let mut behaviour = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
    behaviour.set_mode(Some(kad::Mode::Client));
    listening(keypair, behaviour, ip).await
}

async fn listening<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    ip: Ipv4Addr,
) -> (Swarm<B>, Multiaddr) {
    let peer = keypair.public().to_peer_id();
    let (swarm, address) = listening_at(ip, keypair, behaviour, Duration::from_secs(10)).await;
    (swarm, address.with(Protocol::P2p(peer)))
}

/// The lines of the standard input.
fn orders() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

fn dialed(address: &Multiaddr) -> DialOpts {
    DialOpts::peer_id(peer_of(address)).addresses(vec![address.clone()]).build()
}

fn peer_of(address: &Multiaddr) -> PeerId {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => peer,
        _ => panic!("{address} names no peer"),
    }
}
