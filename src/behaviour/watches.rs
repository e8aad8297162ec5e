//! Watched keys and their subscribers.
//!
//! **Invariants.** Subscribers of one key share its known content and its lookups. A subscriber is
//! notified when the visible content changes, and only then, at most every 100 ms; the first
//! notification may say that there is none. Between notifications, the work goes with what has
//! changed, not with the size of the record. The known content of a record stays within its limits.
//! The key that waits longest is looked up first; the work per step does not grow with the number
//! of keys.

mod views;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use self::views::SpaceViews;
use super::{config::BehaviourConfig, deadlines::DeadlineQueue, env::Env};
use crate::{
    client::latest::LatestSender,
    query::{CheckedAnswer, Content, JoinedAnswers, RecordLookup, Snapshot},
    schedule::SHORTEST_INTERVAL,
};
use smart_record_core::{
    RecordKey, Registry, SmartRecord, Space, Timestamp, ValidationError, Validity, Writer,
};

/// How long after news a key is looked up at the shortest interval.
const LIVELY_PERIOD: Duration = Duration::from_secs(60);
/// Minimum time from one notification to the next. A guess: what people take for at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Interval in which keys without subscribers, and expired updates, are removed.
const SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Watched {
    joined: JoinedAnswers,
    /// When the value expires; `None` if it does not, if there is none, and for smart records.
    value_ends_at: Option<Timestamp>,
    subscribers: Vec<LatestSender<Arc<Snapshot>>>,
    views: SpaceViews,
    /// The last notification.
    shown: Option<Arc<Snapshot>>,
    /// When subscribers were last notified, and when they are to be notified of what has changed
    /// since.
    notified_at: Option<Duration>,
    notify_at: Option<Duration>,
    /// Whether a lookup has ended.
    was_looked_up: bool,
    /// Delay from one lookup to the next.
    interval: Duration,
    /// Time of the last news, or of the start of the watch.
    news_at: Timestamp,
}

/// All watched keys.
#[derive(Debug)]
pub(super) struct Watches {
    interval: Duration,
    longest_interval: Duration,
    keys: BTreeMap<RecordKey, Watched>,
    /// Keys by the time of their next lookup.
    lookups: DeadlineQueue,
    /// Keys by the time when visible content expires next.
    ends: DeadlineQueue,
    /// Keys by the time of their next notification, in the time of the network.
    notifications: BTreeSet<(Duration, RecordKey)>,
    /// Changes in the local store that are not known here yet: writers by key.
    changed: BTreeMap<RecordKey, BTreeSet<PeerId>>,
    sweep_at: Timestamp,
    /// Notifications that were postponed and are not counted yet.
    postponed: usize,
}

impl Watches {
    pub(super) fn new(config: &BehaviourConfig) -> Self {
        Self::with_intervals(config.watch_interval(), config.longest_watch_interval())
    }

    fn with_intervals(interval: Duration, longest_interval: Duration) -> Self {
        let interval = interval.max(SHORTEST_INTERVAL);
        Self {
            interval,
            longest_interval: longest_interval.max(interval),
            keys: BTreeMap::new(),
            lookups: DeadlineQueue::default(),
            ends: DeadlineQueue::default(),
            notifications: BTreeSet::new(),
            changed: BTreeMap::new(),
            sweep_at: Timestamp::EPOCH,
            postponed: 0,
        }
    }

    /// Adds a subscriber. Returns whether it is the first of the key. The caller should then add
    /// the stored content with [`on_record`](Self::on_record) or [`on_value`](Self::on_value).
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
                    views: SpaceViews::default(),
                    shown: None,
                    notified_at: None,
                    notify_at: None,
                    was_looked_up: false,
                    interval: self.interval,
                    news_at: now,
                };
                (place.insert(watched), true)
            }
        };
        if let Some(snapshot) = &watched.shown {
            sender.send(snapshot.clone());
        }
        watched.subscribers.retain(|subscriber| !subscriber.is_closed());
        watched.subscribers.push(sender);
        Ok(is_first)
    }

    /// Adds a subscriber, and sends it what is known.
    pub(super) fn watch(
        &mut self,
        env: &mut Env,
        key: RecordKey,
        sender: LatestSender<Arc<Snapshot>>,
    ) {
        let now = env.now();
        tracing::debug!(%key, "watch started");
        match self.add(key.clone(), sender, &env.registry, now) {
            Ok(true) => self.show(env, &key, None),
            Ok(false) => {}
            // The subscriber's stream ends.
            Err(error) => tracing::debug!(%error, %key, "watch refused"),
        }
    }

    /// Notifies the subscribers of the next key that has changed in the local store. Returns
    /// whether there was one.
    pub(super) fn show_changed(&mut self, env: &mut Env) -> bool {
        let Some((key, writers)) = self.next_changed() else {
            return false;
        };
        self.show(env, &key, Some(&writers));
        true
    }

    /// Adds what is stored under a key: of a smart record, the spaces of `writers`, or all.
    fn show(&mut self, env: &mut Env, key: &RecordKey, writers: Option<&BTreeSet<PeerId>>) {
        let (now, at) = (env.now(), env.net.now());
        let store = env.kad.store_mut();
        let record = match writers {
            Some(writers) if !writers.is_empty() => store.record_of(key, writers),
            _ => store.record(key),
        };
        match record {
            Ok(Some(record)) => self.on_record(key, &record, now, at),
            Ok(None) => {
                if let Ok(Some(stored)) = store.value(key) {
                    self.on_value(key, Some(stored.value), stored.expires_at, now, at);
                }
            }
            Err(error) => tracing::warn!(%error, %key, "a watched record could not be read"),
        }
    }

    /// Adds what is known under a key to a lookup of it.
    pub(super) fn recall(&self, lookup: &mut RecordLookup, now: Timestamp) {
        let joined = self.keys.get(lookup.key()).map(|watched| &watched.joined);
        if let Some(joined @ JoinedAnswers::Record(..)) = joined {
            // It is then not verified again, and is no news to the lookup.
            lookup.on_known_answers(joined);
        } else if let Some((value, ends_at)) = self.value(lookup.key(), now) {
            // A known value stays until it expires, even if an answer lacks it or has a worse one.
            lookup.on_known_value(value, ends_at, now);
        }
    }

    /// Ends all streams.
    pub(super) fn clear(&mut self) {
        *self = Self::with_intervals(self.interval, self.longest_interval);
    }

    /// Marks spaces that have changed in the local store. Subscribers are notified once the store
    /// reports no more changes for now.
    pub(super) fn mark_changed(&mut self, key: &RecordKey, writers: &[PeerId]) {
        if self.keys.contains_key(key) {
            self.changed.entry(key.clone()).or_default().extend(writers);
        }
    }

    /// Returns a key that has changed in the local store, and the writers whose spaces have changed
    /// since it was last returned.
    fn next_changed(&mut self) -> Option<(RecordKey, BTreeSet<PeerId>)> {
        self.changed.pop_first()
    }

    /// Joins a record into what is known, and notifies subscribers.
    fn on_record(&mut self, key: &RecordKey, record: &SmartRecord, now: Timestamp, at: Duration) {
        if let Some(watched) = self.keys.get_mut(key) {
            let has_changed = watched.join(record, now);
            if has_changed || watched.shown.is_none() {
                self.notify(key, now, at);
            }
        }
    }

    /// Drops what is hidden by spaces that a read has no place for, and notifies subscribers.
    fn on_dropped(
        &mut self,
        key: &RecordKey,
        hide: impl FnOnce(&mut JoinedAnswers) -> Vec<Writer>,
        now: Timestamp,
        at: Duration,
    ) {
        if let Some(watched) = self.keys.get_mut(key) {
            let hidden = hide(&mut watched.joined);
            let is_news = !hidden.is_empty();
            hidden.into_iter().for_each(|writer| watched.views.mark(writer));
            if is_news {
                self.notify(key, now, at);
            }
        }
    }

    /// The known value under a key that has not expired, and its expiry. `None` for smart records.
    fn value(&self, key: &RecordKey, now: Timestamp) -> Option<(&Bytes, Option<Timestamp>)> {
        let watched = self.keys.get(key)?;
        let JoinedAnswers::Value(_, Some(value)) = &watched.joined else {
            return None;
        };
        let lives = watched.value_ends_at.is_none_or(|at| at > now);
        lives.then_some((value, watched.value_ends_at))
    }

    /// Adds a valid value and its expiry, as far as holders state it, and notifies subscribers.
    fn on_value(
        &mut self,
        key: &RecordKey,
        value: Option<Bytes>,
        stated: Option<Timestamp>,
        now: Timestamp,
        at: Duration,
    ) {
        if let Some(watched) = self.keys.get_mut(key) {
            watched.forget_invalid(key, now);
            if let Some(value) = value {
                watched.take(key, value, stated, now);
            }
            self.notify(key, now, at);
        }
    }

    /// Handles the end of a lookup. `found` is `None` if it failed. `stated` is the expiry of a
    /// value in it, as far as holders state it.
    pub(super) fn on_looked_up(
        &mut self,
        key: &RecordKey,
        found: Option<&Snapshot>,
        stated: Option<Timestamp>,
        now: Timestamp,
        at: Duration,
    ) {
        let Some(watched) = self.keys.get_mut(key) else {
            // The key has no subscribers any more.
            return;
        };
        let is_lively = now.saturating_since(watched.news_at) < LIVELY_PERIOD;
        let slower = watched.interval.saturating_mul(2).min(self.longest_interval);
        watched.interval = if is_lively { self.interval } else { slower };
        self.lookups.set(key, Some(now.saturating_add(watched.interval)));
        if let Some(found) = found {
            watched.was_looked_up = true;
            match &found.content {
                Content::Record(record) => self.on_record(key, record, now, at),
                Content::Value(value) => self.on_value(key, value.clone(), stated, now, at),
            }
        }
    }

    /// Adds what the last answer with news has brought to any read of the key. What it lacks proves
    /// nothing.
    pub(super) fn on_found(&mut self, env: &Env, lookup: &RecordLookup) {
        let (key, now, at) = (lookup.key(), env.now(), env.net.now());
        if !self.keys.contains_key(key) {
            return;
        }
        match lookup.joined() {
            joined @ JoinedAnswers::Record(..) => {
                let change = lookup.last_change();
                self.on_dropped(key, |known| known.hide_some(&change.dropped), now, at);
                if let Some(news) = joined.spaces_of(&change.writers) {
                    self.on_record(key, &news, now, at);
                }
            }
            JoinedAnswers::Value(_, Some(value)) => {
                self.on_value(key, Some(value.clone()), lookup.expires_at(), now, at);
            }
            JoinedAnswers::Value(_, None) => {}
        }
    }

    /// Notifies subscribers, now or when enough time has passed since the last notification.
    fn notify(&mut self, key: &RecordKey, now: Timestamp, at: Duration) {
        let Some(watched) = self.keys.get_mut(key) else {
            return;
        };
        let earliest = watched.notified_at.map(|last| last.saturating_add(PAUSE));
        if let Some(earliest) = earliest.filter(|earliest| *earliest > at) {
            // What expires until then is told together.
            if watched.notify_at.is_none() {
                watched.notify_at = Some(earliest);
                self.postponed = self.postponed.saturating_add(1);
                self.notifications.insert((earliest, key.clone()));
            }
            return;
        }
        if let Some(planned) = watched.notify_at.take() {
            self.notifications.remove(&(planned, key.clone()));
        }
        let before = watched.news_at;
        self.ends.set(key, watched.notify(key, now, at));
        let soon = now.saturating_add(self.interval);
        if watched.news_at != before && self.lookups.at(key).is_some_and(|at| at > soon) {
            // More news may follow.
            self.lookups.set(key, Some(soon));
        }
    }

    /// Notifies the subscribers of a key at once of what they are still to be told, because a read
    /// of it has ended. What its answers have dropped is known by then, unless the watch has begun
    /// since.
    pub(super) fn on_read_ended(
        &mut self,
        key: &RecordKey,
        joined: &JoinedAnswers,
        now: Timestamp,
        at: Duration,
    ) {
        if let Some(dropped) = joined.dropped() {
            self.on_dropped(key, |known| known.hide(dropped), now, at);
        }
        if let Some(watched) = self.keys.get_mut(key).filter(|it| it.notify_at.is_some()) {
            watched.notified_at = None;
            self.notify(key, now, at);
        }
    }

    /// How many notifications were postponed since this was last asked.
    pub(super) const fn take_postponed(&mut self) -> usize {
        std::mem::replace(&mut self.postponed, 0)
    }

    /// When the next notification is due, in the time of the network.
    pub(super) fn next_notification(&self) -> Option<Duration> {
        self.notifications.first().map(|(at, _)| *at)
    }

    /// Notifies the subscribers of one key that is due. Returns whether there was one.
    pub(super) fn notify_due(&mut self, now: Timestamp, at: Duration) -> bool {
        let due = self.notifications.first().filter(|(due_at, _)| *due_at <= at).cloned();
        due.iter().for_each(|(_, key)| self.notify(key, now, at));
        due.is_some()
    }

    /// When the next lookup or expiry is due. `may_look_up`: whether a lookup could start.
    pub(super) fn next_at(&self, may_look_up: bool) -> Option<Timestamp> {
        let lookup = self.lookups.next_at().filter(|_| may_look_up);
        lookup.into_iter().chain(self.ends.next_at()).min()
    }

    /// Notifies subscribers of expired content, and removes keys without subscribers.
    pub(super) fn expire(&mut self, now: Timestamp, at: Duration) {
        while let Some(key) = self.ends.due(now) {
            self.ends.set(&key, None);
            self.notify(&key, now, at);
        }
        // A sweep time too far ahead means that the clock was set back.
        if now < self.sweep_at && self.sweep_at <= now.saturating_add(SWEEP) {
            return;
        }
        self.sweep_at = now.saturating_add(SWEEP);
        let is_left = |watched: &Watched| watched.subscribers.iter().any(|s| !s.is_closed());
        let gone = self.keys.iter().filter(|(_, watched)| !is_left(watched));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.forget(key));
        self.keys.values_mut().for_each(|watched| watched.joined.collect(now));
    }

    fn forget(&mut self, key: &RecordKey) {
        if let Some(at) = self.keys.remove(key).and_then(|watched| watched.notify_at) {
            self.notifications.remove(&(at, key.clone()));
        }
        self.lookups.set(key, None);
        self.ends.set(key, None);
        self.changed.remove(key);
    }

    /// Adjusts to a clock that was set back: nothing waits longer than from the new time on, and
    /// updates from the future are forgotten.
    pub(super) fn on_clock_set_back(&mut self, now: Timestamp, at: Duration) {
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            if let Some(watched) = self.keys.get_mut(&key) {
                watched.forget_future(now);
                // What has expired may be visible again.
                watched.joined.record().into_iter().for_each(|it| watched.views.mark_all(it));
            }
            // A key that is not in the queue is being looked up.
            if self.lookups.has(&key) {
                self.lookups.set(&key, Some(now));
            }
            self.notify(&key, now, at);
        }
    }

    /// Returns a key whose lookup is due.
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
    /// Joins a record into what is known. Returns whether that has changed.
    fn join(&mut self, record: &SmartRecord, now: Timestamp) -> bool {
        let JoinedAnswers::Record(rules, known, dropped) = &mut self.joined else {
            return false;
        };
        let (limits, key) = (rules.limits(), known.key().clone());
        let latest = now.saturating_add(limits.max_clock_skew());
        let (mut has_changed, mut has_future) = (false, false);
        for (writer, space) in record.spaces() {
            // What is known costs no hash.
            if known.space(writer).is_some_and(|had| has_all(had, space)) {
                continue;
            }
            let Some(space) = dropped.admit(&key, writer, space) else { continue };
            if known.space(writer).is_some_and(|had| has_all(had, &space)) {
                continue;
            }
            known.join_space(writer.clone(), space.clone().into_owned());
            known.truncate_space(writer, limits);
            has_future |= space.newest().is_some_and(|newest| newest.seq.issued_at() > latest);
            self.views.mark(writer.clone());
            has_changed = true;
        }
        if known.spaces().len() > limits.spaces_per_record() {
            let gone = known.truncate(limits);
            dropped.add(&key, &gone, limits);
            gone.into_iter().for_each(|(writer, _)| self.views.mark(writer));
        }
        if has_future {
            // The clock was set back since the read started.
            self.forget_future(now);
        }
        has_changed
    }

    /// Adds a valid value and its expiry, as far as holders state it.
    fn take(&mut self, key: &RecordKey, value: Bytes, stated: Option<Timestamp>, now: Timestamp) {
        // A value that cannot be compared with the known one is ignored, as by a lookup.
        let Ok(change) = self.joined.take(key, &CheckedAnswer::Value(value)) else {
            return;
        };
        let lifetime_ends_at = change.lifetime.end(self.value_ends_at, stated);
        self.value_ends_at = match self.validity(key, now) {
            Some(Ok(validity)) => validity.expires_at.or(lifetime_ends_at),
            // It has expired since it was found.
            Some(Err(_)) => Some(now),
            None => None,
        };
    }

    /// The validity of the known value, if there is one.
    fn validity(
        &self,
        key: &RecordKey,
        now: Timestamp,
    ) -> Option<Result<Validity, ValidationError>> {
        match &self.joined {
            JoinedAnswers::Value(validator, Some(value)) => {
                Some(validator.validate(key, value, now))
            }
            _ => None,
        }
    }

    /// Forgets the known value if it is not valid any more: it has expired, or the clock was set
    /// back.
    fn forget_invalid(&mut self, key: &RecordKey, now: Timestamp) {
        let has_ended = self.value_ends_at.is_some_and(|at| at <= now);
        if has_ended || self.validity(key, now).is_some_and(|validity| validity.is_err()) {
            self.forget_value();
        }
    }

    fn forget_value(&mut self) {
        self.joined.forget_value();
        self.value_ends_at = None;
    }

    /// Forgets updates that are too far in the future.
    fn forget_future(&mut self, now: Timestamp) {
        if let JoinedAnswers::Record(rules, record, _) = &mut self.joined {
            record.forget_after(now.saturating_add(rules.limits().max_clock_skew()));
        }
    }

    /// Notifies the subscribers if the visible content has changed. Returns when visible content
    /// expires next.
    fn notify(&mut self, key: &RecordKey, now: Timestamp, at: Duration) -> Option<Timestamp> {
        if self.value_ends_at.is_some_and(|at| at <= now) {
            self.forget_value();
        }
        let has_changed = match &mut self.joined {
            JoinedAnswers::Record(_, record, _) => self.views.refresh(record, now),
            JoinedAnswers::Value(_, value) => {
                self.shown.as_ref().is_some_and(|shown| shown.value() != value.as_ref())
            }
        };
        let is_news = match &self.shown {
            Some(_) => has_changed,
            None => self.was_looked_up || !self.joined.is_empty(),
        };
        if is_news {
            self.news_at = now;
            self.notified_at = Some(at);
            let snapshot = Arc::new(match &self.joined {
                JoinedAnswers::Record(_, record, _) => {
                    Snapshot::viewed(record.clone(), self.views.view().clone(), now)
                }
                JoinedAnswers::Value(_, value) => {
                    Snapshot::of(key.clone(), Content::Value(value.clone()), now)
                }
            });
            self.shown = Some(snapshot.clone());
            self.subscribers.retain(|subscriber| !subscriber.is_closed());
            for subscriber in &self.subscribers {
                subscriber.send(snapshot.clone());
            }
        }
        self.views.next_end().or(self.value_ends_at)
    }
}

/// Whether `space` contains all updates of `other`.
fn has_all(space: &Space, other: &Space) -> bool {
    other.updates().all(|update| space.get(update.position()).is_some())
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use libp2p_identity::Keypair;

    use super::*;
    use crate::client::latest;
    use smart_record_core::{Limits, Node, Open, SpaceRules, SpaceSigner};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn subscribers_are_notified_of_changes_and_expiry_only() {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, mut first) = latest::channel();
        assert_eq!(watches.add(key.clone(), sender, &registry, NOW), Ok(true));
        let shown = |stream: &mut latest::LatestReceiver<Arc<Snapshot>>| {
            stream.next().now_or_never().flatten().map(|snapshot| snapshot.view().len())
        };

        let mut signer =
            SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
        let short = Node::from("short").expires_at(NOW.saturating_add(5 * SECOND));
        let document = [("a", short), ("b", Node::from("long"))].into_iter().collect();
        signer.merge(document, NOW, 20 * SECOND).unwrap();
        let record = signer.record(NOW);
        assert_eq!(shown(&mut first), None);
        watches.on_record(&key, &record, NOW, Duration::ZERO);
        assert_eq!(shown(&mut first), Some(1));
        watches.on_record(&key, &record, NOW, Duration::ZERO);
        assert_eq!(shown(&mut first), None, "nothing has changed");

        let (sender, mut second) = latest::channel();
        assert_eq!(watches.add(key.clone(), sender, &registry, NOW), Ok(false));
        assert_eq!(shown(&mut second), Some(1), "the known content at once");

        assert_eq!(watches.due(NOW), Some(key.clone()));
        assert_eq!(watches.due(NOW), None, "one lookup for both");
        watches.on_looked_up(&key, None, None, NOW, Duration::ZERO);

        for (seconds, writers) in [(5, 1), (20, 0)] {
            let now = NOW.saturating_add(seconds * SECOND);
            watches.expire(now, seconds * SECOND);
            assert_eq!(shown(&mut first), Some(writers), "after {seconds} s");
            assert_eq!(shown(&mut second), Some(writers));
        }
        drop((first, second));
        watches.expire(NOW.saturating_add(10 * SWEEP), 10 * SWEEP);
        assert!(!watches.keys.contains_key(&key));
        assert_eq!(watches.next_at(true), None, "nothing is left behind");
    }

    #[test]
    fn what_was_withdrawn_is_not_shown_though_there_is_no_place_for_the_withdrawal() {
        let key = RecordKey::new("/sr/a");
        let limits = Limits::default().with_withdrawn_per_record(1);
        let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
        let signer =
            || SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
        let mut signers = [signer(), signer()];
        signers.sort_by_key(|signer| signer.writer().rank(&key));
        let [other, victim] = &mut signers;
        victim.merge([("a", "said")].into_iter().collect(), NOW, 60 * SECOND).unwrap();
        let said = victim.record(NOW);
        victim.withdraw(NOW).unwrap();
        other.withdraw(NOW).unwrap();
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, mut stream) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        let mut seen = |watches: &mut Watches, at| {
            let nothing = JoinedAnswers::new(&registry, &key).unwrap();
            watches.on_read_ended(&key, &nothing, NOW, at);
            stream.next().now_or_never().flatten().map(|snapshot| snapshot.view().len())
        };
        watches.on_record(&key, &said, NOW, Duration::ZERO);
        assert_eq!(seen(&mut watches, SECOND), Some(1));
        // What a read has found that has no place for the withdrawal.
        let mut found = JoinedAnswers::new(&registry, &key).unwrap();
        for signer in [victim, other] {
            found.join(&signer.record(NOW));
        }
        let hide = |known: &mut JoinedAnswers| known.hide(found.dropped().unwrap());
        watches.on_dropped(&key, hide, NOW, 2 * SECOND);
        watches.on_record(&key, found.record().unwrap(), NOW, 2 * SECOND);
        assert_eq!(seen(&mut watches, 3 * SECOND), Some(0));
        watches.on_record(&key, &said, NOW, 4 * SECOND);
        assert_eq!(seen(&mut watches, 5 * SECOND), None, "it does not come back");
        // The next read of the key knows it too.
        let mut next = JoinedAnswers::new(&registry, &key).unwrap();
        next.join_answers(&watches.keys[&key].joined);
        next.join(&said);
        assert!(next.record().unwrap().view(NOW).is_empty());
    }

    #[test]
    fn the_key_that_waits_longest_is_looked_up_first() {
        let registry = Registry::default();
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let keys: Vec<_> = (0..100).map(|n| RecordKey::new(format!("/sr/{n:03}"))).collect();
        let mut subscribers = Vec::new();
        for key in &keys {
            let (sender, subscriber) = latest::channel();
            watches.add(key.clone(), sender, &registry, NOW).unwrap();
            subscribers.push(subscriber);
        }
        // Lookups take so long that the first keys are due again before the last were looked up.
        let mut asked = std::collections::BTreeSet::new();
        for turn in 0..200 {
            let now = NOW.saturating_add(turn * SECOND);
            let key = watches.due(now).unwrap();
            assert!(!watches.lookups.has(&key), "it is being looked up");
            watches.on_looked_up(&key, None, None, now, Duration::ZERO);
            asked.insert(key);
            if turn == 99 {
                assert_eq!(asked.len(), 100, "each was looked up");
            }
        }
        watches.on_clock_set_back(NOW.saturating_sub(1_000 * SECOND), Duration::ZERO);
        assert!(
            watches.due(NOW.saturating_sub(1_000 * SECOND)).is_some(),
            "the clock was set back"
        );
    }

    #[test]
    fn with_an_interval_of_zero_no_key_is_due_again_at_once() {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::with_intervals(Duration::ZERO, Duration::ZERO);
        let (sender, _subscriber) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        assert_eq!(watches.due(NOW), Some(key.clone()));
        watches.on_looked_up(&key, None, None, NOW, Duration::ZERO);
        assert_eq!(watches.due(NOW), None);
    }

    #[test]
    fn without_news_a_key_is_looked_up_less_and_less_often_until_there_is_news() {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::with_intervals(2 * SECOND, 30 * SECOND);
        let (sender, _subscriber) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        let mut now = NOW;
        let mut pause = |watches: &mut Watches| {
            assert_eq!(watches.due(now), Some(key.clone()));
            watches.on_looked_up(&key, None, None, now, Duration::ZERO);
            let last = std::mem::replace(&mut now, watches.next_at(true).unwrap());
            (now.saturating_since(last).as_secs(), now)
        };
        for _ in 0..30 {
            assert_eq!(pause(&mut watches).0, 2);
        }
        let pauses: Vec<_> = (0..6).map(|_| pause(&mut watches)).collect();
        assert_eq!([0, 1, 2, 3, 4, 5].map(|n: usize| pauses[n].0), [4, 8, 16, 30, 30, 30]);
        // The next lookup is half a minute away.
        let at = pauses[5].1.saturating_sub(25 * SECOND);
        let mut signer =
            SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
        let document = [("a", "news")].into_iter().collect();
        signer.merge(document, at, 600 * SECOND).unwrap();
        watches.on_record(&key, &signer.record(at), at, SECOND);
        let soon = at.saturating_add(2 * SECOND);
        assert_eq!(watches.next_at(true), Some(soon));
        assert_eq!(watches.due(soon), Some(key.clone()));
        watches.on_looked_up(&key, None, None, soon, SECOND);
        assert_eq!(watches.next_at(true), Some(soon.saturating_add(2 * SECOND)));
    }

    #[test]
    fn a_burst_of_store_changes_causes_one_notification_per_key() {
        let [a, b, unwatched] = ["/sr/a", "/sr/b", "/sr/c"].map(RecordKey::new);
        let writers: Vec<_> = std::iter::repeat_with(PeerId::random).take(3).collect();
        let mut watches = Watches::with_intervals(SECOND, SECOND);
        let subscribers = [&a, &b].map(|key| {
            let (sender, subscriber) = latest::channel();
            watches.add(key.clone(), sender, &Registry::default(), NOW).unwrap();
            subscriber
        });
        for writer in &writers {
            watches.mark_changed(&a, &[*writer]);
        }
        watches.mark_changed(&b, &[]);
        watches.mark_changed(&unwatched, &writers);
        assert_eq!(watches.next_changed(), Some((a, writers.into_iter().collect())));
        assert_eq!(watches.next_changed(), Some((b, BTreeSet::new())));
        assert_eq!(watches.next_changed(), None);
        drop(subscribers);
    }

    #[test]
    fn the_known_content_of_a_watched_record_stays_within_its_limits() {
        let key = RecordKey::new("/sr/a");
        let limits = Limits::default().with_spaces_per_record(8).with_updates_per_space(4);
        let rules = SpaceRules::new(limits.clone(), Open);
        let registry = Registry::empty().with("sr", rules).unwrap();
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, _subscriber) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        // A writer that writes every second, and an attacker with a new writer each time.
        let mut honest = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), limits.clone());
        for second in 0..30 {
            let now = NOW.saturating_add(second * SECOND);
            let mut liar =
                SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), limits.clone());
            for signer in [&mut honest, &mut liar] {
                signer
                    .merge([("n", i64::from(second))].into_iter().collect(), now, SECOND)
                    .unwrap();
                let content = Content::Record(signer.record(now));
                let snapshot = Snapshot::of(key.clone(), content, now);
                watches.on_looked_up(&key, Some(&snapshot), None, now, second * SECOND);
            }
        }
        let record = watches.keys[&key].joined.record().unwrap();
        assert_eq!(record.spaces().len(), 8);
        assert!(record.spaces().all(|(_, space)| space.updates().len() <= 4));
    }

    /// A watched board of so many spaces, the signer of one of them, and the subscriber.
    fn board(spaces: u32) -> (Watches, SpaceSigner, latest::LatestReceiver<Arc<Snapshot>>) {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::with_intervals(10 * SECOND, 10 * SECOND);
        let (sender, subscriber) = latest::channel();
        watches.add(key.clone(), sender, &registry, NOW).unwrap();
        let mut record = SmartRecord::new(key.clone());
        let mut one = None;
        for n in 0..spaces {
            let keypair = Keypair::generate_ed25519();
            let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
            signer.merge([("n", i64::from(n))].into_iter().collect(), NOW, 600 * SECOND).unwrap();
            record.join(signer.record(NOW)).unwrap();
            one = Some(signer);
        }
        watches.on_record(&key, &record, NOW, Duration::ZERO);
        (watches, one.unwrap(), subscriber)
    }

    #[test]
    fn an_update_costs_a_watcher_one_view_whatever_the_size_of_the_board() {
        let key = RecordKey::new("/sr/a");
        for spaces in [100, 1_000] {
            let (mut watches, mut signer, mut subscriber) = board(spaces);
            let computed = |watches: &Watches| watches.keys[&key].views.computed;
            assert_eq!(computed(&watches), spaces as usize);
            let mut before = subscriber.next().now_or_never().flatten().unwrap();
            let mut copied = 0;
            for n in 1..=10_u32 {
                let now = NOW.saturating_add(n * SECOND);
                let document = [("n", i64::from(n))].into_iter().collect();
                signer.merge(document, now, 60 * SECOND).unwrap();
                watches.on_record(&key, &signer.record(now), now, n * SECOND);
                assert_eq!(computed(&watches), spaces as usize + n as usize);
                let snapshot = subscriber.next().now_or_never().flatten().unwrap();
                assert_eq!(snapshot.view(), snapshot.record().unwrap().view(now));
                // Whoever looks at it makes no view, and finds the others where they were.
                let (old, new) = (before.view(), snapshot.view());
                let is_kept = |(old, new): &((_, &_), (_, &_))| std::ptr::eq(old.1, new.1);
                assert_eq!(old.iter().zip(&new).filter(is_kept).count() + 1, spaces as usize);
                let (old, new) = (before.record().unwrap(), snapshot.record().unwrap());
                let is_copied = |(old, new): &((_, &_), (_, &_))| !std::ptr::eq(old.1, new.1);
                copied = copied.max(old.spaces().zip(new.spaces()).filter(is_copied).count());
                before = snapshot;
            }
            println!("{spaces} spaces: 1 view made, {copied} spaces copied for an update");
            assert!(copied <= 32, "{copied}");
        }
    }

    #[test]
    fn changes_and_expiries_in_quick_succession_are_told_together() {
        let (mut watches, mut signer, mut subscriber) = board(1);
        let key = RecordKey::new("/sr/a");
        let at = |n: u32| (NOW.saturating_add(n * PAUSE / 5), n * PAUSE / 5);
        // Something expires every 20 ms, for a second, and there is an update each time.
        let nodes = (1..=50).map(|n| (format!("n{n}"), Node::from("x").expires_at(at(n).0)));
        signer.merge(nodes.collect(), NOW, 60 * SECOND).unwrap();
        let mut told = Vec::new();
        for n in 0..=50 {
            let (now, at) = at(n);
            signer.merge([("i", i64::from(n))].into_iter().collect(), now, 60 * SECOND).unwrap();
            watches.on_record(&key, &signer.record(now), now, at);
            watches.expire(now, at);
            while watches.notify_due(now, at) {}
            let waits = watches.next_notification();
            assert!(waits.is_none_or(|until| until > at && until <= at + PAUSE));
            told.extend(subscriber.next().now_or_never().flatten());
        }
        println!("50 updates and 50 expiries in a second: {} views", told.len());
        assert!(told.len() <= 12, "{}", told.len());
        let last = told.last().unwrap();
        assert_eq!(last.view().iter().next().unwrap().1.document.len(), 2, "n and i");
        assert!(watches.next_notification().is_none() || watches.ends.next_at().is_none());
    }
}
