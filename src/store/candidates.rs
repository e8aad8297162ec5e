//! Eviction candidates, from the far end.
//!
//! **Invariants.** Nothing protected is a candidate. The cost of a search does not grow with the
//! number of protected rows ([`EvictionIndex`]).
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    StorageError, StoreConfig,
    eviction_index::EvictionIndex,
    plan::WritePlan,
    quota::Charge,
    rows::{self, Place},
    stamped::{StampedSpaces, make_room},
    storage::{PartId, RecordId, SpaceId},
    table::Table,
};
use crate::proto::storage::{Board, head::Body};
use smart_record_core::{EvictionOrder, Limit, LimitExceeded, RecordKey, Timestamp};

/// How many of the withdrawn spaces of a record are kept in order, those that go first. One scan of
/// a full record serves as many evictions.
const WITHDRAWN: usize = 64;

/// Indexes of the evictable records and spaces.
#[derive(Debug, Default)]
pub(super) struct EvictionCandidates {
    records: HashMap<CandidateKind, EvictionIndex<RecordId>>,
    /// Open spaces without work.
    spaces: HashMap<RecordId, EvictionIndex<SpaceId>>,
    /// The withdrawn spaces of a record that were first stored last, the last one at the end. Those
    /// that are not among them were stored before.
    withdrawn: HashMap<RecordId, Vec<(Timestamp, SpaceId)>>,
    stamped: StampedSpaces,
    /// The first result of [`next_open_space`](Self::next_open_space) since a row has changed, so
    /// that one write looks for it once.
    first: Option<(RecordId, EvictionOrder)>,
}

/// The kind of records to evict: of one namespace that has a quota, or of any; only those that can
/// be removed whole, or also those of which a part can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CandidateKind {
    pub(super) namespace: Option<String>,
    pub(super) only_whole: bool,
}

impl EvictionCandidates {
    /// Adds a row that was written and is not protected, or the head of a record that has lost its
    /// protection. `namespace` is that of the record, if it has a quota.
    pub(super) fn notice(&mut self, id: PartId, namespace: Option<&str>) {
        if id.space == SpaceId::HEAD {
            for (kind, eviction_index) in &mut self.records {
                if kind.namespace.is_none() || kind.namespace.as_deref() == namespace {
                    eviction_index.notice(id.record);
                }
            }
        } else if let Some(eviction_index) = self.spaces.get_mut(&id.record) {
            eviction_index.notice(id.space);
        }
    }

    /// Handles the change of a row, or the beginning of a write.
    pub(super) fn on_change(&mut self) {
        self.first = None;
    }

    /// Adds an open space that was written, with its place in the order of eviction.
    pub(super) fn notice_open(&mut self, record: RecordId, order: EvictionOrder) {
        self.stamped.notice(record, order);
        if let Some(eviction_index) = self.spaces.get_mut(&record).filter(|_| order.work() == 0) {
            eviction_index.notice(SpaceId(*order.rank()));
        }
    }

    /// Adds withdrawn spaces that were written.
    pub(super) fn notice_withdrawn(&mut self, written: Vec<(PartId, Timestamp)>) {
        for (id, stored_at) in written {
            let Some(known) = self.withdrawn.get_mut(&id.record) else { continue };
            let entry = (stored_at, id.space);
            match known.binary_search(&entry) {
                // It may belong to those that are not kept.
                Ok(_) | Err(0) => {}
                Err(at) => known.insert(at, entry),
            }
            if known.len() > 2 * WITHDRAWN {
                known.drain(..WITHDRAWN);
            }
        }
    }

    pub(super) fn forget(&mut self, record: RecordId) {
        self.spaces.remove(&record);
        self.withdrawn.remove(&record);
        self.stamped.forget(record);
    }

    /// The records to evict for a plan, the farthest first, or the bound that forbids it.
    pub(super) fn for_plan(
        &mut self,
        table: &Table,
        config: &StoreConfig,
        charge: &Charge,
        plan: &WritePlan,
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
                max: (quota.count, quota.bytes),
                limits: (StoreConfig::NAMESPACE_RECORDS, StoreConfig::NAMESPACE_BYTES),
            };
            if let Some(limit) = self.choose(table, charge, &bound, plan, &mut chosen)? {
                return Ok(Err(limit));
            }
        }
        let usage = table.storage.usage();
        let bytes = usage.bytes.saturating_add(plan.added).saturating_sub(plan.removed);
        let bound = Bound {
            namespace: None,
            got: (usage.records.saturating_add(usize::from(plan.is_new_record)), bytes),
            max: (config.max_records(), config.max_bytes()),
            limits: (StoreConfig::STORE_RECORDS, StoreConfig::STORE_BYTES),
        };
        Ok(match self.choose(table, charge, &bound, plan, &mut chosen)? {
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
        chosen: &mut BTreeMap<RecordId, EvictionCandidate>,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let Bound { namespace, got, max, limits } = *bound;
        // A write makes room for what it adds, not for what was over the bound before.
        let records = got.0.saturating_sub(max.0).min(usize::from(plan.is_new_record));
        let bytes = got.1.saturating_sub(max.1).min(plan.growth());
        let all = Excess { records, bytes };
        let mut excess = chosen.values().fold(all, |excess, candidate| excess.without(candidate));
        let namespace = namespace.map(str::to_owned);
        let mut kind = CandidateKind { namespace, only_whole: excess.bytes == 0 };
        let mut below = None;
        while !excess.is_none() {
            if excess.bytes == 0 && !kind.only_whole {
                kind.only_whole = true;
                below = None;
            }
            let Some(candidate) = self.next(table, charge, &kind, below)? else {
                return Ok(Some(match records {
                    0 => LimitExceeded::new(limits.1, got.1, max.1),
                    _ => LimitExceeded::new(limits.0, got.0, max.0),
                }));
            };
            below = Some(candidate.record);
            if chosen.insert(candidate.record, candidate).is_none() {
                excess = excess.without(&candidate);
            }
        }
        Ok(None)
    }

    /// The farthest evictable record of a kind for a charge, below the last chosen one.
    pub(super) fn next(
        &mut self,
        table: &Table,
        charge: &Charge,
        kind: &CandidateKind,
        mut below: Option<RecordId>,
    ) -> Result<Option<EvictionCandidate>, StorageError> {
        let above = (!charge.is_protected).then_some(charge.record);
        let eviction_index = self.records.entry(kind.clone()).or_default();
        loop {
            let found = eviction_index.next(
                below,
                above,
                |up_to| {
                    let last = table.storage.last(&up_to.part(SpaceId::MAX))?;
                    Ok(last.map(|last| last.record))
                },
                |record| {
                    let candidate =
                        EvictionCandidate::of(table, record, kind.namespace.as_deref())?;
                    Ok(candidate.filter(|candidate| candidate.is_whole || !kind.only_whole))
                },
            )?;
            match found {
                // The record that is being written.
                Some((record, _)) if record == charge.record => below = Some(record),
                found => return Ok(found.map(|(_, candidate)| candidate)),
            }
        }
    }

    /// The withdrawn space that was first stored last and is not in `except`, and since when it is
    /// stored. A space of a protected writer is not one of them.
    pub(super) fn last_withdrawn(
        &mut self,
        table: &Table,
        record: RecordId,
        except: &BTreeSet<SpaceId>,
    ) -> Result<Option<(Timestamp, SpaceId)>, StorageError> {
        make_room(&mut self.withdrawn, record);
        for is_fresh in [false, true] {
            if is_fresh || !self.withdrawn.contains_key(&record) {
                let max = WITHDRAWN.saturating_add(except.len());
                self.withdrawn.insert(record, table.last_withdrawn(record, max)?);
            }
            let known = self.withdrawn.entry(record).or_default();
            while let Some(at) = known.iter().rposition(|(_, space)| !except.contains(space)) {
                let (stored_at, space) = known.remove(at);
                // It may have been written or removed since.
                if table.storage.get(&record.part(space))?.is_some_and(|part| {
                    part.stored_at == stored_at && table.place_of(&part) == Place::Withdrawn
                }) {
                    known.insert(at, (stored_at, space));
                    return Ok(Some((stored_at, space)));
                }
            }
        }
        Ok(None)
    }

    /// The unprotected space that is not withdrawn and is evicted first, of those that go after
    /// `below`: of the least work, and of equal work of the highest rank. Stamps of less than
    /// `min_bits` do not count.
    pub(super) fn next_open_space(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<EvictionOrder>,
        min_bits: u8,
    ) -> Result<Option<EvictionOrder>, StorageError> {
        if below.is_none()
            && let Some((_, first)) = self.first.filter(|(of, _)| *of == record)
        {
            return Ok(Some(first));
        }
        let found = self.find_open_space(table, record, board, below, min_bits)?;
        if below.is_none() {
            self.first = found.map(|found| (record, found));
        }
        Ok(found)
    }

    fn find_open_space(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<EvictionOrder>,
        min_bits: u8,
    ) -> Result<Option<EvictionOrder>, StorageError> {
        // Those without work go first.
        if below.is_none_or(|below| below.work() == 0) {
            let below = below.map(|below| SpaceId(*below.rank()));
            if let Some(space) = self.next_without_work(table, record, board, below, min_bits)? {
                return Ok(Some(EvictionOrder::new(0, space.0)));
            }
        }
        self.stamped.next(table, record, below, min_bits)
    }

    /// The open space without work of the highest rank, below `below`.
    fn next_without_work(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<SpaceId>,
        min_bits: u8,
    ) -> Result<Option<SpaceId>, StorageError> {
        let last = |up_to| table.last_space(record, up_to);
        let is_without_work = |space: SpaceId| -> Result<bool, StorageError> {
            let part = table.storage.get(&record.part(space))?;
            Ok(part.is_some_and(|part| {
                let has_work = rows::order(space, &part, min_bits).work() > 0;
                table.place_of(&part) == Place::Open && !has_work
            }))
        };
        if board.protected_spaces == 0 && board.withdrawn_spaces == 0 {
            let found = match below {
                Some(below) => below.before().map_or(Ok(None), last)?,
                None => last(SpaceId::MAX)?,
            };
            match found {
                Some(found) if is_without_work(found)? => return Ok(Some(found)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        // Only records that are full and have protected or withdrawn spaces, or some with work.
        make_room(&mut self.spaces, record);
        let eviction_index = self.spaces.entry(record).or_default();
        let probe = |space| Ok(is_without_work(space)?.then_some(()));
        Ok(eviction_index.next(below, None, last, probe)?.map(|(space, ())| space))
    }
}

/// A record of which something can be evicted.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvictionCandidate {
    pub(super) record: RecordId,
    /// How many bytes that frees.
    pub(super) bytes: usize,
    /// Whether its head goes too, so that the store has one record less. A damaged head goes also
    /// if protected spaces stay: the next write under the key makes it again.
    pub(super) is_whole: bool,
}

impl EvictionCandidate {
    /// What can be evicted of a record, if anything can and it is in the namespace.
    fn of(
        table: &Table,
        record: RecordId,
        namespace: Option<&str>,
    ) -> Result<Option<Self>, StorageError> {
        let part = table.storage.get(&record.head())?;
        let head = part.as_ref().and_then(|part| rows::decode_head(part).ok());
        let Some(head) = head else {
            // The head is damaged or missing, so the namespace is not known.
            let mut rest = None;
            for part in table.parts_of(record).filter(|_| namespace.is_none()) {
                let (id, part) = part?;
                let is_space = id.space != SpaceId::HEAD;
                if !(is_space && table.place_of(&part) == Place::Protected) {
                    let bytes = rows::cost(part.bytes.len());
                    rest = Some(rest.unwrap_or(0_usize).saturating_add(bytes));
                }
            }
            let is_whole = part.is_some();
            return Ok(rest.map(|bytes| Self { record, bytes, is_whole }));
        };
        let own_cost = part.map_or(0, |part| rows::cost(part.bytes.len()));
        if namespace.is_some() && RecordKey::new(head.key).namespace() != namespace {
            return Ok(None);
        }
        if matches!(head.body, Some(Body::Value(value)) if value.is_local) {
            return Ok(None);
        }
        let board = table.board(record)?;
        let (spaces, bytes) = board.evictable();
        if board.protected_spaces == 0 {
            let bytes = bytes.saturating_add(own_cost);
            return Ok(Some(Self { record, bytes, is_whole: true }));
        }
        Ok((spaces > 0).then_some(Self { record, bytes, is_whole: false }))
    }
}

/// A bound of records and bytes: the numbers after the plan, and the maxima.
struct Bound<'a> {
    namespace: Option<&'a str>,
    got: (usize, usize),
    max: (usize, usize),
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
