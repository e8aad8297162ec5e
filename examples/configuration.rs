//! A configuration: two administrators set it, readers see one, merged. The nodes keep it in
//! files, so it survives a restart.
//!
//! `cargo run --features redb --example configuration`

use std::{collections::BTreeMap, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, tcp,
    yamux,
};
use libp2p_smart_record::{
    AllowList, Dict, Fault, Limits, Registry, SpaceRules,
    behaviour::Behaviour,
    client::Client,
    store::{OpenOptions, SmartRecordStore},
};

const KEY: &str = "/config/billing";
const PROTOCOL: StreamProtocol = StreamProtocol::new("/my-service/kad/1.0.0");
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The revision and the value of each setting. Of two values the one of the higher revision is the
/// later one. The time of a space does not say that, because any write of its writer renews it.
type Settings = BTreeMap<String, (u32, String)>;

/// Reads the settings of all writers; of one that several have set, the latest.
async fn read(client: &Client) -> Result<Settings, Box<dyn Error>> {
    let mut settings = Vec::new();
    for (_, space) in &client.view(KEY).await? {
        settings.extend(space.document.deserialize::<Settings>()?);
    }
    settings.sort();
    Ok(settings.into_iter().collect())
}

/// Sets one setting, and leaves the others that this writer has set.
async fn set(client: &Client, name: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let revision = read(client).await?.get(name).map_or(1, |(last, _)| last.saturating_add(1));
    let settings = Settings::from([(name.to_owned(), (revision, value.to_owned()))]);
    client.publish(KEY, Dict::from_serialize(&settings)?, DAY).await?;
    println!("{} sets {name} to {value}", client.peer_id());
    Ok(())
}

struct Node {
    client: Client,
    address: Multiaddr,
    task: tokio::task::JoinHandle<()>,
}

/// Starts a node: a server of the DHT, or a client of `server`.
async fn start(
    keypair: &Keypair,
    store: SmartRecordStore,
    server: Option<&Node>,
) -> Result<Node, Box<dyn Error>> {
    let builder = Behaviour::builder(keypair.clone()).with_protocol(PROTOCOL);
    let (mut behaviour, client) = builder.with_store(store)?.build();
    match server {
        Some(Node { client, address, .. }) => {
            behaviour.kad_mut().add_address(&client.peer_id(), address.clone());
        }
        None => behaviour.kad_mut().set_mode(Some(kad::Mode::Server)),
    }
    let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| behaviour)?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let task = tokio::spawn(async move { while swarm.next().await.is_some() {} });
    Ok(Node { client, address, task })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [local, ada, ben, reader] = std::array::from_fn(|_| Keypair::generate_ed25519());
    let folder = tempfile::tempdir()?;
    // All nodes have the same rules: a namespace of our own, in which two peers may write.
    let writers = [&ada, &ben].map(|keypair| keypair.public().to_peer_id());
    let rules = SpaceRules::new(Limits::default(), AllowList::from_iter(writers));
    let registry = Registry::default().with("config", rules)?;
    let store = |keypair: &Keypair| {
        let peer = keypair.public().to_peer_id();
        let file = folder.path().join(peer.to_string());
        OpenOptions::default().with_registry(registry.clone()).open(file, peer)
    };

    let server = start(&local, store(&local)?, None).await?;
    let ada = start(&ada, store(&ada)?, Some(&server)).await?;
    let ben = start(&ben, store(&ben)?, Some(&server)).await?;
    set(&ada.client, "currency", "EUR").await?;
    set(&ben.client, "currency", "CHF").await?;
    set(&ada.client, "retries", "3").await?;

    // All of them stop, and the server starts again.
    for node in [ada, ben, server] {
        node.task.abort();
        let _ = node.task.await; // Ends the cancelled task, which closes its file.
    }
    let server = start(&local, store(&local)?, None).await?;
    let reader = start(&reader, store(&reader)?, Some(&server)).await?.client;
    let settings = read(&reader).await?;
    println!("after a restart: {settings:?}");
    if !settings.values().map(|(_, value)| value).eq(["CHF", "3"]) {
        return Err("the configuration is not what was set".into());
    }

    // Other peers may not write: their own store refuses the write before it is sent.
    match reader.publish(KEY, Dict::from_serialize(&settings)?, DAY).await {
        Err(error) if error.fault() == Some(Fault::RefusedByPolicy) => println!("{error}"),
        other => return Err(format!("a reader wrote: {other:?}").into()),
    }
    Ok(())
}
