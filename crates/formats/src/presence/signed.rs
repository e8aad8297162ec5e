//! A presence message with its signatures.
//!
//! **Spec.** `proto/presence.proto`, messages `Value` and `SignedAnnouncement`.

use std::{cmp::Reverse, time::Duration};

use libp2p_identity::PeerId;
use prost::{Message as _, bytes::Bytes};

use super::{
    Party, PresenceError, PresenceKey, PresenceLimits,
    message::{Message, SIGNATURE_OVER_KEY, date, weight},
};
use crate::proto::presence as proto;
use smart_record_core::{Limit, ProtobufError, Timestamp, verification_work};

/// A message with its signatures, which are not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) key: PresenceKey,
    pub(super) message: Message,
    pub(super) client_signature: Bytes,
    /// Empty if there is none.
    pub(super) node_signature: Bytes,
}

impl Signed {
    /// Decodes a message with its signatures and checks everything except the signatures and the
    /// time.
    pub(super) fn decode(
        key: &PresenceKey,
        bytes: Bytes,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        limits.check_key(key)?;
        PresenceLimits::ANNOUNCEMENT_BYTES.check(bytes.len(), limits.announcement_bytes())?;
        let wire = proto::SignedAnnouncement::decode(bytes.clone()).map_err(ProtobufError::new)?;
        if wire.encode_to_vec() != bytes {
            return Err(PresenceError::NotCanonical);
        }
        let message = Message::decode(key, wire.message, limits)?;
        for (party, signature) in
            [(&message.client, &wire.client_signature), (&message.node, &wire.node_signature)]
        {
            let max = party.as_bytes().len().saturating_add(SIGNATURE_OVER_KEY);
            Limit::SIGNATURE_BYTES.check(signature.len(), max)?;
        }
        if wire.client_signature.is_empty() {
            return Err(PresenceError::MissingSignature { missing: Party::Client });
        }
        Ok(Self {
            key: key.clone(),
            message,
            client_signature: wire.client_signature,
            node_signature: wire.node_signature,
        })
    }

    /// Decodes a value of a record, as [`Signed::decode`], and checks that the unsigned fields
    /// equal the signed ones.
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

    /// The position among the messages of the node. The later message is the greater.
    pub(super) const fn position(&self) -> (Timestamp, [u8; 32]) {
        (self.message.created_at, self.message.hash)
    }

    /// The position, then the signatures in reverse: of the same message with different signatures,
    /// the one with the lesser signatures is the greater. For some key types each signature
    /// differs.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let signatures = (self.client_signature.clone(), self.node_signature.clone());
        (self.position(), Reverse(signatures))
    }

    /// The work of verifying its signatures.
    pub(super) fn signature_work(&self) -> Duration {
        let signed = [
            (&self.message.client, &self.client_signature, Party::Client),
            (&self.message.node, &self.node_signature, Party::Node),
        ];
        let signed = signed.into_iter().filter(|(_, signature, _)| !signature.is_empty());
        signed.fold(Duration::ZERO, |work, (signer, _, party)| {
            let bytes = self.message.envelope(&self.key, party).len();
            work.saturating_add(verification_work(signer.as_bytes(), bytes))
        })
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
}
