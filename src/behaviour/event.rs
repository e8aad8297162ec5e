//! Events and counters of a behaviour.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use libp2p_kad as kad;

use super::inbound::InboundRefusal;
#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};
use crate::{client::ClientError, query::Withheld, store::StoreEvent};
use smart_record_core::RecordKey;

/// An event of a [`Behaviour`](super::Behaviour).
#[derive(Debug)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "Kademlia's event is as large as it is, and by far the most frequent"
)]
pub enum Event {
    /// An event of Kademlia. The behaviour starts no queries there, so all events of queries are
    /// the user's.
    Kad(kad::Event),
    /// An event of the store.
    Store(StoreEvent),
    /// Enough holders have covered the spaces of some writers, and show older or fewer updates than
    /// were seen before: these are withheld or rolled back.
    Withheld {
        /// Key of the record.
        key: RecordKey,
        /// The writers concerned, and what is missing.
        writers: Vec<Withheld>,
    },
    /// Peers are closer to a key than is plausible in a network of this size: their ids were chosen
    /// on purpose. They are asked and written to beside the closest peers.
    Implausible {
        /// The key.
        key: RecordKey,
        /// The peers, closest first.
        peers: Vec<PeerId>,
    },
    /// Peers that were behind, or had nothing, acknowledged what they lacked.
    Repaired {
        /// Key of the record.
        key: RecordKey,
        /// The repaired peers.
        peers: Vec<PeerId>,
    },
    /// An own space or a kept value was sent again, because the interval passed or new peers
    /// appeared.
    Refreshed {
        /// Key of the record.
        key: RecordKey,
        /// The peers that acknowledged it.
        peers: Vec<PeerId>,
    },
    /// Kept documents were due to be signed anew, and could not be: for example because the
    /// namespace demands more work than the client's stamps give now
    /// ([`Client::set_stamp`](crate::client::Client::set_stamp)). What was signed before is sent
    /// again until it expires, and signing is tried again soon, and at once with a better stamp.
    NotRenewed {
        /// Key of the record.
        key: RecordKey,
        /// Why.
        error: ClientError,
    },
    /// A stored record was compared with its other holders.
    Replicated {
        /// Key of the record.
        key: RecordKey,
    },
    /// Records from a peer were refused without validation. Emitted once for each run of refusals
    /// with the same reason.
    InboundRefused {
        /// The peer that sent them.
        source: PeerId,
        /// The reason.
        reason: InboundRefusal,
    },
    /// A peer was disconnected, because it asked for far more work than
    /// [`work_per_second`](super::BehaviourConfig::work_per_second), or because too many messages
    /// waited and the most were its own.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// The last [`Client`](crate::client::Client) is gone: own spaces are no longer kept alive. The
    /// behaviour continues as a replica.
    ClientsGone,
}

/// Counts of what has happened since the behaviour was created.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BehaviourCounters {
    /// Reads that have ended, from clients and internal.
    pub reads: u64,
    /// Lookups made by reads and writes.
    pub lookups: u64,
    /// Requests not answered in time; some of them were answered later.
    pub silent: u64,
    /// Peers evicted from the routing table because they did not answer.
    pub evicted: u64,
    /// Peers removed from the routing table, beyond the share of their subnet, for others.
    pub displaced: u64,
    /// Peers that lookups did not ask because they are beyond the share of their subnet.
    pub passed_over: u64,
    /// Answers to reads that were refused.
    pub bad_answers: u64,
    /// Writers for whom a read found less than was seen before.
    pub withheld: u64,
    /// Reads that were not complete.
    pub incomplete: u64,
    /// Holders that claimed more than they showed, and were not waited for.
    pub overclaimed: u64,
    /// Writes by clients.
    pub writes: u64,
    /// Repaired peers.
    pub repairs: u64,
    /// Repairs postponed because the peer did not take an earlier one shortly before, or because
    /// too many are running.
    pub repairs_postponed: u64,
    /// Own spaces and kept values sent again.
    pub refreshes: u64,
    /// Times that kept documents could not be signed anew.
    pub renewals_failed: u64,
    /// Replications of stored records.
    pub replications: u64,
    /// Times that no operation could start because answers held
    /// [`max_read_bytes`](super::BehaviourConfig::max_read_bytes).
    pub reads_held_back: u64,
    /// Notifications of watches postponed because the one before had been shortly before.
    pub notifications_postponed: u64,
    /// Pieces of received records dropped because too many were waiting to be stored.
    pub pieces_dropped: u64,
    /// Messages that had to wait, because their network or their peer had used its share of the
    /// work.
    pub messages_held: u64,
    /// Messages that wait now, at most 4,096.
    pub messages_waiting: u64,
    /// Peers disconnected because they asked for far too much work.
    pub disconnected: u64,
    /// Connections refused because peers of the same network had asked for far too much work.
    pub connections_refused: u64,
    /// Milliseconds of work that were done for other peers, in the time of a reference core.
    pub work_ms: u64,
    /// Networks and peers whose use of that work is counted now, at most 4,096.
    pub accounts: u64,
    /// Networks and peers whose count was given up because there were too many.
    pub accounts_closed: u64,
    /// How often work was counted together for the peers of a network that have no count of their
    /// own, because 32 others of it have one.
    pub accounts_shared: u64,
    /// Writers whose newest update is remembered, of all keys that this node has read, at most
    /// five quarters of [`max_known_writers`](super::BehaviourConfig::max_known_writers).
    pub known_writers: u64,
    /// Writers whose newest update was forgotten because there were too many.
    pub known_writers_forgotten: u64,
    /// Reads that could not remember all the spaces which others had pushed out of a full record.
    pub dropped_forgotten: u64,
    /// Inbound records refused without validation, by reason.
    pub inbound_refused: BTreeMap<InboundRefusal, u64>,
}

#[cfg(feature = "metrics")]
impl Source for BehaviourCounters {
    fn samples(&self) -> Vec<Sample> {
        // All fields are destructured, so that none is forgotten.
        let Self {
            reads,
            lookups,
            silent,
            evicted,
            displaced,
            passed_over,
            bad_answers,
            withheld,
            incomplete,
            overclaimed,
            writes,
            repairs,
            repairs_postponed,
            refreshes,
            renewals_failed,
            replications,
            reads_held_back,
            notifications_postponed,
            pieces_dropped,
            messages_held,
            messages_waiting,
            disconnected,
            connections_refused,
            work_ms,
            accounts,
            accounts_closed,
            accounts_shared,
            known_writers,
            known_writers_forgotten,
            dropped_forgotten,
            inbound_refused,
        } = self;
        let counts = [
            ("reads", "Reads that have ended, from clients and internal", reads),
            ("lookups", "Lookups made by reads and writes", lookups),
            ("silent", "Requests that were not answered in time", silent),
            ("evicted", "Peers removed from the routing table for their silence", evicted),
            (
                "displaced",
                "Peers removed from the routing table, beyond the share of their subnet, for others",
                displaced,
            ),
            (
                "passed_over",
                "Peers not asked by lookups, beyond the share of their subnet",
                passed_over,
            ),
            ("bad_answers", "Answers to reads that were refused", bad_answers),
            ("withheld", "Writers for whom a read found less than was seen before", withheld),
            ("incomplete", "Reads that were not complete", incomplete),
            ("overclaimed", "Holders that claimed more than they showed", overclaimed),
            ("writes", "Writes by clients", writes),
            ("repairs", "Repaired peers", repairs),
            (
                "repairs_postponed",
                "Repairs postponed because of an earlier or running repair",
                repairs_postponed,
            ),
            ("refreshes", "Own spaces and kept values sent again", refreshes),
            (
                "renewals_failed",
                "Times that kept documents could not be signed anew",
                renewals_failed,
            ),
            ("replications", "Replications of stored records", replications),
            (
                "reads_held_back",
                "Times that operations waited because answers held too many bytes",
                reads_held_back,
            ),
            (
                "notifications_postponed",
                "Notifications of watches postponed to the next interval",
                notifications_postponed,
            ),
            (
                "pieces_dropped",
                "Pieces of received records dropped because too many were waiting",
                pieces_dropped,
            ),
            (
                "messages_held",
                "Messages that had to wait because others had used less work",
                messages_held,
            ),
            ("disconnected", "Peers disconnected for asking for far too much work", disconnected),
            (
                "connections_refused",
                "Connections refused because their network asked for far too much work",
                connections_refused,
            ),
            (
                "work_milliseconds",
                "Work done for other peers, in the time of a reference core",
                work_ms,
            ),
            (
                "accounts_closed",
                "Networks and peers whose use of work was forgotten because there were too many",
                accounts_closed,
            ),
            (
                "accounts_shared",
                "Times that work was counted together for peers of a network that has too many",
                accounts_shared,
            ),
            (
                "known_writers_forgotten",
                "Writers whose newest update was forgotten because there were too many",
                known_writers_forgotten,
            ),
            (
                "dropped_forgotten",
                "Reads that could not remember all spaces pushed out of a full record",
                dropped_forgotten,
            ),
        ];
        let counts = counts.map(|(name, help, count)| Sample::counter(name, help, *count));
        let refused = InboundRefusal::ALL.map(|reason| {
            let count = inbound_refused.get(&reason).copied().unwrap_or(0);
            Sample::counter("inbound_refused", "Inbound records refused without validation", count)
                .with_label("reason", reason.as_str())
        });
        let gauges = [
            ("messages_waiting", "Messages that wait for work", messages_waiting),
            ("accounts", "Networks and peers whose use of work is counted", accounts),
            ("known_writers", "Writers whose newest update is remembered", known_writers),
        ];
        let gauges = gauges.map(|(name, help, value)| Sample::gauge(name, help, *value));
        counts.into_iter().chain(refused).chain(gauges).collect()
    }
}
