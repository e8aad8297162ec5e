//! Bounds of a store, and the sizes of what it sends.
//!
//! **Invariants.** What a store sends fits into the packets of the Kademlia configuration made
//! here.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, store::MemoryStoreConfig};
use libp2p_swarm::StreamProtocol;

use smart_record_core::{Limit, Limits, settings};

/// The share of a store that a writer or a namespace may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many spaces of a writer, or records of a namespace.
    pub count: usize,
    /// How many bytes, plus [`Usage::ROW`](crate::store::Usage::ROW) for each part.
    pub bytes: usize,
}

/// The bounds of a store and the sizes of what it sends.
///
/// ```
/// use libp2p_smart_record::store::{Quota, StoreConfig};
///
/// let config = StoreConfig::default()
///     .with_max_records(1_000)
///     .with_slice_bytes(4 * 1_024)
///     .with_namespace_quota("presence", Quota { count: 100, bytes: 1_024 * 1_024 });
/// # let _ = config;
/// ```
///
/// # When a bound is reached
///
/// When a bound is reached, expired data is removed first. Then data is evicted in a fixed order.
/// Bounds of the store and of a namespace go by the sources of records: the address prefix of the
/// connection that brought a record first, 24 bits of IPv4 and 32 of IPv6, if the store is
/// [told](super::SmartRecordStore::asked_by), as a [`Behaviour`](crate::behaviour::Behaviour) does.
/// The source with the largest share of the bound loses the record that was stored last, of those
/// stored in one instant the farthest from the local peer, and records with work
/// ([`Stamp`](smart_record_core::Stamp)) after those without. Bounds of a record evict its spaces
/// of less work or a higher rank than the new one, the least and the highest first. Withdrawn
/// spaces have slots of their own in a record, as many bytes and [`Limits::withdrawn_per_record`];
/// of these the one that was first stored last goes first. A write that would itself be first in
/// this order is refused, where possible before its signature is checked. A writer over its quota
/// is refused; its other spaces are not evicted.
///
/// Evictions are remembered ([`max_remembered`](Self::max_remembered)): what was evicted comes back
/// as it was or newer, never older alone. Of values this holds if their validator gives an order
/// key ([`Validator::order_key`](smart_record_core::Validator::order_key)).
///
/// Spaces of [`protected`](Self::protected) writers, the local peer among them, and values that the
/// local node wrote are never evicted for others. Everything else is evicted for them.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    max_records: usize,
    max_bytes: usize,
    max_record_bytes: usize,
    writer_quota: Quota,
    protected_quota: Quota,
    namespace_quotas: BTreeMap<String, Quota>,
    protected: BTreeSet<PeerId>,
    chunk_bytes: usize,
    slice_bytes: usize,
    max_events: usize,
    max_age: Duration,
    receipt_memory: Duration,
    max_remembered: usize,
    signature_memory: usize,
    value_work: Duration,
    providers: MemoryStoreConfig,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            max_records: 16 * 1_024,
            max_bytes: 64 * MIB,
            max_record_bytes: 4 * MIB,
            writer_quota: Quota { count: 4 * 1_024, bytes: 16 * MIB },
            protected_quota: Quota { count: 8 * 1_024, bytes: 32 * MIB },
            namespace_quotas: BTreeMap::new(),
            protected: BTreeSet::new(),
            chunk_bytes: 15 * 1_024,
            slice_bytes: 8 * 1_024,
            max_events: 1_024,
            max_age: Duration::from_secs(48 * 60 * 60),
            receipt_memory: Duration::from_secs(48 * 60 * 60),
            max_remembered: 100_000,
            signature_memory: 2 * MIB,
            value_work: VALUE_WORK,
            providers: MemoryStoreConfig::default(),
        }
    }
}

settings! { StoreConfig:
    /// How many records the store holds. Defaults to 16,384, sixteen times as many as libp2p's
    /// `MemoryStore`. With the default intervals the upkeep of as many takes a gigabyte of traffic
    /// an hour (`docs/scale.md`), so a node is bound by its link before.
    max_records, with_max_records: usize;
    /// How many bytes the store holds, including [`Usage::ROW`](crate::store::Usage::ROW) for each
    /// part. Defaults to 64 MiB, as much as libp2p's `MemoryStore` can hold.
    max_bytes, with_max_bytes: usize;
    /// How many bytes the spaces of one record take at most, including
    /// [`Usage::ROW`](crate::store::Usage::ROW) for each. Spaces of protected writers do not count.
    /// Defaults to 4 MiB: 4 KiB for each of 1,024 spaces, and one sixteenth of the default store
    /// for a single key. The number of spaces is bounded by [`Limits::spaces_per_record`].
    max_record_bytes, with_max_record_bytes: usize;
    /// How much one writer may store, over all records. Defaults to 4,096 spaces and 16 MiB, so
    /// that one writer takes at most a quarter of the default store. It does not stop a peer that
    /// makes new keys; the other bounds do. A writer is charged only after its signature is
    /// verified, so no other peer can fill its quota.
    writer_quota, with_writer_quota: Quota;
    /// How much each [`protected`](Self::protected) writer may store, instead of
    /// [`writer_quota`](Self::writer_quota). Values that the local node wrote count for the local
    /// peer. Defaults to 8,192 spaces and 32 MiB, so that one faulty protected writer leaves half
    /// of the default store.
    protected_quota, with_protected_quota: Quota;
    /// The size of the chunks in which a large record is replicated. Defaults to 15 KiB: with a key
    /// of 256 bytes, which is sent twice, it fits into Kademlia's packet of 16 KiB. For larger
    /// chunks [`SmartRecordStore::kad_config`](super::SmartRecordStore::kad_config) raises
    /// Kademlia's packet limit; then all nodes of the DHT have to raise it. A
    /// [`Behaviour`](crate::behaviour::Behaviour) refuses longer values of other peers before they
    /// are decoded, unless they have at most 16 KiB. It keeps up to 256 chunks of what it has read
    /// lately, and 256 that wait to be validated.
    chunk_bytes, with_chunk_bytes: usize;
    /// The size of the slice of a large record that answers one GET. Defaults to 8 KiB. The reply
    /// also carries the addresses of up to 20 closer peers: four addresses each leave 11.6 KiB for
    /// the record, eight leave 7.6 KiB. Choose less if the peers of your network announce more
    /// addresses.
    slice_bytes, with_slice_bytes: usize;
    /// How many events are queued for each subscriber. Further events are lost, and counted.
    /// Defaults to 1,024, a guess: a packet of records makes some tens.
    max_events, with_max_events: usize;
    /// How long a value that is not a smart record is kept without being received again. Defaults
    /// to 48 hours, as long as Kademlia keeps a record. A value that is signed for years also ends
    /// then, unless its author or another peer puts it again before. This includes the values of
    /// the local node.
    ///
    /// A value whose signed expiry is later than this lives as long as the lifetime that is sent
    /// with it says, so replicas that send it to each other do not keep it alive. Two kinds of
    /// values are exempt: those whose validator bounds their expiry
    /// ([`Validity::is_bounded`](smart_record_core::Validity::is_bounded): presence records), and
    /// unchecked values ([`AcceptAny`](smart_record_core::AcceptAny)), which live as in libp2p's
    /// `MemoryStore`. A value whose time runs since its receipt may come back after this, for the
    /// rest of its time. [`Duration::MAX`] disables the bound.
    max_age, with_max_age: Duration;
    /// How long at least a value of
    /// [`ttl_since_receipt`](smart_record_core::Validity::ttl_since_receipt) is remembered since it
    /// was first received, even after it has expired. Until then, receiving it again does not
    /// restart its time, and no worse value is stored instead. A value with a longer TTL is
    /// remembered for its TTL, up to 30 days. Defaults to 48 hours, as long as a copy can circulate
    /// in a DHT of nodes that do not know such values.
    receipt_memory, with_receipt_memory: Duration;
    /// How many evictions the store remembers, so that what was evicted comes back as it was or
    /// newer, and never older alone. Each takes some 150 bytes of memory beside
    /// [`max_bytes`](Self::max_bytes), and with a store on disk some 90 bytes of the file. When
    /// there are more, those of spaces and values that had been stored for the shortest time are
    /// forgotten first. Defaults to 100,000, some 15 MB.
    max_remembered, with_max_remembered: usize;
    /// How many bytes the [memory of good signatures](smart_record_core::SignatureMemory) takes. A
    /// signature in it is not verified again; time, admission and room are checked again. Defaults
    /// to 2 MiB, some 32,000 signatures: more than a board of maximum size has spaces.
    signature_memory, with_signature_memory: usize;
    /// How much work the signatures in one value of another peer may take where the store verifies
    /// them, on the task of its caller, in the time of a
    /// [reference core](smart_record_core::SignatureMemory). The check that exceeds it is
    /// completed; the rest of the value is refused unread. What was taken costs no verification the
    /// next time, so that sending the value again goes on from there. A
    /// [`Client`](crate::client::Client) and a [`Dht`](crate::dht::Dht) do so; whoever sends chunks
    /// of a record by queries of Kademlia sends those of more work again. Defaults to 4 ms: 80
    /// updates signed with Ed25519, or 12 with P-256.
    ///
    /// It does not apply to what the local node writes, nor to values that are verified elsewhere
    /// and [inserted](super::SmartRecordStore::insert).
    value_work, with_value_work: Duration;
}

/// Names of the bounds, as refusals report them.
impl StoreConfig {
    /// Bytes of a record that is sent in one piece: [`chunk_bytes`](Self::chunk_bytes).
    pub const CHUNK_BYTES: Limit = Limit::new("the record in one piece", "bytes");
    /// Bytes of a record: [`max_record_bytes`](Self::max_record_bytes).
    pub const RECORD_BYTES: Limit = Limit::new("the record", "bytes");
    /// Spaces of a writer: [`writer_quota`](Self::writer_quota).
    pub const WRITER_SPACES: Limit = Limit::new("the writer's share of the store", "spaces");
    /// Bytes of a writer: [`writer_quota`](Self::writer_quota).
    pub const WRITER_BYTES: Limit = Limit::new("the writer's share of the store", "bytes");
    /// Records of a namespace: [`namespace_quota`](Self::namespace_quota).
    pub const NAMESPACE_RECORDS: Limit =
        Limit::new("the namespace's share of the store", "records");
    /// Bytes of a namespace: [`namespace_quota`](Self::namespace_quota).
    pub const NAMESPACE_BYTES: Limit = Limit::new("the namespace's share of the store", "bytes");
    /// Records of the store: [`max_records`](Self::max_records).
    pub const STORE_RECORDS: Limit = Limit::new("the store", "records");
    /// Bytes of the store: [`max_bytes`](Self::max_bytes).
    pub const STORE_BYTES: Limit = Limit::new("the store", "bytes");

    /// The bounds of stored data, as opposed to those of a single write.
    pub(super) const ROOM: [Limit; 7] = [
        Self::RECORD_BYTES,
        Self::WRITER_SPACES,
        Self::WRITER_BYTES,
        Self::NAMESPACE_RECORDS,
        Self::NAMESPACE_BYTES,
        Self::STORE_RECORDS,
        Self::STORE_BYTES,
    ];
}

impl StoreConfig {
    /// How much the records of a namespace may take. `None`, the default, bounds it only by the
    /// store. Set a quota for a namespace whose records cost little to make, so that the others
    /// keep room.
    pub fn namespace_quota(&self, namespace: &str) -> Option<Quota> {
        self.namespace_quotas.get(namespace).copied()
    }

    pub(super) fn namespace_quotas(&self) -> impl Iterator<Item = (&str, Quota)> {
        self.namespace_quotas.iter().map(|(name, quota)| (name.as_str(), *quota))
    }

    /// Sets [`namespace_quota`](Self::namespace_quota) for one namespace.
    #[must_use]
    pub fn with_namespace_quota(mut self, namespace: impl Into<String>, quota: Quota) -> Self {
        self.namespace_quotas.insert(namespace.into(), quota);
        self
    }

    /// The writers, besides the local peer, whose spaces are protected. They are never evicted for
    /// others, they do not count towards the bounds of a record, and others are evicted for them,
    /// as long as the protected spaces alone are within the bounds of namespace and store. The
    /// protection is local: other replicas have their own lists. Defaults to none.
    ///
    /// The record that is given out stays within its limits: it has the spaces of the most work and
    /// the lowest ranks, protected or not. Further protected spaces are stored until there is a
    /// slot for them; see
    /// [`SmartRecordStore::record_of`](crate::store::SmartRecordStore::record_of).
    pub const fn protected(&self) -> &BTreeSet<PeerId> {
        &self.protected
    }

    /// Sets [`protected`](Self::protected). The list may differ from the one that stored records
    /// were written with.
    #[must_use]
    pub fn with_protected(mut self, writers: impl IntoIterator<Item = PeerId>) -> Self {
        self.protected = writers.into_iter().collect();
        self
    }

    /// The bounds of provider records, which are kept in libp2p's `MemoryStore`: once for those of
    /// this node, and once for those of others. Only `max_providers_per_key` and
    /// `max_provided_keys` matter. Defaults to libp2p's defaults.
    pub const fn providers(&self) -> &MemoryStoreConfig {
        &self.providers
    }

    /// Sets [`providers`](Self::providers).
    #[must_use]
    pub fn with_providers(mut self, providers: MemoryStoreConfig) -> Self {
        self.providers = providers;
        self
    }
}

impl StoreConfig {
    /// A configuration of Kademlia that agrees with this one; see
    /// [`SmartRecordStore::kad_config`](super::SmartRecordStore::kad_config).
    pub(super) fn kad_config(&self, protocol: StreamProtocol, limits: &Limits) -> kad::Config {
        let message = self
            .chunk_bytes
            .max(self.slice_bytes)
            .saturating_add(limits.key_bytes().saturating_mul(2))
            .saturating_add(MESSAGE_BYTES);
        let mut config = kad::Config::new(protocol);
        config
            // `None` makes Kademlia drop the lifetimes of inbound records.
            .set_record_ttl(Some(limits.max_ttl()))
            // The store validates each write itself. With `FilterBoth` the writer is told `Ok`
            // before that.
            .set_record_filtering(kad::StoreInserts::Unfiltered)
            .set_max_packet_size(message.max(PACKET_BYTES));
        config
    }
}

const MIB: usize = 1_024 * 1_024;
/// The default of [`StoreConfig::value_work`]. Senders count on it.
pub(crate) const VALUE_WORK: Duration = Duration::from_millis(4);
/// Kademlia's packet limit, which is the same in all implementations.
pub(crate) const PACKET_BYTES: usize = 16 * 1_024;
/// What a PUT carries besides the value and, twice, the key: publisher, ttl, tags and lengths.
const MESSAGE_BYTES: usize = 128;
