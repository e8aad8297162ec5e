//! Smart records over your own `kad::Behaviour`: a driver in the loop that polls the swarm, one
//! call to write and one to read.
//!
//! `cargo run --example bare_kademlia`

use std::{error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, yamux,
};
use libp2p_smart_record::{
    Clock, Limits, SpaceSigner, SystemClock, dht::Dht, store::SmartRecordStore,
};

/// Runs a node in which only the store was replaced. Returns its handle and address.
async fn node(
    keypair: Keypair,
    known: Option<&(PeerId, Multiaddr)>,
) -> Result<(Dht, (PeerId, Multiaddr)), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(Default::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let store = SmartRecordStore::new(keypair.public().to_peer_id());
            let config = store.kad_config(kad::PROTOCOL_NAME);
            kad::Behaviour::with_config(keypair.public().to_peer_id(), store, config)
        })?
        .build();
    swarm.behaviour_mut().set_mode(Some(kad::Mode::Server));
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break (*swarm.local_peer_id(), address);
        }
    };
    if let Some((peer, address)) = known {
        swarm.behaviour_mut().add_address(peer, address.clone());
    }
    let (dht, mut driver) = Dht::new();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(command) = driver.next() => driver.run(command, swarm.behaviour_mut()),
                event = swarm.select_next_some() => if let SwarmEvent::Behaviour(event) = event {
                    driver.on_event(&event, swarm.behaviour_mut());
                },
            }
        }
    });
    Ok((dht, address))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keypair = Keypair::generate_ed25519();
    let (_, hub) = node(Keypair::generate_ed25519(), None).await?;
    let (ada, _) = node(keypair.clone(), Some(&hub)).await?;
    let (bob, _) = node(Keypair::generate_ed25519(), Some(&hub)).await?;

    // Signs our space of the record, and sends it to the peers closest to the key.
    let mut signer = SpaceSigner::new("/sr/rooms/lobby".into(), keypair, Limits::default());
    signer.merge(r#"{"name": "ada"}"#.parse()?, SystemClock.now(), Duration::from_secs(600))?;
    let record = signer.record(SystemClock.now()).encode();
    let peers = ada.put("/sr/rooms/lobby", record).await?;
    println!("taken by {} peer(s)", peers.len());

    // Reads what all of them have, however large it is.
    let reading = bob.get("/sr/rooms/lobby").await?;
    for (writer, space) in &reading.view() {
        println!("{writer} says {}", space.document);
    }
    println!("complete: {}", reading.is_complete());
    Ok(())
}
