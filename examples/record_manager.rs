//! Signed records over the DHT: two nodes, each with a record manager; one publishes, the other
//! reads.
//!
//! `cargo run --example record_manager`

use std::error::Error;

use futures::StreamExt;
use libp2p::{SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, yamux};
use libp2p_smart_record::{
    KeyOwner, Namespaces, Registry,
    dht::Dht,
    manager::RecordManager,
    signed::{SignedRecordLimits, SignedRecordValidator},
    store::{SmartRecordStore, StoreConfig},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut managers = Vec::new();
    let mut known = None;
    let keypairs = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
    for keypair in keypairs.clone() {
        // `/notes/<peer id>/…` may be written by that peer only. Store and manager share the rules.
        let rules = SignedRecordValidator::new(SignedRecordLimits::default(), KeyOwner);
        let registry = Registry::default().with("notes", rules.clone())?;
        let rules = Namespaces::empty().with("notes", rules)?;
        let peer = keypair.public().to_peer_id();
        let store = SmartRecordStore::with_registry(peer, registry, StoreConfig::default());
        let config = store.kad_config(kad::PROTOCOL_NAME);
        let mut swarm = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(Default::default(), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_| kad::Behaviour::with_config(peer, store, config))?
            .build();
        swarm.behaviour_mut().set_mode(Some(kad::Mode::Server));
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        if let Some((peer, address)) = known.take() {
            swarm.behaviour_mut().add_address(&peer, address);
        }
        while known.is_none() {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                known = Some((peer, address));
            }
        }
        let (backend, mut driver) = Dht::new();
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
        managers.push(RecordManager::new(keypair, rules, backend));
    }
    let [alice, bob] = &managers[..] else { unreachable!() };
    let key = format!("/notes/{}/mood", keypairs[1].public().to_peer_id());
    bob.publish(&*key, "curious").await?;
    println!("alice got {:?}", alice.get(&*key).await?.map(String::from_utf8).transpose()?);
    println!("and may not write there: {:?}", alice.publish(&*key, "cheerful").await.err());
    Ok(())
}
