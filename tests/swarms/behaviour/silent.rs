//! Reads, writes and watches while peers are silent, and answers of other implementations.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, future::join_all};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    connection_limits::ConnectionLimits,
    identity::Keypair,
    kad::{
        self,
        store::{MemoryStore, RecordStore},
    },
};
use libp2p_smart_record::{
    AcceptAny, Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceSigner, SystemClock,
    behaviour::{BehaviourConfig, Event},
    query::ReadPolicy,
};
use smart_record_testing_swarms::Node;

use crate::{
    nodes::{PROTOCOL, within},
    peer::{Composed, MINUTE, Peer, Setup, key, mesh, quiet, says, texts},
};

fn number(n: i64) -> Dict {
    [("n", n)].into_iter().collect()
}

#[tokio::test]
async fn a_frozen_peer_delays_no_operation_and_a_client_sees_every_reading() {
    let (a, b, c) = (Peer::start().await, Peer::start().await, Peer::start().await);
    let (d, reader) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b, &c, &d, &reader]).await;
    d.freeze(true);
    within(async {
        a.client.publish(key(), says("x"), MINUTE).await.unwrap();
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(texts(&reading.view()), ["x"]);
        assert!(reading.is_complete());
        assert_eq!(reading.silent, [d.id]);
        let mut readings = reader.client.read(key(), ReadPolicy::Settled).await.unwrap();
        let mut last = None;
        while let Some(reading) = readings.next().await {
            assert_eq!(texts(&reading.view()), ["x"]);
            last = Some(reading.is_complete());
        }
        assert_eq!(last, Some(true), "the settled reading is the last");
        d.freeze(false);
        // It answers again.
        while !reader.client.get(key()).await.unwrap().silent.is_empty() {}
    })
    .await;
}

#[tokio::test]
async fn with_a_frozen_peer_a_watch_shows_every_change_and_no_live_writer_disappears() {
    let servers =
        join_all((0..6).map(|_| Setup::with_config(BehaviourConfig::default()).start())).await;
    let interval = Duration::from_millis(200);
    let client = Setup::with_config(quiet().with_watch_interval(interval)).start().await;
    client.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    let mut all: Vec<_> = servers.iter().collect();
    all.push(&client);
    mesh(&all).await;
    let (frozen, live) = servers.split_last().unwrap();
    let live_ids: BTreeSet<_> = live.iter().map(|peer| peer.id).collect();
    within(async {
        for server in &servers {
            server.client.publish(key(), number(0), MINUTE).await.unwrap();
        }
        let mut watch = client.client.watch(key()).await.unwrap();
        while watch.next().await.unwrap().view().len() < 6 {}
        frozen.freeze(true);
        for n in 1..=10 {
            for server in live {
                server.client.replace(key(), number(n), MINUTE).await.unwrap();
                // The next whole read finds what a majority has acknowledged. One read may be under
                // way.
                let reads = client.smart(|smart| smart.counters().reads).await;
                loop {
                    let view = watch.next().await.unwrap().view();
                    let seen: BTreeSet<_> =
                        view.iter().map(|(writer, _)| writer.peer_id()).collect();
                    assert!(live_ids.is_subset(&seen), "a live writer has disappeared");
                    let says = view.get(&server.id).and_then(|space| space.document.get("n"));
                    if says.and_then(|node| node.as_i64()) == Some(n) {
                        break;
                    }
                }
                let now = client.smart(|smart| smart.counters().reads).await;
                assert!(now - reads <= 2, "{} reads", now - reads);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_denied_dial_delays_no_operation_and_does_not_count_as_silence() {
    let deny = |swarm: &mut Swarm<Composed>, peer| {
        swarm.behaviour_mut().blocked.block_peer(peer);
    };
    denied_dials_are_harmless(deny).await;
}

#[tokio::test]
async fn a_connection_over_a_limit_delays_no_operation_and_does_not_count_as_silence() {
    let limit = |swarm: &mut Swarm<Composed>, _| {
        let limits = ConnectionLimits::default().with_max_established(Some(1));
        *swarm.behaviour_mut().limits.limits_mut() = limits;
    };
    denied_dials_are_harmless(limit).await;
}

/// Adds a second peer to the routing table once connections to it are denied.
async fn denied_dials_are_harmless(
    deny: impl FnOnce(&mut Swarm<Composed>, PeerId) + Send + 'static,
) {
    let (mut a, b, c) = (Peer::start().await, Peer::start().await, Peer::start().await);
    mesh(&[&a, &c]).await;
    within(a.client.get(key())).await.unwrap();
    let denied = b.id;
    a.with(move |swarm| deny(swarm, denied)).await;
    a.add(b.id, b.address.clone()).await;
    within(async {
        a.client.publish(key(), says("x"), MINUTE).await.unwrap();
        for _ in 0..5 {
            let reading = a.client.get(key()).await.unwrap();
            assert_eq!((reading.holders, reading.silent.len()), (vec![c.id], 0));
        }
        assert_eq!(a.smart(|smart| smart.counters().evicted).await, 0);
        assert!(a.until(|event| matches!(event, Event::Store(_)).then_some(true)).await);
    })
    .await;
}

/// A Kademlia server with libp2p's own store.
pub(super) async fn stock() -> Node<MemoryStore> {
    let keypair = Keypair::generate_ed25519();
    let store = MemoryStore::new(keypair.public().to_peer_id());
    Node::start(keypair, store, kad::Config::new(PROTOCOL)).await
}

fn record(bytes: usize) -> SmartRecord {
    let now = SystemClock.now();
    let mut record = SmartRecord::new(key());
    while record.encode().len() < bytes {
        let keypair = Keypair::generate_ed25519();
        let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
        let text = "x".repeat(1_000);
        signer.merge([("text", text.as_str())].into_iter().collect(), now, MINUTE).unwrap();
        record.join(signer.record(now)).unwrap();
    }
    record
}

#[tokio::test]
async fn case_1_an_answer_that_is_larger_than_a_packet_of_kademlia_is_read() {
    let server = stock().await;
    let record = record(8 * 1_024);
    let value = record.encode();
    server
        .with(move |swarm| {
            let kad = &mut swarm.behaviour_mut().kad;
            kad.store_mut().put(kad::Record::new(kad::RecordKey::new(&key()), value)).unwrap();
            for _ in 0..20 {
                let peer = PeerId::random();
                for i in 0..16 {
                    let address = format!("/ip4/192.0.2.{i}/udp/4001/quic-v1");
                    kad.add_address(&peer, address.parse::<Multiaddr>().unwrap());
                }
            }
        })
        .await
        .unwrap();
    let client = Peer::start().await;
    client.add(server.peer(), server.address()).await;
    within(async {
        let reading = client.client.get(key()).await.unwrap();
        assert_eq!(reading.holders, [server.peer()]);
        assert_eq!(reading.snapshot.record(), Some(&record));
    })
    .await;
}

#[tokio::test]
async fn an_inbound_message_is_limited_to_16_kib() {
    let client = stock().await;
    let registry = Registry::default().with_fallback(AcceptAny::default());
    let server = Setup { registry, ..Setup::default() }.start().await;
    client.add(server.id, server.address.clone()).await.unwrap();
    within(async {
        for (key, bytes, is_taken) in [("/any/a", 17 * 1_024, false), ("/any/b", 15 * 1_024, true)]
        {
            let key = RecordKey::from(key);
            let put = client.put_to(server.id, &key, vec![7; bytes]).await;
            assert_eq!(put.is_ok(), is_taken, "{put:?}");
            let stored = server.smart(move |smart| smart.store_mut().value(&key).unwrap()).await;
            assert_eq!(stored.is_some(), is_taken);
        }
    })
    .await;
}

#[tokio::test]
async fn case_2_a_value_that_fills_a_packet_is_readable_beside_many_peers() {
    let setup = || {
        let registry = Registry::default().with_fallback(AcceptAny::default());
        Setup { registry, ..Setup::default() }.start()
    };
    let peers = join_all((0..14).map(|_| setup())).await;
    mesh(&peers.iter().collect::<Vec<_>>()).await;
    within(async {
        let key = RecordKey::from("/any/value");
        let value = vec![7; 15 * 1_024];
        let publication = peers[0].client.put(key.clone(), value.clone()).await.unwrap();
        assert_eq!(publication.peers.len(), 13);
        let reading = peers[1].client.get(key).await.unwrap();
        assert_eq!(reading.snapshot.value().map(|value| value.as_ref()), Some(&value[..]));
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_keeps_the_last_put_has_all_that_was_known() {
    let plain = stock().await;
    let (a, b) = (Peer::start().await, Peer::start().await);
    for peer in [&a, &b] {
        peer.add(plain.peer(), plain.address()).await;
    }
    within(async {
        a.client.publish(key(), says("a"), MINUTE).await.unwrap();
        let publication = b.client.publish(key(), says("b"), MINUTE).await.unwrap();
        assert!(publication.peers.contains(&plain.peer()));
        let stored =
            plain.store(|store| store.get(&kad::RecordKey::new(&key())).unwrap().value.clone());
        let value = stored.await.unwrap();
        let record = SmartRecord::decode(&key(), value, &Limits::default()).unwrap();
        assert_eq!(texts(&record.view(SystemClock.now())), ["a", "b"]);
    })
    .await;
}
