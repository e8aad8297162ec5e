//! The limits of smart records.
//!
//! **Invariants.** Limits that decide what is kept do not depend on the order of arrival.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Join".

use std::{fmt, time::Duration};

use crate::{key::RecordKey, node::DocumentLimits, settings, signatures};

/// The limits of smart records.
///
/// They decide what a replica keeps, so all nodes of a DHT should use the same limits, normally the
/// defaults. Sizes are in bytes.
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
    withdrawn_per_record: usize,
    min_stamp_bits: u8,
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
            withdrawn_per_record: 4_096,
            min_stamp_bits: 19,
            document: DocumentLimits::default(),
            max_ttl: Duration::from_secs(48 * 60 * 60),
            max_clock_skew: Duration::from_secs(5 * 60),
        }
    }
}

settings! { Limits:
    /// The maximum length of a key. Defaults to 256: a namespace, a peer id and a path. A PUT
    /// carries the key twice, and with a chunk of 15 KiB it fits into a Kademlia packet of 16 KiB.
    key_bytes, with_key_bytes: usize;
    /// The maximum length of an update without its signature. Defaults to 2 KiB, so that a reply
    /// has room for several updates.
    update_bytes, with_update_bytes: usize;
    /// The maximum number of updates in a space; the newest stay. Defaults to 64.
    updates_per_space, with_updates_per_space: usize;
    /// The maximum size of the updates in a space, without signatures; the newest stay. Defaults to
    /// 8 KiB, so that a space of average size fits into one reply with its signatures.
    ///
    /// An update stays while the newer updates take less than this minus
    /// [`update_bytes`](Self::update_bytes). So the total does not exceed this limit, and whether
    /// an update stays depends only on updates that stay. This makes the limit a part of the join:
    /// replicas agree on it in any order of arrival. The newest replace always stays in addition,
    /// because it hides older updates that other replicas may hold.
    ///
    /// Signatures do not count, because two replicas may hold different signatures of one update.
    space_bytes, with_space_bytes: usize;
    /// The maximum number of spaces in a record that are not withdrawn. Those with the most work
    /// ([`Stamp`](crate::Stamp)) stay, and of equal work those with the lowest rank `sha256(key ‖
    /// writer)`. Defaults to 1,024.
    spaces_per_record, with_spaces_per_record: usize;
    /// The maximum number of withdrawn spaces in a record ([`Space::is_withdrawn`]). They take no
    /// place of the others, so nobody can push a withdrawal out by writing. In a join those with
    /// the lowest rank stay; in a store those that were first stored there longest ago. Defaults to
    /// 4,096.
    ///
    /// [`Space::is_withdrawn`]: crate::Space::is_withdrawn
    withdrawn_per_record, with_withdrawn_per_record: usize;
    /// The least number of bits of a [`Stamp`](crate::Stamp) that counts for which spaces stay. A
    /// lesser stamp counts as none there, so that pushing out all who have none takes more than a
    /// stamp of next to no work for each slot. Defaults to 19: for 1,024 slots that takes 2^29
    /// hashes, 41 s of one core of a server or 0.1 s of a graphics card. That is what it cost
    /// before there were stamps, when 1,024 keys of low ranks had to be found among a million.
    min_stamp_bits, with_min_stamp_bits: u8;
    /// The maximum depth and number of nodes of a document. Defaults to 16 and 1,024.
    document, with_document: DocumentLimits;
    /// The maximum time from the `seq` of an update to its `retain_until`. Defaults to 48 hours, as
    /// long as Kademlia keeps records.
    max_ttl, with_max_ttl: Duration;
    /// How far in the future the `seq` of an update may be. Defaults to 5 minutes, which covers any
    /// machine that synchronises its clock.
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

/// The number of bad signatures after which the rest of a value is refused unread. A sender of so
/// many is hostile, and a bad signature costs as much to check as a good one.
pub const MAX_BAD_SIGNATURES: usize = 16;

/// Checks that the work that is allowed for the signatures of a value is not done yet; see
/// [`SignatureMemory::during`](crate::SignatureMemory::during). The reader of a value with many
/// signatures calls this before each.
///
/// # Errors
/// [`LimitExceeded`] of [`Limit::SIGNATURE_WORK`].
pub fn check_signature_work() -> Result<(), LimitExceeded> {
    match signatures::exceeded() {
        None => Ok(()),
        Some(allowed) => Err(LimitExceeded {
            limit: Limit::SIGNATURE_WORK,
            got: None,
            max: u64::try_from(allowed.as_micros()).unwrap_or(u64::MAX),
        }),
    }
}

/// The default maximum length of a key for every validator; see [`Limits::key_bytes`].
pub const DEFAULT_KEY_BYTES: usize = 256;

/// A size that exceeds its limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is {}more than the limit of {}",
    limit.what,
    got.map(|got| limit.amount(got) + ", ").unwrap_or_default(),
    limit.amount(*max)
)]
pub struct LimitExceeded {
    /// The limit that was exceeded.
    pub limit: Limit,
    /// The actual size, if it was counted to the end.
    pub got: Option<u64>,
    /// The largest allowed size, in the unit of the limit.
    pub max: u64,
}

impl LimitExceeded {
    /// The error for a size of `got` where `max` is allowed.
    pub fn new(limit: Limit, got: usize, max: usize) -> Self {
        Self { limit, got: u64::try_from(got).ok(), max: u64::try_from(max).unwrap_or(u64::MAX) }
    }

    /// As [`new`](Self::new), for durations. The sizes are milliseconds.
    pub fn of_duration(limit: Limit, got: Duration, max: Duration) -> Self {
        Self {
            limit,
            got: u64::try_from(got.as_millis()).ok(),
            max: u64::try_from(max.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A lifetime of zero. Instants are milliseconds, so a lifetime below one is zero too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lifetime is zero: it must be at least 1 ms")]
pub struct ZeroLifetime;

impl ZeroLifetime {
    /// Checks a lifetime.
    ///
    /// # Errors
    /// [`ZeroLifetime`] if `ttl` is less than a millisecond.
    pub const fn check(ttl: Duration) -> Result<(), Self> {
        if ttl.as_millis() == 0 { Err(Self) } else { Ok(()) }
    }
}

/// The name and unit of a limit.
///
/// The constants here are for smart records and for limits that all formats share. The limits of a
/// format or of a store are defined beside its settings. A custom validator defines its own.
///
/// ```
/// use smart_record_core::{Limit, LimitExceeded};
///
/// const WORDS: Limit = Limit::new("the note", "words");
///
/// let refused = WORDS.check(300, 250).unwrap_err();
/// assert_eq!(refused, LimitExceeded { limit: WORDS, got: Some(300), max: 250 });
/// assert_eq!(refused.to_string(), "the note is 300 words, more than the limit of 250 words");
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
    /// Milliseconds from signing to `retain_until`.
    pub const TTL: Self = Self::new("the lifetime", "ms");
    /// Milliseconds by which a signed value is ahead of the reader's clock. A store replaces a
    /// value that is ahead by more than twice the allowed skew with any valid one, because its own
    /// clock was wrong when it stored that value.
    pub const CLOCK_SKEW: Self = Self::new("the lead over our clock", "ms");
    /// The bad signatures in one value. At the limit the rest of the value is refused unread.
    pub const BAD_SIGNATURES: Self = Self::new("the value", "bad signatures");
    /// The work of verifying the signatures in one value, in microseconds of a
    /// [reference core](crate::SignatureMemory). At the limit the rest of the value is refused
    /// unread.
    pub const SIGNATURE_WORK: Self = Self::new("the work of verifying the value", "µs");
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
    /// The updates of a space.
    pub const UPDATES_PER_SPACE: Self = Self::new("the space", "updates");
    /// The spaces of a record.
    pub const SPACES_PER_RECORD: Self = Self::new("the record", "spaces");
    /// The withdrawn spaces of a record.
    pub const WITHDRAWN_PER_RECORD: Self = Self::new("the record", "withdrawn spaces");

    /// A limit on the size of `what`, counted in `unit`.
    pub const fn new(what: &'static str, unit: &'static str) -> Self {
        Self { what, unit }
    }

    /// A size for people to read: milliseconds in the largest unit of time that shows them exactly.
    fn amount(self, size: u64) -> String {
        let exact =
            |&(_, millis): &(_, u64)| self.unit == "ms" && size != 0 && size.is_multiple_of(millis);
        let unit = [("h", 3_600_000), ("min", 60_000), ("s", 1_000)].into_iter().find(exact);
        let (unit, millis) = unit.unwrap_or((self.unit, 1));
        format!("{} {unit}", size.checked_div(millis).unwrap_or(size))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_a_unit_that_people_read() {
        for (millis, shown) in [
            (49 * 3_600_000, "49 h"),
            (90 * 60_000, "90 min"),
            (90_000, "90 s"),
            (90_001, "90001 ms"),
            (0, "0 ms"),
        ] {
            let got = Duration::from_millis(millis);
            let error = LimitExceeded::of_duration(Limit::TTL, got, Duration::from_secs(172_800));
            let text = format!("the lifetime is {shown}, more than the limit of 48 h");
            assert_eq!(error.to_string(), text);
        }
        let bytes = LimitExceeded::new(Limit::KEY_BYTES, 3_600_000, 1_000).to_string();
        assert_eq!(bytes, "the key is 3600000 bytes, more than the limit of 1000 bytes");
    }
}
