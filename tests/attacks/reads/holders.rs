//! Holders of a board, honest and not, and a reader that asks them as Kademlia does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{
    GetRecordOk, KBucketKey, PeerRecord, Record, RecordKey as KadKey, store::RecordStore,
};
use libp2p_smart_record::{
    Coverage, Dict, Limits, Position, RecordKey, Registry, RingArc, SmartRecord, SpaceSigner,
    Timestamp, Writer,
    query::{ReadStep, Reading, RecordReader},
    store::{
        Asker, MemoryStorage, Origin, SmartRecordStore, StoreConfig, ValidatedRecord, WriteError,
    },
};
use smart_record_testing::ManualClock;

pub const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub const HOUR: Duration = Duration::from_secs(3_600);

/// A stream of numbers from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn keypair(number: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

pub fn peer(number: u64) -> PeerId {
    keypair(number).public().to_peer_id()
}

/// A space of these updates, each with so many bytes of text.
pub fn space(key: &RecordKey, keypair: Keypair, updates: &[usize]) -> SmartRecord {
    let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
    signer.resume(&SmartRecord::new(key.clone()));
    let mut record = SmartRecord::new(key.clone());
    for (n, bytes) in updates.iter().enumerate() {
        let document: Dict = [(format!("text {n}"), "x".repeat(*bytes))].into_iter().collect();
        let update = signer.merge(document, NOW, HOUR).unwrap();
        record.insert(signer.writer(), update).unwrap();
    }
    record
}

/// What a holder does when it is asked.
pub enum Kind {
    /// It has a store. `tells`: it knows who asks.
    Honest { store: Box<SmartRecordStore>, tells: bool },
    /// It shows one space and says that this is all.
    ClaimsAll(SmartRecord),
    /// It shows one space again and again, and says that it has 1,024.
    ClaimsMany(SmartRecord),
    /// It has no record.
    Empty,
}

pub struct Holder {
    pub peer: PeerId,
    pub kind: Kind,
    pub requests: usize,
    pub has_answered: bool,
    /// What it has had since the read began.
    pub throughout: BTreeSet<(Writer, Position)>,
}

impl Holder {
    pub fn new(peer: PeerId, kind: Kind) -> Self {
        Self { peer, kind, requests: 0, has_answered: false, throughout: BTreeSet::new() }
    }

    pub fn honest(number: u64, tells: bool) -> Self {
        Self::within(Registry::default(), StoreConfig::default(), number, tells)
    }

    /// An honest holder with these limits.
    pub fn within(registry: Registry, config: StoreConfig, number: u64, tells: bool) -> Self {
        let peer = peer(number);
        let (storage, clock) = (MemoryStorage::default(), ManualClock::at(NOW));
        let store = SmartRecordStore::with_storage(peer, registry, config, storage, clock).unwrap();
        Self::new(peer, Kind::Honest { store: Box::new(store), tells })
    }

    pub fn store(&mut self) -> Option<&mut SmartRecordStore> {
        match &mut self.kind {
            Kind::Honest { store, .. } => Some(store),
            _ => None,
        }
    }

    /// Gives it spaces that were validated before.
    pub fn give(&mut self, spaces: impl IntoIterator<Item = ValidatedRecord>) {
        if let Some(store) = self.store() {
            for space in spaces {
                // A full record may have no place for it.
                let stored = store.insert(space, Origin::Remote);
                assert!(matches!(stored, Ok(_) | Err(WriteError::Refused(_))), "{stored:?}");
            }
        }
    }

    /// What it has under a key.
    pub fn holds(&mut self, key: &RecordKey) -> BTreeSet<(Writer, Position)> {
        let record = self.store().and_then(|store| store.record(key).unwrap());
        record.map(|record| updates(&record)).unwrap_or_default()
    }

    /// What it says to the reader.
    fn answer(&mut self, key: &RecordKey, asker: PeerId) -> Option<Record> {
        self.requests += 1;
        self.has_answered = true;
        self.says(key, asker)
    }

    /// What it says to a peer.
    pub fn says(&mut self, key: &RecordKey, asker: PeerId) -> Option<Record> {
        let said = |record: &SmartRecord, coverage: &Coverage| {
            let mut value = record.encode();
            coverage.append_to(&mut value);
            Record::new(KadKey::new(key), value)
        };
        match &mut self.kind {
            Kind::Honest { store, tells } => {
                store.asked_by(tells.then(|| Asker::new(asker, None)));
                let answer = store.get(&KadKey::new(key)).map(|record| record.into_owned());
                store.asked_by(None);
                answer
            }
            Kind::ClaimsAll(record) => {
                Some(said(record, &Coverage::new([RingArc::RING], 1, record.digest(NOW))))
            }
            Kind::ClaimsMany(record) => Some(said(record, &Coverage::new([], 1_024, [0xff; 32]))),
            Kind::Empty => None,
        }
    }
}

pub fn updates(record: &SmartRecord) -> BTreeSet<(Writer, Position)> {
    let of = |(writer, space): (&Writer, &libp2p_smart_record::Space)| {
        space.updates().map(|update| (writer.clone(), update.position())).collect::<Vec<_>>()
    };
    record.spaces().flat_map(of).collect()
}

/// Reads from all holders, round by round, as a reader over queries of Kademlia does. `between` is
/// called before each round. Returns the reading and the number of rounds.
pub fn read(
    key: &RecordKey,
    asker: PeerId,
    complete_at: usize,
    holders: &mut [Holder],
    between: impl FnMut(usize, &mut [Holder]) -> BTreeSet<usize>,
) -> (Reading, usize) {
    read_within(&Registry::default(), key, asker, complete_at, holders, between)
}

/// As [`read`], with these limits.
pub fn read_within(
    registry: &Registry,
    key: &RecordKey,
    asker: PeerId,
    complete_at: usize,
    holders: &mut [Holder],
    mut between: impl FnMut(usize, &mut [Holder]) -> BTreeSet<usize>,
) -> (Reading, usize) {
    let mut reader = RecordReader::new(registry, key.clone())
        .unwrap()
        .for_peer(&asker)
        .with_complete_at(complete_at);
    let target = KBucketKey::new(KadKey::new(key));
    for round in 1.. {
        let lost = between(round, holders);
        let mut empty = BTreeMap::new();
        for (n, holder) in holders.iter_mut().enumerate().filter(|(n, _)| !lost.contains(n)) {
            match holder.answer(key, asker) {
                Some(record) => {
                    let found = PeerRecord { peer: Some(holder.peer), record };
                    let step = reader.on_progress(&Ok(GetRecordOk::FoundRecord(found)), false, NOW);
                    assert_eq!(step, ReadStep::Wait, "holder {n}");
                }
                None => {
                    empty.insert(KBucketKey::from(holder.peer).distance(&target), holder.peer);
                }
            }
        }
        let end = GetRecordOk::FinishedWithNoAdditionalRecord { cache_candidates: empty };
        if reader.on_progress(&Ok(end), true, NOW) == ReadStep::Finish {
            return (reader.into_reading(NOW), round);
        }
    }
    unreachable!("the rounds are bounded")
}
