//! Victims: what may go when room is needed, from the far end, and the changes that remove it.
//!
//! **Invariants.** Nothing that is protected is a victim. Looking for victims does not cost more the more is
//! protected ([`Horizon`]).
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    SmartRecordStore, StorageError,
    collect::of_one,
    horizon::Horizon,
    lock,
    quota::{Claim, Payers, namespace_tally},
    room::Plan,
    rows,
    storage::{PartId, RecordId, SpaceId, TallyId},
};
use crate::{
    key::RecordKey,
    proto::storage::{Board, Head, head::Body},
};

/// For how many records it is remembered which of their spaces may go. Only those that are full and have
/// protected spaces need it; when there are more, it is found anew.
const MAX_BOARDS: usize = 64;

/// What is known of where victims are.
#[derive(Debug, Default)]
pub(super) struct Horizons {
    records: HashMap<Kind, Horizon<RecordId>>,
    spaces: HashMap<RecordId, Horizon<SpaceId>>,
}

/// Which records are looked for: those of a namespace that has a quota, or of any; only those that may go whole, or
/// all of which something may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) namespace: Option<String>,
    pub(super) only_whole: bool,
}

impl Horizons {
    /// Takes note of a row that was written and is not protected, or of the head of a record of which nothing is
    /// any more; in a namespace, if that has a quota.
    pub(super) fn notice(&mut self, id: PartId, namespace: Option<&str>) {
        if id.space == SpaceId::HEAD {
            for (kind, horizon) in &mut self.records {
                if kind.namespace.is_none() || kind.namespace.as_deref() == namespace {
                    horizon.notice(id.record);
                }
            }
        } else if let Some(horizon) = self.spaces.get_mut(&id.record) {
            horizon.notice(id.space);
        }
    }

    pub(super) fn forget(&mut self, record: RecordId) {
        self.spaces.remove(&record);
    }
}

/// A record of which something may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pub(super) record: RecordId,
    /// What becomes free.
    pub(super) bytes: usize,
    /// Whether nothing of it is protected.
    pub(super) is_whole: bool,
}

impl SmartRecordStore {
    /// The farthest record of a kind of which something may go for a claim, below the one that was the last to be
    /// chosen.
    pub(super) fn next_victim(
        &self,
        claim: &Claim,
        kind: &Kind,
        mut below: Option<RecordId>,
    ) -> Result<Option<Victim>, StorageError> {
        let above = (!claim.is_protected).then_some(claim.record);
        let mut horizons = lock(&self.horizons);
        let horizon = horizons.records.entry(kind.clone()).or_default();
        loop {
            let found = horizon.next(
                below,
                above,
                |up_to| {
                    let last = self.storage.last(&up_to.part(SpaceId::MAX))?;
                    Ok(last.map(|last| last.record))
                },
                |record| {
                    let victim = self.victim(record, kind.namespace.as_deref())?;
                    Ok(victim.filter(|victim| victim.is_whole || !kind.only_whole))
                },
            )?;
            match found {
                // Its own record is being written.
                Some((record, _)) if record == claim.record => below = Some(record),
                found => return Ok(found.map(|(_, victim)| victim)),
            }
        }
    }

    /// What may go of a record, if anything may and it is of the namespace.
    fn victim(
        &self,
        record: RecordId,
        namespace: Option<&str>,
    ) -> Result<Option<Victim>, StorageError> {
        let part = self.storage.get(&record.head())?;
        let head = part.as_ref().and_then(|part| rows::decode_head(part).ok());
        let Some(head) = head else {
            // Damaged, or spaces without a head; of what namespace cannot be told.
            let mut rest = None;
            for part in self.parts_of(record).filter(|_| namespace.is_none()) {
                let (id, part) = part?;
                let is_space = id.space != SpaceId::HEAD;
                if !(is_space && rows::peer_of(&part).is_some_and(|w| self.protection.covers(&w))) {
                    let bytes = rows::cost(part.bytes.len());
                    rest = Some(rest.unwrap_or(0_usize).saturating_add(bytes));
                }
            }
            let is_whole = part.is_some();
            return Ok(rest.map(|bytes| Victim { record, bytes, is_whole }));
        };
        let own_cost = part.map_or(0, |part| rows::cost(part.bytes.len()));
        if namespace.is_some() && RecordKey::new(head.key).namespace() != namespace {
            return Ok(None);
        }
        if matches!(head.body, Some(Body::Value(value)) if value.is_local) {
            return Ok(None);
        }
        let board = self.board(record)?;
        if board.protected_spaces == 0 {
            let bytes = board.open_cost().saturating_add(own_cost);
            return Ok(Some(Victim { record, bytes, is_whole: true }));
        }
        let may_go = board.open_spaces() > 0;
        Ok(may_go.then_some(Victim { record, bytes: board.open_cost(), is_whole: false }))
    }

    /// The space of the highest rank, below one, that is not protected.
    pub(super) fn next_open_space(
        &self,
        record: RecordId,
        board: &Board,
        below: Option<SpaceId>,
    ) -> Result<Option<SpaceId>, StorageError> {
        let last = |up_to| self.last_space(record, up_to);
        if board.protected_spaces == 0 {
            return match below {
                Some(below) => below.before().map_or(Ok(None), last),
                None => last(SpaceId::MAX),
            };
        }
        let mut horizons = lock(&self.horizons);
        if horizons.spaces.len() >= MAX_BOARDS && !horizons.spaces.contains_key(&record) {
            horizons.spaces.clear();
        }
        let horizon = horizons.spaces.entry(record).or_default();
        let found = horizon.next(below, None, last, |space| {
            let part = self.storage.get(&record.part(space))?;
            let is_open = |part| match rows::peer_of(&part) {
                Some(writer) => !self.protection.covers(&writer),
                None => true,
            };
            Ok(part.is_some_and(is_open).then_some(()))
        })?;
        Ok(found.map(|(space, ())| space))
    }

    /// What a record's head says, or would say if it could be read.
    pub(super) fn board(&self, record: RecordId) -> Result<Board, StorageError> {
        match self.known_board(record)? {
            Some(board) => Ok(board),
            None => self.count_board(record, None),
        }
    }

    /// What a record's head says; `None` if its spaces have to be counted, because the head is damaged, or of
    /// the time of another list.
    pub(super) fn known_board(&self, record: RecordId) -> Result<Option<Board>, StorageError> {
        let empty = self.empty_board();
        let Some(head) = self.storage.get(&record.head())? else {
            return Ok(Some(empty));
        };
        Ok(match rows::decode_head(&head) {
            Ok(Head { body: Some(Body::Value(_)), .. }) => Some(empty),
            Ok(Head { body: Some(Body::Board(board)), .. }) => {
                (board.protected_by == empty.protected_by).then_some(board)
            }
            _ => None,
        })
    }

    /// Counts the spaces of a record, all but one.
    pub(super) fn count_board(
        &self,
        record: RecordId,
        except: Option<SpaceId>,
    ) -> Result<Board, StorageError> {
        let mut board = self.empty_board();
        for part in self.parts_of(record) {
            let (id, part) = part?;
            if id.space != SpaceId::HEAD && Some(id.space) != except {
                let writer = rows::peer_of(&part);
                let is_protected = writer.is_some_and(|w| self.protection.covers(&w));
                board.add(part.bytes.len(), is_protected);
            }
        }
        Ok(board)
    }

    fn empty_board(&self) -> Board {
        Board { protected_by: self.protection.fingerprint, ..Board::default() }
    }

    /// The last space of a record at or before another, good or not.
    pub(super) fn last_space(
        &self,
        record: RecordId,
        up_to: SpaceId,
    ) -> Result<Option<SpaceId>, StorageError> {
        let last = self.storage.last(&record.part(up_to))?;
        Ok(last.filter(|l| l.record == record && l.space != SpaceId::HEAD).map(|l| l.space))
    }

    /// Plans that a record goes, all of it or what is not protected. Returns its key, if it can be read.
    pub(super) fn plan_removal(
        &self,
        record: RecordId,
        spares: bool,
        plan: &mut Plan,
    ) -> Result<Option<RecordKey>, StorageError> {
        let mut rest = self.empty_board();
        let mut head = None;
        let mut namespace = None;
        for part in of_one(record, self.storage.scan_unchecked(&record.head())) {
            let (id, part) = part?;
            let bytes = part.bytes.len();
            if id.space == SpaceId::HEAD {
                let (key, payers) = self.head_payers(rows::decode_head(&part).ok());
                namespace = payers.namespace;
                head = Some((key, bytes, payers));
                continue;
            }
            let writer = rows::peer_of(&part);
            if spares && writer.is_some_and(|writer| self.protection.covers(&writer)) {
                rest.add(bytes, true);
            } else {
                plan.remove(id, bytes, Payers::of_space(namespace, writer.as_ref()));
            }
        }
        let Some((key, bytes, payers)) = head else {
            return Ok(None);
        };
        match &key {
            Some(key) if rest.spaces > 0 => {
                let part = rows::board_part(Bytes::copy_from_slice(key.as_bytes()), rest);
                plan.set(record.head(), part, Some((bytes, payers)), payers);
            }
            _ => plan.remove(record.head(), bytes, payers),
        }
        Ok(key)
    }

    /// Who is charged for a head, and its key.
    pub(super) fn head_payers(&self, head: Option<Head>) -> (Option<RecordKey>, Payers) {
        let Some(Head { key, body }) = head else {
            return (None, Payers::default());
        };
        let key = RecordKey::new(key);
        let is_local = matches!(body, Some(Body::Value(value)) if value.is_local);
        let payers = Payers {
            writer: is_local.then(|| TallyId::writer(&self.local)),
            namespace: namespace_tally(&key),
        };
        (Some(key), payers)
    }
}
