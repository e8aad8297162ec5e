//! An app in a swarm of its own: two peers over TCP, one publishes, the other watches.

use std::{error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identity::Keypair, kad, noise,
    swarm::SwarmEvent, tcp, yamux,
};
use libp2p_smart_record::{Dict, behaviour::Behaviour, client::Client};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/client-example/kad/1.0.0");

/// Starts a peer that knows `other`. Its swarm runs as a task.
async fn start(
    other: Option<(PeerId, Multiaddr)>,
) -> Result<(Client, (PeerId, Multiaddr)), Box<dyn Error>> {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let (mut behaviour, client) = Behaviour::new(keypair.clone(), PROTOCOL);
    behaviour.kad_mut().set_mode(Some(kad::Mode::Server));
    if let Some((peer, address)) = other {
        behaviour.kad_mut().add_address(&peer, address);
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
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    Ok((client, (peer, address)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (watcher, first) = start(None).await?;
    let (publisher, _) = start(Some(first)).await?;

    let mut watch = watcher.watch("/sr/rooms/lobby").await?;
    let document: Dict = r#"{"name": "ada"}"#.parse()?;
    publisher.publish("/sr/rooms/lobby", document, Duration::from_secs(60)).await?;
    // The first snapshot may be empty.
    while let Some(snapshot) = watch.next().await {
        let view = snapshot.view();
        for (writer, space) in &view {
            println!("{writer} says {}", space.document);
        }
        if !view.is_empty() {
            break;
        }
    }
    Ok(())
}
