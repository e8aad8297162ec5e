//! Floods stay within the bounds, and services do not answer each other.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::PeerId;
use libp2p_smart_record::{Clock, Dict, Predicate, RecordKey, SystemClock, client::ClientError};
use smart_record_services::{
    DialPolicy, Outcome, RequestRefusal, Service, ServiceEvent, SmartTag, dialable, findings,
};
use tokio::net::TcpListener;

use super::server::{MINUTE, Server, asking, connections, eager, key, open, reachability};
use smart_record_testing_swarms::within;

/// Answers `ask` with `yes`.
struct Yes;

impl SmartTag for Yes {
    fn tag(&self) -> &str {
        "ask"
    }

    fn check(&self, _: &Predicate) -> BoxFuture<'static, Outcome> {
        async { Outcome::Found(Predicate::new("yes")) }.boxed()
    }
}

#[tokio::test]
async fn a_flood_of_requests_causes_few_dials() {
    within(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let begun = Instant::now();
        // The defaults, except for private addresses.
        let policy = DialPolicy::default().with_private_addresses(true);
        let mut service = Server::start(Service::builder().with_reachability(policy), &[]).await;
        let mut asked = 0;
        for _ in 0..5 {
            let asker = Server::plain(&[&service]).await;
            for n in 0..20 {
                let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", PeerId::random());
                let request = dialable(&address.parse().unwrap());
                let key = RecordKey::new(format!("/sr/flood/{}/{n}", asker.id));
                asker.client.publish(key, asking([request]), MINUTE).await.unwrap();
                asked += 1;
            }
        }
        let mut refused = 0;
        while refused < 5 {
            if let ServiceEvent::Refused { reason, .. } = service.event().await {
                assert_eq!(reason, RequestRefusal::TooManyWaitingOfWriter);
                refused += 1;
            }
        }
        // Sixteen checks start at once, and most of them are put off by the rate of the host.
        let is_held_back = || service.events.counters().put_off >= 10;
        let mut dials = 0;
        while dials == 0 || !is_held_back() {
            dials += connections(&listener).await;
        }
        // Four at once, and one more each minute.
        let most = 4 + begun.elapsed().as_secs() / 60;
        assert!((1..=most).contains(&dials), "{dials} dials for {asked} requests to one host");
    })
    .await;
}

#[tokio::test]
async fn the_same_request_in_many_records_causes_few_writes_and_other_writers_do_not_wait() {
    within(async {
        // The default settings.
        let (service, begun) = (Service::builder().with_tag(Yes), Instant::now());
        let mut service = Server::start(service, &[]).await;
        let [greedy, other] = [Server::plain(&[&service]).await, Server::plain(&[&service]).await];
        for n in 0..60 {
            let key = RecordKey::new(format!("/sr/many/{n}"));
            let document = asking([Predicate::new("ask")]);
            greedy.client.publish(key, document, MINUTE).await.unwrap();
        }
        other.asks([Predicate::new("ask").with("something else")]).await;
        let mut writes = 0;
        loop {
            match service.event().await {
                ServiceEvent::Published { key: at, .. } if at == key() => break,
                ServiceEvent::Published { .. } => writes += 1,
                _ => {}
            }
        }
        // Eight at once for one writer, and one more each minute.
        let most = 8 + begun.elapsed().as_secs() / 60;
        assert!((1..=most).contains(&writes), "{writes} writes for 60 records");
        assert!(service.events.counters().scans > 60, "all were scanned");
    })
    .await;
}

#[tokio::test]
async fn the_sweep_finds_a_request_even_if_other_records_change_all_the_time() {
    within(async {
        let asker = Server::plain(&[]).await;
        asker.asks([Predicate::new("ask")]).await;
        let early = asker.client.stored(key()).await.unwrap();
        let config = eager().with_scan_interval(Duration::ZERO);
        let service = Service::builder().with_tag(Yes).with_config(config);
        let mut service = Server::start_with(service, &[], early).await;
        let busy = {
            let client = service.client.clone();
            async move {
                for n in 0_u64.. {
                    let key = RecordKey::new(format!("/sr/busy/{}", n % 40));
                    let said: Dict = [("n", n.to_string())].into_iter().collect();
                    let published = client.publish(key, said, MINUTE).await;
                    published.or_else(ClientError::into_publication).unwrap();
                }
            }
        };
        tokio::select! {
            () = busy => unreachable!("it goes on for ever"),
            finding = service.published() => assert_eq!(finding.request, Predicate::new("ask")),
        }
    })
    .await;
}

#[tokio::test]
async fn two_services_on_one_record_do_not_answer_each_other() {
    within(async {
        let service = || {
            let config = eager().with_ttl(Duration::from_secs(2));
            Service::builder().with_reachability(open()).with_config(config)
        };
        let mut first = Server::start(service(), &[]).await;
        let mut second = Server::start(service(), &[&first]).await;
        let asker = Server::plain(&[&first, &second]).await;
        asker.asks([dialable(&asker.address)]).await;
        let (a, b) = (first.published().await, second.published().await);
        assert_eq!((a.finding.tag, b.finding.tag), ("dialed".to_owned(), "dialed".to_owned()));
        // Each stores the other's finding.
        for server in [&first, &second] {
            loop {
                let record = server.client.stored(key()).await.unwrap().unwrap();
                if record.spaces().len() == 3 {
                    break;
                }
                asker.client.get(key()).await.unwrap();
            }
        }
        assert_eq!(asker.reads().await.len(), 2);
        asker.client.withdraw(key()).await.unwrap();
        // If they answered each other, their findings would go on for ever.
        let mut watch = asker.client.watch(key()).await.unwrap();
        let mut were_there = false;
        loop {
            let view = watch.next().await.unwrap().view();
            let are_there = findings(&view).count() > 0;
            if were_there && !are_there {
                break;
            }
            were_there = are_there;
        }
        // The findings do not come back when both scan the record again.
        let target = Server::plain(&[]).await;
        let next = dialable(&target.address);
        asker.asks([next.clone()]).await;
        for server in [&mut first, &mut second] {
            while server.published().await.request != next {}
        }
        let view = asker.client.view(key()).await.unwrap();
        assert!(findings(&view).all(|(_, finding)| finding.request == next));
    })
    .await;
}

#[tokio::test]
async fn one_dial_serves_the_same_request_in_many_records_and_by_many_writers() {
    within(async {
        let mut service = Server::start(reachability(), &[]).await;
        let mut target = Server::plain(&[]).await;
        let askers = [Server::plain(&[&service]).await, Server::plain(&[&service]).await];
        for n in 0..3 {
            for asker in &askers {
                let document = asking([dialable(&target.address)]);
                asker
                    .client
                    .publish(RecordKey::new(format!("/sr/many/{n}")), document, MINUTE)
                    .await
                    .unwrap();
            }
        }
        for _ in 0..3 {
            service.published().await;
        }
        assert_eq!(target.incoming(), 1);
    })
    .await;
}

#[tokio::test]
async fn all_findings_of_a_full_record_are_published_and_renewed_together() {
    within(async {
        let config = eager().with_ttl(Duration::from_secs(6)).with_max_waiting_of_writer(16);
        let service = Service::builder().with_reachability(open()).with_config(config);
        let mut service = Server::start(service, &[]).await;
        let mut asked = 0;
        let mut askers = Vec::new();
        for _ in 0..4 {
            let asker = Server::plain(&[&service]).await;
            let unreachable = (0..4).map(|_| {
                asked += 1;
                let long = "/ip6/::ffff:127.0.0.1/tcp/44444/p2p";
                dialable(&format!("{long}/{}", PeerId::random()).parse().unwrap())
            });
            asker.asks(unreachable).await;
            askers.push(asker);
        }
        let mut last = BTreeMap::new();
        for _ in 0..3 {
            loop {
                service.published().await;
                let record = service.client.stored(key()).await.unwrap().unwrap();
                let view = record.view(SystemClock.now());
                let found: BTreeMap<_, _> =
                    findings(&view).map(|(_, found)| (found.request, found.expires_at)).collect();
                let is_new = |(request, at)| last.get(request).is_none_or(|last| at > last);
                if found.len() == asked && found.iter().all(is_new) {
                    last = found;
                    break;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn findings_do_not_push_out_other_data_of_the_node() {
    within(async {
        let config = eager().with_ttl(Duration::from_secs(1));
        let service = Service::builder().with_reachability(open()).with_config(config);
        let mut service = Server::start(service, &[]).await;
        let own: Dict = [("name", "the node")].into_iter().collect();
        service.says(key(), own, 10 * MINUTE).await;
        let asker = Server::plain(&[&service]).await;
        let request = || {
            dialable(&format!("/ip4/127.0.0.1/tcp/44444/p2p/{}", PeerId::random()).parse().unwrap())
        };
        asker.asks((0..4).map(|_| request())).await;
        // Expired findings are retained as long as the node's own data, so their room runs out.
        loop {
            if let ServiceEvent::Failed { .. } = service.event().await {
                break;
            }
        }
        let view = asker.client.view(key()).await.unwrap();
        assert!(view.get(&service.id).unwrap().document.get("name").is_some());
    })
    .await;
}
