//! The key of a client's presence record.
//!
//! **Invariants.** A [`PresenceKey`] is UTF-8 and has the form `/namespace/<client id>/…`, with the
//! client's peer id in its canonical text form. So a client has one key for each path, and a key
//! names one client.
//!
//! **Spec.** `proto/presence.proto`, fields `key` and `id2`; the
//! [representation](https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#string-representation)
//! of peer ids as text.

use std::fmt;

use libp2p_identity::PeerId;

use smart_record_core::{RecordKey, peer_id_from_text};

/// Maximum length of a client id; a base58 peer id has at most 61 characters.
const MAX_PEER_ID_CHARS: usize = 64;

/// The key of a client's presence record.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_formats::presence::PresenceKey;
///
/// let client = Keypair::generate_ed25519().public().to_peer_id();
/// let key = PresenceKey::of(client);
/// assert_eq!(key.as_str(), format!("/presence/{client}/"));
/// assert_eq!(PresenceKey::parse(key.as_record_key()), Ok(key));
/// ```
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct PresenceKey {
    key: RecordKey,
    client: PeerId,
}

/// Why a key is not the key of a presence record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceKeyError {
    /// The key is not UTF-8.
    #[error("the key is not UTF-8")]
    NotUtf8,
    /// The key is not of the form `/namespace/<client id>/…`. The last `/` is required.
    #[error("the key is not of the form /namespace/<client id>/…")]
    Form,
    /// The second segment is not a peer id in base58.
    #[error("the key does not name a client: {0}")]
    Client(String),
}

impl PresenceKey {
    /// The namespace of presence records.
    pub const NAMESPACE: &'static str = "presence";

    /// The key `/presence/<client id>/`.
    pub fn of(client: PeerId) -> Self {
        Self::with_path(client, "")
    }

    /// The key `/presence/<client id>/<path>`, for a client with several presence records.
    pub fn with_path(client: PeerId, path: &str) -> Self {
        let key = RecordKey::new(format!("/{}/{client}/{path}", Self::NAMESPACE));
        Self { key, client }
    }

    /// Parses a key of any namespace.
    ///
    /// # Errors
    /// [`PresenceKeyError`].
    pub fn parse(key: &RecordKey) -> Result<Self, PresenceKeyError> {
        let text = std::str::from_utf8(key.as_bytes()).map_err(|_| PresenceKeyError::NotUtf8)?;
        let mut segments = text.splitn(4, '/');
        let (Some(""), Some(namespace), Some(client), Some(_)) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(PresenceKeyError::Form);
        };
        if namespace.is_empty() {
            return Err(PresenceKeyError::Form);
        }
        if client.len() > MAX_PEER_ID_CHARS {
            return Err(PresenceKeyError::Client("too long".to_owned()));
        }
        match peer_id_from_text(client) {
            Some(peer) => Ok(Self { key: key.clone(), client: peer }),
            None => Err(PresenceKeyError::Client(format!("{client:?} is not a peer id"))),
        }
    }

    /// The client that the key names.
    pub const fn client(&self) -> PeerId {
        self.client
    }

    /// The key in the DHT.
    pub const fn as_record_key(&self) -> &RecordKey {
        &self.key
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        // The constructors make or check text, so this cannot fail.
        std::str::from_utf8(self.key.as_bytes()).unwrap_or_default()
    }

    /// The key with the peer id of a node as an additional segment.
    pub(super) fn subkey(&self, node: &PeerId) -> String {
        let key = self.as_str();
        let separator = if key.ends_with('/') { "" } else { "/" };
        format!("{key}{separator}{node}")
    }
}

impl fmt::Display for PresenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn parse(key: impl Into<Vec<u8>>) -> Result<PresenceKey, PresenceKeyError> {
        PresenceKey::parse(&RecordKey::new(key))
    }

    #[test]
    fn a_key_names_one_client_in_one_way() {
        for key in ["/presence/C/", "/presence/C/chat", "/here/C/chat/room", "/presence/C//"] {
            let key = key.replace('C', CLIENT);
            let parsed = parse(key.clone()).unwrap();
            assert_eq!((parsed.as_str(), parsed.client().to_string()), (&*key, CLIENT.into()));
        }
        for key in ["/presence/C", "presence/C/", "//C/", "/presence", "/C/", ""] {
            let key = key.replace('C', CLIENT);
            assert!(parse(key.clone()).is_err(), "{key}");
        }
        for key in ["/presence//", "/presence/x0/", "/presence/bafy/", "/presence/1C/"] {
            let key = key.replace('C', CLIENT);
            assert!(matches!(parse(key.clone()), Err(PresenceKeyError::Client(_))), "{key}");
        }
        let long = format!("/presence/{}/", "1".repeat(100_000));
        assert!(matches!(parse(long), Err(PresenceKeyError::Client(_))));
        assert_eq!(parse(*b"/presence/\xff/"), Err(PresenceKeyError::NotUtf8));
    }

    #[test]
    fn a_subkey_has_one_layer_more() {
        let client: PeerId = CLIENT.parse().unwrap();
        let subkey = |path| PresenceKey::with_path(client, path).subkey(&client);
        assert_eq!(subkey(""), format!("/presence/{CLIENT}/{CLIENT}"));
        assert_eq!(subkey("chat"), format!("/presence/{CLIENT}/chat/{CLIENT}"));
    }
}
