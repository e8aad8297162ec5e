//! Checks of rows that an earlier process wrote, which the current rules may refuse.
//!
//! **Invariants.** A row that passes would be admitted now, apart from its times: readers skip what
//! has expired, and what seems to be from the future was admitted by an earlier setting of the
//! clock. Its digest and times are those of the space in it. A row that does not pass is removed
//! and reported, and the head of its record and the tallies are updated. A space that cannot be
//! verified, because the head of its record is damaged or missing, is hidden and stays. No row is
//! refused because verifying it takes work: what a value may take is no bound for what is stored.
//!
//! **Spec.** `docs/design.md`, section "On disk".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    SmartRecordStore,
    event::StoreEvent,
    plan::WritePlan,
    quota::{ChargedTallies, namespace_tally},
    rows,
    source::Arrival,
    storage::{
        Change, InvalidRow, Part, PartId, RecordId, RowCheck, RowFault, RowVerdict, SpaceId,
        StorageError,
    },
    table::HeadCost,
};
use crate::proto::storage::{Board, Head, head::Body};
use smart_record_core::{
    Chunks, Clock, Limit, LimitExceeded, Namespace, RecordKey, Registry, SignatureMemory,
    Timestamp, ValidationError,
};

/// The rules of the store that owns the storage.
pub(super) struct RowVerifier {
    pub(super) local: PeerId,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) signatures: SignatureMemory,
    /// How many rows were checked.
    pub(super) checked: Arc<AtomicU64>,
}

impl RowCheck for RowVerifier {
    fn check(&self, id: &PartId, part: &Part<'_>, head: Option<&Part<'_>>) -> RowVerdict {
        let check = || {
            if id.space == SpaceId::HEAD {
                self.check_head(id.record, part)
            } else {
                self.check_space(id, part, head)
            }
        };
        // Its work counts for whoever causes it, beyond any bound that he has.
        let (result, _) = self.signatures.during(Duration::MAX, check);
        if !matches!(result, Ok(ValidPart::Expired | ValidPart::Headless)) {
            self.checked.fetch_add(1, Ordering::Relaxed);
        }
        match result {
            Ok(ValidPart::Good) => RowVerdict::Good,
            Ok(ValidPart::Expired) => RowVerdict::Expired,
            Ok(ValidPart::Partly(rest, fault)) => RowVerdict::Partly(rest, fault),
            Ok(ValidPart::Headless) => RowVerdict::Headless,
            Err(fault) => RowVerdict::Bad(fault),
        }
    }
}

/// The valid part of a row.
enum ValidPart {
    Good,
    /// All of it has expired, and it was not verified.
    Expired,
    /// Only this part; the rest has a fault.
    Partly(Part<'static>, RowFault),
    /// Perhaps all of it: it cannot be verified without the key in its record's head.
    Headless,
}

impl From<StorageError> for RowFault {
    fn from(_: StorageError) -> Self {
        Self::Damaged
    }
}

impl RowVerifier {
    fn check_head(&self, id: RecordId, part: &Part<'_>) -> Result<ValidPart, RowFault> {
        let (key, body) = self.read_head(id, part)?;
        match (body, self.registry.resolve(&key)?) {
            (Body::Board(_), Namespace::Spaces(rules)) => {
                rules.limits().check_key(&key).map_err(ValidationError::from)?;
                Ok(ValidPart::Good)
            }
            (Body::Value(stored), Namespace::Value(validator)) => {
                let now = self.clock.now();
                let has_expired = part.expires_at.is_some_and(|at| at <= now);
                if has_expired && stored.remember_until.is_none_or(|at| at <= now.as_millis()) {
                    return Ok(ValidPart::Expired);
                }
                match validator.revalidate(&key, &stored.value, now) {
                    // Readers skip it because the row has expired. It has to be remembered.
                    Err(ValidationError::Expired { .. }) if has_expired => Ok(ValidPart::Good),
                    Err(ValidationError::LimitExceeded(LimitExceeded {
                        limit: Limit::CLOCK_SKEW,
                        ..
                    }))
                    | Ok(()) => Ok(ValidPart::Good),
                    Err(error) => Err(error.into()),
                }
            }
            _ => Err(of_another_kind().into()),
        }
    }

    fn check_space(
        &self,
        id: &PartId,
        part: &Part<'_>,
        head: Option<&Part<'_>>,
    ) -> Result<ValidPart, RowFault> {
        if part.expires_at.is_some_and(|at| at <= self.clock.now()) && has_own_times(part)? {
            return Ok(ValidPart::Expired);
        }
        // Signatures cannot be verified without the key.
        let Some((key, _)) = head.and_then(|head| self.read_head(id.record, head).ok()) else {
            return match rows::encoded(part).writer().is_ok() && has_own_times(part)? {
                true => Ok(ValidPart::Headless),
                false => Err(RowFault::Damaged),
            };
        };
        let Namespace::Spaces(rules) = self.registry.resolve(&key)? else {
            return Err(of_another_kind().into());
        };
        let encoded = rows::encoded(part);
        if SpaceId(encoded.rank(&key)) != id.space {
            return Err(RowFault::Damaged);
        }
        let space = [&part.bytes];
        let record = Chunks::new(space.into_iter(), usize::MAX).next().unwrap_or_default();
        let (record, refusals) = match rules.read_partial(&key, &record, None) {
            Err(ValidationError::Malformed(_)) => return Err(RowFault::Damaged),
            sifted => sifted?,
        };
        match (record.into_spaces().next(), refusals.first().cloned()) {
            (Some((writer, rest)), refused) => {
                let is_whole = rest.updates().len() == encoded.update_count();
                let rest = rows::space_part(id.space, &rest, &writer, part.stored_at);
                let has_others = part.digest.is_some_and(|it| Some(it) != rest.digest)
                    || times(part) != times(&rest);
                let fault = match refused {
                    Some(reason) => reason.into(),
                    // Updates were dropped by limits that are lower now.
                    None if !is_whole => ValidationError::Stale.into(),
                    None if has_others => RowFault::Damaged,
                    None => return Ok(ValidPart::Good),
                };
                Ok(ValidPart::Partly(rest, fault))
            }
            (None, Some(reason)) => Err(reason.into()),
            (None, None) => Err(RowFault::Damaged),
        }
    }

    /// The key and the body of a head, if its key is that of this record.
    fn read_head(&self, id: RecordId, part: &Part<'_>) -> Result<(RecordKey, Body), RowFault> {
        let Head { key, body, .. } = rows::decode_head(part)?;
        let key = RecordKey::new(key);
        match body {
            Some(body) if RecordId::new(&self.local, &key) == id => Ok((key, body)),
            _ => Err(RowFault::Damaged),
        }
    }
}

impl SmartRecordStore {
    /// Removes the rows that the storage found to be invalid.
    pub(super) fn discard_rejected(&mut self) -> Result<(), StorageError> {
        let mut rejected = self.table.storage.take_rejected();
        rejected.sort_unstable_by_key(|rejected| rejected.id);
        for of_one in rejected.chunk_by(|a, b| a.id.record == b.id.record) {
            self.discard(of_one)?;
        }
        Ok(())
    }

    /// Writes a new head for spaces whose head was damaged. Without the key in it they cannot be
    /// verified, and are hidden.
    pub(super) fn restore_head(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        let record = self.table.record_id(key);
        if self.table.storage.get(&record.head())?.is_some()
            || self.table.last_space(record, SpaceId::MAX)?.is_none()
        {
            return Ok(());
        }
        // The spaces can be read, and so counted, only with a head.
        let of_no_list =
            Board { protected_by: !self.table.protection.fingerprint, ..Board::default() };
        let now = self.clock.now();
        let arrival = Arrival { at: now, source: self.source };
        let head = |board| rows::board_part(Bytes::copy_from_slice(key.as_bytes()), board, arrival);
        self.change(vec![Change::Set(record.head(), head(of_no_list))])?;
        let charged = ChargedTallies { writer: None, namespace: namespace_tally(key) };
        let mut plan = WritePlan::default();
        plan.set(record.head(), head(self.table.count_board(record, None)?), None, charged);
        self.apply(plan)
    }

    /// Removes invalid rows of one record. Counts its spaces again, because the counts in its head
    /// are not certain.
    fn discard(&mut self, rejected: &[InvalidRow]) -> Result<(), StorageError> {
        let Some(record) = rejected.first().map(|rejected| rejected.id.record) else {
            return Ok(());
        };
        let mut plan = WritePlan::default();
        let old_head = self.table.head_cost(record)?;
        let mut key = old_head.as_ref().and_then(|head| head.key.clone());
        let namespace = old_head.as_ref().and_then(|head| head.charged.namespace);
        for InvalidRow { id, part, bytes, rest, .. } in rejected {
            let charged = if id.space == SpaceId::HEAD {
                let head = part.as_ref().map(|part| self.table.head_cost_of(part));
                let (of_head, charged) = head.map(|head| (head.key, head.charged)).unzip();
                key = key.or(of_head.flatten());
                charged.unwrap_or_default()
            } else {
                let writer = part.as_ref().and_then(rows::peer_of);
                ChargedTallies::of_space(namespace, writer.as_ref())
            };
            match rest {
                Some(rest) => plan.set(*id, rest.clone(), Some((*bytes, charged)), charged),
                None => plan.remove(*id, *bytes, charged),
            }
        }
        let has_bad_space = rejected.iter().any(|rejected| rejected.id.space != SpaceId::HEAD);
        if let (Some(key), Some(old), true) = (&key, old_head, has_bad_space) {
            let HeadCost { bytes, charged, arrival, .. } = old;
            let board = self.table.count_board(record, None)?;
            if board.spaces > 0 {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let part = rows::board_part(key, board, arrival);
                plan.set(record.head(), part, Some((bytes, charged)), charged);
            } else {
                plan.remove(record.head(), bytes, charged);
            }
        }
        self.forget_places(record);
        self.apply(plan)?;
        for InvalidRow { fault, .. } in rejected {
            let fault = fault.clone();
            self.news.emit(&StoreEvent::Discarded { key: key.clone(), fault });
        }
        Ok(())
    }
}

/// When a row is due, and when it expires.
const fn times(part: &Part<'_>) -> (Option<Timestamp>, Option<Timestamp>) {
    (part.due_at, part.expires_at)
}

/// Whether the times of a row are those of the space in it.
fn has_own_times(part: &Part<'_>) -> Result<bool, StorageError> {
    let space = rows::read_space(part)?;
    Ok(times(part) == (space.first_collectable_at(), space.retain_until()))
}

/// The namespace holds records of another kind than when the row was written.
fn of_another_kind() -> ValidationError {
    ValidationError::Unsupported("the namespace is of another kind now".to_owned())
}
