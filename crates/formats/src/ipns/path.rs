//! Content paths: what a name points to.
//!
//! **Invariants.** A [`ContentPath`] is one that kubo accepts: `/ipfs/<cid>…`, `/ipld/<cid>…` or
//! `/ipns/<name>…`, without empty segments, `.` and `..`.
//!
//! **Spec.** [Value](https://specs.ipfs.tech/ipns/ipns-record/#value-bytes); the rules are those of
//! [boxo](https://github.com/ipfs/boxo/blob/main/path/path.go).

use std::{fmt, str::FromStr};

use smart_record_core::{cid_from_bytes, parse_cid, printable};

/// The path of the empty identity CID. Implementations take an empty value for it.
const NO_CONTENT: &str = "/ipfs/bafkqaaa";

/// A content path.
///
/// `Display` escapes what a terminal should not get.
///
/// ```
/// use smart_record_formats::ipns::ContentPath;
///
/// let path: ContentPath = "/ipfs/bafkqaaa//a/../b/".parse()?;
/// assert_eq!(path.as_str(), "/ipfs/bafkqaaa/b/");
/// assert_eq!(ContentPath::from_value(b"\x01\x55\x00\x00")?.as_str(), "/ipfs/bafkqaaa");
/// assert!("/etc/passwd".parse::<ContentPath>().is_err());
/// # Ok::<(), smart_record_formats::ipns::ContentPathError>(())
/// ```
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentPath(String);

/// The text is not a content path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content path: {text:?}; write /ipfs/ and a CID, or /ipns/ and a name")]
pub struct ContentPathError {
    /// The text.
    pub text: String,
}

impl ContentPath {
    /// The path as text, which may contain any characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value of a record: a path as text, the bytes of a CID, or nothing, which stands
    /// for `/ipfs/bafkqaaa`.
    ///
    /// # Errors
    /// [`ContentPathError`] if it is none of these. Such a record is valid, but no implementation
    /// resolves it.
    pub fn from_value(value: &[u8]) -> Result<Self, ContentPathError> {
        if value.is_empty() {
            return Ok(Self(NO_CONTENT.to_owned()));
        }
        match (value.strip_prefix(b"/"), cid_from_bytes(value)) {
            (None, Some(cid)) => Ok(Self(format!("/ipfs/{cid}"))),
            (None, None) => Err(ContentPathError { text: printable(value).to_string() }),
            (Some(_), _) => match std::str::from_utf8(value) {
                Ok(text) => text.parse(),
                Err(_) => Err(ContentPathError { text: printable(value).to_string() }),
            },
        }
    }
}

impl FromStr for ContentPath {
    type Err = ContentPathError;

    /// Parses and cleans a path, as boxo does: empty segments, `.` and `..` are resolved, and a
    /// slash at the end stays.
    fn from_str(text: &str) -> Result<Self, ContentPathError> {
        let error = || ContentPathError { text: text.to_owned() };
        let mut segments = Vec::new();
        for segment in text.strip_prefix('/').ok_or_else(error)?.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        let is_known = match segments.as_slice() {
            ["ipfs" | "ipld", cid, ..] => parse_cid(cid).is_some(),
            ["ipns", _, ..] => true,
            _ => false,
        };
        let end = if text.ends_with('/') { "/" } else { "" };
        is_known.then(|| Self(format!("/{}{end}", segments.join("/")))).ok_or_else(error)
    }
}

impl fmt::Display for ContentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(&self.0).fmt(f)
    }
}
