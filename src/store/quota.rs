//! Quotas: who is charged for a row, and who is spared when room is made.
//!
//! Each row is charged to the namespace of its key; a space also to its writer, and a value that the local node
//! wrote to the local peer. What a record holds stands in its head.
//!
//! **Invariants.** Tallies change in the same step as the rows that they count, so they are what a scan would
//! give, whatever happened (`tests/store/tallies.rs`); only a row that was damaged on disk stays charged. A writer
//! is charged for what it signed and nothing else.
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

/// The writers whose spaces are kept before all others: the local peer and those that the user has listed.
#[derive(Debug)]
pub(super) struct Protection {
    local: PeerId,
    writers: BTreeSet<PeerId>,
    /// Of the list; zero if it is empty.
    pub(super) fingerprint: u64,
}

impl Protection {
    pub(super) fn new(local: PeerId, writers: &BTreeSet<PeerId>) -> Self {
        let mut hash = Sha256::new();
        for writer in writers {
            hash.update(writer.to_bytes());
        }
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        let fingerprint = match writers.is_empty() {
            true => 0,
            false => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        };
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

    /// Of what a writer has stored: the spaces that it signed, and of the local peer also the values of other
    /// kinds that it wrote.
    pub fn writer(writer: &PeerId) -> Self {
        Self::of("writer", &writer.to_bytes())
    }

    /// Of a namespace: counts records, and the bytes of all their parts.
    pub fn namespace(namespace: &str) -> Self {
        Self::of("namespace", namespace.as_bytes())
    }
}

/// Who is charged for a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Payers {
    pub(super) writer: Option<TallyId>,
    pub(super) namespace: Option<TallyId>,
}

impl Payers {
    /// Those of a space; its writer is not known if its row is damaged.
    pub(super) fn of_space(namespace: Option<TallyId>, writer: Option<&PeerId>) -> Self {
        Self { writer: writer.map(TallyId::writer), namespace }
    }
}

/// The tally's id of a key's namespace, if it has one.
pub(super) fn namespace_tally(key: &RecordKey) -> Option<TallyId> {
    key.namespace().map(TallyId::namespace)
}

/// What a plan does to tallies: count and bytes.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<TallyId, (i64, i64)>);

impl Ledger {
    pub(super) fn charge(&mut self, id: PartId, bytes: usize, payers: Payers) {
        self.add(id, (1, as_i64(rows::cost(bytes))), payers);
    }

    pub(super) fn refund(&mut self, id: PartId, bytes: usize, payers: Payers) {
        self.add(id, (-1, as_i64(rows::cost(bytes)).saturating_neg()), payers);
    }

    fn add(&mut self, id: PartId, (count, bytes): (i64, i64), payers: Payers) {
        // A namespace counts records, a writer rows.
        let records = if id.space == SpaceId::HEAD { count } else { 0 };
        for (tally, count) in [(payers.writer, count), (payers.namespace, records)] {
            if let Some(tally) = tally {
                let delta = self.0.entry(tally).or_default();
                *delta = (delta.0.saturating_add(count), delta.1.saturating_add(bytes));
            }
        }
    }

    /// What a tally will be, and whether that is more, in count and bytes.
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

/// Who wants room, and where.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) record: RecordId,
    pub(super) payers: Payers,
    /// The payers' bounds.
    pub(super) writer_quota: Quota,
    pub(super) namespace_quota: Option<(String, Quota)>,
    /// Whether others make room for it however near they are.
    pub(super) is_protected: bool,
}

impl Claim {
    /// Why its writer may not have this much, if it is more than it had.
    pub(super) fn writer_refusal(
        &self,
        storage: &dyn Storage,
        ledger: &Ledger,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let Some(writer) = &self.payers.writer else {
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
    /// A writer's claim to a record; without a writer, that of a value that somebody else brings.
    pub(super) fn claim(&self, key: &RecordKey, writer: Option<&PeerId>) -> Claim {
        let is_protected = writer.is_some_and(|writer| self.table.protection.covers(writer));
        let quota = |name| Some((String::from(name), self.config.namespace_quota(name)?));
        Claim {
            record: self.table.record_id(key),
            payers: Payers::of_space(namespace_tally(key), writer),
            writer_quota: match is_protected {
                true => self.config.protected_quota(),
                false => self.config.writer_quota(),
            },
            namespace_quota: key.namespace().and_then(quota),
            is_protected,
        }
    }

    /// The claim of a value: of the local peer, if the local node wrote it.
    pub(super) fn value_claim(&self, key: &RecordKey, value: &Value) -> Claim {
        self.claim(key, value.is_local.then_some(&self.table.local))
    }

    /// How much a writer has stored here: spaces, and of the local peer also values that the local node wrote.
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
