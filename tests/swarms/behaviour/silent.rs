//! Reads, writes and watches while peers are silent, and answers of other implementations.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt, StreamExt, future::join_all};
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
    AcceptAny, Clock, Dict, Fault, Limits, RecordKey, Registry, SmartRecord, SpaceSigner,
    SystemClock,
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

/// What it has under the key.
async fn kept(plain: &Node<MemoryStore>) -> SmartRecord {
    let name = kad::RecordKey::new(&key());
    let value = plain.store(move |store| store.get(&name).unwrap().value.clone()).await.unwrap();
    SmartRecord::decode(&key(), value, &Limits::default()).unwrap()
}

/// Has it hold a record.
async fn keeps(plain: &Node<MemoryStore>, record: &SmartRecord) {
    let put = kad::Record::new(kad::RecordKey::new(&key()), record.encode());
    plain.store(move |store| store.put(put).unwrap()).await.unwrap();
}

fn record(bytes: usize) -> SmartRecord {
    record_of(&key(), bytes)
}

fn record_of(key: &RecordKey, bytes: usize) -> SmartRecord {
    let now = SystemClock.now();
    let mut record = SmartRecord::new(key.clone());
    while record.encode().len() < bytes {
        let keypair = Keypair::generate_ed25519();
        let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
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
        let reading = peers[1].client.get(key.clone()).await.unwrap();
        assert_eq!(reading.snapshot.value().map(|value| value.as_ref()), Some(&value[..]));
        let error = peers[0].client.put(key, vec![7; value.len() + 1]).await.unwrap_err();
        assert_eq!(error.fault(), Some(Fault::LimitExceeded), "no packet carries it");
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
        assert_eq!(texts(&kept(&plain).await.view(SystemClock.now())), ["a", "b"]);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_keeps_the_last_put_loses_nothing_by_a_repair() {
    let plain = stock().await;
    let (server, mut reader) = (Peer::start().await, Peer::start().await);
    let [there, here] = [(); 2].map(|()| record(1));
    server.store(&here).await;
    keeps(&plain, &there).await;
    reader.add(plain.peer(), plain.address()).await;
    reader.add(server.id, server.address.clone()).await;
    within(async {
        assert_eq!(reader.client.get(key()).await.unwrap().view().len(), 2);
        let id = plain.peer();
        let is_repaired = |event: &Event| match event {
            Event::Repaired { peers, .. } => peers.contains(&id).then_some(()),
            _ => None,
        };
        reader.until(is_repaired).await;
        assert_eq!(kept(&plain).await.spaces().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_keeps_the_last_put_loses_nothing_of_a_large_record() {
    let plain = stock().await;
    let (server, writer) = (Peer::start().await, Peer::start().await);
    let [there, here] = [(); 2].map(|()| record(9 * 1_024));
    server.store(&here).await;
    keeps(&plain, &there).await;
    writer.add(plain.peer(), plain.address()).await;
    writer.add(server.id, server.address.clone()).await;
    within(async {
        for text in ["first", "second"] {
            let publication = writer.client.publish(key(), says(text), MINUTE).await.unwrap();
            assert!(publication.finished().await.acknowledged().any(|peer| peer == plain.peer()));
            let kept = kept(&plain).await;
            assert_eq!(kept.spaces().len(), there.spaces().len() + 1);
            assert!(texts(&kept.view(SystemClock.now())).contains(&text.to_owned()));
        }
    })
    .await;
}

#[tokio::test]
async fn who_answers_late_that_it_has_nothing_is_repaired_before_the_client_is_closed() {
    let (holder, late, reader) = (Peer::start().await, Peer::start().await, Peer::start().await);
    let third = Peer::start().await;
    mesh(&[&holder, &late, &reader, &third]).await;
    within(async {
        // A late answer counts for two seconds, which a slow machine may miss.
        for n in 0.. {
            let key = RecordKey::new(format!("/sr/late/{n}"));
            holder.store(&record_of(&key, 1)).await;
            late.freeze(true);
            assert_eq!(reader.client.get(key.clone()).await.unwrap().view().len(), 1);
            late.freeze(false);
            reader.client.close().await.unwrap();
            if late.stored(&key).await.is_some() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_has_acknowledged_has_done_so_whatever_becomes_of_it() {
    let (server, writer) = (Peer::start().await, Peer::start().await);
    mesh(&[&server, &writer]).await;
    within(async {
        let publication = writer.client.publish(key(), says("x"), MINUTE).await.unwrap();
        // It is not there when it is asked back.
        server.freeze(true);
        let progress = publication.finished().await;
        assert_eq!(progress.acknowledged().collect::<Vec<_>>(), [server.id]);
    })
    .await;
}

#[tokio::test]
async fn what_this_node_has_is_read_while_nobody_answers() {
    let (reader, silent) = (Peer::start().await, Peer::start().await);
    mesh(&[&reader, &silent]).await;
    reader.store(&record(1)).await;
    silent.freeze(true);
    within(async {
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!((reading.view().len(), reading.is_complete()), (1, false));
    })
    .await;
}

#[tokio::test]
async fn a_first_write_costs_one_lookup_though_many_are_silent() {
    let servers = join_all((0..4).map(|_| Peer::start())).await;
    let writer = Peer::start().await;
    for server in &servers {
        writer.add(server.id, server.address.clone()).await;
    }
    let (live, silent) = servers.split_first().unwrap();
    silent.iter().for_each(|peer| peer.freeze(true));
    within(async {
        let published = writer.client.publish(key(), says("x"), MINUTE).await;
        assert_eq!(published.unwrap().peers, [live.id]);
        assert_eq!(writer.smart(|smart| smart.counters().lookups).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_write_is_told_at_its_deadline_though_its_reads_may_take_longer() {
    let config = quiet().with_write_deadline(Duration::ZERO);
    let (writer, silent) = (Setup::with_config(config).start().await, Peer::start().await);
    mesh(&[&writer, &silent]).await;
    silent.freeze(true);
    within(async {
        let error = writer.client.publish(key(), says("x"), MINUTE).await.unwrap_err();
        let publication = error.into_publication().unwrap();
        assert!(!publication.progress().is_over, "it goes on in the background");
        assert_eq!(writer.smart(|smart| smart.counters().silent).await, 0, "nobody had its time");
        silent.freeze(false);
        assert_eq!(publication.finished().await.acknowledged().collect::<Vec<_>>(), [silent.id]);
    })
    .await;
}

#[tokio::test]
async fn a_late_answer_is_shown_to_watchers() {
    let (late, reader) = (Peer::start().await, Peer::start().await);
    let (third, fourth) = (Peer::start().await, Peer::start().await);
    mesh(&[&late, &reader, &third, &fourth]).await;
    within(async {
        // A late answer counts for two seconds, which a slow machine may miss.
        for n in 0.. {
            let key = RecordKey::new(format!("/sr/late/{n}"));
            late.store(&record_of(&key, 1)).await;
            late.freeze(true);
            let mut watch = reader.client.watch(key).await.unwrap();
            assert!(watch.next().await.unwrap().is_empty());
            late.freeze(false);
            // There is no other read within hours.
            while reader.smart(|smart| smart.requests()).await > 0 {}
            if let Some(snapshot) = watch.next().now_or_never() {
                assert_eq!(snapshot.unwrap().view().len(), 1);
                break;
            }
        }
    })
    .await;
}
