//! A custom validator for a namespace: `/counter/…` holds a number, and the greatest wins.
//!
//! `cargo run --example custom_validator`

use std::error::Error;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Malformed, RecordKey, Registry, Timestamp, ValidationError, Validator, Validity, best_index,
    store::{SmartRecordStore, StoreConfig},
};

/// A number in decimal digits.
struct Counter;

fn number(value: &[u8]) -> Result<u64, ValidationError> {
    let text = std::str::from_utf8(value).map_err(Malformed::other)?;
    Ok(text.parse().map_err(Malformed::other)?)
}

impl Validator for Counter {
    fn validate(
        &self,
        _key: &RecordKey,
        value: &[u8],
        _now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        // The value does not say how long it lives, so Kademlia's lifetime counts.
        number(value).map(|_| Validity::forever())
    }

    fn select(&self, _key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        // A total order, so that all replicas choose the same value: `07` and `7` are not a tie.
        best_index(values.iter().map(|value| (number(value).ok(), *value)))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::default().with("counter", Counter)?;
    let local = Keypair::generate_ed25519().public().to_peer_id();
    // Give this store to `kad::Behaviour::with_config`, as in the example `replace_store`.
    let mut store = SmartRecordStore::with_registry(local, registry, StoreConfig::default());

    let key = RecordKey::new("/counter/visits");
    for value in ["41", "42", "42", "7", "many"] {
        match store.write(&key, value.as_bytes()) {
            Ok(report) if report.stored > 0 => println!("{value:>4}: stored"),
            Ok(_) => println!("{value:>4}: known"),
            Err(error) => println!("{value:>4}: refused, {error}"),
        }
    }
    Ok(())
}
