//! What is counted and checked.

use std::time::Duration;

use bytes::Bytes;
use libp2p_smart_record::query::Reading;

use crate::{
    ids::NodeId,
    node::{KeyId, Kind},
    time::Time,
    world::World,
};

/// Samples of a duration or a number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    all: Vec<u64>,
}

impl Samples {
    pub(crate) fn add(&mut self, sample: u64) {
        self.all.push(sample);
    }

    /// The sample that this share of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.all.iter().sum::<u64>() as f64 / self.all.len().max(1) as f64
    }
}

/// Counts of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures {
    /// Duration of reads until they return.
    pub(crate) reads: Samples,
    /// Duration of writes until they return.
    pub(crate) writes: Samples,
    /// Duration of a refresh until all have taken it or failed.
    pub(crate) refreshed: Samples,
    /// Requests of a lookup, until all of the closest were asked.
    pub(crate) lookups: Samples,
    /// From a change until an answer shows it to who watches.
    pub(crate) changes: Samples,
    /// Lookups of who watches.
    pub(crate) watches: u64,
    pub(crate) requests: u64,
    pub(crate) messages: u64,
    pub(crate) connections: u64,
    pub(crate) bytes: u64,
    pub(crate) puts: u64,
    pub(crate) silences: u64,
    pub(crate) timed_out: u64,
    pub(crate) complete: u64,
    pub(crate) repaired: u64,
    pub(crate) turns: u64,
    pub(crate) refreshes: u64,
    pub(crate) unacknowledged: u64,
    /// Spaces of writers that reads have found.
    pub(crate) found: u64,
    /// Live acknowledged updates that reads have not found, whoever has them.
    pub(crate) not_found: u64,
    pub(crate) empty_and_complete: u64,
    pub(crate) faults: Faults,
}

/// What must never happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// An acknowledged update was not found although one of the peers that had taken it is up,
    /// honest and connected.
    pub(crate) lost: u64,
    /// What has expired was visible.
    pub(crate) expired: u64,
    /// What was withdrawn, with an acknowledgement before the read began, was visible.
    pub(crate) withdrawn: u64,
    /// As `lost`, by a reading that was complete, and the peer still has it.
    pub(crate) falsely_complete: u64,
}

impl Faults {
    pub(crate) fn all(&self) -> u64 {
        self.lost + self.expired + self.withdrawn + self.falsely_complete
    }
}

/// How many copies there are of an update.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copies {
    /// Servers that are up, keep to the rules and have the update or a later one.
    pub(crate) all: usize,
    /// Those among the 20 closest to the key.
    pub(crate) close: usize,
}

impl World {
    /// Checks what a read of a node has found.
    pub(crate) fn check_reading(
        &mut self,
        reader: NodeId,
        key: KeyId,
        begun: Time,
        reading: &Reading,
        is_complete: bool,
    ) {
        let now = self.clock_of(reader);
        let later = now.saturating_add(Duration::from_millis(2 * self.config.skew_ms));
        let view = reading.view();
        let mut faults = Faults::default();
        let (mut shown_count, mut not_found) = (0, 0);
        for writer in self.writers.iter().filter(|writer| writer.key == key) {
            let shown = view.get(&writer.id.peer_id());
            if let Some(shown) = shown {
                shown_count += 1;
                faults.expired += u64::from(shown.expires_at <= now);
                let is_withdrawn = writer.withdrawn_at.is_some_and(|at| at < begun);
                faults.withdrawn += u64::from(is_withdrawn);
            }
            let Some(acknowledged) = &writer.acknowledged else { continue };
            // By no clock it has expired.
            if acknowledged.at >= begun || acknowledged.expires_at <= later {
                continue;
            }
            let space = reading.snapshot.record().and_then(|record| record.space(&writer.id));
            let found = space.and_then(|space| space.newest());
            if found.is_some_and(|found| found >= acknowledged.position) {
                continue;
            }
            not_found += 1;
            let takers = acknowledged.by.iter().map(|node| &self.nodes[*node as usize]);
            let mut takers = takers.filter(|node| node.is_honest() && !self.partition.is_on());
            let is_lost = takers.clone().next().is_some();
            let has_it = takers.any(|node| {
                let record = node.record(&self.rules, &self.keys[key as usize].key);
                let space = record.as_ref().and_then(|record| record.space(&writer.id));
                space.and_then(|space| space.newest()) >= Some(acknowledged.position)
            });
            faults.lost += u64::from(is_lost);
            faults.falsely_complete += u64::from(has_it && is_complete);
        }
        self.measures.found += shown_count;
        self.measures.not_found += not_found;
        let is_empty_and_complete = reading.is_empty() && is_complete;
        self.measures.empty_and_complete += u64::from(is_empty_and_complete);
        let all = &mut self.measures.faults;
        all.lost += faults.lost;
        all.expired += faults.expired;
        all.withdrawn += faults.withdrawn;
        all.falsely_complete += faults.falsely_complete;
    }

    /// Notes the changes that an answer to who watches shows for the first time.
    pub(crate) fn on_watched(&mut self, key: KeyId, value: &Bytes) {
        let record = self.rules.decode(&self.keys[key as usize].key, value);
        let Some(record) = record else { return };
        for writer in self.writers.iter_mut().filter(|writer| writer.key == key) {
            let shown = record.space(&writer.id).and_then(|space| space.newest());
            if shown >= writer.newest.map(|(position, _)| position)
                && let Some(at) = writer.changed_at.take()
            {
                self.measures.changes.add(self.now - at);
            }
        }
    }

    /// The copies of the latest acknowledged update of a writer.
    pub(crate) fn copies(&self, writer: usize) -> Option<Copies> {
        let writer = &self.writers[writer];
        let acknowledged = writer.acknowledged.as_ref()?;
        let key = &self.keys[writer.key as usize].key;
        let holds = |id: &u32| {
            let node = &self.nodes[*id as usize];
            node.is_up() && matches!(node.kind, Kind::Ours | Kind::Plain) && {
                let record = node.record(&self.rules, key);
                let space = record.as_ref().and_then(|record| record.space(&writer.id));
                space.and_then(|space| space.newest()) >= Some(acknowledged.position)
            }
        };
        let holders: Vec<_> =
            self.sent_to[writer.key as usize].iter().copied().filter(holds).collect();
        let closest = self.closest(writer.key, crate::ids::K);
        let close = closest.iter().filter(|id| holders.contains(id)).count();
        Some(Copies { all: holders.len(), close })
    }
}
