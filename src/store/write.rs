//! Writing: validates a value, joins or selects, and plans the changes.
//!
//! **Invariants.** A refused part does not affect valid parts, except that the rest of a value of
//! another peer is refused without checking after 16 bad signatures, or after signatures worth
//! [`value_work`](super::StoreConfig::value_work). A signature that was found good is not verified
//! again. A write is planned before anything is changed,
//! so a refused write evicts nothing.
//!
//! **Spec.** `docs/design.md`, section "Store".

use std::time::Duration;

use super::{
    SmartRecordStore, StorageError,
    event::{Origin, StoreEvent},
    quota::Charge,
    room::{Newcomers, PlannedRow},
    rows::{self, Place},
    source::Source,
    storage::{Part, PartId, RecordId, SpaceId},
    validated::{ValidatedBody, ValidatedRecord},
};
use crate::meter::{Begun, Timed};
use libp2p_identity::PeerId;
use smart_record_core::{
    EncodedSpace, EvictionOrder, Fault, Incoming, LimitExceeded, Limits, Malformed, Namespace,
    RecordKey, Refusals, Refused, Space, SpaceRules, Timestamp, ValidationError, Writer,
};

/// How many due parts each write collects, so that collection keeps up without a timer.
const COLLECT_PER_WRITE: usize = 32;
/// How many more it collects before it evicts for room, if it is the local node's. Others' writes
/// evict instead: they must not hold the task.
const COLLECT_FOR_ROOM: usize = 1_024;

/// How many records of the shares of the store each write reads, if they are not known: so many
/// that they are known long before a store that is half full is full.
const READ_PER_WRITE: usize = 64;

/// A space has more bytes than this: a public key of 36 and a signature of 64. Shorter ones are not
/// looked up, so a packet of empty spaces causes no look-ups.
const LEAST_SPACE: usize = 100;

/// The result of a write of which at least one part was valid.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriteReport {
    /// How many updates, or values, were new.
    pub stored: usize,
    /// How many were already stored.
    pub known: usize,
    /// What was refused, with the writer of the space if it can be decoded.
    pub refused: Vec<(Option<PeerId>, ValidationError)>,
}

/// The reason why nothing of a write was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// All of it was refused. This is the first reason.
    #[error(transparent)]
    Refused(#[from] ValidationError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl WriteError {
    /// The class of the refusal, or `None` if the storage failed.
    pub const fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused(error) => Some(error.fault()),
            Self::Storage(_) => None,
        }
    }
}

/// What is sent with a value, and the source of the write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) origin: Origin,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) source: Source,
}

/// The outcome of a write.
#[derive(Debug, Default)]
pub(super) struct WriteOutcome {
    /// How many updates, or values, were new.
    pub(super) stored: usize,
    /// How many were already stored.
    pub(super) known: usize,
    /// Whether the value is not a smart record.
    pub(super) is_value: bool,
    /// The writers whose spaces grew.
    pub(super) writers: Vec<PeerId>,
    pub(super) refusals: Refusals,
    pub(super) failure: Option<StorageError>,
}

impl From<WriteError> for WriteOutcome {
    fn from(error: WriteError) -> Self {
        let mut outcome = Self::default();
        match error {
            WriteError::Refused(reason) => outcome.refusals.push(None, reason, 1),
            WriteError::Storage(error) => outcome.failure = Some(error),
        }
        outcome
    }
}

/// The decoded spaces of a received record, before they are joined.
struct Arrived {
    spaces: Vec<(Writer, Incoming)>,
    /// How many received updates are already stored. They are not among the spaces.
    known: usize,
    refusals: Refusals,
}

/// The updates of a space, and where they are to be stored.
struct Target<'a> {
    key: &'a RecordKey,
    limits: &'a Limits,
    id: PartId,
    writer: Writer,
    updates: Incoming,
    order: EvictionOrder,
    charge: Charge,
    source: Source,
}

impl Target<'_> {
    fn row(&self, part: Part<'static>, place: Place) -> PlannedRow<'_> {
        PlannedRow {
            key: self.key,
            id: self.id,
            part,
            charge: &self.charge,
            place: if self.charge.is_protected { Place::Protected } else { place },
            order: self.order,
            max_spaces: self.limits.spaces_per_record(),
            max_withdrawn: self.limits.withdrawn_per_record(),
            source: self.source,
            min_bits: self.limits.min_stamp_bits(),
            adds_to_memory: false,
            returns: false,
        }
    }

    /// The rows that a new space may become. There has to be room for one of them at least, if
    /// there is one. How much a write grows an existing space is known only after the join. A new
    /// space needs room at least for the smallest update.
    fn newcomers(
        &self,
        is_remembered: bool,
        stored_at: Timestamp,
    ) -> impl Iterator<Item = PlannedRow<'_>> {
        let places: &[_] = match self.updates.claims_withdrawal() {
            // The withdrawal of a space that was evicted is remembered even without a place.
            true if is_remembered => &[],
            true => &[Place::Open, Place::Withdrawn],
            false => &[Place::Open],
        };
        let least = self.updates.least_bytes().saturating_add(self.writer.as_bytes().len());
        places.iter().map(move |place| {
            let bytes = vec![0; least].into();
            let (due_at, expires_at, digest) = (None, None, None);
            self.row(Part { bytes, due_at, expires_at, stored_at, digest }, *place)
        })
    }
}

/// What is stored of a space before its updates are verified.
enum Gate {
    /// All of the updates, byte for byte.
    Holds,
    /// Nothing, and what is remembered of it is newer.
    IsOlder,
    /// Nothing. It counts as stored at this time.
    IsNew(Timestamp),
    /// A space, since when, and whether it is withdrawn.
    Has(Space, Timestamp, bool),
}

impl SmartRecordStore {
    /// Validates a value and stores its valid parts. The updates of a smart record are joined into
    /// the stored record. Any other value is stored if it is better than the stored one.
    ///
    /// Kademlia's `put` does the same but reports less.
    ///
    /// # Errors
    /// [`WriteError`] if nothing of it was valid, or the storage failed.
    pub fn write(&mut self, key: &RecordKey, value: &[u8]) -> Result<WriteReport, WriteError> {
        let meta = Meta {
            origin: Origin::Local,
            publisher: Some(self.table.local),
            expires_at: None,
            source: Source::OWN,
        };
        self.write_with(key, value, meta)
    }

    pub(super) fn write_with(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
    ) -> Result<WriteReport, WriteError> {
        let begun = self.meter.begin();
        let is_local = meta.origin == Origin::Local;
        let allowed = if is_local { Duration::MAX } else { self.config.value_work() };
        let signatures = self.signatures.clone();
        let (result, work) = signatures.during(allowed, || self.try_write(key, value, meta));
        if !is_local {
            self.served.write(value.len(), work);
        }
        self.end_write(key, meta.origin, begun, result)
    }

    /// Ends a write: commits, counts and reports. This includes the parts that were collected or
    /// evicted, whatever the outcome, and the parts that were stored before a failure.
    fn end_write(
        &mut self,
        key: &RecordKey,
        origin: Origin,
        begun: Begun,
        result: Result<WriteOutcome, WriteError>,
    ) -> Result<WriteReport, WriteError> {
        let mut outcome = result.unwrap_or_else(WriteOutcome::from);
        if let Err(error) = self.commit() {
            outcome.failure.get_or_insert(error);
            (outcome.stored, outcome.writers) = (0, Vec::new());
        }
        self.meter.end(Timed::StoreWrite, begun);
        self.count_checked();
        let WriteOutcome { stored, known, is_value, mut writers, refusals, failure } = outcome;
        self.news.count(|c| if is_value { &mut c.values } else { &mut c.admitted }, stored);
        self.news.count(|c| &mut c.known, known);
        let mut report = WriteReport { stored, known, refused: Vec::new() };
        let first = refusals.first().cloned();
        for Refused { writer, reason, count } in refusals.into_entries() {
            self.refuse(key, origin, writer, reason.clone(), count);
            report.refused.push((writer, reason));
        }
        if stored > 0 {
            writers.sort_unstable();
            self.news.emit(&StoreEvent::Stored { key: key.clone(), writers, origin });
        }
        match (failure, first) {
            (Some(StorageError::QueueFull), _) if origin == Origin::Remote => {
                self.news.emit(&StoreEvent::Behind { key: key.clone() });
                Err(StorageError::QueueFull.into())
            }
            (Some(error), _) => {
                self.news.emit(&StoreEvent::StorageFailed { error: error.clone() });
                Err(error.into())
            }
            (None, Some(reason)) if stored == 0 && known == 0 => Err(reason.into()),
            _ => Ok(report),
        }
    }

    /// As [`write`](Self::write), for a value that was validated before: [`ValidatedRecord`]. It is
    /// not verified again. A value that has to be consolidated with the stored one is validated
    /// again for that, which costs only hashes if it was validated with the store's
    /// [`signatures`](Self::signatures).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn insert(
        &mut self,
        checked: ValidatedRecord,
        origin: Origin,
    ) -> Result<WriteReport, WriteError> {
        let ValidatedRecord { key, publisher, expires_at, source, body } = checked;
        let publisher = publisher.or((origin == Origin::Local).then_some(self.table.local));
        let source = source.unwrap_or_else(|| self.source_of(origin));
        let meta = Meta { origin, publisher, expires_at, source };
        let begun = self.meter.begin();
        let signatures = self.signatures.clone();
        // What an earlier process has stored is verified when it is first read.
        let insert = || self.try_insert(&key, body, meta);
        let (result, work) = signatures.during(Duration::MAX, insert);
        if origin == Origin::Remote {
            self.served.insert(work);
        }
        self.end_write(&key, meta.origin, begun, result)
    }

    fn try_insert(
        &mut self,
        key: &RecordKey,
        body: ValidatedBody,
        meta: Meta,
    ) -> Result<WriteOutcome, WriteError> {
        let now = self.begin_write(key, &meta)?;
        let registry = self.registry.clone();
        match (body, registry.resolve(key)?) {
            (ValidatedBody::Record(record, refusals), Namespace::Spaces(rules)) => {
                let spaces = record.into_spaces();
                let spaces = spaces.map(|(writer, space)| (writer, Incoming::Verified(space)));
                let arrived = Arrived { spaces: spaces.collect(), known: 0, refusals };
                Ok(self.write_spaces(rules, key, arrived, now)?)
            }
            (ValidatedBody::Value(value, validity), Namespace::Value(validator)) => {
                self.write_value(&**validator, key, &value, Some(validity), meta, now)
            }
            (ValidatedBody::Refused(reason), _) => Err(reason.into()),
            // It was checked by the rules of another store.
            _ => Err(ValidationError::from(Malformed::other("checked by other rules")).into()),
        }
    }

    fn try_write(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
    ) -> Result<WriteOutcome, WriteError> {
        let now = self.begin_write(key, &meta)?;
        let registry = self.registry.clone();
        match registry.resolve(key)? {
            Namespace::Spaces(rules) => self.write_smart_record(rules, key, value, now),
            Namespace::Value(validator) => {
                self.write_value(&**validator, key, value, None, meta, now)
            }
        }
    }

    /// Begins a write. Returns the time.
    fn begin_write(&mut self, key: &RecordKey, meta: &Meta) -> Result<Timestamp, WriteError> {
        let Meta { origin, source, .. } = *meta;
        if origin == Origin::Remote && self.table.storage.is_behind() {
            return Err(StorageError::QueueFull.into());
        }
        if key.as_bytes().is_empty() {
            // Kademlia passes a request without a record as one with an empty key.
            return Err(ValidationError::from(Malformed::other("an empty key")).into());
        }
        let now = self.clock.now();
        self.source = source;
        self.catch_up_on_notes()?;
        self.candidates.on_change();
        if let Ok(Namespace::Spaces(_)) = self.registry.resolve(key) {
            // Before anything is looked up: spaces without a head are hidden.
            self.restore_head(key)?;
        }
        self.may_collect = if origin == Origin::Local { COLLECT_FOR_ROOM } else { 0 };
        self.collect_due(now, COLLECT_PER_WRITE)?;
        // A write that needs no room does not need the shares.
        if let Err(error) = self.records.prepare(&self.table, READ_PER_WRITE) {
            self.news.read_failed(&error);
        }
        self.shed(key, now)?;
        Ok(now)
    }

    pub(super) fn refuse(
        &mut self,
        key: &RecordKey,
        origin: Origin,
        writer: Option<PeerId>,
        reason: ValidationError,
        count: usize,
    ) {
        self.news.emit(&StoreEvent::Refused { key: key.clone(), writer, origin, reason, count });
    }

    fn write_smart_record(
        &mut self,
        rules: &SpaceRules,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<WriteOutcome, WriteError> {
        rules.limits().check_key(key).map_err(ValidationError::from)?;
        let (known, news) = self.without_known(self.table.record_id(key), key, value)?;
        let mut refusals = Refusals::default();
        let spaces = match rules.open(key, news.into(), &mut refusals) {
            // Nothing is left, or only fields that this version does not know.
            Err(ValidationError::Malformed(Malformed::Empty)) if known > 0 => {
                return Ok(WriteOutcome { known, ..WriteOutcome::default() });
            }
            opened => opened?,
        };
        let spaces = spaces.into_iter();
        let spaces = spaces.map(|(writer, updates)| (writer, Incoming::Unverified(updates)));
        let arrived = Arrived { spaces: spaces.collect(), known, refusals };
        Ok(self.write_spaces(rules, key, arrived, now)?)
    }

    /// Joins spaces into a record.
    fn write_spaces(
        &mut self,
        rules: &SpaceRules,
        key: &RecordKey,
        arrived: Arrived,
        now: Timestamp,
    ) -> Result<WriteOutcome, StorageError> {
        let Arrived { spaces, known, refusals } = arrived;
        let mut outcome = WriteOutcome { known, refusals, ..WriteOutcome::default() };
        // Those that are evicted last come first, so that no space is stored and then evicted for a
        // later one.
        let (record, source, limits) = (self.table.record_id(key), self.source, rules.limits());
        let targets = spaces.into_iter().map(|(writer, updates)| {
            let order = updates.eviction_order(writer.rank(key), limits.min_stamp_bits());
            let (id, peer) = (record.part(SpaceId(*order.rank())), writer.peer_id());
            let charge = self.charge(key, Some(&peer));
            Target { key, limits, id, writer, updates, order, charge, source }
        });
        let mut targets: Vec<_> = targets.collect();
        targets.sort_unstable_by_key(|target| target.order);
        if let Err(error) = self.verify_together(rules, key, &mut targets, now) {
            outcome.failure = Some(error);
            return Ok(outcome);
        }
        for target in targets {
            let peer = target.writer.peer_id();
            match self.write_space(rules, target, now, &mut outcome.refusals) {
                Ok((stored, known)) => {
                    if stored > 0 {
                        outcome.writers.push(peer);
                    }
                    outcome.stored = outcome.stored.saturating_add(stored);
                    outcome.known = outcome.known.saturating_add(known);
                }
                Err(error) => {
                    outcome.failure = Some(error);
                    break;
                }
            }
        }
        Ok(outcome)
    }

    /// Removes the spaces that are already stored byte by byte from an encoded smart record.
    /// Returns the rest, and how many updates were removed. Replicas' copies of a board differ
    /// little, so most of a received board costs only a comparison.
    fn without_known(
        &self,
        record: RecordId,
        key: &RecordKey,
        value: &[u8],
    ) -> Result<(usize, Vec<u8>), StorageError> {
        let mut known = 0_usize;
        let mut news = Vec::new();
        let mut rest = value;
        while let Some((space, after)) = EncodedSpace::split_first(rest) {
            let (whole, _) = rest.split_at(rest.len().saturating_sub(after.len()));
            rest = after;
            if space.as_bytes().len() >= LEAST_SPACE {
                let id = record.part(SpaceId(space.rank(key)));
                if self.table.storage.get(&id)?.is_some_and(|part| rows::encoded(&part) == space) {
                    known = known.saturating_add(space.update_count());
                    continue;
                }
            }
            news.extend_from_slice(whole);
        }
        // Anything else, well formed or not, is decoded with the new spaces.
        news.extend_from_slice(rest);
        Ok((known, news))
    }

    /// What is stored of a space. Most received updates are already stored; this costs only a
    /// comparison.
    fn gate(&mut self, target: &Target<'_>, now: Timestamp) -> Result<Gate, StorageError> {
        let Target { id, updates, .. } = target;
        Ok(match self.table.storage.get(id)? {
            Some(part) if rows::encoded(&part).holds(updates) => Gate::Holds,
            // An expired row may be unverified, and holds nothing of use.
            Some(part) if part.expires_at.is_some_and(|at| at <= now) => {
                Gate::Has(Space::new(), now, false)
            }
            Some(part) => {
                let is_withdrawn = rows::encoded(&part).is_withdrawn();
                Gate::Has(rows::read_space(&part)?, part.stored_at, is_withdrawn)
            }
            None => {
                // There may be an invalid row.
                self.discard_rejected()?;
                match self.memory.space(*id, now) {
                    Some(known) if known.is_after(updates.newest_seq()) => Gate::IsOlder,
                    Some(known) => Gate::IsNew(known.stored_since.min(now)),
                    None => Gate::IsNew(now),
                }
            }
        })
    }

    /// Verifies updates of several spaces together. The rest is verified space by space.
    fn verify_together(
        &mut self,
        rules: &SpaceRules,
        key: &RecordKey,
        targets: &mut [Target<'_>],
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let count = |sum: usize, target: &Target<'_>| match &target.updates {
            Incoming::Unverified(updates) => sum.saturating_add(updates.len()),
            Incoming::Verified(_) => sum,
        };
        if targets.iter().fold(0, count) < SpaceRules::LEAST_TOGETHER {
            return Ok(());
        }
        let (mut newcomers, mut stored) = (Newcomers::default(), Vec::with_capacity(targets.len()));
        for target in &*targets {
            stored.push(self.certain_space(target, &mut newcomers, now)?);
        }
        let together = targets.iter_mut().zip(&stored).filter_map(|(target, stored)| {
            match (&mut target.updates, stored) {
                (Incoming::Unverified(updates), Some(stored)) => {
                    Some((&target.writer, stored, updates))
                }
                _ => None,
            }
        });
        rules.verify_together(key, together.collect(), Some(now));
        Ok(())
    }

    /// The space as it is stored; an empty one if it is new and has room beside other newcomers
    /// without an eviction. `None` if its updates may not have to be verified.
    fn certain_space(
        &mut self,
        target: &Target<'_>,
        newcomers: &mut Newcomers,
        now: Timestamp,
    ) -> Result<Option<Space>, StorageError> {
        let stored_at = match self.gate(target, now)? {
            Gate::Holds | Gate::IsOlder => return Ok(None),
            Gate::Has(space, ..) => {
                newcomers.grow(target.updates.bytes());
                return Ok(Some(space));
            }
            Gate::IsNew(stored_at) => stored_at,
        };
        let is_remembered = self.memory.space(target.id, now).is_some();
        let mut rows = target.newcomers(is_remembered, stored_at).peekable();
        let mut has_room = rows.peek().is_none();
        for row in rows {
            has_room = has_room || self.has_room_beside(&row, *newcomers, false)?;
        }
        newcomers.add(target.updates.bytes().saturating_add(target.writer.as_bytes().len()));
        Ok(has_room.then(Space::new))
    }

    /// Joins the valid updates into their writer's space. Returns how many were new, and how many
    /// were already stored.
    fn write_space(
        &mut self,
        rules: &SpaceRules,
        mut target: Target<'_>,
        now: Timestamp,
        refusals: &mut Refusals,
    ) -> Result<(usize, usize), StorageError> {
        let Target { key, id, .. } = target;
        let peer = target.writer.peer_id();
        let update_count = target.updates.update_count();
        let remembered = self.memory.space(id, now);
        let (stored, mut stored_at, was_withdrawn) = match self.gate(&target, now)? {
            Gate::Holds => return Ok((0, update_count)),
            Gate::Has(space, stored_at, was_withdrawn) => (space, stored_at, was_withdrawn),
            Gate::IsOlder => {
                self.news.count(|c| &mut c.remembered_refused, update_count);
                refusals.push(Some(peer), ValidationError::Stale, update_count);
                return Ok((0, 0));
            }
            Gate::IsNew(stored_at) => {
                // Without room no signature is checked.
                let mut refused = None;
                for newcomer in target.newcomers(remembered.is_some(), stored_at) {
                    refused = self.newcomer_refusal(newcomer, now)?;
                    if refused.is_none() {
                        break;
                    }
                }
                if let Some(limit) = refused {
                    refusals.push(Some(peer), limit.into(), update_count);
                    return Ok((0, 0));
                }
                (Space::new(), now, false)
            }
        };
        let before = stored.updates().len();
        let updates = std::mem::replace(&mut target.updates, Incoming::Verified(Space::new()));
        let mut merged = rules.merge(key, &target.writer, stored, updates, Some(now), refusals);
        let Some(mut space) = merged.space else {
            return Ok((0, merged.known));
        };
        let (mut returns, mut is_all_remembered) = (false, false);
        if let Some(known) = remembered {
            let too_old = known.admits(&mut space).unwrap_or(merged.admitted).min(merged.admitted);
            if too_old > 0 {
                self.news.count(|c| &mut c.remembered_refused, too_old);
                refusals.push(Some(peer), ValidationError::Stale, too_old);
                merged.admitted = merged.admitted.saturating_sub(too_old);
            }
            if merged.admitted == 0 {
                return Ok((0, merged.known));
            }
            returns = known.is_made_up_by(&space);
            is_all_remembered = known.is(&space);
            stored_at = stored_at.min(known.stored_since);
        }
        let collected = space.collect(now);
        let superseded = before
            .saturating_add(merged.admitted)
            .saturating_sub(collected)
            .saturating_sub(space.updates().len());
        let place = if space.is_withdrawn() { Place::Withdrawn } else { Place::Open };
        let part = rows::space_part(id.space, &space, &target.writer, stored_at);
        target.order = space.eviction_order(id.space.0, rules.limits().min_stamp_bits());
        let adds_to_memory = remembered.is_some() && !is_all_remembered;
        let row = PlannedRow { adds_to_memory, returns, ..target.row(part, place) };
        let refused = self.put_row(&row, now)?.err();
        if let Some(limit) = refused {
            if place == Place::Withdrawn && is_all_remembered {
                // It has no place, and what it says is known.
                return Ok((0, merged.known.saturating_add(merged.admitted)));
            }
            refusals.push(Some(peer), limit.into(), merged.admitted);
            // Its withdrawal may have a place even if what came after it has none.
            let withdrawal = space.withdrawal().filter(|_| !was_withdrawn);
            if let Some(withdrawal) = withdrawal {
                let part = rows::space_part(id.space, &withdrawal, &target.writer, stored_at);
                let row = target.row(part, Place::Withdrawn);
                let withdrawn = PlannedRow { adds_to_memory, ..row };
                // Without a place it stays as it is.
                let _: Result<(), LimitExceeded> = self.put_row(&withdrawn, now)?;
            }
            return Ok((0, merged.known));
        }
        self.news.count(|c| &mut c.collected, collected);
        self.news.count(|c| &mut c.superseded, superseded);
        Ok((merged.admitted, merged.known))
    }
}
