//! Records on their way to the peers closest to their keys, and repairs to those that were found behind.
//!
//! **Invariants.** What goes out has no publisher, so that those who write receive what others write. Repairs are bounded in
//! number, and nobody is sent again and again what it does not take. A sending is told once: when enough peers have taken it, when
//! there is nobody left, or at its deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;
use smart_record_lookup::{self as lookup, Place, RequestId, Wanted};

use super::{
    env::Env,
    event::Event,
    holders::Closest,
    network::{OperationId, Outcome},
    reading::search,
    repairs::Repairs,
};
use crate::{
    client::{ClientError, Publication, PublicationContent, ReplicaState, Reply, Teller},
    meter::Amount,
    outbound::{Record, Request},
    query::{Delivery, Joined, Lookup, Repair, Said, Spread, WritePolicy, contains},
};
use smart_record_core::{Namespace, RecordKey, SmartRecord};

/// How long a sending goes on in the background after it was told. A guess: longer than the chunks of a large board take.
const BACKGROUND: Duration = Duration::from_secs(30);
/// How many of those that have acknowledged a client's write are asked whether they show it, and when: at first, and again if they do
/// not. A replica stores what it takes at once, or after a check elsewhere; much longer than that is a second.
const CHECKED: usize = 2;
const FIRST_CHECK: Duration = Duration::from_millis(100);
const SECOND_CHECK: Duration = Duration::from_secs(1);
/// With less than a second left, a record would go out with a lifetime of zero, which means none.
const SHORTEST: Duration = Duration::from_secs(1);

/// The sendings that are under way, and who was sent what was lacking.
pub(super) struct Sends {
    under_way: BTreeMap<u64, Sending>,
    next_id: u64,
    repairs: Repairs,
}

/// Whom a sending is for.
pub(super) enum Sender {
    Client(Reply<Publication>, Publication),
    Repair,
    Refresh,
    Replication,
    /// The client has been told.
    Told,
}

/// A sending that is under way.
struct Sending {
    content: Spread,
    delivery: Delivery,
    target: Target,
    /// Requests of the search, as opposed to those that deliver.
    searching: BTreeSet<RequestId>,
    sender: Sender,
    /// Tells the client what becomes of it, and who is asked whether it shows it.
    follow_up: Option<FollowUp>,
    deadline: Duration,
    span: tracing::Span,
}

/// What a client learns of its write after it was told.
#[derive(Debug)]
struct FollowUp {
    teller: Teller,
    content: PublicationContent,
    /// Who is asked when; the second time is the last.
    checks: Vec<Check>,
    checking: BTreeMap<RequestId, Check>,
}

#[derive(Clone, Copy, Debug)]
struct Check {
    peer: PeerId,
    at: Duration,
    is_second: bool,
}

/// To whom it goes.
#[derive(Debug)]
enum Target {
    /// A read will tell.
    Read,
    /// A search will tell.
    Search(lookup::Lookup),
    /// It is known: of the peers that it goes to so many are sure to answer. Those that an earlier read or write has found are a guess.
    Known { answering: usize, is_guess: bool },
}

/// What a sending wants done next.
pub(super) enum Step {
    /// A read of the key, for this sending.
    Read(u64, RecordKey),
    /// A client is to be told.
    Tell(Reply<Publication>, Result<Publication, ClientError>),
}

impl Sender {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..) | Self::Told)
    }

    fn span(&self, spread: &Spread) -> tracing::Span {
        let (key, chunks) = (&spread.key, spread.len());
        let (parent, purpose) = match self {
            Self::Client(reply, _) => (reply.span().id(), None),
            Self::Repair => (None, Some("repair")),
            Self::Refresh => (None, Some("refresh")),
            Self::Replication => (None, Some("replication")),
            Self::Told => (None, None),
        };
        tracing::debug_span!(parent: parent, "spread", %key, chunks, purpose)
    }

    /// Whether it brings others what they lack.
    const fn is_repair(&self) -> bool {
        matches!(self, Self::Repair | Self::Replication)
    }
}

impl Sends {
    pub(super) fn new() -> Self {
        Self { under_way: BTreeMap::new(), next_id: 0, repairs: Repairs::new() }
    }

    /// Sends it to its peers, or if it has none to those closest to the key.
    pub(super) fn begin(&mut self, env: &mut Env, spread: Spread, sender: Sender) -> Option<Step> {
        let span = sender.span(&spread);
        let _in_span = span.clone().entered();
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = env.net.now().saturating_add(env.config.write_deadline());
        let (sender, follow_up) = match sender {
            Sender::Client(reply, mut publication) => {
                let teller = Teller::default();
                publication.follower = teller.follower();
                let follow_up = FollowUp::new(teller, publication.content.clone());
                (Sender::Client(reply, publication), Some(follow_up))
            }
            sender => (sender, None),
        };
        let mut sending = Sending {
            delivery: Delivery::new(spread.key.clone(), spread.expires_at),
            target: Target::Read,
            searching: BTreeSet::new(),
            content: spread,
            sender,
            follow_up,
            deadline,
            span,
        };
        let peers = sending.content.peers().to_vec();
        let known = env.holders.known(&sending.content.key, env.net.now());
        match known {
            _ if !peers.is_empty() => {
                let chunks = sending.content.chunks().into();
                let closest = Closest { answered: peers.len(), replicas: peers };
                sending.send_to(closest, &chunks, false);
            }
            Some((closest, record)) => {
                let chunks = whole(env, &sending.content, record.as_ref());
                sending.send_to(closest, &chunks, true);
            }
            None => sending.target = target(env, &sending.content),
        }
        let key = &sending.content.key;
        let read = matches!(sending.target, Target::Read).then(|| Step::Read(id, key.clone()));
        self.under_way.insert(id, sending);
        read.or_else(|| self.go_on(env, id))
    }

    /// Sends peers what a read has shown that they lack.
    pub(super) fn repair(&mut self, env: &mut Env, lookup: &Lookup, repairs: &[Repair]) {
        let now = env.now();
        let expires_at = match lookup.joined().record() {
            Some(record) => record.retain_until(),
            None => lookup.expires_at(),
        };
        for Repair { peers, chunks } in repairs {
            if self.repairing() >= env.quarter() {
                // Another read will find that it is still lacking.
                env.count(|c| &mut c.repairs_put_off, peers.len());
                continue;
            }
            let sent = fingerprint(chunks);
            let key = lookup.key();
            let mut admitted = peers.clone();
            admitted.retain(|peer| {
                let had = lookup.said(peer).map_or(0, Said::fingerprint);
                self.repairs.admit(key, *peer, had, sent, now)
            });
            let put_off = peers.len().saturating_sub(admitted.len());
            env.count(|c| &mut c.repairs_put_off, put_off);
            if !admitted.is_empty() {
                let spread = Spread::new(key.clone(), chunks.clone(), expires_at);
                // With peers there is nothing to read, and nobody to tell.
                let _ = self.begin(env, spread.to(admitted), Sender::Repair);
            }
        }
    }

    /// How many there are for such senders.
    pub(super) fn count(&self, is_one: impl Fn(&Sender) -> bool) -> usize {
        self.under_way.values().filter(|sending| is_one(&sending.sender)).count()
    }

    /// How many repairs are under way.
    pub(super) fn repairing(&self) -> usize {
        self.count(Sender::is_repair)
    }

    /// When the first deadline comes.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.under_way.values().map(Sending::next_at).min()
    }

    /// Ends a sending whose deadline has come, or has it go on in the background; or asks back.
    pub(super) fn on_time(&mut self, env: &mut Env, now: Duration) -> Option<Step> {
        let mut due = self.under_way.iter_mut().filter(|(_, sending)| sending.next_at() <= now);
        let (id, sending) = due.next()?;
        let id = *id;
        if sending.deadline > now {
            return self.go_on(env, id);
        }
        if matches!(sending.sender, Sender::Client(..)) {
            return sending.tell(now);
        }
        sending.delivery.stop();
        sending.follow_up = None;
        sending.target = Target::Known { answering: 0, is_guess: false };
        self.go_on(env, id)
    }

    /// A read for a sending has come to an end.
    pub(super) fn on_read(
        &mut self,
        env: &mut Env,
        id: u64,
        lookup: &Lookup,
        closest: Closest,
    ) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let chunks = whole(env, &sending.content, lookup.joined().record());
        sending.send_to(closest, &chunks, false);
        self.go_on(env, id)
    }

    /// A request of a sending has come to something.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        id: u64,
        request: RequestId,
        peer: PeerId,
        outcome: Outcome,
    ) -> Option<Step> {
        let is_late = matches!(outcome, Outcome::Late);
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        if let Some(check) = sending.follow_up.as_mut().and_then(|it| it.checking.remove(&request))
        {
            sending.on_checked(env, check, outcome);
        } else if !sending.searching.contains(&request) {
            sending.on_delivered(peer, outcome);
        } else if let Target::Search(search) = &mut sending.target {
            match &outcome {
                Outcome::Answered(answer) => {
                    search.on_answer(&peer, answer.closer.iter().map(|closer| closer.peer));
                }
                Outcome::Late => search.on_late(&peer),
                Outcome::Failed(_) | Outcome::Silent => {
                    outcome.failure().into_iter().for_each(|why| search.on_failure(&peer, why));
                }
            }
        }
        if !is_late {
            sending.searching.remove(&request);
        }
        self.go_on(env, id)
    }

    /// Asks and sends what is to be asked and sent now, and ends the sending if nothing is left.
    pub(super) fn go_on(&mut self, env: &mut Env, id: u64) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        let name = OperationId::Send(id);
        sending.search(env, name);
        sending.deliver(env, name);
        sending.ask_back(env, name);
        if let Target::Known { answering, is_guess } = sending.target {
            let taken = sending.delivery.taken().len();
            let has_majority = taken >= WritePolicy::Majority.needed(answering);
            if sending.delivery.is_over() && is_guess && !has_majority {
                // Those who were the closest are gone: others are, now.
                env.holders.forget(sending.delivery.key());
                sending.target = target(env, &sending.content);
                if matches!(sending.target, Target::Read) {
                    return Some(Step::Read(id, sending.content.key.clone()));
                }
                return self.go_on(env, id);
            }
            let is_over = sending.delivery.is_over();
            let is_enough = taken > 0 && taken >= env.config.write_policy().needed(answering);
            let step = match is_over || is_enough {
                true => sending.tell(env.net.now()),
                false => None,
            };
            if is_over && !sending.is_checking() {
                env.net.give_up(name);
                self.under_way.remove(&id).into_iter().for_each(|sending| sending.end(env));
                return step;
            }
            if is_over || step.is_some() {
                return step;
            }
        }
        if !env.net.is_asking(name) && !sending.is_waiting() {
            // It waits for a place.
            env.starved.insert(name);
        }
        None
    }
}

impl Sending {
    /// Looks for the closest peers, if nothing has told them yet.
    fn search(&mut self, env: &mut Env, name: OperationId) {
        let Self { target: Target::Search(search), searching, delivery, .. } = self else {
            return;
        };
        let key = Bytes::copy_from_slice(delivery.key().as_bytes());
        env.net.send(name, |requests, size, now| {
            let (id, peer) = search.next(requests, size, now)?;
            searching.insert(id);
            Some((id, peer, Request::FindNode { key: key.clone() }))
        });
        if !search.is_settled(env.net.requests(), &env.net.size, env.net.now()) {
            return;
        }
        search.measure(&mut env.net.size);
        let closest = Closest::of(search, &env.net.size);
        let now = env.net.now();
        env.holders.set(delivery.key().clone(), closest.clone(), None, now);
        self.send_to(closest, &self.content.chunks().into(), false);
    }

    fn deliver(&mut self, env: &mut Env, name: OperationId) {
        let now = env.now();
        let delivery = &mut self.delivery;
        let left = delivery.expires_at().map(|at| at.saturating_since(now).max(SHORTEST));
        let key = Bytes::copy_from_slice(delivery.key().as_bytes());
        env.net.send(name, |requests, _, now| {
            let (id, peer, value) = delivery.next(requests, now)?;
            tracing::trace!(%peer, bytes = value.len(), "sends a chunk");
            // Whoever is named as publisher does not receive what others write.
            let record = Record { value, publisher: None, ttl: left };
            Some((id, peer, Request::PutValue { key: key.clone(), record }))
        });
    }

    /// To whom it goes is known.
    fn send_to(&mut self, closest: Closest, chunks: &Arc<[Bytes]>, is_guess: bool) {
        self.target = Target::Known { answering: closest.answered, is_guess };
        let peers = self.delivery.to(closest.replicas, chunks);
        self.note(peers, ReplicaState::Sent);
    }

    fn on_delivered(&mut self, peer: PeerId, outcome: Outcome) {
        let state = match outcome {
            Outcome::Answered(_) => {
                tracing::trace!(%peer, "has taken a chunk");
                if !self.delivery.on_taken(peer) {
                    return;
                }
                ReplicaState::Acknowledged
            }
            Outcome::Late => return,
            Outcome::Failed(ref error) => {
                tracing::debug!(%peer, %error, "has not taken a chunk");
                self.delivery.on_failure(&peer);
                match outcome.failure() {
                    Some(lookup::Failure::Invalid | lookup::Failure::Unsupported) => {
                        ReplicaState::Refused
                    }
                    _ => ReplicaState::Silent,
                }
            }
            Outcome::Silent => {
                self.delivery.on_failure(&peer);
                ReplicaState::Silent
            }
        };
        self.note([peer], state);
    }

    fn note(&self, peers: impl IntoIterator<Item = PeerId>, state: ReplicaState) {
        if let Some(follow_up) = &self.follow_up {
            peers.into_iter().for_each(|peer| follow_up.teller.tell(peer, state));
        }
    }

    /// Asks those who are to be asked now whether they show what was written.
    fn ask_back(&mut self, env: &mut Env, name: OperationId) {
        let Some(FollowUp { checks, checking, .. }) = &mut self.follow_up else {
            return;
        };
        let key = self.content.key.as_bytes();
        let place = Place::of_key(key);
        let request = Request::GetValue { key: Bytes::copy_from_slice(key) };
        env.net.send(name, |requests, _, now| {
            let due = |check: &Check| check.at <= now && requests.has_room(&check.peer);
            let check = checks.remove(checks.iter().position(due)?);
            let id = requests.begin(check.peer, place.distance_of(&check.peer), now)?;
            checking.insert(id, check);
            Some((id, check.peer, request.clone()))
        });
    }

    /// A peer was asked whether it shows what was written.
    fn on_checked(&mut self, env: &Env, check: Check, outcome: Outcome) {
        let Some(follow_up) = &mut self.follow_up else {
            return;
        };
        let state = match outcome {
            Outcome::Answered(answer) => {
                let value = answer.record.map(|record| record.value);
                shown(env, &self.content.key, &follow_up.content, value)
            }
            Outcome::Failed(_) | Outcome::Silent => ReplicaState::Silent,
            // Its answer will be of no use, but it is awaited as any other.
            Outcome::Late => return,
        };
        let Check { peer, at, is_second } = check;
        tracing::trace!(%peer, ?state, "was asked back");
        if state == ReplicaState::NotShown && !is_second {
            let at = at.saturating_add(SECOND_CHECK.saturating_sub(FIRST_CHECK));
            follow_up.checks.push(Check { peer, at, is_second: true });
        } else {
            follow_up.teller.tell(peer, state);
        }
    }

    /// Whether somebody is still to be asked back, or has still to answer that.
    fn is_checking(&self) -> bool {
        let checks = self.follow_up.as_ref();
        checks.is_some_and(|it| !it.checks.is_empty() || !it.checking.is_empty())
    }

    /// Whether it waits for something else than room for a request.
    fn is_waiting(&self) -> bool {
        matches!(self.target, Target::Read) || self.delivery.is_over()
    }

    /// When its deadline comes, or somebody is to be asked back.
    fn next_at(&self) -> Duration {
        let checks = self.follow_up.iter().flat_map(|it| it.checks.iter().map(|check| check.at));
        checks.min().map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Tells the client, if there is one that was not told; then it goes on in the background.
    fn tell(&mut self, now: Duration) -> Option<Step> {
        if !matches!(self.sender, Sender::Client(..)) {
            return None;
        }
        let sender = std::mem::replace(&mut self.sender, Sender::Told);
        let Sender::Client(reply, publication) = sender else {
            return None;
        };
        self.deadline = now.saturating_add(BACKGROUND);
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "published");
        if let Some(follow_up) = &mut self.follow_up {
            let at = now.saturating_add(FIRST_CHECK);
            let checked = peers.iter().take(CHECKED);
            follow_up.checks =
                checked.map(|peer| Check { peer: *peer, at, is_second: false }).collect();
        }
        let publication = Publication { peers, ..publication };
        let result = match publication.peers.is_empty() {
            true => Err(ClientError::NotAcknowledged(Box::new(publication))),
            false => Ok(publication),
        };
        Some(Step::Tell(reply, result))
    }

    fn end(self, env: &mut Env) {
        let key = self.delivery.key().clone();
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "spread");
        match self.sender {
            Sender::Repair => {
                env.count(|c| &mut c.repairs, peers.len());
                if !peers.is_empty() {
                    env.meter.note(Amount::RepairedPeers(peers.len()));
                    env.events.push_back(Event::Repaired { key, peers });
                }
            }
            Sender::Refresh => {
                env.count(|c| &mut c.refreshes, 1);
                env.meter.note(Amount::RefreshedPeers(peers.len()));
                env.events.push_back(Event::Refreshed { key, peers });
            }
            Sender::Replication => env.events.push_back(Event::Replicated { key }),
            // The client was told.
            Sender::Client(..) | Sender::Told => {}
        }
    }
}

impl FollowUp {
    const fn new(teller: Teller, content: PublicationContent) -> Self {
        Self { teller, content, checks: Vec::new(), checking: BTreeMap::new() }
    }
}

/// Whether an answer shows what was written.
fn shown(
    env: &Env,
    key: &RecordKey,
    content: &PublicationContent,
    value: Option<Bytes>,
) -> ReplicaState {
    let said = Joined::new(&env.registry, key)
        .and_then(|nothing| nothing.check(key, value.unwrap_or_default(), env.now()));
    match (said, content) {
        (Ok(Said::Record(said)), PublicationContent::Update(update)) => {
            let space = said.spaces().find(|(writer, _)| writer.peer_id() == env.local);
            match space {
                Some((_, space)) if space.get(update.position).is_some() => ReplicaState::Shown,
                Some((_, space)) if space.newest() > Some(update.position) => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        (Ok(Said::Record(said)), PublicationContent::Record(record)) => {
            if contains(&said, record) {
                ReplicaState::Shown
            } else {
                ReplicaState::NotShown
            }
        }
        (Ok(Said::Value(said)), PublicationContent::Value(value)) => {
            let is_better = |said: &Bytes| {
                let best = env.registry.consolidate(key, &[value, said]);
                best.is_ok_and(|best| best == *said)
            };
            match env.registry.resolve(key) {
                Ok(Namespace::Value(validator)) if validator.contains(key, &said, value) => {
                    ReplicaState::Shown
                }
                Ok(_) if said == *value => ReplicaState::Shown,
                _ if is_better(&said) => ReplicaState::Stale,
                _ => ReplicaState::NotShown,
            }
        }
        _ => ReplicaState::NotShown,
    }
}

/// Who tells to whom it goes: spaces are read first, because what others have is sent along.
fn target(env: &mut Env, spread: &Spread) -> Target {
    match env.registry.resolve(&spread.key) {
        Ok(Namespace::Spaces(_)) => Target::Read,
        _ => {
            env.count(|c| &mut c.lookups, 1);
            Target::Search(search(env, &spread.key, Wanted::Closest))
        }
    }
}

/// What is sent: all that is known of the record if it fits into one packet, and otherwise what was written.
fn whole(env: &mut Env, spread: &Spread, read: Option<&SmartRecord>) -> Arc<[Bytes]> {
    let mut known = || -> Option<Bytes> {
        let written = spread.record()?;
        let now = env.now();
        let mut all = Joined::new(&env.registry, &spread.key).ok()?;
        all.join(written);
        all.join(read?);
        if let Ok(Some(stored)) = env.kad.store_mut().record(&spread.key) {
            all.join(&stored);
        }
        all.collect(now);
        let is_small = !all.exceeds(env.bounds.chunk_bytes);
        all.record().filter(|_| is_small).map(SmartRecord::encode).map(Bytes::from)
    };
    match known() {
        Some(all) => [all].into(),
        None => spread.chunks().into(),
    }
}

/// A number by which what is sent is recognised when it is sent again.
fn fingerprint(chunks: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunks.hash(&mut hasher);
    hasher.finish()
}
