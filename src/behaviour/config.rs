//! How a behaviour reads, writes, keeps alive and admits.
//!
//! **Invariants.** Every bound has a default, so nothing that a stranger sends or withholds grows without end.

use std::time::Duration;

use crate::query::ReadPolicy;
use smart_record_core::settings;

/// Where inbound records are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Validation {
    /// On the swarm's task, before the writer is answered. What is answered `Ok` has been looked into.
    #[default]
    Inline,
    /// Elsewhere, so that the swarm's task is not held up. Kademlia then answers the writer *before* the record
    /// is validated or stored: an `Ok` says nothing but that the request has arrived. Writers are limited in rate,
    /// each by itself, and the queue is bounded: with either exceeded, the newest records are refused and counted.
    /// What others answer to reads is checked elsewhere too, in a queue of the same length; what does not find room there is
    /// checked on the task.
    OffTask,
}

/// The settings of a [`Behaviour`](super::Behaviour).
///
/// ```
/// use libp2p_smart_record::{behaviour::{BehaviourConfig, Validation}, query::ReadPolicy};
///
/// let config = BehaviourConfig::default()
///     .with_read_policy(ReadPolicy::WithoutNews(3))
///     .with_validation(Validation::OffTask);
/// # let _ = config;
/// ```
#[derive(Clone, Debug)]
pub struct BehaviourConfig {
    read_policy: ReadPolicy,
    read_rounds: usize,
    repair_chunks: usize,
    resume_before_write: bool,
    refresh_interval: Duration,
    topology_delay: Duration,
    replication_interval: Option<Duration>,
    watch_interval: Duration,
    max_operations: usize,
    max_known: usize,
    validation: Validation,
    inbound_queue: usize,
    inbound_concurrency: usize,
    inbound_rate: u32,
    inbound_burst: u32,
}

impl Default for BehaviourConfig {
    fn default() -> Self {
        Self {
            read_policy: ReadPolicy::All,
            read_rounds: 16,
            repair_chunks: 32,
            resume_before_write: true,
            refresh_interval: Duration::from_secs(60 * 60),
            topology_delay: Duration::from_secs(10),
            replication_interval: Some(Duration::from_secs(60 * 60)),
            watch_interval: Duration::from_secs(15),
            max_operations: 64,
            max_known: 16 * 1_024,
            validation: Validation::Inline,
            inbound_queue: 256,
            inbound_concurrency: 16,
            inbound_rate: 50,
            inbound_burst: 200,
        }
    }
}

settings! { BehaviourConfig:
    /// When a read ends that names no policy of its own. Defaults to [`ReadPolicy::All`], because a liar among
    /// the first who answer then changes nothing.
    read_policy, with_read_policy: ReadPolicy;
    /// How many lookups a read of a large record takes at most. Defaults to 16: a board of 200 KB takes a handful.
    read_rounds, with_read_rounds: usize;
    /// How many chunks a read sends at most to each group of peers that lack the same. Defaults to 32, which is
    /// 480 KiB.
    repair_chunks, with_repair_chunks: usize;
    /// Whether the network is asked for what the writer has said earlier before its first write under a key. If it is not,
    /// or nobody could be reached, replicas keep the first update, and all that follow, for
    /// [`Limits::max_ttl`](smart_record_core::Limits::max_ttl), because it may have to hide one from before a restart for that long.
    /// Defaults to true, which costs a lookup.
    resume_before_write, with_resume_before_write: bool;
    /// How often the writer's own spaces are sent again at most; each a little earlier, so that not all go at
    /// once. Defaults to an hour, as Kademlia's replication has it.
    refresh_interval, with_refresh_interval: Duration;
    /// How long after a new peer close to an own space has turned up it is sent there, up to twice that. Those who come
    /// meanwhile are served by the same run. Defaults to 10 seconds, a guess: a node that joins makes itself known to
    /// many within that.
    topology_delay, with_topology_delay: Duration;
    /// In which time each record that is stored here, whoever's it is, is compared with what its other holders
    /// have and sent where it is missing; one after the other, in the order of distance, evenly spread. The
    /// replica of rank *n* by distance does so every *n + 1*st time. `None`: never. Defaults to an hour, as
    /// Kademlia's replication job, which this replaces.
    replication_interval, with_replication_interval: Option<Duration>;
    /// How often a watched key is looked up. What the local store learns is told at once. Defaults to 15 seconds,
    /// a guess.
    watch_interval, with_watch_interval: Duration;
    /// How many commands of clients are worked on at a time, and how many things of the behaviour's own of each kind
    /// a quarter of that; more commands wait. Defaults to 64, a guess.
    max_operations, with_max_operations: usize;
    /// Of how many writers, over all keys, the highest `seq` is remembered; the keys that were read longest ago are
    /// forgotten first. Defaults to 16,384, some 3 MB.
    max_known, with_max_known: usize;
    /// Where inbound records are validated. Defaults to [`Validation::Inline`].
    validation, with_validation: Validation;
    /// How many inbound records wait for validation off the task, or are in it. Defaults to 256: 4 MB.
    inbound_queue, with_inbound_queue: usize;
    /// How many validations by an [`AsyncValidator`](super::AsyncValidator) run at a time. Defaults to 16.
    inbound_concurrency, with_inbound_concurrency: usize;
    /// How many records and provider records each peer may send in a second, with validation off the task. Defaults to
    /// 50, a guess: a replica with 16,384 records replicates five in a second.
    inbound_rate, with_inbound_rate: u32;
    /// How many of them at once, after a pause. Defaults to 200: a board of 1,000 spaces comes in some 20.
    inbound_burst, with_inbound_burst: u32;
}
