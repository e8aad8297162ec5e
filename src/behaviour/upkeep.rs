//! What a behaviour does of its own accord: keeping own spaces in the network, replicating what is stored here, looking up
//! what is watched, and keeping short what the routing table says of a peer.
//!
//! **Invariants.** Of each kind only so many are under way at a time. All of it goes by the store's clock; the timer only
//! wakes, and no longer than a minute ahead, because a clock can be set.

use std::{
    collections::BTreeSet,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, KBucketKey};

use super::{
    Behaviour, Event, Task,
    own::Duty,
    reading::{Read, Reader},
    writing::Sender,
};
use crate::{
    client::latest,
    key::RecordKey,
    query::{ReadPolicy, Snapshot},
    store::{StoreEvent, storage::RecordId},
    time::Timestamp,
    validator::Validated,
};

/// The timer never sleeps for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Nor for less: what could not be begun for want of room waits for something else to end.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

impl Behaviour {
    /// Does what is due; ready if there was something.
    pub(super) fn poll_upkeep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.clock.now();
        if now < self.latest_poll {
            self.own.on_clock_set_back(now);
            self.watches.on_clock_set_back(now);
        }
        self.latest_poll = now;
        // Once all of what was read is stored.
        if self.to_keep.is_empty()
            && let Some((key, writers)) = self.watches.touched()
        {
            self.tell_watches(&key, Some(&writers), now);
            return Poll::Ready(());
        }
        self.watches.expire(now);
        if self.refresh_one(now) || self.replicate_one(now) || self.ask_for_one(now) {
            return Poll::Ready(());
        }
        if self.timer_at.is_some() && self.timer.poll_unpin(cx).is_ready() {
            self.timer_at = None;
            if let Err(error) = self.kad.store_mut().collect_some() {
                tracing::warn!(%error, "what has expired could not be collected");
            }
            return Poll::Ready(());
        }
        // What waits for something else to end is looked at again when that has.
        let own = self.own.next_at().filter(|_| self.may_refresh());
        let replicate = self.replicate.as_ref().filter(|_| self.may_replicate());
        let replicate = replicate.map(|replicate| replicate.next_at());
        let next = [own, self.watches.next_at(self.may_ask()), replicate];
        let next = next.into_iter().flatten().min();
        let sleep = next.map_or(LONGEST_SLEEP, |at| at.saturating_since(now));
        let sleep = sleep.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        let wake_at = now.saturating_add(sleep);
        // Anything may wake us earlier; then the timer stays as it is unless it would ring too late.
        if self.timer_at.is_none_or(|at| at > wake_at) {
            self.timer_at = Some(wake_at);
            self.timer.reset(sleep);
            return self.timer.poll_unpin(cx);
        }
        Poll::Pending
    }

    /// The last client is gone.
    pub(super) fn on_clients_gone(&mut self) {
        self.commands = None;
        self.own.clear();
        // Nobody waits for these any more, and what they would sign nobody would keep alive.
        self.waiting.clear();
        self.lookups.retain(|_, read| !matches!(read.reader, Reader::Resume));
        for (query, task) in &self.queries {
            if let Task::Lookup(lookup) = task
                && !self.lookups.contains_key(lookup)
                && let Some(mut query) = self.kad.query_mut(query)
            {
                query.finish();
            }
        }
        self.watches.clear();
        self.events.push_back(Event::ClientsGone);
    }

    pub(super) fn quarter(&self) -> usize {
        (self.config.max_operations() / 4).max(1)
    }

    fn may_refresh(&self) -> bool {
        let busy = self.spreads.values().filter(|s| matches!(s.sender, Sender::Refresh)).count();
        let waiting = self.waiting.values().filter(|waiting| waiting.is_renewal).count();
        busy.saturating_add(waiting) < self.quarter()
    }

    fn may_ask(&self) -> bool {
        self.watches.asking() < self.quarter()
    }

    fn may_replicate(&self) -> bool {
        let is_replication = |read: &&Read| matches!(read.reader, Reader::Replication);
        let busy = self.lookups.values().filter(is_replication).count();
        busy < self.quarter() && self.repairing() < self.quarter()
    }

    fn refresh_one(&mut self, now: Timestamp) -> bool {
        if !self.may_refresh() {
            return false;
        }
        let Some((key, duty)) = self.own.due(now) else {
            return false;
        };
        self.refresh(key, duty == Duty::Renew, now);
        true
    }

    fn ask_for_one(&mut self, now: Timestamp) -> bool {
        if !self.may_ask() {
            return false;
        }
        let Some(key) = self.watches.due(now) else {
            return false;
        };
        self.begin_read(key, ReadPolicy::All, Reader::Watch);
        true
    }

    /// Gives the next stored record its turn.
    fn replicate_one(&mut self, now: Timestamp) -> bool {
        if !self.may_replicate() {
            return false;
        }
        // With an empty store it is nobody's turn, and the next is in an interval.
        let records = self.kad.store_mut().usage().records;
        let Some(replicate) = &mut self.replicate else {
            return false;
        };
        let Some(cursor) = replicate.due(now, records) else {
            return false;
        };
        let store = self.kad.store_mut();
        let mut next = store.next_record(cursor);
        if matches!(next, Ok(None)) {
            replicate.took(None);
            next = store.next_record(None);
        }
        match next {
            Ok(Some((id, key))) => {
                replicate.took(Some(id));
                let rank = rank(&mut self.kad, &self.local, &key);
                let is_ours = replicate.is_ours(&key, rank);
                tracing::trace!(%key, rank, is_ours, "a stored record has its turn");
                if is_ours {
                    self.count(|c| &mut c.replications, 1);
                    self.begin_read(key, ReadPolicy::All, Reader::Replication);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "replication begins anew");
                replicate.took(None);
            }
        }
        true
    }

    /// A stored record has been compared with what others have, and they have been sent what they lack. Of a record that
    /// others show in slices only it cannot be told what they lack: they are sent all of it.
    pub(super) fn end_replication(&mut self, key: RecordKey, is_large: bool) {
        let whole = match self.kad.store_mut().record(&key) {
            Ok(record) => record.filter(|_| is_large),
            Err(_) => None,
        };
        match whole {
            Some(record) => {
                let spread = self.spread_of(&record);
                self.begin_spread(spread, Sender::Replication);
            }
            None => self.events.push_back(Event::Replicated { key }),
        }
    }

    pub(super) fn watch(&mut self, key: RecordKey, sender: latest::Sender<Arc<Snapshot>>) {
        let now = self.clock.now();
        tracing::debug!(%key, "watched");
        match self.watches.add(key.clone(), sender, &self.registry, now) {
            Ok(true) => self.tell_watches(&key, None, now),
            Ok(false) => {}
            // The stream ends.
            Err(error) => tracing::debug!(%error, %key, "not watched"),
        }
    }

    pub(super) fn on_store_event(&mut self, event: StoreEvent) {
        if let StoreEvent::Stored { key, writers, .. } = &event
            && self.watches.is_watched(key)
        {
            // They are told when the store has nothing more to tell for now.
            self.watches.touch(key.clone(), writers.clone());
        }
        self.events.push_back(Event::Store(event));
    }

    /// Tells those who watch a key what is stored under it here, of a smart record the spaces of these writers, or of all.
    fn tell_watches(
        &mut self,
        key: &RecordKey,
        writers: Option<&BTreeSet<PeerId>>,
        now: Timestamp,
    ) {
        let store = self.kad.store_mut();
        let record = match writers {
            Some(writers) if !writers.is_empty() => store.record_of(key, writers),
            _ => store.record(key),
        };
        match record {
            Ok(Some(record)) => self.watches.on_record(key, &record, now),
            Ok(None) => {
                if let Ok(Some(stored)) = store.value(key) {
                    // More may be known than what is stored here.
                    let known = self.watches.value(key, now);
                    let best = known.and_then(|(known, _)| {
                        self.registry.consolidate(key, &[&stored.value, known]).ok()
                    });
                    let best = best.map_or(stored.value, Bytes::from);
                    let ends_at = self.end_of(key, &best, stored.expires_at, now);
                    self.watches.on_value(key, best, ends_at, now);
                }
            }
            Err(error) => tracing::warn!(%error, %key, "a watched record could not be read"),
        }
    }

    /// When a value that is not a smart record ends: by its own word, or else by that of those who have it.
    pub(super) fn end_of(
        &self,
        key: &RecordKey,
        value: &[u8],
        lifetime_ends_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match self.registry.validate(key, value, now).ok()? {
            Validated::Value(validity) => validity.expires_at.or(lifetime_ends_at),
            Validated::Record(_) => None,
        }
    }

    /// Takes out of the routing table what is too much there of a peer's addresses.
    pub(super) fn trim_addresses(&mut self, peer: PeerId) {
        let Some(bucket) = self.kad.kbucket(peer) else {
            return;
        };
        let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
        let addresses = entry.iter().flat_map(|entry| entry.node.value.iter());
        for address in self.remotes.surplus(&peer, addresses) {
            // With its last one the peer goes, too.
            self.kad.remove_address(&peer, &address);
        }
    }

    /// Own spaces to which a new peer is close are sent again.
    pub(super) fn on_new_peer(&mut self, peer: PeerId) {
        let now = self.clock.now();
        let closer = |key: &RecordKey| self.own.may_reach(key, RecordId::new(&peer, key));
        let keys: Vec<_> = self.own.keys().filter(|key| closer(key)).cloned().collect();
        for key in keys {
            let target = KBucketKey::new(key.as_bytes().to_vec());
            let closest = self.kad.get_closest_local_peers(&target).take(self.bounds.closest);
            let closest: Vec<_> = closest.map(KBucketKey::into_preimage).collect();
            let farthest = closest.get(self.bounds.closest.saturating_sub(1));
            self.own.set_reach(&key, farthest.map(|peer| RecordId::new(peer, &key)));
            if closest.contains(&peer) {
                self.own.on_new_peer(&key, now);
            }
        }
    }
}

/// How many peers that we know are closer to the key than we are.
fn rank(
    kad: &mut kad::Behaviour<crate::SmartRecordStore>,
    local: &PeerId,
    key: &RecordKey,
) -> usize {
    let target = KBucketKey::new(key.as_bytes().to_vec());
    let ours = KBucketKey::from(*local).distance(&target);
    let closer =
        kad.get_closest_local_peers(&target).take_while(|peer| peer.distance(&target) < ours);
    closer.take(kad::K_VALUE.get()).count()
}
