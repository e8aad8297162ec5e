//! A topic over many keys, written and read by clients.

use std::collections::BTreeSet;

use libp2p_smart_record::{ClientError, Limits, RecordKey, ShardedKey};

use super::peer::{MINUTE, Setup, key, mesh, says};
use crate::swarms::within;

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
        // Under a key that is not its own nobody is part of the topic.
        let foreign = topic.keys().find(|key| *key != topic.key_for(&b.client.peer_id())).unwrap();
        b.client.publish(foreign, says("there"), MINUTE).await.unwrap();

        let read = c.client.get_sharded(&topic).await.unwrap();
        assert!(read.failed.is_empty() && read.unreached.is_empty(), "{read:?}");
        let writers: BTreeSet<_> = read.view().iter().map(|(writer, _)| writer.peer_id()).collect();
        assert_eq!(writers, [a.id, b.id].into());
        let said = format!("{:?}", read.view());
        assert!(!said.contains("there"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn shards_of_which_nobody_says_anything_are_told() {
    let alone = Setup::default().start().await;
    within(async {
        let topic = ShardedKey::new(key(), 2, &Limits::default()).unwrap();
        let own = topic.key_for(&alone.client.peer_id());
        alone.client.publish(own, says("here"), MINUTE).await.unwrap();
        let read = alone.client.get_sharded(&topic).await.unwrap();
        let unreached: BTreeSet<RecordKey> = read.unreached.iter().cloned().collect();
        assert_eq!(unreached, topic.keys().collect());
        assert_eq!(read.view().len(), 1, "what this node has itself");
        let client = alone.client.clone();
        drop(alone);
        assert!(matches!(client.get_sharded(&topic).await, Err(ClientError::Stopped)));
    })
    .await;
}
