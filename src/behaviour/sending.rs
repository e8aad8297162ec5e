//! Spreads, carried out with Kademlia: the peers closest to the key are looked up once, and sent all chunks.
//!
//! **Invariants.** What goes out has no publisher, so that those who write receive what others write. Repairs are bounded in
//! number, and nobody is sent again and again what it does not take.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use libp2p_kad::{QueryId, QueryResult, Quorum};

use super::{env::Env, event::Event, repairs::Repairs};
use crate::{
    client::{Publication, Reply},
    meter::Amount,
    query::{Lookup, Repair, Said, Spread},
};

/// The spreads that are under way, by their latest query, and who was sent what was lacking.
pub(super) struct Spreads {
    under_way: HashMap<QueryId, Sending>,
    repairs: Repairs,
}

/// Whom a spread is for.
pub(super) enum Sender {
    Client(Reply<Publication>, Publication),
    Repair,
    Refresh,
    Replication,
}

/// A spread that is under way.
struct Sending {
    spread: Spread,
    sender: Sender,
    span: tracing::Span,
}

impl Sender {
    pub(super) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(..))
    }

    fn span(&self, spread: &Spread) -> tracing::Span {
        let (key, chunks) = (&spread.key, spread.len());
        let (parent, purpose) = match self {
            Self::Client(reply, _) => (reply.span().id(), None),
            Self::Repair => (None, Some("repair")),
            Self::Refresh => (None, Some("refresh")),
            Self::Replication => (None, Some("replication")),
        };
        tracing::debug_span!(parent: parent, "spread", %key, chunks, purpose)
    }

    /// Whether it brings others what they lack.
    const fn is_repair(&self) -> bool {
        matches!(self, Self::Repair | Self::Replication)
    }
}

impl Spreads {
    pub(super) fn new() -> Self {
        Self { under_way: HashMap::new(), repairs: Repairs::new() }
    }

    /// Sends it to its peers, or if it has none to those closest to the key.
    pub(super) fn begin(&mut self, env: &mut Env, spread: Spread, sender: Sender) {
        let span = sender.span(&spread);
        let sending = Sending { spread, sender, span };
        if !sending.spread.peers().is_empty() {
            return self.go_on(env, sending);
        }
        let query = env.kad.get_closest_peers(sending.spread.key.as_bytes().to_vec());
        self.under_way.insert(query, sending);
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
                self.begin(env, spread.to(admitted), Sender::Repair);
            }
        }
    }

    /// Whether a query is one of these spreads.
    pub(super) fn has(&self, query: &QueryId) -> bool {
        self.under_way.contains_key(query)
    }

    /// How many there are for such senders.
    pub(super) fn count(&self, is_one: impl Fn(&Sender) -> bool) -> usize {
        self.under_way.values().filter(|sending| is_one(&sending.sender)).count()
    }

    /// How many repairs are under way.
    pub(super) fn repairing(&self) -> usize {
        self.count(Sender::is_repair)
    }

    /// A query has come to its end; each of them tells that alone.
    pub(super) fn on_result(&mut self, env: &mut Env, id: &QueryId, result: QueryResult) {
        let Some(mut sending) = self.under_way.remove(id) else {
            return;
        };
        match result {
            QueryResult::GetClosestPeers(result) => sending.spread.on_closest(&result, env.local),
            QueryResult::PutRecord(result) => sending.spread.on_put(&result),
            _ => {}
        }
        self.go_on(env, sending);
    }

    /// Sends the next chunk, if there is one.
    fn go_on(&mut self, env: &mut Env, mut sending: Sending) {
        let _in_span = sending.span.clone().entered();
        let Some((record, peers)) = sending.spread.next_record(env.now()) else {
            return sending.end(env);
        };
        tracing::trace!(bytes = record.value.len(), peers = peers.len(), "sends a chunk");
        let query = env.kad.put_record_to(record, peers.into_iter(), Quorum::All);
        self.under_way.insert(query, sending);
    }
}

impl Sending {
    fn end(self, env: &mut Env) {
        let key = self.spread.key.clone();
        let peers = self.spread.into_peers();
        tracing::debug!(peers = peers.len(), "spread");
        match self.sender {
            Sender::Client(reply, publication) => {
                reply.send(Ok(Publication { peers, ..publication }));
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
        }
    }
}

/// A number by which what is sent is recognised when it is sent again.
fn fingerprint(chunks: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    chunks.hash(&mut hasher);
    hasher.finish()
}
