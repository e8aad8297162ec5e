//! Which requests a service checks next, and what each check has found.
//!
//! **Invariants.** Pure: `now`, requests and outcomes come in, checks and findings go out. A
//! request is checked once for all records and writers that make it, and again only when three
//! quarters of the finding's life are over. Checks have a rate for each writer and a rate in total.
//! A check that is put off counts against neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::PeerId;

use super::{
    config::ServiceConfig,
    finding::Finding,
    request::WriterRequest,
    request_table::{Askers, RequestTable},
    tag::{Outcome, RequestRefusal},
};
use libp2p_smart_record::{Predicate, RecordKey, Timestamp, rate::RateLimit};

/// Shortest delay of a check that is put off.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);
/// Number of writers remembered for one request in one record. Writers within their rate come
/// first.
const MAX_ASKERS: usize = 16;

/// Queue of checks by due time.
#[derive(Debug)]
pub(super) struct CheckQueue {
    config: ServiceConfig,
    requests: RequestTable,
    running: usize,
    total_rate: RateLimit<()>,
    writer_rates: RateLimit<PeerId>,
}

/// Result of scanning a record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScanResult {
    /// Known findings that the record asks for and does not contain yet.
    pub(super) known: Vec<Finding>,
    pub(super) refused: Vec<(PeerId, RequestRefusal)>,
}

impl CheckQueue {
    pub(super) fn new(config: ServiceConfig) -> Self {
        let max = config.max_requests();
        Self {
            requests: RequestTable::new(config.clone()),
            running: 0,
            total_rate: RateLimit::new(1, config.check_interval(), config.check_burst()),
            writer_rates: RateLimit::new(max, config.writer_interval(), config.writer_burst()),
            config,
        }
    }

    /// Replaces the requests of a record. `published` are the service's findings in the record.
    pub(super) fn on_record(
        &mut self,
        key: &RecordKey,
        requests: Vec<WriterRequest>,
        published: &[Finding],
        now: Timestamp,
    ) -> ScanResult {
        let mut by_request: BTreeMap<Predicate, (usize, Askers)> = BTreeMap::new();
        for WriterRequest { request, tag, writer, expires_at } in requests {
            let none = || (tag, Askers { writers: BTreeSet::new(), expires_at });
            let (_, askers) = by_request.entry(request).or_insert_with(none);
            askers.expires_at = askers.expires_at.max(expires_at);
            askers.writers.insert(writer);
        }
        self.requests.retain(key, |request| by_request.contains_key(request));
        let mut result = ScanResult::default();
        for (request, (tag, mut askers)) in by_request {
            askers.writers = self.limit_askers(askers.writers, now);
            let writers = askers.writers.clone();
            let published = published.iter().find(|found| found.request == request);
            match self.requests.insert(key, &request, tag, askers, published, now) {
                Ok(known) => result.known.extend(known),
                Err(refusal) => {
                    result.refused.extend(writers.into_iter().map(|writer| (writer, refusal)));
                }
            }
        }
        result
    }

    fn limit_askers(&self, writers: BTreeSet<PeerId>, now: Timestamp) -> BTreeSet<PeerId> {
        if writers.len() <= MAX_ASKERS {
            return writers;
        }
        let is_open = |writer: &PeerId| self.writer_rates.check(writer, now).is_ok();
        let (open, over): (Vec<_>, Vec<_>) = writers.into_iter().partition(is_open);
        open.into_iter().chain(over).take(MAX_ASKERS).collect()
    }

    /// Writers that make this request in this record.
    pub(super) fn askers(&self, key: &RecordKey, request: &Predicate) -> BTreeSet<PeerId> {
        let askers = self.requests.get(request).and_then(|state| state.records.get(key));
        askers.map(|askers| askers.writers.clone()).unwrap_or_default()
    }

    /// Forgets the requests of a record that is no longer stored.
    pub(super) fn forget_record(&mut self, key: &RecordKey) {
        self.requests.retain(key, |_| false);
    }

    /// Starts the next due check and returns it with its tag. Its outcome goes to
    /// [`on_outcome`](Self::on_outcome).
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(Predicate, usize)> {
        self.requests.expire(now);
        if self.running >= self.config.concurrency() || self.total_rate.check(&(), now).is_err() {
            return None;
        }
        loop {
            let (request, state) = self.requests.next_due(now)?;
            let mut open_at = Timestamp::MAX;
            let writers: BTreeSet<_> =
                state.records.values().flat_map(|askers| &askers.writers).copied().collect();
            for writer in writers {
                match self.writer_rates.admit(writer, now) {
                    Ok(()) => {
                        state.is_running = true;
                        state.charged_to = Some(writer);
                        self.running = self.running.saturating_add(1);
                        // Checked above, so it admits.
                        let _ = self.total_rate.admit((), now);
                        return Some((request.clone(), state.tag));
                    }
                    Err(at) => open_at = open_at.min(at),
                }
            }
            state.due_at = open_at;
        }
    }

    /// Ends a check. Returns the finding for each record in which it is to be published.
    pub(super) fn on_outcome(
        &mut self,
        request: &Predicate,
        outcome: Outcome,
        now: Timestamp,
    ) -> Vec<(RecordKey, Finding)> {
        self.running = self.running.saturating_sub(1);
        let Some(state) = self.requests.get_mut(request) else {
            return Vec::new();
        };
        state.is_running = false;
        let expires_at = now.saturating_add(self.config.ttl());
        let found = match outcome {
            Outcome::Later(delay) => {
                state.due_at = now.saturating_add(delay.max(SHORTEST_DELAY));
                state.was_put_off = true;
                self.total_rate.give_back(&());
                if let Some(writer) = state.charged_to.take() {
                    self.writer_rates.give_back(&writer);
                }
                return Vec::new();
            }
            Outcome::Unknown => None,
            Outcome::Found(finding) => {
                Some(Finding { request: request.clone(), finding, expires_at })
            }
        };
        state.was_checked = true;
        state.due_at = expires_at.saturating_sub(self.config.last_quarter());
        state.found.clone_from(&found);
        let Some(found) = found else {
            return Vec::new();
        };
        let keys = self.requests.drop_where_too_long(request);
        keys.into_iter().map(|key| (key, found.clone())).collect()
    }

    /// Handles a clock that was set back: nothing waits for longer than it would from `now`.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        self.total_rate.on_clock_set_back(now);
        self.writer_rates.on_clock_set_back(now);
        self.requests.on_clock_set_back(now);
    }

    /// Earliest time at which a check may be due; `None` while as many run as may.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.running >= self.config.concurrency() {
            return None;
        }
        let at = self.requests.next_at()?;
        Some(at.max(self.total_rate.check(&(), now).err().unwrap_or(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_table::RECORD_BYTES;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn after(duration: Duration) -> Timestamp {
        NOW.saturating_add(duration)
    }

    /// No rate limits, unless a test sets them.
    fn config() -> ServiceConfig {
        ServiceConfig::default()
            .with_ttl(40 * MINUTE)
            .with_check_interval(Duration::ZERO)
            .with_writer_interval(Duration::ZERO)
    }

    fn request(n: i64) -> Predicate {
        Predicate::new("ask").with(n)
    }

    fn asked(n: i64, writer: PeerId) -> WriterRequest {
        WriterRequest { request: request(n), tag: 0, writer, expires_at: after(1_000 * MINUTE) }
    }

    fn key(n: usize) -> RecordKey {
        RecordKey::new(format!("/sr/{n}"))
    }

    fn yes() -> Outcome {
        Outcome::Found(Predicate::new("yes"))
    }

    fn all_due(queue: &mut CheckQueue, now: Timestamp) -> Vec<Predicate> {
        std::iter::from_fn(|| queue.next(now)).map(|(request, _)| request).collect()
    }

    #[test]
    fn one_check_serves_all_writers_and_records() {
        let mut queue = CheckQueue::new(config());
        for n in 0..3 {
            let by = [asked(1, PeerId::random()), asked(1, PeerId::random())];
            assert_eq!(queue.on_record(&key(n), by.into(), &[], NOW), ScanResult::default());
        }
        assert_eq!(all_due(&mut queue, NOW), [request(1)]);
        assert_eq!(queue.on_outcome(&request(1), yes(), NOW).len(), 3, "in each record");
        let late = queue.on_record(&key(9), vec![asked(1, PeerId::random())], &[], after(MINUTE));
        assert_eq!(late.known.len(), 1, "a later record gets the known finding");
        assert!(all_due(&mut queue, after(29 * MINUTE)).is_empty());
    }

    #[test]
    fn a_request_is_checked_again_before_its_finding_expires_as_long_as_a_record_makes_it() {
        let mut queue = CheckQueue::new(config());
        queue.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut queue, NOW).len(), 1);
        queue.on_outcome(&request(1), yes(), NOW);
        assert_eq!(queue.next_at(NOW), Some(after(30 * MINUTE)));
        assert!(all_due(&mut queue, after(30 * MINUTE - Duration::from_secs(1))).is_empty());
        assert_eq!(all_due(&mut queue, after(30 * MINUTE)).len(), 1);
        let published = queue.on_outcome(&request(1), yes(), after(30 * MINUTE));
        assert_eq!(published[0].1.expires_at, after(70 * MINUTE));
        queue.on_record(&key(0), Vec::new(), &[], after(31 * MINUTE));
        assert!(all_due(&mut queue, after(100 * MINUTE)).is_empty(), "nobody asks any more");
        assert!(queue.requests.counts() == [0; 3]);
    }

    #[test]
    fn a_request_that_has_expired_is_not_checked_again() {
        let mut queue = CheckQueue::new(config());
        let mut asked = asked(1, PeerId::random());
        asked.expires_at = after(20 * MINUTE);
        queue.on_record(&key(0), vec![asked], &[], NOW);
        assert_eq!(all_due(&mut queue, NOW).len(), 1);
        queue.on_outcome(&request(1), yes(), NOW);
        assert!(all_due(&mut queue, after(30 * MINUTE)).is_empty());
    }

    #[test]
    fn a_request_that_is_withdrawn_and_made_again_is_checked_once() {
        let mut queue = CheckQueue::new(config());
        let mut checks = 0;
        for second in 0..100 {
            let now = after(Duration::from_secs(second));
            queue.on_record(&key(0), vec![asked(1, PeerId::random())], &[], now);
            for request in all_due(&mut queue, now) {
                checks += 1;
                queue.on_outcome(&request, yes(), now);
            }
            queue.on_record(&key(0), Vec::new(), &[], now);
            queue.next(now);
        }
        assert_eq!(checks, 1);
    }

    #[test]
    fn a_finding_from_before_a_restart_is_not_checked_again_at_once() {
        let mut queue = CheckQueue::new(config());
        let finding = Predicate::new("yes");
        let said = Finding { request: request(1), finding, expires_at: after(20 * MINUTE) };
        let both = vec![asked(1, PeerId::random()), asked(2, PeerId::random())];
        let result = queue.on_record(&key(0), both, std::slice::from_ref(&said), NOW);
        assert_eq!(result, ScanResult::default());
        assert_eq!(all_due(&mut queue, NOW), [request(2)]);
        assert_eq!(all_due(&mut queue, after(10 * MINUTE)), [request(1)]);
    }

    #[test]
    fn running_checks_are_bounded_in_number_and_rate() {
        let config = config()
            .with_concurrency(3)
            .with_check_interval(Duration::from_secs(10))
            .with_check_burst(5);
        let mut queue = CheckQueue::new(config);
        for n in 0..20 {
            queue.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
        }
        let running = all_due(&mut queue, NOW);
        assert_eq!(running.len(), 3);
        assert_eq!(queue.next_at(NOW), None);
        running.iter().for_each(|request| drop(queue.on_outcome(request, yes(), NOW)));
        let more = all_due(&mut queue, NOW);
        assert_eq!(more.len(), 2, "the burst is used up");
        more.iter().for_each(|request| drop(queue.on_outcome(request, yes(), NOW)));
        assert_eq!(queue.next_at(NOW), Some(after(Duration::from_secs(10))));
        assert_eq!(all_due(&mut queue, after(Duration::from_secs(10))).len(), 1);
    }

    #[test]
    fn a_writer_over_its_rate_waits_and_others_do_not() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(2);
        let mut queue = CheckQueue::new(config);
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut refused = 0;
        for n in 0..20 {
            let result = queue.on_record(&key(n), vec![asked(n as i64, greedy)], &[], NOW);
            refused += result.refused.len();
        }
        assert_eq!(refused, 12, "eight wait");
        queue.on_record(&key(50), vec![asked(50, other)], &[], NOW);
        let due = all_due(&mut queue, NOW);
        assert_eq!(due.len(), 3);
        assert!(due.contains(&request(50)));
        due.iter().for_each(|request| drop(queue.on_outcome(request, yes(), NOW)));
        assert_eq!(all_due(&mut queue, after(MINUTE)).len(), 1);
    }

    #[test]
    fn a_writer_cannot_delay_another_by_making_the_same_request() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(1);
        let mut queue = CheckQueue::new(config.with_max_waiting_of_writer(2));
        let (greedy, other) = (PeerId::random(), PeerId::random());
        for n in 0..5_usize {
            queue.on_record(&key(n), vec![asked(n as i64, greedy)], &[], NOW);
        }
        // The greedy writer's request expires last.
        let mut others = asked(50, other);
        others.expires_at = after(10 * MINUTE);
        let both = || vec![others.clone(), asked(50, greedy)];
        assert_eq!(queue.on_record(&key(50), both(), &[], NOW).refused, []);
        let greedy_alone = queue.on_record(&key(51), vec![asked(51, greedy)], &[], NOW);
        let over = RequestRefusal::TooManyWaitingOfWriter;
        assert_eq!(greedy_alone.refused, [(greedy, over)]);
        let due = all_due(&mut queue, NOW);
        assert_eq!((due.len(), due.contains(&request(50))), (2, true), "one check for each writer");
        assert_eq!(queue.askers(&key(50), &request(50)), [greedy, other].into());
    }

    #[test]
    fn of_many_writers_of_a_request_those_within_their_rate_are_remembered() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(1);
        let mut queue = CheckQueue::new(config);
        let over: Vec<_> = std::iter::repeat_with(PeerId::random).take(40).collect();
        over.iter().for_each(|peer| queue.writer_rates.admit(*peer, NOW).unwrap());
        let open = PeerId::random();
        let all = over.into_iter().chain([open]).map(|peer| asked(1, peer)).collect();
        queue.on_record(&key(0), all, &[], NOW);
        let askers = queue.askers(&key(0), &request(1));
        assert_eq!((askers.len(), askers.contains(&open)), (16, true));
    }

    #[test]
    fn a_finding_that_is_missing_from_its_record_is_published_again() {
        let mut queue = CheckQueue::new(config());
        let asker = PeerId::random();
        assert_eq!(queue.on_record(&key(0), vec![asked(1, asker)], &[], NOW).known, []);
        assert_eq!(all_due(&mut queue, NOW).len(), 1);
        let published = queue.on_outcome(&request(1), yes(), NOW);
        let found = &published[0].1;
        let mut look = |published: &[Finding], now| {
            queue.on_record(&key(0), vec![asked(1, asker)], published, now).known
        };
        assert_eq!(look(std::slice::from_ref(found), after(MINUTE)), []);
        assert_eq!(look(&[], after(2 * MINUTE)), std::slice::from_ref(found));
        assert_eq!(look(&[], after(40 * MINUTE)), [], "it has expired");
    }

    #[test]
    fn the_findings_of_a_record_are_bounded_in_bytes() {
        let mut queue = CheckQueue::new(config().with_concurrency(100));
        let long = "x".repeat(250);
        let asked = |n: i64| {
            let request = Predicate::new("ask").with(n).with_named("text", long.clone());
            WriterRequest { request, tag: 0, writer: PeerId::random(), expires_at: after(MINUTE) }
        };
        let result = queue.on_record(&key(0), (0..16).map(asked).collect(), &[], NOW);
        assert!((7..11).contains(&result.refused.len()), "{}", result.refused.len());
        assert!(queue.requests.bytes_in(&key(0)) <= RECORD_BYTES);
        // Findings that are twice as long.
        let found = || Outcome::Found(Predicate::new("yes").with_named("text", "x".repeat(600)));
        let due = all_due(&mut queue, NOW);
        let published: usize =
            due.iter().map(|request| queue.on_outcome(request, found(), NOW).len()).sum();
        assert!((2..due.len()).contains(&published), "{published}");
        assert!(queue.requests.bytes_in(&key(0)) <= RECORD_BYTES);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_delay_checks() {
        // With rates, of which the burst is used up.
        let config = ServiceConfig::default().with_ttl(40 * MINUTE).with_check_burst(1);
        let mut queue = CheckQueue::new(config.with_writer_burst(1));
        queue.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut queue, NOW).len(), 1);
        queue.on_outcome(&request(1), yes(), NOW);
        let then = NOW.saturating_sub(1_000 * MINUTE);
        queue.on_clock_set_back(then);
        assert_eq!(all_due(&mut queue, then.saturating_add(30 * MINUTE)).len(), 1);
    }

    #[test]
    fn a_flood_of_requests_stays_within_the_bounds_and_new_requests_are_checked() {
        let config = config().with_max_requests(50).with_max_waiting(10).with_concurrency(100);
        let mut queue = CheckQueue::new(config);
        for n in 0..1_000_usize {
            queue.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
            let [requests, records, waiting] = queue.requests.counts();
            assert!(requests <= 50 && records <= 50 && waiting <= 10);
            if n % 10 == 9 {
                let due = all_due(&mut queue, NOW);
                assert_eq!(due.len(), 10, "all that were asked since");
                due.iter().for_each(|request| drop(queue.on_outcome(request, yes(), NOW)));
            }
        }
    }

    #[test]
    fn the_requests_of_a_record_are_bounded_and_others_are_checked_later() {
        let mut queue = CheckQueue::new(config().with_concurrency(100));
        let many = |count| (0..count).map(|n| asked(n, PeerId::random())).collect::<Vec<_>>();
        let result = queue.on_record(&key(0), many(40), &[], NOW);
        assert_eq!(result.refused.len(), 24);
        assert!(result.refused.iter().all(|(_, why)| *why == RequestRefusal::TooManyOfRecord));
        let first = all_due(&mut queue, NOW);
        assert_eq!(first.len(), 16);
        first.iter().for_each(|request| drop(queue.on_outcome(request, yes(), NOW)));
        queue.on_record(&key(0), many(40), &[], after(19 * MINUTE));
        assert!(all_due(&mut queue, after(19 * MINUTE)).is_empty());
        queue.on_record(&key(0), many(40), &[], after(20 * MINUTE));
        let then = all_due(&mut queue, after(20 * MINUTE));
        assert_eq!(then.len(), 16);
        assert!(then.iter().all(|request| !first.contains(request)));
    }

    #[test]
    fn a_check_that_is_put_off_costs_others_neither_rate_nor_room() {
        let config = config()
            .with_check_interval(MINUTE)
            .with_check_burst(1)
            .with_max_waiting(5)
            .with_concurrency(1);
        let mut queue = CheckQueue::new(config);
        for n in 0..5 {
            queue.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
        }
        for _ in 0..5 {
            let (request, _) = queue.next(NOW).expect("none has counted");
            queue.on_outcome(&request, Outcome::Later(MINUTE), NOW);
        }
        let result = queue.on_record(&key(9), vec![asked(9, PeerId::random())], &[], NOW);
        assert_eq!(result.refused, []);
        assert_eq!(all_due(&mut queue, NOW), [request(9)]);
    }

    #[test]
    fn a_check_that_is_put_off_runs_again_soon_and_an_unknown_one_much_later() {
        let mut queue = CheckQueue::new(config());
        queue.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut queue, NOW).len(), 1);
        assert!(queue.on_outcome(&request(1), Outcome::Later(MINUTE), NOW).is_empty());
        assert_eq!(queue.next_at(NOW), Some(after(MINUTE)));
        assert_eq!(all_due(&mut queue, after(MINUTE)).len(), 1);
        assert!(queue.on_outcome(&request(1), Outcome::Unknown, after(MINUTE)).is_empty());
        assert_eq!(queue.next_at(after(MINUTE)), Some(after(31 * MINUTE)));
    }

    #[test]
    fn a_forgotten_record_makes_no_requests() {
        let mut queue = CheckQueue::new(config());
        queue.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        queue.forget_record(&key(0));
        assert_eq!(queue.next(NOW), None);
        assert!(queue.requests.counts() == [0; 3]);
    }
}
