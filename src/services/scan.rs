//! Which records are to be looked through for requests, and when.
//!
//! **Invariants.** Pure. A record is looked through again only after the interval, however often it changes. How many wait is
//! bounded; what is lost for that the next sweep through the store finds.

use std::{collections::BTreeMap, time::Duration};

use hashlink::LruCache;

use crate::{key::RecordKey, time::Timestamp};

/// How many records wait, and of how many it is remembered when they were looked through.
const MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Scans {
    interval: Duration,
    due: BTreeMap<RecordKey, Timestamp>,
    done: LruCache<RecordKey, Timestamp>,
}

impl Scans {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, due: BTreeMap::new(), done: LruCache::new(MAX) }
    }

    /// The record has changed. Returns whether it waits now.
    pub(super) fn add(&mut self, key: RecordKey, now: Timestamp) -> bool {
        if self.due.contains_key(&key) {
            return true;
        }
        if self.due.len() >= MAX {
            return false;
        }
        let at = self.done.peek(&key).map_or(now, |done| done.saturating_add(self.interval));
        self.due.insert(key, at.min(now.saturating_add(self.interval)));
        true
    }

    /// A record that is to be looked through now.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<RecordKey> {
        let (key, at) = self.due.iter().min_by_key(|(_, at)| **at)?;
        if *at > now {
            return None;
        }
        let key = key.clone();
        self.due.remove(&key);
        self.done.insert(key.clone(), now);
        Some(key)
    }

    /// The clock was set back: nothing waits for longer than it would have from now on.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let latest = now.saturating_add(self.interval);
        self.due.values_mut().for_each(|at| *at = (*at).min(latest));
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.due.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_changes_all_the_time_is_looked_through_once_an_interval() {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let (mut scans, key) = (Scans::new(Duration::from_secs(1)), RecordKey::new("/sr/a"));
        let mut taken = 0;
        for millis in 0..10_000 {
            let now = start.saturating_add(Duration::from_millis(millis));
            assert!(scans.add(key.clone(), now));
            taken += usize::from(scans.take(now).is_some());
        }
        assert_eq!(taken, 10);
    }

    #[test]
    fn only_so_many_wait() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut scans = Scans::new(Duration::from_secs(1));
        let added = (0..5_000).filter(|n| scans.add(RecordKey::new(format!("/sr/{n}")), now));
        assert_eq!(added.count(), MAX);
        assert!(scans.take(now).is_some());
    }
}
