//! Invalid documents, and valid ones that look invalid.

use libp2p_smart_record::{
    DocumentLimits, Fault, Kind, Limit, LimitExceeded, Limits, Malformed, Node, NodeError,
    SpaceRules, UpdateError, ValidationError,
};
use prost::Message;

use super::{
    node::{dict, document, float, int, just, list, text},
    *,
};

/// Signs the document and checks that it is refused. Returns the reason.
fn refused_document(document: Vec<u8>) -> UpdateError {
    malformed_update(alice().says(&Update::of(document)))
}

fn malformed_update(space: Space) -> UpdateError {
    let reason = refused(space, Fault::Malformed);
    let ValidationError::Malformed(Malformed::Update { writer, error }) = reason else {
        panic!("{reason}");
    };
    assert_eq!(*writer, alice().peer_id());
    error
}

fn not_canonical() -> UpdateError {
    UpdateError::Document(NodeError::NotCanonical)
}

/// Nested lists, `depth` nodes from the root of the document to the innermost.
fn nested(depth: usize) -> Vec<u8> {
    just((2..depth).fold(int(1), |inner, _| list(&[inner])))
}

#[test]
fn nan_is_refused() {
    let quiet = f64::NAN;
    let negative = -f64::NAN;
    let signalling = f64::from_bits(0x7ff0_0000_0000_0001);
    for nan in [quiet, negative, signalling] {
        assert!(nan.is_nan());
        for bad in [just(float(nan)), document(&[(float(nan), int(1))]), just(list(&[float(nan)]))]
        {
            let error = refused_document(bad);
            assert_eq!(error, UpdateError::Document(NodeError::NotANumber));
        }
    }
    for number in [f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::MIN_POSITIVE] {
        accepted(alice().says(&Update::of(just(float(number)))));
    }
    // There is one zero.
    assert_eq!(refused_document(just(float(-0.0))), not_canonical());
}

#[test]
fn duplicate_keys_are_refused() {
    let twice = [(text("k"), int(1)), (text("k"), int(2))];
    assert_eq!(refused_document(document(&twice)), not_canonical());
    assert_eq!(refused_document(just(dict(&twice))), not_canonical());
    let same = [(text("k"), int(1)), (text("k"), int(1))];
    assert_eq!(refused_document(document(&same)), not_canonical());
}

#[test]
fn duplicate_elements_are_refused() {
    let twice = [int(1), int(1)];
    assert_eq!(refused_document(just(list(&twice))), not_canonical());
    // Also nodes that differ only in their lifetimes.
    let mortal = [varint(1, NOW + 1), int(1)].concat();
    let twice = [int(1), mortal];
    assert_eq!(refused_document(just(list(&twice))), not_canonical());
}

#[test]
fn other_orders_are_refused() {
    let pairs = [(text("b"), int(1)), (text("a"), int(1))];
    assert_eq!(refused_document(document(&pairs)), not_canonical());
    assert_eq!(refused_document(just(list(&[int(2), int(1)]))), not_canonical());
    let sorted = [(text("a"), int(1)), (text("b"), list(&[int(1), int(2)]))];
    accepted(alice().says(&Update::of(document(&sorted))));
}

#[test]
fn other_forms_of_a_document_are_refused() {
    // Two kinds in one node, a padded number, an unknown field behind a known kind, a lifetime in a
    // key.
    for value in [
        [int(1), text("a")].concat(),
        [&int(1)[..1], &[0x82, 0x00]].concat(),
        [int(1), field(99, b"x")].concat(),
        [int(1), varint(1, NOW)].concat(),
    ] {
        assert_eq!(refused_document(just(value)), not_canonical());
    }
    let mortal_key = [varint(1, NOW + 1), text("k")].concat();
    let bad = document(&[(mortal_key, int(1))]);
    assert_eq!(refused_document(bad), not_canonical());
    let unknown = [just(int(1)), field(9, b"x")].concat();
    assert_eq!(refused_document(unknown), not_canonical());
    // Nodes without a kind; a pair without a value has one.
    for bad in [just(Vec::new()), just(varint(1, NOW)), field(1, &field(1, &text("k")))] {
        let error = refused_document(bad);
        assert_eq!(error, UpdateError::Document(NodeError::MissingKind));
    }
    let no_cid = refused_document(just(field(7, b"x")));
    assert_eq!(no_cid, UpdateError::Document(NodeError::InvalidLink));
    let no_text = refused_document(just(field(5, &[0xff])));
    assert!(matches!(no_text, UpdateError::Document(NodeError::Protobuf(_))));
}

#[test]
fn other_forms_of_an_update_are_refused() {
    let good = Update::saying(1).encode_to_vec();
    let (seq, rest) = good.split_at(varint(1, NOW * 1_000).len());
    let forms = [
        // Another order, a field twice, an unknown field, a default value spelled out, a padded
        // number.
        [rest, seq].concat(),
        [seq, &good].concat(),
        [&good[..], &varint(9, 1)].concat(),
        [&good[..], &varint(4, 0)].concat(),
        [&seq[..seq.len() - 1], &[seq[seq.len() - 1] | 0x80, 0x00], rest].concat(),
    ];
    for form in forms {
        let bad = alice().space([alice().sign_bytes(&key(), form)]);
        assert_eq!(malformed_update(bad), UpdateError::NotCanonical);
    }
    // `retain_until` is omitted if it equals `expires_at`.
    let spelled_out = Update { retain_until: Some(NOW + TTL), ..Update::saying(1) };
    let error = malformed_update(alice().says(&spelled_out));
    assert_eq!(error, UpdateError::NotCanonical);
}

#[test]
fn an_update_kept_for_less_than_it_lives_is_refused() {
    for at_least in [0, NOW, NOW + TTL - 1] {
        let bad = Update { retain_until: Some(at_least), ..Update::saying(1) };
        let (expires_at, retain_until) = (at(NOW + TTL), at(at_least));
        assert_eq!(
            malformed_update(alice().says(&bad)),
            UpdateError::RetainedTooBriefly { expires_at, retain_until }
        );
    }
}

#[test]
fn an_unknown_kind_of_update_is_unsupported() {
    for kind in [2, 3, i32::MAX, -1] {
        let bad = Update { kind, ..Update::saying(1) };
        let reason = refused(alice().says(&bad), Fault::Unsupported);
        assert!(matches!(reason, ValidationError::Unsupported(_)));
    }
}

#[test]
fn a_document_is_at_most_sixteen_nodes_deep() {
    accepted(alice().says(&Update::of(nested(16))));
    let reason = refused(alice().says(&Update::of(nested(17))), Fault::LimitExceeded);
    let expected = LimitExceeded { limit: Limit::DOCUMENT_DEPTH, got: None, max: 16 };
    assert_eq!(reason, expected.into());
}

#[test]
fn deep_nesting_in_keys_counts_too() {
    let deep = |depth| document(&[((2..depth).fold(int(1), |inner, _| list(&[inner])), int(1))]);
    accepted(alice().says(&Update::of(deep(16))));
    refused(alice().says(&Update::of(deep(17))), Fault::LimitExceeded);
}

#[test]
fn nesting_as_deep_as_the_bytes_allow_is_refused() {
    let deepest = (17..)
        .map(nested)
        .take_while(|document| Update::of(document.clone()).encoded_len() <= 2_048)
        .last()
        .unwrap();
    refused(alice().says(&Update::of(deepest)), Fault::LimitExceeded);
    // Where updates may be much larger, and with all kinds of containers.
    let limits = Limits::default().with_update_bytes(1 << 20);
    let rules = SpaceRules::new(limits, libp2p_smart_record::Open);
    let mixed = (0..5_000).fold(int(1), |inner, n| match n % 3 {
        0 => list(&[inner]),
        1 => dict(&[(text("k"), inner)]),
        _ => field(10, &field(2, &inner)),
    });
    refused_under(
        &key(),
        &rules,
        alice().says(&Update::of(just(mixed))),
        neighbour(),
        Fault::LimitExceeded,
        Seen::Always,
    );
}

#[test]
fn a_document_has_at_most_1024_nodes() {
    // The root, a key, the list, and what is in it. By default the bytes of an update bound it
    // before.
    let of = |nodes: i64| {
        let elements: Vec<_> = (0..nodes - 3).map(int).collect();
        alice().says(&Update::of(just(list(&elements))))
    };
    let limits = Limits::default().with_update_bytes(1 << 16).with_space_bytes(1 << 17);
    let rules = SpaceRules::new(limits.clone(), libp2p_smart_record::Open);
    accepted_under(&key(), &rules, of(1_024), neighbour().1);
    let reason =
        refused_under(&key(), &rules, of(1_025), neighbour(), Fault::LimitExceeded, Seen::Always);
    let mut expected = LimitExceeded { limit: Limit::DOCUMENT_NODES, got: None, max: 1_024 };
    assert_eq!(reason, expected.clone().into());

    // Also a lower limit with the default size.
    let limits = Limits::default().with_document(DocumentLimits { depth: 16, nodes: 10 });
    let rules = SpaceRules::new(limits, libp2p_smart_record::Open);
    accepted_under(&key(), &rules, of(10), neighbour().1);
    let reason =
        refused_under(&key(), &rules, of(11), neighbour(), Fault::LimitExceeded, Seen::Always);
    expected.max = 10;
    assert_eq!(reason, expected.into());
}

/// Nodes of unknown kinds.
fn unknown_nodes() -> Vec<Vec<u8>> {
    let mut fixed = Vec::new();
    prost::encoding::encode_key(100, prost::encoding::WireType::ThirtyTwoBit, &mut fixed);
    fixed.extend_from_slice(&[1, 2, 3, 4]);
    vec![
        field(12, b"a kind of the future"),
        varint(12, 1 << 40),
        fixed,
        // A kind with a number that takes the most bytes.
        field((1 << 29) - 1, b""),
    ]
}

#[test]
fn an_unknown_kind_has_one_form() {
    let group = |inside: &[u8]| [&[0xf3, 0x01][..], inside, &[0xf4, 0x01]].concat();
    for other in [
        // Two fields, of one number or of two; a number, a length and a tag that are not the
        // shortest; groups.
        [varint(13, 0), field(13, b"twice")].concat(),
        [varint(13, 0), varint(14, 0)].concat(),
        vec![0x70, 0x81, 0x00],
        vec![0xf2, 0x01, 0x80, 0x00],
        vec![0xf2, 0x81, 0x00, 0x00],
        group(&[]),
        group(&varint(13, 0)),
    ] {
        assert_eq!(refused_document(just(other.clone())), not_canonical(), "{other:x?}");
        let mortal = [varint(1, NOW + 10), other].concat();
        assert_eq!(refused_document(just(mortal)), not_canonical());
    }
}

#[test]
fn unknown_kinds_of_nodes_are_kept_byte_for_byte() {
    let alice = alice();
    for unknown in unknown_nodes() {
        let mortal = [varint(1, NOW + 10), unknown.clone()].concat();
        let documents = [
            just(unknown.clone()),
            just(mortal.clone()),
            just(list(&[int(1), unknown.clone()])),
            document(&[(unknown.clone(), int(1))]),
        ];
        for document in documents {
            // Accepted, joined and stored as received.
            let update = alice.sign(&Update::of(document.clone()));
            accepted(alice.space([update.clone()]));
            let read = signed(&alice, &update);
            assert_eq!(read.as_bytes(), update.update);
            assert_eq!(libp2p_smart_record::codec::encode(&read.document()), document);
        }
        // Shown as an opaque node.
        let mut replica = Replica::new();
        replica.hears([alice.says(&Update::of(just(mortal)))]);
        let view = replica.view();
        let node = view.get(&alice.peer_id()).and_then(|space| space.document.get("k")).unwrap();
        assert!(matches!(&node.kind, Kind::Opaque(opaque) if opaque.as_bytes() == unknown));
        assert_eq!(node.expires_at, Some(at(NOW + 10)));
        // Hidden after its expiry, like any node.
        replica.clock.set(at(NOW + 10));
        let view = replica.view();
        assert!(view.get(&alice.peer_id()).unwrap().document.is_empty());
    }
}

#[test]
fn an_unknown_kind_merges_as_one_piece() {
    let unknown = field(12, b"new");
    let alice = alice();
    for (older, newer) in [(int(1), unknown.clone()), (unknown.clone(), int(1))] {
        let updates = [
            alice.sign(&Update::of(just(older))),
            alice.sign(&Update::of(just(newer.clone())).after(1)),
        ];
        let record = read(&encode([alice.space(updates)]));
        let view = record.view(at(NOW));
        let document = &view.get(&alice.peer_id()).unwrap().document;
        let shown: Option<&Node> = document.get("k");
        assert_eq!(matches!(shown.unwrap().kind, Kind::Opaque(_)), newer == unknown);
    }
}
