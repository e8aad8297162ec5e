//! Writers and their signatures.
//!
//! **Invariants.** A [`Writer`] holds the one canonical encoding of a public key, so one key is one
//! writer. The result of a signature check does not depend on the machine or on other signatures,
//! nor on whether it is verified alone or with others.
//!
//! **Spec.** `docs/wire.md`, section "Which signatures are good"; [Peer ids and
//! keys](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md),
//! [RFC 0002, signed
//! envelopes](https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md).

use std::{borrow::Borrow, fmt, time::Duration};

use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};
use libp2p_identity::{PeerId, PublicKey};
use prost::encoding::decode_varint;
use sha2::{Digest, Sha256};

use super::limits::{Limit, LimitExceeded};
use crate::{
    ed25519::Equation,
    key::RecordKey,
    signatures::{self, Claim, times},
};

/// The RFC 0002 domain of signatures.
pub const SIGNATURE_DOMAIN: &str = "libp2p-smart-record";
/// The RFC 0002 payload type of a signed update.
pub const SIGNATURE_PAYLOAD_TYPE: &[u8] = b"/libp2p-smart-record/update";

/// The maximum length of a public key. A protobuf-encoded RSA key of 8,192 bits, the largest in
/// libp2p, has about 1,070 bytes.
pub const MAX_PUBLIC_KEY_BYTES: usize = 1_152;
/// The maximum length of a signature: that of an RSA key of 8,192 bits.
pub const MAX_SIGNATURE_BYTES: usize = 1_024;

/// The libp2p key types by number, and whether this build supports them.
const KEY_TYPES: [(&str, bool); 4] = [
    ("RSA", cfg!(feature = "rsa")),
    ("Ed25519", true),
    ("secp256k1", cfg!(feature = "secp256k1")),
    ("ECDSA", cfg!(feature = "ecdsa")),
];
/// The work of verifying a signature, decoding the key included, by the numbers of the key types.
/// In the time of a [reference core](crate::SignatureMemory); `benches/ratios` measures it.
const ED25519_WORK: Duration = Duration::from_micros(50);
/// The same for an Ed25519 signature that is verified together with others, but the first of these.
const ED25519_TOGETHER_WORK: Duration = Duration::from_micros(25);
const SECP256K1_WORK: Duration = Duration::from_micros(110);
const ECDSA_WORK: Duration = Duration::from_micros(330);
/// For the square of the modulus in units of 1,024 bits: 32 µs for 2,048 bits, 128 µs for 4,096.
const RSA_WORK: Duration = Duration::from_micros(8);
/// The work of decoding a key that is not Ed25519, without verifying anything.
const DECODING_WORK: Duration = Duration::from_micros(10);
/// The work of hashing a byte that is signed.
const MESSAGE_BYTE: Duration = Duration::from_nanos(4);

/// The rules of verification. They differ for Ed25519.
const RULE: &str = "";
const STRICT_RULE: &str = "strict";

/// The tags of the type field and the data field of an encoded public key.
const KEY_TYPE_TAG: u8 = 0x08;
const KEY_DATA_TAG: u8 = 0x12;
/// The prefix of a protobuf-encoded Ed25519 key: type 1, then the length of its 32 bytes.
const ED25519_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// The peer that signs the updates of a space: its public key, protobuf-encoded.
///
/// Writers are ordered by the encoded key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer(Bytes);

/// Why bytes are not a writer's public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The key is too long.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// A public key of a type that libp2p does not define, or that this build does not support.
    #[error("a public key of type {}, which is not supported", type_name(*.0))]
    Unsupported(u64),
    /// Not a public key of the stated type.
    #[error("not a libp2p public key: {0}")]
    Key(String),
    /// A public key that is not in its canonical encoding.
    #[error("not the canonical encoding of a public key")]
    NotCanonical,
}

/// The signature does not match the writer, the key of the record and the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not the writer's for this key and update")]
pub struct BadSignature;

impl Writer {
    /// The writer with this protobuf-encoded public key.
    ///
    /// # Errors
    /// [`WriterError`]. Whether an Ed25519 key is a point on the curve is not checked here, but
    /// when a signature is verified.
    pub fn decode(encoded: Bytes) -> Result<Self, WriterError> {
        Limit::PUBLIC_KEY_BYTES.check(encoded.len(), MAX_PUBLIC_KEY_BYTES)?;
        if let Some(key) = ed25519_key(&encoded) {
            return if is_reduced(key) {
                Ok(Self(encoded))
            } else {
                Err(WriterError::NotCanonical)
            };
        }
        if let Some(key_type) = key_type(&encoded)
            && !is_supported(key_type)
        {
            return Err(WriterError::Unsupported(key_type));
        }
        signatures::spend(DECODING_WORK);
        let key = PublicKey::try_decode_protobuf(&encoded)
            .map_err(|e| WriterError::Key(e.to_string()))?;
        if key.encode_protobuf() != encoded {
            return Err(WriterError::NotCanonical);
        }
        Ok(Self(encoded))
    }

    /// The protobuf-encoded public key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The protobuf-encoded public key, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The peer id of the writer.
    pub fn peer_id(&self) -> PeerId {
        // The peer id of a key of up to 42 bytes is the key itself, that of a longer one its hash.
        let multihash = match u8::try_from(self.0.len()) {
            Ok(len @ ..=42) => [&[0x00, len], &self.0[..]].concat(),
            _ => [&[0x12, 0x20], &Sha256::digest(&self.0)[..]].concat(),
        };
        #[expect(
            clippy::expect_used,
            reason = "an identity multihash of at most 42 bytes and a SHA-256 one are what peer ids are"
        )]
        PeerId::from_bytes(&multihash).expect("a peer id")
    }

    /// The writer with this peer id. `None` if the peer id is a hash of the key and not the key
    /// itself.
    pub fn of_peer(peer: &PeerId) -> Option<Self> {
        match peer.to_bytes().split_first_chunk::<2>()? {
            ([0x00, _], key) => Self::decode(Bytes::copy_from_slice(key)).ok(),
            _ => None,
        }
    }

    /// The rank of the writer's space under a key: `sha256(key ‖ writer)`. Replicas use it to
    /// choose the same spaces when a record has too many.
    pub fn rank(&self, key: &RecordKey) -> [u8; 32] {
        Self::rank_of(&self.0, key)
    }

    /// The rank of a space with this public key, which may be invalid.
    pub fn rank_of(public_key: &[u8], key: &RecordKey) -> [u8; 32] {
        Sha256::new().chain_update(key.as_bytes()).chain_update(public_key).finalize().into()
    }

    /// Checks the writer's signature of `update` under `key`.
    pub fn verify(
        &self,
        key: &RecordKey,
        update: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        self.verify_for(UPDATE, key, update, signature)
    }

    /// Checks the writer's signature of `body` under `key`, made for `purpose`.
    pub fn verify_for(
        &self,
        purpose: Purpose,
        key: &RecordKey,
        body: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        self.verify_bytes(&purpose.signed_bytes(key, body), signature)
    }

    /// Checks the writer's signature of bytes that begin with a domain, which separates them from
    /// other uses.
    pub fn verify_bytes(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_by(RULE, message, signature, |key| {
            Equation::new(key, message, signature).is_some_and(|equation| equation.holds())
        })
    }

    /// As [`verify_bytes`](Self::verify_bytes), for formats of others. What most implementations of
    /// Ed25519 refuse is refused: the equation must hold without the cofactor, and neither `R` nor
    /// the key may be of small order.
    pub fn verify_bytes_strictly(
        &self,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        self.verify_by(STRICT_RULE, message, signature, |key| {
            VerifyingKey::from_bytes(key).is_ok_and(|key| {
                let signature = Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            })
        })
    }

    /// Verifies a signature: of Ed25519 as `ed25519` does, which gets the key.
    fn verify_by(
        &self,
        rule: &str,
        message: &[u8],
        signature: &[u8],
        ed25519: impl FnOnce(&[u8; 32]) -> bool,
    ) -> Result<(), BadSignature> {
        let claim = Claim { rule, ..self.claim(message, signature) };
        claim.check(verification_work(&self.0, message.len()), || {
            let is_good = match ed25519_key(&self.0) {
                Some(key) => ed25519(key),
                None => PublicKey::try_decode_protobuf(&self.0)
                    .is_ok_and(|key| key.verify(message, signature)),
            };
            is_good.then_some(()).ok_or(BadSignature)
        })
    }

    /// The key, if it is of Ed25519.
    pub(crate) fn ed25519(&self) -> Option<&[u8; 32]> {
        ed25519_key(&self.0)
    }

    /// A signature to be looked up in the memory of good ones.
    pub(crate) fn claim<'a>(&'a self, message: &'a [u8], signature: &'a [u8]) -> Claim<'a> {
        Claim { rule: RULE, public_key: &self.0, message, signature }
    }
}

/// The work of verifying an Ed25519 signature of `message_bytes` together with `others` before it.
pub(crate) fn work_together(others: usize, message_bytes: usize) -> Duration {
    let of_signature = if others == 0 { ED25519_WORK } else { ED25519_TOGETHER_WORK };
    of_signature.saturating_add(times(MESSAGE_BYTE, message_bytes))
}

/// The work of verifying a signature of `message_bytes` by a protobuf-encoded public key, which may
/// be invalid, in the time of a reference core: one on which an Ed25519 signature takes 50 µs. None
/// for a key that is refused before it is decoded.
pub fn verification_work(public_key: &[u8], message_bytes: usize) -> Duration {
    let of_type = match decodable_type(public_key) {
        None => return Duration::ZERO,
        Some(0) => {
            // The key is little longer than its modulus.
            let kibits = (public_key.len() / 128).max(1);
            times(RSA_WORK, kibits.saturating_mul(kibits))
        }
        Some(2) => SECP256K1_WORK,
        Some(3) => ECDSA_WORK,
        _ => ED25519_WORK,
    };
    of_type.saturating_add(times(MESSAGE_BYTE, message_bytes))
}

/// The work of decoding a protobuf-encoded public key, which may be invalid.
pub(super) fn decoding_work(public_key: &[u8]) -> Duration {
    match decodable_type(public_key) {
        None => Duration::ZERO,
        Some(_) if ed25519_key(public_key).is_some() => Duration::ZERO,
        Some(_) => DECODING_WORK,
    }
}

/// The type of a key that is not refused before it is decoded.
fn decodable_type(public_key: &[u8]) -> Option<u64> {
    let is_short = public_key.len() <= MAX_PUBLIC_KEY_BYTES;
    key_type(public_key).filter(|key_type| is_short && is_supported(*key_type))
}

/// Checks the length of a signature.
///
/// # Errors
/// [`LimitExceeded`] of [`Limit::SIGNATURE_BYTES`].
pub fn check_signature_len(signature: &[u8]) -> Result<(), LimitExceeded> {
    Limit::SIGNATURE_BYTES.check(signature.len(), MAX_SIGNATURE_BYTES)
}

fn ed25519_key(encoded: &[u8]) -> Option<&[u8; 32]> {
    encoded.strip_prefix(&ED25519_PREFIX)?.try_into().ok()
}

/// The number of the type of an encoded key. The data must have the stated length and is not
/// checked otherwise.
fn key_type(encoded: &[u8]) -> Option<u64> {
    let mut rest = encoded.strip_prefix(&[KEY_TYPE_TAG])?;
    let key_type = decode_varint(&mut rest).ok()?;
    let mut data = rest.strip_prefix(&[KEY_DATA_TAG])?;
    let data_len = decode_varint(&mut data).ok()?;
    (len(data) == data_len).then_some(key_type)
}

/// Whether this build supports keys of the type. Checked before a key is decoded: libp2p-identity
/// reports a disabled type as a decoding error, and accepts it if another crate enables the type.
fn is_supported(key_type: u64) -> bool {
    known_type(key_type).is_some_and(|(_, is_there)| *is_there)
}

fn type_name(key_type: u64) -> String {
    known_type(key_type).map_or_else(|| key_type.to_string(), |(name, _)| (*name).to_owned())
}

fn known_type(key_type: u64) -> Option<&'static (&'static str, bool)> {
    KEY_TYPES.get(usize::try_from(key_type).ok()?)
}

/// Whether the y coordinate is below the field's prime 2^255 - 19, its only canonical form.
fn is_reduced(point: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = point;
    !(*first >= 0xed && middle.iter().all(|b| *b == 0xff) && last & 0x7f == 0x7f)
}

/// The purpose of a signature, as in RFC 0002. A signature for one purpose is invalid for any
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Separates the signatures of one protocol from all others.
    pub domain: &'static str,
    /// The type of the payload.
    pub payload_type: &'static [u8],
}

/// The purpose of signed updates of smart records.
const UPDATE: Purpose = Purpose { domain: SIGNATURE_DOMAIN, payload_type: SIGNATURE_PAYLOAD_TYPE };

impl Purpose {
    /// The bytes that a writer signs: an RFC 0002 envelope whose payload includes the key.
    pub fn signed_bytes(self, key: &RecordKey, body: &[u8]) -> Vec<u8> {
        let key = key.as_bytes();
        let mut key_len = Vec::with_capacity(2);
        prost::encoding::encode_varint(len(key), &mut key_len);
        envelope_bytes(self.domain, self.payload_type, &[&key_len, key, body])
    }
}

/// The bytes that a writer signs for an update.
pub(crate) fn signed_bytes(key: &RecordKey, update: &[u8]) -> Vec<u8> {
    UPDATE.signed_bytes(key, update)
}

/// The signed bytes of an RFC 0002 envelope whose payload is the concatenation of these parts.
pub fn envelope_bytes(domain: &str, payload_type: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let payload_len = payload.iter().fold(0_u64, |sum, part| sum.saturating_add(len(part)));
    let mut message =
        Vec::with_capacity(usize::try_from(payload_len).unwrap_or_default().saturating_add(64));
    for part in [domain.as_bytes(), payload_type] {
        prost::encoding::encode_varint(len(part), &mut message);
        message.extend_from_slice(part);
    }
    prost::encoding::encode_varint(payload_len, &mut message);
    for part in payload {
        message.extend_from_slice(part);
    }
    message
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl From<&PublicKey> for Writer {
    fn from(key: &PublicKey) -> Self {
        Self(key.encode_protobuf().into())
    }
}

/// A writer is found by its encoded public key, without decoding it.
impl Borrow<[u8]> for Writer {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Prints the peer id.
impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", self.peer_id())
    }
}

impl fmt::Display for Writer {
    /// The peer id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer_id().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "ecdsa", feature = "secp256k1"))]
    #[test]
    fn the_peer_id_is_libp2p_s() {
        use libp2p_identity::Keypair;

        for keypair in
            [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()]
        {
            let key = keypair.public();
            let writer = Writer::decode(key.encode_protobuf().into()).unwrap();
            assert_eq!(writer.peer_id(), key.to_peer_id());
        }
    }

    #[test]
    fn a_type_that_is_not_there_is_told_from_a_key_that_is_damaged() {
        for (key_type, name, is_there) in [
            (0, "RSA", cfg!(feature = "rsa")),
            (1, "Ed25519", true),
            (2, "secp256k1", cfg!(feature = "secp256k1")),
            (3, "ECDSA", cfg!(feature = "ecdsa")),
            (4, "4", false),
            (127, "127", false),
        ] {
            let error = Writer::decode(vec![0x08, key_type, 0x12, 0x01, 0x01].into()).unwrap_err();
            assert_eq!(matches!(error, WriterError::Key(_)), is_there, "{error}");
            if !is_there {
                assert_eq!(error, WriterError::Unsupported(key_type.into()));
                assert!(error.to_string().contains(&format!("type {name},")), "{error}");
            }
        }
        let long = Writer::decode(vec![0x08, 0xac, 0x02, 0x12, 0x00].into());
        assert_eq!(long, Err(WriterError::Unsupported(300)));
        let garbage = [8; 40];
        let cut = [0x08, 0x04, 0x12, 0x02, 0x01];
        for no_type in
            [&[][..], &[0x08], &[0x12, 0x00], &[0x08, 0x80], &[0x08, 0x04], &garbage, &cut]
        {
            let error = Writer::decode(Bytes::copy_from_slice(no_type)).unwrap_err();
            assert!(matches!(error, WriterError::Key(_)), "{error}");
        }
    }

    #[test]
    fn only_reduced_points_are_canonical() {
        let mut prime = [0xff_u8; 32];
        prime[0] = 0xed;
        prime[31] = 0x7f;
        let mut below = prime;
        below[0] = 0xec;
        let mut above = prime;
        above[0] = 0xee;
        let mut signed = prime;
        signed[31] = 0xff;
        for (point, reduced) in [(below, true), (prime, false), (above, false), (signed, false)] {
            assert_eq!(is_reduced(&point), reduced);
            let encoded = [&ED25519_PREFIX[..], &point].concat();
            assert_eq!(Writer::decode(encoded.into()).is_ok(), reduced);
        }
    }
}
