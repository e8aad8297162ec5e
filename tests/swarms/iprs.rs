//! The IPRS scheme "TTL since receipt" between nodes.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::{
    identity::Keypair,
    kad::{self, store::RecordStore},
};
use libp2p_smart_record::{
    Clock, RecordKey, Registry, SystemClock,
    iprs::{IprsValidator, TtlSinceReceipt},
    store::{StoreConfig, StoreEvent},
};
use smart_record_testing::{clock::*, iprs::key_of};

use crate::nodes::{Node, connect, start, start_at, within};

const MINUTE: u64 = 60_000;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn registry() -> Registry {
    Registry::default().with("iprs", IprsValidator::default()).unwrap()
}

/// A node whose clock is off by any amount.
async fn start_off(clock: ManualClock) -> Node {
    let replicate = |config: &mut kad::Config| {
        config.set_replication_interval(Some(secs(1)));
    };
    start_at(clock, registry(), StoreConfig::default(), replicate).await
}

/// The remaining lifetime of the record at a node, once it is there.
async fn left(node: &Node, key: &RecordKey) -> Duration {
    let mut events = node.store(|store| store.subscribe()).await.unwrap();
    loop {
        let key = kad::RecordKey::new(key);
        let found = node
            .with(move |swarm| {
                let found = swarm.behaviour_mut().kad.store_mut().get(&key);
                found.map(|record| record.expires.unwrap() - Instant::now())
            })
            .await
            .unwrap();
        match found {
            Some(left) => return left,
            None => while !matches!(events.next().await, Some(StoreEvent::Stored { .. })) {},
        }
    }
}

#[tokio::test]
async fn replication_passes_on_the_remaining_time() {
    let owner = Keypair::generate_ed25519();
    let key = key_of(&owner, "x");
    let ttl = secs(600);
    let record = TtlSinceReceipt::record("hello", ttl).unwrap().sign(&key, &owner).unwrap();
    // The clocks of the two need not agree.
    let here = ManualClock::at(SystemClock.now());
    let there = ManualClock::at(at(MINUTE));
    // A lifetime is sent in whole seconds, and is shorter by the time on the way.
    let begun = Instant::now();
    let at_least =
        |left: Duration, expected: Duration| left + begun.elapsed() + secs(2) >= expected;
    within(async {
        let (a, b) = (start_off(here.clone()).await, start_off(there.clone()).await);
        let (to, value) = (key.clone(), record.as_bytes().to_vec());
        a.store(move |store| store.write(&to, &value).unwrap()).await.unwrap();
        // Seven of its ten minutes pass before the nodes are connected.
        here.advance(secs(420));
        connect(&a, &b).await;
        let at_b = left(&b, &key).await;
        assert!(at_b <= secs(180) && at_least(at_b, secs(180)), "{at_b:?}");

        // Sending it again does not extend it, whatever lifetime the packet states.
        there.advance(secs(60));
        let sender = start().await;
        connect(&sender, &b).await;
        sender.put_to(b.peer(), &key, record.as_bytes().to_vec()).await.unwrap();
        let at_b = left(&b, &key).await;
        assert!(at_b <= secs(120), "{at_b:?}");

        // After that, it has expired.
        there.advance(secs(120));
        let to = key.clone();
        let found = b
            .with(move |swarm| {
                swarm.behaviour_mut().kad.store_mut().get(&kad::RecordKey::new(&to)).is_some()
            })
            .await
            .unwrap();
        assert!(!found);
    })
    .await;
}

#[tokio::test]
async fn the_time_begins_with_the_first_receipt() {
    let owner = Keypair::generate_ed25519();
    let key = key_of(&owner, "x");
    let record = TtlSinceReceipt::record("hello", secs(600)).unwrap().sign(&key, &owner).unwrap();
    let there = ManualClock::at(at(MINUTE));
    within(async {
        let sender = start().await;
        let b = start_off(there.clone()).await;
        connect(&sender, &b).await;
        let begun = Instant::now();
        // Kademlia sends it with its own 48 hours.
        sender.put_to(b.peer(), &key, record.as_bytes().to_vec()).await.unwrap();
        let at_b = left(&b, &key).await;
        assert!(at_b <= secs(600) && at_b + begun.elapsed() + secs(1) >= secs(600), "{at_b:?}");
    })
    .await;
}
