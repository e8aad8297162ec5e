//! Formats of key files: libp2p's, which kubo exports as well, and PEM.
//!
//! **Invariants.** Pure. A key of each type that libp2p knows is read from either format.
//!
//! **Spec.** [Private keys](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys)
//! of libp2p; PKCS #8 ([RFC 5958](https://www.rfc-editor.org/rfc/rfc5958)), with Ed25519 as in
//! [RFC 8410](https://www.rfc-editor.org/rfc/rfc8410#section-7) and elliptic curves as in
//! [RFC 5915](https://www.rfc-editor.org/rfc/rfc5915).

use std::fmt::Display;

use libp2p::identity::{DecodingError, Keypair, ecdsa, secp256k1};
use libp2p_smart_record::printable;
use pkcs8::{
    ObjectIdentifier, PrivateKeyInfoRef, SecretDocument,
    der::{Decode, asn1::OctetStringRef},
};
use sec1::EcPrivateKey;

/// The label of a key in PKCS #8 that is not encrypted.
const LABEL: &str = "PRIVATE KEY";
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");

/// Why bytes are not a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFormatError {
    #[error("it is empty")]
    Empty,
    #[error("neither a private key of libp2p nor PEM")]
    Unknown,
    #[error("a block of {}, not of {LABEL}", printable(.0))]
    Label(String),
    #[error("not valid PKCS #8: {}", printable(.0))]
    Pkcs8(String),
    #[error("a key of type {0}, which libp2p does not have")]
    Type(ObjectIdentifier),
    #[error(transparent)]
    Key(#[from] DecodingError),
}

impl KeyFormatError {
    /// What to do about the file.
    pub fn hint(&self, file: &str) -> String {
        match self {
            // Also an encrypted key: openssl asks for its password.
            Self::Label(label) if label.ends_with(LABEL) => {
                format!("convert it with `openssl pkcs8 -topk8 -nocrypt -in {file}`")
            }
            _ => format!(
                "give a key from `smart-record key generate FILE` or `ipfs key export`, or one in PEM \
                 (PKCS #8) of type Ed25519, RSA, secp256k1 or P-256, instead of {file}"
            ),
        }
    }
}

/// Reads a private key in any format.
pub fn decode(bytes: &[u8]) -> Result<Keypair, KeyFormatError> {
    match std::str::from_utf8(bytes) {
        Ok("") => Err(KeyFormatError::Empty),
        Ok(text) if text.contains("-----BEGIN ") => pem(text),
        _ => Keypair::from_protobuf_encoding(bytes).map_err(|_| KeyFormatError::Unknown),
    }
}

fn invalid(error: impl Display) -> KeyFormatError {
    KeyFormatError::Pkcs8(error.to_string())
}

fn pem(text: &str) -> Result<Keypair, KeyFormatError> {
    let (label, document) = SecretDocument::from_pem(text).map_err(invalid)?;
    if label != LABEL {
        return Err(KeyFormatError::Label(label.to_owned()));
    }
    let key = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(invalid)?;
    let private = key.private_key.as_bytes();
    match key.algorithm.oid {
        ED25519 => {
            let seed = <&OctetStringRef>::from_der(private).map_err(invalid)?.as_bytes().to_vec();
            Ok(Keypair::ed25519_from_bytes(seed)?)
        }
        RSA => Ok(Keypair::rsa_from_pkcs8(&mut document.as_bytes().to_vec())?),
        ELLIPTIC_CURVE => {
            let scalar = EcPrivateKey::try_from(private).map_err(invalid)?.private_key;
            match key.algorithm.parameters_oid().map_err(invalid)? {
                P256 => {
                    let key = ecdsa::SecretKey::try_from_bytes(scalar)?;
                    Ok(ecdsa::Keypair::from(key).into())
                }
                SECP256K1 => {
                    let key = secp256k1::SecretKey::try_from_bytes(scalar.to_vec())?;
                    Ok(secp256k1::Keypair::from(key).into())
                }
                other => Err(KeyFormatError::Type(other)),
            }
        }
        other => Err(KeyFormatError::Type(other)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pkcs8::LineEnding;
    use smart_record_testing::keys;

    use super::*;

    // Made with openssl, from the secrets of the keys of the tests.
    const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n\
        -----END PRIVATE KEY-----\n";
    const P256_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBQUFBQUFBQUFBQUF\n\
        BQUFBQUFBQUFBQUFBQUFBQUFBQWhRANCAAQHgQ6pdM6ldz5juJfzfjvpoJ56X+m5\n\
        caRNEGWsKjqTEWN+R6T5lGSg/c5EqI7H1wOpGDwdBlUtni1rdgaUgcV3\n\
        -----END PRIVATE KEY-----\n";
    const SECP256K1_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgBQUFBQUFBQUFBQUFBQUF\n\
        BQUFBQUFBQUFBQUFBQUFBQWhRANCAARiwKBG2szobd0DQ8bTx8ecIgi6DZyc8kpt\n\
        BG0h0h+Q922D9qb/LfhmTse4BKsTYsyVQD5DdNGBnghAvYqIF4AN\n\
        -----END PRIVATE KEY-----\n";
    const SEC1_PEM: &str = "-----BEGIN EC PRIVATE KEY-----\n\
        MHcCAQEEIAUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFoAoGCCqGSM49\n\
        AwEHoUQDQgAEB4EOqXTOpXc+Y7iX83476aCeel/puXGkTRBlrCo6kxFjfkek+ZRk\n\
        oP3ORKiOx9cDqRg8HQZVLZ4ta3YGlIHFdw==\n\
        -----END EC PRIVATE KEY-----\n";
    const P384_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDCti9zgluj+KXbcaNAb\n\
        syhJ9//HZExcP6KAQqCtqwosr4O6yept4Q9RwxDneUx+imahZANiAASrAsFnhBXE\n\
        T8Fv8BiGrjVfxD18v+yXAIul3U08cv+Lni5TVD/XIUe+1KWngBRuHBnBEk11TW2N\n\
        q/Sw2iupX4DUOfe+8LBwf8WECMQWmYSPAc+oXSpBRuQ7Hvhmw6O/Gto=\n\
        -----END PRIVATE KEY-----\n";

    fn peer(keypair: &Keypair) -> String {
        keypair.public().to_peer_id().to_string()
    }

    #[test]
    fn a_key_of_each_type_is_read_from_pem() {
        let rsa = include_bytes!("../../../tests/vectors/rsa-2048.pk8").to_vec();
        let rsa = SecretDocument::try_from(rsa).unwrap();
        let rsa = rsa.to_pem(LABEL, LineEnding::CRLF).unwrap();
        for (pem, key) in [
            (ED25519_PEM, keys::ed25519(1)),
            (P256_PEM, keys::ecdsa()),
            (SECP256K1_PEM, keys::secp256k1()),
            (&rsa, keys::rsa()),
        ] {
            let text_before = format!("a comment\n{pem}");
            for pem in [pem, &text_before] {
                let read = decode(pem.as_bytes()).unwrap();
                assert_eq!(peer(&read), peer(&key));
                assert!(key.public().verify(b"x", &read.sign(b"x").unwrap()));
            }
        }
    }

    #[test]
    fn a_key_that_libp2p_or_kubo_has_written_is_read() {
        for key in [keys::ed25519(1), keys::ecdsa(), keys::secp256k1()] {
            let read = decode(&key.to_protobuf_encoding().unwrap()).unwrap();
            assert_eq!(peer(&read), peer(&key));
        }
        // RSA is written as PKCS #1, by kubo alone.
        let pkcs8 = include_bytes!("../../../tests/vectors/rsa-2048.pk8");
        let pkcs1 = PrivateKeyInfoRef::try_from(&pkcs8[..]).unwrap().private_key.as_bytes();
        let len = u16::try_from(pkcs1.len()).unwrap();
        let len = [len.to_le_bytes()[0] | 0x80, u8::try_from(len >> 7).unwrap()];
        let exported = [&[0x08, 0x00, 0x12][..], &len, pkcs1].concat();
        let read = decode(&exported).unwrap();
        assert_eq!(peer(&read), peer(&keys::rsa()));
        assert!(keys::rsa().public().verify(b"x", &read.sign(b"x").unwrap()));
    }

    #[test]
    fn what_is_not_a_key_is_told_as_what_it_is() {
        let encrypted = ED25519_PEM.replace(LABEL, "ENCRYPTED PRIVATE KEY");
        let public = ED25519_PEM.replace(LABEL, "PUBLIC KEY");
        let cut = ED25519_PEM.replace("MC4C", "MC4D");
        for (bytes, told, hint) in [
            (&b""[..], "it is empty", "key generate"),
            (b"\x08\x01\x12\x40", "neither", "key generate"),
            (b"\xff", "neither", "key generate"),
            (SEC1_PEM.as_bytes(), "EC PRIVATE KEY", "openssl pkcs8 -topk8"),
            (encrypted.as_bytes(), "ENCRYPTED PRIVATE KEY", "openssl pkcs8 -topk8"),
            (public.as_bytes(), "of PUBLIC KEY", "key generate"),
            (cut.as_bytes(), "not valid PKCS #8", "key generate"),
            (b"-----BEGIN PRIVATE KEY-----", "not valid PKCS #8", "key generate"),
            (P384_PEM.as_bytes(), "1.3.132.0.34", "P-256"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert!(error.hint("ada.pem").contains(hint), "{error}");
        }
    }
}
