//! Latency of reads, writes and watches while peers are silent: real swarms over TCP, 20 servers.
//!
//! ```sh
//! cargo bench --bench latency              # 200 operations of each kind; some 25 minutes
//! OPERATIONS=20 cargo bench --bench latency
//! ```
//!
//! It begins with the traffic of a mixed network, in which half of the nodes keep the last PUT.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a measurement stops at the first error"
)]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncWrite, FutureExt, StreamExt, future::join_all};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport,
    core::{Endpoint, upgrade::Version},
    identity::Keypair,
    kad::{self, store::MemoryStore},
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_smart_record::{Dict, RecordKey, behaviour::Behaviour, client::Client};
use smart_record_testing_swarms::PROTOCOL;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::sleep,
};

const SERVERS: usize = 20;
/// A third of the servers.
const SILENT: usize = 7;
const WRITERS: usize = 6;
const TTL: Duration = Duration::from_secs(3_600);
/// Time between two changes of the watched board.
const PACE: Duration = Duration::from_secs(1);

/// State of a third of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Third {
    Alive,
    Frozen,
    Killed,
}

impl Third {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "none is silent",
            Self::Frozen => "a third is frozen",
            Self::Killed => "a third was killed",
        }
    }
}

fn main() {
    // Cargo's arguments are ignored.
    let operations = std::env::var("OPERATIONS").map_or(200, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(mixed(operations));
    for delay in [0, 50].map(Duration::from_millis) {
        println!(
            "round trip {} ms, {SERVERS} servers, {operations} operations, p50 / p99 in ms",
            2 * delay.as_millis()
        );
        for third in [Third::Alive, Third::Frozen, Third::Killed] {
            let figures = runtime.block_on(measure(operations, third, delay));
            let [get, publish, watch] = figures.times.map(|mut times| {
                times.sort_unstable();
                let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
                format!("{:.0} / {:.0}", at(50).as_secs_f64() * 1e3, at(99).as_secs_f64() * 1e3)
            });
            println!(
                "{:20} get {get}, publish {publish}, change to a watching client {watch}",
                third.as_str()
            );
            let [get, publish] = figures
                .traffic
                .map(|(bytes, packets)| format!("{:.1} KB in {packets:.0} packets", bytes / 1e3));
            println!("{:20} get {get}, publish {publish}", "mean traffic");
        }
    }
}

/// Five nodes write, read and update records in a network in which as many others keep the last PUT
/// that they were sent. Prints what this costs all five together for a record, and how many of the
/// five writers each of the others gives alone at the end.
async fn mixed(operations: usize) {
    const HALF: usize = 5;
    let ours = join_all((0..HALF).map(|_| Node::start(kad::Mode::Server, Duration::ZERO))).await;
    let plain = join_all((0..HALF).map(|_| Node::plain())).await;
    let addresses = ours.iter().map(|node| (node.peer, node.address.clone()));
    let of_plain = plain.iter().map(|node| (node.peer, node.address.clone()));
    let all: Vec<_> = addresses.chain(of_plain).collect();
    join_all(ours.iter().map(|node| node.meet(&all))).await;
    join_all(plain.iter().map(|node| node.meet(&all))).await;
    let key = |n: usize| RecordKey::from(format!("/sr/latency/mixed/{n}"));
    let totals = async || {
        join_all(ours.iter().map(|node| node.client.close())).await;
        let all = ours.iter().map(|node| node.traffic.now());
        let sum = |sum: Totals, of: Totals| Totals {
            bytes: sum.bytes + of.bytes,
            packets: sum.packets + of.packets,
        };
        all.fold(Totals { bytes: 0, packets: 0 }, sum)
    };
    // Connects all nodes.
    join_all(ours.iter().map(|node| node.client.get("/sr/latency/warm"))).await;
    println!("{HALF} nodes of ours, {HALF} that keep the last PUT: traffic of ours for a record");
    for step in ["five publish", "five read", "five update", "five read again"] {
        let before = totals().await;
        for n in 0..operations {
            for node in &ours {
                match step {
                    "five publish" | "five update" => {
                        node.client.publish(key(n), says(n), TTL).await.unwrap();
                    }
                    _ => assert_eq!(node.client.get(key(n)).await.unwrap().view().len(), HALF),
                }
            }
        }
        let (bytes, packets) = before.until(totals().await, operations);
        println!("{step:20} {:.1} KB in {packets:.0} packets", bytes / 1e3);
    }
    drop(ours);
    let mut shown = [0; HALF + 1];
    for node in &plain {
        let reader = Node::start(kad::Mode::Client, Duration::ZERO).await;
        reader.meet(&[(node.peer, node.address.clone())]).await;
        for n in 0..operations {
            shown[reader.client.get(key(n)).await.unwrap().view().len()] += 1;
        }
    }
    println!("writers of a record that one plain node gives alone: {shown:?} times 0 to {HALF}");
}

struct Figures {
    /// Durations of gets, of publishes, and from a change to a watching client.
    times: [Vec<Duration>; 3],
    /// Bytes and packets per get and per publish, including work in the background.
    traffic: [(f64, f64); 2],
}

async fn measure(operations: usize, third: Third, delay: Duration) -> Figures {
    let mut servers = join_all((0..SERVERS).map(|_| Node::start(kad::Mode::Server, delay))).await;
    let all: Vec<_> = servers.iter().map(|node| (node.peer, node.address.clone())).collect();
    join_all(servers.iter().map(|node| node.meet(&all))).await;
    let client = Node::start(kad::Mode::Client, delay).await;
    let watcher = Node::start(kad::Mode::Client, delay).await;
    client.meet(&all).await;
    watcher.meet(&all).await;

    // The records to be read are written by other nodes.
    let key = |kind: &str, n: usize| RecordKey::from(format!("/sr/latency/{kind}/{n}"));
    for n in 0..operations {
        servers[n % WRITERS].client.publish(key("get", n), says(n), TTL).await.unwrap();
    }
    join_all(servers.iter().map(|node| node.client.close())).await;
    // Connects all nodes.
    client.client.get("/sr/latency/warm").await.unwrap();
    watcher.client.get("/sr/latency/warm").await.unwrap();

    match third {
        Third::Alive => {}
        Third::Frozen => servers[SERVERS - SILENT..].iter().for_each(|node| node.freeze()),
        Third::Killed => servers.truncate(SERVERS - SILENT),
    }

    client.client.close().await.unwrap();
    let before_gets = client.traffic.now();
    let mut gets = Vec::new();
    for n in 0..operations {
        let begun = Instant::now();
        let reading = client.client.get(key("get", n)).await.unwrap();
        gets.push(begun.elapsed());
        assert_eq!(reading.view().len(), 1, "{n}");
    }
    client.client.close().await.unwrap();
    let before_publishes = client.traffic.now();
    let mut publishes = Vec::new();
    for n in 0..operations {
        let begun = Instant::now();
        client.client.publish(key("publish", n), says(n), TTL).await.unwrap();
        publishes.push(begun.elapsed());
    }
    client.client.close().await.unwrap();
    let traffic = [
        before_gets.until(before_publishes, operations),
        before_publishes.until(client.traffic.now(), operations),
    ];
    let watched = changes(operations, &servers[..WRITERS], &watcher.client).await;
    Figures { times: [gets, publishes, watched], traffic }
}

/// Six writers change a board, one after the other. Returns the time from each change to a watching
/// client.
async fn changes(operations: usize, writers: &[Node], watcher: &Client) -> Vec<Duration> {
    let key = RecordKey::from("/sr/latency/lobby");
    let mut board = watcher.watch(key.clone()).await.unwrap();
    let seen = async {
        let (mut seen, mut next) = (Vec::new(), 0);
        while next < operations {
            let view = board.next().await.unwrap().view();
            let at = Instant::now();
            for (_, space) in &view {
                let n = space.document.get("n").and_then(|node| node.as_i64()).unwrap();
                seen.push((usize::try_from(n).unwrap(), at));
            }
            next = seen.iter().map(|(n, _)| n + 1).max().unwrap_or(0);
        }
        seen
    };
    let write = async {
        let (mut made, mut writing) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        for n in 0..operations {
            sleep(
                (begun + PACE * u32::try_from(n).unwrap())
                    .saturating_duration_since(Instant::now()),
            )
            .await;
            made.push(Instant::now());
            let (client, key) = (writers[n % writers.len()].client.clone(), key.clone());
            writing.push(tokio::spawn(async move { client.replace(key, says(n), TTL).await }));
        }
        for write in writing {
            write.await.unwrap().unwrap();
        }
        made
    };
    let (seen, made) = futures::join!(seen, write);
    // If a writer wrote twice meanwhile, the later change shows both.
    let first = |n: usize| {
        let shows = seen
            .iter()
            .filter(|(other, _)| *other >= n && (other - n).is_multiple_of(writers.len()));
        shows.map(|(_, at)| *at).min()
    };
    let made = made.iter().enumerate();
    let times = made.filter_map(|(n, made)| Some(first(n)?.saturating_duration_since(*made)));
    let times: Vec<_> = times.collect();
    // It ends when the last change is seen; of each other writer one may then be on its way.
    assert!(times.len() + writers.len() > operations, "changes that were never seen");
    times
}

fn says(n: usize) -> Dict {
    [("n", i64::try_from(n).unwrap())].into_iter().collect()
}

/// Peers to add to the routing table, and a channel that reports when that is done.
type Meet = (Vec<(PeerId, Multiaddr)>, oneshot::Sender<()>);

struct Node<C = Client> {
    peer: PeerId,
    address: Multiaddr,
    client: C,
    meet: mpsc::UnboundedSender<Meet>,
    frozen: watch::Sender<bool>,
    traffic: Arc<Traffic>,
    task: JoinHandle<()>,
}

impl<C> Drop for Node<C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    async fn start(mode: kad::Mode, delay: Duration) -> Self {
        let keypair = Keypair::generate_ed25519();
        let (mut behaviour, client) = Behaviour::new(keypair.clone(), PROTOCOL);
        behaviour.kad_mut().set_mode(Some(mode));
        Self::run(keypair, behaviour, client, delay).await
    }

    /// Freezes the node: it accepts what the operating system accepts for it, and answers nothing.
    fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}

impl Node<()> {
    /// A server that keeps the last PUT, whatever it is.
    async fn plain() -> Self {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let config = kad::Config::new(PROTOCOL);
        let mut behaviour = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
        behaviour.set_mode(Some(kad::Mode::Server));
        Self::run(keypair, behaviour, (), Duration::ZERO).await
    }
}

/// A behaviour with a routing table.
trait Routes: NetworkBehaviour<ToSwarm: Send> + Send {
    fn add(&mut self, peer: &PeerId, address: Multiaddr);
}

impl Routes for Behaviour {
    fn add(&mut self, peer: &PeerId, address: Multiaddr) {
        self.kad_mut().add_address(peer, address);
    }
}

impl Routes for kad::Behaviour<MemoryStore> {
    fn add(&mut self, peer: &PeerId, address: Multiaddr) {
        self.add_address(peer, address);
    }
}

impl<C> Node<C> {
    async fn run(keypair: Keypair, behaviour: impl Routes, client: C, delay: Duration) -> Self {
        let traffic = Arc::new(Traffic::default());
        let mut swarm = swarm(keypair, behaviour, delay, traffic.clone());
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let peer = *swarm.local_peer_id();
        let (meet, mut to_meet) = mpsc::unbounded_channel::<Meet>();
        let (frozen, mut is_frozen) = watch::channel(false);
        let task = tokio::spawn(async move {
            while is_frozen.wait_for(|is_frozen| !is_frozen).await.is_ok() {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    _ = is_frozen.changed() => {}
                    Some((peers, met)) = to_meet.recv() => {
                        for (other, address) in peers {
                            if other != peer {
                                swarm.behaviour_mut().add(&other, address);
                            }
                        }
                        met.send(()).unwrap();
                    }
                }
            }
        });
        Self { peer, address, client, meet, frozen, traffic, task }
    }

    /// Adds peers to its routing table.
    async fn meet(&self, peers: &[(PeerId, Multiaddr)]) {
        let (met, has_met) = oneshot::channel();
        self.meet.send((peers.to_vec(), met)).unwrap();
        has_met.await.unwrap();
    }
}

/// Bytes and packets that a node has sent and received over TCP. A packet is the content of one
/// system call.
#[derive(Default)]
struct Traffic {
    bytes: AtomicU64,
    packets: AtomicU64,
}

#[derive(Clone, Copy)]
struct Totals {
    bytes: u64,
    packets: u64,
}

impl Traffic {
    fn count(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes @ 1..)) = result {
            self.bytes.fetch_add(*bytes as u64, Relaxed);
            self.packets.fetch_add(1, Relaxed);
        }
    }

    fn now(&self) -> Totals {
        Totals { bytes: self.bytes.load(Relaxed), packets: self.packets.load(Relaxed) }
    }
}

impl Totals {
    /// Bytes and packets per operation.
    fn until(self, later: Self, operations: usize) -> (f64, f64) {
        let mean = |from, to| (to - from) as f64 / operations as f64;
        (mean(self.bytes, later.bytes), mean(self.packets, later.packets))
    }
}

fn swarm<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    delay: Duration,
    traffic: Arc<Traffic>,
) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|keypair| {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            let delayed = tcp.and_then(move |stream, point| {
                let traffic = traffic.clone();
                async move {
                    if point.to_endpoint() == Endpoint::Dialer {
                        // The TCP handshake takes a round trip too.
                        sleep(2 * delay).await;
                    }
                    Ok::<_, io::Error>(Delayed::new(stream, delay, traffic))
                }
            });
            delayed
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(keypair).unwrap())
                .multiplex(yamux::Config::default())
        })
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(TTL))
        .build()
}

/// A stream whose bytes arrive with a delay.
struct Delayed<S> {
    stream: S,
    delay: Duration,
    traffic: Arc<Traffic>,
    arriving: VecDeque<(Instant, Vec<u8>)>,
    timer: Pin<Box<tokio::time::Sleep>>,
    has_ended: bool,
}

impl<S> Delayed<S> {
    fn new(stream: S, delay: Duration, traffic: Arc<Traffic>) -> Self {
        let timer = Box::pin(sleep(Duration::ZERO));
        Self { stream, delay, traffic, arriving: VecDeque::new(), timer, has_ended: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Delayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.delay.is_zero() {
            let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
            this.traffic.count(&read);
            return read;
        }
        let mut bytes = [0; 16 * 1_024];
        while !this.has_ended
            && let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, &mut bytes)
        {
            let read = read?;
            this.traffic.count(&Poll::Ready(Ok(read)));
            this.has_ended = read == 0;
            this.arriving.push_back((Instant::now() + this.delay, bytes[..read].to_vec()));
        }
        let Some((at, bytes)) = this.arriving.front_mut() else {
            return if this.has_ended { Poll::Ready(Ok(0)) } else { Poll::Pending };
        };
        if *at > Instant::now() {
            this.timer.as_mut().reset((*at).into());
            if this.timer.poll_unpin(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        bytes.drain(..count);
        if bytes.is_empty() {
            this.arriving.pop_front();
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Delayed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.traffic.count(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
