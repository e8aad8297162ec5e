//! Smart services: a node checks requests in the records that it stores, and publishes findings in
//! its own space of the same record. It answers the two built-in requests, whether an address can
//! be dialled and whether its peer can be connected to, and one of this example, `count(; text=…)`.
//!
//! `cargo run --example smart_service`

use std::{error::Error, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, StreamProtocol, SwarmBuilder,
    identity::Keypair,
    kad,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_smart_record::{Dict, Kind, Predicate, behaviour::Behaviour, client::Client};
use smart_record_services::{
    DialPolicy, Dialer, Outcome, Service, ServiceBuilder, SmartTag, connectivity, dialable,
    findings,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/smart-service-example/kad/1.0.0");
const KEY: &str = "/sr/who-is-there";

#[derive(NetworkBehaviour)]
struct MyBehaviour {
    records: Behaviour,
    dialer: Dialer,
}

/// Answers `count(; text="…")` with `counted(; characters=…)`.
struct Count;

impl SmartTag for Count {
    fn tag(&self) -> &str {
        "count"
    }

    fn check(&self, request: &Predicate) -> BoxFuture<'static, Outcome> {
        let outcome = match request.named.get("text").map(|node| &node.kind) {
            Some(Kind::String(text)) => {
                let characters = text.chars().count().to_string();
                Outcome::Found(Predicate::new("counted").with_named("characters", characters))
            }
            _ => Outcome::Unknown,
        };
        async move { outcome }.boxed()
    }
}

/// Starts a peer that offers this service and knows `other`. Its swarm and its service run as
/// tasks.
async fn start(
    service: ServiceBuilder,
    other: Option<&Multiaddr>,
) -> Result<(Client, Multiaddr), Box<dyn Error>> {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let (mut records, client) = Behaviour::new(keypair.clone(), PROTOCOL);
    records.kad_mut().set_mode(Some(kad::Mode::Server));
    if let Some(address) = other
        && let Some(Protocol::P2p(peer)) = address.iter().last()
    {
        records.kad_mut().add_address(&peer, address.clone());
    }
    let Service { dialer, task, .. } = service.build(&mut records);
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| MyBehaviour { records, dialer })?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address.with(Protocol::P2p(peer));
        }
    };
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    tokio::spawn(task);
    Ok((client, address))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // On the internet keep the default policy: private addresses let strangers explore your
    // network.
    let policy = DialPolicy::default().with_private_addresses(true);
    let service = Service::builder().with_reachability(policy).with_tag(Count);
    let (server, server_address) = start(service, None).await?;
    let (client, address) = start(Service::builder(), Some(&server_address)).await?;

    let nowhere =
        "/ip4/127.0.0.1/tcp/65535/p2p/12D3KooWKRyzVWW6ChFjQjK4miCty85Niy48tpPV95XdKu1BcvMA";
    let requests: Dict = [
        ("am I dialable?", dialable(&address)),
        ("can you connect?", connectivity(&address)),
        ("is anybody there?", dialable(&nowhere.parse()?)),
        ("how long is this?", Predicate::new("count").with_named("text", "this")),
    ]
    .into_iter()
    .collect();
    let asked = requests.len();
    client.publish(KEY, requests, Duration::from_secs(600)).await?;
    println!("{} asks", client.peer_id());

    // The findings are in the record, where everyone can read them.
    let mut watch = client.watch(KEY).await?;
    while let Some(snapshot) = watch.next().await {
        let view = snapshot.view();
        let found: Vec<_> = findings(&view).collect();
        if found.len() < asked {
            continue;
        }
        for (by, finding) in found {
            println!("{by} has found {} for {}", finding.finding, finding.request);
        }
        break;
    }
    drop(server);
    Ok(())
}
