//! The Predicate: a tagged statement with arguments.
//!
//! **Invariants.** Positional arguments are a Set, because Predicates of the same tag unite.
//! Updates signed before Lists existed keep their meaning.
//!
//! **Spec.** [go-smart-record `xr`](https://github.com/libp2p/go-smart-record/tree/main/ir).

use super::{Dict, Kind, Node, Set};

/// `tag(positional…; named…)`: a statement, such as `connectivity(; address="/ip4/…")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Predicate {
    /// The name of the statement. Predicates merge if their tags are equal.
    pub tag: String,
    /// Arguments without a name, as a Set, which does not keep their order. If order matters, use
    /// one argument that is a [`List`](super::List).
    pub positional: Set,
    /// Arguments with a name. The name is usually a String.
    pub named: Dict,
}

impl Predicate {
    /// A predicate `tag()` without arguments.
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
