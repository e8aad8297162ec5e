//! Metrics after real traffic.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{
    PeerId,
    identity::Keypair,
    kad::{
        self, ProviderRecord,
        store::{MemoryStoreConfig, RecordStore},
    },
};
use libp2p_smart_record::{
    AskerTag, Coverage, RecordKey, RingArc,
    behaviour::{BehaviourConfig, Builder, Event, Validation},
    client::ClientError,
    metrics::{Metrics, Sample, Source},
    store::{SmartRecordStore, StoreEvent},
};
use prometheus_client::registry::Registry;
use smart_record_testing::{ManualClock, forge, metrics};

use crate::{
    nodes::{self, within},
    peer::{MINUTE, Peer, Setup, key, mesh, quiet, says},
};

/// A registry with metrics and their last values.
struct Scraper {
    registry: Registry,
    metrics: Metrics,
}

impl Scraper {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        Self { registry, metrics }
    }

    fn scrape(&self) -> BTreeMap<String, f64> {
        metrics::scrape(&self.registry)
    }

    fn setup(&self, config: BehaviourConfig) -> Setup {
        let metrics = self.metrics.clone();
        let tweak = Box::new(move |builder: Builder| builder.with_metrics(&metrics));
        Setup { config, tweak, ..Setup::default() }
    }

    async fn start(&self) -> Peer {
        self.setup(quiet()).start().await
    }
}

/// Sends a PUT to another peer, bypassing the local store, and waits for Kademlia's answer.
async fn send(from: &mut Peer, to: &Peer, value: &[u8]) {
    let record = kad::Record::new(kad::RecordKey::new(&key()), value.to_vec());
    let to = to.id;
    from.smart(move |smart| {
        smart.kad_mut().put_record_to(record, [to].into_iter(), kad::Quorum::One)
    })
    .await;
    from.until(|event| match event {
        Event::Kad(kad::Event::OutboundQueryProgressed { .. }) => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn metrics_match_the_traffic() {
    let scraper = Scraper::new();
    let (mut a, mut b) = (scraper.start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let before = scraper.scrape();
        assert_eq!((before["reads_total"], before["store_records"]), (0.0, 0.0));
        // Three writes, one of them refused; two reads, one for the earlier content of the space.
        a.client.publish(key(), says("one"), MINUTE).await.unwrap();
        a.client.publish(key(), says("two"), MINUTE).await.unwrap();
        let refused = a.client.publish("/unheard/of", says("x"), MINUTE).await;
        assert!(matches!(refused, Err(ClientError::Refused(_))));
        b.client.publish(key(), says("b"), MINUTE).await.unwrap();
        let reading = a.client.get(key()).await.unwrap();
        assert_eq!(reading.holders, [b.id]);
        send(&mut b, &a, b"junk").await;
        a.until(|event| matches!(event, Event::Store(StoreEvent::Refused { .. })).then_some(()))
            .await;

        let (counters, store, usage) = a
            .smart(|smart| {
                let counters = smart.counters();
                let store = smart.store_mut();
                (counters, store.counters(), store.usage())
            })
            .await;
        let scraped = scraper.scrape();
        let count = |name: &str| scraped[name] as u64;
        assert_eq!(
            (count("reads_total"), count("lookups_total"), count("writes_total")),
            (2, 2, 2)
        );
        assert_eq!((counters.reads, counters.lookups, counters.writes), (2, 2, 2));
        assert_eq!((count("store_admitted_updates_total"), store.admitted), (3, 3));
        assert_eq!(count("store_known_total"), store.known);
        assert_eq!(count("store_refused_total{fault=\"malformed\"}"), 1);
        assert_eq!(count("store_refused_total{fault=\"expired\"}"), 0);
        assert_eq!(count("store_records"), 1);
        assert!(usage.bytes > 0);
        assert_eq!(count("store_size_bytes"), usage.bytes as u64);
        for purpose in ["client", "resume"] {
            assert_eq!(count(&format!("read_duration_seconds_count{{purpose=\"{purpose}\"}}")), 1);
            assert_eq!(count(&format!("read_lookups_sum{{purpose=\"{purpose}\"}}")), 1);
        }
        // The first read found nothing, the second the spaces of both.
        assert_eq!(count("answer_size_bytes_count"), 1);
        let mut answer = reading.snapshot.record().unwrap().encode();
        Coverage::new([RingArc::RING], 2, [7; 32]).append_to(&mut answer);
        AskerTag::of(&a.id).append_to(&mut answer);
        assert_eq!(count("answer_size_bytes_sum"), answer.len() as u64);
        assert_eq!(count("publish_duration_seconds_count{outcome=\"done\"}"), 2);
        assert_eq!(count("publish_duration_seconds_count{outcome=\"failed\"}"), 1);
        let waited = scraped["publish_duration_seconds_sum{outcome=\"done\"}"];
        assert!(waited > 0.0 && waited < 60.0, "{waited}");
        assert!(count("hold_duration_seconds_count") > 10);
        // Two own writes, one of the other peer, and junk; the second read brought nothing new.
        assert_eq!(count("store_write_duration_seconds_count"), 4);
        assert!(count("store_commit_duration_seconds_count") >= 3);
        assert_eq!(count("validation_duration_seconds_count"), 0, "it is inline");
    })
    .await;
}

#[tokio::test]
async fn metrics_show_validation_off_the_task_and_refusals_without_validation() {
    let scraper = Scraper::new();
    let work = Duration::from_millis(5);
    let config = quiet().with_validation(Validation::OffTask).with_work_per_second(work);
    let clock = ManualClock::at(forge::at(forge::NOW));
    let a = scraper.setup(config).at(&clock).start().await;
    let mut b = Peer::start().await;
    let nothing = scraper.setup(quiet().with_work_per_second(Duration::ZERO)).start().await;
    mesh(&[&a, &b]).await;
    mesh(&[&nothing, &b]).await;
    within(async {
        // More work than there is for a second.
        let dear = forge::dear();
        while scraper.scrape()["messages_held_total"] == 0.0 {
            send(&mut b, &a, &dear).await;
            a.wake().await;
        }
        send(&mut b, &nothing, &dear).await;
        while scraper.scrape()["inbound_refused_total{reason=\"over_budget\"}"] == 0.0 {
            nothing.wake().await;
        }
        // An admitted record is validated on another thread.
        while scraper.scrape()["store_write_duration_seconds_count"] == 0.0 {
            a.wake().await;
        }
        while scraper.scrape()["messages_waiting"] != 0.0 {
            a.wake().await;
        }
        let scraped = scraper.scrape();
        assert!(scraped["validation_duration_seconds_count"] >= 1.0);
        assert!(scraped["store_verified_signatures_total"] >= 16.0);
        assert!(scraped["work_milliseconds_total"] >= 5.0);
        assert!(scraped["accounts"] >= 2.0, "a network and a peer");
        assert_eq!(scraped["disconnected_total"] + scraped["connections_refused_total"], 0.0);
    })
    .await;
}

#[tokio::test]
async fn metrics_show_the_number_of_repaired_peers() {
    let scraper = Scraper::new();
    let (mut a, b) = (scraper.start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        a.client.publish(key(), says("x"), MINUTE).await.unwrap();
        assert_eq!(scraper.scrape()["repaired_peers_count"], 0.0);
        let late = Peer::start().await;
        mesh(&[&a, &late]).await;
        a.client.get(key()).await.unwrap();
        a.until(|event| matches!(event, Event::Repaired { .. }).then_some(())).await;
        let scraped = scraper.scrape();
        assert_eq!((scraped["repaired_peers_count"], scraped["repaired_peers_sum"]), (1.0, 1.0));
        assert_eq!(scraped["repairs_total"], 1.0);
    })
    .await;
}

#[tokio::test]
async fn metrics_show_how_many_writers_are_remembered_and_forgotten() {
    let scraper = Scraper::new();
    let a = scraper.setup(quiet().with_max_known_writers(2)).start().await;
    let b = Peer::start().await;
    mesh(&[&a, &b]).await;
    within(async {
        for (n, remembered, forgotten) in [(1, 1.0, 0.0), (2, 2.0, 0.0), (3, 2.0, 1.0)] {
            let key = RecordKey::new(format!("/sr/metrics/{n}"));
            b.store(&nodes::says(&mut nodes::signer(&key), "x")).await;
            assert_eq!(a.client.get(key).await.unwrap().view().len(), 1);
            let scraped = scraper.scrape();
            assert_eq!(scraped["known_writers"], remembered);
            assert_eq!(scraped["known_writers_forgotten_total"], forgotten);
        }
    })
    .await;
}

#[tokio::test]
async fn no_label_contains_a_key_or_a_peer() {
    let scraper = Scraper::new();
    let (a, b) = (scraper.start().await, Peer::start().await);
    mesh(&[&a, &b]).await;
    within(async {
        let mut series = None;
        for n in 0..3 {
            let key = RecordKey::new(format!("/sr/metrics/{n}"));
            let writer = Peer::start().await;
            mesh(&[&a, &writer]).await;
            writer.client.publish(key.clone(), says("x"), MINUTE).await.unwrap();
            a.client.publish(key.clone(), says("y"), MINUTE).await.unwrap();
            a.client.get(key).await.unwrap();
            let text = metrics::text(&scraper.registry);
            for secret in [a.id, b.id, writer.id].map(|peer| peer.to_string()) {
                assert!(!text.contains(&secret));
            }
            assert!(!text.contains("/sr/"));
            let scraped: Vec<_> = scraper.scrape().into_keys().collect();
            assert_eq!(*series.get_or_insert(scraped.clone()), scraped, "no series is added");
        }
    })
    .await;
}

#[test]
fn a_store_is_measured_once_and_its_counters_outlive_it() {
    let scraper = Scraper::new();
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let shown = |name: &str| scraper.scrape()[name] as u64;
    {
        let store = SmartRecordStore::new(local).with_metrics(&scraper.metrics);
        let mut store = store.with_metrics(&scraper.metrics);
        let value = nodes::says(&mut nodes::signer(&key()), "x").encode();
        store.write(&key(), &value).unwrap();
        assert_eq!(shown("store_admitted_updates_total"), 1);
        assert_eq!(shown("store_size_bytes"), store.usage().bytes as u64);
        assert_eq!(shown("store_write_duration_seconds_count"), 1);
        let other = Keypair::generate_ed25519().public().to_peer_id();
        let mut other = SmartRecordStore::new(other).with_metrics(&scraper.metrics);
        other.write(&key(), &value).unwrap();
        assert_eq!((shown("store_admitted_updates_total"), shown("store_records")), (2, 2));
        store.forget(&key()).unwrap();
        assert_eq!(shown("store_records"), 1);
        let refused = || {
            let of = |origin| format!("store_refused_providers_total{{origin=\"{origin}\"}}");
            (shown(&of("local")), shown(&of("remote")))
        };
        assert_eq!(refused(), (0, 0));
        let room = MemoryStoreConfig::default().max_provided_keys;
        for n in 0..=room {
            let key = kad::RecordKey::new(&n.to_be_bytes());
            let added = store.add_provider(ProviderRecord::new(key, PeerId::random(), Vec::new()));
            assert_eq!(added.is_ok(), n < room);
        }
        assert_eq!(refused(), (0, 1));
    }
    assert_eq!((shown("store_admitted_updates_total"), shown("store_records")), (2, 0));
    assert_eq!(shown("store_size_bytes"), 0);
}

/// A custom source.
#[derive(Debug)]
struct Visits {
    all: u64,
    now: u64,
}

impl Source for Visits {
    fn samples(&self) -> Vec<Sample> {
        let labelled = |label| move |sample: Sample| sample.with_label("room", label);
        vec![
            labelled("hall")(Sample::counter("visits", "Visits", self.all)),
            Sample::gauge("visitors", "Visitors", self.now),
        ]
    }
}

#[test]
fn sources_are_summed_and_the_counts_of_dropped_ones_stay() {
    let scraper = Scraper::new();
    let shown = || {
        let scraped = scraper.scrape();
        (scraped["visits_total{room=\"hall\"}"], scraped["visitors"])
    };
    let [one, two] = [(3, 2), (4, 1)].map(|(all, now)| Arc::new(Mutex::new(Visits { all, now })));
    for source in [&one, &two, &one] {
        scraper.metrics.add_source(source.clone());
    }
    assert_eq!(shown(), (7.0, 3.0));
    one.lock().unwrap().all += 10;
    assert_eq!(shown(), (17.0, 3.0));
    let gone = Arc::downgrade(&one);
    drop(one);
    for _ in 0..2 {
        assert_eq!(shown(), (17.0, 1.0));
        assert!(gone.upgrade().is_none(), "the dropped source is not kept");
    }
    drop(two);
    assert_eq!(shown(), (17.0, 0.0));
}
