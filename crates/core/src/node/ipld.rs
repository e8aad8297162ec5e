//! The typed form in the IPLD data model, and through it DAG-JSON and DAG-CBOR.
//!
//! Each node is a map from the name of its kind to its content, with the node's lifetime beside it where it
//! has one:
//!
//! ```json
//! {"Dict": {"Pairs": [{"Key": {"String": "k"}, "Value": {"Int": 5, "ExpiresAt": 1700000000000}}]}}
//! ```
//!
//! Lists are `{"List": {"Elements": […]}}`, Predicates
//! `{"Predicate": {"Tag": "t", "Positional": […], "Named": [{"Key": …, "Value": …}]}}`.
//!
//! **Invariants.** Reading what was written gives the same node, lifetimes included.
//!
//! **Spec.** The names are those of
//! [go-routing-language's syntax](https://github.com/libp2p/go-routing-language), on which the Go smart
//! records build; the codecs are [DAG-JSON](https://ipld.io/specs/codecs/dag-json/spec/) and
//! [DAG-CBOR](https://ipld.io/specs/codecs/dag-cbor/spec/).

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;

use super::{Dict, Float, Kind, List, Node, Opaque, Predicate};
use crate::{dag_cbor, time::Timestamp};

/// Why IPLD data is not a node, or a node cannot be written with an IPLD codec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpldError {
    /// The codec refused. DAG-JSON and DAG-CBOR have no form for infinite Floats.
    #[error("{codec}: {message}")]
    Codec {
        /// `"DAG-JSON"` or `"DAG-CBOR"`.
        codec: &'static str,
        /// What the codec said.
        message: String,
    },
    /// Something else stands where this was expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A map has a field that does not belong there.
    #[error("unexpected field {0:?}")]
    UnexpectedField(String),
    /// A number does not fit.
    #[error("{0} is out of range")]
    OutOfRange(i128),
    /// A Dict has a key twice.
    #[error("a key stands twice in a Dict")]
    DuplicateKey,
}

const EXPIRES_AT: &str = "ExpiresAt";

impl Node {
    /// The node in the IPLD data model.
    pub fn to_ipld(&self) -> Ipld {
        let content = match &self.kind {
            Kind::Bool(v) => Ipld::Bool(*v),
            Kind::Int(v) => Ipld::Integer(i128::from(*v)),
            Kind::Float(v) => Ipld::Float(v.get()),
            Kind::String(v) => Ipld::String(v.clone()),
            Kind::Bytes(v) => Ipld::Bytes(v.clone()),
            Kind::Link(v) => Ipld::Link(*v),
            Kind::List(v) => map([("Elements", elements(v))]),
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
        map([(self.kind.name(), content)].into_iter().chain(lifetime))
    }

    /// The node that IPLD data stands for.
    ///
    /// # Errors
    /// [`IpldError`], naming what was expected.
    pub fn from_ipld(data: Ipld) -> Result<Self, IpldError> {
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
            ("List", content) => {
                let mut fields = Fields::of(content, "List: a map")?;
                let list = fields.list("Elements")?;
                fields.finish()?;
                Kind::List(list)
            }
            ("Dict", content) => {
                let mut fields = Fields::of(content, "Dict: a map")?;
                let dict = fields.dict("Pairs")?;
                fields.finish()?;
                Kind::Dict(dict)
            }
            ("Predicate", content) => {
                let mut fields = Fields::of(content, "Predicate: a map")?;
                let Some(Ipld::String(tag)) = fields.0.remove("Tag") else {
                    return Err(IpldError::Expected("Tag: a string"));
                };
                let positional = fields.list("Positional")?;
                let named = fields.dict("Named")?;
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
    /// The document in the IPLD data model.
    pub fn to_ipld(&self) -> Ipld {
        Node::new(self.clone()).to_ipld()
    }

    /// The document that IPLD data stands for.
    ///
    /// # Errors
    /// [`IpldError`], also when it is a node of another kind or the root has a lifetime of its own (the
    /// update gives the root its lifetime).
    pub fn from_ipld(data: Ipld) -> Result<Self, IpldError> {
        match Node::from_ipld(data)? {
            Node { kind: Kind::Dict(dict), expires_at: None } => Ok(dict),
            _ => Err(IpldError::Expected("a Dict without ExpiresAt as the root")),
        }
    }

    /// The document in DAG-JSON.
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
    /// [`IpldError::Codec`] if a Float in it is infinite.
    pub fn to_dag_json(&self) -> Result<Vec<u8>, IpldError> {
        serde_ipld_dagjson::to_vec(&self.to_ipld()).map_err(codec("DAG-JSON"))
    }

    /// The document of these DAG-JSON bytes.
    ///
    /// # Errors
    /// [`IpldError`].
    pub fn from_dag_json(bytes: &[u8]) -> Result<Self, IpldError> {
        serde_ipld_dagjson::from_slice(bytes).map_err(codec("DAG-JSON")).and_then(Self::from_ipld)
    }

    /// The document in DAG-CBOR.
    ///
    /// # Errors
    /// [`IpldError::Codec`] if a Float in it is infinite.
    pub fn to_dag_cbor(&self) -> Result<Vec<u8>, IpldError> {
        serde_ipld_dagcbor::to_vec(&self.to_ipld()).map_err(codec("DAG-CBOR"))
    }

    /// The document of these DAG-CBOR bytes.
    ///
    /// # Errors
    /// [`IpldError`].
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

fn elements(list: &List) -> Ipld {
    Ipld::List(list.iter().map(Node::to_ipld).collect())
}

fn pairs(dict: &Dict) -> Ipld {
    let pair = |(key, value): (&Kind, &Node)| {
        let key = Node::new(key.clone()).to_ipld();
        map([("Key", key), ("Value", value.to_ipld())])
    };
    Ipld::List(dict.iter().map(pair).collect())
}

/// The fields of a map that have not been read yet.
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

    fn list(&mut self, name: &'static str) -> Result<List, IpldError> {
        self.sequence(name)?.into_iter().map(Node::from_ipld).collect()
    }

    fn dict(&mut self, name: &'static str) -> Result<Dict, IpldError> {
        let mut dict = Dict::new();
        for pair in self.sequence(name)? {
            let mut fields = Self::of(pair, "a pair: a map of Key and Value")?;
            let mut part = |name| {
                let data = fields.0.remove(name).ok_or(IpldError::Expected(name))?;
                Node::from_ipld(data)
            };
            let (key, value) = (part("Key")?, part("Value")?);
            fields.finish()?;
            if dict.insert(key.kind, value).is_some() {
                return Err(IpldError::DuplicateKey);
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

    #[test]
    fn every_kind_has_its_typed_form() {
        let mut document = Dict::new();
        document.insert(1, Node::from(true).expires_at(Timestamp::from_millis(9)));
        document.insert("b", vec![1_u8, 2]);
        document.insert("f", Float::new(0.5).unwrap());
        document.insert("l", [3, 1].into_iter().collect::<List>());
        document.insert("p", Predicate::new("t").with(1).with_named("n", "v"));
        let json = String::from_utf8(document.to_dag_json().unwrap()).unwrap();
        for part in [
            r#"{"Key":{"Int":1},"Value":{"Bool":true,"ExpiresAt":9}}"#,
            r#""Value":{"Bytes":{"/":{"bytes":"AQI"}}}"#,
            r#""Value":{"Float":0.5}"#,
            r#""Value":{"List":{"Elements":[{"Int":1},{"Int":3}]}}"#,
            r#"{"Predicate":{"Named":[{"Key":{"String":"n"},"Value":{"String":"v"}}],"Positional":[{"Int":1}],"Tag":"t"}}"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
        assert_eq!(Dict::from_dag_json(json.as_bytes()), Ok(document));
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
            Err(IpldError::DuplicateKey)
        );
        assert!(matches!(parse("{"), Err(IpldError::Codec { codec: "DAG-JSON", .. })));
        let infinite: Dict = [("f", Float::INFINITY)].into_iter().collect();
        assert!(matches!(infinite.to_dag_cbor(), Err(IpldError::Codec { codec: "DAG-CBOR", .. })));
    }
}
