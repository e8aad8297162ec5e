//! The peers recently found closest to a key and what they had, and the peers that join what they
//! are sent.
//!
//! **Invariants.** The number of keys and peers is bounded, and so is the memory: a record that
//! does not fit into a packet is not kept. Entries are valid for a minute after the read began that
//! has found them; after that, they only say which peers were the closest.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Writes".

use std::time::Duration;

use hashlink::LruCache;
use libp2p_identity::PeerId;
use smart_record_core::{RecordKey, SmartRecord};
use smart_record_lookup::{Lookup, NetworkSize};

use crate::store::storage::RecordId;

/// Maximum number of keys: 4 MB with the records, or as many chunks as these, if they are larger. A
/// guess.
const KEYS: usize = 256;
/// How long an entry is valid.
const LIFE: Duration = Duration::from_secs(60);
/// Maximum number of peers known to join: 200 KB. A guess.
const JOINERS: usize = 2_048;

/// The closest peers by key, and the peers known to join.
#[derive(Debug)]
pub(super) struct Holders {
    keys: LruCache<RecordKey, KnownHolders>,
    joiners: LruCache<PeerId, ()>,
}

#[derive(Debug)]
struct KnownHolders {
    closest: Closest,
    record: Option<SmartRecord>,
    /// Whether the record has all that the network has of this node's own space.
    has_own: bool,
    /// When the read or lookup began that has found this.
    since: Duration,
}

/// The peers closest to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closest {
    /// Recipients of a write, sorted by distance.
    pub(super) replicas: Vec<PeerId>,
    /// Number of the closest peers that have answered.
    pub(super) answered: usize,
}

impl Closest {
    pub(super) fn of(search: &Lookup, size: &NetworkSize) -> Self {
        Self { replicas: search.replicas(size), answered: search.closest(size).len() }
    }
}

impl Holders {
    pub(super) fn new() -> Self {
        Self { keys: LruCache::new(KEYS), joiners: LruCache::new(JOINERS) }
    }

    /// Sets the peers that a read has found closest to a key, the record that they have if it fits
    /// into a packet, and whether enough of them have shown what they have of this node's own
    /// space. What a read has found that began later stays.
    pub(super) fn set(
        &mut self,
        key: RecordKey,
        closest: Closest,
        record: Option<SmartRecord>,
        has_own: bool,
        since: Duration,
    ) {
        if self.keys.peek(&key).is_some_and(|known| known.since > since) {
            return;
        }
        if closest.answered == 0 {
            self.keys.remove(&key);
        } else {
            self.keys.insert(key, KnownHolders { closest, record, has_own, since });
        }
    }

    /// The record under a key, if the entry is valid and no part of this node's own space is
    /// missing.
    pub(super) fn with_own(&mut self, key: &RecordKey, now: Duration) -> Option<SmartRecord> {
        let known = self.valid(key, now).filter(|known| known.has_own)?;
        known.record.clone()
    }

    fn valid(&mut self, key: &RecordKey, now: Duration) -> Option<&KnownHolders> {
        self.keys.get(key).filter(|known| now.saturating_sub(known.since) < LIFE)
    }

    /// The peers closest to a key and the record that they had, if the entry is valid.
    pub(super) fn known(
        &mut self,
        key: &RecordKey,
        now: Duration,
    ) -> Option<(Closest, Option<SmartRecord>)> {
        let known = self.valid(key, now)?;
        Some((known.closest.clone(), known.record.clone()))
    }

    /// The peers that were closest to a key at the last lookup and are known to join. They may be
    /// sent a record before it is known what they have.
    pub(super) fn joining(&mut self, key: &RecordKey) -> Vec<PeerId> {
        let Self { keys, joiners } = self;
        let replicas = keys.get(key).map(|known| &known.closest.replicas);
        let joining = replicas.into_iter().flatten().filter(|peer| joiners.get(peer).is_some());
        joining.copied().collect()
    }

    /// Whether a peer is known to join what it is sent. Others may keep only the last PUT.
    pub(super) fn joins(&self, peer: &PeerId) -> bool {
        self.joiners.peek(peer).is_some()
    }

    /// Handles what a peer has shown: whether it has made its answer itself, so that it joins what
    /// it is sent.
    pub(super) fn on_shown(&mut self, peer: PeerId, joins: bool) {
        if joins {
            self.joiners.insert(peer, ());
        } else {
            self.joiners.remove(&peer);
        }
    }

    /// Records that a read found a peer behind that does not say what its answers cover. It may
    /// keep the last PUT, and another writer may have joined what it had.
    pub(super) fn on_behind(&mut self, peer: &PeerId) {
        self.joiners.remove(peer);
    }

    pub(super) fn forget(&mut self, key: &RecordKey) {
        self.keys.remove(key);
    }

    /// Removes the entries that a new peer may invalidate because it may be one of the closest.
    pub(super) fn on_new_peer(&mut self, peer: &PeerId, closest: usize) {
        let may_reach = |key: &RecordKey, known: &KnownHolders| {
            let farthest = known.closest.replicas.get(closest.saturating_sub(1));
            farthest.is_none_or(|last| RecordId::new(peer, key) < RecordId::new(last, key))
        };
        self.keys
            .retain(|key, known| known.closest.replicas.contains(peer) || !may_reach(key, known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn closest(peers: &[PeerId]) -> Closest {
        Closest { replicas: peers.to_vec(), answered: peers.len() }
    }

    #[test]
    fn an_entry_is_valid_for_a_minute_and_until_a_closer_peer_appears() {
        let key = RecordKey::new("/sr/a");
        let mut peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(30).collect();
        peers.sort_by_cached_key(|peer| RecordId::new(peer, &key));
        let mut holders = Holders::new();
        holders.set(key.clone(), closest(&peers[1..21]), None, false, S);
        assert_eq!(holders.known(&key, 60 * S).unwrap().0, closest(&peers[1..21]));
        assert_eq!(holders.known(&key, 61 * S), None);
        holders.on_new_peer(&peers[25], 20);
        assert!(holders.known(&key, 2 * S).is_some(), "farther than all others");
        holders.on_new_peer(&peers[5], 20);
        assert!(holders.known(&key, 2 * S).is_some(), "already one of the closest");
        holders.on_new_peer(&peers[0], 20);
        assert_eq!(holders.known(&key, 2 * S), None);
    }

    #[test]
    fn what_a_read_has_found_that_began_later_stays() {
        let key = RecordKey::new("/sr/a");
        let [first, second, third] = [(); 3].map(|()| closest(&[PeerId::random()]));
        let mut holders = Holders::new();
        holders.set(key.clone(), first, None, false, 2 * S);
        holders.set(key.clone(), second.clone(), None, true, 2 * S);
        holders.set(key.clone(), third, None, false, S);
        holders.set(key.clone(), closest(&[]), None, false, S);
        assert_eq!(holders.known(&key, 3 * S), Some((second, None)));
        holders.set(key.clone(), closest(&[]), None, false, 3 * S);
        assert_eq!(holders.known(&key, 3 * S), None);
    }

    #[test]
    fn any_new_peer_invalidates_an_entry_with_fewer_than_the_maximum_of_peers() {
        let key = RecordKey::new("/sr/a");
        let mut holders = Holders::new();
        holders.set(key.clone(), closest(&[PeerId::random()]), None, false, S);
        holders.on_new_peer(&PeerId::random(), 20);
        assert_eq!(holders.known(&key, 2 * S), None);
    }

    #[test]
    fn peers_that_join_are_remembered_for_longer_than_a_minute() {
        let (key, joins, plain) = (RecordKey::new("/sr/a"), PeerId::random(), PeerId::random());
        let mut holders = Holders::new();
        holders.set(key.clone(), closest(&[joins, plain]), None, false, S);
        holders.on_shown(joins, true);
        assert_eq!(holders.known(&key, 100 * S), None);
        assert_eq!(holders.joining(&key), [joins]);
        assert!(holders.joins(&joins) && !holders.joins(&plain));
        holders.on_behind(&joins);
        assert!(!holders.joins(&joins) && holders.joining(&key).is_empty());
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut holders = Holders::new();
        for n in 0..2 * KEYS {
            let key = RecordKey::new(format!("/sr/{n}"));
            holders.set(key, closest(&[PeerId::random()]), None, false, S);
        }
        assert_eq!(holders.keys.len(), KEYS);
    }
}
