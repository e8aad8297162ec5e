//! Settings of a behaviour.
//!
//! **Invariants.** Every bound has a default, so no input of other peers grows memory or work
//! without limit.

use std::time::Duration;

use crate::query::{ReadPolicy, WritePolicy};
use smart_record_core::settings;

/// Where inbound records are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Validation {
    /// On the swarm's task, before the sender is answered. An `Ok` answer means the record was
    /// validated, but not that all of it was: once the signatures of a value have taken
    /// [`StoreConfig::value_work`](crate::store::StoreConfig::value_work), 4 ms, the rest of it is
    /// refused unread, and has to be sent again. This crate's own nodes do so.
    #[default]
    Inline,
    /// Off the swarm's task, which is not blocked. Kademlia then answers the sender *before* the
    /// record is validated or stored: an `Ok` answer only means that the request has arrived. The
    /// queue is bounded; records that do not fit are refused and counted. Answers to reads and to
    /// follow-ups of writes are also validated off the task, in a second queue of the same length;
    /// answers that do not fit there are validated on the task. A read asks no further peer while
    /// 32 of its answers wait. No packet then holds the task for more than a millisecond of a
    /// [reference core](smart_record_core::SignatureMemory). The default of a ready node
    /// (`smart-record-host`).
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
    read_deadline: Duration,
    write_policy: WritePolicy,
    write_deadline: Duration,
    read_rounds: usize,
    complete_at: usize,
    repair_chunks: usize,
    resume_before_write: bool,
    refresh_interval: Duration,
    topology_delay: Duration,
    replication_interval: Option<Duration>,
    watch_policy: ReadPolicy,
    watch_deadline: Duration,
    watch_interval: Duration,
    longest_watch_interval: Duration,
    max_operations: usize,
    poll_timeout: Duration,
    max_read_bytes: usize,
    max_known_writers: usize,
    subnet_share: usize,
    inserts_manually: bool,
    exempts_private_subnets: bool,
    validation: Validation,
    inbound_queue: usize,
    inbound_concurrency: usize,
    work_per_second: Duration,
}

impl Default for BehaviourConfig {
    fn default() -> Self {
        Self {
            read_policy: ReadPolicy::Settled,
            read_deadline: Duration::from_secs(10),
            write_policy: WritePolicy::Majority,
            write_deadline: Duration::from_secs(10),
            read_rounds: 16,
            complete_at: 2,
            repair_chunks: 32,
            resume_before_write: true,
            refresh_interval: Duration::from_secs(60 * 60),
            topology_delay: Duration::from_secs(10),
            replication_interval: Some(Duration::from_secs(60 * 60)),
            watch_policy: ReadPolicy::Settled,
            watch_deadline: Duration::from_secs(10),
            watch_interval: Duration::from_secs(2),
            longest_watch_interval: Duration::from_secs(30),
            max_operations: 64,
            poll_timeout: Duration::from_secs(10),
            max_read_bytes: 64 * 1_024 * 1_024,
            max_known_writers: 16 * 1_024,
            subnet_share: 2,
            inserts_manually: false,
            exempts_private_subnets: true,
            validation: Validation::Inline,
            inbound_queue: 256,
            inbound_concurrency: 16,
            work_per_second: Duration::from_millis(500),
        }
    }
}

settings! { BehaviourConfig:
    /// When a read without a policy of its own returns. Defaults to [`ReadPolicy::Settled`]: a
    /// dishonest peer among the first to answer does not change the result, and silent peers are
    /// not waited for. Chosen by `docs/scale.md`: no such read missed an acknowledged update while
    /// a peer that had it was up.
    read_policy, with_read_policy: ReadPolicy;
    /// Maximum duration of a read without a deadline of its own. It then returns what was found
    /// until then. Defaults to ten seconds: five requests one after the other, each to a silent
    /// peer.
    read_deadline, with_read_deadline: Duration;
    /// Number of peers that have to acknowledge a write before it returns; it is sent to the others
    /// in the background. Defaults to [`WritePolicy::Majority`]. Chosen by `docs/scale.md`,
    /// together with [`read_policy`](Self::read_policy).
    write_policy, with_write_policy: WritePolicy;
    /// Maximum duration of a write until it returns, with the peers that have acknowledged it by
    /// then. Defaults to ten seconds, as for reads.
    write_deadline, with_write_deadline: Duration;
    /// Maximum number of rounds per read of a large record. Defaults to 16: a board of 200 KB takes
    /// a handful.
    read_rounds, with_read_rounds: usize;
    /// Number of peers that have to cover every part of a record for a reading to be
    /// [complete](crate::query::Reading::is_complete). With *n*, what all but *n* − 1 of the
    /// closest peers that answer have is in a complete reading, whatever these *n* − 1 claim.
    /// Defaults to 2: one peer that lies, or has lost a part, hides nothing.
    complete_at, with_complete_at: usize;
    /// Maximum number of chunks that a read sends to each group of peers that lack the same.
    /// Defaults to 32, which is 480 KiB.
    repair_chunks, with_repair_chunks: usize;
    /// Whether the writer's earlier updates are read from the network before its first write under
    /// a key. Without that, or if no peer can be reached, replicas retain the first update and all
    /// later ones for [`Limits::max_ttl`](smart_record_core::Limits::max_ttl), because it may have
    /// to hide an update from before a restart for that long. Defaults to true, which costs a
    /// lookup.
    resume_before_write, with_resume_before_write: bool;
    /// Maximum time between two sends of an own space. Each is sent up to a quarter of it earlier,
    /// by key and peer, so that peers that start together do not send together for long. At least
    /// 10 ms. Defaults to an hour. Chosen by `docs/scale.md`: without any replication an hour
    /// keeps a record alive where half of all nodes are gone after two hours.
    refresh_interval, with_refresh_interval: Duration;
    /// Delay before own spaces are sent to a new peer close to them; the actual delay is up to
    /// twice that. Peers that appear in the meantime are served by the same run. At least 10 ms.
    /// Defaults to 10 seconds. Chosen by `docs/scale.md`: of the peers that a node meets in its
    /// first two minutes, half have met it after 7 seconds and 90 % after 24.
    topology_delay, with_topology_delay: Duration;
    /// Period in which each locally stored record, whoever wrote it, is compared with its other
    /// holders and sent where it is missing. Records are processed one by one in the order of
    /// distance, evenly spread over the period. The replica of rank *n* by distance does so in
    /// every *n + 1*st period. `None` disables replication. Defaults to an hour. Chosen by
    /// `docs/scale.md`: an hour keeps nearly all records without their writers where half of all
    /// nodes are gone after two hours; four are enough, for a quarter of the traffic, where nodes
    /// stay as those of public IPFS do.
    replication_interval, with_replication_interval: Option<Duration>;
    /// When a lookup of a watched key has seen enough; each change is shown as its answer arrives.
    /// Defaults to [`ReadPolicy::Settled`], as for reads.
    watch_policy, with_watch_policy: ReadPolicy;
    /// Maximum duration of a lookup of a watched key. Defaults to ten seconds, as for reads.
    watch_deadline, with_watch_deadline: Duration;
    /// Time between two lookups of a watched key while there was news within the last minute.
    /// Changes in the local store show at once. At least 10 ms. Defaults to two seconds. Chosen by
    /// `docs/scale.md`: half of all changes are shown after 0.6 s, for 100 MB an hour while there
    /// is news. Five seconds take half of that, and show them after 1.6 s; one second gains little.
    watch_interval, with_watch_interval: Duration;
    /// Maximum time between two lookups of a watched key: without news the interval doubles up to
    /// this. Defaults to 30 seconds. Chosen by `docs/scale.md`: a watch without news takes a tenth
    /// of the traffic of one with news, and shows half of all changes after 14 s.
    longest_watch_interval, with_longest_watch_interval: Duration;
    /// Maximum number of concurrent client commands, including what they have left in the
    /// background; further ones wait. Each kind of internal operation may run a quarter of that.
    /// Defaults to 64, as many as there are requests under way at a time: more would wait for each
    /// other.
    max_operations, with_max_operations: usize;
    /// How long a call of a client waits for the swarm to be polled, before it fails with
    /// [`NotPolled`](crate::client::ClientError::NotPolled). A stream ends with it after
    /// twice that time. Defaults to ten seconds, as for reads: a swarm whose task is blocked for
    /// longer loses its connections too. With zero, calls wait without end.
    poll_timeout, with_poll_timeout: Duration;
    /// While the reads under way hold more bytes of answers than this, no further one starts. A
    /// read holds at most twice the bytes of the largest record
    /// ([`max_record_bytes`](crate::store::StoreConfig::max_record_bytes)). Defaults to 64 MiB:
    /// eight reads of the largest, by the defaults.
    max_read_bytes, with_max_read_bytes: usize;
    /// Maximum number of writers, over all keys that clients have read or written, whose highest
    /// `seq` is remembered; the least recently read keys are forgotten first. A quarter as many are
    /// remembered of keys that were only read for replication. Defaults to 16,384, some 4 MB.
    max_known_writers, with_max_known_writers: usize;
    /// Maximum number of peers of one subnet, 24 bits of an IPv4 address or 48 of an IPv6 address,
    /// among the 20 of a read or a write and in a bucket of the routing table, as long as there are
    /// others: what these leave goes to the surplus. The address of the connection counts. All
    /// peers that are connected by name share one subnet, and so do all that are connected through
    /// relays. Defaults to 2: ids are free, addresses are not. 0 counts as 1.
    subnet_share, with_subnet_share: usize;
    /// Whether only the application inserts peers into the routing table:
    /// [`BucketInserts::Manual`](libp2p_kad::BucketInserts). Otherwise connected peers are inserted
    /// that speak the protocol, and take the places of peers beyond the share of their subnet.
    /// Defaults to false, as with Kademlia itself.
    inserts_manually, with_inserts_manually: bool;
    /// Whether peers at loopback, private and link-local addresses belong to no subnet, so that
    /// networks of one's own are not shared out. Defaults to true.
    exempts_private_subnets, with_exempts_private_subnets: bool;
    /// Where inbound records are validated. Defaults to [`Validation::Inline`], which needs no
    /// runtime and holds the task for a few milliseconds (`docs/performance.md`).
    validation, with_validation: Validation;
    /// Maximum number of inbound records that wait for validation off the task or are being
    /// validated. Defaults to 256: 4 MB, or as many times
    /// [`chunk_bytes`](crate::store::StoreConfig::chunk_bytes), if that is raised. As many answers
    /// wait, of 256 KiB each at most: 64 MiB.
    inbound_queue, with_inbound_queue: usize;
    /// Maximum number of concurrent validations by an [`AsyncValidator`](super::AsyncValidator).
    /// Defaults to 16, a guess.
    inbound_concurrency, with_inbound_concurrency: usize;
    /// How much work is done in each second for all other peers together, for their PUTs and GETs,
    /// inline and off the task, in the time of a [reference
    /// core](smart_record_core::SignatureMemory). When it runs short, the messages of a network
    /// that has used more than the average wait, and when little is left, those of all. At most
    /// 4,096 messages wait, and 64 MiB or one message, and no more than that part reads in five
    /// seconds. A message of more than a KiB counts as a packet of the greatest size. A record that
    /// was read is refused if its network (an IPv4 address, a /48 of IPv6), its /56 in that, or its
    /// peer has used more than the average. So a thousand peer ids in one network get no more than
    /// one. All connections without a known IP address, relayed ones among them, count as one
    /// network. A network that asks for more than the whole budget, for seconds, is disconnected,
    /// and its new connections are refused until that is over. A refused record counts with its
    /// cost and half a millisecond. Up to one second's work is saved for bursts. Zero refuses all
    /// records of others and disconnects nobody.
    ///
    /// Defaults to 500 ms: half of a reference core, which verifies some 9,000 updates signed with
    /// Ed25519. Work is estimated, not measured: where an Ed25519 signature takes twice as long as
    /// on a reference core, it is a whole core.
    ///
    /// This node's own reads and writes, and the answers to them, do not count.
    work_per_second, with_work_per_second: Duration;
}
