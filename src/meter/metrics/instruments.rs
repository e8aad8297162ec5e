//! Histograms of durations and amounts.
//!
//! **Invariants.** Labels have few values.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::meter::{Amount, Purpose, Timed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    purpose: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublishLabels {
    outcome: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub(super) struct Instruments {
    read_duration: Histograms<ReadLabels>,
    read_lookups: Histograms<ReadLabels>,
    answer_size: Histogram,
    publish_duration: Histograms<PublishLabels>,
    hold_duration: Histogram,
    validation_duration: Histogram,
    store_write_duration: Histogram,
    store_commit_duration: Histogram,
    repaired_peers: Histogram,
    refreshed_peers: Histogram,
}

/// 1 ms to 32 s: from a neighbour to a query that times out.
fn network_time() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// 10 µs to 0.3 s: the goal for one hold of the swarm's task is 5 ms.
fn machine_time() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 2.0, 16))
}

/// 10 µs to 2.6 s: from memory to a slow disk.
fn disk_time() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 10))
}

/// 1 to 32: by default a read takes at most 16 lookups.
fn lookups() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 6))
}

/// 64 bytes to 16 KiB, the packet limit.
fn answer_size() -> Histogram {
    Histogram::new(exponential_buckets(64.0, 2.0, 9))
}

/// 0 to 20, the number of replicas.
fn peers() -> Histogram {
    Histogram::new([0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 19.0, 20.0])
}

#[expect(clippy::cast_precision_loss, reason = "none of the amounts comes near 2^52")]
const fn float(amount: usize) -> f64 {
    amount as f64
}

impl Instruments {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let these = Self {
            read_duration: Family::new_with_constructor(network_time),
            read_lookups: Family::new_with_constructor(lookups),
            answer_size: answer_size(),
            publish_duration: Family::new_with_constructor(network_time),
            hold_duration: machine_time(),
            validation_duration: machine_time(),
            store_write_duration: disk_time(),
            store_commit_duration: disk_time(),
            repaired_peers: peers(),
            refreshed_peers: peers(),
        };
        for purpose in Purpose::ALL {
            // Each series is there from the beginning.
            drop(these.read_duration.get_or_create(&purpose.into()));
            drop(these.read_lookups.get_or_create(&purpose.into()));
        }
        these.register(registry);
        these
    }

    fn register(&self, registry: &mut Registry) {
        for (name, help, histogram) in [
            ("hold_duration", "How long one event holds the swarm's task", &self.hold_duration),
            (
                "validation_duration",
                "How long validating a record off the swarm's task takes",
                &self.validation_duration,
            ),
            (
                "store_write_duration",
                "How long validating and joining a record into the store takes",
                &self.store_write_duration,
            ),
            (
                "store_commit_duration",
                "How long committing changes to the storage takes",
                &self.store_commit_duration,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register_with_unit(
            "read_duration",
            "How long a read takes, with all of its lookups",
            Unit::Seconds,
            self.read_duration.clone(),
        );
        registry.register_with_unit(
            "publish_duration",
            "How long a client waits for a write",
            Unit::Seconds,
            self.publish_duration.clone(),
        );
        registry.register_with_unit(
            "answer_size",
            "How large the answers of other peers are, good or not",
            Unit::Bytes,
            self.answer_size.clone(),
        );
        registry.register(
            "read_lookups",
            "How many lookups a read takes",
            self.read_lookups.clone(),
        );
        registry.register(
            "repaired_peers",
            "How many peers acknowledged a repair",
            self.repaired_peers.clone(),
        );
        registry.register(
            "refreshed_peers",
            "How many peers acknowledged an own space that was sent again",
            self.refreshed_peers.clone(),
        );
    }

    pub(super) fn took(&self, what: Timed, duration: Duration) {
        let seconds = duration.as_secs_f64();
        match what {
            Timed::Read(purpose) => {
                self.read_duration.get_or_create(&purpose.into()).observe(seconds);
            }
            Timed::Publish { is_done } => {
                let outcome = if is_done { "done" } else { "failed" };
                self.publish_duration.get_or_create(&PublishLabels { outcome }).observe(seconds);
            }
            Timed::Hold => self.hold_duration.observe(seconds),
            Timed::Validation => self.validation_duration.observe(seconds),
            Timed::StoreWrite => self.store_write_duration.observe(seconds),
            Timed::Commit => self.store_commit_duration.observe(seconds),
        }
    }

    pub(super) fn noted(&self, amount: Amount) {
        match amount {
            Amount::Lookups(purpose, lookups) => {
                self.read_lookups.get_or_create(&purpose.into()).observe(float(lookups));
            }
            Amount::AnswerBytes(bytes) => self.answer_size.observe(float(bytes)),
            Amount::RepairedPeers(peers) => self.repaired_peers.observe(float(peers)),
            Amount::RefreshedPeers(peers) => self.refreshed_peers.observe(float(peers)),
        }
    }
}

impl From<Purpose> for ReadLabels {
    fn from(purpose: Purpose) -> Self {
        Self { purpose: purpose.as_str() }
    }
}
