//! Conversion between documents and Rust types through serde.
//!
//! | Rust | node |
//! |---|---|
//! | `bool`, integers, floats, `char` and text, bytes, [`Cid`](cid::Cid) | Bool, Int, Float, String, Bytes, Link |
//! | struct, map | Dict; the keys of a map may be of any kind |
//! | sequence, tuple | List; a Set is read as a sequence as well |
//! | `Some(x)`, newtype struct | as the inner value |
//! | `None` | the field or key is left out; an absent field is read as `None` |
//! | enum | `"Variant"`, or `{"Variant": content}` |
//!
//! Types with a human-readable and a binary form in serde use the human-readable form, as in JSON.
//! `Vec<u8>` is a sequence for serde; with `#[serde(with = "serde_bytes")]` it is bytes.
//!
//! **Invariants.** A document made from a value gives the same value, except that `Some(None)`
//! becomes `None`, and a map loses the keys whose value is `None`. A value without a document form
//! is an error: nothing is rounded, truncated or converted.
//!
//! **Spec.** [serde's data model](https://serde.rs/data-model.html). The conversion does not go
//! through `Ipld`, whose maps have only text keys, or through JSON, which has no bytes.

mod de;
mod ser;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::{de::FromKind, ser::ToKind};
use super::{Dict, Kind};
use crate::text::printable;

/// Why a value cannot be converted to a document, or a document to a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerdeError {
    /// An integer does not fit into 64 signed bits.
    #[error("{0} does not fit into 64 signed bits")]
    OutOfRange(String),
    /// A float is NaN, which a document cannot hold.
    #[error("a float that is not a number")]
    NotANumber,
    /// The value has no document form at its place: `None` outside a field or a map value, or `()`.
    #[error("a document has no form for {0}")]
    NoForm(&'static str),
    /// A map has a duplicate key.
    #[error("the key {0} stands twice in a map")]
    DuplicateKey(Kind),
    /// The root value is not a struct or a map.
    #[error("a document must be a struct or a map")]
    NotADict,
    /// A node of this kind cannot be deserialized.
    #[error("a node of kind {0} is no value of a Rust type")]
    UnsupportedKind(&'static str),
    /// An error of serde or of the type, such as a missing field.
    #[error("{}", printable(.0))]
    Message(String),
}

impl serde::ser::Error for SerdeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Message(message.to_string())
    }
}

impl serde::de::Error for SerdeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Message(message.to_string())
    }

    /// Quotes and escapes untrusted text.
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::Message(format!("unknown variant {variant:?}, expected one of {expected:?}"))
    }

    /// Quotes and escapes untrusted text.
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::Message(format!("unknown field {field:?}, expected one of {expected:?}"))
    }
}

impl Dict {
    /// Serializes a struct or a map to a document.
    ///
    /// Sequences become Lists, which are replaced as a whole when documents merge. `None` is left
    /// out, so it overwrites nothing.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use smart_record_core::{Dict, SerdeError};
    ///
    /// #[derive(Serialize, Deserialize, Debug, PartialEq)]
    /// struct Server {
    ///     name: String,
    ///     players: Vec<String>,
    ///     map: Option<String>,
    /// }
    ///
    /// let server = Server { name: "lobby".into(), players: vec!["zoe".into(), "ann".into()], map: None };
    /// let document = Dict::from_serialize(&server)?;
    /// assert_eq!(document.to_string(), r#"{"name": "lobby", "players": ["zoe", "ann"]}"#);
    /// assert_eq!(document.deserialize::<Server>()?, server);
    /// # Ok::<(), SerdeError>(())
    /// ```
    ///
    /// A field that is `None` is left out. A document that is merged into another one, as
    /// `Client::publish` and `KeepHandle::update` do, does not remove what it leaves out.
    ///
    /// # Errors
    /// [`SerdeError`] for an integer outside of 64 signed bits, NaN, `()`, `None` in a sequence, as
    /// a key or in a variant of an enum, a duplicate key, and a value that is neither a struct nor
    /// a map.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self, SerdeError> {
        match value.serialize(ToKind)? {
            Some(Kind::Dict(dict)) => Ok(dict),
            _ => Err(SerdeError::NotADict),
        }
    }

    /// Deserializes the document to a value. Lifetimes are ignored.
    ///
    /// Unknown keys are ignored unless the struct has `#[serde(deny_unknown_fields)]`, because a
    /// newer version may have written the document.
    ///
    /// # Errors
    /// [`SerdeError`] if a field is missing or has another type, a number is out of range, or a
    /// node is a Predicate or of an unknown kind, which no type can be read from.
    pub fn deserialize<'de, T: Deserialize<'de>>(&'de self) -> Result<T, SerdeError> {
        T::deserialize(FromKind::Dict(self))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use cid::Cid;
    use proptest::{collection, option, prelude::*};

    use super::*;
    use crate::node::{List, Node, Predicate, Set};

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Server {
        name: String,
        is_open: bool,
        load: f32,
        map: Option<String>,
        players: Vec<Player>,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        link: Cid,
        by_number: BTreeMap<u16, Mode>,
        by_place: BTreeMap<(i8, char), Option<i64>>,
        pair: Option<(u64, Wrapper)>,
    }

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Player {
        name: String,
        points: i64,
        #[serde(flatten)]
        more: BTreeMap<String, u8>,
    }

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Wrapper(f64);

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    enum Mode {
        Idle,
        Lasting(u32),
        Between(i64, String),
        Named { name: String, next: Option<Box<Mode>> },
    }

    fn mode() -> impl Strategy<Value = Mode> {
        let leaf = prop_oneof![
            Just(Mode::Idle),
            any::<u32>().prop_map(Mode::Lasting),
            (any::<i64>(), any::<String>()).prop_map(|(n, text)| Mode::Between(n, text)),
        ];
        leaf.prop_recursive(3, 3, 1, |next| {
            (any::<String>(), option::of(next))
                .prop_map(|(name, next)| Mode::Named { name, next: next.map(Box::new) })
        })
    }

    fn player() -> impl Strategy<Value = Player> {
        let more = collection::btree_map("[c-e]{1,2}", any::<u8>(), 0..3);
        (any::<String>(), any::<i64>(), more).prop_map(|(name, points, more)| Player {
            name,
            points,
            more,
        })
    }

    fn server() -> impl Strategy<Value = Server> {
        let link: Cid = "bafkqaddimvwgy3zao5xxe3debi".parse().unwrap();
        let number = || (-1e30..1e30_f64).prop_map(Wrapper);
        (
            (any::<String>(), any::<bool>(), -1e30..1e30_f32, option::of(any::<String>())),
            (collection::vec(player(), 0..3), any::<Vec<u8>>()),
            collection::btree_map(any::<u16>(), mode(), 0..3),
            collection::btree_map(any::<(i8, char)>(), any::<i64>().prop_map(Some), 0..3),
            option::of((0..=i64::MAX as u64, number())),
        )
            .prop_map(
                move |((name, is_open, load, map), (players, key), by_number, by_place, pair)| {
                    Server {
                        name,
                        is_open,
                        load,
                        map,
                        players,
                        key,
                        link,
                        by_number,
                        by_place,
                        pair,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_was_made_of_a_value_gives_it_back(server in server()) {
            let document = Dict::from_serialize(&server).unwrap();
            prop_assert_eq!(document.deserialize::<Server>(), Ok(server.clone()));
            // Also if the root is not a struct itself.
            let named = Mode::Named { name: server.name, next: None };
            let document = Dict::from_serialize(&Some(&named)).unwrap();
            prop_assert_eq!(document.deserialize::<Option<Mode>>(), Ok(Some(named)));
        }
    }

    fn made(value: impl Serialize) -> Result<String, SerdeError> {
        Dict::from_serialize(&BTreeMap::from([("k", value)])).map(|document| document.to_string())
    }

    fn read<'a, T: Deserialize<'a>>(document: &'a Dict) -> Result<T, SerdeError> {
        document.deserialize::<BTreeMap<String, T>>().map(|mut map| map.remove("k").unwrap())
    }

    #[test]
    fn each_value_has_its_form() {
        assert_eq!(made([3, 1, 1]).unwrap(), r#"{"k": [3, 1, 1]}"#);
        assert_eq!(made(serde_bytes::Bytes::new(&[1, 255])).unwrap(), r#"{"k": 0x01ff}"#);
        assert_eq!(made(None::<u8>).unwrap(), "{}");
        assert_eq!(made(Mode::Idle).unwrap(), r#"{"k": "Idle"}"#);
        assert_eq!(made(Mode::Lasting(5)).unwrap(), r#"{"k": {"Lasting": 5}}"#);
        assert_eq!(made(Mode::Between(5, "x".into())).unwrap(), r#"{"k": {"Between": [5, "x"]}}"#);
        let named = Mode::Named { name: "x".into(), next: None };
        assert_eq!(made(named).unwrap(), r#"{"k": {"Named": {"name": "x"}}}"#);
        assert_eq!(made(BTreeMap::from([(7_u8, true)])).unwrap(), r#"{"k": {7: true}}"#);
        let cid: Cid = "bafkqaddimvwgy3zao5xxe3debi".parse().unwrap();
        let document = Dict::from_serialize(&BTreeMap::from([("k", cid)])).unwrap();
        assert_eq!(document.get("k").and_then(Node::as_link), Some(&cid));
    }

    #[test]
    fn what_a_document_has_no_form_for_is_an_error() {
        assert_eq!(made(u64::MAX), Err(SerdeError::OutOfRange(u64::MAX.to_string())));
        assert_eq!(made(i128::MIN), Err(SerdeError::OutOfRange(i128::MIN.to_string())));
        assert_eq!(made(f64::NAN), Err(SerdeError::NotANumber));
        assert_eq!(made(()), Err(SerdeError::NoForm("()")));
        assert_eq!(made([Some(1), None]), Err(SerdeError::NoForm("None in a sequence")));
        let no_key = BTreeMap::from([(None::<u8>, 1)]);
        assert_eq!(made(no_key), Err(SerdeError::NoForm("None as a key")));
        let variant: Result<Option<u8>, u8> = Ok(None);
        assert_eq!(made(variant), Err(SerdeError::NoForm("None in a variant")));
        assert_eq!(Dict::from_serialize(&[1]), Err(SerdeError::NotADict));
        assert_eq!(Dict::from_serialize(&None::<Server>), Err(SerdeError::NotADict));
        let more = BTreeMap::from([("name".to_owned(), 1)]);
        let twice = Player { name: "x".into(), points: 1, more };
        assert_eq!(made(twice), Err(SerdeError::DuplicateKey("name".into())));
    }

    #[test]
    fn a_set_is_read_as_a_sequence_and_an_int_as_a_float() {
        let document = Dict::from([("k", Set::from([3, 1, 1]))]);
        assert_eq!(read::<Vec<u8>>(&document), Ok(vec![1, 3]));
        assert_eq!(read::<BTreeSet<i64>>(&document), Ok(BTreeSet::from([1, 3])));
        assert_eq!(read::<f64>(&Dict::from([("k", 5)])), Ok(5.0));
        assert_eq!(read::<&str>(&Dict::from([("k", "lent")])), Ok("lent"));
    }

    #[test]
    fn what_is_not_a_value_of_the_type_is_an_error() {
        fn fails<T: for<'a> Deserialize<'a> + fmt::Debug>(node: impl Into<Node>, error: &str) {
            let document = Dict::from([("k", node)]);
            assert_eq!(read::<T>(&document).unwrap_err().to_string(), error);
        }
        fails::<u8>(256, "invalid value: integer `256`, expected u8");
        fails::<u64>(-1, "invalid value: integer `-1`, expected u64");
        fails::<String>(1, "invalid type: integer `1`, expected a string");
        fails::<(u8, u8)>(
            List::from([1, 2, 3]),
            "invalid length 3, expected 2 elements in sequence",
        );
        fails::<Player>(Dict::from([("name", "x")]), "missing field `points`");
        fails::<Mode>(
            "\u{1b}[2J",
            r#"unknown variant "\u{1b}[2J", expected one of ["Idle", "Lasting", "Between", "Named"]"#,
        );
        let form = "invalid type: a node of another form, expected a String or a Dict of one pair";
        fails::<Mode>(1, form);
        fails::<Mode>(Dict::from([("Lasting", 1), ("Idle", 1)]), form);
        fails::<Cid>("text", "invalid type: a node of another kind, expected a Link");
        let predicate = Predicate::new("t");
        fails::<String>(predicate.clone(), "a node of kind Predicate is no value of a Rust type");
        // It is ignored if the type does not read it.
        let pairs = [
            (Kind::from("name"), Node::from("x")),
            ("p".into(), predicate.into()),
            (7.into(), 1.into()),
        ];
        let document = Dict::from(pairs);
        #[derive(Deserialize, Debug, PartialEq)]
        struct Named {
            name: String,
        }
        assert_eq!(document.deserialize(), Ok(Named { name: "x".into() }));
        #[derive(Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Strict {
            #[expect(dead_code, reason = "it is never read")]
            name: String,
        }
        let error = document.deserialize::<Strict>().unwrap_err().to_string();
        assert_eq!(
            error,
            r#"unknown field "a key that is not a String", expected one of ["name"]"#
        );
    }
}
