//! Peer ids in keys.
//!
//! **Invariants.** A peer id has one form as bytes and one as text. `libp2p-identity` also reads
//! SHA-256 hashes that are not of 32 bytes, and lengths in several forms.
//!
//! **Spec.** `docs/wire.md`, section "Public keys and peer ids".

use libp2p_identity::PeerId;

/// The greatest length of an encoded public key that is a peer id by itself.
const MAX_INLINE_BYTES: usize = 42;

/// The peer id in these bytes; `None` if no public key has it or this is not its only form.
pub fn peer_id_from_bytes(bytes: &[u8]) -> Option<PeerId> {
    let is_one = match bytes {
        [0x00, len, key @ ..] => usize::from(*len) == key.len() && key.len() <= MAX_INLINE_BYTES,
        [0x12, 0x20, hash @ ..] => hash.len() == 32,
        _ => false,
    };
    PeerId::from_bytes(bytes).ok().filter(|_| is_one)
}

/// The peer id with this base58 text; `None` if no public key has it or this is not its only form.
/// Takes time quadratic in the length of the text.
pub fn peer_id_from_text(text: &str) -> Option<PeerId> {
    let peer: PeerId = text.parse().ok()?;
    peer_id_from_bytes(&peer.to_bytes()).filter(|peer| peer.to_string() == text)
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    #[test]
    fn a_peer_id_has_one_form() {
        let peer = Keypair::ed25519_from_bytes([1; 32]).unwrap().public().to_peer_id();
        let bytes = peer.to_bytes();
        let hash = [&[0x12, 0x20][..], &[7; 32]].concat();
        for bytes in [&bytes[..], &hash, &[0, 0], &[&[0, 42][..], &[1; 42]].concat()] {
            let peer = peer_id_from_bytes(bytes).unwrap();
            assert_eq!(peer.to_bytes(), bytes);
            assert_eq!(peer_id_from_text(&peer.to_base58()), Some(peer));
        }
        // Zero in ten bytes whose last has bits beyond the 64th.
        let zero = [&[0x80; 9][..], &[0x02]].concat();
        for (bytes, is_read) in [
            ([&zero, &bytes[1..]].concat(), true),
            (vec![0x12, 2, 7, 7], true),
            ([&hash[..], &[7]].concat(), false),
            ([&[0, 43][..], &[1; 43]].concat(), false),
            (vec![0x11, 1, 7], false),
            (vec![], false),
        ] {
            assert_eq!(PeerId::from_bytes(&bytes).is_ok(), is_read, "{bytes:x?}");
            assert_eq!(peer_id_from_bytes(&bytes), None, "{bytes:x?}");
        }
        // Other texts of the same peer.
        let text = peer.to_base58();
        for text in [format!("1{text}"), format!(" {text}"), format!("/p2p/{text}"), String::new()]
        {
            assert_eq!(peer_id_from_text(&text), None, "{text}");
        }
        // `00 00` with the first zero in ten bytes, and a hash of two bytes.
        for text in ["YsBk4NnmM7MsWK9", "ThTa6"] {
            assert!(text.parse::<PeerId>().is_ok(), "{text}");
            assert_eq!(peer_id_from_text(text), None, "{text}");
        }
    }
}
