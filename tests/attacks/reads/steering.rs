//! One peer that asks all replicas of a board all the time, and has put large spaces on it.

use std::collections::BTreeSet;

use libp2p_identity::Keypair;
use libp2p_kad::{RecordKey as KadKey, store::RecordStore};
use libp2p_smart_record::{
    RecordKey, Registry, SmartRecord, Writer,
    store::{Asker, ValidatedRecord},
};

use super::holders::*;

/// Replicas and honest writers of the board, and large spaces of the attacker.
const REPLICAS: u64 = 20;
const WRITERS: u64 = 103;
const LARGE: usize = 3;
/// Requests of the attacker to each replica between two of the reader.
const STEERING: usize = 16;

/// It used to be that 40 of 40 reads saw 1 of 103 writers and called this complete, for 17 KB and
/// 16 requests a second to each replica.
#[test]
fn steering_hides_nobody_from_other_readers() {
    let key = RecordKey::new("/sr/adversary/steered");
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..WRITERS {
        board.join(space(&key, keypair(writer), &[300])).unwrap();
    }
    // Keys of ranks below those of all writers, so that slices from the beginning of the ring are
    // filled by the large spaces.
    let rank = |keypair: &Keypair| Writer::from(&keypair.public()).rank(&key);
    let first = (0..WRITERS).map(|writer| rank(&keypair(writer))).min().unwrap();
    let mut tried = 0;
    let ground: Vec<_> = (10_000..)
        .map(keypair)
        .inspect(|_| tried += 1)
        .filter(|keypair| rank(keypair) < first)
        .take(LARGE)
        .collect();
    let mut bytes = 0;
    for keypair in ground {
        let large = space(&key, keypair, &[1_900, 1_900, 1_700]);
        bytes += large.encode().len();
        board.join(large).unwrap();
    }
    let valid = ValidatedRecord::new(&Registry::default(), key.clone(), &board.encode(), NOW);
    let mut holders: Vec<_> = (0..REPLICAS).map(|n| Holder::honest(20_000 + n, true)).collect();
    holders.iter_mut().for_each(|holder| holder.give([valid.clone()]));
    let mut most = 0;
    for reader in 0..40 {
        let steer = |_: usize, holders: &mut [Holder]| {
            for holder in holders {
                let store = holder.store().unwrap();
                store.asked_by(Some(Asker::new(peer(30_000), None)));
                for _ in 0..STEERING {
                    assert!(store.get(&KadKey::new(&key)).is_some());
                }
            }
            BTreeSet::new()
        };
        let (reading, rounds) = read(&key, peer(40_000 + reader), 2, &mut holders, steer);
        assert_eq!(reading.snapshot.record(), Some(&board), "reader {reader}");
        assert!(reading.is_complete() && reading.missing() == 0.0);
        assert!(board.spaces().all(|(writer, _)| reading.is_complete_for(writer)));
        most = most.max(rounds);
    }
    println!(
        "{LARGE} of {tried} keys, {bytes} B, {STEERING} requests to each of {REPLICAS} replicas before each \
         of the reader's: all of {WRITERS} writers in 40 of 40 reads, in at most {most} rounds"
    );
    assert!(most <= 7, "{most} rounds");
}
