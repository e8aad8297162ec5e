//! What services have found: how it is written, and how it is read.
//!
//! **Invariants.** Pure. Under one request a space has one finding: a later one takes the place of an earlier one.
//!
//! **Spec.** In a service's space, at the root of the document, the Dict [`FINDINGS`] maps each request in its canonical form to
//! the finding, such as `{"findings": {dialable(; address=A): dialed(; address=A)}}`.

use libp2p_smart_record::{Dict, Kind, Node, Predicate, Timestamp, View, Writer, codec};

/// Under which name at the root of their documents services write what they have found.
pub const FINDINGS: &str = "findings";

/// How many bytes of findings go into an update, which has room for 2 KiB.
const UPDATE_BYTES: usize = 1_600;

/// What a service has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was asked, in its canonical form.
    pub request: Predicate,
    /// What was found.
    pub finding: Predicate,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// What has been found, as the view of a record shows it, and by whom. A finding is worth what its writer is.
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

/// The findings in the document of a space that expires then.
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

/// The document that says these.
pub(super) fn document<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Dict {
    let node = |found: &Finding| Node::from(found.finding.clone()).expires_at(found.expires_at);
    let pairs: Dict =
        findings.into_iter().map(|found| (found.request.clone(), node(found))).collect();
    [(FINDINGS, pairs)].into_iter().collect()
}

/// How many of these, from the first, go into one update; at least one.
pub(super) fn fit_into_an_update<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> usize {
    let mut bytes = 0_usize;
    let fits = |found: &&Finding| {
        bytes = bytes.saturating_add(cost(&found.request, &found.finding));
        bytes <= UPDATE_BYTES
    };
    findings.into_iter().take_while(fits).count().max(1)
}

/// How many bytes a predicate takes in a document.
pub(super) fn encoded_len(predicate: &Predicate) -> usize {
    let alone: Dict = [("", predicate.clone())].into_iter().collect();
    codec::encode(&alone).len()
}

/// How many bytes a finding takes, with its request.
pub(super) fn cost(request: &Predicate, finding: &Predicate) -> usize {
    encoded_len(request).saturating_add(encoded_len(finding)).saturating_add(16)
}
