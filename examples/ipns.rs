//! Publishes a name, resolves it, and shows that it cannot be rolled back.
//!
//! `cargo run --example ipns`

use std::{error::Error, time::Duration};

use libp2p::{identity::Keypair, kad, kad::store::RecordStore};
use libp2p_smart_record::{
    Clock, SystemClock,
    ipns::{IpnsBuilder, IpnsName, IpnsRecord},
    store::{SmartRecordStore, StoreConfig},
};

fn main() -> Result<(), Box<dyn Error>> {
    // A record node of an IPFS-style DHT. In a network this is the store of a `kad::Behaviour`.
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let mut store =
        SmartRecordStore::with_registry(local, libp2p_smart_record::ipfs(), StoreConfig::default());

    // The owner of a key signs what its name points to, then something newer.
    let owner = Keypair::generate_ed25519();
    let name = IpnsName::from(&owner.public());
    let until = SystemClock.now().saturating_add(Duration::from_secs(48 * 60 * 60));
    let first = IpnsBuilder::new("/ipfs/bafkqac3imvwgy3zao5xxe3de", 0, until).sign(&owner)?;
    let second = IpnsBuilder::following(&first, "/ipfs/bafkqaaa", until).sign(&owner)?;
    for record in [&first, &second] {
        store.write(&name.key(), record.as_bytes())?;
        println!("published number {} of {name}", record.sequence());
    }

    // Anybody who knows the name can resolve it without trusting a peer.
    let found = store.get(&kad::RecordKey::new(&name.key())).ok_or("no record")?.into_owned();
    let record = IpnsRecord::decode(&name, found.value)?;
    record.check_expiry(SystemClock.now())?;
    println!("it points to {} until {}", record.value().escape_ascii(), record.eol());

    // The first record cannot be put again, and no other key can write under the name.
    let forged = IpnsBuilder::new("/ipfs/bafkqaaa", 9, until).sign(&Keypair::generate_ed25519())?;
    for (what, record) in [("a rollback", first), ("a forgery", forged)] {
        match store.write(&name.key(), record.as_bytes()) {
            Ok(_) => return Err(format!("{what} was accepted").into()),
            Err(error) => println!("{what}: {error}"),
        }
    }
    Ok(())
}
