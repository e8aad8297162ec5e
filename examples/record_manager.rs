//! Signed records over the DHT: two nodes, each with a record manager; one puts, the other gets.
//!
//! `cargo run --example record_manager`

use std::{error::Error, sync::Arc};

use futures::StreamExt;
use libp2p::{Multiaddr, PeerId};
use libp2p::{SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, yamux};
use libp2p_smart_record::{
    DhtBackend, KeyOwner, RecordManager, Registry, SignedRecordValidator, SmartRecordStore,
    StoreConfig, signed::SignedRecordLimits,
};

type Node = (RecordManager<DhtBackend>, PeerId, Multiaddr);

/// A node that runs as a task, and its record manager. It knows another node, if there is one.
async fn node(known: Option<&Node>) -> Result<Node, Box<dyn Error>> {
    // `/notes/<peer id>/…` may be written by that peer only. Store and manager share the rules.
    let rules = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner);
    let registry = Arc::new(Registry::default().with("notes", rules)?);

    let keypair = Keypair::generate_ed25519();
    let local = keypair.public().to_peer_id();
    let store = SmartRecordStore::with_registry(local, registry.clone(), StoreConfig::default());
    let config = store.kad_config(kad::PROTOCOL_NAME);
    let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
        .with_tokio()
        .with_tcp(Default::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| kad::Behaviour::with_config(local, store, config))?
        .build();
    swarm.behaviour_mut().set_mode(Some(kad::Mode::Server));
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    if let Some((_, peer, address)) = known {
        swarm.behaviour_mut().add_address(peer, address.clone());
    }

    let (backend, mut driver) = DhtBackend::new();
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
    Ok((RecordManager::new(keypair, registry, backend), local, address))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let alice = node(None).await?;
    let bob = node(Some(&alice)).await?;

    let bobs_key = format!("/notes/{}/mood", bob.1);
    for mood in ["curious", "tired"] {
        let published = bob.0.put(&*bobs_key, mood).await?;
        println!("bob put {mood:?}, {} peer(s) took it", published.peers);
    }
    if let Some(record) = alice.0.get_record(&*bobs_key).await? {
        let value = String::from_utf8_lossy(record.value());
        println!("alice got {value:?}, signed by {}", record.author());
    }
    match alice.0.put(&*bobs_key, "cheerful").await {
        Ok(_) => println!("alice wrote in bob's name"),
        Err(error) => println!("alice may not write there: {error}"),
    }
    Ok(())
}
