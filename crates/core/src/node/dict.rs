//! The Dict: keys and nodes. Every document is one.
//!
//! **Invariants.** Pairs are in ascending order of keys, no key is there twice, and keys carry no lifetimes.
//!
//! **Spec.** `docs/design.md`, section "Documents".

use std::collections::{BTreeMap, btree_map};

use super::{Kind, Node};

/// Pairs of a key and a node, in ascending order of keys.
///
/// A key may be of any kind. Lifetimes inside a key have no meaning and are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Dict {
    pub(super) pairs: BTreeMap<Kind, Node>,
}

impl Dict {
    /// A Dict without pairs.
    pub const fn new() -> Self {
        Self { pairs: BTreeMap::new() }
    }

    /// Sets the node of a key and returns the one it had.
    pub fn insert(&mut self, key: impl Into<Kind>, node: impl Into<Node>) -> Option<Node> {
        self.pairs.insert(key.into().without_lifetimes(), node.into())
    }

    /// The node of a key.
    pub fn get(&self, key: impl Into<Kind>) -> Option<&Node> {
        self.pairs.get(&key.into().without_lifetimes())
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs in ascending order of keys.
    pub fn iter(&self) -> btree_map::Iter<'_, Kind, Node> {
        self.pairs.iter()
    }

    /// The pairs with each value replaced or left out.
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
    /// Of a key that comes twice, the last node stays.
    fn from_iter<I: IntoIterator<Item = (K, N)>>(pairs: I) -> Self {
        let mut dict = Self::new();
        for (key, node) in pairs {
            dict.insert(key, node);
        }
        dict
    }
}

impl<K: Into<Kind>, N: Into<Node>, const LEN: usize> From<[(K, N); LEN]> for Dict {
    /// Of a key that comes twice, the last node stays.
    fn from(pairs: [(K, N); LEN]) -> Self {
        pairs.into_iter().collect()
    }
}
