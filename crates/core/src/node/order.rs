//! The total order on nodes.
//!
//! Nodes are ordered by *content* first: by kind, in the order of the field numbers in
//! `proto/smart_record.proto` and of the variants of [`Kind`], unknown kinds last; then by value.
//! Containers are ordered lexicographically. Nodes of the same content are ordered by lifetimes,
//! with no lifetime first. A Set can therefore look up a node by content in its sorted sequence.
//!
//! **Invariants.** The order is total. Equal nodes have the same encoding
//! (`tests/laws/documents.rs`).
//!
//! **Spec.** Floats: IEEE 754, `totalOrder`. The rest is defined here; `docs/design.md`, section
//! "Documents".

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

use super::{Dict, Kind, List, Node, Predicate, Set};

/// A 64-bit float that is neither NaN nor negative zero.
///
/// Negative zero becomes zero, because DAG-CBOR does not distinguish them, and a set must not hold
/// two forms of one value.
#[derive(Clone, Copy, Default)]
pub struct Float(f64);

impl Float {
    /// Positive infinity, the greatest Float.
    pub const INFINITY: Self = Self(f64::INFINITY);
    /// Negative infinity, the least Float.
    pub const NEG_INFINITY: Self = Self(f64::NEG_INFINITY);

    /// The float, or `None` if it is NaN. Negative zero becomes zero.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero changes negative zero only.
        (!value.is_nan()).then_some(Self(value + 0.0))
    }

    /// The value.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Prints the number alone, as in documents.
impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Node {
    /// Compares the content of two nodes and ignores lifetimes.
    pub fn cmp_content(&self, other: &Self) -> Ordering {
        self.kind.cmp_content(&other.kind)
    }

    /// Compares the lifetimes of two nodes of the same content, in the order of the tree.
    fn cmp_lifetimes(&self, other: &Self) -> Ordering {
        self.expires_at.cmp(&other.expires_at).then_with(|| self.kind.cmp_lifetimes(&other.kind))
    }
}

impl Kind {
    const fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) => 1,
            Self::Float(_) => 2,
            Self::String(_) => 3,
            Self::Bytes(_) => 4,
            Self::Link(_) => 5,
            Self::Set(_) => 6,
            Self::Dict(_) => 7,
            Self::Predicate(_) => 8,
            Self::List(_) => 9,
            Self::Opaque(_) => 10,
        }
    }

    pub(crate) fn cmp_content(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Link(a), Self::Link(b)) => a.to_bytes().cmp(&b.to_bytes()),
            (Self::Set(a), Self::Set(b)) => cmp_each(a, b, Node::cmp_content),
            (Self::Dict(a), Self::Dict(b)) => a.cmp_content(b),
            (Self::Predicate(a), Self::Predicate(b)) => a
                .tag
                .cmp(&b.tag)
                .then_with(|| cmp_each(&a.positional, &b.positional, Node::cmp_content))
                .then_with(|| a.named.cmp_content(&b.named)),
            (Self::List(a), Self::List(b)) => cmp_each(a, b, Node::cmp_content),
            (Self::Opaque(a), Self::Opaque(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// Compares the lifetimes of the children of two kinds of the same content.
    fn cmp_lifetimes(&self, other: &Self) -> Ordering {
        cmp_each(self.children(), other.children(), Node::cmp_lifetimes)
    }
}

/// Compares two sequences lexicographically: a prefix comes first.
fn cmp_each<T>(
    a: impl IntoIterator<Item = T>,
    b: impl IntoIterator<Item = T>,
    cmp: impl Fn(T, T) -> Ordering,
) -> Ordering {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match cmp(x, y) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
    }
}

impl Dict {
    fn cmp_content(&self, other: &Self) -> Ordering {
        cmp_each(self, other, |a, b| a.0.cmp(b.0).then_with(|| a.1.cmp_content(b.1)))
    }

    fn cmp_lifetimes(&self, other: &Self) -> Ordering {
        cmp_each(self, other, |a, b| a.1.cmp_lifetimes(b.1))
    }
}

macro_rules! total_order {
    ($($type:ty: $self:ident, $other:ident => $cmp:expr;)*) => {
        $(impl Ord for $type {
            fn cmp(&$self, $other: &Self) -> Ordering {
                $cmp
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        })*
    };
}

total_order! {
    Node: self, other => self.cmp_content(other).then_with(|| self.cmp_lifetimes(other));
    Kind: self, other => self.cmp_content(other).then_with(|| self.cmp_lifetimes(other));
    List: self, other => cmp_each(self, other, Node::cmp_content)
        .then_with(|| cmp_each(self, other, Node::cmp_lifetimes));
    Set: self, other => cmp_each(self, other, Node::cmp_content)
        .then_with(|| cmp_each(self, other, Node::cmp_lifetimes));
    Dict: self, other => self.cmp_content(other).then_with(|| self.cmp_lifetimes(other));
    Predicate: self, other => self.tag.cmp(&other.tag)
        .then_with(|| cmp_each(&self.positional, &other.positional, Node::cmp_content))
        .then_with(|| self.named.cmp_content(&other.named))
        .then_with(|| cmp_each(&self.positional, &other.positional, Node::cmp_lifetimes))
        .then_with(|| self.named.cmp_lifetimes(&other.named));
}
