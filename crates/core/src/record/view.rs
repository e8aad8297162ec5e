//! Views: the content of a record at an instant.
//!
//! **Invariants.** A view depends only on the record and the instant. It has no expired nodes.
//!
//! **Spec.** `docs/design.md`, section "View".

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{seq::Seq, writer::Writer};
use crate::{
    node::{Dict, Node, Path},
    shared_map::{self, SharedMap},
    time::Timestamp,
};

/// The content of a record at an instant, by writer. Writers without live content are left out.
///
/// A clone shares the content with the view, so it costs little.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct View {
    spaces: SharedMap<Writer, Arc<SpaceView>>,
}

/// The writers of a view and the content of their spaces, ordered by public key.
#[derive(Clone, Debug)]
pub struct ViewIter<'a>(shared_map::Iter<'a, Writer, Arc<SpaceView>>);

impl<'a> Iterator for ViewIter<'a> {
    type Item = (&'a Writer, &'a SpaceView);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(writer, space)| (writer, &**space))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for ViewIter<'_> {}

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
    /// Sets what the space of a writer shows. Returns whether that is something else than before.
    /// Costs no more than a copy of some 32 pointers, however many writers there are.
    pub fn set(&mut self, writer: &Writer, space: Option<SpaceView>) -> bool {
        match space {
            Some(space) => {
                let is_news = self.spaces.get(writer).is_none_or(|before| **before != space);
                if is_news {
                    self.spaces.insert(writer.clone(), Arc::new(space));
                }
                is_news
            }
            None => self.spaces.remove(writer).is_some(),
        }
    }

    /// The number of writers in the view.
    pub fn len(&self) -> usize {
        self.spaces.len()
    }

    /// Whether the view has no writers.
    pub fn is_empty(&self) -> bool {
        self.spaces.len() == 0
    }

    /// The content of the space of a peer.
    pub fn get(&self, writer: &PeerId) -> Option<&SpaceView> {
        self.iter().find(|(candidate, _)| candidate.peer_id() == *writer).map(|(_, space)| space)
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
        self.iter().flat_map(move |(writer, space)| {
            space.document.select(path).map(move |node| (writer, node))
        })
    }

    /// The writers and the content of their spaces, ordered by public key.
    pub fn iter(&self) -> ViewIter<'_> {
        ViewIter(self.spaces.iter())
    }
}

impl<'a> IntoIterator for &'a View {
    type Item = (&'a Writer, &'a SpaceView);
    type IntoIter = ViewIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Writer, SpaceView)> for View {
    fn from_iter<I: IntoIterator<Item = (Writer, SpaceView)>>(spaces: I) -> Self {
        let spaces = spaces.into_iter().map(|(writer, space)| (writer, Arc::new(space)));
        Self { spaces: spaces.collect() }
    }
}
