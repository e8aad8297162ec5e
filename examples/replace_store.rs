//! Replacing the store in a plain rust-libp2p program: two nodes, one writes, the other reads.
//!
//! `cargo run --example replace_store`

use std::{error::Error, time::Duration};

use futures::StreamExt;
use kad::{Event::OutboundQueryProgressed as Progress, QueryResult::PutRecord};
use libp2p::{Swarm, SwarmBuilder, identity::Keypair, kad, noise, swarm::SwarmEvent, yamux};
use libp2p_smart_record::{
    Clock, Limits, RecordKey, SpaceSigner, SystemClock, store::SmartRecordStore,
};

fn node() -> Result<Swarm<kad::Behaviour<SmartRecordStore>>, Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let local = keypair.public().to_peer_id();
            // Only these two lines differ from a program with libp2p's `MemoryStore`.
            let store = SmartRecordStore::new(local);
            let config = store.kad_config(kad::PROTOCOL_NAME);
            kad::Behaviour::with_config(local, store, config)
        })?
        .build();
    swarm.behaviour_mut().set_mode(Some(kad::Mode::Server));
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    Ok(swarm)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut writer, mut reader) = (node()?, node()?);
    let key = RecordKey::new("/sr/rooms/lobby");

    // Signs an update to our own space of the record, and puts it like any record.
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    let document = r#"{"name": "ada", "mood": "curious"}"#.parse()?;
    let now = SystemClock.now();
    signer.merge(document, now, Duration::from_secs(600))?;
    let put = kad::Record::new(kad::RecordKey::new(&key), signer.record(now).encode());

    let result = loop {
        tokio::select! {
            event = reader.select_next_some() => if let SwarmEvent::NewListenAddr { address, .. } = event {
                writer.behaviour_mut().add_address(reader.local_peer_id(), address);
                writer.behaviour_mut().put_record(put.clone(), kad::Quorum::One)?;
            },
            event = writer.select_next_some() => {
                if let SwarmEvent::Behaviour(Progress { result: PutRecord(result), .. }) = event {
                    break result;
                }
            },
        }
    };
    println!("put {:?}", result?.key);
    for (writer, space) in &reader.behaviour_mut().store_mut().view(&key)? {
        println!("{writer} says {}", space.document);
    }
    Ok(())
}
