//! What it takes and costs to send a message.
//!
//! **Departs from real links.** No loss and no limit of bandwidth: latency alone. A message that is
//! lost is one to a peer that is silent, gone, or on the other side of a partition.

use crate::{
    ids::hash,
    node::Node,
    time::{MILLISECOND, SECOND, Time},
};

/// Number of regions. Nodes are spread over them evenly.
pub(crate) const REGIONS: u64 = 5;

/// Round trips between regions in milliseconds, with 20 ms of access: Europe, eastern and western
/// North America, eastern Asia, South America. As in `sim/net`.
const ROUND_TRIPS: [[u64; 5]; 5] = [
    [40, 100, 160, 250, 210],
    [100, 40, 90, 180, 140],
    [160, 90, 40, 130, 200],
    [250, 180, 130, 60, 290],
    [210, 140, 200, 290, 50],
];

/// A round trip takes up to this part longer, by its two ends.
const JITTER: u64 = 5;

/// Round trips of a request over a connection that is there: one to agree on the protocol of its
/// stream, one for the question.
const REQUEST: u64 = 2;
/// Further ones of a request that has to connect first: TCP, then Noise and the multiplexer.
const CONNECT: u64 = 3;

/// A connection without a request for longer than this is closed, as in `smart-record-host`.
pub(crate) const IDLE: Time = 60 * SECOND;

/// Bytes each way of a new connection: half a kilobyte of handshakes, and identify. A guess.
pub(crate) const CONNECT_BYTES: u64 = 1_500;
/// Bytes of a request or an answer beside key, record and named peers: the headers of four packets,
/// as `sim/net` counts them, and protocol names.
pub(crate) const FRAME_BYTES: u64 = 350;
/// Bytes of a named peer with one address: what `docs/performance.md` measures for a read, over its
/// answers and the 20 peers in each.
pub(crate) const NAMED_BYTES: u64 = 107;

/// One round trip.
pub(crate) fn round_trip(a: &Node, b: &Node) -> Time {
    let between = ROUND_TRIPS[usize::from(a.region)][usize::from(b.region)] * MILLISECOND;
    between + hash(a.salt ^ b.salt, 33) % (between / JITTER)
}

/// From a request to its answer.
pub(crate) fn exchange(a: &Node, b: &Node, is_connected: bool) -> Time {
    let trips = if is_connected { REQUEST } else { REQUEST + CONNECT };
    round_trip(a, b) * trips
}
