//! The law of withheld updates: random full boards, holders that evict, and holders that withhold.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{RecordKey as KadKey, store::RecordStore};
use smart_record_testing::{ManualClock, keys::keypair};

use super::*;
use crate::{
    query::{Bounds, ReadPolicy, RecordLookup},
    store::{Asker, MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_core::{Limits, Open, Registry, SpaceRules, SpaceSigner};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const COMPLETE_AT: usize = 2;
const BOUNDS: Bounds = Bounds {
    closest: 20,
    complete_at: COMPLETE_AT,
    patience: 4,
    chunk_bytes: 15 * 1_024,
    rounds: 16,
    repair_chunks: 2,
    record_bytes: 4 * 1_024 * 1_024,
};

/// A stream of numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// Holders of one board, with few places.
struct Holders {
    key: RecordKey,
    registry: Registry,
    clock: ManualClock,
    stores: Vec<SmartRecordStore>,
}

impl Holders {
    fn new(count: usize) -> Self {
        let limits = Limits::default().with_spaces_per_record(6).with_withdrawn_per_record(4);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        let clock = ManualClock::at(NOW);
        let config = StoreConfig::default().with_slice_bytes(1_000);
        let store = || {
            let (peer, registry) = (PeerId::random(), registry.clone());
            let storage = MemoryStorage::default();
            SmartRecordStore::with_storage(peer, registry, config.clone(), storage, clock.clone())
                .unwrap()
        };
        let stores = std::iter::repeat_with(store).take(count).collect();
        Self { key: RecordKey::new("/sr/law"), registry, clock, stores }
    }

    /// Gives the holders what writers have signed, each in an order of its own and with gaps.
    fn give(&mut self, said: &[SmartRecord], gaps: usize, random: &mut Random) {
        for store in &mut self.stores {
            let mut said: Vec<_> = said.iter().collect();
            random.shuffle(&mut said);
            for record in said {
                if !random.chance(gaps) {
                    self.clock.advance(Duration::from_millis(1));
                    // There may be no place for it.
                    let _ = store.write(&self.key, &record.encode());
                }
            }
        }
    }

    fn read(&mut self) -> RecordLookup {
        let (key, now) = (self.key.clone(), smart_record_core::Clock::now(&self.clock));
        let mut lookup =
            RecordLookup::new(key.clone(), ReadPolicy::All, BOUNDS, &self.registry).unwrap();
        lookup.set_asked(self.stores.len());
        let reader = Asker::new(PeerId::random(), None);
        loop {
            for store in &mut self.stores {
                store.asked_by(Some(reader));
                let peer = store.local_peer();
                match store.get(&KadKey::new(&key)) {
                    Some(record) => {
                        let value = Bytes::copy_from_slice(&record.value);
                        let answer = lookup.joined().check(&key, value, now);
                        lookup.on_answer(peer, answer, None);
                    }
                    None => lookup.on_empty([peer]),
                }
            }
            if !lookup.on_round() {
                return lookup;
            }
        }
    }

    /// How many holders have neither this update of a writer nor a newer one.
    fn lacking(&self, withheld: &Withheld) -> usize {
        let newest = |store: &SmartRecordStore| {
            let record = store.record_of(&self.key, [&withheld.writer]).unwrap()?;
            record.spaces().next()?.1.newest()
        };
        let lacks = |store: &&SmartRecordStore| {
            newest(store).is_none_or(|newest| newest.seq < withheld.known)
        };
        self.stores.iter().filter(lacks).count()
    }
}

/// What enough holders have is never reported, nor what all of them have evicted because there was
/// no place; what all of them withhold is.
#[test]
fn only_what_too_few_holders_have_and_had_a_place_for_is_withheld() {
    let (mut reported, mut hidden) = (0, 0);
    for board in 0..60 {
        let mut random = Random(board);
        let mut holders = Holders::new(3 + random.below(3));
        // Half of the boards have replicas that agree in the end.
        let gaps = if board % 2 == 0 { 0 } else { 15 };
        let mut signers: Vec<_> = (0..16)
            .map(|n| {
                let keypair = keypair(1_000 * board + n);
                SpaceSigner::new(holders.key.clone(), keypair, Limits::default())
            })
            .collect();
        let mut known = RollbackMemory::new(100);
        let mut withholds = false;
        for step in 0..3 {
            let now = smart_record_core::Clock::now(&holders.clock);
            for signer in &mut signers {
                let has_written = signer.space().updates().len() > 0;
                let text = "x".repeat(random.below(100));
                let document = [("text", text)].into_iter().collect();
                match random.below(6) {
                    0 | 1 => drop(signer.merge(document, now, HOUR).unwrap()),
                    2 => drop(signer.replace(document, now, HOUR).unwrap()),
                    3 if has_written => drop(signer.withdraw(now).unwrap()),
                    _ => {}
                }
            }
            let said: Vec<_> = signers.iter().map(|signer| signer.record(now)).collect();
            let said: Vec<_> = said.into_iter().filter(|it| it.spaces().len() > 0).collect();
            holders.give(&said, gaps, &mut random);
            if gaps == 0 {
                // What has made room since may come back.
                holders.give(&said, 0, &mut random);
            }
            if step == 2 && random.chance(50) {
                withholds = true;
                let victims = signers.iter().filter(|_| random.chance(30));
                let victims: Vec<_> = victims.map(SpaceSigner::writer).collect();
                for store in &mut holders.stores {
                    for victim in &victims {
                        store.forget_space(&holders.key, victim).unwrap();
                    }
                }
            }
            let before = known.seen(&holders.key);
            let lookup = holders.read();
            assert!(lookup.is_complete() || gaps > 0, "board {board}");
            let record = lookup.joined().record().unwrap();
            let withheld = known.observe(record, false, &before, |it| lookup.tells(it), now);
            for withheld in &withheld {
                let lacking = holders.lacking(withheld);
                assert!(lacking >= COMPLETE_AT, "board {board}: {withheld:?}");
                assert!(withholds || gaps > 0, "board {board}: it was evicted: {withheld:?}");
            }
            if withholds {
                reported += withheld.len();
                hidden += 1;
            }
        }
    }
    println!("{hidden} boards with holders that withhold: {reported} writers reported");
    assert!(reported > 10, "{reported} reported");
}
