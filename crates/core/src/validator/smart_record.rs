//! The validator of smart records.
//!
//! **Invariants.** A record is admitted part by part: a refused update takes no good one with it, except that
//! after 16 bad signatures the rest of a value is refused unread. What is cheap
//! to check is checked first, the signature last, and not at all for an update that is stored already.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Limits".

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::{Fault, Malformed, ValidationError, Validator, Validity, best_of};
use crate::{
    key::RecordKey,
    proto::smart_record as proto,
    record::{
        Admission, Joined, Limit, LimitExceeded, Limits, MAX_BAD_SIGNATURES, Open, SmartRecord,
        Space, UnverifiedUpdate, UpdateError, Writer, decode_container,
    },
    time::Timestamp,
};

/// The rules of smart records: the limits, and who may write. Registered under `sr` by default, and under
/// any other namespace that a user chooses.
#[derive(Clone)]
pub struct SmartRecordValidator {
    limits: Limits,
    admission: Arc<dyn Admission>,
}

impl Default for SmartRecordValidator {
    /// The default limits; everybody may write.
    fn default() -> Self {
        Self::new(Limits::default(), Open)
    }
}

impl fmt::Debug for SmartRecordValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmartRecordValidator")
            .field("limits", &self.limits)
            .field("admission", &self.admission)
            .finish()
    }
}

/// Parts of a record that were refused for the same kind of reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// In whose space they stood, where that can be told.
    pub writer: Option<PeerId>,
    /// The reason for the first of them.
    pub reason: ValidationError,
    pub count: usize,
}

/// What was refused of a value: one entry for each writer and class of reason, however many parts.
#[derive(Debug, Default)]
pub struct Refusals {
    entries: BTreeMap<(Option<PeerId>, Fault), Refused>,
    /// The first reason of all.
    first: Option<ValidationError>,
    bad_signatures: usize,
}

impl Refusals {
    pub fn push(&mut self, writer: Option<PeerId>, reason: ValidationError, count: usize) {
        if self.first.is_none() {
            self.first = Some(reason.clone());
        }
        let entry = self.entries.entry((writer, reason.fault())).or_insert(Refused {
            writer,
            reason,
            count: 0,
        });
        entry.count = entry.count.saturating_add(count);
    }

    pub fn first(&self) -> Option<&ValidationError> {
        self.first.as_ref()
    }

    pub fn into_entries(self) -> impl Iterator<Item = Refused> {
        self.entries.into_values()
    }
}

/// A space after what came was joined into what was stored.
#[derive(Debug)]
pub struct MergedSpace {
    /// The whole, if anything in it has changed.
    pub space: Option<Space>,
    /// How many updates are new.
    pub admitted: usize,
    /// How many were there already.
    pub known: usize,
}

impl SmartRecordValidator {
    /// Rules with these limits and this policy.
    pub fn new(limits: Limits, admission: impl Admission) -> Self {
        Self { limits, admission: Arc::new(admission) }
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads from a value what a replica would admit at `now`, and leaves out the rest: what is forged,
    /// expired, from the future, over a limit or not allowed there. This is how to read what the network
    /// answers.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is left; the first reason.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<SmartRecord, ValidationError> {
        self.salvage(key, value, Some(now))
    }

    /// The updates in a value by public key, not yet looked into.
    pub fn open(
        &self,
        key: &RecordKey,
        value: Bytes,
    ) -> Result<BTreeMap<Bytes, Vec<proto::SignedUpdate>>, ValidationError> {
        self.limits.check_key(key)?;
        Ok(decode_container(value)?)
    }

    /// Those of the writers who may write under `key`, with the updates that came for them.
    pub fn admit_writers(
        &self,
        key: &RecordKey,
        spaces: BTreeMap<Bytes, Vec<proto::SignedUpdate>>,
        refusals: &mut Refusals,
    ) -> Vec<(Writer, Vec<proto::SignedUpdate>)> {
        let mut admitted = Vec::with_capacity(spaces.len());
        for (public_key, updates) in spaces {
            match Writer::decode(public_key) {
                Err(error) => refusals.push(None, error.into(), updates.len()),
                Ok(writer) => match self.admission.admit(key, &writer) {
                    Ok(()) => admitted.push((writer, updates)),
                    Err(refusal) => {
                        refusals.push(Some(writer.peer_id()), refusal.into(), updates.len());
                    }
                },
            }
        }
        admitted
    }

    /// Joins the good ones of these updates into what is stored of their writer's space. Without `now`, the
    /// time is left out of account.
    pub fn merge_space(
        &self,
        key: &RecordKey,
        writer: &Writer,
        updates: Vec<proto::SignedUpdate>,
        stored: &proto::Space,
        now: Option<Timestamp>,
        refusals: &mut Refusals,
    ) -> Result<MergedSpace, UpdateError> {
        let (known, new): (Vec<_>, Vec<_>) =
            updates.into_iter().partition(|update| stored.updates.contains(update));
        let mut merged = MergedSpace { space: None, admitted: 0, known: known.len() };
        if new.is_empty() {
            return Ok(merged);
        }
        let peer = writer.peer_id();
        let refuse = |refusals: &mut Refusals, error| {
            let reason = ValidationError::of_update(Box::new(peer), error);
            refusals.push(Some(peer), reason, 1);
        };
        let mut candidates = Vec::with_capacity(new.len());
        for wire in new {
            let checked = UnverifiedUpdate::decode(wire.update, wire.signature, &self.limits)
                .and_then(|update| {
                    now.map_or(Ok(()), |now| update.check_time(now, &self.limits))?;
                    Ok(update)
                });
            match checked {
                Ok(update) => candidates.push(update),
                Err(error) => refuse(refusals, error),
            }
        }
        // The newest first, so that what they hide or leave no room for is not verified.
        candidates.sort_unstable_by(|a, b| {
            let order = b.position().cmp(&a.position());
            order.then_with(|| a.signature().cmp(b.signature()))
        });

        let mut space = Space::from_stored(stored.clone())?;
        let mut changed = false;
        for update in candidates {
            let position = update.position();
            match space.get(position) {
                // The same update with this or another signature: the lesser one stays, good or not.
                Some(twin) if twin.signature() <= update.signature() => {
                    merged.known = merged.known.saturating_add(1);
                    continue;
                }
                Some(_) => {}
                None if !space.has_room_for(update.kind(), position, &self.limits) => {
                    refusals.push(Some(peer), ValidationError::Stale, 1);
                    continue;
                }
                None => {}
            }
            if refusals.bad_signatures >= MAX_BAD_SIGNATURES {
                let limit = LimitExceeded::new(
                    Limit::BadSignatures,
                    refusals.bad_signatures.saturating_add(1),
                    MAX_BAD_SIGNATURES,
                );
                refusals.push(Some(peer), limit.into(), 1);
                continue;
            }
            match update.verify(key, writer) {
                Ok(update) => {
                    changed = true;
                    match space.insert(update) {
                        Joined::New => merged.admitted = merged.admitted.saturating_add(1),
                        _ => merged.known = merged.known.saturating_add(1),
                    }
                }
                Err(error) => {
                    refusals.bad_signatures = refusals.bad_signatures.saturating_add(1);
                    refuse(refusals, error);
                }
            }
        }
        if changed {
            space.truncate(&self.limits);
            merged.space = Some(space);
        }
        Ok(merged)
    }

    /// As [`merge_space`](Self::merge_space), of updates that were verified before.
    pub fn merge_verified(
        &self,
        writer: &Writer,
        updates: Space,
        stored: proto::Space,
        now: Timestamp,
        refusals: &mut Refusals,
    ) -> Result<MergedSpace, UpdateError> {
        let mut merged = MergedSpace { space: None, admitted: 0, known: 0 };
        let mut space = Space::from_stored(stored)?;
        let mut changed = false;
        let mut refuse = |reason| refusals.push(Some(writer.peer_id()), reason, 1);
        for update in updates.into_updates() {
            let position = update.position();
            let is_there = space.get(position).is_some();
            if update.retain_until() <= now {
                refuse(ValidationError::Expired { expired_at: update.retain_until() });
            } else if !is_there && !space.has_room_for(update.kind(), position, &self.limits) {
                refuse(ValidationError::Stale);
            } else {
                match space.insert(update) {
                    Joined::New => {
                        changed = true;
                        merged.admitted = merged.admitted.saturating_add(1);
                    }
                    joined => {
                        changed |= joined == Joined::Resigned;
                        merged.known = merged.known.saturating_add(1);
                    }
                }
            }
        }
        if changed {
            space.truncate(&self.limits);
            merged.space = Some(space);
        }
        Ok(merged)
    }

    /// As [`read`](Self::read), but what stands in `known` as well is not verified again.
    pub fn read_knowing(
        &self,
        known: &SmartRecord,
        value: Bytes,
        now: Timestamp,
    ) -> Result<SmartRecord, ValidationError> {
        let key = known.key();
        let mut refusals = Refusals::default();
        let spaces = self.open(key, value)?;
        let spaces = self.admit_writers(key, spaces, &mut refusals);
        let mut record = SmartRecord::new(key.clone());
        for (writer, mut updates) in spaces {
            let mut space = Space::new();
            for update in known.space(&writer).into_iter().flat_map(Space::updates) {
                let wire = update.to_wire();
                let before = updates.len();
                updates.retain(|candidate| *candidate != wire);
                if updates.len() < before && update.retain_until() > now {
                    space.insert(update.clone());
                }
            }
            let nothing = proto::Space::default();
            let merged =
                self.merge_space(key, &writer, updates, &nothing, Some(now), &mut refusals);
            // What is stored of it is nothing, and that can be read.
            if let Ok(MergedSpace { space: Some(new), .. }) = merged {
                space.join(new);
            }
            record.join_space(writer, space);
        }
        if record.spaces().len() > 0 {
            return Ok(record);
        }
        Err(refusals.first.unwrap_or(Malformed::Empty.into()))
    }

    /// Whether a writer may write under a key.
    pub fn check_writer(&self, key: &RecordKey, writer: &Writer) -> Result<(), ValidationError> {
        self.limits.check_key(key)?;
        Ok(self.admission.admit(key, writer)?)
    }

    /// The good parts of a value as a record, and what was refused.
    pub fn sift(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Option<Timestamp>,
    ) -> Result<(SmartRecord, Refusals), ValidationError> {
        let mut refusals = Refusals::default();
        let spaces = self.open(key, Bytes::copy_from_slice(value))?;
        let mut spaces = self.admit_writers(key, spaces, &mut refusals);
        let max = self.limits.spaces_per_record();
        if spaces.len() > max {
            // Before anything is verified, only those are left that could stay.
            spaces.sort_by_cached_key(|(writer, _)| writer.rank(key));
            for (writer, updates) in spaces.drain(max..) {
                let limit = LimitExceeded::new(Limit::SpacesPerRecord, max.saturating_add(1), max);
                refusals.push(Some(writer.peer_id()), limit.into(), updates.len());
            }
        }
        let mut record = SmartRecord::new(key.clone());
        for (writer, updates) in spaces {
            let nothing = proto::Space::default();
            let merged = self.merge_space(key, &writer, updates, &nothing, now, &mut refusals);
            // What is stored of it is nothing, and that can be read.
            if let Ok(MergedSpace { space: Some(space), .. }) = merged {
                record.join_space(writer, space);
            }
        }
        Ok((record, refusals))
    }

    /// The good parts of a value, without `now` whatever the time, or why there are none.
    fn salvage(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Option<Timestamp>,
    ) -> Result<SmartRecord, ValidationError> {
        let (record, refusals) = self.sift(key, value, now)?;
        if record.spaces().len() > 0 {
            return Ok(record);
        }
        Err(refusals.first.unwrap_or(Malformed::Empty.into()))
    }
}

impl Validator for SmartRecordValidator {
    /// Everything in the record has to be good; only what has expired, or is hidden by something newer, may
    /// be there beside what is not.
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let (record, refusals) = self.sift(key, value, Some(now))?;
        let first = refusals.first.clone();
        let tolerable =
            |refused: &Refused| matches!(refused.reason.fault(), Fault::Expired | Fault::Stale);
        if let Some(refused) = refusals.into_entries().find(|refused| !tolerable(refused)) {
            return Err(refused.reason);
        }
        match record.spaces().filter_map(|(_, s)| s.retain_until()).max() {
            Some(expires_at) => Ok(Validity::until_within_limits(expires_at)),
            None => Err(first.unwrap_or(Malformed::Empty.into())),
        }
    }

    /// For those who cannot consolidate: the record with the newest update wins, then the one with more
    /// updates, then by the hash of the canonical form.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_of(values, |value| {
            let record = self.salvage(key, value, None)?;
            let newest = record.spaces().filter_map(|(_, s)| s.newest()).max();
            let updates: usize = record.spaces().map(|(_, s)| s.updates().len()).sum();
            let hash: [u8; 32] = Sha256::digest(record.encode()).into();
            Ok((newest, updates, hash))
        })
    }

    /// The join of all that is good in these values, in canonical form. What is not good is left out; if
    /// nothing is, that is an error.
    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        let mut joined = SmartRecord::new(key.clone());
        let mut first_error = None;
        for value in values {
            match self.salvage(key, value, None) {
                Ok(record) => {
                    for (writer, space) in record.spaces() {
                        joined.join_space(writer.clone(), space.clone());
                    }
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        if joined.spaces().len() == 0 {
            return Err(first_error.unwrap_or(ValidationError::NoValue));
        }
        joined.truncate(&self.limits);
        Ok(joined.encode())
    }

    fn contains(&self, key: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
        let (Ok(whole), Ok(part)) = (self.salvage(key, whole, None), self.salvage(key, part, None))
        else {
            return false;
        };
        part.spaces().all(|(writer, space)| {
            let known = whole.space(writer);
            space.updates().all(|u| known.is_some_and(|known| known.get(u.position()).is_some()))
        })
    }

    fn collect(&self, key: &RecordKey, value: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        let mut record = self.salvage(key, value, None).ok()?;
        let is_less = record.collect(now) > 0 && record.spaces().len() > 0;
        is_less.then(|| record.encode())
    }

    fn smart_record(&self, _: &RecordKey) -> Option<&SmartRecordValidator> {
        Some(self)
    }
}
