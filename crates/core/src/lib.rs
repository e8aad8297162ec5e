//! The rules of smart records: signed, mergeable, expiring records, without a network.
//!
//! Many peers write under one key, each to its own signed space. Every piece has a lifetime.
//! Replicas merge instead of overwriting. Forged, expired, replayed and rolled-back updates are
//! refused. Every function depends on its arguments only: no clock, no I/O, no randomness. `now` is
//! an argument. A [`SignatureMemory`] that is in use on the thread is none: it saves work and
//! changes no result, except that it bounds the work of one value if asked to.
//!
//! # Features
//!
//! `ecdsa`, `rsa` and `secp256k1`, all on by default, add public keys of these types to Ed25519.
//! Without a feature, keys of its type are refused as [`Fault::Unsupported`]. A node that serves
//! records to others needs all of them: otherwise it refuses records that other replicas keep.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod clock;
pub mod dag_cbor;
pub mod dag_json;
mod data;
mod debug;
mod ed25519;
mod json_text;
mod key;
mod node;
mod peer;
mod proto;
mod protobuf;
mod record;
mod settings;
mod shard;
mod shared_map;
mod signatures;
mod text;
mod time;
mod validator;

#[doc(no_inline)]
pub use bytes::Bytes;
#[doc(no_inline)]
pub use cid::Cid;

pub use crate::{
    clock::Clock,
    key::{KeyEscapeError, NamespaceError, RecordKey},
    node::{
        Dict, DocumentLimits, Float, IpldError, JsonError, Kind, List, Node, NodeError, Opaque,
        Path, PathError, Predicate, SerdeError, Set, codec,
    },
    peer::{parse_peer_id, peer_id_from_bytes, peer_id_from_text},
    protobuf::ProtobufError,
    record::{
        Admission, AllowList, Arcs, AskerTag, BadSignature, Chunks, Coverage, DEFAULT_KEY_BYTES,
        EncodedSpace, EvictionOrder, ExtensionError, Extensions, Incoming, InsertOutcome,
        KeptDocument, KeyMismatch, KeyOwner, Limit, LimitExceeded, Limits, MAX_BAD_SIGNATURES,
        MAX_PUBLIC_KEY_BYTES, MAX_SIGNATURE_BYTES, MinWork, Open, PolicyRefusal, Position, Purpose,
        RecordError, RingArc, SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, Seq, SignError,
        SignedUpdate, SigningHistory, Slice, SmartRecord, Space, SpaceIter, SpaceSigner, SpaceView,
        Stamp, StampSearch, Stamps, UnverifiedSpace, Update, UpdateError, UpdateKind, View,
        ViewIter, Writer, WriterError, ZeroLifetime, check_signature_len, check_signature_work,
        envelope_bytes, verification_work,
    },
    shard::{NotAShard, ShardError, ShardedKey, ShardedRecord},
    signatures::{SignatureCounts, SignatureMemory},
    text::{Printable, cid_from_bytes, escaped, parse_cid, printable, unescape},
    time::Timestamp,
    validator::{
        AcceptAny, Fault, Malformed, MergedSpace, Namespace, NamespaceItem, Namespaces, OrderKey,
        Refusals, Refused, Registry, SpaceRules, Validated, ValidationError, Validator, Validity,
        best_index, best_of,
    },
};
