//! The List, which keeps the order of its nodes, and the Set, which sorts them.
//!
//! **Invariants.** A Set is in ascending order and holds no two nodes of the same content.
//!
//! **Spec.** `docs/design.md`, sections "Documents" and "View".

use super::Node;

/// A sequence of nodes in the order given, with duplicates. A newer List replaces an older one as a
/// whole.
///
/// ```
/// use smart_record_core::{Dict, List, Node};
///
/// let mut position = List::from([3, 1]);
/// position.push(1);
/// assert_eq!(position.get(2), Some(&Node::from(1)));
/// let document = Dict::from([("position", position)]);
/// assert_eq!(document.to_json().to_string(), r#"{"position":[3,1,1]}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct List {
    pub(super) elements: Vec<Node>,
}

/// A set of nodes, in ascending order. A newer Set adds its nodes to an older one.
///
/// ```
/// use smart_record_core::{Dict, Set};
///
/// let document = Dict::from([("players", Set::from(["zoe", "ann", "zoe"]))]);
/// assert_eq!(document.to_json().to_string(), r#"{"players":{"/":{"set":["ann","zoe"]}}}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Set {
    pub(super) elements: Vec<Node>,
}

impl List {
    /// Adds a node at the end.
    pub fn push(&mut self, node: impl Into<Node>) {
        self.elements.push(node.into());
    }

    /// The node at an index, counted from zero.
    pub fn get(&self, index: usize) -> Option<&Node> {
        self.elements.get(index)
    }
}

impl Set {
    /// Adds a node. A node of the same content is merged with it and lives as long as either.
    pub fn insert(&mut self, node: impl Into<Node>) {
        let node = node.into();
        match self.elements.binary_search_by(|element| element.cmp_content(&node)) {
            Ok(at) => {
                if let Some(element) = self.elements.get_mut(at) {
                    element.extend_lifetimes(&node);
                }
            }
            Err(at) => self.elements.insert(at, node),
        }
    }

    /// The elements of both. An element of both lives as long as either.
    pub(super) fn merge(mut self, newer: Self) -> Self {
        self.elements.extend(newer);
        Self::sorted(self.elements)
    }

    /// The set of these nodes. Takes linear time if they are one or two ascending sequences.
    fn sorted(mut elements: Vec<Node>) -> Self {
        elements.sort_by(Node::cmp_content);
        elements.dedup_by(|node, before| {
            let is_same = node.cmp_content(before).is_eq();
            if is_same {
                before.extend_lifetimes(node);
            }
            is_same
        });
        Self { elements }
    }

    /// Whether the set has a node of this content, with any lifetime.
    pub fn contains(&self, node: &Node) -> bool {
        self.elements.binary_search_by(|element| element.cmp_content(node)).is_ok()
    }
}

impl<N: Into<Node>> FromIterator<N> for List {
    fn from_iter<I: IntoIterator<Item = N>>(nodes: I) -> Self {
        Self { elements: nodes.into_iter().map(Into::into).collect() }
    }
}

impl<N: Into<Node>> FromIterator<N> for Set {
    /// Merges nodes of the same content, which live as long as any of them.
    fn from_iter<I: IntoIterator<Item = N>>(nodes: I) -> Self {
        Self::sorted(nodes.into_iter().map(Into::into).collect())
    }
}

macro_rules! elements {
    ($type:ident, $order:literal) => {
        impl $type {
            #[doc = concat!("A ", stringify!($type), " without nodes.")]
            pub const fn new() -> Self {
                Self { elements: Vec::new() }
            }

            /// The number of nodes.
            pub fn len(&self) -> usize {
                self.elements.len()
            }

            /// Whether there are no nodes.
            pub fn is_empty(&self) -> bool {
                self.elements.is_empty()
            }

            #[doc = concat!("The nodes in ", $order, ".")]
            pub fn iter(&self) -> std::slice::Iter<'_, Node> {
                self.elements.iter()
            }
        }

        impl IntoIterator for $type {
            type Item = Node;
            type IntoIter = std::vec::IntoIter<Node>;

            fn into_iter(self) -> Self::IntoIter {
                self.elements.into_iter()
            }
        }

        impl<'a> IntoIterator for &'a $type {
            type Item = &'a Node;
            type IntoIter = std::slice::Iter<'a, Node>;

            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }

        impl<N: Into<Node>> From<Vec<N>> for $type {
            fn from(nodes: Vec<N>) -> Self {
                nodes.into_iter().collect()
            }
        }

        impl<N: Into<Node>, const LEN: usize> From<[N; LEN]> for $type {
            fn from(nodes: [N; LEN]) -> Self {
                nodes.into_iter().collect()
            }
        }
    };
}

elements!(List, "their order");
elements!(Set, "ascending order");
