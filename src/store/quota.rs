//! Quotas: who is charged for a row, and who is protected from eviction.
//!
//! Each row is charged to the namespace of its key. A space is also charged to its writer, and a
//! value that the local node wrote to the local peer. The head of a record holds the counts of its
//! spaces.
//!
//! **Invariants.** Tallies change in the same step as the rows that they count, so they always
//! match a scan (`tests/store/tallies.rs`), except that a row that was damaged on disk stays
//! charged. A writer is charged only for what it signed.
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::{BTreeMap, BTreeSet};

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::{
    SmartRecordStore, StorageError,
    config::{Quota, StoreConfig},
    rows,
    storage::{Change, PartId, RecordId, SpaceId, Storage, Tally, TallyId},
};
use crate::proto::storage::Value;
use smart_record_core::{LimitExceeded, RecordKey};

/// The protected writers: the local peer and those that the user has listed.
#[derive(Debug)]
pub(super) struct Protection {
    local: PeerId,
    writers: BTreeSet<PeerId>,
    /// A hash of the list and of how spaces are counted.
    pub(super) fingerprint: u64,
}

impl Protection {
    pub(super) fn new(local: PeerId, writers: &BTreeSet<PeerId>) -> Self {
        // Heads that were written before withdrawn spaces were counted have other fingerprints.
        let mut hash = Sha256::new().chain_update("withdrawn");
        for writer in writers {
            hash.update(writer.to_bytes());
        }
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        let fingerprint = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { local, writers: writers.clone(), fingerprint }
    }

    pub(super) fn covers(&self, writer: &PeerId) -> bool {
        *writer == self.local || self.writers.contains(writer)
    }
}

impl TallyId {
    fn of(kind: &str, name: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(id)
    }

    /// The tally of a writer: the spaces that it signed. That of the local peer also counts the
    /// values of other kinds that the local node wrote.
    pub fn writer(writer: &PeerId) -> Self {
        Self::of("writer", &writer.to_bytes())
    }

    /// The tally of a namespace: counts records, and the bytes of all their parts.
    pub fn namespace(namespace: &str) -> Self {
        Self::of("namespace", namespace.as_bytes())
    }
}

/// The tallies that a row is charged to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChargedTallies {
    pub(super) writer: Option<TallyId>,
    pub(super) namespace: Option<TallyId>,
}

impl ChargedTallies {
    /// The tallies of a space. Its writer is not known if its row is damaged.
    pub(super) fn of_space(namespace: Option<TallyId>, writer: Option<&PeerId>) -> Self {
        Self { writer: writer.map(TallyId::writer), namespace }
    }
}

/// The tally of a key's namespace, if the key has one.
pub(super) fn namespace_tally(key: &RecordKey) -> Option<TallyId> {
    key.namespace().map(TallyId::namespace)
}

/// The effect of a plan on tallies: count and bytes.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<TallyId, (i64, i64)>);

impl Ledger {
    pub(super) fn charge(&mut self, id: PartId, bytes: usize, charged: ChargedTallies) {
        self.add(id, (1, as_i64(rows::cost(bytes))), charged);
    }

    pub(super) fn refund(&mut self, id: PartId, bytes: usize, charged: ChargedTallies) {
        self.add(id, (-1, as_i64(rows::cost(bytes)).saturating_neg()), charged);
    }

    fn add(&mut self, id: PartId, (count, bytes): (i64, i64), charged: ChargedTallies) {
        // A namespace counts records, a writer rows.
        let records = if id.space == SpaceId::HEAD { count } else { 0 };
        for (tally, count) in [(charged.writer, count), (charged.namespace, records)] {
            if let Some(tally) = tally {
                let delta = self.0.entry(tally).or_default();
                *delta = (delta.0.saturating_add(count), delta.1.saturating_add(bytes));
            }
        }
    }

    /// A tally after the plan, and whether the plan increases its count and its bytes.
    pub(super) fn after(
        &self,
        storage: &dyn Storage,
        id: &TallyId,
    ) -> Result<(Tally, [bool; 2]), StorageError> {
        let (count, bytes) = self.0.get(id).copied().unwrap_or_default();
        Ok((changed(storage.tally(id)?, (count, bytes)), [count > 0, bytes > 0]))
    }

    pub(super) fn changes(self, storage: &dyn Storage) -> Result<Vec<Change>, StorageError> {
        let deltas = self.0.into_iter().filter(|(_, delta)| *delta != (0, 0));
        deltas.map(|(id, by)| Ok(Change::Tally(id, changed(storage.tally(&id)?, by)))).collect()
    }
}

fn changed(tally: Tally, (count, bytes): (i64, i64)) -> Tally {
    Tally {
        count: tally.count.saturating_add_signed(count),
        bytes: tally.bytes.saturating_add_signed(bytes),
    }
}

fn as_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The writer, namespace and quotas a write is charged to.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub(super) record: RecordId,
    pub(super) charged: ChargedTallies,
    /// The quota of the writer.
    pub(super) writer_quota: Quota,
    pub(super) namespace_quota: Option<(String, Quota)>,
    /// Whether records are evicted for it whatever their share is.
    pub(super) is_protected: bool,
}

impl Charge {
    /// The quota of the writer that the plan exceeds and makes worse, if any.
    pub(super) fn writer_refusal(
        &self,
        storage: &dyn Storage,
        ledger: &Ledger,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let Some(writer) = &self.charged.writer else {
            return Ok(None);
        };
        let (tally, [more_spaces, more_bytes]) = ledger.after(storage, writer)?;
        let Quota { count, bytes } = self.writer_quota;
        let spaces = more_spaces.then_some((StoreConfig::WRITER_SPACES, tally.count, count));
        let bytes = more_bytes.then_some((StoreConfig::WRITER_BYTES, tally.bytes, bytes));
        let refusals = [spaces, bytes].into_iter().flatten();
        let mut refusals = refusals.map(|(limit, got, max)| {
            let max = u64::try_from(max).unwrap_or(u64::MAX);
            (got > max).then_some(LimitExceeded { limit, got: Some(got), max })
        });
        Ok(refusals.find_map(|refusal| refusal))
    }
}

impl SmartRecordStore {
    /// The charge of a write to a record. Without a writer it is a value that another peer wrote.
    pub(super) fn charge(&self, key: &RecordKey, writer: Option<&PeerId>) -> Charge {
        let is_protected = writer.is_some_and(|writer| self.table.protection.covers(writer));
        let quota = |name| Some((String::from(name), self.config.namespace_quota(name)?));
        Charge {
            record: self.table.record_id(key),
            charged: ChargedTallies::of_space(namespace_tally(key), writer),
            writer_quota: match is_protected {
                true => self.config.protected_quota(),
                false => self.config.writer_quota(),
            },
            namespace_quota: key.namespace().and_then(quota),
            is_protected,
        }
    }

    /// The charge of a value: of the local peer if the local node wrote it.
    pub(super) fn value_charge(&self, key: &RecordKey, value: &Value) -> Charge {
        self.charge(key, value.is_local.then_some(&self.table.local))
    }

    /// How much a writer has stored here: its spaces. For the local peer this includes the values
    /// that the local node wrote.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn writer_usage(&self, writer: &PeerId) -> Result<Tally, StorageError> {
        self.table.storage.tally(&TallyId::writer(writer))
    }

    /// How much is stored under a namespace: records, and the bytes of all their parts.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn namespace_usage(&self, namespace: &str) -> Result<Tally, StorageError> {
        self.table.storage.tally(&TallyId::namespace(namespace))
    }
}
