//! The keys that clients watch.
//!
//! **Invariants.** Subscribers of one key share what is known of it and the lookups for it. Each is told when what is to
//! be seen has changed, and only then; the first thing that it is told may be that there is nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::bytes::Bytes;

use super::{joined::Joined, lookup::Snapshot};
use crate::{
    client::latest::Sender,
    key::RecordKey,
    node::{Dict, Kind, Node},
    record::{SmartRecord, View},
    time::Timestamp,
    validator::Validator,
};

/// What subscribers are told of; it has changed if this has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Visible {
    View(View),
    Value(Option<Bytes>),
}

#[derive(Debug)]
struct Watched {
    joined: Joined,
    subscribers: Vec<Sender<Arc<Snapshot>>>,
    told: Option<(Visible, Arc<Snapshot>)>,
    /// Whether the network has been asked once.
    was_asked: bool,
    is_asking: bool,
    ask_at: Timestamp,
    /// When something that is to be seen expires.
    expires_at: Option<Timestamp>,
}

/// All watched keys.
#[derive(Debug)]
pub(super) struct Watches {
    interval: Duration,
    keys: BTreeMap<RecordKey, Watched>,
}

impl Watches {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, keys: BTreeMap::new() }
    }

    /// Adds a subscriber. Returns whether it is the key's first, of which what is known should be told with
    /// [`on_record`](Self::on_record) or [`on_value`](Self::on_value).
    pub(super) fn add(
        &mut self,
        key: RecordKey,
        sender: Sender<Arc<Snapshot>>,
        validator: &dyn Validator,
        now: Timestamp,
    ) -> bool {
        let is_first = !self.keys.contains_key(&key);
        let joined = Joined::new(validator, &key);
        let watched = self.keys.entry(key).or_insert_with(|| Watched {
            joined,
            subscribers: Vec::new(),
            told: None,
            was_asked: false,
            is_asking: false,
            ask_at: now,
            expires_at: None,
        });
        if let Some((_, snapshot)) = &watched.told {
            sender.send(snapshot.clone());
        }
        watched.subscribers.push(sender);
        is_first
    }

    pub(super) fn is_watched(&self, key: &RecordKey) -> bool {
        self.keys.contains_key(key)
    }

    /// Ends all streams.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
    }

    /// How many keys are being looked up.
    pub(super) fn asking(&self) -> usize {
        self.keys.values().filter(|watched| watched.is_asking).count()
    }

    /// A smart record is known to be at least this.
    pub(super) fn on_record(&mut self, key: &RecordKey, record: &SmartRecord, now: Timestamp) {
        if let Some(watched) = self.keys.get_mut(key) {
            watched.joined.join(record);
            watched.tell(key, now);
        }
    }

    /// A value of another kind is stored here now.
    pub(super) fn on_value(&mut self, key: &RecordKey, value: Option<Bytes>, now: Timestamp) {
        if let Some(watched) = self.keys.get_mut(key) {
            watched.joined = Joined::Value(value);
            watched.tell(key, now);
        }
    }

    /// The key has been looked up, with this result unless that failed.
    pub(super) fn on_asked(&mut self, key: &RecordKey, found: Option<&Snapshot>, now: Timestamp) {
        let interval = self.interval;
        if let Some(watched) = self.keys.get_mut(key) {
            watched.is_asking = false;
            watched.ask_at = now.saturating_add(interval);
            if let Some(found) = found {
                watched.was_asked = true;
                match &found.record {
                    Some(record) => drop(watched.joined.join(record)),
                    None => watched.joined = Joined::Value(found.value.clone()),
                }
                watched.tell(key, now);
            }
        }
    }

    /// When there is something to do next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let of = |watched: &Watched| {
            let ask_at = (!watched.is_asking).then_some(watched.ask_at);
            ask_at.into_iter().chain(watched.expires_at).min()
        };
        self.keys.values().filter_map(of).min()
    }

    /// Tells what has changed because something has expired, and forgets keys that nobody watches any more.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.keys.retain(|key, watched| {
            watched.subscribers.retain(|subscriber| !subscriber.is_closed());
            if watched.expires_at.is_some_and(|at| at <= now) {
                watched.tell(key, now);
            }
            !watched.subscribers.is_empty()
        });
    }

    /// A key that is to be looked up now.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<RecordKey> {
        let is_due = |watched: &Watched| !watched.is_asking && watched.ask_at <= now;
        let (key, watched) = self.keys.iter_mut().find(|(_, watched)| is_due(watched))?;
        watched.is_asking = true;
        Some(key.clone())
    }
}

impl Watched {
    fn tell(&mut self, key: &RecordKey, now: Timestamp) {
        let snapshot = self.joined.clone().into_snapshot(key.clone(), now);
        if let Some(record) = &snapshot.record {
            self.joined = Joined::Record(record.clone());
        }
        let visible = match &snapshot.record {
            Some(_) => Visible::View(snapshot.view()),
            None => Visible::Value(snapshot.value.clone()),
        };
        self.expires_at = match &visible {
            Visible::View(view) => next_change(view, now),
            Visible::Value(_) => None,
        };
        let is_news = match &self.told {
            Some((told, _)) => *told != visible,
            None => self.was_asked || !snapshot.is_empty(),
        };
        if !is_news {
            return;
        }
        let snapshot = Arc::new(snapshot);
        self.told = Some((visible, snapshot.clone()));
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            subscriber.send(snapshot.clone());
        }
    }
}

/// The first instant after `now` at which something in a view expires.
fn next_change(view: &View, now: Timestamp) -> Option<Timestamp> {
    let mut ends = Vec::new();
    for (_, space) in view {
        ends.push(space.expires_at);
        ends_in_dict(&space.document, &mut ends);
    }
    ends.into_iter().filter(|at| *at > now).min()
}

fn ends_in_dict(dict: &Dict, ends: &mut Vec<Timestamp>) {
    dict.iter().for_each(|(_, node)| ends_in(node, ends));
}

fn ends_in(node: &Node, ends: &mut Vec<Timestamp>) {
    ends.extend(node.expires_at);
    match &node.kind {
        Kind::Dict(dict) => ends_in_dict(dict, ends),
        Kind::List(list) => list.iter().for_each(|node| ends_in(node, ends)),
        Kind::Predicate(predicate) => {
            predicate.positional.iter().for_each(|node| ends_in(node, ends));
            ends_in_dict(&predicate.named, ends);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use libp2p_identity::Keypair;

    use super::*;
    use crate::{
        client::latest,
        record::{Limits, SpaceSigner},
        validator::Registry,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn subscribers_are_told_of_changes_and_expiry_and_nothing_else() {
        let (key, registry) = (RecordKey::new("/sr/a"), Registry::default());
        let mut watches = Watches::new(10 * SECOND);
        let (sender, mut first) = latest::channel();
        assert!(watches.add(key.clone(), sender, &registry, NOW));
        let told = |stream: &mut latest::Receiver<Arc<Snapshot>>| {
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
        assert!(!watches.add(key.clone(), sender, &registry, NOW));
        assert_eq!(told(&mut second), Some(1), "what is known at once");

        assert_eq!(watches.due(NOW), Some(key.clone()));
        assert_eq!(watches.due(NOW), None, "one lookup for both");
        watches.on_asked(&key, None, NOW);

        for (seconds, writers) in [(5, 1), (20, 0)] {
            let now = NOW.saturating_add(seconds * SECOND);
            watches.expire(now);
            assert_eq!(told(&mut first), Some(writers), "after {seconds} s");
            assert_eq!(told(&mut second), Some(writers));
        }
        drop((first, second));
        watches.expire(NOW);
        assert!(!watches.is_watched(&key));
    }
}
