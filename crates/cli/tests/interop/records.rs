//! Records to try, good and bad.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p_smart_record::{
    Clock, Limits, RecordKey, SmartRecord, SpaceSigner, SystemClock, Timestamp,
};
use prost::Message;
use smart_record_testing::ipns::{self, cbor, fields};

use crate::foreign::name_key;

pub const HOUR: Duration = Duration::from_secs(3_600);

/// A key of `/sr` that nobody has used.
pub fn fresh_key() -> RecordKey {
    RecordKey::new(format!("/sr/interop/{}", Keypair::generate_ed25519().public().to_peer_id()))
}

/// A record with one space of a new writer.
pub fn smart(key: &RecordKey) -> SmartRecord {
    let mut signer = SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), Limits::default());
    let now = SystemClock.now();
    signer.merge([("n", 1)].into_iter().collect(), now, HOUR).unwrap();
    signer.record(now)
}

/// What a value says, whoever gave it: our servers give smart records with what an answer covers.
pub fn content(key: &RecordKey, value: Vec<u8>) -> Vec<u8> {
    match SmartRecord::decode(key, value.clone(), &Limits::default()) {
        Ok(record) => record.encode(),
        Err(_) => value,
    }
}

fn in_an_hour() -> Timestamp {
    SystemClock.now().saturating_add(HOUR)
}

/// An IPNS record that is good for an hour.
pub fn numbered(owner: &Keypair, sequence: u64) -> Vec<u8> {
    ipns::numbered(owner, sequence, &in_an_hour().to_string())
}

/// A bad IPNS record under the name of a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Forged,
    Expired,
    Oversized,
}

impl Bad {
    pub fn record(self) -> (RecordKey, Vec<u8>) {
        let owner = Keypair::generate_ed25519();
        let value = match self {
            Self::Forged => numbered(&Keypair::generate_ed25519(), 7),
            Self::Expired => {
                let hour_ago = SystemClock.now().as_millis() - HOUR.as_millis() as u64;
                ipns::numbered(&owner, 7, &Timestamp::from_millis(hour_ago).to_string())
            }
            Self::Oversized => {
                let path = format!("/ipfs/bafkqaaa/{}", "x".repeat(10 * 1_024));
                let fields = fields()
                    .with("Value", cbor::bytes(path.as_bytes()))
                    .with("Validity", cbor::bytes(in_an_hour().to_string().as_bytes()));
                ipns::v2(&owner, fields.encode()).encode_to_vec()
            }
        };
        (name_key(&owner), value)
    }
}

/// A public key and the key it stands under.
pub fn public_key() -> (RecordKey, Vec<u8>) {
    let public_key = Keypair::generate_ed25519().public();
    let peer = public_key.to_peer_id().to_bytes();
    (RecordKey::new([&b"/pk/"[..], &peer].concat()), public_key.encode_protobuf())
}
