//! What is known of the spaces that a record has no place for.
//!
//! A record is joined within its limits. Which withdrawn spaces stay goes by rank, and ranks are
//! free to choose. So a reader that is sent enough withdrawals drops others, and without a memory
//! of them it would show what was withdrawn to whoever sends that afterwards.
//!
//! **Invariants.** Pure. The result does not depend on the order in which spaces are added. The
//! number of entries is bounded; when there are too many, those of the lowest ranks stay, and
//! [`is_whole`](DroppedSpaces::is_whole) is false until all that was forgotten has expired. A clone
//! shares the entries until one of the two changes. What is asked for each answer costs no look at
//! all entries.
//!
//! **Spec.** `docs/design.md`, section "Join".

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smart_record_core::{
    EvictionOrder, Limits, Position, RecordKey, RingArc, Space, Timestamp, Writer,
};

/// What an entry takes, and one that misses something, roughly.
const ENTRY: usize = 110;
const MISSED: usize = 140;

/// The first half of a writer's rank.
type Id = [u8; 16];

/// The spaces that a record has no place for, each with the position of its newest replace. What is
/// older is hidden, though the replace itself is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct DroppedSpaces {
    spaces: Arc<BTreeMap<Id, Dropped>>,
    missed: Arc<Missed>,
    /// Until when what was forgotten because there was too much may have hidden something.
    too_many_until: Option<Timestamp>,
}

/// What a space that was dropped hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    replace: Option<Position>,
    until: Timestamp,
}

/// The spaces of which something newer was dropped than what has a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Missed {
    spaces: BTreeMap<Id, MissedSpace>,
    /// Those that are not withdrawn, and those that are, in the order of eviction.
    open: BTreeSet<(OrderedPlace, Id)>,
    withdrawn: BTreeSet<(OrderedPlace, Id)>,
}

/// The newest update of a space that was dropped. Of two states, the newer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MissedSpace {
    newest: Position,
    work: u8,
    is_withdrawn: bool,
}

/// The order of eviction by places of the ring of ranks: the greatest goes first.
pub(super) type OrderedPlace = (Reverse<u8>, u64);

pub(super) const fn ordered_place(order: EvictionOrder) -> OrderedPlace {
    (Reverse(order.work()), RingArc::place(order.rank()))
}

/// The place of a space in the order of eviction. Of a withdrawn one only the rank counts.
pub(super) fn order_of(space: &Space, rank: [u8; 32], min_bits: u8) -> EvictionOrder {
    match space.is_withdrawn() {
        true => EvictionOrder::new(0, rank),
        false => space.eviction_order(rank, min_bits),
    }
}

/// The places that spaces of a record take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TakenPlaces {
    /// The place that is evicted first of those that are not withdrawn, and of those that are.
    /// `None`: there is room for more.
    pub(super) open: Option<OrderedPlace>,
    pub(super) withdrawn: Option<OrderedPlace>,
}

/// The name of an entry.
fn half(writer: &Writer, key: &RecordKey) -> Id {
    writer.rank(key).first_chunk().copied().unwrap_or_default()
}

impl Missed {
    fn order(id: Id, missed: &MissedSpace) -> (OrderedPlace, Id) {
        let place = id.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        ((Reverse(missed.work), place), id)
    }

    const fn ordered(&mut self, is_withdrawn: bool) -> &mut BTreeSet<(OrderedPlace, Id)> {
        if is_withdrawn { &mut self.withdrawn } else { &mut self.open }
    }

    fn set(&mut self, id: Id, missed: MissedSpace) {
        self.remove(&id);
        self.ordered(missed.is_withdrawn).insert(Self::order(id, &missed));
        self.spaces.insert(id, missed);
    }

    fn remove(&mut self, id: &Id) {
        if let Some(missed) = self.spaces.remove(id) {
            self.ordered(missed.is_withdrawn).remove(&Self::order(*id, &missed));
        }
    }
}

impl DroppedSpaces {
    /// Maximum number of entries: as many withdrawn spaces as 20 replicas hold of one record. Fewer
    /// in unit tests, so that a few answers exceed it.
    pub(crate) const MAX: usize = if cfg!(test) { 128 } else { 20 * 4_096 };

    /// Adds spaces of a record with these limits. Returns those of which something was not known.
    pub(crate) fn add(
        &mut self,
        key: &RecordKey,
        spaces: &[(Writer, Space)],
        limits: &Limits,
    ) -> Vec<(Writer, Dropped)> {
        let mut news = Vec::new();
        for (writer, space) in spaces {
            if let Some((until, newest)) = space.retain_until().zip(space.newest()) {
                let is_withdrawn = space.is_withdrawn();
                let work = order_of(space, writer.rank(key), limits.min_stamp_bits()).work();
                let dropped = Dropped { replace: space.newest_replace(), until };
                let missed = MissedSpace { newest, work, is_withdrawn };
                if self.insert(half(writer, key), dropped, Some(missed)) {
                    news.push((writer.clone(), dropped));
                }
            }
        }
        news
    }

    /// Adds what is hidden by a space that was dropped elsewhere. Returns whether that was not
    /// known.
    pub(super) fn hide(&mut self, key: &RecordKey, writer: &Writer, dropped: Dropped) -> bool {
        self.insert(half(writer, key), dropped, None)
    }

    /// Adds what is hidden by another, which was not missed here. Returns whether something of it
    /// was not known.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        self.too_many_until = self.too_many_until.max(other.too_many_until);
        if Arc::ptr_eq(&self.spaces, &other.spaces) {
            return false;
        }
        if self.spaces.is_empty() {
            self.spaces = other.spaces.clone();
            return !self.spaces.is_empty();
        }
        let entries = other.spaces.iter();
        entries.fold(false, |is_news, (id, dropped)| self.insert(*id, *dropped, None) || is_news)
    }

    /// How much memory they take, roughly.
    pub(super) fn bytes(&self) -> usize {
        let missed = self.missed.spaces.len().saturating_mul(MISSED);
        self.spaces.len().saturating_mul(ENTRY).saturating_add(missed)
    }

    fn insert(&mut self, id: Id, dropped: Dropped, missed: Option<MissedSpace>) -> bool {
        let known = self.spaces.get(&id).copied();
        let joined = known.map_or(dropped, |known| Dropped {
            replace: known.replace.max(dropped.replace),
            until: known.until.max(dropped.until),
        });
        let had = self.missed.spaces.get(&id).copied();
        let misses = had.max(missed);
        if known == Some(joined) && misses == had {
            return false;
        }
        if known != Some(joined) {
            Arc::make_mut(&mut self.spaces).insert(id, joined);
        }
        if let Some(misses) = misses.filter(|_| misses != had) {
            Arc::make_mut(&mut self.missed).set(id, misses);
        }
        if self.spaces.len() <= Self::MAX {
            return true;
        }
        let last = Arc::make_mut(&mut self.spaces).pop_last();
        last.is_some_and(|(last, forgotten)| {
            self.too_many_until = self.too_many_until.max(Some(forgotten.until));
            self.find(&last);
            last != id
        })
    }

    /// Handles that nothing of a space is missed any more.
    fn find(&mut self, id: &Id) {
        if self.missed.spaces.contains_key(id) {
            Arc::make_mut(&mut self.missed).remove(id);
        }
    }

    /// Handles a space that has a place now, with updates up to this one.
    pub(super) fn on_placed(&mut self, key: &RecordKey, writer: &Writer, newest: Position) {
        if self.missed.spaces.is_empty() {
            return;
        }
        let id = half(writer, key);
        if self.missed.spaces.get(&id).is_some_and(|missed| missed.newest <= newest) {
            self.find(&id);
        }
    }

    /// Whether a space was dropped that would have a place now.
    pub(super) fn misses_any(&self, taken: TakenPlaces) -> bool {
        let has_place = |first: Option<&(OrderedPlace, Id)>, last: Option<OrderedPlace>| {
            first.is_some_and(|(order, _)| last.is_none_or(|last| *order < last))
        };
        has_place(self.missed.open.first(), taken.open)
            || has_place(self.missed.withdrawn.first(), taken.withdrawn)
    }

    fn get(&self, key: &RecordKey, writer: &Writer) -> Option<&Dropped> {
        // Few records are full.
        let spaces = Some(&self.spaces).filter(|spaces| !spaces.is_empty())?;
        spaces.get(&half(writer, key))
    }

    /// Whether the space of a writer was dropped.
    pub(crate) fn has(&self, key: &RecordKey, writer: &Writer) -> bool {
        self.get(key, writer).is_some()
    }

    /// The newest replace of a writer's space, if that was dropped.
    pub(super) fn replace(&self, key: &RecordKey, writer: &Writer) -> Option<Position> {
        self.get(key, writer)?.replace
    }

    /// A space without what is hidden; `None` if nothing is left.
    pub(crate) fn admit<'a>(
        &self,
        key: &RecordKey,
        writer: &Writer,
        space: &'a Space,
    ) -> Option<Cow<'a, Space>> {
        let Some(replace) = self.replace(key, writer) else {
            return Some(Cow::Borrowed(space));
        };
        let mut space = space.clone();
        space.retain(|position| position >= replace);
        (!space.is_empty()).then_some(Cow::Owned(space))
    }

    /// Whether nothing was forgotten because there was too much, or all of that has expired.
    pub(crate) const fn is_whole(&self) -> bool {
        self.too_many_until.is_none()
    }

    /// Forgets what has expired.
    pub(super) fn collect(&mut self, now: Timestamp) {
        self.too_many_until = self.too_many_until.filter(|until| *until > now);
        let gone = self.spaces.iter().filter(|(_, dropped)| dropped.until <= now);
        let gone: Vec<Id> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            Arc::make_mut(&mut self.spaces).remove(&id);
            self.find(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::Seq;

    const MAX: usize = DroppedSpaces::MAX;
    const UNTIL: Timestamp = Timestamp::from_millis(1);

    fn id(n: usize) -> Id {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    fn at(n: u64) -> Position {
        Position { seq: Seq::from_micros(n), hash: [0; 32] }
    }

    fn missed(newest: u64, work: u8, is_withdrawn: bool) -> Option<MissedSpace> {
        Some(MissedSpace { newest: at(newest), work, is_withdrawn })
    }

    impl PartialEq for DroppedSpaces {
        fn eq(&self, other: &Self) -> bool {
            (&self.spaces, &self.missed) == (&other.spaces, &other.missed)
                && self.too_many_until == other.too_many_until
        }
    }

    #[test]
    fn the_number_of_entries_is_bounded_whatever_the_order() {
        let dropped = Dropped { replace: None, until: UNTIL };
        let mut forth = DroppedSpaces::default();
        let mut back = DroppedSpaces::default();
        for n in 0..MAX + 10 {
            assert_eq!(forth.is_whole(), n <= MAX);
            assert_eq!(forth.insert(id(n), dropped, missed(1, 0, true)), n < MAX);
            assert!(back.insert(id(MAX + 9 - n), dropped, missed(1, 0, true)));
        }
        assert!(forth == back);
        assert_eq!((forth.spaces.len(), back.is_whole()), (MAX, false));
        assert_eq!(forth.missed.spaces.len(), MAX);
        assert_eq!(forth.bytes(), MAX * (ENTRY + MISSED));
        assert!(!back.join(&forth));
        // What was forgotten for want of room hides nothing any more either.
        back.collect(Timestamp::EPOCH);
        assert!(!back.is_whole());
        back.collect(UNTIL);
        assert!(back == DroppedSpaces::default() && back.is_whole());
    }

    #[test]
    fn the_result_does_not_depend_on_the_order() {
        let entries: Vec<_> = (0..48_u64)
            .map(|n| {
                let until = Timestamp::from_millis(1 + n % 5);
                let dropped = Dropped { replace: (n % 4 > 0).then(|| at(n % 7)), until };
                let work = u8::try_from(n % 3).unwrap();
                (
                    id(n as usize % 6),
                    dropped,
                    missed(n % 4, work, n % 5 == 0).filter(|_| n % 11 > 0),
                )
            })
            .collect();
        let all = |order: &dyn Fn(usize) -> usize| {
            let mut all = DroppedSpaces::default();
            for n in 0..entries.len() {
                let (id, dropped, missed) = entries[order(n)];
                all.insert(id, dropped, missed);
                assert!(!all.insert(id, dropped, missed), "it is news once");
            }
            all
        };
        let forth = all(&|n| n);
        for step in [5, 7, 11, 13, 47] {
            assert!(forth == all(&|n| (n * step + 3) % 48), "{step}");
        }
    }

    #[test]
    fn what_is_missed_is_known_by_the_first_in_the_order_of_eviction() {
        let mut all = DroppedSpaces::default();
        let dropped = Dropped { replace: None, until: UNTIL };
        let place = |work, n: usize| Some((Reverse(work), n as u64));
        let misses =
            |all: &DroppedSpaces, open, withdrawn| all.misses_any(TakenPlaces { open, withdrawn });
        all.insert(id(5), dropped, missed(1, 0, false));
        all.insert(id(9), dropped, missed(1, 3, false));
        all.insert(id(7), dropped, missed(1, 0, true));
        assert!(misses(&all, None, place(0, 7)) && misses(&all, place(3, 9), None));
        assert!(!misses(&all, place(3, 9), place(0, 7)));
        assert!(misses(&all, place(3, 10), place(0, 7)));
        assert!(misses(&all, place(3, 9), place(0, 8)));
        // Once it has a place, or as a withdrawal, it is not missed among the others.
        all.insert(id(9), dropped, missed(2, 0, true));
        assert!(!misses(&all, place(0, 5), place(0, 7)) && misses(&all, place(0, 6), place(0, 7)));
        all.find(&id(5));
        assert!(!misses(&all, None, place(0, 7)));
        assert_eq!((all.missed.open.len(), all.missed.withdrawn.len()), (0, 2));
    }

    #[test]
    fn a_clone_shares_the_entries_and_joining_it_costs_nothing() {
        let dropped = Dropped { replace: Some(at(1)), until: UNTIL };
        let mut one = DroppedSpaces::default();
        assert!((0..100).all(|n| one.insert(id(n), dropped, missed(1, 0, true))));
        let (before, mut other) = (one.clone(), DroppedSpaces::default());
        assert!(other.join(&one) && !other.join(&one));
        for shared in [&before, &other] {
            assert!(Arc::ptr_eq(&shared.spaces, &one.spaces));
        }
        assert!(other.missed.spaces.is_empty(), "it was missed there, not here");
        // What is known already copies nothing.
        assert!(!one.insert(id(1), dropped, missed(1, 0, true)));
        assert!(Arc::ptr_eq(&before.spaces, &one.spaces));
        assert!(one.insert(id(100), dropped, None));
        assert_eq!((before.spaces.len(), one.spaces.len()), (100, 101));
    }
}
