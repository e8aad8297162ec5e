//! The document model: a tree of typed nodes, each with an optional lifetime of its own.
//!
//! A *document* is what one update carries: a tree whose root is a [`Dict`]. Its nodes are those of
//! libp2p's Go smart records, Bool, Int, Float and Link added:
//!
//! | kind | holds |
//! |---|---|
//! | Bool, Int, Float, String, Bytes, Link | a value: `bool`, `i64`, `f64` but never NaN, text, bytes, a CID |
//! | [`List`] | a set of nodes |
//! | [`Dict`] | pairs of a key, which may be of any kind, and a node |
//! | [`Predicate`] | `tag(positional…; named…)`, a statement about something |
//! | [`Opaque`] | a node of a kind that this version does not know, kept as it came |
//!
//! **Invariants.** Nodes are totally ordered ([`Ord`]), first by *content*, which leaves lifetimes out, then
//! by lifetimes. A List or the positional part of a Predicate holds no two nodes of the same content; the
//! keys of a Dict carry no lifetimes. There is one canonical encoding of a node ([`codec`]); two nodes are
//! equal exactly when their encodings are.
//!
//! **Spec.** [go-smart-record `xr`](https://github.com/libp2p/go-smart-record/tree/main/ir); merging and
//! viewing: `docs/design.md`, section "View".

pub mod codec;
mod display;
mod ipld;
mod json;
mod merge;
mod order;
mod path;

use std::collections::{BTreeMap, btree_map};

use cid::Cid;

pub(crate) use self::merge::{merge_documents, resolve_document, visible_document};
pub use self::{
    codec::{DocumentLimits, NodeError},
    ipld::IpldError,
    json::JsonError,
    order::Float,
    path::{Path, PathError},
};
use crate::time::Timestamp;

/// A piece of a document: what it is, and until when.
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
    /// What the node is.
    pub kind: Kind,
    /// When the node expires, in Unix milliseconds. `None`: with its parent, the root with its update. A
    /// node never outlives its parent, so a later time than the parent's counts as the parent's.
    pub expires_at: Option<Timestamp>,
}

/// What a node is: its kind and its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    List(List),
    /// Keys and nodes.
    Dict(Dict),
    /// A tagged statement.
    Predicate(Predicate),
    /// A kind that this version does not know.
    Opaque(Opaque),
}

/// A set of nodes, in ascending order; no two have the same content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct List {
    elements: Vec<Node>,
}

/// Pairs of a key and a node, in ascending order of keys.
///
/// A key may be of any kind. Lifetimes inside a key have no meaning and are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Dict {
    pairs: BTreeMap<Kind, Node>,
}

/// `tag(positional…; named…)`: a statement, such as `connectivity(; address="/ip4/…")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Predicate {
    /// What is stated. Predicates merge when their tags are equal.
    pub tag: String,
    /// Arguments without a name. They are a set: their order has no meaning and is not kept.
    pub positional: List,
    /// Arguments with a name, usually a String.
    pub named: Dict,
}

/// The encoding of a node of a kind that this version does not know: stored, passed on and compared, never
/// looked into. It comes from decoding only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opaque(Vec<u8>);

impl Opaque {
    /// The node of these bytes, if they are an encoded node of a kind that this version does not know.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        codec::is_unknown_kind(&bytes).then_some(Self(bytes))
    }

    /// The encoded node without its lifetime.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Node {
    /// A node that lives as long as its parent.
    pub fn new(kind: impl Into<Kind>) -> Self {
        Self { kind: kind.into(), expires_at: None }
    }

    /// The same node with a lifetime of its own, which ends at `at` or with the parent's if that is earlier.
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
    String => Kind::String,
    Vec<u8> => Kind::Bytes,
    &[u8] => |v: &[u8]| Kind::Bytes(v.to_vec()),
    Cid => Kind::Link,
    List => Kind::List,
    Dict => Kind::Dict,
    Predicate => Kind::Predicate,
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
            Self::List(_) => "List",
            Self::Dict(_) => "Dict",
            Self::Predicate(_) => "Predicate",
            Self::Opaque(_) => "Opaque",
        }
    }

    /// The same content without any lifetime.
    pub fn without_lifetimes(self) -> Self {
        let bare = |node: Node| Node::new(node.kind.without_lifetimes());
        match self {
            Self::List(list) => Self::List(list.into_iter().map(bare).collect()),
            Self::Dict(dict) => Self::Dict(dict.into_iter().map(|(k, v)| (k, bare(v))).collect()),
            Self::Predicate(predicate) => Self::Predicate(predicate.without_lifetimes()),
            leaf => leaf,
        }
    }
}

impl List {
    /// The empty set.
    pub const fn new() -> Self {
        Self { elements: Vec::new() }
    }

    /// Adds a node. If one of the same content is there, the two become one that lives as long as either.
    pub fn insert(&mut self, node: impl Into<Node>) {
        let node = node.into();
        match self.elements.binary_search_by(|element| element.cmp_content(&node)) {
            Ok(at) => {
                if let Some(element) = self.elements.get_mut(at) {
                    element.extend_lifetimes(&node);
                }
            }
            Err(at) => self.elements.insert(at, node),
        }
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Whether a node of this content is in the set, whatever its lifetime.
    pub fn contains(&self, node: &Node) -> bool {
        self.elements.binary_search_by(|element| element.cmp_content(node)).is_ok()
    }

    /// The nodes in ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, Node> {
        self.elements.iter()
    }
}

impl IntoIterator for List {
    type Item = Node;
    type IntoIter = std::vec::IntoIter<Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.elements.into_iter()
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<N: Into<Node>> FromIterator<N> for List {
    fn from_iter<I: IntoIterator<Item = N>>(nodes: I) -> Self {
        let mut list = Self::new();
        for node in nodes {
            list.insert(node);
        }
        list
    }
}

impl Dict {
    /// A Dict without pairs.
    pub const fn new() -> Self {
        Self { pairs: BTreeMap::new() }
    }

    /// Sets the node of a key and returns the one it had.
    pub fn insert(&mut self, key: impl Into<Kind>, node: impl Into<Node>) -> Option<Node> {
        self.pairs.insert(key.into().without_lifetimes(), node.into())
    }

    /// The node of a key.
    pub fn get(&self, key: impl Into<Kind>) -> Option<&Node> {
        self.pairs.get(&key.into().without_lifetimes())
    }

    /// How many pairs it has.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs in ascending order of keys.
    pub fn iter(&self) -> btree_map::Iter<'_, Kind, Node> {
        self.pairs.iter()
    }
}

impl IntoIterator for Dict {
    type Item = (Kind, Node);
    type IntoIter = btree_map::IntoIter<Kind, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs.into_iter()
    }
}

impl<'a> IntoIterator for &'a Dict {
    type Item = (&'a Kind, &'a Node);
    type IntoIter = btree_map::Iter<'a, Kind, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<Kind>, N: Into<Node>> FromIterator<(K, N)> for Dict {
    /// Of a key that comes twice, the last node stays.
    fn from_iter<I: IntoIterator<Item = (K, N)>>(pairs: I) -> Self {
        let mut dict = Self::new();
        for (key, node) in pairs {
            dict.insert(key, node);
        }
        dict
    }
}

impl Predicate {
    /// `tag()`, without arguments.
    pub fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), ..Self::default() }
    }

    /// Adds an argument without a name.
    #[must_use]
    pub fn with(mut self, node: impl Into<Node>) -> Self {
        self.positional.insert(node);
        self
    }

    /// Adds an argument with a name.
    #[must_use]
    pub fn with_named(mut self, name: impl Into<Kind>, node: impl Into<Node>) -> Self {
        self.named.insert(name, node);
        self
    }

    /// The same predicate without any lifetime.
    #[must_use]
    pub fn without_lifetimes(self) -> Self {
        let bare = |node: Node| Node::new(node.kind.without_lifetimes());
        Self {
            tag: self.tag,
            positional: self.positional.into_iter().map(bare).collect(),
            named: self.named.into_iter().map(|(k, v)| (k, bare(v))).collect(),
        }
    }
}
