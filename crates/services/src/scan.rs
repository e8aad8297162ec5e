//! Which records are to be looked through for requests, and when: those that change, and in a sweep through the store all
//! of them, one after the other.
//!
//! **Invariants.** Pure. A record is looked through again only after the interval, however often it changes. How many wait is
//! bounded; what is lost for that the next sweep finds, which goes on however many records change.

use std::{collections::BTreeMap, time::Duration};

use hashlink::LruCache;

use libp2p_smart_record::{RecordKey, Timestamp, store::storage::RecordId};

/// How many records wait, and of how many it is remembered when they were looked through.
const MAX_RECORDS: usize = 1_024;
/// After so many looks at what has changed, one goes to what the sweep has come to.
const SCANS_PER_SWEPT: u32 = 8;

#[derive(Debug)]
pub(super) struct ScanQueue {
    interval: Duration,
    due: BTreeMap<RecordKey, Timestamp>,
    done: LruCache<RecordKey, Timestamp>,
    sweep_interval: Duration,
    /// When the sweep goes on, and after which record.
    sweep_at: Timestamp,
    swept: Option<RecordId>,
    /// What it has come to, and is to be looked through before it goes on.
    swept_key: Option<RecordKey>,
    scans_since_swept: u32,
}

impl ScanQueue {
    /// A record is looked through at most once an interval, and a sweep begins so long after the last has ended.
    pub(super) fn new(interval: Duration, sweep_interval: Duration, now: Timestamp) -> Self {
        Self {
            interval,
            due: BTreeMap::new(),
            done: LruCache::new(MAX_RECORDS),
            sweep_interval,
            sweep_at: now,
            swept: None,
            swept_key: None,
            scans_since_swept: 0,
        }
    }

    /// The record has changed. Returns whether it waits now.
    pub(super) fn add(&mut self, key: RecordKey, now: Timestamp) -> bool {
        if self.due.contains_key(&key) {
            return true;
        }
        if self.due.len() >= MAX_RECORDS {
            return false;
        }
        let at = self.done.peek(&key).map_or(now, |done| done.saturating_add(self.interval));
        self.due.insert(key, at.min(now.saturating_add(self.interval)));
        true
    }

    /// The record that is to be looked through now: one that has changed, or one that the sweep has come to, which waits for
    /// some of the others, not for all.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<RecordKey> {
        if (self.scans_since_swept < SCANS_PER_SWEPT || self.swept_key.is_none())
            && let Some(key) = self.take_changed(now)
        {
            self.scans_since_swept = self.scans_since_swept.saturating_add(1);
            return Some(key);
        }
        self.scans_since_swept = 0;
        self.swept_key.take()
    }

    fn take_changed(&mut self, now: Timestamp) -> Option<RecordKey> {
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
        self.sweep_at = self.sweep_at.min(now.saturating_add(self.sweep_interval));
    }

    /// When there is a record to be looked through.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let swept = self.swept_key.as_ref().map(|_| now);
        swept.or_else(|| self.due.values().min().copied())
    }

    /// When the sweep goes on, unless what it has come to is still to be looked through.
    pub(super) fn sweep_at(&self) -> Option<Timestamp> {
        self.swept_key.is_none().then_some(self.sweep_at)
    }

    /// After which record the sweep goes on; at the first if there is none.
    pub(super) fn swept(&self) -> Option<RecordId> {
        self.swept
    }

    /// The sweep has come to a record, which may be one that nothing can be answered in, or to its end.
    pub(super) fn on_swept(&mut self, next: Option<(RecordId, Option<RecordKey>)>, now: Timestamp) {
        match next {
            Some((id, key)) => {
                self.swept = Some(id);
                self.swept_key = key;
                self.sweep_at = now;
            }
            None => {
                self.swept = None;
                self.sweep_at = now.saturating_add(self.sweep_interval);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scans(now: Timestamp) -> ScanQueue {
        ScanQueue::new(Duration::from_secs(1), Duration::from_secs(3_600), now)
    }

    #[test]
    fn what_the_sweep_has_come_to_waits_for_some_of_what_changes_and_not_for_all() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let (mut scans, swept) = (scans(now), RecordKey::new("/sr/swept"));
        for n in 0..100 {
            scans.add(RecordKey::new(format!("/sr/{n}")), now);
        }
        assert_eq!((scans.sweep_at(), scans.swept()), (Some(now), None));
        scans.on_swept(Some((RecordId([1; 32]), Some(swept.clone()))), now);
        assert_eq!(
            (scans.sweep_at(), scans.next_at(now)),
            (None, Some(now)),
            "it waits for the look"
        );
        let place = std::iter::from_fn(|| scans.take(now)).position(|key| key == swept);
        assert_eq!(place, Some(SCANS_PER_SWEPT as usize));
        assert_eq!((scans.sweep_at(), scans.swept()), (Some(now), Some(RecordId([1; 32]))));
        scans.on_swept(None, now);
        let in_an_hour = now.saturating_add(Duration::from_secs(3_600));
        assert_eq!((scans.sweep_at(), scans.swept()), (Some(in_an_hour), None));
    }

    #[test]
    fn a_record_that_changes_all_the_time_is_looked_through_once_an_interval() {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let (mut scans, key) = (scans(start), RecordKey::new("/sr/a"));
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
        let mut scans = scans(now);
        let added = (0..5_000).filter(|n| scans.add(RecordKey::new(format!("/sr/{n}")), now));
        assert_eq!(added.count(), MAX_RECORDS);
        assert!(scans.take(now).is_some());
    }
}
