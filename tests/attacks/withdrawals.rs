//! Undoing a withdrawal: the attacker fills a board until the withdrawal is evicted, and replays
//! what it withdrew.

use std::time::{Duration, Instant};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{self as kad, GetRecordOk, PeerRecord, Record, store::RecordStore};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceRules, SpaceSigner, Timestamp,
    Writer,
    query::{ReadStep, RecordReader},
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair};

const REPLICAS: u64 = 20;
const HOUR: Duration = Duration::from_secs(3_600);

fn key() -> RecordKey {
    RecordKey::new("/sr/board")
}

fn says(text: &str) -> Dict {
    [("text", text)].into_iter().collect()
}

fn replica(seed: u64, clock: &ManualClock) -> SmartRecordStore {
    let local = keypair(1_000_000 + seed).public().to_peer_id();
    let (registry, config) = (Registry::default(), StoreConfig::default());
    let storage = MemoryStorage::default();
    SmartRecordStore::with_storage(local, registry, config, storage, clock.clone()).unwrap()
}

/// A PUT as Kademlia passes it on.
fn put(store: &mut SmartRecordStore, value: &[u8]) {
    store.put(Record::new(kad::RecordKey::new(&key()), value.to_vec())).unwrap();
}

/// The first writer of these numbers whose rank leaves half of the ring below it.
fn victim() -> Keypair {
    let middle = |n: &u64| Writer::from(&keypair(*n).public()).rank(&key())[0] == 0x80;
    keypair((0..).find(middle).unwrap())
}

/// What the victim says, and its withdrawal.
fn said_and_withdrawn(now: Timestamp) -> (PeerState, PeerState) {
    let mut signer = SpaceSigner::new(key(), victim(), Limits::default());
    signer.resume(&SmartRecord::new(key()));
    signer.merge(says("a secret"), now, HOUR).unwrap();
    let said = signer.record(now).encode();
    signer.withdraw(now).unwrap();
    (said, signer.record(now).encode())
}

type PeerState = Vec<u8>;

/// As many spaces as a board has places, all of ranks below the victim's, in packets.
fn flood(now: Timestamp) -> Vec<Vec<u8>> {
    let bar = Writer::from(&victim().public()).rank(&key());
    let places = Limits::default().spaces_per_record();
    let begun = Instant::now();
    let ground = (0_u64..).map(|n| keypair(10_000_000 + n));
    let ground = ground.filter(|keypair| Writer::from(&keypair.public()).rank(&key()) < bar);
    let ground: Vec<_> = ground.take(places).collect();
    let grinding = begun.elapsed();
    let mut record = SmartRecord::new(key());
    for keypair in ground {
        let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
        signer.resume(&SmartRecord::new(key()));
        let update = signer.merge(Dict::new(), now, Duration::from_secs(2)).unwrap();
        record.insert(signer.writer(), update).unwrap();
    }
    let packets: Vec<_> = record.chunks(15 * 1_024).collect();
    println!(
        "a withdrawal undone: {places} keys in {grinding:.1?} of one core, {} B of PUT to each replica",
        packets.iter().map(Vec::len).sum::<usize>()
    );
    packets
}

/// Replicas that were flooded while they had the withdrawal, after the flood has expired.
fn flooded(clock: &ManualClock, withdrawal: &[u8], said: &[u8]) -> Vec<SmartRecordStore> {
    let packets = flood(clock.now());
    let mut replicas: Vec<_> = (0..REPLICAS).map(|n| replica(n, clock)).collect();
    for store in &mut replicas {
        put(store, said);
        put(store, withdrawal);
        for packet in &packets {
            put(store, packet);
        }
    }
    clock.advance(Duration::from_secs(3));
    replicas
}

/// How many replicas show content of the victim.
fn shown(replicas: &[SmartRecordStore]) -> usize {
    let victim = victim().public().to_peer_id();
    replicas.iter().filter(|store| store.view(&key()).unwrap().get(&victim).is_some()).count()
}

#[test]
fn a_flood_below_the_victim_s_rank_does_not_undo_its_withdrawal() {
    let clock = ManualClock::at(at(NOW));
    let (said, withdrawal) = said_and_withdrawn(clock.now());
    let mut replicas = flooded(&clock, &withdrawal, &said);
    assert_eq!(shown(&replicas), 0);
    for store in &mut replicas {
        put(store, &said);
    }
    assert_eq!(shown(&replicas), 0, "replicas of {REPLICAS} show what was withdrawn");
    for store in &replicas {
        let record = store.record(&key()).unwrap().unwrap();
        assert!(record.space(&Writer::from(&victim().public())).unwrap().is_withdrawn());
    }
}

/// An answer of a peer, as Kademlia passes it on.
fn found(peer: PeerId, value: PeerState) -> GetRecordOk {
    let record = Record::new(kad::RecordKey::new(&key()), value);
    GetRecordOk::FoundRecord(PeerRecord { peer: Some(peer), record })
}

/// The end of a query.
fn end() -> GetRecordOk {
    GetRecordOk::FinishedWithNoAdditionalRecord { cache_candidates: [].into() }
}

/// What a reader sees that asks these replicas, and a holder that shows what was withdrawn.
#[test]
fn a_reader_sees_the_withdrawal_though_one_holder_shows_what_was_withdrawn() {
    let start = ManualClock::at(at(NOW));
    let (said, withdrawal) = said_and_withdrawn(start.now());
    let (writer, liar) = (Writer::from(&victim().public()), PeerId::random());
    // While the flood lives, and after it.
    for (wait, name) in [(0, "during the flood"), (3, "after the flood")] {
        let clock = ManualClock::at(at(NOW));
        let replicas = flooded(&clock, &withdrawal, &said);
        let now = at(NOW + wait * 1_000);
        clock.set(now);
        for liar_is_first in [true, false] {
            let mut reader = RecordReader::new(&Registry::default(), key()).unwrap();
            loop {
                let answers = replicas.iter().map(|store| {
                    let answer = store.get(&kad::RecordKey::new(&key())).unwrap();
                    (store.local_peer(), answer.value.clone())
                });
                let mut answers: Vec<_> = answers.collect();
                let at = if liar_is_first { 0 } else { answers.len() };
                answers.insert(at, (liar, said.clone()));
                for (peer, value) in answers {
                    reader.on_progress(&Ok(found(peer, value)), false, now);
                }
                if reader.on_progress(&Ok(end()), true, now) == ReadStep::Finish {
                    break;
                }
            }
            let reading = reader.into_reading(now);
            let record = reading.snapshot.record().unwrap();
            assert!(record.space(&writer).unwrap().is_withdrawn(), "{name}");
            assert_eq!(reading.view().get(&writer.peer_id()), None, "{name}");
        }
    }
}

/// One holder shows withdrawals of its own, of ranks below the victim's, until a record has no
/// place for the victim's, and then what the victim has withdrawn.
#[test]
fn withdrawals_without_end_do_not_make_a_reader_show_what_was_withdrawn() {
    let (said, withdrawal) = said_and_withdrawn(at(NOW));
    let (rules, bar) = (SpaceRules::default(), Writer::from(&victim().public()).rank(&key()));
    let begun = Instant::now();
    let ground = (0_u64..).map(|n| keypair(20_000_000 + n));
    let ground = ground.filter(|keypair| Writer::from(&keypair.public()).rank(&key()) < bar);
    let ground: Vec<_> = ground.take(rules.limits().withdrawn_per_record()).collect();
    let grinding = begun.elapsed();
    let mut flood = SmartRecord::new(key());
    for keypair in ground {
        let mut signer = SpaceSigner::new(key(), keypair, Limits::default());
        let update = signer.withdraw(at(NOW)).unwrap();
        flood.insert(signer.writer(), update).unwrap();
    }
    let flood: Vec<_> = flood.chunks(15 * 1_024).collect();
    println!(
        "withdrawals without end: {} keys in {grinding:.1?} of one core, {} B of answers",
        rules.limits().withdrawn_per_record(),
        flood.iter().map(Vec::len).sum::<usize>()
    );
    let [liar, honest] = [(); 2].map(|()| PeerId::random());
    let (said, withdrawal) = ([(liar, said)], [(honest, withdrawal)]);
    let flood: Vec<_> = flood.into_iter().map(|answer| (liar, answer)).collect();
    for order in [[&withdrawal[..], &flood, &said], [&said, &withdrawal, &flood]] {
        let mut reader = RecordReader::new(&Registry::default(), key()).unwrap();
        for (peer, value) in order.into_iter().flatten() {
            reader.on_progress(&Ok(found(*peer, value.clone())), false, at(NOW));
        }
        reader.on_progress(&Ok(end()), true, at(NOW));
        let reading = reader.into_reading(at(NOW));
        let victim = Writer::from(&victim().public());
        assert_eq!(reading.view().get(&victim.peer_id()), None, "it is shown again");
        assert!(!reading.is_complete_for(&victim));
    }
}
