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
    let mut signer = signer(key, Limits::default());
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

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Name,
    PublicKey,
    Smart,
}

impl Kind {
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Name => "`/ipns`",
            Self::PublicKey => "`/pk`",
            Self::Smart => "`/sr`",
        }
    }

    /// A good record of a new owner, and the key it stands under.
    pub fn good(self) -> (RecordKey, Vec<u8>) {
        match self {
            Self::Name => {
                let owner = Keypair::generate_ed25519();
                (name_key(&owner), numbered(&owner, 7))
            }
            Self::PublicKey => public_key(),
            Self::Smart => {
                let key = fresh_key();
                (key.clone(), smart(&key).encode())
            }
        }
    }

    /// Two good records of one new owner, the newer one first.
    pub fn newer_and_older(self) -> (RecordKey, [Vec<u8>; 2]) {
        match self {
            Self::Name => {
                let owner = Keypair::generate_ed25519();
                (name_key(&owner), [8, 7].map(|sequence| numbered(&owner, sequence)))
            }
            Self::PublicKey => unreachable!("there is one record of a public key"),
            Self::Smart => {
                let (key, now) = (fresh_key(), SystemClock.now());
                let mut signer = signer(&key, Limits::default());
                let [older, newer] = [1, 2].map(|n| {
                    signer.replace([("n", n)].into_iter().collect(), now, HOUR).unwrap();
                    signer.record(now).encode()
                });
                (key, [newer, older])
            }
        }
    }
}

/// A new writer under a key.
fn signer(key: &RecordKey, limits: Limits) -> SpaceSigner {
    SpaceSigner::new(key.clone(), Keypair::generate_ed25519(), limits)
}

/// What is bad about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Forged,
    Expired,
    Oversized,
}

impl Bad {
    /// A bad record of this kind, in words.
    pub fn of(self, kind: Kind) -> String {
        let bad = match (self, kind) {
            (Self::Forged, Kind::Smart) => "a damaged",
            (Self::Forged, _) => "a forged",
            (Self::Expired, _) => "an expired",
            (Self::Oversized, _) => "an oversized",
        };
        format!("{bad} {}", kind.namespace())
    }

    /// A bad record of a new owner.
    pub fn record(self, kind: Kind) -> (RecordKey, Vec<u8>) {
        match kind {
            Kind::Name => self.name(),
            // That of another peer.
            Kind::PublicKey if self == Self::Forged => (public_key().0, public_key().1),
            Kind::PublicKey => unreachable!("it has neither a lifetime nor a choice of sizes"),
            Kind::Smart => self.smart(),
        }
    }

    fn smart(self) -> (RecordKey, Vec<u8>) {
        let (key, now) = (fresh_key(), SystemClock.now());
        let value = match self {
            Self::Forged => {
                let mut value = smart(&key).encode();
                *value.last_mut().unwrap() ^= 1;
                value
            }
            Self::Expired => {
                // Nor is it retained any longer because it may hide something.
                let then = now.saturating_sub(100 * HOUR);
                let mut signer = signer(&key, Limits::default());
                signer.merge([("n", 1)].into_iter().collect(), then, HOUR).unwrap();
                signer.record(then).encode()
            }
            Self::Oversized => {
                let limits = Limits::default().with_update_bytes(8 * 1_024);
                let mut signer = signer(&key, limits);
                let text = "x".repeat(6 * 1_024);
                signer.merge([("text", text)].into_iter().collect(), now, HOUR).unwrap();
                signer.record(now).encode()
            }
        };
        (key, value)
    }

    fn name(self) -> (RecordKey, Vec<u8>) {
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
