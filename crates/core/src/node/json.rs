//! Plain JSON, for people: strings, numbers, arrays and objects.
//!
//! | node | JSON |
//! |---|---|
//! | Bool, Int, Float, String | `true`, `5`, `5.0`, `"text"` |
//! | List | `[…]`; reading one drops duplicates and order, because a List is a set |
//! | Dict with String keys | `{…}` |
//! | Bytes, Link | `{"/": {"bytes": "<base64>"}}`, `{"/": "<cid>"}`, as in DAG-JSON |
//! | Predicate | `{"/": {"predicate": {"tag": …, "positional": […], "named": …}}}` |
//! | any other Dict | `{"/": {"dict": [[key, value], …]}}` |
//! | Opaque, an infinite Float | `{"/": {"opaque": "<base64>"}}`, `{"/": {"float": "inf"}}` |
//!
//! **Invariants.** Every node has a JSON form, and reading it gives the node back without its lifetimes,
//! which plain JSON leaves out (the IPLD form keeps them).
//!
//! **Spec.** Bytes and links: [DAG-JSON](https://ipld.io/specs/codecs/dag-json/spec/).

use cid::{Cid, multibase::Base};
use serde_json::{Map, Value, json};

use super::{Dict, Float, Kind, List, Node, Opaque, Predicate};

/// Why a JSON value is not a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// There is no node for `null`.
    #[error("null is not a node")]
    Null,
    /// The root of a document is an object.
    #[error("a document has to be an object")]
    NotADict,
    /// An integer outside of 64 signed bits.
    #[error("{0} does not fit into 64 signed bits")]
    IntOutOfRange(String),
    /// An object with the key `"/"` that is none of the forms above.
    #[error("an object with the key \"/\" that stands for nothing known: {0}")]
    UnknownEscape(String),
}

impl Node {
    /// The node in plain JSON, without lifetimes.
    ///
    /// ```
    /// use smart_record_core::{Dict, Node};
    ///
    /// let node = Node::from_json(&serde_json::json!({"name": "lobby", "seats": [4, 2]})).unwrap();
    /// assert_eq!(node.to_json().to_string(), r#"{"name":"lobby","seats":[2,4]}"#);
    /// ```
    pub fn to_json(&self) -> Value {
        self.kind.to_json()
    }

    /// The node that a JSON value stands for.
    ///
    /// # Errors
    /// [`JsonError`] for `null`, integers beyond 64 signed bits and unknown escapes.
    pub fn from_json(value: &Value) -> Result<Self, JsonError> {
        Kind::from_json(value).map(Self::new)
    }
}

impl Dict {
    /// The document in plain JSON, without lifetimes. See [`Node::to_json`].
    pub fn to_json(&self) -> Value {
        let plain = |(key, value): (&Kind, &Node)| match key {
            Kind::String(key) if key != ESCAPE => Some((key.clone(), value.to_json())),
            _ => None,
        };
        if let Some(object) = self.iter().map(plain).collect::<Option<_>>() {
            return Value::Object(object);
        }
        let pairs = self.iter().map(|(k, v)| json!([k.to_json(), v.to_json()]));
        escaped("dict", Value::Array(pairs.collect()))
    }

    /// The document that a JSON object stands for. See [`Node::from_json`].
    ///
    /// # Errors
    /// [`JsonError`], also when the value is not an object.
    pub fn from_json(value: &Value) -> Result<Self, JsonError> {
        match Kind::from_json(value)? {
            Kind::Dict(dict) => Ok(dict),
            _ => Err(JsonError::NotADict),
        }
    }
}

impl std::str::FromStr for Dict {
    type Err = JsonError;

    /// Reads a document from plain JSON text.
    fn from_str(text: &str) -> Result<Self, JsonError> {
        let value = serde_json::from_str(text).map_err(|e| JsonError::Syntax(e.to_string()))?;
        Self::from_json(&value)
    }
}

/// The key that DAG-JSON keeps for what JSON has no form for.
const ESCAPE: &str = "/";

fn escaped(name: &str, value: Value) -> Value {
    json!({ ESCAPE: { name: value } })
}

impl List {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(Node::to_json).collect())
    }
}

impl Kind {
    fn to_json(&self) -> Value {
        match self {
            Self::Bool(v) => json!(v),
            Self::Int(v) => json!(v),
            Self::Float(v) if v.get().is_finite() => json!(v.get()),
            Self::Float(v) => escaped("float", json!(v.get().to_string())),
            Self::String(v) => json!(v),
            Self::Bytes(v) => escaped("bytes", json!(Base::Base64.encode(v))),
            Self::Link(v) => json!({ ESCAPE: v.to_string() }),
            Self::List(v) => v.to_json(),
            Self::Dict(v) => v.to_json(),
            Self::Predicate(v) => escaped(
                "predicate",
                json!({
                    "tag": v.tag,
                    "positional": v.positional.to_json(),
                    "named": v.named.to_json(),
                }),
            ),
            Self::Opaque(v) => escaped("opaque", json!(Base::Base64.encode(v.as_bytes()))),
        }
    }

    fn from_json(value: &Value) -> Result<Self, JsonError> {
        Ok(match value {
            Value::Null => return Err(JsonError::Null),
            Value::Bool(v) => Self::Bool(*v),
            Value::Number(n) => match (n.as_i64(), n.as_f64().and_then(Float::new)) {
                (Some(int), _) => Self::Int(int),
                (None, Some(float)) if n.is_f64() => Self::Float(float),
                _ => return Err(JsonError::IntOutOfRange(n.to_string())),
            },
            Value::String(v) => Self::String(v.clone()),
            Value::Array(v) => Self::List(list_from_json(v)?),
            Value::Object(v) => match v.get(ESCAPE) {
                Some(inner) => Self::from_escape(v, inner)?,
                None => Self::Dict(
                    v.iter()
                        .map(|(key, value)| Ok((key.as_str(), Node::from_json(value)?)))
                        .collect::<Result<_, JsonError>>()?,
                ),
            },
        })
    }

    fn from_escape(object: &Map<String, Value>, inner: &Value) -> Result<Self, JsonError> {
        let unknown = || JsonError::UnknownEscape(Value::Object(object.clone()).to_string());
        if object.len() != 1 {
            return Err(unknown());
        }
        if let Value::String(cid) = inner {
            return Cid::try_from(cid.as_str()).map(Self::Link).map_err(|_| unknown());
        }
        let (name, value) = match inner.as_object().map(|o| (o.len(), o.iter().next())) {
            Some((1, Some(pair))) => pair,
            _ => return Err(unknown()),
        };
        let bytes = || {
            let text = value.as_str()?;
            Base::Base64.decode(text).ok()
        };
        match name.as_str() {
            "bytes" => bytes().map(Self::Bytes).ok_or_else(unknown),
            "opaque" => bytes().and_then(Opaque::new).map(Self::Opaque).ok_or_else(unknown),
            "float" => match value.as_str() {
                Some("inf") => Ok(Self::Float(Float::INFINITY)),
                Some("-inf") => Ok(Self::Float(Float::NEG_INFINITY)),
                _ => Err(unknown()),
            },
            "dict" => {
                let mut dict = Dict::new();
                for pair in value.as_array().ok_or_else(unknown)? {
                    let [key, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default()
                    else {
                        return Err(unknown());
                    };
                    dict.insert(Self::from_json(key)?, Node::from_json(value)?);
                }
                Ok(Self::Dict(dict))
            }
            "predicate" => {
                let field = |name| value.get(name).ok_or_else(unknown);
                Ok(Self::Predicate(Predicate {
                    tag: field("tag")?.as_str().ok_or_else(unknown)?.to_owned(),
                    positional: list_from_json(
                        field("positional")?.as_array().ok_or_else(unknown)?,
                    )?,
                    named: Dict::from_json(field("named")?)?,
                }))
            }
            _ => Err(unknown()),
        }
    }
}

fn list_from_json(values: &[Value]) -> Result<List, JsonError> {
    values.iter().map(Node::from_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_json() {
        let text = r#"{"a":1,"b":2.5,"c":"x","d":[true,false,true],"e":{"f":-3}}"#;
        let document: Dict = text.parse().unwrap();
        assert_eq!(
            document.to_string(),
            r#"{"a": 1, "b": 2.5, "c": "x", "d": [false, true], "e": {"f": -3}}"#
        );
        assert_eq!(
            document.to_json().to_string(),
            text.replace("[true,false,true]", "[false,true]")
        );
    }

    #[test]
    fn what_is_not_a_node_is_named() {
        let parse = |text: &str| text.parse::<Dict>();
        assert_eq!(parse(r#"{"a":null}"#), Err(JsonError::Null));
        assert_eq!(parse("[]"), Err(JsonError::NotADict));
        assert_eq!(
            parse(r#"{"a":9223372036854775808}"#),
            Err(JsonError::IntOutOfRange("9223372036854775808".into()))
        );
        assert!(matches!(parse("{"), Err(JsonError::Syntax(_))));
        for escape in [
            r#"{"a":{"/":1}}"#,
            r#"{"a":{"/":"not a cid"}}"#,
            r#"{"a":{"/":{"bytes":"AA"},"b":1}}"#,
            r#"{"a":{"/":{"bytes":"%"}}}"#,
            r#"{"a":{"/":{"dict":[[1]]}}}"#,
            r#"{"a":{"/":{"predicate":{"tag":"t"}}}}"#,
            r#"{"a":{"/":{"opaque":""}}}"#,
        ] {
            assert!(matches!(parse(escape), Err(JsonError::UnknownEscape(_))), "{escape}");
        }
    }
}
