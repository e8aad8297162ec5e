//! Smart records: a space for each writer under one key.
//!
//! Each writer signs updates to its own space. Replicas join the updates that they receive. Readers
//! see what has not expired. The invariants of each module state the rules:
//!
//! * [`SignedUpdate`]: a signed write, and how it is checked.
//! * [`Space`]: how updates join, when they are collected, and how they are viewed.
//! * [`SmartRecord`]: the spaces under one key.
//! * [`View`]: a record at an instant.
//! * [`Coverage`], [`Arcs`]: which part of a record an answer shows, and several answers.
//!   [`AskerTag`]: for whom an answer is.
//! * [`SpaceSigner`]: signs updates. [`SigningHistory`]: the earlier updates that a signer knows.
//!   [`KeptDocument`]: a document that is signed again before it expires.
//! * [`Limits`], [`Admission`]: the bounds, and who may write.
//! * [`Stamp`], [`StampSearch`], [`EvictionOrder`]: work, and which spaces stay.
//!
//! **Invariants.** The core reads no clock: `now` is an argument. Joining does not depend on time,
//! so replicas that have received the same updates hold the same record, whatever the order,
//! grouping and repetition.
//!
//! **Spec.** `docs/design.md`, section "The smart record".

mod admission;
mod chunk;
mod coverage;
mod encoded;
mod extensions;
mod history;
mod incoming;
mod kept;
mod limits;
mod parts;
mod seq;
mod signer;
mod space;
mod stamp;
mod update;
mod view;
mod writer;

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;

pub use self::{
    admission::{Admission, AllowList, KeyOwner, MinWork, Open, PolicyRefusal},
    chunk::{Chunks, Slice},
    coverage::{Arcs, AskerTag, Coverage, RingArc},
    encoded::EncodedSpace,
    extensions::{ExtensionError, Extensions},
    history::SigningHistory,
    incoming::{Incoming, UnverifiedSpace},
    kept::KeptDocument,
    limits::{
        DEFAULT_KEY_BYTES, Limit, LimitExceeded, Limits, MAX_BAD_SIGNATURES, ZeroLifetime,
        check_signature_work,
    },
    seq::{Position, Seq},
    signer::SpaceSigner,
    space::{InsertOutcome, Space},
    stamp::{EvictionOrder, Stamp, StampSearch, Stamps},
    update::{SignError, SignedUpdate, Update, UpdateError, UpdateKind},
    view::{SpaceView, View, ViewIter},
    writer::{
        BadSignature, MAX_PUBLIC_KEY_BYTES, MAX_SIGNATURE_BYTES, Purpose, SIGNATURE_DOMAIN,
        SIGNATURE_PAYLOAD_TYPE, Writer, WriterError, check_signature_len, envelope_bytes,
        verification_work,
    },
};
pub(crate) use self::{
    incoming::{Purview, decode_container},
    update::UnverifiedUpdate,
    writer::work_together,
};
use crate::{
    key::RecordKey,
    proto::smart_record as proto,
    protobuf::ProtobufError,
    shared_map::{self, SharedMap},
    time::Timestamp,
};

/// The spaces of all writers under one key.
///
/// A clone shares the spaces with the record. A change to one of the two copies some 32 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartRecord {
    key: RecordKey,
    spaces: SharedMap<Writer, Space>,
}

/// The spaces of a record, ordered by writer.
#[derive(Clone, Debug)]
pub struct SpaceIter<'a>(shared_map::Iter<'a, Writer, Space>);

impl<'a> Iterator for SpaceIter<'a> {
    type Item = (&'a Writer, &'a Space);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for SpaceIter<'_> {}

/// Why bytes are not a smart record for a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The key is too long.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The record has no updates.
    #[error("the record has no updates")]
    Empty,
    /// The bytes are not a `SmartRecord` message.
    #[error("not a protobuf message of a smart record: {0}")]
    Protobuf(ProtobufError),
    /// The public key of a space is invalid.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// An update in a space is invalid.
    #[error("an update of {writer}: {error}")]
    Update {
        /// The writer of the space.
        writer: Box<PeerId>,
        /// Why the update is invalid.
        error: UpdateError,
    },
}

impl From<ProtobufError> for RecordError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

/// Records of different keys cannot be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {other} cannot be joined into one of {own}")]
pub struct KeyMismatch {
    /// The key of the record.
    pub own: RecordKey,
    /// The key of the record that was to be joined.
    pub other: RecordKey,
}

impl SmartRecord {
    /// A record without spaces.
    pub const fn new(key: RecordKey) -> Self {
        Self { key, spaces: SharedMap::new() }
    }

    /// Decodes a record and makes every check that does not depend on the time. A single fault
    /// refuses the whole record. Expired and future updates pass. To read answers from the network,
    /// use [`SpaceRules::read`](crate::SpaceRules::read), which keeps the parts that are valid at a
    /// given time.
    ///
    /// # Errors
    /// [`RecordError`] if any part of it is invalid.
    pub fn decode(
        key: &RecordKey,
        value: impl Into<Bytes>,
        limits: &Limits,
    ) -> Result<Self, RecordError> {
        let mut record = Self::new(key.clone());
        limits.check_key(key)?;
        for (public_key, updates) in decode_container(value.into())? {
            let writer = Writer::decode(public_key)?;
            for received in updates.into_updates() {
                let update = received
                    .decode(key, &writer, limits)
                    .and_then(|update| update.verify(key, &writer))
                    .map_err(|error| RecordError::Update {
                        writer: Box::new(writer.peer_id()),
                        error,
                    })?;
                record.join_update(writer.clone(), update);
            }
        }
        record.truncate(limits);
        Ok(record)
    }

    /// The canonical wire form: spaces ordered by writer, updates by position.
    pub fn encode(&self) -> Vec<u8> {
        proto::SmartRecord {
            spaces: self.spaces.iter().map(|(writer, space)| space.to_wire(writer)).collect(),
        }
        .encode_to_vec()
    }

    /// Splits the record into encoded records of at most `max_bytes` each. Joined, they give the
    /// whole record. A chunk is larger only if a single update is.
    pub fn chunks(&self, max_bytes: usize) -> impl Iterator<Item = Vec<u8>> {
        let spaces = self.spaces.iter().map(|(writer, space)| space.encode(writer));
        Chunks::new(spaces, max_bytes)
    }

    /// The key.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The spaces, ordered by writer.
    pub fn spaces(&self) -> SpaceIter<'_> {
        SpaceIter(self.spaces.iter())
    }

    /// The spaces, ordered by writer.
    pub fn into_spaces(self) -> impl ExactSizeIterator<Item = (Writer, Space)> {
        self.spaces.into_iter()
    }

    /// The space of a writer.
    pub fn space(&self, writer: &Writer) -> Option<&Space> {
        self.spaces.get(writer)
    }

    /// The space of the writer with this protobuf-encoded public key, which may be invalid, and the
    /// writer. It costs less than decoding the key.
    pub fn space_of_key(&self, public_key: &[u8]) -> Option<(&Writer, &Space)> {
        self.spaces.get_key_value(public_key)
    }

    /// The instant from which its last update may be collected.
    pub fn retain_until(&self) -> Option<Timestamp> {
        self.spaces.values().filter_map(Space::retain_until).max()
    }

    /// Joins one update into its writer's space.
    ///
    /// # Errors
    /// [`BadSignature`] if the update was not signed by this writer for this key.
    pub fn insert(
        &mut self,
        writer: Writer,
        update: SignedUpdate,
    ) -> Result<InsertOutcome, BadSignature> {
        writer.verify(&self.key, update.as_bytes(), update.signature())?;
        Ok(self.join_update(writer, update))
    }

    /// Joins an update that is known to be signed by the writer for this key.
    fn join_update(&mut self, writer: Writer, update: SignedUpdate) -> InsertOutcome {
        let mut outcome = InsertOutcome::Known;
        self.spaces.change_or_default(writer, |space| outcome = space.insert(update));
        outcome
    }

    /// Joins a space into the writer's space. It does not verify that the writer signed the updates
    /// for this key; [`insert`](Self::insert) does.
    pub fn join_space(&mut self, writer: Writer, space: Space) {
        if !space.is_empty() {
            self.spaces.change_or_default(writer, |had| had.join(space));
        }
    }

    /// Joins another state of the record, writer by writer.
    ///
    /// # Errors
    /// [`KeyMismatch`] if `other` is a record of another key.
    pub fn join(&mut self, other: Self) -> Result<(), KeyMismatch> {
        if self.key != other.key {
            return Err(KeyMismatch { own: self.key.clone(), other: other.key });
        }
        for (writer, space) in other.spaces {
            self.join_space(writer, space);
        }
        Ok(())
    }

    /// Drops what exceeds `limits`: the oldest updates of a space, and the spaces that are first in
    /// the [`EvictionOrder`], that is of the least work and the highest rank. Withdrawn ones have a
    /// limit of their own, and of these those of the highest rank go. A space without a place stays
    /// as its withdrawal alone, if it begins with one.
    ///
    /// Within a space, truncating before or after a join gives the same result. Which spaces stay
    /// is the same once the same spaces have been joined again: a space that is withdrawn later, or
    /// whose later updates have less work, leaves a place to one that was dropped for it before.
    ///
    /// Returns the spaces that are gone, or of which only the withdrawal is left, as they were.
    pub fn truncate(&mut self, limits: &Limits) -> Vec<(Writer, Space)> {
        let mut gone = Vec::new();
        self.spaces.change(
            |_, space| space.exceeds(limits),
            |space| {
                space.truncate(limits);
                true
            },
        );
        let maxima = [(false, limits.spaces_per_record()), (true, limits.withdrawn_per_record())];
        for (withdrawn, max) in maxima {
            let surplus = self.count(withdrawn).saturating_sub(max);
            if surplus > 0 {
                let spaces = self.spaces.iter().filter(|(_, s)| s.is_withdrawn() == withdrawn);
                let order = |(writer, space): (&Writer, &Space)| {
                    let rank = writer.rank(&self.key);
                    let order = match withdrawn {
                        // Only the rank counts.
                        true => EvictionOrder::new(0, rank),
                        false => space.eviction_order(rank, limits.min_stamp_bits()),
                    };
                    (order, writer.clone())
                };
                let mut ordered: Vec<_> = spaces.map(order).collect();
                ordered.sort_unstable_by(|a, b| b.cmp(a));
                for (_, writer) in ordered.into_iter().take(surplus) {
                    let space = self.spaces.remove(&writer).unwrap_or_default();
                    if let Some(withdrawal) = space.withdrawal().filter(|_| !withdrawn) {
                        self.spaces.insert(writer.clone(), withdrawal);
                    }
                    gone.push((writer, space));
                }
            }
        }
        gone
    }

    /// The number of withdrawn spaces, or of the others.
    fn count(&self, withdrawn: bool) -> usize {
        self.spaces.values().filter(|space| space.is_withdrawn() == withdrawn).count()
    }

    /// Whether it has as many spaces as `limits` allow, withdrawn or not, so that a space may be
    /// missing for want of a place.
    pub(crate) fn is_full(&self, limits: &Limits) -> bool {
        self.count(false) >= limits.spaces_per_record()
            || self.count(true) >= limits.withdrawn_per_record()
    }

    /// Drops the updates of one space that do not fit into the limits.
    pub fn truncate_space(&mut self, writer: &Writer, limits: &Limits) {
        if let Some(space) = self.spaces.get_mut(writer) {
            space.truncate(limits);
        }
    }

    /// Drops the updates of one space that are older than `position`, and the space if it is left
    /// empty. Returns their number.
    pub fn forget_before(&mut self, writer: &Writer, position: Position) -> usize {
        let Some(space) = self.spaces.get_mut(writer) else { return 0 };
        let forgotten = space.retain(|it| it >= position);
        if space.is_empty() {
            self.spaces.remove(writer);
        }
        forgotten
    }

    /// Drops the updates whose `retain_until` is at or before `now`, and spaces left empty. Returns
    /// the number of updates dropped. No view at `now` or later changes.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let mut collected = 0_usize;
        self.spaces.change(
            |_, space| space.updates().any(|update| update.retain_until() <= now),
            |space| {
                collected = collected.saturating_add(space.collect(now));
                !space.is_empty()
            },
        );
        collected
    }

    /// As [`collect`](Self::collect), for the space of one writer.
    pub fn collect_space(&mut self, writer: &Writer, now: Timestamp) -> usize {
        let Some(space) = self.spaces.get_mut(writer) else { return 0 };
        let collected = space.collect(now);
        if space.is_empty() {
            self.spaces.remove(writer);
        }
        collected
    }

    /// Drops the updates issued after `latest`, which replicas refuse as from the future, and
    /// spaces left empty.
    pub fn forget_after(&mut self, latest: Timestamp) {
        self.spaces.change(
            |_, space| space.updates().any(|update| update.seq().issued_at() > latest),
            |space| {
                space.forget_after(latest);
                !space.is_empty()
            },
        );
    }

    /// The view of the record at `now`.
    pub fn view(&self, now: Timestamp) -> View {
        self.spaces
            .iter()
            .filter_map(|(writer, space)| Some((writer.clone(), space.view(now)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use crate::node::Dict;

    #[test]
    fn an_update_joins_only_where_it_was_written() {
        let key = RecordKey::new("/sr/a");
        let mut signer =
            SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
        let now = Timestamp::from_millis(1_700_000_000_000);
        let update = signer.merge(Dict::new(), now, Duration::from_secs(60)).unwrap();
        let other = Writer::from(&Keypair::generate_ed25519().public());

        let mut elsewhere = SmartRecord::new("/sr/b".into());
        assert_eq!(elsewhere.insert(signer.writer(), update.clone()), Err(BadSignature));
        let mut record = SmartRecord::new(key);
        assert_eq!(record.insert(other, update.clone()), Err(BadSignature));
        assert_eq!((record.spaces().len(), elsewhere.spaces().len()), (0, 0));
        assert_eq!(record.insert(signer.writer(), update.clone()), Ok(InsertOutcome::New));
        assert_eq!(record.insert(signer.writer(), update), Ok(InsertOutcome::Known));
    }
}
