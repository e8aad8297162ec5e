//! Signed, mergeable, expiring records on any rust-libp2p Kademlia DHT.
//!
//! Under one key many peers write, each to its own signed space; every piece has a lifetime; replicas merge
//! instead of overwriting; and nothing forged, expired, replayed or rolled back gets in. There is no protocol
//! of its own: it rides on Kademlia's PUT_VALUE and GET_VALUE.
//!
//! Three ways in:
//!
//! 1. **Replace the store.** [`SmartRecordStore`] takes the place of libp2p's `MemoryStore` in a
//!    [`kad::Behaviour`](libp2p_kad::Behaviour); nothing else in your program changes.
//! 2. **Use a validator.** [`Validator`] is validate, select and consolidate over bytes from anywhere; a
//!    [`Registry`] maps the namespaces of keys to validators.
//! 3. **Publish from an app.** [`Behaviour`] goes into a swarm in the place of Kademlia, and [`Client`] publishes,
//!    reads and watches.
//!
//! Without a client, a writer makes its updates with a [`SpaceSigner`] and puts them with `kad::Behaviour::put_record`; a reader
//! reads each answer of a GET with [`SpaceRules::read`], joins the [`SmartRecord`]s, and looks at the
//! [`View`].
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use libp2p_smart_record::{
//!     Clock, Dict, Limits, RecordKey, SmartRecordStore, SpaceSigner, SystemClock,
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
//! | module | what is there |
//! |---|---|
//! | [`node`] | the document model: nodes, their order, merge, encodings |
//! | [`record`] | updates, spaces, records, views, limits, who may write |
//! | [`shard`] | topics of more writers than one key can hold, spread over many keys |
//! | [`ipns`] | IPNS names and records: reading, creating, signing |
//! | [`iprs`] | IPRS records, validity schemes, ancestry chains, beacons |
//! | [`presence`] | at which nodes a client can be reached, and with which keys |
//! | [`signed`] | signed records: one value, one author, the highest sequence wins |
//! | [`validator`] | the trait, the registry, the built-in validators, errors |
//! | [`store`] | the store for Kademlia, its storage, events and counters |
//! | [`behaviour`] | Kademlia with reads that repair, upkeep and validation off the swarm's task |
//! | [`query`] | what a read or a write through Kademlia comes to |
//! | [`client`] | publish, get, watch: the app's handle on a behaviour |
//! | [`presence_publisher`] | an announcement that is kept alive, and finding others |
//! | [`services`] | smart services: whether an address can be dialled, and checks of one's own |
//! | [`manager`] | put and get signed records, over a store of one's own or the DHT |
//! | [`rate`], [`dag_cbor`], [`settings!`] | for crates built on this one: rate limits, DAG-CBOR of strangers, configuration types |
//!
//! Each type has its home in one of these modules. Those that most programs name are re-exported at the root, for short;
//! what belongs to them (errors, limits, parts) is in the module alone.
//!
//! The core (all but `store`, `manager`, `behaviour`, `client`, `metrics`, `services` and `presence_publisher`) is pure: no clock, no I/O; `now` is an
//! argument. Features: `redb` adds storage on disk, `store::RedbStorage`; `node` adds `host::Node`, a ready swarm; `metrics` adds
//! `metrics::Metrics`, for Prometheus; `cli` is for the command `smart-record`, and brings `node` and `redb`.

#![warn(unreachable_pub)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod behaviour;
pub mod client;
mod clock;
#[cfg(feature = "signed")]
pub mod manager;
mod meter;
#[cfg(feature = "presence")]
pub mod presence_publisher;
mod proto;
pub mod query;
pub mod rate;
mod schedule;
pub mod store;

pub use smart_record_core::{impl_debug, settings};
use smart_record_core::{key, time};
#[doc(inline)]
pub use smart_record_core::{node, record, shard};
#[cfg(all(feature = "ipns", feature = "iprs", feature = "presence"))]
#[doc(inline)]
pub use smart_record_formats::built_in;
#[cfg(feature = "iprs")]
#[doc(inline)]
pub use smart_record_formats::iprs;
#[cfg(feature = "presence")]
#[doc(inline)]
pub use smart_record_formats::presence;
#[cfg(feature = "signed")]
#[doc(inline)]
pub use smart_record_formats::signed;
#[cfg(feature = "ipns")]
#[doc(inline)]
pub use smart_record_formats::{ipfs, ipns, pk};

/// Validators.
pub mod validator {
    pub use smart_record_core::validator::*;
    #[cfg(feature = "iprs")]
    pub use smart_record_formats::iprs::IprsValidator;
    #[cfg(feature = "presence")]
    pub use smart_record_formats::presence::PresenceValidator;
    #[cfg(feature = "signed")]
    pub use smart_record_formats::signed::SignedRecordValidator;
    #[cfg(feature = "ipns")]
    pub use smart_record_formats::{ipns::IpnsValidator, pk::PublicKeyValidator};
}

pub use smart_record_core::*;

#[doc(no_inline)]
pub use bytes::Bytes;

#[cfg(feature = "ipns")]
pub use crate::ipns::{IpnsBuilder, IpnsName, IpnsRecord};
#[cfg(feature = "metrics")]
pub use crate::meter::metrics;
#[doc(no_inline)]
pub use crate::node::Cid;
pub use crate::{
    behaviour::Behaviour,
    client::{Client, ClientError},
    clock::SystemClock,
    key::{NamespaceError, RecordKey},
    time::Timestamp,
};
#[cfg(feature = "signed")]
pub use crate::{
    manager::{DhtBackend, ManagerError, RecordManager, StoreBackend},
    signed::{SignedRecord, UnsignedRecord},
};
#[doc(no_inline)]
pub use crate::{
    node::{Dict, Float, Kind, List, Node, Predicate},
    record::{
        Admission, AllowList, KeyOwner, Limits, Open, SignError, SignedUpdate, SmartRecord,
        SpaceSigner, SpaceView, Update, UpdateKind, View, Writer,
    },
    shard::{ShardedKey, ShardedRecord},
    store::{Counters, SmartRecordStore, StoreConfig, StoreEvent, WriteError},
    validator::*,
};
