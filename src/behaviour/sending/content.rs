//! What of a record is sent to whom.
//!
//! **Invariants.** If the whole known record fits into one packet, it is sent whole. Otherwise
//! a peer that may keep the last PUT is sent what it has shown together with the write. Where a
//! value was read first, what is sent has the content of what was found.

use std::sync::Arc;

use bytes::Bytes;
use smart_record_core::{RecordKey, SmartRecord, ValidationError};

use super::super::{env::Env, holders::Closest};
use crate::{
    query::{JoinedAnswers, RecordLookup, RecordPut},
    store::StoredValue,
};

/// The recipients and the chunks, as an earlier read or write has found them. `None` for a large
/// record if one of the recipients may keep the last PUT: what was written alone would replace what
/// that peer has, so the record is read again.
pub(super) fn known(env: &mut Env, record_put: &RecordPut) -> Option<(Closest, Arc<[Bytes]>)> {
    let (closest, record) = env.holders.known(&record_put.key, env.net.now())?;
    let all = record.and_then(|record| whole(env, record_put, Some(&record)));
    let is_safe = all.is_some()
        || record_put.record().is_none()
        || closest.replicas.iter().all(|peer| env.holders.joins(peer));
    is_safe.then(|| (closest, all.unwrap_or_else(|| record_put.chunks.clone())))
}

/// What this node has written under a key and holds: its own space, or a value.
pub(super) fn written(env: &mut Env, key: &RecordKey) -> Option<RecordPut> {
    let store = env.kad.store_mut();
    if let Ok(Some(own)) = store.record_of(key, [&env.local]) {
        return Some(RecordPut::of(&own, env.bounds.chunk_bytes));
    }
    let StoredValue { value, expires_at, .. } = store.value(key).ok().flatten()?;
    Some(RecordPut::new(key.clone(), vec![value], expires_at))
}

/// The whole known record; `None` if it does not fit into one packet, or is no smart record.
pub(super) fn whole(
    env: &mut Env,
    record_put: &RecordPut,
    read: Option<&SmartRecord>,
) -> Option<Arc<[Bytes]>> {
    let stored = env.kad.store_mut().record(&record_put.key).ok().flatten();
    together(env, record_put, read.into_iter().chain(&stored)).map(|all| [all].into())
}

/// The written record joined with what else is known. `None` if it is no smart record, or does not
/// fit into one packet.
pub(super) fn together<'a>(
    env: &Env,
    record_put: &RecordPut,
    known: impl IntoIterator<Item = &'a SmartRecord>,
) -> Option<Bytes> {
    let mut all = JoinedAnswers::new(&env.registry, &record_put.key).ok()?;
    all.join(record_put.record()?);
    known.into_iter().for_each(|known| all.join(known));
    all.collect(env.now());
    let is_small = !all.exceeds(env.bounds.chunk_bytes);
    all.record().filter(|_| is_small).map(SmartRecord::encode).map(Bytes::from)
}

/// The value to send after a read, if it is another than the written one: a combination of it with
/// what was found.
///
/// # Errors
/// [`ValidationError::Stale`] if something better was found, which does not include it.
pub(super) fn combined(
    record_put: &RecordPut,
    lookup: &RecordLookup,
) -> Result<Option<Bytes>, ValidationError> {
    match (lookup.joined(), &record_put.chunks[..]) {
        (JoinedAnswers::Value(validator, Some(best)), [written]) if best != written => {
            match validator.contains(&record_put.key, best, written) {
                true => Ok(Some(best.clone())),
                false => Err(ValidationError::Stale),
            }
        }
        _ => Ok(None),
    }
}
