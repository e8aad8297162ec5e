//! A read for programs that have Kademlia's events, and neither a [`Client`](crate::client::Client)
//! nor a [`Dht`](crate::dht::Dht).
//!
//! **Invariants.** Pure: events and the time come in, the next step goes out.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Bare Kademlia".

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, GetRecordOk, GetRecordResult};

use super::{Bounds, JoinedAnswers, ReadPolicy, Reading, RecordLookup};
use crate::{
    clock::wall_clock,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_core::{Malformed, RecordKey, Registry, Timestamp, ValidationError};

/// Reads one record through queries that the user starts. Checks each answer by the rules of its
/// namespace, joins the valid ones, and knows when a large record is complete.
///
/// The store of the `kad::Behaviour` need not be one of this crate. Whoever puts what was found
/// puts the record of the [`Reading`], not the bytes of an answer, which say what their holder
/// covers. Every event of the query goes to [`on_progress`](Self::on_progress):
///
/// ```no_run
/// # use futures::StreamExt;
/// # use libp2p::{Swarm, kad, swarm::SwarmEvent};
/// # use libp2p_smart_record::{Clock, RecordKey, Registry, SystemClock, query::{ReadStep, RecordReader}};
/// # type Kad = kad::Behaviour<kad::store::MemoryStore>;
/// # async fn run(mut swarm: Swarm<Kad>) -> Result<(), Box<dyn std::error::Error>> {
/// let key = RecordKey::new("/sr/rooms/lobby");
/// let ask = |kad: &mut Kad| kad.get_record(kad::RecordKey::new(&key));
/// let reader = RecordReader::new(&Registry::default(), key.clone())?;
/// let mut reader = reader.for_peer(swarm.local_peer_id());
/// let mut query = ask(swarm.behaviour_mut());
/// let reading = loop {
///     let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
///         id, result: kad::QueryResult::GetRecord(result), step, ..
///     }) = swarm.select_next_some().await else { continue };
///     if id != query { continue }
///     match reader.on_progress(&result, step.last, SystemClock.now()) {
///         ReadStep::LookUpAgain => query = ask(swarm.behaviour_mut()),
///         ReadStep::Finish => break reader.into_reading(SystemClock.now()),
///         _ => {}
///     }
/// };
/// println!("{:?}, complete: {}", reading.view(), reading.is_complete());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RecordReader {
    lookup: RecordLookup,
    is_finished: bool,
}

/// What to do next in a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadStep {
    /// Wait for further events of the query.
    Wait,
    /// Start another query for the key and pass its events to the same reader. Peers answer with
    /// slices of a large record, and too few of them have covered every part of it.
    LookUpAgain,
    /// Take the [`Reading`](RecordReader::into_reading). A query that has not ended can be
    /// finished.
    Finish,
}

impl RecordReader {
    /// Default maximum number of lookups for a large record; [`with_rounds`](Self::with_rounds)
    /// changes it. Nodes without a [`Behaviour`](crate::behaviour::Behaviour) begin each slice at a
    /// place drawn anew, so a large record takes more lookups from them.
    pub const ROUNDS: usize = 32;
    /// Default number of peers that have to cover every part of a record;
    /// [`with_complete_at`](Self::with_complete_at) changes it.
    pub const COMPLETE_AT: usize = 2;
    /// Number of lookups in a row without anything new from a holder after which it is not waited
    /// for: slices that are drawn may show the same several times. A guess.
    const PATIENCE: usize = 8;

    /// Returns a reader without any content.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key, or the key does not have the form
    /// of its namespace.
    pub fn new(registry: &Registry, key: impl Into<RecordKey>) -> Result<Self, ValidationError> {
        let bounds = bounds(&StoreConfig::default());
        let key = key.into();
        registry.check_key(&key)?;
        let lookup = RecordLookup::new(key, ReadPolicy::All, bounds, registry)?;
        Ok(Self { lookup, is_finished: false })
    }

    /// Returns a reader that starts from the content of a store of this crate and uses its
    /// registry.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key, or the key does not have the form
    /// of its namespace.
    pub fn with_stored(
        store: &SmartRecordStore,
        key: impl Into<RecordKey>,
    ) -> Result<Self, ValidationError> {
        let (key, now) = (key.into(), store.clock().now());
        store.registry().check_key(&key)?;
        let lookup = RecordLookup::begin(store, key, ReadPolicy::All, bounds(store.config()), now)?;
        Ok(Self { lookup, is_finished: false })
    }

    /// Sets for whom the answers are: the local peer. Answers that other peers keep as they were
    /// made for another reader then cover nothing. Without it two such peers may make a reading
    /// complete.
    #[must_use]
    pub fn for_peer(mut self, local: &PeerId) -> Self {
        self.lookup.set_asker(local);
        self
    }

    /// Sets the maximum number of lookups for a large record. A read that would need more is not
    /// complete.
    #[must_use]
    pub const fn with_rounds(mut self, rounds: usize) -> Self {
        self.lookup.set_rounds(rounds);
        self
    }

    /// Sets the number of peers that have to cover every part of a record. See
    /// [`Reading::is_complete`].
    #[must_use]
    pub const fn with_complete_at(mut self, peers: usize) -> Self {
        self.lookup.set_complete_at(peers);
        self
    }

    /// The key being read.
    pub fn key(&self) -> &RecordKey {
        self.lookup.key()
    }

    /// Handles an event of the query. `is_last` is the event's
    /// [`ProgressStep::last`](kad::ProgressStep::last).
    pub fn on_progress(
        &mut self,
        result: &GetRecordResult,
        is_last: bool,
        now: Timestamp,
    ) -> ReadStep {
        let is_enough = match result {
            Ok(GetRecordOk::FoundRecord(found)) => self.on_found(found, now),
            other => {
                self.lookup.on_progress(other);
                false
            }
        };
        if is_last && !is_enough && self.lookup.on_round() {
            return ReadStep::LookUpAgain;
        }
        self.is_finished |= is_last || is_enough;
        if self.is_finished { ReadStep::Finish } else { ReadStep::Wait }
    }

    /// Handles an answer. Returns whether the answers are enough.
    fn on_found(&mut self, found: &kad::PeerRecord, now: Timestamp) -> bool {
        if found.peer.is_none() && self.lookup.has_here() {
            // The reader already has all of the local copy.
            return false;
        }
        let record = &found.record;
        let answer = if record.key == kad::RecordKey::new(self.lookup.key()) {
            let value = Bytes::copy_from_slice(&record.value);
            self.lookup.joined().check(self.lookup.key(), value, now)
        } else {
            // Kademlia does not compare the keys.
            Err(ValidationError::from(Malformed::other("an answer about another key")))
        };
        let expires_at = record.expires.map(|at| wall_clock(at, now));
        match found.peer {
            Some(peer) => self.lookup.on_answer(peer, answer, expires_at),
            None => {
                if let Ok(answer) = answer {
                    self.lookup.on_here(answer.shown, expires_at);
                }
                false
            }
        }
    }

    /// Returns the result of the read. If it is taken before [`Finish`](ReadStep::Finish), it is
    /// not complete.
    ///
    /// An empty reading that [has reached nobody](Reading::has_reached_anyone) does not say that
    /// there is nothing, unless this node has no peers. Neither does one with a
    /// [refusal](Reading::refusal).
    pub fn into_reading(mut self, now: Timestamp) -> Reading {
        if !self.is_finished {
            self.lookup.time_out();
        }
        self.lookup.into_reading(&[], Vec::new(), now)
    }

    /// What was found so far.
    pub(crate) fn joined(&self) -> &JoinedAnswers {
        self.lookup.joined()
    }

    /// Ends the read at its deadline.
    pub(crate) fn time_out(&mut self) {
        self.lookup.time_out();
    }

    /// Whether the deadline passed before any peer had answered, and this node has nothing.
    pub(crate) fn has_failed(&self) -> bool {
        self.lookup.has_failed() && self.lookup.joined().is_empty()
    }
}

/// Bounds of a reader, which repairs no peers.
fn bounds(store: &StoreConfig) -> Bounds {
    Bounds {
        closest: kad::K_VALUE.get(),
        complete_at: RecordReader::COMPLETE_AT,
        patience: RecordReader::PATIENCE,
        chunk_bytes: store.chunk_bytes(),
        rounds: RecordReader::ROUNDS,
        repair_chunks: 0,
        record_bytes: store.max_record_bytes(),
    }
}
