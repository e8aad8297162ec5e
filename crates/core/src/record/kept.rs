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
/// It merges into what the space says, and with what else is to be kept ([`and`](Self::and)):
///
#[doc = crate::merge_table!()]
///
/// What is published over a part of it takes that part's place ([`without`](Self::without)).
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
    ///
    /// A Dict and the named arguments of a Predicate of the same tag lose what `newer` overwrites, key by key. The elements
    /// of a Set stay, because sets unite. Anything else, a List too, is overwritten as a whole.
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
        (kind @ Kind::Set(_), Kind::Set(_)) => kind,
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
    document.filter_map(|node| Some(node_inheriting(node, parent)))
}

fn node_inheriting(node: Node, parent: Timestamp) -> Node {
    let at = node.expires_at.unwrap_or(parent);
    let kind = node.kind.filter_map(|child| Some(node_inheriting(child, at)));
    Node { kind, expires_at: node.expires_at.filter(|at| *at != parent) }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::{
        super::{Limits, SmartRecord, Space},
        *,
    };
    use crate::node::{List, Set};

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
        let long = r#"{"long": {"a": 1, "b": [1, {"x": "y"}, 1]}, "set": {"/": {"set": [1]}}}"#;
        signer.merge(document(long), NOW, 10 * MINUTE).unwrap();
        let short = document(r#"{"short": 1, "set": {"/": {"set": [2]}}}"#);
        signer.merge(short, NOW, 3 * MINUTE).unwrap();
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
        assert_eq!(set.to_string(), "set[1]", "the other element had three minutes");
        assert_eq!(set.expires_at, Some(NOW.saturating_add(10 * MINUTE)));
        assert_eq!(late.len(), 3);
    }

    #[test]
    fn what_is_published_over_a_part_takes_its_place_and_is_not_kept() {
        let document = |a, x, element, list: &str| {
            let set = format!(r#"{{"/": {{"set": [{element}]}}}}"#);
            document(&format!(r#"{{"a": {a}, "b": {{{x}}}, "set": {set}{list}}}"#))
        };
        let kept = document(1, r#""x": 1, "y": 2"#, 1, r#", "list": [1, 2], "other": [1]"#);
        let newer = document(2, r#""x": 3"#, 2, r#", "list": [1, 2], "new": 1"#);
        let left = KeptDocument::new(kept, MINUTE).without(&newer).unwrap();
        let expected = Dict::from([
            ("b", Node::from(Dict::from([("y", 2)]))),
            ("set", Set::from([1]).into()),
            ("other", List::from([1]).into()),
        ]);
        assert_eq!(left.document, expected, "a list is overwritten as a whole");
        let nothing = Dict::from([("b", 1), ("set", 1), ("other", 1)]);
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
