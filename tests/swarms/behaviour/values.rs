//! Records of values, selected or consolidated.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use libp2p::{
    identity::Keypair,
    kad::{self, store::RecordStore},
};
use libp2p_smart_record::{
    Bytes, Clock, Fault, RecordKey, SystemClock, ValidationError,
    behaviour::Event,
    client::{ClientError, PublicationContent},
    ipns::{IpnsBuilder, IpnsName, IpnsRecord},
    pk::PublicKeyValidator,
    presence::{
        Announcement, Announcer, ExchangeKey, PresenceKey, PresenceLimits, PresenceRecord,
        PresenceValidator,
    },
    store::WriteError,
};
use smart_record_testing::ManualClock;

use crate::nodes::{PROTOCOL, start_plain, within};
use crate::peer::{MINUTE, Peer, Setup, mesh, quiet};

async fn start() -> Peer {
    Setup { registry: libp2p_smart_record::built_in(), ..Setup::default() }.start().await
}

/// Two successive IPNS records of one owner.
fn old_and_new() -> (RecordKey, IpnsRecord, IpnsRecord) {
    let owner = Keypair::generate_ed25519();
    let until = SystemClock.now().saturating_add(10 * MINUTE);
    let old = IpnsBuilder::new("/ipfs/bafkqaaa", 1, until).sign(&owner, SystemClock.now()).unwrap();
    let new = IpnsBuilder::following(&old, "/ipfs/bafkqaalb", until)
        .sign(&owner, SystemClock.now())
        .unwrap();
    (IpnsName::from(&owner.public()).key(), old, new)
}

/// Stores a value at the peer directly.
async fn give(peer: &Peer, key: &RecordKey, value: Bytes) {
    let key = key.clone();
    peer.smart(move |smart| smart.store_mut().write(&key, &value).unwrap()).await;
}

async fn value(peer: &Peer, key: &RecordKey) -> Option<Bytes> {
    let key = key.clone();
    peer.smart(move |smart| smart.store_mut().value(&key).unwrap().map(|stored| stored.value)).await
}

type Plain = smart_record_testing_swarms::Node<kad::store::MemoryStore>;

/// Stores a value at a plain node directly.
async fn give_plain(plain: &Plain, key: &RecordKey, value: Bytes) {
    let record = kad::Record::new(kad::RecordKey::new(key), value.to_vec());
    plain.store(move |store| store.put(record)).await.unwrap().unwrap();
}

/// What a plain node has.
async fn at_plain(plain: &Plain, key: &RecordKey) -> Option<Bytes> {
    let key = kad::RecordKey::new(key);
    let value = plain.store(move |store| store.get(&key).map(|it| it.value.clone()));
    value.await.unwrap().map(Bytes::from)
}

/// Waits until all of these peers were repaired.
async fn until_repaired(reader: &mut Peer, peers: &[&Peer]) {
    let mut missing: Vec<_> = peers.iter().map(|peer| peer.id).collect();
    while !missing.is_empty() {
        let repaired = reader.until(|event| match event {
            Event::Repaired { peers, .. } => Some(peers.clone()),
            _ => None,
        });
        let repaired = repaired.await;
        missing.retain(|peer| !repaired.contains(peer));
    }
}

#[tokio::test]
async fn a_put_ipns_record_is_read_by_others() {
    let (a, b, c) = (start().await, start().await, start().await);
    mesh(&[&a, &b, &c]).await;
    within(async {
        let (key, old, new) = old_and_new();
        let publication = a.client.put(key.clone(), old.encode()).await.unwrap();
        assert_eq!(publication.peers.len(), 2);
        assert_eq!(publication.content, PublicationContent::Value(old.encode()));
        assert_eq!(a.client.confirm(&publication).await.unwrap().len(), 2);
        let reading = c.client.get(key.clone()).await.unwrap();
        assert_eq!(reading.snapshot.value(), Some(&old.encode()));
        assert_eq!(reading.snapshot.record(), None);

        // Any peer can put it, and it replaces the old one.
        b.client.put(key.clone(), new.encode()).await.unwrap();
        for peer in [&a, &c] {
            let reading = peer.client.get(key.clone()).await.unwrap();
            assert_eq!(reading.snapshot.value(), Some(&new.encode()));
        }
        let confirmed = a.client.confirm(&publication).await;
        assert_eq!(confirmed, Err(ValidationError::Stale.into()), "no peer has the old one");
    })
    .await;
}

#[tokio::test]
async fn the_newest_ipns_record_wins_and_stale_and_empty_holders_get_it() {
    let (mut reader, stale, newest, empty) =
        (start().await, start().await, start().await, start().await);
    for peer in [&stale, &newest, &empty] {
        reader.add(peer.id, peer.address.clone()).await;
    }
    within(async {
        let (key, old, new) = old_and_new();
        give(&stale, &key, old.encode()).await;
        give(&newest, &key, new.encode()).await;
        let reading = reader.client.get(key.clone()).await.unwrap();
        assert_eq!(reading.snapshot.value(), Some(&new.encode()));
        assert_eq!((reading.stale, reading.empty), (vec![stale.id], vec![empty.id]));
        until_repaired(&mut reader, &[&stale, &empty]).await;
        for peer in [&reader, &stale, &newest, &empty] {
            assert_eq!(value(peer, &key).await, Some(new.encode()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_stale_or_unsigned_record_is_not_put() {
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let (key, old, new) = old_and_new();
        a.client.put(key.clone(), new.encode()).await.unwrap();
        let fault = async |value: Bytes| match a.client.put(key.clone(), value).await {
            Err(ClientError::Refused(WriteError::Refused(error))) => error.fault(),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(old.encode()).await, Fault::Stale);
        let (_, foreign, _) = old_and_new();
        assert_eq!(fault(foreign.encode()).await, Fault::Invalid);
        assert_eq!(value(&b, &key).await, Some(new.encode()));
    })
    .await;
}

#[tokio::test]
async fn case_5_a_value_older_than_what_the_network_has_is_stale_and_sent_to_nobody() {
    let (a, b) = (start().await, start().await);
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    mesh(&[&a, &b]).await;
    a.add(plain.peer(), plain.address()).await;
    within(async {
        let (key, old, new) = old_and_new();
        give(&b, &key, new.encode()).await;
        let stale = a.client.put(key.clone(), old.encode()).await;
        assert_eq!(stale.unwrap_err(), ValidationError::Stale.into());
        a.client.close().await.unwrap();
        // The read repairs it.
        assert!(at_plain(&plain, &key).await.is_none_or(|value| value == new.encode()));
        a.client.put(key.clone(), new.encode()).await.unwrap();
        let reading = a.client.get(key.clone()).await.unwrap();
        assert_eq!(reading.snapshot.value(), Some(&new.encode()));
    })
    .await;
}

#[tokio::test]
async fn case_5_a_value_is_compared_with_what_there_is_also_within_a_minute_of_a_read() {
    let a = start().await;
    // A client stores nothing of what it reads.
    a.smart(|smart| smart.kad_mut().set_mode(Some(kad::Mode::Client))).await;
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    a.add(plain.peer(), plain.address()).await;
    within(async {
        for is_there_at_the_read in [true, false] {
            let (key, old, new) = old_and_new();
            if is_there_at_the_read {
                give_plain(&plain, &key, new.encode()).await;
            }
            assert_eq!(a.client.get(key.clone()).await.unwrap().is_empty(), !is_there_at_the_read);
            give_plain(&plain, &key, new.encode()).await;
            let stale = a.client.put(key.clone(), old.encode()).await;
            assert_eq!(stale.unwrap_err(), ValidationError::Stale.into());
            assert_eq!(at_plain(&plain, &key).await, Some(new.encode()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_repair_sends_the_time_until_the_keeper_s_own_end() {
    let (mut keeper, other) = (start().await, start().await);
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    mesh(&[&keeper, &other]).await;
    keeper.add(plain.peer(), plain.address()).await;
    within(async {
        let public_key = Keypair::generate_ed25519().public();
        let key = PublicKeyValidator::key(&public_key);
        // The plain node does not say when the value ends.
        give_plain(&plain, &key, public_key.encode_protobuf().into()).await;
        let mut record = kad::Record::new(kad::RecordKey::new(&key), public_key.encode_protobuf());
        record.expires = Some(Instant::now() + 60 * MINUTE);
        keeper.smart(move |smart| smart.store_mut().put(record).unwrap()).await;
        keeper.client.get(key.clone()).await.unwrap();
        until_repaired(&mut keeper, &[&other]).await;
        let end = async |peer: &Peer| {
            let key = key.clone();
            peer.smart(move |smart| smart.store_mut().value(&key).unwrap().unwrap().expires_at)
                .await
        };
        // Without a lifetime it would be 48 hours.
        let limit = end(&keeper).await.unwrap().saturating_add(60 * MINUTE);
        assert!(end(&other).await.unwrap() < limit);
    })
    .await;
}

/// A peer that refreshes every ten seconds, a plain node that it knows, and the time.
async fn refreshing() -> (Peer, Plain, ManualClock) {
    let clock = ManualClock::at(SystemClock.now());
    let config = quiet().with_refresh_interval(Duration::from_secs(10));
    let registry = libp2p_smart_record::built_in();
    let peer = Setup { registry, ..Setup::with_config(config) }.at(&clock).start().await;
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    peer.add(plain.peer(), plain.address()).await;
    (peer, plain, clock)
}

#[tokio::test]
async fn case_5_a_kept_value_that_is_older_than_what_a_plain_node_has_is_not_sent_again() {
    let (a, plain, clock) = refreshing().await;
    within(async {
        let (key, old, new) = old_and_new();
        let handle = a.client.keep_value(key.clone(), old.encode()).await.unwrap();
        assert_eq!(handle.publication().peers, [plain.peer()]);
        // Another node has published something newer.
        give_plain(&plain, &key, new.encode()).await;
        let reads = || a.smart(|smart| smart.counters().reads);
        let before = reads().await;
        clock.advance(Duration::from_secs(10));
        a.wake().await;
        while reads().await == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(at_plain(&plain, &key).await, Some(new.encode()));
        assert_eq!(value(&a, &key).await, Some(new.encode()));
        // Then it is no longer kept.
        let lookups = a.smart(|smart| smart.counters().lookups).await;
        for _ in 0..3 {
            clock.advance(Duration::from_secs(10));
            a.wake().await;
        }
        let counters = a.smart(|smart| smart.counters()).await;
        assert_eq!((counters.lookups, counters.refreshes), (lookups, 0));
        assert_eq!(at_plain(&plain, &key).await, Some(new.encode()));
    })
    .await;
}

/// Two records of one client, each with an announcement of its own.
fn two_announcements() -> (PresenceKey, [Bytes; 2]) {
    let client = Keypair::generate_ed25519();
    let presence = PresenceKey::of(client.public().to_peer_id());
    let mut announcer =
        Announcer::new(presence.clone(), client, PresenceLimits::default()).unwrap();
    let records = [(); 2].map(|()| {
        let mut record = PresenceRecord::new(presence.clone());
        record.insert(announce(&mut announcer)).unwrap();
        record.encode().into()
    });
    (presence, records)
}

/// Number of announcements that a plain node has.
async fn announcements(plain: &Plain, presence: &PresenceKey) -> usize {
    let has = at_plain(plain, presence.as_record_key()).await.unwrap();
    let now = SystemClock.now();
    let record = PresenceValidator::default().read(presence.as_record_key(), &has, now).unwrap();
    record.view(now).count()
}

#[tokio::test]
async fn a_value_that_combines_is_sent_with_what_a_plain_node_has() {
    let a = start().await;
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    a.add(plain.peer(), plain.address()).await;
    within(async {
        let (presence, [theirs, ours]) = two_announcements();
        let key = presence.as_record_key();
        give_plain(&plain, key, theirs).await;
        a.client.put(key.clone(), ours).await.unwrap();
        assert_eq!(announcements(&plain, &presence).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_kept_value_that_combines_is_sent_again_with_what_a_plain_node_has() {
    let (mut a, plain, clock) = refreshing().await;
    within(async {
        let (presence, [theirs, ours]) = two_announcements();
        let key = presence.as_record_key();
        let _handle = a.client.keep_value(key.clone(), ours).await.unwrap();
        // The plain node keeps the last PUT.
        give_plain(&plain, key, theirs).await;
        for _ in 0..2 {
            clock.advance(Duration::from_secs(10));
            a.wake().await;
            let peers = a.until(|event| match event {
                Event::Refreshed { peers, .. } => Some(peers.clone()),
                _ => None,
            });
            assert_eq!(peers.await, [plain.peer()]);
            assert_eq!(announcements(&plain, &presence).await, 2);
        }
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_an_ipns_record_yields_each_better_one() {
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let (key, old, new) = old_and_new();
        a.client.put(key.clone(), old.encode()).await.unwrap();
        let mut watch = b.client.watch(key.clone()).await.unwrap();
        assert_eq!(watch.next().await.unwrap().value(), Some(&old.encode()));
        a.client.put(key.clone(), new.encode()).await.unwrap();
        assert_eq!(watch.next().await.unwrap().value(), Some(&new.encode()));
    })
    .await;
}

#[tokio::test]
async fn a_watch_shows_no_older_value_and_keeps_a_value_until_it_expires() {
    let (good, stale) = (start().await, start().await);
    let config = quiet().with_watch_interval(Duration::from_millis(50)).with_repair_chunks(0);
    let registry = libp2p_smart_record::built_in();
    let reader = Setup { registry, ..Setup::with_config(config) }.start().await;
    within(async {
        let (key, old, new) = old_and_new();
        give(&good, &key, new.encode()).await;
        give(&stale, &key, old.encode()).await;
        for peer in [&good, &stale] {
            reader.add(peer.id, peer.address.clone()).await;
        }
        let mut watch = reader.client.watch(key.clone()).await.unwrap();
        while watch.next().await.unwrap().value() != Some(&new.encode()) {}
        // First only the holder of the old one is left, then none. The reader stores no copy of its
        // own.
        for gone in [good, stale] {
            drop(gone);
            let mut reads = None;
            while reads.is_none_or(|(first, now)| now < first + 3) {
                let key = key.clone();
                let count = reader.smart(move |smart| {
                    smart.store_mut().forget(&key).unwrap();
                    smart.counters().reads
                });
                let count = count.await;
                reads = Some((reads.map_or(count, |(first, _)| first), count));
            }
            assert!(watch.next().now_or_never().is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn a_public_key_is_found_under_its_peer_id() {
    let (a, b) = (start().await, start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let public_key = Keypair::generate_ecdsa().public();
        let key = PublicKeyValidator::key(&public_key);
        a.client.put(key.clone(), public_key.encode_protobuf()).await.unwrap();
        let reading = b.client.get(key).await.unwrap();
        assert_eq!(reading.snapshot.value(), Some(&public_key.encode_protobuf().into()));
    })
    .await;
}

/// An announcement of a client at a new node.
fn announce(announcer: &mut Announcer) -> Announcement {
    let (node, now) = (Keypair::generate_ed25519(), SystemClock.now());
    let exchange_key = ExchangeKey::try_from([9; 32]).unwrap();
    let half = announcer.announce(&node.public(), exchange_key, exchange_key, now, MINUTE).unwrap();
    half.countersign(&node, exchange_key, now, &PresenceLimits::default()).unwrap()
}

#[tokio::test]
async fn presence_records_of_several_holders_are_united_and_repaired() {
    let (mut reader, one, other) = (start().await, start().await, start().await);
    for peer in [&one, &other] {
        reader.add(peer.id, peer.address.clone()).await;
    }
    within(async {
        let client = Keypair::generate_ed25519();
        let key = PresenceKey::of(client.public().to_peer_id());
        let mut announcer = Announcer::new(key.clone(), client, PresenceLimits::default()).unwrap();
        let mut nodes = Vec::new();
        for holder in [&one, &other] {
            let announcement = announce(&mut announcer);
            nodes.push(announcement.node());
            let mut record = PresenceRecord::new(key.clone());
            record.insert(announcement).unwrap();
            give(holder, key.as_record_key(), record.encode().into()).await;
        }
        nodes.sort_unstable();
        let present = |value: &Bytes| -> Vec<_> {
            let now = SystemClock.now();
            let rules = PresenceValidator::default();
            let record = rules.read(key.as_record_key(), value, now).unwrap();
            record.view(now).map(Announcement::node).collect()
        };
        let reading = reader.client.get(key.as_record_key().clone()).await.unwrap();
        assert_eq!(present(reading.snapshot.value().unwrap()), nodes);
        until_repaired(&mut reader, &[&one, &other]).await;
        for peer in [&reader, &one, &other] {
            assert_eq!(present(&value(peer, key.as_record_key()).await.unwrap()), nodes);
        }
    })
    .await;
}
