//! The stages of an announcement: offered, half signed, signed.
//!
//! The client signs first, then the node. So a node signs only for a client that has asked for it,
//! and sees everything that it vouches for, including the client's signature. A node gains nothing
//! by completing a half-signed announcement later: the dates are the client's, and everything that
//! the client has signed since, such as a withdrawal, is newer and kept at least as long.
//!
//! **Invariants.** A [`ClientSignedAnnouncement`] has a good signature of the client, an
//! [`Announcement`] of both parties, for the key that it was made or read under.
//!
//! **Spec.** `proto/presence.proto`, message `SignedAnnouncement`.

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{
    AnnounceError, ExchangeKey, Party, PresenceError, PresenceKey, PresenceLimits,
    message::{Draft, Keys, Message},
    signed::Signed,
};
use smart_record_core::{Timestamp, Writer};

/// An unsigned announcement.
///
/// Most clients use an [`Announcer`](super::Announcer), which sets the dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncementOffer {
    /// The node where the client is present.
    pub node: Writer,
    /// The node's X25519 public key.
    pub handshake_key: ExchangeKey,
    /// The client's X25519 public key.
    pub presence_key: ExchangeKey,
    /// The time of the client's clock; greater than in everything that it has signed before.
    pub created_at: Timestamp,
    /// The end of the client's presence; after `created_at`.
    pub expires_at: Timestamp,
    /// Until when replicas keep the announcement; at least `expires_at`. A client must never
    /// decrease it, or earlier announcements that it has withdrawn or renewed may reappear.
    pub retain_until: Timestamp,
}

impl AnnouncementOffer {
    /// Signs the offer as the client. `client` is the keypair, of any libp2p type, of the client in
    /// `key`.
    ///
    /// # Errors
    /// [`AnnounceError`] if replicas would refuse the announcement, or the key cannot sign.
    pub fn sign(
        &self,
        key: &PresenceKey,
        client: &Keypair,
        limits: &PresenceLimits,
    ) -> Result<ClientSignedAnnouncement, AnnounceError> {
        limits.check_key(key).map_err(PresenceError::from)?;
        let keys = Keys { handshake: self.handshake_key, presence: self.presence_key };
        let draft = Draft {
            node: &self.node,
            client: &Writer::from(&client.public()),
            keys: Some(keys),
            created_at: self.created_at,
            expires_at: self.expires_at,
            retain_until: self.retain_until,
        };
        let message = Message::decode(key, draft.encode(), limits)?;
        let signature = client.sign(&message.envelope(key, Party::Client))?;
        let signed = Signed {
            key: key.clone(),
            message,
            client_signature: signature.into(),
            node_signature: Bytes::new(),
        };
        Ok(ClientSignedAnnouncement { signed, keys })
    }
}

/// An announcement that the client has signed and the node has not. It cannot be part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSignedAnnouncement {
    signed: Signed,
    keys: Keys,
}

impl ClientSignedAnnouncement {
    /// Decodes an announcement from a client and checks everything that does not depend on the
    /// time.
    ///
    /// # Errors
    /// [`PresenceError`]; [`PresenceError::SurplusSignature`] if the node has signed already.
    pub fn decode(
        key: &PresenceKey,
        bytes: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        let signed = Signed::decode(key, bytes.into(), limits)?;
        let keys = signed.message.keys.ok_or(PresenceError::Kind)?;
        if !signed.node_signature.is_empty() {
            return Err(PresenceError::SurplusSignature { party: Party::Node });
        }
        signed.verify_by(Party::Client)?;
        Ok(Self { signed, keys })
    }

    /// Signs as the node, after checking that the announcement is for this node, has its handshake
    /// key, and would be admitted by replicas at `now`. It does not check whether the node wants to
    /// host this client for this long: decide that before the call.
    ///
    /// # Errors
    /// [`AnnounceError`] if a check fails, or the key cannot sign.
    pub fn countersign(
        self,
        node: &Keypair,
        handshake_key: ExchangeKey,
        now: Timestamp,
        limits: &PresenceLimits,
    ) -> Result<Announcement, AnnounceError> {
        let Self { mut signed, keys } = self;
        let identity = Writer::from(&node.public());
        if signed.message.node != identity {
            return Err(PresenceError::OtherParty {
                party: Party::Node,
                named: Box::new(signed.node()),
                expected: Box::new(identity.peer_id()),
            }
            .into());
        }
        if keys.handshake != handshake_key {
            return Err(AnnounceError::HandshakeKey);
        }
        // It may have been made or decoded with other limits.
        limits.check_key(&signed.key).map_err(PresenceError::from)?;
        signed.message = Message::decode(&signed.key, signed.message.bytes, limits)?;
        signed.message.check_lead(now, limits)?;
        let expired_at = signed.message.expires_at;
        if expired_at <= now {
            return Err(PresenceError::Expired { expired_at }.into());
        }
        signed.node_signature =
            node.sign(&signed.message.envelope(&signed.key, Party::Node))?.into();
        Ok(Announcement { signed, keys })
    }
}

/// An announcement that both client and node have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    pub(super) signed: Signed,
    keys: Keys,
}

impl Announcement {
    /// Decodes an announcement and checks everything that does not depend on the time.
    ///
    /// # Errors
    /// [`PresenceError`]; [`PresenceError::Kind`] if it is a withdrawal.
    pub fn decode(
        key: &PresenceKey,
        bytes: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        Self::verify(Signed::decode(key, bytes.into(), limits)?)
    }

    /// Verifies both signatures.
    pub(super) fn verify(signed: Signed) -> Result<Self, PresenceError> {
        let keys = signed.message.keys.ok_or(PresenceError::Kind)?;
        if signed.node_signature.is_empty() {
            return Err(PresenceError::MissingSignature { missing: Party::Node });
        }
        signed.verify_by(Party::Client)?;
        signed.verify_by(Party::Node)?;
        Ok(Self { signed, keys })
    }

    /// Whether this is `half` with the node's signature added.
    pub fn completes(&self, half: &ClientSignedAnnouncement) -> bool {
        self.signed.key == half.signed.key && self.signed.message.bytes == half.signed.message.bytes
    }
}

macro_rules! accessors {
    ($($type:ty),*) => {
        $(impl $type {
            /// The encoded `SignedAnnouncement`.
            pub fn encode(&self) -> Vec<u8> {
                self.signed.encode()
            }

            /// The key that it was signed for.
            pub const fn key(&self) -> &PresenceKey {
                &self.signed.key
            }

            /// The client.
            pub fn client(&self) -> PeerId {
                self.signed.message.client.peer_id()
            }

            /// The node.
            pub fn node(&self) -> PeerId {
                self.signed.node()
            }

            /// The public key of the node.
            pub const fn node_identity(&self) -> &Writer {
                &self.signed.message.node
            }

            /// The node's X25519 public key, for handshakes with it.
            pub const fn handshake_key(&self) -> ExchangeKey {
                self.keys.handshake
            }

            /// The client's X25519 public key, for communication with it through the node.
            pub const fn presence_key(&self) -> ExchangeKey {
                self.keys.presence
            }

            /// The time of the client's clock when it signed.
            pub const fn created_at(&self) -> Timestamp {
                self.signed.message.created_at
            }

            /// The end of the client's presence.
            pub const fn expires_at(&self) -> Timestamp {
                self.signed.message.expires_at
            }

            /// Until when replicas keep it.
            pub const fn retain_until(&self) -> Timestamp {
                self.signed.message.retain_until
            }
        })*
    };
}

accessors!(ClientSignedAnnouncement, Announcement);
