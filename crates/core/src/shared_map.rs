//! A sorted map whose clones share what they have in common.
//!
//! **Invariants.** Pure. The entries are in chunks of at most [`MAX`], in ascending order of key.
//! No chunk is empty; one that loses an entry is joined with a neighbour if both are small. A clone
//! costs a pointer for each chunk. A change copies the chunk that it is in, if a clone has that
//! too, and nothing else.

use std::{borrow::Borrow, fmt, iter::FusedIterator, slice, sync::Arc, vec};

/// Maximum number of entries of a chunk.
const MAX: usize = 32;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map whose clones share what they have in common.
#[derive(Clone)]
pub(crate) struct SharedMap<K, V> {
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

impl<K, V> SharedMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The entries in ascending order of key.
    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter { chunks: self.chunks.iter(), current: [].iter(), left: self.len }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The chunk that has the key or would get it, and the place in it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let begins_before =
            |chunk: &Chunk<K, V>| chunk.first().is_some_and(|(first, _)| first.borrow() <= key);
        let chunk = self.chunks.partition_point(begins_before).saturating_sub(1);
        let entries = self.chunks.get(chunk).map(|chunk| &chunk[..]).unwrap_or_default();
        (chunk, entries.binary_search_by(|(it, _)| it.borrow().cmp(key)))
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    pub(crate) fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key);
        let (key, value) = self.chunks.get(chunk)?.get(at.ok()?)?;
        Some((key, value))
    }

    /// The value of a key, to be changed: its chunk is copied if a clone has it too.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key);
        let at = at.ok()?;
        let (_, value) = Arc::make_mut(self.chunks.get_mut(chunk)?).get_mut(at)?;
        Some(value)
    }

    /// Sets the value of a key. Returns the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (at_chunk, at) = self.find(&key);
        let Some(chunk) = self.chunks.get_mut(at_chunk).map(Arc::make_mut) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        match at {
            Ok(at) => {
                let entry = chunk.get_mut(at);
                entry.map(|(_, before)| std::mem::replace(before, value))
            }
            Err(at) => {
                chunk.insert(at, (key, value));
                self.len = self.len.saturating_add(1);
                if chunk.len() > MAX {
                    let rest = chunk.split_off(MAX / 2);
                    self.chunks.insert(at_chunk.saturating_add(1), Arc::new(rest));
                }
                None
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (chunk, at) = self.find(key);
        let at = at.ok()?;
        let (_, value) = Arc::make_mut(self.chunks.get_mut(chunk)?).remove(at);
        self.len = self.len.saturating_sub(1);
        self.join_small(chunk);
        self.join_small(chunk.saturating_sub(1));
        Some(value)
    }

    /// Changes the values of which `is_due`, and removes those for which `keeps` returns false.
    /// Chunks in which nothing is due are not copied.
    pub(crate) fn change(
        &mut self,
        is_due: impl Fn(&K, &V) -> bool,
        mut keeps: impl FnMut(&mut V) -> bool,
    ) {
        let before = self.len;
        for chunk in &mut self.chunks {
            if chunk.iter().any(|(key, value)| is_due(key, value)) {
                let had = chunk.len();
                let chunk = Arc::make_mut(chunk);
                chunk.retain_mut(|(key, value)| !is_due(key, value) || keeps(value));
                self.len = self.len.saturating_sub(had.saturating_sub(chunk.len()));
            }
        }
        if self.len < before {
            (0..self.chunks.len()).rev().for_each(|chunk| self.join_small(chunk));
        }
    }

    /// Joins a chunk with the next one if both are small, and removes it if it is empty.
    fn join_small(&mut self, chunk: usize) {
        let next = chunk.saturating_add(1);
        let len = |chunk: usize| self.chunks.get(chunk).map(|chunk| chunk.len());
        match (len(chunk), len(next)) {
            (Some(0), _) => drop(self.chunks.remove(chunk)),
            (Some(one), Some(other)) if one.saturating_add(other) <= MAX / 2 => {
                let rest = Arc::unwrap_or_clone(self.chunks.remove(next));
                if let Some(chunk) = self.chunks.get_mut(chunk) {
                    Arc::make_mut(chunk).extend(rest);
                }
            }
            _ => {}
        }
    }
}

impl<K: Ord + Clone, V: Clone + Default> SharedMap<K, V> {
    /// Changes the value of a key, which is made if there is none.
    pub(crate) fn change_or_default(&mut self, key: K, change: impl FnOnce(&mut V)) {
        if let Some(value) = self.get_mut(&key) {
            return change(value);
        }
        let mut value = V::default();
        change(&mut value);
        self.insert(key, value);
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Clone, V: Clone> IntoIterator for SharedMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter {
            chunks: self.chunks.into_iter(),
            current: Vec::new().into_iter(),
            left: self.len,
        }
    }
}

/// The entries of a map, borrowed.
#[derive(Debug)]
pub(crate) struct Iter<'a, K, V> {
    chunks: slice::Iter<'a, Chunk<K, V>>,
    current: slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), current: self.current.clone(), left: self.left }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.current.next() {
                self.left = self.left.saturating_sub(1);
                return Some((key, value));
            }
            self.current = self.chunks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// The entries of a map. Those of a chunk that a clone has too are copied.
#[derive(Debug)]
pub(crate) struct IntoIter<K, V> {
    chunks: vec::IntoIter<Chunk<K, V>>,
    current: vec::IntoIter<(K, V)>,
    left: usize,
}

impl<K: Clone, V: Clone> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.current.next() {
                self.left = self.left.saturating_sub(1);
                return Some(entry);
            }
            self.current = Arc::unwrap_or_clone(self.chunks.next()?).into_iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K: Clone, V: Clone> ExactSizeIterator for IntoIter<K, V> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u8),
        Change(u16),
        Remove(u16),
        /// Removes the values that are divisible, and counts up the others of this rest.
        Some(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..400_u16, 0..200_u8).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0..400_u16).prop_map(Step::Change),
            6 => (0..400_u16).prop_map(Step::Remove),
            1 => (2..9_u8).prop_map(Step::Some),
        ]
    }

    fn is_whole(map: &SharedMap<u16, u8>) {
        assert!(map.chunks.iter().all(|chunk| (1..=MAX).contains(&chunk.len())));
        assert_eq!(map.len, map.chunks.iter().map(|chunk| chunk.len()).sum::<usize>());
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map_and_a_clone_stays_as_it_was(
            steps in vec(step(), 0..600),
            cloned_at in 0..600_usize,
        ) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            let mut cloned = None;
            for (n, step) in steps.iter().enumerate() {
                if n == cloned_at {
                    cloned = Some((map.clone(), model.clone()));
                }
                match *step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Step::Change(key) => {
                        map.change_or_default(key, |value: &mut u8| *value /= 2);
                        *model.entry(key).or_default() /= 2;
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::Some(n) => {
                        map.change(|_, value| value % n < 2, |value| {
                            *value += 1;
                            (*value - 1) % n > 0
                        });
                        model.retain(|_, value| {
                            let rest = *value % n;
                            *value += u8::from(rest < 2);
                            rest > 0
                        });
                    }
                }
                is_whole(&map);
            }
            for (map, model) in cloned.iter().chain([&(map, model)]) {
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert_eq!(map.iter().len(), model.len());
                prop_assert!(map.clone().into_iter().eq(model.clone()));
                prop_assert!(map == &model.clone().into_iter().collect::<SharedMap<_, _>>());
                for key in 0..400 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk_and_small_ones_are_joined() {
        let mut map: SharedMap<u16, u8> = (0..1_000).map(|key| (key, 1)).collect();
        assert!(map.chunks.len() <= 1_000 / (MAX / 2));
        let before = map.clone();
        let copied = |map: &SharedMap<u16, u8>| {
            let is_shared = |chunk| before.chunks.iter().any(|it| Arc::ptr_eq(it, chunk));
            map.chunks.iter().filter(|chunk| !is_shared(chunk)).count()
        };
        map.insert(500, 2);
        map.change(|_, value| *value > 2, |_| false);
        assert_eq!((map.get(&500), before.get(&500), copied(&map)), (Some(&2), Some(&1), 1));
        assert!((0..1_000).filter(|key| key % 20 > 0).all(|key| map.remove(&key).is_some()));
        is_whole(&map);
        assert!(map.len() == 50 && map.chunks.len() <= 50 / (MAX / 4) + 1);
        map.change(|_, _| true, |_| false);
        assert_eq!((map.len(), map.chunks.len()), (0, 0));
    }
}
