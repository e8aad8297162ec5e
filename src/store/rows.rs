//! Encoding of rows.
//!
//! The row of a space is the space in its wire form, so it is sent as it is. A head is a `Head`
//! message of `proto/storage.proto`.
//!
//! **Invariants.** Only this module encodes rows, so each row can be decoded unless the storage has
//! damaged it.
//!
//! **Spec.** `proto/storage.proto`.

use std::{borrow::Cow, fmt::Display};

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;

use super::{
    source::Arrival,
    storage::{Part, SpaceId, StorageError, Usage},
};
use crate::proto::storage::{Board, Head, Value, head::Body};
use smart_record_core::{EncodedSpace, EvictionOrder, RecordKey, Space, Timestamp, Writer};

pub(super) fn damaged(error: &dyn Display) -> StorageError {
    StorageError::damaged(format_args!("a row: {error}"))
}

/// The cost of a row of `bytes`.
pub(super) fn cost(bytes: usize) -> usize {
    bytes.saturating_add(Usage::ROW)
}

pub(super) fn decode_head(part: &Part<'_>) -> Result<Head, StorageError> {
    Head::decode(&part.bytes[..]).map_err(|e| damaged(&e))
}

/// The space in a row, still encoded.
pub(super) fn encoded<'a>(part: &'a Part<'_>) -> EncodedSpace<'a> {
    EncodedSpace::new(&part.bytes)
}

/// The place of the space in a row in the order of eviction. Stamps of less than `min_bits` do not
/// count.
pub(super) fn order(id: SpaceId, part: &Part<'_>, min_bits: u8) -> EvictionOrder {
    encoded(part).eviction_order(id.0, min_bits)
}

/// The same without what has expired.
pub(super) fn live_order(
    id: SpaceId,
    part: &Part<'_>,
    min_bits: u8,
    now: Timestamp,
) -> EvictionOrder {
    match part.due_at {
        Some(at) if at <= now => {
            let mut space = read_space(part).unwrap_or_default();
            space.collect(now);
            space.eviction_order(id.0, min_bits)
        }
        _ => order(id, part, min_bits),
    }
}

/// The space in a row.
pub(super) fn read_space(part: &Part<'_>) -> Result<Space, StorageError> {
    Space::decode_trusted(Bytes::copy_from_slice(&part.bytes)).map_err(|e| damaged(&e))
}

/// The space in a row, and its writer.
pub(super) fn read_owned_space(part: &Part<'_>) -> Result<(Writer, Space), StorageError> {
    let writer = encoded(part).writer().map_err(|e| damaged(&e))?;
    Ok((writer, read_space(part)?))
}

/// Whether the space in a row is withdrawn once what has expired by `now` is left out.
pub(super) fn is_withdrawn_at(part: &Part<'_>, now: Timestamp) -> bool {
    if part.due_at.is_none_or(|at| at > now) {
        return encoded(part).is_withdrawn();
    }
    read_space(part).is_ok_and(|mut space| {
        space.collect(now);
        space.is_withdrawn()
    })
}

/// A space that has not expired, encoded without its expired updates, and when its last update
/// expires.
pub(super) fn live_space(
    part: Part<'_>,
    now: Timestamp,
) -> Result<(Cow<'_, [u8]>, Option<Timestamp>), StorageError> {
    if part.due_at.is_none_or(|at| at > now) {
        return Ok((part.bytes, part.expires_at));
    }
    let (writer, mut space) = read_owned_space(&part)?;
    space.collect(now);
    Ok((Cow::Owned(space.encode(&writer)), space.retain_until()))
}

pub(super) fn space_part(space: &Space, writer: &Writer, stored_at: Timestamp) -> Part<'static> {
    Part {
        bytes: Cow::Owned(space.encode(writer)),
        due_at: space.first_collectable_at(),
        expires_at: space.retain_until(),
        stored_at,
    }
}

pub(super) fn board_part(key: Bytes, board: Board, arrival: Arrival) -> Part<'static> {
    let Arrival { at: stored_at, source } = arrival;
    let head = Head { key, source: source.into_wire(), body: Some(Body::Board(board)) };
    Part { bytes: Cow::Owned(head.encode_to_vec()), due_at: None, expires_at: None, stored_at }
}

/// The row of a value that expires at one instant and is collected at another, no earlier one.
pub(super) fn value_part(
    key: &RecordKey,
    stored: Value,
    expires_at: Option<Timestamp>,
    forget_at: Option<Timestamp>,
    arrival: Arrival,
) -> Part<'static> {
    let Arrival { at: stored_at, source } = arrival;
    let key = Bytes::copy_from_slice(key.as_bytes());
    let head = Head { key, source: source.into_wire(), body: Some(Body::Value(stored)) };
    Part { bytes: Cow::Owned(head.encode_to_vec()), due_at: forget_at, expires_at, stored_at }
}

/// The writer of the space in a row; `None` if it cannot be decoded.
pub(super) fn peer_of(part: &Part<'_>) -> Option<PeerId> {
    encoded(part).writer().ok().map(|writer| writer.peer_id())
}

/// The slots of a record that a space takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The slots of all writers.
    Open,
    /// The slots of withdrawn spaces.
    Withdrawn,
    /// None, because its writer is protected.
    Protected,
}

impl Board {
    /// Adds a space whose row has `bytes`.
    pub(super) fn add(&mut self, bytes: usize, place: Place) {
        let bytes = as_u64(bytes);
        self.spaces = self.spaces.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some((spaces, sum)) = self.counts(place) {
            *spaces = spaces.saturating_add(1);
            *sum = sum.saturating_add(bytes);
        }
    }

    /// Subtracts a space whose row has `bytes`.
    pub(super) fn subtract(&mut self, bytes: usize, place: Place) {
        let bytes = as_u64(bytes);
        self.spaces = self.spaces.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some((spaces, sum)) = self.counts(place) {
            *spaces = spaces.saturating_sub(1);
            *sum = sum.saturating_sub(bytes);
        }
    }

    fn counts(&mut self, place: Place) -> Option<(&mut u32, &mut u64)> {
        match place {
            Place::Open => None,
            Place::Withdrawn => Some((&mut self.withdrawn_spaces, &mut self.withdrawn_bytes)),
            Place::Protected => Some((&mut self.protected_spaces, &mut self.protected_bytes)),
        }
    }

    /// How many spaces take these slots, and the cost of their rows.
    pub(super) fn taken(&self, place: Place) -> (usize, usize) {
        let (spaces, bytes) = match place {
            Place::Withdrawn => (self.withdrawn_spaces, self.withdrawn_bytes),
            Place::Protected => (self.protected_spaces, self.protected_bytes),
            Place::Open => (
                self.spaces
                    .saturating_sub(self.protected_spaces)
                    .saturating_sub(self.withdrawn_spaces),
                self.bytes
                    .saturating_sub(self.protected_bytes)
                    .saturating_sub(self.withdrawn_bytes),
            ),
        };
        let spaces = as_usize(spaces.into());
        (spaces, as_usize(bytes).saturating_add(spaces.saturating_mul(Usage::ROW)))
    }

    /// How many spaces are not protected, and the cost of their rows.
    pub(super) fn evictable(&self) -> (usize, usize) {
        let (open, withdrawn) = (self.taken(Place::Open), self.taken(Place::Withdrawn));
        (open.0.saturating_add(withdrawn.0), open.1.saturating_add(withdrawn.1))
    }
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
