//! Scraped metrics of a ready node.

use std::net::TcpStream;

use libp2p::{kad, multiaddr::Protocol};
use libp2p_smart_record::metrics::Metrics;
use prometheus_client::registry::Registry;
use smart_record_host::{ConnectionLimit, ConnectionLimits, Host};
use smart_record_services::{DialPolicy, Service, dialable};
use smart_record_testing::metrics::scrape;
use smart_record_testing_swarms::{PATIENCE, PROTOCOL, within};

const KEY: &str = "/sr/host/metrics";

#[tokio::test]
async fn the_metrics_of_a_ready_node_are_scraped() {
    let builder = || {
        let builder = Host::builder().with_protocol(PROTOCOL);
        let builder = builder.with_mode(kad::Mode::Server);
        builder.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
    };
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    within(async {
        let node = builder().with_metrics(&metrics).start().await.unwrap();
        let address = node.addresses().await.unwrap().remove(0);
        let address = address.with(Protocol::P2p(node.peer_id()));
        let other = builder().bootstrap(address).start().await.unwrap();
        let document = [("text", "x")].into_iter().collect();
        other.client().publish(KEY, document, PATIENCE).await.unwrap();
        // A ready node answers before it validates.
        while scrape(&registry)["store_admitted_updates_total"] < 1.0 {
            tokio::task::yield_now().await;
        }
        node.client().get(KEY).await.unwrap();
        let scraped = scrape(&registry);
        assert_eq!(scraped["reads_total"], 1.0);
        assert!(scraped["validation_duration_seconds_count"] > 0.0, "off the swarm's task");
    })
    .await;
}

#[tokio::test]
async fn the_metrics_of_the_limits_of_a_node_are_scraped() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    within(async {
        let limits = ConnectionLimits::default().with_per_peer(0).with_pending_inbound(2);
        let node = Host::builder()
            .with_metrics(&metrics)
            .with_limits(limits)
            .listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap())
            .start()
            .await
            .unwrap();
        let refused = "host_refused_connections_total{limit=\"per_peer\"}";
        for name in [
            refused,
            "host_refused_connections_total{limit=\"inbound\"}",
            "host_displaced_connections_total",
            "host_displaced_handshakes_total",
            "host_timed_out_handshakes_total",
        ] {
            assert_eq!(scrape(&registry)[name], 0.0, "{name}");
        }
        let address = node.addresses().await.unwrap().remove(0);
        let Some(Protocol::Tcp(port)) = address.iter().nth(1) else { panic!("{address}") };
        let _silent = [(); 2].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
        while scrape(&registry)["host_displaced_handshakes_total"] == 0.0 {
            tokio::task::yield_now().await;
        }
        let address = address.with(Protocol::P2p(node.peer_id()));
        let _other = Host::builder().bootstrap(address).start().await.unwrap();
        while scrape(&registry)[refused] == 0.0 {
            tokio::task::yield_now().await;
        }
        let counted = node.counters();
        assert!(counted.handshakes_displaced > 0);
        assert!(counted.connections_refused[&ConnectionLimit::PerPeer] > 0);
    })
    .await;
}

#[tokio::test]
async fn the_metrics_of_a_service_are_scraped_with_those_of_its_node() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    within(async {
        let service = Service::builder().with_reachability(DialPolicy::default());
        let listen = || "/ip4/127.0.0.1/tcp/0".parse().unwrap();
        let node = Host::builder()
            .with_metrics(&metrics)
            .with_service(service)
            .with_mode(kad::Mode::Server)
            .listen_on(listen())
            .start()
            .await
            .unwrap();
        assert_eq!(scrape(&registry)["service_refused_total"], 0.0);
        let address = node.addresses().await.unwrap().remove(0);
        let asker = Host::builder()
            .bootstrap(address.clone().with(Protocol::P2p(node.peer_id())))
            .listen_on(listen())
            .start()
            .await
            .unwrap();
        let private = address.with(Protocol::P2p(asker.peer_id()));
        let document = [("please", dialable(&private))].into_iter().collect();
        asker.client().publish("/sr/service", document, PATIENCE).await.unwrap();
        while scrape(&registry)["service_refused_total"] == 0.0 {
            tokio::task::yield_now().await;
        }
        assert!(scrape(&registry)["service_scans_total"] >= 1.0);
        assert_eq!(scrape(&registry)["service_checks_total"], 0.0);
    })
    .await;
}
