//! The namespace `pk`: public keys of peers, for peer ids that contain only the hash of the key.
//!
//! **Invariants.** At most one value is valid under a key: the canonical encoding of the public
//! key.
//!
//! **Spec.** [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/pubkey.go),
//! which also accepts encodings that are not canonical; [peer
//! ids](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md), which requires the
//! canonical one.

use bytes::Bytes;
use libp2p_identity::PublicKey;

use smart_record_core::{
    Malformed, RecordKey, Timestamp, ValidationError, Validator, Validity, Writer,
    peer_id_from_bytes,
};

/// The namespace of public keys.
pub const NAMESPACE: &str = "pk";

/// Validates public keys under `/pk/<peer id>`.
///
/// The path is the peer id's bytes, not its text. The value is the protobuf-encoded public key of
/// that peer id, of any key type of libp2p. A public key does not expire.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_formats::pk::PublicKeyValidator;
/// use smart_record_core::{Timestamp, Validator};
///
/// let public = Keypair::generate_ecdsa().public();
/// let key = PublicKeyValidator::key(&public);
/// PublicKeyValidator.validate(&key, &public.encode_protobuf(), Timestamp::EPOCH)?;
/// # Ok::<(), smart_record_core::ValidationError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct PublicKeyValidator;

impl PublicKeyValidator {
    /// The key of a public key in the DHT.
    pub fn key(public_key: &PublicKey) -> RecordKey {
        let mut key = format!("/{}/", NAMESPACE).into_bytes();
        key.extend(public_key.to_peer_id().to_bytes());
        RecordKey::new(key)
    }

    fn check(key: &RecordKey, value: &[u8]) -> Result<(), ValidationError> {
        if key.namespace() != Some(NAMESPACE) {
            return Err(Malformed::other("not a key of a public key").into());
        }
        let owner = Writer::decode(Bytes::copy_from_slice(value))?.peer_id();
        if owner.to_bytes() != key.path() {
            return Err(ValidationError::Invalid(format!("the public key is that of {owner}")));
        }
        Ok(())
    }
}

impl Validator for PublicKeyValidator {
    fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        let is_key = key.namespace() == Some(NAMESPACE) && peer_id_from_bytes(key.path()).is_some();
        is_key.then_some(()).ok_or_else(|| {
            Malformed::other(format!(
                "{key} is not the key of a public key, which is /pk/ and the bytes, not the text, of a peer id: \
                 see PublicKeyValidator::key"
            ))
            .into()
        })
    }

    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        Self::check(key, value).map(|()| Validity::forever())
    }

    /// Selects the first valid value: all valid values are equal.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        let mut first_error = None;
        for (index, value) in values.iter().enumerate() {
            match Self::check(key, value) {
                Ok(()) => return Ok(index),
                Err(error) => first_error.get_or_insert(error),
            };
        }
        Err(first_error.unwrap_or(ValidationError::NoValue))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}
