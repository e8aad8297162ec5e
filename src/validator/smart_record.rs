//! The validator of smart records.
//!
//! **Invariants.** A record is admitted part by part: a refused update takes no good one with it. What is cheap
//! to check is checked first, the signature last, and not at all for an update that is stored already.
//!
//! **Spec.** `docs/design.md`, sections "Update" and "Limits".

use std::{fmt, sync::Arc};

use libp2p_identity::PeerId;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Malformed, ValidationError, Validator, Validity, best_index};
use crate::{
    key::RecordKey,
    proto::smart_record as proto,
    record::{
        Admission, Limit, Limits, Open, SignedUpdate, SmartRecord, Space, UnverifiedUpdate, Writer,
        check, decode_container,
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

/// A part of a record that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// In whose space it stood, where that can be told.
    pub(crate) writer: Option<PeerId>,
    pub(crate) reason: ValidationError,
}

/// What a replica takes from a space that it was sent.
#[derive(Debug, Default)]
pub(crate) struct ReadSpace {
    /// The updates to join into the stored space.
    pub(crate) admitted: Space,
    /// How many were stored already, byte for byte.
    pub(crate) known: usize,
    pub(crate) refused: Vec<Refused>,
}

impl SmartRecordValidator {
    /// Rules with these limits and this policy.
    pub fn new(limits: Limits, admission: impl Admission) -> Self {
        Self {
            limits,
            admission: Arc::new(admission),
        }
    }

    /// The limits.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The spaces of a value, not yet looked into.
    pub(crate) fn open(
        &self,
        key: &RecordKey,
        value: Bytes,
    ) -> Result<Vec<proto::Space>, ValidationError> {
        self.limits.check_key(key)?;
        Ok(decode_container(value)?)
    }

    /// The writer of a space, if it may write under `key`.
    pub(crate) fn admit_writer(
        &self,
        key: &RecordKey,
        public_key: Bytes,
    ) -> Result<Writer, Box<Refused>> {
        let writer = Writer::decode(public_key).map_err(|error| Refused {
            writer: None,
            reason: error.into(),
        })?;
        self.admission
            .admit(key, &writer)
            .map_err(|refusal| Refused {
                writer: Some(writer.peer_id()),
                reason: refusal.into(),
            })?;
        Ok(writer)
    }

    /// Checks the updates that a space came with, against the wire form of what is stored of it.
    pub(crate) fn read_space(
        &self,
        key: &RecordKey,
        writer: &Writer,
        updates: Vec<proto::SignedUpdate>,
        stored: &proto::Space,
        now: Timestamp,
    ) -> ReadSpace {
        let mut read = ReadSpace::default();
        let (known, new): (Vec<_>, Vec<_>) = updates
            .into_iter()
            .partition(|update| stored.updates.contains(update));
        read.known = known.len();
        if new.is_empty() {
            return read;
        }
        // Rows decode: they were encoded by us. If one did not, nothing would be known.
        let stored = Space::from_stored(stored.clone()).unwrap_or_default();
        for wire in new {
            match self.read_update(key, writer, wire, &stored, now) {
                Ok(Some(update)) => {
                    read.admitted.insert(update);
                }
                Ok(None) => read.known = read.known.saturating_add(1),
                Err(reason) => read.refused.push(Refused {
                    writer: Some(writer.peer_id()),
                    reason,
                }),
            }
        }
        read
    }

    fn read_update(
        &self,
        key: &RecordKey,
        writer: &Writer,
        wire: proto::SignedUpdate,
        stored: &Space,
        now: Timestamp,
    ) -> Result<Option<SignedUpdate>, ValidationError> {
        let of_update = |error| ValidationError::of_update(Box::new(writer.peer_id()), error);
        let update = UnverifiedUpdate::decode(wire.update, wire.signature.clone(), &self.limits)
            .map_err(of_update)?;
        update.check_time(now, &self.limits).map_err(of_update)?;
        let position = update.position();
        let twin = stored.updates().find(|u| u.position() == position);
        if twin.is_some_and(|twin| twin.signature() <= &wire.signature[..]) {
            // The same bytes with another signature: the lesser one stays, good or not.
            return Ok(None);
        }
        if twin.is_none() && !stored.has_room_at(position, &self.limits) {
            return Err(ValidationError::Stale);
        }
        update.verify(key, writer).map(Some).map_err(of_update)
    }

    /// Everything in `value` that can be read and verified, whatever the time; the rest is left out.
    fn salvage(&self, key: &RecordKey, value: &[u8]) -> Result<SmartRecord, ValidationError> {
        let mut record = SmartRecord::new(key.clone());
        for space in self.open(key, Bytes::copy_from_slice(value))? {
            let Ok(writer) = self.admit_writer(key, space.public_key) else {
                continue;
            };
            for wire in space.updates {
                let update = UnverifiedUpdate::decode(wire.update, wire.signature, &self.limits)
                    .and_then(|update| update.verify(key, &writer));
                if let Ok(update) = update {
                    record.insert(writer.clone(), update);
                }
            }
        }
        record.truncate(&self.limits);
        Ok(record)
    }
}

impl Validator for SmartRecordValidator {
    /// Everything in the record has to be good; only what has expired may be there beside what has not.
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        let mut record = SmartRecord::new(key.clone());
        let mut expired = None;
        for space in self.open(key, Bytes::copy_from_slice(value))? {
            let writer = self
                .admit_writer(key, space.public_key)
                .map_err(|refused| refused.reason)?;
            let nothing = proto::Space::default();
            let read = self.read_space(key, &writer, space.updates, &nothing, now);
            for refused in read.refused {
                match refused.reason {
                    reason @ ValidationError::Expired { .. } => expired = Some(reason),
                    reason => return Err(reason),
                }
            }
            record.join_space(writer, read.admitted);
        }
        check(
            Limit::SpacesPerRecord,
            record.spaces().len(),
            self.limits.spaces_per_record(),
        )?;
        let expires_at = record.spaces().filter_map(|(_, s)| s.retain_until()).max();
        match (expires_at, expired) {
            (Some(expires_at), _) => Ok(Validity::until(expires_at)),
            (None, Some(expired)) => Err(expired),
            (None, None) => Err(Malformed::Empty.into()),
        }
    }

    /// For those who cannot consolidate: the record with the newest update wins, then the one with more
    /// updates, then by the hash of the canonical form.
    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        let mut first_error = None;
        let ranked: Vec<_> = values
            .iter()
            .map(|value| {
                let record = match self.salvage(key, value) {
                    Ok(record) => record,
                    Err(error) => {
                        first_error.get_or_insert(error);
                        return None;
                    }
                };
                let newest = record.spaces().filter_map(|(_, s)| s.newest()).max()?;
                let updates: usize = record.spaces().map(|(_, s)| s.updates().len()).sum();
                let hash: [u8; 32] = Sha256::digest(record.encode()).into();
                Some((newest, updates, hash))
            })
            .collect();
        if ranked.iter().all(Option::is_none) {
            return Err(first_error.unwrap_or(ValidationError::NoValue));
        }
        best_index(ranked)
    }

    /// The join of all that is good in these values, in canonical form. What is not good is left out; if
    /// nothing is, that is an error.
    fn consolidate(&self, key: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
        let mut joined = SmartRecord::new(key.clone());
        let mut first_error = None;
        for value in values {
            match self.salvage(key, value) {
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

    fn smart_record(&self, _: &RecordKey) -> Option<&SmartRecordValidator> {
        Some(self)
    }
}
