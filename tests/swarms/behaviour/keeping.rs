//! Documents and values that a client keeps alive, and the ends of their handles.

use std::{collections::BTreeSet, time::Duration};

use futures::future::{join_all, try_join_all};
use libp2p::{PeerId, identity::Keypair};
use libp2p_smart_record::{
    AcceptAny, Bytes, Clock, Dict, Fault, Limits, MinWork, Open, RecordKey, Registry, Seq,
    SpaceRules, Stamp, StampSearch, SystemClock, Timestamp, ValidationError, Validator, Validity,
    behaviour::{BehaviourConfig, Event},
    client::{ClientError, KeepHandle},
    ipns::{IpnsBuilder, IpnsName},
};

use crate::{
    nodes::within,
    peer::{MINUTE, Peer, Setup, key, mesh, quiet, says, texts},
};
use smart_record_testing::{ManualClock, keys::ed25519};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn refreshed(event: &Event) -> Option<Vec<PeerId>> {
    match event {
        Event::Refreshed { peers, .. } => Some(peers.clone()),
        _ => None,
    }
}

fn one(name: &str, value: i64) -> Dict {
    [(name, value)].into_iter().collect()
}

/// Waits until the view of a writer's space in the peer's store is empty.
async fn until_silent(peer: &mut Peer, key: &RecordKey, writer: PeerId, now: Timestamp) {
    peer.until_stored(key, |record| record.view(now).get(&writer).is_none()).await;
}

#[tokio::test]
async fn what_is_kept_is_replaced_and_nothing_else() {
    let clock = ManualClock::at(NOW);
    let a = Setup::default().at(&clock).start().await;
    within(async {
        let document = |json: &str| json.parse::<Dict>().unwrap();
        let said = async || {
            let view = a.client.view(key()).await.unwrap();
            view.get(&a.id).unwrap().document.to_json().to_string()
        };
        let publication = a.client.publish(key(), one("published", 1), HOUR).await;
        publication.or_else(ClientError::into_publication).unwrap();
        let other = a.client.keep(key(), document(r#"{"d": {"other": 1}}"#), HOUR).await.unwrap();
        let both = document(r#"{"gone": 1, "d": {"x": 1, "y": 1}, "l": [1, 2]}"#);
        let kept = a.client.keep(key(), both, MINUTE).await.unwrap();
        for n in 1..=3 {
            clock.advance(Duration::from_secs(1));
            let next = document(&format!(r#"{{"d": {{"x": {n}}}, "l": [1]}}"#));
            let replaced = kept.replace(next).await;
            replaced.or_else(ClientError::into_publication).unwrap();
            let expected =
                format!(r#"{{"d": {{"other": 1, "x": {n}}}, "l": [1], "published": 1}}"#);
            assert_eq!(said().await, document(&expected).to_json().to_string());
            let record = a.stored(&key()).await.unwrap();
            assert_eq!(record.spaces().next().unwrap().1.updates().len(), 1, "one update");
        }
        // A document that replicas would refuse leaves the kept one as it is.
        let large = Dict::from([("text", "x".repeat(3_000))]);
        let refused = kept.replace(large).await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::LimitExceeded));
        let empty = kept.replace(Dict::new()).await;
        empty.or_else(ClientError::into_publication).unwrap();
        let left = document(r#"{"d": {"other": 1}, "published": 1}"#).to_json().to_string();
        assert_eq!(said().await, left);
        drop(other);
    })
    .await;
}

#[tokio::test]
async fn case_27_six_documents_that_change_each_second_leave_one_update_each() {
    const ROUNDS: u32 = 30;
    let clock = ManualClock::at(NOW);
    let mut peers = join_all((0..6).map(|_| Setup::default().at(&clock).start())).await;
    mesh(&peers.iter().collect::<Vec<_>>()).await;
    within(async {
        let keep = |peer: &Peer| {
            let client = peer.client.clone();
            async move { client.keep(key(), one("players", 0), 10 * MINUTE).await }
        };
        let handles = try_join_all(peers.iter().map(keep)).await.unwrap();
        let first: usize = peers[0].stored(&key()).await.unwrap().encode().len();
        for n in 1..=ROUNDS {
            clock.advance(Duration::from_secs(1));
            let update = |handle| KeepHandle::update(handle, one("players", n.into()));
            let updates = try_join_all(handles.iter().map(update)).await.unwrap();
            assert!(updates.iter().all(|publication| publication.peers.len() == 5));
        }
        for peer in &peers {
            let record = peer.stored(&key()).await.unwrap();
            assert_eq!(record.spaces().len(), 6);
            assert!(record.spaces().all(|(_, space)| space.updates().len() == 1), "{record:?}");
            assert!(record.encode().len() <= first + 6 * 8, "{} bytes", record.encode().len());
            for (_, space) in &record.view(clock.now()) {
                let players = space.document.get("players").unwrap().to_string();
                assert_eq!(players, ROUNDS.to_string());
            }
        }
        // All but one crash, so nothing is withdrawn. After the last `ttl`, nothing is left of
        // them.
        let left = peers.remove(0);
        drop((peers, handles));
        clock.advance(10 * MINUTE);
        let stored = left.smart(|smart| smart.store_mut().record(&key()).unwrap()).await;
        let others = stored.iter().flat_map(|record| record.spaces());
        assert!(others.into_iter().all(|(writer, _)| writer.peer_id() == left.id));
    })
    .await;
}

#[tokio::test]
async fn a_dropped_handle_withdraws_what_it_keeps_and_nothing_else() {
    let (a, mut b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), one("published", 1), MINUTE).await.unwrap();
        let first = a.client.keep(key(), says("first"), 2 * MINUTE).await.unwrap();
        let other = a.client.keep(key(), one("other", 1), 3 * MINUTE).await.unwrap();
        assert_eq!(first.publication().peers, [b.id]);
        let names = |record: &libp2p_smart_record::SmartRecord| {
            let view = record.view(SystemClock.now());
            let document = view.get(&a.id).map(|space| space.document.clone()).unwrap_or_default();
            document.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        };
        let stored = b.stored(&key()).await.unwrap();
        assert_eq!(names(&stored), ["\"other\"", "\"published\"", "\"text\""]);
        drop(first);
        let left = b.until_stored(&key(), |record| names(record).len() == 2).await;
        assert_eq!(names(&left), ["\"other\"", "\"published\""]);
        let withdrawn = other.withdraw().await.unwrap();
        assert_eq!(withdrawn.peers, [b.id]);
        assert_eq!(names(&b.stored(&key()).await.unwrap()), ["\"published\""]);
        // Withdrawing the space also withdraws what a handle keeps. The handle can keep a new
        // document.
        let third = a.client.keep(key(), says("third"), MINUTE).await.unwrap();
        a.client.withdraw(key()).await.unwrap();
        assert!(b.client.view(key()).await.unwrap().is_empty());
        third.update(says("again")).await.unwrap();
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["again"]);
        drop(third);
        until_silent(&mut b, &key(), a.id, SystemClock.now()).await;
    })
    .await;
}

#[tokio::test]
async fn the_end_of_every_handle_is_handled_however_many_there_are() {
    // More than the command queue holds, and more than can run at a time.
    const HANDLES: usize = 100;
    let config = quiet().with_max_operations(4);
    let mut a = Setup::with_config(config).start().await;
    within(async {
        let keys: Vec<_> = (0..HANDLES).map(|n| RecordKey::new(format!("/sr/kept/{n}"))).collect();
        let keep = |key: &RecordKey| a.client.keep(key.clone(), says("x"), MINUTE);
        let handles = try_join_all(keys.iter().map(keep)).await.unwrap();
        drop(handles);
        for key in &keys {
            let id = a.id;
            until_silent(&mut a, key, id, SystemClock.now()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_handle_dropped_after_the_last_client_withdraws() {
    let (mut a, mut b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let id = a.id;
        let handle = a.client.keep(key(), says("x"), MINUTE).await.unwrap();
        // The test peer also holds a client, which is replaced by another peer's.
        a.client = b.client.clone();
        assert_eq!(b.stored(&key()).await.unwrap().view(SystemClock.now()).len(), 1);
        drop(handle);
        until_silent(&mut b, &key(), id, SystemClock.now()).await;
        a.until(|event| matches!(event, Event::ClientsGone).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_detached_document_is_kept_until_the_space_is_withdrawn() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) =
        (Setup::default().at(&clock).start().await, Setup::default().at(&clock).start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let detached = a.client.keep(key(), says("detached"), 10 * MINUTE).await.unwrap();
        detached.detach();
        let kept = a.client.keep(key(), one("kept", 1), 10 * MINUTE).await.unwrap();
        for _ in 0..4 {
            clock.advance(5 * MINUTE);
            a.wake().await;
            assert_eq!(a.until(refreshed).await, [b.id]);
        }
        kept.withdraw().await.unwrap();
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["detached"]);
        a.client.withdraw(key()).await.unwrap();
        for _ in 0..4 {
            clock.advance(5 * MINUTE);
            a.wake().await;
        }
        assert!(b.client.view(key()).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_refused_update_leaves_the_kept_document_unchanged() {
    let (a, b) = (Peer::start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let handle = a.client.keep(key(), says("small"), MINUTE).await.unwrap();
        let large: Dict = [("text", "x".repeat(3_000))].into_iter().collect();
        let refused = handle.update(large.clone()).await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::LimitExceeded));
        handle.update(one("n", 1)).await.unwrap();
        assert_eq!(texts(&b.client.view(key()).await.unwrap()), ["small"]);
        let endless = a.client.keep("/sr/other", says("x"), 49 * HOUR).await.unwrap_err();
        assert_eq!(endless.fault(), Some(Fault::LimitExceeded));
        assert!(a.client.keep("/sr/other", large, MINUTE).await.is_err());
        assert!(a.client.view("/sr/other").await.unwrap().is_empty());
    })
    .await;
}

/// Prefers the longest value.
struct Longest;

impl Validator for Longest {
    fn validate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
        Ok(Validity::forever())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        libp2p_smart_record::best_index(values.iter().map(|value| value.len()))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

/// Two peers with a namespace of values and a refresh interval of twelve hours.
async fn two_with_values(clock: &ManualClock) -> (Peer, Peer) {
    let registry = || {
        let registry = libp2p_smart_record::built_in().with("own", Longest).unwrap();
        registry.with_fallback(AcceptAny::default())
    };
    let config = || quiet().with_refresh_interval(12 * HOUR);
    let start = async || {
        let (registry, config): (Registry, BehaviourConfig) = (registry(), config());
        Setup { registry, config, ..Setup::default() }.at(clock).start().await
    };
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    (a, b)
}

/// A stamp of four bits for the space of a peer, of the day of a time.
fn stamp(peer: &Peer, now: Timestamp) -> Option<Stamp> {
    let rank = peer.client.writer().rank(&key());
    StampSearch::new(rank, Seq::next(None, now), 4).step(1 << 16)
}

#[tokio::test]
async fn what_has_too_little_work_for_its_namespace_is_not_signed_and_the_app_is_told() {
    let clock = ManualClock::at(NOW);
    let start = async |key| {
        let rules = SpaceRules::new(Limits::default(), MinWork::new(4, Open));
        let registry = Registry::empty().with("sr", rules).unwrap();
        // A stamp may be good on another day by chance, so the key is always the same.
        let keypair = ed25519(key);
        Setup { keypair, registry, ..Setup::default() }.at(&clock).start().await
    };
    let (mut a, mut b) = (start(1).await, start(2).await);
    mesh(&[&a, &b]).await;
    within(async {
        let refused = a.client.publish(key(), says("x"), HOUR).await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::RefusedByPolicy), "{refused}");
        assert_eq!(a.stored(&key()).await, None);
        a.client.set_stamp(key(), stamp(&a, NOW)).await.unwrap();
        let _kept = a.client.keep(key(), says("kept"), 48 * HOUR).await.unwrap();
        let first = b.stored(&key()).await.unwrap();
        // It is another day, and half of the lifetime is over.
        clock.advance(24 * HOUR);
        a.wake().await;
        let error = a.until(|event| match event {
            Event::NotRenewed { error, .. } => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error.await.fault(), Some(Fault::RefusedByPolicy));
        for peer in [&a, &b] {
            assert_eq!(peer.stored(&key()).await, Some(first.clone()), "what was signed before");
        }
        assert_eq!(a.smart(|smart| smart.counters().renewals_failed).await, 1);
        // With a stamp of the day it is signed at once.
        let now = clock.now();
        a.client.set_stamp(key(), stamp(&a, now)).await.unwrap();
        a.wake().await;
        let writer = a.client.writer().clone();
        b.until_stored(&key(), |record| {
            let space = record.space(&writer).unwrap();
            space.newest().is_some_and(|newest| newest.seq.issued_at() >= now)
        })
        .await;
        clock.advance(30 * HOUR);
        assert_eq!(texts(&b.stored(&key()).await.unwrap().view(clock.now())), ["kept"]);
    })
    .await;
}

async fn value(peer: &Peer, key: &RecordKey) -> Option<Bytes> {
    let key = key.clone();
    peer.smart(move |smart| smart.store_mut().value(&key).unwrap().map(|stored| stored.value)).await
}

#[tokio::test]
async fn case_29_a_value_is_kept_alive_for_as_long_as_its_handle_lives() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) = two_with_values(&clock).await;
    within(async {
        let [kept, put] = ["/own/kept", "/own/put"].map(RecordKey::new);
        let handle = a.client.keep_value(kept.clone(), "kept").await.unwrap();
        assert_eq!(handle.publication().peers, [b.id]);
        a.client.put(put.clone(), "put").await.unwrap();
        for _ in 0..5 {
            clock.advance(12 * HOUR);
            a.wake().await;
            assert_eq!(a.until(refreshed).await, [b.id]);
        }
        for peer in [&a, &b] {
            assert_eq!(value(peer, &kept).await, Some(Bytes::from("kept")), "after 60 hours");
            assert_eq!(value(peer, &put).await, None, "not sent again");
        }
        // A better value of another peer is not overwritten, and the handle's value is no longer
        // kept.
        b.client.put(kept.clone(), "longer").await.unwrap();
        let before = a.smart(|smart| smart.counters().refreshes).await;
        clock.advance(12 * HOUR);
        a.wake().await;
        assert_eq!(value(&b, &kept).await, Some(Bytes::from("longer")));
        // The handle can keep a better one until it is dropped.
        handle.update("longest of all").await.unwrap();
        clock.advance(12 * HOUR);
        a.wake().await;
        assert_eq!(a.until(refreshed).await, [b.id]);
        drop(handle);
        for _ in 0..5 {
            clock.advance(12 * HOUR);
            a.wake().await;
        }
        assert_eq!(a.smart(|smart| smart.counters().refreshes).await, before + 1);
        assert_eq!(value(&b, &kept).await, None);
    })
    .await;
}

#[tokio::test]
async fn the_best_of_several_kept_values_is_sent_until_its_own_expiry() {
    let clock = ManualClock::at(NOW);
    let (mut a, b) = two_with_values(&clock).await;
    within(async {
        let owner = Keypair::generate_ed25519();
        let name = IpnsName::from(&owner.public());
        let until = |hours: u32| NOW.saturating_add(hours * HOUR);
        let old = IpnsBuilder::new("/ipfs/bafkqaaa", 1, until(100)).sign(&owner, NOW).unwrap();
        let new =
            IpnsBuilder::following(&old, "/ipfs/bafkqaalb", until(30)).sign(&owner, NOW).unwrap();
        let first = a.client.keep_value(name.key(), old.encode()).await.unwrap();
        let second = a.client.keep_value(name.key(), new.encode()).await.unwrap();
        first.detach();
        for _ in 0..2 {
            b.smart({
                let key = name.key();
                move |smart| smart.store_mut().forget(&key).unwrap()
            })
            .await;
            clock.advance(12 * HOUR);
            a.wake().await;
            assert_eq!(a.until(refreshed).await, [b.id]);
            assert_eq!(value(&b, &name.key()).await, Some(new.encode()));
        }
        clock.advance(12 * HOUR);
        a.wake().await;
        assert_eq!(value(&b, &name.key()).await, None, "it has expired");
        assert_eq!(second.key(), &name.key());
        // `keep_value` refuses smart records.
        let refused = a.client.keep_value(key(), "x").await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::Unsupported), "{refused}");
        let refused = a.client.keep_value(name.key(), "x").await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::Malformed), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_kept_value_is_sent_to_new_peers() {
    let config = quiet().with_topology_delay(Duration::from_millis(100));
    let registry = libp2p_smart_record::built_in().with_fallback(AcceptAny::default());
    let setup = |registry: &Registry| Setup { registry: registry.clone(), ..Setup::default() };
    let mut a = Setup { config, ..setup(&registry) }.start().await;
    within(async {
        let key = RecordKey::new("/own/value");
        let handle = a.client.keep_value(key.clone(), "x").await.unwrap();
        assert_eq!(handle.publication().peers, []);
        let b = setup(&registry).start().await;
        mesh(&[&a, &b]).await;
        // Attempts before that have reached no peer.
        assert_eq!(a.until(|event| refreshed(event).filter(|it| !it.is_empty())).await, [b.id]);
        while value(&b, &key).await.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn case_9_a_key_without_form_or_namespace_is_an_error_in_every_call() {
    let registry = libp2p_smart_record::built_in();
    let a = Setup { registry, ..Setup::default() }.start().await;
    within(async {
        let peer = PeerId::random();
        let texts = [
            format!("/ipns/{}", IpnsName::from(peer)),
            format!("/pk/{peer}"),
            format!("/presence/{peer}"),
            "/iprs/name".to_owned(),
            "/unheard/of".to_owned(),
            "lobby".to_owned(),
            format!("/sr/{}", "x".repeat(300)),
        ];
        let client = &a.client;
        for key in texts.iter().map(|key| RecordKey::new(key.as_str())) {
            let policy = libp2p_smart_record::query::ReadPolicy::All;
            let told: [Result<(), ClientError>; 13] = [
                client.put(key.clone(), "x").await.map(drop),
                client.get(key.clone()).await.map(drop),
                client.get_with(key.clone(), policy).await.map(drop),
                client.read(key.clone(), policy).await.map(drop),
                client.watch(key.clone()).await.map(drop),
                client.stored(key.clone()).await.map(drop),
                client.stored_of(key.clone(), peer).await.map(drop),
                client.keep_value(key.clone(), "x").await.map(drop),
                client.view(key.clone()).await.map(drop),
                client.publish(key.clone(), says("x"), MINUTE).await.map(drop),
                client.replace(key.clone(), says("x"), MINUTE).await.map(drop),
                client.keep(key.clone(), says("x"), MINUTE).await.map(drop),
                client.withdraw(key.clone()).await.map(drop),
            ];
            let put = told[0].clone().unwrap_err();
            let faults = [
                Fault::Malformed,
                Fault::Unsupported,
                Fault::RefusedByPolicy,
                Fault::LimitExceeded,
            ];
            assert!(put.fault().is_some_and(|fault| faults.contains(&fault)), "{key}: {put}");
            for (n, told) in told[..7].iter().enumerate() {
                assert_eq!(told.as_ref().unwrap_err(), &put, "{key} in call {n}");
            }
            let all: BTreeSet<_> = told.into_iter().map(|told| told.unwrap_err().fault()).collect();
            assert!(!all.contains(&None), "{key}: {all:?}");
        }
        // The error text names the form.
        let told = client.get(texts[0].as_str()).await.unwrap_err().to_string();
        assert!(told.contains("the bytes, not the text, of a peer id"), "{told}");
        let topic = libp2p_smart_record::ShardedKey::new(
            "/unheard/of".into(),
            2,
            &libp2p_smart_record::Limits::default(),
        );
        let refused = client.get_sharded(&topic.unwrap()).await.unwrap_err();
        assert_eq!(refused.fault(), Some(Fault::Unsupported));
        // A key of values has no view.
        let viewed = client.view(IpnsName::from(peer).key()).await.unwrap_err();
        assert_eq!(viewed, ClientError::NotSmart(IpnsName::from(peer).key()));
        assert_eq!(a.smart(|smart| smart.counters().lookups).await, 0, "no peer was asked");
    })
    .await;
}

#[tokio::test]
async fn what_a_handle_keeps_now_is_kept_though_nobody_has_acknowledged_it() {
    let registry = Registry::default().with_fallback(AcceptAny::default());
    let alone = Setup { registry, ..Setup::default() }.start().await;
    within(async {
        let handle = alone.client.keep(key(), says("first"), MINUTE).await.unwrap();
        let publication = handle.update(says("second")).await.unwrap();
        assert_eq!(publication.peers, []);
        let stored = alone.stored(&key()).await.unwrap();
        assert_eq!(texts(&stored.view(SystemClock.now())), ["second"]);
        let value = RecordKey::from("/any/value");
        let handle = alone.client.keep_value(value.clone(), "first").await.unwrap();
        assert_eq!(handle.update("second").await.unwrap().peers, []);
    })
    .await;
}

#[tokio::test]
async fn a_value_that_nobody_has_acknowledged_is_sent_again_until_somebody_has() {
    let clock = ManualClock::at(NOW);
    let registry = Registry::default().with_fallback(AcceptAny::default());
    let config = quiet().with_topology_delay(Duration::from_secs(10));
    let setup = || Setup { registry: registry.clone(), ..Setup::with_config(config.clone()) };
    let mut alone = setup().at(&clock).start().await;
    let other = setup().at(&clock).start().await;
    within(async {
        let error = alone.client.put("/any/value", "x").await.unwrap_err();
        assert!(matches!(error, ClientError::NotAcknowledged(_)));
        let mut later = async |seconds| {
            clock.advance(Duration::from_secs(seconds));
            alone.wake().await;
            alone.until(refreshed).await
        };
        assert_eq!(later(20).await, [], "there is still nobody");
        assert_eq!(later(40).await, []);
        alone.add(other.id, other.address.clone()).await;
        clock.advance(Duration::from_secs(80));
        alone.wake().await;
        assert_eq!(alone.until(refreshed).await, [other.id]);
        let value = other.client.get("/any/value").await.unwrap().snapshot.value().cloned();
        assert_eq!(value, Some(Bytes::from("x")));
    })
    .await;
}
