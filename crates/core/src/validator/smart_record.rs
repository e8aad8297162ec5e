//! The rules of smart records.
//!
//! **Invariants.** A record is admitted part by part: a refused update does not affect valid ones,
//! except that what is not verified yet of a value is refused unread after 16 bad signatures, or
//! once the [work](crate::SignatureMemory) that its reader allows is done. Cheap checks come first
//! and the signature last. The signature of an update that is already stored is not checked.
//!
//! **Spec.** `docs/design.md`, sections "Update", "Join" and "Validators".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::{
    Fault, Malformed, ValidationError, best_of,
    together::{self, Batch, Need, Terms, need_of, newest_first},
};
use crate::{
    key::RecordKey,
    record::{
        Admission, Incoming, InsertOutcome, Limit, LimitExceeded, Limits, MAX_BAD_SIGNATURES, Open,
        Purview, SmartRecord, Space, UnverifiedSpace, Writer, check_signature_work,
        decode_container,
    },
    time::Timestamp,
};

/// The rules of smart records: the limits and the write policy. They are registered under `sr` by
/// default and can be registered under other namespaces.
///
/// They are not a [`Validator`](super::Validator), because a store keeps smart records space by
/// space and not as whole values. An [`Admission`] decides who may write. The events of the store
/// report what comes in. A validator that only forwards to the rules does not compile:
///
/// ```compile_fail,E0308
/// use smart_record_core::{RecordKey, SpaceRules, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged(SpaceRules);
///
/// impl Validator for Logged {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now)
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         None
///     }
/// }
/// ```
///
/// One that converts the result compiles. It is then a validator of values, and the namespace of
/// smart records refuses it:
///
/// ```
/// # use smart_record_core::Registry;
/// use smart_record_core::{RecordKey, SpaceRules, Timestamp, ValidationError, Validator, Validity};
///
/// struct Logged(SpaceRules);
///
/// impl Validator for Logged {
///     fn validate(
///         &self,
///         key: &RecordKey,
///         value: &[u8],
///         now: Timestamp,
///     ) -> Result<Validity, ValidationError> {
///         println!("{key}");
///         self.0.validate(key, value, now).map(|_| Validity::forever())
///     }
///
///     fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
///         self.0.select(key, values)
///     }
///
///     fn wrapped(&self) -> Option<&dyn Validator> {
///         None
///     }
/// }
///
/// assert!(Registry::default().with("sr", Logged(SpaceRules::default())).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct SpaceRules {
    limits: Limits,
    admission: Arc<dyn Admission>,
}

impl Default for SpaceRules {
    /// The default limits, open to all writers.
    fn default() -> Self {
        Self::new(Limits::default(), Open)
    }
}

/// Parts of a record that were refused for the same class of reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The writer of their space, if known.
    pub writer: Option<PeerId>,
    /// The reason for the first part.
    pub reason: ValidationError,
    /// The number of parts.
    pub count: usize,
}

/// The refused parts of a value: one entry for each writer and class of reason.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    entries: BTreeMap<(Option<PeerId>, Fault), Refused>,
    /// The first reason recorded.
    first: Option<ValidationError>,
    bad_signatures: usize,
    is_unread: bool,
    ahead: BTreeSet<PeerId>,
}

impl Refusals {
    /// Adds `count` refused parts.
    pub fn push(&mut self, writer: Option<PeerId>, reason: ValidationError, count: usize) {
        if self.first.is_none() {
            self.first = Some(reason.clone());
        }
        if let ValidationError::LimitExceeded(LimitExceeded { limit, .. }) = &reason {
            self.is_unread |= [Limit::BAD_SIGNATURES, Limit::SIGNATURE_WORK].contains(limit);
        }
        self.ahead.extend(writer.filter(|_| reason.is_ahead_of_clock()));
        let entry = self.entries.entry((writer, reason.fault())).or_insert(Refused {
            writer,
            reason,
            count: 0,
        });
        entry.count = entry.count.saturating_add(count);
    }

    /// The first reason recorded.
    pub fn first(&self) -> Option<&ValidationError> {
        self.first.as_ref()
    }

    /// Whether a part was refused unread, because there was too much to verify or too many
    /// signatures were bad. It may be valid.
    pub const fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// The writers of which an update was refused because it is from the future by this clock. Its
    /// signature was not verified.
    pub fn ahead_of_clock(&self) -> impl Iterator<Item = &PeerId> {
        self.ahead.iter()
    }

    /// The entries, ordered by writer and class.
    pub fn into_entries(self) -> impl Iterator<Item = Refused> {
        self.entries.into_values()
    }
}

/// The result of joining incoming updates into a stored space.
#[derive(Clone, Debug, Default)]
pub struct MergedSpace {
    /// The joined space, if it changed.
    pub space: Option<Space>,
    /// The number of new updates.
    pub admitted: usize,
    /// The number of updates that were already stored.
    pub known: usize,
}

impl MergedSpace {
    fn with(mut self, mut space: Space, has_changed: bool, limits: &Limits) -> Self {
        if has_changed {
            space.truncate(limits);
            self.space = Some(space);
        }
        self
    }
}

impl SpaceRules {
    /// Rules with these limits and this write policy.
    ///
    /// The policy sees the key and the writer only, and demands work of each update. So it cannot
    /// depend on what is written, on the time, or on what is stored. A program that wants to check
    /// content does so when it reads.
    pub fn new(limits: Limits, admission: impl Admission) -> Self {
        Self { limits, admission: Arc::new(admission) }
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Decodes the parts of a value that a replica would admit at `now`. Skips parts that are
    /// forged, expired, from the future, over a limit or not allowed under the key. Use it to read
    /// answers from the network.
    ///
    /// # Errors
    /// [`ValidationError`] with the first reason, if no part is left.
    pub fn read(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<SmartRecord, ValidationError> {
        self.salvage(key, value, Some(now))
    }

    /// The unverified updates in a value, for each writer that may write under `key`.
    ///
    /// # Errors
    /// [`ValidationError`] if the value is not a smart record, or the key is too long.
    pub fn open(
        &self,
        key: &RecordKey,
        value: Bytes,
        refusals: &mut Refusals,
    ) -> Result<Vec<(Writer, UnverifiedSpace)>, ValidationError> {
        self.limits.check_key(key)?;
        let spaces = decode_container(value)?;
        let mut admitted = Vec::with_capacity(spaces.len());
        for (public_key, updates) in spaces {
            if let Err(limit) = check_signature_work() {
                refusals.push(None, limit.into(), updates.len());
                continue;
            }
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
        Ok(admitted)
    }

    /// Joins the valid incoming updates into the stored space of their writer. Without `now`, time
    /// is not checked.
    pub fn merge(
        &self,
        key: &RecordKey,
        writer: &Writer,
        stored: Space,
        incoming: Incoming,
        now: Option<Timestamp>,
        refusals: &mut Refusals,
    ) -> MergedSpace {
        match incoming {
            Incoming::Unverified(updates) => {
                self.merge_unverified(key, writer, stored, updates, now, refusals)
            }
            Incoming::Verified(updates) => {
                self.merge_verified(writer, stored, updates, now, refusals)
            }
        }
    }

    /// The least number of signatures that are worth to be verified together.
    pub const LEAST_TOGETHER: usize = together::LEAST;

    fn terms(&self, key: &RecordKey, writer: &Writer, now: Option<Timestamp>) -> Terms<'_> {
        let min_work = self.min_work(key);
        let rank = if min_work > 0 { writer.rank(key) } else { [0; 32] };
        Terms { peer: writer.peer_id(), limits: self.limits(), min_work, rank, now }
    }

    /// Verifies the signatures of incoming updates of several writers together, which takes half of
    /// the time. Those that are good are not verified again when the updates are
    /// [merged](Self::merge) into the spaces beside them, with the same `now`: under the same key,
    /// for the same writer, by rules with the same limits. Otherwise they are. Nothing is refused
    /// here.
    ///
    /// Only signatures of Ed25519 are verified, and only those that [`merge`](Self::merge) would
    /// verify. Fewer than [`LEAST_TOGETHER`](Self::LEAST_TOGETHER) are left to it. The work is
    /// counted; see [`SignatureMemory::during`](crate::SignatureMemory::during).
    pub fn verify_together(
        &self,
        key: &RecordKey,
        spaces: Vec<(&Writer, &Space, &mut UnverifiedSpace)>,
        now: Option<Timestamp>,
    ) {
        let count = spaces.iter().fold(0_usize, |sum, (.., it)| sum.saturating_add(it.len()));
        if count < Self::LEAST_TOGETHER {
            return;
        }
        let mut batch = Batch::default();
        for (writer, stored, updates) in spaces {
            let Some(public_key) = writer.ed25519() else {
                continue;
            };
            let terms = self.terms(key, writer, now);
            let limits = self.limits().clone();
            let purview = Purview { key: key.clone(), writer: writer.clone(), limits };
            let decoded = updates.decoded(stored, purview);
            let mut wanted: Vec<_> = decoded.filter(|it| terms.check(it).is_ok()).collect();
            wanted.sort_unstable_by(|a, b| newest_first(a, b));
            let mut space = stored.clone();
            for update in wanted {
                if need_of(&space, update, self.limits()) != Need::Verify {
                    continue;
                }
                space.insert(update.unchecked().clone());
                if !batch.take(key, writer, public_key, update) {
                    return batch.verify();
                }
            }
        }
        batch.verify();
    }

    fn merge_unverified(
        &self,
        key: &RecordKey,
        writer: &Writer,
        mut space: Space,
        updates: UnverifiedSpace,
        now: Option<Timestamp>,
        refusals: &mut Refusals,
    ) -> MergedSpace {
        let mut merged = MergedSpace::default();
        let terms = self.terms(key, writer, now);
        let peer = terms.peer;
        let mut candidates = Vec::with_capacity(updates.len());
        for received in updates.into_updates() {
            if space.updates().any(|update| update.is(&received.wire)) {
                merged.known = merged.known.saturating_add(1);
                continue;
            }
            let decoded = received.decode(key, writer, &self.limits);
            let decoded = decoded.map_err(|error| terms.refused(error));
            match decoded.and_then(|update| terms.check(&update).map(|()| update)) {
                Ok(update) => candidates.push(update),
                Err(reason) => refusals.push(Some(peer), reason, 1),
            }
        }
        candidates.sort_unstable_by(newest_first);

        let mut changed = false;
        for update in candidates {
            match need_of(&space, &update, &self.limits) {
                Need::Known => {
                    merged.known = merged.known.saturating_add(1);
                    continue;
                }
                Need::NoRoom => {
                    refusals.push(Some(peer), ValidationError::Stale, 1);
                    continue;
                }
                Need::Verify => {}
            }
            // What was verified together with others costs nothing any more.
            if !update.is_good() && refusals.bad_signatures >= MAX_BAD_SIGNATURES {
                let limit = LimitExceeded::new(
                    Limit::BAD_SIGNATURES,
                    refusals.bad_signatures.saturating_add(1),
                    MAX_BAD_SIGNATURES,
                );
                refusals.push(Some(peer), limit.into(), 1);
                continue;
            }
            if !update.is_good()
                && let Err(limit) = check_signature_work()
            {
                refusals.push(Some(peer), limit.into(), 1);
                continue;
            }
            match update.verify(key, writer) {
                Ok(update) => {
                    changed = true;
                    match space.insert(update) {
                        InsertOutcome::New => merged.admitted = merged.admitted.saturating_add(1),
                        _ => merged.known = merged.known.saturating_add(1),
                    }
                }
                Err(error) => {
                    refusals.bad_signatures = refusals.bad_signatures.saturating_add(1);
                    refusals.push(Some(peer), terms.refused(error), 1);
                }
            }
        }
        merged.with(space, changed, &self.limits)
    }

    fn merge_verified(
        &self,
        writer: &Writer,
        mut space: Space,
        updates: Space,
        now: Option<Timestamp>,
        refusals: &mut Refusals,
    ) -> MergedSpace {
        let mut merged = MergedSpace::default();
        let mut changed = false;
        let mut refuse = |reason| refusals.push(Some(writer.peer_id()), reason, 1);
        for update in updates.into_updates() {
            let (position, retain_until) = (update.position(), update.retain_until());
            let is_there = space.get(position).is_some();
            if now.is_some_and(|now| retain_until <= now) {
                refuse(ValidationError::Expired { expired_at: retain_until });
            } else if !is_there && !space.has_room_for(update.kind(), position, &self.limits) {
                refuse(ValidationError::Stale);
            } else {
                match space.insert(update) {
                    InsertOutcome::New => {
                        changed = true;
                        merged.admitted = merged.admitted.saturating_add(1);
                    }
                    joined => {
                        changed |= joined == InsertOutcome::Resigned;
                        merged.known = merged.known.saturating_add(1);
                    }
                }
            }
        }
        merged.with(space, changed, &self.limits)
    }

    /// As [`read`](Self::read), but does not verify updates again that are in `known`, a record of
    /// the same key. Returns the refused parts too.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_knowing(
        &self,
        known: &SmartRecord,
        value: Bytes,
        now: Timestamp,
    ) -> Result<(SmartRecord, Refusals), ValidationError> {
        let key = known.key();
        let mut refusals = Refusals::default();
        let mut record = SmartRecord::new(key.clone());
        let mut spaces = self.open(key, value, &mut refusals)?;
        for (writer, updates) in &mut spaces {
            if let Some(known) = known.space(writer) {
                record.join_space(writer.clone(), updates.take_known(known, now));
            }
        }
        self.join_verified(&mut record, spaces, Some(now), &mut refusals);
        if record.spaces().len() > 0 {
            return Ok((record, refusals));
        }
        Err(refusals.first.unwrap_or(Malformed::Empty.into()))
    }

    /// Verifies updates, and joins the valid ones into a record that has none of them.
    fn join_verified(
        &self,
        record: &mut SmartRecord,
        mut spaces: Vec<(Writer, UnverifiedSpace)>,
        now: Option<Timestamp>,
        refusals: &mut Refusals,
    ) {
        let (key, nothing) = (record.key().clone(), Space::new());
        let together = spaces.iter_mut().map(|(writer, updates)| (&*writer, &nothing, updates));
        self.verify_together(&key, together.collect(), now);
        for (writer, updates) in spaces {
            let nothing = Space::new();
            let merged = self.merge_unverified(&key, &writer, nothing, updates, now, refusals);
            if let Some(space) = merged.space {
                record.join_space(writer, space);
            }
        }
    }

    /// Checks that at least one writer may write under a key.
    ///
    /// # Errors
    /// [`ValidationError`] if no writer may, or the key is too long.
    pub fn check_key(&self, key: &RecordKey) -> Result<(), ValidationError> {
        self.limits.check_key(key)?;
        Ok(self.admission.check_key(key)?)
    }

    /// Checks that a writer may write under a key.
    ///
    /// # Errors
    /// [`ValidationError`] if it may not, or the key is too long.
    pub fn check_writer(&self, key: &RecordKey, writer: &Writer) -> Result<(), ValidationError> {
        self.limits.check_key(key)?;
        Ok(self.admission.admit(key, writer)?)
    }

    /// The bits of work that each update under a key has to prove; see [`Admission::min_work`].
    pub fn min_work(&self, key: &RecordKey) -> u8 {
        self.admission.min_work(key)
    }

    /// The valid parts of a value as a record, which may be empty, and the refused parts. Without
    /// `now`, time is not checked.
    ///
    /// # Errors
    /// [`ValidationError`] if the value is not a smart record, or the key is too long.
    pub fn read_partial(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Option<Timestamp>,
    ) -> Result<(SmartRecord, Refusals), ValidationError> {
        let mut refusals = Refusals::default();
        let mut spaces = self.open(key, Bytes::copy_from_slice(value), &mut refusals)?;
        let max = self.limits.spaces_per_record();
        let max_withdrawn = self.limits.withdrawn_per_record();
        if spaces.len() > max.min(max_withdrawn) {
            // Drops what could not stay before any signature is verified, as `truncate` would.
            let min_bits = self.limits.min_stamp_bits();
            spaces.sort_by_cached_key(|(writer, updates)| {
                updates.eviction_order(writer.rank(key), min_bits)
            });
            let mut refuse = |writer: &Writer, limit, max: usize, count| {
                let limit = LimitExceeded::new(limit, max.saturating_add(1), max);
                refusals.push(Some(writer.peer_id()), limit.into(), count);
            };
            let (mut open, mut withdrawn) = (0_usize, 0_usize);
            spaces.retain_mut(|(writer, updates)| {
                open = open.saturating_add(usize::from(!updates.is_withdrawn()));
                if open > max && !updates.is_withdrawn() {
                    refuse(writer, Limit::SPACES_PER_RECORD, max, updates.keep_withdrawal());
                }
                updates.len() > 0
            });
            // Of those that are withdrawn now the rank decides.
            spaces.sort_by_cached_key(|(writer, _)| writer.rank(key));
            spaces.retain(|(writer, updates)| {
                withdrawn = withdrawn.saturating_add(usize::from(updates.is_withdrawn()));
                let stays = withdrawn <= max_withdrawn || !updates.is_withdrawn();
                if !stays {
                    refuse(writer, Limit::WITHDRAWN_PER_RECORD, max_withdrawn, updates.len());
                }
                stays
            });
        }
        let mut record = SmartRecord::new(key.clone());
        self.join_verified(&mut record, spaces, now, &mut refusals);
        // A withdrawal or a stamp that was claimed may not be in a valid update.
        for (writer, space) in record.truncate(&self.limits) {
            let left = record.space(&writer).map_or(0, |space| space.updates().len());
            let (limit, max) = match space.is_withdrawn() {
                true => (Limit::WITHDRAWN_PER_RECORD, max_withdrawn),
                false => (Limit::SPACES_PER_RECORD, max),
            };
            let exceeded = LimitExceeded::new(limit, max.saturating_add(1), max);
            let count = space.updates().len().saturating_sub(left);
            refusals.push(Some(writer.peer_id()), exceeded.into(), count);
        }
        Ok((record, refusals))
    }

    /// The valid parts of a value, or why there are none. Without `now`, time is not checked.
    fn salvage(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Option<Timestamp>,
    ) -> Result<SmartRecord, ValidationError> {
        let (record, refusals) = self.read_partial(key, value, now)?;
        if record.spaces().len() > 0 {
            return Ok(record);
        }
        Err(refusals.first.unwrap_or(Malformed::Empty.into()))
    }

    /// Decodes a record and refuses it if any part is invalid. Expired updates and updates hidden
    /// by newer ones are tolerated beside live ones, and left out of the record.
    ///
    /// # Errors
    /// [`ValidationError`], which says who is at fault.
    pub fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<SmartRecord, ValidationError> {
        let (record, refusals) = self.read_partial(key, value, Some(now))?;
        let first = refusals.first().cloned();
        let tolerable =
            |refused: &Refused| matches!(refused.reason.fault(), Fault::Expired | Fault::Stale);
        if let Some(refused) = refusals.into_entries().find(|refused| !tolerable(refused)) {
            return Err(refused.reason);
        }
        if record.spaces().len() == 0 {
            return Err(first.unwrap_or(Malformed::Empty.into()));
        }
        Ok(record)
    }

    /// The index of the best value, for callers that cannot consolidate. The record with the newest
    /// update wins, then the one with more updates, then the hash of the canonical form decides.
    ///
    /// # Errors
    /// [`ValidationError`] if there is no value, or no value has a valid part.
    pub fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_of(values, |value| {
            let record = self.salvage(key, value, None)?;
            let newest = record.spaces().filter_map(|(_, s)| s.newest()).max();
            let updates: usize = record.spaces().map(|(_, s)| s.updates().len()).sum();
            let hash: [u8; 32] = Sha256::digest(record.encode()).into();
            Ok((newest, updates, hash))
        })
    }

    /// The join of the valid parts of all values, in canonical form. Invalid parts are left out.
    ///
    /// # Errors
    /// [`ValidationError`] if no part is valid.
    pub fn consolidate(
        &self,
        key: &RecordKey,
        values: &[&[u8]],
    ) -> Result<Vec<u8>, ValidationError> {
        let mut joined = SmartRecord::new(key.clone());
        let mut first_error = None;
        for value in values {
            match self.salvage(key, value, None) {
                Ok(record) => {
                    for (writer, space) in record.into_spaces() {
                        joined.join_space(writer, space);
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
}
