//! Getters by kind and by path.
//!
//! **Invariants.** Getters never fail. Their only conversion is from an Int to a float of the same
//! value.
//!
//! **Spec.** Paths: [`Path`].

use cid::Cid;

use super::{Dict, Kind, List, Node, Path, PathError, Predicate, Set};

/// The largest integer up to which a float represents every integer.
const MAX_EXACT: u64 = 1 << f64::MANTISSA_DIGITS;

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $content:pat => $value:expr;)*) => {
        impl Kind {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$type> {
                    match self {
                        $content => $value,
                        _ => None,
                    }
                }
            )*
        }

        impl Node {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<$type> {
                    self.kind.$name()
                }
            )*
        }
    };
}

getters! {
    /// The value of a Bool.
    as_bool: bool = Kind::Bool(value) => Some(*value);
    /// The value of an Int.
    as_i64: i64 = Kind::Int(value) => Some(*value);
    /// The value of a Float, or of an Int that a float represents exactly, because some JSON
    /// writers write `5` for `5.0`.
    as_f64: f64 = number @ (Kind::Float(_) | Kind::Int(_)) => number.to_f64();
    /// The text of a String.
    as_str: &str = Kind::String(text) => Some(text);
    /// The content of Bytes.
    as_bytes: &[u8] = Kind::Bytes(bytes) => Some(bytes);
    /// The CID of a Link.
    as_link: &Cid = Kind::Link(cid) => Some(cid);
    /// The List.
    as_list: &List = Kind::List(list) => Some(list);
    /// The Set.
    as_set: &Set = Kind::Set(set) => Some(set);
    /// The Dict.
    as_dict: &Dict = Kind::Dict(dict) => Some(dict);
    /// The Predicate.
    as_predicate: &Predicate = Kind::Predicate(predicate) => Some(predicate);
}

impl Kind {
    fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value.get()),
            Self::Int(value) => (value.unsigned_abs() <= MAX_EXACT).then_some(*value as f64),
            _ => None,
        }
    }
}

impl Dict {
    /// The first node at a path; `None` if there is none.
    ///
    /// ```
    /// use smart_record_core::{Dict, Node};
    ///
    /// let document: Dict = r#"{"players": [{"name": "zoe", "points": 3}]}"#.parse()?;
    /// let name = document.get_path("players/0/name")?.and_then(Node::as_str);
    /// assert_eq!(name, Some("zoe"));
    /// assert_eq!(document.get_path("players/1")?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PathError`] if the text is not a [`Path`]. To use a parsed path, call
    /// [`select`](Self::select).
    pub fn get_path(&self, path: &str) -> Result<Option<&Node>, PathError> {
        let path: Path = path.parse()?;
        Ok(self.select(&path).next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Float;

    #[test]
    fn a_getter_gives_what_is_of_its_kind_and_nothing_else() {
        let cid: Cid = "bafkqaddimvwgy3zao5xxe3debi".parse().unwrap();
        let nodes = [
            Node::from(true),
            5.into(),
            Float::new(0.5).unwrap().into(),
            "text".into(),
            vec![1_u8].into(),
            cid.into(),
            List::from([1]).into(),
            Set::from([1]).into(),
            Dict::from([("k", 1)]).into(),
            Predicate::new("t").into(),
        ];
        let got = |node: &Node| {
            [
                node.as_bool().is_some(),
                node.as_i64().is_some(),
                node.as_f64().is_some(),
                node.as_str().is_some(),
                node.as_bytes().is_some(),
                node.as_link().is_some(),
                node.as_list().is_some(),
                node.as_set().is_some(),
                node.as_dict().is_some(),
                node.as_predicate().is_some(),
            ]
        };
        for (at, node) in nodes.iter().enumerate() {
            let mut expected = [false; 10];
            expected[at] = true;
            expected[2] |= node.as_i64().is_some();
            assert_eq!(got(node), expected, "{node}");
        }
        assert_eq!(nodes[3].as_str(), Some("text"));
        assert_eq!(nodes[4].as_bytes(), Some(&[1][..]));
        assert_eq!(nodes[5].as_link(), Some(&cid));
    }

    #[test]
    fn an_int_is_a_float_where_that_is_the_same_number() {
        let exact = 1_i64 << 53;
        for (int, float) in [
            (0, Some(0.0)),
            (-7, Some(-7.0)),
            (exact, Some(9_007_199_254_740_992.0)),
            (-exact, Some(-9_007_199_254_740_992.0)),
            (exact + 1, None),
            (i64::MIN, None),
            (i64::MAX, None),
        ] {
            assert_eq!(Kind::from(int).as_f64(), float, "{int}");
        }
    }

    #[test]
    fn a_path_gets_the_first_node_and_a_text_that_is_none_is_an_error() {
        let document: Dict = r#"{"a": [7, {"b": 8}]}"#.parse().unwrap();
        let int = |path| document.get_path(path).map(|node| node.and_then(Node::as_i64));
        assert_eq!(int("a/0"), Ok(Some(7)));
        assert_eq!(int("a/*"), Ok(Some(7)));
        assert_eq!(int("a/1/b"), Ok(Some(8)));
        assert_eq!(int("a/1/c"), Ok(None));
        assert!(int("a//b").is_err());
    }
}
