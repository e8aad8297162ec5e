//! Making room for writes: a row is written if it fits, or after evicting others.
//!
//! A write is planned against the stored rows, then the records to evict for it are chosen, then
//! all of it is applied in one step. Expired data is collected before anything is evicted, and the
//! write is planned again.
//!
//! **Invariants.** Nothing is changed before there is room for the whole plan, and evictions are
//! applied in the same step. Expired data goes first, as much of it as one write collects; a write
//! of another peer collects little, and leaves the rest to the alarm. Then records are evicted that
//! go before the written one ([`Shares`]); for a protected writer, any that are not protected. In a
//! record with too many spaces or bytes, the unprotected
//! spaces of the least work are evicted, and of equal work those of the highest ranks. Withdrawn
//! spaces have slots of their own, and of these the last that was first stored goes first. What is
//! evicted is remembered ([`EvictionMemory`]). A write that would be evicted itself is refused, a
//! new space before its signature is checked. A write that does not grow always fits.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".
//!
//! [`EvictionMemory`]: super::eviction_memory::EvictionMemory
//! [`Shares`]: super::shares::Shares

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    SmartRecordStore, StorageError, StoreConfig,
    plan::WritePlan,
    quota::{Charge, ChargedTallies, Ledger},
    record_candidates::CandidateKind,
    rows::{self, Place},
    source::{Arrival, Source},
    storage::{Part, PartId, RecordId, SpaceId},
};
use crate::proto::storage::Board;
use smart_record_core::{EvictionOrder, Limit, LimitExceeded, RecordKey, Timestamp};

/// How many due parts are collected in one step when room is needed.
const COLLECT_AT_ONCE: usize = 256;

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
    /// The slots that it takes in its record.
    pub(super) place: Place,
    /// If these are open ones, its place in the order of eviction; of a newcomer the one it claims.
    pub(super) order: EvictionOrder,
    /// How many spaces the record may have, and how many withdrawn ones.
    pub(super) max_spaces: usize,
    pub(super) max_withdrawn: usize,
    /// The source of the record, if it is new.
    pub(super) source: Source,
    /// The least number of bits of a stamp that counts in the order of eviction.
    pub(super) min_bits: u8,
    /// Whether it was evicted, and less is remembered of it than this row says.
    pub(super) adds_to_memory: bool,
    /// Whether it makes up for what is remembered of it.
    pub(super) returns: bool,
}

impl<'a> PlannedRow<'a> {
    /// The head of a value.
    pub(super) fn value(
        key: &'a RecordKey,
        record: RecordId,
        part: Part<'static>,
        charge: &'a Charge,
        source: Source,
    ) -> Self {
        Self {
            key,
            id: record.head(),
            part,
            charge,
            place: Place::Open,
            order: EvictionOrder::new(0, SpaceId::HEAD.0),
            max_spaces: 0,
            max_withdrawn: 0,
            source,
            min_bits: 0,
            adds_to_memory: false,
            returns: false,
        }
    }
}

/// New spaces of a record that are to be stored: how many, and their cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Newcomers {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Newcomers {
    pub(super) fn add(&mut self, bytes: usize) {
        self.count = self.count.saturating_add(1);
        self.grow(rows::cost(bytes));
    }

    /// Adds what a stored space may grow by.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
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
            && self.collect_for_room(now)? > 0
        {
            return Ok(());
        }
        for _ in 0..SHED_PER_WRITE {
            let Some(kind) = self.excess_kind(&charge)? else {
                return Ok(());
            };
            let none = BTreeMap::new();
            let Some(candidate) = self.records.next(&self.table, &charge, &kind, None, &none)?
            else {
                return Ok(());
            };
            let candidates = vec![candidate.record];
            self.evict_and_apply(&charge, WritePlan::default(), candidates)?;
            if usage.bytes.saturating_sub(self.usage().bytes) >= SHED_BYTES {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The exceeded bound of the store or the namespace, if any.
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
        if self.has_room_beside(&newcomer, Newcomers::default(), true)? {
            return Ok(None);
        }
        // The result is the same as for the real space or better, since this one is smaller.
        Ok(self.make_room(&newcomer, now)?.err())
    }

    /// Whether a new space of at least this size can be stored beside other new ones of its record
    /// and evicts nothing, or with `may_evict` at most one space of its record. A namespace with a
    /// quota is not looked at, and is taken to have no room.
    pub(super) fn has_room_beside(
        &mut self,
        newcomer: &PlannedRow<'_>,
        others: Newcomers,
        may_evict: bool,
    ) -> Result<bool, StorageError> {
        let PlannedRow { id, ref part, charge, place, order, max_spaces, max_withdrawn, .. } =
            *newcomer;
        let least = part.bytes.len();
        let bytes = others.bytes.saturating_add(rows::cost(least));
        let board = self.table.board(id.record)?;
        let usage = self.usage();
        let (taken, taken_bytes) = board.taken(place);
        let taken = taken.saturating_add(others.count);
        let is_roomy = charge.namespace_quota.is_none()
            && taken_bytes.saturating_add(bytes) <= self.config.max_record_bytes()
            && (board.spaces > 0 || usage.records < self.config.max_records())
            && usage.bytes.saturating_add(bytes.saturating_mul(2)) <= self.config.max_bytes()
            && (place != Place::Withdrawn || taken < max_withdrawn);
        if !is_roomy {
            return Ok(false);
        }
        if taken >= max_spaces && place == Place::Open {
            if !may_evict {
                return Ok(false);
            }
            // If only the number of spaces is reached, one may be evicted for it.
            let (table, candidates) = (&self.table, &mut self.candidates);
            let min_bits = newcomer.min_bits;
            let last = candidates.next_open_space(table, id.record, &board, None, min_bits)?;
            if last.is_none_or(|last| last <= order) {
                return Ok(false);
            }
        }
        let mut ledger = Ledger::default();
        ledger.charge(id, least, charge.charged);
        Ok(charge.writer_refusal(&*self.table.storage, &ledger)?.is_none())
    }

    /// Writes a row, or returns the bound that forbids it. A withdrawal without room removes what
    /// it withdraws all the same, and is remembered as if it had been evicted.
    pub(super) fn put_row(
        &mut self,
        wanted: &PlannedRow<'_>,
        now: Timestamp,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        let (mut plan, candidates, has_room) = match self.make_room(wanted, now)? {
            Ok((plan, candidates)) => (plan, candidates, true),
            Err(limit) => match self.plan_dismissal(wanted)? {
                Some(plan) => (plan, Vec::new(), false),
                None => return Ok(Err(limit)),
            },
        };
        let returns = wanted.returns && has_room;
        plan.returned = Some(wanted.id).filter(|_| returns);
        self.evict_and_apply(wanted.charge, plan, candidates)?;
        self.news.count(|c| &mut c.remembered_returned, usize::from(returns));
        if self.table.storage.get(&wanted.id.record.head())?.is_none() {
            self.forget_places(wanted.id.record);
        }
        if wanted.place == Place::Open && wanted.id.space != SpaceId::HEAD {
            self.notice_open(wanted.id.record, wanted.order);
        }
        Ok(Ok(()))
    }

    /// Plans a row. Collects expired data before anything is evicted for it.
    pub(super) fn make_room(
        &mut self,
        wanted: &PlannedRow<'_>,
        now: Timestamp,
    ) -> Result<Planned, StorageError> {
        let mut planned = self.plan(wanted, false)?;
        while self.may_collect > 0 {
            let displaces_nothing = planned
                .as_ref()
                .is_ok_and(|(plan, candidates)| candidates.is_empty() && plan.evicted_spaces == 0);
            if displaces_nothing || self.table.storage.due(now, 1)?.is_empty() {
                break;
            }
            let collected = self.collect_for_room(now)?;
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

    /// Collects as many due parts as the write still may, at most those of one step.
    fn collect_for_room(&mut self, now: Timestamp) -> Result<usize, StorageError> {
        let max = self.may_collect.min(COLLECT_AT_ONCE);
        self.may_collect = self.may_collect.saturating_sub(max);
        self.collect_due(now, max)
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
                let work = if wanted.place == Place::Open { wanted.order.work() } else { 0 };
                let candidates = self.records.for_plan(&self.table, wanted.charge, &plan, work)?;
                Ok(candidates.map(|candidates| (plan, candidates)))
            }
            Err(limit) => Ok(Err(limit)),
        }
    }

    fn plan_value(&self, wanted: &PlannedRow<'_>) -> Result<WritePlan, StorageError> {
        let mut plan = WritePlan::default();
        let old = self.table.head_cost(wanted.id.record)?;
        plan.is_new_record = old.is_none();
        plan.arrival = Arrival { at: wanted.part.stored_at, source: wanted.source };
        let old = old.map(|head| (head.bytes, head.charged));
        plan.set(wanted.id, wanted.part.clone(), old, wanted.charge.charged);
        Ok(plan)
    }

    /// Plans the write of a space: its row, the head, and the eviction of other spaces if the
    /// record has too many: those of the least work and the highest ranks, or the withdrawn ones
    /// that were stored last. With `clears`, all unprotected spaces are evicted.
    fn plan_space(
        &mut self,
        wanted: &PlannedRow<'_>,
        clears: bool,
    ) -> Result<Result<WritePlan, LimitExceeded>, StorageError> {
        let PlannedRow { id, ref part, charge, place, order, max_spaces, max_withdrawn, .. } =
            *wanted;
        let mut plan = WritePlan::default();
        let mut board = self.table.board(id.record)?;
        let old = self.table.storage.get(&id)?;
        let old = old.map(|part| (part.bytes.len(), self.table.place_of(&part)));
        if let Some((bytes, place)) = old {
            board.subtract(bytes, place);
        }
        board.add(part.bytes.len(), place);
        let old_charge = old.map(|(bytes, _)| (bytes, charge.charged));
        plan.set(id, part.clone(), old_charge, charge.charged);

        // A protected space, or one that does not grow, evicts none of its record.
        let grows = old.is_none_or(|(bytes, before)| bytes < part.bytes.len() || before != place);
        let grown = Some(place).filter(|_| grows);
        let mut below = None;
        loop {
            let excess = self.excess_of(&board, Place::Open, max_spaces);
            let excess = excess.filter(|_| grown == Some(Place::Open));
            if excess.is_none() && !clears {
                break;
            }
            let (table, candidates) = (&self.table, &mut self.candidates);
            let next =
                candidates.next_open_space(table, id.record, &board, below, wanted.min_bits)?;
            match (next, excess) {
                // The row that is written, as it was.
                (Some(last), _) if *last.rank() == id.space.0 => below = Some(last),
                (Some(last), _) if clears || last > order => {
                    below = Some(last);
                    let last = id.record.part(SpaceId(*last.rank()));
                    let keeps_withdrawal = (!clears).then_some(max_withdrawn);
                    self.plan_eviction(last, keeps_withdrawal, charge, &mut board, &mut plan)?;
                }
                (_, Some(limit)) => return Ok(Err(limit)),
                (_, None) => break,
            }
        }
        let mut passed = BTreeSet::from([id.space]);
        loop {
            let excess = self.excess_of(&board, Place::Withdrawn, max_withdrawn);
            let excess = excess.filter(|_| grown == Some(Place::Withdrawn));
            if excess.is_none() && !clears {
                break;
            }
            match self.candidates.last_withdrawn(&self.table, id.record, &passed)? {
                Some((stored_at, last)) if clears || stored_at > part.stored_at => {
                    passed.insert(last);
                    let last = id.record.part(last);
                    self.plan_eviction(last, None, charge, &mut board, &mut plan)?;
                }
                _ => match excess {
                    Some(limit) => return Ok(Err(limit)),
                    None => break,
                },
            }
        }
        self.plan_head(wanted, board, &mut plan)?;
        Ok(Ok(plan))
    }

    /// Plans the removal of a space whose withdrawal has no room. `None` if the row is no
    /// withdrawal, or one of a space that is not stored and of which no less is remembered.
    fn plan_dismissal(&self, wanted: &PlannedRow<'_>) -> Result<Option<WritePlan>, StorageError> {
        let PlannedRow { id, ref part, charge, place, adds_to_memory, .. } = *wanted;
        let old = self.table.storage.get(&id)?;
        let old = old.map(|part| (part.bytes.len(), self.table.place_of(&part)));
        if place != Place::Withdrawn || (old.is_none() && !adds_to_memory) {
            return Ok(None);
        }
        let mut plan = WritePlan::default();
        plan.dismiss(id, part, old.map(|(bytes, _)| (bytes, charge.charged)));
        if let Some((bytes, place)) = old {
            let mut board = self.table.board(id.record)?;
            board.subtract(bytes, place);
            self.plan_head(wanted, board, &mut plan)?;
        }
        Ok(Some(plan))
    }

    /// Plans the head of a record with these spaces.
    fn plan_head(
        &self,
        wanted: &PlannedRow<'_>,
        board: Board,
        plan: &mut WritePlan,
    ) -> Result<(), StorageError> {
        let PlannedRow { key, id, ref part, charge, .. } = *wanted;
        let old = self.table.head_cost(id.record)?;
        let charged = ChargedTallies { writer: None, ..charge.charged };
        if board.spaces == 0 {
            if let Some(old) = old {
                plan.remove(id.record.head(), old.bytes, old.charged);
            }
            return Ok(());
        }
        plan.is_new_record = old.is_none();
        let new = Arrival { at: part.stored_at, source: wanted.source };
        let arrival = old.as_ref().map_or(new, |old| old.arrival);
        plan.arrival = arrival;
        let key = Bytes::copy_from_slice(key.as_bytes());
        let old = old.map(|head| (head.bytes, head.charged));
        plan.set(id.record.head(), rows::board_part(key, board, arrival), old, charged);
        Ok(())
    }

    /// The exceeded limit on spaces or bytes that share a kind of slot, if any.
    fn excess_of(&self, board: &Board, place: Place, max_spaces: usize) -> Option<LimitExceeded> {
        let (spaces, bytes) = board.taken(place);
        let max_bytes = self.config.max_record_bytes();
        let limit = match place {
            Place::Withdrawn => Limit::WITHDRAWN_PER_RECORD,
            _ => Limit::SPACES_PER_RECORD,
        };
        if spaces > max_spaces {
            Some(LimitExceeded::new(limit, spaces, max_spaces))
        } else if bytes > max_bytes {
            Some(LimitExceeded::new(StoreConfig::RECORD_BYTES, bytes, max_bytes))
        } else {
            None
        }
    }

    /// Plans the eviction of a space for another one of its record. If its withdrawal has one of
    /// `max_withdrawn` places, that stays.
    fn plan_eviction(
        &self,
        id: PartId,
        max_withdrawn: Option<usize>,
        charge: &Charge,
        board: &mut Board,
        plan: &mut WritePlan,
    ) -> Result<(), StorageError> {
        let Some(part) = self.table.storage.get(&id)? else {
            return Ok(());
        };
        let writer = rows::peer_of(&part);
        board.subtract(part.bytes.len(), self.table.place_of(&part));
        let charged = ChargedTallies::of_space(charge.charged.namespace, writer.as_ref());
        let withdrawal = max_withdrawn.and_then(|max| {
            let (writer, space) = rows::read_owned_space(&part).ok()?;
            let withdrawal = space.withdrawal()?;
            let withdrawal = rows::space_part(id.space, &withdrawal, &writer, part.stored_at);
            let mut with_it = *board;
            with_it.add(withdrawal.bytes.len(), Place::Withdrawn);
            let fits = self.excess_of(&with_it, Place::Withdrawn, max).is_none();
            fits.then_some((withdrawal, with_it))
        });
        match withdrawal {
            Some((withdrawal, with_it)) => {
                *board = with_it;
                plan.reduce(id, &part, withdrawal, charged);
            }
            None => {
                let is_withdrawal = self.table.place_of(&part) == Place::Withdrawn;
                let count = plan.evicted_withdrawals.saturating_add(usize::from(is_withdrawal));
                plan.evicted_withdrawals = count;
                plan.evict(id, &part, charged);
            }
        }
        Ok(())
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
        let (evicted_spaces, withdrawals) = (plan.evicted_spaces, plan.evicted_withdrawals);
        let withdrawn = self.table.withdrawn_in(&plan);
        let written = plan.written().map(|(id, _)| id);
        let is_candidate = |id: &PartId| {
            id.record == charge.record && id.space != SpaceId::HEAD && !charge.is_protected
        };
        let written: Vec<_> = written.filter(is_candidate).collect();
        self.apply(plan)?;
        written.into_iter().for_each(|id| self.candidates.notice(id));
        self.candidates.notice_withdrawn(withdrawn);
        self.news.count(|c| &mut c.spaces_evicted, evicted_spaces);
        self.news.count(|c| &mut c.withdrawn_evicted, withdrawals);
        for candidate in candidates {
            self.forget_places(candidate);
        }
        self.news.evicted(evicted);
        Ok(())
    }
}
