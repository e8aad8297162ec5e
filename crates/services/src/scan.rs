//! Which records to scan for requests, and when: records that change, and in each sweep all records
//! of the store.
//!
//! **Invariants.** Pure. A record is scanned again only after the interval, however often it
//! changes. The number of waiting records is bounded; the next sweep finds those that were dropped.
//! The sweep advances however many records change.

use std::{collections::BTreeMap, time::Duration};

use hashlink::LruCache;

use libp2p_smart_record::{RecordKey, Timestamp, store::storage::RecordId};

/// Most records that wait, and most records whose last scan is remembered.
const MAX_RECORDS: usize = 1_024;
/// Number of scans of changed records before a record of the sweep is scanned.
const SCANS_PER_SWEPT: u32 = 8;

/// Queue of records to scan.
#[derive(Debug)]
pub(super) struct ScanQueue {
    interval: Duration,
    due: BTreeMap<RecordKey, Timestamp>,
    done: LruCache<RecordKey, Timestamp>,
    sweep_interval: Duration,
    /// When the sweep continues.
    sweep_at: Timestamp,
    /// The record after which the sweep continues.
    swept: Option<RecordId>,
    /// The record that the sweep has reached, which is scanned before the sweep continues.
    swept_key: Option<RecordKey>,
    scans_since_swept: u32,
}

impl ScanQueue {
    /// `interval` is the time between two scans of a record, `sweep_interval` the time between the
    /// end of a sweep and the next.
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

    /// Schedules a scan of a record that has changed. Returns whether the record waits now.
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

    /// Takes the next record to scan. A record that the sweep has reached waits for at most
    /// [`SCANS_PER_SWEPT`] changed records.
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

    /// Handles a clock that was set back: nothing waits for longer than it would from `now`.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let latest = now.saturating_add(self.interval);
        self.due.values_mut().for_each(|at| *at = (*at).min(latest));
        self.sweep_at = self.sweep_at.min(now.saturating_add(self.sweep_interval));
    }

    /// When the next scan is due.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        let swept = self.swept_key.as_ref().map(|_| now);
        swept.or_else(|| self.due.values().min().copied())
    }

    /// When the sweep continues; `None` while the record that it has reached waits for its scan.
    pub(super) fn sweep_at(&self) -> Option<Timestamp> {
        self.swept_key.is_none().then_some(self.sweep_at)
    }

    /// The record after which the sweep continues; `None` stands for the start of the store.
    pub(super) fn swept(&self) -> Option<RecordId> {
        self.swept
    }

    /// Notes the record that the sweep has reached, without a key if the service cannot answer in
    /// it; `None` ends the sweep.
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
    fn a_swept_record_waits_for_some_changed_records_and_not_for_all() {
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
            "it waits for the scan"
        );
        let place = std::iter::from_fn(|| scans.take(now)).position(|key| key == swept);
        assert_eq!(place, Some(SCANS_PER_SWEPT as usize));
        assert_eq!((scans.sweep_at(), scans.swept()), (Some(now), Some(RecordId([1; 32]))));
        scans.on_swept(None, now);
        let in_an_hour = now.saturating_add(Duration::from_secs(3_600));
        assert_eq!((scans.sweep_at(), scans.swept()), (Some(in_an_hour), None));
    }

    #[test]
    fn a_record_that_changes_all_the_time_is_scanned_once_an_interval() {
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
    fn the_number_of_waiting_records_is_bounded() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut scans = scans(now);
        let added = (0..5_000).filter(|n| scans.add(RecordKey::new(format!("/sr/{n}")), now));
        assert_eq!(added.count(), MAX_RECORDS);
        assert!(scans.take(now).is_some());
    }
}
