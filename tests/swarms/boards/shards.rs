//! A topic of ten thousand writers, spread over sixteen keys.

use super::*;
use std::{num::NonZeroUsize, sync::LazyLock};

use futures::future::{join_all, try_join_all};
use libp2p_kad::store::RecordStore;
use libp2p_smart_record::{ShardedKey, ShardedRecord, SpaceRules, store::StoreConfig};

use network::{network, start_node};

const ALL: u64 = 10_000;

fn topic() -> ShardedKey {
    ShardedKey::new(RecordKey::new("/sr/stadium"), 4, &Limits::default()).unwrap()
}

/// Each writer's space, under its own key.
static TOPIC: LazyLock<ShardedRecord> = LazyLock::new(|| {
    let (topic, now) = (topic(), SystemClock.now());
    let mut written = ShardedRecord::new(topic.clone());
    for writer in 0..ALL {
        let key = topic.key_for(&peer(writer));
        assert_eq!(written.join(space(&key, writer, 20, now)), Ok(0));
    }
    written
});

fn peer(writer: u64) -> PeerId {
    keypair(WRITERS, writer).public().to_peer_id()
}

/// The shards, each one record.
fn shards() -> impl Iterator<Item = &'static SmartRecord> {
    TOPIC.key().keys().map(|key| TOPIC.shard(&key).unwrap())
}

fn has(read: &ShardedRecord, writer: u64) -> bool {
    let key = read.key().key_for(&peer(writer));
    let writer = keypair(WRITERS, writer).public();
    read.shard(&key).is_some_and(|shard| shard.space(&(&writer).into()).is_some())
}

#[test]
fn ten_thousand_writers_fit_into_the_shards_of_a_store_and_are_read_together_and_alone() {
    let rules = SpaceRules::default();
    let mut store = SmartRecordStore::new(peer(ALL));
    for shard in shards() {
        let spaces = shard.spaces().len();
        assert!(spaces <= Limits::default().spaces_per_record() * 3 / 4, "{spaces} in one");
        for chunk in shard.chunks(StoreConfig::default().chunk_bytes()) {
            store.write(shard.key(), &chunk).unwrap();
        }
    }
    assert_eq!(store.counters().admitted, ALL);
    assert_eq!((store.counters().spaces_evicted, store.counters().refused_total()), (0, 0));

    // Slice by slice, as in GET replies to one reader.
    store.asked_by(Some(Asker::new(peer(ALL + 1), None)));
    let ask = |read: &mut ShardedRecord, key: &RecordKey| {
        let slice = store.get(&kad::RecordKey::new(key)).unwrap();
        let slice = rules.read(key, &slice.value, SystemClock.now()).unwrap();
        assert_eq!(read.join(slice), Ok(0));
    };
    let mut read = ShardedRecord::new(topic());
    for shard in shards() {
        let answers = slices(shard) + 3;
        for _ in 0..answers {
            if read.shard(shard.key()) != Some(shard) {
                ask(&mut read, shard.key());
            }
        }
    }
    assert!(read == *TOPIC);
    assert_eq!(read.view(SystemClock.now()).len(), ALL as usize);

    // One writer needs one shard.
    for writer in [0, 4_711, 9_999] {
        let mut read = ShardedRecord::new(topic());
        let key = read.key().key_for(&peer(writer));
        let answers = slices(TOPIC.shard(&key).unwrap()) + 3;
        let needed = (1..=answers).find(|_| {
            ask(&mut read, &key);
            has(&read, writer)
        });
        assert!(needed.is_some(), "writer {writer}");
        assert!(read.view(SystemClock.now()).get(&peer(writer)).is_some());
    }
}

/// Looks up one key until `done`. Returns what was found and the number of lookups.
async fn look_up(
    reader: &Node,
    key: &RecordKey,
    done: impl Fn(&ShardedRecord) -> bool,
) -> (ShardedRecord, usize) {
    let rules = SpaceRules::default();
    let mut read = ShardedRecord::new(topic());
    let mut lookups = 0;
    while !done(&read) {
        lookups += 1;
        for (_, value) in reader.lookup(key).await.unwrap() {
            read.join(rules.read(key, &value, SystemClock.now()).unwrap()).unwrap();
        }
    }
    (read, lookups)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_writers_are_published_and_read_over_the_network() {
    /// Number of nodes that each shard is put to.
    const REPLICAS: usize = 3;
    within(async {
        let nodes = network(8).await;
        let publisher = start_node(100, |config| {
            config.set_replication_factor(NonZeroUsize::new(REPLICAS).unwrap());
        })
        .await;
        let reader = start_node(101, |_| {}).await;
        for node in &nodes {
            publisher.add(node.peer(), node.address()).await.unwrap();
            reader.add(node.peer(), node.address()).await.unwrap();
        }
        let put = shards().map(async |shard| {
            for chunk in shard.chunks(StoreConfig::default().chunk_bytes()) {
                // A chunk of more than 80 updates is taken in two turns.
                publisher.put(shard.key(), chunk.clone()).await.unwrap();
                publisher.put(shard.key(), chunk).await.unwrap();
            }
        });
        join_all(put).await;
        drop(publisher);
        // No node has the whole topic.
        for node in &nodes {
            let stored = TOPIC.key().keys().map(async |key| node.stored(&key).await);
            let stored = try_join_all(stored).await.unwrap();
            let shards = stored.iter().flatten().count();
            assert!((1..16).contains(&shards), "{shards} shards");
        }

        let read = shards().map(|shard| {
            look_up(&reader, shard.key(), move |read| read.shard(shard.key()) == Some(shard))
        });
        let read = join_all(read).await;
        let mut all = ShardedRecord::new(topic());
        for (shard, _) in &read {
            for shard in shard.key().keys().filter_map(|key| shard.shard(&key)) {
                all.join(shard.clone()).unwrap();
            }
        }
        assert!(all == *TOPIC);
        let lookups: Vec<_> = read.iter().map(|(_, lookups)| *lookups).collect();
        let sum: usize = lookups.iter().sum();
        let most = *lookups.iter().max().unwrap();
        println!("{ALL} writers in 16 shards on {REPLICAS} nodes each: {sum} lookups, at most {most} a shard");
        // Nodes with Kademlia alone do not know who asks.
        let slices = shards().map(slices).max().unwrap() + 1;
        let spaces = shards().map(|shard| shard.spaces().len()).max().unwrap();
        let bound = bound(slices, REPLICAS, spaces);
        assert!(most <= bound, "{most} lookups of {slices} slices, at most {bound}");

        let key = topic().key_for(&peer(4_711));
        let (_, lookups) = look_up(&reader, &key, |read| has(read, 4_711)).await;
        println!("one writer: {lookups} lookups");
        assert!(lookups <= bound, "{lookups} lookups of {slices} slices, at most {bound}");
    })
    .await;
}
