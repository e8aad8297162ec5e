//! Positions of the walks through large records: where the next slice begins, for each peer that
//! asks.
//!
//! **Invariants.** The requests of one peer do not change the slices of another. The first place of
//! a walk is unpredictable, because it is drawn with a secret of the store. If the neighbours of
//! this node are known, the walks of the replicas of a record begin in different twentieths of the
//! ring. The number of walks is bounded, and that of one subnet too. When there are too many, the
//! subnet with the most walks loses one.
//!
//! **Spec.** `docs/design.md`, section "Any subset of a record is a record".

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::{
    source::Source,
    storage::{RecordId, SpaceId},
};
use crate::addresses::ip_of;
use smart_record_core::Timestamp;
use smart_record_lookup::Subnet;

/// Maximum number of walks, and of those of one subnet: 8 MB in all. A guess.
const MAX_WALKS: usize = 16_384;
const WALKS: usize = 256;
/// How long a walk goes on after the last request. A guess: longer than the pauses within a read.
const IDLE: Duration = Duration::from_secs(10);
/// Number of replicas of a record, and of the arcs of the ring in which their walks begin.
const REPLICAS: u64 = 20;
/// Maximum number of spaces that a drawn walk skips: so no space in front of another keeps it from
/// being the first.
const SKIPPED: u64 = 8;

/// The peer that asks a store for records, or brings them: see
/// [`SmartRecordStore::asked_by`](super::SmartRecordStore::asked_by).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub(super) peer: PeerId,
    pub(super) source: Source,
    subnet: Option<Subnet>,
}

impl Asker {
    /// A peer, and the remote address of its connection. Peers without an IP address count as of
    /// one subnet, and of one source.
    pub fn new(peer: PeerId, address: Option<&Multiaddr>) -> Self {
        let ip = address.and_then(ip_of);
        let subnet = ip.map(|ip| Subnet::new(ip, 24, 48));
        Self { peer, source: Source::of(ip), subnet }
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
    walks: HashMap<Option<Subnet>, LruCache<(RecordId, PeerId), Walk>>,
    /// The subnets by their number of walks.
    sizes: BTreeMap<usize, LruCache<Option<Subnet>, ()>>,
    count: usize,
    /// When a subnet last lost a walk because of another.
    crowded_at: Option<Timestamp>,
}

impl Default for Cursors {
    fn default() -> Self {
        Self {
            secret: RandomState::new(),
            draws: 0,
            neighbours: Vec::new(),
            walks: HashMap::new(),
            sizes: BTreeMap::new(),
            count: 0,
            crowded_at: None,
        }
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
        // A walk that was forgotten would begin in the same part of the ring again and again.
        let is_crowded =
            self.crowded_at.is_some_and(|at| at <= now && now.saturating_since(at) <= IDLE);
        let (place, skip) = match asker {
            Some(_) if is_crowded => (drawn, 0),
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
        let walks = self.walks.entry(asker.subnet).or_insert_with(LruCache::new_unbounded);
        let before = walks.len();
        walks.insert((record, asker.peer), Walk { last_at: now, ..walk });
        let mut forgotten = 0_usize;
        if walks.len() > WALKS {
            walks.remove_lru();
            forgotten = 1;
        }
        let after = walks.len();
        self.resize(asker.subnet, before, after);
        if self.count > MAX_WALKS {
            forgotten = forgotten.saturating_add(1);
            self.crowded_at = Some(now);
            self.forget_one();
        }
        forgotten
    }

    /// Forgets the oldest walk of the subnet that has the most. Of several, the one that has asked
    /// for nothing for longest.
    fn forget_one(&mut self) {
        let largest = self.sizes.last_key_value();
        let largest = largest.and_then(|(_, subnets)| Some(*subnets.iter().next()?.0));
        if let Some(subnet) = largest
            && let Some(walks) = self.walks.get_mut(&subnet)
        {
            let before = walks.len();
            walks.remove_lru();
            let after = walks.len();
            if after == 0 {
                self.walks.remove(&subnet);
            }
            self.resize(subnet, before, after);
        }
    }

    /// Handles a change of the number of walks of a subnet.
    fn resize(&mut self, subnet: Option<Subnet>, before: usize, after: usize) {
        if let Some(subnets) = self.sizes.get_mut(&before) {
            subnets.remove(&subnet);
            if subnets.is_empty() {
                self.sizes.remove(&before);
            }
        }
        if after > 0 {
            let subnets = self.sizes.entry(after).or_insert_with(LruCache::new_unbounded);
            subnets.insert(subnet, ());
        }
        self.count = self.count.saturating_add(after).saturating_sub(before);
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
        assert!(!cursors.walk(record, Some(honest), NOW).1, "it goes on");
        let mut cursors = Cursors::default();
        let begin = |cursors: &mut Cursors, asker: Asker| {
            let (walk, _) = cursors.walk(record, Some(asker), NOW);
            cursors.set(record, asker, walk, NOW)
        };
        // Of many networks the largest lose theirs.
        assert_eq!(begin(&mut cursors, honest), 0);
        let mut forgotten = 0;
        for n in 0..2 * MAX_WALKS {
            let network = n % 100;
            let flooder = asker(PeerId::random(), &format!("10.1.{network}.1"));
            forgotten += begin(&mut cursors, flooder);
        }
        assert_eq!(forgotten, MAX_WALKS + 1);
        assert_eq!(cursors.walks.values().map(LruCache::len).sum::<usize>(), MAX_WALKS);
        assert!(!cursors.walk(record, Some(honest), NOW).1, "it goes on");
    }

    #[test]
    fn where_networks_displace_each_other_walks_begin_anywhere() {
        let (mut cursors, record) = (Cursors::default(), RecordId([0xff; 32]));
        // It is the closest of all, so walks begin in the first twentieth.
        cursors.set_neighbours(vec![[0; 32]], &[0; 32]);
        let first = |cursors: &mut Cursors, seconds: u64| {
            let now = NOW.saturating_add(Duration::from_secs(seconds));
            let starts = (0..100).map(|_| {
                let reader = asker(PeerId::random(), "10.0.0.1");
                cursors.walk(record, Some(reader), now).0.start.place()
            });
            starts.filter(|start| *start <= u64::MAX / REPLICAS).count()
        };
        assert_eq!(first(&mut cursors, 0), 100);
        for n in 0..=MAX_WALKS {
            let network = asker(PeerId::random(), &format!("10.{}.{}.1", 1 + n / 256, n % 256));
            let (walk, _) = cursors.walk(record, Some(network), NOW);
            assert_eq!(cursors.set(record, network, walk, NOW), usize::from(n == MAX_WALKS));
        }
        assert!(first(&mut cursors, 1) < 50);
        assert_eq!(first(&mut cursors, 11), 100, "for a while");
    }
}
