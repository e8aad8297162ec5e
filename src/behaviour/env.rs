//! What each part of a behaviour is handed: Kademlia with its store, the rules, the time, and where to tell what has happened.
//!
//! **Invariants.** It decides nothing and holds nothing that is under way.

use std::{collections::VecDeque, sync::Arc};

use libp2p_identity::PeerId;
use libp2p_kad as kad;

use super::{
    config::BehaviourConfig,
    event::{BehaviourCounters, Event},
    holders::Holders,
    network::Network,
    rollback::RollbackMemory,
};
use crate::{
    client::ClientError,
    meter::{Meter, Observed},
    query::Bounds,
    store::{Origin, SmartRecordStore, ValidatedRecord},
};
use smart_record_core::{Clock, Namespace, RecordKey, Registry, SpaceRules, Timestamp, Validated};
use smart_record_lookup::Lookup;

/// Kademlia with its store, and what goes with it.
pub(super) struct Env {
    pub(super) kad: kad::Behaviour<SmartRecordStore>,
    pub(super) net: Network,
    /// Who was found to be closest to which key.
    pub(super) holders: Holders,
    pub(super) local: PeerId,
    pub(super) config: BehaviourConfig,
    pub(super) bounds: Bounds,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) registry: Registry,
    pub(super) known: RollbackMemory,
    /// What the user is to be told.
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

    /// Tells the user of peers that a search has found closer to a key than is plausible.
    pub(super) fn tell_implausible(&mut self, key: &RecordKey, search: &Lookup) {
        let peers = search.implausible(&self.net.size);
        if !peers.is_empty() {
            self.events.push_back(Event::Implausible { key: key.clone(), peers });
        }
    }

    /// The rules of a key under which there are spaces.
    pub(super) fn rules(&self, key: &RecordKey) -> Result<SpaceRules, ClientError> {
        match self.registry.resolve(key) {
            Ok(Namespace::Spaces(rules)) => Ok(rules.clone()),
            _ => Err(ClientError::Unregistered(key.clone())),
        }
    }

    /// How many things of the behaviour's own of each kind may be under way.
    pub(super) fn quarter(&self) -> usize {
        (self.config.max_operations() / 4).max(1)
    }

    /// Stores what others have said.
    pub(super) fn insert(&mut self, checked: ValidatedRecord) {
        if let Err(error) = self.kad.store_mut().insert(checked, Origin::Remote) {
            tracing::debug!(%error, "what others have said is not stored");
        }
    }

    /// When a value that is not a smart record ends: by its own word, or else by that of those who have it.
    pub(super) fn end_of(
        &self,
        key: &RecordKey,
        value: &[u8],
        lifetime_ends_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match self.registry.validate(key, value, now).ok()? {
            Validated::Value(validity) => validity.expires_at.or(lifetime_ends_at),
            Validated::Record(_) => None,
        }
    }
}
