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
use smart_record_lookup::{self as search, RequestId, Wanted};

use super::{
    env::Env,
    event::Event,
    holders::Closest,
    network::{OperationId, Outcome},
    reading::search,
    repairs::Repairs,
};
use crate::{
    client::{ClientError, Publication, Reply},
    meter::Amount,
    outbound::{Record, Request},
    query::{Delivery, Joined, Lookup, Repair, Said, Spread, WritePolicy},
};
use smart_record_core::{Namespace, RecordKey, SmartRecord};

/// How long a sending goes on in the background after it was told. A guess: longer than the chunks of a large board take.
const BACKGROUND: Duration = Duration::from_secs(30);
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
    deadline: Duration,
    span: tracing::Span,
}

/// To whom it goes.
#[derive(Debug)]
enum Target {
    /// A read will tell.
    Read,
    /// A search will tell.
    Search(search::Lookup),
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
        let mut delivery = Delivery::new(spread.key.clone(), spread.expires_at);
        let peers = spread.peers().to_vec();
        let known = env.holders.known(&spread.key, env.net.now());
        let target = match known {
            _ if !peers.is_empty() => {
                let target = Target::Known { answering: peers.len(), is_guess: false };
                delivery.to(peers, &spread.chunks().into());
                target
            }
            Some((closest, record)) => {
                let chunks = whole(env, &spread, record.as_ref());
                delivery.to(closest.replicas, &chunks);
                Target::Known { answering: closest.answered, is_guess: true }
            }
            None => self::target(env, &spread),
        };
        let read = matches!(target, Target::Read).then(|| Step::Read(id, spread.key.clone()));
        let searching = BTreeSet::new();
        let sending =
            Sending { content: spread, delivery, target, searching, sender, deadline, span };
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
        self.under_way.values().map(|sending| sending.deadline).min()
    }

    /// Ends a sending whose deadline has come, or has it go on in the background.
    pub(super) fn on_time(&mut self, env: &mut Env, now: Duration) -> Option<Step> {
        let mut late = self.under_way.iter_mut().filter(|(_, sending)| sending.deadline <= now);
        let (id, sending) = late.next()?;
        let id = *id;
        if matches!(sending.sender, Sender::Client(..)) {
            return sending.tell(now);
        }
        sending.delivery.stop();
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
        sending.target = Target::Known { answering: closest.answered, is_guess: false };
        sending.delivery.to(closest.replicas, &chunks);
        self.go_on(env, id)
    }

    /// A request of a sending has come to something.
    pub(super) fn on_outcome(
        &mut self,
        env: &mut Env,
        id: u64,
        request: RequestId,
        peer: PeerId,
        outcome: &Outcome,
    ) -> Option<Step> {
        let sending = self.under_way.get_mut(&id)?;
        let _in_span = sending.span.clone().entered();
        if !sending.searching.contains(&request) {
            match outcome {
                Outcome::Answered(_) => {
                    tracing::trace!(%peer, "has taken a chunk");
                    sending.delivery.on_taken(peer);
                }
                Outcome::Failed(error) => {
                    tracing::debug!(%peer, %error, "has not taken a chunk");
                    sending.delivery.on_failure(&peer);
                }
                Outcome::Silent => sending.delivery.on_failure(&peer),
                Outcome::Late => {}
            }
        } else if let Target::Search(search) = &mut sending.target {
            match outcome {
                Outcome::Answered(answer) => {
                    search.on_answer(&peer, answer.closer.iter().map(|closer| closer.peer));
                }
                Outcome::Late => search.on_late(&peer),
                Outcome::Failed(_) | Outcome::Silent => {
                    outcome.failure().into_iter().for_each(|why| search.on_failure(&peer, why));
                }
            }
        }
        if !matches!(outcome, Outcome::Late) {
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
            if sending.delivery.is_over() {
                env.net.give_up(name);
                return self.under_way.remove(&id).and_then(|sending| sending.end(env));
            }
            if taken > 0 && taken >= env.config.write_policy().needed(answering) {
                return sending.tell(env.net.now());
            }
        }
        if !env.net.is_asking(name) && !matches!(sending.target, Target::Read) {
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
        self.target = Target::Known { answering: closest.answered, is_guess: false };
        self.delivery.to(closest.replicas, &self.content.chunks().into());
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

    /// Tells the client, if there is one; then it goes on in the background.
    fn tell(&mut self, now: Duration) -> Option<Step> {
        if !matches!(self.sender, Sender::Client(..)) {
            return None;
        }
        self.deadline = now.saturating_add(BACKGROUND);
        let sender = std::mem::replace(&mut self.sender, Sender::Told);
        let Sender::Client(reply, publication) = sender else {
            return None;
        };
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "published");
        Some(Step::Tell(reply, Ok(Publication { peers, ..publication })))
    }

    fn end(self, env: &mut Env) -> Option<Step> {
        let key = self.delivery.key().clone();
        let peers = self.delivery.taken();
        tracing::debug!(peers = peers.len(), "spread");
        match self.sender {
            Sender::Client(reply, publication) => {
                return Some(Step::Tell(reply, Ok(Publication { peers, ..publication })));
            }
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
            Sender::Told => {}
        }
        None
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
