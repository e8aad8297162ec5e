//! A configuration: two administrators set it, readers see one, merged. The node that stores it
//! keeps it in a file, so it survives a restart.
//!
//! `cargo run --features redb --example configuration`

use std::{collections::BTreeMap, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identity::Keypair, kad, noise,
    swarm::SwarmEvent, tcp, yamux,
};
use libp2p_smart_record::{
    AllowList, Dict, Fault, Limits, Registry, SerdeError, SpaceRules, View,
    behaviour::Behaviour,
    client::Client,
    store::{RedbConfig, SmartRecordStore, StoreConfig},
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

const KEY: &str = "/config/billing";
const PROTOCOL: StreamProtocol = StreamProtocol::new("/my-service/kad/1.0.0");
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A setting. Its revision says which of two values is the later one. The time of the writer's
/// space does not, because any write of the writer renews it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Setting {
    revision: u32,
    value: String,
}

type Settings = BTreeMap<String, Setting>;

/// The settings of all writers; of one that several have set, the latest.
fn merge(view: &View) -> Result<Settings, SerdeError> {
    let mut settings = Vec::new();
    for (_, space) in view {
        settings.extend(space.document.deserialize::<Settings>()?);
    }
    settings.sort();
    Ok(settings.into_iter().collect())
}

async fn read(client: &Client) -> Result<Settings, Box<dyn Error>> {
    Ok(merge(&client.view(KEY).await?)?)
}

/// Sets one setting, and leaves the others that this writer has set.
async fn set(client: &Client, name: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let revision = read(client).await?.get(name).map_or(1, |last| last.revision.saturating_add(1));
    let setting = Setting { revision, value: value.to_owned() };
    let document = Dict::from_serialize(&Settings::from([(name.to_owned(), setting)]))?;
    client.publish(KEY, document, DAY).await?;
    println!("{} sets {name} to {value}", client.peer_id());
    Ok(())
}

struct Node {
    client: Client,
    address: (PeerId, Multiaddr),
    task: JoinHandle<()>,
}

/// Starts a node with a store: a server of the DHT, or a client of the server that it is given.
async fn start(
    keypair: &Keypair,
    store: SmartRecordStore,
    server: Option<&Node>,
) -> Result<Node, Box<dyn Error>> {
    let builder = Behaviour::builder(keypair.clone()).with_protocol(PROTOCOL);
    let (mut behaviour, client) = builder.with_store(store)?.build();
    match server {
        Some(Node { address: (peer, address), .. }) => {
            behaviour.kad_mut().add_address(peer, address.clone());
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
            break (client.peer_id(), address);
        }
    };
    let task = tokio::spawn(async move { while swarm.next().await.is_some() {} });
    Ok(Node { client, address, task })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [local, ada, ben, reader] = std::array::from_fn(|_| Keypair::generate_ed25519());
    let peer = |keypair: &Keypair| keypair.public().to_peer_id();

    // The same rules on all nodes: a namespace of our own, in which two peers may write.
    let rules = SpaceRules::new(Limits::default(), AllowList::from_iter([peer(&ada), peer(&ben)]));
    let registry = Registry::default().with("config", rules)?;
    let in_memory = |keypair| {
        SmartRecordStore::with_registry(peer(keypair), registry.clone(), StoreConfig::default())
    };
    let folder = tempfile::tempdir()?;
    let in_file = || {
        let (file, config) = (folder.path().join("records"), StoreConfig::default());
        let registry = registry.clone();
        SmartRecordStore::open_with(file, peer(&local), registry, config, &RedbConfig::default())
    };

    let server = start(&local, in_file()?, None).await?;
    let ada = start(&ada, in_memory(&ada), Some(&server)).await?;
    let ben = start(&ben, in_memory(&ben), Some(&server)).await?;
    set(&ada.client, "currency", "EUR").await?;
    set(&ben.client, "currency", "CHF").await?;
    set(&ada.client, "retries", "3").await?;

    // All of them stop, and the server starts again.
    for node in [ada, ben, server] {
        node.task.abort();
        let _ = node.task.await; // It is cancelled, and its file is closed.
    }
    let server = start(&local, in_file()?, None).await?;
    let reader = start(&reader, in_memory(&reader), Some(&server)).await?;
    println!("after a restart:");
    let settings = read(&reader.client).await?;
    for (name, Setting { value, revision }) in &settings {
        println!("  {name} is {value}, revision {revision}");
    }
    let values = settings.values().map(|setting| setting.value.as_str());
    if !values.eq(["CHF", "3"]) {
        return Err("the configuration is not what was set".into());
    }

    // Nobody else may write: its own store refuses that before it is sent.
    let document = Dict::from_serialize(&settings)?;
    match reader.client.publish(KEY, document, DAY).await {
        Err(error) if error.fault() == Some(Fault::RefusedByPolicy) => {
            println!("the reader may not write: {error}");
            Ok(())
        }
        other => Err(format!("the reader may write: {other:?}").into()),
    }
}
