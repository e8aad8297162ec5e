//! Reads, carried out with Kademlia.
//!
//! **Invariants.** A read ends, whatever is answered: when its peers have been asked, when its policy is satisfied, when
//! nobody waits for it any more, or when Kademlia's query times out.

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordError, GetRecordOk, QueryId, QueryResult};

use super::{
    Behaviour, Event, ReadPolicy, Reply, Task,
    command::answer,
    lookup::{Lookup, Reading, Repair},
    spread::Spread,
    writing::Sender,
};
use crate::{
    client::ClientError,
    key::RecordKey,
    meter::{Begun, Purpose, Timed},
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

    pub(super) const fn purpose(&self) -> Purpose {
        match self {
            Self::Client(_) => Purpose::Client,
            Self::Resume => Purpose::Resume,
            Self::Watch => Purpose::Watch,
            Self::Replication => Purpose::Replication,
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Client(reply) if reply.is_gone())
    }

    fn span(&self, key: &RecordKey) -> tracing::Span {
        let purpose = self.purpose().as_str();
        match self {
            Self::Client(reply) => {
                tracing::debug_span!(parent: reply.span(), "read", %key, purpose)
            }
            _ => tracing::debug_span!(parent: None, "read", %key, purpose),
        }
    }
}

/// A read that is under way.
pub(super) struct Read {
    pub(super) lookup: Lookup,
    pub(super) reader: Reader,
    span: tracing::Span,
    begun: Begun,
}

impl<S: Storage> Behaviour<S> {
    pub(super) fn begin_read(&mut self, key: RecordKey, policy: ReadPolicy, reader: Reader) {
        let now = self.clock.now();
        let begun = self.meter.begin();
        let span = reader.span(&key);
        let _in_span = span.clone().entered();
        let validator = self.validator.clone();
        let mut lookup = Lookup::new(key, policy, self.bounds, &*validator);
        let local = if validator.smart_record(lookup.key()).is_some() {
            self.kad.store_mut().record(lookup.key()).map(|record| {
                if let Some(record) = record {
                    lookup.on_local(&record);
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
        let id = self.next_id();
        self.ask(id, lookup.key());
        self.lookups.insert(id, Read { lookup, reader, span, begun });
    }

    fn ask(&mut self, id: u64, key: &RecordKey) {
        let query = self.kad.get_record(key.into());
        self.queries.insert(query, Task::Lookup(id));
        self.count(|c| &mut c.lookups, 1);
        tracing::trace!("asks the peers closest to the key");
    }

    pub(super) fn on_lookup_progress(
        &mut self,
        id: u64,
        query: QueryId,
        result: QueryResult,
        is_last: bool,
    ) {
        let now = self.clock.now();
        let Some(Read { lookup, reader, span, .. }) = self.lookups.get_mut(&id) else {
            return;
        };
        let _in_span = span.clone().entered();
        let mut is_enough = reader.is_gone();
        let mut timed_out = false;
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => {
                // Without a peer it is our own copy, of which the lookup has the whole.
                if let Some(peer) = found.peer {
                    self.meter.answer(found.record.value.len());
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
                query.finish();
            }
            return;
        }
        if !timed_out && !is_enough && lookup.on_round() {
            let key = lookup.key().clone();
            return self.ask(id, &key);
        }
        self.end_read(id, timed_out, now);
    }

    fn end_read(&mut self, id: u64, timed_out: bool, now: Timestamp) {
        let Some(Read { lookup, reader, begun, .. }) = self.lookups.remove(&id) else {
            return;
        };
        self.count(|c| &mut c.reads, 1);
        self.meter.end(Timed::Read(reader.purpose()), begun);
        self.meter.lookups(reader.purpose(), lookup.lookups());
        let key = lookup.key().clone();
        let withheld =
            lookup.joined().record().map(|record| self.known.meet(record, now)).unwrap_or_default();
        if !withheld.is_empty() {
            self.count(|c| &mut c.withheld, withheld.len());
            tracing::debug!(writers = withheld.len(), "less was found than was seen before");
            let writers = withheld.clone();
            self.events.push_back(Event::Withheld { key: key.clone(), writers });
        }
        let (repairs, is_close) = lookup.repairs(&self.local, &*self.validator);
        self.repair(&lookup, &repairs);
        self.keep_here(&lookup, is_close, now);
        let is_large = lookup.may_be_sliced();
        let has_failed = timed_out && lookup.replies() == 0;
        let lookups = lookup.lookups();
        let reading = lookup.into_reading(&repairs, withheld, now);
        self.count(|c| &mut c.bad_answers, reading.refused.len());
        tracing::debug!(
            lookups,
            holders = reading.holders.len(),
            stale = reading.stale.len(),
            empty = reading.empty.len(),
            refused = reading.refused.len(),
            timed_out,
            "read"
        );
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

    fn repair(&mut self, lookup: &Lookup, repairs: &[Repair]) {
        for Repair { peers, chunks } in repairs {
            let expires_at = match lookup.joined().record() {
                Some(record) => record.spaces().filter_map(|(_, s)| s.retain_until()).max(),
                None => lookup.expires_at(),
            };
            let spread = Spread::new(lookup.key().clone(), chunks.clone(), expires_at);
            self.begin_spread(spread.to(peers.clone()), Sender::Repair);
        }
    }

    /// Stores here what was found if we have some of it, or are a server among the closest ourselves.
    fn keep_here(&mut self, lookup: &Lookup, is_close: bool, now: Timestamp) {
        let key = lookup.key();
        let is_server = self.kad.mode() == kad::Mode::Server;
        let store = self.kad.store_mut();
        let checked = match lookup.joined() {
            joined if joined.is_empty() => None,
            super::joined::Joined::Record(record) => {
                let here = store.record(key).ok().flatten();
                let is_wanted = here.is_some() || (is_close && is_server);
                (is_wanted && here.as_ref() != Some(record))
                    .then(|| Checked::verified(record.clone()))
            }
            super::joined::Joined::Value(value) => {
                let here = store.value(key).ok().flatten().map(|here| here.value);
                let is_wanted = here.is_some() || (is_close && is_server);
                value.as_ref().filter(|value| is_wanted && here.as_ref() != Some(*value)).map(
                    |value| {
                        Checked::new(&*self.validator, key.clone(), value, now)
                            .with_origin(None, lookup.expires_at())
                    },
                )
            }
        };
        if let Some(checked) = checked
            && let Err(error) = store.insert(checked, Origin::Remote)
        {
            tracing::debug!(%error, %key, "what was read is not kept");
        }
    }
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
        tracing::debug!(%peer, %error, "a bad answer");
        lookup.on_bad_answer(peer, error);
        return false;
    }
    let expires_at = record.expires.map(|at| wall_clock(at, now));
    let is_enough = lookup.on_answer(peer, &record.value, expires_at, validator, now);
    match lookup.refusal(&peer) {
        Some(error) => tracing::debug!(%peer, %error, "a bad answer"),
        None => tracing::trace!(%peer, bytes = record.value.len(), "a good answer"),
    }
    is_enough
}
