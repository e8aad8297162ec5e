//! Forged wire bytes: mirrors of the messages, signatures over anything, and all who may take the bait.
//!
//! The messages are declared anew from `proto/smart_record.proto`, and the signed bytes from RFC 0002, so
//! that the tests do not believe the code that they test.

pub use crate::clock::ManualClock;

use libp2p_identity::{Keypair, PeerId, ecdsa, secp256k1};
use libp2p_kad::{Record as KadRecord, store::RecordStore};
use libp2p_smart_record::{
    Fault, Limits, RecordKey, Registry, SmartRecord, SmartRecordStore, SpaceRules, StoreConfig,
    StoreEvent, Timestamp, ValidationError, View, Writer,
    record::SignedUpdate as Signed,
    store::{Events, MemoryStorage, Origin},
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

/// The key of the record under attack.
pub const KEY: &str = "/sr/rooms/lobby";
/// The time at which everything happens, unless a test moves the clock.
pub const NOW: u64 = 1_700_000_000_000;
/// The lifetime of updates that do not care.
pub const TTL: u64 = 60_000;

pub const MERGE: i32 = 0;
pub const REPLACE: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(message, repeated, tag = "1")]
    pub spaces: Vec<Space>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Space {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub updates: Vec<SignedUpdate>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SignedUpdate {
    #[prost(bytes = "vec", tag = "1")]
    pub update: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Update {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint64, tag = "2")]
    pub expires_at: u64,
    #[prost(uint64, optional, tag = "3")]
    pub retain_until: Option<u64>,
    #[prost(int32, tag = "4")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "5")]
    pub document: Vec<u8>,
}

/// The envelope of RFC 0002.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload_type: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub signature: Vec<u8>,
}

/// A public key of libp2p. Encoded by hand where its form matters.
#[derive(Clone, PartialEq, Message)]
pub struct PublicKey {
    #[prost(int32, required, tag = "1")]
    pub r#type: i32,
    #[prost(bytes = "vec", required, tag = "2")]
    pub data: Vec<u8>,
}

/// A field of bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A field of a number.
pub fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

/// Encoded nodes.
pub mod node {
    use super::{WireType, encode_key, field, varint};

    pub fn int(value: i64) -> Vec<u8> {
        varint(3, ((value << 1) ^ (value >> 63)) as u64)
    }

    pub fn float(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(4, WireType::SixtyFourBit, &mut out);
        out.extend_from_slice(&value.to_le_bytes());
        out
    }

    pub fn text(value: &str) -> Vec<u8> {
        field(5, value.as_bytes())
    }

    pub fn list(elements: &[Vec<u8>]) -> Vec<u8> {
        let elements: Vec<_> = elements.iter().map(|e| field(1, e)).collect();
        field(8, &elements.concat())
    }

    /// The message `Dict`, which is also a whole document.
    pub fn document(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| field(1, &[field(1, key), field(2, value)].concat()))
            .collect();
        pairs.concat()
    }

    pub fn dict(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        field(9, &document(pairs))
    }

    /// A document `{"k": value}`.
    pub fn just(value: Vec<u8>) -> Vec<u8> {
        document(&[(text("k"), value)])
    }
}

impl Update {
    /// A harmless update: `{"k": value}`, issued now, for a minute.
    pub fn saying(value: i64) -> Self {
        Self::of(node::just(node::int(value)))
    }

    pub fn of(document: Vec<u8>) -> Self {
        Self { seq: NOW * 1_000, expires_at: NOW + TTL, retain_until: None, kind: MERGE, document }
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap()
    }

    /// `n` microseconds later than others.
    pub fn after(mut self, n: u64) -> Self {
        self.seq += n;
        self
    }

    pub fn replacing(mut self) -> Self {
        self.kind = REPLACE;
        self
    }

    /// An update of exactly this many bytes.
    pub fn of_len(len: usize) -> Self {
        (0..len)
            .rev()
            .map(|n| Self::of(node::just(node::text(&"x".repeat(n)))))
            .find(|update| update.encoded_len() <= len)
            .filter(|update| update.encoded_len() == len)
            .unwrap()
    }
}

/// What a writer signs, by the words of RFC 0002 and of the schema.
pub fn signed_bytes(domain: &str, payload_type: &str, key: &[u8], update: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    encode_varint(key.len() as u64, &mut payload);
    payload.extend_from_slice(key);
    payload.extend_from_slice(update);
    let mut message = Vec::new();
    for part in [domain.as_bytes(), payload_type.as_bytes(), &payload] {
        encode_varint(part.len() as u64, &mut message);
        message.extend_from_slice(part);
    }
    message
}

pub fn message(key: &RecordKey, update: &[u8]) -> Vec<u8> {
    signed_bytes("libp2p-smart-record", "/libp2p-smart-record/update", key.as_bytes(), update)
}

/// One who writes, with a fixed key so that every run is the same.
#[derive(Clone)]
pub struct Author(pub Keypair);

impl Author {
    pub fn ed25519(seed: u64) -> Self {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Keypair::ed25519_from_bytes(secret).unwrap())
    }

    pub fn secp256k1() -> Self {
        let secret = secp256k1::SecretKey::try_from_bytes([5; 32]).unwrap();
        Self(secp256k1::Keypair::from(secret).into())
    }

    pub fn ecdsa() -> Self {
        let secret = ecdsa::SecretKey::try_from_bytes([5; 32]).unwrap();
        Self(ecdsa::Keypair::from(secret).into())
    }

    pub fn rsa() -> Self {
        let mut der = *include_bytes!("../vectors/rsa-2048.pk8");
        Self(Keypair::rsa_from_pkcs8(&mut der).unwrap())
    }

    /// One of each type of key.
    pub fn all_types() -> [Self; 4] {
        [Self::ed25519(1), Self::secp256k1(), Self::ecdsa(), Self::rsa()]
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.0.public().encode_protobuf()
    }

    pub fn writer(&self) -> Writer {
        Writer::from(&self.0.public())
    }

    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    pub fn sign(&self, update: &Update) -> SignedUpdate {
        self.sign_under(KEY, update)
    }

    pub fn sign_under(&self, key: impl Into<Vec<u8>>, update: &Update) -> SignedUpdate {
        self.sign_bytes(&RecordKey::new(key), update.encode_to_vec())
    }

    pub fn sign_bytes(&self, key: &RecordKey, update: Vec<u8>) -> SignedUpdate {
        let signature = self.0.sign(&message(key, &update)).unwrap();
        SignedUpdate { update, signature }
    }

    pub fn space<const N: usize>(&self, updates: [SignedUpdate; N]) -> Space {
        self.space_of(updates.to_vec())
    }

    pub fn space_of(&self, updates: Vec<SignedUpdate>) -> Space {
        Space { public_key: self.public_key(), updates }
    }

    /// The space with one signed update.
    pub fn says(&self, update: &Update) -> Space {
        self.space([self.sign(update)])
    }
}

/// Whose space is attacked.
pub fn alice() -> Author {
    Author::ed25519(1)
}

/// Who attacks.
pub fn mallory() -> Author {
    Author::ed25519(666)
}

/// A good space that stands beside the bad one.
pub fn neighbour() -> (Author, Space) {
    let bob = Author::ed25519(2);
    let space = bob.says(&Update::saying(2));
    (bob, space)
}

pub fn encode(spaces: impl IntoIterator<Item = Space>) -> Vec<u8> {
    let spaces = spaces.into_iter().collect();
    Record { spaces }.encode_to_vec()
}

pub fn key() -> RecordKey {
    RecordKey::new(KEY)
}

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A replica: a store as Kademlia uses it.
pub struct Replica {
    pub store: SmartRecordStore,
    pub clock: ManualClock,
    events: Events,
}

impl Replica {
    pub fn new() -> Self {
        Self::with(Registry::default())
    }

    pub fn with(registry: Registry) -> Self {
        let clock = ManualClock::at(at(0));
        clock.set(at(NOW));
        let local = Author::ed25519(1_000_000).peer_id();
        let mut store = SmartRecordStore::with_storage(
            local,
            registry,
            StoreConfig::default(),
            MemoryStorage::default(),
            clock.clone(),
        );
        let events = store.subscribe();
        Self { store, clock, events }
    }

    /// A PUT from another peer, which must never fail.
    pub fn put(&mut self, key: &RecordKey, value: Vec<u8>) {
        let record = KadRecord {
            key: libp2p_kad::RecordKey::new(key),
            value,
            publisher: None,
            expires: None,
        };
        assert!(self.store.put(record).is_ok(), "a remote PUT fails");
    }

    /// The same under the usual key; returns what happened.
    pub fn hears(&mut self, spaces: impl IntoIterator<Item = Space>) -> Vec<StoreEvent> {
        self.put(&key(), encode(spaces));
        self.events()
    }

    pub fn events(&mut self) -> Vec<StoreEvent> {
        std::iter::from_fn(|| self.events.try_next()).collect()
    }

    pub fn refusals(&mut self) -> Vec<ValidationError> {
        reasons(&self.events())
    }

    /// What is stored under the usual key, encoded.
    pub fn stored(&self) -> Option<Vec<u8>> {
        let record = self.store.record(&key()).unwrap();
        record.map(|record| record.encode())
    }

    pub fn view(&self) -> View {
        self.store.view(&key()).unwrap()
    }

    pub fn is_empty(&self) -> bool {
        self.store.usage().records == 0 && self.store.usage().bytes == 0
    }
}

/// The reasons of the refusals among these events.
pub fn reasons(events: &[StoreEvent]) -> Vec<ValidationError> {
    events
        .iter()
        .filter_map(|event| match event {
            StoreEvent::Refused { reason, origin, .. } => {
                assert_eq!(*origin, Origin::Remote);
                Some(reason.clone())
            }
            _ => None,
        })
        .collect()
}

pub fn validate(spaces: impl IntoIterator<Item = Space>) -> Result<Timestamp, ValidationError> {
    let value = encode(spaces);
    let record = SpaceRules::default().validate(&key(), &value, at(NOW))?;
    Ok(record.retain_until().unwrap())
}

pub fn consolidate(values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
    SpaceRules::default().consolidate(&key(), values)
}

/// An encoded record as the reading side has it.
pub fn read(value: &[u8]) -> SmartRecord {
    SmartRecord::decode(&key(), value.to_vec(), &Limits::default()).unwrap()
}

/// An update as the reading side has it.
pub fn signed(author: &Author, wire: &SignedUpdate) -> Signed {
    Signed::decode(
        &key(),
        &author.writer(),
        wire.update.clone().into(),
        wire.signature.clone().into(),
        &Limits::default(),
    )
    .unwrap()
}

/// Whether a clock is needed to see what is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No: joining leaves the part out as well.
    Always,
    /// Yes: joining, which has no clock, keeps the part.
    WithAClock,
}

/// Shows a bad space to all who may take it, alone and beside a good one. It has to be refused everywhere,
/// for the same reason, which is returned; and the neighbour has to survive.
#[track_caller]
pub fn refused(bad: Space, fault: Fault) -> ValidationError {
    refused_under(&key(), &SpaceRules::default(), bad, neighbour(), fault, Seen::Always)
}

/// [`refused`] where only a clock tells that the part is bad.
#[track_caller]
pub fn refused_now(bad: Space, fault: Fault) -> ValidationError {
    refused_under(&key(), &SpaceRules::default(), bad, neighbour(), fault, Seen::WithAClock)
}

/// [`refused`] by other rules than the default.
#[track_caller]
pub fn refused_under(
    key: &RecordKey,
    rules: &SpaceRules,
    bad: Space,
    (author, good): (Author, Space),
    fault: Fault,
    seen: Seen,
) -> ValidationError {
    let alone = encode([bad.clone()]);
    let both = encode([bad.clone(), good.clone()]);
    let neighbour = encode([good]);

    // The validator. The neighbour has to be good, or nothing that follows shows anything.
    assert!(rules.validate(key, &neighbour, at(NOW)).is_ok());
    let reason = rules.validate(key, &alone, at(NOW)).expect_err("the attack succeeds");
    assert_eq!(reason.fault(), fault, "{reason}");
    let beside = rules.validate(key, &both, at(NOW));
    if fault == Fault::Expired {
        // What has expired may stand beside what has not.
        assert!(beside.is_ok());
    } else {
        assert_eq!(beside, Err(reason.clone()));
    }

    // The join.
    for values in [&[&both[..]][..], &[&alone, &neighbour], &[&neighbour, &alone]] {
        let joined = rules.consolidate(key, values).unwrap();
        assert_eq!(joined == neighbour, seen == Seen::Always);
    }
    if seen == Seen::Always {
        assert!(rules.consolidate(key, &[&alone]).is_err());
    }

    // The store.
    let registry = || Registry::default().with("sr", rules.clone()).unwrap();
    let mut replica = Replica::with(registry());
    replica.put(key, alone);
    assert!(replica.is_empty(), "something bad is stored");
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));

    let mut replica = Replica::with(registry());
    replica.put(key, both);
    let events = replica.events();
    assert_eq!(reasons(&events), std::slice::from_ref(&reason));
    assert!(
        events.contains(&StoreEvent::Stored {
            key: key.clone(),
            writers: vec![author.peer_id()],
            origin: Origin::Remote,
        }),
        "{events:?}"
    );
    let stored = replica.store.record(key).unwrap().unwrap();
    assert_eq!(stored.encode(), neighbour, "the neighbour is lost");
    let counters = replica.store.counters();
    assert_eq!(counters.refused.get(&fault), Some(&1));
    assert_eq!(counters.refused_total(), 1);
    assert_eq!(counters.admitted, 1);
    reason
}

/// The good side of a bound: the space is taken by all, together with its neighbour.
#[track_caller]
pub fn accepted(good: Space) {
    accepted_under(&key(), &SpaceRules::default(), good, neighbour().1);
}

/// [`accepted`] by other rules than the default.
#[track_caller]
pub fn accepted_under(key: &RecordKey, rules: &SpaceRules, good: Space, other: Space) {
    let updates = (good.updates.len() + other.updates.len()) as u64;
    let mut spaces = [good, other];
    spaces.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let both = encode(spaces);
    rules.validate(key, &both, at(NOW)).unwrap();
    assert_eq!(rules.consolidate(key, &[&both]).unwrap(), both);
    let registry = Registry::default().with("sr", rules.clone()).unwrap();
    let mut replica = Replica::with(registry);
    replica.put(key, both.clone());
    assert_eq!(replica.refusals(), []);
    let stored = replica.store.record(key).unwrap().unwrap();
    assert_eq!(stored.encode(), both);
    assert_eq!(replica.store.counters().admitted, updates);
    assert_eq!(replica.store.counters().refused_total(), 0);
}
