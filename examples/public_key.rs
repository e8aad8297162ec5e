//! Publishes a public key under `/pk/…`, where it is found by its peer id.
//!
//! `cargo run --example public_key`

use std::error::Error;

use libp2p::{
    identity::{Keypair, PublicKey},
    kad,
    kad::store::RecordStore,
};
use libp2p_smart_record::{
    pk::PublicKeyValidator,
    store::{SmartRecordStore, StoreConfig},
};

fn main() -> Result<(), Box<dyn Error>> {
    // A record node of an IPFS-style DHT. In a network this is the store of a `kad::Behaviour`.
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let mut store =
        SmartRecordStore::with_registry(local, libp2p_smart_record::ipfs(), StoreConfig::default());

    // The peer id of a key of this type is a hash, which does not contain the key.
    let owner = Keypair::generate_ecdsa().public();
    let key = PublicKeyValidator::key(&owner);
    store.write(&key, &owner.encode_protobuf())?;
    println!("published the key of {}", owner.to_peer_id());

    // A peer that knows the peer id reads the key, and verifies that it matches.
    let found = store.get(&kad::RecordKey::new(&key)).ok_or("no key")?.into_owned();
    let found = PublicKey::try_decode_protobuf(&found.value)?;
    println!("found a key of {}", found.to_peer_id());

    // Another key cannot be put there.
    let other = Keypair::generate_ecdsa().public();
    match store.write(&key, &other.encode_protobuf()) {
        Ok(_) => Err("another key was accepted".into()),
        Err(error) => {
            println!("another key: {error}");
            Ok(())
        }
    }
}
