//! A store with low limits, and the steps that run on it.

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    AcceptAny, Clock, Limits, Open, RecordKey, Registry, SpaceRules,
    store::{
        Quota, SmartRecordStore, StoreConfig,
        storage::{Storage, Tally},
    },
};

use crate::{
    AUTHORS,
    clock::ManualClock,
    forge, now,
    updates::{Packed, Said},
};

/// A step.
#[derive(Arbitrary, Debug)]
pub enum Step {
    Board {
        key: u8,
        said: Said,
    },
    /// A value that may be damaged.
    Packed {
        key: u8,
        said: [Said; 2],
        packed: Packed,
    },
    Value {
        key: u8,
        bytes: u8,
        secs: u8,
        is_local: bool,
    },
    Remove(u8),
    Forget(u8),
    Wait(u16),
    Collect,
}

const MAX: Quota = Quota { count: 4, bytes: 3_500 };
const OF_WRITER: Quota = Quota { count: 2, bytes: 1_200 };
const OF_VALUES: Quota = Quota { count: 3, bytes: 2_500 };

fn key(number: u8) -> RecordKey {
    RecordKey::new(format!("/{}/{}", ["sr", "any"][usize::from(number % 2)], number % 8))
}

/// The store and its clock.
#[derive(Debug)]
pub struct SmallStore {
    pub store: SmartRecordStore,
    pub clock: ManualClock,
}

impl SmallStore {
    /// The local peer of the store.
    pub fn local() -> PeerId {
        AUTHORS[1].peer_id()
    }

    /// An empty store over `storage`.
    pub fn over(storage: impl Storage) -> Self {
        let limits = Limits::default().with_spaces_per_record(3).with_updates_per_space(3);
        let registry = Registry::empty()
            .with("sr", SpaceRules::new(limits, Open))
            .expect("a namespace")
            .with_fallback(AcceptAny::default());
        let config = StoreConfig::default()
            .with_max_records(MAX.count)
            .with_max_bytes(MAX.bytes)
            .with_max_record_bytes(1_800)
            .with_writer_quota(OF_WRITER)
            .with_protected_quota(OF_WRITER)
            .with_namespace_quota("any", OF_VALUES)
            .with_slice_bytes(700)
            .with_protected([AUTHORS[0].peer_id()]);
        let clock = ManualClock::at(now());
        let store =
            SmartRecordStore::with_storage(Self::local(), registry, config, storage, clock.clone())
                .expect("memory is anyone's");
        Self { store, clock }
    }

    /// Runs a step.
    pub fn run(&mut self, step: &Step) {
        let put = |number, value, secs: u64| {
            let mut record = kad::Record::new(kad::RecordKey::new(&key(number)), value);
            record.expires = Some(Instant::now() + Duration::from_secs(secs));
            record
        };
        match step {
            Step::Board { key: number, said } => {
                let (public_key, update) = said.sign(&key(*number));
                let space = forge::Space { public_key, updates: vec![update] };
                let value = forge::encode([space]);
                self.store.put(put(*number, value, 3_600)).expect("a remote PUT never fails");
            }
            Step::Packed { key: number, said, packed } => {
                let signed = said.each_ref().map(|said| said.sign(&key(*number)));
                let value = packed.encode(&signed);
                self.store.put(put(*number, value, 3_600)).expect("a remote PUT never fails");
            }
            Step::Value { key: number, bytes, secs, is_local } => {
                let secs = 60 * u64::from(*secs);
                let mut record = put(*number, vec![7; 4 * usize::from(*bytes)], secs);
                record.publisher = is_local.then(Self::local);
                let _ = self.store.put(record);
            }
            Step::Remove(number) => self.store.remove(&libp2p_kad::RecordKey::new(&key(*number))),
            Step::Forget(number) => {
                self.store.forget(&key(*number)).expect("memory does not fail");
                assert!(self.store.get(&libp2p_kad::RecordKey::new(&key(*number))).is_none());
            }
            Step::Wait(secs) => self.clock.advance(Duration::from_secs((*secs).into())),
            Step::Collect => drop(self.store.collect().expect("memory does not fail")),
        }
    }

    /// Checks the invariants.
    pub fn check(&self) {
        let store = &self.store;
        let (usage, now) = (store.usage(), self.clock.now());
        assert!(usage.records <= MAX.count && usage.bytes <= MAX.bytes, "{usage:?}");
        let tallies = ["sr", "any"].map(|name| store.namespace_usage(name).expect("a tally"));
        assert_eq!(tallies.iter().map(|tally| tally.count).sum::<u64>(), usage.records as u64);
        assert_eq!(tallies.iter().map(|tally| tally.bytes).sum::<u64>(), usage.bytes as u64);
        assert!(is_within(tallies[1], OF_VALUES), "{tallies:?}");
        for author in &*AUTHORS {
            let tally = store.writer_usage(&author.peer_id()).expect("a tally");
            assert!(is_within(tally, OF_WRITER), "{tally:?}");
        }
        for key in (0..8).map(key) {
            if let Some(answer) = store.get(&kad::RecordKey::new(&key)) {
                store.registry().validate(&key, &answer.value, now).expect("a valid answer");
            }
            let Some(record) = store.record(&key).expect("memory does not fail") else {
                continue;
            };
            store.registry().validate(&key, &record.encode(), now).expect("a valid record");
            assert_eq!(store.view(&key).expect("memory does not fail"), record.view(now));
        }
        for record in store.records() {
            let key = RecordKey::new(record.key.to_vec());
            store.registry().validate(&key, &record.value, now).expect("a valid record");
        }
    }
}

fn is_within(tally: Tally, quota: Quota) -> bool {
    tally.count <= quota.count as u64 && tally.bytes <= quota.bytes as u64
}
