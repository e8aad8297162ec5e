//! Validates and merges records without a network: bytes from a file, pubsub or elsewhere.
//!
//! `cargo run --example validate_bytes`

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use libp2p_identity::Keypair;
use smart_record_core::{
    Dict, Limits, RecordKey, Registry, SpaceRules, SpaceSigner, Timestamp, Validated,
};

fn main() -> Result<(), Box<dyn Error>> {
    let key = RecordKey::new("/sr/rooms/lobby");
    let now = Timestamp::from(SystemTime::now());
    let write = |text: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let keypair = Keypair::generate_ed25519();
        let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
        let document: Dict = [("text", text)].into_iter().collect();
        signer.merge(document, now, Duration::from_secs(60))?;
        Ok(signer.record(now).encode())
    };

    // A registry validates the values of its namespaces.
    let registry = Registry::default();
    let (hello, world) = (write("hello")?, write("world")?);
    if let Validated::Record(record) = registry.validate(&key, &hello, now)? {
        println!("valid: {} writer", record.spaces().len());
    }

    // Two replicas have one writer each. The consolidated record has both.
    let merged = registry.consolidate(&key, &[&hello, &world])?;
    let record = SpaceRules::default().read(&key, &merged, now)?;
    for (writer, space) in &record.view(now) {
        println!("{writer} says {}", space.document);
    }

    // A changed byte, another key, a later time: the error says who is at fault.
    let mut forged = hello.clone();
    if let Some(byte) = forged.last_mut() {
        *byte ^= 1;
    }
    // A new signer does not know its history, so replicas retain its update for the longest allowed
    // time.
    let later = now.saturating_add(Duration::from_secs(49 * 3_600));
    for (what, result) in [
        ("a changed byte", registry.validate(&key, &forged, now)),
        ("another key", registry.validate(&RecordKey::new("/sr/elsewhere"), &hello, now)),
        ("two days later", registry.validate(&key, &hello, later)),
        ("no such namespace", registry.validate(&RecordKey::new("/x/y"), &hello, now)),
    ] {
        match result {
            Ok(_) => return Err(format!("{what} was accepted").into()),
            Err(error) => println!("{what}: {error}"),
        }
    }
    Ok(())
}
