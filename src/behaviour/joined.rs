//! What several answers to one question say together.
//!
//! **Invariants.** Pure. Only what is good comes in: signed, for this key, not expired. In whatever order the answers
//! come, the result is the same; what is in it already is not verified again. A record is never larger than its limits
//! allow.
//!
//! **Spec.** `docs/design.md`, sections "Join" and "Validators".

use std::hash::{DefaultHasher, Hash, Hasher};

use prost::bytes::Bytes;

use super::outcome::Snapshot;
use crate::{
    key::RecordKey,
    record::{Limits, SmartRecord, Space, Writer},
    time::Timestamp,
    validator::{ValidationError, Validator},
};

/// What is known of a record: for a smart record the join, for others the consolidated or selected value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    Record(SmartRecord),
    Value(Option<Bytes>),
}

/// What one answer said that was good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Record(SmartRecord),
    Value(Bytes),
}

impl Joined {
    pub(super) fn new(validator: &dyn Validator, key: &RecordKey) -> Self {
        match validator.smart_record(key) {
            Some(_) => Self::Record(SmartRecord::new(key.clone())),
            None => Self::Value(None),
        }
    }

    /// Takes an answer in. Returns what was good of it, and whether that was news.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing of it is good.
    pub(super) fn take(
        &mut self,
        validator: &dyn Validator,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<(Said, bool), ValidationError> {
        match (self, validator.smart_record(key)) {
            (Self::Record(joined), Some(rules)) => {
                let said = rules.read_knowing(joined, value, now)?;
                let is_news = !contains(joined, &said);
                if is_news {
                    join(joined, &said);
                    joined.truncate(rules.limits());
                }
                Ok((Said::Record(said), is_news))
            }
            (Self::Value(best), _) => {
                let said = Bytes::copy_from_slice(value);
                if best.as_ref() == Some(&said) {
                    return Ok((Said::Value(said), false));
                }
                validator.validate(key, value, now)?;
                let better: Bytes = match best {
                    // What is there comes first: of equals it stays.
                    Some(best) => validator.consolidate(key, &[best, value])?.into(),
                    None => said.clone(),
                };
                let is_news = best.as_ref() != Some(&better);
                *best = Some(better);
                Ok((Said::Value(said), is_news))
            }
            (Self::Record(_), None) => {
                Err(ValidationError::Unsupported("no rules of smart records".to_owned()))
            }
        }
    }

    /// Takes in a record that is known to be good, as far as there is room for it.
    pub(super) fn join(&mut self, record: &SmartRecord, limits: &Limits) {
        let Self::Record(joined) = self else {
            return;
        };
        if !contains(joined, record) {
            join(joined, record);
            joined.truncate(limits);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Record(record) => record.spaces().len() == 0,
            Self::Value(value) => value.is_none(),
        }
    }

    pub(super) fn record(&self) -> Option<&SmartRecord> {
        match self {
            Self::Record(record) => Some(record),
            Self::Value(_) => None,
        }
    }

    /// As it is known at `now`.
    pub(super) fn into_snapshot(self, key: RecordKey, now: Timestamp) -> Snapshot {
        let (record, value) = match self {
            Self::Record(mut record) => {
                record.collect(now);
                (Some(record), None)
            }
            Self::Value(value) => (None, value),
        };
        Snapshot { key, record, value, at: now }
    }

    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Record(record) => record
                .spaces()
                .map(|(writer, space)| space.encode(writer).len().saturating_add(4))
                .fold(0, usize::saturating_add),
            Self::Value(value) => value.as_ref().map_or(0, Bytes::len),
        }
    }

    /// What one who has said this lacks, in chunks; nothing if he has it all. `whole`: what he said is all that he
    /// has. Otherwise it is a slice, and only what is older in it than what is known counts.
    pub(super) fn lacking(
        &self,
        validator: &dyn Validator,
        key: &RecordKey,
        said: Option<&Said>,
        whole: bool,
        chunk_bytes: usize,
    ) -> Vec<Bytes> {
        match (self, said) {
            (Self::Record(joined), None) => chunks(joined, chunk_bytes),
            (Self::Record(joined), Some(Said::Record(said))) => {
                let mut lacking = SmartRecord::new(key.clone());
                for (writer, space) in joined.spaces() {
                    let had = said.space(writer);
                    let is_behind = match had {
                        Some(had) if whole => !covers(had, space),
                        Some(had) => had.newest() < space.newest(),
                        None => whole,
                    };
                    if is_behind {
                        lacking.join_space(writer.clone(), space.clone());
                    }
                }
                chunks(&lacking, chunk_bytes)
            }
            (Self::Value(Some(best)), said) => {
                let has_it =
                    matches!(said, Some(Said::Value(said)) if validator.contains(key, said, best));
                if has_it { Vec::new() } else { vec![best.clone()] }
            }
            _ => Vec::new(),
        }
    }
}

impl Said {
    /// A number by which it is recognised when it is said again.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Record(record) => {
                for (writer, space) in record.spaces() {
                    writer.as_bytes().hash(&mut hasher);
                    space.newest().hash(&mut hasher);
                    space.updates().len().hash(&mut hasher);
                }
            }
            Self::Value(value) => value.hash(&mut hasher),
        }
        hasher.finish()
    }

    /// Adds what the same one has said in another answer.
    pub(super) fn and(&mut self, other: Self) {
        match (self, other) {
            (Self::Record(all), Self::Record(more)) => join(all, &more),
            (this, other) => *this = other,
        }
    }
}

/// The pieces in which a record is sent.
pub(super) fn chunks(record: &SmartRecord, chunk_bytes: usize) -> Vec<Bytes> {
    if record.spaces().len() == 0 {
        return Vec::new();
    }
    record.chunks(chunk_bytes).map(Bytes::from).collect()
}

fn join(record: &mut SmartRecord, other: &SmartRecord) {
    for (writer, space) in other.spaces() {
        record.join_space(Writer::clone(writer), space.clone());
    }
}

/// The spaces of a record to which there is more than `other` has of them.
pub(super) fn beyond(record: &SmartRecord, other: &SmartRecord) -> SmartRecord {
    let mut more = SmartRecord::new(record.key().clone());
    for (writer, space) in record.spaces() {
        if !other.space(writer).is_some_and(|had| covers(had, space)) {
            more.join_space(writer.clone(), space.clone());
        }
    }
    more
}

fn contains(whole: &SmartRecord, part: &SmartRecord) -> bool {
    part.spaces().all(|(writer, space)| whole.space(writer).is_some_and(|had| covers(had, space)))
}

/// Whether joining `other` into `space` would add nothing.
fn covers(space: &Space, other: &Space) -> bool {
    if space == other {
        return true;
    }
    let mut joined = space.clone();
    joined.join(other.clone());
    joined.newest() == space.newest()
        && joined.updates().len() == space.updates().len()
        && joined.updates().zip(space.updates()).all(|(a, b)| a.position() == b.position())
}
