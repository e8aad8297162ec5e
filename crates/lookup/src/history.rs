//! Memory of how peers have answered this node.
//!
//! **Invariants.** The number of peers is bounded; the least recently met are forgotten first.
//! Silence is counted only while other peers answer, so a node that was offline or suspended blames
//! no peer.
//!
//! **Spec.** `docs/design.md`, section "Lookups". Timeouts from a peer's own round trips follow
//! [RFC 6298](https://www.rfc-editor.org/rfc/rfc6298), section 2.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use hashlink::LruCache;
use libp2p_identity::PeerId;
use smart_record_core::settings;

use crate::distance::Distance;

/// Number of round trips for a median. A guess: enough that a few slow peers do not move it.
const SAMPLES: usize = 16;
/// Minimum number of samples. With fewer, the samples of all distances are used.
const FEWEST_SAMPLES: usize = 3;
/// Timeout in medians, for peers without round trips of their own. A guess: half of the peers take
/// longer than one median.
const MEDIANS: u32 = 3;
/// Longest gap between two answers that shows the node was online in between. A guess: longer than
/// any request takes.
const GAP: Duration = Duration::from_secs(10);
/// Distances that share more bits with the target are not distinguished: that would take 2^32
/// peers.
const MOST_SHARED_BITS: u32 = 32;

/// The settings of a [`PeerHistory`].
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    max_peers: usize,
    shortest_patience: Duration,
    first_patience: Duration,
    longest_patience: Duration,
    silent_for: Duration,
    evict_after: u32,
    evict_span: Duration,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            max_peers: 4_096,
            shortest_patience: Duration::from_millis(200),
            first_patience: Duration::from_secs(1),
            longest_patience: Duration::from_secs(2),
            silent_for: Duration::from_secs(60),
            evict_after: 3,
            evict_span: Duration::from_secs(30),
        }
    }
}

settings! { HistoryConfig:
    /// Maximum number of remembered peers. Defaults to 4,096, some 500 KB.
    max_peers, with_max_peers: usize;
    /// Minimum time to wait for a request. Defaults to 200 ms: less than people notice, and more
    /// than a busy peer on the same continent takes.
    shortest_patience, with_shortest_patience: Duration;
    /// Time to wait for a request while nothing is known about any peer. Defaults to one second, as
    /// in RFC 6298.
    first_patience, with_first_patience: Duration;
    /// Maximum time to wait for a request, which bounds the delay by deliberately slow peers.
    /// Defaults to two seconds, a guess: a new connection over a round trip of 300 ms takes that
    /// long.
    longest_patience, with_longest_patience: Duration;
    /// How long a peer that left a request unanswered is asked last and not waited for. Defaults to
    /// a minute, a guess.
    silent_for, with_silent_for: Duration;
    /// Number of consecutive unanswered requests after which a peer is evicted from the routing
    /// table. Defaults to 3: a lost packet or a broken connection is no reason yet.
    evict_after, with_evict_after: u32;
    /// Minimum time that these requests have to span, counting only time in which other peers
    /// answered. Defaults to 30 s, a guess: longer than a process takes to restart.
    evict_span, with_evict_span: Duration;
}

/// Round trips of peers, and their silence since the last answer.
#[derive(Debug)]
pub struct PeerHistory {
    config: HistoryConfig,
    peers: LruCache<PeerId, Peer>,
    /// Round trips by the number of bits shared with the target. Peers near a target are mostly
    /// unknown and have to be dialled; distant peers are in the routing table and mostly connected.
    by_distance: BTreeMap<u32, Samples>,
    all: Samples,
    heard: Heard,
}

#[derive(Debug, Default)]
struct Peer {
    round_trip: Option<RoundTrip>,
    silence: Option<Silence>,
}

/// Consecutive unanswered requests to a peer. Those that were given up for others are not counted.
#[derive(Debug)]
struct Silence {
    /// Number of them, counting only those between which other peers answered.
    count: u32,
    /// What the node had heard when the first and the latest were sent.
    first: Heard,
    latest: Heard,
    /// When the latest failed.
    at: Duration,
    /// Whether other peers answered while one of them was pending.
    is_certain: bool,
}

/// Answers that a node has received from any peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    answers: u64,
    /// Total time during which answers arrived.
    time: Duration,
    latest_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: Duration,
    deviation: Duration,
}

/// Latest round trips and their median.
#[derive(Debug, Default)]
struct Samples {
    latest: VecDeque<Duration>,
    median: Duration,
}

impl PeerHistory {
    /// Returns an empty history.
    pub fn new(config: HistoryConfig) -> Self {
        Self {
            peers: LruCache::new(config.max_peers),
            config,
            by_distance: BTreeMap::new(),
            all: Samples::default(),
            heard: Heard::default(),
        }
    }

    /// Time to wait for a request to a peer at this distance from the target: from the peer's own
    /// round trips, otherwise from the median of peers at similar distances from their targets.
    pub fn patience(&self, peer: &PeerId, distance: &Distance) -> Duration {
        let own = self.peers.peek(peer).and_then(|peer| peer.round_trip);
        let patience = match own {
            Some(own) => own.patience(),
            None => {
                let near = self.by_distance.get(&class(distance)).and_then(Samples::median);
                let median = near.or_else(|| self.all.median());
                median.map_or(self.config.first_patience, |median| median.saturating_mul(MEDIANS))
            }
        };
        patience.max(self.config.shortest_patience).min(self.config.longest_patience)
    }

    /// Whether a peer recently left its last request unanswered although other peers answered in
    /// the meantime.
    pub fn is_silent(&self, peer: &PeerId, now: Duration) -> bool {
        let silence = self.peers.peek(peer).and_then(|peer| peer.silence.as_ref());
        silence.is_some_and(|silence| {
            silence.is_certain && now.saturating_sub(silence.at) < self.config.silent_for
        })
    }

    /// Records an answer.
    pub(crate) fn on_answer(
        &mut self,
        peer: PeerId,
        distance: &Distance,
        took: Duration,
        now: Duration,
    ) {
        self.heard.on_answer(now);
        self.all.add(took);
        self.by_distance.entry(class(distance)).or_default().add(took);
        let known = self.peer(peer);
        known.round_trip = Some(RoundTrip::next(known.round_trip, took));
        known.silence = None;
    }

    /// Answers received so far.
    pub(crate) const fn heard(&self) -> Heard {
        self.heard
    }

    /// Records an unanswered request, with the answers received when it was sent. Returns whether
    /// the peer is to be evicted from the routing table, if it is there.
    pub(crate) fn on_silence(&mut self, peer: PeerId, sent: Heard, now: Duration) -> bool {
        let (heard, after, span) = (self.heard, self.config.evict_after, self.config.evict_span);
        let silence = self.silence(peer, sent, now);
        if silence.count == 0 {
            silence.first = sent;
        }
        if silence.count == 0 || heard.answers > silence.latest.answers {
            silence.count = silence.count.saturating_add(1);
        }
        silence.latest = sent;
        let lasts = heard.time.saturating_sub(silence.first.time);
        silence.count >= after && lasts >= span
    }

    /// Records a late request that was given up before it was over. The peer is asked last, but it
    /// may still have answered, so the request does not count towards an eviction.
    pub(crate) fn on_displaced(&mut self, peer: PeerId, sent: Heard, now: Duration) {
        self.silence(peer, sent, now);
    }

    /// The silence of a peer that has left a request unanswered until now.
    fn silence(&mut self, peer: PeerId, sent: Heard, now: Duration) -> &mut Silence {
        let has_heard = self.heard.answers > sent.answers;
        let silence = self.peer(peer).silence.get_or_insert(Silence {
            count: 0,
            first: sent,
            latest: sent,
            at: now,
            is_certain: false,
        });
        silence.is_certain |= has_heard;
        silence.at = now;
        silence
    }

    fn peer(&mut self, peer: PeerId) -> &mut Peer {
        if !self.peers.contains_key(&peer) {
            // Evicts the least recently met peer, which `entry` would not.
            self.peers.insert(peer, Peer::default());
        }
        self.peers.entry(peer).or_insert_with(Peer::default)
    }
}

impl Heard {
    fn on_answer(&mut self, now: Duration) {
        self.answers = self.answers.saturating_add(1);
        let gap = self.latest_at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.time = self.time.saturating_add(gap.min(GAP));
        self.latest_at = Some(now);
    }
}

impl RoundTrip {
    /// Implements RFC 6298, (2.2) and (2.3).
    fn next(before: Option<Self>, took: Duration) -> Self {
        let Some(Self { smoothed, deviation }) = before else {
            return Self { smoothed: took, deviation: weighted(Duration::ZERO, took, 2) };
        };
        let deviates = smoothed.abs_diff(took);
        Self { smoothed: weighted(smoothed, took, 8), deviation: weighted(deviation, deviates, 4) }
    }

    fn patience(self) -> Duration {
        self.smoothed.saturating_add(self.deviation.saturating_mul(4))
    }
}

impl Samples {
    fn add(&mut self, took: Duration) {
        if self.latest.len() >= SAMPLES {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
        let mut sorted: Vec<_> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        self.median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    }

    fn median(&self) -> Option<Duration> {
        (self.latest.len() >= FEWEST_SAMPLES).then_some(self.median)
    }
}

/// Moves an average towards a value by `1/n` of the difference.
fn weighted(average: Duration, value: Duration, n: u32) -> Duration {
    let sum = average.saturating_mul(n.saturating_sub(1)).saturating_add(value);
    sum.checked_div(n).unwrap_or(sum)
}

fn class(distance: &Distance) -> u32 {
    distance.shared_bits().min(MOST_SHARED_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::Place;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    struct Test(PeerHistory, Place);

    impl Test {
        fn new() -> Self {
            Self(PeerHistory::new(HistoryConfig::default()), Place::of_key(b"/sr/a"))
        }

        fn answers(&mut self, peer: PeerId, took: Duration, now: Duration) {
            self.0.on_answer(peer, &self.1.distance_of(&peer), took, now);
        }

        /// A request that was sent just now fails.
        fn silent(&mut self, peer: PeerId, now: Duration) -> bool {
            self.0.on_silence(peer, self.0.heard(), now)
        }

        fn patience(&self, peer: PeerId) -> Duration {
            self.0.patience(&peer, &self.1.distance_of(&peer))
        }

        /// A peer that shares this many bits with the target.
        fn peer_at(&self, bits: u32) -> PeerId {
            std::iter::repeat_with(PeerId::random)
                .find(|peer| self.1.distance_of(peer).shared_bits() == bits)
                .unwrap()
        }
    }

    #[test]
    fn patience_goes_by_the_own_history_then_by_peers_as_far_then_by_all() {
        let mut test = Test::new();
        let stranger = test.peer_at(0);
        assert_eq!(test.patience(stranger), S, "nothing is known");
        for _ in 0..3 {
            let near = test.peer_at(3);
            test.answers(near, 300 * MS, S);
        }
        assert_eq!(test.patience(stranger), 900 * MS, "by all");
        for _ in 0..3 {
            let far = test.peer_at(0);
            test.answers(far, 100 * MS, S);
        }
        assert_eq!(test.patience(stranger), 300 * MS, "by those as far");
        let known = test.peer_at(0);
        test.answers(known, 400 * MS, S);
        assert_eq!(test.patience(known), 1_200 * MS, "by its own");
    }

    #[test]
    fn patience_has_a_least_and_a_most() {
        let mut test = Test::new();
        let (quick, slow) = (PeerId::random(), PeerId::random());
        test.answers(quick, MS, S);
        test.answers(slow, 30 * S, S);
        assert_eq!((test.patience(quick), test.patience(slow)), (200 * MS, 2 * S));
    }

    #[test]
    fn three_requests_unanswered_over_half_a_minute_of_answers_evict_until_there_is_an_answer() {
        let mut test = Test::new();
        let (silent, other) = (PeerId::random(), PeerId::random());
        let mut evicted = Vec::new();
        for second in 0..60 {
            test.answers(other, MS, second * S);
            if second % 10 == 0 && test.silent(silent, second * S) {
                evicted.push(second);
            }
        }
        assert_eq!(evicted, [30, 40, 50], "at 0, 10, 20 it was too early");
        test.answers(silent, MS, 61 * S);
        assert!(!test.silent(silent, 63 * S), "counted from the start");
    }

    #[test]
    fn two_requests_unanswered_evict_nobody_however_long_it_takes() {
        let mut test = Test::new();
        let (silent, other) = (PeerId::random(), PeerId::random());
        for second in 0..1_000 {
            test.answers(other, MS, second * S);
            assert!(!(second % 500 == 0 && test.silent(silent, second * S)));
        }
    }

    #[test]
    fn nobody_is_blamed_while_nobody_answers() {
        let mut test = Test::new();
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(10).collect();
        for peer in &peers {
            test.answers(*peer, MS, S);
        }
        // The node is offline for an hour, and asks all the time.
        for second in 2..3_600 {
            for peer in &peers {
                assert!(!test.silent(*peer, second * S));
                assert!(!test.0.is_silent(peer, second * S));
            }
        }
        // It is online again. What was sent before still fails.
        test.answers(peers[0], MS, 3_601 * S);
        for peer in &peers[1..] {
            assert!(!test.silent(*peer, 3_602 * S));
        }
    }

    #[test]
    fn who_was_silent_while_others_answered_is_silent_until_it_answers_or_a_minute_later() {
        let mut test = Test::new();
        let (silent, other) = (PeerId::random(), PeerId::random());
        test.silent(silent, S);
        assert!(!test.0.is_silent(&silent, S), "nobody else has answered");
        let sent = test.0.heard();
        test.answers(other, MS, 2 * S);
        test.0.on_silence(silent, sent, 2 * S);
        assert!(test.0.is_silent(&silent, 61 * S));
        assert!(!test.0.is_silent(&silent, 62 * S));
        assert!(!test.0.is_silent(&other, 3 * S));
        test.answers(silent, MS, 3 * S);
        assert!(!test.0.is_silent(&silent, 4 * S));
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let config = HistoryConfig::default().with_max_peers(10);
        let mut history = PeerHistory::new(config);
        for _ in 0..100 {
            history.on_silence(PeerId::random(), Heard::default(), S);
        }
        assert_eq!(history.peers.len(), 10);
    }
}
