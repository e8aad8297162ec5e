//! Good and refused documents, and the order of nodes.

use serde_json::{Value, json};
use smart_record_core::{
    Dict, DocumentLimits, Float, Kind, List, Node, Predicate, Set, Timestamp, codec,
};
use smart_record_testing::envelope::{field, varint};

use super::{case, refused};
use crate::forms::{hex, pairs};

/// A node of an unknown kind: field 30 with these bytes.
pub fn opaque(content: &[u8]) -> Vec<u8> {
    field(30, content)
}

/// A document of one pair whose value has these bytes.
pub fn just(value: &[u8]) -> Vec<u8> {
    document(&[(&text("k"), value)])
}

pub fn document(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    pairs.iter().flat_map(|(key, value)| field(1, &pair(key, value))).collect()
}

fn pair(key: &[u8], value: &[u8]) -> Vec<u8> {
    [field(1, key), field(2, value)].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    field(5, text.as_bytes())
}

pub fn int(value: i64) -> Vec<u8> {
    varint(3, ((value << 1) ^ (value >> 63)) as u64)
}

fn float(bits: u64) -> Vec<u8> {
    [&[0x21][..], &bits.to_le_bytes()].concat()
}

/// A Set (field 8) or a List (field 11) of these nodes.
fn container(number: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    let elements: Vec<u8> = elements.iter().flat_map(|element| field(1, element)).collect();
    field(number, &elements)
}

fn set(elements: &[Vec<u8>]) -> Vec<u8> {
    container(8, elements)
}

fn list(elements: &[Vec<u8>]) -> Vec<u8> {
    container(11, elements)
}

fn until(at: u64, node: &[u8]) -> Vec<u8> {
    [&varint(1, at)[..], node].concat()
}

fn good(name: &str, about: &str, section: &str, bytes: &[u8]) -> Value {
    let limits = DocumentLimits { depth: usize::MAX, nodes: usize::MAX };
    let dict = codec::decode(bytes, limits).unwrap_or_else(|error| panic!("{name}: {error}"));
    let fields = [("bytes", json!(hex(bytes))), ("document", pairs(&dict))];
    case(name, section, about, fields)
}

fn bad(name: &str, about: &str, section: &str, bytes: &[u8], fault: &str, reason: &str) -> Value {
    let fields = [("bytes", json!(hex(bytes))), ("refused", refused(fault, reason))];
    case(name, section, about, fields)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Every kind of node, at every place.
fn everything() -> Dict {
    let cid0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    let cid1 = "bafkqaddimvwgy3zao5xxe3debi";
    let set: Set =
        [Node::from(2), Node::from(1).expires_at(at(9)), "x".into()].into_iter().collect();
    let list: List = [Node::from(2), 1.into(), 1.into(), "x".into()].into_iter().collect();
    let inner: Dict = [("b", Node::from(true).expires_at(at(0))), ("a", Node::new(set.clone()))]
        .into_iter()
        .collect();
    let predicate = Predicate::new("dialable")
        .with(3)
        .with(1)
        .with_named("address", "/ip4/1.2.3.4/tcp/4001")
        .with_named(7, Node::new(list.clone()).expires_at(at(u64::MAX)));
    let mut dict = Dict::new();
    dict.insert("bool", true);
    dict.insert("false", false);
    dict.insert("int", -5);
    dict.insert("least", i64::MIN);
    dict.insert("greatest", i64::MAX);
    dict.insert("float", Float::new(0.1).unwrap());
    dict.insert("zero", Float::new(0.0).unwrap());
    dict.insert("infinity", Float::NEG_INFINITY);
    dict.insert("subnormal", Float::new(5e-324).unwrap());
    dict.insert("string", "ä\u{1f600}\"\n\0");
    dict.insert("bytes", vec![0_u8, 255]);
    dict.insert("link0", cid0.parse::<smart_record_core::Cid>().unwrap());
    dict.insert("link1", cid1.parse::<smart_record_core::Cid>().unwrap());
    dict.insert("set", set.clone());
    dict.insert("list", list.clone());
    dict.insert("dict", inner.clone());
    dict.insert("predicate", predicate.clone());
    dict.insert("empty string", "");
    dict.insert("empty bytes", Vec::<u8>::new());
    dict.insert("empty set", Set::new());
    dict.insert("empty list", List::new());
    dict.insert("empty dict", Dict::new());
    dict.insert("empty predicate", Predicate::new(""));
    for key in [
        Kind::from(true),
        Kind::from(-1),
        Kind::from(Float::INFINITY),
        Kind::from(vec![1_u8]),
        Kind::from(cid1.parse::<smart_record_core::Cid>().unwrap()),
        Kind::from(set),
        Kind::from(inner),
        Kind::from(predicate),
        Kind::from(list),
    ] {
        dict.insert(key, "a key of any kind");
    }
    dict
}

pub fn documents() -> Vec<Value> {
    let mut cases = vec![
        good("empty", "No bytes are the empty Dict.", "7.1", &[]),
        good(
            "everything",
            "Every kind, as a value and as a key.",
            "7.1",
            &codec::encode(&everything()),
        ),
        good(
            "opaque",
            "A kind that is not known, with a lifetime.",
            "7.4",
            &just(&until(7, &opaque(b"new"))),
        ),
        good(
            "text-as-written",
            "Keys that are the same to who normalises text: e with an accent in two code points and \
             in one.",
            "1",
            &document(&[(&text("e\u{301}"), &int(1)), (&text("\u{e9}"), &int(2))]),
        ),
        good("opaque-key", "The same as a key.", "7.4", &document(&[(&opaque(b"new"), &int(1))])),
        good("opaque-varint", "The wire type 0.", "7.4", &just(&varint(12, 1 << 40))),
        good("opaque-fixed32", "The wire type 5.", "7.4", &just(&[0xa5, 0x06, 1, 2, 3, 4])),
        good(
            "opaque-fixed64",
            "The wire type 1.",
            "7.4",
            &just(&[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]),
        ),
        good(
            "opaque-empty",
            "The highest field number there is, without bytes.",
            "7.4",
            &just(&field((1 << 29) - 1, b"")),
        ),
        good(
            "list-in-any-order",
            "A List keeps order and duplicates.",
            "7.1",
            &just(&list(&[int(2), int(1), int(2)])),
        ),
    ];
    cases.extend(refused_forms());
    cases.extend(refused_nodes());
    cases.extend(refused_opaque());
    cases.extend(bounds());
    cases
}

fn refused_forms() -> Vec<Value> {
    let no = |name: &str, about: &str, bytes: &[u8]| {
        bad(name, about, "7.1", bytes, "malformed", "not-canonical")
    };
    let protobuf = |name: &str, about: &str, bytes: &[u8]| {
        bad(name, about, "7.1", bytes, "malformed", "protobuf")
    };
    let (a, b) = (text("a"), text("b"));
    let mortal = until(1, &a);
    let in_predicate = |positional: &[Vec<u8>], named: &[(&[u8], &[u8])]| {
        let positional: Vec<u8> = positional.iter().flat_map(|n| field(2, n)).collect();
        let named: Vec<u8> = named.iter().flat_map(|(k, v)| field(3, &pair(k, v))).collect();
        field(10, &[field(1, b"t"), positional, named].concat())
    };
    let predicate =
        |positional: &[Vec<u8>], named: &[(&[u8], &[u8])]| just(&in_predicate(positional, named));
    vec![
        no("pairs-unsorted", "The key b before the key a.", &document(&[(&b, &a), (&a, &a)])),
        no("pairs-twice", "A key twice with different values.", &document(&[(&a, &a), (&a, &b)])),
        no("pairs-same", "The same pair twice.", &document(&[(&a, &a), (&a, &a)])),
        no("set-unsorted", "2 before 1.", &just(&set(&[int(2), int(1)]))),
        no("set-twice", "1 twice.", &just(&set(&[int(1), int(1)]))),
        no(
            "set-twice-by-content",
            "1, and 1 with a lifetime, have the same content.",
            &just(&set(&[int(1), until(5, &int(1))])),
        ),
        no(
            "set-twice-by-inner-content",
            "Two sets that differ in a lifetime within them.",
            &just(&set(&[set(&[int(1)]), set(&[until(5, &int(1))])])),
        ),
        no(
            "set-sorted-by-bytes",
            "-1 after 0, as their bytes are.",
            &just(&set(&[int(0), int(-1)])),
        ),
        no("positional-unsorted", "2 before 1.", &predicate(&[int(2), int(1)], &[])),
        no("positional-twice", "1 twice.", &predicate(&[int(1), int(1)], &[])),
        no("named-unsorted", "b before a.", &predicate(&[], &[(&b, &a), (&a, &a)])),
        no("named-twice", "a twice.", &predicate(&[], &[(&a, &a), (&a, &b)])),
        no("key-with-lifetime", "A lifetime in a key.", &document(&[(&mortal, &a)])),
        no(
            "key-with-inner-lifetime",
            "A lifetime in a node of a key.",
            &document(&[(&set(std::slice::from_ref(&mortal)), &a)]),
        ),
        no(
            "named-key-with-lifetime",
            "A lifetime in a key of a Predicate.",
            &predicate(&[], &[(&mortal, &a)]),
        ),
        no(
            "key-with-lifetime-opaque",
            "A lifetime of an opaque node that is a key.",
            &document(&[(&until(1, &opaque(b"new")), &a)]),
        ),
        no(
            "key-with-lifetime-positional",
            "A lifetime in the positional part of a key.",
            &document(&[(&in_predicate(std::slice::from_ref(&mortal), &[]), &a)]),
        ),
        no(
            "key-with-lifetime-value",
            "A lifetime of a value in a key.",
            &document(&[(&field(9, &document(&[(&b, &mortal)])), &a)]),
        ),
        no(
            "key-with-lifetime-named",
            "A lifetime of a named value in a key.",
            &document(&[(&in_predicate(&[], &[(&b, &mortal)]), &a)]),
        ),
        no("two-kinds", "A Bool and an Int in one node.", &just(&[varint(2, 1), int(1)].concat())),
        no("lifetime-twice", "Two lifetimes.", &just(&until(1, &until(2, &a)))),
        no(
            "lifetime-behind",
            "The lifetime after the kind.",
            &just(&[&a[..], &varint(1, 5)].concat()),
        ),
        no("padded-number", "A Bool in two bytes.", &just(&[0x10, 0x81, 0x00])),
        no("bool-two", "A Bool that is 2.", &just(&varint(2, 2))),
        no(
            "unknown-field",
            "An unknown field behind a known kind.",
            &just(&[&a[..], &field(30, b"")].concat()),
        ),
        no(
            "unknown-field-of-root",
            "An unknown field behind the pairs.",
            &[just(&a), field(9, b"")].concat(),
        ),
        no(
            "unknown-field-of-pair",
            "An unknown field in a pair.",
            &field(1, &[pair(&a, &a), field(3, b"")].concat()),
        ),
        no(
            "value-before-key",
            "Fields of a pair in another order.",
            &field(1, &[field(2, &a), field(1, &b)].concat()),
        ),
        no("empty-tag-written", "An empty tag that is written.", &just(&field(10, &field(1, b"")))),
        protobuf("truncated", "The last byte is missing.", &just(&a)[..just(&a).len() - 1]),
        protobuf("wrong-wire-type", "A String as a number.", &just(&varint(5, 1))),
        protobuf("not-utf-8", "A String that is none.", &just(&field(5, &[0xff]))),
        protobuf(
            "surrogate",
            "A String with a lone surrogate.",
            &just(&field(5, &[0xed, 0xa0, 0x80])),
        ),
        protobuf(
            "overlong",
            "A String with a slash in two bytes.",
            &just(&field(5, &[0xc0, 0xaf])),
        ),
        protobuf("field-zero", "A field with the number 0.", &just(&[0x02, 0x00])),
    ]
}

fn refused_nodes() -> Vec<Value> {
    let no = |name: &str, about: &str, bytes: &[u8], reason: &str| {
        bad(name, about, "7.1", bytes, "malformed", reason)
    };
    let link = |bytes: &[u8]| just(&field(7, bytes));
    let sha256 = [&[0x01, 0x55, 0x12, 0x20][..], &[7; 32]].concat();
    vec![
        no("no-kind", "A node without bytes.", &just(&[]), "missing-kind"),
        no(
            "no-kind-but-a-lifetime",
            "A lifetime of nothing.",
            &just(&varint(1, 5)),
            "missing-kind",
        ),
        no("no-value", "A pair without a value.", &field(1, &field(1, &text("k"))), "missing-kind"),
        no("no-key", "A pair without a key.", &field(1, &field(2, &text("k"))), "missing-kind"),
        no("nan", "NaN.", &just(&float(0x7ff8_0000_0000_0000)), "not-a-number"),
        no(
            "nan-negative",
            "NaN with a sign.",
            &just(&float(0xfff8_0000_0000_0001)),
            "not-a-number",
        ),
        no(
            "nan-signalling",
            "NaN that signals.",
            &just(&float(0x7ff0_0000_0000_0001)),
            "not-a-number",
        ),
        no("negative-zero", "There is one zero.", &just(&float(1 << 63)), "not-canonical"),
        no("link-empty", "No CID.", &link(&[]), "link"),
        no(
            "link-version-0-explicit",
            "Version 0 in the form of version 1.",
            &link(&[0x00, 0x55, 0x00, 0x00]),
            "link",
        ),
        no(
            "link-version-2",
            "A version that there is not.",
            &link(&[0x02, 0x55, 0x00, 0x00]),
            "link",
        ),
        no("link-short", "Less of the digest than its length says.", &link(&sha256[..35]), "link"),
        no("link-trailing", "A byte after the CID.", &link(&[&sha256[..], &[0]].concat()), "link"),
        no(
            "link-padded",
            "The codec in two bytes.",
            &link(&[0x01, 0xd5, 0x00, 0x00, 0x00]),
            "link",
        ),
        no(
            "link-65-bytes",
            "A digest of 65 bytes.",
            &link(&[&[0x01, 0x55, 0x00, 65][..], &[7; 65]].concat()),
            "link",
        ),
        good(
            "link-codec-63-bits",
            "The greatest codec of nine bytes.",
            "7.1",
            &link(&[&[0x01][..], &[0xff; 8], &[0x7f, 0, 0]].concat()),
        ),
        good(
            "link-codec-64-bits",
            "The greatest codec.",
            "7.1",
            &link(&[&[0x01][..], &[0xff; 9], &[0x01, 0, 0]].concat()),
        ),
        no(
            "link-codec-65-bits",
            "A codec of more than 64 bits.",
            &link(&[&[0x01][..], &[0xff; 9], &[0x02, 0, 0]].concat()),
            "link",
        ),
        good(
            "link-64-bytes",
            "A digest of 64 bytes.",
            "7.1",
            &link(&[&[0x01, 0x55, 0x00, 64][..], &[7; 64]].concat()),
        ),
    ]
}

fn refused_opaque() -> Vec<Value> {
    let no = |name: &str, about: &str, node: &[u8], reason: &str| {
        bad(name, about, "7.4", &just(node), "malformed", reason)
    };
    let two = [opaque(b"a"), opaque(b"a")].concat();
    vec![
        no("opaque-twice", "Two fields of one number.", &two, "not-canonical"),
        no(
            "opaque-two",
            "Two fields of two numbers.",
            &[varint(13, 0), opaque(b"")].concat(),
            "not-canonical",
        ),
        no(
            "opaque-padded",
            "A number that is not the shortest.",
            &[0x70, 0x81, 0x00],
            "not-canonical",
        ),
        no(
            "opaque-padded-length",
            "A length that is not the shortest.",
            &[0xf2, 0x01, 0x81, 0x00, 0x07],
            "not-canonical",
        ),
        no(
            "opaque-padded-tag",
            "A tag that is not the shortest.",
            &[0xf2, 0x81, 0x00, 0x00],
            "not-canonical",
        ),
        no("opaque-group", "A group.", &[0xf3, 0x01, 0xf4, 0x01], "not-canonical"),
        no(
            "opaque-lifetime-behind",
            "A lifetime after the field.",
            &[&opaque(b"a")[..], &varint(1, 5)].concat(),
            "not-canonical",
        ),
    ]
}

fn bounds() -> Vec<Value> {
    let nested = |depth: usize| just(&(2..depth).fold(int(1), |inner, _| set(&[inner])));
    let nested_key =
        |depth: usize| document(&[(&(2..depth).fold(int(1), |inner, _| list(&[inner])), &int(1))]);
    let predicates = |depth: usize| {
        just(
            &(2..depth)
                .fold(int(1), |inner, _| field(10, &[field(1, b"t"), field(2, &inner)].concat())),
        )
    };
    let named = |depth: usize| {
        let within = |inner: Vec<u8>, _| {
            field(10, &[field(1, b"t"), field(3, &pair(&text("n"), &inner))].concat())
        };
        just(&(2..depth).fold(int(1), within))
    };
    // The root, a key, the List, and its elements.
    let wide = |nodes: usize| just(&list(&vec![varint(2, 1); nodes - 3]));
    let deep = "limit";
    vec![
        good(
            "depth-16",
            "Sets within sets, 16 nodes from the root to the leaf.",
            "7.1",
            &nested(16),
        ),
        bad("depth-17", "One more.", "7.1", &nested(17), deep, "document-depth"),
        good("depth-16-in-a-key", "Lists within lists in a key.", "7.1", &nested_key(16)),
        bad("depth-17-in-a-key", "One more.", "7.1", &nested_key(17), deep, "document-depth"),
        good("depth-16-of-predicates", "A Predicate is one node.", "7.1", &predicates(16)),
        bad("depth-17-of-predicates", "One more.", "7.1", &predicates(17), deep, "document-depth"),
        good("depth-16-of-named", "Named arguments are children too.", "7.1", &named(16)),
        bad("depth-17-of-named", "One more.", "7.1", &named(17), deep, "document-depth"),
        good("nodes-1024", "1,024 nodes; too many bytes for an update.", "7.1", &wide(1_024)),
        bad("nodes-1025", "One more.", "7.1", &wide(1_025), deep, "document-nodes"),
    ]
}

/// Nodes in ascending order of content; where that is not the order of their bytes, the case says
/// why.
pub fn order() -> Vec<Value> {
    let ascending = |name: &str, about: &str, nodes: Vec<Vec<u8>>| {
        let nodes: Vec<_> = nodes.iter().map(hex).collect();
        case(name, "7.2", about, [("ascending", json!(nodes))])
    };
    let floats =
        [f64::NEG_INFINITY, -2.0, -1.0, -5e-324, 0.0, 5e-324, 0.5, 1.0, 1.5, f64::INFINITY];
    let floats = floats.map(|value| float(value.to_bits())).to_vec();
    let predicate = |tag: &str, positional: &[i64], named: &[(&str, i64)]| {
        let positional: Vec<u8> = positional.iter().flat_map(|n| field(2, &int(*n))).collect();
        let named: Vec<u8> =
            named.iter().flat_map(|(k, v)| field(3, &pair(&text(k), &int(*v)))).collect();
        let tag = if tag.is_empty() { Vec::new() } else { field(1, tag.as_bytes()) };
        field(10, &[tag, positional, named].concat())
    };
    let dict = |pairs: &[(&str, i64)]| {
        let pairs: Vec<u8> =
            pairs.iter().flat_map(|(k, v)| field(1, &pair(&text(k), &int(*v)))).collect();
        field(9, &pairs)
    };
    let ints = |values: &[i64]| values.iter().map(|n| int(*n)).collect::<Vec<_>>();
    let link = |bytes: &[u8]| field(7, bytes);
    let v0 = [&[0x12, 0x20][..], &[0; 32]].concat();
    vec![
        ascending(
            "kinds",
            "By kind first, in the order of the field numbers.",
            vec![
                varint(2, 1),
                int(-9),
                float(0),
                text(""),
                field(6, b""),
                link(&[0x01, 0x55, 0x00, 0x00]),
                set(&[]),
                dict(&[]),
                predicate("", &[], &[]),
                list(&[]),
                varint(12, 0),
                opaque(b""),
            ],
        ),
        ascending("bools", "false, true.", vec![varint(2, 0), varint(2, 1)]),
        ascending(
            "ints",
            "As numbers. Their bytes are zigzag varints, the least significant bits first.",
            ints(&[i64::MIN, -128, -65, -64, -1, 0, 1, 63, 64, 127, 128, 8_192, i64::MAX]),
        ),
        ascending("floats", "As numbers. Their bytes are little-endian.", floats),
        ascending(
            "strings",
            "By the bytes of the text. The length stands before it.",
            ["", "\0", "a", "aa", "ab", "b", "z", "ä", "\u{ffff}", "\u{1f600}"].map(text).to_vec(),
        ),
        ascending(
            "bytes",
            "The same.",
            [&[][..], &[0], &[0, 0], &[1], &[1; 20], &[2], &[0xff]].map(|b| field(6, b)).to_vec(),
        ),
        ascending(
            "links",
            "By the bytes of the CID; the length stands before them.",
            vec![
                link(&[&[0x01, 0x55, 0x00, 0x02][..], &[9; 2]].concat()),
                link(&[&[0x01, 0x55, 0x12, 0x20][..], &[0; 32]].concat()),
                link(&[0x01, 0x71, 0x00, 0x00]),
                link(&v0),
            ],
        ),
        ascending(
            "sets",
            "Element by element, a prefix first. The length stands before the elements.",
            vec![
                set(&[]),
                set(&ints(&[-1])),
                set(&ints(&[1])),
                set(&ints(&[1, 2])),
                set(&ints(&[1, 3])),
                set(&ints(&[2])),
                set(&[text("a")]),
                set(&[set(&[])]),
            ],
        ),
        ascending(
            "lists",
            "The same, in the order in which elements stand.",
            vec![
                list(&[]),
                list(&ints(&[1])),
                list(&ints(&[1, 1])),
                list(&ints(&[1, 3])),
                list(&ints(&[2])),
                list(&ints(&[2, 1])),
            ],
        ),
        ascending(
            "dicts",
            "Pair by pair: the key, then the value, then the next pair.",
            vec![
                dict(&[]),
                dict(&[("a", -1)]),
                dict(&[("a", 1)]),
                dict(&[("a", 1), ("b", 0)]),
                dict(&[("a", 2)]),
                dict(&[("aa", 0)]),
                dict(&[("b", 0)]),
            ],
        ),
        ascending(
            "predicates",
            "The tag, the positional part, the named part.",
            vec![
                predicate("", &[], &[("z", 1)]),
                predicate("a", &[], &[]),
                predicate("a", &[], &[("a", 1)]),
                predicate("a", &[1], &[]),
                predicate("a", &[1], &[("a", 1)]),
                predicate("a", &[1, 2], &[]),
                predicate("a", &[2], &[]),
                predicate("aa", &[], &[]),
                predicate("b", &[], &[]),
            ],
        ),
        ascending(
            "opaque",
            "By their bytes, the tag included, and not by the number of the field.",
            vec![
                varint(12, 1),
                varint(12, 2),
                varint(13, 0),
                // The number 32, which is less than 16, 30 and 31 as bytes.
                varint(32, 0),
                field(16, b"b"),
                field(16, b"aa"),
                opaque(b""),
                field(31, b""),
            ],
        ),
    ]
}
