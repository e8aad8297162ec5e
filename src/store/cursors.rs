//! Positions of the walks through large records: where the next slice begins, for each peer that
//! asks.
//!
//! **Invariants.** The requests of one peer do not change the slices of another. The first place of
//! a walk is unpredictable, because it is drawn with a secret of the store. If the neighbours of
//! this node are known, the walks of the replicas of a record begin in different twentieths of the
//! ring. The number of walks is bounded, in total and for each subnet.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::storage::{RecordId, SpaceId};
use crate::addresses::ip_of;
use smart_record_core::Timestamp;
use smart_record_lookup::Subnet;

/// Maximum number of subnets, and of walks of one subnet: 4 MB in all. A guess.
const SUBNETS: usize = 64;
const WALKS: usize = 256;
/// How long a walk goes on after the last request. A guess: longer than the pauses within a read.
const IDLE: Duration = Duration::from_secs(10);
/// Number of replicas of a record, and of the arcs of the ring in which their walks begin.
const REPLICAS: u64 = 20;
/// Maximum number of spaces that a drawn walk skips: so no space in front of another keeps it from
/// being the first.
const SKIPPED: u64 = 8;

/// The peer that asks a store for records: see
/// [`SmartRecordStore::asked_by`](super::SmartRecordStore::asked_by).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub(super) peer: PeerId,
    subnet: Option<Subnet>,
}

impl Asker {
    /// A peer, and the remote address of its connection. Peers without an IP address count as of
    /// one subnet.
    pub fn new(peer: PeerId, address: Option<&Multiaddr>) -> Self {
        let subnet = |address| Some(Subnet::new(ip_of(address)?, 24, 48));
        Self { peer, subnet: address.and_then(subnet) }
    }
}

/// A walk along the ring of a record's spaces.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Where it began. One lap ends there.
    pub(super) start: SpaceId,
    /// Where the next slice begins.
    pub(super) at: SpaceId,
    /// Spaces that come first in it: they did not fit into the last one.
    pub(super) passed: Vec<SpaceId>,
    /// A space that was sent in part, and how many of its newest updates have been sent.
    pub(super) part: Option<(SpaceId, usize)>,
    /// Number of spaces to be skipped at the beginning.
    pub(super) skip: usize,
    last_at: Timestamp,
}

/// The walks of all peers.
#[derive(Debug)]
pub(super) struct Cursors {
    secret: RandomState,
    draws: u64,
    /// The digests of the peers in the routing table, relative to that of the local peer.
    neighbours: Vec<[u8; 32]>,
    walks: LruCache<Option<Subnet>, LruCache<(RecordId, PeerId), Walk>>,
}

impl Default for Cursors {
    fn default() -> Self {
        let walks = LruCache::new(SUBNETS);
        Self { secret: RandomState::new(), draws: 0, neighbours: Vec::new(), walks }
    }
}

impl Cursors {
    pub(super) fn set_neighbours(&mut self, mut digests: Vec<[u8; 32]>, local: &[u8; 32]) {
        for digest in &mut digests {
            digest.iter_mut().zip(local).for_each(|(byte, local)| *byte ^= local);
        }
        self.neighbours = digests;
    }

    /// A number that nobody can foretell.
    pub(super) fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        self.secret.hash_one(self.draws)
    }

    /// The walk of a peer, and whether it is new.
    pub(super) fn walk(
        &mut self,
        record: RecordId,
        asker: Option<Asker>,
        now: Timestamp,
    ) -> (Walk, bool) {
        let known = asker.and_then(|asker| {
            let walks = self.walks.get_mut(&asker.subnet)?;
            walks.get(&(record, asker.peer)).cloned()
        });
        let goes_on =
            |walk: &Walk| walk.last_at <= now && now.saturating_since(walk.last_at) <= IDLE;
        if let Some(walk) = known.filter(goes_on) {
            return (walk, false);
        }
        let drawn = self.draw();
        let (place, skip) = match asker {
            Some(_) => (self.place(record, drawn), 0),
            None => (drawn, self.draw() % SKIPPED),
        };
        let start = SpaceId::at(place);
        let skip = usize::try_from(skip).unwrap_or(0);
        let walk = Walk { start, at: start, passed: Vec::new(), part: None, skip, last_at: now };
        (walk, true)
    }

    /// The place of the ring where a walk begins. The peers closest to a key have ranks by their
    /// distance from it, and each begins in another arc, so together they cover the ring soon.
    fn place(&self, record: RecordId, drawn: u64) -> u64 {
        if self.neighbours.is_empty() {
            return drawn;
        }
        // The id of a record is the distance of the local peer from its key.
        let is_closer = |neighbour: &&[u8; 32]| {
            let distance = neighbour.iter().zip(record.0).map(|(a, b)| a ^ b);
            distance.lt(record.0)
        };
        let rank = self.neighbours.iter().filter(is_closer).count();
        let rank = u64::try_from(rank).unwrap_or(0) % REPLICAS;
        let arc = u64::MAX / REPLICAS;
        arc.wrapping_mul(rank).wrapping_add(drawn / REPLICAS)
    }

    /// Remembers a walk. Returns how many others were forgotten for it.
    pub(super) fn set(
        &mut self,
        record: RecordId,
        asker: Asker,
        walk: Walk,
        now: Timestamp,
    ) -> usize {
        let mut forgotten = 0;
        if !self.walks.contains_key(&asker.subnet) {
            if self.walks.len() >= SUBNETS {
                forgotten = self.walks.remove_lru().map_or(0, |(_, walks)| walks.len());
            }
            self.walks.insert(asker.subnet, LruCache::new_unbounded());
        }
        if let Some(walks) = self.walks.get_mut(&asker.subnet) {
            walks.insert((record, asker.peer), Walk { last_at: now, ..walk });
            if walks.len() > WALKS {
                walks.remove_lru();
                forgotten = forgotten.saturating_add(1);
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::RecordKey;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn asker(peer: PeerId, ip: &str) -> Asker {
        Asker::new(peer, Some(&format!("/ip4/{ip}/tcp/1").parse().unwrap()))
    }

    /// The 20 replicas of ten thousand peers begin close to each twentieth of the ring.
    #[test]
    fn the_walks_of_the_replicas_leave_no_gap_longer_than_a_tenth() {
        let key = RecordKey::new("/sr/spread");
        let peer = |n: u32| {
            let id = RecordKey::new(n.to_be_bytes()).digest();
            PeerId::from_bytes(&[&[0x12, 0x20], &id[..]].concat()).unwrap()
        };
        let mut peers: Vec<_> = (0..10_000).map(peer).collect();
        peers.sort_by_cached_key(|peer| RecordId::new(peer, &key));
        let replicas = &peers[..20];
        for reader in 0..50 {
            let reader = asker(peer(20_000 + reader), "10.0.0.1");
            let starts = replicas.iter().map(|local| {
                let mut cursors = Cursors::default();
                let others = peers[..40].iter().filter(|other| *other != local);
                cursors
                    .set_neighbours(others.map(RecordId::place).collect(), &RecordId::place(local));
                let (walk, is_new) = cursors.walk(RecordId::new(local, &key), Some(reader), NOW);
                assert!(is_new && walk.skip == 0);
                walk.start.place()
            });
            let mut starts: Vec<_> = starts.collect();
            starts.sort_unstable();
            let last = starts[19];
            let before = std::iter::once(&last).chain(&starts);
            let gaps = starts.iter().zip(before).map(|(start, before)| start.wrapping_sub(*before));
            assert!(gaps.max().unwrap() <= u64::MAX / 10 + 40);
        }
    }

    #[test]
    fn a_walk_goes_on_for_its_peer_alone_and_ends_after_a_pause() {
        let (mut cursors, record) = (Cursors::default(), RecordId([1; 32]));
        let [one, other] = [(); 2].map(|()| asker(PeerId::random(), "10.0.0.1"));
        let (mut walk, _) = cursors.walk(record, Some(one), NOW);
        walk.at = SpaceId([7; 32]);
        assert_eq!(cursors.set(record, one, walk, NOW), 0);
        let at = |cursors: &mut Cursors, asker, millis| {
            let now = Timestamp::from_millis(NOW.as_millis() + millis);
            let (walk, is_new) = cursors.walk(record, Some(asker), now);
            (walk.at == SpaceId([7; 32]), is_new)
        };
        assert_eq!(at(&mut cursors, one, 10_000), (true, false));
        assert_eq!(at(&mut cursors, one, 10_001), (false, true));
        assert_eq!(at(&mut cursors, other, 0), (false, true));
        assert!(cursors.walk(RecordId([2; 32]), Some(one), NOW).1);
        let (first, second) = (cursors.walk(record, None, NOW), cursors.walk(record, None, NOW));
        assert!(first.1 && second.1 && first.0.start != second.0.start);
    }

    #[test]
    fn one_network_does_not_displace_the_walks_of_others_and_all_are_bounded() {
        let (mut cursors, record) = (Cursors::default(), RecordId([1; 32]));
        let mut begin = |asker: Asker| {
            let (walk, _) = cursors.walk(record, Some(asker), NOW);
            cursors.set(record, asker, walk, NOW)
        };
        let honest = asker(PeerId::random(), "10.0.0.1");
        begin(honest);
        let flood = (0..2 * WALKS).map(|_| begin(asker(PeerId::random(), "10.0.1.1")));
        assert_eq!(flood.sum::<usize>(), WALKS);
        let networks: usize =
            (0..SUBNETS - 2).map(|n| begin(asker(PeerId::random(), &format!("10.1.{n}.1")))).sum();
        assert_eq!(networks, 0);
        assert!(!cursors.walk(record, Some(honest), NOW).1, "it goes on");
        let walk = cursors.walk(record, Some(honest), NOW).0;
        // One more network displaces the one that has asked for nothing for longest.
        let more = asker(PeerId::random(), "10.2.0.1");
        assert_eq!(cursors.set(record, more, walk, NOW), WALKS);
        assert_eq!(cursors.walks.len(), SUBNETS);
    }
}
