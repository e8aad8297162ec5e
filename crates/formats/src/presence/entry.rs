//! What stands in a record for one node: an announcement or a withdrawal.
//!
//! **Invariants.** Holding an [`Entry`] means that all its signatures are good for its key. Entries of one node
//! have a total order, in which the later beats the earlier; expiry plays no part in it.
//!
//! **Spec.** `proto/presence.proto`, messages `Value` and `SignedAnnouncement`.

use std::cmp::Reverse;

use libp2p_identity::{Keypair, PeerId};
use prost::{Message as _, bytes::Bytes};

use super::{
    AnnounceError, Announcement, Party, PresenceError, PresenceKey, PresenceLimits,
    message::{Draft, Message, SIGNATURE_OVER_KEY, date, weight},
};
use crate::{
    proto::presence as proto,
    record::{Limit, Writer, check},
    time::Timestamp,
};

/// A message and the signatures that came with it, good or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) key: PresenceKey,
    pub(super) message: Message,
    pub(super) client_signature: Bytes,
    /// Empty: none.
    pub(super) node_signature: Bytes,
}

impl Signed {
    /// Reads a message with its signatures and checks everything but the signatures and the time.
    pub(super) fn decode(
        key: &PresenceKey,
        bytes: Bytes,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        limits.check_key(key)?;
        check(Limit::AnnouncementBytes, bytes.len(), limits.announcement_bytes())?;
        let wire = proto::SignedAnnouncement::decode(bytes.clone())?;
        if wire.encode_to_vec() != bytes {
            return Err(PresenceError::NotCanonical);
        }
        let message = Message::decode(key, wire.message, limits)?;
        for (party, signature) in
            [(&message.client, &wire.client_signature), (&message.node, &wire.node_signature)]
        {
            let max = party.as_bytes().len().saturating_add(SIGNATURE_OVER_KEY);
            check(Limit::SignatureBytes, signature.len(), max)?;
        }
        if wire.client_signature.is_empty() {
            return Err(PresenceError::HalfSigned { missing: Party::Client });
        }
        Ok(Self {
            key: key.clone(),
            message,
            client_signature: wire.client_signature,
            node_signature: wire.node_signature,
        })
    }

    /// Reads a value of a record: as [`Signed::decode`], and what is not signed agrees with what is.
    pub(super) fn from_value(
        key: &PresenceKey,
        value: proto::Value,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        let signed = Self::decode(key, value.value, limits)?;
        let field = if value.id2 != signed.subkey() {
            "id2"
        } else if value.creation_date != date(signed.message.created_at) {
            "creationDate"
        } else if value.expiration_date != date(signed.message.expires_at) {
            "expirationDate"
        } else {
            return Ok(signed);
        };
        Err(PresenceError::Disagrees { field })
    }

    /// The value of a record.
    pub(super) fn to_value(&self) -> proto::Value {
        proto::Value {
            id2: self.subkey(),
            creation_date: date(self.message.created_at),
            expiration_date: date(self.message.expires_at),
            value: self.encode().into(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        proto::SignedAnnouncement {
            message: self.message.bytes.clone(),
            client_signature: self.client_signature.clone(),
            node_signature: self.node_signature.clone(),
        }
        .encode_to_vec()
    }

    pub(super) fn node(&self) -> PeerId {
        self.message.node.peer_id()
    }

    fn subkey(&self) -> String {
        self.key.subkey(&self.node())
    }

    pub(super) fn weight(&self) -> usize {
        weight(&self.key, &self.message.client, &self.message.node)
    }

    /// Where the message stands among those of its node: the later is the greater.
    pub(super) const fn position(&self) -> (Timestamp, [u8; 32]) {
        (self.message.created_at, self.message.hash)
    }

    /// The same with different signatures is the greater for the lesser ones: some kinds of keys sign
    /// differently each time.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let signatures = (self.client_signature.clone(), self.node_signature.clone());
        (self.position(), Reverse(signatures))
    }

    pub(super) fn verify_by(&self, party: Party) -> Result<(), PresenceError> {
        let (signer, signature) = match party {
            Party::Client => (&self.message.client, &self.client_signature),
            Party::Node => (&self.message.node, &self.node_signature),
        };
        signer
            .verify_bytes(&self.message.envelope(&self.key, party), signature)
            .map_err(|_| PresenceError::Signature { party })
    }

    /// Checks all signatures that the message takes.
    pub(super) fn verify(self) -> Result<Entry, PresenceError> {
        match self.message.keys {
            Some(keys) => {
                if self.node_signature.is_empty() {
                    return Err(PresenceError::HalfSigned { missing: Party::Node });
                }
                self.verify_by(Party::Client)?;
                self.verify_by(Party::Node)?;
                Ok(Entry::Announced(Announcement { signed: self, keys }))
            }
            None => {
                if !self.node_signature.is_empty() {
                    return Err(PresenceError::SurplusSignature { party: Party::Node });
                }
                self.verify_by(Party::Client)?;
                Ok(Entry::Withdrawn(Withdrawal { signed: self }))
            }
        }
    }
}

/// What stands in a record for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The client is present there.
    Announced(Announcement),
    /// It was, and has taken it back.
    Withdrawn(Withdrawal),
}

impl Entry {
    /// Reads an encoded announcement or withdrawal and checks everything about it that does not depend on the
    /// time.
    ///
    /// # Errors
    /// [`PresenceError`].
    pub fn decode(
        key: &PresenceKey,
        bytes: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        Signed::decode(key, bytes.into(), limits)?.verify()
    }

    pub(super) const fn signed(&self) -> &Signed {
        match self {
            Self::Announced(announcement) => &announcement.signed,
            Self::Withdrawn(withdrawal) => &withdrawal.signed,
        }
    }

    /// The key under which it stands.
    pub const fn key(&self) -> &PresenceKey {
        &self.signed().key
    }

    /// The node.
    pub fn node(&self) -> PeerId {
        self.signed().node()
    }

    /// When the client made it.
    pub const fn created_at(&self) -> Timestamp {
        self.signed().message.created_at
    }

    /// Until when replicas keep it.
    pub const fn retain_until(&self) -> Timestamp {
        self.signed().message.retain_until
    }
}

impl From<Announcement> for Entry {
    fn from(announcement: Announcement) -> Self {
        Self::Announced(announcement)
    }
}

impl From<Withdrawal> for Entry {
    fn from(withdrawal: Withdrawal) -> Self {
        Self::Withdrawn(withdrawal)
    }
}

/// A client's word that it is no longer present at a node.
///
/// It takes the client's signature only: the key is the client's, and the node may be out of reach. A node
/// that could withdraw alone could fill the client's record with withdrawals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub(super) signed: Signed,
}

impl Withdrawal {
    /// Signs a withdrawal of all that was announced at `node` before `created_at`, to be kept until
    /// `retain_until`. It has to be kept as long as what it hides: let an [`Announcer`](super::Announcer) see
    /// to that.
    ///
    /// # Errors
    /// [`AnnounceError`] if replicas would refuse it, or the key cannot sign.
    pub fn sign(
        key: &PresenceKey,
        client: &Keypair,
        node: &Writer,
        created_at: Timestamp,
        retain_until: Timestamp,
        limits: &PresenceLimits,
    ) -> Result<Self, AnnounceError> {
        limits.check_key(key).map_err(PresenceError::from)?;
        let draft = Draft {
            node,
            client: &Writer::from(&client.public()),
            keys: None,
            created_at,
            expires_at: retain_until,
            retain_until,
        };
        let message = Message::decode(key, draft.encode(), limits)?;
        let signature = client.sign(&message.envelope(key, Party::Client))?;
        Ok(Self {
            signed: Signed {
                key: key.clone(),
                message,
                client_signature: signature.into(),
                node_signature: Bytes::new(),
            },
        })
    }

    /// The bytes that stand in a record as `Value.value`.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// The node.
    pub fn node(&self) -> PeerId {
        self.signed.node()
    }

    /// When the client made it: what was announced at the node before is hidden.
    pub const fn created_at(&self) -> Timestamp {
        self.signed.message.created_at
    }

    /// Until when replicas keep it.
    pub const fn retain_until(&self) -> Timestamp {
        self.signed.message.retain_until
    }
}
