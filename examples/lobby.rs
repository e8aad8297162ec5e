//! A lobby: game servers announce their name, players and map; a player lists and watches them. A
//! server that leaves disappears at once, one that crashes disappears after its `ttl`.
//!
//! `cargo run --example lobby`

use std::{error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, tcp,
    yamux,
};
use libp2p_smart_record::{
    Dict, SerdeError, View,
    behaviour::{Behaviour, BehaviourConfig},
    client::{Client, Watch},
};
use serde::{Deserialize, Serialize};
use tokio::{task::AbortHandle, time::timeout};

const LOBBY: &str = "/sr/my-game/lobby";
const PROTOCOL: StreamProtocol = StreamProtocol::new("/my-game/kad/1.0.0");
/// How long a server that has crashed stays in the lobby; a minute or two in practice.
const TTL: Duration = Duration::from_secs(4);

#[derive(Debug, Serialize, Deserialize)]
struct GameServer {
    name: String,
    players: u32,
    map: String,
}

fn game(name: &str, players: u32, map: &str) -> Result<Dict, SerdeError> {
    Dict::from_serialize(&GameServer { name: name.into(), players, map: map.into() })
}

struct Node {
    client: Client,
    address: Multiaddr,
    task: AbortHandle,
}

/// Starts a peer: the first one stores the lobby, the others know it.
async fn start(first: Option<&Node>) -> Result<Node, Box<dyn Error>> {
    let keypair = Keypair::generate_ed25519();
    // Looks up changes often.
    let config = BehaviourConfig::default().with_watch_interval(Duration::from_millis(500));
    let (mut behaviour, client) =
        Behaviour::builder(keypair.clone()).with_protocol(PROTOCOL).with_config(config).build();
    match first {
        Some(Node { client, address, .. }) => {
            behaviour.kad_mut().add_address(&client.peer_id(), address.clone());
        }
        None => behaviour.kad_mut().set_mode(Some(kad::Mode::Server)),
    }
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
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
    let task = tokio::spawn(async move { while swarm.next().await.is_some() {} }).abort_handle();
    Ok(Node { client, address, task })
}

/// The servers in the lobby. Other documents are ignored, because anybody may write.
fn servers(view: &View) -> Vec<GameServer> {
    view.iter().filter_map(|(_, space)| space.document.deserialize().ok()).collect()
}

/// Prints the lobby whenever it changes, until it is as expected.
async fn watch_until(
    lobby: &mut Watch,
    expected: impl Fn(&[GameServer]) -> bool,
) -> Result<(), Box<dyn Error>> {
    while let Some(snapshot) = timeout(Duration::from_secs(30), lobby.next()).await? {
        let servers = servers(&snapshot.view());
        println!("  {servers:?}");
        if expected(&servers) {
            return Ok(());
        }
    }
    Err("the watch has ended".into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let first = start(None).await?;
    let (west, east) = (start(Some(&first)).await?, start(Some(&first)).await?);
    let player = start(Some(&first)).await?.client;

    println!("two servers announce themselves");
    let west = west.client.keep(LOBBY, game("west", 0, "dunes")?, TTL).await?;
    let _east = east.client.keep(LOBBY, game("east", 3, "harbour")?, TTL).await?;
    let listed = servers(&player.view(LOBBY).await?).len();
    println!("  {listed} are listed");
    let mut lobby = player.watch(LOBBY).await?;
    watch_until(&mut lobby, |servers| servers.len() == 2).await?;

    println!("west has players and another map");
    west.update(game("west", 7, "canyon")?).await?;
    watch_until(&mut lobby, |servers| servers.iter().any(|server| server.players == 7)).await?;

    println!("west leaves: its handle is dropped");
    drop(west);
    watch_until(&mut lobby, |servers| servers.len() == 1).await?;

    println!("east crashes: its announcement is not signed anew");
    east.task.abort();
    watch_until(&mut lobby, <[GameServer]>::is_empty).await
}
