//! The record manager: over a store in memory, over a scripted backend, and over the DHT between
//! real swarms.

mod dht;
mod shelf;

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    AcceptAny, AllowList, Clock, Fault, KeyOwner, Malformed, NamespaceItem, Namespaces, RecordKey,
    Registry, Timestamp, ValidationError, ZeroLifetime,
    manager::{ManagerError, RecordManager, StoreBackend},
    signed::{SignedRecord, SignedRecordLimits, SignedRecordValidator, UnsignedRecord},
    store::{MemoryStorage, SmartRecordStore, StoreConfig, WriteError},
};
use smart_record_testing::ManualClock;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const NOW_MICROS: u64 = NOW.as_millis() * 1_000;

/// `/notes/…` is open to all writers, `/own/<peer id>/…` to its peer, `/text/…` holds text.
fn with_all<T: NamespaceItem>(namespaces: Namespaces<T>) -> Namespaces<T>
where
    SignedRecordValidator: Into<T>,
{
    let own = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner);
    let text = SignedRecordValidator::default().with_check(|record| {
        std::str::from_utf8(record.value()).map(drop).map_err(|e| Malformed::other(e).into())
    });
    namespaces
        .with("notes", SignedRecordValidator::default())
        .and_then(|namespaces| namespaces.with("own", own))
        .and_then(|namespaces| namespaces.with("text", text))
        .unwrap()
}

fn registry() -> Registry {
    with_all(Registry::default())
}

fn rules() -> Namespaces<SignedRecordValidator> {
    with_all(Namespaces::empty())
}

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn record(author: u8, key: &str, value: &'static str, sequence: u64) -> SignedRecord {
    UnsignedRecord::new(key, value, sequence)
        .sign(&keypair(author), &SignedRecordLimits::default())
        .unwrap()
}

type InMemory = RecordManager<StoreBackend>;

/// Two authors over the same store, and their shared clock.
fn two_authors() -> (InMemory, InMemory, ManualClock) {
    let clock = ManualClock::at(NOW);
    let store = SmartRecordStore::with_storage(
        keypair(9).public().to_peer_id(),
        registry(),
        StoreConfig::default(),
        MemoryStorage::default(),
        clock.clone(),
    )
    .unwrap();
    let backend = StoreBackend::over(store);
    let manager =
        |seed| RecordManager::with_clock(keypair(seed), rules(), backend.clone(), clock.clone());
    (manager(1), manager(2), clock)
}

#[tokio::test]
async fn a_published_record_can_be_read() {
    let manager = RecordManager::new(keypair(1), rules(), StoreBackend::new(registry()));
    assert_eq!(manager.get("/notes/test-key").await, Ok(None));
    assert_eq!(manager.has_record("/notes/test-key").await, Ok(false));
    manager.publish("/notes/test-key", "test-value").await.unwrap();
    assert_eq!(manager.get("/notes/test-key").await, Ok(Some(b"test-value".to_vec())));
    assert_eq!(manager.has_record("/notes/test-key").await, Ok(true));
    assert_eq!(manager.get("/notes/other-key").await, Ok(None));
}

#[test]
fn the_store_behind_a_manager_is_bounded() {
    let config = StoreConfig::default();
    let backend = StoreBackend::new(Registry::empty().with_fallback(AcceptAny::default()));
    let mut store = backend.store();
    for n in 0..config.max_records() {
        store.write(&RecordKey::new(format!("/notes/{n}")), b"value").unwrap();
    }
    let refused = store.write(&RecordKey::new("/notes/one-more"), b"value").unwrap_err();
    assert!(refused.to_string().contains("records"), "{refused}");
}

#[tokio::test]
async fn case_24_records_are_published_and_read_after_a_fast_clock_is_corrected() {
    let (alice, bob, clock) = two_authors();
    alice.publish("/notes/a", "before").await.unwrap();
    clock.set(NOW.saturating_add(Duration::from_secs(3_600)));
    alice.publish("/notes/a", "ahead").await.unwrap();
    clock.set(NOW.saturating_add(Duration::from_secs(1)));
    let future = alice.get("/notes/a").await.unwrap_err();
    assert!(
        matches!(&future, ManagerError::AnswersRefused(refused) if refused.is_ahead_of_clock()),
        "what there is comes from the future: {future}"
    );
    let again = alice.publish("/notes/a", "again").await.unwrap();
    assert_eq!(again.record.sequence(), NOW_MICROS + 1_000_000);
    for manager in [&alice, &bob] {
        assert_eq!(manager.get("/notes/a").await, Ok(Some(b"again".to_vec())));
    }
}

#[tokio::test]
async fn a_record_has_all_its_metadata() {
    let (alice, bob, clock) = two_authors();
    let published = alice.publish("/notes/a", "hello").await.unwrap();
    assert_eq!(published.peers, 0, "there are no other peers");
    clock.advance(Duration::from_secs(1));
    let record = bob.get_record("/notes/a").await.unwrap().unwrap();
    assert_eq!(record, published.record);
    assert_eq!(record.key(), &RecordKey::new("/notes/a"));
    assert_eq!(record.value(), b"hello");
    assert_eq!(record.author(), keypair(1).public().to_peer_id());
    assert_eq!(record.sequence(), NOW_MICROS);
    assert_eq!(record.expires_at(), None);
    // Each received it at a different time; a read is no receipt.
    let received_at = NOW.saturating_add(Duration::from_secs(1));
    assert_eq!(record.received_at(), Some(received_at));
    clock.advance(Duration::from_secs(1));
    let again = bob.get_record("/notes/a").await.unwrap().unwrap();
    assert_eq!(again.received_at(), Some(received_at));
    let own = alice.get_record("/notes/a").await.unwrap().unwrap();
    assert_eq!(own.received_at(), Some(NOW));
}

#[tokio::test]
async fn each_publish_replaces_the_last_record_of_any_author() {
    let (alice, bob, clock) = two_authors();
    let mut last = 0;
    for (author, value) in [(&alice, "1"), (&alice, "2"), (&bob, "3"), (&alice, "4"), (&bob, "5")] {
        let published = author.publish("/notes/a", value).await.unwrap();
        assert!(
            published.record.sequence() > last,
            "the sequence rises although the clock stands still"
        );
        last = published.record.sequence();
        assert_eq!(alice.get("/notes/a").await, Ok(Some(value.into())));
        assert_eq!(bob.get("/notes/a").await, Ok(Some(value.into())));
    }
    assert_eq!(last, NOW_MICROS + 4);
    clock.advance(Duration::from_secs(1));
    let published = alice.publish("/notes/a", "6").await.unwrap();
    assert_eq!(published.record.sequence(), NOW_MICROS + 1_000_000);
}

#[tokio::test]
async fn a_clock_that_is_behind_makes_no_lower_sequence() {
    let (alice, bob, _) = two_authors();
    alice.publish("/notes/a", "1").await.unwrap();
    let behind = ManualClock::at(NOW.saturating_sub(Duration::from_secs(60)));
    let late = RecordManager::with_clock(keypair(2), rules(), bob.backend().clone(), behind);
    let published = late.publish("/notes/a", "2").await.unwrap();
    assert_eq!(published.record.sequence(), NOW_MICROS + 1);
    assert_eq!(alice.get("/notes/a").await, Ok(Some(b"2".to_vec())));
}

#[tokio::test]
async fn an_expired_record_is_gone() {
    let (alice, bob, clock) = two_authors();
    let until = NOW.saturating_add(Duration::from_secs(10));
    alice.publish_until("/notes/a", "mortal", until).await.unwrap();
    clock.advance(Duration::from_secs(9));
    assert_eq!(bob.get("/notes/a").await, Ok(Some(b"mortal".to_vec())));
    clock.advance(Duration::from_secs(1));
    assert_eq!(bob.get("/notes/a").await, Ok(None));
    assert_eq!(
        alice.publish_until("/notes/a", "late", until).await,
        Err(ManagerError::Refused(ValidationError::Expired { expired_at: until }))
    );
}

#[tokio::test]
async fn a_record_of_another_author_can_be_put() {
    let (alice, bob, _) = two_authors();
    let record = record(7, "/notes/a", "from afar", 3);
    bob.put(record.clone()).await.unwrap();
    assert_eq!(alice.get_record("/notes/a").await, Ok(Some(record.clone())));
    bob.put(record).await.unwrap();
    let old = self::record(7, "/notes/a", "old", 2);
    assert_eq!(
        bob.put(old).await,
        Err(ManagerError::Backend(WriteError::Refused(ValidationError::Stale)))
    );
}

#[tokio::test]
async fn a_namespace_without_rules_is_refused() {
    let (alice, _, _) = two_authors();
    // The first is not registered, the second has records of another kind, the others have none.
    for key in ["/unheard/of", "/sr/rooms", "notes", ""] {
        let rules = Namespaces::<SignedRecordValidator>::empty();
        let refused = rules.resolve(&key.into()).map(drop).unwrap_err();
        let unregistered = ManagerError::Refused(refused);
        assert_eq!(alice.publish(key, "x").await, Err(unregistered.clone()));
        assert_eq!(alice.get(key).await, Err(unregistered.clone()));
        assert_eq!(alice.get_record(key).await, Err(unregistered.clone()));
        assert_eq!(alice.has_record(key).await, Err(unregistered));
    }
}

#[tokio::test]
async fn case_9_a_key_that_can_have_no_record_is_an_error_when_it_is_read() {
    let (alice, _, _) = two_authors();
    let long = format!("/notes/{}", "x".repeat(300));
    for (key, fault) in [("/own/status", Fault::RefusedByPolicy), (&long, Fault::LimitExceeded)] {
        let is_told = |told: Result<(), ManagerError<WriteError>>| {
            assert!(
                matches!(&told, Err(ManagerError::Refused(error)) if error.fault() == fault),
                "{key}: {told:?}"
            );
        };
        is_told(alice.publish(key, "x").await.map(drop));
        is_told(alice.get(key).await.map(drop));
        is_told(alice.get_record(key).await.map(drop));
        is_told(alice.has_record(key).await.map(drop));
        is_told(alice.lookup(key).await.map(drop));
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn case_29_a_kept_record_is_signed_anew_before_it_expires() {
    let (alice, bob, clock) = two_authors();
    let mut kept = alice.keep("/notes/a", "kept", HOUR).await.unwrap();
    alice.publish_until("/notes/b", "put", NOW.saturating_add(HOUR)).await.unwrap();
    let mut sequence = kept.published().record.sequence();
    while clock.now() < NOW.saturating_add(49 * HOUR) {
        let left = kept.renew_at().saturating_since(clock.now());
        assert!(left <= HOUR / 2 && left >= HOUR * 3 / 8, "{left:?}");
        assert_eq!(kept.renew().await, Ok(false), "not yet");
        clock.advance(left);
        assert_eq!(kept.renew().await, Ok(true));
        assert!(kept.published().record.sequence() > sequence);
        sequence = kept.published().record.sequence();
        assert_eq!(bob.get("/notes/a").await, Ok(Some(b"kept".to_vec())));
    }
    assert_eq!(bob.get("/notes/b").await, Ok(None));
    kept.update("changed").await.unwrap();
    assert_eq!(bob.get("/notes/a").await, Ok(Some(b"changed".to_vec())));
    // It outlives its keeper by its ttl.
    drop(kept);
    clock.advance(HOUR);
    assert_eq!(bob.get("/notes/a").await, Ok(None));
}

#[tokio::test]
async fn case_29_a_kept_record_with_a_long_lifetime_is_put_again_before_replicas_drop_it() {
    let (alice, bob, clock) = two_authors();
    let mut kept = alice.keep("/notes/a", "kept", 1_000 * HOUR).await.unwrap();
    for _ in 0..10 {
        let left = kept.renew_at().saturating_since(clock.now());
        assert!(left <= 12 * HOUR, "{left:?}");
        clock.advance(left);
        assert_eq!(kept.renew().await, Ok(true));
    }
    assert_eq!(bob.get("/notes/a").await, Ok(Some(b"kept".to_vec())));
    // After the clock was set back, it waits no longer than from the new time on.
    clock.set(NOW);
    assert_eq!(kept.renew().await, Ok(false));
    assert!(kept.renew_at() <= NOW.saturating_add(12 * HOUR));
}

#[tokio::test]
async fn a_running_keeper_renews_its_record_and_a_ttl_of_zero_is_refused() {
    let (alice, bob, clock) = two_authors();
    let mut kept = alice.keep("/notes/a", "kept", HOUR).await.unwrap();
    let first = kept.published().record.sequence();
    clock.advance(HOUR / 2);
    {
        let mut run = std::pin::pin!(kept.run());
        assert!(futures::poll!(&mut run).is_pending(), "the keeper goes on");
    }
    assert!(kept.published().record.sequence() > first);
    clock.advance(HOUR * 3 / 4);
    assert_eq!(bob.get("/notes/a").await, Ok(Some(b"kept".to_vec())));
    // A lifetime of zero is always refused.
    let refused = alice.keep("/notes/b", "x", Duration::ZERO).await.unwrap_err();
    assert_eq!(refused, ZeroLifetime.into());
    assert_eq!(refused.to_string(), ZeroLifetime.to_string());
}

#[tokio::test]
async fn a_fallback_serves_keys_without_a_namespace() {
    let anything = SignedRecordValidator::default();
    let backend = StoreBackend::new(Registry::empty().with_fallback(anything.clone()));
    let rules = Namespaces::empty().with_fallback(anything);
    let manager = RecordManager::new(keypair(1), rules, backend);
    manager.publish("test-key", "test-value").await.unwrap();
    assert_eq!(manager.get("test-key").await, Ok(Some(b"test-value".to_vec())));
}

#[tokio::test]
async fn the_key_of_another_peer_is_refused() {
    let (alice, bob, _) = two_authors();
    let key = RecordKey::new(format!("/own/{}/status", keypair(1).public().to_peer_id()));
    alice.publish(key.clone(), "mine").await.unwrap();
    let error = bob.publish(key.clone(), "mine too").await.unwrap_err();
    assert!(
        matches!(&error, ManagerError::Refused(reason) if reason.fault() == Fault::RefusedByPolicy),
        "{error}"
    );
    assert_eq!(bob.get(key).await, Ok(Some(b"mine".to_vec())));
}

#[tokio::test]
async fn an_author_off_the_allow_list_is_refused() {
    let list: AllowList = [keypair(1).public().to_peer_id()].into_iter().collect();
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), list);
    let backend = StoreBackend::new(Registry::empty().with("staff", rules.clone()).unwrap());
    let rules = Namespaces::empty().with("staff", rules).unwrap();
    let manager = |seed| RecordManager::new(keypair(seed), rules.clone(), backend.clone());
    manager(1).publish("/staff/a", "x").await.unwrap();
    let error = manager(2).publish("/staff/a", "y").await.unwrap_err();
    assert!(matches!(error, ManagerError::Refused(r) if r.fault() == Fault::RefusedByPolicy));
}

#[tokio::test]
async fn content_against_the_rules_is_refused() {
    let (alice, _, _) = two_authors();
    alice.publish("/text/a", "text").await.unwrap();
    let error = alice.publish("/text/a", vec![0xff]).await.unwrap_err();
    assert!(matches!(error, ManagerError::Refused(r) if r.fault() == Fault::Malformed));
    assert_eq!(alice.get("/text/a").await, Ok(Some(b"text".to_vec())));
}

#[tokio::test]
async fn sizes_over_a_limit_are_refused() {
    let (alice, _, _) = two_authors();
    alice.publish("/notes/a", vec![0; 6_144]).await.unwrap();
    for (key, len) in [("/notes/a".to_owned(), 6_145), (format!("/notes/{}", "k".repeat(250)), 1)] {
        let error = alice.publish(&*key, vec![0; len]).await.unwrap_err();
        assert!(matches!(error, ManagerError::Refused(r) if r.fault() == Fault::LimitExceeded));
    }
}

#[tokio::test]
async fn concurrent_publishes_use_different_sequences() {
    let (alice, bob, _) = two_authors();
    let puts: Vec<_> = (0..32)
        .map(|n| {
            let manager = alice.clone();
            tokio::spawn(async move { manager.publish("/notes/a", vec![n]).await })
        })
        .collect();
    let mut sequences = Vec::new();
    for put in puts {
        match put.await.unwrap() {
            Ok(published) => sequences.push(published.record.sequence()),
            // Another author was faster with a higher sequence.
            Err(ManagerError::Backend(WriteError::Refused(ValidationError::Stale))) => {}
            Err(error) => panic!("{error}"),
        }
    }
    sequences.sort_unstable();
    let highest = *sequences.last().unwrap();
    let count = sequences.len();
    sequences.dedup();
    assert_eq!(sequences.len(), count);
    let best = bob.get_record("/notes/a").await.unwrap().unwrap();
    assert_eq!(best.sequence(), highest);
}

#[tokio::test]
async fn a_failure_of_the_store_is_reported() {
    // Too small for any record.
    let config = StoreConfig::default().with_max_bytes(10);
    let store =
        SmartRecordStore::with_registry(keypair(9).public().to_peer_id(), registry(), config);
    let manager = RecordManager::new(keypair(1), rules(), StoreBackend::over(store));
    let error = manager.publish("/notes/a", "x").await.unwrap_err();
    assert!(
        matches!(&error, ManagerError::Backend(WriteError::Refused(r)) if r.fault() == Fault::LimitExceeded),
        "{error}"
    );
}
