//! Spaces: what one writer has to say in a record.
//!
//! **Invariants.** The updates are in ascending order of position, none below the newest replace. Joining is
//! commutative, associative and idempotent, and stays so under [`Space::truncate`]; no clock decides
//! anything in it (`tests/laws/records.rs`).
//!
//! **Spec.** `docs/design.md`, sections "Update", "Join" and "View".

use bytes::Bytes;
use prost::Message;

use super::{
    limits::Limits,
    seq::Position,
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

/// What became of an update that was joined into a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It is new and stays.
    New,
    /// It was there, with a signature that sorts after this one, which took its place.
    Resigned,
    /// It was there.
    Known,
    /// A newer replace hides it.
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

    /// Whether there is no update.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// The position of the newest update.
    pub fn newest(&self) -> Option<Position> {
        self.updates.last().map(SignedUpdate::position)
    }

    /// The update at this position.
    pub fn get(&self, position: Position) -> Option<&SignedUpdate> {
        let at = self.updates.binary_search_by(|u| u.position().cmp(&position)).ok()?;
        self.updates.get(at)
    }

    /// The first instant at which an update may go.
    pub fn first_garbage_at(&self) -> Option<Timestamp> {
        self.updates.iter().map(SignedUpdate::retain_until).min()
    }

    /// The instant at which the last update may go.
    pub fn retain_until(&self) -> Option<Timestamp> {
        self.updates.iter().map(SignedUpdate::retain_until).max()
    }

    /// Joins an update into the space: set union, then everything below the newest replace is dropped.
    pub fn insert(&mut self, update: SignedUpdate) -> Joined {
        let position = update.position();
        if self.replaced_before() > Some(position) {
            return Joined::Replaced;
        }
        match self.updates.binary_search_by(|u| u.position().cmp(&position)) {
            Ok(at) => match self.updates.get_mut(at) {
                Some(known) if update.signature() < known.signature() => {
                    *known = update;
                    Joined::Resigned
                }
                _ => Joined::Known,
            },
            Err(at) => {
                let replaces = update.kind() == UpdateKind::Replace;
                self.updates.insert(at, update);
                if replaces {
                    self.updates.drain(..at);
                }
                Joined::New
            }
        }
    }

    /// Joins another state of the space.
    pub fn join(&mut self, other: Self) {
        for update in other.updates {
            self.insert(update);
        }
    }

    /// The position of the newest replace, below which nothing stays. Because of that it is the first.
    fn replaced_before(&self) -> Option<Position> {
        self.updates
            .first()
            .filter(|update| update.kind() == UpdateKind::Replace)
            .map(SignedUpdate::position)
    }

    /// Whether an update of this kind at this position would stay, were it joined now.
    pub fn has_room_for(&self, kind: UpdateKind, position: Position, limits: &Limits) -> bool {
        if self.replaced_before() > Some(position) {
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

    /// Drops the oldest updates that are more than `limits` allow; says how many. The newest replace always
    /// stays, because without it what it hides could come back.
    ///
    /// An update stays by what is newer than it and stays too, so truncating before or after a join gives
    /// the same: see [`Limits::space_bytes`].
    pub fn truncate(&mut self, limits: &Limits) -> usize {
        let (mut count, mut bytes) = (0_usize, 0_usize);
        for update in self.updates.iter().rev() {
            if !stays(count, bytes, limits) {
                break;
            }
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(update.as_bytes().len());
        }
        let surplus = self.updates.len().saturating_sub(count);
        let from = usize::from(self.replaced_before().is_some()).min(surplus);
        self.updates.drain(from..surplus);
        surplus.saturating_sub(from)
    }

    /// Drops the updates that may go at `now`; says how many. No view at `now` or later changes.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let before = self.updates.len();
        self.updates.retain(|update| update.retain_until() > now);
        before.saturating_sub(self.updates.len())
    }

    /// Drops the updates that were issued after `latest`.
    pub(super) fn forget_after(&mut self, latest: Timestamp) {
        self.updates.retain(|update| update.seq().issued_at() <= latest);
    }

    /// What a reader sees of the space at `now`; `None` if nothing of it lives.
    pub fn view(&self, now: Timestamp) -> Option<SpaceView> {
        // An update that may go at `now` counts as gone, so that collecting changes no view.
        let live = || self.updates.iter().filter(|u| u.retain_until() > now);
        let document = live()
            .map(|update| resolve_document(update.document(), update.expires_at()))
            .reduce(merge_documents)?;
        let document = visible_document(document, now);
        let expires_at = live().map(SignedUpdate::expires_at).max()?;
        let seq = live().map(SignedUpdate::seq).max()?;
        (expires_at > now || !document.is_empty()).then_some(SpaceView {
            seq,
            expires_at,
            document,
        })
    }

    /// The wire form of the space, as it stands in a record.
    pub fn encode(&self, writer: &Writer) -> Vec<u8> {
        self.to_wire(writer).encode_to_vec()
    }

    /// Reads the [encoding](Self::encode) of a space that was verified before it was stored. Nothing is verified again:
    /// neither signatures nor limits nor who may write. It is the only way to a [`SignedUpdate`] whose signature may be bad,
    /// so the bytes must have been in nobody else's hands. Whoever gets the updates in their wire form verifies them.
    ///
    /// # Errors
    /// [`UpdateError`] if the bytes are damaged so that they cannot be read.
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

/// Whether an update stays that has `count` newer ones of `bytes` together above it.
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
