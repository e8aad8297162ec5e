//! The views of the spaces of a watched record, kept up to date.
//!
//! **Invariants.** Pure. A view is computed anew only when its space has changed or something in it
//! has expired, whatever the size of the record. What is not retained any more is dropped from the
//! record by then.

use std::collections::{BTreeMap, BTreeSet};

use smart_record_core::{Node, SmartRecord, Space, SpaceView, Timestamp, View, Writer};

/// The views of the spaces of one record.
#[derive(Debug, Default)]
pub(super) struct SpaceViews {
    view: View,
    /// When something in each space expires next, and the spaces by that time.
    ends: BTreeMap<Writer, Timestamp>,
    due: BTreeSet<(Timestamp, Writer)>,
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
        self.changed.extend(self.ends.keys().cloned());
    }

    /// Computes the views of the spaces that have changed or in which something has expired.
    /// Returns whether any view is another one than before.
    pub(super) fn refresh(&mut self, record: &mut SmartRecord, now: Timestamp) -> bool {
        while self.next_end().is_some_and(|at| at <= now) {
            self.changed.extend(self.due.pop_first().map(|(_, writer)| writer));
        }
        let mut is_news = false;
        for writer in std::mem::take(&mut self.changed) {
            #[cfg(test)]
            {
                self.computed += 1;
            }
            record.collect_space(&writer, now);
            let space = record.space(&writer);
            let view = space.and_then(|space| space.view(now));
            let ends_at = space.map(|space| next_end(space, view.as_ref(), now));
            is_news |= self.view.set(&writer, view);
            let ended_at = match ends_at {
                Some(at) => self.ends.insert(writer.clone(), at),
                None => self.ends.remove(&writer),
            };
            if let Some(ended_at) = ended_at {
                self.due.remove(&(ended_at, writer.clone()));
            }
            self.due.extend(ends_at.map(|at| (at, writer)));
        }
        is_news
    }

    /// The view of the record, as it was when it was last refreshed.
    pub(super) const fn view(&self) -> &View {
        &self.view
    }

    /// When something expires next.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }
}

/// The first instant after `now` at which something in a space expires or is not retained any more.
fn next_end(space: &Space, view: Option<&SpaceView>, now: Timestamp) -> Timestamp {
    let mut ends: Vec<_> = space.updates().map(|update| update.retain_until()).collect();
    if let Some(view) = view {
        ends.push(view.expires_at);
        view.document.iter().for_each(|(_, node)| ends_in(node, &mut ends));
    }
    ends.into_iter().filter(|at| *at > now).min().unwrap_or(Timestamp::MAX)
}

fn ends_in(node: &Node, ends: &mut Vec<Timestamp>) {
    ends.extend(node.expires_at);
    node.kind.children().for_each(|child| ends_in(child, ends));
}
