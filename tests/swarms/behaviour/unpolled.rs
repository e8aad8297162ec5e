//! Case 23: one task polls the swarm and awaits calls of the client in between.

use std::{future::Future, pin::pin, time::Duration};

use futures::{
    StreamExt,
    future::{Either, join_all, select},
};
use libp2p::{PeerId, Swarm, identity::Keypair, kad};
use libp2p_smart_record::{
    AcceptAny, Limits, RecordKey, Registry, ShardedKey,
    behaviour::Behaviour,
    client::{Client, ClientError},
    query::ReadOptions,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_testing_swarms::{listening, within};

use crate::peer::{MINUTE, Silent, key, quiet, says};

/// A node in this task that knows a silent peer.
async fn node() -> (Swarm<Behaviour>, Client, Silent) {
    let keypair = Keypair::generate_ed25519();
    let local = keypair.public().to_peer_id();
    let short = Duration::from_millis(200);
    let config = quiet().with_poll_timeout(short).with_write_deadline(short);
    let registry = Registry::default().with("any", AcceptAny::default()).unwrap();
    let store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
    let builder = Behaviour::builder(keypair.clone()).with_store(store).unwrap();
    let (mut behaviour, client) = builder.with_config(config).build();
    behaviour.kad_mut().set_mode(Some(kad::Mode::Server));
    let silent = Silent::start();
    behaviour.kad_mut().add_address(&PeerId::random(), silent.address());
    (listening(keypair, behaviour).await.0, client, silent)
}

/// Awaits a call while the swarm is polled.
async fn polled<T>(swarm: &mut Swarm<Behaviour>, call: impl Future<Output = T>) -> T {
    let events = async {
        loop {
            swarm.select_next_some().await;
        }
    };
    match select(pin!(call), pin!(events)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => unreachable!("a swarm does not end"),
    }
}

#[tokio::test]
async fn case_23_each_call_in_the_task_that_polls_the_swarm_fails_and_says_so() {
    let (_swarm, client, _silent) = node().await;
    let value = || RecordKey::new("/any/a");
    let topic = ShardedKey::new("/sr/topic".into(), 2, &Limits::default()).unwrap();
    within(async {
        let failed = [
            client.get(key()).await.unwrap_err(),
            client.view(key()).await.unwrap_err(),
            client.get_sharded(&topic).await.unwrap_err(),
            client.publish(key(), says("a"), MINUTE).await.unwrap_err(),
            client.replace(key(), says("a"), MINUTE).await.unwrap_err(),
            client.withdraw(key()).await.unwrap_err(),
            client.put(value(), "a").await.unwrap_err(),
            client.keep(key(), says("a"), MINUTE).await.unwrap_err(),
            client.keep_value(value(), "a").await.unwrap_err(),
            client.stored(key()).await.unwrap_err(),
            client.stored_of(key(), client.peer_id()).await.unwrap_err(),
            client.next_stored(None).await.unwrap_err(),
            client.close().await.unwrap_err(),
        ];
        for error in failed {
            assert_eq!(error, ClientError::NotPolled);
        }
        assert!(ClientError::NotPolled.to_string().contains("polls the swarm"));

        let mut watch = client.watch(key()).await.unwrap();
        assert!(watch.error().is_none());
        assert!(watch.next().await.is_none());
        assert_eq!(watch.error(), Some(ClientError::NotPolled));
        let mut readings = client.read(key(), ReadOptions::default()).await.unwrap();
        assert!(readings.next().await.is_none());
        assert_eq!(readings.error(), Some(ClientError::NotPolled));

        // A queue that is full for ever is no other matter.
        let many = join_all((0..200).map(|_| client.get(key()))).await;
        assert!(many.into_iter().all(|it| it.unwrap_err() == ClientError::NotPolled));
    })
    .await;
}

#[tokio::test]
async fn case_23_once_the_swarm_is_polled_calls_and_streams_go_on() {
    let (mut swarm, client, _silent) = node().await;
    within(async {
        let mut watch = client.watch(key()).await.unwrap();
        assert!(watch.next().await.is_none());
        assert_eq!(client.get(key()).await.unwrap_err(), ClientError::NotPolled);

        let kept = polled(&mut swarm, client.keep(key(), says("a"), MINUTE)).await.unwrap();
        assert!(!polled(&mut swarm, watch.next()).await.unwrap().is_empty());
        assert_eq!(watch.error(), None);
        // The silent peer has half a minute.
        let progress = kept.publication().finished().await;
        assert!(!progress.is_over);
        assert_eq!(kept.update(says("b")).await, Err(ClientError::NotPolled));
        assert_eq!(kept.withdraw().await, Err(ClientError::NotPolled));
        let stored = polled(&mut swarm, client.stored(key())).await.unwrap();
        assert!(stored.is_some());
    })
    .await;
}
