//! Limits of documents, and why bytes are not a document.
//!
//! **Spec.** `docs/wire.md`, section "Documents".

use crate::protobuf::ProtobufError;

/// Limits on the structure of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentLimits {
    /// The maximum number of nodes on a path from the root to a leaf, both included.
    pub depth: usize,
    /// The maximum total number of nodes: the root, keys, values and elements.
    pub nodes: usize,
}

impl Default for DocumentLimits {
    /// 16 levels and 1,024 nodes. A 2 KiB update seldom needs a tenth of either. Both bound the
    /// work to read one update.
    fn default() -> Self {
        Self { depth: 16, nodes: 1_024 }
    }
}

/// Why bytes are not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The bytes are not the expected protobuf message.
    #[error("not a protobuf message of a node: {0}")]
    Protobuf(ProtobufError),
    /// A node has neither a known kind nor an unknown one.
    #[error("a node without a kind")]
    MissingKind,
    /// A Float is NaN, which has no order.
    #[error("a Float that is not a number")]
    NotANumber,
    /// The bytes of a Link are not a CID in its only form.
    #[error("a Link that is not a CID")]
    InvalidLink,
    /// The encoding is not canonical: wrong order, a duplicate, a padded number, an unknown field
    /// or a lifetime in a key.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// The tree is deeper than [`DocumentLimits::depth`].
    #[error("deeper than {max} nodes")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// The tree has more nodes than [`DocumentLimits::nodes`].
    #[error("more than {max} nodes")]
    TooManyNodes {
        /// The limit.
        max: usize,
    },
}

impl From<ProtobufError> for NodeError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}
