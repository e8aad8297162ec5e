//! Messages of other peers that wait until there is work for them.
//!
//! Kademlia does not answer a message that waits, so whoever waits for answers sends no more. A
//! stream carries one request at a time, and a connection has at most 32 streams. What expects no
//! answer must not wait here: its senders go on, and nothing bounds what it takes.
//!
//! **Invariants.** Pure. Networks take turns, and in each of them its peers. The messages of a peer
//! keep their order. Only so many messages wait, and only so many bytes of them, or one message:
//! further ones take the place of those of the peer that has the most of what there is too much of.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Work for others".

use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Write},
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_kad as kad;
use libp2p_swarm::ConnectionId;

use super::budget::Source;

/// Maximum number of messages.
pub(super) const MOST: usize = 4_096;
/// Maximum size of all: [`MOST`] packets of the size that all implementations have.
const MOST_BYTES: usize = 64 * 1_024 * 1_024;
/// Messages of at most this size count as this, larger ones as much as a packet may have. A guess:
/// more than a request for a key takes, and little to measure.
const SMALL: usize = 1_024;
/// How many networks, and peers of one, are asked for at a time whether there is work for them.
const LOOKS: usize = 8;

/// Whether the sender of a message to Kademlia waits for an answer: it does not if it says that it
/// provides something. The type of the messages is private, so its `Debug` has to do, which begins
/// with the variant's name.
pub(super) fn expects_answer(message: &impl fmt::Debug) -> bool {
    /// Takes the first piece of the text, and ends it.
    struct Name {
        is_provider: bool,
    }
    impl Write for Name {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            self.is_provider = piece == "AddProvider";
            Err(fmt::Error)
        }
    }
    let mut name = Name { is_provider: false };
    // It fails after the first piece.
    let _ = write!(name, "{message:?}");
    !name.is_provider
}

/// Kademlia's packet limit, which its configuration does not tell otherwise. Without one, a message
/// that is not small takes all of the room.
pub(super) fn packet_bytes(config: &kad::Config) -> usize {
    let text = format!("{config:?}");
    let limit = text.rsplit_once("max_packet_size: ").map(|(_, rest)| rest);
    let digits = limit.and_then(|rest| rest.split(|digit: char| !digit.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(MOST_BYTES)
}

/// Bytes that a message counts as. Its `Debug` writes no fewer than its keys and its value have,
/// and is looked at no further than up to [`SMALL`].
fn bytes_of(message: &impl fmt::Debug, packet_bytes: usize) -> usize {
    struct Left(usize);
    impl Write for Left {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(piece.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    match write!(Left(SMALL), "{message:?}") {
        Ok(()) => SMALL,
        Err(_) => packet_bytes.max(SMALL),
    }
}

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
    has: Amount,
    max: usize,
    packet_bytes: usize,
}

/// The messages of a network.
#[derive(Debug)]
struct Network<M> {
    peers: HashMap<PeerId, Messages<M>>,
    turns: VecDeque<PeerId>,
    has: Amount,
}

/// The messages of a peer, with the bytes that each counts as.
#[derive(Debug)]
struct Messages<M> {
    held: VecDeque<(Held<M>, usize)>,
    bytes: usize,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    count: usize,
    bytes: usize,
}

impl Amount {
    const fn add(&mut self, count: usize, bytes: usize) {
        self.count = self.count.saturating_add(count);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    const fn subtract(&mut self, count: usize, bytes: usize) {
        self.count = self.count.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl<M: fmt::Debug> Waiting<M> {
    /// Room for `max` messages, [`MOST`] at most, none of which is larger than a packet.
    pub(super) fn new(max: usize, packet_bytes: usize) -> Self {
        let (networks, turns) = (HashMap::new(), VecDeque::new());
        Self { networks, turns, has: Amount::default(), max: max.min(MOST), packet_bytes }
    }

    /// Number of messages.
    pub(super) const fn len(&self) -> usize {
        self.has.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.has.count == 0
    }

    /// Whether messages of this source's network wait.
    pub(super) fn has(&self, source: &Source) -> bool {
        self.networks.contains_key(&source.network())
    }

    /// Adds a message. Returns the peer whose messages have been removed for it, if there were too
    /// many, or too many bytes: that which has the most of these; of several, that of the network
    /// which has the most.
    pub(super) fn hold(&mut self, held: Held<M>) -> Option<PeerId> {
        let bytes = bytes_of(&held.message, self.packet_bytes);
        let gone = if self.has.count >= self.max {
            self.peer_with_most(|has| has.count)
        } else if self.has.bytes.saturating_add(bytes) > MOST_BYTES {
            // Whoever has less makes no room: all others wait with little, and one message may.
            self.peer_with_most(|has| has.bytes).filter(|(most, _)| *most >= bytes)
        } else {
            None
        };
        let gone = gone.map(|(_, peer)| peer);
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
            Network { peers: HashMap::new(), turns: VecDeque::new(), has: Amount::default() }
        });
        let turns = &mut network.turns;
        let messages = network.peers.entry(held.peer).or_insert_with(|| {
            turns.push_back(held.peer);
            Messages { held: VecDeque::new(), bytes: 0 }
        });
        messages.held.push_back((held, bytes));
        messages.bytes = messages.bytes.saturating_add(bytes);
        network.has.add(1, bytes);
        self.has.add(1, bytes);
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
            if network.has.count == 0 {
                self.networks.remove(&key);
            } else {
                self.turns.push_back(key);
            }
            if let Some((held, bytes)) = next {
                self.has.subtract(1, bytes);
                return Some(held);
            }
        }
        None
    }

    /// Removes the messages of a peer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.forget_if(peer, |_| true);
    }

    /// Removes those messages of a peer for which `is_gone` is true.
    pub(super) fn forget_if(&mut self, peer: &PeerId, is_gone: impl Fn(&Held<M>) -> bool) {
        let mut removed = Amount::default();
        self.networks.retain(|_, network| {
            let Some(messages) = network.peers.get_mut(peer) else {
                return true;
            };
            let mut fewer = Amount::default();
            messages.held.retain(|(held, bytes)| {
                let is_gone = is_gone(held);
                if is_gone {
                    fewer.add(1, *bytes);
                }
                !is_gone
            });
            messages.bytes = messages.bytes.saturating_sub(fewer.bytes);
            if messages.held.is_empty() {
                network.peers.remove(peer);
                network.turns.retain(|other| other != peer);
            }
            network.has.subtract(fewer.count, fewer.bytes);
            removed.add(fewer.count, fewer.bytes);
            network.has.count > 0
        });
        if removed.count > 0 {
            self.turns.retain(|network| self.networks.contains_key(network));
            self.has.subtract(removed.count, removed.bytes);
        }
    }

    /// The peer that has the most of something, and how much.
    fn peer_with_most(&self, of: impl Fn(&Amount) -> usize) -> Option<(usize, PeerId)> {
        let of = &of;
        let peers = self.networks.values().flat_map(|network| {
            let all = of(&network.has);
            network.peers.iter().map(move |(peer, messages)| {
                let has = Amount { count: messages.held.len(), bytes: messages.bytes };
                (of(&has), all, *peer)
            })
        });
        peers.max().map(|(most, _, peer)| (most, peer))
    }
}

impl<M> Network<M> {
    fn next(
        &mut self,
        mut may: impl FnMut(&Source, Option<&Held<M>>) -> bool,
    ) -> Option<(Held<M>, usize)> {
        for _ in 0..LOOKS.min(self.turns.len()) {
            let peer = self.turns.pop_front()?;
            let messages = self.peers.get_mut(&peer)?;
            let goes_on =
                messages.held.front().is_some_and(|(held, _)| may(&held.source, Some(held)));
            let next = if goes_on { messages.held.pop_front() } else { None };
            let bytes = next.as_ref().map_or(0, |(_, bytes)| *bytes);
            messages.bytes = messages.bytes.saturating_sub(bytes);
            if messages.held.is_empty() {
                self.peers.remove(&peer);
            } else {
                self.turns.push_back(peer);
            }
            if next.is_some() {
                self.has.subtract(1, bytes);
                return next;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use libp2p_identity::Keypair;

    use super::*;
    use crate::store::{SmartRecordStore, StoreConfig};
    use smart_record_core::Registry;

    const PACKET: usize = 16 * 1_024;

    fn message<M>(peer: PeerId, address: &str, message: M) -> Held<M> {
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
        let (mut waiting, [a, b, c]) =
            (Waiting::new(MOST, PACKET), [(); 3].map(|()| PeerId::random()));
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
        let (mut waiting, [a, b, c]) =
            (Waiting::new(MOST, PACKET), [(); 3].map(|()| PeerId::random()));
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
    fn when_too_many_wait_the_peer_with_the_most_gives_way() {
        let mut waiting = Waiting::new(MOST, PACKET);
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

    #[test]
    fn a_crowd_does_not_give_way_to_a_peer_that_sends_more_than_each_of_it() {
        let mut waiting = Waiting::new(64, PACKET);
        let crowd = (0..60).map(|_| message(PeerId::random(), "/ip4/198.51.100.1/tcp/1", 0));
        for held in crowd {
            assert_eq!(waiting.hold(held), None);
        }
        let greedy = PeerId::random();
        for n in 0..4 {
            assert_eq!(waiting.hold(message(greedy, "/ip4/198.51.100.2/tcp/1", n)), None);
        }
        let one_more = message(PeerId::random(), "/ip4/198.51.100.1/tcp/1", 0);
        assert_eq!(waiting.hold(one_more), Some(greedy));
        assert_eq!((waiting.len(), waiting.networks.len()), (61, 1));
    }

    #[test]
    fn what_came_over_a_closed_connection_is_forgotten_and_the_rest_stays() {
        let (mut waiting, peer) = (Waiting::new(MOST, PACKET), PeerId::random());
        for n in 0..6 {
            let connection = ConnectionId::new_unchecked((n % 2) as usize);
            let held = Held { connection, ..message(peer, "/ip4/198.51.100.1/tcp/1", n) };
            assert_eq!(waiting.hold(held), None);
        }
        let is_first = |held: &Held<u32>| held.connection == ConnectionId::new_unchecked(0);
        waiting.forget_if(&peer, is_first);
        assert_eq!((waiting.len(), all(&mut waiting)), (3, vec![1, 3, 5]));
        assert!(waiting.turns.is_empty() && waiting.networks.is_empty());
    }

    #[test]
    fn a_message_counts_as_no_less_than_its_bytes() {
        for byte in [b'a', 0, 0xff] {
            for len in [0, 40, 200, 1_000, 5_000] {
                let (key, value) = (kad::RecordKey::new(&vec![byte; len]), vec![byte; len]);
                let request = kad::Record { value, ..kad::Record::new(key.clone(), Vec::new()) };
                let limit = 2 * PACKET;
                for (bytes, of) in
                    [(bytes_of(&key, limit), len), (bytes_of(&request, limit), 2 * len)]
                {
                    assert!(bytes >= of && (bytes == SMALL || bytes == limit), "{bytes} {of}");
                    assert!(bytes == SMALL || of > 100, "a request for a key is small");
                }
            }
        }
    }

    #[test]
    fn the_packet_limit_of_kademlia_is_known() {
        for (chunk, least) in [(15 * 1_024, PACKET), (1_024 * 1_024, 1_024 * 1_024)] {
            let config = StoreConfig::default().with_chunk_bytes(chunk);
            let local = Keypair::generate_ed25519().public().to_peer_id();
            let store = SmartRecordStore::with_registry(local, Registry::default(), config);
            let mut config = store.kad_config(kad::PROTOCOL_NAME);
            assert!((least..least + 2_048).contains(&packet_bytes(&config)));
            config.set_max_packet_size(12_345_678);
            assert_eq!(packet_bytes(&config), 12_345_678);
        }
    }

    #[test]
    fn where_too_many_wait_it_is_the_number_that_counts_and_not_the_bytes() {
        let (many, large, last) = (PeerId::random(), PeerId::random(), PeerId::random());
        let [first, second] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"];
        let mut waiting = Waiting::new(10, PACKET);
        assert_eq!(waiting.hold(message(large, first, vec![7_u8; 2 * SMALL])), None);
        for _ in 0..9 {
            assert_eq!(waiting.hold(message(many, second, vec![7_u8; 32])), None);
        }
        assert!(waiting.has.bytes < 2 * PACKET, "one message has more bytes than nine");
        assert_eq!(waiting.hold(message(last, first, vec![7_u8; 32])), Some(many));
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn however_large_packets_are_only_so_many_bytes_wait() {
        let large = || vec![7_u8; 2 * SMALL];
        let [first, second] = ["/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"];
        for packet in [1_024 * 1_024, MOST_BYTES, 2 * MOST_BYTES] {
            let mut waiting = Waiting::new(MOST, packet);
            // Requests for keys take little of it.
            for _ in 0..1_000 {
                let small = message(PeerId::random(), first, vec![7_u8; 32]);
                assert_eq!(waiting.hold(small), None);
            }
            let mut held = HashSet::new();
            for _ in 0..200 {
                let peer = PeerId::random();
                let gone = waiting.hold(message(peer, second, large()));
                assert!(held.insert(peer));
                if let Some(gone) = gone {
                    assert!(held.remove(&gone), "whoever has a large one");
                }
                assert!(!held.is_empty() && held.len() * packet <= MOST_BYTES.max(packet));
            }
            assert_eq!(waiting.len(), 1_000 + held.len());
            assert_eq!(waiting.has.bytes, 1_000 * SMALL + held.len() * packet);
            held.iter().for_each(|peer| waiting.forget(peer));
            while waiting.next(|_, _| true).is_some() {}
            assert_eq!((waiting.has.bytes, waiting.len()), (0, 0));
        }
    }
}
