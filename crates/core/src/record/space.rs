//! Spaces: the updates of one writer in a record.
//!
//! **Invariants.** The updates are in ascending order of position, with none below the newest
//! replace. Joining is commutative, associative and idempotent, also with [`Space::truncate`], and
//! does not depend on time (`tests/laws/records.rs`).
//!
//! **Spec.** `docs/design.md`, sections "Update", "Join" and "View".

use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::{
    chunk::framed_len,
    limits::{Limit, LimitExceeded, Limits},
    seq::Position,
    stamp::EvictionOrder,
    update::{SignedUpdate, UpdateError, UpdateKind},
    view::SpaceView,
    writer::Writer,
};
use crate::{
    node::{merge_documents, resolve_document, visible_document},
    proto::smart_record as proto,
    protobuf::ProtobufError,
    time::Timestamp,
};

/// The part of a record that one writer owns: a set of updates.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Space {
    updates: Vec<SignedUpdate>,
}

/// The outcome of joining an update into a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertOutcome {
    /// The update is new and was added.
    New,
    /// The update was there with a greater signature, which this one replaced.
    Resigned,
    /// The update was already there.
    Known,
    /// A newer replace hides the update.
    Replaced,
}

impl Space {
    /// A space without updates.
    pub const fn new() -> Self {
        Self { updates: Vec::new() }
    }

    /// The updates in ascending order of position.
    pub fn updates(&self) -> impl ExactSizeIterator<Item = &SignedUpdate> {
        self.updates.iter()
    }

    pub(crate) fn into_updates(self) -> impl DoubleEndedIterator<Item = SignedUpdate> {
        self.updates.into_iter()
    }

    /// Whether the space has no updates.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// The position of the newest update.
    pub fn newest(&self) -> Option<Position> {
        self.updates.last().map(SignedUpdate::position)
    }

    /// Whether the space is withdrawn: its only update is a replace with an empty document.
    /// Withdrawn spaces have places of their own in a record; see
    /// [`Limits::withdrawn_per_record`].
    pub fn is_withdrawn(&self) -> bool {
        matches!(&self.updates[..], [only] if only.is_withdrawal())
    }

    /// Its withdrawal alone, if its oldest update is one: what stays of a space without a place.
    pub fn withdrawal(&self) -> Option<Self> {
        let first = self.updates.first().filter(|update| update.is_withdrawal())?;
        Some(Self { updates: vec![first.clone()] })
    }

    /// The most bits of work that a [`Stamp`](super::Stamp) of its updates proves, for the
    /// [rank](Writer::rank) of the space. An update that is added never lessens it, unless others
    /// are dropped for it: by a replace, or because the space is full.
    pub fn work(&self, rank: &[u8; 32]) -> u8 {
        self.updates.iter().map(|update| update.work(rank)).max().unwrap_or(0)
    }

    /// Its place in the order of eviction, if it is not withdrawn, where stamps of less than
    /// `min_bits` do not count; see [`Limits::min_stamp_bits`].
    pub fn eviction_order(&self, rank: [u8; 32], min_bits: u8) -> EvictionOrder {
        EvictionOrder::of(self.updates.iter().map(SignedUpdate::as_bytes), rank, min_bits)
    }

    /// The update at this position.
    pub fn get(&self, position: Position) -> Option<&SignedUpdate> {
        let at = self.updates.binary_search_by(|u| u.position().cmp(&position)).ok()?;
        self.updates.get(at)
    }

    /// The earliest `retain_until` of the updates: the first instant at which one may be collected.
    pub fn first_collectable_at(&self) -> Option<Timestamp> {
        self.updates.iter().map(SignedUpdate::retain_until).min()
    }

    /// The latest `retain_until` of the updates.
    pub fn retain_until(&self) -> Option<Timestamp> {
        self.updates.iter().map(SignedUpdate::retain_until).max()
    }

    /// Joins an update into the space: takes the set union, then drops everything below the newest
    /// replace.
    pub fn insert(&mut self, update: SignedUpdate) -> InsertOutcome {
        let position = update.position();
        if self.newest_replace() > Some(position) {
            return InsertOutcome::Replaced;
        }
        match self.updates.binary_search_by(|u| u.position().cmp(&position)) {
            Ok(at) => match self.updates.get_mut(at) {
                Some(known) if update.signature() < known.signature() => {
                    *known = update;
                    InsertOutcome::Resigned
                }
                _ => InsertOutcome::Known,
            },
            Err(at) => {
                let replaces = update.kind() == UpdateKind::Replace;
                self.updates.insert(at, update);
                if replaces {
                    self.updates.drain(..at);
                }
                InsertOutcome::New
            }
        }
    }

    /// Joins another state of the space.
    pub fn join(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for update in other.updates {
            self.insert(update);
        }
    }

    /// The position of the newest replace. It is the first update, because updates below it are
    /// dropped.
    pub fn newest_replace(&self) -> Option<Position> {
        self.updates
            .first()
            .filter(|update| update.kind() == UpdateKind::Replace)
            .map(SignedUpdate::position)
    }

    /// Whether an update of this kind at this position would stay if it were joined now.
    pub fn has_room_for(&self, kind: UpdateKind, position: Position, limits: &Limits) -> bool {
        if self.newest_replace() > Some(position) {
            return false;
        }
        if kind == UpdateKind::Replace {
            return true;
        }
        let newer = self.updates.iter().filter(|u| u.position() > position);
        let (count, bytes) = newer.fold((0_usize, 0_usize), |(count, bytes), update| {
            (count.saturating_add(1), bytes.saturating_add(update.as_bytes().len()))
        });
        stays(count, bytes, limits)
    }

    /// Drops the oldest updates that exceed `limits`. Returns their number. The newest replace
    /// always stays, because without it the updates that it hides could come back.
    ///
    /// Whether an update stays depends only on newer updates that stay, so truncating before or
    /// after a join gives the same result. See [`Limits::space_bytes`].
    pub fn truncate(&mut self, limits: &Limits) -> usize {
        let surplus = self.surplus(limits);
        let count = surplus.len();
        self.updates.drain(surplus);
        count
    }

    /// Whether an update exceeds `limits`, so that [`truncate`](Self::truncate) drops it.
    pub(super) fn exceeds(&self, limits: &Limits) -> bool {
        !self.surplus(limits).is_empty()
    }

    /// Checks that no update exceeds `limits`, so that [`truncate`](Self::truncate) drops none.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        let surplus = self.surplus(limits);
        if surplus.is_empty() {
            return Ok(());
        }
        // The newest replace always stays and takes no room.
        let rest = self.updates.get(surplus.start..).unwrap_or_default();
        Limit::UPDATES_PER_SPACE.check(rest.len(), limits.updates_per_space())?;
        // An update stays while the newer ones leave more room than the largest update takes.
        let newer = rest.iter().skip(1).map(|update| update.as_bytes().len());
        let bytes = newer.fold(limits.update_bytes(), usize::saturating_add);
        Err(LimitExceeded::new(Limit::SPACE_BYTES, bytes.saturating_add(1), limits.space_bytes()))
    }

    /// The updates that exceed `limits`.
    fn surplus(&self, limits: &Limits) -> Range<usize> {
        let (mut count, mut bytes) = (0_usize, 0_usize);
        for update in self.updates.iter().rev() {
            if !stays(count, bytes, limits) {
                break;
            }
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(update.as_bytes().len());
        }
        let end = self.updates.len().saturating_sub(count);
        usize::from(self.newest_replace().is_some()).min(end)..end
    }

    /// Drops the updates whose `retain_until` is at or before `now`. Returns their number. No view
    /// at `now` or later changes.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let before = self.updates.len();
        self.updates.retain(|update| update.retain_until() > now);
        before.saturating_sub(self.updates.len())
    }

    /// Drops the updates at positions for which `keeps` returns false. Returns their number.
    pub fn retain(&mut self, keeps: impl Fn(Position) -> bool) -> usize {
        let before = self.updates.len();
        self.updates.retain(|update| keeps(update.position()));
        before.saturating_sub(self.updates.len())
    }

    /// Drops the updates that were issued after `latest`.
    pub(super) fn forget_after(&mut self, latest: Timestamp) {
        self.updates.retain(|update| update.seq().issued_at() <= latest);
    }

    /// The view of the space at `now`; `None` if all of it has expired.
    pub fn view(&self, now: Timestamp) -> Option<SpaceView> {
        // An update that may be collected at `now` is ignored, so that collecting changes no view.
        let live = || self.updates.iter().filter(|u| u.retain_until() > now);
        let document = live()
            .map(|update| resolve_document(update.document(), update.expires_at()))
            .reduce(merge_documents)?;
        let document = visible_document(document, now);
        let expires_at = live().map(SignedUpdate::expires_at).max()?;
        let seq = live().map(SignedUpdate::seq).max()?;
        (expires_at > now).then_some(SpaceView { seq, expires_at, document })
    }

    /// The wire form of the space, as in a record.
    pub fn encode(&self, writer: &Writer) -> Vec<u8> {
        self.to_wire(writer).encode_to_vec()
    }

    /// The length of the [encoding](Self::encode), without making it.
    pub fn encoded_len(&self, writer: &Writer) -> usize {
        let updates = self.updates.iter().map(|update| {
            let parts = [update.as_bytes(), update.signature()];
            let parts = parts.iter().filter(|part| !part.is_empty());
            framed_len(parts.map(|part| framed_len(part.len())).sum())
        });
        updates.fold(framed_len(writer.as_bytes().len()), usize::saturating_add)
    }

    /// Decodes the [encoding](Self::encode) of a space that was verified before it was stored.
    /// Signatures, limits and the write policy are not checked again. This is the only way to get a
    /// [`SignedUpdate`] with a bad signature, so pass only bytes from trusted storage. Peers that
    /// receive the updates verify them.
    ///
    /// # Errors
    /// [`UpdateError`] if the bytes are damaged and cannot be decoded.
    pub fn decode_trusted(bytes: impl Into<Bytes>) -> Result<Self, UpdateError> {
        let mut space = Self::new();
        for update in proto::Space::decode(bytes.into()).map_err(ProtobufError::new)?.updates {
            space.insert(SignedUpdate::from_stored(update)?);
        }
        Ok(space)
    }

    pub(super) fn to_wire(&self, writer: &Writer) -> proto::Space {
        proto::Space {
            public_key: writer.to_bytes(),
            updates: self.updates.iter().map(SignedUpdate::to_wire).collect(),
        }
    }
}

/// Whether an update stays if `count` newer updates, with `bytes` in total, stay above it.
fn stays(count: usize, bytes: usize, limits: &Limits) -> bool {
    let room = limits.space_bytes().saturating_sub(limits.update_bytes());
    count < limits.updates_per_space() && (bytes < room || count == 0)
}

impl FromIterator<SignedUpdate> for Space {
    fn from_iter<I: IntoIterator<Item = SignedUpdate>>(updates: I) -> Self {
        let mut space = Self::new();
        for update in updates {
            space.insert(update);
        }
        space
    }
}
