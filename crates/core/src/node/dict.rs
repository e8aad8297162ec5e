//! The Dict: a map from keys to nodes. Every document is a Dict.
//!
//! **Invariants.** Pairs are in ascending order of keys. Keys are unique and carry no lifetimes.
//!
//! **Spec.** `docs/design.md`, section "Documents".

use std::collections::{BTreeMap, btree_map};

use super::{Kind, Node};

/// A map from keys to nodes, in ascending order of keys.
///
/// A key may have any kind. Lifetimes inside a key are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Dict {
    pub(super) pairs: BTreeMap<Kind, Node>,
}

impl Dict {
    /// A Dict without pairs.
    pub const fn new() -> Self {
        Self { pairs: BTreeMap::new() }
    }

    /// Sets the node of a key and returns the previous one.
    pub fn insert(&mut self, key: impl Into<Kind>, node: impl Into<Node>) -> Option<Node> {
        self.pairs.insert(key.into().without_lifetimes(), node.into())
    }

    /// The node of a key.
    pub fn get(&self, key: impl Into<Kind>) -> Option<&Node> {
        self.pairs.get(&key.into().without_lifetimes())
    }

    /// The node of a key without lifetimes, as the keys of another Dict are.
    pub(crate) fn find(&self, key: &Kind) -> Option<&Node> {
        self.pairs.get(key)
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether the Dict is empty.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs in ascending order of keys.
    pub fn iter(&self) -> btree_map::Iter<'_, Kind, Node> {
        self.pairs.iter()
    }

    /// The pairs, with each value replaced or removed.
    pub(crate) fn filter_map(self, mut change: impl FnMut(Node) -> Option<Node>) -> Self {
        let pairs = self.pairs.into_iter();
        Self { pairs: pairs.filter_map(|(key, node)| Some((key, change(node)?))).collect() }
    }
}

impl IntoIterator for Dict {
    type Item = (Kind, Node);
    type IntoIter = btree_map::IntoIter<Kind, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

impl<'a> IntoIterator for &'a Dict {
    type Item = (&'a Kind, &'a Node);
    type IntoIter = btree_map::Iter<'a, Kind, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<Kind>, N: Into<Node>> FromIterator<(K, N)> for Dict {
    /// Keeps the last node of a duplicate key.
    fn from_iter<I: IntoIterator<Item = (K, N)>>(pairs: I) -> Self {
        let mut dict = Self::new();
        for (key, node) in pairs {
            dict.insert(key, node);
        }
        dict
    }
}

impl<K: Into<Kind>, N: Into<Node>, const LEN: usize> From<[(K, N); LEN]> for Dict {
    /// Keeps the last node of a duplicate key.
    fn from(pairs: [(K, N); LEN]) -> Self {
        pairs.into_iter().collect()
    }
}
