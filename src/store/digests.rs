//! Digests of the boards that are given out in slices, updated with each change.
//!
//! **Invariants.** A digest equals the
//! [`SmartRecord::digest`](smart_record_core::SmartRecord::digest) of the spaces that are given out
//! now. It reads only spaces whose rows have changed since the last answer, or of which an update
//! has expired. The numbers of remembered spaces and of changed spaces are bounded: a board with
//! more changes between two answers is forgotten.
//!
//! **Spec.** `docs/wire.md`, section "Coverage".

use std::collections::{BTreeMap, BTreeSet};

use hashlink::LruCache;

use super::{
    SmartRecordStore, StorageError, lock, rows,
    storage::{Part, PartId, RecordId, SpaceId},
};
use smart_record_core::{EvictionOrder, RecordKey, SmartRecord, Timestamp};

/// Maximum number of remembered spaces: 15 MB, and 21 MB if all have changed. As many as a store of
/// default size holds, so that no order of requests makes it read whole boards again and again.
const MAX_SPACES: usize = 128 * 1_024;

/// The digests of boards.
#[derive(Debug)]
pub(super) struct Digests {
    boards: LruCache<RecordId, BoardDigest>,
    spaces: usize,
}

/// A summary of the spaces of a board that are given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    pub(super) spaces: u32,
    pub(super) digest: [u8; 32],
    pub(super) last: LastRanks,
}

/// The highest ranks that are given out, or the rank of the head if there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastRanks {
    open: SpaceId,
    withdrawn: SpaceId,
    /// Of the open spaces that are given out the one that is evicted first, if others are not given
    /// out.
    first_evicted: Option<EvictionOrder>,
    min_bits: u8,
}

impl LastRanks {
    /// Whether the space in a row, without what has expired, is given out.
    pub(super) fn has(&self, space: SpaceId, part: &Part<'_>) -> bool {
        if rows::encoded(part).is_withdrawn() {
            return space <= self.withdrawn;
        }
        let order = || rows::order(space, part, self.min_bits);
        space <= self.open && self.first_evicted.is_none_or(|first| order() <= first)
    }

    pub(super) fn of_any(&self) -> SpaceId {
        self.open.max(self.withdrawn)
    }
}

#[derive(Debug, Default)]
struct BoardDigest {
    spaces: BTreeMap<SpaceId, SpaceDigest>,
    /// Spaces whose rows have changed.
    changed: BTreeSet<SpaceId>,
    /// When the first update expires.
    until: Option<Timestamp>,
    made_at: Timestamp,
    summary: Option<Summary>,
}

#[derive(Debug)]
struct SpaceDigest {
    digest: [u8; 32],
    is_withdrawn: bool,
    /// As far as it counts in the order of eviction.
    work: u8,
    until: Option<Timestamp>,
}

impl Default for Digests {
    fn default() -> Self {
        Self { boards: LruCache::new_unbounded(), spaces: 0 }
    }
}

impl Digests {
    /// Handles a change of a row.
    pub(super) fn on_change(&mut self, id: PartId) {
        if id.space != SpaceId::HEAD
            && let Some(board) = self.boards.peek_mut(&id.record)
        {
            board.changed.insert(id.space);
            if board.changed.len() > board.spaces.len() {
                self.forget(id.record);
            }
        }
    }

    /// Forgets a board.
    pub(super) fn forget(&mut self, record: RecordId) {
        self.take(record);
    }

    fn take(&mut self, record: RecordId) -> Option<BoardDigest> {
        let board = self.boards.remove(&record)?;
        self.spaces = self.spaces.saturating_sub(board.spaces.len());
        Some(board)
    }

    fn put(&mut self, record: RecordId, board: BoardDigest) {
        self.spaces = self.spaces.saturating_add(board.spaces.len());
        self.boards.insert(record, board);
        while self.spaces > MAX_SPACES
            && let Some((_, oldest)) = self.boards.remove_lru()
        {
            self.spaces = self.spaces.saturating_sub(oldest.spaces.len());
        }
    }
}

impl BoardDigest {
    fn set(&mut self, id: SpaceId, digest: Option<SpaceDigest>) {
        match digest {
            Some(digest) => drop(self.spaces.insert(id, digest)),
            None => drop(self.spaces.remove(&id)),
        }
        self.summary = None;
    }
}

impl SmartRecordStore {
    /// The current summary of a board.
    pub(super) fn summary(
        &self,
        key: &RecordKey,
        id: RecordId,
        now: Timestamp,
    ) -> Result<Summary, StorageError> {
        let known = lock(&self.replies.digests).take(id);
        let max = self.max_spaces(key);
        let min_bits = max.min_bits;
        // If the clock was set back, what had expired is there again.
        let mut board = match known.filter(|board| board.made_at <= now) {
            Some(board) => board,
            None => {
                let mut board = BoardDigest::default();
                for part in self.live_spaces(id, SpaceId::HEAD..=SpaceId::MAX, now, |_, _| true) {
                    let (id, part) = part?;
                    board.set(id.space, SpaceDigest::of(id.space, &part, min_bits));
                }
                board
            }
        };
        board.made_at = now;
        let mut changed = std::mem::take(&mut board.changed);
        if board.until.is_some_and(|until| until <= now) {
            let has_expired = |digest: &SpaceDigest| digest.until.is_some_and(|at| at <= now);
            let expired = board.spaces.iter().filter(|(_, digest)| has_expired(digest));
            changed.extend(expired.map(|(id, _)| *id));
        }
        for space in changed {
            let part = self.table.storage.get(&id.part(space))?;
            let part = part.and_then(|part| self.live(space, part, now));
            board.set(space, part.and_then(|part| SpaceDigest::of(space, &part, min_bits)));
        }
        let summary = match board.summary {
            Some(summary) => summary,
            None => {
                board.until = board.spaces.values().filter_map(|digest| digest.until).min();
                let order = |(id, it): (&SpaceId, &SpaceDigest)| EvictionOrder::new(it.work, id.0);
                let open = board.spaces.iter().filter(|(_, it)| !it.is_withdrawn).map(order);
                let first_evicted = max.first_evicted(open);
                let given_out = || {
                    let mut fits = max.fits();
                    board.spaces.iter().filter(move |(id, it)| {
                        let has_place = |first| it.is_withdrawn || order((id, it)) <= first;
                        first_evicted.is_none_or(has_place) && fits(it.is_withdrawn)
                    })
                };
                // Forwards: what fits is counted from the lowest rank on.
                let last = |is_withdrawn| {
                    let of_kind = given_out().filter(|(_, it)| it.is_withdrawn == is_withdrawn);
                    of_kind.map(|(id, _)| *id).max().unwrap_or(SpaceId::HEAD)
                };
                Summary {
                    spaces: u32::try_from(given_out().count()).unwrap_or(u32::MAX),
                    digest: SmartRecord::digest_of(given_out().map(|(_, digest)| digest.digest)),
                    last: LastRanks {
                        open: last(false),
                        withdrawn: last(true),
                        first_evicted,
                        min_bits,
                    },
                }
            }
        };
        board.summary = Some(summary);
        lock(&self.replies.digests).put(id, board);
        Ok(summary)
    }
}

impl SpaceDigest {
    /// The digest of the space in a row without what has expired.
    fn of(id: SpaceId, part: &Part<'_>, min_bits: u8) -> Option<Self> {
        let is_withdrawn = rows::encoded(part).is_withdrawn();
        let work = rows::order(id, part, min_bits).work();
        Some(Self { digest: part.digest?, is_withdrawn, work, until: part.due_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(spaces: usize) -> BoardDigest {
        let mut board = BoardDigest::default();
        for n in 0..spaces {
            let place = u64::try_from(n + 1).unwrap();
            board.set(
                SpaceId::at(place),
                Some(SpaceDigest { digest: [7; 32], is_withdrawn: false, work: 0, until: None }),
            );
        }
        board
    }

    #[test]
    fn a_board_that_changes_more_than_it_has_between_two_answers_is_forgotten() {
        let (mut digests, record) = (Digests::default(), RecordId([1; 32]));
        digests.put(record, board(10));
        for place in (1..=10).chain(1..=10) {
            digests.on_change(record.part(SpaceId::at(place)));
        }
        digests.on_change(record.head());
        assert_eq!((digests.boards.len(), digests.spaces), (1, 10));
        digests.on_change(record.part(SpaceId::at(11)));
        assert_eq!((digests.boards.len(), digests.spaces), (0, 0));
    }

    #[test]
    fn the_number_of_remembered_spaces_is_bounded() {
        let mut digests = Digests::default();
        for n in 0..3 {
            digests.put(RecordId([n; 32]), board(MAX_SPACES / 2));
        }
        assert_eq!((digests.boards.len(), digests.spaces), (2, MAX_SPACES / 2 * 2));
        assert!(digests.take(RecordId([0; 32])).is_none(), "not asked for longest");
    }
}
