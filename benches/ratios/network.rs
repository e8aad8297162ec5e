//! Figures of networks: swarms over TCP on one machine, with the store of this crate and with
//! libp2p's own.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    num::NonZeroUsize,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    identity::Keypair,
    kad::{
        self, Mode, QueryId, Quorum, Record,
        store::{MemoryStore, RecordStore},
    },
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_smart_record::{
    RecordKey, SmartRecord,
    behaviour::{Behaviour, BehaviourConfig, Event, Validation},
    store::{MemoryStorage, SmartRecordStore, StoreEvent},
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

use smart_record_testing::{
    ManualClock,
    forge::{self, Author, Update, encode},
};

use crate::{
    fixtures::{HOUR, NOW, board, board_key, keypair, store_of, thread_time, value},
    harness::Harness,
};

const NODES: u64 = 10;
/// How many records a round puts and gets.
const RECORDS: u64 = 100;
const ROUNDS: usize = 7;

const STORES: [&str; 2] = ["network_puts_per_second", "network_get_latency"];

/// While a board arrives, and while the node reads.
const HOLDS: [(Validation, [&str; 2]); 2] = [
    (Validation::Inline, ["longest_hold_inline", "longest_hold_inline_when_reading"]),
    (Validation::OffTask, ["longest_hold_off_the_task", "longest_hold_off_the_task_when_reading"]),
];

/// In the order of [`Author::all_types`].
const PACKETS: [[(Validation, &str); 2]; 4] = [
    [
        (Validation::Inline, "longest_hold_of_ed25519_inline"),
        (Validation::OffTask, "longest_hold_of_ed25519_off_the_task"),
    ],
    [
        (Validation::Inline, "longest_hold_of_secp256k1_inline"),
        (Validation::OffTask, "longest_hold_of_secp256k1_off_the_task"),
    ],
    [
        (Validation::Inline, "longest_hold_of_ecdsa_inline"),
        (Validation::OffTask, "longest_hold_of_ecdsa_off_the_task"),
    ],
    [
        (Validation::Inline, "longest_hold_of_rsa_2048_inline"),
        (Validation::OffTask, "longest_hold_of_rsa_2048_off_the_task"),
    ],
];

pub fn run(harness: &mut Harness) {
    let holds = HOLDS.iter().flat_map(|(_, names)| *names);
    let packets = PACKETS.as_flattened().iter().map(|(_, name)| *name);
    let of_holds = holds.chain(packets);
    if let Err(error) = connects() {
        let names = STORES.into_iter().chain(of_holds);
        return harness.skip(names, format!("no network on this machine: {error}"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(stores(harness));
    if cfg!(unix) {
        runtime.block_on(self::holds(harness));
        runtime.block_on(self::packets(harness));
    } else {
        harness.skip(of_holds, "this system does not tell the processor time of a thread");
    }
    runtime.shutdown_background();
}

/// Makes a connection within this machine.
fn connects() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect(listener.local_addr()?).map(drop)
}

fn swarm<B: NetworkBehaviour>(keypair: Keypair, behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never| match never {})
        .with_swarm_config(|config| config.with_idle_connection_timeout(HOUR))
        .build()
}

/// Makes a swarm listen, and returns its address.
async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            swarm.add_external_address(address.clone());
            return address;
        }
    }
}

/// A node with either store.
type Node<S> = Swarm<kad::Behaviour<S>>;

/// Servers that know each other, and two clients that know them. One client writes. The other
/// reads, and so stores nothing itself.
struct Network<S: RecordStore + Send + 'static> {
    client: Node<S>,
    reader: Node<S>,
    servers: Vec<JoinHandle<()>>,
}

impl<S: RecordStore + Send + 'static> Drop for Network<S> {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl<S: RecordStore + Send + 'static> Network<S> {
    async fn new(make: impl Fn(PeerId) -> (S, kad::Config)) -> Self {
        let node = |n: u64| {
            let keypair = keypair(2_000_000 + n);
            let peer = keypair.public().to_peer_id();
            let (store, config) = make(peer);
            swarm(keypair, kad::Behaviour::with_config(peer, store, config))
        };
        let mut nodes: Vec<Node<S>> = (0..NODES).map(node).collect();
        let mut addresses = Vec::new();
        for node in &mut nodes {
            node.behaviour_mut().set_mode(Some(Mode::Server));
            addresses.push((*node.local_peer_id(), listening(node).await));
        }
        let (mut client, mut reader) = (node(NODES), node(NODES + 1));
        for client in [&mut client, &mut reader] {
            client.behaviour_mut().set_mode(Some(Mode::Client));
        }
        for node in nodes.iter_mut().chain([&mut client, &mut reader]) {
            for (peer, address) in &addresses {
                node.behaviour_mut().add_address(peer, address.clone());
            }
        }
        let serve = |mut node: Node<S>| async move {
            loop {
                node.select_next_some().await;
            }
        };
        let servers = nodes.into_iter().map(|node| tokio::spawn(serve(node))).collect();
        Self { client, reader, servers }
    }

    async fn put(&mut self, records: &[Record]) -> Duration {
        let quorum = Quorum::N(NonZeroUsize::new(NODES as usize).unwrap());
        let begun = Instant::now();
        for record in records {
            let behaviour = self.client.behaviour_mut();
            let query = behaviour.put_record(record.clone(), quorum).unwrap();
            finish(&mut self.client, query).await;
        }
        begun.elapsed()
    }

    async fn get(&mut self, records: &[Record]) -> Duration {
        let begun = Instant::now();
        for record in records {
            let query = self.reader.behaviour_mut().get_record(record.key.clone());
            let answers = finish(&mut self.reader, query).await;
            assert_eq!(answers as u64, NODES, "all servers have it");
        }
        begun.elapsed()
    }
}

/// Waits for the end of a query. Returns how many answers it had.
async fn finish<S: RecordStore + Send + 'static>(node: &mut Node<S>, query: QueryId) -> usize {
    let mut answers = 0;
    loop {
        let event = node.select_next_some().await;
        let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, step, .. }) =
            event
        else {
            continue;
        };
        if id != query {
            continue;
        }
        match result {
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(_))) => answers += 1,
            kad::QueryResult::PutRecord(put) => assert!(put.is_ok(), "{put:?}"),
            _ => {}
        }
        if step.last {
            return answers;
        }
    }
}

/// This store and libp2p's, in networks of the same form, in alternation.
async fn stores(harness: &mut Harness) {
    if !harness.wants_any(STORES) {
        return;
    }
    let mut ours = Network::new(|peer| {
        let store: SmartRecordStore =
            store_of(peer, MemoryStorage::default(), ManualClock::at(NOW));
        let config = store.kad_config(kad::PROTOCOL_NAME);
        (store, config)
    })
    .await;
    let mut theirs = Network::new(|peer| {
        let config = kad::store::MemoryStoreConfig { max_records: 1 << 20, ..Default::default() };
        (MemoryStore::with_config(peer, config), kad::Config::new(kad::PROTOCOL_NAME))
    })
    .await;
    let (mut put, mut get) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS as u64 {
        let records: Vec<_> = (round * RECORDS..(round + 1) * RECORDS)
            .map(|n| (board_key(n), keypair(n)))
            .map(|(key, keypair)| {
                Record::new(libp2p_kad::RecordKey::new(&key), value(&key, &keypair, 0, HOUR))
            })
            .collect();
        let (our_put, their_put) = (ours.put(&records).await, theirs.put(&records).await);
        let (our_get, their_get) = (ours.get(&records).await, theirs.get(&records).await);
        // The first round connects all nodes.
        if round > 0 {
            put.push(their_put.as_secs_f64() / our_put.as_secs_f64());
            get.push(our_get.as_secs_f64() / their_get.as_secs_f64());
        }
    }
    STORES.into_iter().zip([put, get]).for_each(|(name, ratios)| harness.report(name, ratios));
}

/// The longest time that one event occupies a swarm's task while a board of 1,000 writers arrives,
/// and while the node's own client reads another board from several holders.
async fn holds(harness: &mut Harness) {
    if !harness.wants_any(HOLDS.iter().flat_map(|(_, names)| *names)) {
        return;
    }
    let boards: Vec<_> = (0..2).map(|n| (board_key(n), board(&board_key(n), 0..1_000))).collect();
    let mut held = HOLDS.map(|(validation, names)| (validation, names, [Vec::new(), Vec::new()]));
    for _ in 0..ROUNDS {
        for (validation, names, held) in &mut held {
            if harness.wants_any(*names) {
                let longest = hold(&boards, *validation).await;
                held.iter_mut().zip(longest).for_each(|(held, it)| held.push(millis(it)));
            }
        }
    }
    for (_, names, held) in held {
        let measured = names.into_iter().zip(held).filter(|(_, held)| !held.is_empty());
        measured.for_each(|(name, held)| harness.report(name, held));
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// The longest time that one packet occupies a swarm's task which is full of updates signed with
/// keys of one type, all of them new. Inline signatures worth 4 ms are verified, and the one that
/// exceeds that.
async fn packets(harness: &mut Harness) {
    for (author, ways) in Author::all_types().into_iter().zip(PACKETS) {
        let packet = packet_of(&author);
        let mut held = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for ((validation, name), held) in ways.into_iter().zip(&mut held) {
                if harness.wants(name) {
                    held.push(millis(hold_of(&packet, validation).await));
                }
            }
        }
        for ((_, name), held) in ways.into_iter().zip(held).filter(|(_, held)| !held.is_empty()) {
            harness.report(name, held);
        }
    }
}

/// As many updates of a space as a packet has room for and a space may have.
fn packet_of(author: &Author) -> Vec<u8> {
    let updates = (0_i64..64).map(|n| author.sign(&Update::saying(n).after(n.unsigned_abs())));
    let (mut space, mut packet) = (Vec::new(), Vec::new());
    for update in updates {
        space.push(update);
        let larger = encode([author.space_of(space.clone())]);
        if larger.len() > 15 * 1_024 {
            break;
        }
        packet = larger;
    }
    packet
}

async fn hold_of(packet: &[u8], validation: Validation) -> Duration {
    let (keypair, clock) = (Keypair::generate_ed25519(), ManualClock::at(forge::at(forge::NOW)));
    let store: SmartRecordStore =
        store_of(keypair.public().to_peer_id(), MemoryStorage::default(), clock);
    let config = BehaviourConfig::default().with_validation(validation);
    let (behaviour, _client) =
        Behaviour::builder(keypair.clone()).with_store(store).unwrap().with_config(config).build();
    let mut measured = swarm(keypair, behaviour);
    measured.behaviour_mut().kad_mut().set_mode(Some(Mode::Server));
    let (address, id) = (listening(&mut measured).await, *measured.local_peer_id());
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let mut sender = swarm(keypair, kad::Behaviour::new(peer, MemoryStore::new(peer)));
    sender.behaviour_mut().add_address(&id, address);
    let record = Record::new(libp2p_kad::RecordKey::new(&forge::key()), packet.to_vec());
    sender.behaviour_mut().put_record_to(record, [id].into_iter(), Quorum::One);
    let sending = tokio::spawn(async move {
        loop {
            sender.select_next_some().await;
        }
    });
    // A thread that does nothing else, because one poll of the swarm is measured.
    let runtime = Handle::current();
    let task = thread::spawn(move || {
        let mut longest = Duration::ZERO;
        runtime.block_on(poll_fn(|cx| {
            loop {
                let begun = thread_time();
                let polled = measured.poll_next_unpin(cx);
                longest = longest.max(thread_time().saturating_sub(begun));
                match polled {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(SwarmEvent::Behaviour(Event::Store(
                        StoreEvent::Stored { .. },
                    )))) => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                }
            }
        }));
        longest
    });
    let longest = tokio::task::spawn_blocking(|| task.join().unwrap()).await.unwrap();
    sending.abort();
    longest
}

/// How many nodes have the board that is read.
const HOLDERS: u64 = 5;

async fn hold(boards: &[(RecordKey, SmartRecord)], validation: Validation) -> [Duration; 2] {
    let server = |n: u64, validation: Validation| {
        let keypair = keypair(3_000_000 + n);
        // Enough for five holders to show all of it.
        let config = BehaviourConfig::default().with_validation(validation).with_read_rounds(64);
        let peer = keypair.public().to_peer_id();
        let store: SmartRecordStore =
            store_of(peer, MemoryStorage::default(), ManualClock::at(NOW));
        let (behaviour, client) = Behaviour::builder(keypair.clone())
            .with_protocol(kad::PROTOCOL_NAME)
            .with_store(store)
            .unwrap()
            .with_config(config)
            .build();
        let mut swarm = swarm(keypair, behaviour);
        swarm.behaviour_mut().kad_mut().set_mode(Some(Mode::Server));
        (swarm, client)
    };
    let (mut measured, client) = server(0, validation);
    let address = listening(&mut measured).await;
    let id = *measured.local_peer_id();
    // One of the boards is pushed to the node; the other has to be fetched from its holders.
    let [(pushed, pushed_board), (fetched, fetched_board)] = boards else { panic!("two boards") };
    let mut holders = Vec::new();
    for n in 1..=HOLDERS {
        let (mut holder, client) = server(n, Validation::Inline);
        for chunk in fetched_board.chunks(15 * 1_024) {
            holder
                .behaviour_mut()
                .store_mut()
                .put(Record::new(libp2p_kad::RecordKey::new(fetched), chunk))
                .unwrap();
        }
        let (peer, holder_address) = (*holder.local_peer_id(), listening(&mut holder).await);
        measured.behaviour_mut().kad_mut().add_address(&peer, holder_address);
        let kad = holder.behaviour_mut().kad_mut();
        kad.add_address(&id, address.clone());
        for chunk in pushed_board.chunks(15 * 1_024).filter(|_| n == 1) {
            kad.put_record_to(
                Record::new(libp2p_kad::RecordKey::new(pushed), chunk),
                [id].into_iter(),
                Quorum::One,
            );
        }
        holders.push(tokio::spawn(async move {
            let _client = client;
            loop {
                holder.select_next_some().await;
            }
        }));
    }
    // A task and a thread that do nothing else, because one poll of the swarm is measured.
    let (stop, mut stopped) = mpsc::unbounded_channel::<()>();
    let (done, mut is_done) = mpsc::unbounded_channel();
    let key = pushed.clone();
    let runtime = Handle::current();
    let task = thread::spawn(move || {
        let (mut longest, mut phase, mut arrived) = ([Duration::ZERO; 2], 0, 0);
        runtime.block_on(poll_fn(|cx| {
            if stopped.poll_recv(cx).is_ready() {
                return Poll::Ready(());
            }
            loop {
                let begun = thread_time();
                let polled = measured.poll_next_unpin(cx);
                longest[phase] = longest[phase].max(thread_time().saturating_sub(begun));
                match polled {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(SwarmEvent::Behaviour(Event::Store(
                        StoreEvent::Stored { key: stored, writers, .. },
                    )))) if stored == key => {
                        arrived += writers.len();
                        if arrived == 1_000 {
                            phase = 1;
                            let _ = done.send(());
                        }
                    }
                    Poll::Ready(_) => {}
                }
            }
        }));
        (longest, measured)
    });
    is_done.recv().await;
    let read = client.get(fetched.clone()).await.unwrap();
    assert_eq!(read.view().iter().len(), 1_000);
    stop.send(()).unwrap();
    let (longest, mut measured) = task.join().unwrap();
    let stored = measured.behaviour_mut().store_mut().record(pushed).unwrap().unwrap();
    assert_eq!(stored.spaces().len(), 1_000);
    holders.iter().for_each(JoinHandle::abort);
    longest
}
