//! Signed, mergeable, expiring records on any rust-libp2p Kademlia DHT.
//!
//! Many peers write under one key, each to its own signed space. Every part has a lifetime.
//! Replicas merge instead of overwriting. Nothing that is forged, expired, replayed or rolled back
//! is accepted. There is no wire protocol of its own: records travel in Kademlia's PUT_VALUE and
//! GET_VALUE.
//!
//! There are three ways in.
//!
//! # A store for your Kademlia behaviour
//!
//! [`SmartRecordStore`](store::SmartRecordStore) takes the place of libp2p's `MemoryStore`. In a
//! program with plain keys, [`drop_in`](store::SmartRecordStore::drop_in) keeps these as they are,
//! with the differences that it lists.
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use libp2p_kad as kad;
//! use libp2p_smart_record::{
//!     Clock, Limits, RecordKey, SpaceSigner, SystemClock, store::SmartRecordStore,
//! };
//!
//! let keypair = Keypair::generate_ed25519();
//! let local_peer = keypair.public().to_peer_id();
//! let store = SmartRecordStore::new(local_peer);
//! let config = store.kad_config(kad::PROTOCOL_NAME);
//! let mut kad = kad::Behaviour::with_config(local_peer, store, config);
//!
//! // Write: sign an update to our space under a key, then put the record.
//! let key = RecordKey::new("/sr/rooms/lobby");
//! let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
//! let now = SystemClock.now();
//! signer.merge(r#"{"name": "ada", "seats": [1, 2]}"#.parse()?, now, Duration::from_secs(600))?;
//! let value = signer.record(now).encode();
//! kad.put_record(kad::Record::new(kad::RecordKey::new(&key), value), kad::Quorum::One)?;
//!
//! // Read: what each writer says, as far as this node's store knows.
//! for (writer, space) in &kad.store_mut().view(&key)? {
//!     println!("{writer}: {}", space.document);
//! }
//! # assert_eq!(kad.store_mut().view(&key)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `kad::Behaviour::get_record` yields the unchecked answers of single replicas. [`Dht`](dht::Dht)
//! reads and puts over a `kad::Behaviour`: it checks and joins the answers, and sends large records
//! in pieces.
//!
//! # A validator of your own
//!
//! A [`Registry`] maps the namespaces of keys to [`Validator`]s or to [`SpaceRules`], the rules of
//! smart records. A validator is a pure function of bytes, wherever they come from.
//!
//! ```
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{
//!     Malformed, RecordKey, Registry, Timestamp, ValidationError, Validator, Validity, best_index,
//!     store::{SmartRecordStore, StoreConfig},
//! };
//!
//! /// A number in decimal digits; the greatest wins.
//! struct Counter;
//!
//! fn number(value: &[u8]) -> Result<u64, ValidationError> {
//!     let text = std::str::from_utf8(value).map_err(Malformed::other)?;
//!     Ok(text.parse().map_err(Malformed::other)?)
//! }
//!
//! impl Validator for Counter {
//!     fn validate(
//!         &self, _: &RecordKey, value: &[u8], _: Timestamp,
//!     ) -> Result<Validity, ValidationError> {
//!         // The value does not say how long it lives, so Kademlia's lifetime counts.
//!         number(value).map(|_| Validity::forever())
//!     }
//!
//!     fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
//!         // A total order, so that all replicas select the same value.
//!         best_index(values.iter().map(|value| (number(value).ok(), *value)))
//!     }
//!
//!     fn wrapped(&self) -> Option<&dyn Validator> {
//!         None
//!     }
//! }
//!
//! let registry = Registry::default().with("counter", Counter)?;
//! let local_peer = Keypair::generate_ed25519().public().to_peer_id();
//! let mut store = SmartRecordStore::with_registry(local_peer, registry, StoreConfig::default());
//! let key = RecordKey::new("/counter/visits");
//! store.write(&key, b"41")?;
//! store.write(&key, b"42")?;
//! assert!(store.write(&key, b"many").is_err());
//! # assert_eq!(store.value(&key)?.map(|stored| stored.value).as_deref(), Some(&b"42"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A behaviour and its client
//!
//! [`Behaviour`](behaviour::Behaviour) takes the place of `kad::Behaviour` in a swarm. Its
//! [`Client`](client::Client) publishes, keeps alive, reads, watches and withdraws. Reads check and
//! join the answers, and send the result to replicas that lack part of it.
//!
//! ```
//! use std::time::Duration;
//! use futures::StreamExt;
//! use libp2p::{SwarmBuilder, identity::Keypair, kad, noise, tcp, yamux};
//! use libp2p_smart_record::{behaviour::Behaviour, client::ClientError};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keypair = Keypair::generate_ed25519();
//! let (behaviour, client) = Behaviour::new(keypair.clone(), kad::PROTOCOL_NAME);
//! let mut swarm = SwarmBuilder::with_existing_identity(keypair)
//!     .with_tokio()
//!     .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
//!     .with_behaviour(|_| behaviour)?
//!     .build();
//! // Peers are added with `swarm.behaviour_mut().kad_mut().add_address`.
//! tokio::spawn(async move { while swarm.next().await.is_some() {} });
//!
//! // Signed anew before it expires, for as long as `kept` lives.
//! let document = r#"{"name": "ada"}"#.parse()?;
//! let kept = client.keep("/sr/rooms/lobby", document, Duration::from_secs(600)).await?;
//! for (writer, space) in &client.view("/sr/rooms/lobby").await? {
//!     println!("{writer}: {}", space.document);
//! }
//! // This node has no peers yet, so no other peer acknowledges the write, which is an error.
//! kept.withdraw().await.or_else(ClientError::into_publication)?;
//! # assert!(client.view("/sr/rooms/lobby").await?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! [`recipes`] has complete pieces of programs: a lobby, a configuration, a board of a thousand
//! writers, bare Kademlia.
//!
//! # When not to use this crate
//!
//! * *All readers are online.* If every reader is online when something is written, gossip is
//!   enough. The rules are in `smart-record-core`, so gossiped bytes can be checked and merged
//!   without a DHT.
//! * *One writer, one value.* IPNS or signed records (`signed`, `manager`) are simpler than smart
//!   records. If anybody may overwrite the value, libp2p's `MemoryStore` is enough.
//! * *No expiry.* Nothing lives longer than 48 hours unless its owner sends it again. An archive
//!   needs its own storage; put a link to it into the record.
//! * *Large content.* An update has at most 2 KiB, a space 8 KiB, a value of another kind 15 KiB.
//! * *Secrets, locks, transactions.* Every record is public, writers do not see each other's writes
//!   in one order, and there is no compare-and-set.
//!
//! # Where to look
//!
//! The rules are at the root: documents, updates, spaces, records, limits, validators, the
//! registry. They are those of `smart-record-core`: pure functions without a clock or I/O; `now` is
//! an argument. Everything else is in a module:
//!
//! | module | feature | content |
//! |---|---|---|
//! | [`store`] | | the store for Kademlia, its storage, events and counters; with `redb`, storage on disk |
//! | [`dht`] | | puts and reads over a bare `kad::Behaviour` |
//! | [`behaviour`] | | Kademlia with reads that repair, upkeep, and validation off the swarm's task |
//! | [`client`] | | publish, keep, get, watch: the asynchronous handle to a behaviour |
//! | [`query`] | | the result of a read; reading with Kademlia's events alone |
//! | `pk`, `ipns` | `ipns` | public keys; IPNS names and records: reading, creating, signing |
//! | `iprs` | `iprs` | IPRS records, validity schemes, ancestry chains, beacons |
//! | `presence`, `presence_publisher` | `presence` | where a client can be reached, and with which keys; a task that keeps an announcement alive |
//! | `signed`, `manager` | `signed` | signed records: one value, one author, the highest sequence wins; publishing and getting them |
//! | `metrics` | `metrics` | counters and histograms for Prometheus |
//! | `files` | `redb` | atomic writing of files: a utility of stores and of the command |
//! | [`rate`], [`dag_cbor`], [`dag_json`], [`settings!`] | | for crates built on this one: rate limits, DAG-CBOR and DAG-JSON from untrusted input, configuration types |
//!
//! `smart-record-host` is a ready node; `smart-record-services` answers requests in records.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `rsa`, `ecdsa`, `secp256k1` | yes | public keys of this type beside Ed25519. Without it, such keys are refused as [`Fault::Unsupported`]. A node that serves records to others needs all of them |
//! | `ipns` | no | `pk`, `ipns`, `ipfs()`; enables `rsa` |
//! | `iprs` | no | `iprs` |
//! | `presence` | no | `presence`, `presence_publisher` |
//! | `signed` | no | `signed`, `manager` |
//! | `redb` | no | `SmartRecordStore::open`, `store::RedbStorage`, `files` |
//! | `metrics` | no | `metrics`, `Builder::with_metrics` |
//!
//! With `ipns`, `iprs` and `presence`, `built_in()` is a registry of all namespaces.
//!
//! # Defaults
//!
//! Each setting has a setter `with_…` of its name, whose documentation has the reason for the
//! default.
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | [`Limits`], equal on all nodes of a DHT | | |
//! | [`max_ttl`](Limits::with_max_ttl) | 48 h | longest lifetime of an update |
//! | [`max_clock_skew`](Limits::with_max_clock_skew) | 5 min | how far ahead of the reader's clock an update may be |
//! | [`key_bytes`](Limits::with_key_bytes) | 256 | length of a key |
//! | [`update_bytes`](Limits::with_update_bytes) | 2 KiB | update without its signature |
//! | [`space_bytes`](Limits::with_space_bytes), [`updates_per_space`](Limits::with_updates_per_space) | 8 KiB, 64 | updates of one writer under one key; more content is refused when it is signed |
//! | [`spaces_per_record`](Limits::with_spaces_per_record) | 1,024 | writers under one key |
//! | [`withdrawn_per_record`](Limits::with_withdrawn_per_record) | 4,096 | withdrawn spaces under one key |
//! | [`min_stamp_bits`](Limits::with_min_stamp_bits) | 19 | least work that counts for what stays |
//! | [`document`](Limits::with_document) | 16, 1,024 | depth and nodes of a document |
//! | [`BehaviourConfig`](behaviour::BehaviourConfig) | | |
//! | [`watch_interval`](behaviour::BehaviourConfig::with_watch_interval), [`longest_watch_interval`](behaviour::BehaviourConfig::with_longest_watch_interval) | 2 s, 30 s | time between lookups of a watched key: the first while there was news within a minute, doubling to the second without. A replica of the key (a server close to it) reports at once what is sent to it; a client learns of changes by these lookups alone |
//! | [`watch_policy`](behaviour::BehaviourConfig::with_watch_policy), [`watch_deadline`](behaviour::BehaviourConfig::with_watch_deadline) | [`Settled`](query::ReadPolicy::Settled), 10 s | when such a lookup ends |
//! | [`refresh_interval`](behaviour::BehaviourConfig::with_refresh_interval) | 1 h | time after which own spaces and kept values are sent again |
//! | [`topology_delay`](behaviour::BehaviourConfig::with_topology_delay) | 10 s, up to 20 s | delay until a new peer close to an own key is sent the record |
//! | [`replication_interval`](behaviour::BehaviourConfig::with_replication_interval) | 1 h | time in which each stored record has one turn to be replicated; `None`: never |
//! | [`read_policy`](behaviour::BehaviourConfig::with_read_policy), [`read_deadline`](behaviour::BehaviourConfig::with_read_deadline) | [`Settled`](query::ReadPolicy::Settled), 10 s | when a read returns |
//! | [`write_policy`](behaviour::BehaviourConfig::with_write_policy), [`write_deadline`](behaviour::BehaviourConfig::with_write_deadline) | [`Majority`](query::WritePolicy::Majority), 10 s | when a write returns |
//! | [`read_rounds`](behaviour::BehaviourConfig::with_read_rounds) | 16 | maximum number of rounds in which the holders of a large record are asked in one read |
//! | [`complete_at`](behaviour::BehaviourConfig::with_complete_at) | 2 | peers that have to cover every part of a record for a reading to be complete |
//! | [`repair_chunks`](behaviour::BehaviourConfig::with_repair_chunks) | 32 | maximum number of chunks sent to peers that lack the same |
//! | [`resume_before_write`](behaviour::BehaviourConfig::with_resume_before_write) | yes | the first write under a key reads the key first |
//! | [`max_operations`](behaviour::BehaviourConfig::with_max_operations) | 64 | client commands at a time; further ones wait |
//! | [`poll_timeout`](behaviour::BehaviourConfig::with_poll_timeout) | 10 s | how long a call waits for the swarm to be polled |
//! | [`max_read_bytes`](behaviour::BehaviourConfig::with_max_read_bytes) | 64 MiB | answers that the reads under way hold; further reads wait |
//! | [`max_known_writers`](behaviour::BehaviourConfig::with_max_known_writers) | 16,384 | writers whose newest update is remembered, to detect rollbacks |
//! | [`subnet_share`](behaviour::BehaviourConfig::with_subnet_share), [`exempts_private_subnets`](behaviour::BehaviourConfig::with_exempts_private_subnets) | 2, yes | peers of one subnet among 20, and in a bucket; whether private subnets are exempt |
//! | [`inserts_manually`](behaviour::BehaviourConfig::with_inserts_manually) | no | whether only the application inserts peers into the routing table |
//! | [`validation`](behaviour::BehaviourConfig::with_validation) | [`Inline`](behaviour::Validation::Inline) | where inbound records are validated |
//! | [`work_per_second`](behaviour::BehaviourConfig::with_work_per_second) | 500 ms | work for all other peers, in the time of a reference core; records from a network that asks for more are refused, and after seconds its connections are closed |
//! | [`inbound_queue`](behaviour::BehaviourConfig::with_inbound_queue), [`inbound_concurrency`](behaviour::BehaviourConfig::with_inbound_concurrency) | 256, 16 | inbound records that wait; asynchronous validations at a time |
//! | [`DhtConfig`](dht::DhtConfig) | | |
//! | [`timeout`](dht::DhtConfig::with_timeout), [`poll_timeout`](dht::DhtConfig::with_poll_timeout) | 60 s, 10 s | longest duration of a read or a put; how long it waits for the driver to be polled |
//! | [`read_rounds`](dht::DhtConfig::with_read_rounds), [`replicas`](dht::DhtConfig::with_replicas) | 32, 20 | maximum number of lookups per read; peers that are sent a put |
//! | [`StoreConfig`](store::StoreConfig) | | |
//! | [`max_records`](store::StoreConfig::with_max_records), [`max_bytes`](store::StoreConfig::with_max_bytes) | 16,384, 64 MiB | all that is stored |
//! | [`max_record_bytes`](store::StoreConfig::with_max_record_bytes) | 4 MiB | one record |
//! | [`writer_quota`](store::StoreConfig::with_writer_quota) | 4,096, 16 MiB | spaces and bytes of one writer |
//! | [`protected_quota`](store::StoreConfig::with_protected_quota) | 8,192, 32 MiB | the same, of each protected writer; the local peer is one |
//! | [`namespace_quota`](store::StoreConfig::with_namespace_quota), [`protected`](store::StoreConfig::with_protected) | none, none | records and bytes of a namespace; writers that are not evicted, beside the local peer |
//! | [`chunk_bytes`](store::StoreConfig::with_chunk_bytes), [`slice_bytes`](store::StoreConfig::with_slice_bytes) | 15 KiB, 8 KiB | largest piece of a record in a PUT, and in the reply to a GET |
//! | [`max_age`](store::StoreConfig::with_max_age) | 48 h | how long a value that is not sent again is kept |
//! | [`receipt_memory`](store::StoreConfig::with_receipt_memory) | 48 h | how long values with a TTL since receipt are remembered |
//! | [`value_work`](store::StoreConfig::with_value_work), [`signature_memory`](store::StoreConfig::with_signature_memory) | 4 ms, 2 MiB | work for the signatures of one inbound value, inline; memory of signatures found good |
//! | [`max_remembered`](store::StoreConfig::with_max_remembered) | 100,000 | evictions that are remembered |
//! | [`max_events`](store::StoreConfig::with_max_events) | 1,024 | events that wait for a subscriber |
//! | [`providers`](store::StoreConfig::with_providers) | as `MemoryStore` | provider records |
//! | `RedbConfig` (feature `redb`) | | |
//! | `durability`, `cache_bytes`, `max_rechecked` | 100 ms or 16 MiB, 64 MiB, 131,072 | group commit; cache of the file; rows remembered as checked again |
//! | `PublisherConfig` (feature `presence`) | | |
//! | `ttl`, `sign_timeout`, `retry_delay` | 1 h, 10 s, 5 s | of an announcement; for the node's signature; after a failure |
//!
//! Limits of the formats: `presence::PresenceLimits`, `signed::SignedRecordLimits`. Settings of the
//! other packages: `smart_record_host::ConnectionLimits`, `smart_record_services::ServiceConfig`.
//! Lookups of a behaviour wait for 10 peers at a time, those of its upkeep for 6, for each between
//! 200 ms and 2 s, and count a late answer for 2 s more; see [`smart_record_lookup`]. Kademlia's
//! own queries, which users and [`Dht`](dht::Dht) start, end after 60 s, wait 10 s for a silent
//! peer, and ask 3 peers at a time. [`kad_config`](store::SmartRecordStore::kad_config) sets what
//! has to agree with the store; the rest is set there.
//!
//! # What a call costs
//!
//! A *lookup* asks the 20 peers closest to a key, and those on the way to them. Each reply names up
//! to 20 peers. From a node with this behaviour they take up to 6.6 KB, so 20 replies take up to
//! 130 KB. A GET reply also has up to 8 KiB of the record. Each PUT in the table goes to the 20
//! closest peers. An acknowledgement repeats the record, so a PUT of *n* bytes moves 40 *n* bytes.
//! A space with one update takes 134 bytes (Ed25519) and its document: 190 bytes for `{"name":
//! "west", "players": 12, "map": "dunes"}`. Publishing that moves some 10 KB, and the lookup. Among
//! 20 servers, a whole `get` of a small record takes some 46 KB in 100 packets, and the first
//! `publish` under a key some 61 KB in 209 (`docs/performance.md`).
//!
//! | call | lookups | PUTs to 20 peers |
//! |---|---|---|
//! | [`publish`](client::Client::publish), [`replace`](client::Client::replace), [`keep`](client::Client::keep), [`withdraw`](client::Client::withdraw) | 1, none within a minute after a read or write under the key has ended, in the background too. The first write under a key in a process reads it, unless that read was complete and its record fits into a packet. A record of more than a packet is read before each write until all of its holders are known to join what they are sent | 1, with the whole space: all updates of the writer that have to be kept, one after `replace`, `withdraw` and each renewal. If the whole known record fits into the packet, it is sent. More only for a space of more than 15 KiB |
//! | upkeep of a key | 1 an hour, at half of the shortest `ttl` that is kept, and when new peers close to the key appear | 1 each |
//! | [`put`](client::Client::put), [`keep_value`](client::Client::keep_value) | as `publish`; for a value always 1, because it is read before it is sent; `keep_value` again each hour and for new peers | 1; for a smart record 1 for each 15 KiB |
//! | [`get`](client::Client::get), [`view`](client::Client::view), [`confirm`](client::Client::confirm) | 1; the holders of a smart record of more than 8 KiB are asked again until two of them have covered every part of it: 5 to 7 times for a board of 1,000 writers and 300 KB that they agree on, at most 16 | none, or the missing chunks to those of the 20 closest peers that lack them |
//! | [`watch`](client::Client::watch) | a `get` every 2 s while there is news, every 30 s without, one for all watches of a key | as `get` |
//! | [`get_sharded`](client::Client::get_sharded) | a `get` for each of `2^bits` keys, 8 at a time | as `get` |
//! | replication by a behaviour | a `get` an hour for each stored record, by the replica of rank *n* every *n + 1* hours | as `get` |
//! | [`stored`](client::Client::stored), [`stored_of`](client::Client::stored_of) | 0 | 0 |
//! | [`Dht::put`](dht::Dht::put), [`Dht::get`](dht::Dht::get) | a `get` and 1, always; as `get`, without repairs | as `put`; 0 |
//!
//! Two peers that have acknowledged a write are asked for the record, after 100 ms, and again after
//! a second if they do not show it.
//!
//! Every call has a deadline, measured where the swarm is polled. A call that waits while nobody
//! polls the swarm fails after ten seconds
//! ([`ClientError::NotPolled`](client::ClientError::NotPolled)): poll it in a task of its own. A
//! read returns once more than half of the closest peers have answered and the silent ones have had
//! their time; a write returns once a majority has acknowledged it. Both continue in the background
//! ([`Client::close`](client::Client::close) waits for that); dropping a read before it returns
//! ends it. Latency, CPU costs, and packets and bytes on the wire are in `docs/performance.md`.
//!
//! # Errors
//!
//! Each call has an error type of its own: [`ClientError`](client::ClientError),
//! [`DhtError`](dht::DhtError), [`WriteError`](store::WriteError), [`SignError`],
//! [`ValidationError`]. Their `fault()` gives the class of a refusal; `manager::ManagerError` has
//! variants of its own instead.
//!
//! | [`Fault`] | meaning | at fault |
//! |---|---|---|
//! | `Malformed` | the bytes are not a record | whoever made them |
//! | `Invalid` | a signature is bad | whoever forged or damaged it |
//! | `Expired`, `Stale` | its time is over; something newer is known | whoever sent it: it is slow, or replays |
//! | `LimitExceeded` | too large, too long-lived, or too far in the future | whoever made it, or a wrong clock (see [`ValidationError::lead`]) |
//! | `RefusedByPolicy` | the writer may not write there | the writer |
//! | `Unsupported` | this node does not know the namespace, key type or kind | neither: this node is older or built without a feature |
//! | `Caller` | a call with wrong arguments | the caller |
//! | `None` of `fault()` | nothing was refused: stopped, not polled, timed out, no peer reached, not acknowledged, or the storage failed | try again |
//!
//! A write that no other peer has acknowledged is the error
//! [`ClientError::NotAcknowledged`](client::ClientError::NotAcknowledged), which carries the
//! publication; the record is stored locally and sent again. A node that is
//! alone, with no peer in its routing table, reads its own store. A node that reaches none of its
//! peers reads what it holds itself
//! ([`Reading::has_reached_anyone`](query::Reading::has_reached_anyone)); if it holds nothing, that
//! is [`ClientError::Unreachable`](client::ClientError::Unreachable). Replicas acknowledge records
//! that they refuse; [`confirm`](client::Client::confirm) reads the record back and returns its
//! holders, or an error if nobody keeps it. A read of which all answers are refused is
//! [`ClientError::AnswersRefused`](client::ClientError::AnswersRefused), not an empty record.
//!
//! # How to stop a refresh
//!
//! | what was called | how it ends |
//! |---|---|
//! | `publish`, `replace` | sent again until its `ttl` is over, or [`withdraw`](client::Client::withdraw) |
//! | `keep` | dropping the [`KeepHandle`](client::KeepHandle) withdraws it. After [`detach`](client::KeepHandle::detach): `withdraw`, `replace`, or the end of the last client |
//! | `keep_value` | dropping the [`KeepValueHandle`](client::KeepValueHandle); the value lives until it expires |
//! | `manager::RecordManager::keep` | dropping the `KeptRecord`; the record lives until it expires |
//! | `presence_publisher::PresencePublisher` | its `withdraw`, or dropping it |
//! | anything of a [`Client`](client::Client) | dropping the last client and handle; what is published lives until it expires. A [`WeakClient`](client::WeakClient) does not count |

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod addresses;
pub mod behaviour;
pub mod client;
mod clock;
pub mod dht;
#[cfg(feature = "redb")]
pub mod files;
#[cfg(feature = "signed")]
pub mod manager;
mod meter;
mod outbound;
#[cfg(feature = "presence")]
pub mod presence_publisher;
mod proto;
mod pulse;
pub mod query;
pub mod rate;
// Documentation only; its examples run as tests.
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/recipes.md")]
pub mod recipes {}
mod schedule;
pub mod store;

pub use smart_record_core::*;
#[cfg(all(feature = "ipns", feature = "iprs", feature = "presence"))]
pub use smart_record_formats::built_in;
#[cfg(feature = "iprs")]
pub use smart_record_formats::iprs;
#[cfg(feature = "presence")]
pub use smart_record_formats::presence;
#[cfg(feature = "signed")]
pub use smart_record_formats::signed;
#[cfg(feature = "ipns")]
pub use smart_record_formats::{ipfs, ipns, pk};

pub use crate::clock::SystemClock;
#[cfg(feature = "metrics")]
pub use crate::meter::metrics;
