//! Creation of IPNS records.
//!
//! **Invariants.** [`IpnsRecord::decode`], boxo and the JavaScript implementation accept every
//! record that is signed here.
//!
//! **Spec.** [Record creation](https://specs.ipfs.tech/ipns/ipns-record/#record-creation).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use prost::Message;

use super::{
    ContentPath, ContentPathError, Eol, IpnsName, IpnsRecord,
    data::{self, Data, SEQUENCE, TTL, VALID_UNTIL_EOL, VALIDITY, VALIDITY_TYPE, VALUE},
    signed_bytes,
};
use crate::proto::ipns as proto;
use smart_record_core::{LimitExceeded, Timestamp};

/// Five minutes, as the specification suggests.
const DEFAULT_TTL: Duration = Duration::from_secs(300);
/// The validity type in the bytes that version 1 signs.
const EOL_V1: &[u8] = b"EOL";

/// Builder that signs an IPNS record.
///
/// A record replaces another if its sequence number is higher, or equal with a later EOL. So
/// increment the number when the value changes. Keep the number and move the EOL to publish the
/// same value again.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_formats::ipns::IpnsBuilder;
/// use smart_record_core::Timestamp;
///
/// let keypair = Keypair::generate_ed25519();
/// let [now, until] = [1_799_999_000_000, 1_800_000_000_000].map(Timestamp::from_millis);
/// let first = IpnsBuilder::new("/ipfs/bafkqaaa", 0, until).sign(&keypair, now)?;
/// let second = IpnsBuilder::following(&first, "/ipns/example.com", until).sign(&keypair, now)?;
/// assert_eq!(second.sequence(), 1);
/// # Ok::<(), smart_record_formats::ipns::IpnsSignError>(())
/// ```
#[derive(Clone, Debug)]
pub struct IpnsBuilder {
    value: String,
    sequence: u64,
    eol: Eol,
    ttl: Option<Duration>,
    embeds_key: bool,
    is_v1_compatible: bool,
    metadata: BTreeMap<String, Ipld>,
}

/// Why a record cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpnsSignError {
    /// The record would be larger than [`MAX_RECORD_BYTES`](super::MAX_RECORD_BYTES).
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// A number is greater than 2^63 - 1, the greatest that Go reads.
    #[error("{field} is greater than 2^63 - 1")]
    TooGreat {
        /// The name of the field in the data.
        field: &'static str,
    },
    /// The name of a metadata field is empty or defined by the specification.
    #[error("{field:?} cannot be the name of metadata")]
    Reserved {
        /// The name.
        field: String,
    },
    /// The metadata cannot be encoded in DAG-CBOR.
    #[error("the metadata cannot be encoded in DAG-CBOR: {0}")]
    DagCbor(String),
    /// The value is not a content path. The signature for readers of version 1 covers the value and
    /// the fields after it without a prefix that names its purpose. If the value could be anything,
    /// it could pass for a signature of something else.
    #[error(transparent)]
    Value(#[from] ContentPathError),
    /// The EOL has passed.
    #[error("expired at {eol}")]
    Expired {
        /// The EOL of the record.
        eol: Eol,
    },
    /// The TTL goes beyond the EOL.
    #[error("the ttl is longer than the {left:?} until the EOL")]
    TtlBeyondEol {
        /// The time until the EOL.
        left: Duration,
    },
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
}

impl IpnsBuilder {
    /// Creates a record that points to `value` until `eol`. The value is a [`ContentPath`], such as
    /// `/ipfs/<cid>` or `/ipns/<name>`. It is parsed when the record is signed, and signed as
    /// cleaned.
    ///
    /// Nodes of a DHT keep records for 48 hours: a record with a later EOL has to be put again
    /// before that.
    pub fn new(value: impl Into<String>, sequence: u64, eol: impl Into<Eol>) -> Self {
        Self {
            value: value.into(),
            sequence,
            eol: eol.into(),
            ttl: None,
            embeds_key: false,
            is_v1_compatible: true,
            metadata: BTreeMap::new(),
        }
    }

    /// Creates the record that replaces `previous`: its sequence number is one higher.
    pub fn following(previous: &IpnsRecord, value: impl Into<String>, eol: impl Into<Eol>) -> Self {
        Self::new(value, previous.sequence().saturating_add(1), eol)
    }

    /// Sets for how long a resolver may use the record before it looks for a newer one. Defaults to
    /// 5 minutes, as the specification suggests, or the time until the EOL if that is less.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Embeds the public key in the record even if the name contains it. A key that the name does
    /// not contain, such as an RSA key, is always embedded.
    #[must_use]
    pub const fn with_public_key(mut self) -> Self {
        self.embeds_key = true;
        self
    }

    /// Omits the copies and the signature for readers of version 1, from before 2021. By default
    /// they are included, as in the records of kubo and of the JavaScript implementation.
    #[must_use]
    pub const fn without_v1(mut self) -> Self {
        self.is_v1_compatible = false;
        self
    }

    /// Adds a signed field that the specification does not define. By convention its name begins
    /// with `_`.
    #[must_use]
    pub fn with_metadata(mut self, field: impl Into<String>, value: impl Into<Ipld>) -> Self {
        self.metadata.insert(field.into(), value.into());
        self
    }

    /// Signs the record at `now` for the name of the keypair.
    ///
    /// # Errors
    /// [`IpnsSignError`] if readers would refuse the record or could not resolve it, the TTL goes
    /// beyond the EOL, or the key cannot sign.
    pub fn sign(&self, keypair: &Keypair, now: Timestamp) -> Result<IpnsRecord, IpnsSignError> {
        let name = IpnsName::from(&keypair.public());
        let signed = Bytes::from(self.encode_data(now)?);
        // Metadata can be nested too deep to be decoded again.
        let data = Data::decode(&signed).map_err(|e| IpnsSignError::DagCbor(e.to_string()))?;
        let sign = |message: &[u8]| {
            let signature = keypair.sign(message).map_err(|e| IpnsSignError::Key(e.to_string()))?;
            Ok::<_, IpnsSignError>(Some(Bytes::from(signature)))
        };
        let embeds_key = self.embeds_key || name.inlined_key().is_none();
        let mut entry = proto::IpnsEntry {
            pub_key: embeds_key.then(|| keypair.public().encode_protobuf().into()),
            signature_v2: sign(&signed_bytes(&signed))?,
            data: Some(signed),
            ..proto::IpnsEntry::default()
        };
        if self.is_v1_compatible {
            entry.signature_v1 = sign(&[&data.value, &data.validity, EOL_V1].concat())?;
            entry.value = Some(data.value.clone().into());
            entry.validity = Some(data.validity.clone().into());
            entry.validity_type = Some(VALID_UNTIL_EOL);
            entry.sequence = Some(data.sequence);
            entry.ttl = data.ttl;
        }
        let bytes = Bytes::from(entry.encode_to_vec());
        IpnsRecord::check_len(&bytes)?;
        Ok(IpnsRecord { name, bytes, entry, data })
    }

    fn encode_data(&self, now: Timestamp) -> Result<Vec<u8>, IpnsSignError> {
        let value: ContentPath = self.value.parse()?;
        if self.eol.expires_at() <= now {
            return Err(IpnsSignError::Expired { eol: self.eol });
        }
        let left = self.eol.saturating_since(now);
        let ttl = self.ttl.unwrap_or(DEFAULT_TTL.min(left));
        let ttl_nanos = number(ttl.as_nanos(), TTL)?;
        if ttl > left {
            return Err(IpnsSignError::TtlBeyondEol { left });
        }
        if let Some(field) = self.metadata.keys().find(|f| f.is_empty() || data::is_reserved(f)) {
            return Err(IpnsSignError::Reserved { field: field.clone() });
        }
        let validity = self.eol.to_string().into_bytes();
        let mut fields = self.metadata.clone();
        for (field, value) in [
            (VALUE, Ipld::Bytes(value.as_str().into())),
            (VALIDITY, Ipld::Bytes(validity)),
            (VALIDITY_TYPE, Ipld::Integer(VALID_UNTIL_EOL.into())),
            (SEQUENCE, number(self.sequence.into(), SEQUENCE)?),
            (TTL, ttl_nanos),
        ] {
            fields.insert(field.to_owned(), value);
        }
        serde_ipld_dagcbor::to_vec(&fields).map_err(|e| IpnsSignError::DagCbor(e.to_string()))
    }
}

fn number(number: u128, field: &'static str) -> Result<Ipld, IpnsSignError> {
    i64::try_from(number)
        .map(|number| Ipld::Integer(number.into()))
        .map_err(|_| IpnsSignError::TooGreat { field })
}
