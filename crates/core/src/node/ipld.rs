//! Typed form of nodes in the IPLD data model, with DAG-JSON and DAG-CBOR.
//!
//! Each node is a map from the name of its kind to its content, and has its lifetime as another
//! field if it has one:
//!
//! ```json
//! {"Dict": {"Pairs": [{"Key": {"String": "k"}, "Value": {"Int": 5, "ExpiresAt": 1700000000000}}]}}
//! ```
//!
//! Lists are `{"Sequence": {"Elements": […]}}`, Sets `{"Set": {"Elements": […]}}`, Predicates
//! `{"Predicate": {"Tag": "t", "Positional": […], "Named": [{"Key": …, "Value": …}]}}`. `List` is
//! the name of a set in the Go form. It is read as a Set and never written.
//!
//! **Invariants.** Reading a written node gives the same node, lifetimes included. Ambiguous input
//! is refused: a duplicate key, or a key with a lifetime. Depth is bounded to 64 levels of nodes.
//!
//! **Spec.** The names are those of [go-routing-language's
//! syntax](https://github.com/libp2p/go-routing-language), on which the Go smart records are based,
//! and `Sequence` and `Set`. The codecs are [DAG-JSON](https://ipld.io/specs/codecs/dag-json/spec/)
//! and [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/).

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;

use super::{Dict, Float, Kind, MAX_DEPTH, Node, Opaque, Predicate};
use crate::{
    dag_cbor,
    dag_json::{self, DagJsonError},
    text::printable,
    time::Timestamp,
};

/// Why IPLD data is not a node, or a node cannot be written with an IPLD codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpldError {
    /// The codec failed. DAG-JSON and DAG-CBOR have no form for infinite Floats.
    #[error("{codec}: {}", printable(message))]
    Codec {
        /// `"DAG-JSON"` or `"DAG-CBOR"`.
        codec: &'static str,
        /// The error text of the codec.
        message: String,
    },
    /// The data is not what was expected at this place.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A map has an unexpected field.
    #[error("unexpected field {0:?}")]
    UnexpectedField(String),
    /// A number is out of range.
    #[error("{0} is out of range")]
    OutOfRange(i128),
    /// A Dict has a duplicate key.
    #[error("the key {0} stands twice in a Dict")]
    DuplicateKey(Kind),
    /// There are too many levels of nodes.
    #[error("deeper than {max} nodes")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

const EXPIRES_AT: &str = "ExpiresAt";

impl Node {
    /// Converts the node to IPLD data.
    pub fn to_ipld(&self) -> Ipld {
        let content = match &self.kind {
            Kind::Bool(v) => Ipld::Bool(*v),
            Kind::Int(v) => Ipld::Integer(i128::from(*v)),
            Kind::Float(v) => Ipld::Float(v.get()),
            Kind::String(v) => Ipld::String(v.clone()),
            Kind::Bytes(v) => Ipld::Bytes(v.clone()),
            Kind::Link(v) => Ipld::Link(*v),
            Kind::List(v) => map([("Elements", elements(v))]),
            Kind::Set(v) => map([("Elements", elements(v))]),
            Kind::Dict(v) => map([("Pairs", pairs(v))]),
            Kind::Predicate(v) => map([
                ("Tag", Ipld::String(v.tag.clone())),
                ("Positional", elements(&v.positional)),
                ("Named", pairs(&v.named)),
            ]),
            Kind::Opaque(v) => Ipld::Bytes(v.as_bytes().to_vec()),
        };
        let lifetime =
            self.expires_at.map(|at| (EXPIRES_AT, Ipld::Integer(i128::from(at.as_millis()))));
        let name = match &self.kind {
            Kind::List(_) => "Sequence",
            kind => kind.name(),
        };
        map([(name, content)].into_iter().chain(lifetime))
    }

    /// Converts IPLD data to a node.
    ///
    /// # Errors
    /// [`IpldError`] if the data is not a node, or has more than 64 levels of nodes.
    pub fn from_ipld(data: Ipld) -> Result<Self, IpldError> {
        Self::from_ipld_within(data, MAX_DEPTH)
    }

    fn from_ipld_within(data: Ipld, depth_left: usize) -> Result<Self, IpldError> {
        let depth_left = depth_left.checked_sub(1).ok_or(IpldError::TooDeep { max: MAX_DEPTH })?;
        let mut fields = Fields::of(data, "a node: a map from the name of its kind")?;
        let expires_at = match fields.0.remove(EXPIRES_AT) {
            None => None,
            Some(Ipld::Integer(v)) => Some(Timestamp::from_millis(
                u64::try_from(v).map_err(|_| IpldError::OutOfRange(v))?,
            )),
            Some(_) => return Err(IpldError::Expected("ExpiresAt: an integer")),
        };
        let Some((name, content)) = fields.0.pop_first() else {
            return Err(IpldError::Expected("a node: the name of its kind"));
        };
        fields.finish()?;
        let kind = match (name.as_str(), content) {
            ("Bool", Ipld::Bool(v)) => Kind::Bool(v),
            ("Int", Ipld::Integer(v)) => {
                Kind::Int(i64::try_from(v).map_err(|_| IpldError::OutOfRange(v))?)
            }
            ("Float", Ipld::Float(v)) => {
                Kind::Float(Float::new(v).ok_or(IpldError::Expected("Float: a number"))?)
            }
            ("String", Ipld::String(v)) => Kind::String(v),
            ("Bytes", Ipld::Bytes(v)) => Kind::Bytes(v),
            ("Link", Ipld::Link(v)) => Kind::Link(v),
            ("Sequence", content) => {
                let mut fields = Fields::of(content, "Sequence: a map")?;
                let list = fields.elements("Elements", depth_left)?;
                fields.finish()?;
                Kind::List(list)
            }
            ("Set" | "List", content) => {
                let mut fields = Fields::of(content, "Set: a map")?;
                let set = fields.elements("Elements", depth_left)?;
                fields.finish()?;
                Kind::Set(set)
            }
            ("Dict", content) => {
                let mut fields = Fields::of(content, "Dict: a map")?;
                let dict = fields.dict("Pairs", depth_left)?;
                fields.finish()?;
                Kind::Dict(dict)
            }
            ("Predicate", content) => {
                let mut fields = Fields::of(content, "Predicate: a map")?;
                let Some(Ipld::String(tag)) = fields.0.remove("Tag") else {
                    return Err(IpldError::Expected("Tag: a string"));
                };
                let positional = fields.elements("Positional", depth_left)?;
                let named = fields.dict("Named", depth_left)?;
                fields.finish()?;
                Kind::Predicate(Predicate { tag, positional, named })
            }
            ("Opaque", Ipld::Bytes(v)) => Kind::Opaque(
                Opaque::new(v).ok_or(IpldError::Expected("Opaque: a node of an unknown kind"))?,
            ),
            _ => return Err(IpldError::UnexpectedField(name)),
        };
        Ok(Self { kind, expires_at })
    }
}

impl Dict {
    /// Converts the document to IPLD data.
    pub fn to_ipld(&self) -> Ipld {
        Node::new(self.clone()).to_ipld()
    }

    /// Converts IPLD data to a document.
    ///
    /// # Errors
    /// [`IpldError`], also if the node is not a Dict or has a lifetime of its own. The update gives
    /// the root its lifetime.
    pub fn from_ipld(data: Ipld) -> Result<Self, IpldError> {
        match Node::from_ipld(data)? {
            Node { kind: Kind::Dict(dict), expires_at: None } => Ok(dict),
            _ => Err(IpldError::Expected("a Dict without ExpiresAt as the root")),
        }
    }

    /// Encodes the document in DAG-JSON.
    ///
    /// ```
    /// use smart_record_core::Dict;
    ///
    /// let document: Dict = [("k", 5)].into_iter().collect();
    /// assert_eq!(
    ///     document.to_dag_json().unwrap(),
    ///     br#"{"Dict":{"Pairs":[{"Key":{"String":"k"},"Value":{"Int":5}}]}}"#,
    /// );
    /// ```
    ///
    /// # Errors
    /// [`IpldError::Codec`] if a Float is infinite.
    pub fn to_dag_json(&self) -> Result<Vec<u8>, IpldError> {
        serde_ipld_dagjson::to_vec(&self.to_ipld()).map_err(codec("DAG-JSON"))
    }

    /// Decodes a document from DAG-JSON.
    ///
    /// # Errors
    /// [`IpldError`], also for the ambiguous text that [`dag_json`] refuses: a duplicate key in a
    /// map, an integer that would become a float, a link with text around its CID.
    pub fn from_dag_json(bytes: &[u8]) -> Result<Self, IpldError> {
        let data = dag_json::from_slice(bytes).map_err(|error| match error {
            DagJsonError::Expected(what) => IpldError::Expected(what),
            error => codec("DAG-JSON")(error),
        })?;
        Self::from_ipld(data)
    }

    /// Encodes the document in DAG-CBOR.
    ///
    /// # Errors
    /// [`IpldError::Codec`] if a Float is infinite.
    pub fn to_dag_cbor(&self) -> Result<Vec<u8>, IpldError> {
        serde_ipld_dagcbor::to_vec(&self.to_ipld()).map_err(codec("DAG-CBOR"))
    }

    /// Decodes a document from DAG-CBOR.
    ///
    /// # Errors
    /// [`IpldError`] if the bytes are not a document.
    pub fn from_dag_cbor(bytes: &[u8]) -> Result<Self, IpldError> {
        dag_cbor::from_slice(bytes).map_err(codec("DAG-CBOR")).and_then(Self::from_ipld)
    }
}

fn codec<E: std::fmt::Display>(codec: &'static str) -> impl Fn(E) -> IpldError {
    move |error| IpldError::Codec { codec, message: error.to_string() }
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Ipld)>) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn elements<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Ipld {
    Ipld::List(nodes.into_iter().map(Node::to_ipld).collect())
}

fn pairs(dict: &Dict) -> Ipld {
    let pair = |(key, value): (&Kind, &Node)| {
        let key = Node::new(key.clone()).to_ipld();
        map([("Key", key), ("Value", value.to_ipld())])
    };
    Ipld::List(dict.iter().map(pair).collect())
}

/// The fields of a map that are not read yet.
struct Fields(BTreeMap<String, Ipld>);

impl Fields {
    fn of(data: Ipld, expected: &'static str) -> Result<Self, IpldError> {
        match data {
            Ipld::Map(fields) => Ok(Self(fields)),
            _ => Err(IpldError::Expected(expected)),
        }
    }

    fn sequence(&mut self, name: &'static str) -> Result<Vec<Ipld>, IpldError> {
        match self.0.remove(name) {
            Some(Ipld::List(list)) => Ok(list),
            _ => Err(IpldError::Expected(name)),
        }
    }

    fn elements<C: FromIterator<Node>>(
        &mut self,
        name: &'static str,
        depth_left: usize,
    ) -> Result<C, IpldError> {
        let nodes = self.sequence(name)?.into_iter();
        nodes.map(|data| Node::from_ipld_within(data, depth_left)).collect()
    }

    fn dict(&mut self, name: &'static str, depth_left: usize) -> Result<Dict, IpldError> {
        let mut dict = Dict::new();
        for pair in self.sequence(name)? {
            let mut fields = Self::of(pair, "a pair: a map of Key and Value")?;
            let mut part = |name| {
                let data = fields.0.remove(name).ok_or(IpldError::Expected(name))?;
                Node::from_ipld_within(data, depth_left)
            };
            let (key, value) = (part("Key")?, part("Value")?);
            fields.finish()?;
            let bare = key.kind.clone().without_lifetimes();
            if key.expires_at.is_some() || bare != key.kind {
                return Err(IpldError::Expected("a Key without ExpiresAt"));
            }
            if dict.insert(key.kind, value).is_some() {
                return Err(IpldError::DuplicateKey(bare));
            }
        }
        Ok(dict)
    }

    fn finish(self) -> Result<(), IpldError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(IpldError::UnexpectedField(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{List, Set};

    #[test]
    fn every_kind_has_its_typed_form() {
        let mut document = Dict::new();
        document.insert(1, Node::from(true).expires_at(Timestamp::from_millis(9)));
        document.insert("b", vec![1_u8, 2]);
        document.insert("f", Float::new(0.5).unwrap());
        document.insert("l", List::from([3, 1, 1]));
        document.insert("s", Set::from([3, 1, 1]));
        document.insert("p", Predicate::new("t").with(1).with_named("n", "v"));
        let json = String::from_utf8(document.to_dag_json().unwrap()).unwrap();
        for part in [
            r#"{"Key":{"Int":1},"Value":{"Bool":true,"ExpiresAt":9}}"#,
            r#""Value":{"Bytes":{"/":{"bytes":"AQI"}}}"#,
            r#""Value":{"Float":0.5}"#,
            r#""Value":{"Sequence":{"Elements":[{"Int":3},{"Int":1},{"Int":1}]}}"#,
            r#""Value":{"Set":{"Elements":[{"Int":1},{"Int":3}]}}"#,
            r#"{"Predicate":{"Named":[{"Key":{"String":"n"},"Value":{"String":"v"}}],"Positional":[{"Int":1}],"Tag":"t"}}"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
        assert_eq!(Dict::from_dag_json(json.as_bytes()), Ok(document.clone()));
        // The name of a set in the Go form.
        let of_go = json.replace(r#"{"Set":"#, r#"{"List":"#);
        assert_eq!(Dict::from_dag_json(of_go.as_bytes()), Ok(document));
    }

    #[test]
    fn case_13_a_link_with_text_around_it_is_refused() {
        let parse = |link: &str| {
            let pair = format!(r#"{{"Key":{{"Int":1}},"Value":{{"Link":{{"/":"{link}"}}}}}}"#);
            Dict::from_dag_json(format!(r#"{{"Dict":{{"Pairs":[{pair}]}}}}"#).as_bytes())
        };
        assert!(parse("bafkqaaa").is_ok());
        for link in ["/ipfs/bafkqaaa", "https://a.example/ipfs/bafkqaaa", "bafkqaaaaaaaaa"] {
            assert_eq!(parse(link), Err(IpldError::Expected("a link: a CID")));
        }
    }

    #[test]
    fn what_is_not_a_node_is_named() {
        let parse = |json: &str| Dict::from_dag_json(json.as_bytes());
        assert!(matches!(parse("[]"), Err(IpldError::Expected(_))));
        assert!(matches!(parse(r#"{"Int":1}"#), Err(IpldError::Expected(_))));
        assert!(matches!(
            parse(r#"{"Dict":{"Pairs":[]},"ExpiresAt":1}"#),
            Err(IpldError::Expected(_))
        ));
        assert_eq!(
            parse(r#"{"Dict":{"Pairs":[],"More":1}}"#),
            Err(IpldError::UnexpectedField("More".into()))
        );
        assert_eq!(
            parse(r#"{"Dict":{"Pairs":[{"Key":{"Int":9223372036854775808},"Value":{"Int":1}}]}}"#),
            Err(IpldError::OutOfRange(1 << 63))
        );
        let pair = r#"{"Key":{"Int":1},"Value":{"Int":1}}"#;
        assert_eq!(
            parse(&format!(r#"{{"Dict":{{"Pairs":[{pair},{pair}]}}}}"#)),
            Err(IpldError::DuplicateKey(1.into()))
        );
        for key in
            [r#"{"Int":1,"ExpiresAt":1}"#, r#"{"Sequence":{"Elements":[{"Int":1,"ExpiresAt":1}]}}"#]
        {
            let pair = format!(r#"{{"Key":{key},"Value":{{"Int":1}}}}"#);
            let document = format!(r#"{{"Dict":{{"Pairs":[{pair}]}}}}"#);
            assert_eq!(parse(&document), Err(IpldError::Expected("a Key without ExpiresAt")));
        }
        let pairs =
            |value| format!(r#"{{"Dict":{{"Pairs":[{{"Key":{{"Int":1}},"Value":{value}}}]}}}}"#);
        for (value, message) in [
            (r#"{"Float":18446744073709551616}"#, "18446744073709551616 is not"),
            (r#"{"Float":-9223372036854775809}"#, "-9223372036854775809 is not"),
            (r#"{"Float":-0}"#, "-0 is not"),
        ] {
            let error = parse(&pairs(value)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let twice = r#"{"Dict":{"Pairs":[],"Pairs":[]}}"#;
        assert!(matches!(parse(twice), Err(IpldError::Codec { codec: "DAG-JSON", .. })));
        assert!(matches!(parse("{"), Err(IpldError::Codec { codec: "DAG-JSON", .. })));
        let infinite: Dict = [("f", Float::INFINITY)].into_iter().collect();
        assert!(matches!(infinite.to_dag_cbor(), Err(IpldError::Codec { codec: "DAG-CBOR", .. })));
    }
    #[test]
    fn depth_is_bounded_whatever_codec_has_read_the_data() {
        let nest: [fn(Ipld) -> Ipld; 4] = [
            |inner| map([("Sequence", map([("Elements", Ipld::List(vec![inner]))]))]),
            |inner| map([("Set", map([("Elements", Ipld::List(vec![inner]))]))]),
            |inner| {
                let pair = map([("Key", map([("Int", Ipld::Integer(1))])), ("Value", inner)]);
                map([("Dict", map([("Pairs", Ipld::List(vec![pair]))]))])
            },
            |inner| {
                let pair = map([("Key", inner), ("Value", map([("Int", Ipld::Integer(1))]))]);
                map([("Dict", map([("Pairs", Ipld::List(vec![pair]))]))])
            },
        ];
        let deep = |nest: fn(Ipld) -> Ipld, levels: usize| {
            (1..levels).fold(map([("Int", Ipld::Integer(1))]), |inner, _| nest(inner))
        };
        for nest in nest {
            assert!(Node::from_ipld(deep(nest, MAX_DEPTH)).is_ok());
            for levels in [MAX_DEPTH + 1, 400] {
                let data = deep(nest, levels);
                assert_eq!(Node::from_ipld(data), Err(IpldError::TooDeep { max: MAX_DEPTH }));
            }
        }
        // The codecs have their own bounds.
        let json = r#"{"Set":{"Elements":["#.repeat(100_000);
        assert!(matches!(Dict::from_dag_json(json.as_bytes()), Err(IpldError::Codec { .. })));
        let cbor = [0xa1, 0x61, b'k'].repeat(100_000);
        assert!(matches!(Dict::from_dag_cbor(&cbor), Err(IpldError::Codec { .. })));
    }
}
