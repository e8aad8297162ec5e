//! The views of the spaces of a watched record, kept up to date.
//!
//! **Invariants.** Pure. A view is computed anew only when its space has changed or something
//! visible in it has expired, whatever the size of the record.

use std::collections::{BTreeMap, BTreeSet};

use smart_record_core::{Node, SmartRecord, SpaceView, Timestamp, Writer};

/// The views of the spaces of one record.
#[derive(Debug, Default)]
pub(super) struct SpaceViews {
    views: BTreeMap<Writer, (SpaceView, Timestamp)>,
    /// The spaces with a view, by the time when something visible in them expires next.
    ends: BTreeSet<(Timestamp, Writer)>,
    /// The spaces that have changed since their view was computed.
    changed: BTreeSet<Writer>,
    /// How many views were computed.
    #[cfg(test)]
    pub(super) computed: usize,
}

impl SpaceViews {
    /// Marks a space that has changed.
    pub(super) fn mark(&mut self, writer: Writer) {
        self.changed.insert(writer);
    }

    /// Marks all spaces of the record, and those that it does not have any more.
    pub(super) fn mark_all(&mut self, record: &SmartRecord) {
        self.changed.extend(record.spaces().map(|(writer, _)| writer.clone()));
        self.mark_missing(record);
    }

    /// Marks the spaces that the record does not have any more.
    pub(super) fn mark_missing(&mut self, record: &SmartRecord) {
        let missing = self.views.keys().filter(|writer| record.space(writer).is_none());
        self.changed.extend(missing.cloned());
    }

    /// Computes the views of the spaces that have changed or in which something has expired.
    /// Returns whether any view is another one than before.
    pub(super) fn refresh(&mut self, record: &SmartRecord, now: Timestamp) -> bool {
        while self.next_end().is_some_and(|at| at <= now) {
            self.changed.extend(self.ends.pop_first().map(|(_, writer)| writer));
        }
        let mut is_news = false;
        for writer in std::mem::take(&mut self.changed) {
            #[cfg(test)]
            {
                self.computed += 1;
            }
            let view = record.space(&writer).and_then(|space| space.view(now));
            let before = match view {
                Some(view) => {
                    let ends_at = next_end(&view, now);
                    self.ends.insert((ends_at, writer.clone()));
                    is_news |= self.views.get(&writer).is_none_or(|(before, _)| *before != view);
                    self.views
                        .insert(writer.clone(), (view, ends_at))
                        .filter(|(_, before)| *before != ends_at)
                }
                None => {
                    let before = self.views.remove(&writer);
                    is_news |= before.is_some();
                    before
                }
            };
            if let Some((_, ended_at)) = before {
                self.ends.remove(&(ended_at, writer));
            }
        }
        is_news
    }

    /// When something visible expires next.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }
}

/// The first instant after `now` at which something in a view expires.
fn next_end(view: &SpaceView, now: Timestamp) -> Timestamp {
    let mut ends = vec![view.expires_at];
    view.document.iter().for_each(|(_, node)| ends_in(node, &mut ends));
    ends.into_iter().filter(|at| *at > now).min().unwrap_or(Timestamp::MAX)
}

fn ends_in(node: &Node, ends: &mut Vec<Timestamp>) {
    ends.extend(node.expires_at);
    node.kind.children().for_each(|child| ends_in(child, ends));
}
