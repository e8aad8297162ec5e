//! Recipients and content of a write.
//!
//! **Invariants.** If the whole known record fits into one packet, it is sent whole. Otherwise
//! a peer that may keep the last PUT is sent what it has shown together with the write. A value is
//! read first, whoever sends it, and what is sent has the content of what was found.

use std::sync::Arc;

use bytes::Bytes;
use smart_record_core::{RecordKey, SmartRecord};

use super::super::{env::Env, holders::Closest};
use crate::{query::RecordPut, store::StoredValue};

/// The recipients and the chunks, as an earlier read or write has found them. `None` for a large
/// record if one of the recipients may keep the last PUT: what was written alone would replace what
/// that peer has, so the record is read again. `None` for a value: there may be a better one since.
pub(super) fn known(env: &mut Env, record_put: &mut RecordPut) -> Option<(Closest, Arc<[Bytes]>)> {
    record_put.record()?;
    let (closest, record) = env.holders.known(&record_put.key, env.net.now())?;
    let all = record.and_then(|record| whole(env, record_put, Some(&record)));
    let is_safe = all.is_some() || closest.replicas.iter().all(|peer| env.holders.joins(peer));
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
    record_put: &mut RecordPut,
    read: Option<&SmartRecord>,
) -> Option<Arc<[Bytes]>> {
    let store = env.kad.store_mut();
    let stored = store.record(&record_put.key).ok().flatten();
    record_put.together(store, read.into_iter().chain(&stored)).map(|all| [all].into())
}
