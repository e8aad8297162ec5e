//! The presence record of a client: its newest entry for each node.
//!
//! **Invariants.** A record has at most one entry for each node, all for the record's key. A join
//! keeps the newest entry of each node. It is commutative, associative and idempotent, also
//! together with [`PresenceRecord::truncate`], and depends on no clock. The encoding is canonical:
//! equal records have equal bytes.
//!
//! **Spec.** `proto/presence.proto`, message `Record`.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    ops::ControlFlow,
    time::Duration,
};

use libp2p_identity::PeerId;
use prost::{Message as _, bytes::Bytes};

use super::{
    Announcement, Party, PresenceEntry, PresenceError, PresenceKey, PresenceLimits, signed::Signed,
};
use crate::proto::presence as proto;
use smart_record_core::{
    KeyMismatch, Limit, LimitExceeded, MAX_BAD_SIGNATURES, ProtobufError, Timestamp,
    check_signature_work,
};

/// The presence record of a client: one entry, announcement or withdrawal, for each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceRecord {
    key: PresenceKey,
    entries: BTreeMap<PeerId, PresenceEntry>,
}

/// Makes a record to put under `path`, which is its whole key, from one signed message: an
/// announcement of the client `client` at the node `node`, or a withdrawal. The message has the
/// required signatures and expires at `expires_at`.
///
/// # Errors
/// [`PresenceError`] if the message is not one of this client and this node under this key, or does
/// not expire at `expires_at`. Replicas would refuse it.
pub fn make_put_record(
    path: &PresenceKey,
    client: &PeerId,
    node: &PeerId,
    signed_message: impl Into<Bytes>,
    expires_at: Timestamp,
    limits: &PresenceLimits,
) -> Result<PresenceRecord, PresenceError> {
    let entry = PresenceEntry::decode(path, signed_message, limits)?;
    for (party, named, expected) in
        [(Party::Client, path.client(), client), (Party::Node, entry.node(), node)]
    {
        if named != *expected {
            let (named, expected) = (Box::new(named), Box::new(*expected));
            return Err(PresenceError::OtherParty { party, named, expected });
        }
    }
    if entry.signed().message.expires_at != expires_at {
        return Err(PresenceError::Disagrees { field: "expirationDate" });
    }
    Ok(PresenceRecord { key: path.clone(), entries: [(*node, entry)].into() })
}

impl PresenceRecord {
    /// Creates a record without entries.
    pub const fn new(key: PresenceKey) -> Self {
        Self { key, entries: BTreeMap::new() }
    }

    /// Decodes a record and checks everything that does not depend on the time. One fault makes the
    /// whole record invalid. Entries that are expired or from the future are accepted. To read what
    /// the network returns, use [`PresenceValidator::read`](super::PresenceValidator::read), which
    /// keeps the good entries.
    ///
    /// # Errors
    /// [`PresenceError`] if any part of it is invalid.
    pub fn decode(
        key: &PresenceKey,
        value: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        let values = open(key, value.into(), limits)?;
        PresenceLimits::NODES_PER_CLIENT.check(values.len(), limits.nodes_per_client())?;
        let candidates = values
            .into_iter()
            .map(|value| Ok((0, Signed::from_value(key, value, limits)?)))
            .collect::<Result<_, PresenceError>>()?;
        let mut refusal = None;
        let record = Self::gather(key, candidates, limits, |error| {
            refusal = Some(error);
            ControlFlow::Break(())
        });
        refusal.map_or(Ok(record), Err)
    }

    /// Joins the good entries of these values. With `now`, entries that have expired or are from
    /// the future are left out.
    pub(crate) fn salvage<'a>(
        key: &PresenceKey,
        values: impl IntoIterator<Item = &'a [u8]>,
        now: Option<Timestamp>,
        limits: &PresenceLimits,
    ) -> Result<Self, PresenceError> {
        let mut candidates = Vec::new();
        let mut refusal = None;
        for (origin, value) in values.into_iter().enumerate() {
            let opened = match open(key, Bytes::copy_from_slice(value), limits) {
                Ok(opened) => opened,
                Err(error) => {
                    refusal.get_or_insert(error);
                    continue;
                }
            };
            for value in opened {
                let candidate = Signed::from_value(key, value, limits).and_then(|signed| {
                    if let Some(now) = now {
                        signed.message.check_lead(now, limits)?;
                        let expired_at = signed.message.retain_until;
                        if expired_at <= now {
                            return Err(PresenceError::Expired { expired_at });
                        }
                    }
                    Ok(signed)
                });
                match candidate {
                    Ok(signed) => candidates.push((origin, signed)),
                    Err(error) => {
                        refusal.get_or_insert(error);
                    }
                }
            }
        }
        let record = Self::gather(key, candidates, limits, |error| {
            refusal.get_or_insert(error);
            ControlFlow::Continue(())
        });
        if record.is_empty() {
            return Err(refusal.unwrap_or(PresenceError::Empty));
        }
        Ok(record)
    }

    /// Joins and truncates the candidates whose signatures are good. Each candidate comes with the
    /// index of its value. `refuse` is called with each refusal and may end the process. The newest
    /// are processed first, so candidates that they hide or leave no room for are not verified.
    /// After [`MAX_BAD_SIGNATURES`] bad signatures in a value, and once the
    /// [work](smart_record_core::SignatureMemory) that the caller allows is done, the rest is not
    /// verified either.
    fn gather(
        key: &PresenceKey,
        mut candidates: Vec<(usize, Signed)>,
        limits: &PresenceLimits,
        mut refuse: impl FnMut(PresenceError) -> ControlFlow<()>,
    ) -> Self {
        candidates.sort_by_cached_key(|(_, signed)| signed.rank());
        let mut record = Self::new(key.clone());
        let mut bad = BTreeMap::<usize, usize>::new();
        let mut weight = 0_usize;
        for (origin, signed) in candidates.into_iter().rev() {
            let node = signed.node();
            if record.entries.contains_key(&node) {
                continue;
            }
            if !limits.stays(key, record.entries.len(), weight) {
                let got = weight.saturating_add(signed.weight());
                let limit = LimitExceeded::new(Limit::VALUE_BYTES, got, limits.record_bytes());
                // There is no room for the remaining candidates either.
                let _ = refuse(limit.into());
                break;
            }
            let bad = bad.entry(origin).or_default();
            let added = signed.weight();
            let verified = if let Err(limit) = check_signature_work() {
                Err(limit.into())
            } else if *bad < MAX_BAD_SIGNATURES {
                PresenceEntry::verify(signed)
            } else {
                let got = bad.saturating_add(1);
                Err(LimitExceeded::new(Limit::BAD_SIGNATURES, got, MAX_BAD_SIGNATURES).into())
            };
            match verified {
                Ok(entry) => {
                    weight = weight.saturating_add(added);
                    record.entries.insert(node, entry);
                }
                Err(error) => {
                    *bad = bad.saturating_add(1);
                    if refuse(error).is_break() {
                        break;
                    }
                }
            }
        }
        record
    }

    /// The work of verifying all signatures of a value; zero if it is no record for this key.
    pub(crate) fn signature_work(
        key: &PresenceKey,
        value: impl Into<Bytes>,
        limits: &PresenceLimits,
    ) -> Duration {
        let values = open(key, value.into(), limits).unwrap_or_default();
        let signed =
            values.into_iter().filter_map(|value| Signed::from_value(key, value, limits).ok());
        signed.fold(Duration::ZERO, |work, signed| work.saturating_add(signed.signature_work()))
    }

    /// The canonical wire form.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.key, self.entries.values().map(|entry| entry.signed().to_value()).collect())
    }

    /// The key.
    pub const fn key(&self) -> &PresenceKey {
        &self.key
    }

    /// The entries, including expired ones, ordered by the peer id of the node.
    pub fn entries(&self) -> btree_map::Values<'_, PeerId, PresenceEntry> {
        self.entries.values()
    }

    /// The entry of a node. It may have expired.
    pub fn entry(&self, node: &PeerId) -> Option<&PresenceEntry> {
        self.entries.get(node)
    }

    /// Whether the record has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The instant at which the last entry may be dropped; `None` if the record is empty.
    pub fn retain_until(&self) -> Option<Timestamp> {
        self.entries().map(PresenceEntry::retain_until).max()
    }

    /// Joins one entry. Returns whether it replaced an older entry of its node or is the first.
    ///
    /// # Errors
    /// [`KeyMismatch`] if the entry is for another key.
    pub fn insert(&mut self, entry: impl Into<PresenceEntry>) -> Result<bool, KeyMismatch> {
        let entry = entry.into();
        self.check_key(entry.key())?;
        Ok(self.insert_unchecked(entry))
    }

    /// Joins another state of the record: keeps the newest entry of each node.
    ///
    /// # Errors
    /// [`KeyMismatch`] if it is a record of another key.
    pub fn join(&mut self, other: Self) -> Result<(), KeyMismatch> {
        self.check_key(&other.key)?;
        for entry in other.entries.into_values() {
            self.insert_unchecked(entry);
        }
        Ok(())
    }

    fn check_key(&self, other: &PresenceKey) -> Result<(), KeyMismatch> {
        if self.key != *other {
            let (own, other) = (self.key.as_record_key().clone(), other.as_record_key().clone());
            return Err(KeyMismatch { own, other });
        }
        Ok(())
    }

    /// Joins an entry without a check of its key.
    pub(super) fn insert_unchecked(&mut self, entry: PresenceEntry) -> bool {
        match self.entries.entry(entry.node()) {
            btree_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                true
            }
            btree_map::Entry::Occupied(mut occupied) => {
                let is_newer = entry.signed().rank() > occupied.get().signed().rank();
                if is_newer {
                    occupied.insert(entry);
                }
                is_newer
            }
        }
    }

    /// Drops the oldest entries that exceed `limits`. Returns their number. The order of
    /// truncations and joins does not change the result: see [`PresenceLimits::nodes_per_client`].
    pub fn truncate(&mut self, limits: &PresenceLimits) -> usize {
        let mut newest_first: Vec<_> = self.entries().map(PresenceEntry::signed).collect();
        newest_first.sort_by_key(|signed| std::cmp::Reverse(signed.rank()));
        let mut weight = 0_usize;
        let surplus: BTreeSet<_> = newest_first
            .iter()
            .enumerate()
            .skip_while(|(count, signed)| {
                let stays = limits.stays(&self.key, *count, weight);
                weight = weight.saturating_add(signed.weight());
                stays
            })
            .map(|(_, signed)| signed.node())
            .collect();
        self.entries.retain(|node, _| !surplus.contains(node));
        surplus.len()
    }

    /// Drops the entries with `retain_until` at or before `now`. Returns their number. No view at
    /// `now` or later changes.
    pub fn collect(&mut self, now: Timestamp) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.retain_until() > now);
        before.saturating_sub(self.entries.len())
    }

    /// Drops the entries that were created after `latest`.
    pub(super) fn forget_after(&mut self, latest: Timestamp) {
        self.entries.retain(|_, entry| entry.created_at() <= latest);
    }

    /// The announcements that are valid at `now`, ordered by the peer id of the node. Expired and
    /// withdrawn announcements are hidden.
    pub fn view(&self, now: Timestamp) -> impl Iterator<Item = &Announcement> {
        self.entries().filter_map(move |entry| match entry {
            PresenceEntry::Announced(announcement) if announcement.expires_at() > now => {
                Some(announcement)
            }
            _ => None,
        })
    }

    /// Checks that a replica may admit the record at `now`: no entry is from the future, and at
    /// least one is still retained. Returns when the last entry may be dropped.
    pub(crate) fn check_time(
        &self,
        now: Timestamp,
        limits: &PresenceLimits,
    ) -> Result<Timestamp, PresenceError> {
        // The error names the entry that is farthest ahead: its lead shows whether a clock was
        // wrong.
        let messages = self.entries().map(|entry| &entry.signed().message);
        if let Some(newest) = messages.max_by_key(|message| message.created_at) {
            newest.check_lead(now, limits)?;
        }
        match self.retain_until() {
            None => Err(PresenceError::Empty),
            Some(expired_at) if expired_at <= now => Err(PresenceError::Expired { expired_at }),
            Some(at) => Ok(at),
        }
    }
}

/// Whether `whole` has every entry of `part`. Both have been validated before: signatures are not
/// verified.
pub(crate) fn contains(
    key: &PresenceKey,
    whole: &[u8],
    part: &[u8],
    limits: &PresenceLimits,
) -> Result<bool, PresenceError> {
    let positions = |value: &[u8]| -> Result<BTreeSet<_>, PresenceError> {
        open(key, Bytes::copy_from_slice(value), limits)?
            .into_iter()
            .map(|value| Signed::from_value(key, value, limits).map(|s| (s.node(), s.position())))
            .collect()
    };
    Ok(positions(part)?.is_subset(&positions(whole)?))
}

/// Removes the values with `retain_until` at or before `now` from an encoded record. The record has
/// been validated before: signatures are not verified. Returns `None` if no value, or every value,
/// would be removed.
pub(crate) fn collect(
    key: &PresenceKey,
    value: &[u8],
    now: Timestamp,
    limits: &PresenceLimits,
) -> Option<Vec<u8>> {
    let all = open(key, Bytes::copy_from_slice(value), limits).ok()?;
    let before = all.len();
    let mut retained = Vec::with_capacity(before);
    for value in all {
        if Signed::from_value(key, value.clone(), limits).ok()?.message.retain_until > now {
            retained.push(value);
        }
    }
    let is_less = !retained.is_empty() && retained.len() < before;
    is_less.then(|| encode(key, retained))
}

/// Encodes a record of these values canonically.
fn encode(key: &PresenceKey, mut values: Vec<proto::Value>) -> Vec<u8> {
    values.sort_by(|a, b| a.id2.cmp(&b.id2));
    proto::Record {
        key: key.as_str().to_owned(),
        update_date: values.iter().map(|value| value.creation_date).max().unwrap_or_default(),
        id1: key.client().to_string(),
        values,
    }
    .encode_to_vec()
}

/// Decodes a record without its values, checks its own fields, and returns the encoded values.
fn open(
    key: &PresenceKey,
    value: Bytes,
    limits: &PresenceLimits,
) -> Result<Vec<proto::Value>, PresenceError> {
    limits.check_key(key)?;
    Limit::VALUE_BYTES.check(value.len(), limits.record_bytes())?;
    let record = proto::Record::decode(value.clone()).map_err(ProtobufError::new)?;
    if record.encode_to_vec() != value || !record.values.is_sorted_by(|a, b| a.id2 < b.id2) {
        return Err(PresenceError::NotCanonical);
    }
    let Some(updated) = record.values.iter().map(|value| value.creation_date).max() else {
        return Err(PresenceError::Empty);
    };
    let field = if record.key != key.as_str() {
        "key"
    } else if record.id1 != key.client().to_string() {
        "id1"
    } else if record.update_date != updated {
        "updateDate"
    } else {
        return Ok(record.values);
    };
    Err(PresenceError::Disagrees { field })
}
