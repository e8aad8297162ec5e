//! How large a store may grow, and what it sends at once.
//!
//! **Invariants.** What a store sends at once fits into the packets of the configuration of Kademlia made here.
//!
//! **Spec.** `docs/design.md`, section "What libp2p-kad does with a store".

use std::time::Duration;

use libp2p_kad::{self as kad, store::MemoryStoreConfig};
use libp2p_swarm::StreamProtocol;

use crate::{record::Limits, settings::settings};

/// The bounds of a store and the sizes of what it sends.
///
/// ```
/// use libp2p_smart_record::StoreConfig;
///
/// let config = StoreConfig::default().with_max_records(1_000).with_slice_bytes(4 * 1_024);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct StoreConfig {
    max_records: usize,
    max_bytes: usize,
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
            max_bytes: 64 * 1_024 * 1_024,
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
    /// ([`Validity::is_bounded`](crate::Validity::is_bounded): presence records), and those that nothing is known of
    /// ([`AcceptAny`](crate::AcceptAny)), which live as in libp2p's `MemoryStore`. One whose time runs since its receipt may come back after this, for
    /// what is left of its time. With [`Duration::MAX`] nothing is bounded.
    max_age, with_max_age: Duration;
    /// How long, since it was first received, a value of
    /// [`ttl_since_receipt`](crate::Validity::ttl_since_receipt) is remembered at least, also after it has
    /// expired: until then, receiving it again does not start its time anew, and nothing worse comes back in
    /// its place. One with a longer TTL is remembered for that, up to 30 days. Defaults to 48 hours, as long as a
    /// copy can be about in a DHT of nodes that know nothing of such values.
    receipt_memory, with_receipt_memory: Duration;
}

impl StoreConfig {
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

/// Kademlia's limit of a packet, which all its implementations share.
const DEFAULT_PACKET_BYTES: usize = 16 * 1_024;
/// What a PUT has besides the key, twice, and the value: publisher, ttl, and the tags and lengths.
const MESSAGE_BYTES: usize = 128;
