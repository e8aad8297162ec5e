//! The network: hosts, the links between them, and what happens to messages.
//!
//! Hosts are in regions; a matrix has the latencies between these. Streams are reliable, so a lost
//! packet delays what follows it on its connection, as TCP does. What is sent over a link that is
//! cut is swallowed, and the connection ends for both sides [`GIVES_UP`] later, even if the link is
//! back by then. The uplink of a host has a bandwidth, its downlink has none. There is no flow
//! control: a stream takes any amount.
//!
//! **Invariants.** A connection delivers in order. All decisions come from the seed.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug, Formatter},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_sim_clock as clock;
use smart_record_sim_entropy::Random;

use crate::{connection::Muxer, mailbox::Mailbox, trace::Trace};

/// When a connection that gets no answer ends, and how long a dial waits.
pub(crate) const GIVES_UP: Duration = Duration::from_secs(30);

/// Wait until a lost packet is sent again, beside a round trip: the minimum of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// Bytes in a packet.
const PACKET: usize = 1_400;

/// Bytes that a packet has beside its content: IPv4, TCP, Noise and Yamux.
const OVERHEAD: u64 = 20 + 20 + 18 + 12;

/// Bytes of both directions that a connection takes before it is used: the handshakes of TCP and
/// Noise, and the negotiation of protocols.
const HANDSHAKE: u64 = 1_000;

/// Index of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl HostId {
    /// A host of a network of 24 bits, of up to 254, numbered from 0. The number of the network is
    /// that of its first host.
    #[must_use]
    pub const fn in_network(network: u32, number: u32) -> Self {
        Self(network + number * (70 << 16))
    }

    /// The first 24 bits of its address.
    #[must_use]
    pub fn network(self) -> [u8; 3] {
        let [a, b, c, _] = self.ip().octets();
        [a, b, c]
    }

    /// Its address: hosts share no network of 16 bits up to the number 17,920.
    #[must_use]
    pub fn ip(self) -> Ipv4Addr {
        let [_, high, middle, low] = (self.0 / 70).to_be_bytes();
        let first = u8::try_from(self.0 % 70).unwrap_or_default().saturating_add(20);
        Ipv4Addr::new(first, low, middle, high.saturating_add(1))
    }

    fn of(ip: Ipv4Addr) -> Option<Self> {
        let [first, low, middle, high] = ip.octets();
        let rest = u32::from_be_bytes([0, high.checked_sub(1)?, middle, low]);
        let first = u32::from(first.checked_sub(20)?);
        Some(Self(rest.checked_mul(70)?.checked_add(first)?)).filter(|id| id.ip() == ip)
    }
}

/// Properties of all links.
#[derive(Clone, Debug)]
pub struct Links {
    /// Latency of one way, in milliseconds, from a region (row) to another (column).
    pub latency: Vec<Vec<u64>>,
    /// Share of its latency by which a message may be later.
    pub jitter: f64,
    /// Share of packets that are lost.
    pub loss: f64,
    /// Share of messages with which a connection is reset.
    pub resets: f64,
    /// Bytes in a second that a host sends.
    pub uplink: u64,
}

impl Default for Links {
    /// Five regions (Europe, the east and west of North America, East Asia, South America), with
    /// half of the usual round trips between data centres there plus 10 ms for access. Losses of
    /// 0.1 % and 10 Mbit/s are guesses.
    fn default() -> Self {
        let latency = vec![
            vec![20, 50, 80, 125, 105],
            vec![50, 20, 45, 90, 70],
            vec![80, 45, 20, 65, 100],
            vec![125, 90, 65, 30, 145],
            vec![105, 70, 100, 145, 25],
        ];
        Self { latency, jitter: 0.2, loss: 0.001, resets: 0.0, uplink: 1_250_000 }
    }
}

/// Bytes and messages of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent, with an estimate of what TCP, Noise and Yamux add.
    pub sent: u64,
    /// Bytes received, likewise.
    pub received: u64,
    /// Writes to streams.
    pub messages: u64,
    /// Connections opened to others.
    pub dials: u64,
}

struct Host {
    region: usize,
    /// Hosts of different sides of a partition do not reach each other.
    side: u8,
    is_silent: bool,
    /// Whether others reach it; false behind a NAT.
    is_reachable: bool,
    listener: Option<Listener>,
    uplink_free: Duration,
    next_port: u16,
    traffic: Traffic,
}

struct Listener {
    peer: PeerId,
    incoming: Mailbox<Incoming>,
}

/// A connection that arrives at a listener.
pub(crate) struct Incoming {
    pub(crate) from: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) peer: PeerId,
    pub(crate) muxer: Muxer,
}

struct State {
    links: Links,
    hosts: BTreeMap<HostId, Host>,
    random: Random,
    trace: Trace,
    connections: u64,
    streams: u64,
}

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

impl Debug for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// What becomes of a dial.
pub(crate) enum Dialed {
    /// The connection is there at this time.
    Connected(Duration, PeerId, Muxer),
    /// Nobody listens there, which is known at this time.
    Refused(Duration),
    /// No answer.
    Silence,
}

impl State {
    fn is_cut(&self, a: HostId, b: HostId) -> bool {
        match (self.hosts.get(&a), self.hosts.get(&b)) {
            (Some(a), Some(b)) => a.is_silent || b.is_silent || a.side != b.side,
            _ => true,
        }
    }

    /// Latency of one message.
    fn latency(&mut self, from: HostId, to: HostId) -> Duration {
        let region = |id| self.hosts.get(&id).map_or(0, |host| host.region);
        let row = self.links.latency.get(region(from));
        let millis = row.and_then(|row| row.get(region(to))).copied().unwrap_or_default();
        let base = Duration::from_millis(millis);
        base + base.mul_f64(self.links.jitter * self.random.unit())
    }
}

impl Network {
    /// A network without hosts.
    #[must_use]
    pub fn new(links: Links, random: Random, trace: Trace) -> Self {
        let (hosts, connections, streams) = (BTreeMap::new(), 0, 0);
        let state = State { links, hosts, random, trace, connections, streams };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a host, in a region drawn at random.
    pub fn add_host(&self, id: HostId) {
        let mut state = self.lock();
        let regions = state.links.latency.len() as u64;
        let region = state.random.below(regions) as usize;
        let host = Host {
            region,
            side: 0,
            is_silent: false,
            is_reachable: true,
            listener: None,
            uplink_free: Duration::ZERO,
            next_port: 49_152,
            traffic: Traffic::default(),
        };
        state.hosts.insert(id, host);
    }

    fn with_host<T>(&self, id: HostId, act: impl FnOnce(&mut Host) -> T) -> Option<T> {
        self.lock().hosts.get_mut(&id).map(act)
    }

    /// Puts a host on a side of a partition. Healed is a network whose hosts are on one side.
    pub fn set_side(&self, id: HostId, side: u8) {
        self.with_host(id, |host| host.side = side);
    }

    /// Cuts all links of a host, or restores them.
    pub fn set_silent(&self, id: HostId, is_silent: bool) {
        self.with_host(id, |host| host.is_silent = is_silent);
    }

    /// Sets whether others reach a host, or only it reaches them.
    pub fn set_reachable(&self, id: HostId, is_reachable: bool) {
        self.with_host(id, |host| host.is_reachable = is_reachable);
    }

    /// Whether two hosts do not reach each other, because of a partition or because one is silent.
    #[must_use]
    pub fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.lock().is_cut(a, b)
    }

    /// The traffic of a host.
    #[must_use]
    pub fn traffic(&self, id: HostId) -> Traffic {
        self.with_host(id, |host| host.traffic).unwrap_or_default()
    }

    /// Number of connections until now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.lock().connections
    }

    /// Number of requests until now: of streams, without those of identify, which each side opens
    /// once on each connection.
    #[must_use]
    pub fn requests(&self) -> u64 {
        let state = self.lock();
        state.streams.saturating_sub(2 * state.connections)
    }

    /// A stream was opened.
    pub(crate) fn count_stream(&self) {
        self.lock().streams += 1;
    }

    /// The time at which something that is sent now arrives; `None` if it never does.
    pub(crate) fn transmit(&self, from: HostId, to: HostId, bytes: usize) -> Option<Duration> {
        let mut state = self.lock();
        if state.is_cut(from, to) {
            return None;
        }
        let now = clock::now();
        let mut latency = state.latency(from, to);
        let packets = bytes.div_ceil(PACKET).max(1);
        for _ in 0..packets {
            if state.random.unit() < state.links.loss {
                latency += RETRANSMISSION + 2 * latency;
            }
        }
        let size = bytes as u64 + packets as u64 * OVERHEAD;
        let sending = Duration::from_nanos(size.saturating_mul(1_000_000_000) / state.links.uplink);
        let sender = state.hosts.get_mut(&from)?;
        let sent = sender.uplink_free.max(now) + sending;
        sender.uplink_free = sent;
        sender.traffic.sent += size;
        sender.traffic.messages += 1;
        state.hosts.get_mut(&to)?.traffic.received += size;
        let arrives = sent + latency;
        let numbers = [now, arrives].map(|time| time.as_nanos() as u64);
        state.trace.numbers(&[numbers[0], numbers[1], from.0.into(), to.0.into(), bytes as u64]);
        Some(arrives)
    }

    /// Whether the connection is reset with the next message.
    pub(crate) fn resets(&self) -> bool {
        let mut state = self.lock();
        state.links.resets > 0.0 && state.random.unit() < state.links.resets
    }

    /// Listens for connections to a host.
    pub(crate) fn listen(&self, id: HostId, peer: PeerId) {
        let listener = Listener { peer, incoming: Mailbox::default() };
        let old = self.with_host(id, |host| host.listener.replace(listener));
        // Outside of the lock: connections are closed over the network.
        drop(old);
    }

    /// Stops listening.
    pub(crate) fn stop_listening(&self, id: HostId) {
        let old = self.with_host(id, |host| host.listener.take());
        drop(old);
    }

    /// The next connection to a host.
    pub(crate) fn poll_incoming(&self, id: HostId, cx: &Context<'_>) -> Poll<Incoming> {
        let mut state = self.lock();
        let host = state.hosts.get_mut(&id);
        let Some(listener) = host.and_then(|host| host.listener.as_mut()) else {
            return Poll::Pending;
        };
        if listener.incoming.poll(cx).is_pending() {
            return Poll::Pending;
        }
        listener.incoming.pop().map_or(Poll::Pending, Poll::Ready)
    }

    /// Dials a host. The connection takes three round trips: TCP, Noise, and the negotiation of
    /// both.
    pub(crate) fn dial(&self, from: HostId, dialer: PeerId, to: Ipv4Addr) -> Dialed {
        let mut state = self.lock();
        let Some(to) = HostId::of(to) else { return Dialed::Silence };
        let is_reachable = state.hosts.get(&to).is_some_and(|host| host.is_reachable);
        if state.is_cut(from, to) || !is_reachable {
            return Dialed::Silence;
        }
        let now = clock::now();
        let round_trip = state.latency(from, to) + state.latency(to, from);
        let listening =
            |state: &State| state.hosts.get(&to)?.listener.as_ref().map(|listener| listener.peer);
        let Some(peer) = listening(&state) else { return Dialed::Refused(now + round_trip) };
        state.connections += 1;
        let (outbound, inbound) = Muxer::pair(self.clone(), [from, to]);
        let port = state.hosts.get_mut(&from).map_or(0, |host| {
            host.next_port = host.next_port.checked_add(1).unwrap_or(49_152);
            host.traffic.dials += 1;
            host.traffic.sent += HANDSHAKE / 2;
            host.traffic.received += HANDSHAKE / 2;
            host.next_port
        });
        let incoming = Incoming { from: from.ip(), port, peer: dialer, muxer: inbound };
        if let Some(host) = state.hosts.get_mut(&to) {
            host.traffic.sent += HANDSHAKE / 2;
            host.traffic.received += HANDSHAKE / 2;
            if let Some(listener) = &mut host.listener {
                listener.incoming.send(now + round_trip.mul_f64(2.5), incoming);
            }
        }
        Dialed::Connected(now + 3 * round_trip, peer, outbound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_an_address_of_its_own() {
        for id in (0..20_000).map(HostId) {
            assert_eq!(HostId::of(id.ip()), Some(id));
        }
    }

    #[test]
    fn hosts_of_a_network_share_24_bits() {
        let hosts = [0, 1, 253].map(|number| HostId::in_network(10_007, number));
        for id in hosts {
            assert_eq!(HostId::of(id.ip()), Some(id));
            assert_eq!(id.network(), HostId(10_007).network());
        }
        assert_ne!(HostId(10_006).network(), HostId(10_007).network());
    }
}
