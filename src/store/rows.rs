//! The bytes of the rows.
//!
//! A space's row is the space in its wire form, so that it goes out as it is. A head is a `Head` message of
//! `proto/storage.proto`.
//!
//! **Invariants.** A row is made by this module and nothing else, so it reads back, unless the storage has damaged it.
//!
//! **Spec.** `proto/storage.proto`, `proto/smart_record.proto`.

use std::{borrow::Cow, fmt::Display};

use libp2p_identity::PeerId;
use prost::{
    Message,
    bytes::Bytes,
    encoding::{self, WireType},
};

use super::storage::{Part, StorageError, Usage};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, Value, head::Body},
    },
    record::{Space, Writer},
    time::Timestamp,
};

pub(super) fn damaged(error: &dyn Display) -> StorageError {
    StorageError::damaged(format_args!("a row: {error}"))
}

/// What a row of so many bytes counts.
pub(super) fn cost(bytes: usize) -> usize {
    bytes.saturating_add(Usage::ROW)
}

pub(super) fn decode_head(part: &Part<'_>) -> Result<Head, StorageError> {
    Head::decode(&part.bytes[..]).map_err(|e| damaged(&e))
}

pub(super) fn decode_space(part: &Part<'_>) -> Result<wire::Space, StorageError> {
    wire::Space::decode(Bytes::copy_from_slice(&part.bytes)).map_err(|e| damaged(&e))
}

/// Whether all of these updates stand in a space's row, byte for byte. The row is not decoded for it. `false` may
/// also mean that it cannot be read.
pub(super) fn holds(part: &Part<'_>, updates: &[wire::SignedUpdate]) -> bool {
    updates.iter().all(|update| {
        let mut fields = Fields(&part.bytes);
        fields.any(|(tag, signed)| {
            tag == SPACE_UPDATES
                && Fields(signed).eq([
                    (SIGNED_UPDATE, &update.update[..]),
                    (SIGNED_SIGNATURE, &update.signature[..]),
                ])
        })
    })
}

/// The first space of an encoded smart record, and what follows it; `None` if it does not begin with one.
pub(super) fn split_space(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields(record);
    let (tag, space) = fields.next()?;
    (tag == RECORD_SPACES).then_some((space, fields.0))
}

/// The public key of an encoded space; nothing if it does not begin with one.
pub(super) fn public_key(space: &[u8]) -> &[u8] {
    match Fields(space).next() {
        Some((SPACE_PUBLIC_KEY, key)) => key,
        _ => &[],
    }
}

/// How many updates a space's row holds.
pub(super) fn count_updates(space: &[u8]) -> usize {
    Fields(space).filter(|(tag, _)| *tag == SPACE_UPDATES).count()
}

/// `SmartRecord.spaces`, `Space.public_key`, `Space.updates`, `SignedUpdate.update` and `SignedUpdate.signature` in `proto/smart_record.proto`.
const RECORD_SPACES: u32 = 1;
const SPACE_PUBLIC_KEY: u32 = 1;
const SPACE_UPDATES: u32 = 2;
const SIGNED_UPDATE: u32 = 1;
const SIGNED_SIGNATURE: u32 = 2;

/// The length-delimited fields of a message, up to the first of another kind.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, wire_type) = encoding::decode_key(&mut self.0).ok()?;
        if wire_type != WireType::LengthDelimited {
            return None;
        }
        let len = encoding::decode_varint(&mut self.0).ok()?;
        let (field, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some((tag, field))
    }
}

/// The space in a row, and whose it is.
pub(super) fn read_space(part: &Part<'_>) -> Result<(Writer, Space), StorageError> {
    let wire = decode_space(part)?;
    let writer = Writer::decode(wire.public_key.clone()).map_err(|e| damaged(&e))?;
    let space = Space::from_stored(wire).map_err(|e| damaged(&e))?;
    Ok((writer, space))
}

pub(super) fn space_part(space: &Space, writer: &Writer) -> Part<'static> {
    Part {
        bytes: Cow::Owned(space.encode(writer)),
        due_at: space.first_garbage_at(),
        expires_at: space.retain_until(),
    }
}

pub(super) fn board_part(key: Bytes, board: Board) -> Part<'static> {
    let head = Head { key, body: Some(Body::Board(board)) };
    Part { bytes: Cow::Owned(head.encode_to_vec()), due_at: None, expires_at: None }
}

/// The row of a value that expires at one instant and may be collected at another, not earlier one.
pub(super) fn value_part(
    key: &RecordKey,
    stored: Value,
    expires_at: Option<Timestamp>,
    forget_at: Option<Timestamp>,
) -> Part<'static> {
    let head =
        Head { key: Bytes::copy_from_slice(key.as_bytes()), body: Some(Body::Value(stored)) };
    Part { bytes: Cow::Owned(head.encode_to_vec()), due_at: forget_at, expires_at }
}

/// Whose space a row is; `None` if it cannot be read.
pub(super) fn peer_of(part: &Part<'_>) -> Option<PeerId> {
    let writer = Writer::decode(Bytes::copy_from_slice(public_key(&part.bytes)));
    writer.ok().map(|writer| writer.peer_id())
}

impl Board {
    /// Counts a space whose row has so many bytes.
    pub(super) fn add(&mut self, bytes: usize, is_protected: bool) {
        let bytes = as_u64(bytes);
        self.spaces = self.spaces.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if is_protected {
            self.protected_spaces = self.protected_spaces.saturating_add(1);
            self.protected_bytes = self.protected_bytes.saturating_add(bytes);
        }
    }

    /// Counts a space no more.
    pub(super) fn subtract(&mut self, bytes: usize, is_protected: bool) {
        let bytes = as_u64(bytes);
        self.spaces = self.spaces.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if is_protected {
            self.protected_spaces = self.protected_spaces.saturating_sub(1);
            self.protected_bytes = self.protected_bytes.saturating_sub(bytes);
        }
    }

    /// How many spaces are not protected.
    pub(super) fn open_spaces(&self) -> usize {
        as_usize(self.spaces.saturating_sub(self.protected_spaces).into())
    }

    /// What the rows of the spaces that are not protected count.
    pub(super) fn open_cost(&self) -> usize {
        as_usize(self.bytes.saturating_sub(self.protected_bytes))
            .saturating_add(self.open_spaces().saturating_mul(Usage::ROW))
    }
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
