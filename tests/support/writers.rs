//! As many writers as a test wants, the same in every run.

use libp2p_identity::Keypair;

pub fn keypair(seed: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}
