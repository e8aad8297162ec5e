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

/// The space in a row.
pub(super) fn read_space(part: &Part<'_>) -> Result<Space, StorageError> {
    Space::decode_trusted(Bytes::copy_from_slice(&part.bytes)).map_err(|e| damaged(&e))
}

/// The space in a row, and its writer.
pub(super) fn read_owned_space(part: &Part<'_>) -> Result<(Writer, Space), StorageError> {
    let writer = encoded(part).writer().map_err(|e| damaged(&e))?;
    Ok((writer, read_space(part)?))
}

/// Whether nothing in the row of a space has expired, and its digest is known.
pub(super) fn is_as_stored(part: &Part<'_>, now: Timestamp) -> bool {
    part.digest.is_some() && [part.due_at, part.expires_at].iter().flatten().all(|at| *at > now)
}

/// The row of a space without what has expired, with its digest. `None` if nothing is left. Decodes
/// the space only if something in it has expired, or its digest is not known.
pub(super) fn live(
    id: SpaceId,
    part: Part<'_>,
    now: Timestamp,
) -> Result<Option<Part<'_>>, StorageError> {
    if is_as_stored(&part, now) {
        return Ok(Some(part));
    }
    if part.expires_at.is_some_and(|at| at <= now) {
        return Ok(None);
    }
    let is_current = part.due_at.is_none_or(|at| at > now);
    let mut space = read_space(&part)?;
    space.collect(now);
    if space.is_empty() {
        return Ok(None);
    }
    if is_current {
        return Ok(Some(Part { digest: digest(id, &space), ..part }));
    }
    let writer = encoded(&part).writer().map_err(|e| damaged(&e))?;
    Ok(Some(space_part(id, &space, &writer, part.stored_at)))
}

/// The digest of all updates of a space.
pub(super) fn digest(id: SpaceId, space: &Space) -> Option<[u8; 32]> {
    space.digest(&id.0, Timestamp::EPOCH)
}

pub(super) fn space_part(
    id: SpaceId,
    space: &Space,
    writer: &Writer,
    stored_at: Timestamp,
) -> Part<'static> {
    Part {
        bytes: Cow::Owned(space.encode(writer)),
        due_at: space.first_collectable_at(),
        expires_at: space.retain_until(),
        stored_at,
        digest: digest(id, space),
    }
}

pub(super) fn board_part(key: Bytes, board: Board, arrival: Arrival) -> Part<'static> {
    let Arrival { at: stored_at, source } = arrival;
    let head = Head { key, source: source.into_wire(), body: Some(Body::Board(board)) };
    head_part(&head, None, None, stored_at)
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
    head_part(&head, forget_at, expires_at, stored_at)
}

fn head_part(
    head: &Head,
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    stored_at: Timestamp,
) -> Part<'static> {
    let bytes = Cow::Owned(head.encode_to_vec());
    Part { bytes, due_at, expires_at, stored_at, digest: None }
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
