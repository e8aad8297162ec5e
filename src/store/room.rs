//! Making room for writes: a row is written if it fits, or after evicting others.
//!
//! A write is planned against the stored rows, then the records to evict for it are chosen, then
//! all of it is applied in one step. Expired data is collected before anything is evicted, and the
//! write is planned again.
//!
//! **Invariants.** Nothing is changed before there is room for the whole plan, and evictions are
//! applied in the same step. Expired data goes first. Then unprotected data of records farther from
//! the local peer than the written one is evicted, the farthest first; for a protected writer, of
//! all records. In a record with too many spaces or bytes, the unprotected spaces of the highest
//! ranks are evicted. A write that would be evicted itself is refused, a new space before its
//! signature is checked. A write that does not grow always fits.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".

use bytes::Bytes;

use super::{
    SmartRecordStore, StorageError, StoreConfig,
    candidates::CandidateKind,
    plan::WritePlan,
    quota::{Charge, ChargedTallies, Ledger},
    rows,
    storage::{Part, PartId, RecordId, SpaceId},
};
use smart_record_core::{Limit, LimitExceeded, RecordKey, Timestamp};

/// How many due parts are collected in one step when room is needed.
const COLLECT_AT_ONCE: usize = 256;

/// How many such steps one write takes. The next write continues.
const BATCHES_PER_WRITE: usize = 4;

/// How many records one write evicts because the store was over its bounds before it.
const SHED_PER_WRITE: usize = 16;
/// After how many evicted bytes it stops, because some records are large.
const SHED_BYTES: usize = 256 * 1_024;

/// A row to be written: a space, or the head of a value.
pub(super) struct PlannedRow<'a> {
    pub(super) key: &'a RecordKey,
    pub(super) id: PartId,
    pub(super) part: Part<'static>,
    /// What the write is charged to.
    pub(super) charge: &'a Charge,
    /// How many spaces the record may have.
    pub(super) max_spaces: usize,
}

/// A plan with the records to evict for it, or the bound that forbids it.
type Planned = Result<(WritePlan, Vec<RecordId>), LimitExceeded>;

impl SmartRecordStore {
    /// Evicts some of the data beyond the bounds of the store, or of the namespace that is written
    /// to. Such data exists if the bounds were wider when the store was opened before. The record
    /// that is written to stays.
    pub(super) fn shed(&mut self, key: &RecordKey, now: Timestamp) -> Result<(), StorageError> {
        let usage = self.usage();
        let is_over =
            usage.bytes > self.config.max_bytes() || usage.records > self.config.max_records();
        if !is_over && key.namespace().is_none_or(|n| self.config.namespace_quota(n).is_none()) {
            return Ok(());
        }
        // Everything is evicted for the local peer.
        let charge = self.charge(key, Some(&self.table.local));
        if self.excess_kind(&charge)?.is_some()
            && !self.table.storage.due(now, 1)?.is_empty()
            && self.collect_due(now, COLLECT_AT_ONCE)? > 0
        {
            return Ok(());
        }
        for _ in 0..SHED_PER_WRITE {
            let Some(kind) = self.excess_kind(&charge)? else {
                return Ok(());
            };
            let Some(candidate) = self.candidates.next(&self.table, &charge, &kind, None)? else {
                return Ok(());
            };
            self.evict_and_apply(&charge, WritePlan::default(), vec![candidate.record])?;
            if usage.bytes.saturating_sub(self.usage().bytes) >= SHED_BYTES {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the store, or the namespace, has too much of, if anything.
    fn excess_kind(&self, charge: &Charge) -> Result<Option<CandidateKind>, StorageError> {
        let usage = self.usage();
        let has_too_many_bytes = usage.bytes > self.config.max_bytes();
        if has_too_many_bytes || usage.records > self.config.max_records() {
            return Ok(Some(CandidateKind { namespace: None, only_whole: !has_too_many_bytes }));
        }
        let (Some((name, quota)), Some(tally)) =
            (&charge.namespace_quota, &charge.charged.namespace)
        else {
            return Ok(None);
        };
        let tally = self.table.storage.tally(tally)?;
        let exceeds = |got: u64, max: usize| usize::try_from(got).unwrap_or(usize::MAX) > max;
        let has_too_many_bytes = exceeds(tally.bytes, quota.bytes);
        Ok((has_too_many_bytes || exceeds(tally.count, quota.count)).then(|| CandidateKind {
            namespace: Some(name.clone()),
            only_whole: !has_too_many_bytes,
        }))
    }

    /// Why a new space of at least this size cannot be stored, if so.
    pub(super) fn newcomer_refusal(
        &mut self,
        newcomer: PlannedRow<'_>,
        now: Timestamp,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let PlannedRow { id, ref part, charge, max_spaces, .. } = newcomer;
        let least = part.bytes.len();
        let cost = rows::cost(least);
        let board = self.table.board(id.record)?;
        let usage = self.usage();
        let mut is_roomy = charge.namespace_quota.is_none()
            && board.open_cost().saturating_add(cost) <= self.config.max_record_bytes()
            && (board.spaces > 0 || usage.records < self.config.max_records())
            && usage.bytes.saturating_add(cost.saturating_mul(2)) <= self.config.max_bytes();
        if is_roomy && board.open_spaces() >= max_spaces && !charge.is_protected {
            // If only the number of spaces is reached, one may be evicted for it.
            let last = self.candidates.next_open_space(&self.table, id.record, &board, None)?;
            is_roomy = last.is_some_and(|last| last > id.space);
        }
        if is_roomy {
            let mut ledger = Ledger::default();
            ledger.charge(id, least, charge.charged);
            if charge.writer_refusal(&*self.table.storage, &ledger)?.is_none() {
                return Ok(None);
            }
        }
        // The result is the same as for the real space or better, since this one is smaller.
        Ok(self.make_room(&newcomer, now)?.err())
    }

    /// Writes a row, or returns the bound that forbids it.
    pub(super) fn put_row(
        &mut self,
        wanted: &PlannedRow<'_>,
        now: Timestamp,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        match self.make_room(wanted, now)? {
            Ok((plan, candidates)) => self.evict_and_apply(wanted.charge, plan, candidates).map(Ok),
            Err(limit) => Ok(Err(limit)),
        }
    }

    /// Plans a row. Collects expired data before anything is evicted for it.
    pub(super) fn make_room(
        &mut self,
        wanted: &PlannedRow<'_>,
        now: Timestamp,
    ) -> Result<Planned, StorageError> {
        let mut planned = self.plan(wanted, false)?;
        for _ in 0..BATCHES_PER_WRITE {
            let displaces_nothing = planned
                .as_ref()
                .is_ok_and(|(plan, candidates)| candidates.is_empty() && plan.evicted_spaces == 0);
            if displaces_nothing || self.table.storage.due(now, 1)?.is_empty() {
                break;
            }
            let collected = self.collect_due(now, COLLECT_AT_ONCE)?;
            // Even if nothing was due: invalid rows may have been removed.
            planned = self.plan(wanted, false)?;
            if collected == 0 {
                break;
            }
        }
        if planned.is_err() && wanted.charge.is_protected {
            return self.plan(wanted, true);
        }
        Ok(planned)
    }

    /// Plans a row with the evictions it needs. With `clears`, all unprotected spaces of its record
    /// are evicted.
    fn plan(&mut self, wanted: &PlannedRow<'_>, clears: bool) -> Result<Planned, StorageError> {
        let planned = match wanted.id.space {
            SpaceId::HEAD => Ok(self.plan_value(wanted)?),
            _ => self.plan_space(wanted, clears)?,
        };
        match planned {
            Ok(plan) => {
                let candidates =
                    self.candidates.for_plan(&self.table, &self.config, wanted.charge, &plan)?;
                Ok(candidates.map(|candidates| (plan, candidates)))
            }
            Err(limit) => Ok(Err(limit)),
        }
    }

    fn plan_value(&self, wanted: &PlannedRow<'_>) -> Result<WritePlan, StorageError> {
        let mut plan = WritePlan::default();
        let old = self.table.head_cost(wanted.id.record)?;
        plan.is_new_record = old.is_none();
        plan.set(wanted.id, wanted.part.clone(), old, wanted.charge.charged);
        Ok(plan)
    }

    /// Plans the write of a space: its row, the head, and the eviction of the spaces of the highest
    /// ranks if the record has too many; with `clears`, of all unprotected spaces.
    fn plan_space(
        &mut self,
        wanted: &PlannedRow<'_>,
        clears: bool,
    ) -> Result<Result<WritePlan, LimitExceeded>, StorageError> {
        let PlannedRow { key, id, ref part, charge, max_spaces } = *wanted;
        let mut plan = WritePlan::default();
        let mut board = self.table.board(id.record)?;
        let old = self.table.storage.get(&id)?.map(|part| part.bytes.len());
        let grows = old.is_none_or(|old| old < part.bytes.len());
        if let Some(old) = old {
            board.subtract(old, charge.is_protected);
        }
        board.add(part.bytes.len(), charge.is_protected);
        plan.set(id, part.clone(), old.map(|old| (old, charge.charged)), charge.charged);

        let max_bytes = self.config.max_record_bytes();
        let mut below = None;
        loop {
            let (spaces, bytes) = (board.open_spaces(), board.open_cost());
            let excess = if spaces > max_spaces {
                Some(LimitExceeded::new(Limit::SPACES_PER_RECORD, spaces, max_spaces))
            } else if bytes > max_bytes {
                Some(LimitExceeded::new(StoreConfig::RECORD_BYTES, bytes, max_bytes))
            } else {
                None
            };
            // A protected space, or one that does not grow, evicts none by rank.
            let excess = excess.filter(|_| grows && !charge.is_protected);
            if excess.is_none() && !clears {
                break;
            }
            match (self.candidates.next_open_space(&self.table, id.record, &board, below)?, excess)
            {
                (Some(last), None) | (Some(last), Some(_)) if clears || last > id.space => {
                    let last = id.record.part(last);
                    below = Some(last.space);
                    if let Some(part) = self.table.storage.get(&last)? {
                        let (bytes, writer) = (part.bytes.len(), rows::peer_of(&part));
                        board.subtract(bytes, false);
                        let charged =
                            ChargedTallies::of_space(charge.charged.namespace, writer.as_ref());
                        plan.remove(last, bytes, charged);
                        plan.evicted_spaces = plan.evicted_spaces.saturating_add(1);
                    }
                }
                (_, Some(limit)) => return Ok(Err(limit)),
                (_, None) => break,
            }
        }

        let old = self.table.head_cost(id.record)?;
        plan.is_new_record = old.is_none();
        let charged = ChargedTallies { writer: None, ..charge.charged };
        let key = Bytes::copy_from_slice(key.as_bytes());
        plan.set(id.record.head(), rows::board_part(key, board), old, charged);
        Ok(Ok(plan))
    }

    fn evict_and_apply(
        &mut self,
        charge: &Charge,
        mut plan: WritePlan,
        candidates: Vec<RecordId>,
    ) -> Result<(), StorageError> {
        let mut evicted = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            evicted.extend(self.table.plan_removal(*candidate, true, &mut plan)?);
        }
        let evicted_spaces = plan.evicted_spaces;
        let mut written: Vec<_> = plan
            .written()
            .filter(|id| id.record == charge.record && !charge.is_protected)
            .collect();
        self.apply(plan)?;
        let namespace = charge.namespace_quota.as_ref().map(|(name, _)| name.as_str());
        written.drain(..).for_each(|id| self.candidates.notice(id, namespace));
        self.news.count(|c| &mut c.spaces_evicted, evicted_spaces);
        for candidate in candidates {
            self.forget_places(candidate);
        }
        self.news.evicted(evicted);
        Ok(())
    }
}
