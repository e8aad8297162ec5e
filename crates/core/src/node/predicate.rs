//! The Predicate: a statement.
//!
//! **Invariants.** Arguments without a name are a Set. Predicates of one tag unite, which needs one; and what
//! was signed when there was no other row of nodes stays what it was.
//!
//! **Spec.** [go-smart-record `xr`](https://github.com/libp2p/go-smart-record/tree/main/ir).

use super::{Dict, Kind, Node, Set};

/// `tag(positional…; named…)`: a statement, such as `connectivity(; address="/ip4/…")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Predicate {
    /// What is stated. Predicates merge when their tags are equal.
    pub tag: String,
    /// Arguments without a name. They are a Set: their order is not kept. Where order matters, give one
    /// argument that is a [`List`](super::List).
    pub positional: Set,
    /// Arguments with a name, usually a String.
    pub named: Dict,
}

impl Predicate {
    /// `tag()`, without arguments.
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..Self::default() }
    }

    /// Adds an argument without a name.
    #[must_use]
    pub fn with(mut self, node: impl Into<Node>) -> Self {
        self.positional.insert(node);
        self
    }

    /// Adds an argument with a name.
    #[must_use]
    pub fn with_named(mut self, name: impl Into<Kind>, node: impl Into<Node>) -> Self {
        self.named.insert(name, node);
        self
    }

    /// The same predicate without any lifetime.
    #[must_use]
    pub fn without_lifetimes(self) -> Self {
        let bare = |node: Node| Node::new(node.kind.without_lifetimes());
        Self {
            tag: self.tag,
            positional: self.positional.into_iter().map(bare).collect(),
            named: self.named.filter_map(|node| Some(bare(node))),
        }
    }
}
