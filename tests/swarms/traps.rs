//! The behaviour of libp2p-kad listed in `docs/design.md`, section "What libp2p-kad does with a
//! store", and how this store handles it, between two nodes over real TCP.

mod reading;

use std::{borrow::Cow, num::NonZeroUsize, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId,
    identity::Keypair,
    kad::{
        self,
        store::{self, RecordStore},
    },
};
use libp2p_smart_record::{
    AcceptAny, Clock, Fault, RecordKey, Registry, SmartRecord, SpaceRules, SystemClock,
    store::{SmartRecordStore, StoreConfig, StoreEvent},
};
use smart_record_testing::ManualClock;
use smart_record_testing_swarms as swarms;
use web_time::Instant;

use crate::nodes::{
    Node, NodeError, PROTOCOL, Stored, connect, pair, records, says, signer, start, start_at,
    start_plain, start_with, within,
};

fn key() -> RecordKey {
    RecordKey::new("/sr/traps/board")
}

fn anything() -> Registry {
    Registry::default().with_fallback(AcceptAny::default())
}

/// A board of about `bytes`, in chunks that can be put.
fn board(key: &RecordKey, bytes: usize) -> SmartRecord {
    let mut board = SmartRecord::new(key.clone());
    while board.encode().len() < bytes {
        for _ in 0..64 {
            let mut signer = signer(key);
            board.join(says(&mut signer, &"x".repeat(512))).unwrap();
        }
    }
    board
}

/// Stores a value at a node directly.
async fn store_at(node: &Node, record: &SmartRecord) {
    let (key, value) = (record.key().clone(), record.encode());
    node.store(move |store| {
        store.write(&key, &value).unwrap();
    })
    .await
    .unwrap();
}

/// Waits until a node's store has stored something.
async fn until_stored(node: &Node, mut done: impl FnMut(&SmartRecord) -> bool) -> SmartRecord {
    let mut events = node.store(|store| store.subscribe()).await.unwrap();
    loop {
        if let Some(record) = node.stored(&key()).await.unwrap()
            && done(&record)
        {
            return record;
        }
        while !matches!(events.next().await, Some(StoreEvent::Stored { .. })) {}
    }
}

// A. Refusing a write

#[tokio::test]
async fn a_thousand_refusals_do_not_wedge_the_connection() {
    let (server, mut client) = (start().await, start().await);
    within(async {
        // The server does not know the address of the client, so it dials nobody.
        client.add(server.peer(), server.address()).await.unwrap();
        for i in 0..1_000_u32 {
            let junk = i.to_be_bytes().to_vec();
            client.put_to(server.peer(), &key(), junk).await.unwrap();
        }
        // On a wedged connection each of these fails after the stream timeout of ten seconds.
        let record = says(&mut signer(&key()), "after the junk");
        client.put_to(server.peer(), &key(), record.encode()).await.unwrap();
        let found = records(client.lookup(&key()).await.unwrap());
        assert_eq!(found, [(Some(server.peer()), record.encode())]);
        let counters = server.store(|store| store.counters().clone()).await.unwrap();
        assert_eq!(counters.refused.get(&Fault::Malformed), Some(&1_000));
        assert_eq!(counters.admitted, 1);
        let opened = client.connections_opened();
        assert_eq!(opened, [server.peer()], "one connection served all of it");
    })
    .await;
}

#[tokio::test]
async fn a_local_write_is_refused_with_an_error_and_aborts_the_put() {
    let (server, client) = pair().await;
    within(async {
        let refused = client.put(&key(), b"junk".to_vec()).await;
        assert!(matches!(refused, Err(NodeError::Query(_))), "{refused:?}");
        let seen = server.store(|store| store.counters().clone()).await.unwrap();
        assert_eq!(seen.refused_total(), 0, "nothing was sent");
    })
    .await;
}

#[tokio::test]
async fn the_store_decides_before_the_writer_is_answered() {
    let (server, client) = pair().await;
    within(async {
        let record = says(&mut signer(&key()), "here");
        client.put_to(server.peer(), &key(), record.encode()).await.unwrap();
        assert_eq!(server.stored(&key()).await.unwrap(), Some(record));
    })
    .await;

    // With `FilterBoth`, the writer gets an acknowledgement and nothing is stored.
    let filtering = start_with(Registry::default(), StoreConfig::default(), |config| {
        config.set_record_filtering(kad::StoreInserts::FilterBoth);
    })
    .await;
    connect(&filtering, &client).await;
    within(async {
        let record = says(&mut signer(&key()), "here");
        client.put_to(filtering.peer(), &key(), record.encode()).await.unwrap();
        assert_eq!(filtering.stored(&key()).await.unwrap(), None);
    })
    .await;
}

// B. Size

#[tokio::test]
async fn a_record_larger_than_a_packet_is_refused_locally_and_sent_in_chunks() {
    let (server, client) = pair().await;
    within(async {
        let board = board(&key(), 17 * 1_024);
        let whole = client.put(&key(), board.encode()).await;
        assert!(matches!(whole, Err(NodeError::Query(_))), "{whole:?}");
        for chunk in board.chunks(StoreConfig::default().chunk_bytes()) {
            assert_eq!(client.put(&key(), chunk).await.unwrap(), 1);
        }
        assert_eq!(server.stored(&key()).await.unwrap(), Some(board));
    })
    .await;
}

#[tokio::test]
async fn a_full_chunk_under_the_longest_key_fits_into_a_packet() {
    let (server, client) = pair().await;
    within(async {
        let key = RecordKey::new(format!("/sr/{}", "k".repeat(252)));
        let board = board(&key, 60 * 1_024);
        let chunks: Vec<_> = board.chunks(StoreConfig::default().chunk_bytes()).collect();
        let largest = chunks.iter().map(Vec::len).max().unwrap();
        assert!(largest > 14 * 1_024, "{largest} bytes");
        for chunk in chunks {
            client.put_to(server.peer(), &key, chunk).await.unwrap();
        }
        assert_eq!(server.stored(&key).await.unwrap(), Some(board));
    })
    .await;
}

#[tokio::test]
async fn larger_chunks_need_larger_packets() {
    let config = StoreConfig::default().with_chunk_bytes(30 * 1_024);
    let server = start_with(Registry::default(), config.clone(), |_| {}).await;
    let client = start_with(Registry::default(), config, |_| {}).await;
    connect(&server, &client).await;
    within(async {
        let board = board(&key(), 25 * 1_024);
        let chunks: Vec<_> = board.chunks(30 * 1_024).collect();
        assert!(chunks[0].len() > 16 * 1_024);
        for chunk in chunks {
            assert_eq!(client.put(&key(), chunk).await.unwrap(), 1);
        }
        assert_eq!(server.stored(&key()).await.unwrap(), Some(board));
    })
    .await;
}

/// Adds 20 peers with `count` addresses each to a node's routing table, so that its answers name
/// them.
async fn crowd<S: RecordStore + Send + 'static>(node: &swarms::Node<S>, count: u8) {
    node.with(move |swarm| {
        for _ in 0..20 {
            let peer = PeerId::random();
            for i in 0..count {
                let address: Multiaddr =
                    format!("/ip4/192.0.2.{i}/udp/4001/quic-v1").parse().unwrap();
                swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_large_record_is_readable_beside_many_addresses() {
    let config = || {
        let mut config = kad::Config::new(PROTOCOL);
        // Only this node is asked: the added peers do not answer.
        config.set_parallelism(NonZeroUsize::MIN);
        config.set_query_timeout(Duration::from_secs(3));
        config
    };
    let client = start_plain(config()).await;

    // libp2p's store answers with the whole record, and the answer is too large to be read.
    let plain = start_plain(config()).await;
    plain
        .with(|swarm| {
            let record = kad::Record::new(kad::RecordKey::new(&key()), vec![0; 14 * 1_024]);
            swarm.behaviour_mut().kad.store_mut().put(record).unwrap();
        })
        .await
        .unwrap();
    crowd(&plain, 4).await;
    client.add(plain.peer(), plain.address()).await.unwrap();
    within(async {
        assert_eq!(client.lookup(&key()).await.unwrap(), [], "Kademlia still behaves this way");
    })
    .await;

    let server = start().await;
    let board = board(&key(), 64 * 1_024);
    store_at(&server, &board).await;
    crowd(&server, 4).await;
    let client = start_plain(config()).await;
    client.add(server.peer(), server.address()).await.unwrap();
    within(async {
        let found = client.lookup(&key()).await.unwrap();
        let [(from, slice)] = &found[..] else {
            panic!("{} answers", found.len());
        };
        assert_eq!(*from, Some(server.peer()));
        let rules = SpaceRules::default();
        let slice = rules.read(&key(), slice, SystemClock.now()).unwrap();
        assert!(slice.spaces().len() >= 8, "{} spaces", slice.spaces().len());
    })
    .await;
}

#[tokio::test]
async fn a_board_of_200_kb_is_replicated_by_the_job_and_read_whole() {
    let writer = start_with(Registry::default(), StoreConfig::default(), |config| {
        config.set_replication_interval(Some(Duration::from_millis(200)));
    })
    .await;
    // Both nodes use Kademlia's packet limit of 16 KiB.
    let replica = start().await;
    let board = board(&key(), 200_000);
    assert!(board.encode().len() >= 200_000);
    store_at(&writer, &board).await;
    connect(&writer, &replica).await;
    within(async {
        let spaces = board.spaces().len();
        let stored = until_stored(&replica, |record| record.spaces().len() == spaces).await;
        assert_eq!(stored, board);
    })
    .await;
    drop(writer);

    let reader = start().await;
    connect(&reader, &replica).await;
    within(async {
        let rules = SpaceRules::default();
        let mut read = SmartRecord::new(key());
        let mut gets = 0;
        while read != board {
            let found = reader.lookup(&key()).await.unwrap();
            let [(from, value)] = &found[..] else {
                panic!("{} answers", found.len());
            };
            assert_eq!(*from, Some(replica.peer()));
            assert!(value.len() <= StoreConfig::default().slice_bytes());
            read.join(rules.read(&key(), value, SystemClock.now()).unwrap()).unwrap();
            gets += 1;
        }
        // A node with Kademlia alone does not know who asks, so each slice begins anywhere.
        let slices = board.encode().len().div_ceil(8 * 1_024);
        let most = crate::boards::bound(slices, 1, board.spaces().len());
        assert!(gets <= most, "{gets} GETs for {slices} slices, at most {most}");
    })
    .await;
}

// C. Publisher

#[tokio::test]
async fn the_author_receives_other_writers_spaces_by_replication() {
    let author = start().await;
    let replica = start_with(Registry::default(), StoreConfig::default(), |config| {
        config.set_replication_interval(Some(Duration::from_millis(100)));
    })
    .await;
    connect(&author, &replica).await;
    within(async {
        // Kademlia sends this with the author as publisher.
        let mut record = says(&mut signer(&key()), "the author's");
        author.put(&key(), record.encode()).await.unwrap();
        let other = says(&mut signer(&key()), "another's");
        store_at(&replica, &other).await;
        record.join(other).unwrap();
        let stored = until_stored(&author, |stored| stored.spaces().len() == 2).await;
        assert_eq!(stored, record);
    })
    .await;
}

#[tokio::test]
async fn a_claimed_publisher_does_not_get_the_rights_of_the_local_user() {
    let (server, client) = pair().await;
    within(async {
        let server_peer = server.peer();
        let record = says(&mut signer(&key()), "spoofed");
        let kad_record = kad::Record {
            publisher: Some(server_peer),
            ..kad::Record::new(kad::RecordKey::new(&key()), record.encode())
        };
        client.put_record_to(server_peer, kad_record).await.unwrap();
        // Kademlia acknowledges and drops it: the store neither stores nor refuses anything.
        assert_eq!(server.stored(&key()).await.unwrap(), None);
        let counters = server.store(|store| store.counters()).await.unwrap();
        assert_eq!((counters.admitted, counters.refused_total()), (0, 0));
        // Without the claim, it is stored.
        client.put_to(server_peer, &key(), record.encode()).await.unwrap();
        assert_eq!(server.stored(&key()).await.unwrap(), Some(record));
    })
    .await;
}

// D. Time

/// The expiry that a node's store returns for a key.
async fn expiry(node: &Node, key: RecordKey) -> Option<Duration> {
    node.store(move |store| {
        let record = RecordStore::get(store, &kad::RecordKey::new(&key))?;
        Some(record.expires?.saturating_duration_since(Instant::now()))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_signed_lifetime_counts_not_that_of_the_packet() {
    let (server, client) = pair().await;
    within(async {
        let begun = Instant::now();
        let record = says(&mut signer(&key()), "ten minutes");
        // Kademlia sends it with its own 48 hours.
        client.put(&key(), record.encode()).await.unwrap();
        let left = expiry(&server, key()).await.unwrap();
        assert!(left <= Duration::from_secs(600), "{left:?}");
        assert!(
            left + begun.elapsed() + Duration::from_secs(1) >= Duration::from_secs(600),
            "{left:?}"
        );
    })
    .await;
}

/// The remaining lifetime of an unsigned value, sent with one minute, at its receiver.
async fn lifetime_kept(tweak: impl FnOnce(&mut kad::Config)) -> Option<Duration> {
    let server = start_with(anything(), StoreConfig::default(), tweak).await;
    let client = start_with(anything(), StoreConfig::default(), |_| {}).await;
    connect(&server, &client).await;
    let key = RecordKey::new("plain");
    let mut record = kad::Record::new(kad::RecordKey::new(&key), b"value".to_vec());
    record.expires = Instant::now().checked_add(Duration::from_secs(60));
    within(client.put_record_to(server.peer(), record)).await.unwrap();
    expiry(&server, key).await
}

#[tokio::test]
async fn the_lifetime_of_an_unsigned_value_is_that_of_its_packet() {
    let left = lifetime_kept(|_| {}).await.unwrap();
    assert!(left <= Duration::from_secs(60), "{left:?}");

    // With another configuration, Kademlia drops it.
    let trap = lifetime_kept(|config| {
        config.set_record_ttl(None);
    });
    assert_eq!(trap.await, None, "Kademlia still behaves this way");
}

#[tokio::test]
async fn a_value_with_less_than_a_second_left_keeps_its_expiry() {
    let clock = ManualClock::at(SystemClock.now());
    let server = start_at(clock.clone(), anything(), StoreConfig::default(), |_| {}).await;
    let client = start_with(anything(), StoreConfig::default(), |_| {}).await;
    connect(&server, &client).await;
    within(async {
        let key = RecordKey::new("plain");
        let kad_key = kad::RecordKey::new(&key);
        server
            .with(move |swarm| {
                let mut record = kad::Record::new(kad_key, b"value".to_vec());
                record.expires = Instant::now().checked_add(Duration::from_secs(60));
                swarm.behaviour_mut().kad.store_mut().put(record).unwrap();
            })
            .await
            .unwrap();
        assert_eq!(client.lookup(&key).await.unwrap().len(), 1);
        clock.advance(Duration::from_millis(59_500));
        // With half a second left, it would be sent with a lifetime of zero, which means no expiry.
        assert_eq!(client.lookup(&key).await.unwrap(), []);
        let replicated = server.store(|store| store.records().count()).await.unwrap();
        assert_eq!(replicated, 0);
    })
    .await;
}

// E. What is sent

#[tokio::test]
async fn a_request_without_a_record_stores_nothing() {
    let server = start_with(anything(), StoreConfig::default(), |_| {}).await;
    let client = start().await;
    connect(&server, &client).await;
    within(async {
        // Kademlia turns a missing record into an empty key with an empty value.
        let nothing = RecordKey::new("");
        client.put_to(server.peer(), &nothing, Vec::new()).await.unwrap();
        let usage = server.store(|store| store.usage()).await.unwrap();
        assert_eq!(usage.records, 0);
    })
    .await;
}

#[tokio::test]
async fn each_store_keeps_the_join_although_each_put_carries_one_space() {
    let (server, client) = pair().await;
    within(async {
        let (mut a, mut b) = (signer(&key()), signer(&key()));
        let mut whole = says(&mut a, "a");
        client.put(&key(), whole.encode()).await.unwrap();
        let second = says(&mut b, "b");
        client.put(&key(), second.encode()).await.unwrap();
        whole.join(second).unwrap();
        assert_eq!(server.stored(&key()).await.unwrap(), Some(whole.clone()));
        assert_eq!(client.stored(&key()).await.unwrap(), Some(whole));
    })
    .await;
}

// G. Jobs

#[tokio::test]
async fn the_job_does_not_delete_a_record_renewed_after_its_snapshot() {
    let clock = ManualClock::at(SystemClock.now());
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let mut store = SmartRecordStore::with_storage(
        local,
        anything(),
        StoreConfig::default(),
        libp2p_smart_record::store::MemoryStorage::default(),
        clock.clone(),
    )
    .unwrap();
    let put = |store: &mut SmartRecordStore, ttl| {
        let mut record = kad::Record::new(kad::RecordKey::new(&"plain"), b"value".to_vec());
        record.expires = Instant::now().checked_add(Duration::from_secs(ttl));
        store.put(record).unwrap();
    };
    put(&mut store, 60);
    let snapshot: Vec<_> = store.records().map(Cow::into_owned).collect();
    assert_eq!(snapshot.len(), 1);
    clock.advance(Duration::from_secs(59));
    put(&mut store, 600);
    clock.advance(Duration::from_secs(2));
    // This is what the job does with a record of its snapshot that has since expired.
    store.remove(&snapshot[0].key);
    assert!(store.get(&snapshot[0].key).is_some(), "it was renewed");
    store.remove(&snapshot[0].key);
    assert!(store.get(&snapshot[0].key).is_none(), "removed by the user");
}

// I. Other implementations

#[test]
fn the_first_value_wins_a_tie() {
    // Go refuses a refresh with identical bytes unless the first of equal values is selected.
    let record = says(&mut signer(&key()), "same").encode();
    let rules = Registry::default();
    assert_eq!(rules.select(&key(), &[&record, &record, &record]), Ok(0));
}

#[test]
fn keys_without_a_namespace_are_refused() {
    let rules = Registry::default();
    for key in ["", "board", "/board", "board/sr/"] {
        let refused = rules.validate(&key.into(), b"", SystemClock.now());
        assert_eq!(refused.unwrap_err().fault(), Fault::Unsupported, "{key:?}");
    }
}
