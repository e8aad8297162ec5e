//! What is to be done for which key, and when.
//!
//! **Invariants.** Pure. Of several that are due the one that has waited longest comes first, so that none starves. Finding
//! it does not depend on how many there are.

use std::collections::{BTreeMap, BTreeSet};

use smart_record_core::{RecordKey, Timestamp};

/// Instants by key, and keys by instant.
#[derive(Debug, Default)]
pub(super) struct Turns {
    at: BTreeMap<RecordKey, Timestamp>,
    order: BTreeSet<(Timestamp, RecordKey)>,
}

impl Turns {
    /// Sets when the key has its turn; `None`: not at all.
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

    /// Whether the key has a turn.
    pub(super) fn has(&self, key: &RecordKey) -> bool {
        self.at.contains_key(key)
    }

    /// When the key has its turn.
    pub(super) fn at(&self, key: &RecordKey) -> Option<Timestamp> {
        self.at.get(key).copied()
    }

    /// Whose turn it is.
    pub(super) fn due(&self, now: Timestamp) -> Option<RecordKey> {
        let (at, key) = self.order.first()?;
        (*at <= now).then(|| key.clone())
    }

    /// When the next turn is.
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
    fn who_has_waited_longest_comes_first_whatever_its_key() {
        let [a, b, c] = ["/sr/a", "/sr/b", "/sr/c"].map(RecordKey::new);
        let at = Timestamp::from_millis;
        let mut turns = Turns::default();
        turns.set(&a, Some(at(30)));
        turns.set(&b, Some(at(20)));
        turns.set(&c, Some(at(10)));
        assert_eq!((turns.next_at(), turns.due(at(9))), (Some(at(10)), None));
        assert_eq!(turns.due(at(100)), Some(c.clone()));
        turns.set(&c, Some(at(40)));
        assert_eq!(turns.due(at(100)), Some(b.clone()));
        turns.set(&b, None);
        assert_eq!(turns.due(at(100)), Some(a));
        assert_eq!((turns.at.len(), turns.order.len()), (2, 2), "nothing is left behind");
    }
}
