//! The bounds of a smart record.
//!
//! **Invariants.** Limits that decide what is kept give the same whatever order updates came in.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Join".

use std::{fmt, time::Duration};

use crate::{key::RecordKey, node::DocumentLimits, settings};

/// The bounds of a smart record.
///
/// They decide what a replica keeps, so all nodes of one DHT should use the same; the defaults are meant for
/// that. Sizes are bytes.
///
/// ```
/// use std::time::Duration;
/// use smart_record_core::Limits;
///
/// let limits = Limits::default().with_max_ttl(Duration::from_secs(3_600));
/// assert_eq!(limits.update_bytes(), 2_048);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    key_bytes: usize,
    update_bytes: usize,
    updates_per_space: usize,
    space_bytes: usize,
    spaces_per_record: usize,
    document: DocumentLimits,
    max_ttl: Duration,
    max_clock_skew: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: DEFAULT_KEY_BYTES,
            update_bytes: 2 * 1_024,
            updates_per_space: 64,
            space_bytes: 8 * 1_024,
            spaces_per_record: 1_024,
            document: DocumentLimits::default(),
            max_ttl: Duration::from_secs(48 * 60 * 60),
            max_clock_skew: Duration::from_secs(5 * 60),
        }
    }
}

settings! { Limits:
    /// The length of a key. Defaults to 256: a namespace, a peer id and a path, twice in every PUT beside
    /// a chunk of 15 KiB, still fit into Kademlia's packet of 16 KiB.
    key_bytes, with_key_bytes: usize;
    /// The length of an update without its signature. Defaults to 2 KiB, so that any update fits many
    /// times into a reply.
    update_bytes, with_update_bytes: usize;
    /// How many updates a space holds; of more, the newest stay. Defaults to 64.
    updates_per_space, with_updates_per_space: usize;
    /// How many bytes of updates, signatures not counted, a space holds; of more, the newest stay. Defaults
    /// to 8 KiB: with its signatures, a space of average size fits into one reply.
    ///
    /// An update stays while those newer than it come to less than this minus
    /// [`update_bytes`](Self::update_bytes). So the total is never more than this, and whether an update
    /// stays depends on updates that stay, which makes the bound part of the join: replicas agree on it
    /// whatever order the updates came in. The newest replace stays besides, however old, because it hides
    /// what may still be about.
    ///
    /// Signatures do not count because two replicas may hold different ones of one update.
    space_bytes, with_space_bytes: usize;
    /// How many spaces a record holds; of more, those of the lowest rank `sha256(key ‖ writer)` stay.
    /// Defaults to 1,024.
    spaces_per_record, with_spaces_per_record: usize;
    /// Depth and number of nodes of a document. Defaults to 16 and 1,024.
    document, with_document: DocumentLimits;
    /// From the time of an update's `seq` to its `retain_until`, at most. Defaults to 48 hours, as long as
    /// Kademlia keeps records.
    max_ttl, with_max_ttl: Duration;
    /// How far in the future an update's `seq` may be. Defaults to 5 minutes, which covers a machine that
    /// keeps its clock at all.
    max_clock_skew, with_max_clock_skew: Duration;
}

impl Limits {
    /// Checks the length of a key.
    ///
    /// # Errors
    /// [`LimitExceeded`] of [`Limit::KEY_BYTES`].
    pub fn check_key(&self, key: &RecordKey) -> Result<(), LimitExceeded> {
        Limit::KEY_BYTES.check(key.as_bytes().len(), self.key_bytes)
    }
}

/// Bad signatures in one value after which the rest of it is refused unread: whoever sends so many lies, and
/// each costs as much as a good one.
pub const MAX_BAD_SIGNATURES: usize = 16;

/// The length of a key that every validator allows by default; [`Limits::key_bytes`] says why.
pub const DEFAULT_KEY_BYTES: usize = 256;

/// Something is larger than it may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} is {}more than {max}", match got { Some(n) => format!("{n}, "), None => String::new() })]
pub struct LimitExceeded {
    /// Which bound.
    pub limit: Limit,
    /// The size met, where it was counted to the end.
    pub got: Option<u64>,
    /// The largest size that is allowed; the unit is the limit's.
    pub max: u64,
}

impl LimitExceeded {
    /// A size of `got` where `max` is allowed.
    pub fn new(limit: Limit, got: usize, max: usize) -> Self {
        Self { limit, got: u64::try_from(got).ok(), max: u64::try_from(max).unwrap_or(u64::MAX) }
    }

    /// As [`new`](Self::new), of durations, which are given in milliseconds.
    pub fn of_duration(limit: Limit, got: Duration, max: Duration) -> Self {
        Self {
            limit,
            got: u64::try_from(got.as_millis()).ok(),
            max: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The name of a bound.
///
/// Whoever sets a bound names it: the constants here are those of smart records and what all formats share, those of a
/// format or of a store stand with its settings, and a validator of one's own has its own.
///
/// ```
/// use smart_record_core::{Limit, LimitExceeded};
///
/// const WORDS: Limit = Limit::new("the note", "words");
///
/// let refused = WORDS.check(300, 250).unwrap_err();
/// assert_eq!(refused, LimitExceeded { limit: WORDS, got: Some(300), max: 250 });
/// assert_eq!(refused.to_string(), "the note (words) is 300, more than 250");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Limit {
    what: &'static str,
    unit: &'static str,
}

impl Limit {
    /// The bytes of a key.
    pub const KEY_BYTES: Self = Self::new("the key", "bytes");
    /// The bytes of a value that is not a smart record.
    pub const VALUE_BYTES: Self = Self::new("the value", "bytes");
    /// The bytes of a public key.
    pub const PUBLIC_KEY_BYTES: Self = Self::new("the public key", "bytes");
    /// The bytes of a signature.
    pub const SIGNATURE_BYTES: Self = Self::new("the signature", "bytes");
    /// Milliseconds from when something was signed until it may go.
    pub const TTL: Self = Self::new("the lifetime", "ms");
    /// Milliseconds by which something that was signed is ahead of the reader's clock. A store gives up a value that is
    /// ahead by more than twice what is allowed, for any that is valid: its clock was wrong when it took that.
    pub const CLOCK_SKEW: Self = Self::new("the lead over our clock", "ms");
    /// The signatures of one value that turn out to be bad before the rest of it is refused unread.
    pub const BAD_SIGNATURES: Self = Self::new("the value", "bad signatures");
    /// The bytes of an update.
    pub const UPDATE_BYTES: Self = Self::new("the update", "bytes");
    /// The bytes of an update's extension fields, tags and lengths included.
    pub const EXTENSION_BYTES: Self = Self::new("the extension fields", "bytes");
    /// The levels of a document.
    pub const DOCUMENT_DEPTH: Self = Self::new("the depth of the document", "nodes");
    /// The nodes of a document.
    pub const DOCUMENT_NODES: Self = Self::new("the document", "nodes");
    /// The bytes of the updates of a space.
    pub const SPACE_BYTES: Self = Self::new("the space", "bytes");
    /// The spaces of a record.
    pub const SPACES_PER_RECORD: Self = Self::new("the record", "spaces");

    /// The bound on the size of `what`, counted in `unit`.
    pub const fn new(what: &'static str, unit: &'static str) -> Self {
        Self { what, unit }
    }

    /// Checks a size.
    ///
    /// # Errors
    /// [`LimitExceeded`] if it is more than `max`.
    pub fn check(self, got: usize, max: usize) -> Result<(), LimitExceeded> {
        if got > max {
            return Err(LimitExceeded::new(self, got, max));
        }
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.unit)
    }
}
