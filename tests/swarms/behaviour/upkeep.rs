//! Periodic work of a behaviour: renewal, resending and replication.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{identity::Keypair, kad};
use libp2p_smart_record::{
    Limits, SpaceSigner, Timestamp,
    behaviour::{BehaviourConfig, Event},
    client::ClientError,
};

use crate::peer::{MINUTE, Peer, Setup, key, made, mesh, quiet, says, texts};
use smart_record_testing::ManualClock;

use crate::nodes::within;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn refreshed(event: &Event) -> Option<Vec<libp2p::PeerId>> {
    match event {
        Event::Refreshed { peers, .. } => Some(peers.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn a_kept_document_is_signed_anew_before_it_expires() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) =
        (Setup::default().at(&clock).start().await, Setup::default().at(&clock).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.keep(key(), says("here"), 10 * MINUTE).await.unwrap().detach();
        a.client.publish("/sr/behaviour/once", says("once"), 10 * MINUTE).await.unwrap();
        for _ in 0..5 {
            clock.advance(5 * MINUTE);
            a.wake().await;
            assert_eq!(a.until(refreshed).await, [b.id]);
        }
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["here"]);
        let view = b.client.view(key()).await.unwrap();
        let expires_at = view.get(&a.id).unwrap().expires_at;
        assert!(expires_at > NOW.saturating_add(30 * MINUTE), "{expires_at}");
        // The published document has expired.
        assert!(b.client.view("/sr/behaviour/once").await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn renewals_include_updates_of_another_process_of_the_same_writer() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) =
        (Setup::default().at(&clock).start().await, Setup::default().at(&clock).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.keep(key(), says("kept"), 10 * MINUTE).await.unwrap().detach();
        let mut other = SpaceSigner::new(key(), a.keypair.clone(), Limits::default());
        clock.advance(MINUTE);
        let document = [("other", "x")].into_iter().collect();
        other.merge(document, NOW.saturating_add(MINUTE), 60 * MINUTE).unwrap();
        let value = other.record(NOW.saturating_add(MINUTE)).encode();
        b.client.put(key(), value).await.unwrap();
        for _ in 0..4 {
            clock.advance(5 * MINUTE);
            a.wake().await;
            assert_eq!(a.until(refreshed).await, [b.id]);
        }
        let stored = b.stored(&key()).await.unwrap();
        let (_, space) = stored.spaces().next().unwrap();
        assert_eq!(space.updates().len(), 1, "renewals do not pile up");
        let document = space.view(NOW.saturating_add(21 * MINUTE)).unwrap().document;
        assert!(document.get("text").is_some() && document.get("other").is_some(), "{document}");
    })
    .await;
}

#[tokio::test]
async fn renewal_ends_with_the_last_client() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) =
        (Setup::default().at(&clock).start().await, Setup::default().at(&clock).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.keep(key(), says("here"), 10 * MINUTE).await.unwrap().detach();
        clock.advance(5 * MINUTE);
        a.wake().await;
        assert_eq!(a.until(refreshed).await, [b.id]);
        a.client = b.client.clone();
        a.until(|event| matches!(event, Event::ClientsGone).then_some(())).await;
        for _ in 0..3 {
            clock.advance(5 * MINUTE);
            a.wake().await;
        }
        assert_eq!(a.smart(|smart| smart.counters().refreshes).await, 1);
        assert!(b.client.view(key()).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_own_space_is_sent_again_once_per_interval() {
    let clock = ManualClock::at(NOW);
    let config = quiet().with_refresh_interval(60 * MINUTE);
    let mut a = Setup::with_config(config).at(&clock).start().await;
    let mut b = Setup::default().at(&clock).start().await;
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), says("x"), 600 * MINUTE).await.unwrap();
        b.smart(|smart| smart.store_mut().forget(&key()).unwrap()).await;
        clock.advance(60 * MINUTE);
        a.wake().await;
        assert_eq!(a.until(refreshed).await, [b.id]);
        b.until_stored(&key(), |_| true).await;
        assert_eq!(a.smart(|smart| smart.counters().refreshes).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_own_space_is_sent_to_new_peers() {
    let config = quiet().with_topology_delay(Duration::from_millis(100));
    let mut a = Setup::with_config(config).start().await;
    within(async {
        let alone = made(a.client.publish(key(), says("x"), MINUTE).await);
        assert_eq!(alone.peers, []);
        let mut b = Peer::start().await;
        mesh(&[&a, &b]).await;
        // Attempts before that have reached no peer.
        assert_eq!(a.until(|event| refreshed(event).filter(|it| !it.is_empty())).await, [b.id]);
        b.until_stored(&key(), |_| true).await;
    })
    .await;
}

/// A replica of another writer's record, which knows one peer without it.
async fn replica(config: BehaviourConfig, clock: &ManualClock, records: usize) -> (Peer, Peer) {
    let replica = Setup::with_config(config).at(clock).start().await;
    let empty = Setup::default().at(clock).start().await;
    mesh(&[&replica, &empty]).await;
    for n in 0..records {
        let key = format!("/sr/replicated/{n}").as_str().into();
        let mut signer = SpaceSigner::new(key, Keypair::generate_ed25519(), Limits::default());
        signer.merge(says("x"), NOW, 600 * MINUTE).unwrap();
        let record = signer.record(NOW);
        replica
            .smart(move |smart| {
                let value = record.encode();
                smart.store_mut().write(record.key(), &value).unwrap();
            })
            .await;
    }
    (replica, empty)
}

#[tokio::test]
async fn stored_records_are_replicated_one_by_one_over_an_interval() {
    let clock = ManualClock::at(NOW);
    let config = quiet().with_replication_interval(Some(60 * MINUTE));
    let (replica, mut empty) = replica(config, &clock, 6).await;
    within(async {
        let mut turns = 0;
        // If the other peer is closer to the key, this one takes only every second turn.
        for _ in 0..14 {
            clock.advance(10 * MINUTE);
            replica.wake().await;
            let counters = replica.smart(|smart| smart.counters().clone()).await;
            assert!(counters.replications <= turns + 1, "one by one");
            turns = counters.replications;
        }
        assert!((6..=12).contains(&turns), "each record has one or two turns: {turns}");
        for n in 0..6 {
            empty.until_stored(&format!("/sr/replicated/{n}").as_str().into(), |_| true).await;
        }
    })
    .await;
}

#[tokio::test]
async fn inbound_junk_does_not_suppress_replication() {
    let clock = ManualClock::at(NOW);
    let config = quiet().with_replication_interval(Some(60 * MINUTE));
    let (replica, mut empty) = replica(config, &clock, 1).await;
    within(async {
        let key = libp2p_smart_record::RecordKey::new("/sr/replicated/0");
        // Kademlia's own job would leave the record out of its next run.
        let (junk, peer) =
            (kad::Record::new(kad::RecordKey::new(&key), b"junk".to_vec()), replica.id);
        for _ in 0..3 {
            let junk = junk.clone();
            empty
                .smart(move |smart| {
                    smart.kad_mut().put_record_to(junk, [peer].into_iter(), kad::Quorum::One)
                })
                .await;
            empty
                .until(|event| match event {
                    Event::Kad(kad::Event::OutboundQueryProgressed { .. }) => Some(()),
                    _ => None,
                })
                .await;
            clock.advance(60 * MINUTE);
            replica.wake().await;
        }
        empty.until_stored(&key, |_| true).await;
    })
    .await;
}

#[tokio::test]
async fn updates_signed_by_a_fast_clock_are_an_error_and_can_be_forgotten() {
    let clock = ManualClock::at(NOW.saturating_add(24 * 60 * MINUTE));
    let author = Setup::with_config(quiet()).at(&clock).start().await;
    within(async {
        made(author.client.publish(key(), says("tomorrow"), MINUTE).await);
        clock.set(NOW);
        // Other peers would refuse a later update, so the write fails.
        let error = author.client.publish(key(), says("today"), MINUTE).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("the lead over our clock"), "{error}");
        author.smart(|smart| smart.store_mut().forget(&key())).await.unwrap();
        made(author.client.publish(key(), says("today"), MINUTE).await);
        assert_eq!(texts(&author.client.view(key()).await.unwrap()), ["today"]);
    })
    .await;
}

#[tokio::test]
async fn case_24_kept_documents_are_signed_anew_after_a_fast_clock_is_corrected() {
    let clock = ManualClock::at(NOW.saturating_add(60 * MINUTE));
    let mut a = Setup::default().at(&clock).start().await;
    let b = Setup::default().at(&ManualClock::at(NOW)).start().await;
    mesh(&[&a, &b]).await;
    within(async {
        a.client.keep(key(), says("here"), 10 * MINUTE).await.unwrap().detach();
        let future = b.client.view(key()).await.unwrap_err();
        assert!(
            matches!(&future, ClientError::AnswersRefused(refused) if refused.is_ahead_of_clock()),
            "it is from the future: {future}"
        );
        clock.set(NOW);
        a.wake().await;
        assert_eq!(a.until(refreshed).await, [b.id]);
        for peer in [&a, &b] {
            let view = peer.client.view(key()).await.unwrap();
            assert_eq!(texts(&view), ["here"]);
            assert_eq!(view.get(&a.id).unwrap().seq.issued_at(), NOW);
        }
    })
    .await;
}

#[tokio::test]
async fn case_15_a_writer_whose_clock_is_behind_is_told_that_its_newer_updates_are_from_ahead() {
    let (ahead, now) = (NOW.saturating_add(10 * MINUTE), ManualClock::at(NOW));
    let keypair = Keypair::generate_ed25519();
    let b = Setup::default().at(&ManualClock::at(ahead)).start().await;
    let setup = Setup { keypair: keypair.clone(), ..Setup::default() };
    let right = setup.at(&ManualClock::at(ahead)).start().await;
    mesh(&[&right, &b]).await;
    within(async {
        right.client.replace(key(), says("right"), 20 * MINUTE).await.unwrap();
        right.stop();
        let setup = Setup { keypair, ..Setup::default() };
        let behind = setup.at(&now).start().await;
        behind.add(b.id, b.address.clone()).await;
        let publication = behind.client.publish(key(), says("behind"), 20 * MINUTE).await.unwrap();
        assert!(publication.refused.as_ref().unwrap().is_ahead_of_clock());
        publication.finished().await;
        let error = behind.client.confirm(&publication).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::AnswersRefused(refused) if refused.is_ahead_of_clock()),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn case_24_the_next_write_succeeds_after_a_fast_clock_is_corrected() {
    let clock = ManualClock::at(NOW);
    let a = Setup::default().at(&clock).start().await;
    let b = Setup::default().at(&ManualClock::at(NOW)).start().await;
    mesh(&[&a, &b]).await;
    within(async {
        b.client.publish(key(), says("theirs"), 10 * MINUTE).await.unwrap();
        let right = [("right", "x")].into_iter().collect();
        a.client.publish(key(), right, 10 * MINUTE).await.unwrap();
        clock.set(NOW.saturating_add(60 * MINUTE));
        a.client.publish(key(), says("ahead"), 10 * MINUTE).await.unwrap();
        let mut watch = a.client.watch(key()).await.unwrap();
        clock.set(NOW.saturating_add(MINUTE));
        let again = [("again", "x")].into_iter().collect();
        let published = a.client.publish(key(), again, 10 * MINUTE).await.unwrap();
        assert_eq!(published.peers, [b.id]);
        for peer in [&a, &b] {
            let reading = peer.client.get(key()).await.unwrap();
            assert_eq!(reading.withheld, []);
            let view = reading.view();
            assert_eq!(texts(&view), ["theirs"]);
            let names: Vec<_> = view
                .get(&a.id)
                .unwrap()
                .document
                .iter()
                .map(|(name, _)| name.to_string())
                .collect();
            assert_eq!(names, ["\"again\"", "\"right\""], "earlier valid content stays");
        }
        loop {
            let view = watch.next().await.unwrap().view();
            let said = |name| view.get(&a.id).and_then(|space| space.document.get(name));
            if said("again").is_some() {
                break assert_eq!(said("text"), None, "what is watched here goes with it");
            }
        }
    })
    .await;
}
