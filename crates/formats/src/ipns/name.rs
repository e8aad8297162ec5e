//! Names of IPNS records, and their keys in the DHT.
//!
//! **Invariants.** Each name has one key, and each key belongs to at most one name.
//!
//! **Spec.** [IPNS name](https://specs.ipfs.tech/ipns/ipns-record/#ipns-name) and
//! [routing record](https://specs.ipfs.tech/ipns/ipns-record/#routing-record).

use std::{fmt, str::FromStr};

use bytes::Bytes;
use cid::{Cid, multibase::Base};
use libp2p_identity::{PeerId, PublicKey};

use smart_record_core::{RecordKey, parse_peer_id, peer_id_from_bytes};

/// The multicodec `libp2p-key`.
const LIBP2P_KEY: u64 = 0x72;
/// The multihash code of the identity: the bytes are not hashed.
const IDENTITY: u64 = 0;

/// The name of a record: the peer id of the key that signs it.
///
/// As text it is a CID in base 36, `k51…`. The base 58 of peer ids is accepted too, as is the
/// prefix `/ipns/`.
///
/// ```
/// use smart_record_formats::ipns::IpnsName;
///
/// let name: IpnsName = "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".parse()?;
/// assert_eq!(name, name.peer_id().to_string().parse()?);
/// assert!(name.key().as_bytes().starts_with(b"/ipns/"));
/// # Ok::<(), smart_record_formats::ipns::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, Hash, PartialOrd, PartialEq, Eq, Ord)]
pub struct IpnsName(PeerId);

/// Error for a text that is not a name, or a key that is not the key of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The key is not `/ipns/` and the bytes of a peer id.
    #[error(
        "{0} is not the key of an IPNS name, which is /ipns/ and the bytes, not the text, of a peer id: \
         see IpnsName::key"
    )]
    Key(RecordKey),
    /// The text is neither a CID of a libp2p key nor a peer id.
    #[error("{0:?} is not an IPNS name")]
    Text(String),
}

impl IpnsName {
    /// The peer id of the signing key.
    pub const fn peer_id(&self) -> PeerId {
        self.0
    }

    /// The key of its record in a DHT: `/ipns/` and the bytes, not the text, of the peer id.
    pub fn key(&self) -> RecordKey {
        let mut key = format!("/{}/", super::NAMESPACE).into_bytes();
        key.extend(self.0.to_bytes());
        RecordKey::new(key)
    }

    /// The protobuf-encoded public key, if the name contains it.
    pub(super) fn inlined_key(&self) -> Option<Bytes> {
        let multihash = self.0.as_ref();
        (multihash.code() == IDENTITY).then(|| Bytes::copy_from_slice(multihash.digest()))
    }
}

impl From<PeerId> for IpnsName {
    fn from(peer_id: PeerId) -> Self {
        Self(peer_id)
    }
}

impl From<&PublicKey> for IpnsName {
    fn from(key: &PublicKey) -> Self {
        Self(key.to_peer_id())
    }
}

impl TryFrom<&RecordKey> for IpnsName {
    type Error = NameError;

    fn try_from(key: &RecordKey) -> Result<Self, NameError> {
        Some(key.path())
            .filter(|_| key.namespace() == Some(super::NAMESPACE))
            .and_then(peer_id_from_bytes)
            .map(Self)
            .ok_or_else(|| NameError::Key(key.clone()))
    }
}

impl FromStr for IpnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = parse_peer_id(text.strip_prefix("/ipns/").unwrap_or(text));
        name.map(Self).ok_or_else(|| NameError::Text(text.to_owned()))
    }
}

impl fmt::Display for IpnsName {
    /// Writes the CID in base 36.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cid = Cid::new_v1(LIBP2P_KEY, *self.0.as_ref());
        // Any CID of version 1 can be written in any base, so this cannot fail.
        f.write_str(&cid.to_string_of_base(Base::Base36Lower).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_13_a_name_has_no_text_around_it() {
        let name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
        let parsed: IpnsName = name.parse().unwrap();
        assert_eq!(format!("/ipns/{name}").parse(), Ok(parsed));
        for around in [
            "/ipfs/X",
            "x/ipfs/X",
            "https://a.example/ipfs/X",
            "/ipns//ipns/X",
            "/ipns/X/a",
            "/pk/X",
        ] {
            let text = around.replace('X', name);
            assert_eq!(text.parse::<IpnsName>(), Err(NameError::Text(text)));
        }
    }
}
