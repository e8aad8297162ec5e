//! Index of evictable spaces from the highest rank, skipping protected ones.
//!
//! **Invariants.** Each evictable id is in the index, or lies at or below the base. A search moves
//! the base down past ids that are not evictable. Only more than [`KNOWN`] new ids move it up
//! again. So an id that is not evictable is passed once, and again at most once for each [`KNOWN`]`
//! / 2` new ids.
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::BTreeSet;

use super::storage::{SpaceId, StorageError};

/// How many ids above the base are kept. 1,024 take about 50 KB, and spread a walk past everything
/// in a store of the default size over so many writes that each takes only a few steps.
const KNOWN: usize = 1_024;

/// The evictable ids above a base.
#[derive(Debug)]
pub(super) struct EvictionIndex {
    /// Ids above the base that were evictable when they were added.
    known: BTreeSet<SpaceId>,
    /// `None` once everything has been passed.
    base: Option<SpaceId>,
}

impl Default for EvictionIndex {
    fn default() -> Self {
        Self { known: BTreeSet::new(), base: Some(SpaceId::MAX) }
    }
}

impl EvictionIndex {
    /// Adds an id that became evictable.
    pub(super) fn notice(&mut self, id: SpaceId) {
        if self.base.is_some_and(|base| id <= base) {
            return;
        }
        self.known.insert(id);
        while self.known.len() > KNOWN {
            self.forget_half();
        }
    }

    fn forget_half(&mut self) {
        let half = self.known.len() / 2;
        if let Some(middle) = self.known.iter().nth(half).copied() {
            let upper = self.known.split_off(&middle);
            self.base = self.known.last().copied().max(self.base);
            self.known = upper;
        }
    }

    /// The greatest evictable id below `below`, with the result of `probe`.
    /// `last` finds the last id at or before an id; `probe` returns `None` for an id that is not
    /// evictable.
    pub(super) fn next<V>(
        &mut self,
        below: Option<SpaceId>,
        last: impl Fn(SpaceId) -> Result<Option<SpaceId>, StorageError>,
        probe: impl Fn(SpaceId) -> Result<Option<V>, StorageError>,
    ) -> Result<Option<(SpaceId, V)>, StorageError> {
        loop {
            let known = match below {
                Some(below) => self.known.range(..below).next_back(),
                None => self.known.last(),
            };
            if let Some(id) = known.copied() {
                match probe(id)? {
                    Some(found) => return Ok(Some((id, found))),
                    None => self.known.remove(&id),
                };
                continue;
            }
            let Some(base) = self.base else {
                return Ok(None);
            };
            match last(base)? {
                Some(id) => {
                    if probe(id)?.is_some() {
                        self.known.insert(id);
                    }
                    self.base = id.before();
                }
                None => self.base = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn id(n: u16) -> SpaceId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        SpaceId(id)
    }

    /// Ids of which the odd ones are not evictable, and how often one was probed.
    struct World(BTreeSet<SpaceId>, Cell<usize>);

    impl World {
        fn next(&self, eviction_index: &mut EvictionIndex) -> Option<SpaceId> {
            let last = |up_to| Ok(self.0.range(..=up_to).next_back().copied());
            let probe = |id: SpaceId| {
                self.1.set(self.1.get() + 1);
                Ok((self.0.contains(&id) && id.0[1].is_multiple_of(2)).then_some(()))
            };
            let found = eviction_index.next(None, last, probe).unwrap();
            assert_eq!(
                found.map(|(id, ())| id),
                self.0.iter().rev().find(|id| id.0[1] % 2 == 0).copied()
            );
            found.map(|(id, ())| id)
        }
    }

    #[test]
    fn what_may_not_go_is_passed_once() {
        let mut world = World((0..1_000).map(|n| id(2 * n + 20_001)).collect(), Cell::new(0));
        world.0.extend((0..10_000).map(|n| id(2 * n)));
        let mut eviction_index = EvictionIndex::default();
        let mut gone = 0;
        // A new id at the far end for each that is removed.
        for round in 0..5_000_u16 {
            let newcomer = id(30_000 + 2 * (round * 7 % 5_000));
            world.0.insert(newcomer);
            eviction_index.notice(newcomer);
            for _ in 0..1 + round % 3 {
                if let Some(id) = world.next(&mut eviction_index) {
                    world.0.remove(&id);
                    gone += 1;
                }
            }
        }
        assert!(gone > 9_000);
        let looks = world.1.get();
        assert!(looks < 3 * gone + 5_000 + 1_000, "{looks} looks for {gone}");
    }

    #[test]
    fn too_many_newcomers_are_not_lost() {
        let mut world = World(BTreeSet::new(), Cell::new(0));
        let mut eviction_index = EvictionIndex::default();
        assert_eq!(world.next(&mut eviction_index), None);
        for n in 0..3_000 {
            world.0.insert(id(2 * n + 2));
            eviction_index.notice(id(2 * n + 2));
        }
        assert!(eviction_index.known.len() <= KNOWN);
        for _ in 0..3_000 {
            let next = world.next(&mut eviction_index).unwrap();
            world.0.remove(&next);
        }
        assert_eq!(world.next(&mut eviction_index), None);
    }
}
