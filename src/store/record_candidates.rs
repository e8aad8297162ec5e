//! Records that can be evicted when the store, or the quota of a namespace, is full.
//!
//! **Invariants.** Nothing protected is a candidate. The shares are those of the rows: they are
//! read when the store is half full, a few with each write, change with each row, and are read
//! again after a failed write. Work is looked for only in records that would go otherwise, once for
//! each.
//!
//! **Spec.** `docs/design.md`, section "Shares of a full store".

use std::collections::{BTreeMap, BTreeSet};

use super::{
    StorageError, StoreConfig,
    config::Quota,
    plan::WritePlan,
    quota::Charge,
    rows::{self, Place},
    shares::{Claim, Evictable, Shares, Turn},
    source::{Arrival, Source},
    storage::{Change, Part, PartId, RecordId, SpaceId},
    table::Table,
};
use crate::proto::storage::{Head, Value, head::Body};
use smart_record_core::{Limit, LimitExceeded, Namespace, RecordKey, Registry, Timestamp};

/// The shares of the store, and of each namespace that has a quota.
#[derive(Debug)]
pub(super) struct RecordCandidates {
    registry: Registry,
    bounds: Vec<(Option<String>, Quota)>,
    /// In the order of the bounds. `None`: they have to be read.
    shares: Option<Vec<Shares>>,
    /// From where on they have not been read.
    unread: Option<RecordId>,
}

/// A record of which something is evicted.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvictionCandidate {
    pub(super) record: RecordId,
    /// How many bytes that frees.
    bytes: usize,
    /// Whether its head goes too, so that the store has one record less. A damaged head goes also
    /// if protected spaces stay: the next write under the key makes it again.
    is_whole: bool,
}

/// The kind of records to evict: of one namespace that has a quota, or of any; only those that can
/// be removed whole, or also those of which a part can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CandidateKind {
    pub(super) namespace: Option<String>,
    pub(super) only_whole: bool,
}

impl RecordCandidates {
    pub(super) fn new(config: &StoreConfig, registry: Registry) -> Self {
        let store = Quota { count: config.max_records(), bytes: config.max_bytes() };
        let quotas = config.namespace_quotas();
        let namespaces = quotas.map(|(name, quota)| (Some(name.to_owned()), quota));
        let bounds = std::iter::once((None, store)).chain(namespaces).collect();
        Self { registry, bounds, shares: None, unread: None }
    }

    /// Reads the next `max` records of the shares, if they may soon be needed. So they are known
    /// when a bound is reached, and a store that is never full has no memory of them.
    pub(super) fn prepare(&mut self, table: &Table, max: usize) -> Result<(), StorageError> {
        let usage = table.storage.usage();
        let is_near = |(name, bound): &(Option<String>, Quota)| {
            name.is_some() || usage.records >= bound.count / 2 || usage.bytes >= bound.bytes / 2
        };
        if self.bounds.iter().any(is_near) { self.read(table, max) } else { Ok(()) }
    }

    fn read(&mut self, table: &Table, max: usize) -> Result<(), StorageError> {
        if self.shares.is_none() {
            self.shares = Some(self.bounds.iter().map(|(_, bound)| Shares::new(*bound)).collect());
            self.unread = Some(PartId::MIN.record);
        }
        for _ in 0..max {
            let Some(from) = self.unread else { break };
            match self.read_next(table, from) {
                Ok(next) => self.unread = next,
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reads the first record from `from` on. Returns where to go on.
    fn read_next(
        &mut self,
        table: &Table,
        from: RecordId,
    ) -> Result<Option<RecordId>, StorageError> {
        // Rows that may be evicted need not be checked for that.
        let Some(first) = table.storage.scan_unchecked(from.head()..=PartId::MAX).next() else {
            return Ok(None);
        };
        let (PartId { record, space }, part) = first?;
        if self.shares.iter().flatten().any(|shares| shares.get(record).is_some()) {
            // It was written in the meantime.
        } else if space == SpaceId::HEAD {
            let (namespace, entry) = of_head(table, &part);
            self.set(record, namespace.as_deref(), entry.map(unsure));
        } else {
            drop(part);
            self.set(record, None, probed(table, &self.registry, record, None)?);
        }
        Ok(record.after())
    }

    /// Forgets the shares: the rows may be others than those that were written.
    pub(super) fn forget(&mut self) {
        self.shares = None;
    }

    /// Handles changes of rows that are about to be applied. Returns the records that lose their
    /// heads.
    pub(super) fn on_change(&mut self, table: &Table, changes: &[Change]) -> Vec<RecordId> {
        let mut headless = Vec::new();
        if self.shares.is_none() {
            return headless;
        }
        let (mut with_head, mut with_space) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            match change {
                Change::Set(id, part) if id.space == SpaceId::HEAD => {
                    let (namespace, entry) = of_head(table, part);
                    self.update(id.record, namespace.as_deref(), entry);
                    with_head.insert(id.record);
                }
                Change::Remove(id) if id.space == SpaceId::HEAD => {
                    self.set(id.record, None, None);
                    headless.push(id.record);
                }
                Change::Set(id, _) | Change::Remove(id) => drop(with_space.insert(id.record)),
                Change::Tally(..) | Change::Note(..) => {}
            }
        }
        for record in with_space {
            let has_head = with_head.contains(&record);
            self.change(record, |entry| {
                // A space with work may have been replaced.
                entry.is_sure &= has_head && entry.work == 0;
                entry.work = 0;
            });
        }
        headless
    }

    /// Handles the removal of the heads of these records. If a head was damaged, its spaces stay.
    pub(super) fn on_removed(
        &mut self,
        table: &Table,
        headless: Vec<RecordId>,
    ) -> Result<(), StorageError> {
        for record in headless {
            if table.last_space(record, SpaceId::MAX)?.is_some() {
                self.set(record, None, probed(table, &self.registry, record, None)?);
            }
        }
        Ok(())
    }

    /// Handles the writing of a space with this much work.
    pub(super) fn notice_work(&mut self, record: RecordId, work: u8) {
        if work > 0 {
            self.change(record, |entry| entry.work = entry.work.max(work));
        }
    }

    fn change(&mut self, record: RecordId, change: impl Fn(&mut Evictable)) {
        for shares in self.shares.iter_mut().flatten() {
            let Some(mut entry) = shares.get(record).copied() else { continue };
            change(&mut entry);
            shares.set(record, Some(entry));
        }
    }

    /// Sets what can be evicted of a record, in all shares that it is in.
    fn set(&mut self, record: RecordId, namespace: Option<&str>, entry: Option<Evictable>) {
        for ((name, _), shares) in self.bounds.iter().zip(self.shares.iter_mut().flatten()) {
            let is_in = name.is_none() || name.as_deref() == namespace;
            shares.set(record, entry.filter(|_| is_in));
        }
    }

    /// The same without what a head does not say: the work, and what had to be read before.
    fn update(&mut self, record: RecordId, namespace: Option<&str>, entry: Option<Evictable>) {
        let old = self.shares.iter().flatten().find_map(|shares| shares.get(record).copied());
        let is_unread = self.unread.is_some_and(|from| record >= from);
        let entry = entry.map(|entry| match old {
            Some(old) => {
                Evictable { work: old.work, is_sure: entry.is_sure && old.is_sure, ..entry }
            }
            None if is_unread => unsure(entry),
            None => entry,
        });
        self.set(record, namespace, entry);
    }

    /// The records to evict for a plan, or the bound that forbids it. `work` is that of the space
    /// that is written.
    pub(super) fn for_plan(
        &mut self,
        table: &Table,
        charge: &Charge,
        plan: &WritePlan,
        work: u8,
    ) -> Result<Result<Vec<RecordId>, LimitExceeded>, StorageError> {
        if let Some(limit) = charge.writer_refusal(&*table.storage, &plan.ledger)? {
            return Ok(Err(limit));
        }
        if !plan.grows() {
            return Ok(Ok(Vec::new()));
        }
        let mut chosen = BTreeMap::new();
        if let (Some((name, quota)), Some(tally)) =
            (&charge.namespace_quota, &charge.charged.namespace)
        {
            let (after, _) = plan.ledger.after(&*table.storage, tally)?;
            let as_usize = |n| usize::try_from(n).unwrap_or(usize::MAX);
            let bound = Bound {
                namespace: Some(name),
                got: (as_usize(after.count), as_usize(after.bytes)),
                max: *quota,
                limits: (StoreConfig::NAMESPACE_RECORDS, StoreConfig::NAMESPACE_BYTES),
            };
            if let Some(limit) = self.choose(table, charge, &bound, plan, work, &mut chosen)? {
                return Ok(Err(limit));
            }
        }
        let usage = table.storage.usage();
        let bytes = usage.bytes.saturating_add(plan.added).saturating_sub(plan.removed);
        let bound = Bound {
            namespace: None,
            got: (usage.records.saturating_add(usize::from(plan.is_new_record)), bytes),
            max: self.bounds.first().map_or(Quota { count: 0, bytes: 0 }, |(_, bound)| *bound),
            limits: (StoreConfig::STORE_RECORDS, StoreConfig::STORE_BYTES),
        };
        Ok(match self.choose(table, charge, &bound, plan, work, &mut chosen)? {
            Some(limit) => Err(limit),
            None => Ok(chosen.into_keys().rev().collect()),
        })
    }

    /// Chooses more records to evict until the plan is within a bound. Returns the exceeded limit
    /// if that is not possible.
    fn choose(
        &mut self,
        table: &Table,
        charge: &Charge,
        bound: &Bound<'_>,
        plan: &WritePlan,
        work: u8,
        chosen: &mut BTreeMap<RecordId, EvictionCandidate>,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let Bound { namespace, got, max, limits } = *bound;
        // A write makes room for what it adds, not for what was over the bound before.
        let records = got.0.saturating_sub(max.count).min(usize::from(plan.is_new_record));
        let bytes = got.1.saturating_sub(max.bytes).min(plan.growth());
        let all = Excess { records, bytes };
        let mut excess = chosen.values().fold(all, |excess, candidate| excess.without(candidate));
        let namespace = namespace.map(str::to_owned);
        let mut kind = CandidateKind { namespace, only_whole: false };
        while !excess.is_none() {
            kind.only_whole = excess.bytes == 0;
            let writes = Some((plan, work));
            let Some(candidate) = self.next(table, charge, &kind, writes, chosen)? else {
                return Ok(Some(match records {
                    0 => LimitExceeded::new(limits.1, got.1, max.bytes),
                    _ => LimitExceeded::new(limits.0, got.0, max.count),
                }));
            };
            chosen.insert(candidate.record, candidate);
            excess = excess.without(&candidate);
        }
        Ok(None)
    }

    /// The record of a kind that goes first, after the chosen ones. `None` if there is none, or if
    /// that is the one which is written, with this plan and work, for a charge that is not
    /// protected.
    pub(super) fn next(
        &mut self,
        table: &Table,
        charge: &Charge,
        kind: &CandidateKind,
        writes: Option<(&WritePlan, u8)>,
        chosen: &BTreeMap<RecordId, EvictionCandidate>,
    ) -> Result<Option<EvictionCandidate>, StorageError> {
        self.read(table, usize::MAX)?;
        let CandidateKind { namespace, only_whole } = kind;
        let mut kinds = self.bounds.iter().zip(self.shares.iter_mut().flatten());
        let Some((_, shares)) = kinds.find(|((name, _), _)| name == namespace) else {
            return Ok(None);
        };
        loop {
            let writes = writes.filter(|_| !charge.is_protected);
            let claim = writes.map(|(plan, work)| claim(shares, charge.record, plan, work));
            let Some(record) = shares.first(claim.as_ref(), charge.record, chosen, *only_whole)
            else {
                // Only then is it looked for how much work the record itself has.
                let is_unsure = |it: &Evictable| !it.is_sure && claim.is_some();
                if shares.get(charge.record).is_some_and(is_unsure) {
                    let of = namespace.as_deref();
                    shares.set(charge.record, probed(table, &self.registry, charge.record, of)?);
                    continue;
                }
                return Ok(None);
            };
            match shares.get(record) {
                Some(&Evictable { bytes, is_whole, is_sure: true, .. }) => {
                    return Ok(Some(EvictionCandidate { record, bytes, is_whole }));
                }
                _ => {
                    shares.set(record, probed(table, &self.registry, record, namespace.as_deref())?)
                }
            }
        }
    }
}

/// What a plan asks of the shares.
fn claim(shares: &Shares, record: RecordId, plan: &WritePlan, work: u8) -> Claim {
    let old = shares.get(record);
    let arrival = plan.arrival;
    let (work, is_whole) = old.map_or((work, true), |old| (old.work.max(work), old.is_whole));
    Claim {
        source: arrival.source,
        turn: Turn::new(record, is_whole, work, arrival),
        records: usize::from(plan.is_new_record),
        bytes: plan.growth(),
    }
}

const fn unsure(entry: Evictable) -> Evictable {
    Evictable { is_sure: false, ..entry }
}

/// The namespace of the record with this head, and what can be evicted of it, as far as the head
/// says.
fn of_head(table: &Table, part: &Part<'_>) -> (Option<String>, Option<Evictable>) {
    let head = rows::decode_head(part).unwrap_or_default();
    let arrival = Arrival { at: part.stored_at, source: Source::from_wire(head.source) };
    let namespace = RecordKey::new(head.key).namespace().map(str::to_owned);
    let own = rows::cost(part.bytes.len());
    let whole = Evictable { arrival, bytes: own, is_whole: true, work: 0, is_sure: true };
    let entry = match head.body {
        Some(Body::Value(value)) => (!value.is_local).then_some(whole),
        Some(Body::Board(board)) => {
            let (spaces, bytes) = board.evictable();
            let is_sure = board.protected_by == table.protection.fingerprint;
            match board.protected_spaces {
                0 => Some(Evictable { bytes: own.saturating_add(bytes), is_sure, ..whole }),
                // The list of the protected may have been another one.
                _ if spaces == 0 && is_sure => None,
                _ => Some(Evictable { bytes, is_whole: false, is_sure, ..whole }),
            }
        }
        None => Some(unsure(whole)),
    };
    (namespace, entry)
}

/// What can be evicted of a record, by its rows, if anything can and it is in the namespace.
fn probed(
    table: &Table,
    registry: &Registry,
    record: RecordId,
    namespace: Option<&str>,
) -> Result<Option<Evictable>, StorageError> {
    let part = table.storage.get(&record.head())?;
    let head = part.as_ref().map(|part| (part, rows::decode_head(part)));
    let Some((part, Ok(Head { key, source, body }))) = head else {
        // The head is damaged or missing, so the namespace is not known.
        let mut rest = None;
        for part in table.unchecked_parts_of(record).filter(|_| namespace.is_none()) {
            let (id, part) = part?;
            let is_space = id.space != SpaceId::HEAD;
            if !(is_space && table.place_of(&part) == Place::Protected) {
                let bytes = rows::cost(part.bytes.len());
                rest = Some(rest.unwrap_or(0_usize).saturating_add(bytes));
            }
        }
        let arrival = Arrival { at: Timestamp::EPOCH, source: Source::UNKNOWN };
        let is_whole = part.is_some();
        let entry = |bytes| Evictable { arrival, bytes, is_whole, work: 0, is_sure: true };
        return Ok(rest.map(entry));
    };
    let key = RecordKey::new(key);
    if namespace.is_some() && key.namespace() != namespace
        || matches!(body, Some(Body::Value(Value { is_local: true, .. })))
    {
        return Ok(None);
    }
    let arrival = Arrival { at: part.stored_at, source: Source::from_wire(source) };
    let board = table.board(record)?;
    let (spaces, bytes) = board.evictable();
    let is_whole = board.protected_spaces == 0;
    let own = if is_whole { rows::cost(part.bytes.len()) } else { 0 };
    let bytes = bytes.saturating_add(own);
    let work = match registry.resolve(&key) {
        Ok(Namespace::Spaces(rules)) if spaces > 0 => {
            table.work(record, rules.limits().min_stamp_bits())?
        }
        _ => 0,
    };
    let entry = Evictable { arrival, bytes, is_whole, work, is_sure: true };
    Ok((is_whole || spaces > 0).then_some(entry))
}

/// A bound of records and bytes: the numbers after the plan, and the maxima.
struct Bound<'a> {
    namespace: Option<&'a str>,
    got: (usize, usize),
    max: Quota,
    limits: (Limit, Limit),
}

/// By how much a bound is exceeded.
#[derive(Clone, Copy, Debug)]
struct Excess {
    records: usize,
    bytes: usize,
}

impl Excess {
    fn without(self, candidate: &EvictionCandidate) -> Self {
        Self {
            records: self.records.saturating_sub(usize::from(candidate.is_whole)),
            bytes: self.bytes.saturating_sub(candidate.bytes),
        }
    }

    fn is_none(self) -> bool {
        self.records == 0 && self.bytes == 0
    }
}
