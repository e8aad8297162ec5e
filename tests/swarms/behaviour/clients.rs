//! Operations of a client.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use libp2p::{identity::Keypair, kad};
use libp2p_smart_record::{
    AllowList, Clock, Fault, Limits, Open, RecordKey, Registry, SignError, SpaceRules, SpaceSigner,
    SystemClock, Timestamp, ValidationError, Validator, Validity, Writer, ZeroLifetime,
    behaviour::{BehaviourConfig, Event},
    client::{ClientError, PublicationContent, ReplicaState},
    query::{ReadPolicy, WritePolicy},
    store::{Origin, Quota, StoreConfig, ValidatedRecord, WriteError},
};

use crate::peer::{MINUTE, Peer, Setup, Silent, key, made, mesh, quiet, says, texts};
use smart_record_testing::ManualClock;

use crate::nodes::within;

#[tokio::test]
async fn a_published_document_is_read_by_others() {
    let (a, b, c) = (Peer::start().await, Peer::start().await, Peer::start().await);
    mesh(&[&a, &b, &c]).await;
    within(async {
        let publication = a.client.publish(key(), says("a"), MINUTE).await.unwrap();
        let mut peers = publication.peers.clone();
        peers.sort_unstable();
        let mut others = vec![b.id, c.id];
        others.sort_unstable();
        assert_eq!((peers, publication.chunks), (others.clone(), 1));
        b.client.publish(key(), says("b"), MINUTE).await.unwrap();
        let view = c.client.view(key()).await.unwrap();
        assert_eq!(texts(&view), ["a", "b"]);
        assert_eq!(view.get(&a.id).unwrap().seq, publication.update().unwrap().seq());

        let mut holders = a.client.confirm(&publication).await.unwrap();
        holders.sort_unstable();
        assert_eq!(holders, others, "the peers that acknowledged it have it");
    })
    .await;
}

#[tokio::test]
async fn a_put_record_of_other_writers_can_be_confirmed() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let value = signed_by_another("/sr/behaviour/of-another");
        let publication = a.client.put("/sr/behaviour/of-another", value).await.unwrap();
        assert!(matches!(&publication.content, PublicationContent::Record(record) if record.spaces().len() == 1));
        assert_eq!(publication.update(), None);
        assert_eq!(a.client.confirm(&publication).await.unwrap(), [b.id]);
        b.smart(|smart| smart.store_mut().forget(&"/sr/behaviour/of-another".into()).unwrap()).await;
        assert_eq!(a.client.confirm(&publication).await, Err(ClientError::NotKept));
    })
    .await;
}

#[tokio::test]
async fn replacing_and_withdrawing_reach_everyone() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), says("one"), MINUTE).await.unwrap();
        a.client.replace(key(), says("two"), MINUTE).await.unwrap();
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["two"]);
        a.client.withdraw(key()).await.unwrap();
        assert!(b.client.view(key()).await.unwrap().is_empty());
        assert_eq!(b.stored(&key()).await.unwrap().spaces().len(), 1, "the withdrawal is kept");
    })
    .await;
}

#[tokio::test]
async fn case_28_a_withdrawal_through_a_client_is_kept_as_long_as_what_it_hides() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let published = a.client.publish(key(), says("one"), MINUTE).await.unwrap();
        a.client.withdraw(key()).await.unwrap();
        let stored = b.stored(&key()).await.unwrap();
        let retained = stored.spaces().next().unwrap().1.retain_until().unwrap();
        let hidden = published.update().unwrap().expires_at;
        assert!((hidden..=hidden.saturating_add(Duration::from_secs(1))).contains(&retained));
    })
    .await;
}

#[tokio::test]
async fn a_large_space_goes_out_whole_in_chunks() {
    let store = StoreConfig::default().with_chunk_bytes(2 * 1_024);
    let a = Setup { store, ..Setup::default() }.start().await;
    let b = Peer::start().await;
    mesh(&[&a, &b]).await;
    within(async {
        let publish = async |n: usize| {
            let name = format!("k{n}");
            let document = [(name.as_str(), "x".repeat(200))].into_iter().collect();
            a.client.publish(key(), document, MINUTE).await.unwrap()
        };
        for n in 0..20 {
            publish(n).await;
        }
        b.smart(|smart| smart.store_mut().forget(&key()).unwrap()).await;
        let publication = publish(20).await;
        assert!(publication.chunks > 3, "{publication:?}");
        assert_eq!(publication.peers, [b.id]);
        let (ours, theirs) = (a.stored(&key()).await, b.stored(&key()).await);
        assert_eq!(ours, theirs);
        assert_eq!(ours.unwrap().spaces().next().unwrap().1.updates().len(), 21);
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_restarts_with_an_empty_store_is_not_refused_as_stale() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let long = [("long", "x")].into_iter().collect();
        let first = a.client.publish(key(), long, 30 * MINUTE).await.unwrap();
        let keypair = a.keypair.clone();
        drop(a);

        let again = Setup { keypair, ..Setup::default() }.start().await;
        mesh(&[&again, &b]).await;
        let second = again.client.replace(key(), says("new"), MINUTE).await.unwrap();
        assert!(second.update().unwrap().seq() > first.update().unwrap().seq());
        let reading = b.client.get(key()).await.unwrap();
        assert_eq!(reading.withheld, []);
        let view = reading.view();
        assert_eq!(texts(&view), ["new"]);
        assert_eq!(view.get(&again.id).unwrap().document.len(), 1);
        // It outlives the update that it hides, which the new process has read from the network.
        let stored = b.stored(&key()).await.unwrap();
        let retained = stored.spaces().next().unwrap().1.retain_until().unwrap();
        assert_eq!(retained, first.update().unwrap().expires_at);
    })
    .await;
}

#[tokio::test]
async fn a_write_before_any_peer_was_reached_outlives_earlier_updates() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let long = [("long", "x")].into_iter().collect();
        let first = a.client.publish(key(), long, 30 * MINUTE).await.unwrap();
        let keypair = a.keypair.clone();
        drop(a);

        // The new process knows no peers yet, and its store has a space of another writer.
        let again = Setup { keypair, ..Setup::default() }.start().await;
        let theirs = Peer::start().await;
        made(theirs.client.publish(key(), says("theirs"), MINUTE).await);
        again.store(&theirs.stored(&key()).await.unwrap()).await;
        made(again.client.replace(key(), says("new"), MINUTE).await);
        let stored = again.stored(&key()).await.unwrap();
        let space = stored.space(again.client.writer()).unwrap();
        assert!(space.retain_until().unwrap() >= first.update().unwrap().expires_at);
    })
    .await;
}

#[tokio::test]
async fn case_24_after_a_partial_reading_a_write_outlives_unseen_updates() {
    let (b, c) = (Peer::start().await, Peer::start().await);
    within(async {
        let keypair = Keypair::generate_ed25519();
        let now = SystemClock.now();
        // Updates from before the restart: one that is shown, and one that no peer shows.
        let mut signer = SpaceSigner::new(key(), keypair.clone(), Limits::default());
        signer.resume(&libp2p_smart_record::SmartRecord::new(key()));
        signer.merge(says("old"), now, MINUTE).unwrap();
        b.store(&signer.record(now)).await;
        let long = [("long", "x")].into_iter().collect();
        let long = signer.merge(long, now, 30 * MINUTE).unwrap();
        c.store(&signer.record(now)).await;

        let again = Setup { keypair, ..Setup::default() }.start().await;
        mesh(&[&again, &b]).await;
        let silent = Silent::start();
        again.add(libp2p::PeerId::random(), silent.address()).await;
        let written = again.client.replace(key(), says("new"), MINUTE).await.unwrap();
        assert_eq!(written.peers, [b.id]);
        let stored = again.stored(&key()).await.unwrap();
        let space = stored.space(again.client.writer()).unwrap();
        assert!(space.retain_until().unwrap() >= now.saturating_add(48 * 60 * MINUTE));
        assert!(space.retain_until().unwrap() > long.retain_until());
        // Once the network is whole again, the older update stays hidden.
        mesh(&[&b, &c]).await;
        let view = c.client.view(key()).await.unwrap();
        assert_eq!(texts(&view), ["new"]);
        assert_eq!(view.get(&again.id).unwrap().document.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn case_31_an_own_space_beyond_the_limits_of_its_record_can_be_continued() {
    let rank = |keypair: &Keypair| Writer::from(&keypair.public()).rank(&key());
    let mut keypairs = [(); 3].map(|()| Keypair::generate_ed25519());
    keypairs.sort_by_key(rank);
    let [first, second, last] = keypairs;
    let limits = Limits::default().with_spaces_per_record(2);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits.clone(), Open)).unwrap();
    let a = Setup { keypair: last.clone(), registry, ..Setup::default() }.start().await;
    within(async {
        // An update from before a restart, by a clock that was ahead.
        let now = SystemClock.now().saturating_add(MINUTE);
        for (keypair, ttl) in [(last, 30 * MINUTE), (first, MINUTE), (second, MINUTE)] {
            let mut signer = SpaceSigner::new(key(), keypair, limits.clone());
            signer.merge([("before", "x")].into_iter().collect(), now, ttl).unwrap();
            a.store(&signer.record(now)).await;
        }
        let own = async || a.client.stored_of(key(), a.id).await.unwrap().unwrap();
        let before = own().await;
        made(a.client.publish(key(), says("new"), MINUTE).await);
        let (before, after) = (before.space(a.client.writer()).unwrap().clone(), own().await);
        let after = after.space(a.client.writer()).unwrap();
        // At `now` itself, what was published in this millisecond has expired.
        assert_eq!(after.view(SystemClock.now()).unwrap().document.len(), 2);
        assert!(after.newest() > before.newest());
        assert!(after.retain_until() >= before.retain_until());
        let record = a.stored(&key()).await.unwrap();
        assert_eq!(record.spaces().len(), 2);
        assert_eq!(record.space(a.client.writer()), None);
    })
    .await;
}

#[tokio::test]
async fn a_write_to_a_full_space_keeps_what_another_process_of_the_writer_wrote() {
    let limits = Limits::default().with_updates_per_space(3);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits.clone(), Open)).unwrap();
    let a = Setup { registry, ..Setup::default() }.start().await;
    within(async {
        let document = |name: &str| [(name, "x")].into_iter().collect();
        for name in ["first", "second"] {
            made(a.client.publish(key(), document(name), MINUTE).await);
        }
        let mut other = SpaceSigner::new(key(), a.keypair.clone(), limits);
        let now = SystemClock.now();
        other.merge(document("other"), now, MINUTE).unwrap();
        a.store(&other.record(now)).await;
        made(a.client.publish(key(), document("third"), MINUTE).await);
        let view = a.client.view(key()).await.unwrap();
        let found = &view.get(&a.id).unwrap().document;
        for name in ["first", "second", "other", "third"] {
            assert!(found.get(name).is_some(), "{name}: {found}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_that_the_local_store_refuses_fails_although_earlier_ones_are_known() {
    let quota = Quota { count: 100, bytes: 1_000 };
    let store = StoreConfig::default().with_writer_quota(quota).with_protected_quota(quota);
    let a = Setup { store, ..Setup::default() }.start().await;
    let b = Peer::start().await;
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), says("first"), MINUTE).await.unwrap();
        let before = a.stored(&key()).await;
        let large = [("large", "x".repeat(1_000))].into_iter().collect();
        let refused = a.client.publish(key(), large, MINUTE).await;
        assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
        assert_eq!(a.stored(&key()).await, before);
        assert_eq!(b.stored(&key()).await, before, "it is not sent");
        a.client.replace(key(), says("second"), MINUTE).await.unwrap();
        assert_eq!(
            texts(&b.client.view(key()).await.unwrap()),
            ["second"],
            "the next write succeeds"
        );
    })
    .await;
}

/// Values are sets of bytes, consolidated by union.
struct Union;

impl Validator for Union {
    fn validate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        libp2p_smart_record::best_index(values.iter().map(|value| value.len()))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }

    fn consolidate(&self, _: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        let all: std::collections::BTreeSet<u8> = values.concat().into_iter().collect();
        Ok(all.into_iter().collect())
    }

    fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        part.iter().all(|byte| whole.contains(byte))
    }
}

fn uniting() -> Setup {
    let registry = Registry::default().with("union", Union).unwrap();
    Setup { registry, ..Setup::default() }
}

#[tokio::test]
async fn a_holder_of_a_combined_value_counts_as_holder_of_each_part() {
    let (a, b) = (uniting().start().await, uniting().start().await);
    mesh(&[&a, &b]).await;
    within(async {
        b.client.put("/union/x", "b").await.unwrap();
        let publication = a.client.put("/union/x", "a").await.unwrap();
        assert_eq!(publication.peers, [b.id]);
        assert_eq!(a.client.confirm(&publication).await.unwrap(), [b.id], "it has \"ab\"");
    })
    .await;
}

#[tokio::test]
async fn a_value_larger_than_a_packet_is_refused() {
    let a = uniting().start().await;
    within(async {
        let refused = a.client.put("/union/x", vec![1; 15 * 1_024 + 1]).await;
        assert!(
            matches!(&refused, Err(ClientError::Refused(WriteError::Refused(
                ValidationError::LimitExceeded(exceeded)))) if exceeded.limit == StoreConfig::CHUNK_BYTES),
            "{refused:?}"
        );
        assert!(a.client.get("/union/x").await.unwrap().is_empty());
        made(a.client.put("/union/x", vec![1; 15 * 1_024]).await);
    })
    .await;
}

/// A peer whose only neighbour never answers.
async fn unheard(config: BehaviourConfig) -> (Peer, Silent) {
    let config = config.with_read_deadline(Duration::from_millis(300));
    let peer = Setup::with_config(config).start().await;
    let silent = Silent::start();
    peer.add(libp2p::PeerId::random(), silent.address()).await;
    (peer, silent)
}

#[tokio::test]
async fn a_read_without_answers_times_out() {
    let (a, _silent) = unheard(quiet()).await;
    within(async {
        assert_eq!(a.client.get(key()).await.unwrap_err(), ClientError::TimedOut);
        let alone = Peer::start().await.client.get(key()).await.unwrap();
        assert!(!alone.has_reached_anyone() && !alone.is_complete(), "no peer to ask");
        let (b, c) = (Peer::start().await, Peer::start().await);
        mesh(&[&b, &c]).await;
        let reading = b.client.get(key()).await.unwrap();
        assert!(
            reading.has_reached_anyone() && reading.is_complete(),
            "it answers without a record"
        );
    })
    .await;
}

#[tokio::test]
async fn changes_in_quick_succession_are_told_together_and_counted() {
    let a = Peer::start().await;
    within(async {
        let mut watch = a.client.watch(key()).await.unwrap();
        let mut signer = SpaceSigner::new(key(), Keypair::generate_ed25519(), Limits::default());
        let mut writes = 0_u32;
        while a.smart(|smart| smart.counters().notifications_postponed).await == 0 {
            writes += 1;
            signer.replace(says(&writes.to_string()), SystemClock.now(), MINUTE).unwrap();
            a.store(&signer.record(SystemClock.now())).await;
        }
        // The last of them is told without any other cause.
        while texts(&watch.next().await.unwrap().view()) != [writes.to_string()] {}
    })
    .await;
}

#[tokio::test]
async fn a_read_that_reaches_no_peer_does_not_say_that_there_is_nothing() {
    let a = Peer::start().await;
    within(async {
        // A node that is alone reads its own store.
        assert!(a.client.view(key()).await.unwrap().is_empty());
        let mut alone = a.client.watch("/sr/alone").await.unwrap();
        assert!(alone.next().await.unwrap().is_empty());
        // Nobody listens there any more.
        let nowhere = Silent::start().address();
        let add = async || a.add(libp2p::PeerId::random(), nowhere.clone()).await;
        add().await;
        let mut watch = a.client.watch("/sr/watched").await.unwrap();
        add().await;
        assert_eq!(a.client.get(key()).await.unwrap_err(), ClientError::Unreachable);
        add().await;
        assert_eq!(a.client.view(key()).await.unwrap_err(), ClientError::Unreachable);
        add().await;
        let topic = libp2p_smart_record::ShardedKey::new("/sr/t".into(), 0, &Limits::default());
        let shards = a.client.get_sharded(&topic.unwrap()).await.unwrap();
        assert_eq!((shards.unreached.len(), shards.failed.len()), (1, 0));
        // What it holds itself is read.
        add().await;
        let own = a.client.publish(key(), says("own"), MINUTE).await;
        own.or_else(ClientError::into_publication).unwrap();
        add().await;
        let reading = a.client.get(key()).await.unwrap();
        assert_eq!(texts(&reading.view()), ["own"]);
        assert!(!reading.has_reached_anyone() && !reading.is_complete());
        // A watch has not taken the silence for nothing.
        let own = a.client.publish("/sr/watched", says("own"), MINUTE).await;
        own.or_else(ClientError::into_publication).unwrap();
        assert_eq!(texts(&watch.next().await.unwrap().view()), ["own"]);
    })
    .await;
}

#[tokio::test]
async fn a_queued_call_that_was_dropped_is_not_run() {
    let (a, _silent) = unheard(quiet().with_max_operations(1)).await;
    within(async {
        let first = a.client.get("/sr/queued/first");
        let dropped = a.client.publish("/sr/queued/dropped", says("x"), MINUTE);
        let put = signed_by_another("/sr/queued/put");
        let put = a.client.put("/sr/queued/put", put);
        let mut first = std::pin::pin!(first);
        {
            let (mut dropped, mut put) = (std::pin::pin!(dropped), std::pin::pin!(put));
            assert!(futures::poll!(&mut first).is_pending());
            assert!(futures::poll!(&mut dropped).is_pending());
            assert!(futures::poll!(&mut put).is_pending());
        }
        let mut last = std::pin::pin!(a.client.get("/sr/queued/last"));
        assert!(futures::poll!(&mut last).is_pending());
        assert_eq!(first.await.unwrap_err(), ClientError::TimedOut);
        assert_eq!(last.await.unwrap_err(), ClientError::TimedOut);
        assert_eq!(a.smart(|smart| smart.store_mut().usage().records).await, 0);
    })
    .await;
}

fn signed_by_another(key: &'static str) -> Vec<u8> {
    let mut signer = SpaceSigner::new(key.into(), Keypair::generate_ed25519(), Limits::default());
    let now = SystemClock.now();
    signer.merge(says("x"), now, MINUTE).unwrap();
    signer.record(now).encode()
}

#[tokio::test]
async fn nothing_is_signed_after_the_last_client_is_dropped() {
    let (mut a, _silent) = unheard(quiet()).await;
    let b = Peer::start().await;
    within(async {
        // It waits for the earlier content of the space.
        let client = std::mem::replace(&mut a.client, b.client.clone());
        {
            let mut write = std::pin::pin!(client.keep(key(), says("x"), MINUTE));
            assert!(futures::poll!(&mut write).is_pending());
            while a.smart(|smart| smart.counters().lookups).await == 0 {}
        }
        drop(client);
        a.until(|event| matches!(event, Event::ClientsGone).then_some(())).await;
        while a.smart(|smart| smart.requests()).await > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(a.stored(&key()).await, None);
        assert_eq!(a.smart(|smart| smart.counters().writes).await, 0);
    })
    .await;
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let nobody = SpaceRules::new(Limits::default(), AllowList::default());
    let registry = Registry::default().with("closed", nobody).unwrap();
    let setup = Setup { registry, ..Setup::default() };
    let a = setup.start().await;
    within(async {
        let publish = |key: &'static str, ttl| a.client.publish(key, says("x"), ttl);
        let unregistered = publish("/unheard/of", MINUTE).await;
        let unregistered = unregistered.unwrap_err();
        assert_eq!(unregistered.fault(), Some(Fault::Unsupported));
        assert!(unregistered.to_string().contains("\"unheard\""), "{unregistered}");
        for key in ["lobby", "/sr", "sr/lobby", ""] {
            for refused in [
                publish(key, MINUTE).await.unwrap_err(),
                a.client.view(key).await.unwrap_err(),
                a.client.get(key).await.unwrap_err(),
                a.client.keep(key, says("x"), MINUTE).await.unwrap_err(),
            ] {
                assert!(refused.to_string().contains("the form /namespace/path"), "{refused}");
            }
        }
        let refused = publish("/closed/x", MINUTE).await;
        assert!(
            matches!(&refused, Err(ClientError::Refused(WriteError::Refused(reason)))
                if reason.fault() == Fault::RefusedByPolicy),
            "{refused:?}"
        );
        assert_eq!(refused.unwrap_err().fault(), Some(Fault::RefusedByPolicy));
        // A lifetime of zero is one error at every door, also beside a document that is kept.
        let _kept = a.client.keep("/sr/kept", says("x"), MINUTE).await.unwrap();
        let zero = Duration::from_micros(1);
        for refused in [
            publish("/sr/x", Duration::ZERO).await.map(drop),
            a.client.replace("/sr/x", says("x"), zero).await.map(drop),
            a.client.keep("/sr/x", says("x"), zero).await.map(drop),
            a.client.keep("/sr/kept", says("y"), zero).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused, ClientError::Sign(ZeroLifetime.into()));
            assert_eq!(refused.fault(), Some(Fault::Caller));
            assert_eq!(refused.to_string(), ZeroLifetime.to_string());
        }
        let large = [("text", "x".repeat(3_000))].into_iter().collect();
        let large = a.client.publish("/sr/x", large, MINUTE).await.unwrap_err();
        assert_eq!(large.fault(), Some(Fault::LimitExceeded));
        assert_eq!(ClientError::TimedOut.fault(), None);
        let too_long = publish("/sr/x", 49 * 60 * MINUTE).await;
        assert_eq!(too_long.as_ref().unwrap_err().fault(), Some(Fault::LimitExceeded));
        assert!(matches!(too_long, Err(ClientError::Sign(SignError::Update(_)))), "{too_long:?}");
        let junk = a.client.put("/sr/x", "junk").await;
        assert!(matches!(junk, Err(ClientError::Refused(_))), "{junk:?}");
        // There is no other peer; the write is still made.
        let alone = publish("/sr/x", MINUTE).await.unwrap_err();
        assert!(matches!(&alone, ClientError::NotAcknowledged(_)) && alone.fault().is_none());
        let alone = made(Err(alone));
        assert_eq!((alone.peers.len(), alone.finished().await.replicas.len()), (0, 0));
        assert_eq!(texts(&a.client.view("/sr/x").await.unwrap()), ["x"]);
        assert!(a.client.get("/sr/nothing").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn calls_fail_and_watches_end_when_the_behaviour_is_gone() {
    let a = Peer::start().await;
    within(async {
        let mut watch = a.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty(), "no record yet");
        let client = a.stop();
        assert!(watch.next().await.is_none());
        assert_eq!(client.get(key()).await.unwrap_err(), ClientError::Stopped);
        assert_eq!(client.publish(key(), says("x"), MINUTE).await, Err(ClientError::Stopped));
        assert!(client.watch(key()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn dropping_the_last_client_ends_client_operations_and_the_replica_goes_on() {
    let (mut a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.keep(key(), says("a"), MINUTE).await.unwrap().detach();
        let mut watch = a.client.watch(key()).await.unwrap();
        assert_eq!(texts(&watch.next().await.unwrap().view()), ["a"]);
        let clone = a.client.clone();
        // The test peer also holds a client, which is replaced by another peer's.
        a.client = b.client.clone();
        assert!(clone.get(key()).await.is_ok(), "other peers go on");
        drop(clone);
        a.until(|event| matches!(event, Event::ClientsGone).then_some(())).await;
        while watch.next().await.is_some() {}
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn a_watch_shows_changes_of_the_local_store_at_once() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let mut watch = b.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty());
        for text in ["one", "two"] {
            a.client.replace(key(), says(text), MINUTE).await.unwrap();
            assert_eq!(texts(&watch.next().await.unwrap().view()), [text]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_shows_writers_with_keys_of_every_type() {
    let b = Peer::start().await;
    within(async {
        let mut watch = b.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty());
        // The first two peer ids contain the key itself, the last is a hash.
        let keypairs =
            [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()];
        for (n, keypair) in keypairs.into_iter().enumerate() {
            let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
            let now = SystemClock.now();
            signer.merge(says("x"), now, MINUTE).unwrap();
            b.store(&signer.record(now)).await;
            assert_eq!(watch.next().await.unwrap().view().len(), n + 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_polls_for_changes_that_do_not_reach_the_local_store() {
    let interval = Duration::from_millis(100);
    let a = Peer::start().await;
    let b = Setup::with_config(quiet().with_watch_interval(interval)).start().await;
    // Only b knows a, and b is a client, so a sends it nothing.
    b.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    b.add(a.id, a.address.clone()).await;
    within(async {
        let mut watch = b.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty());
        for text in ["one", "two"] {
            let publication = made(a.client.replace(key(), says(text), MINUTE).await);
            assert_eq!(publication.peers, []);
            assert_eq!(texts(&watch.next().await.unwrap().view()), [text]);
        }
        assert_eq!(b.stored(&key()).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_watch_shows_expiry() {
    let clock = ManualClock::at(libp2p_smart_record::Timestamp::from_millis(1_800_000_000_000));
    let a = Setup::default().at(&clock).start().await;
    within(async {
        let mut watch = a.client.watch(key()).await.unwrap();
        assert!(watch.next().await.unwrap().is_empty());
        made(a.client.publish(key(), says("short"), MINUTE).await);
        assert_eq!(texts(&watch.next().await.unwrap().view()), ["short"]);
        clock.advance(MINUTE);
        a.wake().await;
        assert!(watch.next().await.unwrap().view().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_watch_without_news_makes_one_lookup_per_interval() {
    let interval = Duration::from_millis(50);
    let full = Peer::start().await;
    let b = Setup::with_config(quiet().with_watch_interval(interval)).start().await;
    b.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    b.add(full.id, full.address.clone()).await;
    within(async {
        let board = super::repairs::board(60, 600);
        full.store(&board).await;
        let mut watch = b.client.watch(key()).await.unwrap();
        while watch.next().await.unwrap().record() != Some(&board) {}
        let counts = async || {
            let counters = b.smart(|smart| smart.counters().clone()).await;
            (counters.reads, counters.lookups)
        };
        // It is notified before its read ends.
        while counts().await.0 == 0 {
            tokio::task::yield_now().await;
        }
        let before = counts().await;
        assert!(before.1 > before.0, "the first read took several lookups");
        while counts().await.0 < before.0 + 5 {
            tokio::time::sleep(interval).await;
        }
        let after = counts().await;
        assert!(after.1 - before.1 <= after.0 - before.0 + 1, "{before:?} {after:?}");
    })
    .await;
}

#[tokio::test]
async fn each_of_many_watched_keys_is_looked_up() {
    let a = Peer::start().await;
    let config = quiet().with_watch_interval(Duration::ZERO).with_max_operations(4);
    let b = Setup::with_config(config).start().await;
    b.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    b.add(a.id, a.address.clone()).await;
    within(async {
        let keys: Vec<_> = (0..30).map(|n| RecordKey::new(format!("/sr/watched/{n:02}"))).collect();
        let watches = join_all(keys.iter().map(|key| b.client.watch(key.clone()))).await;
        let mut watches: Vec<_> = watches.into_iter().map(Result::unwrap).collect();
        for watch in &mut watches {
            assert!(watch.next().await.unwrap().is_empty());
        }
        for (key, watch) in keys.iter().zip(&mut watches).rev() {
            made(a.client.publish(key.clone(), says("x"), MINUTE).await);
            assert_eq!(texts(&watch.next().await.unwrap().view()), ["x"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_hundred_subscribers_of_one_key_share_its_lookups() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let watches = join_all((0..100).map(|_| b.client.watch(key()))).await;
        let mut watches: Vec<_> = watches.into_iter().map(Result::unwrap).collect();
        for watch in &mut watches {
            assert!(watch.next().await.unwrap().is_empty());
        }
        a.client.publish(key(), says("hello"), MINUTE).await.unwrap();
        for watch in &mut watches {
            assert_eq!(texts(&watch.next().await.unwrap().view()), ["hello"]);
        }
        let reads = b.smart(|smart| smart.counters().reads).await;
        assert_eq!(reads, 1);
    })
    .await;
}

#[tokio::test]
async fn commands_beyond_the_maximum_wait_and_are_all_run() {
    let (a, b) =
        (Setup::with_config(quiet().with_max_operations(2)).start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let many = (0..200).map(|n| {
            let client = a.client.clone();
            async move {
                let key = RecordKey::new(format!("/sr/many/{}", n % 10));
                client.publish(key.clone(), says(&n.to_string()), MINUTE).await.unwrap();
                client.get_with(key, ReadPolicy::Replies(1)).await.unwrap()
            }
        });
        assert_eq!(join_all(many).await.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn the_behaviour_composes_with_others_and_gives_kademlia_back() {
    let (mut a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        // Events of the user's query are emitted; the behaviour has no queries.
        a.client.publish(key(), says("x"), MINUTE).await.unwrap();
        a.client.get(key()).await.unwrap();
        let id = a.smart(|smart| smart.kad_mut().get_record(kad::RecordKey::new(&key()))).await;
        let seen = a
            .until(|event| match event {
                Event::Kad(kad::Event::OutboundQueryProgressed { id, .. }) => Some(*id),
                _ => None,
            })
            .await;
        assert_eq!(seen, id);
        // The other behaviours in the swarm go on as well.
        let connected = b.with(|swarm| swarm.connected_peers().count()).await;
        assert_eq!(connected, 1);
    })
    .await;
}

#[tokio::test]
async fn a_write_returns_at_a_majority_and_its_progress_follows() {
    let config = quiet().with_write_policy(WritePolicy::Majority);
    let a = Setup::with_config(config).start().await;
    let others = join_all((0..5).map(|_| Peer::start())).await;
    mesh(&[&a, &others[0], &others[1], &others[2], &others[3], &others[4]]).await;
    within(async {
        let publication = a.client.publish(key(), says("x"), MINUTE).await.unwrap();
        assert!((3..=5).contains(&publication.peers.len()), "{:?}", publication.peers);
        assert!(!publication.progress().is_over);
        a.client.close().await.unwrap();
        let end = publication.progress();
        assert_eq!(end.peers(ReplicaState::Shown).count(), 2, "{end:?}");
        assert_eq!(end.peers(ReplicaState::Acknowledged).count(), 3, "{end:?}");
        assert!(end.is_over);
        // Peers that have acknowledged it meanwhile are included.
        let second = a.client.publish(key(), says("y"), MINUTE).await.unwrap();
        assert_eq!(second.finished().await.peers(ReplicaState::Shown).count(), 2);
        assert_eq!(a.smart(|smart| smart.counters().lookups).await, 1, "one lookup for both");
    })
    .await;
}

#[tokio::test]
async fn an_acknowledging_peer_without_the_write_or_with_a_newer_one_is_reported() {
    // A replica without rules for the namespace acknowledges the record and refuses it.
    let a = Setup { registry: Registry::empty(), ..Setup::default() }.start().await;
    let knows = Peer::start().await;
    let keypair = Keypair::generate_ed25519();
    let author = Setup { keypair: keypair.clone(), ..Setup::default() }.start().await;
    mesh(&[&author, &a, &knows]).await;
    within(async {
        // Within a minute of a read, the write does not read again.
        assert!(author.client.get(key()).await.unwrap().is_complete());
        let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
        let later = SystemClock.now().saturating_add(4 * MINUTE);
        signer.replace(says("newer"), later, MINUTE).unwrap();
        let newer = signer.record(later).encode();
        knows
            .smart(move |smart| {
                let store = smart.store_mut();
                let now = SystemClock.now();
                let checked = ValidatedRecord::new(store.registry(), key(), &newer, now);
                store.insert(checked, Origin::Remote).unwrap();
            })
            .await;
        let publication = author.client.publish(key(), says("x"), MINUTE).await.unwrap();
        let end = publication.finished().await;
        assert_eq!(end.replicas[&knows.id], ReplicaState::Stale);
        assert_eq!(end.replicas[&a.id], ReplicaState::NotShown);
    })
    .await;
}
