//! Limits of connections, and which of them to close when there are too many.
//!
//! Each TCP connection takes one of the files that the process may have open. Without files a node
//! accepts nobody, so strangers that connect and stay silent would shut it off.
//!
//! **Invariants.** Of each kind of connection there are at most as many as its limit. Memory is
//! bounded by the limits: of a peer without connections nothing is kept.

use std::{
    collections::HashSet,
    convert::Infallible,
    fmt,
    num::{NonZeroU8, NonZeroUsize},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished, dummy,
    },
};
use libp2p_smart_record::settings;

use super::counters::{ConnectionLimit, SharedCounters};

/// Most files that the default limits count on: enough for a busy node; a connection takes some
/// 100 KB of memory. A guess.
const MAX_FILES: usize = 2_048;
/// Files that are not connections: standard streams, the store, listeners, sockets of names and of
/// the runtime. A guess.
const OTHER_FILES: usize = 32;

/// Most addresses of a peer that are dialled at once, each of which takes a file: as many as the
/// routing table keeps.
pub(super) const ADDRESSES_AT_ONCE: NonZeroU8 = NonZeroU8::MIN.saturating_add(2);

/// Limits of a node's connections, TCP and QUIC alike.
///
/// The defaults share out the files that the process may have open (`ulimit -n`), at most 2,048 of
/// them, less 32 for everything else: three eighths of the rest for connections from others, an
/// eighth for those that are being made, a quarter for connections to others, and a quarter for
/// those that are being made, which take three files each. With 1,024 files: 372 connections from
/// others, 248 to others. Nodes of one process share its files:
/// [`for_files`](Self::for_files) makes the limits of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    inbound: usize,
    outbound: usize,
    pending_inbound: usize,
    pending_outbound: usize,
    per_peer: usize,
}

settings! { ConnectionLimits:
    /// Most connections from others. From seven eighths of them on, and when one place is left,
    /// each new one closes another: the oldest of a peer that is not known, or else the oldest of
    /// the others. Known are peers of the routing table, those that this node was told to join
    /// through, its relays, and those that it serves as a relay, with the oldest connections up to
    /// half of the limit: anybody can reserve. With a limit of 1, new ones are refused instead.
    inbound, with_inbound: usize;
    /// Most connections to others. When there are many, each new one closes another, as of those
    /// from others: servers that keep their connections open cannot hold all places.
    outbound, with_outbound: usize;
    /// Most connections from others that are being made. From seven eighths of them on, and when
    /// one place is left, the oldest gives way to each new one.
    pending_inbound, with_pending_inbound: usize;
    /// Most connections to others that are being made.
    pending_outbound, with_pending_outbound: usize;
    /// Most connections with one peer. Defaults to 8: one for each of a few paths to it.
    per_peer, with_per_peer: usize;
}

impl ConnectionLimits {
    /// Limits for a process that may have this many files open.
    #[must_use]
    pub fn for_files(files: usize) -> Self {
        let eighth = (files.min(MAX_FILES).saturating_sub(OTHER_FILES) / 8).max(1);
        let (quarter, three_eighths) = (eighth.saturating_mul(2), eighth.saturating_mul(3));
        Self {
            inbound: three_eighths,
            outbound: quarter,
            pending_inbound: eighth,
            pending_outbound: (quarter / NonZeroUsize::from(ADDRESSES_AT_ONCE)).max(1),
            per_peer: 8,
        }
    }

    /// Connections from others that are being made, from which on each new one ends another.
    pub(super) fn crowd_of_handshakes(&self) -> usize {
        crowd(self.pending_inbound)
    }

    const fn get(&self, limit: ConnectionLimit) -> usize {
        match limit {
            ConnectionLimit::Inbound => self.inbound,
            ConnectionLimit::Outbound => self.outbound,
            ConnectionLimit::PendingInbound => self.pending_inbound,
            ConnectionLimit::PendingOutbound => self.pending_outbound,
            ConnectionLimit::PerPeer => self.per_peer,
        }
    }
}

/// Seven eighths of a limit, and less than the limit: one more has to find room, or it is refused
/// before another gives way. At least one.
fn crowd(limit: usize) -> usize {
    limit.saturating_sub((limit / 8).max(1)).max(1)
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        #[cfg(unix)]
        let files = {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            limit.and_then(|files| usize::try_from(files).ok()).unwrap_or(MAX_FILES)
        };
        #[cfg(not(unix))]
        let files = MAX_FILES;
        Self::for_files(files)
    }
}

/// A connection that a limit does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooMany {
    limit: ConnectionLimit,
    max: usize,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.limit {
            ConnectionLimit::Inbound => "connections from others",
            ConnectionLimit::Outbound => "connections to others",
            ConnectionLimit::PendingInbound => "connections from others being made",
            ConnectionLimit::PendingOutbound => "connections to others being made",
            ConnectionLimit::PerPeer => "connections with one peer",
        };
        write!(f, "at most {} {what}", self.max)
    }
}

impl std::error::Error for TooMany {}

/// Relation of a peer to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Stranger,
    /// The node serves it as a relay.
    Served,
    Known,
}

/// Behaviour that keeps the limits.
///
/// `libp2p-connection-limits` remembers every peer that has ever connected, and closes nothing.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: ConnectionLimits,
    counters: SharedCounters,
    pending_inbound: HashSet<ConnectionId>,
    pending_outbound: HashSet<ConnectionId>,
    /// Oldest first.
    inbound: Vec<(ConnectionId, PeerId)>,
    outbound: Vec<(ConnectionId, PeerId)>,
    /// Connections that are being closed.
    closing: HashSet<ConnectionId>,
}

impl Limiter {
    pub(super) fn new(limits: ConnectionLimits, counters: SharedCounters) -> Self {
        Self {
            limits,
            counters,
            pending_inbound: HashSet::new(),
            pending_outbound: HashSet::new(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            closing: HashSet::new(),
        }
    }

    /// Connections from others.
    pub(super) const fn inbound(&self) -> usize {
        self.inbound.len()
    }

    /// The connection to close so that the next one finds room, if there are too many of those
    /// from others, or to others: the oldest of a peer that is not known, or else the oldest.
    /// Served peers count as known, with the oldest connections up to half of the limit. The newest
    /// stays. It counts as being closed from now on.
    pub(super) fn crowded_out(
        &mut self,
        from_others: bool,
        mut standing: impl FnMut(&PeerId) -> Standing,
    ) -> Option<ConnectionId> {
        let (all, limit) = match from_others {
            true => (&self.inbound, self.limits.inbound),
            false => (&self.outbound, self.limits.outbound),
        };
        let mut open: Vec<_> = all.iter().filter(|(id, _)| !self.closing.contains(id)).collect();
        if open.len() <= crowd(limit) {
            return None;
        }
        open.pop();
        let mut served = 0_usize;
        let mut is_known = |peer: &PeerId| match standing(peer) {
            Standing::Stranger => false,
            Standing::Served => {
                served = served.saturating_add(1);
                served <= limit / 2
            }
            Standing::Known => true,
        };
        // Of several, the first one.
        let by_standing = open.into_iter().map(|(id, peer)| (is_known(peer), *id));
        let (_, id) = by_standing.min_by_key(|(is_known, _)| *is_known)?;
        self.closing.insert(id);
        self.counters.count(|c| &mut c.connections_displaced);
        Some(id)
    }

    fn check(&self, count: usize, limit: ConnectionLimit) -> Result<(), ConnectionDenied> {
        let max = self.limits.get(limit);
        if count < max {
            return Ok(());
        }
        self.counters.count(|c| c.connections_refused.entry(limit).or_default());
        Err(ConnectionDenied::new(TooMany { limit, max }))
    }

    fn check_peer(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        let all = self.inbound.iter().chain(&self.outbound);
        let count = all.filter(|(_, of)| *of == peer).count();
        self.check(count, ConnectionLimit::PerPeer)
    }
}

impl NetworkBehaviour for Limiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check(self.pending_inbound.len(), ConnectionLimit::PendingInbound)?;
        self.pending_inbound.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&connection);
        self.check_peer(peer)?;
        self.check(self.inbound.len(), ConnectionLimit::Inbound)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.check(self.pending_outbound.len(), ConnectionLimit::PendingOutbound)?;
        self.pending_outbound.insert(connection);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_outbound.remove(&connection);
        self.check_peer(peer)?;
        self.check(self.outbound.len(), ConnectionLimit::Outbound)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                if endpoint.is_listener() {
                    self.inbound.push((connection_id, peer_id));
                } else {
                    self.outbound.push((connection_id, peer_id));
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.inbound.retain(|(id, _)| *id != connection_id);
                self.outbound.retain(|(id, _)| *id != connection_id);
                self.closing.remove(&connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.pending_outbound.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending_inbound.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::{Standing::*, *};
    use crate::HostCounters;

    #[test]
    fn the_limits_follow_from_the_files_that_may_be_open() {
        for files in [64, 256, 1_024, MAX_FILES] {
            let limits = ConnectionLimits::for_files(files);
            let made = limits.inbound + limits.outbound;
            let all = made + limits.pending_inbound + 3 * limits.pending_outbound + OTHER_FILES;
            assert!((files - 10..=files).contains(&all), "{files}: {limits:?}");
        }
        assert_eq!(ConnectionLimits::for_files(usize::MAX), ConnectionLimits::for_files(MAX_FILES));
        assert!(ConnectionLimits::for_files(0).inbound > 0);
    }

    #[test]
    fn a_full_node_keeps_a_place_for_the_next_connection() {
        for (limit, crowd) in [(0, 1), (1, 1), (2, 1), (7, 6), (8, 7), (16, 14), (372, 326)] {
            let limits = ConnectionLimits::for_files(256).with_inbound(limit);
            assert_eq!(super::crowd(limits.inbound), crowd);
            assert_eq!(limits.with_pending_inbound(limit).crowd_of_handshakes(), crowd);
        }
    }

    #[test]
    fn strangers_that_reserve_do_not_hold_more_than_half_of_the_places() {
        let limits = ConnectionLimits::for_files(256).with_inbound(14);
        let mut limiter = Limiter::new(limits, SharedCounters::default());
        let reserving: Vec<_> = (0..12).map(|_| PeerId::random()).collect();
        let (honest, id) = (PeerId::random(), ConnectionId::new_unchecked);
        let all = reserving.iter().chain([&honest]).copied();
        limiter.inbound.extend(all.enumerate().map(|(at, peer)| (id(at), peer)));
        let mut closed = Vec::new();
        for at in 13..18 {
            limiter.inbound.push((id(at), PeerId::random()));
            closed.extend(limiter.crowded_out(true, |peer| {
                if reserving.contains(peer) { Served } else { Stranger }
            }));
        }
        assert_eq!(closed, [7, 8, 9, 10, 11].map(id), "the oldest half stays, and who is honest");
    }

    #[test]
    fn the_oldest_stranger_is_crowded_out_first_and_then_the_oldest_and_never_the_newest() {
        for from_others in [true, false] {
            let limits = ConnectionLimits::for_files(256).with_inbound(4).with_outbound(4);
            let counters = SharedCounters::default();
            let mut limiter = Limiter::new(limits, counters.clone());
            let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
            let id = |at: usize| ConnectionId::new_unchecked(at);
            let open = |limiter: &mut Limiter, at: usize| {
                let all = if from_others { &mut limiter.inbound } else { &mut limiter.outbound };
                all.push((id(at), peers[at]));
            };
            (0..3).for_each(|at| open(&mut limiter, at));
            assert_eq!(limiter.crowded_out(from_others, |_| Stranger), None, "there is room");
            open(&mut limiter, 3);
            assert_eq!(limiter.crowded_out(!from_others, |_| Stranger), None, "the other kind");
            let known = |is_known: bool| if is_known { Known } else { Stranger };
            let is_first = |peer: &PeerId| known(*peer == peers[0]);
            assert_eq!(limiter.crowded_out(from_others, is_first), Some(id(1)));
            assert_eq!(limiter.crowded_out(from_others, |_| Stranger), None, "one is being closed");
            open(&mut limiter, 4);
            assert_eq!(limiter.crowded_out(from_others, |_| Known), Some(id(0)));
            open(&mut limiter, 5);
            let is_older = |peer: &PeerId| known(*peer != peers[5]);
            assert_eq!(limiter.crowded_out(from_others, is_older), Some(id(2)));
            assert_eq!(counters.get().connections_displaced, 3);
        }
    }

    #[test]
    fn what_a_limit_refuses_is_counted_by_the_limit() {
        use ConnectionLimit::*;

        let address = Multiaddr::empty();
        let begin = |limiter: &mut Limiter, id, inbound| match inbound {
            true => limiter.handle_pending_inbound_connection(id, &address, &address),
            false => limiter
                .handle_pending_outbound_connection(id, None, &[], Endpoint::Dialer)
                .map(drop),
        };
        let end = |limiter: &mut Limiter, id, peer, inbound| match inbound {
            true => limiter
                .handle_established_inbound_connection(id, peer, &address, &address)
                .map(drop),
            false => {
                let (role, port) = (Endpoint::Dialer, PortUse::New);
                limiter
                    .handle_established_outbound_connection(id, peer, &address, role, port)
                    .map(drop)
            }
        };
        let limits = ConnectionLimits {
            inbound: 1,
            outbound: 1,
            pending_inbound: 2,
            pending_outbound: 2,
            per_peer: 1,
        };
        for (inbound, pending, established) in
            [(true, PendingInbound, Inbound), (false, PendingOutbound, Outbound)]
        {
            let counters = SharedCounters::default();
            let mut limiter = Limiter::new(limits, counters.clone());
            let refused = |result: Result<(), ConnectionDenied>, limit: ConnectionLimit| {
                let denied = result.unwrap_err().downcast::<TooMany>().unwrap();
                assert_eq!(denied, TooMany { limit, max: limits.get(limit) });
            };
            let [first, second, third] = [0, 1, 2].map(ConnectionId::new_unchecked);
            begin(&mut limiter, first, inbound).unwrap();
            begin(&mut limiter, second, inbound).unwrap();
            assert_eq!(counters.get(), HostCounters::default());
            refused(begin(&mut limiter, third, inbound), pending);
            let peer = PeerId::random();
            end(&mut limiter, first, peer, inbound).unwrap();
            let open = if inbound { &mut limiter.inbound } else { &mut limiter.outbound };
            open.push((first, peer));
            refused(end(&mut limiter, second, peer, inbound), PerPeer);
            for _ in 0..2 {
                refused(end(&mut limiter, third, PeerId::random(), inbound), established);
            }
            let expected = [(pending, 1), (PerPeer, 1), (established, 2)];
            assert_eq!(counters.get().connections_refused, expected.into());
        }
    }
}
