//! Signed, mergeable, expiring records on any rust-libp2p Kademlia DHT.
//!
//! Under one key many peers write, each to its own signed space; every piece has a lifetime; replicas merge
//! instead of overwriting; and nothing forged, expired, replayed or rolled back gets in. There is no protocol
//! of its own: it rides on Kademlia's PUT_VALUE and GET_VALUE.
//!
//! Three ways in:
//!
//! 1. **Replace the store.** [`SmartRecordStore`](store::SmartRecordStore) takes the place of
//!    libp2p's `MemoryStore` in a [`kad::Behaviour`](libp2p_kad::Behaviour). In a program that has
//!    plain keys, [`drop_in`](store::SmartRecordStore::drop_in) keeps them as they are, with the few
//!    differences that it lists. [`Dht`](dht::Dht) puts and reads over it.
//! 2. **Use a validator.** [`Validator`] is validate, select and consolidate over bytes from anywhere; a [`Registry`] maps the
//!    namespaces of keys to validators, or to the rules of smart records, [`SpaceRules`].
//! 3. **Publish from an app.** [`Behaviour`](behaviour::Behaviour) goes into a swarm in the place of Kademlia, and
//!    [`Client`](client::Client) publishes, reads and watches.
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{
//!     Clock, Dict, Limits, RecordKey, SpaceSigner, SystemClock, store::SmartRecordStore,
//! };
//!
//! let keypair = Keypair::generate_ed25519();
//! let mut store = SmartRecordStore::new(keypair.public().to_peer_id());
//!
//! // Write: sign an update to our space under a key.
//! let key = RecordKey::new("/sr/rooms/lobby");
//! let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
//! let document: Dict = r#"{"name": "ada", "seats": [1, 2]}"#.parse()?;
//! let now = SystemClock.now();
//! signer.merge(document, now, Duration::from_secs(600))?;
//! store.write(&key, &signer.record(now).encode())?;
//!
//! // Read: what each writer says now.
//! for (writer, space) in &store.view(&key)? {
//!     println!("{writer}: {}", space.document);
//! }
//! # assert_eq!(store.view(&key)?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! The rules are at the root: documents, updates, spaces, records, limits, validators, the registry. They are those of
//! `smart-record-core`: pure functions without a clock or I/O; `now` is an argument. All else is in a module:
//!
//! | module | feature | what is there |
//! |---|---|---|
//! | [`store`] | | the store for Kademlia, its storage, events and counters; with `redb` storage on disk, `RedbStorage` |
//! | [`dht`] | | puts and reads over a bare `kad::Behaviour` |
//! | [`behaviour`] | | Kademlia with reads that repair, upkeep and validation off the swarm's task |
//! | [`client`] | | publish, get, watch: the app's handle on a behaviour |
//! | [`query`] | | what a read through Kademlia has found; reading with Kademlia's events alone |
//! | `pk`, `ipns` | `ipns` | public keys; IPNS names and records: reading, creating, signing |
//! | `iprs` | `iprs` | IPRS records, validity schemes, ancestry chains, beacons |
//! | `presence`, `presence_publisher` | `presence` | where a client can be reached, and with which keys; keeping that alive |
//! | `signed`, `manager` | `signed` | one value, one author, the highest sequence wins; putting and getting such records |
//! | `metrics` | `metrics` | counters and histograms for Prometheus |
//! | [`rate`], [`dag_cbor`], [`settings!`] | | for crates built on this one: rate limits, DAG-CBOR of strangers, configuration types |
//!
//! The features `ecdsa`, `rsa` and `secp256k1`, on by default, are public keys of these types beside Ed25519. Without one, a
//! key of that type is refused as [`Fault::Unsupported`]. A node that serves records to others needs all of them.
//!
//! A ready node is `smart-record-host`, smart services are `smart-record-services`.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod addresses;
pub mod behaviour;
pub mod client;
mod clock;
pub mod dht;
#[cfg(feature = "signed")]
pub mod manager;
mod meter;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "`Behaviour` is to send through it")
)]
mod outbound;
#[cfg(feature = "presence")]
pub mod presence_publisher;
mod proto;
pub mod query;
pub mod rate;
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
