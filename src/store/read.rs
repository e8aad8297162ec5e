//! Reading whole records, for the local user.
//!
//! **Invariants.** Nothing expired is returned. A record is returned with at most as many spaces as
//! its limits allow, the last in the order of eviction of those that have not expired.
//!
//! **Spec.** `docs/design.md`, sections "Any subset of a record is a record" and "Quotas".

use std::{collections::BTreeSet, iter, ops::RangeInclusive};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    SmartRecordStore, StorageError, rows,
    storage::{Part, PartId, RecordId, SpaceId},
};
use crate::proto::storage::Board;
use smart_record_core::{
    EvictionOrder, Namespace, RecordKey, SmartRecord, Timestamp, View, Writer,
};

/// A stored value that is not a smart record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredValue {
    /// The value.
    pub value: Bytes,
    /// When it expires, as signed in the value or as sent with it. `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl SmartRecordStore {
    /// Returns the smart record under `key` as this node knows it, with at most as many spaces as
    /// its limits allow. `None` if there is none. Damaged spaces are left out, and counted among
    /// the storage's failures. The key is not checked: under an invalid one, or one of an
    /// unknown namespace, there is nothing. That holds for each read of the store.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn record(&self, key: &RecordKey) -> Result<Option<SmartRecord>, StorageError> {
        let now = self.clock.now();
        let mut record = SmartRecord::new(key.clone());
        let id = self.table.record_id(key);
        for row in self.given_out(key, id, self.table.board(id)?, now) {
            self.join_row(&mut record, &row?.1);
        }
        Ok((record.spaces().len() > 0).then_some(record))
    }

    /// Returns the spaces of these writers under `key`. These may include spaces of protected
    /// writers that [`record`](Self::record) leaves out because the record is full. Otherwise as
    /// `record`.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    pub fn record_of<'a>(
        &self,
        key: &RecordKey,
        writers: impl IntoIterator<Item = &'a PeerId>,
    ) -> Result<Option<SmartRecord>, StorageError> {
        let now = self.clock.now();
        let id = self.table.record_id(key);
        let mut record = SmartRecord::new(key.clone());
        let mut hashed = BTreeSet::new();
        for peer in writers {
            match Writer::of_peer(peer) {
                Some(writer) => {
                    let space = SpaceId(writer.rank(key));
                    let row = self.table.storage.get(&id.part(space))?;
                    if let Some(part) = row.and_then(|row| self.live(space, row, now)) {
                        self.join_row(&mut record, &part);
                    }
                }
                // The id of such a peer is a hash, and the rank comes from its public key.
                None => _ = hashed.insert(*peer),
            }
        }
        let all = Some(SpaceId::HEAD..=SpaceId::MAX).filter(|_| !hashed.is_empty());
        for part in all.into_iter().flat_map(|all| self.spaces(id, all, now)) {
            let (part_id, part) = part?;
            if rows::peer_of(&part).is_some_and(|peer| hashed.contains(&peer))
                && let Some(part) = self.live(part_id.space, part, now)
            {
                self.join_row(&mut record, &part);
            }
        }
        if let Ok(Namespace::Spaces(rules)) = self.registry.resolve(key) {
            record.truncate(rules.limits());
        }
        Ok((record.spaces().len() > 0).then_some(record))
    }

    /// Joins the space in a row into its record.
    fn join_row(&self, record: &mut SmartRecord, part: &Part<'_>) {
        match rows::read_owned_space(part) {
            Ok((writer, space)) => record.join_space(writer, space),
            Err(error) => self.news.read_failed(&error),
        }
    }

    /// The row of a space, without what has expired. `None` if nothing is left, or it cannot be
    /// read, which is counted among the storage's failures.
    pub(super) fn live<'a>(&self, id: SpaceId, part: Part<'a>, now: Timestamp) -> Option<Part<'a>> {
        let live = rows::live(id, part, now);
        live.inspect_err(|error| self.news.read_failed(error)).ok().flatten()
    }

    /// Returns the current view of the smart record under `key`, as this node knows it. Empty under
    /// a key that is not valid, as for [`record`](Self::record).
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn view(&self, key: &RecordKey) -> Result<View, StorageError> {
        let now = self.clock.now();
        Ok(self.record(key)?.map(|record| record.view(now)).unwrap_or_default())
    }

    /// Returns the value under a key of a namespace without spaces. `None` under a key that is not
    /// valid, as for [`record`](Self::record).
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read.
    pub fn value(&self, key: &RecordKey) -> Result<Option<StoredValue>, StorageError> {
        let value = self.live_value(self.table.record_id(key), self.clock.now())?;
        Ok(value.map(|(_, stored, expires_at)| StoredValue { value: stored.value, expires_at }))
    }

    /// The record after this one in the order of distance from the local peer, or the first. It may
    /// have expired.
    pub(crate) fn next_record(
        &self,
        after: Option<RecordId>,
    ) -> Result<Option<(RecordId, RecordKey)>, StorageError> {
        let from = match after {
            None => Some(PartId::MIN),
            Some(id) => id.after().map(RecordId::head),
        };
        let next = from.and_then(|from| self.table.storage.scan(from..=PartId::MAX).next());
        let Some((head, part)) = next.transpose()? else {
            return Ok(None);
        };
        let key = rows::decode_head(&part).map(|head| head.key).unwrap_or_default();
        Ok(Some((head.record, RecordKey::new(key))))
    }

    /// The spaces of a record within these ranks that have not expired.
    pub(super) fn spaces(
        &self,
        record: RecordId,
        ranks: RangeInclusive<SpaceId>,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        let lives = move |id: &PartId, part: &Part<'_>| {
            id.space != SpaceId::HEAD && part.expires_at.is_none_or(|at| at > now)
        };
        let parts = self.table.storage.scan(within(record, &ranks));
        parts.filter(move |part| part.as_ref().map_or(true, |(id, part)| lives(id, part)))
    }

    /// The spaces of a record that are given out, without what has expired: as many as the limits
    /// allow, of those of which something can be read. Of open ones those that are evicted last, of
    /// withdrawn ones those of the lowest ranks. `board` has the counts of the record's spaces.
    pub(super) fn given_out(
        &self,
        key: &RecordKey,
        record: RecordId,
        board: Board,
        now: Timestamp,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        let max = self.max_spaces(key);
        let spaces = usize::try_from(board.spaces).unwrap_or(usize::MAX);
        // Then it does not matter which of them are withdrawn.
        let are_all = spaces <= max.open.min(max.withdrawn);
        let first_evicted = match are_all {
            true => None,
            false => self.first_evicted(record, board, max, now),
        };
        let mut fits = max.fits();
        let all = SpaceId::HEAD..=SpaceId::MAX;
        self.live_spaces(record, all, now, move |space, part| {
            if are_all {
                return true;
            }
            let is_withdrawn = rows::encoded(part).is_withdrawn();
            let has_place = |first| rows::order(space, part, max.min_bits) <= first;
            (is_withdrawn || first_evicted.is_none_or(has_place)) && fits(is_withdrawn)
        })
    }

    /// The spaces of a record within these ranks, without what has expired, of which something can
    /// be read, and which are `given_out`.
    pub(super) fn live_spaces(
        &self,
        record: RecordId,
        ranks: RangeInclusive<SpaceId>,
        now: Timestamp,
        mut given_out: impl FnMut(SpaceId, &Part<'_>) -> bool,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        let mut parts = self.table.storage.scan(within(record, &ranks));
        // One step for each row: a chain of adapters would move it at each.
        iter::from_fn(move || {
            loop {
                let row = parts.next()?;
                match &row {
                    Ok((id, _)) if id.space == SpaceId::HEAD => continue,
                    Ok((id, part)) if rows::is_as_stored(part, now) => {
                        if given_out(id.space, part) {
                            return Some(row);
                        }
                        continue;
                    }
                    Ok(_) | Err(_) => {}
                }
                let Ok((id, part)) = row else { return Some(row) };
                if let Some(part) = self.live(id.space, part, now)
                    && given_out(id.space, &part)
                {
                    return Some(Ok((id, part)));
                }
            }
        })
    }

    /// Of the open spaces that are given out the one that is evicted first, if others are not given
    /// out.
    fn first_evicted(
        &self,
        record: RecordId,
        board: Board,
        max: MaxSpaces,
        now: Timestamp,
    ) -> Option<EvictionOrder> {
        let open = board.spaces.saturating_sub(board.withdrawn_spaces);
        if usize::try_from(open).is_ok_and(|open| open <= max.open) {
            return None;
        }
        let all = SpaceId::HEAD..=SpaceId::MAX;
        let spaces = self.live_spaces(record, all, now, |_, _| true).filter_map(Result::ok);
        let open = spaces.filter(|(_, part)| !rows::encoded(part).is_withdrawn());
        max.first_evicted(open.map(|(id, part)| rows::order(id.space, &part, max.min_bits)))
    }

    pub(super) fn max_spaces(&self, key: &RecordKey) -> MaxSpaces {
        match self.registry.resolve(key) {
            Ok(Namespace::Spaces(rules)) => {
                let limits = rules.limits();
                MaxSpaces {
                    open: limits.spaces_per_record(),
                    withdrawn: limits.withdrawn_per_record(),
                    min_bits: limits.min_stamp_bits(),
                }
            }
            _ => MaxSpaces { open: 0, withdrawn: 0, min_bits: 0 },
        }
    }
}

/// The ids of the spaces of a record within these ranks.
fn within(record: RecordId, ranks: &RangeInclusive<SpaceId>) -> RangeInclusive<PartId> {
    record.part(*ranks.start())..=record.part(*ranks.end())
}

/// How many spaces of a record are given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaxSpaces {
    /// Number of spaces that are not withdrawn.
    pub(super) open: usize,
    pub(super) withdrawn: usize,
    /// The least number of bits of a stamp that counts in the order of eviction.
    pub(super) min_bits: u8,
}

impl MaxSpaces {
    /// Of as many of these open spaces as the limit allows the one that is evicted first, if there
    /// are more.
    pub(super) fn first_evicted(
        self,
        open: impl Iterator<Item = EvictionOrder>,
    ) -> Option<EvictionOrder> {
        let mut open: Vec<_> = open.collect();
        if open.len() <= self.open {
            return None;
        }
        open.sort_unstable();
        let last = self.open.checked_sub(1).and_then(|last| open.get(last).copied());
        // None is within a limit of zero.
        Some(last.unwrap_or(EvictionOrder::new(u8::MAX, SpaceId::HEAD.0)))
    }

    /// Whether one more space, which may be withdrawn, is within these limits.
    pub(super) fn fits(self) -> impl FnMut(bool) -> bool {
        let Self { mut open, mut withdrawn, .. } = self;
        move |is_withdrawn| {
            let left = if is_withdrawn { &mut withdrawn } else { &mut open };
            let fits = *left > 0;
            *left = left.saturating_sub(1);
            fits
        }
    }
}
