//! Places in Kademlia's key space and the distances between them.
//!
//! **Invariants.** A place is a SHA-256 hash, so a peer can choose its place only by trying keys.
//! Distances are compared as big-endian numbers.
//!
//! **Spec.** [libp2p: distance](https://github.com/libp2p/specs/tree/master/kad-dht#distance).

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

/// Place in the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place([u64; 4]);

/// XOR distance of two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u64; 4]);

impl Distance {
    /// The least distance, that of a place to itself.
    pub(crate) const MIN: Self = Self([0; 4]);
}

impl Place {
    /// Place of a record's key.
    pub fn of_key(key: &[u8]) -> Self {
        let digest = Sha256::digest(key);
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        Self(words)
    }

    /// Place of a peer.
    pub fn of_peer(peer: &PeerId) -> Self {
        Self::of_key(&peer.to_bytes())
    }

    /// Distance to another place.
    pub const fn distance(&self, other: &Self) -> Distance {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Distance([a ^ e, b ^ f, c ^ g, d ^ h])
    }

    /// Distance to a peer. Costs one hash.
    pub fn distance_of(&self, peer: &PeerId) -> Distance {
        self.distance(&Self::of_peer(peer))
    }
}

impl Distance {
    /// Number of leading bits that both places share, at most 256.
    pub fn shared_bits(&self) -> u32 {
        let leading = self.0.iter().zip([0, 64, 128, 192]).find(|(word, _)| **word != 0);
        leading.map_or(256, |(word, before)| word.leading_zeros().saturating_add(before))
    }

    /// Share of the key space that is closer, from `0.0` to `1.0`, with the precision of `f64`.
    pub fn as_share(&self) -> f64 {
        const WORD: f64 = 18_446_744_073_709_551_616.0;
        #[expect(clippy::cast_precision_loss, reason = "the precision is that of the result")]
        let add = |share: f64, word: &u64| (share + *word as f64) / WORD;
        self.0.iter().rev().fold(0.0, add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_shared_bits_follow_the_leading_bytes() {
        for (words, bits, share) in [
            ([0, 0, 0, 0], 256, 0.0),
            ([1 << 63, 0, 0, 0], 0, 0.5),
            ([1 << 48, 0, 0, 0], 15, 1.0 / 65_536.0),
            ([0, 1 << 63, 0, 0], 64, 0.5_f64.powi(65)),
            ([0, 0, 0, 1], 255, 0.5_f64.powi(256)),
        ] {
            let distance = Distance(words);
            assert_eq!((distance.shared_bits(), distance.as_share()), (bits, share));
        }
    }

    #[test]
    fn a_peer_is_at_no_distance_from_itself() {
        let peer = PeerId::random();
        assert_eq!(Place::of_peer(&peer).distance_of(&peer), Distance([0; 4]));
        assert_ne!(Place::of_key(b"/sr/a").distance_of(&peer), Distance([0; 4]));
    }
}
