//! Two clients announce themselves through their nodes, find each other, and share a secret. A
//! store stands in for the DHT: in a program, write with `kad::Behaviour::put_record` and read with
//! `get_record`.
//!
//! `cargo run --example presence_keys`

use std::{error::Error, time::Duration};

use libp2p::{
    identity::Keypair,
    kad::{self, store::RecordStore},
};
use libp2p_smart_record::{
    Clock, Registry, SystemClock,
    presence::{
        Announcement, Announcer, ClientSignedAnnouncement, ExchangeKey, PresenceKey,
        PresenceLimits, PresenceValidator,
    },
    store::{SmartRecordStore, StoreConfig},
};
use x25519_dalek::{PublicKey, StaticSecret};

/// Announces a client through a node. Returns the key under which it is found, and its secret.
fn announce(dht: &mut SmartRecordStore) -> Result<(PresenceKey, StaticSecret), Box<dyn Error>> {
    let (client, node) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (client_secret, node_secret) = (StaticSecret::random(), StaticSecret::random());
    let handshake_key = ExchangeKey::try_from(PublicKey::from(&node_secret))?;
    let presence_key = ExchangeKey::try_from(PublicKey::from(&client_secret))?;
    let key = PresenceKey::of(client.public().to_peer_id());
    let (limits, now) = (PresenceLimits::default(), SystemClock.now());

    // The client signs the announcement and sends it to its node, which checks it and signs too.
    let mut announcer = Announcer::new(key.clone(), client, limits.clone())?;
    let ttl = Duration::from_secs(3_600);
    let half = announcer.announce(&node.public(), handshake_key, presence_key, now, ttl)?;
    let half = ClientSignedAnnouncement::decode(&key, half.encode(), &limits)?;
    let signed = half.countersign(&node, handshake_key, now, &limits)?;
    announcer.accept(Announcement::decode(&key, signed.encode(), &limits)?)?;
    dht.write(key.as_record_key(), &announcer.record(now).encode())?;
    Ok((key, client_secret))
}

/// Finds a client, and derives the secret that it shares with the owner of `own`.
fn meet(
    dht: &SmartRecordStore,
    client: &PresenceKey,
    own: &StaticSecret,
) -> Result<[u8; 32], Box<dyn Error>> {
    let found = dht.get(&kad::RecordKey::new(client.as_record_key())).ok_or("not announced")?;
    let now = SystemClock.now();
    let record = PresenceValidator::default().read(client.as_record_key(), &found.value, now)?;
    let announcement = record.view(now).next().ok_or("not present")?;
    println!("{} is at {}", announcement.client(), announcement.node());
    Ok(own.diffie_hellman(&announcement.presence_key().into()).to_bytes())
}

fn main() -> Result<(), Box<dyn Error>> {
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let registry = Registry::default().with(
        libp2p_smart_record::presence::PresenceKey::NAMESPACE,
        PresenceValidator::default(),
    )?;
    let mut dht = SmartRecordStore::with_registry(local, registry, StoreConfig::default());
    let (alice, alice_secret) = announce(&mut dht)?;
    let (bob, bob_secret) = announce(&mut dht)?;
    let (hers, his) = (meet(&dht, &bob, &alice_secret)?, meet(&dht, &alice, &bob_secret)?);
    assert_eq!(hers, his);
    println!("both have the same secret; feed it to a key derivation before use");
    Ok(())
}
