//! One iterative lookup of the peers closest to a target.
//!
//! **Invariants.** Terminates whatever peers answer: no peer is asked twice, and at most
//! [`max_requests`](LookupConfig::max_requests) are asked. The number of known peers is bounded; a
//! peer that names too many displaces only those that it named itself. A single liar cannot end a
//! lookup: a peer that has not answered counts only if two others name it. Of the closest peers at
//! most [`per_subnet`](LookupConfig::per_subnet) are of one subnet, unless no others are found.
//!
//! **Spec.** `docs/design.md`, section "Lookups".

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_core::settings;

use crate::{
    distance::{Distance, Place},
    requests::{Failure, RequestId, Requests},
    size::NetworkSize,
    subnet::{Subnet, SubnetShares},
};

/// Number of peers that have to name a peer before it counts as known without an answer.
const NAMES: u8 = 2;
/// Number of named peers that led nowhere, with none that answered, that makes the peer that named
/// them a bad guide. A guess: with half of all peers gone, one in eight honest guides is misjudged;
/// the peers that it names are then asked last.
const BAD_GUIDE: u16 = 3;

/// The settings of a [`Lookup`].
#[derive(Clone, Debug)]
pub struct LookupConfig {
    closest: usize,
    parallelism: usize,
    max_requests: usize,
    max_known: usize,
    per_subnet: usize,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self { closest: 20, parallelism: 10, max_requests: 128, max_known: 256, per_subnet: 2 }
    }
}

settings! { LookupConfig:
    /// Number of closest peers to find. Defaults to 20, Kademlia's replication factor.
    closest, with_closest: usize;
    /// Maximum number of requests to wait for at a time. Defaults to 10, as in go-libp2p: with a
    /// third of 10,000 peers silent, a read then takes 6.0 s instead of the 8.1 s of 6 at a time,
    /// for a fifth more requests (`docs/scale.md`). The Kademlia paper and rust-libp2p use 3.
    parallelism, with_parallelism: usize;
    /// Maximum number of requests. Defaults to 128: a lookup among 100,000 peers takes some 45, and
    /// twice as many if half of the peers are gone.
    max_requests, with_max_requests: usize;
    /// Maximum number of known peers. Defaults to 256: as many as a dozen answers name.
    max_known, with_max_known: usize;
    /// Number of peers of one subnet among the closest. Further ones are *surplus*: they are asked,
    /// and count, only where there are not enough others, and are heard only about their own
    /// subnet. Defaults to 2: addresses cost money, ids do not. 0 counts as 1.
    per_subnet, with_per_subnet: usize;
}

/// A peer that was heard of, and the subnets of the addresses that it is named with. It is surplus
/// if any of them is over its share; without one it never is.
pub type Named = (PeerId, BTreeSet<Subnet>);

/// Purpose of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LookupKind {
    /// The value that the closest peers hold under the key: each of them is asked (GET_VALUE).
    Value,
    /// The closest peers themselves (FIND_NODE). The lookup ends early if, by the estimated network
    /// size, the known peers are the closest.
    Closest,
}

/// A running lookup.
#[derive(Debug)]
pub struct Lookup {
    target: Place,
    wanted: LookupKind,
    local: PeerId,
    config: LookupConfig,
    known: BTreeMap<Distance, Candidate>,
    guides: BTreeMap<PeerId, Guided>,
    asked: usize,
}

#[derive(Debug)]
struct Candidate {
    peer: PeerId,
    state: State,
    /// Number of peers that have named it. A peer of the own routing table counts as named often
    /// enough.
    names: u8,
    /// A peer that named it, if possible no bad guide; `None`: it came from the own routing table.
    guide: Option<PeerId>,
    /// The subnet of its connection once it has answered. Before that, the subnets on which all who
    /// have named the peer agree.
    subnets: BTreeSet<Subnet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Heard,
    /// Asked and waited for.
    Waited,
    /// Asked but not waited for: its time is over, or it was doubtful.
    Late,
    Answered,
    Failed,
    /// Cannot count: it cannot be reached, it is a client, or this node denied the request.
    Excluded,
}

/// Numbers of the closest peers that have answered, and that are waited for.
#[derive(Clone, Copy, Debug)]
struct KnownClosest {
    answered: usize,
    waited: usize,
}

/// Outcomes of the peers that a peer has named.
#[derive(Debug, Default)]
struct Guided {
    answered: u16,
    led_nowhere: u16,
}

impl Lookup {
    /// Returns a lookup that starts from these peers, the closest in the own routing table.
    pub fn new(
        target: Place,
        wanted: LookupKind,
        local: PeerId,
        config: LookupConfig,
        start: impl IntoIterator<Item = Named>,
    ) -> Self {
        let mut lookup = Self {
            target,
            wanted,
            local,
            config,
            known: BTreeMap::new(),
            guides: BTreeMap::new(),
            asked: 0,
        };
        for (peer, subnets) in start.into_iter().take(lookup.config.max_known) {
            lookup.hear(peer, subnets, None);
        }
        lookup
    }

    /// The target.
    pub const fn target(&self) -> Place {
        self.target
    }

    /// The purpose.
    pub const fn wanted(&self) -> LookupKind {
        self.wanted
    }

    /// Returns the next request, if one can begin now. The cost is linear in the number of known
    /// peers.
    ///
    /// Candidates are asked in the order of distance. Peers that were recently silent and peers
    /// named only by a bad guide are asked last and not waited for; before them, and after all
    /// others, the surplus peers of subnets. Silent peers that another lookup is asking are
    /// skipped.
    pub fn next(
        &mut self,
        requests: &mut Requests,
        size: &NetworkSize,
        now: Duration,
    ) -> Option<(RequestId, PeerId)> {
        if self.has_finished_asking(size) {
            return None;
        }
        self.pass_over_silent(requests, now);
        let waited = self.count(State::Waited);
        let under_way = waited.saturating_add(self.count(State::Late));
        let (mut hopeful, mut surplus, mut doubtful) = (None, None, None);
        let all_surplus = self.surplus();
        for (distance, candidate) in self.within_reach(size, &all_surplus) {
            let is_surplus = all_surplus.contains(distance);
            if candidate.state != State::Heard {
                continue;
            }
            let place = if self.is_doubtful(candidate, requests, now) {
                &mut doubtful
            } else if is_surplus {
                &mut surplus
            } else {
                &mut hopeful
            };
            if place.is_none() && requests.has_room(&candidate.peer) {
                *place = Some(*distance);
            }
            if hopeful.is_some() {
                break;
            }
        }
        let hopeful = hopeful.or(surplus);
        let (distance, state) = match (hopeful, doubtful) {
            (Some(distance), _) if waited < self.config.parallelism => (distance, State::Waited),
            (None, Some(distance)) if under_way < self.config.parallelism => {
                (distance, State::Late)
            }
            _ => return None,
        };
        let candidate = self.known.get_mut(&distance)?;
        let id = requests.begin(candidate.peer, distance, now)?;
        candidate.state = state;
        let peer = candidate.peer;
        self.asked = self.asked.saturating_add(1);
        Some((id, peer))
    }

    /// Records the answer of a peer of these subnets, usually the one of its connection, and the
    /// first [`closest`](LookupConfig::closest) peers that it names. What it names twice counts
    /// once.
    pub fn on_answer(
        &mut self,
        peer: &PeerId,
        subnets: BTreeSet<Subnet>,
        closer: impl IntoIterator<Item = Named>,
    ) {
        let Some(guide) = self.settle(peer, State::Answered) else {
            return;
        };
        let distance = self.target.distance_of(peer);
        if let Some(candidate) = self.known.get_mut(&distance) {
            candidate.subnets.clone_from(&subnets);
        }
        let is_surplus = self.surplus().contains(&distance);
        if let Some(guide) = guide {
            let guided = self.guides.entry(guide).or_default();
            guided.answered = guided.answered.saturating_add(1);
        }
        let mut heard = BTreeSet::from([*peer]);
        for (named, of_named) in closer.into_iter().take(self.config.closest) {
            if heard.insert(named) && (!is_surplus || of_named == subnets) {
                self.hear(named, of_named, Some(*peer));
            }
        }
    }

    /// Records a failure. A request that is over has failed by silence.
    pub fn on_failure(&mut self, peer: &PeerId, failure: Failure) {
        let was_late = self.state(peer) == Some(State::Late);
        let state = match failure {
            Failure::Silent | Failure::Invalid => State::Failed,
            Failure::Unreachable | Failure::Unsupported | Failure::Denied => State::Excluded,
        };
        if let Some(guide) = self.settle(peer, state)
            && !was_late
            && failure != Failure::Denied
        {
            self.led_nowhere(guide);
        }
    }

    /// Records that a request is late. The peer is no longer waited for.
    pub fn on_late(&mut self, peer: &PeerId) {
        if self.state(peer) == Some(State::Waited)
            && let Some(guide) = self.settle(peer, State::Late)
        {
            self.led_nowhere(guide);
        }
    }

    /// Whether the closest peers are known: each peer that may be one of them has answered, failed,
    /// or used up its time.
    pub fn is_settled(&self, requests: &Requests, size: &NetworkSize, now: Duration) -> bool {
        let is_pending = |candidate: &Candidate| match candidate.state {
            State::Waited => true,
            State::Heard => !self.is_doubtful(candidate, requests, now),
            State::Late | State::Answered | State::Failed | State::Excluded => false,
        };
        self.is_close_enough(size)
            || self.is_spent() && self.count(State::Waited) == 0
            || !self.within_reach(size, &self.surplus()).any(|(_, candidate)| is_pending(candidate))
    }

    /// Whether the closest peers are known, `enough` of them have answered, and no peer is waited
    /// for. Further peers among the closest may not have been asked yet.
    pub fn has_answers(&self, enough: usize, size: &NetworkSize) -> bool {
        self.count(State::Waited) == 0
            && self.known_closest(size).is_some_and(|closest| closest.answered >= enough)
    }

    /// Whether the closest peers are known, and `enough` of them will have answered if those that
    /// are waited for answer. Once a peer is late or has failed, that is no longer expected of the
    /// others.
    pub fn expects_answers(&self, enough: usize, size: &NetworkSize) -> bool {
        let has_failed = self.count(State::Late) > 0 || self.count(State::Failed) > 0;
        !has_failed
            && self.count(State::Waited) > 0
            && self
                .known_closest(size)
                .is_some_and(|closest| closest.answered.saturating_add(closest.waited) >= enough)
    }

    /// Whether no further request or answer is possible.
    pub fn is_over(&self, size: &NetworkSize) -> bool {
        let is_open = |candidate: &Candidate| candidate.state == State::Heard;
        let asks_nobody = self.has_finished_asking(size)
            || !self.within_reach(size, &self.surplus()).any(|(_, candidate)| is_open(candidate));
        asks_nobody && self.under_way().next().is_none()
    }

    /// Peers that were asked and have neither answered nor failed.
    pub fn under_way(&self) -> impl Iterator<Item = PeerId> {
        let is_one =
            |candidate: &&Candidate| matches!(candidate.state, State::Waited | State::Late);
        self.known.values().filter(is_one).map(|candidate| candidate.peer)
    }

    /// The closest known peers, sorted by distance: those that have answered and, after an early
    /// end, those that were named often enough. Implausibly close peers are returned in addition to
    /// the [`closest`](LookupConfig::closest), not instead of them.
    pub fn closest(&self, size: &NetworkSize) -> Vec<PeerId> {
        let takes_named = self.is_close_enough(size);
        let is_one = |candidate: &Candidate| {
            candidate.state == State::Answered || takes_named && candidate.is_confirmed()
        };
        let found = || self.known.iter().filter(|(_, it)| is_one(it));
        let implausible = size.implausible(found().map(|(distance, _)| *distance));
        let count = implausible.saturating_add(self.config.closest);
        self.shared_out(found(), count).map(|(_, candidate)| candidate.peer).collect()
    }

    /// The closest known peers, sorted by distance, whether or not they have answered. A silent
    /// peer keeps its place; one that cannot be reached has none, nor has one beyond the share of
    /// its subnet while others are known. In the share of a subnet those that have answered go
    /// first. Peers that are implausibly close, and have answered or were named often enough, are
    /// returned in addition to the [`closest`](LookupConfig::closest), not instead of them.
    pub fn closest_known(&self, size: &NetworkSize) -> Vec<PeerId> {
        self.closest_possible(size).map(|candidate| candidate.peer).collect()
    }

    /// Peers that a write goes to, sorted by distance: the [closest](Self::closest), and late peers
    /// that are closer than the last of them and may still answer.
    pub fn replicas(&self, size: &NetworkSize) -> Vec<PeerId> {
        let closest = self.closest(size);
        let last = closest.get(self.config.closest.saturating_sub(1));
        let last = last.map(|peer| self.target.distance_of(peer));
        let surplus = self.surplus();
        let is_one = |distance: &Distance, candidate: &Candidate| match candidate.state {
            State::Waited | State::Late => {
                !self.is_of_bad_guide(candidate)
                    && !surplus.contains(distance)
                    && last.is_none_or(|last| *distance < last)
            }
            State::Heard | State::Answered | State::Failed | State::Excluded => {
                closest.contains(&candidate.peer)
            }
        };
        let replicas = self.known.iter().filter(|(distance, it)| is_one(distance, it));
        replicas.map(|(_, candidate)| candidate.peer).collect()
    }

    /// Peers that have answered and are implausibly close, sorted by distance: their ids were
    /// chosen on purpose.
    pub fn implausible(&self, size: &NetworkSize) -> Vec<PeerId> {
        let count = size.implausible(self.answered().map(|(distance, _)| *distance));
        self.answered().take(count).map(|(_, candidate)| candidate.peer).collect()
    }

    /// Number of peers that were not asked because they are beyond the share of their subnet.
    pub fn passed_over(&self) -> usize {
        let surplus = self.surplus();
        let is_one = |distance: &Distance, candidate: &Candidate| {
            candidate.state == State::Heard && surplus.contains(distance)
        };
        self.known.iter().filter(|(distance, it)| is_one(distance, it)).count()
    }

    /// Peers among the closest that were asked and have not given a valid answer in time, sorted by
    /// distance. A peer that cannot be reached is not among the closest.
    pub fn silent(&self) -> Vec<PeerId> {
        let silent = self.closest_asked().filter(|candidate| candidate.state != State::Answered);
        silent.map(|candidate| candidate.peer).collect()
    }

    /// Whether more than half of the closest peers that were asked have answered. What a majority
    /// of the closest peers stores is then among the answers.
    pub fn has_quorum(&self) -> bool {
        let answered = |candidate: &&Candidate| candidate.state == State::Answered;
        let answered = self.closest_asked().filter(answered).count();
        answered.saturating_mul(2) > self.closest_asked().count()
    }

    /// Number of the closest peers that were asked and could have answered.
    pub fn asked_closest(&self) -> usize {
        self.closest_asked().count()
    }

    /// Number of requests made.
    pub const fn asked(&self) -> usize {
        self.asked
    }

    /// Adds the result of a lookup that is [settled](Self::is_settled) to an estimate. One that has
    /// ended early by the estimate adds nothing.
    pub fn measure(&self, size: &mut NetworkSize, now: Duration) {
        let k = self.config.closest;
        // Implausibly close ones too: if the estimate is too low, these are all there are.
        let farthest = self.answered().nth(k.saturating_sub(1));
        if let Some((distance, _)) = farthest.filter(|_| !self.is_close_enough(size)) {
            size.on_closest(self.target, k, distance, now);
        }
    }

    /// Silent peers that are being asked already, for another lookup: one request is enough to
    /// learn whether they are back.
    fn pass_over_silent(&mut self, requests: &Requests, now: Duration) {
        for candidate in self.known.values_mut() {
            if candidate.state == State::Heard
                && requests.is_asking(&candidate.peer)
                && requests.history().is_silent(&candidate.peer, now)
            {
                candidate.state = State::Failed;
            }
        }
    }

    fn hear(&mut self, peer: PeerId, subnets: BTreeSet<Subnet>, guide: Option<PeerId>) {
        if peer == self.local {
            return;
        }
        let distance = self.target.distance_of(&peer);
        if let Some(known) = self.known.get_mut(&distance) {
            known.names = known.names.saturating_add(1);
            if known.state == State::Heard {
                // Whoever claims that it is elsewhere does not make it surplus. An address that it
                // has invented itself, beside its own, does not help it.
                known.subnets.retain(|subnet| subnets.contains(subnet));
            }
            let is_bad = |guide: &PeerId| self.guides.get(guide).is_some_and(Guided::is_bad);
            if known.guide.as_ref().is_some_and(is_bad) {
                known.guide = guide;
            }
            return;
        }
        let names = if guide.is_none() { NAMES } else { 1 };
        let candidate = Candidate { peer, state: State::Heard, names, guide, subnets };
        self.known.insert(distance, candidate);
        if self.known.len() > self.config.max_known {
            self.forget_one();
        }
    }

    /// Forgets one peer that was not asked: the farthest one named by the guide with the most such
    /// peers.
    fn forget_one(&mut self) {
        let mut by_guide = BTreeMap::<Option<PeerId>, (usize, Distance)>::new();
        for (distance, candidate) in &self.known {
            if candidate.state == State::Heard {
                let (count, farthest) = by_guide.entry(candidate.guide).or_insert((0, *distance));
                (*count, *farthest) = (count.saturating_add(1), *distance);
            }
        }
        if let Some((_, farthest)) = by_guide.into_values().max() {
            self.known.remove(&farthest);
        }
    }

    /// Sets the state of an asked peer. Returns the peer that named it.
    fn settle(&mut self, peer: &PeerId, state: State) -> Option<Option<PeerId>> {
        let candidate = self.known.get_mut(&self.target.distance_of(peer))?;
        if !matches!(candidate.state, State::Waited | State::Late) {
            return None;
        }
        candidate.state = state;
        Some(candidate.guide)
    }

    fn led_nowhere(&mut self, guide: Option<PeerId>) {
        if let Some(guide) = guide {
            let guided = self.guides.entry(guide).or_default();
            guided.led_nowhere = guided.led_nowhere.saturating_add(1);
        }
    }

    fn state(&self, peer: &PeerId) -> Option<State> {
        Some(self.known.get(&self.target.distance_of(peer))?.state)
    }

    fn count(&self, state: State) -> usize {
        self.known.values().filter(|candidate| candidate.state == state).count()
    }

    /// The closest peers that were asked and could have answered, except silent ones named only by
    /// a bad guide, which may not exist.
    fn closest_asked(&self) -> impl Iterator<Item = &Candidate> {
        let asked = self.possible().filter(|(_, candidate)| candidate.state != State::Heard);
        self.shared_out(asked, self.config.closest).map(|(_, candidate)| candidate)
    }

    /// The closest of the peers that can be among them, and the implausibly close ones.
    fn closest_possible(&self, size: &NetworkSize) -> impl Iterator<Item = &Candidate> {
        let (_, implausible) = self.confirmed(size);
        let count = implausible.saturating_add(self.config.closest);
        // Whoever has answered gives way to nobody of its subnet that has not.
        let surplus = self.surplus();
        let is_within_share = move |distance: &Distance, _: &Candidate| !surplus.contains(distance);
        filled(self.possible(), count, is_within_share).map(|(_, candidate)| candidate)
    }

    /// The peers that can be among the closest, sorted by distance.
    fn possible(&self) -> impl Iterator<Item = (&Distance, &Candidate)> {
        self.known.iter().filter(|(_, candidate)| match candidate.state {
            State::Excluded => false,
            State::Answered => true,
            State::Heard | State::Waited | State::Late | State::Failed => {
                !self.is_of_bad_guide(candidate)
            }
        })
    }

    /// The peers that have answered or were named often enough, sorted by distance, and how many of
    /// them are implausibly close.
    fn confirmed(
        &self,
        size: &NetworkSize,
    ) -> (impl Iterator<Item = (&Distance, &Candidate)>, usize) {
        let confirmed = || self.known.iter().filter(|(_, candidate)| candidate.is_confirmed());
        (confirmed(), size.implausible(confirmed().map(|(distance, _)| *distance)))
    }

    /// The states of the closest peers if it is known which these are: each has answered, failed,
    /// used up its time, or was named often enough.
    fn known_closest(&self, size: &NetworkSize) -> Option<KnownClosest> {
        let mut closest = KnownClosest { answered: 0, waited: 0 };
        for candidate in self.closest_possible(size) {
            match candidate.state {
                State::Answered => closest.answered = closest.answered.saturating_add(1),
                State::Heard | State::Waited if !candidate.is_confirmed() => return None,
                State::Waited => closest.waited = closest.waited.saturating_add(1),
                State::Heard | State::Late | State::Failed | State::Excluded => {}
            }
        }
        Some(closest)
    }

    fn answered(&self) -> impl Iterator<Item = (&Distance, &Candidate)> {
        self.known.iter().filter(|(_, candidate)| candidate.state == State::Answered)
    }

    /// Peers that have answered, without the implausibly close ones.
    fn plausible(&self, size: &NetworkSize) -> impl Iterator<Item = (&Distance, &Candidate)> {
        let implausible = size.implausible(self.answered().map(|(distance, _)| *distance));
        self.answered().skip(implausible)
    }

    /// Peers beyond the share of their subnet. Those that have answered come first, then those that
    /// were asked, those that were named, and those that have failed; of each the closest.
    fn surplus(&self) -> BTreeSet<Distance> {
        let rank = |state: State| match state {
            State::Answered => 0,
            State::Waited | State::Late => 1,
            State::Heard => 2,
            // It takes the place of none that may answer.
            State::Failed => 3,
            State::Excluded => 4,
        };
        let mut surplus = BTreeSet::new();
        if self.known.values().all(|candidate| candidate.subnets.is_empty()) {
            return surplus;
        }
        let mut is_within_share = self.share();
        for wanted in 0..4 {
            let of_rank = self.known.iter().filter(|(_, it)| rank(it.state) == wanted);
            let beyond = of_rank.filter(|(_, candidate)| !is_within_share(candidate));
            surplus.extend(beyond.map(|(distance, _)| *distance));
        }
        surplus
    }

    /// Returns for one candidate after the other whether it is within the share of its subnets.
    fn share(&self) -> impl FnMut(&Candidate) -> bool {
        let mut shares = SubnetShares::new(self.config.per_subnet);
        move |candidate| shares.take(&candidate.subnets)
    }

    /// The first `count` of these peers without those beyond the share of their subnet, which fill
    /// the places that are left. Sorted by distance, as `peers` are.
    fn shared_out<'a>(
        &self,
        peers: impl Iterator<Item = (&'a Distance, &'a Candidate)>,
        count: usize,
    ) -> impl Iterator<Item = (&'a Distance, &'a Candidate)> {
        let mut is_within_share = self.share();
        filled(peers, count, move |_, candidate| is_within_share(candidate))
    }

    /// Peers that may be among the closest: no farther than the `closest`-th that has answered.
    /// Implausibly close peers do not count as answered here. Surplus ones count where others leave
    /// a place.
    fn within_reach(
        &self,
        size: &NetworkSize,
        surplus: &BTreeSet<Distance>,
    ) -> impl Iterator<Item = (&Distance, &Candidate)> {
        let answered = || self.plausible(size).map(|(distance, _)| *distance);
        let regular = || answered().filter(|distance| !surplus.contains(distance));
        let last = regular().nth(self.config.closest.saturating_sub(1));
        // Where the others leave no place, no surplus peer is within reach.
        let places = self.config.closest.saturating_sub(regular().count());
        let mut filling = answered().filter(|distance| surplus.contains(distance));
        let last_surplus = match places {
            0 => Some(Distance::MIN),
            places => filling.nth(places.saturating_sub(1)),
        };
        self.known.iter().filter(move |(distance, _)| {
            let last = if surplus.contains(distance) { last_surplus } else { last };
            last.is_none_or(|last| **distance <= last)
        })
    }

    fn is_doubtful(&self, candidate: &Candidate, requests: &Requests, now: Duration) -> bool {
        self.is_of_bad_guide(candidate) || requests.history().is_silent(&candidate.peer, now)
    }

    fn is_of_bad_guide(&self, candidate: &Candidate) -> bool {
        let is_bad = |guide: &PeerId| self.guides.get(guide).is_some_and(Guided::is_bad);
        candidate.names < NAMES && candidate.guide.as_ref().is_some_and(is_bad)
    }

    fn has_finished_asking(&self, size: &NetworkSize) -> bool {
        self.is_spent() || self.is_close_enough(size)
    }

    const fn is_spent(&self) -> bool {
        self.asked >= self.config.max_requests
    }

    /// Whether the closest peers are known without further requests, by the estimated network size.
    fn is_close_enough(&self, size: &NetworkSize) -> bool {
        if self.wanted != LookupKind::Closest || size.estimate().is_none() {
            return false;
        }
        let k = self.config.closest;
        let (confirmed, implausible) = self.confirmed(size);
        let mut is_within_share = self.share();
        let mut without_surplus = confirmed.filter(|(_, candidate)| is_within_share(candidate));
        let last = without_surplus.nth(implausible.saturating_add(k).saturating_sub(1));
        last.is_some_and(|(distance, _)| size.is_close(k, distance))
    }
}

impl Candidate {
    /// Whether it has answered or enough other peers have named it.
    const fn is_confirmed(&self) -> bool {
        match self.state {
            State::Answered => true,
            State::Heard | State::Waited => self.names >= NAMES,
            State::Late | State::Failed | State::Excluded => false,
        }
    }
}

impl Guided {
    const fn is_bad(&self) -> bool {
        self.answered == 0 && self.led_nowhere >= BAD_GUIDE
    }
}

/// The first `count` of these peers that are within the share of their subnet; the others fill the
/// places that are left. Sorted by distance, as `peers` are.
fn filled<'a>(
    peers: impl Iterator<Item = (&'a Distance, &'a Candidate)>,
    count: usize,
    mut is_within_share: impl FnMut(&Distance, &Candidate) -> bool,
) -> impl Iterator<Item = (&'a Distance, &'a Candidate)> {
    let (mut chosen, surplus): (Vec<_>, Vec<_>) =
        peers.partition(|(distance, candidate)| is_within_share(distance, candidate));
    chosen.truncate(count);
    let left = count.saturating_sub(chosen.len());
    chosen.extend(surplus.into_iter().take(left));
    chosen.sort_unstable_by_key(|(distance, _)| **distance);
    chosen.into_iter()
}
