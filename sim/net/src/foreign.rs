//! Nodes that are not ours: Kademlia over a store that keeps the last PUT, or that lies.
//!
//! Requests and answers are those of `libp2p-kad`, so a liar names the peers that it knows. What it
//! says of records is forged.

use std::{borrow::Cow, collections::BTreeMap};

use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad, ProviderRecord, Record,
    store::{MemoryStore, RecordStore, Result},
};
use libp2p_smart_record::{
    Clock, Coverage, Limits, RecordKey, RingArc, SmartRecord, store::StoreConfig,
};

use crate::node::SkewedClock;

/// What a node says of records that is not true. All acknowledge what they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// It keeps nothing, and answers that it has nothing.
    Denies,
    /// It shows every other space, and claims that these are all.
    Withholds,
    /// It shows of each space what it was sent first, and claims that this is all.
    RollsBack,
    /// It shows one space, and claims that it has a thousand.
    Boasts,
}

/// The store of a node that is not ours.
pub(crate) struct ForeignStore {
    /// The last PUT of each key, unless it lies, and providers.
    rows: MemoryStore,
    lie: Option<Lie>,
    /// What a liar has.
    records: BTreeMap<RecordKey, SmartRecord>,
    clock: SkewedClock,
    slice_bytes: usize,
}

impl ForeignStore {
    /// An empty store, of a node that keeps the last PUT if it does not lie.
    pub(crate) fn new(
        local: PeerId,
        lie: Option<Lie>,
        clock: SkewedClock,
        config: &StoreConfig,
    ) -> Self {
        Self {
            rows: MemoryStore::new(local),
            lie,
            records: BTreeMap::new(),
            clock,
            slice_bytes: config.slice_bytes(),
        }
    }

    /// The last PUT of a key, of a node that does not lie.
    pub(crate) fn last_put(&self, key: &RecordKey) -> Option<SmartRecord> {
        let row = self.rows.get(&kad::RecordKey::new(key))?;
        SmartRecord::decode(key, row.value.clone(), &Limits::default()).ok()
    }

    /// The answer of a liar.
    fn forge(&self, lie: Lie, key: &kad::RecordKey) -> Option<Record> {
        let now = self.clock.now();
        let known = self.records.get(&record_key(key))?;
        let mut shown = SmartRecord::new(known.key().clone());
        let spaces = match lie {
            Lie::Denies => return None,
            Lie::Withholds => known.spaces().step_by(2),
            Lie::RollsBack => known.spaces().step_by(1),
            Lie::Boasts => known.spaces().step_by(usize::MAX),
        };
        for (writer, space) in spaces {
            shown.join_space(writer.clone(), space.clone());
        }
        let coverage = match lie {
            Lie::Boasts => Coverage::new([], 1_000, [0xff; 32]),
            _ => {
                let count = shown.spaces().len() as u32;
                Coverage::new([RingArc::RING], count, shown.digest(now))
            }
        };
        // As much as a slice of ours has; what does not fit is claimed all the same.
        let mut value = shown.chunks(self.slice_bytes).next()?;
        coverage.append_to(&mut value);
        Some(Record::new(key.clone(), value))
    }
}

fn record_key(key: &kad::RecordKey) -> RecordKey {
    RecordKey::new(key.to_vec())
}

impl RecordStore for ForeignStore {
    type RecordsIter<'a> = <MemoryStore as RecordStore>::RecordsIter<'a>;
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, Record>> {
        match self.lie {
            None => self.rows.get(key),
            Some(lie) => self.forge(lie, key).map(Cow::Owned),
        }
    }

    fn put(&mut self, record: Record) -> Result<()> {
        let Some(lie) = self.lie else { return self.rows.put(record) };
        let key = record_key(&record.key);
        let Ok(sent) = SmartRecord::decode(&key, record.value, &Limits::default()) else {
            return Ok(());
        };
        let now = self.clock.now();
        let known = self.records.entry(key.clone()).or_insert_with(|| SmartRecord::new(key));
        known.collect(now);
        for (writer, space) in sent.spaces() {
            if lie != Lie::RollsBack || known.space(writer).is_none() {
                known.join_space(writer.clone(), space.clone());
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &kad::RecordKey) {
        self.rows.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.rows.records()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        self.rows.add_provider(record)
    }

    fn providers(&self, key: &kad::RecordKey) -> Vec<ProviderRecord> {
        self.rows.providers(key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.rows.provided()
    }

    fn remove_provider(&mut self, key: &kad::RecordKey, provider: &PeerId) {
        self.rows.remove_provider(key, provider);
    }
}
