//! Reads, carried out with Kademlia.
//!
//! **Invariants.** A read ends, whatever is answered: when its peers have been asked, when its policy is satisfied, when
//! nobody waits for it any more, or when Kademlia's query times out. One that ends before all were asked says nothing
//! about what there is not. Repairs are bounded in number, and nobody is sent again and again what it does not take.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordOk, QueryId, QueryResult};

use super::{
    Behaviour, Event, Task,
    worker::{Answer, Verdict},
    writing::Sender,
};
use crate::{
    client::{ClientError, Reply},
    clock::wall_clock,
    key::RecordKey,
    meter::{Amount, Begun, Purpose, Timed},
    query::{Joined, Lookup, ReadPolicy, Reading, Repair, Said, Spread, chunks},
    record::SmartRecord,
    store::{Checked, Origin},
    time::Timestamp,
    validator::{Malformed, ValidationError},
};

/// How many spaces are stored at a time: well below a millisecond's worth.
const PIECE: usize = 32;
/// How many such pieces may wait: 32 boards of the most spaces that there can be.
const MAX_PIECES: usize = 1_024;

/// A read that is under way.
pub(super) struct Read {
    lookup: Lookup,
    pub(super) reader: Reader,
    query: QueryId,
    /// How many answers are being checked elsewhere.
    verdicts: usize,
    /// The peers have been asked.
    is_over: bool,
    span: tracing::Span,
    begun: Begun,
}

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

impl Behaviour {
    pub(super) fn begin_read(&mut self, key: RecordKey, policy: ReadPolicy, reader: Reader) {
        let now = self.clock.now();
        let begun = self.meter.begin();
        let span = reader.span(&key);
        let _in_span = span.clone().entered();
        let store = self.kad.store_mut();
        let mut lookup = match Lookup::begin(store, key.clone(), policy, self.bounds, now) {
            Ok(lookup) => lookup,
            Err(error) => return self.refuse_read(key, reader, error),
        };
        if matches!(reader, Reader::Watch) {
            if let Some(record) = self.watches.record(&key) {
                // So that nothing of it is verified again, and none of it is news.
                lookup.on_known(record);
            } else if let Some((value, ends_at)) = self.watches.value(&key, now) {
                // What lives is not forgotten because nobody says it for once, nor for something worse.
                lookup.on_known_value(value, ends_at, now);
            }
        }
        let id = self.next_id();
        let query = self.ask(id, &key);
        let read = Read { lookup, reader, query, verdicts: 0, is_over: false, span, begun };
        self.lookups.insert(id, read);
    }

    /// Ends a read under a key for which nothing is registered.
    fn refuse_read(&mut self, key: RecordKey, reader: Reader, error: ValidationError) {
        match reader {
            Reader::Client(reply) => reply.send(Err(error.into())),
            Reader::Replication => self.end_replication(key, false),
            // They are begun only where something is.
            Reader::Resume | Reader::Watch => {}
        }
    }

    fn ask(&mut self, id: u64, key: &RecordKey) -> QueryId {
        let query = self.kad.get_record(kad::RecordKey::new(key));
        self.queries.insert(query, Task::Lookup(id));
        self.count(|c| &mut c.lookups, 1);
        tracing::trace!("asks the peers closest to the key");
        query
    }

    pub(super) fn on_lookup_progress(&mut self, id: u64, result: QueryResult, is_last: bool) {
        let QueryResult::GetRecord(result) = result else {
            return;
        };
        if let Ok(GetRecordOk::FoundRecord(found)) = result {
            // Without a peer it is our own copy, of which the lookup has the whole.
            let is_enough = found.peer.is_some_and(|peer| self.on_found(id, peer, found.record));
            return self.end_if(id, is_enough);
        }
        let Some(read) = self.lookups.get_mut(&id) else {
            return;
        };
        let _in_span = read.span.clone().entered();
        read.lookup.on_progress(&result);
        if is_last {
            read.is_over = true;
            self.end_round(id);
        }
    }

    /// An answer has come. Returns whether that is enough.
    fn on_found(&mut self, id: u64, peer: PeerId, record: kad::Record) -> bool {
        let now = self.clock.now();
        let Some(read) = self.lookups.get_mut(&id) else {
            return false;
        };
        let _in_span = read.span.clone().entered();
        self.meter.note(Amount::AnswerBytes(record.value.len()));
        let lookup = &mut read.lookup;
        if record.key != kad::RecordKey::new(lookup.key()) {
            // Kademlia does not compare them.
            let error = ValidationError::from(Malformed::other("an answer of another key"));
            tracing::debug!(%peer, %error, "a bad answer");
            return lookup.on_answer(peer, Err(error), None);
        }
        let expires_at = record.expires.map(|at| wall_clock(at, now));
        let mut value = Bytes::from(record.value);
        if let Some((_, worker)) = &mut self.inbound {
            let key = lookup.key().clone();
            let known = lookup.joined().known_of(&value);
            match worker.read(Answer { read: id, peer, key, value, expires_at, known }) {
                Ok(()) => {
                    read.verdicts = read.verdicts.saturating_add(1);
                    return false;
                }
                Err(given_back) => value = given_back,
            }
        }
        let said = lookup.joined().check(lookup.key(), value, now);
        tell_answer(&peer, said.as_ref().err());
        lookup.on_answer(peer, said, expires_at)
    }

    /// An answer has been checked elsewhere.
    pub(super) fn on_verdict(&mut self, verdict: Verdict) {
        let Verdict { read: id, peer, expires_at, said } = verdict;
        if let Some(read) = self.lookups.get_mut(&id) {
            let _in_span = read.span.clone().entered();
            tell_answer(&peer, said.as_ref().err());
            read.verdicts = read.verdicts.saturating_sub(1);
            let is_enough = read.lookup.on_answer(peer, said, expires_at);
            self.end_if(id, is_enough);
            self.end_round(id);
        }
    }

    /// What checks answers elsewhere has come to its end: those that it had are lost.
    pub(super) fn on_no_verdicts(&mut self) {
        let waiting = self.lookups.iter_mut().filter(|(_, read)| read.verdicts > 0);
        let waiting: Vec<_> = waiting
            .map(|(id, read)| {
                read.verdicts = 0;
                // There may have been anything in them.
                read.lookup.end_early();
                *id
            })
            .collect();
        waiting.into_iter().for_each(|id| self.end_round(id));
    }

    /// Asks nobody any more if that is enough, or nobody waits for it.
    fn end_if(&mut self, id: u64, is_enough: bool) {
        if let Some(read) = self.lookups.get_mut(&id)
            && !read.is_over
            && (is_enough || read.reader.is_gone())
            && let Some(mut query) = self.kad.query_mut(&read.query)
        {
            read.lookup.end_early();
            query.finish();
        }
    }

    /// Begins the next round, or ends the read, once the peers have been asked and their answers checked.
    fn end_round(&mut self, id: u64) {
        let Some(read) = self.lookups.get_mut(&id) else {
            return;
        };
        if !read.is_over || read.verdicts > 0 {
            return;
        }
        let _in_span = read.span.clone().entered();
        if !read.reader.is_gone() && read.lookup.on_round() {
            let key = read.lookup.key().clone();
            let query = self.ask(id, &key);
            if let Some(read) = self.lookups.get_mut(&id) {
                (read.query, read.is_over) = (query, false);
            }
        } else if let Some(Read { lookup, reader, begun, .. }) = self.lookups.remove(&id) {
            self.meter.end(Timed::Read(reader.purpose()), begun);
            self.meter.note(Amount::Lookups(reader.purpose(), lookup.lookups()));
            self.end_read(lookup, reader);
        }
    }

    fn end_read(&mut self, lookup: Lookup, reader: Reader) {
        let now = self.clock.now();
        self.count(|c| &mut c.reads, 1);
        let key = lookup.key().clone();
        let mut withheld =
            lookup.joined().record().map(|record| self.known.meet(record, now)).unwrap_or_default();
        // Nobody is accused of withholding what was not asked for to the end, or may stand in another slice.
        let tells_absence = lookup.is_complete() && !lookup.may_be_sliced();
        withheld
            .retain(|withheld| lookup.was_heard() && (tells_absence || withheld.found.is_some()));
        if !withheld.is_empty() {
            self.count(|c| &mut c.withheld, withheld.len());
            tracing::debug!(writers = withheld.len(), "less was found than was seen before");
            let writers = withheld.clone();
            self.events.push_back(Event::Withheld { key: key.clone(), writers });
        }
        let (repairs, is_close) = lookup.repairs(&self.local);
        self.repair(&lookup, &repairs, now);
        self.keep_here(&lookup, is_close, now);
        let is_large = lookup.may_be_sliced();
        let has_failed = lookup.has_failed();
        let lookups = lookup.lookups();
        let lifetime_ends_at = lookup.expires_at();
        let reading = lookup.into_reading(&repairs, withheld, now);
        self.count(|c| &mut c.bad_answers, reading.refused.len());
        tracing::debug!(
            lookups,
            holders = reading.holders.len(),
            stale = reading.stale.len(),
            empty = reading.empty.len(),
            refused = reading.refused.len(),
            has_failed,
            "read"
        );
        match reader {
            Reader::Client(reply) if has_failed => reply.send(Err(ClientError::TimedOut)),
            Reader::Client(reply) => reply.send(Ok(reading)),
            Reader::Resume => self.end_resume(&key, &reading),
            Reader::Watch => {
                let found = (!has_failed).then_some(&reading.snapshot);
                let value = reading.snapshot.value.as_ref();
                let ends_at =
                    value.and_then(|value| self.end_of(&key, value, lifetime_ends_at, now));
                self.watches.on_asked(&key, found, ends_at, now);
            }
            Reader::Replication => self.end_replication(key, is_large),
        }
    }

    fn repair(&mut self, lookup: &Lookup, repairs: &[Repair], now: Timestamp) {
        let expires_at = match lookup.joined().record() {
            Some(record) => record.retain_until(),
            None => lookup.expires_at(),
        };
        for Repair { peers, chunks } in repairs {
            if self.repairing() >= self.quarter() {
                // Another read will find that it is still lacking.
                self.count(|c| &mut c.repairs_put_off, peers.len());
                continue;
            }
            let sent = fingerprint(chunks);
            let key = lookup.key();
            let mut admitted = peers.clone();
            admitted.retain(|peer| {
                let had = lookup.said(peer).map_or(0, Said::fingerprint);
                self.repairs.admit(key, *peer, had, sent, now)
            });
            let put_off = peers.len().saturating_sub(admitted.len());
            self.count(|c| &mut c.repairs_put_off, put_off);
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
            Joined::Record(..) if lookup.has_here() || is_ours => {
                if let Some(news) = lookup.news() {
                    self.take_record(lookup, news);
                }
            }
            Joined::Value(_, Some(value)) => {
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
            return self.keep(news);
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
            let checked = Checked::new(&self.registry, key.clone(), value, now);
            self.insert(checked.with_origin(None, expires_at));
        } else if let Some(source) = lookup.source() {
            self.ask_about(source, key, value, expires_at);
        }
    }

    /// Stores a record, at once if it is small; else piece by piece, so that other tasks have their turn in between.
    fn keep(&mut self, news: SmartRecord) {
        if news.spaces().len() <= PIECE {
            return self.insert(Checked::verified(news));
        }
        let key = news.key().clone();
        let mut piece = SmartRecord::new(key.clone());
        for (writer, space) in news.into_spaces() {
            piece.join_space(writer, space);
            if piece.spaces().len() >= PIECE {
                let whole = std::mem::replace(&mut piece, SmartRecord::new(key.clone()));
                self.to_keep.push_back(whole);
            }
        }
        if piece.spaces().len() > 0 {
            self.to_keep.push_back(piece);
        }
        while self.to_keep.len() > MAX_PIECES {
            // Another read will find it again.
            self.to_keep.pop_front();
        }
    }

    /// Stores the next piece of what was read. Returns whether there was one.
    pub(super) fn keep_a_piece(&mut self) -> bool {
        let Some(piece) = self.to_keep.pop_front() else {
            return false;
        };
        self.insert(Checked::verified(piece));
        true
    }

    fn insert(&mut self, checked: Checked) {
        if let Err(error) = self.kad.store_mut().insert(checked, Origin::Remote) {
            tracing::debug!(%error, "what was read is not kept");
        }
    }
}

/// Tells what became of an answer.
fn tell_answer(peer: &PeerId, error: Option<&ValidationError>) {
    match error {
        Some(error) => tracing::debug!(%peer, %error, "a bad answer"),
        None => tracing::trace!(%peer, "a good answer"),
    }
}

/// A number by which what is sent is recognised when it is sent again.
fn fingerprint(chunks: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunks.hash(&mut hasher);
    hasher.finish()
}
