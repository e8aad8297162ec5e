//! One node: its place, its state, and its store, which exists only once something is stored.

use std::collections::BTreeMap;

use bytes::Bytes;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use libp2p_kad::{
    self as kad,
    store::{MemoryStore, RecordStore},
};
use libp2p_smart_record::{
    RecordKey, Registry, SmartRecord,
    store::{Asker, MemoryStorage, Origin, SmartRecordStore, StoreConfig, ValidatedRecord},
};

use crate::{
    ids::{NodeId, Point, hash},
    time::{ModelClock, Time},
};

/// Index of a key.
pub(crate) type KeyId = u32;

/// How a node behaves towards others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A node of ours.
    Ours,
    /// Kademlia with libp2p's `MemoryStore`: keeps the last PUT.
    Plain,
    /// Takes requests and never answers.
    Silent,
    /// Answers that it has nothing, acknowledges everything, and names only others of its kind
    /// where it can.
    Sybil,
}

/// What a node stores.
#[derive(Default)]
pub(crate) enum Store {
    #[default]
    Empty,
    Ours(Box<SmartRecordStore>),
    Plain(Box<MemoryStore>),
}

/// Bytes and requests of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// The replication schedule of a node, as in `behaviour/replicate.rs`.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// The keys that are stored, by distance.
    pub(crate) keys: BTreeMap<Point, KeyId>,
    pub(crate) cursor: Option<Point>,
    pub(crate) round: u64,
    pub(crate) is_scheduled: bool,
}

pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) place: Point,
    /// Seeds everything that is drawn for this node.
    pub(crate) salt: u64,
    pub(crate) is_server: bool,
    pub(crate) kind: Kind,
    /// 0: since before the start.
    pub(crate) joined_at: Time,
    pub(crate) left_at: Option<Time>,
    /// Side of a partition.
    pub(crate) side: bool,
    pub(crate) region: u8,
    pub(crate) store: Store,
    pub(crate) turns: Turns,
    pub(crate) traffic: Traffic,
}

impl Node {
    /// A node whose id follows from a number.
    pub(crate) fn new(seed: u64, number: u64, is_server: bool) -> Self {
        let salt = hash(seed, number);
        let mut bytes = vec![0x12, 0x20];
        (0..4).for_each(|n| bytes.extend(hash(salt, n).to_be_bytes()));
        let peer = PeerId::from_bytes(&bytes).expect("a SHA-256 multihash of 32 bytes");
        Self {
            place: point(&RecordKey::new(bytes).digest()),
            peer,
            salt,
            is_server,
            kind: Kind::Ours,
            joined_at: 0,
            left_at: None,
            side: false,
            region: (hash(salt, 9) % crate::link::REGIONS) as u8,
            store: Store::Empty,
            turns: Turns::default(),
            traffic: Traffic::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.left_at.is_none()
    }

    /// Whether it is up and does what our nodes do.
    pub(crate) fn is_honest(&self) -> bool {
        self.is_up() && self.kind == Kind::Ours
    }

    /// The store of a node of ours, made if there is none.
    pub(crate) fn ours(&mut self, rules: &Rules) -> &mut SmartRecordStore {
        if !matches!(self.store, Store::Ours(_)) {
            let store = SmartRecordStore::with_storage(
                self.peer,
                rules.registry.clone(),
                rules.store.clone(),
                MemoryStorage::default(),
                rules.clock.off_by(rules.skew(self.salt)),
            );
            self.store = Store::Ours(Box::new(store.expect("the storage is new")));
        }
        match &mut self.store {
            Store::Ours(store) => store,
            Store::Empty | Store::Plain(_) => unreachable!("it was just made"),
        }
    }

    /// Handles a PUT.
    pub(crate) fn put(&mut self, rules: &Rules, checked: &ValidatedRecord, value: &Bytes) {
        match self.kind {
            Kind::Ours if rules.forgets && self.record(rules, checked.key()).is_some() => {}
            Kind::Ours => {
                // What is refused is acknowledged all the same.
                let _ = self.ours(rules).insert(checked.clone(), Origin::Remote);
            }
            Kind::Plain => {
                if matches!(self.store, Store::Empty) {
                    self.store = Store::Plain(Box::new(MemoryStore::new(self.peer)));
                }
                if let Store::Plain(store) = &mut self.store {
                    let key = kad::RecordKey::new(checked.key());
                    let _ = store.put(kad::Record::new(key, value.to_vec()));
                }
            }
            Kind::Silent | Kind::Sybil => {}
        }
    }

    /// Answers a GET.
    pub(crate) fn get(
        &mut self,
        key: &kad::RecordKey,
        asker: PeerId,
        asker_salt: u64,
    ) -> Option<Bytes> {
        let answer = match &mut self.store {
            Store::Empty => None,
            Store::Ours(store) => {
                store.asked_by(Some(Asker::new(asker, Some(&address(asker_salt)))));
                store.get(key).map(|record| record.into_owned())
            }
            Store::Plain(store) => store.get(key).map(|record| record.into_owned()),
        };
        answer.map(|record| record.value.into())
    }

    /// What it has of a record, by its own store.
    pub(crate) fn record(&self, rules: &Rules, key: &RecordKey) -> Option<SmartRecord> {
        match &self.store {
            Store::Empty => None,
            Store::Ours(store) => store.record(key).ok().flatten(),
            Store::Plain(store) => {
                let stored = store.get(&kad::RecordKey::new(key))?.into_owned();
                rules.decode(key, &stored.value)
            }
        }
    }
}

/// What all stores share.
pub(crate) struct Rules {
    pub(crate) registry: Registry,
    pub(crate) store: StoreConfig,
    pub(crate) clock: ModelClock,
    /// The clocks of nodes are off by up to this, either way.
    pub(crate) skew_ms: u64,
    /// A planted fault: nodes of ours acknowledge what they should join, and keep what they had.
    pub(crate) forgets: bool,
}

impl Rules {
    /// By how much the clock of a node is ahead.
    pub(crate) fn skew(&self, salt: u64) -> i64 {
        let range = 2 * self.skew_ms + 1;
        (hash(salt, 77) % range) as i64 - self.skew_ms as i64
    }

    pub(crate) fn decode(&self, key: &RecordKey, value: &[u8]) -> Option<SmartRecord> {
        use libp2p_smart_record::Namespace;
        match self.registry.resolve(key).ok()? {
            Namespace::Spaces(rules) => {
                SmartRecord::decode(key, value.to_vec(), rules.limits()).ok()
            }
            Namespace::Value(_) => None,
        }
    }
}

/// An address of a node, in a network of its own.
fn address(salt: u64) -> Multiaddr {
    let number = 0x1400_0000 + (hash(salt, 5) % (1 << 28)) as u32;
    Multiaddr::empty().with(Protocol::Ip4(number.into()))
}

/// The first 128 bits of a SHA-256.
pub(crate) fn point(digest: &[u8; 32]) -> Point {
    digest.iter().take(16).fold(0, |point, byte| point << 8 | Point::from(*byte))
}

/// Keeps the ids of the servers of a scenario apart from those of its clients.
pub(crate) const CLIENTS: u64 = 1 << 40;
pub(crate) const SYBILS: u64 = 2 << 40;

/// A node near a point, found by trying numbers: what a sybil does.
pub(crate) fn near(seed: u64, target: Point, bits: u32, from: &mut u64) -> Node {
    loop {
        *from += 1;
        let node = Node::new(seed, SYBILS + *from, true);
        if (node.place ^ target).leading_zeros() >= bits {
            return node;
        }
    }
}

/// Nodes are numbered by their order.
pub(crate) fn id(index: usize) -> NodeId {
    NodeId::try_from(index).expect("fewer than four billion nodes")
}
