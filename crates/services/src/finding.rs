//! Findings of services, and their form in a document.
//!
//! **Invariants.** Pure. A space has one finding for a request; a later finding replaces an earlier
//! one.
//!
//! **Spec.** In a service's space, at the root of the document, the Dict [`FINDINGS`] maps each
//! request in canonical form to its finding, such as `{"findings": {dialable(; address=A): dialed(;
//! address=A)}}`.

use libp2p_smart_record::{Dict, Kind, Node, Predicate, Timestamp, View, Writer, codec};

/// Key of the findings at the root of a service's document.
pub const FINDINGS: &str = "findings";

/// Most bytes of findings in an update, which holds 2 KiB.
const UPDATE_BYTES: usize = 1_600;

/// A finding of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The request, in canonical form.
    pub request: Predicate,
    /// The finding.
    pub finding: Predicate,
    /// When the finding expires.
    pub expires_at: Timestamp,
}

/// The findings in a view, each with its writer. A finding is as trustworthy as its
/// writer.
///
/// ```
/// use libp2p_smart_record::View;
/// use smart_record_services::findings;
///
/// fn show(view: &View) {
///     for (service, found) in findings(view) {
///         println!("{service} was asked {}, found {}", found.request, found.finding);
///     }
/// }
/// # show(&View::default());
/// ```
pub fn findings(view: &View) -> impl Iterator<Item = (&Writer, Finding)> {
    view.iter().flat_map(|(writer, space)| {
        let found = in_document(&space.document, space.expires_at);
        found.map(move |finding| (writer, finding))
    })
}

/// The findings in a document. They expire at `until` at the latest.
pub(super) fn in_document(
    document: &Dict,
    until: Timestamp,
) -> impl Iterator<Item = Finding> + use<'_> {
    let node = document.get(FINDINGS);
    let pairs = match node.map(|node| &node.kind) {
        Some(Kind::Dict(pairs)) => Some(pairs.iter()),
        _ => None,
    };
    let until = node.and_then(|node| node.expires_at).map_or(until, |at| at.min(until));
    pairs.into_iter().flatten().filter_map(move |(request, finding)| {
        match (request, &finding.kind) {
            (Kind::Predicate(request), Kind::Predicate(found)) => Some(Finding {
                request: request.clone(),
                finding: found.clone().without_lifetimes(),
                expires_at: finding.expires_at.map_or(until, |at| at.min(until)),
            }),
            _ => None,
        }
    })
}

/// A document with these findings.
pub(super) fn document<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Dict {
    let node = |found: &Finding| Node::from(found.finding.clone()).expires_at(found.expires_at);
    let pairs: Dict =
        findings.into_iter().map(|found| (found.request.clone(), node(found))).collect();
    [(FINDINGS, pairs)].into_iter().collect()
}

/// Number of findings, from the first, that fit into one update; at least one.
pub(super) fn fit_into_an_update<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> usize {
    let mut bytes = 0_usize;
    let fits = |found: &&Finding| {
        bytes = bytes.saturating_add(cost(&found.request, &found.finding));
        bytes <= UPDATE_BYTES
    };
    findings.into_iter().take_while(fits).count().max(1)
}

/// Encoded bytes of a predicate in a document.
pub(super) fn encoded_len(predicate: &Predicate) -> usize {
    let alone: Dict = [("", predicate.clone())].into_iter().collect();
    codec::encode(&alone).len()
}

/// Encoded bytes of a finding with its request.
pub(super) fn cost(request: &Predicate, finding: &Predicate) -> usize {
    encoded_len(request).saturating_add(encoded_len(finding)).saturating_add(16)
}
