//! What is asked of a service, what it has found, and what it is to check next.
//!
//! **Invariants.** Pure: `now`, requests and outcomes come in, checks and findings go out. A request is checked once for all
//! records and writers that make it, and not again before three quarters of the finding's life are over. Whatever is remembered
//! is bounded: of checks that wait the newest are refused, and those that were made once, or had to be put off, make room for
//! those that were not.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use libp2p_identity::PeerId;

use super::{
    config::ServiceConfig,
    finding::{self, Finding},
    request::Asked,
    tag::{Outcome, RequestRefusal},
};
use libp2p_smart_record::{Predicate, RecordKey, Timestamp, rate::RateLimit};

/// What was put off waits for at least this long.
const SHORTEST_DELAY: Duration = Duration::from_secs(1);
/// How many of those who ask the same in a record are remembered, rather those who are not over their rate.
const ASKERS: usize = 16;
/// How many bytes the findings of a record take, with their requests: so much is written anew while so much is there, in a
/// space of 8 KiB.
const RECORD_BYTES: usize = 4_800;

#[derive(Debug)]
pub(super) struct Agenda {
    config: ServiceConfig,
    checks: HashMap<Predicate, Check>,
    /// What is asked in each record.
    keys: HashMap<RecordKey, BTreeSet<Predicate>>,
    running: usize,
    all: RateLimit<()>,
    writers: RateLimit<PeerId>,
    last_order: u64,
}

/// A request, and what is known about it.
#[derive(Debug)]
struct Check {
    tag: usize,
    wants: BTreeMap<RecordKey, Want>,
    is_running: bool,
    was_checked: bool,
    was_put_off: bool,
    /// Whose turn it took.
    turn_of: Option<PeerId>,
    found: Option<Finding>,
    /// When it is to be checked next.
    at: Timestamp,
    /// Of those that came at the same time, who was first.
    order: u64,
}

/// That a record asks for it.
#[derive(Clone, Debug)]
struct Want {
    /// By whom; it has its turn if one of them may.
    askers: BTreeSet<PeerId>,
    /// When the last of them has it no more.
    expires_at: Timestamp,
}

impl Check {
    /// How many bytes the finding takes in a record; as long as there is none it is taken to be as long as the request.
    fn cost(&self, request: &Predicate) -> usize {
        finding::cost(request, self.found.as_ref().map_or(request, |found| &found.finding))
    }
}

/// What a look at a record has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// What is known already of what it asks, and is not said there.
    pub(super) known: Vec<Finding>,
    pub(super) refused: Vec<(PeerId, RequestRefusal)>,
}

impl Agenda {
    pub(super) fn new(config: ServiceConfig) -> Self {
        let max = config.max_requests();
        Self {
            checks: HashMap::new(),
            keys: HashMap::new(),
            running: 0,
            all: RateLimit::new(1, config.check_interval(), config.check_burst()),
            writers: RateLimit::new(max, config.writer_interval(), config.writer_burst()),
            last_order: 0,
            config,
        }
    }

    /// A record asks for these and nothing else. `published` is what the service has found, and says there already.
    pub(super) fn on_record(
        &mut self,
        key: &RecordKey,
        asked: Vec<Asked>,
        published: &[Finding],
        now: Timestamp,
    ) -> Looked {
        let mut wants: BTreeMap<Predicate, (usize, Want)> = BTreeMap::new();
        for Asked { request, tag, writer, expires_at } in asked {
            let none = || (tag, Want { askers: BTreeSet::new(), expires_at });
            let (_, want) = wants.entry(request).or_insert_with(none);
            want.expires_at = want.expires_at.max(expires_at);
            want.askers.insert(writer);
        }
        for request in self.keys.get(key).cloned().unwrap_or_default() {
            if !wants.contains_key(&request) {
                self.drop_want(key, &request);
            }
        }
        let mut looked = Looked::default();
        for (request, (tag, mut want)) in wants {
            want.askers = self.some_askers(want.askers, now);
            let askers = want.askers.clone();
            let published = published.iter().find(|found| found.request == request);
            match self.want(key, &request, tag, want, published, now) {
                Ok(known) => looked.known.extend(known),
                Err(refusal) => {
                    looked.refused.extend(askers.into_iter().map(|asker| (asker, refusal)));
                }
            }
        }
        looked
    }

    fn some_askers(&self, askers: BTreeSet<PeerId>, now: Timestamp) -> BTreeSet<PeerId> {
        if askers.len() <= ASKERS {
            return askers;
        }
        let is_open = |asker: &PeerId| self.writers.check(asker, now).is_ok();
        let (open, over): (Vec<_>, Vec<_>) = askers.into_iter().partition(is_open);
        open.into_iter().chain(over).take(ASKERS).collect()
    }

    /// Who makes this request in this record.
    pub(super) fn askers(&self, key: &RecordKey, request: &Predicate) -> BTreeSet<PeerId> {
        let want = self.checks.get(request).and_then(|check| check.wants.get(key));
        want.map(|want| want.askers.clone()).unwrap_or_default()
    }

    /// The record is stored here no more.
    pub(super) fn forget_record(&mut self, key: &RecordKey) {
        for request in self.keys.get(key).cloned().unwrap_or_default() {
            self.drop_want(key, &request);
        }
    }

    /// Takes note that a record makes a request. Returns a finding that is to be published there.
    fn want(
        &mut self,
        key: &RecordKey,
        request: &Predicate,
        tag: usize,
        want: Want,
        published: Option<&Finding>,
        now: Timestamp,
    ) -> Result<Option<Finding>, RequestRefusal> {
        if let Some(check) = self.checks.get_mut(request)
            && let Some(known) = check.wants.get_mut(key)
        {
            *known = want;
            // It may not have been written, or have gone from there.
            let is_said = |found: &Finding| {
                published.is_some_and(|said| {
                    said.expires_at > now && said.finding.tag == found.finding.tag
                })
            };
            let found = check.found.as_ref();
            return Ok(found.filter(|it| it.expires_at > now && !is_said(it)).cloned());
        }
        while !self.has_room_in(key, request) {
            if !self.make_room_in(key, now) {
                return Err(RequestRefusal::TooManyOfRecord);
            }
        }
        let is_new = !self.checks.contains_key(request);
        let recheck_at =
            published.map(|found| found.expires_at.saturating_sub(self.last_quarter()));
        let still_holds = published.filter(|_| recheck_at.is_some_and(|at| at > now));
        if is_new && still_holds.is_none() {
            self.check_waiting(request, &want.askers)?;
        }
        let wants = self.keys.values().map(BTreeSet::len).fold(0, usize::saturating_add);
        let max = self.config.max_requests();
        let is_full = wants >= max || (is_new && self.checks.len() >= max);
        if is_full && !self.make_room(request, |check| check.was_checked) {
            return Err(RequestRefusal::QueueFull);
        }
        self.last_order = self.last_order.saturating_add(1);
        let check = self.checks.entry(request.clone()).or_insert_with(|| Check {
            tag,
            wants: BTreeMap::new(),
            is_running: false,
            was_checked: still_holds.is_some(),
            was_put_off: false,
            turn_of: None,
            found: still_holds.cloned(),
            at: recheck_at.filter(|_| still_holds.is_some()).unwrap_or(now),
            order: self.last_order,
        });
        check.wants.insert(key.clone(), want);
        self.keys.entry(key.clone()).or_default().insert(request.clone());
        let is_news = |found: &&Finding| {
            found.expires_at > now
                && published.is_none_or(|said| said.expires_at < found.expires_at)
        };
        Ok(check.found.as_ref().filter(is_news).cloned())
    }

    /// Whether one more may wait for its first check.
    fn check_waiting(
        &mut self,
        request: &Predicate,
        askers: &BTreeSet<PeerId>,
    ) -> Result<(), RequestRefusal> {
        let waiting = || self.checks.values().filter(|check| !check.was_checked);
        let is_over = |asker: &PeerId| {
            let is_his = |check: &&Check| check.wants.values().any(|w| w.askers.contains(asker));
            waiting().filter(is_his).count() >= self.config.max_waiting_of_writer()
        };
        if askers.iter().all(is_over) {
            return Err(RequestRefusal::TooManyWaitingOfWriter);
        }
        let is_full = waiting().count() >= self.config.max_waiting();
        if is_full && !self.make_room(request, |check| !check.was_checked && check.was_put_off) {
            return Err(RequestRefusal::QueueFull);
        }
        Ok(())
    }

    /// Forgets the request that was checked the longest ago, rather one that nobody makes any more, and never this one.
    fn make_room(&mut self, but: &Predicate, may_go: impl Fn(&Check) -> bool) -> bool {
        let candidates = self
            .checks
            .iter()
            .filter(|(request, check)| may_go(check) && !check.is_running && *request != but);
        let oldest = candidates.min_by_key(|(_, c)| (!c.wants.is_empty(), c.at, c.order));
        let Some(request) = oldest.map(|(request, _)| request.clone()) else {
            return false;
        };
        let check = self.checks.remove(&request);
        for key in check.into_iter().flat_map(|check| check.wants.into_keys()) {
            self.drop_key(&key, &request);
        }
        true
    }

    /// Whether the record may make one more request.
    fn has_room_in(&self, key: &RecordKey, request: &Predicate) -> bool {
        let Some(of) = self.keys.get(key) else {
            return true;
        };
        let known = self.checks.get(request);
        let cost = known.map_or_else(|| finding::cost(request, request), |it| it.cost(request));
        let bytes = self.bytes_in(key).saturating_add(cost);
        of.len() < self.config.max_of_record() && bytes <= RECORD_BYTES
    }

    /// How many bytes the findings of a record take.
    fn bytes_in(&self, key: &RecordKey) -> usize {
        let of = self.keys.get(key).into_iter().flatten();
        let cost = |request: &Predicate| self.checks.get(request).map(|it| it.cost(request));
        of.filter_map(cost).fold(0, usize::saturating_add)
    }

    /// Forgets the request of a record that was checked the longest ago, if its finding is past half of its life.
    fn make_room_in(&mut self, key: &RecordKey, now: Timestamp) -> bool {
        let soon = now.saturating_add(self.last_quarter());
        let check = |request: &Predicate| self.checks.get(request);
        let of = self.keys.get(key).into_iter().flatten();
        let may_go = of.filter_map(|request| {
            let check =
                check(request).filter(|c| c.was_checked && !c.is_running && c.at <= soon)?;
            Some((check.at, check.order, request))
        });
        let Some(oldest) = may_go.min().map(|(_, _, request)| request.clone()) else {
            return false;
        };
        self.drop_want(key, &oldest);
        true
    }

    fn drop_want(&mut self, key: &RecordKey, request: &Predicate) {
        if let Some(check) = self.checks.get_mut(request) {
            check.wants.remove(key);
        }
        self.drop_key(key, request);
    }

    fn drop_key(&mut self, key: &RecordKey, request: &Predicate) {
        if let Some(of) = self.keys.get_mut(key) {
            of.remove(request);
            if of.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Forgets what nobody asks any more. What was checked is remembered until it would be checked again, so that asking
    /// again and again does not have it checked again and again.
    fn expire(&mut self, now: Timestamp) {
        let mut expired = Vec::new();
        for (request, check) in &self.checks {
            let keys = check.wants.iter().filter(|(_, want)| want.expires_at <= now);
            expired.extend(keys.map(|(key, _)| (key.clone(), request.clone())));
        }
        for (key, request) in expired {
            self.drop_want(&key, &request);
        }
        self.checks.retain(|_, check| {
            !check.wants.is_empty() || check.is_running || (check.was_checked && check.at > now)
        });
    }

    /// The next check to make, with its tag. Tell how it has gone with [`on_outcome`](Self::on_outcome).
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(Predicate, usize)> {
        self.expire(now);
        if self.running >= self.config.concurrency() || self.all.check(&(), now).is_err() {
            return None;
        }
        loop {
            let is_due = |check: &&mut Check| {
                !check.is_running && check.at <= now && !check.wants.is_empty()
            };
            let due = self.checks.iter_mut().filter(|(_, check)| is_due(check));
            let (request, check) = due.min_by_key(|(_, check)| (check.at, check.order))?;
            let mut open_at = Timestamp::MAX;
            let writers: BTreeSet<_> =
                check.wants.values().flat_map(|want| &want.askers).copied().collect();
            for writer in writers {
                match self.writers.admit(writer, now) {
                    Ok(()) => {
                        check.is_running = true;
                        check.turn_of = Some(writer);
                        self.running = self.running.saturating_add(1);
                        // It was open.
                        let _ = self.all.admit((), now);
                        return Some((request.clone(), check.tag));
                    }
                    Err(at) => open_at = open_at.min(at),
                }
            }
            check.at = open_at;
        }
    }

    /// A check has come to this. Returns what is to be published, and in which records.
    pub(super) fn on_outcome(
        &mut self,
        request: &Predicate,
        outcome: Outcome,
        now: Timestamp,
    ) -> Vec<(RecordKey, Finding)> {
        self.running = self.running.saturating_sub(1);
        let (ttl, last_quarter) = (self.config.ttl(), self.last_quarter());
        let Some(check) = self.checks.get_mut(request) else {
            return Vec::new();
        };
        check.is_running = false;
        let expires_at = now.saturating_add(ttl);
        let recheck_at = expires_at.saturating_sub(last_quarter);
        let finding = match outcome {
            Outcome::Later(delay) => {
                check.at = now.saturating_add(delay.max(SHORTEST_DELAY));
                check.was_put_off = true;
                self.all.give_back(&());
                if let Some(writer) = check.turn_of.take() {
                    self.writers.give_back(&writer);
                }
                return Vec::new();
            }
            Outcome::Unknown => None,
            Outcome::Found(finding) => {
                Some(Finding { request: request.clone(), finding, expires_at })
            }
        };
        check.was_checked = true;
        check.at = recheck_at;
        check.found = finding;
        let Some(found) = check.found.clone() else {
            return Vec::new();
        };
        let mut keys: Vec<_> = check.wants.keys().cloned().collect();
        // A finding may be longer than it was taken to be.
        keys.retain(|key| {
            let has_room = self.bytes_in(key) <= RECORD_BYTES;
            if !has_room {
                self.drop_want(key, request);
            }
            has_room
        });
        keys.into_iter().map(|key| (key, found.clone())).collect()
    }

    /// The clock was set back: nothing waits for longer than it would have from now on.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        self.all.on_clock_set_back(now);
        self.writers.on_clock_set_back(now);
        let until = now.saturating_add(self.config.ttl());
        let latest = until.saturating_sub(self.last_quarter());
        for check in self.checks.values_mut() {
            check.at = check.at.min(latest);
            if let Some(found) = &mut check.found {
                found.expires_at = found.expires_at.min(until);
            }
        }
    }

    /// When there may be something to check next.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.running >= self.config.concurrency() {
            return None;
        }
        let waits = |check: &&Check| !check.is_running && !check.wants.is_empty();
        let at = self.checks.values().filter(waits).map(|check| check.at).min()?;
        Some(at.max(self.all.check(&(), now).err().unwrap_or(now)))
    }

    fn last_quarter(&self) -> Duration {
        self.config.ttl().checked_div(4).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn asked(n: i64, writer: PeerId) -> Asked {
        Asked { request: request(n), tag: 0, writer, expires_at: after(1_000 * MINUTE) }
    }

    fn key(n: usize) -> RecordKey {
        RecordKey::new(format!("/sr/{n}"))
    }

    fn yes() -> Outcome {
        Outcome::Found(Predicate::new("yes"))
    }

    fn all_due(agenda: &mut Agenda, now: Timestamp) -> Vec<Predicate> {
        std::iter::from_fn(|| agenda.next(now)).map(|(request, _)| request).collect()
    }

    #[test]
    fn one_check_serves_all_who_ask() {
        let mut agenda = Agenda::new(config());
        for n in 0..3 {
            let by = [asked(1, PeerId::random()), asked(1, PeerId::random())];
            assert_eq!(agenda.on_record(&key(n), by.into(), &[], NOW), Looked::default());
        }
        assert_eq!(all_due(&mut agenda, NOW), [request(1)]);
        assert_eq!(agenda.on_outcome(&request(1), yes(), NOW).len(), 3, "in each record");
        let late = agenda.on_record(&key(9), vec![asked(1, PeerId::random())], &[], after(MINUTE));
        assert_eq!(late.known.len(), 1, "who comes later is told what is known");
        assert!(all_due(&mut agenda, after(29 * MINUTE)).is_empty());
    }

    #[test]
    fn it_is_checked_again_before_the_finding_expires_as_long_as_it_is_asked_for() {
        let mut agenda = Agenda::new(config());
        agenda.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut agenda, NOW).len(), 1);
        agenda.on_outcome(&request(1), yes(), NOW);
        assert_eq!(agenda.next_at(NOW), Some(after(30 * MINUTE)));
        assert!(all_due(&mut agenda, after(30 * MINUTE - Duration::from_secs(1))).is_empty());
        assert_eq!(all_due(&mut agenda, after(30 * MINUTE)).len(), 1);
        let published = agenda.on_outcome(&request(1), yes(), after(30 * MINUTE));
        assert_eq!(published[0].1.expires_at, after(70 * MINUTE));
        agenda.on_record(&key(0), Vec::new(), &[], after(31 * MINUTE));
        assert!(all_due(&mut agenda, after(100 * MINUTE)).is_empty(), "nobody asks any more");
        assert!(agenda.checks.is_empty() && agenda.keys.is_empty());
    }

    #[test]
    fn a_request_that_has_expired_is_not_checked_again() {
        let mut agenda = Agenda::new(config());
        let mut asked = asked(1, PeerId::random());
        asked.expires_at = after(20 * MINUTE);
        agenda.on_record(&key(0), vec![asked], &[], NOW);
        assert_eq!(all_due(&mut agenda, NOW).len(), 1);
        agenda.on_outcome(&request(1), yes(), NOW);
        assert!(all_due(&mut agenda, after(30 * MINUTE)).is_empty());
    }

    #[test]
    fn asking_withdrawing_and_asking_again_has_it_checked_once() {
        let mut agenda = Agenda::new(config());
        let mut checks = 0;
        for second in 0..100 {
            let now = after(Duration::from_secs(second));
            agenda.on_record(&key(0), vec![asked(1, PeerId::random())], &[], now);
            for request in all_due(&mut agenda, now) {
                checks += 1;
                agenda.on_outcome(&request, yes(), now);
            }
            agenda.on_record(&key(0), Vec::new(), &[], now);
            agenda.next(now);
        }
        assert_eq!(checks, 1);
    }

    #[test]
    fn what_was_found_before_a_restart_is_not_checked_again_at_once() {
        let mut agenda = Agenda::new(config());
        let finding = Predicate::new("yes");
        let said = Finding { request: request(1), finding, expires_at: after(20 * MINUTE) };
        let both = vec![asked(1, PeerId::random()), asked(2, PeerId::random())];
        let looked = agenda.on_record(&key(0), both, std::slice::from_ref(&said), NOW);
        assert_eq!(looked, Looked::default());
        assert_eq!(all_due(&mut agenda, NOW), [request(2)]);
        assert_eq!(all_due(&mut agenda, after(10 * MINUTE)), [request(1)]);
    }

    #[test]
    fn only_so_many_run_at_a_time_and_in_a_time() {
        let config = config()
            .with_concurrency(3)
            .with_check_interval(Duration::from_secs(10))
            .with_check_burst(5);
        let mut agenda = Agenda::new(config);
        for n in 0..20 {
            agenda.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
        }
        let running = all_due(&mut agenda, NOW);
        assert_eq!(running.len(), 3);
        assert_eq!(agenda.next_at(NOW), None);
        running.iter().for_each(|request| drop(agenda.on_outcome(request, yes(), NOW)));
        let more = all_due(&mut agenda, NOW);
        assert_eq!(more.len(), 2, "the burst is used up");
        more.iter().for_each(|request| drop(agenda.on_outcome(request, yes(), NOW)));
        assert_eq!(agenda.next_at(NOW), Some(after(Duration::from_secs(10))));
        assert_eq!(all_due(&mut agenda, after(Duration::from_secs(10))).len(), 1);
    }

    #[test]
    fn a_writer_who_asks_for_much_waits_and_others_do_not() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(2);
        let mut agenda = Agenda::new(config);
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut refused = 0;
        for n in 0..20 {
            let looked = agenda.on_record(&key(n), vec![asked(n as i64, greedy)], &[], NOW);
            refused += looked.refused.len();
        }
        assert_eq!(refused, 12, "eight wait");
        agenda.on_record(&key(50), vec![asked(50, other)], &[], NOW);
        let due = all_due(&mut agenda, NOW);
        assert_eq!(due.len(), 3);
        assert!(due.contains(&request(50)));
        due.iter().for_each(|request| drop(agenda.on_outcome(request, yes(), NOW)));
        assert_eq!(all_due(&mut agenda, after(MINUTE)).len(), 1);
    }

    #[test]
    fn asking_the_same_as_another_writer_does_not_have_him_refused_or_wait() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(1);
        let mut agenda = Agenda::new(config.with_max_waiting_of_writer(2));
        let (greedy, other) = (PeerId::random(), PeerId::random());
        for n in 0..5_usize {
            agenda.on_record(&key(n), vec![asked(n as i64, greedy)], &[], NOW);
        }
        // The greedy one's expires last.
        let mut others = asked(50, other);
        others.expires_at = after(10 * MINUTE);
        let both = || vec![others.clone(), asked(50, greedy)];
        assert_eq!(agenda.on_record(&key(50), both(), &[], NOW).refused, []);
        let greedy_alone = agenda.on_record(&key(51), vec![asked(51, greedy)], &[], NOW);
        let over = RequestRefusal::TooManyWaitingOfWriter;
        assert_eq!(greedy_alone.refused, [(greedy, over)]);
        let due = all_due(&mut agenda, NOW);
        assert_eq!((due.len(), due.contains(&request(50))), (2, true), "one turn for each of them");
        assert_eq!(agenda.askers(&key(50), &request(50)), [greedy, other].into());
    }

    #[test]
    fn of_many_who_ask_the_same_some_are_remembered_who_may_have_a_turn() {
        let config = config().with_writer_interval(MINUTE).with_writer_burst(1);
        let mut agenda = Agenda::new(config);
        let over: Vec<_> = std::iter::repeat_with(PeerId::random).take(40).collect();
        over.iter().for_each(|peer| agenda.writers.admit(*peer, NOW).unwrap());
        let open = PeerId::random();
        let all = over.into_iter().chain([open]).map(|peer| asked(1, peer)).collect();
        agenda.on_record(&key(0), all, &[], NOW);
        let askers = agenda.askers(&key(0), &request(1));
        assert_eq!((askers.len(), askers.contains(&open)), (16, true));
    }

    #[test]
    fn a_finding_that_is_not_there_any_more_is_published_again() {
        let mut agenda = Agenda::new(config());
        let asker = PeerId::random();
        assert_eq!(agenda.on_record(&key(0), vec![asked(1, asker)], &[], NOW).known, []);
        assert_eq!(all_due(&mut agenda, NOW).len(), 1);
        let published = agenda.on_outcome(&request(1), yes(), NOW);
        let found = &published[0].1;
        let mut look = |published: &[Finding], now| {
            agenda.on_record(&key(0), vec![asked(1, asker)], published, now).known
        };
        assert_eq!(look(std::slice::from_ref(found), after(MINUTE)), []);
        assert_eq!(look(&[], after(2 * MINUTE)), std::slice::from_ref(found));
        assert_eq!(look(&[], after(40 * MINUTE)), [], "it has expired");
    }

    #[test]
    fn the_findings_of_a_record_are_bounded_in_bytes_too() {
        let mut agenda = Agenda::new(config().with_concurrency(100));
        let long = "x".repeat(250);
        let asked = |n: i64| {
            let request = Predicate::new("ask").with(n).with_named("text", long.clone());
            Asked { request, tag: 0, writer: PeerId::random(), expires_at: after(MINUTE) }
        };
        let looked = agenda.on_record(&key(0), (0..16).map(asked).collect(), &[], NOW);
        assert!((7..11).contains(&looked.refused.len()), "{}", looked.refused.len());
        assert!(agenda.bytes_in(&key(0)) <= RECORD_BYTES);
        // Findings that are twice as long.
        let found = || Outcome::Found(Predicate::new("yes").with_named("text", "x".repeat(600)));
        let due = all_due(&mut agenda, NOW);
        let published: usize =
            due.iter().map(|request| agenda.on_outcome(request, found(), NOW).len()).sum();
        assert!((2..due.len()).contains(&published), "{published}");
        assert!(agenda.bytes_in(&key(0)) <= RECORD_BYTES);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_checks_off() {
        // With rates, of which the burst is used up.
        let config = ServiceConfig::default().with_ttl(40 * MINUTE).with_check_burst(1);
        let mut agenda = Agenda::new(config.with_writer_burst(1));
        agenda.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut agenda, NOW).len(), 1);
        agenda.on_outcome(&request(1), yes(), NOW);
        let then = NOW.saturating_sub(1_000 * MINUTE);
        agenda.on_clock_set_back(then);
        assert_eq!(all_due(&mut agenda, then.saturating_add(30 * MINUTE)).len(), 1);
    }

    #[test]
    fn a_flood_of_requests_stays_within_the_bounds_and_new_ones_still_get_their_turn() {
        let config = config().with_max_requests(50).with_max_waiting(10).with_concurrency(100);
        let mut agenda = Agenda::new(config);
        for n in 0..1_000_usize {
            agenda.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
            assert!(agenda.checks.values().filter(|check| !check.was_checked).count() <= 10);
            assert!(agenda.checks.len() <= 50 && agenda.keys.len() <= 50);
            if n % 10 == 9 {
                let due = all_due(&mut agenda, NOW);
                assert_eq!(due.len(), 10, "all that were asked since");
                due.iter().for_each(|request| drop(agenda.on_outcome(request, yes(), NOW)));
            }
        }
    }

    #[test]
    fn a_record_has_only_so_many_answered_and_then_others_have_their_turn() {
        let mut agenda = Agenda::new(config().with_concurrency(100));
        let many = |count| (0..count).map(|n| asked(n, PeerId::random())).collect::<Vec<_>>();
        let looked = agenda.on_record(&key(0), many(40), &[], NOW);
        assert_eq!(looked.refused.len(), 24);
        assert!(looked.refused.iter().all(|(_, why)| *why == RequestRefusal::TooManyOfRecord));
        let first = all_due(&mut agenda, NOW);
        assert_eq!(first.len(), 16);
        first.iter().for_each(|request| drop(agenda.on_outcome(request, yes(), NOW)));
        agenda.on_record(&key(0), many(40), &[], after(19 * MINUTE));
        assert!(all_due(&mut agenda, after(19 * MINUTE)).is_empty());
        agenda.on_record(&key(0), many(40), &[], after(20 * MINUTE));
        let then = all_due(&mut agenda, after(20 * MINUTE));
        assert_eq!(then.len(), 16);
        assert!(then.iter().all(|request| !first.contains(request)));
    }

    #[test]
    fn what_is_put_off_takes_no_turn_and_no_room_from_others() {
        let config = config()
            .with_check_interval(MINUTE)
            .with_check_burst(1)
            .with_max_waiting(5)
            .with_concurrency(1);
        let mut agenda = Agenda::new(config);
        for n in 0..5 {
            agenda.on_record(&key(n), vec![asked(n as i64, PeerId::random())], &[], NOW);
        }
        for _ in 0..5 {
            let (request, _) = agenda.next(NOW).expect("none has counted");
            agenda.on_outcome(&request, Outcome::Later(MINUTE), NOW);
        }
        let looked = agenda.on_record(&key(9), vec![asked(9, PeerId::random())], &[], NOW);
        assert_eq!(looked.refused, []);
        assert_eq!(all_due(&mut agenda, NOW), [request(9)]);
    }

    #[test]
    fn what_is_put_off_comes_again_and_what_is_not_known_much_later() {
        let mut agenda = Agenda::new(config());
        agenda.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        assert_eq!(all_due(&mut agenda, NOW).len(), 1);
        assert!(agenda.on_outcome(&request(1), Outcome::Later(MINUTE), NOW).is_empty());
        assert_eq!(agenda.next_at(NOW), Some(after(MINUTE)));
        assert_eq!(all_due(&mut agenda, after(MINUTE)).len(), 1);
        assert!(agenda.on_outcome(&request(1), Outcome::Unknown, after(MINUTE)).is_empty());
        assert_eq!(agenda.next_at(after(MINUTE)), Some(after(31 * MINUTE)));
    }

    #[test]
    fn a_record_that_is_gone_asks_nothing() {
        let mut agenda = Agenda::new(config());
        agenda.on_record(&key(0), vec![asked(1, PeerId::random())], &[], NOW);
        agenda.forget_record(&key(0));
        assert_eq!(agenda.next(NOW), None);
        assert!(agenda.checks.is_empty() && agenda.keys.is_empty());
    }
}
