//! Repairs: peers that are behind or empty are sent what was read.

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, Limits, SmartRecord, SpaceSigner, SystemClock, behaviour::Event, query::ReadPolicy,
};

use crate::nodes::within;
use crate::peer::{MINUTE, Peer, Setup, key, mesh, quiet, says, texts};

pub fn board(writers: usize, bytes: usize) -> SmartRecord {
    let now = SystemClock.now();
    let mut board = SmartRecord::new(key());
    for n in 0..writers {
        let mut signer = SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
        signer.merge(says(&format!("{n} {}", "x".repeat(bytes))), now, 10 * MINUTE).unwrap();
        board.join(signer.record(now)).unwrap();
    }
    board
}

#[tokio::test]
async fn stale_and_empty_holders_get_the_joined_record() {
    let (mut reader, newest, stale, empty) =
        (Peer::start().await, Peer::start().await, Peer::start().await, Peer::start().await);
    for peer in [&newest, &stale, &empty] {
        reader.add(peer.id, peer.address.clone()).await;
    }
    within(async {
        let (one, other) = (board(1, 10), board(1, 10));
        let mut both = one.clone();
        both.join(other.clone()).unwrap();
        newest.store(&both).await;
        stale.store(&one).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&both));
        assert_eq!(reading.stale, [stale.id]);
        assert_eq!(reading.empty, [empty.id]);
        let mut repaired = Vec::new();
        while repaired.len() < 2 {
            repaired.extend(
                reader
                    .until(|event| match event {
                        Event::Repaired { peers, .. } => Some(peers.clone()),
                        _ => None,
                    })
                    .await,
            );
        }
        repaired.sort_unstable();
        let mut expected = vec![stale.id, empty.id];
        expected.sort_unstable();
        assert_eq!(repaired, expected, "and no other peer");
        for peer in [&stale, &empty, &reader] {
            assert_eq!(peer.stored(&key()).await, Some(both.clone()));
        }
    })
    .await;
}

#[tokio::test]
async fn the_read_before_a_first_write_repairs_nobody_that_the_write_is_sent_to() {
    let (writer, newest, empty) = (Peer::start().await, Peer::start().await, Peer::start().await);
    mesh(&[&writer, &newest, &empty]).await;
    within(async {
        let known = board(3, 10);
        newest.store(&known).await;
        writer.client.publish(key(), says("new"), MINUTE).await.unwrap();
        writer.client.close().await.unwrap();
        for peer in [&newest, &empty] {
            assert_eq!(peer.stored(&key()).await.unwrap().spaces().len(), 4);
        }
        assert_eq!(writer.smart(|smart| smart.counters().repairs).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_large_record_that_was_read_is_stored_whole_before_watchers_are_notified() {
    let (reader, full) = (Peer::start().await, Peer::start().await);
    mesh(&[&reader, &full]).await;
    within(async {
        let mut watch = reader.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty());
        // Several pieces, the last one full.
        let board = board(96, 100);
        full.store(&board).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
        assert_eq!(watch.next().await.unwrap().record(), Some(&board), "told once");
        assert_eq!(reader.stored(&key()).await, Some(board));
    })
    .await;
}

#[tokio::test]
async fn a_large_record_is_read_whole_and_repaired_in_chunks() {
    let (mut reader, full, empty) = (Peer::start().await, Peer::start().await, Peer::start().await);
    mesh(&[&reader, &full, &empty]).await;
    within(async {
        let board = board(60, 600);
        assert!(board.encode().len() > 40 * 1_024);
        full.store(&board).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(texts(&reading.view()).len(), 60);
        assert_eq!(reading.empty, [empty.id]);
        assert_eq!(reading.stale, [], "a slice is not taken for the whole record of its holder");
        let repaired = reader
            .until(|event| match event {
                Event::Repaired { peers, .. } => Some(peers.clone()),
                _ => None,
            })
            .await;
        assert_eq!(repaired, [empty.id]);
        assert_eq!(empty.stored(&key()).await, Some(board));
    })
    .await;
}

/// A server that knows one holder and many peers without the record.
async fn among_empty() -> (Peer, Peer, Vec<Peer>) {
    let (reader, holder) = (Peer::start().await, Peer::start().await);
    let mut empty = Vec::new();
    for _ in 0..6 {
        let peer = Peer::start().await;
        reader.add(peer.id, peer.address.clone()).await;
        empty.push(peer);
    }
    reader.add(holder.id, holder.address.clone()).await;
    holder.store(&board(1, 10)).await;
    (reader, holder, empty)
}

async fn nobody_has_it(peers: &[Peer]) {
    for peer in peers {
        assert_eq!(peer.stored(&key()).await, None);
    }
}

#[tokio::test]
async fn a_read_that_ends_early_stores_nothing_and_repairs_no_empty_peer() {
    let (reader, _holder, empty) = among_empty().await;
    within(async {
        let reading = reader.client.get_with(key(), ReadPolicy::Replies(1)).await.unwrap();
        assert_eq!(texts(&reading.view()).len(), 1);
        assert!(!reading.is_complete());
        // It is unknown whether these or this node are among the closest: fewer peers were asked.
        assert_eq!(reader.stored(&key()).await, None);
        assert_eq!(reader.smart(|smart| smart.counters().repairs_postponed).await, 0);
        reader.client.publish("/sr/behaviour/after", says("x"), MINUTE).await.unwrap();
        nobody_has_it(&empty).await;
        // A read that asks all peers knows.
        assert!(reader.client.get(key()).await.unwrap().is_complete());
        assert!(reader.stored(&key()).await.is_some());
        let repaired = async || reader.smart(|smart| smart.counters().repairs).await;
        while repaired().await < 6 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_read_stores_nothing_and_repairs_no_empty_peer() {
    let (reader, _holder, empty) = among_empty().await;
    within(async {
        {
            let mut read = std::pin::pin!(reader.client.get(key()));
            assert!(futures::poll!(&mut read).is_pending());
            while reader.smart(|smart| smart.counters().lookups).await == 0 {}
        }
        while reader.smart(|smart| smart.counters().reads).await == 0 {
            tokio::task::yield_now().await;
        }
        // This write goes to the same peers, after any repairs of the read.
        reader.client.publish("/sr/behaviour/after", says("x"), MINUTE).await.unwrap();
        assert_eq!(reader.stored(&key()).await, None);
        nobody_has_it(&empty).await;
    })
    .await;
}

#[tokio::test]
async fn the_rounds_and_repair_chunks_of_a_read_are_bounded() {
    let config = quiet().with_read_rounds(4).with_repair_chunks(1);
    let mut reader = Setup::with_config(config).start().await;
    let (full, empty) = (Peer::start().await, Peer::start().await);
    mesh(&[&reader, &full, &empty]).await;
    within(async {
        let board = board(100, 600);
        full.store(&board).await;
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(reader.smart(|smart| smart.counters().lookups).await, 4);
        assert!(reading.view().len() < 80, "four slices of at most 8 KiB");
        assert!(!reading.is_complete());
        let repaired = reader.until(|event| match event {
            Event::Repaired { peers, .. } => Some(peers.clone()),
            _ => None,
        });
        assert_eq!(repaired.await, [empty.id]);
        let taken = empty.stored(&key()).await.unwrap();
        assert!(taken.encode().len() <= 15 * 1_024, "one chunk");
        assert!(taken.spaces().len() < reading.view().len());
    })
    .await;
}
