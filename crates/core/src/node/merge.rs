//! Merging the documents of a space: resolves lifetimes, merges in order of positions, removes
//! expired nodes.
//!
//! **Invariants.** Merging does not depend on time. Lifetimes are resolved before it: each node
//! carries its expiry, which is not later than that of its parent in the same update. An
//! overwritten node stays overwritten after the newer node has expired.
//!
//! **Spec.** `docs/design.md`, section "View".

use super::{Dict, Kind, Node, Predicate};
use crate::time::Timestamp;

/// The table of how documents merge, as text for `#[doc = …]`.
///
/// Include it in the documentation of every function that merges documents, so that the table has
/// one source.
///
/// ```
/// /// Merges a document into the configuration.
/// ///
/// #[doc = smart_record_core::merge_table!()]
/// fn merge() {}
/// # merge();
/// ```
#[macro_export]
macro_rules! merge_table {
    () => {
        "\
| older node | newer node | result |
|---|---|---|
| Dict | Dict | the keys of both; under a key of both, the two nodes merge by this table |
| Set | Set | the elements of both; an element of both lives as long as either |
| Predicate | Predicate of the same tag | arguments without a name as a Set, those with a name as a Dict |
| anything else, a List too | anything | the newer node, content and lifetime; nothing of the older one is left |

A merged container lives until the later expiry of the two. In plain JSON an object is a Dict,
an array is a List, and `{\"/\": {\"set\": […]}}` a Set.
"
    };
}

/// The later of two lifetimes. `None` is the lifetime of the parent and so the latest.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}

impl Node {
    /// Extends each lifetime to at least that of its counterpart in `other`, a node of the same
    /// content.
    pub(super) fn extend_lifetimes(&mut self, other: &Self) {
        self.expires_at = later(self.expires_at, other.expires_at);
        for (child, other) in self.kind.children_mut().zip(other.kind.children()) {
            child.extend_lifetimes(other);
        }
    }

    /// Gives each node its expiry: its own, or its parent's if that is earlier.
    fn resolve(self, parent: Timestamp) -> Self {
        let at = self.expires_at.map_or(parent, |own| own.min(parent));
        Self::new(self.kind.filter_map(|child| Some(child.resolve(at)))).expires_at(at)
    }

    /// The node at a position after `newer` was written over this node.
    fn merge(self, newer: Self) -> Self {
        let kind = match (self.kind, newer.kind) {
            (Kind::Set(a), Kind::Set(b)) => Kind::Set(a.merge(b)),
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

    /// The node without its parts that have expired at `now`; `None` if none of it is alive. The
    /// remaining elements of a List move up.
    fn visible(self, now: Timestamp) -> Option<Self> {
        let is_alive = self.expires_at.is_none_or(|at| at > now);
        let kind = self.kind.filter_map(|child| child.visible(now));
        let has_children = kind.children().next().is_some();
        (is_alive || has_children).then_some(Self { kind, expires_at: self.expires_at })
    }
}

impl Dict {
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
}

/// A document with the expiry of each node resolved from that of its update.
pub(crate) fn resolve_document(document: Dict, expires_at: Timestamp) -> Dict {
    document.filter_map(|node| Some(node.resolve(expires_at)))
}

/// Merges a `newer` document into an older one.
pub(crate) fn merge_documents(older: Dict, newer: Dict) -> Dict {
    older.merge(newer)
}

/// The document without the nodes that have expired at `now`.
pub(crate) fn visible_document(document: Dict, now: Timestamp) -> Dict {
    document.filter_map(|node| node.visible(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{List, Set};

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
        let older =
            dict([("a", Set::from([1, 2]).into()), ("p", Predicate::new("x").with(1).into())]);
        let newer = dict([("a", 7.into()), ("p", Predicate::new("y").with(2).into())]);
        assert_eq!(fold(vec![(older, 10), (newer, 10)], 5), r#"{"a": 7, "p": y(2)}"#);
    }

    #[test]
    fn sets_unite_and_an_element_keeps_the_later_expiry() {
        let one = Set::from([Node::from(1).expires_at(at(3)), 2.into()]);
        let two = Set::from([Node::from(1), Node::from(3).expires_at(at(4))]);
        let documents = vec![(dict([("s", one.into())]), 10), (dict([("s", two.into())]), 20)];
        assert_eq!(fold(documents.clone(), 2), r#"{"s": set[1, 2, 3]}"#);
        assert_eq!(fold(documents.clone(), 5), r#"{"s": set[1, 2]}"#);
        assert_eq!(fold(documents, 15), r#"{"s": set[1]}"#);
    }

    #[test]
    fn a_list_is_replaced_as_a_whole_and_replaces_anything() {
        let list: Node = List::from([3, 1, 1]).into();
        let others: [Node; 5] = [
            List::from([2, 2]).into(),
            Set::from([1, 5]).into(),
            dict([("x", 1.into())]).into(),
            Predicate::new("t").with(1).into(),
            7.into(),
        ];
        for other in others {
            for (older, newer) in [(&list, &other), (&other, &list)] {
                // The lifetime of the newer List counts, although it is the earlier one.
                let documents =
                    vec![(dict([("k", older.clone())]), 20), (dict([("k", newer.clone())]), 10)];
                assert_eq!(fold(documents.clone(), 5), format!(r#"{{"k": {newer}}}"#));
                assert_eq!(fold(documents, 15), "{}", "{older}, then {newer}");
            }
        }
    }

    #[test]
    fn what_is_left_of_a_list_moves_up_and_a_list_lives_with_its_content() {
        let short = |n: i64| Node::from(n).expires_at(at(3));
        let inner: Node = List::from([short(7), 8.into()]).into();
        let list = List::from([short(1), 2.into(), short(3), inner, 2.into()]);
        let documents = vec![(dict([("l", list.into())]), 10)];
        assert_eq!(fold(documents.clone(), 2), r#"{"l": [1, 2, 3, [7, 8], 2]}"#);
        assert_eq!(fold(documents.clone(), 5), r#"{"l": [2, [8], 2]}"#);
        assert_eq!(fold(documents, 10), "{}");
        // Its own lifetime is over, that of an element is not.
        let documents = |own| {
            let list =
                Node::from(List::from([Node::from(1).expires_at(at(8))])).expires_at(at(own));
            vec![(dict([("l", list)]), 10)]
        };
        assert_eq!(fold(documents(9), 8), r#"{"l": []}"#, "an empty list that lives");
        assert_eq!(fold(documents(5), 5), "{}", "an element does not outlive its list");
    }

    #[test]
    fn what_a_set_holds_twice_lives_as_long_as_either_at_every_depth() {
        let leaf = |millis: u64| Node::from("leaf").expires_at(at(millis));
        let containers: [fn(Node) -> Kind; 5] = [
            |node| List::from([1.into(), node]).into(),
            |node| Set::from([1.into(), node]).into(),
            |node| Dict::from([("k", 1.into()), ("l", node)]).into(),
            |node| Predicate::new("t").with(1).with(node).into(),
            |node| Predicate::new("t").with(1).with_named("k", node).into(),
        ];
        for outer in containers {
            for inner in containers {
                let node = |millis| Node::new(outer(Node::new(inner(leaf(millis)))));
                for (a, b) in [(5, 9), (9, 5)] {
                    let mut set = Set::from([node(a), node(b)]);
                    assert_eq!(set, Set::from([node(9)]));
                    // No lifetime of its own counts as the latest.
                    set.insert(outer(inner("leaf".into()).into()));
                    assert_eq!(set, Set::from([outer(inner("leaf".into()).into())]));
                }
            }
        }
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
