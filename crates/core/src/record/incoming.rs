//! Incoming updates for a space, before they are joined.
//!
//! **Invariants.** An [`UnverifiedSpace`] is split into updates, which are not checked in any way.
//! What was decoded already, and maybe verified with others, is kept beside the bytes. It counts
//! for the same key, writer and limits only.
//!
//! **Spec.** `proto/smart_record.proto`.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{
    RecordError,
    limits::Limits,
    seq::Seq,
    space::Space,
    stamp::EvictionOrder,
    update::{UnverifiedUpdate, UpdateError},
    writer::Writer,
};
use crate::{
    key::RecordKey, proto::smart_record as proto, protobuf::ProtobufError, time::Timestamp,
};

/// Unchecked updates received for the space of one writer.
#[derive(Clone, Debug, PartialEq)]
pub struct UnverifiedSpace(Vec<Received>);

/// An update as it was received.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) wire: proto::SignedUpdate,
    decoded: Option<(Arc<Purview>, UnverifiedUpdate)>,
}

/// What an update is checked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Purview {
    pub(crate) key: RecordKey,
    pub(crate) writer: Writer,
    pub(crate) limits: Limits,
}

impl Received {
    /// The update, whose form is checked.
    pub(crate) fn decode(
        self,
        key: &RecordKey,
        writer: &Writer,
        limits: &Limits,
    ) -> Result<UnverifiedUpdate, UpdateError> {
        let Self { wire, decoded } = self;
        match decoded {
            Some((it, update))
                if it.key == *key && it.writer == *writer && it.limits == *limits =>
            {
                Ok(update)
            }
            _ => UnverifiedUpdate::decode(wire.update, wire.signature, limits),
        }
    }
}

impl UnverifiedSpace {
    /// The number of updates, at least one unless some were dropped.
    #[expect(clippy::len_without_is_empty, reason = "no caller gets an empty one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &proto::SignedUpdate> {
        self.0.iter().map(|received| &received.wire)
    }

    /// The updates that can be decoded and are not in `stored`, byte for byte. They stay decoded.
    pub(crate) fn decoded(
        &mut self,
        stored: &Space,
        purview: Purview,
    ) -> impl Iterator<Item = &mut UnverifiedUpdate> {
        let purview = Arc::new(purview);
        self.0.iter_mut().filter_map(move |Received { wire, decoded }| {
            if stored.updates().any(|update| update.is(wire)) {
                return None;
            }
            if decoded.as_ref().is_none_or(|(of, _)| *of != purview) {
                let (bytes, signature) = (wire.update.clone(), wire.signature.clone());
                let update = UnverifiedUpdate::decode(bytes, signature, &purview.limits);
                *decoded = update.ok().map(|update| (Arc::clone(&purview), update));
            }
            decoded.as_mut().map(|(_, update)| update)
        })
    }

    /// Whether the newest update is a replace with an empty document, so that the space is
    /// withdrawn. Nothing is verified.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.newest(|_| true).is_some_and(|(_, newest)| is_empty_replace(&newest))
    }

    /// The place of the space in the order of eviction if all of its updates are good. Nothing but
    /// stamps is verified.
    pub(crate) fn eviction_order(&self, rank: [u8; 32], min_bits: u8) -> EvictionOrder {
        EvictionOrder::of(self.iter().map(|signed| &signed.update[..]), rank, min_bits)
    }

    /// Drops all but the newest replace if that has an empty document, and otherwise everything.
    /// Returns how many updates. Nothing is verified.
    pub(crate) fn keep_withdrawal(&mut self) -> usize {
        let before = self.0.len();
        self.0 = self.withdrawal().and_then(|at| self.0.get(at)).cloned().into_iter().collect();
        before.saturating_sub(self.0.len())
    }

    /// The number of the newest replace, if that has an empty document.
    fn withdrawal(&self) -> Option<usize> {
        let replace = self.newest(|update| update.kind() == proto::UpdateKind::Replace);
        replace.filter(|(_, newest)| is_empty_replace(newest)).map(|(at, _)| at)
    }

    /// The update of the greatest `seq` of some, of those that can be decoded, and its number.
    fn newest(&self, of: impl Fn(&proto::Update) -> bool) -> Option<(usize, proto::Update)> {
        let signed = self.iter().enumerate();
        let decoded = signed.filter_map(|(at, signed)| {
            Some((at, proto::Update::decode(signed.update.clone()).ok()?))
        });
        decoded.filter(|(_, update)| of(update)).max_by_key(|(_, update)| update.seq)
    }

    pub(crate) fn into_updates(self) -> impl Iterator<Item = Received> {
        self.0.into_iter()
    }

    /// Removes the updates that are also in `known`, byte for byte. Returns those that are still
    /// retained at `now`.
    pub(crate) fn take_known(&mut self, known: &Space, now: Timestamp) -> Space {
        let mut taken = Space::new();
        for update in known.updates() {
            let before = self.0.len();
            self.0.retain(|candidate| !update.is(&candidate.wire));
            if self.0.len() < before && update.retain_until() > now {
                taken.insert(update.clone());
            }
        }
        taken
    }
}

/// Updates received for the space of one writer. Exhaustive: they are verified or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// Unchecked updates.
    Unverified(UnverifiedSpace),
    /// Updates that were verified and admitted on arrival. Only time and space limits are checked
    /// again.
    Verified(Space),
}

impl Incoming {
    /// The number of updates.
    pub fn update_count(&self) -> usize {
        match self {
            Self::Unverified(updates) => updates.len(),
            Self::Verified(space) => space.updates().len(),
        }
    }

    /// Whether a withdrawal is the newest replace among the updates, verified or not. Then the
    /// space may stay as a withdrawn one.
    pub fn claims_withdrawal(&self) -> bool {
        match self {
            Self::Unverified(updates) => updates.withdrawal().is_some(),
            Self::Verified(space) => space.withdrawal().is_some(),
        }
    }

    /// The place in the order of eviction of a space of this rank with all of the updates, verified
    /// or not. Stamps of less than `min_bits` do not count.
    pub fn eviction_order(&self, rank: [u8; 32], min_bits: u8) -> EvictionOrder {
        match self {
            Self::Unverified(updates) => updates.eviction_order(rank, min_bits),
            Self::Verified(space) => space.eviction_order(rank, min_bits),
        }
    }

    /// The greatest `seq` of the updates, verified or not.
    pub fn newest_seq(&self) -> Option<Seq> {
        match self {
            Self::Unverified(updates) => Some(Seq::from_micros(updates.newest(|_| true)?.1.seq)),
            Self::Verified(space) => space.newest().map(|newest| newest.seq),
        }
    }

    /// The length of the updates, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Unverified(updates) => sum(updates.iter().map(Message::encoded_len)),
            Self::Verified(space) => sum(space.updates().map(|update| update.as_bytes().len())),
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

fn sum(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.fold(0, usize::saturating_add)
}

/// Whether an update is a replace with an empty document.
pub(super) fn is_empty_replace(update: &proto::Update) -> bool {
    update.kind() == proto::UpdateKind::Replace && update.document.is_empty()
}

/// The updates in an encoded record, by public key. Spaces without updates are dropped.
pub(crate) fn decode_container(
    value: Bytes,
) -> Result<BTreeMap<Bytes, UnverifiedSpace>, RecordError> {
    let mut spaces = BTreeMap::<_, UnverifiedSpace>::new();
    for space in proto::SmartRecord::decode(value).map_err(ProtobufError::new)?.spaces {
        if !space.updates.is_empty() {
            let updates = spaces.entry(space.public_key).or_insert(UnverifiedSpace(Vec::new()));
            let received = space.updates.into_iter().map(|wire| Received { wire, decoded: None });
            updates.0.extend(received);
        }
    }
    if spaces.is_empty() {
        return Err(RecordError::Empty);
    }
    Ok(spaces)
}
