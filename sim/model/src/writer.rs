//! Writers: clients that publish a document and keep it alive.

use libp2p_identity::Keypair;
use libp2p_smart_record::{Limits, Position, SpaceSigner, Timestamp, Writer as WriterKey};

use crate::{
    asker::Purpose,
    ids::{NodeId, hash},
    node::KeyId,
    time::{HOUR, Time, duration},
    world::World,
};

/// A writer of one space.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) node: NodeId,
    pub(crate) key: KeyId,
    pub(crate) signer: SpaceSigner,
    pub(crate) id: WriterKey,
    pub(crate) ttl: Time,
    /// Whether it sends again, and signs anew, until it is withdrawn.
    pub(crate) keeps: bool,
    renew_at: Time,
    refresh_at: Time,
    version: u64,
    /// The latest update that enough have acknowledged.
    pub(crate) acknowledged: Option<Acknowledged>,
    /// Its last update, acknowledged or not.
    pub(crate) newest: Option<(Position, Timestamp)>,
    /// When it was written, until who watches has seen it.
    pub(crate) changed_at: Option<Time>,
    is_withdrawn: bool,
    /// Since when a withdrawal counts as acknowledged.
    pub(crate) withdrawn_at: Option<Time>,
}

/// An update that enough peers have acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) position: Position,
    pub(crate) expires_at: Timestamp,
    pub(crate) at: Time,
    pub(crate) by: Vec<NodeId>,
}

impl World {
    /// A client that has a space under a key, and has not published yet.
    pub(crate) fn add_writer(&mut self, key: &str, ttl: Time, keeps: bool) -> usize {
        let node = self.add_client();
        self.add_writer_at(node, key, ttl, keeps)
    }

    /// As `add_writer`, of a client that is there.
    pub(crate) fn add_writer_at(
        &mut self,
        node: NodeId,
        key: &str,
        ttl: Time,
        keeps: bool,
    ) -> usize {
        let number = self.writers.len() as u64;
        let mut secret = [0; 32];
        for (n, bytes) in (0..).zip(secret.chunks_mut(8)) {
            let word = hash(self.config.seed ^ 0x5eed, number << 3 | n);
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        let keypair = Keypair::ed25519_from_bytes(secret).expect("any 32 bytes are a secret");
        let key = self.key(key);
        let of_key = self.keys[key as usize].key.clone();
        let signer = SpaceSigner::new(of_key, keypair, Limits::default());
        self.writers.push(Writer {
            node,
            key,
            id: signer.writer(),
            signer,
            ttl,
            keeps,
            renew_at: 0,
            refresh_at: 0,
            version: 0,
            acknowledged: None,
            newest: None,
            changed_at: None,
            is_withdrawn: false,
            withdrawn_at: None,
        });
        self.writers.len() - 1
    }

    /// Gives a writer a stamp of this many bits for today.
    pub(crate) fn stamp(&mut self, number: usize, bits: u8) {
        let now = self.clock_of(self.writers[number].node);
        let signer = &mut self.writers[number].signer;
        let mut search = signer.stamp_search(bits, now);
        while !signer.has_stamp(bits, now) {
            signer.set_stamp(search.step(1_000));
        }
    }

    /// Publishes a new document.
    pub(crate) fn publish(&mut self, number: usize) {
        self.sign(number, false);
        self.send_own(number, true);
    }

    /// As if a writer had published up to a refresh interval ago: its space is at the closest
    /// servers, and it sends it again in time.
    pub(crate) fn be_published(&mut self, number: usize) {
        self.sign(number, false);
        let Writer { key, node, .. } = self.writers[number];
        let now = self.clock_of(node);
        let value = self.writers[number].signer.record(now).encode().into();
        let closest = self.closest(key, crate::ids::K);
        closest.iter().for_each(|id| self.store(*id, key, &value));
        self.on_written(number, &closest);
        let refresh = self.config.refresh;
        let due = self.now + self.random.below(refresh);
        let writer = &mut self.writers[number];
        writer.refresh_at = due;
        self.due_at(due, number);
    }

    /// Withdraws the space.
    pub(crate) fn withdraw(&mut self, number: usize) {
        self.sign(number, true);
        self.send_own(number, true);
    }

    fn sign(&mut self, number: usize, is_withdrawal: bool) {
        let (now, refresh) = (self.clock_of(self.writers[number].node), self.config.refresh);
        let jitter = self.random.below(1 << 20);
        let at = self.now;
        let writer = &mut self.writers[number];
        let ttl = duration(writer.ttl);
        writer.version += 1;
        let mut document = libp2p_smart_record::Dict::new();
        document.insert("name", format!("writer {number}"));
        document.insert("version", writer.version as i64);
        document.insert("map", "dunes");
        let signed = match is_withdrawal {
            true => writer.signer.withdraw(now),
            false => writer.signer.replace(document, now, ttl),
        };
        let update = signed.expect("what is signed is within the limits");
        let expires_at = update.expires_at();
        writer.newest = Some((update.position(), expires_at));
        writer.changed_at = Some(at);
        writer.is_withdrawn = is_withdrawal;
        writer.withdrawn_at = None;
        writer.keeps &= !is_withdrawal;
        // Between three quarters and all of half of its lifetime, and of the interval.
        let share = |time: Time| time - ((time / 4 * jitter) >> 20);
        writer.renew_at = at + share(writer.ttl / 2);
        writer.refresh_at = at + share(refresh);
        let due = writer.renew_at.min(writer.refresh_at);
        if writer.keeps {
            self.due_at(due, number);
        }
    }

    fn send_own(&mut self, number: usize, is_new: bool) {
        let Writer { node, key, .. } = self.writers[number];
        if self.nodes[node as usize].is_server {
            // What a node writes, it stores.
            let now = self.clock_of(node);
            let own = self.writers[number].signer.record(now).encode().into();
            self.store(node, key, &own);
        }
        self.begin(node, key, Purpose::Write { writer: number, is_new });
    }

    /// A writer sends again, or signs anew first.
    pub(crate) fn on_due(&mut self, number: usize) {
        let writer = &self.writers[number];
        if !writer.keeps || !self.nodes[writer.node as usize].is_up() {
            return;
        }
        if self.now < writer.renew_at.min(writer.refresh_at) {
            return;
        }
        if self.now >= writer.renew_at {
            self.sign(number, false);
        } else {
            let jitter = self.random.below(1 << 20);
            let refresh = self.config.refresh;
            let writer = &mut self.writers[number];
            writer.refresh_at = self.now + refresh - ((refresh / 4 * jitter) >> 20);
            let due = writer.renew_at.min(writer.refresh_at);
            self.due_at(due, number);
        }
        self.measures.refreshes += 1;
        self.send_own(number, false);
    }

    /// These peers have taken what a writer has written.
    pub(crate) fn on_written(&mut self, number: usize, taken: &[NodeId]) {
        if taken.is_empty() {
            self.measures.unacknowledged += 1;
            return;
        }
        let at = self.now;
        let writer = &mut self.writers[number];
        if let Some((position, expires_at)) = writer.newest {
            let by = taken.to_vec();
            writer.acknowledged = Some(Acknowledged { position, expires_at, at, by });
            if writer.is_withdrawn && writer.withdrawn_at.is_none() {
                writer.withdrawn_at = Some(at);
            }
        }
    }
}

/// A long lifetime: what replicas keep at most, less a minute for clocks that are off.
pub(crate) const LONG: Time = 48 * HOUR - HOUR / 60;
