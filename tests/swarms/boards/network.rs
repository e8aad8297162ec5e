//! A board of a thousand writers on 25 real swarms over TCP.

use super::*;
use std::ops::Range;

use futures::{
    StreamExt,
    future::{join_all, try_join_all},
};

/// Number of replicas of a record in a network that is large enough.
const REPLICAS: usize = 20;

/// Starts a node without neighbours.
pub async fn start_node(number: u64, tweak: impl FnOnce(&mut kad::Config)) -> Node {
    let (keypair, config) = (keypair(NODES, number), StoreConfig::default());
    start_as(keypair, SystemClock, Registry::default(), config, tweak).await
}

/// A network in which each node knows all others.
pub async fn network(size: u64) -> Vec<Node> {
    let nodes = join_all((0..size).map(|number| start_node(number, |_| {}))).await;
    for node in &nodes {
        for other in nodes.iter().filter(|other| other.peer() != node.peer()) {
            node.add(other.peer(), other.address()).await.unwrap();
        }
    }
    nodes
}

/// Puts a board from several nodes at once, each a share of it, in chunks.
async fn publish(publishers: &[Node], board: &SmartRecord) {
    let chunks: Vec<_> = board.chunks(StoreConfig::default().chunk_bytes()).collect();
    let share = chunks.len().div_ceil(publishers.len());
    let put = publishers.iter().zip(chunks.chunks(share)).map(async |(node, chunks)| {
        for chunk in chunks {
            assert_eq!(node.put(board.key(), chunk.clone()).await.unwrap(), REPLICAS);
        }
    });
    join_all(put).await;
}

/// Repeats lookups until the board is whole, and prints the progress.
async fn read_whole(reader: &Node, board: &SmartRecord, holders: usize) {
    let rules = SpaceRules::default();
    let mut read = SmartRecord::new(board.key().clone());
    let (all, slices) = (board.spaces().len(), slices(board));
    // A part of each slice stays empty, because spaces are not split, and coverage takes some too.
    let most = bound(slices + slices / 20, holders, all);
    println!("{all} writers, {slices} slices of 8 KiB, {holders} nodes that hold them:");
    for lookup in 1..=most {
        let answers = reader.lookup(board.key()).await.unwrap();
        for (from, value) in &answers {
            assert!(from.is_some(), "the reader itself has no copy");
            assert!(value.len() <= SLICE_BYTES);
            read.join(rules.read(board.key(), value, SystemClock.now()).unwrap()).unwrap();
        }
        let spaces = read.spaces().len();
        println!("  lookup {lookup}: {} answers, {spaces} of {all} spaces", answers.len());
        assert!(answers.len() <= holders);
        if spaces == all {
            assert_eq!(read, *board);
            return;
        }
    }
    panic!("not read within {most} lookups");
}

/// A new node far from the key, which is not a replica.
async fn newcomer(key: &RecordKey, numbers: Range<u64>, contact: &Node) -> Node {
    let mut numbers: Vec<_> = numbers.collect();
    by_distance(&mut numbers, key, |number| keypair(NODES, *number).public().to_peer_id());
    let node = start_node(*numbers.last().unwrap(), |_| {}).await;
    node.add(contact.peer(), contact.address()).await.unwrap();
    node.bootstrap().await.unwrap();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_of_a_thousand_writers_is_read_whole_also_when_40_percent_of_the_nodes_are_lost() {
    within(async {
        let key = RecordKey::new("/sr/boards/a thousand");
        let mut nodes = network(25).await;
        by_distance(&mut nodes, &key, Node::peer);
        let board = thousand(&key, SystemClock.now());
        let publishers =
            [newcomer(&key, 100..200, &nodes[0]).await, newcomer(&key, 200..300, &nodes[1]).await];
        publish(&publishers, &board).await;
        drop(publishers);
        let stored = try_join_all(nodes.iter().map(|node| node.stored(&key))).await.unwrap();
        for record in &stored[..REPLICAS] {
            assert!(record.as_ref() == Some(&board));
        }
        assert!(stored[REPLICAS..].iter().all(Option::is_none));

        let first = newcomer(&key, 300..400, nodes.last().unwrap()).await;
        read_whole(&first, &board, REPLICAS).await;

        // The worst 40 %: the ten closest.
        nodes.drain(..10);
        let second = newcomer(&key, 400..500, nodes.last().unwrap()).await;
        read_whole(&second, &board, REPLICAS - 10).await;
    })
    .await;
}

/// Waits until a node's store holds all of a board.
async fn until_whole(node: &Node, board: &SmartRecord) {
    let mut events = node.store(SmartRecordStore::subscribe).await.unwrap();
    while node.stored(board.key()).await.unwrap().as_ref() != Some(board) {
        // All events so far are handled together.
        events.next().await.unwrap();
        while events.try_next().is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_kademlia_replicates_a_board_of_a_thousand_writers_in_chunks() {
    within(async {
        let key = RecordKey::new("/sr/boards/replicated");
        let board = thousand(&key, SystemClock.now());
        let replicas = network(4).await;
        let holder = start_node(100, |config| {
            config.set_replication_interval(Some(Duration::from_millis(200)));
        })
        .await;
        let (held, value) = (key.clone(), board.encode());
        let write = move |store: &mut SmartRecordStore| store.write(&held, &value).unwrap();
        assert_eq!(holder.store(write).await.unwrap().stored, 1_000);
        for replica in &replicas {
            holder.add(replica.peer(), replica.address()).await.unwrap();
        }
        // No puts.
        join_all(replicas.iter().map(|replica| until_whole(replica, &board))).await;
        for replica in &replicas {
            let counters = replica.store(|store| store.counters()).await.unwrap();
            assert_eq!((counters.admitted, counters.refused_total()), (1_000, 0));
        }
    })
    .await;
}
