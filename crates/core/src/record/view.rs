//! What a reader sees of a record at an instant.
//!
//! **Invariants.** A view is a function of the record and the instant; nothing in it has expired then.
//!
//! **Spec.** `docs/design.md`, section "View".

use std::collections::{BTreeMap, btree_map};

use libp2p_identity::PeerId;

use super::{seq::Seq, writer::Writer};
use crate::{
    node::{Dict, Node, Path},
    time::Timestamp,
};

/// A record at an instant: for each writer that says something then, what it says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct View {
    spaces: BTreeMap<Writer, SpaceView>,
}

/// A space at an instant.
///
/// The nodes of the document carry the instants at which they expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceView {
    /// The clock of the newest update.
    pub seq: Seq,
    /// When the root of the document expires, and with it all that is left by then.
    pub expires_at: Timestamp,
    /// What the writer says: all its updates merged, without what has expired.
    pub document: Dict,
}

impl View {
    /// How many writers say something.
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether no one does.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// What a peer says.
    pub fn get(&self, writer: &PeerId) -> Option<&SpaceView> {
        self.spaces
            .iter()
            .find(|(candidate, _)| candidate.peer_id() == *writer)
            .map(|(_, space)| space)
    }

    /// What each writer says at `path`, the writers ordered by public key.
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

    /// The writers and what they say, ordered by public key.
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
