//! The keys that clients watch.
//!
//! **Invariants.** Subscribers of one key share what is known of it and the lookups for it. Each is told when what is to
//! be seen has changed, and only then; the first thing that it is told may be that there is nothing. What is known of a record
//! stays within its limits. Of the keys that are to be looked up the one that has waited longest comes first; the work does
//! not grow with their number.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{config::BehaviourConfig, deadlines::DeadlineQueue, env::Env};
use crate::{
    client::latest::LatestSender,
    query::{Content, JoinedAnswers, RecordLookup, Snapshot},
};
use smart_record_core::{Node, RecordKey, Registry, SmartRecord, Timestamp, ValidationError, View};

/// For how long after news a key is looked up as often as it may be.
const LIVELY: Duration = Duration::from_secs(60);
/// How often keys are looked for that nobody watches any more.
const SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Watched {
    joined: JoinedAnswers,
    /// When a value that is not a smart record ends; `None` if it does not, or there is none.
    value_ends_at: Option<Timestamp>,
    subscribers: Vec<LatestSender<Arc<Snapshot>>>,
    /// What subscribers were told last, and what was to be seen of it.
    told: Option<(View, Arc<Snapshot>)>,
    /// Whether the network has been asked once.
    was_asked: bool,
    /// How long after a lookup the next one is.
    interval: Duration,
    /// When there was news, or the watch began.
    news_at: Timestamp,
}

/// All watched keys.
#[derive(Debug)]
pub(super) struct Watches {
    interval: Duration,
    longest_interval: Duration,
    keys: BTreeMap<RecordKey, Watched>,
    /// When which key is looked up.
    lookups: DeadlineQueue,
    /// When something that is to be seen expires.
    ends: DeadlineQueue,
    /// Whose spaces our own store has learnt of, and nobody was told yet.
    touched: BTreeMap<RecordKey, BTreeSet<PeerId>>,
    sweep_at: Timestamp,
}

impl Watches {
    pub(super) fn new(config: &BehaviourConfig) -> Self {
        Self::with_intervals(config.watch_interval(), config.longest_watch_interval())
    }

    fn with_intervals(interval: Duration, longest_interval: Duration) -> Self {
        Self {
            interval,
            longest_interval: longest_interval.max(interval),
            keys: BTreeMap::new(),
            lookups: DeadlineQueue::default(),
            ends: DeadlineQueue::default(),
            touched: BTreeMap::new(),
            sweep_at: Timestamp::EPOCH,
        }
    }

    /// Adds a subscriber. Returns whether it is the key's first, of which what is known should be told with
    /// [`on_record`](Self::on_record) or [`on_value`](Self::on_value).
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key.
    fn add(
        &mut self,
        key: RecordKey,
        sender: LatestSender<Arc<Snapshot>>,
        registry: &Registry,
        now: Timestamp,
    ) -> Result<bool, ValidationError> {
        let (watched, is_first) = match self.keys.entry(key) {
            Entry::Occupied(watched) => (watched.into_mut(), false),
            Entry::Vacant(place) => {
                let joined = JoinedAnswers::new(registry, place.key())?;
                self.lookups.set(place.key(), Some(now));
                let watched = Watched {
                    joined,
                    value_ends_at: None,
                    subscribers: Vec::new(),
                    told: None,
                    was_asked: false,
                    interval: self.interval,
                    news_at: now,
                };
                (place.insert(watched), true)
            }
        };
        if let Some((_, snapshot)) = &watched.told {
            sender.send(snapshot.clone());
        }
        watched.subscribers.retain(|subscriber| !subscriber.is_closed());
        watched.subscribers.push(sender);
        Ok(is_first)
    }

    /// Adds a subscriber, and tells it what is known.
    pub(super) fn watch(
        &mut self,
        env: &mut Env,
        key: RecordKey,
        sender: LatestSender<Arc<Snapshot>>,
    ) {
        let now = env.now();
        tracing::debug!(%key, "watched");
        match self.add(key.clone(), sender, &env.registry, now) {
            Ok(true) => self.show(env, &key, None),
            Ok(false) => {}
            // The stream ends.
            Err(error) => tracing::debug!(%error, %key, "not watched"),
        }
    }

    /// Tells those who watch the next key of which the store has learnt what that is. Returns whether there was one.
    pub(super) fn show_touched(&mut self, env: &mut Env) -> bool {
        let Some((key, writers)) = self.touched() else {
            return false;
        };
        self.show(env, &key, Some(&writers));
        true
    }

    /// Tells those who watch a key what is stored under it here, of a smart record the spaces of these writers, or of all.
    fn show(&mut self, env: &mut Env, key: &RecordKey, writers: Option<&BTreeSet<PeerId>>) {
        let now = env.now();
        let store = env.kad.store_mut();
        let record = match writers {
            Some(writers) if !writers.is_empty() => store.record_of(key, writers),
            _ => store.record(key),
        };
        match record {
            Ok(Some(record)) => self.on_record(key, &record, now),
            Ok(None) => {
                if let Ok(Some(stored)) = store.value(key) {
                    // More may be known than what is stored here.
                    let known = self.value(key, now);
                    let best = known.and_then(|(known, _)| {
                        env.registry.consolidate(key, &[&stored.value, known]).ok()
                    });
                    let best = best.map_or(stored.value, Bytes::from);
                    let ends_at = env.end_of(key, &best, stored.expires_at, now);
                    self.on_value(key, Some(best), ends_at, now);
                }
            }
            Err(error) => tracing::warn!(%error, %key, "a watched record could not be read"),
        }
    }

    /// Adds what is known under a key to a lookup of it.
    pub(super) fn recall(&self, lookup: &mut RecordLookup, now: Timestamp) {
        if let Some(record) = self.record(lookup.key()) {
            // So that nothing of it is verified again, and none of it is news.
            lookup.on_known(record);
        } else if let Some((value, ends_at)) = self.value(lookup.key(), now) {
            // What lives is not forgotten because nobody says it for once, nor for something worse.
            lookup.on_known_value(value, ends_at, now);
        }
    }

    /// The smart record under a key as it is known.
    fn record(&self, key: &RecordKey) -> Option<&SmartRecord> {
        self.keys.get(key)?.joined.record()
    }

    /// Ends all streams.
    pub(super) fn clear(&mut self) {
        *self = Self::with_intervals(self.interval, self.longest_interval);
    }

    /// Our own store has learnt of these writers under a key. Who watches it is told when the store has nothing more to tell for
    /// now.
    pub(super) fn touch(&mut self, key: &RecordKey, writers: &[PeerId]) {
        if self.keys.contains_key(key) {
            self.touched.entry(key.clone()).or_default().extend(writers);
        }
    }

    /// A key of which the store has learnt, and whose spaces have changed there since it was named the last time.
    fn touched(&mut self) -> Option<(RecordKey, BTreeSet<PeerId>)> {
        self.touched.pop_first()
    }

    /// A smart record is known to be at least this.
    fn on_record(&mut self, key: &RecordKey, record: &SmartRecord, now: Timestamp) {
        if let Some(watched) = self.keys.get_mut(key) {
            watched.joined.join(record);
            // The clock may have been set back since a read began with this.
            watched.forget_future(now);
            self.tell(key, now);
        }
    }

    /// What is known under a key and not a smart record, if it lives; with its end, if it has one.
    fn value(&self, key: &RecordKey, now: Timestamp) -> Option<(&Bytes, Option<Timestamp>)> {
        let watched = self.keys.get(key)?;
        let JoinedAnswers::Value(_, Some(value)) = &watched.joined else {
            return None;
        };
        let lives = watched.value_ends_at.is_none_or(|at| at > now);
        lives.then_some((value, watched.value_ends_at))
    }

    /// A value of another kind, and when it ends, is the best that is known now.
    fn on_value(
        &mut self,
        key: &RecordKey,
        value: Option<Bytes>,
        ends_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        if let Some(watched) = self.keys.get_mut(key) {
            watched.joined.set_value(value);
            watched.value_ends_at = ends_at;
            self.tell(key, now);
        }
    }

    /// The key has been looked up, with this result unless that failed. For other records than smart ones it has been put
    /// together with what was [known](Self::value) before; `ends_at` is when it ends, if it does.
    pub(super) fn on_asked(
        &mut self,
        key: &RecordKey,
        found: Option<&Snapshot>,
        ends_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let Some(watched) = self.keys.get_mut(key) else {
            // Nobody has watched it any more.
            return;
        };
        let is_lively = now.saturating_since(watched.news_at) < LIVELY;
        let slower = watched.interval.saturating_mul(2).min(self.longest_interval);
        watched.interval = if is_lively { self.interval } else { slower };
        self.lookups.set(key, Some(now.saturating_add(watched.interval)));
        if let Some(found) = found {
            watched.was_asked = true;
            match &found.content {
                Content::Record(record) => self.on_record(key, record, now),
                Content::Value(value) => self.on_value(key, value.clone(), ends_at, now),
            }
        }
    }

    /// A lookup, whoever has asked for it, has found so much by now. What has not been found says nothing.
    pub(super) fn on_found(&mut self, env: &Env, lookup: &RecordLookup) {
        let (key, now) = (lookup.key(), env.now());
        if !self.keys.contains_key(key) {
            return;
        }
        match lookup.joined() {
            JoinedAnswers::Record(_, record) => self.on_record(key, record, now),
            JoinedAnswers::Value(_, Some(value)) => {
                let known = self.value(key, now);
                let best = known
                    .and_then(|(known, _)| env.registry.consolidate(key, &[known, value]).ok());
                let best = best.map_or_else(|| value.clone(), Bytes::from);
                let ends_at = env.end_of(key, &best, lookup.expires_at(), now);
                self.on_value(key, Some(best), ends_at, now);
            }
            JoinedAnswers::Value(_, None) => {}
        }
    }

    fn tell(&mut self, key: &RecordKey, now: Timestamp) {
        let Some(watched) = self.keys.get_mut(key) else {
            return;
        };
        let before = watched.news_at;
        self.ends.set(key, watched.tell(key, now));
        let soon = now.saturating_add(self.interval);
        if watched.news_at != before && self.lookups.at(key).is_some_and(|at| at > soon) {
            // There may be more to come.
            self.lookups.set(key, Some(soon));
        }
    }

    /// When there is something to do next: to look something up, which may have to wait for others, or to tell.
    pub(super) fn next_at(&self, may_ask: bool) -> Option<Timestamp> {
        let lookup = self.lookups.next_at().filter(|_| may_ask);
        lookup.into_iter().chain(self.ends.next_at()).min()
    }

    /// Tells what has changed because something has expired, and forgets keys that nobody watches any more.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(key) = self.ends.due(now) {
            self.ends.set(&key, None);
            self.tell(&key, now);
        }
        // Unless the clock was set back.
        if now < self.sweep_at && self.sweep_at <= now.saturating_add(SWEEP) {
            return;
        }
        self.sweep_at = now.saturating_add(SWEEP);
        let is_left = |watched: &Watched| watched.subscribers.iter().any(|s| !s.is_closed());
        let gone = self.keys.iter().filter(|(_, watched)| !is_left(watched));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: &RecordKey) {
        self.keys.remove(key);
        self.lookups.set(key, None);
        self.ends.set(key, None);
        self.touched.remove(key);
    }

    /// The clock was set back: nothing waits for longer than it would have from now on, and what comes from the future is
    /// forgotten.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            if let Some(watched) = self.keys.get_mut(&key) {
                watched.forget_future(now);
            }
            // Unless it is being looked up.
            if self.lookups.has(&key) {
                self.lookups.set(&key, Some(now));
            }
            self.tell(&key, now);
        }
    }

    /// A key that is to be looked up now.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<RecordKey> {
        loop {
            let key = self.lookups.due(now)?;
            self.lookups.set(&key, None);
            let Some(watched) = self.keys.get_mut(&key) else {
                continue;
            };
            watched.subscribers.retain(|subscriber| !subscriber.is_closed());
            if watched.subscribers.is_empty() {
                self.forget(&key);
                continue;
            }
            return Some(key);
        }
    }
}

impl Watched {
    /// Forgets what replicas would take for the future.
    fn forget_future(&mut self, now: Timestamp) {
        if let JoinedAnswers::Record(rules, record) = &mut self.joined {
            record.forget_after(now.saturating_add(rules.limits().max_clock_skew()));
        }
    }

    /// Tells the subscribers what is to be seen, if that has changed. Returns when something of it expires.
    fn tell(&mut self, key: &RecordKey, now: Timestamp) -> Option<Timestamp> {
        if self.value_ends_at.is_some_and(|at| at <= now) {
            self.joined.set_value(None);
            self.value_ends_at = None;
        }
        self.joined.collect(now);
        let snapshot = Snapshot::new(key.clone(), self.joined.clone(), now);
        let view = snapshot.view();
        let ends_at = next_change(&view, now).or(self.value_ends_at);
        let is_news = match &self.told {
            Some((seen, told)) => *seen != view || told.value() != snapshot.value(),
            None => self.was_asked || !snapshot.is_empty(),
        };
        if !is_news {
            return ends_at;
        }
        self.news_at = now;
        let snapshot = Arc::new(snapshot);
        self.told = Some((view, snapshot.clone()));
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.send(snapshot.clone());
        }
        ends_at
    }
}

/// The first instant after `now` at which something in a view expires.
fn next_change(view: &View, now: Timestamp) -> Option<Timestamp> {
    let mut ends = Vec::new();
    for (_, space) in view {
        ends.push(space.expires_at);
        space.document.iter().for_each(|(_, node)| ends_in(node, &mut ends));
    }
    ends.into_iter().filter(|at| *at > now).min()
}

fn ends_in(node: &Node, ends: &mut Vec<Timestamp>) {
    ends.extend(node.expires_at);
    node.kind.children().for_each(|child| ends_in(child, ends));
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use libp2p_identity::Keypair;

    use super::*;
    use crate::client::latest;
    use smart_record_core::{Limits, Open, SpaceRules, SpaceSigner};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn subscribers_are_told_of_changes_and_expiry_and_nothing_else() {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, mut first) = latest::channel();
        assert_eq!(watches.add(key.clone(), sender, &registry, NOW), Ok(true));
        let told = |stream: &mut latest::LatestReceiver<Arc<Snapshot>>| {
            stream.next().now_or_never().flatten().map(|snapshot| snapshot.view().len())
        };

        let mut signer =
            SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
        let short = Node::from("short").expires_at(NOW.saturating_add(5 * SECOND));
        let document = [("a", short), ("b", Node::from("long"))].into_iter().collect();
        signer.merge(document, NOW, 20 * SECOND).unwrap();
        let record = signer.record(NOW);
        assert_eq!(told(&mut first), None);
        watches.on_record(&key, &record, NOW);
        assert_eq!(told(&mut first), Some(1));
        watches.on_record(&key, &record, NOW);
        assert_eq!(told(&mut first), None, "nothing has changed");

        let (sender, mut second) = latest::channel();
        assert_eq!(watches.add(key.clone(), sender, &registry, NOW), Ok(false));
        assert_eq!(told(&mut second), Some(1), "what is known at once");

        assert_eq!(watches.due(NOW), Some(key.clone()));
        assert_eq!(watches.due(NOW), None, "one lookup for both");
        watches.on_asked(&key, None, None, NOW);

        for (seconds, writers) in [(5, 1), (20, 0)] {
            let now = NOW.saturating_add(seconds * SECOND);
            watches.expire(now);
            assert_eq!(told(&mut first), Some(writers), "after {seconds} s");
            assert_eq!(told(&mut second), Some(writers));
        }
        drop((first, second));
        watches.expire(NOW.saturating_add(10 * SWEEP));
        assert!(!watches.keys.contains_key(&key));
        assert_eq!(watches.next_at(true), None, "nothing is left behind");
    }

    #[test]
    fn who_has_waited_longest_is_looked_up_first() {
        let registry = Registry::default();
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let keys: Vec<_> = (0..100).map(|n| RecordKey::new(format!("/sr/{n:03}"))).collect();
        let mut subscribers = Vec::new();
        for key in &keys {
            let (sender, subscriber) = latest::channel();
            watches.add(key.clone(), sender, &registry, NOW).unwrap();
            subscribers.push(subscriber);
        }
        // Each lookup takes so long that the first keys are due again before the last have had their turn.
        let mut asked = std::collections::BTreeSet::new();
        for turn in 0..200 {
            let now = NOW.saturating_add(turn * SECOND);
            let key = watches.due(now).unwrap();
            assert!(!watches.lookups.has(&key), "it is being looked up");
            watches.on_asked(&key, None, None, now);
            asked.insert(key);
            if turn == 99 {
                assert_eq!(asked.len(), 100, "each has had its turn");
            }
        }
        watches.on_clock_set_back(NOW.saturating_sub(1_000 * SECOND));
        assert!(
            watches.due(NOW.saturating_sub(1_000 * SECOND)).is_some(),
            "the clock was set back"
        );
    }

    #[test]
    fn a_burst_of_what_the_store_has_learnt_is_told_of_once() {
        let [a, b, unwatched] = ["/sr/a", "/sr/b", "/sr/c"].map(RecordKey::new);
        let writers: Vec<_> = std::iter::repeat_with(PeerId::random).take(3).collect();
        let mut watches = Watches::with_intervals(SECOND, SECOND);
        let subscribers = [&a, &b].map(|key| {
            let (sender, subscriber) = latest::channel();
            watches.add(key.clone(), sender, &Registry::default(), NOW).unwrap();
            subscriber
        });
        for writer in &writers {
            watches.touch(&a, &[*writer]);
        }
        watches.touch(&b, &[]);
        watches.touch(&unwatched, &writers);
        assert_eq!(watches.touched(), Some((a, writers.into_iter().collect())));
        assert_eq!(watches.touched(), Some((b, BTreeSet::new())));
        assert_eq!(watches.touched(), None);
        drop(subscribers);
    }

    #[test]
    fn what_is_known_of_a_watched_record_stays_within_its_limits() {
        let key = RecordKey::new("/sr/a");
        let limits = Limits::default().with_spaces_per_record(8).with_updates_per_space(4);
        let rules = SpaceRules::new(limits.clone(), Open);
        let registry = Registry::empty().with("sr", rules).unwrap();
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, _subscriber) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        // One who writes every second, and a liar who comes with a new writer every time.
        let mut honest = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), limits.clone());
        for second in 0..30 {
            let now = NOW.saturating_add(second * SECOND);
            let mut liar =
                SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), limits.clone());
            for signer in [&mut honest, &mut liar] {
                signer
                    .merge([("n", i64::from(second))].into_iter().collect(), now, SECOND)
                    .unwrap();
                let snapshot = Snapshot {
                    key: key.clone(),
                    content: Content::Record(signer.record(now)),
                    at: now,
                };
                watches.on_asked(&key, Some(&snapshot), None, now);
            }
        }
        let record = watches.record(&key).unwrap();
        assert_eq!(record.spaces().len(), 8);
        assert!(record.spaces().all(|(_, space)| space.updates().len() <= 4));
    }
}
