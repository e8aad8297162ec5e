//! The manager over the DHT: real swarms over TCP.

use std::{num::NonZeroUsize, pin::pin, time::Duration};

use futures::{FutureExt, StreamExt};
use libp2p::{PeerId, kad, swarm::SwarmEvent};
use libp2p_smart_record::{
    AcceptAny, Fault, RecordKey, Registry, ValidationError,
    dht::{Dht, DhtConfig, DhtDriver, DhtError},
    manager::{Holder, ManagerError, RecordBackend, RecordManager},
    store::{SmartRecordStore, StoreConfig, StoreEvent, WriteError},
};

use super::{keypair, record, registry, rules};
use crate::{
    driven::{self, Driven, Kad, add_silent},
    nodes::{Node, start_with, within},
};

const KEY: &str = "/notes/a";

type Manager = RecordManager<Dht>;

fn kad(local: PeerId) -> Kad {
    driven::kad(local, registry(), |_| {})
}

/// A node with a manager.
struct Managed {
    manager: Manager,
    node: Driven,
}

impl Managed {
    async fn start(seed: u8) -> Self {
        Self::start_with(seed, DhtConfig::default(), |_| {}).await
    }

    async fn start_with(seed: u8, config: DhtConfig, tweak: fn(&mut kad::Config)) -> Self {
        let node = Driven::start(keypair(seed), registry(), config, tweak).await;
        let manager = RecordManager::new(keypair(seed), rules(), node.dht.clone());
        Self { manager, node }
    }

    /// Adds this node and another to each other's routing tables.
    async fn meet(&self, other: &Node) {
        self.node.meet(other).await;
    }
}

/// A node with the same rules, without a manager.
async fn replica() -> Node {
    start_with(registry(), StoreConfig::default(), |_| {}).await
}

async fn write(node: &Node, value: Vec<u8>) {
    let write = move |store: &mut SmartRecordStore| store.write(&KEY.into(), &value).map(drop);
    node.store(write).await.unwrap().unwrap();
}

fn value(text: &'static str, sequence: u64) -> Vec<u8> {
    record(5, KEY, text, sequence).encode().to_vec()
}

#[tokio::test]
async fn a_published_record_is_read_by_another_manager() {
    let (alice, bob, hub) = (Managed::start(1).await, Managed::start(2).await, replica().await);
    alice.meet(&hub).await;
    bob.meet(&hub).await;
    within(async {
        assert_eq!(bob.manager.get(KEY).await, Ok(None));
        let published = alice.manager.publish(KEY, "hello").await.unwrap();
        assert!(published.peers >= 1);
        let found = bob.manager.get_record(KEY).await.unwrap().unwrap();
        assert_eq!(found, published.record);
        assert_eq!(found.value(), b"hello");
        assert_eq!(found.author(), alice.node.peer);
        assert!(found.received_at().is_some());

        // Bob replaces it, and Alice reads his record.
        bob.manager.publish(KEY, "hello yourself").await.unwrap();
        assert_eq!(alice.manager.get(KEY).await, Ok(Some(b"hello yourself".to_vec())));
    })
    .await;
}

#[tokio::test]
async fn a_read_stores_a_copy_with_the_same_expiry() {
    let (reader, hub) = (Managed::start(1).await, replica().await);
    reader.meet(&hub).await;
    within(async {
        // As a peer would send it, with an hour left.
        let left = Duration::from_secs(3_600);
        hub.with(move |swarm| {
            use kad::store::RecordStore;
            let mut record = kad::Record::new(KEY.as_bytes().to_vec(), value("x", 1));
            record.expires = Some(std::time::Instant::now() + left);
            swarm.behaviour_mut().kad.store_mut().put(record)
        })
        .await
        .unwrap()
        .unwrap();
        let lookup = reader.manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.behind, [Holder::Local]);
        let lookup = reader.manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.behind, []);
        let own = reader.manager.backend().fetch(&KEY.into()).await.unwrap();
        let own = own.answers.iter().find(|answer| answer.holder == Holder::Local).unwrap();
        assert_eq!(own.value, value("x", 1));
        assert!(own.lifetime.is_some_and(|own| own <= left), "{:?}", own.lifetime);
    })
    .await;
}

#[tokio::test]
async fn the_highest_sequence_wins() {
    let reader = Managed::start(1).await;
    let replicas = [replica().await, replica().await, replica().await];
    for (node, sequence) in replicas.iter().zip([2, 3, 1]) {
        reader.meet(node).await;
        let text = ["first", "second", "third"][sequence - 1];
        write(node, value(text, sequence as u64)).await;
    }
    within(async {
        assert_eq!(reader.manager.get(KEY).await, Ok(Some(b"third".to_vec())));
        let published = reader.manager.publish(KEY, "mine").await.unwrap();
        assert_eq!(published.peers, 3);
        assert_eq!(reader.manager.get(KEY).await, Ok(Some(b"mine".to_vec())));
    })
    .await;
}

#[tokio::test]
async fn a_put_counts_its_acknowledgements() {
    // By default, 20 replicas are required, more than a small network has.
    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
    let writer = Managed::start_with(1, DhtConfig::default().with_replicas(TWO), |config| {
        config.set_replication_factor(TWO);
    })
    .await;
    let replicas = [replica().await, replica().await, replica().await];
    for node in &replicas {
        writer.meet(node).await;
    }
    within(async {
        let published = writer.manager.publish(KEY, "x").await.unwrap();
        assert_eq!(published.peers, 2);
    })
    .await;
}

#[tokio::test]
async fn a_stale_holder_is_corrected_after_a_read() {
    let (reader, fresh, stale) = (Managed::start(1).await, replica().await, replica().await);
    reader.meet(&fresh).await;
    reader.meet(&stale).await;
    write(&fresh, value("new", 2)).await;
    write(&stale, value("old", 1)).await;
    let mut events = stale.store(|store| store.subscribe()).await.unwrap();
    within(async {
        let lookup = reader.manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.best.unwrap().value(), b"new");
        assert!(lookup.behind.contains(&Holder::Peer(stale.peer())));
        assert!(!lookup.behind.contains(&Holder::Peer(fresh.peer())));
        assert!(matches!(events.next().await, Some(StoreEvent::Stored { .. })));
        let found = stale.lookup(&KEY).await.unwrap();
        assert!(found.contains(&(None, value("new", 2))), "its own copy");
    })
    .await;
}

#[tokio::test]
async fn a_lying_peer_changes_nothing() {
    let (reader, honest) = (Managed::start(1).await, replica().await);
    let lenient = Registry::empty().with_fallback(AcceptAny::default());
    let liar = start_with(lenient, StoreConfig::default(), |_| {}).await;
    reader.meet(&honest).await;
    reader.meet(&liar).await;
    let mut forged = value("forged", 9);
    *forged.last_mut().unwrap() ^= 1;
    write(&liar, forged).await;
    write(&honest, value("true", 2)).await;
    within(async {
        let lookup = reader.manager.lookup(KEY).await.unwrap();
        assert_eq!(lookup.best.unwrap().value(), b"true");
        let [(holder, reason)] = &lookup.refused[..] else { panic!("{:?}", lookup.refused) };
        assert_eq!((*holder, reason.fault()), (Holder::Peer(liar.peer()), Fault::Invalid));
        assert_eq!(lookup.behind, [Holder::Local]);
    })
    .await;
}

#[tokio::test]
async fn case_15_a_lookup_of_which_all_answers_are_refused_is_an_error_and_a_publication_goes_on() {
    let reader = Managed::start(1).await;
    let lenient = Registry::empty().with_fallback(AcceptAny::default());
    let liar = start_with(lenient, StoreConfig::default(), |_| {}).await;
    reader.meet(&liar).await;
    let mut forged = value("forged", 9);
    *forged.last_mut().unwrap() ^= 1;
    write(&liar, forged).await;
    within(async {
        let error = reader.manager.get(KEY).await.unwrap_err();
        let ManagerError::AnswersRefused(refused) = &error else { panic!("{error}") };
        assert_eq!(
            refused.iter().next().map(|(holder, _)| *holder),
            Some(Holder::Peer(liar.peer()))
        );
        assert!(error.to_string().contains("1 answer was refused: invalid"), "{error}");
        reader.manager.publish(KEY, "mine").await.unwrap();
        assert_eq!(reader.manager.get(KEY).await, Ok(Some(b"mine".to_vec())));
    })
    .await;
}

#[tokio::test]
async fn an_old_record_does_not_come_back() {
    let (reader, holder) = (Managed::start(1).await, replica().await);
    reader.meet(&holder).await;
    write(&holder, value("new", 2)).await;
    within(async {
        assert_eq!(reader.manager.get(KEY).await, Ok(Some(b"new".to_vec())));
        // The local copy is returned, and sent to the peers that rolled back.
        forget(&holder).await;
        write(&holder, value("old", 1)).await;
        let mut events = holder.store(|store| store.subscribe()).await.unwrap();
        assert_eq!(reader.manager.get(KEY).await, Ok(Some(b"new".to_vec())));
        assert!(matches!(events.next().await, Some(StoreEvent::Stored { .. })));

        // Without a local copy, the rollback is detected.
        forget(&holder).await;
        write(&holder, value("old", 1)).await;
        reader.node.kad(|kad| kad.store_mut().forget(&KEY.into())).await.unwrap();
        let error = reader.manager.get(KEY).await.unwrap_err();
        assert!(matches!(error, ManagerError::RolledBack { known: 2, found: 1, .. }), "{error}");
    })
    .await;
}

async fn forget(node: &Node) {
    node.store(|store| store.forget(&KEY.into())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lone_node_reports_no_acknowledgement() {
    let alone = Managed::start(1).await;
    within(async {
        let error = alone.manager.publish(KEY, "hello?").await.unwrap_err();
        assert_eq!(error, ManagerError::Backend(DhtError::NotReplicated));
        assert_eq!(alone.manager.get(KEY).await, Ok(Some(b"hello?".to_vec())), "kept here");
    })
    .await;
}

#[tokio::test]
async fn the_local_store_refuses_a_stale_record() {
    let node = Managed::start(1).await;
    within(async {
        node.node
            .kad(|kad| kad.store_mut().write(&KEY.into(), &value("new", 2)).map(drop))
            .await
            .unwrap();
        let error = node.manager.put(record(5, KEY, "old", 1)).await.unwrap_err();
        let stale = WriteError::Refused(ValidationError::Stale);
        assert_eq!(error, ManagerError::Backend(DhtError::Refused(stale)));
    })
    .await;
}

// ------------------------------------------------------------- handle and driver

fn lookups(kad: &Kad) -> usize {
    let is_lookup =
        |query: &kad::QueryRef<'_>| matches!(query.info(), kad::QueryInfo::GetRecord { .. });
    kad.iter_queries().filter(is_lookup).count()
}

fn halves() -> (Manager, DhtDriver) {
    let (backend, driver) = Dht::new();
    (RecordManager::new(keypair(1), rules(), backend), driver)
}

const STOPPED: ManagerError<DhtError> = ManagerError::Backend(DhtError::DriverStopped);

#[tokio::test]
async fn a_driver_dropped_before_the_command() {
    let (manager, driver) = halves();
    drop(driver);
    assert_eq!(manager.get(KEY).await, Err(STOPPED));
    assert_eq!(manager.publish(KEY, "x").await, Err(STOPPED));
}

#[tokio::test]
async fn a_driver_dropped_with_the_command_in_the_queue() {
    let (manager, driver) = halves();
    let mut get = pin!(manager.get(KEY));
    assert_eq!((&mut get).now_or_never(), None);
    drop(driver);
    assert_eq!(get.await, Err(STOPPED));
}

#[tokio::test]
async fn a_driver_dropped_with_the_query_running() {
    let (manager, mut driver) = halves();
    let mut kad = kad(keypair(1).public().to_peer_id());
    let mut get = pin!(manager.get(KEY));
    assert_eq!((&mut get).now_or_never(), None);
    let command = driver.next().await.unwrap();
    driver.run(command, &mut kad);
    assert_eq!(lookups(&kad), 1);
    assert_eq!((&mut get).now_or_never(), None);
    drop(driver);
    assert_eq!(get.await, Err(STOPPED));
}

#[tokio::test]
async fn a_command_dropped_before_it_is_run() {
    let (manager, mut driver) = halves();
    let mut get = pin!(manager.get(KEY));
    assert_eq!((&mut get).now_or_never(), None);
    drop(driver.next().await);
    assert_eq!(get.await, Err(STOPPED));
}

#[tokio::test]
async fn a_driver_without_a_manager_has_nothing_to_do() {
    let (manager, mut driver) = halves();
    let clone = manager.clone();
    drop(manager);
    assert!(driver.next().now_or_never().is_none());
    drop(clone);
    assert!(driver.next().await.is_none());
}

#[tokio::test]
async fn a_command_of_a_dropped_call_is_not_run() {
    let (manager, mut driver) = halves();
    let mut kad = kad(keypair(1).public().to_peer_id());
    assert_eq!(manager.get(KEY).now_or_never(), None);
    let command = driver.next().await.unwrap();
    driver.run(command, &mut kad);
    assert_eq!(lookups(&kad), 0);
}

#[tokio::test]
async fn commands_wait_for_a_free_slot() {
    let (manager, mut driver) = halves();
    let mut kad = kad(keypair(1).public().to_peer_id());
    let keys = |n| RecordKey::new(format!("/notes/{n}"));
    let mut gets: Vec<_> = (0..300).map(|n| Box::pin(manager.get(keys(n)))).collect();
    let mut poll_all = || gets.iter_mut().for_each(|get| assert_eq!(get.now_or_never(), None));
    poll_all();
    // A few are in the queue, the others wait to enter it.
    let mut queued = 0;
    while let Some(Some(command)) = driver.next().now_or_never() {
        driver.run(command, &mut kad);
        queued += 1;
    }
    assert!((1..=65).contains(&queued), "{queued}");
    // Only a few queries run at a time.
    loop {
        poll_all();
        let Some(Some(command)) = driver.next().now_or_never() else { break };
        driver.run(command, &mut kad);
    }
    assert_eq!(lookups(&kad), 64);
}

#[tokio::test]
async fn the_query_of_a_dropped_call_is_ended() {
    let (mut swarm, _) = driven::swarm(keypair(1), registry(), |_| {}).await;
    let (manager, mut driver) = halves();
    // It would delay the query.
    let kad = swarm.behaviour_mut();
    let _silent = add_silent(kad).await;
    kad.store_mut().write(&KEY.into(), &value("x", 1)).unwrap();
    within(async {
        assert_eq!(manager.get(KEY).now_or_never(), None);
        let mut get = Box::pin(manager.get(KEY));
        assert_eq!((&mut get).now_or_never(), None);
        for _ in 0..2 {
            let command = driver.next().await.unwrap();
            driver.run(command, swarm.behaviour_mut());
        }
        assert_eq!(lookups(swarm.behaviour_mut()), 1, "the first query was ended");
        drop(get);
        let asked = loop {
            let SwarmEvent::Behaviour(event) = swarm.select_next_some().await else { continue };
            driver.on_event(&event, swarm.behaviour_mut());
            if let kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetRecord(_),
                step,
                stats,
                ..
            } = event
                && step.last
            {
                break stats.num_requests();
            }
        };
        assert_eq!(asked, 0, "the silent peer was not waited for");
        assert_eq!(lookups(swarm.behaviour_mut()), 0);
    })
    .await;
}

#[test]
fn futures_can_be_sent_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (manager, driver) = halves();
    drop(is_send(manager.publish(KEY, "x")));
    drop(is_send(manager.lookup(KEY)));
    drop(is_send(manager.clone()));
    drop(is_send(driver));
}
