//! Events and counters of a store.
//!
//! **Invariants.** Events are bounded: one refusal for each writer and class of reason of a value,
//! and a queue of fixed length for each subscriber. Lost events are counted.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, channel::mpsc};
use libp2p_identity::PeerId;

use super::{
    advice::{advice, needs_work},
    storage::{RowFault, StorageError},
};
use crate::meter::Observed;
#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};
use smart_record_core::{Fault, Limit, LimitExceeded, RecordKey, SignatureCounts, ValidationError};

/// The source of a write. Exhaustive: it is this node or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The local node.
    Local,
    /// Another peer, through Kademlia. The store does not learn which.
    Remote,
}

/// An event of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// Something new was stored under `key`.
    Stored {
        /// The key of the record.
        key: RecordKey,
        /// The writers whose spaces grew; empty if it is not a smart record.
        writers: Vec<PeerId>,
        /// The source of the write.
        origin: Origin,
    },
    /// A write, or a part of it, was refused. Its valid parts were stored. A value causes one such
    /// event for each writer and class of reason.
    Refused {
        /// The key that was written to.
        key: RecordKey,
        /// The writer of the refused space, if it can be decoded. It is only a claim until the
        /// signature is checked; after [`Fault::Invalid`] it is false.
        writer: Option<PeerId>,
        /// The source of the write.
        origin: Origin,
        /// The reason; of several parts, the first one.
        reason: ValidationError,
        /// How many parts were refused.
        count: usize,
    },
    /// A record, or all of it that is not protected, was evicted to make room.
    Evicted {
        /// The key of the record.
        key: RecordKey,
    },
    /// A part of a record that an earlier process stored was removed, because it was damaged or
    /// would not be admitted now.
    Discarded {
        /// The key of the record, if it is known.
        key: Option<RecordKey>,
        /// Why it was removed.
        fault: RowFault,
    },
    /// A write of another peer was refused, because the storage does not keep up.
    Behind {
        /// The key that was written to.
        key: RecordKey,
    },
    /// The storage failed on a write, a collection or a commit.
    StorageFailed {
        /// The failure.
        error: StorageError,
    },
}

/// Counters of what a store has done since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Updates admitted to spaces.
    pub admitted: u64,
    /// Updates and values that were received again.
    pub known: u64,
    /// Values stored that are not smart records.
    pub values: u64,
    /// Updates and values refused, by class of reason.
    pub refused: BTreeMap<Fault, u64>,
    /// Updates and values collected after they had expired.
    pub collected: u64,
    /// Updates dropped because of newer ones: replaced, or beyond the limits of the space.
    pub superseded: u64,
    /// Spaces evicted because their record was full.
    pub spaces_evicted: u64,
    /// Records evicted because the store or a namespace was full.
    pub records_evicted: u64,
    /// Evictions that are remembered now, at most
    /// [`max_remembered`](super::StoreConfig::max_remembered).
    pub remembered: u64,
    /// Evictions forgotten because there were too many.
    pub remembered_dropped: u64,
    /// Evicted spaces and values that came back.
    pub remembered_returned: u64,
    /// Updates and values refused because they are older than what was evicted. They also count as
    /// refused, as stale.
    pub remembered_refused: u64,
    /// Updates refused because their stamps prove less work than the namespace demands. They also
    /// count as refused, by policy.
    pub too_little_work: u64,
    /// Withdrawn spaces that were evicted, or refused a place, because their record had too many.
    pub withdrawn_evicted: u64,
    /// Parts removed because they were damaged or would not be admitted now.
    pub rows_discarded: u64,
    /// Rows of earlier sessions that were checked before they were returned. If these are more than
    /// there were, some were forgotten and checked again: more than `max_rechecked` were read.
    pub rows_checked: u64,
    /// Failures of the storage. Failed reads are only counted and cause no event.
    pub storage_failures: u64,
    /// Writes of other peers that were refused because the storage did not keep up.
    pub behind: u64,
    /// Provider records of other peers refused because there were too many.
    pub providers_refused: u64,
    /// Provider records of the local node refused because there were too many.
    pub own_providers_refused: u64,
    /// Events that a subscriber lost because it did not keep up.
    pub events_lost: u64,
    /// Signatures that were verified, by the store or for it.
    pub signatures_verified: u64,
    /// Signatures that were not verified because they had been found good before.
    pub signatures_remembered: u64,
    /// Signatures and keys that were refused unread, because their value had taken
    /// [`value_work`](super::StoreConfig::value_work).
    pub signatures_unread: u64,
    /// Peers whose next slice of a large record begins anew, because too many peers were asking.
    pub walks_forgotten: u64,
}

impl Counters {
    /// The sum of all refusals.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(feature = "metrics")]
impl Source for Counters {
    fn samples(&self) -> Vec<Sample> {
        // Naming each field makes the compiler find a forgotten one.
        let Self {
            admitted,
            known,
            values,
            refused,
            collected,
            superseded,
            spaces_evicted,
            records_evicted,
            remembered,
            remembered_dropped,
            remembered_returned,
            remembered_refused,
            too_little_work,
            withdrawn_evicted,
            rows_discarded,
            rows_checked,
            storage_failures,
            behind,
            providers_refused,
            own_providers_refused,
            events_lost,
            signatures_verified,
            signatures_remembered,
            signatures_unread,
            walks_forgotten,
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
                "store_forgotten_evictions",
                "Evictions forgotten because too many were remembered",
                remembered_dropped,
            ),
            (
                "store_returned_parts",
                "Evicted spaces and values that came back",
                remembered_returned,
            ),
            (
                "store_refused_by_memory",
                "Updates and values refused as older than what was evicted",
                remembered_refused,
            ),
            (
                "store_refused_little_work",
                "Updates refused because their stamps prove too little work",
                too_little_work,
            ),
            (
                "store_evicted_withdrawals",
                "Withdrawn spaces without a place because their record had too many",
                withdrawn_evicted,
            ),
            (
                "store_discarded_rows",
                "Parts removed because they were damaged or are not admitted any more",
                rows_discarded,
            ),
            ("store_checked_rows", "Rows of earlier sessions checked", rows_checked),
            ("store_failures", "Failures of the storage", storage_failures),
            ("store_refused_behind", "Writes refused because the storage did not keep up", behind),
            ("store_lost_events", "Events lost by subscribers that did not keep up", events_lost),
            ("store_verified_signatures", "Signatures verified", signatures_verified),
            (
                "store_remembered_signatures",
                "Signatures not verified because they had been found good before",
                signatures_remembered,
            ),
            (
                "store_unread_signatures",
                "Signatures refused unread because their value had taken too much work",
                signatures_unread,
            ),
            (
                "store_forgotten_walks",
                "Peers whose next slice begins anew because too many were asking",
                walks_forgotten,
            ),
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
        let providers = [("local", own_providers_refused), ("remote", providers_refused)];
        let providers = providers.map(|(origin, count)| {
            let help = "Provider records refused because there were too many";
            Sample::counter("store_refused_providers", help, *count).with_label("origin", origin)
        });
        let remembered =
            Sample::gauge("store_remembered_evictions", "Evictions remembered", *remembered);
        counts.into_iter().chain(refused).chain(providers).chain([remembered]).collect()
    }
}

/// Increments a counter, saturating.
pub(super) fn count(counter: &mut u64, by: usize) {
    *counter = counter.saturating_add(u64::try_from(by).unwrap_or(u64::MAX));
}

/// Stream of a store's events since the subscription. It ends when the store is dropped.
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Events(mpsc::Receiver<StoreEvent>);

impl Events {
    /// The next event, if there is one in the queue.
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
        // A channel has one more slot for each sender.
        let (sender, receiver) = mpsc::channel(capacity.saturating_sub(1));
        self.0.push(sender);
        Events(receiver)
    }

    /// Sends an event to all subscribers. Returns how many had no room for it.
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

/// Events, counters and subscribers of a store.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    subscribers: Subscribers,
    pub(super) counters: Observed<Counters>,
    /// The records evicted since the last commit.
    evicted: Vec<RecordKey>,
}

impl EventLog {
    pub(super) fn subscribe(&mut self, capacity: usize) -> Events {
        self.subscribers.subscribe(capacity)
    }

    /// Remembers evicted records until the commit, which reports them.
    pub(super) fn evicted(&mut self, keys: Vec<RecordKey>) {
        self.evicted.extend(keys);
    }

    /// Handles the outcome of a commit: evictions are reported if it succeeded.
    pub(super) fn on_commit(&mut self, is_good: bool) {
        for key in std::mem::take(&mut self.evicted).into_iter().filter(|_| is_good) {
            self.emit(&StoreEvent::Evicted { key });
        }
    }

    /// Sets how many signatures and rows were checked until now.
    pub(super) fn set_checked(&self, counts: SignatureCounts, rows: u64) {
        self.counters.change_by_ref(|counters| {
            counters.rows_checked = rows;
            counters.signatures_verified = counts.verified;
            counters.signatures_remembered = counts.remembered;
            counters.signatures_unread = counts.unread;
        });
    }

    /// Counts and logs a failure where no event can be sent.
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
                if let ValidationError::LimitExceeded(LimitExceeded { limit, .. }) = reason
                    && *limit == Limit::WITHDRAWN_PER_RECORD
                {
                    self.count(|c| &mut c.withdrawn_evicted, *count);
                }
                if needs_work(reason) {
                    self.count(|c| &mut c.too_little_work, *count);
                }
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
            StoreEvent::Behind { key } => {
                self.count(|c| &mut c.behind, 1);
                tracing::debug!(%key, "refused: the storage does not keep up");
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
