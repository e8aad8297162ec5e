//! IPNS: names that point to a value, as IPFS-style networks write and read them.
//!
//! A name is the peer id of a key. The holder of the key signs records that say what the name
//! points to and until when. [`IpnsBuilder`] makes records, [`IpnsRecord::decode`] reads them, and
//! [`IpnsValidator`] keeps everything else out of a store.
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use smart_record_formats::ipns::{IpnsBuilder, IpnsName, IpnsRecord};
//! use smart_record_core::Timestamp;
//!
//! let keypair = Keypair::generate_ed25519();
//! let name = IpnsName::from(&keypair.public());
//! let now = Timestamp::from_millis(1_700_000_000_000);
//! let until = now.saturating_add(Duration::from_secs(48 * 60 * 60));
//! let builder = IpnsBuilder::new("/ipfs/bafkqaddimvwgy3zao5xxe3debi", 1, until);
//! let record = builder.sign(&keypair, now)?;
//!
//! // A DHT stores the bytes under `name.key()`. A reader decodes and checks them.
//! let received = IpnsRecord::decode(&name, record.encode())?;
//! received.check_expiry(now)?;
//! assert_eq!(received.path()?.as_str(), "/ipfs/bafkqaddimvwgy3zao5xxe3debi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants.** Holding an [`IpnsRecord`] means that the owner of its name has signed it. Expiry
//! depends on the time: [`IpnsRecord::check_expiry`] checks it. A record is immutable: its bytes
//! are kept as received.
//!
//! **Spec.** [IPNS record and protocol](https://specs.ipfs.tech/ipns/ipns-record/). Where it says
//! nothing, its reference implementation [boxo](https://github.com/ipfs/boxo/tree/main/ipns)
//! decides.

mod builder;
mod data;
mod eol;
mod name;
mod path;
mod validator;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use libp2p_identity::PeerId;
use prost::Message;

use self::data::Data;
pub use self::validator::IpnsValidator;
pub use self::{
    builder::{IpnsBuilder, IpnsSignError},
    eol::{Eol, EolError},
    name::{IpnsName, NameError},
    path::{ContentPath, ContentPathError},
};
use crate::proto::ipns as proto;
use smart_record_core::{
    BadSignature, Limit, LimitExceeded, ProtobufError, Timestamp, Writer, WriterError,
    check_signature_len, printable,
};

/// Maximum size of a record, in bytes: "Record Size Limit" of the specification.
pub const MAX_RECORD_BYTES: usize = 10 * 1_024;

/// The prefix of the signed bytes. It separates these signatures from those for other purposes.
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// An IPNS record with a verified signature.
#[derive(Clone, Debug, PartialEq)]
pub struct IpnsRecord {
    name: IpnsName,
    bytes: Bytes,
    entry: proto::IpnsEntry,
    data: Data,
}

/// Why bytes are not a record of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpnsError {
    /// The record is larger than [`MAX_RECORD_BYTES`], or its public key or signature is too long.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// Not a valid protobuf message.
    #[error("not a protobuf message of an IPNS record: {0}")]
    Protobuf(ProtobufError),
    /// The record has no signature of version 2. Records with a signature of version 1 only are no
    /// longer accepted.
    #[error("no signature of version 2")]
    NoSignature,
    /// The record has no signed data.
    #[error("no signed data")]
    NoData,
    /// The public key is neither in the record nor in the name.
    #[error("the record has no public key, and the name contains only its hash")]
    NoPublicKey,
    /// The public key is invalid.
    #[error("{0}")]
    PublicKey(WriterError),
    /// The public key belongs to another name.
    #[error("the public key is that of {owner}")]
    KeyMismatch {
        /// The peer id of the public key.
        owner: Box<PeerId>,
    },
    /// The signed data is not a map in strict DAG-CBOR.
    #[error("the data is not DAG-CBOR: {}", printable(.0))]
    DagCbor(String),
    /// A field of the data is missing or has the wrong type.
    #[error("the field {field} of the data is missing or has the wrong type")]
    Field {
        /// The name of the field in the data.
        field: &'static str,
    },
    /// The validity is of a type that this version does not know.
    #[error("unknown validity type {0}")]
    ValidityType(i128),
    /// The validity is not a date.
    #[error(transparent)]
    Eol(#[from] EolError),
    /// A copy outside of the signed data, for readers of version 1, differs from the original.
    #[error("the copy of {field} differs from the signed data")]
    Disagreement {
        /// The name of the field in the data.
        field: &'static str,
    },
    /// The signature is not that of the name's owner.
    #[error("the signature is not that of the name's owner")]
    Signature(#[from] BadSignature),
    /// The record has expired.
    #[error("expired at {eol}")]
    Expired {
        /// The instant of expiry.
        eol: Eol,
    },
}

impl From<ProtobufError> for IpnsError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

impl IpnsRecord {
    /// Decodes the record of `name` and checks everything except expiry.
    ///
    /// # Errors
    /// [`IpnsError`], never [`IpnsError::Expired`].
    pub fn decode(name: &IpnsName, bytes: impl Into<Bytes>) -> Result<Self, IpnsError> {
        let bytes = bytes.into();
        Self::check_len(&bytes)?;
        let entry = proto::IpnsEntry::decode(bytes.clone()).map_err(ProtobufError::new)?;
        let signature = present(&entry.signature_v2).ok_or(IpnsError::NoSignature)?;
        let signed = present(&entry.data).ok_or(IpnsError::NoData)?;
        check_signature_len(signature)?;
        let owner = match present(&entry.pub_key) {
            Some(key) => Writer::decode(key.clone()),
            None => Writer::decode(name.inlined_key().ok_or(IpnsError::NoPublicKey)?),
        }?;
        if owner.peer_id() != name.peer_id() {
            return Err(IpnsError::KeyMismatch { owner: Box::new(owner.peer_id()) });
        }
        let data = Data::decode(signed)?;
        data.check_copies(&entry)?;
        // Other implementations of IPNS refuse what is not strict.
        owner.verify_bytes_strictly(&signed_bytes(signed), signature)?;
        Ok(Self { name: *name, bytes, entry, data })
    }

    fn check_len(bytes: &[u8]) -> Result<(), LimitExceeded> {
        Limit::VALUE_BYTES.check(bytes.len(), MAX_RECORD_BYTES)
    }

    /// The name that the record belongs to.
    pub const fn name(&self) -> &IpnsName {
        &self.name
    }

    /// The bytes of the record, as received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the record, as received.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }

    /// What the name points to: a path as text, a CID as bytes, or nothing. It is not parsed, and
    /// may be anything; see [`path`](Self::path).
    pub fn value(&self) -> &[u8] {
        &self.data.value
    }

    /// What the name points to.
    ///
    /// # Errors
    /// [`ContentPathError`] if the value is not a content path, the bytes of a CID, or empty.
    pub fn path(&self) -> Result<ContentPath, ContentPathError> {
        ContentPath::from_value(self.value())
    }

    /// The sequence number. A newer record has a higher one.
    pub const fn sequence(&self) -> u64 {
        self.data.sequence
    }

    /// When the record expires.
    pub const fn eol(&self) -> Eol {
        self.data.eol
    }

    /// For how long a resolver may use the record from `now` before it looks for a newer one: what
    /// the publisher says, but not beyond the EOL. `None` if the publisher does not say.
    pub fn ttl(&self, now: Timestamp) -> Option<Duration> {
        let ttl = self.data.ttl.map(Duration::from_nanos)?;
        Some(ttl.min(self.eol().saturating_since(now)))
    }

    /// The signed fields that the specification does not define.
    ///
    /// # Errors
    /// [`IpnsError::DagCbor`] if [`Ipld`] cannot represent a field.
    pub fn metadata(&self) -> Result<BTreeMap<String, Ipld>, IpnsError> {
        data::metadata(self.signed())
    }

    /// The bytes of the data that the owner has signed.
    fn signed(&self) -> &[u8] {
        self.entry.data.as_deref().unwrap_or_default()
    }

    /// Checks that the record has not expired at `now`.
    ///
    /// # Errors
    /// [`IpnsError::Expired`] if its EOL is not after `now`.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), IpnsError> {
        if self.eol().expires_at() <= now {
            return Err(IpnsError::Expired { eol: self.eol() });
        }
        Ok(())
    }
}

impl From<WriterError> for IpnsError {
    fn from(error: WriterError) -> Self {
        match error {
            WriterError::Limit(limit) => Self::Limit(limit),
            error => Self::PublicKey(error),
        }
    }
}

/// The bytes that the owner of a name signs.
fn signed_bytes(data: &[u8]) -> Vec<u8> {
    [SIGNATURE_PREFIX, data].concat()
}

/// Returns the field unless it is absent or empty: both mean the same.
fn present(field: &Option<Bytes>) -> Option<&Bytes> {
    field.as_ref().filter(|bytes| !bytes.is_empty())
}

/// The namespace of IPNS records.
pub const NAMESPACE: &str = "ipns";
