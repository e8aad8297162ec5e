//! Parser for unambiguous JSON text.
//!
//! **Invariants.** Text that parsers read differently is refused: an object with a duplicate key,
//! and an integer that would become a float, `-0` included.
//!
//! **Spec.** [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259), sections 4 and 6.

use std::{cell::Cell, fmt, ops::RangeInclusive};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::text::printable;

/// Why a text is not JSON that all parsers read alike.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonTextError {
    #[error("not JSON: {}", printable(.0))]
    Syntax(String),
    #[error("the key {0:?} stands twice in an object")]
    DuplicateKey(String),
    #[error("{0} is not an integer of 64 bits")]
    IntOutOfRange(String),
}

/// Parses a JSON text with integers in `range`, which lies within `i64::MIN` to `u64::MAX`.
pub(crate) fn parse(text: &str, range: &RangeInclusive<i128>) -> Result<Value, JsonTextError> {
    let duplicate = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Unique(&duplicate)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| match duplicate.take() {
            Some(key) => JsonTextError::DuplicateKey(key),
            None => JsonTextError::Syntax(error.to_string()),
        })?;
    match refused_integer(text, range) {
        Some(number) => Err(JsonTextError::IntOutOfRange(number.to_owned())),
        None => Ok(value),
    }
}

/// Reads a value, and records a duplicate key in an object.
#[derive(Clone, Copy)]
struct Unique<'a>(&'a Cell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                self.0.set(Some(key));
                return Err(A::Error::custom("a key stands twice in an object"));
            }
            object.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

/// The first integer in a JSON text that is out of range, or `-0`. `serde_json` would convert it to
/// a float.
fn refused_integer<'a>(json: &'a str, range: &RangeInclusive<i128>) -> Option<&'a str> {
    let mut rest = json;
    loop {
        let at = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
        let token = rest.get(at..)?;
        rest = if let Some(string) = token.strip_prefix('"') {
            after_string(string)?
        } else {
            let is_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
            let end = token.find(|c| !is_of_number(c)).unwrap_or(token.len());
            let (number, rest) = token.split_at_checked(end)?;
            let is_read =
                |number: i128| range.contains(&number) && (number != 0 || token.starts_with('0'));
            if !number.contains(['.', 'e', 'E']) && !number.parse().is_ok_and(is_read) {
                return Some(number);
            }
            rest
        };
    }
}

/// The text after a JSON string. `json` begins after the opening quote.
fn after_string(json: &str) -> Option<&str> {
    let mut rest = json;
    loop {
        let (_, end) = rest.split_at_checked(rest.find(['"', '\\'])?)?;
        if let Some(rest) = end.strip_prefix('"') {
            return Some(rest);
        }
        // Skips a backslash and the escaped character. The digits of a `\u` are skipped as plain
        // text.
        rest = end.get(2..)?;
    }
}
