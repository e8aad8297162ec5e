//! X25519 public keys.
//!
//! **Invariants.** An [`ExchangeKey`] is not of low order. With a key of low order, every secret
//! gives the shared secret zero, which everyone knows.
//!
//! **Spec.** [RFC 7748](https://www.rfc-editor.org/rfc/rfc7748#section-6.1), section 6.1.

use x25519_dalek::{PublicKey, x25519};

/// An X25519 public key, for two peers to agree on a secret.
///
/// It converts from and to a [`x25519_dalek::PublicKey`].
///
/// ```
/// use smart_record_formats::presence::{ExchangeKey, ExchangeKeyError};
///
/// assert!(ExchangeKey::try_from([9; 32]).is_ok());
/// assert_eq!(ExchangeKey::try_from([0; 32]), Err(ExchangeKeyError::LowOrder));
/// ```
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct ExchangeKey([u8; 32]);

/// Why bytes are not a usable X25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeKeyError {
    /// The length is not 32 bytes.
    #[error("an X25519 public key of {got} bytes, not 32")]
    Length {
        /// The length in bytes.
        got: usize,
    },
    /// The key is a point of low order, with which every secret gives the same shared secret.
    #[error("an X25519 public key of low order")]
    LowOrder,
}

impl ExchangeKey {
    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<[u8; 32]> for ExchangeKey {
    type Error = ExchangeKeyError;

    fn try_from(bytes: [u8; 32]) -> Result<Self, ExchangeKeyError> {
        // Every secret is a multiple of the cofactor, so it maps exactly the points of low order to
        // zero.
        if x25519([0; 32], bytes) == [0; 32] {
            return Err(ExchangeKeyError::LowOrder);
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for ExchangeKey {
    type Error = ExchangeKeyError;

    fn try_from(bytes: &[u8]) -> Result<Self, ExchangeKeyError> {
        let length = ExchangeKeyError::Length { got: bytes.len() };
        <[u8; 32]>::try_from(bytes).map_err(|_| length)?.try_into()
    }
}

impl TryFrom<PublicKey> for ExchangeKey {
    type Error = ExchangeKeyError;

    fn try_from(key: PublicKey) -> Result<Self, ExchangeKeyError> {
        key.to_bytes().try_into()
    }
}

impl From<ExchangeKey> for PublicKey {
    fn from(key: ExchangeKey) -> Self {
        key.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The u coordinates of the points of order 1, 2, 4 and 8, of the curve and its twist, and
    /// those of them that have a second encoding; little-endian.
    const LOW_ORDER: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    #[test]
    fn points_of_low_order_are_refused_in_every_encoding() {
        for hex in LOW_ORDER {
            let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
            let mut bytes: [u8; 32] = std::array::from_fn(byte);
            assert_eq!(ExchangeKey::try_from(bytes), Err(ExchangeKeyError::LowOrder), "{hex}");
            // The highest bit is ignored.
            bytes[31] |= 0x80;
            assert_eq!(ExchangeKey::try_from(bytes), Err(ExchangeKeyError::LowOrder), "{hex}");
            // Their neighbours are fine.
            bytes[0] ^= 0x10;
            assert!(ExchangeKey::try_from(bytes).is_ok(), "{hex}");
        }
    }

    #[test]
    fn a_key_has_32_bytes() {
        for got in [0, 31, 33] {
            let error = ExchangeKeyError::Length { got };
            assert_eq!(ExchangeKey::try_from(&vec![9; got][..]), Err(error));
        }
        assert!(ExchangeKey::try_from(&[9; 32][..]).is_ok());
    }
}
