//! Those who are behind, or have nothing, get what was read.

use libp2p::identity::Keypair;
use libp2p_smart_record::{Clock, Limits, SmartRecord, SpaceSigner, SystemClock, behaviour::Event};

use super::peer::{MINUTE, Peer, key, mesh, says, texts};
use crate::swarms::within;

fn board(writers: usize, bytes: usize) -> SmartRecord {
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
        assert_eq!(reading.snapshot.record, Some(both.clone()));
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
        assert_eq!(repaired, expected, "and nobody else");
        for peer in [&stale, &empty, &reader] {
            assert_eq!(peer.stored(&key()).await, Some(both.clone()));
        }
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
        assert_eq!(reading.stale, [], "a slice is not taken for all that its holder has");
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
