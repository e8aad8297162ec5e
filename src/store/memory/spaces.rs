//! The spaces of one record, in order.
//!
//! **Invariants.** A single space takes no allocation of its own, because most records have one
//! writer.
//!
//! **Spec.** `docs/design.md`, section "Store".

use std::{
    collections::{BTreeMap, btree_map},
    mem,
};

use crate::store::storage::SpaceId;

/// A map by space id.
pub(super) enum Spaces<T> {
    AtMostOne(Option<(SpaceId, T)>),
    Many(BTreeMap<SpaceId, T>),
}

/// Rows in ascending order.
pub(super) enum Range<'a, T> {
    AtMostOne(Option<(&'a SpaceId, &'a T)>),
    Many(btree_map::Range<'a, SpaceId, T>),
}

impl<'a, T> Iterator for Range<'a, T> {
    type Item = (&'a SpaceId, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::AtMostOne(one) => one.take(),
            Self::Many(many) => many.next(),
        }
    }
}

impl<T> Default for Spaces<T> {
    fn default() -> Self {
        Self::AtMostOne(None)
    }
}

impl<T> Spaces<T> {
    pub(super) fn get(&self, id: &SpaceId) -> Option<&T> {
        match self {
            Self::AtMostOne(one) => one.as_ref().filter(|(one, _)| one == id).map(|(_, row)| row),
            Self::Many(many) => many.get(id),
        }
    }

    /// Inserts a row. Returns the one that it replaces.
    pub(super) fn insert(&mut self, id: SpaceId, row: T) -> Option<T> {
        match self {
            Self::Many(many) => many.insert(id, row),
            Self::AtMostOne(Some((one, old))) if *one == id => Some(mem::replace(old, row)),
            Self::AtMostOne(one) => {
                match one.take() {
                    None => *one = Some((id, row)),
                    Some(first) => *self = Self::Many(BTreeMap::from([first, (id, row)])),
                }
                None
            }
        }
    }

    pub(super) fn remove(&mut self, id: &SpaceId) -> Option<T> {
        match self {
            Self::AtMostOne(one) => one.take_if(|(one, _)| one == id).map(|(_, row)| row),
            Self::Many(many) => {
                let removed = many.remove(id);
                if many.len() <= 1 {
                    *self = Self::AtMostOne(many.pop_first());
                }
                removed
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::AtMostOne(one) => one.is_none(),
            Self::Many(many) => many.is_empty(),
        }
    }

    /// The rows from `from` on, in ascending order.
    pub(super) fn range(&self, from: SpaceId) -> Range<'_, T> {
        match self {
            Self::AtMostOne(one) => Range::AtMostOne(
                one.as_ref().filter(|(id, _)| *id >= from).map(|(id, row)| (id, row)),
            ),
            Self::Many(many) => Range::Many(many.range(from..)),
        }
    }

    /// The last id at or before `up_to`.
    pub(super) fn last(&self, up_to: &SpaceId) -> Option<&SpaceId> {
        match self {
            Self::AtMostOne(one) => one.as_ref().map(|(id, _)| id).filter(|id| *id <= up_to),
            Self::Many(many) => many.range(..=up_to).next_back().map(|(id, _)| id),
        }
    }
}
