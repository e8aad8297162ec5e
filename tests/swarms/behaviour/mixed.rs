//! Networks in which nodes with libp2p's own store, which keep the last PUT, are replicas.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use libp2p::kad::{
    self,
    store::{MemoryStore, RecordStore},
};
use libp2p_smart_record::{Clock, Limits, SmartRecord, SystemClock};
use smart_record_testing_swarms::{Node, connect};

use super::silent::stock;
use crate::{
    nodes::within,
    peer::{MINUTE, Peer, Setup, key, mesh, quiet, says, texts},
};

/// What a plain node alone says.
async fn said(plain: &Node<MemoryStore>) -> Vec<String> {
    let stored = plain.store(|store| {
        let record = store.get(&kad::RecordKey::new(&key()));
        record.map(|record| record.value.clone())
    });
    let Some(value) = stored.await.unwrap() else { return Vec::new() };
    let record = SmartRecord::decode(&key(), value, &Limits::default()).unwrap();
    texts(&record.view(SystemClock.now()))
}

/// Plain nodes, and nodes of ours that know them all.
async fn network(
    plain: usize,
    setups: impl IntoIterator<Item = Setup>,
) -> (Vec<Node<MemoryStore>>, Vec<Peer>) {
    let plain = join_all((0..plain).map(|_| stock())).await;
    let ours = join_all(setups.into_iter().map(Setup::start)).await;
    mesh(&ours.iter().collect::<Vec<_>>()).await;
    for (i, node) in plain.iter().enumerate() {
        for other in &plain[..i] {
            connect(node, other).await;
        }
        for peer in &ours {
            peer.add(node.peer(), node.address()).await;
        }
    }
    (plain, ours)
}

const WRITERS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[tokio::test]
async fn each_plain_node_alone_gives_all_that_five_writers_wrote_when_ours_are_gone() {
    let (plain, ours) = network(4, (0..5).map(|_| Setup::with_config(quiet()))).await;
    within(async {
        for (peer, text) in ours.iter().zip(WRITERS) {
            peer.client.publish(key(), says(text), MINUTE).await.unwrap();
        }
        for node in &plain {
            assert_eq!(said(node).await, WRITERS);
        }
        // Reads take nothing away, nor does what is written again, nor a withdrawal.
        for peer in &ours {
            assert_eq!(texts(&peer.client.view(key()).await.unwrap()), WRITERS);
        }
        let (guest, text) = (&ours[0], WRITERS[0]);
        guest.client.withdraw(key()).await.unwrap();
        for node in &plain {
            assert_eq!(said(node).await, WRITERS[1..]);
        }
        guest.client.replace(key(), says(text), MINUTE).await.unwrap();
        for peer in ours {
            peer.client.get(key()).await.unwrap();
            peer.stop();
        }
        for node in &plain {
            assert_eq!(said(node).await, WRITERS);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_together_lives_at_plain_nodes_as_long_as_all_of_it() {
    let (plain, ours) = network(1, (0..2).map(|_| Setup::with_config(quiet()))).await;
    within(async {
        ours[0].client.publish(key(), says("long"), 10 * MINUTE).await.unwrap();
        ours[1].client.publish(key(), says("short"), MINUTE / 60).await.unwrap();
        let kad_key = kad::RecordKey::new(&key());
        let expires = plain[0].store(move |store| store.get(&kad_key).unwrap().expires).await;
        let left = expires.unwrap().unwrap().saturating_duration_since(std::time::Instant::now());
        assert!(left > 5 * MINUTE, "{left:?}");
    })
    .await;
}

#[tokio::test]
async fn plain_nodes_have_all_of_five_writers_at_once_after_reads_and_refreshes() {
    let often = Duration::from_millis(500);
    let config = || quiet().with_refresh_interval(often).with_replication_interval(Some(often));
    let (plain, ours) = network(3, (0..5).map(|_| Setup::with_config(config()))).await;
    within(async {
        // At once, so that each sends what it knows by then, and the last PUT has one writer alone.
        let kept = join_all(
            ours.iter()
                .zip(WRITERS)
                .map(|(peer, text)| peer.client.keep(key(), says(text), MINUTE)),
        );
        let kept: Vec<_> = kept.await.into_iter().map(Result::unwrap).collect();
        loop {
            for peer in &ours {
                peer.client.get(key()).await.unwrap();
            }
            let said = join_all(plain.iter().map(said)).await;
            if said.iter().all(|said| said == &WRITERS) {
                break;
            }
        }
        // From here on nothing is lost: each sender sends all of it.
        let sent = async || {
            let counters = ours.iter().map(|peer| peer.smart(|smart| smart.counters()));
            let counters = join_all(counters).await;
            counters.iter().map(|sent| (sent.refreshes, sent.replications)).collect::<Vec<_>>()
        };
        let before = sent().await;
        let mut holders = BTreeSet::new();
        loop {
            for node in &plain {
                assert_eq!(said(node).await, WRITERS);
            }
            for peer in &ours {
                let reading = peer.client.get(key()).await.unwrap();
                // On a slow machine some do not answer in time.
                holders.extend(reading.holders.iter().copied());
                // Who has all is not repaired again.
                assert_eq!(reading.stale, []);
            }
            let now = sent().await;
            let has_sent =
                |(now, was): (&(u64, u64), &(u64, u64))| now.0 >= was.0 + 2 && now.1 > was.1;
            let have_answered = plain.iter().all(|node| holders.contains(&node.peer()));
            if now.iter().zip(&before).all(has_sent) && have_answered {
                break;
            }
        }
        kept.into_iter().for_each(|kept| kept.detach());
        for peer in ours {
            peer.stop();
        }
        for node in &plain {
            assert_eq!(said(node).await, WRITERS);
        }
    })
    .await;
}
