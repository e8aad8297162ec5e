//! Documents: one order, one canonical form, encodings that round-trip, and idempotent merging.

#![no_main]

use std::{cmp::Ordering, str};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use libp2p_smart_record::{Dict, DocumentLimits, List, Node, Set, codec};
use libp2p_smart_record_fuzz::documents::Document;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    documents: [Document; 3],
    bytes: &'a [u8],
}

/// Every form supports this depth: JSON text may have up to 127 levels, and a node takes up to
/// seven.
const LIMITS: DocumentLimits = DocumentLimits { depth: 16, nodes: 1 << 20 };

/// Checks that every form gives the same document.
fn check_forms(document: &Dict) {
    let node = Node::new(document.clone());
    let bytes = codec::encode(document);
    assert_eq!(codec::decode(&bytes, LIMITS).as_ref(), Ok(document));
    assert_eq!(Dict::from_ipld(document.to_ipld()).as_ref(), Ok(document));
    let json: Dict = document.to_json().to_string().parse().expect("its JSON");
    assert_eq!(Node::new(json.clone()).cmp_content(&node), Ordering::Equal);
    assert_eq!(json.to_json(), document.to_json());
    // DAG-CBOR and DAG-JSON have no form for infinite Floats.
    if let Ok(bytes) = document.to_dag_cbor() {
        assert_eq!(Dict::from_dag_cbor(&bytes).as_ref(), Ok(document));
        let text = document.to_dag_json().expect("what DAG-CBOR has a form for");
        assert_eq!(Dict::from_dag_json(&text).as_ref(), Ok(document));
    }
}

fuzz_target!(|input: Input| {
    let [a, b, c] = input.documents.map(|document| Node::new(document.0));
    for (x, y, z) in [(&a, &b, &c), (&b, &c, &a), (&c, &a, &b), (&a, &a, &b)] {
        assert_eq!(x.cmp(y), y.cmp(x).reverse());
        assert_eq!(x.cmp(y) == Ordering::Equal, x == y);
        assert_eq!(x == y, codec::encode(&pair(x)) == codec::encode(&pair(y)));
        assert!(!(x <= y && y <= z) || x <= z);
        let (xy, yx) = (union([x, y]), union([y, x]));
        assert_eq!(xy, yx);
        assert_eq!(union(xy.iter().chain([z])), union([x, y, z, x]));
        check_forms(&pair(x));
        let list: List = [x, y, x].into_iter().cloned().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), [x, y, x]);
        check_forms(&Dict::from([("k", list)]));
    }
    if let Ok(document) = codec::decode(input.bytes, LIMITS) {
        assert_eq!(codec::encode(&document), input.bytes);
        check_forms(&document);
    }
    let text = str::from_utf8(input.bytes).ok().and_then(|text| text.parse().ok());
    let others =
        [Dict::from_dag_cbor(input.bytes).ok(), Dict::from_dag_json(input.bytes).ok(), text];
    let is_within = |document: &&Dict| codec::decode(&codec::encode(document), LIMITS).is_ok();
    others.iter().flatten().filter(is_within).for_each(check_forms);
});

fn pair(node: &Node) -> Dict {
    Dict::from([("k", node.clone())])
}

fn union<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Set {
    nodes.into_iter().cloned().collect()
}
