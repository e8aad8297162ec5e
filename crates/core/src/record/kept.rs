//! A document that its writer keeps in its space: it is signed anew before it expires.
//!
//! **Invariants.** Signing anew changes nothing of what a reader sees but for how long. What is published over a part of a
//! kept document takes the place of that part, and is not kept.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Keeping".

use std::time::Duration;

use super::{SignError, SignedUpdate, SpaceSigner, UpdateError};
use crate::{
    node::{Dict, Kind, Node, Predicate, merge_documents, resolve_document, visible_document},
    time::Timestamp,
};

/// A document that is signed anew before it expires.
///
/// There is one for each space: several would each be renewed over the others. A renewal is one update in the place of all
/// that the space says, so renewals do not pile up.
///
/// ```
/// use std::time::Duration;
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Dict, KeptDocument, Limits, SmartRecord, SpaceSigner, Timestamp};
///
/// let (key, minute) = ("/sr/rooms/lobby".into(), Duration::from_secs(60));
/// let mut signer = SpaceSigner::new(key, Keypair::generate_ed25519(), Limits::default());
/// let kept = KeptDocument::new([("name", "ada")].into_iter().collect(), 10 * minute);
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// kept.sign(&mut signer, now)?;
///
/// let later = now.saturating_add(5 * minute);
/// let renewed = kept.renew(&mut signer, later)?;
/// assert_eq!(renewed.expires_at(), later.saturating_add(10 * minute));
/// # Ok::<(), smart_record_core::SignError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDocument {
    document: Dict,
    ttl: Duration,
}

impl KeptDocument {
    /// Keeps `document`, which lives for `ttl` from when it is signed.
    pub const fn new(document: Dict, ttl: Duration) -> Self {
        Self { document, ttl }
    }

    /// How long it lives from when it is signed.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Keeps `document` as well, merged into this one. Both live for the longer of the two times.
    #[must_use]
    pub fn and(self, document: Dict, ttl: Duration) -> Self {
        Self { document: merge_documents(self.document, document), ttl: self.ttl.max(ttl) }
    }

    /// What is left to be kept after `newer` was published over it; `None` if nothing is.
    #[must_use]
    pub fn without(self, newer: &Dict) -> Option<Self> {
        let was_empty = self.document.is_empty();
        let document = without(self.document, newer);
        (was_empty || !document.is_empty()).then_some(Self { document, ttl: self.ttl })
    }

    /// Signs it for the first time, merged into the space.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`].
    pub fn sign(
        &self,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        signer.merge(visible_document(self.document.clone(), now), now, self.ttl)
    }

    /// Signs it anew, as one update in the place of all that the space says, which says the same; if that does not fit
    /// into one, as one update more.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`].
    pub fn renew(
        &self,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let mut ends_at = now.saturating_add(self.ttl);
        let mut document = visible_document(self.document.clone(), now);
        document = resolve_document(document, ends_at);
        if let Some(view) = signer.space().view(now) {
            ends_at = ends_at.max(view.expires_at);
            document = merge_documents(view.document, document);
        }
        let document = inheriting(document, ends_at);
        match signer.replace(document, now, ends_at.saturating_since(now)) {
            Err(SignError::Update(UpdateError::Limit(_))) => self.sign(signer, now),
            signed => signed,
        }
    }
}

/// A document without what a newer one overwrites.
fn without(document: Dict, newer: &Dict) -> Dict {
    let left = document.into_iter().filter_map(|(key, node)| {
        let node = match newer.iter().find(|(other, _)| **other == key) {
            Some((_, newer)) => node_without(node, newer)?,
            None => node,
        };
        Some((key, node))
    });
    left.collect()
}

/// A node without what a newer one in its place overwrites; `None` if that is all of it.
fn node_without(node: Node, newer: &Node) -> Option<Node> {
    let kind = match (node.kind, &newer.kind) {
        // Sets are united, so nothing in them is overwritten.
        (kind @ Kind::List(_), Kind::List(_)) => kind,
        (Kind::Dict(dict), Kind::Dict(newer)) => Kind::Dict(without(dict, newer)),
        (Kind::Predicate(predicate), Kind::Predicate(newer)) if predicate.tag == newer.tag => {
            let named = without(predicate.named, &newer.named);
            Kind::Predicate(Predicate { named, ..predicate })
        }
        _ => return None,
    };
    Some(Node { kind, expires_at: node.expires_at })
}

/// A resolved document with the instants left out that its nodes inherit.
fn inheriting(document: Dict, parent: Timestamp) -> Dict {
    document.into_iter().map(|(key, node)| (key, node_inheriting(node, parent))).collect()
}

fn node_inheriting(node: Node, parent: Timestamp) -> Node {
    let at = node.expires_at.unwrap_or(parent);
    let kind = match node.kind {
        Kind::List(list) => {
            Kind::List(list.into_iter().map(|node| node_inheriting(node, at)).collect())
        }
        Kind::Dict(dict) => Kind::Dict(inheriting(dict, at)),
        Kind::Predicate(Predicate { tag, positional, named }) => Kind::Predicate(Predicate {
            tag,
            positional: positional.into_iter().map(|node| node_inheriting(node, at)).collect(),
            named: inheriting(named, at),
        }),
        leaf => leaf,
    };
    Node { kind, expires_at: node.expires_at.filter(|at| *at != parent) }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::{
        super::{Limits, SmartRecord, Space},
        *,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn document(json: &str) -> Dict {
        json.parse().unwrap()
    }

    fn signer() -> SpaceSigner {
        let mut signer =
            SpaceSigner::new("/sr/a".into(), Keypair::generate_ed25519(), Limits::default());
        signer.resume(&SmartRecord::new("/sr/a".into()));
        signer
    }

    #[test]
    fn signing_anew_changes_nothing_but_for_how_long_and_leaves_one_update() {
        let mut signer = signer();
        let long = document(r#"{"long": {"a": 1, "b": [1, {"x": "y"}]}, "set": [1]}"#);
        signer.merge(long, NOW, 10 * MINUTE).unwrap();
        signer.merge(document(r#"{"short": 1, "set": [2]}"#), NOW, 3 * MINUTE).unwrap();
        let kept = KeptDocument::new(document(r#"{"long": {"c": 2}, "kept": "x"}"#), 4 * MINUTE);
        kept.sign(&mut signer, NOW).unwrap();
        let before = signer.space().clone();
        let later = NOW.saturating_add(2 * MINUTE);
        kept.renew(&mut signer, later).unwrap();
        assert_eq!(signer.space().updates().len(), 1);
        let said = |space: &Space, minutes| {
            let at = NOW.saturating_add(minutes * MINUTE);
            space.view(at).unwrap().document.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>()
        };
        for minutes in [2, 3] {
            assert_eq!(said(&before, minutes), said(signer.space(), minutes), "{minutes}");
        }
        // Only what is kept lives for longer now.
        let late = signer.space().view(NOW.saturating_add(5 * MINUTE)).unwrap().document;
        let kept = late.get("kept").unwrap();
        assert_eq!(kept.expires_at, Some(NOW.saturating_add(6 * MINUTE)));
        let set = late.get("set").unwrap();
        assert_eq!(set.to_string(), "[1]", "the other element had three minutes");
        assert_eq!(set.expires_at, Some(NOW.saturating_add(10 * MINUTE)));
        assert_eq!(late.len(), 3);
    }

    #[test]
    fn what_is_published_over_a_part_takes_its_place_and_is_not_kept() {
        let kept =
            KeptDocument::new(document(r#"{"a": 1, "b": {"x": 1, "y": 2}, "set": [1]}"#), MINUTE);
        let left = kept.without(&document(r#"{"a": 2, "b": {"x": 3}, "set": [2], "new": 1}"#));
        let left = left.unwrap();
        assert_eq!(left.document, document(r#"{"b": {"y": 2}, "set": [1]}"#));
        let nothing = document(r#"{"b": 1, "set": 1}"#);
        assert!(left.without(&nothing).is_none(), "nothing is left to be kept");
    }

    #[test]
    fn a_space_that_does_not_fit_into_one_update_is_kept_all_the_same() {
        let mut signer = signer();
        for name in ["a", "b"] {
            let large = [(name, "x".repeat(1_500))].into_iter().collect();
            signer.merge(large, NOW, 10 * MINUTE).unwrap();
        }
        let kept = KeptDocument::new(document(r#"{"kept": 1}"#), 4 * MINUTE);
        kept.renew(&mut signer, NOW).unwrap();
        assert_eq!(signer.space().updates().len(), 3);
        assert_eq!(signer.space().view(NOW).unwrap().document.len(), 3);
    }
}
