//! What a store tells its user: events and counters.
//!
//! **Invariants.** What is told is bounded: one refusal for each writer and class of reason of a value, and a queue of
//! fixed length for each subscriber. What is lost is counted.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, channel::mpsc};
use libp2p_identity::PeerId;

use super::{
    advice::advice,
    storage::{RowFault, StorageError},
};
use crate::meter::Observed;
#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};
use smart_record_core::{Fault, RecordKey, ValidationError};

/// Who asked for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The local node.
    Local,
    /// Another peer, through Kademlia. The store never learns which one.
    Remote,
}

/// What happened in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// Something new was stored under `key`.
    Stored {
        /// Of the record.
        key: RecordKey,
        /// The writers whose spaces grew; empty if it is not a smart record.
        writers: Vec<PeerId>,
        /// Who asked for it.
        origin: Origin,
    },
    /// A write, or parts of one, were refused. What was good beside them has been stored. A value gives one such
    /// event for each writer and class of reason.
    Refused {
        /// Under which it was to be stored.
        key: RecordKey,
        /// In whose space it stood, where that can be told. Until its signature is checked this is but a
        /// claim: [`Fault::Invalid`] says that it was false.
        writer: Option<PeerId>,
        /// Who asked for it.
        origin: Origin,
        /// Why; of several parts, the first.
        reason: ValidationError,
        /// How many parts.
        count: usize,
    },
    /// A record, or all of it that is not protected, was removed to make room.
    Evicted {
        /// Of the record.
        key: RecordKey,
    },
    /// A part of a record that an earlier process stored was found to be damaged, or to be what the rules of
    /// today would not admit; it was removed.
    Discarded {
        /// Of the record, if that can be told.
        key: Option<RecordKey>,
        /// What is wrong with it.
        fault: RowFault,
    },
    /// The storage failed; what was asked for has not happened.
    StorageFailed {
        /// How.
        error: StorageError,
    },
}

/// How often what has happened since the store was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Updates admitted to spaces.
    pub admitted: u64,
    /// Updates, or values, received again.
    pub known: u64,
    /// Values of other kinds stored.
    pub values: u64,
    /// Values, or updates, refused, by class of reason.
    pub refused: BTreeMap<Fault, u64>,
    /// Updates and values collected after they had expired.
    pub collected: u64,
    /// Updates dropped because newer ones took their place or their room.
    pub superseded: u64,
    /// Spaces dropped because their record had too many.
    pub spaces_evicted: u64,
    /// Records dropped because the store was full.
    pub records_evicted: u64,
    /// Parts removed because they were damaged, or are not admitted any more.
    pub rows_discarded: u64,
    /// Failures of the storage. Those on reading are counted only, without an event.
    pub storage_failures: u64,
    /// Events that a subscriber lost because it did not keep up.
    pub events_lost: u64,
}

impl Counters {
    /// All refusals together.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(feature = "metrics")]
impl Source for Counters {
    fn samples(&self) -> Vec<Sample> {
        // Each field is named, so that none is forgotten.
        let Self {
            admitted,
            known,
            values,
            refused,
            collected,
            superseded,
            spaces_evicted,
            records_evicted,
            rows_discarded,
            storage_failures,
            events_lost,
        } = self;
        let counts = [
            ("store_admitted_updates", "Updates admitted to spaces", admitted),
            ("store_known", "Updates and values received again", known),
            ("store_values", "Values of other kinds stored", values),
            ("store_collected", "Updates and values collected after they had expired", collected),
            ("store_superseded_updates", "Updates dropped for newer ones", superseded),
            (
                "store_evicted_spaces",
                "Spaces dropped because their record had too many",
                spaces_evicted,
            ),
            (
                "store_evicted_records",
                "Records dropped because the store was full",
                records_evicted,
            ),
            (
                "store_discarded_rows",
                "Parts removed because they were damaged or are not admitted any more",
                rows_discarded,
            ),
            ("store_failures", "Failures of the storage", storage_failures),
            ("store_lost_events", "Events lost by subscribers that did not keep up", events_lost),
        ];
        let counts = counts.map(|(name, help, count)| Sample::counter(name, help, *count));
        let refused = Fault::ALL.map(|fault| {
            let count = refused.get(&fault).copied().unwrap_or(0);
            Sample::counter(
                "store_refused",
                "Values and updates refused, by class of reason",
                count,
            )
            .with_label("fault", fault.as_str())
        });
        counts.into_iter().chain(refused).collect()
    }
}

/// Increments, and stays at the maximum.
fn count(counter: &mut u64, by: usize) {
    *counter = counter.saturating_add(u64::try_from(by).unwrap_or(u64::MAX));
}

/// The events of a store from the moment of subscription, as a stream. It ends with the store.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Events(mpsc::Receiver<StoreEvent>);

impl Events {
    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<StoreEvent> {
        self.0.try_recv().ok()
    }
}

impl Stream for Events {
    type Item = StoreEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StoreEvent>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

/// The sending ends of all subscriptions.
#[derive(Debug, Default)]
struct Subscribers(Vec<mpsc::Sender<StoreEvent>>);

impl Subscribers {
    fn subscribe(&mut self, capacity: usize) -> Events {
        // A channel has one place for each sender besides.
        let (sender, receiver) = mpsc::channel(capacity.saturating_sub(1));
        self.0.push(sender);
        Events(receiver)
    }

    /// Hands the event to all who still listen; says how many had no room for it.
    fn send(&mut self, event: &StoreEvent) -> usize {
        let mut lost = 0_usize;
        self.0.retain_mut(|sender| match sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(error) if error.is_full() => {
                lost = lost.saturating_add(1);
                true
            }
            Err(_) => false,
        });
        lost
    }
}

/// What a store tells, and whom.
#[derive(Debug, Default)]
pub(super) struct News {
    subscribers: Subscribers,
    pub(super) counters: Observed<Counters>,
    /// What was evicted since the last commit.
    evicted: Vec<RecordKey>,
}

impl News {
    pub(super) fn subscribe(&mut self, capacity: usize) -> Events {
        self.subscribers.subscribe(capacity)
    }

    /// Takes note of records that were evicted, to be told when that is committed.
    pub(super) fn evicted(&mut self, keys: Vec<RecordKey>) {
        self.evicted.extend(keys);
    }

    /// What was evicted has gone for good, or has not.
    pub(super) fn on_commit(&mut self, is_good: bool) {
        for key in std::mem::take(&mut self.evicted).into_iter().filter(|_| is_good) {
            self.emit(&StoreEvent::Evicted { key });
        }
    }

    /// Takes note of a failure where there is no way to tell a subscriber.
    pub(super) fn read_failed(&self, error: &StorageError) {
        self.counters.change_by_ref(|c| count(&mut c.storage_failures, 1));
        tracing::warn!(%error, "a read failed");
    }

    pub(super) fn count(&mut self, counter: impl FnOnce(&mut Counters) -> &mut u64, by: usize) {
        self.counters.change(|counters| count(counter(counters), by));
    }

    pub(super) fn emit(&mut self, event: &StoreEvent) {
        match event {
            StoreEvent::Stored { key, writers, .. } => {
                tracing::debug!(%key, writers = writers.len(), "stored");
            }
            StoreEvent::Refused { key, reason, count, origin, .. } => {
                self.count(|c| c.refused.entry(reason.fault()).or_default(), *count);
                match origin {
                    Origin::Local => {
                        tracing::warn!(%key, %reason, count, advice = advice(reason), "this node's own write is refused");
                    }
                    Origin::Remote => tracing::debug!(%key, %reason, count, "refused"),
                }
            }
            StoreEvent::Evicted { key } => {
                self.count(|c| &mut c.records_evicted, 1);
                tracing::debug!(%key, "evicted");
            }
            StoreEvent::Discarded { key, fault } => {
                self.count(|c| &mut c.rows_discarded, 1);
                tracing::warn!(key = key.as_ref().map(tracing::field::display), %fault, "discarded");
            }
            StoreEvent::StorageFailed { error } => {
                self.count(|c| &mut c.storage_failures, 1);
                tracing::warn!(%error, "storage failed");
            }
        }
        let lost = self.subscribers.send(event);
        if lost > 0 {
            self.count(|c| &mut c.events_lost, lost);
        }
    }
}
