//! Decoder for DAG-JSON from untrusted sources.
//!
//! **Invariants.** Text that implementations read differently is refused: a duplicate key in a map,
//! an integer that would become a float, a link with text around its CID, and a map with the key
//! `"/"` that is neither a link nor bytes. Depth is bounded by the JSON parser (128 levels).
//!
//! **Spec.** [DAG-JSON](https://ipld.io/specs/codecs/dag-json/spec/).

use cid::multibase::Base;
use ipld_core::ipld::Ipld;
use serde_json::{Map, Value};

use crate::{
    json_text::{self, JsonTextError},
    text::{parse_cid, printable},
};

/// The key that DAG-JSON reserves for links and bytes.
const RESERVED: &str = "/";

/// Why bytes are not DAG-JSON, or are ambiguous.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DagJsonError {
    /// The bytes are not JSON.
    #[error("not JSON: {}", printable(.0))]
    Syntax(String),
    /// A map has this duplicate key.
    #[error("the key {0:?} stands twice in a map")]
    DuplicateKey(String),
    /// An integer is below `i64::MIN` or above `u64::MAX`, or is `-0`, which some parsers read as
    /// a float.
    #[error("{0} is not an integer of 64 bits")]
    IntOutOfRange(String),
    /// A map with the key `"/"` does not have this form.
    #[error("expected {0}")]
    Expected(&'static str),
}

impl From<JsonTextError> for DagJsonError {
    fn from(error: JsonTextError) -> Self {
        match error {
            JsonTextError::Syntax(message) => Self::Syntax(message),
            JsonTextError::DuplicateKey(key) => Self::DuplicateKey(key),
            JsonTextError::IntOutOfRange(number) => Self::IntOutOfRange(number),
        }
    }
}

/// Decodes one value. Time and memory are proportional to the length of the input.
///
/// ```
/// use ipld_core::ipld::Ipld;
/// use smart_record_core::dag_json;
///
/// let list = dag_json::from_slice(br#"[1, {"/": {"bytes": "AQI"}}]"#);
/// assert_eq!(list, Ok(Ipld::List(vec![Ipld::Integer(1), Ipld::Bytes(vec![1, 2])])));
/// assert!(dag_json::from_slice(br#"{"a": 1, "a": 2}"#).is_err());
/// ```
///
/// # Errors
/// [`DagJsonError`] if the bytes are not exactly one value of DAG-JSON, or are ambiguous.
pub fn from_slice(bytes: &[u8]) -> Result<Ipld, DagJsonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| DagJsonError::Syntax(e.to_string()))?;
    data(json_text::parse(text, &(i64::MIN.into()..=u64::MAX.into()))?)
}

fn data(json: Value) -> Result<Ipld, DagJsonError> {
    Ok(match json {
        Value::Null => Ipld::Null,
        Value::Bool(v) => Ipld::Bool(v),
        Value::Number(v) => match (v.as_i64(), v.as_u64(), v.as_f64()) {
            (Some(v), _, _) => Ipld::Integer(v.into()),
            (_, Some(v), _) => Ipld::Integer(v.into()),
            (_, _, Some(v)) => Ipld::Float(v),
            (None, None, None) => return Err(DagJsonError::IntOutOfRange(v.to_string())),
        },
        Value::String(v) => Ipld::String(v),
        Value::Array(elements) => {
            Ipld::List(elements.into_iter().map(data).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => match fields.get(RESERVED) {
            Some(value) => reserved(&fields, value)?,
            None => {
                let field = |(name, value)| Ok((name, data(value)?));
                Ipld::Map(fields.into_iter().map(field).collect::<Result<_, DagJsonError>>()?)
            }
        },
    })
}

/// The link or the bytes that a map with the reserved key is.
fn reserved(fields: &Map<String, Value>, value: &Value) -> Result<Ipld, DagJsonError> {
    let data = match value {
        _ if fields.len() > 1 => Err(r#"no key beside "/""#),
        Value::String(cid) => parse_cid(cid).map(Ipld::Link).ok_or("a link: a CID"),
        Value::Object(inner) if inner.len() == 1 => inner
            .get("bytes")
            .and_then(Value::as_str)
            .and_then(|text| Base::Base64.decode(text).ok())
            .map(Ipld::Bytes)
            .ok_or("bytes: base64 without padding"),
        _ => Err(r#"{"/": "<cid>"} or {"/": {"bytes": "<base64>"}}"#),
    };
    data.map_err(DagJsonError::Expected)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dag_cbor::tests::any_data;

    fn read(text: &str) -> Result<Ipld, DagJsonError> {
        from_slice(text.as_bytes())
    }

    #[test]
    fn case_11_a_key_that_stands_twice_is_refused_and_an_integer_stays_one() {
        for (text, key) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"[{"x":{"\u0061":1,"a":1}}]"#, "a"),
            (r#"{"/":"bafkqaaa","/":"bafkqaaa"}"#, "/"),
            (r#"{"/":{"bytes":"AA","bytes":"AB"}}"#, "bytes"),
        ] {
            assert_eq!(read(text), Err(DagJsonError::DuplicateKey(key.into())), "{text}");
        }
        for number in ["18446744073709551616", "-9223372036854775809", "-0", "-00"] {
            let error = read(&format!(r#"{{"a":["\"",{number}]}}"#)).unwrap_err().to_string();
            assert!(error.contains(number) || number == "-00", "{error}");
        }
        for (number, integer) in [
            ("18446744073709551615", i128::from(u64::MAX)),
            ("-9223372036854775808", i64::MIN.into()),
            ("0", 0),
        ] {
            assert_eq!(read(number), Ok(Ipld::Integer(integer)));
        }
        assert_eq!(read("-0.0"), Ok(Ipld::Float(-0.0)));
        assert_eq!(read("1e300"), Ok(Ipld::Float(1e300)));
    }

    #[test]
    fn case_13_a_reserved_key_means_a_link_or_bytes_and_nothing_else() {
        let cid = parse_cid("bafkqaaa").unwrap();
        assert_eq!(read(r#"{"/":"bafkqaaa"}"#), Ok(Ipld::Link(cid)));
        assert_eq!(read(r#"{"/":{"bytes":""}}"#), Ok(Ipld::Bytes(Vec::new())));
        for text in [
            r#"{"/":"/ipfs/bafkqaaa"}"#,
            r#"{"/":"https://a.example/ipfs/bafkqaaa"}"#,
            r#"{"/":"bafkqaaaaaaaaa"}"#,
            r#"{"/":"bafkqaaa","a":1}"#,
            r#"{"!":1,"/":"bafkqaaa"}"#,
            r#"{"/":{"bytes":"AA","more":1}}"#,
            r#"{"/":{"bytes":"AA=="}}"#,
            r#"{"/":{"bytes":1}}"#,
            r#"{"/":{"int":"1"}}"#,
            r#"{"/":{}}"#,
            r#"{"/":1}"#,
            r#"{"/":null}"#,
        ] {
            assert!(matches!(read(text), Err(DagJsonError::Expected(_))), "{text}");
        }
        for text in ["", "1 2", "{", "\"\u{1}\"", r#""\ud800""#, "nul", "1e400"] {
            assert!(matches!(read(text), Err(DagJsonError::Syntax(_))), "{text}");
        }
        assert!(matches!(from_slice(b"\"\xff\""), Err(DagJsonError::Syntax(_))));
    }

    #[test]
    fn depth_is_bounded() {
        for deep in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000), r#"{"/":"#.repeat(100_000)] {
            assert!(matches!(read(&deep), Err(DagJsonError::Syntax(_))));
        }
    }

    proptest! {
        #[test]
        fn what_the_codec_writes_is_read_or_refused(data in any_data()) {
            let text = serde_ipld_dagjson::to_vec(&data).unwrap();
            if let Ok(read) = from_slice(&text) {
                prop_assert_eq!(read, data);
            }
        }
    }
}
