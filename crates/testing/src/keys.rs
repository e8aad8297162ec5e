//! Keys of every type, the same in every run.

use libp2p_identity::{Keypair, ecdsa, secp256k1};
use p256::ecdsa::Signature;

/// The Ed25519 key whose secret repeats this byte 32 times.
pub fn ed25519(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// The Ed25519 key of this number.
pub fn keypair(seed: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

/// The secp256k1 key of the tests.
pub fn secp256k1() -> Keypair {
    let secret = secp256k1::SecretKey::try_from_bytes([5; 32]).unwrap();
    secp256k1::Keypair::from(secret).into()
}

/// The ECDSA key of the tests.
pub fn ecdsa() -> Keypair {
    let secret = ecdsa::SecretKey::try_from_bytes([5; 32]).unwrap();
    ecdsa::Keypair::from(secret).into()
}

/// The RSA key of the tests, of 2048 bits.
pub fn rsa() -> Keypair {
    let mut der = *include_bytes!("../../../tests/vectors/rsa-2048.pk8");
    Keypair::rsa_from_pkcs8(&mut der).unwrap()
}

/// One of each key type: Ed25519, secp256k1, ECDSA, RSA.
pub fn all_types() -> [Keypair; 4] {
    [ed25519(1), secp256k1(), ecdsa(), rsa()]
}

/// The second valid ECDSA signature of the same bytes: `(r, n - s)`.
pub fn other_signature(der: &[u8]) -> Vec<u8> {
    let (r, s) = Signature::from_der(der).unwrap().split_scalars();
    Signature::from_scalars(r, -s).unwrap().to_der().as_bytes().to_vec()
}
