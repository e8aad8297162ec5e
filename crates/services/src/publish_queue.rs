//! Findings that wait to be published, and the rates of these writes.
//!
//! **Invariants.** Pure. A write is charged to the rate of one writer that asks for a finding, and
//! to the total rate. The number of records with live or waiting findings is bounded. Writes happen
//! in the order of their due times.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::PeerId;

use super::{
    config::ServiceConfig,
    finding::{self, Finding},
};
use libp2p_smart_record::{Predicate, RecordKey, Timestamp, rate::RateLimit};

/// Most writes at a time.
const MAX_WRITES: usize = 4;

/// Queue of findings by record.
#[derive(Debug)]
pub(super) struct PublishQueue {
    /// Records with live or waiting findings.
    records: BTreeMap<RecordKey, RecordFindings>,
    writing: usize,
    total_rate: RateLimit<()>,
    writer_rates: RateLimit<PeerId>,
    max_records: usize,
    write_delay: Duration,
    ttl: Duration,
}

/// Findings of a record.
#[derive(Debug, Default)]
struct RecordFindings {
    waiting: Vec<PendingFinding>,
    /// When the waiting findings are due.
    due_at: Option<Timestamp>,
    is_writing: bool,
    /// When the last write ended.
    written_at: Option<Timestamp>,
    /// When the last written finding expires.
    live_until: Timestamp,
}

/// A finding and the writers that ask for it.
#[derive(Debug)]
struct PendingFinding {
    finding: Finding,
    askers: BTreeSet<PeerId>,
}

/// The number of records with findings has reached its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyRecords;

impl RecordFindings {
    fn due_at(&self) -> Option<Timestamp> {
        self.due_at.filter(|_| !self.is_writing && !self.waiting.is_empty())
    }
}

impl PublishQueue {
    pub(super) fn new(config: &ServiceConfig) -> Self {
        let (max, burst) = (config.max_requests(), config.writer_burst());
        Self {
            records: BTreeMap::new(),
            writing: 0,
            total_rate: RateLimit::new(1, config.write_interval(), config.write_burst()),
            writer_rates: RateLimit::new(max, config.writer_interval(), burst),
            max_records: config.max_records(),
            write_delay: config.write_delay(),
            ttl: config.ttl(),
        }
    }

    /// Schedules the publication of a finding. It waits for others in the same record.
    pub(super) fn add(
        &mut self,
        key: &RecordKey,
        finding: Finding,
        askers: BTreeSet<PeerId>,
        now: Timestamp,
    ) -> Result<(), TooManyRecords> {
        let at = now.saturating_add(self.write_delay);
        let record = self.record(key, now)?;
        record.waiting.retain(|other| other.finding.request != finding.request);
        record.waiting.push(PendingFinding { finding, askers });
        record.due_at = Some(record.due_at.map_or(at, |before| before.min(at)));
        Ok(())
    }

    /// Notes that the record holds findings of the service that live until `until`.
    pub(super) fn on_published(&mut self, key: &RecordKey, until: Timestamp, now: Timestamp) {
        if until > now
            && let Ok(record) = self.record(key, now)
        {
            record.live_until = record.live_until.max(until);
        }
    }

    fn record(
        &mut self,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<&mut RecordFindings, TooManyRecords> {
        if !self.records.contains_key(key) && self.records.len() >= self.max_records {
            self.expire(now);
            if self.records.len() >= self.max_records {
                return Err(TooManyRecords);
            }
        }
        Ok(self.records.entry(key.clone()).or_default())
    }

    /// Drops the waiting findings of a record that are no longer wanted.
    pub(super) fn retain(&mut self, key: &RecordKey, is_wanted: impl Fn(&Predicate) -> bool) {
        if let Some(record) = self.records.get_mut(key) {
            record.waiting.retain(|waiting| is_wanted(&waiting.finding.request));
        }
    }

    /// Whether the record is being written or was written since `since`, so that what was read of
    /// it before may be outdated.
    pub(super) fn was_written_since(&self, key: &RecordKey, since: Timestamp) -> bool {
        let record = self.records.get(key);
        record.is_some_and(|record| {
            record.is_writing || record.written_at.is_some_and(|at| at >= since)
        })
    }

    fn expire(&mut self, now: Timestamp) {
        self.records.retain(|_, record| {
            record.waiting.retain(|waiting| waiting.finding.expires_at > now);
            !record.waiting.is_empty() || record.is_writing || record.live_until > now
        });
    }

    /// Starts the next due write and returns its record and findings. Its end goes to
    /// [`on_written`](Self::on_written).
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(RecordKey, Vec<Finding>)> {
        if self.writing >= MAX_WRITES || self.total_rate.check(&(), now).is_err() {
            return None;
        }
        self.expire(now);
        loop {
            let due = self.records.iter_mut().filter_map(|(key, record)| {
                let at = record.due_at().filter(|at| *at <= now)?;
                Some((at, key, record))
            });
            let (_, key, record) = due.min_by_key(|(at, ..)| *at)?;
            let askers: BTreeSet<_> =
                record.waiting.iter().flat_map(|waiting| &waiting.askers).copied().collect();
            let mut open_at = Timestamp::MAX;
            let is_open =
                askers.into_iter().any(|asker| match self.writer_rates.admit(asker, now) {
                    Ok(()) => true,
                    Err(at) => {
                        open_at = open_at.min(at);
                        false
                    }
                });
            if !is_open {
                record.due_at = Some(open_at);
                continue;
            }
            // Checked above, so it admits.
            let _ = self.total_rate.admit((), now);
            let waiting = record.waiting.iter().map(|waiting| &waiting.finding);
            let fit = finding::fit_into_an_update(waiting).min(record.waiting.len());
            let found: Vec<_> =
                record.waiting.drain(..fit).map(|waiting| waiting.finding).collect();
            record.due_at = (!record.waiting.is_empty()).then_some(now);
            record.is_writing = true;
            let last = found.iter().map(|finding| finding.expires_at).max();
            record.live_until = record.live_until.max(last.unwrap_or(now));
            self.writing = self.writing.saturating_add(1);
            return Some((key.clone(), found));
        }
    }

    /// Ends a write.
    pub(super) fn on_written(&mut self, key: &RecordKey, now: Timestamp) {
        self.writing = self.writing.saturating_sub(1);
        if let Some(record) = self.records.get_mut(key) {
            record.is_writing = false;
            record.written_at = Some(now);
        }
    }

    /// Earliest time at which a write may be due.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.writing >= MAX_WRITES {
            return None;
        }
        let at = self.records.values().filter_map(RecordFindings::due_at).min()?;
        Some(at.max(self.total_rate.check(&(), now).err().unwrap_or(now)))
    }

    /// Handles a clock that was set back: nothing waits for longer than it would from `now`.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        self.total_rate.on_clock_set_back(now);
        self.writer_rates.on_clock_set_back(now);
        let (at, until) = (now.saturating_add(self.write_delay), now.saturating_add(self.ttl));
        for record in self.records.values_mut() {
            record.due_at = record.due_at.map(|before| before.min(at));
            record.written_at = record.written_at.map(|before| before.min(now));
            record.live_until = record.live_until.min(until);
            for waiting in &mut record.waiting {
                waiting.finding.expires_at = waiting.finding.expires_at.min(until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn after(duration: Duration) -> Timestamp {
        NOW.saturating_add(duration)
    }

    fn found(n: i64, now: Timestamp) -> Finding {
        let expires_at = now.saturating_add(30 * MINUTE);
        Finding {
            request: Predicate::new("ask").with(n),
            finding: Predicate::new("yes"),
            expires_at,
        }
    }

    fn key(n: usize) -> RecordKey {
        RecordKey::new(format!("/sr/{n:04}"))
    }

    /// Without rate limits.
    fn config() -> ServiceConfig {
        ServiceConfig::default()
            .with_write_delay(Duration::ZERO)
            .with_write_interval(Duration::ZERO)
            .with_writer_interval(Duration::ZERO)
    }

    /// Makes all writes that are due, one after the other.
    fn written(queue: &mut PublishQueue, now: Timestamp) -> Vec<RecordKey> {
        let mut keys = Vec::new();
        while let Some((key, _)) = queue.next(now) {
            queue.on_written(&key, now);
            keys.push(key);
        }
        keys
    }

    #[test]
    fn a_request_in_500_records_is_written_at_the_rate_of_its_writer() {
        let mut queue = PublishQueue::new(&ServiceConfig::default());
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let (mut writes, mut full) = (0, 0);
        for n in 0..500 {
            let now = after(SECOND * n / 20);
            let key = key(usize::try_from(n).unwrap());
            full += usize::from(queue.add(&key, found(1, now), [greedy].into(), now).is_err());
            writes += written(&mut queue, now).len();
        }
        assert_eq!((writes, full), (8, 0), "a burst in 25 seconds, the rest waits");
        let now = after(25 * SECOND);
        queue.add(&key(9_999), found(2, now), [other].into(), now).unwrap();
        assert_eq!(written(&mut queue, after(26 * SECOND)), [key(9_999)], "others do not wait");
        let hour = (26..3_600).map(|second| written(&mut queue, after(SECOND * second)).len());
        assert!(hour.sum::<usize>() <= 31, "one a minute, until what waits has expired");
        assert!(queue.records.len() < 60 && queue.writing == 0);
    }

    #[test]
    fn writes_for_many_writers_have_a_total_rate() {
        let mut queue =
            PublishQueue::new(&ServiceConfig::default().with_write_delay(Duration::ZERO));
        for n in 0..100 {
            queue.add(&key(n), found(1, NOW), [PeerId::random()].into(), NOW).unwrap();
        }
        assert_eq!(written(&mut queue, NOW).len(), 16);
        assert_eq!(queue.next_at(NOW), Some(after(2 * SECOND)));
        let minute = (1..=60).map(|second| written(&mut queue, after(SECOND * second)).len());
        assert_eq!(minute.sum::<usize>(), 30);
    }

    #[test]
    fn the_records_with_live_or_waiting_findings_are_bounded() {
        let mut queue = PublishQueue::new(&config().with_max_records(10));
        queue.on_published(&key(100), after(10 * MINUTE), NOW);
        let added = |queue: &mut PublishQueue, from: usize, now| {
            let mut add =
                |n: &usize| queue.add(&key(*n), found(1, now), [PeerId::random()].into(), now);
            (from..from + 100).filter(|n| add(n).is_ok()).count()
        };
        assert_eq!(added(&mut queue, 0, NOW), 9, "one is there since before a restart");
        assert_eq!(written(&mut queue, NOW).len(), 9);
        assert_eq!(added(&mut queue, 200, after(MINUTE)), 0, "they live");
        assert_eq!(queue.add(&key(0), found(2, NOW), [PeerId::random()].into(), NOW), Ok(()));
        assert_eq!(added(&mut queue, 200, after(10 * MINUTE)), 1);
        assert_eq!(added(&mut queue, 300, after(40 * MINUTE)), 10, "all have expired");
        assert_eq!(queue.records.len(), 10);
    }

    #[test]
    fn writes_happen_in_the_order_of_due_times_not_of_keys() {
        let mut queue = PublishQueue::new(&config());
        for (second, n) in (0_u32..).zip([3, 1, 2]) {
            let now = after(SECOND * second);
            queue.add(&key(n), found(1, now), [PeerId::random()].into(), now).unwrap();
        }
        assert_eq!(written(&mut queue, after(MINUTE)), [key(3), key(1), key(2)]);
    }

    #[test]
    fn a_finding_that_is_no_longer_wanted_is_not_written() {
        let mut queue = PublishQueue::new(&config());
        queue.add(&key(0), found(1, NOW), [PeerId::random()].into(), NOW).unwrap();
        queue.add(&key(0), found(2, NOW), [PeerId::random()].into(), NOW).unwrap();
        queue.retain(&key(0), |request| *request == found(2, NOW).request);
        assert_eq!(queue.next(NOW), Some((key(0), vec![found(2, NOW)])));
        queue.on_written(&key(0), NOW);
        assert_eq!(queue.next(NOW), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_delay_writes() {
        let mut queue = PublishQueue::new(&ServiceConfig::default());
        let asker = PeerId::random();
        for n in 0..9 {
            queue.add(&key(n), found(1, NOW), [asker].into(), NOW).unwrap();
        }
        assert_eq!(written(&mut queue, after(SECOND)).len(), 8);
        let then = NOW.saturating_sub(1_000 * MINUTE);
        queue.on_clock_set_back(then);
        let soon = then.saturating_add(10 * MINUTE);
        let mut writes = 0;
        for second in 0..600 {
            writes += written(&mut queue, then.saturating_add(SECOND * second)).len();
        }
        assert_eq!(writes, 1);
        assert!(queue.next_at(soon).is_none());
    }
}
