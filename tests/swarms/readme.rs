//! The first Rust block of the README is this code, and it works.

use std::{error::Error, time::Duration};

use libp2p::{identity::Keypair, kad};
use libp2p_smart_record::{
    Clock, Limits, RecordKey, SpaceSigner, SystemClock, store::SmartRecordStore,
};

#[test]
#[rustfmt::skip]
fn the_first_block_works() -> Result<(), Box<dyn Error>> {
    let keypair = Keypair::generate_ed25519();
    let local_peer = keypair.public().to_peer_id();
// begin
let store = SmartRecordStore::new(local_peer);         // instead of MemoryStore
let config = store.kad_config(kad::PROTOCOL_NAME);
let mut kad = kad::Behaviour::with_config(local_peer, store, config);

let key = RecordKey::new("/sr/rooms/lobby");           // write: our space of the record
let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
signer.merge(r#"{"name": "ada"}"#.parse()?, SystemClock.now(), Duration::from_secs(600))?;
let value = signer.record(SystemClock.now()).encode();
kad.put_record(kad::Record::new(kad::RecordKey::new(&key), value), kad::Quorum::One)?;

for (writer, space) in &kad.store_mut().view(&key)? {  // read: what this replica knows now
    println!("{writer} says {}", space.document);
}
// end
    assert_eq!(kad.store_mut().view(&key)?.len(), 1);
    Ok(())
}

#[test]
fn the_first_block_is_this_code() {
    let between = |text: &'static str, begin, end| {
        let (_, rest) = text.split_once(begin).unwrap();
        rest.split_once(end).unwrap().0
    };
    let here = between(include_str!("readme.rs"), "// begin\n", "// end\n");
    let there = between(include_str!("../../README.md"), "```rust\n", "```\n");
    assert_eq!(there, here);
}
