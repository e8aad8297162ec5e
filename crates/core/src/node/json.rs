//! Plain JSON form of nodes: strings, numbers, arrays and objects.
//!
//! | node | JSON |
//! |---|---|
//! | Bool, Int, Float, String | `true`, `5`, `5.0`, `"text"` |
//! | List | `[…]` |
//! | Dict with String keys | `{…}` |
//! | Set | `{"/": {"set": […]}}`; duplicate elements become one |
//! | Bytes, Link | `{"/": {"bytes": "<base64>"}}`, `{"/": "<cid>"}`, as in DAG-JSON |
//! | Predicate | `{"/": {"predicate": {"tag": …, "positional": […], "named": …}}}` |
//! | any other Dict | `{"/": {"dict": [[key, value], …]}}` |
//! | Opaque, an infinite Float | `{"/": {"opaque": "<base64>"}}`, `{"/": {"float": "inf"}}` |
//!
//! **Invariants.** Every node has a JSON form. Reading it gives the same node without lifetimes,
//! which only the IPLD form keeps. Ambiguous input is refused: a duplicate key, in any form. Depth
//! is bounded: text to 128 levels of arrays and objects, values to 64 levels of nodes.
//!
//! **Spec.** Bytes and links: [DAG-JSON](https://ipld.io/specs/codecs/dag-json/spec/).

use cid::multibase::Base;
use serde_json::{Map, Value, json};

use super::{Dict, Float, Kind, MAX_DEPTH, Node, Opaque, Predicate};
use crate::{
    json_text::{self, JsonTextError},
    text::{parse_cid, printable},
};

/// Why a JSON value is not a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("not JSON: {}", printable(.0))]
    Syntax(String),
    /// The value is `null`, which has no node.
    #[error("null is not a node")]
    Null,
    /// The root of the document is not an object.
    #[error("a document must be an object")]
    NotADict,
    /// An integer does not fit into 64 signed bits, or is `-0`, which some parsers read as a float.
    #[error("{0} is not an integer of 64 signed bits")]
    IntOutOfRange(String),
    /// A Dict has a duplicate key.
    #[error("the key {0} stands twice in a Dict")]
    DuplicateKey(Kind),
    /// An object with the key `"/"` has this unknown name.
    #[error("unknown name {0:?} in an object with the key \"/\"")]
    UnknownEscape(String),
    /// An object with the key `"/"` does not have this form.
    #[error("expected {0}")]
    InvalidEscape(&'static str),
    /// There are too many levels of nodes.
    #[error("deeper than {max} nodes")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

impl From<JsonTextError> for JsonError {
    fn from(error: JsonTextError) -> Self {
        match error {
            JsonTextError::Syntax(message) => Self::Syntax(message),
            JsonTextError::DuplicateKey(key) => Self::DuplicateKey(key.into()),
            JsonTextError::IntOutOfRange(number) => Self::IntOutOfRange(number),
        }
    }
}

impl Node {
    /// Converts the node to plain JSON, without lifetimes.
    ///
    /// ```
    /// use smart_record_core::{Dict, Node};
    ///
    /// let node = Node::from_json(&serde_json::json!({"name": "lobby", "seats": [4, 2]})).unwrap();
    /// assert_eq!(node.to_json().to_string(), r#"{"name":"lobby","seats":[4,2]}"#);
    /// ```
    pub fn to_json(&self) -> Value {
        self.kind.to_json()
    }

    /// Converts a JSON value to a node.
    ///
    /// # Errors
    /// [`JsonError`] for `null`, integers beyond 64 signed bits, unknown escapes and more than 64
    /// levels of nodes. A `Value` does not show duplicate keys in its text. `FromStr` of [`Dict`]
    /// refuses them.
    pub fn from_json(value: &Value) -> Result<Self, JsonError> {
        node_from_json(value, MAX_DEPTH)
    }
}

impl Dict {
    /// Converts the document to plain JSON, without lifetimes. See [`Node::to_json`].
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

    /// Converts a JSON object to a document. See [`Node::from_json`].
    ///
    /// # Errors
    /// [`JsonError`], also if the value is not an object.
    pub fn from_json(value: &Value) -> Result<Self, JsonError> {
        match Node::from_json(value)?.kind {
            Kind::Dict(dict) => Ok(dict),
            _ => Err(JsonError::NotADict),
        }
    }
}

impl std::str::FromStr for Dict {
    type Err = JsonError;

    /// Parses a document from plain JSON text.
    ///
    /// An array is a List: it keeps its order, and a newer List replaces it as a whole. Documents
    /// of one writer under one key merge:
    ///
    #[doc = crate::merge_table!()]
    ///
    /// ```
    /// use smart_record_core::{Dict, JsonError};
    ///
    /// let document: Dict = r#"{"players": ["zoe", "ann"], "pos": [3, 1, 1]}"#.parse()?;
    /// assert_eq!(document.to_string(), r#"{"players": ["zoe", "ann"], "pos": [3, 1, 1]}"#);
    /// let twice = r#"{"a": 1, "a": 2}"#.parse::<Dict>();
    /// assert_eq!(twice, Err(JsonError::DuplicateKey("a".into())));
    /// # Ok::<(), JsonError>(())
    /// ```
    ///
    /// # Errors
    /// [`JsonError`] if the text is not JSON, not an object, or ambiguous: a duplicate key in an
    /// object at any depth, an integer that does not fit into 64 signed bits, or `-0`.
    fn from_str(text: &str) -> Result<Self, JsonError> {
        Self::from_json(&json_text::parse(text, &(i64::MIN.into()..=i64::MAX.into()))?)
    }
}

/// The key that DAG-JSON reserves for values without a JSON form.
const ESCAPE: &str = "/";

fn escaped(name: &str, value: Value) -> Value {
    json!({ ESCAPE: { name: value } })
}

fn elements<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Value {
    Value::Array(nodes.into_iter().map(Node::to_json).collect())
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
            Self::List(v) => elements(v),
            Self::Set(v) => escaped("set", elements(v)),
            Self::Dict(v) => v.to_json(),
            Self::Predicate(v) => escaped(
                "predicate",
                json!({
                    "tag": v.tag,
                    "positional": elements(&v.positional),
                    "named": v.named.to_json(),
                }),
            ),
            Self::Opaque(v) => escaped("opaque", json!(Base::Base64.encode(v.as_bytes()))),
        }
    }
}

fn node_from_json(value: &Value, depth_left: usize) -> Result<Node, JsonError> {
    let depth_left = depth_left.checked_sub(1).ok_or(JsonError::TooDeep { max: MAX_DEPTH })?;
    Ok(Node::new(match value {
        Value::Null => return Err(JsonError::Null),
        Value::Bool(v) => Kind::Bool(*v),
        Value::Number(n) => match (n.as_i64(), n.as_f64().and_then(Float::new)) {
            (Some(int), _) => Kind::Int(int),
            (None, Some(float)) if n.is_f64() => Kind::Float(float),
            _ => return Err(JsonError::IntOutOfRange(n.to_string())),
        },
        Value::String(v) => Kind::String(v.clone()),
        Value::Array(v) => Kind::List(elements_from_json(v, depth_left)?),
        Value::Object(v) => match v.get(ESCAPE) {
            Some(inner) => from_escape(v, inner, depth_left)?,
            None => Kind::Dict(
                v.iter()
                    .map(|(key, value)| Ok((key, node_from_json(value, depth_left)?)))
                    .collect::<Result<_, JsonError>>()?,
            ),
        },
    }))
}

fn elements_from_json<C: FromIterator<Node>>(
    values: &[Value],
    depth_left: usize,
) -> Result<C, JsonError> {
    values.iter().map(|value| node_from_json(value, depth_left)).collect()
}

fn from_escape(
    object: &Map<String, Value>,
    inner: &Value,
    depth_left: usize,
) -> Result<Kind, JsonError> {
    let invalid = JsonError::InvalidEscape;
    if let Some(other) = object.keys().find(|key| *key != ESCAPE) {
        return Err(JsonError::UnknownEscape(other.clone()));
    }
    if let Value::String(cid) = inner {
        let link = parse_cid(cid).map(Kind::Link);
        return link.ok_or_else(|| invalid(r#"{"/": "<cid>"}"#));
    }
    let (name, value) = match inner.as_object().map(|o| (o.len(), o.iter().next())) {
        Some((1, Some(pair))) => pair,
        _ => return Err(invalid(r#"{"/": "<cid>"} or {"/": {"<name>": …}}"#)),
    };
    let bytes = || value.as_str().and_then(|text| Base::Base64.decode(text).ok());
    let kind = match name.as_str() {
        "bytes" => bytes().map(Kind::Bytes).ok_or(r#"{"/": {"bytes": "<base64>"}}"#),
        "opaque" => bytes()
            .and_then(Opaque::new)
            .map(Kind::Opaque)
            .ok_or(r#"{"/": {"opaque": "<base64 of a node of an unknown kind>"}}"#),
        "float" => match value.as_str() {
            Some("inf") => Ok(Kind::Float(Float::INFINITY)),
            Some("-inf") => Ok(Kind::Float(Float::NEG_INFINITY)),
            _ => Err(r#"{"/": {"float": "inf"}} or {"/": {"float": "-inf"}}"#),
        },
        "set" => match value.as_array() {
            Some(values) => Ok(Kind::Set(elements_from_json(values, depth_left)?)),
            None => Err(r#"{"/": {"set": [<element>, …]}}"#),
        },
        "dict" => Ok(Kind::Dict(dict_from_pairs(value, depth_left)?)),
        "predicate" => Ok(Kind::Predicate(predicate_from_json(value, depth_left)?)),
        _ => return Err(JsonError::UnknownEscape(name.clone())),
    };
    kind.map_err(invalid)
}

fn dict_from_pairs(value: &Value, depth_left: usize) -> Result<Dict, JsonError> {
    let invalid = || JsonError::InvalidEscape(r#"{"/": {"dict": [[<key>, <value>], …]}}"#);
    let mut dict = Dict::new();
    for pair in value.as_array().ok_or_else(invalid)? {
        let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
            return Err(invalid());
        };
        let key = node_from_json(key, depth_left)?.kind;
        if dict.insert(key.clone(), node_from_json(value, depth_left)?).is_some() {
            return Err(JsonError::DuplicateKey(key));
        }
    }
    Ok(dict)
}

fn predicate_from_json(value: &Value, depth_left: usize) -> Result<Predicate, JsonError> {
    let form =
        r#"{"/": {"predicate": {"tag": "<tag>", "positional": [<argument>, …], "named": {…}}}}"#;
    let invalid = || JsonError::InvalidEscape(form);
    let fields = value.as_object().ok_or_else(invalid)?;
    let known = |name: &&String| ["tag", "positional", "named"].contains(&name.as_str());
    if let Some(other) = fields.keys().find(|name| !known(name)) {
        return Err(JsonError::UnknownEscape(other.clone()));
    }
    let field = |name| fields.get(name).ok_or_else(invalid);
    let positional = field("positional")?.as_array().ok_or_else(invalid)?;
    let Kind::Dict(named) = node_from_json(field("named")?, depth_left)?.kind else {
        return Err(invalid());
    };
    Ok(Predicate {
        tag: field("tag")?.as_str().ok_or_else(invalid)?.to_owned(),
        positional: elements_from_json(positional, depth_left)?,
        named,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{List, Set};

    fn parse(text: &str) -> Result<Dict, JsonError> {
        text.parse()
    }

    #[test]
    fn people_write_json() {
        let text = r#"{"a":1,"b":2.5,"c":"x","d":[true,false,true],"e":{"f":-3}}"#;
        let document = parse(text).unwrap();
        assert_eq!(
            document.to_string(),
            r#"{"a": 1, "b": 2.5, "c": "x", "d": [true, false, true], "e": {"f": -3}}"#
        );
        assert_eq!(document.to_json().to_string(), text);
    }

    #[test]
    fn case_26_an_array_is_a_list_and_a_set_says_that_it_is_one() {
        let text = r#"{"players":["zoe","ann"],"pos":[3,1,1]}"#;
        let document = parse(text).unwrap();
        assert_eq!(document.to_json().to_string(), text);
        assert_eq!(document.get("pos").unwrap().kind, Kind::from(List::from([3, 1, 1])));
        let set = parse(r#"{"tags":{"/":{"set":["zoe","ann","zoe"]}}}"#).unwrap();
        assert_eq!(set, Dict::from([("tags", Set::from(["ann", "zoe"]))]));
        assert_eq!(set.to_json().to_string(), r#"{"tags":{"/":{"set":["ann","zoe"]}}}"#);
        assert_eq!(set.to_string(), r#"{"tags": set["ann", "zoe"]}"#);
    }

    #[test]
    fn what_is_not_a_node_is_named() {
        assert_eq!(parse(r#"{"a":null}"#), Err(JsonError::Null));
        assert_eq!(parse("[]"), Err(JsonError::NotADict));
        assert!(matches!(parse("{"), Err(JsonError::Syntax(_))));
        assert!(matches!(parse("{} {}"), Err(JsonError::Syntax(_))));
        for (escape, name) in [
            (r#"{"a":{"/":{"bytes":"AA"},"b":1}}"#, "b"),
            (r#"{"a":{"/":{"unheard":1}}}"#, "unheard"),
            (
                r#"{"a":{"/":{"predicate":{"tag":"t","positional":[],"named":{},"more":1}}}}"#,
                "more",
            ),
        ] {
            assert_eq!(parse(escape), Err(JsonError::UnknownEscape(name.into())), "{escape}");
        }
        for escape in [
            r#"{"a":{"/":1}}"#,
            r#"{"a":{"/":{}}}"#,
            r#"{"a":{"/":{"bytes":"AA","float":"inf"}}}"#,
            r#"{"a":{"/":"not a cid"}}"#,
            r#"{"a":{"/":"bafkqaaaaaaaaa"}}"#,
            r#"{"a":{"/":{"bytes":"%"}}}"#,
            r#"{"a":{"/":{"float":"1"}}}"#,
            r#"{"a":{"/":{"set":1}}}"#,
            r#"{"a":{"/":{"set":{"k":1}}}}"#,
            r#"{"a":{"/":{"dict":[[1]]}}}"#,
            r#"{"a":{"/":{"dict":[[1,2,3]]}}}"#,
            r#"{"a":{"/":{"dict":{}}}}"#,
            r#"{"a":{"/":{"predicate":{"tag":"t"}}}}"#,
            r#"{"a":{"/":{"predicate":{"tag":1,"positional":[],"named":{}}}}}"#,
            r#"{"a":{"/":{"predicate":{"tag":"t","positional":[],"named":[]}}}}"#,
            r#"{"a":{"/":{"opaque":""}}}"#,
        ] {
            assert!(matches!(parse(escape), Err(JsonError::InvalidEscape(_))), "{escape}");
        }
    }

    #[test]
    fn case_13_a_link_is_no_path_and_no_address() {
        for link in ["/ipfs/bafkqaaa", "https://a.example/ipfs/bafkqaaa"] {
            let escape = format!(r#"{{"a":{{"/":"{link}"}}}}"#);
            assert!(matches!(parse(&escape), Err(JsonError::InvalidEscape(_))), "{escape}");
        }
    }

    #[test]
    fn case_11_a_key_that_stands_twice_is_refused_wherever_it_stands() {
        let twice = |key: Kind| Err(JsonError::DuplicateKey(key));
        for (text, key) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"x":{"a":1,"b":2,"a":2}}"#, "a"),
            (r#"{"x":[1,{"\u0061":1,"a":2}]}"#, "a"),
            (r#"{"/":{"dict":[]},"/":{"dict":[]}}"#, "/"),
            (r#"{"x":{"/":{"bytes":"AA","bytes":"AB"}}}"#, "bytes"),
            (r#"{"x":{"/":{"set":[{"a":1,"a":2}]}}}"#, "a"),
            (
                r#"{"x":{"/":{"predicate":{"tag":"t","tag":"t","positional":[],"named":{}}}}}"#,
                "tag",
            ),
            (r#"{"x":{"/":{"predicate":{"tag":"t","positional":[],"named":{"a":1,"a":2}}}}}"#, "a"),
            (r#"{"/":{"dict":[["a",1],["a",2]]}}"#, "a"),
        ] {
            assert_eq!(parse(text), twice(key.into()), "{text}");
        }
        assert_eq!(parse(r#"{"x":{"/":{"dict":[[7,1],[8,2],[7,1]]}}}"#), twice(7.into()));
        let list = List::from([1, 2]).into();
        assert_eq!(parse(r#"{"/":{"dict":[[[1,2],1],[[2,1],1],[[1,2],1]]}}"#), twice(list));
        let text = parse(r#"{"a\u001b":1,"a\u001b":2}"#).unwrap_err().to_string();
        assert_eq!(text, r#"the key "a\u{1b}" stands twice in a Dict"#);
    }

    #[test]
    fn case_11_an_integer_stays_an_integer_or_is_refused() {
        for number in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "-0"]
        {
            let wide = || Err(JsonError::IntOutOfRange(number.into()));
            assert_eq!(parse(&format!(r#"{{"a":{number}}}"#)), wide());
            assert_eq!(parse(&format!(r#"{{"a":["1\\",1.5,{{"9\"":{number}}}]}}"#)), wide());
        }
        let text =
            r#"{"99999999999999999999\"99999999999999999999":[1e30,-9223372036854775808,1.0,0]}"#;
        let node = parse(text).unwrap();
        assert!(node.to_string().ends_with("[1e30, -9223372036854775808, 1.0, 0]}"), "{node}");
    }

    #[test]
    fn depth_is_bounded_whoever_has_read_the_text() {
        let deep = |depth: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&deep(MAX_DEPTH - 2)).is_ok());
        assert_eq!(parse(&deep(MAX_DEPTH - 1)), Err(JsonError::TooDeep { max: MAX_DEPTH }));
        for depth in [200, 100_000] {
            assert!(matches!(parse(&deep(depth)), Err(JsonError::Syntax(_))), "{depth}");
        }
        let nest: [fn(Value) -> Value; 4] = [
            |inner| json!([inner]),
            |inner| json!({ "k": inner }),
            |inner| escaped("set", json!([inner])),
            |inner| json!({ ESCAPE: inner }),
        ];
        for nest in nest {
            let value = (0..200).fold(json!(1), |inner, _| nest(inner));
            assert!(Node::from_json(&value).is_err());
        }
    }
}
