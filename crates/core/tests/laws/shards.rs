//! Sharded keys: every writer has one shard, writers are spread evenly, and reading all shards
//! gives the whole.

use super::*;
use std::collections::BTreeSet;

use libp2p_identity::PeerId;
use smart_record_core::{ShardedKey, ShardedRecord};

fn topic(name: &str, bits: u8) -> ShardedKey {
    ShardedKey::new(RecordKey::new(format!("/sr/{name}")), bits, &Limits::default()).unwrap()
}

fn any_peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 32]>()
        .prop_map(|hash| PeerId::from_bytes(&[&[0x12, 0x20], &hash[..]].concat()).unwrap())
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn every_writer_has_one_shard_which_a_bit_more_splits_in_two(
        name in "[a-z/]{0,40}",
        bits in 0..=10_u8,
        peer in any_peer(),
    ) {
        let topic = topic(&name, bits);
        let keys: Vec<_> = topic.keys().collect();
        prop_assert_eq!(keys.len(), 1 << bits);
        let own = topic.key_for(&peer);
        let index: Vec<_> = (0..keys.len()).filter(|i| keys[*i] == own).collect();
        prop_assert_eq!(index.len(), 1, "one of the keys, and the keys differ");
        prop_assert!(topic.contains(&own));

        let finer = self::topic(&name, bits + 1);
        let finer_keys: Vec<_> = finer.keys().collect();
        let halves = &finer_keys[2 * index[0]..][..2];
        prop_assert!(halves.contains(&finer.key_for(&peer)));
        prop_assert!(finer_keys.iter().all(|key| !keys.contains(key)));
    }

    #[test]
    fn what_is_read_under_all_keys_in_any_order_and_pieces_is_the_whole(
        writers in vec(0..40_u8, 1..20),
        bits in 0..=4_u8,
        seed in any::<u64>(),
    ) {
        let topic = topic("pieces", bits);
        let mut whole = ShardedRecord::new(topic.clone());
        let mut pieces = Vec::new();
        let mut written = BTreeSet::new();
        for writer in writers {
            let keypair = keypair(writer + 1);
            let peer = keypair.public().to_peer_id();
            let mut signer = SpaceSigner::new(topic.key_for(&peer), keypair, Limits::default());
            let document: Dict = [("writer", i64::from(writer))].into_iter().collect();
            signer.merge(document, at(0), Duration::from_secs(1)).unwrap();
            let record = signer.record(at(0));
            prop_assert_eq!(whole.join(record.clone()), Ok(0));
            pieces.push(record);
            written.insert(signer.writer());
        }
        let mut dice = Dice(seed);
        pieces.extend(pieces.clone());
        dice.shuffle(&mut pieces);
        let mut read = ShardedRecord::new(topic);
        for piece in pieces {
            prop_assert_eq!(read.join(piece), Ok(0));
        }
        prop_assert_eq!(&read, &whole);
        let view = read.view(at(1));
        prop_assert!(view.iter().map(|(writer, _)| writer).eq(&written));
        prop_assert!(read.view(at(1_000)).is_empty(), "and it expires");
    }
}

#[test]
fn writers_are_spread_evenly() {
    // 64,000 writers: with 2^bits shards, no shard is more than six standard deviations from the
    // average.
    let peers: Vec<_> = (0..64_000_u32)
        .map(|n| {
            let hash = RecordKey::new(n.to_be_bytes()).digest();
            PeerId::from_bytes(&[&[0x12, 0x20], &hash[..]].concat()).unwrap()
        })
        .collect();
    for (name, bits) in [("even", 1), ("even", 4), ("odd", 4), ("even", 6)] {
        let topic = topic(name, bits);
        let mut counts: BTreeMap<_, usize> = topic.keys().map(|key| (key, 0)).collect();
        for peer in &peers {
            *counts.get_mut(&topic.key_for(peer)).unwrap() += 1;
        }
        let average = peers.len() as f64 / counts.len() as f64;
        for (key, count) in counts {
            let off = (count as f64 - average).abs();
            assert!(off <= 6.0 * average.sqrt(), "{key} has {count} of {average} writers");
        }
    }
}

#[test]
fn who_shares_a_shard_of_one_topic_does_not_share_that_of_another() {
    let peers: Vec<_> = (1..=250).map(|seed| keypair(seed).public().to_peer_id()).collect();
    let (a, b) = (topic("a", 4), topic("b", 4));
    let first = a.key_for(&peers[0]);
    let together = peers.iter().filter(|peer| a.key_for(peer) == first);
    let elsewhere: BTreeSet<_> = together.map(|peer| b.key_for(peer)).collect();
    assert!(elsewhere.len() > 4, "{} shards", elsewhere.len());
}

#[test]
fn what_is_written_under_another_s_key_is_left_out() {
    let topic = topic("strays", 3);
    let keypair = keypair(1);
    let own = topic.key_for(&keypair.public().to_peer_id());
    let mut read = ShardedRecord::new(topic.clone());
    for key in topic.keys() {
        let mut signer = SpaceSigner::new(key.clone(), keypair.clone(), Limits::default());
        let document: Dict = [("key", key.to_string())].into_iter().collect();
        signer.merge(document, at(0), Duration::from_secs(1)).unwrap();
        assert_eq!(read.join(signer.record(at(0))), Ok(usize::from(key != own)));
    }
    let view = read.view(at(0));
    assert_eq!(view.len(), 1);
    let (_, space) = view.iter().next().unwrap();
    assert_eq!(space.document.get("key").unwrap().kind, Kind::String(own.to_string()));
    assert!(read.shard(&own).is_some());

    let elsewhere = SmartRecord::new(RecordKey::new("/sr/strays"));
    assert!(read.join(elsewhere).is_err());
}
