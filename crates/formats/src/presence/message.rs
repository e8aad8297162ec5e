//! The signed message of an announcement or a withdrawal.
//!
//! **Invariants.** The bytes of a [`Message`] are canonical and kept verbatim. Client and node are
//! different peers, and the client is that of the key. The fingerprint is the node's. The dates are
//! in order and the lifetime is within the limits. An announcement has both X25519 keys, a
//! withdrawal none.
//!
//! **Spec.** `proto/presence.proto`, message `AnnouncementMessage`.

use prost::{Message as _, bytes::Bytes};
use sha2::{Digest, Sha256};

use super::{ExchangeKey, Party, PresenceError, PresenceKey, PresenceLimits};
use crate::proto::presence as proto;
use smart_record_core::{Limit, LimitExceeded, ProtobufError, Purpose, Timestamp, Writer};

/// The domain of the signatures, as defined by RFC 0002.
pub const SIGNATURE_DOMAIN: &str = "libp2p-presence";

/// The parties' X25519 public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) handshake: ExchangeKey,
    pub(super) presence: ExchangeKey,
}

/// A message whose form has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) bytes: Bytes,
    pub(super) hash: [u8; 32],
    pub(super) node: Writer,
    pub(super) client: Writer,
    /// `None` in a withdrawal.
    pub(super) keys: Option<Keys>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) retain_until: Timestamp,
}

/// The fields of a message to encode.
pub(super) struct Draft<'a> {
    pub(super) node: &'a Writer,
    pub(super) client: &'a Writer,
    pub(super) keys: Option<Keys>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) retain_until: Timestamp,
}

impl Draft<'_> {
    /// The canonical bytes.
    pub(super) fn encode(&self) -> Bytes {
        let key = |key: Option<ExchangeKey>| {
            key.map_or(Bytes::new(), |key| Bytes::copy_from_slice(key.as_bytes()))
        };
        proto::AnnouncementMessage {
            node_identity: self.node.to_bytes(),
            client_identity: self.client.to_bytes(),
            handshake_key: key(self.keys.map(|keys| keys.handshake)),
            fingerprint: fingerprint(self.node).to_vec().into(),
            expiration_date: date(self.expires_at),
            presence_key: key(self.keys.map(|keys| keys.presence)),
            creation_date: date(self.created_at),
            retain_until: (self.retain_until != self.expires_at).then_some(date(self.retain_until)),
            kind: match self.keys {
                Some(_) => proto::AnnouncementKind::Present,
                None => proto::AnnouncementKind::Withdrawn,
            }
            .into(),
        }
        .encode_to_vec()
        .into()
    }
}

impl Message {
    /// Decodes a message under `key` and checks everything except the signatures and the time.
    pub(super) fn decode(
        key: &PresenceKey,
        bytes: Bytes,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        PresenceLimits::ANNOUNCEMENT_BYTES.check(bytes.len(), limits.announcement_bytes())?;
        let wire = proto::AnnouncementMessage::decode(bytes.clone()).map_err(ProtobufError::new)?;
        if wire.encode_to_vec() != bytes {
            return Err(PresenceError::NotCanonical);
        }
        let kind = proto::AnnouncementKind::try_from(wire.kind)
            .map_err(|_| PresenceError::UnknownKind(wire.kind))?;

        let client = identity(Party::Client, wire.client_identity)?;
        let node = identity(Party::Node, wire.node_identity)?;
        if client.peer_id() != key.client() {
            return Err(PresenceError::OtherParty {
                party: Party::Client,
                named: Box::new(client.peer_id()),
                expected: Box::new(key.client()),
            });
        }
        if client == node {
            return Err(PresenceError::SameParty);
        }
        PresenceLimits::ANNOUNCEMENT_BYTES
            .check(weight(key, &client, &node), limits.announcement_bytes())?;
        if wire.fingerprint != fingerprint(&node)[..] {
            return Err(PresenceError::Fingerprint);
        }

        let created_at = timestamp(wire.creation_date)?;
        let expires_at = timestamp(wire.expiration_date)?;
        let retain_until = match wire.retain_until.map(timestamp).transpose()? {
            None => expires_at,
            Some(at) if at == expires_at => return Err(PresenceError::NotCanonical),
            Some(at) if at < expires_at => return Err(PresenceError::Dates),
            Some(at) => at,
        };
        if expires_at <= created_at {
            return Err(PresenceError::Dates);
        }
        let ttl = retain_until.saturating_since(created_at);
        if ttl > limits.max_ttl() {
            return Err(LimitExceeded::of_duration(Limit::TTL, ttl, limits.max_ttl()).into());
        }

        let keys = match kind {
            proto::AnnouncementKind::Present => Some(Keys {
                handshake: exchange_key(Party::Node, &wire.handshake_key)?,
                presence: exchange_key(Party::Client, &wire.presence_key)?,
            }),
            proto::AnnouncementKind::Withdrawn => {
                let has_keys = !wire.handshake_key.is_empty() || !wire.presence_key.is_empty();
                if has_keys || retain_until != expires_at {
                    return Err(PresenceError::Kind);
                }
                None
            }
        };
        let hash = Sha256::digest(&bytes).into();
        Ok(Self { bytes, hash, node, client, keys, created_at, expires_at, retain_until })
    }

    /// The bytes that `party` signs.
    pub(super) fn envelope(&self, key: &PresenceKey, party: Party) -> Vec<u8> {
        // The payload type differs by party and by kind of message, so no signature can be used in
        // place of another.
        let payload_type: &[u8] = match (self.keys, party) {
            (Some(_), Party::Client) => b"/libp2p-presence/announcement/client",
            (Some(_), Party::Node) => b"/libp2p-presence/announcement/node",
            (None, _) => b"/libp2p-presence/withdrawal",
        };
        let purpose = Purpose { domain: SIGNATURE_DOMAIN, payload_type };
        purpose.signed_bytes(key.as_record_key(), &self.bytes)
    }

    /// Checks that the message was not created too far in the future.
    pub(super) fn check_lead(
        &self,
        now: Timestamp,
        limits: &PresenceLimits,
    ) -> Result<(), PresenceError> {
        let (lead, max) = (self.created_at.saturating_since(now), limits.max_clock_skew());
        if lead > max {
            return Err(LimitExceeded::of_duration(Limit::CLOCK_SKEW, lead, max).into());
        }
        Ok(())
    }
}

/// Maximum difference of the lengths of a signature and its encoded public key. For a secp256k1 key
/// it is 35.
pub(super) const SIGNATURE_OVER_KEY: usize = 36;

/// Maximum length of a value of the record. It is the same for all values of a node, so the limit
/// of a record works with joins.
pub(super) fn weight(key: &PresenceKey, client: &Writer, node: &Writer) -> usize {
    // Tags, lengths, dates, the kind, two X25519 keys and the fingerprint take up to 181 bytes.
    const FRAMING: usize = 192;
    let subkey = key.subkey(&node.peer_id()).len();
    [client, node].iter().fold(subkey.saturating_add(FRAMING), |sum, party| {
        let identity = party.as_bytes().len();
        sum.saturating_add(identity).saturating_add(identity).saturating_add(SIGNATURE_OVER_KEY)
    })
}

/// SHA-256 of the node's identity.
fn fingerprint(node: &Writer) -> [u8; 32] {
    Sha256::digest(node.as_bytes()).into()
}

fn identity(party: Party, encoded: Bytes) -> Result<Writer, PresenceError> {
    Writer::decode(encoded).map_err(|error| PresenceError::Identity { party, error })
}

fn exchange_key(party: Party, bytes: &[u8]) -> Result<ExchangeKey, PresenceError> {
    bytes.try_into().map_err(|error| PresenceError::ExchangeKey { party, error })
}

/// The date on the wire. One that is out of range becomes the maximum.
pub(super) fn date(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

fn timestamp(date: i64) -> Result<Timestamp, PresenceError> {
    u64::try_from(date).map(Timestamp::from_millis).map_err(|_| PresenceError::Dates)
}
