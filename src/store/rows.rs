//! The bytes of the rows.
//!
//! A space's row is the space in its wire form, so that it goes out as it is. A head is a `Head` message of
//! `proto/storage.proto`.
//!
//! **Invariants.** A row is made by this module and nothing else, so it reads back, unless the storage has damaged it.
//!
//! **Spec.** `proto/storage.proto`, `proto/smart_record.proto`.

use std::{borrow::Cow, fmt::Display};

use prost::{Message, bytes::Bytes};

use super::storage::{Part, StorageError, Usage};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, Opaque, head::Body},
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
pub(super) fn opaque_part(
    key: &RecordKey,
    opaque: Opaque,
    expires_at: Option<Timestamp>,
    forget_at: Option<Timestamp>,
) -> Part<'static> {
    let head =
        Head { key: Bytes::copy_from_slice(key.as_bytes()), body: Some(Body::Opaque(opaque)) };
    Part { bytes: Cow::Owned(head.encode_to_vec()), due_at: forget_at, expires_at }
}

/// A board with so many spaces and bytes more and less.
pub(super) fn board_with(board: Board, spaces: (usize, usize), bytes: (usize, usize)) -> Board {
    let add_sub = |n: u64, (plus, minus): (usize, usize)| {
        let as_u64 = |n| u64::try_from(n).unwrap_or(u64::MAX);
        n.saturating_add(as_u64(plus)).saturating_sub(as_u64(minus))
    };
    Board {
        spaces: u32::try_from(add_sub(board.spaces.into(), spaces)).unwrap_or(u32::MAX),
        bytes: add_sub(board.bytes, bytes),
    }
}
