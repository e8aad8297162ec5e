//! Peer ids in keys, and as people type them.
//!
//! **Invariants.** A peer id has one form as bytes and one as text. `libp2p-identity` also reads
//! SHA-256 hashes that are not of 32 bytes, and lengths in several forms.
//!
//! **Spec.** `docs/wire.md`, section "Public keys and peer ids"; the
//! [representation](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#string-representation)
//! of peer ids as text.

use libp2p_identity::PeerId;

use crate::text::parse_cid;

/// The multicodec `libp2p-key`.
const LIBP2P_KEY: u64 = 0x72;
/// The greatest length of a peer id as text: a CID of 46 bytes in base 2 has 369 characters.
const MAX_TEXT_BYTES: usize = 400;

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

/// Parses a peer id as people type it: in base58btc (`12D3Koo…`, `Qm…`), or as a CID of a libp2p
/// key in any base (`k51…`, `bafz…`). In a key it has one form only: see [`peer_id_from_text`].
///
/// ```
/// use smart_record_core::parse_peer_id;
///
/// let cid = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
/// let peer = parse_peer_id(cid).unwrap();
/// assert_eq!(parse_peer_id(&peer.to_string()), Some(peer));
/// assert_eq!(parse_peer_id(&format!("/ipfs/{cid}")), None);
/// ```
pub fn parse_peer_id(text: &str) -> Option<PeerId> {
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    if text.starts_with('1') || text.starts_with("Qm") {
        return peer_id_from_text(text);
    }
    let cid = parse_cid(text).filter(|cid| cid.codec() == LIBP2P_KEY)?;
    peer_id_from_bytes(&cid.hash().to_bytes())
}

#[cfg(test)]
mod tests {
    use cid::Cid;
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

    #[test]
    fn case_6_and_13_a_peer_id_is_read_in_each_base_and_with_nothing_around_it() {
        let peer = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
        let cid = Cid::new_v1(LIBP2P_KEY, *peer.as_ref());
        use cid::multibase::Base::*;
        for base in [Base2, Base16Lower, Base32Lower, Base36Lower, Base58Btc, Base64Url] {
            let text = cid.to_string_of_base(base).unwrap();
            assert_eq!(parse_peer_id(&text), Some(peer), "{text}");
            for around in ["/ipfs/X", "/ipns/X", "https://a.example/ipfs/X", "X/", " X", "X "] {
                let text = around.replace('X', &text);
                assert_eq!(parse_peer_id(&text), None, "{text}");
                assert_eq!(parse_cid(&text), None, "{text}");
            }
        }
        assert_eq!(parse_peer_id(&peer.to_string()), Some(peer));
        let file = Cid::new_v1(0x55, *peer.as_ref()).to_string();
        let long = "1".repeat(1_000_000);
        for text in ["", "1", "Qm", "k51", "12D3KooW", &file, &peer.to_string()[1..], &long] {
            assert_eq!(parse_peer_id(text), None, "{text}");
        }
    }
}
