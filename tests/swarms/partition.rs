//! A network partition that lasts longer than the replication interval, with writes on both sides.

use std::time::{Duration, Instant};

use futures::{
    FutureExt,
    future::{join_all, select_all},
};
use libp2p::PeerId;
use libp2p_smart_record::{Clock, RecordKey, SmartRecord, SystemClock, behaviour::Event};

use crate::{
    nodes::within,
    peer::{MINUTE, Peer, Setup, mesh, quiet, says, texts},
};

const NODES: usize = 20;
/// Replication interval.
const INTERVAL: Duration = Duration::from_secs(2);

/// Written by both sides.
const BOARD: &str = "/sr/partition/board";
/// Written by one side only, for the first time after the cut.
const LEFT: &str = "/sr/partition/left";
const RIGHT: &str = "/sr/partition/right";

fn ids(peers: &[Peer]) -> Vec<PeerId> {
    peers.iter().map(|peer| peer.id).collect()
}

async fn say(peer: &Peer, key: &str, text: &str) {
    peer.client.publish(key, says(text), 10 * MINUTE).await.unwrap();
}

fn said(record: &SmartRecord) -> Vec<String> {
    texts(&record.view(SystemClock.now()))
}

/// Waits until each of the peers stores a record with just these texts.
async fn until_all_store(peers: &mut [Peer], key: &str, expected: &[&str]) {
    let key = RecordKey::new(key);
    for peer in peers {
        peer.until_stored(&key, |record| said(record) == expected).await;
    }
}

/// Closes all connections between the sides and blocks new ones.
async fn cut(left: &mut [Peer], right: &mut [Peer]) {
    let (left_ids, right_ids) = (ids(left), ids(right));
    for (side, others) in [(&*left, &right_ids), (&*right, &left_ids)] {
        for peer in side {
            let others = others.clone();
            peer.with(move |swarm| {
                for other in others {
                    swarm.behaviour_mut().blocked.block_peer(other);
                }
            })
            .await;
        }
    }
    for (side, others) in [(left, &right_ids), (right, &left_ids)] {
        for peer in side {
            peer.until_connected(|peers| others.iter().all(|other| !peers.contains(other))).await;
        }
    }
}

async fn heal(left: &[Peer], right: &[Peer]) {
    for (side, others) in [(left, ids(right)), (right, ids(left))] {
        for peer in side {
            let others = others.clone();
            peer.with(move |swarm| {
                for other in others {
                    swarm.behaviour_mut().blocked.unblock_peer(other);
                }
            })
            .await;
        }
    }
}

/// Waits until a peer of this side replicates the board.
async fn until_replicated(side: &mut [Peer], at_least: Duration, since: Instant) {
    let is_boards = |event: &Event| match event {
        Event::Replicated { key } if *key == RecordKey::new(BOARD) => Some(()),
        _ => None,
    };
    loop {
        select_all(side.iter_mut().map(|peer| peer.until(is_boards).boxed())).await;
        if since.elapsed() > at_least {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_partition_of_longer_than_the_replication_interval_all_views_are_equal() {
    within(async {
        let config = quiet().with_replication_interval(Some(INTERVAL));
        let started = (0..NODES).map(|_| Setup::with_config(config.clone()).start());
        let mut peers = join_all(started).await;
        mesh(&peers.iter().collect::<Vec<_>>()).await;

        let last = NODES - 1;
        say(&peers[0], BOARD, "left before").await;
        say(&peers[last], BOARD, "right before").await;
        say(&peers[1], BOARD, "withdrawn").await;
        until_all_store(&mut peers, BOARD, &["left before", "right before", "withdrawn"]).await;

        let (left, right) = peers.split_at_mut(NODES / 2);
        cut(left, right).await;
        let since = Instant::now();
        // Changed, withdrawn and new spaces, under keys of both sides and of one.
        left[0].client.replace(BOARD, says("left 0"), 10 * MINUTE).await.unwrap();
        left[1].client.withdraw(BOARD).await.unwrap();
        say(&left[2], BOARD, "left 2").await;
        say(&left[3], LEFT, "only left").await;
        say(&right[0], BOARD, "right 0").await;
        say(&right[1], RIGHT, "only right").await;
        until_replicated(left, 2 * INTERVAL, since).await;
        until_replicated(right, 2 * INTERVAL, since).await;

        // Each side has its own writes only.
        until_all_store(left, BOARD, &["left 0", "left 2", "right before"]).await;
        until_all_store(left, LEFT, &["only left"]).await;
        until_all_store(right, BOARD, &["left before", "right 0", "right before", "withdrawn"])
            .await;
        until_all_store(right, RIGHT, &["only right"]).await;
        for (side, key) in [(&*left, RIGHT), (&*right, LEFT)] {
            for peer in side {
                assert_eq!(peer.stored(&RecordKey::new(key)).await, None);
            }
        }

        heal(left, right).await;
        // No reads or writes: replication alone merges the two sides.
        let all = [
            (BOARD, &["left 0", "left 2", "right 0", "right before"][..]),
            (LEFT, &["only left"]),
            (RIGHT, &["only right"]),
        ];
        for (key, expected) in all {
            until_all_store(&mut peers, key, expected).await;
        }
        for (key, expected) in all {
            let record = peers[0].stored(&RecordKey::new(key)).await;
            for peer in &peers {
                assert_eq!(peer.stored(&RecordKey::new(key)).await, record, "byte for byte");
                let reading = peer.client.get(key).await.unwrap();
                assert_eq!(texts(&reading.view()), expected);
                assert_eq!(reading.snapshot.record(), record.as_ref());
                assert_eq!(reading.withheld, []);
            }
        }
    })
    .await;
}
