//! What a behaviour tells: events and counters.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use libp2p_kad as kad;

use super::inbound::InboundRefusal;
#[cfg(feature = "metrics")]
use crate::metrics::{Sample, Source};
use crate::{query::Withheld, store::StoreEvent};
use smart_record_core::RecordKey;

/// What happened in a [`Behaviour`](super::Behaviour).
#[derive(Debug)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "Kademlia's event is as large as it is, and by far the most frequent"
)]
pub enum Event {
    /// An event of Kademlia. Those of queries that the behaviour itself has begun are not among them.
    Kad(kad::Event),
    /// An event of the store.
    Store(StoreEvent),
    /// A read found less of some writers than was seen before: it is withheld, or was rolled back.
    Withheld {
        /// Of the record.
        key: RecordKey,
        /// What was missing.
        writers: Vec<Withheld>,
    },
    /// Peers that were behind, or had nothing, have taken what they lacked.
    Repaired {
        /// Of the record.
        key: RecordKey,
        /// Who.
        peers: Vec<PeerId>,
    },
    /// An own space, or a value that is kept, was sent again: because it was time or because of new peers.
    Refreshed {
        /// Of the record.
        key: RecordKey,
        /// Who took it.
        peers: Vec<PeerId>,
    },
    /// A stored record was compared with what its other holders have.
    Replicated {
        /// Of the record.
        key: RecordKey,
    },
    /// Records from a peer were refused unread; told once for each run of refusals of the same kind.
    InboundRefused {
        /// From whom.
        source: PeerId,
        /// Why.
        reason: InboundRefusal,
    },
    /// The last [`Client`](crate::client::Client) is gone: own spaces are no longer kept alive. The behaviour goes on as a
    /// replica.
    ClientsGone,
}

/// How often what has happened since the behaviour was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BehaviourCounters {
    /// Reads that have ended, whoever asked for them.
    pub reads: u64,
    /// Lookups of Kademlia that reads took.
    pub lookups: u64,
    /// Answers to reads that were refused.
    pub bad_answers: u64,
    /// Writers of whom a read found less than was seen before.
    pub withheld: u64,
    /// Writes by clients.
    pub writes: u64,
    /// Peers that were sent what they lacked.
    pub repairs: u64,
    /// Peers that were not, because they did not take it a short while ago or too many repairs were under way.
    pub repairs_put_off: u64,
    /// Own spaces and kept values sent again.
    pub refreshes: u64,
    /// Turns of stored records to be replicated.
    pub replications: u64,
    /// Inbound records refused unread, by reason.
    pub inbound_refused: BTreeMap<InboundRefusal, u64>,
}

#[cfg(feature = "metrics")]
impl Source for BehaviourCounters {
    fn samples(&self) -> Vec<Sample> {
        // Each field is named, so that none is forgotten.
        let Self {
            reads,
            lookups,
            bad_answers,
            withheld,
            writes,
            repairs,
            repairs_put_off,
            refreshes,
            replications,
            inbound_refused,
        } = self;
        let counts = [
            ("reads", "Reads that have ended, whoever asked for them", reads),
            ("lookups", "Lookups of Kademlia that reads took", lookups),
            ("bad_answers", "Answers to reads that were refused", bad_answers),
            ("withheld", "Writers of whom a read found less than was seen before", withheld),
            ("writes", "Writes by clients", writes),
            ("repairs", "Peers that were sent what they lacked", repairs),
            (
                "repairs_put_off",
                "Peers that were not, because of what was sent before or is under way",
                repairs_put_off,
            ),
            ("refreshes", "Own spaces and kept values sent again", refreshes),
            ("replications", "Turns of stored records to be replicated", replications),
        ];
        let counts = counts.map(|(name, help, count)| Sample::counter(name, help, *count));
        let refused = InboundRefusal::ALL.map(|reason| {
            let count = inbound_refused.get(&reason).copied().unwrap_or(0);
            Sample::counter("inbound_refused", "Inbound records refused unread", count)
                .with_label("reason", reason.as_str())
        });
        counts.into_iter().chain(refused).collect()
    }
}
