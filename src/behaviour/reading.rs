//! Reads, carried out with Kademlia.
//!
//! **Invariants.** A read ends, whatever is answered: when its peers have been asked, when its policy is satisfied, when
//! nobody waits for it any more, or when Kademlia's query times out. One that ends before all were asked says nothing
//! about what there is not. Repairs are bounded in number, and nobody is sent again and again what it does not take.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordError, GetRecordOk, QueryId, QueryResult};
use prost::bytes::Bytes;

use super::{
    Behaviour, Event, ReadPolicy, Reply, Task,
    command::answer,
    event::count,
    joined::{Joined, Said, chunks},
    lookup::{Lookup, Repair},
    outcome::Reading,
    spread::Spread,
    writing::Sender,
};
use crate::{
    client::ClientError,
    key::RecordKey,
    record::SmartRecord,
    store::{Origin, Storage, StoredValue, wall_clock},
    time::Timestamp,
    validator::{Checked, Malformed, ValidationError},
};

/// Whom a read is for.
pub(super) enum Reader {
    Client(Reply<Reading>),
    /// An own space that is to be written to for the first time.
    Resume,
    Watch,
    Replication,
}

impl Reader {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(_) | Self::Resume)
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Client(reply) if reply.is_canceled())
    }
}

impl<S: Storage> Behaviour<S> {
    pub(super) fn begin_read(&mut self, key: RecordKey, policy: ReadPolicy, reader: Reader) {
        let now = self.clock.now();
        let validator = self.validator.clone();
        let mut lookup = Lookup::new(key, policy, self.bounds, &*validator);
        let local = if validator.smart_record(lookup.key()).is_some() {
            self.kad.store_mut().record(lookup.key()).map(|record| {
                if let Some(record) = record {
                    lookup.on_local(record, &*validator);
                }
            })
        } else {
            self.kad.store_mut().value(lookup.key()).map(|value| {
                if let Some(StoredValue { value, expires_at, .. }) = value {
                    lookup.on_local_value(&value, expires_at, &*validator, now);
                }
            })
        };
        if let Err(error) = local {
            // Others may have it.
            tracing::warn!(%error, key = %lookup.key(), "our own copy could not be read");
        }
        if matches!(reader, Reader::Watch)
            && let Some(record) = self.watches.record(lookup.key())
        {
            // So that nothing of it is verified again, and none of it is news.
            lookup.on_known(record, &*validator);
        }
        let id = self.next_id();
        self.ask(id, lookup.key());
        self.lookups.insert(id, (lookup, reader));
    }

    fn ask(&mut self, id: u64, key: &RecordKey) {
        let query = self.kad.get_record(key.into());
        self.queries.insert(query, Task::Lookup(id));
        count(&mut self.counters.lookups, 1);
    }

    pub(super) fn on_lookup_progress(
        &mut self,
        id: u64,
        query: QueryId,
        result: QueryResult,
        is_last: bool,
    ) {
        let now = self.clock.now();
        let Some((lookup, reader)) = self.lookups.get_mut(&id) else {
            return;
        };
        let mut is_enough = reader.is_gone();
        let mut timed_out = false;
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                // Without a peer it is our own copy, of which the lookup has the whole.
                if let Some(peer) = found.peer {
                    is_enough |= take(lookup, peer, &found.record, &*self.validator, now);
                }
            }
            QueryResult::GetRecord(Ok(GetRecordOk::FinishedWithNoAdditionalRecord {
                cache_candidates,
            })) => lookup.on_empty(cache_candidates.into_values()),
            QueryResult::GetRecord(Err(GetRecordError::NotFound { closest_peers, .. })) => {
                lookup.on_empty(closest_peers);
            }
            QueryResult::GetRecord(Err(GetRecordError::Timeout { .. })) => timed_out = true,
            _ => {}
        }
        if !is_last {
            if is_enough && let Some(mut query) = self.kad.query_mut(&query) {
                lookup.end_early();
                query.finish();
            }
            return;
        }
        if timed_out {
            lookup.end_early();
        }
        if !is_enough && lookup.on_round() {
            let key = lookup.key().clone();
            return self.ask(id, &key);
        }
        self.end_read(id, timed_out, now);
    }

    fn end_read(&mut self, id: u64, timed_out: bool, now: Timestamp) {
        let Some((lookup, reader)) = self.lookups.remove(&id) else {
            return;
        };
        count(&mut self.counters.reads, 1);
        let key = lookup.key().clone();
        let mut withheld =
            lookup.joined().record().map(|record| self.known.meet(record, now)).unwrap_or_default();
        // Nobody is accused of withholding what was not asked for to the end, or may stand in another slice.
        let tells_absence = lookup.is_complete() && !lookup.may_be_sliced();
        withheld
            .retain(|withheld| lookup.was_heard() && (tells_absence || withheld.found.is_some()));
        if !withheld.is_empty() {
            count(&mut self.counters.withheld, withheld.len());
            let writers = withheld.clone();
            self.events.push_back(Event::Withheld { key: key.clone(), writers });
        }
        let (repairs, is_close) = lookup.repairs(&self.local, &*self.validator);
        self.repair(&lookup, &repairs, now);
        self.keep_here(&lookup, is_close, now);
        let is_large = lookup.may_be_sliced();
        let has_failed = timed_out && !lookup.has_replies();
        let reading = lookup.into_reading(&repairs, withheld, self.validator.clone(), now);
        count(&mut self.counters.bad_answers, reading.refused.len());
        match reader {
            Reader::Client(reply) if has_failed => answer(reply, Err(ClientError::TimedOut)),
            Reader::Client(reply) => answer(reply, Ok(reading)),
            Reader::Resume => self.end_resume(&key, &reading),
            Reader::Watch => {
                let found = (!has_failed).then_some(&reading.snapshot);
                self.watches.on_asked(&key, found, now);
            }
            Reader::Replication => self.end_replication(key, is_large),
        }
    }

    fn repair(&mut self, lookup: &Lookup, repairs: &[Repair], now: Timestamp) {
        let expires_at = match lookup.joined().record() {
            Some(record) => record.spaces().filter_map(|(_, s)| s.retain_until()).max(),
            None => lookup.expires_at(),
        };
        for Repair { peers, chunks } in repairs {
            if self.repairing() >= self.quarter() {
                // Another read will find that it is still lacking.
                return count(&mut self.counters.repairs_put_off, peers.len());
            }
            let sent = fingerprint(chunks);
            let key = lookup.key();
            let mut admitted = peers.clone();
            admitted.retain(|peer| {
                let had = lookup.said(peer).map_or(0, Said::fingerprint);
                self.repairs.admit(key, *peer, had, sent, now)
            });
            let put_off = peers.len().saturating_sub(admitted.len());
            count(&mut self.counters.repairs_put_off, put_off);
            if !admitted.is_empty() {
                let spread = Spread::new(key.clone(), chunks.clone(), expires_at);
                self.begin_spread(spread.to(admitted), Sender::Repair);
            }
        }
    }

    /// Stores here what was found if we have some of it, or are a server among the closest ourselves.
    fn keep_here(&mut self, lookup: &Lookup, is_close: bool, now: Timestamp) {
        let key = lookup.key();
        let is_ours = is_close && self.kad.mode() == kad::Mode::Server;
        match lookup.joined() {
            Joined::Record(_) if lookup.has_here() || is_ours => {
                if let Some(news) = lookup.news() {
                    self.take_record(lookup, news);
                }
            }
            Joined::Value(Some(value)) => {
                let here = self.kad.store_mut().value(key).ok().flatten().map(|here| here.value);
                if (here.is_some() || is_ours) && here.as_ref() != Some(value) {
                    self.take_value(lookup, value, now);
                }
            }
            _ => {}
        }
    }

    fn take_record(&mut self, lookup: &Lookup, news: SmartRecord) {
        if !self.is_asking() {
            return self.insert(Checked::verified(news));
        }
        let mut by_source: BTreeMap<PeerId, SmartRecord> = BTreeMap::new();
        for (writer, space) in news.spaces() {
            // What nobody has said now was asked about when it was said.
            if let Some(source) = lookup.source_of(writer) {
                let part = by_source.entry(source);
                let part = part.or_insert_with(|| SmartRecord::new(news.key().clone()));
                part.join_space(writer.clone(), space.clone());
            }
        }
        for (source, part) in by_source {
            for chunk in chunks(&part, self.bounds.chunk_bytes) {
                self.ask_about(source, lookup.key(), &chunk, None);
            }
        }
    }

    fn take_value(&mut self, lookup: &Lookup, value: &[u8], now: Timestamp) {
        let (key, expires_at) = (lookup.key(), lookup.expires_at());
        if !self.is_asking() {
            let checked = Checked::new(&*self.validator, key.clone(), value, now);
            self.insert(checked.with_origin(None, expires_at));
        } else if let Some(source) = lookup.source() {
            self.ask_about(source, key, value, expires_at);
        }
    }

    fn insert(&mut self, checked: Checked) {
        if let Err(error) = self.kad.store_mut().insert(checked, Origin::Remote) {
            tracing::debug!(%error, "what was read is not kept");
        }
    }
}

/// A number by which what is sent is recognised when it is sent again.
fn fingerprint(chunks: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunks.hash(&mut hasher);
    hasher.finish()
}

/// Takes a reply of Kademlia in; returns whether the lookup has enough.
fn take(
    lookup: &mut Lookup,
    peer: PeerId,
    record: &kad::Record,
    validator: &dyn crate::Validator,
    now: Timestamp,
) -> bool {
    if record.key != kad::RecordKey::from(lookup.key()) {
        // Kademlia does not compare them.
        let error = ValidationError::from(Malformed::other("an answer of another key"));
        lookup.on_bad_answer(peer, error);
        return false;
    }
    let expires_at = record.expires.map(|at| wall_clock(at, now));
    lookup.on_answer(peer, &record.value, expires_at, validator, now)
}
