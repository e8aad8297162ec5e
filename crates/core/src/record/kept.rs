//! Kept documents: documents that their writer signs again before they expire.
//!
//! **Invariants.** A renewal extends lifetimes and changes nothing else in the view. A document
//! published over a part of a kept document replaces that part and is not kept. A space is renewed
//! in as few updates as possible, so updates do not accumulate.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Keeping".

use std::time::Duration;

use super::{SignError, SignedUpdate, SpaceSigner, UpdateError, UpdateKind, ZeroLifetime};
use crate::{
    node::{Dict, Kind, Node, Predicate, Set, merge_documents, resolve_document, visible_document},
    time::Timestamp,
};

/// A document that its writer signs again before it expires.
///
/// A space may have several kept documents. [`renew`](Self::renew) takes all of them, because a
/// renewal replaces the whole space.
///
/// It merges with the content of the space and with other kept documents ([`and`](Self::and)):
///
#[doc = crate::merge_table!()]
///
/// A document published over a part of it replaces that part ([`without`](Self::without)).
///
/// ```
/// use std::time::Duration;
/// use libp2p_identity::Keypair;
/// use smart_record_core::{Dict, KeptDocument, Limits, SmartRecord, SpaceSigner, Timestamp};
///
/// let (key, minute) = ("/sr/rooms/lobby".into(), Duration::from_secs(60));
/// let mut signer = SpaceSigner::new(key, Keypair::generate_ed25519(), Limits::default());
/// let kept = KeptDocument::new([("name", "ada")].into_iter().collect(), 10 * minute)?;
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// kept.sign(&mut signer, now)?;
///
/// let later = now.saturating_add(5 * minute);
/// let renewed = KeptDocument::renew([&kept], &mut signer, later)?;
/// assert_eq!(renewed.expires_at(), later.saturating_add(10 * minute));
/// # Ok::<(), smart_record_core::SignError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDocument {
    document: Dict,
    ttl: Duration,
}

impl KeptDocument {
    /// A kept document that expires `ttl` after it is signed.
    ///
    /// # Errors
    /// [`ZeroLifetime`] if `ttl` is less than a millisecond.
    pub fn new(document: Dict, ttl: Duration) -> Result<Self, ZeroLifetime> {
        ZeroLifetime::check(ttl)?;
        Ok(Self { document, ttl })
    }

    /// The lifetime from signing.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Adds `document`, merged into this one. The longer of the two lifetimes applies to both.
    #[must_use]
    pub fn and(self, document: Dict, ttl: Duration) -> Self {
        Self { document: merge_documents(self.document, document), ttl: self.ttl.max(ttl) }
    }

    /// Adds another kept document, as [`and`](Self::and).
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.and(other.document, other.ttl)
    }

    /// The part that is still kept after `newer` was published over it; `None` if no part is.
    ///
    /// A Dict and the named arguments of a Predicate of the same tag lose what `newer` overwrites,
    /// key by key. The elements of a Set stay, because sets unite. Anything else, a List too, is
    /// overwritten as a whole.
    #[must_use]
    pub fn without(self, newer: &Dict) -> Option<Self> {
        let was_empty = self.document.is_empty();
        let document = without(self.document, newer);
        (was_empty || !document.is_empty()).then_some(Self { document, ttl: self.ttl })
    }

    /// Signs the document for the first time, as one more update merged into the space.
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

    /// Renews all kept documents of a space: replaces the space with the same content and new
    /// lifetimes. This takes one update, or several if the content does not fit into one. Returns
    /// the last update.
    ///
    /// If the space has no room for its whole content again, it only merges the kept documents into
    /// the space.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`]. On an error the signer is unchanged.
    pub fn renew<'a>(
        kept: impl IntoIterator<Item = &'a Self, IntoIter: Clone>,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let kept = kept.into_iter();
        let said = signer.space().view(now).map(|view| (view.document, view.expires_at));
        match replace(signer, said.into_iter().chain(resolved(kept.clone(), now)), now) {
            Err(SignError::Update(UpdateError::Limit(_))) => {
                signer.sign_all(UpdateKind::Merge, resolved(kept, now), now)
            }
            signed => signed,
        }
    }

    /// Withdraws the document: replaces the space with its other content and the other `kept`
    /// documents. Positions that were overwritten since are unchanged. An element of a set is
    /// removed even if it was also published separately.
    ///
    /// # Errors
    /// As [`SpaceSigner::merge`], and [`Limit::SPACE_BYTES`](crate::Limit::SPACE_BYTES) if the
    /// space has no room for its remaining content again. On an error the signer is unchanged.
    pub fn withdraw<'a>(
        &self,
        kept: impl IntoIterator<Item = &'a Self>,
        signer: &mut SpaceSigner,
        now: Timestamp,
    ) -> Result<SignedUpdate, SignError> {
        let said = signer.space().view(now).and_then(|view| {
            let left = minus(view.document, &visible_document(self.document.clone(), now));
            let ends_at = left.iter().map(|(_, node)| latest_end(node)).max()?;
            Some((left, ends_at))
        });
        replace(signer, said.into_iter().chain(resolved(kept, now)), now)
    }
}

/// The kept documents with lifetimes resolved for signing at `now`, and the expiry of each.
fn resolved<'a>(
    kept: impl IntoIterator<Item = &'a KeptDocument>,
    now: Timestamp,
) -> impl Iterator<Item = (Dict, Timestamp)> {
    kept.into_iter().map(move |kept| {
        let ends_at = now.saturating_add(kept.ttl);
        (resolve_document(visible_document(kept.document.clone(), now), ends_at), ends_at)
    })
}

/// Merges these documents and replaces the content of a space with them. Withdraws the space if
/// there are none.
fn replace(
    signer: &mut SpaceSigner,
    documents: impl Iterator<Item = (Dict, Timestamp)>,
    now: Timestamp,
) -> Result<SignedUpdate, SignError> {
    let mut documents = documents.peekable();
    match documents.peek() {
        Some(_) => signer.sign_all(UpdateKind::Replace, documents, now),
        None => signer.withdraw(now),
    }
}

/// A document without the content that `said` has in the same positions.
fn minus(document: Dict, said: &Dict) -> Dict {
    let left = document.into_iter().filter_map(|(key, node)| {
        let node = match said.find(&key) {
            Some(said) => node_minus(node, said)?,
            None => node,
        };
        Some((key, node))
    });
    left.collect()
}

/// A node without the content that `said` has in its position; `None` if nothing is left.
fn node_minus(node: Node, said: &Node) -> Option<Node> {
    let kind = match (node.kind, &said.kind) {
        (Kind::Set(set), Kind::Set(said)) => Kind::Set(elements_minus(set, said)),
        (Kind::Dict(dict), Kind::Dict(said)) => Kind::Dict(minus(dict, said)),
        (Kind::Predicate(predicate), Kind::Predicate(said)) if predicate.tag == said.tag => {
            let Predicate { tag, positional, named } = predicate;
            let positional = elements_minus(positional, &said.positional);
            Kind::Predicate(Predicate { tag, positional, named: minus(named, &said.named) })
        }
        (kind, _) => {
            // A different node was written there since, and stays.
            let node = Node { kind, expires_at: node.expires_at };
            return (!node.cmp_content(said).is_eq()).then_some(node);
        }
    };
    let is_left = kind.children().next().is_some();
    is_left.then_some(Node { kind, expires_at: node.expires_at })
}

fn elements_minus(set: Set, said: &Set) -> Set {
    set.into_iter().filter(|node| !said.contains(node)).collect()
}

/// The latest expiry in a resolved node.
fn latest_end(node: &Node) -> Timestamp {
    node.expires_at.max(node.kind.children().map(latest_end).max()).unwrap_or_default()
}

/// A document without the content that a newer one overwrites.
fn without(document: Dict, newer: &Dict) -> Dict {
    let left = document.into_iter().filter_map(|(key, node)| {
        let node = match newer.find(&key) {
            Some(newer) => node_without(node, newer)?,
            None => node,
        };
        Some((key, node))
    });
    left.collect()
}

/// A node without the content that a newer one in its position overwrites; `None` if nothing is
/// left.
fn node_without(node: Node, newer: &Node) -> Option<Node> {
    let kind = match (node.kind, &newer.kind) {
        // Sets unite, so a newer set overwrites nothing.
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

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::{
        super::{Limit, Limits, SmartRecord, Space},
        *,
    };
    use crate::{node::List, validator::Fault};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn document(json: &str) -> Dict {
        json.parse().unwrap()
    }

    fn kept_for(document: Dict, ttl: Duration) -> KeptDocument {
        KeptDocument::new(document, ttl).unwrap()
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
        let kept = kept_for(document(r#"{"long": {"c": 2}, "kept": "x"}"#), 4 * MINUTE);
        kept.sign(&mut signer, NOW).unwrap();
        let before = signer.space().clone();
        let later = NOW.saturating_add(2 * MINUTE);
        KeptDocument::renew([&kept], &mut signer, later).unwrap();
        assert_eq!(signer.space().updates().len(), 1);
        let said = |space: &Space, minutes| {
            let at = NOW.saturating_add(minutes * MINUTE);
            space.view(at).unwrap().document.iter().map(|(k, _)| k.clone()).collect::<Vec<_>>()
        };
        for minutes in [2, 3] {
            assert_eq!(said(&before, minutes), said(signer.space(), minutes), "{minutes}");
        }
        // Only the kept part lives longer now.
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
        let left = kept_for(kept, MINUTE).without(&newer).unwrap();
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
    fn a_space_that_does_not_fit_into_one_update_is_kept_in_as_few_as_it_takes() {
        let mut signer = signer();
        for name in ["a", "b", "c"] {
            let large: Dict = [(name, "x".repeat(1_500))].into_iter().collect();
            let nested = [("nested", large)].into_iter().collect();
            signer.merge(nested, NOW, 10 * MINUTE).unwrap();
        }
        let kept = kept_for(document(r#"{"kept": 1}"#), 4 * MINUTE);
        let said = signer.space().view(NOW).unwrap().document;
        for _ in 0..20 {
            KeptDocument::renew([&kept], &mut signer, NOW).unwrap();
        }
        assert!(signer.space().updates().len() <= 4, "renewals do not pile up");
        let view = signer.space().view(NOW).unwrap().document;
        assert_eq!(view.len(), 2);
        assert_eq!(view.get("nested"), said.get("nested"), "with the same lifetimes");
        kept.withdraw([], &mut signer, NOW).unwrap();
        assert_eq!(signer.space().view(NOW).unwrap().document, said);
    }

    #[test]
    fn what_several_updates_have_united_is_signed_in_parts() {
        let large = |n: usize| n.to_string().repeat(900);
        for n in 0..3 {
            let mut signer = signer();
            for m in 0..3 {
                let node = match n {
                    0 => Node::from(Set::from([large(m)])),
                    1 => Predicate::new("tag").with(large(m)).into(),
                    _ => Predicate::new("tag").with_named(large(m), m.to_string()).into(),
                };
                signer.merge(Dict::from([("united", node)]), NOW, 10 * MINUTE).unwrap();
            }
            let short = match n {
                0 => Node::from(Set::from([1])),
                _ => Predicate::new("tag").with("short").with_named("short", "x").into(),
            };
            signer.merge(Dict::from([("united", short)]), NOW, MINUTE).unwrap();
            let said = signer.space().view(NOW).unwrap().document;
            KeptDocument::renew([], &mut signer, NOW).unwrap();
            let replaced = signer.space().updates().next().unwrap();
            assert_eq!(replaced.kind(), UpdateKind::Replace, "all of it was signed anew");
            assert!(signer.space().updates().len() > 1, "none can carry all of it");
            assert_eq!(signer.space().view(NOW).unwrap().document, said);
        }
    }

    #[test]
    fn what_the_space_has_no_room_for_is_refused_and_drops_nothing() {
        let mut signer = signer();
        let large = |name: &str, len| Dict::from([(name.to_owned(), "x".repeat(len))]);
        signer.replace(large("a", 1_980), NOW, 10 * MINUTE).unwrap();
        for name in ["b", "c", "d", "e"] {
            signer.merge(large(name, 1_980), NOW, 10 * MINUTE).unwrap();
        }
        assert_eq!(signer.space().view(NOW).unwrap().document.len(), 5);
        let kept = kept_for(large("kept", 500), 4 * MINUTE);
        let other = kept_for(large("other", 1), MINUTE);
        let before = signer.record(NOW);
        let refused = [
            kept.sign(&mut signer, NOW),
            KeptDocument::renew([&kept], &mut signer, NOW),
            other.withdraw([&kept], &mut signer, NOW),
            signer.merge(large("f", 500), NOW, MINUTE),
        ];
        for refused in refused {
            let Err(SignError::Update(UpdateError::Limit(exceeded))) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(exceeded.limit, Limit::SPACE_BYTES);
            assert!(exceeded.got.unwrap() > exceeded.max);
            assert_eq!(signer.record(NOW), before, "it leaves no trace");
        }
        // Later there is room.
        let later = NOW.saturating_add(10 * MINUTE);
        kept.sign(&mut signer, later).unwrap();
        assert_eq!(signer.space().view(later).unwrap().document, large_of(&kept, later));
    }

    #[test]
    fn a_lifetime_of_zero_is_one_error_at_every_door() {
        let mut signer = signer();
        for ttl in [Duration::ZERO, Duration::from_micros(999)] {
            assert_eq!(KeptDocument::new(document("{}"), ttl), Err(ZeroLifetime));
            let merged = signer.merge(document(r#"{"a": 1}"#), NOW, ttl);
            let replaced = signer.replace(document(r#"{"a": 1}"#), NOW, ttl);
            for refused in [merged, replaced] {
                let error = refused.unwrap_err();
                assert_eq!(error, ZeroLifetime.into());
                assert_eq!(error.to_string(), ZeroLifetime.to_string());
                assert_eq!(error.fault(), Fault::Caller);
            }
        }
        assert_eq!(signer.space().updates().len(), 0);
    }

    fn large_of(kept: &KeptDocument, now: Timestamp) -> Dict {
        resolve_document(kept.document.clone(), now.saturating_add(kept.ttl))
    }

    #[test]
    fn case_27_what_changes_each_second_is_one_update() {
        let mut signer = signer();
        signer
            .merge(document(r#"{"published": "x", "set": {"/": {"set": [1]}}}"#), NOW, 10 * MINUTE)
            .unwrap();
        let other = kept_for(document(r#"{"name": "y"}"#), 2 * MINUTE);
        let mut kept = kept_for(document(r#"{"map": "z", "set": {"/": {"set": [2]}}}"#), MINUTE);
        let mut longest = 0;
        for n in 0..300 {
            let now = NOW.saturating_add(n * Duration::from_secs(1));
            let players = format!(r#"{{"players": {n}}}"#);
            kept = kept.and(document(&players), MINUTE);
            KeptDocument::renew([&other, &kept], &mut signer, now).unwrap();
            let space = signer.space();
            assert_eq!(space.updates().len(), 1);
            longest = longest.max(space.encode(&signer.writer()).len());
            let said = space.view(now).unwrap().document;
            let all = format!(
                r#"{{"published": "x", "set": {{"/": {{"set": [1, 2]}}}}, "name": "y", "map": "z",
                "players": {n}}}"#
            );
            assert_eq!(said.to_json(), document(&all).to_json());
        }
        assert!(longest < 400, "{longest} bytes");
    }

    #[test]
    fn withdrawing_one_document_leaves_all_else() {
        let mut signer = signer();
        let published = r#"{"dict": {"a": 1, "b": 1}, "set": {"/": {"set": [1]}}, "list": [1, 2]}"#;
        signer.merge(document(published), NOW, 9 * MINUTE).unwrap();
        let other = r#"{"dict": {"c": 1}, "set": {"/": {"set": [2]}}}"#;
        let other = kept_for(document(other), 2 * MINUTE);
        let kept = r#"{"dict": {"b": 2, "d": 1}, "set": {"/": {"set": [2, {"in": [3]}]}},
            "only": {"x": 1}, "over": 1, "list": [1, 2, 3], "newer": [1, 1]}"#;
        let mut kept = document(kept);
        let short = Node::from(4).expires_at(NOW.saturating_add(MINUTE / 4));
        kept.insert("short", List::from([short, 5.into()]));
        let kept = kept_for(kept, MINUTE);
        KeptDocument::renew([&other, &kept], &mut signer, NOW).unwrap();
        signer.merge(document(r#"{"over": 2, "newer": [1]}"#), NOW, 9 * MINUTE).unwrap();
        // A part of the kept document has expired by then.
        let later = NOW.saturating_add(MINUTE / 2);
        kept.withdraw([&other], &mut signer, later).unwrap();
        assert_eq!(signer.space().updates().len(), 1);
        let said = signer.space().view(later).unwrap().document.to_json();
        let left = r#"{"dict": {"a": 1, "c": 1}, "set": {"/": {"set": [1, 2]}}, "over": 2,
            "newer": [1]}"#;
        let left = document(left);
        assert_eq!(said, left.to_json());
        // A space without other content is withdrawn.
        let mut alone = super::tests::signer();
        let kept = kept_for(document(r#"{"a": 1}"#), MINUTE);
        kept.sign(&mut alone, NOW).unwrap();
        let withdrawn = kept.withdraw([], &mut alone, NOW).unwrap();
        assert_eq!(alone.space().view(NOW), None);
        assert_eq!(withdrawn.retain_until(), NOW.saturating_add(MINUTE));
    }
}
