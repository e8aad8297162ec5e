//! Smart records: under one key, a space for each of many writers.
//!
//! Each writer signs updates to its own space; replicas join what they hear; readers see what lives. The
//! rules are in the modules' invariants:
//!
//! * [`SignedUpdate`]: what a writer signs, and what is checked about it.
//! * [`Space`]: how updates join, when they may go, what a reader sees of them.
//! * [`SmartRecord`]: the spaces under one key.
//! * [`View`]: a record at an instant.
//! * [`SpaceSigner`]: the writing side. [`SigningHistory`]: what a signer knows of what it has signed. [`KeptDocument`]: what is
//!   signed anew before it expires.
//! * [`Limits`], [`Admission`]: how much, and who.
//!
//! **Invariants.** The core reads no clock: `now` is an argument. Joining takes none, so replicas that have
//! seen the same updates, in any order, in any pieces and any number of times, hold the same record.
//!
//! **Spec.** `docs/design.md`, section "The smart record".

mod admission;
mod chunk;
mod encoded;
mod extensions;
mod history;
mod incoming;
mod kept;
mod limits;
mod seq;
mod signer;
mod space;
mod update;
mod view;
mod writer;

use std::collections::{BTreeMap, btree_map};

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;

pub use self::{
    admission::{Admission, AllowList, KeyOwner, Open, PolicyRefusal},
    chunk::Chunks,
    encoded::EncodedSpace,
    extensions::{ExtensionError, Extensions},
    history::SigningHistory,
    incoming::{Incoming, UnverifiedSpace},
    kept::KeptDocument,
    limits::{DEFAULT_KEY_BYTES, Limit, LimitExceeded, Limits, MAX_BAD_SIGNATURES},
    seq::{Position, Seq},
    signer::SpaceSigner,
    space::{Joined, Space},
    update::{SignError, SignedUpdate, Update, UpdateError, UpdateKind},
    view::{SpaceView, View},
    writer::{
        BadSignature, MAX_PUBLIC_KEY_BYTES, MAX_SIGNATURE_BYTES, Purpose, SIGNATURE_DOMAIN,
        SIGNATURE_PAYLOAD_TYPE, Writer, WriterError, check_signature_len, envelope_bytes,
    },
};
pub(crate) use self::{incoming::decode_container, update::UnverifiedUpdate};
use crate::{
    key::RecordKey, proto::smart_record as proto, protobuf::ProtobufError, time::Timestamp,
};

/// What lives under one key: the spaces of its writers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmartRecord {
    key: RecordKey,
    spaces: BTreeMap<Writer, Space>,
}

/// Why bytes are not a smart record of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The key is too long.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// There is not a single update in them.
    #[error("a record without an update")]
    Empty,
    /// The bytes are not a `SmartRecord` message.
    #[error("not a protobuf message of a smart record: {0}")]
    Protobuf(#[from] ProtobufError),
    /// A public key is not one.
    #[error(transparent)]
    Writer(#[from] WriterError),
    /// An update is not its writer's.
    #[error("an update of {writer}: {error}")]
    Update {
        /// The writer of the space in which it was.
        writer: Box<PeerId>,
        /// What is wrong.
        error: UpdateError,
    },
}

/// Two records of different keys cannot be joined.
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
        Self { key, spaces: BTreeMap::new() }
    }

    /// Reads a record and checks everything about it that does not depend on the time: a single fault, and all
    /// of it is refused. What is expired or from the future passes. To read what the network answers, use
    /// [`SpaceRules::read`](crate::SpaceRules::read), which takes what is good at a time.
    ///
    /// # Errors
    /// [`RecordError`] if anything in it is not as it should be.
    pub fn decode(
        key: &RecordKey,
        value: impl Into<Bytes>,
        limits: &Limits,
    ) -> Result<Self, RecordError> {
        let mut record = Self::new(key.clone());
        limits.check_key(key)?;
        for (public_key, updates) in decode_container(value.into())? {
            let writer = Writer::decode(public_key)?;
            for wire in updates.into_updates() {
                let update =
                    SignedUpdate::decode(key, &writer, wire.update, wire.signature, limits)
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

    /// The record in pieces of at most `max_bytes`, each a record of its own; joined, they are the whole.
    /// A piece is larger only if a single update is.
    pub fn chunks(&self, max_bytes: usize) -> impl Iterator<Item = Vec<u8>> {
        let spaces = self.spaces.iter().map(|(writer, space)| ((), space.encode(writer)));
        Chunks::new(spaces, max_bytes)
    }

    /// The key.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }

    /// The spaces, ordered by writer.
    pub fn spaces(&self) -> btree_map::Iter<'_, Writer, Space> {
        self.spaces.iter()
    }

    /// The spaces, ordered by writer.
    pub fn into_spaces(self) -> btree_map::IntoIter<Writer, Space> {
        self.spaces.into_iter()
    }

    /// The space of a writer.
    pub fn space(&self, writer: &Writer) -> Option<&Space> {
        self.spaces.get(writer)
    }

    /// The instant at which its last update may go.
    pub fn retain_until(&self) -> Option<Timestamp> {
        self.spaces.values().filter_map(Space::retain_until).max()
    }

    /// Joins one update into its writer's space.
    ///
    /// # Errors
    /// [`BadSignature`] if the update is not the writer's, or is one of another key.
    pub fn insert(&mut self, writer: Writer, update: SignedUpdate) -> Result<Joined, BadSignature> {
        writer.verify(&self.key, update.as_bytes(), update.signature())?;
        Ok(self.join_update(writer, update))
    }

    /// Joins an update that is known to be the writer's under this record's key.
    fn join_update(&mut self, writer: Writer, update: SignedUpdate) -> Joined {
        self.spaces.entry(writer).or_default().insert(update)
    }

    /// Joins a space into that of its writer. That its updates are the writer's under this record's key is not verified;
    /// [`insert`](Self::insert) does.
    pub fn join_space(&mut self, writer: Writer, space: Space) {
        if !space.is_empty() {
            self.spaces.entry(writer).or_default().join(space);
        }
    }

    /// Joins another state of the record, writer by writer.
    ///
    /// # Errors
    /// [`KeyMismatch`] if it is a record of another key.
    pub fn join(&mut self, other: Self) -> Result<(), KeyMismatch> {
        if self.key != other.key {
            return Err(KeyMismatch { own: self.key.clone(), other: other.key });
        }
        for (writer, space) in other.spaces {
            self.join_space(writer, space);
        }
        Ok(())
    }

    /// Drops what is more than `limits` allow: the oldest updates of a space, the spaces of the highest rank.
    /// Doing so before or after a join gives the same.
    pub fn truncate(&mut self, limits: &Limits) {
        for space in self.spaces.values_mut() {
            space.truncate(limits);
        }
        let surplus = self.spaces.len().saturating_sub(limits.spaces_per_record());
        if surplus > 0 {
            let mut ranked: Vec<_> =
                self.spaces.keys().map(|writer| (writer.rank(&self.key), writer.clone())).collect();
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            for (_, writer) in ranked.into_iter().take(surplus) {
                self.spaces.remove(&writer);
            }
        }
    }

    /// Drops the updates that may go at `now`, and spaces left without any; says how many updates. No view
    /// at `now` or later changes.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let mut collected = 0_usize;
        self.spaces.retain(|_, space| {
            collected = collected.saturating_add(space.collect(now));
            !space.is_empty()
        });
        collected
    }

    /// Drops the updates that were issued after `latest`, and spaces left without any: what replicas refuse because it comes
    /// from the future.
    pub fn forget_after(&mut self, latest: Timestamp) {
        self.spaces.retain(|_, space| {
            space.forget_after(latest);
            !space.is_empty()
        });
    }

    /// What a reader sees at `now`.
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
        assert_eq!(record.insert(signer.writer(), update.clone()), Ok(Joined::New));
        assert_eq!(record.insert(signer.writer(), update), Ok(Joined::Known));
    }
}
