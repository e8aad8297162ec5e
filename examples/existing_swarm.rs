//! Smart records in a swarm that you already have: the lines marked `+` are all that is new.
//!
//! `cargo run --example existing_swarm`

use std::{error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{StreamProtocol, SwarmBuilder, noise, ping, swarm::NetworkBehaviour, tcp, yamux};
use libp2p_smart_record::client::ClientError;

#[derive(NetworkBehaviour)]
struct MyBehaviour {
    ping: ping::Behaviour,
    records: libp2p_smart_record::behaviour::Behaviour, // +, instead of `kad::Behaviour`
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keypair = libp2p::identity::Keypair::generate_ed25519();
    let protocol = StreamProtocol::new("/existing-swarm-example/kad/1.0.0");
    let (records, client) =
        libp2p_smart_record::behaviour::Behaviour::new(keypair.clone(), protocol); // +
    let behaviour = MyBehaviour { ping: ping::Behaviour::default(), records };
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| behaviour)?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    // Kademlia is available as `swarm.behaviour_mut().records.kad_mut()`. Set its mode to server if
    // this node is one, and add the addresses that identify receives. Only a few addresses of each
    // peer are kept, because they go into each reply.
    tokio::spawn(async move { while swarm.next().await.is_some() {} });

    // From anywhere in the app:
    let document = r#"{"name": "ada", "seats": [1, 2]}"#.parse()?;
    // This node has no peers yet. That nobody else has acknowledged a write is an error.
    let published = client.publish("/sr/rooms/lobby", document, Duration::from_secs(600)).await;
    published.or_else(ClientError::into_publication)?;
    for (writer, space) in &client.view("/sr/rooms/lobby").await? {
        println!("{writer} says {}", space.document);
    }
    Ok(())
}
