//! The canonical encoding of documents.
//!
//! **Invariants.** `decode(encode(x)) = x`, and `encode(decode(b)) = b` for every `b` that decodes:
//! other forms are refused. Decoding checks [`DocumentLimits`] before it descends.
//!
//! **Spec.** `docs/wire.md`, section "Documents"; `proto/smart_record.proto`, messages `Node` and
//! below.

use bytes::Bytes;
use prost::{
    Message,
    encoding::{self, WireType},
};

use super::{Dict, DocumentLimits, Float, Kind, Node, NodeError, Opaque, Predicate};
use crate::{
    proto::smart_record::{self as proto, node::Kind as Wire},
    protobuf::ProtobufError,
    text::cid_from_bytes,
    time::Timestamp,
};

/// Encodes a document canonically.
pub fn encode(document: &Dict) -> Vec<u8> {
    dict_to_wire(document).encode_to_vec()
}

/// Decodes a document.
///
/// # Errors
/// [`NodeError`], also if the encoding is not canonical.
pub fn decode(bytes: &[u8], limits: DocumentLimits) -> Result<Dict, NodeError> {
    let bytes = Bytes::copy_from_slice(bytes);
    let wire = proto::Dict::decode(bytes.clone()).map_err(ProtobufError::new)?;
    let mut decoder = Decoder { limits, nodes_left: limits.nodes };
    decoder.count_node()?;
    let depth_left = limits.depth.checked_sub(1).ok_or(NodeError::TooDeep { max: limits.depth })?;
    let document = decoder.dict(wire.pairs, depth_left)?;
    // This comparison checks every rule of the canonical form.
    if encode(&document) == bytes { Ok(document) } else { Err(NodeError::NotCanonical) }
}

/// Whether these bytes are a node without a lifetime, of a kind that this version does not know:
/// one field in its shortest form, and no group. Protobuf implementations disagree about other
/// forms.
pub(super) fn is_unknown_kind(bytes: &[u8]) -> bool {
    matches!(proto::Node::decode(bytes), Ok(proto::Node { expires_at: None, kind: None }))
        && is_one_field(bytes).unwrap_or(false)
}

fn is_one_field(bytes: &[u8]) -> Result<bool, prost::DecodeError> {
    let mut rest = bytes;
    let (number, wire_type) = encoding::decode_key(&mut rest)?;
    let mut head = Vec::new();
    encoding::encode_key(number, wire_type, &mut head);
    let body = match wire_type {
        WireType::Varint => {
            encoding::encode_varint(encoding::decode_varint(&mut rest)?, &mut head);
            0
        }
        WireType::LengthDelimited => {
            let len = encoding::decode_varint(&mut rest)?;
            encoding::encode_varint(len, &mut head);
            usize::try_from(len).unwrap_or(usize::MAX)
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::StartGroup | WireType::EndGroup => return Ok(false),
    };
    Ok(bytes.strip_prefix(&head[..]).is_some_and(|rest| rest.len() == body))
}

fn node_to_wire(node: &Node) -> Bytes {
    kind_to_wire(&node.kind, node.expires_at)
}

fn lifetime(expires_at: Option<Timestamp>) -> proto::Node {
    proto::Node { expires_at: expires_at.map(Timestamp::as_millis), kind: None }
}

fn kind_to_wire(kind: &Kind, expires_at: Option<Timestamp>) -> Bytes {
    let mut wire = lifetime(expires_at);
    wire.kind = Some(match kind {
        Kind::Bool(v) => Wire::Bool(*v),
        Kind::Int(v) => Wire::Int(*v),
        Kind::Float(v) => Wire::Float(v.get()),
        Kind::String(v) => Wire::String(v.clone()),
        Kind::Bytes(v) => Wire::Bytes(Bytes::copy_from_slice(v)),
        Kind::Link(v) => Wire::Link(v.to_bytes().into()),
        Kind::Set(v) => Wire::Set(proto::Set { elements: v.iter().map(node_to_wire).collect() }),
        Kind::Dict(v) => Wire::Dict(dict_to_wire(v)),
        Kind::Predicate(v) => Wire::Predicate(proto::Predicate {
            tag: v.tag.clone(),
            positional: v.positional.iter().map(node_to_wire).collect(),
            named: dict_to_wire(&v.named).pairs,
        }),
        Kind::List(v) => Wire::List(proto::List { elements: v.iter().map(node_to_wire).collect() }),
        Kind::Opaque(Opaque(rest)) => {
            let mut bytes = wire.encode_to_vec();
            bytes.extend_from_slice(rest);
            return bytes.into();
        }
    });
    wire.encode_to_vec().into()
}

fn dict_to_wire(dict: &Dict) -> proto::Dict {
    let pairs = dict
        .iter()
        .map(|(key, value)| proto::Pair {
            key: kind_to_wire(key, None),
            value: node_to_wire(value),
        })
        .collect();
    proto::Dict { pairs }
}

struct Decoder {
    limits: DocumentLimits,
    nodes_left: usize,
}

impl Decoder {
    fn count_node(&mut self) -> Result<(), NodeError> {
        self.nodes_left = self
            .nodes_left
            .checked_sub(1)
            .ok_or(NodeError::TooManyNodes { max: self.limits.nodes })?;
        Ok(())
    }

    fn node(&mut self, bytes: Bytes, depth_left: usize) -> Result<Node, NodeError> {
        self.count_node()?;
        let depth_left =
            depth_left.checked_sub(1).ok_or(NodeError::TooDeep { max: self.limits.depth })?;
        let wire = proto::Node::decode(bytes.clone()).map_err(ProtobufError::new)?;
        let expires_at = wire.expires_at.map(Timestamp::from_millis);
        let kind = match wire.kind {
            Some(Wire::Bool(v)) => Kind::Bool(v),
            Some(Wire::Int(v)) => Kind::Int(v),
            Some(Wire::Float(v)) => Kind::Float(Float::new(v).ok_or(NodeError::NotANumber)?),
            Some(Wire::String(v)) => Kind::String(v),
            Some(Wire::Bytes(v)) => Kind::Bytes(v.into()),
            Some(Wire::Link(v)) => Kind::Link(cid_from_bytes(&v).ok_or(NodeError::InvalidLink)?),
            Some(Wire::Set(v)) => Kind::Set(self.elements(v.elements, depth_left)?),
            Some(Wire::Dict(v)) => Kind::Dict(self.dict(v.pairs, depth_left)?),
            Some(Wire::Predicate(v)) => Kind::Predicate(Predicate {
                tag: v.tag,
                positional: self.elements(v.positional, depth_left)?,
                named: self.dict(v.named, depth_left)?,
            }),
            Some(Wire::List(v)) => Kind::List(self.elements(v.elements, depth_left)?),
            None => {
                let known = lifetime(expires_at).encode_to_vec();
                match bytes.strip_prefix(&known[..]) {
                    None => return Err(NodeError::NotCanonical),
                    Some([]) => return Err(NodeError::MissingKind),
                    Some(rest) => Kind::Opaque(
                        // A second lifetime after it would be another encoding of the same node.
                        Opaque::new(rest.to_vec()).ok_or(NodeError::NotCanonical)?,
                    ),
                }
            }
        };
        Ok(Node { kind, expires_at })
    }

    fn elements<C: FromIterator<Node>>(
        &mut self,
        elements: Vec<Bytes>,
        depth_left: usize,
    ) -> Result<C, NodeError> {
        elements.into_iter().map(|element| self.node(element, depth_left)).collect()
    }

    fn dict(&mut self, pairs: Vec<proto::Pair>, depth_left: usize) -> Result<Dict, NodeError> {
        pairs
            .into_iter()
            .map(|pair| {
                let key = self.node(pair.key, depth_left)?;
                let value = self.node(pair.value, depth_left)?;
                Ok((key.kind, value))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{List, Set};

    fn decoded(pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Dict, NodeError> {
        let wire = proto::Dict {
            pairs: pairs
                .into_iter()
                .map(|(key, value)| proto::Pair { key: key.into(), value: value.into() })
                .collect(),
        };
        decode(&wire.encode_to_vec(), DocumentLimits::default())
    }

    fn wire(kind: impl Into<Kind>) -> Vec<u8> {
        kind_to_wire(&kind.into(), None).to_vec()
    }

    #[test]
    fn an_unknown_kind_is_kept_as_it_came() {
        // Field 30, length-delimited, "future", after an `expires_at` of 7.
        let unknown = [&[0x08, 7, 0xf2, 0x01, 6][..], b"future"].concat();
        let document = decoded(vec![(wire("k"), unknown.clone())]).unwrap();
        let node = document.get("k").unwrap();
        assert_eq!(node.expires_at, Some(Timestamp::from_millis(7)));
        assert!(matches!(&node.kind, Kind::Opaque(o) if o.as_bytes() == &unknown[2..]));
        assert_eq!(node_to_wire(node), unknown);

        let twice = [&[0x08, 5][..], &unknown].concat();
        let behind = [&unknown[2..], &[0x08, 5]].concat();
        // Two fields; numbers and lengths that are not shortest; a group.
        let two = [&unknown[2..], &unknown[2..]].concat();
        let others: [&[u8]; 5] = [
            &[0x70, 0x81, 0x00],
            &[0xf2, 0x01, 0x80, 0x00],
            &[0xf2, 0x81, 0x00, 0x00],
            &[0xf3, 0x01, 0xf4, 0x01],
            &[0x68, 0x00, 0x70, 0x00],
        ];
        let others = others.map(<[u8]>::to_vec);
        for smuggled in [twice, behind, two].into_iter().chain(others) {
            assert_eq!(decoded(vec![(wire("k"), smuggled)]), Err(NodeError::NotCanonical));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let (a, b) = (wire("a"), wire("b"));
        let not_canonical = Err(NodeError::NotCanonical);
        // Wrong order, duplicates.
        assert_eq!(decoded(vec![(b.clone(), a.clone()), (a.clone(), a.clone())]), not_canonical);
        assert_eq!(decoded(vec![(a.clone(), a.clone()), (a.clone(), b.clone())]), not_canonical);
        let set = |elements: Vec<Vec<u8>>| {
            let elements = elements.into_iter().map(Bytes::from).collect();
            let kind = Some(Wire::Set(proto::Set { elements }));
            proto::Node { expires_at: None, kind }.encode_to_vec()
        };
        assert_eq!(decoded(vec![(a.clone(), set(vec![a.clone(), a.clone()]))]), not_canonical);
        assert_eq!(decoded(vec![(a.clone(), set(vec![b, a.clone()]))]), not_canonical);
        // A lifetime in a key, a padded varint, an unknown field after a known kind.
        let mortal = kind_to_wire(&"a".into(), Some(Timestamp::from_millis(1))).to_vec();
        assert_eq!(decoded(vec![(mortal, a.clone())]), not_canonical);
        assert_eq!(decoded(vec![(a.clone(), vec![0x10, 0x81, 0x00])]), not_canonical);
        let padded = [&wire(true)[..], &[0xf0, 0x01, 0x01]].concat();
        assert_eq!(decoded(vec![(a.clone(), padded)]), not_canonical);
        // No kind, an invalid Link, NaN.
        assert_eq!(decoded(vec![(a.clone(), vec![])]), Err(NodeError::MissingKind));
        assert_eq!(decoded(vec![(a.clone(), vec![0x08, 1])]), Err(NodeError::MissingKind));
        assert_eq!(decoded(vec![(a.clone(), vec![0x3a, 1, 9])]), Err(NodeError::InvalidLink));
        let nan = proto::Node { expires_at: None, kind: Some(Wire::Float(f64::NAN)) };
        assert_eq!(decoded(vec![(a, nan.encode_to_vec())]), Err(NodeError::NotANumber));
    }

    #[test]
    fn a_set_keeps_its_bytes_and_a_list_has_a_field_of_its_own() {
        // The encoding from before Lists existed: field 8, ascending.
        let signed = [0x42, 8, 0x0a, 2, 0x18, 2, 0x0a, 2, 0x18, 6];
        assert_eq!(wire(Set::from([3, 1])), signed);
        assert_eq!(wire(List::from([3, 1])), [0x5a, 8, 0x0a, 2, 0x18, 6, 0x0a, 2, 0x18, 2]);
        let document = decoded(vec![(wire("k"), signed.to_vec())]).unwrap();
        assert_eq!(document, Dict::from([("k", Set::from([1, 3]))]));
        // A List keeps order and duplicates.
        let list = Dict::from([("k", List::from([3, 1, 1]))]);
        assert_eq!(decode(&encode(&list), DocumentLimits::default()), Ok(list));
    }

    #[test]
    fn depth_and_nodes_are_bounded_on_both_sides() {
        let nested = |depth: usize| {
            (2..depth).fold(Node::from(1), |node, n| match n % 2 {
                0 => List::from([node]).into(),
                _ => Set::from([node]).into(),
            })
        };
        let limits = DocumentLimits::default();
        for (depth, fits) in [(16, true), (17, false)] {
            let document: Dict = [("k", nested(depth))].into_iter().collect();
            let result = decode(&encode(&document), limits);
            assert_eq!(result.is_ok(), fits, "depth {depth}: {result:?}");
        }
        // The root, one pair of two nodes, and the elements.
        for (elements, fits) in [(1_021, true), (1_022, false)] {
            let set: Set = (0..elements).collect();
            let list: List = (0..elements).map(|_| 0).collect();
            for elements in [Kind::from(set), list.into()] {
                let document = Dict::from([("k", elements)]);
                let result = decode(&encode(&document), limits);
                assert_eq!(result.is_ok(), fits, "{}", document);
            }
        }
    }
}
