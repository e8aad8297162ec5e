//! Paths into documents.
//!
//! **Invariants.** The text of a path parses to the same path. Selecting never fails: a path
//! without a match selects nothing.
//!
//! **Spec.** Segments are separated by `/`. A segment is a name, `*`, or `tag()`.

use std::{fmt, str::FromStr};

use super::{Dict, Kind, Node};

/// A path into a document, which selects nodes.
///
/// | segment | selects |
/// |---|---|
/// | `name` | the value under this String in a Dict, or the argument of this name in a Predicate |
/// | `0`, `1`, … | the element at this index of a List; in other kinds it is a name |
/// | `*` | every value of a Dict, element of a List or a Set, or argument of a Predicate |
/// | `tag()` | the node itself if it is a Predicate with this tag, or such elements of a List or a Set |
///
/// ```
/// use smart_record_core::{Dict, Path};
///
/// let document: Dict = r#"{"room": {"name": "lobby", "seats": [4, 2]}}"#.parse()?;
/// let path: Path = "room/seats/*".parse()?;
/// let seats: Vec<_> = document.select(&path).map(ToString::to_string).collect();
/// assert_eq!(seats, ["4", "2"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Name(String),
    Every,
    Tag(String),
}

/// A text that is not a path: one of its segments is empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a path: a segment is empty")]
pub struct PathError(String);

impl FromStr for Path {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        let segment = |segment: &str| match segment {
            "" | "()" => Err(PathError(path.to_owned())),
            "*" => Ok(Segment::Every),
            segment => Ok(match segment.strip_suffix("()") {
                Some(tag) => Segment::Tag(tag.to_owned()),
                None => Segment::Name(segment.to_owned()),
            }),
        };
        path.split('/').map(segment).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "/" })?;
            match segment {
                Segment::Name(name) => f.write_str(name)?,
                Segment::Every => f.write_str("*")?,
                Segment::Tag(tag) => write!(f, "{tag}()")?,
            }
        }
        Ok(())
    }
}

impl Dict {
    /// The nodes at `path`, in their order.
    pub fn select(&self, path: &Path) -> impl Iterator<Item = &Node> {
        let mut segments = path.0.iter();
        let mut selected = Vec::new();
        match segments.next() {
            Some(Segment::Name(name)) => selected.extend(self.get(name.as_str())),
            Some(Segment::Every) => selected.extend(self.iter().map(|(_, node)| node)),
            // A document is not a Predicate.
            Some(Segment::Tag(_)) | None => {}
        }
        for segment in segments {
            selected = selected.into_iter().flat_map(|node| segment.of(node)).collect();
        }
        selected.into_iter()
    }
}

impl Segment {
    fn of<'a>(&self, node: &'a Node) -> Vec<&'a Node> {
        match (self, &node.kind) {
            (Self::Name(name), Kind::Dict(dict)) => dict.get(name.as_str()).into_iter().collect(),
            (Self::Name(name), Kind::Predicate(predicate)) => {
                predicate.named.get(name.as_str()).into_iter().collect()
            }
            (Self::Name(name), Kind::List(list)) => {
                // An index has one form: no sign, no leading zeros.
                let index = name.parse::<usize>().ok().filter(|index| index.to_string() == *name);
                index.and_then(|index| list.get(index)).into_iter().collect()
            }
            (Self::Name(_), _) => Vec::new(),
            (Self::Every, kind) => kind.children().collect(),
            (Self::Tag(tag), kind) => {
                let is_tagged = |node: &&Node| matches!(&node.kind, Kind::Predicate(predicate) if predicate.tag == *tag);
                match kind {
                    Kind::List(_) | Kind::Set(_) => kind.children().filter(is_tagged).collect(),
                    _ => Some(node).into_iter().filter(is_tagged).collect(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{List, Predicate, Set};

    fn select(document: &Dict, path: &str) -> Vec<String> {
        let path: Path = path.parse().unwrap();
        document.select(&path).map(ToString::to_string).collect()
    }

    #[test]
    fn each_segment_selects_what_it_says() {
        let dialable = Predicate::new("dialable").with_named("address", "/ip4/1.2.3.4");
        let other = Predicate::new("other").with(7).with_named("n", 8);
        let services = Set::from([dialable.clone().into(), other.into(), Node::from(List::new())]);
        let mut document: Dict = r#"{"a": {"b": 1, "c": [3, 2, 2], "0": 4}}"#.parse().unwrap();
        document.insert("list", services.iter().rev().cloned().collect::<List>());
        document.insert("services", services);
        document.insert("service", dialable);
        for (path, selected) in [
            ("a/b", vec!["1"]),
            ("a/c/*", vec!["3", "2", "2"]),
            ("a/c/0", vec!["3"]),
            ("a/c/2", vec!["2"]),
            ("a/c/3", vec![]),
            ("a/c/-1", vec![]),
            ("a/c/+1", vec![]),
            ("a/c/01", vec![]),
            ("a/c/b", vec![]),
            ("a/0", vec!["4"]),
            ("services/0", vec![]),
            ("a/x", vec![]),
            ("x", vec![]),
            ("a/b/c", vec![]),
            ("*/b", vec!["1"]),
            ("services/dialable()/address", vec![r#""/ip4/1.2.3.4""#]),
            ("service/dialable()/address", vec![r#""/ip4/1.2.3.4""#]),
            ("service/other()", vec![]),
            ("services/other()/*", vec!["7", "8"]),
            ("list/other()/*", vec!["7", "8"]),
            ("list/2/dialable()/address", vec![r#""/ip4/1.2.3.4""#]),
            ("dialable()", vec![]),
        ] {
            assert_eq!(select(&document, path), selected, "{path}");
        }
    }

    #[test]
    fn a_path_reads_back_and_an_empty_segment_is_refused() {
        for path in ["a", "a/b", "*", "a/*/tag()/x"] {
            assert_eq!(path.parse::<Path>().unwrap().to_string(), path);
        }
        for path in ["", "/a", "a/", "a//b", "()", "a/()"] {
            assert_eq!(path.parse::<Path>(), Err(PathError(path.to_owned())));
        }
    }
}
