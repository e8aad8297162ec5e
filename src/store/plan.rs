//! Plans: what a write would change, before anything is.
//!
//! **Invariants.** Of a record with too many spaces or bytes those of the highest rank go, protected ones excepted;
//! who would have to go itself is refused, a newcomer before its signature is checked.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".

use bytes::Bytes;

use super::{
    SmartRecordStore, StorageError, StoreConfig,
    quota::{Claim, Ledger, Payers},
    room::{Plan, Planned},
    rows,
    storage::{Part, PartId},
};
use crate::{
    key::RecordKey,
    proto::storage::Value,
    record::{Limit, LimitExceeded},
    time::Timestamp,
};

/// Where a space stands, or would, and by what right.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) key: &'a RecordKey,
    pub(super) id: PartId,
    pub(super) claim: &'a Claim,
    pub(super) max_spaces: usize,
}

impl SmartRecordStore {
    /// Why a space of at least so many bytes that is not there yet cannot come in.
    pub(super) fn newcomer_refusal(
        &mut self,
        place: &Place<'_>,
        least: usize,
        now: Timestamp,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let cost = rows::cost(least);
        let board = self.board(place.id.record)?;
        let usage = self.storage.usage();
        let mut is_roomy = place.claim.namespace_quota.is_none()
            && board.open_cost().saturating_add(cost) <= self.config.max_record_bytes()
            && (board.spaces > 0 || usage.records < self.config.max_records())
            && usage.bytes.saturating_add(cost.saturating_mul(2)) <= self.config.max_bytes();
        if is_roomy && board.open_spaces() >= place.max_spaces && !place.claim.is_protected {
            // If only the number is full, somebody may have to go for it.
            let last = self.next_open_space(place.id.record, &board, None)?;
            is_roomy = last.is_some_and(|last| last > place.id.space);
        }
        if is_roomy {
            let mut ledger = Ledger::default();
            ledger.charge(place.id, least, place.claim.payers);
            if place.claim.writer_refusal(&*self.storage, &ledger)?.is_none() {
                return Ok(None);
            }
        }
        // The same as with what it really is, but smaller.
        let part = Part { bytes: vec![0; least].into(), due_at: None, expires_at: None };
        let plan = |store: &Self, clears| store.plan_space(place, part.clone(), clears);
        Ok(self.make_room(place.claim, now, plan)?.err())
    }

    /// The changes that write a space: its row, the head, and the removal of spaces of the highest rank if
    /// the record has too many; or of all that are not protected.
    pub(super) fn plan_space(
        &self,
        place: &Place<'_>,
        part: Part<'static>,
        clears: bool,
    ) -> Planned {
        let Place { key, id, claim, max_spaces } = *place;
        let mut plan = Plan::default();
        let mut board = self.board(id.record)?;
        let old = self.storage.get(&id)?.map(|part| part.bytes.len());
        let grows = old.is_none_or(|old| old < part.bytes.len());
        if let Some(old) = old {
            board.subtract(old, claim.is_protected);
        }
        board.add(part.bytes.len(), claim.is_protected);
        plan.set(id, part, old.map(|old| (old, claim.payers)), claim.payers);

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
            // Who is protected, or takes no more than before, displaces nobody by rank.
            let excess = excess.filter(|_| grows && !claim.is_protected);
            if excess.is_none() && !clears {
                break;
            }
            match (self.next_open_space(id.record, &board, below)?, excess) {
                (Some(last), None) | (Some(last), Some(_)) if clears || last > id.space => {
                    let last = id.record.part(last);
                    below = Some(last.space);
                    if let Some(part) = self.storage.get(&last)? {
                        let (bytes, writer) = (part.bytes.len(), rows::peer_of(&part));
                        board.subtract(bytes, false);
                        let payers = Payers::of_space(claim.payers.namespace, writer.as_ref());
                        plan.remove(last, bytes, payers);
                        plan.evicted_spaces = plan.evicted_spaces.saturating_add(1);
                    }
                }
                (_, Some(limit)) => return Ok(Err(limit)),
                (_, None) => break,
            }
        }

        let head = self.storage.get(&id.record.head())?;
        plan.is_new_record = head.is_none();
        let old = head.map(|head| {
            let (_, payers) = self.head_payers(rows::decode_head(&head).ok());
            (head.bytes.len(), payers)
        });
        let payers = Payers { writer: None, ..claim.payers };
        let key = Bytes::copy_from_slice(key.as_bytes());
        plan.set(id.record.head(), rows::board_part(key, board), old, payers);
        Ok(Ok(plan))
    }

    /// The claim of a value: of the local peer, if the local node wrote it.
    pub(super) fn value_claim(&self, key: &RecordKey, value: &Value) -> Claim {
        self.claim(key, value.is_local.then_some(&self.local))
    }

    pub(super) fn plan_value(&self, claim: &Claim, part: Part<'static>) -> Planned {
        let mut plan = Plan::default();
        let head = self.storage.get(&claim.record.head())?;
        plan.is_new_record = head.is_none();
        let old = head.map(|head| {
            let (_, payers) = self.head_payers(rows::decode_head(&head).ok());
            (head.bytes.len(), payers)
        });
        plan.set(claim.record.head(), part, old, claim.payers);
        Ok(Ok(plan))
    }
}
