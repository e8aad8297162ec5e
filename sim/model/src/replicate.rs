//! The replication of stored records.
//!
//! **Departs from the real code** in that `behaviour/replicate.rs` is private: this follows its
//! rules (one turn per record and interval, evenly spread; the replica of rank `n` takes every
//! `n + 1`st), with an order of its own keys instead of the store's. A node that stores nothing has
//! no turns.

use std::ops::Bound;

use crate::{
    asker::Purpose,
    ids::{K, NodeId, hash},
    node::{KeyId, Store, Turns},
    time::{MILLISECOND, Time},
    world::World,
};

/// Least time between two turns.
const SHORTEST: Time = 5 * MILLISECOND;

impl World {
    /// Notes that a node stores something under a key.
    pub(crate) fn has_key(&mut self, id: NodeId, key: KeyId) {
        let distance = self.nodes[id as usize].place ^ self.keys[key as usize].point;
        let node = &mut self.nodes[id as usize];
        node.turns.keys.insert(distance, key);
        let Some(interval) = self.config.replicate else { return };
        if std::mem::replace(&mut node.turns.is_scheduled, true) {
            return;
        }
        // Its turns have a phase since it has started: half an interval after that.
        let begun = match node.joined_at {
            0 => hash(node.salt, 11) % self.config.first_turn.unwrap_or(interval),
            at => at + interval / 2,
        };
        let missed = self.now.saturating_sub(begun).div_ceil(interval);
        self.turn_at(begun + missed * interval, id);
    }

    /// Gives the next stored record its turn.
    pub(crate) fn on_turn(&mut self, id: NodeId) {
        let Some(interval) = self.config.replicate else { return };
        if !self.nodes[id as usize].is_up() || self.nodes[id as usize].turns.keys.is_empty() {
            self.nodes[id as usize].turns.is_scheduled = false;
            return;
        }
        let node = &mut self.nodes[id as usize];
        let (joined_at, salt) = (node.joined_at, node.salt);
        let Turns { keys, cursor, round, .. } = &mut node.turns;
        let pace = (interval / keys.len() as u64).max(SHORTEST);
        let after = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let mut next = keys.range((after, Bound::Unbounded)).next();
        if next.is_none() {
            *round += 1;
            next = keys.first_key_value();
        }
        let Some((distance, key)) = next.map(|(distance, key)| (*distance, *key)) else { return };
        *cursor = Some(distance);
        // Who was there before the start has begun anywhere.
        let before = if joined_at == 0 { hash(salt, 12) % 1_024 } else { 0 };
        let round = *round + before;
        self.turn_at(self.now + pace, id);
        // What has expired is not there any more.
        let of_key = &self.keys[key as usize];
        let is_stored = match &self.nodes[id as usize].store {
            Store::Ours(store) => store.record(&of_key.key).is_ok_and(|record| record.is_some()),
            Store::Empty | Store::Plain(_) => false,
        };
        if !is_stored {
            self.nodes[id as usize].turns.keys.remove(&distance);
            self.sent_to[key as usize].remove(&id);
            return;
        }
        let known = self.ids.known_to(&self.nodes, id, of_key.point, self.partition, self.now);
        let is_closer =
            |other: &&NodeId| self.nodes[**other as usize].place ^ of_key.point < distance;
        let rank = known.iter().filter(is_closer).count().min(K);
        let turn = round + u64::from(of_key.offset);
        if turn % (rank as u64 + 1) == 0 {
            self.measures.turns += 1;
            self.begin(id, key, Purpose::Replicate);
        }
    }
}
