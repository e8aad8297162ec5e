//! How the documents of a space become one: resolve lifetimes, merge in the order of positions, hide what
//! has expired.
//!
//! **Invariants.** Merging looks at no clock. All lifetimes are resolved before it: each node carries the
//! instant at which it expires, never later than its parent's when it was written. A node that was
//! overwritten stays overwritten, also when what overwrote it has expired.
//!
//! **Spec.** `docs/design.md`, section "View".

use super::{Dict, Kind, List, Node, Predicate};
use crate::time::Timestamp;

/// The later of two lifetimes; none of its own is as late as the parent's and so the latest.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}

impl Node {
    /// Extends each lifetime to that of its counterpart in `other`, a node of the same content.
    pub(super) fn extend_lifetimes(&mut self, other: &Self) {
        self.expires_at = later(self.expires_at, other.expires_at);
        match (&mut self.kind, &other.kind) {
            (Kind::List(a), Kind::List(b)) => a.extend_lifetimes(b),
            (Kind::Dict(a), Kind::Dict(b)) => a.extend_lifetimes(b),
            (Kind::Predicate(a), Kind::Predicate(b)) => {
                a.positional.extend_lifetimes(&b.positional);
                a.named.extend_lifetimes(&b.named);
            }
            _ => {}
        }
    }

    /// Gives each node the instant at which it expires: its own, or its parent's where that is earlier.
    fn resolve(self, parent: Timestamp) -> Self {
        let at = self.expires_at.map_or(parent, |own| own.min(parent));
        let kind = match self.kind {
            Kind::List(list) => Kind::List(list.resolve(at)),
            Kind::Dict(dict) => Kind::Dict(dict.resolve(at)),
            Kind::Predicate(predicate) => Kind::Predicate(Predicate {
                tag: predicate.tag,
                positional: predicate.positional.resolve(at),
                named: predicate.named.resolve(at),
            }),
            leaf => leaf,
        };
        Self::new(kind).expires_at(at)
    }

    /// What a position holds after `newer` was written over this node.
    fn merge(self, newer: Self) -> Self {
        let kind = match (self.kind, newer.kind) {
            (Kind::List(a), Kind::List(b)) => Kind::List(a.merge(b)),
            (Kind::Dict(a), Kind::Dict(b)) => Kind::Dict(a.merge(b)),
            (Kind::Predicate(a), Kind::Predicate(b)) if a.tag == b.tag => {
                Kind::Predicate(Predicate {
                    tag: a.tag,
                    positional: a.positional.merge(b.positional),
                    named: a.named.merge(b.named),
                })
            }
            (_, kind) => {
                return Self { kind, expires_at: newer.expires_at };
            }
        };
        Self { kind, expires_at: later(self.expires_at, newer.expires_at) }
    }

    /// The node without what has expired at `now`; `None` if nothing of it lives.
    fn visible(self, now: Timestamp) -> Option<Self> {
        let own = self.expires_at.is_none_or(|at| at > now);
        let (kind, inside) = match self.kind {
            Kind::List(list) => {
                let list = list.visible(now);
                let inside = !list.is_empty();
                (Kind::List(list), inside)
            }
            Kind::Dict(dict) => {
                let dict = dict.visible(now);
                let inside = !dict.is_empty();
                (Kind::Dict(dict), inside)
            }
            Kind::Predicate(predicate) => {
                let positional = predicate.positional.visible(now);
                let named = predicate.named.visible(now);
                let inside = !positional.is_empty() || !named.is_empty();
                let tag = predicate.tag;
                (Kind::Predicate(Predicate { tag, positional, named }), inside)
            }
            leaf => (leaf, false),
        };
        (own || inside).then_some(Self { kind, expires_at: self.expires_at })
    }
}

impl List {
    fn extend_lifetimes(&mut self, other: &Self) {
        for (a, b) in self.elements.iter_mut().zip(&other.elements) {
            a.extend_lifetimes(b);
        }
    }

    fn resolve(self, parent: Timestamp) -> Self {
        self.into_iter().map(|node| node.resolve(parent)).collect()
    }

    fn merge(mut self, newer: Self) -> Self {
        for node in newer {
            self.insert(node);
        }
        self
    }

    fn visible(self, now: Timestamp) -> Self {
        self.into_iter().filter_map(|node| node.visible(now)).collect()
    }
}

impl Dict {
    fn extend_lifetimes(&mut self, other: &Self) {
        for (a, b) in self.pairs.values_mut().zip(other.pairs.values()) {
            a.extend_lifetimes(b);
        }
    }

    fn resolve(self, parent: Timestamp) -> Self {
        self.into_iter().map(|(key, node)| (key, node.resolve(parent))).collect()
    }

    fn merge(mut self, newer: Self) -> Self {
        for (key, node) in newer {
            let merged = match self.pairs.remove(&key) {
                Some(older) => older.merge(node),
                None => node,
            };
            self.pairs.insert(key, merged);
        }
        self
    }

    fn visible(self, now: Timestamp) -> Self {
        self.into_iter().filter_map(|(key, node)| Some((key, node.visible(now)?))).collect()
    }
}

/// A document with the lifetime of its update resolved into each of its nodes.
pub(crate) fn resolve_document(document: Dict, expires_at: Timestamp) -> Dict {
    document.resolve(expires_at)
}

/// The document after a `newer` one was merged into it.
pub(crate) fn merge_documents(older: Dict, newer: Dict) -> Dict {
    older.merge(newer)
}

/// The document without what has expired at `now`.
pub(crate) fn visible_document(document: Dict, now: Timestamp) -> Dict {
    document.visible(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn fold(documents: Vec<(Dict, u64)>, now: u64) -> String {
        let merged = documents
            .into_iter()
            .map(|(document, expires)| resolve_document(document, at(expires)))
            .reduce(merge_documents)
            .unwrap();
        visible_document(merged, at(now)).to_string()
    }

    fn dict<const N: usize>(pairs: [(&str, Node); N]) -> Dict {
        pairs.into_iter().collect()
    }

    #[test]
    fn dicts_unite_and_the_newer_leaf_wins() {
        let older = dict([("a", 1.into()), ("b", 1.into())]);
        let newer = dict([("b", 2.into()), ("c", 2.into())]);
        assert_eq!(fold(vec![(older, 10), (newer, 10)], 5), r#"{"a": 1, "b": 2, "c": 2}"#);
    }

    #[test]
    fn an_overwritten_leaf_does_not_come_back() {
        let older = dict([("a", 1.into())]);
        let newer = dict([("a", 2.into())]);
        assert_eq!(fold(vec![(older, 10), (newer, 5)], 7), "{}");
    }

    #[test]
    fn a_changed_kind_or_tag_overwrites() {
        let list: List = [1, 2].into_iter().collect();
        let older = dict([("a", Node::new(list)), ("p", Predicate::new("x").with(1).into())]);
        let newer = dict([("a", 7.into()), ("p", Predicate::new("y").with(2).into())]);
        assert_eq!(fold(vec![(older, 10), (newer, 10)], 5), r#"{"a": 7, "p": y(2)}"#);
    }

    #[test]
    fn lists_unite_and_an_element_keeps_the_later_expiry() {
        let one: List = [Node::from(1).expires_at(at(3)), 2.into()].into_iter().collect();
        let two: List = [Node::from(1), Node::from(3).expires_at(at(4))].into_iter().collect();
        let documents =
            vec![(dict([("l", Node::new(one))]), 10), (dict([("l", Node::new(two))]), 20)];
        assert_eq!(fold(documents.clone(), 2), r#"{"l": [1, 2, 3]}"#);
        assert_eq!(fold(documents.clone(), 5), r#"{"l": [1, 2]}"#);
        assert_eq!(fold(documents, 15), r#"{"l": [1]}"#);
    }

    #[test]
    fn predicates_of_one_tag_unite() {
        let older = dict([("p", Predicate::new("t").with(1).with_named("k", 1).into())]);
        let newer = dict([("p", Predicate::new("t").with(2).with_named("k", 2).into())]);
        assert_eq!(fold(vec![(older, 10), (newer, 10)], 5), r#"{"p": t(1, 2; "k"=2)}"#);
    }

    #[test]
    fn a_child_does_not_outlive_its_parent_but_a_container_lives_with_its_content() {
        let child = dict([("x", Node::from(1).expires_at(at(100)))]);
        let older = dict([("d", Node::new(child).expires_at(at(5)))]);
        assert_eq!(fold(vec![(older.clone(), 10)], 4), r#"{"d": {"x": 1}}"#);
        assert_eq!(fold(vec![(older.clone(), 10)], 6), "{}");
        let newer = dict([("d", Node::new(dict([("y", 2.into())])))]);
        assert_eq!(fold(vec![(older, 10), (newer, 10)], 6), r#"{"d": {"y": 2}}"#);
    }
}
