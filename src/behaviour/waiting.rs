//! Messages of other peers that wait until there is work for them.
//!
//! Kademlia does not answer a message that waits, so whoever waits for answers sends no more. A
//! stream carries one message at a time, and a connection has at most 32 streams.
//!
//! **Invariants.** Pure. Networks take turns, and in each of them its peers. The messages of a peer
//! keep their order. Not more than [`MOST`] messages wait: further ones take the place of those of
//! the network that has the most.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Work for others".

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use super::budget::Source;

/// Maximum number of messages: 64 MiB if each is as large as a packet may be.
const MOST: usize = 4_096;
/// How many networks, and peers of one, are asked for at a time whether there is work for them.
const LOOKS: usize = 8;

/// A message that waits.
#[derive(Debug)]
pub(super) struct Held<M> {
    pub(super) source: Source,
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) message: M,
    pub(super) since: Duration,
}

/// The messages that wait.
#[derive(Debug)]
pub(super) struct Waiting<M> {
    networks: HashMap<Source, Network<M>>,
    turns: VecDeque<Source>,
    count: usize,
}

/// The messages of a network.
#[derive(Debug)]
struct Network<M> {
    peers: HashMap<PeerId, VecDeque<Held<M>>>,
    turns: VecDeque<PeerId>,
    count: usize,
}

impl<M> Waiting<M> {
    pub(super) fn new() -> Self {
        Self { networks: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }

    /// Number of messages.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether messages of this source's network wait.
    pub(super) fn has(&self, source: &Source) -> bool {
        self.networks.contains_key(&source.network())
    }

    /// Adds a message. Returns the peer whose messages have been removed for it, if there were too
    /// many: that of the network with the most messages which has the most there.
    pub(super) fn hold(&mut self, held: Held<M>) -> Option<PeerId> {
        let gone = if self.count < MOST { None } else { self.peer_with_most() };
        if let Some(gone) = gone {
            self.forget(&gone);
            if gone == held.peer {
                return Some(gone);
            }
        }
        let network = held.source.network();
        let turns = &mut self.turns;
        let network = self.networks.entry(network).or_insert_with(|| {
            turns.push_back(network);
            Network { peers: HashMap::new(), turns: VecDeque::new(), count: 0 }
        });
        let turns = &mut network.turns;
        let messages = network.peers.entry(held.peer).or_insert_with(|| {
            turns.push_back(held.peer);
            VecDeque::new()
        });
        messages.push_back(held);
        network.count = network.count.saturating_add(1);
        self.count = self.count.saturating_add(1);
        gone
    }

    /// Takes a message of the next network and peer that may go on. `may` is asked about a network
    /// first, and then about messages of it.
    pub(super) fn next(
        &mut self,
        mut may: impl FnMut(&Source, Option<&Held<M>>) -> bool,
    ) -> Option<Held<M>> {
        for _ in 0..LOOKS.min(self.turns.len()) {
            let key = self.turns.pop_front()?;
            let network = self.networks.get_mut(&key)?;
            let next = if may(&key, None) { network.next(&mut may) } else { None };
            if network.count == 0 {
                self.networks.remove(&key);
            } else {
                self.turns.push_back(key);
            }
            if next.is_some() {
                self.count = self.count.saturating_sub(1);
                return next;
            }
        }
        None
    }

    /// Removes the messages of a peer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if self.count == 0 {
            return;
        }
        let mut removed = 0_usize;
        self.networks.retain(|_, network| {
            let messages = network.peers.remove(peer).map_or(0, |messages| messages.len());
            if messages > 0 {
                network.turns.retain(|other| other != peer);
                network.count = network.count.saturating_sub(messages);
                removed = removed.saturating_add(messages);
            }
            network.count > 0
        });
        if removed > 0 {
            self.turns.retain(|network| self.networks.contains_key(network));
            self.count = self.count.saturating_sub(removed);
        }
    }

    fn peer_with_most(&self) -> Option<PeerId> {
        let network = self.networks.values().max_by_key(|network| network.count)?;
        let most = network.peers.iter().max_by_key(|(_, messages)| messages.len());
        most.map(|(peer, _)| *peer)
    }
}

impl<M> Network<M> {
    fn next(&mut self, mut may: impl FnMut(&Source, Option<&Held<M>>) -> bool) -> Option<Held<M>> {
        for _ in 0..LOOKS.min(self.turns.len()) {
            let peer = self.turns.pop_front()?;
            let messages = self.peers.get_mut(&peer)?;
            let goes_on = messages.front().is_some_and(|held| may(&held.source, Some(held)));
            let next = if goes_on { messages.pop_front() } else { None };
            if messages.is_empty() {
                self.peers.remove(&peer);
            } else {
                self.turns.push_back(peer);
            }
            if next.is_some() {
                self.count = self.count.saturating_sub(1);
                return next;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(peer: PeerId, address: &str, message: u32) -> Held<u32> {
        let source = Source::new(peer, Some(&address.parse().unwrap()));
        Held {
            source,
            peer,
            connection: ConnectionId::new_unchecked(0),
            message,
            since: Duration::ZERO,
        }
    }

    fn all(waiting: &mut Waiting<u32>) -> Vec<u32> {
        std::iter::from_fn(|| waiting.next(|_, _| true)).map(|held| held.message).collect()
    }

    #[test]
    fn networks_take_turns_and_in_each_its_peers() {
        let (mut waiting, [a, b, c]) = (Waiting::new(), [(); 3].map(|()| PeerId::random()));
        let [first, second] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"];
        for n in 0..3 {
            assert_eq!(waiting.hold(message(a, first, n)), None);
        }
        for (peer, address, n) in [(b, first, 10), (c, second, 20), (c, second, 21)] {
            assert_eq!(waiting.hold(message(peer, address, n)), None);
        }
        let has = |address| waiting.has(&message(PeerId::random(), address, 0).source);
        assert!(has(first) && has(second) && !has("/memory/1") && waiting.len() == 6);
        assert_eq!(all(&mut waiting), [0, 20, 10, 21, 1, 2]);
        assert!(waiting.is_empty() && waiting.turns.is_empty() && waiting.networks.is_empty());
    }

    #[test]
    fn who_has_no_work_waits_while_others_go_on() {
        let (mut waiting, [a, b, c]) = (Waiting::new(), [(); 3].map(|()| PeerId::random()));
        let [first, second] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"];
        for (peer, address, n) in [(a, first, 0), (b, first, 1), (c, second, 2)] {
            assert_eq!(waiting.hold(message(peer, address, n)), None);
        }
        let (greedy, full) = (message(a, first, 0).source, message(c, second, 0).source.network());
        let mut next = || waiting.next(|it, _| *it != full && *it != greedy);
        assert_eq!(next().map(|held| held.message), Some(1));
        assert!(next().is_none());
        waiting.forget(&a);
        assert_eq!((waiting.len(), all(&mut waiting)), (1, vec![2]));
    }

    #[test]
    fn when_too_many_wait_the_network_with_the_most_gives_way() {
        let mut waiting = Waiting::new();
        let (honest, other) = ("/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1");
        let (quiet, greedy) = (PeerId::random(), PeerId::random());
        assert_eq!(waiting.hold(message(quiet, honest, 0)), None);
        for n in 0..8 {
            assert_eq!(waiting.hold(message(greedy, other, n)), None);
        }
        while waiting.len() < MOST {
            assert_eq!(waiting.hold(message(PeerId::random(), other, 0)), None);
        }
        let newcomer = PeerId::random();
        assert_eq!(waiting.hold(message(newcomer, honest, 1)), Some(greedy));
        assert_eq!(waiting.len(), MOST - 7);
        let peers = &waiting.networks[&message(quiet, honest, 0).source.network()].peers;
        assert!(peers.contains_key(&quiet) && peers.contains_key(&newcomer));
        // Who sends without end goes itself.
        let mut gone = None;
        for n in 0..16 {
            gone = gone.or(waiting.hold(message(greedy, other, n)));
        }
        assert_eq!(gone, Some(greedy));
        assert!(waiting.len() <= MOST && waiting.networks.len() == 2);
    }
}
