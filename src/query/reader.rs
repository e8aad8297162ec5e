//! A read for programs that have Kademlia's events, and neither a [`Client`](crate::client::Client)
//! nor a [`Dht`](crate::dht::Dht).
//!
//! **Invariants.** Pure: events and the time come in, what to do next goes out.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Bare Kademlia".

use bytes::Bytes;
use libp2p_kad::{self as kad, GetRecordOk, GetRecordResult};

use super::{Bounds, ReadPolicy, Reading, RecordLookup};
use crate::{
    clock::wall_clock,
    store::{SmartRecordStore, StoreConfig},
};
use smart_record_core::{Malformed, RecordKey, Registry, Timestamp, ValidationError};

/// Reads one record through queries that the user begins: checks each answer by the rules of its
/// namespace, joins the good ones, and knows when a large record has been shown whole.
///
/// The store of the `kad::Behaviour` need not be one of this crate. Every event of the query goes
/// to [`on_progress`](Self::on_progress):
///
/// ```no_run
/// # use futures::StreamExt;
/// # use libp2p::{Swarm, kad, swarm::SwarmEvent};
/// # use libp2p_smart_record::{Clock, RecordKey, Registry, SystemClock, query::{ReadStep, RecordReader}};
/// # type Kad = kad::Behaviour<kad::store::MemoryStore>;
/// # async fn run(mut swarm: Swarm<Kad>) -> Result<(), Box<dyn std::error::Error>> {
/// let key = RecordKey::new("/sr/rooms/lobby");
/// let ask = |kad: &mut Kad| kad.get_record(kad::RecordKey::new(&key));
/// let mut reader = RecordReader::new(&Registry::default(), key.clone())?;
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
    /// Look the key up again, and hand the events of the new query to the same reader: peers answer
    /// with slices of the record, and there may be more.
    LookUpAgain,
    /// Take the [`Reading`](RecordReader::into_reading). If the query has not ended, it may be
    /// finished.
    Finish,
}

impl RecordReader {
    /// How many lookups a read of a large record takes at most, unless
    /// [`with_rounds`](Self::with_rounds) sets another number.
    pub const ROUNDS: usize = 16;

    /// A reader that knows nothing yet.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key, or it has not the form of its
    /// namespace.
    pub fn new(registry: &Registry, key: impl Into<RecordKey>) -> Result<Self, ValidationError> {
        let bounds = bounds(&StoreConfig::default());
        let key = key.into();
        registry.check_key(&key)?;
        let lookup = RecordLookup::new(key, ReadPolicy::All, bounds, registry)?;
        Ok(Self { lookup, is_finished: false })
    }

    /// A reader that begins with what a store of this crate has, by that store's registry.
    ///
    /// # Errors
    /// [`ValidationError`] if nothing is registered for the key, or it has not the form of its
    /// namespace.
    pub fn with_stored(
        store: &SmartRecordStore,
        key: impl Into<RecordKey>,
    ) -> Result<Self, ValidationError> {
        let (key, now) = (key.into(), store.clock().now());
        store.registry().check_key(&key)?;
        let lookup = RecordLookup::begin(store, key, ReadPolicy::All, bounds(store.config()), now)?;
        Ok(Self { lookup, is_finished: false })
    }

    /// Sets how many lookups a read of a large record takes at most. A read that would take more is
    /// not complete.
    #[must_use]
    pub const fn with_rounds(mut self, rounds: usize) -> Self {
        self.lookup.set_rounds(rounds);
        self
    }

    /// The key that is read.
    pub fn key(&self) -> &RecordKey {
        self.lookup.key()
    }

    /// Takes note of an event of the query. `is_last` is the event's
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

    /// Takes note of an answer. Returns whether that is enough.
    fn on_found(&mut self, found: &kad::PeerRecord, now: Timestamp) -> bool {
        if found.peer.is_none() && self.lookup.has_here() {
            // It has begun with the whole of this node's copy.
            return false;
        }
        let record = &found.record;
        let said = if record.key == kad::RecordKey::new(self.lookup.key()) {
            let value = Bytes::copy_from_slice(&record.value);
            self.lookup.joined().check(self.lookup.key(), value, now)
        } else {
            // Kademlia does not compare them.
            Err(ValidationError::from(Malformed::other("an answer of another key")))
        };
        let expires_at = record.expires.map(|at| wall_clock(at, now));
        match found.peer {
            Some(peer) => self.lookup.on_answer(peer, said, expires_at),
            None => {
                if let Ok(said) = said {
                    self.lookup.on_here(said, expires_at);
                }
                false
            }
        }
    }

    /// What the read has come to. Before it was told to [finish](ReadStep::Finish), because the
    /// time is up, that is not complete.
    ///
    /// An empty reading that [has reached nobody](Reading::has_reached_anyone) does not say that
    /// there is nothing, unless this node has no peers.
    pub fn into_reading(mut self, now: Timestamp) -> Reading {
        if !self.is_finished {
            self.lookup.time_out();
        }
        self.lookup.into_reading(&[], Vec::new(), now)
    }

    /// Ends the read because the time is up.
    pub(crate) fn time_out(&mut self) {
        self.lookup.time_out();
    }

    /// Whether the time was up before anybody had answered, and this node has nothing.
    pub(crate) fn has_failed(&self) -> bool {
        self.lookup.has_failed() && self.lookup.joined().is_empty()
    }
}

/// Whoever has only Kademlia's events repairs nobody.
fn bounds(store: &StoreConfig) -> Bounds {
    Bounds {
        closest: kad::K_VALUE.get(),
        slice_bytes: store.slice_bytes(),
        chunk_bytes: store.chunk_bytes(),
        rounds: RecordReader::ROUNDS,
        repair_chunks: 0,
        record_bytes: store.max_record_bytes(),
    }
}
