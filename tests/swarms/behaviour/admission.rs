//! Inbound records: the budget of work, validation off the swarm's task, a full queue, and
//! asynchronous validators.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{PeerId, identity::Keypair, kad};
use libp2p_smart_record::{
    Clock, Fault, Limits, RecordKey, Registry, SpaceSigner, SystemClock, Timestamp,
    ValidationError,
    behaviour::{
        AsyncValidator, BehaviourConfig, Builder, Event, Executor, InboundRefusal, Validation,
    },
    client::ClientError,
    query::ReadPolicy,
    store::{SmartRecordStore, StoreConfig, StoreEvent},
};
use tokio::sync::Semaphore;

use super::repairs::board;
use crate::{
    peer::{MINUTE, Peer, Setup, key, mesh, quiet, says},
    slow::Slow,
};
use smart_record_testing::{ManualClock, forge};

use crate::nodes::{PROTOCOL, within};

fn off_task() -> BehaviourConfig {
    quiet().with_validation(Validation::OffTask)
}

fn record(n: usize) -> (RecordKey, Vec<u8>) {
    record_at(n, SystemClock.now())
}

fn record_at(n: usize, now: Timestamp) -> (RecordKey, Vec<u8>) {
    let key = RecordKey::new(format!("/sr/inbound/{n}"));
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    signer.merge(says("x"), now, MINUTE).unwrap();
    (key, signer.record(now).encode())
}

/// Sends a value to a peer and waits for Kademlia's answer.
async fn send(from: &mut Peer, to: PeerId, key: &RecordKey, value: Vec<u8>) {
    let record = kad::Record::new(kad::RecordKey::new(key), value);
    from.smart(move |smart| {
        smart.kad_mut().put_record_to(record, [to].into_iter(), kad::Quorum::One)
    })
    .await;
    from.until(|event| match event {
        Event::Kad(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::PutRecord(result),
            ..
        }) => Some(result.clone().unwrap()),
        _ => None,
    })
    .await;
}

async fn refused(peer: &Peer, reason: InboundRefusal) -> u64 {
    let counters = peer.smart(|smart| smart.counters().clone()).await;
    counters.inbound_refused.get(&reason).copied().unwrap_or_default()
}

#[tokio::test]
async fn valid_records_are_stored_and_invalid_ones_refused() {
    let (mut a, mut b) = (Peer::start().await, Setup::with_config(off_task()).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), says("good"), MINUTE).await.unwrap();
        b.until_stored(&key(), |_| true).await;
        send(&mut a, b.id, &key(), b"junk".to_vec()).await;
        let fault = b
            .until(|event| match event {
                Event::Store(StoreEvent::Refused { reason, .. }) => Some(reason.fault()),
                _ => None,
            })
            .await;
        assert_eq!(fault, Fault::Malformed);
    })
    .await;
}

#[tokio::test]
async fn provider_records_are_stored_too() {
    let (a, mut b) = (Peer::start().await, Setup::with_config(off_task()).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.smart(|smart| smart.kad_mut().start_providing(kad::RecordKey::new(&key())).unwrap())
            .await;
        b.until(|event| match event {
            Event::Kad(kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { .. },
            }) => Some(()),
            _ => None,
        })
        .await;
        let providers = b.smart(|smart| {
            use kad::store::RecordStore;
            smart.store_mut().providers(&libp2p_kad::RecordKey::new(&key()))
        });
        let providers: Vec<_> = providers.await.into_iter().map(|record| record.provider).collect();
        assert_eq!(providers, [a.id]);
    })
    .await;
}

/// A validator that decides when the test lets it.
struct Gate(Arc<Semaphore>);

impl AsyncValidator for Gate {
    fn validate<'a>(
        &'a self,
        key: &'a RecordKey,
        _: &'a [u8],
        _: PeerId,
    ) -> BoxFuture<'a, Result<(), ValidationError>> {
        async move {
            self.0.acquire().await.unwrap().forget();
            if key.path().ends_with(b"9") {
                return Err(ValidationError::Unsupported("asked, and refused".to_owned()));
            }
            Ok(())
        }
        .boxed()
    }
}

/// A validator that counts what it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl AsyncValidator for Counting {
    fn validate<'a>(
        &'a self,
        _: &'a RecordKey,
        _: &'a [u8],
        _: PeerId,
    ) -> BoxFuture<'a, Result<(), ValidationError>> {
        self.0.fetch_add(1, SeqCst);
        async { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn a_validator_is_asked_once_about_what_a_read_finds_also_if_an_answer_is_late() {
    let asked = Counting::default();
    let setup = Setup { asks: Some(Box::new(asked.clone())), ..Setup::with_config(off_task()) };
    let (mut reader, full, late) = (setup.start().await, Peer::start().await, Peer::start().await);
    let empty = Peer::start().await;
    mesh(&[&reader, &full, &late, &empty]).await;
    within(async {
        let board = board(2, 10);
        full.store(&board).await;
        late.store(&board).await;
        late.freeze(true);
        let reading = reader.client.get(key()).await.unwrap();
        assert_eq!(reading.snapshot.record(), Some(&board));
        late.freeze(false);
        reader.until_stored(&key(), |stored| *stored == board).await;
        // The answer that is late has come, or is given up.
        reader.client.close().await.unwrap();
        assert_eq!(asked.0.load(SeqCst), 1);
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_new_records_and_delays_nothing_else() {
    let gate = Arc::new(Semaphore::new(0));
    let config = off_task().with_inbound_queue(4).with_inbound_concurrency(1);
    let setup = Setup { asks: Some(Box::new(Gate(gate.clone()))), ..Setup::with_config(config) };
    let (mut a, mut b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        for n in 0..7 {
            let (key, value) = record(n);
            send(&mut a, b.id, &key, value).await;
        }
        b.until(|event| {
            matches!(event, Event::InboundRefused { reason: InboundRefusal::QueueFull, .. })
                .then_some(())
        })
        .await;
        assert_eq!(refused(&b, InboundRefusal::QueueFull).await, 3);
        // Reads and writes go on while the queue is full.
        b.client.publish("/sr/inbound/own", says("own"), MINUTE).await.unwrap();
        assert_eq!(a.client.view("/sr/inbound/own").await.unwrap().len(), 1);
        assert_eq!(b.smart(|smart| smart.store_mut().usage().records).await, 1);

        gate.add_permits(100);
        for n in 0..4 {
            b.until_stored(&record(n).0, |_| true).await;
        }
        for n in 4..7 {
            assert_eq!(b.stored(&record(n).0).await, None, "the newest");
        }
        let (key, value) = record(8);
        send(&mut a, b.id, &key, value).await;
        b.until_stored(&key, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn an_async_validator_can_query_another_service_and_refuse() {
    let gate = Arc::new(Semaphore::new(100));
    let setup = Setup { asks: Some(Box::new(Gate(gate))), ..Setup::with_config(quiet()) };
    let (mut a, mut b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let (key, value) = record(9);
        send(&mut a, b.id, &key, value).await;
        let fault = b
            .until(|event| match event {
                Event::Store(StoreEvent::Refused { reason, .. }) => Some(reason.fault()),
                _ => None,
            })
            .await;
        assert_eq!(fault, Fault::Unsupported);
        assert_eq!(b.stored(&key).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_record_that_was_read_is_stored_only_with_the_consent_of_the_validator() {
    let gate = Arc::new(Semaphore::new(100));
    let setup = Setup { asks: Some(Box::new(Gate(gate))), ..Setup::with_config(quiet()) };
    let (a, mut b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        for n in [9, 8] {
            let key = record(n).0;
            let value = record(n).1;
            let stored = key.clone();
            a.smart(move |smart| smart.store_mut().write(&stored, &value).unwrap()).await;
            // It is a server among the closest, so it would store what it reads.
            let reading = b.client.get(key.clone()).await.unwrap();
            assert_eq!(
                reading.view().len(),
                1,
                "the result of a read does not depend on the validator"
            );
        }
        b.until_stored(&record(8).0, |_| true).await;
        assert_eq!(b.stored(&record(9).0).await, None, "already decided");
    })
    .await;
}

#[tokio::test]
async fn validation_runs_on_the_given_executor() {
    let (begun, was_begun) = tokio::sync::oneshot::channel();
    let executor: Executor = Box::new(|work| {
        begun.send(()).unwrap();
        tokio::spawn(work);
    });
    let setup = Setup { executor: Some(executor), ..Setup::with_config(off_task()) };
    let (mut a, mut b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        was_begun.await.unwrap();
        let (key, value) = record(1);
        send(&mut a, b.id, &key, value).await;
        b.until_stored(&key, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn inbound_records_are_refused_after_the_end_of_validation() {
    let executor: Executor = Box::new(drop);
    let setup = Setup { executor: Some(executor), ..Setup::with_config(off_task()) };
    let (mut a, b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        for n in 0..2 {
            let (key, value) = record(n);
            send(&mut a, b.id, &key, value).await;
        }
        assert_eq!(refused(&b, InboundRefusal::Stopped).await, 2);
        b.client.publish(key(), says("own"), MINUTE).await.unwrap();
    })
    .await;
}

/// An executor that starts or drops its work on command.
fn held() -> (Executor, tokio::sync::oneshot::Sender<bool>) {
    let (go, is_to_go) = tokio::sync::oneshot::channel();
    let executor: Executor = Box::new(|work| {
        tokio::spawn(async move {
            if is_to_go.await.unwrap() {
                work.await;
            }
        });
    });
    (executor, go)
}

#[tokio::test]
async fn answers_are_also_checked_off_the_task_and_reads_wait_for_the_checks() {
    for policy in [ReadPolicy::All, ReadPolicy::Replies(1)] {
        let (executor, go) = held();
        let setup = Setup { executor: Some(executor), ..Setup::with_config(off_task()) };
        let (a, b) = (Peer::start().await, setup.start().await);
        mesh(&[&a, &b]).await;
        within(async {
            a.store(&board(60, 600)).await;
            let mut read = std::pin::pin!(b.client.get_with(key(), policy));
            assert!(futures::poll!(&mut read).is_pending());
            while b.smart(|smart| smart.requests()).await > 0
                || b.smart(|smart| smart.counters().lookups).await == 0
            {
                tokio::task::yield_now().await;
            }
            assert!(futures::poll!(&mut read).is_pending(), "the answer has not been checked");
            // Other work does not wait for the check.
            assert!(b.client.get("/sr/inbound/else").await.unwrap().is_empty());
            go.send(true).unwrap();
            let reading = read.await.unwrap();
            assert_eq!(reading.holders, [a.id]);
            let all = policy == ReadPolicy::All;
            assert_eq!((reading.view().len() == 60, reading.is_complete()), (all, all));
        })
        .await;
    }
}

#[tokio::test]
async fn reads_that_have_to_wait_for_memory_all_end() {
    let setup = Setup::with_config(quiet().with_max_read_bytes(1));
    let (a, b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.store(&board(60, 600)).await;
        let reads = (0..10).map(|_| b.client.get(key()));
        for reading in futures::future::join_all(reads).await {
            assert!(!reading.unwrap().is_empty());
        }
        assert!(b.smart(|smart| smart.counters().reads_held_back).await > 0);
    })
    .await;
}

#[tokio::test]
async fn a_read_ends_even_if_validation_has_ended() {
    let (executor, stop) = held();
    let setup = Setup { executor: Some(executor), ..Setup::with_config(off_task()) };
    let (a, b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.store(&board(1, 1)).await;
        let mut read = std::pin::pin!(b.client.get(key()));
        assert!(futures::poll!(&mut read).is_pending());
        while b.smart(|smart| smart.requests()).await > 0
            || b.smart(|smart| smart.counters().lookups).await == 0
        {
            tokio::task::yield_now().await;
        }
        stop.send(false).unwrap();
        // Nobody has said that there is nothing.
        assert_eq!(read.await.unwrap_err(), ClientError::Unreachable);
        // From now on, answers are checked on the task.
        assert_eq!(b.client.view(key()).await.unwrap().len(), 1);
    })
    .await;
}

/// A validator that panics on some records.
struct Panics;

impl AsyncValidator for Panics {
    fn validate<'a>(
        &'a self,
        key: &'a RecordKey,
        _: &'a [u8],
        _: PeerId,
    ) -> BoxFuture<'a, Result<(), ValidationError>> {
        assert!(!key.path().ends_with(b"9"), "expected by the test");
        futures::future::ready(Ok(())).boxed()
    }
}

#[tokio::test]
async fn a_panic_of_a_validator_affects_only_its_record() {
    let config = quiet().with_inbound_queue(1);
    let setup = Setup { asks: Some(Box::new(Panics)), ..Setup::with_config(config) };
    let (mut a, mut b) = (Peer::start().await, setup.start().await);
    mesh(&[&a, &b]).await;
    within(async {
        for _ in 0..3 {
            let (key, value) = record(9);
            send(&mut a, b.id, &key, value).await;
            let fault = b.until(|event| match event {
                Event::Store(StoreEvent::Refused { reason, .. }) => Some(reason.fault()),
                _ => None,
            });
            assert_eq!(fault.await, Fault::Unsupported);
        }
        let (key, value) = record(8);
        send(&mut a, b.id, &key, value).await;
        b.until_stored(&key, |_| true).await;
    })
    .await;
}

/// Sends records that take 5 ms each to verify, and waits for the answers.
async fn flood(from: &mut Peer, to: PeerId) {
    const AT_ONCE: usize = 20;
    let record = kad::Record::new(kad::RecordKey::new(&forge::key()), forge::dear());
    from.smart(move |smart| {
        for _ in 0..AT_ONCE {
            let to = [to].into_iter();
            smart.kad_mut().put_record_to(record.clone(), to, kad::Quorum::One);
        }
    })
    .await;
    for _ in 0..AT_ONCE {
        from.until(|event| match event {
            Event::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::PutRecord(_),
                ..
            }) => Some(()),
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn a_flooding_peer_is_limited_and_does_not_affect_others() {
    for config in [off_task(), quiet()] {
        // A record of the flood takes more than there is for a second.
        let config = config.with_work_per_second(Duration::from_millis(5));
        let clock = ManualClock::at(forge::at(forge::NOW));
        let start = |config| Setup::with_config(config).at(&clock).start();
        let (mut b, mut flooder) = (start(config).await, start(quiet()).await);
        let mut other = start(quiet()).await;
        mesh(&[&b, &flooder]).await;
        mesh(&[&b, &other]).await;
        let (target, source) = (b.id, flooder.id);
        // Whoever is connected already stays so, though both have one address.
        let (key, value) = record_at(30, clock.now());
        within(async {
            send(&mut other, target, &key, value).await;
            b.until_stored(&key, |_| true).await;
        })
        .await;
        let flooding = async {
            loop {
                flood(&mut flooder, target).await;
            }
        };
        let others = async {
            b.until(|event| {
                matches!(event, Event::InboundRefused { source: it, .. } if *it == source)
                    .then_some(())
            })
            .await;
            let (key, value) = record_at(31, clock.now());
            // It tries again, as a client does, while the flood goes on.
            let mut tries = tokio::time::interval(Duration::from_millis(200));
            while b.stored(&key).await.is_none() {
                tries.tick().await;
                send(&mut other, target, &key, value.clone()).await;
            }
        };
        within(async {
            tokio::select! {
                () = flooding => unreachable!("it does not end"),
                () = others => {}
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_expects_no_answer_does_not_wait_while_there_is_no_work_for_it() {
    let config = quiet().with_work_per_second(Duration::from_millis(20));
    let clock = ManualClock::at(forge::at(forge::NOW));
    let mut b = Setup::with_config(config).at(&clock).start().await;
    let (a, mut flooder) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b, &flooder]).await;
    let (target, source) = (b.id, a.id);
    let flooding = async {
        loop {
            flood(&mut flooder, target).await;
        }
    };
    let provides = async {
        while b.smart(|smart| smart.counters().messages_held).await == 0 {
            b.wake().await;
        }
        let key = kad::RecordKey::new(&key());
        let starts = a.smart(move |smart| smart.kad_mut().start_providing(key).map(drop));
        starts.await.unwrap();
        b.until(|event| {
            matches!(event, Event::InboundRefused { source: it, .. } if *it == source).then_some(())
        })
        .await;
    };
    within(async {
        tokio::select! {
            () = flooding => unreachable!("it does not end"),
            () = provides => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_far_over_the_budget_is_disconnected_and_none_of_its_network_comes_in() {
    // Three records of the flood take more than there is for ten seconds.
    let config = quiet().with_work_per_second(Duration::from_millis(1));
    let clock = ManualClock::at(forge::at(forge::NOW));
    let mut b = Setup::with_config(config).at(&clock).start().await;
    let mut flooder = Peer::start().await;
    mesh(&[&b, &flooder]).await;
    let (target, source) = (b.id, flooder.id);
    let flooding = async {
        loop {
            flood(&mut flooder, target).await;
        }
    };
    within(async {
        let disconnected = b.until(|event| match event {
            Event::Disconnected { peer } => Some(*peer),
            _ => None,
        });
        tokio::select! {
            () = flooding => unreachable!("it does not end"),
            peer = disconnected => assert_eq!(peer, source),
        }
        assert!(b.smart(|smart| smart.counters().disconnected).await > 0);
        let newcomer = Peer::start().await;
        while b.smart(|smart| smart.counters().connections_refused).await == 0 {
            let address = b.address.clone();
            newcomer.with(move |swarm| swarm.dial(address).unwrap()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_put_larger_than_it_may_be_is_refused_before_it_is_decoded() {
    for config in [off_task(), quiet()] {
        // Kademlia would take it.
        let start = |config| {
            let mut kad = kad::Config::new(PROTOCOL);
            kad.set_max_packet_size(64 * 1_024);
            let tweak = Box::new(|builder: Builder| builder.with_kad_config(kad));
            Setup { tweak, ..Setup::with_config(config) }.start()
        };
        let (mut a, mut b) = (start(quiet()).await, start(config).await);
        mesh(&[&a, &b]).await;
        within(async {
            let board = board(60, 600);
            assert!(board.encode().len() > 16 * 1_024);
            send(&mut a, b.id, &key(), board.encode()).await;
            b.until(|event| {
                matches!(event, Event::InboundRefused { reason: InboundRefusal::TooLarge, .. })
                    .then_some(())
            })
            .await;
            assert_eq!(refused(&b, InboundRefusal::TooLarge).await, 1);
            let verified = b.smart(|smart| smart.store_mut().counters().signatures_verified);
            assert_eq!((b.stored(&key()).await, verified.await), (None, 0));
            for chunk in board.chunks(15 * 1_024) {
                send(&mut a, b.id, &key(), chunk).await;
            }
            b.until_stored(&key(), |stored| *stored == board).await;
        })
        .await;
    }
}

#[tokio::test]
async fn records_are_refused_unread_while_the_storage_lags() {
    for config in [off_task(), quiet()] {
        let (setup, storage) = (Setup::with_config(config), Slow::default());
        let is_behind = Arc::clone(&storage.is_behind);
        let local = setup.keypair.public().to_peer_id();
        let (registry, config) = (Registry::default(), StoreConfig::default());
        let store = SmartRecordStore::with_storage(local, registry, config, storage, SystemClock);
        let store = store.unwrap();
        let tweak = Box::new(|builder: Builder| builder.with_store(store).unwrap());
        let (mut a, mut b) = (Peer::start().await, Setup { tweak, ..setup }.start().await);
        mesh(&[&a, &b]).await;
        within(async {
            let (key, value) = record(1);
            send(&mut a, b.id, &key, value.clone()).await;
            b.until(|event| {
                matches!(event, Event::InboundRefused { reason: InboundRefusal::StorageLags, .. })
                    .then_some(())
            })
            .await;
            assert_eq!(refused(&b, InboundRefusal::StorageLags).await, 1);
            let counters = b.smart(|smart| smart.store_mut().counters()).await;
            assert_eq!((counters.behind, counters.signatures_verified), (0, 0), "it is not asked");
            is_behind.store(false, SeqCst);
            send(&mut a, b.id, &key, value).await;
            b.until_stored(&key, |_| true).await;
        })
        .await;
    }
}
