//! Views: the content of a record at an instant.
//!
//! **Invariants.** A view depends only on the record and the instant. It has no expired nodes.
//!
//! **Spec.** `docs/design.md`, section "View".

use std::collections::{BTreeMap, btree_map};

use libp2p_identity::PeerId;

use super::{seq::Seq, writer::Writer};
use crate::{
    node::{Dict, Node, Path},
    time::Timestamp,
};

/// The content of a record at an instant, by writer. Writers without live content are left out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct View {
    spaces: BTreeMap<Writer, SpaceView>,
}

/// The content of a space at an instant.
///
/// Each node of the document carries its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceView {
    /// The clock of the newest update. It advances also when a kept document is signed anew, so it
    /// does not say which writer changed its document last.
    pub seq: Seq,
    /// When the root of the document expires, and the rest with it.
    pub expires_at: Timestamp,
    /// The merged updates of the writer without expired nodes.
    pub document: Dict,
}

impl View {
    /// The number of writers in the view.
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether the view has no writers.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// The content of the space of a peer.
    pub fn get(&self, writer: &PeerId) -> Option<&SpaceView> {
        self.spaces
            .iter()
            .find(|(candidate, _)| candidate.peer_id() == *writer)
            .map(|(_, space)| space)
    }

    /// The nodes of each writer at `path`, ordered by public key of the writers.
    ///
    /// ```
    /// # use smart_record_core::{PathError, View};
    /// fn names(view: &View) -> Result<Vec<String>, PathError> {
    ///     let path = "person/name".parse()?;
    ///     Ok(view.select(&path).map(|(writer, name)| format!("{writer}: {name}")).collect())
    /// }
    /// # assert_eq!(names(&View::default()), Ok(Vec::new()));
    /// ```
    pub fn select(&self, path: &Path) -> impl Iterator<Item = (&Writer, &Node)> {
        self.spaces.iter().flat_map(move |(writer, space)| {
            space.document.select(path).map(move |node| (writer, node))
        })
    }

    /// The writers and the content of their spaces, ordered by public key.
    pub fn iter(&self) -> btree_map::Iter<'_, Writer, SpaceView> {
        self.spaces.iter()
    }
}

impl<'a> IntoIterator for &'a View {
    type Item = (&'a Writer, &'a SpaceView);
    type IntoIter = btree_map::Iter<'a, Writer, SpaceView>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Writer, SpaceView)> for View {
    fn from_iter<I: IntoIterator<Item = (Writer, SpaceView)>>(spaces: I) -> Self {
        Self { spaces: spaces.into_iter().collect() }
    }
}
