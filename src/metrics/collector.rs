//! What is read when it is scraped: counters, and how much is stored.
//!
//! **Invariants.** A counter never goes down: those of behaviours and stores that are gone stay in the sum. What was
//! stored there does not.

use std::{
    collections::BTreeMap,
    fmt::Error,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{
    behaviour::{BehaviourCounters, InboundRefusal},
    services::ServiceCounters,
    store::{Counters, Usage},
    validator::Fault,
};

/// Where the numbers are. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Arc<Mutex<Followed>>);

#[derive(Debug, Default)]
struct Followed {
    behaviours: Vec<Arc<Mutex<BehaviourCounters>>>,
    stores: Vec<FollowedStore>,
    services: Vec<Arc<Mutex<ServiceCounters>>>,
}

#[derive(Debug)]
struct FollowedStore {
    counters: Arc<Mutex<Counters>>,
    usage: Arc<Mutex<Usage>>,
}

impl FollowedStore {
    /// Of a store that is gone nobody else has a share.
    fn usage(&self) -> Option<Usage> {
        (Arc::strong_count(&self.usage) > 1).then(|| *lock(&self.usage))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sources {
    pub(crate) fn follow_behaviour(&self, counters: Arc<Mutex<BehaviourCounters>>) {
        lock(&self.0).behaviours.push(counters);
    }

    pub(crate) fn follow_service(&self, counters: Arc<Mutex<ServiceCounters>>) {
        lock(&self.0).services.push(counters);
    }

    /// A store is followed once, however often it is given.
    pub(crate) fn follow_store(&self, counters: Arc<Mutex<Counters>>, usage: Arc<Mutex<Usage>>) {
        let stores = &mut lock(&self.0).stores;
        if stores.iter().all(|store| !Arc::ptr_eq(&store.counters, &counters)) {
            stores.push(FollowedStore { counters, usage });
        }
    }
}

#[derive(Debug)]
pub(super) struct Collector(Sources);

impl Collector {
    pub(super) const fn new(sources: Sources) -> Self {
        Self(sources)
    }
}

/// A counter: its name, what it counts, and how much that is.
type Count = (&'static str, &'static str, u64);

// Each field is named, so that none is forgotten.
fn of_behaviour(counters: &BehaviourCounters) -> [Count; 9] {
    let BehaviourCounters {
        reads,
        lookups,
        bad_answers,
        withheld,
        writes,
        repairs,
        repairs_put_off,
        refreshes,
        replications,
        inbound_refused: _,
    } = counters;
    [
        ("reads", "Reads that have ended, whoever asked for them", *reads),
        ("lookups", "Lookups of Kademlia that reads took", *lookups),
        ("bad_answers", "Answers to reads that were refused", *bad_answers),
        ("withheld", "Writers of whom a read found less than was seen before", *withheld),
        ("writes", "Writes by clients", *writes),
        ("repairs", "Peers that were sent what they lacked", *repairs),
        (
            "repairs_put_off",
            "Peers that were not, because of what was sent before or is under way",
            *repairs_put_off,
        ),
        ("refreshes", "Own spaces sent again", *refreshes),
        ("replications", "Turns of stored records to be replicated", *replications),
    ]
}

fn of_store(counters: &Counters) -> [Count; 10] {
    let Counters {
        admitted,
        known,
        values,
        refused: _,
        collected,
        superseded,
        spaces_evicted,
        records_evicted,
        rows_discarded,
        storage_failures,
        events_lost,
    } = counters;
    [
        ("store_admitted_updates", "Updates admitted to spaces", *admitted),
        ("store_known", "Updates and values received again", *known),
        ("store_values", "Values of other kinds stored", *values),
        ("store_collected", "Updates and values collected after they had expired", *collected),
        ("store_superseded_updates", "Updates dropped for newer ones", *superseded),
        (
            "store_evicted_spaces",
            "Spaces dropped because their record had too many",
            *spaces_evicted,
        ),
        ("store_evicted_records", "Records dropped because the store was full", *records_evicted),
        (
            "store_discarded_rows",
            "Parts removed because they were damaged or are not admitted any more",
            *rows_discarded,
        ),
        ("store_failures", "Failures of the storage", *storage_failures),
        ("store_lost_events", "Events lost by subscribers that did not keep up", *events_lost),
    ]
}

fn of_service(counters: &ServiceCounters) -> [Count; 7] {
    let ServiceCounters { looks, checks, unknown, put_off, refused, published, failed } = counters;
    [
        ("service_looks", "Records looked through for requests", *looks),
        ("service_checks", "Checks made for requests", *checks),
        ("service_unknown", "Checks that have come to nothing", *unknown),
        ("service_put_off", "Checks that were put off", *put_off),
        ("service_refused", "Requests not checked, at each look", *refused),
        ("service_published", "Findings published", *published),
        ("service_failed", "Findings that could not be published", *failed),
    ]
}

// These are shown from the beginning; others there may be once they have happened.
const FAULTS: [Fault; 8] = [
    Fault::Malformed,
    Fault::Invalid,
    Fault::Expired,
    Fault::Stale,
    Fault::LimitExceeded,
    Fault::RefusedByPolicy,
    Fault::Unsupported,
    Fault::Caller,
];

const REFUSALS: [InboundRefusal; 3] =
    [InboundRefusal::RateLimited, InboundRefusal::QueueFull, InboundRefusal::Stopped];

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        // Copies, so that nobody waits for a scrape.
        let (behaviours, stores, services, usage) = {
            let followed = lock(&self.0.0);
            let behaviours: Vec<_> = followed.behaviours.iter().map(|c| lock(c).clone()).collect();
            let stores: Vec<_> =
                followed.stores.iter().map(|store| lock(&store.counters).clone()).collect();
            let usage: Vec<_> = followed.stores.iter().filter_map(FollowedStore::usage).collect();
            let services: Vec<_> = followed.services.iter().map(|c| lock(c).clone()).collect();
            (behaviours, stores, services, usage)
        };
        encode_all(&mut encoder, of_behaviour, &behaviours)?;
        let refused = by_kind(REFUSALS, behaviours.iter().map(|c| &c.inbound_refused));
        encode_labelled(
            &mut encoder,
            ("inbound_refused", "Inbound records refused unread", "reason"),
            refused.iter().map(|(reason, count)| (reason.as_str(), *count)),
        )?;
        encode_all(&mut encoder, of_store, &stores)?;
        let refused = by_kind(FAULTS, stores.iter().map(|c| &c.refused));
        encode_labelled(
            &mut encoder,
            ("store_refused", "Values and updates refused, by class of reason", "fault"),
            refused.iter().map(|(fault, count)| (fault.as_str(), *count)),
        )?;
        encode_all(&mut encoder, of_service, &services)?;
        let amount = |of: fn(&Usage) -> usize| {
            sum(usage.iter().map(|usage| u64::try_from(of(usage)).unwrap_or(u64::MAX)))
        };
        encode_gauge(
            &mut encoder,
            ("store_records", "Records stored", None),
            amount(|u| u.records),
        )?;
        let size = ("store_size", "How much is stored", Some(&Unit::Bytes));
        encode_gauge(&mut encoder, size, amount(|u| u.bytes))
    }
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn by_kind<'a, K: Copy + Ord + 'a>(
    kinds: impl IntoIterator<Item = K>,
    counted: impl Iterator<Item = &'a BTreeMap<K, u64>>,
) -> BTreeMap<K, u64> {
    let mut all: BTreeMap<K, u64> = kinds.into_iter().map(|kind| (kind, 0)).collect();
    for (kind, count) in counted.flatten() {
        let sum = all.entry(*kind).or_default();
        *sum = sum.saturating_add(*count);
    }
    all
}

fn encode_all<C: Default, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    counts: fn(&C) -> [Count; N],
    of: &[C],
) -> Result<(), Error> {
    let mut all = counts(&C::default());
    for of in of {
        for ((.., sum), (.., count)) in all.iter_mut().zip(counts(of)) {
            *sum = sum.saturating_add(count);
        }
    }
    for (name, help, sum) in all {
        let help = format!("{help}.");
        let metric = encoder.encode_descriptor(name, &help, None, MetricType::Counter)?;
        ConstCounter::new(sum).encode(metric)?;
    }
    Ok(())
}

fn encode_labelled(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, label): (&str, &str, &'static str),
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> Result<(), Error> {
    let mut metric =
        encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
    for (value, count) in counts {
        let labels = [(label, value)];
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    value: u64,
) -> Result<(), Error> {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}
