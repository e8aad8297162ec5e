//! The entry of a record for one node: an announcement or a withdrawal.
//!
//! **Invariants.** Holding an [`PresenceEntry`] means that all its signatures are good for its key.
//! Entries of a node have a total order, in which the later beats the earlier. Expiry does not
//! affect the order.
//!
//! **Spec.** `proto/presence.proto`, messages `Value` and `SignedAnnouncement`.

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{
    AnnounceError, Announcement, Party, PresenceError, PresenceKey, PresenceLimits,
    message::{Draft, Message},
    signed::Signed,
};
use smart_record_core::{Timestamp, Writer};

/// The entry of a record for one node. Exhaustive: the wire form has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceEntry {
    /// The client announced its presence at the node.
    Announced(Announcement),
    /// The client withdrew its announcements at the node.
    Withdrawn(Withdrawal),
}

impl PresenceEntry {
    /// Decodes an announcement or withdrawal and checks everything that does not depend on the
    /// time.
    ///
    /// # Errors
    /// [`PresenceError`].
    pub fn decode(
        key: &PresenceKey,
        bytes: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        Self::verify(Signed::decode(key, bytes.into(), limits)?)
    }

    /// Verifies all signatures that the message needs.
    pub(super) fn verify(signed: Signed) -> Result<Self, PresenceError> {
        if signed.message.keys.is_some() {
            return Announcement::verify(signed).map(Self::Announced);
        }
        if !signed.node_signature.is_empty() {
            return Err(PresenceError::SurplusSignature { party: Party::Node });
        }
        signed.verify_by(Party::Client)?;
        Ok(Self::Withdrawn(Withdrawal { signed }))
    }

    pub(super) const fn signed(&self) -> &Signed {
        match self {
            Self::Announced(announcement) => &announcement.signed,
            Self::Withdrawn(withdrawal) => &withdrawal.signed,
        }
    }

    /// The key of the record.
    pub const fn key(&self) -> &PresenceKey {
        &self.signed().key
    }

    /// The node.
    pub fn node(&self) -> PeerId {
        self.signed().node()
    }

    /// When the client created the entry.
    pub const fn created_at(&self) -> Timestamp {
        self.signed().message.created_at
    }

    /// Until when replicas keep it.
    pub const fn retain_until(&self) -> Timestamp {
        self.signed().message.retain_until
    }
}

impl From<Announcement> for PresenceEntry {
    fn from(announcement: Announcement) -> Self {
        Self::Announced(announcement)
    }
}

impl From<Withdrawal> for PresenceEntry {
    fn from(withdrawal: Withdrawal) -> Self {
        Self::Withdrawn(withdrawal)
    }
}

/// A client's signed statement that it is no longer present at a node.
///
/// Only the client signs it: the key is the client's, and the node may be unreachable. If a node
/// could withdraw alone, it could fill the client's record with withdrawals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    pub(super) signed: Signed,
}

impl Withdrawal {
    /// Signs a withdrawal of all announcements at `node` before `created_at`, which replicas keep
    /// until `retain_until`. It has to be kept as long as the announcements that it hides:
    /// [`Announcer::withdraw`](super::Announcer::withdraw) ensures that.
    ///
    /// # Errors
    /// [`AnnounceError`] if replicas would refuse the withdrawal, or the key cannot sign.
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

    /// The encoded `SignedAnnouncement`, which is `Value.value` in a record.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// The node.
    pub fn node(&self) -> PeerId {
        self.signed.node()
    }

    /// When the client created the withdrawal. It hides earlier announcements at the node.
    pub const fn created_at(&self) -> Timestamp {
        self.signed.message.created_at
    }

    /// Until when replicas keep it.
    pub const fn retain_until(&self) -> Timestamp {
        self.signed.message.retain_until
    }
}
