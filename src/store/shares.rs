//! Shares of a bound: how much of it the records of each source take, and which goes first.
//!
//! The records of the source with the largest share go first, and of these those that were stored
//! last. So whoever sends more than others displaces its own records.
//!
//! **Invariants.** Every record that can be evicted, as a whole or in part, is in the share of its
//! source. A share has exactly what its entries add up to. The first to go is found in a time that
//! grows with the logarithm of the number of records. A record that comes in makes its share no
//! larger than the largest was before, so no two shares displace each other in turn.
//!
//! **Spec.** `docs/design.md`, section "Shares of a full store".

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    config::Quota,
    source::{Arrival, Source},
    storage::RecordId,
};
use smart_record_core::Timestamp;

/// A record of which something can be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evictable {
    pub(super) arrival: Arrival,
    /// How many bytes its eviction frees.
    pub(super) bytes: usize,
    /// Whether nothing in it is protected.
    pub(super) is_whole: bool,
    /// The work of its spaces: the most of them.
    pub(super) work: u8,
    /// Whether all of this is as in the rows. If not, the rows have to be read.
    pub(super) is_sure: bool,
}

/// A place in the order of a share: the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    is_partial: bool,
    work: u8,
    /// What was stored last goes first.
    at: Reverse<Timestamp>,
    /// Of what was stored in the same instant, the farthest from the local peer.
    record: Reverse<RecordId>,
}

impl Turn {
    pub(super) const fn new(record: RecordId, is_whole: bool, work: u8, at: Timestamp) -> Self {
        Self { is_partial: !is_whole, work, at: Reverse(at), record: Reverse(record) }
    }

    fn of(record: RecordId, entry: &Evictable) -> Self {
        Self::new(record, entry.is_whole, entry.work, entry.arrival.at)
    }
}

/// A write that needs room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) source: Source,
    /// Its place in the order of its share.
    pub(super) turn: Turn,
    /// By how much its share grows.
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    records: usize,
    bytes: usize,
}

impl Amount {
    fn of(entry: &Evictable) -> Self {
        Self { records: usize::from(entry.is_whole), bytes: entry.bytes }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The records of one source.
#[derive(Debug, Default)]
struct Share {
    amount: Amount,
    order: BTreeSet<Turn>,
}

/// The place of a share among the others: the greatest loses first. Of equal ones it is the one
/// whose first record was stored last.
type Size = (u128, Reverse<Turn>, Source);

/// The shares of a bound.
#[derive(Debug)]
pub(super) struct Shares {
    bound: Quota,
    entries: HashMap<RecordId, Evictable>,
    shares: HashMap<Source, Share>,
    sizes: BTreeSet<Size>,
    /// Those that have a record that can be evicted as a whole.
    of_whole: BTreeSet<Size>,
}

impl Shares {
    pub(super) fn new(bound: Quota) -> Self {
        let (entries, shares) = (HashMap::new(), HashMap::new());
        Self { bound, entries, shares, sizes: BTreeSet::new(), of_whole: BTreeSet::new() }
    }

    pub(super) fn get(&self, record: RecordId) -> Option<&Evictable> {
        self.entries.get(&record)
    }

    /// Sets what can be evicted of a record; `None` if nothing can.
    pub(super) fn set(&mut self, record: RecordId, entry: Option<Evictable>) {
        let old = self.entries.get(&record).copied();
        if old == entry {
            return;
        }
        if let Some(old) = old {
            self.entries.remove(&record);
            self.change(old.arrival.source, |share| {
                share.amount = share.amount.minus(Amount::of(&old));
                share.order.remove(&Turn::of(record, &old));
            });
        }
        if let Some(entry) = entry {
            self.entries.insert(record, entry);
            self.change(entry.arrival.source, |share| {
                share.amount = share.amount.plus(Amount::of(&entry));
                share.order.insert(Turn::of(record, &entry));
            });
        }
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(source).or_default();
        if let Some(size) = size(self.bound, source, share) {
            self.sizes.remove(&size);
            self.of_whole.remove(&size);
        }
        change(share);
        match size(self.bound, source, share) {
            Some(size) => {
                self.sizes.insert(size);
                // What is partial comes last.
                if !size.1.0.is_partial {
                    self.of_whole.insert(size);
                }
            }
            None => drop(self.shares.remove(&source)),
        }
    }

    /// The record that goes first for a claim, after those in `chosen` have gone: that of the
    /// largest share, in which the claim counts as granted. `None` if the claim would go first
    /// itself. Without a claim there is always one, if there is any besides `except`.
    pub(super) fn first<T>(
        &self,
        claim: Option<&Claim>,
        except: RecordId,
        chosen: &BTreeMap<RecordId, T>,
        only_whole: bool,
    ) -> Option<RecordId> {
        let mut gone: BTreeMap<Source, Amount> = BTreeMap::new();
        for entry in chosen.keys().filter_map(|record| self.get(*record)) {
            let amount = gone.entry(entry.arrival.source).or_default();
            *amount = amount.plus(Amount::of(entry));
        }
        let left = |source: Source| {
            let amount = self.shares.get(&source).map(|share| share.amount).unwrap_or_default();
            amount.minus(gone.get(&source).copied().unwrap_or_default())
        };
        let first_of = |source: Source| {
            let mut order = self.shares.get(&source)?.order.iter();
            let is_there = |record| record != except && !chosen.contains_key(&record);
            let turn = order.find(|turn| is_there(turn.record.0))?;
            (!only_whole || !turn.is_partial).then_some(*turn)
        };
        // Of equal shares that of the claim loses.
        let mut largest = claim.map(|claim| {
            let granted = Amount { records: claim.records, bytes: claim.bytes };
            let before = |turn: &Turn| *turn < claim.turn;
            let amount = left(claim.source).plus(granted);
            (weight(self.bound, amount), first_of(claim.source).filter(before))
        });
        let sizes = if only_whole { &self.of_whole } else { &self.sizes };
        for (size, _, source) in sizes.iter().rev() {
            if largest.is_some_and(|(largest, _)| *size <= largest) {
                break;
            }
            if claim.is_some_and(|claim| claim.source == *source) {
                continue;
            }
            let weight = weight(self.bound, left(*source));
            if largest.is_none_or(|(largest, _)| weight > largest)
                && let Some(turn) = first_of(*source)
            {
                largest = Some((weight, Some(turn)));
            }
        }
        largest?.1.map(|turn| turn.record.0)
    }
}

/// The greater of the parts of the bound that the records and the bytes take.
fn weight(bound: Quota, amount: Amount) -> u128 {
    let product = |a: usize, b: usize| (a as u128).saturating_mul(b as u128);
    product(amount.records, bound.bytes).max(product(amount.bytes, bound.count))
}

fn size(bound: Quota, source: Source, share: &Share) -> Option<Size> {
    let first = share.order.first()?;
    Some((weight(bound, share.amount), Reverse(*first), source))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Quota = Quota { count: 100, bytes: 10_000 };

    fn id(n: u8) -> RecordId {
        RecordId([n; 32])
    }

    fn entry() -> impl Strategy<Value = Option<Evictable>> {
        let entry = (0_u64..4, 0_u64..5, 1_usize..900, prop::bool::weighted(0.8), 0_u8..3);
        let entry = entry.prop_map(|(source, at, bytes, is_whole, work)| Evictable {
            arrival: Arrival { at: Timestamp::from_millis(at), source: Source::from_wire(source) },
            bytes,
            is_whole,
            work,
            is_sure: true,
        });
        prop::option::weighted(0.8, entry)
    }

    /// The weight of a share without some of its records.
    fn weight_of(
        entries: &BTreeMap<RecordId, Evictable>,
        source: Source,
        chosen: &BTreeMap<RecordId, ()>,
        more: Amount,
    ) -> u128 {
        let all = entries
            .iter()
            .filter(|(id, it)| it.arrival.source == source && !chosen.contains_key(id));
        weight(BOUND, all.fold(more, |sum, (_, it)| sum.plus(Amount::of(it))))
    }

    proptest! {
        /// Compares the choice with a search of all records.
        #[test]
        fn what_goes_first_is_of_the_largest_share_and_was_stored_last(
            changes in prop::collection::vec((0_u8..30, entry()), 1..80),
            growing in (0_u8..40, 0_u64..4, 0_u64..6, 1_usize..900),
            only_whole in any::<bool>(),
        ) {
            let (mut shares, mut entries) = (Shares::new(BOUND), BTreeMap::new());
            for (n, entry) in changes {
                shares.set(id(n), entry);
                match entry {
                    Some(entry) => drop(entries.insert(id(n), entry)),
                    None => drop(entries.remove(&id(n))),
                }
            }
            let (n, source, at, bytes) = growing;
            let old = entries.get(&id(n)).copied();
            let source = old.map_or(Source::from_wire(source), |old| old.arrival.source);
            let at = old.map_or(Timestamp::from_millis(at), |old| old.arrival.at);
            let (is_whole, work) = old.map_or((true, 0), |old| (old.is_whole, old.work));
            let turn = Turn::new(id(n), is_whole, work, at);
            let claim = Claim { source, turn, records: usize::from(old.is_none()), bytes };
            let granted = Amount { records: claim.records, bytes };
            let mut chosen = BTreeMap::new();
            loop {
                let of = |of: Source| {
                    let more = if of == source { granted } else { Amount::default() };
                    weight_of(&entries, of, &chosen, more)
                };
                let can_go = |(record, it): &(&RecordId, &Evictable)| {
                    **record != id(n) && !chosen.contains_key(*record) && (it.is_whole || !only_whole)
                };
                let candidates = || entries.iter().filter(can_go);
                let others = candidates().filter(|(_, it)| it.arrival.source != source);
                let largest = others.map(|(_, it)| of(it.arrival.source)).max();
                let first = shares.first(Some(&claim), id(n), &chosen, only_whole);
                let Some(first) = first else {
                    // It would go first itself.
                    prop_assert!(largest.is_none_or(|largest| largest <= of(source)));
                    let before = |(id, it): (&RecordId, &Evictable)| {
                        it.arrival.source == source && Turn::of(*id, it) < turn
                    };
                    prop_assert!(!candidates().any(before));
                    break;
                };
                let gone = entries[&first];
                prop_assert!(can_go(&(&first, &gone)));
                let share = of(gone.arrival.source);
                prop_assert!(largest.is_none_or(|largest| share >= largest) && share >= of(source));
                let of_same = candidates().filter(|(_, it)| it.arrival.source == gone.arrival.source);
                let least = of_same.map(|(id, it)| Turn::of(*id, it)).min();
                prop_assert_eq!(least, Some(Turn::of(first, &gone)));
                if gone.arrival.source == source {
                    prop_assert!(Turn::of(first, &gone) < turn);
                }
                chosen.insert(first, ());
            }
            // Without a claim everything goes in the end.
            let mut chosen = BTreeMap::new();
            while let Some(first) = shares.first(None, id(99), &chosen, only_whole) {
                prop_assert!(chosen.insert(first, ()).is_none());
            }
            let all = entries.values().filter(|it| it.is_whole || !only_whole).count();
            prop_assert_eq!(chosen.len(), all);
            // And nothing is left of a share without records.
            for record in entries.keys() {
                shares.set(*record, None);
            }
            prop_assert!(shares.shares.is_empty() && shares.sizes.is_empty());
            prop_assert!(shares.of_whole.is_empty());
        }
    }
}
