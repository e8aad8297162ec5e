//! IPRS records: an author signs, a reader validates, and the scheme decides which records are
//! valid and which is better.
//!
//! `cargo run --example iprs`

use std::{error::Error, time::Duration};

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, RecordKey, Registry, SystemClock,
    iprs::{
        Ancestry, ChainBeacon, DatetimeRange, Freshness, IprsValidator, SequenceNumber,
        TtlSinceReceipt,
    },
    store::{SmartRecordStore, StoreConfig},
};

fn main() -> Result<(), Box<dyn Error>> {
    let author = Keypair::generate_ed25519();
    let key = |name| RecordKey::new(format!("/iprs/{}/{name}", author.public().to_peer_id()));
    let now = SystemClock.now();

    // Freshness needs a beacon, here our own: a chain of signed records with random bytes.
    let round_0 = Ancestry::first(b"random 0".to_vec()).sign(&key("beacon"), &author)?;
    let round_1 = Ancestry::child(b"random 1".to_vec(), &round_0)?.sign(&key("beacon"), &author)?;
    let mut beacon = ChainBeacon::new(&round_0)?;
    beacon.advance(&round_1)?;
    let newest = beacon.newest();
    let fresh = Freshness::new(beacon, 10);

    // Give this store to `kad::Behaviour::with_config`, as in the example `replace_store`.
    let validator = IprsValidator::default().with_scheme(fresh.clone());
    let registry = Registry::default().with("iprs", validator.clone())?;
    let local = Keypair::generate_ed25519().public().to_peer_id();
    let mut store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());

    let hour = Duration::from_secs(3_600);
    let range = |from, to| DatetimeRange::record("in a range", from, to);
    let first = Ancestry::first("first commit").sign(&key("chain"), &author)?;
    let records = [
        range(now, now.saturating_add(hour))?.sign(&key("range"), &author)?,
        range(now.saturating_sub(hour), now)?.sign(&key("past"), &author)?,
        TtlSinceReceipt::record("for an hour from now", hour)?.sign(&key("ttl"), &author)?,
        Ancestry::child("second commit", &first)?.sign(&key("chain"), &author)?,
        first,
        fresh.record("fresh", newest).sign(&key("fresh"), &author)?,
        SequenceNumber::record("two", 2).sign(&key("sequence"), &author)?,
        SequenceNumber::record("one", 1).sign(&key("sequence"), &author)?,
        SequenceNumber::record("mine!", 3).sign(&key("sequence"), &Keypair::generate_ed25519())?,
    ];
    for record in &records {
        match store.write(record.key(), &validator.marshal(record)?) {
            Ok(_) => println!("stored   {:?}, {}", record.value(), record.cid()),
            Err(error) => println!("refused  {:?}, {error}", record.value()),
        }
    }
    Ok(())
}
