//! The rows of a store, and the counts in their heads.
//!
//! **Invariants.** This module writes nothing. The counts in a head are those of its record's
//! spaces. The counts of a damaged head, or of one that was written with another list of protected
//! writers, are not used; the spaces are counted instead.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".

use std::collections::BTreeSet;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    StorageError,
    eviction_memory::Departed,
    plan::WritePlan,
    quota::{ChargedTallies, Protection, namespace_tally},
    rows::{self, Place},
    source::{Arrival, Source},
    storage::{Part, PartId, Parts, RecordId, SpaceId, Storage, TallyId},
};
use crate::proto::storage::{Board, Head, head::Body};
use smart_record_core::{EvictionOrder, RecordKey, Timestamp};

/// The rows, their owner, and the protected writers.
pub(super) struct Table {
    pub(super) local: PeerId,
    /// The digest of the local peer.
    place: [u8; 32],
    pub(super) storage: Box<dyn Storage>,
    pub(super) protection: Protection,
}

impl Table {
    pub(super) fn new(local: PeerId, storage: Box<dyn Storage>, protection: Protection) -> Self {
        Self { local, place: RecordId::place(&local), storage, protection }
    }

    pub(super) fn record_id(&self, key: &RecordKey) -> RecordId {
        RecordId::at(&self.place, key)
    }

    /// The digest of the local peer.
    pub(super) const fn place(&self) -> &[u8; 32] {
        &self.place
    }

    /// All parts of a record, its head first.
    pub(super) fn parts_of(&self, record: RecordId) -> Parts<'_> {
        self.storage.scan(record.parts())
    }

    /// The same without checking the parts, for those that may be evicted.
    pub(super) fn unchecked_parts_of(&self, record: RecordId) -> Parts<'_> {
        self.storage.scan_unchecked(record.parts())
    }

    /// A part, without checking it.
    pub(super) fn unchecked(&self, id: PartId) -> Result<Option<Part<'_>>, StorageError> {
        let part = self.storage.scan_unchecked(id..=id).next().transpose()?;
        Ok(part.map(|(_, part)| part))
    }

    /// The last space of a record at or before `up_to`, valid or not.
    pub(super) fn last_space(
        &self,
        record: RecordId,
        up_to: SpaceId,
    ) -> Result<Option<SpaceId>, StorageError> {
        let last = self.storage.last(&record.part(up_to))?;
        Ok(last.filter(|l| l.record == record && l.space != SpaceId::HEAD).map(|l| l.space))
    }

    /// Whether a record has other spaces than this one.
    pub(super) fn has_other_spaces(&self, id: PartId) -> Result<bool, StorageError> {
        let last = self.last_space(id.record, SpaceId::MAX)?;
        let other = match id.space.before() {
            Some(before) if last == Some(id.space) => self.last_space(id.record, before)?,
            _ => last,
        };
        Ok(other.is_some())
    }

    /// The withdrawn spaces that a plan writes, and since when they are stored.
    pub(super) fn withdrawn_in(&self, plan: &WritePlan) -> Vec<(PartId, Timestamp)> {
        let spaces = plan.written().filter(|(id, _)| id.space != SpaceId::HEAD);
        let is_withdrawn = |part: &Part<'_>| {
            rows::encoded(part).is_withdrawn() && self.place_of(part) == Place::Withdrawn
        };
        let withdrawn = spaces.filter(|(_, part)| is_withdrawn(part));
        withdrawn.map(|(id, part)| (id, part.stored_at)).collect()
    }

    /// The places that the space in a row takes.
    pub(super) fn place_of(&self, part: &Part<'_>) -> Place {
        match rows::encoded(part).is_withdrawn() {
            _ if rows::peer_of(part).is_some_and(|writer| self.protection.covers(&writer)) => {
                Place::Protected
            }
            true => Place::Withdrawn,
            false => Place::Open,
        }
    }

    /// The counts of a record's spaces, from its head or by counting.
    pub(super) fn board(&self, record: RecordId) -> Result<Board, StorageError> {
        match self.known_board(record)? {
            Some(board) => Ok(board),
            None => self.count_board(record, None),
        }
    }

    /// The counts in a record's head. `None` if its spaces have to be counted, because the head is
    /// damaged or was written with another list of protected writers.
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

    /// The counts in a record's head, or those of its spaces if the head was written with another
    /// list of protected writers.
    pub(super) fn certain(&self, record: RecordId, board: Board) -> Result<Board, StorageError> {
        match board.protected_by == self.protection.fingerprint {
            true => Ok(board),
            false => self.count_board(record, None),
        }
    }

    /// Counts the spaces of a record, except one.
    pub(super) fn count_board(
        &self,
        record: RecordId,
        except: Option<SpaceId>,
    ) -> Result<Board, StorageError> {
        let mut board = self.empty_board();
        for part in self.parts_of(record) {
            let (id, part) = part?;
            if id.space != SpaceId::HEAD && Some(id.space) != except {
                board.add(part.bytes.len(), self.place_of(&part));
            }
        }
        Ok(board)
    }

    /// The `max` withdrawn spaces of a record that were first stored last, in ascending order of
    /// that time.
    pub(super) fn last_withdrawn(
        &self,
        record: RecordId,
        max: usize,
    ) -> Result<Vec<(Timestamp, SpaceId)>, StorageError> {
        let mut found = BTreeSet::new();
        // Rows that may be evicted need not be checked for that.
        for part in self.unchecked_parts_of(record) {
            let (id, part) = part?;
            if id.space != SpaceId::HEAD && self.place_of(&part) == Place::Withdrawn {
                found.insert((part.stored_at, id.space));
                if found.len() > max {
                    found.pop_first();
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Of the open spaces of a record that have work and go after `below`, the `max` that go first,
    /// the first at the end.
    pub(super) fn first_stamped(
        &self,
        record: RecordId,
        below: Option<EvictionOrder>,
        min_bits: u8,
        max: usize,
    ) -> Result<Vec<EvictionOrder>, StorageError> {
        let mut found = BTreeSet::new();
        for part in self.unchecked_parts_of(record) {
            let (id, part) = part?;
            let order = rows::order(id.space, &part, min_bits);
            let is_full = found.len() >= max;
            if id.space != SpaceId::HEAD
                && order.work() > 0
                && below.is_none_or(|below| order < below)
                // Otherwise it would not be among the first. Decoding its key costs more.
                && !(is_full && found.first().is_some_and(|last| order < *last))
                && self.place_of(&part) == Place::Open
            {
                found.insert(order);
                if found.len() > max {
                    found.pop_first();
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The work of the open spaces of a record: the most of them. Stamps of less than `min_bits` do
    /// not count.
    pub(super) fn work(&self, record: RecordId, min_bits: u8) -> Result<u8, StorageError> {
        let mut most = 0;
        for part in self.unchecked_parts_of(record) {
            let (id, part) = part?;
            let work = rows::order(id.space, &part, min_bits).work();
            let is_space = id.space != SpaceId::HEAD;
            if is_space && work > most && self.place_of(&part) == Place::Open {
                most = work;
            }
        }
        Ok(most)
    }

    pub(super) fn empty_board(&self) -> Board {
        Board { protected_by: self.protection.fingerprint, ..Board::default() }
    }

    /// The key in a head, and the tallies that the head is charged to.
    fn head_payers(&self, head: Option<Head>) -> (Option<RecordKey>, ChargedTallies) {
        let Some(Head { key, body, .. }) = head else {
            return (None, ChargedTallies::default());
        };
        let key = RecordKey::new(key);
        let is_local = matches!(body, Some(Body::Value(value)) if value.is_local);
        let charged = ChargedTallies {
            writer: is_local.then(|| TallyId::writer(&self.local)),
            namespace: namespace_tally(&key),
        };
        (Some(key), charged)
    }

    /// A record's head, if there is one.
    pub(super) fn head_cost(&self, record: RecordId) -> Result<Option<HeadCost>, StorageError> {
        let head = self.storage.get(&record.head())?;
        Ok(head.map(|head| self.head_cost_of(&head)))
    }

    /// What a head costs whom, and when the record was first stored.
    pub(super) fn head_cost_of(&self, part: &Part<'_>) -> HeadCost {
        let head = rows::decode_head(part).ok();
        let source = head.as_ref().map_or(Source::UNKNOWN, |head| Source::from_wire(head.source));
        let arrival = Arrival { at: part.stored_at, source };
        let (key, charged) = self.head_payers(head);
        HeadCost { key, bytes: part.bytes.len(), charged, arrival }
    }

    /// Plans the removal of a record; if it `spares`, its eviction: protected parts stay, and what
    /// goes is noted in the plan. Returns its key, if it can be decoded.
    pub(super) fn plan_removal(
        &self,
        record: RecordId,
        spares: bool,
        plan: &mut WritePlan,
    ) -> Result<Option<RecordKey>, StorageError> {
        let mut rest = self.empty_board();
        let mut head = None;
        let mut namespace = None;
        for part in self.unchecked_parts_of(record) {
            let (id, part) = part?;
            let bytes = part.bytes.len();
            if id.space == SpaceId::HEAD {
                let cost = self.head_cost_of(&part);
                namespace = cost.charged.namespace;
                if spares {
                    plan.evicted.extend(Departed::of(id, &part));
                }
                head = Some(cost);
                continue;
            }
            let writer = rows::peer_of(&part);
            if spares && writer.is_some_and(|writer| self.protection.covers(&writer)) {
                rest.add(bytes, Place::Protected);
            } else {
                if spares {
                    plan.evicted.extend(Departed::of(id, &part));
                }
                plan.remove(id, bytes, ChargedTallies::of_space(namespace, writer.as_ref()));
            }
        }
        let Some(HeadCost { key, bytes, charged, arrival }) = head else {
            return Ok(None);
        };
        match &key {
            Some(key) if rest.spaces > 0 => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let part = rows::board_part(key, rest, arrival);
                plan.set(record.head(), part, Some((bytes, charged)), charged);
            }
            _ => plan.remove(record.head(), bytes, charged),
        }
        Ok(key)
    }
}

/// A stored head.
#[derive(Clone, Debug)]
pub(super) struct HeadCost {
    /// `None` if it is damaged.
    pub(super) key: Option<RecordKey>,
    pub(super) bytes: usize,
    pub(super) charged: ChargedTallies,
    pub(super) arrival: Arrival,
}
