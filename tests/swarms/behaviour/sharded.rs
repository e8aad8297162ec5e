//! Sharded topics, written and read by clients.

use std::collections::BTreeSet;

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Clock, Limits, RecordKey, ShardedKey, SmartRecord, SpaceSigner, SystemClock,
    client::ClientError,
};

use crate::nodes::within;
use crate::peer::{MINUTE, Peer, Setup, key, made, mesh, quiet, says};

#[tokio::test]
async fn a_sharded_topic_is_read_whole() {
    let (a, b, c) = (
        Setup::default().start().await,
        Setup::default().start().await,
        Setup::default().start().await,
    );
    mesh(&[&a, &b, &c]).await;
    within(async {
        let topic = ShardedKey::new(key(), 3, &Limits::default()).unwrap();
        for peer in [&a, &b] {
            let own = topic.key_for(&peer.client.peer_id());
            peer.client.publish(own, says("here"), MINUTE).await.unwrap();
        }
        // A space under the wrong key is not part of the topic.
        let foreign = topic.keys().find(|key| *key != topic.key_for(&b.client.peer_id())).unwrap();
        b.client.publish(foreign, says("there"), MINUTE).await.unwrap();

        let read = c.client.get_sharded(&topic).await.unwrap();
        assert!(read.failed.is_empty() && read.unreached.is_empty(), "{read:?}");
        assert!(read.is_complete() && read.missing() == 0.0, "{read:?}");
        let writers: BTreeSet<_> = read.view().iter().map(|(writer, _)| writer.peer_id()).collect();
        assert_eq!(writers, [a.id, b.id].into());
        let said = format!("{:?}", read.view());
        assert!(!said.contains("there"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn shards_without_an_answer_are_reported() {
    let alone = Setup::default().start().await;
    within(async {
        let topic = ShardedKey::new(key(), 2, &Limits::default()).unwrap();
        let own = topic.key_for(&alone.client.peer_id());
        made(alone.client.publish(own, says("here"), MINUTE).await);
        let read = alone.client.get_sharded(&topic).await.unwrap();
        let unreached: BTreeSet<RecordKey> = read.unreached.iter().cloned().collect();
        assert_eq!(unreached, topic.keys().collect());
        assert_eq!(read.view().len(), 1, "what this node has stored");
        assert_eq!(read.missing(), 1.0);
        let client = alone.client.clone();
        drop(alone);
        assert!(matches!(client.get_sharded(&topic).await, Err(ClientError::Stopped)));
    })
    .await;
}

/// A shard of `writers` spaces with some 600 bytes each.
fn shard_of(topic: &ShardedKey, shard: &RecordKey, writers: usize) -> SmartRecord {
    let now = SystemClock.now();
    let mut record = SmartRecord::new(shard.clone());
    let keypairs = (0..writers).map(|_| Keypair::generate_ed25519());
    for keypair in keypairs.filter(|k| topic.key_for(&k.public().to_peer_id()) == *shard) {
        let mut signer = SpaceSigner::new(shard.clone(), keypair, Limits::default());
        signer.merge(says(&"x".repeat(600)), now, 10 * MINUTE).unwrap();
        record.join(signer.record(now)).unwrap();
    }
    record
}

#[tokio::test]
async fn a_shard_that_was_not_read_completely_is_reported() {
    let config = quiet().with_read_rounds(2);
    let (reader, holder) = (Setup::with_config(config).start().await, Peer::start().await);
    mesh(&[&reader, &holder]).await;
    within(async {
        let topic = ShardedKey::new(key(), 1, &Limits::default()).unwrap();
        let shards: Vec<_> = topic.keys().collect();
        let board = shard_of(&topic, &shards[0], 200);
        holder.store(&board).await;
        let read = reader.client.get_sharded(&topic).await.unwrap();
        assert_eq!(read.incomplete, [shards[0].clone()]);
        assert!(read.unreached.is_empty() && read.failed.is_empty() && !read.is_complete());
        // Of one of the two shards, which showed two slices of some thirteen.
        assert!(read.missing() > 0.25 && read.missing() < 0.5, "{}", read.missing());
        // Two slices, then two others.
        let found = read.record.spaces().count();
        assert!(found > 10 && found < 40, "{found}");
        let mut whole = read.record;
        for _ in 0..10 {
            if let Some(record) =
                reader.client.get(shards[0].clone()).await.unwrap().snapshot.record().cloned()
            {
                whole.join(record).unwrap();
            }
        }
        assert_eq!(whole.spaces().count(), board.spaces().len());
    })
    .await;
}
