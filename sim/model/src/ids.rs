//! The sorted table of ids, and the routing tables that follow from it.
//!
//! No node has a routing table of its own. What it would have is computed when it is asked: of each
//! bucket up to 20 peers. A bucket with more peers than that is sampled: 20 places in it are drawn
//! by a hash of its owner, and each gives the peer that follows it in the sorted table. So an
//! owner's choice stays the same while peers elsewhere come and go.
//!
//! **Invariants.** The same calls give the same tables. A peer is named from a short while after it
//! has joined until a while after it has left.

use crate::{
    node::Node,
    time::{MINUTE, SECOND, Time},
};

/// Number of peers in a bucket, and in an answer.
pub(crate) const K: usize = 20;
/// How long others take at most to learn of a peer: it looks itself up when it joins.
const LEARN: Time = 60 * SECOND;
/// How long others take at most to forget a peer that is gone. A guess, and an unfriendly one: on
/// average a quarter of an hour in which it is asked in vain.
pub(crate) const FORGET: Time = 30 * MINUTE;
/// How long it takes at most until the sides of a partition that has ended know each other again. A
/// guess: real nodes dial one evicted peer in this time, and learn of others from it.
const REJOIN: Time = 10 * MINUTE;

/// Index of a node.
pub(crate) type NodeId = u32;

/// The first 128 bits of a place in Kademlia's key space.
pub(crate) type Point = u128;

/// All servers that are up, or were until lately, sorted by place.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    sorted: Vec<(Point, NodeId)>,
}

/// A partition: peers of different sides do not reach each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Partition {
    /// When it began and, if it has, when it ended.
    pub(crate) begun: Option<Time>,
    pub(crate) ended: Option<Time>,
}

impl Partition {
    /// Whether messages between the sides are lost.
    pub(crate) fn is_on(&self) -> bool {
        self.begun.is_some() && self.ended.is_none()
    }
}

impl Ids {
    pub(crate) fn from_nodes(nodes: &[Node]) -> Self {
        let mut sorted: Vec<_> = (0..).zip(nodes).map(|(id, node)| (node.place, id)).collect();
        sorted.retain(|(_, id)| nodes[*id as usize].is_server);
        sorted.sort_unstable();
        Self { sorted }
    }

    pub(crate) fn insert(&mut self, place: Point, id: NodeId) {
        let at = self.sorted.partition_point(|entry| *entry < (place, id));
        self.sorted.insert(at, (place, id));
    }

    pub(crate) fn remove(&mut self, place: Point, id: NodeId) {
        if let Ok(at) = self.sorted.binary_search(&(place, id)) {
            self.sorted.remove(at);
        }
    }

    /// The index of the first entry from a place on.
    fn from(&self, place: Point) -> usize {
        self.sorted.partition_point(|entry| entry.0 < place)
    }

    /// The entries whose places are in this range, ends included.
    fn range(&self, first: Point, last: Point) -> &[(Point, NodeId)] {
        let from = self.from(first);
        let to = last.checked_add(1).map_or(self.sorted.len(), |after| self.from(after));
        &self.sorted[from..to.max(from)]
    }

    /// The peers closest to a target among those that `asked` knows, the closest first.
    pub(crate) fn known_to(
        &self,
        nodes: &[Node],
        asked: NodeId,
        target: Point,
        partition: Partition,
        now: Time,
    ) -> Vec<NodeId> {
        let owner = &nodes[asked as usize];
        let shared = (owner.place ^ target).leading_zeros();
        let mut found = Vec::with_capacity(2 * K);
        let mut add = |bucket: u32| {
            self.bucket(nodes, asked, bucket, partition, now, &mut found);
            found.len() >= K
        };
        let is_enough = shared < Point::BITS && add(shared) || {
            // Then those that share as much with the target as the owner does.
            let deepest = self.depth(owner.place);
            for bucket in shared.saturating_add(1)..=deepest {
                add(bucket);
            }
            found.len() >= K
        };
        if !is_enough {
            for bucket in (0..shared.min(Point::BITS)).rev() {
                self.bucket(nodes, asked, bucket, partition, now, &mut found);
                if found.len() >= K {
                    break;
                }
            }
        }
        found.sort_unstable_by_key(|id| nodes[*id as usize].place ^ target);
        found.truncate(K);
        found
    }

    /// The deepest bucket that may have a peer: the bits that the closest neighbours share with it.
    fn depth(&self, place: Point) -> u32 {
        let at = self.from(place);
        let around = self.sorted[at.saturating_sub(1)..self.sorted.len().min(at + 2)].iter();
        let shared = around.filter(|(other, _)| *other != place);
        shared.map(|(other, _)| (other ^ place).leading_zeros()).max().unwrap_or(0)
    }

    /// Adds the peers of a bucket of `asked`: those that share exactly `bits` bits with it.
    fn bucket(
        &self,
        nodes: &[Node],
        asked: NodeId,
        bits: u32,
        partition: Partition,
        now: Time,
        found: &mut Vec<NodeId>,
    ) {
        let owner = &nodes[asked as usize];
        let flip = 1 << (Point::BITS - 1 - bits);
        let rest = flip - 1;
        let first = (owner.place ^ flip) & !rest;
        let all = self.range(first, first | rest);
        let is_listed =
            |id: NodeId| id != asked && is_known(owner, &nodes[id as usize], id, partition, now);
        if all.len() <= K {
            found.extend(all.iter().map(|(_, id)| *id).filter(|id| is_listed(*id)));
            return;
        }
        let begin = found.len();
        for draw in 0..K as u64 {
            let point = first | (wide_hash(owner.salt, u64::from(bits) << 32 | draw) & rest);
            let at = all.partition_point(|entry| entry.0 < point);
            let following = all[at..].iter().chain(&all[..at]).map(|(_, id)| *id);
            let next = following.take(64).find(|id| !found[begin..].contains(id) && is_listed(*id));
            found.extend(next);
        }
    }

    /// The servers closest to a target that match, the closest first.
    pub(crate) fn closest(
        &self,
        nodes: &[Node],
        target: Point,
        count: usize,
        matches: impl Fn(NodeId, &Node) -> bool,
    ) -> Vec<NodeId> {
        // All that share some bits with the target are closer than all that share fewer.
        let mut bits = Point::BITS;
        while bits > 0 {
            bits = bits.min(64 + Point::BITS - self.sorted.len().max(1).leading_zeros()) - 1;
            let rest = Point::MAX.checked_shr(bits).unwrap_or(0);
            let range = self.range(target & !rest, target | rest);
            let mut found: Vec<_> = range
                .iter()
                .map(|(_, id)| *id)
                .filter(|id| matches(*id, &nodes[*id as usize]))
                .collect();
            if found.len() >= count || bits == 0 {
                found.sort_unstable_by_key(|id| nodes[*id as usize].place ^ target);
                found.truncate(count);
                return found;
            }
        }
        Vec::new()
    }
}

/// Whether `owner` has `other` in its routing table.
fn is_known(owner: &Node, other: &Node, id: NodeId, partition: Partition, now: Time) -> bool {
    let salt = owner.salt ^ u64::from(id);
    let share = |of: Time| scale(hash(salt, 1), of);
    let knows = other.joined_at == 0 || now >= other.joined_at + share(LEARN);
    let remembers = other.left_at.is_none_or(|at| now < at + share(FORGET));
    let is_split = owner.side != other.side && other.left_at.is_none() && {
        let has_forgotten = partition.begun.is_some_and(|at| now >= at + share(FORGET));
        has_forgotten && partition.ended.is_none_or(|at| now < at + share(REJOIN))
    };
    knows && remembers && !is_split
}

/// `of` times a hash, as a share.
fn scale(hash: u64, of: u64) -> u64 {
    ((u128::from(hash) * u128::from(of)) >> 64) as u64
}

/// SplitMix64 of two numbers.
pub(crate) fn hash(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn wide_hash(a: u64, b: u64) -> Point {
    Point::from(hash(a, b)) << 64 | Point::from(hash(b, !a))
}
