//! The document model: a tree of typed nodes, each with an optional lifetime of its own.
//!
//! A *document* is the content of one update: a tree whose root is a [`Dict`]. Its nodes are those
//! of libp2p's Go smart records, and Bool, Int, Float and Link:
//!
//! | kind | holds |
//! |---|---|
//! | Bool, Int, Float, String, Bytes, Link | a value: `bool`, `i64`, `f64` except NaN, text, bytes, a CID |
//! | [`List`] | a sequence of nodes, in the order given |
//! | [`Set`] | a set of nodes |
//! | [`Dict`] | pairs of a key, which may be of any kind, and a node |
//! | [`Predicate`] | `tag(positional…; named…)`, a statement about something |
//! | [`Opaque`] | a node of a kind that this version does not know, kept verbatim |
//!
//! **Invariants.** Nodes are totally ordered ([`Ord`]): by *content*, which excludes lifetimes,
//! then by lifetimes. A Set and the positional part of a Predicate hold no two nodes of the same
//! content. The keys of a Dict carry no lifetimes. A node has one canonical encoding ([`codec`]).
//! Two nodes are equal if and only if their encodings are equal.
//!
//! **Spec.** [go-smart-record `xr`](https://github.com/libp2p/go-smart-record/tree/main/ir);
//! merging and viewing: `docs/design.md`, section "View".

pub mod codec;
mod dict;
mod display;
mod elements;
mod getters;
mod ipld;
mod json;
mod limits;
mod merge;
mod order;
mod path;
mod predicate;
mod serde;

use cid::Cid;

pub(crate) use self::merge::{merge_documents, resolve_document, visible_document};
pub use self::{
    dict::Dict,
    elements::{List, Set},
    ipld::IpldError,
    json::JsonError,
    limits::{DocumentLimits, NodeError},
    order::Float,
    path::{Path, PathError},
    predicate::Predicate,
    serde::SerdeError,
};
use crate::time::Timestamp;

/// The most levels of nodes read from JSON or IPLD data, including the root. It bounds the stack
/// that reading takes. [`DocumentLimits::depth`] bounds documents and is lower by default.
const MAX_DEPTH: usize = 64;

/// A node of a document: its content and its lifetime.
///
/// ```
/// use smart_record_core::{Dict, Node, Timestamp};
///
/// let mut document = Dict::new();
/// document.insert("name", "lobby");
/// document.insert("here", Node::from(true).expires_at(Timestamp::from_millis(60_000)));
/// assert_eq!(document.to_string(), r#"{"here": true, "name": "lobby"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The kind and content.
    pub kind: Kind,
    /// When the node expires, in Unix milliseconds. `None`: it expires with its parent, and the
    /// root with its update. A node never outlives its parent: a later time counts as the parent's.
    pub expires_at: Option<Timestamp>,
}

/// The kind and content of a node.
///
/// Kinds added by later versions are [`Opaque`] to this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// True or false.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// A 64-bit float, not NaN.
    Float(Float),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A content identifier.
    Link(Cid),
    /// A set of nodes.
    Set(Set),
    /// A map from keys to nodes.
    Dict(Dict),
    /// A tagged statement.
    Predicate(Predicate),
    /// A sequence of nodes.
    List(List),
    /// A kind that this version does not know.
    Opaque(Opaque),
}

/// The encoding of a node of a kind that this version does not know. It is stored, passed on and
/// compared, never parsed. Only decoding creates it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opaque(Vec<u8>);

impl Opaque {
    /// The node with these bytes, if they encode a node of a kind that this version does not know.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        codec::is_unknown_kind(&bytes).then_some(Self(bytes))
    }

    /// The encoded node without its lifetime.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Node {
    /// A node that expires with its parent.
    pub fn new(kind: impl Into<Kind>) -> Self {
        Self { kind: kind.into(), expires_at: None }
    }

    /// The same node with a lifetime of its own. It ends at `at`, or with its parent if that is
    /// earlier.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }
}

impl<K: Into<Kind>> From<K> for Node {
    fn from(kind: K) -> Self {
        Self::new(kind)
    }
}

macro_rules! kind_from {
    ($($from:ty => $to:expr),* $(,)?) => {
        $(impl From<$from> for Kind {
            fn from(value: $from) -> Self {
                $to(value)
            }
        })*
    };
}

kind_from! {
    bool => Kind::Bool,
    i64 => Kind::Int,
    i32 => |v| Kind::Int(i64::from(v)),
    u32 => |v| Kind::Int(i64::from(v)),
    Float => Kind::Float,
    &str => |v: &str| Kind::String(v.to_owned()),
    &String => |v: &String| Kind::String(v.clone()),
    String => Kind::String,
    Vec<u8> => Kind::Bytes,
    &[u8] => |v: &[u8]| Kind::Bytes(v.to_vec()),
    Cid => Kind::Link,
    Set => Kind::Set,
    Dict => Kind::Dict,
    Predicate => Kind::Predicate,
    List => Kind::List,
    Opaque => Kind::Opaque,
}

impl Kind {
    /// The kind's name: `"Bool"`, `"Int"`, …
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "Bool",
            Self::Int(_) => "Int",
            Self::Float(_) => "Float",
            Self::String(_) => "String",
            Self::Bytes(_) => "Bytes",
            Self::Link(_) => "Link",
            Self::Set(_) => "Set",
            Self::Dict(_) => "Dict",
            Self::Predicate(_) => "Predicate",
            Self::List(_) => "List",
            Self::Opaque(_) => "Opaque",
        }
    }

    /// The child nodes: the elements of a List or a Set, the values of a Dict, or the arguments of
    /// a Predicate, positional ones first. Keys and names are not included.
    pub fn children(&self) -> impl Iterator<Item = &Node> {
        let (elements, dict): (&[Node], _) = match self {
            Self::List(list) => (&list.elements, None),
            Self::Set(set) => (&set.elements, None),
            Self::Dict(dict) => (&[], Some(dict)),
            Self::Predicate(predicate) => (&predicate.positional.elements, Some(&predicate.named)),
            _ => (&[], None),
        };
        elements.iter().chain(dict.into_iter().flat_map(|dict| dict.pairs.values()))
    }

    /// The [`children`](Self::children), to change their lifetimes. Their content must not change,
    /// because it is their position in a Set.
    fn children_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let (elements, dict): (&mut [Node], _) = match self {
            Self::List(list) => (&mut list.elements, None),
            Self::Set(set) => (&mut set.elements, None),
            Self::Dict(dict) => (&mut [], Some(dict)),
            Self::Predicate(predicate) => {
                (&mut predicate.positional.elements, Some(&mut predicate.named))
            }
            _ => (&mut [], None),
        };
        elements.iter_mut().chain(dict.into_iter().flat_map(|dict| dict.pairs.values_mut()))
    }

    /// The same kind, with each child replaced or removed.
    pub(crate) fn filter_map(self, mut change: impl FnMut(Node) -> Option<Node>) -> Self {
        match self {
            Self::List(list) => Self::List(list.into_iter().filter_map(change).collect()),
            Self::Set(set) => Self::Set(set.into_iter().filter_map(change).collect()),
            Self::Dict(dict) => Self::Dict(dict.filter_map(change)),
            Self::Predicate(Predicate { tag, positional, named }) => {
                let positional = positional.into_iter().filter_map(&mut change).collect();
                Self::Predicate(Predicate { tag, positional, named: named.filter_map(change) })
            }
            leaf => leaf,
        }
    }

    /// The same content without any lifetime.
    #[must_use]
    pub fn without_lifetimes(self) -> Self {
        self.filter_map(|node| Some(Node::new(node.kind.without_lifetimes())))
    }
}
