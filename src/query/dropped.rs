//! What is known of the spaces that a record has no place for.
//!
//! A record is joined within its limits. Which withdrawn spaces stay goes by rank, and ranks are
//! free to choose. So a reader that is sent enough withdrawals drops others, and without a memory
//! of them it would show what was withdrawn to whoever sends that afterwards.
//!
//! **Invariants.** Pure. The result does not depend on the order in which spaces are added. The
//! number of entries is bounded; when there are too many, those of the lowest ranks stay, and
//! [`is_whole`](DroppedSpaces::is_whole) is false.
//!
//! **Spec.** `docs/design.md`, section "Join".

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap};

use smart_record_core::{
    EvictionOrder, Limits, Position, RecordKey, RingArc, Space, Timestamp, Writer,
};

/// What an entry takes, roughly.
const ENTRY: usize = 150;
/// Maximum number of entries: as many withdrawn spaces as 20 replicas hold
/// of one record.
const MAX: usize = 20 * 4_096;

/// The spaces that a record has no place for, each with the position of its newest replace. What is
/// older is hidden, though the replace itself is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct DroppedSpaces {
    spaces: BTreeMap<[u8; 16], Dropped>,
    has_too_many: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dropped {
    replace: Option<Position>,
    /// The newest update, unless that has been given a place since.
    missed: Option<Position>,
    is_withdrawn: bool,
    work: u8,
    until: Timestamp,
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

/// The name of an entry: the first half of the writer's rank.
fn half(writer: &Writer, key: &RecordKey) -> [u8; 16] {
    writer.rank(key).first_chunk().copied().unwrap_or_default()
}

impl DroppedSpaces {
    /// Adds spaces of a record with these limits. Returns whether something of them was not known.
    pub(crate) fn add(
        &mut self,
        key: &RecordKey,
        spaces: &[(Writer, Space)],
        limits: &Limits,
    ) -> bool {
        let mut is_news = false;
        for (writer, space) in spaces {
            if let Some(until) = space.retain_until() {
                let (replace, missed) = (space.newest_replace(), space.newest());
                let is_withdrawn = space.is_withdrawn();
                let work = order_of(space, writer.rank(key), limits.min_stamp_bits()).work();
                let dropped = Dropped { replace, missed, is_withdrawn, work, until };
                is_news |= self.insert(half(writer, key), dropped);
            }
        }
        is_news
    }

    /// Adds what is hidden by another, which was not missed here. Returns whether something of it
    /// was not known.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        self.has_too_many |= other.has_too_many;
        let entries = other.spaces.iter();
        let entries = entries.map(|(id, dropped)| (*id, Dropped { missed: None, ..*dropped }));
        entries.fold(false, |is_news, (id, dropped)| self.insert(id, dropped) || is_news)
    }

    /// How much memory they take, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.spaces.len().saturating_mul(ENTRY)
    }

    fn insert(&mut self, id: [u8; 16], dropped: Dropped) -> bool {
        let known = self.spaces.get(&id).copied();
        let joined = known.map_or(dropped, |known| {
            let order = |it: &Dropped| (it.missed, it.work, it.is_withdrawn);
            let latest = std::cmp::max_by_key(known, dropped, order);
            let (replace, until) = (known.replace.max(dropped.replace), known.until);
            Dropped { replace, until: until.max(dropped.until), ..latest }
        });
        if known == Some(joined) {
            return false;
        }
        self.spaces.insert(id, joined);
        if self.spaces.len() > MAX {
            self.has_too_many = true;
            return self.spaces.pop_last().is_some_and(|(last, _)| last != id);
        }
        true
    }

    /// Handles a space that has a place now, with updates up to this one.
    pub(super) fn on_placed(&mut self, key: &RecordKey, writer: &Writer, newest: Position) {
        if self.spaces.is_empty() {
            return;
        }
        if let Some(dropped) = self.spaces.get_mut(&half(writer, key)) {
            dropped.missed = dropped.missed.filter(|missed| *missed > newest);
        }
    }

    /// Whether a space was dropped that would have a place now.
    pub(super) fn misses_any(&self, taken: TakenPlaces) -> bool {
        self.spaces.iter().any(|(id, dropped)| {
            let place = id.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            let last = if dropped.is_withdrawn { taken.withdrawn } else { taken.open };
            let order = (Reverse(dropped.work), place);
            dropped.missed.is_some() && last.is_none_or(|last| order < last)
        })
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

    /// Whether nothing was forgotten because there was too much.
    pub(super) const fn is_whole(&self) -> bool {
        !self.has_too_many
    }

    /// Forgets what has expired.
    pub(super) fn collect(&mut self, now: Timestamp) {
        self.spaces.retain(|_, dropped| dropped.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_entries_is_bounded_whatever_the_order() {
        let entry = |n: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let until = Timestamp::from_millis(1);
            (id, Dropped { replace: None, missed: None, is_withdrawn: true, work: 0, until })
        };
        let mut forth = DroppedSpaces::default();
        let mut back = DroppedSpaces::default();
        for n in 0..MAX + 10 {
            assert_eq!(forth.is_whole(), n <= MAX);
            let (id, dropped) = entry(n);
            assert_eq!(forth.insert(id, dropped), n < MAX);
            let (id, dropped) = entry(MAX + 9 - n);
            assert!(back.insert(id, dropped));
        }
        assert_eq!(forth.spaces, back.spaces);
        assert_eq!((forth.spaces.len(), back.is_whole()), (MAX, false));
        assert!(!back.join(&forth));
        back.collect(Timestamp::from_millis(1));
        assert!(back.spaces.is_empty());
    }
}
