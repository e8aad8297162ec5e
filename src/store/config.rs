//! How large a store may grow, and what it sends at once.
//!
//! **Invariants.** What a store sends at once fits into the packets of the configuration of Kademlia made here.
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

/// How much of a store one party may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Of a writer the spaces, of a namespace the records.
    pub count: usize,
    /// Bytes, [`Usage::ROW`](crate::store::Usage::ROW) for each part added.
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
/// What has expired goes first. Then each bound has an order in which one makes room for another: of a store and
/// of a namespace the records farther from the local peer go, the farthest first; of a record the spaces of a
/// higher rank, the highest first. What would have to go itself is refused, where possible before its signature
/// is checked. A writer makes no room for itself: over its quota it is refused.
///
/// Spaces of [`protected`](Self::protected) writers, the local peer among them, and values that the local node
/// wrote make room for nobody, and everybody else makes room for them.
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
            providers: MemoryStoreConfig::default(),
        }
    }
}

settings! { StoreConfig:
    /// How many records the store holds. Defaults to 16,384, a guess: sixteen times what libp2p's
    /// `MemoryStore` takes.
    max_records, with_max_records: usize;
    /// How many bytes the store holds, [`Usage::ROW`](crate::store::Usage::ROW) for each part added.
    /// Defaults to 64 MiB, as much as libp2p's `MemoryStore` can hold.
    max_bytes, with_max_bytes: usize;
    /// How many bytes the spaces of one record take at most, [`Usage::ROW`](crate::store::Usage::ROW) for each
    /// added; those of protected writers do not count. Defaults to 4 MiB: 1,024 spaces have 4 KiB each, and no
    /// single key takes more than a sixteenth of the default store. How many spaces there may be is in
    /// [`Limits::spaces_per_record`].
    max_record_bytes, with_max_record_bytes: usize;
    /// How much one writer may store, over all records. Defaults to 4,096 spaces and 16 MiB, so that three quarters
    /// of the default store are left whatever one writer does. It does not stop who makes new keys; the other
    /// bounds do. It is charged once a signature has been found good, so nobody can fill it for another.
    writer_quota, with_writer_quota: Quota;
    /// How much each [`protected`](Self::protected) writer may store, in the place of
    /// [`writer_quota`](Self::writer_quota); values that the local node wrote count as the local peer's. Defaults
    /// to 8,192 spaces and 32 MiB, so that one of them, gone wrong, leaves half of the default store.
    protected_quota, with_protected_quota: Quota;
    /// The size of the chunks in which a large record is replicated. Defaults to 15 KiB: with a key of 256
    /// bytes, twice, it fits into Kademlia's packet of 16 KiB. With larger chunks than that,
    /// [`SmartRecordStore::kad_config`](super::SmartRecordStore::kad_config) raises Kademlia's limit, which all
    /// nodes of the DHT then have to do.
    chunk_bytes, with_chunk_bytes: usize;
    /// The size of the slice of a large record that one GET is answered with. Defaults to 8 KiB. The answer
    /// also carries the addresses of up to 20 closer peers: with four addresses each 11.6 KiB are left for
    /// the record, with eight 7.6 KiB. Choose less if the peers of your network announce more addresses.
    slice_bytes, with_slice_bytes: usize;
    /// How many events wait for each subscriber; more are lost, and counted. Defaults to 1,024.
    max_events, with_max_events: usize;
    /// How long a value that is not a smart record is kept at most without being received again. Defaults to 48
    /// hours, as long as Kademlia keeps a record. What an author has signed for years is gone after that unless the
    /// author, or whoever cares, puts it again before; that holds for this node's own values, too.
    ///
    /// A value whose signed expiry is further off than this lives for as long as the lifetime that comes with it
    /// through the DHT says; so replicas that send it to each other do not keep it alive among themselves. Two kinds
    /// of values are not bounded by it: those whose validator bounds their expiry
    /// ([`Validity::is_bounded`](smart_record_core::Validity::is_bounded): presence records), and those that nothing is known of
    /// ([`AcceptAny`](smart_record_core::AcceptAny)), which live as in libp2p's `MemoryStore`. One whose time runs since its receipt may come back after this, for
    /// what is left of its time. With [`Duration::MAX`] nothing is bounded.
    max_age, with_max_age: Duration;
    /// How long, since it was first received, a value of
    /// [`ttl_since_receipt`](smart_record_core::Validity::ttl_since_receipt) is remembered at least, also after it has
    /// expired: until then, receiving it again does not start its time anew, and nothing worse comes back in
    /// its place. One with a longer TTL is remembered for that, up to 30 days. Defaults to 48 hours, as long as a
    /// copy can be about in a DHT of nodes that know nothing of such values.
    receipt_memory, with_receipt_memory: Duration;
}

/// The names of its bounds, as refusals give them.
impl StoreConfig {
    /// The bytes of a record that is to be sent in one piece: [`chunk_bytes`](Self::chunk_bytes).
    pub const CHUNK_BYTES: Limit = Limit::new("the record in one piece", "bytes");
    /// The bytes of a record: [`max_record_bytes`](Self::max_record_bytes).
    pub const RECORD_BYTES: Limit = Limit::new("the record", "bytes");
    /// The spaces of a writer: [`writer_quota`](Self::writer_quota).
    pub const WRITER_SPACES: Limit = Limit::new("the writer's share of the store", "spaces");
    /// The bytes of a writer: [`writer_quota`](Self::writer_quota).
    pub const WRITER_BYTES: Limit = Limit::new("the writer's share of the store", "bytes");
    /// The records of a namespace: [`namespace_quota`](Self::namespace_quota).
    pub const NAMESPACE_RECORDS: Limit =
        Limit::new("the namespace's share of the store", "records");
    /// The bytes of a namespace: [`namespace_quota`](Self::namespace_quota).
    pub const NAMESPACE_BYTES: Limit = Limit::new("the namespace's share of the store", "bytes");
    /// The records of the store: [`max_records`](Self::max_records).
    pub const STORE_RECORDS: Limit = Limit::new("the store", "records");
    /// The bytes of the store: [`max_bytes`](Self::max_bytes).
    pub const STORE_BYTES: Limit = Limit::new("the store", "bytes");

    /// The bounds of what is stored, not of what is written.
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
    /// How much the records of a namespace may take; `None`, the default, means as much as the store. Give one
    /// to a namespace whose records cost little to make, where others should have room beside it.
    pub fn namespace_quota(&self, namespace: &str) -> Option<Quota> {
        self.namespace_quotas.get(namespace).copied()
    }

    /// Sets [`namespace_quota`](Self::namespace_quota) for one namespace.
    #[must_use]
    pub fn with_namespace_quota(mut self, namespace: impl Into<String>, quota: Quota) -> Self {
        self.namespace_quotas.insert(namespace.into(), quota);
        self
    }

    /// The writers, besides the local peer, whose spaces are kept before all others: they are not evicted for
    /// others, do not count towards the bounds of a record, and others are evicted for them, as long as the
    /// protected alone are within the bounds of namespace and store. They are but kept on this node; other
    /// replicas go by their own lists. Defaults to none.
    ///
    /// A record is given out within its limits all the same: of a record with too many spaces those of the lowest ranks,
    /// protected or not. What is beyond that is kept until there is a place for it; see
    /// [`SmartRecordStore::record_of`](crate::store::SmartRecordStore::record_of).
    pub const fn protected(&self) -> &BTreeSet<PeerId> {
        &self.protected
    }

    /// Sets [`protected`](Self::protected). It may differ from what a stored record was written with.
    #[must_use]
    pub fn with_protected(mut self, writers: impl IntoIterator<Item = PeerId>) -> Self {
        self.protected = writers.into_iter().collect();
        self
    }

    /// The bounds of the provider records, which are kept as libp2p's `MemoryStore` keeps them. Only
    /// `max_providers_per_key` and `max_provided_keys` matter. Defaults to libp2p's defaults.
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
            // `None` would make Kademlia drop the lifetimes that come with records.
            .set_record_ttl(Some(limits.max_ttl()))
            // The store validates on the spot. With `FilterBoth` the writer would be told `Ok` before.
            .set_record_filtering(kad::StoreInserts::Unfiltered)
            .set_max_packet_size(message.max(DEFAULT_PACKET_BYTES));
        config
    }
}

const MIB: usize = 1_024 * 1_024;
/// Kademlia's limit of a packet, which all its implementations share.
const DEFAULT_PACKET_BYTES: usize = 16 * 1_024;
/// What a PUT has besides the key, twice, and the value: publisher, ttl, and the tags and lengths.
const MESSAGE_BYTES: usize = 128;
