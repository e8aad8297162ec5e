//! A behaviour without a swarm: the test answers its requests, and has the time pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::FutureExt;
use libp2p_identity::{Keypair, PeerId};
use libp2p_swarm::NetworkBehaviour;
use smart_record_core::{AcceptAny, Dict, Registry};

use super::Network;
use crate::{
    behaviour::{Behaviour, BehaviourConfig},
    client::{Client, ClientError},
    outbound::{Request, Response},
    query::{ReadOptions, ReadPolicy, Reading},
    store::{SmartRecordStore, StoreConfig},
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
}

type Call<T> = futures::future::LocalBoxFuture<'static, Result<T, ClientError>>;

impl Node {
    fn new(servers: usize) -> Self {
        let config = BehaviourConfig::default().with_replication_interval(None);
        let keypair = Keypair::generate_ed25519();
        let registry = Registry::default().with_fallback(AcceptAny::default());
        let local = keypair.public().to_peer_id();
        let store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
        let (mut behaviour, client) =
            Behaviour::builder(keypair).with_store(store).unwrap().with_config(config).build();
        behaviour.env.net.test_time = Some(Duration::ZERO.into());
        let servers: Vec<_> = std::iter::repeat_with(PeerId::random).take(servers).collect();
        for server in &servers {
            let address = "/ip4/192.0.2.1/tcp/4001".parse().unwrap();
            behaviour.kad_mut().add_address(server, address);
        }
        Self { behaviour, client, servers }
    }

    /// Does what is to be done now.
    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.behaviour.poll(&mut cx).is_ready() {}
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
        let client = self.client.clone();
        let options = ReadOptions::from(ReadPolicy::Settled).with_deadline(deadline);
        self.begin(async move { client.get_with(format!("/sr/{n}"), options).await })
    }

    /// The requests that are under way for which this is true.
    fn asked(&self, is_one: impl Fn(&Request) -> bool) -> usize {
        let pending = self.behaviour.env.net.outbound.pending();
        pending.iter().filter(|(_, _, request)| is_one(request)).count()
    }

    /// The oldest request for which this is true is answered. Returns whether there is one.
    fn answer(&mut self, is_one: impl Fn(&Request) -> bool) -> bool {
        let outbound = &mut self.behaviour.env.net.outbound;
        let oldest = outbound.pending().into_iter().find(|(_, _, request)| is_one(request));
        if let Some((id, ..)) = &oldest {
            outbound.end(*id, Ok(Response::default()));
            self.poll();
        }
        oldest.is_some()
    }
}

fn is_get(request: &Request) -> bool {
    matches!(request, Request::GetValue { .. })
}

fn is_put(request: &Request) -> bool {
    matches!(request, Request::PutValue { .. })
}

fn is_find(request: &Request) -> bool {
    matches!(request, Request::FindNode { .. })
}

fn text(text: &str) -> Dict {
    [("text", text)].into_iter().collect()
}

#[test]
fn a_timer_that_has_fired_wakes_once() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut network = Network::new(PeerId::random(), libp2p_kad::PROTOCOL_NAME);
    while wakes.0.load(Ordering::SeqCst) == 0 {
        assert!(matches!(network.poll(&mut cx, Some(Duration::ZERO)), Poll::Pending));
        std::thread::yield_now();
    }
    assert!(network.poll(&mut cx, None).is_pending());
    let before = wakes.0.load(Ordering::SeqCst);
    for _ in 0..10 {
        assert!(network.poll(&mut cx, None).is_pending());
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), before);
}

#[test]
fn who_is_to_be_asked_back_waits_for_room_and_holds_up_nobody() {
    let mut node = Node::new(1);
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    assert!(node.answer(is_get) && node.answer(is_put));
    assert_eq!((&mut publish).now_or_never().unwrap().unwrap().peers, node.servers);
    let gets: Vec<_> = (0..8).map(|n| node.get(n, 60 * S)).collect();
    assert_eq!(node.asked(is_get), 8, "as many as a peer is asked at a time");
    // Now it would be asked back.
    let now = node.behaviour.env.net.now();
    node.pass(100 * MS);
    assert!(node.behaviour.env.net.now() < now + S, "it does not spin");
    for mut get in gets {
        assert!(node.answer(is_get));
        assert!((&mut get).now_or_never().unwrap().is_ok());
    }
    assert_eq!(node.asked(is_get), 1, "it is asked back");
}

#[test]
fn a_value_that_is_put_while_there_is_no_room_is_sent_later() {
    let mut node = Node::new(1);
    let gets: Vec<_> = (0..8).map(|n| node.get(n, 60 * S)).collect();
    let client = node.client.clone();
    let mut put = node.begin(async move { client.put("/any/value", "x").await });
    assert_eq!(node.asked(is_find), 0);
    assert!(node.answer(is_get));
    assert!(node.answer(is_find) && node.answer(is_put));
    assert_eq!((&mut put).now_or_never().unwrap().unwrap().peers, node.servers);
    drop(gets);
}

#[test]
fn room_that_is_free_because_somebody_gave_up_is_used() {
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
fn reads_that_follow_one_another_leave_room_for_a_write() {
    let mut node = Node::new(20);
    let mut gets: Vec<_> = (0..63).map(|n| node.get(n, 60 * S)).collect();
    assert_eq!(node.asked(is_get), 64, "as many as a node asks at a time");
    let client = node.client.clone();
    let mut publish = node.begin(async move { client.publish("/sr/a", text("x"), 60 * S).await });
    let mut ended = 0;
    for _ in 0..64 * 20 * 2 {
        if let Some(published) = (&mut publish).now_or_never() {
            assert_eq!(published.unwrap().peers.len(), 11, "a majority");
            assert!(ended > 0, "nor are reads starved");
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
