//! The bounds of a smart record.
//!
//! **Invariants.** Limits that decide what is kept give the same whatever order updates came in.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Join".

use std::{fmt, time::Duration};

use crate::{key::RecordKey, node::DocumentLimits, settings::settings};

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
    /// [`LimitExceeded`] of [`Limit::KeyBytes`].
    pub fn check_key(&self, key: &RecordKey) -> Result<(), LimitExceeded> {
        check(Limit::KeyBytes, key.as_bytes().len(), self.key_bytes)
    }
}

/// Bad signatures in one value after which the rest of it is refused unread: whoever sends so many lies, and
/// each costs as much as a good one.
pub const MAX_BAD_SIGNATURES: usize = 16;

/// The length of a key that every validator allows by default; [`Limits::key_bytes`] says why.
pub const DEFAULT_KEY_BYTES: usize = 256;

pub fn check(limit: Limit, got: usize, max: usize) -> Result<(), LimitExceeded> {
    if got > max {
        return Err(LimitExceeded::new(limit, got, max));
    }
    Ok(())
}

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
    pub fn new(limit: Limit, got: usize, max: usize) -> Self {
        Self { limit, got: u64::try_from(got).ok(), max: u64::try_from(max).unwrap_or(u64::MAX) }
    }

    /// Of a duration, in milliseconds.
    pub fn of_duration(limit: Limit, got: Duration, max: Duration) -> Self {
        Self {
            limit,
            got: u64::try_from(got.as_millis()).ok(),
            max: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Limit {
    /// The bytes of a key.
    KeyBytes,
    /// The bytes of a public key.
    PublicKeyBytes,
    /// The bytes of a signature.
    SignatureBytes,
    /// The bytes of an update.
    UpdateBytes,
    /// The levels of a document.
    DocumentDepth,
    /// The nodes of a document.
    DocumentNodes,
    /// Milliseconds from when an update or announcement was made to its `retain_until`.
    Ttl,
    /// Milliseconds by which an update or announcement is ahead of the replica's clock.
    ClockSkew,
    /// The spaces of a record.
    SpacesPerRecord,
    /// The bytes of an announcement, counted at their largest for the keys of its client and node.
    AnnouncementBytes,
    /// The nodes at which a client is present.
    NodesPerClient,
    /// The signatures of one value that turn out to be bad before the rest of it is refused unread.
    BadSignatures,
    /// The bytes of a record that is to be sent in one piece.
    ChunkBytes,
    /// The bytes of a value that is not a smart record.
    ValueBytes,
    /// The bytes of what a signed record carries.
    ContentBytes,
    /// The bytes of a record in a store.
    RecordBytes,
    /// The spaces of a writer in a store.
    WriterSpaces,
    /// The bytes of a writer in a store.
    WriterBytes,
    /// The records of a namespace in a store.
    NamespaceRecords,
    /// The bytes of a namespace in a store.
    NamespaceBytes,
    /// The records of a store.
    StoreRecords,
    /// The bytes of a store.
    StoreBytes,
}

impl Limit {
    /// Whether it bounds what is stored, not what is written.
    pub const fn is_of_room(self) -> bool {
        matches!(
            self,
            Self::RecordBytes
                | Self::WriterSpaces
                | Self::WriterBytes
                | Self::NamespaceRecords
                | Self::NamespaceBytes
                | Self::StoreRecords
                | Self::StoreBytes
        )
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyBytes => "the key (bytes)",
            Self::PublicKeyBytes => "the public key (bytes)",
            Self::SignatureBytes => "the signature (bytes)",
            Self::UpdateBytes => "the update (bytes)",
            Self::DocumentDepth => "the depth of the document (nodes)",
            Self::DocumentNodes => "the document (nodes)",
            Self::Ttl => "the lifetime (ms)",
            Self::ClockSkew => "the lead over our clock (ms)",
            Self::SpacesPerRecord => "the record (spaces)",
            Self::AnnouncementBytes => "the announcement (bytes)",
            Self::NodesPerClient => "the client's presence (nodes)",
            Self::BadSignatures => "the value (bad signatures)",
            Self::ChunkBytes => "the record in one piece (bytes)",
            Self::ValueBytes => "the value (bytes)",
            Self::ContentBytes => "the content of the signed record (bytes)",
            Self::RecordBytes => "the record (bytes)",
            Self::WriterSpaces => "the writer's share of the store (spaces)",
            Self::WriterBytes => "the writer's share of the store (bytes)",
            Self::NamespaceRecords => "the namespace's share of the store (records)",
            Self::NamespaceBytes => "the namespace's share of the store (bytes)",
            Self::StoreRecords => "the store (records)",
            Self::StoreBytes => "the store (bytes)",
        })
    }
}
