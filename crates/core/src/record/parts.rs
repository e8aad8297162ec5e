//! Parts of documents: what a document that is too large for one update is signed in.
//!
//! **Invariants.** The two halves of a document merge into it.

use crate::{
    node::{Dict, Kind, Node, Predicate, Set},
    time::Timestamp,
};

/// Splits a document into two that merge into it; `None` if it cannot be split.
pub(super) fn halves(document: Dict) -> Option<(Dict, Dict)> {
    let half = document.len() / 2;
    let mut pairs = document.into_iter();
    if half > 0 {
        let first = pairs.by_ref().take(half).collect();
        return Some((first, pairs.collect()));
    }
    let (key, node) = pairs.next()?;
    let (first, second) = node_halves(node)?;
    Some((Dict::from([(key.clone(), first)]), Dict::from([(key, second)])))
}

/// Splits a node into two that merge into it; `None` if its kind does not merge.
fn node_halves(node: Node) -> Option<(Node, Node)> {
    let (first, second) = match node.kind {
        Kind::Dict(dict) => {
            let (first, second) = halves(dict)?;
            (first.into(), second.into())
        }
        Kind::Set(set) => {
            let (first, second) = set_halves(set)?;
            (first.into(), second.into())
        }
        Kind::Predicate(Predicate { tag, positional, named }) => {
            let (first, second) = if named.is_empty() {
                let (first, second) = set_halves(positional)?;
                ((first, named.clone()), (second, named))
            } else if positional.is_empty() {
                let (first, second) = halves(named)?;
                ((positional.clone(), first), (positional, second))
            } else {
                ((positional, Dict::new()), (Set::new(), named))
            };
            let with = |(positional, named)| {
                Kind::Predicate(Predicate { tag: tag.clone(), positional, named })
            };
            (with(first), with(second))
        }
        _ => return None,
    };
    let within = |kind| Node { kind, expires_at: node.expires_at };
    Some((within(first), within(second)))
}

fn set_halves(set: Set) -> Option<(Set, Set)> {
    let half = set.len() / 2;
    let mut elements = set.into_iter();
    let first: Set = elements.by_ref().take(half).collect();
    (!first.is_empty()).then(|| (first, elements.collect()))
}

/// A resolved document without the lifetimes that its nodes inherit.
pub(super) fn inheriting(document: Dict, parent: Timestamp) -> Dict {
    document.filter_map(|node| Some(node_inheriting(node, parent)))
}

fn node_inheriting(node: Node, parent: Timestamp) -> Node {
    let at = node.expires_at.unwrap_or(parent);
    let kind = node.kind.filter_map(|child| Some(node_inheriting(child, at)));
    Node { kind, expires_at: node.expires_at.filter(|at| *at != parent) }
}
