//! A behaviour without a swarm: the test answers its requests and sets the time.

mod answers;
mod holders;
mod lifetimes;
mod policies;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::{Keypair, PeerId};
use libp2p_swarm::{ConnectionId, NetworkBehaviour, ToSwarm};
use smart_record_core::{
    AcceptAny, AskerTag, Clock, Coverage, Dict, Limits, Open, RecordKey, Registry, RingArc,
    SmartRecord, SpaceRules, SpaceSigner,
};

use smart_record_lookup::Place;
use smart_record_testing::ManualClock;

use super::{Ended, Network, NetworkEvent, RequestOutcome};
use crate::{
    SystemClock,
    addresses::without_peer,
    behaviour::{Behaviour, BehaviourConfig, Event},
    client::{Client, ClientError},
    outbound::{Closer, Failure, Record, Request, Response},
    query::{DroppedSpaces, ReadOptions, ReadPolicy, Reading},
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Number of times that the task was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A behaviour that knows some servers.
struct Node {
    behaviour: Behaviour,
    client: Client,
    servers: Vec<PeerId>,
    events: Vec<Event>,
    /// Who was dialled.
    dials: Vec<PeerId>,
}

/// What runs the worker.
type Executor = Box<dyn FnOnce(BoxFuture<'static, ()>) + Send>;

type Call<T> = futures::future::LocalBoxFuture<'static, Result<T, ClientError>>;

impl Node {
    fn new(servers: usize) -> Self {
        Self::with_config(servers, BehaviourConfig::default())
    }

    fn with_config(servers: usize, config: BehaviourConfig) -> Self {
        Self::at(SystemClock, servers, config)
    }

    fn at(clock: impl Clock, servers: usize, config: BehaviourConfig) -> Self {
        let registry = Registry::default().with_fallback(AcceptAny::default());
        Self::with_registry(registry, clock, servers, config)
    }

    fn with_registry(
        registry: Registry,
        clock: impl Clock,
        servers: usize,
        config: BehaviourConfig,
    ) -> Self {
        Self::build(registry, clock, servers, config, None)
    }

    fn build(
        registry: Registry,
        clock: impl Clock,
        servers: usize,
        config: BehaviourConfig,
        executor: Option<Executor>,
    ) -> Self {
        let config = config.with_replication_interval(None);
        let keypair = Keypair::generate_ed25519();
        let local = keypair.public().to_peer_id();
        let (config_of_store, storage) = (StoreConfig::default(), MemoryStorage::default());
        let store =
            SmartRecordStore::with_storage(local, registry, config_of_store, storage, clock);
        let store = store.unwrap();
        let mut builder =
            Behaviour::builder(keypair).with_store(store).unwrap().with_config(config);
        if let Some(executor) = executor {
            builder = builder.with_executor(executor);
        }
        let (mut behaviour, client) = builder.build();
        behaviour.env.net.test_time = Some(Duration::ZERO.into());
        let servers: Vec<_> = std::iter::repeat_with(PeerId::random).take(servers).collect();
        for server in &servers {
            let address = "/ip4/8.8.8.1/tcp/4001".parse().unwrap();
            behaviour.kad_mut().add_address(server, address);
        }
        Self { behaviour, client, servers, events: Vec::new(), dials: Vec::new() }
    }

    /// Polls the behaviour until it is pending.
    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = self.behaviour.poll(&mut cx) {
            match event {
                ToSwarm::GenerateEvent(event) => self.events.push(event),
                ToSwarm::Dial { opts } => self.dials.extend(opts.get_peer_id()),
                _ => {}
            }
        }
        let unsent = self.behaviour.env.net.outbound.poll(&mut cx);
        assert!(unsent.is_pending(), "pending, with something left to send");
    }

    fn pass(&mut self, time: Duration) {
        let now = self.behaviour.env.net.now() + time;
        self.behaviour.env.net.test_time = Some(now.into());
        self.poll();
    }

    /// Begins a call.
    fn begin<T>(
        &mut self,
        call: impl Future<Output = Result<T, ClientError>> + 'static,
    ) -> Call<T> {
        let mut call = call.boxed_local();
        assert!((&mut call).now_or_never().is_none());
        self.poll();
        call
    }

    fn get(&mut self, n: usize, deadline: Duration) -> Call<Reading> {
        self.get_key(format!("/sr/{n}"), deadline)
    }

    fn get_key(&mut self, key: impl Into<RecordKey>, deadline: Duration) -> Call<Reading> {
        let (client, key) = (self.client.clone(), key.into());
        let options = ReadOptions::from(ReadPolicy::Settled).with_deadline(deadline);
        self.begin(async move { client.get_with(key, options).await })
    }

    /// Number of matching requests under way.
    fn asked(&self, is_one: impl Fn(&Request) -> bool) -> usize {
        let pending = self.behaviour.env.net.outbound.pending();
        pending.iter().filter(|(_, _, request)| is_one(request)).count()
    }

    /// Answers the oldest matching request. Returns whether there is one.
    fn answer(&mut self, is_one: impl Fn(&Request) -> bool) -> bool {
        self.end(is_one, Ok(Response::default())).is_some()
    }

    /// Ends the oldest matching request. Returns its peer.
    fn end(
        &mut self,
        is_one: impl Fn(&Request) -> bool,
        result: Result<Response, Failure>,
    ) -> Option<PeerId> {
        let outbound = &mut self.behaviour.env.net.outbound;
        let mut pending = outbound.pending().into_iter();
        let (id, peer, _) = pending.find(|(_, _, request)| is_one(request))?;
        outbound.end(id, result);
        self.poll();
        Some(peer)
    }

    /// Addresses of a peer in the routing table.
    fn addresses(&mut self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        let kad = self.behaviour.kad_mut();
        let bucket = kad.kbucket(*peer)?;
        let entry = bucket.iter().find(|entry| entry.node.key.preimage() == peer)?;
        Some(entry.node.value.iter().cloned().collect())
    }

    /// Sets the estimated network size to about one.
    fn believe_in_no_peers(&mut self) {
        let net = &mut self.behaviour.env.net;
        let now = net.now();
        for n in 0..5_u32 {
            let target = Place::of_key(&n.to_be_bytes());
            let far = std::iter::repeat_with(PeerId::random)
                .map(|peer| target.distance_of(&peer))
                .find(|distance| distance.as_share() > 0.9);
            net.size.on_closest(target, 2, &far.unwrap(), now);
        }
        assert!(net.size.estimate().unwrap() < 1.2);
    }
}

fn is_get(request: &Request) -> bool {
    matches!(request, Request::GetValue { .. })
}

fn is_put(request: &Request) -> bool {
    matches!(request, Request::PutValue { .. })
}

fn is_get_of_value(request: &Request) -> bool {
    matches!(request, Request::GetValue { key } if key[..] == b"/any/value"[..])
}

fn text(text: &str) -> Dict {
    [("text", text)].into_iter().collect()
}

/// A record under `/sr/a` with one document of another writer.
fn written(document: &str) -> SmartRecord {
    let keypair = Keypair::generate_ed25519();
    let mut signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
    let now = SystemClock.now();
    signer.merge(text(document), now, 60 * S).unwrap();
    signer.record(now)
}

/// The answer of a peer that shows this record and says nothing of what it covers.
fn shows(record: &SmartRecord) -> Result<Response, Failure> {
    answer_with(record.encode())
}

/// The answer for `asker` of a peer that shows all that it has and says so.
fn says(record: &SmartRecord, asker: &PeerId) -> Result<Response, Failure> {
    let mut value = record.encode();
    let spaces = u32::try_from(record.spaces().len()).unwrap();
    let digest = record.digest(SystemClock.now());
    Coverage::new([RingArc::RING], spaces, digest).append_to(&mut value);
    AskerTag::of(asker).append_to(&mut value);
    answer_with(value)
}

fn answer_with(value: Vec<u8>) -> Result<Response, Failure> {
    let record = Record { value: value.into(), publisher: None, ttl: None };
    Ok(Response { record: Some(record), ..Response::default() })
}

#[test]
fn a_fired_timer_wakes_the_task_once() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut network = Network::new(PeerId::random(), libp2p_kad::PROTOCOL_NAME);
    let count = || wakes.0.load(Ordering::SeqCst);
    // Whether a poll finds the timer fired is up to the thread of the timers.
    for _ in 0..20 {
        let before = count();
        while count() < before + 2 {
            assert!(network.poll(&mut cx, Some(Duration::ZERO)).is_pending());
            std::thread::yield_now();
        }
        assert!(network.poll(&mut cx, None).is_pending());
        let before = count();
        for _ in 0..10 {
            assert!(network.poll(&mut cx, None).is_pending());
        }
        // The thread of the timers may still be about to wake the task once.
        assert!(count() <= before + 1, "each poll wakes the task");
    }
}

#[test]
fn a_read_returns_after_twelve_of_twenty_answers_and_asks_the_others_in_the_background() {
    let mut node = Node::new(20);
    let mut get = node.get(1, 60 * S);
    for _ in 0..12 {
        assert!((&mut get).now_or_never().is_none());
        assert!((1..=10).contains(&node.asked(is_get)));
        assert!(node.answer(is_get));
    }
    assert!((&mut get).now_or_never().unwrap().unwrap().is_complete());
    let others = std::iter::from_fn(|| node.answer(is_get).then_some(())).count();
    assert_eq!(others, 8);

    // What is sent depends on what each of the closest has.
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/2", text("x"), 60 * S).await });
    for _ in 0..20 {
        assert_eq!(node.asked(is_put), 0);
        assert!(node.answer(is_get));
    }
    while node.answer(is_put) {}
    assert_eq!((&mut publish).now_or_never().unwrap().unwrap().peers.len(), 11, "a majority");
}

#[test]
fn a_read_asks_others_in_the_place_of_late_peers() {
    let mut node = Node::new(20);
    let mut get = node.get(1, 60 * S);
    for _ in 0..6 {
        assert!(node.answer(is_get));
    }
    assert_eq!(node.asked(is_get), 6, "with them twelve answer");
    node.pass(10 * S);
    assert_eq!(node.asked(is_get), 14, "six are late, the eight others are asked instead");
    for _ in 0..14 {
        assert!((&mut get).now_or_never().is_none());
        assert!(node.answer(is_get));
    }
    assert!((&mut get).now_or_never().unwrap().unwrap().is_complete());
}

#[test]
fn a_due_check_without_a_free_slot_waits_and_does_not_spin() {
    let mut node = Node::new(1);
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    assert!(node.answer(is_get) && node.answer(is_put));
    assert_eq!((&mut publish).now_or_never().unwrap().unwrap().peers, node.servers);
    let gets: Vec<_> = (0..8).map(|n| node.get(n, 60 * S)).collect();
    assert_eq!(node.asked(is_get), 8, "the limit per peer");
    // The check is due.
    let now = node.behaviour.env.net.now();
    node.pass(100 * MS);
    assert!(node.behaviour.env.net.now() < now + S, "the poll spins");
    for mut get in gets {
        assert!(node.answer(is_get));
        assert!((&mut get).now_or_never().unwrap().is_ok());
    }
    assert_eq!(node.asked(is_get), 1, "the check");
}

#[test]
fn a_write_is_sent_once_to_each_replica() {
    let mut node = Node::new(3);
    for n in 0..3 {
        let (client, document) = (node.client.clone(), text(&n.to_string()));
        let mut publish =
            node.begin(async move { client.publish("/sr/a", document, 600 * S).await });
        let mut puts = 0;
        while node.asked(|_| true) > 0 {
            node.answer(is_get);
            puts += usize::from(node.answer(is_put));
        }
        assert!((&mut publish).now_or_never().unwrap().is_ok());
        assert_eq!(puts, 3);
        // The replicas are read again before the next write.
        node.pass(61 * S);
        while node.answer(is_get) {}
        node.pass(61 * S);
        while node.answer(is_get) {}
    }
}

#[test]
fn a_refresh_is_not_ended_by_the_deadline_of_writes() {
    let clock = ManualClock::at(SystemClock.now());
    let config = BehaviourConfig::default().with_write_deadline(Duration::ZERO);
    let mut node = Node::at(clock.clone(), 1, config);
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 600 * S).await });
    while node.end(|_| true, Err(Failure::Closed)).is_some() {}
    let published = (&mut publish).now_or_never().unwrap();
    assert!(matches!(published, Err(ClientError::NotAcknowledged(_))));
    clock.advance(30 * S);
    node.pass(61 * S);
    assert_eq!(node.asked(is_get), 1, "it reads first");
    node.pass(S);
    assert!(node.answer(is_get) && node.answer(is_put));
    let is_sent =
        |event: &Event| matches!(event, Event::Refreshed { peers, .. } if *peers == node.servers);
    assert!(node.events.iter().any(is_sent));
}

#[test]
fn a_read_that_cannot_remember_all_that_was_pushed_out_is_counted() {
    let now = SystemClock.now();
    let withdrawn = |writers| {
        let mut record = SmartRecord::new("/sr/a".into());
        for _ in 0..writers {
            let keypair = Keypair::generate_ed25519();
            let mut signer = SpaceSigner::new("/sr/a".into(), keypair, Limits::default());
            signer.withdraw(now).unwrap();
            record.join(signer.record(now)).unwrap();
        }
        record
    };
    let limits = Limits::default().with_withdrawn_per_record(1);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    let room = 1 + DroppedSpaces::MAX;
    for (writers, forgotten) in [(room, 0), (room + 1, 1)] {
        let answers: Vec<_> = (0..writers).step_by(10).map(|n| (writers - n).min(10)).collect();
        let config = BehaviourConfig::default().with_subnet_share(answers.len());
        let mut node = Node::with_registry(registry.clone(), SystemClock, answers.len(), config);
        let (client, options) = (node.client.clone(), ReadOptions::from(ReadPolicy::All));
        let mut get = node.begin(async move { client.get_with("/sr/a", options).await });
        for writers in answers {
            assert_eq!(node.behaviour.counters().dropped_forgotten, 0);
            assert!(node.end(is_get, shows(&withdrawn(writers))).is_some());
        }
        while node.answer(is_get) {}
        assert!((&mut get).now_or_never().unwrap().is_ok());
        assert_eq!(node.behaviour.counters().dropped_forgotten, forgotten);
    }
}

#[test]
fn without_clients_nothing_is_sent_again() {
    let clock = ManualClock::at(SystemClock.now());
    let mut node = Node::at(clock.clone(), 1, BehaviourConfig::default());
    let client = node.client.clone();
    let publish = node.begin(async move { client.publish("/sr/a", text("x"), 600 * S).await });
    assert!(node.answer(is_get));
    assert_eq!(node.asked(is_put), 1);
    drop(publish);
    node.client = Node::new(0).client;
    node.poll();
    assert!(node.events.iter().any(|event| matches!(event, Event::ClientsGone)));
    while node.end(|_| true, Err(Failure::Closed)).is_some() {}
    clock.advance(3_600 * S);
    node.pass(3_600 * S);
    assert_eq!(node.asked(|_| true), 0);
}

#[test]
fn a_put_begun_without_a_free_slot_is_sent_later() {
    let mut node = Node::new(1);
    let gets: Vec<_> = (0..8).map(|n| node.get(n, 60 * S)).collect();
    let client = node.client.clone();
    let mut put = node.begin(async move { client.put("/any/value", "x").await });
    // The value is read before it is sent.
    assert_eq!(node.asked(is_get_of_value), 0);
    assert!(node.answer(is_get));
    assert!(node.answer(is_get_of_value) && node.answer(is_put));
    assert_eq!((&mut put).now_or_never().unwrap().unwrap().peers, node.servers);
    drop(gets);
}

#[test]
fn slots_of_cancelled_requests_are_used() {
    let mut node = Node::new(1);
    let impatient: Vec<_> = (0..8).map(|n| node.get(n, 100 * MS)).collect();
    let mut patient = node.get(9, 10 * S);
    node.pass(100 * MS);
    for mut get in impatient {
        assert!(matches!((&mut get).now_or_never(), Some(Err(ClientError::TimedOut))));
    }
    assert!(node.answer(is_get));
    assert!((&mut patient).now_or_never().unwrap().is_ok());
}

#[test]
fn consecutive_reads_do_not_starve_a_write() {
    // More reads than there are slots.
    let config = BehaviourConfig::default().with_max_operations(128);
    let mut node = Node::with_config(20, config);
    let mut gets: Vec<_> = (0..100).map(|n| node.get(n, 60 * S)).collect();
    assert_eq!(node.asked(is_get), 64, "the limit of the node");
    let client = node.client.clone();
    let mut put = node.begin(async move { client.put("/any/value", "x").await });
    let mut ended = 0;
    for _ in 0..101 * 20 * 2 {
        if let Some(put) = (&mut put).now_or_never() {
            assert_eq!(put.unwrap().peers.len(), 11, "a majority");
            assert!(ended > 0, "reads are starved");
            return;
        }
        assert!(node.answer(|_| true));
        for get in &mut gets {
            if (&mut *get).now_or_never().is_some() {
                ended += 1;
                *get = node.get(100 + ended, 60 * S);
            }
        }
    }
    panic!("the write is starved");
}

#[test]
fn an_acknowledgement_after_the_call_is_followed_up() {
    let config = BehaviourConfig::default().with_write_deadline(500 * MS);
    let mut node = Node::with_config(1, config);
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    assert!(node.answer(is_get));
    node.pass(600 * MS);
    let published = (&mut publish).now_or_never().unwrap();
    assert!(matches!(published, Err(ClientError::NotAcknowledged(_))));
    assert!(node.answer(is_put));
    node.pass(200 * MS);
    assert_eq!(node.asked(is_get), 1);
}

#[test]
fn a_read_finds_servers_behind_20_clients_in_the_routing_table() {
    let mut node = Node::new(80);
    let mut get = node.get(0, 10 * S);
    let mut clients = 0;
    while clients < 22 && node.end(is_get, Err(Failure::Unsupported)).is_some() {
        clients += 1;
    }
    let mut servers = 0;
    while node.answer(is_get) {
        servers += 1;
    }
    assert!(clients == 22 && servers >= 20, "{clients} and {servers}");
    assert!((&mut get).now_or_never().unwrap().unwrap().is_complete());
}

#[test]
fn an_evicted_peer_returns_with_its_own_addresses() {
    let mut node = Node::new(1);
    let silent = node.servers[0];
    let other: Multiaddr = "/ip4/8.8.8.66/tcp/66".parse().unwrap();
    let evict = |node: &mut Node| {
        let Behaviour { env, operations, .. } = &mut node.behaviour;
        operations.on_network_event(env, NetworkEvent::Evict(silent));
        node.poll();
    };
    let addresses = node.addresses(&silent).unwrap();
    evict(&mut node);
    assert_eq!(node.addresses(&silent), None);
    assert_eq!(node.behaviour.counters().evicted, 1);
    // Somebody adds it again, and it is still silent.
    node.behaviour.kad_mut().add_address(&silent, addresses[0].clone());
    evict(&mut node);
    assert_eq!(node.addresses(&silent), None);
    assert_eq!(node.behaviour.counters().evicted, 2);
    // A liar names it at another address.
    let liar = PeerId::random();
    node.behaviour.kad_mut().add_address(&liar, "/ip4/8.8.8.8/tcp/1".parse().unwrap());
    let _get = node.get(0, 10 * S);
    let lie = Closer { peer: silent, addresses: vec![other] };
    let answer = Response { closer: vec![lie], ..Response::default() };
    assert_eq!(node.end(is_get, Ok(answer)), Some(liar));
    assert_eq!(node.end(is_get, Ok(Response::default())), Some(silent));
    assert_eq!(node.addresses(&silent), Some(addresses));
    // A peer that was not in the table is not added.
    let mut node = Node::new(0);
    evict(&mut node);
    assert_eq!((node.behaviour.counters().evicted, node.addresses(&silent)), (0, None));
}

#[test]
fn evicted_peers_are_dialled_again_one_every_ten_minutes() {
    let mut node = Node::new(2);
    let [a, b] = [0, 1].map(|n| node.servers[n]);
    for silent in [a, b] {
        let Behaviour { env, operations, .. } = &mut node.behaviour;
        operations.on_network_event(env, NetworkEvent::Evict(silent));
    }
    node.dials.clear();
    node.pass(599 * S);
    assert_eq!(node.dials, []);
    node.pass(2 * S);
    assert_eq!(node.dials, [a]);
    node.pass(601 * S);
    node.pass(601 * S);
    assert_eq!(node.dials, [a, b, a]);
    // One that is in the routing table again is not, nor one that has answered.
    let address = "/ip4/8.8.8.66/tcp/66".parse().unwrap();
    node.behaviour.kad_mut().add_address(&b, address);
    for _ in 0..3 {
        node.pass(601 * S);
    }
    assert_eq!(node.dials, [a, b, a, a]);
    node.behaviour.env.net.readmit(&a);
    for _ in 0..3 {
        node.pass(601 * S);
    }
    assert_eq!(node.dials.len(), 4);
}

#[test]
fn a_peer_is_dialled_at_each_address_once() {
    let mut node = Node::new(1);
    let server = node.servers[0];
    let in_table = node.addresses(&server).unwrap();
    // Answers name addresses without the peer, and the table has them with it.
    let named = Closer { peer: server, addresses: in_table.iter().map(without_peer).collect() };
    node.behaviour.env.net.learn_addresses(PeerId::random(), &[named]);
    let _get = node.get(0, 10 * S);
    let (id, role) = (ConnectionId::new_unchecked(1), Endpoint::Dialer);
    let dialled =
        node.behaviour.handle_pending_outbound_connection(id, Some(server), &[], role).unwrap();
    // The swarm dials equal ones once.
    let dialled: BTreeSet<_> = dialled.into_iter().collect();
    let without_peers: BTreeSet<_> = dialled.iter().map(without_peer).collect();
    assert_eq!((dialled.len(), without_peers.len()), (1, 1), "{dialled:?}");
}

#[test]
fn addresses_come_from_the_two_latest_guides() {
    let mut network = Network::new(PeerId::random(), libp2p_kad::PROTOCOL_NAME);
    let [peer, honest, liar] = [(); 3].map(|()| PeerId::random());
    let at = |n: usize| vec![format!("/ip4/8.8.8.{n}/tcp/1").parse::<Multiaddr>().unwrap()];
    let tell = |network: &mut Network, guide, addresses| {
        network.learn_addresses(guide, &[Closer { peer, addresses }]);
    };
    tell(&mut network, honest, at(1));
    for n in 100..110 {
        tell(&mut network, liar, at(n));
        assert_eq!(network.addresses_of(&peer), [at(n), at(1)].concat());
    }
    tell(&mut network, honest, at(2));
    assert_eq!(network.addresses_of(&peer), [at(2), at(109)].concat());
    tell(&mut network, PeerId::random(), at(3));
    assert_eq!(network.addresses_of(&peer), [at(3), at(2)].concat());
}

#[test]
fn the_answer_to_a_displaced_request_counts() {
    let mut node = Node::new(64);
    let gets: Vec<_> = (0..11).map(|n| node.get(n, 60 * S)).collect();
    assert_eq!(node.asked(is_get), 64);
    let net = &mut node.behaviour.env.net;
    let (id, peer, _) = net.outbound.pending().into_iter().next().unwrap();
    net.requests.cancel(id);
    let ended = Ended { id, peer, result: Ok(Response::default()) };
    let news = net.on_ended(ended);
    assert!(matches!(
        news,
        Some(NetworkEvent::Request { outcome: RequestOutcome::Answered(_), .. })
    ));
    drop(gets);
}

#[test]
fn reads_and_reads_for_writes_report_implausible_peers() {
    for (key, is_put) in [("/sr/a", false), ("/any/value", true)] {
        let mut node = Node::new(0);
        let place = Place::of_key(key.as_bytes());
        let close: Vec<_> = std::iter::repeat_with(PeerId::random)
            .filter(|peer| place.distance_of(peer).as_share() < 0.5)
            .take(12)
            .collect();
        for peer in &close {
            let address = "/ip4/8.8.8.1/tcp/4001".parse().unwrap();
            node.behaviour.kad_mut().add_address(peer, address);
        }
        node.believe_in_no_peers();
        let client = node.client.clone();
        let _call = node.begin(async move {
            match is_put {
                true => client.put(key, "x").await.map(drop),
                false => client.get(key).await.map(drop),
            }
        });
        while node.answer(|_| true) {}
        let told = node.events.iter().find_map(|event| match event {
            Event::Implausible { key, .. } => Some(key.clone()),
            _ => None,
        });
        assert_eq!(told, Some(key.into()));
    }
}

#[test]
fn a_holder_found_behind_is_not_known_to_join() {
    let mut node = Node::new(1);
    let server = node.servers[0];
    let client = node.client.clone();
    let _publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    assert!(node.answer(is_get));
    let pending = node.behaviour.env.net.outbound.pending();
    let sent = pending.iter().find_map(|(_, _, request)| match request {
        Request::PutValue { record, .. } => Some(record.value.clone()),
        _ => None,
    });
    let limits = Limits::default();
    let mut both = SmartRecord::decode(&"/sr/a".into(), sent.unwrap(), &limits).unwrap();
    let other = written("y");
    both.join(other.clone()).unwrap();
    assert!(node.answer(is_put));
    node.pass(200 * MS);
    assert!(node.end(is_get, says(&both, &node.behaviour.env.local)).is_some());
    assert!(node.behaviour.env.holders.joins(&server), "it has answered by itself");
    let _get = node.get_key("/sr/a", 10 * S);
    assert!(node.end(is_get, shows(&other)).is_some());
    assert!(!node.behaviour.env.holders.joins(&server), "somebody has written over it");
}
