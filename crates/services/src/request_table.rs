//! The requests that records make, and what is known about each.
//!
//! **Invariants.** Pure. A request has one entry, however many records and writers make it. Bounds
//! of [`ServiceConfig`] hold for the requests in total and of a record, and for those that wait for
//! their first check, in total and of a writer. The findings of a record have a bound in bytes.
//! Where a bound is reached, the new request is refused, unless an entry that was checked or put
//! off makes room.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use libp2p_identity::PeerId;

use super::{
    config::ServiceConfig,
    finding::{self, Finding},
    tag::RequestRefusal,
};
use libp2p_smart_record::{Predicate, RecordKey, Timestamp};

/// Most bytes of a record's findings with their requests. A space of 8 KiB holds the renewed
/// findings while it still holds the previous ones.
pub(super) const RECORD_BYTES: usize = 4_800;

/// Requests by content and by record.
#[derive(Debug)]
pub(super) struct RequestTable {
    config: ServiceConfig,
    requests: HashMap<Predicate, RequestState>,
    records: HashMap<RecordKey, BTreeSet<Predicate>>,
    last_order: u64,
}

/// State of a request.
#[derive(Debug)]
pub(super) struct RequestState {
    /// Index of the tag that checks it.
    pub(super) tag: usize,
    /// The records that make it.
    pub(super) records: BTreeMap<RecordKey, Askers>,
    pub(super) is_running: bool,
    pub(super) was_checked: bool,
    pub(super) was_put_off: bool,
    /// The writer whose rate the last check was charged to.
    pub(super) charged_to: Option<PeerId>,
    pub(super) found: Option<Finding>,
    /// When the next check is due.
    pub(super) due_at: Timestamp,
    /// Order of arrival, which decides between equal due times.
    order: u64,
}

/// The writers that make a request in a record.
#[derive(Clone, Debug)]
pub(super) struct Askers {
    /// The check is charged to one of them.
    pub(super) writers: BTreeSet<PeerId>,
    /// When the request of the last of them expires.
    pub(super) expires_at: Timestamp,
}

impl RequestState {
    /// Bytes of the finding in a record. A finding that is not known yet counts as many bytes as
    /// the request.
    fn cost(&self, request: &Predicate) -> usize {
        finding::cost(request, self.found.as_ref().map_or(request, |found| &found.finding))
    }

    fn is_waiting(&self) -> bool {
        !self.is_running && !self.records.is_empty()
    }
}

impl RequestTable {
    pub(super) fn new(config: ServiceConfig) -> Self {
        Self { config, requests: HashMap::new(), records: HashMap::new(), last_order: 0 }
    }

    pub(super) fn get(&self, request: &Predicate) -> Option<&RequestState> {
        self.requests.get(request)
    }

    pub(super) fn get_mut(&mut self, request: &Predicate) -> Option<&mut RequestState> {
        self.requests.get_mut(request)
    }

    /// The waiting request that is due first, if it is due.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Option<(&Predicate, &mut RequestState)> {
        let due =
            self.requests.iter_mut().filter(|(_, state)| state.is_waiting() && state.due_at <= now);
        due.min_by_key(|(_, state)| (state.due_at, state.order))
    }

    /// When the next waiting request is due.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.requests.values().filter(|state| state.is_waiting()).map(|state| state.due_at).min()
    }

    /// Inserts a request that a record makes. `published` is its finding in the record. Returns the
    /// known finding if it has to be published there.
    pub(super) fn insert(
        &mut self,
        key: &RecordKey,
        request: &Predicate,
        tag: usize,
        askers: Askers,
        published: Option<&Finding>,
        now: Timestamp,
    ) -> Result<Option<Finding>, RequestRefusal> {
        if let Some(state) = self.requests.get_mut(request)
            && let Some(known) = state.records.get_mut(key)
        {
            *known = askers;
            // Its write may have failed, or newer updates may have pushed it out of the space.
            let is_published = |found: &Finding| {
                published.is_some_and(|published| {
                    published.expires_at > now && published.finding.tag == found.finding.tag
                })
            };
            let found = state.found.as_ref();
            return Ok(found.filter(|it| it.expires_at > now && !is_published(it)).cloned());
        }
        let is_new = !self.requests.contains_key(request);
        let recheck_at =
            published.map(|found| found.expires_at.saturating_sub(self.config.last_quarter()));
        let still_holds = published.filter(|_| recheck_at.is_some_and(|at| at > now));
        let has_to_wait = is_new && still_holds.is_none();
        // What is only counted comes first: for the rest, all that the record asks for is encoded.
        // Nothing gives way before it is known that the request finds room.
        if has_to_wait && self.are_over(&askers.writers) {
            return Err(RequestRefusal::TooManyWaitingOfWriter);
        }
        let of_record = self.records.get(key).map_or(0, BTreeSet::len);
        let surplus = of_record.saturating_add(1).saturating_sub(self.config.max_of_record());
        let old = self.old_in(key, now);
        if surplus > old.len() {
            return Err(RequestRefusal::TooManyOfRecord);
        }
        let first = |may_go: fn(&RequestState) -> bool| {
            self.first_to_go(request, may_go).ok_or(RequestRefusal::QueueFull)
        };
        let is_full = has_to_wait && self.waiting().count() >= self.config.max_waiting();
        let put_off =
            if is_full { Some(first(|it| !it.was_checked && it.was_put_off)?) } else { None };
        let freed =
            put_off.as_ref().and_then(|it| self.requests.get(it)).map(|it| it.records.len());
        let count = self.records.values().map(BTreeSet::len).fold(0, usize::saturating_add);
        let count = count.saturating_sub(freed.unwrap_or_default()).saturating_sub(surplus);
        let max = self.config.max_requests();
        let len = self.requests.len().saturating_sub(put_off.iter().len());
        let is_full = count >= max || (is_new && len >= max);
        let checked = if is_full { Some(first(|it| it.was_checked)?) } else { None };
        let in_record = self.making_room(key, request, old, surplus);
        let in_record = in_record.ok_or(RequestRefusal::TooManyOfRecord)?;
        for old in put_off.into_iter().chain(checked) {
            self.forget(&old);
        }
        for old in in_record {
            self.remove(key, &old);
        }
        self.last_order = self.last_order.saturating_add(1);
        let state = self.requests.entry(request.clone()).or_insert_with(|| RequestState {
            tag,
            records: BTreeMap::new(),
            is_running: false,
            was_checked: still_holds.is_some(),
            was_put_off: false,
            charged_to: None,
            found: still_holds.cloned(),
            due_at: recheck_at.filter(|_| still_holds.is_some()).unwrap_or(now),
            order: self.last_order,
        });
        state.records.insert(key.clone(), askers);
        self.records.entry(key.clone()).or_default().insert(request.clone());
        let is_newer = |found: &&Finding| {
            found.expires_at > now
                && published.is_none_or(|published| published.expires_at < found.expires_at)
        };
        Ok(state.found.as_ref().filter(is_newer).cloned())
    }

    fn waiting(&self) -> impl Iterator<Item = &RequestState> {
        self.requests.values().filter(|state| !state.was_checked)
    }

    /// Whether no more requests of any of these writers may wait for their first check.
    fn are_over(&self, writers: &BTreeSet<PeerId>) -> bool {
        writers.iter().all(|writer| {
            let is_of_writer = |state: &&RequestState| {
                state.records.values().any(|askers| askers.writers.contains(writer))
            };
            self.waiting().filter(is_of_writer).count() >= self.config.max_waiting_of_writer()
        })
    }

    /// The request whose check is due first, except `but`. Requests that no record makes any more
    /// go before all others.
    fn first_to_go(
        &self,
        but: &Predicate,
        may_go: impl Fn(&RequestState) -> bool,
    ) -> Option<Predicate> {
        let candidates = self
            .requests
            .iter()
            .filter(|(request, state)| may_go(state) && !state.is_running && *request != but);
        let first = candidates
            .min_by_key(|(_, state)| (!state.records.is_empty(), state.due_at, state.order));
        first.map(|(request, _)| request.clone())
    }

    fn forget(&mut self, request: &Predicate) {
        let state = self.requests.remove(request);
        for key in state.into_iter().flat_map(|state| state.records.into_keys()) {
            self.remove_from_record(&key, request);
        }
    }

    /// The `least` first of the old requests of a record, and as many more of them as make room for
    /// the bytes of one more request; `None` if all of them do not.
    fn making_room(
        &self,
        key: &RecordKey,
        request: &Predicate,
        old: Vec<Predicate>,
        least: usize,
    ) -> Option<Vec<Predicate>> {
        if !self.records.contains_key(key) {
            return Some(Vec::new());
        }
        let cost = |request: &Predicate| {
            let known = self.requests.get(request);
            known.map_or_else(|| finding::cost(request, request), |it| it.cost(request))
        };
        let mut bytes = self.bytes_in(key).saturating_add(cost(request));
        let mut go = Vec::new();
        for old in old {
            if go.len() >= least && bytes <= RECORD_BYTES {
                break;
            }
            bytes = bytes.saturating_sub(cost(&old));
            go.push(old);
        }
        (bytes <= RECORD_BYTES).then_some(go)
    }

    /// Bytes of the findings of a record.
    pub(super) fn bytes_in(&self, key: &RecordKey) -> usize {
        let of_record = self.records.get(key).into_iter().flatten();
        let cost = |request: &Predicate| self.requests.get(request).map(|it| it.cost(request));
        of_record.filter_map(cost).fold(0, usize::saturating_add)
    }

    /// The requests of a record whose findings are past half of their life, due first.
    fn old_in(&self, key: &RecordKey, now: Timestamp) -> Vec<Predicate> {
        let soon = now.saturating_add(self.config.last_quarter());
        let of_record = self.records.get(key).into_iter().flatten();
        let is_old = of_record.filter_map(|request| {
            let state = self.requests.get(request)?;
            let is_old = state.was_checked && !state.is_running && state.due_at <= soon;
            is_old.then_some((state.due_at, state.order, request))
        });
        let mut old: Vec<_> = is_old.collect();
        old.sort_unstable();
        old.into_iter().map(|(_, _, request)| request.clone()).collect()
    }

    /// Removes the requests of a record that `is_made` does not name.
    pub(super) fn retain(&mut self, key: &RecordKey, is_made: impl Fn(&Predicate) -> bool) {
        for request in self.records.get(key).cloned().unwrap_or_default() {
            if !is_made(&request) {
                self.remove(key, &request);
            }
        }
    }

    /// Removes a request, whose finding has become known, from the records that have no room for
    /// the finding. Returns the others.
    pub(super) fn drop_where_too_long(&mut self, request: &Predicate) -> Vec<RecordKey> {
        let state = self.requests.get(request);
        let mut keys: Vec<_> =
            state.into_iter().flat_map(|state| state.records.keys().cloned()).collect();
        keys.retain(|key| {
            let has_room = self.bytes_in(key) <= RECORD_BYTES;
            if !has_room {
                self.remove(key, request);
            }
            has_room
        });
        keys
    }

    fn remove(&mut self, key: &RecordKey, request: &Predicate) {
        if let Some(state) = self.requests.get_mut(request) {
            state.records.remove(key);
        }
        self.remove_from_record(key, request);
    }

    fn remove_from_record(&mut self, key: &RecordKey, request: &Predicate) {
        if let Some(of_record) = self.records.get_mut(key) {
            of_record.remove(request);
            if of_record.is_empty() {
                self.records.remove(key);
            }
        }
    }

    /// Removes expired requests. A finding is remembered until its next check would be due, so that
    /// withdrawing a request and making it again causes no further check.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let mut expired = Vec::new();
        for (request, state) in &self.requests {
            let records = state.records.iter().filter(|(_, askers)| askers.expires_at <= now);
            expired.extend(records.map(|(key, _)| (key.clone(), request.clone())));
        }
        for (key, request) in expired {
            self.remove(&key, &request);
        }
        self.requests.retain(|_, state| {
            !state.records.is_empty()
                || state.is_running
                || (state.was_checked && state.due_at > now)
        });
    }

    /// Handles a clock that was set back: no check is due, and no finding lives, later than if it
    /// had been made now.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let until = now.saturating_add(self.config.ttl());
        let latest = until.saturating_sub(self.config.last_quarter());
        for state in self.requests.values_mut() {
            state.due_at = state.due_at.min(latest);
            if let Some(found) = &mut state.found {
                found.expires_at = found.expires_at.min(until);
            }
        }
    }

    /// Number of requests, of records, and of requests that wait for their first check.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        let waiting = self.requests.values().filter(|state| !state.was_checked);
        [self.requests.len(), self.records.len(), waiting.count()]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn ask(
        table: &mut RequestTable,
        key: &str,
        request: &Predicate,
        now: Timestamp,
    ) -> Result<Option<Finding>, RequestRefusal> {
        let expires_at = now.saturating_add(1_000 * MINUTE);
        let askers = Askers { writers: [PeerId::random()].into(), expires_at };
        table.insert(&key.into(), request, 0, askers, None, now)
    }

    #[test]
    fn a_refused_request_takes_no_place_from_another() {
        let config = ServiceConfig::default().with_ttl(40 * MINUTE).with_max_of_record(2);
        let mut table = RequestTable::new(config.with_max_waiting(1));
        let request = |n: i64| Predicate::new("ask").with(n);
        for n in 0..2 {
            ask(&mut table, "/sr/a", &request(n), NOW).unwrap();
            // Checked, and past half of the life of its finding.
            let state = table.get_mut(&request(n)).unwrap();
            (state.was_checked, state.due_at) = (true, NOW);
        }
        ask(&mut table, "/sr/b", &request(7), NOW).unwrap();
        let counts = table.counts();
        assert_eq!(ask(&mut table, "/sr/a", &request(8), NOW), Err(RequestRefusal::QueueFull));
        assert_eq!(table.counts(), counts);
        assert!((0..2).all(|n| table.get(&request(n)).unwrap().records.len() == 1));

        // One that is too long for the record costs a request that was put off no place.
        table.get_mut(&request(7)).unwrap().was_put_off = true;
        let long = Predicate::new("ask").with("x".repeat(RECORD_BYTES));
        assert_eq!(ask(&mut table, "/sr/a", &long, NOW), Err(RequestRefusal::TooManyOfRecord));
        assert_eq!(table.counts(), counts);
        // One that finds room takes the place of both.
        assert_eq!(ask(&mut table, "/sr/a", &request(8), NOW), Ok(None));
        assert!(table.get(&request(7)).is_none() && table.get(&request(8)).is_some());
        assert_eq!(table.records[&"/sr/a".into()].len(), 2);
    }
}
