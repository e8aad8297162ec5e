//! Two nodes, and the metrics of one of them, as Prometheus would scrape them.
//!
//! `cargo run --features metrics --example metrics`

use std::{error::Error, time::Duration};

use libp2p::{StreamProtocol, multiaddr::Protocol};
use libp2p_smart_record::metrics::Metrics;
use prometheus_client::{encoding::text::encode, registry::Registry};
use smart_record_host::{Host, HostBuilder};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/metrics-example/kad/1.0.0");

fn builder() -> Result<HostBuilder, Box<dyn Error>> {
    let builder = Host::builder().with_protocol(PROTOCOL);
    Ok(builder.listen_on("/ip4/127.0.0.1/tcp/0".parse()?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);

    let other = builder()?.start().await?;
    let address = other.addresses().await?.into_iter().next().ok_or("it listens nowhere")?;
    let address = address.with(Protocol::P2p(other.peer_id()));
    let node = builder()?.bootstrap(address).with_metrics(&metrics).start().await?;

    let document = r#"{"name": "ada"}"#.parse()?;
    node.client().publish("/sr/rooms/lobby", document, Duration::from_secs(600)).await?;
    node.client().view("/sr/rooms/lobby").await?;

    // A server would return this for `/metrics`.
    let mut scraped = String::new();
    encode(&mut scraped, &registry)?;
    for line in scraped.lines().filter(|line| !line.starts_with('#') && !line.contains("bucket")) {
        println!("{line}");
    }
    Ok(())
}
