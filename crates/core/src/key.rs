//! The key of a record and its namespace.
//!
//! **Invariants.** A [`RecordKey`] is any bytes. It need not have a namespace, because a store with
//! a fallback takes keys of any form.
//!
//! **Spec.** `/namespace/path`, split as
//! [go-libp2p-record](https://github.com/libp2p/go-libp2p-record/blob/master/util.go) does: the key
//! begins with `/`, and the namespace ends at the next `/`, which is required.

use std::fmt;

use sha2::{Digest, Sha256};

/// The bytes under which a record lives in the DHT.
///
/// The path may be empty or begin with a `/`: `/sr/` and `/sr//x` are keys of smart records like
/// any other. Keys are never normalised.
///
/// ```
/// use smart_record_core::RecordKey;
///
/// let key = RecordKey::new("/sr/rooms/lobby");
/// assert_eq!(key.namespace(), Some("sr"));
/// assert_eq!(key.path(), b"rooms/lobby");
/// assert_eq!(RecordKey::new("no-slash").namespace(), None);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Vec<u8>);

impl RecordKey {
    /// A key of these bytes, of any length. [`Limits::key_bytes`](crate::Limits::key_bytes) is
    /// checked when a record is admitted.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The key `/namespace/path`.
    ///
    /// # Errors
    /// [`NamespaceError`] if `namespace` is empty or contains a `/`.
    pub fn from_parts(namespace: &str, path: impl AsRef<[u8]>) -> Result<Self, NamespaceError> {
        check_namespace(namespace)?;
        let mut bytes = format!("/{namespace}/").into_bytes();
        bytes.extend_from_slice(path.as_ref());
        Ok(Self(bytes))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first segment. `None` if the key does not have the form `/namespace/path`, or its first
    /// segment is empty or not UTF-8.
    pub fn namespace(&self) -> Option<&str> {
        self.split().map(|(namespace, _)| namespace)
    }

    /// The bytes after the namespace and its `/`; the whole key if it has no namespace.
    pub fn path(&self) -> &[u8] {
        self.split().map_or(&self.0, |(_, path)| path)
    }

    fn split(&self) -> Option<(&str, &[u8])> {
        let rest = self.0.strip_prefix(b"/")?;
        let end = rest.iter().position(|b| *b == b'/')?;
        let (namespace, path) = (rest.get(..end)?, rest.get(end.checked_add(1)?..)?);
        let namespace = std::str::from_utf8(namespace).ok()?;
        (!namespace.is_empty()).then_some((namespace, path))
    }

    /// SHA-256 of the bytes: the position of the key in the Kademlia key space.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// Why a namespace is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The namespace is empty.
    #[error("a namespace must not be empty")]
    Empty,
    /// The namespace contains a `/`.
    #[error("the namespace {0:?} contains a '/'")]
    HasSlash(String),
    /// The [namespace of smart records](crate::Registry::SMART_RECORDS) takes only rules that keep
    /// spaces.
    #[error("the namespace {0:?} accepts only rules of smart records")]
    SmartRecords(&'static str),
}

pub(crate) fn check_namespace(namespace: &str) -> Result<(), NamespaceError> {
    if namespace.is_empty() {
        return Err(NamespaceError::Empty);
    }
    if namespace.contains('/') {
        return Err(NamespaceError::HasSlash(namespace.to_owned()));
    }
    Ok(())
}

macro_rules! key_from {
    ($($from:ty),*) => {
        $(impl From<$from> for RecordKey {
            fn from(key: $from) -> Self {
                Self(key.into())
            }
        })*
    };
}

key_from!(&str, String, &[u8], Vec<u8>);

impl From<&String> for RecordKey {
    fn from(key: &String) -> Self {
        Self::from(key.as_str())
    }
}

impl AsRef<[u8]> for RecordKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RecordKey {
    /// The key as text. Bytes that are not printable ASCII are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Prints text, because most keys are text.
impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_go_does() {
        for (key, namespace, path) in [
            ("/sr/a", Some("sr"), "a"),
            ("/sr/a/b", Some("sr"), "a/b"),
            ("/sr/", Some("sr"), ""),
            ("/sr//x", Some("sr"), "/x"),
            ("/sr", None, "/sr"),
            ("sr/a", None, "sr/a"),
            ("//a", None, "//a"),
            ("/", None, "/"),
            ("", None, ""),
        ] {
            let key = RecordKey::new(key);
            assert_eq!(key.namespace(), namespace, "{key}");
            assert_eq!(key.path(), path.as_bytes(), "{key}");
        }
        assert_eq!(RecordKey::new(*b"/\xff/a").namespace(), None);
    }

    #[test]
    fn text_and_bytes_are_keys() {
        let (text, bytes) = (String::from("/sr/a"), b"/sr/a");
        let key = RecordKey::new("/sr/a");
        for same in [(&text).into(), text.into(), (&bytes[..]).into(), bytes.to_vec().into()] {
            assert_eq!(key, same);
        }
    }

    #[test]
    fn a_namespace_is_one_segment() {
        assert_eq!(RecordKey::from_parts("sr", "a/b").unwrap(), RecordKey::new("/sr/a/b"));
        assert_eq!(RecordKey::from_parts("", "a"), Err(NamespaceError::Empty));
        assert!(matches!(RecordKey::from_parts("a/b", "c"), Err(NamespaceError::HasSlash(_))));
    }
}
