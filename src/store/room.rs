//! Room: carrying out a planned write if it fits, or once something else has gone.
//!
//! **Invariants.** Nothing is changed before there is room for all of the plan; what is evicted for it goes in
//! the same step. What has expired goes first, then what is not protected of the records farther from the local
//! peer than the written one, the farthest first; for a protected writer, of all records. A write that does not
//! grow always fits.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".

use std::collections::BTreeMap;

use super::{
    SmartRecordStore, StorageError, StoreConfig, lock,
    quota::{Claim, Ledger, Payers},
    rows,
    storage::{Change, Part, PartId, RecordId},
    victims::{Kind, Victim},
};
use crate::{
    key::RecordKey,
    record::{Limit, LimitExceeded},
    time::Timestamp,
};

/// How many due parts are collected at once when room is needed.
pub(super) const COLLECT_AT_ONCE: usize = 256;

/// How many times a write that needs room does so; the next one goes on where it has stopped.
const BATCHES_PER_WRITE: usize = 4;

/// How many records a write evicts at most of those that are over the bounds before it.
const SHED_PER_WRITE: usize = 16;
/// After how many bytes of these it stops, because some records are large.
const SHED_BYTES: usize = 256 * 1_024;

/// Changes that belong together, and what they do to the size of the store.
#[derive(Debug, Default)]
pub(super) struct Plan {
    changes: Vec<Change>,
    ledger: Ledger,
    added: usize,
    removed: usize,
    pub(super) is_new_record: bool,
    pub(super) evicted_spaces: usize,
}

impl Plan {
    /// Writes a row in the place of one of so many bytes and these payers, or of none.
    pub(super) fn set(
        &mut self,
        id: PartId,
        part: Part<'static>,
        old: Option<(usize, Payers)>,
        payers: Payers,
    ) {
        self.added = self.added.saturating_add(rows::cost(part.bytes.len()));
        self.ledger.charge(id, part.bytes.len(), payers);
        if let Some((old, payers)) = old {
            self.removed = self.removed.saturating_add(rows::cost(old));
            self.ledger.refund(id, old, payers);
        }
        self.changes.push(Change::Set(id, part));
    }

    /// Removes a row of `old` bytes.
    pub(super) fn remove(&mut self, id: PartId, old: usize, payers: Payers) {
        self.removed = self.removed.saturating_add(rows::cost(old));
        self.ledger.refund(id, old, payers);
        self.changes.push(Change::Remove(id));
    }

    fn grows(&self) -> bool {
        self.is_new_record || self.added > self.removed
    }

    fn growth(&self) -> usize {
        self.added.saturating_sub(self.removed)
    }
}

/// A plan, or which bound of the record forbids it.
pub(super) type Planned = Result<Result<Plan, LimitExceeded>, StorageError>;

/// By how much something is over a bound.
#[derive(Clone, Copy, Debug)]
struct Excess {
    records: usize,
    bytes: usize,
}

impl Excess {
    fn without(self, victim: &Victim) -> Self {
        Self {
            records: self.records.saturating_sub(usize::from(victim.is_whole)),
            bytes: self.bytes.saturating_sub(victim.bytes),
        }
    }

    fn is_none(self) -> bool {
        self.records == 0 && self.bytes == 0
    }
}

impl SmartRecordStore {
    /// Evicts some of what a store holds beyond its bounds, or those of the namespace that is written to, because these
    /// were wider when it was opened the last time. The record that is written to stays.
    pub(super) fn shed(&mut self, key: &RecordKey, now: Timestamp) -> Result<(), StorageError> {
        let usage = self.storage.usage();
        let is_over =
            usage.bytes > self.config.max_bytes() || usage.records > self.config.max_records();
        if !is_over && key.namespace().is_none_or(|n| self.config.namespace_quota(n).is_none()) {
            return Ok(());
        }
        // Everything makes room for the local peer.
        let claim = self.claim(key, Some(&self.local));
        if self.excess_kind(&claim)?.is_some()
            && !self.storage.due(now, 1)?.is_empty()
            && self.collect_due(now, COLLECT_AT_ONCE)? > 0
        {
            return Ok(());
        }
        for _ in 0..SHED_PER_WRITE {
            let Some(kind) = self.excess_kind(&claim)? else {
                return Ok(());
            };
            let Some(victim) = self.next_victim(&claim, &kind, None)? else {
                return Ok(());
            };
            self.evict_and_apply(&claim, Plan::default(), vec![victim.record])?;
            if usage.bytes.saturating_sub(self.storage.usage().bytes) >= SHED_BYTES {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What there is too much of, if of anything.
    fn excess_kind(&self, claim: &Claim) -> Result<Option<Kind>, StorageError> {
        let usage = self.storage.usage();
        let has_too_many_bytes = usage.bytes > self.config.max_bytes();
        if has_too_many_bytes || usage.records > self.config.max_records() {
            return Ok(Some(Kind { namespace: None, only_whole: !has_too_many_bytes }));
        }
        let (Some((name, quota)), Some(tally)) = (&claim.namespace_quota, &claim.payers.namespace)
        else {
            return Ok(None);
        };
        let tally = self.storage.tally(tally)?;
        let exceeds = |got: u64, max: usize| usize::try_from(got).unwrap_or(usize::MAX) > max;
        let has_too_many_bytes = exceeds(tally.bytes, quota.bytes);
        Ok((has_too_many_bytes || exceeds(tally.count, quota.count))
            .then(|| Kind { namespace: Some(name.clone()), only_whole: !has_too_many_bytes }))
    }

    /// Carries out a plan, made anew whenever what it was made from has changed, or says which bound forbids it.
    /// The plan's second argument is whether to clear the record of all that is not protected.
    pub(super) fn carry_out(
        &mut self,
        claim: &Claim,
        now: Timestamp,
        plan: impl Fn(&Self, bool) -> Planned,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        match self.make_room(claim, now, plan)? {
            Ok((plan, victims)) => self.evict_and_apply(claim, plan, victims).map(Ok),
            Err(limit) => Ok(Err(limit)),
        }
    }

    /// Finds out what has to go for a plan, and collects what has expired before anything else has to; or says
    /// which bound forbids it.
    pub(super) fn make_room(
        &mut self,
        claim: &Claim,
        now: Timestamp,
        plan: impl Fn(&Self, bool) -> Planned,
    ) -> Result<Result<(Plan, Vec<RecordId>), LimitExceeded>, StorageError> {
        let mut batches = 0_usize;
        let mut clears = false;
        loop {
            let outcome = match plan(self, clears)? {
                Ok(plan) => self.victims_for(claim, &plan)?.map(|victims| (plan, victims)),
                Err(limit) => Err(limit),
            };
            if let Ok((plan, victims)) = &outcome
                && victims.is_empty()
                && plan.evicted_spaces == 0
            {
                return Ok(outcome);
            }
            if batches < BATCHES_PER_WRITE && !self.storage.due(now, 1)?.is_empty() {
                // Once nothing more goes, that is no way to make room.
                let has_gone = self.collect_due(now, COLLECT_AT_ONCE)? > 0;
                batches = if has_gone { batches.saturating_add(1) } else { BATCHES_PER_WRITE };
            } else if outcome.is_err() && claim.is_protected && !clears {
                clears = true;
            } else {
                return Ok(outcome);
            }
        }
    }

    /// The records that have to go for a plan, the farthest first, or which bound forbids it all the same.
    /// Nothing is changed.
    fn victims_for(
        &self,
        claim: &Claim,
        plan: &Plan,
    ) -> Result<Result<Vec<RecordId>, LimitExceeded>, StorageError> {
        if let Some(limit) = claim.writer_refusal(&*self.storage, &plan.ledger)? {
            return Ok(Err(limit));
        }
        if !plan.grows() {
            return Ok(Ok(Vec::new()));
        }
        let mut victims = BTreeMap::new();
        if let (Some((name, quota)), Some(tally)) =
            (&claim.namespace_quota, &claim.payers.namespace)
        {
            let (after, _) = plan.ledger.after(&*self.storage, tally)?;
            let as_usize = |n| usize::try_from(n).unwrap_or(usize::MAX);
            let got = (as_usize(after.count), as_usize(after.bytes));
            let limits = (StoreConfig::NAMESPACE_RECORDS, StoreConfig::NAMESPACE_BYTES);
            let refusal = self.choose(
                claim,
                Some(name),
                (got, (quota.count, quota.bytes), limits),
                plan,
                &mut victims,
            )?;
            if let Some(limit) = refusal {
                return Ok(Err(limit));
            }
        }
        let usage = self.storage.usage();
        let records = usage.records.saturating_add(usize::from(plan.is_new_record));
        let bytes = usage.bytes.saturating_add(plan.added).saturating_sub(plan.removed);
        let max = (self.config.max_records(), self.config.max_bytes());
        let limits = (StoreConfig::STORE_RECORDS, StoreConfig::STORE_BYTES);
        let refusal =
            self.choose(claim, None, ((records, bytes), max, limits), plan, &mut victims)?;
        Ok(match refusal {
            Some(limit) => Err(limit),
            None => Ok(victims.into_keys().rev().collect()),
        })
    }

    /// Adds victims, of a namespace or of any, until what will be is within bounds; says which is exceeded if
    /// that cannot be.
    fn choose(
        &self,
        claim: &Claim,
        namespace: Option<&str>,
        (got, max, limits): ((usize, usize), (usize, usize), (Limit, Limit)),
        plan: &Plan,
        victims: &mut BTreeMap<RecordId, Victim>,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        // A write makes room for what it brings, not for what was too much before.
        let records = got.0.saturating_sub(max.0).min(usize::from(plan.is_new_record));
        let bytes = got.1.saturating_sub(max.1).min(plan.growth());
        let all = Excess { records, bytes };
        let mut excess = victims.values().fold(all, |excess, victim| excess.without(victim));
        let namespace = namespace.map(str::to_owned);
        let mut kind = Kind { namespace, only_whole: excess.bytes == 0 };
        let mut below = None;
        while !excess.is_none() {
            if excess.bytes == 0 && !kind.only_whole {
                kind.only_whole = true;
                below = None;
            }
            let Some(victim) = self.next_victim(claim, &kind, below)? else {
                return Ok(Some(match records {
                    0 => LimitExceeded::new(limits.1, got.1, max.1),
                    _ => LimitExceeded::new(limits.0, got.0, max.0),
                }));
            };
            below = Some(victim.record);
            if victims.insert(victim.record, victim).is_none() {
                excess = excess.without(&victim);
            }
        }
        Ok(None)
    }

    fn evict_and_apply(
        &mut self,
        claim: &Claim,
        mut plan: Plan,
        victims: Vec<RecordId>,
    ) -> Result<(), StorageError> {
        let mut evicted = Vec::with_capacity(victims.len());
        for victim in &victims {
            evicted.extend(self.plan_removal(*victim, true, &mut plan)?);
        }
        let evicted_spaces = plan.evicted_spaces;
        let notices = match claim.is_protected {
            true => Vec::new(),
            false => plan
                .changes
                .iter()
                .filter_map(|change| match change {
                    Change::Set(id, _) if id.record == claim.record => Some(*id),
                    _ => None,
                })
                .collect(),
        };
        self.apply(plan)?;
        let namespace = claim.namespace_quota.as_ref().map(|(name, _)| name.as_str());
        notices.into_iter().for_each(|id| lock(&self.horizons).notice(id, namespace));
        self.count(|c| &mut c.spaces_evicted, evicted_spaces);
        for victim in victims {
            self.forget_places(victim);
        }
        self.evicted.extend(evicted);
        Ok(())
    }

    /// Makes the changes of a plan, and those of the tallies with them.
    pub(super) fn apply(&mut self, plan: Plan) -> Result<(), StorageError> {
        let mut changes = plan.changes;
        changes.extend(plan.ledger.changes(&*self.storage)?);
        self.change(changes)
    }

    /// Forgets where reading and eviction of a record had come to.
    pub(super) fn forget_places(&self, record: RecordId) {
        lock(&self.cursors).remove(&record);
        lock(&self.horizons).forget(record);
    }
}
