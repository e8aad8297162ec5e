//! Nodes: a total order, one encoding, forms that round-trip.

use super::*;

pub fn float(finite: bool) -> BoxedStrategy<Float> {
    let number = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(1.0),
        proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL,
    ]
    .prop_map(|v| Float::new(v).unwrap());
    if finite {
        return number.boxed();
    }
    prop_oneof![
        4 => number,
        1 => Just(Float::INFINITY),
        1 => Just(Float::NEG_INFINITY)
    ]
    .boxed()
}

pub fn link() -> impl Strategy<Value = Cid> {
    (0_u8..3, any::<bool>()).prop_map(|(n, v0)| {
        let hash = cid::multihash::Multihash::<64>::wrap(0x12, &[n; 32]).unwrap();
        if v0 { Cid::new_v0(hash).unwrap() } else { Cid::new_v1(0x55, hash) }
    })
}

/// A node of an unknown kind: field 30 with `content` as its bytes.
pub fn opaque(content: &[u8]) -> Kind {
    let mut bytes = vec![0xf2, 0x01, u8::try_from(content.len()).unwrap()];
    bytes.extend_from_slice(content);
    let data = Ipld::Map(BTreeMap::from([("Opaque".to_owned(), Ipld::Bytes(bytes))]));
    Node::from_ipld(data).unwrap().kind
}

pub fn leaf(finite: bool) -> BoxedStrategy<Kind> {
    prop_oneof![
        any::<bool>().prop_map(Kind::from),
        (0_i64..4).prop_map(Kind::from),
        any::<i64>().prop_map(Kind::from),
        float(finite).prop_map(Kind::from),
        // JSON uses "/" for escapes.
        prop_oneof![Just("/"), Just("a"), Just("b"), Just(""), Just("ä\"\n")].prop_map(Kind::from),
        vec(any::<u8>(), 0..3).prop_map(Kind::from),
        link().prop_map(Kind::from),
        vec(0_u8..2, 0..2).prop_map(|content| opaque(&content)),
    ]
    .boxed()
}

/// Few keys, so that documents overlap.
pub fn dict_key(finite: bool) -> BoxedStrategy<Kind> {
    prop_oneof![
        6 => prop_oneof![Just("a"), Just("b"), Just("c"), Just("/")].prop_map(Kind::from),
        1 => leaf(finite),
        1 => vec(leaf(finite), 0..3).prop_map(|v| Set::from(v).into()),
        1 => vec(leaf(finite), 0..3).prop_map(|v| List::from(v).into()),
    ]
    .boxed()
}

pub fn node(finite: bool, lifetime: BoxedStrategy<Option<u64>>) -> BoxedStrategy<Node> {
    let with_lifetime = move |kind: BoxedStrategy<Kind>| {
        (kind, lifetime.clone()).prop_map(|(kind, lifetime)| Node {
            kind,
            expires_at: lifetime.map(Timestamp::from_millis),
        })
    };
    let inner = with_lifetime.clone();
    with_lifetime(leaf(finite))
        .prop_recursive(3, 16, 4, move |child| {
            let list = vec(child.clone(), 0..4).prop_map(List::from_iter);
            let set = vec(child.clone(), 0..4).prop_map(Set::from_iter).boxed();
            let dict = vec((dict_key(finite), child), 0..4).prop_map(Dict::from_iter).boxed();
            let predicate =
                (prop_oneof![Just("t"), Just("u"), Just("")], set.clone(), dict.clone()).prop_map(
                    |(tag, positional, named)| Predicate { tag: tag.to_owned(), positional, named },
                );
            inner(
                prop_oneof![
                    list.prop_map(Kind::from),
                    set.prop_map(Kind::from),
                    dict.prop_map(Kind::from),
                    predicate.prop_map(Kind::from),
                ]
                .boxed(),
            )
        })
        .boxed()
}

pub fn any_lifetime() -> BoxedStrategy<Option<u64>> {
    prop_oneof![
        2 => Just(None),
        2 => (0_u64..3).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
    ]
    .boxed()
}

pub fn document(finite: bool, lifetime: BoxedStrategy<Option<u64>>) -> BoxedStrategy<Dict> {
    vec((dict_key(finite), node(finite, lifetime)), 0..4).prop_map(Dict::from_iter).boxed()
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The encoding of a node as the value of a pair.
pub fn encoded(node: &Node) -> Vec<u8> {
    codec::encode(&[("k", node.clone())].into_iter().collect())
}

pub fn without_lifetimes(node: &Node) -> Node {
    Node::new(match &node.kind {
        Kind::List(list) => list.iter().map(without_lifetimes).collect::<List>().into(),
        Kind::Set(set) => set.iter().map(without_lifetimes).collect::<Set>().into(),
        Kind::Dict(dict) => Kind::from(bare_dict(dict)),
        Kind::Predicate(p) => Kind::from(Predicate {
            tag: p.tag.clone(),
            positional: p.positional.iter().map(without_lifetimes).collect(),
            named: bare_dict(&p.named),
        }),
        leaf => leaf.clone(),
    })
}

pub fn bare_dict(dict: &Dict) -> Dict {
    dict.iter().map(|(key, node)| (key.clone(), without_lifetimes(node))).collect()
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn nodes_are_totally_ordered(
        a in node(false, any_lifetime()),
        b in node(false, any_lifetime()),
        c in node(false, any_lifetime()),
        lifetimes in vec(option::of(0_u64..3), 3),
    ) {
        // Three unrelated nodes, and three of the same content that differ only in lifetimes.
        let like = |lifetime: Option<u64>| Node {
            kind: a.kind.clone(),
            expires_at: lifetime.map(Timestamp::from_millis),
        };
        let nodes = [a.clone(), b, c, like(lifetimes[0]), like(lifetimes[1]), like(lifetimes[2]),
            without_lifetimes(&a)];
        for x in &nodes {
            for y in &nodes {
                prop_assert_eq!(x.cmp(y), y.cmp(x).reverse());
                prop_assert_eq!(x.cmp(y) == Ordering::Equal, x == y);
                prop_assert_eq!(x == y, encoded(x) == encoded(y));
                prop_assert!(x != y || hash_of(x) == hash_of(y));
                // Lifetimes count only between nodes of the same content.
                let by_content = without_lifetimes(x).cmp(&without_lifetimes(y));
                prop_assert_eq!(x.cmp_content(y), by_content);
                if by_content != Ordering::Equal {
                    prop_assert_eq!(x.cmp(y), by_content);
                }
                for z in &nodes {
                    prop_assert!(!(x <= y && y <= z) || x <= z, "{:?} {:?} {:?}", x, y, z);
                }
            }
        }
    }

    #[test]
    fn a_set_has_no_order_and_no_repetition(nodes in vec(node(false, any_lifetime()), 0..6), seed: u64) {
        // Repeats some with another lifetime. The later lifetime counts, in either order.
        let again = nodes.iter().map(|node| Node {
            expires_at: node.expires_at.map(|at| Timestamp::from_millis(at.as_millis() / 2)),
            kind: node.kind.clone(),
        });
        let nodes: Vec<Node> = nodes.iter().cloned().chain(again).collect();
        let set: Set = nodes.iter().cloned().collect();
        let mut shuffled = nodes.clone();
        Dice(seed).shuffle(&mut shuffled);
        let again: Set = nodes.iter().chain(&shuffled).cloned().collect();
        prop_assert_eq!(&again, &set);
        let mut one_by_one = Set::new();
        shuffled.iter().for_each(|node| one_by_one.insert(node.clone()));
        prop_assert_eq!(&one_by_one, &set);
        for pair in set.iter().collect::<Vec<_>>().windows(2) {
            prop_assert_eq!(pair[0].cmp_content(pair[1]), Ordering::Less);
        }
        for node in &nodes {
            prop_assert!(set.contains(node));
        }
    }

    #[test]
    fn the_encoding_is_faithful_and_the_only_one(
        document in document(false, any_lifetime()),
        flip: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let bytes = codec::encode(&document);
        let limits = DocumentLimits::default();
        prop_assert_eq!(codec::decode(&bytes, limits), Ok(document.clone()));
        // Bytes that decode encode to the same bytes: no node has a second form.
        if !bytes.is_empty() {
            let mut damaged = bytes.clone();
            damaged[flip.index(bytes.len())] ^= 1 << bit;
            if let Ok(other) = codec::decode(&damaged, limits) {
                prop_assert_ne!(&other, &document);
                prop_assert_eq!(codec::encode(&other), damaged);
            }
        }
    }

    #[test]
    fn json_keeps_all_but_lifetimes(document in document(false, any_lifetime())) {
        let text = document.to_json().to_string();
        prop_assert_eq!(text.parse::<Dict>(), Ok(bare_dict(&document)));
        let node = Node::new(document.clone());
        prop_assert_eq!(Node::from_json(&node.to_json()), Ok(without_lifetimes(&node)));
    }

    #[test]
    fn ipld_keeps_everything(
        document in document(false, any_lifetime()),
        finite in document(true, any_lifetime()),
    ) {
        prop_assert_eq!(Dict::from_ipld(document.to_ipld()), Ok(document));
        prop_assert_eq!(Dict::from_dag_json(&finite.to_dag_json().unwrap()), Ok(finite.clone()));
        prop_assert_eq!(Dict::from_dag_cbor(&finite.to_dag_cbor().unwrap()), Ok(finite));
    }
}

#[test]
pub fn a_node_of_an_unknown_kind_hides_no_second_lifetime() {
    // `expires_at: 5`, an unknown field, and `expires_at: 5` again. If the tail counted as a part
    // of the unknown content, the node could not be written with another lifetime, and it could be
    // a key.
    let unknown = [0xf2, 0x01, 1, b'x'];
    let value = [&[0x08, 5][..], &unknown, &[0x08, 5]].concat();
    let key = encoded_key("k");
    let pair = [&[0x0a, key.len() as u8][..], &key, &[0x12, value.len() as u8], &value].concat();
    let document = [&[0x0a, pair.len() as u8][..], &pair].concat();
    assert_eq!(codec::decode(&document, DocumentLimits::default()), Err(NodeError::NotCanonical));
}

/// The encoding of a String node.
pub fn encoded_key(text: &str) -> Vec<u8> {
    [&[0x2a, text.len() as u8][..], text.as_bytes()].concat()
}

#[test]
fn the_design_has_the_merge_table_of_the_documentation() {
    let design = include_str!("../../../../docs/design.md");
    let rows = smart_record_core::merge_table!().lines().filter(|line| line.starts_with('|'));
    let missing: Vec<_> = rows.filter(|row| !design.contains(row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
