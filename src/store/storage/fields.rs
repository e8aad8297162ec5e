//! A part in one piece: a byte of flags, what the flags announce, and the bytes.
//!
//! | flag | announces |
//! |---|---|
//! | 1 | `due_at`, u64 |
//! | 2 | `expires_at`, u64 |
//! | 4 | that `expires_at` is `due_at` |
//! | 8 | `stored_at`, u64; without it, the epoch |
//! | 32 | the digest, 32 bytes |
//!
//! Instants are in milliseconds, little-endian. Other flags are free for the storage.

use super::Part;
use smart_record_core::Timestamp;

const DUE: u8 = 1;
const EXPIRES: u8 = 2;
const EXPIRES_WHEN_DUE: u8 = 4;
const STORED: u8 = 8;
const DIGEST: u8 = 32;

/// A part without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::store) struct Fields {
    pub(in crate::store) due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    stored_at: Timestamp,
    digest: Option<[u8; 32]>,
}

impl Fields {
    pub(in crate::store) fn of(part: &Part<'_>) -> Self {
        let Part { due_at, expires_at, stored_at, digest, .. } = *part;
        Self { due_at, expires_at, stored_at, digest }
    }

    /// The part of these fields and these bytes.
    pub(in crate::store) fn with(self, bytes: &[u8]) -> Part<'_> {
        let Self { due_at, expires_at, stored_at, digest } = self;
        Part { bytes: bytes.into(), due_at, expires_at, stored_at, digest }
    }

    fn expires_when_due(&self) -> bool {
        self.expires_at.is_some() && self.expires_at == self.due_at
    }

    /// The flags that announce the fields.
    pub(in crate::store) fn flags(&self) -> u8 {
        let expires = match self.expires_at {
            None => 0,
            Some(_) if self.expires_when_due() => EXPIRES_WHEN_DUE,
            Some(_) => EXPIRES,
        };
        let due = if self.due_at.is_some() { DUE } else { 0 };
        let digest = if self.digest.is_some() { DIGEST } else { 0 };
        STORED | due | expires | digest
    }

    /// The instants that the flags announce.
    fn instants(&self) -> impl Iterator<Item = Timestamp> {
        let expires_at = self.expires_at.filter(|_| !self.expires_when_due());
        [self.due_at, expires_at, Some(self.stored_at)].into_iter().flatten()
    }

    /// The number of bytes that [`put`](Self::put) appends.
    pub(in crate::store) fn len(&self) -> usize {
        let of_digest = self.digest.map_or(0, |digest| digest.len());
        self.instants().fold(of_digest, |len, _| len.saturating_add(8))
    }

    /// Appends the fields, without the flags.
    pub(in crate::store) fn put(&self, to: &mut Vec<u8>) {
        for instant in self.instants() {
            to.extend_from_slice(&instant.as_millis().to_le_bytes());
        }
        to.extend_from_slice(self.digest.as_ref().map_or(&[], |digest| digest));
    }

    /// The fields that these flags announce, and what is after them. `None` if it is too short.
    pub(in crate::store) fn split_first(flags: u8, mut rest: &[u8]) -> Option<(Self, &[u8])> {
        let mut instant = |flag| {
            if flags & flag == 0 {
                return Some(None);
            }
            let (millis, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(Some(Timestamp::from_millis(u64::from_le_bytes(*millis))))
        };
        let due_at = instant(DUE)?;
        let expires_at = instant(EXPIRES)?;
        let expires_at = if flags & EXPIRES_WHEN_DUE == 0 { expires_at } else { due_at };
        let stored_at = instant(STORED)?.unwrap_or(Timestamp::EPOCH);
        let mut digest = None;
        if flags & DIGEST != 0 {
            let (of_space, after) = rest.split_first_chunk::<32>()?;
            (digest, rest) = (Some(*of_space), after);
        }
        Some((Self { due_at, expires_at, stored_at, digest }, rest))
    }
}
