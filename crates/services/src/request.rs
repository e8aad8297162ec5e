//! The requests in a record.
//!
//! **Invariants.** Pure. A predicate under [`FINDINGS`](super::FINDINGS) at the root of a document
//! is never a request, whoever wrote it, so no service answers another service or itself. A request
//! at which its tag panics is malformed. The number of requests read from each writer is bounded.
//!
//! **Spec.** Go smart records, `ir/base/reachable.go`: smart tags count anywhere in the keys and
//! values of Dicts, in Sets and in Lists, but not within other predicates.

use std::panic::AssertUnwindSafe;

use libp2p_identity::PeerId;

use super::{
    finding::{FINDINGS, encoded_len},
    tag::{RequestRefusal, SmartTag},
};
use libp2p_smart_record::{Kind, Node, Predicate, Timestamp, View};

/// A request by one writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WriterRequest {
    /// In canonical form.
    pub(super) request: Predicate,
    /// Index of its tag.
    pub(super) tag: usize,
    pub(super) writer: PeerId,
    pub(super) expires_at: Timestamp,
}

/// The requests in a record.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Requests {
    pub(super) accepted: Vec<WriterRequest>,
    pub(super) refused: Vec<(PeerId, RequestRefusal)>,
}

/// Collects the requests in a record, grouped by writer. A request by several writers is there once
/// for each of them.
pub(super) fn requests(
    view: &View,
    tags: &[Box<dyn SmartTag>],
    max_of_writer: usize,
    max_bytes: usize,
) -> Requests {
    let mut found = Requests::default();
    for (writer, space) in view {
        let writer = writer.peer_id();
        let mut walk = Walk { tags, predicates: Vec::new() };
        for (key, node) in &space.document {
            if *key != Kind::from(FINDINGS) {
                walk.pair(key, node, space.expires_at);
            }
        }
        let mut taken = 0_usize;
        for (tag, predicate, expires_at) in walk.predicates {
            if taken >= max_of_writer {
                found.refused.push((writer, RequestRefusal::TooManyOfWriter));
                break;
            }
            taken = taken.saturating_add(1);
            let Some(smart_tag) = tags.get(tag) else {
                continue;
            };
            match canonical(&**smart_tag, predicate, max_bytes) {
                Ok(request) => {
                    found.accepted.push(WriterRequest { request, tag, writer, expires_at })
                }
                Err(refusal) => found.refused.push((writer, refusal)),
            }
        }
    }
    found
}

fn canonical(
    tag: &dyn SmartTag,
    asked: &Predicate,
    max: usize,
) -> Result<Predicate, RequestRefusal> {
    let check_length = |predicate: &Predicate| {
        let bytes = encoded_len(predicate);
        if bytes > max { Err(RequestRefusal::TooLong { bytes, max }) } else { Ok(()) }
    };
    check_length(asked)?;
    let canonical = AssertUnwindSafe(|| tag.request(&asked.clone().without_lifetimes()));
    let request = std::panic::catch_unwind(canonical).unwrap_or(Err(RequestRefusal::Malformed))?;
    check_length(&request)?;
    Ok(request.without_lifetimes())
}

struct Walk<'a> {
    tags: &'a [Box<dyn SmartTag>],
    predicates: Vec<(usize, &'a Predicate, Timestamp)>,
}

impl<'a> Walk<'a> {
    fn pair(&mut self, key: &'a Kind, node: &'a Node, until: Timestamp) {
        let until = node.expires_at.map_or(until, |at| at.min(until));
        self.kind(key, until);
        self.kind(&node.kind, until);
    }

    fn kind(&mut self, kind: &'a Kind, until: Timestamp) {
        match kind {
            Kind::Dict(dict) => dict.iter().for_each(|(key, node)| self.pair(key, node, until)),
            Kind::Predicate(predicate) => {
                let tag = self.tags.iter().position(|tag| tag.tag() == predicate.tag);
                self.predicates.extend(tag.map(|tag| (tag, predicate, until)));
            }
            kind => kind.children().for_each(|node| {
                self.kind(&node.kind, node.expires_at.map_or(until, |at| at.min(until)));
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, future::BoxFuture};
    use libp2p_identity::Keypair;

    use super::*;
    use crate::{Outcome, finding::Finding};
    use libp2p_smart_record::{Dict, Limits, List, RecordKey, Set, SpaceSigner};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    struct AskTag;

    impl SmartTag for AskTag {
        fn tag(&self) -> &str {
            "ask"
        }

        fn check(&self, _: &Predicate) -> BoxFuture<'static, Outcome> {
            async { Outcome::Unknown }.boxed()
        }
    }

    fn found(document: Dict, max_of_writer: usize) -> Requests {
        let keypair = Keypair::generate_ed25519();
        let mut signer = SpaceSigner::new(RecordKey::new("/sr/a"), keypair, Limits::default());
        signer.merge(document, NOW, Duration::from_secs(60)).unwrap();
        let tags: Vec<Box<dyn SmartTag>> = vec![Box::new(AskTag)];
        requests(&signer.record(NOW).view(NOW), &tags, max_of_writer, 100)
    }

    fn ask(n: i64) -> Predicate {
        Predicate::new("ask").with(n)
    }

    #[test]
    fn requests_are_found_in_keys_values_lists_and_sets_with_their_lifetimes() {
        let soon = NOW.saturating_add(Duration::from_secs(5));
        let mut inner = Dict::new();
        inner.insert(ask(1), "key");
        inner.insert("value", ask(2));
        let element = |n| [Node::from(ask(n)).expires_at(soon)];
        let mut document = Dict::new();
        document.insert("inner", inner);
        document.insert("list", List::from(element(3)));
        document.insert("set", Set::from(element(5)));
        document.insert("not", Predicate::new("other").with(ask(4)));
        let mut found: Vec<_> =
            found(document, 9).accepted.into_iter().map(|a| (a.request, a.expires_at)).collect();
        found.sort();
        let minute = NOW.saturating_add(Duration::from_secs(60));
        let expected = [(ask(1), minute), (ask(2), minute), (ask(3), soon), (ask(5), soon)];
        assert_eq!(found, expected);
    }

    #[test]
    fn findings_are_not_requests_although_their_keys_look_like_requests() {
        let expires_at = NOW.saturating_add(Duration::from_secs(5));
        let finding = Finding { request: ask(1), finding: ask(2), expires_at };
        let document = crate::finding::document([&finding]);
        assert_eq!(found(document, 9), Requests::default());
    }

    #[test]
    fn requests_of_a_writer_are_bounded_in_number_and_length() {
        let many: Set = (0..50).map(|n| Node::from(ask(n))).collect();
        let found_many = found(Dict::from([("set", many)]), 4);
        assert_eq!(found_many.accepted.len(), 4);
        assert_eq!(found_many.refused.len(), 1, "told once");
        let long = Predicate::new("ask").with("x".repeat(200));
        let found_long = found([("long", long)].into_iter().collect(), 4);
        assert!(matches!(found_long.refused[..], [(_, RequestRefusal::TooLong { max: 100, .. })]));
    }
}
