//! A network of modelled peers, and the driver of one lookup in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p_identity::PeerId;
use smart_record_lookup::{
    Failure, Lookup, LookupConfig, LookupEvent, LookupKind, Named, NetworkSize, Place, RequestId,
    Requests, Subnet,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Pseudorandom number generator (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    pub(crate) fn peer(&mut self) -> PeerId {
        let mut bytes = vec![0x12, 0x20];
        (0..4).for_each(|_| bytes.extend(self.next().to_be_bytes()));
        PeerId::from_bytes(&bytes).unwrap()
    }
}

/// How a peer behaves.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Answers honestly after this time.
    Honest(Duration),
    /// Takes requests and never answers.
    Silent,
    /// Cannot be connected to.
    Gone,
    /// Answers with invalid data.
    Garbage,
    /// Does not support the protocol.
    Client,
    /// Answers at once, always with these peers.
    Liar(Vec<PeerId>),
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    place: Place,
    pub(crate) kind: Kind,
    /// That of its connections.
    pub(crate) subnet: Option<Subnet>,
    /// Those of further addresses that others name it with.
    pub(crate) claimed: BTreeSet<Subnet>,
    contacts: Vec<usize>,
}

pub(crate) struct Network {
    pub(crate) peers: Vec<Peer>,
    by_id: BTreeMap<PeerId, usize>,
}

impl Network {
    /// A network of `size` honest peers. Each knows its 20 neighbours and, for each distance from
    /// itself, 20 peers chosen at random.
    pub(crate) fn new(random: &mut Random, size: usize) -> Self {
        let mut peers: Vec<_> = (0..size)
            .map(|_| {
                let id = random.peer();
                let took = MS * (10 + random.below(90) as u32);
                let (place, kind) = (Place::of_peer(&id), Kind::Honest(took));
                Peer { id, place, kind, subnet: None, claimed: BTreeSet::new(), contacts: vec![] }
            })
            .collect();
        let places: Vec<_> = peers.iter().map(|peer| peer.place).collect();
        for (own, peer) in peers.iter_mut().enumerate() {
            let mut buckets = BTreeMap::<u32, Vec<usize>>::new();
            for (other, place) in places.iter().enumerate().filter(|(other, _)| *other != own) {
                buckets.entry(places[own].distance(place).shared_bits()).or_default().push(other);
            }
            for bucket in buckets.into_values() {
                let mut bucket = bucket;
                for i in 0..bucket.len().min(20) {
                    let other = i + random.below(bucket.len() - i);
                    bucket.swap(i, other);
                }
                peer.contacts.extend(bucket.into_iter().take(20));
            }
            let mut nearest: Vec<_> = (0..size).filter(|other| *other != own).collect();
            nearest.sort_by_cached_key(|other| places[own].distance(&places[*other]));
            nearest.truncate(20);
            peer.contacts.extend(nearest);
            peer.contacts.sort_unstable();
            peer.contacts.dedup();
        }
        let by_id = peers.iter().enumerate().map(|(n, peer)| (peer.id, n)).collect();
        Self { peers, by_id }
    }

    /// Changes the behaviour of a share of the peers.
    pub(crate) fn turn(
        &mut self,
        random: &mut Random,
        percent: usize,
        mut kind: impl FnMut() -> Kind,
    ) {
        for peer in &mut self.peers {
            if random.below(100) < percent {
                peer.kind = kind();
            }
        }
    }

    /// Adds peers that no other peer knows.
    pub(crate) fn add(&mut self, id: PeerId, kind: Kind) {
        self.by_id.insert(id, self.peers.len());
        let place = Place::of_peer(&id);
        self.peers.push(Peer {
            id,
            place,
            kind,
            subnet: None,
            claimed: BTreeSet::new(),
            contacts: vec![],
        });
    }

    /// Adds peers of one subnet that the peers of these numbers know.
    pub(crate) fn add_subnet(
        &mut self,
        ids: &[PeerId],
        kind: &Kind,
        subnet: Subnet,
        known_to: &[PeerId],
    ) {
        for id in ids {
            self.add(*id, kind.clone());
            let number = self.peers.len() - 1;
            self.peers[number].subnet = Some(subnet);
            for other in known_to {
                let other = self.by_id[other];
                self.peers[other].contacts.push(number);
            }
        }
    }

    /// The subnet of a peer's connections.
    pub(crate) fn subnet(&self, id: &PeerId) -> BTreeSet<Subnet> {
        let peer = self.by_id.get(id).map(|n| &self.peers[*n]);
        peer.and_then(|peer| peer.subnet).into_iter().collect()
    }

    fn claimed(&self, id: &PeerId) -> BTreeSet<Subnet> {
        let claimed = self.by_id.get(id).into_iter().flat_map(|n| &self.peers[*n].claimed);
        claimed.copied().chain(self.subnet(id)).collect()
    }

    fn named(&self, ids: impl IntoIterator<Item = PeerId>) -> Vec<Named> {
        ids.into_iter().map(|id| (id, self.claimed(&id))).collect()
    }

    pub(crate) fn kind_mut(&mut self, id: &PeerId) -> &mut Kind {
        &mut self.peers[self.by_id[id]].kind
    }

    pub(crate) fn is_honest(&self, id: &PeerId) -> bool {
        self.by_id.get(id).is_some_and(|n| matches!(self.peers[*n].kind, Kind::Honest(_)))
    }

    /// All peers, sorted by distance.
    pub(crate) fn closest(&self, target: Place) -> Vec<PeerId> {
        let mut peers: Vec<_> = self.peers.iter().collect();
        peers.sort_by_cached_key(|peer| target.distance(&peer.place));
        peers.iter().map(|peer| peer.id).collect()
    }

    /// The honest peers, sorted by distance.
    pub(crate) fn honest(&self, target: Place) -> Vec<PeerId> {
        self.closest(target).into_iter().filter(|peer| self.is_honest(peer)).collect()
    }

    /// The peers closest to a target among those that a peer knows.
    fn known_to(&self, n: usize, target: Place) -> Vec<PeerId> {
        let mut known = self.peers[n].contacts.clone();
        known.sort_by_cached_key(|other| target.distance(&self.peers[*other].place));
        known.truncate(20);
        known.into_iter().map(|other| self.peers[other].id).collect()
    }

    /// A lookup started by the peer of this number.
    pub(crate) fn lookup(&self, n: usize, target: Place, wanted: LookupKind) -> Lookup {
        let start = self.named(self.known_to(n, target));
        Lookup::new(target, wanted, self.peers[n].id, LookupConfig::default(), start)
    }

    /// Time and content of a peer's answer; `None`: it never answers.
    fn answer(
        &self,
        peer: &PeerId,
        target: Place,
    ) -> Option<(Duration, Result<Vec<PeerId>, Failure>)> {
        let Some(n) = self.by_id.get(peer) else {
            return Some((5 * MS, Err(Failure::Unreachable)));
        };
        match &self.peers[*n].kind {
            Kind::Honest(took) => Some((*took, Ok(self.known_to(*n, target)))),
            Kind::Silent => None,
            Kind::Gone => Some((MS, Err(Failure::Unreachable))),
            Kind::Garbage => Some((20 * MS, Err(Failure::Invalid))),
            Kind::Client => Some((20 * MS, Err(Failure::Unsupported))),
            Kind::Liar(named) => Some((MS, Ok(named.clone()))),
        }
    }
}

/// Result of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) closest: Vec<PeerId>,
    pub(crate) known: Vec<PeerId>,
    pub(crate) implausible: Vec<PeerId>,
    pub(crate) silent: Vec<PeerId>,
    pub(crate) has_quorum: bool,
    /// Asked peers, with the times.
    pub(crate) asked: Vec<(Duration, PeerId)>,
    /// Time until it was settled, and until it was over.
    pub(crate) settled: Duration,
    pub(crate) over: Duration,
    pub(crate) most_under_way: usize,
}

/// State that a node keeps between lookups.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) requests: Requests,
    pub(crate) size: NetworkSize,
    pub(crate) now: Duration,
}

/// A lookup that is under way.
struct Running {
    lookup: Lookup,
    begun: Duration,
    asked: Vec<(Duration, PeerId)>,
    settled: Option<Duration>,
    over: Option<Duration>,
    most_under_way: usize,
}

impl Node {
    /// Runs a lookup.
    pub(crate) fn run(&mut self, network: &Network, lookup: Lookup) -> Outcome {
        self.run_all(network, [lookup]).pop().unwrap()
    }

    /// Runs lookups at the same time. They take turns, each with one request.
    pub(crate) fn run_all(
        &mut self,
        network: &Network,
        lookups: impl IntoIterator<Item = Lookup>,
    ) -> Vec<Outcome> {
        type Event = (RequestId, PeerId, Result<Vec<PeerId>, Failure>);
        self.size.forget_old(self.now);
        let begun = self.now;
        let mut all: Vec<_> = lookups
            .into_iter()
            .map(|lookup| Running {
                lookup,
                begun,
                asked: Vec::new(),
                settled: None,
                over: None,
                most_under_way: 0,
            })
            .collect();
        let mut events = BTreeMap::<(Duration, usize), Event>::new();
        let (mut askers, mut count) = (BTreeMap::<RequestId, usize>::new(), 0);
        loop {
            let Self { requests, size, now } = self;
            while let Some(finding) = requests.poll(*now) {
                match finding {
                    LookupEvent::Late(id, peer) => all[askers[&id]].lookup.on_late(&peer),
                    LookupEvent::Over(id, peer) => {
                        all[askers[&id]].lookup.on_failure(&peer, Failure::Silent);
                    }
                    LookupEvent::Evict(_) => {}
                }
            }
            let mut has_asked = true;
            while std::mem::take(&mut has_asked) {
                for (n, running) in all.iter_mut().enumerate() {
                    if let Some((id, peer)) = running.lookup.next(requests, size, *now) {
                        (has_asked, count) = (true, count + 1);
                        askers.insert(id, n);
                        running.asked.push((*now, peer));
                        let target = running.lookup.target();
                        if let Some((took, answer)) = network.answer(&peer, target) {
                            events.insert((*now + took, count), (id, peer, answer));
                        }
                    }
                }
            }
            for running in &mut all {
                running.most_under_way = running.most_under_way.max(requests.len());
                if running.settled.is_none() && running.lookup.is_settled(requests, size, *now) {
                    running.settled = Some(*now - running.begun);
                }
                if running.over.is_none() && running.lookup.is_over(size) {
                    running.over = Some(*now - running.begun);
                }
            }
            if all.iter().all(|running| running.over.is_some()) {
                break;
            }
            let next_event = events.first_key_value().map(|((at, _), _)| *at);
            *now = next_event.into_iter().chain(requests.next_at()).min().unwrap().max(*now);
            while let Some(entry) = events.first_entry()
                && entry.key().0 <= *now
            {
                let (id, peer, answer) = entry.remove();
                let lookup = &mut all[askers[&id]].lookup;
                match answer {
                    Ok(closer) if requests.on_answer(id, *now).is_some() => {
                        let subnets = network.subnet(&peer);
                        lookup.on_answer(&peer, subnets, network.named(closer));
                    }
                    Err(failure) if requests.on_failure(id, failure, *now) => {
                        lookup.on_failure(&peer, failure);
                    }
                    _ => {}
                }
            }
        }
        let outcomes = all.into_iter().map(|running| {
            let Running { lookup, asked, settled, over, most_under_way, .. } = running;
            let implausible = lookup.implausible(&self.size);
            let (closest, known) = (lookup.closest(&self.size), lookup.closest_known(&self.size));
            lookup.measure(&mut self.size, self.now);
            Outcome {
                closest,
                known,
                implausible,
                silent: lookup.silent(),
                has_quorum: lookup.has_quorum(),
                asked,
                settled: settled.or(over).unwrap(),
                over: over.unwrap(),
                most_under_way,
            }
        });
        outcomes.collect()
    }
}
