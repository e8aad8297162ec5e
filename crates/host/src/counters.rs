//! Counters of what the limits of a node refuse.
//!
//! **Invariants.** Counters only grow.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

#[cfg(feature = "metrics")]
use libp2p_smart_record::metrics::{Metrics, Sample, Source};

/// Counters of a [`Host`](super::Host) since it was started. With the feature `metrics`, the
/// `Metrics` of the builder show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostCounters {
    /// Connections refused, by the limit that did not allow them.
    pub connections_refused: BTreeMap<ConnectionLimit, u64>,
    /// Connections closed to make room for newer ones.
    pub connections_displaced: u64,
    /// Handshakes with others that gave way to newer ones.
    pub handshakes_displaced: u64,
    /// Handshakes with others that were not done in time: ten seconds, and five over QUIC. Those
    /// that are under way when the node ends count as well.
    pub handshakes_timed_out: u64,
}

/// One of the [`ConnectionLimits`](super::ConnectionLimits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConnectionLimit {
    /// [`inbound`](super::ConnectionLimits::inbound).
    Inbound,
    /// [`outbound`](super::ConnectionLimits::outbound).
    Outbound,
    /// [`pending_inbound`](super::ConnectionLimits::pending_inbound).
    PendingInbound,
    /// [`pending_outbound`](super::ConnectionLimits::pending_outbound).
    PendingOutbound,
    /// [`per_peer`](super::ConnectionLimits::per_peer).
    PerPeer,
}

impl ConnectionLimit {
    /// All limits.
    pub const ALL: [Self; 5] =
        [Self::Inbound, Self::Outbound, Self::PendingInbound, Self::PendingOutbound, Self::PerPeer];

    /// Name of the limit, as in the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::PendingInbound => "pending_inbound",
            Self::PendingOutbound => "pending_outbound",
            Self::PerPeer => "per_peer",
        }
    }
}

#[cfg(feature = "metrics")]
impl Source for HostCounters {
    fn samples(&self) -> Vec<Sample> {
        // Every field is named, so a new one that is not shown does not compile.
        let Self {
            connections_refused,
            connections_displaced,
            handshakes_displaced,
            handshakes_timed_out,
        } = self;
        let counts = [
            (
                "host_displaced_connections",
                "Connections closed to make room for newer ones",
                connections_displaced,
            ),
            (
                "host_displaced_handshakes",
                "Handshakes with others that gave way to newer ones",
                handshakes_displaced,
            ),
            (
                "host_timed_out_handshakes",
                "Handshakes with others that were not done in time",
                handshakes_timed_out,
            ),
        ];
        let counts = counts.map(|(name, help, count)| Sample::counter(name, help, *count));
        let refused = ConnectionLimit::ALL.map(|limit| {
            let count = connections_refused.get(&limit).copied().unwrap_or(0);
            Sample::counter("host_refused_connections", "Connections beyond a limit", count)
                .with_label("limit", limit.as_str())
        });
        counts.into_iter().chain(refused).collect()
    }
}

/// The counters of a node. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedCounters(Arc<Mutex<HostCounters>>);

impl SharedCounters {
    pub(super) fn get(&self) -> HostCounters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count(&self, which: impl FnOnce(&mut HostCounters) -> &mut u64) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = which(&mut counters);
        *counter = counter.saturating_add(1);
    }

    #[cfg(feature = "metrics")]
    pub(super) fn show_in(&self, metrics: &Metrics) {
        metrics.add_source(self.0.clone());
    }
}
