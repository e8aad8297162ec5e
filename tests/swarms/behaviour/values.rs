//! Records of values, selected or consolidated.

use std::time::Duration;

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
        let kad_key = kad::RecordKey::new(&key);
        let has = plain.store(move |store| store.get(&kad_key).map(|it| it.value.clone())).await;
        // The read repairs it.
        assert!(has.unwrap().is_none_or(|value| value == new.encode()));
        a.client.put(key.clone(), new.encode()).await.unwrap();
        let reading = a.client.get(key.clone()).await.unwrap();
        assert_eq!(reading.snapshot.value(), Some(&new.encode()));
    })
    .await;
}

#[tokio::test]
async fn a_value_that_combines_is_sent_with_what_a_plain_node_has() {
    let a = start().await;
    let plain = start_plain(kad::Config::new(PROTOCOL)).await;
    a.add(plain.peer(), plain.address()).await;
    within(async {
        let client = Keypair::generate_ed25519();
        let presence = PresenceKey::of(client.public().to_peer_id());
        let limits = PresenceLimits::default();
        let mut announcer = Announcer::new(presence.clone(), client, limits).unwrap();
        let [theirs, ours] = [(); 2].map(|()| {
            let mut record = PresenceRecord::new(presence.clone());
            record.insert(announce(&mut announcer)).unwrap();
            record
        });
        let key = presence.as_record_key().clone();
        let kad_key = kad::RecordKey::new(&key);
        let record = kad::Record::new(kad_key.clone(), theirs.encode());
        plain.store(move |store| store.put(record)).await.unwrap().unwrap();
        a.client.put(key.clone(), ours.encode()).await.unwrap();
        let has = plain.store(move |store| store.get(&kad_key).map(|it| it.value.clone())).await;
        let has = has.unwrap().unwrap();
        let now = SystemClock.now();
        let record = PresenceValidator::default().read(&key, &has, now).unwrap();
        assert_eq!(record.view(now).count(), 2, "both announcements");
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
