//! Keys of every type, the same in every run.

use libp2p_identity::{Keypair, ecdsa, secp256k1};

/// An Ed25519 key whose secret is this byte 32 times.
pub fn ed25519(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// One of as many Ed25519 keys as a test wants.
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
    let mut der = *include_bytes!("../vectors/rsa-2048.pk8");
    Keypair::rsa_from_pkcs8(&mut der).unwrap()
}

/// One of each type of key: Ed25519, secp256k1, ECDSA, RSA.
pub fn all_types() -> [Keypair; 4] {
    [ed25519(1), secp256k1(), ecdsa(), rsa()]
}

/// The other of the two ECDSA signatures that are valid whenever one is: `(r, n - s)`.
pub fn other_signature(der: &[u8]) -> Vec<u8> {
    /// The order of P-256.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let r = &der[4..4 + der[3] as usize];
    let s = &der[4 + r.len() + 2..];
    let s: Vec<u8> = s.iter().copied().skip_while(|b| *b == 0).collect();
    let padded = [vec![0; 32 - s.len()], s].concat();
    let mut borrow = 0;
    let mut other: Vec<u8> = (0..32)
        .rev()
        .map(|i| {
            let difference = i32::from(N[i]) - i32::from(padded[i]) - borrow;
            borrow = i32::from(difference < 0);
            difference.rem_euclid(256) as u8
        })
        .collect();
    other.reverse();
    let mut other: Vec<u8> = other.into_iter().skip_while(|b| *b == 0).collect();
    if other[0] >= 0x80 {
        other.insert(0, 0);
    }
    let content = [&[2, r.len() as u8], r, &[2, other.len() as u8], &other].concat();
    [vec![0x30, content.len() as u8], content].concat()
}
