//! The IPRS record: an IPLD object, its signature, its CID.
//!
//! A [`Record`] is not signed yet. An [`UnverifiedIprsRecord`] has a signature that is not checked
//! yet. An [`IprsRecord`] has a verified signature for one key.
//!
//! The record object is a DAG-CBOR map `{author, scheme, validity, value, version}`. The wire form
//! is `{record, signature}` with the record inside, so IPLD tools see its links.
//!
//! **Invariants.** Holding an [`IprsRecord`] means that its signature is the author's for its key.
//! Both the wire form and the object have canonical bytes, so one record has one form. The CID is
//! that of the object without the signature: for some key types (ECDSA) anyone can turn a valid
//! signature into another valid one, which would otherwise give a second record, and a second
//! chain. The key is signed but is part of neither, so the same object, with the same CID, can be
//! signed for several keys.
//!
//! **Spec.** [IPRS,
//! "Construction"](https://github.com/ipfs/specs/tree/274181d0d63e790865e6002d6cf21c8e02007bb9/iprs-interplanetary-record-system),
//! whose `Record` and `Signature` are also separate objects; [RFC
//! 0002](https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md) for the bytes
//! that are signed: domain `libp2p-iprs`, payload type `/libp2p-iprs/record`, payload
//! `uvarint(len(key)) ‖ key ‖ object`.

use bytes::Bytes;
use cid::Cid;
use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;

use super::{
    cbor::{self, Fields},
    error::IprsError,
};
use smart_record_core::{Limit, Purpose, RecordKey, Writer, check_signature_len};

/// The domain of the signatures, as defined by RFC 0002.
pub const SIGNATURE_DOMAIN: &str = "libp2p-iprs";
/// The payload type of a signed record, as defined by RFC 0002.
pub const SIGNATURE_PAYLOAD_TYPE: &[u8] = b"/libp2p-iprs/record";

const RECORD: Purpose = Purpose { domain: SIGNATURE_DOMAIN, payload_type: SIGNATURE_PAYLOAD_TYPE };

/// The content of an IPRS record before it is signed.
///
/// Each built-in scheme has a constructor, for example
/// [`SequenceNumber::record`](super::SequenceNumber::record). For other schemes use
/// [`Record::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The CID of the validity scheme.
    pub scheme: Cid,
    /// The value: bytes, a link, or any other IPLD data that DAG-CBOR can encode.
    pub value: Ipld,
    /// The author's version number of the value under the key. The record with the higher version
    /// is the better, whatever the schemes; so an author also raises it to change the scheme.
    /// Within a version the scheme decides.
    pub version: u64,
    /// The data that the scheme needs.
    pub validity: Ipld,
}

impl Record {
    /// Creates a record of version 0 with a scheme.
    pub fn new(scheme: Cid, value: impl Into<Ipld>, validity: impl Into<Ipld>) -> Self {
        Self { scheme, value: value.into(), version: 0, validity: validity.into() }
    }

    /// Sets the version.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Signs the record for `key` with a libp2p key of any type.
    ///
    /// # Errors
    /// [`IprsError`] if DAG-CBOR cannot encode the value or the validity (NaN, integers beyond 64
    /// bits), or the key cannot sign.
    pub fn sign(self, key: &RecordKey, keypair: &Keypair) -> Result<IprsRecord, IprsError> {
        let author = Writer::from(&keypair.public());
        let object = self.object(&author)?;
        let signature = keypair
            .sign(&RECORD.signed_bytes(key, &object))
            .map_err(|e| IprsError::CannotSign(e.to_string()))?;
        // This also detects data that can be encoded but not decoded.
        UnverifiedIprsRecord::new(self, author, signature.into())?.verify(key)
    }

    /// The encoded record object.
    fn object(&self, author: &Writer) -> Result<Vec<u8>, IprsError> {
        cbor::encode(&self.to_ipld(author))
    }

    fn to_ipld(&self, author: &Writer) -> Ipld {
        cbor::map([
            ("author", Ipld::Bytes(author.as_bytes().to_vec())),
            ("scheme", Ipld::Link(self.scheme)),
            ("validity", self.validity.clone()),
            ("value", self.value.clone()),
            ("version", Ipld::Integer(self.version.into())),
        ])
    }
}

/// A decoded record whose signature has not been verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedIprsRecord {
    record: Record,
    author: Writer,
    signature: Bytes,
    object: Bytes,
    encoded: Bytes,
    cid: Cid,
}

impl UnverifiedIprsRecord {
    /// Creates a record from its parts, for schemes with their own encoding.
    ///
    /// # Errors
    /// [`IprsError`] if DAG-CBOR cannot encode it, or the signature is too long.
    pub fn new(record: Record, author: Writer, signature: Bytes) -> Result<Self, IprsError> {
        let encoded = cbor::encode(&cbor::map([
            ("record", record.to_ipld(&author)),
            ("signature", Ipld::Bytes(signature.to_vec())),
        ]))?;
        let read = Self::decode(&encoded)?;
        if read.record != record {
            return Err(IprsError::NotCanonical);
        }
        Ok(read)
    }

    /// Decodes the wire form. The caller has checked its size: time and memory are proportional to
    /// it.
    ///
    /// # Errors
    /// [`IprsError`] if it is not a record in canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, IprsError> {
        let mut outer = Fields::of(cbor::decode(bytes)?, "a map of record and signature")?;
        let mut inner = Fields::of(outer.any("record")?, "record: a map")?;
        let signature = Bytes::from(outer.bytes("signature")?);
        outer.finish()?;
        check_signature_len(&signature)?;
        let author = Writer::decode(inner.bytes("author")?.into())?;
        let record = Record {
            scheme: inner.link("scheme")?,
            value: inner.any("value")?,
            version: inner.integer("version")?,
            validity: inner.any("validity")?,
        };
        inner.finish()?;
        let object = Bytes::from(record.object(&author)?);
        let cid = cbor::cid_of(&object);
        let encoded = Bytes::copy_from_slice(bytes);
        Ok(Self { record, author, signature, object, encoded, cid })
    }

    /// The content of the record.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// The claimed author.
    pub const fn author(&self) -> &Writer {
        &self.author
    }

    /// The CID of the record object.
    pub(super) const fn cid(&self) -> Cid {
        self.cid
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// [`IprsError::Signature`] if the author did not sign this under this key.
    pub fn verify(self, key: &RecordKey) -> Result<IprsRecord, IprsError> {
        self.author.verify_for(RECORD, key, &self.object, &self.signature)?;
        Ok(IprsRecord { key: key.clone(), inner: self })
    }
}

/// An IPRS record with a verified signature.
///
/// Two records are equal if key, record and signature are. They have the same content if their CIDs
/// are equal.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_core::RecordKey;
/// use smart_record_formats::iprs::{IprsRecord, SequenceNumber};
///
/// let keypair = Keypair::generate_ed25519();
/// let key = RecordKey::new(format!("/iprs/{}/motd", keypair.public().to_peer_id()));
/// let signed = SequenceNumber::record("hello", 1).sign(&key, &keypair)?;
///
/// let read = IprsRecord::decode(&key, signed.encode(), IprsRecord::MAX_BYTES)?;
/// assert_eq!(read.cid(), signed.cid());
/// assert!(IprsRecord::decode(&"/iprs/elsewhere".into(), signed.encode(), 8_192).is_err());
/// # Ok::<(), smart_record_formats::iprs::IprsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IprsRecord {
    key: RecordKey,
    inner: UnverifiedIprsRecord,
}

impl IprsRecord {
    /// Default maximum size of a record: 8 KiB, so that it fits into a reply of Kademlia beside the
    /// addresses of the closer peers.
    pub const MAX_BYTES: usize = 8 * 1_024;

    /// Decodes the wire form of at most `max_bytes` bytes and verifies the signature.
    ///
    /// # Errors
    /// [`IprsError`] if it is not a record that its author signed for `key`.
    pub fn decode(
        key: &RecordKey,
        bytes: impl Into<Bytes>,
        max_bytes: usize,
    ) -> Result<Self, IprsError> {
        let bytes = bytes.into();
        Limit::VALUE_BYTES.check(bytes.len(), max_bytes)?;
        UnverifiedIprsRecord::decode(&bytes)?.verify(key)
    }

    /// The wire form: `{record, signature}`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.inner.encoded
    }

    /// The wire form: `{record, signature}`.
    pub fn encode(&self) -> Bytes {
        self.inner.encoded.clone()
    }

    /// The record object as an IPLD block. Its CID is [`IprsRecord::cid`].
    pub fn block(&self) -> &[u8] {
        &self.inner.object
    }

    /// The CID of the record object: version 1, DAG-CBOR, SHA-256.
    pub const fn cid(&self) -> Cid {
        self.inner.cid
    }

    /// The key that the record was signed for.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The signed content.
    pub const fn record(&self) -> &Record {
        &self.inner.record
    }

    /// The CID of the scheme.
    pub const fn scheme(&self) -> Cid {
        self.inner.record.scheme
    }

    /// The author's version number.
    pub const fn version(&self) -> u64 {
        self.inner.record.version
    }

    /// The value.
    pub const fn value(&self) -> &Ipld {
        &self.inner.record.value
    }

    /// The public key of the author.
    pub const fn author(&self) -> &Writer {
        &self.inner.author
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.inner.signature
    }
}
