//! Writes, carried out with Kademlia: the peers closest to the key are looked up once, and sent all chunks.
//!
//! **Invariants.** What is sent is in our own store first, so it is what others will take. What goes out has no publisher,
//! so that those who write receive what others write.

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{QueryResult, Quorum};

use super::{Behaviour, Event, Task, reading::Reader};
use crate::{
    client::{ClientError, Publication, PublishedUpdate, Reply, Write},
    key::RecordKey,
    meter::Amount,
    query::{ReadPolicy, Reading, Spread},
    record::{SmartRecord, Writer},
    store::{Checked, Origin, WriteError},
    time::Timestamp,
    validator::Namespace,
};

/// What is to be done in an own space once the network has told what it says already.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) writes: Vec<(Write, Reply<Publication>)>,
    /// What is kept is to be signed anew.
    pub(super) is_renewal: bool,
}

/// Whom a spread is for.
pub(super) enum Sender {
    Client(Reply<Publication>, Publication),
    Repair,
    Refresh,
    Replication,
}

/// A write that is under way.
pub(super) struct Sending {
    pub(super) spread: Spread,
    pub(super) sender: Sender,
    span: tracing::Span,
}

impl Sender {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..))
    }

    fn span(&self, spread: &Spread) -> tracing::Span {
        let (key, chunks) = (&spread.key, spread.len());
        let purpose = match self {
            Self::Client(reply, _) => {
                return tracing::debug_span!(parent: reply.span(), "spread", %key, chunks);
            }
            Self::Repair => "repair",
            Self::Refresh => "refresh",
            Self::Replication => "replication",
        };
        tracing::debug_span!(parent: None, "spread", %key, chunks, purpose)
    }

    /// Whether it brings others what they lack.
    const fn is_repair(&self) -> bool {
        matches!(self, Self::Repair | Self::Replication)
    }
}

impl Behaviour {
    /// Writes to an own space, once it is known what it says already.
    pub(super) fn begin_write(&mut self, key: RecordKey, write: Write, reply: Reply<Publication>) {
        let registry = self.registry.clone();
        let Ok(Namespace::Spaces(rules)) = registry.resolve(&key) else {
            return reply.send(Err(ClientError::Unregistered(key)));
        };
        if let Err(error) = rules.check_writer(&key, &Writer::from(&self.own.public_key())) {
            return reply.send(Err(error.into()));
        }
        if let Some(waiting) = self.waiting.get_mut(&key) {
            return waiting.writes.push((write, reply));
        }
        if !self.own.knows(&key) {
            match self.kad.store_mut().record_of(&key, [&self.local]) {
                Ok(Some(record)) => self.own.learn(&key, rules.limits(), &record),
                Ok(None) => {}
                Err(error) => return reply.send(Err(error.into())),
            }
        }
        let is_known = self.own.knows(&key) || !self.config.resume_before_write();
        if !self.is_ahead(&key) && is_known {
            return self.write(&key, &write, reply);
        }
        self.waiting.entry(key.clone()).or_default().writes.push((write, reply));
        self.begin_read(key, ReadPolicy::All, Reader::Resume);
    }

    /// Whether nothing can be signed in an own space, because the clock was far ahead when it was signed before. What our own
    /// store was told to forget is no hindrance.
    fn is_ahead(&mut self, key: &RecordKey) -> bool {
        let now = self.clock.now();
        if self.own.is_ahead(key, now)
            && matches!(self.kad.store_mut().record_of(key, [&self.local]), Ok(None))
        {
            self.own.forget_future(key, now);
        }
        let is_ahead = self.own.is_ahead(key, now);
        if is_ahead {
            // It is not withheld by those who refuse it.
            self.known.forget(key, &Writer::from(&self.own.public_key()));
        }
        is_ahead
    }

    /// The network has told what an own space says already, unless nobody was reached.
    pub(super) fn end_resume(&mut self, key: &RecordKey, reading: &Reading) {
        let now = self.clock.now();
        let registry = self.registry.clone();
        let rules = registry.resolve(key);
        if let (Ok(Namespace::Spaces(rules)), Some(record)) = (rules, &reading.snapshot.record) {
            if reading.is_complete() {
                self.own.resume(key, rules.limits(), record);
                self.forget_future(key, now);
            } else {
                self.own.learn(key, rules.limits(), record);
            }
        }
        let Waiting { writes, is_renewal } = self.waiting.remove(key).unwrap_or_default();
        for (write, reply) in writes {
            if !reply.is_gone() {
                self.write(key, &write, reply);
            }
        }
        if is_renewal {
            self.resend(key, true, now);
        }
        self.own.forget_unwritten(key);
    }

    /// Forgets of an own space what was signed while the clock was far ahead: the network does not have it.
    fn forget_future(&mut self, key: &RecordKey, now: Timestamp) {
        if !self.own.forget_future(key, now) {
            return;
        }
        tracing::warn!(%key, "what was signed while the clock was far ahead is forgotten");
        let writer = Writer::from(&self.own.public_key());
        let forgotten = self.kad.store_mut().forget_space(key, &writer);
        let mut stored = forgotten.map_err(WriteError::from);
        if let Some(record) = self.own.record(key, now) {
            stored = stored.and_then(|()| self.store_own(&record));
        }
        if let Err(error) = stored {
            tracing::warn!(%error, %key, "our own store goes on to hold what is forgotten");
        }
    }

    fn write(&mut self, key: &RecordKey, write: &Write, reply: Reply<Publication>) {
        let now = self.clock.now();
        let Ok(Namespace::Spaces(rules)) = self.registry.resolve(key) else {
            return reply.send(Err(ClientError::Unregistered(key.clone())));
        };
        let (update, record, undo) = match self.own.write(key, rules.limits(), write, now) {
            Ok(written) => written,
            Err(error) => return reply.send(Err(error.into())),
        };
        if let Err(error) = self.store_own(&record) {
            self.own.undo(undo);
            return reply.send(Err(error.into()));
        }
        self.count(|c| &mut c.writes, 1);
        self.known.meet(&record, now);
        let spread = self.spread_of(&record);
        let publication = Publication {
            key: key.clone(),
            update: Some(PublishedUpdate::new(update.position(), update.expires_at())),
            value: None,
            peers: Vec::new(),
            chunks: spread.len(),
        };
        self.begin_spread(spread, Sender::Client(reply, publication));
    }

    /// Stores an own space of which something is new.
    fn store_own(&mut self, record: &SmartRecord) -> Result<(), WriteError> {
        let checked = Checked::verified(record.clone());
        let report = self.kad.store_mut().insert(checked, Origin::Local)?;
        match report.refused.into_iter().next() {
            // What is new was refused; that earlier updates are known is no comfort.
            Some((_, reason)) if report.stored == 0 => Err(reason.into()),
            _ => Ok(()),
        }
    }

    /// Puts a value as it is.
    pub(super) fn put(&mut self, key: RecordKey, value: Bytes, reply: Reply<Publication>) {
        let now = self.clock.now();
        let checked = Checked::new(&self.registry, key.clone(), &value, now);
        let is_value = checked.value().is_some();
        let spread = match Spread::begin(self.kad.store_mut(), checked) {
            Ok(spread) => spread,
            Err(error) => return reply.send(Err(error.into())),
        };
        self.count(|c| &mut c.writes, 1);
        let chunks = spread.len();
        let value = is_value.then_some(value);
        let publication = Publication { key, update: None, value, peers: Vec::new(), chunks };
        self.begin_spread(spread, Sender::Client(reply, publication));
    }

    /// How many repairs are under way.
    pub(super) fn repairing(&self) -> usize {
        self.spreads.values().filter(|sending| sending.sender.is_repair()).count()
    }

    /// A record, ready to be sent.
    pub(super) fn spread_of(&self, record: &SmartRecord) -> Spread {
        Spread::of(record, self.bounds.chunk_bytes)
    }

    /// Sends it to its peers, or if it has none to those closest to the key.
    pub(super) fn begin_spread(&mut self, spread: Spread, sender: Sender) {
        let id = self.next_id();
        let has_peers = !spread.peers().is_empty();
        let key = spread.key.as_bytes().to_vec();
        let span = sender.span(&spread);
        self.spreads.insert(id, Sending { spread, sender, span });
        if has_peers {
            return self.continue_spread(id);
        }
        let query = self.kad.get_closest_peers(key);
        self.queries.insert(query, Task::Closest(id));
    }

    pub(super) fn on_closest_peers(&mut self, id: u64, result: QueryResult) {
        let QueryResult::GetClosestPeers(result) = result else {
            return;
        };
        if let Some(sending) = self.spreads.get_mut(&id) {
            sending.spread.on_closest(&result, self.local);
            self.continue_spread(id);
        }
    }

    fn continue_spread(&mut self, id: u64) {
        let now = self.clock.now();
        let Some(Sending { spread, span, .. }) = self.spreads.get_mut(&id) else {
            return;
        };
        let _in_span = span.clone().entered();
        let Some((record, peers)) = spread.next_record(now) else {
            return self.end_spread(id);
        };
        tracing::trace!(bytes = record.value.len(), peers = peers.len(), "sends a chunk");
        let query = self.kad.put_record_to(record, peers.into_iter(), Quorum::All);
        self.queries.insert(query, Task::Put(id));
    }

    pub(super) fn on_put(&mut self, id: u64, result: &QueryResult) {
        let QueryResult::PutRecord(result) = result else {
            return;
        };
        if let Some(Sending { spread, .. }) = self.spreads.get_mut(&id) {
            spread.on_put(result);
        }
        self.continue_spread(id);
    }

    fn end_spread(&mut self, id: u64) {
        let Some(Sending { spread, sender, .. }) = self.spreads.remove(&id) else {
            return;
        };
        let key = spread.key.clone();
        let peers: Vec<PeerId> = spread.into_peers();
        tracing::debug!(peers = peers.len(), "spread");
        match sender {
            Sender::Client(reply, publication) => {
                reply.send(Ok(Publication { peers, ..publication }));
            }
            Sender::Repair => {
                self.count(|c| &mut c.repairs, peers.len());
                if !peers.is_empty() {
                    self.meter.note(Amount::RepairedPeers(peers.len()));
                    self.events.push_back(Event::Repaired { key, peers });
                }
            }
            Sender::Refresh => {
                self.count(|c| &mut c.refreshes, 1);
                self.meter.note(Amount::RefreshedPeers(peers.len()));
                self.events.push_back(Event::Refreshed { key, peers });
            }
            Sender::Replication => self.events.push_back(Event::Replicated { key }),
        }
    }

    /// Sends an own space again, signed anew if it is to be kept.
    pub(super) fn refresh(&mut self, key: RecordKey, is_renewal: bool, now: Timestamp) {
        if is_renewal {
            // Another process may have written as the same writer: what has come here of that is not to be replaced.
            if let Ok(Namespace::Spaces(rules)) = self.registry.resolve(&key)
                && let Ok(Some(record)) = self.kad.store_mut().record_of(&key, [&self.local])
            {
                self.own.learn(&key, rules.limits(), &record);
            }
            if let Some(waiting) = self.waiting.get_mut(&key) {
                waiting.is_renewal = true;
                return;
            }
            if self.is_ahead(&key) {
                let waiting = Waiting { is_renewal, ..Waiting::default() };
                self.waiting.insert(key.clone(), waiting);
                return self.begin_read(key, ReadPolicy::All, Reader::Resume);
            }
        }
        self.resend(&key, is_renewal, now);
    }

    fn resend(&mut self, key: &RecordKey, is_renewal: bool, now: Timestamp) {
        if is_renewal && let Err(error) = self.own.renew(key, now) {
            tracing::warn!(%error, %key, "what is kept could not be signed anew");
        }
        let Some(record) = self.own.record(key, now) else {
            return;
        };
        if let Err(error) = self.store_own(&record) {
            // Others may still take it.
            tracing::warn!(%error, %key, "our own store does not take an own space any more");
        }
        let spread = self.spread_of(&record);
        self.begin_spread(spread, Sender::Refresh);
    }
}
