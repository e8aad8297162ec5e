//! Queue of keys by the time when they are due.
//!
//! **Invariants.** Pure. The key that has been due for longest comes first, so no key starves.
//! Finding it takes logarithmic time.

use std::collections::{BTreeMap, BTreeSet};

use smart_record_core::{RecordKey, Timestamp};

/// Instants by key, and keys by instant.
#[derive(Debug, Default)]
pub(super) struct DeadlineQueue {
    at: BTreeMap<RecordKey, Timestamp>,
    order: BTreeSet<(Timestamp, RecordKey)>,
}

impl DeadlineQueue {
    /// Sets when the key is due. `None` removes it.
    pub(super) fn set(&mut self, key: &RecordKey, at: Option<Timestamp>) {
        if self.at.get(key).copied() == at {
            return;
        }
        let before = match at {
            Some(at) => self.at.insert(key.clone(), at),
            None => self.at.remove(key),
        };
        if let Some(before) = before {
            self.order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.order.insert((at, key.clone()));
        }
    }

    /// Whether the key is in the queue.
    pub(super) fn has(&self, key: &RecordKey) -> bool {
        self.at.contains_key(key)
    }

    /// When the key is due.
    pub(super) fn at(&self, key: &RecordKey) -> Option<Timestamp> {
        self.at.get(key).copied()
    }

    /// The key that has been due for longest.
    pub(super) fn due(&self, now: Timestamp) -> Option<RecordKey> {
        let (at, key) = self.order.first()?;
        (*at <= now).then(|| key.clone())
    }

    /// When the next key is due.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_waits_longest_comes_first() {
        let [a, b, c] = ["/sr/a", "/sr/b", "/sr/c"].map(RecordKey::new);
        let at = Timestamp::from_millis;
        let mut deadlines = DeadlineQueue::default();
        deadlines.set(&a, Some(at(30)));
        deadlines.set(&b, Some(at(20)));
        deadlines.set(&c, Some(at(10)));
        assert_eq!((deadlines.next_at(), deadlines.due(at(9))), (Some(at(10)), None));
        assert_eq!(deadlines.due(at(100)), Some(c.clone()));
        deadlines.set(&c, Some(at(40)));
        assert_eq!(deadlines.due(at(100)), Some(b.clone()));
        deadlines.set(&b, None);
        assert_eq!(deadlines.due(at(100)), Some(a));
        assert_eq!((deadlines.at.len(), deadlines.order.len()), (2, 2), "removed from both maps");
    }
}
