//! State that all parts of a behaviour share: Kademlia with its store, the rules, the time, events
//! and counters.
//!
//! **Invariants.** Makes no decisions and holds no operations.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use libp2p_identity::PeerId;
use libp2p_kad as kad;

use super::{
    budget::{Budget, Reserved, Source},
    config::BehaviourConfig,
    event::{BehaviourCounters, Event},
    holders::Holders,
    network::Network,
    remotes::Remotes,
    rollback::RollbackMemory,
    subnets::Subnets,
};
use crate::{
    client::ClientError,
    meter::{Meter, Observed},
    query::Bounds,
    store::{Origin, SmartRecordStore, ValidatedRecord},
};
use smart_record_core::{Clock, Namespace, RecordKey, Registry, SpaceRules, Timestamp, Writer};
use smart_record_lookup::Lookup;

/// Kademlia with its store, and shared state.
pub(super) struct Env {
    pub(super) kad: kad::Behaviour<SmartRecordStore>,
    pub(super) net: Network,
    /// Peers found closest to each key.
    pub(super) holders: Holders,
    pub(super) local: PeerId,
    /// The identity that the clients write as.
    pub(super) writer: Writer,
    pub(super) config: BehaviourConfig,
    pub(super) bounds: Bounds,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) known: RollbackMemory,
    pub(super) remotes: Remotes,
    pub(super) subnets: Subnets,
    pub(super) budget: Budget,
    /// Events to be emitted.
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Observed<BehaviourCounters>,
    pub(super) meter: Meter,
}

impl Env {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn count(
        &mut self,
        counter: impl FnOnce(&mut BehaviourCounters) -> &mut u64,
        by: usize,
    ) {
        self.counters.change(|counters| {
            let counter = counter(counters);
            *counter = counter.saturating_add(u64::try_from(by).unwrap_or(u64::MAX));
        });
    }

    /// Replaces reserved work by what was done.
    pub(super) fn settle(&mut self, reserved: Reserved, done: Duration) {
        self.budget.settle(reserved, done);
        self.count_work();
    }

    /// Counts the work that was done for others.
    pub(super) fn count_work(&mut self) {
        let done = u64::try_from(self.budget.done().as_millis()).unwrap_or(u64::MAX);
        let ((accounts, closed), shared) = (self.budget.accounts(), self.budget.shared());
        self.counters.change(|counters| {
            counters.work_ms = done;
            counters.accounts = u64::try_from(accounts).unwrap_or(u64::MAX);
            counters.accounts_closed = closed;
            counters.accounts_shared = shared;
        });
    }

    /// Counts the writers whose newest update is remembered.
    pub(super) fn count_known(&mut self) {
        let (known, forgotten) = self.known.counts();
        self.counters.change(|counters| {
            counters.known_writers = u64::try_from(known).unwrap_or(u64::MAX);
            counters.known_writers_forgotten = forgotten;
        });
    }

    /// Counts what a search has passed over, and emits the peers that it has found closer to a key
    /// than is plausible.
    pub(super) fn report_crowds(&mut self, key: &RecordKey, search: &Lookup) {
        self.count(|c| &mut c.passed_over, search.passed_over());
        let peers = search.implausible(&self.net.size);
        if !peers.is_empty() {
            self.events.push_back(Event::Implausible { key: key.clone(), peers });
        }
    }

    /// The rules of a key whose namespace is spaces.
    pub(super) fn rules(&self, key: &RecordKey) -> Result<SpaceRules, ClientError> {
        match self.registry.resolve(key)? {
            Namespace::Spaces(rules) => Ok(rules.clone()),
            Namespace::Value(_) => Err(ClientError::NotSmart(key.clone())),
        }
    }

    /// When a write that begins now is told at the latest.
    pub(super) fn write_deadline(&self) -> Duration {
        self.net.now().saturating_add(self.config.write_deadline())
    }

    /// Maximum number of concurrent internal operations of one kind.
    pub(super) fn quarter(&self) -> usize {
        (self.config.max_operations() / 4).max(1)
    }

    /// Tells the store which peers are in the routing table.
    pub(super) fn tell_neighbours(&mut self) {
        let mut digests = Vec::new();
        for bucket in self.kad.kbuckets() {
            let digest =
                |key: &kad::KBucketKey<PeerId>| <[u8; 32]>::try_from(key.hashed_bytes()).ok();
            digests.extend(bucket.iter().filter_map(|entry| digest(entry.node.key)));
        }
        self.kad.store_mut().set_neighbours(digests);
    }

    /// Stores a record of another peer. The work that this takes counts for `source`; `None` if
    /// this node has read the record.
    pub(super) fn insert(&mut self, checked: ValidatedRecord, source: Option<&Source>) {
        let store = self.kad.store_mut();
        if let Err(error) = store.insert(checked, Origin::Remote) {
            tracing::debug!(%error, "a record of another peer was not stored");
        }
        let work = store.take_served();
        if let Some(source) = source
            && !work.is_zero()
        {
            self.budget.charge(source, work, self.net.now());
            self.count_work();
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p_core::Multiaddr;
    use libp2p_identity::Keypair;

    use super::*;
    use crate::behaviour::Behaviour;

    #[test]
    fn accounts_that_were_closed_are_counted() {
        let keypair = Keypair::generate_ed25519();
        let (mut behaviour, _client) = Behaviour::new(keypair, kad::PROTOCOL_NAME);
        for n in 0..5_000_u32 {
            let address = Multiaddr::from(std::net::Ipv4Addr::from(n));
            let source = Source::of_address(Some(&address));
            behaviour.env.budget.charge(&source, Duration::from_millis(1), Duration::ZERO);
        }
        behaviour.env.count_work();
        let counters = behaviour.counters();
        assert_eq!(counters.accounts + counters.accounts_closed, 5_000);
        assert!(counters.accounts_closed > 0, "{counters:?}");
        assert_eq!(counters.accounts_shared, 0);
    }

    #[test]
    fn work_of_peers_beyond_the_accounts_of_their_network_is_counted() {
        let keypair = Keypair::generate_ed25519();
        let (mut behaviour, _client) = Behaviour::new(keypair, kad::PROTOCOL_NAME);
        let address = "/ip4/198.51.100.1/tcp/1".parse().unwrap();
        for _ in 0..40 {
            let source = Source::new(PeerId::random(), Some(&address));
            behaviour.env.budget.charge(&source, Duration::from_millis(1), Duration::ZERO);
        }
        behaviour.env.count_work();
        assert_eq!(behaviour.counters().accounts_shared, 40 - 32);
    }
}
