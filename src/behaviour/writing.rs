//! Writes: signing and storing before sending, and keeping own records in the network.
//!
//! **Invariants.** A record is stored locally before it is sent, so replicas accept what is sent.
//! This module sends no requests; it returns the next steps.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::KBucketKey;

use super::{
    config::BehaviourConfig,
    env::Env,
    event::Event,
    own::{Duty, OwnRecords},
    rollback::SeenBefore,
    sending::SendPurpose,
};
use crate::{
    client::{
        ClientError, End, KeepId, ProgressReceiver, Publication, PublicationContent,
        PublishedUpdate, Reply, Write,
    },
    query::{Reading, RecordPut},
    store::{StoredValue, ValidatedRecord, WriteError, storage::RecordId},
};
use smart_record_core::{
    Fault, Limits, RecordKey, SmartRecord, SpaceRules, Stamp, Timestamp, ValidationError, Writer,
};

/// The node's own records, and the writes that wait for the earlier content of their spaces.
pub(super) struct Writes {
    own: OwnRecords,
    writer: Writer,
    waiting: BTreeMap<RecordKey, Waiting>,
    /// The last client is gone.
    has_ended: bool,
}

/// Work on an own space that waits for its earlier content to be read from the network.
#[derive(Default)]
struct Waiting {
    writes: Vec<(Write, Reply<Publication>, Duration)>,
    /// Kept documents are to be signed anew.
    is_renewal: bool,
}

type Written = Result<(RecordPut, Publication), ClientError>;

/// Next step of a write.
pub(super) enum Next {
    /// Read the earlier content of an own space; [`Writes::on_resumed`] takes the result.
    Resume(RecordKey),
    /// Send a record.
    Send(RecordPut, SendPurpose),
}

impl Next {
    /// Returns the step that sends a written record. Replies with the error of a failed write.
    pub(super) fn of(
        reply: Reply<Publication>,
        deadline: Duration,
        written: Written,
    ) -> Option<Self> {
        let (record_put, sender) = sending(reply, deadline, written)?;
        Some(Self::Send(record_put, sender))
    }
}

/// The record to send and its purpose, or a reply with the error if it could not be written.
fn sending(
    reply: Reply<Publication>,
    deadline: Duration,
    written: Written,
) -> Option<(RecordPut, SendPurpose)> {
    match written {
        Ok((record_put, publication)) => {
            Some((record_put, SendPurpose::Client(reply, Box::new(publication), deadline)))
        }
        Err(error) => {
            reply.send(Err(error));
            None
        }
    }
}

impl Writes {
    pub(super) fn new(keypair: Keypair, config: &BehaviourConfig) -> Self {
        let writer = Writer::from(&keypair.public());
        let own = OwnRecords::new(keypair, config.refresh_interval(), config.topology_delay());
        Self { own, writer, waiting: BTreeMap::new(), has_ended: false }
    }

    /// Number of waiting writes.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.writes.len()).fold(0, usize::saturating_add)
    }

    /// Number of waiting renewals.
    pub(super) fn renewing(&self) -> usize {
        self.waiting.values().filter(|waiting| waiting.is_renewal).count()
    }

    /// Stops keeping records alive, and drops all waiting writes.
    pub(super) fn clear(&mut self) {
        self.has_ended = true;
        self.own.clear();
        self.waiting.clear();
    }

    /// Sets the stamp of the updates that are signed under a key.
    pub(super) fn set_stamp(&mut self, key: &RecordKey, stamp: Option<Stamp>, now: Timestamp) {
        self.own.set_stamp(key, stamp, now);
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.own.next_at()
    }

    pub(super) fn on_clock_set_back(&mut self, now: Timestamp) {
        self.own.on_clock_set_back(now);
    }

    /// Starts a write to an own space. The write waits if the earlier content of the space is
    /// unknown.
    pub(super) fn begin(
        &mut self,
        env: &mut Env,
        key: RecordKey,
        write: Write,
        reply: Reply<Publication>,
    ) -> Option<Next> {
        let deadline = env.write_deadline();
        match self.prepare(env, &key) {
            Ok(true) => Next::of(reply, deadline, self.write(env, &key, &write)),
            Ok(false) => {
                let is_first = !self.waiting.contains_key(&key);
                let waiting = self.waiting.entry(key.clone()).or_default();
                waiting.writes.push((write, reply, deadline));
                is_first.then_some(Next::Resume(key))
            }
            Err(error) => Next::of(reply, deadline, Err(error)),
        }
    }

    /// Whether an own space can be written to now.
    fn prepare(&mut self, env: &mut Env, key: &RecordKey) -> Result<bool, ClientError> {
        let rules = env.rules(key)?;
        rules.check_writer(key, &self.writer)?;
        if self.waiting.contains_key(key) {
            return Ok(false);
        }
        // Another process may have written as the same writer. Its updates in the local store must
        // not be replaced.
        if let Some(record) = env.kad.store_mut().record_of(key, [&env.local])? {
            self.own.learn(key, rules.limits(), &record);
        }
        let is_known = self.own.knows(key)
            || !env.config.resume_before_write()
            || self.resume_from_last_read(env, key, rules.limits());
        Ok(!self.is_ahead(env, key) && is_known)
    }

    /// Adopts the earlier content of an own space if a read has just found all of it.
    fn resume_from_last_read(&mut self, env: &mut Env, key: &RecordKey, limits: &Limits) -> bool {
        let found = env.holders.with_own(key, env.net.now());
        found.iter().for_each(|record| self.own.resume(key, limits, record));
        found.is_some()
    }

    /// Whether nothing can be signed in an own space because earlier updates are too far in the
    /// future. Updates that the local store was told to forget do not count.
    fn is_ahead(&mut self, env: &mut Env, key: &RecordKey) -> bool {
        let now = env.now();
        if self.own.is_ahead(key, now)
            && matches!(env.kad.store_mut().record_of(key, [&env.local]), Ok(None))
        {
            self.own.forget_future(key, now);
        }
        let is_ahead = self.own.is_ahead(key, now);
        if is_ahead {
            // Peers that refuse such an update do not withhold it.
            env.known.forget(key, &self.writer);
        }
        is_ahead
    }

    /// Handles the read of the earlier content of an own space. Returns what is to be sent.
    pub(super) fn on_resumed(
        &mut self,
        env: &mut Env,
        reading: &Reading,
    ) -> Vec<(RecordPut, SendPurpose)> {
        let key = &reading.snapshot.key;
        if let (Ok(rules), Some(record)) = (env.rules(key), reading.snapshot.record()) {
            if reading.is_complete_for(&self.writer) {
                self.own.resume(key, rules.limits(), record);
                self.forget_future(env, key);
            } else {
                self.own.learn(key, rules.limits(), record);
            }
        }
        let Waiting { writes, is_renewal } = self.waiting.remove(key).unwrap_or_default();
        let mut next = Vec::new();
        for (write, reply, deadline) in writes {
            if !reply.is_gone() {
                next.extend(sending(reply, deadline, self.write(env, key, &write)));
            }
        }
        if is_renewal {
            next.extend(self.resend(env, key, true));
        }
        self.own.forget_unwritten(key);
        next
    }

    /// Forgets updates of an own space that were signed while the clock was too fast. The network
    /// does not have them.
    fn forget_future(&mut self, env: &mut Env, key: &RecordKey) {
        let now = env.now();
        if !self.own.forget_future(key, now) {
            return;
        }
        tracing::warn!(%key, "updates signed while the clock was too fast are forgotten");
        let forgotten = env.kad.store_mut().forget_space(key, &self.writer);
        let mut stored = forgotten.map_err(WriteError::from);
        if let Some(record) = self.own.record(key, now) {
            stored = stored.and_then(|()| store(env, &record).map(drop));
        }
        if let Err(error) = stored {
            tracing::warn!(%error, %key, "forgotten updates could not be removed from the local store");
        }
    }

    fn write(&mut self, env: &mut Env, key: &RecordKey, write: &Write) -> Written {
        let written = self.sign_and_store(env, key, write);
        if let (Write::WithdrawKept(keeper), Err(_)) = (write, &written) {
            // The document stays until it expires.
            self.own.forget_kept(key, *keeper);
        }
        written
    }

    fn sign_and_store(&mut self, env: &mut Env, key: &RecordKey, write: &Write) -> Written {
        let now = env.now();
        let rules = env.rules(key)?;
        self.check_work(&rules, key, now)?;
        let (update, record, undo) = self.own.write(key, rules.limits(), write, now)?;
        let record_put = match store(env, &record) {
            Ok(record_put) => record_put,
            Err(error) => {
                self.own.undo(undo);
                return Err(error.into());
            }
        };
        env.count(|c| &mut c.writes, 1);
        env.known.observe(&record, false, &SeenBefore::default(), |_| false, now);
        let publication = Publication {
            key: key.clone(),
            content: PublicationContent::Update(PublishedUpdate {
                position: update.position(),
                expires_at: update.expires_at(),
            }),
            peers: Vec::new(),
            chunks: record_put.chunks.len(),
            refused: None,
            receiver: ProgressReceiver::default(),
        };
        Ok((record_put, publication))
    }

    /// Checks that an update that is signed now has the work that its namespace demands. Nothing is
    /// signed that all other peers refuse.
    fn check_work(
        &self,
        rules: &SpaceRules,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<(), ClientError> {
        let checked = self.own.check_work(key, rules.min_work(key), now);
        Ok(checked.map_err(ValidationError::from)?)
    }

    /// Signs the kept documents under a key anew. After a failure they are due again soon, and the
    /// application is told.
    fn renew(&mut self, env: &mut Env, key: &RecordKey, now: Timestamp) {
        let checked = env.rules(key).and_then(|rules| self.check_work(&rules, key, now));
        let renewed = match checked {
            Ok(()) => self.own.renew(key, now).map_err(ClientError::from),
            Err(error) => {
                self.own.put_off_renewal(key, now);
                Err(error)
            }
        };
        if let Err(error) = renewed {
            tracing::warn!(%error, %key, "kept documents could not be signed anew");
            env.count(|c| &mut c.renewals_failed, 1);
            env.events.push_back(Event::NotRenewed { key: key.clone(), error });
        }
    }

    /// Stores a signed record or value. If a handle is given, it keeps the value from now on.
    pub(super) fn put(
        &mut self,
        env: &mut Env,
        key: RecordKey,
        value: Bytes,
        keeper: Option<KeepId>,
    ) -> Written {
        let written = put(env, key, value)?;
        if let (Some(keeper), Publication { key, content: PublicationContent::Value(value), .. }) =
            (keeper, &written.1)
        {
            self.own.keep_value(key, keeper, value.clone(), env.now());
        }
        Ok(written)
    }

    /// Handles the end of a handle: withdraws what it kept, or detaches it.
    pub(super) fn on_handle_ended(
        &mut self,
        env: &mut Env,
        key: RecordKey,
        keeper: KeepId,
        end: End,
    ) -> Option<Next> {
        match end {
            End::Detached => self.own.detach(&key, keeper, &env.registry),
            End::Dropped if self.own.keeps_document(&key, keeper) => {
                return self.begin(env, key, Write::WithdrawKept(keeper), Reply::nobody());
            }
            End::Dropped => self.own.forget_kept(&key, keeper),
        }
        None
    }

    /// Returns the step for an own record that is due, signed anew if it has kept documents. The
    /// outer `None`: nothing is due.
    pub(super) fn refresh(&mut self, env: &mut Env, now: Timestamp) -> Option<Option<Next>> {
        let (key, duty) = self.own.due(now)?;
        match duty {
            Duty::ResendValues => return Some(self.resend_values(env, &key, now)),
            Duty::ResendStored => return Some(self.resend_stored(env, &key)),
            Duty::Renew | Duty::Resend => {}
        }
        let is_renewal = duty == Duty::Renew;
        if is_renewal {
            // Another process may have written as the same writer. Its updates in the local store
            // must not be replaced.
            if let Ok(rules) = env.rules(&key)
                && let Ok(Some(record)) = env.kad.store_mut().record_of(&key, [&env.local])
            {
                self.own.learn(&key, rules.limits(), &record);
            }
            if let Some(waiting) = self.waiting.get_mut(&key) {
                waiting.is_renewal = true;
                return Some(None);
            }
            if self.is_ahead(env, &key) {
                let waiting = Waiting { is_renewal, ..Waiting::default() };
                self.waiting.insert(key.clone(), waiting);
                return Some(Some(Next::Resume(key)));
            }
        }
        let resent = self.resend(env, &key, is_renewal);
        Some(resent.map(|(record_put, sender)| Next::Send(record_put, sender)))
    }

    fn resend(
        &mut self,
        env: &mut Env,
        key: &RecordKey,
        is_renewal: bool,
    ) -> Option<(RecordPut, SendPurpose)> {
        let now = env.now();
        if is_renewal {
            self.renew(env, key, now);
        }
        let record = self.own.record(key, now)?;
        let record_put = store(env, &record).unwrap_or_else(|error| {
            // Other peers may still take it.
            tracing::warn!(%error, %key, "the local store refuses an own space");
            RecordPut::of(&record, env.bounds.chunk_bytes)
        });
        Some((record_put, SendPurpose::Refresh))
    }

    /// Sends the kept values of a key again, unless a better one is known.
    fn resend_values(&mut self, env: &mut Env, key: &RecordKey, now: Timestamp) -> Option<Next> {
        let value = self.own.values(key, &env.registry, now)?;
        let checked = ValidatedRecord::new(&env.registry, key.clone(), &value, now);
        let record_put = match RecordPut::begin(env.kad.store_mut(), checked) {
            Ok(record_put) => record_put,
            Err(error) if matches!(error.fault(), Some(Fault::Stale | Fault::Expired)) => {
                tracing::debug!(%error, %key, "a value is no longer kept");
                self.own.forget_values(key);
                return None;
            }
            Err(error) => {
                // Other peers may still take it.
                tracing::warn!(%error, %key, "the local store refuses a kept value");
                RecordPut::new(key.clone(), vec![value], None)
            }
        };
        Some(Next::Send(record_put, SendPurpose::Refresh))
    }

    /// Sends a record again that no peer has acknowledged and nothing keeps, while it is stored.
    fn resend_stored(&mut self, env: &mut Env, key: &RecordKey) -> Option<Next> {
        let store = env.kad.store_mut();
        let record = store.record(key).ok().flatten();
        let record_put = match (record, store.value(key)) {
            (Some(record), _) => RecordPut::of(&record, env.bounds.chunk_bytes),
            (None, Ok(Some(StoredValue { value, expires_at, .. }))) => {
                RecordPut::new(key.clone(), vec![value], expires_at)
            }
            (None, _) => {
                self.own.on_acknowledged(key);
                return None;
            }
        };
        Some(Next::Send(record_put, SendPurpose::Refresh))
    }

    /// Takes note of whether any peer has acknowledged a record. If not, it is sent again.
    pub(super) fn on_sent(&mut self, key: &RecordKey, is_acknowledged: bool, now: Timestamp) {
        match is_acknowledged {
            true => self.own.on_acknowledged(key),
            // Without clients nothing is kept any more.
            false if self.has_ended => {}
            false => self.own.on_not_acknowledged(key, now),
        }
    }

    /// Schedules an early send of the own records that a new peer is close to.
    pub(super) fn on_new_peer(&mut self, env: &mut Env, peer: PeerId) {
        let now = env.now();
        let closer = |key: &RecordKey| self.own.may_reach(key, RecordId::new(&peer, key));
        let keys: Vec<_> = self.own.keys().filter(|key| closer(key)).cloned().collect();
        for key in keys {
            let target = KBucketKey::new(key.as_bytes().to_vec());
            let closest = env.kad.get_closest_local_peers(&target).take(env.bounds.closest);
            let closest: Vec<_> = closest.map(KBucketKey::into_preimage).collect();
            let farthest = closest.get(env.bounds.closest.saturating_sub(1));
            self.own.set_reach(&key, farthest.map(|peer| RecordId::new(peer, &key)));
            if closest.contains(&peer) {
                self.own.on_new_peer(&key, now);
            }
        }
    }
}

/// Stores an own space and prepares it to be sent.
fn store(env: &mut Env, record: &SmartRecord) -> Result<RecordPut, WriteError> {
    RecordPut::begin(env.kad.store_mut(), ValidatedRecord::verified(record.clone()))
}

/// Stores a signed record or value and prepares it to be sent.
fn put(env: &mut Env, key: RecordKey, value: Bytes) -> Written {
    let checked = ValidatedRecord::new(&env.registry, key.clone(), &value, env.now());
    let content = match checked.record() {
        Some(record) => PublicationContent::Record(record.clone()),
        None => PublicationContent::Value(value),
    };
    let record_put = RecordPut::begin(env.kad.store_mut(), checked)?;
    env.count(|c| &mut c.writes, 1);
    let chunks = record_put.chunks.len();
    let (peers, receiver) = (Vec::new(), ProgressReceiver::default());
    Ok((record_put, Publication { key, content, peers, chunks, refused: None, receiver }))
}
