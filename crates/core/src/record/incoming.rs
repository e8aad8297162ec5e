//! What comes for a space, before it is joined.
//!
//! **Invariants.** An [`UnverifiedSpace`] has been taken apart and no more: its updates may be anything.
//!
//! **Spec.** `proto/smart_record.proto`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{RecordError, space::Space};
use crate::{proto::smart_record as proto, protobuf::ProtobufError, time::Timestamp};

/// Updates that came for the space of one writer, as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct UnverifiedSpace(Vec<proto::SignedUpdate>);

impl UnverifiedSpace {
    /// How many updates there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &proto::SignedUpdate> {
        self.0.iter()
    }

    pub(crate) fn into_updates(self) -> impl Iterator<Item = proto::SignedUpdate> {
        self.0.into_iter()
    }

    /// Takes out the updates that are in a space as well, byte for byte; of these, those that live at `now`.
    pub(crate) fn take_known(&mut self, known: &Space, now: Timestamp) -> Space {
        let mut taken = Space::new();
        for update in known.updates() {
            let before = self.0.len();
            self.0.retain(|candidate| !update.is(candidate));
            if self.0.len() < before && update.retain_until() > now {
                taken.insert(update.clone());
            }
        }
        taken
    }
}

/// What came for the space of one writer.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// Updates of which nothing has been checked.
    Unverified(UnverifiedSpace),
    /// Updates that were verified and admitted where they came in; of these only the time and the room are checked.
    Verified(Space),
}

impl Incoming {
    /// How many updates there are.
    pub fn update_count(&self) -> usize {
        match self {
            Self::Unverified(updates) => updates.len(),
            Self::Verified(space) => space.updates().len(),
        }
    }

    /// The length of the shortest update, in bytes.
    pub fn least_bytes(&self) -> usize {
        let least = match self {
            Self::Unverified(updates) => updates.iter().map(Message::encoded_len).min(),
            Self::Verified(space) => space.updates().map(|update| update.as_bytes().len()).min(),
        };
        least.unwrap_or(0)
    }
}

/// The updates in an encoded record by public key. Spaces without updates say nothing and are dropped.
pub(crate) fn decode_container(
    value: Bytes,
) -> Result<BTreeMap<Bytes, UnverifiedSpace>, RecordError> {
    let mut spaces = BTreeMap::<_, UnverifiedSpace>::new();
    for space in proto::SmartRecord::decode(value).map_err(ProtobufError::new)?.spaces {
        if !space.updates.is_empty() {
            let updates = spaces.entry(space.public_key).or_insert(UnverifiedSpace(Vec::new()));
            updates.0.extend(space.updates);
        }
    }
    if spaces.is_empty() {
        return Err(RecordError::Empty);
    }
    Ok(spaces)
}
