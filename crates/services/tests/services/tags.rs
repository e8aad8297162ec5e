//! Custom tags.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p_smart_record::{
    Clock, Kind, Limits, Open, Predicate, Registry, SpaceRules, SpaceSigner, SystemClock, Writer,
};
use smart_record_services::{Outcome, RequestRefusal, Service, ServiceEvent, SmartTag};

use super::server::{Server, eager};
use smart_record_testing_swarms::within;

/// Answers `shout(; text="x")` with `shouted(; text="X")`, and counts its checks.
#[derive(Clone, Default)]
struct Shout(Arc<AtomicUsize>);

impl SmartTag for Shout {
    fn tag(&self) -> &str {
        "shout"
    }

    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let text = match request.named.get("text").map(|node| &node.kind) {
            Some(Kind::String(text)) => text.to_uppercase(),
            _ => return async { Outcome::Unknown }.boxed(),
        };
        async move { Outcome::Found(Predicate::new("shouted").with_named("text", text)) }.boxed()
    }
}

/// A tag whose check never ends.
struct Hang;

impl SmartTag for Hang {
    fn tag(&self) -> &str {
        "hang"
    }

    fn check(&self, _: &Predicate) -> BoxFuture<'static, Outcome> {
        std::future::pending().boxed()
    }
}

/// A tag that panics at `panic(; when=…)`, at once or later.
struct Panic;

impl SmartTag for Panic {
    fn tag(&self) -> &str {
        "panic"
    }

    fn request(&self, asked: &Predicate) -> Result<Predicate, RequestRefusal> {
        assert_ne!(*asked, panic_when("asked"), "of the test");
        Ok(asked.clone())
    }

    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome> {
        assert_ne!(*request, panic_when("begun"), "of the test");
        async { panic!("of the test") }.boxed()
    }
}

fn panic_when(when: &str) -> Predicate {
    Predicate::new("panic").with_named("when", when)
}

fn shout(text: &str) -> Predicate {
    Predicate::new("shout").with_named("text", text)
}

#[tokio::test]
async fn requests_with_a_custom_tag_are_answered() {
    within(async {
        let tag = Shout::default();
        let service = Service::builder().with_tag(tag.clone()).with_config(eager());
        let mut service = Server::start(service, &[]).await;
        let asker = Server::plain(&[&service]).await;
        asker.asks([shout("hello")]).await;
        let found = service.published().await;
        assert_eq!(found.finding, Predicate::new("shouted").with_named("text", "HELLO"));
        assert_eq!(asker.reads().await, [(service.id, found)]);
        assert_eq!(tag.0.load(Ordering::Relaxed), 1);
    })
    .await;
}

#[tokio::test]
async fn requests_stored_before_the_service_began_are_answered() {
    within(async {
        let asker = Server::plain(&[]).await;
        asker.asks([shout("early")]).await;
        let record = asker.client.stored(super::server::key()).await.unwrap();
        let service = Service::builder().with_tag(Shout::default()).with_config(eager());
        let mut service = Server::start_with(service, &[], record).await;
        assert_eq!(service.published().await.request, shout("early"));
    })
    .await;
}

#[tokio::test]
async fn case_31_findings_in_a_space_beyond_the_limit_of_its_record_are_not_written_again() {
    within(async {
        let limits = Limits::default().with_spaces_per_record(2);
        let rules = SpaceRules::new(limits.clone(), Open);
        let registry = Registry::empty().with("sr", rules).unwrap();
        let service = Service::builder().with_tag(Shout::default()).with_config(eager());
        let mut service = Server::start_in(registry, service, &[], None).await;
        let sender = Server::plain(&[&service]).await;
        let key = super::server::key();
        let own = service.client.writer().rank(&key);
        let mut below = std::iter::repeat_with(libp2p::identity::Keypair::generate_ed25519)
            .filter(|keypair| Writer::from(&keypair.public()).rank(&key) < own)
            .map(|keypair| SpaceSigner::new(key.clone(), keypair, limits.clone()));
        let mut askers = [below.next().unwrap(), below.next().unwrap()];
        let mut published = Vec::new();
        // The second takes the place of the service's space.
        for (asker, text) in [(0, "a"), (1, "b"), (0, "c")] {
            let (now, asker) = (SystemClock.now(), &mut askers[asker]);
            asker.merge(super::server::asking([shout(text)]), now, super::server::MINUTE).unwrap();
            sender.client.put(key.clone(), asker.record(now).encode()).await.unwrap();
            while published.last() != Some(&shout(text)) {
                published.push(service.published().await.request);
            }
        }
        assert_eq!(published, [shout("a"), shout("b"), shout("c")]);
        let record = service.client.stored(key.clone()).await.unwrap().unwrap();
        assert_eq!(record.spaces().len(), 2);
        assert_eq!(record.space(service.client.writer()), None);
    })
    .await;
}

#[tokio::test]
async fn refused_requests_are_answered_later_although_the_record_does_not_change() {
    within(async {
        let service = Service::builder().with_tag(Shout::default()).with_config(
            eager().with_sweep_interval(Duration::from_millis(50)).with_max_waiting(1),
        );
        let mut service = Server::start(service, &[]).await;
        let asker = Server::plain(&[&service]).await;
        asker.asks([shout("a"), shout("b"), shout("c")]).await;
        let mut found: Vec<_> = Vec::new();
        while found.len() < 3 {
            found.push(service.published().await.request);
        }
        found.sort();
        assert_eq!(found, [shout("a"), shout("b"), shout("c")]);
    })
    .await;
}

#[tokio::test]
async fn a_check_that_hangs_times_out() {
    within(async {
        let config = eager().with_check_timeout(Duration::from_millis(200)).with_concurrency(1);
        let service =
            Service::builder().with_tag(Hang).with_tag(Shout::default()).with_config(config);
        let mut service = Server::start(service, &[]).await;
        let asker = Server::plain(&[&service]).await;
        asker.asks([Predicate::new("hang")]).await;
        let request = Predicate::new("hang");
        assert_eq!(service.event().await, ServiceEvent::Unknown { request });
        asker.asks([shout("next")]).await;
        assert_eq!(service.published().await.request, shout("next"));
    })
    .await;
}

#[tokio::test]
async fn a_tag_that_panics_has_no_finding_and_does_not_end_the_service() {
    within(async {
        let service = Service::builder().with_tag(Panic).with_tag(Shout::default());
        let mut service = Server::start(service.with_config(eager()), &[]).await;
        let asker = Server::plain(&[&service]).await;
        asker.asks([panic_when("asked")]).await;
        let event = service.event().await;
        let ServiceEvent::Refused { reason, .. } = event else { panic!("{event:?}") };
        assert_eq!(reason, RequestRefusal::Malformed);
        for request in [panic_when("begun"), panic_when("checked")] {
            let document = super::server::asking([request.clone()]);
            let (key, minute) = (super::server::key(), super::server::MINUTE);
            asker.client.replace(key, document, minute).await.unwrap();
            loop {
                if let ServiceEvent::Unknown { request: unknown } = service.event().await {
                    assert_eq!(unknown, request);
                    break;
                }
            }
        }
        asker.asks([shout("next")]).await;
        assert_eq!(service.published().await.request, shout("next"));
        let counters = service.events.counters();
        assert_eq!((counters.checks, counters.unknown, counters.published), (3, 2, 1));
        assert!(counters.refused >= 1 && counters.scans >= 4);
    })
    .await;
}

#[tokio::test]
async fn the_service_ends_with_the_last_client() {
    within(async {
        let service = Service::builder()
            .with_tag(Shout::default())
            .with_config(eager().with_sweep_interval(Duration::from_millis(50)));
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let (mut records, client) = libp2p_smart_record::behaviour::Behaviour::new(
            keypair,
            smart_record_testing_swarms::PROTOCOL,
        );
        let service = service.build(&mut records);
        drop(client);
        service.task.await;
    })
    .await;
}
