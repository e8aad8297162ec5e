//! The order of nodes by examples. Replicas sort by it what they sign, so it must never change.

use super::*;

/// Contents in ascending order: of each kind several, and of containers those that differ late.
fn ascending() -> Vec<Kind> {
    let float = |value| Kind::from(Float::new(value).unwrap());
    let link = |byte| {
        Kind::from(Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[byte; 32]).unwrap()))
    };
    let predicate = |tag: &str, positional: &[i64], named: &[(&str, i64)]| {
        Kind::from(Predicate {
            tag: tag.to_owned(),
            positional: positional.iter().copied().collect(),
            named: named.iter().copied().collect(),
        })
    };
    vec![
        false.into(),
        true.into(),
        i64::MIN.into(),
        (-1).into(),
        0.into(),
        i64::MAX.into(),
        Float::NEG_INFINITY.into(),
        float(-1.5),
        float(0.0),
        float(f64::MIN_POSITIVE),
        float(2.0),
        Float::INFINITY.into(),
        "".into(),
        "B".into(),
        "a".into(),
        "a\0".into(),
        "ä".into(),
        Vec::<u8>::new().into(),
        vec![0_u8, 9].into(),
        vec![1_u8].into(),
        vec![0xff_u8].into(),
        link(1),
        link(2),
        Set::new().into(),
        Set::from([1]).into(),
        Set::from([1, 2]).into(),
        Set::from([2]).into(),
        Dict::new().into(),
        Dict::from([("a", 1)]).into(),
        Dict::from([("a", 1), ("b", 1)]).into(),
        Dict::from([("a", 2)]).into(),
        Dict::from([("b", 1)]).into(),
        predicate("s", &[2], &[]),
        predicate("t", &[], &[("a", 9)]),
        predicate("t", &[1], &[]),
        predicate("t", &[1], &[("a", 1)]),
        predicate("t", &[1], &[("a", 2)]),
        predicate("t", &[2], &[]),
        List::new().into(),
        List::from([1]).into(),
        List::from([1, 0]).into(),
        List::from([2]).into(),
        opaque(&[]),
        opaque(&[0]),
        opaque(&[1]),
    ]
}

#[test]
fn the_order_of_contents_is_the_one_that_was_signed() {
    let contents = ascending();
    for (i, a) in contents.iter().enumerate() {
        for (j, b) in contents.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} and {b:?}");
            assert_eq!(a.partial_cmp(b), Some(i.cmp(&j)));
            assert_eq!(a == b, i == j);
            let (a, b) = (Node::new(a.clone()), Node::new(b.clone()));
            assert_eq!((a.cmp(&b), a.partial_cmp(&b)), (i.cmp(&j), Some(i.cmp(&j))));
            assert_eq!(a.cmp_content(&b), i.cmp(&j));
            assert_eq!(Set::from([b.clone()]).contains(&a), i == j);
            // Containers in that order are ordered by it.
            let lists = (List::from([a.clone()]), List::from([b.clone()]));
            assert_eq!(lists.0.cmp(&lists.1), i.cmp(&j));
            let sets = (Set::from([a.clone()]), Set::from([b.clone()]));
            assert_eq!(sets.0.cmp(&sets.1), i.cmp(&j));
        }
    }
    let set: Set = contents.iter().rev().cloned().collect();
    assert!(set.iter().map(|node| &node.kind).eq(&contents));
    let dict: Dict = contents.iter().rev().map(|key| (key.clone(), 1)).collect();
    assert!(dict.iter().map(|(key, _)| key).eq(&contents));
}

#[test]
fn nodes_of_one_content_are_ordered_by_lifetimes_from_the_root_down() {
    let node = |outer: Option<u64>, inner: Option<u64>, kind: &dyn Fn(Node) -> Kind| Node {
        kind: kind(Node { kind: 1.into(), expires_at: inner.map(Timestamp::from_millis) }),
        expires_at: outer.map(Timestamp::from_millis),
    };
    let lifetimes = [
        (None, None),
        (None, Some(0)),
        (None, Some(9)),
        (Some(0), None),
        (Some(5), Some(1)),
        (Some(5), Some(2)),
        (Some(6), None),
    ];
    let containers: [&dyn Fn(Node) -> Kind; 5] = [
        &|node| List::from([node]).into(),
        &|node| Set::from([node]).into(),
        &|node| Dict::from([("k", node)]).into(),
        &|node| Predicate::new("t").with(node).into(),
        &|node| Predicate::new("t").with_named("k", node).into(),
    ];
    for kind in containers {
        for (i, a) in lifetimes.iter().enumerate() {
            for (j, b) in lifetimes.iter().enumerate() {
                let (a, b) = (node(a.0, a.1, kind), node(b.0, b.1, kind));
                assert_eq!(a.cmp(&b), i.cmp(&j), "{a:?} and {b:?}");
                assert_eq!(a.cmp_content(&b), Ordering::Equal);
            }
        }
    }
}

#[test]
fn floats_are_ordered_compared_and_hashed_by_their_value() {
    let floats = [-2.5, 0.0, 1.0].map(|value| Float::new(value).unwrap());
    let [low, zero, one] = floats;
    assert!(Float::NEG_INFINITY < low && low < zero && zero < one && one < Float::INFINITY);
    assert_eq!(Float::new(-0.0), Some(zero));
    assert_eq!(zero.get().to_bits(), 0);
    assert_eq!(Float::new(f64::NAN), None);
    assert_eq!(Float::default(), zero);
    assert!(hash_of(&zero) != hash_of(&one));
    assert_eq!(hash_of(&zero), hash_of(&Float::new(-0.0).unwrap()));
    assert_eq!(format!("{one:?} {low:?}"), "1.0 -2.5");
}
